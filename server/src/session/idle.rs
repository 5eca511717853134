//! What becomes of a session of which nothing is heard: it leaves memory, is warned, and ends.
//!
//! A session that has a log can leave memory without losing anything, since all of it is in the log. It stays where it is for
//! everybody else, with its streams: the next job brings it back first.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use gradtape_engine::session::Session as Engine;
use gradtape_proto::v1;

use super::{
    core::SessionCore,
    error::ProtocolError,
    inbox::{Job, Session, Work},
    outbox::Attachment,
};
use crate::durable::recovery::Recovery;

/// Work that a session would have to do again to come back from which on its log is shortened before it leaves memory: whoever
/// wakes it waits for that.
const WORTH_A_SNAPSHOT: Duration = Duration::from_millis(500);

// === impl Session: for the registry ===

impl Session {
    /// How long nothing has been attached or asked.
    pub fn idle(&self, now: Duration) -> Duration {
        let inbox = self.lock();
        let busy = inbox.scheduled && !self.unattended.load(Ordering::Relaxed);
        if inbox.attachment.is_some() || busy {
            return Duration::ZERO;
        }
        now.saturating_sub(inbox.last_used)
    }

    /// How long its stream, if there is one, has said nothing.
    pub fn silent(&self, now: Duration) -> Duration {
        let inbox = self.lock();
        if inbox.attachment.is_none() || inbox.scheduled || !inbox.jobs.is_empty() {
            return Duration::ZERO;
        }
        now.saturating_sub(inbox.last_used)
    }

    /// Number of its last attachment.
    pub fn attachments(&self) -> u64 {
        self.lock().epoch
    }

    /// Tells its stream, once for each silence, that the session will end.
    pub fn warn_of_end(&self, remaining: Duration) {
        let mut inbox = self.lock();
        // A stream that is not welcome yet is about to use it.
        if inbox.warned == Some(inbox.last_used) || inbox.scheduled {
            return;
        }
        inbox.warned = Some(inbox.last_used);
        let attachment = inbox.attachment.clone();
        drop(inbox);
        notify(attachment.as_ref(), v1::notice::Kind::Expires, remaining);
    }

    /// Lets the session leave memory, if it can come back and nothing was asked of it for so long.
    pub fn hibernate_if_quiet(self: &Arc<Self>, now: Duration, after: Duration) {
        if self.journal.is_none() || !*self.ready_for_use.borrow() {
            return;
        }
        let mut inbox = self.lock();
        let quiet = now.saturating_sub(inbox.last_used) > after;
        if quiet && inbox.ended.is_none() && !inbox.scheduled && inbox.jobs.is_empty() {
            // This is no use of it.
            inbox.jobs.push_back(Job::Hibernate);
            self.schedule(&mut inbox);
        }
    }

    /// Ends the stream if it has not read for too long.
    pub fn drop_slow_consumer(self: &Arc<Self>, now: Duration) {
        let attachment = self.lock().attachment.clone();
        let Some(attachment) = attachment else { return };
        let stalled = attachment.stalled_since().map(|since| now.saturating_sub(since));
        if stalled.is_some_and(|stalled| stalled > self.limits.slow_consumer_timeout) {
            attachment.abort(ProtocolError::SlowConsumer);
            self.detach(&attachment);
            self.wake();
        }
    }
}

fn notify(attachment: Option<&Arc<Attachment>>, kind: v1::notice::Kind, remaining: Duration) {
    let remaining_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
    if let Some(attachment) = attachment {
        attachment.notify(v1::Notice { kind: kind.into(), remaining_ms });
    }
}

// === impl Session: for the worker ===

impl Session {
    /// Frees the session's state, if all of it is in the log and nothing is on its way. If coming back from there would take
    /// long, the log is shortened instead, and another time will do.
    pub(super) fn hibernate(&self, work: &mut Work) {
        let (Some(core), Some(journal)) = (&work.core, &self.journal) else { return };
        if !work.waiting.is_empty() || work.recovery.is_some() {
            return;
        }
        if journal.has_worked(WORTH_A_SNAPSHOT) && core.begin_anew(journal) {
            return;
        }
        let attachment = {
            let inbox = self.lock();
            // Something has come meanwhile: a welcome, which is the first that a stream hears, or a command.
            if !inbox.jobs.is_empty() {
                return;
            }
            inbox.attachment.clone()
        };
        let uploads = core.uploads();
        let hibernated = journal.is_settled()
            && uploads.while_empty(|| {
                let store = Arc::clone(journal.store());
                let recovery = Recovery::of_open(store, self.id(), Arc::clone(journal));
                work.recovery = Some(Box::new(recovery));
                self.ready_for_use.send_replace(false);
            });
        if hibernated {
            let engine = Engine::new(Arc::clone(&self.ledger));
            let uploads = Arc::clone(self.uploads());
            work.core = Some(SessionCore::new(engine, uploads, &self.limits));
            tracing::debug!(session = %self.id(), "session has left memory");
            self.oversight.metrics.sessions_hibernated.inc();
            notify(attachment.as_ref(), v1::notice::Kind::Parked, Duration::ZERO);
        }
    }

    /// Puts a job back that the session has to come back for first.
    pub(super) fn put_back(&self, job: Job) {
        let mut inbox = self.lock();
        if let Job::Batch { meta, .. } = &job {
            inbox.backlog += meta.cost.commands;
        }
        inbox.jobs.push_front(job);
    }
}
