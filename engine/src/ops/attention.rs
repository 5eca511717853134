//! Attention.

use smallvec::smallvec;

use crate::{
    attrs,
    attrs::Attr,
    aval::{Aval, Avals, Shape},
    dtype::DType,
    error::Error,
    graph::Var,
    op::{Call, Derivative, Kernel, OpDef},
    ops::{
        CUMSUM, Cumulative, GREATER_EQUAL, SOFTMAX, Softmax,
        family::{self, common_dtype, common_shape, sample, sample_with, truth, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&SCALED_DOT_PRODUCT_ATTENTION];

attrs! {
    /// Attributes of attention.
    Attention {
        /// Factor of the products; 0 for 1 / sqrt(depth).
        scale: f64 = Double(0.0),
        /// Whether each query sees only the keys up to its own place.
        causal: bool = Bool(false),
    }
}

/// What takes the place of a product that must not count: so low that its weight is 0 beside any other, and finite, so that a
/// query which sees nothing gets the mean of the values and not NaN.
fn hidden(scores: Var<'_>) -> Var<'_> {
    scores.scalar(if scores.dtype() == DType::F16 { -6e4 } else { -1e30 })
}

/// The shape of the scores, which is also what a mask must broadcast to.
fn scores(query: &Aval, key: &Aval, value: &Aval) -> Result<Shape, Error> {
    common_dtype(query, key)?;
    common_dtype(query, value)?;
    let misfit = |other: &Aval, expected| Error::ShapeMismatch {
        lhs: query.shape.clone(),
        rhs: other.shape.clone(),
        expected,
    };
    let ([.., places, depth], [.., keys, key_depth], [.., values, _]) =
        (&query.shape[..], &key.shape[..], &value.shape[..])
    else {
        return Err(misfit(key, "all must have two axes or more"));
    };
    if depth != key_depth {
        return Err(misfit(key, "queries and keys must have the same depth"));
    }
    if keys != values {
        return Err(misfit(value, "there must be as many values as keys"));
    }
    let batch = |x: &Aval| Shape::from(&x.shape[..x.shape.len() - 2]);
    let mut scores = common_shape(&batch(query), &batch(key))?;
    scores = common_shape(&scores, &batch(value))?;
    scores.push(*places);
    scores.push(*keys);
    Ok(scores)
}

fn infer(call: &Call) -> Result<Avals, Error> {
    let [query, key, value, mask] = call.inputs else {
        return Err(Error::bug("attention takes four inputs"));
    };
    let mut out = scores(query, key, value)?;
    if mask.dtype != DType::Bool {
        common_dtype(query, mask)?;
    }
    if common_shape(&out, &mask.shape)? != out {
        let (lhs, rhs) = (out, mask.shape.clone());
        let expected = "the mask must broadcast to [batch, queries, keys]";
        return Err(Error::ShapeMismatch { lhs, rhs, expected });
    }
    let last = value.shape.len() - 1;
    out.set(out.len() - 1, value.shape[last]);
    Ok(smallvec![Aval { dtype: value.dtype, shape: out }])
}

/// 1, 2, ... along the first of two axes of these extents or along the second, the other of which is 1.
fn places(like: Var<'_>, extents: [usize; 2]) -> Var<'_> {
    let axis = i64::from(extents[0] == 1);
    let ones = like.graph().full(&Aval::new(DType::I64, extents), 1.0);
    ones.op(&CUMSUM, Cumulative { axis, exclusive: false, reverse: false }.write(), &[])
}

/// Attention, from Vaswani et al. 2017.
pub static SCALED_DOT_PRODUCT_ATTENTION: OpDef = OpDef {
    inputs: &["query", "key", "value", "mask"],
    attrs: Attention::SPECS,
    infer,
    samples: &[
        sample(&[
            uniform(&[2, 3, 2], -1.0, 1.0),
            uniform(&[2, 4, 2], -1.0, 1.0),
            uniform(&[2, 4, 3], -1.0, 1.0),
            uniform(&[], 0.0, 1.0),
        ]),
        sample_with(
            &[
                uniform(&[2, 3, 2], -1.0, 1.0),
                uniform(&[3, 2], -1.0, 1.0),
                uniform(&[3, 2], -1.0, 1.0),
                truth(&[3, 3]),
            ],
            || vec![("causal", Attr::Bool(true))],
        ),
        sample_with(
            &[
                uniform(&[3, 2], -1.0, 1.0),
                uniform(&[4, 2], -1.0, 1.0),
                uniform(&[4, 2], -1.0, 1.0),
                uniform(&[3, 4], -1.0, 1.0),
            ],
            || vec![("scale", Attr::Double(0.3))],
        ),
    ],
    ..family::unary(
        "scaled_dot_product_attention",
        "Means of values, weighted by how well the keys fit the query. A mask of truth values says what is seen; \
         one of numbers is added to the products, and 0 hides nothing.",
        "y = softmax(scale query key^T + mask) value",
        Kernel::Composite(|r| {
            let Attention { scale, causal } = Attention::read(r.attrs);
            let [query, key, value, mask] = r.x[..] else { return smallvec![r.x[0]] };
            let depth = query.shape().last().copied().unwrap_or(1);
            let scale = if scale == 0.0 { default_scale(depth) } else { scale };
            let mut scores = (query * scale).matmul(key, false, true);
            let hidden = hidden(scores);
            scores = if mask.dtype() == DType::Bool {
                scores.select(mask, hidden)
            } else {
                scores + mask
            };
            if causal {
                let [.., queries, keys] = scores.shape()[..] else { return smallvec![scores] };
                let rows = places(scores, [queries, 1]);
                scores = scores.select(rows.zip(&GREATER_EQUAL, places(scores, [1, keys])), hidden);
            }
            let weights = scores.op(&SOFTMAX, Softmax { axis: -1 }.write(), &[]);
            smallvec![weights.matmul(value, false, false)]
        }),
        Derivative::None,
    )
};

#[expect(clippy::cast_precision_loss, reason = "a depth is a small number")]
fn default_scale(depth: usize) -> f64 {
    1.0 / (depth.max(1) as f64).sqrt()
}
