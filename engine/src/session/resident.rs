//! Steps of a loop in the frame of their plan: what a call looks up, checks and makes anew is done once for many of them.
//!
//! A loop is resident if its steps are alike: no tape hears of them, and no random numbers change from one to the next. What
//! its optimizers keep is carried from step to step like variables, and only the numbers of their steps are computed anew.
//! For each kind of step that optimizers take, as those that accumulate gradients take two, there is a frame. A step that is
//! the first of its kind, and one whose gradients are not finite, is a call. After each run of steps the session's state is
//! what as many calls would have left.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    NamedTensors, Session, Slot,
    calling::{Advanced, MAX_VARIANTS, Variant},
    looping::{Working, at_step},
    optimizing::number_of,
    tracing::{Moment, Outcomes, Source},
    written::Given,
};
use crate::{
    array::Tensor,
    command::Handle,
    error::Error,
    graph::Value,
    optimizers::{Counters, Optimizer},
    plan::{
        Plan,
        frame::{self, Frame},
    },
};

/// About how long steps may take before others get their turn, in nanoseconds.
const TURN: u64 = 1_000_000;

/// Most steps of a turn.
const MOST: u64 = 4096;

/// The frames of a loop.
#[derive(Debug, Default)]
pub(super) struct Residents {
    /// The one that was used last at the end.
    known: Vec<Resident>,
    /// Whether the last one is as far as the session.
    current: bool,
    /// Whether all steps are calls.
    never: bool,
}

/// Steps of one kind, whose values stay in place.
#[derive(Debug)]
pub(super) struct Resident {
    variant: Arc<Variant>,
    frame: Frame,
    /// For each dataset the slot that its batches go to, if the function reads them.
    batches: Vec<Option<usize>>,
    /// The slots that begin with something of the session or the loop.
    given: Vec<(usize, Source)>,
    dials: Vec<Dial>,
    /// The optimizers, as the last step left them.
    optimizers: Vec<(Handle, Optimizer)>,
    /// Steps of a turn.
    most: i64,
}

/// A moment of the body at which an optimizer gives numbers.
#[derive(Debug)]
struct Dial {
    /// Which of the optimizers.
    optimizer: usize,
    /// What it gave last.
    given: Given,
    /// Which of the numbers are inputs, and of which slots.
    inputs: Vec<(usize, usize)>,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Done,
    /// It is of another kind.
    Other,
    /// Its gradients are not finite.
    Dropped,
}

impl Residents {
    /// The next step is a call.
    pub(super) fn call(&mut self) {
        self.current = false;
    }

    /// Takes back the frame whose steps were the last.
    pub(super) fn put(&mut self, resident: Resident) {
        if self.known.len() == MAX_VARIANTS {
            self.known.remove(0);
        }
        self.known.push(resident);
        self.current = true;
    }

    /// The frame for steps of this kind, and whether it is as far as the session.
    fn take(&mut self, variant: &Arc<Variant>) -> Option<(Resident, bool)> {
        let fits = |known: &Resident| Arc::ptr_eq(&known.variant, variant);
        let position = self.known.iter().rposition(fits)?;
        let current = self.current && position + 1 == self.known.len();
        Some((self.known.remove(position), current))
    }
}

impl Resident {
    fn plan(variant: &Variant) -> Result<&Plan, Error> {
        variant.prepared.planned().ok_or_else(|| Error::bug("a resident loop without a plan"))
    }

    /// Sets the numbers of the next step, and lets the optimizers take it. `false`, if it is of another kind.
    fn turn_dials(&mut self) -> Result<bool, Error> {
        for (dial, moment) in self.dials.iter_mut().zip(&self.variant.moments) {
            let (_, optimizer) = &mut self.optimizers[dial.optimizer];
            match (&mut dial.given, moment) {
                (Given::Step(written, last), Moment::Step { .. }) => {
                    if !written.is_of_form(optimizer) {
                        return Ok(false);
                    }
                    let numbers = written.numbers(optimizer);
                    for &(i, slot) in &dial.inputs {
                        if numbers[i].to_bits() != last[i].to_bits() {
                            self.frame.set_number(slot, numbers[i])?;
                        }
                    }
                    *last = numbers;
                    optimizer.advance();
                }
                (Given::Number(_, last), Moment::Number { name, .. }) => {
                    let number = number_of(optimizer, name);
                    *last = number.ok_or_else(|| Error::bug("an unknown number"))?;
                    for &(_, slot) in &dial.inputs {
                        self.frame.set_number(slot, *last)?;
                    }
                }
                _ => return Err(Error::bug("a resident loop skips a step")),
            }
        }
        Ok(true)
    }
}

