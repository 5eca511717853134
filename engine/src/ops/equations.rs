//! Systems of linear equations, inverses and determinants of matrices, which are the last two axes of a tensor.

use smallvec::{SmallVec, smallvec};

use crate::{
    array::{Array, buffer, filled},
    attrs,
    attrs::Attr,
    aval::{Aval, Avals, Shape},
    batching::Batching,
    error::Error,
    graph::Var,
    kernels::{
        elementwise::broadcast_walk,
        matrix::{factor, zeros},
        real::Real,
    },
    op::{Arrays, Call, Cost, Cotangents, Derivative, Kernel, OpDef, Reads, Rule, cotangent_at},
    ops::{
        decomposition::{Singular, price, stacked},
        family::{
            self, by_dtype, common_dtype, common_shape, matrix, sample, sample_with, uniform,
        },
        matrices::{Matrices, band, column, load, total, transposed},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&TRIANGULAR_SOLVE, &SOLVE, &INV, &DET, &COFACTOR, &SLOGDET];

// --- equations ---

/// An op that solves equations. Batches broadcast, beyond what TensorFlow does.
const fn equations(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        family: "linalg",
        inputs: &["matrix", "rhs"],
        batching: Batching::Rule(stacked),
        infer: |call| {
            let [a, b] = call.inputs else {
                return Err(Error::bug("equations take two inputs"));
            };
            let dtype = common_dtype(a, b)?;
            let (left, right) = (Matrices::square(&a.shape)?, Matrices::of(&b.shape)?);
            if left.rows != right.rows {
                let (lhs, rhs) = (a.shape.clone(), b.shape.clone());
                let expected = "both must have as many rows";
                return Err(Error::ShapeMismatch { lhs, rhs, expected });
            }
            let batch = common_shape(&left.batch, &right.batch)?;
            let tail = [right.rows, right.columns];
            let shape = batch.iter().chain(&tail).copied().collect();
            Ok(smallvec![Aval { dtype, shape }])
        },
        ..family::unary(name, summary, formula, kernel, derivative)
    }
}

/// The price of equations, with the factors if there are some.
fn equations_price(call: &Call, out: &[Aval], factors: f64) -> Cost {
    let m = Matrices::priced(call);
    let right = Matrices::priced(&Call { inputs: out, ..*call });
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let flops = 2.0 * m.area() as f64 * right.columns as f64 + factors * m.cube();
    let batch = (right.count() as u64).saturating_mul(2);
    let vectors = right.area().saturating_mul(2).saturating_add(m.rows as u64);
    let doubles = m.area().saturating_add(vectors).saturating_add(batch);
    price(right.count(), flops, doubles)
}

/// Which matrix of an operand each matrix of the result is from.
fn places(batch: &Shape, out: &Shape) -> Result<Vec<usize>, Error> {
    let mut places = buffer(out.elements())?;
    broadcast_walk(batch, out).each(|at| places.push(at))?;
    Ok(places)
}

/// Runs a solver on each pair of matrices: it gets the place of the matrix, whether it is another one than before, the matrix
/// where it is, and the right-hand sides, which it replaces.
fn each_pair<T: Real>(
    call: &Call,
    out: &Aval,
    inputs: &[&Array],
    mut solve: impl FnMut(usize, bool, &mut [f64], &mut [f64]) -> Result<(), Error>,
) -> Result<Arrays, Error> {
    let (left, right) =
        (Matrices::of(&call.inputs[0].shape)?, Matrices::of(&call.inputs[1].shape)?);
    let (a, b) = (inputs[0].elements::<T>()?, inputs[1].elements::<T>()?);
    let batch = Matrices::of(&out.shape)?.batch;
    let (a_at, b_at) = (places(&left.batch, &batch)?, places(&right.batch, &batch)?);
    let mut result = buffer(out.shape.elements())?;
    let (mut matrix, mut rhs) = (zeros(left.rows * left.rows)?, zeros(right.rows * right.columns)?);
    let mut last = None;
    for (&i, &j) in a_at.iter().zip(&b_at) {
        let is_new = last.replace(i) != Some(i);
        if is_new {
            load(a, i, &mut matrix);
        }
        load(b, j, &mut rhs);
        solve(i, is_new, &mut matrix, &mut rhs)?;
        result.extend(rhs.iter().map(|&x| T::of(x)));
    }
    Ok(smallvec![Array::new(&out.shape, result)?])
}

