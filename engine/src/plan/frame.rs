//! Frames: plans whose values stay in place, for running one plan over and over.
//!
//! Small tensors are most of the cost of a short step: for ten elements, making a tensor takes longer than computing it. In
//! a frame small values are in registers (`kernels::registers`) that every run writes again; elementwise
//! ops and sums run straight from there to there, and what a run leaves for the next is copied. What gives the same in every
//! run is done in the first only (`layout`). Whatever is larger, or has no loop over lines, runs as in [`Plan::run`].
//!
//! Invariant: a run that fails leaves what the runs before it carried on.

mod layout;

use std::sync::Arc;

use smallvec::SmallVec;

use self::layout::Layout;
use super::{Plan, missing, spares::Spares};
use crate::{
    array::Tensor,
    attrs::Attrs,
    compute,
    error::Error,
    kernels::{
        block::lanes_of,
        cursor::Cursor,
        registers::{Home, Operands, Registers},
    },
    ledger::{Charge, Ledger},
    op::{BlockKernel, Lanes, Output, Place},
};

/// About how long a step of a plan takes beside its arithmetic, in nanoseconds.
const STEP: u64 = 20;

/// The values of a plan between its runs.
#[derive(Debug)]
pub struct Frame {
    values: Values,
    /// What gives the same in every run, and whether it has been done.
    first: Vec<Way>,
    begun: bool,
    /// What each run does.
    each: Vec<Way>,
    carries: Vec<Carry>,
    /// The inputs that change, so that they may be set without doing the first again.
    fed: Vec<usize>,
    /// The inputs that were never set.
    unset: Vec<usize>,
    /// Where each result is after a run.
    places: Vec<usize>,
    /// The results that must be true.
    guards: Vec<usize>,
    _charge: Charge,
}

/// The values of a plan's slots.
#[derive(Debug)]
struct Values {
    registers: Registers,
    /// Where small values are.
    homes: Vec<Option<Home>>,
    /// The others, as long as they are needed.
    tensors: Vec<Option<Tensor>>,
    /// Memory of those that died in this run. It is here since making and dropping it would be felt in a short run.
    spares: Spares,
}

/// How something is computed.
#[derive(Debug)]
enum Way {
    /// An elementwise op in registers.
    Apply(BlockKernel, Attrs, Operands),
    /// The elements of a value that broadcasts.
    Spread(Home, Home, Box<Cursor>),
    /// Sums, or means, of rows of so many elements.
    Rows { from: Home, into: Home, count: usize, mean: bool },
    /// The same elements in another shape.
    Same(Home, Home),
    /// A step on tensors, and the values that it computed for the last time.
    General { step: usize, dead: SmallVec<[usize; 4]> },
}

/// What a run leaves for the next, by slots.
#[derive(Clone, Copy, Debug)]
struct Carry {
    from: usize,
    into: usize,
    /// Whether nobody else wants it.
    moves: bool,
}

impl Frame {
    /// A frame in which each pair of a result (by its number) and an input (by its slot) is carried from run to run, and
    /// some inputs are set anew between runs. A run counts only if some results (by their numbers) are true. Nothing, if
    /// results and inputs are entangled.
    ///
    /// # Errors
    ///
    /// The registers are paid for by the ledger.
    pub fn new(
        plan: &Plan,
        ledger: &Arc<Ledger>,
        carried: &[(usize, usize)],
        fed: &[usize],
        guards: &[usize],
    ) -> Result<Option<Self>, Error> {
        let Some((mut carries, places)) = carries(plan, carried) else { return Ok(None) };
        let changes = |slot| carries.iter().any(|carry| carry.into == slot) || fed.contains(&slot);
        let mut layout = Layout::new(plan, changes)?;
        for &Carry { from, into, moves } in &carries {
            if moves && guards.is_empty() {
                layout.carry_at_once(from, into);
            }
        }
        let charge = ledger.reserve(layout.bytes())?;
        let (values, first, each) = layout.build()?;
        let arrives = |home: Option<Home>, into| home.is_some() && home == values.homes[into];
        carries.retain(|carry| !arrives(values.homes[carry.from], carry.into));
        Ok(Some(Self {
            values,
            first,
            begun: false,
            each,
            carries,
            fed: fed.iter().copied().chain(carried.iter().map(|&(_, into)| into)).collect(),
            unset: plan.inputs.clone(),
            places,
            guards: guards.to_vec(),
            _charge: charge,
        }))
    }

