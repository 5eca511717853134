//! Activations, losses and pools of neural networks.

use smallvec::smallvec;

use crate::{
    array::{Array, buffer},
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Avals, Shape},
    dtype::DType,
    error::Error,
    graph::Var,
    kernels::{
        pool::{self, Window},
        real::{Number, Real},
        reduce::split,
        strided::signed,
    },
    op::{
        Call, Cost, Cotangents, Derivative, Kernel, OpDef, Reads, Rule, Vars, cotangent_at,
        cotangents, d,
    },
    ops::{
        family::{
            self, common_dtype, index, integer, ints, map_kernel, per_input, positions, sample,
            sample_with, uniform,
        },
        indexing::{ONE_HOT, OneHot},
        math::{
            ABS, ERF, EXP, EXPM1, GREATER, GREATER_EQUAL, MINIMUM, SIGMOID, SIGN, SQUARE, TANH,
        },
    },
};

/// The family, as the catalogue lists it.
pub const ALL: &[&OpDef] = &[
    &RELU,
    &RELU6,
    &LEAKY_RELU,
    &ELU,
    &SELU,
    &SILU,
    &GELU,
    &SOFTPLUS,
    &SOFTSIGN,
    &SOFTMAX,
    &LOG_SOFTMAX,
    &SOFTMAX_CROSS_ENTROPY_WITH_LOGITS,
    &SPARSE_SOFTMAX_CROSS_ENTROPY_WITH_LOGITS,
    &SIGMOID_CROSS_ENTROPY_WITH_LOGITS,
    &MAX_POOL2D,
    &MAX_POOL2D_SCATTER,
    &MAX_POOL2D_GATHER,
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

// --- activations ---

/// Rectifier. Its partial is the sign of the result and not a comparison, so that second derivatives are 0 and not
/// absent, as in TensorFlow.
pub static RELU: OpDef = activation(
    "relu",
    "Rectifier; its derivative at 0 is 0.",
    "y = max(x, 0)",
    map_kernel!(F32 F64: |x| if x > 0.0 { x } else if x.is_nan() { x } else { 0.0 }),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y().map(&SIGN))]),
);

/// Rectifier clipped at six.
pub static RELU6: OpDef = activation(
    "relu6",
    "Rectifier clipped at 6; its derivative at 0 and 6 is 0.",
    "y = min(max(x, 0), 6)",
    map_kernel!(F32 F64: |x| if x > 6.0 { 6.0 } else if x > 0.0 || x.is_nan() { x } else { 0.0 }),
    Derivative::Elementwise(&[d(Reads::Y, |r| {
        r.y().map(&SIGN) * (r.y().full_like(6.0) - r.y()).map(&SIGN)
    })]),
);

attrs! {
    /// Slope of a leaky rectifier.
    LeakyRelu {
        /// Slope for negative inputs, and at 0.
        alpha: f64 = Double(0.2),
    }
}

/// Leaky rectifier.
pub static LEAKY_RELU: OpDef = OpDef {
    attrs: LeakyRelu::SPECS,
    ..activation(
        "leaky_relu",
        "Rectifier with a slope for negative inputs.",
        "y = x if x > 0 else alpha x",
        Kernel::Composite(|r| {
            let x = r.x[0];
            smallvec![x.select(x.zip(&GREATER, x.scalar(0.0)), x * LeakyRelu::read(r.attrs).alpha)]
        }),
        Derivative::None,
    )
};

/// Exponential linear unit. A primitive because the composite would give NaN gradients where exp overflows.
pub static ELU: OpDef = activation(
    "elu",
    "Exponential linear unit.",
    "y = x if x > 0 else exp(x) - 1",
    map_kernel!(F32 F64: |x| if x > 0.0 { x } else { x.exp_m1_() }),
    Derivative::Elementwise(&[d(Reads::Y, |r| r.y().zip(&MINIMUM, r.y().scalar(0.0)) + 1.0)]),
);

/// Scale and slope of the self-normalising unit, from Klambauer et al. 2017, as TensorFlow rounds them.
const SELU_SCALE: f64 = 1.050_700_987_355_480_5;
const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;

/// Scaled exponential linear unit.
pub static SELU: OpDef = activation(
    "selu",
    "Scaled exponential linear unit.",
    "y = 1.0507 (x if x >= 0 else 1.6733 (exp(x) - 1))",
    Kernel::Composite(|r| {
        let x = r.x[0];
        let negative = x.zip(&MINIMUM, x.scalar(0.0)).map(&EXPM1) * SELU_ALPHA;
        smallvec![x.select(x.zip(&GREATER_EQUAL, x.scalar(0.0)), negative) * SELU_SCALE]
    }),
    Derivative::None,
);

