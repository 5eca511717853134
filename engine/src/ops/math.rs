//! Elementwise arithmetic, functions and comparisons.

use smallvec::smallvec;

use crate::{
    batching::Batching,
    dtype::DTypes,
    error::Error,
    graph::Var,
    kernels::real::{Number, Real},
    op::{Derivative, Kernel, OpDef, Reads, Rule, cotangents, d},
    ops::{
        EQUAL, GREATER, GREATER_EQUAL, IDENTITY, LESS, LESS_EQUAL, LOGICAL_AND,
        family::{self, function_kernel, map_kernel, sample, uniform, zip_kernel},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &ADD,
    &ADD_N,
    &SUBTRACT,
    &MULTIPLY,
    &MULTIPLY_NO_NAN,
    &DIVIDE,
    &DIVIDE_NO_NAN,
    &POW,
    &MAXIMUM,
    &MINIMUM,
    &SQUARED_DIFFERENCE,
    &NEGATIVE,
    &ABS,
    &SIGN,
    &SQUARE,
    &SQRT,
    &RSQRT,
    &RECIPROCAL,
    &EXP,
    &EXPM1,
    &LOG,
    &LOG1P,
    &SIGMOID,
];

const POSITIVE: &[crate::op::Sample] = &[sample(&[uniform(&[2, 3], 0.5, 2.0)])];
const NUMERIC: DTypes = DTypes::NUMERIC;

// --- arithmetic ---

/// Sum.
pub static ADD: OpDef = OpDef {
    batching: Batching::Elementwise,
    dtypes: NUMERIC,
    ..family::binary(
        "add",
        "Sum of two tensors.",
        "z = x + y",
        zip_kernel!(F32 F64 I32 I64: |x, y| Number::add(x, y)),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| {
                cotangents([ct[0].sum_to(&r.x[0].shape()), ct[0].sum_to(&r.x[1].shape())])
            },
        },
    )
};

/// Sum of any number of tensors.
pub static ADD_N: OpDef = OpDef {
    inputs: &["inputs"],
    variadic: true,
    dtypes: NUMERIC,
    infer: |call| {
        let [first, rest @ ..] = call.inputs else {
            return Err(Error::InputCount { expected: "1 or more", given: 0 });
        };
        for next in rest {
            family::common_dtype(first, next)?;
            if next.shape != first.shape {
                return Err(Error::ShapeMismatch {
                    lhs: first.shape.clone(),
                    rhs: next.shape.clone(),
                    expected: "all shapes must be equal",
                });
            }
        }
        Ok(smallvec![first.clone()])
    },
    samples: &[sample(&[uniform(&[2, 3], 0.5, 2.0); 3]), sample(&[uniform(&[2, 3], 0.5, 2.0)])],
    ..family::unary(
        "add_n",
        "Sum of tensors of one shape, added in their order.",
        "y = x_0 + x_1 + ...",
        Kernel::Composite(|r| {
            let sum = r.x.iter().copied().reduce(|sum, x| sum + x);
            smallvec![sum.unwrap_or(r.x[0]).map(&IDENTITY)]
        }),
        Derivative::None,
    )
};

/// Difference.
pub static SUBTRACT: OpDef = OpDef {
    batching: Batching::Elementwise,
    dtypes: NUMERIC,
    ..family::binary(
        "subtract",
        "Difference of two tensors.",
        "z = x - y",
        zip_kernel!(F32 F64 I32 I64: |x, y| Number::sub(x, y)),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| {
                smallvec![
                    r.needs[0].then(|| ct[0].sum_to(&r.x[0].shape()).into()),
                    r.needs[1].then(|| (-ct[0]).sum_to(&r.x[1].shape()).into()),
                ]
            },
        },
    )
};

/// Product.
pub static MULTIPLY: OpDef = OpDef {
    dtypes: NUMERIC,
    ..family::binary(
        "multiply",
        "Product of two tensors.",
        "z = x * y",
        zip_kernel!(F32 F64 I32 I64: |x, y| Number::mul(x, y)),
        Derivative::Elementwise(&[d(Reads::X1, |r| r.x[1]), d(Reads::X0, |r| r.x[0])]),
    )
};

/// Product that is 0 where the second factor is.
pub static MULTIPLY_NO_NAN: OpDef = family::binary(
    "multiply_no_nan",
    "Product of two tensors, and 0 where the second is 0, even if the first is NaN or infinite.",
    "z = x * y if y != 0 else 0",
    zip_kernel!(F32 F64: |x, y| if y == 0.0 { 0.0 } else { x * y }),
    Derivative::Multilinear {
        transpose: |r, ct| {
            smallvec![
                r.needs[0].then(|| {
                    ct[0].zip(&MULTIPLY_NO_NAN, r.x[1]).sum_to(&r.x[0].shape()).into()
                }),
                r.needs[1].then(|| {
                    r.x[0].zip(&MULTIPLY_NO_NAN, ct[0]).sum_to(&r.x[1].shape()).into()
                }),
            ]
        },
    },
);

