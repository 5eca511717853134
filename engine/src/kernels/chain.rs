//! Chains: elementwise ops that go through memory once.
//!
//! Each block of elements goes through all instructions while it lies in the first-level cache, and only what is wanted
//! afterwards is written to memory. It is the same whether one op runs alone or a plan runs a chain of them.
//!
//! A chain may end in reductions, which take in each block while it lies there. Who runs it on several cores is in
//! [`shared`].

mod shared;

use smallvec::SmallVec;

use crate::{
    array::{Array, Element},
    attrs::Attrs,
    aval::{Aval, Shape},
    compute::{self, Looks},
    dtype::DType,
    error::Error,
    kernels::{
        block::{BLOCK, Elements, Lane, MAX_INPUTS, by_type, lanes_of, mistyped},
        cursor::Cursor,
    },
    op::{BeginFold, BlockKernel, Fold, Lanes, LanesMut},
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

/// A fold of what a chain computes, or of an input that has the chain's shape.
#[derive(Clone, Debug)]
pub(crate) struct Reduction {
    pub(crate) begin: BeginFold,
    /// A register that keeps what it holds to the end of the instructions, or an input.
    pub(crate) source: Source,
    /// The dtype of its elements.
    pub(crate) dtype: DType,
    pub(crate) result: Aval,
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
    /// What reads the chain block by block.
    pub(crate) reductions: Vec<Reduction>,
    /// For all of these, the extents outside, of and inside of the axes that they reduce.
    pub(crate) extents: [usize; 3],
}

impl Chain {
    /// Bytes of the registers, of the copies of inputs that broadcast, and of what reductions keep.
    pub(crate) fn workspace(&self, inputs: usize) -> u64 {
        let block = self.shape.elements().min(BLOCK) as u64;
        let registers: u64 = self.registers.iter().map(|dtype| dtype.size() as u64 * block).sum();
        // An accumulator for each result, as where such an op runs alone.
        let accumulators = self.reductions.iter().map(|fold| fold.result.shape.elements() as u64);
        registers
            .saturating_add((inputs as u64).saturating_mul(8 * block))
            .saturating_add(accumulators.sum::<u64>().saturating_mul(8))
            .saturating_add(self.slab_bytes())
    }

    /// Runs the chain: the values of its outputs, and then those of its reductions. An input may have any shape that
    /// broadcasts to the chain's.
    pub(crate) fn run(&self, inputs: &[&Array]) -> Result<SmallVec<[Array; 2]>, Error> {
        let count = self.shape.elements();
        let feeds = self.feeds(inputs)?;
        let block = self.block(&feeds);
        if self.reductions.is_empty() {
            let parts = compute::parts(self.work(count), count.div_ceil(block));
            if parts > 1 {
                return self.run_in_rounds(inputs, block, parts, count);
            }
        } else if let Some(results) = self.run_shared(inputs, block)? {
            return Ok(results);
        }
        self.run_alone(feeds, block)
    }

    /// About how long so many elements take, in nanoseconds.
    fn work(&self, count: usize) -> u64 {
        compute::elements(count) * (self.instructions.len() + self.reductions.len()) as u64
    }

    /// Elements of a block.
    fn block(&self, feeds: &[Feed]) -> usize {
        let cursors = feeds.iter().filter_map(|feed| feed.copied.as_deref());
        let periods = cursors.filter_map(|(_, cursor)| cursor.period());
        let line = if self.reductions.is_empty() { 1 } else { self.line() };
        block_for(self.shape.elements(), line, periods).max(1)
    }

    /// Elements that reductions read in one go: those of a row, be it reduced or a row of a matrix of columns.
    fn line(&self) -> usize {
        let [_, rows, width] = self.extents;
        if width == 1 { rows } else { width }
    }

    fn run_alone(
        &self,
        mut feeds: SmallVec<[Feed; 4]>,
        block: usize,
    ) -> Result<SmallVec<[Array; 2]>, Error> {
        let count = self.shape.elements();
        feeds.iter_mut().try_for_each(|feed| feed.begin(block, 0))?;
        let mut registers = self.registers(block, &self.outputs)?;
        for &output in &self.outputs {
            // What is not offered grows with the blocks: what is cleared then lies in the cache when it is written.
            registers[output] = Register::Whole(Elements::room(self.registers[output], count)?);
        }
        let (mut folds, mut looks) = (self.folds(self.extents[0])?, Looks::default());
        for start in (0..count).step_by(block) {
            let length = block.min(count - start);
            self.block_through(&mut feeds, &mut registers, start, length)?;
            self.fold_block(&feeds, &registers, &mut folds, start, length)?;
            looks.after(length)?;
        }
        let outputs = self.outputs.iter().map(|&register| {
            match std::mem::replace(&mut registers[register], Register::Taken) {
                Register::Whole(elements) => elements.into_array(&self.shape),
                Register::Block(_) | Register::Place(_) | Register::Taken => {
                    Err(Error::bug("a result of a chain is not whole"))
                }
            }
        });
        outputs.chain(self.folded(&folds)).collect()
    }

    /// Begins the reductions of so many of the matrices that these read.
    fn folds(&self, matrices: usize) -> Result<Vec<Box<dyn Fold>>, Error> {
        let [_, rows, width] = self.extents;
        let begin = |fold: &Reduction| (fold.begin)(fold.dtype, [matrices, rows, width]);
        self.reductions.iter().map(begin).collect()
    }

    /// What reductions came to.
    fn folded(&self, folds: &[Box<dyn Fold>]) -> impl Iterator<Item = Result<Array, Error>> {
        self.reductions.iter().zip(folds).map(|(Reduction { result, .. }, fold)| {
            let count = result.shape.elements();
            let mut elements = Elements::overwritten(result.dtype, count)?;
            fold.write(&mut elements.lanes_mut(0, count))?;
            elements.into_array(&result.shape)
        })
    }

    /// Lets reductions take in a block.
    fn fold_block(
        &self,
        feeds: &[Feed],
        registers: &[Register],
        folds: &mut [Box<dyn Fold>],
        start: usize,
        length: usize,
    ) -> Result<(), Error> {
        for (reduction, fold) in self.reductions.iter().zip(folds) {
            fold.take(match reduction.source {
                Source::Input(i) => feeds[i].lanes(start, length),
                Source::Register(i) => registers[i].lanes(start, length),
            })?;
        }
        Ok(())
    }

    fn feeds<'a>(&self, inputs: &[&'a Array]) -> Result<SmallVec<[Feed<'a>; 4]>, Error> {
        inputs.iter().map(|array| Feed::new(array, &self.shape)).collect()
    }

    /// Registers of a block each, but for those that are written elsewhere.
    fn registers<'a>(
        &self,
        block: usize,
        elsewhere: &[usize],
    ) -> Result<SmallVec<[Register<'a>; 8]>, Error> {
        let register = |(i, &dtype): (usize, &DType)| {
            if elsewhere.contains(&i) {
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

/// Elements of a block: as many whole lines as fit, so that reductions need not keep the beginning of one, and whole periods
/// of a broadcast input, so that each block repeats the same ones.
fn block_for(count: usize, line: usize, periods: impl Iterator<Item = usize>) -> usize {
    let fits = |length: &usize| (1..=BLOCK).contains(length);
    let line = Some(line).filter(fits).unwrap_or(1);
    let longest = periods.filter(|period| fits(period) && period.is_multiple_of(line)).max();
    count.min(BLOCK - BLOCK % longest.unwrap_or(line))
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
            None => self.array.part(start, length),
        }
    }
}

fn dtype_of<T: Element>(_: &[T]) -> DType {
    T::DTYPE
}
