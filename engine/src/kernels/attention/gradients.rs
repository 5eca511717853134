//! The gradients of attention, head by head.

use ndarray::{ArrayViewMut2, Axis};

use super::{
    Attention, Desk, Extents, Layout, MOST_QUERIES, Scalar, Stack, put, sight::Sight, turned,
};
use crate::{
    array::{buffer, filled},
    aval::Shape,
    compute,
    error::Error,
    kernels::{
        factor::Factor,
        lanes::each_level,
        panel::{Matrix, WIDTH},
        rows::shared_out,
        softmax,
    },
};

impl<T: Scalar> Attention<'_, T> {
    /// Writes the gradients with respect to queries, keys and values of what flows into the means of the values.
    pub(crate) fn gradients(
        &self,
        upstream: &Stack<T>,
        layout: Layout,
        heads: &Shape,
        [of_queries, of_keys, of_values]: [&mut [T]; 3],
    ) -> Result<(), Error> {
        let Extents { queries, keys, depth, width, .. } = self.extents;
        if queries == 0 || keys == 0 || self.extents.heads == 0 {
            for out in [of_queries, of_keys, of_values] {
                out.fill(T::ZERO);
            }
            return Ok(());
        }
        let of_queries = layout.heads_of(of_queries, heads, (queries, depth))?;
        let of_keys = layout.heads_of(of_keys, heads, (keys, depth))?;
        let of_values = layout.heads_of(of_values, heads, (keys, width))?;
        let mut tasks = buffer(of_queries.len())?;
        let all = of_queries.into_iter().zip(of_keys).zip(of_values).enumerate();
        tasks.extend(all.map(|(head, ((queries, keys), values))| (head, [queries, keys, values])));
        let parts = compute::parts(self.extents.work(self.extents.gradient_flops()), tasks.len());
        compute::each(shared_out(tasks, parts), |tasks| {
            let mut desk = Backwards::new(self)?;
            for (head, out) in tasks {
                desk.head(head, upstream, out)?;
            }
            Ok(())
        })
    }
}

/// What each thread needs for gradients.
struct Backwards<'a, T> {
    attention: &'a Attention<'a, T>,
    desk: Desk<T>,
    /// Values, one in each column, and keys, one in each row.
    values: Factor<T>,
    keys: Factor<T>,
    /// Queries of a block, and what flows into their means, one in each row.
    queries: Factor<T>,
    upstream: Factor<T>,
    /// What flows into the weights of a block, and then into the products that these are of.
    flow: Vec<T>,
    scratch: Vec<f64>,
    of_queries: Vec<T>,
    of_keys: Vec<T>,
    of_values: Vec<T>,
}

impl<'a, T: Scalar> Backwards<'a, T> {
    fn new(attention: &'a Attention<'a, T>) -> Result<Self, Error> {
        let Extents { keys, depth, width, .. } = attention.extents;
        let block = attention.extents.block();
        Ok(Self {
            attention,
            desk: attention.desk()?,
            values: Factor::new(width, keys)?,
            keys: Factor::new(keys, depth)?,
            queries: Factor::new(block, depth)?,
            upstream: Factor::new(block, width)?,
            flow: filled(block * attention.extents.distance(), T::ZERO)?,
            scratch: filled(keys.next_multiple_of(WIDTH), 0.0)?,
            of_queries: filled(block * depth, T::ZERO)?,
            of_keys: filled(keys * depth, T::ZERO)?,
            of_values: filled(keys * width, T::ZERO)?,
        })
    }

    /// The gradients of a head.
    fn head(
        &mut self,
        head: usize,
        upstream: &Stack<T>,
        [mut of_queries, mut of_keys, mut of_values]: [ArrayViewMut2<T>; 3],
    ) -> Result<(), Error> {
        let Extents { keys, depth, width, .. } = self.attention.extents;
        self.attention.take_keys(head, &mut self.desk)?;
        self.values.take(turned(self.attention.values.head(head, 0)), width, keys)?;
        self.keys.take(self.attention.keys.head(head, 0), keys, depth)?;
        self.of_keys.fill(T::ZERO);
        self.of_values.fill(T::ZERO);
        let block = self.attention.extents.block();
        for (i, mut out) in of_queries.axis_chunks_iter_mut(Axis(0), block).enumerate() {
            let first = i * block;
            self.block(head, first, upstream.head(head, first), out.nrows())?;
            let scale = T::of(self.attention.scale);
            put(&self.of_queries, depth, &mut out, |x| x * scale)?;
        }
        put(&self.of_keys, depth, &mut of_keys, |x| x)?;
        put(&self.of_values, width, &mut of_values, |x| x)
    }

    /// The gradients of a block's queries, and its part in those of keys and values. With the weights W of the queries Q,
    /// keys K, values V and upstream U: V has `W^T U`, and of `D = W * (U V^T - row sums of W * U V^T)` Q has `D K` and K has
    /// `D^T Q`.
    fn block(
        &mut self,
        head: usize,
        first: usize,
        upstream: Matrix<T>,
        rows: usize,
    ) -> Result<(), Error> {
        let Extents { depth, width, .. } = self.attention.extents;
        let distance = self.attention.extents.distance();
        let sight = self.attention.sight(head, first);
        let reach = self.attention.weigh(head, &sight, rows, &mut self.desk)?;
        self.values.product(upstream, (rows, width, reach), (&mut self.flow, distance))?;
        self.upstream.take(upstream, rows, width)?;
        let weights = Matrix { elements: &self.desk.weights[..], row: 1, column: distance };
        self.upstream.add_product(weights, (reach, rows, width), (&mut self.of_values, width))?;
        let sides = (rows, distance);
        weights_gradient(
            &self.desk.weights,
            &mut self.flow,
            &mut self.scratch,
            sides,
            reach,
            &sight,
        );
        let flow = Matrix { elements: &self.flow[..], row: distance, column: 1 };
        self.keys.product(flow, (rows, reach, depth), (&mut self.of_queries, depth))?;
        let queries = Matrix { elements: &self.desk.queries[..], row: depth, column: 1 };
        self.queries.take(queries, rows, depth)?;
        self.queries.add_product(turned(flow), (reach, rows, depth), (&mut self.of_keys, depth))
    }
}

each_level! {
    /// From what flows into weights to what flows into the products with keys, in its place.
    fn weights_gradient<T: Scalar>(
        weights: &[T],
        flow: &mut [T],
        scratch: &mut [f64],
        (count, distance): (usize, usize),
        reach: usize,
        sight: &Sight<T>,
    ) {
        let rows = || weights.chunks(distance).zip(0..count);
        let mut means = [T::ZERO; MOST_QUERIES];
        for (((weights, query), flow), mean) in
            rows().zip(flow.chunks_mut(distance)).zip(&mut means)
        {
            let seen = sight.reach(query);
            let whole = seen.next_multiple_of(WIDTH);
            flow[seen..whole].fill(T::ZERO);
            *mean = T::of(softmax::dot(&weights[..whole], &flow[..whole], &mut scratch[..whole]));
        }
        for (((weights, query), flow), &mean) in rows().zip(flow.chunks_mut(distance)).zip(&means) {
            let seen = sight.reach(query);
            for (flow, &weight) in flow[..seen].iter_mut().zip(weights) {
                *flow = (*flow - mean) * weight;
            }
            sight.hide(query, &mut flow[..seen], T::ZERO);
            if seen < reach {
                flow[seen..reach].fill(T::ZERO);
            }
        }
    }
}
