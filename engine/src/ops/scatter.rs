//! Picking and changing slices by tuples of indices.

use smallvec::smallvec;

use crate::{
    array::{Array, Element, buffer},
    attrs,
    attrs::{Attr, Attrs, Ints},
    aval::{Aval, Avals, Shape},
    compute::Looks,
    dtype::{DType, DTypes},
    error::Error,
    graph::Var,
    kernels::{real::Number, scatter},
    op::{
        Call, Cost, Cotangents, Derivative, Kernel, OpDef, Reads, ResultType, Rule, Sample,
        cotangent_at,
    },
    ops::{
        DIVIDE_NO_NAN, EQUAL,
        family::{
            self, by_dtype, common_dtype, index, indices, integer, ints, sample, sample_with,
            uniform,
        },
        reduce::{larger, smaller},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &GATHER_ND,
    &SCATTER_ND,
    &TENSOR_SCATTER_ND_UPDATE,
    &TENSOR_SCATTER_ND_ADD,
    &TENSOR_SCATTER_ND_SUB,
    &TENSOR_SCATTER_ND_MAX,
    &TENSOR_SCATTER_ND_MIN,
];

const fn indexing(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef { family: "array", ..family::unary(name, summary, formula, kernel, derivative) }
}

// --- tuples of indices ---

/// The shape of the slices of a tensor that tuples along the last axis of `indices` name.
fn slices(tensor: &Shape, indices: &Aval, batch_dims: i64) -> Result<Shape, Error> {
    integer(indices)?;
    let Some((&depth, lead)) = indices.shape.split_last() else {
        return Err(Error::InvalidShape { shape: [].into(), why: "indices have one axis or more" });
    };
    let shared = usize::try_from(batch_dims).ok().filter(|&n| n <= lead.len().min(tensor.len()));
    let shared = shared.ok_or_else(|| {
        Error::attribute("batch_dims", "must count leading axes that both inputs have")
    })?;
    if tensor[..shared] != lead[..shared] || depth > tensor.len() - shared {
        return Err(Error::ShapeMismatch {
            lhs: tensor.clone(),
            rhs: indices.shape.clone(),
            expected: "batch extents must be equal, and the last extent of the indices at most the number of other axes",
        });
    }
    Ok(lead.iter().chain(&tensor[shared + depth..]).copied().collect())
}

/// The numbers of the slices that tuples of indices name.
fn places(array: &Array, tensor: &Shape, shared: usize) -> Result<Vec<usize>, Error> {
    let (raw, shape) = (indices(array)?, array.shape());
    let (depth, count) = (shape[shape.len() - 1], shape[..shape.len() - 1].iter().product());
    let batch = tensor[..shared].iter().product();
    let per = usize::checked_div(count, batch).unwrap_or(0);
    let mut out = buffer(count)?;
    let mut looks = Looks::default();
    for n in 0..count {
        looks.after(1)?;
        let mut place = n / per;
        for (j, &extent) in tensor[shared..shared + depth].iter().enumerate() {
            let (position, index) = (n * depth + j, raw[n * depth + j]);
            let checked = usize::try_from(index).ok().filter(|&i| i < extent);
            place = place * extent
                + checked.ok_or(Error::IndexOutOfRange { index, position, extent })?;
        }
        out.push(place);
    }
    Ok(out)
}

/// Elements of a slice, given the shape of all slices together.
fn size(slices: &Shape, indices: &Shape) -> usize {
    slices[indices.len() - 1..].iter().product()
}

/// Price of an op whose input `at` are tuples: the indices as they are read and the places that they name.
fn tuple_cost(call: &Call, out: &[Aval], at: usize) -> Cost {
    let tuples = call.inputs[at].shape.split_last().map_or(1, |(_, lead)| lead.iter().product());
    let cost = family::fold_cost(at)(call, out);
    Cost { workspace: cost.workspace.saturating_add((tuples as u64).saturating_mul(8)), ..cost }
}

attrs! {
    /// Attributes of picking by tuples.
    GatherNd {
        /// How many leading axes params and indices share.
        batch_dims: i64 = Int(0),
    }
}

/// Slices picked by tuples of indices.
pub static GATHER_ND: OpDef = OpDef {
    inputs: &["params", "indices"],
    dtypes: DTypes::ANY,
    attrs: GatherNd::SPECS,
    infer: |call| {
        let [x, i] = call.inputs else { return Err(Error::bug("gather_nd takes two inputs")) };
        let shape = slices(&x.shape, i, GatherNd::read(call.attrs).batch_dims)?;
        Ok(smallvec![Aval { dtype: x.dtype, shape }])
    },
    cost: |call, out| tuple_cost(call, out, 1),
    samples: &[
        sample(&[uniform(&[3, 3, 2], -2.0, 2.0), index(&[4, 2], 0, 3)]),
        sample(&[uniform(&[3, 3], -2.0, 2.0), index(&[2, 2, 1], 0, 3)]),
        sample(&[uniform(&[2, 3], -2.0, 2.0), index(&[2, 0], 0, 1)]),
        sample(&[uniform(&[0, 3], -2.0, 2.0), index(&[0, 1], 0, 1)]),
        sample_with(&[uniform(&[2, 3, 3], -2.0, 2.0), index(&[2, 4, 1], 0, 3)], || {
            vec![("batch_dims", Attr::Int(1))]
        }),
    ],
    ..indexing(
        "gather_nd",
        "Picks slices by tuples of indices along the last axis of `indices`.",
        "y[b, i, j] = params[b, indices[b, i, 0], indices[b, i, 1], ..., j]",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Element>(
                call: &Call,
                out: &Aval,
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let shared = shared(GatherNd::read(call.attrs).batch_dims);
                let total = out.shape.elements();
                let places = if total == 0 {
                    vec![]
                } else {
                    places(inputs[1], &call.inputs[0].shape, shared)?
                };
                let extents = (size(&out.shape, &call.inputs[1].shape), total);
                let picked =
                    scatter::pick(inputs[0].elements::<T>()?, places.into_iter(), extents)?;
                Array::new(&out.shape, picked)
            }
            Ok(smallvec![by_dtype!(any: out[0].dtype, T => typed::<T>(call, &out[0], inputs))?])
        }),
        Derivative::Linear {
            reads: Reads::X1,
            transpose: |r, ct| {
                let batch_dims = GatherNd::read(r.attrs).batch_dims;
                cotangent_at(0, scatter_nd(r.x[1], ct[0], &r.x[0].shape(), batch_dims))
            },
        },
    )
};

