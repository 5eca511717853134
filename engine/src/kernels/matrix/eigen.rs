//! Eigenvalues and eigenvectors of symmetric matrices: Householder's tridiagonal form, then the QL method with implicit
//! shifts.

use super::{divide, multiply, orientation, qr::tridiagonalize, rotate, scale, two_rows};
use crate::{compute, error::Error};

/// Most steps for one eigenvalue. Two are usual, and LAPACK stops at as many.
const MAX_STEPS: usize = 30;

/// Where a decomposition works: all as long as the matrix has rows.
#[derive(Debug)]
pub(crate) struct Workspace<'a> {
    /// Beside the diagonal.
    pub(crate) beside: &'a mut [f64],
    /// A vector.
    pub(crate) v: &'a mut [f64],
    /// Another.
    pub(crate) w: &'a mut [f64],
}

/// The eigenvalues of a matrix, whose lower triangle alone is read, from the smallest up. The matrix is replaced by its
/// eigenvectors: row i is that of value i. Whether the method converged; it does for all finite numbers.
pub(crate) fn eigh(
    a: &mut [f64],
    n: usize,
    values: &mut [f64],
    work: &mut Workspace,
) -> Result<bool, Error> {
    for i in 0..n {
        for j in 0..i {
            a[j * n + i] = a[i * n + j];
        }
    }
    let factor = scale(a);
    divide(a, factor);
    tridiagonalize(a, n, values, work.beside, work.v, work.w)?;
    if !iterate(values, work.beside, a, n)? {
        return Ok(false);
    }
    sort(a, n, values);
    for (row, value) in a.chunks_exact_mut(n.max(1)).zip(values.iter_mut()) {
        let sign = orientation(row.iter().copied());
        multiply(row, sign);
        *value *= factor;
    }
    Ok(true)
}

/// Removes what is beside the diagonal, and turns the rows of `vectors` along.
fn iterate(d: &mut [f64], e: &mut [f64], vectors: &mut [f64], n: usize) -> Result<bool, Error> {
    for l in 0..n {
        for step in 0..=MAX_STEPS {
            compute::check()?;
            let small = |m: usize| e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs());
            let m = (l..n - 1).find(|&m| small(m)).unwrap_or(n - 1);
            if m == l {
                break;
            }
            if step == MAX_STEPS {
                return Ok(false);
            }
            chase(d, e, vectors, n, l..m);
        }
    }
    Ok(d.iter().all(|value| value.is_finite()))
}

/// One step on a block without zeros beside its diagonal: rotations from its end to its begin.
fn chase(
    d: &mut [f64],
    e: &mut [f64],
    vectors: &mut [f64],
    n: usize,
    block: std::ops::Range<usize>,
) {
    let (l, m) = (block.start, block.end);
    let half = (d[l + 1] - d[l]) / (2.0 * e[l]);
    let root = libm::hypot(half, 1.0);
    let mut g = d[m] - d[l] + e[l] / (half + root.copysign(half));
    let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
    for i in block.rev() {
        let (f, b) = (s * e[i], c * e[i]);
        let r = libm::hypot(f, g);
        e[i + 1] = r;
        if r == 0.0 {
            // Underflow: the block falls apart here, and the next step sees two.
            d[i + 1] -= p;
            e[m] = 0.0;
            return;
        }
        (s, c) = (f / r, g / r);
        g = d[i + 1] - p;
        let r = (d[i] - g) * s + 2.0 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        rotate(two_rows(vectors, n, i, i + 1), c, s);
    }
    d[l] -= p;
    e[l] = g;
    e[m] = 0.0;
}

/// Orders values, and their rows, from the smallest up.
fn sort(vectors: &mut [f64], n: usize, values: &mut [f64]) {
    for i in 0..n {
        let least = (i + 1..n).fold(i, |at, j| if values[j] < values[at] { j } else { at });
        if least != i {
            values.swap(i, least);
            let (upper, lower) = two_rows(vectors, n, i, least);
            upper.swap_with_slice(lower);
        }
    }
}
