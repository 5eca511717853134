//! Optimizers.

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::{OptimizerState, Session, Slot};
use crate::{
    array::Tensor,
    attrs::Attr,
    command::{Answer, GradientPair, Handle},
    error::Error,
    exec,
    graph::{Graph, Operand, ValueId, Var},
    ops::{SCATTER_SUM, ScatterSum, scatter_sum},
    optimizers::{Member, Optimizer},
};

/// A variable of a step, with everything looked up and checked.
struct Checked {
    handle: Handle,
    id: ValueId,
    theta: Tensor,
    gradient: Tensor,
    indices: Option<Tensor>,
}

impl Session {
    pub(super) fn create_optimizer(
        &mut self,
        handle: Handle,
        name: &str,
        given: Vec<(String, Attr)>,
    ) -> Result<Answer, Error> {
        let optimizer = Optimizer::new(name, given)?;
        self.bind(
            handle,
            Slot::Optimizer(Box::new(OptimizerState { optimizer, states: HashMap::new() })),
        )
    }

    pub(super) fn set_optimizer(
        &mut self,
        handle: Handle,
        given: Vec<(String, Attr)>,
    ) -> Result<Answer, Error> {
        self.optimizer(handle)?.optimizer.set(given)?;
        Ok(Answer::Done)
    }

    fn optimizer(&mut self, handle: Handle) -> Result<&mut OptimizerState, Error> {
        match self.slots.get_mut(&handle) {
            None => Err(Error::UnknownHandle { handle }),
            Some(Slot::Optimizer(state)) => Ok(state),
            Some(other) => Err(other.refuse(handle, "optimizer")),
        }
    }

    /// One step for all variables or for none: everything is computed into new tensors before the first is replaced.
    pub(super) fn apply_optimizer(
        &mut self,
        handle: Handle,
        pairs: &[GradientPair],
    ) -> Result<Answer, Error> {
        let iterations = self.optimizer(handle)?.optimizer.iterations();
        if pairs.is_empty() {
            return Ok(Answer::Iterations(iterations));
        }
        let members = self.members(pairs)?;
        if members.is_empty() {
            return Err(Error::AllGradientsAbsent);
        }
        let state = self.optimizer(handle)?;
        let (program, slots) = write_step(state, &members)?;
        let wanted: Vec<usize> = slots.iter().flatten().copied().collect();
        let mut unheard = Unheard;
        let mut values =
            exec::run_program(&self.ledger, program, &wanted, &mut unheard)?.into_iter();
        for (member, slots) in members.iter().zip(&slots) {
            let mut tensors = values.by_ref().take(slots.len()).map(|value| value.tensor);
            let theta = tensors.next().ok_or_else(|| Error::bug("a step without a variable"))?;
            let kept: SmallVec<[Tensor; 4]> = tensors.collect();
            self.set_variable(member.handle, theta);
            self.optimizer(handle)?.states.insert(member.id, kept);
        }
        let state = self.optimizer(handle)?;
        state.optimizer.advance();
        Ok(Answer::Iterations(state.optimizer.iterations()))
    }

    /// Looks up and checks the pairs; those whose gradient is absent are left out.
    fn members(&self, pairs: &[GradientPair]) -> Result<Vec<Checked>, Error> {
        let mut seen = HashSet::new();
        let mut members = Vec::new();
        for &GradientPair { variable: handle, gradient, indices } in pairs {
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
            let member = Checked { handle, id, theta, gradient: self.peek(gradient)?, indices };
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

/// Where a program leaves a variable and its state.
type StepSlots = SmallVec<[usize; 4]>;

/// Writes the program of a step, and where it leaves each variable and its state.
fn write_step(
    state: &OptimizerState,
    members: &[Checked],
) -> Result<(crate::graph::Program, Vec<StepSlots>), Error> {
    let graph = Graph::default();
    let slots = {
        let operand = |tensor: &Tensor| -> Var<'_> {
            graph.operand(tensor.aval(), Operand { id: ValueId(0), tensor: Some(tensor.clone()) })
        };
        let written: Vec<Member> = members
            .iter()
            .map(|member| {
                let theta = operand(&member.theta);
                let mut gradient = operand(&member.gradient);
                if let Some(indices) = &member.indices {
                    // Duplicate rows are summed before anything that is not linear.
                    let extent = member.theta.aval().shape[0];
                    gradient = scatter_sum(gradient, operand(indices), extent);
                }
                let state =
                    state.states.get(&member.id).into_iter().flatten().map(&operand).collect();
                Member { theta, gradient, state }
            })
            .collect();
        let moved = state.optimizer.step(&graph, &written);
        moved
            .iter()
            .map(|(theta, state)| {
                std::iter::once(theta).chain(state).map(|var| var.slot()).collect()
            })
            .collect()
    };
    Ok((graph.finish()?, slots))
}

/// Steps are not recorded: assignments are not differentiable.
struct Unheard;

impl exec::Recorder for Unheard {
    fn ran(
        &mut self,
        _: &crate::graph::Application,
        _: &[&crate::graph::Value],
        outputs: &[Tensor],
    ) -> SmallVec<[ValueId; 1]> {
        outputs.iter().map(|_| ValueId(0)).collect()
    }
}
