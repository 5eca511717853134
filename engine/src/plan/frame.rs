//! Frames: plans whose values stay in place, for running one plan over and over.
//!
//! Small tensors are most of the cost of a short step: for ten elements, making a tensor takes longer than computing it. In
//! a frame each small value has a buffer of its own that every run writes again, chains and sums run straight from buffer to
//! buffer, and what a run leaves for the next goes there by changing places. Whatever is larger, or has no loop over blocks,
//! runs as in [`Plan::run`].
//!
//! Invariant: a run that fails leaves what the runs before it carried on.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Plan, Step, Work, missing, spares::Spares};
use crate::{
    array::{Array, Tensor},
    aval::Aval,
    compute,
    dtype::DType,
    error::Error,
    kernels::{
        block::{BLOCK, Chain, Elements, MAX_INPUTS, Source, copy, lanes_of},
        cursor::Cursor,
        reduce,
    },
    ledger::{Charge, Ledger},
    op::{Kernel, Lanes},
    ops::{REDUCE_MEAN, REDUCE_SUM, Reduce},
};

/// About how long a step of a plan takes beside its arithmetic, in nanoseconds.
const STEP: u64 = 50;

/// The values of a plan between its runs.
#[derive(Debug)]
pub struct Frame {
    cells: Vec<Cell>,
    ways: Vec<Way>,
    carries: Vec<Carry>,
    /// Where each result is after a run.
    places: Vec<usize>,
    _charge: Charge,
}

/// A value of a plan.
#[derive(Debug)]
enum Cell {
    Empty,
    /// A small one, in a buffer that stays.
    Small(Elements),
    /// Any other.
    Tensor(Tensor),
}

/// How a step runs.
#[derive(Debug)]
enum Way {
    Block(Box<Block>),
    /// Sums, or means, of rows of so many elements.
    Rows {
        from: usize,
        into: usize,
        count: usize,
        mean: bool,
    },
    /// The same elements in another shape.
    Same {
        from: usize,
        into: usize,
    },
    /// On tensors; with the values that it computed for the last time.
    General {
        dead: SmallVec<[usize; 4]>,
    },
}

/// A chain over no more elements than a block has.
#[derive(Debug)]
struct Block {
    wires: SmallVec<[Wire; 4]>,
    registers: SmallVec<[Elements; 8]>,
}

/// An input of a chain.
#[derive(Debug)]
struct Wire {
    slot: usize,
    /// Of an input that broadcasts: its elements in the shape of the chain.
    broadcast: Option<(Elements, Cursor)>,
    /// Whether no run changes the input.
    steady: bool,
    /// Whether a steady input has been broadcast.
    done: bool,
}

/// What a run leaves for the next.
#[derive(Clone, Copy, Debug)]
struct Carry {
    from: usize,
    into: usize,
    /// Whether nobody else wants it, so that the two can change places.
    moves: bool,
}

impl Frame {
    /// A frame in which each pair of a result (by its number) and an input (by its slot) is carried from run to run.
    /// Nothing, if results and inputs are entangled.
    ///
    /// # Errors
    ///
    /// The buffers are paid for by the ledger.
    pub fn new(
        plan: &Plan,
        ledger: &Arc<Ledger>,
        carried: &[(usize, usize)],
    ) -> Result<Option<Self>, Error> {
        let Some((carries, places)) = carries(plan, carried) else { return Ok(None) };
        let small: u64 = plan.avals.iter().filter(|aval| is_small(aval)).map(Aval::bytes).sum();
        let workspace: u64 = plan.steps.iter().map(|step| step.cost.workspace).sum();
        let charge = ledger.reserve(small.saturating_add(workspace))?;
        let mut cells: Vec<Cell> = plan.avals.iter().map(|_| Cell::Empty).collect();
        for &(slot, ref tensor) in &plan.constants {
            cells[slot] = Cell::holding(&plan.avals[slot], tensor)?;
        }
        // What no run changes: constants, and inputs that nothing is carried into.
        let mut steady = vec![true; plan.avals.len()];
        for carry in &carries {
            steady[carry.into] = false;
        }
        let mut own = vec![false; plan.avals.len()];
        let ways = plan.steps.iter().map(|step| {
            step.outputs.iter().for_each(|&slot| (steady[slot], own[slot]) = (false, true));
            Way::of(plan, step, (&steady, &own), &mut cells)
        });
        let ways = ways.collect::<Result<_, _>>()?;
        Ok(Some(Self { cells, ways, carries, places, _charge: charge }))
    }

    /// Sets an input.
    pub fn set(&mut self, plan: &Plan, slot: usize, tensor: &Tensor) -> Result<(), Error> {
        let aval = plan.avals.get(slot).filter(|aval| tensor.aval() == **aval);
        let aval = aval.ok_or_else(|| Error::bug("a frame is given what it is not made for"))?;
        match &mut self.cells[slot] {
            Cell::Small(elements) => copy_all(lanes_of(tensor.array())?, elements)?,
            cell @ (Cell::Empty | Cell::Tensor(_)) => *cell = Cell::holding(aval, tensor)?,
        }
        for way in &mut self.ways {
            if let Way::Block(block) = way {
                let wires = block.wires.iter_mut().filter(|wire| wire.slot == slot);
                wires.for_each(|wire| wire.done = false);
            }
        }
        Ok(())
    }

