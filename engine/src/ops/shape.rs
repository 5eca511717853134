//! Reshaping, permuting and repeating tensors.

use smallvec::{SmallVec, smallvec};

use crate::{
    array::{Array, Element},
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Shape},
    batching::{self, Batch, Batching},
    dtype::DTypes,
    error::Error,
    kernels::{
        elementwise::broadcast_walk,
        strided::{Walk, copy, signed},
    },
    op::{Derivative, Kernel, OpDef, Reads, cotangents},
    ops::family::{self, by_dtype, free, ints, sample, sample_with, uniform},
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&RESHAPE, &EXPAND_DIMS, &SQUEEZE, &BROADCAST_TO, &TRANSPOSE, &TILE];

pub(super) const fn shaping(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        family: "array",
        dtypes: DTypes::ANY,
        ..family::unary(name, summary, formula, kernel, derivative)
    }
}

// --- shape ---

attrs! {
    /// A shape.
    ToShape {
        /// Shape of the result.
        shape: Ints = Required,
    }
}

/// What a reshaping op gives back: the cotangent in the input's shape.
const RESHAPED: Derivative = Derivative::Linear {
    reads: Reads::NONE,
    transpose: |r, ct| cotangents([ct[0].reshape(&r.x[0].shape())]),
};

/// Another shape.
pub static RESHAPE: OpDef = OpDef {
    batching: Batching::Rule(batching::reshaped),
    attrs: ToShape::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let given = ToShape::read(call.attrs).shape;
        Ok(smallvec![Aval { dtype: x.dtype, shape: resolve(&x.shape, &given)? }])
    },
    cost: free,
    samples: &[sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![ints("shape", &[3, -1])])],
    ..shaping(
        "reshape",
        "The same elements in another shape. One extent may be -1 and follows from the others.",
        "y = x, in another shape",
        Kernel::Alias,
        RESHAPED,
    )
};

/// The shape that `given` stands for, where one extent may be -1.
fn resolve(x: &Shape, given: &[i64]) -> Result<Shape, Error> {
    let invalid = |why| Error::InvalidShape { shape: given.into(), why };
    if given.iter().filter(|&&dim| dim == -1).count() > 1 {
        return Err(invalid("more than one extent is -1"));
    }
    let known: SmallVec<[i64; 8]> =
        given.iter().map(|&dim| if dim == -1 { 1 } else { dim }).collect();
    let mut shape = Shape::checked(&known)?;
    if let Some(axis) = given.iter().position(|&dim| dim == -1) {
        let rest = shape.elements();
        if rest == 0 {
            return Err(invalid("-1 beside an extent of 0 could be anything"));
        }
        shape.set(axis, x.elements() / rest);
    }
    if shape.elements() != x.elements() {
        return Err(Error::ShapeMismatch {
            lhs: x.clone(),
            rhs: shape,
            expected: "both must have the same number of elements",
        });
    }
    Ok(shape)
}

attrs! {
    /// A place for a new axis.
    NewAxis {
        /// Where the axis goes, counted from 0 or backwards from -1, which is behind the last axis.
        axis: i64 = Required,
    }
}

/// A new axis.
pub static EXPAND_DIMS: OpDef = OpDef {
    batching: Batching::Rule(batching::reshaped),
    attrs: NewAxis::SPECS,
    infer: |call| {
        let mut out = call.inputs[0].clone();
        let axis = out.shape.axis(NewAxis::read(call.attrs).axis, 1)?;
        out.shape.insert(axis, 1);
        Ok(smallvec![out])
    },
    cost: free,
    samples: &[sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![("axis", Attr::Int(-1))])],
    ..shaping(
        "expand_dims",
        "Inserts an axis of extent 1.",
        "y = x, in another shape",
        Kernel::Alias,
        RESHAPED,
    )
};

attrs! {
    /// Axes to remove.
    Squeeze {
        /// The axes; empty for all of extent 1.
        axis: Ints = Ints(&[]),
    }
}

