//! Softmax, and the cross-entropies.

use smallvec::smallvec;

use crate::{
    array::{Array, buffer},
    attrs,
    attrs::Attr,
    aval::{Aval, Avals},
    batching::{self, Batching},
    compute,
    error::Error,
    graph::Var,
    kernels::{
        lanes,
        real::{Number, Real},
        reduce::split,
        strided::signed,
    },
    op::{Call, Cost, Derivative, Kernel, OpDef, Reads, Rule, cotangent_at, cotangents},
    ops::{
        EXP, ONE_HOT, OneHot, SOFTPLUS,
        family::{
            self, by_dtype, common_dtype, index, integer, per_input, positions, sample,
            sample_with, uniform,
        },
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &SOFTMAX,
    &LOG_SOFTMAX,
    &SOFTMAX_CROSS_ENTROPY_WITH_LOGITS,
    &SPARSE_SOFTMAX_CROSS_ENTROPY_WITH_LOGITS,
    &SIGMOID_CROSS_ENTROPY_WITH_LOGITS,
];

const fn activation(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef { family: "nn", ..family::unary(name, summary, formula, kernel, derivative) }
}

// --- softmax ---

attrs! {
    /// The axis of a distribution.
    Softmax {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(-1),
    }
}

const SOFTMAX_SAMPLES: &[crate::op::Sample] = &[
    sample(&[uniform(&[2, 3], -1.0, 1.0)]),
    sample_with(&[uniform(&[3, 2], -1.0, 1.0)], || vec![("axis", Attr::Int(0))]),
];

fn infer_softmax(call: &Call) -> Result<Avals, Error> {
    call.inputs[0].shape.axis(Softmax::read(call.attrs).axis, 0)?;
    family::same(call)
}

/// Runs a function over each lane of the axis: from the lane's elements to as many results.
fn each_lane<T: Real + Number + Send + Sync>(
    call: &Call,
    out: &Aval,
    x: &Array,
    f: impl Fn(&mut [T]) + Sync,
) -> Result<Array, Error> {
    let shape = &out.shape;
    let axis = shape.axis(Softmax::read(call.attrs).axis, 0)?;
    let x = x.elements::<T>()?;
    let mut result = buffer(x.len())?;
    result.extend_from_slice(x);
    if axis + 1 == shape.len() {
        let width = shape[axis].max(1);
        let lanes = result.len() / width;
        // An exponential, and three times through the lane.
        let work = 4 * compute::elements(result.len());
        let size = lanes.div_ceil(compute::parts(work, lanes)).max(1) * width;
        compute::each(result.chunks_mut(size).collect(), |part| {
            part.chunks_mut(width).for_each(&f);
            Ok(())
        })?;
        return Array::new(shape, result);
    }
    let mut lane = buffer(shape[axis])?;
    let (starts, mut along) = split(shape, &[axis]);
    starts.each(|start| {
        along.offset = signed(start);
        lane.clear();
        along.each(|at| lane.push(x[at]));
        f(&mut lane);
        let mut values = lane.iter();
        along.each(|at| {
            if let Some(&value) = values.next() {
                result[at] = value;
            }
        });
    });
    Array::new(shape, result)
}

/// The largest element.
fn top<T: Number>(lane: &[T]) -> T {
    let larger = |a, x| if x > a { x } else { a };
    lanes::fold(lane, T::LOWEST, larger, larger)
}

/// The logarithm of the sum of exponentials of the distances from the largest element, and that element.
fn log_sum<T: Real + Number>(lane: &[T]) -> (T, T) {
    let top = top(lane);
    let sum = lanes::fold(lane, 0.0, |sum, x| sum + (x - top).exp_().wide(), |a, b| a + b);
    (T::of(libm::log(sum)), top)
}

const fn softmax_like(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        attrs: Softmax::SPECS,
        infer: infer_softmax,
        batching: Batching::Rule(batching::along_axis),
        cost: |call, out| Cost { flops: 4 * per_input(call, out).flops, workspace: out[0].bytes() },
        samples: SOFTMAX_SAMPLES,
        ..activation(name, summary, formula, kernel, derivative)
    }
}

