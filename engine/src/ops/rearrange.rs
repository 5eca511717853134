//! The same elements in another order, some of them repeated.
//!
//! All are composed of slices, joins, reshapes and transposes, so none has a kernel or a derivative of its own.

use smallvec::{SmallVec, smallvec};

use crate::{
    attrs,
    attrs::{Attr, Ints},
    aval::Shape,
    dtype::{DType, DTypes},
    error::Error,
    graph::Var,
    op::{Derivative, Kernel, OpDef, Rule},
    ops::{
        CONCAT, GATHER, Gather, Join, LESS, Permutation, SLICE, STRIDED_SLICE, Slice, Strided,
        TRANSPOSE,
        family::{self, index, integer, ints, sample_with, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&REVERSE, &ROLL, &REVERSE_SEQUENCE];

const fn rearranging(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
) -> OpDef {
    OpDef {
        family: "array",
        dtypes: DTypes::ANY,
        ..family::unary(name, summary, formula, kernel, Derivative::None)
    }
}

// --- the language of the rules ---

/// A part of a tensor along one axis.
pub(super) fn part(x: Var<'_>, axis: usize, start: usize, size: usize) -> Var<'_> {
    let mut shape = x.shape();
    let mut begin: Shape = std::iter::repeat_n(0, shape.len()).collect();
    begin.set(axis, start);
    shape.set(axis, size);
    x.op(&SLICE, Slice { begin: begin.to_i64(), size: shape.to_i64() }.write(), &[])
}

/// Tensors joined along an axis.
pub(super) fn joined<'g>(parts: &[Var<'g>], axis: usize) -> Var<'g> {
    let axis = Shape::from([axis]).to_i64()[0];
    parts[0].op(&CONCAT, Join { axis }.write(), &parts[1..])
}

/// The elements along some axes from the last to the first.
pub(super) fn reversed<'g>(x: Var<'g>, axes: &[usize]) -> Var<'g> {
    let rank = x.shape().len();
    let edges: Ints = smallvec![0; rank];
    let mut strides: Ints = smallvec![1; rank];
    for &axis in axes {
        strides[axis] = -1;
    }
    let all = (1 << rank) - 1;
    let window = Strided {
        begin: edges.clone(),
        end: edges,
        strides,
        begin_mask: all,
        end_mask: all,
        ellipsis_mask: 0,
        new_axis_mask: 0,
        shrink_axis_mask: 0,
    };
    x.op(&STRIDED_SLICE, window.write(), &[])
}

// --- along axes ---

attrs! {
    /// Axes to reverse.
    Reverse {
        /// The axes, counted from 0 or backwards from -1; none leaves the tensor as it is.
        axis: Ints = Required,
    }
}

/// Axes of which an empty list means none.
fn named(shape: &Shape, axes: &[i64]) -> Result<SmallVec<[usize; 4]>, Error> {
    if axes.is_empty() { Ok(smallvec![]) } else { shape.axes(axes) }
}

/// Reversal.
pub static REVERSE: OpDef = OpDef {
    attrs: Reverse::SPECS,
    infer: |call| {
        named(&call.inputs[0].shape, &Reverse::read(call.attrs).axis)?;
        Ok(smallvec![call.inputs[0].clone()])
    },
    samples: &[
        sample_with(&[uniform(&[2, 3, 2], -2.0, 2.0)], || vec![ints("axis", &[0, -1])]),
        sample_with(&[uniform(&[0, 2], -2.0, 2.0)], || vec![ints("axis", &[0])]),
        sample_with(&[uniform(&[3], -2.0, 2.0)], || vec![ints("axis", &[])]),
    ],
    ..rearranging(
        "reverse",
        "Turns the order of elements along axes around.",
        "y[i] = x[n - 1 - i]",
        Kernel::Composite(|r| {
            let axes = named(&r.x[0].shape(), &Reverse::read(r.attrs).axis).unwrap_or_default();
            smallvec![reversed(r.x[0], &axes)]
        }),
    )
};

attrs! {
    /// How far to roll.
    Roll {
        /// Steps towards the end, one number for each axis.
        shift: Ints = Required,
        /// The axes, counted from 0 or backwards from -1; the steps of one that is named again are added.
        axis: Ints = Required,
    }
}

