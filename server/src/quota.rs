//! What each principal has: sessions and their memory, connections, and how much it asked for lately.
//!
//! What is taken is given back when its [`Place`] is dropped. The anonymous principal has no quota, because it is many
//! people; see [`Quota`](crate::config::access::Quota).

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, RateLimiter,
    clock::{Clock, DefaultClock},
};
use gradtape_engine::ledger::Ledger;

use crate::{config::access::Quota as Limits, principal::Principal, session::error::ProtocolError};

/// Something of which a principal may have so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quota {
    /// Sessions at one time.
    Sessions,
    /// Sessions made in a minute.
    Creations,
    /// Connections at one time.
    Connections,
    /// Calls and batches in a minute.
    Requests,
}

impl Quota {
    /// The reason that errors give, which is never renamed.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Sessions => "PRINCIPAL_SESSIONS",
            Self::Creations => "PRINCIPAL_SESSION_RATE",
            Self::Connections => "PRINCIPAL_CONNECTIONS",
            Self::Requests => "PRINCIPAL_REQUEST_RATE",
        }
    }

    /// What is counted, and what to do when there is too much of it.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Sessions => ("sessions", "end one, or wait until an idle one expires"),
            Self::Creations => ("new sessions a minute", "wait, and use one session for longer"),
            Self::Connections => ("connections", "close one, or share one among sessions"),
            Self::Requests => {
                ("calls and batches a minute", "wait, and send more commands in each")
            }
        }
    }
}

/// What all principals have.
#[derive(Debug)]
pub struct Quotas {
    limits: Limits,
    used: Arc<Mutex<Used>>,
    creations: Option<DefaultKeyedRateLimiter<Principal>>,
    requests: Option<DefaultKeyedRateLimiter<Principal>>,
    /// The memory of those who have sessions.
    ledgers: Mutex<HashMap<Principal, Weak<Ledger>>>,
}

type Used = HashMap<(Principal, Quota), usize>;

/// One of the things that a principal has. Dropping it gives it back.
#[derive(Debug)]
pub struct Place(Option<Taken>);

#[derive(Debug)]
struct Taken {
    used: Arc<Mutex<Used>>,
    key: (Principal, Quota),
}

impl Quotas {
    /// Nobody has anything yet.
    pub fn new(limits: Limits) -> Self {
        let limiter = |most| {
            let rate = NonZeroU32::new(most);
            rate.map(|rate| RateLimiter::keyed(governor::Quota::per_minute(rate)))
        };
        let creations = limiter(limits.max_creations_per_minute);
        let requests = limiter(limits.max_requests_per_minute);
        Self { limits, used: Arc::default(), creations, requests, ledgers: Mutex::default() }
    }

    /// Takes the right to one more session.
    pub fn session(&self, principal: &Principal) -> Result<Place, ProtocolError> {
        let place = self.take(principal, Quota::Sessions, self.limits.max_sessions)?;
        if place.0.is_some()
            && let Some(creations) = &self.creations
        {
            let limit = self.limits.max_creations_per_minute;
            admit(creations, principal, Quota::Creations, limit)?;
        }
        Ok(place)
    }

    /// Counts a call, or a batch of a stream.
    pub fn request(&self, principal: &Principal) -> Result<(), ProtocolError> {
        match &self.requests {
            Some(requests) if !principal.is_anonymous() => {
                let limit = self.limits.max_requests_per_minute;
                admit(requests, principal, Quota::Requests, limit)
            }
            _ => Ok(()),
        }
    }