fn sum_along<'g>(r: &Rule<'g>, v: Var<'g>) -> Var<'g> {
    let axis = v.shape().axis(Softmax::read(r.attrs).axis, 0).unwrap_or(0);
    v.sum_keep(&[axis])
}

/// The Jacobian of softmax is symmetric, so both modes are the same expression.
fn softmax_pull<'g>(r: &Rule<'g>, v: Var<'g>) -> Var<'g> {
    let y = r.y();
    (v - sum_along(r, v * y)) * y
}

/// Softmax. A primitive for stability and speed.
pub static SOFTMAX: OpDef = softmax_like(
    "softmax",
    "Softmax along an axis, computed after subtracting the maximum.",
    "y_i = exp(x_i) / sum_j exp(x_j)",
    Kernel::Run(|call, out, inputs| {
        fn softmax<T: Real + Number>(lane: &mut [T]) {
            let top = top(lane);
            lanes::replace(lane, |x| (x - top).exp_());
            let share = lanes::fold(lane, 0.0, |sum, x| sum + x.wide(), |a, b| a + b).recip();
            lanes::replace(lane, |x| T::of(x.wide() * share));
        }
        Ok(smallvec![
            by_dtype!(float: out[0].dtype, T => each_lane::<T>(call, &out[0], inputs[0], softmax))?
        ])
    }),
    Derivative::Custom {
        reads: Reads::Y,
        vjp: |r, ct| cotangents([softmax_pull(r, ct[0])]),
        jvp: |r, t| smallvec![softmax_pull(r, t[0].unwrap_or_else(|| r.x[0].zeros()))],
    },
);

/// Logarithm of softmax. A primitive for stability.
pub static LOG_SOFTMAX: OpDef = softmax_like(
    "log_softmax",
    "Logarithm of softmax along an axis.",
    "y_i = x_i - ln(sum_j exp(x_j))",
    Kernel::Run(|call, out, inputs| {
        fn log_softmax<T: Real + Number>(lane: &mut [T]) {
            let (log, top) = log_sum(lane);
            lanes::replace(lane, |x| x - top - log);
        }
        Ok(smallvec![
            by_dtype!(float: out[0].dtype, T => each_lane::<T>(call, &out[0], inputs[0], log_softmax))?
        ])
    }),
    Derivative::Custom {
        reads: Reads::Y,
        vjp: |r, ct| cotangents([ct[0] - r.y().map(&EXP) * sum_along(r, ct[0])]),
        jvp: |r, t| {
            let t = t[0].unwrap_or_else(|| r.x[0].zeros());
            smallvec![t - sum_along(r, r.y().map(&EXP) * t)]
        },
    },
);

// --- losses ---

fn infer_pairs(call: &Call) -> Result<Avals, Error> {
    let [labels, logits] = call.inputs else { return Err(Error::bug("a loss takes two inputs")) };
    common_dtype(labels, logits)?;
    if labels.shape == logits.shape {
        return Ok(smallvec![labels.clone()]);
    }
    let (lhs, rhs) = (labels.shape.clone(), logits.shape.clone());
    Err(Error::ShapeMismatch { lhs, rhs, expected: "labels and logits must have the same shape" })
}

/// Cross-entropy of distributions.
pub static SOFTMAX_CROSS_ENTROPY_WITH_LOGITS: OpDef = OpDef {
    inputs: &["labels", "logits"],
    outputs: &["loss"],
    infer: |call| {
        let mut out = infer_pairs(call)?;
        let last = out[0].shape.axis(-1, 0)?;
        out[0].shape.remove(last);
        Ok(out)
    },
    samples: &[sample(&[uniform(&[2, 3], 0.1, 1.0), uniform(&[2, 3], -1.0, 1.0)])],
    ..activation(
        "softmax_cross_entropy_with_logits",
        "Cross-entropy between label distributions and the softmax of logits, along the last axis.",
        "loss = -sum_j labels_j log_softmax(logits)_j",
        Kernel::Composite(|r| {
            let log = r.x[1].op(&LOG_SOFTMAX, Softmax { axis: -1 }.write(), &[]);
            let last = r.x[0].shape().len().saturating_sub(1);
            smallvec![-(r.x[0] * log).reduce(&crate::ops::REDUCE_SUM, &[last], false)]
        }),
        Derivative::None,
    )
};

