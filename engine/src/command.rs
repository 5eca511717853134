//! What a session can be told, and what it answers: the contract in the engine's own types.
//!
//! The server's wire layer decodes messages into these; nothing here knows how they travel.

use std::{fmt, sync::Arc};

use smallvec::SmallVec;

use crate::{
    array::Tensor,
    attrs::Attrs,
    aval::Aval,
    error::Error,
    explain::Explanation,
    jacobian::Layout,
    op::OpDef,
    optimizers::{Given, schedules::Schedule},
    plan::explain::ExplainedStep,
    snapshot::{RestoreRequest, Restored},
};

/// A client-chosen name of something in a session. Zero names nothing.
pub type Handle = u64;

/// The handles of an op's inputs or outputs.
pub type Handles = SmallVec<[Handle; 3]>;

/// One instruction.
#[derive(Debug)]
pub struct Command {
    /// What to do.
    pub kind: Kind,
    /// The client's own mark, which comes back in errors.
    pub tag: Arc<str>,
    /// The client's thread of execution. A tape sees the commands of the scope that last started it.
    pub scope: u32,
    /// What it was made from, if the session's state is to be kept: a function keeps it, and the engine never reads it.
    pub source: Option<Arc<[u8]>>,
}

/// The verbs of a session. The schema's `command.proto` documents each.
#[derive(Debug)]
#[expect(missing_docs, reason = "command.proto documents the verbs and their fields")]
pub enum Kind {
    Constant {
        output: Handle,
        value: Tensor,
    },
    Op {
        op: &'static OpDef,
        attrs: Attrs,
        inputs: Handles,
        outputs: Handles,
    },
    Release {
        handles: Vec<Handle>,
    },
    CreateVariable {
        variable: Handle,
        name: Box<str>,
        initial: Handle,
        trainable: bool,
    },
    ReadVariable {
        variable: Handle,
        output: Handle,
    },
    Assign {
        variable: Handle,
        value: Handle,
        mode: AssignMode,
    },
    Scatter {
        variable: Handle,
        indices: Handle,
        updates: Handle,
        mode: AssignMode,
    },
    OpenTape {
        tape: Handle,
        persistent: bool,
        watch_accessed_variables: bool,
        paused: bool,
    },
    WatchTape {
        tape: Handle,
        values: Vec<Handle>,
    },
    StopTape {
        tape: Handle,
        require_recording: bool,
    },
    ResumeTape {
        tape: Handle,
    },
    ResetTape {
        tape: Handle,
    },
    CloseTape {
        tape: Handle,
    },
    ListWatchedVariables {
        tape: Handle,
    },
    CreatePlaceholders {
        like: Vec<Handle>,
        outputs: Vec<Handle>,
    },
    RecordCustomGradient(CustomGradient),
    DefineFunction(FunctionDefinition),
    FinishFunction {
        function: Handle,
        results: Vec<Handle>,
        abandon: bool,
    },
    CallFunction(FunctionCall),
    RunLoop(LoopRequest),
    Control {
        flow: Flow,
        outputs: Vec<Handle>,
    },
    ExplainFunction {
        function: Handle,
    },
    Explain {
        tape: Handle,
        target: Handle,
        source: Handle,
    },
    Gradient(GradientRequest),
    Jacobian(JacobianRequest),
    OpenAccumulator {
        accumulator: Handle,
        primals: Vec<Handle>,
        tangents: Vec<Handle>,
        paused: bool,
    },
    ReadTangent(TangentRequest),
    CreateOptimizer {
        optimizer: Handle,
        name: Box<str>,
        hyperparameters: Given,
        schedule: Option<Schedule>,
    },
    ApplyOptimizer {
        optimizer: Handle,
        pairs: Vec<GradientPair>,
    },
    SetOptimizer {
        optimizer: Handle,
        hyperparameters: Given,
        schedule: Option<Schedule>,
    },
    ReadOptimizer {
        optimizer: Handle,
        name: Box<str>,
        variable: Handle,
        output: Handle,
    },
    CreateGenerator {
        generator: Handle,
        seed: i64,
    },
    NextGeneratorState {
        generator: Handle,
        output: Handle,
        draws: i64,
    },
    Fetch {
        value: Handle,
    },
    Describe {
        value: Handle,
    },
    Restore(Box<RestoreRequest>),
    Sync,
}

