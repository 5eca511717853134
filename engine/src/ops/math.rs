//! Elementwise arithmetic, functions and comparisons.

use smallvec::smallvec;

use crate::{
    array::Array,
    attrs,
    aval::{Aval, Avals},
    dtype::{DType, DTypes},
    error::Error,
    graph::Var,
    kernels::{
        elementwise::zip,
        real::{Number, Real, int_pow},
    },
    op::{Call, Derivative, Kernel, OpDef, Reads, ResultType, Rule, cotangents, d},
    ops::family::{self, broadcast, map_kernel, sample, uniform, zip_kernel},
};

/// The family, as the catalogue lists it.
pub const ALL: &[&OpDef] = &[
    &ADD,
    &SUBTRACT,
    &MULTIPLY,
    &DIVIDE,
    &FLOORDIV,
    &FLOORMOD,
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
    &SIN,
    &COS,
    &TAN,
    &TANH,
    &SIGMOID,
    &ERF,
    &FLOOR,
    &CEIL,
    &ROUND,
    &CLIP_BY_VALUE,
    &EQUAL,
    &NOT_EQUAL,
    &LESS,
    &LESS_EQUAL,
    &GREATER,
    &GREATER_EQUAL,
    &LOGICAL_AND,
    &LOGICAL_OR,
    &LOGICAL_NOT,
];

const POSITIVE: &[crate::op::Sample] = &[sample(&[uniform(&[2, 3], 0.5, 2.0)])];
const NUMERIC: DTypes = DTypes::NUMERIC;

// --- arithmetic ---

/// Sum.
pub static ADD: OpDef = OpDef {
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

/// Difference.
pub static SUBTRACT: OpDef = OpDef {
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

/// Quotient rounded down.
pub static FLOORDIV: OpDef = OpDef {
    dtypes: NUMERIC,
    ..family::binary(
        "floordiv",
        "Quotient rounded towards minus infinity.",
        "z = floor(x / y)",
        Kernel::Run(|call, out, inputs| divide(call, out, inputs, Rounded::Quotient)),
        Derivative::None,
    )
};

/// Remainder of the quotient rounded down.
pub static FLOORMOD: OpDef = OpDef {
    dtypes: NUMERIC,
    ..family::binary(
        "floormod",
        "Remainder of the rounded quotient; it has the divisor's sign.",
        "z = x - floor(x / y) * y",
        Kernel::Run(|call, out, inputs| divide(call, out, inputs, Rounded::Rest)),
        Derivative::Elementwise(&[
            d(Reads::NONE, |r| r.y().ones()),
            d(Reads::X, |r| -r.x[0].zip(&FLOORDIV, r.x[1])),
        ]),
    )
};

/// What of a rounded division is wanted.
#[derive(Clone, Copy)]
enum Rounded {
    Quotient,
    Rest,
}

fn divide(
    call: &Call,
    out: &[Aval],
    inputs: &[&Array],
    want: Rounded,
) -> Result<crate::op::Arrays, Error> {
    fn typed<T: crate::array::Element + Number>(
        call: &Call,
        out: &Aval,
        inputs: &[&Array],
        want: Rounded,
    ) -> Result<Array, Error> {
        let (x, y) = (inputs[0].elements::<T>()?, inputs[1].elements::<T>()?);
        if T::DTYPE.is_integer()
            && let Some(position) = y.iter().position(|&y| y == T::ZERO)
        {
            return Err(Error::DivisionByZero { position });
        }
        let (xs, ys) = (&call.inputs[0].shape, &call.inputs[1].shape);
        let z = match want {
            Rounded::Quotient => zip((x, xs), (y, ys), &out.shape, Number::floor_div)?,
            Rounded::Rest => zip((x, xs), (y, ys), &out.shape, Number::floor_mod)?,
        };
        Array::new(&out.shape, z)
    }
    Ok(smallvec![match out[0].dtype {
        DType::F32 => typed::<f32>(call, &out[0], inputs, want),
        DType::F64 => typed::<f64>(call, &out[0], inputs, want),
        DType::I32 => typed::<i32>(call, &out[0], inputs, want),
        DType::I64 => typed::<i64>(call, &out[0], inputs, want),
        DType::Bool => Err(family::unsupported(call, DType::Bool)),
    }?])
}

/// Power.
pub static POW: OpDef = OpDef {
    dtypes: NUMERIC,
    ..family::binary(
        "pow",
        "The first tensor to the power of the second. Negative integer powers of integers are 0 or +-1.",
        "z = x^y",
        Kernel::Run(|call, out, inputs| {
            let (xs, ys) = (&call.inputs[0].shape, &call.inputs[1].shape);
            let shape = &out[0].shape;
            Ok(smallvec![match inputs {
                [Array::F32(_), ..] => {
                    let (x, y) = (inputs[0].elements()?, inputs[1].elements()?);
                    Array::new(shape, zip((x, xs), (y, ys), shape, <f32 as Real>::pow_)?)?
                }
                [Array::F64(_), ..] => {
                    let (x, y) = (inputs[0].elements()?, inputs[1].elements()?);
                    Array::new(shape, zip((x, xs), (y, ys), shape, <f64 as Real>::pow_)?)?
                }
                [Array::I32(_), ..] => {
                    let (x, y) = (inputs[0].elements()?, inputs[1].elements()?);
                    Array::new(shape, zip((x, xs), (y, ys), shape, integer_power::<i32>)?)?
                }
                _ => {
                    let (x, y) = (inputs[0].elements()?, inputs[1].elements()?);
                    Array::new(shape, zip((x, xs), (y, ys), shape, integer_power::<i64>)?)?
                }
            }])
        }),
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

/// An integer power; negative exponents give the truncated reciprocal, 0 for a base of 0.
fn integer_power<T: Number + num_traits::PrimInt>(base: T, exponent: T) -> T {
    if exponent >= T::ZERO {
        return int_pow(base, exponent);
    }
    let odd = exponent & T::ONE == T::ONE;
    if base == T::ONE || (base == T::ONE.neg() && !odd) {
        T::ONE
    } else if base == T::ONE.neg() {
        base
    } else {
        T::ZERO
    }
}

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
    map_kernel!(F32 F64: |x| x.exp_()),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y())]),
);

