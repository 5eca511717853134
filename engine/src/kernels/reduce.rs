//! Folding along axes, in an order that follows from the shape alone.

use std::ops::Range;

use smallvec::SmallVec;

use crate::{
    array::buffer,
    aval::Shape,
    compute::{self, Looks},
    error::Error,
    kernels::{
        folds::{Folding, Folds},
        lanes::{self, Step},
        strided::{Walk, at, signed},
    },
};

/// The walk over the axes that stay and the walk over those that go.
pub(crate) fn split(shape: &Shape, axes: &[usize]) -> (Walk, Walk) {
    let strides = shape.strides();
    let part = |keep: bool| {
        let mut runs: SmallVec<[(usize, usize); 8]> = SmallVec::new();
        for axis in (0..shape.len()).filter(|i| axes.contains(i) != keep) {
            match runs.last_mut() {
                // Neighbours are walked as one.
                Some(last) if last.1 == strides[axis] * shape[axis] => {
                    *last = (last.0 * shape[axis], strides[axis]);
                }
                _ => runs.push((shape[axis], strides[axis])),
            }
        }
        let extents: SmallVec<[usize; 8]> = runs.iter().map(|run| run.0).collect();
        Walk::new(&extents, runs.iter().map(|run| signed(run.1)), 0)
    };
    (part(true), part(false))
}

/// The folded elements for each place that stays.
pub(crate) fn fold<T: Copy + Sync, A: Copy + Sync, U: Send>(
    x: &[T],
    shape: &Shape,
    axes: &[usize],
    folding: Folding<
        A,
        impl Step<A, T> + Copy + Sync,
        impl Fn(A, A) -> A + Copy + Sync,
        impl Fn(A) -> U + Copy + Sync,
    >,
) -> Result<Vec<U>, Error> {
    let (kept, mut reduced) = split(shape, axes);
    let kept_count = kept.shape.iter().product();
    let neighbours = neighbours(shape, axes);
    if let Some([_, count, inner]) = neighbours
        && inner > 0
    {
        return in_parts(kept_count, count, |places: Range<usize>, out: &mut Vec<U>| {
            if count == 0 {
                out.extend(places.map(|_| (folding.finish)(folding.init)));
                return Ok(());
            }
            fold_places(x, (count, inner), places, folding, out)
        });
    }
    let mut out = buffer(kept_count)?;
    if neighbours.is_some() {
        return Ok(out);
    }
    let Folding { init, step, merge, finish } = folding;
    let mut looks = Looks::default();
    if let (&[ref outer @ .., inner], &[ref strides @ .., 1]) = (&kept.shape[..], &kept.strides[..])
    {
        // Rows of places that lie side by side are read together.
        let mut columns = buffer(inner)?;
        Walk::new(outer, strides.iter().copied(), 0).try_each(|start| {
            columns.clear();
            columns.resize(inner, init);
            reduced.offset = signed(start);
            reduced.try_each(|at| {
                lanes::fold_columns(&x[at..at + inner], &mut columns, |acc, x| step.one(acc, x));
                looks.after(inner)
            })?;
            out.extend(columns.iter().map(|&acc| finish(acc)));
            Ok(())
        })?;
        return Ok(out);
    }
    kept.try_each(|start| {
        reduced.offset = signed(start);
        let mut acc = init;
        reduced.runs(|offset, stride, count| {
            let start = offset.unsigned_abs();
            acc = if stride == 1 {
                merge(acc, lanes::fold(&x[start..start + count], init, &step, merge))
            } else {
                (0..count).fold(acc, |acc, i| step.one(acc, x[at(offset, stride, i)]))
            };
        })?;
        out.push(finish(acc));
        looks.after(reduced.shape.iter().product())
    })?;
    Ok(out)
}

/// Folds the columns with these numbers of matrices of so many rows and columns that follow on each other.
fn fold_places<T: Copy, A: Copy, U>(
    x: &[T],
    (rows, width): (usize, usize),
    places: Range<usize>,
    folding: Folding<A, impl Step<A, T> + Copy, impl Fn(A, A) -> A + Copy, impl Fn(A) -> U + Copy>,
    out: &mut Vec<U>,
) -> Result<(), Error> {
    let mut next = places.start;
    while next < places.end {
        let (matrix, column) = (next / width, next % width);
        let left = places.end - next;
        let x = &x[matrix * rows * width..];
        let results = std::mem::take(out);
        if column == 0 && left >= width {
            let matrices = left / width;
            let mut folds = Folds::new(folding, [matrices, rows, width], results)?;
            let (size, line) = (compute::range(), if width == 1 { rows } else { width });
            let size = if line <= size { size.next_multiple_of(line) } else { size };
            for piece in x[..matrices * rows * width].chunks(size) {
                compute::check()?;
                folds.take(piece);
            }
            *out = folds.results;
            next += matrices * width;
        } else {
            let taken = (width - column).min(left);
            let mut folds = Folds::columns(folding, [rows, taken], results)?;
            let mut looks = Looks::default();
            for row in x[..rows * width].chunks_exact(width) {
                looks.after(taken)?;
                folds.take(&row[column..column + taken]);
            }
            *out = folds.results;
            next += taken;
        }
    }
    Ok(())
}