/// How an assignment combines the old value with the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignMode {
    /// The new value takes the old one's place.
    Replace,
    /// The new value is added.
    Add,
    /// The new value is subtracted.
    Subtract,
}

/// Results, and the gradient that they shall have.
#[derive(Debug)]
pub struct CustomGradient {
    /// Values or variables that the results were computed from.
    pub inputs: Vec<Handle>,
    /// The results.
    pub results: Vec<Handle>,
    /// One for each result: the same values with the custom gradient.
    pub outputs: Vec<Handle>,
    /// Placeholders, one for each result, of what flows into it.
    pub upstream: Vec<Handle>,
    /// One for each input, computed from `upstream`: what flows into it, or 0 for nothing.
    pub gradients: Vec<Handle>,
}

/// The beginning of a function: what follows in its scope is its body.
#[derive(Debug)]
pub struct FunctionDefinition {
    /// Handle that the function gets when it is finished.
    pub function: Handle,
    /// Handles that the body has for its arguments.
    pub parameters: Vec<Handle>,
    /// Dtype and shape of each. What is wrong with them is said by the session, for which the body begins all the same.
    pub specs: Result<Vec<Aval>, Error>,
}

/// A function, and what to call it with.
#[derive(Debug)]
pub struct FunctionCall {
    /// Which.
    pub callee: Callee,
    /// One for each parameter.
    pub arguments: Vec<Handle>,
    /// One for each result.
    pub outputs: Vec<Handle>,
}

/// A function that is called.
#[derive(Debug)]
pub enum Callee {
    /// One that was defined.
    Defined(Handle),
    /// One that was shown on placeholders; tapes compute it again instead of keeping what it computes.
    Shown {
        /// Placeholders.
        parameters: Vec<Handle>,
        /// What was computed from them.
        results: Vec<Handle>,
    },
}

/// Control flow over functions, as one command.
#[derive(Debug)]
pub enum Flow {
    /// One of several functions.
    Branch {
        /// A truth value (the second function if it holds) or a number (the last, if there is no such).
        index: Handle,
        /// The functions, of equal results.
        functions: Vec<Handle>,
        /// What each would be called with.
        arguments: Vec<Handle>,
    },
    /// A function on its own results, for as long as another gives true.
    While {
        /// Gives a truth value.
        condition: Handle,
        /// Gives what it is given.
        body: Handle,
        /// What it begins with.
        carried: Vec<Handle>,
        /// Most iterations. Without it there is no gradient.
        maximum_iterations: Option<usize>,
    },
    /// A function on slice after slice of some values.
    Scan {
        /// Takes what is carried and a slice of each, gives what is carried and slices of the results.
        body: Handle,
        /// What it begins with.
        carried: Vec<Handle>,
        /// Goes over these along their first axis.
        stacks: Vec<Handle>,
        /// How many slices there are.
        length: usize,
        /// Whether the last slice comes first.
        reverse: bool,
    },
}

impl Flow {
    /// The functions that it runs.
    pub fn functions(&self) -> Vec<Handle> {
        match self {
            Self::Branch { functions, .. } => functions.clone(),
            Self::While { condition, body, .. } => vec![*condition, *body],
            Self::Scan { body, .. } => vec![*body],
        }
    }

    /// The values that it takes.
    pub fn operands(&self) -> Vec<Handle> {
        match self {
            Self::Branch { index, arguments, .. } => [&[*index], &arguments[..]].concat(),
            Self::While { carried, .. } => carried.clone(),
            Self::Scan { carried, stacks, .. } => [&carried[..], stacks].concat(),
        }
    }
}