/// Fewer axes.
pub static SQUEEZE: OpDef = OpDef {
    batching: Batching::Rule(batching::reshaped),
    attrs: Squeeze::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let axis = Squeeze::read(call.attrs).axis;
        let mut axes = x.shape.axes(&axis)?;
        if axis.is_empty() {
            axes.retain(|&mut axis| x.shape[axis] == 1);
        }
        if axes.iter().any(|&axis| x.shape[axis] != 1) {
            let shape = x.shape.to_i64().as_slice().into();
            return Err(Error::InvalidShape { shape, why: "an axis to remove is not 1" });
        }
        Ok(smallvec![Aval { dtype: x.dtype, shape: x.shape.reduce(&axes, false) }])
    },
    cost: free,
    samples: &[sample(&[uniform(&[2, 1, 3], -2.0, 2.0)])],
    ..shaping(
        "squeeze",
        "Removes axes of extent 1.",
        "y = x, in another shape",
        Kernel::Alias,
        RESHAPED,
    )
};

/// Copies what a walk visits, whatever the dtype.
pub(crate) fn copied(x: &Array, walk: &Walk, out: &Aval) -> Result<Array, Error> {
    fn typed<T: Element>(x: &Array, walk: &Walk, out: &Aval) -> Result<Array, Error> {
        Array::new(&out.shape, copy(x.elements::<T>()?, walk)?)
    }
    by_dtype!(any: out.dtype, T => typed::<T>(x, walk, out))
}

/// Each row broadcast, with axes of extent 1 in front of it as far as it lacks them.
#[expect(clippy::unnecessary_wraps, reason = "a rule")]
fn broadcast_rows<'g>(b: &Batch<'_, 'g>) -> Option<crate::op::Vars<'g>> {
    let (row, out) = (b.row(0), &b.y[0].shape);
    let ones = std::iter::repeat_n(1, out.len() - row.len());
    let full: Shape = ones.chain(row.iter().copied()).collect();
    Some(smallvec![b.x[0].reshape(&b.stack_of(&full)).broadcast_to(&b.stack_of(out))])
}

/// A larger shape.
pub static BROADCAST_TO: OpDef = OpDef {
    batching: Batching::Rule(broadcast_rows),
    attrs: ToShape::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let shape = Shape::checked(&ToShape::read(call.attrs).shape)?;
        if x.shape.broadcast(&shape).as_ref() != Some(&shape) {
            return Err(Error::ShapeMismatch {
                lhs: x.shape.clone(),
                rhs: shape,
                expected: "the first must broadcast to the second",
            });
        }
        Ok(smallvec![Aval { dtype: x.dtype, shape }])
    },
    samples: &[sample_with(&[uniform(&[3, 1], -2.0, 2.0)], || vec![ints("shape", &[2, 3, 2])])],
    ..shaping(
        "broadcast_to",
        "Repeats along axes of extent 1 and new leading axes.",
        "y[i, j] = x[j]",
        Kernel::Run(|call, out, inputs| {
            let walk = broadcast_walk(&call.inputs[0].shape, &out[0].shape);
            Ok(smallvec![copied(inputs[0], &walk, &out[0])?])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| cotangents([ct[0].sum_to(&r.x[0].shape())]),
        },
    )
};

attrs! {
    /// An order of axes.
    Permutation {
        /// For each axis of the result the axis of the input; empty reverses them.
        perm: Ints = Ints(&[]),
    }
}

fn permutation(shape: &Shape, perm: &[i64]) -> Result<SmallVec<[usize; 8]>, Error> {
    if perm.is_empty() {
        return Ok((0..shape.len()).rev().collect());
    }
    if perm.len() != shape.len() {
        return Err(Error::attribute(
            "perm",
            format!("must name each of the {} axes once", shape.len()),
        ));
    }
    shape.axes(perm)?;
    perm.iter().map(|&axis| shape.axis(axis, 0)).collect()
}

fn transpose_rows<'g>(b: &Batch<'_, 'g>) -> Option<crate::op::Vars<'g>> {
    let perm = permutation(&b.row(0), &Permutation::read(b.attrs).perm).ok()?;
    let shifted = perm.iter().map(|&axis| Some(i64::try_from(axis).ok()? + 1));
    let perm = std::iter::once(Some(0)).chain(shifted).collect::<Option<_>>()?;
    b.apply(&b.x, vec![("perm", Attr::Ints(perm))])
}

