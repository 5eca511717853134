//! Softmax of rows, its logarithm, the cross-entropies, and the gradients of all of them.
//!
//! Each row is gone over a few times while it lies in the first-level cache. Sums are in double precision.

use crate::{
    array::overwritten,
    error::Error,
    kernels::{
        columns::{Columns, Piece},
        lanes::{self, each_level, fold_here},
        real::{Number, Real},
    },
};

/// An element type of softmax.
pub(crate) trait Element: Real + Number + Send + Sync {}

impl<T: Real + Number + Send + Sync> Element for T {}

/// Writes the exponentials of the distances from the largest element. Gives their sum and that element.
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
#[inline(always)]
fn exponentials<T: Element>(x: &[T], out: &mut [T]) -> (f64, T) {
    let top = top(x);
    for (out, &x) in out.iter_mut().zip(x) {
        *out = (x - top).exp_();
    }
    (sum(out), top)
}

/// The largest element.
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
#[inline(always)]
pub(super) fn top<T: Element>(x: &[T]) -> T {
    let larger = |a, x| if x > a { x } else { a };
    fold_here(x, T::LOWEST, &larger, &larger)
}

#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
#[inline(always)]
pub(super) fn sum<T: Element>(x: &[T]) -> f64 {
    fold_here(x, 0.0, &|sum, x: T| sum + x.wide(), &|a, b| a + b)
}

/// The sum of products.
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
#[inline(always)]
pub(super) fn dot<T: Element>(x: &[T], y: &[T], scratch: &mut [f64]) -> f64 {
    for ((product, &x), &y) in scratch.iter_mut().zip(x).zip(y) {
        *product = x.wide() * y.wide();
    }
    fold_here(scratch, 0.0, &|sum, x| sum + x, &|a, b| a + b)
}

each_level! {
    /// Softmax of rows.
    pub(crate) fn softmax<T: Element>(x: &[T], out: &mut [T], width: usize) {
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let (sum, _) = exponentials(x, out);
            let share = T::of(sum.recip());
            for out in out {
                *out = *out * share;
            }
        }
    }
}

each_level! {
    /// Logarithms of the softmax of rows.
    pub(crate) fn log_softmax<T: Element>(x: &[T], out: &mut [T], width: usize) {
        for (x, out) in x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let (sum, top) = exponentials(x, out);
            let log = T::of(libm::log(sum));
            for (out, &x) in out.iter_mut().zip(x) {
                *out = x - top - log;
            }
        }
    }
}

each_level! {
    /// From what flows into the softmax y of rows to what flows out of them: `(flow - sum of flow y) y`.
    pub(crate) fn softmax_gradient<T: Element>(
        y: &[T],
        flow: &[T],
        out: &mut [T],
        scratch: &mut [f64],
    ) {
        let width = scratch.len();
        let rows = y.chunks_exact(width).zip(flow.chunks_exact(width));
        for ((y, flow), out) in rows.zip(out.chunks_exact_mut(width)) {
            let all = T::of(dot(y, flow, scratch));
            for ((out, &y), &flow) in out.iter_mut().zip(y).zip(flow) {
                *out = (flow - all) * y;
            }
        }
    }
}

each_level! {
    /// The same for the logarithm y: `flow - exp(y) sum of flow`.
    pub(crate) fn log_softmax_gradient<T: Element>(
        y: &[T],
        flow: &[T],
        out: &mut [T],
        width: usize,
    ) {
        let rows = y.chunks_exact(width).zip(flow.chunks_exact(width));
        for ((y, flow), out) in rows.zip(out.chunks_exact_mut(width)) {
            let all = T::of(sum(flow));
            for ((out, &y), &flow) in out.iter_mut().zip(y).zip(flow) {
                *out = flow - y.exp_() * all;
            }
        }
    }
}

each_level! {
    /// Cross-entropies of rows and class numbers, which must be in range.
    pub(crate) fn sparse_losses<T: Element>(
        labels: &[usize],
        logits: &[T],
        out: &mut [T],
        scratch: &mut [T],
    ) {
        let rows = logits.chunks_exact(scratch.len());
        for ((&label, logits), out) in labels.iter().zip(rows).zip(out) {
            let (sum, top) = exponentials(logits, scratch);
            *out = T::of(libm::log(sum)) - (logits[label] - top);
        }
    }
}

each_level! {
    /// From what flows into the losses of rows to what flows out of their logits.
    pub(crate) fn sparse_gradient<T: Element>(
        labels: &[usize],
        logits: &[T],
        flow: &[T],
        out: &mut [T],
        width: usize,
    ) {
        let rows = logits.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for ((&label, &flow), (logits, out)) in labels.iter().zip(flow).zip(rows) {
            let (sum, _) = exponentials(logits, out);
            let share = T::of(sum.recip());
            for out in out.iter_mut() {
                *out = *out * share * flow;
            }
            out[label] = out[label] - flow;
        }
    }
}

