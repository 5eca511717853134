//! Reductions along axes, running sums, and positions of extremes.

use smallvec::smallvec;

use crate::{
    array::Array,
    attrs,
    attrs::Ints,
    aval::{Aval, Avals, Shape},
    batching::{self, Batch, Batching},
    dtype::{DType, DTypes},
    error::Error,
    graph::Var,
    kernels::{
        real::Number,
        reduce::{fold, scan, split},
    },
    op::{
        Arrays, Call, Cotangents, Derivative, Kernel, OpDef, Reads, ResultType, Rule, Sample,
        cotangents,
    },
    ops::{
        ABS, EQUAL, EXP, LESS, LOG, SQRT, SQUARE,
        family::{self, by_dtype, ints, per_input, sample, sample_with, truth, uniform},
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
    &ARGMAX,
    &ARGMIN,
    &CUMSUM,
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
        cost: per_input,
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
    ($($dtype:ident $ty:ty)+ : |$count:ident| $init:expr, $fold:expr, $finish:expr) => {
        Kernel::Run(|call, out, inputs| {
            let axes = axes(call)?;
            let shape = &call.inputs[0].shape;
            #[allow(unused_variables, clippy::cast_precision_loss, reason = "only means divide by the count")]
            let $count = axes.iter().map(|&axis| shape[axis]).product::<usize>() as f64;
            match inputs[0] {
                $(Array::$dtype(_) => {
                    type T = $ty;
                    let y = fold(inputs[0].elements::<T>()?, shape, &axes, $init, $fold, $finish)?;
                    Ok(smallvec![Array::new(&out[0].shape, y)?])
                })+
                #[allow(unreachable_patterns, reason = "some members take every dtype")]
                other => Err(family::unsupported(call, other.dtype())),
            }
        })
    };
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
        folded!(F32 f32 F64 f64 I32 i32 I64 i64: |n| T::widen(T::ZERO), |a, x| T::wide_add(a, x.widen()), T::narrow),
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
    folded!(F32 f32 F64 f64: |n| 0.0_f64, |a, x| a + x.widen(), |a| T::narrow(a / n)),
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
    ..reduction(
        "reduce_prod",
        "Product along axes; its gradient is right where elements are 0, its second derivative is not.",
        "y = product of x",
        folded!(F32 f32 F64 f64 I32 i32 I64 i64: |n| T::widen(T::ONE), |a, x| T::wide_mul(a, x.widen()), T::narrow),
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

/// For each element the product of the others: the product of all non-zero ones divided by the element, if no other
/// element is zero.
fn products_of_others<'g>(r: &Rule<'g>) -> Var<'g> {
    let x = r.x[0];
    let zero = x.zip(&EQUAL, x.scalar(0.0));
    let (one_if_zero, nonzero) = (zero.cast(x.dtype()), x.ones().select(zero, x));
    let others_zero = spread(r, collect(r, one_if_zero)) - one_if_zero;
    let product = spread(r, nonzero.op(&REDUCE_PROD, r.attrs.clone(), &[])) / nonzero;
    product * others_zero.zip(&EQUAL, x.scalar(0.0)).cast(x.dtype())
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
        folded!(F32 f32 F64 f64 I32 i32 I64 i64: |n| T::LOWEST, larger::<T>, |a| a),
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
        folded!(F32 f32 F64 f64 I32 i32 I64 i64: |n| T::HIGHEST, smaller::<T>, |a| a),
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
        folded!(Bool bool: |n| true, |a: T, x| a && x, |a| a),
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
        folded!(Bool bool: |n| false, |a: T, x| a || x, |a| a),
        Derivative::None,
    )
};

// --- positions of extremes ---

attrs! {
    /// An axis.
    AlongAxis {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
    }
}

const SAMPLE: &[Sample] = &[sample(&[uniform(&[3, 2], -2.0, 2.0)])];

const fn position(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
) -> OpDef {
    OpDef {
        dtypes: DTypes::NUMERIC,
        result: ResultType::Fixed(DType::I64),
        batching: Batching::Rule(batching::along_axis),
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
        cost: per_input,
        samples: SAMPLE,
        ..family::unary(name, summary, formula, kernel, Derivative::None)
    }
}

fn positions(call: &Call, out: &[Aval], inputs: &[&Array], largest: bool) -> Result<Arrays, Error> {
    fn typed<T: Number>(
        x: &[T],
        shape: &Shape,
        axis: usize,
        largest: bool,
    ) -> Result<Vec<i64>, Error> {
        let (kept, mut along) = split(shape, &[axis]);
        let mut out = crate::array::buffer(kept.shape.iter().product())?;
        kept.each(|start| {
            along.offset = crate::kernels::strided::signed(start);
            let (mut best, mut best_at, mut at) = (x[start], 0, 0);
            along.each(|place| {
                let x = x[place];
                let better = if largest { x > best } else { x < best };
                if better || (x.is_nan() && !best.is_nan()) {
                    (best, best_at) = (x, at);
                }
                at += 1;
            });
            out.push(best_at);
        });
        Ok(out)
    }
    let shape = &call.inputs[0].shape;
    let axis = shape.axis(AlongAxis::read(call.attrs).axis, 0)?;
    let y = by_dtype!(numeric: inputs[0].dtype(), T => typed::<T>(inputs[0].elements()?, shape, axis, largest))?;
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

// --- running sums ---

attrs! {
    /// Attributes of a running sum.
    Cumulative {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
        /// Whether each sum leaves its own element out.
        exclusive: bool = Bool(false),
        /// Whether to sum from the end.
        reverse: bool = Bool(false),
    }
}

fn cumsum_back<'g>(r: &Rule<'g>, ct: &[Var<'g>]) -> Cotangents<'g> {
    let attrs = Cumulative::read(r.attrs);
    let reverse = !attrs.reverse;
    cotangents([ct[0].op(&CUMSUM, Cumulative { reverse, ..attrs }.write(), &[])])
}

/// Running sum.
pub static CUMSUM: OpDef = OpDef {
    batching: Batching::Rule(batching::along_axis),
    dtypes: DTypes::NUMERIC,
    attrs: Cumulative::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        x.shape.axis(Cumulative::read(call.attrs).axis, 0)?;
        Ok(smallvec![x.clone()])
    },
    samples: &[
        sample(&[uniform(&[3, 2], -2.0, 2.0)]),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || {
            let yes = attrs::Attr::Bool(true);
            vec![("axis", attrs::Attr::Int(1)), ("exclusive", yes.clone()), ("reverse", yes)]
        }),
    ],
    ..family::unary(
        "cumsum",
        "Running sum along an axis.",
        "y_i = x_0 + ... + x_i",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Number>(call: &Call, out: &Aval, x: &Array) -> Result<Array, Error> {
                let Cumulative { axis, exclusive, reverse } = Cumulative::read(call.attrs);
                let axis = out.shape.axis(axis, 0)?;
                let y = scan(
                    x.elements::<T>()?,
                    &out.shape,
                    axis,
                    (exclusive, reverse),
                    T::ZERO,
                    T::add,
                )?;
                Array::new(&out.shape, y)
            }
            Ok(smallvec![
                by_dtype!(numeric: out[0].dtype, T => typed::<T>(call, &out[0], inputs[0]))?
            ])
        }),
        Derivative::Linear { reads: Reads::NONE, transpose: cumsum_back },
    )
};
