//! Numbers of a step that depend on how far its optimizer is.
//!
//! Rules write them as formulas, as they write ops on tensors. So a program of a step serves for all steps of its form:
//! before each of them only the formulas are computed.

use std::{
    cell::RefCell,
    ops::{Add, Div, Mul, Sub},
};

use smallvec::SmallVec;

use crate::{dtype::DType, graph::Var};

/// What the numbers of a step depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Learning rate.
    pub(super) rate: f64,
    /// Number of the update, from 1.
    pub(super) update: f64,
    /// What gradients are divided by.
    pub(super) scale: f64,
}

/// How a number follows from those before it, which are named by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Formula {
    Rate,
    Update,
    Scale,
    /// The bits of a number that never changes.
    Constant(u64),
    Sum(usize, usize),
    Difference(usize, usize),
    Product(usize, usize),
    Quotient(usize, usize),
    Least(usize, usize),
    Root(usize),
    Power(usize, usize),
    /// The same in `float32`.
    SinglePower(usize, usize),
    /// Rounded to `float32`.
    Single(usize),
    /// 0 in the first update.
    AfterFirst(usize),
}

impl Formula {
    fn compute(self, pace: &Pace, known: &[f64]) -> f64 {
        match self {
            Self::Rate => pace.rate,
            Self::Update => pace.update,
            Self::Scale => pace.scale,
            Self::Constant(bits) => f64::from_bits(bits),
            Self::Sum(a, b) => known[a] + known[b],
            Self::Difference(a, b) => known[a] - known[b],
            Self::Product(a, b) => known[a] * known[b],
            Self::Quotient(a, b) => known[a] / known[b],
            Self::Least(a, b) => known[a].min(known[b]),
            Self::Root(a) => known[a].sqrt(),
            Self::Power(a, b) => libm::pow(known[a], known[b]),
            Self::SinglePower(a, b) => libm::powf(single(known[a]), single(known[b])).into(),
            Self::Single(a) => single(known[a]).into(),
            Self::AfterFirst(_) if pace.update <= 1.0 => 0.0,
            Self::AfterFirst(a) => known[a],
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "Keras rounds here")]
fn single(x: f64) -> f32 {
    x as f32
}

/// Where the formulas of a step are written. Equal ones are written once.
#[derive(Debug)]
pub struct Sheet {
    pace: Pace,
    written: RefCell<Written>,
}

#[derive(Debug, Default)]
struct Written {
    formulas: Formulas,
    values: Vec<f64>,
    /// The dtypes of the scalars.
    dtypes: Vec<DType>,
}

/// The formulas of a step.
#[derive(Clone, Debug, Default)]
pub struct Formulas {
    formulas: Vec<Formula>,
    /// The slots of a program that hold one of the numbers, and which.
    pub(crate) scalars: Vec<(usize, usize)>,
}

impl Formulas {
    /// All numbers of a step.
    pub(crate) fn compute(&self, pace: &Pace) -> SmallVec<[f64; 24]> {
        let mut known = SmallVec::new();
        for formula in &self.formulas {
            known.push(formula.compute(pace, &known));
        }
        known
    }
}

impl Sheet {
    /// An empty sheet for a step.
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, written: RefCell::default() }
    }

    /// What was written.
    pub fn finish(self) -> Formulas {
        self.written.into_inner().formulas
    }

    /// The learning rate.
    pub(super) fn rate(&self) -> Number<'_> {
        self.write(Formula::Rate)
    }

    /// The number of the update.
    pub(super) fn update(&self) -> Number<'_> {
        self.write(Formula::Update)
    }

    /// What gradients are divided by.
    pub(super) fn scale(&self) -> Number<'_> {
        self.write(Formula::Scale)
    }

    /// A number that is the same in all steps.
    pub(super) fn constant(&self, value: f64) -> Number<'_> {
        self.write(Formula::Constant(value.to_bits()))
    }

    fn write(&self, formula: Formula) -> Number<'_> {
        let mut written = self.written.borrow_mut();
        let Written { formulas: Formulas { formulas, .. }, values, .. } = &mut *written;
        let known = formulas.iter().position(|known| *known == formula);
        let place = known.unwrap_or_else(|| {
            values.push(formula.compute(&self.pace, values));
            formulas.push(formula);
            formulas.len() - 1
        });
        Number { sheet: self, place }
    }
}

/// A number of a step.
#[derive(Clone, Copy, Debug)]
pub struct Number<'g> {
    sheet: &'g Sheet,
    place: usize,
}

impl<'g> Number<'g> {
    /// Its square root.
    pub(super) fn sqrt(self) -> Self {
        self.sheet.write(Formula::Root(self.place))
    }

    /// The smaller of two.
    pub(super) fn min(self, other: Self) -> Self {
        self.sheet.write(Formula::Least(self.place, other.place))
    }

    /// A power of it.
    pub(super) fn pow(self, exponent: Self) -> Self {
        self.sheet.write(Formula::Power(self.place, exponent.place))
    }

    /// The same, computed in `float32`.
    pub(super) fn powf(self, exponent: Self) -> Self {
        self.sheet.write(Formula::SinglePower(self.place, exponent.place))
    }

    /// Rounded to `float32`.
    pub(super) fn single(self) -> Self {
        self.sheet.write(Formula::Single(self.place))
    }

    /// 0 in the first update.
    pub(super) fn after_first(self) -> Self {
        self.sheet.write(Formula::AfterFirst(self.place))
    }

    /// A number that is the same in all steps.
    pub(super) fn constant(self, value: f64) -> Self {
        self.sheet.constant(value)
    }

    /// It as a scalar of a value's dtype.
    fn scalar(self, like: Var<'g>) -> Var<'g> {
        let (graph, dtype) = (like.graph(), like.dtype());
        let mut written = self.sheet.written.borrow_mut();
        let Written { formulas: Formulas { scalars, .. }, values, dtypes } = &mut *written;
        let fits = |(i, known): (usize, &(usize, usize))| {
            (known.1 == self.place && dtypes[i] == dtype).then_some(known.0)
        };
        if let Some(slot) = scalars.iter().enumerate().find_map(fits) {
            return graph.var(slot);
        }
        let var = graph.scalar(dtype, values[self.place]);
        scalars.push((var.slot(), self.place));
        dtypes.push(dtype);
        var
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $formula:ident;)*) => {$(
        impl $trait for Number<'_> {
            type Output = Self;

            fn $method(self, other: Self) -> Self {
                self.sheet.write(Formula::$formula(self.place, other.place))
            }
        }

        impl $trait<f64> for Number<'_> {
            type Output = Self;

            fn $method(self, other: f64) -> Self {
                $trait::$method(self, self.constant(other))
            }
        }

        impl<'g> $trait<Number<'g>> for f64 {
            type Output = Number<'g>;

            fn $method(self, other: Number<'g>) -> Number<'g> {
                $trait::$method(other.constant(self), other)
            }
        }

        impl<'g> $trait<Number<'g>> for Var<'g> {
            type Output = Self;

            fn $method(self, other: Number<'g>) -> Self {
                $trait::$method(self, other.scalar(self))
            }
        }
    )*};
}

operators! { Add add Sum; Sub sub Difference; Mul mul Product; Div div Quotient; }