/// Axes that `infer` has counted.
fn shared(batch_dims: i64) -> usize {
    usize::try_from(batch_dims).unwrap_or(0)
}

fn gather_nd<'g>(x: Var<'g>, indices: Var<'g>) -> Var<'g> {
    x.op(&GATHER_ND, GatherNd { batch_dims: 0 }.write(), &[indices])
}

attrs! {
    /// Where sums go.
    ScatterNd {
        /// Shape of the result.
        shape: Ints = Required,
        /// How many leading axes the result shares with the indices.
        batch_dims: i64 = Int(0),
    }
}

fn scatter_nd<'g>(indices: Var<'g>, updates: Var<'g>, shape: &Shape, batch_dims: i64) -> Var<'g> {
    let attrs = ScatterNd { shape: shape.to_i64(), batch_dims };
    indices.op(&SCATTER_ND, attrs.write(), &[updates])
}

/// Sums of slices by tuples of indices.
pub static SCATTER_ND: OpDef = OpDef {
    inputs: &["indices", "updates"],
    dtypes: DTypes::INTEGER,
    result: ResultType::Input(1),
    attrs: ScatterNd::SPECS,
    infer: |call| {
        let [i, updates] = call.inputs else {
            return Err(Error::bug("scatter_nd takes two inputs"));
        };
        let ScatterNd { shape, batch_dims } = ScatterNd::read(call.attrs);
        let shape = Shape::checked(&shape)?;
        let dtype = numeric(updates)?;
        fits(&updates.shape, &slices(&shape, i, batch_dims)?)?;
        Ok(smallvec![Aval { dtype, shape }])
    },
    cost: |call, out| tuple_cost(call, out, 0),
    samples: &[
        sample_with(&[index(&[4, 2], 0, 3), uniform(&[4, 2], -2.0, 2.0)], || {
            vec![ints("shape", &[3, 3, 2])]
        }),
        sample_with(&[index(&[2, 0], 0, 1), uniform(&[2, 3], -2.0, 2.0)], || {
            vec![ints("shape", &[3])]
        }),
        sample_with(&[index(&[0, 1], 0, 1), uniform(&[0, 2], -2.0, 2.0)], || {
            vec![ints("shape", &[0, 2])]
        }),
        sample_with(&[index(&[2, 4, 1], 0, 3), uniform(&[2, 4, 2], -2.0, 2.0)], || {
            vec![ints("shape", &[2, 3, 2]), ("batch_dims", Attr::Int(1))]
        }),
    ],
    ..indexing(
        "scatter_nd",
        "Adds slices into zeros where tuples of indices say; slices of one place are summed in order.",
        "y[b, k, j] = sum of updates[b, i, j] where indices[b, i] = k",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Number>(
                call: &Call,
                out: &Aval,
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let shared = shared(ScatterNd::read(call.attrs).batch_dims);
                let x = inputs[1].elements::<T>()?;
                let places =
                    if x.is_empty() { vec![] } else { places(inputs[0], &out.shape, shared)? };
                let extents =
                    (size(&call.inputs[1].shape, &call.inputs[0].shape), out.shape.elements());
                Array::new(&out.shape, scatter::sums(x, places.into_iter(), extents)?)
            }
            Ok(smallvec![by_dtype!(numeric: out[0].dtype, T => typed::<T>(call, &out[0], inputs))?])
        }),
        Derivative::Linear {
            reads: Reads::X0,
            transpose: |r, ct| {
                let batch_dims = ScatterNd::read(r.attrs).batch_dims;
                cotangent_at(1, ct[0].op(&GATHER_ND, GatherNd { batch_dims }.write(), &[r.x[0]]))
            },
        },
    )
};

