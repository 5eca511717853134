//! Matrix products with broadcast batch axes; those of floating-point numbers on `matrixmultiply` through ndarray.
//!
//! Its bits do not depend on threads, on the batch that a row sits in, or on the x86 level.

use ndarray::{
    ArrayView2, ArrayViewMut2, LinalgScalar, ShapeBuilder, ShapeError, linalg::general_mat_mul,
};

use crate::{
    array::{Element, overwritten},
    aval::Shape,
    compute,
    error::Error,
    kernels::{
        elementwise::broadcast_walk,
        panel::{self, Extents, Matrix},
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
    /// Writes the product of two matrices, row by row.
    fn product(
        a: Matrix<Self>,
        b: Matrix<Self>,
        extents: Extents,
        out: &mut [Self],
    ) -> Result<(), Error>;
}

impl Entry for f32 {
    fn product(
        a: Matrix<Self>,
        b: Matrix<Self>,
        extents: Extents,
        out: &mut [Self],
    ) -> Result<(), Error> {
        if panel::pays(extents, a, b) {
            return panel::product(a, b, extents, out);
        }
        general(a, b, extents, out)
    }
}

impl Entry for f64 {
    fn product(
        a: Matrix<Self>,
        b: Matrix<Self>,
        extents: Extents,
        out: &mut [Self],
    ) -> Result<(), Error> {
        general(a, b, extents, out)
    }
}

/// By `matrixmultiply`.
fn general<T: LinalgScalar>(
    a: Matrix<T>,
    b: Matrix<T>,
    (rows, terms, columns): Extents,
    out: &mut [T],
) -> Result<(), Error> {
    let mut c = ArrayViewMut2::from_shape((rows, columns), out).map_err(misshapen)?;
    general_mat_mul(
        T::one(),
        &view(a, (rows, terms))?,
        &view(b, (terms, columns))?,
        T::zero(),
        &mut c,
    );
    Ok(())
}

pub(crate) fn view<T: Copy>(
    matrix: Matrix<'_, T>,
    shape: (usize, usize),
) -> Result<ArrayView2<'_, T>, Error> {
    let strided = shape.strides((matrix.row, matrix.column));
    ArrayView2::from_shape(strided, matrix.elements).map_err(misshapen)
}

#[expect(clippy::needless_pass_by_value, reason = "as errors are mapped")]
pub(crate) fn misshapen(error: ShapeError) -> Error {
    Error::bug(format!("matmul: {error}"))
}

/// By hand, since ndarray's loops would panic where integers overflow.
macro_rules! integer_entry {
    ($($ty:ty),*) => {$(
        impl Entry for $ty {
            fn product(
                a: Matrix<Self>,
                b: Matrix<Self>,
                (rows, terms, columns): Extents,
                out: &mut [Self],
            ) -> Result<(), Error> {
                let (a, b) = (view(a, (rows, terms))?, view(b, (terms, columns))?);
                for (row, sums) in a.outer_iter().zip(out.chunks_exact_mut(columns)) {
                    sums.fill(0);
                    for (&factor, terms) in row.iter().zip(b.outer_iter()) {
                        for (sum, &term) in sums.iter_mut().zip(terms) {
                            *sum = sum.add(factor.mul(term));
                        }
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
    let (a_batch, a_dims) = matrices(a_shape);
    let (b_batch, b_dims) = matrices(b_shape);
    let (batch, out_dims) = matrices(out);
    if !transpose_a && is_tall(&a_batch, &b_batch, &batch) && batch.elements() > 1 {
        let tall = |rows: usize, columns: usize| Shape::from([batch.elements() * rows, columns]);
        let (a_tall, out_tall) = (tall(a_dims.0, a_dims.1), tall(out_dims.0, out_dims.1));
        let one = Shape::from([b_dims.0, b_dims.1]);
        return matmul((a, &a_tall, false), (b, &one, transpose_b), &out_tall);
    }
    let count = out.elements();
    let mut result = overwritten(count)?;
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
        let a = matrix(a, i, a_dims, transpose_a);
        let a = Matrix { elements: &a.elements[first * a.row..], ..a };
        let extents = (chunk.len() / out_dims.1, terms, out_dims.1);
        T::product(a, matrix(b, j, b_dims, transpose_b), extents, chunk)
    })?;
    Ok(result)
}

/// Whether a batch of products is one, since all rows of the first factors meet the same second factor: by the batch axes of
/// the factors and of their product.
pub(crate) fn is_tall(a: &[usize], b: &[usize], out: &[usize]) -> bool {
    b.iter().all(|&extent| extent == 1) && a.iter().product::<usize>() == out.iter().product()
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

/// One matrix of a batch, with rows for columns if it is transposed.
fn matrix<T>(
    elements: &[T],
    at: usize,
    (rows, columns): (usize, usize),
    transposed: bool,
) -> Matrix<'_, T> {
    let elements = &elements[at * rows * columns..(at + 1) * rows * columns];
    let (row, column) = if transposed { (1, columns) } else { (columns, 1) };
    Matrix { elements, row, column }
}
