//! Ordering along an axis. NaN counts as larger than every number, and equal elements keep their order.

use std::cmp::Ordering;

use crate::{
    array::{buffer, filled},
    aval::Shape,
    compute::{self, Looks},
    error::Error,
    kernels::{
        columns::Columns,
        folds::Folding,
        lanes::{Choice, each_level},
        real::Number,
        reduce,
    },
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

/// For each line along an axis, which is not empty, where its extreme is: the place of the first element that is equal to what
/// `choose` finds, from `init` on, or that is NaN as well.
pub(crate) fn extremes<T: Number>(
    x: &[T],
    shape: &Shape,
    axis: usize,
    init: T,
    choose: impl Fn(T, T) -> T + Sync,
) -> Result<Vec<i64>, Error> {
    let finish = |extreme| extreme;
    let folding = Folding { init, step: Choice(&choose), merge: &choose, finish };
    let extremes = reduce::fold(x, shape, &[axis], folding)?;
    if let Some(columns) = Columns::of(shape, &[axis]) {
        return columns.fold(MISSING, |piece, places| {
            let extremes = &extremes[piece.columns];
            find(&x[piece.elements], extremes, signed_position(piece.row), places);
        });
    }
    let extent = shape[axis];
    reduce::in_parts(extremes.len(), extent, |lines, places| {
        let mut looks = Looks::default();
        for line in lines {
            places.push(place(&x[line * extent..(line + 1) * extent], extremes[line])?);
            looks.after(extent)?;
        }
        Ok(())
    })
}

/// The place of what was not found yet.
const MISSING: i64 = -1;

/// Whether two elements are equal, or both NaN.
fn is_same<T: Number>(x: T, y: T) -> bool {
    x == y || (x.is_nan() && y.is_nan())
}

/// The place of an element of a line.
fn place<T: Number>(line: &[T], x: T) -> Result<i64, Error> {
    for range in compute::ranges(line.len()) {
        let range = range?;
        if let Some(at) = first_same(&line[range.clone()], x) {
            return Ok(signed_position(range.start + at));
        }
    }
    Err(Error::bug("an extreme is one of the elements"))
}

each_level! {
    fn first_same<T: Number>(line: &[T], x: T) -> Option<usize> {
        // Many at a time without a branch, as vectors; then bits of those among which it is.
        let (pieces, rest) = line.as_chunks::<64>();
        let places = |piece: &[T]| {
            let bits = piece.iter().enumerate();
            bits.fold(0_u64, |bits, (i, &y)| bits | (u64::from(is_same(x, y)) << i))
        };
        for (piece, first) in pieces.iter().zip((0..).step_by(64)) {
            if piece.iter().fold(false, |any, &y| any | is_same(x, y)) {
                return Some(first + places(piece).trailing_zeros() as usize);
            }
        }
        let places = places(rest);
        (places != 0).then(|| line.len() - rest.len() + places.trailing_zeros() as usize)
    }
}

each_level! {
    /// Notes a row for the columns whose extreme was not found before and is in it.
    fn find<T: Number>(x: &[T], extremes: &[T], row: i64, places: &mut [i64]) {
        for ((&x, &extreme), place) in x.iter().zip(extremes).zip(places) {
            let is_first = *place == MISSING && is_same(x, extreme);
            *place = if is_first { row } else { *place };
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Extents that are no multiple of what is compared at once, a single row and a single column, more columns than are
    /// gone down together, a line that is searched in pieces; and none.
    const SHAPES: [&[usize]; 9] =
        [&[1], &[1, 9], &[9, 1], &[5, 63], &[7, 130], &[3, 5, 7], &[3, 1030], &[70_001], &[0, 4]];

    type Beats<T> = fn(T, T) -> bool;

    fn check<T: Number>(number: impl Fn(usize) -> T) {
        let choices: [(T, Beats<T>); 2] = [(T::LOWEST, |x, y| x > y), (T::HIGHEST, |x, y| x < y)];
        for (shape, (init, beats)) in
            SHAPES.into_iter().flat_map(|shape| choices.map(|choice| (shape, choice)))
        {
            let shape = Shape::from(shape);
            let x: Vec<T> = (0..shape.elements()).map(&number).collect();
            let better = |x: T, best: T| beats(x, best) || (x.is_nan() && !best.is_nan());
            for axis in (0..shape.len()).filter(|&axis| shape[axis] > 0) {
                let (before, extent, behind) = around(&shape, axis);
                let mut expected = vec![];
                for (block, place) in (0..before).flat_map(|i| (0..behind).map(move |j| (i, j))) {
                    let element = |i: usize| x[(block * extent + i) * behind + place];
                    let best = (1..extent).fold(0, |best, i| {
                        if better(element(i), element(best)) { i } else { best }
                    });
                    expected.push(signed_position(best));
                }
                let choose = |a: T, x: T| if better(x, a) { x } else { a };
                let places = extremes(&x, &shape, axis, init, choose).unwrap();
                assert!(places == expected, "{} {shape:?} along {axis}", T::DTYPE);
            }
        }
    }

    #[test]
    fn extremes_are_the_first_of_equals_or_the_first_nan() {
        let small = |i: usize| i32::try_from(i * 7919 % 11).unwrap();
        check(|i| i64::from(small(i)) << 40);
        check(small);
        check(|i| f64::from(small(i)));
        check(|_| 0.0_f32);
        check(|_| f32::NEG_INFINITY);
        check(|i| if i.is_multiple_of(2) { 0.0 } else { -0.0_f32 });
        check(|i| {
            if (i * 7919 % 41) == 0 { f32::NAN } else { f32::from(i8::try_from(small(i)).unwrap()) }
        });
    }
}
