//! Decompositions of matrices, which are the last two axes of a tensor.
//!
//! Their factors are determined up to signs, and to rotations where values are equal. The signs are fixed by rules that the
//! summaries give; the derivatives are right for whatever does not depend on the choice, and are those of TensorFlow.

use smallvec::smallvec;

use crate::{
    array::{Array, buffer},
    attrs,
    attrs::Attr,
    aval::Aval,
    batching::{Batch, Batching},
    error::Error,
    kernels::{
        matrix::{
            eigen::{Workspace, eigh},
            factor,
            qr::Qr,
            svd::svd,
            zeros,
        },
        real::Real,
    },
    op::{Arrays, Call, Cost, Derivative, Kernel, OpDef, Reads, Vars, cotangent_at},
    ops::{
        decomposition_rules as rules,
        family::{self, by_dtype, matrix, sample, sample_with, symmetric, uniform},
        matrices::{Matrices, load},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&CHOLESKY, &EIGH, &QR, &SVD];

/// An op is applied to stacks of matrices as it is: a stack of those is one axis more.
pub(super) fn stacked<'g>(b: &Batch<'_, 'g>) -> Option<Vars<'g>> {
    b.apply(&b.aligned(), vec![])
}

const fn decomposition(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        family: "linalg",
        batching: Batching::Rule(stacked),
        ..family::unary(name, summary, formula, kernel, derivative)
    }
}

/// A price: operations for one matrix, and the doubles that its decomposition works in.
pub(super) fn price(count: usize, flops: f64, doubles: u64) -> Cost {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let all = count as f64 * flops;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the conversion saturates, and the number is positive"
    )]
    Cost { flops: all as u64, workspace: doubles.saturating_mul(8) }
}

/// Appends a matrix of `columns` columns, transposed, in the element type of the result.
fn push_transposed<T: Real>(into: &mut Vec<T>, from: &[f64], columns: usize) {
    for j in 0..columns {
        into.extend(from.iter().skip(j).step_by(columns).map(|&x| T::of(x)));
    }
}

// --- Cholesky ---

/// Cholesky factor.
pub static CHOLESKY: OpDef = OpDef {
    inputs: &["input"],
    infer: |call| {
        Matrices::square(&call.inputs[0].shape)?;
        family::same(call)
    },
    cost: |call, _| {
        let m = Matrices::priced(call);
        price(m.count(), m.cube() / 3.0, m.area())
    },
    samples: &[
        sample(&[symmetric(&[3, 3])]),
        sample(&[symmetric(&[2, 2, 2])]),
        sample(&[symmetric(&[1, 0, 0])]),
    ],
    ..decomposition(
        "cholesky",
        "Lower triangular factor of symmetric positive definite matrices, with a positive diagonal. The lower triangle is read; the gradient is symmetric.",
        "y y^T = input",
        Kernel::Run(
            |call, out, inputs| by_dtype!(float: out[0].dtype, T => run_cholesky::<T>(call, &out[0], inputs[0])),
        ),
        Derivative::Custom {
            reads: Reads::Y,
            vjp: |r, ct| cotangent_at(0, rules::cholesky_back(r.y(), ct[0])),
            jvp: |r, t| {
                smallvec![t[0].map_or_else(|| r.y().zeros(), |t| rules::cholesky_along(r.y(), t))]
            },
        },
    )
};

fn run_cholesky<T: Real>(call: &Call, out: &Aval, x: &Array) -> Result<Arrays, Error> {
    let m = Matrices::of(&call.inputs[0].shape)?;
    let x = x.elements::<T>()?;
    let mut y = buffer(x.len())?;
    let mut a = zeros(m.rows * m.rows)?;
    for position in 0..m.count() {
        load(x, position, &mut a);
        if !factor::cholesky(&mut a, m.rows)? {
            return Err(Error::NotPositiveDefinite { position });
        }
        y.extend(a.iter().map(|&x| T::of(x)));
    }
    Ok(smallvec![Array::new(&out.shape, y)?])
}

// --- eigenvalues ---