/// The dtype of something to be added up.
fn numeric(aval: &Aval) -> Result<DType, Error> {
    if DTypes::NUMERIC.contains(aval.dtype) {
        return Ok(aval.dtype);
    }
    Err(Error::UnsupportedDType { dtype: aval.dtype, accepted: DTypes::NUMERIC })
}

/// Checks updates against the slices that they go to.
fn fits(updates: &Shape, slices: &Shape) -> Result<(), Error> {
    if updates == slices {
        return Ok(());
    }
    let (lhs, rhs) = (updates.clone(), slices.clone());
    Err(Error::ShapeMismatch { lhs, rhs, expected: "updates must have the shape of the slices" })
}

// --- changes of a tensor ---

fn infer_change(call: &Call) -> Result<Avals, Error> {
    let [x, i, updates] = call.inputs else {
        return Err(Error::bug("a change takes three inputs"));
    };
    common_dtype(x, updates)?;
    fits(&updates.shape, &slices(&x.shape, i, 0)?)?;
    Ok(smallvec![x.clone()])
}

const CHANGES: &[Sample] = &[
    sample(&[uniform(&[3, 3, 2], -2.0, 2.0), index(&[4, 2], 0, 3), uniform(&[4, 2], -2.0, 2.0)]),
    sample(&[uniform(&[2], -2.0, 2.0), index(&[5, 1], 0, 2), uniform(&[5], -2.0, 2.0)]),
    sample(&[uniform(&[2, 2], -2.0, 2.0), index(&[0, 1], 0, 2), uniform(&[0, 2], -2.0, 2.0)]),
];

