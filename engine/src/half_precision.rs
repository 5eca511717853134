//! Half precision: stored in two bytes, computed in `float32`.
//!
//! No kernel sees a half type. Execution widens the inputs, runs the kernel of `float32`, which accumulates as that does,
//! and rounds the results to nearest, ties to even. So every op takes both half types, and its results are those of
//! `float32` rounded once.

use std::borrow::Cow;

use half::{bf16, f16};

use crate::{
    array::{Array, Element, Nd, buffer},
    aval::{Aval, Avals, Shape},
    dtype::DType,
    error::Error,
};

/// The abstract values that a kernel sees in place of these.
pub(crate) fn widened(avals: &[Aval]) -> Avals {
    let wide = |aval: &Aval| Aval { dtype: aval.dtype.widened(), shape: aval.shape.clone() };
    avals.iter().map(wide).collect()
}

/// Bytes of the `float32` copies that stand in for these while a kernel runs.
pub(crate) fn copies(avals: &[Aval]) -> u64 {
    let copies = avals.iter().filter(|aval| aval.dtype.is_half());
    copies.map(|aval| aval.bytes().saturating_mul(2)).fold(0, u64::saturating_add)
}

/// The array with half-precision elements as `float32`.
pub(crate) fn widen(array: &Array) -> Result<Cow<'_, Array>, Error> {
    match array {
        Array::F16(halves) => convert(halves, f16::to_f32).map(Cow::Owned),
        Array::BF16(halves) => convert(halves, bf16::to_f32).map(Cow::Owned),
        Array::F32(_) | Array::F64(_) | Array::I32(_) | Array::I64(_) | Array::Bool(_) => {
            Ok(Cow::Borrowed(array))
        }
    }
}

/// A kernel's result rounded to a half type.
pub(crate) fn narrow(array: &Array, dtype: DType) -> Result<Array, Error> {
    match (array, dtype) {
        (Array::F32(wide), DType::F16) => convert(wide, f16::from_f32),
        (Array::F32(wide), DType::BF16) => convert(wide, bf16::from_f32),
        (other, dtype) => Err(Error::bug(format!("{} rounded to {dtype}", other.dtype()))),
    }
}

fn convert<T: Element, U: Element>(array: &Nd<T>, f: impl Fn(T) -> U) -> Result<Array, Error> {
    let elements = array.as_slice().ok_or_else(|| Error::bug("an array is not contiguous"))?.iter();
    let mut converted = buffer(elements.len())?;
    converted.extend(elements.map(|&element| f(element)));
    Array::new(&Shape::from(array.shape()), converted)
}
