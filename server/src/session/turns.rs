//! The threads that compute, and the sessions and threads that wait for their turn.
//!
//! As many turns are given as there are cores. A session gets one with a thread that works on it for a slice. A command
//! that takes longer is interrupted at the next place where it could be stopped: its thread waits, with everything that is
//! on its stack, until [`FairQueue`] comes to it again, and another thread computes meanwhile. So there are more threads
//! than turns; all but a few of them wait.
//!
//! In a simulation a task of the runtime computes ([`Hands::Task`]), so that each run is like the one before; it interrupts
//! nothing.
//!
//! Invariants: a session is with at most one thread, from its first turn to the end of its slice. There are always as many
//! threads that are not interrupted as there are turns, so whoever gets a turn has a thread.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use gradtape_engine::compute::{Crew, Turns};
use tokio::sync::Notify;

use super::{
    allowance::Allowances,
    fair::{FairQueue, Turn, Waiting},
    inbox::Session,
    registry::SessionId,
    worker::{After, nanoseconds, run_slice},
};
use crate::{
    clock::Clock,
    config::Compute,
    hands::{Hands, Pace},
    metrics::Metrics,
    principal::Principal,
};

/// Slices after which a command is interrupted for the sake of others that have been computing, too. What they find in
/// the caches is worth waiting a little.
const ROUND: u32 = 2;

/// Part of a slice after which a command is interrupted for somebody who wakes.
const SOON: u32 = 4;

/// How often a thread that has computed looks for more before it sleeps, if nobody else computes: for a fifth of a
/// millisecond or so. Whoever asks, and asks again when it has its answer, need not wait until a thread wakes.
const LOOKS: u32 = 400;

/// The sessions that have something to do, and wait for their turn.
#[derive(Debug, Default)]
pub struct ReadyQueue {
    pub(super) state: Mutex<State>,
    /// How many turns wait for their threads, for one to look at that does not sleep.
    offers: AtomicUsize,
    /// Wakes threads.
    changed: Condvar,
    /// Wakes a task.
    notify: Notify,
    /// A [`Waiting`], for those who compute to look at.
    waiting: AtomicU8,
}

#[derive(Debug, Default)]
pub(super) struct State {
    queue: Queue,
    allowances: Allowances,
    /// How long a turn is, unless something happens.
    slice: Duration,
    /// Turns that nobody has.
    pub(super) free: usize,
    /// Turns that were given to sessions, and wait for their threads.
    pub(super) given: VecDeque<Given>,
    /// Whether a thread looks for turns that wait, or is about to, and needs no waking.
    watched: bool,
    /// All threads, and those of them that were interrupted.
    threads: usize,
    interrupted: usize,
    stopped: bool,
}

type Queue = FairQueue<Principal, SessionId, Next>;

type Given = (Arc<Session>, Turn<Principal, SessionId>);

/// Who gets a turn.
#[derive(Debug)]
enum Next {
    /// A session that has something to do.
    Session(Arc<Session>),
    /// A thread that was interrupted.
    Thread(Arc<Seat>),
}

/// A thread that has a session, and its turns.
#[derive(Debug)]
struct Seat {
    machine: Arc<Machine>,
    session: Arc<Session>,
    place: Mutex<Place>,
    given: Condvar,
    /// When the turn began, in nanoseconds.
    since: AtomicU64,
}

/// Where an interrupted thread stands.
#[derive(Debug)]
enum Place {
    /// It computes.
    Has(Turn<Principal, SessionId>),
    /// It waits.
    Waits,
    /// There are no turns any more: it computes to the end of its command.
    Stopped,
}

/// What every thread that computes is given.
#[derive(Debug)]
struct Machine {
    ready: Arc<ReadyQueue>,
    crew: Arc<Crew>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    /// How many compute at a time.
    cores: usize,
    config: Compute,
}

/// Those who compute. Dropping it lets each stop after its command.
#[derive(Debug)]
pub struct Pool {
    machine: Arc<Machine>,
}

// === impl Pool, Machine ===

impl Pool {
    /// Starts threads, or a task, that serve a queue.
    pub fn start(
        hands: &Hands,
        config: &Compute,
        ready: Arc<ReadyQueue>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        allowances: Allowances,
    ) -> std::io::Result<Self> {
        let (cores, mut config) = (hands.count(), config.clone());
        let crew = Crew::new(cores).map_err(std::io::Error::other)?;
        if let Hands::Task(_) = hands {
            // It has the only thread that there is.
            config.max_interrupted = 0;
        }
        let pool =
            Self { machine: Arc::new(Machine { ready, crew, clock, metrics, cores, config }) };
        match hands {
            Hands::Threads(count) => {
                for _ in 0..*count {
                    pool.machine.ready.lock().threads += 1;
                    pool.machine.start_thread()?;
                }
            }
            Hands::Task(pace) => {
                drop(tokio::spawn(Arc::clone(&pool.machine).run_as_task(Arc::clone(pace))));
            }
        }
        let mut state = pool.machine.ready.lock();
        (state.slice, state.free) = (pool.machine.config.slice, cores);
        state.allowances = allowances;
        pool.machine.ready.give(&mut state, pool.machine.clock.now());
        drop(state);
        Ok(pool)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.machine.ready.stop();
    }
}

