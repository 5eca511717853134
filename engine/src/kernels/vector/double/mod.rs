//! Functions of `float64`.

mod circular;
mod error;
mod power;

pub(crate) use circular::{cos, is_near, sin, tan};
pub(crate) use error::{erf, erfc};
pub(crate) use power::pow;

use std::f64::consts::LOG2_E;

use super::{ROUND, at_least, at_most, mantissa_and_exponent, polynomial, power_of_two};

/// ln(2) in two parts (Cody and Waite), of which the first has 32 bits: times an exponent it is exact.
const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// The exponential of x + `rest` for an x of magnitude below 1100 as `(q, k)`: it is 2^k (q + 1), q is accurate near 0, and k
/// is an integer of two's complement.
#[inline(always)]
fn exponential(x: f64, rest: f64) -> (f64, u64) {
    // (e^r - 1 - r) / r^2 for |r| < ln(2) / 2: the interpolant of degree 10, whose error is 6e-19.
    const INTERPOLANT: [f64; 11] = [
        2.091_468_696_808_687_6e-9,
        2.510_521_700_472_074_5e-8,
        0.000_000_275_572_736_431_103,
        0.000_002_755_725_540_020_642_2,
        0.000_024_801_587_325_547_743,
        0.000_198_412_698_748_206_27,
        0.001_388_888_888_888_374_8,
        0.008_333_333_333_326_136,
        0.041_666_666_666_666_67,
        0.166_666_666_666_666_7,
        0.5,
    ];
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let high = x - n * LN_2_HIGH;
    let low = rest - n * LN_2_LOW;
    let r = high + low;
    // What rounding took from r.
    let lost = (high - r) + low;
    let q = r + (r * r * polynomial(INTERPOLANT, r) + (lost + lost * r));
    (q, shifted.to_bits().wrapping_sub(ROUND.to_bits()))
}

/// 2^k x. In two factors, since k may be more than the largest exponent and less than the smallest.
#[inline(always)]
fn scaled(x: f64, k: u64) -> f64 {
    // Halved without its sign, as vectors of the baseline cannot shift with it.
    let half = (k.wrapping_add(1 << 12) >> 1).wrapping_sub(1 << 11);
    x * power_of_two(half) * power_of_two(k.wrapping_sub(half))
}

/// Exponential, within 0.8 units in the last place.
#[inline(always)]
pub(crate) fn exp(x: f64) -> f64 {
    // Beyond these bounds the result is infinite or 0.
    let (q, k) = exponential(at_least(at_most(x, 710.0), -746.0), 0.0);
    scaled(q + 1.0, k)
}

/// Exponential minus one, within 1.4 units in the last place.
#[inline(always)]
pub(crate) fn exp_m1(x: f64) -> f64 {
    let (q, k) = exponential(at_least(at_most(x, 710.0), -50.0), 0.0);
    // Half of it, since 2^k may be more than the largest number.
    let half = power_of_two(k.wrapping_sub(1));
    let y = (q * half + (half - 0.5)) * 2.0;
    // Numbers near 0 have lost their last bit or their sign.
    if x.abs() < f64::EPSILON / 4.0 { x } else { y }
}

/// ln(1 + f) + k ln(2) + `rest`, by the formula of fdlibm's `log` and `log1p`; f is from sqrt(1/2) - 1 to sqrt(2) - 1.
#[inline(always)]
fn logarithm(f: f64, k: f64, rest: f64) -> f64 {
    // (2 artanh(s) - 2 s) / s in powers of s^2, a minimax polynomial.
    const ODD: [f64; 4] = [
        0.147_981_986_051_165_86,
        0.181_835_721_616_180_5,
        0.285_714_287_436_623_9,
        0.666_666_666_666_673_5,
    ];
    const EVEN: [f64; 3] =
        [0.153_138_376_992_093_73, 0.222_221_984_321_497_84, 0.399_999_999_994_094_2];
    let s = f / (f + 2.0);
    let z = s * s;
    let w = z * z;
    let r = polynomial(ODD, w) * z + polynomial(EVEN, w) * w;
    let half_square = 0.5 * f * f;
    s * (half_square + r) + (k * LN_2_LOW + rest) - half_square + f + k * LN_2_HIGH
}

/// Natural logarithm, within 0.8 units in the last place.
#[inline(always)]
pub(crate) fn ln(x: f64) -> f64 {
    const SCALE: f64 = 18_014_398_509_481_984.0; // 2^54
    let tiny = x < f64::MIN_POSITIVE;
    let (m, k) = mantissa_and_exponent(if tiny { x * SCALE } else { x });
    let y = logarithm(m - 1.0, if tiny { k - 54.0 } else { k }, 0.0);
    let y = if x > 0.0 { y } else { f64::NAN };
    let y = if x == 0.0 { f64::NEG_INFINITY } else { y };
    if x < f64::INFINITY { y } else { x }
}

/// Natural logarithm of a positive and normal number.
#[inline(always)]
pub(super) fn ln_of_normal(x: f64) -> f64 {
    let (m, k) = mantissa_and_exponent(x);
    logarithm(m - 1.0, k, 0.0)
}

/// Natural logarithm of one plus x, within 0.9 units in the last place.
#[inline(always)]
pub(crate) fn ln_1p(x: f64) -> f64 {
    let sum = x + 1.0;
    let (m, k) = mantissa_and_exponent(sum);
    // What rounding took from the sum, by which the logarithm is corrected.
    let lost = if k >= 2.0 { 1.0 - (sum - x) } else { x - (sum - 1.0) };
    let rest = if k < 54.0 { lost / sum } else { 0.0 };
    // Near 0 nothing need be rounded.
    let near = k == 0.0;
    let y = logarithm(if near { x } else { m - 1.0 }, k, if near { 0.0 } else { rest });
    // The sums have lost the sign of -0.
    let y = if x == 0.0 { x } else { y };
    let y = if x > -1.0 { y } else { f64::NAN };
    let y = if x == -1.0 { f64::NEG_INFINITY } else { y };
    if x < f64::INFINITY { y } else { x }
}

/// Hyperbolic tangent, within 2 units in the last place.
#[inline(always)]
pub(crate) fn tanh(x: f64) -> f64 {
    // From 20 on it rounds to 1.
    let (q, k) = exponential(2.0 * at_most(x.abs(), 20.0), 0.0);
    let s = power_of_two(k);
    let m = q * s + (s - 1.0);
    let sum = m + 2.0;
    let y = m / sum;
    // What rounding took from the sum, times its reciprocal.
    let lost = if m < 2.0 { m - (sum - 2.0) } else { 2.0 - (sum - m) };
    (y - y * (lost * (0.5 * (1.0 - y)))).copysign(x)
}

/// Logistic sigmoid, within 1.8 units in the last place.
#[inline(always)]
pub(crate) fn sigmoid(x: f64) -> f64 {
    let e = exp(-x.abs());
    let sum = e + 1.0;
    let negative = x < 0.0;
    let y = (if negative { e } else { 1.0 }) / sum;
    // What rounding took from the sum, times its reciprocal.
    let lost = (e - (sum - 1.0)) * (if negative { 1.0 - y } else { y });
    y - y * lost
}
