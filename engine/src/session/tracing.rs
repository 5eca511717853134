//! Writing down what a session computes instead of computing it.
//!
//! The session that shows the body of a function is a session like any other: tapes record, gradients are swept, optimizers
//! step. But its tensors have no elements, and what would run is appended to a program. So a function means exactly what its
//! commands mean outside of it, since the same code reads them.
//!
//! Invariant: every tensor of such a session stands for a slot of the program, or is a constant.

use std::{cell::RefCell, sync::Arc};

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::{NamedTensors, optimizing::Checked, written};
use crate::{
    array::Tensor,
    attrs::Attrs,
    aval::Aval,
    command::Handle,
    dtype::DType,
    error::Error,
    exec::{self, Recorder, Tensors},
    graph::{Application, Graph, Operand, Program, Value, ValueId, Var},
    ledger::{Charge, Ledger},
    op::OpDef,
    ops::IDENTITY,
};

/// Most ops in the program of a function.
pub(super) const MAX_TRACED: usize = 1 << 18;

/// What an application costs besides the tensors that it names, in bytes; charged in blocks.
const APPLICATION_BYTES: u64 = 256;
const BLOCK_APPLICATIONS: usize = 64;

/// Where a call finds what a slot of a program begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// An argument.
    Argument(usize),
    /// A variable's value before the call.
    Variable { handle: Handle, id: ValueId },
    /// What an optimizer keeps for a variable.
    State { optimizer: Handle, variable: ValueId, name: &'static str },
    /// A number that an optimizer gives at some moment of the body.
    Number { moment: usize, index: usize },
    /// A value of the body that this body is nested in, by its number.
    Captured(usize),
    /// A generator's state, so many draws after the beginning.
    Generator { handle: Handle, ahead: i64 },
}

/// A variable that a body reads.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) variable: ValueId,
    pub(super) aval: Aval,
    pub(super) trainable: bool,
}

/// What tapes and accumulators outside of a function must know of its program.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    /// Slots that are readings of variables.
    pub(super) readings: HashMap<usize, Reading>,
    /// Slots of which nobody hears: assignments and steps of optimizers are not differentiable.
    pub(super) silent: HashSet<usize>,
}

/// A moment of a body in which numbers of an optimizer matter. They change from call to call, so they are inputs of the
/// program; everything else that the optimizer writes must stay the same.
#[derive(Clone, Debug)]
pub(super) enum Moment {
    /// A step.
    Step {
        optimizer: Handle,
        members: Arc<[Checked]>,
        /// What the optimizer wrote when the body was traced, and where it left the results.
        written: Arc<written::Written>,
        /// The state that it left for each variable.
        after: Vec<(ValueId, NamedTensors)>,
    },
    /// A step that an optimizer whose loss scale adapts does not take, since the gradients are not finite.
    Skip { optimizer: Handle },
    /// A number that was asked for.
    Number { optimizer: Handle, name: &'static str, dtype: DType },
}

impl Moment {
    /// Whose moment it is.
    pub(super) fn optimizer(&self) -> Handle {
        let (Self::Step { optimizer, .. }
        | Self::Skip { optimizer }
        | Self::Number { optimizer, .. }) = self;
        *optimizer
    }
}

/// The program that a session writes.
#[derive(Debug)]
pub(super) struct Tracer {
    ledger: Arc<Ledger>,
    level: usize,
    graph: Graph,
    /// How the guards turn out, as far as it is not as wanted.
    outcomes: Outcomes,
    written: RefCell<Written>,
}

/// For each guard of a program whether the gradients were finite, in order. Those that are not there are taken for finite.
pub(super) type Outcomes = SmallVec<[bool; 4]>;

/// What is known of the program beside its applications.
#[derive(Debug, Default)]
struct Written {
    inputs: Vec<(usize, Source)>,
    sources: HashMap<usize, Source>,
    captured: Vec<Value>,
    hearing: Hearing,
    moments: Vec<Moment>,
    guards: Vec<Tensor>,
    own_gradient: bool,
    /// Ops in the bodies of control flow: they count like its own.
    weight: usize,
    charges: Vec<Charge>,
}

/// A finished program, and what a call must know about it.
#[derive(Debug)]
pub(super) struct Traced {
    pub(super) program: Program,
    pub(super) inputs: Vec<(usize, Source)>,
    pub(super) captured: Vec<Value>,
    pub(super) hearing: Hearing,
    pub(super) moments: Vec<Moment>,
    /// Whether some of it has a gradient of the client's own, of which the program does not speak.
    pub(super) own_gradient: bool,
    pub(super) charges: Vec<Charge>,
}

impl Tracer {
    /// An empty program within so many others, paid for by `ledger`, for the case that its guards turn out so.
    pub(super) fn new(ledger: Arc<Ledger>, level: usize, outcomes: Outcomes) -> Self {
        let (graph, written) = (Graph::default(), RefCell::default());
        Self { ledger, level, graph, outcomes, written }
    }

