//! Chains on several cores.
//!
//! Blocks have nothing to do with each other, but a reduction takes in its elements in one order. Where it has many results,
//! each core computes some of them. Where it has few, the cores compute a slab of the chain together, which still lies in
//! their caches when one of them takes it in.

use std::ops::Range;

use smallvec::SmallVec;

use super::{Chain, Register, Source};
use crate::{
    array::Array,
    compute::{self, Looks},
    error::Error,
    kernels::block::{BLOCK, Elements, Lane, by_type, lanes_of},
    op::{Fold, LanesMut},
};

/// Most elements of a slab: cores wait for each other after each, so it is not small.
const SLAB: usize = 1 << 18;

/// In how many slabs a chain is at least cut, so that only a part of what reductions read is kept.
const SLABS: usize = 4;

/// How many matrices a core has at least, so that all have about as many.
const MATRICES: usize = 4;

/// What one core computes.
struct Part<'a> {
    elements: Range<usize>,
    /// Where the registers are written that go to memory.
    places: SmallVec<[LanesMut<'a>; 2]>,
}

impl Chain {
    /// Runs a chain that ends in reductions, if there is something to share.
    pub(super) fn run_shared(
        &self,
        inputs: &[&Array],
        block: usize,
    ) -> Result<Option<SmallVec<[Array; 2]>>, Error> {
        let (count, work) = (self.shape.elements(), self.work(self.shape.elements()));
        let cores = compute::cores(work);
        if cores == 1 {
            return Ok(None);
        }
        let matrices = self.extents[0];
        if matrices >= MATRICES * cores {
            let parts = compute::parts(work, matrices / MATRICES);
            return self.run_by_matrices(inputs, block, parts).map(Some);
        }
        let slab = (self.slab() - self.slab() % block).max(block);
        let cores = compute::cores(self.work(slab.min(count)));
        if cores == 1 {
            return Ok(None);
        }
        self.run_in_rounds(inputs, block, cores, slab).map(Some)
    }

    /// The registers that only reductions read.
    fn slabs(&self) -> SmallVec<[usize; 2]> {
        let mut slabs = SmallVec::new();
        for reduction in &self.reductions {
            if let Source::Register(register) = reduction.source
                && !self.outputs.contains(&register)
                && !slabs.contains(&register)
            {
                slabs.push(register);
            }
        }
        slabs
    }

    /// Elements of a slab of what only reductions read.
    fn slab(&self) -> usize {
        (self.shape.elements() / SLABS).clamp(BLOCK, SLAB)
    }

    /// Bytes of the slabs.
    pub(super) fn slab_bytes(&self) -> u64 {
        let sizes = self.slabs().into_iter().map(|slab| self.registers[slab].size());
        (sizes.sum::<usize>() * self.slab()) as u64
    }

    /// Runs the chain so many elements at a time, a number of whole blocks, in so many parts.
    pub(super) fn run_in_rounds(
        &self,
        inputs: &[&Array],
        block: usize,
        parts: usize,
        round: usize,
    ) -> Result<SmallVec<[Array; 2]>, Error> {
        let count = self.shape.elements();
        let (kept, slabs) = (self.outputs.len(), self.slabs());
        let mut memory = self.written(&self.outputs, count)?;
        memory.extend(self.written(&slabs, round.min(count))?);
        let written: SmallVec<[usize; 4]> = self.outputs.iter().copied().chain(slabs).collect();
        let mut folds = self.folds(self.extents[0])?;
        for first in (0..count).step_by(round) {
            let length = round.min(count - first);
            // A slab has a round, an output all of them.
            let begin = |i: usize| if i < kept { first } else { 0 };
            let size = length.div_ceil(parts).next_multiple_of(block);
            let shared = {
                let places = memory.iter_mut().enumerate();
                let mut rest: SmallVec<[LanesMut; 2]> =
                    places.map(|(i, memory)| memory.lanes_mut(begin(i), length)).collect();
                let part = |start: usize| {
                    let taken = size.min(length - start);
                    let places = rest.iter_mut().map(|rest| split_off(rest, taken)).collect();
                    Part { elements: first + start..first + start + taken, places }
                };
                (0..length).step_by(size).map(part).collect()
            };
            compute::each(shared, |part| self.part(inputs, block, &written, part, &mut []))?;
            for (reduction, fold) in self.reductions.iter().zip(&mut folds) {
                fold.take(match reduction.source {
                    Source::Input(i) => lanes_of(inputs[i])?.part(first, length),
                    Source::Register(register) => {
                        let place = written.iter().position(|&other| other == register);
                        let place = place.ok_or_else(lost)?;
                        memory[place].lanes(begin(place), length)
                    }
                })?;
            }
        }
        memory.truncate(kept);
        let outputs = memory.into_iter().map(|output| output.into_array(&self.shape));
        outputs.chain(self.folded(&folds)).collect()
    }