/// Exponential minus one.
pub static EXPM1: OpDef = family::unary(
    "expm1",
    "Exponential minus one, accurate near 0.",
    "y = exp(x) - 1",
    map_kernel!(F32 F64: |x| x.exp_m1_()),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y() + 1.0)]),
);

/// Natural logarithm.
pub static LOG: OpDef = OpDef {
    samples: POSITIVE,
    ..family::unary(
        "log",
        "Natural logarithm.",
        "y = ln(x)",
        map_kernel!(F32 F64: |x| x.ln_()),
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
        map_kernel!(F32 F64: |x| x.ln_1p_()),
        Derivative::Elementwise(&[d(Reads::X0, |r| (r.x[0] + 1.0).map(&RECIPROCAL))]),
    )
};

/// Sine.
pub static SIN: OpDef = family::unary(
    "sin",
    "Sine.",
    "y = sin(x)",
    map_kernel!(F32 F64: |x| x.sin_()),
    Derivative::Elementwise(&[d(Reads::X0, |r| r.x[0].map(&COS))]),
);

/// Cosine.
pub static COS: OpDef = family::unary(
    "cos",
    "Cosine.",
    "y = cos(x)",
    map_kernel!(F32 F64: |x| x.cos_()),
    Derivative::Elementwise(&[d(Reads::X0, |r| -r.x[0].map(&SIN))]),
);

/// Tangent.
pub static TAN: OpDef = OpDef {
    samples: &[sample(&[uniform(&[2, 3], -1.0, 1.0)])],
    ..family::unary(
        "tan",
        "Tangent.",
        "y = tan(x)",
        map_kernel!(F32 F64: |x| x.tan_()),
        Derivative::Elementwise(&[d(Reads::Y, |r| r.y().map(&SQUARE) + 1.0)]),
    )
};

