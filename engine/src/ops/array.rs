//! Making, converting and choosing tensors.

use smallvec::smallvec;

use crate::{
    array::{Array, Element, buffer},
    attrs,
    attrs::{Attr, Ints},
    aval::{Aval, Shape},
    batching::Batching,
    dtype::{DType, DTypes},
    error::Error,
    kernels::{
        elementwise::{broadcast_walk, map},
        real::Real,
        strided::{at, lockstep},
    },
    op::{Call, Derivative, Kernel, OpDef, Reads, ResultType, cotangents},
    ops::family::{
        self, by_dtype, common_dtype, common_shape, exactly, free, ints, sample, sample_with,
        truth, uniform, unsupported,
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&FULL, &ZEROS_LIKE, &ONES_LIKE, &IDENTITY, &STOP_GRADIENT, &CAST, &WHERE];

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
                other @ (DType::F16 | DType::BF16) => Err(unsupported(call, other)),
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
        Kernel::Run(|call, out, inputs| {
            let (x, shape) = (inputs[0], &out[0].shape);
            macro_rules! converted {
                ($to:ident) => {
                    by_dtype!(any: x.dtype(), T => Array::new(shape, map(x.elements::<T>()?, Convert::$to)?))
                };
            }
            Ok(smallvec![match out[0].dtype {
                DType::F32 => converted!(to_f32),
                DType::F64 => converted!(to_f64),
                DType::I32 => converted!(to_i32),
                DType::I64 => converted!(to_i64),
                DType::Bool => converted!(to_bool),
                other @ (DType::F16 | DType::BF16) => Err(unsupported(call, other)),
            }?])
        }),
        Derivative::Linear {
            reads: Reads::NONE,
            transpose: |r, ct| cotangents([ct[0].cast(r.x[0].dtype())]),
        },
    )
};

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
        Kernel::Run(|call, out, inputs| {
            fn choose<T: Element>(
                call: &Call,
                out: &Shape,
                condition: &[bool],
                inputs: &[&Array],
            ) -> Result<Array, Error> {
                let (x, y) = (inputs[1].elements::<T>()?, inputs[2].elements::<T>()?);
                let [c, i, j] =
                    [0, 1, 2].map(|input| broadcast_walk(&call.inputs[input].shape, out));
                let mut result = buffer(out.elements())?;
                lockstep([&c, &i, &j], |[c, i, j], [dc, di, dj], count| {
                    result.extend((0..count).map(|n| {
                        if condition[at(c, dc, n)] { x[at(i, di, n)] } else { y[at(j, dj, n)] }
                    }));
                });
                Array::new(out, result)
            }
            let (condition, shape) = (inputs[0].elements::<bool>()?, &out[0].shape);
            Ok(smallvec![
                by_dtype!(any: out[0].dtype, T => choose::<T>(call, shape, condition, inputs))?
            ])
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
