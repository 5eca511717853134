//! Who computes next: whoever has had least, and whoever wakes before all who have been computing.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng, 1996) in two levels: principals share the machine, and sessions share
//! what their principal gets. Each has a clock that its computing moves on, and the earliest clock is next. One who sleeps
//! loses nothing and saves nothing: on waking its clock is set to that of whoever was served last, if it is behind.
//!
//! Deficit round robin would do for steps of one length. A command cannot be cut, so a step may be a thousand times longer
//! than another; with clocks its length is paid for afterwards, to the nanosecond, even by one who leaves the queue.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// How much each member of a group has had.
#[derive(Debug)]
struct Shares<K> {
    /// The clock of whoever was served last.
    now: Duration,
    /// Clocks that are ahead of it. All others count as `now`.
    clocks: HashMap<K, Duration>,
}

/// Whose turn it is among those who are ready.
#[derive(Debug)]
pub struct FairQueue<P, S, T> {
    principals: Shares<P>,
    accounts: HashMap<P, Account<S, T>>,
    arrivals: u64,
}

/// A principal with sessions that are ready or have been.
#[derive(Debug)]
struct Account<S, T> {
    sessions: Shares<S>,
    ready: Vec<Ready<S, T>>,
    /// How many of its sessions are being served.
    served: usize,
}

#[derive(Debug)]
struct Ready<S, T> {
    session: S,
    item: T,
    /// Among equals the first to arrive is next.
    arrival: u64,
}

/// A turn that was given, to be settled when it is over.
#[derive(Debug)]
#[must_use = "a turn must be settled, or it counts as long as was guessed"]
pub struct Turn<P, S> {
    principal: P,
    session: S,
    guess: Duration,
}

// === impl Shares ===

impl<K: Clone + Eq + Hash> Shares<K> {
    fn clock(&self, member: &K) -> Duration {
        self.clocks.get(member).copied().unwrap_or_default().max(self.now)
    }

    /// Serves a member for about so long.
    fn serve(&mut self, member: &K, guess: Duration) {
        self.now = self.clock(member);
        let clock = self.now + guess;
        self.clocks.insert(member.clone(), clock);
    }

    /// Corrects a guess. Clocks that say no more than `now` are forgotten.
    fn settle(&mut self, member: &K, guess: Duration, took: Duration) {
        let clock = (self.clock(member) + took).saturating_sub(guess);
        if clock > self.now {
            self.clocks.insert(member.clone(), clock);
        } else {
            self.clocks.remove(member);
        }
    }

    fn forget(&mut self) {
        let now = self.now;
        self.clocks.retain(|_, clock| *clock > now);
    }
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { now: Duration::ZERO, clocks: HashMap::new() }
    }
}

// === impl FairQueue ===

impl<P, S, T> Default for FairQueue<P, S, T> {
    fn default() -> Self {
        Self { principals: Shares::default(), accounts: HashMap::new(), arrivals: 0 }
    }
}

impl<P: Clone + Eq + Hash, S: Clone + Eq + Hash, T> FairQueue<P, S, T> {
    /// Appends something of a session that is neither here nor being served.
    pub fn push(&mut self, principal: P, session: S, item: T) {
        self.arrivals += 1;
        let account = self.accounts.entry(principal).or_insert_with(|| Account {
            sessions: Shares::default(),
            ready: Vec::new(),
            served: 0,
        });
        account.ready.push(Ready { session, item, arrival: self.arrivals });
    }

    /// The next, and its turn, which will take about as long as is guessed.
    pub fn pop(&mut self, guess: Duration) -> Option<(T, Turn<P, S>)> {
        let Self { principals, accounts, .. } = self;
        let waiting = accounts.iter_mut().filter_map(|(principal, account)| {
            let first = account.first()?;
            let place = (principals.clock(principal), account.ready[first].arrival);
            Some((place, principal, account, first))
        });
        let (_, principal, account, first) = waiting.min_by_key(|(place, ..)| *place)?;
        let Ready { session, item, .. } = account.ready.swap_remove(first);
        account.sessions.serve(&session, guess);
        account.served += 1;
        principals.serve(principal, guess);
        Some((item, Turn { principal: principal.clone(), session, guess }))
    }

    /// A turn is over and took so long.
    pub fn settle(&mut self, turn: Turn<P, S>, took: Duration) {
        let Turn { principal, session, guess } = turn;
        self.principals.settle(&principal, guess, took);
        let Some(account) = self.accounts.get_mut(&principal) else { return };
        account.sessions.settle(&session, guess, took);
        account.served = account.served.saturating_sub(1);
        account.sessions.forget();
        // What one session had does not matter once its principal has none that computes or waits.
        if account.ready.is_empty() && account.served == 0 {
            self.accounts.remove(&principal);
        }
        self.principals.forget();
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.accounts.values().all(|account| account.ready.is_empty())
    }