    /// Appends what says whether gradients are finite. Gives what is taken for granted of it.
    pub(super) fn guard(&self, finite: &Tensor) -> Result<bool, Error> {
        // A value of its own, so that it is no result of another kind.
        let finite = self.run_silently(&IDENTITY, &Attrs::default(), &[finite])?.remove(0);
        let guards = &mut self.written.borrow_mut().guards;
        guards.push(finite);
        Ok(self.outcomes.get(guards.len() - 1).copied().unwrap_or(true))
    }

    /// What is taken for granted of the guards that are still to come.
    pub(super) fn outcomes(&self) -> Outcomes {
        self.outcomes.iter().skip(self.written.borrow().guards.len()).copied().collect()
    }

    /// The guards so far, and what was taken for granted of them.
    pub(super) fn guards(&self) -> (Vec<Tensor>, Outcomes) {
        let guards = self.written.borrow().guards.clone();
        let outcomes = self.outcomes.iter().copied().chain(std::iter::repeat(true));
        let outcomes = outcomes.take(guards.len()).collect();
        (guards, outcomes)
    }

    /// A slot that a call fills. The same source has one slot.
    pub(super) fn input(&self, aval: Aval, source: Source) -> Result<Tensor, Error> {
        let mut written = self.written.borrow_mut();
        if let Some(&(slot, _)) = written.inputs.iter().find(|(_, known)| *known == source) {
            return Tensor::traced(aval, self.level, slot);
        }
        let slot = self.graph.parameter(aval.clone()).slot();
        written.inputs.push((slot, source));
        written.sources.insert(slot, source);
        Tensor::traced(aval, self.level, slot)
    }

    /// What a slot begins with, if a call fills it.
    pub(super) fn source(&self, tensor: &Tensor) -> Option<Source> {
        self.written.borrow().sources.get(&tensor.slot()?).copied()
    }

    /// A value of a body that this one is nested in, which has no elements either.
    pub(super) fn captured(&self, value: &Value) -> Result<Tensor, Error> {
        let index = {
            let captured = &mut self.written.borrow_mut().captured;
            let known = captured.iter().position(|known| known.id == value.id);
            known.unwrap_or_else(|| {
                captured.push(value.clone());
                captured.len() - 1
            })
        };
        self.input(value.tensor.aval(), Source::Captured(index))
    }

    /// What this program knows a value as that has no elements: its own, or that of a body that this one is nested in.
    pub(super) fn own(&self, value: Value) -> Result<Value, Error> {
        match value.tensor.level() {
            Some(level) if level != self.level => {
                Ok(Value { tensor: self.captured(&value)?, ..value })
            }
            _ => Ok(value),
        }
    }

    /// A value from outside, which belongs to the program as it is.
    pub(super) fn constant(&self, value: &Value) -> Result<Tensor, Error> {
        if let Some(level) = value.tensor.level() {
            let own = level == self.level;
            return own
                .then(|| value.tensor.clone())
                .ok_or_else(|| Error::bug("a traced tensor of another program"));
        }
        let operand = Operand { id: value.id, tensor: Some(value.tensor.clone()) };
        let aval = value.tensor.aval();
        Tensor::traced(aval.clone(), self.level, self.graph.operand(aval, operand).slot())
    }

