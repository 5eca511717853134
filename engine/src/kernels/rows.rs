//! Rows: what is computed along axes, as if these were the last.

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::{
    aval::Shape,
    compute,
    error::Error,
    kernels::{
        real::Real,
        reduce,
        strided::{self, Walk, signed},
    },
};

/// How many rows make up a part, if all of them take so many nanoseconds.
pub(crate) fn in_part(rows: usize, work: u64) -> usize {
    rows.div_ceil(compute::parts(work, rows)).max(1)
}

/// Tasks in so many lots at most, each of which is in order.
pub(crate) fn shared_out<T>(mut tasks: Vec<T>, parts: usize) -> Vec<Vec<T>> {
    let size = tasks.len().div_ceil(parts).max(1);
    let mut lots = Vec::with_capacity(parts);
    while !tasks.is_empty() {
        lots.push(tasks.split_off(tasks.len().saturating_sub(size)));
    }
    lots
}

/// The axes of a shape with the given ones behind the others, if they are not there already.
fn order(shape: &Shape, axes: &[usize]) -> Option<SmallVec<[usize; 8]>> {
    if reduce::rows(shape, axes).is_some() {
        return None;
    }
    let kept = (0..shape.len()).filter(|axis| !axes.contains(axis));
    Some(kept.chain(axes.iter().copied()).collect())
}

/// The elements with the given axes behind the others, so that they make up rows.
pub(crate) fn gathered<'a, T: Real>(
    x: &'a [T],
    shape: &Shape,
    axes: &[usize],
) -> Result<Cow<'a, [T]>, Error> {
    let Some(order) = order(shape, axes) else { return Ok(Cow::Borrowed(x)) };
    let (extents, strides) = (order.iter().map(|&axis| shape[axis]), shape.strides());
    let extents: SmallVec<[usize; 8]> = extents.collect();
    let walk = Walk::new(&extents, order.iter().map(|&axis| signed(strides[axis])), 0);
    Ok(Cow::Owned(strided::copy(x, &walk)?))
}

/// Puts the axes of what [`gathered`] gave back where they were.
pub(crate) fn scattered<T: Real>(
    y: Vec<T>,
    shape: &Shape,
    axes: &[usize],
) -> Result<Vec<T>, Error> {
    let Some(order) = order(shape, axes) else { return Ok(y) };
    let strides = order.iter().map(|&axis| shape[axis]).collect::<Shape>().strides();
    let place = |axis| order.iter().position(|&other| other == axis).map_or(0, |at| strides[at]);
    strided::copy(&y, &Walk::new(shape, (0..shape.len()).map(|axis| signed(place(axis))), 0))
}
