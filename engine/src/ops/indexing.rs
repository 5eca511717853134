//! Picking and adding up slices by indices.

use smallvec::smallvec;

use crate::{
    array::{Array, Element, buffer},
    attrs,
    attrs::Attr,
    aval::{Aval, Shape},
    batching::{self, Batching},
    dtype::{DType, DTypes},
    error::Error,
    kernels::real::Number,
    op::{
        Call, Cotangent, Cotangents, Derivative, Kernel, OpDef, Reads, ResultType, Rule,
        cotangent_at,
    },
    ops::family::{
        self, by_dtype, index, indices, integer, positions, sample, sample_with, uniform,
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&GATHER, &SCATTER_SUM, &ONE_HOT];

const fn indexing(
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

// --- indices ---

attrs! {
    /// An axis to pick along.
    Gather {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
    }
}

/// Extents before an axis, along it, and behind it.
fn around(shape: &Shape, axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// Slices picked by indices.
pub static GATHER: OpDef = OpDef {
    batching: Batching::Rule(batching::along_axis),
    inputs: &["params", "indices"],
    attrs: Gather::SPECS,
    infer: |call| {
        let [x, i] = call.inputs else { return Err(Error::bug("gather takes two inputs")) };
        integer(i)?;
        let axis = x.shape.axis(Gather::read(call.attrs).axis, 0)?;
        let shape = x.shape[..axis]
            .iter()
            .chain(i.shape.iter())
            .chain(&x.shape[axis + 1..])
            .copied()
            .collect();
        Ok(smallvec![Aval { dtype: x.dtype, shape }])
    },
    cost: |call, out| family::index_cost(1)(call, out),
    samples: &[
        sample(&[uniform(&[4, 2], -2.0, 2.0), index(&[3], 0, 4)]),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0), index(&[2, 2], 0, 3)], || {
            vec![("axis", Attr::Int(1))]
        }),
    ],
    ..indexing(
        "gather",
        "Picks slices along an axis. Along the first axis the gradient is sparse.",
        "y[i, j] = params[indices[i], j]",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Element>(
                call: &Call,
                out: &Aval,
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let shape = &call.inputs[0].shape;
                let (before, extent, behind) =
                    around(shape, shape.axis(Gather::read(call.attrs).axis, 0)?);
                let picks = positions(inputs[1], extent)?;
                let x = inputs[0].elements::<T>()?;
                let mut result = buffer(out.shape.elements())?;
                for block in 0..before {
                    for &pick in &picks {
                        let start = (block * extent + pick) * behind;
                        result.extend_from_slice(&x[start..start + behind]);
                    }
                }
                Array::new(&out.shape, result)
            }
            Ok(smallvec![by_dtype!(any: out[0].dtype, T => typed::<T>(call, &out[0], inputs))?])
        }),
        Derivative::Linear { reads: Reads::X1, transpose: gather_back },
    )
};

fn gather_back<'g>(r: &Rule<'g>, ct: &[crate::graph::Var<'g>]) -> Cotangents<'g> {
    let (x, picks) = (r.x[0].shape(), r.x[1].shape());
    let axis = x.axis(Gather::read(r.attrs).axis, 0).unwrap_or(0);
    let count = picks.elements();
    let indices = r.x[1].reshape(&[count].into());
    let mut rows: Shape = x.clone();
    rows.set(axis, count);
    let values = ct[0].reshape(&rows);
    if axis == 0 {
        return smallvec![Some(Cotangent::Rows { values, indices })];
    }
    cotangent_at(0, scatter_sum(values, indices, axis, x[axis]))
}

/// Sums slices into zeros of the given extent along an axis.
pub(crate) fn scatter_sum<'g>(
    values: crate::graph::Var<'g>,
    indices: crate::graph::Var<'g>,
    axis: usize,
    extent: usize,
) -> crate::graph::Var<'g> {
    let both = Shape::from([axis, extent]).to_i64();
    values.op(&SCATTER_SUM, ScatterSum { axis: both[0], extent: both[1] }.write(), &[indices])
}

attrs! {
    /// Where sums go.
    ScatterSum {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
        /// Extent of the result along that axis.
        extent: i64 = Required,
    }
}

