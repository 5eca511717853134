//! What the members of a family share: shape rules, prices, samples and the macros that make kernels.

use smallvec::smallvec;

use crate::{
    attrs::Attr,
    aval::{Aval, Avals, Shape},
    batching::Batching,
    dtype::{DType, DTypes},
    error::Error,
    op::{Call, Cost, Derivative, Fill, Input, Kernel, OpDef, ResultType, Sample},
};

/// A kernel from a formula on one element: `map_kernel!(F32 F64: |x| x * x)`.
macro_rules! map_kernel {
    ($($dtype:ident)+ : |$x:ident| $body:expr) => {
        $crate::op::Kernel::Elementwise(|dtype| match dtype {
            $($crate::dtype::DType::$dtype => Some(|_, inputs, out| {
                $crate::kernels::loops::map(inputs, out, $crate::ops::family::typed::$dtype(|$x| $body))
            }),)+
            #[allow(unreachable_patterns, clippy::wildcard_enum_match_arm, reason = "some families take every dtype")]
            _ => None,
        })
    };
}

/// The same from a formula that takes long, as functions without vectors do.
macro_rules! each_kernel {
    ($($dtype:ident)+ : |$x:ident| $body:expr) => {
        $crate::op::Kernel::Elementwise(|dtype| match dtype {
            $($crate::dtype::DType::$dtype => Some(|_, inputs, out| {
                $crate::kernels::loops::each(inputs, out, $crate::ops::family::typed::$dtype(|$x| $body))
            }),)+
            #[allow(unreachable_patterns, clippy::wildcard_enum_match_arm, reason = "some families take every dtype")]
            _ => None,
        })
    };
}

/// A kernel from a formula on two elements of one dtype: `zip_kernel!(F32 F64: |x, y| x + y)`.
macro_rules! zip_kernel {
    ($($dtype:ident)+ : |$x:ident, $y:ident| $body:expr) => {
        $crate::op::Kernel::Elementwise(|dtype| match dtype {
            $($crate::dtype::DType::$dtype => Some(|_, inputs, out| {
                $crate::kernels::loops::zip(inputs, out, $crate::ops::family::typed2::$dtype(|$x, $y| $body))
            }),)+
            #[allow(unreachable_patterns, clippy::wildcard_enum_match_arm, reason = "some families take every dtype")]
            _ => None,
        })
    };
}

/// A kernel from a long formula without branches, on one element or on two, that gives an element of their dtype:
/// `function_kernel!(F32 F64: |x| x.exp_())`. It is inlined into the loop for every level of x86, as a closure might not be.
/// Where the formula holds only for some elements, the others have another:
/// `function_kernel!(F32 F64: |x| x.is_near() => x.sin_near(), else x.sin_far())`.
macro_rules! function_kernel {
    ($($dtype:ident)+ : |$x:ident| $body:expr) => {
        $crate::ops::family::function_kernel!($($dtype)+: |$x| { let _ = $x; true } => $body, else $body)
    };
    ($($dtype:ident)+ : |$x:ident| $holds:expr => $body:expr, else $beyond:expr) => {
        $crate::op::Kernel::Elementwise(|dtype| match dtype {
            $($crate::dtype::DType::$dtype => Some(|_, inputs, out| {
                type T = $crate::ops::family::element::$dtype;
                struct F;
                impl $crate::kernels::lanes::Function<T> for F {
                    #[inline(always)]
                    fn of($x: T) -> T {
                        $body
                    }
                    #[inline]
                    fn holds($x: T) -> bool {
                        $holds
                    }
                    fn beyond($x: T) -> T {
                        $beyond
                    }
                }
                $crate::kernels::loops::map_by::<T, F>(inputs, out)
            }),)+
            #[allow(unreachable_patterns, clippy::wildcard_enum_match_arm, reason = "some families take every dtype")]
            _ => None,
        })
    };
    ($($dtype:ident)+ : |$x:ident, $y:ident| $body:expr) => {
        $crate::op::Kernel::Elementwise(|dtype| match dtype {
            $($crate::dtype::DType::$dtype => Some(|_, inputs, out| {
                type T = $crate::ops::family::element::$dtype;
                struct F;
                impl $crate::kernels::lanes::Function2<T> for F {
                    #[inline(always)]
                    fn of($x: T, $y: T) -> T {
                        $body
                    }
                }
                $crate::kernels::loops::zip_by::<T, F>(inputs, out)
            }),)+
            #[allow(unreachable_patterns, clippy::wildcard_enum_match_arm, reason = "some families take every dtype")]
            _ => None,
        })
    };
}

