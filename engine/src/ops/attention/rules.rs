//! The derivative rules of attention, beyond its gradients: of these, and in forward mode. They are written with products of
//! all queries and keys.
//!
//! With the products `S = scale Q K^T`, masked, the weights are `W = softmax(S)` and the means `W V`. A tangent t of S moves W by
//! `G t = W * (t - row sums of W * t)`, and G is symmetric. What is hidden does not move.

use smallvec::smallvec;

use super::{Attention, SCALED_DOT_PRODUCT_ATTENTION_GRADIENT, Shapes};
use crate::{
    aval::{Aval, Avals, Shape},
    dtype::DType,
    graph::Var,
    kernels::attention::{HIDDEN, Layout},
    op::{Cotangents, Rule, Vars},
    ops::{
        CUMSUM, Cumulative, GREATER_EQUAL, Permutation, SOFTMAX, SOFTMAX_GRADIENT, Softmax,
        TRANSPOSE,
    },
};

/// The weights of all queries, and what they were made of.
pub(super) struct Scores<'g> {
    layout: Layout,
    /// Factor of the products.
    scale: f64,
    /// Queries, keys and values, with the heads first.
    queries: Var<'g>,
    keys: Var<'g>,
    values: Var<'g>,
    /// Where something is seen, each of which broadcasts to the products.
    seen: Vec<Var<'g>>,
    weights: Var<'g>,
}

impl<'g> Scores<'g> {
    /// Of the first four inputs.
    pub(super) fn of(r: &Rule<'g>) -> Self {
        let attrs = Attention::read(r.attrs);
        // `infer` accepted it.
        let layout = attrs.layout().unwrap_or(Layout::HeadsFirst);
        let [queries, keys, values] = [0, 1, 2].map(|i| turned(r.x[i], layout));
        let mask = r.x[3];
        let scale = attrs.scale(queries.shape().last().copied().unwrap_or(1));
        let mut products = (queries * scale).matmul(keys, false, true);
        let mut seen = Vec::new();
        if mask.dtype() == DType::Bool {
            seen.push(mask);
        } else {
            products = products + mask;
        }
        if attrs.causal
            && let [.., queries, keys] = products.shape()[..]
        {
            let rows = places(products, [queries, 1]);
            seen.push(rows.zip(&GREATER_EQUAL, places(products, [1, keys])));
        }
        let hidden = if products.dtype() == DType::F16 { -6e4 } else { HIDDEN };
        let hidden = products.scalar(hidden);
        products = seen.iter().fold(products, |products, &seen| products.select(seen, hidden));
        let weights = products.op(&SOFTMAX, Softmax { axis: -1 }.write(), &[]);
        // Values may have more heads than queries and keys.
        let all = r.x.iter().map(|x| x.aval()).collect::<Avals>();
        let all = Shapes::of(&attrs, &all).map_or_else(|_| weights.shape(), |all| all.products());
        let weights = weights.broadcast_to(&all);
        Self { layout, scale, queries, keys, values, seen, weights }
    }