/// Hyperbolic tangent.
pub static TANH: OpDef = family::unary(
    "tanh",
    "Hyperbolic tangent.",
    "y = tanh(x)",
    map_kernel!(F32 F64: |x| x.tanh_()),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y().ones() - r.y().map(&SQUARE))]),
);

/// Logistic sigmoid. A primitive for stability: the exponential never overflows.
pub static SIGMOID: OpDef = family::unary(
    "sigmoid",
    "Logistic sigmoid.",
    "y = 1 / (1 + exp(-x))",
    map_kernel!(F32 F64: |x| {
        let e = (-x.abs()).exp_();
        if x >= 0.0 { (e + 1.0).recip() } else { e / (e + 1.0) }
    }),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y() * (r.y().ones() - r.y()))]),
);

/// Error function.
pub static ERF: OpDef = family::unary(
    "erf",
    "Error function.",
    "y = 2 / sqrt(pi) * integral of exp(-t^2) from 0 to x",
    map_kernel!(F32 F64: |x| x.erf_()),
    Derivative::Elementwise(&[d(Reads::X0, |r| {
        (-r.x[0].map(&SQUARE)).map(&EXP) * std::f64::consts::FRAC_2_SQRT_PI
    })]),
);

// --- rounding and clipping ---

/// Largest integer not above.
pub static FLOOR: OpDef = family::unary(
    "floor",
    "Rounds towards minus infinity.",
    "y = floor(x)",
    map_kernel!(F32 F64: |x| x.floor()),
    Derivative::None,
);

/// Smallest integer not below.
pub static CEIL: OpDef = family::unary(
    "ceil",
    "Rounds towards plus infinity.",
    "y = ceil(x)",
    map_kernel!(F32 F64: |x| x.ceil()),
    Derivative::None,
);

/// Nearest integer.
pub static ROUND: OpDef = family::unary(
    "round",
    "Rounds to the nearest integer, halves to the even one.",
    "y = round(x)",
    map_kernel!(F32 F64: |x| x.round_ties_even()),
    Derivative::None,
);

attrs! {
    /// Bounds.
    Clip {
        /// Smallest result.
        clip_value_min: f64 = Required,
        /// Largest result.
        clip_value_max: f64 = Required,
    }
}

/// Clips to bounds. A composite would give the second bound the tie and lose the gradient on it.
pub static CLIP_BY_VALUE: OpDef = OpDef {
    attrs: Clip::SPECS,
    infer: |call| {
        let Clip { clip_value_min, clip_value_max } = Clip::read(call.attrs);
        // Also true if one of them is NaN.
        if !matches!(
            clip_value_min.partial_cmp(&clip_value_max),
            Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal)
        ) {
            return Err(Error::attribute("clip_value_min", "must not be more than clip_value_max"));
        }
        family::same(call)
    },
    samples: &[family::sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || Clip::named(-1.0, 1.5))],
    ..family::unary(
        "clip_by_value",
        "Clips to bounds; the gradient passes on the bounds too.",
        "y = min(max(x, clip_value_min), clip_value_max)",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Real + Number>(call: &Call, out: &Aval, x: &Array) -> Result<Array, Error> {
                let Clip { clip_value_min, clip_value_max } = Clip::read(call.attrs);
                let (low, high) = (T::of(clip_value_min), T::of(clip_value_max));
                let clip = |x: T| {
                    if x < low {
                        low
                    } else if x > high {
                        high
                    } else {
                        x
                    }
                };
                Array::new(&out.shape, crate::kernels::elementwise::map(x.elements()?, clip)?)
            }
            Ok(smallvec![match out[0].dtype {
                DType::F32 => typed::<f32>(call, &out[0], inputs[0])?,
                _ => typed::<f64>(call, &out[0], inputs[0])?,
            }])
        }),
        Derivative::Elementwise(&[d(Reads::X0, |r| {
            let Clip { clip_value_min, clip_value_max } = Clip::read(r.attrs);
            let above = r.x[0].zip(&GREATER_EQUAL, r.x[0].scalar(clip_value_min));
            let below = r.x[0].zip(&LESS_EQUAL, r.x[0].scalar(clip_value_max));
            above.zip(&LOGICAL_AND, below).cast(r.x[0].dtype())
        })]),
    )
};

