//! Hyperbolic functions and their inverses.

use super::{super::at_most, exponential, logarithm_of_one_plus, rounded};

/// The exponential minus one of a number of magnitude below 700.
#[inline(always)]
fn exponential_minus_one(x: f64) -> f64 {
    let (q, s) = exponential(x);
    q * s + (s - 1.0)
}

/// Hyperbolic sine.
#[inline(always)]
pub(crate) fn sinh(x: f32) -> f32 {
    // From 90 on it is infinite.
    let m = exponential_minus_one(at_most(f64::from(x.abs()), 100.0));
    rounded((m + m / (m + 1.0)) * 0.5).copysign(x)
}

/// Hyperbolic cosine.
#[inline(always)]
pub(crate) fn cosh(x: f32) -> f32 {
    let (q, s) = exponential(at_most(f64::from(x.abs()), 100.0));
    let e = s * (q + 1.0);
    rounded((e + 1.0 / e) * 0.5)
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // From 10 on it rounds to 1.
    let m = exponential_minus_one(2.0 * at_most(f64::from(x.abs()), 10.0));
    rounded(m / (m + 2.0)).copysign(x)
}

/// Inverse hyperbolic sine.
#[inline(always)]
pub(crate) fn asinh(x: f32) -> f32 {
    // ln(x + sqrt(1 + x^2)), without a difference near 0.
    let t = f64::from(x.abs());
    let square = t * t;
    let y = rounded(logarithm_of_one_plus(t + square / ((square + 1.0).sqrt() + 1.0)));
    (if t < f64::INFINITY { y } else { x }).copysign(x)
}

/// Inverse hyperbolic cosine.
#[inline(always)]
pub(crate) fn acosh(x: f32) -> f32 {
    // ln(x + sqrt(x^2 - 1)), without a difference near 1.
    let t = f64::from(x) - 1.0;
    let y = rounded(logarithm_of_one_plus(t + (t * (t + 2.0)).sqrt()));
    if x >= 1.0 { y } else { f32::NAN }
}

/// Inverse hyperbolic tangent.
#[inline(always)]
pub(crate) fn atanh(x: f32) -> f32 {
    // ln((1 + x) / (1 - x)) / 2.
    let t = f64::from(x.abs());
    let y = rounded(logarithm_of_one_plus(2.0 * t / (1.0 - t)) * 0.5).copysign(x);
    if t <= 1.0 { y } else { f32::NAN }
}
