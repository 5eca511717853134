//! Walking a block of memory by extents and strides: transposes, broadcasts and slices are all one copy.

use smallvec::SmallVec;

use crate::{
    array::{Element, overwritten},
    compute::{self, Looks},
    error::Error,
};

/// Extents and strides, in elements, of a walk through a block of memory.
#[derive(Clone, Debug)]
pub(crate) struct Walk {
    pub(crate) shape: SmallVec<[usize; 8]>,
    pub(crate) strides: SmallVec<[isize; 8]>,
    pub(crate) offset: isize,
}

impl Walk {
    pub(crate) fn new(
        shape: &[usize],
        strides: impl IntoIterator<Item = isize>,
        offset: isize,
    ) -> Self {
        Self { shape: shape.into(), strides: strides.into_iter().collect(), offset }
    }

    /// Calls `visit(offset, stride, count)` for each run along the last axis, in row-major order. Long runs come in pieces.
    pub(crate) fn runs(&self, mut visit: impl FnMut(isize, isize, usize)) -> Result<(), Error> {
        lockstep([self], |[offset], [stride], count| visit(offset, stride, count))
    }

    /// Calls `visit(offset)` for each element, in row-major order.
    pub(crate) fn each(&self, mut visit: impl FnMut(usize)) -> Result<(), Error> {
        self.runs(|offset, stride, count| {
            let mut at = offset;
            for _ in 0..count {
                visit(at.unsigned_abs());
                at += stride;
            }
        })
    }

