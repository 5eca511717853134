//! Folding along axes, in an order that follows from the shape alone.

use smallvec::SmallVec;

use crate::{
    array::buffer,
    aval::Shape,
    error::Error,
    kernels::{
        lanes,
        strided::{Walk, signed},
    },
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

/// How a fold combines elements.
pub(crate) struct Folding<A, S, M> {
    /// What it begins with, which must be neutral.
    pub(crate) init: A,
    /// Takes in an element.
    pub(crate) step: S,
    /// Puts two partial results together.
    pub(crate) merge: M,
}

/// The folded elements for each place that stays.
pub(crate) fn fold<T: Copy, A: Copy, U>(
    x: &[T],
    shape: &Shape,
    axes: &[usize],
    Folding { init, step, merge }: Folding<A, impl Fn(A, T) -> A, impl Fn(A, A) -> A>,
    finish: impl Fn(A) -> U,
) -> Result<Vec<U>, Error> {
    let (kept, mut reduced) = split(shape, axes);
    let mut out = buffer(kept.shape.iter().product())?;
    if let Some([outer, count, inner]) = neighbours(shape, axes) {
        if inner == 1 {
            out.extend(
                (0..outer).map(|i| {
                    finish(lanes::fold(&x[i * count..(i + 1) * count], init, &step, &merge))
                }),
            );
        } else if inner > 1 {
            let mut columns = buffer(inner)?;
            for i in 0..outer {
                let rows = &x[i * count * inner..(i + 1) * count * inner];
                columns.clear();
                columns.resize(inner, init);
                lanes::fold_columns(rows, &mut columns, &step);
                out.extend(columns.iter().map(|&acc| finish(acc)));
            }
        }
        return Ok(out);
    }
    kept.each(|start| {
        reduced.offset = signed(start);
        let mut acc = init;
        reduced.runs(|offset, stride, count| {
            let (start, stride) = (offset.unsigned_abs(), stride.unsigned_abs());
            acc = (0..count).fold(acc, |acc, i| step(acc, x[start + i * stride]));
        });
        out.push(finish(acc));
    });
    Ok(out)
}

/// Extents of what lies outside, in and inside of the reduced axes, if these are neighbours. Axes of extent 1 count as
/// whatever suits.
fn neighbours(shape: &Shape, axes: &[usize]) -> Option<[usize; 3]> {
    let mut extents = [1; 3];
    let mut part = 0;
    for (i, &extent) in shape.iter().enumerate().filter(|&(_, &extent)| extent != 1) {
        part = match (part, axes.contains(&i)) {
            (0, false) => 0,
            (0 | 1, true) => 1,
            (1 | 2, false) => 2,
            _ => return None,
        };
        extents[part] *= extent;
    }
    Some(extents)
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
