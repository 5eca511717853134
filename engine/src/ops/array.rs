//! Making, converting, choosing, reshaping and joining tensors.

use smallvec::{SmallVec, smallvec};

use crate::{
    array::{Array, Element, buffer},
    attrs,
    attrs::{Attr, Attrs, Ints},
    aval::{Aval, Avals, Shape},
    dispatch,
    dtype::{DType, DTypes},
    error::Error,
    kernels::{
        elementwise::{broadcast_walk, map},
        real::Real,
        strided::{Walk, copy, signed},
    },
    op::{
        Arrays, Call, Cotangents, Derivative, Kernel, OpDef, Reads, ResultType, Rule, cotangent_at,
        cotangents,
    },
    ops::{
        family::{
            self, common_dtype, common_shape, exactly, free, ints, per_element, sample,
            sample_with, truth, uniform,
        },
        indexing::{PAD, Pad, SLICE, Slice},
    },
};

/// The family, as the catalogue lists it.
pub const ALL: &[&OpDef] = &[
    &FULL,
    &ZEROS_LIKE,
    &ONES_LIKE,
    &IDENTITY,
    &STOP_GRADIENT,
    &CAST,
    &WHERE,
    &RESHAPE,
    &EXPAND_DIMS,
    &SQUEEZE,
    &BROADCAST_TO,
    &TRANSPOSE,
    &TILE,
    &CONCAT,
    &STACK,
    &SPLIT,
];

const fn shaping(
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

// --- making ---

attrs! {
    /// Attributes of a constant.
    Full {
        /// Shape of the result.
        shape: Ints = Required,
        /// Dtype of the result.
        dtype: DType = DType(DType::F32),
        /// The element, rounded to the dtype; for `bool`, anything but 0 is true.
        value: f64 = Double(0.0),
    }
}

/// A constant.
pub static FULL: OpDef = OpDef {
    inputs: &[],
    result: ResultType::Attribute("dtype"),
    attrs: Full::SPECS,
    infer: |call| {
        let Full { shape, dtype, .. } = Full::read(call.attrs);
        Ok(smallvec![Aval { dtype, shape: Shape::checked(&shape)? }])
    },
    samples: &[sample_with(&[], || vec![ints("shape", &[2, 3]), ("value", Attr::Double(1.5))])],
    ..shaping(
        "full",
        "A tensor of equal elements.",
        "y = value",
        Kernel::Run(|call, out, _| {
            fn filled<T: Element>(shape: &Shape, value: T) -> Result<Array, Error> {
                let mut elements = buffer(shape.elements())?;
                elements.resize(shape.elements(), value);
                Array::new(shape, elements)
            }
            let value = Full::read(call.attrs).value;
            let shape = &out[0].shape;
            Ok(smallvec![match out[0].dtype {
                DType::F32 => filled(shape, <f32 as Real>::of(value)),
                DType::F64 => filled(shape, value),
                DType::I32 => filled(shape, saturate_i32(value)),
                DType::I64 => filled(shape, saturate_i64(value)),
                DType::Bool => filled(shape, value != 0.0),
            }?])
        }),
        Derivative::None,
    )
};

/// Zeros like another tensor.
pub static ZEROS_LIKE: OpDef = OpDef {
    ..shaping(
        "zeros_like",
        "Zeros of a tensor's dtype and shape.",
        "y = 0",
        Kernel::Composite(|r| smallvec![r.x[0].zeros()]),
        Derivative::None,
    )
};

/// Ones like another tensor.
pub static ONES_LIKE: OpDef = OpDef {
    ..shaping(
        "ones_like",
        "Ones of a tensor's dtype and shape.",
        "y = 1",
        Kernel::Composite(|r| smallvec![r.x[0].ones()]),
        Derivative::None,
    )
};

// --- passing on and converting ---

/// The same value under a new identity. Sparse gradients pass through it unchanged.
pub static IDENTITY: OpDef = OpDef {
    cost: free,
    ..shaping(
        "identity",
        "The same elements as a value of its own.",
        "y = x",
        Kernel::Alias,
        Derivative::Linear { reads: Reads::NONE, transpose: |_, ct| cotangents([ct[0]]) },
    )
};

/// Cuts the path of gradients.
pub static STOP_GRADIENT: OpDef = OpDef {
    cost: free,
    ..shaping(
        "stop_gradient",
        "The same elements; gradients do not pass.",
        "y = x, as a constant",
        Kernel::Alias,
        Derivative::None,
    )
};

attrs! {
    /// A dtype.
    ToDType {
        /// Dtype of the result.
        dtype: DType = Required,
    }
}

/// Conversion.
pub static CAST: OpDef = OpDef {
    result: ResultType::Attribute("dtype"),
    attrs: ToDType::SPECS,
    infer: |call| {
        let dtype = ToDType::read(call.attrs).dtype;
        Ok(smallvec![Aval { dtype, shape: call.inputs[0].shape.clone() }])
    },
    samples: &[
        sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![("dtype", Attr::DType(DType::F64))]),
        sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![("dtype", Attr::DType(DType::I32))]),
    ],
    ..shaping(
        "cast",
        "Converts elements. Towards integers fractions are cut, values out of range saturate, and NaN becomes 0.",
        "y = x as dtype",
        Kernel::Run(|_, out, inputs| {
            let x = inputs[0];
            Ok(smallvec![match out[0].dtype {
                DType::F32 =>
                    dispatch!(x, a => Array::new(&out[0].shape, convert(a.as_slice(), Convert::to_f32)?))?,
                DType::F64 =>
                    dispatch!(x, a => Array::new(&out[0].shape, convert(a.as_slice(), Convert::to_f64)?))?,
                DType::I32 =>
                    dispatch!(x, a => Array::new(&out[0].shape, convert(a.as_slice(), Convert::to_i32)?))?,
                DType::I64 =>
                    dispatch!(x, a => Array::new(&out[0].shape, convert(a.as_slice(), Convert::to_i64)?))?,
                DType::Bool =>
                    dispatch!(x, a => Array::new(&out[0].shape, convert(a.as_slice(), Convert::to_bool)?))?,
            }])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| cotangents([ct[0].cast(r.x[0].dtype())]),
        },
    )
};

