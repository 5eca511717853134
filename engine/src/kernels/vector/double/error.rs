//! The error function and its complement.

use super::{
    super::{at_most, head, polynomial},
    exponential, scaled,
};

/// The error function for a number from 0 to 1.
#[inline(always)]
fn near(x: f64) -> f64 {
    // erf(x) / x - 1 in powers of x^2 up to 1: the interpolant of degree 12, whose error is 2e-17.
    const INTERPOLANT: [f64; 13] = [
        5.957_176_147_748_911e-11,
        -1.137_284_885_679_167_4e-9,
        1.465_977_527_404_743_6e-8,
        -0.000_000_163_503_127_010_546_95,
        0.000_001_646_100_048_412_136_8,
        -0.000_014_925_595_266_831_182,
        0.000_120_553_311_116_427_1,
        -0.000_854_832_698_083_379,
        0.005_223_977_624_818_014_5,
        -0.026_866_170_645_076_792,
        0.112_837_916_709_548_79,
        -0.376_126_389_031_837_5,
        0.128_379_167_095_512_6,
    ];
    x + x * polynomial(INTERPOLANT, x * x)
}

/// The complement for a number from 1/2 to 28.
#[inline(always)]
fn complement(x: f64) -> f64 {
    // (1 + 2 x) exp(x^2) erfc(x) - 1 in powers of t = (x - 4) / (x + 4) for x from 0.5 to 27.3: the interpolant of degree 20,
    // whose error is 5e-17. The function is that of Shepherd and Laframboise, "Chebyshev approximation of
    // (1 + 2x)exp(x^2)erfc x in 0 <= x < infinity", 1981.
    const INTERPOLANT: [f64; 21] = [
        -8.891_398_935_544_22e-9,
        7.426_377_402_304_186e-8,
        5.792_614_482_531_497e-8,
        -0.000_000_782_109_156_839_456_4,
        0.000_000_310_087_920_002_477_6,
        0.000_005_679_437_570_378_39,
        -0.000_011_231_459_677_642_308,
        -0.000_024_386_029_828_776_703,
        0.000_150_625_083_645_765,
        -0.000_199_260_348_997_103_7,
        -0.000_757_774_062_670_002_4,
        0.005_031_970_616_503_217,
        -0.016_197_733_950_016_176,
        0.037_167_515_470_124_78,
        -0.066_330_365_820_852_46,
        0.093_732_835_002_270_12,
        -0.101_039_066_035_953_67,
        0.068_097_054_254_587_67,
        0.015_379_652_102_614_244,
        -0.139_621_116_840_561_7,
        0.232_995_118_625_552_53,
    ];
    let f = polynomial(INTERPOLANT, (x - 4.0) / (x + 4.0));
    // exp(-x^2) as 2^k (q + 1): the square of the first digits of x is exact (fdlibm, `s_erf.c`).
    let head = head(x);
    let (q, k) = exponential(-(head * head), (head - x) * (head + x));
    let product = q + f + q * f + 1.0;
    let twice = x * 2.0;
    let sum = twice + 1.0;
    let y = product / sum;
    // What rounding took from the sum changes the quotient so little that a part of its reciprocal's digits is enough.
    let lost = 1.0 - (sum - twice);
    scaled(y - y * (lost * reciprocal(sum)), k)
}

/// The reciprocal in single precision.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "few digits are wanted")]
fn reciprocal(x: f64) -> f64 {
    f64::from(1.0 / x as f32)
}

/// Error function, within 1.4 units in the last place.
#[inline(always)]
pub(crate) fn erf(x: f64) -> f64 {
    let size = x.abs();
    // From 6 on it rounds to 1.
    let far = 1.0 - complement(at_most(size, 6.0));
    (if size < 1.0 { near(size) } else { far }).copysign(x)
}

/// Complement of the error function, within 2 units in the last place.
#[inline(always)]
pub(crate) fn erfc(x: f64) -> f64 {
    // From 27.3 on it rounds to 0.
    let size = at_most(x.abs(), 28.0);
    let far = complement(size);
    let far = if x < 0.0 { 2.0 - far } else { far };
    if size < 0.5 { 1.0 - near(size).copysign(x) } else { far }
}
