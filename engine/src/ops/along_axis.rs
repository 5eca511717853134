//! Picking and adding up elements along an axis, by indices of their own for each line.

use smallvec::smallvec;

use crate::{
    array::{Array, Element, buffer, filled},
    attrs,
    attrs::Attr,
    aval::{Aval, Avals, Shape},
    batching::{Batching, all_along_axis},
    compute::{self, Looks},
    dtype::DTypes,
    error::Error,
    kernels::{order::around, real::Number},
    op::{Call, Derivative, Kernel, OpDef, Reads, cotangent_at},
    ops::{
        AlongAxis,
        family::{self, by_dtype, index, integer, positions, sample_with, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&TAKE_ALONG_AXIS, &SCATTER_ALONG_AXIS];

/// The axis, if the indices have the extents of the tensor along all others.
fn axis_of(call: &Call, axis: i64) -> Result<usize, Error> {
    let [x, picks] = call.inputs else { return Err(Error::bug("two inputs are taken")) };
    integer(picks)?;
    let axis = x.shape.axis(axis, 0)?;
    let fits = x.shape.len() == picks.shape.len()
        && (0..x.shape.len()).all(|i| i == axis || x.shape[i] == picks.shape[i]);
    if fits {
        return Ok(axis);
    }
    Err(Error::ShapeMismatch {
        lhs: x.shape.clone(),
        rhs: picks.shape.clone(),
        expected: "extents must be equal but for the axis",
    })
}

/// For each element of a shape its place without the axis: the block before it, and the place behind it. Zip it behind the
/// elements: beside a zero extent it does not end early.
fn lines(shape: &Shape, axis: usize) -> impl Iterator<Item = (usize, usize)> {
    let (before, extent, behind) = around(shape, axis);
    (0..before).flat_map(move |block| {
        (0..extent).flat_map(move |_| (0..behind).map(move |place| (block, place)))
    })
}

/// Elements picked line by line.
pub static TAKE_ALONG_AXIS: OpDef =
    OpDef {
        batching: Batching::Rule(all_along_axis),
        family: "array",
        inputs: &["x", "indices"],
        dtypes: DTypes::ANY,
        attrs: AlongAxis::SPECS,
        infer: |call| {
            axis_of(call, AlongAxis::read(call.attrs).axis)?;
            let (dtype, shape) = (call.inputs[0].dtype, call.inputs[1].shape.clone());
            Ok(smallvec![Aval { dtype, shape }])
        },
        cost: |call, out| family::index_cost(1)(call, out),
        samples: &[
            sample_with(&[uniform(&[2, 3], -2.0, 2.0), index(&[2, 4], 0, 3)], || {
                vec![("axis", Attr::Int(-1))]
            }),
            sample_with(&[uniform(&[3, 2], -2.0, 2.0), index(&[2, 2], 0, 3)], || {
                vec![("axis", Attr::Int(0))]
            }),
        ],
        ..family::unary(
            "take_along_axis",
            "Picks elements along an axis, each line by its own indices.",
            "y[i, j] = x[i, indices[i, j]]",
            Kernel::Run(|call, out, inputs| {
                fn typed<T: Element>(
                    call: &Call,
                    out: &Aval,
                    inputs: &[&Array],
                ) -> Result<Array, Error> {
                    let shape = &call.inputs[0].shape;
                    let axis = shape.axis(AlongAxis::read(call.attrs).axis, 0)?;
                    let (_, extent, behind) = around(shape, axis);
                    let (x, picks) = (inputs[0].elements::<T>()?, positions(inputs[1], extent)?);
                    let mut result = buffer(picks.len())?;
                    let mut lines = lines(&out.shape, axis);
                    for picks in picks.chunks(compute::range()) {
                        let places = picks.iter().zip(&mut lines);
                        result.extend(places.map(|(pick, (block, place))| {
                            x[(block * extent + pick) * behind + place]
                        }));
                        compute::check()?;
                    }
                    Array::new(&out.shape, result)
                }
                Ok(smallvec![by_dtype!(any: out[0].dtype, T => typed::<T>(call, &out[0], inputs))?])
            }),
            Derivative::Linear {
                reads: Reads::X1,
                transpose: |r, ct| {
                    let x = r.x[0].shape();
                    let axis = AlongAxis::read(r.attrs).axis;
                    // `infer` accepted the axis.
                    let extent = x.to_i64()[x.axis(axis, 0).unwrap_or(0)];
                    let into = ScatterAlongAxis { axis, extent };
                    cotangent_at(0, ct[0].op(&SCATTER_ALONG_AXIS, into.write(), &[r.x[1]]))
                },
            },
        )
    };

attrs! {
    /// Where elements are added up.
    ScatterAlongAxis {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Required,
        /// Extent of the result along the axis.
        extent: i64 = Required,
    }
}

fn infer_scatter(call: &Call) -> Result<Avals, Error> {
    let ScatterAlongAxis { axis, extent } = ScatterAlongAxis::read(call.attrs);
    let axis = axis_of(call, axis)?;
    let x = &call.inputs[0];
    if x.shape != call.inputs[1].shape {
        return Err(Error::ShapeMismatch {
            lhs: x.shape.clone(),
            rhs: call.inputs[1].shape.clone(),
            expected: "values and indices must have equal shapes",
        });
    }
    let mut extents = x.shape.to_i64();
    extents[axis] = extent;
    Ok(smallvec![Aval { dtype: x.dtype, shape: Shape::checked(&extents)? }])
}

/// The transpose of picking.
pub static SCATTER_ALONG_AXIS: OpDef = OpDef {
    batching: Batching::Rule(all_along_axis),
    family: "array",
    inputs: &["x", "indices"],
    dtypes: DTypes::NUMERIC,
    attrs: ScatterAlongAxis::SPECS,
    infer: infer_scatter,
    cost: |call, out| family::index_cost(1)(call, out),
    samples: &[
        sample_with(&[uniform(&[2, 4], -2.0, 2.0), index(&[2, 4], 0, 3)], || {
            vec![("axis", Attr::Int(-1)), ("extent", Attr::Int(3))]
        }),
        sample_with(&[uniform(&[2, 2], -2.0, 2.0), index(&[2, 2], 0, 3)], || {
            vec![("axis", Attr::Int(0)), ("extent", Attr::Int(4))]
        }),
    ],
    ..family::unary(
        "scatter_along_axis",
        "Adds elements into zeros along an axis, each line by its own indices; the transpose of `take_along_axis`.",
        "y[i, indices[i, j]] += x[i, j]",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Number>(
                call: &Call,
                out: &Aval,
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let shape = &call.inputs[0].shape;
                let axis = shape.axis(ScatterAlongAxis::read(call.attrs).axis, 0)?;
                let (_, extent, behind) = around(&out.shape, axis);
                let (x, picks) = (inputs[0].elements::<T>()?, positions(inputs[1], extent)?);
                let mut result = filled(out.shape.elements(), T::ZERO)?;
                let mut looks = Looks::default();
                for ((pick, &x), (block, place)) in picks.iter().zip(x).zip(lines(shape, axis)) {
                    looks.after(1)?;
                    let sum = &mut result[(block * extent + pick) * behind + place];
                    *sum = sum.add(x);
                }
                Array::new(&out.shape, result)
            }
            Ok(smallvec![by_dtype!(numeric: out[0].dtype, T => typed::<T>(call, &out[0], inputs))?])
        }),
        Derivative::Linear {
            reads: Reads::X1,
            transpose: |r, ct| {
                let along = AlongAxis { axis: ScatterAlongAxis::read(r.attrs).axis };
                cotangent_at(0, ct[0].op(&TAKE_ALONG_AXIS, along.write(), &[r.x[1]]))
            },
        },
    )
};
