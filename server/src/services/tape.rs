//! `TapeService`: commands in, replies out, and tensors in chunks.
//!
//! A stream's requests are always read, into the session's inbox, which the client's credit bounds. To stop reading would
//! be no backpressure: small unread frames add up until HTTP/2 closes the whole connection.

use std::{
    pin::{Pin, pin},
    sync::Arc,
};

use futures::{Stream, StreamExt, stream};
use gradtape_proto::v1::{
    self, download_tensor_response, stream_request, stream_response,
    tape_service_server::TapeService, upload_tensor_request,
};
use tonic::{Request, Response, Status, Streaming};

use super::{Caller, Context, check_chunk, principal, required};
use crate::{
    principal::Principal,
    session::{
        error::ProtocolError,
        inbox::Session,
        outbox::{Attachment, Deliveries, Delivery},
        uploads::Staging,
    },
    wire::{decode, encode, status},
};

/// The service.
#[derive(Clone, Debug)]
pub struct Tapes(pub Context);

/// The responses of a streaming method.
pub type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl TapeService for Tapes {
    type StreamStream = Responses<v1::StreamResponse>;
    type DownloadTensorStream = Responses<v1::DownloadTensorResponse>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let caller = Caller::of(&request);
        let (context, requests) = (self.0.clone(), request.into_inner());
        // The headers go out at once: a client may wait for them before it says hello.
        let responses = stream::once(async move { attach(context, caller, requests).await })
            .flat_map(|attached| match attached {
                Ok(responses) => responses,
                Err(error) => stream::iter([Err(error.into())]).boxed(),
            });
        Ok(Response::new(responses.boxed()))
    }

    async fn execute(
        &self,
        request: Request<v1::ExecuteRequest>,
    ) -> Result<Response<v1::ExecuteResponse>, Status> {
        let principal = principal(&request);
        let v1::ExecuteRequest { credentials, batch } = request.into_inner();
        let session = self.0.session(&principal, credentials.as_ref()).await?;
        let reply = session.execute(required("batch", batch)?).await?;
        Ok(Response::new(v1::ExecuteResponse { batch: Some(reply) }))
    }

    async fn upload_tensor(
        &self,
        request: Request<Streaming<v1::UploadTensorRequest>>,
    ) -> Result<Response<v1::UploadTensorResponse>, Status> {
        let principal = principal(&request);
        let received_bytes = receive(&self.0, &principal, request.into_inner()).await?;
        Ok(Response::new(v1::UploadTensorResponse { received_bytes }))
    }

    async fn download_tensor(
        &self,
        request: Request<v1::DownloadTensorRequest>,
    ) -> Result<Response<Self::DownloadTensorStream>, Status> {
        use download_tensor_response::Kind;
        let principal = principal(&request);
        let v1::DownloadTensorRequest { credentials, value, after_sequence } = request.into_inner();
        let session = self.0.session(&principal, credentials.as_ref()).await?;
        let tensor = session.read(value, after_sequence).await?;
        let spec = encode::spec(&tensor.aval());
        let size = self.0.config.limits.max_chunk_bytes;
        let data = encode::elements(tensor);
        let starts = (0..data.len()).step_by(size);
        let chunks = starts.map(move |at| Kind::Chunk(data.slice(at..data.len().min(at + size))));
        let kinds = std::iter::once(Kind::Spec(spec)).chain(chunks);
        let responses = kinds.map(|kind| Ok(v1::DownloadTensorResponse { kind: Some(kind) }));
        Ok(Response::new(stream::iter(responses).boxed()))
    }

    async fn stop_loop(
        &self,
        request: Request<v1::StopLoopRequest>,
    ) -> Result<Response<v1::StopLoopResponse>, Status> {
        let principal = principal(&request);
        let v1::StopLoopRequest { credentials, sequence } = request.into_inner();
        self.0.session(&principal, credentials.as_ref()).await?.stop_loops(sequence);
        Ok(Response::new(v1::StopLoopResponse {}))
    }

    async fn cancel_commands(
        &self,
        request: Request<v1::CancelCommandsRequest>,
    ) -> Result<Response<v1::CancelCommandsResponse>, Status> {
        let principal = principal(&request);
        let v1::CancelCommandsRequest { credentials, sequence } = request.into_inner();
        self.0.authenticate(&principal, credentials.as_ref())?.cancel(sequence);
        Ok(Response::new(v1::CancelCommandsResponse {}))
    }
}

/// Takes the hello of a stream, attaches it, and lets a task read the rest.
async fn attach(
    context: Context,
    caller: Caller,
    mut requests: Streaming<v1::StreamRequest>,
) -> Result<Responses<v1::StreamResponse>, ProtocolError> {
    let timeout = context.config.transport.hello_timeout;
    let first = tokio::time::timeout(timeout, next_kind(&mut requests))
        .await
        .map_err(|_| ProtocolError::HelloTimeout)??;
    let Some(stream_request::Kind::Hello(v1::Hello { credentials, notices })) = first else {
        return Err(ProtocolError::HelloExpected);
    };
    failpoint!(Hello, Err(ProtocolError::HelloTimeout));
    let session = context.session(&caller.principal, credentials.as_ref()).await?;
    if let Some(journal) = session.journal() {
        journal.confirm().await?;
    }
    let (attachment, deliveries) = session.attach()?;
    if notices {
        attachment.take_notices();
    }
    tracing::debug!(session = %session.id(), epoch = attachment.epoch, "attach stream");
    // Beyond the first, a stream resumes the session and takes it from the one before.
    let event = if attachment.epoch == 1 { "attach_session" } else { "resume_session" };
    context.oversight.audit.record(&caller.did(event).session(session.id()));
    if context.registry.is_draining() {
        // Draining began in between and did not see this stream.
        session.drain();
    }
    let responses = respond(context, Arc::clone(&session), deliveries);
    tokio::spawn(read(session, attachment, requests, caller.principal));
    Ok(responses)
}

