//! Pools over windows.

use smallvec::smallvec;

use crate::{
    array::{Array, buffer},
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Avals, Shape},
    error::Error,
    graph::Var,
    kernels::{
        pool::{self, Window},
        real::{Number, Real},
    },
    op::{Call, Cost, Cotangents, Derivative, Kernel, OpDef, Reads, Rule, Vars, cotangents},
    ops::family::{self, by_dtype, common_dtype, ints, sample_with, uniform},
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&MAX_POOL2D, &MAX_POOL2D_SCATTER, &MAX_POOL2D_GATHER];

const fn activation(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef { family: "nn", ..family::unary(name, summary, formula, kernel, derivative) }
}

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
    by_dtype!(float: x.dtype(), T => pool::argmax(x.elements::<T>()?, shape, &out, window))
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
            Ok(smallvec![
                by_dtype!(float: out[0].dtype, T => pick::<T>(inputs[0], &places, &out[0].shape))?
            ])
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
        "Adds each value to where `max_pool2d` takes its window's largest element: the transpose of that pool.",
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
            Ok(smallvec![
                by_dtype!(float: out[0].dtype, T => typed::<T>(&places, inputs[1], &out[0]))?
            ])
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
        "Picks the values at which `max_pool2d` takes its windows' largest elements.",
        "y[w] = values[argmax of x in window w]",
        Kernel::Run(|call, out, inputs| {
            let places = winners(call, inputs[0])?;
            Ok(smallvec![
                by_dtype!(float: out[0].dtype, T => pick::<T>(inputs[1], &places, &out[0].shape))?
            ])
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
