//! From the steps of a plan to what a frame does, and where its values are.
//!
//! Chains come apart: what they keep on the way is in registers like the values of small slots. What gives the same in every
//! run is put before everything else, and into registers that nothing else writes.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{Values, Way};
use crate::{
    aval::{Aval, Shape},
    dtype::DType,
    error::Error,
    kernels::{
        block::{BLOCK, lanes_of},
        chain::{Chain, Source},
        cursor::Cursor,
        reduce,
        registers::{Home, LINE, Operands, Registers},
    },
    op::Kernel,
    ops::{REDUCE_MEAN, REDUCE_SUM, Reduce},
    plan::{Plan, Step, Work, missing, spares::Spares},
};

/// What a frame consists of.
pub(super) struct Layout<'a> {
    plan: &'a Plan,
    /// How many lines of each dtype there are.
    lines: HashMap<DType, usize>,
    /// The values of the plan's slots, as far as they are known.
    slots: Vec<Slot>,
    /// Which slots steps fill.
    own: Vec<bool>,
    /// Registers for what is read in the same step only, and how many of each kind this step uses.
    scratch: HashMap<(DType, usize), (Vec<Home>, usize)>,
    first: Vec<Way>,
    each: Vec<Way>,
}

/// A value of a plan.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Where it is, if it is small.
    home: Option<Home>,
    /// Whether it is the same in every run.
    steady: bool,
}

/// A value in registers.
#[derive(Clone, Copy, Debug)]
struct Value {
    home: Home,
    steady: bool,
}

fn is_small(aval: &Aval) -> bool {
    aval.shape.elements() <= BLOCK && !aval.dtype.is_half()
}

impl<'a> Layout<'a> {
    /// The layout for a plan whose inputs change from run to run where it is said.
    pub(super) fn new(plan: &'a Plan, changes: impl Fn(usize) -> bool) -> Result<Self, Error> {
        let slots = plan.avals.len();
        let mut layout = Self {
            plan,
            lines: HashMap::new(),
            slots: vec![Slot { home: None, steady: true }; slots],
            own: vec![false; slots],
            scratch: HashMap::new(),
            first: Vec::new(),
            each: Vec::new(),
        };
        for &(slot, _) in &plan.constants {
            layout.settle(slot, true);
        }
        for &slot in &plan.inputs {
            layout.settle(slot, !changes(slot));
        }
        for (i, step) in plan.steps.iter().enumerate() {
            layout.scratch.values_mut().for_each(|(_, used)| *used = 0);
            step.outputs.iter().for_each(|&slot| layout.own[slot] = true);
            layout.step(i, step)?;
        }
        Ok(layout)
    }

    /// Lets the op that computes what is carried write it to where it is carried, if nobody reads or writes the two
    /// otherwise and nothing that is still to come can fail.
    pub(super) fn carry_at_once(&mut self, from: usize, into: usize) {
        let (Some(from), Some(into)) = (self.slots[from].home, self.slots[into].home) else {
            return;
        };
        // What is carried twice is in the place of an input already.
        if self.plan.inputs.iter().any(|&slot| self.slots[slot].home == Some(from)) {
            return;
        }
        let writes =
            |way: &Way| matches!(way, Way::Apply(.., operands) if operands.output() == from);
        let Some(last) = self.each.iter().rposition(writes) else { return };
        let later = &self.each[last + 1..];
        let alone = |way: &Way| match way {
            Way::Apply(.., operands) => !operands.reads(from) && !operands.reads(into),
            Way::Rows { from: read, .. } | Way::Spread(read, ..) | Way::Same(read, _) => {
                ![from, into].contains(read)
            }
            Way::General { .. } => false,
        };
        if !later.iter().all(alone) {
            return;
        }
        if let Way::Apply(.., operands) = &mut self.each[last] {
            operands.write_to(into);
        }
        for slot in &mut self.slots {
            if slot.home == Some(from) {
                slot.home = Some(into);
            }
        }
    }

    /// Bytes of the registers.
    pub(super) fn bytes(&self) -> u64 {
        self.lines.iter().map(|(dtype, &lines)| (dtype.size() * LINE * lines) as u64).sum()
    }

    /// The values, what is done in the first run only, and what is done in each.
    pub(super) fn build(self) -> Result<(Values, Vec<Way>, Vec<Way>), Error> {
        let mut registers = Registers::default();
        for (&dtype, &lines) in &self.lines {
            registers.reserve(dtype, lines)?;
        }
        let homes: Vec<Option<Home>> = self.slots.iter().map(|slot| slot.home).collect();
        let mut tensors = vec![None; homes.len()];
        for (slot, tensor) in &self.plan.constants {
            match homes[*slot] {
                Some(home) => registers.write(home, lanes_of(tensor.array())?)?,
                None => tensors[*slot] = Some(tensor.clone()),
            }
        }
        let spares = Spares::default();
        Ok((Values { registers, homes, tensors, spares }, self.first, self.each))
    }

    /// Gives a slot registers, if its value is small.
    fn settle(&mut self, slot: usize, steady: bool) -> Option<Home> {
        let aval = &self.plan.avals[slot];
        let home = is_small(aval).then(|| self.home(aval.dtype, aval.shape.elements()));
        self.slots[slot] = Slot { home, steady };
        home
    }

    /// Registers that nobody else writes.
    fn home(&mut self, dtype: DType, elements: usize) -> Home {
        let lines = self.lines.entry(dtype).or_default();
        let home = Home { dtype, first: *lines, elements };
        *lines += home.lines();
        home
    }

