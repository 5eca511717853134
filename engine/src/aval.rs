//! Abstract values: what is known of a tensor before it exists. All shape arithmetic is checked here.

use std::{fmt, ops::Deref};

use smallvec::SmallVec;

use crate::{dtype::DType, error::Error};

/// Most axes that a tensor may have. Eight is what the largest known models use, and keeps shapes small.
pub const MAX_RANK: usize = 8;

/// Most elements of one tensor: 64 Mi, 256 MiB of `float32`.
pub const MAX_ELEMENTS: usize = 64 << 20;

/// The extents of a tensor, outermost first.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(SmallVec<[usize; 4]>);

/// By one copy of memory: shapes are cloned for every value of every op, and a derived clone goes axis by axis.
impl Clone for Shape {
    fn clone(&self) -> Self {
        Self(SmallVec::from_slice(&self.0))
    }
}

impl Shape {
    /// The shape of a scalar.
    pub const fn scalar() -> Self {
        Self(SmallVec::new_const())
    }

    /// Checks extents that came from outside.
    pub fn checked(dims: &[i64]) -> Result<Self, Error> {
        if dims.len() > MAX_RANK {
            return Err(Error::RankTooLarge { rank: dims.len() });
        }
        let negative = || Error::InvalidShape { shape: dims.into(), why: "an extent is negative" };
        let shape: SmallVec<[usize; 4]> = dims
            .iter()
            .map(|&dim| usize::try_from(dim).map_err(|_| negative()))
            .collect::<Result<_, _>>()?;
        let shape = Self(shape);
        shape.check()?;
        Ok(shape)
    }

    /// Checks rank and number of elements. Every inferred shape passes here before anything is allocated.
    pub fn check(&self) -> Result<(), Error> {
        if self.len() > MAX_RANK {
            return Err(Error::RankTooLarge { rank: self.len() });
        }
        // Without zeros the product of all extents must fit even if an empty axis would hide the overflow.
        let product =
            self.iter().filter(|&&dim| dim != 0).try_fold(1_usize, |n, &dim| n.checked_mul(dim));
        if product.is_none_or(|n| isize::try_from(n).is_err()) {
            return Err(Error::ShapeOverflow { shape: self.clone() });
        }
        let elements = self.elements();
        if elements > MAX_ELEMENTS {
            return Err(Error::TensorTooLarge { shape: self.clone(), limit: MAX_ELEMENTS });
        }
        Ok(())
    }

    /// Number of elements. Exact for every checked shape.
    pub fn elements(&self) -> usize {
        self.0.iter().fold(1, |n, &dim| n.saturating_mul(dim))
    }

    /// The extents as attributes and messages write them.
    pub fn to_i64(&self) -> SmallVec<[i64; 4]> {
        self.0.iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect()
    }

    /// Row-major strides, in elements.
    pub fn strides(&self) -> SmallVec<[usize; 8]> {
        let mut strides: SmallVec<[usize; 8]> = SmallVec::from_elem(1, self.len());
        for i in (1..self.len()).rev() {
            strides[i - 1] = strides[i] * self[i].max(1);
        }
        strides
    }

    /// The shape that `self` and `other` broadcast to by NumPy's rule, or `None`.
    pub fn broadcast(&self, other: &Self) -> Option<Self> {
        let rank = self.len().max(other.len());
        (0..rank)
            .map(|i| match (self.extent_from(i, rank), other.extent_from(i, rank)) {
                (a, b) if a == b || b == 1 => Some(a),
                (1, b) => Some(b),
                _ => None,
            })
            .collect()
    }

    /// Extent of axis `i` of this shape aligned to the right of `rank` axes.
    fn extent_from(&self, i: usize, rank: usize) -> usize {
        (i + self.len()).checked_sub(rank).map_or(1, |axis| self[axis])
    }

    /// Resolves an axis that may count from the end; `rank` itself is accepted where `ends` is one.
    pub fn axis(&self, axis: i64, ends: usize) -> Result<usize, Error> {
        let rank = self.len() + ends;
        let wrapped = if axis < 0 {
            i64::try_from(rank).ok().and_then(|r| r.checked_add(axis))
        } else {
            Some(axis)
        };
        wrapped
            .and_then(|axis| usize::try_from(axis).ok())
            .filter(|&axis| axis < rank)
            .ok_or(Error::InvalidAxis { axis, rank })
    }

    /// Resolves a list of axes to a sorted list; an empty list means all. Duplicates are refused.
    pub fn axes(&self, axes: &[i64]) -> Result<SmallVec<[usize; 4]>, Error> {
        if axes.is_empty() {
            return Ok((0..self.len()).collect());
        }
        if axes.len() > MAX_RANK {
            return Err(Error::RankTooLarge { rank: axes.len() });
        }
        let mut resolved: SmallVec<[usize; 4]> =
            axes.iter().map(|&axis| self.axis(axis, 0)).collect::<Result<_, _>>()?;
        resolved.sort_unstable();
        match resolved.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::DuplicateAxis { axis: pair[0] }),
            None => Ok(resolved),
        }
    }

    /// This shape with the given axes reduced: to extent one if `keepdims`, else removed.
    pub fn reduce(&self, axes: &[usize], keepdims: bool) -> Self {
        self.iter()
            .enumerate()
            .filter_map(
                |(i, &dim)| if axes.contains(&i) { keepdims.then_some(1) } else { Some(dim) },
            )
            .collect()
    }

    /// Appends an axis.
    pub fn push(&mut self, dim: usize) {
        self.0.push(dim);
    }

    /// Inserts an axis.
    pub fn insert(&mut self, axis: usize, dim: usize) {
        self.0.insert(axis, dim);
    }

    /// Removes an axis.
    pub fn remove(&mut self, axis: usize) {
        self.0.remove(axis);
    }

    /// Changes an extent.
    pub fn set(&mut self, axis: usize, dim: usize) {
        self.0[axis] = dim;
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self(dims.into())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self(dims.as_slice().into())
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(dims: I) -> Self {
        Self(dims.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Dtype and shape of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aval {
    /// Type of the elements.
    pub dtype: DType,
    /// Extents.
    pub shape: Shape,
}

/// The abstract values of an op's inputs or outputs.
pub type Avals = SmallVec<[Aval; 2]>;

impl Aval {
    /// An abstract value of a shape that is already checked.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// A scalar.
    pub const fn scalar(dtype: DType) -> Self {
        Self { dtype, shape: Shape::scalar() }
    }

    /// Bytes of the elements. Exact for every checked shape.
    pub fn bytes(&self) -> u64 {
        (self.shape.elements() as u64).saturating_mul(self.dtype.size() as u64)
    }
}

impl fmt::Display for Aval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}
