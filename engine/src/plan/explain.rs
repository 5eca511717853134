//! What a plan does, in words.

use std::fmt;

use super::{Plan, Step, Work};
use crate::{aval::Aval, op::Cost};

/// A step of a plan, as clients see it.
#[derive(Clone, Debug, PartialEq)]
pub struct ExplainedStep {
    /// Names of its ops, in order. Several are elementwise ones that go through memory together, and then
    /// the reductions that read these on the way.
    pub ops: Vec<&'static str>,
    /// What it reads.
    pub inputs: Vec<Aval>,
    /// What it writes.
    pub outputs: Vec<Aval>,
    /// What it costs beside memory for the outputs.
    pub cost: Cost,
}

impl Plan {
    /// What each step does, in order.
    pub fn explain(&self) -> impl ExactSizeIterator<Item = ExplainedStep> + '_ {
        let avals = |slots: &[usize]| slots.iter().map(|&slot| self.avals[slot].clone()).collect();
        self.steps.iter().map(move |step| ExplainedStep {
            ops: match &step.work {
                Work::Op(one) => vec![one.0.op.name],
                Work::Chain(_, names) => names.clone(),
            },
            inputs: avals(&step.inputs),
            outputs: avals(&step.outputs),
            cost: step.cost,
        })
    }
}

/// A line for each step: what it runs, on what, how many elements it reads and writes, and what that costs.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (inputs, constants) = (self.inputs.len(), self.constants.len());
        writeln!(
            f,
            "{} steps, {inputs} inputs, {constants} constants, {} bytes at the peak",
            self.steps.len(),
            self.peak
        )?;
        for (i, step) in self.steps.iter().enumerate() {
            let bytes = |slots: &[usize]| -> u64 {
                slots.iter().map(|&slot| self.avals[slot].bytes()).sum()
            };
            writeln!(
                f,
                "{i:4}  {step}: {} flops, reads {} bytes, writes {}, workspace {}",
                step.cost.flops,
                bytes(&step.inputs),
                bytes(&step.outputs),
                step.cost.workspace
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.work {
            Work::Op(one) => {
                let (application, inputs, outputs) = &**one;
                write!(f, "{}(", application.op.name)?;
                for (i, input) in inputs.iter().enumerate() {
                    write!(f, "{}{input}", if i == 0 { "" } else { ", " })?;
                }
                write!(f, ")")?;
                outputs.iter().try_for_each(|output| write!(f, " {output}"))
            }
            Work::Chain(chain, names) => {
                write!(f, "chain of {} over {}", names.join(", "), chain.shape)?;
                chain.reductions.iter().try_for_each(|fold| write!(f, " {}", fold.result))
            }
        }
    }
}
