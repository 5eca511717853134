//! Taking snapshots and returning to them.
//!
//! A restore is checked as a whole before the first thing is changed: it happens completely or not at all, and its error
//! lists everything that does not fit.

use std::{collections::BTreeSet, ops::Bound};

use hashbrown::{HashMap, HashSet};

use super::{NamedTensors, OptimizerState, Session, Slot};
use crate::{
    array::Tensor,
    aval::Aval,
    command::{Answer, Handle},
    error::Error,
    graph::ValueId,
    optimizers::{Optimizer, Slots},
    snapshot::{
        KeyedHandle, MAX_ENTRIES, MAX_KEY, Mismatches, RestoreRequest, Restored, SavedGenerator,
        SavedOptimizer, SavedSlot, SavedVariable, Snapshot, default_keys, possible_slots,
    },
};

/// What a checked restore will change.
#[derive(Default)]
struct Plan<'r> {
    variables: Vec<(Handle, &'r Tensor)>,
    optimizers: Vec<(Handle, &'r Optimizer, HashMap<ValueId, NamedTensors>)>,
    generators: Vec<(Handle, &'r SavedGenerator)>,
}

/// A variable of the session that takes part in a restore.
#[derive(Clone, Copy)]
struct Member<'s> {
    handle: Handle,
    id: ValueId,
    tensor: &'s Tensor,
}

/// The session's side of a restore, by key.
#[derive(Default)]
struct Present<'s> {
    variables: HashMap<&'s str, Member<'s>>,
    optimizers: HashMap<&'s str, (Handle, &'s OptimizerState)>,
    generators: HashMap<&'s str, Handle>,
}

impl Session {
    /// The state of the session, or of the things named. Nothing is copied but references.
    pub fn snapshot(&self, entries: &[KeyedHandle]) -> Result<Snapshot, Error> {
        let entries = self.resolve(entries)?;
        let variables: HashMap<ValueId, (&str, Aval)> = entries
            .iter()
            .filter_map(|entry| match self.slots.get(&entry.handle) {
                Some(Slot::Variable(variable)) => {
                    Some((variable.id, (&*entry.key, variable.tensor.aval())))
                }
                Some(_) | None => None,
            })
            .collect();
        let mut snapshot = Snapshot::default();
        for KeyedHandle { handle, key } in &entries {
            let key = key.clone();
            match self.slot(*handle)? {
                Slot::Variable(variable) => {
                    let tensor = variable.tensor.clone();
                    snapshot.variables.push(SavedVariable { key, tensor });
                }
                Slot::Optimizer(state) => {
                    let slots = saved_slots(state, &variables);
                    let optimizer = state.optimizer.clone();
                    snapshot.optimizers.push(SavedOptimizer { key, optimizer, slots });
                }
                Slot::Generator { key: seed, counter, .. } => {
                    let (seed, counter) = (*seed, *counter);
                    snapshot.generators.push(SavedGenerator { key, seed, counter });
                }
                other => return Err(other.refuse(*handle, EXPECTED)),
            }
        }
        Ok(snapshot)
    }

    /// Returns to a snapshot, if all of it fits.
    pub(super) fn restore(&mut self, request: &RestoreRequest) -> Result<Answer, Error> {
        let entries = self.resolve(&request.entries)?;
        let plan = self.plan(request, &entries)?;
        let restored = Restored {
            variables: plan.variables.len(),
            optimizers: plan.optimizers.len(),
            generators: plan.generators.len(),
        };
        let Plan { variables, optimizers, generators } = plan;
        for (handle, tensor) in variables {
            self.set_variable(handle, tensor.clone());
        }
        for (handle, optimizer, states) in optimizers {
            if let Some(Slot::Optimizer(state)) = self.slots.get_mut(&handle) {
                state.optimizer = optimizer.clone();
                state.states = states;
            }
        }
        for (handle, saved) in generators {
            if let Some(Slot::Generator { key, counter, .. }) = self.slots.get_mut(&handle) {
                (*key, *counter) = (saved.seed, saved.counter);
            }
        }
        Ok(Answer::Restored(restored))
    }

