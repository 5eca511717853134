//! The calls to the server that are not the stream: sessions and large tensors.

use std::{fmt, io, pin::Pin, sync::Arc, time::Duration};

use futures::stream;
use gradtape_proto::v1::{
    self as proto, CreateSessionRequest, DeleteSessionRequest, DownloadTensorRequest,
    SessionCredentials, UploadHeader, UploadTensorRequest,
    checkpoint_service_client::CheckpointServiceClient, download_tensor_response,
    session_service_client::SessionServiceClient, tape_service_client::TapeServiceClient,
    upload_tensor_request,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};
use tonic::{
    Code, Status,
    transport::{Endpoint, Uri},
};

use crate::{
    Error, Result, Spec, TensorData,
    backoff::Backoff,
    error::is_transient,
    security::{Connection, Target},
};

/// The version of the protocol that this client was made for.
const PROTOCOL_VERSION: u32 = 1;

/// The whole connection's receive window. The HTTP/2 stack closes a connection on which too many small frames wait
/// unread, and counts half of this window as their budget; replies are many and small.
const CONNECTION_WINDOW: u32 = 32 << 20;

/// One stream's receive window: a download keeps moving while the network acknowledges. What the server's credit lets be unread
/// of small replies stays within the budget of frames.
const STREAM_WINDOW: u32 = 1 << 20;

/// Largest frame that is taken. Each costs both sides a call of the operating system.
const FRAME_BYTES: u32 = 64 << 10;

/// Largest message taken from the server, which never sends more than its 4 MiB by default.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// How long a client that ends tries to delete its session, at most: the server forgets it in time.
const PATIENCE_TO_DELETE: Duration = Duration::from_secs(5);

/// How connections are opened and watched.
#[derive(Clone)]
pub(crate) struct Transport {
    /// How long one may take to open.
    pub(crate) connect_timeout: Duration,
    /// After so much silence the server is asked whether it is there.
    pub(crate) keep_alive_interval: Duration,
    /// How long its answer may take.
    pub(crate) keep_alive_timeout: Duration,
    /// Opens them instead of TCP.
    pub(crate) dial: Option<Dial>,
}

/// Opens a connection to a host and port.
pub(crate) type Dial = Arc<dyn Fn(String) -> Pin<Box<Dialing>> + Send + Sync>;

type Dialing = dyn Future<Output = io::Result<Box<dyn Bytestream>>> + Send;

/// What goes both ways.
pub(crate) trait Bytestream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Bytestream for S {}

/// A server and one session on it.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) tapes: TapeServiceClient<Connection>,
    sessions: SessionServiceClient<Connection>,
    pub(crate) checkpoints: CheckpointServiceClient<Connection>,
    pub(crate) credentials: SessionCredentials,
    pub(crate) chunk_bytes: usize,
    pub(crate) patience: Duration,
}

impl Default for Transport {
    /// A network that fell silent is found out within a minute.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            keep_alive_interval: Duration::from_secs(30),
            keep_alive_timeout: Duration::from_secs(20),
            dial: None,
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connect_timeout, keep_alive_interval, keep_alive_timeout, dial } = self;
        f.debug_struct("Transport")
            .field("connect_timeout", connect_timeout)
            .field("keep_alive_interval", keep_alive_interval)
            .field("keep_alive_timeout", keep_alive_timeout)
            .field("dial", &dial.is_some())
            .finish()
    }
}

// === impl Remote ===

