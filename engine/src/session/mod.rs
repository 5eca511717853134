//! The state of a session and what each command does to it.
//!
//! A command that fails changes nothing but to poison the handles that its results would have had: what uses them fails too
//! and names the first failure. One file a kind of thing: `values`, `tapes`, `jacobian`, `forward`, `optimizing`,
//! `functions`, `snapshots`; `program` runs what they write. The body of a function is shown to a session of its own
//! (`defining`), which writes a program instead of computing (`tracing`), and `calling` runs it; `looping` does so again and
//! again, in place where it can (`resident`).

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else a handle names is refused alike"
)]

mod branching;
mod calling;
mod defining;
mod forward;
mod functions;
mod images;
mod jacobian;
mod looping;
mod optimizing;
mod program;
mod repeated;
mod resident;
mod snapshots;
mod steps;
mod tapes;
#[cfg(test)]
mod tests;
mod tracing;
mod values;
mod verbs;
mod written;

use std::{collections::BTreeMap, sync::Arc};

use calling::Defined;
use defining::Definition;
use forward::Accumulator;
use hashbrown::{HashMap, hash_map::Entry};
use repeated::Repeated;
use smallvec::SmallVec;
use steps::Steps;
use tracing::Tracer;

pub use looping::{Progress, Working};

use crate::{
    array::Tensor,
    aval::Aval,
    command::{AbsentReason, Answer, Command, Failure, Handle, Kind, Outcome},
    error::Error,
    function::Capture,
    graph::{Value, ValueId},
    ledger::Ledger,
    optimizers::Optimizer,
    tape::Tape,
};

/// Most handles of a session.
pub const MAX_HANDLES: usize = 1 << 20;

/// Most tapes of a session. Nesting is rarely deeper than three; leaked tapes should be noticed.
pub const MAX_TAPES: usize = 64;

/// Everything that a client's handles name.
#[derive(Debug)]
pub struct Session {
    ledger: Arc<Ledger>,
    slots: HashMap<Handle, Slot>,
    tapes: BTreeMap<Handle, Tape>,
    accumulators: BTreeMap<Handle, Accumulator>,
    /// What placeholders stand in.
    captures: HashMap<u64, Capture>,
    /// Starts of tapes and accumulators so far: they nest in this order.
    starts: u64,
    next_id: u64,
    /// The mark of the command that is being executed.
    tag: Arc<str>,
    /// In how many bodies this one is nested.
    nesting: usize,
    /// The functions whose bodies are being shown, by scope.
    definitions: BTreeMap<u32, Box<Definition>>,
    /// Of a session that shows a body: the program that it writes instead of computing.
    tracer: Option<Tracer>,
    /// Gradients that were asked for before.
    repeated: Repeated,
    /// What the command that is being executed fails with, whatever it is.
    forced: Option<Error>,
}

/// What a handle names.
#[derive(Debug)]
enum Slot {
    Value(Value),
    Absent(AbsentReason),
    Variable(Variable),
    Tape,
    Accumulator,
    Optimizer(Box<OptimizerState>),
    Generator { id: ValueId, key: i64, counter: i64 },
    Function(Box<Defined>),
    Placeholder { capture: u64, slot: usize },
    Poisoned(Arc<Poison>),
}

/// A named, mutable tensor. Its tensor is replaced and never changed in place, so values read earlier stay.
#[derive(Clone, Debug)]
struct Variable {
    id: ValueId,
    name: Box<str>,
    tensor: Tensor,
    trainable: bool,
}

/// An optimizer and the state that it keeps for each variable, by name.
#[derive(Debug)]
struct OptimizerState {
    /// Which it is, in the order of creation.
    id: ValueId,
    optimizer: Optimizer,
    states: HashMap<ValueId, NamedTensors>,
    steps: Steps,
}

