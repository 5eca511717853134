//! Products of `float32` whose first factor is read where it lies: of matrices with few columns, where `matrixmultiply` spends
//! its time on packing it, and of the windows of a convolution, which are no matrix in memory at all.
//!
//! The second factor is in panels of sixteen columns. Each element of the
//! product is one chain of fused multiplications and additions from the first term to the last. So does `matrixmultiply` where
//! the sum is no longer than a block of its own, so that both give the same bits, and which is taken is a matter of speed.

use std::ops::Range;

use crate::{
    array::buffer,
    compute::{self, Looks},
    error::Error,
};

/// Columns of a panel: a register of AVX-512.
pub(crate) const WIDTH: usize = 16;

/// Panels that are computed at a time. Eight rows by two panels of sums fill sixteen of the 32 registers of AVX-512, so that
/// no sum waits for its last addition, and each number that is loaded is used twice or more. Six rows by one fill twelve of the
/// sixteen of AVX2 and leave four for factors.
const WIDE: usize = 2;
const NARROW: usize = 1;

/// Rows whose sums are best computed panel by panel: what is read for them stays in the cache of the first level.
pub(crate) const BLOCK: usize = 84;

/// Longest sum in registers. `matrixmultiply` adds up longer ones in blocks of as many terms.
pub(crate) const MAX_TERMS: usize = 256;

/// Most columns; beyond them the panels of the first factor are used often enough to be worth packing.
const MAX_COLUMNS: usize = 256;

/// Rows from which on this is worth it.
const FEW: usize = 6;

/// Rows for which a second factor is worth packing whose columns are what lies in a row: that goes element by element.
const TALL: usize = 64;

/// Most columns of a second factor that is read where it lies. The rows of a wider one are so far apart that they would push
/// each other out of the cache of the first level.
const MAX_IN_PLACE: usize = 4 * WIDTH;

/// A matrix: its elements, and the distances between rows and between columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a, T = f32> {
    pub(crate) elements: &'a [T],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// Rows of the product, terms of a sum, and columns of the product.
pub(crate) type Extents = (usize, usize, usize);

/// Whether [`product`] is the faster way, measured on a Zen 4 with AVX-512.
pub(crate) fn pays((rows, _, columns): Extents, a: Matrix, b: Matrix) -> bool {
    let in_order = a.column == 1 || columns <= WIDTH;
    let enough_rows = rows >= if b.column == 1 { FEW } else { TALL };
    has_fused() && columns <= MAX_COLUMNS && in_order && enough_rows
}

/// Bytes of the panels.
pub(crate) fn workspace((_, terms, columns): Extents) -> u64 {
    if columns > MAX_COLUMNS {
        return 0;
    }
    (terms.min(MAX_TERMS) * columns.next_multiple_of(WIDTH) * size_of::<f32>()) as u64
}

/// Whether the processor multiplies and adds in one step. Without it the same bits would take a function call each.
pub(crate) fn has_fused() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return cfg!(target_arch = "aarch64");
}

/// Writes the product of two matrices, row by row.
pub(crate) fn product(
    a: Matrix,
    b: Matrix,
    (rows, terms, columns): Extents,
    out: &mut [f32],
) -> Result<(), Error> {
    let in_place = b.column == 1 && columns.is_multiple_of(WIDTH) && columns <= MAX_IN_PLACE;
    let packed = if in_place { 0 } else { terms.min(MAX_TERMS) * columns.next_multiple_of(WIDTH) };
    let mut panels = buffer(packed)?;
    for first in (0..terms).step_by(MAX_TERMS) {
        let terms = MAX_TERMS.min(terms - first);
        let b = Matrix { elements: &b.elements[first * b.row..], ..b };
        let second = if in_place {
            Second { elements: b.elements, term: b.row, panel: WIDTH }
        } else {
            panels.clear();
            let rows = (0..terms).map(|term| term * b.row);
            pack(b.elements, &rows, b.column, columns, &mut panels)?;
            Second::packed(&panels, terms)
        };
        let a = Matrix { elements: &a.elements[first * a.column..], ..a };
        rows_of(a, second, (rows, terms, columns), (out, columns), first > 0)?;
    }
    Ok(())
}

