//! The sending half of one connection: takes batches out of the queue when the connection has room for them.
//!
//! Batches are formed at the last moment, so whatever was enqueued while the connection was busy goes out in one.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, future, stream};
use gradtape_proto::v1::{Hello, StreamRequest, stream_request::Kind};
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};

use crate::{
    error::Error,
    queue::{Queue, Step},
    remote::Remote,
};

/// How long a few commands wait for more before they go out: short for a person, long for a program that enqueues.
const LINGER: Duration = Duration::from_millis(1);

/// What one connection sends from.
#[derive(Debug)]
pub(crate) struct Link {
    queue: Arc<Queue>,
    remote: Remote,
    /// Also identifies the connection: the queue gives the next one another.
    wake: Arc<Notify>,
}

// === impl Link ===

impl Link {
    pub(crate) fn new(queue: Arc<Queue>, remote: Remote, wake: Arc<Notify>) -> Self {
        Self { queue, remote, wake }
    }

    /// The next message; None when the connection has nothing more to send.
    async fn next(&mut self) -> Option<StreamRequest> {
        let mut hurry = false;
        loop {
            match self.queue.step(&self.wake, hurry) {
                Step::Send(batch) => return Some(StreamRequest { kind: Some(Kind::Batch(batch)) }),
                Step::Upload { sequence, upload, data } => {
                    match self.remote.upload(upload, &data).await {
                        // The stream's end makes the worker connect again, and the upload starts over.
                        Err(Error::Transport(_)) => return None,
                        outcome => self.queue.uploaded(sequence, outcome),
                    }
                    hurry = true;
                }
                Step::Wait => {
                    self.wake.notified().await;
                    hurry = false;
                }
                Step::Linger => {
                    // Either way the time is up: woken early means that there is enough.
                    let _ = timeout(LINGER, self.wake.notified()).await;
                    hurry = true;
                }
                Step::End => return None,
            }
        }
    }
}

/// The requests of a stream: the hello at once, then, when the welcome has opened the link, batch after batch.
pub(crate) fn requests(
    hello: Hello,
    opened: oneshot::Receiver<Link>,
) -> impl Stream<Item = StreamRequest> + Send + 'static {
    let hello = StreamRequest { kind: Some(Kind::Hello(hello)) };
    let batches =
        stream::once(opened).filter_map(|link| future::ready(link.ok())).flat_map(|link| {
            stream::unfold(
                link,
                |mut link| async move { link.next().await.map(|next| (next, link)) },
            )
        });
    stream::once(future::ready(hello)).chain(batches)
}
