//! A server that stands before the real one and can be wrong, to show that the runs find out what is wrong.
//!
//! It serves streams by the real server's unary calls, in which nothing supersedes anything, and does itself what is missing.
//! So each lie is to leave something out, or to say something else.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::Stream;
use gradtape_client::proto::{
    self, BatchReply, GetSessionResponse, Hello, SessionCredentials, StreamRequest, StreamResponse,
    command::Kind, reply, session_service_client::SessionServiceClient,
    session_service_server::SessionService, stream_request, stream_response,
    tape_service_client::TapeServiceClient, tape_service_server::TapeService,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming, transport::Channel};
use tonic_types::{ErrorDetails, StatusExt};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Nothing.
    Nothing,
    /// It executes what it gets, whatever its number is.
    ExecutesTwice,
    /// It does not know any more what it said to a command that is sent again.
    ForgetsReplies,
    /// It answers two questions with each other's answers.
    SwapsAnswers,
    /// It says that what it has executed is durable.
    PromisesEarly,
    /// It leaves a command out now and then.
    LeavesOut,
    /// An older stream goes on when there is a newer one.
    KeepsOlder,
    /// It takes one session for another.
    MixesSessions,
    /// It deletes nothing.
    KeepsDeleted,
    /// It stops to answer after a while.
    FallsSilent,
}

/// The server.
#[derive(Clone, Debug)]
pub(crate) struct Middle {
    lie: Lie,
    tapes: TapeServiceClient<Channel>,
    sessions: SessionServiceClient<Channel>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Streams so far.
    streams: u64,
    /// The newest stream of each session.
    newest: HashMap<String, u64>,
    /// How many commands of each session were executed once more.
    repeated: HashMap<String, u64>,
    /// The sessions, by identifier, so that there is a first.
    sessions: BTreeMap<String, SessionCredentials>,
    batches: u64,
}

/// One stream.
struct Passage {
    number: u64,
    credentials: SessionCredentials,
}