/// Writes the product of a matrix and the first terms and columns of panels of so many terms, or adds it to what is there. The
/// rows of the result are so far apart.
pub(crate) fn times_panels(
    a: Matrix,
    (panels, height): (&[f32], usize),
    (rows, terms, columns): Extents,
    (out, distance): (&mut [f32], usize),
    adds: bool,
) -> Result<(), Error> {
    for first in (0..terms).step_by(MAX_TERMS) {
        let a = Matrix { elements: &a.elements[first * a.column..], ..a };
        let b = Second { elements: &panels[first * WIDTH..], ..Second::packed(panels, height) };
        let extents = (rows, MAX_TERMS.min(terms - first), columns);
        rows_of(a, b, extents, (&mut *out, distance), adds || first > 0)?;
    }
    Ok(())
}

/// Writes a product of [`MAX_TERMS`] terms at most, or adds it.
fn rows_of(
    a: Matrix,
    b: Second,
    (rows, terms, columns): Extents,
    (out, distance): (&mut [f32], usize),
    adds: bool,
) -> Result<(), Error> {
    let mut term_starts = [0; MAX_TERMS];
    for (term, start) in term_starts[..terms].iter_mut().enumerate() {
        *start = term * a.column;
    }
    let blocks = out.chunks_mut(BLOCK * distance).take(rows.div_ceil(BLOCK));
    for (i, out) in blocks.enumerate() {
        let mut row_starts = [0; BLOCK];
        let rows = &mut row_starts[..BLOCK.min(rows - i * BLOCK)];
        for (row, start) in (i * BLOCK..).zip(rows.iter_mut()) {
            *start = row * a.row;
        }
        let a = First { elements: a.elements, rows, terms: &term_starts[..terms] };
        let place = Place { out, row: distance, column: 1, columns };
        if adds { add(a, b, place)? } else { multiply(a, b, place)? }
    }
    Ok(())
}

/// Appends panels of a matrix, whose rows begin where it is said, and whose columns are at one distance. The last is filled
/// up with zeros. It looks at the flag between panels.
pub(crate) fn pack(
    elements: &[f32],
    terms: &(impl Iterator<Item = usize> + Clone),
    column: usize,
    columns: usize,
    panels: &mut Vec<f32>,
) -> Result<(), Error> {
    let mut looks = Looks::default();
    let count = terms.clone().count();
    for first in (0..columns).step_by(WIDTH) {
        let (start, width) = (panels.len(), WIDTH.min(columns - first));
        panels.resize(start + count * WIDTH, 0.0);
        let (lines, _) = panels[start..].as_chunks_mut::<WIDTH>();
        if column != 1 {
            // Column by column: what lies in a row is read at once, and numbers need not meet before they are written.
            for i in 0..width {
                let from = &elements[(first + i) * column..];
                for (line, term) in lines.iter_mut().zip(terms.clone()) {
                    line[i] = from[term];
                }
            }
        } else if width == WIDTH {
            for (line, term) in lines.iter_mut().zip(terms.clone()) {
                // Of known length, so that no function is called.
                line.copy_from_slice(&elements[term + first..][..WIDTH]);
            }
        } else {
            for (line, term) in lines.iter_mut().zip(terms.clone()) {
                line[..width].copy_from_slice(&elements[term + first..][..width]);
            }
        }
        looks.after(count * WIDTH)?;
    }
    Ok(())
}

/// [`pack`] of a matrix whose terms lie side by side.
pub(crate) fn pack_turned(
    elements: &[f32],
    terms: usize,
    column: usize,
    columns: usize,
    panels: &mut Vec<f32>,
) -> Result<(), Error> {
    let mut looks = Looks::default();
    for first in (0..columns).step_by(WIDTH) {
        let start = panels.len();
        panels.resize(start + terms * WIDTH, 0.0);
        let (lines, _) = panels[start..].as_chunks_mut::<WIDTH>();
        for i in 0..WIDTH.min(columns - first) {
            let from = &elements[(first + i) * column..][..terms];
            for (line, &x) in lines.iter_mut().zip(from) {
                line[i] = x;
            }
        }
        looks.after(terms * WIDTH)?;
    }
    Ok(())
}

/// The first factor: element `(i, j)` is at `rows[i] + terms[j]`. So is each of a matrix, and so are the cells of windows,
/// which need not be copied.
#[derive(Clone, Copy)]
pub(crate) struct First<'a> {
    pub(crate) elements: &'a [f32],
    pub(crate) rows: &'a [usize],
    pub(crate) terms: &'a [usize],
}

