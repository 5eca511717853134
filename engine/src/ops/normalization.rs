//! Normalisation by moments. All but layer normalisation, which is in `layer_norm`, are composites: sums are accumulated in
//! `float64` as in any reduction, and derivatives of every order follow.

use smallvec::{SmallVec, smallvec};

use crate::{
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Avals, Shape},
    error::Error,
    graph::Var,
    op::{Call, Derivative, Kernel, OpDef, Rule, Vars},
    ops::{
        CONVOLUTION, LAYER_NORMALIZATION, LAYER_NORMALIZATION_GRADIENT, POW, REDUCE_MEAN, RSQRT,
        Reduce, SQUARE, Sliding,
        family::{self, common_dtype, common_shape, ints, sample, sample_with, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &MOMENTS,
    &BATCH_NORMALIZATION,
    &FUSED_BATCH_NORM,
    &LAYER_NORMALIZATION,
    &LAYER_NORMALIZATION_GRADIENT,
    &GROUP_NORMALIZATION,
    &RMS_NORMALIZATION,
    &LOCAL_RESPONSE_NORMALIZATION,
];

const fn normalization(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    expand: for<'g> fn(&Rule<'g>) -> Vars<'g>,
) -> OpDef {
    let kernel = Kernel::Composite(expand);
    OpDef { family: "nn", ..family::unary(name, summary, formula, kernel, Derivative::None) }
}

/// Mean and variance along axes, which stay with extent 1.
fn moments<'g>(x: Var<'g>, axes: &[usize]) -> (Var<'g>, Var<'g>) {
    let mean = x.reduce(&REDUCE_MEAN, axes, true);
    (mean, (x - mean).map(&SQUARE).reduce(&REDUCE_MEAN, axes, true))
}

/// `x` with mean 0 and variance 1 along axes, and its moments.
pub(super) fn standardized<'g>(
    x: Var<'g>,
    axes: &[usize],
    epsilon: f64,
) -> (Var<'g>, Var<'g>, Var<'g>) {
    let (mean, variance) = moments(x, axes);
    ((x - mean) * (variance + epsilon).map(&RSQRT), mean, variance)
}

/// A shape with the extents of `x` along some axes and 1 along the others.
pub(super) fn along(x: &Shape, axes: &[usize]) -> Shape {
    x.iter().enumerate().map(|(i, &extent)| if axes.contains(&i) { extent } else { 1 }).collect()
}

/// Checks that the inputs from the second on have the dtype of the first, and this shape.
fn like_first(call: &Call, shape: &Shape) -> Result<(), Error> {
    for input in &call.inputs[1..] {
        common_dtype(&call.inputs[0], input)?;
        if input.shape != *shape {
            return Err(Error::ShapeMismatch {
                lhs: input.shape.clone(),
                rhs: shape.clone(),
                expected: "scale and offset must have the extents that are normalised by them",
            });
        }
    }
    Ok(())
}

/// Mean and variance.
pub static MOMENTS: OpDef = OpDef {
    outputs: &["mean", "variance"],
    attrs: Reduce::SPECS,
    infer: |call| {
        let out = (crate::ops::REDUCE_MEAN.infer)(call)?;
        Ok(smallvec![out[0].clone(), out[0].clone()])
    },
    samples: &[
        sample(&[uniform(&[2, 3], -1.0, 1.0)]),
        sample_with(&[uniform(&[2, 3, 2], -1.0, 1.0)], || {
            vec![ints("axis", &[0, -1]), ("keepdims", Attr::Bool(true))]
        }),
    ],
    ..normalization(
        "moments",
        "Mean and variance along axes.",
        "mean = mean of x; variance = mean of (x - mean)^2",
        |r| {
            let x = r.x[0].shape();
            let Reduce { axis, keepdims } = Reduce::read(r.attrs);
            let axes = x.axes(&axis).unwrap_or_default();
            let (mean, variance) = moments(r.x[0], &axes);
            let shape = x.reduce(&axes, keepdims);
            smallvec![mean.reshape(&shape), variance.reshape(&shape)]
        },
    )
};