impl Machine {
    /// Starts a thread that has been counted.
    fn start_thread(self: &Arc<Self>) -> std::io::Result<()> {
        let machine = Arc::clone(self);
        let run = move || {
            while let Some((session, turn)) =
                machine.ready.next(machine.cores, machine.clock.as_ref())
            {
                machine.serve(session, turn);
            }
        };
        thread::Builder::new().name("compute".to_owned()).spawn(run).map(drop)
    }

    /// The same as a task.
    async fn run_as_task(self: Arc<Self>, pace: Pace) {
        while let Some((session, turn)) = self.ready.next_without_a_thread(&*self.clock).await {
            self.serve(session, turn);
            tokio::time::sleep(pace()).await;
        }
    }

    /// Notes that a session has computed.
    fn note(&self, session: &Session, took: Duration) {
        self.metrics.compute_seconds.inc_by(took.as_secs_f64());
        if let Some(journal) = session.journal() {
            journal.worked(took);
        }
    }

    /// Lets others compute, and returns when it is the turn of this thread again.
    fn interrupt(self: &Arc<Self>, seat: &Arc<Seat>) {
        let mut state = self.ready.lock();
        if state.stopped || state.interrupted >= self.config.max_interrupted {
            return;
        }
        state.interrupted += 1;
        if state.threads - state.interrupted < self.cores {
            state.threads += 1;
            drop(state);
            let started = self.start_thread();
            state = self.ready.lock();
            if let Err(error) = started {
                (state.threads, state.interrupted) = (state.threads - 1, state.interrupted - 1);
                drop(state);
                tracing::warn!(%error, "a command cannot be interrupted");
                return;
            }
        }
        let took = seat.took();
        self.metrics.interruptions.inc();
        let next = if state.stopped { Place::Stopped } else { Place::Waits };
        if let Some(turn) = seat.leave(next) {
            let (owner, id) = (seat.session.owner().clone(), seat.session.id());
            let now = self.clock.now();
            state.settle(turn, took, now);
            if !state.stopped {
                state.queue.push(owner, id, Next::Thread(Arc::clone(seat)), Waiting::Busy);
            }
            self.ready.give(&mut state, now);
            self.ready.remind(&state);
        }
        drop(state);
        self.note(&seat.session, took);
        seat.wait_for_turn();
    }

    /// Works on a session for a slice.
    fn serve(self: &Arc<Self>, session: Arc<Session>, turn: Turn<Principal, SessionId>) {
        let seat = Arc::new(Seat {
            machine: Arc::clone(self),
            session,
            place: Mutex::new(Place::Has(turn)),
            given: Condvar::new(),
            since: AtomicU64::new(nanoseconds(self.clock.now())),
        });
        let session = &seat.session;
        let context = session.context(&self.crew, Arc::clone(&seat) as Arc<dyn Turns>);
        let clock = self.clock.as_ref();
        let after = context.enter(|| run_slice(session, clock, self.config.slice));
        drop(context);
        let took = seat.took();
        self.note(session, took);
        let back = (after == After::Requeue).then(|| Arc::clone(session));
        if let Some(turn) = seat.leave(Place::Stopped) {
            self.ready.settle(turn, took, self.clock.now(), back);
        }
    }
}

// === impl ReadyQueue ===

impl ReadyQueue {
    /// Adds a session that is neither waiting nor on a thread.
    pub fn push(&self, session: Arc<Session>) {
        let now = session.clock.now();
        let mut state = self.lock();
        if !state.stopped {
            let (owner, id) = (session.owner().clone(), session.id());
            state.queue.push(owner, id, Next::Session(session), Waiting::Woken);
            self.give(&mut state, now);
            self.remind(&state);
        }
    }