/// The second factor: panels of sixteen columns, and the distances between terms and between panels.
#[derive(Clone, Copy)]
pub(crate) struct Second<'a> {
    pub(crate) elements: &'a [f32],
    pub(crate) term: usize,
    pub(crate) panel: usize,
}

impl<'a> Second<'a> {
    /// What [`pack`] made of so many terms.
    pub(crate) fn packed(elements: &'a [f32], terms: usize) -> Self {
        Self { elements, term: WIDTH, panel: WIDTH * terms }
    }
}

/// Where the product goes: distances between its rows and columns, and how many columns there are.
pub(crate) struct Place<'a> {
    pub(crate) out: &'a mut [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) columns: usize,
}

/// Writes a product, if it is not stopped.
pub(crate) fn multiply(a: First, b: Second, mut place: Place) -> Result<(), Error> {
    for (i, terms) in a.terms.chunks(MAX_TERMS).enumerate() {
        compute::check()?;
        let b = Second { elements: &b.elements[i * MAX_TERMS * b.term..], ..b };
        sum_up(First { terms, ..a }, b, &mut place, i > 0);
    }
    Ok(())
}

/// Adds a product of [`MAX_TERMS`] terms at most to what is there, if it is not stopped.
pub(crate) fn add(a: First, b: Second, mut place: Place) -> Result<(), Error> {
    compute::check()?;
    sum_up(a, b, &mut place, true);
    Ok(())
}

fn sum_up(a: First, b: Second, place: &mut Place, adds: bool) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512f") {
        return wide(a, b, place, adds);
    }
    narrow(a, b, place, adds);
}

#[multiversion::multiversion(
    targets("x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma"),
    dispatcher = "direct"
)]
fn wide(a: First, b: Second, place: &mut Place, adds: bool) {
    tiles::<8, 7, WIDE>(a, b, place, adds);
}

#[multiversion::multiversion(targets("x86_64+avx2+fma"), dispatcher = "direct")]
fn narrow(a: First, b: Second, place: &mut Place, adds: bool) {
    tiles::<6, 5, NARROW>(a, b, place, adds);
}

/// Goes through a product in tiles of P panels and of R rows or of L, one less, so that all are whole if there are enough rows.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
fn tiles<const R: usize, const L: usize, const P: usize>(
    a: First,
    b: Second,
    place: &mut Place,
    adds: bool,
) {
    let panels = place.columns.div_ceil(WIDTH);
    for first in (0..panels).step_by(P) {
        let b = Second { elements: &b.elements[first * b.panel..], ..b };
        if panels - first < P {
            column::<R, L, 1>(a, b, first, place, adds);
        } else {
            column::<R, L, P>(a, b, first, place, adds);
        }
    }
}

/// The tiles of some panels. Loops, since what is called in a closure would not be compiled for the level.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
fn column<const R: usize, const L: usize, const P: usize>(
    a: First,
    b: Second,
    panel: usize,
    place: &mut Place,
    adds: bool,
) {
    let rows = a.rows.len();
    let larger = rows.saturating_sub(rows.div_ceil(R) * L) * R;
    for row in (0..larger).step_by(R) {
        one::<R, P>(a, b, (row, panel), place, adds);
    }
    for row in (larger..rows).step_by(L) {
        one::<L, P>(a, b, (row, panel), place, adds);
    }
}

/// One tile, which begins at a row and a panel.
#[inline(always)]
#[expect(clippy::inline_always, reason = "compiled for the level of its caller")]
fn one<const R: usize, const P: usize>(
    a: First,
    b: Second,
    (row, panel): (usize, usize),
    place: &mut Place,
    adds: bool,
) {
    let rows = &a.rows[row..a.rows.len().min(row + R)];
    // The last row once more where there are no more; it is not written again.
    let starts = std::array::from_fn(|r| rows[r.min(rows.len() - 1)]);
    // Computed apart, so that sums that need not go through memory do not.
    if rows.len() == R && place.column == 1 && (panel + P) * WIDTH <= place.columns {
        let sums = tile::<R, P>(a.elements, &starts, a.terms, b);
        let (out, distance) = (&mut place.out[row * place.row + panel * WIDTH..], place.row);
        if adds {
            put(&sums, out, distance, |out, sum| out + sum);
        } else {
            put(&sums, out, distance, |_, sum| sum);
        }
    } else {
        let sums = tile::<R, P>(a.elements, &starts, a.terms, b);
        place.put_cut(sums.as_flattened(), P, row..row + rows.len(), panel, adds);
    }
}

