//! The protocol without a client's good manners.

use gradtape_client::proto::{
    self, Batch, BatchReply, Command, Hello, SessionCredentials, StreamRequest, StreamResponse,
    Welcome, command::Kind, session_service_client::SessionServiceClient, stream_request,
    stream_response, tape_service_client::TapeServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Request, Status, Streaming,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Error},
};
use tonic_types::StatusExt;

use crate::Server;

/// A connection whose calls carry a credential.
pub type Connection = InterceptedService<Channel, Bearer>;

/// Says who calls, if anybody is said.
#[derive(Clone, Debug)]
pub struct Bearer(Option<String>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let value = format!("Bearer {token}").parse().expect("a printable token");
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// A session and the calls about it.
#[derive(Debug, Clone)]
pub struct Raw {
    /// The sessions' service.
    pub sessions: SessionServiceClient<Connection>,
    /// The tapes' service.
    pub tapes: TapeServiceClient<Connection>,
    /// The session.
    pub credentials: SessionCredentials,
    /// What the server said about itself.
    pub server: proto::ServerInfo,
}

/// An attached stream.
#[derive(Debug)]
pub struct Stream {
    /// What the server said first.
    pub welcome: Welcome,
    requests: mpsc::UnboundedSender<StreamRequest>,
    responses: Streaming<StreamResponse>,
}

/// A connection.
pub async fn channel(server: &Server) -> Channel {
    channel_to(server.url()).await.expect("a connection")
}

/// A connection to wherever a URL leads.
pub async fn channel_to(url: String) -> Result<Channel, Error> {
    Channel::from_shared(url).expect("a URL").connect().await
}

/// A connection whose calls carry a token.
pub fn connection(channel: Channel, token: Option<&str>) -> Connection {
    Connection::new(channel, Bearer(token.map(str::to_owned)))
}

impl Raw {
    /// Makes a session over a connection of its own.
    pub async fn connect(server: &Server) -> Self {
        Self::over(connection(channel(server).await, None)).await.expect("a session")
    }

    /// Makes a session over a connection of its own, as the owner of a token.
    pub async fn connect_as(server: &Server, token: &str) -> Result<Self, Status> {
        Self::over(connection(channel(server).await, Some(token))).await
    }

    /// Makes a session over a connection.
    pub async fn over(channel: Connection) -> Result<Self, Status> {
        let mut sessions = SessionServiceClient::new(channel.clone());
        let request = proto::CreateSessionRequest { client: "test".into(), protocol_version: 1 };
        let response = sessions.create_session(request).await?.into_inner();
        Ok(Self {
            sessions,
            tapes: TapeServiceClient::new(channel),
            credentials: response.credentials.expect("credentials"),
            server: response.server.expect("a description of the server"),
        })
    }

    /// The same session over another connection.
    pub fn moved_to(&self, channel: Connection) -> Self {
        Self {
            sessions: SessionServiceClient::new(channel.clone()),
            tapes: TapeServiceClient::new(channel),
            ..self.clone()
        }
    }

    /// Attaches a stream.
    pub async fn stream(&self) -> Result<Stream, Status> {
        let hello = Hello { credentials: Some(self.credentials.clone()), notices: true };
        let (requests, mut responses) = self.open(stream_request::Kind::Hello(hello)).await?;
        let first = responses.message().await?.and_then(|response| response.kind);
        let Some(stream_response::Kind::Welcome(welcome)) = first else {
            panic!("no welcome but {first:?}")
        };
        Ok(Stream { welcome, requests, responses })
    }

    /// Opens a stream with any first message.
    pub async fn open(
        &self,
        first: stream_request::Kind,
    ) -> Result<(mpsc::UnboundedSender<StreamRequest>, Streaming<StreamResponse>), Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        sender.send(StreamRequest { kind: Some(first) }).expect("the receiver is here");
        let requests = UnboundedReceiverStream::new(receiver);
        let responses = self.tapes.clone().stream(requests).await?.into_inner();
        Ok((sender, responses))
    }

    /// Executes a batch by a unary call.
    pub async fn execute(
        &self,
        first_sequence: u64,
        commands: Vec<Command>,
    ) -> Result<BatchReply, Status> {
        let request = proto::ExecuteRequest {
            credentials: Some(self.credentials.clone()),
            batch: Some(Batch::new(first_sequence, commands)),
        };
        let response = self.tapes.clone().execute(request).await?.into_inner();
        Ok(response.batch.expect("an answer to the batch"))
    }

    /// Where the session stands.
    pub async fn position(&self) -> Result<proto::GetSessionResponse, Status> {
        let request = proto::GetSessionRequest { credentials: Some(self.credentials.clone()) };
        Ok(self.sessions.clone().get_session(request).await?.into_inner())
    }
}

