//! Circular functions, and inverses of the tangent.

use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, PI};

use super::{
    super::{ROUND, at_most, negate_if, polynomial},
    rounded,
};

/// Up to here the formulas hold: the number of quarter turns has less than 20 bits.
const NEAR: f32 = 1_000_000.0;

/// Whether [`sin`], [`cos`] and [`tan`] hold here.
#[inline(always)]
pub(crate) fn is_near(x: f32) -> bool {
    x.abs() < NEAR
}

/// The distance to the nearest multiple of pi / 2, and the multiple.
#[inline(always)]
fn from_quarter_turn(x: f32) -> (f64, u64) {
    // pi / 2 in two parts, of which the first has 33 bits: times a number of 20 bits it is exact.
    const HIGH: f64 = 1.570_796_326_734_125_6;
    const LOW: f64 = 6.077_100_506_506_192e-11;
    let wide = f64::from(x);
    let shifted = wide * FRAC_2_PI + ROUND;
    let n = shifted - ROUND;
    ((wide - n * HIGH) - n * LOW, shifted.to_bits())
}

/// sin(r) for |r| < pi / 4, with an error of 5e-12 (fdlibm, `k_sinf.c`).
#[inline(always)]
fn sine(r: f64) -> f64 {
    const SERIES: [f64; 5] = [
        0.000_002_718_311_493_989_822,
        -0.000_198_393_348_360_966_32,
        0.008_333_329_385_889_463,
        -0.166_666_666_416_265_24,
        1.0,
    ];
    polynomial(SERIES, r * r) * r
}

/// cos(r) for |r| < pi / 4, with an error of 6e-11 (fdlibm, `k_cosf.c`).
#[inline(always)]
fn cosine(r: f64) -> f64 {
    const SERIES: [f64; 5] = [
        0.000_024_390_448_796_277_41,
        -0.001_388_676_377_460_993,
        0.041_666_623_323_739_06,
        -0.499_999_997_251_031,
        1.0,
    ];
    polynomial(SERIES, r * r)
}

/// Sine of a number that [`is_near`].
#[inline(always)]
pub(crate) fn sin(x: f32) -> f32 {
    let (r, n) = from_quarter_turn(x);
    let y = if n & 1 == 0 { sine(r) } else { cosine(r) };
    rounded(negate_if(y, n >> 1))
}

/// Cosine of a number that [`is_near`].
#[inline(always)]
pub(crate) fn cos(x: f32) -> f32 {
    let (r, n) = from_quarter_turn(x);
    let y = if n & 1 == 0 { cosine(r) } else { sine(r) };
    rounded(negate_if(y, n.wrapping_add(1) >> 1))
}

/// Tangent of a number that [`is_near`].
#[inline(always)]
pub(crate) fn tan(x: f32) -> f32 {
    let (r, n) = from_quarter_turn(x);
    let (s, c) = (sine(r), cosine(r));
    let (above, below) = if n & 1 == 0 { (s, c) } else { (-c, s) };
    rounded(above / below)
}

/// The angle of the point (x, y), between -pi and pi.
#[inline(always)]
fn angle(y: f64, x: f64) -> f64 {
    // atan(z) / z in powers of z^2 for z up to tan(pi / 8): the interpolant of degree 6, whose error is 2e-11.
    const INTERPOLANT: [f64; 7] = [
        0.047_073_481_419_680_2,
        -0.084_561_928_869_404_96,
        0.110_404_892_272_182_4,
        -0.142_815_887_726_541_25,
        0.199_998_838_565_513_04,
        -0.333_333_320_976_093_86,
        0.999_999_999_978_398_7,
    ];
    // Larger than all finite numbers by as much as infinity.
    const LARGEST: f64 = 1e300;
    let (height, width) = (at_most(y.abs(), LARGEST), at_most(x.abs(), LARGEST));
    let high = height > width;
    let (small, big) = if high { (width, height) } else { (height, width) };
    let big = if big == 0.0 { 1.0 } else { big };
    // From pi / 8 on, relative to pi / 4.
    let steep = small > big * (std::f64::consts::SQRT_2 - 1.0);
    let (above, below) = if steep { (small - big, small + big) } else { (small, big) };
    let z = above / below;
    let angle = polynomial(INTERPOLANT, z * z) * z;
    let angle = if steep { angle + FRAC_PI_4 } else { angle };
    let angle = if high { FRAC_PI_2 - angle } else { angle };
    let angle = if x.is_sign_negative() { PI - angle } else { angle };
    angle.copysign(y)
}

/// Angle of the point (x, y), between -pi and pi.
#[inline(always)]
pub(crate) fn atan2(y: f32, x: f32) -> f32 {
    rounded(angle(f64::from(y), f64::from(x)))
}

/// Inverse tangent.
#[inline(always)]
pub(crate) fn atan(x: f32) -> f32 {
    rounded(angle(f64::from(x), 1.0))
}
