//! Walking a block of memory by extents and strides: transposes, broadcasts and slices are all one copy.

use smallvec::SmallVec;

use crate::{array::buffer, error::Error};

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

    /// Calls `visit(offset, stride, count)` for each run along the last axis, in row-major order.
    pub(crate) fn runs(&self, mut visit: impl FnMut(isize, isize, usize)) {
        lockstep([self], |[offset], [stride], count| visit(offset, stride, count));
    }

    /// Calls `visit(offset)` for each element, in row-major order.
    pub(crate) fn each(&self, mut visit: impl FnMut(usize)) {
        self.runs(|offset, stride, count| {
            let mut at = offset;
            for _ in 0..count {
                visit(at.unsigned_abs());
                at += stride;
            }
        });
    }
}

/// Goes through walks of one shape at the same time: calls `visit(offsets, strides, count)` for each run along the last
/// axis, in row-major order.
pub(crate) fn lockstep<const N: usize>(
    walks: [&Walk; N],
    mut visit: impl FnMut([isize; N], [isize; N], usize),
) {
    let shape = &walks[0].shape;
    if shape.contains(&0) {
        return;
    }
    let mut offsets = walks.map(|walk| walk.offset);
    let Some(last) = shape.len().checked_sub(1) else { return visit(offsets, [1; N], 1) };
    let mut index: SmallVec<[usize; 8]> = SmallVec::from_elem(0, last);
    loop {
        visit(offsets, walks.map(|walk| walk.strides[last]), shape[last]);
        let mut axis = last;
        loop {
            let Some(next) = axis.checked_sub(1) else { return };
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
pub(crate) fn copy<T: Copy>(from: &[T], walk: &Walk) -> Result<Vec<T>, Error> {
    let mut out = buffer(walk.shape.iter().product())?;
    walk.runs(|offset, stride, count| {
        let start = offset.unsigned_abs();
        match stride {
            1 => out.extend_from_slice(&from[start..start + count]),
            0 => out.extend(std::iter::repeat_n(from[start], count)),
            _ => {
                let mut at = offset;
                out.extend((0..count).map(|_| {
                    let value = from[at.unsigned_abs()];
                    at += stride;
                    value
                }));
            }
        }
    });
    Ok(out)
}