    /// Runs the plan, and carries on what is to be carried.
    pub fn run(&mut self, plan: &Plan, ledger: &Arc<Ledger>) -> Result<(), Error> {
        for (step, way) in plan.steps.iter().zip(&mut self.ways) {
            match way {
                Way::Block(block) => block.run(step, &mut self.cells)?,
                &mut Way::Rows { from, into, count, mean } => {
                    let (x, y) = two(&mut self.cells, from, into)?;
                    if let (Lanes::F32(x), Elements::F32(y)) = (x.lanes()?, y) {
                        reduce::sum_rows(x, count, mean, y);
                    }
                }
                &mut Way::Same { from, into } => {
                    let (x, y) = two(&mut self.cells, from, into)?;
                    copy_all(x.lanes()?, y)?;
                }
                Way::General { dead } => {
                    compute::check()?;
                    general(plan, step, ledger, &mut self.cells)?;
                    dead.iter().for_each(|&slot| self.cells[slot] = Cell::Empty);
                }
            }
        }
        for &Carry { from, into, moves } in &self.carries {
            if moves {
                self.cells.swap(from, into);
                continue;
            }
            let value = match &self.cells[from] {
                Cell::Tensor(tensor) => Cell::Tensor(tensor.clone()),
                small @ (Cell::Empty | Cell::Small(_)) => Cell::holding(
                    &plan.avals[from],
                    &Tensor::unpaid(small.array(&plan.avals[from])?),
                )?,
            };
            self.cells[into] = value;
        }
        Ok(())
    }

    /// A result of the last run; if it is carried, that of the last run that did not fail, or what the frame began with.
    pub fn result(&self, plan: &Plan, ledger: &Arc<Ledger>, i: usize) -> Result<Tensor, Error> {
        let aval = &plan.avals[plan.wanted[i]];
        match &self.cells[self.places[i]] {
            Cell::Tensor(tensor) => Ok(tensor.clone()),
            small @ (Cell::Empty | Cell::Small(_)) => {
                Ok(Tensor::paid(small.array(aval)?, ledger.reserve(aval.bytes())?))
            }
        }
    }

    /// Whether a result of the last run is true.
    pub fn is_true(&self, i: usize) -> Result<bool, Error> {
        Ok(matches!(self.cells[self.places[i]].lanes()?, Lanes::Bool([true])))
    }
}

/// About how long a run of a plan takes, in nanoseconds.
pub fn estimate(plan: &Plan) -> u64 {
    let flops: u64 = plan.steps.iter().map(|step| step.cost.flops).sum();
    (plan.steps.len() as u64).saturating_mul(STEP).saturating_add(flops)
}

fn is_small(aval: &Aval) -> bool {
    aval.shape.elements() <= BLOCK && !aval.dtype.is_half()
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
    Some((carries, places))
}

impl Cell {
    fn holding(aval: &Aval, tensor: &Tensor) -> Result<Self, Error> {
        if !is_small(aval) {
            return Ok(Self::Tensor(tensor.clone()));
        }
        let mut elements = Elements::zeros(aval.dtype, aval.shape.elements())?;
        copy_all(lanes_of(tensor.array())?, &mut elements)?;
        Ok(Self::Small(elements))
    }

    fn lanes(&self) -> Result<Lanes<'_>, Error> {
        match self {
            Self::Small(elements) => Ok(elements.all()),
            Self::Tensor(tensor) => lanes_of(tensor.array()),
            Self::Empty => Err(missing()),
        }
    }

    fn array(&self, aval: &Aval) -> Result<Array, Error> {
        match self {
            Self::Small(elements) => {
                let mut own = Elements::zeros(aval.dtype, aval.shape.elements())?;
                copy_all(elements.all(), &mut own)?;
                own.into_array(&aval.shape)
            }
            Self::Tensor(tensor) => Ok(tensor.array().clone()),
            Self::Empty => Err(missing()),
        }
    }
}

fn copy_all(from: Lanes, into: &mut Elements) -> Result<(), Error> {
    copy(from, into.all_mut())
}

/// Two different cells, the second of which is small.
fn two(cells: &mut [Cell], from: usize, into: usize) -> Result<(&Cell, &mut Elements), Error> {
    match cells.get_disjoint_mut([from, into]) {
        Ok([from, Cell::Small(into)]) => Ok((from, into)),
        _ => Err(missing()),
    }
}

