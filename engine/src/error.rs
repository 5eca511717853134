//! Everything that can go wrong with a command, as data.
//!
//! An error says what was wrong and what was expected; the op, the shapes of its inputs and the place in the client's
//! program are added once, by [`Failure`](crate::command::Failure). Wording is for people; `reason` is for programs.

use crate::{
    aval::{Aval, MAX_RANK, Shape},
    command::{AbsentReason, Handle},
    dtype::{DType, DTypes},
};

/// What went wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages describe the variants and their fields")]
pub enum Error {
    // The caller: shapes, dtypes and attributes, wrong whatever the state.
    #[error("shapes {lhs} and {rhs} do not fit: {expected}")]
    ShapeMismatch { lhs: Shape, rhs: Shape, expected: &'static str },
    #[error("shape {shape:?} is invalid: {why}")]
    InvalidShape { shape: Box<[i64]>, why: &'static str },
    #[error("rank {rank} is more than {MAX_RANK}")]
    RankTooLarge { rank: usize },
    #[error("the number of elements of shape {shape} overflows")]
    ShapeOverflow { shape: Shape },
    #[error("dtypes {lhs} and {rhs} differ; there is no implicit conversion")]
    DTypeMismatch { lhs: DType, rhs: DType },
    #[error("dtype {dtype} is not accepted here; accepted: {accepted}")]
    UnsupportedDType { dtype: DType, accepted: DTypes },
    #[error("axis {axis} is out of range for rank {rank}")]
    InvalidAxis { axis: i64, rank: usize },
    #[error("axis {axis} is given twice")]
    DuplicateAxis { axis: usize },
    #[error("attribute {name} {why}")]
    InvalidAttribute { name: Box<str>, why: Box<str> },
    #[error("there is no op named {name:?}")]
    UnknownOp { name: Box<str> },
    #[error("there is no optimizer named {name:?}; there are: {known}")]
    UnknownOptimizer { name: Box<str>, known: Box<str> },
    #[error("{expected} inputs are expected, {given} are given")]
    InputCount { expected: &'static str, given: usize },
    #[error("{expected} output handles are expected, {given} are given")]
    OutputCount { expected: usize, given: usize },
    #[error("{aval} needs {expected} bytes of data, {given} are given")]
    DataLength { aval: Aval, expected: u64, given: u64 },
    #[error("element {position} of the data is not 0 or 1")]
    InvalidBool { position: usize },
    #[error("index {index} at position {position} is not in 0..{extent}")]
    IndexOutOfRange { index: i64, position: usize, extent: usize },
    #[error("integer division by zero at position {position}")]
    DivisionByZero { position: usize },
    #[error("{message}: element {position} is {found}")]
    NotFinite { message: Box<str>, found: &'static str, position: usize },
    #[error("matrix {position} is not invertible")]
    NotInvertible { position: usize },
    #[error(
        "the Cholesky decomposition was not successful: matrix {position} is not positive definite"
    )]
    NotPositiveDefinite { position: usize },
    #[error("the decomposition of matrix {position} was not successful")]
    NotDecomposed { position: usize },
    #[error("{what} is malformed: {why}")]
    Malformed { what: Box<str>, why: Box<str> },
    #[error("there is no such command in this version")]
    UnknownCommand,

    // The caller: handles.
    #[error("handle {handle} is not bound")]
    UnknownHandle { handle: Handle },
    #[error("handle {handle} is bound already")]
    HandleInUse { handle: Handle },
    #[error("handle 0 names nothing")]
    ZeroHandle,
    #[error("handle {handle} is a {found}, not a {expected}")]
    WrongKind { handle: Handle, expected: &'static str, found: &'static str },
    #[error("upload {upload} is not complete or not known")]
    UnknownUpload { upload: u64 },
    #[error("handle {handle} was to hold a result of command {root}, which failed: {why}")]
    Poisoned { handle: Handle, root: u64, why: Box<str> },
    #[error("handle {handle} is an absent gradient ({reason})")]
    GradientAbsent { handle: Handle, reason: AbsentReason },

    // The caller: tapes and optimizers in the wrong state.
    #[error(
        "the one-shot tape is used up: a non-persistent tape computes only one set of gradients"
    )]
    TapeConsumed,
    #[error("the tape was never started")]
    TapeNeverStarted,
    #[error("the tape is still recording: it cannot be entered twice")]
    TapeRecording,
    #[error("the tape is not recording")]
    TapeNotRecording,
    #[error("{targets} targets have {seeds} output gradients: give none, or one for each")]
    SeedCount { targets: usize, seeds: usize },
    #[error("output gradient {position} is {given}, but its target is {target}")]
    SeedMismatch { position: usize, given: Aval, target: Aval },
    #[error("placeholder {handle} belongs to another function than those beside it")]
    MixedPlaceholders { handle: Handle },
    #[error("{given} {what} are given, {expected} are expected")]
    HandleCount { what: &'static str, expected: usize, given: usize },
    #[error("{what}: handle {handle} is {given}, not {expected}")]
    FunctionMismatch { what: &'static str, handle: Handle, given: Aval, expected: Aval },
    #[error("{what} cannot be used in a function")]
    NotInFunction { what: &'static str },
    #[error("value {handle} is computed when the function is called: it has no elements yet")]
    NoElementsYet { handle: Handle },
    // Has no reason of its own, and so no row in `docs/errors.md`: it is what went wrong, and where.
    #[error("step {}: {}", .step, .error)]
    LoopStep { step: i64, error: Box<Error> },
    #[error("no function is being defined in this scope")]
    NoFunctionOpen,
    #[error("handle {handle} no longer names what the function was defined with")]
    StaleFunction { handle: Handle },
    #[error("variable {handle} is named twice")]
    DuplicateVariable { handle: Handle },
    #[error("all gradients are absent")]
    AllGradientsAbsent,
    #[error("the value is {given}, but the variable is {variable}")]
    VariableMismatch { given: Aval, variable: Aval },
    #[error("the checkpoint differs from the session in {count} places: {details}")]
    CheckpointMismatch { count: usize, details: Box<str> },

    #[error("nothing on this server reaches the level {level}")]
    LevelUnavailable { level: &'static str },

    // Limits.
    #[error("shape {shape} has more than {limit} elements")]
    TensorTooLarge { shape: Shape, limit: usize },
    #[error("{bytes} bytes are more than the {limit} that fit in a reply")]
    FetchTooLarge { bytes: u64, limit: u64 },
    #[error("{requested} bytes are needed; the {scope} uses {used} of {limit}")]
    MemoryLimit { scope: &'static str, requested: u64, used: u64, limit: u64 },
    #[error("the machine has no {bytes} bytes left")]
    OutOfMemory { bytes: u64 },
    #[error("about {flops} operations are needed, and {limit} are allowed in one command")]
    CostTooHigh { flops: u64, limit: u64 },
    #[error("there are {limit} {what} already")]
    TooMany { what: &'static str, limit: usize },

    #[error("the store of sessions is full")]
    StoreFull,

    #[error("the portable store of sessions failed, incident {incident}")]
    PortableStoreFailed { incident: Box<str> },

    // Not the caller's fault.
    #[error("the command was cancelled")]
    Cancelled,
    #[error("this is a bug in the server: {0}")]
    Bug(Box<str>),
}

/// The nature of an error, as callers branch on it. The names are gRPC's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Wrong whatever the state.
    InvalidArgument,
    /// An index or element beyond the end.
    OutOfRange,
    /// No such handle, op or upload.
    NotFound,
    /// The handle is taken.
    AlreadyExists,
    /// Wrong in this state.
    FailedPrecondition,
    /// Skipped because of an earlier failure.
    Aborted,
    /// Stopped by its client.
    Cancelled,
    /// A limit.
    ResourceExhausted,
    /// Not now, and perhaps later.
    Unavailable,
    /// Not in this version.
    Unimplemented,
    /// A bug.
    Internal,
}

impl Error {
    /// An attribute that cannot be taken.
    pub fn attribute(name: &str, why: impl Into<Box<str>>) -> Self {
        Self::InvalidAttribute { name: name.into(), why: why.into() }
    }

    /// Something that must not happen.
    pub fn bug(what: impl Into<Box<str>>) -> Self {
        Self::Bug(what.into())
    }

    /// Code, machine-readable reason and hint: the one table of them. Reasons are never renamed.
    #[expect(clippy::too_many_lines, reason = "one table, a row each")]
    pub fn classify(&self) -> (Code, &'static str, &'static str) {
        use Code::{
            Aborted, AlreadyExists, Cancelled, FailedPrecondition, Internal, InvalidArgument,
            NotFound, OutOfRange, ResourceExhausted, Unavailable, Unimplemented,
        };
        match self {
            Self::ShapeMismatch { .. } => {
                (InvalidArgument, "SHAPE_MISMATCH", "reshape or broadcast an operand")
            }
            Self::InvalidShape { .. } => (InvalidArgument, "INVALID_SHAPE", ""),
            Self::RankTooLarge { .. } => (InvalidArgument, "RANK_TOO_LARGE", ""),
            Self::ShapeOverflow { .. } => (InvalidArgument, "SHAPE_OVERFLOW", ""),
            Self::DTypeMismatch { .. } => {
                (InvalidArgument, "DTYPE_MISMATCH", "convert one operand with cast")
            }
            Self::UnsupportedDType { .. } => {
                (InvalidArgument, "UNSUPPORTED_DTYPE", "convert it with cast")
            }
            Self::InvalidAxis { .. } => {
                (InvalidArgument, "INVALID_AXIS", "axes count from 0, or from -1 backwards")
            }
            Self::DuplicateAxis { .. } => (InvalidArgument, "DUPLICATE_AXIS", ""),
            Self::InvalidAttribute { .. } => {
                (InvalidArgument, "INVALID_ATTRIBUTE", "see CatalogService.ListOps")
            }
            Self::UnknownOp { .. } => (Unimplemented, "UNKNOWN_OP", "see CatalogService.ListOps"),
            Self::UnknownOptimizer { .. } => (NotFound, "UNKNOWN_OPTIMIZER", ""),
            Self::InputCount { .. } => {
                (InvalidArgument, "INPUT_COUNT", "see CatalogService.ListOps")
            }
            Self::OutputCount { .. } => {
                (InvalidArgument, "OUTPUT_COUNT", "see CatalogService.ListOps")
            }
            Self::DataLength { .. } => {
                (InvalidArgument, "DATA_LENGTH", "data is row-major, without padding")
            }
            Self::InvalidBool { .. } => (InvalidArgument, "INVALID_BOOL", ""),
            Self::IndexOutOfRange { .. } => (OutOfRange, "INDEX_OUT_OF_RANGE", ""),
            Self::DivisionByZero { .. } => (InvalidArgument, "DIVISION_BY_ZERO", ""),
            Self::NotFinite { .. } => (InvalidArgument, "NOT_FINITE", ""),
            Self::NotInvertible { .. } => (InvalidArgument, "NOT_INVERTIBLE", ""),
            Self::NotPositiveDefinite { .. } => {
                (InvalidArgument, "NOT_POSITIVE_DEFINITE", "add a small multiple of the identity")
            }
            Self::NotDecomposed { .. } => {
                (InvalidArgument, "NOT_DECOMPOSED", "does it hold NaN or infinity?")
            }
            Self::Malformed { .. } => (InvalidArgument, "MALFORMED", ""),
            Self::UnknownCommand => {
                (Unimplemented, "UNKNOWN_COMMAND", "the client may be newer than the server")
            }
            Self::UnknownHandle { .. } => {
                (NotFound, "UNKNOWN_HANDLE", "it was never bound, or it was released")
            }
            Self::HandleInUse { .. } => {
                (AlreadyExists, "HANDLE_IN_USE", "release it, or choose another")
            }
            Self::ZeroHandle => (InvalidArgument, "ZERO_HANDLE", "choose handles from 1 on"),
            Self::WrongKind { .. } => (InvalidArgument, "WRONG_KIND", ""),
            Self::UnknownUpload { .. } => {
                (NotFound, "UNKNOWN_UPLOAD", "finish UploadTensor or LoadCheckpoint first")
            }
            Self::Poisoned { .. } => (Aborted, "POISONED", "see the first failure"),
            Self::GradientAbsent { .. } => {
                (FailedPrecondition, "GRADIENT_ABSENT", "ask for zeros with unconnected_gradients")
            }
            Self::TapeConsumed => (FailedPrecondition, "TAPE_CONSUMED", "make the tape persistent"),
            Self::TapeNeverStarted => {
                (FailedPrecondition, "TAPE_NEVER_STARTED", "start it with ResumeTape")
            }
            Self::TapeRecording => (FailedPrecondition, "TAPE_RECORDING", "stop it first"),
            Self::TapeNotRecording => {
                (FailedPrecondition, "TAPE_NOT_RECORDING", "start it with ResumeTape")
            }
            Self::SeedCount { .. } => (InvalidArgument, "SEED_COUNT", ""),
            Self::SeedMismatch { .. } => (InvalidArgument, "SEED_MISMATCH", "0 stands for ones"),
            Self::MixedPlaceholders { .. } => {
                (InvalidArgument, "MIXED_PLACEHOLDERS", "create them with one command")
            }
            Self::HandleCount { .. } => (InvalidArgument, "HANDLE_COUNT", ""),
            Self::FunctionMismatch { .. } => (InvalidArgument, "FUNCTION_MISMATCH", ""),
            Self::NotInFunction { .. } => {
                (FailedPrecondition, "NOT_IN_FUNCTION", "do it before the function is defined")
            }
            Self::NoElementsYet { .. } => {
                (FailedPrecondition, "NO_ELEMENTS_YET", "make it a result of the function")
            }
            Self::LoopStep { error, .. } => error.classify(),
            Self::NoFunctionOpen => {
                (FailedPrecondition, "NO_FUNCTION_OPEN", "begin with DefineFunction")
            }
            Self::StaleFunction { .. } => {
                (FailedPrecondition, "STALE_FUNCTION", "define the function again")
            }
            Self::DuplicateVariable { .. } => (InvalidArgument, "DUPLICATE_VARIABLE", ""),
            Self::AllGradientsAbsent => (
                InvalidArgument,
                "ALL_GRADIENTS_ABSENT",
                "did the loss depend on the variables, under the tape?",
            ),
            Self::VariableMismatch { .. } => {
                (InvalidArgument, "VARIABLE_MISMATCH", "assignments do not broadcast")
            }
            Self::CheckpointMismatch { .. } => (
                FailedPrecondition,
                "CHECKPOINT_MISMATCH",
                "nothing was changed; a partial restore leaves alone what only one side has",
            ),
            Self::LevelUnavailable { .. } => (
                Unimplemented,
                "LEVEL_UNAVAILABLE",
                "the server needs a store of sessions, and for PORTABLE also --portable-store: gradtape serve --session-store",
            ),
            Self::TensorTooLarge { .. } => (ResourceExhausted, "TENSOR_TOO_LARGE", ""),
            Self::FetchTooLarge { .. } => {
                (ResourceExhausted, "FETCH_TOO_LARGE", "use TapeService.DownloadTensor")
            }
            Self::MemoryLimit { .. } => {
                (ResourceExhausted, "MEMORY_LIMIT", "release values or close tapes")
            }
            Self::OutOfMemory { .. } => (ResourceExhausted, "OUT_OF_MEMORY", "try again later"),
            Self::CostTooHigh { .. } => {
                (ResourceExhausted, "COST_TOO_HIGH", "split the work into smaller commands")
            }
            Self::TooMany { .. } => {
                (ResourceExhausted, "TOO_MANY", "release what is no longer needed")
            }
            Self::StoreFull => {
                (ResourceExhausted, "STORE_FULL", "it is tried again until there is room")
            }
            Self::PortableStoreFailed { .. } => (
                Unavailable,
                "PORTABLE_STORE_FAILED",
                "what was reached before holds: ask for the level again; the server's log tells more",
            ),
            Self::Cancelled => (Cancelled, "CANCELLED", ""),
            Self::Bug(_) => (Internal, "INTERNAL", "please report it"),
        }
    }
}
