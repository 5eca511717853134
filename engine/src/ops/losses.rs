//! The cross-entropies.

use std::ops::Range;

use smallvec::smallvec;

use crate::{
    array::{Array, filled, overwritten},
    attrs::Attrs,
    aval::{Aval, Avals},
    batching::{Batch, Batching},
    compute,
    dtype::DTypes,
    error::Error,
    graph::Var,
    kernels::{
        rows,
        softmax::{self, Element},
    },
    op::{
        Call, Cost, Derivative, Kernel, OpDef, Reads, ResultType, Rule, Vars, cotangent_at,
        cotangents,
    },
    ops::{
        LOG_SOFTMAX, ONE_HOT, OneHot, REDUCE_SUM, SOFTMAX, SOFTMAX_GRADIENT, SOFTPLUS, Softmax,
        family::{self, by_dtype, common_dtype, index, integer, positions, sample, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &SOFTMAX_CROSS_ENTROPY_WITH_LOGITS,
    &SOFTMAX_CROSS_ENTROPY_GRADIENT,
    &SPARSE_SOFTMAX_CROSS_ENTROPY_WITH_LOGITS,
    &SPARSE_SOFTMAX_CROSS_ENTROPY_GRADIENT,
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

fn infer_pairs(call: &Call) -> Result<Avals, Error> {
    let [labels, logits] = call.inputs else { return Err(Error::bug("a loss takes two inputs")) };
    common_dtype(labels, logits)?;
    if labels.shape == logits.shape {
        return Ok(smallvec![labels.clone()]);
    }
    let (lhs, rhs) = (labels.shape.clone(), logits.shape.clone());
    Err(Error::ShapeMismatch { lhs, rhs, expected: "labels and logits must have the same shape" })
}

/// Distributions, logits, and what flows into each loss.
fn infer_upstream(call: &Call, losses: &Aval) -> Result<Avals, Error> {
    let upstream = &call.inputs[2];
    common_dtype(&call.inputs[1], upstream)?;
    if upstream.shape == losses.shape {
        return Ok(smallvec![call.inputs[1].clone()]);
    }
    let (lhs, rhs) = (upstream.shape.clone(), losses.shape.clone());
    Err(Error::ShapeMismatch { lhs, rhs, expected: "upstream must have the shape of the losses" })
}

fn infer_dense(call: &Call) -> Result<Avals, Error> {
    let mut out = infer_pairs(&Call { inputs: &call.inputs[..2], ..*call })?;
    let last = out[0].shape.axis(-1, 0)?;
    out[0].shape.remove(last);
    Ok(out)
}

/// Rows of each core, and what each needs for one of them.
fn cost(call: &Call, _: &[Aval]) -> Cost {
    let logits = &call.inputs[1].shape;
    let row = 16 * logits.last().copied().unwrap_or(0) as u64;
    let labels = 16 * call.inputs[0].shape.elements() as u64;
    let workspace = if call.inputs[0].dtype.is_integer() { labels } else { 0 };
    Cost {
        flops: 4 * logits.elements() as u64,
        workspace: workspace.saturating_add(row.saturating_mul(compute::MAX_WIDTH as u64)),
    }
}

/// Every op here goes along the last axis, so rows of stacks are rows.
fn stacked<'g>(b: &Batch<'_, 'g>) -> Option<Vars<'g>> {
    b.apply(&b.all_stacked(), vec![])
}

/// Makes a number for each row, or as many as it has: calls `f(rows, results)` for parts of them.
fn by_rows<T: Element>(
    call: &Call,
    out: &Aval,
    f: impl Fn(Range<usize>, &mut [T], usize) -> Result<(), Error> + Sync,
) -> Result<Array, Error> {
    let logits = &call.inputs[1].shape;
    let width = logits.last().copied().unwrap_or(0);
    let count = out.shape.elements();
    let mut results: Vec<T> = overwritten(count)?;
    if let Some(rows) = logits.elements().checked_div(width) {
        let part = rows::in_part(rows, 4 * compute::elements(logits.elements()));
        let size = part.saturating_mul(count.checked_div(rows).unwrap_or(0)).max(1);
        let parts = results.chunks_mut(size).zip((0..rows).step_by(part));
        compute::each(parts.collect(), |(results, first)| {
            f(first..rows.min(first + part), results, width)
        })?;
    } else {
        results.fill(T::ZERO);
    }
    Array::new(&out.shape, results)
}

/// The elements of some rows.
fn of_rows<'a, T>(x: &'a [T], rows: &Range<usize>, width: usize) -> &'a [T] {
    &x[rows.start * width..rows.end * width]
}

/// A buffer for a row.
fn scratch<T: Copy + Default>(width: usize) -> Result<Vec<T>, Error> {
    let row = filled(width, T::default())?;
    Ok(row)
}

/// A number for each row, along its row.
fn column<'g>(v: Var<'g>, rows: Var<'g>) -> Var<'g> {
    let mut shape = v.shape();
    shape.insert(shape.len().min(rows.shape().len().saturating_sub(1)), 1);
    v.reshape(&shape)
}

/// The sum of each row.
fn row_sums(v: Var<'_>) -> Var<'_> {
    v.reduce(&REDUCE_SUM, &[v.shape().len().saturating_sub(1)], false)
}

fn last<'g>(op: &'static OpDef, logits: Var<'g>) -> Var<'g> {
    logits.op(op, Softmax { axis: -1 }.write(), &[])
}

/// What flows back from the softmax of rows.
fn pulled<'g>(softmax: Var<'g>, flow: Var<'g>) -> Var<'g> {
    softmax.op(&SOFTMAX_GRADIENT, Softmax { axis: -1 }.write(), &[flow])
}

// --- of distributions ---

/// Cross-entropy of distributions. A primitive for speed.
pub static SOFTMAX_CROSS_ENTROPY_WITH_LOGITS: OpDef = OpDef {
    inputs: &["labels", "logits"],
    outputs: &["loss"],
    infer: infer_dense,
    cost,
    batching: Batching::Rule(stacked),
    samples: &[
        sample(&[uniform(&[2, 3], 0.1, 1.0), uniform(&[2, 3], -1.0, 1.0)]),
        sample(&[uniform(&[2, 1, 19], 0.1, 1.0), uniform(&[2, 1, 19], -1.0, 1.0)]),
    ],
    ..activation(
        "softmax_cross_entropy_with_logits",
        "Cross-entropy between label distributions and the softmax of logits, along the last axis.",
        "loss = -sum_j labels_j log_softmax(logits)_j",
        Kernel::Run(|call, out, inputs| {
            Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
                let (labels, logits) = (inputs[0].elements::<T>()?, inputs[1].elements::<T>()?);
                by_rows(call, &out[0], |rows, out: &mut [T], width| {
                    let (mut logs, mut products) = (scratch(width)?, scratch(width)?);
                    let (labels, logits) =
                        (of_rows(labels, &rows, width), of_rows(logits, &rows, width));
                    softmax::losses(labels, logits, out, (&mut logs, &mut products));
                    Ok(())
                })
            })?])
        }),
        Derivative::Custom {
            reads: Reads::X,
            vjp: |r, ct| {
                let labels = -last(&LOG_SOFTMAX, r.x[1]) * column(ct[0], r.x[1]);
                let inputs = [r.x[1], ct[0]];
                cotangents([
                    labels,
                    r.x[0].op(&SOFTMAX_CROSS_ENTROPY_GRADIENT, Attrs::default(), &inputs),
                ])
            },
            jvp: |r, t| {
                let labels = t[0].map(|t| -row_sums(t * last(&LOG_SOFTMAX, r.x[1])));
                let logits = t[1].map(|t| row_sums(dense_excess(r) * t));
                smallvec![sum_of([labels, logits]).unwrap_or_else(|| r.y().zeros())]
            },
        },
    )
};

