//! The derivatives of decompositions. Dots stand for tangents, bars for cotangents, `k` for the shorter side.

use smallvec::smallvec;

use crate::{
    graph::Var,
    op::Vars,
    ops::{
        TRIANGULAR_SOLVE, TriangularSolve,
        matrices::{
            band, below, column, diag, diag_part, extended, half, joined, part, reciprocal, row,
            transposed, with_transposed,
        },
    },
};

fn solve<'g>(matrix: Var<'g>, rhs: Var<'g>, lower: bool, adjoint: bool) -> Var<'g> {
    matrix.op(&TRIANGULAR_SOLVE, TriangularSolve { lower, adjoint }.write(), &[rhs])
}

/// `x R^-1`, or `x R^-T`, for an upper triangular R.
fn divided<'g>(x: Var<'g>, r: Var<'g>, adjoint: bool) -> Var<'g> {
    transposed(solve(r, transposed(x), false, !adjoint))
}

// --- Cholesky: Murray, "Differentiation of the Cholesky decomposition", 2016 ---

/// `L half(L^-1 A. L^-T)`.
pub(super) fn cholesky_along<'g>(l: Var<'g>, t: Var<'g>) -> Var<'g> {
    let symmetric = with_transposed(t) * 0.5;
    let inner = solve(l, transposed(solve(l, symmetric, true, false)), true, false);
    l.matmul(half(inner), false, false)
}

/// The symmetric part of `L^-T half(L^T L_) L^-1`.
pub(super) fn cholesky_back<'g>(l: Var<'g>, ct: Var<'g>) -> Var<'g> {
    let inner = half(l.matmul(ct, true, false));
    let left = solve(l, inner, true, true);
    with_transposed(transposed(solve(l, transposed(left), true, true))) * 0.5
}

// --- eigenvalues: Giles, "Collected matrix derivative results", 2008 ---

/// `1 / (w_j - w_i)`, and 0 where they are equal.
fn gaps(w: Var<'_>) -> Var<'_> {
    reciprocal(row(w) - column(w))
}

/// With `P = V^T A. V`: `w. = diag P` and `V. = V (P / gaps)`.
pub(super) fn eigh_along<'g>(y: &[Var<'g>], t: Var<'g>) -> Vars<'g> {
    let (w, v) = (y[0], y[1]);
    // The lower triangle is read, and stands for the upper one.
    let symmetric = with_transposed(half(t));
    let p = v.matmul(symmetric, true, false).matmul(v, false, false);
    smallvec![diag_part(p), v.matmul(gaps(w) * p, false, false)]
}

/// `V (diag w_ + V^T V_ / gaps) V^T`, folded into the lower triangle.
pub(super) fn eigh_back<'g>(y: &[Var<'g>], ct: &[Var<'g>]) -> Var<'g> {
    let (w, v) = (y[0], y[1]);
    let inner = diag(ct[0]) + gaps(w) * v.matmul(ct[1], true, false);
    half(with_transposed(v.matmul(inner, false, false).matmul(v, false, true)))
}

// --- what full orthogonal factors have more: a basis of the rest, which follows the first k columns ---

fn first(q: Var<'_>, k: usize) -> (Var<'_>, Option<Var<'_>>) {
    let columns = q.shape().last().copied().unwrap_or(0);
    (part(q, 1, 0, k), (columns > k).then(|| part(q, 1, k, columns)))
}

/// The tangent of a full factor: the rest moves by `-Q1 Q1.^T Q2`.
fn full_tangent<'g>(q: Var<'g>, k: usize, t: Var<'g>) -> Var<'g> {
    let (main, Some(rest)) = first(q, k) else { return t };
    joined(t, 1, -main.matmul(t.matmul(rest, true, false), false, false))
}

/// The cotangent of the first k columns, with what reaches them through the rest.
fn main_cotangent<'g>(q: Var<'g>, k: usize, ct: Var<'g>) -> Var<'g> {
    let ((main, rest), (main_ct, rest_ct)) = (first(q, k), first(ct, k));
    match rest.zip(rest_ct) {
        Some((rest, ct)) => main_ct - rest.matmul(ct.matmul(main, true, false), false, false),
        None => main_ct,
    }
}

/// What is orthogonal to the columns of `q`; nothing, exactly, if those are all.
fn orthogonal<'g>(q: Var<'g>, x: Var<'g>) -> Option<Var<'g>> {
    let [.., rows, columns] = q.shape()[..] else { return None };
    (rows > columns).then(|| x - q.matmul(q.matmul(x, true, false), false, false))
}

// --- QR: Walter and Lehmann, "Algorithmic differentiation of linear algebra functions", 2012 ---

/// With `C = Q^T A1. R1^-1` and its antisymmetric part `W = below(C) - below(C)^T`: `Q. = Q W + (1 - Q Q^T) A1. R1^-1` and
/// `R. = Q^T A. - W R`, where A1 and R1 are the first k columns.
pub(super) fn qr_along<'g>(y: &[Var<'g>], t: Var<'g>) -> Vars<'g> {
    let (full, r_full) = (y[0], y[1]);
    let [.., m, n] = t.shape()[..] else { return y.into() };
    let k = m.min(n);
    let (q, r) = (part(full, 1, 0, k), part(r_full, 2, 0, k));
    let scaled = divided(part(t, 1, 0, k), part(r, 1, 0, k), false);
    let lower = below(q.matmul(scaled, true, false));
    let turn = lower - transposed(lower);
    let mut tangent = q.matmul(turn, false, false);
    if let Some(outside) = orthogonal(q, scaled) {
        tangent = tangent + outside;
    }
    let upper = band(q.matmul(t, true, false) - turn.matmul(r, false, false), 0, -1);
    smallvec![full_tangent(full, k, tangent), extended(upper, 2, r_full_rows(r_full))]
}

