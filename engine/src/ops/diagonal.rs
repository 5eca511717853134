//! Diagonals and bands of matrices, which are the last two axes of a tensor.
//!
//! A diagonal is every (columns + 1)-th element of a matrix in a row, so all are composed of windows with steps.

use smallvec::smallvec;

use crate::{
    attrs,
    attrs::{Attr, Attrs, Ints},
    aval::{Aval, Shape},
    dtype::{DType, DTypes},
    error::Error,
    graph::Var,
    op::{Call, Derivative, Kernel, OpDef, Rule},
    ops::{
        LESS_EQUAL, LOGICAL_AND, REDUCE_SUM, Reduce, STRIDED_SLICE, STRIDED_SLICE_SCATTER, Strided,
        StridedScatter,
        family::{self, common_dtype, sample, sample_with, uniform},
    },
};

/// The family, as the catalogue lists it.
pub(super) const ALL: &[&OpDef] =
    &[&DIAG, &DIAG_PART, &SET_DIAG, &BAND_PART, &TENSOR_DIAG, &TENSOR_DIAG_PART, &TRACE];

const fn diagonal(
    name: &'static str,
    summary: &'static str,
    formula: &'static str,
    kernel: Kernel,
) -> OpDef {
    OpDef {
        family: "linalg",
        dtypes: DTypes::ANY,
        ..family::unary(name, summary, formula, kernel, Derivative::None)
    }
}

/// A diagonal of matrices of some shape.
struct Line {
    /// Extents before the last two.
    batch: Shape,
    /// Elements of a matrix.
    area: usize,
    /// Elements of the diagonal.
    length: usize,
    /// Place of its first element in the matrix.
    start: usize,
    /// From one of its elements to the next.
    step: usize,
}

impl Line {
    /// The k-th diagonal: above the main one if k is positive, below if it is negative.
    fn new(matrices: &Shape, k: i64) -> Result<Self, Error> {
        let [batch @ .., rows, columns] = &matrices[..] else {
            return Err(Error::InvalidShape {
                shape: matrices.to_i64().as_slice().into(),
                why: "matrices have two axes or more",
            });
        };
        let offset = usize::try_from(k.unsigned_abs()).unwrap_or(usize::MAX);
        let (above, below) = if k > 0 { (offset, 0) } else { (0, offset) };
        // The main diagonal of an empty matrix is empty; others must begin within the matrix.
        if offset > 0 && (above >= *columns || below >= *rows) {
            return Err(Error::attribute("k", format!("is beyond a matrix of {rows} x {columns}")));
        }
        Ok(Self {
            batch: batch.into(),
            area: rows.saturating_mul(*columns),
            length: (rows - below).min(columns - above),
            start: below * columns + above,
            step: columns.saturating_add(1),
        })
    }

    /// The batch and one more extent.
    fn with(&self, extent: usize) -> Shape {
        self.batch.iter().copied().chain([extent]).collect()
    }

    /// The window that the diagonal is in a matrix laid out in a row.
    fn window(&self) -> Strided {
        let rank = self.batch.len();
        let edge = |last: usize| {
            let mut all: Ints = smallvec![0; rank];
            all.extend(Shape::from([last]).to_i64());
            all
        };
        let end = self.length.checked_sub(1).map_or(self.start, |n| self.start + n * self.step + 1);
        let mut strides: Ints = smallvec![1; rank];
        strides.extend(Shape::from([self.step]).to_i64());
        let batch = (1 << rank) - 1;
        Strided {
            begin: edge(self.start),
            end: edge(end),
            strides,
            begin_mask: batch,
            end_mask: batch,
            ellipsis_mask: 0,
            new_axis_mask: 0,
            shrink_axis_mask: 0,
        }
    }
}

/// The k-th diagonals of matrices.
fn diag_part(x: Var<'_>, k: i64) -> Var<'_> {
    let Ok(line) = Line::new(&x.shape(), k) else { return x };
    x.reshape(&line.with(line.area)).op(&STRIDED_SLICE, line.window().write(), &[])
}

/// Matrices that are zero, or false, but for their k-th diagonals.
fn diag<'g>(diagonal: Var<'g>, matrices: &Shape, k: i64) -> Var<'g> {
    let Ok(line) = Line::new(matrices, k) else { return diagonal };
    let window = StridedScatter::new(&line.with(line.area), line.window());
    diagonal.op(&STRIDED_SLICE_SCATTER, window.write(), &[]).reshape(matrices)
}

attrs! {
    /// Attributes of making matrices.
    Diag {
        /// The diagonal: 0 for the main one, positive above, negative below.
        k: i64 = Int(0),
        /// Rows of the matrices; -1 for as many as are needed, and as many as columns if both are -1.
        num_rows: i64 = Int(-1),
        /// Columns of the matrices; -1 for as many as are needed.
        num_cols: i64 = Int(-1),
    }
}

