//! A session's state and the order of its commands: each takes effect exactly once.
//!
//! No I/O, no time, no threads: batches go in, replies come out, so that it can be simulated. Execution can pause
//! between two commands of a batch ([`SessionCore::begin`], [`SessionCore::step`], [`Run::finish`]), and between two steps
//! of a loop.
//!
//! What takes effect is told to the session's journal, if it has one, and can be [repeated](SessionCore::repeat) from there.
//!
//! Invariant: commands below `next_sequence` have taken effect, the others have not; of a loop that is being executed, the
//! number is used up. A command that was stopped because its sender is lost gives its number back.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use gradtape_engine::{
    command::{Answer, LoopReport, Outcome},
    error::Code,
    session::{Progress, Session as Engine, Working},
};
use gradtape_proto::v1;
use prost::{DecodeError, Message};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    error::ProtocolError,
    replies::{Recall, Replies},
    stops::Stops,
    uploads::Uploads,
};
#[cfg(feature = "failpoints")]
use crate::failpoints;
use crate::{
    config::Limits,
    durable::{
        entry::{Cause, Entry},
        journal::Journal,
    },
    wire::{decode, encode, inlet, inlet::Inlet},
};

/// The state of a session.
#[derive(Debug)]
pub struct SessionCore {
    engine: Engine,
    next_sequence: u64,
    replies: Replies,
    uploads: Arc<Uploads>,
    /// Hears of what takes effect.
    journal: Option<Arc<Journal>>,
    max_batch_commands: usize,
    max_inline_bytes: usize,
    max_batch_reply_bytes: usize,
    /// The command that is being executed.
    inlet: Inlet,
}

/// A batch on its way through a session.
#[derive(Debug)]
pub struct Run {
    commands: std::vec::IntoIter<Bytes>,
    /// Sequence number of the next of them.
    sequence: u64,
    replies: Vec<v1::Reply>,
    reply_bytes: usize,
    /// Reasons of the limits that its commands ran into.
    refusals: Vec<&'static str>,
    /// The loop that is being executed, if it is one.
    working: Option<Loop>,
    /// The commands that wait for a level, and how long.
    barrier: Option<Barrier>,
    /// What came of the command when it was executed first.
    before: Option<Box<Entry>>,
    deviation: Option<Deviation>,
}

/// Commands whose replies say that they have reached a level, or for how long that was waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Barrier {
    /// Their sequence numbers.
    pub sequences: Vec<u64>,
    /// Those of them that shall be portable.
    pub portable: Vec<u64>,
    /// How long to wait.
    pub timeout: Duration,
}

/// How a command that was repeated differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deviation {
    /// It fails now for want of something that was there.
    Lacks,
    /// Something else came of it.
    Differs,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    More,
    /// The batch is done.
    Done,
    /// The command was stopped, and not because its client wished it: it was not executed, nor is the rest of the batch.
    Interrupted,
}

/// A loop on its way, and what its reply needs.
#[derive(Debug)]
struct Loop {
    working: Box<Working>,
    told: Told,
}

/// A command that is being executed, beside its content.
#[derive(Debug)]
struct Told {
    /// As it came.
    command: Bytes,
    digest: u64,
    tag: Arc<str>,
    /// It did not get to the engine.
    undecoded: bool,
    /// It promises that what it leaves is durable, so what it leaves is hashed.
    is_barrier: bool,
    /// Steps, if it is a loop.
    steps: Option<i64>,
}

impl SessionCore {
    /// An empty session. Command 1 comes first.
    pub fn new(engine: Engine, uploads: Arc<Uploads>, limits: &Limits) -> Self {
        Self {
            engine,
            next_sequence: 1,
            replies: Replies::new(limits.retained_commands, limits.retained_bytes),
            uploads,
            journal: None,
            max_batch_commands: limits.max_batch_commands,
            max_inline_bytes: limits.max_inline_tensor_bytes,
            max_batch_reply_bytes: limits.max_batch_reply_bytes,
            inlet: Inlet::default(),
        }
    }

    /// Sequence number of the next new command.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The values and everything else that handles name.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Executes a batch. On an error nothing new of it has taken effect.
    pub fn apply(&mut self, batch: v1::Batch) -> Result<v1::BatchReply, ProtocolError> {
        let (mut run, stops) = (self.begin(batch)?, Stops::default());
        while self.step(&mut run, &stops)? == Step::More {}
        Ok(run.finish())
    }