/// A function to call again and again.
#[derive(Debug)]
pub struct LoopRequest {
    /// Which.
    pub function: Handle,
    /// How often.
    pub steps: i64,
    /// Values whose first axis is the examples. A batch of each is one of the first arguments.
    pub datasets: Vec<Handle>,
    /// Examples in a batch; 0 means all.
    pub batch_size: i64,
    /// Shuffles the examples of each epoch anew.
    pub shuffle_seed: Option<i64>,
    /// The other arguments.
    pub arguments: Vec<Handle>,
    /// So many of these arguments are replaced by the first results after each step.
    pub carried: usize,
    /// Handles of the results of the last step.
    pub outputs: Vec<Handle>,
    /// Reports the scalar results every so many steps; 0 means never.
    pub report_every: i64,
    /// Whether reports are wanted at once too, and not only at the end.
    pub stream_reports: bool,
    /// Number of the result that says whether the loop goes on.
    pub while_result: Option<usize>,
}

/// The scalar results of one step of a loop.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopReport {
    /// Number of the step, from 1.
    pub step: i64,
    /// The results that are scalars, in order.
    pub values: Vec<f64>,
}

/// What became of a loop.
#[derive(Clone, Debug, PartialEq)]
pub struct LoopInfo {
    /// Steps done.
    pub steps: i64,
    /// Whether it was stopped before the last.
    pub stopped: bool,
    /// All reports.
    pub reports: Vec<LoopReport>,
}

/// What to differentiate, and where the gradients go.
#[derive(Debug)]
pub struct GradientRequest {
    /// The tape.
    pub tape: Handle,
    /// Values or variables whose sum is differentiated; repeated ones count repeatedly.
    pub targets: Vec<Handle>,
    /// Values or variables to differentiate with respect to.
    pub sources: Vec<Handle>,
    /// One for each source.
    pub outputs: Vec<GradientOutput>,
    /// Upstream gradients: none, or one for each target; zero means ones.
    pub seeds: Vec<Handle>,
    /// Whether a source without a path gets zeros.
    pub zero_unconnected: bool,
    /// If the gradients are of these kinds, nothing needs to be said about them.
    pub expected: Vec<GradientKind>,
}

/// What to differentiate element by element, and where the Jacobians go.
#[derive(Debug)]
pub struct JacobianRequest {
    /// The tape.
    pub tape: Handle,
    /// The value or variable to differentiate.
    pub target: Handle,
    /// Values or variables to differentiate with respect to.
    pub sources: Vec<Handle>,
    /// Handles of the Jacobians, one for each source.
    pub outputs: Vec<Handle>,
    /// Whether it is a matter of all pairs of elements, or of those of one example.
    pub layout: Layout,
    /// Whether a source without a path gets zeros.
    pub zero_unconnected: bool,
}

/// Which tangents to read, and where they go.
#[derive(Debug)]
pub struct TangentRequest {
    /// The accumulator.
    pub accumulator: Handle,
    /// Values or variables.
    pub values: Vec<Handle>,
    /// Handles of the tangents, one for each value.
    pub outputs: Vec<Handle>,
    /// Whether a value without a tangent gets zeros.
    pub zero_unconnected: bool,
}

/// Where one gradient goes.
#[derive(Clone, Copy, Debug)]
pub struct GradientOutput {
    /// Handle of the gradient, or of the rows of a sparse one.
    pub gradient: Handle,
    /// Handle of the row numbers if it is sparse; zero asks for a dense gradient.
    pub indices: Handle,
}

/// A variable and its gradient, for an optimizer step.
#[derive(Clone, Copy, Debug)]
pub struct GradientPair {
    /// The variable.
    pub variable: Handle,
    /// The gradient, or the rows of a sparse one.
    pub gradient: Handle,
    /// The row numbers of a sparse gradient, or zero.
    pub indices: Handle,
    /// Whether weight decay leaves the variable alone.
    pub exclude_from_weight_decay: bool,
    /// Whether the variable is not treated as a matrix.
    pub exclude_from_orthogonalization: bool,
}

