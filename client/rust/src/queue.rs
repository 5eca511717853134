//! The session's commands on their way: enqueued, sent, applied.
//!
//! Everything that must hold together lives here under one lock that is never held across an await: sequence
//! numbers, handles, the commands that the server has not yet applied, the credit, and the failures that nobody has
//! asked for yet. Nothing here knows the network; `link` takes batches out and `worker` puts their replies in.
//!
//! Invariant: `log[i]` has the sequence number `first + i`, and stays until a reply says it was applied; or, if the server keeps
//! a log of the session, until a reply says it is durable. So whatever happens to a connection or to the server, sending the
//! log again loses nothing, and the server's stored replies double nothing.

mod entry;
mod recorder;

use std::{
    collections::{HashMap, VecDeque},
    panic::Location,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use gradtape_proto::v1::{self as proto, Command, Reply, command::Kind};
use tokio::sync::{Notify, mpsc, oneshot};

use self::entry::{Entry, Upload};
use crate::{
    DType, Error, Result, TensorData, failures::Failures, handles::Handles, limits::Limits,
};

pub(crate) use self::recorder::Recorder;

/// A burst of this many commands goes out at once; fewer wait a moment for more.
const EAGER_COMMANDS: usize = 64;

/// Most handles that one Release may name, by the contract.
const MAX_RELEASED: usize = 65_536;

/// So many are released between the commands of a program that runs ahead: behind all of them, the server would have to keep
/// the tensors of dozens of steps.
const RELEASED_AT_ONCE: usize = 128;

/// What a batch takes besides its commands: two numbers and the lengths around them.
const BATCH_OVERHEAD: u64 = 32;

/// The reason with which a command fails that the program cancelled.
const CANCELLED: &str = "CANCELLED";

/// Where an answer will arrive.
pub(crate) type AnswerReceiver = oneshot::Receiver<Result<Reply>>;

/// Where the reports of a loop will arrive. The server bounds their number.
pub(crate) type Reports = mpsc::UnboundedReceiver<proto::LoopReport>;

/// What tells constants that stand for scalars apart.
type ScalarKey = (DType, Bytes);

/// Constants that stand for scalars.
type Scalars = HashMap<ScalarKey, u64>;

/// The commands of one session. See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

/// How far the client's side of the session has come.
#[derive(Debug)]
enum Phase {
    Open,
    /// Sends what is left, then ends.
    Closing,
    Ended(Error),
}

#[derive(Debug)]
struct State {
    phase: Phase,
    limits: Limits,
    handles: Handles,
    /// Enqueued and not known to be applied, or not known to be durable.
    log: VecDeque<Entry>,
    /// Sequence number of the log's first entry.
    first: u64,
    /// How many entries of the log the server has applied, as it stands.
    applied: usize,
    /// How many the present connection has taken, or the server has applied.
    sent: usize,
    /// Last command that is known to be durable, if the server keeps a log of the session.
    durable: Option<u64>,
    /// Commands below this number may have stored replies, because an earlier connection sent them.
    resent_below: u64,
    /// Last sequence number and size of each batch that has no reply yet.
    batches: VecDeque<(u64, u64)>,
    /// Bytes of those batches.
    sent_bytes: u64,
    /// Handles that nothing on this side names any more, to be released together.
    dropped: Vec<u64>,
    /// Constants that stand for scalars in expressions.
    scalars: Scalars,
    /// The same for the bodies of functions that are being defined, by scope, the outermost first.
    bodies: HashMap<u32, Vec<Scalars>>,
    /// Where the reports of loops go, by sequence number.
    reports: HashMap<u64, mpsc::UnboundedSender<proto::LoopReport>>,
    failures: Failures,
    /// Commands up to this number are cancelled by the program, which need not be told.
    cancelled: u64,
    /// Someone waits for an answer, so what is queued goes out now.
    urgent: bool,
    /// The link sleeps until something is enqueued.
    idle: bool,
    /// Wakes the present connection's link.
    wake: Arc<Notify>,
    next_upload: u64,
}

/// What a link should do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send this.
    Send(proto::Batch),
    /// Upload this, report it by [`Queue::uploaded`], and ask again.
    Upload { sequence: u64, upload: u64, data: TensorData },
    /// Wait to be woken.
    Wait,
    /// Wait to be woken, but not long.
    Linger,
    /// Nothing will ever be sent again.
    End,
}

// === impl Queue ===

