//! Optimizer steps that are like those before: what one of them wrote is made ready once, and runs again with other numbers.
//!
//! Of the scalar constants of a step, those that were the same so far stay part of the plan, and the others are its inputs.

use std::sync::Arc;

use hashbrown::HashSet;
use smallvec::smallvec;

use super::{
    optimizing::{Checked, Unheard},
    written::{self, Numbers, Written},
};
use crate::{
    array::Tensor,
    error::Error,
    exec::{self, Prepared},
    graph::{Value, ValueId},
    ledger::{Charge, Ledger},
    ops::{FULL, Full},
    optimizers::Optimizer,
};

/// Steps of one optimizer that are known. One that accumulates gradients takes two in turn.
const MOST: usize = 2;

/// What an op and a slot of a step cost to keep, in bytes.
const PART_BYTES: u64 = 512;

/// The steps that an optimizer took.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// The one that was taken last at the end.
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    /// What was written, without its tensors.
    written: Written,
    /// Its numbers, when it was taken first.
    numbers: Numbers,
    /// It made ready, when it was taken for the second time.
    ready: Option<Ready>,
    _charge: Charge,
}

#[derive(Debug)]
struct Ready {
    prepared: Prepared,
    /// Which of the numbers are inputs, and of which slot.
    inputs: Vec<(usize, usize)>,
}

impl Steps {
    /// Takes a step. Gives what it leaves: for each variable its value, and then its state.
    pub(super) fn take<'t>(
        &mut self,
        ledger: &Arc<Ledger>,
        optimizer: &Optimizer,
        states: written::Known<'_, 't>,
        members: &'t [Checked],
    ) -> Result<Vec<Value>, Error> {
        for (i, known) in self.known.iter().enumerate().rev() {
            if let Some(operands) = known.written.serves(optimizer, states, members) {
                let numbers = known.written.numbers(optimizer);
                let operands: Vec<Tensor> = operands.into_iter().cloned().collect();
                return self.again(ledger, i, &numbers, operands);
            }
        }
        let written = Written::new(optimizer, states, members)?;
        let Some(i) = self.known.iter().rposition(|known| written.is_like(&known.written)) else {
            self.remember(ledger, &written, optimizer);
            let wanted: Vec<usize> = written.left.iter().flatten().copied().collect();
            return exec::run_program(ledger, written.program, &wanted, &mut Unheard);
        };
        let numbers = written.numbers(optimizer);
        let missing = || Error::bug("a step lacks a tensor");
        let operands = written.program.operands.iter();
        let operands = operands.map(|(_, operand)| operand.tensor.clone().ok_or_else(missing));
        let operands = operands.collect::<Result<_, _>>()?;
        // Its formulas are those of the hyperparameters as they are now.
        self.known[i].written = written.without_tensors();
        self.again(ledger, i, &numbers, operands)
    }

    /// Takes a step that is known.
    fn again(
        &mut self,
        ledger: &Arc<Ledger>,
        i: usize,
        numbers: &Numbers,
        operands: Vec<Tensor>,
    ) -> Result<Vec<Value>, Error> {
        self.known[i..].rotate_left(1);
        let known = self.known.last_mut().ok_or_else(|| Error::bug("a step is not known"))?;
        known.make_ready(numbers);
        known.run(ledger, numbers, operands)
    }

    /// Remembers a step, if there is memory for it.
    fn remember(&mut self, ledger: &Arc<Ledger>, written: &Written, optimizer: &Optimizer) {
        let parts = written.program.applications.len() + written.program.avals.len();
        let Ok(charge) = ledger.reserve((parts as u64).saturating_mul(PART_BYTES)) else { return };
        if self.known.len() == MOST {
            self.known.remove(0);
        }
        let numbers = written.numbers(optimizer);
        let written = written.clone().without_tensors();
        self.known.push(Known { written, numbers, ready: None, _charge: charge });
    }
}

impl Known {
    /// Makes it ready, so that constants which ever changed are inputs.
    fn make_ready(&mut self, numbers: &Numbers) {
        let Written { program, left, scalars, .. } = &self.written;
        let inputs = self.ready.as_ref().map(|ready| &*ready.inputs);
        let is_input = |i: usize| inputs.is_some_and(|inputs| inputs.iter().any(|&(j, _)| i == j));
        let differs = |i: usize| numbers[i].to_bits() != self.numbers[i].to_bits();
        if inputs.is_some() && (0..numbers.len()).all(|i| is_input(i) || !differs(i)) {
            return;
        }
        let mut program = program.clone();
        program.operands.clear();
        let inputs = scalars.iter().filter(|&&(_, i)| is_input(i) || differs(i));
        let inputs: Vec<(usize, usize)> = inputs.map(|&(slot, i)| (i, slot)).collect();
        let slots: HashSet<usize> = inputs.iter().map(|&(_, slot)| slot).collect();
        program.applications.retain(|one| !slots.contains(&one.outputs[0]));
        let wanted = left.iter().flatten().copied().collect();
        self.ready = Some(Ready { prepared: Prepared::new(program, wanted), inputs });
    }

    fn run(
        &self,
        ledger: &Arc<Ledger>,
        numbers: &Numbers,
        operands: Vec<Tensor>,
    ) -> Result<Vec<Value>, Error> {
        let ready = self.ready.as_ref().ok_or_else(|| Error::bug("a step is not ready"))?;
        let mut inputs = Vec::with_capacity(operands.len() + ready.inputs.len());
        let value = |tensor| Value { id: ValueId(0), tensor };
        for &(i, slot) in &ready.inputs {
            let (dtype, value) = (self.written.numbers[i].dtype, numbers[i]);
            let attrs = Full { shape: smallvec![], dtype, value }.write();
            let tensor = exec::run(ledger, &FULL, &attrs, &[])?.remove(0);
            inputs.push((slot, Value { id: ValueId(0), tensor }));
        }
        let slots = self.written.program.operands.iter().map(|&(slot, _)| slot);
        inputs.extend(slots.zip(operands.into_iter().map(value)));
        ready.prepared.run(ledger, inputs, &mut Unheard)
    }
}
