//! What commands are called, and which handles they name.

use crate::{
    command::{Callee, CustomGradient, Flow, FunctionCall, Handle, Kind},
    jacobian::Layout,
};

impl Kind {
    /// The name of the op or verb, for errors.
    pub fn verb(&self) -> &str {
        match self {
            Self::Op { op, .. } => op.name,
            Self::Constant { .. } => "constant",
            Self::Release { .. } => "release",
            Self::CreateVariable { .. } => "create_variable",
            Self::ReadVariable { .. } => "read_variable",
            Self::Assign { .. } => "assign_variable",
            Self::Scatter { .. } => "scatter_variable",
            Self::OpenTape { .. } => "open_tape",
            Self::WatchTape { .. } => "watch_tape",
            Self::StopTape { .. } => "stop_tape",
            Self::ResumeTape { .. } => "resume_tape",
            Self::ResetTape { .. } => "reset_tape",
            Self::CloseTape { .. } => "close_tape",
            Self::ListWatchedVariables { .. } => "list_watched_variables",
            Self::Gradient(_) => "compute_gradient",
            Self::Jacobian(request) => match request.layout {
                Layout::Full => "compute_jacobian",
                Layout::PerExample => "compute_batch_jacobian",
            },
            Self::OpenAccumulator { .. } => "open_accumulator",
            Self::ReadTangent(_) => "read_tangent",
            Self::CreateOptimizer { .. } => "create_optimizer",
            Self::ApplyOptimizer { .. } => "apply_optimizer",
            Self::SetOptimizer { .. } => "set_optimizer",
            Self::ReadOptimizer { .. } => "read_optimizer",
            Self::CreateGenerator { .. } => "create_generator",
            Self::NextGeneratorState { .. } => "next_generator_state",
            Self::Fetch { .. } => "fetch",
            Self::Describe { .. } => "describe",
            Self::CreatePlaceholders { .. } => "create_placeholders",
            Self::RecordCustomGradient(_) => "record_custom_gradient",
            Self::DefineFunction(_) => "define_function",
            Self::FinishFunction { .. } => "finish_function",
            Self::CallFunction(_) => "call_function",
            Self::RunLoop(_) => "run_loop",
            Self::Control { flow: Flow::Branch { .. }, .. } => "branch",
            Self::Control { flow: Flow::While { .. }, .. } => "while_loop",
            Self::Control { flow: Flow::Scan { .. }, .. } => "scan",
            Self::Explain { .. } => "explain",
            Self::Restore(_) => "restore_checkpoint",
            Self::Sync => "sync",
        }
    }

    /// The handles that the command binds.
    pub fn outputs(&self) -> Vec<Handle> {
        match self {
            Self::Constant { output, .. }
            | Self::ReadVariable { output, .. }
            | Self::ReadOptimizer { output, .. }
            | Self::NextGeneratorState { output, .. } => vec![*output],
            Self::Op { outputs, .. } => outputs.to_vec(),
            Self::CreateVariable { variable, .. } => vec![*variable],
            Self::OpenTape { tape, .. } => vec![*tape],
            Self::Gradient(request) => request
                .outputs
                .iter()
                .flat_map(|output| [output.gradient, output.indices])
                .collect(),
            Self::Jacobian(request) => request.outputs.clone(),
            Self::CreatePlaceholders { outputs, .. } => outputs.clone(),
            Self::RecordCustomGradient(request) => request.outputs.clone(),
            Self::DefineFunction(request) => request.parameters.clone(),
            Self::FinishFunction { function, .. } => vec![*function],
            Self::CallFunction(request) => request.outputs.clone(),
            Self::RunLoop(request) => request.outputs.clone(),
            Self::Control { outputs, .. } => outputs.clone(),
            Self::OpenAccumulator { accumulator, .. } => vec![*accumulator],
            Self::ReadTangent(request) => request.outputs.clone(),
            Self::CreateOptimizer { optimizer, .. } => vec![*optimizer],
            Self::CreateGenerator { generator, .. } => vec![*generator],
            Self::Release { .. }
            | Self::Assign { .. }
            | Self::Scatter { .. }
            | Self::WatchTape { .. }
            | Self::StopTape { .. }
            | Self::ResumeTape { .. }
            | Self::ResetTape { .. }
            | Self::CloseTape { .. }
            | Self::ListWatchedVariables { .. }
            | Self::ApplyOptimizer { .. }
            | Self::SetOptimizer { .. }
            | Self::Fetch { .. }
            | Self::Describe { .. }
            | Self::Explain { .. }
            | Self::Restore(_)
            | Self::Sync => Vec::new(),
        }
    }

