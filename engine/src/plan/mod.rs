//! Plans: programs made ready to run often and fast.
//!
//! A program says what is to be computed; a plan says how. [`Plan::compile`] rewrites the program (`rewrite`), joins
//! elementwise ops, and the reductions that read them, into chains that go through memory once (`fuse`), decides when each
//! value dies, and prices the whole. [`Plan::run`] then takes inputs and gives results: nothing is looked up, inferred or
//! priced again. A plan that is run over and over has a [`frame`], in which small values stay where they are.
//!
//! Invariant: a plan gives the same bits as its program run op by op, whichever passes are on. Each can be turned off.

pub mod explain;
pub mod frame;
mod fuse;
mod rewrite;
mod spares;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use smallvec::SmallVec;
use spares::Spares;

use crate::{
    array::{self, Array, Tensor},
    aval::{Aval, Avals},
    compute,
    error::Error,
    exec,
    graph::{Application, Program},
    kernels::chain::Chain,
    ledger::{Charge, Ledger},
    op::{Call, Cost, Kernel},
};

/// Which rewritings are applied. None of them changes a bit of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches that have nothing to do with each other"
)]
pub struct Passes {
    /// Equal applications of equal inputs become one.
    pub common: bool,
    /// Small values that depend on nothing are computed once, when the plan is made.
    pub constants: bool,
    /// What changes nothing is left out: multiplication by one, conversions to the same dtype, and the like.
    pub algebra: bool,
    /// Elementwise ops of one shape become one pass over memory, and so do the reductions that read them.
    pub fusion: bool,
}

impl Passes {
    /// All of them.
    pub const ALL: Self = Self { common: true, constants: true, algebra: true, fusion: true };
    /// None of them: only what nothing needs is left out.
    pub const NONE: Self = Self { common: false, constants: false, algebra: false, fusion: false };
}

/// A program made ready to run.
#[derive(Debug)]
pub struct Plan {
    /// What is known of each slot of the program.
    avals: Vec<Aval>,
    /// The slots that must be given.
    inputs: Vec<usize>,
    /// Values that are the same in each run.
    constants: Vec<(usize, Tensor)>,
    steps: Vec<Step>,
    /// Where each result is.
    wanted: Vec<usize>,
    peak: u64,
}

/// One step of a plan, and the slots whose values die with it.
#[derive(Debug)]
struct Step {
    work: Work,
    inputs: SmallVec<[usize; 4]>,
    outputs: SmallVec<[usize; 2]>,
    dead: SmallVec<[usize; 4]>,
    cost: Cost,
    /// Bytes that may be held beside all values while it runs, without more being held than at the peak.
    room: u64,
}

/// What a step does.
#[derive(Debug)]
enum Work {
    /// One op, and what its inputs and outputs are.
    Op(Box<(Application, Avals, Avals)>),
    /// A chain of elementwise ops and of reductions that read these, and their names.
    Chain(Chain, Vec<&'static str>),
}

impl Plan {
    /// Makes a plan of what a program needs for the given slots. The slots that neither the program fills nor an operand with
    /// elements are its inputs.
    ///
    /// # Errors
    ///
    /// Constants are computed here, within what the ledger has.
    pub fn compile(
        ledger: &Arc<Ledger>,
        program: &Program,
        wanted: &[usize],
        passes: Passes,
    ) -> Result<Self, Error> {
        let rewritten = rewrite::rewrite(ledger, program, wanted, passes);
        let rewrite::Rewritten { avals, applications, constants, wanted } = rewritten;
        let mut steps = fuse::steps(&avals, &applications, &wanted, passes.fusion)?;
        let peak = lifetimes(&avals, &mut steps, &wanted);
        let (mut known, mut read) = (vec![false; avals.len()], vec![false; avals.len()]);
        for &(slot, _) in &constants {
            known[slot] = true;
        }
        let mut inputs = Vec::new();
        let mut reads = |slots: &[usize], known: &mut [bool]| {
            for &slot in slots {
                read[slot] = true;
                if !std::mem::replace(&mut known[slot], true) {
                    inputs.push(slot);
                }
            }
        };
        for step in &steps {
            reads(&step.inputs, &mut known);
            step.outputs.iter().for_each(|&slot| known[slot] = true);
        }
        reads(&wanted, &mut known);
        let constants = constants.into_iter().filter(|&(slot, _)| read[slot]).collect();
        Ok(Self { avals, inputs, constants, steps, wanted, peak })
    }

    /// The slots whose values each run must be given.
    pub fn inputs(&self) -> &[usize] {
        &self.inputs
    }

    /// Most bytes that values and workspaces of a run take at one time, without the inputs.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Runs the plan. What is given beyond its inputs is ignored.
    ///
    /// # Errors
    ///
    /// Nothing runs if the memory at the peak cannot be had.
    pub fn run(
        &self,
        ledger: &Arc<Ledger>,
        given: impl IntoIterator<Item = (usize, Tensor)>,
    ) -> Result<Vec<Tensor>, Error> {
        self.run_watched(ledger, given, |_| {})
    }