fn sum_of<const N: usize>(terms: [Option<Var<'_>>; N]) -> Option<Var<'_>> {
    terms.into_iter().flatten().reduce(|sum, next| sum + next)
}

/// The derivative of each loss by its logits: the softmax times the labels' sum, minus the labels.
fn dense_excess<'g>(r: &Rule<'g>) -> Var<'g> {
    last(&SOFTMAX, r.x[1]) * column(row_sums(r.x[0]), r.x[1]) - r.x[0]
}

/// The gradient of cross-entropies of distributions.
pub static SOFTMAX_CROSS_ENTROPY_GRADIENT: OpDef = OpDef {
    inputs: &["labels", "logits", "upstream"],
    outputs: &["logits_gradient"],
    infer: |call| infer_upstream(call, &infer_dense(call)?[0]),
    cost,
    batching: Batching::Rule(stacked),
    samples: &[sample(&[
        uniform(&[2, 3], 0.1, 1.0),
        uniform(&[2, 3], -1.0, 1.0),
        uniform(&[2], -1.0, 1.0),
    ])],
    ..activation(
        "softmax_cross_entropy_gradient",
        "The gradient of `softmax_cross_entropy_with_logits` with respect to logits, from that with respect to the loss.",
        "logits_gradient = (softmax(logits) sum_j labels_j - labels) upstream",
        Kernel::Run(|call, out, inputs| {
            Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
                let (labels, logits) = (inputs[0].elements::<T>()?, inputs[1].elements::<T>()?);
                let flow = inputs[2].elements::<T>()?;
                by_rows(call, &out[0], |rows, out: &mut [T], width| {
                    let (labels, logits) =
                        (of_rows(labels, &rows, width), of_rows(logits, &rows, width));
                    softmax::loss_gradient(labels, logits, &flow[rows], out, width);
                    Ok(())
                })
            })?])
        }),
        Derivative::Custom {
            reads: Reads::X,
            vjp: |r, ct| {
                let (p, v) = (last(&SOFTMAX, r.x[1]), column(r.x[2], r.x[1]));
                let all = column(row_sums(r.x[0]), r.x[1]);
                cotangents([
                    (column(row_sums(p * ct[0]), p) - ct[0]) * v,
                    pulled(p, ct[0] * v * all),
                    row_sums(dense_excess(r) * ct[0]),
                ])
            },
            jvp: |r, t| {
                let (p, v) = (last(&SOFTMAX, r.x[1]), column(r.x[2], r.x[1]));
                let all = column(row_sums(r.x[0]), r.x[1]);
                let terms = [
                    t[0].map(|t| (p * column(row_sums(t), p) - t) * v),
                    t[1].map(|t| pulled(p, t) * all * v),
                    t[2].map(|t| dense_excess(r) * column(t, p)),
                ];
                smallvec![sum_of(terms).unwrap_or_else(|| r.y().zeros())]
            },
        },
    )
};