each_level! {
    /// Cross-entropies of rows and distributions.
    pub(crate) fn losses<T: Element>(
        labels: &[T],
        logits: &[T],
        out: &mut [T],
        (logs, products): (&mut [T], &mut [f64]),
    ) {
        let width = logs.len();
        let rows = labels.chunks_exact(width).zip(logits.chunks_exact(width));
        for ((labels, logits), out) in rows.zip(out) {
            let (sum, top) = exponentials(logits, logs);
            let log = T::of(libm::log(sum));
            for (out, &x) in logs.iter_mut().zip(logits) {
                *out = x - top - log;
            }
            *out = T::of(-dot(labels, logs, products));
        }
    }
}

each_level! {
    /// From what flows into those losses to what flows out of their logits:
    /// `(softmax(logits) sum of labels - labels) flow`.
    pub(crate) fn loss_gradient<T: Element>(
        labels: &[T],
        logits: &[T],
        flow: &[T],
        out: &mut [T],
        width: usize,
    ) {
        let rows = labels.chunks_exact(width).zip(logits.chunks_exact(width)).zip(flow);
        for (((labels, logits), &flow), out) in rows.zip(out.chunks_exact_mut(width)) {
            let (all, _) = exponentials(logits, out);
            let share = T::of(sum(labels) / all);
            for (out, &label) in out.iter_mut().zip(labels) {
                *out = (*out * share - label) * flow;
            }
        }
    }
}

/// Of columns: the exponentials of the distances from the largest element of each, their sums, and those elements.
struct Exponentials<T> {
    of_all: Vec<T>,
    sums: Vec<f64>,
    tops: Vec<T>,
}

fn column_exponentials<T: Element>(x: &[T], columns: Columns) -> Result<Exponentials<T>, Error> {
    let tops = columns.fold(T::LOWEST, |piece, tops| {
        lanes::update(tops, &x[piece.elements], |top, x| if x > top { x } else { top });
    })?;
    let mut out = overwritten(x.len())?;
    columns.rows(&mut out, |Piece { elements, columns, .. }, out| {
        lanes::zip(&x[elements], &tops[columns], out, |x, top| x - top);
        lanes::replace(out, T::exp_);
    })?;
    let sums = columns.fold(0.0, |piece, sums| {
        lanes::fold_columns(&out[piece.elements], sums, |sum, x: T| sum + x.wide());
    })?;
    Ok(Exponentials { of_all: out, sums, tops })
}

/// Softmax of columns.
pub(crate) fn softmax_columns<T: Element>(x: &[T], columns: Columns) -> Result<Vec<T>, Error> {
    let Exponentials { of_all: mut out, mut sums, .. } = column_exponentials(x, columns)?;
    lanes::replace(&mut sums, f64::recip);
    columns.rows(&mut out, |piece, out| {
        lanes::fold_columns(&sums[piece.columns], out, |x, share| x * T::of(share));
    })?;
    Ok(out)
}

/// Logarithms of the softmax of columns.
pub(crate) fn log_softmax_columns<T: Element>(x: &[T], columns: Columns) -> Result<Vec<T>, Error> {
    let Exponentials { of_all: mut out, mut sums, tops } = column_exponentials(x, columns)?;
    for sum in &mut sums {
        *sum = libm::log(*sum);
    }
    columns.rows(&mut out, |Piece { elements, columns, .. }, out| {
        lanes::zip3(&x[elements], &tops[columns.clone()], &sums[columns], out, |x, top, log| {
            x - top - T::of(log)
        });
    })?;
    Ok(out)
}

/// [`softmax_gradient`] of columns.
pub(crate) fn softmax_gradient_columns<T: Element>(
    [y, flow]: [&[T]; 2],
    columns: Columns,
) -> Result<Vec<T>, Error> {
    let sums = columns.fold(0.0, |Piece { elements, .. }, sums| {
        lanes::update2(sums, &y[elements.clone()], &flow[elements], |sum, y: T, flow: T| {
            sum + y.wide() * flow.wide()
        });
    })?;
    let mut out = overwritten(y.len())?;
    columns.rows(&mut out, |Piece { elements, columns, .. }, out| {
        lanes::zip3(&y[elements.clone()], &flow[elements], &sums[columns], out, |y, flow, all| {
            (flow - T::of(all)) * y
        });
    })?;
    Ok(out)
}

/// [`log_softmax_gradient`] of columns.
pub(crate) fn log_softmax_gradient_columns<T: Element>(
    [y, flow]: [&[T]; 2],
    columns: Columns,
) -> Result<Vec<T>, Error> {
    let sums = columns.fold(0.0, |piece, sums| {
        lanes::fold_columns(&flow[piece.elements], sums, |sum, flow: T| sum + flow.wide());
    })?;
    let mut out = overwritten(y.len())?;
    columns.rows(&mut out, |Piece { elements, columns, .. }, out| {
        lanes::map(&y[elements.clone()], out, T::exp_);
        lanes::fold_columns(&sums[columns], out, |y, all| y * T::of(all));
        lanes::update(out, &flow[elements], |part, flow| flow - part);
    })?;
    Ok(out)
}