fn convert<T: Copy, U>(x: Option<&[T]>, f: impl Fn(T) -> U) -> Result<Vec<U>, Error> {
    map(x.ok_or_else(|| Error::bug("an array is not contiguous"))?, f)
}

#[expect(clippy::cast_possible_truncation, reason = "saturating, as documented")]
fn saturate_i32(value: f64) -> i32 {
    value as i32
}

#[expect(clippy::cast_possible_truncation, reason = "saturating, as documented")]
fn saturate_i64(value: f64) -> i64 {
    value as i64
}

/// Conversion between element types.
trait Convert: Copy {
    fn to_f32(self) -> f32;
    fn to_f64(self) -> f64;
    fn to_i32(self) -> i32;
    fn to_i64(self) -> i64;
    fn to_bool(self) -> bool;
}

macro_rules! convert {
    ($($ty:ty),*) => {$(
        #[allow(
            clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_lossless, clippy::unnecessary_cast,
            reason = "a conversion that the caller asked for"
        )]
        impl Convert for $ty {
            fn to_f32(self) -> f32 { self as f32 }
            fn to_f64(self) -> f64 { self as f64 }
            fn to_i32(self) -> i32 { self as i32 }
            fn to_i64(self) -> i64 { self as i64 }
            fn to_bool(self) -> bool { self != (0 as $ty) }
        }
    )*};
}

convert!(f32, f64, i32, i64);

impl Convert for bool {
    fn to_f32(self) -> f32 {
        f32::from(u8::from(self))
    }
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    fn to_i32(self) -> i32 {
        i32::from(self)
    }
    fn to_i64(self) -> i64 {
        i64::from(self)
    }
    fn to_bool(self) -> bool {
        self
    }
}

// --- choosing ---