    /// The values whose dtype and shape belong into an error.
    pub(super) fn inputs(&self) -> Vec<Handle> {
        match self {
            Self::Op { inputs, .. } => inputs.to_vec(),
            Self::Assign { variable, value, .. } => vec![*variable, *value],
            Self::Scatter { variable, indices, updates, .. } => vec![*variable, *indices, *updates],
            Self::Gradient(request) => request.targets.clone(),
            Self::Jacobian(request) => {
                std::iter::once(request.target).chain(request.sources.iter().copied()).collect()
            }
            Self::OpenAccumulator { primals, tangents, .. } => [&primals[..], tangents].concat(),
            Self::ReadTangent(request) => request.values.clone(),
            Self::CreatePlaceholders { like, .. } => like.clone(),
            Self::RecordCustomGradient(request) => request.inputs.clone(),
            Self::CallFunction(request) => request.arguments.clone(),
            Self::RunLoop(request) => [&request.datasets[..], &request.arguments].concat(),
            Self::Control { flow, .. } => flow.operands(),
            Self::FinishFunction { results, .. } => results.clone(),
            Self::Explain { target, source, .. } => vec![*target, *source],
            Self::CreateVariable { initial, .. } => vec![*initial],
            Self::Constant { .. }
            | Self::Release { .. }
            | Self::ReadVariable { .. }
            | Self::OpenTape { .. }
            | Self::WatchTape { .. }
            | Self::StopTape { .. }
            | Self::ResumeTape { .. }
            | Self::ResetTape { .. }
            | Self::CloseTape { .. }
            | Self::ListWatchedVariables { .. }
            | Self::CreateOptimizer { .. }
            | Self::ApplyOptimizer { .. }
            | Self::SetOptimizer { .. }
            | Self::ReadOptimizer { .. }
            | Self::CreateGenerator { .. }
            | Self::NextGeneratorState { .. }
            | Self::DefineFunction(_)
            | Self::Fetch { .. }
            | Self::Describe { .. }
            | Self::Restore(_)
            | Self::Sync => Vec::new(),
        }
    }

    /// Every handle that the command takes from what exists.
    pub(super) fn mentions(&self) -> Vec<Handle> {
        let lists = |lists: &[&[Handle]]| lists.concat();
        match self {
            Self::Op { .. }
            | Self::Assign { .. }
            | Self::Scatter { .. }
            | Self::OpenAccumulator { .. }
            | Self::CreateVariable { .. }
            | Self::CreatePlaceholders { .. }
            | Self::RunLoop(_)
            | Self::FinishFunction { .. } => self.inputs(),
            Self::Control { flow, .. } => [flow.functions(), flow.operands()].concat(),
            Self::ReadVariable { variable, .. } => vec![*variable],
            Self::Release { handles } => handles.clone(),
            Self::WatchTape { tape, values } => lists(&[&[*tape], values]),
            Self::StopTape { tape, .. }
            | Self::ResumeTape { tape }
            | Self::ResetTape { tape }
            | Self::CloseTape { tape }
            | Self::ListWatchedVariables { tape } => vec![*tape],
            Self::Explain { tape, target, source } => vec![*tape, *target, *source],
            Self::Gradient(request) => {
                lists(&[&[request.tape], &request.targets, &request.sources, &request.seeds])
            }
            Self::Jacobian(request) => lists(&[&[request.tape, request.target], &request.sources]),
            Self::ReadTangent(request) => lists(&[&[request.accumulator], &request.values]),
            Self::ApplyOptimizer { optimizer, pairs } => std::iter::once(*optimizer)
                .chain(pairs.iter().flat_map(|pair| [pair.variable, pair.gradient, pair.indices]))
                .collect(),
            Self::SetOptimizer { optimizer, .. } => vec![*optimizer],
            Self::ReadOptimizer { optimizer, variable, .. } => vec![*optimizer, *variable],
            Self::NextGeneratorState { generator, .. } => vec![*generator],
            Self::Fetch { value } | Self::Describe { value } => vec![*value],
            Self::RecordCustomGradient(CustomGradient {
                inputs,
                results,
                upstream,
                gradients,
                ..
            }) => lists(&[inputs, results, upstream, gradients]),
            Self::CallFunction(FunctionCall { callee, arguments, .. }) => match callee {
                Callee::Defined(function) => lists(&[&[*function], arguments]),
                Callee::Shown { parameters, results } => lists(&[parameters, results, arguments]),
            },
            Self::Constant { .. }
            | Self::OpenTape { .. }
            | Self::CreateOptimizer { .. }
            | Self::CreateGenerator { .. }
            | Self::DefineFunction(_)
            | Self::Restore(_)
            | Self::Sync => Vec::new(),
        }
    }
}