    /// Checks the numbers of a batch and forgets what it acknowledges.
    pub fn begin(&mut self, batch: v1::Batch) -> Result<Run, ProtocolError> {
        let v1::Batch { first_sequence, commands, acknowledged_sequence } = batch;
        if commands.len() > self.max_batch_commands {
            let why =
                format!("has {} entries, {} are allowed", commands.len(), self.max_batch_commands);
            return Err(ProtocolError::malformed("batch.commands", why));
        }
        if first_sequence == 0 {
            return Err(ProtocolError::malformed("batch.first_sequence", "starts at 1"));
        }
        if first_sequence.checked_add(commands.len() as u64).is_none() {
            return Err(ProtocolError::malformed("batch.first_sequence", "overflows"));
        }
        if first_sequence > self.next_sequence {
            let (expected, given) = (self.next_sequence, first_sequence);
            return Err(ProtocolError::SequenceGap { expected, given });
        }
        if acknowledged_sequence >= self.next_sequence {
            let why = format!("command {acknowledged_sequence} has not been executed");
            return Err(ProtocolError::malformed("batch.acknowledged_sequence", why));
        }
        self.acknowledge(acknowledged_sequence);
        Ok(Run::new(commands, first_sequence))
    }

    /// Forgets replies that the client has.
    pub fn acknowledge(&mut self, sequence: u64) {
        self.replies.acknowledge(sequence);
        if let Some(journal) = &self.journal {
            journal.acknowledge(sequence);
        }
    }

    /// Whether the next command of a batch can be executed again if it is stopped. A loop cannot, whose first steps have taken
    /// effect, nor what belongs to the body of a function, which remembers its failures.
    pub fn is_repeatable(&self, run: &Run) -> bool {
        let defines = |command| self.engine.is_defining(inlet::scope(command));
        run.working.is_none()
            && !(self.engine.defines() && run.commands.as_slice().first().is_some_and(defines))
    }

    /// Executes or recalls the next command of a batch, or does the next step of a loop.
    pub fn step(&mut self, run: &mut Run, stops: &Stops) -> Result<Step, ProtocolError> {
        if let Some(mut working) = run.working.take() {
            match self.engine.proceed(&mut working.working) {
                Some(outcome) => {
                    working.told.steps = Some(working.working.done());
                    self.reply(run, outcome, &working.told);
                    run.sequence += 1;
                }
                None => run.working = Some(working),
            }
            return Ok(Step::More);
        }
        let repeatable = self.is_repeatable(run);
        let Some(command) = run.commands.next() else { return Ok(Step::Done) };
        let digest = xxh3_64(&command);
        let read = self.inlet.read(&command);
        run.wait_for(self.inlet.command());
        if run.sequence < self.next_sequence {
            self.recall(run, digest)?;
        } else if let Some((outcome, told)) = self.execute(run, command, digest, read) {
            let anew = repeatable && run.before.is_none();
            if anew && is_cancelled(&outcome) && !stops.is_cancelled(run.sequence) {
                self.engine.take_back(run.sequence);
                self.next_sequence = run.sequence;
                return Ok(Step::Interrupted);
            }
            self.reply(run, outcome, &told);
        }
        if run.working.is_none() {
            run.sequence += 1;
        }
        Ok(Step::More)
    }

    /// Repeats what was said about a command that came before. These are always the first of a batch, so that an error
    /// leaves the session as it was.
    fn recall(&self, run: &mut Run, digest: u64) -> Result<(), ProtocolError> {
        let sequence = run.sequence;
        match self.replies.recall(sequence, digest) {
            Recall::Same(None) => Ok(()),
            Recall::Same(Some(reply)) => {
                run.reply_bytes += reply.encoded_len();
                // Replies of several earlier batches may come together here.
                if run.reply_bytes
                    > self.max_batch_reply_bytes.saturating_add(self.max_inline_bytes)
                {
                    return Err(ProtocolError::RepliesTooLarge);
                }
                run.replies.push(reply.clone());
                Ok(())
            }
            Recall::Other => Err(ProtocolError::SequenceReused { sequence }),
            Recall::Evicted => Err(ProtocolError::ReplyEvicted { sequence }),
        }
    }