impl Way {
    fn of(
        plan: &Plan,
        step: &Step,
        (steady, own): (&[bool], &[bool]),
        cells: &mut [Cell],
    ) -> Result<Self, Error> {
        // Small values keep their buffers, and inputs their values.
        let dies = |&slot: &usize| own[slot] && !is_small(&plan.avals[slot]);
        let general = || Self::General { dead: step.dead.iter().copied().filter(dies).collect() };
        let small = |slot: usize| is_small(&plan.avals[slot]);
        let mut reserve = |slot: usize| {
            let Aval { dtype, shape } = &plan.avals[slot];
            cells[slot] = Cell::Small(Elements::zeros(*dtype, shape.elements())?);
            Ok::<_, Error>(())
        };
        match &step.work {
            Work::Chain(chain, _) if chain.shape.elements() <= BLOCK => {
                step.outputs.iter().try_for_each(|&slot| reserve(slot))?;
                Ok(Self::Block(Box::new(Block::new(plan, step, chain, steady)?)))
            }
            Work::Op(one) => {
                let (application, inputs, _) = &**one;
                let (&[from], &[into]) = (&step.inputs[..], &step.outputs[..]) else {
                    return Ok(general());
                };
                if !small(from) || !small(into) || from == into {
                    return Ok(general());
                }
                if let Kernel::Alias = application.op.kernel {
                    reserve(into)?;
                    return Ok(Self::Same { from, into });
                }
                let mean = std::ptr::eq(application.op, &raw const REDUCE_MEAN);
                let sums = mean || std::ptr::eq(application.op, &raw const REDUCE_SUM);
                if sums && inputs[0].dtype == DType::F32 {
                    let shape = &inputs[0].shape;
                    let axes = shape.axes(&Reduce::read(&application.attrs).axis)?;
                    if let Some(count) = reduce::rows(shape, &axes) {
                        reserve(into)?;
                        return Ok(Self::Rows { from, into, count, mean });
                    }
                }
                Ok(general())
            }
            Work::Chain(..) => Ok(general()),
        }
    }
}

impl Block {
    fn new(plan: &Plan, step: &Step, chain: &Chain, steady: &[bool]) -> Result<Self, Error> {
        let count = chain.shape.elements();
        let wires = step.inputs.iter().map(|&slot| {
            let aval = &plan.avals[slot];
            let cursor = Cursor::new(&aval.shape, &chain.shape);
            let broadcast =
                cursor.map(|cursor| Ok::<_, Error>((Elements::zeros(aval.dtype, count)?, cursor)));
            let broadcast = broadcast.transpose()?;
            Ok(Wire { slot, broadcast, steady: steady[slot], done: false })
        });
        let registers = chain.registers.iter().map(|&dtype| Elements::zeros(dtype, count));
        Ok(Self {
            wires: wires.collect::<Result<_, Error>>()?,
            registers: registers.collect::<Result<_, _>>()?,
        })
    }

    fn run(&mut self, step: &Step, cells: &mut [Cell]) -> Result<(), Error> {
        let Work::Chain(chain, _) = &step.work else { return Err(missing()) };
        for wire in &mut self.wires {
            if let Wire { slot, broadcast: Some((elements, cursor)), steady, done: false } = wire {
                elements.broadcast(cells[*slot].lanes()?, cursor)?;
                wire.done = *steady;
            }
        }
        for instruction in &chain.instructions {
            // The register is taken out while its neighbours are read.
            let out = &mut self.registers[instruction.output];
            let mut out = std::mem::replace(out, Elements::NONE);
            let mut inputs = [Lanes::Bool(&[]); MAX_INPUTS];
            for (lanes, source) in inputs.iter_mut().zip(&instruction.inputs) {
                *lanes = match *source {
                    Source::Input(i) => match &self.wires[i] {
                        Wire { broadcast: Some((elements, _)), .. } => elements.all(),
                        wire => cells[wire.slot].lanes()?,
                    },
                    Source::Register(i) => self.registers[i].all(),
                };
            }
            let inputs = &inputs[..instruction.inputs.len()];
            (instruction.kernel)(&instruction.attrs, inputs, out.all_mut())?;
            self.registers[instruction.output] = out;
        }
        for (&slot, &register) in step.outputs.iter().zip(&chain.outputs) {
            if let Cell::Small(elements) = &mut cells[slot] {
                std::mem::swap(elements, &mut self.registers[register]);
            }
        }
        Ok(())
    }
}

/// Runs a step on tensors, as [`Plan::run`] does.
fn general(
    plan: &Plan,
    step: &Step,
    ledger: &Arc<Ledger>,
    cells: &mut [Cell],
) -> Result<(), Error> {
    let inputs: SmallVec<[Tensor; 4]> = step
        .inputs
        .iter()
        .map(|&slot| match &cells[slot] {
            Cell::Tensor(tensor) => Ok(tensor.clone()),
            small @ (Cell::Empty | Cell::Small(_)) => {
                Ok(Tensor::unpaid(small.array(&plan.avals[slot])?))
            }
        })
        .collect::<Result<_, Error>>()?;
    let inputs: SmallVec<[&Tensor; 4]> = inputs.iter().collect();
    let outputs = step.run(ledger, &plan.avals, &inputs, &mut Spares::default())?;
    for (&slot, tensor) in step.outputs.iter().zip(outputs) {
        cells[slot] = Cell::Tensor(tensor);
    }
    Ok(())
}
