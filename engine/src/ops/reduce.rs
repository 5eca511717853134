//! Reductions along axes.

use smallvec::smallvec;

use crate::{
    array::Array,
    attrs,
    attrs::Ints,
    aval::{Aval, Avals, Shape},
    batching::{Batch, Batching},
    dtype::{DType, DTypes},
    error::Error,
    graph::Var,
    kernels::{
        folds::{Folding, Folds},
        lanes::Choice,
        real::Number,
        reduce::fold,
    },
    op::{Call, Cost, Derivative, Kernel, OpDef, Reads, ResultType, Rule, Sample, cotangents},
    ops::{
        ABS, CUMPROD, Cumulative, EQUAL, EXP, LESS, LOG, MAXIMUM, NOT_EQUAL, Permutation, RSQRT,
        SQRT, SQUARE, TRANSPOSE,
        family::{self, ints, per_input, sample, sample_with, truth, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &REDUCE_SUM,
    &REDUCE_MEAN,
    &REDUCE_PROD,
    &REDUCE_MAX,
    &REDUCE_MIN,
    &REDUCE_LOGSUMEXP,
    &REDUCE_VARIANCE,
    &REDUCE_STD,
    &REDUCE_ALL,
    &REDUCE_ANY,
    &REDUCE_EUCLIDEAN_NORM,
    &COUNT_NONZERO,
    &L2_LOSS,
    &L2_NORMALIZE,
];

attrs! {
    /// Attributes of a reduction.
    Reduce {
        /// Axes to reduce, counted from 0 or backwards from -1; empty for all.
        axis: Ints = Ints(&[]),
        /// Whether reduced axes stay, with extent 1.
        keepdims: bool = Bool(false),
    }
}

fn infer_reduce(call: &Call) -> Result<Avals, Error> {
    let Reduce { axis, keepdims } = Reduce::read(call.attrs);
    let x = &call.inputs[0];
    let axes = x.shape.axes(&axis)?;
    Ok(smallvec![Aval { dtype: x.dtype, shape: x.shape.reduce(&axes, keepdims) }])
}

/// A reduction of each row. Reducing no axes, as for a scalar row, changes nothing.
fn reduce_rows<'g>(b: &Batch<'_, 'g>) -> Option<crate::op::Vars<'g>> {
    let row = b.row(0);
    let axes = row.axes(&Reduce::read(b.attrs).axis).ok()?;
    if axes.is_empty() {
        return Some(b.x.clone());
    }
    let axis =
        axes.iter().map(|&axis| Some(i64::try_from(axis).ok()? + 1)).collect::<Option<_>>()?;
    b.apply(&b.x, vec![("axis", attrs::Attr::Ints(axis))])
}

const SAMPLES: &[Sample] = &[
    sample_with(&[uniform(&[2, 3], 0.5, 2.0)], || vec![ints("axis", &[1])]),
    sample_with(&[uniform(&[2, 3, 2], 0.5, 2.0)], || {
        vec![ints("axis", &[0, -1]), ("keepdims", attrs::Attr::Bool(true))]
    }),
    sample(&[uniform(&[3, 2], 0.5, 2.0)]),
    sample(&[uniform(&[], 0.5, 2.0)]),
];

const fn reduction(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        attrs: Reduce::SPECS,
        infer: infer_reduce,
        batching: Batching::Rule(reduce_rows),
        cost: |call, outputs| {
            // A row of accumulators, where elements that are folded do not lie side by side.
            let workspace = (outputs[0].shape.elements() as u64).saturating_mul(8);
            Cost { workspace, ..per_input(call, outputs) }
        },
        samples: SAMPLES,
        ..family::unary(name, summary, formula, kernel, derivative)
    }
}

/// The reduced axes of a call.
fn axes(call: &Call) -> Result<smallvec::SmallVec<[usize; 4]>, Error> {
    call.inputs[0].shape.axes(&Reduce::read(call.attrs).axis)
}

/// A reduction kernel that folds numbers.
macro_rules! folded {
    ($($dtype:ident $ty:ty)+ : |$count:ident| $init:expr, $step:expr, $merge:expr, $finish:expr) => {
        Kernel::Fold(
            |call, out, inputs| {
                let axes = axes(call)?;
                let shape = &call.inputs[0].shape;
                let $count = numbers(axes.iter().map(|&axis| shape[axis]).product());
                match inputs[0] {
                    $(Array::$dtype(_) => {
                        type T = $ty;
                        let folding =
                            Folding { init: $init, step: $step, merge: $merge, finish: $finish };
                        let y = fold(inputs[0].elements::<T>()?, shape, &axes, folding)?;
                        Ok(smallvec![Array::new(&out[0].shape, y)?])
                    })+
                    #[allow(unreachable_patterns, reason = "some members take every dtype")]
                    other => Err(family::unsupported(call, other.dtype())),
                }
            },
            |dtype, extents| {
                let $count = numbers(extents[1]);
                match dtype {
                    $(DType::$dtype => {
                        type T = $ty;
                        let folding =
                            Folding { init: $init, step: $step, merge: $merge, finish: $finish };
                        Folds::begin(folding, extents)
                    })+
                    other => Err(Error::bug(format!("a fold of {other}"))),
                }
            },
        )
    };
}

/// What a mean divides by.
#[expect(clippy::cast_precision_loss, reason = "a mean of 2^52 elements does not exist here")]
fn numbers(count: usize) -> f64 {
    count as f64
}

/// The shape of the result with reduced axes kept.
fn kept(r: &Rule) -> Shape {
    let x = r.x[0].shape();
    // `infer` accepted the axes.
    x.axes(&Reduce::read(r.attrs).axis).map_or(Shape::scalar(), |axes| x.reduce(&axes, true))
}

/// A value of the result's shape, broadcast to the input's.
fn spread<'g>(r: &Rule<'g>, v: Var<'g>) -> Var<'g> {
    v.reshape(&kept(r)).broadcast_to(&r.x[0].shape())
}

/// Reduces a value of the input's shape by a sum, to the result's shape.
fn collect<'g>(r: &Rule<'g>, v: Var<'g>) -> Var<'g> {
    v.op(&REDUCE_SUM, r.attrs.clone(), &[])
}

/// Sum.
pub static REDUCE_SUM: OpDef = OpDef {
    dtypes: DTypes::NUMERIC,
    ..reduction(
        "reduce_sum",
        "Sum along axes. Floating-point sums are accumulated in float64.",
        "y = sum of x",
        folded!(F32 f32 F64 f64 I32 i32 I64 i64: |_n| T::widen(T::ZERO), |a, x: T| T::wide_add(a, x.widen()), T::wide_add, T::narrow),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| cotangents([spread(r, ct[0])]),
        },
    )
};

