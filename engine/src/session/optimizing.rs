//! Optimizers.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use smallvec::{SmallVec, smallvec};

use super::{
    NamedTensors, OptimizerState, Session, Slot,
    steps::Steps,
    tracing::{Moment, Source},
    written::{self, Written},
};
use crate::{
    array::{Array, Tensor},
    aval::Aval,
    command::{Answer, GradientPair, Handle, StepInfo},
    dtype::DType,
    error::Error,
    exec,
    graph::{Graph, Value, ValueId, Var},
    ops::{FULL, Full, SCATTER_SUM, ScatterSum},
    optimizers::{Given, Optimizer, finite, schedules::Schedule},
};

/// A variable of a step, with everything looked up and checked.
#[derive(Clone, Debug)]
pub(super) struct Checked {
    handle: Handle,
    pub(super) id: ValueId,
    pub(super) theta: Tensor,
    pub(super) gradient: Tensor,
    pub(super) indices: Option<Tensor>,
    pub(super) keeps_weight: bool,
    pub(super) plain: bool,
}

impl Session {
    pub(super) fn create_optimizer(
        &mut self,
        handle: Handle,
        name: &str,
        given: Given,
        schedule: Option<Schedule>,
    ) -> Result<Answer, Error> {
        let optimizer = Optimizer::new(name, given, schedule)?;
        let (states, steps) = (HashMap::new(), Steps::default());
        let state = OptimizerState { id: self.new_id(), optimizer, states, steps };
        self.bind(handle, Slot::Optimizer(Box::new(state)))
    }

    pub(super) fn set_optimizer(
        &mut self,
        handle: Handle,
        given: Given,
        schedule: Option<Schedule>,
    ) -> Result<Answer, Error> {
        self.optimizer(handle)?.optimizer.set(given, schedule)?;
        Ok(Answer::Done)
    }

    pub(super) fn optimizer(&mut self, handle: Handle) -> Result<&mut OptimizerState, Error> {
        match self.slots.get_mut(&handle) {
            None => Err(Error::UnknownHandle { handle }),
            Some(Slot::Optimizer(state)) => Ok(state),
            Some(other) => Err(other.refuse(handle, "optimizer")),
        }
    }

    /// Binds a number of the optimizer, or a slot of a variable, to a handle.
    pub(super) fn read_optimizer(
        &mut self,
        handle: Handle,
        name: &str,
        variable: Handle,
        output: Handle,
    ) -> Result<Answer, Error> {
        self.check_free(&[output])?;
        let id = if variable == 0 { None } else { Some(self.variable(variable)?.id) };
        let state = self.optimizer(handle)?;
        let number = NUMBERS.iter().find(|known| known.name == name);
        let tensor = if let Some(number) = number {
            let value = (number.of)(&state.optimizer);
            let aval = Aval::scalar(number.dtype);
            if let Some(tracer) = &self.tracer {
                let (name, dtype) = (number.name, number.dtype);
                let moment = tracer.moment(Moment::Number { optimizer: handle, name, dtype });
                tracer.input(aval, Source::Number { moment, index: 0 })?
            } else {
                let attrs = Full { shape: smallvec![], dtype: aval.dtype, value }.write();
                self.run_op_unheard(&FULL, &attrs, &[])?.remove(0)
            }
        } else {
            let slots = id.and_then(|id| state.states.get(&id)).map(SmallVec::as_slice);
            let slots = slots.unwrap_or_default();
            let found = slots.iter().find(|(slot, _)| *slot == name);
            let known = || slots.iter().map(|&(slot, _)| slot).collect::<Vec<_>>().join(", ");
            found.map(|(_, tensor)| tensor.clone()).ok_or_else(|| {
                let numbers = "iterations, learning_rate, loss_scale";
                Error::attribute(
                    "name",
                    format!(
                        "{name:?} is not known; there are {numbers}, and of this variable: {}",
                        known()
                    ),
                )
            })?
        };
        let value = Value { id: self.new_id(), tensor };
        self.bind(output, Slot::Value(value))
    }

