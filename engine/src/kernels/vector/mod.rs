//! Functions without branches, so that loops over them become vector instructions.
//!
//! Only addition, subtraction, multiplication, division, square roots, conversions and moves of bits are used, which
//! IEEE 754 fixes, and nothing is contracted; so one element gives the same bits alone, in any vector and on any processor.
//! Tests compare each function with the truth over the whole range.
//!
//! Formulas are named where they stand. Those of fdlibm are from FreeBSD's `lib/msun`, where its proofs of their error stand
//! too. Interpolants are at the nodes of Chebyshev, in 60 digits by mpmath, and say of what.

#![expect(
    clippy::inline_always,
    reason = "a call would keep the loop around it from being vectorised"
)]
#![expect(clippy::float_cmp, reason = "special values are compared exactly")]
#![expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]

pub(crate) mod double;
pub(crate) mod single;
#[cfg(test)]
mod tests;

/// Added to a number of small magnitude, 1.5 * 2^52 rounds it to an integer that then lies in the lowest bits.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// A polynomial by Horner's rule, from the highest power on.
#[inline(always)]
fn polynomial<const N: usize>(coefficients: [f64; N], x: f64) -> f64 {
    let mut sum = 0.0;
    for c in coefficients {
        sum = sum * x + c;
    }
    sum
}

/// 2^k for a `k` that is a normal exponent.
#[inline(always)]
fn power_of_two(k: u64) -> f64 {
    f64::from_bits(k.wrapping_add(1023) << 52)
}

/// A positive and normal number as `(m, k)`: it is m 2^k, and m is from sqrt(1/2) on, so that numbers near 1 have k = 0.
#[inline(always)]
fn mantissa_and_exponent(x: f64) -> (f64, f64) {
    const LOWEST: u64 = std::f64::consts::FRAC_1_SQRT_2.to_bits();
    // The exponent with its bias, which is added twice and goes again below: so it is never negative.
    let above = x.to_bits().wrapping_add((1023 << 52) - LOWEST);
    let k = f64::from_bits((above >> 52) | ROUND.to_bits()) - (ROUND + 1023.0);
    let m = f64::from_bits((above & ((1 << 52) - 1)).wrapping_add(LOWEST));
    (m, k)
}

/// Not `min`, which would lose NaN.
#[inline(always)]
fn at_most(x: f64, bound: f64) -> f64 {
    if x > bound { bound } else { x }
}

#[inline(always)]
fn at_least(x: f64, bound: f64) -> f64 {
    if x < bound { bound } else { x }
}

/// Changes the sign if the lowest bit is set.
#[inline(always)]
fn negate_if(x: f64, bit: u64) -> f64 {
    f64::from_bits(x.to_bits() ^ (bit << 63))
}

/// The number without the lower half of its bits, so that products of two such are exact.
#[inline(always)]
fn head(x: f64) -> f64 {
    f64::from_bits(x.to_bits() & !0xffff_ffff)
}

/// x^y from |x|^y, which is given for an x that is neither 0 nor infinite: signs and special values as in IEEE 754.
#[inline(always)]
fn special_power(x: f64, y: f64, magnitude: f64) -> f64 {
    // From here on all numbers are integers, and from twice that on even ones.
    const INTEGERS: f64 = 4_503_599_627_370_496.0;
    let size = y.abs();
    let large = size >= INTEGERS;
    let shifted = if large { size } else { size + INTEGERS };
    let integer = large | (shifted - INTEGERS == size);
    let odd = integer & (size < 2.0 * INTEGERS);
    let odd = if odd { shifted.to_bits() & 1 } else { 0 };

    let (zero, infinite) = (x == 0.0, x.abs() == f64::INFINITY);
    let limit = if zero == (y < 0.0) { f64::INFINITY } else { 0.0 };
    let power = if zero | infinite { limit } else { magnitude };
    let power = negate_if(power, (x.to_bits() >> 63) & odd);
    let power = if (x < 0.0) & !infinite & !integer { f64::NAN } else { power };
    let power = if x.is_nan() | y.is_nan() { f64::NAN } else { power };
    if (y == 0.0) | (x == 1.0) { 1.0 } else { power }
}