/// The shape of matrices that have the input as a diagonal.
fn matrices(x: &Shape, attrs: &Attrs) -> Result<Shape, Error> {
    let Diag { k, num_rows, num_cols } = Diag::read(attrs);
    let [batch @ .., length] = &x[..] else {
        return Err(Error::InvalidShape {
            shape: [].into(),
            why: "diagonals have one axis or more",
        });
    };
    let offset = usize::try_from(k.unsigned_abs()).unwrap_or(usize::MAX);
    // Square if neither side is given, and else no larger than needed.
    let (above, below) = match (num_rows, num_cols) {
        (-1, -1) => (offset, offset),
        _ if k > 0 => (offset, 0),
        _ => (0, offset),
    };
    let side = |name: &str, given: i64, lead: usize| match given {
        -1 => Ok(length.saturating_add(lead)),
        given => family::extent(name, given),
    };
    let shape: Shape = batch
        .iter()
        .copied()
        .chain([side("num_rows", num_rows, below)?, side("num_cols", num_cols, above)?])
        .collect();
    shape.check()?;
    if Line::new(&shape, k)?.length != *length {
        let why = format!("and num_cols give no diagonal of {length} elements");
        return Err(Error::attribute("num_rows", why));
    }
    Ok(shape)
}

/// Matrices from diagonals.
pub static DIAG: OpDef = OpDef {
    attrs: Diag::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        Ok(smallvec![Aval { dtype: x.dtype, shape: matrices(&x.shape, call.attrs)? }])
    },
    samples: &[
        sample(&[uniform(&[2, 3], -2.0, 2.0)]),
        sample_with(&[uniform(&[2], -2.0, 2.0)], || vec![("k", Attr::Int(-1))]),
        sample_with(&[uniform(&[2], -2.0, 2.0)], || {
            vec![("k", Attr::Int(2)), ("num_rows", Attr::Int(3)), ("num_cols", Attr::Int(4))]
        }),
        sample(&[uniform(&[0], -2.0, 2.0)]),
    ],
    ..diagonal(
        "diag",
        "Matrices with the given diagonals and zeros elsewhere.",
        "y[i, i + k] = x[i]",
        Kernel::Composite(|r| {
            let shape = matrices(&r.x[0].shape(), r.attrs).unwrap_or_default();
            smallvec![diag(r.x[0], &shape, Diag::read(r.attrs).k)]
        }),
    )
};

attrs! {
    /// Which diagonal.
    Diagonal {
        /// The diagonal: 0 for the main one, positive above, negative below.
        k: i64 = Int(0),
    }
}

/// Diagonals of matrices.
pub static DIAG_PART: OpDef = OpDef {
    attrs: Diagonal::SPECS,
    infer: |call| {
        let x = &call.inputs[0];
        let line = Line::new(&x.shape, Diagonal::read(call.attrs).k)?;
        Ok(smallvec![Aval { dtype: x.dtype, shape: line.with(line.length) }])
    },
    samples: &[
        sample(&[uniform(&[2, 3, 3], -2.0, 2.0)]),
        sample_with(&[uniform(&[3, 4], -2.0, 2.0)], || vec![("k", Attr::Int(2))]),
        sample_with(&[uniform(&[3, 2], -2.0, 2.0)], || vec![("k", Attr::Int(-2))]),
        sample(&[uniform(&[0, 2], -2.0, 2.0)]),
    ],
    ..diagonal(
        "diag_part",
        "Diagonals of matrices.",
        "y[i] = x[i, i + k]",
        Kernel::Composite(|r| smallvec![diag_part(r.x[0], Diagonal::read(r.attrs).k)]),
    )
};

/// Changed diagonals.
pub static SET_DIAG: OpDef = OpDef {
    inputs: &["input", "diagonal"],
    attrs: Diagonal::SPECS,
    infer: |call| {
        let [x, diagonal] = call.inputs else {
            return Err(Error::bug("set_diag takes two inputs"));
        };
        common_dtype(x, diagonal)?;
        let line = Line::new(&x.shape, Diagonal::read(call.attrs).k)?;
        let shape = line.with(line.length);
        if diagonal.shape != shape {
            let lhs = diagonal.shape.clone();
            return Err(Error::ShapeMismatch {
                lhs,
                rhs: shape,
                expected: "the shape of the diagonals",
            });
        }
        Ok(smallvec![x.clone()])
    },
    samples: &[
        sample(&[uniform(&[2, 3, 3], -2.0, 2.0), uniform(&[2, 3], -2.0, 2.0)]),
        sample_with(&[uniform(&[3, 4], -2.0, 2.0), uniform(&[2], -2.0, 2.0)], || {
            vec![("k", Attr::Int(-1))]
        }),
    ],
    ..diagonal(
        "set_diag",
        "Matrices with other diagonals.",
        "y = input, but y[i, i + k] = diagonal[i]",
        Kernel::Composite(|r| {
            let (x, new, k) = (r.x[0], r.x[1], Diagonal::read(r.attrs).k);
            let all = x.graph().full(&Aval { dtype: DType::Bool, shape: new.shape() }, 1.0);
            smallvec![diag(new, &x.shape(), k).select(diag(all, &x.shape(), k), x)]
        }),
    )
};

attrs! {
    /// A band around the main diagonal.
    Band {
        /// Diagonals below the main one that are kept; all if negative.
        num_lower: i64 = Required,
        /// Diagonals above the main one that are kept; all if negative.
        num_upper: i64 = Required,
    }
}

