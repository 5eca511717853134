//! Linear algebra.

use smallvec::{SmallVec, smallvec};

use crate::{
    array::Array,
    attrs,
    attrs::Attr,
    aval::{Aval, Avals, Shape},
    batching::{Batch, Batching},
    compute,
    dtype::DTypes,
    error::Error,
    graph::Var,
    kernels,
    op::{Call, Cost, Cotangents, Derivative, Kernel, OpDef, Rule},
    ops::family::{self, by_dtype, common_dtype, common_shape, sample, sample_with, uniform},
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] = &[&MATMUL];

attrs! {
    /// Attributes of a matrix product.
    MatMul {
        /// Whether the last two axes of the first input are swapped.
        transpose_a: bool = Bool(false),
        /// Whether the last two axes of the second input are swapped.
        transpose_b: bool = Bool(false),
    }
}

/// Rows and columns of an operand as it enters the product.
fn sides(shape: &Shape, transposed: bool) -> (usize, usize) {
    let [.., rows, columns] = shape[..] else { return (0, 0) };
    if transposed { (columns, rows) } else { (rows, columns) }
}

fn infer(call: &Call) -> Result<Avals, Error> {
    let [a, b] = call.inputs else { return Err(Error::bug("matmul takes two inputs")) };
    let dtype = common_dtype(a, b)?;
    let mismatch =
        |expected| Error::ShapeMismatch { lhs: a.shape.clone(), rhs: b.shape.clone(), expected };
    if a.shape.len() < 2 || b.shape.len() < 2 {
        return Err(mismatch("both must have two axes or more"));
    }
    let MatMul { transpose_a, transpose_b } = MatMul::read(call.attrs);
    let ((rows, inner), (other, columns)) =
        (sides(&a.shape, transpose_a), sides(&b.shape, transpose_b));
    if inner != other {
        return Err(mismatch("columns of the first must equal rows of the second"));
    }
    let batch = |x: &Aval| Shape::from(&x.shape[..x.shape.len() - 2]);
    let mut shape = common_shape(&batch(a), &batch(b))?;
    shape.push(rows);
    shape.push(columns);
    Ok(smallvec![Aval { dtype, shape }])
}

/// The other axes broadcast, so a stack is one more of them. Where the second factor is one matrix, all rows of the first
/// are rows of one tall matrix.
fn matmul_rows<'g>(b: &Batch<'_, 'g>) -> Option<crate::op::Vars<'g>> {
    let tall = b.only_first() && b.x[1].shape().len() == 2;
    if tall && !MatMul::read(b.attrs).transpose_a {
        let shape = b.x[0].shape();
        let inner = *shape.last()?;
        let rows = shape[..shape.len() - 1].iter().product();
        let product = b.apply(&[b.x[0].reshape(&[rows, inner].into()), b.x[1]], vec![])?;
        return Some(smallvec![product[0].reshape(&b.stack_of(&b.y[0].shape))]);
    }
    b.apply(&b.aligned(), vec![])
}

