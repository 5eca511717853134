//! Steps of a loop in the frame of their plan: what a call looks up, checks and makes anew is done once for many of them.
//!
//! A loop is resident if its steps are alike: no tape hears of them, and neither optimizer numbers nor random numbers change
//! from one to the next. After each run of steps the session's state is what as many calls would have left.

use std::sync::Arc;

use super::{
    Session,
    calling::Variant,
    looping::{Working, at_step},
    tracing::Source,
};
use crate::{
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

/// A loop whose values stay in place.
#[derive(Debug)]
pub(super) struct Resident {
    variant: Arc<Variant>,
    frame: Frame,
    /// For each dataset the slot that its batches go to, if the function reads them.
    batches: Vec<Option<usize>>,
    /// Steps of a turn.
    most: i64,
}

impl Resident {
    fn plan(&self) -> Result<&Plan, Error> {
        self.variant.prepared.planned().ok_or_else(|| Error::bug("a resident loop without a plan"))
    }
}

impl Session {
    /// The frame for the steps of a loop; nothing, if they must be calls. What is wrong with the loop is left for the first
    /// call to find, and what a frame needs of memory beside the calls' is no error.
    pub(super) fn make_resident(
        &mut self,
        working: &Working,
        function: Handle,
    ) -> Option<Box<Resident>> {
        if self.tracer.is_some() || self.is_heard(working.scope()) {
            return None;
        }
        let body = Arc::clone(working.body());
        self.check_references(&body).ok()?;
        let (variant, _) = self.variant(function, &body).ok()?;
        if !variant.is_steady() {
            return None;
        }
        let plan = variant.prepared.plan(&self.ledger).ok()?;
        let datasets = working.datasets();
        let (mut carries, mut given) = (Vec::new(), Vec::new());
        let mut batches = vec![None; datasets];
        let mut changed: Vec<Handle> = variant.variables.clone();
        for &(slot, source) in &variant.inputs {
            if !plan.inputs().contains(&slot) {
                continue;
            }
            match source {
                Source::Argument(position) if position < datasets => batches[position] = Some(slot),
                Source::Argument(position) => {
                    let position = position - datasets;
                    if position < working.carried() {
                        carries.push((position, slot));
                    }
                    given.push((slot, working.argument(position)?.clone()));
                }
                Source::Variable { handle, .. } => {
                    let place = variant.variables.iter().position(|&variable| variable == handle);
                    carries.extend(place.map(|place| (variant.results + place, slot)));
                    changed.retain(|&variable| variable != handle);
                    given.push((slot, self.peek(handle).ok()?));
                }
                Source::Captured(_)
                | Source::State { .. }
                | Source::Number { .. }
                | Source::Generator { .. } => {
                    return None;
                }
            }
        }
        // A variable that is only written has no place that keeps its value when a step fails.
        if !changed.is_empty() {
            return None;
        }
        let fed: Vec<usize> = batches.iter().copied().flatten().collect();
        let mut frame = Frame::new(plan, &self.ledger, &carries, &fed).ok()??;
        for (slot, tensor) in given {
            frame.set(plan, slot, &tensor).ok()?;
        }
        let most = (TURN / frame::estimate(plan).max(1)).clamp(1, MOST);
        let most = i64::try_from(most).unwrap_or(1);
        Some(Box::new(Resident { variant, frame, batches, most }))
    }

    /// Does steps up to the next report, the end, the step after which the condition does not hold, or the end of the turn.
    /// Gives the results of the last.
    pub(super) fn steps_in_place(
        &mut self,
        working: &mut Working,
        resident: &mut Resident,
    ) -> Result<Vec<Value>, Error> {
        let last = working.done().saturating_add(resident.most).min(working.pause()?);
        let mut done = Ok(());
        while done.is_ok() && working.done() < last {
            done = self.step_in_place(working, resident);
            if done.is_ok() {
                working.count_step();
                if let Some(result) = working.condition()
                    && !resident.frame.is_true(result)?
                {
                    break;
                }
            }
        }
        self.publish(resident)?;
        done.map_err(|error| at_step(working.done() + 1, error))?;
        let plan = resident.plan()?;
        let result = |i| {
            let tensor = resident.frame.result(plan, &self.ledger, i)?;
            Ok(Value { id: self.new_id(), tensor })
        };
        (0..resident.variant.results).map(result).collect()
    }

    fn step_in_place(
        &mut self,
        working: &mut Working,
        resident: &mut Resident,
    ) -> Result<(), Error> {
        let Resident { variant, frame, batches, .. } = resident;
        let plan = variant.prepared.planned().ok_or_else(|| Error::bug("a plan is gone"))?;
        if !batches.is_empty() {
            for (&slot, batch) in batches.iter().zip(working.next_batches(self)?) {
                if let Some(slot) = slot {
                    frame.set(plan, slot, &batch)?;
                }
            }
        }
        frame.run(plan, &self.ledger)
    }

    /// Changes the session's variables to what the last step left.
    fn publish(&mut self, resident: &Resident) -> Result<(), Error> {
        let (plan, variant) = (resident.plan()?, &resident.variant);
        let result = |i| resident.frame.result(plan, &self.ledger, variant.results + i);
        let tensors = (0..variant.variables.len()).map(result).collect::<Result<Vec<_>, _>>()?;
        for (&handle, tensor) in variant.variables.iter().zip(tensors) {
            self.set_variable(handle, tensor);
        }
        Ok(())
    }
}