    /// What the sessions of a principal take their memory from, within the server's.
    pub fn ledger(&self, principal: &Principal, server: &Arc<Ledger>) -> Arc<Ledger> {
        if principal.is_anonymous() {
            return Arc::clone(server);
        }
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ledger) = ledgers.get(principal).and_then(Weak::upgrade) {
            return ledger;
        }
        ledgers.retain(|_, ledger| ledger.strong_count() > 0);
        let ledger = server.child("principal", self.limits.memory_bytes);
        ledgers.insert(principal.clone(), Arc::downgrade(&ledger));
        ledger
    }

    /// Takes the place of a session that was there before the server started. It is not refused.
    pub fn keep_session(&self, principal: &Principal) -> Place {
        self.take(principal, Quota::Sessions, usize::MAX).unwrap_or(Place(None))
    }

    /// Takes the right to one more connection.
    pub fn connection(&self, principal: &Principal) -> Result<Place, ProtocolError> {
        self.take(principal, Quota::Connections, self.limits.max_connections)
    }

    /// Forgets who asked for nothing for so long that it does not matter any more.
    pub fn forget(&self) {
        for recent in [&self.creations, &self.requests].into_iter().flatten() {
            recent.retain_recent();
        }
    }

    fn take(
        &self,
        principal: &Principal,
        quota: Quota,
        limit: usize,
    ) -> Result<Place, ProtocolError> {
        /// When something is given back is up to the client; this is no faster than a person.
        const WAIT: Duration = Duration::from_secs(5);
        if principal.is_anonymous() {
            return Ok(Place(None));
        }
        let key = (principal.clone(), quota);
        let mut used = lock(&self.used);
        let count = used.entry(key.clone()).or_default();
        if *count >= limit {
            let used = *count;
            return Err(ProtocolError::QuotaExceeded { quota, used, limit, wait: WAIT });
        }
        *count += 1;
        Ok(Place(Some(Taken { used: Arc::clone(&self.used), key })))
    }
}

/// Counts something that a principal may do so often in a minute.
fn admit(
    recent: &DefaultKeyedRateLimiter<Principal>,
    principal: &Principal,
    quota: Quota,
    limit: u32,
) -> Result<(), ProtocolError> {
    recent.check_key(principal).map_err(|not_until| {
        let wait = not_until.wait_time_from(DefaultClock::default().now());
        let limit = limit as usize;
        ProtocolError::QuotaExceeded { quota, used: limit, limit, wait }
    })
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut used = lock(&self.used);
        if let Some(count) = used.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.key);
            }
        }
    }
}

fn lock(used: &Mutex<Used>) -> MutexGuard<'_, Used> {
    used.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Role;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let limits = Limits { max_sessions: 2, max_creations_per_minute: 4, ..Limits::default() };
        let quotas = Quotas::new(limits);
        let [ada, ben] =
            ["ada", "ben"].map(|name| Principal::new(name.into(), Role::User, None, None));
        let first = quotas.session(&ada).unwrap();
        let _second = quotas.session(&ada).unwrap();
        let refused = quotas.session(&ada).unwrap_err();
        assert!(
            matches!(
                refused,
                ProtocolError::QuotaExceeded { quota: Quota::Sessions, used: 2, limit: 2, .. }
            ),
            "{refused:?}"
        );
        let _other = quotas.session(&ben).unwrap();
        drop(first);
        drop(quotas.session(&ada).unwrap());
        drop(quotas.session(&ada).unwrap());
        let refused = quotas.session(&ada).unwrap_err();
        let ProtocolError::QuotaExceeded { quota: Quota::Creations, limit: 4, wait, .. } = refused
        else {
            panic!("{refused:?}")
        };
        assert!(wait <= Duration::from_secs(15), "four a minute is one in 15 s, not in {wait:?}");
        assert_eq!(lock(&quotas.used).len(), 2, "what is refused must not stay counted");
    }

    #[test]
    fn a_class_on_an_open_server_is_not_one_person() {
        let quotas = Quotas::new(Limits {
            max_sessions: 1,
            max_creations_per_minute: 1,
            ..Limits::default()
        });
        let held: Vec<_> =
            (0..60).map(|_| quotas.session(&Principal::anonymous()).unwrap()).collect();
        assert_eq!((held.len(), lock(&quotas.used).len()), (60, 0));
    }
}
