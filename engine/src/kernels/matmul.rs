//! Matrix products with broadcast batch axes; those of floating-point numbers on `matrixmultiply` through ndarray.
//!
//! Its bits do not depend on threads, on the batch that a row sits in, or on the x86 level.

use std::ops::Range;

use ndarray::{
    ArrayView2, ArrayViewMut2, LinalgScalar, ShapeBuilder, ShapeError, linalg::general_mat_mul,
};

use crate::{
    array::{Element, buffer, filled, overwritten},
    aval::Shape,
    compute,
    error::Error,
    kernels::{
        elementwise::broadcast_walk,
        panel::{self, Extents, MAX_TERMS, Matrix},
        real::Number,
    },
};

/// An operand: elements, shape of at least two axes, and whether the last two are swapped.
pub(crate) type Operand<'a, T> = (&'a [T], &'a Shape, bool);

/// A multiple of the rows that kernels compute at a time, so that only the last part of a product has a rest.
pub(crate) const ALIGNED: usize = 48;

/// Rows that parts of a product are a multiple of: so few that two cores get the same of a batch of 128.
pub(crate) const STRIPE: usize = 16;

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

fn view<T: Copy>(matrix: Matrix<'_, T>, shape: (usize, usize)) -> Result<ArrayView2<'_, T>, Error> {
    let strided = shape.strides((matrix.row, matrix.column));
    ArrayView2::from_shape(strided, matrix.elements).map_err(misshapen)
}

#[expect(clippy::needless_pass_by_value, reason = "as errors are mapped")]
fn misshapen(error: ShapeError) -> Error {
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
pub(crate) fn matmul<T: Entry>(a: Operand<T>, b: Operand<T>, out: &Shape) -> Result<Vec<T>, Error> {
    let mut result = overwritten(out.elements())?;
    if out.elements() == 0 || a.1.elements() == 0 {
        result.fill(T::ZERO);
        return Ok(result);
    }
    let product = Product::new(a, b, out)?;
    let Product { rows, terms, columns, .. } = product;
    let size = rows_of_a_part(product.flops(), product.rows(), rows);
    let mut parts = Vec::new();
    for (i, matrix) in result.chunks_exact_mut(rows * columns).enumerate() {
        let chunks = matrix.chunks_mut(size * columns).zip((0..).step_by(size));
        parts.extend(chunks.map(|(chunk, first)| (i, first, chunk)));
    }
    compute::each(parts, |(i, first, chunk)| {
        let [a, b] = product.factors(i, first);
        T::product(a, b, (chunk.len() / columns, terms, columns), chunk)
    })?;
    Ok(result)
}

/// A product of batches of matrices, neither of which is empty.
pub(crate) struct Product<'a, T> {
    a: Operand<'a, T>,
    b: Operand<'a, T>,
    /// Which matrix of either makes each of the result.
    pairs: Vec<[usize; 2]>,
    /// Extents of a matrix of the result.
    rows: usize,
    columns: usize,
    /// Terms of each sum.
    terms: usize,
}

impl<'a, T> Product<'a, T> {
    /// The product of two operands, of shape `out`.
    pub(crate) fn new(a: Operand<'a, T>, b: Operand<'a, T>, out: &Shape) -> Result<Self, Error> {
        let (batch, (rows, columns)) = matrices(out);
        let (a_batch, a_dims) = matrices(a.1);
        let mut pairs = buffer(batch.elements())?;
        broadcast_walk(&a_batch, &batch).each(|at| pairs.push([at; 2]))?;
        let mut next = pairs.iter_mut();
        broadcast_walk(&matrices(b.1).0, &batch).each(|at| {
            next.next().into_iter().for_each(|pair| pair[1] = at);
        })?;
        let terms = if a.2 { a_dims.0 } else { a_dims.1 };
        Ok(Self { a, b, pairs, rows, columns, terms })
    }

    /// Rows of all matrices of the result.
    pub(crate) fn rows(&self) -> usize {
        self.pairs.len() * self.rows
    }

    /// Columns of the result.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Arithmetic operations that it takes.
    pub(crate) fn flops(&self) -> u64 {
        let sums = (self.rows() as u64).saturating_mul(self.columns as u64);
        sums.saturating_mul(2 * self.terms as u64)
    }

    /// The factors of the rows of a matrix of the result from one on.
    fn factors(&self, i: usize, first: usize) -> [Matrix<'a, T>; 2] {
        let [(a, at), (b, bt)] = [(self.a, self.pairs[i][0]), (self.b, self.pairs[i][1])];
        let [a, b] = [matrix(a, at), matrix(b, bt)];
        [Matrix { elements: &a.elements[first * a.row..], ..a }, b]
    }
}

impl Product<'_, f32> {
    /// Computes some rows, counted through the batch, a few at a time, and shows them before they are overwritten by the
    /// next ones, from the first to the last. `visit` is given the memory and how many elements of it are of the product.
    pub(crate) fn in_pieces(
        &self,
        rows: Range<usize>,
        mut visit: impl FnMut(&mut Vec<f32>, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (terms, columns) = (self.terms, self.columns);
        let mut piece = filled(rows.len().min(rows_of_a_piece(self.rows)) * columns, 0.0)?;
        let mut next = rows.start;
        while next < rows.end {
            let (i, first) = (next / self.rows, next % self.rows);
            let count = (self.rows - first).min(rows.end - next);
            let [a, b] = self.factors(i, first);
            let extents = (count, terms, columns);
            if terms <= MAX_TERMS && panel::pays(extents, a, b) {
                panel::product_in_pieces(a, b, extents, &mut piece, &mut visit)?;
            } else {
                for first in (0..count).step_by(panel::BLOCK) {
                    let count = panel::BLOCK.min(count - first);
                    let a = Matrix { elements: &a.elements[first * a.row..], ..a };
                    let elements = count * columns;
                    f32::product(a, b, (count, terms, columns), &mut piece[..elements])?;
                    visit(&mut piece, elements)?;
                }
            }
            next += count;
        }
        Ok(())
    }
}

/// How many rows of matrices of so many are computed at a time where they are used at once.
fn rows_of_a_piece(rows: usize) -> usize {
    rows.min(panel::BLOCK)
}

/// Bytes of the memory for the rows that are computed at a time, if it costs nothing to compute a product so.
pub(crate) fn pieces(
    (a, transpose_a): (&Shape, bool),
    (b, transpose_b): (&Shape, bool),
    out: &Shape,
) -> Option<u64> {
    let operand = |shape, transposed| {
        let (_, (rows, columns)) = matrices(shape);
        let (row, column) = if transposed { (1, columns) } else { (columns, 1) };
        ((rows, columns), Matrix::<f32> { elements: &[], row, column })
    };
    let ((a_dims, a), (_, b)) = (operand(a, transpose_a), operand(b, transpose_b));
    let (_, (rows, columns)) = matrices(out);
    let terms = if transpose_a { a_dims.0 } else { a_dims.1 };
    // What fits into one piece packs nothing twice, however it is computed.
    let pays = rows <= panel::BLOCK && columns <= panel::MAX_COLUMNS
        || terms <= MAX_TERMS && panel::pays((rows, terms, columns), a, b);
    let elements = rows_of_a_piece(rows) as u64 * columns as u64 * compute::MAX_WIDTH as u64;
    let all = out.elements() as u64;
    (pays && terms > 0 && all > 0).then(|| elements.min(all) * size_of::<f32>() as u64)
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

/// One matrix of an operand, with rows for columns if it is transposed.
fn matrix<T>((elements, shape, transposed): Operand<'_, T>, at: usize) -> Matrix<'_, T> {
    let (_, (rows, columns)) = matrices(shape);
    let elements = &elements[at * rows * columns..(at + 1) * rows * columns];
    let (row, column) = if transposed { (1, columns) } else { (columns, 1) };
    Matrix { elements, row, column }
}
