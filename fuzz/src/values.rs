//! Small tensors and attributes that mostly fit what they are for.

use arbitrary::{Result, Unstructured};
use gradtape_engine::{
    attrs::{Attr, AttrSpec, AttrType, Fallback},
    op::{Fill, Input},
};
use gradtape_proto::v1::{self, attribute::Value};
use half::{bf16, f16};

/// Few shapes, so that tensors often fit each other.
const SHAPES: &[&[i64]] =
    &[&[], &[2], &[3], &[2, 3], &[3, 2], &[2, 2], &[3, 3], &[2, 3, 3], &[1, 4, 4, 2]];

/// Shapes that are seldom meant.
const ODD_SHAPES: &[&[i64]] = &[&[0], &[2, 0], &[1], &[1, 1, 1, 1, 1, 1, 1, 1], &[300], &[17, 33]];

const DTYPES: &[v1::DataType] = &[
    v1::DataType::Float64,
    v1::DataType::Float16,
    v1::DataType::Bfloat16,
    v1::DataType::Int32,
    v1::DataType::Int64,
    v1::DataType::Bool,
];

/// Texts that attributes take.
const TEXTS: &[&str] = &[
    "same",
    "valid",
    "ij,jk->ik",
    "ii->i",
    "...ij->...ji",
    "ij->",
    "a b -> b a",
    "(a b) c -> a b c",
    "reflect",
    "symmetric",
    "constant",
    "edge",
    "nearest",
    "bilinear",
    "bicubic",
    "mean",
    "sum",
    "none",
    "max",
    "min",
    "add",
    "pytorch",
    "keras",
    "tensorflow",
    "linear",
    "",
    "NHWC",
    "NCHW",
];

const NUMBERS: &[f64] = &[0.0, 0.5, 1.0, -1.0, 2.0, 0.1, 1e-3, -0.0, 3.5, -7.0];

const ODD_NUMBERS: &[f64] =
    &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e30, -1e300, f64::MIN_POSITIVE, 1e-40];

const ODD_INTEGERS: &[i64] =
    &[i64::MIN, i64::MAX, i64::MIN + 1, 1 << 31, 1 << 32, -(1 << 31), 1 << 20, 1000, 65];

/// Dtype and shape.
pub fn spec(choices: &mut Unstructured) -> Result<v1::TensorSpec> {
    let shapes = if choices.ratio(1, 16)? { ODD_SHAPES } else { SHAPES };
    let dtype = if choices.ratio(1, 5)? { *choices.choose(DTYPES)? } else { v1::DataType::Float32 };
    Ok(v1::TensorSpec { dtype: dtype.into(), shape: choices.choose(shapes)?.to_vec() })
}

/// A tensor of a spec.
pub fn tensor(choices: &mut Unstructured, spec: v1::TensorSpec) -> Result<v1::Tensor> {
    let count = spec.shape.iter().map(|&extent| usize::try_from(extent).unwrap_or(0)).product();
    let seed = choices.arbitrary::<u8>()?;
    let odd = choices.ratio(1, 12)?;
    let number = |i: usize| {
        let at = i.wrapping_mul(7).wrapping_add(usize::from(seed));
        if odd && at.is_multiple_of(3) {
            ODD_NUMBERS[at / 3 % ODD_NUMBERS.len()]
        } else {
            NUMBERS[at % NUMBERS.len()]
        }
    };
    let dtype = v1::DataType::try_from(spec.dtype).unwrap_or_default();
    Ok(encoded(dtype, spec.shape, count, number))
}

/// An input of a sample of the op table.
pub fn sampled(
    choices: &mut Unstructured,
    input: &Input,
    float: v1::DataType,
) -> Result<v1::Tensor> {
    let shape: Vec<i64> = input.shape.iter().map(|&e| i64::try_from(e).unwrap_or(0)).collect();
    let count = input.shape.iter().product();
    let seed = choices.arbitrary::<u8>()?;
    // Numbers between 0 and 1 that do not repeat soon.
    let unit = |i: usize| (((i + usize::from(seed)) * 37) % 101) as f64 / 101.0;
    let columns = input.shape.last().copied().unwrap_or(1);
    Ok(match input.fill {
        Fill::Uniform(low, high) => encoded(float, shape, count, |i| low + (high - low) * unit(i)),
        Fill::Index(low, high) => encoded(v1::DataType::Int64, shape, count, |i| {
            (low as f64 + (high - low) as f64 * unit(i)).floor()
        }),
        Fill::Bool => encoded(v1::DataType::Bool, shape, count, |i| unit(i).round()),
        Fill::Matrix { .. } => encoded(float, shape, count, |i| {
            let (row, column) = (i / columns % columns, i % columns);
            if row == column { 2.0 + 1.5 * row as f64 } else { 0.1 }
        }),
    })
}