/// What a session says about one command.
#[derive(Debug)]
pub struct Outcome {
    /// The answer, or what went wrong.
    pub result: Result<Answer, Box<Failure>>,
    /// Remarks that are no errors.
    pub warnings: Vec<String>,
}

/// The answer to a command that succeeded.
#[derive(Debug)]
pub enum Answer {
    /// Nothing to say.
    Done,
    /// To `Fetch`.
    Tensor(Tensor),
    /// To `Describe`.
    Spec(Aval),
    /// To `Gradient` and `Jacobian`, one for each source; to `ReadTangent`, one for each value.
    Gradients(Vec<GradientInfo>),
    /// To `ApplyOptimizer`.
    Stepped(StepInfo),
    /// To `ListWatchedVariables`, in the order of their creation.
    Variables(Vec<Handle>),
    /// To `Explain`.
    Explanation(Explanation),
    /// To `ExplainFunction`.
    Planned(PlanInfo),
    /// To `Restore`.
    Restored(Restored),
    /// To `FinishFunction`: dtype and shape of each result.
    Defined(Vec<Aval>),
    /// To `RunLoop`.
    Looped(LoopInfo),
    /// To `Sync`.
    Synced,
}

/// The plan of a function.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanInfo {
    /// The steps; of a long plan the first and the last.
    pub steps: Vec<ExplainedStep>,
    /// How many in the middle are left out.
    pub elided: usize,
    /// Most bytes that a call takes at one time.
    pub peak: u64,
}

/// What became of an optimizer step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepInfo {
    /// Steps taken so far, accumulating ones included.
    pub iterations: i64,
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// What the next loss should be multiplied by.
    pub loss_scale: f64,
    /// Whether nothing changed because gradients were not finite.
    pub skipped: bool,
}

/// What became of one gradient.
#[derive(Clone, Debug, PartialEq)]
pub enum GradientInfo {
    /// A tensor of the source's dtype and shape.
    Dense(Aval),
    /// Rows and their numbers; the source's dtype and shape.
    Sparse(Aval),
    /// No path.
    Absent(AbsentReason),
    /// No path, and zeros were asked for.
    ZeroFilled(AbsentReason, Aval),
}

/// What a gradient is, without its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientKind {
    /// A tensor.
    Dense,
    /// Rows and their numbers.
    Sparse,
    /// There is none.
    Absent,
    /// Zeros, since there is none.
    ZeroFilled,
}

impl GradientInfo {
    /// What it is, without its shape.
    pub fn kind(&self) -> GradientKind {
        match self {
            Self::Dense(_) => GradientKind::Dense,
            Self::Sparse(_) => GradientKind::Sparse,
            Self::Absent(_) => GradientKind::Absent,
            Self::ZeroFilled(..) => GradientKind::ZeroFilled,
        }
    }
}

/// Why a gradient is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AbsentReason {
    /// The tape never saw the source.
    NotWatched,
    /// Source or target is not floating-point.
    DType,
    /// Every path goes through `stop_gradient`.
    StopGradient,
    /// Every path goes through an op or a dtype without derivatives.
    NoDerivative,
    /// The target does not depend on the source.
    NoPath,
}

impl fmt::Display for AbsentReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWatched => "the tape never saw the source",
            Self::DType => "source or target has no floating-point dtype",
            Self::StopGradient => "every path goes through stop_gradient",
            Self::NoDerivative => "every path goes through something without a derivative",
            Self::NoPath => "the target does not depend on the source",
        })
    }
}

/// A command that failed, with all that is known about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// What went wrong.
    pub error: Error,
    /// The verb, op or optimizer.
    pub op: Box<str>,
    /// The inputs, as far as they were known.
    pub inputs: Vec<Aval>,
    /// Sequence number of the first failure that led here.
    pub root_sequence: u64,
    /// The client's mark of that command.
    pub root_tag: Box<str>,
}