/// With `X = op(A)^-1 B`: the cotangent of B is `op(A)^-T` times that of X, and that of A is minus it times `X^T`, or the
/// transpose of that if A is transposed.
fn equations_back<'g>(
    r: &Rule<'g>,
    rhs: Var<'g>,
    adjoint: bool,
    kept: impl Fn(Var<'g>) -> Var<'g>,
) -> Cotangents<'g> {
    let (a, b, x) = (r.x[0], r.x[1], r.y());
    let mut all: SmallVec<[_; 2]> = smallvec![None, None];
    if r.needs[0] {
        let product = if adjoint { x.matmul(rhs, false, true) } else { rhs.matmul(x, false, true) };
        all[0] = Some(kept(-product).sum_to(&a.shape()).into());
    }
    if r.needs[1] {
        all[1] = Some(rhs.sum_to(&b.shape()).into());
    }
    all
}

/// The right-hand sides of the equations that the tangent of the result solves: `B. - op(A.) X`.
fn equations_along<'g>(
    r: &Rule<'g>,
    (a, b): (Option<Var<'g>>, Option<Var<'g>>),
    adjoint: bool,
) -> Var<'g> {
    let x = r.y();
    let moved = a.map(|a| -a.matmul(x, adjoint, false));
    let b = b.map(|b| b.broadcast_to(&x.shape()));
    b.into_iter().chain(moved).reduce(|b, moved| b + moved).unwrap_or_else(|| x.zeros())
}

attrs! {
    /// Attributes of triangular equations.
    TriangularSolve {
        /// Whether the lower triangle of the matrix is read, else the upper one.
        lower: bool = Bool(true),
        /// Whether the triangle is transposed.
        adjoint: bool = Bool(false),
    }
}

impl TriangularSolve {
    fn solved<'g>(r: &Rule<'g>, transpose: bool, rhs: Var<'g>) -> Var<'g> {
        let Self { lower, adjoint } = Self::read(r.attrs);
        let attrs = Self { lower, adjoint: adjoint != transpose };
        r.x[0].op(&TRIANGULAR_SOLVE, attrs.write(), &[rhs])
    }

    /// The triangle of a matrix.
    fn triangle<'g>(r: &Rule<'g>, x: Var<'g>) -> Var<'g> {
        if Self::read(r.attrs).lower { band(x, -1, 0) } else { band(x, 0, -1) }
    }
}

/// Triangular equations.
pub static TRIANGULAR_SOLVE: OpDef = OpDef {
    attrs: TriangularSolve::SPECS,
    cost: |call, out| equations_price(call, out, 0.0),
    samples: &[
        sample(&[matrix(&[3, 3]), uniform(&[3, 2], -1.0, 1.0)]),
        sample_with(&[matrix(&[2, 2, 2]), uniform(&[2, 1], -1.0, 1.0)], || {
            vec![("lower", Attr::Bool(false))]
        }),
        sample_with(&[matrix(&[2, 2]), uniform(&[2, 2, 3], -1.0, 1.0)], || {
            vec![("adjoint", Attr::Bool(true))]
        }),
        sample(&[uniform(&[0, 0], -1.0, 1.0), uniform(&[0, 2], -1.0, 1.0)]),
    ],
    ..equations(
        "triangular_solve",
        "Solves equations with triangular matrices; the other triangle is not read. A zero on the diagonal gives infinities or NaN.",
        "matrix y = rhs, or matrix^T y = rhs",
        Kernel::Run(|call, out, inputs| {
            let TriangularSolve { lower, adjoint } = TriangularSolve::read(call.attrs);
            let triangle = factor::Triangle { lower, transposed: adjoint, unit: false };
            let [.., n, m] = out[0].shape[..] else { return Err(Error::bug("no matrices")) };
            by_dtype!(float: out[0].dtype, T => each_pair::<T>(call, &out[0], inputs, |_, _, a, x| {
                factor::substitute(a, n, triangle, x, m)
            }))
        }),
        Derivative::Custom {
            reads: Reads::X0.and(Reads::Y),
            vjp: |r, ct| {
                let rhs = TriangularSolve::solved(r, true, ct[0]);
                let adjoint = TriangularSolve::read(r.attrs).adjoint;
                equations_back(r, rhs, adjoint, |a| TriangularSolve::triangle(r, a))
            },
            jvp: |r, t| {
                let adjoint = TriangularSolve::read(r.attrs).adjoint;
                let a = t[0].map(|t| TriangularSolve::triangle(r, t));
                let rhs = equations_along(r, (a, t[1]), adjoint);
                smallvec![TriangularSolve::solved(r, false, rhs)]
            },
        },
    )
};