/// Quotient.
pub static DIVIDE: OpDef = family::binary(
    "divide",
    "Quotient of two tensors.",
    "z = x / y",
    zip_kernel!(F32 F64: |x, y| x / y),
    Derivative::Elementwise(&[
        d(Reads::X1, |r| r.x[1].map(&RECIPROCAL)),
        d(Reads::X1.and(Reads::Y), |r| -(r.y() / r.x[1])),
    ]),
);

/// Quotient that is 0 where the divisor is.
pub static DIVIDE_NO_NAN: OpDef = family::binary(
    "divide_no_nan",
    "Quotient of two tensors, and 0 where the divisor is 0; so are its derivatives there.",
    "z = x / y if y != 0 else 0",
    zip_kernel!(F32 F64: |x, y| if y == 0.0 { 0.0 } else { x / y }),
    Derivative::Elementwise(&[
        d(Reads::X1, |r| r.x[1].ones().zip(&DIVIDE_NO_NAN, r.x[1])),
        d(Reads::X1.and(Reads::Y), |r| -r.y().zip(&DIVIDE_NO_NAN, r.x[1])),
    ]),
);

/// Power.
pub static POW: OpDef = OpDef {
    dtypes: NUMERIC,
    ..family::binary(
        "pow",
        "The first tensor to the power of the second. Negative integer powers of integers are 0 or +-1.",
        "z = x^y",
        function_kernel!(F32 F64 I32 I64: |x, y| Number::power(x, y)),
        Derivative::Elementwise(&[
            d(Reads::X, |r| r.x[1] * r.x[0].zip(&POW, r.x[1] - 1.0)),
            // The logarithm is taken as 0 where the base is not positive, as TensorFlow does.
            d(Reads::X0.and(Reads::Y), |r| {
                let positive = r.x[0].zip(&GREATER, r.x[0].zeros());
                let log = r.x[0].select(positive, r.x[0].ones()).map(&LOG);
                r.y() * log
            }),
        ]),
    )
};

/// Larger element.
pub static MAXIMUM: OpDef = OpDef {
    dtypes: NUMERIC,
    ..family::binary(
        "maximum",
        "The larger of two elements; equal ones pass the gradient to the first.",
        "z = max(x, y)",
        zip_kernel!(F32 F64 I32 I64: |x, y| if x >= y || Number::is_nan(x) { x } else { y }),
        Derivative::Elementwise(&[
            d(Reads::X, |r| r.x[0].zip(&GREATER_EQUAL, r.x[1]).cast(r.y().dtype())),
            d(Reads::X, |r| r.x[0].zip(&LESS, r.x[1]).cast(r.y().dtype())),
        ]),
    )
};

/// Smaller element.
pub static MINIMUM: OpDef = OpDef {
    dtypes: NUMERIC,
    ..family::binary(
        "minimum",
        "The smaller of two elements; equal ones pass the gradient to the first.",
        "z = min(x, y)",
        zip_kernel!(F32 F64 I32 I64: |x, y| if x <= y || Number::is_nan(x) { x } else { y }),
        Derivative::Elementwise(&[
            d(Reads::X, |r| r.x[0].zip(&LESS_EQUAL, r.x[1]).cast(r.y().dtype())),
            d(Reads::X, |r| r.x[0].zip(&GREATER, r.x[1]).cast(r.y().dtype())),
        ]),
    )
};

/// Squared difference.
pub static SQUARED_DIFFERENCE: OpDef = OpDef {
    dtypes: NUMERIC,
    ..family::binary(
        "squared_difference",
        "Square of the difference of two tensors.",
        "z = (x - y)^2",
        Kernel::Composite(|r| smallvec![(r.x[0] - r.x[1]).map(&SQUARE)]),
        Derivative::None,
    )
};

/// Negation.
pub static NEGATIVE: OpDef = OpDef {
    batching: Batching::Elementwise,
    dtypes: NUMERIC,
    ..family::unary(
        "negative",
        "Negation.",
        "y = -x",
        map_kernel!(F32 F64 I32 I64: |x| Number::neg(x)),
        Derivative::Linear { reads: Reads::NONE, transpose: |_, ct| cotangents([-ct[0]]) },
    )
};