/// Eigenvalues and eigenvectors.
pub static EIGH: OpDef = OpDef {
    inputs: &["tensor"],
    outputs: &["eigenvalues", "eigenvectors"],
    infer: |call| {
        let (x, m) = (&call.inputs[0], Matrices::square(&call.inputs[0].shape)?);
        let values = Aval { dtype: x.dtype, shape: m.with(&[m.rows]) };
        Ok(smallvec![values, x.clone()])
    },
    cost: |call, _| {
        let m = Matrices::priced(call);
        // Tridiagonal form, the product of its reflections, and two QL steps of each eigenvalue.
        price(m.count(), 12.0 * m.cube(), m.area().saturating_add(4 * m.rows as u64))
    },
    samples: &[
        sample(&[symmetric(&[3, 3])]),
        sample(&[symmetric(&[2, 2, 2])]),
        sample(&[symmetric(&[1, 1])]),
        sample(&[symmetric(&[2, 0, 0])]),
    ],
    ..decomposition(
        "eigh",
        "Eigenvalues of symmetric matrices from the smallest up, and unit eigenvectors as columns, whose component of largest magnitude is positive. The lower triangle is read, and gets the gradient.",
        "tensor = eigenvectors diag(eigenvalues) eigenvectors^T",
        Kernel::Run(
            |call, out, inputs| by_dtype!(float: out[0].dtype, T => run_eigh::<T>(call, out, inputs[0])),
        ),
        Derivative::Custom {
            reads: Reads::Y,
            vjp: |r, ct| cotangent_at(0, rules::eigh_back(&r.y, ct)),
            jvp: |r, t| match t[0] {
                Some(t) => rules::eigh_along(&r.y, t),
                None => r.y.iter().map(|y| y.zeros()).collect(),
            },
        },
    )
};

fn run_eigh<T: Real>(call: &Call, out: &[Aval], x: &Array) -> Result<Arrays, Error> {
    let m = Matrices::of(&call.inputs[0].shape)?;
    let (n, x) = (m.rows, x.elements::<T>()?);
    let mut all_values: Vec<T> = buffer(m.count() * n)?;
    let mut vectors: Vec<T> = buffer(x.len())?;
    let (mut a, mut values) = (zeros(n * n)?, zeros(n)?);
    let (mut beside, mut v, mut w) = (zeros(n)?, zeros(n)?, zeros(n)?);
    for position in 0..m.count() {
        load(x, position, &mut a);
        let mut work = Workspace { beside: &mut beside, v: &mut v, w: &mut w };
        if !eigh(&mut a, n, &mut values, &mut work)? {
            return Err(Error::NotDecomposed { position });
        }
        all_values.extend(values.iter().map(|&x| T::of(x)));
        push_transposed(&mut vectors, &a, n);
    }
    Ok(smallvec![Array::new(&out[0].shape, all_values)?, Array::new(&out[1].shape, vectors)?])
}

// --- QR and singular values ---

attrs! {
    /// How much of the factors is wanted.
    Factors {
        /// Whether the orthogonal factors are square, and not only as large as the shorter side.
        full_matrices: bool = Bool(false),
    }
}

/// How many columns an orthogonal factor of matrices with these rows has.
fn columns(call: &Call, m: &Matrices, rows: usize) -> usize {
    if Factors::read(call.attrs).full_matrices { rows } else { m.rows.min(m.columns) }
}

const fn full(inputs: &'static [crate::op::Input]) -> crate::op::Sample {
    sample_with(inputs, || vec![("full_matrices", Attr::Bool(true))])
}

/// QR decomposition.
pub static QR: OpDef = OpDef {
    inputs: &["input"],
    outputs: &["q", "r"],
    attrs: Factors::SPECS,
    infer: |call| {
        let (x, m) = (&call.inputs[0], Matrices::of(&call.inputs[0].shape)?);
        let columns = columns(call, &m, m.rows);
        let aval = |rows, columns| Aval { dtype: x.dtype, shape: m.with(&[rows, columns]) };
        Ok(smallvec![aval(m.rows, columns), aval(columns, m.columns)])
    },
    cost: |call, _| {
        let m = Matrices::priced(call);
        let columns = columns(call, &m, m.rows);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let flops = 4.0 * m.area() as f64 * (m.rows.min(m.columns) + columns) as f64;
        let q = (m.rows as u64).saturating_mul(columns as u64);
        let r = (m.columns as u64).saturating_mul(columns as u64);
        let lines = 4 * (m.rows as u64 + m.columns as u64);
        price(m.count(), flops, m.area().saturating_add(q).saturating_add(r).saturating_add(lines))
    },
    samples: &[
        sample(&[matrix(&[3, 3])]),
        sample(&[matrix(&[4, 2])]),
        sample(&[matrix(&[2, 2, 3])]),
        full(&[matrix(&[3, 2])]),
        full(&[matrix(&[2, 3])]),
        full(&[uniform(&[2, 0], -1.0, 1.0)]),
        sample(&[uniform(&[0, 2, 2], -1.0, 1.0)]),
    ],
    ..decomposition(
        "qr",
        "Orthonormal columns and upper triangular matrices, with LAPACK's signs.",
        "input = q r",
        Kernel::Run(
            |call, out, inputs| by_dtype!(float: out[0].dtype, T => run_qr::<T>(call, out, inputs[0])),
        ),
        Derivative::Custom {
            reads: Reads::Y,
            vjp: |r, ct| cotangent_at(0, rules::qr_back(&r.y, ct)),
            jvp: |r, t| match t[0] {
                Some(t) => rules::qr_along(&r.y, t),
                None => r.y.iter().map(|y| y.zeros()).collect(),
            },
        },
    )
};