    /// The same, and tells of each step when it is done: what profilers take times with.
    ///
    /// # Errors
    ///
    /// As [`Plan::run`].
    pub fn run_watched(
        &self,
        ledger: &Arc<Ledger>,
        given: impl IntoIterator<Item = (usize, Tensor)>,
        done: impl FnMut(usize),
    ) -> Result<Vec<Tensor>, Error> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.avals.len()];
        for (slot, tensor) in given {
            if self.avals.get(slot).is_none_or(|aval| tensor.aval() != *aval) {
                return Err(Error::bug("a plan is given another value than it was made for"));
            }
            values[slot] = Some(tensor);
        }
        for (slot, tensor) in &self.constants {
            values[*slot] = Some(tensor.clone());
        }
        self.run_from(ledger, values, done)
    }

    /// Runs a plan without inputs for the only time: constants are given back after their last use.
    pub(crate) fn run_once(mut self, ledger: &Arc<Ledger>) -> Result<Vec<Tensor>, Error> {
        let mut values: Vec<Option<Tensor>> = vec![None; self.avals.len()];
        for (slot, tensor) in std::mem::take(&mut self.constants) {
            values[slot] = Some(tensor);
        }
        self.run_from(ledger, values, |_| {})
    }

    fn run_from(
        &self,
        ledger: &Arc<Ledger>,
        mut values: Vec<Option<Tensor>>,
        mut done: impl FnMut(usize),
    ) -> Result<Vec<Tensor>, Error> {
        ledger.admit(self.peak)?;
        let mut spares = Spares::default();
        for (i, step) in self.steps.iter().enumerate() {
            compute::check()?;
            let outputs = {
                let read = |&slot: &usize| values[slot].as_ref().ok_or_else(missing);
                let inputs: SmallVec<[&Tensor; 4]> =
                    step.inputs.iter().map(read).collect::<Result<_, _>>()?;
                step.run(ledger, &self.avals, &inputs, &mut spares)?
            };
            for (&slot, tensor) in step.outputs.iter().zip(outputs) {
                values[slot] = Some(tensor);
            }
            for &slot in &step.dead {
                values[slot].take().into_iter().for_each(|tensor| spares.keep(tensor));
            }
            done(i);
        }
        let result = |&slot: &usize| values[slot].clone().ok_or_else(missing);
        self.wanted.iter().map(result).collect()
    }
}

fn missing() -> Error {
    Error::bug("a plan lacks a value")
}

impl Step {
    fn run(
        &self,
        ledger: &Arc<Ledger>,
        avals: &[Aval],
        inputs: &[&Tensor],
        spares: &mut Spares,
    ) -> Result<SmallVec<[Tensor; 2]>, Error> {
        if let Work::Op(one) = &self.work
            && let Kernel::Alias = one.0.op.kernel
        {
            return Ok(SmallVec::from_iter([inputs[0].reshaped(&one.2[0].shape)?]));
        }
        if let Work::Op(one) = &self.work
            && let Kernel::Control(run) = one.0.op.kernel
        {
            let (Application { op, attrs, .. }, avals, _) = &**one;
            // What a body holds is not known here.
            *spares = Spares::default();
            let results = run(&Call { op, attrs, inputs: avals }, inputs, ledger)?;
            return Ok(results.into_iter().collect());
        }
        let (mut charges, offered) = spares.take(self, avals);
        let workspace = ledger.reserve(self.cost.workspace)?;
        let charges: SmallVec<[Charge; 2]> = self
            .outputs
            .iter()
            .zip(&mut charges)
            .map(|(&slot, charge)| {
                charge.take().map_or_else(|| ledger.reserve(avals[slot].bytes()), Ok)
            })
            .collect::<Result<_, _>>()?;
        let arrays: SmallVec<[&Array; 4]> = inputs.iter().map(|tensor| tensor.array()).collect();
        let results: SmallVec<[Array; 2]> = array::offering(offered, || match &self.work {
            Work::Op(one) => {
                let (Application { op, attrs, .. }, inputs, outputs) = &**one;
                let results = exec::compute(&Call { op, attrs, inputs }, outputs, &arrays)?;
                Ok(results.into_iter().collect())
            }
            Work::Chain(chain, _) => chain.run(&arrays),
        })?;
        drop(workspace);
        let paid = results.into_iter().zip(charges);
        Ok(paid.map(|(array, charge)| Tensor::paid(array, charge)).collect())
    }
}

/// Notes at which step each value dies. Gives the most bytes that are held at one time.
fn lifetimes(avals: &[Aval], steps: &mut [Step], wanted: &[usize]) -> u64 {
    let (mut live, mut own) = (vec![false; avals.len()], vec![false; avals.len()]);
    for &slot in wanted {
        live[slot] = true;
    }
    for step in steps.iter_mut().rev() {
        for &slot in step.outputs.iter().chain(&step.inputs) {
            if !std::mem::replace(&mut live[slot], true) {
                step.dead.push(slot);
            }
        }
    }
    let (mut now, mut peak) = (0_u64, 0_u64);
    for step in steps.iter_mut() {
        for &slot in &step.outputs {
            own[slot] = true;
            now = now.saturating_add(avals[slot].bytes());
        }
        step.room = now.saturating_add(step.cost.workspace);
        peak = peak.max(step.room);
        for &slot in step.dead.iter().filter(|&&slot| own[slot]) {
            now = now.saturating_sub(avals[slot].bytes());
        }
    }
    for step in steps {
        step.room = peak - step.room;
    }
    peak
}
