//! Checkpoints: the state of sessions in files on the server.

use std::{collections::HashMap, panic::Location, time::SystemTime};

use bytes::{Bytes, BytesMut};
use futures::stream;
use gradtape_proto::v1::{
    self as proto, checkpoint_service_client::CheckpointServiceClient, command::Kind,
    download_checkpoint_response, reply, upload_checkpoint_request,
};
use tonic::{Response, Status};

use crate::{
    Error, Generator, Optimizer, Result, Session, Variable, core::unexpected, queue::Recorder,
    security::Connection,
};

/// The checkpoints of whoever owns a session. Made by [`Session::checkpoints`].
///
/// They outlive the session: another one restores them, whatever its handles are.
///
/// ```
/// # use gradtape_client::{Optimizer, RestoreOptions, SaveOptions, Session};
/// # async fn example(session: &Session) -> gradtape_client::Result<()> {
/// let weights = session.variable("weights", [1.0f32, 2.0]);
/// let optimizer = Optimizer::adam(session).create();
/// // ... train ...
/// session.checkpoints().save("monday", SaveOptions::default().metadata("epoch", "3")).await?;
/// // Later, perhaps elsewhere, with variables and optimizers of the same names and order:
/// session.checkpoints().restore("monday", RestoreOptions::default()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoints {
    session: Session,
    client: CheckpointServiceClient<Connection>,
}

/// A checkpoint, from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Its name.
    pub name: String,
    /// Size of the file.
    pub bytes: u64,
    /// When it was written, if the server says so.
    pub time: Option<SystemTime>,
}

/// A checkpoint that was saved just now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedCheckpoint {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// How many tensors it has.
    pub tensors: u32,
    /// The checksum in its metadata.
    pub checksum: String,
}

/// How many things a restore changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// Variables.
    pub variables: u32,
    /// Optimizers.
    pub optimizers: u32,
    /// Generators.
    pub generators: u32,
}

/// Something that a checkpoint can hold: a variable, an optimizer or a generator.
pub trait Stateful {
    /// The number that it has on the wire.
    fn handle(&self) -> u64;
}

impl Stateful for Variable {
    fn handle(&self) -> u64 {
        crate::Tensor::handle(self)
    }
}

impl Stateful for Optimizer {
    fn handle(&self) -> u64 {
        self.id()
    }
}

impl Stateful for Generator {
    fn handle(&self) -> u64 {
        self.id()
    }
}

/// What to save, and how.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct SaveOptions {
    entries: Vec<proto::CheckpointEntry>,
    metadata: HashMap<String, String>,
    overwrite: bool,
}

/// What to restore, and how.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct RestoreOptions {
    entries: Vec<proto::CheckpointEntry>,
    weights_only: bool,
    partial: bool,
}

// === impl SaveOptions ===

impl SaveOptions {
    /// Saves this, under this key, and else only what is named alike. Without any, everything is saved.
    pub fn entry(mut self, key: &str, thing: &impl Stateful) -> Self {
        self.entries.push(entry(key, thing));
        self
    }

    /// Adds a remark, such as the epoch. Keys that begin with "gradtape." are the server's.
    pub fn metadata(mut self, key: &str, value: impl Into<String>) -> Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    /// Replaces a checkpoint of the same name.
    pub fn overwrite(mut self) -> Self {
        self.overwrite = true;
        self
    }
}

// === impl RestoreOptions ===

impl RestoreOptions {
    /// Restores this from this key, and else only what is named alike. Without any, everything is restored.
    pub fn entry(mut self, key: &str, thing: &impl Stateful) -> Self {
        self.entries.push(entry(key, thing));
        self
    }

    /// Leaves optimizers and generators alone.
    pub fn weights_only(mut self) -> Self {
        self.weights_only = true;
        self
    }

    /// Leaves alone what only the checkpoint or only the session has.
    pub fn partial(mut self) -> Self {
        self.partial = true;
        self
    }
}

// === impl Checkpoints ===

impl Checkpoints {
    pub(crate) fn of(session: &Session) -> Self {
        Self { session: session.clone(), client: session.core().remote.checkpoints.clone() }
    }

    /// Saves the state after everything that was enqueued so far. The session goes on while the file is written.
    #[track_caller]
    pub fn save(
        &self,
        name: &str,
        options: SaveOptions,
    ) -> impl Future<Output = Result<SavedCheckpoint>> + Send + use<> {
        let core = self.session.core();
        let synced = self.session.record(Location::caller(), |recorder| {
            recorder.ask(Kind::Sync(proto::Sync::default()))
        });
        let (core, mut client) = (std::sync::Arc::clone(core), self.client.clone());
        let SaveOptions { entries, metadata, overwrite } = options;
        let mut request = proto::SaveCheckpointRequest {
            credentials: Some(core.remote.credentials.clone()),
            name: name.to_owned(),
            after_sequence: 0,
            entries,
            metadata,
            overwrite,
        };
        async move {
            request.after_sequence = core.answer(synced).await?.sequence;
            let saved = answered(client.save_checkpoint(request).await)?;
            Ok(SavedCheckpoint {
                checkpoint: checkpoint(saved.checkpoint)?,
                tensors: saved.tensors,
                checksum: saved.checksum,
            })
        }
    }