attrs! {
    /// Attributes of equations.
    Solve {
        /// Whether the matrix is transposed.
        adjoint: bool = Bool(false),
    }
}

impl Solve {
    fn solved<'g>(r: &Rule<'g>, transpose: bool, rhs: Var<'g>) -> Var<'g> {
        let adjoint = Self::read(r.attrs).adjoint != transpose;
        r.x[0].op(&SOLVE, Self { adjoint }.write(), &[rhs])
    }
}

/// Equations.
pub static SOLVE: OpDef = OpDef {
    attrs: Solve::SPECS,
    cost: |call, out| equations_price(call, out, 2.0 / 3.0),
    samples: &[
        sample(&[matrix(&[3, 3]), uniform(&[3, 2], -1.0, 1.0)]),
        sample_with(&[matrix(&[2, 2, 2]), uniform(&[2, 1], -1.0, 1.0)], || {
            vec![("adjoint", Attr::Bool(true))]
        }),
        sample(&[matrix(&[2, 2]), uniform(&[2, 2, 3], -1.0, 1.0)]),
        sample(&[uniform(&[2, 0, 0], -1.0, 1.0), uniform(&[2, 0, 2], -1.0, 1.0)]),
    ],
    ..equations(
        "solve",
        "Solves equations with square matrices, which must be invertible.",
        "matrix y = rhs, or matrix^T y = rhs",
        Kernel::Run(|call, out, inputs| {
            let Solve { adjoint } = Solve::read(call.attrs);
            let [.., n, m] = out[0].shape[..] else { return Err(Error::bug("no matrices")) };
            let mut order = filled(n, 0)?;
            let mut b = zeros(n * m)?;
            let solve = |position, is_new, a: &mut [f64], x: &mut [f64]| {
                if is_new {
                    factor::lu(a, n, &mut order)?;
                    if !factor::is_invertible(a, n) {
                        return Err(Error::NotInvertible { position });
                    }
                }
                b.copy_from_slice(x);
                factor::solve((a, &order), adjoint, &b, x, m)
            };
            by_dtype!(float: out[0].dtype, T => each_pair::<T>(call, &out[0], inputs, solve))
        }),
        Derivative::Custom {
            reads: Reads::X0.and(Reads::Y),
            vjp: |r, ct| {
                let rhs = Solve::solved(r, true, ct[0]);
                equations_back(r, rhs, Solve::read(r.attrs).adjoint, |a| a)
            },
            jvp: |r, t| {
                let rhs = equations_along(r, (t[0], t[1]), Solve::read(r.attrs).adjoint);
                smallvec![Solve::solved(r, false, rhs)]
            },
        },
    )
};

/// Inverses.
pub static INV: OpDef = OpDef {
    family: "linalg",
    inputs: &["input"],
    attrs: Solve::SPECS,
    infer: |call| {
        Matrices::square(&call.inputs[0].shape)?;
        family::same(call)
    },
    samples: &[sample(&[matrix(&[3, 3])]), sample(&[matrix(&[2, 2, 2])])],
    ..family::unary(
        "inv",
        "Inverses of square matrices, or of their transposes.",
        "input y = 1",
        Kernel::Composite(|r| {
            let n = r.x[0].shape().last().copied().unwrap_or(0);
            let ones = r.x[0].graph().full(&Aval::new(r.x[0].dtype(), [n]), 1.0);
            let identity = crate::ops::matrices::diag(ones);
            smallvec![r.x[0].op(&SOLVE, r.attrs.clone(), &[identity])]
        }),
        Derivative::None,
    )
};

