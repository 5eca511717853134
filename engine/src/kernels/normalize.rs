//! Rows normalised by their mean and variance, and the gradients of that.
//!
//! Each row is gone over two or three times while it lies in the first-level cache. Everything is computed in double
//! precision and rounded once, but for scale and offset, which are applied as the elements are.

use crate::{
    array::{buffer, filled, overwritten},
    compute,
    error::Error,
    kernels::{
        lanes::{self, each_level},
        real::Real,
        rows,
    },
};

mod columns;

pub(crate) use columns::{columns, gradients as column_gradients};

/// Mean, and one over the root of the variance and epsilon.
#[derive(Clone, Copy)]
struct Moments {
    mean: f64,
    factor: f64,
}

impl Moments {
    #[expect(clippy::cast_precision_loss, reason = "a row has far fewer than 2^52 elements")]
    #[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
    #[inline(always)]
    fn of<T: Real>(row: &[T], epsilon: f64) -> Self {
        // Distances from one of the elements: their squares lose nothing to a mean that is far from 0.
        let first = row.first().map_or(0.0, |x| x.wide());
        let [sum, squares] = lanes::sums_here([row; 3], |[x, ..]| {
            let distance = x.wide() - first;
            [distance, distance * distance]
        });
        let count = row.len() as f64;
        let distance = sum / count;
        let variance = squares / count - distance * distance;
        // Rounding may leave less than nothing of equal elements.
        let variance = if variance < 0.0 { 0.0 } else { variance };
        Self { mean: first + distance, factor: (variance + epsilon).sqrt().recip() }
    }
}

/// `(x - mean) scale / sqrt(variance + epsilon) + offset` of rows as long as scale and offset.
pub(crate) fn rows<T: Real>(
    x: &[T],
    scale: &[T],
    offset: &[T],
    epsilon: f64,
) -> Result<Vec<T>, Error> {
    let width = scale.len().max(1);
    let mut out = overwritten(x.len())?;
    let size = rows::in_part(x.len() / width, 4 * compute::elements(x.len())) * width;
    compute::each(x.chunks(size).zip(out.chunks_mut(size)).collect(), |(x, out)| {
        part(x, scale, offset, epsilon, out);
        Ok(())
    })?;
    Ok(out)
}

each_level! {
    /// Some of the rows.
    fn part<T: Real>(x: &[T], scale: &[T], offset: &[T], epsilon: f64, out: &mut [T]) {
        let width = scale.len().max(1);
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let Moments { mean, factor } = Moments::of(x, epsilon);
            for (((out, &x), &scale), &offset) in out.iter_mut().zip(x).zip(scale).zip(offset) {
                *out = T::of((x.wide() - mean) * factor) * scale + offset;
            }
        }
    }
}

/// How rows lie: each of so many batches has a scale of its own and so many rows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) batches: usize,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

impl Layout {
    /// Rows whose parts in the gradients of scale and offset are summed first. It follows from the width, so that it does
    /// not matter who computes what.
    fn block(self) -> usize {
        (16_384 / self.width.max(1)).max(8)
    }

    /// Bytes of the sums of all blocks.
    pub(crate) fn workspace(self) -> u64 {
        let sums = self.batches.saturating_mul(self.rows.div_ceil(self.block()));
        (sums as u64).saturating_mul(self.width as u64).saturating_mul(16)
    }
}

/// The gradients with respect to x, scale and offset of what flows into the result of [`rows`].
pub(crate) fn gradients<T: Real>(
    layout: Layout,
    [x, scale, flow]: [&[T]; 3],
    epsilon: f64,
) -> Result<[Vec<T>; 3], Error> {
    let Layout { batches, rows, width } = layout;
    let (block, of_batch) = (layout.block(), rows.saturating_mul(width));
    let blocks = rows.div_ceil(block);
    let mut result: Vec<T> = overwritten(x.len())?;
    let mut sums: Vec<f64> = filled(2 * width * blocks * batches, 0.0)?;
    if !x.is_empty() {
        let results = result.chunks_mut(of_batch).flat_map(|batch| batch.chunks_mut(block * width));
        let tasks: Vec<_> = results.zip(sums.chunks_mut(2 * width)).enumerate().collect();
        let parts = compute::parts(8 * compute::elements(x.len()), tasks.len());
        compute::each(rows::shared_out(tasks, parts), |group| {
            for (i, (result, sums)) in group {
                let (batch, first) =
                    (i / blocks, i / blocks * of_batch + i % blocks * block * width);
                let here = first..first + result.len();
                let scale = &scale[batch * width..(batch + 1) * width];
                block_gradients(&x[here.clone()], scale, &flow[here], epsilon, result, sums);
            }
            Ok(())
        })?;
    }
    let mut parameters = [buffer(width * batches)?, buffer(width * batches)?];
    for batch in 0..batches {
        // The blocks of a batch are added from the first to the last.
        let of_batch = &sums[2 * width * blocks * batch..2 * width * blocks * (batch + 1)];
        for (i, parameters) in parameters.iter_mut().enumerate() {
            parameters.extend((0..width).map(|column| {
                let column = of_batch.iter().skip(i * width + column).step_by(2 * width);
                T::of(column.fold(0.0, |sum, x| sum + x))
            }));
        }
    }
    let [scales, offsets] = parameters;
    Ok([result, scales, offsets])
}

each_level! {
    /// The gradients of a block of rows: of x, and the sums for scale and for offset, one behind the other.
    fn block_gradients<T: Real>(
        x: &[T],
        scale: &[T],
        flow: &[T],
        epsilon: f64,
        result: &mut [T],
        sums: &mut [f64],
    ) {
        let width = scale.len();
        let (scales, offsets) = sums.split_at_mut(width);
        let rows = x.chunks_exact(width).zip(flow.chunks_exact(width));
        for ((x, flow), result) in rows.zip(result.chunks_exact_mut(width)) {
            let moments = Moments::of(x, epsilon);
            let Moments { mean, factor } = moments;
            let [all, along] = lanes::sums_here([x, scale, flow], |[x, scale, flow]| {
                let inflow = scale.wide() * flow.wide();
                [inflow, inflow * ((x.wide() - mean) * factor)]
            });
            row_gradient([x, scale, flow], (moments, all, along), result, scales, offsets);
        }
    }
}

each_level! {
    /// The gradient of a row's elements: with `g = scale flow` and the normalised `h` it is
    /// `factor (g - mean of g - h mean of g h)`. Adds the row's part to the sums for scale and offset.
    #[expect(clippy::cast_precision_loss, reason = "a row has far fewer than 2^52 elements")]
    fn row_gradient<T: Real>(
        [x, scale, flow]: [&[T]; 3],
        (Moments { mean, factor }, all, along): (Moments, f64, f64),
        result: &mut [T],
        scales: &mut [f64],
        offsets: &mut [f64],
    ) {
        let (all, along) = (all / x.len() as f64, along / x.len() as f64);
        let inputs = x.iter().zip(scale).zip(flow);
        let outputs = result.iter_mut().zip(scales).zip(offsets);
        for (((&x, &scale), &flow), ((result, scales), offsets)) in inputs.zip(outputs) {
            let (h, flow) = ((x.wide() - mean) * factor, flow.wide());
            *result = T::of(factor * (scale.wide() * flow - all - h * along));
            *scales += flow * h;
            *offsets += flow;
        }
    }
}