const fn change(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        inputs: &["tensor", "indices", "updates"],
        dtypes: DTypes::NUMERIC,
        infer: infer_change,
        cost: |call, out| tuple_cost(call, out, 1),
        samples: CHANGES,
        ..indexing(name, summary, formula, kernel, derivative)
    }
}

/// Combines slices of the first input with the updates, in order.
fn changed<T: Element>(
    call: &Call,
    inputs: &[&Array],
    combine: impl Fn(T, T) -> T,
) -> Result<Array, Error> {
    let (x, updates) = (inputs[0].elements::<T>()?, inputs[2].elements::<T>()?);
    let shape = &call.inputs[0].shape;
    let places = if updates.is_empty() { vec![] } else { places(inputs[1], shape, 0)? };
    Array::new(shape, scatter::update((x, updates), &places, combine)?)
}

/// Replaced slices.
pub static TENSOR_SCATTER_ND_UPDATE: OpDef = OpDef {
    dtypes: DTypes::ANY,
    ..change(
        "tensor_scatter_nd_update",
        "Replaces slices of a tensor; of several for one place the last one counts, and it gets the gradient.",
        "y = tensor, but y[indices[i]] = updates[i]",
        Kernel::Run(|call, out, inputs| {
            Ok(smallvec![
                by_dtype!(any: out[0].dtype, T => changed::<T>(call, inputs, |_, new| new))?
            ])
        }),
        Derivative::Linear {
            reads: Reads::X1,
            transpose: |r, ct| {
                let (ct, i) = (ct[0], r.x[1]);
                let kept = r.needs[0].then(|| {
                    let zeros = r.x[2].zeros();
                    ct.op(&TENSOR_SCATTER_ND_UPDATE, Attrs::default(), &[i, zeros]).into()
                });
                let new =
                    r.needs[2].then(|| gather_nd(ct, i).select(lasting(r), ct.scalar(0.0)).into());
                smallvec![kept, None, new]
            },
        },
    )
};

/// Whether each update is the last of its place, in a shape that broadcasts to the updates'.
fn lasting<'g>(r: &Rule<'g>) -> Var<'g> {
    let (x, i, updates) = (r.x[0].shape(), r.x[1].shape(), r.x[2].shape());
    let (depth, lead) = (i[i.len() - 1], &i[..i.len() - 1]);
    let order = r.x[1].graph().positions(lead.iter().product()).reshape(&lead.into());
    let none = r.x[1].graph().full(&Aval::new(DType::I64, &x[..depth]), 0.0);
    let last = none.op(&TENSOR_SCATTER_ND_UPDATE, Attrs::default(), &[r.x[1], order]);
    let mut shape = Shape::from(lead);
    (lead.len()..updates.len()).for_each(|_| shape.push(1));
    gather_nd(last, r.x[1]).zip(&EQUAL, order).reshape(&shape)
}

/// Sums into slices.
pub static TENSOR_SCATTER_ND_ADD: OpDef = change(
    "tensor_scatter_nd_add",
    "Adds to slices of a tensor; of several for one place, all.",
    "y = tensor, but y[indices[i]] += updates[i]",
    Kernel::Composite(|r| smallvec![r.x[0] + scatter_nd(r.x[1], r.x[2], &r.x[0].shape(), 0)]),
    Derivative::None,
);

/// Differences into slices.
pub static TENSOR_SCATTER_ND_SUB: OpDef = change(
    "tensor_scatter_nd_sub",
    "Subtracts from slices of a tensor; of several for one place, all.",
    "y = tensor, but y[indices[i]] -= updates[i]",
    Kernel::Composite(|r| smallvec![r.x[0] - scatter_nd(r.x[1], r.x[2], &r.x[0].shape(), 0)]),
    Derivative::None,
);