fn inverse(x: Var<'_>) -> Var<'_> {
    x.op(&INV, Solve { adjoint: false }.write(), &[])
}

// --- determinants ---

/// One number for each matrix.
fn one_each(call: &Call) -> Result<Avals, Error> {
    let x = &call.inputs[0];
    Ok(smallvec![Aval { dtype: x.dtype, shape: Matrices::square(&x.shape)?.batch }])
}

const DETERMINED: &[crate::op::Sample] = &[
    sample(&[matrix(&[3, 3])]),
    sample(&[matrix(&[2, 2, 2])]),
    sample(&[matrix(&[1, 1])]),
    sample(&[uniform(&[2, 0, 0], -1.0, 1.0)]),
];

const fn determinant(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
    derivative: Derivative,
) -> OpDef {
    OpDef {
        family: "linalg",
        batching: Batching::Rule(stacked),
        inputs: &["input"],
        infer: one_each,
        cost: |call, _| {
            let m = Matrices::priced(call);
            price(m.count(), 2.0 / 3.0 * m.cube(), m.area().saturating_add(m.rows as u64))
        },
        samples: DETERMINED,
        ..family::unary(name, summary, formula, kernel, derivative)
    }
}

/// Runs on the pivots of each matrix, and the sign of their order.
fn each_pivots<T: Real>(
    call: &Call,
    x: &Array,
    mut run: impl FnMut(f64, &mut dyn Iterator<Item = f64>),
) -> Result<(), Error> {
    let m = Matrices::of(&call.inputs[0].shape)?;
    let (n, x) = (m.rows, x.elements::<T>()?);
    let mut a = zeros(n * n)?;
    let mut order = filled(n, 0)?;
    for position in 0..m.count() {
        load(x, position, &mut a);
        let sign = factor::lu(&mut a, n, &mut order)?;
        run(sign, &mut a.iter().copied().step_by(n + 1));
    }
    Ok(())
}

/// Determinants.
pub static DET: OpDef = determinant(
    "det",
    "Determinants of square matrices. The gradient is right for singular matrices, too; the second derivative needs an invertible one.",
    "y = det(input)",
    Kernel::Run(|call, out, inputs| {
        Ok(smallvec![by_dtype!(float: out[0].dtype, T => {
            let mut y = buffer(out[0].shape.elements())?;
            each_pivots::<T>(call, inputs[0], |sign, pivots| {
                y.push(<T as Real>::of(sign * pivots.product::<f64>()));
            })?;
            Array::new(&out[0].shape, y)
        })?])
    }),
    Derivative::Custom {
        reads: Reads::X0,
        vjp: |r, ct| cotangent_at(0, column(column(ct[0])) * r.x[0].map(&COFACTOR)),
        jvp: |r, t| {
            let t = t[0].unwrap_or_else(|| r.x[0].zeros());
            smallvec![total(r.x[0].map(&COFACTOR) * t).reshape(&r.y().shape())]
        },
    },
);

/// Cofactors: what the derivative of the determinant is, also where there is no inverse.
pub static COFACTOR: OpDef = OpDef {
    infer: |call| {
        Matrices::square(&call.inputs[0].shape)?;
        family::same(call)
    },
    cost: |call, _| {
        let m = Matrices::priced(call);
        price(
            m.count(),
            86.0 * m.cube(),
            m.area().saturating_mul(4).saturating_add(8 * m.rows as u64),
        )
    },
    ..determinant(
        "cofactor",
        "Matrices of cofactors: the derivative of the determinant. Their own derivative needs an invertible matrix.",
        "y = det(input) input^-T",
        Kernel::Run(
            |call, out, inputs| by_dtype!(float: out[0].dtype, T => run_cofactor::<T>(call, &out[0], inputs[0])),
        ),
        Derivative::Custom {
            reads: Reads::X0.and(Reads::Y),
            vjp: |r, ct| {
                let (c, inverse) = (r.y(), inverse(r.x[0]));
                let through = c.matmul(ct[0], false, true).matmul(inverse, false, true);
                cotangent_at(0, total(ct[0] * c) * transposed(inverse) - through)
            },
            jvp: |r, t| {
                let (c, inverse) = (r.y(), inverse(r.x[0]));
                let t = t[0].unwrap_or_else(|| r.x[0].zeros());
                let through = inverse.matmul(t, true, true).matmul(c, false, false);
                smallvec![total(transposed(inverse) * t) * c - through]
            },
        },
    )
};

/// From the singular values: each pair of vectors with the product of the other values, and the sign of the vectors'
/// determinants.
fn run_cofactor<T: Real>(call: &Call, out: &Aval, x: &Array) -> Result<Arrays, Error> {
    let m = Matrices::of(&call.inputs[0].shape)?;
    let (n, x) = (m.rows, x.elements::<T>()?);
    let mut y = buffer(x.len())?;
    let mut work = Singular::new(n, n, n)?;
    let mut order = filled(n, 0)?;
    for position in 0..m.count() {
        load(x, position, &mut work.packed);
        work.decompose()?;
        let (u, v, s) = (&work.long, &work.short, &work.values);
        let mut sign = 1.0;
        for vectors in [u, v] {
            work.packed.copy_from_slice(vectors);
            sign *= factor::lu(&mut work.packed, n, &mut order)?;
            let negative = work.packed.iter().step_by(n + 1).filter(|&&pivot| pivot < 0.0).count();
            sign *= if negative % 2 == 0 { 1.0 } else { -1.0 };
        }
        work.packed.fill(0.0);
        for (k, right) in v.chunks_exact(n.max(1)).enumerate() {
            let others: f64 = s[..k].iter().chain(&s[k + 1..]).product();
            for (row, left) in
                work.packed.chunks_exact_mut(n.max(1)).zip(u.iter().skip(k).step_by(n))
            {
                let factor = sign * others * left;
                row.iter_mut().zip(right).for_each(|(y, right)| *y += factor * right);
            }
        }
        y.extend(work.packed.iter().map(|&x| T::of(x)));
    }
    Ok(smallvec![Array::new(&out.shape, y)?])
}

/// Signs and logarithms of determinants.
pub static SLOGDET: OpDef = OpDef {
    outputs: &["sign", "log_abs_determinant"],
    infer: |call| {
        let one = one_each(call)?;
        Ok(smallvec![one[0].clone(), one[0].clone()])
    },
    ..determinant(
        "slogdet",
        "Signs of determinants, and logarithms of their absolute values; 0 and minus infinity for singular matrices. The gradient needs an invertible one.",
        "sign exp(log_abs_determinant) = det(input)",
        Kernel::Run(|call, out, inputs| {
            by_dtype!(float: out[0].dtype, T => {
                let count = out[0].shape.elements();
                let (mut signs, mut logs) = (buffer(count)?, buffer(count)?);
                each_pivots::<T>(call, inputs[0], |mut sign, pivots| {
                    let mut log = 0.0;
                    for pivot in pivots {
                        sign *= if pivot == 0.0 { 0.0 } else { pivot.signum() };
                        log += libm::log(pivot.abs());
                    }
                    signs.push(<T as Real>::of(sign));
                    logs.push(<T as Real>::of(log));
                })?;
                let shape = &out[0].shape;
                Ok(smallvec![Array::new(shape, signs)?, Array::new(shape, logs)?])
            })
        }),
        Derivative::Custom {
            reads: Reads::X0,
            vjp: |r, ct| cotangent_at(0, column(column(ct[1])) * transposed(inverse(r.x[0]))),
            jvp: |r, t| {
                let t = t[0].unwrap_or_else(|| r.x[0].zeros());
                let log = total(transposed(inverse(r.x[0])) * t).reshape(&r.y().shape());
                smallvec![r.y().zeros(), log]
            },
        },
    )
};