/// Cross-entropy of class numbers. A primitive, so that a label out of range is an error and not a zero row.
pub static SPARSE_SOFTMAX_CROSS_ENTROPY_WITH_LOGITS: OpDef = OpDef {
    inputs: &["labels", "logits"],
    outputs: &["loss"],
    dtypes: crate::dtype::DTypes::INTEGER,
    result: crate::op::ResultType::Input(1),
    infer: |call| {
        let [labels, logits] = call.inputs else {
            return Err(Error::bug("a loss takes two inputs"));
        };
        integer(labels)?;
        if !logits.dtype.is_float() {
            let accepted = crate::dtype::DTypes::FLOAT;
            return Err(Error::UnsupportedDType { dtype: logits.dtype, accepted });
        }
        let last = logits.shape.axis(-1, 0)?;
        let shape = logits.shape.reduce(&[last], false);
        if labels.shape != shape {
            let (lhs, rhs) = (labels.shape.clone(), logits.shape.clone());
            let expected = "labels must have the shape of logits without the last axis";
            return Err(Error::ShapeMismatch { lhs, rhs, expected });
        }
        Ok(smallvec![Aval { dtype: logits.dtype, shape }])
    },
    cost: |call, _| {
        let elements = call.inputs[1].shape.elements() as u64;
        Cost { flops: 4 * elements, workspace: 16 * call.inputs[0].shape.elements() as u64 }
    },
    samples: &[sample(&[index(&[2], 0, 3), uniform(&[2, 3], -1.0, 1.0)])],
    ..activation(
        "sparse_softmax_cross_entropy_with_logits",
        "Cross-entropy between class numbers and the softmax of logits, along the last axis.",
        "loss = -log_softmax(logits)_label",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Real + Number>(
                call: &Call,
                out: &Aval,
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let logits = &call.inputs[1].shape;
                let classes = logits[logits.len() - 1];
                let labels = positions(inputs[0], classes)?;
                let rows = inputs[1].elements::<T>()?.chunks(classes.max(1));
                let mut result = buffer(labels.len())?;
                result.extend(rows.zip(&labels).map(|(row, &label)| {
                    let (log, top) = log_sum(row);
                    log - (row[label] - top)
                }));
                Array::new(&out.shape, result)
            }
            Ok(smallvec![by_dtype!(float: out[0].dtype, T => typed::<T>(call, &out[0], inputs))?])
        }),
        Derivative::Custom {
            reads: Reads::X,
            vjp: |r, ct| {
                let last = r.x[1].shape().len().saturating_sub(1);
                let mut column = ct[0].shape();
                column.insert(last.min(column.len()), 1);
                cotangent_at(1, excess(r) * ct[0].reshape(&column))
            },
            jvp: |r, t| {
                let last = r.x[1].shape().len().saturating_sub(1);
                let t = t[1].unwrap_or_else(|| r.x[1].zeros());
                smallvec![(excess(r) * t).reduce(&crate::ops::REDUCE_SUM, &[last], false)]
            },
        },
    )
};

/// Softmax minus the labels' one-hot rows: the derivative of the loss by the logits.
fn excess<'g>(r: &Rule<'g>) -> Var<'g> {
    let (labels, logits) = (r.x[0], r.x[1]);
    let depth = logits.shape().to_i64().last().copied().unwrap_or(0);
    let one_hot = labels.op(&ONE_HOT, OneHot { depth, dtype: logits.dtype() }.write(), &[]);
    logits.op(&SOFTMAX, Softmax { axis: -1 }.write(), &[]) - one_hot
}

/// Cross-entropy of independent probabilities.
pub static SIGMOID_CROSS_ENTROPY_WITH_LOGITS: OpDef = OpDef {
    inputs: &["labels", "logits"],
    outputs: &["loss"],
    infer: infer_pairs,
    samples: &[sample(&[uniform(&[2, 3], 0.1, 0.9), uniform(&[2, 3], -1.0, 1.0)])],
    ..activation(
        "sigmoid_cross_entropy_with_logits",
        "Cross-entropy between probabilities and the sigmoid of logits, elementwise.",
        "loss = softplus(logits) - labels logits",
        Kernel::Composite(|r| smallvec![r.x[1].map(&SOFTPLUS) - r.x[0] * r.x[1]]),
        Derivative::None,
    )
};
