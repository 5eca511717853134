//! Triangular factors: Cholesky, LU with partial pivoting, and substitution.

use super::{add_multiple, divide, dot};
use crate::{compute, error::Error};

/// Replaces a matrix, whose lower triangle alone is read, by its Cholesky factor. Whether it is positive definite.
pub(crate) fn cholesky(a: &mut [f64], n: usize) -> Result<bool, Error> {
    for i in 0..n {
        compute::check()?;
        let (above, row) = a.split_at_mut(i * n);
        for j in 0..i {
            let other = &above[j * n..=j * n + j];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let pivot = row[i] - dot(&row[..i], &row[..i]);
        if pivot.is_nan() || pivot <= 0.0 {
            return Ok(false);
        }
        row[i] = pivot.sqrt();
        row[i + 1..n].fill(0.0);
    }
    Ok(true)
}

/// Replaces a matrix by its factors: U in the upper triangle, L without its diagonal of ones below. Row i of the factors
/// is row `order[i]` of the matrix. Gives the sign of that permutation.
///
/// A column without a pivot leaves a zero on the diagonal.
pub(crate) fn lu(a: &mut [f64], n: usize, order: &mut [usize]) -> Result<f64, Error> {
    for (i, place) in order.iter_mut().enumerate() {
        *place = i;
    }
    let mut sign = 1.0;
    for k in 0..n {
        compute::check()?;
        let magnitude = |a: &[f64], i: usize| a[i * n + k].abs();
        let pivot = (k + 1..n)
            .fold(k, |best, i| if magnitude(a, i) > magnitude(a, best) { i } else { best });
        if pivot != k {
            let (upper, lower) = super::two_rows(a, n, k, pivot);
            upper.swap_with_slice(lower);
            order.swap(k, pivot);
            sign = -sign;
        }
        let (done, below) = a.split_at_mut((k + 1) * n);
        let top = &done[k * n..];
        if top[k] == 0.0 {
            continue;
        }
        for row in below.chunks_exact_mut(n) {
            let factor = row[k] / top[k];
            row[k] = factor;
            add_multiple(&mut row[k + 1..], -factor, &top[k + 1..]);
        }
    }
    Ok(sign)
}

/// Whether all pivots of a triangular matrix can be divided by. NaN cannot.
pub(crate) fn is_invertible(a: &[f64], n: usize) -> bool {
    (0..n).all(|i| a[i * n + i].abs() > 0.0)
}

/// Which triangle of a matrix a substitution reads, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Triangle {
    /// Whether it is the lower one.
    pub(crate) lower: bool,
    /// Whether the triangle is transposed.
    pub(crate) transposed: bool,
    /// Whether its diagonal is taken for ones.
    pub(crate) unit: bool,
}

/// Solves `triangle x = b` in place; `x` has `m` columns.
pub(crate) fn substitute(
    a: &[f64],
    n: usize,
    triangle: Triangle,
    x: &mut [f64],
    m: usize,
) -> Result<(), Error> {
    let Triangle { lower, transposed, unit } = triangle;
    let forward = lower != transposed;
    for step in 0..n {
        compute::check()?;
        let i = if forward { step } else { n - 1 - step };
        let solved = if forward { 0..i } else { i + 1..n };
        for k in solved {
            let coefficient = if transposed { a[k * n + i] } else { a[i * n + k] };
            let (above, below) = super::two_rows(x, m, i.min(k), i.max(k));
            let (row, known) = if i < k { (above, below) } else { (below, above) };
            add_multiple(row, -coefficient, known);
        }
        if !unit {
            divide(&mut x[i * m..(i + 1) * m], a[i * n + i]);
        }
    }
    Ok(())
}

/// Solves `a x = b`, or with the transpose of `a`, from the factors of `a`. `b` and `x` have `m` columns.
pub(crate) fn solve(
    (factors, order): (&[f64], &[usize]),
    transposed: bool,
    b: &[f64],
    x: &mut [f64],
    m: usize,
) -> Result<(), Error> {
    let n = order.len();
    let lower = Triangle { lower: true, transposed, unit: true };
    let upper = Triangle { lower: false, transposed, unit: false };
    if !transposed {
        for (i, &place) in order.iter().enumerate() {
            x[i * m..(i + 1) * m].copy_from_slice(&b[place * m..(place + 1) * m]);
        }
        substitute(factors, n, lower, x, m)?;
        return substitute(factors, n, upper, x, m);
    }
    x.copy_from_slice(b);
    substitute(factors, n, upper, x, m)?;
    substitute(factors, n, lower, x, m)?;
    // Row i of what is solved belongs to row `order[i]`: follow each cycle of the permutation without more memory.
    permute_back(order, x, m);
    Ok(())
}

/// Moves row i to row `order[i]`.
fn permute_back(order: &[usize], x: &mut [f64], m: usize) {
    for start in 0..order.len() {
        // Each cycle is turned once, from its smallest member.
        let mut at = order[start];
        while at > start {
            at = order[at];
        }
        if at < start {
            continue;
        }
        let mut at = order[start];
        while at != start {
            let (first, other) = super::two_rows(x, m, start, at);
            first.swap_with_slice(other);
            at = order[at];
        }
    }
}
