//! Calling functions: a call looks up what its program begins with, runs it, and changes the session's state at the end.
//!
//! A body is traced again when an optimizer writes another step than before: a variable's first, or the last of those that
//! accumulate. The programs of the last few are kept.
//!
//! An optimizer whose loss scale adapts skips a step if its gradients are not finite, which the program only finds out. So a
//! program is written for one way in which its guards turn out, normally that all gradients are finite. If they turn out
//! otherwise, what it gave is dropped and the program for that way runs: nobody pays for skips but who skips.
//!
//! Invariant: a call that fails changes nothing.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};

use super::{
    NamedTensors, Session, Slot,
    defining::Body,
    functions::{check_count, fits},
    optimizing::{is_true, number_of},
    program::Log,
    tracing::{Hearing, Moment, Outcomes, Source, Traced, Tracer},
    values::Input,
    written::{Given, Written},
};
use crate::{
    array::Tensor,
    aval::Aval,
    command::{Answer, Handle, PlanInfo},
    error::Error,
    exec::{MAX_FLOPS, Prepared},
    graph::{Value, ValueId},
    ledger::Charge,
    ops::{FULL, Full},
    optimizers::Optimizer,
};

/// Programs of one function that are kept. An optimizer that accumulates gradients writes two in turn, after a first one.
pub(super) const MAX_VARIANTS: usize = 4;

/// Most steps of a plan that is explained.
const MAX_EXPLAINED: usize = 1024;

/// Most arithmetic operations of one call: it cannot be interrupted, so it is no longer than ten of the longest ops.
const MAX_FUNCTION_FLOPS: u64 = 10 * MAX_FLOPS;

/// A function of a session.
#[derive(Debug)]
pub(super) struct Defined {
    pub(super) body: Arc<Body>,
    /// Its programs, the one used last at the end.
    pub(super) variants: Vec<Arc<Variant>>,
}

