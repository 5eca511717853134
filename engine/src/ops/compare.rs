//! Comparisons and logic.

#![expect(clippy::float_cmp, reason = "exact comparison is what was asked for")]

use crate::{
    aval::Avals,
    batching::Batching,
    dtype::{DType, DTypes},
    error::Error,
    op::{Call, Derivative, Kernel, OpDef, ResultType},
    ops::family::{self, broadcast, map_kernel, sample, zip_kernel},
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
    &LOGICAL_NOT,
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