impl Queue {
    /// A queue for a session whose stream was attached with this welcome.
    pub(crate) fn new(limits: Limits, welcome: &proto::Welcome) -> Self {
        let handle_base = welcome.handle_base;
        Self {
            state: Mutex::new(State {
                phase: Phase::Open,
                limits,
                handles: Handles::from_base(handle_base),
                log: VecDeque::new(),
                first: welcome.next_sequence,
                applied: 0,
                sent: 0,
                durable: welcome.durable_sequence,
                resent_below: 0,
                batches: VecDeque::new(),
                sent_bytes: 0,
                dropped: Vec::new(),
                scalars: HashMap::new(),
                bodies: HashMap::new(),
                reports: HashMap::new(),
                failures: Failures::default(),
                cancelled: 0,
                urgent: false,
                idle: false,
                wake: Arc::default(),
                next_upload: handle_base.max(1),
            }),
        }
    }

    /// A panic elsewhere cannot leave the state half changed: nothing below panics between two changes.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enqueues commands that belong together. Never waits for the network.
    pub(crate) fn record<R>(
        &self,
        scope: u32,
        location: &'static Location<'static>,
        build: impl FnOnce(&mut Recorder<'_>) -> R,
    ) -> R {
        build(&mut Recorder { state: &mut self.lock(), scope, location })
    }

    /// Enqueues a finished command.
    pub(crate) fn raw(&self, command: &Command) -> AnswerReceiver {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        state.append(command, Some(sender), None);
        state.enqueued();
        receiver
    }

    /// Sends what is queued without waiting for more, because somebody waits for an answer.
    pub(crate) fn hurry(&self) {
        let mut state = self.lock();
        if state.log.len() > state.sent {
            state.urgent = true;
            state.wake.notify_one();
        }
    }

    /// Forgets a handle, together with others: when the next batch goes out, or when they are many.
    pub(crate) fn release(&self, handle: u64) {
        let mut state = self.lock();
        state.dropped.push(handle);
        if state.dropped.len() >= RELEASED_AT_ONCE {
            state.flush_dropped();
        }
        state.enqueued();
    }

    /// Notes that the program cancels what is enqueued. Gives the last sequence number of it.
    pub(crate) fn cancel(&self) -> u64 {
        let mut state = self.lock();
        state.cancelled = state.first + state.log.len() as u64 - 1;
        state.cancelled
    }

    /// Sends what is left and then ends.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closing;
        }
        state.wake.notify_one();
    }

    /// Whether nothing more will be enqueued and everything is applied.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.lock();
        let applied = state.applied == state.log.len();
        !matches!(state.phase, Phase::Open) && applied && state.dropped.is_empty()
    }

    /// Ends the session on this side: whoever waits gets the error, and whoever asks later.
    pub(crate) fn end(&self, error: &Error) {
        let mut state = self.lock();
        state.phase = Phase::Ended(error.clone());
        for entry in std::mem::take(&mut state.log) {
            if let Some(answer) = entry.answer {
                // A receiver that is gone no longer wants to know.
                let _ = answer.send(Err(error.clone()));
            }
        }
        (state.applied, state.sent) = (0, 0);
        state.reports.clear();
        state.wake.notify_one();
    }

    /// Sequence number of the next command to be enqueued.
    pub(crate) fn next_sequence(&self) -> u64 {
        let state = self.lock();
        state.first + state.log.len() as u64
    }

    /// Commands that the server has not applied yet, as far as is known.
    pub(crate) fn backlog(&self) -> usize {
        let state = self.lock();
        state.log.len() - state.applied
    }

    /// Marks a failure as told to the program.
    pub(crate) fn told(&self, root_sequence: u64) {
        self.lock().failures.told(root_sequence);
    }

    /// The oldest failure that the program has not been told of.
    pub(crate) fn take_untold(&self) -> Option<Error> {
        self.lock().failures.take_untold().map(Error::Command)
    }

    /// Starts over on a new connection: what the server has not applied goes out again.
    ///
    /// Fails if the server stands where this client never was, or where it cannot follow: the server lost the session's state,
    /// or somebody else used the session.
    pub(crate) fn attach(&self, limits: Limits, welcome: &proto::Welcome) -> Result<Arc<Notify>> {
        let mut state = self.lock();
        let next_sequence = welcome.next_sequence;
        let end = state.first + state.log.len() as u64;
        let seen = state.first + state.applied as u64;
        let begin = if welcome.rewound_to.is_some() { state.first } else { seen };
        if !(begin..=end).contains(&next_sequence) {
            return Err(Error::Protocol(format!(
                "the session goes on at {next_sequence}, but this client stands between {begin} and {end}"
            )));
        }
        if next_sequence < seen {
            tracing::warn!(next_sequence, seen, "the server went back, sending again");
        }
        // What was applied before stays sent; of what was sent and not answered, the stored replies are asked for.
        let applied = next_sequence.min(seen) - state.first;
        state.applied = usize::try_from(applied).unwrap_or(usize::MAX).min(state.log.len());
        state.sent = state.applied;
        if let Some(durable) = welcome.durable_sequence {
            state.durable = Some(durable);
        }
        state.forget();
        state.limits = limits;
        state.resent_below = next_sequence;
        state.sent_bytes = 0;
        state.batches.clear();
        state.idle = false;
        state.urgent = true;
        state.wake = Arc::default();
        Ok(Arc::clone(&state.wake))
    }

    /// Says what the connection with this wake-up call should do next.
    ///
    /// `hurry` sends what there is, even if it is little.
    pub(crate) fn step(&self, wake: &Arc<Notify>, hurry: bool) -> Step {
        let mut state = self.lock();
        // A connection that was replaced must not take what the new one has to send.
        if !Arc::ptr_eq(&state.wake, wake) || matches!(state.phase, Phase::Ended(_)) {
            return Step::End;
        }
        state.step(hurry)
    }

    /// Notes how an upload ended.
    pub(crate) fn uploaded(&self, sequence: u64, outcome: Result<()>) {
        let mut state = self.lock();
        let Some(index) = sequence.checked_sub(state.first).and_then(|i| usize::try_from(i).ok())
        else {
            return;
        };
        if let Some(entry) = state.log.get_mut(index) {
            entry.upload = Some(match outcome {
                Ok(()) => Upload::Done,
                Err(error) => Upload::Refused(error),
            });
        }
    }

    /// Takes a loop's report.
    pub(crate) fn progress(&self, progress: proto::LoopProgress) {
        let state = self.lock();
        if let (Some(reports), Some(report)) =
            (state.reports.get(&progress.sequence), progress.report)
        {
            // A receiver that is gone no longer wants to know.
            let _ = reports.send(report);
        }
    }

    /// Takes the server's answer to a batch.
    pub(crate) fn applied(&self, reply: proto::BatchReply) -> Result<()> {
        self.lock().applied(reply)
    }
}

