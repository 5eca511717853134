//! `CheckpointService`: sessions to files and back.
//!
//! Restoring itself is a command, so that it has its place in the session's order; here a file is staged for it.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, TryStreamExt, stream};
use gradtape_proto::v1::{
    self, checkpoint_service_server::CheckpointService, download_checkpoint_response,
    upload_checkpoint_request,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Context, check_chunk, principal, required, tape::Responses};
use crate::{
    checkpoints::{
        contents::{self, Contents, RESERVED},
        file::{self, Encoded, Header, Reader},
        store::{Incoming, Name, Store, Stored},
    },
    config,
    principal::Principal,
    session::error::ProtocolError,
    wire::{decode, encode, status},
};

/// Checkpoints in a page if the client does not say.
const DEFAULT_PAGE: usize = 100;
/// Most checkpoints in a page: about 200 KiB.
const MAX_PAGE: usize = 1000;

/// The service.
#[derive(Clone, Debug)]
pub struct Checkpoints(pub Context);

#[tonic::async_trait]
impl CheckpointService for Checkpoints {
    type DownloadCheckpointStream = Responses<v1::DownloadCheckpointResponse>;

    async fn save_checkpoint(
        &self,
        request: Request<v1::SaveCheckpointRequest>,
    ) -> Result<Response<v1::SaveCheckpointResponse>, Status> {
        let owner = principal(&request);
        Ok(Response::new(self.save(&owner, request.into_inner()).await?))
    }

