//! Messages to commands.
//!
//! Lists that the schema bounds are counted before they are walked, enums that are not known are refused and never
//! mapped to a default, and an op's attributes are checked against the table.

use std::sync::Arc;

use gradtape_engine::{
    array::Tensor,
    attrs::{Attr, Attrs, Doubles, Ints, MAX_INTS, MAX_TEXT},
    aval::{Aval, Shape},
    command::{
        AssignMode, Callee, Command, CustomGradient, Flow, FunctionCall, FunctionDefinition,
        GradientKind, GradientOutput, GradientPair, GradientRequest, Handle, Handles,
        JacobianRequest, Kind, LoopRequest, TangentRequest,
    },
    dtype::DType,
    error::Error,
    jacobian::Layout,
    ledger::Ledger,
    ops,
    optimizers::schedules::Schedule,
    session::Rejected,
    snapshot::{KeyedHandle, RestoreRequest},
};
use gradtape_proto::v1::{self, command::Kind as Wire};

use self::names::name;
use super::truncated;
use crate::session::uploads::Uploads;

/// Longest tag and name, in bytes.
const MAX_LABEL: usize = 256;
/// Most inputs of an op; more are a mistake or an attack.
const MAX_INPUTS: usize = 1024;
/// Most handles in any other list.
const MAX_HANDLES: usize = 65_536;
/// Most attributes of an op or optimizer. No table entry comes near.
const MAX_ATTRIBUTES: usize = 64;
/// Longest unknown name that an error repeats, in bytes.
const MAX_ECHO: usize = 64;

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
}

