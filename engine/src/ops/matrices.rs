//! The last two axes of a tensor as matrices: their extents, and the words of their derivative rules.

use crate::{
    attrs::Ints,
    aval::Shape,
    error::Error,
    graph::Var,
    kernels::real::Real,
    op::Call,
    ops::{
        BAND_PART, Band, DIAG, DIAG_PART, DIVIDE_NO_NAN, Diag, Diagonal, Permutation, SLICE, Slice,
        TRANSPOSE,
    },
};

/// Extents of a stack of matrices.
#[derive(Debug)]
pub(super) struct Matrices {
    /// Extents before the last two.
    pub(super) batch: Shape,
    /// Rows of each matrix.
    pub(super) rows: usize,
    /// Columns of each matrix.
    pub(super) columns: usize,
}

impl Matrices {
    /// The matrices in a tensor.
    pub(super) fn of(shape: &Shape) -> Result<Self, Error> {
        let [batch @ .., rows, columns] = &shape[..] else {
            return Err(invalid(shape, "matrices have two axes or more"));
        };
        Ok(Self { batch: batch.into(), rows: *rows, columns: *columns })
    }

    /// The same for square matrices.
    pub(super) fn square(shape: &Shape) -> Result<Self, Error> {
        let all = Self::of(shape)?;
        if all.rows == all.columns {
            Ok(all)
        } else {
            Err(invalid(shape, "the matrices must be square"))
        }
    }

    /// The matrices of a call that was accepted.
    pub(super) fn priced(call: &Call) -> Self {
        Self::of(&call.inputs[0].shape).unwrap_or(Self {
            batch: Shape::scalar(),
            rows: 0,
            columns: 0,
        })
    }

    /// The batch and other extents.
    pub(super) fn with(&self, tail: &[usize]) -> Shape {
        self.batch.iter().chain(tail).copied().collect()
    }

    /// How many matrices there are.
    pub(super) fn count(&self) -> usize {
        self.batch.elements()
    }

    /// Elements of a matrix.
    pub(super) fn area(&self) -> u64 {
        (self.rows as u64).saturating_mul(self.columns as u64)
    }

    /// The cube of the number of rows.
    #[expect(clippy::cast_precision_loss, reason = "it is for estimates")]
    pub(super) fn cube(&self) -> f64 {
        (self.rows as f64).powi(3)
    }

    /// Copies the matrix at a position, transposed.
    pub(super) fn load_transposed<T: Real>(&self, x: &[T], position: usize, into: &mut [f64]) {
        let from = &x[position * into.len()..(position + 1) * into.len()];
        for (j, row) in into.chunks_exact_mut(self.rows.max(1)).enumerate() {
            let column = from.iter().skip(j).step_by(self.columns);
            row.iter_mut().zip(column).for_each(|(to, from)| *to = from.wide());
        }
    }
}

/// Copies the matrix at a position.
pub(super) fn load<T: Real>(x: &[T], position: usize, into: &mut [f64]) {
    let from = &x[position * into.len()..(position + 1) * into.len()];
    into.iter_mut().zip(from).for_each(|(to, from)| *to = from.wide());
}

fn invalid(shape: &Shape, why: &'static str) -> Error {
    Error::InvalidShape { shape: shape.to_i64().as_slice().into(), why }
}

// --- the language of the rules ---

/// Rows and columns swapped.
pub(super) fn transposed(x: Var<'_>) -> Var<'_> {
    let rank = x.shape().len();
    let mut perm: Ints = Shape::from((0..rank).collect::<Vec<_>>().as_slice()).to_i64();
    if rank >= 2 {
        perm.swap(rank - 2, rank - 1);
    }
    x.op(&TRANSPOSE, Permutation { perm }.write(), &[])
}

/// The sum of a matrix and its transpose.
pub(super) fn with_transposed(x: Var<'_>) -> Var<'_> {
    x + transposed(x)
}

/// The diagonals that are named; all on a side if negative.
pub(super) fn band(x: Var<'_>, num_lower: i64, num_upper: i64) -> Var<'_> {
    x.op(&BAND_PART, Band { num_lower, num_upper }.write(), &[])
}

/// The part below the diagonal.
pub(super) fn below(x: Var<'_>) -> Var<'_> {
    band(x, -1, 0) - band(x, 0, 0)
}

/// The part below the diagonal and half of that.
pub(super) fn half(x: Var<'_>) -> Var<'_> {
    band(x, -1, 0) - band(x, 0, 0) * 0.5
}

/// Diagonals.
pub(super) fn diag_part(x: Var<'_>) -> Var<'_> {
    x.op(&DIAG_PART, Diagonal { k: 0 }.write(), &[])
}

/// Diagonal matrices.
pub(super) fn diag(x: Var<'_>) -> Var<'_> {
    x.op(&DIAG, Diag { k: 0, num_rows: -1, num_cols: -1 }.write(), &[])
}

/// Vectors as rows: they broadcast over the rows of matrices.
pub(super) fn row(x: Var<'_>) -> Var<'_> {
    let mut shape = x.shape();
    shape.insert(shape.len().saturating_sub(1), 1);
    x.reshape(&shape)
}

/// Vectors as columns, or numbers as one-element vectors.
pub(super) fn column(x: Var<'_>) -> Var<'_> {
    let mut shape = x.shape();
    shape.push(1);
    x.reshape(&shape)
}

/// Reciprocals, and 0 of 0.
pub(super) fn reciprocal(x: Var<'_>) -> Var<'_> {
    x.ones().zip(&DIVIDE_NO_NAN, x)
}

/// The sum of each matrix' elements, in a shape that broadcasts to matrices.
pub(super) fn total(x: Var<'_>) -> Var<'_> {
    let rank = x.shape().len();
    x.sum_keep(&[rank.saturating_sub(2), rank.saturating_sub(1)])
}

/// Rows or columns from `begin` up to but not including `end`, of the axis that counts from the end.
pub(super) fn part(x: Var<'_>, from_end: usize, begin: usize, end: usize) -> Var<'_> {
    let mut size = x.shape();
    let axis = size.len().saturating_sub(from_end);
    if begin == 0 && end == size[axis] {
        return x;
    }
    let mut first = Shape::from(vec![0; size.len()].as_slice());
    first.set(axis, begin);
    size.set(axis, end - begin);
    x.op(&SLICE, Slice { begin: first.to_i64(), size: size.to_i64() }.write(), &[])
}

/// Zeros behind the rows or columns, up to an extent.
pub(super) fn extended(x: Var<'_>, from_end: usize, extent: usize) -> Var<'_> {
    let mut shape = x.shape();
    let axis = shape.len().saturating_sub(from_end);
    let Some(more) = extent.checked_sub(shape[axis]).filter(|&more| more > 0) else { return x };
    shape.set(axis, more);
    let zeros = x.graph().full(&crate::aval::Aval { dtype: x.dtype(), shape }, 0.0);
    joined(x, from_end, zeros)
}

/// Two tensors side by side.
pub(super) fn joined<'g>(x: Var<'g>, from_end: usize, y: Var<'g>) -> Var<'g> {
    let axis = -i64::try_from(from_end).unwrap_or(1);
    x.op(&crate::ops::CONCAT, crate::ops::Join { axis }.write(), &[y])
}
