//! All sessions, by public id and secret token.
//!
//! An unknown session and a wrong token are the same error, and tokens are compared in constant time, so that nobody
//! learns which ids exist. A session without a stream is kept for its time-to-live.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gradtape_engine::ledger::Ledger;
use subtle::ConstantTimeEq;

use super::{error::ProtocolError, inbox::Session, worker::ReadyQueue};
use crate::{
    audit::{Event, Outcome},
    clock::Clock,
    config::{Limits, Sessions},
    ids,
    oversight::Oversight,
    principal::{Action, Principal},
    quota::Place,
};

/// Shortest and longest time between two looks at expired sessions and slow streams.
const SWEEP_INTERVAL: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// The public identifier of a session: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

/// The secret of a session: 256 random bits. Never shown in logs.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// Every session of the server.
#[derive(Debug)]
pub struct Registry {
    sessions: Mutex<HashMap<SessionId, Entry>>,
    config: Sessions,
    limits: Limits,
    ledger: Arc<Ledger>,
    clock: Arc<dyn Clock>,
    ready: Arc<ReadyQueue>,
    draining: AtomicBool,
    oversight: Arc<Oversight>,
}

#[derive(Debug)]
struct Entry {
    token: Token,
    session: Arc<Session>,
    /// When it was made.
    created: Duration,
    _place: Place,
}

/// A session as an overseer sees it.
#[derive(Debug)]
pub struct Overview {
    /// The session.
    pub session: Arc<Session>,
    /// Whose it is.
    pub owner: Principal,
    /// How long it has been there.
    pub age: Duration,
    /// How long nothing has been attached or asked.
    pub idle: Duration,
}

impl Registry {
    /// No sessions yet.
    pub fn new(
        config: Sessions,
        limits: Limits,
        clock: Arc<dyn Clock>,
        ready: Arc<ReadyQueue>,
        oversight: Arc<Oversight>,
    ) -> Arc<Self> {
        Arc::new(Self {
            sessions: Mutex::default(),
            ledger: Ledger::new("server", config.server_memory()),
            config,
            limits,
            clock,
            ready,
            draining: AtomicBool::new(false),
            oversight,
        })
    }

    /// Creates a session for somebody. The token is not kept in a readable place: this is the only time it is seen.
    pub fn create(&self, owner: &Principal) -> Result<(Arc<Session>, Token), ProtocolError> {
        if self.is_draining() {
            return Err(ProtocolError::Draining);
        }
        let refused = |error| self.oversight.refused(owner, error);
        let place = self.oversight.quotas.session(owner).map_err(refused)?;
        let (id, token) = (SessionId(ids::random()), Token(ids::random()));
        let ledger = self.ledger.child("session", self.config.session_memory_bytes);
        let mut sessions = self.lock();
        if sessions.len() >= self.config.max_sessions {
            let limit = self.config.max_sessions;
            return Err(refused(ProtocolError::TooManySessions { limit }));
        }
        let (clock, ready) = (Arc::clone(&self.clock), Arc::clone(&self.ready));
        let oversight = Arc::clone(&self.oversight);
        let session =
            Session::new((id, owner.clone()), ledger, &self.limits, clock, ready, oversight);
        let entry = Entry {
            token: token.clone(),
            session: Arc::clone(&session),
            created: self.clock.now(),
            _place: place,
        };
        sessions.insert(id, entry);
        self.oversight.metrics.sessions_created.inc();
        Ok((session, token))
    }

    /// Finds a session for somebody who proves the right to it.
    pub fn authenticate(
        &self,
        id: &str,
        token: &str,
        principal: &Principal,
    ) -> Result<Arc<Session>, ProtocolError> {
        if self.is_draining() {
            return Err(ProtocolError::Draining);
        }
        let id = SessionId::parse(id)?;
        let token = ids::from_hex(token).map(Token).ok_or(ProtocolError::UnknownSession)?;
        let found = self
            .lock()
            .get(&id)
            .filter(|entry| entry.token == token && entry.session.owner() == principal)
            .map(|entry| Arc::clone(&entry.session));
        found.ok_or_else(|| {
            let event = Event::new("use_session", Outcome::Refused).principal(principal);
            self.oversight.audit.record(&event.session(id));
            ProtocolError::UnknownSession
        })
    }

    /// Finds a session with which somebody may do something although it may not be theirs. A session of which they may
    /// not even know is unknown to them.
    pub fn find(
        &self,
        id: &str,
        principal: &Principal,
        action: Action,
    ) -> Result<Arc<Session>, ProtocolError> {
        let id = SessionId::parse(id)?;
        self.lock()
            .get(&id)
            .filter(|entry| principal.may_with(action, entry.session.owner()))
            .map(|entry| Arc::clone(&entry.session))
            .ok_or(ProtocolError::UnknownSession)
    }

    /// The sessions that somebody may see, oldest first.
    pub fn list(&self, principal: &Principal) -> Vec<Overview> {
        let now = self.clock.now();
        let mut seen: Vec<_> = self
            .lock()
            .values()
            .filter(|entry| principal.may_with(Action::ListSessions, entry.session.owner()))
            .map(|entry| Overview {
                session: Arc::clone(&entry.session),
                owner: entry.session.owner().clone(),
                age: now.saturating_sub(entry.created),
                idle: Duration::ZERO,
            })
            .collect();
        for overview in &mut seen {
            overview.idle = overview.session.idle(now);
        }
        seen.sort_by_key(|overview| (std::cmp::Reverse(overview.age), overview.session.id()));
        seen
    }

    /// Ends a session.
    pub fn delete(&self, session: &Arc<Session>) {
        self.lock().remove(&session.id());
        session.end(ProtocolError::SessionEnded);
    }

    /// The memory of the whole server.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses everything new, and ends each stream after what it has sent.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        for session in self.all() {
            session.drain();
        }
    }

    /// Whether nothing new is taken any more.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Ends what has expired or broken, and streams that do not read.
    pub fn sweep(&self) {
        let now = self.clock.now();
        self.oversight.quotas.forget();
        for session in self.all() {
            session.drop_slow_consumer(now);
            if session.has_ended() || session.idle(now) > self.config.time_to_live {
                tracing::info!(session = %session.id(), "end expired session");
                let event = Event::new("expire_session", Outcome::Done).session(session.id());
                self.oversight.audit.record(&event);
                self.delete(&session);
            }
        }
    }

    /// Sweeps for as long as the registry is there.
    pub async fn sweep_forever(self: Arc<Self>) {
        let [shortest, longest] = SWEEP_INTERVAL;
        let interval = (self.config.time_to_live / 10).clamp(shortest, longest);
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep();
        }
    }

    fn all(&self) -> Vec<Arc<Session>> {
        self.lock().values().map(|entry| Arc::clone(&entry.session)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionId, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl SessionId ===

impl SessionId {
    fn parse(text: &str) -> Result<Self, ProtocolError> {
        ids::from_hex(text).map(Self).ok_or(ProtocolError::UnknownSession)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ids::hex(&self.0))
    }
}

// === impl Token ===

impl Token {
    /// The token as its owner gets it.
    pub fn reveal(&self) -> String {
        ids::hex(&self.0)
    }
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
