//! Folding slices by the segments that they belong to.
//!
//! Segments need not be sorted or contiguous, and a slice with a negative number belongs to none. The sorted kind of
//! TensorFlow differs in what an empty segment gives, and its number of segments is an attribute here, since no shape may
//! depend on elements.

use num_traits::Bounded;
use smallvec::smallvec;

use crate::{
    array::Array,
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Avals, Shape},
    dtype::DTypes,
    error::Error,
    graph::Var,
    kernels::{real::Number, scatter},
    op::{Call, Derivative, Kernel, OpDef, Reads, Rule, Sample, cotangent_at},
    ops::{
        DIVIDE_NO_NAN, EQUAL, GATHER, GREATER, Gather, MAXIMUM, PAD, Pad, SQRT,
        family::{self, by_dtype, extent, index, indices, integer, sample_with, uniform},
        reduce::{larger, smaller},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &UNSORTED_SEGMENT_SUM,
    &UNSORTED_SEGMENT_PROD,
    &UNSORTED_SEGMENT_MAX,
    &UNSORTED_SEGMENT_MIN,
    &UNSORTED_SEGMENT_MEAN,
    &UNSORTED_SEGMENT_SQRT_N,
    &SEGMENT_SUM,
    &SEGMENT_PROD,
    &SEGMENT_MAX,
    &SEGMENT_MIN,
    &SEGMENT_MEAN,
];

attrs! {
    /// Attributes of a fold by segments.
    Segments {
        /// How many segments there are.
        num_segments: i64 = Required,
    }
}

fn infer(call: &Call) -> Result<Avals, Error> {
    let [x, ids] = call.inputs else { return Err(Error::bug("segment ops take two inputs")) };
    integer(ids)?;
    let count = extent("num_segments", Segments::read(call.attrs).num_segments)?;
    let rest = x.shape.strip_prefix(&ids.shape[..]).ok_or_else(|| Error::ShapeMismatch {
        lhs: x.shape.clone(),
        rhs: ids.shape.clone(),
        expected: "the first shape must begin with the second",
    })?;
    let shape = std::iter::once(count).chain(rest.iter().copied()).collect();
    Ok(smallvec![Aval { dtype: x.dtype, shape }])
}

const SAMPLES: &[Sample] = &[
    sample_with(&[uniform(&[5, 2], 0.5, 2.0), index(&[5], -1, 4)], || {
        vec![("num_segments", Attr::Int(4))]
    }),
    sample_with(&[uniform(&[2, 3], -2.0, -0.5), index(&[2, 3], 0, 2)], || {
        vec![("num_segments", Attr::Int(3))]
    }),
    sample_with(&[uniform(&[0, 2], -2.0, 2.0), index(&[0], 0, 1)], || {
        vec![("num_segments", Attr::Int(2))]
    }),
];

/// Without empty segments, beside whose extreme numbers no difference can be seen.
const FULL: &[Sample] = &[
    sample_with(&[uniform(&[6, 2], -2.0, 2.0), index(&[6], -1, 2)], || {
        vec![("num_segments", Attr::Int(2))]
    }),
    sample_with(&[uniform(&[2, 3], -2.0, -0.5), index(&[2, 3], 0, 2)], || {
        vec![("num_segments", Attr::Int(2))]
    }),
    sample_with(&[uniform(&[0, 2], -2.0, 2.0), index(&[0], 0, 1)], || {
        vec![("num_segments", Attr::Int(0))]
    }),
];

const fn segment(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        inputs: &["data", "segment_ids"],
        dtypes: DTypes::NUMERIC,
        attrs: Segments::SPECS,
        infer,
        cost: |call, out| family::fold_cost(1)(call, out),
        samples: SAMPLES,
        ..family::unary(name, summary, formula, kernel, derivative)
    }
}

/// A kernel that folds the slices of each segment.
macro_rules! folded {
    ($init:expr, $fold:expr, $finish:expr) => {
        Kernel::Run(|_, out, inputs| {
            let places = places(inputs[1], out[0].shape[0])?;
            let shape = &out[0].shape;
            let extents = (shape[1..].iter().product(), shape.elements());
            Ok(smallvec![by_dtype!(numeric: out[0].dtype, T => {
                let x = inputs[0].elements::<T>()?;
                let places = places.iter().copied();
                Array::new(shape, scatter::fold(x, places, extents, $init, $fold, $finish)?)
            })?])
        })
    };
}

/// The segment of each slice; none where the number is negative.
fn places(ids: &Array, extent: usize) -> Result<Vec<Option<usize>>, Error> {
    let raw = indices(ids)?;
    let mut out = crate::array::buffer(raw.len())?;
    let mut looks = crate::compute::Looks::default();
    for (position, &index) in raw.iter().enumerate() {
        looks.after(1)?;
        let place = usize::try_from(index).ok();
        if place.is_some_and(|place| place >= extent) {
            return Err(Error::IndexOutOfRange { index, position, extent });
        }
        out.push(place);
    }
    Ok(out)
}

