//! Softmax and its logarithm, and the gradients of both as ops of their own: each goes through memory once.

use smallvec::{SmallVec, smallvec};

use crate::{
    array::{Array, filled, overwritten},
    attrs,
    attrs::Attr,
    aval::{Aval, Avals},
    batching::{self, Batching},
    compute,
    error::Error,
    graph::Var,
    kernels::{
        columns::Columns,
        rows::in_part,
        softmax::{self, Element},
    },
    op::{Call, Cost, Derivative, Kernel, OpDef, Reads, Rule, Sample, cotangents},
    ops::{
        EXP,
        family::{self, by_dtype, common_dtype, sample, sample_with, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&SOFTMAX, &SOFTMAX_GRADIENT, &LOG_SOFTMAX, &LOG_SOFTMAX_GRADIENT];

attrs! {
    /// The axis of a distribution.
    Softmax {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(-1),
    }
}

const SAMPLES: &[Sample] = &[
    sample(&[uniform(&[2, 3], -1.0, 1.0)]),
    sample_with(&[uniform(&[3, 2], -1.0, 1.0)], || vec![("axis", Attr::Int(0))]),
    sample(&[uniform(&[2, 19], -1.0, 1.0)]),
];

const PAIRS: &[Sample] = &[
    sample(&[uniform(&[2, 3], 0.1, 1.0), uniform(&[2, 3], -1.0, 1.0)]),
    sample_with(&[uniform(&[3, 2], 0.1, 1.0), uniform(&[3, 2], -1.0, 1.0)], || {
        vec![("axis", Attr::Int(0))]
    }),
];

fn infer(call: &Call) -> Result<Avals, Error> {
    call.inputs[0].shape.axis(Softmax::read(call.attrs).axis, 0)?;
    family::same(call)
}

fn infer_gradient(call: &Call) -> Result<Avals, Error> {
    let [y, upstream] = call.inputs else {
        return Err(Error::bug("a gradient takes two inputs"));
    };
    common_dtype(y, upstream)?;
    if y.shape == upstream.shape {
        return infer(call);
    }
    let (lhs, rhs) = (y.shape.clone(), upstream.shape.clone());
    Err(Error::ShapeMismatch { lhs, rhs, expected: "upstream must have the shape of y" })
}

const fn distribution(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        family: "nn",
        attrs: Softmax::SPECS,
        infer,
        batching: Batching::Rule(batching::along_axis),
        cost,
        samples: SAMPLES,
        ..family::unary(name, summary, formula, kernel, derivative)
    }
}

/// The gradient of one of them, from its result and what flows into that.
const fn gradient(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        inputs: &["y", "upstream"],
        outputs: &["x_gradient"],
        infer: infer_gradient,
        batching: Batching::Rule(batching::all_along_axis),
        samples: PAIRS,
        ..distribution(name, summary, formula, kernel, derivative)
    }
}

fn cost(call: &Call, _: &[Aval]) -> Cost {
    let x = &call.inputs[0];
    let axis = x.shape.axis(Softmax::read(call.attrs).axis, 0).unwrap_or(0);
    // What is known of each column, if the axis is not the last; a row of products for each thread otherwise.
    let columns = if x.shape.is_empty() { None } else { Columns::of(&x.shape, &[axis]) };
    let row = 8 * x.shape.get(axis).map_or(0, |&width| width as u64);
    Cost {
        flops: 4 * x.shape.elements() as u64,
        workspace: columns.map_or_else(
            || row.saturating_mul(compute::MAX_WIDTH as u64),
            |columns| columns.bytes().saturating_mul(2),
        ),
    }
}

/// Calls `rows(inputs, results, width)` with the rows along the axis, or with parts of them, or `columns(inputs, columns)` if
/// the axis is not the last.
fn along<T: Element>(
    call: &Call,
    inputs: &[&Array],
    rows: impl Fn(&[&[T]], &mut [T], usize) -> Result<(), Error> + Sync,
    columns: impl Fn(&[&[T]], Columns) -> Result<Vec<T>, Error>,
) -> Result<Array, Error> {
    let shape = &call.inputs[0].shape;
    let axis = [shape.axis(Softmax::read(call.attrs).axis, 0)?];
    let inputs: SmallVec<[&[T]; 2]> =
        inputs.iter().map(|x| x.elements()).collect::<Result<_, _>>()?;
    if let Some(matrices) = Columns::of(shape, &axis) {
        return Array::new(shape, columns(&inputs, matrices)?);
    }
    let (count, width) = (shape.elements(), shape[axis[0]].max(1));
    let mut results = overwritten(count)?;
    let size = in_part(count / width, 4 * compute::elements(count)) * width;
    compute::each(results.chunks_mut(size).enumerate().collect(), |(i, results)| {
        let here = i * size..i * size + results.len();
        let inputs: SmallVec<[&[T]; 2]> = inputs.iter().map(|x| &x[here.clone()]).collect();
        rows(&inputs, results, width)
    })?;
    Array::new(shape, results)
}

fn sum_along<'g>(r: &Rule<'g>, v: Var<'g>) -> Var<'g> {
    let axis = v.shape().axis(Softmax::read(r.attrs).axis, 0).unwrap_or(0);
    v.sum_keep(&[axis])
}

