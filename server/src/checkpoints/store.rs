//! Where checkpoints are, whom they belong to and how much room they have.
//!
//! A checkpoint is one object, `PRINCIPAL/NAME.safetensors`, below the URL of the store. It is written in one piece: it appears
//! complete or not at all, and what was there before stays until then. Writes of one principal follow each other, so that its
//! limits hold; that is within one server, and servers that share a store may together exceed them.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::SystemTime,
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use gradtape_engine::ledger::Ledger;
use object_store::{
    Error as ObjectError, GetResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload,
    path::Path,
};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use super::file::{Encoded, Header, PREFIX};
use crate::{
    config, ids,
    objects::{self, OpenError},
    principal::Principal,
    session::error::ProtocolError,
};

/// What follows a name.
const SUFFIX: &str = ".safetensors";

/// Longest name: with the suffix it fits in a file name everywhere.
const MAX_NAME: usize = 128;

/// Of the folder, if it is made: checkpoints are for other programs too, as far as the process's mask lets them.
const FOLDER_MODE: u32 = 0o777;

/// Principals share so many locks for writing, instead of having one each for ever.
const WRITERS: usize = 64;

/// The store.
#[derive(Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    root: Path,
    config: config::Checkpoints,
    writers: Arc<[Mutex<()>]>,
    hasher: RandomState,
    saves: Semaphore,
    uploads: Semaphore,
}

/// A name that a checkpoint may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

/// A checkpoint, from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Size of the file.
    pub bytes: u64,
    /// When it was written.
    pub time: SystemTime,
}

/// A file that is being read from its beginning. It stays the same even if the checkpoint is replaced meanwhile.
pub struct Source {
    /// What is read.
    pub stored: Stored,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    /// What was read and not taken.
    rest: Bytes,
}

// === impl Name ===

impl Name {
    /// Takes a name that is a file name everywhere and never a path.
    pub fn parse(text: &str) -> Result<Self, ProtocolError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.len() <= MAX_NAME && text.bytes().all(fits) {
            return Ok(Self(text.to_owned()));
        }
        let why = format!(
            "must have 1 to {MAX_NAME} letters, digits, '.', '_' and '-', a letter or digit first"
        );
        Err(ProtocolError::malformed("name", why))
    }
}

// === impl Store ===

impl Store {
    /// Opens the store that a configuration names, if it names one.
    pub fn open(config: &config::Checkpoints) -> Result<Option<Self>, OpenError> {
        let Some(place) = &config.store else { return Ok(None) };
        let (objects, root) = objects::open(place, FOLDER_MODE)?;
        Ok(Some(Self {
            objects,
            root,
            writers: (0..WRITERS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            saves: Semaphore::new(config.max_concurrent_saves),
            uploads: Semaphore::new(config.max_concurrent_uploads),
            config: config.clone(),
        }))
    }

    /// The limits that hold.
    pub fn config(&self) -> &config::Checkpoints {
        &self.config
    }

    /// Waits for the turn to save.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, ProtocolError> {
        self.saves.acquire().await.map_err(|_| ProtocolError::Draining)
    }