/// Sums of slices by index.
pub static SCATTER_SUM: OpDef = OpDef {
    batching: Batching::Rule(batching::along_axis),
    inputs: &["values", "indices"],
    dtypes: DTypes::NUMERIC,
    attrs: ScatterSum::SPECS,
    infer: |call| {
        let [x, i] = call.inputs else { return Err(Error::bug("scatter_sum takes two inputs")) };
        integer(i)?;
        let ScatterSum { axis, extent } = ScatterSum::read(call.attrs);
        let axis = x.shape.axis(axis, 0)?;
        if i.shape.len() != 1 || i.shape[0] != x.shape[axis] {
            return Err(Error::ShapeMismatch {
                lhs: x.shape.clone(),
                rhs: i.shape.clone(),
                expected: "there must be one index for each slice",
            });
        }
        let mut shape = x.shape.clone();
        shape.set(
            axis,
            usize::try_from(extent)
                .map_err(|_| Error::attribute("extent", "must not be negative"))?,
        );
        Ok(smallvec![Aval { dtype: x.dtype, shape }])
    },
    cost: |call, out| family::index_cost(1)(call, out),
    samples: &[
        sample_with(&[uniform(&[3, 2], -2.0, 2.0), index(&[3], 0, 4)], || {
            vec![("extent", Attr::Int(4))]
        }),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0), index(&[3], 0, 2)], || {
            vec![("axis", Attr::Int(1)), ("extent", Attr::Int(2))]
        }),
    ],
    ..indexing(
        "scatter_sum",
        "Adds slices into zeros at given positions along an axis; slices of one position are summed in order.",
        "y[k, j] = sum of values[i, j] where indices[i] = k",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Number>(
                call: &Call,
                out: &Aval,
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let axis = out.shape.axis(ScatterSum::read(call.attrs).axis, 0)?;
                let (before, extent, behind) = around(&out.shape, axis);
                let places = positions(inputs[1], extent)?;
                let x = inputs[0].elements::<T>()?;
                let mut result = buffer(out.shape.elements())?;
                result.resize(out.shape.elements(), T::ZERO);
                for block in 0..before {
                    for (i, &place) in places.iter().enumerate() {
                        let (to, from) = (
                            (block * extent + place) * behind,
                            (block * places.len() + i) * behind,
                        );
                        for (sum, &value) in
                            result[to..to + behind].iter_mut().zip(&x[from..from + behind])
                        {
                            *sum = sum.add(value);
                        }
                    }
                }
                Array::new(&out.shape, result)
            }
            Ok(smallvec![by_dtype!(numeric: out[0].dtype, T => typed::<T>(call, &out[0], inputs))?])
        }),
        Derivative::Linear {
            reads: Reads::X1,
            transpose: |r, ct| {
                let axis = ScatterSum::read(r.attrs).axis;
                cotangent_at(0, ct[0].op(&GATHER, Gather { axis }.write(), &[r.x[1]]))
            },
        },
    )
};

attrs! {
    /// Attributes of one-hot rows.
    OneHot {
        /// Length of each row.
        depth: i64 = Required,
        /// Dtype of the result.
        dtype: DType = DType(DType::F32),
    }
}

/// One-hot rows.
pub static ONE_HOT: OpDef = OpDef {
    inputs: &["indices"],
    dtypes: DTypes::INTEGER,
    result: ResultType::Attribute("dtype"),
    attrs: OneHot::SPECS,
    infer: |call| {
        let OneHot { depth, dtype } = OneHot::read(call.attrs);
        let mut shape = call.inputs[0].shape.clone();
        shape.push(
            usize::try_from(depth)
                .map_err(|_| Error::attribute("depth", "must not be negative"))?,
        );
        Ok(smallvec![Aval { dtype, shape }])
    },
    cost: |call, out| family::index_cost(0)(call, out),
    samples: &[sample_with(&[index(&[3], 0, 4)], || vec![("depth", Attr::Int(4))])],
    ..indexing(
        "one_hot",
        "Rows that are 1 at an index and 0 elsewhere; an index out of range gives zeros.",
        "y[i, j] = 1 if indices[i] = j else 0",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Element>(out: &Aval, picks: &[i64], on: T) -> Result<Array, Error> {
                let depth = out.shape[out.shape.len() - 1];
                let mut result = buffer(out.shape.elements())?;
                result.resize(out.shape.elements(), T::default());
                for (row, &pick) in picks.iter().enumerate() {
                    if let Some(pick) = usize::try_from(pick).ok().filter(|&pick| pick < depth) {
                        result[row * depth + pick] = on;
                    }
                }
                Array::new(&out.shape, result)
            }
            let picks = indices(inputs[0])?;
            Ok(smallvec![match out[0].dtype {
                DType::F32 => typed(&out[0], &picks, 1.0_f32),
                DType::F64 => typed(&out[0], &picks, 1.0_f64),
                DType::I32 => typed(&out[0], &picks, 1_i32),
                DType::I64 => typed(&out[0], &picks, 1_i64),
                DType::Bool => typed(&out[0], &picks, true),
                other @ (DType::F16 | DType::BF16) => Err(family::unsupported(call, other)),
            }?])
        }),
        Derivative::None,
    )
};
