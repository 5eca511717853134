//! Joining and splitting tensors.

use smallvec::{SmallVec, smallvec};

use crate::{
    array::{Array, Element, append, buffer},
    attrs,
    attrs::{Attr, Attrs, Ints},
    aval::{Aval, Avals},
    batching::{self, Batching},
    compute::Looks,
    error::Error,
    kernels::strided::{Walk, signed},
    op::{Arrays, Call, Cotangents, Derivative, Kernel, OpDef, Reads, Rule, cotangents},
    ops::{
        EXPAND_DIMS, NewAxis, SLICE, Slice,
        family::{by_dtype, common_dtype, per_element, sample_with, uniform},
        shape::{copied, shaping},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&CONCAT, &STACK, &SPLIT];

attrs! {
    /// An axis to join along.
    Join {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Required,
    }
}

fn infer_concat(call: &Call) -> Result<Avals, Error> {
    let [first, rest @ ..] = call.inputs else {
        return Err(Error::InputCount { expected: "1 or more", given: 0 });
    };
    let axis = first.shape.axis(Join::read(call.attrs).axis, 0)?;
    let mut out = first.clone();
    for next in rest {
        common_dtype(first, next)?;
        let fits = next.shape.len() == first.shape.len()
            && (0..first.shape.len()).all(|i| i == axis || next.shape[i] == first.shape[i]);
        if !fits {
            return Err(Error::ShapeMismatch {
                lhs: first.shape.clone(),
                rhs: next.shape.clone(),
                expected: "extents must be equal but for the axis to join",
            });
        }
        out.shape.set(axis, out.shape[axis].saturating_add(next.shape[axis]));
    }
    Ok(smallvec![out])
}

/// Splits a cotangent into pieces along an axis.
fn concat_back<'g>(r: &Rule<'g>, ct: &[crate::graph::Var<'g>]) -> Cotangents<'g> {
    let shape = ct[0].shape();
    let axis = shape.axis(Join::read(r.attrs).axis, 0).unwrap_or(0);
    let mut start = 0;
    let mut all = Cotangents::new();
    for (i, x) in r.x.iter().enumerate() {
        let part = x.shape();
        let mut begin = Ints::from_elem(0, shape.len());
        begin[axis] = start;
        start += part.to_i64()[axis];
        all.push(
            r.needs[i].then(|| {
                ct[0].op(&SLICE, Slice { begin, size: part.to_i64() }.write(), &[]).into()
            }),
        );
    }
    all
}

/// Joined tensors.
pub static CONCAT: OpDef = OpDef {
    batching: Batching::Rule(batching::all_along_axis),
    inputs: &["values"],
    variadic: true,
    attrs: Join::SPECS,
    infer: infer_concat,
    samples: &[
        sample_with(&[uniform(&[2, 3], -2.0, 2.0), uniform(&[1, 3], -2.0, 2.0)], || {
            vec![("axis", Attr::Int(0))]
        }),
        sample_with(
            &[
                uniform(&[2, 1], -2.0, 2.0),
                uniform(&[2, 2], -2.0, 2.0),
                uniform(&[2, 0], -2.0, 2.0),
            ],
            || vec![("axis", Attr::Int(-1))],
        ),
    ],
    ..shaping(
        "concat",
        "Joins tensors along an axis.",
        "y = x_0, x_1, ... one behind the other",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Element>(
                axis: usize,
                out: &Aval,
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let total = out.shape.elements();
                // There may be many rows of nothing.
                let rows = if total == 0 { 0 } else { out.shape[..axis].iter().product() };
                let (mut result, mut looks) = (buffer(total)?, Looks::default());
                for row in 0..rows {
                    for x in inputs {
                        let size: usize = x.shape()[axis..].iter().product();
                        append(&mut result, &x.elements::<T>()?[row * size..(row + 1) * size])?;
                        looks.after(size)?;
                    }
                }
                Array::new(&out.shape, result)
            }
            let axis = out[0].shape.axis(Join::read(call.attrs).axis, 0)?;
            Ok(smallvec![by_dtype!(any: out[0].dtype, T => typed::<T>(axis, &out[0], inputs))?])
        }),
        Derivative::Linear { reads: Reads::NONE, transpose: concat_back },
    )
};

