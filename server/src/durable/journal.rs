//! What a session has done and its log does not hold yet, and who writes it.
//!
//! A session's [`Journal`] takes entries and never waits. The thread (or task) of [`Journals`], in `writer`, takes what has gathered in all of them,
//! writes one record to each log, waits for the disk once, and tells who waits. When nobody waits it lets entries gather for a
//! while, since each such round costs the disk the same whatever it holds.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use prost::{Message, encoding};
use tokio::sync::{oneshot, watch};

use super::{
    entry::{Entry, Opened, Staged},
    record::{Kind, Tail},
    store::{Store, Write},
    writer::Shared,
};
use crate::{
    config::Durability,
    hands::Hands,
    ids,
    metrics::Metrics,
    session::{error::ProtocolError, inbox::Session, registry::SessionId},
};

/// The journals of a server, and the thread or task that writes them. Dropping it writes what is left.
#[derive(Debug)]
pub struct Journals {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What a session tells its log.
#[derive(Debug)]
pub struct Journal {
    id: SessionId,
    shared: Arc<Shared>,
    log: Mutex<Log>,
    progress: watch::Sender<Progress>,
    /// Pauses while too much is not written.
    session: OnceLock<Weak<Session>>,
}

#[derive(Debug, Default)]
struct Log {
    /// Unknown until the log was read.
    tail: Option<Tail>,
    records: VecDeque<Pending>,
    /// Bytes of the records.
    bytes: usize,
    acknowledged: u64,
    /// Whether it is among those that wait for the thread.
    queued: bool,
    removed: bool,
}

/// A record that is not written yet.
#[derive(Debug)]
struct Pending {
    kind: Kind,
    /// Next sequence number before and after it.
    sequence: u64,
    next: u64,
    content: Content,
    done: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Content {
    /// More commands may be added.
    Open(Vec<u8>),
    Closed(Vec<Bytes>),
}

/// How far a log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Every command up to this sequence number is durable.
    pub durable: u64,
    /// How the store is.
    pub health: Health,
}

/// How a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It takes records.
    #[default]
    Well,
    /// It has no room at present.
    Full,
    /// It failed, and with it the server.
    Broken,
}

// === impl Journals ===

impl Journals {
    /// Starts the thread or task.
    pub fn start(
        store: Arc<dyn Store>,
        config: &Durability,
        metrics: &Arc<Metrics>,
        hands: &Hands,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(store, config, metrics));
        let writer = Arc::clone(&shared);
        let thread = match hands {
            Hands::Threads(_) => {
                let thread = thread::Builder::new().name("journal".to_owned());
                Some(thread.spawn(move || writer.run())?)
            }
            Hands::Task(pace) => {
                tokio::spawn(writer.run_as_task(Arc::clone(pace)));
                None
            }
        };
        Ok(Self { shared, thread: Mutex::new(thread) })
    }

    /// Where the logs are.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// The journal of a new session, and a way to learn that its log is there.
    pub fn create(&self, id: SessionId, opened: &Opened) -> (Arc<Journal>, oneshot::Receiver<()>) {
        let mark = u64::from_le_bytes(ids::random());
        let journal = self.journal(id, Some(Tail::new(mark)), 0);
        let written = journal.push(Kind::Opened, vec![opened.encode_to_vec().into()]);
        journal.hurry();
        (journal, written)
    }

    /// The journal of a session whose log has to be read first.
    pub fn reopen(&self, id: SessionId) -> Arc<Journal> {
        self.journal(id, None, 0)
    }

    /// Completes when the store has failed.
    pub fn broken(&self) -> impl Future<Output = ()> + use<> {
        self.shared.broken.clone().cancelled_owned()
    }

    /// Writes what is left and ends. Blocks.
    pub fn finish(&self) {
        self.shared.lock().stopped = true;
        self.shared.wake();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return self.shared.run() };
        if thread.join().is_err() {
            tracing::error!("the thread that writes logs panicked");
        }
    }

    fn journal(&self, id: SessionId, tail: Option<Tail>, durable: u64) -> Arc<Journal> {
        let (progress, _) = watch::channel(Progress { durable, health: Health::Well });
        let log = Mutex::new(Log { tail, ..Log::default() });
        let shared = Arc::clone(&self.shared);
        Arc::new(Journal { id, shared, log, progress, session: OnceLock::new() })
    }
}

impl Drop for Journals {
    fn drop(&mut self) {
        self.finish();
    }
}

// === impl Journal ===

impl Journal {
    /// Lets a session be woken when it may go on.
    pub fn belongs_to(&self, session: &Arc<Session>) {
        // It is said once, when the session is made.
        let _ = self.session.set(Arc::downgrade(session));
    }

    /// Goes on at the end of a log that was read.
    pub fn resume(&self, tail: Tail, durable: u64) {
        self.lock().tail = Some(tail);
        self.progress.send_modify(|progress| progress.durable = durable);
    }

    /// Takes note of a command that was executed.
    pub fn append(self: &Arc<Self>, sequence: u64, entry: &Entry) {
        let mut log = self.lock();
        if log.removed {
            return;
        }
        let before = log.bytes;
        if !matches!(log.records.back(), Some(Pending { content: Content::Open(_), .. })) {
            log.records.push_back(Pending {
                kind: Kind::Group,
                sequence,
                next: sequence,
                content: Content::Open(Vec::new()),
                done: None,
            });
        }
        if let Some(Pending { next, content: Content::Open(bytes), .. }) = log.records.back_mut() {
            let start = bytes.len();
            encoding::message::encode(1, entry, bytes);
            *next = sequence + 1;
            let added = bytes.len() - start;
            log.bytes += added;
        }
        let hurry = before <= self.most() / 2 && log.bytes > self.most() / 2;
        self.queue(log);
        if hurry {
            self.hurry();
        }
    }

