//! A session as the rest of the server holds it: jobs go in, each job carries the way for its answer.
//!
//! The inbox is bounded by its senders: a stream by its credit, unary calls by theirs, downloads by their number. Nothing
//! here executes a command; the worker takes the jobs out.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use gradtape_engine::{
    array::Tensor,
    compute::{Context, Crew, Turns},
    ledger::Ledger,
    session::Session as Engine,
    snapshot::{KeyedHandle, Snapshot},
};
use gradtape_proto::v1;
use tokio::sync::{oneshot, watch};

use super::{
    core::{Barrier, Run, SessionCore},
    error::ProtocolError,
    kept::Kept,
    outbox::{Attachment, BatchCost, Deliveries},
    registry::SessionId,
    stops::{Presence, Sender, Stops},
    turns::ReadyQueue,
    uploads::Uploads,
};
use crate::{
    clock::Clock,
    config::Limits,
    durable::{journal::Journal, recovery::Recovery},
    oversight::Oversight,
    principal::Principal,
};

/// A session.
#[derive(Debug)]
pub struct Session {
    id: SessionId,
    owner: Principal,
    pub(super) clock: Arc<dyn Clock>,
    ready: Arc<ReadyQueue>,
    pub(super) oversight: Arc<Oversight>,
    pub(super) limits: Limits,
    pub(super) ledger: Arc<Ledger>,
    /// The ledger's limit, which does not hold while the session comes back.
    pub(super) memory_bytes: u64,
    uploads: Arc<Uploads>,
    pub(super) journal: Option<Arc<Journal>>,
    /// Whether the session's state is there, or it is known that it cannot be.
    pub(super) ready_for_use: watch::Sender<bool>,
    pub(super) failed_to_come_back: AtomicBool,
    /// The last command of the log that it came back from.
    pub(super) rewound_to: OnceLock<u64>,
    inbox: Mutex<Inbox>,
    /// What the worker works on. Only the thread that the session is scheduled on locks it.
    pub(super) work: Mutex<Work>,
    /// Set when the session ends, for the worker to see between two commands.
    ended: AtomicBool,
    /// What stops the command that is being executed.
    stops: Arc<Stops>,
    next_sequence: AtomicU64,
    handles: AtomicU64,
    /// Loops up to this sequence number shall stop.
    stopped_loops: AtomicU64,
    /// It is in a loop that no call waits for: without a stream, its time runs all the same.
    pub(super) unattended: AtomicBool,
    /// The credit of unary calls, which together count as one more stream.
    calls: Arc<Attachment>,
}

/// What waits for the worker.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) jobs: VecDeque<Job>,
    /// Commands of the batches among the jobs.
    pub(super) backlog: usize,
    /// Whether the session is in the ready queue or on a thread.
    pub(super) scheduled: bool,
    pub(super) ended: Option<ProtocolError>,
    pub(super) attachment: Option<Arc<Attachment>>,
    /// Number of attachments so far.
    pub(super) epoch: u64,
    /// When the session was last used.
    pub(super) last_used: Duration,
    /// When it was last used as its stream was told that it will end.
    pub(super) warned: Option<Duration>,
}

/// What the worker is in the middle of.
#[derive(Debug)]
pub(super) struct Work {
    /// Gone when the session has ended.
    pub(super) core: Option<SessionCore>,
    /// Until the session has come back from its log.
    pub(super) recovery: Option<Box<Recovery>>,
    pub(super) current: Option<Current>,
    pub(super) waiting: Vec<Read>,
}

/// A batch that has begun.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) run: Run,
    pub(super) meta: BatchMeta,
    pub(super) started: Duration,
}

/// A batch beside its content.
#[derive(Debug)]
pub(super) struct BatchMeta {
    pub(super) cost: BatchCost,
    pub(super) arrived: Duration,
    pub(super) sender: Sender,
    pub(super) origin: Origin,
}

