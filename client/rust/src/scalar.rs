//! Numbers in expressions, which take the type of the tensor they stand beside.

use crate::{DType, TensorData};

/// A number without a type of its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar {
    /// Written as a whole number.
    Integer(i64),
    /// Written with a decimal point.
    Real(f64),
}

impl Scalar {
    /// The number as a tensor of shape [] and of the type beside it; [`DType::F32`] where that is not known.
    ///
    /// A fraction beside integers stays a fraction: the server refuses the mixture instead of this client rounding.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a literal takes the precision of the tensor beside it"
    )]
    pub(crate) fn to_data(self, peer: Option<DType>) -> TensorData {
        let dtype = peer.unwrap_or(DType::F32);
        match (self, dtype) {
            (Self::Real(x), DType::F32) => (x as f32).into(),
            (Self::Real(x), DType::I32) if fits(x, 31) => (x as i32).into(),
            (Self::Real(x), DType::I64) if fits(x, 63) => (x as i64).into(),
            (Self::Real(x), DType::F64 | DType::I32 | DType::I64 | DType::Bool) => x.into(),
            (Self::Real(x), DType::F16) => half::f16::from_f64(x).into(),
            (Self::Real(x), DType::BF16) => half::bf16::from_f64(x).into(),
            (Self::Integer(n), DType::F32) => (n as f32).into(),
            (Self::Integer(n), DType::F16) => half::f16::from_f64(n as f64).into(),
            (Self::Integer(n), DType::BF16) => half::bf16::from_f64(n as f64).into(),
            (Self::Integer(n), DType::F64) => (n as f64).into(),
            (Self::Integer(n), DType::I32) => {
                i32::try_from(n).map_or_else(|_| n.into(), TensorData::from)
            }
            (Self::Integer(n), DType::I64 | DType::Bool) => n.into(),
        }
    }
}

/// Whether a real number is a whole one of so many bits besides its sign.
fn fits(x: f64, bits: i32) -> bool {
    x.fract() == 0.0 && x.abs() < 2f64.powi(bits)
}
