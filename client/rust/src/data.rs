//! Tensors on this side of the wire: element types, shapes and elements.

use std::fmt;

use bytes::Bytes;
use gradtape_proto::v1 as proto;

use crate::{Error, Result};

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// Two's complement, 32 bits.
    I32,
    /// Two's complement, 64 bits.
    I64,
    /// True or false.
    Bool,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of IEEE 754 single precision.
    BF16,
}

impl DType {
    /// How many bytes an element takes.
    fn bytes(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::Bool => "bool",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
        })
    }
}

impl From<DType> for proto::DataType {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::Float32,
            DType::F64 => Self::Float64,
            DType::I32 => Self::Int32,
            DType::I64 => Self::Int64,
            DType::Bool => Self::Bool,
            DType::F16 => Self::Float16,
            DType::BF16 => Self::Bfloat16,
        }
    }
}

impl TryFrom<i32> for DType {
    type Error = Error;

    fn try_from(number: i32) -> Result<Self> {
        match proto::DataType::try_from(number) {
            Ok(proto::DataType::Float32) => Ok(Self::F32),
            Ok(proto::DataType::Float64) => Ok(Self::F64),
            Ok(proto::DataType::Int32) => Ok(Self::I32),
            Ok(proto::DataType::Int64) => Ok(Self::I64),
            Ok(proto::DataType::Bool) => Ok(Self::Bool),
            Ok(proto::DataType::Float16) => Ok(Self::F16),
            Ok(proto::DataType::Bfloat16) => Ok(Self::BF16),
            Ok(proto::DataType::Unspecified) | Err(_) => {
                Err(Error::Protocol(format!("element type {number} is not known")))
            }
        }
    }
}

/// What is known of a tensor without its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Type of the elements.
    pub dtype: DType,
    /// Extents, outermost first; empty for a scalar.
    pub shape: Vec<i64>,
}

impl Spec {
    /// How many bytes the elements take, if that is a number.
    pub(crate) fn bytes(&self) -> Option<usize> {
        self.shape.iter().try_fold(self.dtype.bytes(), |bytes, &extent| {
            bytes.checked_mul(usize::try_from(extent).ok()?)
        })
    }
}

impl From<&Spec> for proto::TensorSpec {
    fn from(spec: &Spec) -> Self {
        Self { dtype: proto::DataType::from(spec.dtype).into(), shape: spec.shape.clone() }
    }
}

impl TryFrom<proto::TensorSpec> for Spec {
    type Error = Error;

    fn try_from(spec: proto::TensorSpec) -> Result<Self> {
        Ok(Self { dtype: spec.dtype.try_into()?, shape: spec.shape })
    }
}

/// A Rust type that tensors can hold.
pub trait Element: Copy + Send + Sync + 'static + sealed::Sealed {
    /// The element type it stands for.
    const DTYPE: DType;

    /// Appends the little-endian bytes.
    #[doc(hidden)]
    fn write(self, bytes: &mut Vec<u8>);

    /// Reads one element from exactly its bytes.
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Self;
}

mod sealed {
    /// Keeps [`Element`](super::Element) to the types that the wire knows.
    pub trait Sealed {}
}

macro_rules! elements {
    ($($element:ty => $dtype:ident,)*) => {$(
        impl sealed::Sealed for $element {}

        impl Element for $element {
            const DTYPE: DType = DType::$dtype;

            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend_from_slice(&self.to_le_bytes());
            }

            fn read(bytes: &[u8]) -> Self {
                let mut element = [0; size_of::<Self>()];
                element.copy_from_slice(bytes);
                Self::from_le_bytes(element)
            }
        }
    )*};
}

elements! {
    f32 => F32,
    f64 => F64,
    i32 => I32,
    i64 => I64,
    half::f16 => F16,
    half::bf16 => BF16,
}

impl sealed::Sealed for bool {}

impl Element for bool {
    const DTYPE: DType = DType::Bool;

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.push(self.into());
    }

    fn read(bytes: &[u8]) -> Self {
        bytes[0] != 0
    }
}

