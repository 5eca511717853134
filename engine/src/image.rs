//! The whole state of a session as plain data: what its handles name, and all that decides what comes of later commands.
//!
//! A session that is made of an image gives the same bits and the same errors as the one that it was taken of. What a session
//! only remembers to be faster (programs of gradients, of functions and of optimizer steps) is left out and comes again.
//!
//! Not every state can be expressed: what a tape has recorded, placeholders, and a function whose body is being shown are
//! programs in the making. A session that trains is free of them at least once a step.
//!
//! Tensors are shared with the session, so taking an image copies nothing.

use std::sync::Arc;

use crate::{
    array::Tensor,
    aval::Aval,
    command::{AbsentReason, Command, Handle},
    graph::{Value, ValueId},
    optimizers::Optimizer,
};

/// The state of a session.
#[derive(Debug, Default)]
pub struct Image {
    /// How many identities were given away.
    pub next_id: u64,
    /// Starts of tapes and accumulators so far.
    pub starts: u64,
    /// What handles name, in their order.
    pub things: Vec<(Handle, Thing)>,
    /// Bodies of functions; each comes after those that it captures.
    pub bodies: Vec<BodyImage>,
}

/// What a handle names.
#[derive(Debug)]
pub enum Thing {
    /// A value.
    Value(Value),
    /// A gradient that is absent.
    Absent(AbsentReason),
    /// A variable.
    Variable(VariableImage),
    /// A tape that has recorded nothing, or has forgotten it.
    Tape(TapeImage),
    /// A forward accumulator.
    Accumulator(AccumulatorImage),
    /// An optimizer.
    Optimizer(Box<OptimizerImage>),
    /// A random generator.
    Generator {
        /// Who it is.
        id: ValueId,
        /// Its seed.
        seed: i64,
        /// How far it is.
        counter: i64,
    },
    /// A function: the number of its body.
    Function(usize),
    /// What a failed command left.
    Poisoned {
        /// Sequence number of the first failure.
        sequence: u64,
        /// The client's mark of that command.
        tag: Box<str>,
        /// The reason of its error.
        reason: Box<str>,
    },
}

/// A variable.
#[derive(Debug)]
pub struct VariableImage {
    /// Who it is.
    pub id: ValueId,
    /// Its name.
    pub name: Box<str>,
    /// Its value.
    pub tensor: Tensor,
    /// Whether tapes watch it when it is read.
    pub trainable: bool,
}

/// A tape without a trace.
#[derive(Debug)]
pub struct TapeImage {
    /// Whether it answers more than one gradient.
    pub persistent: bool,
    /// Whether reading a trainable variable watches it.
    pub watch_accessed_variables: bool,
    /// The thread of execution that it listens to.
    pub scope: u32,
    /// When it last started, counted in starts.
    pub since: u64,
    /// What it is doing.
    pub status: TapeStatus,
    /// The variables that it watched.
    pub variables: Vec<ValueId>,
}

/// What a tape is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapeStatus {
    /// It was never started.
    Fresh,
    /// It records.
    Recording,
    /// It was stopped.
    Stopped,
    /// It has answered its gradient.
    Consumed,
}

/// A forward accumulator.
#[derive(Debug)]
pub struct AccumulatorImage {
    /// The thread of execution that it listens to.
    pub scope: u32,
    /// Whether it records.
    pub recording: bool,
    /// When it last started, counted in starts.
    pub since: u64,
    /// Tangents by primal.
    pub tangents: Vec<(ValueId, Value)>,
}

/// An optimizer.
#[derive(Debug)]
pub struct OptimizerImage {
    /// Which it is, in the order of creation.
    pub id: ValueId,
    /// Kind, hyperparameters and counters.
    pub optimizer: Optimizer,
    /// What it keeps: slots by name, for each variable.
    pub states: Vec<(ValueId, SlotImages)>,
}

/// Slots of a variable, by name.
pub type SlotImages = Vec<(Box<str>, Tensor)>;

/// What a command is the first to name of what is outside, by handle.
pub type Captures = Vec<(Handle, CaptureImage)>;

/// What was shown of a function.
#[derive(Debug)]
pub struct BodyImage {
    /// Handles, dtypes and shapes of the parameters.
    pub parameters: Vec<(Handle, Aval)>,
    /// The commands, each with what it is the first to name of what is outside.
    pub steps: Vec<(Captures, Arc<Command>)>,
    /// Handles of the results.
    pub results: Vec<Handle>,
    /// Dtypes and shapes of the results.
    pub specs: Vec<Aval>,
    /// What the results need of what is outside.
    pub last: Captures,
    /// The things outside that it refers to.
    pub references: Vec<(Handle, ValueId)>,
    /// Levels of functions in it.
    pub depth: usize,
}

/// Something outside that a body names.
#[derive(Debug)]
pub enum CaptureImage {
    /// A value, as it is.
    Value(Value),
    /// A gradient that is absent.
    Absent(AbsentReason),
    /// A variable, an optimizer or a generator.
    Reference(ValueId),
    /// Another function: the number of its body.
    Function(usize),
}