    /// Sets an input.
    pub fn set(&mut self, plan: &Plan, slot: usize, tensor: &Tensor) -> Result<(), Error> {
        if plan.avals.get(slot).is_none_or(|aval| tensor.aval() != *aval) {
            return Err(Error::bug("a frame is given what it is not made for"));
        }
        self.values.set(slot, tensor.clone())?;
        self.note_set(slot);
        Ok(())
    }

    /// Sets a scalar input to a number.
    pub(crate) fn set_number(&mut self, slot: usize, value: f64) -> Result<(), Error> {
        self.values.registers.write_number(self.values.home(slot)?, value)?;
        self.note_set(slot);
        Ok(())
    }

    /// Sets the elements of a small input.
    pub(crate) fn set_elements(&mut self, slot: usize, elements: Lanes) -> Result<(), Error> {
        self.values.registers.write(self.values.home(slot)?, elements)?;
        self.note_set(slot);
        Ok(())
    }

    fn note_set(&mut self, slot: usize) {
        self.unset.retain(|&unset| unset != slot);
        self.begun &= self.fed.contains(&slot);
    }

    /// Runs the plan, and carries on what is to be carried. `false`, if the run does not count: nothing is carried then.
    pub fn run(&mut self, plan: &Plan, ledger: &Arc<Ledger>) -> Result<bool, Error> {
        if !self.unset.is_empty() {
            return Err(missing());
        }
        let Self { values, first, begun, each, .. } = self;
        if !*begun {
            run(first, plan, ledger, values)?;
            *begun = true;
        }
        // Looked at here and not handed on by `run`: what copies it would wait for the byte that was just written.
        let done = run(each, plan, ledger, values);
        values.spares.clear();
        done?;
        for i in 0..self.guards.len() {
            if !self.is_true(self.guards[i])? {
                return Ok(false);
            }
        }
        let Self { values, carries, .. } = self;
        carries.iter().try_for_each(|carry| values.carry(*carry))?;
        Ok(true)
    }

    /// A result of the last run; if it is carried, that of the last run that did not fail, or what the frame began with.
    pub fn result(&self, plan: &Plan, ledger: &Arc<Ledger>, i: usize) -> Result<Tensor, Error> {
        let (aval, slot) = (&plan.avals[plan.wanted[i]], self.places[i]);
        let Some(home) = self.values.homes[slot] else {
            return self.values.tensors[slot].clone().ok_or_else(missing);
        };
        let array = self.values.registers.array(home, &aval.shape)?;
        Ok(Tensor::paid(array, ledger.reserve(aval.bytes())?))
    }

    /// Whether a result of the last run is true.
    pub fn is_true(&self, i: usize) -> Result<bool, Error> {
        let home = self.values.homes[self.places[i]].ok_or_else(missing)?;
        Ok(matches!(self.values.registers.read(home)?, Lanes::Bool([true])))
    }
}

/// About how long a run of a plan takes, in nanoseconds.
pub fn estimate(plan: &Plan) -> u64 {
    let flops: u64 = plan.steps.iter().map(|step| step.cost.flops).sum();
    (plan.steps.len() as u64).saturating_mul(STEP).saturating_add(flops)
}

