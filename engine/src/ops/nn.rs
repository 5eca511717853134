//! Activations of neural networks.

use smallvec::smallvec;

use crate::{
    attrs,
    attrs::Attr,
    dtype::DTypes,
    error::Error,
    graph::Var,
    kernels::real::Real,
    op::{Derivative, Kernel, OpDef, Reads, d},
    ops::{
        ABS, EXPM1, GELU, GELU_GRADIENT, GREATER, GREATER_EQUAL, MAXIMUM, MINIMUM, SIGMOID, SIGN,
        TANH,
        family::{self, common_dtype, function_kernel, map_kernel, sample, sample_with, uniform},
        normalization::{along, channel_axis},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &RELU,
    &RELU6,
    &LEAKY_RELU,
    &ELU,
    &SELU,
    &CELU,
    &SILU,
    &GELU,
    &GELU_GRADIENT,
    &MISH,
    &HARD_SIGMOID,
    &HARD_SILU,
    &SOFTPLUS,
    &SOFTSIGN,
    &BIAS_ADD,
];

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
    function_kernel!(F32 F64: |x| if x > 0.0 { x } else { x.exp_m1_() }),
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

attrs! {
    /// Scale of a continuously differentiable exponential unit.
    Celu {
        /// What the result tends to for low inputs, with the sign turned.
        alpha: f64 = Double(1.0),
    }
}

/// Continuously differentiable exponential linear unit.
pub static CELU: OpDef = OpDef {
    attrs: Celu::SPECS,
    samples: &[
        sample(&[uniform(&[2, 3], -2.0, 2.0)]),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![("alpha", Attr::Double(0.5))]),
    ],
    ..activation(
        "celu",
        "Continuously differentiable exponential linear unit.",
        "y = max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1)",
        Kernel::Composite(|r| {
            let (x, alpha) = (r.x[0], Celu::read(r.attrs).alpha);
            let negative = (x.zip(&MINIMUM, x.scalar(0.0)) / alpha).map(&EXPM1) * alpha;
            smallvec![x.zip(&MAXIMUM, x.scalar(0.0)) + negative]
        }),
        Derivative::None,
    )
};

/// Sigmoid-weighted linear unit.
pub static SILU: OpDef = activation(
    "silu",
    "Sigmoid-weighted linear unit, also called swish.",
    "y = x sigmoid(x)",
    Kernel::Composite(|r| smallvec![r.x[0] * r.x[0].map(&SIGMOID)]),
    Derivative::None,
);

/// Self-regularised unit, from Misra 2019.
pub static MISH: OpDef = activation(
    "mish",
    "Self-regularised smooth rectifier.",
    "y = x tanh(softplus(x))",
    Kernel::Composite(|r| smallvec![r.x[0] * r.x[0].map(&SOFTPLUS).map(&TANH)]),
    Derivative::None,
);

fn hard_sigmoid(x: Var<'_>) -> Var<'_> {
    (x + 3.0).map(&RELU6) / 6.0
}

/// Piecewise linear sigmoid.
pub static HARD_SIGMOID: OpDef = activation(
    "hard_sigmoid",
    "Piecewise linear approximation of the sigmoid.",
    "y = min(max(x + 3, 0), 6) / 6",
    Kernel::Composite(|r| smallvec![hard_sigmoid(r.x[0])]),
    Derivative::None,
);

/// Piecewise quadratic unit.
pub static HARD_SILU: OpDef = activation(
    "hard_silu",
    "Approximation of `silu` by the hard sigmoid, also called hard swish.",
    "y = x hard_sigmoid(x)",
    Kernel::Composite(|r| smallvec![r.x[0] * hard_sigmoid(r.x[0])]),
    Derivative::None,
);

/// Smooth rectifier. A primitive for stability.
pub static SOFTPLUS: OpDef = activation(
    "softplus",
    "Smooth rectifier.",
    "y = ln(1 + exp(x))",
    function_kernel!(F32 F64: |x| {
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

// --- biases ---

attrs! {
    /// Where the channels are.
    BiasAdd {
        /// `"channels_last"`, or `"channels_first"` for the second axis.
        data_format: String = Text("channels_last"),
    }
}

/// A vector added along the channels.
pub static BIAS_ADD: OpDef = OpDef {
    inputs: &["x", "bias"],
    attrs: BiasAdd::SPECS,
    dtypes: DTypes::NUMERIC,
    infer: |call| {
        let [x, bias] = call.inputs else { return Err(Error::bug("bias_add takes two inputs")) };
        common_dtype(x, bias)?;
        let axis = channel_axis(&x.shape, &BiasAdd::read(call.attrs).data_format)?;
        if bias.shape[..] != [x.shape[axis]] {
            let (lhs, rhs) = (x.shape.clone(), bias.shape.clone());
            let expected = "the bias must be a vector with one number for each channel";
            return Err(Error::ShapeMismatch { lhs, rhs, expected });
        }
        family::same(call)
    },
    samples: &[
        sample(&[uniform(&[2, 2, 3], -1.0, 1.0), uniform(&[3], -1.0, 1.0)]),
        sample_with(&[uniform(&[2, 3, 2], -1.0, 1.0), uniform(&[3], -1.0, 1.0)], || {
            vec![("data_format", Attr::Text("channels_first".into()))]
        }),
    ],
    ..activation(
        "bias_add",
        "Adds a vector along the channels.",
        "y[..., c] = x[..., c] + bias[c]",
        Kernel::Composite(|r| {
            let (x, bias) = (r.x[0], r.x[1]);
            let shape = x.shape();
            let axis = channel_axis(&shape, &BiasAdd::read(r.attrs).data_format).unwrap_or(0);
            smallvec![x + bias.reshape(&along(&shape, &[axis]))]
        }),
        Derivative::None,
    )
};