/// Choice by a condition.
pub static WHERE: OpDef = OpDef {
    inputs: &["condition", "x", "y"],
    outputs: &["z"],
    dtypes: DTypes::BOOL,
    result: ResultType::Input(1),
    infer: |call| {
        let [condition, x, y] = call.inputs else {
            return Err(Error::bug("where takes three inputs"));
        };
        exactly(condition, DType::Bool)?;
        let dtype = common_dtype(x, y)?;
        Ok(smallvec![Aval {
            dtype,
            shape: common_shape(&common_shape(&x.shape, &y.shape)?, &condition.shape)?
        }])
    },
    samples: &[
        sample(&[truth(&[2, 3]), uniform(&[2, 3], -2.0, 2.0), uniform(&[3], -2.0, 2.0)]),
        sample(&[truth(&[3]), uniform(&[], -2.0, 2.0), uniform(&[2, 1], -2.0, 2.0)]),
    ],
    ..shaping(
        "where",
        "Chooses between two tensors. A branch that is not chosen gets a zero gradient, which 0 * inf turns into NaN.",
        "z = x if condition else y",
        Kernel::Run(|call, out, inputs| {
            fn choose<T: Element>(
                call: &Call,
                out: &Shape,
                condition: &[bool],
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let at = |i: usize| {
                    let mut places = buffer(out.elements())?;
                    broadcast_walk(&call.inputs[i].shape, out).each(|place| places.push(place));
                    Ok::<Vec<usize>, Error>(places)
                };
                let (x, y) = (inputs[1].elements::<T>()?, inputs[2].elements::<T>()?);
                let mut result = buffer(out.elements())?;
                result.extend(
                    at(0)?
                        .iter()
                        .zip(at(1)?)
                        .zip(at(2)?)
                        .map(|((&c, i), j)| if condition[c] { x[i] } else { y[j] }),
                );
                Array::new(out, result)
            }
            let (condition, shape) = (inputs[0].elements::<bool>()?, &out[0].shape);
            Ok(smallvec![match out[0].dtype {
                DType::F32 => choose::<f32>(call, shape, condition, inputs),
                DType::F64 => choose::<f64>(call, shape, condition, inputs),
                DType::I32 => choose::<i32>(call, shape, condition, inputs),
                DType::I64 => choose::<i64>(call, shape, condition, inputs),
                DType::Bool => choose::<bool>(call, shape, condition, inputs),
            }?])
        }),
        Derivative::Linear {
            reads: Reads::X0,
            transpose: |r, ct| {
                let zero = ct[0].scalar(0.0);
                smallvec![
                    None,
                    r.needs[1].then(|| ct[0].select(r.x[0], zero).sum_to(&r.x[1].shape()).into()),
                    r.needs[2].then(|| zero.select(r.x[0], ct[0]).sum_to(&r.x[2].shape()).into()),
                ]
            },
        },
    )
};

// --- shape ---

attrs! {
    /// A shape.
    ToShape {
        /// Shape of the result.
        shape: Ints = Required,
    }
}

/// What a reshaping op gives back: the cotangent in the input's shape.
const RESHAPED: Derivative = Derivative::Linear {
    reads: Reads::NONE,
    transpose: |r, ct| cotangents([ct[0].reshape(&r.x[0].shape())]),
};

/// Another shape.
pub static RESHAPE: OpDef = OpDef {
    attrs: ToShape::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let given = ToShape::read(call.attrs).shape;
        Ok(smallvec![Aval { dtype: x.dtype, shape: resolve(&x.shape, &given)? }])
    },
    cost: free,
    samples: &[sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![ints("shape", &[3, -1])])],
    ..shaping(
        "reshape",
        "The same elements in another shape. One extent may be -1 and follows from the others.",
        "y = x, in another shape",
        Kernel::Alias,
        RESHAPED,
    )
};