/// Runs a body with `T` as the element type of a dtype: of every `float`, `numeric` or `any` one. Half types are refused:
/// kernels see `float32` in their place.
macro_rules! by_dtype {
    (float: $dtype:expr, $T:ident => $body:expr) => {
        $crate::ops::family::by_dtype!(@ $dtype, $T, $body, FLOAT: F32 f32, F64 f64; I32 I64 Bool F16 BF16)
    };
    (numeric: $dtype:expr, $T:ident => $body:expr) => {
        $crate::ops::family::by_dtype!(
            @ $dtype, $T, $body, NUMERIC: F32 f32, F64 f64, I32 i32, I64 i64; Bool F16 BF16
        )
    };
    (any: $dtype:expr, $T:ident => $body:expr) => {
        $crate::ops::family::by_dtype!(
            @ $dtype, $T, $body, ANY: F32 f32, F64 f64, I32 i32, I64 i64, Bool bool; F16 BF16
        )
    };
    (@ $dtype:expr, $T:ident, $body:expr, $set:ident: $($in:ident $ty:ty),*; $($out:ident)*) => {
        match $dtype {
            $($crate::dtype::DType::$in => {
                type $T = $ty;
                $body
            })*
            $(dtype @ $crate::dtype::DType::$out => Err($crate::error::Error::UnsupportedDType {
                dtype,
                accepted: $crate::dtype::DTypes::$set,
            }),)*
        }
    };
}

pub(crate) use {by_dtype, each_kernel, function_kernel, map_kernel, zip_kernel};

/// The element types, named like their dtypes.
pub(crate) mod element {
    pub(crate) type F32 = f32;
    pub(crate) type F64 = f64;
    pub(crate) type I32 = i32;
    pub(crate) type I64 = i64;
}

/// Fixes a closure's argument to the element type of a dtype, so that formulas need no annotations.
#[expect(non_snake_case, reason = "named like the dtypes")]
pub(crate) mod typed {
    macro_rules! typed {
        ($($dtype:ident $ty:ty),*) => {$(
            pub(crate) fn $dtype<U>(f: impl Fn($ty) -> U) -> impl Fn($ty) -> U {
                f
            }
        )*};
    }
    typed!(F32 f32, F64 f64, I32 i32, I64 i64, Bool bool);
}

/// The same for two arguments.
#[expect(non_snake_case, reason = "named like the dtypes")]
pub(crate) mod typed2 {
    macro_rules! typed {
        ($($dtype:ident $ty:ty),*) => {$(
            pub(crate) fn $dtype<U>(f: impl Fn($ty, $ty) -> U) -> impl Fn($ty, $ty) -> U {
                f
            }
        )*};
    }
    typed!(F32 f32, F64 f64, I32 i32, I64 i64, Bool bool);
}

/// The error of a kernel that meets a dtype which `infer` should have refused.
pub(crate) fn unsupported(call: &Call, dtype: DType) -> Error {
    Error::UnsupportedDType { dtype, accepted: call.op.dtypes }
}

// --- records ---

