//! Functions of `float32`.
//!
//! All but [`exp`] compute in double precision and round once, which needs no care with the last bits: their error is below
//! 0.51 units in the last place, and that of `exp` below 1.01.

mod circular;
mod hyperbolic;

pub(crate) use circular::{atan, atan2, cos, is_near, sin, tan};
pub(crate) use hyperbolic::{acosh, asinh, atanh, cosh, sinh, tanh};

use std::f64::consts::{LN_2, LOG2_E};

use super::{
    ROUND, at_least, at_most, double, mantissa_and_exponent, polynomial, power_of_two,
    special_power,
};

/// Added to a number of small magnitude, 1.5 * 2^23 rounds it to an integer that then lies in the lowest bits.
const ROUND_SINGLE: f32 = 12_582_912.0;

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
    let shifted = x * LOG2_E + ROUND;
    let r = x - (shifted - ROUND) * LN_2;
    let k = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    (polynomial(SERIES, r) * r, power_of_two(k))
}

/// The natural logarithm of a positive, finite and normal number.
#[inline(always)]
fn logarithm(x: f64) -> f64 {
    // 2 artanh(s) / s in powers of s^2, below 1e-11 of the result for the mantissas that occur.
    const SERIES: [f64; 7] =
        [2.0 / 13.0, 2.0 / 11.0, 2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0, 2.0];
    let (mantissa, n) = mantissa_and_exponent(x);
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    n * LN_2 + polynomial(SERIES, s * s) * s
}

#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "rounds to nearest")]
fn rounded(x: f64) -> f32 {
    x as f32
}

/// Exponential. In single precision, since it is what softmax spends its time on.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond these bounds the result is infinite or 0. The latter is chosen in the end: products that underflow take long.
    let is_low = x < -105.0;
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if is_low { 0.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND_SINGLE;
    let n = shifted - ROUND_SINGLE;
    // ln(2) in two parts (Cody and Waite), of which the first times n is exact.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let mut sum = 1.0_f32 / 5_040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        sum = sum * r + c;
    }
    let sum = sum * r * r + r + 1.0;
    // 2^n in two factors, since n may be more than the largest exponent and less than the smallest.
    let n = shifted.to_bits().wrapping_sub(ROUND_SINGLE.to_bits()).cast_signed();
    let half = n >> 1;
    let power = |k: i32| f32::from_bits(k.wrapping_add(127).cast_unsigned() << 23);
    let y = sum * power(half) * power(n.wrapping_sub(half));
    if is_low { 0.0 } else { y }
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

/// Natural logarithm of one plus x, for an x above -1.
#[inline(always)]
fn logarithm_of_one_plus(x: f64) -> f64 {
    let sum = x + 1.0;
    // What rounding took from the sum comes back by the quotient (Kahan).
    let rest = sum - 1.0;
    let y = logarithm(sum) * (x / rest);
    let y = if rest == 0.0 { x } else { y };
    if x < f64::INFINITY { y } else { x }
}

/// Natural logarithm of one plus x.
#[inline(always)]
pub(crate) fn ln_1p(x: f32) -> f32 {
    let y = rounded(logarithm_of_one_plus(f64::from(x)));
    let y = if x >= -1.0 { y } else { f32::NAN };
    if x == -1.0 { f32::NEG_INFINITY } else { y }
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

/// Complement of the error function.
#[inline(always)]
pub(crate) fn erfc(x: f32) -> f32 {
    // (1 + 2 x) exp(x^2) erfc(x) in powers of t = (x - 3) / (x + 3) for x up to 10.1: the interpolant of degree 12, whose
    // error is 6e-11. More on the function stands at that of double precision.
    const INTERPOLANT: [f64; 13] = [
        0.000_034_572_030_227_321_06,
        0.000_130_725_651_952_286_56,
        -0.000_124_308_833_850_517_5,
        -0.000_792_116_839_939_698_9,
        0.001_891_907_006_061_679,
        0.002_533_731_251_188_923_4,
        -0.023_770_358_394_307_637,
        0.068_307_416_101_561_46,
        -0.119_273_736_791_288_98,
        0.129_645_193_574_440_15,
        -0.047_562_290_221_121_35,
        -0.135_621_106_702_200_87,
        1.253_008_058_239_098_8,
    ];
    // From 10.1 on it rounds to 0.
    let wide = at_most(f64::from(x.abs()), 11.0);
    let t = (wide - 3.0) / (wide + 3.0);
    let (q, s) = exponential(-(wide * wide));
    let y = polynomial(INTERPOLANT, t) * (s * (q + 1.0)) / (wide * 2.0 + 1.0);
    rounded(if x < 0.0 { 2.0 - y } else { y })
}

/// Power; special values are those of IEEE 754.
#[inline(always)]
pub(crate) fn pow(x: f32, y: f32) -> f32 {
    let (x, y) = (f64::from(x), f64::from(y));
    // The product may be a hundred, which multiplies the error of the logarithm.
    let log = double::ln_of_normal(x.abs());
    let bounded = at_least(at_most(y, f32::MAX.into()), f32::MIN.into());
    let (q, s) = exponential(at_least(at_most(log * bounded, 110.0), -110.0));
    rounded(special_power(x, y, s * (q + 1.0)))
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