impl Middle {
    pub(crate) fn new(channel: Channel, lie: Lie) -> Self {
        let (tapes, sessions) =
            (TapeServiceClient::new(channel.clone()), SessionServiceClient::new(channel));
        Self { lie, tapes, sessions, memory: Arc::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a session stands, as its clients know it.
    async fn position(
        &self,
        credentials: &SessionCredentials,
    ) -> Result<GetSessionResponse, Status> {
        let request = proto::GetSessionRequest { credentials: Some(credentials.clone()) };
        let mut position = self.sessions.clone().get_session(request).await?.into_inner();
        let repeated = self.repeated(credentials);
        position.next_sequence = position.next_sequence.saturating_sub(repeated).max(1);
        position.durable_sequence =
            position.durable_sequence.map(|durable| durable.saturating_sub(repeated));
        Ok(position)
    }

    fn repeated(&self, credentials: &SessionCredentials) -> u64 {
        self.memory().repeated.get(&credentials.session_id).copied().unwrap_or(0)
    }

    /// Serves a stream until it ends.
    async fn serve(
        &self,
        requests: &mut Streaming<StreamRequest>,
        replies: &mpsc::UnboundedSender<Result<StreamResponse, Status>>,
    ) -> Result<(), Status> {
        let first = requests.message().await?.and_then(|request| request.kind);
        let Some(stream_request::Kind::Hello(Hello { credentials: Some(credentials), .. })) = first
        else {
            return Err(Status::invalid_argument("no hello"));
        };
        let (passage, welcome) = self.welcome(credentials).await?;
        let say = |kind| drop(replies.send(Ok(StreamResponse { kind: Some(kind) })));
        say(stream_response::Kind::Welcome(welcome));
        while let Some(request) = requests.message().await? {
            let Some(stream_request::Kind::Batch(batch)) = request.kind else { break };
            self.check_newest(&passage)?;
            let reply = self.execute_batch(&passage, batch).await?;
            // A newer stream was told where the session stands, maybe without this.
            self.check_newest(&passage)?;
            if self.lie == Lie::FallsSilent && self.memory().batches > 6 {
                continue;
            }
            say(stream_response::Kind::Batch(reply));
        }
        Ok(())
    }

    /// A stream that is not its session's newest ends.
    fn check_newest(&self, passage: &Passage) -> Result<(), Status> {
        let newest = self.memory().newest.get(&passage.credentials.session_id).copied();
        if newest == Some(passage.number) || self.lie == Lie::KeepsOlder {
            return Ok(());
        }
        // What the real server says to an older stream.
        let details = ErrorDetails::with_error_info("SUPERSEDED", "gradtape.dev", HashMap::new());
        Err(Status::with_error_details(Code::Aborted, "another stream is attached", details))
    }

    async fn welcome(
        &self,
        credentials: SessionCredentials,
    ) -> Result<(Passage, proto::Welcome), Status> {
        let number = {
            let mut memory = self.memory();
            memory.streams += 1;
            let number = memory.streams;
            memory.newest.insert(credentials.session_id.clone(), number);
            number
        };
        let position = self.position(&credentials).await?;
        let welcome = proto::Welcome {
            next_sequence: position.next_sequence,
            handle_base: number << 32,
            server: position.server,
            durable_sequence: position.durable_sequence,
            // It does not know, and going back is no surprise.
            rewound_to: Some(position.next_sequence - 1),
        };
        Ok((Passage { number, credentials }, welcome))
    }

    async fn execute_batch(
        &self,
        passage: &Passage,
        mut batch: proto::Batch,
    ) -> Result<BatchReply, Status> {
        let mut credentials = passage.credentials.clone();
        let next = self.position(&credentials).await?.next_sequence;
        // How much further the server's numbers are than the client's.
        let mut ahead = 0;
        let count = {
            let mut memory = self.memory();
            memory.batches += 1;
            memory.batches
        };
        let mut promised = Vec::new();
        match self.lie {
            Lie::ExecutesTwice => {
                let again = next.saturating_sub(batch.first_sequence);
                let mut memory = self.memory();
                let repeated = memory.repeated.entry(credentials.session_id.clone()).or_default();
                *repeated += again;
                ahead = *repeated;
            }
            Lie::PromisesEarly => {
                for (number, command) in (batch.first_sequence..).zip(&mut batch.commands) {
                    let message = proto::Command::decode(&**command);
                    if let Ok(proto::Command { kind: Some(Kind::Sync(mut sync)), tag, scope }) =
                        message
                    {
                        sync.set_level(proto::Level::Applied);
                        let applied = proto::Command { kind: Some(Kind::Sync(sync)), tag, scope };
                        *command = applied.encode_to_vec().into();
                        promised.push(number);
                    }
                }
            }
            Lie::LeavesOut if count.is_multiple_of(4) => {
                let nothing = Some(Kind::Sync(proto::Sync::default()));
                let nothing = proto::Command { kind: nothing, ..Default::default() };
                batch.commands[0] = nothing.encode_to_vec().into();
            }
            Lie::MixesSessions => {
                if let Some((_, first)) = self.memory().sessions.first_key_value() {
                    credentials = first.clone();
                }
            }
            _ => {}
        }
        batch.first_sequence += ahead;
        batch.acknowledged_sequence = 0;
        let mut reply = self.forward(credentials, batch).await?;
        go_back(&mut reply, ahead);
        self.distort(&mut reply, next, &promised);
        Ok(reply)
    }

    /// Has the real server execute a batch.
    async fn forward(
        &self,
        credentials: SessionCredentials,
        batch: proto::Batch,
    ) -> Result<BatchReply, Status> {
        let request = proto::ExecuteRequest { credentials: Some(credentials), batch: Some(batch) };
        let response = self.tapes.clone().execute(request).await;
        // Numbers do not follow any more if the server went back, and with it its streams would have ended.
        let response = response.map_err(|status| match status.code() {
            Code::Aborted => Status::unavailable("the server went back"),
            _ => status,
        });
        response?.into_inner().batch.ok_or_else(|| Status::internal("no reply"))
    }

    fn distort(&self, reply: &mut BatchReply, next: u64, promised: &[u64]) {
        match self.lie {
            Lie::ForgetsReplies => reply.replies.retain(|one| one.sequence >= next),
            Lie::SwapsAnswers => {
                let mut tensors = reply
                    .replies
                    .iter_mut()
                    .filter(|one| matches!(one.result, Some(reply::Result::Tensor(_))));
                if let (Some(one), Some(other)) = (tensors.next(), tensors.next()) {
                    std::mem::swap(&mut one.result, &mut other.result);
                }
            }
            Lie::PromisesEarly => {
                reply.durable_sequence = Some(reply.applied_sequence);
                for one in &mut reply.replies {
                    if promised.contains(&one.sequence)
                        && let Some(reply::Result::Sync(sync)) = &mut one.result
                    {
                        sync.set_level(proto::Level::Durable);
                        sync.durable_sequence = one.sequence;
                    }
                }
            }
            _ => {}
        }
    }
}

/// Numbers a reply as the client does.
fn go_back(reply: &mut BatchReply, ahead: u64) {
    reply.applied_sequence -= ahead;
    reply.durable_sequence = reply.durable_sequence.map(|said| said.saturating_sub(ahead));
    for one in &mut reply.replies {
        one.sequence -= ahead;
        if let Some(reply::Result::Error(error)) = &mut one.result {
            error.sequence -= ahead;
            error.root_sequence = error.root_sequence.saturating_sub(ahead);
        }
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl TapeService for Middle {
    type StreamStream = Responses<StreamResponse>;
    type DownloadTensorStream = Responses<proto::DownloadTensorResponse>;

    async fn stream(
        &self,
        request: Request<Streaming<StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let (middle, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            if let Err(status) = middle.serve(&mut requests, &sender).await {
                // Nobody may be there to hear it.
                let _ = sender.send(Err(status));
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(receiver))))
    }

    async fn execute(
        &self,
        request: Request<proto::ExecuteRequest>,
    ) -> Result<Response<proto::ExecuteResponse>, Status> {
        self.tapes.clone().execute(request.into_inner()).await
    }

    async fn upload_tensor(
        &self,
        _: Request<Streaming<proto::UploadTensorRequest>>,
    ) -> Result<Response<proto::UploadTensorResponse>, Status> {
        Err(Status::unimplemented("programs here have small tensors only"))
    }

    async fn download_tensor(
        &self,
        _: Request<proto::DownloadTensorRequest>,
    ) -> Result<Response<Self::DownloadTensorStream>, Status> {
        Err(Status::unimplemented("programs here have small tensors only"))
    }

    async fn stop_loop(
        &self,
        request: Request<proto::StopLoopRequest>,
    ) -> Result<Response<proto::StopLoopResponse>, Status> {
        self.tapes.clone().stop_loop(request.into_inner()).await
    }

    async fn cancel_commands(
        &self,
        request: Request<proto::CancelCommandsRequest>,
    ) -> Result<Response<proto::CancelCommandsResponse>, Status> {
        self.tapes.clone().cancel_commands(request.into_inner()).await
    }
}

#[tonic::async_trait]
impl SessionService for Middle {
    async fn create_session(
        &self,
        request: Request<proto::CreateSessionRequest>,
    ) -> Result<Response<proto::CreateSessionResponse>, Status> {
        let response = self.sessions.clone().create_session(request.into_inner()).await?;
        if let Some(credentials) = &response.get_ref().credentials {
            let id = credentials.session_id.clone();
            self.memory().sessions.insert(id, credentials.clone());
        }
        Ok(response)
    }

    async fn get_session(
        &self,
        request: Request<proto::GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        let credentials = request.into_inner().credentials.unwrap_or_default();
        self.position(&credentials).await.map(Response::new)
    }

    async fn delete_session(
        &self,
        request: Request<proto::DeleteSessionRequest>,
    ) -> Result<Response<proto::DeleteSessionResponse>, Status> {
        if self.lie == Lie::KeepsDeleted {
            return Ok(Response::new(proto::DeleteSessionResponse {}));
        }
        self.sessions.clone().delete_session(request.into_inner()).await
    }

    async fn get_server_info(
        &self,
        request: Request<proto::GetServerInfoRequest>,
    ) -> Result<Response<proto::GetServerInfoResponse>, Status> {
        self.sessions.clone().get_server_info(request.into_inner()).await
    }
}