/// Sigmoid-weighted linear unit.
pub static SILU: OpDef = activation(
    "silu",
    "Sigmoid-weighted linear unit, also called swish.",
    "y = x sigmoid(x)",
    Kernel::Composite(|r| smallvec![r.x[0] * r.x[0].map(&SIGMOID)]),
    Derivative::None,
);

attrs! {
    /// Which formula to use.
    Gelu {
        /// Whether to use the approximation by tanh.
        approximate: bool = Bool(false),
    }
}

/// Gaussian error linear unit.
pub static GELU: OpDef = OpDef {
    attrs: Gelu::SPECS,
    samples: &[
        sample(&[uniform(&[2, 3], -2.0, 2.0)]),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![("approximate", Attr::Bool(true))]),
    ],
    ..activation(
        "gelu",
        "Gaussian error linear unit.",
        "y = x (1 + erf(x / sqrt(2))) / 2",
        Kernel::Composite(|r| {
            let x = r.x[0];
            let gate = if Gelu::read(r.attrs).approximate {
                // sqrt(2 / pi), from Hendrycks and Gimpel 2016.
                ((x + x.map(&SQUARE) * x * 0.044_715) * 0.797_884_560_802_865_4).map(&TANH)
            } else {
                (x * std::f64::consts::FRAC_1_SQRT_2).map(&ERF)
            };
            smallvec![x * (gate + 1.0) * 0.5]
        }),
        Derivative::None,
    )
};

/// Smooth rectifier. A primitive for stability.
pub static SOFTPLUS: OpDef = activation(
    "softplus",
    "Smooth rectifier.",
    "y = ln(1 + exp(x))",
    map_kernel!(F32 F64: |x| {
        let tail = Real::ln_1p_((-x.abs()).exp_());
        if x > 0.0 { x + tail } else { tail }
    }),
    Derivative::Elementwise(&[d(Reads::X0, |r| r.x[0].map(&SIGMOID))]),
);

/// Smooth sign.
pub static SOFTSIGN: OpDef = activation(
    "softsign",
    "Smooth sign.",
    "y = x / (1 + |x|)",
    Kernel::Composite(|r| smallvec![r.x[0] / (r.x[0].map(&ABS) + 1.0)]),
    Derivative::None,
);

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
fn lanes<T: Real + Number>(
    call: &Call,
    out: &Aval,
    x: &Array,
    f: impl Fn(&mut [T]),
) -> Result<Array, Error> {
    let shape = &out.shape;
    let axis = shape.axis(Softmax::read(call.attrs).axis, 0)?;
    let x = x.elements::<T>()?;
    let mut result = buffer(x.len())?;
    result.extend_from_slice(x);
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

/// The largest element, and the sum of exponentials of the distances from it.
fn top_and_sum<T: Real + Number>(lane: &[T]) -> (T, f64) {
    let top = lane.iter().copied().fold(T::LOWEST, |a, x| if x > a { x } else { a });
    (top, lane.iter().map(|&x| (x - top).exp_().wide()).sum())
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
            let (top, sum) = top_and_sum(lane);
            lane.iter_mut().for_each(|x| *x = T::of((*x - top).exp_().wide() / sum));
        }
        Ok(smallvec![match out[0].dtype {
            DType::F32 => lanes::<f32>(call, &out[0], inputs[0], softmax),
            _ => lanes::<f64>(call, &out[0], inputs[0], softmax),
        }?])
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
            let (top, sum) = top_and_sum(lane);
            let log = T::of(libm::log(sum));
            lane.iter_mut().for_each(|x| *x = *x - top - log);
        }
        Ok(smallvec![match out[0].dtype {
            DType::F32 => lanes::<f32>(call, &out[0], inputs[0], log_softmax),
            _ => lanes::<f64>(call, &out[0], inputs[0], log_softmax),
        }?])
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
            smallvec![-(r.x[0] * log).reduce(&crate::ops::reduce::REDUCE_SUM, &[last], false)]
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
                    let (top, sum) = top_and_sum(row);
                    T::of(libm::log(sum)) - (row[label] - top)
                }));
                Array::new(&out.shape, result)
            }
            Ok(smallvec![match out[0].dtype {
                DType::F32 => typed::<f32>(call, &out[0], inputs),
                _ => typed::<f64>(call, &out[0], inputs),
            }?])
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
                smallvec![(excess(r) * t).reduce(&crate::ops::reduce::REDUCE_SUM, &[last], false)]
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

// --- pools ---

attrs! {
    /// A pooling window.
    Pool {
        /// Height and width of the window.
        ksize: Ints = Required,
        /// Steps down and across.
        strides: Ints = Required,
        /// "VALID" for windows inside the input, "SAME" for padding so that the output is the input divided by the strides.
        padding: String = Text("VALID"),
    }
}

