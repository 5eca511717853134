//! Mathematical functions on the floating-point types.
//!
//! Our own where speed matters, otherwise from the `libm` crate, and never from the C library: its results differ between
//! libraries and processors, and a session must replay to the same bits.

use num_traits::{PrimInt, WrappingAdd, WrappingMul, WrappingSub};

use crate::{
    array::Element,
    kernels::vector::{double, single},
};

/// A floating-point element with the functions that kernels use.
pub(crate) trait Real: Element + num_traits::Float {
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    /// `f` computed in double precision.
    fn in_f64(self, f: impl Fn(f64) -> f64) -> Self {
        Self::of(f(self.wide()))
    }
    fn exp_(self) -> Self;
    fn exp_m1_(self) -> Self;
    fn ln_(self) -> Self;
    fn ln_1p_(self) -> Self;
    /// Whether `sin_near`, `cos_near` and `tan_near` hold; elsewhere one has to be reduced by many digits of pi.
    fn is_near(self) -> bool;
    fn sin_near(self) -> Self;
    fn cos_near(self) -> Self;
    fn tan_near(self) -> Self;
    fn sin_far(self) -> Self;
    fn cos_far(self) -> Self;
    fn tan_far(self) -> Self;
    fn asin_(self) -> Self;
    fn acos_(self) -> Self;
    fn atan_(self) -> Self;
    fn atan2_(self, x: Self) -> Self;
    fn sinh_(self) -> Self;
    fn cosh_(self) -> Self;
    fn tanh_(self) -> Self;
    fn asinh_(self) -> Self;
    fn acosh_(self) -> Self;
    fn atanh_(self) -> Self;
    fn erf_(self) -> Self;
    fn erfc_(self) -> Self;
    fn sigmoid_(self) -> Self;
    fn normal_cdf_(self) -> Self;
    fn lgamma_(self) -> Self;
    fn pow_(self, exponent: Self) -> Self;
}

macro_rules! real {
    ($ty:ty, $near:path: $($unary:ident = $f:path),*; $($binary:ident = $g:path),*) => {
        impl Real for $ty {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::unnecessary_cast,
                reason = "one of the two types needs none"
            )]
            fn of(value: f64) -> Self {
                value as Self
            }
            #[allow(
                clippy::cast_lossless,
                clippy::unnecessary_cast,
                reason = "one of the two types needs none"
            )]
            fn wide(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn is_near(self) -> bool {
                $near(self)
            }
            $(#[inline(always)]
            fn $unary(self) -> Self {
                $f(self)
            })*
            $(#[inline(always)]
            fn $binary(self, other: Self) -> Self {
                $g(self, other)
            })*
        }
    };
}

real!(f32, single::is_near:
    exp_ = single::exp, exp_m1_ = single::exp_m1, ln_ = single::ln, ln_1p_ = single::ln_1p,
    sin_near = single::sin, cos_near = single::cos, tan_near = single::tan,
    sin_far = libm::sinf, cos_far = libm::cosf, tan_far = tan_far,
    asin_ = libm::asinf, acos_ = libm::acosf, atan_ = single::atan,
    sinh_ = single::sinh, cosh_ = single::cosh, tanh_ = single::tanh,
    asinh_ = single::asinh, acosh_ = single::acosh, atanh_ = single::atanh,
    erf_ = single::erf, erfc_ = single::erfc, sigmoid_ = single::sigmoid,
    normal_cdf_ = single::normal_cdf, lgamma_ = libm::lgammaf;
    pow_ = single::pow, atan2_ = single::atan2
);
real!(f64, double::is_near:
    exp_ = double::exp, exp_m1_ = double::exp_m1, ln_ = double::ln, ln_1p_ = double::ln_1p,
    sin_near = double::sin, cos_near = double::cos, tan_near = double::tan,
    sin_far = libm::sin, cos_far = libm::cos, tan_far = libm::tan,
    asin_ = libm::asin, acos_ = libm::acos, atan_ = libm::atan,
    sinh_ = libm::sinh, cosh_ = libm::cosh, tanh_ = double::tanh,
    asinh_ = libm::asinh, acosh_ = acosh, atanh_ = libm::atanh,
    erf_ = double::erf, erfc_ = double::erfc, sigmoid_ = double::sigmoid,
    normal_cdf_ = normal_cdf, lgamma_ = libm::lgamma;
    pow_ = double::pow, atan2_ = libm::atan2
);

/// Tangent, rounded once.
fn tan_far(x: f32) -> f32 {
    x.in_f64(libm::tan)
}

/// Inverse hyperbolic cosine. `libm` alone gives numbers for some below -1.
fn acosh(x: f64) -> f64 {
    if x < 1.0 { f64::NAN } else { libm::acosh(x) }
}

