//! Sine, cosine and tangent.

use std::f64::consts::FRAC_2_PI;

use super::super::{ROUND, negate_if, polynomial};

/// Up to here the formulas hold: the number of quarter turns has less than 20 bits.
const NEAR: f64 = 1_000_000.0;

/// Whether [`sin`], [`cos`] and [`tan`] hold here.
#[inline(always)]
pub(crate) fn is_near(x: f64) -> bool {
    x.abs() < NEAR
}

/// The distance to the nearest multiple of pi / 2 as a sum of a number and its rest, and the multiple.
#[inline(always)]
fn from_quarter_turn(x: f64) -> (f64, f64, u64) {
    // pi / 2 in parts of 33 bits, of which each times a number of 20 bits is exact, and what is left (fdlibm, `e_rem_pio2.c`).
    const PARTS: [f64; 4] = [
        1.570_796_326_734_125_6,
        6.077_100_506_303_966e-11,
        2.022_266_248_711_166_5e-21,
        8.478_427_660_368_9e-32,
    ];
    let shifted = x * FRAC_2_PI + ROUND;
    let n = shifted - ROUND;
    let first = x - n * PARTS[0];
    let (second, lost) = difference(first, n * PARTS[1]);
    let (third, lost_again) = difference(second, n * PARTS[2]);
    let rest = lost + lost_again - n * PARTS[3];
    let r = third + rest;
    (r, (third - r) + rest, shifted.to_bits())
}

/// x - y as a sum of a number and what rounding took from it (Knuth, "The art of computer programming", volume 2, 4.2.2).
#[inline(always)]
fn difference(x: f64, y: f64) -> (f64, f64) {
    let d = x - y;
    let taken = x - d;
    (d, (taken - y) + (x - (d + taken)))
}

/// sin(r + `rest`) for |r| < pi / 4 (fdlibm, `k_sin.c`).
#[inline(always)]
fn sine(r: f64, rest: f64) -> f64 {
    const CUBE: f64 = -0.166_666_666_666_666_32;
    const HIGHER: [f64; 5] = [
        1.589_690_995_211_55e-10,
        -2.505_076_025_340_686_3e-8,
        0.000_002_755_731_370_707_006_8,
        -0.000_198_412_698_298_579_5,
        0.008_333_333_333_322_49,
    ];
    let z = r * r;
    let v = z * r;
    r - ((z * (0.5 * rest - v * polynomial(HIGHER, z)) - rest) - v * CUBE)
}

/// cos(r + `rest`) for |r| < pi / 4 (fdlibm, `k_cos.c`).
#[inline(always)]
fn cosine(r: f64, rest: f64) -> f64 {
    const HIGHER: [f64; 6] = [
        -1.135_964_755_778_819_5e-11,
        2.087_572_321_298_175e-9,
        -0.000_000_275_573_143_513_906_63,
        0.000_024_801_587_289_476_73,
        -0.001_388_888_888_887_411,
        0.041_666_666_666_666_6,
    ];
    let z = r * r;
    let half = 0.5 * z;
    let w = 1.0 - half;
    w + (((1.0 - w) - half) + (z * (z * polynomial(HIGHER, z)) - r * rest))
}

/// Sine of a number that [`is_near`], within 0.8 units in the last place.
#[inline(always)]
pub(crate) fn sin(x: f64) -> f64 {
    let (r, rest, n) = from_quarter_turn(x);
    let y = if n & 1 == 0 { sine(r, rest) } else { cosine(r, rest) };
    // The sums have lost the sign of -0.
    if x == 0.0 { x } else { negate_if(y, n >> 1) }
}

/// Cosine of a number that [`is_near`], within 0.8 units in the last place.
#[inline(always)]
pub(crate) fn cos(x: f64) -> f64 {
    let (r, rest, n) = from_quarter_turn(x);
    let y = if n & 1 == 0 { cosine(r, rest) } else { sine(r, rest) };
    negate_if(y, n.wrapping_add(1) >> 1)
}

/// Tangent of a number that [`is_near`], within 1.9 units in the last place.
#[inline(always)]
pub(crate) fn tan(x: f64) -> f64 {
    let (r, rest, n) = from_quarter_turn(x);
    let (s, c) = (sine(r, rest), cosine(r, rest));
    let y = if n & 1 == 0 { s / c } else { -c / s };
    if x == 0.0 { x } else { y }
}
