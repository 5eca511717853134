//! Optimizers: the table of update rules, the stages that every step goes through, and learning-rate schedules.
//!
//! A rule is written in the op language, like a derivative: it is priced, run and freed by the same code. To add an
//! optimizer, write its record in the file of its family and name it in [`ALL`].

pub mod adam;
pub mod adaptive;
mod clipping;
pub mod descent;
pub mod matrix;
pub mod numbers;
pub mod schedules;
mod stages;
#[cfg(test)]
mod tests;

use smallvec::SmallVec;

pub(crate) use self::clipping::finite;
use self::numbers::Number;
pub use self::stages::{Common, Counters, Member, Moved, Optimizer};
use crate::{
    attrs::{Attr, AttrSpec, Attrs},
    aval::{Aval, Shape},
    dtype::DType,
    graph::{Graph, Var},
};

/// The table, as the documentation lists it.
pub static ALL: &[&OptimizerDef] = &[
    &descent::SGD,
    &adam::ADAM,
    &adam::ADAMW,
    &adam::ADAMAX,
    &adam::NADAM,
    &adam::LAMB,
    &adam::SCHEDULE_FREE_ADAMW,
    &adaptive::RMSPROP,
    &adaptive::ADAGRAD,
    &adaptive::ADADELTA,
    &adaptive::FTRL,
    &descent::LION,
    &matrix::ADAFACTOR,
    &matrix::MUON,
];

/// All of an optimizer.
#[derive(Clone, Copy, Debug)]
pub struct OptimizerDef {
    /// Name on the wire, never reused.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The formula, and where it is from.
    pub formula: &'static str,
    /// Hyperparameters besides those of [`Common`]. The first is the learning rate.
    pub attrs: &'static [AttrSpec],
    /// The weight decay of a variable, from the one that was given.
    pub weight_decay: fn(&Role, Option<f64>) -> Option<f64>,
    /// Whether weight decay stays decoupled with PyTorch's formulas.
    pub decoupled: bool,
    /// The state that it keeps for a variable.
    pub slots: fn(&Role) -> Slots,
    /// From a variable, its gradient and its slots to the new variable and slots.
    pub update: for<'g> fn(&Step<'g, '_>) -> Updated<'g>,
}

/// The weight decay of most optimizers: the one that was given.
const AS_GIVEN: fn(&Role, Option<f64>) -> Option<f64> = |_, given| given;

/// What decides which slots and which rule a variable gets.
#[derive(Clone, Copy, Debug)]
pub struct Role<'a> {
    /// The optimizer's own hyperparameters.
    pub attrs: &'a Attrs,
    /// The variable's shape.
    pub shape: &'a Shape,
    /// Whether it must not be treated as a matrix.
    pub plain: bool,
}

/// A tensor of state that an optimizer keeps for a variable.
#[derive(Clone, Copy, Debug)]
pub struct SlotDef {
    /// Name, for clients and checkpoints.
    pub name: &'static str,
    /// Its shape.
    pub shape: SlotShape,
    /// What it begins with.
    pub initial: Initial,
}

/// The shape of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotShape {
    /// That of the variable.
    Variable,
    /// None: one number.
    Scalar,
    /// The variable's without its last axis.
    Rows,
    /// The variable's without its last axis but one.
    Columns,
}

/// What a slot begins with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initial {
    /// A number in every element.
    Value(f64),
    /// The variable's value.
    Variable,
}

/// The slots of a variable, in order.
pub type Slots = SmallVec<[SlotDef; 3]>;

/// Attributes as they are given.
pub type Given = Vec<(String, Attr)>;

impl SlotDef {
    /// A slot like the variable, which begins with zeros.
    pub(crate) const fn zeros(name: &'static str) -> Self {
        Self { name, shape: SlotShape::Variable, initial: Initial::Value(0.0) }
    }

    /// Its dtype and shape. Half-precision variables have slots of `float32`.
    pub fn aval(&self, variable: &Aval) -> Aval {
        let extents = &variable.shape;
        let rank = extents.len();
        let without = |axis: usize| {
            extents.iter().enumerate().filter(|&(i, _)| i != axis).map(|(_, &n)| n).collect()
        };
        let shape = match self.shape {
            SlotShape::Variable => extents.clone(),
            SlotShape::Scalar => Shape::default(),
            SlotShape::Rows => without(rank.saturating_sub(1)),
            SlotShape::Columns => without(rank.saturating_sub(2)),
        };
        Aval { dtype: variable.dtype.widened(), shape }
    }

    fn create<'g>(&self, graph: &'g Graph, theta: Var<'g>) -> Var<'g> {
        match self.initial {
            Initial::Value(value) => graph.full(&self.aval(&theta.aval()), value),
            Initial::Variable => theta,
        }
    }
}

/// What an update rule sees. All values have one dtype, never a half-precision one.
#[derive(Debug)]
pub struct Step<'g, 'a> {
    /// The optimizer's own hyperparameters.
    pub attrs: &'a Attrs,
    /// Whether PyTorch's formula is wanted where it differs.
    pub torch: bool,
    /// The variable.
    pub theta: Var<'g>,
    /// Its gradient, after the global stages.
    pub g: Var<'g>,
    /// The slots, in the order of their definition.
    pub slots: &'a [Var<'g>],
    /// Learning rate.
    pub lr: Number<'g>,
    /// Number of this update, from 1.
    pub t: Number<'g>,
}

/// The new variable, and the new slots.
pub type Updated<'g> = (Var<'g>, SmallVec<[Var<'g>; 3]>);

impl<'g> Step<'g, '_> {
    /// A power of a decay. Keras computes it in the variable's dtype, which for `float32` moves the first steps of Adam
    /// by up to 1e-5 of their length; so do we, except with PyTorch's formulas.
    fn power(&self, base: Number<'g>, exponent: Number<'g>) -> Number<'g> {
        if self.rounds() { base.powf(exponent) } else { base.pow(exponent) }
    }

    /// What a bias correction divides by: 1 - beta^t.
    fn correction(&self, beta: f64) -> Number<'g> {
        let rest = 1.0 - self.power(self.t.constant(beta), self.t);
        if self.rounds() { rest.single() } else { rest }
    }

    /// Whether numbers are in `float32`, as Keras computes them.
    fn rounds(&self) -> bool {
        !self.torch && self.theta.dtype() == DType::F32
    }
}

/// A moving average: old + (new - old) (1 - decay).
fn average<'g>(old: Var<'g>, new: Var<'g>, decay: f64) -> Var<'g> {
    old + (new - old) * (1.0 - decay)
}
