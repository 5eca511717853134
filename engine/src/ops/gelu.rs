//! The Gaussian error linear unit, and its gradient as an op of its own: each is one loop.
//!
//! It is x times a gate: the probability that a standard normal variable is below x, or for the approximation by tanh, from
//! Hendrycks and Gimpel 2016, `(1 + tanh(u)) / 2 = sigmoid(2 u)` of a polynomial u.

use smallvec::smallvec;

use crate::{
    attrs,
    attrs::{Attr, Attrs},
    error::Error,
    graph::Var,
    kernels::{block::Lane, lanes, loops, real::Real},
    op::{Derivative, Kernel, Lanes, OpDef, Output, Reads, Rule, cotangents, d},
    ops::{
        EXP, SIGMOID, SQUARE,
        family::{self, sample, sample_with, uniform},
    },
};

attrs! {
    /// Which formula to use.
    Gelu {
        /// Whether to use the approximation by tanh.
        approximate: bool = Bool(false),
    }
}

/// `2 sqrt(2 / pi)`: 2 u is this times x + 0.044715 x^3.
const SLOPE: f64 = 1.595_769_121_605_730_8;
const CUBIC: f64 = 0.044_715;

/// From here on the gate is 0 or 1, and its slope 0.
const END: f64 = 20.0;

/// One over the root of 2 pi: the density of the standard normal distribution at 0.
const DENSITY: f64 = 0.398_942_280_401_432_7;

#[expect(clippy::inline_always, reason = "a call would keep loops from being vectorised")]
#[inline(always)]
fn tanh_gate<T: Real>(x: T) -> T {
    // Of a large exponential the quotient is 0, also if it is infinite.
    let exponential = ((x + x * x * x * T::of(CUBIC)) * T::of(-SLOPE)).exp_();
    T::of(1.0) / (T::of(1.0) + exponential)
}

fn gelu<T: Real + Lane>(attrs: &Attrs, inputs: &[Lanes], out: &mut Output) -> Result<(), Error> {
    if Gelu::read(attrs).approximate {
        loops::map(inputs, out, |x: T| x * tanh_gate(x))
    } else {
        loops::map(inputs, out, |x: T| x * x.normal_cdf_())
    }
}

fn gradient<T: Real + Lane>(
    attrs: &Attrs,
    inputs: &[Lanes],
    out: &mut Output,
) -> Result<(), Error> {
    if Gelu::read(attrs).approximate {
        return loops::zip(inputs, out, |x: T, flow: T| {
            let gate = tanh_gate(x);
            let near = if x > T::of(END) { T::of(END) } else { x };
            let near = if near < T::of(-END) { T::of(-END) } else { near };
            let slope = near * near * T::of(3.0 * CUBIC * SLOPE) + T::of(SLOPE);
            (gate + near * slope * gate * (T::of(1.0) - gate)) * flow
        });
    }
    // One thing after the other, while the block is in the first-level cache: of all at once the compiler makes no vectors.
    loops::over(inputs, out, |x: &[T], flow, out| {
        lanes::map(x, out, T::normal_cdf_);
        lanes::update(out, x, |gate, x| gate + x * (x * x * T::of(-0.5)).exp_() * T::of(DENSITY));
        lanes::update(out, flow, |slope, flow| slope * flow);
    })
}

/// The loop of each dtype.
macro_rules! loops {
    ($function:ident) => {
        Kernel::Elementwise(|dtype| match dtype {
            crate::dtype::DType::F32 => Some($function::<f32>),
            crate::dtype::DType::F64 => Some($function::<f64>),
            _ => None,
        })
    };
}

/// Gaussian error linear unit. A primitive for speed.
pub static GELU: OpDef = OpDef {
    family: "nn",
    attrs: Gelu::SPECS,
    batching: crate::batching::Batching::Elementwise,
    samples: &[
        sample(&[uniform(&[2, 3], -2.0, 2.0)]),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![("approximate", Attr::Bool(true))]),
    ],
    ..family::unary(
        "gelu",
        "Gaussian error linear unit.",
        "y = x (1 + erf(x / sqrt(2))) / 2",
        loops!(gelu),
        Derivative::Custom {
            reads: Reads::X0,
            vjp: |r, ct| cotangents([slope_times(r, ct[0])]),
            jvp: |r, t| smallvec![slope_times(r, t[0].unwrap_or_else(|| r.x[0].zeros()))],
        },
    )
};

/// The slope at the first input times v.
fn slope_times<'g>(r: &Rule<'g>, v: Var<'g>) -> Var<'g> {
    r.x[0].op(&GELU_GRADIENT, r.attrs.clone(), &[v])
}

/// The gradient of the Gaussian error linear unit.
pub static GELU_GRADIENT: OpDef = OpDef {
    family: "nn",
    inputs: &["x", "upstream"],
    outputs: &["x_gradient"],
    attrs: Gelu::SPECS,
    samples: &[
        sample(&[uniform(&[2, 3], -2.0, 2.0), uniform(&[2, 3], -1.0, 1.0)]),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0), uniform(&[3], -1.0, 1.0)], || {
            vec![("approximate", Attr::Bool(true))]
        }),
    ],
    ..family::binary(
        "gelu_gradient",
        "The gradient of `gelu` with respect to its input, from that with respect to its result.",
        "x_gradient = (d gelu(x) / d x) upstream",
        loops!(gradient),
        Derivative::Elementwise(&[
            d(Reads::X0.and(Reads::X1), |r| bend(r) * r.x[1]),
            d(Reads::X0, |r| slope_times(r, r.x[0].ones())),
        ]),
    )
};

/// The second derivative at the first input.
fn bend<'g>(r: &Rule<'g>) -> Var<'g> {
    let x = r.x[0];
    let square = x.map(&SQUARE);
    if !Gelu::read(r.attrs).approximate {
        let density = (square * -0.5).map(&EXP) * DENSITY;
        return density * (x.scalar(2.0) - square);
    }
    // Of `gate + x gate (1 - gate) s`, where s is the slope of 2 u.
    let gate = ((x + square * x * CUBIC) * SLOPE).map(&SIGMOID);
    let slope = square * (3.0 * CUBIC * SLOPE) + SLOPE;
    let turning = x * slope * slope * (gate.scalar(1.0) - gate * 2.0);
    gate * (gate.scalar(1.0) - gate) * (slope * 2.0 + turning + square * (6.0 * CUBIC * SLOPE))
}