const NO_ATTRS: fn() -> Vec<(&'static str, Attr)> = Vec::new;

/// A sample without attributes.
pub(crate) const fn sample(inputs: &'static [Input]) -> Sample {
    Sample { inputs, attrs: NO_ATTRS }
}

/// A sample with attributes.
pub(crate) const fn sample_with(
    inputs: &'static [Input],
    attrs: fn() -> Vec<(&'static str, Attr)>,
) -> Sample {
    Sample { inputs, attrs }
}

/// A random input.
pub(crate) const fn uniform(shape: &'static [usize], low: f64, high: f64) -> Input {
    Input { shape, fill: Fill::Uniform(low, high) }
}

/// An input of matrices that are safe to decompose.
pub(crate) const fn matrix(shape: &'static [usize]) -> Input {
    Input { shape, fill: Fill::Matrix { symmetric: false } }
}

/// The same, symmetric.
pub(crate) const fn symmetric(shape: &'static [usize]) -> Input {
    Input { shape, fill: Fill::Matrix { symmetric: true } }
}

/// An input of random indices.
pub(crate) const fn index(shape: &'static [usize], low: i64, high: i64) -> Input {
    Input { shape, fill: Fill::Index(low, high) }
}

/// An input of random truth values.
pub(crate) const fn truth(shape: &'static [usize]) -> Input {
    Input { shape, fill: Fill::Bool }
}

/// Integers as an attribute of a sample.
pub(crate) fn ints(name: &'static str, values: &[i64]) -> (&'static str, Attr) {
    (name, Attr::Ints(values.into()))
}

const ONE: &[Sample] = &[sample(&[uniform(&[2, 3], -2.0, 2.0)])];

const TWO: &[Sample] = &[
    sample(&[uniform(&[2, 3], 0.5, 2.0), uniform(&[2, 3], 0.5, 2.0)]),
    sample(&[uniform(&[2, 3], 0.5, 2.0), uniform(&[3], 0.5, 2.0)]),
    sample(&[uniform(&[], 0.5, 2.0), uniform(&[2, 1], 0.5, 2.0)]),
];

/// An op of one input and one output of the same dtype and shape; the base of every record.
pub(crate) const fn unary(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        name,
        family: "math",
        inputs: &["x"],
        variadic: false,
        outputs: &["y"],
        count: None,
        summary,
        formula,
        attrs: &[],
        dtypes: DTypes::FLOAT,
        result: ResultType::Input(0),
        infer: same,
        cost: per_element,
        kernel,
        derivative,
        batching: match derivative {
            Derivative::Elementwise(_) => Batching::Elementwise,
            Derivative::None
            | Derivative::Zero
            | Derivative::Linear { .. }
            | Derivative::Multilinear { .. }
            | Derivative::Custom { .. } => Batching::Rows,
        },
        samples: ONE,
    }
}

/// An op of two inputs that broadcast.
pub(crate) const fn binary(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        inputs: &["x", "y"],
        outputs: &["z"],
        infer: broadcast,
        samples: TWO,
        ..unary(name, summary, formula, kernel, derivative)
    }
}

// --- shape rules ---

/// The output is like the input.
#[expect(clippy::unnecessary_wraps, reason = "it is one of the rules that may fail")]
pub(crate) fn same(call: &Call) -> Result<Avals, Error> {
    Ok(smallvec![call.inputs[0].clone()])
}

/// The dtype of two inputs that must agree.
pub(crate) fn common_dtype(x: &Aval, y: &Aval) -> Result<DType, Error> {
    if x.dtype == y.dtype {
        Ok(x.dtype)
    } else {
        Err(Error::DTypeMismatch { lhs: x.dtype, rhs: y.dtype })
    }
}

/// The shape that two inputs broadcast to.
pub(crate) fn common_shape(x: &Shape, y: &Shape) -> Result<Shape, Error> {
    x.broadcast(y).ok_or_else(|| Error::ShapeMismatch {
        lhs: x.clone(),
        rhs: y.clone(),
        expected: "extents must be equal, or one of them 1",
    })
}