    /// Takes everything out.
    pub fn drain(&mut self) -> Vec<T> {
        let accounts = std::mem::take(&mut self.accounts).into_values();
        accounts.flat_map(|account| account.ready).map(|ready| ready.item).collect()
    }
}

impl<S: Clone + Eq + Hash, T> Account<S, T> {
    /// The place of the session that is next.
    fn first(&self) -> Option<usize> {
        let ready = self.ready.iter().enumerate();
        let next =
            ready.min_by_key(|(_, ready)| (self.sessions.clock(&ready.session), ready.arrival));
        next.map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Queue = FairQueue<u8, (u8, u8), (u8, u8)>;

    const GUESS: Duration = Duration::from_millis(4);

    /// One thread serves sessions that always have more to do, each in steps of its own length. Gives what each had.
    fn serve(steps: &[((u8, u8), u64)], until: Duration) -> HashMap<(u8, u8), Duration> {
        let mut queue = Queue::default();
        let lengths: HashMap<_, _> = steps.iter().copied().collect();
        for &session in lengths.keys() {
            queue.push(session.0, session, session);
        }
        let (mut had, mut clock) = (HashMap::new(), Duration::ZERO);
        while clock < until {
            let (session, turn) = queue.pop(GUESS).unwrap();
            let took = Duration::from_millis(lengths[&session]);
            clock += took;
            *had.entry(session).or_default() += took;
            queue.settle(turn, took);
            queue.push(session.0, session, session);
        }
        had
    }

    proptest! {
        /// Whatever the lengths of their steps, principals get the same, and so do the sessions of each.
        #[test]
        fn busy_ones_get_equal_shares(
            lengths in prop::collection::vec(((0_u8..4, 0_u8..3), 1_u64..50), 2..12),
        ) {
            let until = Duration::from_secs(20);
            let had = serve(&lengths, until);
            let mut principals: HashMap<u8, Duration> = HashMap::new();
            for (session, time) in &had {
                *principals.entry(session.0).or_default() += *time;
            }
            // Nobody is ahead by more than the steps that cannot be cut.
            let slack = Duration::from_millis(4 * 50);
            let (least, most) = (principals.values().min().unwrap(), principals.values().max().unwrap());
            prop_assert!(*most - *least <= slack, "{principals:?}");
            for principal in principals.keys() {
                let sessions = had.iter().filter(|(session, _)| session.0 == *principal);
                let times: Vec<_> = sessions.map(|(_, time)| *time).collect();
                let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
                prop_assert!(*most - *least <= slack, "{had:?}");
            }
        }
    }

    #[test]
    fn one_who_wakes_goes_before_all_who_have_been_computing() {
        let mut queue = Queue::default();
        for busy in 0..3 {
            queue.push(busy, (busy, 0), (busy, 0));
        }
        for _ in 0..30 {
            let (session, turn) = queue.pop(GUESS).unwrap();
            queue.settle(turn, GUESS);
            queue.push(session.0, session, session);
        }
        queue.push(9, (9, 0), (9, 0));
        let (session, turn) = queue.pop(GUESS).unwrap();
        assert_eq!(session, (9, 0));
        queue.settle(turn, Duration::from_millis(1));
    }

    #[test]
    fn leaving_does_not_pay_a_debt() {
        let mut queue = Queue::default();
        queue.push(0, (0, 0), (0, 0));
        queue.push(1, (1, 0), (1, 0));
        let (session, turn) = queue.pop(GUESS).unwrap();
        assert_eq!(session.0, 0, "the first to arrive");
        // It takes a second, and comes back at once.
        queue.settle(turn, Duration::from_secs(1));
        queue.push(0, (0, 0), (0, 0));
        for _ in 0..200 {
            let (session, turn) = queue.pop(GUESS).unwrap();
            assert_eq!(session.0, 1);
            queue.settle(turn, GUESS);
            queue.push(1, session, session);
        }
    }

    #[test]
    fn sleepers_are_forgotten() {
        let mut queue = Queue::default();
        for principal in 0..200 {
            queue.push(principal, (principal, 0), (principal, 0));
        }
        for _ in 0..200 {
            let (_, turn) = queue.pop(GUESS).unwrap();
            queue.settle(turn, Duration::ZERO);
        }
        assert!(queue.is_empty());
        assert!(queue.accounts.is_empty());
        assert!(queue.principals.clocks.len() <= 1, "{:?}", queue.principals);
    }
}
