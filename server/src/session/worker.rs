//! What a thread does with a session for a slice.
//!
//! It is a thread of the operating system, never tokio's, so that a long kernel delays no network traffic, but for the task
//! that computes in a simulation; see [`turns`](super::turns). A panic ends its session and nothing more.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::Duration,
};

use gradtape_proto::v1;
use prost::Message;

use super::{
    core::{SessionCore, Step},
    error::ProtocolError,
    inbox::{Answered, BatchMeta, Current, Job, Next, Origin, Read, Session, Wanted, Work},
    outbox::Delivery,
};
use crate::{
    audit::{Event, Outcome},
    clock::Clock,
    ids,
    oversight::Oversight,
    wire::encode,
};

/// What becomes of a session after its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// There is more to do.
    Requeue,
    /// It comes back when something arrives.
    Rest,
}

/// Works on a session until it has nothing to do or its time is over.
pub fn run_slice(session: &Arc<Session>, clock: &dyn Clock, slice: Duration) -> After {
    let until = clock.now() + slice;
    // Nobody else locks this: a session is scheduled at most once.
    let mut work = session.work.lock().unwrap_or_else(PoisonError::into_inner);
    match catch_unwind(AssertUnwindSafe(|| work_until(session, &mut work, clock, until))) {
        Ok(after) => after,
        Err(panic) => {
            let incident = ids::incident();
            let what = panic_message(panic.as_ref());
            tracing::error!(session = %session.id(), incident, what, "end session after panic");
            let Oversight { metrics, audit, .. } = session.oversight();
            metrics.panics.inc();
            let event = Event::new("panic", Outcome::Failed).session(session.id());
            audit.record(&event.detail(&incident));
            let broken = ProtocolError::SessionBroken { incident };
            if work.recovery.is_some() {
                session.stays_away(broken.clone());
            } else {
                session.end(broken.clone());
            }
            take_down(session, &mut work, &broken);
            After::Rest
        }
    }
}

fn work_until(
    session: &Arc<Session>,
    work: &mut Work,
    clock: &dyn Clock,
    until: Duration,
) -> After {
    if !session.has_ended() && !come_back(session, work, clock, until) {
        return After::Requeue;
    }
    loop {
        if work.current.is_none() || session.has_ended() {
            match session.next() {
                Next::Job(job) if work.recovery.is_some() => {
                    session.put_back(job);
                    return After::Requeue;
                }
                Next::Job(job) => start(session, work, clock, job),
                Next::Nothing => return After::Rest,
                Next::Ended(why) => {
                    take_down(session, work, &why);
                    return After::Rest;
                }
            }
        }
        if proceed(session, work, clock, until) == Progress::TimeIsOver {
            return After::Requeue;
        }
    }
}

/// Goes on with bringing the session back from its log, if it has to; says whether that is over.
fn come_back(session: &Arc<Session>, work: &mut Work, clock: &dyn Clock, until: Duration) -> bool {
    let Work { core: Some(core), recovery: Some(recovery), .. } = work else { return true };
    match recovery.proceed(core, session.uploads(), || clock.now() >= until || session.has_ended())
    {
        Ok(None) => return false,
        Ok(Some(recovered)) => {
            tracing::info!(session = %session.id(), sequence = recovered.sequence, "session is back");
            session.came_back(core, recovered);
        }
        Err(why) => session.stays_away(why),
    }
    work.recovery = None;
    true
}