    /// One step for all variables or for none: everything is computed into new tensors before the first is replaced.
    pub(super) fn apply_optimizer(
        &mut self,
        handle: Handle,
        pairs: &[GradientPair],
    ) -> Result<Answer, Error> {
        let optimizer = &self.optimizer(handle)?.optimizer;
        let (adapts, learning_rate) = (optimizer.adapts(), optimizer.learning_rate());
        let mut skipped = false;
        if !pairs.is_empty() {
            let members = self.members(pairs)?;
            if members.is_empty() {
                return Err(Error::AllGradientsAbsent);
            }
            skipped = adapts && !self.all_finite(&members)?;
            if skipped {
                self.skip(handle)?;
            } else {
                self.step(handle, members)?;
            }
        }
        let optimizer = &self.optimizer(handle)?.optimizer;
        Ok(Answer::Stepped(StepInfo {
            iterations: optimizer.iterations(),
            learning_rate,
            loss_scale: optimizer.loss_scale(),
            skipped,
        }))
    }

    fn skip(&mut self, handle: Handle) -> Result<(), Error> {
        if let Some(tracer) = &self.tracer {
            tracer.moment(Moment::Skip { optimizer: handle });
        }
        self.optimizer(handle)?.optimizer.skip();
        Ok(())
    }

    fn step(&mut self, handle: Handle, members: Vec<Checked>) -> Result<(), Error> {
        let ledger = Arc::clone(&self.ledger);
        let traces = self.tracer.is_some();
        let OptimizerState { optimizer, states, steps, .. } = self.optimizer(handle)?;
        let names: Vec<_> = members
            .iter()
            .map(|member| optimizer.slots(&member.theta.aval(), member.plain))
            .collect();
        let known = |id| states.get(&id);
        let (values, traced) = if traces {
            let written = Written::new(optimizer, &known, &members)?;
            let tracer = self.tracer.as_ref().ok_or_else(|| Error::bug("nothing is traced"))?;
            (tracer.step(&written, &mut Unheard)?, Some(written.without_tensors()))
        } else {
            (steps.take(&ledger, optimizer, &known, &members)?, None)
        };
        let mut values = values.into_iter();
        let mut after = Vec::new();
        for (member, names) in members.iter().zip(names) {
            let mut tensors = values.by_ref().map(|value| value.tensor);
            let theta = tensors.next().ok_or_else(|| Error::bug("a step without a variable"))?;
            let kept: NamedTensors = names.iter().map(|slot| slot.name).zip(tensors).collect();
            self.set_variable(member.handle, theta);
            if traced.is_some() {
                after.push((member.id, kept.clone()));
            }
            self.optimizer(handle)?.states.insert(member.id, kept);
        }
        if let (Some(tracer), Some(written)) = (&self.tracer, traced) {
            let (members, written) = (members.into(), Arc::new(written));
            tracer.moment(Moment::Step { optimizer: handle, members, written, after });
        }
        self.optimizer(handle)?.optimizer.advance();
        Ok(())
    }

    /// Whether no gradient holds an infinite element or one that is not a number. In a body it is taken for granted, as the
    /// trace says, and what says whether it was so is a result of the program.
    fn all_finite(&self, members: &[Checked]) -> Result<bool, Error> {
        let graph = Graph::default();
        let slot = finite(members.iter().map(|member| written::operand(&graph, &member.gradient)))
            .map(Var::slot)
            .ok_or_else(|| Error::bug("a step without a gradient"))?;
        let program = graph.finish()?;
        let one = |values: Vec<Value>| {
            let value = values.into_iter().next();
            Ok(value.ok_or_else(|| Error::bug("a step without a gradient"))?.tensor)
        };
        match &self.tracer {
            None => {
                let values = exec::run_program(&self.ledger, program, &[slot], &mut Unheard)?;
                one(values).map(|finite| is_true(&finite))
            }
            Some(tracer) => {
                let values = tracer.run_program_silently(&program, &[slot], &mut Unheard)?;
                tracer.guard(&one(values)?)
            }
        }
    }

