//! Positions of extremes, sorting and searching.

use smallvec::smallvec;

use crate::{
    array::{Array, buffer},
    attrs,
    attrs::Attr,
    aval::{Aval, Shape},
    batching::{Batching, along_axis},
    compute,
    dtype::{DType, DTypes},
    error::Error,
    kernels::{
        order::{argsort, extremes, insertion_points},
        real::{Number, Real},
    },
    op::{Arrays, Call, Cost, Derivative, Kernel, OpDef, ResultType, Sample},
    ops::{
        TAKE_ALONG_AXIS,
        family::{self, by_dtype, common_dtype, index, indices, sample, sample_with, uniform},
        reduce::{larger, smaller},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&ARGMAX, &ARGMIN, &SORT, &ARGSORT, &TOP_K_INDICES, &SEARCHSORTED, &IN_TOP_K];

// --- positions of extremes ---

attrs! {
    /// An axis.
    AlongAxis {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
    }
}

const SAMPLE: &[Sample] = &[
    sample(&[uniform(&[3, 2], -2.0, 2.0)]),
    sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![("axis", Attr::Int(-1))]),
    sample_with(&[uniform(&[2, 70, 3], -2.0, 2.0)], || vec![("axis", Attr::Int(1))]),
];

const fn position(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
) -> OpDef {
    OpDef {
        batching: Batching::Rule(along_axis),
        dtypes: DTypes::NUMERIC,
        result: ResultType::Fixed(DType::I64),
        attrs: AlongAxis::SPECS,
        infer: |call| {
            let x = &call.inputs[0].shape;
            let axis = x.axis(AlongAxis::read(call.attrs).axis, 0)?;
            if x[axis] == 0 {
                return Err(Error::InvalidShape {
                    shape: x.to_i64().as_slice().into(),
                    why: "the axis is empty",
                });
            }
            Ok(smallvec![Aval { dtype: DType::I64, shape: x.reduce(&[axis], false) }])
        },
        cost: |call, outputs| Cost {
            flops: (call.inputs[0].shape.elements() as u64).saturating_mul(2),
            // The extremes, and places that parts find each for themselves.
            workspace: (outputs[0].shape.elements() as u64).saturating_mul(16),
        },
        samples: SAMPLE,
        ..family::unary(name, summary, formula, kernel, Derivative::None)
    }
}

fn positions(call: &Call, out: &[Aval], inputs: &[&Array], largest: bool) -> Result<Arrays, Error> {
    let shape = &call.inputs[0].shape;
    let axis = shape.axis(AlongAxis::read(call.attrs).axis, 0)?;
    let y = by_dtype!(numeric: inputs[0].dtype(), T => {
        let x = inputs[0].elements::<T>()?;
        if largest {
            extremes(x, shape, axis, T::LOWEST, larger)
        } else {
            extremes(x, shape, axis, T::HIGHEST, smaller)
        }
    })?;
    Ok(smallvec![Array::new(&out[0].shape, y)?])
}

/// Position of the largest element.
pub static ARGMAX: OpDef = position(
    "argmax",
    "Position of the largest element along an axis, of equals the first.",
    "y = argmax of x",
    Kernel::Run(|call, out, inputs| positions(call, out, inputs, true)),
);

/// Position of the smallest element.
pub static ARGMIN: OpDef = position(
    "argmin",
    "Position of the smallest element along an axis, of equals the first.",
    "y = argmin of x",
    Kernel::Run(|call, out, inputs| positions(call, out, inputs, false)),
);

// --- sorting ---

attrs! {
    /// Attributes of sorting.
    Sorting {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(-1),
        /// Whether the largest element comes first.
        descending: bool = Bool(false),
    }
}

const SORTED: &[Sample] = &[
    sample(&[uniform(&[2, 4], -2.0, 2.0)]),
    sample_with(&[uniform(&[4, 2], -2.0, 2.0)], || {
        vec![("axis", Attr::Int(0)), ("descending", Attr::Bool(true))]
    }),
];

/// Comparisons of a sort of `n` elements in lines of `extent`, and the line that is sorted.
fn sorting_cost(x: &Shape, extent: usize) -> Cost {
    let comparisons = u64::from(usize::BITS - extent.leading_zeros()).max(1);
    Cost {
        flops: (x.elements() as u64).saturating_mul(comparisons),
        workspace: (extent as u64).saturating_mul(if extent > compute::range() { 32 } else { 16 }),
    }
}

