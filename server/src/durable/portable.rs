//! Copies of sessions in a store that survives the loss of the machine: a folder on another one, or a bucket.
//!
//! A copy is the session's log, as [`recovery`](super::recovery) reads it, cut into parts, and a `manifest` that names them.
//! Parts come first and are read back, and the manifest comes last; so a manifest names nothing that is not there.
//!
//! Manifests are numbered, and each is *created* under the next number, which only one of several servers can do. Whoever
//! created the newest has the session: a server that finds a number taken has lost the session to another, and stops serving it.
//! A number is free again only after all lower ones were, so a server that wakes up after a long time may still create one, but
//! finds that the one before is gone, and has lost it too. Nothing is ever written in the place of something else: parts are
//! named by what they hold, and by the manifest that they were written for.
//!
//! `copies` writes copies; `takeover` fetches one when the machine that had the session is lost.

pub(crate) mod copies;
mod manifest;
mod takeover;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{TryStreamExt, future};
use object_store::{Error as ObjectError, ObjectStore, ObjectStoreExt, PutMode, path::Path};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use self::manifest::{MAX_MANIFEST, Manifest, Object, Part};
use crate::{
    ids,
    objects::{self, OpenError},
    session::registry::SessionId,
};

/// Of a folder that is made for copies: what sessions hold is nobody else's to read.
const FOLDER_MODE: u32 = 0o700;

/// Copies that are written or fetched at a time. Each has up to two parts in memory, or a whole copy that is paid for.
const AT_ONCE: usize = 4;

/// How long the store may take for one object, attempts that the library repeats included: below the time for which a level is
/// waited for by default, so that who waits learns why.
const PATIENCE: Duration = Duration::from_secs(25);

/// Objects of a session that are looked at: those of a copy of half a terabyte.
const MOST_OBJECTS: usize = 1 << 16;

/// A portable store.
#[derive(Debug)]
pub struct Portable {
    objects: Arc<dyn ObjectStore>,
    root: Path,
    /// A number that only this run of the server has.
    run: [u8; 16],
    turns: Semaphore,
    /// Whether the store refuses to create what is there.
    refuses: OnceCell<()>,
}