    /// The things that are meant and their keys, checked to be different.
    fn resolve(&self, entries: &[KeyedHandle]) -> Result<Vec<KeyedHandle>, Error> {
        if entries.is_empty() {
            return self.everything();
        }
        let malformed = |why: String| Error::Malformed { what: "entries".into(), why: why.into() };
        let mut handles = HashSet::new();
        let mut keys = BTreeSet::new();
        for KeyedHandle { handle, key } in entries {
            if key.is_empty() || key.len() > MAX_KEY || &**key == "__metadata__" {
                return Err(malformed(format!(
                    "a key has 1 to {MAX_KEY} bytes and is not __metadata__"
                )));
            }
            if !handles.insert(*handle) {
                return Err(malformed(format!("handle {handle} is named twice")));
            }
            if !keys.insert(&**key) {
                return Err(malformed(format!("key {key:?} is given twice")));
            }
        }
        // What an optimizer keeps lies below its key, so nothing else may.
        for KeyedHandle { handle, key } in entries {
            let Slot::Optimizer(_) = self.slot(*handle)? else { continue };
            let below = format!("{key}.");
            let next =
                keys.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded)).next();
            if let Some(other) = next.filter(|other| other.starts_with(&below)) {
                return Err(malformed(format!(
                    "key {other:?} lies below that of an optimizer, {key:?}"
                )));
            }
        }
        Ok(entries.to_vec())
    }

    /// Everything that a checkpoint can hold, in the order of its creation, with default keys.
    fn everything(&self) -> Result<Vec<KeyedHandle>, Error> {
        let mut variables = Vec::new();
        let (mut optimizers, mut generators) = (Vec::new(), Vec::new());
        for (&handle, slot) in &self.slots {
            match slot {
                Slot::Variable(variable) => variables.push((variable.id, handle, &*variable.name)),
                Slot::Optimizer(state) => optimizers.push((state.id, handle)),
                Slot::Generator { id, .. } => generators.push((*id, handle)),
                _ => {}
            }
        }
        if variables.len() + optimizers.len() + generators.len() > MAX_ENTRIES {
            return Err(Error::TooMany { what: "things for a checkpoint", limit: MAX_ENTRIES });
        }
        variables.sort_unstable_by_key(|&(id, ..)| id.0);
        let keys = default_keys(variables.iter().map(|&(_, _, name)| name));
        let mut entries: Vec<KeyedHandle> = variables
            .iter()
            .zip(keys)
            .map(|(&(_, handle, _), key)| KeyedHandle { handle, key })
            .collect();
        for (prefix, mut list) in [("optimizer", optimizers), ("generator", generators)] {
            list.sort_unstable_by_key(|&(id, _)| id.0);
            entries.extend(list.into_iter().enumerate().map(|(i, (_, handle))| KeyedHandle {
                handle,
                key: format!("{prefix}.{i}").into(),
            }));
        }
        Ok(entries)
    }

    /// Checks all of a restore and says what it will change.
    fn plan<'r>(
        &self,
        request: &'r RestoreRequest,
        entries: &[KeyedHandle],
    ) -> Result<Plan<'r>, Error> {
        let RestoreRequest { snapshot, weights_only, partial, .. } = request;
        let present = self.present(entries)?;
        let (mut plan, mut mismatches) = (Plan::default(), Mismatches::default());
        let mut left: BTreeSet<String> =
            present.variables.keys().map(|key| variable(key)).collect();
        for SavedVariable { key, tensor } in &snapshot.variables {
            left.remove(&variable(key));
            match present.variables.get(&**key) {
                Some(member) if member.tensor.aval() == tensor.aval() => {
                    plan.variables.push((member.handle, tensor));
                }
                Some(member) => mismatches.add(|| {
                    let (saved, found) = (tensor.aval(), member.tensor.aval());
                    format!("variable {key:?} is {saved} in the checkpoint and {found} here")
                }),
                None if *partial => {}
                None => mismatches.add(|| only_there(&variable(key))),
            }
        }
        if !weights_only {
            left.extend(present.optimizers.keys().map(|key| format!("optimizer {key:?}")));
            left.extend(present.generators.keys().map(|key| format!("generator {key:?}")));
            for saved in &snapshot.optimizers {
                let what = format!("optimizer {:?}", saved.key);
                left.remove(&what);
                match present.optimizers.get(&*saved.key) {
                    Some(&(handle, state)) => {
                        let states =
                            match_optimizer(saved, state, &present, request, &mut mismatches);
                        plan.optimizers.push((handle, &saved.optimizer, states));
                    }
                    None if *partial => {}
                    None => mismatches.add(|| only_there(&what)),
                }
            }
            for saved in &snapshot.generators {
                let what = format!("generator {:?}", saved.key);
                left.remove(&what);
                match present.generators.get(&*saved.key) {
                    Some(&handle) => plan.generators.push((handle, saved)),
                    None if *partial => {}
                    None => mismatches.add(|| only_there(&what)),
                }
            }
        }
        if !partial {
            for what in left {
                mismatches.add(|| format!("{what} is not in the checkpoint"));
            }
        }
        mismatches.finish()?;
        Ok(plan)
    }

    fn present<'s>(&'s self, entries: &'s [KeyedHandle]) -> Result<Present<'s>, Error> {
        let mut present = Present::default();
        for KeyedHandle { handle, key } in entries {
            match self.slot(*handle)? {
                Slot::Variable(variable) => {
                    let member =
                        Member { handle: *handle, id: variable.id, tensor: &variable.tensor };
                    present.variables.insert(key, member);
                }
                Slot::Optimizer(state) => {
                    present.optimizers.insert(key, (*handle, state));
                }
                Slot::Generator { .. } => {
                    present.generators.insert(key, *handle);
                }
                other => return Err(other.refuse(*handle, EXPECTED)),
            }
        }
        Ok(present)
    }
}