/// Slots of a variable. By name, since hyperparameters that change may add or drop some.
type NamedTensors = SmallVec<[(&'static str, Tensor); 4]>;

/// The failure that a handle would have held the result of.
#[derive(Debug)]
struct Poison {
    sequence: u64,
    tag: Box<str>,
    reason: Box<str>,
}

/// A command that could not be decoded.
#[derive(Debug)]
pub struct Rejected {
    /// Why.
    pub error: Error,
    /// The verb or op, as far as it was known.
    pub op: Box<str>,
    /// Handles that it would have bound.
    pub outputs: Vec<Handle>,
    /// The client's mark.
    pub tag: Box<str>,
}

impl Session {
    /// An empty session whose values are paid for by `ledger`.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        let (slots, captures) = (HashMap::new(), HashMap::new());
        let (tapes, accumulators) = (BTreeMap::new(), BTreeMap::new());
        Self {
            ledger,
            slots,
            captures,
            tapes,
            accumulators,
            starts: 0,
            next_id: 0,
            tag: "".into(),
            nesting: 0,
            definitions: BTreeMap::new(),
            tracer: None,
            repeated: Repeated::default(),
            forced: None,
        }
    }

    /// Executes one command, with all steps of a loop; [`begin`](Self::begin) leaves these to the caller. Never panics on its
    /// content. A command that fails changes nothing but to poison the handles of its results; functions begin and end
    /// whether or not that fails.
    pub fn apply(&mut self, sequence: u64, command: Command) -> Outcome {
        let loops = matches!(command.kind, Kind::RunLoop(_));
        if loops && !self.definitions.contains_key(&command.scope) {
            return self.run_loop(sequence, command);
        }
        if self.definitions.is_empty() {
            return self.perform(sequence, &command);
        }
        self.show(sequence, &Arc::new(command))
    }

    /// Lets a command fail as it did before, when something was missing that may be there now: memory, or time. Whoever
    /// repeats commands gets the state that they left.
    pub fn fail_as(&mut self, sequence: u64, command: Command, error: Error) -> Outcome {
        self.forced = Some(error);
        let outcome = if self.definitions.is_empty() {
            self.perform(sequence, &command)
        } else {
            self.show(sequence, &Arc::new(command))
        };
        self.forced = None;
        outcome
    }

    /// Executes a command that belongs to no body.
    fn perform(&mut self, sequence: u64, command: &Command) -> Outcome {
        let Command { kind, tag, scope, .. } = command;
        let mut warnings = Vec::new();
        self.tag = Arc::clone(tag);
        let result = self.execute(kind, *scope, &mut warnings).map_err(|error| {
            let inputs = self.known(kind);
            self.tapes.values_mut().for_each(|tape| tape.trace_mut().give_back());
            let failure =
                self.fail(sequence, tag, error, kind.verb().into(), &kind.outputs(), inputs);
            match kind {
                // A body around this one counts it.
                Kind::DefineFunction(_) if self.nesting == 0 => self.begin_failed(&failure, *scope),
                // However it failed, the body is over.
                Kind::FinishFunction { .. } => drop(self.definitions.remove(scope)),
                _ => {}
            }
            failure
        });
        Outcome { result, warnings }
    }

    /// Answers a command that could not even be decoded: its results are poisoned like those of one that failed.
    pub fn reject(&mut self, sequence: u64, rejected: Rejected) -> Outcome {
        let Rejected { error, op, outputs, tag } = rejected;
        let failure = self.fail(sequence, &tag, error, op, &outputs, Vec::new());
        Outcome { result: Err(failure), warnings: Vec::new() }
    }

    /// Takes back the failure of the last command, which was stopped, as if it had not been executed. It must not have been
    /// part of a body or a loop: these remember it.
    pub fn take_back(&mut self, sequence: u64) {
        self.slots
            .retain(|_, slot| !matches!(slot, Slot::Poisoned(root) if root.sequence == sequence));
    }

    /// Whether there are functions whose bodies are being shown.
    pub fn defines(&self) -> bool {
        !self.definitions.is_empty()
    }

    /// Whether the commands of a scope belong to the body of a function.
    pub fn is_defining(&self, scope: u32) -> bool {
        self.definitions.contains_key(&scope)
    }

    /// The value behind a handle, for downloads. Changes nothing; variables give their current value.
    pub fn peek(&self, handle: Handle) -> Result<Tensor, Error> {
        match self.slot(handle)? {
            Slot::Value(value) => Ok(value.tensor.clone()),
            Slot::Variable(variable) => Ok(variable.tensor.clone()),
            other => Err(other.refuse(handle, "value")),
        }
    }

    /// The variables: handle, name and current value.
    pub fn variables(&self) -> impl Iterator<Item = (Handle, &str, &Tensor)> {
        self.slots.iter().filter_map(|(&handle, slot)| {
            if let Slot::Variable(variable) = slot {
                Some((handle, &*variable.name, &variable.tensor))
            } else {
                None
            }
        })
    }

    /// Number of bound handles.
    pub fn handles(&self) -> usize {
        self.slots.len()
    }

    /// The ledger that pays for this session's values.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    fn execute(
        &mut self,
        kind: &Kind,
        scope: u32,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, Error> {
        if let Some(error) = self.forced.take() {
            return Err(error);
        }
        match kind {
            Kind::Constant { output, value } => self.constant(*output, value),
            Kind::Op { op, attrs, inputs, outputs } => self.op(op, attrs, inputs, outputs, scope),
            Kind::Release { handles } => self.release(handles),
            Kind::CreateVariable { variable, name, initial, trainable } => {
                self.create_variable(*variable, name, *initial, *trainable)
            }
            Kind::ReadVariable { variable, output } => {
                self.read_variable(*variable, *output, scope)
            }
            Kind::Assign { variable, value, mode } => self.assign(*variable, *value, *mode, scope),
            Kind::Scatter { variable, indices, updates, mode } => {
                self.scatter(*variable, *indices, *updates, *mode, scope)
            }
            Kind::OpenTape { tape, persistent, watch_accessed_variables, paused } => self
                .open_tape(
                    *tape,
                    Tape::new(*persistent, *watch_accessed_variables, scope),
                    *paused,
                ),
            Kind::WatchTape { tape, values } => self.watch(*tape, values, warnings),
            Kind::StopTape { tape, require_recording } => self.stop(*tape, *require_recording),
            Kind::ResumeTape { tape } => self.resume(*tape, scope),
            Kind::ResetTape { tape } => self.reset(*tape),
            Kind::CloseTape { tape } => self.close_tape(*tape),
            Kind::ListWatchedVariables { tape } => self.watched_variables(*tape),
            Kind::Gradient(request) => self.gradient(request, scope),
            Kind::Jacobian(request) => self.jacobian(request, scope),
            Kind::OpenAccumulator { accumulator, primals, tangents, paused } => {
                self.open_accumulator(*accumulator, (primals, tangents), *paused, scope, warnings)
            }
            Kind::ReadTangent(request) => self.read_tangents(request),
            Kind::CreateOptimizer { optimizer, name, hyperparameters, schedule } => {
                self.create_optimizer(*optimizer, name, hyperparameters.clone(), schedule.clone())
            }
            Kind::ApplyOptimizer { optimizer, pairs } => self.apply_optimizer(*optimizer, pairs),
            Kind::SetOptimizer { optimizer, hyperparameters, schedule } => {
                self.set_optimizer(*optimizer, hyperparameters.clone(), schedule.clone())
            }
            Kind::ReadOptimizer { optimizer, name, variable, output } => {
                self.read_optimizer(*optimizer, name, *variable, *output)
            }
            Kind::CreateGenerator { generator, seed } => self.create_generator(*generator, *seed),
            Kind::NextGeneratorState { generator, output, draws } => {
                self.next_state(*generator, *output, *draws)
            }
            Kind::Fetch { value } => self.peek(*value).map(Answer::Tensor),
            Kind::Describe { value } => self.describe(*value).map(Answer::Spec),
            Kind::CreatePlaceholders { like, outputs } => self.create_placeholders(like, outputs),
            Kind::RecordCustomGradient(request) => self.record_custom_gradient(request, scope),
            Kind::DefineFunction(request) => self.define_function(request, scope),
            Kind::FinishFunction { function, results, abandon } => {
                self.finish_function(*function, results, *abandon, scope)
            }
            Kind::CallFunction(request) => self.call_function(request, scope),
            Kind::Control { flow, outputs } => self.control(flow, outputs, scope),
            Kind::RunLoop(_) => Err(Error::bug("a loop is not one step")),
            Kind::ExplainFunction { function } => self.explain_function(*function),
            Kind::Explain { tape, target, source } => self.explain(*tape, *target, *source),
            Kind::Restore(request) => self.restore(request),
            Kind::Sync => Ok(Answer::Synced),
        }
    }

    // --- handles ---

    fn slot(&self, handle: Handle) -> Result<&Slot, Error> {
        self.slots.get(&handle).ok_or(Error::UnknownHandle { handle })
    }

    /// Checks that handles can be bound: free, different, not zero, and not too many.
    fn check_free(&self, handles: &[Handle]) -> Result<(), Error> {
        if self.slots.len() + handles.len() > MAX_HANDLES {
            return Err(Error::TooMany { what: "handles", limit: MAX_HANDLES });
        }
        for (i, &handle) in handles.iter().enumerate() {
            if handle == 0 {
                return Err(Error::ZeroHandle);
            }
            if self.slots.contains_key(&handle) || handles[..i].contains(&handle) {
                return Err(Error::HandleInUse { handle });
            }
        }
        Ok(())
    }

    fn bind(&mut self, handle: Handle, slot: Slot) -> Result<Answer, Error> {
        self.check_free(&[handle])?;
        self.slots.insert(handle, slot);
        Ok(Answer::Done)
    }

    fn new_id(&mut self) -> ValueId {
        self.next_id += 1;
        ValueId(self.next_id)
    }

    // --- failures ---

    fn fail(
        &mut self,
        sequence: u64,
        tag: &str,
        error: Error,
        op: Box<str>,
        outputs: &[Handle],
        inputs: Vec<Aval>,
    ) -> Box<Failure> {
        let root = match &error {
            Error::Poisoned { handle, .. } => match self.slots.get(handle) {
                Some(Slot::Poisoned(poison)) => Arc::clone(poison),
                Some(_) | None => Arc::new(Poison {
                    sequence,
                    tag: tag.into(),
                    reason: error.classify().1.into(),
                }),
            },
            error => {
                Arc::new(Poison { sequence, tag: tag.into(), reason: error.classify().1.into() })
            }
        };
        for &handle in outputs.iter().filter(|&&handle| handle != 0) {
            if self.slots.len() < MAX_HANDLES
                && let Entry::Vacant(slot) = self.slots.entry(handle)
            {
                slot.insert(Slot::Poisoned(Arc::clone(&root)));
            }
        }
        let (root_sequence, root_tag) = (root.sequence, root.tag.clone());
        Box::new(Failure { error, op, inputs, root_sequence, root_tag })
    }

    /// The dtypes and shapes of a command's inputs, as far as they exist.
    fn known(&self, kind: &Kind) -> Vec<Aval> {
        kind.inputs().iter().filter_map(|&handle| self.describe(handle).ok()).collect()
    }
}

impl Slot {
    fn kind(&self) -> &'static str {
        match self {
            Self::Value(_) => "value",
            Self::Absent(_) => "absent gradient",
            Self::Variable(_) => "variable",
            Self::Tape => "tape",
            Self::Accumulator => "accumulator",
            Self::Optimizer(_) => "optimizer",
            Self::Generator { .. } => "generator",
            Self::Function(_) => "function",
            Self::Placeholder { .. } => "placeholder, which has no elements",
            Self::Poisoned(_) => "failed result",
        }
    }

    /// Why this is not what was expected of the handle.
    fn refuse(&self, handle: Handle, expected: &'static str) -> Error {
        match self {
            Self::Absent(reason) => Error::GradientAbsent { handle, reason: *reason },
            Self::Poisoned(poison) => {
                Error::Poisoned { handle, root: poison.sequence, why: poison.reason.clone() }
            }
            other => Error::WrongKind { handle, expected, found: other.kind() },
        }
    }
}

#[cfg(test)]
impl Session {
    /// Who a handle's value is.
    pub(crate) fn identity(&self, handle: Handle) -> ValueId {
        match self.slot(handle) {
            Ok(Slot::Value(value)) => value.id,
            Ok(Slot::Variable(variable)) => variable.id,
            other => panic!("handle {handle} is {other:?}"),
        }
    }

    /// What a tape recorded.
    pub(crate) fn trace(&self, tape: Handle) -> &crate::tape::Trace {
        self.tapes[&tape].trace()
    }

    /// Lets each optimizer take its next step as if it were the first of its kind.
    pub(crate) fn forget_steps(&mut self) {
        for slot in self.slots.values_mut() {
            if let Slot::Optimizer(state) = slot {
                state.steps = Steps::default();
            }
        }
    }

    /// Runs a program that no tape hears of.
    pub(crate) fn run_silently(
        &mut self,
        program: crate::graph::Program,
        wanted: &[usize],
    ) -> Result<Vec<Value>, Error> {
        self.run(program, wanted, &[], u32::MAX)
    }
}
