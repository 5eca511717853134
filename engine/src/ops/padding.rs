//! Tensors surrounded by a constant or by their own mirror image.

use smallvec::{SmallVec, smallvec};

use crate::{
    array::{Array, filled},
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Shape},
    batching::{Batching, prefixed},
    dtype::DTypes,
    error::Error,
    graph::Var,
    kernels::{
        real::FromDouble,
        strided::{Walk, signed},
    },
    op::{Call, Cotangents, Derivative, Kernel, OpDef, Reads, Rule, cotangent_at, cotangents},
    ops::{
        SLICE, Slice,
        family::{self, by_dtype, ints, sample_with, uniform},
        rearrange::{joined, part, reversed},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&PAD, &MIRROR_PAD];

const fn padding(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        family: "array",
        dtypes: DTypes::ANY,
        ..family::unary(name, summary, formula, kernel, derivative)
    }
}

attrs! {
    /// Attributes of padding.
    Pad {
        /// For each axis two numbers: how much before and how much behind.
        paddings: Ints = Required,
        /// What to pad with.
        constant: f64 = Double(0.0),
    }
}

/// How much is padded before each axis, and the shape that padding gives.
pub(super) fn padded(x: &Shape, paddings: &[i64]) -> Result<(Shape, Shape), Error> {
    let amounts: Option<SmallVec<[usize; 16]>> =
        paddings.iter().map(|&n| usize::try_from(n).ok()).collect();
    let amounts = amounts.filter(|amounts| amounts.len() == 2 * x.len()).ok_or_else(|| {
        Error::attribute("paddings", format!("must be {} numbers from 0 on", 2 * x.len()))
    })?;
    let before = amounts.chunks(2).map(|pair| pair[0]).collect();
    let total = |i: usize| x[i].saturating_add(amounts[2 * i]).saturating_add(amounts[2 * i + 1]);
    Ok((before, (0..x.len()).map(total).collect()))
}

/// Padding.
pub static PAD: OpDef = OpDef {
    batching: Batching::Rule(|b| {
        // Padding around the rows needs no more than padding of none in front.
        b.apply(&b.x, vec![("paddings", prefixed(b, "paddings", &[0, 0])?)])
    }),
    attrs: Pad::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        Ok(smallvec![Aval {
            dtype: x.dtype,
            shape: padded(&x.shape, &Pad::read(call.attrs).paddings)?.1
        }])
    },
    samples: &[sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || {
        vec![ints("paddings", &[1, 0, 0, 2])]
    })],
    ..padding(
        "pad",
        "Pads a tensor with a constant.",
        "y[before + i] = x[i]",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: FromDouble>(call: &Call, out: &Aval, x: &Array) -> Result<Array, Error> {
                let Pad { paddings, constant } = Pad::read(call.attrs);
                let (before, _) = padded(&call.inputs[0].shape, &paddings)?;
                let mut result = filled(out.shape.elements(), T::from_double(constant))?;
                let strides = out.shape.strides();
                let offset: usize = before.iter().zip(&strides).map(|(&b, &s)| b * s).sum();
                let walk = Walk::new(
                    &call.inputs[0].shape,
                    strides.iter().map(|&s| signed(s)),
                    signed(offset),
                );
                let mut values = x.elements::<T>()?.iter();
                walk.each(|at| {
                    if let Some(&value) = values.next() {
                        result[at] = value;
                    }
                })?;
                Array::new(&out.shape, result)
            }
            Ok(smallvec![by_dtype!(any: out[0].dtype, T => typed::<T>(call, &out[0], inputs[0]))?])
        }),
        // Affine in x: the constant has no tangent.
        Derivative::Custom {
            reads: Reads::NONE,
            vjp: pad_vjp,
            jvp: |r, t| {
                let paddings = Pad::read(r.attrs).paddings;
                let tangent = t[0].unwrap_or_else(|| r.x[0].zeros());
                smallvec![tangent.op(&PAD, Pad { paddings, constant: 0.0 }.write(), &[])]
            },
        },
    )
};

