//! Comparisons, logic, and tests of elements.

#![expect(clippy::float_cmp, reason = "exact comparison is what was asked for")]

use smallvec::smallvec;

use crate::{
    array::Array,
    attrs,
    aval::{Aval, Avals},
    batching::Batching,
    dtype::{DType, DTypes},
    error::Error,
    kernels::{elementwise::map, real::Real},
    op::{Call, Derivative, Kernel, OpDef, Reads, ResultType, cotangents},
    ops::family::{self, broadcast, by_dtype, map_kernel, sample, zip_kernel},
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &EQUAL,
    &NOT_EQUAL,
    &LESS,
    &LESS_EQUAL,
    &GREATER,
    &GREATER_EQUAL,
    &LOGICAL_AND,
    &LOGICAL_OR,
    &LOGICAL_XOR,
    &LOGICAL_NOT,
    &IS_NAN,
    &IS_INF,
    &IS_FINITE,
    &CHECK_NUMERICS,
];

const NUMERIC: DTypes = DTypes::NUMERIC;

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
        batching: Batching::Elementwise,
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
        batching: Batching::Elementwise,
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

/// Exclusive disjunction.
pub static LOGICAL_XOR: OpDef = logic(
    "logical_xor",
    "Whether exactly one element is true.",
    "z = x xor y",
    zip_kernel!(Bool: |x, y| x != y),
);

/// Negation.
pub static LOGICAL_NOT: OpDef = OpDef {
    batching: Batching::Elementwise,
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

// --- tests of elements ---

const fn test(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
) -> OpDef {
    OpDef {
        result: ResultType::Fixed(DType::Bool),
        infer: |call| {
            Ok(smallvec![Aval { dtype: DType::Bool, shape: call.inputs[0].shape.clone() }])
        },
        ..family::unary(name, summary, formula, kernel, Derivative::None)
    }
}

/// Not a number.
pub static IS_NAN: OpDef = test(
    "is_nan",
    "Whether an element is NaN.",
    "y = (x != x)",
    map_kernel!(F32 F64: |x| x.is_nan()),
);

/// Infinite.
pub static IS_INF: OpDef = test(
    "is_inf",
    "Whether an element is infinite.",
    "y = (|x| == infinity)",
    map_kernel!(F32 F64: |x| x.is_infinite()),
);

/// Finite.
pub static IS_FINITE: OpDef = test(
    "is_finite",
    "Whether an element is neither NaN nor infinite.",
    "y = (|x| < infinity)",
    map_kernel!(F32 F64: |x| x.is_finite()),
);

attrs! {
    /// What an error says.
    Message {
        /// A text for the error.
        message: String = Text(""),
    }
}

/// A guard. It copies, because only kernels see elements.
pub static CHECK_NUMERICS: OpDef = OpDef {
    attrs: Message::SPECS,
    ..family::unary(
        "check_numerics",
        "The same elements; the command fails if one of them is NaN or infinite.",
        "y = x",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Real>(call: &Call, out: &Aval, x: &[T]) -> Result<Array, Error> {
                if let Some(position) = x.iter().position(|x| !x.is_finite()) {
                    let message = Message::read(call.attrs).message.into();
                    let found = if x[position].is_nan() { "NaN" } else { "infinite" };
                    return Err(Error::NotFinite { message, found, position });
                }
                Array::new(&out.shape, map(x, |x| x)?)
            }
            Ok(smallvec![
                by_dtype!(float: out[0].dtype, T => typed::<T>(call, &out[0], inputs[0].elements()?))?
            ])
        }),
        Derivative::Linear { reads: Reads::NONE, transpose: |_, ct| cotangents([ct[0]]) },
    )
};