/// Cyclic shift.
pub static ROLL: OpDef = OpDef {
    attrs: Roll::SPECS,
    infer: |call| {
        let Roll { shift, axis } = Roll::read(call.attrs);
        if shift.len() != axis.len() {
            return Err(Error::attribute("shift", "and axis must have the same length"));
        }
        for &axis in &axis {
            call.inputs[0].shape.axis(axis, 0)?;
        }
        Ok(smallvec![call.inputs[0].clone()])
    },
    samples: &[
        sample_with(&[uniform(&[2, 4], -2.0, 2.0)], || {
            vec![ints("shift", &[1, -1]), ints("axis", &[0, -1])]
        }),
        sample_with(&[uniform(&[5], -2.0, 2.0)], || {
            vec![ints("shift", &[7, -4]), ints("axis", &[0, 0])]
        }),
        sample_with(&[uniform(&[0, 2], -2.0, 2.0)], || {
            vec![ints("shift", &[1]), ints("axis", &[0])]
        }),
    ],
    ..rearranging(
        "roll",
        "Shifts elements along axes; those that leave at one end enter at the other.",
        "y[(i + shift) mod n] = x[i]",
        Kernel::Composite(|r| {
            let Roll { shift, axis } = Roll::read(r.attrs);
            let shape = r.x[0].shape();
            let step = |x, (&shift, &axis): (&i64, &i64)| {
                let axis = shape.axis(axis, 0).unwrap_or(0);
                let extent = shape.to_i64()[axis].max(1);
                let front = usize::try_from(shift.rem_euclid(extent)).unwrap_or(0);
                let rest = shape[axis].saturating_sub(front);
                joined(&[part(x, axis, rest, front.min(shape[axis])), part(x, axis, 0, rest)], axis)
            };
            smallvec![shift.iter().zip(&axis).fold(r.x[0], step)]
        }),
    )
};

attrs! {
    /// Attributes of reversing parts of sequences.
    ReverseSequence {
        /// The axis that is reversed.
        seq_axis: i64 = Required,
        /// The axis that the lengths are of.
        batch_axis: i64 = Int(0),
    }
}

/// The axis to reverse and the axis that the lengths are of.
fn sequence_axes(x: &Shape, attrs: &attrs::Attrs) -> Result<(usize, usize), Error> {
    let ReverseSequence { seq_axis, batch_axis } = ReverseSequence::read(attrs);
    let (along, batch) = (x.axis(seq_axis, 0)?, x.axis(batch_axis, 0)?);
    if along == batch { Err(Error::DuplicateAxis { axis: along }) } else { Ok((along, batch)) }
}

/// Reversed beginnings of sequences.
pub static REVERSE_SEQUENCE: OpDef = OpDef {
    inputs: &["input", "seq_lengths"],
    attrs: ReverseSequence::SPECS,
    infer: |call| {
        let [x, lengths] = call.inputs else {
            return Err(Error::bug("reverse_sequence takes two inputs"));
        };
        integer(lengths)?;
        let (_, batch) = sequence_axes(&x.shape, call.attrs)?;
        if lengths.shape[..] != [x.shape[batch]] {
            return Err(Error::ShapeMismatch {
                lhs: x.shape.clone(),
                rhs: lengths.shape.clone(),
                expected: "there must be one length for each position of the batch axis",
            });
        }
        Ok(smallvec![x.clone()])
    },
    samples: &[
        sample_with(&[uniform(&[2, 4], -2.0, 2.0), index(&[2], 0, 5)], || {
            vec![("seq_axis", Attr::Int(1))]
        }),
        sample_with(&[uniform(&[3, 2, 2], -2.0, 2.0), index(&[2], 1, 4)], || {
            vec![("seq_axis", Attr::Int(0)), ("batch_axis", Attr::Int(-1))]
        }),
    ],
    ..rearranging(
        "reverse_sequence",
        "Turns the first elements of each sequence around, as many as its length says.",
        "y[b, t] = input[b, length[b] - 1 - t] if t < length[b] else input[b, t]",
        Kernel::Composite(|r| smallvec![reverse_sequence(r)]),
    )
};

fn reverse_sequence<'g>(r: &Rule<'g>) -> Var<'g> {
    let (x, shape) = (r.x[0], r.x[0].shape());
    let (along, batch) = sequence_axes(&shape, r.attrs).unwrap_or_default();
    let lengths = r.x[1].cast(DType::I64).reshape(&[shape[batch], 1].into());
    let places = x.graph().positions(shape[along]).reshape(&[1, shape[along]].into());
    let mirrored = lengths - places - 1.0;
    let picks = mirrored.select(places.zip(&LESS, lengths), places);
    // The batch first, the sequence second, and back.
    let rest = (0..shape.len()).filter(|axis| ![batch, along].contains(axis));
    let order: Shape = [batch, along].into_iter().chain(rest).collect();
    let mut inverse = order.to_i64();
    for (i, &axis) in (0..).zip(order.iter()) {
        inverse[axis] = i;
    }
    let permuted = |x: Var<'g>, perm| x.op(&TRANSPOSE, Permutation { perm }.write(), &[]);
    let gather = Gather { axis: 1, batch_dims: 1 };
    permuted(permuted(x, order.to_i64()).op(&GATHER, gather.write(), &[picks]), inverse)
}
