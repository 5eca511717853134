//! Ordering along an axis. NaN counts as larger than every number, and equal elements keep their order.

use std::cmp::Ordering;

use crate::{
    array::{buffer, filled},
    aval::Shape,
    compute,
    error::Error,
    kernels::real::Number,
};

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
    let mut spare = buffer(if extent > compute::range() { extent } else { 0 })?;
    let mut out = filled(before * count * behind, 0)?;
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
            for range in compute::ranges(extent) {
                let range = range?;
                let elements = range.clone().map(|i| x[start + i * behind]);
                line.extend((signed_position(range.start)..).zip(elements));
            }
            first(&mut line, &mut spare, count, order)?;
            for range in compute::ranges(count) {
                for rank in range? {
                    out[(block * count + rank) * behind + place] = line[rank].0;
                }
            }
        }
    }
    Ok(out)
}

fn signed_position(position: usize) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}

/// Puts the first `count` elements into their order, and forgets the others. Runs are sorted and then merged two by two, so
/// that the flag is looked at between; equals do not exist. `spare` has as much room as the line, if that is longer than
/// a run.
fn first<E: Copy>(
    line: &mut Vec<E>,
    spare: &mut Vec<E>,
    count: usize,
    order: impl Fn(&E, &E) -> Ordering,
) -> Result<(), Error> {
    let (mut kept, size) = (0, compute::range());
    for start in (0..line.len()).step_by(size) {
        compute::check()?;
        let end = line.len().min(start + size);
        let run = &mut line[start..end];
        let most = count.min(run.len());
        if most < run.len() {
            run.select_nth_unstable_by(most, &order);
        }
        run[..most].sort_unstable_by(&order);
        line.copy_within(start..start + most, kept);
        kept += most;
    }
    line.truncate(kept);
    let mut length = count.min(size);
    while length < line.len() {
        spare.clear();
        for pair in line.chunks(2 * length) {
            let (mut left, mut right) = pair.split_at(length.min(pair.len()));
            for range in compute::ranges(pair.len().min(count)) {
                for _ in range? {
                    let is_left = match (left, right) {
                        ([x, ..], [y, ..]) => order(x, y).is_lt(),
                        (left, _) => !left.is_empty(),
                    };
                    let from = if is_left { &mut left } else { &mut right };
                    if let Some((next, rest)) = from.split_first() {
                        spare.push(*next);
                        *from = rest;
                    }
                }
            }
        }
        std::mem::swap(line, spare);
        length = (2 * length).min(count);
    }
    Ok(())
}

/// For each value the number of elements of its sorted line before the place where it would be inserted: before equal
/// elements, or after them if `right`.
pub(crate) fn insertion_points<T: Number>(
    (sorted, extent): (&[T], usize),
    (values, count): (&[T], usize),
    right: bool,
) -> Result<Vec<i64>, Error> {
    let mut out = buffer(values.len())?;
    for range in compute::ranges(values.len()) {
        for i in range? {
            let line = i / count * extent;
            let before = |&x: &T| match compare(x, values[i]) {
                Ordering::Less => true,
                Ordering::Equal => right,
                Ordering::Greater => false,
            };
            out.push(signed_position(sorted[line..line + extent].partition_point(before)));
        }
    }
    Ok(out)
}
