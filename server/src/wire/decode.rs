//! Messages to commands.
//!
//! Lists that the schema bounds are counted before they are walked, enums that are not known are refused and never
//! mapped to a default, and an op's attributes are checked against the table.

use std::sync::Arc;

use gradtape_engine::{
    array::Tensor,
    attrs::Attrs,
    aval::{Aval, Shape},
    command::{Command, GradientPair, Handle, Handles, Kind},
    error::Error,
    ledger::Ledger,
    ops,
    optimizers::schedules::Schedule,
    session::Rejected,
    snapshot::{KeyedHandle, RestoreRequest},
};
use gradtape_proto::v1::{self, command::Kind as Wire};
use prost::DecodeError;

use self::{
    fields::{
        MAX_ECHO, MAX_HANDLES, MAX_LABEL, assign_mode, attributes, bounded, dtype, handles, label,
        malformed,
    },
    functions::{branch, call_function, define_function, run_loop, scan, while_loop},
    gradients::{batch_jacobian, custom_gradient, gradient, jacobian, read_tangent},
    names::name,
};
use super::truncated;
use crate::session::uploads::Uploads;

/// Most inputs of an op; more are a mistake or an attack.
const MAX_INPUTS: usize = 1024;

/// What a command may need besides its message.
#[derive(Debug)]
pub struct Context<'a> {
    /// Pays for constants.
    pub ledger: &'a Arc<Ledger>,
    /// Holds uploads that constants name.
    pub uploads: &'a Uploads,
    /// Largest tensor in a message, in bytes.
    pub max_inline_bytes: usize,
    /// Whether the session has a log.
    pub has_log: bool,
    /// Whether the session has copies, or had when the command was executed first.
    pub is_portable: bool,
}

/// Decodes a command with this tag. Its attributes are moved out; handles and names stay for error messages.
#[expect(clippy::result_large_err, reason = "a command is as large, and both are consumed at once")]
pub fn command(
    context: &Context,
    message: &mut v1::Command,
    tag: &Arc<str>,
) -> Result<Command, Rejected> {
    let Some(wire) = &mut message.kind else {
        return Err(Rejected {
            error: Error::UnknownCommand,
            op: "".into(),
            outputs: Vec::new(),
            tag: (&**tag).into(),
        });
    };
    match kind(context, wire) {
        Ok(kind) => Ok(Command { kind, tag: Arc::clone(tag), scope: message.scope, source: None }),
        Err(error) => {
            let (op, outputs) = (name(wire).into(), outputs(wire));
            Err(Rejected { error, op, outputs, tag: (&**tag).into() })
        }
    }
}

/// A command whose message cannot be read, so that it is not known what it would have bound.
pub fn unreadable(error: &DecodeError) -> Rejected {
    let error = malformed("command", error.to_string());
    Rejected { error, op: "".into(), outputs: Vec::new(), tag: "".into() }
}

/// Whether a command can be made from its message a second time: uploads and staged checkpoints are used up by the first.
pub fn keeps_source(command: &Command) -> bool {
    !matches!(command.kind, Kind::Constant { .. } | Kind::Restore(_))
}

/// A command as if it could not be decoded.
pub fn rejected(message: &v1::Command, error: Error) -> Rejected {
    let (op, outputs) =
        message.kind.as_ref().map_or(("", Vec::new()), |wire| (name(wire), outputs(wire)));
    Rejected { error, op: op.into(), outputs, tag: tag(message).into() }
}

/// The client's mark, within the limit: a long one is cut, since refusing it would help nobody.
pub fn tag(message: &v1::Command) -> &str {
    truncated(&message.tag, MAX_LABEL)
}

/// Decodes dtype and shape.
pub fn aval(spec: &v1::TensorSpec) -> Result<Aval, Error> {
    Ok(Aval { dtype: dtype(spec.dtype)?, shape: Shape::checked(&spec.shape)? })
}

