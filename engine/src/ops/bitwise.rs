//! Operations on the bits of integers.

use crate::{
    batching::Batching,
    dtype::DTypes,
    op::{Derivative, Kernel, OpDef, Sample},
    ops::family::{self, index, map_kernel, sample, zip_kernel},
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&BITWISE_AND, &BITWISE_OR, &BITWISE_XOR, &INVERT, &LEFT_SHIFT, &RIGHT_SHIFT];

const TWO: &[Sample] = &[sample(&[index(&[2, 3], -9, 9), index(&[3], 0, 6)])];

const fn bits(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
) -> OpDef {
    OpDef {
        batching: Batching::Elementwise,
        dtypes: DTypes::INTEGER,
        samples: TWO,
        ..family::binary(name, summary, formula, kernel, Derivative::None)
    }
}

/// Conjunction.
pub static BITWISE_AND: OpDef = bits(
    "bitwise_and",
    "The bits that are set in both elements.",
    "z = x & y",
    zip_kernel!(I32 I64: |x, y| x & y),
);

/// Disjunction.
pub static BITWISE_OR: OpDef = bits(
    "bitwise_or",
    "The bits that are set in one of the elements or in both.",
    "z = x | y",
    zip_kernel!(I32 I64: |x, y| x | y),
);

/// Exclusive disjunction.
pub static BITWISE_XOR: OpDef = bits(
    "bitwise_xor",
    "The bits that are set in exactly one of the elements.",
    "z = x ^ y",
    zip_kernel!(I32 I64: |x, y| x ^ y),
);

/// Negation.
pub static INVERT: OpDef = OpDef {
    batching: Batching::Elementwise,
    dtypes: DTypes::INTEGER,
    samples: &[sample(&[index(&[2, 3], -9, 9)])],
    ..family::unary(
        "invert",
        "Every bit inverted.",
        "y = -x - 1",
        map_kernel!(I32 I64: |x| !x),
        Derivative::None,
    )
};

/// The number of the highest bit of a type.
fn last_bit<T: From<i8>>(_: T) -> T {
    let width = if size_of::<T>() == 4 { 31 } else { 63 };
    T::from(width)
}

/// Shift to the left.
pub static LEFT_SHIFT: OpDef = bits(
    "left_shift",
    "Bits shifted to the left; by less than 0 or more than the width is by 0 or the width less one.",
    "z = x << y",
    zip_kernel!(I32 I64: |x, y| x << y.clamp(0, last_bit(x))),
);

/// Shift to the right.
pub static RIGHT_SHIFT: OpDef = bits(
    "right_shift",
    "Bits shifted to the right, with the sign; distances as in `left_shift`.",
    "z = floor(x / 2^y)",
    zip_kernel!(I32 I64: |x, y| x >> y.clamp(0, last_bit(x))),
);