fn run_qr<T: Real>(call: &Call, out: &[Aval], x: &Array) -> Result<Arrays, Error> {
    let m = Matrices::of(&call.inputs[0].shape)?;
    let (rows, columns, x) = (m.rows, columns(call, &m, m.rows), x.elements::<T>()?);
    let (mut all_q, mut all_r) =
        (buffer(out[0].shape.elements())?, buffer(out[1].shape.elements())?);
    let (mut packed, mut factors) = (zeros(rows * m.columns)?, zeros(rows.min(m.columns))?);
    let (mut q, mut r) = (zeros(rows * columns)?, zeros(columns * m.columns)?);
    let (mut vector, mut sums) = (zeros(rows)?, zeros(columns.max(m.columns))?);
    for position in 0..m.count() {
        load(x, position, &mut packed);
        let mut qr = Qr { packed: &mut packed, factors: &mut factors, m: rows, n: m.columns };
        qr.decompose(&mut vector, &mut sums)?;
        q.fill(0.0);
        q.iter_mut().step_by(columns + 1).take(columns).for_each(|x| *x = 1.0);
        qr.apply(&mut q, columns, &mut sums)?;
        qr.upper(&mut r);
        all_q.extend(q.iter().map(|&x| T::of(x)));
        all_r.extend(r.iter().map(|&x| T::of(x)));
    }
    Ok(smallvec![Array::new(&out[0].shape, all_q)?, Array::new(&out[1].shape, all_r)?])
}

/// Singular value decomposition.
pub static SVD: OpDef = OpDef {
    inputs: &["tensor"],
    outputs: &["s", "u", "v"],
    attrs: Factors::SPECS,
    infer: |call| {
        let (x, m) = (&call.inputs[0], Matrices::of(&call.inputs[0].shape)?);
        let aval = |tail: &[usize]| Aval { dtype: x.dtype, shape: m.with(tail) };
        let side = |rows| aval(&[rows, columns(call, &m, rows)]);
        let values = aval(&[m.rows.min(m.columns)]);
        Ok([values, side(m.rows), side(m.columns)].into_iter().collect())
    },
    cost: |call, _| {
        let m = Matrices::priced(call);
        let (long, short) = (m.rows.max(m.columns), m.rows.min(m.columns));
        let wide = columns(call, &m, long);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let (n, outside) = (short as f64, long as f64 * (wide as f64 + short as f64));
        // Eight sweeps over all pairs of rows: three products of rows and two rotations each.
        let flops = 8.0 * 9.0 * n * n * n + 4.0 * n * outside;
        let doubles = (long as u64).saturating_mul(wide as u64);
        let squares = 2 * (short as u64).saturating_mul(short as u64);
        let lines = 4 * (m.rows as u64 + m.columns as u64);
        let all = m.area().saturating_add(doubles).saturating_add(squares).saturating_add(lines);
        price(m.count(), flops, all)
    },
    samples: &[
        sample(&[matrix(&[3, 3])]),
        sample(&[matrix(&[4, 2])]),
        sample(&[matrix(&[2, 2, 3])]),
        full(&[matrix(&[3, 2])]),
        full(&[matrix(&[2, 3])]),
        full(&[uniform(&[2, 0], -1.0, 1.0)]),
        sample(&[uniform(&[0, 2, 2], -1.0, 1.0)]),
    ],
    ..decomposition(
        "svd",
        "Singular values from the largest down, and left and right singular vectors as columns; in each right one the component of largest magnitude is positive, or in a left one if the matrix is wide. All are NaN where an element is not finite.",
        "tensor = u diag(s) v^T",
        Kernel::Run(
            |call, out, inputs| by_dtype!(float: out[0].dtype, T => run_svd::<T>(call, out, inputs[0])),
        ),
        Derivative::Custom {
            reads: Reads::Y,
            vjp: |r, ct| cotangent_at(0, rules::svd_back(&r.y, ct)),
            jvp: |r, t| match t[0] {
                Some(t) => rules::svd_along(&r.y, t),
                None => r.y.iter().map(|y| y.zeros()).collect(),
            },
        },
    )
};

