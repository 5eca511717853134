//! Static arguments of ops and hyperparameters of optimizers.

use gradtape_proto::v1::{self as proto, attribute::Value};

use crate::DType;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Attribute {
    /// A truth value.
    Bool(bool),
    /// An integer.
    Integer(i64),
    /// A real number.
    Double(f64),
    /// A text.
    String(String),
    /// An element type.
    DType(DType),
    /// A list of integers: axes, extents, a permutation.
    Integers(Vec<i64>),
    /// A list of real numbers: the rates of a schedule.
    Doubles(Vec<f64>),
}

impl Attribute {
    /// Gives the value its name.
    pub(crate) fn named(self, name: &str) -> proto::Attribute {
        let value = match self {
            Self::Bool(value) => Value::BoolValue(value),
            Self::Integer(value) => Value::IntValue(value),
            Self::Double(value) => Value::DoubleValue(value),
            Self::String(value) => Value::StringValue(value),
            Self::DType(value) => Value::DtypeValue(proto::DataType::from(value).into()),
            Self::Integers(values) => Value::IntsValue(proto::IntegerList { values }),
            Self::Doubles(values) => Value::DoublesValue(proto::DoubleList { values }),
        };
        proto::Attribute { name: name.to_owned(), value: Some(value) }
    }
}

macro_rules! conversions {
    ($($from:ty => $variant:ident,)*) => {$(
        impl From<$from> for Attribute {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}

conversions! {
    bool => Bool,
    i32 => Integer,
    i64 => Integer,
    f32 => Double,
    f64 => Double,
    &str => String,
    String => String,
    DType => DType,
    &[i64] => Integers,
    Vec<i64> => Integers,
    &[f64] => Doubles,
    Vec<f64> => Doubles,
}

impl<const N: usize> From<[f64; N]> for Attribute {
    fn from(values: [f64; N]) -> Self {
        Self::Doubles(values.into())
    }
}

impl<const N: usize> From<[i64; N]> for Attribute {
    fn from(values: [i64; N]) -> Self {
        Self::Integers(values.into())
    }
}
