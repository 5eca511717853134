//! Powers.

use super::{
    super::{ROUND, at_least, at_most, head, polynomial, special_power},
    scaled,
};

/// The logarithm to base 2 of a positive and finite number as a sum of a number of 21 bits and its rest (fdlibm, `e_pow.c`).
#[inline(always)]
fn log_2(x: f64) -> (f64, f64) {
    // (3 / 2) (ln((1 + s) / (1 - s)) - 2 s - 2 / 3 s^3) / s^5 in powers of s^2, a minimax polynomial.
    const SERIES: [f64; 6] = [
        0.206_975_017_800_338_42,
        0.230_660_745_775_561_75,
        0.272_728_123_808_534,
        0.333_333_329_818_377_43,
        0.428_571_428_578_550_2,
        0.599_999_999_999_994_6,
    ];
    // 2 / (3 ln 2), and in two parts.
    const FACTOR: f64 = 0.961_796_693_925_975_6;
    const FACTOR_HIGH: f64 = 0.961_796_700_954_437_3;
    const FACTOR_LOW: f64 = -7.028_461_650_952_758e-9;
    // log2(1.5) in two parts.
    const CENTRE_HIGH: f64 = 0.584_962_487_220_764_2;
    const CENTRE_LOW: f64 = 1.350_039_202_129_749e-8;
    const SCALE: f64 = 9_007_199_254_740_992.0; // 2^53
    const MANTISSA: u64 = (1 << 52) - 1;

    let tiny = x < f64::MIN_POSITIVE;
    let bits = (if tiny { x * SCALE } else { x }).to_bits();
    let m = f64::from_bits(bits & MANTISSA | 1.0_f64.to_bits());
    let k = f64::from_bits(bits >> 52 | ROUND.to_bits()) - (ROUND + 1023.0);
    let k = if tiny { k - 53.0 } else { k };
    // The mantissa is taken between sqrt(3) / 2 and sqrt(3), and relative to 1 or, from sqrt(3 / 2) on, to 1.5.
    let high = m >= 1.732_049_942_016_601_6;
    let m = if high { m * 0.5 } else { m };
    let k = if high { k + 1.0 } else { k };
    let middle = m >= 1.224_745_750_427_246;
    let centre = if middle { 1.5 } else { 1.0 };

    // s = (m - c) / (m + c), as a sum of two.
    let difference = m - centre;
    let reciprocal = 1.0 / (m + centre);
    let s = difference * reciprocal;
    let s_high = head(s);
    let sum_high = head(m + centre);
    let sum_low = m - (sum_high - centre);
    let s_low = reciprocal * ((difference - s_high * sum_high) - s_high * sum_low);
    // s (3 + s^2 + r) is 3 / 2 of the logarithm of m / c.
    let square = s * s;
    let r = square * square * polynomial(SERIES, square) + s_low * (s_high + s);
    let square = s_high * s_high;
    let t_high = head(square + 3.0 + r);
    let t_low = r - ((t_high - 3.0) - square);
    let u = s_high * t_high;
    let v = s_low * t_high + t_low * s;
    let p_high = head(u + v);
    let p_low = v - (p_high - u);
    // To base 2, with the logarithms of the centre and the exponent.
    let centre_high = if middle { CENTRE_HIGH } else { 0.0 };
    let centre_low = if middle { CENTRE_LOW } else { 0.0 };
    let z_high = FACTOR_HIGH * p_high;
    let z_low = FACTOR_LOW * p_high + p_low * FACTOR + centre_low;
    let log = head(((z_high + z_low) + centre_high) + k);
    (log, z_low - (((log - k) - centre_high) - z_high))
}

/// 2 to the power of a sum of two, whose value is of magnitude below 2000 (fdlibm, `e_pow.c`).
#[inline(always)]
fn exp_2(high: f64, low: f64) -> f64 {
    // What x coth(x / 2) is above 2, in powers of x^2 (Remes).
    const SERIES: [f64; 5] = [
        4.138_136_797_057_238_5e-8,
        -0.000_001_653_390_220_546_525_2,
        0.000_066_137_563_214_379_34,
        -0.002_777_777_777_701_559_3,
        0.166_666_666_666_666_02,
    ];
    // ln(2) in two parts.
    const LN_2_HIGH: f64 = 0.693_147_182_464_599_6;
    const LN_2_LOW: f64 = -1.904_654_299_957_768e-9;
    let shifted = (high + low) + ROUND;
    let high = high - (shifted - ROUND);
    let t = head(low + high);
    let u = t * LN_2_HIGH;
    let v = (low - (t - high)) * std::f64::consts::LN_2 + t * LN_2_LOW;
    let z = u + v;
    let rest = v - (z - u);
    let square = z * z;
    let t = z - square * polynomial(SERIES, square);
    let r = (z * t) / (t - 2.0) - (rest + z * rest);
    scaled(1.0 - (r - z), shifted.to_bits().wrapping_sub(ROUND.to_bits()))
}

/// Power, within 0.8 units in the last place; special values are those of IEEE 754.
#[inline(always)]
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    // From 2^65 on every power is 0, 1 or infinite.
    const LARGEST: f64 = 36_893_488_147_419_103_232.0;
    let (log, log_rest) = log_2(x.abs());
    let bounded = at_least(at_most(y, LARGEST), -LARGEST);
    let y_high = head(bounded);
    let rest = (bounded - y_high) * log + bounded * log_rest;
    let product = y_high * log;
    let sum = product + rest;
    let power = exp_2(product, rest);
    let power = if sum > 1025.0 { f64::INFINITY } else { power };
    let power = if sum < -1080.0 { 0.0 } else { power };
    // Exact ones.
    let power = if y == 1.0 { x.abs() } else { power };
    let power = if y == 2.0 { x * x } else { power };
    special_power(x, y, power)
}