/// Why a session was not copied or fetched.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The store refuses, or cannot be reached.
    #[error("cannot {0}")]
    Store(&'static str, #[source] ObjectError),
    /// The store does not answer.
    #[error("cannot {0} in time")]
    Late(&'static str),
    /// The store cannot be used by several servers.
    #[error(
        "the store creates an object that is there already, so servers could not be kept apart"
    )]
    Overwrites,
    /// What was written is not what is read.
    #[error("what the store gives back is not what was written")]
    Torn,
    /// What was there before is not as it was written.
    #[error("{0}")]
    Damaged(&'static str),
    /// Another server has the session.
    #[error("another server has the session")]
    Fenced,
    /// The log cannot be read.
    #[error("cannot read the session's log")]
    Log(#[source] std::io::Error),
    /// The session has ended, or the server stops.
    #[error("the session has ended")]
    Ended,
    /// There is too little memory.
    #[error("too little memory")]
    Memory,
}

impl Failure {
    /// Tells the log what happened, and gives what the client is told of it.
    pub(crate) fn incident(&self, id: SessionId) -> String {
        let incident = ids::incident();
        let why = std::error::Error::source(self).map(ToString::to_string);
        tracing::error!(session = %id, incident, failure = %self, why, "portable store failed");
        incident
    }
}

/// The newest manifest of a session.
#[derive(Debug)]
enum Newest {
    /// There is none.
    None,
    /// It is as it was written.
    Whole(Box<Manifest>),
    /// It is not.
    Torn { generation: u64 },
}

impl Portable {
    /// Opens the store at a URL or in a folder. It is not asked for anything yet.
    pub fn open(place: &str) -> Result<Arc<Self>, OpenError> {
        let (objects, root) = objects::open(place, FOLDER_MODE)?;
        Ok(Self::new(objects, root))
    }

    /// A store of objects, of which all below a path is for copies of sessions.
    pub(super) fn new(objects: Arc<dyn ObjectStore>, root: Path) -> Arc<Self> {
        let (turns, refuses) = (Semaphore::new(AT_ONCE), OnceCell::new());
        Arc::new(Self { objects, root, run: ids::random(), turns, refuses })
    }

    /// Waits for the turn to move a copy.
    pub(crate) async fn turn(&self) -> Result<SemaphorePermit<'_>, Failure> {
        self.turns.acquire().await.map_err(|_| Failure::Ended)
    }

    fn folder(&self, id: SessionId) -> Path {
        self.root.clone().join(id.to_string())
    }

    /// What is in a session's folder.
    async fn list(&self, id: SessionId) -> Result<Vec<(Object, Path)>, Failure> {
        let mut found = Vec::new();
        let folder = self.folder(id);
        let listed = self.objects.list(Some(&folder)).try_for_each(|meta| {
            if let Some(object) = Object::at(&meta.location)
                && found.len() <= MOST_OBJECTS
            {
                found.push((object, meta.location));
            }
            future::ready(Ok(()))
        });
        within("list the copies of the session", listed).await?;
        if found.len() > MOST_OBJECTS {
            return Err(Failure::Damaged("there are too many objects in the session's folder"));
        }
        Ok(found)
    }

    /// The numbers of a session's manifests, oldest first.
    async fn generations(&self, id: SessionId) -> Result<Vec<u64>, Failure> {
        let objects = self.list(id).await?;
        let mut generations: Vec<_> =
            objects.iter().filter_map(|(object, _)| object.manifest_generation()).collect();
        generations.sort_unstable();
        Ok(generations)
    }

    /// The newest manifest of a session.
    async fn newest(&self, id: SessionId) -> Result<Newest, Failure> {
        let Some(&generation) = self.generations(id).await?.last() else {
            return Ok(Newest::None);
        };
        let path = Object::manifest(&self.folder(id), generation);
        let bytes = self.get("read the newest copy", &path, MAX_MANIFEST).await?;
        let manifest = Manifest::decode_signed(&bytes, id, generation);
        Ok(manifest.map_or(Newest::Torn { generation }, |m| Newest::Whole(Box::new(m))))
    }

    /// Writes the next manifest of a session, unless another server has. Before it, `before` was the newest.
    async fn create(
        &self,
        id: SessionId,
        manifest: &Manifest,
        before: Option<u64>,
    ) -> Result<(), Failure> {
        self.check().await?;
        let bytes = manifest.encode_signed();
        let path = Object::manifest(&self.folder(id), manifest.generation);
        let put = self.objects.put_opts(&path, bytes.clone().into(), PutMode::Create.into());
        let created = match within("write the copy's manifest", put).await {
            Ok(_) => true,
            // It may be ours: the library asks again if an answer is lost.
            Err(Failure::Store(_, ObjectError::AlreadyExists { .. })) => false,
            Err(failure) => return Err(failure),
        };
        let read = self.get("read the copy's manifest", &path, MAX_MANIFEST).await?;
        if read != bytes {
            return Err(if created { Failure::Torn } else { Failure::Fenced });
        }
        let generations = self.generations(id).await?;
        let is_newer = generations.last() > Some(&manifest.generation);
        if is_newer || before.is_some_and(|before| !generations.contains(&before)) {
            // The number was free because another server has come and gone: nobody has a use for this.
            if let Err(failure) = self.withdraw(id, manifest).await {
                tracing::warn!(session = %id, %failure, "a copy that does not count stays");
            }
            return Err(Failure::Fenced);
        }
        let is_there = generations.last() == Some(&manifest.generation);
        if is_there { Ok(()) } else { Err(Failure::Torn) }
    }

    /// Fails if the store cannot be used by several servers.
    async fn check(&self) -> Result<(), Failure> {
        self.refuses.get_or_try_init(|| self.try_out()).await.copied()
    }

    /// Removes a manifest that does not count, and what was written for it.
    async fn withdraw(&self, id: SessionId, manifest: &Manifest) -> Result<(), Failure> {
        let folder = self.folder(id);
        self.delete(&Object::manifest(&folder, manifest.generation)).await?;
        for part in manifest.parts.iter().filter(|part| part.generation == manifest.generation) {
            self.delete(&part.path(&folder)).await?;
        }
        Ok(())
    }

    /// Finds out whether the store refuses to create what is there: all depends on that.
    async fn try_out(&self) -> Result<(), Failure> {
        let path = self.root.clone().join(format!("{}.try", ids::hex(&self.run)));
        let create =
            || self.objects.put_opts(&path, Bytes::from("try").into(), PutMode::Create.into());
        // It may be there, if it could not be removed or an answer was lost.
        match within("write", create()).await {
            Ok(_) | Err(Failure::Store(_, ObjectError::AlreadyExists { .. })) => {}
            Err(failure) => return Err(failure),
        }
        let again = within("write", create()).await;
        self.delete(&path).await?;
        match again {
            Err(Failure::Store(_, ObjectError::AlreadyExists { .. })) => Ok(()),
            Ok(_) => Err(Failure::Overwrites),
            Err(failure) => Err(failure),
        }
    }

    /// Writes a part and reads it back.
    async fn put_part(&self, id: SessionId, part: &Part, bytes: Bytes) -> Result<(), Failure> {
        let path = part.path(&self.folder(id));
        // Under this name there is nothing else: at most the same bytes, from an attempt that failed later.
        within("write a part of the copy", self.objects.put(&path, bytes.into())).await?;
        match self.get_part(id, part).await {
            Err(Failure::Damaged(_)) => Err(Failure::Torn),
            read => read.map(drop),
        }
    }

    /// Reads a part.
    async fn get_part(&self, id: SessionId, part: &Part) -> Result<Bytes, Failure> {
        let path = part.path(&self.folder(id));
        let bytes = self.get("read a part of the copy", &path, part.length).await?;
        if !part.is(&bytes) {
            return Err(Failure::Damaged("a part of the copy is not as it was written"));
        }
        Ok(bytes)
    }

    /// Reads an object of at most so many bytes, which are not believed before they come.
    async fn get(&self, what: &'static str, path: &Path, most: u64) -> Result<Bytes, Failure> {
        let too_long = Failure::Damaged("an object of the copy is longer than it was written");
        let read = async {
            let mut stream = self.objects.get(path).await?.into_stream();
            let mut bytes = Vec::new();
            while let Some(more) = stream.try_next().await? {
                bytes.extend_from_slice(&more);
                if bytes.len() as u64 > most {
                    return Ok(None);
                }
            }
            Ok(Some(Bytes::from(bytes)))
        };
        match within(what, read).await {
            Ok(bytes) => bytes.ok_or(too_long),
            Err(Failure::Store(_, ObjectError::NotFound { .. })) => {
                Err(Failure::Damaged("a part of the copy is missing"))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Removes an object, which may be gone already.
    async fn delete(&self, path: &Path) -> Result<(), Failure> {
        match within("remove an old object", self.objects.delete(path)).await {
            Err(Failure::Store(_, ObjectError::NotFound { .. })) => Ok(()),
            deleted => deleted,
        }
    }

    /// Removes some of a session's objects: first parts, and then manifests, so that none names what is not there, from the
    /// oldest on, so that no number is free before all lower ones are.
    async fn remove(
        &self,
        id: SessionId,
        goes: impl Fn(Object, &Path) -> bool,
    ) -> Result<(), Failure> {
        let mut objects = self.list(id).await?;
        objects.retain(|(object, path)| goes(*object, path));
        objects.sort_unstable_by_key(|(object, _)| object.manifest_generation());
        for (_, path) in &objects {
            self.delete(path).await?;
        }
        Ok(())
    }
}

/// Lets the store take its time, but not too much.
async fn within<T>(
    what: &'static str,
    operation: impl Future<Output = object_store::Result<T>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, operation).await {
        Ok(done) => done.map_err(|error| Failure::Store(what, error)),
        Err(_) => Err(Failure::Late(what)),
    }
}
