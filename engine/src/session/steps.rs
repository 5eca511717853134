//! Optimizer steps that are like those before: what one of them wrote is made ready once, and runs again with other numbers.
//!
//! A step is written anew each time, since a schedule or a count of steps may change what it does. If it differs from a known
//! one in nothing but scalar constants, those that were the same so far stay part of the plan, and the others are its inputs.

use std::sync::Arc;

use hashbrown::HashSet;
use smallvec::smallvec;

use super::optimizing::{StepSlots, Unheard};
use crate::{
    aval::Shape,
    dtype::DType,
    error::Error,
    exec::{self, Prepared},
    graph::{Application, Program, Value, ValueId},
    ledger::{Charge, Ledger},
    ops::{FULL, Full},
};

/// Steps of one optimizer that are known. One that accumulates gradients takes two in turn.
const MOST: usize = 2;

/// What an op and a slot of a step cost to keep, in bytes.
const PART_BYTES: u64 = 512;

/// The program of a step, and where it leaves each variable and its state.
pub(super) type Written = (Program, Vec<StepSlots>);

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
    /// Its scalar constants.
    numbers: Vec<(DType, f64)>,
    /// It made ready, when it was taken for the second time.
    ready: Option<Ready>,
    _charge: Charge,
}

#[derive(Debug)]
struct Ready {
    prepared: Prepared,
    /// Which of the constants are inputs, and of which slot.
    inputs: Vec<(usize, usize)>,
}

impl Steps {
    /// Takes a step. Gives what it leaves, in the order of `wanted`.
    pub(super) fn take(
        &mut self,
        ledger: &Arc<Ledger>,
        written: Written,
        wanted: &[usize],
    ) -> Result<Vec<Value>, Error> {
        let alike = |(i, known): (usize, &Known)| Some((i, numbers(&written, &known.written)?));
        let Some((i, numbers)) = self.known.iter().enumerate().rev().find_map(alike) else {
            self.remember(ledger, &written);
            return exec::run_program(ledger, written.0, wanted, &mut Unheard);
        };
        let mut known = self.known.remove(i);
        known.make_ready(&numbers, wanted);
        let result = known.run(ledger, written.0, &numbers);
        self.known.push(known);
        result
    }

    /// Remembers a step, if there is memory for it.
    fn remember(&mut self, ledger: &Arc<Ledger>, (program, slots): &Written) {
        let parts = program.applications.len() + program.avals.len();
        let Ok(charge) = ledger.reserve((parts as u64).saturating_mul(PART_BYTES)) else { return };
        let mut program = program.clone();
        program.operands.iter_mut().for_each(|(_, operand)| operand.tensor = None);
        let numbers = program.applications.iter().filter_map(|one| number(&program, one)).collect();
        if self.known.len() == MOST {
            self.known.remove(0);
        }
        let written = (program, slots.clone());
        self.known.push(Known { written, numbers, ready: None, _charge: charge });
    }
}

impl Known {
    /// Makes it ready, so that constants which ever changed are inputs.
    fn make_ready(&mut self, numbers: &[(DType, f64)], wanted: &[usize]) {
        let inputs = self.ready.as_ref().map(|ready| &*ready.inputs);
        let is_input = |i: usize| inputs.is_some_and(|inputs| inputs.iter().any(|&(j, _)| i == j));
        let differs = |i: usize| numbers[i].1.to_bits() != self.numbers[i].1.to_bits();
        if inputs.is_some() && (0..numbers.len()).all(|i| is_input(i) || !differs(i)) {
            return;
        }
        let mut program = self.written.0.clone();
        program.operands.clear();
        let constants = program.applications.iter().filter(|one| number(&program, one).is_some());
        let inputs: Vec<(usize, usize)> = constants
            .enumerate()
            .filter(|&(i, _)| is_input(i) || differs(i))
            .map(|(i, one)| (i, one.outputs[0]))
            .collect();
        let slots: HashSet<usize> = inputs.iter().map(|&(_, slot)| slot).collect();
        program.applications.retain(|one| !slots.contains(&one.outputs[0]));
        self.ready = Some(Ready { prepared: Prepared::new(program, wanted.to_vec()), inputs });
    }

    fn run(
        &self,
        ledger: &Arc<Ledger>,
        program: Program,
        numbers: &[(DType, f64)],
    ) -> Result<Vec<Value>, Error> {
        let ready = self.ready.as_ref().ok_or_else(|| Error::bug("a step is not ready"))?;
        let mut inputs = Vec::with_capacity(program.operands.len() + ready.inputs.len());
        for &(i, slot) in &ready.inputs {
            let (dtype, value) = numbers[i];
            let attrs = Full { shape: smallvec![], dtype, value }.write();
            let tensor = exec::run(ledger, &FULL, &attrs, &[])?.remove(0);
            inputs.push((slot, Value { id: ValueId(0), tensor }));
        }
        for (slot, operand) in program.operands {
            let tensor = operand.tensor.ok_or_else(|| Error::bug("a step lacks a tensor"))?;
            inputs.push((slot, Value { id: operand.id, tensor }));
        }
        ready.prepared.run(ledger, inputs, &mut Unheard)
    }
}

/// The number that an application of an optimizer's program makes, if it is one.
pub(super) fn number(program: &Program, application: &Application) -> Option<(DType, f64)> {
    let aval = &program.avals[application.outputs[0]];
    let scalar = std::ptr::eq(application.op, &raw const FULL) && aval.shape == Shape::default();
    scalar.then(|| (aval.dtype, Full::read(&application.attrs).value))
}

/// Whether two steps differ in nothing but their numbers. Gives those of the first.
pub(super) fn numbers(
    (program, left): &Written,
    (like, also_left): &Written,
) -> Option<Vec<(DType, f64)>> {
    let slots = |program: &Program| -> Vec<usize> {
        program.operands.iter().map(|&(slot, _)| slot).collect()
    };
    if program.avals != like.avals
        || program.applications.len() != like.applications.len()
        || slots(program) != slots(like)
        || left != also_left
    {
        return None;
    }
    let mut numbers = Vec::new();
    for (one, other) in program.applications.iter().zip(&like.applications) {
        let same = std::ptr::eq(one.op, other.op)
            && one.inputs == other.inputs
            && one.outputs == other.outputs;
        match number(program, one) {
            _ if !same => return None,
            Some(found) => numbers.push(found),
            None if one.attrs.same_bits(&other.attrs) => {}
            None => return None,
        }
    }
    Some(numbers)
}
