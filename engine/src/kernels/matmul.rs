//! Matrix products with broadcast batch axes; those of floating-point numbers on `matrixmultiply` through ndarray.
//!
//! Its bits do not depend on threads, on the batch that a row sits in, or on the x86 level.

use ndarray::{ArrayView2, ArrayViewMut2, Axis, Slice, linalg::general_mat_mul};

use crate::{
    array::{Element, overwritten},
    aval::Shape,
    compute,
    error::Error,
    kernels::{
        elementwise::broadcast_walk,
        panel::{self, Matrix},
        real::Number,
    },
};

/// An operand: elements, shape of at least two axes, and whether the last two are swapped.
pub(crate) type Operand<'a, T> = (&'a [T], &'a Shape, bool);

/// A multiple of the rows that kernels compute at a time, so that only the last part of a product has a rest.
pub(crate) const ALIGNED: usize = 48;

/// Rows that parts of a product are a multiple of: so few that two cores get the same of a batch of 128.
const STRIPE: usize = 16;

/// An element that matrices may have.
pub(crate) trait Entry: Number + Element {
    /// Writes the product of two matrices.
    fn product(
        a: &ArrayView2<Self>,
        b: &ArrayView2<Self>,
        c: &mut ArrayViewMut2<Self>,
    ) -> Result<(), Error>;
}

impl Entry for f32 {
    fn product(
        a: &ArrayView2<Self>,
        b: &ArrayView2<Self>,
        c: &mut ArrayViewMut2<Self>,
    ) -> Result<(), Error> {
        let extents = (a.nrows(), a.ncols(), b.ncols());
        if let (Some(x), Some(y)) = (matrix(a), matrix(b))
            && panel::pays(extents, x, y)
            && let Some(out) = c.as_slice_mut()
        {
            return panel::product(x, y, extents, out);
        }
        general_mat_mul(1.0, a, b, 0.0, c);
        Ok(())
    }
}

/// A view as elements and distances, unless there is something between its elements.
fn matrix<'a>(view: &'a ArrayView2<f32>) -> Option<Matrix<'a>> {
    let elements = view.as_slice_memory_order()?;
    let [row, column] = [view.strides()[0], view.strides()[1]].map(isize::unsigned_abs);
    Some(Matrix { elements, row, column })
}

impl Entry for f64 {
    fn product(
        a: &ArrayView2<Self>,
        b: &ArrayView2<Self>,
        c: &mut ArrayViewMut2<Self>,
    ) -> Result<(), Error> {
        general_mat_mul(1.0, a, b, 0.0, c);
        Ok(())
    }
}

/// By hand, since ndarray's loops would panic where integers overflow.
macro_rules! integer_entry {
    ($($ty:ty),*) => {$(
        impl Entry for $ty {
            fn product(
                a: &ArrayView2<Self>,
                b: &ArrayView2<Self>,
                c: &mut ArrayViewMut2<Self>,
            ) -> Result<(), Error> {
                for (row, mut sums) in a.outer_iter().zip(c.outer_iter_mut()) {
                    sums.fill(0);
                    for (&factor, terms) in row.iter().zip(b.outer_iter()) {
                        sums.zip_mut_with(&terms, |sum, &term| *sum = sum.add(factor.mul(term)));
                    }
                }
                Ok(())
            }
        }
    )*};
}

integer_entry!(i32, i64);

/// The product, of shape `out`.
pub(crate) fn matmul<T: Entry>(
    (a, a_shape, transpose_a): Operand<T>,
    (b, b_shape, transpose_b): Operand<T>,
    out: &Shape,
) -> Result<Vec<T>, Error> {
    let count = out.elements();
    let mut result = overwritten(count)?;
    let (a_batch, a_dims) = matrices(a_shape);
    let (b_batch, b_dims) = matrices(b_shape);
    let (batch, out_dims) = matrices(out);
    let size = out_dims.0 * out_dims.1;
    if size == 0 || a_dims.0 * a_dims.1 == 0 {
        result.fill(T::ZERO);
        return Ok(result);
    }
    let mut a_at = Vec::new();
    broadcast_walk(&a_batch, &batch).each(|at| a_at.push(at))?;
    let mut b_at = Vec::new();
    broadcast_walk(&b_batch, &batch).each(|at| b_at.push(at))?;
    let terms = if transpose_a { a_dims.0 } else { a_dims.1 };
    let flops = 2 * (count as u64).saturating_mul(terms as u64);
    let rows = rows_of_a_part(flops, out_dims.0 * batch.elements(), out_dims.0);
    let mut parts = Vec::new();
    for ((matrix, &i), &j) in result.chunks_exact_mut(size).zip(&a_at).zip(&b_at) {
        let chunks = matrix.chunks_mut(rows * out_dims.1).zip((0..).step_by(rows));
        parts.extend(chunks.map(|(chunk, first)| (i, j, first, chunk)));
    }
    compute::each(parts, |(i, j, first, chunk)| {
        let shape_error = |error| Error::bug(format!("matmul: {error}"));
        let rows = chunk.len() / out_dims.1;
        let a = view(a, i, a_dims, transpose_a).map_err(shape_error)?;
        let a = a.slice_axis(Axis(0), Slice::from(first..first + rows));
        let b = view(b, j, b_dims, transpose_b).map_err(shape_error)?;
        let mut c = ArrayViewMut2::from_shape((rows, out_dims.1), chunk).map_err(shape_error)?;
        T::product(&a, &b, &mut c)
    })?;
    Ok(result)
}

/// In panels of how many rows a product is computed: whole matrices of `most` rows, unless these are too few or too large for
/// the parts that the work is best split in.
fn rows_of_a_part(flops: u64, rows: usize, most: usize) -> usize {
    let parts = compute::parts(compute::products(flops), rows.div_ceil(STRIPE));
    rows.div_ceil(parts).next_multiple_of(STRIPE).min(most)
}

fn matrices(shape: &Shape) -> (Shape, (usize, usize)) {
    let split = shape.len() - 2;
    (shape[..split].into(), (shape[split], shape[split + 1]))
}

fn view<T>(
    elements: &[T],
    at: usize,
    dims: (usize, usize),
    transposed: bool,
) -> Result<ArrayView2<'_, T>, ndarray::ShapeError> {
    let size = dims.0 * dims.1;
    let view = ArrayView2::from_shape(dims, &elements[at * size..(at + 1) * size])?;
    Ok(if transposed { view.reversed_axes() } else { view })
}