/// Mean.
pub static REDUCE_MEAN: OpDef = reduction(
    "reduce_mean",
    "Mean along axes; NaN for an empty axis.",
    "y = sum of x / number of x",
    folded!(F32 f32 F64 f64: |n| 0.0_f64, |a, x: T| a + x.widen(), |a: f64, b| a + b, move |a| T::narrow(a / n)),
    Derivative::Linear {
        reads: Reads::NONE,
        transpose: |r, ct| {
            let (all, some) = (r.x[0].shape().elements(), r.y().shape().elements());
            #[expect(
                clippy::cast_precision_loss,
                reason = "a mean of 2^52 elements does not exist here"
            )]
            let share = if all == 0 { 0.0 } else { some as f64 / all as f64 };
            cotangents([spread(r, ct[0] * share)])
        },
    },
);

/// Product.
pub static REDUCE_PROD: OpDef = OpDef {
    dtypes: DTypes::NUMERIC,
    samples: &[
        SAMPLES[0],
        SAMPLES[1],
        SAMPLES[3],
        // Zeros.
        sample(&[uniform(&[2], 0.0, 0.0)]),
        sample(&[uniform(&[0], 0.0, 0.0)]),
    ],
    ..reduction(
        "reduce_prod",
        "Product along axes; its derivatives are right where elements are 0, too.",
        "y = product of x",
        folded!(F32 f32 F64 f64 I32 i32 I64 i64: |_n| T::widen(T::ONE), |a, x: T| T::wide_mul(a, x.widen()), T::wide_mul, T::narrow),
        Derivative::Custom {
            reads: Reads::X0,
            vjp: |r, ct| cotangents([spread(r, ct[0]) * products_of_others(r)]),
            jvp: |r, t| {
                smallvec![collect(
                    r,
                    t[0].map_or_else(|| r.x[0].zeros(), |t| t * products_of_others(r))
                )]
            },
        },
    )
};