/// Two inputs of one dtype, broadcast.
pub(crate) fn broadcast(call: &Call) -> Result<Avals, Error> {
    let [x, y] = call.inputs else {
        return Err(Error::bug("a binary op of other than two inputs"));
    };
    let dtype = common_dtype(x, y)?;
    Ok(smallvec![Aval { dtype, shape: common_shape(&x.shape, &y.shape)? }])
}

/// Checks that an index input has an integer dtype.
pub(crate) fn integer(aval: &Aval) -> Result<(), Error> {
    if aval.dtype.is_integer() {
        return Ok(());
    }
    Err(Error::UnsupportedDType { dtype: aval.dtype, accepted: DTypes::INTEGER })
}

/// Checks a second input that must have one given dtype.
pub(crate) fn exactly(aval: &Aval, dtype: DType) -> Result<(), Error> {
    if aval.dtype == dtype {
        return Ok(());
    }
    Err(Error::UnsupportedDType { dtype: aval.dtype, accepted: DTypes::of(&[dtype]) })
}

// --- prices ---

/// One operation for each output element.
pub(crate) fn per_element(_: &Call, outputs: &[Aval]) -> Cost {
    Cost { flops: outputs.iter().map(|out| out.shape.elements() as u64).sum(), workspace: 0 }
}

/// One operation for each element of the first input.
pub(crate) fn per_input(call: &Call, _: &[Aval]) -> Cost {
    Cost { flops: call.inputs.first().map_or(0, |x| x.shape.elements() as u64), workspace: 0 }
}

/// Nothing is computed.
pub(crate) fn free(_: &Call, _: &[Aval]) -> Cost {
    Cost::default()
}

/// Reads an index input of either integer type.
pub(crate) fn indices(array: &crate::array::Array) -> Result<Vec<i64>, Error> {
    let count = array.shape().iter().product();
    let mut out = crate::array::buffer(count)?;
    match array.dtype() {
        DType::I32 => out.extend(array.elements::<i32>()?.iter().map(|&i| i64::from(i))),
        DType::I64 => out.extend_from_slice(array.elements::<i64>()?),
        other @ (DType::F32 | DType::F64 | DType::Bool | DType::F16 | DType::BF16) => {
            return Err(Error::UnsupportedDType { dtype: other, accepted: DTypes::INTEGER });
        }
    }
    Ok(out)
}

/// Checks indices against an extent and makes them unsigned.
pub(crate) fn positions(array: &crate::array::Array, extent: usize) -> Result<Vec<usize>, Error> {
    let raw = indices(array)?;
    let mut out = crate::array::buffer(raw.len())?;
    let mut looks = crate::compute::Looks::default();
    for (position, &index) in raw.iter().enumerate() {
        looks.after(1)?;
        let checked = usize::try_from(index).ok().filter(|&i| i < extent);
        out.push(checked.ok_or(Error::IndexOutOfRange { index, position, extent })?);
    }
    Ok(out)
}

/// Workspace of an op that reads indices.
pub(crate) fn index_cost(at: usize) -> impl Fn(&Call, &[Aval]) -> Cost {
    move |call, outputs| Cost {
        flops: outputs.iter().map(|out| out.shape.elements() as u64).sum(),
        workspace: (call.inputs[at].shape.elements() as u64).saturating_mul(16),
    }
}

/// The same for an op that folds slices into places, beside which the accumulators lie.
pub(crate) fn fold_cost(at: usize) -> impl Fn(&Call, &[Aval]) -> Cost {
    move |call, outputs| {
        let Cost { flops, workspace } = index_cost(at)(call, outputs);
        let inputs = call.inputs.iter().map(|x| x.shape.elements() as u64).sum();
        Cost {
            flops: flops.saturating_add(inputs),
            workspace: workspace.saturating_add(flops.saturating_mul(8)),
        }
    }
}

/// An extent that an attribute gives.
pub(crate) fn extent(name: &str, value: i64) -> Result<usize, Error> {
    usize::try_from(value).map_err(|_| Error::attribute(name, "must not be negative"))
}
