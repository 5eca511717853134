//! Activations of neural networks.

use smallvec::smallvec;

use crate::{
    attrs,
    attrs::Attr,
    kernels::real::Real,
    op::{Derivative, Kernel, OpDef, Reads, d},
    ops::{
        ABS, ERF, EXPM1, GREATER, GREATER_EQUAL, MINIMUM, SIGMOID, SIGN, SQUARE, TANH,
        family::{self, map_kernel, sample, sample_with, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&RELU, &RELU6, &LEAKY_RELU, &ELU, &SELU, &SILU, &GELU, &SOFTPLUS, &SOFTSIGN];

const fn activation(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef { family: "nn", ..family::unary(name, summary, formula, kernel, derivative) }
}

// --- activations ---

/// Rectifier. Its partial is the sign of the result and not a comparison, so that second derivatives are 0 and not
/// absent, as in TensorFlow.
pub static RELU: OpDef = activation(
    "relu",
    "Rectifier; its derivative at 0 is 0.",
    "y = max(x, 0)",
    map_kernel!(F32 F64: |x| if x > 0.0 || x.is_nan() { x } else { 0.0 }),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y().map(&SIGN))]),
);

/// Rectifier clipped at six.
pub static RELU6: OpDef = activation(
    "relu6",
    "Rectifier clipped at 6; its derivative at 0 and 6 is 0.",
    "y = min(max(x, 0), 6)",
    map_kernel!(F32 F64: |x| if x > 6.0 { 6.0 } else if x > 0.0 || x.is_nan() { x } else { 0.0 }),
    Derivative::Elementwise(&[d(Reads::Y, |r| {
        r.y().map(&SIGN) * (r.y().full_like(6.0) - r.y()).map(&SIGN)
    })]),
);

attrs! {
    /// Slope of a leaky rectifier.
    LeakyRelu {
        /// Slope for negative inputs, and at 0.
        alpha: f64 = Double(0.2),
    }
}

/// Leaky rectifier.
pub static LEAKY_RELU: OpDef = OpDef {
    attrs: LeakyRelu::SPECS,
    ..activation(
        "leaky_relu",
        "Rectifier with a slope for negative inputs.",
        "y = x if x > 0 else alpha x",
        Kernel::Composite(|r| {
            let x = r.x[0];
            smallvec![x.select(x.zip(&GREATER, x.scalar(0.0)), x * LeakyRelu::read(r.attrs).alpha)]
        }),
        Derivative::None,
    )
};

/// Exponential linear unit. A primitive because the composite would give NaN gradients where exp overflows.
pub static ELU: OpDef = activation(
    "elu",
    "Exponential linear unit.",
    "y = x if x > 0 else exp(x) - 1",
    map_kernel!(F32 F64: |x| if x > 0.0 { x } else { x.exp_m1_() }),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y().zip(&MINIMUM, r.y().scalar(0.0)) + 1.0)]),
);

/// Scale and slope of the self-normalising unit, from Klambauer et al. 2017, as TensorFlow rounds them.
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;

/// Scaled exponential linear unit.
pub static SELU: OpDef = activation(
    "selu",
    "Scaled exponential linear unit.",
    "y = 1.0507 (x if x >= 0 else 1.6733 (exp(x) - 1))",
    Kernel::Composite(|r| {
        let x = r.x[0];
        let negative = x.zip(&MINIMUM, x.scalar(0.0)).map(&EXPM1) * SELU_ALPHA;
        smallvec![x.select(x.zip(&GREATER_EQUAL, x.scalar(0.0)), negative) * SELU_SCALE]
    }),
    Derivative::None,
);

/// Sigmoid-weighted linear unit.
pub static SILU: OpDef = activation(
    "silu",
    "Sigmoid-weighted linear unit, also called swish.",
    "y = x sigmoid(x)",
    Kernel::Composite(|r| smallvec![r.x[0] * r.x[0].map(&SIGMOID)]),
    Derivative::None,
);

attrs! {
    /// Which formula to use.
    Gelu {
        /// Whether to use the approximation by tanh.
        approximate: bool = Bool(false),
    }
}

/// Gaussian error linear unit.
pub static GELU: OpDef = OpDef {
    attrs: Gelu::SPECS,
    samples: &[
        sample(&[uniform(&[2, 3], -2.0, 2.0)]),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![("approximate", Attr::Bool(true))]),
    ],
    ..activation(
        "gelu",
        "Gaussian error linear unit.",
        "y = x (1 + erf(x / sqrt(2))) / 2",
        Kernel::Composite(|r| {
            let x = r.x[0];
            let gate = if Gelu::read(r.attrs).approximate {
                // sqrt(2 / pi), from Hendrycks and Gimpel 2016.
                ((x + x.map(&SQUARE) * x * 0.044_715) * 0.797_884_560_802_865_4).map(&TANH)
            } else {
                (x * std::f64::consts::FRAC_1_SQRT_2).map(&ERF)
            };
            smallvec![x * (gate + 1.0) * 0.5]
        }),
        Derivative::None,
    )
};

/// Smooth rectifier. A primitive for stability.
pub static SOFTPLUS: OpDef = activation(
    "softplus",
    "Smooth rectifier.",
    "y = ln(1 + exp(x))",
    map_kernel!(F32 F64: |x| {
        let tail = Real::ln_1p_((-x.abs()).exp_());
        if x > 0.0 { x + tail } else { tail }
    }),
    Derivative::Elementwise(&[d(Reads::X0, |r| r.x[0].map(&SIGMOID))]),
);

/// Smooth sign.
pub static SOFTSIGN: OpDef = activation(
    "softsign",
    "Smooth sign.",
    "y = x / (1 + |x|)",
    Kernel::Composite(|r| smallvec![r.x[0] / (r.x[0].map(&ABS) + 1.0)]),
    Derivative::None,
);
