//! What elementwise kernels are made of: loops over the elements at the same place, in blocks or in registers.

use super::{
    block::{Lane, mistyped},
    lanes::{self, Function, Function2},
    registers,
};
use crate::{
    dtype::DType,
    error::Error,
    op::{Lanes, LanesMut, Output, Place},
};

/// The elements of input `i`, which must be of this type.
pub(crate) fn input<'a, T: Lane>(inputs: &[Lanes<'a>], i: usize) -> Result<&'a [T], Error> {
    inputs.get(i).and_then(T::read).ok_or_else(mistyped)
}

/// The elements of the output, which must be of this type.
pub(crate) fn output<'a, T: Lane>(out: &'a mut LanesMut<'_>) -> Result<&'a mut [T], Error> {
    T::write(out).ok_or_else(mistyped)
}

/// The dtype of the output.
pub(crate) fn dtype(out: &Output) -> DType {
    match &out.0 {
        Place::Lanes(LanesMut::F32(_)) => DType::F32,
        Place::Lanes(LanesMut::F64(_)) => DType::F64,
        Place::Lanes(LanesMut::I32(_)) => DType::I32,
        Place::Lanes(LanesMut::I64(_)) => DType::I64,
        Place::Lanes(LanesMut::Bool(_)) => DType::Bool,
        Place::Lines(_, operands) => operands.dtype(),
    }
}

/// `f` of each element.
#[inline]
pub(crate) fn map<T: Lane, U: Lane>(
    inputs: &[Lanes],
    out: &mut Output,
    f: impl Fn(T) -> U,
) -> Result<(), Error> {
    match &mut out.0 {
        Place::Lines(registers, operands) => registers::map(registers, operands, f),
        Place::Lanes(out) => lanes::map(input(inputs, 0)?, output(out)?, f),
    }
    Ok(())
}

/// `f` of each element, where it takes long.
#[inline]
pub(crate) fn each<T: Lane, U: Lane>(
    inputs: &[Lanes],
    out: &mut Output,
    f: impl Fn(T) -> U,
) -> Result<(), Error> {
    match &mut out.0 {
        Place::Lines(registers, operands) => registers::each(registers, operands, f),
        Place::Lanes(out) => lanes::map(input(inputs, 0)?, output(out)?, f),
    }
    Ok(())
}

/// `f` of each pair of elements.
#[inline]
pub(crate) fn zip<T: Lane, V: Lane, U: Lane>(
    inputs: &[Lanes],
    out: &mut Output,
    f: impl Fn(T, V) -> U,
) -> Result<(), Error> {
    match &mut out.0 {
        Place::Lines(registers, operands) => registers::zip(registers, operands, f),
        Place::Lanes(out) => lanes::zip(input(inputs, 0)?, input(inputs, 1)?, output(out)?, f),
    }
    Ok(())
}

/// `f` of each three elements.
#[inline]
pub(crate) fn zip3<T: Lane, V: Lane, W: Lane, U: Lane>(
    inputs: &[Lanes],
    out: &mut Output,
    f: impl Fn(T, V, W) -> U,
) -> Result<(), Error> {
    match &mut out.0 {
        Place::Lines(registers, operands) => registers::zip3(registers, operands, f),
        Place::Lanes(out) => {
            let (x, y, z) = (input(inputs, 0)?, input(inputs, 1)?, input(inputs, 2)?);
            lanes::zip3(x, y, z, output(out)?, f);
        }
    }
    Ok(())
}

/// A function of each element.
#[inline]
pub(crate) fn map_by<T: Lane, F: Function<T>>(
    inputs: &[Lanes],
    out: &mut Output,
) -> Result<(), Error> {
    match &mut out.0 {
        Place::Lines(registers, operands) => registers::map_by::<T, F>(registers, operands),
        Place::Lanes(out) => lanes::map_by::<T, F>(input(inputs, 0)?, output(out)?),
    }
    Ok(())
}

/// A function of each pair of elements.
#[inline]
pub(crate) fn zip_by<T: Lane, F: Function2<T>>(
    inputs: &[Lanes],
    out: &mut Output,
) -> Result<(), Error> {
    match &mut out.0 {
        Place::Lines(registers, operands) => registers::zip_by::<T, F>(registers, operands),
        Place::Lanes(out) => {
            lanes::zip_by::<T, F>(input(inputs, 0)?, input(inputs, 1)?, output(out)?);
        }
    }
    Ok(())
}

/// A loop over slices of two inputs and the output, of one length.
pub(crate) fn over<T: Lane>(
    inputs: &[Lanes],
    out: &mut Output,
    run: impl Fn(&[T], &[T], &mut [T]),
) -> Result<(), Error> {
    match &mut out.0 {
        Place::Lines(registers, operands) => registers::over(registers, operands, run),
        Place::Lanes(out) => run(input(inputs, 0)?, input(inputs, 1)?, output(out)?),
    }
    Ok(())
}
