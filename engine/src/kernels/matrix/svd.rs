//! Singular values and vectors by one-sided Jacobi rotations: slower than bidiagonal methods by a small factor, but simple,
//! and small singular values come out with their leading digits right (Demmel and Veselic 1992).

use super::{add_multiple, divide, dot, multiply, orientation, rotate, two_rows};
use crate::{compute, error::Error};

/// Most sweeps over all pairs of rows. Convergence is quadratic; ten are many.
const MAX_SWEEPS: usize = 60;

/// Squares of rows that count as zero, where the largest element is about 1: nothing is left of their products.
const NEGLIGIBLE: f64 = 1e-280;

/// The decomposition of a square matrix `r` whose rows are replaced by the right singular vectors; `left` gets the left ones,
/// as rows too. Values are from the largest down. Whether the method converged; it does for all finite numbers, and for no
/// others.
///
/// The matrix should be the R of a QR decomposition: its rows are closer to orthogonal.
pub(crate) fn svd(
    r: &mut [f64],
    n: usize,
    values: &mut [f64],
    left: &mut [f64],
) -> Result<bool, Error> {
    left.fill(0.0);
    (0..n).for_each(|i| left[i * n + i] = 1.0);
    let factor = super::scale(r);
    divide(r, factor);
    if !r.iter().all(|x| x.is_finite()) || !converge(r, left, n)? {
        return Ok(false);
    }
    for (value, row) in values.iter_mut().zip(r.chunks_exact(n.max(1))) {
        let square = dot(row, row);
        *value = if square < NEGLIGIBLE { 0.0 } else { square.sqrt() };
    }
    sort(r, left, n, values);
    let rank = values.iter().take_while(|&&value| value > 0.0).count();
    for (row, &value) in r.chunks_exact_mut(n.max(1)).zip(values.iter()).take(rank) {
        divide(row, value);
    }
    complete(r, n, rank)?;
    for (row, left) in r.chunks_exact_mut(n.max(1)).zip(left.chunks_exact_mut(n.max(1))) {
        let sign = orientation(row.iter().copied());
        row.iter_mut().chain(left).for_each(|x| *x *= sign);
    }
    multiply(values, factor);
    Ok(true)
}

/// Sweeps until all rows are orthogonal to each other. Whether they are in the end.
fn converge(r: &mut [f64], left: &mut [f64], n: usize) -> Result<bool, Error> {
    for _ in 0..MAX_SWEEPS {
        if !sweep(r, left, n)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes each pair of rows orthogonal, one after the other. Whether any was not yet.
fn sweep(r: &mut [f64], left: &mut [f64], n: usize) -> Result<bool, Error> {
    // What rounding leaves of the product of orthogonal unit vectors.
    #[expect(clippy::cast_precision_loss, reason = "matrices are far smaller than 2^52")]
    let tolerance = f64::EPSILON * (n as f64).sqrt();
    let mut turned = false;
    for i in 0..n {
        compute::check()?;
        for j in i + 1..n {
            let (x, y) = two_rows(r, n, i, j);
            let (a, b, c) = (dot(x, x), dot(y, y), dot(x, y));
            if a.min(b) >= NEGLIGIBLE && c.abs() > tolerance * a.sqrt() * b.sqrt() {
                turned = true;
                let half = (b - a) / (2.0 * c);
                let tangent = 1.0_f64.copysign(half) / (half.abs() + libm::hypot(half, 1.0));
                let cosine = 1.0 / libm::hypot(tangent, 1.0);
                let sine = cosine * tangent;
                rotate((x, y), cosine, sine);
                rotate(two_rows(left, n, i, j), cosine, sine);
            }
        }
    }
    Ok(turned)
}

/// Orders values, and their rows, from the largest down.
fn sort(r: &mut [f64], left: &mut [f64], n: usize, values: &mut [f64]) {
    for i in 0..n {
        let most = (i + 1..n).fold(i, |at, j| if values[j] > values[at] { j } else { at });
        if most != i {
            values.swap(i, most);
            for rows in [&mut *r, &mut *left] {
                let (upper, lower) = two_rows(rows, n, i, most);
                upper.swap_with_slice(lower);
            }
        }
    }
}

/// Replaces the rows from `rank` on by unit vectors orthogonal to all before: each time what is left of the axis that the
/// others leave most of.
fn complete(rows: &mut [f64], n: usize, rank: usize) -> Result<(), Error> {
    for k in rank..n {
        compute::check()?;
        let (known, rest) = rows.split_at_mut(k * n);
        let row = &mut rest[..n];
        row.fill(1.0);
        for other in known.chunks_exact(n) {
            row.iter_mut().zip(other).for_each(|(left, x)| *left -= x * x);
        }
        let axis = (0..n).fold(0, |best, i| if row[i] > row[best] { i } else { best });
        row.fill(0.0);
        row[axis] = 1.0;
        // Twice: once leaves errors where little is left of the axis.
        for _ in 0..2 {
            for other in known.chunks_exact(n) {
                let share = dot(row, other);
                add_multiple(row, -share, other);
            }
        }
        let norm = dot(row, row).sqrt();
        divide(row, norm);
    }
    Ok(())
}
