//! Sessions that come over from the portable store, because the machine that had them is lost.
//!
//! Nobody learns from it which sessions are there: without the token, a session that could come over is as unknown as any other.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use gradtape_engine::error::Error as CommandError;

use super::{Entry, Registry, SessionId, Token, theirs};
use crate::{
    audit::{Event, Outcome},
    durable::{
        entry::numerics,
        journal::Journals,
        portable::{Failure, Portable},
        store::Fault,
    },
    ids,
    principal::Principal,
    session::error::ProtocolError,
};

/// Sessions that are on their way here.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<HashSet<SessionId>>);

/// The right to fetch a session, which one caller has at a time.
#[derive(Debug)]
struct Arrival {
    registry: Arc<Registry>,
    id: SessionId,
}

impl Arrival {
    fn begin(registry: &Arc<Registry>, id: SessionId) -> Option<Self> {
        let is_first = registry.arrivals.change(|ids| ids.insert(id));
        is_first.then(|| Self { registry: Arc::clone(registry), id })
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.registry.arrivals.change(|ids| ids.remove(&self.id));
    }
}

impl Arrivals {
    fn change<T>(&self, change: impl FnOnce(&mut HashSet<SessionId>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Registry {
    /// Lets a session come over from the portable store if it is there, this server does not have it, and the caller has the
    /// right to it. Whether there is such a session then, [`authenticate`](Self::authenticate) tells.
    pub async fn fetch_if_absent(
        self: &Arc<Self>,
        id: &str,
        token: &str,
        principal: &Principal,
    ) -> Result<(), ProtocolError> {
        let portable = self.journals.as_ref().and_then(Journals::portable);
        let (Some(portable), Ok(id)) = (portable, SessionId::parse(id)) else { return Ok(()) };
        let Some(token) = ids::from_hex(token).map(Token) else { return Ok(()) };
        if self.is_draining() || self.has(id) {
            return Ok(());
        }
        let arrival = Arrival::begin(self, id).ok_or(ProtocolError::RecoveryPostponed)?;
        if self.has(id) {
            return Ok(());
        }
        let (portable, principal) = (Arc::clone(portable), principal.clone());
        // Once claimed it is put where it belongs, even if the caller no longer waits.
        let taking = tokio::spawn(async move {
            arrival.registry.take_over(&portable, id, &token, &principal).await
        });
        taking.await.unwrap_or(Err(ProtocolError::Draining))
    }

    async fn take_over(
        &self,
        portable: &Portable,
        id: SessionId,
        token: &Token,
        principal: &Principal,
    ) -> Result<(), ProtocolError> {
        let failed = |failure| failed(id, &failure);
        let Some(journals) = &self.journals else { return Ok(()) };
        let _turn = portable.turn().await.map_err(failed)?;
        let Some(found) = portable.find(id).await.map_err(failed)? else { return Ok(()) };
        let opened = found.opened().clone();
        let Some((digest, owner)) = theirs(&opened) else { return Ok(()) };
        if digest != token.digest() || owner != *principal {
            return Ok(());
        }
        if opened.numerics != numerics() {
            return Err(ProtocolError::SessionOfAnother { build: opened.numerics });
        }
        let place = self.place(&owner)?;
        self.check_room(self.len(), &owner)?;
        let fetched = portable.fetch(id, &found, &self.ledger).await.map_err(failed)?;
        let (epoch, sequence) = (found.epoch(), found.sequence());
        let store = Arc::clone(journals.store());
        // What this server writes from now on comes after what the other has written.
        let advance = {
            let store = Arc::clone(&store);
            move || store.advance(epoch).map_err(Fault::Broken)
        };
        blocking(journals, advance).await?;
        portable.claim(id, found, store.as_ref()).await.map_err(failed)?;
        let put = move || {
            store.set_note(id, None).map_err(Fault::Broken)?;
            store.replace(id, &fetched.parts)
        };
        blocking(journals, put).await?;
        let entry = Entry {
            token: digest,
            session: self.away(journals, (id, owner), opened, 0),
            created: self.clock.now(),
            _place: place,
        };
        self.lock().insert(id, entry);
        tracing::warn!(session = %id, sequence, "session has come over from the portable store");
        self.oversight.metrics.sessions_taken_over.inc();
        let event = Event::new("take_over_session", Outcome::Done).principal(principal);
        self.oversight.audit.record(&event.session(id));
        Ok(())
    }

    fn has(&self, id: SessionId) -> bool {
        self.lock().contains_key(&id)
    }
}

/// Does something with the store of sessions where waiting for the disk keeps nobody else from working.
async fn blocking(
    journals: &Journals,
    work: impl FnOnce() -> Result<(), Fault> + Send + 'static,
) -> Result<(), ProtocolError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(Fault::Full(_))) => Err(CommandError::StoreFull.into()),
        Ok(Err(Fault::Broken(error))) => {
            journals.fail(&error);
            Err(ProtocolError::SessionStoreFailed)
        }
        Err(_) => Err(ProtocolError::Draining),
    }
}

/// Why a session does not come over. What the store says is for the log: it shows paths and addresses.
fn failed(id: SessionId, failure: &Failure) -> ProtocolError {
    match failure {
        Failure::Damaged(why) => {
            tracing::error!(session = %id, why, "the copy of a session is damaged");
            ProtocolError::SessionDamaged { last: 0, why: (*why).to_owned() }
        }
        // Somebody else was faster; where the session is then, only asking again tells.
        Failure::Fenced | Failure::Memory => ProtocolError::RecoveryPostponed,
        Failure::Ended => ProtocolError::Draining,
        Failure::Store(..)
        | Failure::Late(_)
        | Failure::Overwrites
        | Failure::Torn
        | Failure::Log(_) => ProtocolError::PortableStoreFailed { incident: failure.incident(id) },
    }
}