/// Fills so many places in parts, each of which takes `count` elements. `fill` appends the results of a range of places.
pub(crate) fn in_parts<U: Send>(
    places: usize,
    count: usize,
    fill: impl Fn(Range<usize>, &mut Vec<U>) -> Result<(), Error> + Sync,
) -> Result<Vec<U>, Error> {
    let mut out = buffer(places)?;
    let work = compute::elements(places.saturating_mul(count));
    // Columns side by side are read together, so a part takes many.
    let parts = compute::parts(work, places.div_ceil(64));
    if parts == 1 {
        fill(0..places, &mut out)?;
        return Ok(out);
    }
    let size = places.div_ceil(parts);
    let ranges = (0..places).step_by(size).map(|first| first..places.min(first + size));
    let mut filled: Vec<Vec<U>> = ranges.clone().map(|_| Vec::new()).collect();
    compute::each(ranges.zip(&mut filled).collect(), |(range, filled)| {
        *filled = buffer(range.len())?;
        fill(range, filled)
    })?;
    for mut part in filled {
        out.append(&mut part);
    }
    Ok(out)
}

/// How many elements are folded for each result, if these follow on each other.
pub(crate) fn rows(shape: &Shape, axes: &[usize]) -> Option<usize> {
    neighbours(shape, axes).filter(|[_, _, inner]| *inner == 1).map(|[_, count, _]| count)
}

/// Sums of rows of so many elements, or their means: what the ops of that name give, into memory that is there.
pub(crate) fn sum_rows(x: &[f32], count: usize, mean: bool, out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = sum(&x[i * count..(i + 1) * count], mean);
    }
}

/// The sum of a row, or its mean.
pub(crate) fn sum(row: &[f32], mean: bool) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a row has far fewer than 2^52 elements")]
    let divisor = if mean { row.len() as f64 } else { 1.0 };
    let sum = lanes::fold(row, 0.0, &|sum, x: f32| sum + f64::from(x), |a, b| a + b);
    #[expect(clippy::cast_possible_truncation, reason = "rounded as the ops round")]
    let rounded = (sum / divisor) as f32;
    rounded
}

/// Extents of what lies outside, in and inside of the reduced axes, if these are neighbours. Axes of extent 1 count as
/// whatever suits.
pub(crate) fn neighbours(shape: &Shape, axes: &[usize]) -> Option<[usize; 3]> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{lanes::Choice, real::Number};

    /// Axes that are not neighbours, with and without the last.
    #[test]
    fn axes_that_are_apart_are_summed() {
        let shape = Shape::from([3, 4, 5, 37]);
        let x: Vec<i64> = (0..).take(shape.elements()).map(|i: i64| i * 7919 % 1009).collect();
        for axes in [&[0, 2][..], &[0, 2, 3], &[1, 3], &[0, 3]] {
            let folding =
                Folding { init: 0, step: |sum, x| sum + x, merge: |a, b| a + b, finish: |sum| sum };
            let sums = fold(&x, &shape, axes, folding).unwrap();
            let mut expected = vec![0; sums.len()];
            for (i, &x) in x.iter().enumerate() {
                let (mut rest, mut place, mut extent) = (i, 0, 1);
                for axis in (0..4).rev() {
                    if !axes.contains(&axis) {
                        place += rest % shape[axis] * extent;
                        extent *= shape[axis];
                    }
                    rest /= shape[axis];
                }
                expected[place] += x;
            }
            assert_eq!(sums, expected, "over {axes:?}");
        }
    }

    /// Elements that are compared with each other first give what they give one by one, also which of two zeros and which
    /// NaN it is.
    #[test]
    fn choices_are_what_they_are_one_by_one() {
        fn compare<T: Number>(numbers: impl Fn(usize) -> T, bits: impl Fn(T) -> u64 + Sync) {
            let larger = |a: T, x: T| if a >= x || a.is_nan() { a } else { x };
            for width in [1, 15, 16, 17, 63, 64, 65, 130, 321] {
                let x: Vec<T> = (0..3 * width).map(&numbers).collect();
                let shape = Shape::from([3, width]);
                let (init, merge, finish) = (T::LOWEST, larger, &bits);
                let grouped = Folding { init, step: Choice(larger), merge, finish };
                let grouped = fold(&x, &shape, &[1], grouped).unwrap();
                let single = Folding { init, step: larger, merge, finish };
                let single = fold(&x, &shape, &[1], single).unwrap();
                assert_eq!(grouped, single, "{} of rows of {width}", T::DTYPE);
            }
        }
        let float = |i: usize| match i * 7919 % 251 {
            // One of many NaNs.
            0 => f32::from_bits(0x7fc0_0000 + u32::try_from(i).unwrap()),
            1..100 => 0.0,
            100..200 => -0.0,
            _ => -1.0,
        };
        compare(float, |x| u64::from(x.to_bits()));
        compare(|i| f64::from(float(i + 1)), f64::to_bits);
        compare(|i| i32::try_from(i * 7919 % 1009).unwrap(), |x| x.unsigned_abs().into());
        compare(|i| i64::try_from(i * 7919 % 1009).unwrap(), i64::unsigned_abs);
    }
}