// --- the language of the rules ---

/// Applies a fold of this family to another value of the data's shape.
fn collect<'g>(r: &Rule<'g>, op: &'static OpDef, v: Var<'g>) -> Var<'g> {
    v.op(op, r.attrs.clone(), &[r.x[1]])
}

/// For each slice of the data its segment's slice of `v`; zeros for slices of no segment.
fn spread<'g>(r: &Rule<'g>, v: Var<'g>) -> Var<'g> {
    let mut paddings = Ints::from_elem(0, 2 * v.shape().len());
    paddings[0] = 1;
    let padded = v.op(&PAD, Pad { paddings, constant: 0.0 }.write(), &[]);
    let ids = r.x[1];
    let shifted = ids.zip(&MAXIMUM, ids.scalar(-1.0)) + 1.0;
    padded.op(&GATHER, Gather { axis: 0, batch_dims: 0 }.write(), &[shifted])
}

/// The number of slices in each segment, in a shape that broadcasts to the result's.
fn counts<'g>(r: &Rule<'g>) -> Var<'g> {
    let (x, ids) = (r.x[0], r.x[1].shape());
    let ones = x.graph().full(&Aval { dtype: x.dtype(), shape: ids.clone() }, 1.0);
    let counts = collect(r, &UNSORTED_SEGMENT_SUM, ones);
    let mut shape: Shape = counts.shape();
    (ids.len()..x.shape().len()).for_each(|_| shape.push(1));
    counts.reshape(&shape)
}

// --- folds ---

/// Sums.
pub static UNSORTED_SEGMENT_SUM: OpDef = segment(
    "unsorted_segment_sum",
    "Sums of segments; 0 for an empty one. Slices with negative numbers are left out.",
    "y[k, j] = sum of data[i, j] where segment_ids[i] = k",
    folded!(T::ZERO.widen(), |sum, x| T::wide_add(sum, x.widen()), T::narrow),
    Derivative::Linear { reads: Reads::X1, transpose: |r, ct| cotangent_at(0, spread(r, ct[0])) },
);

/// Products.
pub static UNSORTED_SEGMENT_PROD: OpDef = segment(
    "unsorted_segment_prod",
    "Products of segments; 1 for an empty one. The gradient is right where elements are 0, the second derivative is not.",
    "y[k, j] = product of data[i, j] where segment_ids[i] = k",
    folded!(T::ONE.widen(), |product, x| T::wide_mul(product, x.widen()), T::narrow),
    Derivative::Custom {
        reads: Reads::X,
        vjp: |r, ct| cotangent_at(0, spread(r, ct[0]) * products_of_others(r)),
        jvp: |r, t| {
            let tangent = t[0].map_or_else(|| r.x[0].zeros(), |t| t * products_of_others(r));
            smallvec![collect(r, &UNSORTED_SEGMENT_SUM, tangent)]
        },
    },
);

/// For each element the product of the others of its segment: the product of all non-zero ones divided by the element,
/// if no other element is zero.
fn products_of_others<'g>(r: &Rule<'g>) -> Var<'g> {
    let x = r.x[0];
    let zero = x.zip(&EQUAL, x.scalar(0.0));
    let (one_if_zero, nonzero) = (zero.cast(x.dtype()), x.ones().select(zero, x));
    let others_zero = spread(r, collect(r, &UNSORTED_SEGMENT_SUM, one_if_zero)) - one_if_zero;
    let product = spread(r, collect(r, &UNSORTED_SEGMENT_PROD, nonzero)) / nonzero;
    product * others_zero.zip(&EQUAL, x.scalar(0.0)).cast(x.dtype())
}

/// Gradient of an extreme: equal elements share it evenly.
const EXTREME: Derivative = Derivative::Custom {
    reads: Reads::X.and(Reads::Y),
    vjp: |r, ct| {
        let chosen = chosen(r);
        let share = ct[0].zip(&DIVIDE_NO_NAN, count(r, chosen));
        cotangent_at(0, spread(r, share).select(chosen, share.scalar(0.0)))
    },
    jvp: |r, t| {
        let chosen = chosen(r);
        let tangent = t[0].unwrap_or_else(|| r.x[0].zeros());
        let sum = collect(r, &UNSORTED_SEGMENT_SUM, tangent.select(chosen, tangent.scalar(0.0)));
        smallvec![sum.zip(&DIVIDE_NO_NAN, count(r, chosen))]
    },
};

/// Whether an element equals its segment's extreme.
fn chosen<'g>(r: &Rule<'g>) -> Var<'g> {
    r.x[0].zip(&EQUAL, spread(r, r.y()))
}

