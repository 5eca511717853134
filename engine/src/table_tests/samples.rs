//! The samples of the op table as numbers and tensors.

use half::{bf16, f16};

use crate::{
    array::{Array, Tensor},
    attrs::Attrs,
    aval::Shape,
    dtype::DType,
    op::{Fill, OpDef, Sample},
    ops,
    random::State,
};

/// The input values of a sample, as doubles.
pub(crate) type Values = Vec<Vec<f64>>;

pub(crate) fn each_sample(mut check: impl FnMut(&'static OpDef, &'static Sample)) {
    for &op in ops::ALL.iter() {
        op.samples.iter().for_each(|sample| check(op, sample));
    }
}

pub(crate) fn attrs(op: &OpDef, sample: &Sample) -> Attrs {
    let given =
        (sample.attrs)().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Attrs::check(op.attrs, given).unwrap_or_else(|error| panic!("{}: {error}", op.name))
}

/// The dtype of input `i` when the floating-point inputs have `dtype`.
pub(crate) fn dtype_of(sample: &Sample, i: usize, dtype: DType) -> DType {
    match sample.inputs[i].fill {
        Fill::Uniform(..) | Fill::Matrix { .. } => dtype,
        Fill::Index(..) => DType::I64,
        Fill::Bool => DType::Bool,
    }
}

pub(crate) fn fill(sample: &Sample, seed: i64) -> Values {
    let values = |(i, input): (usize, &crate::op::Input)| {
        let numbers = State::new(seed, i64::try_from(i).unwrap() << 20);
        let count = input.shape.iter().product::<usize>() as u64;
        let number = |n| match input.fill {
            Fill::Uniform(low, high) => low + (high - low) * numbers.uniform(n),
            #[expect(clippy::cast_precision_loss, reason = "sample indices are small")]
            Fill::Index(low, high) => {
                (low as f64 + (high - low) as f64 * numbers.uniform(n)).floor()
            }
            Fill::Bool => numbers.uniform(n).round(),
            Fill::Matrix { .. } => numbers.uniform(n) - 0.5,
        };
        let mut values: Vec<f64> = (0..count).map(number).collect();
        if let Fill::Matrix { symmetric } = input.fill {
            each_element(input.shape, |matrix, i, j, at| {
                if symmetric && i < j {
                    values[at] = values[mirrored(input.shape, matrix, i, j)];
                }
                #[expect(clippy::cast_precision_loss, reason = "sample matrices are small")]
                if i == j {
                    values[at] += 2.0 + 1.5 * i as f64;
                }
            });
        }
        values
    };
    sample.inputs.iter().enumerate().map(values).collect()
}

/// Calls a function with the number of the matrix, row, column and place of each element of a stack of matrices.
fn each_element(shape: &[usize], mut visit: impl FnMut(usize, usize, usize, usize)) {
    let (&[rows, columns], _) =
        shape.split_last_chunk().map(|(batch, last)| (last, batch)).unwrap();
    for at in 0..shape.iter().product() {
        visit(at / (rows * columns), at / columns % rows, at % columns, at);
    }
}

/// The place of the element on the other side of the diagonal.
fn mirrored(shape: &[usize], matrix: usize, i: usize, j: usize) -> usize {
    let n = shape[shape.len() - 1];
    (matrix * n + j) * n + i
}

/// Integers are rounded up, so that a sample of positive numbers has no zeros.
#[expect(clippy::cast_possible_truncation, reason = "samples are small numbers")]
pub(crate) fn tensor(dtype: DType, shape: &[usize], values: &[f64]) -> Tensor {
    let shape = Shape::from(shape);
    Tensor::unpaid(
        match dtype {
            DType::F32 => Array::new(&shape, values.iter().map(|&v| v as f32).collect()),
            DType::F64 => Array::new(&shape, values.to_vec()),
            DType::I32 => Array::new(&shape, values.iter().map(|&v| v.ceil() as i32).collect()),
            DType::I64 => Array::new(&shape, values.iter().map(|&v| v.ceil() as i64).collect()),
            DType::Bool => Array::new(&shape, values.iter().map(|&v| v != 0.0).collect()),
            DType::F16 => Array::new(&shape, values.iter().map(|&v| f16::from_f64(v)).collect()),
            DType::BF16 => Array::new(&shape, values.iter().map(|&v| bf16::from_f64(v)).collect()),
        }
        .unwrap(),
    )
}

#[expect(clippy::cast_precision_loss, reason = "samples are small numbers")]
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    match tensor.array() {
        Array::F32(a) => a.iter().map(|&v| f64::from(v)).collect(),
        Array::F64(a) => a.iter().copied().collect(),
        Array::I32(a) => a.iter().map(|&v| f64::from(v)).collect(),
        Array::I64(a) => a.iter().map(|&v| v as f64).collect(),
        Array::Bool(a) => a.iter().map(|&v| f64::from(u8::from(v))).collect(),
        Array::F16(a) => a.iter().map(|&v| f64::from(v)).collect(),
        Array::BF16(a) => a.iter().map(|&v| f64::from(v)).collect(),
    }
}

/// A direction in which only the differentiable inputs move.
pub(crate) fn direction(sample: &Sample) -> Values {
    let values = |(i, input): (usize, &crate::op::Input)| {
        let numbers = State::new(3, i64::try_from(i).unwrap() << 20);
        let moves = f64::from(u8::from(input.fill.is_real()));
        let mut values: Vec<f64> = (0..input.shape.iter().product::<usize>() as u64)
            .map(|n| moves * (numbers.uniform(n) - 0.4))
            .collect();
        if (Fill::Matrix { symmetric: true }) == input.fill {
            each_element(input.shape, |matrix, i, j, at| {
                if i < j {
                    values[at] = values[mirrored(input.shape, matrix, i, j)];
                }
            });
        }
        values
    };
    sample.inputs.iter().enumerate().map(values).collect()
}