/// Something for the worker to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Execute commands.
    Batch { batch: v1::Batch, meta: BatchMeta },
    /// Tell a stream where the session stands.
    Welcome { attachment: Arc<Attachment> },
    /// End a stream, now that everything it sent is done.
    Close { attachment: Arc<Attachment>, end: Result<(), ProtocolError> },
    /// Read a value.
    Read(Read),
    /// Leave memory, if nothing else is to be done.
    Hibernate,
    /// Nothing, but for that the session has to be there.
    Wake,
}

/// Who sent a batch and gets the answer.
#[derive(Debug)]
pub(super) enum Origin {
    /// A stream.
    Stream(Arc<Attachment>),
    /// A unary call.
    Call(oneshot::Sender<Result<Answered, ProtocolError>>),
}

/// The answer to a batch, and the level that it waits for.
pub type Answered = (v1::BatchReply, Option<Barrier>);

/// A wish to read something when a command has been applied.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) after_sequence: u64,
    pub(super) wanted: Wanted,
}

/// What to read, and the way for the answer.
#[derive(Debug)]
pub(super) enum Wanted {
    /// A value or variable.
    Value { handle: u64, answer: Answer<Tensor> },
    /// The state of these things or, without any, of the session; and the last command that it shows.
    Snapshot { entries: Vec<KeyedHandle>, answer: Answer<(Snapshot, u64)> },
}

/// Takes the answer to a read.
pub(super) type Answer<T> = oneshot::Sender<Result<T, ProtocolError>>;

/// What the worker does next.
#[derive(Debug)]
pub(super) enum Next {
    /// A job.
    Job(Job),
    /// Nothing: the session is no longer scheduled.
    Nothing,
    /// Take the state down.
    Ended(ProtocolError),
}

/// Where a session stands.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// Sequence number of the next new command.
    pub next_sequence: u64,
    /// Whether a stream is attached.
    pub attached: bool,
    /// Bytes of its memory that are in use.
    pub memory_bytes: u64,
    /// Bound handles.
    pub handles: u64,
    /// Last durable command, if it has a log.
    pub durable_sequence: Option<u64>,
}

// === impl Session: for the services ===

impl Session {
    /// An empty session.
    pub fn new(
        (id, owner): (SessionId, Principal),
        ledger: Arc<Ledger>,
        limits: &Limits,
        clock: Arc<dyn Clock>,
        ready: Arc<ReadyQueue>,
        oversight: Arc<Oversight>,
        kept: Kept,
    ) -> Arc<Self> {
        let uploads = Uploads::new(limits.max_uploads);
        let engine = Engine::new(Arc::clone(&ledger));
        let mut core = SessionCore::new(engine, Arc::clone(&uploads), limits);
        let (journal, recovery, epoch) = match kept {
            Kept::Not => (None, None, 0),
            Kept::New(journal) => {
                core.tell(Arc::clone(&journal));
                uploads.tell(Arc::clone(&journal));
                (Some(journal), None, 0)
            }
            Kept::Again(journal, recovery, epoch) => (Some(journal), Some(recovery), epoch),
        };
        let (ready_for_use, _) = watch::channel(recovery.is_none());
        let stops = Arc::<Stops>::default();
        let inbox = Inbox { last_used: clock.now(), epoch, ..Inbox::default() };
        let work = Work { core: Some(core), recovery, current: None, waiting: Vec::new() };
        let session = Arc::new(Self {
            id,
            owner,
            clock,
            ready,
            oversight,
            limits: limits.clone(),
            memory_bytes: ledger.limit(),
            ledger,
            uploads,
            journal,
            ready_for_use,
            failed_to_come_back: AtomicBool::new(false),
            rewound_to: OnceLock::new(),
            inbox: Mutex::new(inbox),
            work: Mutex::new(work),
            ended: AtomicBool::new(false),
            calls: Attachment::new(0, usize::MAX, &stops),
            stops,
            next_sequence: AtomicU64::new(1),
            handles: AtomicU64::new(0),
            stopped_loops: AtomicU64::new(0),
            unattended: AtomicBool::new(false),
        });
        if let Some(journal) = &session.journal {
            journal.belongs_to(&session);
        }
        session
    }

