//! What defines each decomposition, on matrices that are hard for it. The numbers are compared with TensorFlow's in
//! `tests/golden`.

use super::{
    eigen::{Workspace, eigh},
    factor::{self, Triangle},
    qr::Qr,
    svd::svd,
};
use crate::random::State;

/// Matrices of `m` rows and `n` columns: random ones, of low rank, of zeros, tiny, huge, and with equal columns.
fn matrices(m: usize, n: usize) -> Vec<Vec<f64>> {
    let random = |seed: i64| -> Vec<f64> {
        (0..(m * n) as u64).map(|i| State::new(seed, 0).uniform(i) - 0.5).collect()
    };
    let scaled = |by: f64| random(1).iter().map(|x| x * by).collect();
    let (row, column) = (random(2), random(3));
    let graded = |i: usize| random(4)[i] * 10_f64.powi(-3 * i32::try_from(i % n).unwrap());
    vec![
        random(1),
        (0..m * n).map(|i| row[i % n] * column[i / n * n]).collect(),
        vec![0.0; m * n],
        vec![1.0; m * n],
        scaled(1e-200),
        scaled(1e200),
        (0..m * n).map(graded).collect(),
    ]
}

/// `a b`, or `a^T b`.
fn product(a: &[f64], b: &[f64], (m, k, n): (usize, usize, usize), transposed: bool) -> Vec<f64> {
    let entry = |i: usize, j: usize| {
        let a = |l: usize| if transposed { a[l * m + i] } else { a[i * k + l] };
        (0..k).map(|l| a(l) * b[l * n + j]).sum()
    };
    (0..m * n).map(|at| entry(at / n, at % n)).collect()
}

fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|i| f64::from(u8::from(i % (n + 1) == 0))).collect()
}

fn transposed(a: &[f64], n: usize) -> Vec<f64> {
    (0..a.len()).map(|i| a[i % (a.len() / n) * n + i / (a.len() / n)]).collect()
}

#[track_caller]
fn close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(f64::MIN_POSITIVE, |most, x| x.abs().max(most));
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 1e-13 * size, "{what}: {found:?}, not {expected:?}");
    }
}

#[test]
fn qr_gives_orthonormal_columns_and_a_triangle() {
    for (m, n) in [(1, 1), (4, 4), (6, 3), (3, 6), (1, 4), (4, 1)] {
        for a in matrices(m, n) {
            let (mut packed, mut factors) = (a.clone(), vec![0.0; m.min(n)]);
            let (mut vector, mut sums) = (vec![0.0; m], vec![0.0; m.max(n)]);
            let mut qr = Qr { packed: &mut packed, factors: &mut factors, m, n };
            qr.decompose(&mut vector, &mut sums).unwrap();
            let (mut q, mut r) = (identity(m), vec![0.0; m * n]);
            qr.apply(&mut q, m, &mut sums).unwrap();
            qr.upper(&mut r);
            close(&product(&q, &q, (m, m, m), true), &identity(m), "q^T q");
            close(&product(&q, &r, (m, m, n), false), &a, "q r");
            assert!((0..m * n).all(|at| at / n <= at % n || r[at] == 0.0), "{r:?}");
        }
    }
}

#[test]
fn eigenvectors_are_orthonormal_and_give_the_matrix() {
    for n in [1, 2, 3, 7, 20] {
        for mut a in matrices(n, n) {
            (0..n * n).filter(|at| at / n < at % n).for_each(|at| a[at] = a[at % n * n + at / n]);
            let (mut vectors, mut values) = (a.clone(), vec![0.0; n]);
            let (mut beside, mut v, mut w) = (vec![0.0; n], vec![0.0; n], vec![0.0; n]);
            let mut work = Workspace { beside: &mut beside, v: &mut v, w: &mut w };
            assert!(eigh(&mut vectors, n, &mut values, &mut work).unwrap(), "{a:?}");
            assert!(values.is_sorted(), "{values:?}");
            let columns = transposed(&vectors, n);
            close(&product(&vectors, &columns, (n, n, n), false), &identity(n), "v^T v");
            let scaled: Vec<f64> = (0..n * n).map(|at| values[at / n] * vectors[at]).collect();
            close(&product(&vectors, &scaled, (n, n, n), true), &a, "v diag(w) v^T");
        }
    }
}