/// Softmax. A primitive for stability and speed. Its Jacobian is symmetric, so both modes are the same.
pub static SOFTMAX: OpDef = distribution(
    "softmax",
    "Softmax along an axis, computed after subtracting the maximum.",
    "y_i = exp(x_i) / sum_j exp(x_j)",
    Kernel::Run(|call, out, inputs| {
        Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
            along::<T>(
                call,
                inputs,
                |x, out, width| {
                    softmax::softmax(x[0], out, width);
                    Ok(())
                },
                |x, columns| softmax::softmax_columns(x[0], columns),
            )
        })?])
    }),
    Derivative::Custom {
        reads: Reads::Y,
        vjp: |r, ct| cotangents([r.y().op(&SOFTMAX_GRADIENT, r.attrs.clone(), &[ct[0]])]),
        jvp: |r, t| {
            let t = t[0].unwrap_or_else(|| r.x[0].zeros());
            smallvec![r.y().op(&SOFTMAX_GRADIENT, r.attrs.clone(), &[t])]
        },
    },
);

/// The gradient of softmax.
pub static SOFTMAX_GRADIENT: OpDef = gradient(
    "softmax_gradient",
    "The gradient of `softmax` with respect to its input, from its result and the gradient with respect to that.",
    "x_gradient_i = (upstream_i - sum_j upstream_j y_j) y_i",
    Kernel::Run(|call, out, inputs| {
        Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
            along::<T>(
                call,
                inputs,
                |x, out, width| {
                    let mut products = filled(width, 0.0)?;
                    softmax::softmax_gradient(x[0], x[1], out, &mut products);
                    Ok(())
                },
                |x, columns| softmax::softmax_gradient_columns([x[0], x[1]], columns),
            )
        })?])
    }),
    Derivative::Custom {
        reads: Reads::X,
        vjp: |r, ct| {
            let (y, v) = (r.x[0], r.x[1]);
            let to_y = ct[0] * (v - sum_along(r, v * y)) - v * sum_along(r, ct[0] * y);
            cotangents([to_y, y.op(&SOFTMAX_GRADIENT, r.attrs.clone(), &[ct[0]])])
        },
        jvp: |r, t| {
            let (y, v) = (r.x[0], r.x[1]);
            let of_y = t[0].map(|t| (v - sum_along(r, v * y)) * t - y * sum_along(r, v * t));
            let of_v = t[1].map(|t| y.op(&SOFTMAX_GRADIENT, r.attrs.clone(), &[t]));
            let sum = of_y.into_iter().chain(of_v).reduce(|sum, next| sum + next);
            smallvec![sum.unwrap_or_else(|| y.zeros())]
        },
    },
);

/// Logarithm of softmax. A primitive for stability.
pub static LOG_SOFTMAX: OpDef = distribution(
    "log_softmax",
    "Logarithm of softmax along an axis.",
    "y_i = x_i - ln(sum_j exp(x_j))",
    Kernel::Run(|call, out, inputs| {
        Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
            along::<T>(
                call,
                inputs,
                |x, out, width| {
                    softmax::log_softmax(x[0], out, width);
                    Ok(())
                },
                |x, columns| softmax::log_softmax_columns(x[0], columns),
            )
        })?])
    }),
    Derivative::Custom {
        reads: Reads::Y,
        vjp: |r, ct| cotangents([r.y().op(&LOG_SOFTMAX_GRADIENT, r.attrs.clone(), &[ct[0]])]),
        jvp: |r, t| {
            let t = t[0].unwrap_or_else(|| r.x[0].zeros());
            smallvec![t - sum_along(r, r.y().map(&EXP) * t)]
        },
    },
);

/// The gradient of the logarithm of softmax.
pub static LOG_SOFTMAX_GRADIENT: OpDef = gradient(
    "log_softmax_gradient",
    "The gradient of `log_softmax` with respect to its input, from its result and the gradient with respect to that.",
    "x_gradient_i = upstream_i - exp(y_i) sum_j upstream_j",
    Kernel::Run(|call, out, inputs| {
        Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
            along::<T>(
                call,
                inputs,
                |x, out, width| {
                    softmax::log_softmax_gradient(x[0], x[1], out, width);
                    Ok(())
                },
                |x, columns| softmax::log_softmax_gradient_columns([x[0], x[1]], columns),
            )
        })?])
    }),
    Derivative::Custom {
        reads: Reads::X,
        vjp: |r, ct| {
            let (p, v) = (r.x[0].map(&EXP), r.x[1]);
            let to_y = -(p * ct[0] * sum_along(r, v));
            cotangents([to_y, ct[0] - sum_along(r, p * ct[0])])
        },
        jvp: |r, t| {
            let (p, v) = (r.x[0].map(&EXP), r.x[1]);
            let of_y = t[0].map(|t| -(p * t * sum_along(r, v)));
            let of_v = t[1].map(|t| t - p * sum_along(r, t));
            let sum = of_y.into_iter().chain(of_v).reduce(|sum, next| sum + next);
            smallvec![sum.unwrap_or_else(|| v.zeros())]
        },
    },
);
