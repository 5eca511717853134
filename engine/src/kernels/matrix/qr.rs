//! Householder reflections and the QR decomposition, with LAPACK's signs: the diagonal of R has the sign opposite to what it
//! replaces.

use super::{add_multiple, divide, dot};
use crate::{compute, error::Error};

/// A reflection `I - factor v v^T` that maps a vector to a multiple of the first unit vector. `v` replaces the vector but
/// for its first component, which is 1; that holds the multiple. Gives the factor, 0 if nothing has to be done.
pub(super) fn reflection(x: &mut [f64]) -> f64 {
    let Some((first, rest)) = x.split_first_mut() else { return 0.0 };
    if rest.iter().all(|&x| x == 0.0) {
        return 0.0;
    }
    let scale = rest.iter().fold(first.abs(), |most, x| most.max(x.abs()));
    let squares: f64 = rest.iter().map(|x| (x / scale) * (x / scale)).sum();
    let norm = scale * (squares + (*first / scale) * (*first / scale)).sqrt();
    let multiple = if *first >= 0.0 { -norm } else { norm };
    let divisor = *first - multiple;
    divide(rest, divisor);
    let factor = (multiple - *first) / multiple;
    *first = multiple;
    factor
}

/// Applies a reflection to columns `from..to` of the rows of `c` that belong to the components of `v`; rows are `n` long.
/// `sums` is as long as a row.
pub(super) fn reflect(
    (v, factor): (impl Iterator<Item = f64> + Clone, f64),
    (c, n): (&mut [f64], usize),
    columns: std::ops::Range<usize>,
    sums: &mut [f64],
) {
    if factor == 0.0 || columns.is_empty() {
        return;
    }
    let sums = &mut sums[columns.clone()];
    sums.fill(0.0);
    for (v, row) in v.clone().zip(c.chunks_exact(n)) {
        add_multiple(sums, v, &row[columns.clone()]);
    }
    for (v, row) in v.zip(c.chunks_exact_mut(n)) {
        add_multiple(&mut row[columns.clone()], -factor * v, sums);
    }
}

/// The decomposition of a matrix of `m` rows and `n` columns.
#[derive(Debug)]
pub(crate) struct Qr<'a> {
    /// R in the upper triangle, and below it the vectors of the reflections.
    pub(crate) packed: &'a mut [f64],
    /// The factors of the reflections; as many as the shorter side.
    pub(crate) factors: &'a mut [f64],
    /// Rows.
    pub(crate) m: usize,
    /// Columns.
    pub(crate) n: usize,
}

impl Qr<'_> {
    /// Decomposes what is in `packed`. `vector` has room for a column and `sums` for a row.
    pub(crate) fn decompose(&mut self, vector: &mut [f64], sums: &mut [f64]) -> Result<(), Error> {
        let (m, n) = (self.m, self.n);
        for k in 0..m.min(n) {
            compute::check()?;
            let vector = &mut vector[..m - k];
            for (x, row) in vector.iter_mut().zip(self.packed[k * n..].chunks_exact(n)) {
                *x = row[k];
            }
            let factor = reflection(vector);
            self.factors[k] = factor;
            let v = std::iter::once(1.0).chain(vector[1..].iter().copied());
            reflect((v, factor), (&mut self.packed[k * n..], n), k + 1..n, sums);
            for (&x, row) in vector.iter().zip(self.packed[k * n..].chunks_exact_mut(n)) {
                row[k] = x;
            }
        }
        Ok(())
    }

    /// Multiplies a matrix of `m` rows and `columns` columns by Q from the left. `sums` has room for one of its rows.
    pub(crate) fn apply(
        &self,
        c: &mut [f64],
        columns: usize,
        sums: &mut [f64],
    ) -> Result<(), Error> {
        if columns == 0 {
            return Ok(());
        }
        for k in (0..self.m.min(self.n)).rev() {
            compute::check()?;
            let below = self.packed[k * self.n..].chunks_exact(self.n).skip(1).map(|row| row[k]);
            let v = std::iter::once(1.0).chain(below);
            reflect((v, self.factors[k]), (&mut c[k * columns..], columns), 0..columns, sums);
        }
        Ok(())
    }

    /// Writes the first rows of R.
    pub(crate) fn upper(&self, r: &mut [f64]) {
        if self.n == 0 {
            return;
        }
        for (i, (row, packed)) in
            r.chunks_exact_mut(self.n).zip(self.packed.chunks_exact(self.n)).enumerate()
        {
            let zeros = i.min(self.n);
            row[..zeros].fill(0.0);
            row[zeros..].copy_from_slice(&packed[zeros..]);
        }
    }
}

/// Turns a symmetric matrix into a tridiagonal one by reflections from both sides: the diagonal goes to `d` and what is
/// beside it to `e`. The matrix is replaced by the product of the reflections, transposed.
pub(super) fn tridiagonalize(
    a: &mut [f64],
    n: usize,
    d: &mut [f64],
    e: &mut [f64],
    v: &mut [f64],
    w: &mut [f64],
) -> Result<(), Error> {
    // Row k keeps its own reflection from place k + 1 on: above the diagonal, where the next steps do not look.
    for k in 0..n.saturating_sub(1) {
        compute::check()?;
        let (done, rest) = a.split_at_mut((k + 1) * n);
        let row = &mut done[k * n..];
        d[k] = row[k];
        let factor = reflection(&mut row[k + 1..]);
        e[k] = row[k + 1];
        row[k] = factor;
        if factor == 0.0 {
            continue;
        }
        let size = n - 1 - k;
        let (v, w) = (&mut v[..size], &mut w[..size]);
        v.copy_from_slice(&row[k + 1..]);
        v[0] = 1.0;
        for (w, row) in w.iter_mut().zip(rest.chunks_exact(n)) {
            *w = factor * dot(&row[k + 1..], v);
        }
        let half = 0.5 * factor * dot(w, v);
        add_multiple(w, -half, v);
        for ((&v_i, &w_i), row) in v.iter().zip(w.iter()).zip(rest.chunks_exact_mut(n)) {
            add_multiple(&mut row[k + 1..], -v_i, w);
            add_multiple(&mut row[k + 1..], -w_i, v);
        }
    }
    if n > 0 {
        d[n - 1] = a[n * n - 1];
        a[n * n - 1] = 1.0;
    }
    accumulate(a, n, v, w)
}

/// Multiplies the reflections that the rows of `a` hold, from the last to the first, into `a`: row j of the result is
/// column j of the product.
fn accumulate(a: &mut [f64], n: usize, v: &mut [f64], w: &mut [f64]) -> Result<(), Error> {
    for k in (0..n.saturating_sub(1)).rev() {
        compute::check()?;
        let size = n - 1 - k;
        let (v, w) = (&mut v[..size], &mut w[..size]);
        let (done, rest) = a.split_at_mut((k + 1) * n);
        let row = &mut done[k * n..];
        let factor = row[k];
        v.copy_from_slice(&row[k + 1..]);
        v[0] = 1.0;
        row.fill(0.0);
        row[k] = 1.0;
        for (w, row) in w.iter_mut().zip(rest.chunks_exact_mut(n)) {
            row[k] = 0.0;
            *w = factor * dot(&row[k + 1..], v);
        }
        // The product so far is transposed here, so the reflection comes from the right.
        for (&w, row) in w.iter().zip(rest.chunks_exact_mut(n)) {
            add_multiple(&mut row[k + 1..], -w, v);
        }
    }
    Ok(())
}