/// A tensor's elements with their type and shape, as they go over the wire.
///
/// Made from scalars, vectors, slices, nested arrays, and pairs of elements and shape:
///
/// ```
/// use gradtape_client::TensorData;
///
/// let matrix = TensorData::from([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]]);
/// assert_eq!(matrix, TensorData::new([2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]));
/// ```
///
/// Nothing is checked here: the server has the last word, and its error names the source line.
#[derive(Clone, PartialEq, Eq)]
pub struct TensorData {
    spec: Spec,
    bytes: Bytes,
}

impl fmt::Debug for TensorData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorData({}, {:?}, {} bytes)", self.dtype(), self.shape(), self.bytes.len())
    }
}

impl TensorData {
    /// Puts elements, row by row, into a shape.
    pub fn new<T: Element>(shape: impl Into<Vec<i64>>, elements: &[T]) -> Self {
        let mut bytes = Vec::with_capacity(size_of_val(elements));
        for element in elements {
            element.write(&mut bytes);
        }
        Self::from_bytes(Spec { dtype: T::DTYPE, shape: shape.into() }, bytes.into())
    }

    /// Takes elements as they lie on the wire: row-major and little-endian.
    pub fn from_bytes(spec: Spec, bytes: Bytes) -> Self {
        Self { spec, bytes }
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.spec.dtype
    }

    /// Extents, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[i64] {
        &self.spec.shape
    }

    /// Type and shape.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// The elements as they lie on the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The elements, row by row.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if T::DTYPE != self.dtype() {
            return Err(Error::DType { asked: T::DTYPE, found: self.dtype() });
        }
        Ok(self.bytes.chunks_exact(size_of::<T>()).map(T::read).collect())
    }

    /// The only element.
    pub fn to_scalar<T: Element>(&self) -> Result<T> {
        match self.to_vec()?[..] {
            [element] => Ok(element),
            _ => Err(Error::NotScalar { shape: self.spec.shape.clone() }),
        }
    }
}

impl From<TensorData> for proto::Tensor {
    fn from(data: TensorData) -> Self {
        Self {
            dtype: proto::DataType::from(data.dtype()).into(),
            shape: data.spec.shape,
            data: data.bytes,
        }
    }
}

impl TryFrom<proto::Tensor> for TensorData {
    type Error = Error;

    fn try_from(tensor: proto::Tensor) -> Result<Self> {
        let spec = Spec { dtype: tensor.dtype.try_into()?, shape: tensor.shape };
        Ok(Self::from_bytes(spec, tensor.data))
    }
}

impl<T: Element> From<T> for TensorData {
    fn from(element: T) -> Self {
        Self::new([], &[element])
    }
}

impl<T: Element> From<&[T]> for TensorData {
    fn from(elements: &[T]) -> Self {
        Self::new([extent(elements.len())], elements)
    }
}

impl<T: Element> From<Vec<T>> for TensorData {
    fn from(elements: Vec<T>) -> Self {
        Self::from(&elements[..])
    }
}

impl<T: Element> From<&Vec<T>> for TensorData {
    fn from(elements: &Vec<T>) -> Self {
        Self::from(&elements[..])
    }
}

impl<T: Element, const N: usize> From<[T; N]> for TensorData {
    fn from(elements: [T; N]) -> Self {
        Self::from(&elements[..])
    }
}

impl<T: Element, const N: usize, const M: usize> From<[[T; N]; M]> for TensorData {
    fn from(rows: [[T; N]; M]) -> Self {
        Self::new([extent(M), extent(N)], rows.as_flattened())
    }
}

impl<T: Element, const L: usize, const N: usize, const M: usize> From<[[[T; L]; N]; M]>
    for TensorData
{
    fn from(planes: [[[T; L]; N]; M]) -> Self {
        let shape = [extent(M), extent(N), extent(L)];
        Self::new(shape, planes.as_flattened().as_flattened())
    }
}

/// The number of elements of something in memory as an extent; memory ends before `i64` does.
fn extent(length: usize) -> i64 {
    i64::try_from(length).expect("no slice is longer than isize::MAX")
}