/// The sums of some rows and panels.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a call would keep the sums from staying in registers")]
fn tile<const R: usize, const P: usize>(
    x: &[f32],
    rows: &[usize; R],
    terms: &[usize],
    b: Second,
) -> [[[f32; WIDTH]; P]; R] {
    let mut sums = [[[0.0_f32; WIDTH]; P]; R];
    for (i, &term) in terms.iter().enumerate() {
        let x = &x[term..];
        let factors: [[f32; WIDTH]; P] = std::array::from_fn(|panel| {
            let at = i * b.term + panel * b.panel;
            std::array::from_fn(|column| b.elements[at..at + WIDTH][column])
        });
        for (sums, &row) in sums.iter_mut().zip(rows) {
            let x = x[row];
            for (sums, factors) in sums.iter_mut().zip(&factors) {
                for (sum, &factor) in sums.iter_mut().zip(factors) {
                    *sum = x.mul_add(factor, *sum);
                }
            }
        }
    }
    sums
}

impl Place<'_> {
    /// Writes or adds the sums of some rows and panels where columns are apart from each other, or fewer than those of the panels.
    fn put_cut(
        &mut self,
        sums: &[[f32; WIDTH]],
        panels: usize,
        rows: Range<usize>,
        panel: usize,
        adds: bool,
    ) {
        for (row, sums) in rows.zip(sums.chunks_exact(panels)) {
            for (panel, sums) in (panel..).zip(sums) {
                let first = panel * WIDTH;
                let (at, width) =
                    (row * self.row + first * self.column, WIDTH.min(self.columns - first));
                let out = self.out[at..].iter_mut().step_by(self.column).take(width);
                out.zip(sums).for_each(|(out, &sum)| *out = if adds { *out + sum } else { sum });
            }
        }
    }
}

/// Writes whole rows and panels, from the registers that the sums are in.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a call would take the sums through memory")]
fn put<const R: usize, const P: usize>(
    sums: &[[[f32; WIDTH]; P]; R],
    out: &mut [f32],
    distance: usize,
    update: impl Fn(f32, f32) -> f32,
) {
    for (r, sums) in sums.iter().enumerate() {
        // Of known length, so that no function is called.
        let out = &mut out[r * distance..][..P * WIDTH];
        for (out, &sum) in out.iter_mut().zip(sums.as_flattened()) {
            *out = update(*out, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Both ways of computing a product are taken, by shape; so they must not differ.
        #[test]
        fn the_bits_are_those_of_matrixmultiply(
            rows in 1_usize..100,
            terms in 1..3 * MAX_TERMS,
            columns in 1..=MAX_COLUMNS,
            turned: [bool; 2],
            seed: u32,
        ) {
            let mut state = seed;
            let mut numbers = |count: usize| -> Vec<f32> {
                let mut next = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    f32::from(u16::try_from(state >> 16).unwrap()) / 1e3 - 30.0
                };
                (0..count).map(|_| next()).collect()
            };
            let (a, b) = (numbers(rows * terms), numbers(terms * columns));
            let (mut ours, mut theirs) = (vec![0.0; rows * columns], vec![0.0; rows * columns]);
            let view = |elements, (rows, columns), turned| {
                if turned {
                    ArrayView2::from_shape((columns, rows), elements).unwrap().reversed_axes()
                } else {
                    ArrayView2::from_shape((rows, columns), elements).unwrap()
                }
            };
            let matrix = |elements, (rows, columns), turned| {
                let (row, column) = if turned { (1, rows) } else { (columns, 1) };
                Matrix { elements, row, column }
            };
            let mut out = ArrayViewMut2::from_shape((rows, columns), &mut theirs).unwrap();
            let (a_extents, b_extents) = ((rows, terms), (terms, columns));
            let [a_turned, b_turned] = turned;
            general_mat_mul(
                1.0,
                &view(&a, a_extents, a_turned),
                &view(&b, b_extents, b_turned),
                0.0,
                &mut out,
            );
            let a = matrix(&a, a_extents, a_turned);
            let b = matrix(&b, b_extents, b_turned);
            product(a, b, (rows, terms, columns), &mut ours).unwrap();
            if has_fused() {
                prop_assert!(ours.iter().zip(&theirs).all(|(x, y)| x.to_bits() == y.to_bits()));
            }
        }
    }
}