const EXPECTED: &str = "variable, optimizer or generator";

/// What an optimizer keeps for the variables that have keys, in the order of their creation.
fn saved_slots(
    state: &OptimizerState,
    variables: &HashMap<ValueId, (&str, Aval)>,
) -> Vec<SavedSlot> {
    let mut kept: Vec<_> = state.states.iter().collect();
    kept.sort_unstable_by_key(|(id, _)| id.0);
    let mut saved = Vec::new();
    for (id, tensors) in kept {
        let Some((variable, aval)) = variables.get(id) else { continue };
        // A hyperparameter that was changed since the last step may have ended some of them.
        let possible = possible_slots(&state.optimizer, aval);
        for (slot, tensor) in tensors {
            if possible.iter().any(|def| def.name == *slot) {
                let (variable, slot) = ((*variable).into(), (*slot).into());
                saved.push(SavedSlot { variable, slot, tensor: tensor.clone() });
            }
        }
    }
    saved
}

fn variable(key: &str) -> String {
    format!("variable {key:?}")
}

fn only_there(what: &str) -> String {
    format!("{what} is only in the checkpoint")
}

/// Checks what was saved of an optimizer, and says what it will keep for each variable.
fn match_optimizer(
    saved: &SavedOptimizer,
    state: &OptimizerState,
    present: &Present,
    request: &RestoreRequest,
    mismatches: &mut Mismatches,
) -> HashMap<ValueId, NamedTensors> {
    let key = &saved.key;
    let (found, here) = (saved.optimizer.def().name, state.optimizer.def().name);
    if found != here {
        mismatches
            .add(|| format!("optimizer {key:?} is {found} in the checkpoint and {here} here"));
        return HashMap::new();
    }
    // Variables that do not take part keep what they have.
    let part: HashSet<ValueId> = present.variables.values().map(|member| member.id).collect();
    let kept = state.states.iter().filter(|(id, _)| !part.contains(*id));
    let mut states: HashMap<_, _> = kept.map(|(id, tensors)| (*id, tensors.clone())).collect();
    for SavedSlot { variable, slot, tensor } in &saved.slots {
        let what = || format!("slot {slot:?} of variable {variable:?} in optimizer {key:?}");
        let Some(member) = present.variables.get(&**variable) else {
            if !request.partial {
                mismatches.add(|| only_there(&what()));
            }
            continue;
        };
        let aval = member.tensor.aval();
        let possible = if aval.dtype.is_float() {
            possible_slots(&saved.optimizer, &aval)
        } else {
            Slots::default()
        };
        match possible.iter().find(|def| def.name == &**slot) {
            Some(def) if def.aval(&aval) == tensor.aval() => {
                states.entry(member.id).or_default().push((def.name, tensor.clone()));
            }
            Some(def) => mismatches.add(|| {
                let (found, here) = (tensor.aval(), def.aval(&aval));
                format!("{} is {found} in the checkpoint and {here} here", what())
            }),
            None => mismatches.add(|| format!("{} is none that {here} keeps", what())),
        }
    }
    states
}
