//! What queries see: by a mask, and only up to their own place if attention is causal.

use super::{Scalar, Stack};
use crate::kernels::panel::Matrix;

/// What takes the place of a product that must not count: so low that its weight is 0 beside any other, and finite, so that a
/// query which sees nothing gets the mean of the values and not NaN.
pub(crate) const HIDDEN: f64 = -1e30;

/// What queries see.
#[derive(Debug)]
pub(crate) enum Mask<'a, T> {
    /// Every key.
    Everything,
    /// The keys where it is true.
    Truth(Stack<'a, bool>),
    /// Every key, but this is added to the products.
    Added(Stack<'a, T>),
}

/// What the queries of a head see, from one of them on.
pub(super) struct Sight<'a, T> {
    pub(super) mask: HeadMask<'a, T>,
    pub(super) causal: bool,
    pub(super) first: usize,
    pub(super) keys: usize,
}

/// The mask of a head, from a query on.
pub(super) enum HeadMask<'a, T> {
    Everything,
    Truth(Matrix<'a, bool>),
    Added(Matrix<'a, T>),
}

impl<T: Scalar> Sight<'_, T> {
    /// Keys that can have a weight. If nothing else is hidden these are the ones up to the query's own place, since it sees
    /// the first of them.
    pub(super) fn reach(&self, query: usize) -> usize {
        if self.causal && matches!(self.mask, HeadMask::Everything) {
            self.keys.min(self.first + query + 1)
        } else {
            self.keys
        }
    }

    /// Masks a query's products with keys.
    #[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
    #[inline(always)]
    pub(super) fn mask(&self, query: usize, products: &mut [T]) {
        if let HeadMask::Added(mask) = self.mask {
            match Line::of(mask, query) {
                Line::Each(mask) => products.iter_mut().zip(mask).for_each(|(x, &y)| *x = *x + y),
                Line::Same(mask) => products.iter_mut().for_each(|x| *x = *x + mask),
            }
        }
        self.hide(query, products, T::of(HIDDEN));
    }

    /// Puts something in the place of what belongs to keys that a query does not see.
    #[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
    #[inline(always)]
    pub(super) fn hide(&self, query: usize, row: &mut [T], instead: T) {
        if let HeadMask::Truth(mask) = self.mask {
            match Line::of(mask, query) {
                Line::Each(mask) => {
                    for (x, &sees) in row.iter_mut().zip(mask) {
                        *x = if sees { *x } else { instead };
                    }
                }
                Line::Same(true) => {}
                Line::Same(false) => row.fill(instead),
            }
        }
        if self.causal {
            let seen = row.len().min(self.first + query + 1);
            row[seen..].fill(instead);
        }
    }
}

/// What a mask has for the keys of a query.
enum Line<'a, E> {
    Each(&'a [E]),
    Same(E),
}

impl<'a, E: Copy> Line<'a, E> {
    #[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
    #[inline(always)]
    fn of(mask: Matrix<'a, E>, query: usize) -> Self {
        let line = &mask.elements[query * mask.row..];
        if mask.column == 0 { Self::Same(line[0]) } else { Self::Each(line) }
    }
}
