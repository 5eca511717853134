//! The token file: who may come in with which token, until when.
//!
//! A token is 256 random bits, so a fast digest protects it as well as a slow one, and only its digest is kept. The file
//! is replaced as a whole and never changed in place: a reader sees the old or the new one. Tokens are shown once, when
//! they are made.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::{
    ids,
    principal::{Principal, Role},
};

/// What every token starts with, so that people and scanners of leaked secrets recognise one.
const PREFIX: &str = "gt_";

/// Version of the file's format.
const VERSION: u32 = 1;

/// Longest name or class, in bytes.
const MAX_NAME: usize = 64;

/// A digest of a token.
type Digest = [u8; 32];

/// The first bytes of a digest: finds a record without comparing secrets.
type Id = [u8; 8];

/// What the file says about a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Names the token in `list` and `revoke`: the first 16 digits of its digest.
    pub id: String,
    /// Whose it is. Several tokens may have one name: they are the same principal.
    pub name: String,
    /// What its owner may do.
    pub role: Role,
    /// The class that a user is in or a teacher teaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it ends, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// SHA-256 of the token, in hexadecimal digits.
    pub sha256: String,
}

/// Whom a new token is for.
#[derive(Clone, Debug)]
pub struct Holder {
    /// Their name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Their class.
    pub class: Option<String>,
    /// How long the token lasts; forever if nothing is said.
    pub lifetime: Option<Duration>,
}