// === impl State ===

impl State {
    /// Decides whether something new in the queue is worth waking the link for.
    fn enqueued(&mut self) {
        let pending = self.log.len() - self.sent;
        if self.urgent || self.idle || pending == EAGER_COMMANDS {
            self.idle = false;
            self.wake.notify_one();
        }
    }

    fn step(&mut self, hurry: bool) -> Step {
        let pending = self.log.len() - self.sent;
        let closing = matches!(self.phase, Phase::Closing);
        if pending == 0 && self.dropped.is_empty() {
            self.urgent = false;
            self.idle = true;
            return if closing { Step::End } else { Step::Wait };
        }
        if !(hurry || closing || self.urgent || pending >= EAGER_COMMANDS) {
            return Step::Linger;
        }
        if self.unapplied() >= self.limits.unapplied_commands {
            return Step::Wait;
        }
        self.flush_dropped();
        if let Some(Entry { upload: Some(Upload::Waiting { upload, data }), .. }) =
            self.log.get(self.sent)
        {
            let sequence = self.first + self.sent as u64;
            return Step::Upload { sequence, upload: *upload, data: data.clone() };
        }
        self.batch().map_or(Step::Wait, Step::Send)
    }

    /// Takes as many unsent commands as one message and the credit allow. None if the credit does not allow any.
    fn batch(&mut self) -> Option<proto::Batch> {
        let credit = self.limits.unapplied_commands - self.unapplied();
        let most = self.limits.batch_commands.min(credit);
        let mut bytes = BATCH_OVERHEAD;
        let mut count = 0;
        for entry in self.log.range(self.sent..).take(most) {
            let more = bytes + entry.size();
            let full = count > 0 && more > self.limits.batch_bytes;
            // With nothing on its way, a command goes out whatever its size: the server judges it.
            let broke = self.sent_bytes + more > self.limits.unapplied_bytes
                && (count > 0 || !self.batches.is_empty());
            if full || broke || matches!(entry.upload, Some(Upload::Waiting { .. })) {
                break;
            }
            bytes = more;
            count += 1;
            // The stored replies to commands that went out in many batches must not have to fit into one.
            let again = self.first + (self.sent + count) as u64 <= self.resent_below;
            if again && entry.fetches {
                break;
            }
        }
        if count == 0 {
            return None;
        }
        let first_sequence = self.first + self.sent as u64;
        let commands = self.log.range(self.sent..self.sent + count);
        let commands = commands.map(|entry| entry.command.clone()).collect();
        self.sent += count;
        self.sent_bytes += bytes;
        self.batches.push_back((first_sequence + count as u64 - 1, bytes));
        let acknowledged_sequence = self.first + self.applied as u64 - 1;
        Some(proto::Batch { first_sequence, commands, acknowledged_sequence })
    }

