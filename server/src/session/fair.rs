//! Who computes next: whoever has had least, and whoever wakes before all who have been computing.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng, 1996) in two levels: principals share the machine, and sessions share
//! what their principal gets. Each has a clock that its computing moves on, and the earliest clock is next. One who sleeps
//! loses nothing and saves nothing: on waking its clock is set to that of whoever was served last, if it is behind.
//!
//! Deficit round robin would do for steps of one length. A command cannot be cut, so a step may be a thousand times longer
//! than another; with clocks its length is paid for afterwards, to the nanosecond, even by one who leaves the queue.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// What is known of somebody who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Waiting {
    /// There is nobody.
    Nobody,
    /// It has been computing, and has more to do.
    Busy,
    /// It had nothing to do until now.
    Woken,
}

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
    place: Place,
}

/// Among equals those who wake are next, and of these the first to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    busy: bool,
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

// === impl Turn ===

impl<P, S> Turn<P, S> {
    /// Whose turn it is.
    pub fn principal(&self) -> &P {
        &self.principal
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
    pub fn push(&mut self, principal: P, session: S, item: T, waiting: Waiting) {
        self.arrivals += 1;
        let place = Place { busy: waiting != Waiting::Woken, arrival: self.arrivals };
        let account = self.accounts.entry(principal).or_insert_with(|| Account {
            sessions: Shares::default(),
            ready: Vec::new(),
            served: 0,
        });
        account.ready.push(Ready { session, item, place });
    }

    /// The next whose principal may compute, and its turn, which will take about as long as is guessed.
    pub fn pop(&mut self, guess: Duration, may: impl Fn(&P) -> bool) -> Option<(T, Turn<P, S>)> {
        let (principal, first) = self.first(may)?;
        let principal = principal.clone();
        let account = self.accounts.get_mut(&principal)?;
        let Ready { session, item, .. } = account.ready.swap_remove(first);
        account.sessions.serve(&session, guess);
        account.served += 1;
        self.principals.serve(&principal, guess);
        Some((item, Turn { principal, session, guess }))
    }

    /// Whose turn is next, and the place of what it waits with.
    fn first(&self, may: impl Fn(&P) -> bool) -> Option<(&P, usize)> {
        let accounts = self.accounts.iter().filter(|(principal, _)| may(principal));
        let waiting = accounts.filter_map(|(principal, account)| {
            let first = account.first()?;
            Some(((self.principals.clock(principal), account.ready[first].place), principal, first))
        });
        waiting.min_by_key(|(place, ..)| *place).map(|(_, principal, first)| (principal, first))
    }

    /// Those who have something that waits.
    pub fn principals(&self) -> impl Iterator<Item = &P> {
        let waiting = self.accounts.iter().filter(|(_, account)| !account.ready.is_empty());
        waiting.map(|(principal, _)| principal)
    }

    /// Who would be next.
    pub fn waiting(&self, may: impl Fn(&P) -> bool) -> Waiting {
        let first =
            self.first(may).map(|(principal, first)| &self.accounts[principal].ready[first]);
        match first {
            None => Waiting::Nobody,
            Some(ready) if ready.place.busy => Waiting::Busy,
            Some(_) => Waiting::Woken,
        }
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
            ready.min_by_key(|(_, ready)| (self.sessions.clock(&ready.session), ready.place));
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
            queue.push(session.0, session, session, Waiting::Busy);
        }
        let (mut had, mut clock) = (HashMap::new(), Duration::ZERO);
        while clock < until {
            let (session, turn) = queue.pop(GUESS, |_| true).unwrap();
            let took = Duration::from_millis(lengths[&session]);
            clock += took;
            *had.entry(session).or_default() += took;
            queue.settle(turn, took);
            queue.push(session.0, session, session, Waiting::Busy);
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
            prop_assert!(*most <= *least + slack, "{principals:?}");
            for principal in principals.keys() {
                let sessions = had.iter().filter(|(session, _)| session.0 == *principal);
                let times: Vec<_> = sessions.map(|(_, time)| *time).collect();
                let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
                prop_assert!(*most <= *least + slack, "{had:?}");
            }
        }
    }

    #[test]
    fn one_who_wakes_goes_before_all_who_have_been_computing() {
        let mut queue = Queue::default();
        for busy in 0..3 {
            queue.push(busy, (busy, 0), (busy, 0), Waiting::Busy);
        }
        for _ in 0..30 {
            let (session, turn) = queue.pop(GUESS, |_| true).unwrap();
            queue.settle(turn, GUESS);
            queue.push(session.0, session, session, Waiting::Busy);
        }
        queue.push(9, (9, 0), (9, 0), Waiting::Woken);
        assert_eq!(queue.waiting(|_| true), Waiting::Woken);
        let (session, turn) = queue.pop(GUESS, |_| true).unwrap();
        assert_eq!(session, (9, 0));
        queue.settle(turn, Duration::from_millis(1));
    }

    #[test]
    fn leaving_does_not_pay_a_debt() {
        let mut queue = Queue::default();
        queue.push(0, (0, 0), (0, 0), Waiting::Busy);
        queue.push(1, (1, 0), (1, 0), Waiting::Busy);
        let (session, turn) = queue.pop(GUESS, |_| true).unwrap();
        assert_eq!(session.0, 0, "the first to arrive");
        // It takes a second, and comes back at once.
        queue.settle(turn, Duration::from_secs(1));
        queue.push(0, (0, 0), (0, 0), Waiting::Busy);
        for _ in 0..200 {
            let (session, turn) = queue.pop(GUESS, |_| true).unwrap();
            assert_eq!(session.0, 1);
            queue.settle(turn, GUESS);
            queue.push(1, session, session, Waiting::Busy);
        }
    }

    #[test]
    fn sleepers_are_forgotten() {
        let mut queue = Queue::default();
        for principal in 0..200 {
            queue.push(principal, (principal, 0), (principal, 0), Waiting::Busy);
        }
        for _ in 0..200 {
            let (_, turn) = queue.pop(GUESS, |_| true).unwrap();
            queue.settle(turn, Duration::ZERO);
        }
        assert_eq!(queue.waiting(|_| true), Waiting::Nobody);
        assert!(queue.accounts.is_empty());
        assert!(queue.principals.clocks.len() <= 1, "{:?}", queue.principals);
    }
}
