//! Layer normalisation, and its gradient as an op of its own: each goes through memory once.
//!
//! Of a row x, with `r = 1 / sqrt(variance + epsilon)`, the normalised row is `h = (x - mean of x) r`. A tangent t of x moves h
//! by `P t = r (t - mean of t - h mean of t h)`, and P is symmetric; all derivatives here are made of it.

use smallvec::{SmallVec, smallvec};

use crate::{
    array::Array,
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Shape},
    batching::{Batch, Batching},
    error::Error,
    graph::Var,
    kernels::{
        columns::Columns,
        normalize::{self, Layout},
        reduce,
        rows::{gathered, scattered},
    },
    op::{
        Arrays, Call, Cost, Cotangents, Derivative, Kernel, OpDef, Reads, Rule, Vars, cotangents,
    },
    ops::{
        AxisNorm, REDUCE_MEAN, RSQRT,
        family::{self, by_dtype, common_dtype, ints, sample, sample_with, uniform},
        normalization::{along, infer_along, standardized},
    },
};

type Axes = SmallVec<[usize; 4]>;

const fn op(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef { family: "nn", ..family::unary(name, summary, formula, kernel, derivative) }
}

/// Layer normalisation. A primitive for speed.
pub static LAYER_NORMALIZATION: OpDef = OpDef {
    inputs: &["x", "scale", "offset"],
    attrs: AxisNorm::SPECS,
    infer: infer_along,
    cost: |call, _| cost(call, &AxisNorm::read(call.attrs).axis, 8, 2),
    batching: Batching::Rule(|b| {
        // Rows that are scaled each in a way of its own are no rows of one stack.
        if !b.only_first() {
            return None;
        }
        b.apply(&b.x, vec![("axis", shifted(b, &AxisNorm::read(b.attrs).axis)?)])
    }),
    samples: &[
        sample(&[uniform(&[2, 3], -1.0, 1.0), uniform(&[3], 0.5, 1.0), uniform(&[3], -1.0, 1.0)]),
        sample_with(
            &[
                uniform(&[2, 3, 2], -1.0, 1.0),
                uniform(&[2, 2], 0.5, 1.0),
                uniform(&[2, 2], -1.0, 1.0),
            ],
            || vec![ints("axis", &[0, 2]), ("epsilon", Attr::Double(1e-5))],
        ),
        sample_with(
            &[uniform(&[2, 3, 2], -1.0, 1.0), uniform(&[3], 0.5, 1.0), uniform(&[3], -1.0, 1.0)],
            || vec![ints("axis", &[1])],
        ),
        sample(&[
            uniform(&[2, 1, 19], -1.0, 1.0),
            uniform(&[19], 0.5, 1.0),
            uniform(&[19], -1.0, 1.0),
        ]),
    ],
    ..op(
        "layer_normalization",
        "Normalises along axes; scale and offset have the extents of these.",
        "y = (x - mean of x) scale / sqrt(variance of x + epsilon) + offset",
        Kernel::Run(normalized),
        Derivative::Custom { reads: Reads::X0.and(Reads::X1), vjp: back, jvp: forwards },
    )
};

fn normalized(call: &Call, out: &[Aval], inputs: &[&Array]) -> Result<Arrays, Error> {
    let AxisNorm { axis, epsilon } = AxisNorm::read(call.attrs);
    let shape = &call.inputs[0].shape;
    let axes = shape.axes(&axis)?;
    let y = by_dtype!(float: out[0].dtype, T => {
        if let Some(columns) = Columns::of(shape, &axes) {
            let (x, parameters) = (inputs[0].elements::<T>()?, [inputs[1].elements()?, inputs[2].elements()?]);
            return Ok(smallvec![Array::new(shape, normalize::columns(x, columns, parameters, epsilon)?)?]);
        }
        let x = gathered(inputs[0].elements::<T>()?, shape, &axes)?;
        let y = normalize::rows(&x, inputs[1].elements()?, inputs[2].elements()?, epsilon)?;
        Array::new(shape, scattered(y, shape, &axes)?)
    })?;
    Ok(smallvec![y])
}