impl Stream {
    /// Sends a batch.
    pub fn send(&self, first_sequence: u64, commands: Vec<Command>) {
        let batch = Batch::new(first_sequence, commands);
        self.send_kind(stream_request::Kind::Batch(batch));
    }

    /// Sends anything.
    pub fn send_kind(&self, kind: stream_request::Kind) {
        // A stream that has ended says so when the answer is read.
        let _ = self.requests.send(StreamRequest { kind: Some(kind) });
    }

    /// The next answer; None when the stream ended well.
    pub async fn receive(&mut self) -> Result<Option<BatchReply>, Status> {
        loop {
            match self.responses.message().await?.and_then(|response| response.kind) {
                Some(stream_response::Kind::Batch(reply)) => return Ok(Some(reply)),
                Some(stream_response::Kind::Progress(_) | stream_response::Kind::Notice(_)) => {}
                Some(stream_response::Kind::Welcome(_)) => panic!("a second welcome"),
                None => return Ok(None),
            }
        }
    }

    /// What it is about, when the next notice comes; None when the stream ended well. Answers are passed over.
    pub async fn notice(&mut self) -> Result<Option<proto::Notice>, Status> {
        loop {
            match self.responses.message().await? {
                Some(StreamResponse { kind: Some(stream_response::Kind::Notice(notice)) }) => {
                    return Ok(Some(notice));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// Sends a batch and waits for its answer.
    pub async fn execute(
        &mut self,
        first_sequence: u64,
        commands: Vec<Command>,
    ) -> Result<BatchReply, Status> {
        self.send(first_sequence, commands);
        Ok(self.receive().await?.expect("an answer to the batch"))
    }

    /// Waits for the stream to end with an error.
    pub async fn failure(&mut self) -> Status {
        loop {
            match self.receive().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended well"),
                Err(status) => return status,
            }
        }
    }
}

/// A command without a tag.
pub fn command(kind: Kind) -> Command {
    Command { kind: Some(kind), ..Command::default() }
}

/// A command with a tag.
pub fn tagged(tag: &str, kind: Kind) -> Command {
    Command { tag: tag.to_owned(), ..command(kind) }
}

/// A constant of one dimension.
pub fn constant(output: u64, elements: &[f32]) -> Command {
    let data = gradtape_client::TensorData::from(elements);
    let source = Some(proto::constant::Source::Tensor(data.into()));
    command(Kind::Constant(proto::Constant { output, source }))
}

/// An op without attributes.
pub fn op(name: &str, inputs: &[u64], output: u64) -> Command {
    command(Kind::Op(proto::Op {
        name: name.to_owned(),
        inputs: inputs.to_vec(),
        outputs: vec![output],
        attributes: vec![],
    }))
}

/// Asks for the elements of a value.
pub fn fetch(value: u64) -> Command {
    command(Kind::Fetch(proto::Fetch { value }))
}

/// The elements in a reply to a fetch.
pub fn elements(reply: &proto::Reply) -> Vec<f32> {
    match &reply.result {
        Some(proto::reply::Result::Tensor(tensor)) => {
            let data = gradtape_client::TensorData::try_from(tensor.clone()).expect("a tensor");
            data.to_vec().expect("f32")
        }
        other => panic!("no tensor but {other:?}"),
    }
}

/// The error in a reply.
pub fn error(reply: &proto::Reply) -> &proto::Error {
    match &reply.result {
        Some(proto::reply::Result::Error(error)) => error,
        other => panic!("no error but {other:?}"),
    }
}

/// The reason with which the server signed a status.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    let info = info.unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "gradtape.dev");
    info.reason
}