/// Begins a batch, or does any other job at once.
fn start(session: &Session, work: &mut Work, clock: &dyn Clock, job: Job) {
    let Some(core) = &mut work.core else { return };
    match job {
        Job::Hibernate => session.hibernate(work),
        Job::Wake => {}
        // Its client sends it again.
        Job::Batch { meta, .. } if meta.sender.is_lost() => session.return_credit(&meta),
        Job::Batch { batch, meta } => match core.begin(batch) {
            Ok(run) => work.current = Some(Current { run, meta, started: clock.now() }),
            Err(error) => answer(session, meta, Err(error), 0),
        },
        Job::Welcome { attachment } => {
            let next_sequence = core.next_sequence();
            let handle_base = attachment.handle_base();
            attachment.deliver(Delivery::Welcome { next_sequence, handle_base }, 0);
        }
        Job::Close { attachment, end } => {
            attachment.end(end);
            session.detach(&attachment);
        }
        Job::Read(read) => {
            work.waiting.retain(|read| !read.is_forgotten());
            let limit = session.limits().max_waiting_downloads;
            if read.after_sequence < core.next_sequence() {
                read.answer(core);
            } else if work.waiting.len() < limit {
                work.waiting.push(read);
            } else {
                read.refuse(ProtocolError::TooManyDownloads { limit });
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The batch is done, or there was none.
    Done,
    /// The slice is over before the batch is.
    TimeIsOver,
}

/// Executes commands of the current batch.
fn proceed(session: &Session, work: &mut Work, clock: &dyn Clock, until: Duration) -> Progress {
    let Work { core: Some(core), current: Some(current), waiting, .. } = work else {
        return Progress::Done;
    };
    let result = loop {
        if session.has_ended() {
            return Progress::Done;
        }
        if let Some(sequence) = current.run.looping() {
            attend(session, current, sequence);
        }
        match step(session, core, current) {
            Ok(Step::More) => {
                // Not after the whole batch: a snapshot shows the state right after a command.
                answer_due(waiting, core);
                if current.run.looping().is_none() {
                    core.shorten_log();
                }
                if clock.now() >= until {
                    return Progress::TimeIsOver;
                }
            }
            Ok(Step::Done) => break Some(Ok(())),
            Ok(Step::Interrupted) => break None,
            Err(error) => break Some(Err(error)),
        }
    };
    session.stops().finish();
    session.set_unattended(false);
    session.publish(core.next_sequence(), core.engine().handles());
    match (work.current.take(), result) {
        (Some(current), Some(result)) => finish(session, core, current, result, clock),
        (Some(Current { meta, .. }), None) => session.return_credit(&meta),
        (None, _) => {}
    }
    Progress::Done
}

/// Does one step of a batch, unless nobody waits for it any more.
fn step(
    session: &Session,
    core: &mut SessionCore,
    current: &mut Current,
) -> Result<Step, ProtocolError> {
    let Current { run, meta, .. } = current;
    let repeatable = core.is_repeatable(run);
    session.stops().begin(run.sequence(), repeatable.then_some(&meta.sender));
    if repeatable && meta.sender.is_lost() {
        return Ok(Step::Interrupted);
    }
    core.step(run, session.stops())
}

/// Looks after a loop before its next step: whether it shall stop, what it reports, and who has attached meanwhile.
fn attend(session: &Session, current: &mut Current, sequence: u64) {
    let Current { run, meta, .. } = current;
    session.set_unattended(match &meta.origin {
        Origin::Stream(_) => true,
        Origin::Call(caller) => caller.is_closed(),
    });
    if session.stops_loop(sequence) {
        run.stop_loop();
    }
    // A welcome comes before everything else.
    if let Some(attachment) = session.next_welcome() {
        // The loop is not done, so its client sends it again, and what comes after it.
        let handle_base = attachment.handle_base();
        attachment.deliver(Delivery::Welcome { next_sequence: sequence, handle_base }, 0);
    }
    if let Some(report) = run.take_report()
        && let Some(attachment) = session.attached()
    {
        let report = Some(encode::loop_report(report));
        let progress = v1::LoopProgress { sequence, report };
        let bytes = progress.encoded_len();
        attachment.deliver(Delivery::Progress(progress), bytes);
    }
}

fn finish(
    session: &Session,
    core: &SessionCore,
    current: Current,
    result: Result<(), ProtocolError>,
    clock: &dyn Clock,
) {
    let Current { mut run, meta, started } = current;
    let barrier = run.take_barrier();
    let reply_bytes = run.reply_bytes();
    let queue = started.saturating_sub(meta.arrived);
    let execution = clock.now().saturating_sub(started);
    let metrics = &session.oversight().metrics;
    metrics.batch(meta.cost.commands, queue, execution);
    run.refusals().iter().for_each(|reason| metrics.refuse(reason));
    let reply = result.map(|()| v1::BatchReply {
        timing: Some(v1::Timing {
            queue_ns: nanoseconds(queue),
            execution_ns: nanoseconds(execution),
            request_bytes: meta.cost.bytes as u64,
            backlog_commands: session.backlog() as u64,
            memory_bytes: core.engine().ledger().used(),
        }),
        ..run.finish()
    });
    let reply = reply.map(|reply| (reply, barrier));
    answer(session, meta, reply, reply_bytes);
}

fn answer(
    session: &Session,
    meta: BatchMeta,
    reply: Result<Answered, ProtocolError>,
    reply_bytes: usize,
) {
    session.return_credit(&meta);
    match (meta.origin, reply) {
        (Origin::Stream(attachment), Ok((reply, barrier))) => {
            attachment.deliver(Delivery::Batch(reply, barrier), reply_bytes);
        }
        (Origin::Stream(attachment), Err(error)) => {
            attachment.end(Err(error));
            session.detach(&attachment);
        }
        // The caller may have gone; what was executed counts all the same.
        (Origin::Call(sender), reply) => drop(sender.send(reply)),
    }
}

/// Answers the reads whose command has been applied.
fn answer_due(waiting: &mut Vec<Read>, core: &SessionCore) {
    for read in waiting.extract_if(.., |read| read.after_sequence < core.next_sequence()) {
        read.answer(core);
    }
}

/// The other end of an answer may be gone; then nobody misses it.
impl Read {
    fn is_forgotten(&self) -> bool {
        match &self.wanted {
            Wanted::Value { answer, .. } => answer.is_closed(),
            Wanted::Snapshot { answer, .. } => answer.is_closed(),
        }
    }

    fn answer(self, core: &SessionCore) {
        match self.wanted {
            Wanted::Value { handle, answer } => {
                drop(answer.send(core.engine().peek(handle).map_err(ProtocolError::from)));
            }
            Wanted::Snapshot { entries, answer } => {
                let snapshot = core.engine().snapshot(&entries).map_err(ProtocolError::from);
                let sequence = core.next_sequence() - 1;
                drop(answer.send(snapshot.map(|snapshot| (snapshot, sequence))));
            }
        }
    }

    fn refuse(self, why: ProtocolError) {
        match self.wanted {
            Wanted::Value { answer, .. } => drop(answer.send(Err(why))),
            Wanted::Snapshot { answer, .. } => drop(answer.send(Err(why))),
        }
    }
}

/// Frees a session's state and answers everybody who waits.
fn take_down(session: &Session, work: &mut Work, why: &ProtocolError) {
    session.wait_no_longer();
    work.recovery = None;
    let current = work.current.take().map(|current| current.meta);
    let (jobs, attachment) = session.take_all();
    for meta in current.into_iter().chain(jobs.into_iter().filter_map(|job| refuse(job, why))) {
        answer(session, meta, Err(why.clone()), 0);
    }
    for read in work.waiting.drain(..) {
        read.refuse(why.clone());
    }
    if let Some(attachment) = attachment {
        attachment.end(Err(why.clone()));
    }
    // After a panic even dropping the state might panic again; the process must live.
    let core = work.core.take();
    if catch_unwind(AssertUnwindSafe(|| drop(core))).is_err() {
        tracing::error!(session = %session.id(), "drop of session state panicked");
    }
}

/// Refuses a job; what is left of a batch is answered by the caller.
fn refuse(job: Job, why: &ProtocolError) -> Option<BatchMeta> {
    match job {
        Job::Batch { meta, .. } => return Some(meta),
        Job::Welcome { attachment } | Job::Close { attachment, .. } => {
            attachment.end(Err(why.clone()));
        }
        Job::Read(read) => read.refuse(why.clone()),
        Job::Hibernate | Job::Wake => {}
    }
    None
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// A duration as the wire has it.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