/// Matrix product.
pub static MATMUL: OpDef = OpDef {
    batching: Batching::Rule(matmul_rows),
    family: "linalg",
    inputs: &["a", "b"],
    outputs: &["c"],
    attrs: MatMul::SPECS,
    dtypes: DTypes::NUMERIC,
    infer,
    cost: |call, out| {
        let (_, inner) = sides(&call.inputs[0].shape, MatMul::read(call.attrs).transpose_a);
        let columns = out[0].shape.last().copied().unwrap_or(0);
        let batch: usize = out[0].shape.iter().rev().skip(2).product();
        Cost {
            flops: (out[0].shape.elements() as u64).saturating_mul(2 * inner as u64),
            // Where each matrix of a batch begins, and panels for each thread; what `matrixmultiply` packs is small beside the operands.
            workspace: (batch as u64).saturating_mul(32).saturating_add(
                kernels::panel::workspace((0, inner, columns)) * compute::MAX_WIDTH as u64,
            ),
        }
    },
    samples: &[
        sample(&[uniform(&[2, 3], -1.0, 1.0), uniform(&[3, 4], -1.0, 1.0)]),
        sample_with(&[uniform(&[3, 2], -1.0, 1.0), uniform(&[2, 4, 3], -1.0, 1.0)], || {
            vec![("transpose_a", Attr::Bool(true)), ("transpose_b", Attr::Bool(true))]
        }),
        sample(&[uniform(&[2, 1, 2, 3], -1.0, 1.0), uniform(&[2, 3, 2], -1.0, 1.0)]),
        sample(&[uniform(&[2, 2, 3], -1.0, 1.0), uniform(&[3, 4], -1.0, 1.0)]),
        sample_with(&[uniform(&[3, 2, 3], -1.0, 1.0), uniform(&[1, 2, 3], -1.0, 1.0)], || {
            vec![("transpose_b", Attr::Bool(true))]
        }),
        sample_with(&[uniform(&[2, 3], -1.0, 1.0), uniform(&[2, 4], -1.0, 1.0)], || {
            vec![("transpose_a", Attr::Bool(true))]
        }),
        sample_with(&[uniform(&[2, 3], -1.0, 1.0), uniform(&[4, 3], -1.0, 1.0)], || {
            vec![("transpose_b", Attr::Bool(true))]
        }),
    ],
    ..family::binary(
        "matmul",
        "Matrix product over the last two axes; the other axes broadcast. Integers wrap.",
        "c[i, k] = sum_j a[i, j] b[j, k]",
        Kernel::Run(|call, out, inputs| {
            let MatMul { transpose_a, transpose_b } = MatMul::read(call.attrs);
            let shape = &out[0].shape;
            Ok(smallvec![by_dtype!(numeric: out[0].dtype, T => {
                let a = (inputs[0].elements::<T>()?, &call.inputs[0].shape, transpose_a);
                let b = (inputs[1].elements::<T>()?, &call.inputs[1].shape, transpose_b);
                Array::new(shape, kernels::matmul::matmul(a, b, shape)?)
            })?])
        }),
        Derivative::Multilinear { transpose: matmul_back },
    )
};

/// The first factor and the cotangent as single matrices where the second factor is one, so that its cotangent is one product
/// over all rows instead of a sum over products.
fn tall<'g>(a: Var<'g>, b: Var<'g>, c: Var<'g>) -> (Var<'g>, Var<'g>) {
    let (from, of, to) = (a.shape(), b.shape(), c.shape());
    let ([a_batch @ .., rows, inner], [b_batch @ .., _, _], [c_batch @ .., _, columns]) =
        (&from[..], &of[..], &to[..])
    else {
        return (a, c);
    };
    if !kernels::matmul::is_tall(a_batch, b_batch, c_batch) {
        return (a, c);
    }
    let rows = rows * c_batch.iter().product::<usize>();
    (a.reshape(&[rows, *inner].into()), c.reshape(&[rows, *columns].into()))
}

/// With C = op(A) op(B): the cotangent of A is C op(B)^T, transposed if A was, and likewise for B.
fn matmul_back<'g>(r: &Rule<'g>, ct: &[Var<'g>]) -> Cotangents<'g> {
    let MatMul { transpose_a, transpose_b } = MatMul::read(r.attrs);
    let (a, b, c) = (r.x[0], r.x[1], ct[0]);
    let da = || {
        if transpose_a { b.matmul(c, transpose_b, true) } else { c.matmul(b, false, !transpose_b) }
    };
    let db = || {
        let (a, c) = if transpose_a { (a, c) } else { tall(a, b, c) };
        if transpose_b { c.matmul(a, true, transpose_a) } else { a.matmul(c, !transpose_a, false) }
    };
    let mut all: SmallVec<[_; 2]> = smallvec![None, None];
    if r.needs[0] {
        all[0] = Some(da().sum_to(&a.shape()).into());
    }
    if r.needs[1] {
        all[1] = Some(db().sum_to(&b.shape()).into());
    }
    all
}