    /// Waits for the next session; `None` if the queue has stopped or there are threads enough.
    fn next(&self, cores: usize, clock: &dyn Clock) -> Option<Given> {
        let mut state = self.lock();
        state.watched = false;
        let mut has_looked = false;
        loop {
            if state.stopped {
                return None;
            }
            // Somebody who was delayed may compute by now.
            self.give(&mut state, clock.now());
            if let Some(given) = self.take(&mut state) {
                self.remind(&state);
                return Some(given);
            }
            if !has_looked && !state.watched && state.free == cores {
                (has_looked, state.watched) = (true, true);
                drop(state);
                self.look();
                state = self.lock();
                state.watched = false;
                continue;
            }
            // Some are kept: whoever interrupts a command once does it again and again.
            if state.threads - state.interrupted > 2 * cores {
                state.threads -= 1;
                self.remind(&state);
                return None;
            }
            state = match state.shortest_wait(clock.now()) {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => {
                    let waited = self.changed.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Looks for a turn, for a while.
    fn look(&self) {
        let mut looks = 0;
        while looks < LOOKS && self.offers.load(Ordering::Relaxed) == 0 {
            looks += 1;
            thread::yield_now();
        }
    }

    /// Takes a turn that waits.
    fn take(&self, state: &mut State) -> Option<Given> {
        let given = state.given.pop_front();
        self.offers.store(state.given.len(), Ordering::Relaxed);
        given
    }

    /// Waits for the next session without keeping a thread.
    async fn next_without_a_thread(&self, clock: &dyn Clock) -> Option<Given> {
        loop {
            let wait = {
                let mut state = self.lock();
                state.watched = false;
                self.give(&mut state, clock.now());
                if state.stopped {
                    return None;
                }
                if let Some(given) = self.take(&mut state) {
                    return Some(given);
                }
                state.shortest_wait(clock.now())
            };
            let notified = self.notify.notified();
            match wait {
                None => notified.await,
                // Whether something comes or the time is over, it looks again.
                Some(wait) => drop(tokio::time::timeout(wait, notified).await),
            }
        }
    }

    /// Notes how long a turn took, and takes its session back if there is more to do. Whoever calls it looks for the next turn
    /// right after, so nobody is woken for the first.
    pub(super) fn settle(
        &self,
        turn: Turn<Principal, SessionId>,
        took: Duration,
        now: Duration,
        back: Option<Arc<Session>>,
    ) {
        let mut state = self.lock();
        state.settle(turn, took, now);
        if let Some(session) = back.filter(|_| !state.stopped) {
            let (owner, id) = (session.owner().clone(), session.id());
            state.queue.push(owner, id, Next::Session(session), Waiting::Busy);
        }
        state.watched = true;
        self.give(&mut state, now);
    }

    /// Gives the turns that are free.
    fn give(&self, state: &mut State, now: Duration) {
        let State { queue, allowances, slice, free, given, watched, interrupted, .. } = state;
        let may = |principal: &Principal| allowances.wait(principal, now).is_none();
        while *free > 0
            && let Some((next, turn)) = queue.pop(*slice, may)
        {
            *free -= 1;
            match next {
                Next::Session(session) => {
                    given.push_back((session, turn));
                    self.offers.store(given.len(), Ordering::Relaxed);
                    if !*watched || given.len() > 1 {
                        self.wake_one();
                    }
                }
                Next::Thread(seat) => {
                    *interrupted -= 1;
                    seat.go_on(Place::Has(turn));
                }
            }
        }
        self.waiting.store(queue.waiting(may) as u8, Ordering::Relaxed);
    }

    /// Lets a thread that has nothing to do look after those who are delayed, if there are such.
    fn remind(&self, state: &State) {
        if state.free > 0 && state.queue.principals().next().is_some() {
            self.wake_one();
        }
    }

    fn wake_one(&self) {
        self.changed.notify_one();
        self.notify.notify_one();
    }

    fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        let dropped = (state.queue.drain(), std::mem::take(&mut state.given));
        drop(state);
        for next in &dropped.0 {
            if let Next::Thread(seat) = next {
                seat.go_on(Place::Stopped);
            }
        }
        drop(dropped);
        self.changed.notify_all();
        self.notify.notify_one();
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

// === impl State, Seat ===

impl State {
    fn settle(&mut self, turn: Turn<Principal, SessionId>, took: Duration, now: Duration) {
        self.allowances.charge(turn.principal(), took, now);
        self.queue.settle(turn, took);
        self.free += 1;
    }

    /// How long those are delayed still who wait only for time to pass, and not for a turn.
    fn shortest_wait(&self, now: Duration) -> Option<Duration> {
        let waiting = self.queue.principals().filter(|_| self.free > 0);
        waiting.map(|one| self.allowances.wait(one, now).unwrap_or_default()).min()
    }
}

impl Seat {
    /// How long its turn has taken.
    fn took(&self) -> Duration {
        let since = Duration::from_nanos(self.since.load(Ordering::Relaxed));
        self.machine.clock.now().saturating_sub(since)
    }

    /// Takes its turn away.
    fn leave(&self, next: Place) -> Option<Turn<Principal, SessionId>> {
        match std::mem::replace(&mut *lock(&self.place), next) {
            Place::Has(turn) => Some(turn),
            Place::Waits | Place::Stopped => None,
        }
    }

    fn go_on(&self, place: Place) {
        *lock(&self.place) = place;
        self.given.notify_one();
    }

    fn wait_for_turn(&self) {
        let waits = |place: &mut Place| matches!(place, Place::Waits);
        let place = self.given.wait_while(lock(&self.place), waits);
        drop(place.unwrap_or_else(PoisonError::into_inner));
        self.since.store(nanoseconds(self.machine.clock.now()), Ordering::Relaxed);
    }
}

impl Turns for Seat {
    fn is_over(&self) -> bool {
        failpoint!(MidExecStep);
        failpoint!(PanicInKernel);
        let slice = self.machine.config.slice;
        let waiting = self.machine.ready.waiting.load(Ordering::Relaxed);
        if waiting == Waiting::Nobody as u8 {
            return false;
        }
        let woken = waiting == Waiting::Woken as u8;
        self.took() >= if woken { slice / SOON } else { slice * ROUND }
    }

    fn wait(self: Arc<Self>) {
        Arc::clone(&self.machine).interrupt(&self);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
