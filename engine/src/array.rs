//! Tensors with elements.
//!
//! Invariant: every array at an op's boundary is contiguous and row-major, so kernels work on slices and the same values
//! are always added in the same order.

use std::{cell::RefCell, sync::Arc};

use half::{bf16, f16};
use ndarray::{ArcArray, IxDyn};

use crate::{
    aval::{Aval, Shape},
    compute::{self, Looks},
    dtype::DType,
    error::Error,
    ledger::{Charge, Ledger},
};

/// A shared array of one element type.
pub type Nd<T> = ArcArray<T, IxDyn>;

/// An array of any element type.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the dtypes")]
pub enum Array {
    F32(Nd<f32>),
    F64(Nd<f64>),
    I32(Nd<i32>),
    I64(Nd<i64>),
    Bool(Nd<bool>),
    F16(Nd<f16>),
    BF16(Nd<bf16>),
}

/// Runs a body for whichever element type an array has.
#[macro_export]
macro_rules! dispatch {
    ($array:expr, $name:ident => $body:expr) => {
        match $array {
            $crate::array::Array::F32($name) => $body,
            $crate::array::Array::F64($name) => $body,
            $crate::array::Array::I32($name) => $body,
            $crate::array::Array::I64($name) => $body,
            $crate::array::Array::Bool($name) => $body,
            $crate::array::Array::F16($name) => $body,
            $crate::array::Array::BF16($name) => $body,
        }
    };
}

/// A Rust type that tensors can hold.
pub trait Element:
    Copy + Default + Send + Sync + PartialEq + PartialOrd + std::fmt::Debug + 'static
{
    /// The dtype.
    const DTYPE: DType;
    /// Wraps an array.
    fn wrap(array: Nd<Self>) -> Array;
    /// The array, if it has this element type.
    fn view(array: &Array) -> Option<&Nd<Self>>;
    /// The array itself, if it has this element type.
    fn unwrap(array: Array) -> Option<Nd<Self>>;
    /// Elements from little-endian bytes of the right length.
    fn from_bytes(bytes: &[u8], into: &mut Vec<Self>) -> Result<(), Error>;
    /// Little-endian bytes.
    fn as_bytes(elements: &[Self]) -> &[u8];
}

#[cfg(target_endian = "big")]
compile_error!("tensors are sent as they lie in memory, which is little-endian on the wire");

macro_rules! pod_element {
    ($($ty:ty, $variant:ident;)*) => {$(
        impl Element for $ty {
            const DTYPE: DType = DType::$variant;

            fn wrap(array: Nd<Self>) -> Array {
                Array::$variant(array)
            }

            fn view(array: &Array) -> Option<&Nd<Self>> {
                if let Array::$variant(array) = array { Some(array) } else { None }
            }

            fn unwrap(array: Array) -> Option<Nd<Self>> {
                if let Array::$variant(array) = array { Some(array) } else { None }
            }

            fn from_bytes(bytes: &[u8], into: &mut Vec<Self>) -> Result<(), Error> {
                // Bytes from the network need not be aligned for the element type.
                into.extend(bytes.chunks_exact(size_of::<Self>()).map(bytemuck::pod_read_unaligned::<Self>));
                Ok(())
            }

            fn as_bytes(elements: &[Self]) -> &[u8] {
                bytemuck::cast_slice(elements)
            }
        }
    )*};
}

pod_element! { f32, F32; f64, F64; i32, I32; i64, I64; f16, F16; bf16, BF16; }

impl Element for bool {
    const DTYPE: DType = DType::Bool;

    fn wrap(array: Nd<Self>) -> Array {
        Array::Bool(array)
    }

    fn view(array: &Array) -> Option<&Nd<Self>> {
        if let Array::Bool(array) = array { Some(array) } else { None }
    }

    fn unwrap(array: Array) -> Option<Nd<Self>> {
        if let Array::Bool(array) = array { Some(array) } else { None }
    }

    fn from_bytes(bytes: &[u8], into: &mut Vec<Self>) -> Result<(), Error> {
        if let Some(position) = bytes.iter().position(|&byte| byte > 1) {
            return Err(Error::InvalidBool { position });
        }
        into.extend(bytes.iter().map(|&byte| byte == 1));
        Ok(())
    }

    fn as_bytes(elements: &[Self]) -> &[u8] {
        bytemuck::cast_slice(elements)
    }
}

/// An empty vector with room for `n` elements. The only way that kernels get memory: it fails instead of aborting.
pub(crate) fn buffer<T>(n: usize) -> Result<Vec<T>, Error> {
    let mut elements = Vec::new();
    let bytes = (n as u64).saturating_mul(size_of::<T>() as u64);
    elements.try_reserve_exact(n).map_err(|_| Error::OutOfMemory { bytes })?;
    Ok(elements)
}

/// A vector of `n` equal elements.
pub(crate) fn filled<T: Clone>(n: usize, value: T) -> Result<Vec<T>, Error> {
    let mut elements = buffer(n)?;
    lengthen(&mut elements, n, value)?;
    Ok(elements)
}