/// Another order of axes.
pub static TRANSPOSE: OpDef = OpDef {
    batching: Batching::Rule(transpose_rows),
    attrs: Permutation::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let perm = permutation(&x.shape, &Permutation::read(call.attrs).perm)?;
        Ok(smallvec![Aval {
            dtype: x.dtype,
            shape: perm.iter().map(|&axis| x.shape[axis]).collect()
        }])
    },
    samples: &[
        sample(&[uniform(&[2, 3], -2.0, 2.0)]),
        sample_with(&[uniform(&[2, 3, 4], -2.0, 2.0)], || vec![ints("perm", &[1, 2, 0])]),
    ],
    ..shaping(
        "transpose",
        "Permutes axes.",
        "y[j, i] = x[i, j]",
        Kernel::Run(|call, out, inputs| {
            let shape = &call.inputs[0].shape;
            let perm = permutation(shape, &Permutation::read(call.attrs).perm)?;
            let strides = shape.strides();
            let walk = Walk::new(&out[0].shape, perm.iter().map(|&axis| signed(strides[axis])), 0);
            Ok(smallvec![copied(inputs[0], &walk, &out[0])?])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| {
                let shape = r.x[0].shape();
                let perm =
                    permutation(&shape, &Permutation::read(r.attrs).perm).unwrap_or_default();
                let mut inverse = Ints::from_elem(0, perm.len());
                for (i, &axis) in (0_i64..).zip(&perm) {
                    inverse[axis] = i;
                }
                cotangents([ct[0].op(&TRANSPOSE, Permutation { perm: inverse }.write(), &[])])
            },
        },
    )
};

attrs! {
    /// Repetitions.
    Tile {
        /// How often each axis is repeated; none negative.
        multiples: Ints = Required,
    }
}

/// Repetition. Each axis is a reshape, a broadcast and a reshape.
pub static TILE: OpDef = OpDef {
    attrs: Tile::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let multiples = Shape::checked(&Tile::read(call.attrs).multiples)?;
        if multiples.len() != x.shape.len() {
            return Err(Error::attribute(
                "multiples",
                format!("must have {} entries", x.shape.len()),
            ));
        }
        let shape: Shape =
            x.shape.iter().zip(multiples.iter()).map(|(&d, &m)| d.saturating_mul(m)).collect();
        Ok(smallvec![Aval { dtype: x.dtype, shape }])
    },
    samples: &[sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![ints("multiples", &[2, 3])])],
    ..shaping(
        "tile",
        "Repeats a tensor along its axes.",
        "y[i] = x[i mod n]",
        Kernel::Composite(|r| {
            let mut x = r.x[0];
            let multiples = Tile::read(r.attrs).multiples;
            let mut axes: SmallVec<[(usize, usize); 4]> = multiples
                .iter()
                .map(|&times| usize::try_from(times).unwrap_or(0))
                .enumerate()
                .collect();
            // Nothing is first: what comes in between is never larger than the result.
            axes.sort_by_key(|&(_, times)| times > 0);
            for (axis, times) in axes {
                let shape = x.shape();
                let (before, after) =
                    (shape[..axis].iter().product(), shape[axis..].iter().product());
                let mut tiled = shape.clone();
                tiled.set(axis, shape[axis] * times);
                let one: Shape = [before, 1, after].into();
                x = x.reshape(&one).broadcast_to(&[before, times, after].into()).reshape(&tiled);
            }
            smallvec![x]
        }),
        Derivative::None,
    )
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dtype::DType, graph::Graph};

    #[test]
    fn to_repeat_nothing_often_costs_nothing() {
        let graph = Graph::default();
        let shape = {
            let x = graph.parameter(Aval::new(DType::F64, [2, 3, 3]));
            x.op(&TILE, Tile { multiples: Ints::from_slice(&[1 << 31, 0, 1]) }.write(), &[]).shape()
        };
        assert_eq!(shape, [1 << 32, 0, 3].into());
        assert!(graph.finish().is_ok());
    }
}