    /// Its public identifier.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Whose it is.
    pub fn owner(&self) -> &Principal {
        &self.owner
    }

    /// Its memory.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Its uploads.
    pub fn uploads(&self) -> &Arc<Uploads> {
        &self.uploads
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        Position {
            next_sequence: self.next_sequence.load(Ordering::Acquire),
            attached: self.lock().attachment.is_some(),
            memory_bytes: self.ledger.used(),
            handles: self.handles.load(Ordering::Relaxed),
            durable_sequence: self.journal.as_ref().map(|journal| journal.progress().durable),
        }
    }

    /// Attaches a stream; an older one ends with SUPERSEDED, and what it sent and is not executed is skipped. The first
    /// delivery is a welcome.
    pub fn attach(self: &Arc<Self>) -> Result<(Arc<Attachment>, Deliveries), ProtocolError> {
        failpoint!(Attach);
        let (attachment, older) = {
            let mut inbox = self.lock();
            inbox.epoch += 1;
            let limit = self.limits.max_unread_bytes;
            let attachment = Attachment::new(inbox.epoch, limit, &self.stops);
            let welcome = Job::Welcome { attachment: Arc::clone(&attachment) };
            self.push(&mut inbox, welcome)?;
            let older = inbox.attachment.replace(Arc::clone(&attachment));
            (attachment, older)
        };
        if let Some(older) = older {
            older.end(Err(ProtocolError::Superseded));
        }
        let deliveries = Deliveries::new(Arc::clone(&attachment), self);
        Ok((attachment, deliveries))
    }

    /// Queues a batch of a stream.
    pub fn submit(
        self: &Arc<Self>,
        attachment: &Arc<Attachment>,
        batch: v1::Batch,
    ) -> Result<(), ProtocolError> {
        let (cost, credit) = (cost(&batch), self.credit());
        failpoint!(InboxFull, Err(credit.exceeded()));
        attachment.take_credit(cost, credit)?;
        let (origin, sender) =
            (Origin::Stream(Arc::clone(attachment)), attachment.sender().clone());
        let meta = BatchMeta { cost, arrived: self.clock.now(), sender, origin };
        self.push(&mut self.lock(), Job::Batch { batch, meta })
    }

    /// Ends a stream after everything that it sent.
    pub fn close(self: &Arc<Self>, attachment: &Arc<Attachment>, end: Result<(), ProtocolError>) {
        if self.lock().jobs.is_empty() && !*self.ready_for_use.borrow() {
            // It does not come back only to see a stream off, which sent nothing since it left memory.
            attachment.end(end);
            return self.detach(attachment);
        }
        let job = Job::Close { attachment: Arc::clone(attachment), end };
        if let Err(ended) = self.push(&mut self.lock(), job) {
            attachment.end(Err(ended));
        }
    }

    /// Executes a batch and waits for it. If nobody waits any more, the rest of it is not executed.
    pub async fn execute(
        self: &Arc<Self>,
        batch: v1::Batch,
    ) -> Result<v1::BatchReply, ProtocolError> {
        let (answer, receiver) = oneshot::channel();
        let presence = Presence::new(&self.stops);
        let cost = cost(&batch);
        self.calls.take_credit(cost, self.credit())?;
        let (origin, sender) = (Origin::Call(answer), presence.sender().clone());
        let meta = BatchMeta { cost, arrived: self.clock.now(), sender, origin };
        self.push(&mut self.lock(), Job::Batch { batch, meta })?;
        let answered = receiver.await.unwrap_or(Err(ProtocolError::SessionEnded))?;
        self.complete(answered).await
    }