attrs! {
    /// What keeps a variance of zero from being divided by.
    Epsilon {
        /// Added to the variance.
        epsilon: f64 = Double(1e-3),
    }
}

/// Normalisation by moments that are given.
pub static BATCH_NORMALIZATION: OpDef = OpDef {
    inputs: &["x", "mean", "variance", "offset", "scale"],
    attrs: Epsilon::SPECS,
    infer: |call| {
        let mut out = call.inputs[0].clone();
        for input in &call.inputs[1..] {
            common_dtype(&out, input)?;
            out.shape = common_shape(&out.shape, &input.shape)?;
        }
        Ok(smallvec![out])
    },
    samples: &[sample(&[
        uniform(&[2, 2, 3], -1.0, 1.0),
        uniform(&[3], -1.0, 1.0),
        uniform(&[3], 0.5, 1.0),
        uniform(&[3], -1.0, 1.0),
        uniform(&[3], 0.5, 1.0),
    ])],
    ..normalization(
        "batch_normalization",
        "Normalises by moments that are given; all inputs broadcast.",
        "y = (x - mean) scale / sqrt(variance + epsilon) + offset",
        |r| {
            let [x, mean, variance, offset, scale] = r.x[..] else { return smallvec![r.x[0]] };
            let factor = (variance + Epsilon::read(r.attrs).epsilon).map(&RSQRT) * scale;
            smallvec![x * factor + (offset - mean * factor)]
        },
    )
};

attrs! {
    /// Attributes of normalisations that treat channels on their own.
    ChannelNorm {
        /// Added to the variance.
        epsilon: f64 = Double(1e-3),
        /// `"channels_last"` or `"channels_first"`, right after the batch.
        data_format: String = Text("channels_last"),
    }
}

/// The axis of the channels.
pub(super) fn channel_axis(x: &Shape, data_format: &str) -> Result<usize, Error> {
    match data_format {
        "channels_last" => x.axis(-1, 0),
        "channels_first" => x.axis(1, 0),
        _ => {
            Err(Error::attribute("data_format", "must be \"channels_last\" or \"channels_first\""))
        }
    }
}

const CHANNELS: &[crate::op::Sample] = &[
    sample(&[uniform(&[2, 2, 2, 3], -1.0, 1.0), uniform(&[3], 0.5, 1.0), uniform(&[3], -1.0, 1.0)]),
    sample_with(
        &[uniform(&[2, 3, 2], -1.0, 1.0), uniform(&[3], 0.5, 1.0), uniform(&[3], -1.0, 1.0)],
        || vec![("data_format", Attr::Text("channels_first".into()))],
    ),
];

/// Normalisation by the moments of a batch.
pub static FUSED_BATCH_NORM: OpDef = OpDef {
    inputs: &["x", "scale", "offset"],
    outputs: &["y", "mean", "variance"],
    attrs: ChannelNorm::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let axis = channel_axis(&x.shape, &ChannelNorm::read(call.attrs).data_format)?;
        let channels = Shape::from([x.shape[axis]]);
        like_first(call, &channels)?;
        let moment = Aval { dtype: x.dtype, shape: channels };
        Ok(smallvec![x.clone(), moment.clone(), moment])
    },
    samples: CHANNELS,
    ..normalization(
        "fused_batch_norm",
        "Normalises each channel by its moments in the batch, and gives them: the mean, and the unbiased variance.",
        "y = (x - mean) scale / sqrt(biased variance + epsilon) + offset",
        |r| {
            let ChannelNorm { epsilon, data_format } = ChannelNorm::read(r.attrs);
            let shape = r.x[0].shape();
            let channel = channel_axis(&shape, &data_format).unwrap_or(0);
            let axes: SmallVec<[usize; 8]> = (0..shape.len()).filter(|&i| i != channel).collect();
            let (y, mean, variance) = standardized(r.x[0], &axes, epsilon);
            let place = along(&shape, &[channel]);
            let y = y * r.x[1].reshape(&place) + r.x[2].reshape(&place);
            let count: usize = axes.iter().map(|&i| shape[i]).fold(1, usize::saturating_mul);
            let channels = Shape::from([shape[channel]]);
            smallvec![y, mean.reshape(&channels), variance.reshape(&channels) * bessel(count),]
        },
    )
};

