//! Products of matrices that go through a chain of elementwise ops while they lie in the cache.
//!
//! The rows of a product that are computed at a time are read by the chain at once, and the next ones take their place: only
//! what the chain writes goes through memory.

use std::ops::Range;

use smallvec::SmallVec;

use crate::{
    array::Array,
    compute,
    error::Error,
    kernels::{
        block::{Chain, Elements, Feed, Register, block_for, split_off},
        matmul::{Product, STRIPE},
    },
    op::LanesMut,
};

/// The register of a chain that holds the product, which no instruction writes.
pub(crate) const PRODUCT: usize = 0;

impl Chain {
    /// Runs the chain on a product of its shape, and on inputs that broadcast to it.
    pub(crate) fn run_on(
        &self,
        product: &Product<f32>,
        inputs: &[&Array],
    ) -> Result<SmallVec<[Array; 2]>, Error> {
        let (count, rows, columns) = (self.shape.elements(), product.rows(), product.columns());
        let dtypes = self.outputs.iter().map(|&register| self.registers[register]);
        let mut outputs: SmallVec<[Elements; 2]> =
            dtypes.map(|dtype| Elements::overwritten(dtype, count)).collect::<Result<_, _>>()?;
        let work = compute::products(product.flops())
            + compute::elements(count) * self.instructions.len() as u64;
        let parts = compute::parts(work, rows.div_ceil(STRIPE));
        let size = rows.div_ceil(parts).next_multiple_of(STRIPE);
        let parts = {
            let mut rest: SmallVec<[LanesMut; 2]> =
                outputs.iter_mut().map(|output| output.lanes_mut(0, count)).collect();
            let part = |first: usize| {
                let rows = first..rows.min(first + size);
                let places: SmallVec<[LanesMut; 2]> =
                    rest.iter_mut().map(|rest| split_off(rest, rows.len() * columns)).collect();
                (rows, places)
            };
            (0..rows).step_by(size).map(part).collect()
        };
        compute::each(parts, |(rows, places)| self.part(product, inputs, rows, places))?;
        outputs.into_iter().map(|output| output.into_array(&self.shape)).collect()
    }

    /// Some of the rows.
    fn part(
        &self,
        product: &Product<f32>,
        inputs: &[&Array],
        rows: Range<usize>,
        mut places: SmallVec<[LanesMut; 2]>,
    ) -> Result<(), Error> {
        let columns = product.columns();
        let mut start = rows.start * columns;
        let mut feeds = self.feeds(inputs)?;
        let block = block_for(
            rows.len() * columns,
            feeds.iter().filter_map(|feed| feed.period_within(columns)),
        );
        for feed in &mut feeds {
            let repeats = feed.period_within(columns).is_some();
            feed.begin(block, start)?;
            if let Some((_, cursor)) = feed.copied.as_deref_mut() {
                cursor.repeats &= repeats;
                if cursor.repeats {
                    // The first rows may be fewer than a block.
                    feed.advance(block)?;
                }
            }
        }
        let mut registers = self.registers(block)?;
        product.in_pieces(rows, |piece, count| {
            let end = start + count;
            let given = Elements::F32(std::mem::take(piece));
            registers[PRODUCT] = Register::Given(given, start);
            while start < end {
                let here = block.min(end - start);
                for (place, &output) in places.iter_mut().zip(&self.outputs) {
                    registers[output] = Register::Place(split_off(place, here));
                }
                self.block_through(&mut feeds, &mut registers, start, here)?;
                start += here;
            }
            let given = std::mem::replace(&mut registers[PRODUCT], Register::Taken);
            if let Register::Given(Elements::F32(given), _) = given {
                *piece = given;
            }
            Ok(())
        })
    }
}

impl Feed<'_> {
    /// After how many elements the same ones come again, if each row of so many columns begins with the same ones.
    fn period_within(&self, columns: usize) -> Option<usize> {
        let (_, cursor) = self.copied.as_deref()?;
        cursor.period().filter(|&period| columns.is_multiple_of(period))
    }
}