    /// How many entries are on their way.
    fn unapplied(&self) -> usize {
        self.sent - self.applied
    }

    /// Turns dropped handles into commands. They may be used again at once: the server applies the release first.
    fn flush_dropped(&mut self) {
        while !self.dropped.is_empty() {
            let rest = self.dropped.split_off(self.dropped.len().min(MAX_RELEASED));
            let handles = std::mem::replace(&mut self.dropped, rest);
            self.handles.recycle(&handles);
            let kind = Kind::Release(proto::Release { handles });
            self.append(&Command { kind: Some(kind), ..Command::default() }, None, None);
        }
    }

    fn append(
        &mut self,
        command: &Command,
        answer: Option<oneshot::Sender<Result<Reply>>>,
        upload: Option<Upload>,
    ) {
        if let Phase::Ended(error) = &self.phase {
            if let Some(answer) = answer {
                let _ = answer.send(Err(error.clone()));
            }
            return;
        }
        self.log.push_back(Entry::new(command, answer, upload));
    }

    fn applied(&mut self, reply: proto::BatchReply) -> Result<()> {
        let applied = reply.applied_sequence;
        if applied >= self.first + self.sent as u64 {
            return Err(Error::Protocol(format!(
                "command {applied} is applied but was never sent"
            )));
        }
        if let Some(durable) = reply.durable_sequence {
            self.durable = Some(durable);
        }
        let mut replies = reply.replies.into_iter().peekable();
        while self.first + self.applied as u64 <= applied {
            let index = self.applied;
            let sequence = self.first + index as u64;
            self.applied += 1;
            // Replies below are those that an earlier connection brought already.
            while replies.next_if(|reply| reply.sequence < sequence).is_some() {}
            let reply = replies.next_if(|reply| reply.sequence == sequence);
            self.settle(sequence, index, reply);
        }
        self.forget();
        while let Some((_, bytes)) = self.batches.pop_front_if(|(last, _)| *last <= applied) {
            self.sent_bytes -= bytes;
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Forgets what need not be sent again whatever happens.
    fn forget(&mut self) {
        let kept = self.durable.unwrap_or(u64::MAX);
        while self.applied > 0 && self.first <= kept {
            self.log.pop_front();
            self.first += 1;
            self.applied -= 1;
            self.sent -= 1;
        }
    }

    /// Hands a command's reply to whoever waits for it, and keeps its failure for whoever asks later.
    fn settle(&mut self, sequence: u64, index: usize, reply: Option<Reply>) {
        let Some(entry) = self.log.get_mut(index) else { return };
        let mut reply = reply.unwrap_or_else(|| Reply { sequence, ..Reply::default() });
        let failed = matches!(reply.result, Some(proto::reply::Result::Error(_)));
        let before = entry.outcome.replace(failed);
        // It was executed again, and the same came of it.
        if before.is_some_and(|failed_before| failed_before || !failed) {
            return;
        }
        for warning in &reply.warnings {
            tracing::warn!(tag = entry.tag(), "{warning}");
        }
        self.reports.remove(&sequence);
        let (answer, upload) = (entry.answer.take(), entry.upload.take());
        let outcome = match reply.result.take() {
            Some(proto::reply::Result::Error(error)) => {
                // A constant that could not be made must not spoil later expressions.
                self.forget_scalars();
                let failure = self.failures.add(error);
                if failure.reason == CANCELLED && sequence <= self.cancelled {
                    self.failures.told(sequence);
                }
                tracing::debug!(%failure, "command failed");
                Err(match upload {
                    Some(Upload::Refused(error)) => error,
                    Some(Upload::Waiting { .. } | Upload::Done) | None => Error::Command(failure),
                })
            }
            result => Ok(Reply { result, ..reply }),
        };
        if let Some(answer) = answer {
            let _ = answer.send(outcome);
        }
    }

    fn forget_scalars(&mut self) {
        self.dropped.extend(self.scalars.drain().map(|(_, handle)| handle));
    }
}