    /// Reads a value once a command has been applied.
    pub async fn read(
        self: &Arc<Self>,
        handle: u64,
        after_sequence: u64,
    ) -> Result<Tensor, ProtocolError> {
        self.ask(after_sequence, |answer| Wanted::Value { handle, answer }).await
    }

    /// The state of these things or, without any, of all, once a command has been applied; and the number of the last command
    /// whose effect it shows.
    pub async fn snapshot(
        self: &Arc<Self>,
        entries: Vec<KeyedHandle>,
        after_sequence: u64,
    ) -> Result<(Snapshot, u64), ProtocolError> {
        self.ask(after_sequence, |answer| Wanted::Snapshot { entries, answer }).await
    }

    async fn ask<T>(
        self: &Arc<Self>,
        after_sequence: u64,
        wanted: impl FnOnce(Answer<T>) -> Wanted,
    ) -> Result<T, ProtocolError> {
        let (answer, receiver) = oneshot::channel();
        let read = Read { after_sequence, wanted: wanted(answer) };
        self.push(&mut self.lock(), Job::Read(read))?;
        match tokio::time::timeout(self.limits.download_wait, receiver).await {
            Ok(answer) => answer.unwrap_or(Err(ProtocolError::SessionEnded)),
            Err(_) => Err(ProtocolError::NotApplied { sequence: after_sequence }),
        }
    }

    /// Stops the loops up to a sequence number.
    pub fn stop_loops(&self, sequence: u64) {
        self.stopped_loops.fetch_max(sequence, Ordering::Relaxed);
    }

    /// Cancels the commands up to a sequence number that are not done.
    pub fn cancel(&self, sequence: u64) {
        failpoint!(Cancel, return);
        self.stops.cancel(sequence);
    }

    /// Ends the session. Its streams and calls end with `why`; its state is freed by a worker.
    pub fn end(self: &Arc<Self>, why: ProtocolError) {
        let mut inbox = self.lock();
        inbox.ended.get_or_insert(why);
        self.ended.store(true, Ordering::Relaxed);
        self.stops.end();
        self.schedule(&mut inbox);
    }

    /// Ends the attached stream after what it has sent, because the server stops.
    pub fn drain(self: &Arc<Self>) {
        let attachment = self.lock().attachment.clone();
        if let Some(attachment) = attachment {
            self.close(&attachment, Err(ProtocolError::Draining));
        }
    }

    /// Detaches a stream, unless a newer one has taken its place.
    pub fn detach(&self, attachment: &Arc<Attachment>) {
        let mut inbox = self.lock();
        if inbox.attachment.as_ref().is_some_and(|attached| Arc::ptr_eq(attached, attachment)) {
            inbox.attachment = None;
            inbox.last_used = self.clock.now();
        }
    }

    /// Goes on after a pause, if there is something to do.
    pub fn wake(self: &Arc<Self>) {
        let mut inbox = self.lock();
        if !inbox.jobs.is_empty() {
            self.schedule(&mut inbox);
        }
    }

    fn credit(&self) -> BatchCost {
        BatchCost {
            commands: self.limits.max_unapplied_commands,
            bytes: self.limits.max_unapplied_bytes,
        }
    }

    fn push(self: &Arc<Self>, inbox: &mut Inbox, job: Job) -> Result<(), ProtocolError> {
        if let Some(ended) = &inbox.ended {
            return Err(ended.clone());
        }
        if let Job::Batch { meta, .. } = &job {
            inbox.backlog += meta.cost.commands;
        }
        inbox.last_used = self.clock.now();
        inbox.jobs.push_back(job);
        self.schedule(inbox);
        Ok(())
    }