    /// The means of the values.
    #[cfg(test)]
    pub(super) fn means(&self) -> Var<'g> {
        self.turned(self.weights.matmul(self.values, false, false))
    }

    /// What lies as the inputs do with the heads first, or the other way round.
    fn turned(&self, x: Var<'g>) -> Var<'g> {
        turned(x, self.layout)
    }

    /// What has the shape of the products, without what belongs to hidden ones.
    fn visible(&self, x: Var<'g>) -> Var<'g> {
        self.seen.iter().fold(x, |x, &seen| x.select(seen, x.scalar(0.0)))
    }

    /// How the weights move where the products move by t, and what flows out of the products where t flows into weights.
    fn project(&self, t: Var<'g>) -> Var<'g> {
        self.weights.op(&SOFTMAX_GRADIENT, Softmax { axis: -1 }.write(), &[t])
    }

    /// How the products move where queries and keys do, and what is added to them.
    fn moved(&self, [queries, keys, mask]: [Option<Var<'g>>; 3]) -> Option<Var<'g>> {
        let of_queries = queries.map(|t| (t * self.scale).matmul(self.keys, false, true));
        let of_keys = keys.map(|t| (self.queries * self.scale).matmul(t, false, true));
        let sum = sum([of_queries, of_keys, mask]);
        sum.map(|sum| self.visible(sum.broadcast_to(&self.weights.shape())))
    }

    /// What flows into queries and keys where something flows into the products.
    fn factors(&self, products: Var<'g>) -> [Var<'g>; 2] {
        let products = products * self.scale;
        [products.matmul(self.keys, false, false), products.matmul(self.queries, true, false)]
    }
}

fn sum<'g>(terms: impl IntoIterator<Item = Option<Var<'g>>>) -> Option<Var<'g>> {
    terms.into_iter().flatten().reduce(|sum, next| sum + next)
}

/// The axes of heads and of places the other way round, unless the heads are first anyway.
fn turned(x: Var<'_>, layout: Layout) -> Var<'_> {
    let rank = x.shape().len();
    if layout == Layout::HeadsFirst || rank < 3 {
        return x;
    }
    let mut perm = (0..rank).collect::<Shape>().to_i64();
    perm.swap(rank - 3, rank - 2);
    x.op(&TRANSPOSE, Permutation { perm }.write(), &[])
}

/// 1, 2, ... along the first of two axes of these extents or along the second, the other of which is 1.
fn places(like: Var<'_>, extents: [usize; 2]) -> Var<'_> {
    let axis = i64::from(extents[0] == 1);
    let ones = like.graph().full(&Aval::new(DType::I64, extents), 1.0);
    ones.op(&CUMSUM, Cumulative { axis, exclusive: false, reverse: false }.write(), &[])
}

/// The sum of all of a row's elements, kept.
fn sum_of_row(x: Var<'_>) -> Var<'_> {
    x.sum_keep(&[x.shape().len().saturating_sub(1)])
}

/// Queries, keys and values by the op for that. What is added to the products has `G (U V^T)`, of the size of all products.
pub(super) fn back<'g>(r: &Rule<'g>, ct: &[Var<'g>]) -> Cotangents<'g> {
    let mut all: Cotangents = smallvec![None; 4];
    if r.needs[..3].contains(&true) {
        let others = [r.x[1], r.x[2], r.x[3], ct[0]];
        let gradients =
            r.x[0].op_all(&SCALED_DOT_PRODUCT_ATTENTION_GRADIENT, r.attrs.clone(), &others);
        for (i, gradient) in gradients.into_iter().enumerate().filter(|&(i, _)| r.needs[i]) {
            all[i] = Some(gradient.sum_to(&r.x[i].shape()).into());
        }
    }
    if r.needs[3] {
        let w = Scores::of(r);
        let flow = w.project(w.turned(ct[0]).matmul(w.values, false, true));
        all[3] = Some(w.visible(flow).sum_to(&r.x[3].shape()).into());
    }
    all
}

/// The tangent of the means: `W t V + W t_V`.
pub(super) fn forwards<'g>(r: &Rule<'g>, t: &[Option<Var<'g>>]) -> Vars<'g> {
    let w = Scores::of(r);
    let [queries, keys, values] = [0, 1, 2].map(|i| t[i].map(|t| w.turned(t)));
    let of_weights = w.moved([queries, keys, t[3]]);
    let of_weights = of_weights.map(|t| w.project(t).matmul(w.values, false, false));
    let of_values = values.map(|t| w.weights.matmul(t, false, false));
    let sum = sum([of_weights, of_values]).map(|sum| w.turned(sum));
    smallvec![sum.unwrap_or_else(|| r.y().zeros())]
}

/// What the rules of the gradients know: the products are moved by `D = G F`, where `F = U V^T` flows into the weights.
struct SecondOrder<'g> {
    w: Scores<'g>,
    upstream: Var<'g>,
    flow: Var<'g>,
}

impl<'g> SecondOrder<'g> {
    fn of(r: &Rule<'g>) -> Self {
        let w = Scores::of(r);
        let upstream = w.turned(r.x[4]);
        let flow = upstream.matmul(w.values, false, true);
        Self { w, upstream, flow }
    }

    /// `t * (F - row sums of W * F)`, which is what a product with F is less its mean.
    fn centred(&self, t: Var<'g>) -> Var<'g> {
        t * (self.flow - sum_of_row(self.w.weights * self.flow))
    }
}

/// The gradients of the gradients, from what flows into those of queries, keys and values: a, b and c. Into D flows
/// `E = scale (a K^T + Q b^T)`, and into the weights `U c^T + E * (F - sum of W F) - F * sum of W E`.
pub(super) fn gradients_back<'g>(r: &Rule<'g>, ct: &[Var<'g>]) -> Cotangents<'g> {
    let f = SecondOrder::of(r);
    let w = &f.w;
    let [a, b, c] = [0, 1, 2].map(|i| w.turned(ct[i]));
    let d = w.visible(w.project(f.flow));
    let e = w.moved([Some(a), Some(b), None]).unwrap_or(d);
    let into_flow = w.project(e);
    let into_weights =
        f.upstream.matmul(c, false, true) + f.centred(e) - f.flow * sum_of_row(w.weights * e);
    let into_products = w.visible(w.project(into_weights));
    let [queries, keys] = w.factors(into_products);
    let d = d * w.scale;
    let all = [
        w.turned(queries + d.matmul(b, false, false)),
        w.turned(keys + d.matmul(a, true, false)),
        w.turned(into_flow.matmul(f.upstream, true, false)),
        into_products,
        w.turned(into_flow.matmul(w.values, false, false) + w.weights.matmul(c, false, false)),
    ];
    let all = all.into_iter().zip(&r.x).zip(&r.needs);
    all.map(|((x, like), &needed)| needed.then(|| x.sum_to(&like.shape()).into())).collect()
}

/// The tangents of the gradients. Where the weights move by T and F by F', D moves by
/// `T * (F - sum of W F) - W * sum of T F + G F'`.
pub(super) fn gradients_forwards<'g>(r: &Rule<'g>, t: &[Option<Var<'g>>]) -> Vars<'g> {
    let f = SecondOrder::of(r);
    let w = &f.w;
    let [queries, keys, values, upstream] = [0, 1, 2, 4].map(|i| t[i].map(|t| w.turned(t)));
    let d = w.visible(w.project(f.flow));
    let weights = w.moved([queries, keys, t[3]]).map(|t| w.project(t));
    let flow = sum([
        upstream.map(|t| t.matmul(w.values, false, true)),
        values.map(|t| f.upstream.matmul(t, false, true)),
    ]);
    let d_moved = sum([
        weights.map(|t| f.centred(t) - w.weights * sum_of_row(t * f.flow)),
        flow.map(|t| w.project(t)),
    ]);
    let moved = d_moved.map(|moved| w.factors(w.visible(moved)));
    let scaled = d * w.scale;
    let of_queries = sum([moved.map(|[x, _]| x), keys.map(|t| scaled.matmul(t, false, false))]);
    let of_keys = sum([moved.map(|[_, x]| x), queries.map(|t| scaled.matmul(t, true, false))]);
    let of_values = sum([
        weights.map(|t| t.matmul(f.upstream, true, false)),
        upstream.map(|t| w.weights.matmul(t, true, false)),
    ]);
    let out = [of_queries, of_keys, of_values].into_iter().zip(&r.y);
    out.map(|(t, y)| t.map_or_else(|| y.zeros(), |t| w.turned(t))).collect()
}

/// The gradients, from the weights of all queries at once.
#[cfg(test)]
pub(super) fn gradients_composed<'g>(r: &Rule<'g>) -> [Var<'g>; 3] {
    let f = SecondOrder::of(r);
    let [queries, keys] = f.w.factors(f.w.visible(f.w.project(f.flow)));
    let values = f.w.weights.matmul(f.upstream, true, false);
    [queries, keys, values].map(|x| f.w.turned(x))
}
