//! Attention, and its gradients: block by block of a head's queries, whose weights lie in a buffer of a thread.
//!
//! Nothing of the size queries x keys is kept: the gradients compute the weights once more, which costs less than to write them
//! to memory and to read them from there (Dao et al. 2022; rows of weights are whole here, so that nothing
//! has to be put right between blocks of keys). A head's blocks are gone through from the first to the last by one thread,
//! and the size of a block follows from the number of keys, so no bit depends on who helps.

use ndarray::{ArrayViewMut2, Axis};

use crate::{
    array::{buffer, filled},
    aval::Shape,
    compute::{self, MAX_WIDTH},
    error::Error,
    kernels::{
        factor::{self, Factor, Packs},
        lanes::each_level,
        panel::{Matrix, WIDTH},
        rows::shared_out,
        softmax::{self, Element},
    },
};

mod gradients;
mod heads;
mod sight;

use self::sight::{HeadMask, Sight};
pub(crate) use self::{
    heads::{Layout, Stack},
    sight::{HIDDEN, Mask},
};

/// Weights of a block, about: as many as stay in the cache of the second level beside a head's keys and values.
const WEIGHTS: usize = 1 << 15;

/// Most and fewest queries of a block: whole tiles of the panels.
const MOST_QUERIES: usize = 64;
const FEWEST_QUERIES: usize = 8;

/// An element type of attention.
pub(crate) trait Scalar: Element + Packs {}

impl<T: Element + Packs> Scalar for T {}

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extents {
    /// Heads of all batches.
    pub(crate) heads: usize,
    /// Queries of a head.
    pub(crate) queries: usize,
    /// Keys of a head, and values.
    pub(crate) keys: usize,
    /// Length of queries and keys.
    pub(crate) depth: usize,
    /// Length of values.
    pub(crate) width: usize,
    /// Whether attention is causal. If nothing else is masked, a block of few queries has few products for nothing.
    pub(crate) is_causal: bool,
}

impl Extents {
    /// Queries of a block.
    fn block(self) -> usize {
        let most = (WEIGHTS / self.keys.max(1)).next_multiple_of(FEWEST_QUERIES);
        let limit = if self.is_causal { MOST_QUERIES / 2 } else { MOST_QUERIES };
        most.clamp(FEWEST_QUERIES, limit).min(self.queries.max(1))
    }

    /// From the weights of a query to the next. A line is left free, so that those of many do not push each other out of the
    /// cache of the first level.
    fn distance(self) -> usize {
        self.keys.next_multiple_of(WIDTH) + WIDTH
    }

    /// Products of numbers that a product of queries and keys takes, or of weights and values.
    fn products(self, depth: usize) -> u64 {
        [self.heads, self.queries, self.keys, depth]
            .into_iter()
            .fold(1_u64, |product, extent| product.saturating_mul(extent as u64))
    }

    /// Arithmetic operations of attention.
    pub(crate) fn flops(self) -> u64 {
        self.products(2 * (self.depth + self.width) + 8)
    }

    /// Arithmetic operations of its gradients.
    pub(crate) fn gradient_flops(self) -> u64 {
        self.products(2 * (3 * self.depth + 2 * self.width) + 12)
    }

    /// About how long it takes, in nanoseconds: products, what is done with weights, and packing keys and values.
    fn work(self, flops: u64) -> u64 {
        let packed = self.heads * self.keys * (self.depth + self.width);
        let others = self.products(2).saturating_add(compute::elements(packed));
        compute::products(flops).saturating_add(others)
    }

    /// Bytes of where matrices begin and of the blocks, and of what each thread has for itself.
    pub(crate) fn workspace(self, element: usize) -> u64 {
        let blocks = self.heads.saturating_mul(self.queries.div_ceil(self.block()));
        let Self { keys, depth, width, .. } = self;
        let packed = factor::elements(depth, keys) + factor::elements(keys, width);
        let block = self.block() * (depth + width + self.distance());
        let threads = blocks.min(MAX_WIDTH);
        (self.heads.saturating_mul(6 * 64) as u64)
            .saturating_add(blocks.saturating_mul(2 * 64) as u64)
            .saturating_add((threads * (packed + block)).saturating_mul(element) as u64)
    }