/// The shape that `given` stands for, where one extent may be -1.
fn resolve(x: &Shape, given: &[i64]) -> Result<Shape, Error> {
    let invalid = |why| Error::InvalidShape { shape: given.into(), why };
    if given.iter().filter(|&&dim| dim == -1).count() > 1 {
        return Err(invalid("more than one extent is -1"));
    }
    let known: SmallVec<[i64; 8]> =
        given.iter().map(|&dim| if dim == -1 { 1 } else { dim }).collect();
    let mut shape = Shape::checked(&known)?;
    if let Some(axis) = given.iter().position(|&dim| dim == -1) {
        let rest = shape.elements();
        if rest == 0 {
            return Err(invalid("-1 beside an extent of 0 could be anything"));
        }
        shape.set(axis, x.elements() / rest);
    }
    if shape.elements() != x.elements() {
        return Err(Error::ShapeMismatch {
            lhs: x.clone(),
            rhs: shape,
            expected: "both must have the same number of elements",
        });
    }
    Ok(shape)
}

attrs! {
    /// A place for a new axis.
    NewAxis {
        /// Where the axis goes, counted from 0 or backwards from -1, which is behind the last axis.
        axis: i64 = Int(0),
    }
}

/// A new axis.
pub static EXPAND_DIMS: OpDef = OpDef {
    attrs: NewAxis::SPECS,
    infer: |call| {
        let mut out = call.inputs[0].clone();
        let axis = out.shape.axis(NewAxis::read(call.attrs).axis, 1)?;
        out.shape.insert(axis, 1);
        Ok(smallvec![out])
    },
    cost: free,
    samples: &[sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![("axis", Attr::Int(-1))])],
    ..shaping(
        "expand_dims",
        "Inserts an axis of extent 1.",
        "y = x, in another shape",
        Kernel::Alias,
        RESHAPED,
    )
};

attrs! {
    /// Axes to remove.
    Squeeze {
        /// The axes; empty for all of extent 1.
        axis: Ints = Ints(&[]),
    }
}

/// Fewer axes.
pub static SQUEEZE: OpDef = OpDef {
    attrs: Squeeze::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let axis = Squeeze::read(call.attrs).axis;
        let mut axes = x.shape.axes(&axis)?;
        if axis.is_empty() {
            axes.retain(|&mut axis| x.shape[axis] == 1);
        }
        if axes.iter().any(|&axis| x.shape[axis] != 1) {
            let shape = x.shape.to_i64().as_slice().into();
            return Err(Error::InvalidShape { shape, why: "an axis to remove is not 1" });
        }
        Ok(smallvec![Aval { dtype: x.dtype, shape: x.shape.reduce(&axes, false) }])
    },
    cost: free,
    samples: &[sample(&[uniform(&[2, 1, 3], -2.0, 2.0)])],
    ..shaping(
        "squeeze",
        "Removes axes of extent 1.",
        "y = x, in another shape",
        Kernel::Alias,
        RESHAPED,
    )
};

/// Copies what a walk visits, whatever the dtype.
pub(crate) fn copied(x: &Array, walk: &Walk, out: &Aval) -> Result<Array, Error> {
    fn typed<T: Element>(x: &Array, walk: &Walk, out: &Aval) -> Result<Array, Error> {
        Array::new(&out.shape, copy(x.elements::<T>()?, walk)?)
    }
    match out.dtype {
        DType::F32 => typed::<f32>(x, walk, out),
        DType::F64 => typed::<f64>(x, walk, out),
        DType::I32 => typed::<i32>(x, walk, out),
        DType::I64 => typed::<i64>(x, walk, out),
        DType::Bool => typed::<bool>(x, walk, out),
    }
}

/// A larger shape.
pub static BROADCAST_TO: OpDef = OpDef {
    attrs: ToShape::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let shape = Shape::checked(&ToShape::read(call.attrs).shape)?;
        if x.shape.broadcast(&shape).as_ref() != Some(&shape) {
            return Err(Error::ShapeMismatch {
                lhs: x.shape.clone(),
                rhs: shape,
                expected: "the first must broadcast to the second",
            });
        }
        Ok(smallvec![Aval { dtype: x.dtype, shape }])
    },
    samples: &[sample_with(&[uniform(&[3, 1], -2.0, 2.0)], || vec![ints("shape", &[2, 3, 2])])],
    ..shaping(
        "broadcast_to",
        "Repeats along axes of extent 1 and new leading axes.",
        "y[i, j] = x[j]",
        Kernel::Run(|call, out, inputs| {
            let walk = broadcast_walk(&call.inputs[0].shape, &out[0].shape);
            Ok(smallvec![copied(inputs[0], &walk, &out[0])?])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| cotangents([ct[0].sum_to(&r.x[0].shape())]),
        },
    )
};

