//! The state of a session as its log may begin with, as messages that only the server reads.
//!
//! Elements of tensors are not in the messages: these name buffers, which follow in parts. Tensors that share memory share a
//! buffer, so that a session comes back no larger than it was.

mod decode;
mod encode;

use bytes::Bytes;
use gradtape_proto::v1;
use prost::{Message, Oneof};

pub use decode::{Loading, replies};
pub use encode::capture;

/// A session's state at one moment, shared with the session.
#[derive(Debug)]
pub struct Captured {
    /// Everything but elements.
    pub state: State,
    /// Elements of tensors.
    pub buffers: Vec<Bytes>,
}

/// Everything but elements.
#[derive(Clone, PartialEq, Message)]
pub struct State {
    /// Sequence number of the next command.
    #[prost(uint64, tag = "1")]
    pub next_sequence: u64,
    /// How many identities were given away.
    #[prost(uint64, tag = "2")]
    pub next_id: u64,
    /// Starts of tapes and accumulators.
    #[prost(uint64, tag = "3")]
    pub starts: u64,
    /// What handles name.
    #[prost(message, repeated, tag = "4")]
    pub things: Vec<Thing>,
    /// Bodies of functions.
    #[prost(message, repeated, tag = "5")]
    pub bodies: Vec<Body>,
    /// Dtype and shape of the buffers that follow.
    #[prost(message, repeated, tag = "6")]
    pub buffers: Vec<v1::TensorSpec>,
    /// Sequence number of the first kept reply.
    #[prost(uint64, tag = "7")]
    pub first_reply: u64,
    /// The replies that the client may ask for again.
    #[prost(message, repeated, tag = "8")]
    pub replies: Vec<Reply>,
}

/// What was said about a command.
#[derive(Clone, PartialEq, Message)]
pub struct Reply {
    /// Hash of the command.
    #[prost(fixed64, tag = "1")]
    pub digest: u64,
    /// The reply, unless the command succeeded silently.
    #[prost(message, optional, tag = "2")]
    pub reply: Option<v1::Reply>,
}

/// What a handle names.
#[derive(Clone, PartialEq, Message)]
pub struct Thing {
    /// The handle.
    #[prost(uint64, tag = "1")]
    pub handle: u64,
    /// What it names.
    #[prost(oneof = "Kind", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
    pub kind: Option<Kind>,
}

/// Kinds of things.
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    /// A value.
    #[prost(message, tag = "2")]
    Value(Value),
    /// A gradient that is absent.
    #[prost(enumeration = "v1::AbsentReason", tag = "3")]
    Absent(i32),
    /// A variable.
    #[prost(message, tag = "4")]
    Variable(Variable),
    /// A tape.
    #[prost(message, tag = "5")]
    Tape(Tape),
    /// A forward accumulator.
    #[prost(message, tag = "6")]
    Accumulator(Accumulator),
    /// An optimizer.
    #[prost(message, tag = "7")]
    Optimizer(Optimizer),
    /// A random generator.
    #[prost(message, tag = "8")]
    Generator(Generator),
    /// A function: the number of its body.
    #[prost(uint64, tag = "9")]
    Function(u64),
    /// What a failed command left.
    #[prost(message, tag = "10")]
    Poisoned(Poisoned),
}

/// A tensor: a buffer, seen in a shape.
#[derive(Clone, PartialEq, Message)]
pub struct Tensor {
    /// Number of the buffer.
    #[prost(uint64, tag = "1")]
    pub buffer: u64,
    /// Shape.
    #[prost(int64, repeated, tag = "2")]
    pub shape: Vec<i64>,
}

/// A value: who it is, and what it holds.
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    /// Identity.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Elements.
    #[prost(message, optional, tag = "2")]
    pub tensor: Option<Tensor>,
}

/// A variable.
#[derive(Clone, PartialEq, Message)]
pub struct Variable {
    /// Identity and value.
    #[prost(message, optional, tag = "1")]
    pub value: Option<Value>,
    /// Name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Whether tapes watch it when it is read.
    #[prost(bool, tag = "3")]
    pub trainable: bool,
}

/// A tape without a trace.
#[derive(Clone, PartialEq, Message)]
pub struct Tape {
    /// Whether it answers more than one gradient.
    #[prost(bool, tag = "1")]
    pub persistent: bool,
    /// Whether reading a trainable variable watches it.
    #[prost(bool, tag = "2")]
    pub watch_accessed_variables: bool,
    /// Thread of execution.
    #[prost(uint32, tag = "3")]
    pub scope: u32,
    /// When it last started.
    #[prost(uint64, tag = "4")]
    pub since: u64,
    /// What it is doing.
    #[prost(enumeration = "Status", tag = "5")]
    pub status: i32,
    /// The variables that it watched.
    #[prost(uint64, repeated, tag = "6")]
    pub variables: Vec<u64>,
}

/// What a tape is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Status {
    /// Not known.
    Unspecified = 0,
    /// It was never started.
    Fresh = 1,
    /// It records.
    Recording = 2,
    /// It was stopped.
    Stopped = 3,
    /// It has answered its gradient.
    Consumed = 4,
}