    /// Looks up and checks the pairs; those whose gradient is absent are left out.
    fn members(&self, pairs: &[GradientPair]) -> Result<Vec<Checked>, Error> {
        let mut seen = HashSet::new();
        let mut members = Vec::new();
        for pair in pairs {
            let &GradientPair { variable: handle, gradient, indices, .. } = pair;
            let variable = self.variable(handle)?;
            if !seen.insert(handle) {
                return Err(Error::DuplicateVariable { handle });
            }
            if let Slot::Absent(_) = self.slot(gradient)? {
                continue;
            }
            // The rows of a gradient that turned out dense have no numbers.
            let indices = if indices == 0 || !self.slots.contains_key(&indices) {
                None
            } else {
                Some(self.peek(indices)?)
            };
            let (id, theta) = (variable.id, variable.tensor.clone());
            let member = Checked {
                handle,
                id,
                theta,
                gradient: self.peek(gradient)?,
                indices,
                keeps_weight: pair.exclude_from_weight_decay,
                plain: pair.exclude_from_orthogonalization,
            };
            member.check()?;
            members.push(member);
        }
        Ok(members)
    }

    pub(super) fn forget_variable(&mut self, id: ValueId) {
        for slot in self.slots.values_mut() {
            if let Slot::Optimizer(state) = slot {
                state.states.remove(&id);
            }
        }
    }
}

impl Checked {
    fn check(&self) -> Result<(), Error> {
        let variable = self.theta.aval();
        let dense = match &self.indices {
            None => self.gradient.aval(),
            Some(indices) => {
                let extent = variable.shape.to_i64().first().copied().unwrap_or(0);
                let attrs = ScatterSum { axis: 0, extent, batch_dims: 0 }.write();
                exec::infer(&SCATTER_SUM, &attrs, &[self.gradient.aval(), indices.aval()])?
                    .remove(0)
            }
        };
        if dense == variable && variable.dtype.is_float() {
            return Ok(());
        }
        Err(Error::VariableMismatch { given: dense, variable })
    }
}

/// A number of an optimizer that can be read.
struct Number {
    name: &'static str,
    dtype: DType,
    of: fn(&Optimizer) -> f64,
}

const NUMBERS: [Number; 3] = [
    Number {
        name: "iterations",
        dtype: DType::I64,
        #[expect(clippy::cast_precision_loss, reason = "2^53 steps are not taken")]
        of: |optimizer| optimizer.iterations() as f64,
    },
    Number { name: "learning_rate", dtype: DType::F32, of: Optimizer::learning_rate },
    Number { name: "loss_scale", dtype: DType::F32, of: Optimizer::loss_scale },
];

/// A number of an optimizer by name, as `ReadOptimizer` gives it.
pub(super) fn number_of(optimizer: &Optimizer, name: &str) -> Option<f64> {
    NUMBERS.iter().find(|number| number.name == name).map(|number| (number.of)(optimizer))
}

/// Where a program leaves a variable and its state.
pub(super) type StepSlots = SmallVec<[usize; 4]>;

/// Whether a scalar is true.
pub(super) fn is_true(tensor: &Tensor) -> bool {
    matches!(tensor.array(), Array::Bool(array) if array.first() == Some(&true))
}

/// Steps are not recorded: assignments are not differentiable.
pub(super) struct Unheard;

impl exec::Recorder for Unheard {
    fn ran(
        &mut self,
        _: &crate::graph::Application,
        _: &[&crate::graph::Value],
        outputs: &[Tensor],
    ) -> SmallVec<[ValueId; 1]> {
        outputs.iter().map(|_| ValueId(0)).collect()
    }

    fn hears(&self) -> bool {
        false
    }
}