#[expect(clippy::too_many_lines, reason = "an arm for each command")]
fn kind(context: &Context, wire: &mut Wire) -> Result<Kind, Error> {
    Ok(match wire {
        Wire::Constant(m) => Kind::Constant { output: m.output, value: constant(context, m)? },
        Wire::Op(m) => op(m)?,
        Wire::Release(m) => Kind::Release { handles: handles(&m.handles, "release.handles")? },
        Wire::CreateVariable(m) => Kind::CreateVariable {
            variable: m.variable,
            name: label(&m.name, "create_variable.name")?,
            initial: m.initial_value,
            trainable: m.trainable.unwrap_or(true),
        },
        Wire::ReadVariable(m) => Kind::ReadVariable { variable: m.variable, output: m.output },
        Wire::AssignVariable(m) => {
            Kind::Assign { variable: m.variable, value: m.value, mode: assign_mode(m.mode)? }
        }
        Wire::ScatterVariable(m) => Kind::Scatter {
            variable: m.variable,
            indices: m.indices,
            updates: m.updates,
            mode: assign_mode(m.mode)?,
        },
        Wire::OpenTape(m) => Kind::OpenTape {
            tape: m.tape,
            persistent: m.persistent,
            watch_accessed_variables: m.watch_accessed_variables.unwrap_or(true),
            paused: m.paused,
        },
        Wire::WatchTape(m) => {
            Kind::WatchTape { tape: m.tape, values: handles(&m.values, "watch_tape.values")? }
        }
        Wire::StopTape(m) => {
            Kind::StopTape { tape: m.tape, require_recording: m.require_recording }
        }
        Wire::ResumeTape(m) => Kind::ResumeTape { tape: m.tape },
        Wire::ResetTape(m) => Kind::ResetTape { tape: m.tape },
        Wire::CloseTape(m) => Kind::CloseTape { tape: m.tape },
        Wire::ListWatchedVariables(m) => Kind::ListWatchedVariables { tape: m.tape },
        Wire::ComputeGradient(m) => gradient(m)?,
        Wire::ComputeJacobian(m) => jacobian(m)?,
        Wire::ComputeBatchJacobian(m) => batch_jacobian(m),
        Wire::OpenAccumulator(m) => Kind::OpenAccumulator {
            accumulator: m.accumulator,
            primals: handles(&m.primals, "open_accumulator.primals")?,
            tangents: handles(&m.tangents, "open_accumulator.tangents")?,
            paused: m.paused,
        },
        Wire::ReadTangent(m) => read_tangent(m)?,
        Wire::CreatePlaceholders(m) => Kind::CreatePlaceholders {
            like: handles(&m.like, "create_placeholders.like")?,
            outputs: handles(&m.outputs, "create_placeholders.outputs")?,
        },
        Wire::RecordCustomGradient(m) => custom_gradient(m)?,
        Wire::DefineFunction(m) => define_function(m),
        Wire::FinishFunction(m) => Kind::FinishFunction {
            function: m.function,
            results: handles(&m.results, "finish_function.results")?,
            abandon: m.abandon,
        },
        Wire::CallFunction(m) => call_function(m)?,
        Wire::RunLoop(m) => run_loop(m)?,
        Wire::Branch(m) => branch(m)?,
        Wire::WhileLoop(m) => while_loop(m)?,
        Wire::Scan(m) => scan(m)?,
        Wire::ExplainFunction(m) => Kind::ExplainFunction { function: m.function },
        Wire::Explain(m) => Kind::Explain { tape: m.tape, target: m.target, source: m.source },
        Wire::CreateOptimizer(m) => Kind::CreateOptimizer {
            optimizer: m.optimizer,
            name: label(&m.name, "create_optimizer.name")?,
            hyperparameters: attributes(&mut m.hyperparameters)?,
            schedule: schedule(m.learning_rate_schedule.as_mut())?,
        },
        Wire::ApplyOptimizer(m) => apply_optimizer(m)?,
        Wire::SetOptimizer(m) => Kind::SetOptimizer {
            optimizer: m.optimizer,
            hyperparameters: attributes(&mut m.hyperparameters)?,
            schedule: schedule(m.learning_rate_schedule.as_mut())?,
        },
        Wire::ReadOptimizer(m) => Kind::ReadOptimizer {
            optimizer: m.optimizer,
            name: label(&m.name, "read_optimizer.name")?,
            variable: m.variable,
            output: m.output,
        },
        Wire::CreateGenerator(m) => Kind::CreateGenerator { generator: m.generator, seed: m.seed },
        Wire::NextGeneratorState(m) => {
            Kind::NextGeneratorState { generator: m.generator, output: m.output, draws: m.draws }
        }
        Wire::Fetch(m) => Kind::Fetch { value: m.value },
        Wire::Describe(m) => Kind::Describe { value: m.value },
        Wire::RestoreCheckpoint(m) => restore(context, m)?,
        Wire::Sync(m) => sync(context, *m)?,
    })
}