    /// The same for the gradients.
    pub(crate) fn gradient_workspace(self, element: usize) -> u64 {
        let Self { keys, depth, width, .. } = self;
        let packed = factor::elements(depth, keys)
            + factor::elements(width, keys)
            + factor::elements(keys, depth);
        let rows = self.block();
        let factors = factor::elements(rows, depth) + factor::elements(rows, width);
        let block = rows * (2 * depth + 2 * self.distance());
        let threads = self.heads.min(MAX_WIDTH);
        let elements = threads * (packed + factors + block + keys * (depth + width));
        (self.heads.saturating_mul(10 * 64) as u64)
            .saturating_add(elements.saturating_mul(element) as u64)
            .saturating_add((8 * threads * keys) as u64)
    }
}

/// Attention of many heads.
#[derive(Debug)]
pub(crate) struct Attention<'a, T> {
    pub(crate) extents: Extents,
    pub(crate) queries: Stack<'a, T>,
    pub(crate) keys: Stack<'a, T>,
    pub(crate) values: Stack<'a, T>,
    pub(crate) mask: Mask<'a, T>,
    /// Factor of the products.
    pub(crate) scale: f64,
}

/// What each thread needs for weights.
struct Desk<T> {
    keys: Factor<T>,
    queries: Vec<T>,
    weights: Vec<T>,
}

impl<T: Scalar> Attention<'_, T> {
    fn desk(&self) -> Result<Desk<T>, Error> {
        let Extents { keys, depth, .. } = self.extents;
        let block = self.extents.block();
        Ok(Desk {
            keys: Factor::new(depth, keys)?,
            queries: filled(block * depth, T::ZERO)?,
            weights: filled(block * self.extents.distance(), T::ZERO)?,
        })
    }

    fn sight(&self, head: usize, first: usize) -> Sight<'_, T> {
        let mask = match &self.mask {
            Mask::Everything => HeadMask::Everything,
            Mask::Truth(mask) => HeadMask::Truth(mask.head(head, first)),
            Mask::Added(mask) => HeadMask::Added(mask.head(head, first)),
        };
        Sight { mask, causal: self.extents.is_causal, first, keys: self.extents.keys }
    }

    /// Takes the keys of a head, a column each.
    fn take_keys(&self, head: usize, desk: &mut Desk<T>) -> Result<(), Error> {
        let Extents { keys, depth, .. } = self.extents;
        desk.keys.take(turned(self.keys.head(head, 0)), depth, keys)
    }

    /// The weights of so many queries of the head that was taken; gives how many keys have any.
    fn weigh(
        &self,
        head: usize,
        sight: &Sight<T>,
        rows: usize,
        desk: &mut Desk<T>,
    ) -> Result<usize, Error> {
        let depth = self.extents.depth;
        let reach = sight.reach(rows - 1);
        let queries = self.queries.head(head, sight.first);
        scaled(queries, (rows, depth), T::of(self.scale), &mut desk.queries);
        let queries = Matrix { elements: &desk.queries[..], row: depth, column: 1 };
        let distance = self.extents.distance();
        desk.keys.product(queries, (rows, depth, reach), (&mut desk.weights, distance))?;
        weights(&mut desk.weights, (rows, distance), reach, sight);
        Ok(reach)
    }

    /// Writes the means of the values.
    pub(crate) fn means(&self, layout: Layout, heads: &Shape, out: &mut [T]) -> Result<(), Error> {
        let Extents { queries, keys, width, .. } = self.extents;
        if out.is_empty() || keys == 0 {
            out.fill(T::ZERO);
            return Ok(());
        }
        let (block, distance) = (self.extents.block(), self.extents.distance());
        let mut heads = layout.heads_of(out, heads, (queries, width))?;
        let mut blocks = buffer(heads.len() * queries.div_ceil(block))?;
        for (head, out) in heads.iter_mut().enumerate() {
            blocks.extend(
                out.axis_chunks_iter_mut(Axis(0), block)
                    .zip((0..).step_by(block))
                    .map(|(out, first)| (head, first, out)),
            );
        }
        let parts = compute::parts(self.extents.work(self.extents.flops()), blocks.len());
        compute::each(shared_out(blocks, parts), |blocks| {
            let mut desk = self.desk()?;
            let mut values = Factor::new(keys, width)?;
            let mut means = filled(block * width, T::ZERO)?;
            let mut taken = None;
            for (head, first, mut out) in blocks {
                if taken != Some(head) {
                    self.take_keys(head, &mut desk)?;
                    values.take(self.values.head(head, 0), keys, width)?;
                    taken = Some(head);
                }
                let rows = out.nrows();
                let reach = self.weigh(head, &self.sight(head, first), rows, &mut desk)?;
                let weights = Matrix { elements: &desk.weights[..], row: distance, column: 1 };
                values.product(weights, (rows, reach, width), (&mut means, width))?;
                put(&means, width, &mut out, |x| x)?;
            }
            Ok(())
        })
    }
}