attrs! {
    /// An order of axes.
    Permutation {
        /// For each axis of the result the axis of the input; empty reverses them.
        perm: Ints = Ints(&[]),
    }
}

fn permutation(shape: &Shape, perm: &[i64]) -> Result<SmallVec<[usize; 8]>, Error> {
    if perm.is_empty() {
        return Ok((0..shape.len()).rev().collect());
    }
    if perm.len() != shape.len() {
        return Err(Error::attribute(
            "perm",
            format!("must name each of the {} axes once", shape.len()),
        ));
    }
    shape.axes(perm)?;
    perm.iter().map(|&axis| shape.axis(axis, 0)).collect()
}

/// Another order of axes.
pub static TRANSPOSE: OpDef = OpDef {
    attrs: Permutation::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let perm = permutation(&x.shape, &Permutation::read(call.attrs).perm)?;
        Ok(smallvec![Aval {
            dtype: x.dtype,
            shape: perm.iter().map(|&axis| x.shape[axis]).collect()
        }])
    },
    samples: &[
        sample(&[uniform(&[2, 3], -2.0, 2.0)]),
        sample_with(&[uniform(&[2, 3, 4], -2.0, 2.0)], || vec![ints("perm", &[1, 2, 0])]),
    ],
    ..shaping(
        "transpose",
        "Permutes axes.",
        "y[j, i] = x[i, j]",
        Kernel::Run(|call, out, inputs| {
            let shape = &call.inputs[0].shape;
            let perm = permutation(shape, &Permutation::read(call.attrs).perm)?;
            let strides = shape.strides();
            let walk = Walk::new(&out[0].shape, perm.iter().map(|&axis| signed(strides[axis])), 0);
            Ok(smallvec![copied(inputs[0], &walk, &out[0])?])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| {
                let shape = r.x[0].shape();
                let perm =
                    permutation(&shape, &Permutation::read(r.attrs).perm).unwrap_or_default();
                let mut inverse = Ints::from_elem(0, perm.len());
                for (i, &axis) in (0_i64..).zip(&perm) {
                    inverse[axis] = i;
                }
                cotangents([ct[0].op(&TRANSPOSE, Permutation { perm: inverse }.write(), &[])])
            },
        },
    )
};

attrs! {
    /// Repetitions.
    Tile {
        /// How often each axis is repeated; none negative.
        multiples: Ints = Required,
    }
}

/// Repetition. Each axis is a reshape, a broadcast and a reshape.
pub static TILE: OpDef = OpDef {
    attrs: Tile::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let multiples = Shape::checked(&Tile::read(call.attrs).multiples)?;
        if multiples.len() != x.shape.len() {
            return Err(Error::attribute(
                "multiples",
                format!("must have {} entries", x.shape.len()),
            ));
        }
        let shape: Shape =
            x.shape.iter().zip(multiples.iter()).map(|(&d, &m)| d.saturating_mul(m)).collect();
        Ok(smallvec![Aval { dtype: x.dtype, shape }])
    },
    samples: &[sample_with(&[uniform(&[2, 3], -2.0, 2.0)], || vec![ints("multiples", &[2, 3])])],
    ..shaping(
        "tile",
        "Repeats a tensor along its axes.",
        "y[i] = x[i mod n]",
        Kernel::Composite(|r| {
            let mut x = r.x[0];
            for (axis, &times) in Tile::read(r.attrs).multiples.iter().enumerate() {
                let times = usize::try_from(times).unwrap_or(0);
                let shape = x.shape();
                let (before, after) =
                    (shape[..axis].iter().product(), shape[axis..].iter().product());
                let mut tiled = shape.clone();
                tiled.set(axis, shape[axis] * times);
                let one: Shape = [before, 1, after].into();
                x = x.reshape(&one).broadcast_to(&[before, times, after].into()).reshape(&tiled);
            }
            smallvec![x]
        }),
        Derivative::None,
    )
};