/// The probability that a standard normal variable is below x.
fn normal_cdf(x: f64) -> f64 {
    0.5 * double::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

/// An element with arithmetic. Integers wrap, as in NumPy and TensorFlow.
pub(crate) trait Number: Element {
    /// What sums and products are accumulated in: wider than `float32`, so that long sums stay accurate.
    type Wide: Copy;
    const ZERO: Self;
    const ONE: Self;
    const LOWEST: Self;
    const HIGHEST: Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn neg(self) -> Self;
    fn abs(self) -> Self;
    fn sign(self) -> Self;
    fn widen(self) -> Self::Wide;
    fn narrow(wide: Self::Wide) -> Self;
    fn wide_add(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn wide_mul(a: Self::Wide, b: Self::Wide) -> Self::Wide;
    fn is_nan(self) -> bool;
    /// Quotient rounded towards minus infinity. The divisor of an integer must not be zero.
    fn floor_div(self, other: Self) -> Self;
    /// What is left of `self` after `floor_div`; it has the divisor's sign.
    fn floor_mod(self, other: Self) -> Self;
    /// Quotient rounded towards zero. The divisor of an integer must not be zero.
    fn trunc_div(self, other: Self) -> Self;
    /// What is left of `self` after `trunc_div`; it has the sign of `self`.
    fn trunc_mod(self, other: Self) -> Self;
    /// Power. A negative integer power gives the truncated reciprocal, and 0 for a base of 0.
    fn power(self, exponent: Self) -> Self;
}

macro_rules! float_number {
    ($($ty:ty),*) => {$(
        impl Number for $ty {
            type Wide = f64;
            #[inline(always)]
            fn power(self, exponent: Self) -> Self {
                Real::pow_(self, exponent)
            }
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOWEST: Self = Self::NEG_INFINITY;
            const HIGHEST: Self = Self::INFINITY;
            fn add(self, other: Self) -> Self { self + other }
            fn sub(self, other: Self) -> Self { self - other }
            fn mul(self, other: Self) -> Self { self * other }
            fn neg(self) -> Self { -self }
            fn abs(self) -> Self { Self::abs(self) }
            fn sign(self) -> Self {
                if self > 0.0 { 1.0 } else if self < 0.0 { -1.0 } else { self * 0.0 }
            }
            fn widen(self) -> f64 { Real::wide(self) }
            fn narrow(wide: f64) -> Self { Real::of(wide) }
            fn wide_add(a: f64, b: f64) -> f64 { a + b }
            fn wide_mul(a: f64, b: f64) -> f64 { a * b }
            fn is_nan(self) -> bool { Self::is_nan(self) }
            fn trunc_div(self, other: Self) -> Self { (self / other).trunc() }
            fn trunc_mod(self, other: Self) -> Self { self % other }
            fn floor_div(self, other: Self) -> Self { (self / other).floor() }
            fn floor_mod(self, other: Self) -> Self {
                let rest = self % other;
                if rest != 0.0 && (rest < 0.0) != (other < 0.0) { rest + other } else { rest }
            }
        }
    )*};
}

macro_rules! int_number {
    ($($ty:ty),*) => {$(
        impl Number for $ty {
            type Wide = Self;
            fn power(self, exponent: Self) -> Self {
                integer_power(self, exponent)
            }
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const LOWEST: Self = Self::MIN;
            const HIGHEST: Self = Self::MAX;
            fn add(self, other: Self) -> Self { WrappingAdd::wrapping_add(&self, &other) }
            fn sub(self, other: Self) -> Self { WrappingSub::wrapping_sub(&self, &other) }
            fn mul(self, other: Self) -> Self { WrappingMul::wrapping_mul(&self, &other) }
            fn neg(self) -> Self { self.wrapping_neg() }
            fn abs(self) -> Self { self.wrapping_abs() }
            fn sign(self) -> Self { self.signum() }
            fn widen(self) -> Self { self }
            fn narrow(wide: Self) -> Self { wide }
            fn wide_add(a: Self, b: Self) -> Self { a.wrapping_add(b) }
            fn wide_mul(a: Self, b: Self) -> Self { a.wrapping_mul(b) }
            fn is_nan(self) -> bool { false }
            fn trunc_div(self, other: Self) -> Self { self.wrapping_div(other) }
            fn trunc_mod(self, other: Self) -> Self { self.wrapping_rem(other) }
            fn floor_div(self, other: Self) -> Self {
                let quotient = self.wrapping_div(other);
                if self.wrapping_rem(other) != 0 && (self < 0) != (other < 0) { quotient - 1 } else { quotient }
            }
            fn floor_mod(self, other: Self) -> Self {
                let rest = self.wrapping_rem(other);
                if rest != 0 && (rest < 0) != (other < 0) { rest + other } else { rest }
            }
        }
    )*};
}

float_number!(f32, f64);
int_number!(i32, i64);

/// An integer power by squaring, wrapping.
fn integer_power<T: Number + PrimInt>(base: T, exponent: T) -> T {
    if exponent < T::ZERO {
        let odd = exponent & T::ONE == T::ONE;
        return match base {
            one if one == T::ONE => T::ONE,
            minus if minus == Number::neg(T::ONE) => {
                if odd {
                    minus
                } else {
                    T::ONE
                }
            }
            _ => T::ZERO,
        };
    }
    let (mut result, mut base, mut exponent) = (T::ONE, base, exponent);
    while exponent > T::ZERO {
        if exponent & T::ONE == T::ONE {
            result = Number::mul(result, base);
        }
        base = Number::mul(base, base);
        exponent = exponent >> 1;
    }
    result
}

/// An element from a number: fractions are cut and numbers out of range saturate; a truth value is whether it is not 0.
pub(crate) trait FromDouble: Element {
    fn from_double(value: f64) -> Self;
}

macro_rules! from_double {
    ($($ty:ty),*) => {$(
        impl FromDouble for $ty {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::unnecessary_cast,
                reason = "saturating, as documented"
            )]
            fn from_double(value: f64) -> Self {
                value as Self
            }
        }
    )*};
}

from_double!(f32, f64, i32, i64);

impl FromDouble for bool {
    fn from_double(value: f64) -> Self {
        value != 0.0
    }
}
