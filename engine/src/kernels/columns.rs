//! Columns: what is computed along axes that are not the last, many side by side, so that memory is read in its order.
//!
//! A column's numbers are taken in from the first row to the last, whoever does it.

use std::ops::Range;

use crate::{
    array::filled,
    aval::Shape,
    compute::{self, Looks},
    error::Error,
    kernels::{reduce, rows::shared_out},
};

/// Columns that are gone down together: what is kept of them lies in the first-level cache, and rows are read in long pieces.
const BLOCK: usize = 1024;

/// Matrices that follow on each other, of so many rows and columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    pub(crate) matrices: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

/// Some elements of a row.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Where they are.
    pub(crate) elements: Range<usize>,
    /// Their columns, counted through all matrices.
    pub(crate) columns: Range<usize>,
    pub(crate) matrix: usize,
    /// Their row in the matrix.
    pub(crate) row: usize,
}

impl Columns {
    /// Those along axes that are neighbours, but not the last.
    pub(crate) fn of(shape: &Shape, axes: &[usize]) -> Option<Self> {
        let [matrices, rows, width] = reduce::neighbours(shape, axes)?;
        (width > 1 && rows > 0).then_some(Self { matrices, rows, width })
    }

    /// Bytes of a number for each column.
    pub(crate) fn bytes(self) -> u64 {
        (self.matrices as u64).saturating_mul(self.width as u64).saturating_mul(8)
    }

    /// Bytes of a number for each row.
    pub(crate) fn row_bytes(self) -> u64 {
        (self.matrices as u64).saturating_mul(self.rows as u64).saturating_mul(8)
    }

    fn elements(self) -> usize {
        self.matrices * self.rows * self.width
    }

    /// What comes of each column, if `step` takes in pieces of rows.
    pub(crate) fn fold<A: Copy + Send + Sync>(
        self,
        init: A,
        step: impl Fn(Piece, &mut [A]) + Sync,
    ) -> Result<Vec<A>, Error> {
        let Self { matrices, rows, width } = self;
        let mut results = filled(matrices * width, init)?;
        let parts = compute::parts(compute::elements(self.elements()), results.len());
        let block = width.div_ceil(parts.div_ceil(matrices.max(1))).next_multiple_of(16).min(BLOCK);
        let strips = results.chunks_mut(width).enumerate().flat_map(|(matrix, columns)| {
            let blocks = columns.chunks_mut(block).zip((0..).step_by(block));
            blocks.map(move |(columns, first)| (matrix, first, columns))
        });
        compute::each(shared_out(strips.collect(), parts), |strips| {
            let mut looks = Looks::default();
            for (matrix, first, results) in strips {
                let columns = matrix * width + first..matrix * width + first + results.len();
                for row in 0..rows {
                    let start = (matrix * rows + row) * width + first;
                    let elements = start..start + results.len();
                    step(Piece { elements, columns: columns.clone(), matrix, row }, results);
                    looks.after(results.len())?;
                }
            }
            Ok(())
        })?;
        Ok(results)
    }

    /// Lets `fill` write what comes of each row, which is the same number of elements of a result.
    pub(crate) fn rows<U: Send>(
        self,
        out: &mut [U],
        fill: impl Fn(Piece, &mut [U]) + Sync,
    ) -> Result<(), Error> {
        let Self { matrices, rows, width } = self;
        let (count, of_row) = (matrices * rows, out.len() / (matrices * rows).max(1));
        let size = count.div_ceil(compute::parts(2 * compute::elements(self.elements()), count));
        let chunks = out.chunks_mut((size * of_row).max(1)).zip((0..).step_by(size.max(1)));
        compute::each(chunks.collect(), |(chunk, first)| {
            let mut looks = Looks::default();
            for (number, out) in (first..).zip(chunk.chunks_mut(of_row)) {
                let (matrix, row) = (number / rows, number % rows);
                let elements = number * width..(number + 1) * width;
                let columns = matrix * width..(matrix + 1) * width;
                fill(Piece { elements, columns, matrix, row }, out);
                looks.after(width)?;
            }
            Ok(())
        })
    }
}