/// What is carried, and where results are afterwards. Nothing, if what a run carries into an input is another input that it
/// changes too, whose place it would have to take before that is read.
fn carries(plan: &Plan, carried: &[(usize, usize)]) -> Option<(Vec<Carry>, Vec<usize>)> {
    let mut places = plan.wanted.clone();
    let written = |slot: &usize| plan.steps.iter().any(|step| step.outputs.contains(slot));
    let mut carries = Vec::new();
    for &(result, into) in carried {
        let from = plan.wanted[result];
        if from == into {
            continue;
        }
        if carried.iter().any(|&(_, other)| other == from) {
            return None;
        }
        let alone = plan.wanted.iter().filter(|&&slot| slot == from).count() == 1;
        let moves = alone && written(&from);
        // There it is before the first run, too, and after one that failed.
        places[result] = into;
        carries.push(Carry { from, into, moves });
    }
    // A result that is an input would be what the next run begins with.
    let changes = |slot: &usize| carries.iter().any(|carry| carry.into == *slot);
    (!plan.wanted.iter().any(changes)).then_some((carries, places))
}

impl Values {
    fn home(&self, slot: usize) -> Result<Home, Error> {
        self.homes.get(slot).copied().flatten().ok_or_else(missing)
    }

    fn set(&mut self, slot: usize, tensor: Tensor) -> Result<(), Error> {
        match self.homes[slot] {
            Some(home) => self.registers.write(home, lanes_of(tensor.array())?)?,
            None => self.tensors[slot] = Some(tensor),
        }
        Ok(())
    }

    fn carry(&mut self, Carry { from, into, moves }: Carry) -> Result<(), Error> {
        match (self.homes[from], self.homes[into]) {
            (Some(from), Some(into)) => self.registers.copy(from, into)?,
            (None, None) if moves => self.tensors[into] = self.tensors[from].take(),
            (None, None) => self.tensors[into] = self.tensors[from].clone(),
            (Some(_), None) | (None, Some(_)) => return Err(missing()),
        }
        Ok(())
    }

    /// Runs a step on tensors, as [`Plan::run`] does.
    #[inline(never)]
    fn general(&mut self, plan: &Plan, step: usize, ledger: &Arc<Ledger>) -> Result<(), Error> {
        let step = plan.steps.get(step).ok_or_else(missing)?;
        let tensor = |&slot: &usize| match self.homes[slot] {
            Some(home) => {
                let array = self.registers.array(home, &plan.avals[slot].shape)?;
                Ok(Tensor::unpaid(array))
            }
            None => self.tensors[slot].clone().ok_or_else(missing),
        };
        let inputs: SmallVec<[Tensor; 4]> =
            step.inputs.iter().map(tensor).collect::<Result<_, Error>>()?;
        let inputs: SmallVec<[&Tensor; 4]> = inputs.iter().collect();
        let outputs = step.run(ledger, &plan.avals, &inputs, &mut self.spares)?;
        step.outputs.iter().zip(outputs).try_for_each(|(&slot, tensor)| self.set(slot, tensor))
    }
}

/// One after the other.
fn run(
    ways: &mut [Way],
    plan: &Plan,
    ledger: &Arc<Ledger>,
    values: &mut Values,
) -> Result<(), Error> {
    for way in ways {
        if let Way::Apply(kernel, attrs, operands) = way {
            let place = Place::Lines(&mut values.registers, operands);
            kernel(attrs, &[], &mut Output(place))?;
        } else {
            way.run(plan, ledger, values)?;
        }
    }
    Ok(())
}

impl Way {
    fn run(&mut self, plan: &Plan, ledger: &Arc<Ledger>, values: &mut Values) -> Result<(), Error> {
        let registers = &mut values.registers;
        match self {
            Self::Apply(kernel, attrs, operands) => {
                kernel(attrs, &[], &mut Output(Place::Lines(registers, operands)))
            }
            Self::Spread(from, into, cursor) => registers.spread(*from, *into, cursor),
            &mut Self::Rows { from, into, count, mean } => {
                registers.sum_rows(from, into, count, mean)
            }
            Self::Same(from, into) => registers.copy(*from, *into),
            Self::General { step, dead } => {
                compute::check()?;
                values.general(plan, *step, ledger)?;
                let Values { tensors, spares, .. } = values;
                let dead = dead.iter().filter_map(|&slot| tensors[slot].take());
                dead.for_each(|tensor| spares.keep(tensor));
                Ok(())
            }
        }
    }
}
