//! The state of a session as a checkpoint holds it: variables, optimizers and generators under keys instead of handles.
//!
//! A snapshot shares the tensors that it holds with the session, so taking one copies nothing. How it is written to a file
//! is not known here. Keys are all that connects a file with another session: [`default_keys`] derives them from names and
//! the order of creation, or a client chooses them.

use hashbrown::{HashMap, HashSet};

use crate::{
    array::Tensor,
    aval::Aval,
    command::Handle,
    error::Error,
    optimizers::{Optimizer, Slots},
};

/// Longest key that a client may choose, in bytes: twice the longest name.
pub const MAX_KEY: usize = 512;

/// Most variables, optimizers and generators of a snapshot together. Far more than a file's header has room for.
pub const MAX_ENTRIES: usize = 65_536;

/// What begins the keys of optimizers, of generators, and of variables whose names would look like something else.
const RESERVED: [&str; 3] = ["optimizer.", "generator.", VARIABLE];
const VARIABLE: &str = "variable.";

/// The key that safetensors keeps for itself.
const METADATA: &str = "__metadata__";

/// Mismatches that an error lists: enough to see what they have in common.
const MAX_LISTED: usize = 32;

/// The state of a session, or of a part of it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The variables.
    pub variables: Vec<SavedVariable>,
    /// The optimizers.
    pub optimizers: Vec<SavedOptimizer>,
    /// The random generators.
    pub generators: Vec<SavedGenerator>,
}

/// A variable's value.
#[derive(Clone, Debug)]
pub struct SavedVariable {
    /// Key of the variable.
    pub key: Box<str>,
    /// Its value.
    pub tensor: Tensor,
}

/// An optimizer: kind, hyperparameters and counters, and what it keeps for each variable.
#[derive(Clone, Debug)]
pub struct SavedOptimizer {
    /// Key of the optimizer.
    pub key: Box<str>,
    /// Everything but the slots.
    pub optimizer: Optimizer,
    /// The slots.
    pub slots: Vec<SavedSlot>,
}

/// A tensor that an optimizer keeps for a variable.
#[derive(Clone, Debug)]
pub struct SavedSlot {
    /// Key of the variable.
    pub variable: Box<str>,
    /// Name of the slot, for example "momentum".
    pub slot: Box<str>,
    /// Its value.
    pub tensor: Tensor,
}

/// A random generator.
#[derive(Clone, Debug)]
pub struct SavedGenerator {
    /// Key of the generator.
    pub key: Box<str>,
    /// The seed.
    pub seed: i64,
    /// How far it is.
    pub counter: i64,
}

/// Which key a thing has in a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedHandle {
    /// Handle of a variable, optimizer or generator.
    pub handle: Handle,
    /// Its key.
    pub key: Box<str>,
}

/// What a session takes from a snapshot.
#[derive(Debug)]
pub struct RestoreRequest {
    /// The state to return to.
    pub snapshot: Snapshot,
    /// The things to restore and their keys; none stands for everything, with [default keys](default_keys).
    pub entries: Vec<KeyedHandle>,
    /// Whether optimizers and generators are left alone, on both sides.
    pub weights_only: bool,
    /// Whether what only one of the two sides has is left alone instead of being an error.
    pub partial: bool,
}

/// How much was restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Variables.
    pub variables: usize,
    /// Optimizers.
    pub optimizers: usize,
    /// Generators.
    pub generators: usize,
}

/// Keys for variables of these names, in the order of their creation.
///
/// A variable's key is its name. Of variables of one name the first keeps it, the others get `#1`, `#2` and so on behind it,
/// skipping what is taken. An empty name, and one that begins like a key of something else, gets `variable.` in front.
/// So keys are unique, and sessions that create variables of the same names in the same order agree on them.
pub fn default_keys<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<Box<str>> {
    let (mut used, mut counts) = (HashSet::new(), HashMap::<String, usize>::new());
    let mut keys = Vec::new();
    for name in names {
        let reserved = RESERVED.iter().any(|prefix| name.starts_with(prefix));
        let plain = !reserved && !name.is_empty() && name != METADATA;
        let base = if plain { name.to_owned() } else { format!("{VARIABLE}{name}") };
        let mut key = base.clone();
        while !used.insert(key.clone()) {
            let count = counts.entry(base.clone()).or_default();
            *count += 1;
            key = format!("{base}#{count}");
        }
        keys.push(key.into());
    }
    keys
}

/// The slots that an optimizer may keep for a variable, whether it is treated as a matrix or not.
pub(crate) fn possible_slots(optimizer: &Optimizer, variable: &Aval) -> Slots {
    let mut slots = optimizer.slots(variable, false);
    for slot in optimizer.slots(variable, true) {
        if slots.iter().all(|known| known.name != slot.name) {
            slots.push(slot);
        }
    }
    slots
}

/// What does not fit, collected before anything is changed.
#[derive(Debug, Default)]
pub(crate) struct Mismatches {
    listed: Vec<String>,
    count: usize,
}

impl Mismatches {
    pub(crate) fn add(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(what());
        }
    }

    pub(crate) fn finish(mut self) -> Result<(), Error> {
        if self.count == 0 {
            return Ok(());
        }
        let more = self.count - self.listed.len();
        if more > 0 {
            self.listed.push(format!("and {more} more"));
        }
        let details = self.listed.join("; ").into();
        Err(Error::CheckpointMismatch { count: self.count, details })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_say_what_they_are() {
        let cases: [(&[&str], &[&str]); 5] = [
            (&["w", "b"], &["w", "b"]),
            (&["w", "w", "w"], &["w", "w#1", "w#2"]),
            (&["w#1", "w", "w", "w#1"], &["w#1", "w", "w#2", "w#1#1"]),
            (&["", "", "__metadata__"], &["variable.", "variable.#1", "variable.__metadata__"]),
            (
                &["optimizer.0.momentum.w", "generator.0", "variable.w", "optimizer"],
                &[
                    "variable.optimizer.0.momentum.w",
                    "variable.generator.0",
                    "variable.variable.w",
                    "optimizer",
                ],
            ),
        ];
        for (names, expected) in cases {
            let keys = default_keys(names.iter().copied());
            assert_eq!(keys.iter().map(|key| &**key).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_long_list_of_mismatches_says_how_many_there_are() {
        let mut mismatches = Mismatches::default();
        for i in 0..MAX_LISTED + 3 {
            mismatches.add(|| format!("no {i}"));
        }
        let Err(Error::CheckpointMismatch { count, details }) = mismatches.finish() else {
            panic!("there are mismatches");
        };
        assert_eq!(count, MAX_LISTED + 3);
        assert!(details.starts_with("no 0; no 1;") && details.ends_with("; and 3 more"));
    }
}
