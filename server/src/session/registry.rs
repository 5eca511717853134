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

use aws_lc_rs::digest::{SHA256, digest};
use gradtape_engine::ledger::Ledger;
use subtle::ConstantTimeEq;

use self::takeover::Arrivals;
use super::{error::ProtocolError, inbox::Session, kept::Kept, turns::ReadyQueue};
use crate::{
    audit::{Event, Outcome},
    clock::Clock,
    config::{Limits, Sessions},
    durable::{
        entry::{Opened, numerics},
        journal::Journals,
        recovery::{Recovery, opened},
    },
    ids,
    oversight::Oversight,
    principal::{Action, Principal, Role},
    quota::Place,
};

mod takeover;

/// Shortest and longest time between two looks at expired sessions and slow streams.
const SWEEP_INTERVAL: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// So many attachments a session may have in each run of the server before their handles could meet: two to this power.
const ATTACHMENTS_OF_A_RUN: u32 = 16;

/// The public identifier of a session: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId([u8; 16]);

/// The secret of a session: 256 random bits. Never shown in logs.
#[derive(Clone)]
pub struct Token([u8; 32]);

/// What is kept of a token: its SHA-256.
#[derive(Clone, Copy, Debug)]
struct TokenDigest([u8; 32]);

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
    journals: Option<Journals>,
    arrivals: Arrivals,
    hibernate_after: Option<Duration>,
}

#[derive(Debug)]
struct Entry {
    token: TokenDigest,
    session: Arc<Session>,
    /// When it was made.
    created: Duration,
    _place: Place,
}