    /// Executes the next command. Without an outcome it is a loop, and the steps are still to be done.
    fn execute(
        &mut self,
        run: &mut Run,
        command: Bytes,
        digest: u64,
        read: Result<(), DecodeError>,
    ) -> Option<(Outcome, Told)> {
        let sequence = run.sequence;
        // The number is used up before the engine runs, so that not even a panic could lead to a second execution.
        self.next_sequence = sequence + 1;
        let context = decode::Context {
            ledger: self.engine.ledger(),
            uploads: &self.uploads,
            max_inline_bytes: self.max_inline_bytes,
            has_log: self.journal.is_some() || run.before.is_some(),
            is_portable: self.journal.as_ref().is_some_and(|journal| journal.is_portable())
                || run.before.is_some(),
        };
        let tag = self.inlet.tag();
        let message = self.inlet.command();
        let mut decoded = match read {
            Ok(()) => decode::command(&context, message, &tag),
            Err(error) => Err(decode::unreadable(&error)),
        };
        failpoint!(Validate);
        if let Ok(decoded) = &mut decoded
            && context.has_log
            && self.engine.is_showing()
            && decode::keeps_source(decoded)
        {
            decoded.source = Some((&*command).into());
        }
        let mut told = Told {
            command,
            digest,
            tag,
            undecoded: decoded.is_err(),
            is_barrier: run.waits_for(sequence),
            steps: None,
        };
        let (lacked, steps) = run.before.as_ref().map_or((None, None), |entry| entry.lacked());
        #[cfg(feature = "failpoints")]
        let (lacked, _no_room) =
            (lacked.or_else(failpoints::lack), failpoints::NoRoom::of(self.engine.ledger()));
        failpoint!(BeforeExec);
        let outcome = match (decoded, lacked) {
            (_, Some((error, true))) => {
                told.undecoded = true;
                self.engine.reject(sequence, decode::rejected(message, error))
            }
            (Err(rejected), _) => self.engine.reject(sequence, rejected),
            (Ok(decoded), Some((error, false))) if steps.is_none() => {
                self.engine.fail_as(sequence, decoded, error)
            }
            (Ok(decoded), lacked) => match self.engine.begin(sequence, decoded) {
                Progress::Done(outcome) => outcome,
                Progress::Working(mut working) => {
                    if let Some(steps) = steps {
                        working.end_after(steps, lacked.map(|(error, _)| error));
                    }
                    run.working = Some(Loop { working, told });
                    return None;
                }
            },
        };
        failpoint!(AfterExec);
        Some((outcome, told))
    }

    /// Keeps what the engine said about a command, and adds it to the answer.
    fn reply(&mut self, run: &mut Run, outcome: Outcome, told: &Told) {
        if let Err(failure) = &outcome.result {
            let (code, reason, _) = failure.error.classify();
            if code == Code::ResourceExhausted {
                run.refusals.push(reason);
            }
        }
        let room = self.max_batch_reply_bytes.saturating_sub(run.reply_bytes);
        let max_tensor_bytes = room.min(self.max_inline_bytes);
        let stopped = matches!(&outcome.result, Ok(Answer::Looped(info)) if info.stopped);
        let cause = match &outcome.result {
            Err(failure) => Cause::of(&failure.error),
            Ok(Answer::Tensor(tensor)) => {
                (tensor.aval().bytes() > max_tensor_bytes as u64).then_some(Cause::Reply)
            }
            Ok(_) => None,
        };
        let mut reply = encode::reply(run.sequence, outcome, &told.tag, max_tensor_bytes);
        if let Some(before) = run.before.take() {
            run.deviation = self.compare(&before, &mut reply, cause, told.is_barrier);
        } else if let Some(journal) = self.journal.clone() {
            let steps = told.steps.filter(|_| stopped || cause.is_some());
            let entry = self.entry(reply.as_ref(), cause, steps, told);
            journal.append(run.sequence, &entry);
        }
        self.replies.record(told.digest, reply.as_ref());
        if let Some(reply) = reply {
            run.reply_bytes += reply.encoded_len();
            run.replies.push(reply);
        }
    }
}

// === impl Run ===

impl Run {
    fn new(commands: Vec<Bytes>, sequence: u64) -> Self {
        Self {
            commands: commands.into_iter(),
            sequence,
            replies: Vec::new(),
            reply_bytes: 0,
            refusals: Vec::new(),
            working: None,
            barrier: None,
            before: None,
            deviation: None,
        }
    }

    /// The answer to the batch, without its timing.
    pub fn finish(self) -> v1::BatchReply {
        v1::BatchReply {
            applied_sequence: self.sequence - 1,
            replies: self.replies,
            timing: None,
            durable_sequence: None,
        }
    }

    /// Sequence number of the next command, or of the loop that is being executed.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Sequence number of the loop that is being executed, if it is one.
    pub fn looping(&self) -> Option<u64> {
        self.working.as_ref().map(|_| self.sequence)
    }

    /// Lets that loop end before its next step.
    pub fn stop_loop(&mut self) {
        if let Some(working) = &mut self.working {
            working.working.stop();
        }
    }

    /// What that loop reports, if its client wants it at once.
    pub fn take_report(&mut self) -> Option<LoopReport> {
        self.working.as_mut().and_then(|working| working.working.take_report())
    }

    /// Reasons of the limits that its commands ran into.
    pub fn refusals(&self) -> &[&'static str] {
        &self.refusals
    }

    /// About how many bytes the answer will have.
    pub fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }
}

/// Whether a command failed because it was stopped.
fn is_cancelled(outcome: &Outcome) -> bool {
    outcome.result.as_ref().is_err_and(|failure| failure.error.classify().0 == Code::Cancelled)
}

mod told;

#[cfg(test)]
mod tests;