/// The window, and the output's height and width.
fn pool_window(x: &Shape, attrs: &attrs::Attrs) -> Result<(Window, [usize; 2]), Error> {
    let Pool { ksize, strides, padding } = Pool::read(attrs);
    if x.len() != 4 {
        let shape = x.to_i64().as_slice().into();
        return Err(Error::InvalidShape {
            shape,
            why: "pools take [batch, height, width, channels]",
        });
    }
    let pair = |name: &str, values: &Ints| match values[..] {
        [a, b] if a > 0 && b > 0 => {
            Ok([usize::try_from(a).unwrap_or(usize::MAX), usize::try_from(b).unwrap_or(usize::MAX)])
        }
        _ => Err(Error::attribute(name, "must be two numbers from 1 on")),
    };
    let (size, stride) = (pair("ksize", &ksize)?, pair("strides", &strides)?);
    let (mut before, mut out) = ([0; 2], [0; 2]);
    for axis in 0..2 {
        let extent = x[axis + 1];
        match padding.as_str() {
            "VALID" => {
                if size[axis] > extent {
                    return Err(Error::attribute(
                        "ksize",
                        format!("is larger than the input's extent {extent}"),
                    ));
                }
                out[axis] = (extent - size[axis]) / stride[axis] + 1;
            }
            "SAME" => {
                out[axis] = extent.div_ceil(stride[axis]);
                let covered = out[axis]
                    .saturating_sub(1)
                    .saturating_mul(stride[axis])
                    .saturating_add(size[axis]);
                before[axis] = covered.saturating_sub(extent) / 2;
            }
            _ => return Err(Error::attribute("padding", "must be \"VALID\" or \"SAME\"")),
        }
    }
    Ok((Window { size, stride, before }, out))
}

fn pooled(x: &Shape, attrs: &attrs::Attrs) -> Result<Shape, Error> {
    let (_, [height, width]) = pool_window(x, attrs)?;
    Ok([x[0], height, width, x[3]].into())
}

fn pool_cost(call: &Call, _: &[Aval]) -> Cost {
    let x = &call.inputs[0].shape;
    let (Ok(out), Ok((window, _))) = (pooled(x, call.attrs), pool_window(x, call.attrs)) else {
        return Cost::default();
    };
    let elements = out.elements() as u64;
    let cells = (window.size[0].min(x[1]) as u64).saturating_mul(window.size[1].min(x[2]) as u64);
    Cost { flops: elements.saturating_mul(cells), workspace: elements.saturating_mul(8) }
}

const POOL_ATTRS: fn() -> Vec<(&'static str, Attr)> = || {
    vec![ints("ksize", &[2, 2]), ints("strides", &[2, 2]), ("padding", Attr::Text("SAME".into()))]
};

const fn pool(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        attrs: Pool::SPECS,
        cost: pool_cost,
        ..activation(name, summary, formula, kernel, derivative)
    }
}

/// Where each window's largest element is.
fn winners(call: &Call, x: &Array) -> Result<Vec<usize>, Error> {
    let shape = &call.inputs[0].shape;
    let (window, _) = pool_window(shape, call.attrs)?;
    let out = pooled(shape, call.attrs)?;
    match x.dtype() {
        DType::F32 => pool::argmax(x.elements::<f32>()?, shape, &out, window),
        _ => pool::argmax(x.elements::<f64>()?, shape, &out, window),
    }
}

/// Picks one element for each window.
fn pick<T: Real>(from: &Array, places: &[usize], out: &Shape) -> Result<Array, Error> {
    let from = from.elements::<T>()?;
    let mut result = buffer(places.len())?;
    result.extend(places.iter().map(|&at| from[at]));
    Array::new(out, result)
}

/// Largest element of each window.
pub static MAX_POOL2D: OpDef = OpDef {
    infer: |call| {
        Ok(smallvec![Aval {
            dtype: call.inputs[0].dtype,
            shape: pooled(&call.inputs[0].shape, call.attrs)?
        }])
    },
    samples: &[sample_with(&[uniform(&[1, 4, 3, 2], -2.0, 2.0)], POOL_ATTRS)],
    ..pool(
        "max_pool2d",
        "Largest element of each window of [batch, height, width, channels]; of equals the first gets the gradient.",
        "y[i, j] = max of x in the window at (i, j)",
        Kernel::Run(|call, out, inputs| {
            let places = winners(call, inputs[0])?;
            Ok(smallvec![match out[0].dtype {
                DType::F32 => pick::<f32>(inputs[0], &places, &out[0].shape),
                _ => pick::<f64>(inputs[0], &places, &out[0].shape),
            }?])
        }),
        Derivative::Custom {
            reads: Reads::X0,
            vjp: |r, ct| cotangents([r.x[0].op(&MAX_POOL2D_SCATTER, r.attrs.clone(), &[ct[0]])]),
            jvp: |r, t| {
                let t = t[0].unwrap_or_else(|| r.x[0].zeros());
                smallvec![r.x[0].op(&MAX_POOL2D_GATHER, r.attrs.clone(), &[t])]
            },
        },
    )
};

