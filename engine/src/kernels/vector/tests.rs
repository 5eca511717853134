//! Errors of the functions, special values and signs.

use super::{double, single};
use crate::kernels::real::Real;

/// What is tested, an oracle in double precision, and the largest error in units in the last place.
type Row = (&'static str, fn(f32) -> f32, fn(f64) -> f64, f64);

const SINGLE: &[Row] = &[
    ("exp", single::exp, libm::exp, 1.01),
    ("exp_m1", single::exp_m1, libm::expm1, 0.51),
    ("ln", single::ln, libm::log, 0.51),
    ("ln_1p", single::ln_1p, libm::log1p, 0.51),
    ("atan", single::atan, libm::atan, 0.51),
    ("sinh", single::sinh, libm::sinh, 0.51),
    ("cosh", single::cosh, libm::cosh, 0.51),
    ("tanh", single::tanh, libm::tanh, 0.51),
    ("asinh", single::asinh, libm::asinh, 0.51),
    // That of `libm` gives numbers below its domain.
    ("acosh", single::acosh, |x| if x < 1.0 { f64::NAN } else { libm::acosh(x) }, 0.51),
    ("atanh", single::atanh, libm::atanh, 0.51),
    ("sigmoid", single::sigmoid, |x| 1.0 / (libm::exp(-x) + 1.0), 0.51),
    ("erf", single::erf, libm::erf, 0.51),
    ("erfc", single::erfc, libm::erfc, 0.51),
    ("sin", sin, libm::sin, 0.51),
    ("cos", cos, libm::cos, 0.51),
    ("tan", tan, libm::tan, 0.51),
];

/// A function of numbers that are near, and elsewhere another, as the ops choose.
fn whole<T: Real>(near: fn(T) -> T, far: fn(T) -> T) -> impl Fn(T) -> T {
    move |x| if x.is_near() { near(x) } else { far(x) }
}

fn sin<T: Real>(x: T) -> T {
    whole(T::sin_near, T::sin_far)(x)
}

fn cos<T: Real>(x: T) -> T {
    whole(T::cos_near, T::cos_far)(x)
}

fn tan<T: Real>(x: T) -> T {
    whole(T::tan_near, T::tan_far)(x)
}

/// What is tested, `libm`'s, and the largest error in units in the last place.
type DoubleRow = (&'static str, fn(f64) -> f64, fn(f64) -> f64, f64);

const DOUBLE: &[DoubleRow] = &[
    ("exp", double::exp, libm::exp, 0.8),
    ("exp_m1", double::exp_m1, libm::expm1, 1.4),
    ("ln", double::ln, libm::log, 0.8),
    ("ln_1p", double::ln_1p, libm::log1p, 0.9),
    ("tanh", double::tanh, libm::tanh, 2.0),
    ("sigmoid", double::sigmoid, sigmoid, 1.8),
    ("erf", double::erf, libm::erf, 1.4),
    ("erfc", double::erfc, libm::erfc, 2.0),
    ("sin", sin, libm::sin, 0.8),
    ("cos", cos, libm::cos, 0.8),
    ("tan", tan, libm::tan, 1.9),
];

const POW_ERROR: f64 = 0.8;

/// Logistic sigmoid, whose exponential never overflows.
fn sigmoid(x: f64) -> f64 {
    let e = libm::exp(-x.abs());
    if x >= 0.0 { 1.0 / (e + 1.0) } else { e / (e + 1.0) }
}

/// Numbers at which functions are apt to go wrong: limits, signs, integers of either parity and what is next to them.
const SPECIAL: &[f64] = &[
    0.0,
    1.0,
    f64::INFINITY,
    f64::NAN,
    0.5,
    1.5,
    2.0,
    3.0,
    4.0,
    1e-30,
    1e30,
    16_777_215.0,
    16_777_216.0,
    2_147_483_649.0,
    4_503_599_627_370_495.5,
    4_503_599_627_370_497.0,
    9_007_199_254_740_991.0,
    9_007_199_254_740_992.0,
    f64::EPSILON,
    f64::MIN_POSITIVE,
    5e-324,
    f64::MAX,
    1.0 + f64::EPSILON,
    1.0 - f64::EPSILON / 2.0,
];

fn special() -> impl Iterator<Item = f64> + Clone {
    SPECIAL.iter().flat_map(|&x| [x, -x])
}

#[expect(clippy::cast_possible_truncation, reason = "the nearest number is wanted")]
fn special_single() -> impl Iterator<Item = f32> + Clone {
    let limits = [f32::MAX, f32::MIN_POSITIVE, f32::EPSILON, 1e-45, 1.0 + f32::EPSILON];
    special().map(|x| x as f32).chain(limits.into_iter().flat_map(|x| [x, -x]))
}

/// The distance from the truth in units in the last place of the truth.
#[expect(clippy::cast_possible_truncation, reason = "the nearest number is wanted")]
fn distance(y: f32, truth: f64) -> f64 {
    let nearest = truth as f32;
    if y == nearest && !y.is_finite() || y.is_nan() && truth.is_nan() {
        return 0.0;
    }
    // The two numbers that the truth lies between.
    let bits = nearest.abs().to_bits().min(f32::MAX.to_bits() - 1);
    let below = if f64::from(nearest.abs()) > truth.abs() { bits.saturating_sub(1) } else { bits };
    let unit = f64::from(f32::from_bits(below + 1)) - f64::from(f32::from_bits(below));
    ((f64::from(y) - truth) / unit).abs()
}

/// The same for a truth of twice the digits, a sum of two.
fn distance_double(y: f64, (high, low): (f64, f64)) -> f64 {
    if y == high && !y.is_finite() || y.is_nan() && high.is_nan() {
        return 0.0;
    }
    let bits = high.abs().to_bits().min(f64::MAX.to_bits() - 1);
    let beyond = low != 0.0 && low.is_sign_positive() != high.is_sign_positive();
    let below = if beyond { bits.saturating_sub(1) } else { bits };
    let unit = f64::from_bits(below + 1) - f64::from_bits(below);
    // Scaled up, as the difference may be smaller than the smallest number.
    let scale = if unit < 1e-200 { 1e100 } else { 1.0 };
    (((y - high) * scale - low * scale) / (unit * scale)).abs()
}

/// The largest error and where it is.
#[derive(Default)]
struct Worst {
    error: f64,
    at: (f64, f64),
}

impl Worst {
    fn hear(&mut self, error: f64, at: (f64, f64)) {
        assert!(!error.is_nan(), "at {at:?}");
        if error > self.error {
            *self = Self { error, at };
        }
    }

    fn expect(&self, name: &str, bound: f64) {
        let Self { error, at } = self;
        assert!(*error <= bound, "{name}{at:?} is wrong by {error} units in the last place");
    }
}

#[test]
fn functions_of_float32_are_as_accurate_as_they_say() {
    let patterns = (0..=u32::MAX).step_by(1_009).map(f32::from_bits);
    // As near to multiples of pi / 2 as they come.
    #[expect(clippy::cast_possible_truncation, reason = "the nearest number is wanted")]
    let turns = (1..600_000).map(|n| (f64::from(n) * std::f64::consts::FRAC_PI_2) as f32);
    let inputs: Vec<f32> = special_single().chain(patterns).chain(turns).collect();
    for &(name, f, oracle, bound) in SINGLE {
        let mut worst = Worst::default();
        for &x in &inputs {
            worst.hear(distance(f(x), oracle(x.into())), (x.into(), 0.0));
        }
        worst.expect(name, bound);
    }
}

/// Pairs of all exponents and signs, and pairs of neither small nor large numbers.
fn pairs_single() -> impl Iterator<Item = (f32, f32)> {
    let second = |x: u32| f32::from_bits(x.wrapping_mul(0x9e37_79b1));
    let patterns = (0..=u32::MAX).step_by(2_011);
    let wide = patterns.clone().map(move |x| (f32::from_bits(x), second(x)));
    let narrow = patterns.map(move |x| {
        let exponent = |x: f32| f32::from_bits(x.to_bits() & 0x87ff_ffff | 0x3c00_0000);
        (exponent(f32::from_bits(x)), exponent(second(x)) * 64.0)
    });
    wide.chain(narrow)
}

#[test]
fn functions_of_two_float32_are_as_accurate_as_they_say() {
    let (mut pow, mut atan2) = (Worst::default(), Worst::default());
    for (x, y) in pairs_single() {
        let (wide_x, wide_y) = (f64::from(x), f64::from(y));
        pow.hear(distance(single::pow(x, y), libm::pow(wide_x, wide_y)), (wide_x, wide_y));
        atan2.hear(distance(single::atan2(x, y), libm::atan2(wide_x, wide_y)), (wide_x, wide_y));
    }
    pow.expect("pow", 0.51);
    atan2.expect("atan2", 0.51);
}

/// Whether two results are the same, with the sign of 0.
fn same(x: f64, y: f64) -> bool {
    x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
}

#[test]
fn special_powers_and_angles_are_those_of_libm() {
    for x in special_single() {
        for y in special_single() {
            let (a, b) = (single::pow(x, y), libm::powf(x, y));
            assert!(distance(a, b.into()) <= 1.0, "{x:e}^{y:e} is {a:e}");
            assert!(a != 0.0 || same(a.into(), b.into()), "{x:e}^{y:e} is {a:e}");
            let (a, b) = (single::atan2(x, y), libm::atan2f(x, y));
            assert!(distance(a, b.into()) <= 1.0, "angle of {y:e}, {x:e} is {a:e}");
            assert!(a != 0.0 || same(a.into(), b.into()), "angle of {y:e}, {x:e} is {a:e}");
        }
    }
    for x in special() {
        for y in special() {
            let (a, b) = (double::pow(x, y), libm::pow(x, y));
            assert!(distance_double(a, (b, 0.0)) <= 1.0, "{x:e}^{y:e} is {a:e}, not {b:e}");
            assert!(a != 0.0 || same(a, b), "{x:e}^{y:e} is {a:e}");
        }
    }
}

#[test]
fn functions_of_float64_are_as_accurate_as_they_say() {
    let number =
        |text: &str| f64::from_bits(u64::from_str_radix(text, 16).expect("the bits of a number"));
    for &(name, f, _, bound) in DOUBLE {
        let (mut worst, mut rows) = (Worst::default(), 0);
        for line in include_str!("truth/double.txt").lines() {
            let mut words = line.split(' ');
            if words.next() == Some(name) {
                let [x, high, low] = [(); 3].map(|()| number(words.next().expect("a number")));
                worst.hear(distance_double(f(x), (high, low)), (x, 0.0));
                rows += 1;
            }
        }
        assert_eq!(rows, 150, "{name}");
        worst.expect(name, bound);
    }
    let mut worst = Worst::default();
    for line in include_str!("truth/double.txt").lines().filter_map(|l| l.strip_prefix("pow ")) {
        let mut words = line.split(' ');
        let [x, y, high, low] = [(); 4].map(|()| number(words.next().expect("a number")));
        worst.hear(distance_double(double::pow(x, y), (high, low)), (x, y));
    }
    worst.expect("pow", POW_ERROR);
}

/// `libm` is itself wrong by up to one unit.
#[test]
fn functions_of_float64_agree_with_libm_everywhere() {
    let patterns = (0..=u64::MAX).step_by(0x0000_4000_5bd1_e995).map(f64::from_bits);
    let middle = (-400_000..400_000).map(|i| f64::from(i) * 1.000_037e-4);
    let inputs: Vec<f64> = special().chain(patterns).chain(middle).collect();
    for &(name, f, oracle, bound) in DOUBLE {
        let mut worst = Worst::default();
        for &x in &inputs {
            worst.hear(distance_double(f(x), (oracle(x), 0.0)), (x, 0.0));
        }
        worst.expect(name, bound + 1.0);
    }
    let mut worst = Worst::default();
    for pair in inputs.windows(2) {
        let (x, y) = (pair[0], pair[1] * 3.7);
        worst.hear(distance_double(double::pow(x, y), (libm::pow(x, y), 0.0)), (x, y));
    }
    worst.expect("pow", POW_ERROR + 1.0);
}

#[test]
fn whole_powers_of_float64_are_exact() {
    for base in 1..100_i32 {
        let mut product = 1_u64;
        for exponent in 0..20_i32 {
            if product > 1 << 53 {
                break;
            }
            let power = double::pow(base.into(), exponent.into());
            #[expect(clippy::cast_precision_loss, reason = "it is at most 2^53")]
            let expected = product as f64;
            assert_eq!(power, expected, "{base}^{exponent}");
            product *= u64::from(base.unsigned_abs());
        }
    }
}

#[test]
fn the_normal_distribution_is_accurate_in_absolute_terms() {
    for x in (0..=u32::MAX).step_by(10_007).map(f32::from_bits).filter(|x| !x.is_nan()) {
        let truth = 0.5 * libm::erfc(-f64::from(x) * std::f64::consts::FRAC_1_SQRT_2);
        let error = (f64::from(single::normal_cdf(x)) - truth).abs();
        assert!(error < 3e-7, "of {x:e} it is wrong by {error:e}");
    }
    assert!(single::normal_cdf(f32::NAN).is_nan());
    assert_eq!([single::normal_cdf(-6.0), single::normal_cdf(6.0)], [0.0, 1.0]);
}

/// `libm` alone gives numbers for some below -1.
#[test]
fn the_inverse_hyperbolic_cosine_is_nan_below_one() {
    for x in [-16_777_215.0, -1e7, -2.0, -1.0, 0.5, f64::NEG_INFINITY, f64::NAN] {
        assert!(x.acosh_().is_nan(), "{x}");
    }
    assert_eq!([1.0.acosh_(), f64::INFINITY.acosh_()], [0.0, f64::INFINITY]);
}

#[test]
fn zeros_keep_their_sign() {
    use single::{asinh, atan, atanh, erf, exp_m1, ln_1p, sinh, tanh};
    for f in [exp_m1, ln_1p, tanh, erf, sin, tan, atan, sinh, asinh, atanh] {
        assert_eq!(f(-0.0).to_bits(), (-0.0_f32).to_bits());
        assert_eq!(f(0.0).to_bits(), 0);
    }
    for f in [double::exp_m1, double::ln_1p, double::tanh, double::erf, sin, tan] {
        assert_eq!(f(-0.0).to_bits(), (-0.0_f64).to_bits());
        assert_eq!(f(0.0).to_bits(), 0);
    }
}
