//! Tensors whose elements arrive in pieces.

use std::{fmt, sync::Arc};

use smallvec::SmallVec;

use crate::{
    array::{Array, Element, Tensor, buffer},
    aval::{Aval, Shape},
    dtype::DType,
    error::Error,
    ledger::{Charge, Ledger},
};

/// A tensor on its way, with its memory reserved and allocated. Each piece is written to where its elements stay, so the
/// last leaves nothing to be done.
#[derive(Debug)]
pub struct Staging {
    aval: Aval,
    elements: Box<dyn Fill>,
    /// How many bytes are there.
    received: u64,
    charge: Charge,
}

/// Elements of some type that arrive as bytes.
trait Fill: fmt::Debug + Send + Sync {
    fn append(&mut self, bytes: &[u8]) -> Result<(), Error>;
    fn finish(self: Box<Self>, shape: &Shape) -> Result<Array, Error>;
}

#[derive(Debug)]
struct Filling<T> {
    elements: Vec<T>,
    /// The beginning of the next element, if a piece ended within it.
    rest: SmallVec<[u8; 8]>,
}

impl Staging {
    /// Reserves and allocates the memory of a tensor.
    pub fn new(ledger: &Arc<Ledger>, aval: Aval) -> Result<Self, Error> {
        fn room<T: Element>(n: usize) -> Result<Box<dyn Fill>, Error> {
            let elements = buffer::<T>(n)?;
            Ok(Box::new(Filling { elements, rest: SmallVec::new() }))
        }
        aval.shape.check()?;
        let charge = ledger.reserve(aval.bytes())?;
        let n = aval.shape.elements();
        let elements = match aval.dtype {
            DType::F32 => room::<f32>(n),
            DType::F64 => room::<f64>(n),
            DType::I32 => room::<i32>(n),
            DType::I64 => room::<i64>(n),
            DType::Bool => room::<bool>(n),
            DType::F16 => room::<half::f16>(n),
            DType::BF16 => room::<half::bf16>(n),
        }?;
        Ok(Self { aval, elements, received: 0, charge })
    }

    /// Appends little-endian bytes of elements in row-major order, unless there would be more than the tensor has.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let given = self.received.saturating_add(bytes.len() as u64);
        if given > self.aval.bytes() {
            return Err(self.wrong_length(given));
        }
        self.elements.append(bytes)?;
        self.received = given;
        Ok(())
    }

    /// How many bytes are there.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How many bytes are not there yet.
    pub fn missing(&self) -> u64 {
        self.aval.bytes().saturating_sub(self.received)
    }

    /// Whether all bytes are there.
    pub fn is_complete(&self) -> bool {
        self.missing() == 0
    }

    /// The tensor, if all its bytes are there. It keeps the reservation.
    pub fn finish(self) -> Result<Tensor, Error> {
        if !self.is_complete() {
            return Err(self.wrong_length(self.received));
        }
        let array = self.elements.finish(&self.aval.shape)?;
        Ok(Tensor::paid(array, self.charge))
    }

    fn wrong_length(&self, given: u64) -> Error {
        Error::DataLength { aval: self.aval.clone(), expected: self.aval.bytes(), given }
    }
}

impl<T: Element> Fill for Filling<T> {
    fn append(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let size = size_of::<T>();
        if !self.rest.is_empty() {
            let (now, later) = bytes.split_at((size - self.rest.len()).min(bytes.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if self.rest.len() < size {
                return Ok(());
            }
            T::from_bytes(&self.rest, &mut self.elements)?;
            self.rest.clear();
        }
        let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % size);
        T::from_bytes(whole, &mut self.elements)?;
        self.rest.extend_from_slice(rest);
        Ok(())
    }

    fn finish(self: Box<Self>, shape: &Shape) -> Result<Array, Error> {
        Array::new(shape, self.elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staging(dtype: DType, n: usize) -> (Arc<Ledger>, Staging) {
        let ledger = Ledger::new("session", 100);
        let staging = Staging::new(&ledger, Aval::new(dtype, [n])).unwrap();
        (ledger, staging)
    }

    #[test]
    fn pieces_may_end_anywhere() {
        let numbers = [1.5_f64, -2.0, 1e300];
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        for size in 1..=bytes.len() {
            let (ledger, mut staging) = staging(DType::F64, 3);
            for piece in bytes.chunks(size) {
                assert!(!staging.is_complete());
                staging.append(piece).unwrap();
            }
            assert!(staging.is_complete());
            let tensor = staging.finish().unwrap();
            assert_eq!(tensor.array().elements::<f64>().unwrap(), numbers);
            assert_eq!(ledger.used(), 24);
            drop(tensor);
            assert_eq!(ledger.used(), 0);
        }
    }

    #[test]
    fn lengths_must_be_exact() {
        let (ledger, mut staging) = staging(DType::F32, 2);
        assert!(matches!(staging.append(&[0; 9]), Err(Error::DataLength { given: 9, .. })));
        staging.append(&[0; 7]).unwrap();
        assert_eq!((staging.received(), staging.missing()), (7, 1));
        assert!(matches!(staging.finish(), Err(Error::DataLength { given: 7, .. })));
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn a_truth_value_is_zero_or_one() {
        let (_, mut staging) = staging(DType::Bool, 3);
        staging.append(&[1, 0]).unwrap();
        assert_eq!(staging.append(&[2]), Err(Error::InvalidBool { position: 0 }));
    }

    #[test]
    fn nothing_is_allocated_that_is_not_paid_for() {
        let ledger = Ledger::new("session", 100);
        let aval = Aval::new(DType::F32, [26]);
        assert!(matches!(Staging::new(&ledger, aval), Err(Error::MemoryLimit { .. })));
    }
}
