//! Circular and hyperbolic functions and their inverses.

use crate::{
    kernels::real::Real,
    op::{Derivative, OpDef, Reads, Sample, d},
    ops::{
        RECIPROCAL, RSQRT, SQUARE,
        family::{self, each_kernel, function_kernel, sample, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&SIN, &COS, &TAN, &ASIN, &ACOS, &ATAN, &ATAN2, &SINH, &COSH, &TANH, &ASINH, &ACOSH, &ATANH];

/// Numbers well inside (-1, 1).
const INSIDE: &[Sample] = &[sample(&[uniform(&[2, 3], -0.8, 0.8)])];

// --- circular ---

/// Sine.
pub static SIN: OpDef = family::unary(
    "sin",
    "Sine.",
    "y = sin(x)",
    function_kernel!(F32 F64: |x| x.is_near() => x.sin_near(), else x.sin_far()),
    Derivative::Elementwise(&[d(Reads::X0, |r| r.x[0].map(&COS))]),
);

/// Cosine.
pub static COS: OpDef = family::unary(
    "cos",
    "Cosine.",
    "y = cos(x)",
    function_kernel!(F32 F64: |x| x.is_near() => x.cos_near(), else x.cos_far()),
    Derivative::Elementwise(&[d(Reads::X0, |r| -r.x[0].map(&SIN))]),
);

/// Tangent.
pub static TAN: OpDef = OpDef {
    samples: &[sample(&[uniform(&[2, 3], -1.0, 1.0)])],
    ..family::unary(
        "tan",
        "Tangent.",
        "y = tan(x)",
        function_kernel!(F32 F64: |x| x.is_near() => x.tan_near(), else x.tan_far()),
        Derivative::Elementwise(&[d(Reads::Y, |r| r.y().map(&SQUARE) + 1.0)]),
    )
};

/// Inverse sine.
pub static ASIN: OpDef = OpDef {
    samples: INSIDE,
    ..family::unary(
        "asin",
        "Inverse sine, between -pi / 2 and pi / 2; its derivative at -1 and 1 is infinite.",
        "sin(y) = x",
        each_kernel!(F32 F64: |x| x.asin_()),
        Derivative::Elementwise(&[d(Reads::X0, |r| {
            ((r.x[0].ones() - r.x[0]) * (r.x[0] + 1.0)).map(&RSQRT)
        })]),
    )
};

/// Inverse cosine.
pub static ACOS: OpDef = OpDef {
    samples: INSIDE,
    ..family::unary(
        "acos",
        "Inverse cosine, between 0 and pi; its derivative at -1 and 1 is infinite.",
        "cos(y) = x",
        each_kernel!(F32 F64: |x| x.acos_()),
        Derivative::Elementwise(&[d(Reads::X0, |r| {
            -((r.x[0].ones() - r.x[0]) * (r.x[0] + 1.0)).map(&RSQRT)
        })]),
    )
};

/// Inverse tangent.
pub static ATAN: OpDef = family::unary(
    "atan",
    "Inverse tangent, between -pi / 2 and pi / 2.",
    "tan(y) = x",
    function_kernel!(F32 F64: |x| x.atan_()),
    Derivative::Elementwise(&[d(Reads::X0, |r| (r.x[0].map(&SQUARE) + 1.0).map(&RECIPROCAL))]),
);

/// Angle of a point.
pub static ATAN2: OpDef = OpDef {
    inputs: &["y", "x"],
    ..family::binary(
        "atan2",
        "Angle of the point (x, y), between -pi and pi; its derivatives at (0, 0) are NaN.",
        "tan(z) = y / x, in the quadrant of (x, y)",
        function_kernel!(F32 F64: |y, x| y.atan2_(x)),
        Derivative::Elementwise(&[
            d(Reads::X, |r| r.x[1] / (r.x[0].map(&SQUARE) + r.x[1].map(&SQUARE))),
            d(Reads::X, |r| -r.x[0] / (r.x[0].map(&SQUARE) + r.x[1].map(&SQUARE))),
        ]),
    )
};

// --- hyperbolic ---

/// Hyperbolic sine.
pub static SINH: OpDef = family::unary(
    "sinh",
    "Hyperbolic sine.",
    "y = (exp(x) - exp(-x)) / 2",
    function_kernel!(F32 F64: |x| x.sinh_()),
    Derivative::Elementwise(&[d(Reads::X0, |r| r.x[0].map(&COSH))]),
);

/// Hyperbolic cosine.
pub static COSH: OpDef = family::unary(
    "cosh",
    "Hyperbolic cosine.",
    "y = (exp(x) + exp(-x)) / 2",
    function_kernel!(F32 F64: |x| x.cosh_()),
    Derivative::Elementwise(&[d(Reads::X0, |r| r.x[0].map(&SINH))]),
);

/// Hyperbolic tangent.
pub static TANH: OpDef = family::unary(
    "tanh",
    "Hyperbolic tangent.",
    "y = tanh(x)",
    function_kernel!(F32 F64: |x| x.tanh_()),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y().ones() - r.y().map(&SQUARE))]),
);

/// Inverse hyperbolic sine.
pub static ASINH: OpDef = family::unary(
    "asinh",
    "Inverse hyperbolic sine.",
    "sinh(y) = x",
    function_kernel!(F32 F64: |x| x.asinh_()),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y().map(&COSH).map(&RECIPROCAL))]),
);

/// Inverse hyperbolic cosine.
pub static ACOSH: OpDef = OpDef {
    samples: &[sample(&[uniform(&[2, 3], 1.2, 3.0)])],
    ..family::unary(
        "acosh",
        "Inverse hyperbolic cosine, NaN below 1; its derivative at 1 is infinite.",
        "cosh(y) = x",
        function_kernel!(F32 F64: |x| x.acosh_()),
        Derivative::Elementwise(&[d(Reads::Y, |r| r.y().map(&SINH).map(&RECIPROCAL))]),
    )
};

/// Inverse hyperbolic tangent.
pub static ATANH: OpDef = OpDef {
    samples: INSIDE,
    ..family::unary(
        "atanh",
        "Inverse hyperbolic tangent, infinite at -1 and 1.",
        "tanh(y) = x",
        function_kernel!(F32 F64: |x| x.atanh_()),
        Derivative::Elementwise(&[d(Reads::X0, |r| {
            ((r.x[0].ones() - r.x[0]) * (r.x[0] + 1.0)).map(&RECIPROCAL)
        })]),
    )
};
