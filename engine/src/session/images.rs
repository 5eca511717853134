//! Taking images of a session, and making a session of one.

use std::{collections::BTreeSet, sync::Arc};

use hashbrown::HashMap;

use super::{
    NamedTensors, OptimizerState, Poison, Session, Slot, Variable,
    calling::Defined,
    defining::{self, Bodies},
    forward::Accumulator,
    steps::Steps,
};
use crate::{
    aval::Aval,
    error::Error,
    graph::ValueId,
    image::{AccumulatorImage, Image, OptimizerImage, Thing, VariableImage},
    ledger::Ledger,
    snapshot::possible_slots,
    tape::Tape,
};

impl Session {
    /// Whether an image could be taken now, as far as a glance tells.
    pub fn is_plain(&self) -> bool {
        self.definitions.is_empty()
            && self.captures.is_empty()
            && self.tapes.values().all(Tape::is_untouched)
    }

    /// Whether the body of a function is being shown, so that commands are kept.
    pub fn is_showing(&self) -> bool {
        !self.definitions.is_empty()
    }

    /// All of the session's state, if it can be expressed at this moment.
    pub fn image(&self) -> Option<Image> {
        if !self.is_plain() {
            return None;
        }
        let avals = self.variable_avals();
        let mut bodies = Bodies::default();
        let mut things = Vec::with_capacity(self.slots.len());
        for (&handle, slot) in &self.slots {
            let thing = match slot {
                Slot::Value(value) => Thing::Value(value.clone()),
                Slot::Absent(reason) => Thing::Absent(*reason),
                Slot::Variable(Variable { id, name, tensor, trainable }) => {
                    let (name, tensor) = (name.clone(), tensor.clone());
                    Thing::Variable(VariableImage { id: *id, name, tensor, trainable: *trainable })
                }
                Slot::Tape => Thing::Tape(self.tapes.get(&handle)?.image()?),
                Slot::Accumulator => Thing::Accumulator(self.accumulators.get(&handle)?.image()),
                Slot::Optimizer(state) => Thing::Optimizer(Box::new(state.image(&avals)?)),
                Slot::Generator { id, key, counter } => {
                    Thing::Generator { id: *id, seed: *key, counter: *counter }
                }
                Slot::Function(defined) => Thing::Function(bodies.number(&defined.body)),
                Slot::Placeholder { .. } => return None,
                Slot::Poisoned(poison) => {
                    let Poison { sequence, tag, reason } = &**poison;
                    let (tag, reason) = (tag.clone(), reason.clone());
                    Thing::Poisoned { sequence: *sequence, tag, reason }
                }
            };
            things.push((handle, thing));
        }
        things.sort_unstable_by_key(|(handle, _)| *handle);
        let (next_id, starts, bodies) = (self.next_id, self.starts, bodies.images);
        Some(Image { next_id, starts, things, bodies })
    }

    /// The session that an image was taken of. Its tensors are paid for already; `ledger` pays for the rest.
    ///
    /// # Errors
    ///
    /// `MemoryLimit`, and `Malformed` for what was never an image.
    pub fn from_image(ledger: Arc<Ledger>, image: Image) -> Result<Self, Error> {
        let Image { next_id, starts, things, bodies } = image;
        let bodies = defining::bodies(&ledger, bodies)?;
        let mut session = Self::new(ledger);
        (session.next_id, session.starts) = (next_id, starts);
        let mut optimizers = Vec::new();
        for (handle, thing) in things {
            let slot = match thing {
                Thing::Value(value) => Slot::Value(value),
                Thing::Absent(reason) => Slot::Absent(reason),
                Thing::Variable(VariableImage { id, name, tensor, trainable }) => {
                    Slot::Variable(Variable { id, name, tensor, trainable })
                }
                Thing::Tape(image) => {
                    session.tapes.insert(handle, Tape::from_image(image));
                    Slot::Tape
                }
                Thing::Accumulator(image) => {
                    session.accumulators.insert(handle, Accumulator::from_image(image));
                    Slot::Accumulator
                }
                Thing::Optimizer(image) => {
                    // It is made when all variables are there.
                    optimizers.push((handle, image));
                    continue;
                }
                Thing::Generator { id, seed, counter } => {
                    Slot::Generator { id, key: seed, counter }
                }
                Thing::Function(number) => {
                    let body = bodies.get(number).ok_or_else(|| malformed("a body is missing"))?;
                    let (body, variants) = (Arc::clone(body), Vec::new());
                    Slot::Function(Box::new(Defined { body, variants }))
                }
                Thing::Poisoned { sequence, tag, reason } => {
                    Slot::Poisoned(Arc::new(Poison { sequence, tag, reason }))
                }
            };
            session.slots.insert(handle, slot);
        }
        let avals = session.variable_avals();
        for (handle, image) in optimizers {
            let state = OptimizerState::from_image(*image, &avals)?;
            session.slots.insert(handle, Slot::Optimizer(Box::new(state)));
        }
        Ok(session)
    }

    fn variable_avals(&self) -> HashMap<ValueId, Aval> {
        let aval = |slot: &Slot| match slot {
            Slot::Variable(variable) => Some((variable.id, variable.tensor.aval())),
            _ => None,
        };
        self.slots.values().filter_map(aval).collect()
    }
}

impl OptimizerState {
    /// The optimizer, unless hyperparameters that changed have left slots behind which the next step ends.
    fn image(&self, avals: &HashMap<ValueId, Aval>) -> Option<OptimizerImage> {
        let mut states = Vec::with_capacity(self.states.len());
        for (id, kept) in &self.states {
            let possible = possible_slots(&self.optimizer, avals.get(id)?);
            let known: BTreeSet<&str> = possible.iter().map(|slot| slot.name).collect();
            if kept.iter().any(|(name, _)| !known.contains(name)) {
                return None;
            }
            let kept = kept.iter().map(|(name, tensor)| ((*name).into(), tensor.clone()));
            states.push((*id, kept.collect()));
        }
        states.sort_unstable_by_key(|(id, _)| id.0);
        Some(OptimizerImage { id: self.id, optimizer: self.optimizer.clone(), states })
    }

    fn from_image(image: OptimizerImage, avals: &HashMap<ValueId, Aval>) -> Result<Self, Error> {
        let OptimizerImage { id, optimizer, states: images } = image;
        let mut states = HashMap::new();
        for (variable, kept) in images {
            let aval = avals.get(&variable).ok_or_else(|| malformed("a variable is missing"))?;
            let possible = possible_slots(&optimizer, aval);
            let named = kept.into_iter().map(|(name, tensor)| {
                let slot = possible.iter().find(|slot| *slot.name == *name);
                Ok((slot.ok_or_else(|| malformed("a slot is unknown"))?.name, tensor))
            });
            states.insert(variable, named.collect::<Result<NamedTensors, Error>>()?);
        }
        Ok(Self { id, optimizer, states, steps: Steps::default() })
    }
}

impl Accumulator {
    fn image(&self) -> AccumulatorImage {
        let mut tangents: Vec<_> =
            self.tangents.iter().map(|(&id, value)| (id, value.clone())).collect();
        tangents.sort_unstable_by_key(|(id, _)| id.0);
        let Self { scope, recording, since, .. } = *self;
        AccumulatorImage { scope, recording, since, tangents }
    }

    fn from_image(image: AccumulatorImage) -> Self {
        let AccumulatorImage { scope, recording, since, tangents } = image;
        Self { scope, recording, since, tangents: tangents.into_iter().collect() }
    }
}

fn malformed(why: &str) -> Error {
    Error::Malformed { what: "image".into(), why: why.into() }
}
