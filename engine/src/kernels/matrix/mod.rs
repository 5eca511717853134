//! Decompositions of single matrices: row-major slices, in `float64` whatever the element type, so that results of
//! `float32` are right to its last digits and one set of loops serves both.
//!
//! Textbook algorithms instead of a library: those that were looked at allocate without a way to fail, or choose their
//! order of summation by the processor. Every loop here is bounded, also for NaN, and visits elements in one order.

pub(crate) mod eigen;
pub(crate) mod factor;
pub(crate) mod qr;
pub(crate) mod svd;

use crate::{array::filled, error::Error};

/// Zeros to work in.
pub(crate) fn zeros(n: usize) -> Result<Vec<f64>, Error> {
    filled(n, 0.0)
}

/// How many partial sums a dot product has: enough for the vector units of one core.
const LANES: usize = 8;

/// Sum of products, in one fixed order.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// Adds a multiple of `x` to `y`.
pub(super) fn add_multiple(y: &mut [f64], factor: f64, x: &[f64]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += factor * x;
    }
}

/// Two rows of a matrix with `n` columns; `i` is above `j`.
pub(super) fn two_rows(a: &mut [f64], n: usize, i: usize, j: usize) -> (&mut [f64], &mut [f64]) {
    let (above, below) = a.split_at_mut(j * n);
    (&mut above[i * n..(i + 1) * n], &mut below[..n])
}

/// Turns two rows by an angle: `(x, y)` becomes `(c x - s y, s x + c y)`.
pub(super) fn rotate((x, y): (&mut [f64], &mut [f64]), c: f64, s: f64) {
    for (x, y) in x.iter_mut().zip(y) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

/// Divides each element.
pub(super) fn divide(x: &mut [f64], by: f64) {
    for x in x {
        *x /= by;
    }
}

/// Multiplies each element.
pub(super) fn multiply(x: &mut [f64], by: f64) {
    for x in x {
        *x *= by;
    }
}

/// A power of two near the largest magnitude, to divide by against overflow; 1 if there is none.
pub(super) fn scale(a: &[f64]) -> f64 {
    let largest = a.iter().fold(0.0_f64, |most, x| most.max(x.abs()));
    if largest > 0.0 && largest.is_finite() { libm::exp2(libm::ilogb(largest).into()) } else { 1.0 }
}

/// The factor that makes the component of largest magnitude positive, of equals the first: vectors that are determined up
/// to their sign get one.
pub(super) fn orientation(vector: impl Iterator<Item = f64>) -> f64 {
    let largest = vector.fold(0.0_f64, |most, x| if x.abs() > most.abs() { x } else { most });
    if largest < 0.0 { -1.0 } else { 1.0 }
}

#[cfg(test)]
mod tests;