fn infer_like(call: &Call, other: &Shape, out: Shape) -> Result<Avals, Error> {
    let dtype = common_dtype(&call.inputs[0], &call.inputs[1])?;
    if call.inputs[1].shape != *other {
        let (lhs, rhs) = (call.inputs[1].shape.clone(), other.clone());
        return Err(Error::ShapeMismatch {
            lhs,
            rhs,
            expected: "the second input must fit the pool",
        });
    }
    Ok(smallvec![Aval { dtype, shape: out }])
}

/// Transpose of a maximum pool at a fixed input.
pub static MAX_POOL2D_SCATTER: OpDef = OpDef {
    inputs: &["x", "values"],
    infer: |call| {
        let x = call.inputs[0].shape.clone();
        infer_like(call, &pooled(&x, call.attrs)?, x)
    },
    samples: &[sample_with(
        &[uniform(&[1, 4, 3, 2], -2.0, 2.0), uniform(&[1, 2, 2, 2], -1.0, 1.0)],
        POOL_ATTRS,
    )],
    ..pool(
        "max_pool2d_scatter",
        "Adds each value to where max_pool2d takes its window's largest element: the transpose of that pool.",
        "y[argmax of x in window w] += values[w]",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Real + Number>(
                places: &[usize],
                values: &Array,
                out: &Aval,
            ) -> Result<Array, Error> {
                let mut result = buffer(out.shape.elements())?;
                result.resize(out.shape.elements(), T::ZERO);
                for (&at, &value) in places.iter().zip(values.elements::<T>()?) {
                    result[at] = result[at] + value;
                }
                Array::new(&out.shape, result)
            }
            let places = winners(call, inputs[0])?;
            Ok(smallvec![match out[0].dtype {
                DType::F32 => typed::<f32>(&places, inputs[1], &out[0]),
                _ => typed::<f64>(&places, inputs[1], &out[0]),
            }?])
        }),
        // Piecewise constant in x, linear in the values.
        Derivative::Custom {
            reads: Reads::X0,
            vjp: |r, ct| along(r, r.x[0].op(&MAX_POOL2D_GATHER, r.attrs.clone(), &[ct[0]])),
            jvp: |r, t| tangent_through(r, t, &MAX_POOL2D_SCATTER),
        },
    )
};

/// One element for each window of a maximum pool at a fixed input.
pub static MAX_POOL2D_GATHER: OpDef = OpDef {
    inputs: &["x", "values"],
    infer: |call| {
        let x = call.inputs[0].shape.clone();
        let out = pooled(&x, call.attrs)?;
        infer_like(call, &x, out)
    },
    samples: &[sample_with(
        &[uniform(&[1, 4, 3, 2], -2.0, 2.0), uniform(&[1, 4, 3, 2], -1.0, 1.0)],
        POOL_ATTRS,
    )],
    ..pool(
        "max_pool2d_gather",
        "Picks the values at which max_pool2d takes its windows' largest elements.",
        "y[w] = values[argmax of x in window w]",
        Kernel::Run(|call, out, inputs| {
            let places = winners(call, inputs[0])?;
            Ok(smallvec![match out[0].dtype {
                DType::F32 => pick::<f32>(inputs[1], &places, &out[0].shape),
                _ => pick::<f64>(inputs[1], &places, &out[0].shape),
            }?])
        }),
        Derivative::Custom {
            reads: Reads::X0,
            vjp: |r, ct| along(r, r.x[0].op(&MAX_POOL2D_SCATTER, r.attrs.clone(), &[ct[0]])),
            jvp: |r, t| tangent_through(r, t, &MAX_POOL2D_GATHER),
        },
    )
};

/// Cotangents of an op that is constant in its first input and linear in its second.
fn along<'g>(r: &Rule<'g>, values: Var<'g>) -> Cotangents<'g> {
    smallvec![Some(r.x[0].zeros().into()), Some(values.into())]
}

fn tangent_through<'g>(r: &Rule<'g>, t: &[Option<Var<'g>>], op: &'static OpDef) -> Vars<'g> {
    let values = t[1].unwrap_or_else(|| r.x[1].zeros());
    smallvec![r.x[0].op(op, r.attrs.clone(), &[values])]
}
