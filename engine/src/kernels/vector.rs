//! Functions of `float32` without branches, so that loops over them become vector instructions.
//!
//! All but [`exp`] compute in double precision and round once, which needs no care with the last bits: their error is below
//! 0.51 units in the last place, and that of `exp` below 1.01. Only addition, multiplication, division and moves of bits
//! are used, which IEEE 754 fixes, and nothing is contracted; so one element gives the same bits alone, in any vector and on
//! any processor. A test compares each with `libm` in double precision over the whole range.

#![expect(
    clippy::inline_always,
    reason = "a call would keep the loop around it from being vectorised"
)]
#![expect(clippy::float_cmp, reason = "special values are compared exactly")]

use std::f64::consts::{LN_2, LOG2_E};

/// Added to a number of small magnitude, 1.5 * 2^23 rounds it to an integer that then lies in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// The same for double precision: 1.5 * 2^52.
const ROUND_WIDE: f64 = 6_755_399_441_055_744.0;

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

/// The exponential of a number of magnitude below 700 as `(q, s)`: it is s (q + 1), and q is accurate near 0.
#[inline(always)]
fn exponential(x: f64) -> (f64, f64) {
    // The series up to x^9, below 1e-11 of the result for |r| < ln(2) / 2.
    const SERIES: [f64; 9] = [
        1.0 / 362_880.0,
        1.0 / 40_320.0,
        1.0 / 5_040.0,
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
    ];
    let shifted = x * LOG2_E + ROUND_WIDE;
    let r = x - (shifted - ROUND_WIDE) * LN_2;
    let k = shifted.to_bits().wrapping_sub(ROUND_WIDE.to_bits());
    (polynomial(SERIES, r) * r, power_of_two(k))
}

/// The natural logarithm of a positive, finite and normal number.
#[inline(always)]
fn logarithm(x: f64) -> f64 {
    // 2 artanh(s) / s in powers of s^2, below 1e-11 of the result for the mantissas that occur.
    const SERIES: [f64; 7] =
        [2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0];
    // The mantissa is taken from sqrt(1/2) on, so that numbers near 1 have exponent 0.
    let bits = x.to_bits();
    let above = bits.wrapping_sub(std::f64::consts::FRAC_1_SQRT_2.to_bits());
    let exponent = ((above.cast_signed()) >> 52).cast_unsigned();
    let mantissa = f64::from_bits(bits.wrapping_sub(exponent << 52));
    let n = f64::from_bits(exponent.wrapping_add(ROUND_WIDE.to_bits())) - ROUND_WIDE;
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    n * LN_2 + polynomial(SERIES, s * s) * s
}

#[inline(always)]
fn at_most(x: f64, bound: f64) -> f64 {
    // Not `min`, which would lose NaN.
    if x > bound { bound } else { x }
}

#[inline(always)]
fn at_least(x: f64, bound: f64) -> f64 {
    if x < bound { bound } else { x }
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "rounds to nearest")]
fn rounded(x: f64) -> f32 {
    x as f32
}

/// Exponential. In single precision, since it is what softmax spends its time on.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond these bounds the result is infinite or 0.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -105.0 { -105.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln(2) in two parts (Cody and Waite), of which the first times n is exact.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut sum = 1.0_f32 / 5_040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        sum = sum * r + c;
    }
    let sum = sum * r * r + r + 1.0;
    // 2^n in two factors, since n may be more than the largest exponent and less than the smallest.
    let n = shifted.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    let half = n >> 1;
    let power = |k: i32| f32::from_bits(k.wrapping_add(127).cast_unsigned() << 23);
    sum * power(half) * power(n.wrapping_sub(half))
}

/// Exponential minus one.
#[inline(always)]
pub(crate) fn exp_m1(x: f32) -> f32 {
    let (q, s) = exponential(at_least(at_most(f64::from(x), 100.0), -100.0));
    let y = rounded(q * s + (s - 1.0));
    // The sum has lost the sign of -0.
    if x == 0.0 { x } else { y }
}

/// Natural logarithm.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    let y = rounded(logarithm(f64::from(x)));
    let y = if x > 0.0 { y } else { f32::NAN };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x < f32::INFINITY { y } else { x }
}

/// Natural logarithm of one plus x.
#[inline(always)]
pub(crate) fn ln_1p(x: f32) -> f32 {
    let wide = f64::from(x);
    let sum = wide + 1.0;
    // What rounding took from the sum comes back by the quotient (Kahan).
    let rest = sum - 1.0;
    let y = rounded(logarithm(sum) * (wide / rest));
    let y = if rest == 0.0 { x } else { y };
    let y = if x > -1.0 { y } else { f32::NAN };
    let y = if x == -1.0 { f32::NEG_INFINITY } else { y };
    if x < f32::INFINITY { y } else { x }
}

/// Hyperbolic tangent.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // From 10 on it rounds to 1.
    let (q, s) = exponential(2.0 * at_most(f64::from(x.abs()), 10.0));
    let m = q * s + (s - 1.0);
    rounded(m / (m + 2.0)).copysign(x)
}

/// Logistic sigmoid.
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    let (q, s) = exponential(at_least(at_most(-f64::from(x), 110.0), -110.0));
    rounded(1.0 / (s * (q + 1.0) + 1.0))
}