fn sync(context: &Context, message: v1::Sync) -> Result<Kind, Error> {
    match v1::Level::try_from(message.level) {
        Ok(v1::Level::Unspecified | v1::Level::Applied) => Ok(Kind::Sync),
        Ok(v1::Level::Durable) if context.has_log => Ok(Kind::Sync),
        Ok(v1::Level::Portable) if context.is_portable => Ok(Kind::Sync),
        Ok(v1::Level::Durable) => Err(Error::LevelUnavailable { level: "DURABLE" }),
        Ok(v1::Level::Portable) => Err(Error::LevelUnavailable { level: "PORTABLE" }),
        Err(_) => Err(malformed("sync.level", "is not known")),
    }
}

/// Which key each handle has in a checkpoint. The keys themselves are the engine's to check.
pub fn checkpoint_entries(messages: Vec<v1::CheckpointEntry>) -> Result<Vec<KeyedHandle>, Error> {
    bounded(messages.len(), MAX_HANDLES, "entries")?;
    let entry = |m: v1::CheckpointEntry| KeyedHandle { handle: m.handle, key: m.key.into() };
    Ok(messages.into_iter().map(entry).collect())
}

fn restore(context: &Context, message: &mut v1::RestoreCheckpoint) -> Result<Kind, Error> {
    // Taken first, so that the memory is free whatever else is wrong.
    let snapshot = context.uploads.consume_checkpoint(message.upload)?;
    let entries = checkpoint_entries(std::mem::take(&mut message.entries))?;
    let (weights_only, partial) = (message.weights_only, message.partial);
    Ok(Kind::Restore(Box::new(RestoreRequest { snapshot, entries, weights_only, partial })))
}

fn constant(context: &Context, message: &v1::Constant) -> Result<Tensor, Error> {
    use v1::constant::Source;
    match &message.source {
        Some(Source::Tensor(tensor)) => inline_tensor(context, tensor),
        Some(Source::Upload(upload)) => context.uploads.consume(*upload),
        None => Err(malformed("constant.source", "must be given")),
    }
}

fn inline_tensor(context: &Context, tensor: &v1::Tensor) -> Result<Tensor, Error> {
    let limit = context.max_inline_bytes;
    if tensor.data.len() > limit {
        let why = format!(
            "{} bytes are more than the {limit} that fit in a command; use TapeService.UploadTensor",
            tensor.data.len()
        );
        return Err(malformed("constant.tensor.data", why));
    }
    let aval = Aval { dtype: dtype(tensor.dtype)?, shape: Shape::checked(&tensor.shape)? };
    Tensor::from_bytes(context.ledger, &aval, &tensor.data)
}

fn op(message: &mut v1::Op) -> Result<Kind, Error> {
    bounded(message.inputs.len(), MAX_INPUTS, "op.inputs")?;
    bounded(message.outputs.len(), MAX_HANDLES, "op.outputs")?;
    let op = ops::find(&message.name)
        .ok_or_else(|| Error::UnknownOp { name: truncated(&message.name, MAX_ECHO).into() })?;
    let attrs = Attrs::check(op.attrs, attributes(&mut message.attributes)?)?;
    Ok(Kind::Op {
        op,
        attrs,
        inputs: Handles::from_slice(&message.inputs),
        outputs: Handles::from_slice(&message.outputs),
    })
}