impl Remote {
    /// Opens a connection to a server; it reopens by itself whenever a call needs it.
    pub(crate) async fn channel(target: Target, transport: Transport) -> Result<Connection> {
        let failed = |error: tonic::transport::Error| Error::Transport(chain(&error));
        let Target { uri, tls, bearer } = target;
        let mut endpoint = Endpoint::from(uri);
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(tls).map_err(failed)?;
        }
        let endpoint = endpoint
            .connect_timeout(transport.connect_timeout)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(transport.keep_alive_interval)
            .keep_alive_timeout(transport.keep_alive_timeout)
            .tcp_nodelay(true);
        let channel = match transport.dial {
            None => endpoint.connect().await,
            Some(dial) => {
                let dialed = tower::service_fn(move |uri: Uri| {
                    let place = uri.authority().map(ToString::to_string).unwrap_or_default();
                    let dialing = dial(place);
                    async move { dialing.await.map(TokioIo::new) }
                });
                endpoint.connect_with_connector(dialed).await
            }
        };
        Ok(Connection::new(channel.map_err(failed)?, bearer))
    }

    /// Speaks to the session with these credentials.
    pub(crate) fn new(
        channel: Connection,
        credentials: SessionCredentials,
        patience: Duration,
    ) -> Self {
        Self {
            tapes: TapeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            checkpoints: CheckpointServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            sessions: SessionServiceClient::new(channel),
            credentials,
            chunk_bytes: 1 << 20,
            patience,
        }
    }

    /// Makes a session.
    pub(crate) async fn create(channel: Connection, client: String) -> Result<SessionCredentials> {
        let request = CreateSessionRequest { client, protocol_version: PROTOCOL_VERSION };
        let response = SessionServiceClient::new(channel).create_session(request).await;
        let response = response.map_err(|status| Error::from_status(&status))?.into_inner();
        response
            .credentials
            .ok_or_else(|| Error::Protocol("a new session came without credentials".to_owned()))
    }

    /// Ends the session on the server. It may have ended, if only the answer was lost.
    pub(crate) async fn delete(&self) -> Result<()> {
        let deleted = self.insist_for(self.patience.min(PATIENCE_TO_DELETE), || async {
            let request = DeleteSessionRequest { credentials: Some(self.credentials.clone()) };
            match self.sessions.clone().delete_session(request).await {
                Err(status) if status.code() == Code::NotFound => Ok(()),
                outcome => outcome.map(drop),
            }
        });
        deleted.await
    }

    /// Stops the loops up to a sequence number; doing it again changes nothing.
    pub(crate) async fn stop_loop(&self, sequence: u64) -> Result<()> {
        self.insist(|| async {
            let credentials = Some(self.credentials.clone());
            let request = proto::StopLoopRequest { credentials, sequence };
            self.tapes.clone().stop_loop(request).await.map(drop)
        })
        .await
    }

    /// Cancels the commands up to a sequence number; doing it again changes nothing.
    pub(crate) async fn cancel(&self, sequence: u64) -> Result<()> {
        self.insist(|| async {
            let credentials = Some(self.credentials.clone());
            let request = proto::CancelCommandsRequest { credentials, sequence };
            self.tapes.clone().cancel_commands(request).await.map(drop)
        })
        .await
    }

    /// Makes a call that may be made twice until it arrives.
    async fn insist<T, F: Future<Output = Result<T, Status>>>(
        &self,
        call: impl Fn() -> F,
    ) -> Result<T> {
        self.insist_for(self.patience, call).await
    }

    async fn insist_for<T, F: Future<Output = Result<T, Status>>>(
        &self,
        patience: Duration,
        call: impl Fn() -> F,
    ) -> Result<T> {
        let mut backoff = Backoff::new(patience);
        loop {
            match call().await {
                Err(status) if is_transient(&status) => match backoff.failed() {
                    Some(pause) => sleep(pause).await,
                    None => return Err(Error::from_status(&status)),
                },
                outcome => return outcome.map_err(|status| Error::from_status(&status)),
            }
        }
    }

    /// Sends a large tensor; doing it again replaces what was sent.
    pub(crate) async fn upload(&self, upload: u64, data: &TensorData) -> Result<()> {
        use upload_tensor_request::Kind;

        let header = UploadHeader {
            credentials: Some(self.credentials.clone()),
            upload,
            spec: Some(data.spec().into()),
        };
        let bytes = data.bytes().clone();
        let size = self.chunk_bytes;
        let chunks = (0..bytes.len()).step_by(size);
        let chunks = chunks.map(move |at| bytes.slice(at..bytes.len().min(at + size)));
        let kinds = std::iter::once(Kind::Header(header)).chain(chunks.map(Kind::Chunk));
        let requests = kinds.map(|kind| UploadTensorRequest { kind: Some(kind) });
        let response = self.tapes.clone().upload_tensor(stream::iter(requests)).await;
        response.map(drop).map_err(|status| Error::from_status(&status))
    }

    /// Fetches a large tensor that exists once a sequence number is applied.
    pub(crate) async fn download(&self, value: u64, after_sequence: u64) -> Result<TensorData> {
        let request = || DownloadTensorRequest {
            credentials: Some(self.credentials.clone()),
            value,
            after_sequence,
        };
        self.insist(|| self.download_once(request())).await?
    }

    async fn download_once(
        &self,
        request: DownloadTensorRequest,
    ) -> Result<Result<TensorData>, Status> {
        use download_tensor_response::Kind;

        let mut parts = self.tapes.clone().download_tensor(request).await?.into_inner();
        let mut spec: Option<Spec> = None;
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await? {
            match part.kind {
                Some(Kind::Spec(first)) => match Spec::try_from(first) {
                    Ok(first) => {
                        // Without room for all, what has come would be moved again and again. If there is none, it
                        // turns out when the elements come.
                        drop(bytes.try_reserve_exact(first.bytes().unwrap_or(0)));
                        spec = Some(first);
                    }
                    Err(error) => return Ok(Err(error)),
                },
                Some(Kind::Chunk(chunk)) => bytes.extend_from_slice(&chunk),
                None => {}
            }
        }
        let spec = spec.ok_or_else(|| Error::Protocol("a download came without a spec".to_owned()));
        Ok(spec.map(|spec| TensorData::from_bytes(spec, bytes.into())))
    }
}

/// An error with what led to it, in one line; the transport's own text says nothing but "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
