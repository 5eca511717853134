//! Where logs are: one a session, appended to and read from the beginning.
//!
//! [`Folder`] keeps each in a file. A log to itself means that damage to one is damage to one session, that ending a session
//! is removing a file, and that a log is shortened by putting another in its place.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;

use crate::{ids, session::registry::SessionId};

/// Files that a commit has open at one time: connections need descriptors too.
const OPEN_AT_ONCE: usize = 64;

/// What follows the id in the name of a log, and of the note beside it.
const LOG: &str = "log";
const NEW: &str = "new";
const NOTE: &str = "note";

/// Holds the lock, the number of times that the folder was opened, and its identity.
const EPOCH: &str = "epoch";

/// Bytes for the end of a log.
#[derive(Clone, Debug)]
pub struct Write {
    /// Whose log.
    pub id: SessionId,
    /// Its length so far: a log that is of another length was written to by somebody else.
    pub at: u64,
    /// What to append.
    pub parts: Vec<Bytes>,
}

/// Why a commit failed.
#[derive(Debug)]
pub enum Fault {
    /// There is no room. Nothing of the commit counts; it may be tried again.
    Full(io::Error),
    /// Nobody knows what is on the disk: only reading it anew tells.
    Broken(io::Error),
}

/// Keeps logs. One server at a time owns a store.
pub trait Store: fmt::Debug + Send + Sync {
    /// How often the store was opened, this time included, or more: a record of an older owner is told by it.
    fn epoch(&self) -> u64;

    /// Lets the epoch be above another, which logs from elsewhere have.
    fn advance(&self, above: u64) -> io::Result<()>;

    /// A random number that only this store has, for as long as it exists.
    fn identity(&self) -> [u8; 16];

    /// Whose logs are there.
    fn list(&self) -> io::Result<Vec<SessionId>>;

    /// Appends to several logs and waits until all of it is on stable storage: all, or nothing that counts.
    fn commit(&self, writes: &[Write]) -> Result<(), Fault>;

    /// Puts other bytes in the place of a log, in one step: whenever the process or the machine stops, either the old log is
    /// there or the new one, whole.
    fn replace(&self, id: SessionId, parts: &[Bytes]) -> Result<(), Fault>;

    /// Reads a log from its beginning; its length is told too.
    fn read(&self, id: SessionId) -> io::Result<(Box<dyn Read + Send>, u64)>;

    /// Cuts a log off.
    fn truncate(&self, id: SessionId, length: u64) -> io::Result<()>;

    /// Removes a log and its note. Removing what is not there is no error.
    fn remove(&self, id: SessionId) -> io::Result<()>;

    /// The note beside a log. It survives the death of the process; it need not survive that of the machine.
    fn note(&self, id: SessionId) -> io::Result<Option<Vec<u8>>>;

    /// Changes the note, or removes it. Notes of a log have one length.
    fn set_note(&self, id: SessionId, note: Option<&[u8]>) -> io::Result<()>;
}

/// A store in a folder of the local file system, which must not be shared with other machines.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    epoch: AtomicU64,
    identity: [u8; 16],
    /// Its lock is held for as long as this is there.
    lock: File,
}

// === impl Folder ===

impl Folder {
    /// Opens a folder, which is made if need be, and takes its lock.
    pub fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let lock = options().read(true).write(true).create(true).open(path.join(EPOCH))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => {
                io::Error::new(ErrorKind::WouldBlock, "another server has it open")
            }
            fs::TryLockError::Error(error) => error,
        })?;
        // The lock is on the file and not on its name, so the numbers are written where they stand: 24 bytes, in one sector.
        let mut bytes = Vec::new();
        (&lock).read_to_end(&mut bytes)?;
        let epoch = bytes.first_chunk().map_or(0, |epoch| u64::from_le_bytes(*epoch)) + 1;
        let identity = bytes.get(8..).and_then(<[u8]>::first_chunk);
        let identity = identity.copied().unwrap_or_else(ids::random);
        let folder = Self { path: path.to_owned(), epoch: epoch.into(), identity, lock };
        folder.write_numbers(epoch)?;
        File::open(path)?.sync_all()?;
        folder.sweep()?;
        Ok(folder)
    }

    fn write_numbers(&self, epoch: u64) -> io::Result<()> {
        let bytes = [&epoch.to_le_bytes()[..], &self.identity].concat();
        std::os::unix::fs::FileExt::write_all_at(&self.lock, &bytes, 0)?;
        failpoint!(EpochBump);
        self.lock.sync_all()
    }

    /// Removes what was to take the place of a log and did not get there.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.extension().is_some_and(|suffix| suffix == NEW) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn file(&self, id: SessionId, suffix: &str) -> PathBuf {
        self.path.join(format!("{id}.{suffix}"))
    }

    /// Appends to a few logs and syncs them.
    fn commit_some(&self, writes: &[Write]) -> Result<(), Fault> {
        let mut written = Vec::with_capacity(writes.len());
        for write in writes {
            let file = options().append(true).create(true).open(self.file(write.id, LOG));
            let mut file = file.map_err(fault)?;
            let length = file.metadata().map_err(Fault::Broken)?.len();
            if length != write.at {
                let why = format!("log {} has {length} bytes instead of {}", write.id, write.at);
                return Err(Fault::Broken(io::Error::other(why)));
            }
            let appended = write.parts.iter().try_for_each(|part| {
                failpoint!(WalAppend, Err(ErrorKind::StorageFull.into()));
                file.write_all(part)
            });
            written.push((file, write.at));
            if let Err(error) = appended {
                for (file, length) in &written {
                    file.set_len(*length).map_err(Fault::Broken)?;
                }
                return Err(fault(error));
            }
        }
        failpoint!(WalBeforeSync, Err(Fault::Broken(io::Error::other("fsync"))));
        for (file, _) in &written {
            file.sync_data().map_err(Fault::Broken)?;
        }
        if written.iter().any(|(_, length)| *length == 0) {
            // New names have to be durable as well.
            File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(Fault::Broken)?;
        }
        failpoint!(WalAfterSync);
        Ok(())
    }
}