    /// A reading of a variable, as a value of its own: a tape that hears of the call links it to the variable.
    pub(super) fn reading(&self, tensor: &Tensor, reading: Reading) -> Result<Tensor, Error> {
        let read = self.copy(tensor)?;
        if let Some(slot) = read.slot() {
            self.written.borrow_mut().hearing.readings.insert(slot, reading);
        }
        Ok(read)
    }

    /// The same elements in a slot of their own.
    pub(super) fn copy(&self, tensor: &Tensor) -> Result<Tensor, Error> {
        Ok(self.run(&IDENTITY, &Attrs::default(), &[tensor])?.remove(0))
    }

    /// Appends one application of an op that is not a composite.
    pub(super) fn run(
        &self,
        op: &'static OpDef,
        attrs: &Attrs,
        inputs: &[&Tensor],
    ) -> Result<Tensors, Error> {
        self.pay(attrs)?;
        let vars: SmallVec<[Var<'_>; 4]> =
            inputs.iter().map(|tensor| self.var(tensor)).collect::<Result<_, _>>()?;
        let outputs = self.graph.apply(op, attrs.clone(), &vars)?;
        outputs.iter().map(|var| Tensor::traced(var.aval(), self.level, var.slot())).collect()
    }

    /// The same, for what tapes do not hear of.
    pub(super) fn run_silently(
        &self,
        op: &'static OpDef,
        attrs: &Attrs,
        inputs: &[&Tensor],
    ) -> Result<Tensors, Error> {
        let outputs = self.run(op, attrs, inputs)?;
        let slots = outputs.iter().filter_map(Tensor::slot);
        self.written.borrow_mut().hearing.silent.extend(slots);
        Ok(outputs)
    }

    fn var(&self, tensor: &Tensor) -> Result<Var<'_>, Error> {
        let traced = self.constant(&Value { id: ValueId(0), tensor: tensor.clone() })?;
        let slot = traced.slot().ok_or_else(|| Error::bug("a traced tensor without a slot"))?;
        Ok(self.graph.var(slot))
    }

    /// Pays for an application, and what its attributes hold.
    fn pay(&self, attrs: &Attrs) -> Result<(), Error> {
        let mut written = self.written.borrow_mut();
        written.weight = written.weight.saturating_add(attrs.weight());
        let applications = self.graph.len().saturating_add(written.weight);
        if applications >= MAX_TRACED {
            return Err(Error::TooMany { what: "ops in the function", limit: MAX_TRACED });
        }
        while written.charges.len() * BLOCK_APPLICATIONS <= applications {
            let charge = self.ledger.reserve(BLOCK_APPLICATIONS as u64 * APPLICATION_BYTES)?;
            written.charges.push(charge);
        }
        Ok(())
    }

    /// Appends what a program needs for the given slots.
    pub(super) fn run_program(
        &self,
        program: &Program,
        wanted: &[usize],
        recorder: &mut dyn Recorder,
    ) -> Result<Vec<Value>, Error> {
        self.call(program, (&[], &Hearing::default()), wanted, recorder)
    }

    /// The same, for what tapes do not hear of.
    pub(super) fn run_program_silently(
        &self,
        program: &Program,
        wanted: &[usize],
        recorder: &mut dyn Recorder,
    ) -> Result<Vec<Value>, Error> {
        self.append(program, &[], wanted, recorder, |application, inputs| {
            self.run_silently(application.op, &application.attrs, inputs)
        })
    }

    /// Appends the program of a function that is called. What is heard of it stays so.
    pub(super) fn call(
        &self,
        program: &Program,
        (inputs, hearing): (&[(usize, Value)], &Hearing),
        wanted: &[usize],
        recorder: &mut dyn Recorder,
    ) -> Result<Vec<Value>, Error> {
        self.append(program, inputs, wanted, recorder, |application, inputs| {
            let slot = application.outputs[0];
            if let Some(reading) = hearing.readings.get(&slot) {
                return Ok([self.reading(inputs[0], reading.clone())?].into());
            }
            let (op, attrs) = (application.op, &application.attrs);
            if hearing.silent.contains(&slot) {
                return self.run_silently(op, attrs, inputs);
            }
            self.run(op, attrs, inputs)
        })
    }

