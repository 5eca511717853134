//! Steps of a loop in the frame of their plan: what a call looks up, checks and makes anew is done once for many of them.
//!
//! A loop is resident if its steps are alike and no tape hears of them. What its optimizers keep is carried from step to step
//! like variables; the numbers of their steps and the states of generators are set anew before each (`dials`). For each kind of step that optimizers take, as those that accumulate gradients take two, there is a frame. A step that is
//! the first of its kind, and one whose gradients are not finite, is a call. After each run of steps the session's state is
//! what as many calls would have left.

mod dials;

use std::sync::Arc;

use self::dials::Dials;
use super::{
    NamedTensors, Session, Slot,
    calling::{Advanced, MAX_VARIANTS, Variant},
    looping::{Working, at_step},
    tracing::{Outcomes, Source},
};
use crate::{
    array::Tensor,
    command::Handle,
    error::Error,
    graph::Value,
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
    dials: Dials,
    /// Steps of a turn.
    most: i64,
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
        let plan = variant.prepared.plan(&self.ledger).ok()?;
        let datasets = working.datasets();
        let (mut carries, mut given, mut fed) = (Vec::new(), Vec::new(), Vec::new());
        let mut batches = vec![None; datasets];
        let mut dials = Dials::new(&variant, advanced);
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
                Source::Number { .. } | Source::Generator { .. } => {
                    fed.extend(dials.connect(source, slot)?.then_some(slot));
                    continue;
                }
                Source::Captured(_) => return None,
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
        dials.begin(&mut frame).ok()?;
        let most = (TURN / frame::estimate(plan).max(1)).clamp(1, MOST);
        let most = i64::try_from(most).unwrap_or(1);
        Some(Resident { variant, frame, batches, given, dials, most })
    }

    /// Lets a frame begin with what the session and the loop have now.
    fn load(&self, working: &Working, resident: &mut Resident) -> Result<(), Error> {
        let Resident { variant, frame, given, dials, .. } = resident;
        let plan = Resident::plan(variant)?;
        for &(slot, source) in &*given {
            frame.set(plan, slot, &self.source(working, source)?)?;
        }
        dials.load(self)
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
        let variant = Arc::clone(&resident.variant);
        let (plan, condition) = (Resident::plan(&variant)?, working.condition());
        let first = working.done();
        let last = first.saturating_add(resident.most).min(working.pause()?);
        let taken = loop {
            if working.done() >= last {
                break Ok(Taken::Done);
            }
            match self.step_in_place(working, resident, plan) {
                Ok(Taken::Done) => {}
                other => {
                    resident.dials.turn_back();
                    break other;
                }
            }
            working.count_step();
            if let Some(result) = condition
                && !resident.frame.is_true(result)?
            {
                break Ok(Taken::Done);
            }
        };
        self.publish(resident)?;
        let taken = taken.map_err(|error| at_step(working.done() + 1, error))?;
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
        (0..variant.results).map(&mut result).collect::<Result<_, _>>().map(Some)
    }

    /// Does a step. If it fails, is of another kind or is dropped, nothing changes but dials.
    fn step_in_place(
        &mut self,
        working: &mut Working,
        resident: &mut Resident,
        plan: &Plan,
    ) -> Result<Taken, Error> {
        let Resident { variant, frame, batches, dials, .. } = resident;
        if !dials.is_empty() && !dials.turn(&variant.moments, frame)? {
            return Ok(Taken::Other);
        }
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
        resident.dials.publish(self)
    }
}
