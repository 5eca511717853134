//! What a session has done and its log does not hold yet, and who writes it.
//!
//! A session's [`Journal`] takes entries and never waits. The thread (or task) of [`Journals`], in `writer`, takes what has
//! gathered in all of them, writes one record to each log, waits for the disk once, and tells who waits. When nobody waits
//! it lets entries gather for a while, since each such round costs the disk the same whatever it holds.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak, atomic::AtomicBool, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use prost::{Message, encoding};
use tokio::sync::{oneshot, watch};

use super::{
    entry::{Entry, Opened, Staged},
    portable::{Portable, copies::Copies},
    record::{Kind, Tail},
    snapshots::Growth,
    state::Captured,
    store::{Store, Write},
    writer::{Shared, Shortener},
};
use crate::{
    config::Durability,
    hands::Hands,
    ids,
    metrics::Metrics,
    session::{error::ProtocolError, inbox::Session, registry::SessionId},
};

/// The journals of a server, and who writes them: a thread that appends to logs, and one that begins long ones anew, which
/// takes longer; or a task. Dropping it writes what is left.
#[derive(Debug)]
pub struct Journals {
    pub(super) shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) portable: Option<Arc<Portable>>,
}

/// What a session tells its log.
#[derive(Debug)]
pub struct Journal {
    pub(super) id: SessionId,
    pub(super) opened: Opened,
    pub(super) shared: Arc<Shared>,
    log: Mutex<Log>,
    pub(super) progress: watch::Sender<Progress>,
    /// Whether its log is so long that it should begin anew.
    pub(super) due: AtomicBool,
    /// Pauses while too much is not written.
    session: OnceLock<Weak<Session>>,
    /// Its copies, if there is a portable store.
    pub(super) copies: Option<Copies>,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    /// Unknown until the log was read.
    pub(super) tail: Option<Tail>,
    pub(super) growth: Growth,
    pub(super) records: VecDeque<Pending>,
    /// Bytes of the records.
    pub(super) bytes: usize,
    acknowledged: u64,
    /// Whether it is among those that wait for the thread.
    pub(super) queued: bool,
    pub(super) removed: bool,
    /// Another server has the session: nothing more is taken, and the log stays.
    pub(super) closed: bool,
}

/// A record that is not written yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) kind: Kind,
    /// Next sequence number before and after it.
    pub(super) sequence: u64,
    pub(super) next: u64,
    pub(super) content: Content,
    pub(super) done: Option<oneshot::Sender<()>>,
}

/// What comes next for a log.
pub(super) enum Next {
    /// Its oldest record is to be written, if it has any.
    Record,
    /// Another is to take its place.
    Anew,
    /// It is to be removed.
    Removed,
}