    /// Appends an optimizer step. Its scalar constants become inputs, since they are those of this step only.
    pub(super) fn step(
        &self,
        step: &written::Written,
        recorder: &mut dyn Recorder,
    ) -> Result<Vec<Value>, Error> {
        let moment = self.written.borrow().moments.len();
        let places: HashMap<usize, usize> = step.scalars.iter().copied().collect();
        let wanted: Vec<usize> = step.left.iter().flatten().copied().collect();
        self.append(&step.program, &[], &wanted, recorder, |application, inputs| {
            let Some(&index) = places.get(&application.outputs[0]) else {
                return self.run_silently(application.op, &application.attrs, inputs);
            };
            let aval = Aval::scalar(step.numbers[index].dtype);
            Ok([self.input(aval, Source::Number { moment, index })?].into())
        })
    }

    /// Notes that something has a gradient of the client's own.
    pub(super) fn note_own_gradient(&self) {
        self.written.borrow_mut().own_gradient = true;
    }

    /// Remembers a moment. Gives its number.
    pub(super) fn moment(&self, moment: Moment) -> usize {
        let moments = &mut self.written.borrow_mut().moments;
        moments.push(moment);
        moments.len() - 1
    }

    fn append(
        &self,
        program: &Program,
        inputs: &[(usize, Value)],
        wanted: &[usize],
        recorder: &mut dyn Recorder,
        mut run: impl FnMut(&Application, &[&Tensor]) -> Result<Tensors, Error>,
    ) -> Result<Vec<Value>, Error> {
        let mut values: Vec<Option<Value>> = vec![None; program.avals.len()];
        for (slot, Operand { id, tensor }) in &program.operands {
            if let Some(tensor) = tensor {
                let value = Value { id: *id, tensor: tensor.clone() };
                values[*slot] = Some(Value { id: *id, tensor: self.constant(&value)? });
            }
        }
        for (slot, value) in inputs {
            values[*slot] = Some(value.clone());
        }
        let missing = || Error::bug("a program reads a value that nothing fills");
        let needed = exec::needed(program, wanted);
        for (application, _) in program.applications.iter().zip(needed).filter(|&(_, n)| n) {
            let (outputs, ids) = {
                let read = |&slot: &usize| values[slot].as_ref().ok_or_else(missing);
                let inputs: SmallVec<[&Value; 3]> =
                    application.inputs.iter().map(read).collect::<Result<_, _>>()?;
                let tensors: SmallVec<[&Tensor; 3]> =
                    inputs.iter().map(|value| &value.tensor).collect();
                let outputs = run(application, &tensors)?;
                let ids = recorder.ran(application, &inputs, &outputs);
                (outputs, ids)
            };
            for ((&slot, id), tensor) in application.outputs.iter().zip(ids).zip(outputs) {
                values[slot] = Some(Value { id, tensor });
            }
        }
        wanted.iter().map(|&slot| values[slot].clone().ok_or_else(missing)).collect()
    }

    /// The program for the given tensors, and the slots where it leaves them.
    pub(super) fn finish(self, wanted: &[Tensor]) -> Result<(Traced, Vec<usize>), Error> {
        let slots = wanted.iter().map(|tensor| self.var(tensor).map(Var::slot));
        let slots: Vec<usize> = slots.collect::<Result<_, _>>()?;
        self.graph.check()?;
        let program = self.graph.part(&slots);
        let written = self.written.into_inner();
        let Written { mut inputs, captured, hearing, moments, own_gradient, charges, .. } = written;
        let mut used = vec![false; program.avals.len()];
        program.unfilled(&slots).into_iter().for_each(|slot| used[slot] = true);
        inputs.retain(|&(slot, _)| used[slot]);
        Ok((Traced { program, inputs, captured, hearing, moments, own_gradient, charges }, slots))
    }
}