/// The order of elements.
pub static ARGSORT: OpDef = OpDef {
    batching: Batching::Rule(along_axis),
    dtypes: DTypes::NUMERIC,
    result: ResultType::Fixed(DType::I64),
    attrs: Sorting::SPECS,
    infer: |call| {
        let x = &call.inputs[0].shape;
        x.axis(Sorting::read(call.attrs).axis, 0)?;
        Ok(smallvec![Aval { dtype: DType::I64, shape: x.clone() }])
    },
    cost: |call, _| {
        let x = &call.inputs[0].shape;
        sorting_cost(x, x.axis(Sorting::read(call.attrs).axis, 0).map_or(0, |axis| x[axis]))
    },
    samples: SORTED,
    ..family::unary(
        "argsort",
        "Positions of the elements along an axis in sorted order. Equal elements keep their order; NaN counts as largest.",
        "x[y_0] <= x[y_1] <= ...",
        Kernel::Run(|call, out, inputs| {
            let Sorting { axis, descending } = Sorting::read(call.attrs);
            let shape = &out[0].shape;
            let axis = shape.axis(axis, 0)?;
            let y = by_dtype!(numeric: inputs[0].dtype(), T => {
                argsort(inputs[0].elements::<T>()?, shape, axis, descending, shape[axis])
            })?;
            Ok(smallvec![Array::new(shape, y)?])
        }),
        Derivative::None,
    )
};

/// Sorted elements.
pub static SORT: OpDef = OpDef {
    dtypes: DTypes::NUMERIC,
    attrs: Sorting::SPECS,
    infer: |call| {
        call.inputs[0].shape.axis(Sorting::read(call.attrs).axis, 0)?;
        family::same(call)
    },
    samples: SORTED,
    ..family::unary(
        "sort",
        "Sorts the elements along an axis; NaN counts as largest.",
        "y_0 <= y_1 <= ...",
        Kernel::Composite(|r| {
            let order = r.x[0].op(&ARGSORT, r.attrs.clone(), &[]);
            let along = AlongAxis { axis: Sorting::read(r.attrs).axis };
            smallvec![r.x[0].op(&TAKE_ALONG_AXIS, along.write(), &[order])]
        }),
        Derivative::None,
    )
};

attrs! {
    /// A number of elements.
    TopK {
        /// How many, at most the extent of the last axis.
        k: i64 = Int(1),
    }
}

/// Positions of the largest elements.
pub static TOP_K_INDICES: OpDef = OpDef {
    dtypes: DTypes::NUMERIC,
    result: ResultType::Fixed(DType::I64),
    attrs: TopK::SPECS,
    infer: |call| {
        let mut shape = call.inputs[0].shape.clone();
        let last = shape.axis(-1, 0)?;
        let count = usize::try_from(TopK::read(call.attrs).k).ok().filter(|&k| k <= shape[last]);
        let why = || Error::attribute("k", format!("must be from 0 to {}", shape[last]));
        let count = count.ok_or_else(why)?;
        shape.set(last, count);
        Ok(smallvec![Aval { dtype: DType::I64, shape }])
    },
    cost: |call, _| {
        let x = &call.inputs[0].shape;
        sorting_cost(x, x.last().copied().unwrap_or(0))
    },
    samples: &[
        sample(&[uniform(&[2, 4], -2.0, 2.0)]),
        sample_with(&[uniform(&[5], -2.0, 2.0)], || vec![("k", Attr::Int(3))]),
    ],
    ..family::unary(
        "top_k_indices",
        "Positions of the k largest elements along the last axis, the largest first; of equals the first. With `take_along_axis` they give the elements.",
        "x[y_0] >= x[y_1] >= ... >= all others",
        Kernel::Run(|call, out, inputs| {
            let shape = &call.inputs[0].shape;
            let axis = shape.axis(-1, 0)?;
            let count = out[0].shape[axis];
            let y = by_dtype!(numeric: inputs[0].dtype(), T => {
                argsort(inputs[0].elements::<T>()?, shape, axis, true, count)
            })?;
            Ok(smallvec![Array::new(&out[0].shape, y)?])
        }),
        Derivative::None,
    )
};

// --- searching ---

attrs! {
    /// Attributes of a search.
    Search {
        /// Whether a value goes behind elements that are equal to it.
        right: bool = Bool(false),
    }
}