    /// Runs the chain in parts of whole matrices.
    fn run_by_matrices(
        &self,
        inputs: &[&Array],
        block: usize,
        parts: usize,
    ) -> Result<SmallVec<[Array; 2]>, Error> {
        let [matrices, rows, width] = self.extents;
        let mut outputs = self.written(&self.outputs, self.shape.elements())?;
        let results = self.reductions.iter().map(|fold| &fold.result);
        let mut results: SmallVec<[Elements; 2]> = results
            .map(|result| Elements::overwritten(result.dtype, result.shape.elements()))
            .collect::<Result<_, _>>()?;
        let size = matrices.div_ceil(parts);
        let shared: Vec<(usize, Part, SmallVec<[LanesMut; 2]>)> = {
            let (mut rest, mut rest_folded) = (whole(&mut outputs), whole(&mut results));
            let part = |first: usize| {
                let taken = size.min(matrices - first);
                let elements = first * rows * width..(first + taken) * rows * width;
                let places = rest.iter_mut().map(|rest| split_off(rest, elements.len())).collect();
                let folded = rest_folded.iter_mut().map(|rest| split_off(rest, taken * width));
                (taken, Part { elements, places }, folded.collect())
            };
            (0..matrices).step_by(size).map(part).collect()
        };
        compute::each(shared, |(taken, part, mut folded)| {
            let mut folds = self.folds(taken)?;
            self.part(inputs, block, &self.outputs, part, &mut folds)?;
            folds.iter().zip(&mut folded).try_for_each(|(fold, out)| fold.write(out))
        })?;
        let shapes = self.reductions.iter().map(|fold| &fold.result.shape);
        let results =
            results.into_iter().zip(shapes).map(|(result, shape)| result.into_array(shape));
        let outputs = outputs.into_iter().map(|output| output.into_array(&self.shape));
        outputs.chain(results).collect()
    }

    /// Memory for so many elements of registers.
    fn written(&self, registers: &[usize], count: usize) -> Result<SmallVec<[Elements; 2]>, Error> {
        let dtypes = registers.iter().map(|&register| self.registers[register]);
        dtypes.map(|dtype| Elements::overwritten(dtype, count)).collect()
    }

    /// A part, block by block, of which some registers are written to its places.
    fn part(
        &self,
        inputs: &[&Array],
        block: usize,
        written: &[usize],
        Part { elements, mut places }: Part,
        folds: &mut [Box<dyn Fold>],
    ) -> Result<(), Error> {
        let mut feeds = self.feeds(inputs)?;
        feeds.iter_mut().try_for_each(|feed| feed.begin(block, elements.start))?;
        let (mut registers, mut looks) = (self.registers(block, written)?, Looks::default());
        for start in elements.clone().step_by(block) {
            let length = block.min(elements.end - start);
            for (place, &register) in places.iter_mut().zip(written) {
                registers[register] = Register::Place(split_off(place, length));
            }
            self.block_through(&mut feeds, &mut registers, start, length)?;
            self.fold_block(&feeds, &registers, folds, start, length)?;
            looks.after(length)?;
        }
        Ok(())
    }
}

/// All elements of each, to be written.
fn whole(memory: &mut [Elements]) -> SmallVec<[LanesMut<'_>; 2]> {
    let each = memory.iter_mut();
    each.map(|memory| by_type!(Elements, memory, all => Lane::lanes_mut(all))).collect()
}

fn lost() -> Error {
    Error::bug("a reduction of what a chain does not keep")
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