/// Rows for columns.
fn turned<T: Copy>(matrix: Matrix<T>) -> Matrix<T> {
    Matrix { elements: matrix.elements, row: matrix.column, column: matrix.row }
}

/// Copies rows of so many elements to where they belong, with a factor or without.
fn put<T: Scalar>(
    from: &[T],
    width: usize,
    to: &mut ArrayViewMut2<T>,
    f: impl Fn(T) -> T,
) -> Result<(), Error> {
    for (i, mut to) in to.rows_mut().into_iter().enumerate() {
        let to = to.as_slice_mut().ok_or_else(|| Error::bug("rows are not whole in memory"))?;
        to.iter_mut().zip(&from[i * width..]).for_each(|(to, &from)| *to = f(from));
    }
    Ok(())
}

each_level! {
    /// Copies rows of so many elements, each times a factor.
    fn scaled<T: Scalar>(
        from: Matrix<T>,
        (rows, width): (usize, usize),
        scale: T,
        to: &mut [T],
    ) {
        for row in 0..rows {
            let (from, to) = (&from.elements[row * from.row..][..width], &mut to[row * width..][..width]);
            for (to, &from) in to.iter_mut().zip(from) {
                *to = from * scale;
            }
        }
    }
}

/// So many rows of a block, each with its number.
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
#[inline(always)]
fn rows_of<T>(
    block: &mut [T],
    distance: usize,
    count: usize,
) -> impl Iterator<Item = (usize, &mut [T])> {
    block.chunks_mut(distance).take(count).enumerate()
}

each_level! {
    /// From products with keys to weights. Whole registers of them: behind what a query sees are numbers without weight.
    fn weights<T: Scalar>(
        products: &mut [T],
        (count, distance): (usize, usize),
        reach: usize,
        sight: &Sight<T>,
    ) {
        let (mut tops, mut shares) = ([T::ZERO; MOST_QUERIES], [T::ZERO; MOST_QUERIES]);
        let whole = |query| sight.reach(query).next_multiple_of(WIDTH);
        // One thing after the other for all queries, so that no row waits for its own maximum and for its own sum.
        for ((query, row), top) in rows_of(products, distance, count).zip(&mut tops) {
            let seen = sight.reach(query);
            sight.mask(query, &mut row[..seen]);
            row[seen..whole(query)].fill(T::LOWEST);
            *top = softmax::top(&row[..whole(query)]);
        }
        for ((query, row), &top) in rows_of(products, distance, count).zip(&tops) {
            for x in &mut row[..whole(query)] {
                *x = (*x - top).exp_();
            }
        }
        for ((query, row), share) in rows_of(products, distance, count).zip(&mut shares) {
            *share = T::of(softmax::sum(&row[..whole(query)]).recip());
        }
        for ((query, row), &share) in rows_of(products, distance, count).zip(&shares) {
            let (row, rest) = row[..reach.max(whole(query))].split_at_mut(whole(query));
            for x in row {
                *x = *x * share;
            }
            rest.fill(T::ZERO);
        }
    }
}