/// Tensors joined along a new axis.
pub static STACK: OpDef = OpDef {
    inputs: &["values"],
    variadic: true,
    attrs: NewAxis::SPECS,
    infer: |call| {
        let [first, rest @ ..] = call.inputs else {
            return Err(Error::InputCount { expected: "1 or more", given: 0 });
        };
        let mut out = first.clone();
        for next in rest {
            common_dtype(first, next)?;
            if next.shape != first.shape {
                let (lhs, rhs) = (first.shape.clone(), next.shape.clone());
                return Err(Error::ShapeMismatch { lhs, rhs, expected: "shapes must be equal" });
            }
        }
        let axis = out.shape.axis(NewAxis::read(call.attrs).axis, 1)?;
        out.shape.insert(axis, call.inputs.len());
        Ok(smallvec![out])
    },
    samples: &[sample_with(&[uniform(&[2, 3], -2.0, 2.0), uniform(&[2, 3], -2.0, 2.0)], || {
        vec![("axis", Attr::Int(1))]
    })],
    ..shaping(
        "stack",
        "Joins tensors of one shape along a new axis.",
        "y[i] = x_i",
        Kernel::Composite(|r| {
            let expanded: SmallVec<[_; 4]> =
                r.x.iter().map(|x| x.op(&EXPAND_DIMS, r.attrs.clone(), &[])).collect();
            smallvec![expanded[0].op(&CONCAT, r.attrs.clone(), &expanded[1..])]
        }),
        Derivative::None,
    )
};

attrs! {
    /// Attributes of a split.
    Split {
        /// Number of equal parts, from 1 to 1,024; it must divide the axis.
        num_splits: i64 = Required,
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
    }
}

fn parts(attrs: &Attrs) -> usize {
    usize::try_from(Split::read(attrs).num_splits).unwrap_or(0).min(1024)
}

/// Equal parts.
pub static SPLIT: OpDef = OpDef {
    batching: Batching::Rule(batching::along_axis),
    outputs: &["parts"],
    count: Some(parts),
    attrs: Split::SPECS,
    infer: |call| {
        let Split { num_splits, axis } = Split::read(call.attrs);
        let mut out = call.inputs[0].clone();
        let axis = out.shape.axis(axis, 0)?;
        let count = usize::try_from(num_splits)
            .ok()
            .filter(|&n| n > 0 && n <= 1024 && out.shape[axis].is_multiple_of(n));
        let count = count.ok_or_else(|| {
            Error::attribute("num_splits", "must be from 1 to 1024 and divide the axis")
        })?;
        out.shape.set(axis, out.shape[axis] / count);
        Ok(std::iter::repeat_n(out, count).collect())
    },
    cost: per_element,
    samples: &[sample_with(&[uniform(&[2, 4], -2.0, 2.0)], || {
        vec![("num_splits", Attr::Int(2)), ("axis", Attr::Int(1))]
    })],
    ..shaping(
        "split",
        "Splits a tensor into equal parts along an axis.",
        "y_i = the i-th part of x",
        Kernel::Run(|call, out, inputs| {
            let shape = &call.inputs[0].shape;
            let axis = shape.axis(Split::read(call.attrs).axis, 0)?;
            let strides = shape.strides();
            let mut arrays = Arrays::new();
            for (i, out) in out.iter().enumerate() {
                let offset = signed(i * out.shape[axis] * strides[axis]);
                let walk = Walk::new(&out.shape, strides.iter().map(|&s| signed(s)), offset);
                arrays.push(copied(inputs[0], &walk, out)?);
            }
            Ok(arrays)
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| {
                let axis = Split::read(r.attrs).axis;
                cotangents([ct[0].op(&CONCAT, Join { axis }.write(), &ct[1..])])
            },
        },
    )
};
