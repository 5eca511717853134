//! What a copy of a session consists of: a manifest in the portable store, which names parts that are there already.
//!
//! A manifest is a message with its SHA-256 in front. Nothing that it says is believed before the digest fits, and of its
//! sizes nothing before they are within bounds.

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use object_store::path::{Path, PathPart};
use prost::Message;

use super::super::entry::Opened;
use crate::{ids, session::registry::SessionId};

/// Longest part, in bytes: what is in memory at a time for each session that is being copied, and half of what S3 advises.
pub(super) const PART_BYTES: u64 = 8 << 20;

/// Longest manifest: parts of a terabyte.
pub(super) const MAX_MANIFEST: u64 = 16 << 20;

/// Length of a SHA-256.
const DIGEST: usize = 32;

/// What follows the number of a manifest and the name of a part.
const MANIFEST: &str = ".manifest";
const PART: &str = ".part";

/// A copy of a session's log.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Manifest {
    /// How many manifests of this session there were, this one included.
    #[prost(uint64, tag = "1")]
    pub(super) generation: u64,
    /// Whose session it is and who may go on with it, as its log says.
    #[prost(message, required, tag = "2")]
    pub(super) opened: Opened,
    /// The session store of the server that has the session.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) owner: Vec<u8>,
    /// The run of that server.
    #[prost(bytes = "vec", tag = "4")]
    pub(super) run: Vec<u8>,
    /// The epoch of that store.
    #[prost(uint64, tag = "5")]
    pub(super) epoch: u64,
    /// The last command that is in the copy.
    #[prost(uint64, tag = "6")]
    pub(super) sequence: u64,
    /// The log, in parts. All but the last are of full length.
    #[prost(message, repeated, tag = "7")]
    pub(super) parts: Vec<Part>,
    /// The session has ended, and what is left of it may be removed.
    #[prost(bool, tag = "8")]
    pub(super) ended: bool,
}

/// A part of a log.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Part {
    /// The manifest that it was written for. Later ones name it too if the log still begins the same.
    #[prost(uint64, tag = "1")]
    pub(super) generation: u64,
    /// Its length in bytes.
    #[prost(uint64, tag = "2")]
    pub(super) length: u64,
    /// Its SHA-256.
    #[prost(bytes = "vec", tag = "3")]
    pub(super) digest: Vec<u8>,
}

/// What an object in a session's folder is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    /// A manifest.
    Manifest { generation: u64 },
    /// A part that was written for a manifest.
    Part { generation: u64 },
}

impl Manifest {
    /// The bytes that are stored.
    pub(super) fn encode_signed(&self) -> Bytes {
        let message = self.encode_to_vec();
        let mut bytes = Vec::with_capacity(DIGEST + message.len());
        bytes.extend(sha256(&message));
        bytes.extend(message);
        bytes.into()
    }

    /// Reads what is stored under the name of this generation; `None` if it is not as it was written.
    pub(super) fn decode_signed(bytes: &[u8], id: SessionId, generation: u64) -> Option<Self> {
        let (signature, message) = bytes.split_first_chunk::<DIGEST>()?;
        if sha256(message) != *signature {
            return None;
        }
        let manifest = Self::decode(message).ok()?;
        let fits = manifest.generation == generation
            && manifest.opened.session == id.bytes()
            && manifest.parts.iter().all(|part| part.fits(generation));
        (fits && manifest.length().is_some()).then_some(manifest)
    }

    /// Bytes of the log.
    pub(super) fn length(&self) -> Option<u64> {
        self.parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(part.length))
    }
}

impl Part {
    /// A part that is written for a manifest.
    pub(super) fn of(bytes: &[u8], generation: u64) -> Self {
        Self { generation, length: bytes.len() as u64, digest: sha256(bytes).to_vec() }
    }

    /// Whether these are its bytes.
    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.length && sha256(bytes)[..] == self.digest
    }

    /// Whether they are the same bytes.
    pub(super) fn equals(&self, other: &Self) -> bool {
        self.length == other.length && self.digest == other.digest
    }

    fn fits(&self, generation: u64) -> bool {
        (1..=PART_BYTES).contains(&self.length)
            && self.digest.len() == DIGEST
            && self.generation <= generation
    }

    /// Where it is. What it holds is a part of the name, so that no two parts have one name, whoever writes them.
    pub(super) fn path(&self, folder: &Path) -> Path {
        let name = format!("{:016x}-{}{PART}", self.generation, ids::hex(&self.digest));
        folder.clone().join(name)
    }
}

impl Object {
    /// Where a manifest is. The names of newer ones sort behind those of older ones.
    pub(super) fn manifest(folder: &Path, generation: u64) -> Path {
        folder.clone().join(PathPart::from(format!("{generation:016x}{MANIFEST}")))
    }

    /// What is at a place in a session's folder; `None` if it is not ours.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let name = path.filename()?;
        let number = |text: &str| ids::from_hex::<8>(text).map(u64::from_be_bytes);
        if let Some(name) = name.strip_suffix(MANIFEST) {
            return Some(Self::Manifest { generation: number(name)? });
        }
        let (generation, _) = name.strip_suffix(PART)?.split_once('-')?;
        Some(Self::Part { generation: number(generation)? })
    }

    /// The number of a manifest; a part has none, and comes before all.
    pub(super) fn manifest_generation(self) -> Option<u64> {
        match self {
            Self::Manifest { generation } => Some(generation),
            Self::Part { .. } => None,
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; DIGEST] {
    let mut sum = [0; DIGEST];
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}