/// Sums into slices, one update after the other. Not in the table, since only the assignment to rows needs this order.
pub static ADD_IN_ORDER: OpDef = change(
    "add_in_order",
    "Adds to slices of a tensor, one update after the other.",
    "y[indices[i]] = y[indices[i]] + updates[i]",
    Kernel::Run(|call, out, inputs| {
        Ok(smallvec![
            by_dtype!(numeric: out[0].dtype, T => changed::<T>(call, inputs, Number::add))?
        ])
    }),
    Derivative::None,
);

/// Differences into slices, one update after the other, for the assignment to rows.
pub static SUBTRACT_IN_ORDER: OpDef = change(
    "subtract_in_order",
    "Subtracts from slices of a tensor, one update after the other.",
    "y[indices[i]] = y[indices[i]] - updates[i]",
    Kernel::Run(|call, out, inputs| {
        Ok(smallvec![
            by_dtype!(numeric: out[0].dtype, T => changed::<T>(call, inputs, Number::sub))?
        ])
    }),
    Derivative::None,
);

/// Gradient of an extreme by place: equal elements share it evenly.
const EXTREME: Derivative = Derivative::Custom {
    reads: Reads::X.and(Reads::Y),
    vjp: extreme_back,
    jvp: |r, t| {
        let chosen = Chosen::new(r);
        let [tensor, updates] = [(0, chosen.tensor), (2, chosen.updates)].map(|(i, chosen)| {
            let tangent = t[i].unwrap_or_else(|| r.x[i].zeros());
            tangent.select(chosen, tangent.scalar(0.0))
        });
        let sum = tensor + scatter_nd(r.x[1], updates, &r.x[0].shape(), 0);
        smallvec![sum.zip(&DIVIDE_NO_NAN, chosen.count)]
    },
};

fn extreme_back<'g>(r: &Rule<'g>, ct: &[Var<'g>]) -> Cotangents<'g> {
    let chosen = Chosen::new(r);
    let share = ct[0].zip(&DIVIDE_NO_NAN, chosen.count);
    let zero = share.scalar(0.0);
    smallvec![
        Some(share.select(chosen.tensor, zero).into()),
        None,
        Some(gather_nd(share, r.x[1]).select(chosen.updates, zero).into()),
    ]
}

/// Which elements equal the result at their place, and how many they are there.
struct Chosen<'g> {
    tensor: Var<'g>,
    updates: Var<'g>,
    count: Var<'g>,
}

impl<'g> Chosen<'g> {
    fn new(r: &Rule<'g>) -> Self {
        let tensor = r.x[0].zip(&EQUAL, r.y());
        let updates = r.x[2].zip(&EQUAL, gather_nd(r.y(), r.x[1]));
        let ones = |chosen: Var<'g>| chosen.cast(r.x[0].dtype());
        let count = ones(tensor) + scatter_nd(r.x[1], ones(updates), &r.x[0].shape(), 0);
        Self { tensor, updates, count }
    }
}

/// Largest elements by place.
pub static TENSOR_SCATTER_ND_MAX: OpDef = change(
    "tensor_scatter_nd_max",
    "Larger of each element and its updates; equal ones share the gradient.",
    "y = tensor, but y[indices[i]] = max(y[indices[i]], updates[i])",
    Kernel::Run(|call, out, inputs| {
        Ok(smallvec![by_dtype!(numeric: out[0].dtype, T => changed::<T>(call, inputs, larger))?])
    }),
    EXTREME,
);

/// Smallest elements by place.
pub static TENSOR_SCATTER_ND_MIN: OpDef = change(
    "tensor_scatter_nd_min",
    "Smaller of each element and its updates; equal ones share the gradient.",
    "y = tensor, but y[indices[i]] = min(y[indices[i]], updates[i])",
    Kernel::Run(|call, out, inputs| {
        Ok(smallvec![by_dtype!(numeric: out[0].dtype, T => changed::<T>(call, inputs, smaller))?])
    }),
    EXTREME,
);
