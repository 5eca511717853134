//! One attached stream of a session: its credit, and the answers that its client has not read yet.
//!
//! The worker puts answers in and never waits; the transport takes them out as fast as the client reads. What is unread is
//! counted in bytes, and a session whose stream has too much of it pauses.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::Stream;
use gradtape_proto::v1;
use tokio_util::sync::CancellationToken;

use super::{
    core::Barrier,
    error::ProtocolError,
    inbox::Session,
    stops::{Presence, Sender, Stops},
};
#[cfg(feature = "failpoints")]
use crate::failpoints::Point;

/// What an answer costs beside its replies, in bytes.
const ANSWER_OVERHEAD_BYTES: usize = 128;

/// What a stream is told.
#[derive(Debug)]
pub enum Delivery {
    /// It is attached.
    Welcome {
        /// Sequence number of the next new command.
        next_sequence: u64,
        /// First handle of its own range.
        handle_base: u64,
    },
    /// A batch is done; its reply may wait for a level.
    Batch(v1::BatchReply, Option<Barrier>),
    /// A loop reports.
    Progress(v1::LoopProgress),
    /// Something about the session.
    Notice(v1::Notice),
}

/// A stream that is or was attached to a session.
#[derive(Debug)]
pub struct Attachment {
    /// Its place among the session's attachments, from 1 on.
    pub epoch: u64,
    unapplied_commands: AtomicUsize,
    unapplied_bytes: AtomicUsize,
    max_unread_bytes: usize,
    /// Whether its client takes notices.
    notices: AtomicBool,
    outbox: Mutex<Outbox>,
    /// Ended when the stream ends with an error or is dropped.
    presence: Presence,
    /// Cancelled when the stream has ended or was dropped, so that nobody reads on from it.
    over: CancellationToken,
}

#[derive(Debug, Default)]
struct Outbox {
    queue: VecDeque<(Delivery, usize)>,
    bytes: usize,
    /// Set once: nothing follows. An error is delivered after what is queued.
    end: Option<Result<(), ProtocolError>>,
    /// The transport dropped its end.
    abandoned: bool,
    stalled_since: Option<Duration>,
    waker: Option<Waker>,
}

impl Attachment {
    /// A stream without unapplied commands and unread answers.
    pub fn new(epoch: u64, max_unread_bytes: usize, stops: &Arc<Stops>) -> Arc<Self> {
        Arc::new(Self {
            epoch,
            unapplied_commands: AtomicUsize::new(0),
            unapplied_bytes: AtomicUsize::new(0),
            max_unread_bytes,
            notices: AtomicBool::new(false),
            outbox: Mutex::default(),
            presence: Presence::new(stops),
            over: CancellationToken::new(),
        })
    }

    /// First handle of the range of 2^32 that this stream may use without asking anybody.
    pub fn handle_base(&self) -> u64 {
        self.epoch << 32
    }