/// Reads a stream's requests into its session until one of the two ends.
async fn read(
    session: Arc<Session>,
    attachment: Arc<Attachment>,
    mut requests: Streaming<v1::StreamRequest>,
    principal: Principal,
) {
    let (mut over, mut invalid) = (pin!(attachment.over()), pin!(principal.invalid()));
    let error = loop {
        let kind = tokio::select! {
            biased;
            kind = next_kind(&mut requests) => kind,
            () = &mut over => return,
            () = &mut invalid => break ProtocolError::Unauthenticated,
        };
        match kind {
            Ok(Some(_)) if !principal.is_valid() => break ProtocolError::Unauthenticated,
            Ok(Some(stream_request::Kind::Batch(batch))) => {
                let admitted = session.oversight().quotas.request(&principal);
                let admitted =
                    admitted.map_err(|error| session.oversight().refused(&principal, error));
                let admitted = admitted.and_then(|()| session.submit(&attachment, batch));
                if let Err(error) = admitted {
                    break error;
                }
            }
            Ok(Some(stream_request::Kind::Hello(_))) => break ProtocolError::HelloRepeated,
            // The client has said everything; what is queued is finished and answered first.
            Ok(None) => return session.close(&attachment, Ok(())),
            Err(error) => break error,
        }
    };
    tracing::debug!(session = %session.id(), epoch = attachment.epoch, %error, "end stream");
    attachment.end(Err(error));
    session.detach(&attachment);
}

/// The next request of a stream; `None` at its end, be it orderly or not.
async fn next_kind(
    requests: &mut Streaming<v1::StreamRequest>,
) -> Result<Option<stream_request::Kind>, ProtocolError> {
    match requests.message().await {
        Ok(Some(request)) => required("kind", request.kind).map(Some),
        Ok(None) => Ok(None),
        Err(broken) => status::from_transport(&broken).map_or(Ok(None), Err),
    }
}

fn respond(
    context: Context,
    session: Arc<Session>,
    deliveries: Deliveries,
) -> Responses<v1::StreamResponse> {
    use stream_response::Kind;
    // One after the other: what waits for a level is waited for by what comes after it.
    let responses = deliveries.then(move |delivery| {
        let (context, session) = (context.clone(), Arc::clone(&session));
        async move {
            let kind = match delivery? {
                Delivery::Welcome { next_sequence, handle_base } => Kind::Welcome(v1::Welcome {
                    next_sequence,
                    handle_base,
                    server: Some(context.server_info.as_ref().clone()),
                    durable_sequence: session.position().durable_sequence,
                    rewound_to: session.rewound_to(),
                }),
                Delivery::Batch(reply, barrier) => {
                    Kind::Batch(session.complete((reply, barrier)).await?)
                }
                Delivery::Progress(progress) => Kind::Progress(progress),
                Delivery::Notice(notice) => Kind::Notice(notice),
            };
            Ok(v1::StreamResponse { kind: Some(kind) })
        }
    });
    responses.boxed()
}

/// Receives a tensor in chunks; its memory is reserved before the first.
async fn receive(
    context: &Context,
    principal: &Principal,
    mut requests: Streaming<v1::UploadTensorRequest>,
) -> Result<u64, ProtocolError> {
    use upload_tensor_request::Kind;
    let Some(Kind::Header(header)) = next_part(context, &mut requests).await? else {
        return Err(ProtocolError::malformed("kind", "the first message must be a header"));
    };
    let session = context.session(principal, header.credentials.as_ref()).await?;
    if header.upload == 0 {
        return Err(ProtocolError::malformed("header.upload", "must not be 0"));
    }
    let aval = decode::aval(&required("header.spec", header.spec)?)?;
    let ticket = session.uploads().begin(header.upload)?;
    let mut staging = Staging::new(session.ledger(), aval)?;
    while let Some(part) = next_part(context, &mut requests).await? {
        match part {
            _ if !principal.is_valid() => return Err(ProtocolError::Unauthenticated),
            Kind::Header(_) => return Err(ProtocolError::malformed("kind", "a second header")),
            Kind::Chunk(chunk) => {
                check_chunk(&chunk, &context.config.limits)?;
                staging.append(&chunk)?;
            }
        }
    }
    ticket.finish(staging).await
}

/// The next part of an upload, in time.
async fn next_part(
    context: &Context,
    requests: &mut Streaming<v1::UploadTensorRequest>,
) -> Result<Option<upload_tensor_request::Kind>, ProtocolError> {
    let timeout = context.config.limits.upload_progress_timeout;
    match tokio::time::timeout(timeout, requests.message()).await {
        Err(_) => Err(ProtocolError::UploadStalled),
        Ok(Ok(Some(request))) => required("kind", request.kind).map(Some),
        Ok(Ok(None)) => Ok(None),
        // A broken upload is short, and refused for that; nobody is there to read why.
        Ok(Err(broken)) => status::from_transport(&broken).map_or(Ok(None), Err),
    }
}
