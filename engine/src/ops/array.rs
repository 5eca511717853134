//! Making, converting and choosing tensors.

use smallvec::smallvec;

use crate::{
    array::{self, Array, buffer},
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Shape},
    batching::Batching,
    dtype::{DType, DTypes},
    error::Error,
    graph::Var,
    kernels::{block::Lane, loops, real::FromDouble},
    op::{Call, Derivative, Kernel, Lanes, OpDef, Output, Reads, ResultType, Rule, cotangents},
    ops::{
        CONCAT, EXPAND_DIMS, Join, NewAxis,
        family::{
            broadcast, by_dtype, common_dtype, common_shape, exactly, extent, free, ints, sample,
            sample_with, truth, uniform,
        },
        shape::shaping,
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&FULL, &ZEROS_LIKE, &ONES_LIKE, &RANGE, &LINSPACE, &IDENTITY, &STOP_GRADIENT, &CAST, &WHERE];

// --- making ---

attrs! {
    /// Attributes of a constant.
    Full {
        /// Shape of the result.
        shape: Ints = Required,
        /// Dtype of the result.
        dtype: DType = DType(DType::F32),
        /// The element, rounded to the dtype; for `bool`, anything but 0 is true.
        value: f64 = Required,
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
            fn filled<T: FromDouble>(shape: &Shape, value: f64) -> Result<Array, Error> {
                let elements = array::filled(shape.elements(), T::from_double(value))?;
                Array::new(shape, elements)
            }
            let value = Full::read(call.attrs).value;
            Ok(smallvec![by_dtype!(any: out[0].dtype, T => filled::<T>(&out[0].shape, value))?])
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

attrs! {
    /// Attributes of a range.
    Range {
        /// First number.
        start: f64 = Double(0.0),
        /// Where to stop; it is not reached.
        limit: f64 = Required,
        /// Step; not 0.
        delta: f64 = Double(1.0),
        /// Dtype of the result.
        dtype: DType = DType(DType::F32),
    }
}

/// Numbers at equal steps.
pub static RANGE: OpDef = OpDef {
    inputs: &[],
    dtypes: DTypes::NUMERIC,
    result: ResultType::Attribute("dtype"),
    attrs: Range::SPECS,
    infer: |call| {
        let Range { start, limit, delta, dtype } = Range::read(call.attrs);
        if !DTypes::NUMERIC.contains(dtype) {
            return Err(Error::UnsupportedDType { dtype, accepted: DTypes::NUMERIC });
        }
        let steps = ((limit - start) / delta).ceil();
        if delta == 0.0 || !steps.is_finite() {
            return Err(Error::attribute("delta", "must not be 0, and all must be finite"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturating; shapes are checked"
        )]
        let count = steps as usize;
        Ok(smallvec![Aval { dtype, shape: [count].into() }])
    },
    samples: &[
        sample_with(&[], || vec![("limit", Attr::Double(5.0))]),
        sample_with(&[], || {
            let [start, limit, delta] = [3.0, 1.0, -0.75].map(Attr::Double);
            vec![("start", start), ("limit", limit), ("delta", delta)]
        }),
        sample_with(&[], || vec![("limit", Attr::Double(-1.0))]),
    ],
    ..shaping(
        "range",
        "Numbers from a start on, at equal steps, up to but not including a limit.",
        "y[i] = start + i * delta",
        Kernel::Run(|call, out, _| {
            fn typed<T: FromDouble>(call: &Call, shape: &Shape) -> Result<Array, Error> {
                let Range { start, delta, .. } = Range::read(call.attrs);
                let mut elements = buffer(shape.elements())?;
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "tensors are far shorter than 2^52"
                )]
                elements.extend(
                    (0..shape.elements()).map(|i| T::from_double(start + i as f64 * delta)),
                );
                Array::new(shape, elements)
            }
            let shape = &out[0].shape;
            Ok(smallvec![by_dtype!(numeric: out[0].dtype, T => typed::<T>(call, shape))?])
        }),
        Derivative::None,
    )
};

attrs! {
    /// Attributes of evenly spaced numbers.
    Linspace {
        /// How many numbers there are, at least 1.
        num: i64 = Required,
        /// Where their axis goes, counted from 0 or backwards from -1, which is behind the last axis.
        axis: i64 = Int(0),
    }
}

/// Numbers at equal distances, ends included.
pub static LINSPACE: OpDef = OpDef {
    inputs: &["start", "stop"],
    dtypes: DTypes::FLOAT,
    attrs: Linspace::SPECS,
    infer: |call| {
        let mut out = broadcast(call)?.remove(0);
        let Linspace { num, axis } = Linspace::read(call.attrs);
        let axis = out.shape.axis(axis, 1)?;
        let count = extent("num", num)?;
        if count == 0 {
            return Err(Error::attribute("num", "must be at least 1"));
        }
        out.shape.insert(axis, count);
        Ok(smallvec![out])
    },
    samples: &[
        sample_with(&[uniform(&[], -2.0, 0.0), uniform(&[], 1.0, 2.0)], || {
            vec![("num", Attr::Int(5))]
        }),
        sample_with(&[uniform(&[2, 1], -2.0, 0.0), uniform(&[3], 1.0, 2.0)], || {
            vec![("num", Attr::Int(4)), ("axis", Attr::Int(-1))]
        }),
        sample_with(&[uniform(&[2], -2.0, 0.0), uniform(&[2], 1.0, 2.0)], || {
            vec![("num", Attr::Int(1))]
        }),
    ],
    ..shaping(
        "linspace",
        "Evenly spaced numbers from a start to a stop, both included, along a new axis.",
        "y[i] = start + i * (stop - start) / (num - 1)",
        Kernel::Composite(|r| smallvec![linspace(r)]),
        Derivative::None,
    )
};

fn linspace<'g>(r: &Rule<'g>) -> Var<'g> {
    let Linspace { num, axis } = Linspace::read(r.attrs);
    let (start, stop) = (r.x[0], r.x[1]);
    let shape = start.shape().broadcast(&stop.shape()).unwrap_or_default();
    let wide =
        |end: Var<'g>| end.broadcast_to(&shape).op(&EXPAND_DIMS, NewAxis { axis }.write(), &[]);
    let (start, stop) = (wide(start), wide(stop));
    if num == 1 {
        return start;
    }
    let at = shape.axis(axis, 1).unwrap_or(0);
    let inner = usize::try_from(num).unwrap_or(0).saturating_sub(2);
    let mut along: Shape = std::iter::repeat_n(1, shape.len() + 1).collect();
    along.set(at, inner);
    let steps = start.graph().positions(inner).cast(start.dtype()).reshape(&along) + 1.0;
    #[expect(clippy::cast_precision_loss, reason = "tensors are far shorter than 2^52")]
    let delta = (stop - start) / (inner as f64 + 1.0);
    // The ends themselves, so that rounding does not move them.
    start.op(
        &CONCAT,
        Join { axis: Shape::from([at]).to_i64()[0] }.write(),
        &[start + steps * delta, stop],
    )
}

