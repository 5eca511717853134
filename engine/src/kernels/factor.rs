//! Second factors that are made ready once for several products.

use ndarray::{ArrayViewMut2, LinalgScalar, ShapeBuilder, linalg::general_mat_mul};

use crate::{
    array::buffer,
    compute::{self, Looks},
    error::Error,
    kernels::{
        matmul::{Entry, misshapen, view},
        panel::{self, Extents, Matrix},
    },
};

/// The second factor of some products: panels, or rows where these are not ours to multiply.
#[derive(Debug)]
pub(crate) struct Factor<T> {
    elements: Vec<T>,
    terms: usize,
    columns: usize,
}

/// The rows of a product that lie so far apart.
pub(crate) type Rows<'a, T> = (&'a mut [T], usize);

impl<T: Packs> Factor<T> {
    /// Room for so many terms and columns.
    pub(crate) fn new(terms: usize, columns: usize) -> Result<Self, Error> {
        Ok(Self { elements: buffer(elements(terms, columns))?, terms: 0, columns: 0 })
    }

    /// Takes a matrix of so many terms and columns in place of what was there.
    pub(crate) fn take(&mut self, b: Matrix<T>, terms: usize, columns: usize) -> Result<(), Error> {
        self.elements.clear();
        (self.terms, self.columns) = (terms, columns);
        T::pack(b, (terms, columns), &mut self.elements)
    }

    /// Writes the product of a matrix and as many terms and columns as are asked for.
    pub(crate) fn product(
        &self,
        a: Matrix<T>,
        extents: Extents,
        out: Rows<T>,
    ) -> Result<(), Error> {
        let (rows, terms, columns) = extents;
        if terms > 0 && columns > 0 {
            return T::multiply(a, self, extents, out, false);
        }
        let (out, distance) = out;
        out.chunks_mut(distance.max(1)).take(rows).for_each(|row| row[..columns].fill(T::ZERO));
        Ok(())
    }

    /// Adds it to what is there.
    pub(crate) fn add_product(
        &self,
        a: Matrix<T>,
        extents: Extents,
        out: Rows<T>,
    ) -> Result<(), Error> {
        let (_, terms, columns) = extents;
        if terms > 0 && columns > 0 { T::multiply(a, self, extents, out, true) } else { Ok(()) }
    }
}

/// Elements that there is room for.
pub(crate) fn elements(terms: usize, columns: usize) -> usize {
    terms * columns.next_multiple_of(panel::WIDTH)
}

/// An element whose matrices can be made ready.
pub(crate) trait Packs: Entry {
    /// Appends so many terms and columns, as `multiply` reads them.
    fn pack(b: Matrix<Self>, side: (usize, usize), into: &mut Vec<Self>) -> Result<(), Error>;

    /// Writes a product or adds it.
    fn multiply(
        a: Matrix<Self>,
        b: &Factor<Self>,
        extents: Extents,
        out: Rows<Self>,
        adds: bool,
    ) -> Result<(), Error>;
}

impl Packs for f32 {
    fn pack(
        b: Matrix<Self>,
        (terms, columns): (usize, usize),
        into: &mut Vec<Self>,
    ) -> Result<(), Error> {
        if panel::has_fused() && b.row == 1 {
            return panel::pack_turned(b.elements, terms, b.column, columns, into);
        }
        if panel::has_fused() {
            let rows = (0..terms).map(|term| term * b.row);
            return panel::pack(b.elements, &rows, b.column, columns, into);
        }
        copy(b, (terms, columns), into)
    }

    fn multiply(
        a: Matrix<Self>,
        b: &Factor<Self>,
        extents: Extents,
        out: Rows<Self>,
        adds: bool,
    ) -> Result<(), Error> {
        if panel::has_fused() {
            return panel::times_panels(a, (&b.elements, b.terms), extents, out, adds);
        }
        general(a, b, extents, out, adds)
    }
}

impl Packs for f64 {
    fn pack(b: Matrix<Self>, side: (usize, usize), into: &mut Vec<Self>) -> Result<(), Error> {
        copy(b, side, into)
    }

    fn multiply(
        a: Matrix<Self>,
        b: &Factor<Self>,
        extents: Extents,
        out: Rows<Self>,
        adds: bool,
    ) -> Result<(), Error> {
        general(a, b, extents, out, adds)
    }
}

/// Appends a matrix, row by row.
fn copy<T: Copy>(
    b: Matrix<T>,
    (terms, columns): (usize, usize),
    into: &mut Vec<T>,
) -> Result<(), Error> {
    let mut looks = Looks::default();
    for term in 0..terms {
        into.extend((0..columns).map(|column| b.elements[term * b.row + column * b.column]));
        looks.after(columns)?;
    }
    Ok(())
}

/// By `matrixmultiply`.
fn general<T: LinalgScalar>(
    a: Matrix<T>,
    b: &Factor<T>,
    (rows, terms, columns): Extents,
    (out, distance): Rows<T>,
    adds: bool,
) -> Result<(), Error> {
    compute::check()?;
    let b = Matrix { elements: &b.elements, row: b.columns, column: 1 };
    let strided = (rows, columns).strides((distance, 1));
    let mut c = ArrayViewMut2::from_shape(strided, out).map_err(misshapen)?;
    let before = if adds { T::one() } else { T::zero() };
    general_mat_mul(
        T::one(),
        &view(a, (rows, terms))?,
        &view(b, (terms, columns))?,
        before,
        &mut c,
    );
    Ok(())
}
