//! Steps of optimizers as programs, and when a program serves for another step.
//!
//! An optimizer writes a program for what it knows of its variables. The next step has the same one, if nothing changed but
//! numbers: those that follow from how far the optimizer is are computed by formulas, without writing anything. If its
//! hyperparameters changed, the step is written again and compared.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    NamedTensors,
    optimizing::{Checked, StepSlots},
};
use crate::{
    array::Tensor,
    aval::{Aval, Shape},
    dtype::DType,
    error::Error,
    graph::{Application, Graph, Operand, Program, ValueId, Var},
    ops::{FULL, Full, scatter_sum},
    optimizers::{Member, Optimizer, numbers::Formulas},
};

/// What is kept for a variable.
pub(super) type Known<'f, 't> = &'f dyn Fn(ValueId) -> Option<&'t NamedTensors>;

/// The numbers of a step, in the order of [`Written::numbers`].
pub(super) type Numbers = SmallVec<[f64; 16]>;

/// The program of a step.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) program: Program,
    /// Where it leaves each variable and its state.
    pub(super) left: Vec<StepSlots>,
    /// Its scalar constants. Equal ones are one.
    pub(super) numbers: Vec<Number>,
    /// The slots of the constants, and which number each of them is.
    pub(super) scalars: Vec<(usize, usize)>,
    formulas: Formulas,
    /// Who wrote it, at that time.
    writer: Optimizer,
    /// What was known of each variable.
    members: Vec<Kind>,
}

/// A scalar constant of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) dtype: DType,
    from: Origin,
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The hyperparameters, by its bits.
    Constant(u64),
    /// One of the formulas.
    Formula(usize),
}

/// What an optimizer gives at a moment of a body.
#[derive(Debug)]
pub(super) enum Given {
    /// The numbers of a step, and what says how they follow.
    Step(Arc<Written>, Numbers),
    /// Nothing: it skips a step.
    Skip,
    /// A number that was asked for.
    Number(DType, f64),
}

impl Given {
    /// One of the numbers.
    pub(super) fn number(&self, index: usize) -> Option<(DType, f64)> {
        match self {
            Self::Step(written, numbers) => Some((written.numbers[index].dtype, numbers[index])),
            &Self::Number(dtype, value) => Some((dtype, value)),
            Self::Skip => None,
        }
    }

    /// Whether a number changes from step to step.
    pub(super) fn changes(&self, index: usize) -> bool {
        match self {
            Self::Step(written, _) => written.numbers[index].changes(),
            Self::Number(..) | Self::Skip => true,
        }
    }
}

/// What decides the program of a step for a variable, besides shapes and dtypes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    sparse: bool,
    keeps_weight: bool,
    plain: bool,
    /// Its slots, and whether there is something in them.
    slots: SmallVec<[(&'static str, bool); 4]>,
}

impl Number {
    /// Whether it changes from step to step.
    pub(super) fn changes(self) -> bool {
        matches!(self.from, Origin::Formula(_))
    }
}

impl Kind {
    fn of(optimizer: &Optimizer, known: Known<'_, '_>, member: &Checked) -> Self {
        let known = known(member.id);
        let slots = optimizer.slots(&member.theta.aval(), member.plain);
        let named = |name| known.is_some_and(|known| known.iter().any(|(other, _)| *other == name));
        Self {
            sparse: member.indices.is_some(),
            keeps_weight: member.keeps_weight,
            plain: member.plain,
            slots: slots.iter().map(|slot| (slot.name, named(slot.name))).collect(),
        }
    }

    /// What the program of a step begins with for a variable, in the order of its operands; nothing where another kind of
    /// variable has more or less.
    fn operands<'t>(
        &self,
        member: &'t Checked,
        known: Option<&'t NamedTensors>,
    ) -> impl Iterator<Item = Option<&'t Tensor>> {
        let same = self.sparse == member.indices.is_some()
            && self.keeps_weight == member.keeps_weight
            && self.plain == member.plain;
        let kept = self.slots.iter().filter_map(move |&(name, filled)| {
            let found = known.and_then(|known| known.iter().find(|(other, _)| *other == name));
            match (found, filled) {
                (None, false) => None,
                (Some((_, tensor)), true) => Some(Some(tensor)),
                (Some(_), false) | (None, true) => Some(None),
            }
        });
        let first = same.then_some(&member.theta);
        [first, Some(&member.gradient)]
            .into_iter()
            .chain(member.indices.iter().map(Some))
            .chain(kept)
    }
}