fn run_svd<T: Real>(call: &Call, out: &[Aval], x: &Array) -> Result<Arrays, Error> {
    let m = Matrices::of(&call.inputs[0].shape)?;
    let x = x.elements::<T>()?;
    let is_wide = m.rows < m.columns;
    let (rows, n) = (m.rows.max(m.columns), m.rows.min(m.columns));
    let long = columns(call, &m, rows);
    let mut all_s = buffer(out[0].shape.elements())?;
    let (mut all_u, mut all_v) =
        (buffer(out[1].shape.elements())?, buffer(out[2].shape.elements())?);
    let mut work = Singular::new(rows, n, long)?;
    for position in 0..m.count() {
        if is_wide {
            m.load_transposed(x, position, &mut work.packed);
        } else {
            load(x, position, &mut work.packed);
        }
        work.decompose()?;
        all_s.extend(work.values.iter().map(|&x| T::of(x)));
        let (of_rows, of_columns) =
            if is_wide { (&mut all_v, &mut all_u) } else { (&mut all_u, &mut all_v) };
        of_rows.extend(work.long.iter().map(|&x| T::of(x)));
        push_transposed(of_columns, &work.short, n);
    }
    Ok(smallvec![
        Array::new(&out[0].shape, all_s)?,
        Array::new(&out[1].shape, all_u)?,
        Array::new(&out[2].shape, all_v)?
    ])
}

/// The decomposition of one matrix that is not wide, by way of its QR decomposition.
pub(super) struct Singular {
    rows: usize,
    n: usize,
    columns: usize,
    /// The matrix; it is overwritten.
    pub(super) packed: Vec<f64>,
    factors: Vec<f64>,
    left: Vec<f64>,
    /// Singular values.
    pub(super) values: Vec<f64>,
    /// Left singular vectors, as columns.
    pub(super) long: Vec<f64>,
    /// Right singular vectors, as rows.
    pub(super) short: Vec<f64>,
    vector: Vec<f64>,
    sums: Vec<f64>,
}

impl Singular {
    /// Room for matrices of `rows` rows and `n` columns, and as many left vectors as `columns` says.
    pub(super) fn new(rows: usize, n: usize, columns: usize) -> Result<Self, Error> {
        Ok(Self {
            rows,
            n,
            columns,
            packed: zeros(rows * n)?,
            factors: zeros(n)?,
            left: zeros(n * n)?,
            values: zeros(n)?,
            long: zeros(rows * columns)?,
            short: zeros(n * n)?,
            vector: zeros(rows)?,
            sums: zeros(columns.max(n))?,
        })
    }

    /// Decomposes `packed`.
    pub(super) fn decompose(&mut self) -> Result<(), Error> {
        let (n, columns) = (self.n, self.columns);
        let mut qr = Qr { packed: &mut self.packed, factors: &mut self.factors, m: self.rows, n };
        qr.decompose(&mut self.vector, &mut self.sums)?;
        qr.upper(&mut self.short);
        if !svd(&mut self.short, n, &mut self.values, &mut self.left)? {
            for all in [&mut self.values, &mut self.long, &mut self.short] {
                all.fill(f64::NAN);
            }
            return Ok(());
        }
        self.long.fill(0.0);
        for (i, row) in self.long.chunks_exact_mut(columns.max(1)).enumerate() {
            if i < n {
                let column = self.left.iter().skip(i).step_by(n);
                row.iter_mut().zip(column).for_each(|(to, &from)| *to = from);
            } else if i < columns {
                row[i] = 1.0;
            }
        }
        qr.apply(&mut self.long, columns, &mut self.sums)
    }
}
