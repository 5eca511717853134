//! Windows over the two middle axes of an NHWC tensor.

use crate::{array::buffer, aval::Shape, error::Error};

/// A pooling window, checked by `infer`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) size: [usize; 2],
    pub(crate) stride: [usize; 2],
    /// Cells of padding before the first row and column.
    pub(crate) before: [usize; 2],
}

/// For each output element the position in the input of the window's largest element: the first of equals, and NaN
/// above all, as TensorFlow chooses.
pub(crate) fn argmax<T: PartialOrd + Copy>(
    x: &[T],
    shape: &Shape,
    out: &Shape,
    window: Window,
) -> Result<Vec<usize>, Error> {
    let (h, w, c) = (shape[1], shape[2], shape[3]);
    let mut result = buffer(out.elements())?;
    for n in 0..out[0] {
        for oy in 0..out[1] {
            for ox in 0..out[2] {
                let rows = range(oy, 0, h, window);
                let columns = range(ox, 1, w, window);
                for ch in 0..c {
                    let at = |y: usize, x: usize| ((n * h + y) * w + x) * c + ch;
                    let cells = rows.clone().flat_map(|y| columns.clone().map(move |x| (y, x)));
                    let best = cells.map(|(y, x)| at(y, x)).reduce(|best, next| {
                        let larger = x[next] > x[best];
                        if larger { next } else { best }
                    });
                    result.push(best.ok_or_else(|| Error::bug("an empty window"))?);
                }
            }
        }
    }
    Ok(result)
}

fn range(out: usize, axis: usize, extent: usize, window: Window) -> std::ops::Range<usize> {
    let start = out * window.stride[axis];
    let end = (start + window.size[axis]).saturating_sub(window.before[axis]).min(extent);
    start.saturating_sub(window.before[axis])..end
}
