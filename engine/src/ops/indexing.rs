//! Picking and adding up slices by indices.

use smallvec::smallvec;

use crate::{
    array::{Array, Element, filled},
    attrs,
    attrs::Attr,
    aval::{Aval, Shape},
    batching::{Batch, Batching, all_along_axis_and, along_axis},
    compute::Looks,
    dtype::{DType, DTypes},
    error::Error,
    graph::Var,
    kernels::{real::Number, scatter},
    op::{
        Call, Cotangent, Cotangents, Derivative, Kernel, OpDef, Reads, ResultType, Rule, Vars,
        cotangent_at,
    },
    ops::family::{
        self, by_dtype, extent, index, indices, integer, positions, sample, sample_with, uniform,
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

// --- along an axis ---

attrs! {
    /// An axis to pick along.
    Gather {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
        /// How many leading axes params and indices share; the axis is none of them.
        batch_dims: i64 = Int(0),
    }
}

/// An axis among others, some of which the indices share.
struct Along {
    /// Extent of the leading axes that the indices have too.
    batch: usize,
    /// Extent of the axes between those and the axis.
    before: usize,
    /// Extent of the axis.
    extent: usize,
    /// Extent of the axes behind it.
    behind: usize,
}

impl Along {
    fn new(shape: &Shape, axis: usize, batch_dims: usize) -> Self {
        Self {
            batch: shape[..batch_dims].iter().product(),
            before: shape[batch_dims..axis].iter().product(),
            extent: shape[axis],
            behind: shape[axis + 1..].iter().product(),
        }
    }

    /// The numbers of the slices that are picked, in order.
    fn places(&self, picks: &[usize]) -> impl Iterator<Item = usize> {
        let &Self { batch, before, extent, .. } = self;
        let per = picks.len().checked_div(batch).unwrap_or(0);
        (0..batch).flat_map(move |b| {
            (0..before).flat_map(move |p| {
                let start = (b * before + p) * extent;
                picks[b * per..(b + 1) * per].iter().map(move |pick| start + pick)
            })
        })
    }
}

/// The axis, and how many leading axes the indices share with `x`.
fn axis_of(
    (x, indices): (&Shape, &Shape),
    (axis, batch_dims): (i64, i64),
) -> Result<(usize, usize), Error> {
    let axis = x.axis(axis, 0)?;
    let shared = usize::try_from(batch_dims).ok().filter(|&n| n <= axis && n <= indices.len());
    let shared = shared.ok_or_else(|| {
        Error::attribute("batch_dims", "must count axes that both inputs have before the axis")
    })?;
    if x[..shared] != indices[..shared] {
        return Err(Error::ShapeMismatch {
            lhs: x.clone(),
            rhs: indices.clone(),
            expected: "the first batch_dims extents must be equal",
        });
    }
    Ok((axis, shared))
}

/// The same for a call whose second input are indices.
fn gathered(call: &Call) -> Result<(usize, usize), Error> {
    let [x, i] = call.inputs else { return Err(Error::bug("gather takes two inputs")) };
    integer(i)?;
    let Gather { axis, batch_dims } = Gather::read(call.attrs);
    axis_of((&x.shape, &i.shape), (axis, batch_dims))
}

/// What goes by the same indices in every row is one more axis; other indices are the row's own, as those of a batch are.
fn stacked<'g>(b: &Batch<'_, 'g>) -> Option<Vars<'g>> {
    let place = b.op.attrs.iter().position(|spec| spec.name == "batch_dims")?;
    let Attr::Int(shared) = *b.attrs.values().get(place)? else { return None };
    if shared == 0 && b.only_first() {
        return along_axis(b);
    }
    all_along_axis_and(b, vec![("batch_dims", Attr::Int(shared + 1))])
}

/// Slices picked by indices.
pub static GATHER: OpDef = OpDef {
    batching: Batching::Rule(stacked),
    inputs: &["params", "indices"],
    attrs: Gather::SPECS,
    infer: |call| {
        let (axis, shared) = gathered(call)?;
        let (x, i) = (&call.inputs[0], &call.inputs[1].shape);
        let parts = [&x.shape[..axis], &i[shared..], &x.shape[axis + 1..]];
        Ok(smallvec![Aval { dtype: x.dtype, shape: parts.concat().into_iter().collect() }])
    },
    cost: |call, out| family::index_cost(1)(call, out),
    samples: &[
        sample(&[uniform(&[4, 2], -2.0, 2.0), index(&[3], 0, 4)]),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0), index(&[2, 2], 0, 3)], || {
            vec![("axis", Attr::Int(1))]
        }),
        sample_with(&[uniform(&[2, 3, 4, 2], -2.0, 2.0), index(&[2, 3], 0, 4)], || {
            vec![("axis", Attr::Int(2)), ("batch_dims", Attr::Int(1))]
        }),
        sample(&[uniform(&[0, 2], -2.0, 2.0), index(&[0], 0, 1)]),
    ],
    ..indexing(
        "gather",
        "Picks slices along an axis. Along the first axis the gradient is sparse.",
        "y[b, i, j] = params[b, indices[b, i], j]",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Element>(
                call: &Call,
                out: &Aval,
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let (axis, shared) = gathered(call)?;
                let along = Along::new(&call.inputs[0].shape, axis, shared);
                let picks = positions(inputs[1], along.extent)?;
                let extents = (along.behind, out.shape.elements());
                let x = inputs[0].elements::<T>()?;
                Array::new(&out.shape, scatter::pick(x, along.places(&picks), extents)?)
            }
            Ok(smallvec![by_dtype!(any: out[0].dtype, T => typed::<T>(call, &out[0], inputs))?])
        }),
        Derivative::Linear { reads: Reads::X1, transpose: gather_back },
    )
};