impl Session {
    /// The frame for the next steps of a loop; nothing, if the next one must be a call. What is wrong with the loop is left
    /// for that to find, and what a frame needs of memory beside the calls' is no error.
    pub(super) fn resident(&mut self, working: &mut Working, function: Handle) -> Option<Resident> {
        if working.residents.never || self.tracer.is_some() || self.is_heard(working.scope()) {
            return None;
        }
        let body = Arc::clone(working.body());
        self.check_references(&body).ok()?;
        let (variant, advanced) = self.variant(function, &body, &Outcomes::new()).ok()?;
        let begins = |(optimizer, variable, _): &(Handle, _, _)| match self.slots.get(optimizer) {
            Some(Slot::Optimizer(state)) => !state.states.contains_key(variable),
            _ => true,
        };
        if variant.states.iter().any(begins) {
            return None;
        }
        let known = working.residents.take(&variant);
        let known =
            known.or_else(|| Some((self.make_resident(working, variant, advanced)?, false)));
        let Some((mut resident, current)) = known else {
            working.residents.never = true;
            return None;
        };
        if !current {
            self.load(working, &mut resident).ok()?;
        }
        Some(resident)
    }

    fn make_resident(
        &self,
        working: &Working,
        variant: Arc<Variant>,
        advanced: Advanced,
    ) -> Option<Resident> {
        if !variant.draws.is_empty() {
            return None;
        }
        let plan = variant.prepared.plan(&self.ledger).ok()?;
        let datasets = working.datasets();
        let (mut carries, mut given, mut fed) = (Vec::new(), Vec::new(), Vec::new());
        let mut batches = vec![None; datasets];
        let (optimizers, mut dials) = dials(&variant, advanced);
        for &(slot, source) in &variant.inputs {
            if !plan.inputs().contains(&slot) {
                continue;
            }
            match source {
                Source::Argument(position) if position < datasets => {
                    batches[position] = Some(slot);
                    fed.push(slot);
                    continue;
                }
                Source::Argument(position) => {
                    let place = position - datasets;
                    carries.extend((place < working.carried()).then_some((place, slot)));
                }
                Source::Variable { .. } | Source::State { .. } => {
                    carries.extend(variant.place(source).map(|place| (place, slot)));
                }
                Source::Number { moment, index } => {
                    dials[moment].inputs.push((index, slot));
                    fed.extend(dials[moment].given.changes(index).then_some(slot));
                    continue;
                }
                Source::Captured(_) | Source::Generator { .. } => return None,
            }
            given.push((slot, source));
        }
        // What is only written has no place that keeps its value when a step fails.
        let guards = variant.guards();
        let is_carried = |place| carries.iter().any(|&(from, _)| from == place);
        if !(variant.results..guards.start).all(is_carried) {
            return None;
        }
        let guards: Vec<usize> = guards.collect();
        let mut frame = Frame::new(plan, &self.ledger, &carries, &fed, &guards).ok()??;
        for dial in &dials {
            for &(i, slot) in &dial.inputs {
                frame.set_number(slot, dial.given.number(i)?.1).ok()?;
            }
        }
        let most = (TURN / frame::estimate(plan).max(1)).clamp(1, MOST);
        let most = i64::try_from(most).unwrap_or(1);
        Some(Resident { variant, frame, batches, given, dials, optimizers, most })
    }

    /// Lets a frame begin with what the session and the loop have now.
    fn load(&self, working: &Working, resident: &mut Resident) -> Result<(), Error> {
        let Resident { variant, frame, given, optimizers, .. } = resident;
        let plan = Resident::plan(variant)?;
        for &(slot, source) in &*given {
            frame.set(plan, slot, &self.source(working, source)?)?;
        }
        for (handle, optimizer) in optimizers {
            match self.slot(*handle)? {
                Slot::Optimizer(state) => optimizer.clone_from(&state.optimizer),
                other => return Err(other.refuse(*handle, "optimizer")),
            }
        }
        Ok(())
    }

    fn source(&self, working: &Working, source: Source) -> Result<Tensor, Error> {
        match source {
            Source::Variable { handle, .. } => self.peek(handle),
            Source::State { optimizer, variable, name } => self.state_of(optimizer, variable, name),
            Source::Argument(position) => {
                let argument = working.argument(position - working.datasets());
                argument.cloned().ok_or_else(|| Error::bug("an argument of a loop is gone"))
            }
            Source::Number { .. } | Source::Captured(_) | Source::Generator { .. } => {
                Err(Error::bug("a frame begins with what it cannot"))
            }
        }
    }

