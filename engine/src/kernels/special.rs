//! Special functions in double precision, where `libm` has none.
//!
//! Formulas are named where they stand: DLMF is the NIST Digital Library of Mathematical Functions, <https://dlmf.nist.gov>.

use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// The number below which a standard normal variable lies with probability `p`.
pub(crate) fn ndtri(p: f64) -> f64 {
    normal_quantile(p - 0.5, p.min(1.0 - p))
}

/// The inverse of the error function.
pub(crate) fn erfinv(x: f64) -> f64 {
    if x.abs() < 1e-8 {
        // The series begins with sqrt(pi) / 2 x, and its next term is lost in rounding.
        return x / std::f64::consts::FRAC_2_SQRT_PI;
    }
    normal_quantile(x / 2.0, (1.0 - x.abs()) / 2.0) * FRAC_1_SQRT_2
}

/// The normal quantile at 1/2 + `q`, of which `tail` is the smaller of the two sides. Both are given because one follows
/// from the other only with a loss of digits.
///
/// Wichura, "Algorithm AS 241: the percentage points of the normal distribution", 1988: relative error about 1e-16.
fn normal_quantile(q: f64, tail: f64) -> f64 {
    if tail.is_nan() || tail < 0.0 {
        return f64::NAN;
    }
    if tail == 0.0 {
        return f64::INFINITY.copysign(q);
    }
    if q.abs() <= 0.425 {
        let r = 0.180_625 - q * q;
        return q * polynomial(&CENTRE.0, r) / polynomial(&CENTRE.1, r);
    }
    let r = libm::sqrt(-libm::log(tail));
    let ((above, below), r) = if r <= 5.0 { (NEAR, r - 1.6) } else { (FAR, r - 5.0) };
    (polynomial(&above, r) / polynomial(&below, r)).copysign(q)
}

/// Numerator and denominator, from the constant on.
type Rational = ([f64; 8], [f64; 8]);

const CENTRE: Rational = (
    [
        3.387_132_872_796_366_5,
        133.141_667_891_784_38,
        1_971.590_950_306_551_3,
        13_731.693_765_509_46,
        45_921.953_931_549_87,
        67_265.770_927_008_7,
        33_430.575_583_588_13,
        2_509.080_928_730_122_7,
    ],
    [
        1.0,
        42.313_330_701_600_91,
        687.187_007_492_057_9,
        5_394.196_021_424_751,
        21_213.794_301_586_597,
        39_307.895_800_092_71,
        28_729.085_735_721_943,
        5_226.495_278_852_854,
    ],
);

const NEAR: Rational = (
    [
        1.423_437_110_749_683_5,
        4.630_337_846_156_546,
        5.769_497_221_460_691,
        3.647_848_324_763_204_5,
        1.270_458_252_452_368_4,
        0.241_780_725_177_450_6,
        0.022_723_844_989_269_184,
        7.745_450_142_783_414e-4,
    ],
    [
        1.0,
        2.053_191_626_637_759,
        1.676_384_830_183_803_8,
        0.689_767_334_985_1,
        0.148_103_976_427_480_08,
        0.015_198_666_563_616_457,
        5.475_938_084_995_345e-4,
        1.050_750_071_644_416_9e-9,
    ],
);

const FAR: Rational = (
    [
        6.657_904_643_501_103,
        5.463_784_911_164_114,
        1.784_826_539_917_291_3,
        0.296_560_571_828_504_87,
        0.026_532_189_526_576_124,
        1.242_660_947_388_078_4e-3,
        2.711_555_568_743_487_6e-5,
        2.010_334_399_292_288_1e-7,
    ],
    [
        1.0,
        0.599_832_206_555_888,
        0.136_929_880_922_735_8,
        0.014_875_361_290_850_615,
        7.868_691_311_456_133e-4,
        1.846_318_317_510_054_8e-5,
        1.421_511_758_316_446e-7,
        2.044_263_103_389_939_8e-15,
    ],
);

/// A polynomial by Horner's rule, from the constant on.
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// The second, fourth, ... of the Bernoulli numbers of the asymptotic series.
const BERNOULLI: [f64; 10] = [
    1.0 / 6.0,
    -1.0 / 30.0,
    1.0 / 42.0,
    -1.0 / 30.0,
    5.0 / 66.0,
    -691.0 / 2_730.0,
    7.0 / 6.0,
    -3_617.0 / 510.0,
    43_867.0 / 798.0,
    -174_611.0 / 330.0,
];