/// Appends equal elements to a vector that has room for them, up to `n`. The first touch of memory takes long, so it looks
/// at the flag meanwhile.
pub(crate) fn lengthen<T: Clone>(elements: &mut Vec<T>, n: usize, value: T) -> Result<(), Error> {
    /// Some milliseconds.
    const AT_ONCE: usize = 1 << 20;
    while elements.len() < n {
        compute::check()?;
        elements.resize(n.min(elements.len() + AT_ONCE), value.clone());
    }
    Ok(())
}

/// Appends a copy of a slice to a vector that has room for it, and looks at the flag meanwhile.
pub(crate) fn append<T: Copy>(to: &mut Vec<T>, from: &[T]) -> Result<(), Error> {
    let mut looks = Looks::default();
    for piece in from.chunks(compute::range()) {
        to.extend_from_slice(piece);
        looks.after(piece.len())?;
    }
    Ok(())
}

thread_local! {
    static OFFERED: RefCell<Vec<Array>> = const { RefCell::new(Vec::new()) };
}

/// Runs a kernel to whose results the memory of arrays is offered that nobody needs any more.
pub(crate) fn offering<R>(arrays: Vec<Array>, kernel: impl FnOnce() -> R) -> R {
    struct Withdraw;
    impl Drop for Withdraw {
        fn drop(&mut self) {
            OFFERED.with(|offered| offered.borrow_mut().clear());
        }
    }
    if arrays.is_empty() {
        return kernel();
    }
    let _withdraw = Withdraw;
    OFFERED.with(|offered| *offered.borrow_mut() = arrays);
    kernel()
}

/// How many arrays are offered and were not taken.
#[cfg(test)]
pub(crate) fn left() -> usize {
    OFFERED.with(|offered| offered.borrow().len())
}

/// The memory of `n` elements, whatever they are, if such was offered. Only for what a kernel returns: that pays for it.
pub(crate) fn offered<T: Element>(n: usize) -> Option<Vec<T>> {
    let array = OFFERED.with(|offered| {
        let mut offered = offered.borrow_mut();
        let fits = |array: &Array| T::view(array).is_some_and(|array| array.len() == n);
        offered.iter().position(fits).map(|at| offered.swap_remove(at))
    });
    let owned = array.and_then(T::unwrap)?.try_into_owned_nocopy().ok()?;
    let (elements, offset) = owned.into_raw_vec_and_offset();
    (offset == Some(0) && elements.len() == n).then_some(elements)
}

/// `n` elements that the caller overwrites, all of them: of memory that was offered, or zeros.
pub(crate) fn overwritten<T: Element>(n: usize) -> Result<Vec<T>, Error> {
    if let Some(elements) = offered(n) {
        return Ok(elements);
    }
    filled(n, T::default())
}

impl Array {
    /// An array of `elements` in row-major order; a wrong number of them is a bug of the caller.
    pub(crate) fn new<T: Element>(shape: &Shape, elements: Vec<T>) -> Result<Self, Error> {
        Nd::from_shape_vec(IxDyn(shape), elements).map(T::wrap).map_err(|error| {
            Error::bug(format!("kernel made the wrong number of elements: {error}"))
        })
    }

    /// The dtype.
    pub fn dtype(&self) -> DType {
        match self {
            Self::F32(_) => DType::F32,
            Self::F64(_) => DType::F64,
            Self::I32(_) => DType::I32,
            Self::I64(_) => DType::I64,
            Self::Bool(_) => DType::Bool,
            Self::F16(_) => DType::F16,
            Self::BF16(_) => DType::BF16,
        }
    }

    /// The extents.
    pub fn shape(&self) -> &[usize] {
        dispatch!(self, a => a.shape())
    }

    /// Dtype and shape.
    pub fn aval(&self) -> Aval {
        Aval::new(self.dtype(), self.shape())
    }

    /// The elements in row-major order, if they have type `T`.
    pub fn elements<T: Element>(&self) -> Result<&[T], Error> {
        T::view(self)
            .and_then(|array| array.as_slice())
            .ok_or_else(|| Error::bug(format!("{} array taken for {}", self.dtype(), T::DTYPE)))
    }

    /// The same elements in another shape of as many.
    pub(crate) fn reshaped(&self, shape: &Shape) -> Result<Self, Error> {
        fn view<T: Element>(array: &Nd<T>, shape: &Shape) -> Result<Array, Error> {
            array
                .clone()
                .into_shape_with_order(IxDyn(shape))
                .map(T::wrap)
                .map_err(|error| Error::bug(format!("reshape: {error}")))
        }
        dispatch!(self, a => view(a, shape))
    }

    /// The elements as little-endian bytes.
    pub fn as_bytes(&self) -> Result<&[u8], Error> {
        dispatch!(self, a => a.as_slice().map(Element::as_bytes))
            .ok_or_else(|| Error::bug("an array is not contiguous"))
    }
}

