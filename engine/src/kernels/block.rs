//! Elementwise kernels: loops over blocks of elements.
//!
//! An elementwise op is one loop over slices of one length. Broadcasting and memory are the business of [`run`], which makes
//! a chain of one link ([`chain`](super::chain)) of whatever is not small.

use smallvec::SmallVec;

use crate::{
    array::{Array, Element, buffer, lengthen, offered},
    attrs::Attrs,
    aval::{Aval, Shape},
    dtype::DType,
    error::Error,
    kernels::{
        chain::{Chain, Instruction, Source},
        registers::{LINE, Registers},
    },
    op::{BlockKernel, Lanes, LanesMut},
};

/// Most inputs of an elementwise op.
pub(crate) const MAX_INPUTS: usize = 3;

/// Elements of a block. Four kibibytes of `float32`: a dozen registers lie in a first-level cache of 48.
pub(crate) const BLOCK: usize = 1024;

/// Elements of one dtype.
#[derive(Debug)]
pub(crate) enum Elements {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
}

/// An element type that blocks can have: every one but the half types, which are widened before.
pub(crate) trait Lane: Element {
    fn read<'a>(lanes: &Lanes<'a>) -> Option<&'a [Self]>;
    fn write<'a>(lanes: &'a mut LanesMut<'_>) -> Option<&'a mut [Self]>;
    fn lanes(elements: &[Self]) -> Lanes<'_>;
    fn lanes_mut(elements: &mut [Self]) -> LanesMut<'_>;
    fn own(elements: Vec<Self>) -> Elements;
    fn owned(elements: &mut Elements) -> Option<&mut Vec<Self>>;
    fn lines(registers: &Registers) -> &[[Self; LINE]];
    fn lines_mut(registers: &mut Registers) -> &mut Vec<[Self; LINE]>;
}

macro_rules! lane {
    ($($ty:ident, $variant:ident;)*) => {
        $(impl Lane for $ty {
            fn read<'a>(lanes: &Lanes<'a>) -> Option<&'a [Self]> {
                if let Lanes::$variant(elements) = lanes { Some(elements) } else { None }
            }

            fn write<'a>(lanes: &'a mut LanesMut<'_>) -> Option<&'a mut [Self]> {
                if let LanesMut::$variant(elements) = lanes { Some(elements) } else { None }
            }

            fn lanes(elements: &[Self]) -> Lanes<'_> {
                Lanes::$variant(elements)
            }

            fn lanes_mut(elements: &mut [Self]) -> LanesMut<'_> {
                LanesMut::$variant(elements)
            }

            fn own(elements: Vec<Self>) -> Elements {
                Elements::$variant(elements)
            }

            fn owned(elements: &mut Elements) -> Option<&mut Vec<Self>> {
                if let Elements::$variant(elements) = elements { Some(elements) } else { None }
            }

            #[inline]
            fn lines(registers: &Registers) -> &[[Self; LINE]] {
                &registers.$ty
            }

            #[inline]
            fn lines_mut(registers: &mut Registers) -> &mut Vec<[Self; LINE]> {
                &mut registers.$ty
            }
        })*

        /// Runs a body for whichever element type these have.
        macro_rules! by_type {
            ($enum:ident, $value:expr, $name:ident => $body:expr) => {
                match $value {
                    $($enum::$variant($name) => $body,)*
                }
            };
        }
        pub(super) use by_type;
    };
}

lane! { f32, F32; f64, F64; i32, I32; i64, I64; bool, Bool; }

pub(super) fn mistyped() -> Error {
    Error::bug("a block of another dtype than its kernel's")
}

/// Runs one elementwise op.
pub(crate) fn run(
    kernel: BlockKernel,
    attrs: &Attrs,
    out: &Aval,
    inputs: &[&Array],
) -> Result<Array, Error> {
    let elements = out.shape.elements();
    if elements <= BLOCK && inputs.iter().all(|input| input.shape() == &out.shape[..]) {
        // Small tensors are many: nothing is set up for them.
        let lanes: SmallVec<[Lanes; 3]> =
            inputs.iter().map(|input| lanes_of(input)).collect::<Result<_, _>>()?;
        let mut result = Elements::zeros(out.dtype, elements)?;
        kernel(attrs, &lanes, &mut result.lanes_mut(0, elements).into())?;
        return result.into_array(&out.shape);
    }
    if inputs.len() > MAX_INPUTS {
        return Err(Error::bug("an elementwise op of many inputs"));
    }
    let chain = Chain {
        shape: out.shape.clone(),
        instructions: vec![Instruction {
            kernel,
            attrs: attrs.clone(),
            inputs: (0..inputs.len()).map(Source::Input).collect(),
            output: 0,
        }],
        registers: vec![out.dtype],
        outputs: SmallVec::from_elem(0, 1),
        reductions: Vec::new(),
        extents: [1; 3],
    };
    chain.run(inputs)?.pop().ok_or_else(|| Error::bug("a chain without a result"))
}

