//! Where heads lie: before places or behind them, in tensors whose batch axes broadcast.

use ndarray::{ArrayViewMut2, ArrayViewMut3, Axis};

use crate::{
    array::buffer,
    aval::Shape,
    error::Error,
    kernels::{
        matmul::misshapen,
        panel::Matrix,
        strided::{Walk, signed},
    },
};

/// Which axis is before the depth: the other one, of heads or of places, is before that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `[batch..., heads, places, depth]`; the axis of heads is one more of the batch and may be left out.
    HeadsFirst,
    /// `[batch..., places, heads, depth]`.
    PlacesFirst,
}

/// A shape taken apart: the axes of batch and heads, places, depth.
pub(crate) type Parts = (Shape, usize, usize);

impl Layout {
    /// The axis of places.
    fn places(self, rank: usize) -> Option<usize> {
        rank.checked_sub(if self == Self::HeadsFirst { 2 } else { 3 })
    }

    /// Batch and heads, places, and depth, if there are as many axes.
    pub(crate) fn parts(self, shape: &Shape) -> Option<Parts> {
        let places = self.places(shape.len())?;
        let mut heads = Shape::from(&shape[..shape.len() - 1]);
        heads.remove(places);
        Some((heads, shape[places], shape[shape.len() - 1]))
    }

    /// The shape of these parts.
    pub(crate) fn shape(self, (heads, places, depth): (&Shape, usize, usize)) -> Shape {
        let mut shape = heads.clone();
        shape.push(depth);
        shape.insert(self.places(shape.len() + 1).unwrap_or(0), places);
        shape
    }

    /// What a kernel writes, head by head: matrices whose rows are whole in memory.
    pub(super) fn heads_of<'a, T>(
        self,
        elements: &'a mut [T],
        heads: &[usize],
        (places, depth): (usize, usize),
    ) -> Result<Vec<ArrayViewMut2<'a, T>>, Error> {
        let between = match (self, heads.last()) {
            (Self::PlacesFirst, Some(&heads)) => heads,
            _ => 1,
        };
        let count = heads.iter().product();
        let mut all = buffer(count)?;
        if elements.is_empty() {
            let empty = || ArrayViewMut2::from_shape((places, depth), &mut []).map_err(misshapen);
            for _ in 0..count {
                all.push(empty()?);
            }
            return Ok(all);
        }
        for chunk in elements.chunks_mut(places * between * depth) {
            let extents = (places, between, depth);
            let mut rest = ArrayViewMut3::from_shape(extents, chunk).map_err(misshapen)?;
            for _ in 0..between {
                let (head, others) = rest.split_at(Axis(1), 1);
                all.push(head.index_axis_move(Axis(1), 0));
                rest = others;
            }
        }
        Ok(all)
    }
}

/// One matrix for each head, where it lies.
#[derive(Debug)]
pub(crate) struct Stack<'a, T> {
    elements: &'a [T],
    starts: Vec<usize>,
    row: usize,
    column: usize,
}

impl<'a, T> Stack<'a, T> {
    /// Queries, keys, values or what flows into results, broadcast to heads.
    pub(crate) fn new(
        elements: &'a [T],
        shape: &Shape,
        layout: Layout,
        heads: &Shape,
    ) -> Result<Self, Error> {
        let places = layout.places(shape.len());
        let places = places.ok_or_else(|| Error::bug("attention of too few axes"))?;
        let mut strides = shape.strides();
        if elements.is_empty() {
            // Rows of nothing, all of which begin where there is something to begin at.
            strides.fill(0);
        }
        let own = (0..shape.len() - 1).filter(|&axis| axis != places);
        let own: Vec<_> = own.map(|axis| (shape[axis], strides[axis])).collect();
        Ok(Self { elements, starts: starts(&own, heads)?, row: strides[places], column: 1 })
    }

    /// A mask, which broadcasts to heads, queries and keys. Where it does, its distances are 0.
    pub(crate) fn mask(elements: &'a [T], shape: &Shape, heads: &Shape) -> Result<Self, Error> {
        let strides = shape.strides();
        let axes: Vec<_> = shape.iter().copied().zip(strides).collect();
        let (own, last) = axes.split_at(axes.len().saturating_sub(2));
        let mut last =
            last.iter().rev().map(|&(extent, distance)| if extent == 1 { 0 } else { distance });
        let (column, row) = (last.next().unwrap_or(0), last.next().unwrap_or(0));
        Ok(Self { elements, starts: starts(own, heads)?, row, column })
    }

    /// The matrix of a head, from a row on.
    pub(super) fn head(&self, head: usize, first: usize) -> Matrix<'a, T> {
        let elements = &self.elements[self.starts[head] + first * self.row..];
        Matrix { elements, row: self.row, column: self.column }
    }
}

/// Where the matrix of each head begins, by extents and strides of axes that broadcast to those of heads.
fn starts(own: &[(usize, usize)], heads: &Shape) -> Result<Vec<usize>, Error> {
    let distance =
        |&(extent, stride): &(usize, usize)| if extent == 1 { 0 } else { signed(stride) };
    let missing = heads.len().saturating_sub(own.len());
    let strides = std::iter::repeat_n(0, missing).chain(own.iter().map(distance));
    let mut starts = buffer(heads.elements())?;
    Walk::new(heads, strides, 0).each(|start| starts.push(start))?;
    Ok(starts)
}