/// An immutable array whose memory is paid for. Clones share both, and are one pointer: tensors go through many hands.
///
/// While a function is traced, tensors stand for what its program will compute: they have a dtype, a shape and a place in
/// that program, and their array is empty.
#[derive(Clone, Debug)]
pub struct Tensor(Arc<Content>);

#[derive(Debug)]
struct Content {
    array: Array,
    standing: Standing,
}

/// Who pays for a tensor's memory, or what it stands for without any.
#[derive(Debug)]
enum Standing {
    Unpaid,
    Paid {
        /// Held until the last clone is dropped.
        charge: Charge,
    },
    /// It has its memory in common with a tensor that was paid for.
    Shares(Tensor),
    Traced {
        aval: Aval,
        /// Which of the programs that are being written within each other.
        level: usize,
        slot: usize,
    },
}

impl Tensor {
    fn new(array: Array, standing: Standing) -> Self {
        Self(Arc::new(Content { array, standing }))
    }

    /// An array and the reservation that pays for it.
    pub(crate) fn paid(array: Array, charge: Charge) -> Self {
        Self::new(array, Standing::Paid { charge })
    }

    /// An array that nobody pays for, for tests and tools.
    pub fn unpaid(array: Array) -> Self {
        Self::new(array, Standing::Unpaid)
    }

    /// What a program that is being written will leave in a slot. Programs that are written within each other have levels.
    pub(crate) fn traced(aval: Aval, level: usize, slot: usize) -> Result<Self, Error> {
        let array = Array::new(&Shape::from([0]), Vec::<bool>::new())?;
        Ok(Self::new(array, Standing::Traced { aval, level, slot }))
    }

    /// The slot that this stands for, if it has no elements.
    pub(crate) fn slot(&self) -> Option<usize> {
        if let Standing::Traced { slot, .. } = self.0.standing { Some(slot) } else { None }
    }

    /// The level of the program that this belongs to, if it has no elements.
    pub(crate) fn level(&self) -> Option<usize> {
        if let Standing::Traced { level, .. } = self.0.standing { Some(level) } else { None }
    }

    /// Decodes little-endian, row-major elements, after checking their number and reserving their memory.
    pub fn from_bytes(ledger: &Arc<Ledger>, aval: &Aval, bytes: &[u8]) -> Result<Self, Error> {
        fn decode<T: Element>(aval: &Aval, bytes: &[u8]) -> Result<Array, Error> {
            let mut elements = buffer(aval.shape.elements())?;
            T::from_bytes(bytes, &mut elements)?;
            Array::new(&aval.shape, elements)
        }
        aval.shape.check()?;
        if bytes.len() as u64 != aval.bytes() {
            let (expected, given) = (aval.bytes(), bytes.len() as u64);
            return Err(Error::DataLength { aval: aval.clone(), expected, given });
        }
        let charge = ledger.reserve(aval.bytes())?;
        let array = match aval.dtype {
            DType::F32 => decode::<f32>(aval, bytes),
            DType::F64 => decode::<f64>(aval, bytes),
            DType::I32 => decode::<i32>(aval, bytes),
            DType::I64 => decode::<i64>(aval, bytes),
            DType::Bool => decode::<bool>(aval, bytes),
            DType::F16 => decode::<f16>(aval, bytes),
            DType::BF16 => decode::<bf16>(aval, bytes),
        }?;
        Ok(Self::paid(array, charge))
    }

    /// The array. That of a traced tensor is empty.
    pub fn array(&self) -> &Array {
        &self.0.array
    }

    /// Dtype and shape.
    pub fn aval(&self) -> Aval {
        if let Standing::Traced { aval, .. } = &self.0.standing {
            return aval.clone();
        }
        self.0.array.aval()
    }

    /// Whether it has this dtype and shape.
    pub(crate) fn is_like(&self, aval: &Aval) -> bool {
        match &self.0.standing {
            Standing::Traced { aval: own, .. } => own == aval,
            Standing::Unpaid | Standing::Paid { .. } | Standing::Shares(_) => {
                self.0.array.dtype() == aval.dtype && *self.0.array.shape() == *aval.shape
            }
        }
    }

    /// Dtype.
    pub fn dtype(&self) -> DType {
        if let Standing::Traced { aval, .. } = &self.0.standing {
            return aval.dtype;
        }
        self.0.array.dtype()
    }

    /// The array and what pays for it, if nobody else holds this tensor.
    pub(crate) fn into_parts(self) -> Option<(Array, Charge)> {
        match Arc::try_unwrap(self.0).ok()? {
            Content { array, standing: Standing::Paid { charge } } => Some((array, charge)),
            Content { .. } => None,
        }
    }

    /// The same memory in another shape of as many elements.
    pub fn reshaped(&self, shape: &Shape) -> Result<Self, Error> {
        let owner = if let Standing::Shares(owner) = &self.0.standing { owner } else { self };
        Ok(Self::new(self.0.array.reshaped(shape)?, Standing::Shares(owner.clone())))
    }
}