// --- of class numbers ---

fn infer_sparse(call: &Call) -> Result<Avals, Error> {
    let [labels, logits, ..] = call.inputs else {
        return Err(Error::bug("a loss takes two inputs"));
    };
    integer(labels)?;
    if !logits.dtype.is_float() {
        let accepted = DTypes::FLOAT;
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
}

/// Class numbers, which must be in range.
fn classes(call: &Call, inputs: &[&Array]) -> Result<Vec<usize>, Error> {
    positions(inputs[0], call.inputs[1].shape.last().copied().unwrap_or(0))
}

/// Cross-entropy of class numbers. A primitive, so that a label out of range is an error and not a zero row.
pub static SPARSE_SOFTMAX_CROSS_ENTROPY_WITH_LOGITS: OpDef = OpDef {
    inputs: &["labels", "logits"],
    outputs: &["loss"],
    dtypes: DTypes::INTEGER,
    result: ResultType::Input(1),
    infer: infer_sparse,
    cost,
    batching: Batching::Rule(stacked),
    samples: &[
        sample(&[index(&[2], 0, 3), uniform(&[2, 3], -1.0, 1.0)]),
        sample(&[index(&[2, 1], 0, 19), uniform(&[2, 1, 19], -1.0, 1.0)]),
    ],
    ..activation(
        "sparse_softmax_cross_entropy_with_logits",
        "Cross-entropy between class numbers and the softmax of logits, along the last axis.",
        "loss = -log_softmax(logits)_label",
        Kernel::Run(|call, out, inputs| {
            let labels = classes(call, inputs)?;
            Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
                let logits = inputs[1].elements::<T>()?;
                by_rows(call, &out[0], |rows, out: &mut [T], width| {
                    let (mut row, logits) = (scratch(width)?, of_rows(logits, &rows, width));
                    softmax::sparse_losses(&labels[rows], logits, out, &mut row);
                    Ok(())
                })
            })?])
        }),
        Derivative::Custom {
            reads: Reads::X,
            vjp: |r, ct| {
                let inputs = [r.x[1], ct[0]];
                let op = &SPARSE_SOFTMAX_CROSS_ENTROPY_GRADIENT;
                cotangent_at(1, r.x[0].op(op, Attrs::default(), &inputs))
            },
            jvp: |r, t| {
                let t = t[1].unwrap_or_else(|| r.x[1].zeros());
                smallvec![row_sums(excess(r) * t)]
            },
        },
    )
};