/// A forward accumulator.
#[derive(Clone, PartialEq, Message)]
pub struct Accumulator {
    /// Thread of execution.
    #[prost(uint32, tag = "1")]
    pub scope: u32,
    /// Whether it records.
    #[prost(bool, tag = "2")]
    pub recording: bool,
    /// When it last started.
    #[prost(uint64, tag = "3")]
    pub since: u64,
    /// Primals of its tangents.
    #[prost(uint64, repeated, tag = "4")]
    pub primals: Vec<u64>,
    /// The tangents.
    #[prost(message, repeated, tag = "5")]
    pub tangents: Vec<Value>,
}

/// An optimizer.
#[derive(Clone, PartialEq, Message)]
pub struct Optimizer {
    /// Identity.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Kind, hyperparameters and schedule, as checkpoints describe them.
    #[prost(string, tag = "2")]
    pub description: String,
    /// Steps taken.
    #[prost(int64, tag = "3")]
    pub iterations: i64,
    /// The adapting loss scale.
    #[prost(double, tag = "4")]
    pub loss_scale: f64,
    /// Finite steps since it last changed.
    #[prost(int64, tag = "5")]
    pub finite_steps: i64,
    /// What it keeps.
    #[prost(message, repeated, tag = "6")]
    pub states: Vec<Slots>,
}

/// What an optimizer keeps for a variable.
#[derive(Clone, PartialEq, Message)]
pub struct Slots {
    /// Identity of the variable.
    #[prost(uint64, tag = "1")]
    pub variable: u64,
    /// Names of the slots.
    #[prost(string, repeated, tag = "2")]
    pub names: Vec<String>,
    /// Their tensors.
    #[prost(message, repeated, tag = "3")]
    pub tensors: Vec<Tensor>,
}

/// A random generator.
#[derive(Clone, PartialEq, Message)]
pub struct Generator {
    /// Identity.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Seed.
    #[prost(int64, tag = "2")]
    pub seed: i64,
    /// How far it is.
    #[prost(int64, tag = "3")]
    pub counter: i64,
}

/// What a failed command left.
#[derive(Clone, PartialEq, Message)]
pub struct Poisoned {
    /// Sequence number of the first failure.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// The client's mark.
    #[prost(string, tag = "2")]
    pub tag: String,
    /// Reason of the error.
    #[prost(string, tag = "3")]
    pub reason: String,
}

/// What was shown of a function.
#[derive(Clone, PartialEq, Message)]
pub struct Body {
    /// Handles of the parameters.
    #[prost(uint64, repeated, tag = "1")]
    pub parameters: Vec<u64>,
    /// Their dtypes and shapes.
    #[prost(message, repeated, tag = "2")]
    pub parameter_specs: Vec<v1::TensorSpec>,
    /// The commands.
    #[prost(message, repeated, tag = "3")]
    pub steps: Vec<Step>,
    /// Handles of the results.
    #[prost(uint64, repeated, tag = "4")]
    pub results: Vec<u64>,
    /// Their dtypes and shapes.
    #[prost(message, repeated, tag = "5")]
    pub result_specs: Vec<v1::TensorSpec>,
    /// What the results need of what is outside.
    #[prost(message, repeated, tag = "6")]
    pub last: Vec<Capture>,
    /// Handles of the things outside that it refers to.
    #[prost(uint64, repeated, tag = "7")]
    pub references: Vec<u64>,
    /// Their identities.
    #[prost(uint64, repeated, tag = "8")]
    pub reference_ids: Vec<u64>,
    /// Levels of functions in it.
    #[prost(uint64, tag = "9")]
    pub depth: u64,
}

/// A command of a body.
#[derive(Clone, PartialEq, Message)]
pub struct Step {
    /// What it is the first to name of what is outside.
    #[prost(message, repeated, tag = "1")]
    pub captures: Vec<Capture>,
    /// The command, as a message.
    #[prost(bytes = "vec", tag = "2")]
    pub command: Vec<u8>,
}

/// Something outside that a body names.
#[derive(Clone, PartialEq, Message)]
pub struct Capture {
    /// Its handle.
    #[prost(uint64, tag = "1")]
    pub handle: u64,
    /// What it is.
    #[prost(oneof = "Captive", tags = "2, 3, 4, 5")]
    pub captive: Option<Captive>,
}

/// Kinds of what bodies capture.
#[derive(Clone, PartialEq, Oneof)]
pub enum Captive {
    /// A value, as it is.
    #[prost(message, tag = "2")]
    Value(Value),
    /// A gradient that is absent.
    #[prost(enumeration = "v1::AbsentReason", tag = "3")]
    Absent(i32),
    /// A variable, an optimizer or a generator: its identity.
    #[prost(uint64, tag = "4")]
    Reference(u64),
    /// Another function: the number of its body.
    #[prost(uint64, tag = "5")]
    Function(u64),
}
