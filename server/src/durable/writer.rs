//! Who writes what has gathered in the journals: a thread, or a task in a simulation.

use std::{
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    journal::{Health, Journal, Next},
    store::{Fault, Store},
};
use crate::{config::Durability, hands::Pace, metrics::Metrics};

/// How long a full store is left alone before it is tried again.
const FULL_PAUSE: Duration = Duration::from_secs(1);

/// What journals and whoever writes them share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) config: Durability,
    pub(super) metrics: Arc<Metrics>,
    state: Mutex<State>,
    /// Wakes the thread.
    changed: Condvar,
    /// Wakes the task.
    notify: Notify,
    pub(super) broken: CancellationToken,
}

/// What is to be written, and how soon.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Journals that have something to write, each once.
    pub(super) waiting: Vec<Arc<Journal>>,
    /// Somebody waits for it.
    pub(super) urgent: bool,
    pub(super) stopped: bool,
    /// Journals whose log is being shortened. What they get to write meanwhile waits.
    pub(super) shortening: usize,
}

/// Who lets a log begin anew.
pub(super) enum Shortener {
    /// A thread of its own, since it takes long.
    Thread(mpsc::Sender<Arc<Journal>>),
    /// Whoever writes.
    Writer,
}

/// What to do before the next round.
enum Wait {
    /// There is something to write now.
    Not,
    /// Until there is something to write, or the time is over.
    For(Option<Duration>),
    /// Nothing will ever be written again.
    End,
}

impl State {
    /// Whether to let more gather: while nobody is in a hurry, and the last round was not long ago.
    fn wait(&self, since: Duration, interval: Duration) -> Wait {
        let left = interval.saturating_sub(since);
        match (self.waiting.is_empty(), self.stopped && self.shortening == 0) {
            (true, true) => Wait::End,
            (true, false) => Wait::For(None),
            (false, _) if !self.stopped && !self.urgent && !left.is_zero() => Wait::For(Some(left)),
            (false, _) => Wait::Not,
        }
    }

    /// What gathered.
    fn take(&mut self) -> Vec<Arc<Journal>> {
        self.urgent = false;
        mem::take(&mut self.waiting)
    }
}

/// How the store is after a round.
enum After {
    /// It takes more.
    Well,
    /// It has no room; what was to be written waits again.
    Full,
    /// It failed.
    Broken,
}

// === impl Shared ===

impl Shared {
    /// Nothing is to be written yet.
    pub(super) fn new(store: Arc<dyn Store>, config: &Durability, metrics: &Arc<Metrics>) -> Self {
        Self {
            store,
            config: config.clone(),
            metrics: Arc::clone(metrics),
            state: Mutex::default(),
            changed: Condvar::new(),
            notify: Notify::new(),
            broken: CancellationToken::new(),
        }
    }

    /// Body of the thread. When it shall stop, this writes what is left; a store that failed is left alone.
    pub(super) fn run(&self, shortener: &Shortener) {
        let mut last = Instant::now();
        while !self.broken.is_cancelled()
            && let Some(journals) = self.gathered(last)
        {
            last = Instant::now();
            match self.round(&journals, shortener) {
                After::Well => {}
                After::Full if self.pause() => {}
                After::Full | After::Broken => return,
            }
        }
    }

    /// The same as a task. A round takes as long as `pace` says.
    pub(super) async fn run_as_task(self: Arc<Self>, pace: Pace) {
        let mut last = tokio::time::Instant::now();
        loop {
            let wait = self.lock().wait(last.elapsed(), self.config.interval);
            let left = match wait {
                Wait::End => return,
                Wait::For(None) => Duration::MAX,
                Wait::For(Some(left)) => left,
                Wait::Not => {
                    last = tokio::time::Instant::now();
                    tokio::time::sleep(pace()).await;
                    let journals = self.lock().take();
                    match self.round(&journals, &Shortener::Writer) {
                        After::Well => {}
                        After::Full => tokio::time::sleep(FULL_PAUSE).await,
                        After::Broken => return,
                    }
                    continue;
                }
            };
            // Woken or not, it looks again.
            let _ = tokio::time::timeout(left, self.notify.notified()).await;
        }
    }

    /// Waits for something to write, and a while for more if nobody is in a hurry; `None` at the end.
    fn gathered(&self, last: Instant) -> Option<Vec<Arc<Journal>>> {
        let mut state = self.lock();
        loop {
            state = match state.wait(last.elapsed(), self.config.interval) {
                Wait::Not => return Some(state.take()),
                Wait::End => return None,
                Wait::For(None) => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Wait::For(Some(left)) => {
                    let waited = self.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            }
        }
    }

    /// Writes what gathered, once.
    fn round(&self, journals: &[Arc<Journal>], shortener: &Shortener) -> After {
        match self.commit(journals, shortener) {
            Ok(()) => After::Well,
            Err(Fault::Full(error)) => {
                tracing::warn!(%error, "the store of sessions is full");
                self.metrics.store_full.inc();
                journals.iter().for_each(Journal::waits_for_room);
                After::Full
            }
            Err(Fault::Broken(error)) => {
                self.fail(journals, &error);
                After::Broken
            }
        }
    }

    /// What the disk holds is not known any more; whoever reads it anew finds out.
    pub(super) fn fail(&self, journals: &[Arc<Journal>], error: &std::io::Error) {
        tracing::error!(%error, "the store of sessions failed");
        for journal in journals {
            journal.say(Health::Broken);
        }
        self.lock().waiting.clear();
        self.broken.cancel();
    }

    fn commit(&self, journals: &[Arc<Journal>], shortener: &Shortener) -> Result<(), Fault> {
        let (mut writes, mut tails) = (Vec::new(), Vec::new());
        for journal in journals {
            match journal.next() {
                Next::Anew => self.hand_over(journal, shortener),
                // It has nothing that anybody needs; a log that stays is removed when its time is over.
                Next::Removed => {
                    failpoint!(Cull);
                    if let Err(error) = self.store.remove(journal.id()) {
                        tracing::warn!(session = %journal.id(), %error, "cannot remove the log");
                    }
                }
                Next::Record => {
                    if let Some((write, tail)) = journal.oldest() {
                        writes.push(write);
                        tails.push((journal, tail));
                    }
                }
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        self.store.commit(&writes)?;
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        let bytes: usize = writes.iter().flat_map(|write| &write.parts).map(Bytes::len).sum();
        self.metrics.log_bytes.inc_by(bytes as u64);
        drop(writes);
        for (journal, tail) in tails {
            journal.wrote(journal.lock(), tail);
        }
        Ok(())
    }

    /// Leaves a full store alone for a while, and says whether to go on.
    fn pause(&self) -> bool {
        let (mut state, until) = (self.lock(), Instant::now() + FULL_PAUSE);
        while !state.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }

    /// There is something new to do.
    pub(super) fn wake(&self) {
        self.changed.notify_all();
        self.notify.notify_one();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