/// For each element the product of the others: of those before it and of those behind it, so that nothing is divided by
/// an element that may be 0.
fn products_of_others<'g>(r: &Rule<'g>) -> Var<'g> {
    let x = r.x[0];
    let shape = x.shape();
    // `infer` accepted the axes.
    let reduced = shape.axes(&Reduce::read(r.attrs).axis).unwrap_or_default();
    let kept = (0..shape.len()).filter(|axis| !reduced.contains(axis));
    let order: Shape = kept.chain(reduced.iter().copied()).collect();
    let last: Shape = order.iter().map(|&axis| shape[axis]).collect();
    let count: usize = reduced.iter().map(|&axis| shape[axis]).product();
    let rows = r.y().shape().elements();
    let lines = x
        .op(&TRANSPOSE, Permutation { perm: order.to_i64() }.write(), &[])
        .reshape(&[rows, count].into());
    let along =
        |reverse| lines.op(&CUMPROD, Cumulative { axis: 1, exclusive: true, reverse }.write(), &[]);
    let inverse: Shape =
        (0..order.len()).map(|i| order.iter().position(|&axis| axis == i).unwrap_or(i)).collect();
    (along(false) * along(true)).reshape(&last).op(
        &TRANSPOSE,
        Permutation { perm: inverse.to_i64() }.write(),
        &[],
    )
}

/// The element, of equals the first, that an extreme takes; NaN wins.
pub(super) fn larger<T: Number>(a: T, x: T) -> T {
    if a >= x || a.is_nan() { a } else { x }
}

/// The same for the smallest.
pub(super) fn smaller<T: Number>(a: T, x: T) -> T {
    if a <= x || a.is_nan() { a } else { x }
}

/// Gradient of an extreme: equal elements share it evenly.
const EXTREME: Derivative = Derivative::Custom {
    reads: Reads::X0.and(Reads::Y),
    vjp: |r, ct| {
        let chosen = chosen(r);
        let share = ct[0] / collect(r, chosen);
        cotangents([spread(r, share) * chosen])
    },
    jvp: |r, t| {
        let chosen = chosen(r);
        let tangent = t[0].unwrap_or_else(|| r.x[0].zeros());
        smallvec![collect(r, chosen * tangent) / collect(r, chosen)]
    },
};

/// One where an element equals the extreme, else zero.
fn chosen<'g>(r: &Rule<'g>) -> Var<'g> {
    r.x[0].zip(&EQUAL, spread(r, r.y())).cast(r.x[0].dtype())
}

/// Largest element.
pub static REDUCE_MAX: OpDef = OpDef {
    dtypes: DTypes::NUMERIC,
    ..reduction(
        "reduce_max",
        "Largest element along axes; equal ones share the gradient. The lowest number for an empty axis.",
        "y = max of x",
        folded!(F32 f32 F64 f64 I32 i32 I64 i64: |_n| T::LOWEST, Choice(larger::<T>), larger::<T>, |a| a),
        EXTREME,
    )
};

/// Smallest element.
pub static REDUCE_MIN: OpDef = OpDef {
    dtypes: DTypes::NUMERIC,
    ..reduction(
        "reduce_min",
        "Smallest element along axes; equal ones share the gradient. The highest number for an empty axis.",
        "y = min of x",
        folded!(F32 f32 F64 f64 I32 i32 I64 i64: |_n| T::HIGHEST, Choice(smaller::<T>), smaller::<T>, |a| a),
        EXTREME,
    )
};

/// Logarithm of a sum of exponentials.
pub static REDUCE_LOGSUMEXP: OpDef = reduction(
    "reduce_logsumexp",
    "Logarithm of the sum of exponentials, computed after subtracting the maximum.",
    "y = ln(sum of exp(x))",
    Kernel::Composite(|r| {
        let x = r.x[0];
        let top = x.op(&REDUCE_MAX, r.attrs.clone(), &[]);
        let finite = top.map(&ABS).zip(&LESS, top.scalar(f64::INFINITY));
        let top = top.select(finite, top.zeros()).map(&crate::ops::STOP_GRADIENT);
        let sum = collect(r, (x - spread(r, top)).map(&EXP));
        smallvec![sum.map(&LOG) + top]
    }),
    Derivative::None,
);

fn variance<'g>(r: &Rule<'g>) -> Var<'g> {
    let x = r.x[0];
    let mean = x.op(&REDUCE_MEAN, r.attrs.clone(), &[]);
    (x - spread(r, mean)).map(&SQUARE).op(&REDUCE_MEAN, r.attrs.clone(), &[])
}

/// Variance.
pub static REDUCE_VARIANCE: OpDef = reduction(
    "reduce_variance",
    "Variance along axes: the mean squared distance from the mean.",
    "y = mean of (x - mean of x)^2",
    Kernel::Composite(|r| smallvec![variance(r)]),
    Derivative::None,
);

/// Standard deviation.
pub static REDUCE_STD: OpDef = OpDef {
    samples: &[SAMPLES[0], SAMPLES[1], SAMPLES[2]],
    ..reduction(
        "reduce_std",
        "Standard deviation along axes; its derivative where it is 0 is NaN.",
        "y = sqrt(mean of (x - mean of x)^2)",
        Kernel::Composite(|r| smallvec![variance(r).map(&SQRT)]),
        Derivative::None,
    )
};