fn apply_optimizer(message: &v1::ApplyOptimizer) -> Result<Kind, Error> {
    bounded(message.pairs.len(), MAX_HANDLES, "apply_optimizer.pairs")?;
    let pair = |m: &v1::GradientPair| GradientPair {
        variable: m.variable,
        gradient: m.gradient,
        indices: m.indices,
        exclude_from_weight_decay: m.exclude_from_weight_decay,
        exclude_from_orthogonalization: m.exclude_from_orthogonalization,
    };
    let pairs = message.pairs.iter().map(pair).collect();
    Ok(Kind::ApplyOptimizer { optimizer: message.optimizer, pairs })
}

fn schedule(message: Option<&mut v1::LearningRateSchedule>) -> Result<Option<Schedule>, Error> {
    let Some(message) = message else { return Ok(None) };
    let name = label(&message.name, "learning_rate_schedule.name")?;
    Schedule::new(&name, attributes(&mut message.attributes)?).map(Some)
}

/// The handles that a command would bind, so that a rejected one poisons them.
fn outputs(wire: &Wire) -> Vec<Handle> {
    match wire {
        Wire::Constant(m) => vec![m.output],
        Wire::Op(m) => m.outputs.iter().copied().take(MAX_HANDLES).collect(),
        Wire::CreateVariable(m) => vec![m.variable],
        Wire::ReadVariable(m) => vec![m.output],
        Wire::OpenTape(m) => vec![m.tape],
        Wire::ComputeGradient(m) => m
            .outputs
            .iter()
            .take(MAX_HANDLES)
            .flat_map(|output| [output.gradient, output.indices])
            .filter(|&handle| handle != 0)
            .collect(),
        Wire::ComputeJacobian(m) => m.outputs.iter().copied().take(MAX_HANDLES).collect(),
        Wire::ComputeBatchJacobian(m) => vec![m.output],
        Wire::OpenAccumulator(m) => vec![m.accumulator],
        Wire::ReadTangent(m) => m.outputs.iter().copied().take(MAX_HANDLES).collect(),
        Wire::CreatePlaceholders(m) => m.outputs.iter().copied().take(MAX_HANDLES).collect(),
        Wire::RecordCustomGradient(m) => m.outputs.iter().copied().take(MAX_HANDLES).collect(),
        Wire::DefineFunction(m) => m.parameters.iter().copied().take(MAX_HANDLES).collect(),
        Wire::FinishFunction(m) => vec![m.function],
        Wire::CallFunction(m) => m.outputs.iter().copied().take(MAX_HANDLES).collect(),
        Wire::RunLoop(m) => m.outputs.iter().copied().take(MAX_HANDLES).collect(),
        Wire::Branch(m) => m.outputs.iter().copied().take(MAX_HANDLES).collect(),
        Wire::WhileLoop(m) => m.outputs.iter().copied().take(MAX_HANDLES).collect(),
        Wire::Scan(m) => m.outputs.iter().copied().take(MAX_HANDLES).collect(),
        Wire::CreateOptimizer(m) => vec![m.optimizer],
        Wire::CreateGenerator(m) => vec![m.generator],
        Wire::NextGeneratorState(m) => vec![m.output],
        Wire::ReadOptimizer(m) => vec![m.output],
        Wire::Release(_)
        | Wire::AssignVariable(_)
        | Wire::ScatterVariable(_)
        | Wire::WatchTape(_)
        | Wire::StopTape(_)
        | Wire::ResumeTape(_)
        | Wire::ResetTape(_)
        | Wire::CloseTape(_)
        | Wire::ListWatchedVariables(_)
        | Wire::ApplyOptimizer(_)
        | Wire::SetOptimizer(_)
        | Wire::Fetch(_)
        | Wire::Describe(_)
        | Wire::ExplainFunction(_)
        | Wire::Explain(_)
        | Wire::RestoreCheckpoint(_)
        | Wire::Sync(_) => Vec::new(),
    }
}

mod fields;
mod functions;
mod gradients;
mod names;

#[cfg(test)]
mod tests;