impl Clip {
    fn named(low: f64, high: f64) -> Vec<(&'static str, attrs::Attr)> {
        vec![
            ("clip_value_min", attrs::Attr::Double(low)),
            ("clip_value_max", attrs::Attr::Double(high)),
        ]
    }
}

// --- comparisons and logic ---

fn compare(call: &Call) -> Result<Avals, Error> {
    let mut out = broadcast(call)?;
    out[0].dtype = DType::Bool;
    Ok(out)
}

const fn comparison(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
) -> OpDef {
    OpDef {
        dtypes: NUMERIC,
        result: ResultType::Fixed(DType::Bool),
        infer: compare,
        ..family::binary(name, summary, formula, kernel, Derivative::None)
    }
}

/// Equality.
pub static EQUAL: OpDef = OpDef {
    dtypes: DTypes::ANY,
    ..comparison(
        "equal",
        "Whether two elements are equal.",
        "z = (x == y)",
        zip_kernel!(F32 F64 I32 I64 Bool: |x, y| x == y),
    )
};

/// Inequality.
pub static NOT_EQUAL: OpDef = OpDef {
    dtypes: DTypes::ANY,
    ..comparison(
        "not_equal",
        "Whether two elements differ.",
        "z = (x != y)",
        zip_kernel!(F32 F64 I32 I64 Bool: |x, y| x != y),
    )
};

/// Less.
pub static LESS: OpDef = comparison(
    "less",
    "Whether the first element is less.",
    "z = (x < y)",
    zip_kernel!(F32 F64 I32 I64: |x, y| x < y),
);

/// Less or equal.
pub static LESS_EQUAL: OpDef = comparison(
    "less_equal",
    "Whether the first element is less or equal.",
    "z = (x <= y)",
    zip_kernel!(F32 F64 I32 I64: |x, y| x <= y),
);

/// Greater.
pub static GREATER: OpDef = comparison(
    "greater",
    "Whether the first element is greater.",
    "z = (x > y)",
    zip_kernel!(F32 F64 I32 I64: |x, y| x > y),
);

/// Greater or equal.
pub static GREATER_EQUAL: OpDef = comparison(
    "greater_equal",
    "Whether the first element is greater or equal.",
    "z = (x >= y)",
    zip_kernel!(F32 F64 I32 I64: |x, y| x >= y),
);

const TRUTHS: &[crate::op::Sample] = &[sample(&[family::truth(&[2, 3]), family::truth(&[3])])];

const fn logic(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
) -> OpDef {
    OpDef {
        dtypes: DTypes::BOOL,
        samples: TRUTHS,
        ..family::binary(name, summary, formula, kernel, Derivative::None)
    }
}

/// Conjunction.
pub static LOGICAL_AND: OpDef = logic(
    "logical_and",
    "Whether both elements are true.",
    "z = x and y",
    zip_kernel!(Bool: |x, y| x && y),
);

/// Disjunction.
pub static LOGICAL_OR: OpDef = logic(
    "logical_or",
    "Whether one element is true.",
    "z = x or y",
    zip_kernel!(Bool: |x, y| x || y),
);

/// Negation.
pub static LOGICAL_NOT: OpDef = OpDef {
    dtypes: DTypes::BOOL,
    samples: &[sample(&[family::truth(&[2, 3])])],
    ..family::unary(
        "logical_not",
        "Whether an element is false.",
        "y = not x",
        map_kernel!(Bool: |x| !x),
        Derivative::None,
    )
};
