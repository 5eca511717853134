//! Element types: which there are and what each can do.

use std::fmt;

/// The type of a tensor's elements.
///
/// A new type gets a variant here, an [`Element`](crate::array::Element) implementation, a variant of
/// [`Array`](crate::array::Array), and the kernels that should take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// 32-bit two's complement.
    I32,
    /// 64-bit two's complement.
    I64,
    /// Truth value, one byte.
    Bool,
    /// IEEE 754 half precision; computed in `float32`.
    F16,
    /// The upper half of IEEE 754 single precision; computed in `float32`.
    BF16,
}

impl DType {
    /// Every type, in the order of the catalogue.
    pub const ALL: &'static [Self] =
        &[Self::F32, Self::F64, Self::I32, Self::I64, Self::Bool, Self::F16, Self::BF16];

    /// Size of one element in bytes.
    pub const fn size(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Whether tensors of this type have gradients.
    pub const fn is_differentiable(self) -> bool {
        self.is_float()
    }

    /// Whether this is a floating-point type.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64 | Self::F16 | Self::BF16)
    }

    /// Whether this type is stored in two bytes and computed in `float32`.
    pub const fn is_half(self) -> bool {
        matches!(self, Self::F16 | Self::BF16)
    }

    /// The type in which kernels compute: `float32` for the half types, otherwise this one.
    pub const fn widened(self) -> Self {
        if self.is_half() { Self::F32 } else { self }
    }

    /// Whether this is an integer type.
    pub const fn is_integer(self) -> bool {
        matches!(self, Self::I32 | Self::I64)
    }

    /// The name that NumPy and TensorFlow use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::Bool => "bool",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of element types, as the op table writes what an op accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DTypes(u16);

impl DTypes {
    /// All floating-point types.
    pub const FLOAT: Self = Self::of(&[DType::F32, DType::F64, DType::F16, DType::BF16]);
    /// All integer types.
    pub const INTEGER: Self = Self::of(&[DType::I32, DType::I64]);
    /// All types that have arithmetic.
    pub const NUMERIC: Self = Self(Self::FLOAT.0 | Self::INTEGER.0);
    /// Only truth values.
    pub const BOOL: Self = Self::of(&[DType::Bool]);
    /// Every type.
    pub const ANY: Self = Self(Self::NUMERIC.0 | Self::BOOL.0);

    /// The set of the given types.
    pub const fn of(dtypes: &[DType]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < dtypes.len() {
            bits |= 1 << dtypes[i] as u16;
            i += 1;
        }
        Self(bits)
    }

    /// Whether the set holds `dtype`.
    pub const fn contains(self, dtype: DType) -> bool {
        self.0 & (1 << dtype as u16) != 0
    }

    /// The members, in the order of [`DType::ALL`].
    pub fn iter(self) -> impl Iterator<Item = DType> {
        DType::ALL.iter().copied().filter(move |&dtype| self.contains(dtype))
    }
}

impl fmt::Display for DTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(DType::name).collect();
        f.write_str(&names.join(", "))
    }
}