fn encoded(
    dtype: v1::DataType,
    shape: Vec<i64>,
    count: usize,
    number: impl Fn(usize) -> f64,
) -> v1::Tensor {
    let numbers = (0..count).map(number);
    let data: Vec<u8> = match dtype {
        v1::DataType::Float32 => numbers.flat_map(|x| (x as f32).to_le_bytes()).collect(),
        v1::DataType::Float64 => numbers.flat_map(f64::to_le_bytes).collect(),
        v1::DataType::Int32 => numbers.flat_map(|x| (x as i32).to_le_bytes()).collect(),
        v1::DataType::Int64 => numbers.flat_map(|x| (x as i64).to_le_bytes()).collect(),
        v1::DataType::Bool => numbers.map(|x| u8::from(x != 0.0)).collect(),
        v1::DataType::Float16 => numbers.flat_map(|x| f16::from_f64(x).to_le_bytes()).collect(),
        _ => numbers.flat_map(|x| bf16::from_f64(x).to_le_bytes()).collect(),
    };
    v1::Tensor { dtype: dtype.into(), shape, data: data.into() }
}

/// Attributes for a specification: what must be given and some of the rest.
pub fn attributes(choices: &mut Unstructured, specs: &[AttrSpec]) -> Result<Vec<v1::Attribute>> {
    let mut given = Vec::new();
    for spec in specs {
        let required = matches!(spec.fallback, Fallback::Required);
        if choices.ratio(if required { 30 } else { 8 }, 32)? {
            let value = Some(value(choices, spec.ty)?);
            given.push(v1::Attribute { name: spec.name.to_owned(), value });
        }
    }
    Ok(given)
}

fn value(choices: &mut Unstructured, ty: AttrType) -> Result<Value> {
    Ok(match ty {
        AttrType::Bool => Value::BoolValue(choices.arbitrary()?),
        AttrType::Int => Value::IntValue(integer(choices)?),
        AttrType::Double => Value::DoubleValue(double(choices)?),
        AttrType::Text => Value::StringValue((*choices.choose(TEXTS)?).to_owned()),
        AttrType::DType => Value::DtypeValue((*choices.choose(DTYPES)?).into()),
        AttrType::Ints => {
            let values = several(choices, integer)?;
            Value::IntsValue(v1::IntegerList { values })
        }
        AttrType::Doubles => {
            let values = several(choices, double)?;
            Value::DoublesValue(v1::DoubleList { values })
        }
    })
}

fn several<T>(
    choices: &mut Unstructured,
    one: impl Fn(&mut Unstructured) -> Result<T>,
) -> Result<Vec<T>> {
    let count = choices.int_in_range(0..=4)?;
    (0..count).map(|_| one(choices)).collect()
}

/// An integer, mostly small.
pub fn integer(choices: &mut Unstructured) -> Result<i64> {
    if choices.ratio(1, 24)? {
        return choices.choose(ODD_INTEGERS).copied();
    }
    choices.int_in_range(-2..=4)
}

fn double(choices: &mut Unstructured) -> Result<f64> {
    let numbers = if choices.ratio(1, 24)? { ODD_NUMBERS } else { NUMBERS };
    choices.choose(numbers).copied()
}

/// An attribute of a sample, as a message.
pub fn attribute(name: &str, attr: Attr) -> Option<v1::Attribute> {
    let value = match attr {
        Attr::Unset | Attr::Bodies(_) => return None,
        Attr::Bool(value) => Value::BoolValue(value),
        Attr::Int(value) => Value::IntValue(value),
        Attr::Double(value) => Value::DoubleValue(value),
        Attr::Text(value) => Value::StringValue(value.into()),
        Attr::DType(value) => Value::DtypeValue(gradtape_server::wire::encode::dtype(value).into()),
        Attr::Ints(values) => Value::IntsValue(v1::IntegerList { values: values.to_vec() }),
        Attr::Doubles(values) => Value::DoublesValue(v1::DoubleList { values: values.to_vec() }),
    };
    Some(v1::Attribute { name: name.to_owned(), value: Some(value) })
}