    pub(super) fn schedule(self: &Arc<Self>, inbox: &mut Inbox) {
        if !inbox.scheduled {
            inbox.scheduled = true;
            self.ready.push(Arc::clone(self));
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Session: for the worker ===

impl Session {
    /// What its commands compute with.
    pub(super) fn context(&self, crew: &Arc<Crew>, turns: Arc<dyn Turns>) -> Context {
        let cancel = self.stops.flag().clone();
        Context { crew: Arc::clone(crew), cancel, turns: Some(turns) }
    }

    /// The next job, unless the session has ended or must pause. With nothing to do the session leaves the schedule, under
    /// the same lock under which jobs arrive, so that no job is overlooked.
    pub(super) fn next(&self) -> Next {
        let mut inbox = self.lock();
        if let Some(ended) = &inbox.ended {
            return Next::Ended(ended.clone());
        }
        let stalled = |attached: &Arc<Attachment>| attached.is_stalled(|| self.clock.now());
        let behind = self.journal.as_ref().is_some_and(|journal| journal.is_behind());
        if behind || inbox.attachment.as_ref().is_some_and(stalled) {
            inbox.scheduled = false;
            return Next::Nothing;
        }
        let Some(job) = inbox.jobs.pop_front() else {
            inbox.scheduled = false;
            // A burst's room is not kept by an idle session.
            inbox.jobs.shrink_to(8);
            return Next::Nothing;
        };
        if let Job::Batch { meta, .. } = &job {
            inbox.backlog -= meta.cost.commands;
        }
        Next::Job(job)
    }

    /// A stream that has attached while a loop is being executed, so that it need not wait for the end: before it, nothing
    /// may wait but what a lost one sent.
    pub(super) fn next_welcome(&self) -> Option<Arc<Attachment>> {
        let mut inbox = self.lock();
        let lost = |job: &&Job| matches!(job, Job::Batch { meta, .. } if meta.sender.is_lost());
        let place = inbox.jobs.iter().take_while(lost).count();
        if !matches!(inbox.jobs.get(place), Some(Job::Welcome { .. })) {
            return None;
        }
        match inbox.jobs.remove(place) {
            Some(Job::Welcome { attachment }) => Some(attachment),
            _ => None,
        }
    }

    /// What stops its commands.
    pub(super) fn stops(&self) -> &Stops {
        &self.stops
    }

    /// The stream that is attached.
    pub(super) fn attached(&self) -> Option<Arc<Attachment>> {
        self.lock().attachment.clone()
    }

    /// Notes whether it is in a loop that no call waits for.
    pub(super) fn set_unattended(&self, unattended: bool) {
        self.unattended.store(unattended, Ordering::Relaxed);
    }

    /// Whether a loop shall stop.
    pub(super) fn stops_loop(&self, sequence: u64) -> bool {
        sequence <= self.stopped_loops.load(Ordering::Relaxed)
    }

    /// Takes out everything that waits, because the session has ended, and the stream.
    pub(super) fn take_all(&self) -> (VecDeque<Job>, Option<Arc<Attachment>>) {
        let mut inbox = self.lock();
        inbox.backlog = 0;
        inbox.scheduled = false;
        (std::mem::take(&mut inbox.jobs), inbox.attachment.take())
    }

    /// Whether the session has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Commands that wait.
    pub(super) fn backlog(&self) -> usize {
        self.lock().backlog
    }

    /// Lets others see where the session stands.
    pub(super) fn publish(&self, next_sequence: u64, handles: usize) {
        self.handles.store(handles as u64, Ordering::Relaxed);
        self.next_sequence.store(next_sequence, Ordering::Release);
    }

    /// Where its work is counted and its end is noted.
    pub(crate) fn oversight(&self) -> &Oversight {
        &self.oversight
    }

    /// The limits that hold for it.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Gives back what a batch took.
    pub(super) fn return_credit(&self, meta: &BatchMeta) {
        match &meta.origin {
            Origin::Stream(attachment) => attachment.return_credit(meta.cost),
            Origin::Call(_) => self.calls.return_credit(meta.cost),
        }
    }
}

fn cost(batch: &v1::Batch) -> BatchCost {
    use prost::Message;
    BatchCost { commands: batch.commands.len().max(1), bytes: batch.encoded_len() }
}