/// Places in a sorted sequence.
pub static SEARCHSORTED: OpDef = OpDef {
    inputs: &["sorted_sequence", "values"],
    dtypes: DTypes::NUMERIC,
    result: ResultType::Fixed(DType::I64),
    attrs: Search::SPECS,
    infer: |call| {
        let [sorted, values] = call.inputs else {
            return Err(Error::bug("searchsorted takes two inputs"));
        };
        common_dtype(sorted, values)?;
        let (s, v) = (sorted.shape.axis(-1, 0)?, values.shape.axis(-1, 0)?);
        if sorted.shape[..s] != values.shape[..v] {
            return Err(Error::ShapeMismatch {
                lhs: sorted.shape.clone(),
                rhs: values.shape.clone(),
                expected: "all extents but the last must be equal",
            });
        }
        Ok(smallvec![Aval { dtype: DType::I64, shape: values.shape.clone() }])
    },
    samples: &[
        sample(&[uniform(&[4], -2.0, 2.0), uniform(&[3], -2.0, 2.0)]),
        sample_with(&[uniform(&[2, 4], -2.0, 2.0), uniform(&[2, 3], -2.0, 2.0)], || {
            vec![("right", Attr::Bool(true))]
        }),
    ],
    ..family::binary(
        "searchsorted",
        "Places in a sorted last axis where values would be inserted.",
        "y = number of elements < value, or <= value if right",
        Kernel::Run(|call, out, inputs| {
            let right = Search::read(call.attrs).right;
            let extent = |i: usize| call.inputs[i].shape.last().copied().unwrap_or(1);
            let y = by_dtype!(numeric: inputs[0].dtype(), T => {
                let (sorted, values) = (inputs[0].elements::<T>()?, inputs[1].elements::<T>()?);
                insertion_points((sorted, extent(0)), (values, extent(1)), right)
            })?;
            Ok(smallvec![Array::new(&out[0].shape, y)?])
        }),
        Derivative::None,
    )
};

/// Membership in the largest elements.
pub static IN_TOP_K: OpDef = OpDef {
    inputs: &["targets", "predictions"],
    outputs: &["y"],
    dtypes: DTypes::INTEGER,
    result: ResultType::Fixed(DType::Bool),
    attrs: TopK::SPECS,
    infer: |call| {
        let [targets, predictions] = call.inputs else {
            return Err(Error::bug("in_top_k takes two inputs"));
        };
        if !predictions.dtype.is_float() {
            let accepted = DTypes::FLOAT;
            return Err(Error::UnsupportedDType { dtype: predictions.dtype, accepted });
        }
        if predictions.shape.len() != 2 || targets.shape[..] != predictions.shape[..1] {
            return Err(Error::ShapeMismatch {
                lhs: targets.shape.clone(),
                rhs: predictions.shape.clone(),
                expected: "[batch] and [batch, classes]",
            });
        }
        Ok(smallvec![Aval { dtype: DType::Bool, shape: targets.shape.clone() }])
    },
    cost: |call, _| Cost {
        flops: call.inputs[1].shape.elements() as u64,
        workspace: (call.inputs[0].shape.elements() as u64).saturating_mul(8),
    },
    samples: &[sample_with(&[index(&[3], 0, 4), uniform(&[3, 4], -2.0, 2.0)], || {
        vec![("k", Attr::Int(2))]
    })],
    ..family::binary(
        "in_top_k",
        "Whether fewer than k predictions of a row are larger than that of its target. Not so for a target without a prediction, or where one is not finite.",
        "y = (number of predictions > predictions[target]) < k",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Real>(
                k: i64,
                targets: &[i64],
                (x, classes): (&[T], usize),
            ) -> Result<Vec<bool>, Error> {
                let mut result = buffer(targets.len())?;
                for (row, &target) in targets.iter().enumerate() {
                    compute::check()?;
                    let row = &x[row * classes..(row + 1) * classes];
                    let own = usize::try_from(target).ok().and_then(|at| row.get(at));
                    let own = own.filter(|_| row.iter().all(|x| x.is_finite()));
                    let larger = own.map(|own| row.iter().filter(|&x| x > own).count());
                    let within = |larger| i64::try_from(larger).is_ok_and(|larger| larger < k);
                    result.push(larger.is_some_and(within));
                }
                Ok(result)
            }
            let k = TopK::read(call.attrs).k;
            let (targets, classes) = (indices(inputs[0])?, call.inputs[1].shape[1]);
            let y = by_dtype!(float: inputs[1].dtype(), T => {
                typed::<T>(k, &targets, (inputs[1].elements()?, classes))
            })?;
            Ok(smallvec![Array::new(&out[0].shape, y)?])
        }),
        Derivative::None,
    )
};