const TRUTHS: &[Sample] =
    &[sample(&[truth(&[2, 3])]), sample_with(&[truth(&[2, 3])], || vec![ints("axis", &[0])])];

/// Conjunction.
pub static REDUCE_ALL: OpDef = OpDef {
    dtypes: DTypes::BOOL,
    samples: TRUTHS,
    ..reduction(
        "reduce_all",
        "Whether all elements along axes are true.",
        "y = all of x",
        folded!(Bool bool: |_n| true, |a: T, x: T| a && x, |a, b| a && b, |a| a),
        Derivative::None,
    )
};

/// Disjunction.
pub static REDUCE_ANY: OpDef = OpDef {
    dtypes: DTypes::BOOL,
    samples: TRUTHS,
    ..reduction(
        "reduce_any",
        "Whether any element along axes is true.",
        "y = any of x",
        folded!(Bool bool: |_n| false, |a: T, x: T| a || x, |a, b| a || b, |a| a),
        Derivative::None,
    )
};

// --- norms and counts ---

/// Euclidean norm.
pub static REDUCE_EUCLIDEAN_NORM: OpDef = reduction(
    "reduce_euclidean_norm",
    "Euclidean norm along axes; its derivative where it is 0 is NaN.",
    "y = sqrt(sum of x^2)",
    Kernel::Composite(|r| smallvec![collect(r, r.x[0].map(&SQUARE)).map(&SQRT)]),
    Derivative::None,
);

/// Number of elements that are not zero.
pub static COUNT_NONZERO: OpDef = OpDef {
    dtypes: DTypes::ANY,
    result: ResultType::Fixed(DType::I64),
    infer: |call| {
        let mut out = infer_reduce(call)?;
        out[0].dtype = DType::I64;
        Ok(out)
    },
    ..reduction(
        "count_nonzero",
        "Number of elements along axes that are not zero.",
        "y = number of x != 0",
        Kernel::Composite(|r| {
            let zero = r.x[0].scalar(0.0);
            smallvec![collect(r, r.x[0].zip(&NOT_EQUAL, zero).cast(DType::I64))]
        }),
        Derivative::None,
    )
};

/// Half of the sum of squares.
pub static L2_LOSS: OpDef = OpDef {
    family: "nn",
    infer: |call| Ok(smallvec![Aval::scalar(call.inputs[0].dtype)]),
    ..family::unary(
        "l2_loss",
        "Half of the sum of squares of all elements.",
        "y = sum of x^2 / 2",
        Kernel::Composite(|r| {
            let squares = r.x[0].map(&SQUARE);
            smallvec![squares.op(&REDUCE_SUM, Reduce::ALL.write(), &[]) * 0.5]
        }),
        Derivative::None,
    )
};

impl Reduce {
    /// All axes, to a scalar.
    const ALL: Self = Self { axis: Ints::new_const(), keepdims: false };
}

attrs! {
    /// Attributes of a normalization.
    Normalize {
        /// Axes of a vector, counted from 0 or backwards from -1; empty for all.
        axis: Ints = Ints(&[]),
        /// Smallest squared norm to divide by.
        epsilon: f64 = Double(1e-12),
    }
}

/// Vectors of norm one.
pub static L2_NORMALIZE: OpDef = OpDef {
    attrs: Normalize::SPECS,
    infer: |call| {
        call.inputs[0].shape.axes(&Normalize::read(call.attrs).axis)?;
        family::same(call)
    },
    samples: &[
        sample(&[uniform(&[2, 3], 0.5, 2.0)]),
        sample_with(&[uniform(&[2, 3], 0.5, 2.0)], || vec![ints("axis", &[-1])]),
        sample_with(&[uniform(&[3], 0.5, 1.0)], || vec![("epsilon", attrs::Attr::Double(9.0))]),
    ],
    ..family::unary(
        "l2_normalize",
        "Divides by the Euclidean norm along axes; a squared norm below epsilon counts as that.",
        "y = x / sqrt(max(sum of x^2, epsilon))",
        Kernel::Composite(|r| {
            let Normalize { axis, epsilon } = Normalize::read(r.attrs);
            let x = r.x[0];
            let reduce = Reduce { axis, keepdims: true };
            let squares = x.map(&SQUARE).op(&REDUCE_SUM, reduce.write(), &[]);
            smallvec![x * squares.zip(&MAXIMUM, squares.scalar(epsilon)).map(&RSQRT)]
        }),
        Derivative::None,
    )
};