#[test]
fn singular_vectors_are_orthonormal_and_give_the_matrix() {
    for n in [1, 2, 3, 7, 20] {
        for a in matrices(n, n) {
            let (mut right, mut values, mut left) = (a.clone(), vec![0.0; n], vec![0.0; n * n]);
            assert!(svd(&mut right, n, &mut values, &mut left).unwrap(), "{a:?}");
            assert!(values.is_sorted_by(|a, b| a >= b) && values[n - 1] >= 0.0, "{values:?}");
            for vectors in [&left, &right] {
                let columns = transposed(vectors, n);
                close(&product(vectors, &columns, (n, n, n), false), &identity(n), "v^T v");
            }
            let scaled: Vec<f64> = (0..n * n).map(|at| values[at / n] * right[at]).collect();
            close(&product(&left, &scaled, (n, n, n), true), &a, "u diag(s) v^T");
        }
    }
}

#[test]
fn equations_are_solved_both_ways() {
    for n in [1, 2, 5, 20] {
        // Zeros on the diagonal, so that rows must be exchanged, in cycles of several lengths.
        let a: Vec<f64> = (0..n * n)
            .map(|at| {
                State::new(5, 0).uniform(at as u64) * f64::from(u8::from(at % (n + 1) > 0)) + 1e-3
            })
            .collect();
        let b: Vec<f64> = (0..(2 * n) as u64).map(|i| State::new(6, 0).uniform(i)).collect();
        let (mut factors, mut order, mut x) = (a.clone(), vec![0; n], vec![0.0; 2 * n]);
        factor::lu(&mut factors, n, &mut order).unwrap();
        for is_transposed in [false, true] {
            factor::solve((&factors, &order), is_transposed, &b, &mut x, 2).unwrap();
            let found = product(&a, &x, (n, n, 2), is_transposed);
            let worst = found.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-11, "{worst}");
        }
    }
}

#[test]
fn each_triangle_is_solved_from_its_own_elements() {
    let n = 4;
    let a = &matrices(n, n)[0];
    for (lower, transposed, unit) in
        [(true, false, false), (true, true, true), (false, false, true), (false, true, false)]
    {
        let read = |at: usize| {
            let (i, j) = (at / n, at % n);
            match i.cmp(&j) {
                std::cmp::Ordering::Equal if unit => 1.0,
                std::cmp::Ordering::Equal => a[at],
                std::cmp::Ordering::Greater if lower => a[at],
                std::cmp::Ordering::Less if !lower => a[at],
                std::cmp::Ordering::Greater | std::cmp::Ordering::Less => 0.0,
            }
        };
        let triangle: Vec<f64> = (0..n * n).map(read).collect();
        let b = &matrices(n, 3)[0];
        let mut x = b.clone();
        factor::substitute(a, n, Triangle { lower, transposed, unit }, &mut x, 3).unwrap();
        let found = product(&triangle, &x, (n, n, 3), transposed);
        let worst = found.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-11, "{worst}");
    }
}

#[test]
fn cholesky_factors_give_the_matrix_and_refuse_others() {
    for n in [1, 2, 5, 20] {
        let b = &matrices(n, n)[0];
        let mut a = product(b, &transposed(b, n), (n, n, n), false);
        (0..n).for_each(|i| a[i * n + i] += 0.1);
        let mut l = a.clone();
        assert!(factor::cholesky(&mut l, n).unwrap());
        close(&product(&l, &transposed(&l, n), (n, n, n), false), &a, "l l^T");
        for wrong in [0.0, -1.0, f64::NAN] {
            let mut a = a.clone();
            a[n * n - 1] = wrong;
            assert!(!factor::cholesky(&mut a, n).unwrap(), "{wrong}");
        }
    }
}

#[test]
fn what_is_not_finite_ends() {
    for wrong in [f64::NAN, f64::INFINITY] {
        for place in 0..9 {
            let mut a = matrices(3, 3)[0].clone();
            a[place] = wrong;
            a[place % 3 * 3 + place / 3] = wrong;
            let (mut values, mut left) = (vec![0.0; 3], vec![0.0; 9]);
            assert!(!svd(&mut a.clone(), 3, &mut values, &mut left).unwrap());
            let (mut beside, mut v, mut w) = ([0.0; 3], [0.0; 3], [0.0; 3]);
            let mut work = Workspace { beside: &mut beside, v: &mut v, w: &mut w };
            assert!(!eigh(&mut a, 3, &mut values, &mut work).unwrap());
        }
    }
}
