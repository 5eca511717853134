//! Ordering along an axis. NaN counts as larger than every number, and equal elements keep their order.

use std::cmp::Ordering;

use crate::{array::buffer, aval::Shape, error::Error, kernels::real::Number};

/// Extents before an axis, along it, and behind it.
pub(crate) fn around(shape: &Shape, axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// The order of two elements.
pub(crate) fn compare<T: Number>(x: T, y: T) -> Ordering {
    x.partial_cmp(&y).unwrap_or_else(|| x.is_nan().cmp(&y.is_nan()))
}

/// For each line along an axis the positions of its first `count` elements in the order.
pub(crate) fn argsort<T: Number>(
    x: &[T],
    shape: &Shape,
    axis: usize,
    descending: bool,
    count: usize,
) -> Result<Vec<i64>, Error> {
    let (before, extent, behind) = around(shape, axis);
    let mut line: Vec<(i64, T)> = buffer(extent)?;
    let mut out = buffer(before * count * behind)?;
    out.resize(before * count * behind, 0);
    if out.is_empty() {
        // The other extents may be huge beside a zero.
        return Ok(out);
    }
    // The position decides between equals, so that the order is stable without the memory that a stable sort takes.
    let order = |(i, x): &(i64, T), (j, y): &(i64, T)| {
        let order = if descending { compare(*y, *x) } else { compare(*x, *y) };
        order.then(i.cmp(j))
    };
    for block in 0..before {
        for place in 0..behind {
            let start = block * extent * behind + place;
            line.clear();
            line.extend((0..).zip((0..extent).map(|i| x[start + i * behind])));
            if count < extent && count > 0 {
                line.select_nth_unstable_by(count - 1, order);
                line.truncate(count);
            }
            line.sort_unstable_by(order);
            for (rank, (position, _)) in line[..count].iter().enumerate() {
                out[(block * count + rank) * behind + place] = *position;
            }
        }
    }
    Ok(out)
}

/// For each value the number of elements of its sorted line before the place where it would be inserted: before equal
/// elements, or after them if `right`.
pub(crate) fn insertion_points<T: Number>(
    (sorted, extent): (&[T], usize),
    (values, count): (&[T], usize),
    right: bool,
) -> Result<Vec<i64>, Error> {
    let mut out = buffer(values.len())?;
    for (i, &value) in values.iter().enumerate() {
        let line = i / count * extent;
        let before = |&x: &T| match compare(x, value) {
            Ordering::Less => true,
            Ordering::Equal => right,
            Ordering::Greater => false,
        };
        let place = sorted[line..line + extent].partition_point(before);
        out.push(i64::try_from(place).unwrap_or(i64::MAX));
    }
    Ok(out)
}