/// Bytes that [`run`] takes besides the result.
pub(crate) fn workspace(inputs: &[Aval], out: &Aval) -> u64 {
    let broadcast = inputs.iter().any(|input| input.shape != out.shape);
    let elements = out.shape.elements();
    if elements <= BLOCK && !broadcast {
        return 0;
    }
    (1 + inputs.len() as u64).saturating_mul(8 * elements.min(BLOCK) as u64)
}

impl Lanes<'_> {
    /// Some of the elements.
    pub(crate) fn part(self, start: usize, length: usize) -> Self {
        by_type!(Lanes, self, elements => Lane::lanes(&elements[start..start + length]))
    }
}

/// An array's elements.
pub(crate) fn lanes_of(array: &Array) -> Result<Lanes<'_>, Error> {
    Ok(match array {
        Array::F32(_) => Lanes::F32(array.elements()?),
        Array::F64(_) => Lanes::F64(array.elements()?),
        Array::I32(_) => Lanes::I32(array.elements()?),
        Array::I64(_) => Lanes::I64(array.elements()?),
        Array::Bool(_) => Lanes::Bool(array.elements()?),
        Array::F16(_) | Array::BF16(_) => return Err(mistyped()),
    })
}

impl Elements {
    /// Stands in for what is taken out.
    pub(crate) const NONE: Self = Self::Bool(Vec::new());

    /// So many zeros.
    pub(crate) fn zeros(dtype: DType, count: usize) -> Result<Self, Error> {
        let mut elements = Self::empty(dtype, count)?;
        elements.grow(count)?;
        Ok(elements)
    }

    fn empty(dtype: DType, room: usize) -> Result<Self, Error> {
        Ok(match dtype {
            DType::F32 => Lane::own(buffer::<f32>(room)?),
            DType::F64 => Lane::own(buffer::<f64>(room)?),
            DType::I32 => Lane::own(buffer::<i32>(room)?),
            DType::I64 => Lane::own(buffer::<i64>(room)?),
            DType::Bool => Lane::own(buffer::<bool>(room)?),
            DType::F16 | DType::BF16 => return Err(mistyped()),
        })
    }

    /// An array of these.
    pub(crate) fn into_array(self, shape: &Shape) -> Result<Array, Error> {
        by_type!(Self, self, elements => Array::new(shape, elements))
    }

    /// So many elements that are all overwritten.
    pub(super) fn overwritten(dtype: DType, count: usize) -> Result<Self, Error> {
        let mut elements = Self::room(dtype, count)?;
        elements.grow(count)?;
        Ok(elements)
    }

    /// As many elements, all of which are overwritten, in memory that is offered; or room for them.
    pub(super) fn room(dtype: DType, count: usize) -> Result<Self, Error> {
        let offered = match dtype {
            DType::F32 => offered::<f32>(count).map(Lane::own),
            DType::F64 => offered::<f64>(count).map(Lane::own),
            DType::I32 => offered::<i32>(count).map(Lane::own),
            DType::I64 => offered::<i64>(count).map(Lane::own),
            DType::Bool => offered::<bool>(count).map(Lane::own),
            DType::F16 | DType::BF16 => None,
        };
        offered.map_or_else(|| Self::empty(dtype, count), Ok)
    }

    /// Makes sure that there are so many elements, for which memory was reserved.
    pub(super) fn grow(&mut self, count: usize) -> Result<(), Error> {
        by_type!(Self, self, elements => lengthen(elements, count, Default::default()))
    }

    /// Some of the elements.
    pub(crate) fn lanes(&self, start: usize, length: usize) -> Lanes<'_> {
        match self {
            Self::F32(x) => Lanes::F32(&x[start..start + length]),
            Self::F64(x) => Lanes::F64(&x[start..start + length]),
            Self::I32(x) => Lanes::I32(&x[start..start + length]),
            Self::I64(x) => Lanes::I64(&x[start..start + length]),
            Self::Bool(x) => Lanes::Bool(&x[start..start + length]),
        }
    }

    /// Some of the elements, to be written.
    pub(crate) fn lanes_mut(&mut self, start: usize, length: usize) -> LanesMut<'_> {
        match self {
            Self::F32(x) => LanesMut::F32(&mut x[start..start + length]),
            Self::F64(x) => LanesMut::F64(&mut x[start..start + length]),
            Self::I32(x) => LanesMut::I32(&mut x[start..start + length]),
            Self::I64(x) => LanesMut::I64(&mut x[start..start + length]),
            Self::Bool(x) => LanesMut::Bool(&mut x[start..start + length]),
        }
    }
}