    /// Takes note of what the client has seen.
    pub fn acknowledge(&self, sequence: u64) {
        self.lock().acknowledged = sequence;
    }

    /// Takes a staged tensor or checkpoint, whose bytes are shared until it is durable.
    pub fn stage(self: &Arc<Self>, staged: &Staged, parts: Vec<Bytes>) -> oneshot::Receiver<()> {
        let head = Bytes::from(staged.encode_length_delimited_to_vec());
        let written = self.push(Kind::Staged, std::iter::once(head).chain(parts).collect());
        self.hurry();
        written
    }

    /// Waits until something was written.
    pub async fn written(&self, written: oneshot::Receiver<()>) -> Result<(), ProtocolError> {
        let mut progress = self.progress.subscribe();
        let unwell = progress.wait_for(|progress| progress.health != Health::Well);
        tokio::select! {
            biased;
            done = written => done.map_err(|_| ProtocolError::SessionStoreFailed),
            unwell = unwell => match unwell.map(|progress| progress.health) {
                Ok(Health::Full) => Err(gradtape_engine::error::Error::StoreFull.into()),
                Ok(Health::Well | Health::Broken) | Err(_) => Err(ProtocolError::SessionStoreFailed),
            },
        }
    }

    /// Waits until commands are durable, the store has no room, or the time is over.
    pub async fn reach(&self, sequence: u64, timeout: Duration) -> Progress {
        let mut progress = self.progress.subscribe();
        if progress.borrow().durable < sequence {
            self.hurry();
        }
        let reached =
            progress.wait_for(|now| now.durable >= sequence || now.health != Health::Well);
        // Either way what was reached is told.
        let _ = tokio::time::timeout(timeout, reached).await;
        self.progress()
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Whether its session must pause, because too much is not written.
    pub fn is_behind(&self) -> bool {
        self.lock().bytes > self.most()
    }

    /// Removes the log: the session has ended.
    pub fn remove(self: &Arc<Self>) {
        let mut log = self.lock();
        log.removed = true;
        // Once written, a record that is being written finds that it is no longer there.
        log.records.clear();
        log.bytes = 0;
        self.queue(log);
    }

    fn push(self: &Arc<Self>, kind: Kind, parts: Vec<Bytes>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut log = self.lock();
        if log.removed {
            return receiver;
        }
        // It has its place behind the commands before it.
        let sequence = log.records.back().map_or(0, |record| record.next);
        log.bytes += parts.iter().map(Bytes::len).sum::<usize>();
        log.records.push_back(Pending {
            kind,
            sequence,
            next: sequence,
            content: Content::Closed(parts),
            done: Some(sender),
        });
        self.queue(log);
        receiver
    }

    fn queue(self: &Arc<Self>, mut log: MutexGuard<'_, Log>) {
        if !mem::replace(&mut log.queued, true) {
            drop(log);
            self.shared.lock().waiting.push(Arc::clone(self));
            self.shared.wake();
        }
    }

    /// Whose it is.
    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    /// Tells how the store is.
    pub(super) fn say(self: &Arc<Self>, health: Health) {
        self.progress.send_modify(|progress| progress.health = health);
    }

    /// There was no room for its record, which is to be written again.
    pub(super) fn waits_for_room(self: &Arc<Self>) {
        self.say(Health::Full);
        self.queue(self.lock());
    }

    /// Its oldest record is being written. Says whether the log is to be removed instead.
    pub(super) fn leaves_the_queue(&self) -> bool {
        let mut log = self.lock();
        log.queued = false;
        log.removed
    }

    fn hurry(&self) {
        self.shared.lock().urgent = true;
        self.shared.wake();
    }

    fn most(&self) -> usize {
        self.shared.config.max_unwritten_bytes
    }

    /// The bytes of the oldest record, and the tail after it.
    pub(super) fn oldest(&self) -> Option<(Write, Tail)> {
        let epoch = self.shared.store.epoch();
        let mut log = self.lock();
        let acknowledged = log.acknowledged;
        let tail = log.tail.clone()?;
        let Pending { kind, sequence, content, .. } = log.records.front_mut()?;
        if let Content::Open(bytes) = content {
            let mut bytes = mem::take(bytes);
            encoding::uint64::encode(2, &acknowledged, &mut bytes);
            *content = Content::Closed(vec![bytes.into()]);
        }
        let Content::Closed(content) = content else { return None };
        let (parts, next) = tail.record(*kind, epoch, *sequence, content);
        Some((Write { id: self.id, at: tail.length, parts }, next))
    }

    /// The oldest record is durable.
    pub(super) fn wrote(self: &Arc<Self>, tail: Tail) {
        let mut log = self.lock();
        log.tail = Some(tail);
        let was_behind = log.bytes > self.most();
        let Some(Pending { next, content, done, .. }) = log.records.pop_front() else {
            return;
        };
        if let Content::Closed(parts) = &content {
            log.bytes = log.bytes.saturating_sub(parts.iter().map(Bytes::len).sum());
        }
        // Whoever shared the bytes has them alone when it is told.
        drop(content);
        let is_behind = log.bytes > self.most();
        if log.records.is_empty() {
            drop(log);
        } else {
            self.queue(log);
        }
        self.progress.send_modify(|progress| {
            progress.durable = progress.durable.max(next.saturating_sub(1));
            progress.health = Health::Well;
        });
        if let Some(done) = done {
            // Who waited for it may be gone.
            let _ = done.send(());
        }
        if was_behind
            && !is_behind
            && let Some(session) = self.session.get().and_then(Weak::upgrade)
        {
            session.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