/// Why a token file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read or written.
    #[error("cannot {0} token file {1}")]
    Io(&'static str, PathBuf, #[source] io::Error),
    /// The file is not one of ours.
    #[error("token file {0} is malformed")]
    Malformed(PathBuf, #[source] serde_json::Error),
    /// The file is of another version.
    #[error("token file {0} has version {1}; this program reads {VERSION}")]
    Version(PathBuf, u32),
    /// A record cannot be one.
    #[error("token file {0}: record {1} is malformed")]
    Record(PathBuf, String),
    /// A name or class would not be readable in logs.
    #[error("{0:?} is no name: letters, digits and . _ @ - are, at most {MAX_NAME} of them")]
    Name(String),
    /// No record has this id or name.
    #[error("there is no token with the id or name {0:?}")]
    Unknown(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    tokens: Vec<Record>,
}

// === The file ===

/// What a token file holds. A file that does not exist holds nothing.
pub fn read(path: &Path) -> Result<Vec<Record>, Error> {
    match fs::read(path) {
        Ok(bytes) => parse(path, &bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::Io("read", path.to_owned(), error)),
    }
}

/// Adds a token and returns it, the only time that it can be seen.
pub fn create(path: &Path, holder: Holder) -> Result<(Record, String), Error> {
    check_name(&holder.name)?;
    holder.class.as_deref().map_or(Ok(()), check_name)?;
    let token = format!("{PREFIX}{}", ids::hex(&ids::random::<32>()));
    let digest = digest_of(&token);
    let now = unix_now();
    let record = Record {
        id: ids::hex(&id_of(&digest)),
        name: holder.name,
        role: holder.role,
        class: holder.class,
        created: now,
        expires: holder.lifetime.map(|lifetime| now.saturating_add(lifetime.as_secs())),
        sha256: ids::hex(&digest),
    };
    change(path, |records| {
        records.push(record.clone());
        Ok(())
    })?;
    Ok((record, token))
}

/// Removes the token with an id, or all tokens of a name; returns what was removed.
pub fn revoke(path: &Path, which: &str) -> Result<Vec<Record>, Error> {
    change(path, |records| {
        let removed: Vec<_> =
            records.extract_if(.., |record| record.id == which || record.name == which).collect();
        if removed.is_empty() { Err(Error::Unknown(which.to_owned())) } else { Ok(removed) }
    })
}

/// Reads, changes and replaces a file, while nobody else does.
fn change<T>(
    path: &Path,
    edit: impl FnOnce(&mut Vec<Record>) -> Result<T, Error>,
) -> Result<T, Error> {
    let failed = |what| move |error| Error::Io(what, path.to_owned(), error);
    // A file of its own, since the token file itself is replaced.
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock = File::create(&lock_path).map_err(failed("lock"))?;
    lock.lock().map_err(failed("lock"))?;
    let mut records = read(path)?;
    let result = edit(&mut records)?;
    let contents = Contents { version: VERSION, tokens: records };
    let text = serde_json::to_vec_pretty(&contents)
        .map_err(|error| Error::Malformed(path.to_owned(), error))?;
    replace(path, &text).map_err(failed("write"))?;
    Ok(result)
}

/// Replaces a file's contents at once. Only its owner may read the new one.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // tempfile gives it mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename is on disk when the folder is.
    File::open(folder)?.sync_all()
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Record>, Error> {
    let contents: Contents =
        serde_json::from_slice(bytes).map_err(|error| Error::Malformed(path.to_owned(), error))?;
    if contents.version != VERSION {
        return Err(Error::Version(path.to_owned(), contents.version));
    }
    for record in &contents.tokens {
        let digest = ids::from_hex::<32>(&record.sha256);
        let known = digest.is_some_and(|digest| ids::hex(&id_of(&digest)) == record.id);
        let named = record.class.iter().chain([&record.name]).all(|name| check_name(name).is_ok());
        if !known || !named {
            return Err(Error::Record(path.to_owned(), record.id.clone()));
        }
    }
    Ok(contents.tokens)
}

/// Names go into logs and messages, so they are plain.
fn check_name(name: &str) -> Result<(), Error> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(plain) {
        return Err(Error::Name(name.to_owned()));
    }
    Ok(())
}

fn digest_of(token: &str) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

fn id_of(digest: &Digest) -> Id {
    let mut id = Id::default();
    id.copy_from_slice(&digest[..size_of::<Id>()]);
    id
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

// === The tokens of a running server ===

/// The tokens that a server takes. They follow the file.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The file as it was read.
    bytes: Vec<u8>,
    tokens: HashMap<Id, Entry>,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    digest: Digest,
    principal: Principal,
}

impl Tokens {
    /// Reads a file, which must exist: a wrong path would lock everybody out without a word.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let tokens = Self { path: path.to_owned(), known: RwLock::default() };
        tokens.reload()?;
        Ok(tokens)
    }

    /// Reads the file again. Tokens that are no longer in it are revoked, also where streams are open. If the file cannot
    /// be read, everything stays as it was. Returns whether anything changed.
    pub fn reload(&self) -> Result<bool, Error> {
        let failed = |error| Error::Io("read", self.path.clone(), error);
        let bytes = fs::read(&self.path).map_err(failed)?;
        // Compared by content: times of files are coarse, and mounted secrets keep theirs.
        if bytes == self.known.read().unwrap_or_else(PoisonError::into_inner).bytes {
            return Ok(false);
        }
        let records = parse(&self.path, &bytes)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut known.tokens);
        for record in records {
            let Some(digest) = ids::from_hex(&record.sha256) else { continue };
            let id = id_of(&digest);
            let entry = match before.remove(&id) {
                Some(entry) if entry.record == record => entry,
                Some(entry) => {
                    entry.principal.revoke();
                    Entry::new(record, digest)
                }
                None => Entry::new(record, digest),
            };
            known.tokens.insert(id, entry);
        }
        known.bytes = bytes;
        drop(known);
        for entry in before.into_values() {
            entry.principal.revoke();
        }
        Ok(true)
    }

    /// Who has a token. `None` for one that is unknown or over; which of the two is not said.
    pub fn find(&self, token: &str) -> Option<Principal> {
        let digest = digest_of(token);
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let entry = known.tokens.get(&id_of(&digest))?;
        let same: bool = entry.digest.ct_eq(&digest).into();
        (same && entry.principal.is_valid()).then(|| entry.principal.clone())
    }

    /// Whether a text looks like one of our tokens.
    pub fn looks_like(text: &str) -> bool {
        text.starts_with(PREFIX)
    }
}

impl Entry {
    fn new(record: Record, digest: Digest) -> Self {
        let expires = record.expires.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        let name = format!("token:{}", record.name);
        let principal = Principal::new(name, record.role, record.class.clone(), expires);
        Self { record, digest, principal }
    }
}

#[cfg(test)]
mod tests;
