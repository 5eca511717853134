//! One result from the elements at the same place, with broadcasting.

use crate::{
    array::buffer,
    aval::Shape,
    compute::{self, Looks},
    error::Error,
    kernels::strided::{Walk, at, lockstep, signed},
};

/// `f` of each element.
pub(crate) fn map<T: Copy, U>(x: &[T], f: impl Fn(T) -> U) -> Result<Vec<U>, Error> {
    let mut out = buffer(x.len())?;
    let mut looks = Looks::default();
    for piece in x.chunks(compute::range()) {
        out.extend(piece.iter().map(|&x| f(x)));
        looks.after(piece.len())?;
    }
    Ok(out)
}

/// Strides of an operand within a broadcast shape: zero along axes that it lacks.
fn strides_in<'a>(shape: &'a Shape, out: &'a Shape) -> impl Iterator<Item = isize> + 'a {
    let own = shape.strides();
    let lead = out.len() - shape.len();
    (0..out.len()).map(move |i| match i.checked_sub(lead) {
        Some(axis) if shape[axis] != 1 => signed(own[axis]),
        _ => 0,
    })
}

/// The walk of an operand through a broadcast shape.
pub(crate) fn broadcast_walk(shape: &Shape, out: &Shape) -> Walk {
    Walk::new(out, strides_in(shape, out), 0)
}

/// `f` of each pair of elements, broadcast to `out`.
pub(crate) fn zip<T: Copy, V: Copy, U>(
    (x, x_shape): (&[T], &Shape),
    (y, y_shape): (&[V], &Shape),
    out: &Shape,
    f: impl Fn(T, V) -> U,
) -> Result<Vec<U>, Error> {
    let count = out.elements();
    let mut result = buffer(count)?;
    if x.len() == count && y.len() == count {
        let size = compute::range();
        for (x, y) in x.chunks(size).zip(y.chunks(size)) {
            result.extend(x.iter().zip(y).map(|(&x, &y)| f(x, y)));
            compute::check()?;
        }
    } else if let (&[y], true) = (y, x.len() == count) {
        return map(x, |x| f(x, y));
    } else if let (&[x], true) = (x, y.len() == count) {
        return map(y, |y| f(x, y));
    } else {
        let walks = [&broadcast_walk(x_shape, out), &broadcast_walk(y_shape, out)];
        lockstep(walks, |[i, j], [di, dj], count| {
            result.extend((0..count).map(|n| f(x[at(i, di, n)], y[at(j, dj, n)])));
        })?;
    }
    Ok(result)
}
