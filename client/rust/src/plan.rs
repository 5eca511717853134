//! How the server computes a function.

use std::fmt;

use gradtape_proto::v1::{self as proto, command::Kind, reply};

use crate::{Function, Result, Spec, core::unexpected};

/// The plan of a function: what was rewritten and joined, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The steps, at most 1,024.
    pub steps: Vec<PlanStep>,
    /// How many in the middle are left out.
    pub elided: u64,
    /// Most bytes that a call takes at one time.
    pub peak_bytes: u64,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanStep {
    /// Names of its ops. Several are elementwise ones that go through memory together, and then the reductions that read
    /// these on the way.
    pub ops: Vec<String>,
    /// What it reads.
    pub inputs: Vec<Spec>,
    /// What it writes.
    pub outputs: Vec<Spec>,
    /// About how many arithmetic operations it takes.
    pub flops: u64,
    /// Bytes that it needs for itself while it runs.
    pub workspace_bytes: u64,
}

impl Function {
    /// Asks how the function is computed when no tape of outside hears of it. Printed, it is a line for each step.
    pub async fn explain(&self) -> Result<Plan> {
        let kind = Kind::ExplainFunction(proto::ExplainFunction { function: self.id() });
        let command = proto::Command { kind: Some(kind), ..Default::default() };
        let reply = self.session().command(&command).await?;
        match reply.result {
            Some(reply::Result::Plan(plan)) => plan.try_into(),
            _ => Err(unexpected(&reply)),
        }
    }
}

impl TryFrom<proto::PlanReply> for Plan {
    type Error = crate::Error;

    fn try_from(reply: proto::PlanReply) -> Result<Self> {
        let specs = |specs: Vec<proto::TensorSpec>| {
            specs.into_iter().map(Spec::try_from).collect::<Result<Vec<_>>>()
        };
        let step = |step: proto::PlanStep| {
            Ok(PlanStep {
                ops: step.ops,
                inputs: specs(step.inputs)?,
                outputs: specs(step.outputs)?,
                flops: step.flops,
                workspace_bytes: step.workspace_bytes,
            })
        };
        let steps = reply.steps.into_iter().map(step).collect::<Result<_>>()?;
        Ok(Self { steps, elided: reply.elided, peak_bytes: reply.peak_bytes })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.steps.len() as u64 + self.elided;
        write!(f, "{total} steps, {} bytes at the peak", self.peak_bytes)?;
        for (i, PlanStep { ops, inputs, outputs, flops, .. }) in self.steps.iter().enumerate() {
            if self.elided > 0 && i == self.steps.len() / 2 {
                write!(f, "\n      ... {} steps", self.elided)?;
            }
            let shapes = |specs: &[Spec]| {
                let each = specs.iter().map(|spec| format!("{:?}{:?}", spec.dtype, spec.shape));
                each.collect::<Vec<_>>().join(", ")
            };
            let (inputs, outputs) = (shapes(inputs), shapes(outputs));
            write!(f, "\n{i:5} {}({inputs}) -> {outputs}, {flops} flops", ops.join(", "))?;
        }
        Ok(())
    }
}
