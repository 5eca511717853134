//! Outcomes to replies. Nothing is checked here: the engine's types cannot say anything that the schema cannot.

use bytes::Bytes;
use gradtape_engine::{
    array::Tensor,
    aval::Aval,
    command::{
        AbsentReason, Answer, Failure, GradientInfo, LoopInfo, LoopReport, Outcome, PlanInfo,
    },
    dtype::DType,
    error::{Code, Error},
    explain::{Explanation, Hop},
    plan::explain::ExplainedStep,
};
use gradtape_proto::v1::{self, reply::Result as Wire};

use super::truncated;

/// Longest message of an error, in bytes: the differences between a checkpoint and a session are a list.
const MAX_MESSAGE: usize = 4096;
/// Most inputs that an error describes: enough for any op but a long concat.
const MAX_INPUTS: usize = 16;
/// Below this size a tensor's elements are copied into the reply; above, the reply shares the tensor's memory.
const SHARE_FROM_BYTES: usize = 4096;

/// Encodes what a command has to say; nothing, if it succeeded without remarks.
///
/// A fetched tensor of more than `max_tensor_bytes` becomes an error: the reply must fit in a message.
pub fn reply(
    sequence: u64,
    outcome: Outcome,
    tag: &str,
    max_tensor_bytes: usize,
) -> Option<v1::Reply> {
    let Outcome { result, warnings } = outcome;
    let result = match result {
        Ok(Answer::Done) if warnings.is_empty() => return None,
        Ok(Answer::Tensor(tensor)) if tensor.aval().bytes() > max_tensor_bytes as u64 => {
            let aval = tensor.aval();
            let error =
                Error::FetchTooLarge { bytes: aval.bytes(), limit: max_tensor_bytes as u64 };
            let failure = Failure {
                error,
                op: "fetch".into(),
                inputs: vec![aval],
                root_sequence: sequence,
                root_tag: tag.into(),
            };
            Some(Wire::Error(error_message(sequence, failure, tag)))
        }
        Ok(answer) => encode_answer(answer),
        Err(failure) => Some(Wire::Error(error_message(sequence, *failure, tag))),
    };
    Some(v1::Reply { sequence, result, warnings })
}

/// The number that `google.rpc.Code` gives a code.
pub fn code(code: Code) -> tonic::Code {
    match code {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::NotFound => tonic::Code::NotFound,
        Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::Aborted => tonic::Code::Aborted,
        Code::Cancelled => tonic::Code::Cancelled,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::Unimplemented => tonic::Code::Unimplemented,
        Code::Internal => tonic::Code::Internal,
    }
}

/// Dtype and shape.
pub fn spec(aval: &Aval) -> v1::TensorSpec {
    v1::TensorSpec { dtype: dtype(aval.dtype).into(), shape: aval.shape.to_i64().to_vec() }
}

/// An element type.
pub fn dtype(dtype: DType) -> v1::DataType {
    match dtype {
        DType::F32 => v1::DataType::Float32,
        DType::F64 => v1::DataType::Float64,
        DType::I32 => v1::DataType::Int32,
        DType::I64 => v1::DataType::Int64,
        DType::Bool => v1::DataType::Bool,
        DType::F16 => v1::DataType::Float16,
        DType::BF16 => v1::DataType::Bfloat16,
    }
}

/// A tensor's elements, without copying large ones: the message keeps the tensor, and its reservation, alive.
pub fn elements(tensor: Tensor) -> Bytes {
    struct Owner(Tensor);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            // Arrays at a session's surface are contiguous, so the other case is not reached.
            self.0.array().as_bytes().unwrap_or_default()
        }
    }
    let owner = Owner(tensor);
    if owner.as_ref().len() < SHARE_FROM_BYTES {
        return Bytes::copy_from_slice(owner.as_ref());
    }
    Bytes::from_owner(owner)
}

fn encode_answer(answer: Answer) -> Option<Wire> {
    Some(match answer {
        Answer::Done => return None,
        Answer::Tensor(tensor) => {
            let v1::TensorSpec { dtype, shape } = spec(&tensor.aval());
            Wire::Tensor(v1::Tensor { dtype, shape, data: elements(tensor) })
        }
        Answer::Spec(aval) => Wire::Spec(spec(&aval)),
        Answer::Gradients(infos) => {
            let gradients = infos.into_iter().map(gradient).collect();
            Wire::Gradient(v1::GradientReply { gradients })
        }
        Answer::Stepped(step) => Wire::Optimizer(v1::OptimizerReply {
            iterations: step.iterations,
            learning_rate: step.learning_rate,
            skipped: step.skipped,
            loss_scale: step.loss_scale,
        }),
        Answer::Variables(variables) => Wire::Variables(v1::VariablesReply { variables }),
        Answer::Explanation(found) => Wire::Explanation(explanation(found)),
        Answer::Restored(restored) => Wire::Restore(v1::RestoreReply {
            variables: count(restored.variables),
            optimizers: count(restored.optimizers),
            generators: count(restored.generators),
        }),
        Answer::Defined(results) => {
            Wire::Function(v1::FunctionReply { results: results.iter().map(spec).collect() })
        }
        Answer::Planned(info) => Wire::Plan(plan(info)),
        Answer::Looped(LoopInfo { steps, stopped, reports }) => Wire::Loop(v1::LoopReply {
            steps,
            stopped,
            reports: reports.into_iter().map(loop_report).collect(),
        }),
        Answer::Synced => {
            Wire::Sync(v1::SyncReply { level: v1::Level::Applied.into(), ..Default::default() })
        }
    })
}