    async fn list_checkpoints(
        &self,
        request: Request<v1::ListCheckpointsRequest>,
    ) -> Result<Response<v1::ListCheckpointsResponse>, Status> {
        let owner = principal(&request);
        let v1::ListCheckpointsRequest { page_size, page_token } = request.into_inner();
        let size = page(page_size)?;
        // A token is the last name of the page before, which may be gone by now.
        let all = self.store()?.list(&owner).await?;
        let start = all.partition_point(|stored| stored.name <= page_token);
        let end = start.saturating_add(size).min(all.len());
        let shown = &all[start..end];
        let last = shown.last().filter(|_| end < all.len());
        Ok(Response::new(v1::ListCheckpointsResponse {
            checkpoints: shown.iter().cloned().map(checkpoint).collect(),
            next_page_token: last.map(|stored| stored.name.clone()).unwrap_or_default(),
        }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        let owner = principal(&request);
        let name = Name::parse(&request.into_inner().name)?;
        let mut source = self.store()?.read(&owner, &name).await?;
        let header = source.header().await?;
        let tensor = |(key, aval): &(String, _)| v1::CheckpointTensor {
            key: key.clone(),
            spec: Some(encode::spec(aval)),
        };
        Ok(Response::new(v1::GetCheckpointResponse {
            checkpoint: Some(checkpoint(source.stored)),
            tensors: header.tensors.iter().map(tensor).collect(),
            metadata: header.metadata.into_iter().collect(),
        }))
    }

    async fn delete_checkpoint(
        &self,
        request: Request<v1::DeleteCheckpointRequest>,
    ) -> Result<Response<v1::DeleteCheckpointResponse>, Status> {
        let owner = principal(&request);
        let name = Name::parse(&request.into_inner().name)?;
        self.store()?.delete(&owner, &name).await?;
        tracing::info!(%owner, ?name, "delete checkpoint");
        Ok(Response::new(v1::DeleteCheckpointResponse {}))
    }

    async fn download_checkpoint(
        &self,
        request: Request<v1::DownloadCheckpointRequest>,
    ) -> Result<Response<Self::DownloadCheckpointStream>, Status> {
        use download_checkpoint_response::Kind;
        let owner = principal(&request);
        let name = Name::parse(&request.into_inner().name)?;
        let source = self.store()?.read(&owner, &name).await?;
        let first = Kind::Checkpoint(checkpoint(source.stored.clone()));
        let stored = source.stored.clone();
        let mut check = file::Passing::new(stored.bytes);
        let chunks = source.parts(self.0.config.limits.max_chunk_bytes).map(move |chunk| {
            let chunk = chunk?;
            stored.as_written(check.pass(&chunk))?;
            Ok(Kind::Chunk(chunk))
        });
        let kinds = stream::once(std::future::ready(Ok(first))).chain(chunks);
        let responses = kinds
            .map_ok(|kind| v1::DownloadCheckpointResponse { kind: Some(kind) })
            .map_err(|error: ProtocolError| Status::from(error));
        Ok(Response::new(responses.boxed()))
    }

    async fn upload_checkpoint(
        &self,
        request: Request<Streaming<v1::UploadCheckpointRequest>>,
    ) -> Result<Response<v1::UploadCheckpointResponse>, Status> {
        let owner = principal(&request);
        let stored = self.receive(&owner, request.into_inner()).await?;
        Ok(Response::new(v1::UploadCheckpointResponse { checkpoint: Some(checkpoint(stored)) }))
    }

    async fn load_checkpoint(
        &self,
        request: Request<v1::LoadCheckpointRequest>,
    ) -> Result<Response<v1::LoadCheckpointResponse>, Status> {
        let owner = principal(&request);
        Ok(Response::new(self.load(&owner, request.into_inner()).await?))
    }
}

impl Checkpoints {
    fn store(&self) -> Result<&Arc<Store>, ProtocolError> {
        self.0.checkpoints.as_ref().ok_or(ProtocolError::CheckpointsDisabled)
    }

    async fn save(
        &self,
        owner: &Principal,
        request: v1::SaveCheckpointRequest,
    ) -> Result<v1::SaveCheckpointResponse, ProtocolError> {
        let store = self.store()?;
        let v1::SaveCheckpointRequest {
            credentials,
            name,
            after_sequence,
            entries,
            metadata,
            overwrite,
        } = request;
        let session = self.0.session(owner, credentials.as_ref()).await?;
        let name = Name::parse(&name)?;
        let entries = decode::checkpoint_entries(entries)?;
        let remarks = remarks(metadata, store.config())?;
        // First the turn, then the snapshot: one that waits would keep old tensors alive.
        let _turn = store.turn().await?;
        let (snapshot, sequence) = session.snapshot(entries, after_sequence).await?;
        let encoded = blocking(move || {
            let (tensors, metadata) = contents::write(snapshot, sequence, remarks)?;
            Encoded::new(tensors, metadata)
        })
        .await?;
        let (tensors, checksum) = (encoded.tensors, encoded.checksum);
        let stored = store.put(owner, &name, encoded, overwrite).await?;
        tracing::info!(session = %session.id(), ?name, bytes = stored.bytes, "save checkpoint");
        Ok(v1::SaveCheckpointResponse {
            checkpoint: Some(checkpoint(stored)),
            sequence,
            tensors: encode::count(tensors),
            checksum: file::format_checksum(checksum),
        })
    }

    async fn load(
        &self,
        owner: &Principal,
        request: v1::LoadCheckpointRequest,
    ) -> Result<v1::LoadCheckpointResponse, ProtocolError> {
        let store = self.store()?;
        let v1::LoadCheckpointRequest { credentials, name, upload } = request;
        let session = self.0.session(owner, credentials.as_ref()).await?;
        if upload == 0 {
            return Err(ProtocolError::malformed("upload", "must not be 0"));
        }
        let ticket = session.uploads().begin(upload)?;
        let mut source = store.read(owner, &Name::parse(&name)?).await?;
        let header = source.header().await?;
        let mut reader = Reader::new(&header, session.ledger())?;
        while let Some(bytes) = source.next().await? {
            source.stored.as_written(reader.take(&bytes))?;
        }
        let tensors = source.stored.as_written(reader.finish())?;
        // Only now is it known that the header is as it was written.
        let snapshot = Contents::read(&header)?.assemble(tensors)?;
        ticket.finish_checkpoint(snapshot).await?;
        let tensors = encode::count(header.tensors.len());
        Ok(v1::LoadCheckpointResponse { tensors, metadata: header.metadata.into_iter().collect() })
    }

    /// Receives a file in chunks; its memory is reserved before the first.
    async fn receive(
        &self,
        owner: &Principal,
        mut requests: Streaming<v1::UploadCheckpointRequest>,
    ) -> Result<Stored, ProtocolError> {
        use upload_checkpoint_request::Kind;
        let store = self.store()?;
        let Some(Kind::Header(header)) = self.next_part(&mut requests).await? else {
            return Err(ProtocolError::malformed("kind", "the first message must be a header"));
        };
        let v1::UploadCheckpointHeader { name, size_bytes, overwrite } = header;
        let name = Name::parse(&name)?;
        store.check_size(size_bytes)?;
        let _upload = store.upload()?;
        let mut incoming = Incoming::new(self.0.registry.ledger(), size_bytes)?;
        while let Some(part) = self.next_part(&mut requests).await? {
            match part {
                Kind::Header(_) => return Err(ProtocolError::malformed("kind", "a second header")),
                Kind::Chunk(chunk) => {
                    check_chunk(&chunk, &self.0.config.limits)?;
                    incoming.append(&chunk)?;
                }
            }
        }
        let file = incoming.finish()?;
        let encoded = blocking(move || {
            let header = Header::read(&file, file.len() as u64)?;
            Contents::read(&header)?;
            Encoded::adopt(&header, &file)
        })
        .await?;
        let stored = store.put(owner, &name, encoded, overwrite).await?;
        tracing::info!(%owner, ?name, bytes = stored.bytes, "upload checkpoint");
        Ok(stored)
    }

    /// The next part of an upload, in time.
    async fn next_part(
        &self,
        requests: &mut Streaming<v1::UploadCheckpointRequest>,
    ) -> Result<Option<upload_checkpoint_request::Kind>, ProtocolError> {
        let timeout = self.0.config.limits.upload_progress_timeout;
        match tokio::time::timeout(timeout, requests.message()).await {
            Err(_) => Err(ProtocolError::UploadStalled),
            Ok(Ok(Some(request))) => required("kind", request.kind).map(Some),
            Ok(Ok(None)) => Ok(None),
            // A broken upload is short, and refused for that; nobody is there to read why.
            Ok(Err(broken)) => status::from_transport(&broken).map_or(Ok(None), Err),
        }
    }
}

/// Runs what reads all elements of a checkpoint where it delays no traffic.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProtocolError> + Send + 'static,
) -> Result<T, ProtocolError> {
    // It fails only if the runtime stops.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ProtocolError::Draining))
}

fn checkpoint(stored: Stored) -> v1::Checkpoint {
    let Stored { name, bytes, time } = stored;
    v1::Checkpoint { name, size_bytes: bytes, update_time: Some(time.into()) }
}

/// The caller's own metadata, within its limits.
fn remarks(
    metadata: std::collections::HashMap<String, String>,
    limits: &config::Checkpoints,
) -> Result<BTreeMap<String, String>, ProtocolError> {
    let malformed = |why: String| Err(ProtocolError::malformed("metadata", why));
    if metadata.len() > limits.max_remarks {
        return malformed(format!(
            "has {} entries, {} are allowed",
            metadata.len(),
            limits.max_remarks
        ));
    }
    for (key, value) in &metadata {
        if key.starts_with(RESERVED) {
            return malformed(format!("keys that begin with {RESERVED:?} are the server's"));
        }
        if key.len() > limits.max_remark_key_bytes || value.len() > limits.max_remark_bytes {
            return malformed(format!(
                "at most {} bytes for a key and {} for a value",
                limits.max_remark_key_bytes, limits.max_remark_bytes
            ));
        }
    }
    Ok(metadata.into_iter().collect())
}

fn page(size: i32) -> Result<usize, ProtocolError> {
    match usize::try_from(size) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) => Ok(size.min(MAX_PAGE)),
        Err(_) => Err(ProtocolError::malformed("page_size", "is negative")),
    }
}