/// The gradient of cross-entropies of class numbers.
pub static SPARSE_SOFTMAX_CROSS_ENTROPY_GRADIENT: OpDef = OpDef {
    inputs: &["labels", "logits", "upstream"],
    outputs: &["logits_gradient"],
    dtypes: DTypes::INTEGER,
    result: ResultType::Input(1),
    infer: |call| infer_upstream(call, &infer_sparse(call)?[0]),
    cost,
    batching: Batching::Rule(stacked),
    samples: &[sample(&[index(&[2], 0, 3), uniform(&[2, 3], -1.0, 1.0), uniform(&[2], -1.0, 1.0)])],
    ..activation(
        "sparse_softmax_cross_entropy_gradient",
        "The gradient of `sparse_softmax_cross_entropy_with_logits` with respect to logits, from that with respect to the \
         loss.",
        "logits_gradient = (softmax(logits) - one_hot(labels)) upstream",
        Kernel::Run(|call, out, inputs| {
            let labels = classes(call, inputs)?;
            Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
                let (logits, flow) = (inputs[1].elements::<T>()?, inputs[2].elements::<T>()?);
                by_rows(call, &out[0], |rows, out: &mut [T], width| {
                    let (logits, flow) = (of_rows(logits, &rows, width), &flow[rows.clone()]);
                    softmax::sparse_gradient(&labels[rows], logits, flow, out, width);
                    Ok(())
                })
            })?])
        }),
        Derivative::Custom {
            reads: Reads::X,
            vjp: |r, ct| {
                let flow = ct[0] * column(r.x[2], r.x[1]);
                let logits = pulled(last(&SOFTMAX, r.x[1]), flow);
                let upstream = row_sums(excess(r) * ct[0]);
                smallvec![None, Some(logits.into()), Some(upstream.into())]
            },
            jvp: |r, t| {
                let terms = [
                    t[1].map(|t| pulled(last(&SOFTMAX, r.x[1]), t) * column(r.x[2], r.x[1])),
                    t[2].map(|t| excess(r) * column(t, r.x[1])),
                ];
                smallvec![sum_of(terms).unwrap_or_else(|| r.y().zeros())]
            },
        },
    )
};

/// Softmax minus the labels' one-hot rows: the derivative of the loss by the logits.
fn excess<'g>(r: &Rule<'g>) -> Var<'g> {
    let (labels, logits) = (r.x[0], r.x[1]);
    let depth = logits.shape().to_i64().last().copied().unwrap_or(0);
    let one_hot = labels.op(&ONE_HOT, OneHot { depth, dtype: logits.dtype() }.write(), &[]);
    last(&SOFTMAX, logits) - one_hot
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
