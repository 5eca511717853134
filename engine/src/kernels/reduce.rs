//! Folding along axes, in row-major order of the input.

use smallvec::SmallVec;

use crate::{
    array::buffer,
    aval::Shape,
    error::Error,
    kernels::strided::{Walk, signed},
};

/// The walk over the axes that stay and the walk over those that go.
pub(crate) fn split(shape: &Shape, axes: &[usize]) -> (Walk, Walk) {
    let strides = shape.strides();
    let part = |keep: bool| {
        let axes: SmallVec<[usize; 8]> =
            (0..shape.len()).filter(|i| axes.contains(i) != keep).collect();
        let extents: SmallVec<[usize; 8]> = axes.iter().map(|&axis| shape[axis]).collect();
        Walk::new(&extents, axes.iter().map(|&axis| signed(strides[axis])), 0)
    };
    (part(true), part(false))
}

/// `finish(fold(...fold(init, x0)..., xn))` for each place that stays.
pub(crate) fn fold<T: Copy, A: Copy, U>(
    x: &[T],
    shape: &Shape,
    axes: &[usize],
    init: A,
    fold: impl Fn(A, T) -> A,
    finish: impl Fn(A) -> U,
) -> Result<Vec<U>, Error> {
    let (kept, mut reduced) = split(shape, axes);
    let mut out = buffer(kept.shape.iter().product())?;
    kept.each(|start| {
        reduced.offset = signed(start);
        let mut acc = init;
        reduced.runs(|offset, stride, count| {
            let start = offset.unsigned_abs();
            if stride == 1 {
                acc = x[start..start + count].iter().fold(acc, |acc, &x| fold(acc, x));
            } else {
                acc =
                    (0..count).fold(acc, |acc, i| fold(acc, x[start + i * stride.unsigned_abs()]));
            }
        });
        out.push(finish(acc));
    });
    Ok(out)
}

/// Goes along an axis from one end: `step` takes what was accumulated so far and the place of an element, and gives what
/// is accumulated now and the result for that place.
pub(crate) fn scan<A: Copy, U: Copy + Default>(
    shape: &Shape,
    axis: usize,
    reverse: bool,
    init: A,
    step: impl Fn(A, usize) -> (A, U),
) -> Result<Vec<U>, Error> {
    let mut out = buffer(shape.elements())?;
    out.resize(shape.elements(), U::default());
    let (stride, count) = (shape.strides()[axis], shape[axis]);
    let (starts, _) = split(shape, &[axis]);
    if count > 0 {
        starts.each(|start| {
            let mut acc = init;
            for i in 0..count {
                let at = start + stride * if reverse { count - 1 - i } else { i };
                (acc, out[at]) = step(acc, at);
            }
        });
    }
    Ok(out)
}