    /// Begins an upload, if there are not too many.
    pub fn upload(&self) -> Result<SemaphorePermit<'_>, ProtocolError> {
        let limit = self.config.max_concurrent_uploads;
        self.uploads.try_acquire().map_err(|_| ProtocolError::TooManyCheckpointUploads { limit })
    }

    /// Whether a checkpoint of this size may be.
    pub fn check_size(&self, bytes: u64) -> Result<(), ProtocolError> {
        let limit = self.config.max_checkpoint_bytes;
        if bytes > limit {
            return Err(ProtocolError::CheckpointTooLarge { bytes, limit });
        }
        Ok(())
    }

    /// Writes a checkpoint. Once begun it is finished, even if the caller no longer waits.
    pub async fn put(
        self: &Arc<Self>,
        owner: &Principal,
        name: &Name,
        file: Encoded,
        overwrite: bool,
    ) -> Result<Stored, ProtocolError> {
        let (store, owner, name) = (Arc::clone(self), owner.clone(), name.clone());
        let write = tokio::spawn(async move { store.write(&owner, &name, file, overwrite).await });
        write.await.unwrap_or_else(|error| Err(failed("write", &error)))
    }

    async fn write(
        &self,
        owner: &Principal,
        name: &Name,
        file: Encoded,
        overwrite: bool,
    ) -> Result<Stored, ProtocolError> {
        let bytes = file.bytes();
        self.check_size(bytes)?;
        let writer = self.hasher.hash_one(owner) % WRITERS as u64;
        let _writing = self.writers[usize::try_from(writer).unwrap_or(0)].lock().await;
        let others = self.list(owner).await?;
        let others = others.iter().filter(|stored| stored.name != name.0);
        let (count, used) =
            others.fold((0, 0_u64), |(n, sum), stored| (n + 1, sum.saturating_add(stored.bytes)));
        if count >= self.config.max_checkpoints {
            return Err(ProtocolError::TooManyCheckpoints { limit: self.config.max_checkpoints });
        }
        let limit = self.config.max_principal_bytes;
        if used.saturating_add(bytes) > limit {
            return Err(ProtocolError::CheckpointSpace { bytes, limit });
        }
        let mode = if overwrite { PutMode::Overwrite } else { PutMode::Create };
        let payload: PutPayload = file.parts.into_iter().collect();
        match self.objects.put_opts(&self.path(owner, name), payload, mode.into()).await {
            Ok(_) => {}
            Err(ObjectError::AlreadyExists { .. }) => {
                return Err(ProtocolError::CheckpointExists { name: name.0.clone() });
            }
            Err(error) => return Err(failed("write", &error)),
        }
        self.find(owner, name).await
    }

    /// All checkpoints of somebody, by name.
    pub async fn list(&self, owner: &Principal) -> Result<Vec<Stored>, ProtocolError> {
        let folder = self.folder(owner);
        let mut stored: Vec<Stored> = self
            .objects
            .list(Some(&folder))
            // What lies deeper, or has another name, is not ours.
            .try_filter_map(|meta| {
                let ours = meta.location.prefix_matches(&folder)
                    && meta.location.parts_count() == folder.parts_count() + 1;
                std::future::ready(Ok(ours.then(|| named(&meta)).flatten()))
            })
            .try_collect()
            .await
            .map_err(|error| failed("list", &error))?;
        stored.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(stored)
    }

    /// A checkpoint, from outside.
    pub async fn find(&self, owner: &Principal, name: &Name) -> Result<Stored, ProtocolError> {
        let meta = self.objects.head(&self.path(owner, name)).await;
        meta.map(|meta| stored(name, &meta)).map_err(|error| missing_or_failed(name, &error))
    }

    /// Deletes a checkpoint.
    pub async fn delete(&self, owner: &Principal, name: &Name) -> Result<(), ProtocolError> {
        // Some stores delete what is not there without a word.
        self.find(owner, name).await?;
        let deleted = self.objects.delete(&self.path(owner, name)).await;
        deleted.map_err(|error| missing_or_failed(name, &error))
    }

    /// Begins to read a checkpoint's file.
    pub async fn read(&self, owner: &Principal, name: &Name) -> Result<Source, ProtocolError> {
        let got = self.objects.get(&self.path(owner, name)).await;
        let got: GetResult = got.map_err(|error| missing_or_failed(name, &error))?;
        Ok(Source {
            stored: stored(name, &got.meta),
            stream: got.into_stream(),
            rest: Bytes::new(),
        })
    }

    fn folder(&self, owner: &Principal) -> Path {
        // A part of a path encodes what could lead elsewhere.
        self.root.clone().join(owner.to_string())
    }

    fn path(&self, owner: &Principal, name: &Name) -> Path {
        self.folder(owner).join(format!("{}{SUFFIX}", name.0))
    }
}

// === impl Source ===

impl Source {
    /// Reads and checks the header.
    pub async fn header(&mut self) -> Result<Header, ProtocolError> {
        let mut bytes = BytesMut::new();
        self.fill(&mut bytes, PREFIX).await?;
        let mut length = PREFIX;
        if let Some(prefix) = bytes.first_chunk() {
            length = self.stored.as_written(Header::length(*prefix))?;
            self.fill(&mut bytes, length).await?;
        }
        let header = self.stored.as_written(Header::read(&bytes, self.stored.bytes))?;
        self.rest = bytes.split_off(length.min(bytes.len())).freeze();
        Ok(header)
    }

