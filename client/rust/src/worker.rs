//! The task that owns a session's connection: attaches, takes replies in, and attaches again when it breaks.

use std::{sync::Arc, time::Duration};

use gradtape_proto::v1::{Hello, Notice, StreamResponse, Welcome, notice, stream_response::Kind};
use tokio::{
    sync::{oneshot, watch},
    time::{sleep, timeout},
};
use tonic::{Status, Streaming};

use crate::{
    Error, Result,
    backoff::Backoff,
    error::is_transient,
    limits::Limits,
    link::{self, Link},
    queue::Queue,
    remote::Remote,
};

/// A server that takes a hello and says nothing is as good as away.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// What becomes of the session on the server when its work is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Delete,
    Keep,
}

/// A stream that has said hello and was welcomed, but sends nothing yet.
pub(crate) struct Attached {
    pub(crate) welcome: Welcome,
    open: oneshot::Sender<Link>,
    replies: Streaming<StreamResponse>,
}

/// How a connection ended.
enum End {
    /// Everything is done.
    Done,
    /// Try again.
    Lost(Status),
    /// Trying again would not help.
    Fatal(Error),
}

/// Serves the queue until it is done or lost.
pub(crate) struct Worker {
    pub(crate) queue: Arc<Queue>,
    pub(crate) remote: Remote,
    /// Read when the work is done.
    pub(crate) afterwards: watch::Receiver<Afterwards>,
}

/// Says hello and waits for the welcome.
pub(crate) async fn attach(remote: &Remote) -> Result<Attached, Status> {
    let (open, opened) = oneshot::channel();
    let hello = Hello { credentials: Some(remote.credentials.clone()), notices: true };
    let mut tapes = remote.tapes.clone();
    let welcome = async {
        let mut replies = tapes.stream(link::requests(hello, opened)).await?.into_inner();
        match replies.message().await?.and_then(|reply| reply.kind) {
            Some(Kind::Welcome(welcome)) => Ok(Attached { welcome, open, replies }),
            // Ending right after the hello is what a server does that shuts down.
            Some(Kind::Batch(_) | Kind::Progress(_) | Kind::Notice(_)) | None => {
                Err(Status::unavailable("no welcome"))
            }
        }
    };
    timeout(WELCOME_TIMEOUT, welcome)
        .await
        .unwrap_or_else(|_| Err(Status::unavailable("the server does not answer a hello")))
}

/// Tells whoever reads the log what the server says of the session.
fn report(notice: Notice) {
    let remaining = Duration::from_millis(notice.remaining_ms);
    match notice.kind() {
        notice::Kind::Expires => {
            tracing::warn!(?remaining, "the server will end the session unless it is used");
        }
        notice::Kind::Parked => tracing::debug!("the server keeps the session on its disk"),
        notice::Kind::Unspecified => {}
    }
}

// === impl Worker ===

impl Worker {
    /// Runs until the session ends on this side.
    pub(crate) async fn run(self, attached: Attached) {
        let outcome = Box::pin(self.serve_all(attached)).await;
        let delete = *self.afterwards.borrow() == Afterwards::Delete;
        // A session that was lost is not this client's to delete: another one may have taken it over.
        if outcome.is_ok()
            && delete
            && let Err(error) = self.remote.delete().await
        {
            tracing::debug!(%error, "the server may keep the session until its time is over");
        }
        self.queue.end(&outcome.err().unwrap_or(Error::Closed));
    }

    async fn serve_all(&self, first: Attached) -> Result<()> {
        let mut backoff = Backoff::new(self.remote.patience);
        let mut next = Ok(first);
        loop {
            let end = match next {
                Ok(attached) => self.serve(attached, &mut backoff).await,
                Err(status) => End::of(status),
            };
            let status = match end {
                End::Done => return Ok(()),
                End::Fatal(error) => return Err(error),
                End::Lost(status) => status,
            };
            let Some(pause) = backoff.failed() else {
                return Err(Error::from_status(&status));
            };
            tracing::info!(%status, ?pause, "connection lost, attaching again");
            sleep(pause).await;
            next = attach(&self.remote).await;
        }
    }

    async fn serve(&self, attached: Attached, backoff: &mut Backoff) -> End {
        let Attached { welcome, open, mut replies } = attached;
        let wake = match self.queue.attach(Limits::new(welcome.server.clone()), &welcome) {
            Ok(wake) => wake,
            Err(error) => return End::Fatal(error),
        };
        // A link that cannot be delivered belongs to a connection that is gone; its replies will say so.
        let _ = open.send(Link::new(Arc::clone(&self.queue), self.remote.clone(), wake));
        loop {
            match replies.message().await {
                Ok(Some(StreamResponse { kind: Some(Kind::Batch(reply)) })) => {
                    backoff.succeeded();
                    if let Err(error) = self.queue.applied(reply) {
                        return End::Fatal(error);
                    }
                }
                Ok(Some(StreamResponse { kind: Some(Kind::Progress(progress)) })) => {
                    backoff.succeeded();
                    self.queue.progress(progress);
                }
                Ok(Some(StreamResponse { kind: Some(Kind::Notice(notice)) })) => report(notice),
                Ok(Some(StreamResponse { kind: Some(Kind::Welcome(_)) | None })) => {
                    return End::Fatal(Error::Protocol("a second welcome".to_owned()));
                }
                Ok(None) | Err(_) if self.queue.is_done() => return End::Done,
                Ok(None) => return End::Lost(Status::unavailable("the stream ended")),
                Err(status) => return End::of(status),
            }
        }
    }
}

// === impl End ===

impl End {
    fn of(status: Status) -> Self {
        if is_transient(&status) {
            Self::Lost(status)
        } else {
            Self::Fatal(Error::from_status(&status))
        }
    }
}