#[derive(Debug)]
pub(super) enum Content {
    /// More commands may be added.
    Open(Vec<u8>),
    Closed(Vec<Bytes>),
    /// What a new log begins with.
    Snapshot(Arc<Captured>),
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
    /// Starts the threads or the task.
    pub fn start(
        store: Arc<dyn Store>,
        config: &Durability,
        metrics: &Arc<Metrics>,
        hands: &Hands,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::new(store, config, metrics));
        let threads = match hands {
            Hands::Threads(_) => {
                let (sender, receiver) = mpsc::channel();
                let (writer, shortener) = (Arc::clone(&shared), Arc::clone(&shared));
                let named = |name: &str| thread::Builder::new().name(name.to_owned());
                vec![
                    named("journal").spawn(move || writer.run(&Shortener::Thread(sender)))?,
                    named("snapshots").spawn(move || shortener.shorten_all(&receiver))?,
                ]
            }
            Hands::Task(pace) => {
                tokio::spawn(Arc::clone(&shared).run_as_task(Arc::clone(pace)));
                Vec::new()
            }
        };
        Ok(Self { shared, threads: Mutex::new(threads), portable: None })
    }

    /// Where the logs are.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// How long nothing is asked of a session until it leaves memory.
    pub fn hibernate_after(&self) -> Option<Duration> {
        self.shared.config.hibernate_after
    }

    /// The journal of a new session, and a way to learn that its log is there.
    pub fn create(&self, id: SessionId, opened: &Opened) -> (Arc<Journal>, oneshot::Receiver<()>) {
        let mark = u64::from_le_bytes(ids::random());
        let journal = self.journal(id, opened.clone(), Some(Tail::new(mark)));
        let written = journal.push(Kind::Opened, vec![opened.encode_to_vec().into()]);
        journal.hurry();
        (journal, written)
    }

    /// The journal of a session whose log has to be read first.
    pub fn reopen(&self, id: SessionId, opened: Opened) -> Arc<Journal> {
        self.journal(id, opened, None)
    }

    /// Completes when the store has failed.
    pub fn broken(&self) -> impl Future<Output = ()> + use<> {
        self.shared.broken.clone().cancelled_owned()
    }

    /// Writes what is left and ends. Blocks.
    pub fn finish(&self) {
        self.shared.lock().stopped = true;
        self.shared.wake();
        let threads = mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        if threads.is_empty() {
            return self.shared.run(&Shortener::Writer);
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread that writes logs panicked");
            }
        }
    }

    fn journal(&self, id: SessionId, opened: Opened, tail: Option<Tail>) -> Arc<Journal> {
        let is_new = tail.is_some();
        Arc::new(Journal {
            id,
            opened,
            shared: Arc::clone(&self.shared),
            log: Mutex::new(Log { tail, ..Log::default() }),
            progress: watch::channel(Progress::default()).0,
            due: AtomicBool::new(false),
            session: OnceLock::new(),
            copies: self.portable.as_ref().map(|portable| Copies::new(portable, is_new)),
        })
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

    /// Goes on at the end of a log that was read, of which so many bytes are its snapshot.
    pub fn resume(&self, tail: Tail, snapshot: u64, durable: u64) {
        let mut log = self.lock();
        log.tail = Some(tail);
        log.growth.begin(snapshot);
        self.note_growth(&log);
        drop(log);
        if let Some(copies) = &self.copies {
            copies.resume(durable);
        }
        self.progress.send_modify(|progress| progress.durable = durable);
    }

    /// Takes note of a command that was executed.
    pub fn append(self: &Arc<Self>, sequence: u64, entry: &Entry) {
        let mut log = self.lock();
        if log.takes_no_more() {
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

    /// Whether the end of its log is known, because it was read or begun.
    pub fn is_open(&self) -> bool {
        self.lock().tail.is_some()
    }

    /// Whether all that it was told is durable.
    pub fn is_settled(&self) -> bool {
        let log = self.lock();
        log.tail.is_some() && log.records.is_empty() && !log.queued
    }

    /// Bytes of the log that are durable.
    pub fn durable_bytes(&self) -> u64 {
        self.lock().tail.as_ref().map_or(0, |tail| tail.length)
    }

    /// Where the log is.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.shared.store
    }

    /// Whose session it is.
    pub fn opened(&self) -> &Opened {
        &self.opened
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
        self.remove_copies();
    }

    /// The session, for as long as it is there.
    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.session.get().and_then(Weak::upgrade)
    }

    /// Where its work is counted.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    fn push(self: &Arc<Self>, kind: Kind, parts: Vec<Bytes>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let mut log = self.lock();
        if log.takes_no_more() {
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

    pub(super) fn queue(self: &Arc<Self>, mut log: MutexGuard<'_, Log>) {
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

    /// What comes next. A log that begins anew stays queued, so that nobody else writes to it until that is done.
    pub(super) fn next(&self) -> Next {
        let mut log = self.lock();
        if log.begins_anew() {
            return Next::Anew;
        }
        log.queued = false;
        if log.removed { Next::Removed } else { Next::Record }
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
    pub(super) fn wrote(self: &Arc<Self>, mut log: MutexGuard<'_, Log>, tail: Tail) {
        log.tail = Some(tail);
        self.note_growth(&log);
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
            && let Some(session) = self.session()
        {
            session.wake();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