fn pad_vjp<'g>(r: &Rule<'g>, ct: &[Var<'g>]) -> Cotangents<'g> {
    let x = r.x[0].shape();
    let begin = padded(&x, &Pad::read(r.attrs).paddings)
        .map(|(before, _)| before.to_i64())
        .unwrap_or_default();
    cotangents([ct[0].op(&SLICE, Slice { begin, size: x.to_i64() }.write(), &[])])
}

/// Cotangent of an op that cut a window out of its input: zeros around it.
pub(crate) fn pad_back<'g>(x: &Shape, begin: &[usize], ct: Var<'g>) -> Cotangents<'g> {
    let part = ct.shape();
    let mut paddings = Ints::new();
    for (axis, &start) in begin.iter().enumerate() {
        let behind = x[axis].saturating_sub(start + part[axis]);
        paddings.extend(Shape::from([start, behind]).to_i64());
    }
    cotangent_at(0, ct.op(&PAD, Pad { paddings, constant: 0.0 }.write(), &[]))
}

attrs! {
    /// Attributes of padding by mirroring.
    MirrorPad {
        /// For each axis two numbers: how much before and how much behind.
        paddings: Ints = Required,
        /// "REFLECT" leaves the edge itself out of the mirror image, "SYMMETRIC" repeats it.
        mode: String = Text("REFLECT"),
    }
}

/// How many elements at an edge are left out of its mirror image.
fn omitted(mode: &str) -> Result<usize, Error> {
    match mode {
        "REFLECT" => Ok(1),
        "SYMMETRIC" => Ok(0),
        _ => Err(Error::attribute("mode", "must be \"REFLECT\" or \"SYMMETRIC\"")),
    }
}

/// Padding by mirroring.
pub static MIRROR_PAD: OpDef = OpDef {
    batching: Batching::Rule(|b| {
        b.apply(&b.x, vec![("paddings", prefixed(b, "paddings", &[0, 0])?)])
    }),
    attrs: MirrorPad::SPECS,
    infer: |call| {
        let MirrorPad { paddings, mode } = MirrorPad::read(call.attrs);
        let x = &call.inputs[0];
        let (omitted, (before, shape)) = (omitted(&mode)?, padded(&x.shape, &paddings)?);
        for (axis, &extent) in x.shape.iter().enumerate() {
            let most = before[axis].max(shape[axis] - extent - before[axis]);
            if most > extent.saturating_sub(omitted) {
                let why = format!("mirror more of axis {axis} than its extent {extent} has");
                return Err(Error::attribute("paddings", why));
            }
        }
        Ok(smallvec![Aval { dtype: x.dtype, shape }])
    },
    samples: &[
        sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![ints("paddings", &[1, 0, 2, 1])]),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || {
            vec![ints("paddings", &[2, 1, 0, 3]), ("mode", Attr::Text("SYMMETRIC".into()))]
        }),
        sample_with(&[uniform(&[0, 2], -2.0, 2.0)], || vec![ints("paddings", &[0, 0, 1, 1])]),
    ],
    ..padding(
        "mirror_pad",
        "Pads a tensor with its mirror image.",
        "y = mirrored x, x, mirrored x",
        Kernel::Composite(|r| {
            let MirrorPad { paddings, mode } = MirrorPad::read(r.attrs);
            let omitted = omitted(&mode).unwrap_or(0);
            let (before, shape) = padded(&r.x[0].shape(), &paddings).unwrap_or_default();
            let mut x = r.x[0];
            for (axis, &front) in before.iter().enumerate() {
                let extent = x.shape()[axis];
                let back = shape[axis] - front - extent;
                let mirror = |start, size| reversed(part(x, axis, start, size), &[axis]);
                // Where nothing is mirrored there may be nothing to leave out either.
                let last = extent.saturating_sub(omitted + back);
                x = joined(&[mirror(omitted.min(extent), front), x, mirror(last, back)], axis);
            }
            smallvec![x]
        }),
        Derivative::None,
    )
};