fn back<'g>(r: &Rule<'g>, ct: &[Var<'g>]) -> Cotangents<'g> {
    let AxisNorm { axis, epsilon } = AxisNorm::read(r.attrs);
    let attrs = LayerNormGradient { axis, epsilon, batch_dims: 0 }.write();
    let all = r.x[0].op_all(&LAYER_NORMALIZATION_GRADIENT, attrs, &[r.x[1], ct[0]]);
    all.into_iter().map(|gradient| Some(gradient.into())).collect()
}

fn forwards<'g>(r: &Rule<'g>, t: &[Option<Var<'g>>]) -> Vars<'g> {
    let AxisNorm { axis, epsilon } = AxisNorm::read(r.attrs);
    let row = Row::new(r.x[0], &axis, epsilon, 0);
    let terms = [
        t[0].map(|t| row.project(t) * row.place(r.x[1])),
        t[1].map(|t| row.h * row.place(t)),
        t[2].map(|t| row.place(t).broadcast_to(&r.x[0].shape())),
    ];
    let sum = terms.into_iter().flatten().reduce(|sum, next| sum + next);
    smallvec![sum.unwrap_or_else(|| r.x[0].zeros())]
}

/// Price of an op that goes over its elements so often, with copies where the axes are not neighbours.
fn cost(call: &Call, axis: &Ints, flops: u64, copies: u64) -> Cost {
    let x = &call.inputs[0];
    let workspace = x.shape.axes(axis).map_or(0, |axes| match Columns::of(&x.shape, &axes) {
        Some(columns) => columns.bytes().saturating_mul(4).saturating_add(columns.row_bytes() * 2),
        None if reduce::rows(&x.shape, &axes).is_none() => x.bytes().saturating_mul(copies),
        None => 0,
    });
    Cost { flops: (x.shape.elements() as u64).saturating_mul(flops), workspace }
}

/// Axes of rows, counted in their stack; nothing for scalars, since no axes would mean all.
fn shifted(b: &Batch, axis: &Ints) -> Option<Attr> {
    let axes = b.row(0).axes(axis).ok()?;
    let shifted = axes.iter().map(|&axis| Some(i64::try_from(axis).ok()? + 1));
    (!axes.is_empty()).then(|| shifted.collect::<Option<_>>())?.map(Attr::Ints)
}

attrs! {
    /// Attributes of the gradient of layer normalisation.
    LayerNormGradient {
        /// Axes that were normalised along.
        axis: Ints = Ints(&[-1]),
        /// Added to the variance.
        epsilon: f64 = Double(1e-3),
        /// How many leading axes scale and offset have, too.
        batch_dims: i64 = Int(0),
    }
}

impl LayerNormGradient {
    /// The axes that are normalised along, and those that scale has: its own batch, and these.
    fn axes(&self, x: &Shape) -> Result<(Axes, Axes), Error> {
        let axes = x.axes(&self.axis)?;
        let first = axes.first().copied().unwrap_or(x.len());
        let batch = usize::try_from(self.batch_dims).ok().filter(|&batch| batch <= first);
        let batch = batch.ok_or_else(|| {
            Error::attribute("batch_dims", "must count axes before those that are normalised")
        })?;
        let all = (0..batch).chain(axes.iter().copied()).collect();
        Ok((axes, all))
    }

    fn layout(&self, x: &Shape) -> Result<Layout, Error> {
        let (axes, all) = self.axes(x)?;
        let extents = |axes: &[usize]| axes.iter().map(|&axis| x[axis]).product::<usize>();
        let batches = extents(&all[..all.len() - axes.len()]);
        let rest: Axes = (0..x.len()).filter(|axis| !all.contains(axis)).collect();
        Ok(Layout { batches, rows: extents(&rest), width: extents(&axes) })
    }
}

/// The gradients of layer normalisation.
pub static LAYER_NORMALIZATION_GRADIENT: OpDef = OpDef {
    inputs: &["x", "scale", "upstream"],
    outputs: &["x_gradient", "scale_gradient", "offset_gradient"],
    attrs: LayerNormGradient::SPECS,
    infer: |call| {
        let (x, scale, upstream) = (&call.inputs[0], &call.inputs[1], &call.inputs[2]);
        let (_, all) = LayerNormGradient::read(call.attrs).axes(&x.shape)?;
        let parameters: Shape = all.iter().map(|&axis| x.shape[axis]).collect();
        for (input, shape) in [(scale, &parameters), (upstream, &x.shape)] {
            common_dtype(x, input)?;
            if input.shape != *shape {
                return Err(Error::ShapeMismatch {
                    lhs: input.shape.clone(),
                    rhs: shape.clone(),
                    expected: "upstream must have the shape of x, and scale the extents of its axes",
                });
            }
        }
        Ok(smallvec![x.clone(), scale.clone(), scale.clone()])
    },
    cost: |call, _| {
        let attrs = LayerNormGradient::read(call.attrs);
        let sums = attrs.layout(&call.inputs[0].shape).map_or(0, Layout::workspace);
        let Cost { flops, workspace } = cost(call, &attrs.axis, 16, 3);
        Cost { flops, workspace: workspace.saturating_add(sums) }
    },
    batching: Batching::Rule(|b| {
        let LayerNormGradient { axis, batch_dims, .. } = LayerNormGradient::read(b.attrs);
        let batch_dims = ("batch_dims", Attr::Int(batch_dims + 1));
        b.apply(&b.all_stacked(), vec![("axis", shifted(b, &axis)?), batch_dims])
    }),
    samples: &[
        sample(&[
            uniform(&[2, 3], -1.0, 1.0),
            uniform(&[3], 0.5, 1.0),
            uniform(&[2, 3], -1.0, 1.0),
        ]),
        sample_with(
            &[
                uniform(&[2, 3, 2, 2], -1.0, 1.0),
                uniform(&[2, 3, 2], 0.5, 1.0),
                uniform(&[2, 3, 2, 2], -1.0, 1.0),
            ],
            || {
                vec![
                    ints("axis", &[1, 3]),
                    ("epsilon", Attr::Double(1e-5)),
                    ("batch_dims", Attr::Int(1)),
                ]
            },
        ),
        sample_with(
            &[
                uniform(&[2, 1, 3, 2], -1.0, 1.0),
                uniform(&[2, 3], 0.5, 1.0),
                uniform(&[2, 1, 3, 2], -1.0, 1.0),
            ],
            || vec![ints("axis", &[2]), ("batch_dims", Attr::Int(1))],
        ),
    ],
    ..op(
        "layer_normalization_gradient",
        "The gradients of `layer_normalization` with respect to its inputs, from that with respect to its result.",
        "x_gradient = (g - mean of g - h mean of g h) / sqrt(variance of x + epsilon), where g = scale upstream and h is \
         normalised x; scale_gradient = sum of upstream h; offset_gradient = sum of upstream",
        Kernel::Run(gradients),
        Derivative::Custom { reads: Reads::X, vjp: gradients_back, jvp: gradients_forwards },
    )
};

fn gradients(call: &Call, out: &[Aval], inputs: &[&Array]) -> Result<Arrays, Error> {
    let attrs = LayerNormGradient::read(call.attrs);
    let shape = &call.inputs[0].shape;
    let (axes, _) = attrs.axes(shape)?;
    by_dtype!(float: out[0].dtype, T => {
        if let Some(columns) = Columns::of(shape, &axes) {
            let layout = attrs.layout(shape)?;
            let inputs = [inputs[0].elements::<T>()?, inputs[1].elements()?, inputs[2].elements()?];
            let [x, scale, offset] =
                normalize::column_gradients(columns, layout.batches, inputs, attrs.epsilon)?;
            return Ok(smallvec![
                Array::new(shape, x)?,
                Array::new(&out[1].shape, scale)?,
                Array::new(&out[2].shape, offset)?,
            ]);
        }
        let x = gathered(inputs[0].elements::<T>()?, shape, &axes)?;
        let flow = gathered(inputs[2].elements::<T>()?, shape, &axes)?;
        let rows = [&x[..], inputs[1].elements()?, &flow[..]];
        let [x, scale, offset] = normalize::gradients(attrs.layout(shape)?, rows, attrs.epsilon)?;
        Ok(smallvec![
            Array::new(shape, scattered(x, shape, &axes)?)?,
            Array::new(&out[1].shape, scale)?,
            Array::new(&out[2].shape, offset)?,
        ])
    })
}

/// What the rules know of normalised rows.
struct Row<'g> {
    /// The normalised elements.
    h: Var<'g>,
    /// One over the root of the variance and epsilon.
    factor: Var<'g>,
    axes: Axes,
    /// The shape of x with extent 1 along the axes that scale lacks.
    place: Shape,
}

impl<'g> Row<'g> {
    fn new(x: Var<'g>, axis: &Ints, epsilon: f64, batch_dims: i64) -> Self {
        let shape = x.shape();
        // `infer` accepted the axes.
        let attrs = LayerNormGradient { axis: axis.clone(), epsilon, batch_dims };
        let (axes, all) = attrs.axes(&shape).unwrap_or_default();
        let (h, _, variance) = standardized(x, &axes, epsilon);
        Self { h, factor: (variance + epsilon).map(&RSQRT), axes, place: along(&shape, &all) }
    }

    fn of(r: &Rule<'g>) -> Self {
        let LayerNormGradient { axis, epsilon, batch_dims } = LayerNormGradient::read(r.attrs);
        Self::new(r.x[0], &axis, epsilon, batch_dims)
    }

    fn mean(&self, v: Var<'g>) -> Var<'g> {
        v.reduce(&REDUCE_MEAN, &self.axes, true)
    }

    /// How h moves where x moves by t.
    fn project(&self, t: Var<'g>) -> Var<'g> {
        self.factor * (t - self.mean(t) - self.h * self.mean(t * self.h))
    }

    /// What has the shape of scale, so that it broadcasts.
    fn place(&self, v: Var<'g>) -> Var<'g> {
        v.reshape(&self.place)
    }

    /// The sum of what has the shape of x, in the shape of scale.
    fn sum(&self, v: Var<'g>, scale: &Shape) -> Var<'g> {
        v.sum_to(&self.place).reshape(scale)
    }
}

/// The gradients of the gradients, from what flows into them: u, v and w. With `a` the covariance of u and g without the part
/// along h, x has `P (v upstream - r (u mean of g h + g mean of u h)) - a r^2 h`.
fn gradients_back<'g>(r: &Rule<'g>, ct: &[Var<'g>]) -> Cotangents<'g> {
    let (row, scale, flow) = (Row::of(r), r.x[1], r.x[2]);
    let (h, factor) = (row.h, row.factor);
    let (u, v, w) = (ct[0], row.place(ct[1]), row.place(ct[2]));
    let g = row.place(scale) * flow;
    let (of_u, of_g) = (row.mean(u * h), row.mean(g * h));
    let a = row.mean(u * g) - row.mean(u) * row.mean(g) - of_u * of_g;
    let inner = v * flow - factor * (u * of_g + g * of_u);
    let moved = row.project(u);
    cotangents([
        row.project(inner) - a * factor * factor * h,
        row.sum(flow * moved, &scale.shape()),
        row.place(scale) * moved + v * h + w,
    ])
}

/// The tangents of the gradients. That of `P g` is, for h moving by `P t` and r by `-r^2 mean of t h`,
/// `P g. - r ((P g) mean of t h + (P t) mean of g h + h mean of g (P t))`.
fn gradients_forwards<'g>(r: &Rule<'g>, t: &[Option<Var<'g>>]) -> Vars<'g> {
    let (row, scale, flow) = (Row::of(r), r.x[1], r.x[2]);
    let tangent = |i: usize| t[i].unwrap_or_else(|| r.x[i].zeros());
    let (x_t, scale_t, flow_t) = (tangent(0), tangent(1), tangent(2));
    let g = row.place(scale) * flow;
    let g_t = row.place(scale_t) * flow + row.place(scale) * flow_t;
    let (h, h_t) = (row.h, row.project(x_t));
    let turned = row.project(g) * row.mean(x_t * h) + h_t * row.mean(g * h) + h * row.mean(g * h_t);
    smallvec![
        row.project(g_t) - row.factor * turned,
        row.sum(flow_t * h + flow * h_t, &scale.shape()),
        row.sum(flow_t, &scale.shape()),
    ]
}