fn gather_back<'g>(r: &Rule<'g>, ct: &[Var<'g>]) -> Cotangents<'g> {
    let (x, picks) = (r.x[0].shape(), r.x[1].shape());
    let Gather { axis, batch_dims } = Gather::read(r.attrs);
    // `infer` accepted them.
    let (axis, shared) = axis_of((&x, &picks), (axis, batch_dims)).unwrap_or_default();
    let count = picks[shared..].iter().product();
    let flat: Shape = picks[..shared].iter().copied().chain([count]).collect();
    let indices = r.x[1].reshape(&flat);
    let mut rows: Shape = x.clone();
    rows.set(axis, count);
    let values = ct[0].reshape(&rows);
    if axis == 0 {
        return smallvec![Some(Cotangent::Rows { values, indices })];
    }
    let all = Shape::from([axis, x[axis]]).to_i64();
    let attrs = ScatterSum { axis: all[0], extent: all[1], batch_dims };
    cotangent_at(0, values.op(&SCATTER_SUM, attrs.write(), &[indices]))
}

/// Sums slices into zeros of the given extent along the first axis.
pub(crate) fn scatter_sum<'g>(values: Var<'g>, indices: Var<'g>, extent: usize) -> Var<'g> {
    let extent = Shape::from([extent]).to_i64()[0];
    values.op(&SCATTER_SUM, ScatterSum { axis: 0, extent, batch_dims: 0 }.write(), &[indices])
}

attrs! {
    /// Where sums go.
    ScatterSum {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
        /// Extent of the result along that axis.
        extent: i64 = Required,
        /// How many leading axes values and indices share; the axis is none of them.
        batch_dims: i64 = Int(0),
    }
}

/// The axis and the shared axes of a sum by index.
fn scattered(call: &Call) -> Result<(usize, usize), Error> {
    let [x, i] = call.inputs else { return Err(Error::bug("scatter_sum takes two inputs")) };
    integer(i)?;
    let ScatterSum { axis, batch_dims, .. } = ScatterSum::read(call.attrs);
    let (axis, shared) = axis_of((&x.shape, &i.shape), (axis, batch_dims))?;
    if i.shape.len() != shared + 1 || i.shape[shared] != x.shape[axis] {
        return Err(Error::ShapeMismatch {
            lhs: x.shape.clone(),
            rhs: i.shape.clone(),
            expected: "there must be one index for each slice",
        });
    }
    Ok((axis, shared))
}

/// Sums of slices by index.
pub static SCATTER_SUM: OpDef = OpDef {
    batching: Batching::Rule(stacked),
    inputs: &["values", "indices"],
    dtypes: DTypes::NUMERIC,
    attrs: ScatterSum::SPECS,
    infer: |call| {
        let (axis, _) = scattered(call)?;
        let mut out = call.inputs[0].clone();
        out.shape.set(axis, extent("extent", ScatterSum::read(call.attrs).extent)?);
        Ok(smallvec![out])
    },
    cost: |call, out| family::fold_cost(1)(call, out),
    samples: &[
        sample_with(&[uniform(&[3, 2], -2.0, 2.0), index(&[3], 0, 4)], || {
            vec![("extent", Attr::Int(4))]
        }),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0), index(&[3], 0, 2)], || {
            vec![("axis", Attr::Int(1)), ("extent", Attr::Int(2))]
        }),
        sample_with(&[uniform(&[2, 3, 4, 2], -2.0, 2.0), index(&[2, 4], 0, 3)], || {
            vec![("axis", Attr::Int(2)), ("extent", Attr::Int(3)), ("batch_dims", Attr::Int(1))]
        }),
    ],
    ..indexing(
        "scatter_sum",
        "Adds slices into zeros at given positions along an axis; slices of one position are summed in order.",
        "y[b, k, j] = sum of values[b, i, j] where indices[b, i] = k",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Number>(
                call: &Call,
                out: &Aval,
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let (axis, shared) = scattered(call)?;
                let along = Along::new(&out.shape, axis, shared);
                let places = positions(inputs[1], along.extent)?;
                let extents = (along.behind, out.shape.elements());
                let x = inputs[0].elements::<T>()?;
                Array::new(&out.shape, scatter::sums(x, along.places(&places), extents)?)
            }
            Ok(smallvec![by_dtype!(numeric: out[0].dtype, T => typed::<T>(call, &out[0], inputs))?])
        }),
        Derivative::Linear {
            reads: Reads::X1,
            transpose: |r, ct| {
                let ScatterSum { axis, batch_dims, .. } = ScatterSum::read(r.attrs);
                cotangent_at(0, ct[0].op(&GATHER, Gather { axis, batch_dims }.write(), &[r.x[1]]))
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
        shape.push(extent("depth", depth)?);
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
                let mut result = filled(out.shape.elements(), T::default())?;
                let mut looks = Looks::default();
                for (row, &pick) in picks.iter().enumerate() {
                    looks.after(1)?;
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