fn r_full_rows(r: Var<'_>) -> usize {
    r.shape().iter().rev().nth(1).copied().unwrap_or(0)
}

/// With `M = Q^T Q_ - R_ R^T`: `Q R_ + (Q below(M - M^T) + (1 - Q Q^T) Q_) R1^-T`, the second term for the first k columns.
pub(super) fn qr_back<'g>(y: &[Var<'g>], ct: &[Var<'g>]) -> Var<'g> {
    let (full, r_full) = (y[0], y[1]);
    let rows = r_full_rows(full);
    let columns = r_full.shape().last().copied().unwrap_or(0);
    let k = rows.min(columns);
    let (q, r) = (part(full, 1, 0, k), part(r_full, 2, 0, k));
    let q_ct = main_cotangent(full, k, ct[0]);
    let r_ct = band(part(ct[1], 2, 0, k), 0, -1);
    let inner = q.matmul(q_ct, true, false) - r_ct.matmul(r, false, true);
    let mut scaled = q.matmul(below(inner - transposed(inner)), false, false);
    if let Some(outside) = orthogonal(q, q_ct) {
        scaled = scaled + outside;
    }
    let main = divided(scaled, part(r, 1, 0, k), true);
    q.matmul(r_ct, false, false) + extended(main, 1, columns)
}

// --- singular values: Townsend, "Differentiating the singular value decomposition", 2016 ---

/// `1 / (s_j^2 - s_i^2)`, and 0 where they are equal.
fn square_gaps(s: Var<'_>) -> Var<'_> {
    reciprocal((row(s) - column(s)) * (row(s) + column(s)))
}

/// With `P = U^T A. V`: `s. = diag P`, `U. = U ((P S + S P^T) / gaps) + (1 - U U^T) A. V S^-1`, and V likewise.
pub(super) fn svd_along<'g>(y: &[Var<'g>], t: Var<'g>) -> Vars<'g> {
    let s = y[0];
    let k = s.shape().last().copied().unwrap_or(0);
    let (u, v) = (part(y[1], 1, 0, k), part(y[2], 1, 0, k));
    let (image, preimage) = (t.matmul(v, false, false), t.matmul(u, true, false));
    let p = u.matmul(image, true, false);
    let gaps = square_gaps(s);
    let side = |main: Var<'g>, inner: Var<'g>, image: Var<'g>| {
        let turned = main.matmul(gaps * with_transposed(inner), false, false);
        orthogonal(main, image).map_or(turned, |outside| turned + outside * row(reciprocal(s)))
    };
    smallvec![
        diag_part(p),
        full_tangent(y[1], k, side(u, p * row(s), image)),
        full_tangent(y[2], k, side(v, column(s) * p, preimage)),
    ]
}

/// `U (diag s_ + sym(U^T U_ / gaps) S + S sym(V^T V_ / gaps)) V^T`, and what is orthogonal to U and V.
pub(super) fn svd_back<'g>(y: &[Var<'g>], ct: &[Var<'g>]) -> Var<'g> {
    let s = y[0];
    let k = s.shape().last().copied().unwrap_or(0);
    let (u, v) = (part(y[1], 1, 0, k), part(y[2], 1, 0, k));
    let (u_ct, v_ct) = (main_cotangent(y[1], k, ct[1]), main_cotangent(y[2], k, ct[2]));
    let gaps = square_gaps(s);
    let turn = |main: Var<'g>, ct| with_transposed(gaps * main.matmul(ct, true, false));
    let inner = diag(ct[0]) + turn(u, u_ct) * row(s) + column(s) * turn(v, v_ct);
    let mut left = u.matmul(inner, false, false);
    if let Some(outside) = orthogonal(u, u_ct) {
        left = left + outside * row(reciprocal(s));
    }
    let mut all = left.matmul(v, false, true);
    if let Some(outside) = orthogonal(v, v_ct) {
        all = all + u.matmul(outside * row(reciprocal(s)), false, true);
    }
    all
}