/// A program of a function, for steps of its optimizers that are written alike.
#[derive(Debug)]
pub(super) struct Variant {
    /// It leaves the results first, then the variables, then what optimizers keep, then the guards.
    pub(super) prepared: Prepared,
    pub(super) inputs: Vec<(usize, Source)>,
    /// Values of the body that its own is nested in.
    pub(super) captured: Vec<Value>,
    pub(super) hearing: Hearing,
    pub(super) moments: Vec<Moment>,
    pub(super) results: usize,
    /// The variables that it changes.
    pub(super) variables: Vec<Handle>,
    /// What it changes of an optimizer: for which variable, and which slots.
    pub(super) states: Vec<(Handle, ValueId, SmallVec<[&'static str; 4]>)>,
    /// How its guards turn out.
    pub(super) outcomes: Outcomes,
    /// By how much it moves generators on.
    pub(super) draws: Vec<(Handle, i64)>,
    /// Whether some of it has a gradient of the client's own.
    pub(super) own_gradient: bool,
    pub(super) _charges: Vec<Charge>,
}

impl Variant {
    /// Whether each of its runs begins with nothing but variables and arguments, and changes nothing but variables.
    pub(super) fn is_steady(&self) -> bool {
        self.moments.is_empty() && self.states.is_empty() && self.draws.is_empty()
    }

    /// Where it leaves a variable or a tensor of an optimizer's state, if it changes it.
    pub(super) fn place(&self, source: Source) -> Option<usize> {
        let mut place = self.results;
        for &handle in &self.variables {
            if matches!(source, Source::Variable { handle: wanted, .. } if wanted == handle) {
                return Some(place);
            }
            place += 1;
        }
        for (optimizer, variable, names) in &self.states {
            for name in names {
                let (optimizer, variable) = (*optimizer, *variable);
                if source == (Source::State { optimizer, variable, name }) {
                    return Some(place);
                }
                place += 1;
            }
        }
        None
    }

    /// Where the guards are among what it leaves.
    pub(super) fn guards(&self) -> std::ops::Range<usize> {
        let all = self.prepared.wanted().len();
        all - self.outcomes.len()..all
    }

    /// How the guards turned out, if they are not what the program is for: as far as the first such one.
    fn otherwise(&self, guards: &[Value]) -> Option<Outcomes> {
        let differs = |(guard, expected): (&Value, &bool)| is_true(&guard.tensor) != *expected;
        let first = guards.iter().zip(&self.outcomes).position(differs)?;
        // What comes after it was computed with numbers that are not the right ones.
        let mut outcomes: Outcomes = self.outcomes[..first].into();
        outcomes.push(!self.outcomes[first]);
        Some(outcomes)
    }

    /// Whether it is for guards that turn out so.
    fn expects(&self, outcomes: &Outcomes) -> bool {
        let wanted = outcomes.iter().copied().chain(std::iter::repeat(true));
        self.outcomes.iter().zip(wanted).all(|(&own, wanted)| own == wanted)
    }
}

/// What the optimizers of a body are after a call, and what they gave on the way, by moment.
#[derive(Debug, Default)]
pub(super) struct Advanced {
    pub(super) optimizers: HashMap<Handle, Optimizer>,
    pub(super) given: Vec<Given>,
}

impl Session {
    /// Calls a function that was defined.
    pub(super) fn call_defined(
        &mut self,
        function: Handle,
        arguments: &[Handle],
        outputs: &[Handle],
        scope: u32,
    ) -> Result<Answer, Error> {
        let body = match self.slot(function)? {
            Slot::Function(defined) => Arc::clone(&defined.body),
            other => return Err(other.refuse(function, "function")),
        };
        check_count("arguments", body.parameters.len(), arguments.len())?;
        check_count("outputs", body.results.len(), outputs.len())?;
        for ((_, expected), &argument) in body.parameters.iter().zip(arguments) {
            fits("arguments", argument, &self.describe(argument)?, expected)?;
        }
        let inputs = self.inputs(arguments)?;
        let values = self.invoke(function, &body, &inputs, scope)?;
        for (&output, value) in outputs.iter().zip(values) {
            self.slots.insert(output, Slot::Value(value));
        }
        Ok(Answer::Done)
    }

    /// Says how a function is computed when no tape hears of it.
    pub(super) fn explain_function(&mut self, function: Handle) -> Result<Answer, Error> {
        let body = match self.slot(function)? {
            Slot::Function(defined) => Arc::clone(&defined.body),
            other => return Err(other.refuse(function, "function")),
        };
        self.check_references(&body)?;
        let (variant, _) = self.variant(function, &body, &Outcomes::new())?;
        let plan = variant.prepared.plan(&self.ledger)?;
        let (count, half) = (plan.len(), MAX_EXPLAINED / 2);
        let elided = count.saturating_sub(MAX_EXPLAINED);
        let shown = |&(i, _): &(usize, _)| elided == 0 || i < half || i >= half + elided;
        let steps = plan.explain().enumerate().filter(shown).map(|(_, step)| step).collect();
        Ok(Answer::Planned(PlanInfo { steps, elided, peak: plan.peak() }))
    }

    /// Runs a function on arguments and changes the session's state. Gives the results.
    pub(super) fn invoke(
        &mut self,
        function: Handle,
        body: &Arc<Body>,
        arguments: &[Input],
        scope: u32,
    ) -> Result<Vec<Value>, Error> {
        self.check_references(body)?;
        let mut outcomes = self.tracer.as_ref().map_or_else(Outcomes::new, Tracer::outcomes);
        loop {
            let (variant, advanced) = self.variant(function, body, &outcomes)?;
            let heard = self.is_heard(scope);
            if heard && variant.own_gradient {
                return Err(Error::NotInFunction {
                    what: "a custom gradient that a tape outside of the function hears of",
                });
            }
            if let (Some(tracer), true) = (&self.tracer, variant.own_gradient) {
                tracer.note_own_gradient();
            }
            let inputs = self.inputs_of(&variant, arguments, &advanced)?;
            let mut log = Log::new(self.next_id, heard).of(&variant.hearing);
            let mut values = self.run_variant(&variant, inputs, &mut log)?;
            let guards = values.split_off(variant.guards().start);
            if let Some(tracer) = &self.tracer {
                for guard in &guards {
                    tracer.guard(&guard.tensor)?;
                }
            } else if let Some(found) = variant.otherwise(&guards) {
                outcomes = found;
                continue;
            }
            let changed = values.split_off(variant.results);
            self.tell(&log, &values, arguments, scope)?;
            self.change(&variant, changed, advanced)?;
            return Ok(values);
        }
    }

    /// The one place that runs a function's program.
    fn run_variant(
        &self,
        variant: &Variant,
        inputs: Vec<(usize, Value)>,
        log: &mut Log,
    ) -> Result<Vec<Value>, Error> {
        let Variant { prepared, hearing, .. } = variant;
        match &self.tracer {
            None => prepared.run(&self.ledger, inputs, log),
            Some(tracer) => {
                tracer.call(prepared.program(), (&inputs, hearing), prepared.wanted(), log)
            }
        }
    }

    /// The program that fits the optimizers as they are, if its guards turn out so, and what becomes of the optimizers.
    pub(super) fn variant(
        &mut self,
        function: Handle,
        body: &Arc<Body>,
        outcomes: &Outcomes,
    ) -> Result<(Arc<Variant>, Advanced), Error> {
        let known = match self.slot(function)? {
            Slot::Function(defined) => &defined.variants,
            other => return Err(other.refuse(function, "function")),
        };
        for (position, variant) in known.iter().enumerate().rev() {
            if !variant.expects(outcomes) {
                continue;
            }
            if let Some(advanced) = self.advance(variant)? {
                let variant = Arc::clone(variant);
                self.keep(function, Some(position), &variant);
                return Ok((variant, advanced));
            }
        }
        let variant = Arc::new(self.trace_body(body, outcomes)?);
        let advanced = self.advance(&variant)?;
        let advanced =
            advanced.ok_or_else(|| Error::bug("a function does not fit its own trace"))?;
        self.keep(function, None, &variant);
        Ok((variant, advanced))
    }

    fn keep(&mut self, function: Handle, position: Option<usize>, variant: &Arc<Variant>) {
        let Some(Slot::Function(defined)) = self.slots.get_mut(&function) else { return };
        let variants = &mut defined.variants;
        match position {
            Some(position) if position + 1 == variants.len() => return,
            Some(position) => drop(variants.remove(position)),
            None if variants.len() >= MAX_VARIANTS => drop(variants.remove(0)),
            None => {}
        }
        variants.push(Arc::clone(variant));
    }

    /// Lets the optimizers go through the moments of a program; nothing, if one of them writes another step now.
    fn advance(&self, variant: &Variant) -> Result<Option<Advanced>, Error> {
        let mut advanced = Advanced::default();
        let mut left: HashMap<(Handle, ValueId), &NamedTensors> = HashMap::new();
        for moment in &variant.moments {
            let handle = moment.optimizer();
            let state = match self.slot(handle)? {
                Slot::Optimizer(state) => state,
                other => return Err(other.refuse(handle, "optimizer")),
            };
            let optimizer =
                advanced.optimizers.entry(handle).or_insert_with(|| state.optimizer.clone());
            advanced.given.push(match moment {
                Moment::Number { name, dtype, .. } => {
                    let number = number_of(optimizer, name);
                    Given::Number(*dtype, number.ok_or_else(|| Error::bug("an unknown number"))?)
                }
                // As far as it is known before the program runs.
                Moment::Skip { .. } if !optimizer.adapts() => return Ok(None),
                Moment::Skip { .. } => {
                    optimizer.skip();
                    Given::Skip
                }
                Moment::Step { members, written, after, .. } => {
                    let known =
                        |id| left.get(&(handle, id)).copied().or_else(|| state.states.get(&id));
                    let mut written = Arc::clone(written);
                    if written.serves(optimizer, &known, members).is_none() {
                        let step = Written::new(optimizer, &known, members)?;
                        if !step.is_like(&written) {
                            return Ok(None);
                        }
                        written = Arc::new(step.without_tensors());
                    }
                    let numbers = written.numbers(optimizer);
                    optimizer.advance();
                    left.extend(after.iter().map(|(id, kept)| ((handle, *id), kept)));
                    Given::Step(written, numbers)
                }
            });
        }
        Ok(Some(advanced))
    }

    /// What the slots of a program begin with.
    fn inputs_of(
        &self,
        variant: &Variant,
        arguments: &[Input],
        advanced: &Advanced,
    ) -> Result<Vec<(usize, Value)>, Error> {
        let moments: Vec<usize> = match &self.tracer {
            None => Vec::new(),
            Some(tracer) => {
                variant.moments.iter().map(|moment| tracer.moment(moment.clone())).collect()
            }
        };
        let mut inputs = Vec::with_capacity(variant.inputs.len());
        for &(slot, source) in &variant.inputs {
            let unknown = |tensor| Value { id: ValueId(0), tensor };
            let value = match source {
                Source::Argument(position) => arguments[position].value.clone(),
                Source::Captured(index) => variant.captured[index].clone(),
                Source::Variable { handle, .. } => unknown(self.peek(handle)?),
                Source::Generator { handle, ahead } => unknown(self.state_tensor(handle, ahead)?),
                Source::State { optimizer, variable, name } => {
                    unknown(self.state_of(optimizer, variable, name)?)
                }
                Source::Number { moment, index } => {
                    let number = advanced.given.get(moment).and_then(|given| given.number(index));
                    let (dtype, value) =
                        number.ok_or_else(|| Error::bug("a moment gives no number"))?;
                    unknown(if let Some(tracer) = &self.tracer {
                        let source = Source::Number { moment: moments[moment], index };
                        tracer.input(Aval::scalar(dtype), source)?
                    } else {
                        let attrs = Full { shape: smallvec![], dtype, value }.write();
                        self.run_op_unheard(&FULL, &attrs, &[])?.remove(0)
                    })
                }
            };
            inputs.push((slot, value));
        }
        Ok(inputs)
    }

    /// What an optimizer keeps for a variable.
    pub(super) fn state_of(
        &self,
        optimizer: Handle,
        variable: ValueId,
        name: &'static str,
    ) -> Result<Tensor, Error> {
        let state = match self.slot(optimizer)? {
            Slot::Optimizer(state) => state.states.get(&variable),
            other => return Err(other.refuse(optimizer, "optimizer")),
        };
        let found = state.and_then(|state| state.iter().find(|(known, _)| *known == name));
        found
            .map(|(_, tensor)| tensor.clone())
            .ok_or_else(|| Error::bug("an optimizer's state is gone"))
    }

    /// Changes the session's state to what a program left. It cannot fail half-way: everything has been looked up before.
    fn change(
        &mut self,
        variant: &Variant,
        changed: Vec<Value>,
        advanced: Advanced,
    ) -> Result<(), Error> {
        let mut tensors = changed.into_iter().map(|value| value.tensor);
        for (&handle, tensor) in variant.variables.iter().zip(tensors.by_ref()) {
            self.set_variable(handle, tensor);
        }
        for (handle, optimizer) in advanced.optimizers {
            self.optimizer(handle)?.optimizer = optimizer;
        }
        for (handle, variable, names) in &variant.states {
            let kept = names.iter().copied().zip(tensors.by_ref()).collect();
            self.optimizer(*handle)?.states.insert(*variable, kept);
        }
        for &(handle, draws) in &variant.draws {
            let (_, _, counter) = self.generator(handle)?;
            self.set_counter(handle, counter.wrapping_add(draws));
        }
        Ok(())
    }

    /// The program of a body that was shown, and dtype and shape of its results.
    pub(super) fn conclude(mut self, results: &[Handle]) -> Result<(Variant, Vec<Aval>), Error> {
        let inputs = self.inputs(results)?;
        let slots = std::mem::take(&mut self.slots);
        let tracer = self.tracer.take().ok_or_else(|| Error::bug("nothing is traced"))?;
        let mut wanted: Vec<Tensor> = Vec::new();
        for input in &inputs {
            // A result is a value of its own, so that tapes can tell it from others.
            wanted.push(tracer.copy(&input.value.tensor)?);
        }
        let specs = wanted.iter().map(Tensor::aval).collect();
        let (mut variables, mut states, mut draws) = (Vec::new(), Vec::new(), Vec::new());
        let mut kept: Vec<Tensor> = Vec::new();
        let mut known: Vec<(&Handle, &Slot)> = slots.iter().collect();
        known.sort_unstable_by_key(|(handle, _)| **handle);
        for (&handle, slot) in known {
            match slot {
                Slot::Variable(variable) => {
                    let before = Source::Variable { handle, id: variable.id };
                    if tracer.source(&variable.tensor) != Some(before) {
                        variables.push(handle);
                        wanted.push(variable.tensor.clone());
                    }
                }
                Slot::Optimizer(state) => {
                    for (&variable, tensors) in &state.states {
                        let before = |name| Source::State { optimizer: handle, variable, name };
                        if tensors.iter().any(|(name, t)| tracer.source(t) != Some(before(name))) {
                            states.push((
                                handle,
                                variable,
                                tensors.iter().map(|(name, _)| *name).collect(),
                            ));
                            kept.extend(tensors.iter().map(|(_, tensor)| tensor.clone()));
                        }
                    }
                }
                &Slot::Generator { counter, .. } if counter != 0 => draws.push((handle, counter)),
                _ => {}
            }
        }
        wanted.extend(kept);
        let (guards, outcomes) = tracer.guards();
        wanted.extend(guards);
        let (traced, places) = tracer.finish(&wanted)?;
        let Traced { program, inputs, captured, hearing, moments, own_gradient, charges } = traced;
        let prepared = Prepared::new(program, places);
        let flops = prepared.flops();
        if flops > MAX_FUNCTION_FLOPS {
            return Err(Error::CostTooHigh { flops, limit: MAX_FUNCTION_FLOPS });
        }
        let variant = Variant {
            prepared,
            inputs,
            captured,
            hearing,
            moments,
            results: results.len(),
            variables,
            states,
            outcomes,
            draws,
            own_gradient,
            _charges: charges,
        };
        Ok((variant, specs))
    }
}
