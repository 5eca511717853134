//! Pools over windows of one to three spatial axes.

use smallvec::smallvec;

use crate::{
    array::Array,
    attrs,
    attrs::{Attr, AttrSpec, Ints, joined},
    aval::{Aval, Avals, Shape},
    dtype::DType,
    error::Error,
    graph::Var,
    kernels::{max_pool::MaxPool, pool, window::Windows},
    op::{
        Call, Cost, Cotangents, Derivative, Kernel, OpDef, Reads, ResultType, Rule, Sample, Vars,
        cotangents,
    },
    ops::{
        InputShape, Sliding,
        family::{self, by_dtype, common_dtype, ints, sample_with, uniform},
        window::{channels, extents, none_outside, sliding, windows, with_shape},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[
    &MAX_POOL,
    &MAX_POOL_ARGMAX,
    &MAX_POOL_SCATTER,
    &MAX_POOL_GATHER,
    &AVG_POOL,
    &AVG_POOL_GRADIENT,
];

attrs! {
    /// The window of a pool.
    PoolWindow {
        /// Extents of the window, one for each spatial axis.
        ksize: Ints = Required,
    }
}

/// Attributes of a pool: how its window slides, and the window.
const SPECS: &[AttrSpec] = &joined::<6>(Sliding::SPECS, PoolWindow::SPECS);

/// Attributes of the transpose of a pool that does not see the pool's input.
const GRADIENT_SPECS: &[AttrSpec] = &joined::<7>(SPECS, InputShape::SPECS);

/// The windows of a pool over an input of this shape, and the number of channels.
fn geometry(x: &Shape, attrs: &attrs::Attrs) -> Result<(Windows, usize), Error> {
    let PoolWindow { ksize } = PoolWindow::read(&attrs.after(Sliding::SPECS));
    let sliding = Sliding::read(attrs);
    let windows = windows(x, &extents("ksize", &ksize, x)?, &sliding)?;
    none_outside(&windows)?;
    Ok((windows, channels(x, &sliding)?))
}

fn pooled(x: &Shape, attrs: &attrs::Attrs) -> Result<Shape, Error> {
    let (windows, channels) = geometry(x, attrs)?;
    Ok(windows.shape(channels))
}

/// One operation for each cell of each window.
fn cost(x: &Shape, attrs: &attrs::Attrs) -> Cost {
    let Ok((windows, channels)) = geometry(x, attrs) else { return Cost::default() };
    let (elements, cells) =
        (windows.shape(channels).elements() as u64, windows.cells_inside() as u64);
    let workspace = MaxPool::new(windows, channels).workspace();
    Cost { flops: elements.saturating_mul(cells), workspace }
}

const fn pool(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        family: "nn",
        attrs: SPECS,
        infer: |call| {
            let x = &call.inputs[0];
            Ok(smallvec![Aval { dtype: x.dtype, shape: pooled(&x.shape, call.attrs)? }])
        },
        cost: |call, _| cost(&call.inputs[0].shape, call.attrs),
        samples: SAMPLES,
        ..family::unary(name, summary, formula, kernel, derivative)
    }
}

const SAMPLES: &[Sample] = &[
    sample_with(&[uniform(&[1, 4, 3, 2], -2.0, 2.0)], || samples(&[2, 2], "SAME")),
    sample_with(&[uniform(&[2, 5, 2], -2.0, 2.0)], || samples(&[3], "VALID")),
    sample_with(&[uniform(&[1, 2, 3, 4, 2], -2.0, 2.0)], || samples(&[2, 3, 2], "EXPLICIT")),
];

/// A window that steps by two, over channels in the last place but for explicit paddings.
fn samples(ksize: &[i64], padding: &str) -> Vec<(&'static str, Attr)> {
    let (strides, dilations) = (vec![2; ksize.len()], vec![1; ksize.len()]);
    let mut attrs = sliding(&strides, &dilations, padding, padding == "EXPLICIT");
    attrs.push(ints("ksize", ksize));
    attrs
}

// --- maximum ---

fn max_pool(call: &Call) -> Result<MaxPool, Error> {
    let (windows, channels) = geometry(&call.inputs[0].shape, call.attrs)?;
    Ok(MaxPool::new(windows, channels))
}

/// Maximum pool.
pub static MAX_POOL: OpDef = pool(
    "max_pool",
    "Largest element of each window; of equals the first gets the gradient.",
    "y[n, i, c] = max of x[n, j, c] in the window at i strides",
    Kernel::Run(|call, out, inputs| {
        let pool = max_pool(call)?;
        Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
            Array::new(&out[0].shape, pool.largest(inputs[0].elements::<T>()?)?)
        })?])
    }),
    Derivative::Custom {
        reads: Reads::X0,
        vjp: |r, ct| cotangents([r.x[0].op(&MAX_POOL_SCATTER, r.attrs.clone(), &[ct[0]])]),
        jvp: |r, t| {
            let t = t[0].unwrap_or_else(|| r.x[0].zeros());
            smallvec![r.x[0].op(&MAX_POOL_GATHER, r.attrs.clone(), &[t])]
        },
    },
);