    /// Returns to a checkpoint, to the bit: completely or, if anything does not fit, not at all. The error lists all that
    /// does not fit. Commands that are enqueued after this call follow the restore only if it is awaited first.
    #[track_caller]
    pub fn restore(
        &self,
        name: &str,
        options: RestoreOptions,
    ) -> impl Future<Output = Result<Restored>> + Send + use<> {
        let caller = Location::caller();
        let (session, mut client) = (self.session.clone(), self.client.clone());
        let number = |recorder: &mut Recorder<'_>| recorder.upload();
        let upload = session.record(caller, number);
        let request = proto::LoadCheckpointRequest {
            credentials: Some(session.core().remote.credentials.clone()),
            name: name.to_owned(),
            upload,
        };
        let RestoreOptions { entries, weights_only, partial } = options;
        let command = proto::RestoreCheckpoint { upload, entries, weights_only, partial };
        async move {
            answered(client.load_checkpoint(request).await)?;
            let kind = Kind::RestoreCheckpoint(command);
            let answer = session.record(caller, |recorder| recorder.ask(kind));
            match session.core().answer(answer).await? {
                proto::Reply { result: Some(reply::Result::Restore(reply)), .. } => Ok(Restored {
                    variables: reply.variables,
                    optimizers: reply.optimizers,
                    generators: reply.generators,
                }),
                reply => Err(unexpected(&reply)),
            }
        }
    }

    /// All checkpoints, by name.
    pub async fn list(&self) -> Result<Vec<Checkpoint>> {
        let (mut client, mut all, mut page_token) = (self.client.clone(), vec![], String::new());
        loop {
            let request = proto::ListCheckpointsRequest { page_size: 0, page_token };
            let page = answered(client.list_checkpoints(request).await)?;
            all.extend(page.checkpoints.into_iter().map(Checkpoint::from));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    }

    /// The tensors and the metadata of a checkpoint.
    pub async fn describe(&self, name: &str) -> Result<proto::GetCheckpointResponse> {
        let request = proto::GetCheckpointRequest { name: name.to_owned() };
        answered(self.client.clone().get_checkpoint(request).await)
    }

    /// Deletes a checkpoint.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let request = proto::DeleteCheckpointRequest { name: name.to_owned() };
        answered(self.client.clone().delete_checkpoint(request).await).map(drop)
    }

    /// Receives a checkpoint's file, which is of the format safetensors.
    pub async fn download(&self, name: &str) -> Result<Bytes> {
        use download_checkpoint_response::Kind;

        let request = proto::DownloadCheckpointRequest { name: name.to_owned() };
        let mut parts = answered(self.client.clone().download_checkpoint(request).await)?;
        let mut bytes = BytesMut::new();
        while let Some(part) = parts.message().await.map_err(|s| Error::from_status(&s))? {
            if let Some(Kind::Chunk(chunk)) = part.kind {
                bytes.extend_from_slice(&chunk);
            }
        }
        Ok(bytes.freeze())
    }

    /// Sends a file of the format safetensors, of this server or of any program.
    pub async fn upload(&self, name: &str, file: Bytes, overwrite: bool) -> Result<Checkpoint> {
        use upload_checkpoint_request::Kind;

        let size = self.session.core().remote.chunk_bytes;
        let size_bytes = file.len() as u64;
        let header = proto::UploadCheckpointHeader { name: name.to_owned(), size_bytes, overwrite };
        let chunks = (0..file.len()).step_by(size);
        let chunks = chunks.map(move |at| file.slice(at..file.len().min(at + size)));
        let kinds = std::iter::once(Kind::Header(header)).chain(chunks.map(Kind::Chunk));
        let requests = kinds.map(|kind| proto::UploadCheckpointRequest { kind: Some(kind) });
        let response = self.client.clone().upload_checkpoint(stream::iter(requests)).await;
        checkpoint(answered(response)?.checkpoint)
    }
}

impl From<proto::Checkpoint> for Checkpoint {
    fn from(message: proto::Checkpoint) -> Self {
        let proto::Checkpoint { name, size_bytes, update_time } = message;
        Self { name, bytes: size_bytes, time: update_time.and_then(|time| time.try_into().ok()) }
    }
}

fn entry(key: &str, thing: &impl Stateful) -> proto::CheckpointEntry {
    proto::CheckpointEntry { handle: thing.handle(), key: key.to_owned() }
}

fn checkpoint(message: Option<proto::Checkpoint>) -> Result<Checkpoint> {
    let missing = || Error::Protocol("an answer came without its checkpoint".to_owned());
    message.map(Checkpoint::from).ok_or_else(missing)
}

fn answered<T>(response: Result<Response<T>, Status>) -> Result<T> {
    response.map(Response::into_inner).map_err(|status| Error::from_status(&status))
}
