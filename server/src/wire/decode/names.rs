//! What commands are called.

use super::{MAX_ECHO, Wire, truncated};

/// What an error calls a command.
pub(super) fn name(wire: &Wire) -> &str {
    match wire {
        Wire::Constant(_) => "constant",
        Wire::Op(m) => truncated(&m.name, MAX_ECHO),
        Wire::Release(_) => "release",
        Wire::CreateVariable(_) => "create_variable",
        Wire::ReadVariable(_) => "read_variable",
        Wire::AssignVariable(_) => "assign_variable",
        Wire::ScatterVariable(_) => "scatter_variable",
        Wire::OpenTape(_) => "open_tape",
        Wire::WatchTape(_) => "watch_tape",
        Wire::StopTape(_) => "stop_tape",
        Wire::ResumeTape(_) => "resume_tape",
        Wire::ResetTape(_) => "reset_tape",
        Wire::CloseTape(_) => "close_tape",
        Wire::ListWatchedVariables(_) => "list_watched_variables",
        Wire::ComputeGradient(_) => "compute_gradient",
        Wire::ComputeJacobian(_) => "compute_jacobian",
        Wire::ComputeBatchJacobian(_) => "compute_batch_jacobian",
        Wire::OpenAccumulator(_) => "open_accumulator",
        Wire::ReadTangent(_) => "read_tangent",
        Wire::CreatePlaceholders(_) => "create_placeholders",
        Wire::RecordCustomGradient(_) => "record_custom_gradient",
        Wire::DefineFunction(_) => "define_function",
        Wire::FinishFunction(_) => "finish_function",
        Wire::CallFunction(_) => "call_function",
        Wire::RunLoop(_) => "run_loop",
        Wire::Branch(_) => "branch",
        Wire::WhileLoop(_) => "while_loop",
        Wire::Scan(_) => "scan",
        Wire::ExplainFunction(_) => "explain_function",
        Wire::Explain(_) => "explain",
        Wire::RestoreCheckpoint(_) => "restore_checkpoint",
        Wire::CreateOptimizer(_) => "create_optimizer",
        Wire::ApplyOptimizer(_) => "apply_optimizer",
        Wire::SetOptimizer(_) => "set_optimizer",
        Wire::ReadOptimizer(_) => "read_optimizer",
        Wire::CreateGenerator(_) => "create_generator",
        Wire::NextGeneratorState(_) => "next_generator_state",
        Wire::Fetch(_) => "fetch",
        Wire::Describe(_) => "describe",
        Wire::Sync(_) => "sync",
    }
}