/// Where a maximum pool finds its results.
pub static MAX_POOL_ARGMAX: OpDef = OpDef {
    result: ResultType::Fixed(DType::I64),
    infer: |call| {
        let shape = pooled(&call.inputs[0].shape, call.attrs)?;
        Ok(smallvec![Aval { dtype: DType::I64, shape }])
    },
    ..pool(
        "max_pool_argmax",
        "Where `max_pool` takes its windows' largest elements, as positions in the flattened input.",
        "y[w] = argmax of x in window w",
        Kernel::Run(|call, out, inputs| {
            let pool = max_pool(call)?;
            let places = by_dtype!(float: inputs[0].dtype(), T => {
                pool.places(inputs[0].elements::<T>()?)
            })?;
            Ok(smallvec![Array::new(&out[0].shape, places)?])
        }),
        Derivative::None,
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
pub static MAX_POOL_SCATTER: OpDef = OpDef {
    inputs: &["x", "values"],
    infer: |call| {
        let x = call.inputs[0].shape.clone();
        infer_like(call, &pooled(&x, call.attrs)?, x)
    },
    samples: &[sample_with(
        &[uniform(&[1, 4, 3, 2], -2.0, 2.0), uniform(&[1, 2, 2, 2], -1.0, 1.0)],
        || samples(&[2, 2], "SAME"),
    )],
    ..pool(
        "max_pool_scatter",
        "Adds each value to where `max_pool` takes its window's largest element: the transpose of that pool.",
        "y[argmax of x in window w] += values[w]",
        Kernel::Run(|call, out, inputs| {
            let pool = max_pool(call)?;
            Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
                let (x, values) = (inputs[0].elements::<T>()?, inputs[1].elements::<T>()?);
                Array::new(&out[0].shape, pool.scatter(x, values)?)
            })?])
        }),
        // Piecewise constant in x, linear in the values.
        Derivative::Custom {
            reads: Reads::X0,
            vjp: |r, ct| along(r, r.x[0].op(&MAX_POOL_GATHER, r.attrs.clone(), &[ct[0]])),
            jvp: |r, t| tangent_through(r, t, &MAX_POOL_SCATTER),
        },
    )
};

/// One element for each window of a maximum pool at a fixed input.
pub static MAX_POOL_GATHER: OpDef = OpDef {
    inputs: &["x", "values"],
    infer: |call| {
        let x = call.inputs[0].shape.clone();
        let out = pooled(&x, call.attrs)?;
        infer_like(call, &x, out)
    },
    samples: &[sample_with(
        &[uniform(&[1, 4, 3, 2], -2.0, 2.0), uniform(&[1, 4, 3, 2], -1.0, 1.0)],
        || samples(&[2, 2], "SAME"),
    )],
    ..pool(
        "max_pool_gather",
        "Picks the values at which `max_pool` takes its windows' largest elements.",
        "y[w] = values[argmax of x in window w]",
        Kernel::Run(|call, out, inputs| {
            let pool = max_pool(call)?;
            Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
                let (x, values) = (inputs[0].elements::<T>()?, inputs[1].elements::<T>()?);
                Array::new(&out[0].shape, pool.gather(x, values)?)
            })?])
        }),
        Derivative::Custom {
            reads: Reads::X0,
            vjp: |r, ct| along(r, r.x[0].op(&MAX_POOL_SCATTER, r.attrs.clone(), &[ct[0]])),
            jvp: |r, t| tangent_through(r, t, &MAX_POOL_GATHER),
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

// --- average ---

/// Average pool.
pub static AVG_POOL: OpDef = pool(
    "avg_pool",
    "Mean of each window; padding does not count.",
    "y[n, i, c] = mean of x[n, j, c] in the window at i strides",
    Kernel::Run(|call, out, inputs| {
        let (windows, channels) = geometry(&call.inputs[0].shape, call.attrs)?;
        Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
            let y = pool::average(inputs[0].elements::<T>()?, &windows, channels)?;
            Array::new(&out[0].shape, y)
        })?])
    }),
    Derivative::Linear {
        reads: Reads::NONE,
        transpose: |r, ct| {
            let attrs = with_shape(r.attrs, &r.x[0].shape());
            cotangents([ct[0].op(&AVG_POOL_GRADIENT, attrs, &[])])
        },
    },
);

fn unpooled(attrs: &attrs::Attrs) -> Result<Shape, Error> {
    Shape::checked(&InputShape::read(&attrs.after(SPECS)).shape)
}

/// Transpose of an average pool.
pub static AVG_POOL_GRADIENT: OpDef = OpDef {
    inputs: &["y"],
    outputs: &["x"],
    attrs: GRADIENT_SPECS,
    infer: |call| {
        let (y, shape) = (&call.inputs[0], unpooled(call.attrs)?);
        let expected = pooled(&shape, call.attrs)?;
        if y.shape != expected {
            let (lhs, rhs) = (y.shape.clone(), expected);
            let expected = "the input must have the shape of the pool's output";
            return Err(Error::ShapeMismatch { lhs, rhs, expected });
        }
        Ok(smallvec![Aval { dtype: y.dtype, shape }])
    },
    cost: |call, out| cost(&out[0].shape, call.attrs),
    samples: &[sample_with(&[uniform(&[1, 2, 2, 2], -1.0, 1.0)], || {
        let mut attrs = samples(&[2, 2], "SAME");
        attrs.push(ints("shape", &[1, 4, 3, 2]));
        attrs
    })],
    ..pool(
        "avg_pool_gradient",
        "Spreads each element evenly over its window: the transpose of `avg_pool`, whose input's shape is given.",
        "x[n, j, c] += y[n, i, c] / cells for each j in the window at i strides",
        Kernel::Run(|call, out, inputs| {
            let (windows, channels) = geometry(&out[0].shape, call.attrs)?;
            Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
                let x = pool::spread(inputs[0].elements::<T>()?, &windows, channels)?;
                Array::new(&out[0].shape, x)
            })?])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| cotangents([ct[0].op(&AVG_POOL, r.attrs.until(SPECS), &[])]),
        },
    )
};
