#![doc = include_str!("../README.md")]
//!
//! # The way through this crate
//!
//! [`Session`] makes everything: [`Tensor`]s, [`Variable`]s, [`Tape`]s, [`Accumulator`]s, [`Generator`]s.
//! [`Tape::gradient`] gives [`Gradient`]s, which an [`Optimizer`] applies; [`Checkpoints`] keep all of it. What can go wrong is in [`Error`].
//!
//! Inside, `queue` holds the commands on their way, `link` sends them, `worker` keeps the connection, `remote` makes
//! the other calls. `ops` is generated from the server's table of ops.

mod accumulator;
mod attribute;
mod backoff;
mod checkpoints;
mod core;
mod data;
mod error;
mod failures;
mod flow;
mod function;
mod generator;
mod gradient;
mod handles;
mod infer;
mod level;
mod limits;
mod link;
mod operand;
pub mod ops;
mod optimizer;
mod optimizers;
mod plan;
mod queue;
mod remote;
mod scalar;
mod security;
mod session;
mod tape;
mod tensor;
mod traced;
mod variable;
mod worker;

pub use crate::{
    accumulator::Accumulator,
    attribute::Attribute,
    checkpoints::{
        Checkpoint, Checkpoints, RestoreOptions, Restored, SaveOptions, SavedCheckpoint, Stateful,
    },
    data::{DType, Element, Spec, TensorData},
    error::{Error, Failure, Refusal, Result},
    flow::Scan,
    function::{Explanation, Hop},
    generator::Generator,
    gradient::{AbsentReason, Gradient, GradientKind},
    level::{Level, Reached},
    operand::{Input, Operand},
    optimizer::{AsGradient, Optimizer, Schedule, Step},
    optimizers::*,
    plan::{Plan, PlanStep},
    scalar::Scalar,
    session::{Credentials, Session, SessionBuilder},
    tape::{GradientOptions, Tape, TapeOptions, Unconnected},
    tensor::Tensor,
    traced::{Function, Loop, LoopOutcome, Report, Running},
    variable::{Variable, VariableOptions},
};
pub use gradtape_proto::v1 as proto;
pub use tonic::Code;