/// What makes the variance of so many numbers unbiased.
#[expect(clippy::cast_precision_loss, reason = "a ratio of counts")]
fn bessel(count: usize) -> f64 {
    count as f64 / count.saturating_sub(1).max(1) as f64
}

attrs! {
    /// Attributes of normalisations along axes.
    AxisNorm {
        /// Axes to normalise along.
        axis: Ints = Ints(&[-1]),
        /// Added to the variance, or to the mean square.
        epsilon: f64 = Double(1e-3),
    }
}

pub(super) fn infer_along(call: &Call) -> Result<Avals, Error> {
    let x = &call.inputs[0];
    let axes = x.shape.axes(&AxisNorm::read(call.attrs).axis)?;
    like_first(call, &axes.iter().map(|&axis| x.shape[axis]).collect())?;
    Ok(smallvec![x.clone()])
}

/// Normalisation by the root of the mean square.
pub static RMS_NORMALIZATION: OpDef = OpDef {
    inputs: &["x", "scale"],
    attrs: AxisNorm::SPECS,
    infer: infer_along,
    samples: &[sample(&[uniform(&[2, 3], -1.0, 1.0), uniform(&[3], 0.5, 1.0)])],
    ..normalization(
        "rms_normalization",
        "Divides by the root of the mean square along axes; scale has the extents of these.",
        "y = x scale / sqrt(mean of x^2 + epsilon)",
        |r| {
            let (x, AxisNorm { axis, epsilon }) = (r.x[0].shape(), AxisNorm::read(r.attrs));
            let axes = x.axes(&axis).unwrap_or_default();
            let square = r.x[0].map(&SQUARE).reduce(&REDUCE_MEAN, &axes, true);
            let y = r.x[0] * (square + epsilon).map(&RSQRT);
            smallvec![y * r.x[1].reshape(&along(&x, &axes))]
        },
    )
};

attrs! {
    /// Attributes of group normalisation.
    GroupNorm {
        /// Number of groups, which divides the number of channels; -1 for a group each, which is instance normalisation.
        groups: i64 = Int(32),
        /// Added to the variance.
        epsilon: f64 = Double(1e-3),
        /// `"channels_last"` or `"channels_first"`, right after the batch.
        data_format: String = Text("channels_last"),
    }
}

/// Axis of the channels, and number of groups.
fn groups(x: &Shape, attrs: &attrs::Attrs) -> Result<(usize, usize), Error> {
    let GroupNorm { groups, data_format, .. } = GroupNorm::read(attrs);
    let axis = channel_axis(x, &data_format)?;
    let channels = x[axis];
    if axis == 0 {
        return Err(Error::attribute("data_format", "needs an axis for the batch"));
    }
    let count = if groups == -1 { channels } else { usize::try_from(groups).unwrap_or(0) };
    if channels.checked_rem(count) == Some(0) || (channels == 0 && groups == -1) {
        return Ok((axis, count));
    }
    Err(Error::attribute("groups", format!("must divide the number of channels, {channels}")))
}