    /// Takes credit for a batch, unless there is not enough. Only the stream's reader takes.
    pub fn take_credit(&self, cost: BatchCost, max: BatchCost) -> Result<(), ProtocolError> {
        let commands =
            self.unapplied_commands.load(Ordering::Relaxed).saturating_add(cost.commands);
        let bytes = self.unapplied_bytes.load(Ordering::Relaxed).saturating_add(cost.bytes);
        if commands > max.commands || bytes > max.bytes {
            return Err(max.exceeded());
        }
        self.unapplied_commands.fetch_add(cost.commands, Ordering::Relaxed);
        self.unapplied_bytes.fetch_add(cost.bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back the credit of a batch that is done.
    pub fn return_credit(&self, cost: BatchCost) {
        self.unapplied_commands.fetch_sub(cost.commands, Ordering::Relaxed);
        self.unapplied_bytes.fetch_sub(cost.bytes, Ordering::Relaxed);
    }

    /// Queues an answer. After the end it is dropped.
    pub fn deliver(&self, delivery: Delivery, reply_bytes: usize) {
        let mut outbox = self.lock();
        if outbox.abandoned || outbox.end.is_some() {
            return;
        }
        let bytes = reply_bytes + ANSWER_OVERHEAD_BYTES;
        outbox.bytes += bytes;
        outbox.queue.push_back((delivery, bytes));
        outbox.wake();
    }

    /// Ends the stream: with status OK, or with an error. The first end counts.
    pub fn end(&self, end: Result<(), ProtocolError>) {
        let mut outbox = self.lock();
        if outbox.end.is_none() {
            if end.is_err() {
                self.presence.end();
            }
            outbox.end = Some(end);
        }
        outbox.wake();
        self.over.cancel();
    }

    /// Ends the stream with an error and forgets what it has not read.
    pub fn abort(&self, error: ProtocolError) {
        let mut outbox = self.lock();
        outbox.queue.clear();
        outbox.bytes = 0;
        outbox.end = Some(Err(error));
        self.presence.end();
        outbox.wake();
        self.over.cancel();
    }

    /// Lets it get notices.
    pub fn take_notices(&self) {
        self.notices.store(true, Ordering::Relaxed);
    }

    /// Tells its client something, if it wants to hear it.
    pub fn notify(&self, notice: v1::Notice) {
        if self.notices.load(Ordering::Relaxed) {
            self.deliver(Delivery::Notice(notice), 0);
        }
    }

    /// Completes when the stream has ended or was dropped.
    pub fn over(&self) -> impl Future<Output = ()> + use<> {
        self.over.clone().cancelled_owned()
    }

    /// Who sends on it. Lost when it was dropped or ended with an error.
    pub fn sender(&self) -> &Sender {
        self.presence.sender()
    }

    /// Whether its session must pause until more is read.
    pub fn is_stalled(&self, now: impl FnOnce() -> Duration) -> bool {
        let mut outbox = self.lock();
        let stalled = outbox.bytes > self.max_unread_bytes;
        #[cfg(feature = "failpoints")]
        let stalled = stalled || outbox.bytes > 0 && Point::OutboxFull.fails();
        if !stalled {
            outbox.stalled_since = None;
        } else if outbox.stalled_since.is_none() {
            outbox.stalled_since = Some(now());
        }
        stalled
    }

    /// Since when its session has been pausing.
    pub fn stalled_since(&self) -> Option<Duration> {
        self.lock().stalled_since
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbox {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What a batch takes of a stream's credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchCost {
    /// Commands. An empty batch counts as one, so that it is not free.
    pub commands: usize,
    /// Bytes of its message.
    pub bytes: usize,
}

impl BatchCost {
    /// What is said of a batch that takes more than this.
    pub(super) fn exceeded(self) -> ProtocolError {
        ProtocolError::CreditExceeded { commands: self.commands, bytes: self.bytes }
    }
}

/// The transport's end of an attachment. Dropping it detaches the stream.
#[derive(Debug)]
pub struct Deliveries {
    attachment: Arc<Attachment>,
    session: Weak<Session>,
}

impl Deliveries {
    /// The answers of an attachment of a session.
    pub fn new(attachment: Arc<Attachment>, session: &Arc<Session>) -> Self {
        Self { attachment, session: Arc::downgrade(session) }
    }
}

impl Stream for Deliveries {
    type Item = Result<Delivery, ProtocolError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut outbox = self.attachment.lock();
        let Some((delivery, bytes)) = outbox.queue.pop_front() else {
            if let Some(end) = &mut outbox.end {
                return Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err));
            }
            failpoint!(AfterAck);
            outbox.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        outbox.bytes -= bytes;
        let resumed =
            outbox.stalled_since.is_some() && outbox.bytes <= self.attachment.max_unread_bytes;
        if resumed {
            outbox.stalled_since = None;
        }
        drop(outbox);
        if resumed && let Some(session) = self.session.upgrade() {
            session.wake();
        }
        Poll::Ready(Some(Ok(delivery)))
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        {
            let mut outbox = self.attachment.lock();
            outbox.abandoned = true;
            outbox.queue.clear();
            outbox.bytes = 0;
            outbox.stalled_since = None;
        }
        self.attachment.presence.end();
        self.attachment.over.cancel();
        if let Some(session) = self.session.upgrade() {
            session.detach(&self.attachment);
            session.wake();
        }
    }
}