/// How many elements of each segment are chosen.
fn count<'g>(r: &Rule<'g>, chosen: Var<'g>) -> Var<'g> {
    collect(r, &UNSORTED_SEGMENT_SUM, chosen.cast(r.x[0].dtype()))
}

/// Largest elements.
pub static UNSORTED_SEGMENT_MAX: OpDef = OpDef {
    samples: FULL,
    ..segment(
        "unsorted_segment_max",
        "Largest elements of segments; equal ones share the gradient. An empty segment gives the lowest finite number.",
        "y[k, j] = max of data[i, j] where segment_ids[i] = k",
        folded!(<T as Bounded>::min_value(), larger::<T>, |extreme| extreme),
        EXTREME,
    )
};

/// Smallest elements.
pub static UNSORTED_SEGMENT_MIN: OpDef = OpDef {
    samples: FULL,
    ..segment(
        "unsorted_segment_min",
        "Smallest elements of segments; equal ones share the gradient. An empty segment gives the highest finite number.",
        "y[k, j] = min of data[i, j] where segment_ids[i] = k",
        folded!(<T as Bounded>::max_value(), smaller::<T>, |extreme| extreme),
        EXTREME,
    )
};

// --- composed of the folds ---

/// Means.
pub static UNSORTED_SEGMENT_MEAN: OpDef = OpDef {
    dtypes: DTypes::FLOAT,
    ..segment(
        "unsorted_segment_mean",
        "Means of segments; 0 for an empty one.",
        "y[k, j] = sum of data[i, j] where segment_ids[i] = k / number of them",
        Kernel::Composite(|r| smallvec![mean(r, |count| count)]),
        Derivative::None,
    )
};

/// Sums divided by roots of counts.
pub static UNSORTED_SEGMENT_SQRT_N: OpDef = OpDef {
    dtypes: DTypes::FLOAT,
    ..segment(
        "unsorted_segment_sqrt_n",
        "Sums of segments divided by the square root of their number of slices; 0 for an empty one.",
        "y[k, j] = sum of data[i, j] where segment_ids[i] = k / sqrt(number of them)",
        Kernel::Composite(|r| smallvec![mean(r, |count| count.map(&SQRT))]),
        Derivative::None,
    )
};

fn mean<'g>(r: &Rule<'g>, divisor: fn(Var<'g>) -> Var<'g>) -> Var<'g> {
    collect(r, &UNSORTED_SEGMENT_SUM, r.x[0]).zip(&DIVIDE_NO_NAN, divisor(counts(r)))
}

/// Sums.
pub static SEGMENT_SUM: OpDef = segment(
    "segment_sum",
    "Sums of segments; 0 for an empty one.",
    "y[k, j] = sum of data[i, j] where segment_ids[i] = k",
    Kernel::Composite(|r| smallvec![collect(r, &UNSORTED_SEGMENT_SUM, r.x[0])]),
    Derivative::None,
);

/// Products.
pub static SEGMENT_PROD: OpDef = segment(
    "segment_prod",
    "Products of segments; 1 for an empty one.",
    "y[k, j] = product of data[i, j] where segment_ids[i] = k",
    Kernel::Composite(|r| smallvec![collect(r, &UNSORTED_SEGMENT_PROD, r.x[0])]),
    Derivative::None,
);

/// An extreme that is 0 for an empty segment.
fn or_zero<'g>(r: &Rule<'g>, op: &'static OpDef) -> Var<'g> {
    let extreme = collect(r, op, r.x[0]);
    let zero = extreme.scalar(0.0);
    extreme.select(counts(r).zip(&GREATER, zero), zero)
}

/// Largest elements.
pub static SEGMENT_MAX: OpDef = segment(
    "segment_max",
    "Largest elements of segments; equal ones share the gradient. 0 for an empty segment.",
    "y[k, j] = max of data[i, j] where segment_ids[i] = k",
    Kernel::Composite(|r| smallvec![or_zero(r, &UNSORTED_SEGMENT_MAX)]),
    Derivative::None,
);

/// Smallest elements.
pub static SEGMENT_MIN: OpDef = segment(
    "segment_min",
    "Smallest elements of segments; equal ones share the gradient. 0 for an empty segment.",
    "y[k, j] = min of data[i, j] where segment_ids[i] = k",
    Kernel::Composite(|r| smallvec![or_zero(r, &UNSORTED_SEGMENT_MIN)]),
    Derivative::None,
);

/// Means.
pub static SEGMENT_MEAN: OpDef = OpDef {
    dtypes: DTypes::FLOAT,
    ..segment(
        "segment_mean",
        "Means of segments; 0 for an empty one.",
        "y[k, j] = sum of data[i, j] where segment_ids[i] = k / number of them",
        Kernel::Composite(|r| smallvec![mean(r, |count| count)]),
        Derivative::None,
    )
};