/// Absolute value.
pub static ABS: OpDef = OpDef {
    dtypes: NUMERIC,
    ..family::unary(
        "abs",
        "Absolute value; its derivative at 0 is 0.",
        "y = |x|",
        map_kernel!(F32 F64 I32 I64: |x| Number::abs(x)),
        Derivative::Elementwise(&[d(Reads::X0, |r| r.x[0].map(&SIGN))]),
    )
};

/// Sign.
pub static SIGN: OpDef = OpDef {
    batching: Batching::Elementwise,
    dtypes: NUMERIC,
    ..family::unary(
        "sign",
        "Sign: -1, 0 or 1.",
        "y = sign(x)",
        map_kernel!(F32 F64 I32 I64: |x| Number::sign(x)),
        Derivative::Zero,
    )
};

/// Square.
pub static SQUARE: OpDef = OpDef {
    dtypes: NUMERIC,
    ..family::unary(
        "square",
        "Square.",
        "y = x^2",
        map_kernel!(F32 F64 I32 I64: |x| Number::mul(x, x)),
        Derivative::Elementwise(&[d(Reads::X0, |r| r.x[0] * 2.0)]),
    )
};

// --- functions ---

/// Square root.
pub static SQRT: OpDef = OpDef {
    batching: Batching::Elementwise,
    samples: POSITIVE,
    ..family::unary(
        "sqrt",
        "Square root; its derivative at 0 is infinite, but what is 0 above stays 0.",
        "y = sqrt(x)",
        map_kernel!(F32 F64: |x| x.sqrt()),
        Derivative::Custom {
            reads: Reads::Y,
            vjp: |r, ct| cotangents([sqrt_pull(r, ct[0])]),
            jvp: |r, t| smallvec![sqrt_pull(r, t[0].unwrap_or_else(|| r.x[0].zeros()))],
        },
    )
};

/// v / (2 y), and 0 where both are 0: so that a branch that `where` did not choose gives no NaN, as in TensorFlow.
fn sqrt_pull<'g>(r: &Rule<'g>, v: Var<'g>) -> Var<'g> {
    let zero = v.scalar(0.0);
    let both = v.zip(&EQUAL, zero).zip(&LOGICAL_AND, r.y().zip(&EQUAL, zero));
    v / (r.y().ones().select(both, r.y()) * 2.0)
}

/// Reciprocal of the square root.
pub static RSQRT: OpDef = OpDef {
    samples: POSITIVE,
    ..family::unary(
        "rsqrt",
        "Reciprocal of the square root.",
        "y = 1 / sqrt(x)",
        map_kernel!(F32 F64: |x| x.sqrt().recip()),
        Derivative::Elementwise(&[d(Reads::Y, |r| r.y() * r.y() * r.y() * -0.5)]),
    )
};

/// Reciprocal.
pub static RECIPROCAL: OpDef = OpDef {
    samples: POSITIVE,
    ..family::unary(
        "reciprocal",
        "Reciprocal.",
        "y = 1 / x",
        map_kernel!(F32 F64: |x| x.recip()),
        Derivative::Elementwise(&[d(Reads::Y, |r| -r.y().map(&SQUARE))]),
    )
};

/// Exponential.
pub static EXP: OpDef = family::unary(
    "exp",
    "Exponential.",
    "y = exp(x)",
    function_kernel!(F32 F64: |x| x.exp_()),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y[0])]),
);

/// Exponential minus one.
pub static EXPM1: OpDef = family::unary(
    "expm1",
    "Exponential minus one, accurate near 0.",
    "y = exp(x) - 1",
    function_kernel!(F32 F64: |x| x.exp_m1_()),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y() + 1.0)]),
);

/// Natural logarithm.
pub static LOG: OpDef = OpDef {
    samples: POSITIVE,
    ..family::unary(
        "log",
        "Natural logarithm.",
        "y = ln(x)",
        function_kernel!(F32 F64: |x| x.ln_()),
        Derivative::Elementwise(&[d(Reads::X0, |r| r.x[0].map(&RECIPROCAL))]),
    )
};

/// Natural logarithm of one plus x.
pub static LOG1P: OpDef = OpDef {
    samples: POSITIVE,
    ..family::unary(
        "log1p",
        "Natural logarithm of 1 + x, accurate near 0.",
        "y = ln(1 + x)",
        function_kernel!(F32 F64: |x| x.ln_1p_()),
        Derivative::Elementwise(&[d(Reads::X0, |r| (r.x[0] + 1.0).map(&RECIPROCAL))]),
    )
};

/// Logistic sigmoid. A primitive for stability and speed: the exponential never overflows.
pub static SIGMOID: OpDef = family::unary(
    "sigmoid",
    "Logistic sigmoid.",
    "y = 1 / (1 + exp(-x))",
    function_kernel!(F32 F64: |x| x.sigmoid_()),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y() * (r.y().ones() - r.y()))]),
);
