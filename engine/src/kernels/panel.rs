//! Matrix products of `float32` with few columns, where `matrixmultiply` spends its time on packing the first factor.
//!
//! The second factor is copied into panels of sixteen columns, and the first is read where it lies. Each element of the
//! product is one chain of fused multiplications and additions from the first term to the last. So does `matrixmultiply` where
//! the sum is no longer than a block of its own, so that both give the same bits, and which is taken is a matter of speed.

use crate::{array::buffer, error::Error};

/// Columns of a panel: a register of AVX-512.
const WIDTH: usize = 16;

/// Rows that are computed at a time. Six by sixteen sums fill twelve registers of AVX2 and leave four for factors.
const ROWS: usize = 6;

/// Longest sum. `matrixmultiply` adds up longer ones in blocks of as many terms.
const MAX_TERMS: usize = 256;

/// Most columns; beyond them the panels of the first factor are used often enough to be worth packing.
const MAX_COLUMNS: usize = 160;

/// A matrix: its elements, and the distances between rows and between columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    pub(crate) elements: &'a [f32],
    pub(crate) row: usize,
    pub(crate) column: usize,
}

/// Rows of the product, terms of a sum, and columns of the product.
pub(crate) type Extents = (usize, usize, usize);

/// Whether [`product`] is the faster way, measured on a Zen 4 with AVX-512.
pub(crate) fn pays((rows, terms, columns): Extents, a: Matrix, b: Matrix) -> bool {
    let in_order = a.column == 1 || columns <= WIDTH;
    // Copying columns of the second factor goes element by element.
    let enough_rows = if b.column == 1 { rows >= ROWS } else { rows >= 256 };
    has_fused() && terms <= MAX_TERMS && columns <= MAX_COLUMNS && in_order && enough_rows
}

/// Bytes of the panels.
pub(crate) fn workspace((_, terms, columns): Extents) -> u64 {
    if terms > MAX_TERMS || columns > MAX_COLUMNS {
        return 0;
    }
    (terms * columns.next_multiple_of(WIDTH) * size_of::<f32>()) as u64
}

/// Whether the processor multiplies and adds in one step. Without it the same bits would take a function call each.
fn has_fused() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return cfg!(target_arch = "aarch64");
}

/// Writes the product of two matrices, row by row.
pub(crate) fn product(
    a: Matrix,
    b: Matrix,
    extents: Extents,
    out: &mut [f32],
) -> Result<(), Error> {
    let (_, terms, columns) = extents;
    let mut panels = buffer(terms * columns.next_multiple_of(WIDTH))?;
    for first in (0..columns).step_by(WIDTH) {
        let width = WIDTH.min(columns - first);
        for term in 0..terms {
            let from = &b.elements[term * b.row + first * b.column..];
            if b.column == 1 {
                panels.extend_from_slice(&from[..width]);
            } else {
                panels.extend(from.iter().step_by(b.column).take(width));
            }
            panels.resize(panels.len() + WIDTH - width, 0.0);
        }
    }
    multiply(a, &panels, extents, out);
    Ok(())
}

#[multiversion::multiversion(
    targets("x86_64+avx512f+avx512bw+avx512cd+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma",),
    dispatcher = "direct"
)]
fn multiply(a: Matrix, panels: &[f32], (rows, terms, columns): Extents, out: &mut [f32]) {
    for row in (0..rows).step_by(ROWS) {
        let a = Matrix { elements: &a.elements[row * a.row..], ..a };
        for (j, panel) in panels.chunks_exact(terms * WIDTH).enumerate() {
            let width = WIDTH.min(columns - j * WIDTH);
            let place = Place { out: &mut out[row * columns + j * WIDTH..], columns, width };
            match rows - row {
                1 => tile::<1>(a, panel, place),
                2 => tile::<2>(a, panel, place),
                3 => tile::<3>(a, panel, place),
                4 => tile::<4>(a, panel, place),
                5 => tile::<5>(a, panel, place),
                _ => tile::<ROWS>(a, panel, place),
            }
        }
    }
}

/// Where a tile goes: from where, how far to its next row, and how many columns it has.
struct Place<'a> {
    out: &'a mut [f32],
    columns: usize,
    width: usize,
}

/// Some rows of a panel's columns.
#[inline(always)]
#[expect(clippy::inline_always, reason = "a call would keep the sums from staying in registers")]
fn tile<const R: usize>(a: Matrix, panel: &[f32], Place { out, columns, width }: Place) {
    let mut sums = [[0.0_f32; WIDTH]; R];
    for (term, factors) in panel.chunks_exact(WIDTH).enumerate() {
        for (row, sums) in sums.iter_mut().enumerate() {
            let x = a.elements[row * a.row + term * a.column];
            for (sum, &factor) in sums.iter_mut().zip(factors) {
                *sum = x.mul_add(factor, *sum);
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        out[row * columns..row * columns + width].copy_from_slice(&sums[..width]);
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
            rows in 1_usize..40,
            terms in 1..=MAX_TERMS,
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
