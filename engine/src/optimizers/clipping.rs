//! Gradients that are too large, or not finite.

use smallvec::smallvec;

use super::Common;
use crate::{
    graph::Var,
    ops::{
        CLIP_BY_VALUE, Clip, EQUAL, MAXIMUM, MINIMUM, RECIPROCAL, REDUCE_SUM, Reduce, SQRT, SQUARE,
    },
};

/// Whether all elements are finite: then they are 0 when multiplied by 0.
pub(crate) fn finite<'g>(gradients: impl Iterator<Item = Var<'g>>) -> Option<Var<'g>> {
    let zero = gradients.map(|g| sum(g.cast(g.dtype().widened()) * 0.0)).reduce(|all, next| {
        let next = next.cast(all.dtype());
        all + next
    })?;
    Some(zero.zip(&EQUAL, zero.zeros()))
}

fn sum(x: Var<'_>) -> Var<'_> {
    x.op(&REDUCE_SUM, Reduce { axis: smallvec![], keepdims: false }.write(), &[])
}

fn squared_norm(g: Var<'_>) -> Var<'_> {
    sum(g.map(&SQUARE))
}

/// Clips gradients by at most one of the three ways.
pub(super) fn clip(common: &Common, torch: bool, gradients: &mut [Var<'_>]) {
    if let Some(limit) = common.clipvalue {
        let bounds = Clip { clip_value_min: -limit, clip_value_max: limit }.write();
        for g in gradients.iter_mut() {
            *g = g.op(&CLIP_BY_VALUE, bounds.clone(), &[]);
        }
    }
    if let Some(limit) = common.clipnorm {
        for g in gradients.iter_mut() {
            let norm = squared_norm(*g).map(&SQRT);
            *g = *g * shrink(norm, limit, torch);
        }
    }
    if let Some(limit) = common.global_clipnorm {
        // Summed in the first gradient's dtype; the others of another dtype are converted.
        let Some(dtype) = gradients.first().map(|g| g.dtype()) else { return };
        let total =
            gradients.iter().map(|&g| squared_norm(g).cast(dtype)).reduce(|sum, next| sum + next);
        let Some(norm) = total.map(|total| total.map(&SQRT)) else { return };
        // A norm that is not finite makes every gradient NaN, so that it is noticed.
        let scale = shrink(norm, limit, torch) + norm * 0.0;
        for g in gradients.iter_mut() {
            *g = *g * scale.cast(g.dtype());
        }
    }
}

/// What to multiply a gradient of this norm by so that the norm is at most the limit.
fn shrink(norm: Var<'_>, limit: f64, torch: bool) -> Var<'_> {
    if torch {
        ((norm + 1e-6).map(&RECIPROCAL) * limit).zip(&MINIMUM, norm.scalar(1.0))
    } else {
        norm.zip(&MAXIMUM, norm.scalar(limit)).map(&RECIPROCAL) * limit
    }
}