impl Written {
    /// Writes a step.
    pub(super) fn new(
        optimizer: &Optimizer,
        known: Known<'_, '_>,
        members: &[Checked],
    ) -> Result<Self, Error> {
        let (graph, sheet) = (Graph::default(), optimizer.sheet());
        let kinds: Vec<Kind> =
            members.iter().map(|member| Kind::of(optimizer, known, member)).collect();
        let left = {
            let members = members.iter().zip(&kinds);
            let written: Vec<Member> = members
                .map(|(member, kind)| kind.write(&graph, member, known(member.id)))
                .collect();
            let moved = optimizer.step(&graph, &sheet, &written);
            let slots = |(theta, state)| {
                std::iter::once(theta).chain(state).map(|var: &Var| var.slot()).collect()
            };
            moved.iter().map(|(theta, state)| slots((theta, state))).collect()
        };
        let (program, formulas) = (graph.finish()?, sheet.finish());
        let (mut numbers, mut scalars) = (Vec::new(), Vec::new());
        for application in &program.applications {
            let Some((dtype, value)) = number(&program, application) else { continue };
            let slot = application.outputs[0];
            let formula = formulas.scalars.iter().find(|&&(scalar, _)| scalar == slot);
            let constant = Origin::Constant(value.to_bits());
            let from = formula.map_or(constant, |&(_, place)| Origin::Formula(place));
            let number = Number { dtype, from };
            let place = numbers.iter().position(|known| *known == number);
            scalars.push((slot, place.unwrap_or(numbers.len())));
            if place.is_none() {
                numbers.push(number);
            }
        }
        let (writer, members) = (optimizer.clone(), kinds);
        Ok(Self { program, left, numbers, scalars, formulas, writer, members })
    }

    /// The tensors that a step begins with, in the order of the program's operands, if it is certain without writing it that
    /// it has this program.
    pub(super) fn serves<'t>(
        &self,
        optimizer: &Optimizer,
        known: Known<'_, 't>,
        members: &'t [Checked],
    ) -> Option<SmallVec<[&'t Tensor; 16]>> {
        if !optimizer.writes_like(&self.writer) || members.len() != self.members.len() {
            return None;
        }
        let members = self.members.iter().zip(members);
        let operands = members.flat_map(|(kind, member)| kind.operands(member, known(member.id)));
        let operands: SmallVec<[&'t Tensor; 16]> = operands.collect::<Option<_>>()?;
        let slots = self.program.operands.iter().map(|(slot, _)| slot);
        let fits = |(tensor, &slot): (&&Tensor, &usize)| tensor.is_like(&self.program.avals[slot]);
        (operands.len() == slots.len() && operands.iter().zip(slots).all(fits)).then_some(operands)
    }

    /// Whether the next step of the one who wrote it, as it is now, is of the same kind.
    pub(super) fn is_of_form(&self, optimizer: &Optimizer) -> bool {
        optimizer.form() == self.writer.form()
    }

    /// The numbers of an optimizer's next step, which has this program.
    pub(super) fn numbers(&self, optimizer: &Optimizer) -> Numbers {
        let computed = self.formulas.compute(&optimizer.pace());
        let number = |number: &Number| match number.from {
            Origin::Constant(bits) => f64::from_bits(bits),
            Origin::Formula(place) => computed[place],
        };
        self.numbers.iter().map(number).collect()
    }

    /// Whether two steps differ in nothing but their numbers.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let slots = |written: &Self| -> Vec<usize> {
            written.program.operands.iter().map(|&(slot, _)| slot).collect()
        };
        let (ours, theirs) = (&self.program.applications, &other.program.applications);
        let same = |(one, other): (&Application, &Application)| {
            std::ptr::eq(one.op, other.op)
                && one.inputs == other.inputs
                && one.outputs == other.outputs
                && (number(&self.program, one).is_some() || one.attrs.same_bits(&other.attrs))
        };
        self.program.avals == other.program.avals
            && self.scalars == other.scalars
            && self.left == other.left
            && slots(self) == slots(other)
            && ours.len() == theirs.len()
            && ours.iter().zip(theirs).all(same)
    }

    /// Lets go of the tensors that it was written with.
    pub(super) fn without_tensors(mut self) -> Self {
        self.program.operands.iter_mut().for_each(|(_, operand)| operand.tensor = None);
        self
    }
}

impl Kind {
    fn write<'g>(
        &self,
        graph: &'g Graph,
        member: &Checked,
        known: Option<&NamedTensors>,
    ) -> Member<'g> {
        let theta = operand(graph, &member.theta);
        let mut gradient = operand(graph, &member.gradient);
        if let Some(indices) = &member.indices {
            // Duplicate rows are summed before anything that is not linear.
            let extent = member.theta.aval().shape[0];
            gradient = scatter_sum(gradient, operand(graph, indices), extent);
        }
        let state = self.slots.iter().map(|&(name, _)| {
            let (_, tensor) = known?.iter().find(|(other, _)| *other == name)?;
            Some(operand(graph, tensor))
        });
        let (keeps_weight, plain) = (self.keeps_weight, self.plain);
        Member { theta, gradient, state: state.collect(), keeps_weight, plain }
    }
}

/// A tensor as a program begins with it.
pub(super) fn operand<'g>(graph: &'g Graph, tensor: &Tensor) -> Var<'g> {
    graph.operand(tensor.aval(), Operand { id: ValueId(0), tensor: Some(tensor.clone()) })
}

/// The number that an application of an optimizer's program makes, if it is one.
fn number(program: &Program, application: &Application) -> Option<(DType, f64)> {
    let Aval { dtype, shape } = &program.avals[application.outputs[0]];
    let scalar = std::ptr::eq(application.op, &raw const FULL) && *shape == Shape::default();
    scalar.then(|| (*dtype, Full::read(&application.attrs).value))
}