/// Bands of matrices.
pub static BAND_PART: OpDef = OpDef {
    attrs: Band::SPECS,
    infer: |call| {
        Line::new(&call.inputs[0].shape, 0)?;
        Ok(smallvec![call.inputs[0].clone()])
    },
    samples: &[
        sample_with(&[uniform(&[2, 3, 4], -2.0, 2.0)], || {
            vec![("num_lower", Attr::Int(1)), ("num_upper", Attr::Int(0))]
        }),
        sample_with(&[uniform(&[3, 3], -2.0, 2.0)], || {
            vec![("num_lower", Attr::Int(-1)), ("num_upper", Attr::Int(1))]
        }),
    ],
    ..diagonal(
        "band_part",
        "Matrices with zeros outside a band around the main diagonal; (-1, 0) keeps the lower triangle.",
        "y[i, j] = x[i, j] if i - j <= num_lower and j - i <= num_upper else 0",
        Kernel::Composite(|r| smallvec![band_part(r)]),
    )
};

fn band_part<'g>(r: &Rule<'g>) -> Var<'g> {
    let Band { num_lower, num_upper } = Band::read(r.attrs);
    let x = r.x[0];
    let [.., rows, columns] = x.shape()[..] else { return x };
    let row = x.graph().positions(rows).reshape(&[rows, 1].into());
    let column = x.graph().positions(columns).reshape(&[1, columns].into());
    let within = |distance: Var<'g>, most: i64| {
        (most >= 0).then(|| {
            #[expect(clippy::cast_precision_loss, reason = "no matrix has 2^52 diagonals")]
            let most = distance.scalar(most as f64);
            distance.zip(&LESS_EQUAL, most)
        })
    };
    let bounds = [within(row - column, num_lower), within(column - row, num_upper)];
    let kept = bounds.into_iter().flatten().reduce(|a, b| a.zip(&LOGICAL_AND, b));
    kept.map_or(x, |kept| x.select(kept, x.scalar(0.0)))
}

/// A tensor of the double rank.
pub static TENSOR_DIAG: OpDef = OpDef {
    infer: |call| {
        let x = &call.inputs[0];
        let shape = x.shape.iter().chain(x.shape.iter()).copied().collect();
        Ok(smallvec![Aval { dtype: x.dtype, shape }])
    },
    samples: &[sample(&[uniform(&[2, 3], -2.0, 2.0)]), sample(&[uniform(&[], -2.0, 2.0)])],
    ..diagonal(
        "tensor_diag",
        "A tensor of the double rank with the given diagonal and zeros elsewhere.",
        "y[i, j, i, j] = x[i, j]",
        Kernel::Composite(|r| {
            let x = r.x[0];
            let shape = x.shape();
            let count = shape.elements();
            let double: Shape = shape.iter().chain(shape.iter()).copied().collect();
            smallvec![diag(x.reshape(&[count].into()), &[count, count].into(), 0).reshape(&double)]
        }),
    )
};

/// The half of an even shape, if both halves are equal.
fn half(call: &Call) -> Result<Shape, Error> {
    let x = &call.inputs[0].shape;
    let (first, second) = x.split_at(x.len() / 2);
    if first == second {
        return Ok(first.into());
    }
    let why = "the second half of the extents must repeat the first";
    Err(Error::InvalidShape { shape: x.to_i64().as_slice().into(), why })
}

/// The diagonal of a tensor of even rank.
pub static TENSOR_DIAG_PART: OpDef = OpDef {
    infer: |call| Ok(smallvec![Aval { dtype: call.inputs[0].dtype, shape: half(call)? }]),
    samples: &[sample(&[uniform(&[2, 3, 2, 3], -2.0, 2.0)]), sample(&[uniform(&[], -2.0, 2.0)])],
    ..diagonal(
        "tensor_diag_part",
        "The diagonal of a tensor of even rank.",
        "y[i, j] = x[i, j, i, j]",
        Kernel::Composite(|r| {
            let shape = r.x[0].shape();
            let part = Shape::from(&shape[..shape.len() / 2]);
            let count = part.elements();
            smallvec![diag_part(r.x[0].reshape(&[count, count].into()), 0).reshape(&part)]
        }),
    )
};

/// Trace.
pub static TRACE: OpDef = OpDef {
    dtypes: DTypes::NUMERIC,
    infer: |call| {
        let x = &call.inputs[0];
        Ok(smallvec![Aval { dtype: x.dtype, shape: Line::new(&x.shape, 0)?.batch }])
    },
    samples: &[sample(&[uniform(&[2, 3, 3], -2.0, 2.0)]), sample(&[uniform(&[2, 3], -2.0, 2.0)])],
    ..diagonal(
        "trace",
        "Sums of the main diagonals of matrices.",
        "y = sum of x[i, i]",
        Kernel::Composite(|r| {
            let sum = Reduce { axis: smallvec![-1], keepdims: false };
            smallvec![diag_part(r.x[0], 0).op(&REDUCE_SUM, sum.write(), &[])]
        }),
    )
};