/// A new session, its token, and what completes when its log is there.
type Made = (Arc<Session>, Token, Option<tokio::sync::oneshot::Receiver<()>>);

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
        journals: Option<Journals>,
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
            hibernate_after: journals.as_ref().and_then(Journals::hibernate_after),
            journals,
            arrivals: Arrivals::default(),
        })
    }

    /// Takes in the sessions that have a log. Each comes back when somebody asks for it.
    pub fn take_in(&self) -> std::io::Result<()> {
        let Some(journals) = &self.journals else { return Ok(()) };
        let store = journals.store().as_ref();
        for id in store.list()? {
            match opened(store, id) {
                Ok(opened) => self.take_in_one(journals, id, &opened),
                // Nobody can prove a right to it. It stays, since it may be worth looking at.
                Err(_) => {
                    self.oversight.metrics.sessions_lost.inc();
                }
            }
        }
        tracing::info!(sessions = self.len(), "sessions that have a log");
        Ok(())
    }

    fn take_in_one(&self, journals: &Journals, id: SessionId, opened: &Opened) {
        let Some((token, owner)) = theirs(opened) else { return };
        let place = self.oversight.quotas.keep_session(&owner);
        let entry = Entry {
            token,
            session: self.away(journals, (id, owner), opened.clone(), 0),
            created: self.clock.now(),
            _place: place,
        };
        self.lock().insert(id, entry);
    }

    /// A session that is in its log alone. In this run it had streams up to the given number.
    fn away(
        &self,
        journals: &Journals,
        (id, owner): (SessionId, Principal),
        opened: Opened,
        attachments: u64,
    ) -> Arc<Session> {
        let store = Arc::clone(journals.store());
        let runs = store.epoch() % (1 << (31 - ATTACHMENTS_OF_A_RUN));
        let recovery = Box::new(Recovery::new(store, id));
        let attachments = attachments.max(runs << ATTACHMENTS_OF_A_RUN);
        let kept = Kept::Again(journals.reopen(id, opened), recovery, attachments);
        self.session(id, owner, kept)
    }

    fn session(&self, id: SessionId, owner: Principal, kept: Kept) -> Arc<Session> {
        let ledger = self.oversight.quotas.ledger(&owner, &self.ledger);
        let ledger = ledger.child("session", self.config.session_memory_bytes);
        let (clock, ready) = (Arc::clone(&self.clock), Arc::clone(&self.ready));
        let oversight = Arc::clone(&self.oversight);
        Session::new((id, owner), ledger, &self.limits, clock, ready, oversight, kept)
    }

    /// Creates a session for somebody, and its log if it gets one. The token is not kept in a readable place: this is the only
    /// time it is seen.
    pub async fn create_kept(
        &self,
        owner: &Principal,
    ) -> Result<(Arc<Session>, Token), ProtocolError> {
        let (session, token, written) = self.make(owner)?;
        if let Some((journal, written)) = session.journal().zip(written)
            && let Err(error) = journal.written(written).await
        {
            self.delete(&session);
            return Err(error);
        }
        Ok((session, token))
    }

    /// Creates a session for somebody; nobody waits for its log.
    #[cfg(test)]
    pub(crate) fn create(&self, owner: &Principal) -> Result<(Arc<Session>, Token), ProtocolError> {
        self.make(owner).map(|(session, token, _)| (session, token))
    }

    fn make(&self, owner: &Principal) -> Result<Made, ProtocolError> {
        if self.is_draining() {
            return Err(ProtocolError::Draining);
        }
        let place = self.place(owner)?;
        let (id, token) = (SessionId(ids::random()), Token(ids::random()));
        let mut sessions = self.lock();
        self.check_room(sessions.len(), owner)?;
        let (kept, written) = match &self.journals {
            None => (Kept::Not, None),
            Some(journals) => {
                let (journal, written) = journals.create(id, &token.opened(id, owner));
                (Kept::New(journal), Some(written))
            }
        };
        let session = self.session(id, owner.clone(), kept);
        let entry = Entry {
            token: token.digest(),
            session: Arc::clone(&session),
            created: self.clock.now(),
            _place: place,
        };
        sessions.insert(id, entry);
        self.oversight.metrics.sessions_created.inc();
        Ok((session, token, written))
    }

    /// The place of one more session of somebody.
    fn place(&self, owner: &Principal) -> Result<Place, ProtocolError> {
        let place = self.oversight.quotas.session(owner);
        place.map_err(|error| self.oversight.refused(owner, error))
    }

    /// Whether there is room beside so many sessions.
    fn check_room(&self, sessions: usize, owner: &Principal) -> Result<(), ProtocolError> {
        let limit = self.config.max_sessions;
        if sessions < limit {
            return Ok(());
        }
        Err(self.oversight.refused(owner, ProtocolError::TooManySessions { limit }))
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
        let token = ids::from_hex(token).map(Token).ok_or(ProtocolError::UnknownSession)?.digest();
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

    /// Ends a session, and with it its log.
    pub fn delete(&self, session: &Arc<Session>) {
        self.lock().remove(&session.id());
        session.end(ProtocolError::SessionEnded);
        if let Some(journal) = session.journal() {
            journal.remove();
        }
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
            if session.is_fenced() {
                self.let_go(&session);
            } else if session.is_lost() {
                self.put_away(&session);
            } else if session.has_ended() || self.is_over(&session, now) {
                tracing::info!(session = %session.id(), "end expired session");
                let event = Event::new("expire_session", Outcome::Done).session(session.id());
                self.oversight.audit.record(&event);
                self.delete(&session);
            } else if let Some(after) = self.hibernate_after {
                session.hibernate_if_quiet(now, after);
            }
        }
    }

    /// Forgets a session that another server has, once nothing of it is on its way to its log, so that it may come over again.
    fn let_go(&self, session: &Arc<Session>) {
        if session.journal().is_none_or(|journal| journal.is_at_rest()) {
            self.lock().remove(&session.id());
        }
    }

    /// Whether nobody has a use for a session any more. Whoever still holds a stream of it is told before.
    fn is_over(&self, session: &Arc<Session>, now: Duration) -> bool {
        let Sessions { time_to_live, max_silence, silence_notice, .. } = self.config;
        let remaining = max_silence.saturating_sub(session.silent(now));
        if remaining < silence_notice {
            session.warn_of_end(remaining);
        }
        remaining.is_zero() || session.idle(now) > time_to_live
    }

    /// A session that could not come back for want of memory may try again when somebody asks; any other stays as it is, for
    /// its owner to hear of.
    fn put_away(&self, session: &Arc<Session>) {
        let Some(journals) = &self.journals else { return };
        let Some(journal) = session.journal().filter(|_| session.may_come_back()) else { return };
        if let Some(entry) = self.lock().get_mut(&session.id()) {
            let (opened, owner) = (journal.opened().clone(), session.owner().clone());
            let attachments = session.attachments();
            entry.session = self.away(journals, (session.id(), owner), opened, attachments);
        }
    }

    /// Writes what the logs of sessions do not hold yet. Blocks.
    pub fn finish(&self) {
        if let Some(journals) = &self.journals {
            journals.finish();
        }
    }

    /// Completes when the store of sessions has failed; never without one.
    pub async fn store_failed(&self) {
        match &self.journals {
            Some(journals) => journals.broken().await,
            None => std::future::pending().await,
        }
    }

    /// Sweeps for as long as the registry is there.
    pub async fn sweep_forever(self: Arc<Self>) {
        let [shortest, longest] = SWEEP_INTERVAL;
        let often = (self.config.time_to_live / 10).min(self.hibernate_after.unwrap_or(longest));
        let interval = often.clamp(shortest, longest);
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

/// Who may go on with a session: the digest of its token, and its owner.
fn theirs(opened: &Opened) -> Option<(TokenDigest, Principal)> {
    let Opened { token, owner, role, class, .. } = opened;
    let token = <[u8; 32]>::try_from(token.as_slice()).ok()?;
    let role = <Role as clap::ValueEnum>::from_str(role, true).unwrap_or_default();
    Some((TokenDigest(token), Principal::new(owner.clone(), role, class.clone(), None)))
}

// === impl SessionId ===

impl SessionId {
    /// Reads an identifier as it is displayed.
    pub fn parse(text: &str) -> Result<Self, ProtocolError> {
        ids::from_hex(text).map(Self).ok_or(ProtocolError::UnknownSession)
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 16] {
        self.0
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

    fn digest(&self) -> TokenDigest {
        let found = digest(&SHA256, &self.0);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(found.as_ref());
        TokenDigest(bytes)
    }

    /// What the log of a session says of it.
    fn opened(&self, id: SessionId, owner: &Principal) -> Opened {
        let role = clap::ValueEnum::to_possible_value(&owner.role());
        Opened {
            session: id.0.to_vec(),
            token: self.digest().0.to_vec(),
            owner: owner.to_string(),
            role: role.map(|role| role.get_name().to_owned()).unwrap_or_default(),
            class: owner.class().map(str::to_owned),
            numerics: numerics(),
            snapshot: None,
        }
    }
}

impl PartialEq for TokenDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}