    /// The same, until a visit fails.
    pub(crate) fn try_each(
        &self,
        mut visit: impl FnMut(usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        self.each(|at| {
            if result.is_ok() {
                result = visit(at);
            }
        })?;
        result
    }
}

/// Goes through walks of one shape at the same time: calls `visit(offsets, strides, count)` for each run along the last
/// axis, in row-major order. It looks at the flag now and then, and long runs come in pieces.
pub(crate) fn lockstep<const N: usize>(
    walks: [&Walk; N],
    mut visit: impl FnMut([isize; N], [isize; N], usize),
) -> Result<(), Error> {
    let shape = &walks[0].shape;
    if shape.contains(&0) {
        return Ok(());
    }
    let mut offsets = walks.map(|walk| walk.offset);
    let Some(last) = shape.len().checked_sub(1) else {
        visit(offsets, [1; N], 1);
        return Ok(());
    };
    let (mut looks, size) = (Looks::default(), compute::range());
    let strides = walks.map(|walk| walk.strides[last]);
    let mut index: SmallVec<[usize; 8]> = SmallVec::from_elem(0, last);
    loop {
        let mut starts = offsets;
        let mut rest = shape[last];
        while rest > 0 {
            let count = rest.min(size);
            visit(starts, strides, count);
            looks.after(count)?;
            rest -= count;
            for (start, stride) in starts.iter_mut().zip(strides) {
                *start += stride * signed(count);
            }
        }
        let mut axis = last;
        loop {
            let Some(next) = axis.checked_sub(1) else { return Ok(()) };
            axis = next;
            index[axis] += 1;
            for (offset, walk) in offsets.iter_mut().zip(walks) {
                *offset += walk.strides[axis];
            }
            if index[axis] < shape[axis] {
                break;
            }
            for (offset, walk) in offsets.iter_mut().zip(walks) {
                *offset -= walk.strides[axis] * signed(shape[axis]);
            }
            index[axis] = 0;
        }
    }
}

/// The place of element `i` of a run.
pub(crate) fn at(offset: isize, stride: isize, i: usize) -> usize {
    (offset + stride * signed(i)).unsigned_abs()
}

/// An extent as a signed number; extents are far below the limit.
pub(crate) fn signed(n: usize) -> isize {
    isize::try_from(n).unwrap_or(isize::MAX)
}

/// Copies what a walk visits.
pub(crate) fn copy<T: Element>(from: &[T], walk: &Walk) -> Result<Vec<T>, Error> {
    let count = walk.shape.iter().product();
    let mut out = overwritten(count)?;
    let rows = walk.shape.first().copied().unwrap_or(1).max(1);
    let size = rows.div_ceil(compute::parts(compute::elements(count), rows));
    let chunks = out.chunks_mut((count / rows * size).max(1)).zip((0..rows).step_by(size));
    compute::each(chunks.collect(), |(chunk, first)| {
        let mut part = walk.clone();
        if let (Some(extent), Some(stride)) = (part.shape.first_mut(), part.strides.first()) {
            *extent = size.min(rows - first);
            part.offset += stride * signed(first);
        }
        fill(from, &part, chunk)
    })?;
    Ok(out)
}

fn fill<T: Copy + Default>(from: &[T], walk: &Walk, mut rest: &mut [T]) -> Result<(), Error> {
    if let ([outer @ .., rows, columns], [outer_strides @ .., 1, stride]) =
        (&walk.shape[..], &walk.strides[..])
        && *stride > 1
    {
        let outer = Walk::new(outer, outer_strides.iter().copied(), walk.offset);
        return outer.try_each(|start| {
            let (matrix, after) = std::mem::take(&mut rest).split_at_mut(rows * columns);
            rest = after;
            transpose(&from[start..], stride.unsigned_abs(), (*rows, *columns), matrix);
            compute::check()
        });
    }
    if let ([outer @ .., rows, run @ 1..=SHORT], [outer_strides @ .., stride, 1]) =
        (&walk.shape[..], &walk.strides[..])
        && *stride >= 0
    {
        let outer = Walk::new(outer, outer_strides.iter().copied(), walk.offset);
        let (stride, at_once) = (stride.unsigned_abs(), compute::range().div_ceil(*run));
        return outer.try_each(|start| {
            let (runs, after) = std::mem::take(&mut rest).split_at_mut(rows * run);
            rest = after;
            for (runs, first) in runs.chunks_mut(at_once * run).zip((0..).step_by(at_once)) {
                copy_runs(&from[start + first * stride..], stride, *run, runs);
                compute::check()?;
            }
            Ok(())
        });
    }
    walk.runs(|offset, stride, count| {
        let (run, after) = std::mem::take(&mut rest).split_at_mut(count);
        rest = after;
        let start = offset.unsigned_abs();
        match stride {
            1 => run.copy_from_slice(&from[start..start + count]),
            0 => run.fill(from[start]),
            _ => {
                let mut at = offset;
                for place in run {
                    *place = from[at.unsigned_abs()];
                    at += stride;
                }
            }
        }
    })
}

/// Longest run that is copied without asking for the next one by all its indices, which takes as long as the copy.
const SHORT: usize = 256;

/// Runs of elements that begin at one distance from each other.
fn copy_runs<T: Copy>(from: &[T], stride: usize, run: usize, out: &mut [T]) {
    for (row, out) in out.chunks_exact_mut(run).enumerate() {
        let from = &from[row * stride..][..run];
        let ((lines, rest), (out, out_rest)) =
            (from.as_chunks::<SQUARE>(), out.as_chunks_mut::<SQUARE>());
        // Of known length, so that no function is called.
        for (out, line) in out.iter_mut().zip(lines) {
            *out = *line;
        }
        for (out, &x) in out_rest.iter_mut().zip(rest) {
            *out = x;
        }
    }
}

/// Side of the squares in which matrices are transposed: as many elements as a line of the cache has.
const SQUARE: usize = 16;

/// Columns that lie `stride` apart, as rows. Square by square, so that a line of the cache is wholly read or written at once:
/// where strides are powers of two, it would not stay until its next element comes.
fn transpose<T: Copy + Default>(
    from: &[T],
    stride: usize,
    (rows, columns): (usize, usize),
    out: &mut [T],
) {
    let mut square = [[T::default(); SQUARE]; SQUARE];
    for first_row in (0..rows).step_by(SQUARE) {
        let height = SQUARE.min(rows - first_row);
        for first in (0..columns).step_by(SQUARE) {
            let width = SQUARE.min(columns - first);
            for column in 0..width {
                let line = &from[(first + column) * stride + first_row..][..height];
                for (row, &x) in square.iter_mut().zip(line) {
                    row[column] = x;
                }
            }
            for (row, from) in square[..height].iter().enumerate() {
                let place = (first_row + row) * columns + first;
                out[place..place + width].copy_from_slice(&from[..width]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SHORT, Walk, copy};

    /// Of a part of a line, of some lines and a part of one, and too long to count as short; and one over the other.
    #[test]
    fn runs_are_copied() {
        let x: Vec<i32> = (0..).take(5000).collect();
        for (run, stride) in [(3, 7), (16, 64), (37, 40), (SHORT + 1, SHORT + 3), (5, 2), (4, 0)] {
            let (stack, rows) = (2, 5);
            let strides = [2000, stride, 1].map(super::signed);
            let y = copy(&x, &Walk::new(&[stack, rows, run], strides, 9)).unwrap();
            let places = (0..stack).flat_map(|i| {
                (0..rows).flat_map(move |row| {
                    (0..run).map(move |column| 9 + i * 2000 + row * stride + column)
                })
            });
            let expected: Vec<i32> = places.map(|at| x[at]).collect();
            assert_eq!(y, expected, "runs of {run} at {stride}");
        }
    }

    /// Larger than a square, and no multiple of one.
    #[test]
    fn matrices_are_transposed() {
        let (stack, rows, columns) = (3, 37, 50);
        let x: Vec<i64> = (0..).take(stack * rows * columns).collect();
        let strides = [rows * columns, 1, columns].map(super::signed);
        let y = copy(&x, &Walk::new(&[stack, columns, rows], strides, 0)).unwrap();
        for (at, &found) in y.iter().enumerate() {
            let (matrix, column, row) = (at / (columns * rows), at / rows % columns, at % rows);
            let expected = x[(matrix * rows + row) * columns + column];
            assert_eq!(found, expected, "at {at}");
        }
    }
}
