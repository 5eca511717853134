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
    clock::Clock,
    config::{Limits, Sessions},
    ids,
    principal::Principal,
};

/// Shortest and longest time between two looks at expired sessions and slow streams.
const SWEEP_INTERVAL: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// The public identifier of a session: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
}

#[derive(Debug)]
struct Entry {
    token: Token,
    owner: Principal,
    session: Arc<Session>,
}

impl Registry {
    /// No sessions yet.
    pub fn new(
        config: Sessions,
        limits: Limits,
        clock: Arc<dyn Clock>,
        ready: Arc<ReadyQueue>,
    ) -> Arc<Self> {
        Arc::new(Self {
            sessions: Mutex::default(),
            ledger: Ledger::new("server", config.server_memory()),
            config,
            limits,
            clock,
            ready,
            draining: AtomicBool::new(false),
        })
    }

    /// Creates a session for somebody. The token is not kept in a readable place: this is the only time it is seen.
    pub fn create(&self, owner: &Principal) -> Result<(Arc<Session>, Token), ProtocolError> {
        if self.is_draining() {
            return Err(ProtocolError::Draining);
        }
        let (id, token) = (SessionId(ids::random()), Token(ids::random()));
        let ledger = self.ledger.child("session", self.config.session_memory_bytes);
        let mut sessions = self.lock();
        if sessions.len() >= self.config.max_sessions {
            return Err(ProtocolError::TooManySessions { limit: self.config.max_sessions });
        }
        let (clock, ready) = (Arc::clone(&self.clock), Arc::clone(&self.ready));
        let session = Session::new(id, ledger, &self.limits, clock, ready);
        let entry =
            Entry { token: token.clone(), owner: owner.clone(), session: Arc::clone(&session) };
        sessions.insert(id, entry);
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
        let id = ids::from_hex(id).map(SessionId).ok_or(ProtocolError::UnknownSession)?;
        let token = ids::from_hex(token).map(Token).ok_or(ProtocolError::UnknownSession)?;
        self.lock()
            .get(&id)
            .filter(|entry| entry.token == token && entry.owner == *principal)
            .map(|entry| Arc::clone(&entry.session))
            .ok_or(ProtocolError::UnknownSession)
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
        for session in self.all() {
            session.drop_slow_consumer(now);
            if session.has_ended() || session.idle(now) > self.config.time_to_live {
                tracing::info!(session = %session.id(), "end expired session");
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
