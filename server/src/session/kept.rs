//! What a session has beyond the process: its log, the way back from it, and levels.

use std::sync::{Arc, atomic::Ordering};

use gradtape_engine::error::Error;
use gradtape_proto::v1;
use tokio::time::Instant;

use super::{
    core::SessionCore,
    error::ProtocolError,
    inbox::{Answered, Job, Session},
};
use crate::{
    durable::{
        journal::{Health, Journal},
        portable::Failure,
        recovery::{Recovered, Recovery},
    },
    wire::encode,
};

/// What keeps a session beyond the process.
#[derive(Debug)]
pub enum Kept {
    /// Nothing.
    Not,
    /// A log that begins with it.
    New(Arc<Journal>),
    /// A log that it comes back from when somebody asks for it. Its attachments are counted from there on.
    Again(Arc<Journal>, Box<Recovery>, u64),
}

// === impl Session: for the services ===

impl Session {
    /// Waits until the session's state is there, which it is at once unless it has to come back from a log.
    pub async fn ready(self: &Arc<Self>) -> Result<(), ProtocolError> {
        let mut ready = self.ready_for_use.subscribe();
        let is_away = {
            let mut inbox = self.lock();
            // It does not leave memory between this and what is asked next.
            inbox.last_used = self.clock.now();
            let is_away = !*ready.borrow_and_update();
            if inbox.ended.is_none()
                && is_away
                && !inbox.jobs.iter().any(|job| matches!(job, Job::Wake))
            {
                inbox.jobs.push_back(Job::Wake);
                self.schedule(&mut inbox);
            }
            is_away
        };
        if is_away {
            // It has been there then, even if it has left again. The other end is this session.
            let _ = ready.changed().await;
        }
        self.lock().ended.clone().map_or(Ok(()), Err)
    }

    /// What it is kept by, if it has a log.
    pub fn journal(&self) -> Option<&Arc<Journal>> {
        self.journal.as_ref()
    }

    /// The last command of the log that it came back from, if it did.
    pub fn rewound_to(&self) -> Option<u64> {
        self.rewound_to.get().copied()
    }

    /// Whether it could not come back from its log, which stays.
    pub fn is_lost(&self) -> bool {
        self.has_ended()
            && self.journal.is_some()
            && self.failed_to_come_back.load(Ordering::Relaxed)
    }

    /// Whether it may come back when there is more memory.
    pub fn may_come_back(&self) -> bool {
        self.lock().ended == Some(ProtocolError::RecoveryPostponed)
    }

    /// Completes the answer to a batch: says what is durable and portable, once what waits for that has waited.
    pub async fn complete(
        &self,
        (mut reply, barrier): Answered,
    ) -> Result<v1::BatchReply, ProtocolError> {
        let Some(journal) = &self.journal else { return Ok(reply) };
        let barrier = barrier.unwrap_or_default();
        let (mut progress, began) = (journal.progress(), Instant::now());
        if let Some(&last) = barrier.sequences.last() {
            progress = journal.reach(last, barrier.timeout).await;
        }
        if progress.health == Health::Broken {
            return Err(ProtocolError::SessionStoreFailed);
        }
        let left = barrier.timeout.saturating_sub(began.elapsed());
        let portable = match barrier.portable.last() {
            Some(&last) if progress.durable >= last => journal.reach_portable(last, left).await,
            _ => Ok(journal.portable_sequence()),
        };
        if let Err(Failure::Fenced) = portable {
            return Err(ProtocolError::SessionFenced);
        }
        let lacks = portable.as_ref().err().map(|failure| failure.incident(self.id()));
        for said in &mut reply.replies {
            let Some(v1::reply::Result::Sync(sync)) = &mut said.result else { continue };
            let sequence = said.sequence;
            sync.durable_sequence = progress.durable;
            sync.portable_sequence = *portable.as_ref().unwrap_or(&journal.portable_sequence());
            let is_durable = progress.durable >= sequence;
            let error = if sync.portable_sequence >= sequence {
                sync.level = v1::Level::Portable.into();
                None
            } else if is_durable {
                sync.level = v1::Level::Durable.into();
                let incident = lacks.as_deref().filter(|_| barrier.portable.contains(&sequence));
                incident.map(|incident| Error::PortableStoreFailed { incident: incident.into() })
            } else {
                let is_full = progress.health == Health::Full;
                (is_full && barrier.sequences.contains(&sequence)).then_some(Error::StoreFull)
            };
            if let Some(error) = error {
                said.result = Some(v1::reply::Result::Error(encode::unreached(sequence, error)));
            }
        }
        reply.durable_sequence = Some(progress.durable);
        failpoint!(BeforeAck);
        Ok(reply)
    }

    /// Whether another server has it.
    pub fn is_fenced(&self) -> bool {
        self.lock().ended == Some(ProtocolError::SessionFenced)
    }
}

// === impl Session: for the worker ===

impl Session {
    /// The session has come back.
    pub(super) fn came_back(&self, core: &mut SessionCore, recovered: Recovered) {
        self.ledger.set_limit(self.memory_bytes);
        let Recovered { tail, snapshot, sequence } = recovered;
        if let Some(journal) = &self.journal {
            if !journal.is_open() {
                journal.resume(tail, snapshot, sequence);
                // What this server has applied since is not undone.
                let _ = self.rewound_to.set(sequence);
            }
            core.tell(Arc::clone(journal));
            self.uploads().tell(Arc::clone(journal));
        }
        self.publish(core.next_sequence(), core.engine().handles());
        self.oversight.metrics.sessions_recovered.inc();
        self.ready_for_use.send_replace(true);
    }

    /// The session cannot come back, at least not now. Its log stays.
    pub(super) fn stays_away(self: &Arc<Self>, why: ProtocolError) {
        self.failed_to_come_back.store(true, Ordering::Relaxed);
        if why != ProtocolError::RecoveryPostponed {
            self.oversight.metrics.sessions_lost.inc();
        }
        self.end(why);
    }

    /// Whoever waits for the session's state learns that it has ended.
    pub(super) fn wait_no_longer(&self) {
        self.ready_for_use.send_replace(true);
    }
}