// --- passing on and converting ---

/// The same value under a new identity. Sparse gradients pass through it unchanged.
pub static IDENTITY: OpDef = OpDef {
    batching: Batching::Elementwise,
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
    batching: Batching::Elementwise,
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
    batching: Batching::Elementwise,
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
        Kernel::Elementwise(|dtype| match dtype {
            DType::F32 => Some(|_, inputs, out| converted::<f32>(inputs, out)),
            DType::F64 => Some(|_, inputs, out| converted::<f64>(inputs, out)),
            DType::I32 => Some(|_, inputs, out| converted::<i32>(inputs, out)),
            DType::I64 => Some(|_, inputs, out| converted::<i64>(inputs, out)),
            DType::Bool => Some(|_, inputs, out| converted::<bool>(inputs, out)),
            DType::F16 | DType::BF16 => None,
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| cotangents([ct[0].cast(r.x[0].dtype())]),
        },
    )
};

/// Converts a block to the dtype of the output.
fn converted<T: Lane + Convert>(inputs: &[Lanes], out: &mut Output) -> Result<(), Error> {
    match loops::dtype(out) {
        DType::F32 => loops::map(inputs, out, T::to_f32),
        DType::F64 => loops::map(inputs, out, T::to_f64),
        DType::I32 => loops::map(inputs, out, T::to_i32),
        DType::I64 => loops::map(inputs, out, T::to_i64),
        DType::Bool => loops::map(inputs, out, T::to_bool),
        DType::F16 | DType::BF16 => Err(Error::bug("a block of a half type")),
    }
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
            clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_lossless, clippy::unnecessary_cast, clippy::float_cmp,
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
    batching: Batching::Elementwise,
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
        Kernel::Elementwise(|_| {
            Some(|_, inputs, out| {
                fn choose<T: Lane>(inputs: &[Lanes], out: &mut Output) -> Result<(), Error> {
                    loops::zip3(inputs, out, |c, x: T, y: T| if c { x } else { y })
                }
                match loops::dtype(out) {
                    DType::F32 => choose::<f32>(inputs, out),
                    DType::F64 => choose::<f64>(inputs, out),
                    DType::I32 => choose::<i32>(inputs, out),
                    DType::I64 => choose::<i64>(inputs, out),
                    DType::Bool => choose::<bool>(inputs, out),
                    DType::F16 | DType::BF16 => Err(Error::bug("a block of a half type")),
                }
            })
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