/// Group normalisation.
pub static GROUP_NORMALIZATION: OpDef = OpDef {
    inputs: &["x", "scale", "offset"],
    attrs: GroupNorm::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let (axis, _) = groups(&x.shape, call.attrs)?;
        like_first(call, &[x.shape[axis]].into())?;
        Ok(smallvec![x.clone()])
    },
    samples: &[
        sample_with(
            &[uniform(&[2, 3, 4], -1.0, 1.0), uniform(&[4], 0.5, 1.0), uniform(&[4], -1.0, 1.0)],
            || vec![("groups", Attr::Int(2))],
        ),
        sample_with(
            &[uniform(&[2, 2, 3], -1.0, 1.0), uniform(&[2], 0.5, 1.0), uniform(&[2], -1.0, 1.0)],
            || {
                vec![
                    ("groups", Attr::Int(-1)),
                    ("data_format", Attr::Text("channels_first".into())),
                ]
            },
        ),
    ],
    ..normalization(
        "group_normalization",
        "Normalises groups of channels of each example; scale and offset have the extent of the channels.",
        "y = (x - mean of the group) scale / sqrt(variance of the group + epsilon) + offset",
        |r| {
            let (x, shape) = (r.x[0], r.x[0].shape());
            let (axis, groups) = groups(&shape, r.attrs).unwrap_or((0, 1));
            let product = |extents: &[usize]| extents.iter().product::<usize>();
            // [batch, positions before the channels, groups, channels of a group, positions after them].
            let split = Shape::from([
                shape[0],
                product(&shape[1..axis]),
                groups,
                shape[axis].checked_div(groups).unwrap_or(0),
                product(&shape[axis + 1..]),
            ]);
            let (y, ..) =
                standardized(x.reshape(&split), &[1, 3, 4], GroupNorm::read(r.attrs).epsilon);
            let place = along(&shape, &[axis]);
            smallvec![y.reshape(&shape) * r.x[1].reshape(&place) + r.x[2].reshape(&place)]
        },
    )
};

attrs! {
    /// Attributes of local response normalisation.
    LocalResponse {
        /// How many channels to either side count.
        depth_radius: i64 = Int(5),
        /// Added to the sum.
        bias: f64 = Double(1.0),
        /// Factor of the sum.
        alpha: f64 = Double(1.0),
        /// Exponent.
        beta: f64 = Double(0.5),
    }
}

/// Local response normalisation, from Krizhevsky et al. 2012.
pub static LOCAL_RESPONSE_NORMALIZATION: OpDef = OpDef {
    attrs: LocalResponse::SPECS,
    infer: |call| {
        call.inputs[0].shape.axis(-1, 0)?;
        if LocalResponse::read(call.attrs).depth_radius < 0 {
            return Err(Error::attribute("depth_radius", "must not be negative"));
        }
        family::same(call)
    },
    samples: &[sample_with(&[uniform(&[2, 5], -1.0, 1.0)], || {
        vec![("depth_radius", Attr::Int(1)), ("beta", Attr::Double(0.75))]
    })],
    ..normalization(
        "local_response_normalization",
        "Divides by a power of the sum of squares in neighbouring channels, those of the last axis.",
        "y_c = x_c / (bias + alpha sum_{|d| <= depth_radius} x_{c + d}^2)^beta",
        |r| {
            let LocalResponse { depth_radius, bias, alpha, beta } = LocalResponse::read(r.attrs);
            let (x, shape) = (r.x[0], r.x[0].shape());
            let channels = shape.last().copied().unwrap_or(1);
            // The sums are a convolution along the channels; no neighbour is further away than there are channels.
            let radius = depth_radius.min(i64::try_from(channels).unwrap_or(i64::MAX));
            let window = 2 * usize::try_from(radius).unwrap_or(0) + 1;
            let rows = shape.iter().rev().skip(1).product();
            let squares = x.map(&SQUARE).reshape(&[rows, channels, 1].into());
            let ones = x.graph().full(&Aval::new(x.dtype(), [window, 1, 1]), 1.0);
            let sliding = Sliding {
                strides: smallvec![],
                dilations: smallvec![],
                padding: "EXPLICIT".to_owned(),
                explicit_paddings: smallvec![radius, radius],
                data_format: "channels_last".to_owned(),
            };
            let sums = squares.op(&CONVOLUTION, sliding.write(), &[ones]).reshape(&shape);
            smallvec![x * (sums * alpha + bias).zip(&POW, x.scalar(-beta))]
        },
    )
};