impl Store for Folder {
    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    fn advance(&self, above: u64) -> io::Result<()> {
        let epoch = above.saturating_add(1);
        if self.epoch.fetch_max(epoch, Ordering::Relaxed) < epoch {
            self.write_numbers(self.epoch())?;
        }
        Ok(())
    }

    fn identity(&self) -> [u8; 16] {
        self.identity
    }

    fn list(&self) -> io::Result<Vec<SessionId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if path.extension().is_some_and(|suffix| suffix == LOG) {
                ids.extend(stem.and_then(|stem| SessionId::parse(stem).ok()));
            }
        }
        Ok(ids)
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Fault> {
        let mut done = 0;
        for some in writes.chunks(OPEN_AT_ONCE) {
            if let Err(fault) = self.commit_some(some) {
                // All or nothing: what went well before goes again.
                for write in &writes[..done] {
                    self.truncate(write.id, write.at).map_err(Fault::Broken)?;
                }
                return Err(fault);
            }
            done += some.len();
        }
        Ok(())
    }

    fn replace(&self, id: SessionId, parts: &[Bytes]) -> Result<(), Fault> {
        let path = self.file(id, NEW);
        let write = || {
            let mut file = options().write(true).create(true).truncate(true).open(&path)?;
            parts.iter().try_for_each(|part| {
                failpoint!(SnapshotPart, Err(ErrorKind::StorageFull.into()));
                file.write_all(part)
            })?;
            Ok(file)
        };
        let file = match write() {
            Ok(file) => file,
            Err(error) => {
                fs::remove_file(&path).map_err(Fault::Broken)?;
                return Err(fault(error));
            }
        };
        file.sync_all().map_err(Fault::Broken)?;
        failpoint!(SnapshotBeforeManifest);
        fs::rename(&path, self.file(id, LOG)).map_err(Fault::Broken)?;
        failpoint!(SnapshotAfterManifest);
        File::open(&self.path).and_then(|folder| folder.sync_all()).map_err(Fault::Broken)
    }

    fn read(&self, id: SessionId) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let file = File::open(self.file(id, LOG))?;
        let length = file.metadata()?.len();
        Ok((Box::new(io::BufReader::with_capacity(64 << 10, file)), length))
    }

    fn truncate(&self, id: SessionId, length: u64) -> io::Result<()> {
        let file = options().write(true).open(self.file(id, LOG))?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn remove(&self, id: SessionId) -> io::Result<()> {
        for suffix in [LOG, NEW, NOTE] {
            match fs::remove_file(self.file(id, suffix)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn note(&self, id: SessionId) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.file(id, NOTE)) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn set_note(&self, id: SessionId, note: Option<&[u8]>) -> io::Result<()> {
        let path = self.file(id, NOTE);
        match note {
            // In place: file systems write a file to the disk that is cut off and filled again, and this comes for each record.
            Some(note) => {
                options().write(true).create(true).truncate(false).open(path)?.write_all(note)
            }
            None => match fs::remove_file(path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        }
    }
}

/// What sessions hold is nobody else's to read.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn fault(error: io::Error) -> Fault {
    #[expect(clippy::wildcard_enum_match_arm, reason = "whatever else happened is no lack of room")]
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Fault::Full(error),
        _ => Fault::Broken(error),
    }
}
