//! Slices of equal size, picked from places and folded into places.
//!
//! Places are numbers of slices, checked before. The slices that go to one place are folded in their order.

use crate::{
    array::{append, buffer, filled},
    compute::{self, Looks},
    error::Error,
    kernels::{elementwise::map, real::Number},
};

/// The slices of `size` elements at the given places, one behind the other: `total` elements.
pub(crate) fn pick<T: Copy>(
    x: &[T],
    places: impl Iterator<Item = usize>,
    (size, total): (usize, usize),
) -> Result<Vec<T>, Error> {
    let mut out = buffer(total)?;
    // There may be many places for slices of nothing.
    let mut looks = Looks::default();
    if total > 0 {
        for place in places {
            append(&mut out, &x[place * size..(place + 1) * size])?;
            looks.after(size)?;
        }
    }
    Ok(out)
}

/// Folds slices into those at the given places, in order; without a place a slice is dropped.
pub(crate) fn fold_into<T: Copy, A: Copy>(
    into: &mut [A],
    x: &[T],
    places: impl Iterator<Item = Option<usize>>,
    size: usize,
    fold: impl Fn(A, T) -> A,
) -> Result<(), Error> {
    if size == 0 || x.is_empty() {
        return Ok(());
    }
    let mut looks = Looks::default();
    for (slice, place) in x.chunks_exact(size).zip(places) {
        let Some(place) = place else { continue };
        for range in compute::ranges(size) {
            let range = range?;
            let elements = &mut into[place * size..][range.clone()];
            for (element, &x) in elements.iter_mut().zip(&slice[range]) {
                *element = fold(*element, x);
            }
        }
        looks.after(size)?;
    }
    Ok(())
}

/// `finish(fold(...fold(init, x0)..., xn))` of the slices that go to each place: `total` elements.
pub(crate) fn fold<T: Copy, A: Copy, U>(
    x: &[T],
    places: impl Iterator<Item = Option<usize>>,
    (size, total): (usize, usize),
    init: A,
    fold: impl Fn(A, T) -> A,
    finish: impl Fn(A) -> U,
) -> Result<Vec<U>, Error> {
    let mut folded = filled(total, init)?;
    fold_into(&mut folded, x, places, size, fold)?;
    map(&folded, finish)
}

/// Sums of the slices that go to each place.
pub(crate) fn sums<T: Number>(
    x: &[T],
    places: impl Iterator<Item = usize>,
    extents: (usize, usize),
) -> Result<Vec<T>, Error> {
    let add = |sum, x: T| T::wide_add(sum, x.widen());
    fold(x, places.map(Some), extents, T::ZERO.widen(), add, T::narrow)
}

/// A copy of `old` with slices combined with those at the given places, in order.
pub(crate) fn update<T: Copy>(
    (old, updates): (&[T], &[T]),
    places: &[usize],
    combine: impl Fn(T, T) -> T,
) -> Result<Vec<T>, Error> {
    let mut result = buffer(old.len())?;
    append(&mut result, old)?;
    let size = updates.len().checked_div(places.len()).unwrap_or(0);
    fold_into(&mut result, updates, places.iter().copied().map(Some), size, combine)?;
    Ok(result)
}