    /// The next bytes.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ProtocolError> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        self.stream.try_next().await.map_err(|error| failed("read", &error))
    }

    /// What is left, in parts of `size` bytes.
    pub fn parts(self, size: usize) -> impl Stream<Item = Result<Bytes, ProtocolError>> + Send {
        futures::stream::try_unfold(
            (self, BytesMut::new()),
            move |(mut source, mut part)| async move {
                source.fill(&mut part, size).await?;
                if part.is_empty() {
                    return Ok(None);
                }
                let rest = part.split_off(size.min(part.len()));
                Ok(Some((part.freeze(), (source, rest))))
            },
        )
        .boxed()
    }

    /// Reads until there are so many bytes, or no more.
    async fn fill(&mut self, bytes: &mut BytesMut, size: usize) -> Result<(), ProtocolError> {
        while bytes.len() < size {
            match self.next().await? {
                Some(more) => bytes.extend_from_slice(&more),
                None => break,
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("stored", &self.stored).finish_non_exhaustive()
    }
}

// === impl Stored ===

impl Stored {
    /// Only valid files are stored: one that is invalid has changed since.
    pub fn as_written<T>(&self, result: Result<T, ProtocolError>) -> Result<T, ProtocolError> {
        result.map_err(|error| {
            if let ProtocolError::InvalidCheckpoint { why } = error {
                return ProtocolError::CheckpointCorrupted { name: self.name.clone(), why };
            }
            error
        })
    }
}

fn stored(name: &Name, meta: &ObjectMeta) -> Stored {
    Stored { name: name.0.clone(), bytes: meta.size, time: meta.last_modified.into() }
}

fn named(meta: &ObjectMeta) -> Option<Stored> {
    let name = Name::parse(meta.location.filename()?.strip_suffix(SUFFIX)?).ok()?;
    Some(stored(&name, meta))
}

fn missing_or_failed(name: &Name, error: &ObjectError) -> ProtocolError {
    if let ObjectError::NotFound { .. } = error {
        return ProtocolError::UnknownCheckpoint { name: name.0.clone() };
    }
    failed("read", error)
}

/// The caller learns an incident, the log what happened: errors of stores show paths and addresses.
fn failed(what: &str, error: &dyn std::error::Error) -> ProtocolError {
    let incident = ids::incident();
    tracing::error!(incident, what, %error, "store of checkpoints failed");
    ProtocolError::StoreFailed { incident }
}

/// Memory for a file that is being uploaded, of exactly the size that was announced.
#[derive(Debug)]
pub struct Incoming {
    bytes: Vec<u8>,
    size: u64,
    charge: gradtape_engine::ledger::Charge,
}

// === impl Incoming ===

impl Incoming {
    /// Reserves and allocates.
    pub fn new(ledger: &Arc<Ledger>, size: u64) -> Result<Self, ProtocolError> {
        let charge = ledger.reserve(size)?;
        let mut bytes = Vec::new();
        usize::try_from(size)
            .ok()
            .and_then(|size| bytes.try_reserve_exact(size).ok())
            .ok_or(gradtape_engine::error::Error::OutOfMemory { bytes: size })?;
        Ok(Self { bytes, size, charge })
    }

    /// Appends a chunk, unless there would be more than was announced.
    pub fn append(&mut self, chunk: &[u8]) -> Result<(), ProtocolError> {
        let given = (self.bytes.len() as u64).saturating_add(chunk.len() as u64);
        self.check(given <= self.size, given)?;
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// The file. Its reservation ends with the last reference to it.
    pub fn finish(self) -> Result<Bytes, ProtocolError> {
        struct Owner(
            Vec<u8>,
            #[expect(dead_code, reason = "held")] gradtape_engine::ledger::Charge,
        );
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let given = self.bytes.len() as u64;
        self.check(given == self.size, given)?;
        Ok(Bytes::from_owner(Owner(self.bytes, self.charge)))
    }

    fn check(&self, fits: bool, given: u64) -> Result<(), ProtocolError> {
        if fits {
            return Ok(());
        }
        let why = format!("{given} bytes came, and the header announced {}", self.size);
        Err(ProtocolError::InvalidCheckpoint { why })
    }
}
