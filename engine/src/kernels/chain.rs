//! Chains: elementwise ops that go through memory once.
//!
//! Each block of elements goes through all instructions while it lies in the first-level cache, and only what is wanted
//! afterwards is written to memory. It is the same whether one op runs alone or a plan runs a chain of them.

use smallvec::SmallVec;

use crate::{
    array::{Array, Element},
    attrs::Attrs,
    aval::Shape,
    compute,
    dtype::DType,
    error::Error,
    kernels::{
        block::{BLOCK, Elements, Lane, MAX_INPUTS, by_type, lanes_of, mistyped},
        cursor::Cursor,
    },
    op::{BlockKernel, Lanes, LanesMut},
};

/// Where an instruction takes an input from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// An input of the whole.
    Input(usize),
    /// What an instruction before it left.
    Register(usize),
}

/// One op of a chain.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    pub(crate) kernel: BlockKernel,
    pub(crate) attrs: Attrs,
    pub(crate) inputs: SmallVec<[Source; 3]>,
    /// The register that it writes. None of its inputs.
    pub(crate) output: usize,
}

/// A chain of elementwise ops on tensors that broadcast to one shape.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub(crate) shape: Shape,
    pub(crate) instructions: Vec<Instruction>,
    /// Dtypes of the registers.
    pub(crate) registers: Vec<DType>,
    /// The registers that are written to memory.
    pub(crate) outputs: SmallVec<[usize; 2]>,
}

impl Chain {
    /// Bytes of the registers, and of the copies of inputs that broadcast.
    pub(crate) fn workspace(&self, inputs: usize) -> u64 {
        let block = self.shape.elements().min(BLOCK) as u64;
        let registers: u64 = self.registers.iter().map(|dtype| dtype.size() as u64 * block).sum();
        registers.saturating_add((inputs as u64).saturating_mul(8 * block))
    }

    /// Runs the chain. An input may have any shape that broadcasts to the chain's.
    pub(crate) fn run(&self, inputs: &[&Array]) -> Result<SmallVec<[Array; 2]>, Error> {
        let count = self.shape.elements();
        let mut feeds = self.feeds(inputs)?;
        let cursors = feeds.iter().filter_map(|feed| feed.copied.as_deref());
        let block = block_for(count, cursors.filter_map(|(_, cursor)| cursor.period())).max(1);
        let work = compute::elements(count) * self.instructions.len() as u64;
        let parts = compute::parts(work, count.div_ceil(block));
        if parts > 1 {
            return self.run_in_parts(inputs, block, count.div_ceil(parts).next_multiple_of(block));
        }
        feeds.iter_mut().try_for_each(|feed| feed.begin(block, 0))?;
        let mut registers = self.registers(block)?;
        for &output in &self.outputs {
            // What is not offered grows with the blocks: what is cleared then lies in the cache when it is written.
            registers[output] = Register::Whole(Elements::room(self.registers[output], count)?);
        }
        for start in (0..count).step_by(block) {
            self.block_through(&mut feeds, &mut registers, start, block.min(count - start))?;
        }
        let taken = self.outputs.iter().map(|&register| {
            match std::mem::replace(&mut registers[register], Register::Taken) {
                Register::Whole(elements) => elements.into_array(&self.shape),
                Register::Block(_) | Register::Place(_) | Register::Taken => {
                    Err(Error::bug("a result of a chain is not whole"))
                }
            }
        });
        taken.collect()
    }

    /// The same in parts of so many elements, a number of whole blocks.
    fn run_in_parts(
        &self,
        inputs: &[&Array],
        block: usize,
        size: usize,
    ) -> Result<SmallVec<[Array; 2]>, Error> {
        let count = self.shape.elements();
        let dtypes = self.outputs.iter().map(|&register| self.registers[register]);
        let mut outputs: SmallVec<[Elements; 2]> =
            dtypes.map(|dtype| Elements::overwritten(dtype, count)).collect::<Result<_, _>>()?;
        let parts = {
            let mut rest: SmallVec<[LanesMut; 2]> =
                outputs.iter_mut().map(|output| output.lanes_mut(0, count)).collect();
            let part = |first: usize| {
                let length = size.min(count - first);
                let places: SmallVec<[LanesMut; 2]> =
                    rest.iter_mut().map(|rest| split_off(rest, length)).collect();
                (first, length, places)
            };
            (0..count).step_by(size).map(part).collect()
        };
        compute::each(parts, |(first, length, mut places)| {
            let mut feeds = self.feeds(inputs)?;
            feeds.iter_mut().try_for_each(|feed| feed.begin(block, first))?;
            let mut registers = self.registers(block)?;
            for start in (first..first + length).step_by(block) {
                let here = block.min(first + length - start);
                for (place, &output) in places.iter_mut().zip(&self.outputs) {
                    registers[output] = Register::Place(split_off(place, here));
                }
                self.block_through(&mut feeds, &mut registers, start, here)?;
            }
            Ok(())
        })?;
        outputs.into_iter().map(|output| output.into_array(&self.shape)).collect()
    }