    /// Registers for what no later step reads.
    fn scratch(&mut self, dtype: DType, elements: usize) -> Home {
        let (homes, used) = self.scratch.entry((dtype, elements)).or_default();
        *used += 1;
        if let Some(&home) = homes.get(*used - 1) {
            return home;
        }
        let home = self.home(dtype, elements);
        if let Some((homes, _)) = self.scratch.get_mut(&(dtype, elements)) {
            homes.push(home);
        }
        home
    }

    fn push(&mut self, way: Way, steady: bool) {
        if steady { self.first.push(way) } else { self.each.push(way) }
    }

    fn step(&mut self, i: usize, step: &Step) -> Result<(), Error> {
        match &step.work {
            Work::Chain(chain, _) if chain.shape.elements() <= BLOCK => {
                return self.chain(step, chain);
            }
            Work::Op(_) if self.in_place(step)? => return Ok(()),
            Work::Chain(..) | Work::Op(_) => {}
        }
        // What is large is not kept beyond the run that computes it.
        let steady = step.outputs.iter().all(|&slot| is_small(&self.plan.avals[slot]))
            && step.inputs.iter().all(|&slot| self.slots[slot].steady);
        for &slot in &step.outputs {
            self.settle(slot, steady);
        }
        // Small values keep their registers, and inputs their values.
        let dies = |&slot: &usize| self.own[slot] && self.slots[slot].home.is_none();
        let dead = step.dead.iter().copied().filter(dies).collect();
        self.push(Way::General { step: i, dead }, steady);
        Ok(())
    }

    /// A step from one small value to another, if it has a way of its own.
    fn in_place(&mut self, step: &Step) -> Result<bool, Error> {
        let (Work::Op(one), &[from], &[into]) = (&step.work, &step.inputs[..], &step.outputs[..])
        else {
            return Ok(false);
        };
        let (application, inputs, _) = &**one;
        let Slot { home: Some(home), steady } = self.slots[from] else { return Ok(false) };
        if !is_small(&self.plan.avals[into]) {
            return Ok(false);
        }
        if let Kernel::Alias = application.op.kernel {
            if self.own[from] {
                self.slots[into] = self.slots[from];
            } else if let Some(into) = self.settle(into, steady) {
                // The input may be another one already when this is read.
                self.push(Way::Same(home, into), steady);
            }
            return Ok(true);
        }
        let mean = std::ptr::eq(application.op, &raw const REDUCE_MEAN);
        let sums = mean || std::ptr::eq(application.op, &raw const REDUCE_SUM);
        if !sums || inputs[0].dtype != DType::F32 {
            return Ok(false);
        }
        let shape = &inputs[0].shape;
        let axes = shape.axes(&Reduce::read(&application.attrs).axis)?;
        let Some(count) = reduce::rows(shape, &axes) else { return Ok(false) };
        if let Some(into) = self.settle(into, steady) {
            self.push(Way::Rows { from: home, into, count, mean }, steady);
        }
        Ok(true)
    }

    /// Takes a chain apart.
    fn chain(&mut self, step: &Step, chain: &Chain) -> Result<(), Error> {
        let elements = chain.shape.elements();
        let inputs = step.inputs.iter().map(|&slot| self.input(slot, &chain.shape));
        let inputs: SmallVec<[Value; 4]> = inputs.collect::<Result<_, _>>()?;
        // Where each register of the chain is now, and where it is while it is no result.
        let count = chain.registers.len();
        let mut held: SmallVec<[Option<Value>; 8]> = SmallVec::from_elem(None, count);
        let mut own: SmallVec<[Option<Home>; 8]> = SmallVec::from_elem(None, count);
        for (i, instruction) in chain.instructions.iter().enumerate() {
            let read = |source: &Source| match *source {
                Source::Input(i) => Ok(inputs[i]),
                Source::Register(i) => held[i].ok_or_else(missing),
            };
            let sources: SmallVec<[Value; 3]> =
                instruction.inputs.iter().map(read).collect::<Result<_, _>>()?;
            let steady = sources.iter().all(|value| value.steady);
            let (register, rest) = (instruction.output, &chain.instructions[i + 1..]);
            let dtype = chain.registers[register];
            let place = chain.outputs.iter().position(|&output| output == register);
            let home = match place {
                // What it holds last is a result.
                Some(place) if rest.iter().all(|later| later.output != register) => {
                    self.settle(step.outputs[place], steady).ok_or_else(missing)?
                }
                _ if steady => self.home(dtype, elements),
                _ => *own[register].get_or_insert_with(|| self.scratch(dtype, elements)),
            };
            held[register] = Some(Value { home, steady });
            let homes: SmallVec<[Home; 3]> = sources.iter().map(|value| value.home).collect();
            let (kernel, attrs) = (instruction.kernel, instruction.attrs.clone());
            self.push(Way::Apply(kernel, attrs, Operands::new(&homes, home)), steady);
        }
        Ok(())
    }

    /// The value of a slot as an input of a chain of this shape.
    fn input(&mut self, slot: usize, shape: &Shape) -> Result<Value, Error> {
        let Slot { home: Some(from), steady } = self.slots[slot] else { return Err(missing()) };
        let elements = shape.elements();
        let cursor = Cursor::new(&self.plan.avals[slot].shape, shape);
        // One element is read again and again.
        let Some(cursor) = cursor.filter(|_| ![1, elements].contains(&from.elements)) else {
            return Ok(Value { home: from, steady });
        };
        let home = if steady {
            self.home(from.dtype, elements)
        } else {
            self.scratch(from.dtype, elements)
        };
        self.push(Way::Spread(from, home, Box::new(cursor)), steady);
        Ok(Value { home, steady })
    }
}
