//! Walking a tensor that broadcasts, block by block, in the order of the larger shape.

use smallvec::SmallVec;

use crate::aval::Shape;

/// A place in a tensor that repeats along axes, going forward in row-major order of the larger shape.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// Extents and strides, neighbours that can be walked as one joined. At least one axis, which the last is.
    axes: SmallVec<[(usize, usize); 8]>,
    index: SmallVec<[usize; 8]>,
    offset: usize,
    /// Whether every block has the same elements.
    pub(crate) repeats: bool,
    /// Whether a block has been written already.
    written: bool,
}

impl Cursor {
    /// Nothing, if the tensor has the larger shape already.
    pub(crate) fn new(shape: &[usize], out: &Shape) -> Option<Self> {
        if shape == &out[..] {
            return None;
        }
        let own = Shape::from(shape);
        let (strides, lead) = (own.strides(), out.len() - shape.len());
        let mut axes: SmallVec<[(usize, usize); 8]> = SmallVec::new();
        for (i, &extent) in out.iter().enumerate().filter(|&(_, &extent)| extent != 1) {
            let stride = match i.checked_sub(lead) {
                Some(axis) if shape[axis] != 1 => strides[axis],
                _ => 0,
            };
            match axes.last_mut() {
                Some(last) if last.1 == stride * extent => *last = (last.0 * extent, stride),
                _ => axes.push((extent, stride)),
            }
        }
        if axes.is_empty() {
            axes.push((1, 0));
        }
        let index = SmallVec::from_elem(0, axes.len());
        Some(Self { axes, index, offset: 0, repeats: false, written: false })
    }

    /// Goes to an element, counted in the larger shape.
    pub(crate) fn seek(&mut self, element: usize) {
        let mut rest = element;
        self.offset = 0;
        for (index, &(extent, stride)) in self.index.iter_mut().zip(&self.axes).rev() {
            *index = rest % extent.max(1);
            rest /= extent.max(1);
            self.offset += *index * stride;
        }
    }

    /// After how many elements the same ones come again, if that is so from beginning to end.
    pub(crate) fn period(&self) -> Option<usize> {
        match self.axes[..] {
            [(_, 0)] => Some(1),
            [(_, 0), (extent, 1)] => Some(extent),
            _ => None,
        }
    }

    /// Writes the next elements.
    pub(crate) fn fill<T: Copy>(&mut self, from: &[T], into: &mut [T]) {
        if self.repeats && std::mem::replace(&mut self.written, true) {
            return;
        }
        let last = self.axes.len() - 1;
        let (extent, stride) = self.axes[last];
        let mut rest = into;
        while !rest.is_empty() {
            let count = rest.len().min(extent - self.index[last]);
            let (run, after) = rest.split_at_mut(count);
            match stride {
                0 => run.fill(from[self.offset]),
                1 => run.copy_from_slice(&from[self.offset..self.offset + count]),
                _ => {
                    let strided = from[self.offset..].iter().step_by(stride);
                    run.iter_mut().zip(strided).for_each(|(into, &from)| *into = from);
                }
            }
            rest = after;
            self.index[last] += count;
            self.offset += count * stride;
            self.carry();
        }
    }

    /// Goes on along the outer axes where an inner one is at its end.
    fn carry(&mut self) {
        for axis in (0..self.axes.len()).rev() {
            let (extent, stride) = self.axes[axis];
            if self.index[axis] < extent {
                return;
            }
            self.index[axis] = 0;
            self.offset -= extent * stride;
            if let Some(outer) = axis.checked_sub(1) {
                self.index[outer] += 1;
                self.offset += self.axes[outer].1;
            }
        }
    }
}