    fn feeds<'a>(&self, inputs: &[&'a Array]) -> Result<SmallVec<[Feed<'a>; 4]>, Error> {
        inputs.iter().map(|array| Feed::new(array, &self.shape)).collect()
    }

    /// Registers of a block each, but for those that are written to memory.
    fn registers<'a>(&self, block: usize) -> Result<SmallVec<[Register<'a>; 8]>, Error> {
        let register = |(i, &dtype): (usize, &DType)| {
            if self.outputs.contains(&i) {
                return Ok(Register::Taken);
            }
            Ok(Register::Block(Elements::zeros(dtype, block)?))
        };
        self.registers.iter().enumerate().map(register).collect()
    }

    /// One block through all instructions.
    fn block_through(
        &self,
        feeds: &mut [Feed],
        registers: &mut [Register],
        start: usize,
        length: usize,
    ) -> Result<(), Error> {
        feeds.iter_mut().try_for_each(|feed| feed.advance(length))?;
        for register in registers.iter_mut() {
            if let Register::Whole(elements) = register {
                elements.grow(start + length)?;
            }
        }
        for instruction in &self.instructions {
            // The register is taken out while its neighbours are read.
            let mut out = std::mem::replace(&mut registers[instruction.output], Register::Taken);
            {
                let mut inputs = [Lanes::Bool(&[]); MAX_INPUTS];
                for (lanes, source) in inputs.iter_mut().zip(&instruction.inputs) {
                    *lanes = match *source {
                        Source::Input(i) => feeds[i].lanes(start, length),
                        Source::Register(i) => registers[i].lanes(start, length),
                    };
                }
                let inputs = &inputs[..instruction.inputs.len()];
                let mut out = out.lanes_mut(start, length).into();
                (instruction.kernel)(&instruction.attrs, inputs, &mut out)?;
            }
            registers[instruction.output] = out;
        }
        Ok(())
    }
}

/// Takes the first elements of what is left.
fn split_off<'a>(rest: &mut LanesMut<'a>, count: usize) -> LanesMut<'a> {
    macro_rules! split {
        ($($variant:ident),*) => {
            match rest {
                $(LanesMut::$variant(x) => {
                    let (first, after) = std::mem::take(x).split_at_mut(count);
                    *x = after;
                    LanesMut::$variant(first)
                })*
            }
        };
    }
    split!(F32, F64, I32, I64, Bool)
}

/// Elements of a block: as many whole periods of a broadcast input as fit, so that each block repeats the same ones.
fn block_for(count: usize, periods: impl Iterator<Item = usize>) -> usize {
    let longest = periods.filter(|period| (1..=BLOCK).contains(period)).max().unwrap_or(1);
    count.min(BLOCK - BLOCK % longest)
}

/// What an instruction leaves.
#[derive(Debug)]
enum Register<'a> {
    /// The current block.
    Block(Elements),
    /// All blocks so far, of what is written to memory.
    Whole(Elements),
    /// The current block, in memory.
    Place(LanesMut<'a>),
    /// It is being written.
    Taken,
}

impl Register<'_> {
    fn lanes(&self, start: usize, length: usize) -> Lanes<'_> {
        match self {
            Self::Block(elements) => elements.lanes(0, length),
            Self::Whole(elements) => elements.lanes(start, length),
            Self::Place(place) => by_type!(LanesMut, place, place => Lane::lanes(place)),
            Self::Taken => Lanes::Bool(&[]),
        }
    }

    fn lanes_mut(&mut self, start: usize, length: usize) -> LanesMut<'_> {
        match self {
            Self::Block(elements) => elements.lanes_mut(0, length),
            Self::Whole(elements) => elements.lanes_mut(start, length),
            Self::Place(place) => by_type!(LanesMut, place, place => Lane::lanes_mut(place)),
            Self::Taken => LanesMut::Bool(&mut []),
        }
    }
}

/// An input of a chain.
#[derive(Debug)]
struct Feed<'a> {
    array: Lanes<'a>,
    /// The current block of an input that broadcasts, and where it comes from. Few do, and both are large.
    copied: Option<Box<(Elements, Cursor)>>,
}

impl<'a> Feed<'a> {
    fn new(array: &'a Array, out: &Shape) -> Result<Self, Error> {
        let cursor = Cursor::new(array.shape(), out);
        let copied = cursor.map(|cursor| Box::new((Elements::NONE, cursor)));
        Ok(Self { array: lanes_of(array)?, copied })
    }

    /// Makes room for a block of so many elements, and goes to element `first`, where a block begins.
    fn begin(&mut self, block: usize, first: usize) -> Result<(), Error> {
        let Some((elements, cursor)) = self.copied.as_deref_mut() else { return Ok(()) };
        cursor.seek(first);
        cursor.repeats = cursor.period().is_some_and(|period| block.is_multiple_of(period));
        let dtype = by_type!(Lanes, self.array, from => dtype_of(from));
        *elements = Elements::zeros(dtype, block)?;
        Ok(())
    }

    /// Goes on to the next block.
    fn advance(&mut self, length: usize) -> Result<(), Error> {
        let Some((elements, cursor)) = self.copied.as_deref_mut() else { return Ok(()) };
        by_type!(Lanes, self.array, from => {
            let into = Lane::owned(elements).ok_or_else(mistyped)?;
            cursor.fill(from, &mut into[..length]);
        });
        Ok(())
    }

    fn lanes(&self, start: usize, length: usize) -> Lanes<'_> {
        match self.copied.as_deref() {
            Some((elements, _)) => elements.lanes(0, length),
            None => match self.array {
                Lanes::F32(x) => Lanes::F32(&x[start..start + length]),
                Lanes::F64(x) => Lanes::F64(&x[start..start + length]),
                Lanes::I32(x) => Lanes::I32(&x[start..start + length]),
                Lanes::I64(x) => Lanes::I64(&x[start..start + length]),
                Lanes::Bool(x) => Lanes::Bool(&x[start..start + length]),
            },
        }
    }
}

fn dtype_of<T: Element>(_: &[T]) -> DType {
    T::DTYPE
}