/// The error of a command that has taken effect and cannot reach the level that it waits for.
pub fn unreached(sequence: u64, error: Error) -> v1::Error {
    let failure = Failure {
        error,
        op: "sync".into(),
        inputs: Vec::new(),
        root_sequence: sequence,
        root_tag: "".into(),
    };
    error_message(sequence, failure, "")
}

/// A number of things that have handles, of which there are never so many.
pub fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// The scalars of one step of a loop.
pub fn loop_report(report: LoopReport) -> v1::LoopReport {
    v1::LoopReport { step: report.step, values: report.values }
}

fn plan(info: PlanInfo) -> v1::PlanReply {
    let specs = |avals: &[Aval]| avals.iter().map(spec).collect();
    let step = |step: ExplainedStep| v1::PlanStep {
        ops: step.ops.into_iter().map(str::to_owned).collect(),
        inputs: specs(&step.inputs),
        outputs: specs(&step.outputs),
        flops: step.cost.flops,
        workspace_bytes: step.cost.workspace,
    };
    v1::PlanReply {
        steps: info.steps.into_iter().map(step).collect(),
        elided: info.elided as u64,
        peak_bytes: info.peak,
    }
}

fn explanation(found: Explanation) -> v1::ExplainReply {
    let hop = |hop: Hop| v1::Hop {
        op: hop.op.to_owned(),
        output: Some(spec(&hop.output)),
        tag: hop.tag.as_ref().to_owned(),
    };
    v1::ExplainReply {
        absent_reason: found.reason.map_or(v1::AbsentReason::Unspecified, absent_reason).into(),
        path: found.path.into_iter().map(hop).collect(),
        elided: found.elided as u64,
    }
}

fn gradient(info: GradientInfo) -> v1::GradientInfo {
    let present = |kind: v1::GradientKind, aval: Aval| v1::GradientInfo {
        kind: kind.into(),
        absent_reason: v1::AbsentReason::Unspecified.into(),
        spec: Some(spec(&aval)),
    };
    match info {
        GradientInfo::Dense(aval) => present(v1::GradientKind::Dense, aval),
        GradientInfo::Sparse(aval) => present(v1::GradientKind::Sparse, aval),
        GradientInfo::Absent(reason) => v1::GradientInfo {
            kind: v1::GradientKind::Absent.into(),
            absent_reason: absent_reason(reason).into(),
            spec: None,
        },
        GradientInfo::ZeroFilled(reason, aval) => v1::GradientInfo {
            absent_reason: absent_reason(reason).into(),
            ..present(v1::GradientKind::ZeroFilled, aval)
        },
    }
}

/// Why a gradient is absent.
pub fn absent_reason(reason: AbsentReason) -> v1::AbsentReason {
    match reason {
        AbsentReason::NotWatched => v1::AbsentReason::NotWatched,
        AbsentReason::DType => v1::AbsentReason::Dtype,
        AbsentReason::StopGradient => v1::AbsentReason::StopGradient,
        AbsentReason::NoDerivative => v1::AbsentReason::NoDerivative,
        AbsentReason::NoPath => v1::AbsentReason::NoPath,
    }
}

fn error_message(sequence: u64, failure: Failure, tag: &str) -> v1::Error {
    let Failure { error, op, inputs, root_sequence, root_tag } = failure;
    let (kind, reason, hint) = error.classify();
    v1::Error {
        code: code(kind).into(),
        reason: reason.to_owned(),
        message: truncated(&error.to_string(), MAX_MESSAGE).to_owned(),
        sequence,
        root_sequence,
        op: op.into(),
        inputs: inputs.iter().take(MAX_INPUTS).map(spec).collect(),
        tag: tag.to_owned(),
        root_tag: root_tag.into(),
        hint: hint.to_owned(),
        field: field(&error),
    }
}

/// The field of a command that an error is about, where it is about one.
fn field(error: &Error) -> String {
    #[expect(clippy::wildcard_enum_match_arm, reason = "most errors are about no single field")]
    match error {
        Error::InvalidAttribute { name, .. } => format!("attributes[{name}]"),
        Error::Malformed { what, .. } => what.to_string(),
        Error::UnknownOp { .. } | Error::UnknownOptimizer { .. } => "name".to_owned(),
        Error::InputCount { .. } => "inputs".to_owned(),
        Error::OutputCount { .. } => "outputs".to_owned(),
        Error::DataLength { .. } | Error::InvalidBool { .. } => "data".to_owned(),
        Error::InvalidShape { .. } => "shape".to_owned(),
        _ => String::new(),
    }
}