/// Error function.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    // erf(x) / x in powers of (x^2 - 8) / 8 for |x| <= 4: the Chebyshev interpolant of degree 18, computed with mpmath. Its
    // error is 4e-10 of the result.
    const INTERPOLANT: [f64; 19] = [
        9.403_812_402_468_554e-5,
        -0.000_246_421_999_809_835_05,
        0.000_173_229_676_308_065_08,
        -0.000_325_519_685_609_414_86,
        0.001_410_152_598_130_207,
        -0.002_909_712_861_587_973_3,
        0.004_774_946_489_167_603_5,
        -0.008_384_044_356_366_693,
        0.014_381_038_603_613_836,
        -0.022_562_558_254_619_065,
        0.033_053_291_738_967_594,
        -0.045_744_312_685_399_67,
        0.059_887_829_575_686_27,
        -0.074_730_486_795_578_17,
        0.090_208_941_343_430_26,
        -0.107_710_292_886_507_6,
        0.131_675_117_775_807_95,
        -0.176_576_235_800_390_56,
        0.353_530_995_643_404_95,
    ];
    // From 4 on it rounds to 1.
    let wide = at_least(at_most(f64::from(x), 4.0), -4.0);
    rounded(polynomial(INTERPOLANT, wide * wide * 0.125 - 1.0) * wide)
}

/// The probability that a standard normal variable is below x; its absolute error is below 3e-7. In single precision, by the
/// quotient of polynomials that Eigen has for the error function.
#[inline(always)]
pub(crate) fn normal_cdf(x: f32) -> f32 {
    const ABOVE: [f32; 6] = [
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_4e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BELOW: [f32; 4] = [-2.133_740_6e-4, -1.682_827e-3, -7.373_329_4e-3, -1.426_473_9e-2];
    let t = x * std::f32::consts::FRAC_1_SQRT_2;
    let t = if t > 4.0 { 4.0 } else { t };
    let t = if t < -4.0 { -4.0 } else { t };
    let square = t * t;
    let (mut above, mut below) = (-2.726_142e-10_f32, -1.456_607_2e-5_f32);
    for c in ABOVE {
        above = above * square + c;
    }
    for c in BELOW {
        below = below * square + c;
    }
    // A probability, however rounding falls; and 0 or 1 at the ends, since it is multiplied by what may be infinite.
    let y = 0.5 + 0.5 * (t * above / below);
    let y = if y < 0.0 || t <= -4.0 { 0.0 } else { y };
    if y > 1.0 || t >= 4.0 { 1.0 } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is tested, an oracle in double precision, and the largest error in units in the last place.
    type Row = (&'static str, fn(f32) -> f32, fn(f64) -> f64, f64);

    const TABLE: &[Row] = &[
        ("exp", exp, libm::exp, 1.01),
        ("exp_m1", exp_m1, libm::expm1, 0.51),
        ("ln", ln, libm::log, 0.51),
        ("ln_1p", ln_1p, libm::log1p, 0.51),
        ("tanh", tanh, libm::tanh, 0.51),
        ("sigmoid", sigmoid, |x| 1.0 / (libm::exp(-x) + 1.0), 0.51),
        ("erf", erf, libm::erf, 0.51),
    ];

    /// The distance from the truth in units in the last place of the truth.
    #[expect(clippy::cast_possible_truncation, reason = "the nearest number is wanted")]
    fn distance(y: f32, truth: f64) -> f64 {
        let nearest = truth as f32;
        if y == nearest && !y.is_finite() || y.is_nan() && truth.is_nan() {
            return 0.0;
        }
        // The two numbers that the truth lies between.
        let bits = nearest.abs().to_bits().min(f32::MAX.to_bits() - 1);
        let below =
            if f64::from(nearest.abs()) > truth.abs() { bits.saturating_sub(1) } else { bits };
        let unit = f64::from(f32::from_bits(below + 1)) - f64::from(f32::from_bits(below));
        ((f64::from(y) - truth) / unit).abs()
    }

    #[test]
    fn functions_are_as_accurate_as_they_say() {
        let edges = [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX];
        let patterns = (0..=u32::MAX).step_by(1_009).map(f32::from_bits);
        let inputs: Vec<f32> = edges.into_iter().chain(patterns).collect();
        for &(name, f, oracle, bound) in TABLE {
            let (mut worst, mut at) = (0.0, 0.0);
            for &x in &inputs {
                let error = distance(f(x), oracle(f64::from(x)));
                assert!(!error.is_nan(), "{name}({x:e}) is {:e}", f(x));
                if error > worst {
                    (worst, at) = (error, x);
                }
            }
            assert!(worst <= bound, "{name}({at:e}) is wrong by {worst} units in the last place");
        }
    }

    #[test]
    fn the_normal_distribution_is_accurate_in_absolute_terms() {
        for x in (0..=u32::MAX).step_by(10_007).map(f32::from_bits).filter(|x| !x.is_nan()) {
            let truth = 0.5 * libm::erfc(-f64::from(x) * std::f64::consts::FRAC_1_SQRT_2);
            let error = (f64::from(normal_cdf(x)) - truth).abs();
            assert!(error < 3e-7, "of {x:e} it is wrong by {error:e}");
        }
        assert!(normal_cdf(f32::NAN).is_nan());
        assert_eq!([normal_cdf(-6.0), normal_cdf(6.0)], [0.0, 1.0]);
    }

    #[test]
    fn zeros_keep_their_sign() {
        for f in [exp_m1, ln_1p, tanh, erf] {
            assert_eq!(f(-0.0).to_bits(), (-0.0_f32).to_bits());
            assert_eq!(f(0.0).to_bits(), 0);
        }
    }
}