// --- joining and splitting ---

attrs! {
    /// An axis to join along.
    Join {
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
    }
}

fn infer_concat(call: &Call) -> Result<Avals, Error> {
    let [first, rest @ ..] = call.inputs else {
        return Err(Error::InputCount { expected: "1 or more", given: 0 });
    };
    let axis = first.shape.axis(Join::read(call.attrs).axis, 0)?;
    let mut out = first.clone();
    for next in rest {
        common_dtype(first, next)?;
        let fits = next.shape.len() == first.shape.len()
            && (0..first.shape.len()).all(|i| i == axis || next.shape[i] == first.shape[i]);
        if !fits {
            return Err(Error::ShapeMismatch {
                lhs: first.shape.clone(),
                rhs: next.shape.clone(),
                expected: "extents must be equal but for the axis to join",
            });
        }
        out.shape.set(axis, out.shape[axis].saturating_add(next.shape[axis]));
    }
    Ok(smallvec![out])
}

/// Splits a cotangent into pieces along an axis.
fn concat_back<'g>(r: &Rule<'g>, ct: &[crate::graph::Var<'g>]) -> Cotangents<'g> {
    let shape = ct[0].shape();
    let axis = shape.axis(Join::read(r.attrs).axis, 0).unwrap_or(0);
    let mut start = 0;
    let mut all = Cotangents::new();
    for (i, x) in r.x.iter().enumerate() {
        let part = x.shape();
        let mut begin = Ints::from_elem(0, shape.len());
        begin[axis] = start;
        start += part.to_i64()[axis];
        all.push(
            r.needs[i].then(|| {
                ct[0].op(&SLICE, Slice { begin, size: part.to_i64() }.write(), &[]).into()
            }),
        );
    }
    all
}

/// Joined tensors.
pub static CONCAT: OpDef = OpDef {
    inputs: &["values"],
    variadic: true,
    attrs: Join::SPECS,
    infer: infer_concat,
    samples: &[
        sample(&[uniform(&[2, 3], -2.0, 2.0), uniform(&[1, 3], -2.0, 2.0)]),
        sample_with(
            &[
                uniform(&[2, 1], -2.0, 2.0),
                uniform(&[2, 2], -2.0, 2.0),
                uniform(&[2, 0], -2.0, 2.0),
            ],
            || vec![("axis", Attr::Int(-1))],
        ),
    ],
    ..shaping(
        "concat",
        "Joins tensors along an axis.",
        "y = x_0, x_1, ... one behind the other",
        Kernel::Run(|call, out, inputs| {
            fn typed<T: Element>(
                axis: usize,
                out: &Aval,
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let rows: usize = out.shape[..axis].iter().product();
                let mut result = buffer(out.shape.elements())?;
                for row in 0..rows {
                    for x in inputs {
                        let size: usize = x.shape()[axis..].iter().product();
                        result.extend_from_slice(&x.elements::<T>()?[row * size..(row + 1) * size]);
                    }
                }
                Array::new(&out.shape, result)
            }
            let axis = out[0].shape.axis(Join::read(call.attrs).axis, 0)?;
            Ok(smallvec![match out[0].dtype {
                DType::F32 => typed::<f32>(axis, &out[0], inputs),
                DType::F64 => typed::<f64>(axis, &out[0], inputs),
                DType::I32 => typed::<i32>(axis, &out[0], inputs),
                DType::I64 => typed::<i64>(axis, &out[0], inputs),
                DType::Bool => typed::<bool>(axis, &out[0], inputs),
            }?])
        }),
        Derivative::Linear { reads: Reads::NONE, transpose: concat_back },
    )
};

/// Tensors joined along a new axis.
pub static STACK: OpDef = OpDef {
    inputs: &["values"],
    variadic: true,
    attrs: NewAxis::SPECS,
    infer: |call| {
        let [first, rest @ ..] = call.inputs else {
            return Err(Error::InputCount { expected: "1 or more", given: 0 });
        };
        let mut out = first.clone();
        for next in rest {
            common_dtype(first, next)?;
            if next.shape != first.shape {
                let (lhs, rhs) = (first.shape.clone(), next.shape.clone());
                return Err(Error::ShapeMismatch { lhs, rhs, expected: "shapes must be equal" });
            }
        }
        let axis = out.shape.axis(NewAxis::read(call.attrs).axis, 1)?;
        out.shape.insert(axis, call.inputs.len());
        Ok(smallvec![out])
    },
    samples: &[sample_with(&[uniform(&[2, 3], -2.0, 2.0), uniform(&[2, 3], -2.0, 2.0)], || {
        vec![("axis", Attr::Int(1))]
    })],
    ..shaping(
        "stack",
        "Joins tensors of one shape along a new axis.",
        "y[i] = x_i",
        Kernel::Composite(|r| {
            let expanded: SmallVec<[_; 4]> =
                r.x.iter().map(|x| x.op(&EXPAND_DIMS, r.attrs.clone(), &[])).collect();
            smallvec![expanded[0].op(&CONCAT, r.attrs.clone(), &expanded[1..])]
        }),
        Derivative::None,
    )
};

attrs! {
    /// Attributes of a split.
    Split {
        /// Number of equal parts, from 1 to 1,024; it must divide the axis.
        num_splits: i64 = Required,
        /// The axis, counted from 0 or backwards from -1.
        axis: i64 = Int(0),
    }
}

fn parts(attrs: &Attrs) -> usize {
    usize::try_from(Split::read(attrs).num_splits).unwrap_or(0).min(1024)
}

/// Equal parts.
pub static SPLIT: OpDef = OpDef {
    outputs: &["parts"],
    count: Some(parts),
    attrs: Split::SPECS,
    infer: |call| {
        let Split { num_splits, axis } = Split::read(call.attrs);
        let mut out = call.inputs[0].clone();
        let axis = out.shape.axis(axis, 0)?;
        let count = usize::try_from(num_splits)
            .ok()
            .filter(|&n| n > 0 && n <= 1024 && out.shape[axis].is_multiple_of(n));
        let count = count.ok_or_else(|| {
            Error::attribute("num_splits", "must be from 1 to 1024 and divide the axis")
        })?;
        out.shape.set(axis, out.shape[axis] / count);
        Ok(std::iter::repeat_n(out, count).collect())
    },
    cost: per_element,
    samples: &[sample_with(&[uniform(&[2, 4], -2.0, 2.0)], || {
        vec![("num_splits", Attr::Int(2)), ("axis", Attr::Int(1))]
    })],
    ..shaping(
        "split",
        "Splits a tensor into equal parts along an axis.",
        "y_i = the i-th part of x",
        Kernel::Run(|call, out, inputs| {
            let shape = &call.inputs[0].shape;
            let axis = shape.axis(Split::read(call.attrs).axis, 0)?;
            let strides = shape.strides();
            let mut arrays = Arrays::new();
            for (i, out) in out.iter().enumerate() {
                let offset = signed(i * out.shape[axis] * strides[axis]);
                let walk = Walk::new(&out.shape, strides.iter().map(|&s| signed(s)), offset);
                arrays.push(copied(inputs[0], &walk, out)?);
            }
            Ok(arrays)
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| {
                let axis = Split::read(r.attrs).axis;
                cotangents([ct[0].op(&CONCAT, Join { axis }.write(), &ct[1..])])
            },
        },
    )
};

/// Cotangent of an op that cut a window out of its input: zeros around it.
pub(crate) fn pad_back<'g>(
    x: &Shape,
    begin: &[usize],
    ct: crate::graph::Var<'g>,
) -> Cotangents<'g> {
    let part = ct.shape();
    let mut paddings = Ints::new();
    for (axis, &start) in begin.iter().enumerate() {
        let behind = x[axis].saturating_sub(start + part[axis]);
        paddings.extend(Shape::from([start, behind]).to_i64());
    }
    cotangent_at(0, ct.op(&PAD, Pad { paddings, constant: 0.0 }.write(), &[]))
}