/// From here on the asymptotic series with those numbers are exact to rounding.
const ASYMPTOTIC: f64 = 10.0;

/// The logarithmic derivative of the gamma function; NaN at its poles 0, -1, -2, ...
pub(crate) fn digamma(x: f64) -> f64 {
    if x <= 0.0 {
        let fraction = x - x.floor();
        if fraction == 0.0 {
            return f64::NAN;
        }
        // Reflection, DLMF 5.5.4.
        return digamma(1.0 - x) - PI / libm::tan(PI * fraction);
    }
    if x == f64::INFINITY {
        return x;
    }
    // Recurrence, DLMF 5.5.2, up to where the asymptotic series, DLMF 5.11.2, holds.
    let (mut x, mut shift) = (x, 0.0);
    while x < ASYMPTOTIC {
        shift += x.recip();
        x += 1.0;
    }
    let square = (x * x).recip();
    let mut power = square;
    let mut series = 0.0;
    for (b, k) in BERNOULLI.iter().zip(1_i32..) {
        series += b * power / f64::from(2 * k);
        power *= square;
    }
    libm::log(x) - 0.5 / x - series - shift
}

/// What Stirling's formula leaves of ln gamma(x + 1) for x from 10 on, DLMF 5.11.1.
pub(crate) fn stirling_rest(x: f64) -> f64 {
    let square = (x * x).recip();
    let mut power = x.recip();
    let mut series = 0.0;
    for (b, k) in BERNOULLI.iter().zip(1_i32..) {
        series += b * power / f64::from(2 * k * (2 * k - 1));
        power *= square;
    }
    series
}

/// A small whole number to compute with.
pub(crate) fn number(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::NAN, f64::from)
}

/// The `n`-th derivative of digamma, which is `n = 0`; infinite or NaN at the poles.
pub(crate) fn polygamma(n: usize, x: f64) -> f64 {
    if n == 0 {
        return digamma(x);
    }
    // DLMF 5.15.1: (-1)^(n + 1) n! zeta(n + 1, x).
    let factorial: f64 = (1..=n).map(number).product();
    let sign = if n.is_multiple_of(2) { -1.0 } else { 1.0 };
    sign * factorial * zeta(n + 1, x)
}

/// Hurwitz' zeta function for an integer s above 1: the sum of (x + k)^-s over k = 0, 1, ...
fn zeta(s: usize, x: f64) -> f64 {
    if x > 0.0 {
        return zeta_of_positive(s, x);
    }
    let fraction = x - x.floor();
    if fraction == 0.0 {
        // At a pole one side is positive, and the other has the sign of (-1)^s.
        return if s.is_multiple_of(2) { f64::INFINITY } else { f64::NAN };
    }
    // The terms at x, x + 1, ... below zero are a finite part of the sum that goes downwards from fraction - 1.
    let below = zeta_of_positive(s, 1.0 - fraction) - zeta_of_positive(s, 1.0 - x);
    let sign = if s.is_multiple_of(2) { 1.0 } else { -1.0 };
    zeta_of_positive(s, fraction) + sign * below
}

/// By the Euler-Maclaurin formula, DLMF 25.11.5 with the remainder's series 25.11.28.
fn zeta_of_positive(s: usize, x: f64) -> f64 {
    if x == f64::INFINITY {
        return 0.0;
    }
    let s = number(s);
    let (mut sum, mut x) = (0.0, x);
    while x < ASYMPTOTIC {
        sum += libm::pow(x, -s);
        x += 1.0;
    }
    // x^-s may vanish where x^(1 - s) does not, so the latter goes first.
    let power = libm::pow(x, -s);
    sum += libm::pow(x, 1.0 - s) / (s - 1.0) + power / 2.0;
    // B_2k / (2k)! s (s + 1) ... (s + 2k - 2) x^(1 - s - 2k).
    let mut factor = power * s / x;
    for (b, k) in BERNOULLI.iter().zip(1_i32..) {
        let k2 = f64::from(2 * k);
        factor /= k2 * (k2 - 1.0);
        let term = b * factor;
        sum += term;
        if term.abs() <= sum * (f64::EPSILON / 4.0) {
            break;
        }
        factor *= (s + k2 - 1.0) * (s + k2) / (x * x);
    }
    sum
}