/// Decodes a command. Its attributes are moved out; handles, names and tag stay for error messages.
#[expect(clippy::result_large_err, reason = "a command is as large, and both are consumed at once")]
pub fn command(context: &Context, message: &mut v1::Command) -> Result<Command, Rejected> {
    let tag: Box<str> = tag(message).into();
    let Some(wire) = &mut message.kind else {
        return Err(Rejected {
            error: Error::UnknownCommand,
            op: "".into(),
            outputs: Vec::new(),
            tag,
        });
    };
    match kind(context, wire) {
        Ok(kind) => Ok(Command { kind, tag: tag.into(), scope: message.scope }),
        Err(error) => Err(Rejected { error, op: name(wire).into(), outputs: outputs(wire), tag }),
    }
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

fn custom_gradient(message: &v1::RecordCustomGradient) -> Result<Kind, Error> {
    Ok(Kind::RecordCustomGradient(CustomGradient {
        inputs: handles(&message.inputs, "record_custom_gradient.inputs")?,
        results: handles(&message.results, "record_custom_gradient.results")?,
        outputs: handles(&message.outputs, "record_custom_gradient.outputs")?,
        upstream: handles(&message.upstream, "record_custom_gradient.upstream")?,
        gradients: handles(&message.gradients, "record_custom_gradient.gradients")?,
    }))
}

fn define_function(message: &v1::DefineFunction) -> Kind {
    let specs = bounded(message.specs.len(), MAX_HANDLES, "define_function.specs")
        .and_then(|()| message.specs.iter().map(aval).collect());
    let function = message.function;
    // Whatever is wrong, what follows is a body and must not be executed.
    let (parameters, specs) = match handles(&message.parameters, "define_function.parameters") {
        Ok(parameters) => (parameters, specs),
        Err(error) => (Vec::new(), Err(error)),
    };
    Kind::DefineFunction(FunctionDefinition { function, parameters, specs })
}

fn call_function(message: &v1::CallFunction) -> Result<Kind, Error> {
    let parameters = handles(&message.parameters, "call_function.parameters")?;
    let results = handles(&message.results, "call_function.results")?;
    let callee = if message.function == 0 {
        Callee::Shown { parameters, results }
    } else if parameters.is_empty() && results.is_empty() {
        Callee::Defined(message.function)
    } else {
        return Err(malformed("call_function.function", "excludes parameters and results"));
    };
    Ok(Kind::CallFunction(FunctionCall {
        callee,
        arguments: handles(&message.arguments, "call_function.arguments")?,
        outputs: handles(&message.outputs, "call_function.outputs")?,
    }))
}

fn run_loop(message: &v1::RunLoop) -> Result<Kind, Error> {
    Ok(Kind::RunLoop(LoopRequest {
        function: message.function,
        steps: message.steps,
        datasets: handles(&message.datasets, "run_loop.datasets")?,
        batch_size: message.batch_size,
        shuffle_seed: message.shuffle_seed,
        arguments: handles(&message.arguments, "run_loop.arguments")?,
        carried: message.carried as usize,
        outputs: handles(&message.outputs, "run_loop.outputs")?,
        report_every: message.report_every,
        stream_reports: message.stream_reports,
        while_result: message.while_result.map(|number| number as usize),
    }))
}

fn branch(message: &v1::Branch) -> Result<Kind, Error> {
    let flow = Flow::Branch {
        index: message.index,
        functions: handles(&message.functions, "branch.functions")?,
        arguments: handles(&message.arguments, "branch.arguments")?,
    };
    Ok(Kind::Control { flow, outputs: handles(&message.outputs, "branch.outputs")? })
}

fn while_loop(message: &v1::WhileLoop) -> Result<Kind, Error> {
    let flow = Flow::While {
        condition: message.condition,
        body: message.body,
        carried: handles(&message.carried, "while_loop.carried")?,
        maximum_iterations: message.maximum_iterations.map(|most| most as usize),
    };
    Ok(Kind::Control { flow, outputs: handles(&message.outputs, "while_loop.outputs")? })
}

fn scan(message: &v1::Scan) -> Result<Kind, Error> {
    /// Most slices of a scan.
    const MAX_LENGTH: usize = 1 << 20;
    let length = message.length as usize;
    bounded(length, MAX_LENGTH, "scan.length")?;
    let flow = Flow::Scan {
        body: message.body,
        carried: handles(&message.carried, "scan.carried")?,
        stacks: handles(&message.stacks, "scan.stacks")?,
        length,
        reverse: message.reverse,
    };
    Ok(Kind::Control { flow, outputs: handles(&message.outputs, "scan.outputs")? })
}

fn constant(context: &Context, message: &v1::Constant) -> Result<Tensor, Error> {
    use v1::constant::Source;
    match &message.source {
        Some(Source::Tensor(tensor)) => inline_tensor(context, tensor),
        Some(Source::Upload(upload)) => context.uploads.consume(*upload, context.ledger),
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

fn attributes(messages: &mut Vec<v1::Attribute>) -> Result<Vec<(String, Attr)>, Error> {
    bounded(messages.len(), MAX_ATTRIBUTES, "attributes")?;
    std::mem::take(messages).into_iter().map(attribute).collect()
}

fn attribute(message: v1::Attribute) -> Result<(String, Attr), Error> {
    use v1::attribute::Value;
    let v1::Attribute { name, value } = message;
    if name.len() > MAX_LABEL {
        return Err(Error::attribute(
            truncated(&name, MAX_ECHO),
            "is unknown: its name is too long",
        ));
    }
    let value = match value {
        Some(Value::BoolValue(value)) => Attr::Bool(value),
        Some(Value::IntValue(value)) => Attr::Int(value),
        Some(Value::DoubleValue(value)) => Attr::Double(value),
        Some(Value::StringValue(value)) if value.len() <= MAX_TEXT => Attr::Text(value.into()),
        Some(Value::StringValue(_)) => {
            return Err(Error::attribute(&name, format!("is longer than {MAX_TEXT} bytes")));
        }
        Some(Value::DtypeValue(value)) => Attr::DType(dtype(value)?),
        Some(Value::IntsValue(list)) if list.values.len() <= MAX_INTS => {
            Attr::Ints(Ints::from_slice(&list.values))
        }
        Some(Value::DoublesValue(list)) if list.values.len() <= MAX_INTS => {
            Attr::Doubles(Doubles::from_slice(&list.values))
        }
        Some(Value::IntsValue(_) | Value::DoublesValue(_)) => {
            return Err(Error::attribute(&name, format!("has more than {MAX_INTS} entries")));
        }
        None => return Err(Error::attribute(&name, "has no value")),
    };
    Ok((name, value))
}

fn gradient(message: &v1::ComputeGradient) -> Result<Kind, Error> {
    bounded(message.outputs.len(), MAX_HANDLES, "compute_gradient.outputs")?;
    bounded(message.expected_kinds.len(), MAX_HANDLES, "compute_gradient.expected_kinds")?;
    let unconnected = message.unconnected_gradients;
    let zero_unconnected = zeros(unconnected, "compute_gradient.unconnected_gradients")?;
    let output =
        |m: &v1::GradientOutput| GradientOutput { gradient: m.gradient, indices: m.indices };
    Ok(Kind::Gradient(GradientRequest {
        tape: message.tape,
        targets: handles(&message.targets, "compute_gradient.targets")?,
        sources: handles(&message.sources, "compute_gradient.sources")?,
        outputs: message.outputs.iter().map(output).collect(),
        seeds: handles(&message.output_gradients, "compute_gradient.output_gradients")?,
        zero_unconnected,
        expected: message
            .expected_kinds()
            .map(gradient_kind)
            .collect::<Option<_>>()
            .unwrap_or_default(),
    }))
}

/// A kind that this version knows. With any other nothing counts as expected, and there is a reply.
fn gradient_kind(kind: v1::GradientKind) -> Option<GradientKind> {
    match kind {
        v1::GradientKind::Unspecified => None,
        v1::GradientKind::Dense => Some(GradientKind::Dense),
        v1::GradientKind::Sparse => Some(GradientKind::Sparse),
        v1::GradientKind::Absent => Some(GradientKind::Absent),
        v1::GradientKind::ZeroFilled => Some(GradientKind::ZeroFilled),
    }
}

fn jacobian(message: &v1::ComputeJacobian) -> Result<Kind, Error> {
    let unconnected = message.unconnected_gradients;
    Ok(Kind::Jacobian(JacobianRequest {
        tape: message.tape,
        target: message.target,
        sources: handles(&message.sources, "compute_jacobian.sources")?,
        outputs: handles(&message.outputs, "compute_jacobian.outputs")?,
        layout: Layout::Full,
        zero_unconnected: zeros(unconnected, "compute_jacobian.unconnected_gradients")?,
    }))
}

fn batch_jacobian(message: &v1::ComputeBatchJacobian) -> Kind {
    Kind::Jacobian(JacobianRequest {
        tape: message.tape,
        target: message.target,
        sources: vec![message.source],
        outputs: vec![message.output],
        layout: Layout::PerExample,
        zero_unconnected: true,
    })
}

fn read_tangent(message: &v1::ReadTangent) -> Result<Kind, Error> {
    let unconnected = message.unconnected_gradients;
    Ok(Kind::ReadTangent(TangentRequest {
        accumulator: message.accumulator,
        values: handles(&message.values, "read_tangent.values")?,
        outputs: handles(&message.outputs, "read_tangent.outputs")?,
        zero_unconnected: zeros(unconnected, "read_tangent.unconnected_gradients")?,
    }))
}

/// Whether what has no path gets zeros.
fn zeros(unconnected: i32, field: &str) -> Result<bool, Error> {
    match v1::UnconnectedGradients::try_from(unconnected) {
        Ok(v1::UnconnectedGradients::Unspecified | v1::UnconnectedGradients::None) => Ok(false),
        Ok(v1::UnconnectedGradients::Zero) => Ok(true),
        Err(_) => Err(malformed(field, "is not known")),
    }
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

fn assign_mode(mode: i32) -> Result<AssignMode, Error> {
    match v1::AssignMode::try_from(mode) {
        Ok(v1::AssignMode::Unspecified | v1::AssignMode::Replace) => Ok(AssignMode::Replace),
        Ok(v1::AssignMode::Add) => Ok(AssignMode::Add),
        Ok(v1::AssignMode::Subtract) => Ok(AssignMode::Subtract),
        Err(_) => Err(malformed("mode", format!("{mode} is not known"))),
    }
}

fn dtype(dtype: i32) -> Result<DType, Error> {
    match v1::DataType::try_from(dtype) {
        Ok(v1::DataType::Float32) => Ok(DType::F32),
        Ok(v1::DataType::Float64) => Ok(DType::F64),
        Ok(v1::DataType::Int32) => Ok(DType::I32),
        Ok(v1::DataType::Int64) => Ok(DType::I64),
        Ok(v1::DataType::Bool) => Ok(DType::Bool),
        Ok(v1::DataType::Float16) => Ok(DType::F16),
        Ok(v1::DataType::Bfloat16) => Ok(DType::BF16),
        Ok(v1::DataType::Unspecified) => Err(malformed("dtype", "must be given")),
        Err(_) => Err(malformed("dtype", format!("{dtype} is not known"))),
    }
}

fn handles(handles: &[Handle], field: &str) -> Result<Vec<Handle>, Error> {
    bounded(handles.len(), MAX_HANDLES, field)?;
    Ok(handles.to_vec())
}

fn label(text: &str, field: &str) -> Result<Box<str>, Error> {
    bounded(text.len(), MAX_LABEL, field)?;
    if text.contains(is_hidden) {
        return Err(malformed(field, "has control characters"));
    }
    Ok(text.into())
}

/// Whether a character changes how a line is read without being seen: it has no place in a name that logs and people read.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn bounded(given: usize, limit: usize, field: &str) -> Result<(), Error> {
    if given > limit {
        return Err(malformed(field, format!("has {given} entries, {limit} are allowed")));
    }
    Ok(())
}

fn malformed(what: &str, why: impl Into<Box<str>>) -> Error {
    Error::Malformed { what: what.into(), why: why.into() }
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

mod names;

#[cfg(test)]
mod tests;