    /// Does steps up to the next report, the end, the step after which the condition does not hold, or the end of the turn.
    /// Gives the results of the last; nothing, if the next step must be a call.
    pub(super) fn steps_in_place(
        &mut self,
        working: &mut Working,
        resident: &mut Resident,
    ) -> Result<Option<Vec<Value>>, Error> {
        let first = working.done();
        let last = first.saturating_add(resident.most).min(working.pause()?);
        let taken = loop {
            if working.done() >= last {
                break Ok(Taken::Done);
            }
            match self.step_in_place(working, resident) {
                Ok(Taken::Done) => {}
                other => break other,
            }
            working.count_step();
            if let Some(result) = working.condition()
                && !resident.frame.is_true(result)?
            {
                break Ok(Taken::Done);
            }
        };
        self.publish(resident)?;
        let taken = taken.map_err(|error| at_step(working.done() + 1, error))?;
        let plan = Resident::plan(&resident.variant)?;
        let mut result = |i| {
            let tensor = resident.frame.result(plan, &self.ledger, i)?;
            Ok(Value { id: self.new_id(), tensor })
        };
        if taken == Taken::Dropped {
            working.repeat_batches();
        }
        if taken == Taken::Dropped || working.done() == first {
            // Of the results those that are carried are still there.
            let carried = (0..working.carried()).map(result).collect::<Result<Vec<_>, Error>>()?;
            working.carry(&carried);
            return Ok(None);
        }
        (0..resident.variant.results).map(&mut result).collect::<Result<_, _>>().map(Some)
    }

    /// Does a step. Nothing changes if it fails, is of another kind or is dropped.
    #[inline]
    fn step_in_place(
        &mut self,
        working: &mut Working,
        resident: &mut Resident,
    ) -> Result<Taken, Error> {
        if resident.optimizers.is_empty() {
            return self.try_step(working, resident);
        }
        let before: SmallVec<[Counters; 2]> =
            resident.optimizers.iter().map(|(_, optimizer)| optimizer.counters()).collect();
        let taken = self.try_step(working, resident);
        if !matches!(taken, Ok(Taken::Done)) {
            for ((_, optimizer), counters) in resident.optimizers.iter_mut().zip(before) {
                optimizer.rewind(counters);
            }
        }
        taken
    }

    #[inline]
    fn try_step(&mut self, working: &mut Working, resident: &mut Resident) -> Result<Taken, Error> {
        if !resident.dials.is_empty() && !resident.turn_dials()? {
            return Ok(Taken::Other);
        }
        let Resident { variant, frame, batches, .. } = resident;
        let plan = Resident::plan(variant)?;
        if !batches.is_empty() {
            for (&slot, batch) in batches.iter().zip(working.next_batches(self)?) {
                if let Some(slot) = slot {
                    frame.set(plan, slot, &batch)?;
                }
            }
        }
        let counts = frame.run(plan, &self.ledger)?;
        Ok(if counts { Taken::Done } else { Taken::Dropped })
    }

    /// Changes the session's state to what the last step left.
    fn publish(&mut self, resident: &Resident) -> Result<(), Error> {
        let (plan, variant) = (Resident::plan(&resident.variant)?, &resident.variant);
        let result = |i| resident.frame.result(plan, &self.ledger, i);
        let changed = variant.results..variant.guards().start;
        let mut tensors = changed.map(result).collect::<Result<Vec<_>, _>>()?.into_iter();
        for (&handle, tensor) in variant.variables.iter().zip(tensors.by_ref()) {
            self.set_variable(handle, tensor);
        }
        for (handle, variable, names) in &variant.states {
            let kept: NamedTensors = names.iter().copied().zip(tensors.by_ref()).collect();
            self.optimizer(*handle)?.states.insert(*variable, kept);
        }
        for (handle, optimizer) in &resident.optimizers {
            self.optimizer(*handle)?.optimizer.clone_from(optimizer);
        }
        Ok(())
    }
}

/// The optimizers of a body, and where they give numbers.
fn dials(variant: &Variant, advanced: Advanced) -> (Vec<(Handle, Optimizer)>, Vec<Dial>) {
    let optimizers: Vec<(Handle, Optimizer)> = advanced.optimizers.into_iter().collect();
    let dial = |(moment, given): (&Moment, Given)| {
        let owner = moment.optimizer();
        let optimizer = optimizers.iter().position(|&(handle, _)| handle == owner);
        Dial { optimizer: optimizer.unwrap_or(0), given, inputs: Vec::new() }
    };
    let dials = variant.moments.iter().zip(advanced.given).map(dial).collect();
    (optimizers, dials)
}
