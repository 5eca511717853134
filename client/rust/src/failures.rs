//! Failures of commands whose answers nobody waited for.

use std::{collections::BTreeMap, sync::Arc};

use gradtape_proto::v1 as proto;

use crate::Failure;

/// Most failures that are remembered. A program that has more of them unread learns nothing from the next.
const MAX_FAILURES: usize = 1_024;

/// The first failures of each chain, by sequence number, and whether the program knows of them.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    roots: BTreeMap<u64, Root>,
}

#[derive(Debug)]
struct Root {
    failure: Arc<Failure>,
    told: bool,
}

impl Failures {
    /// Takes a failure in and connects it with the one that led to it.
    pub(crate) fn add(&mut self, error: proto::Error) -> Arc<Failure> {
        let mut failure = Failure::from(error);
        if failure.is_poisoned() {
            failure.cause = self.roots.get(&failure.root_sequence).map(|r| Arc::clone(&r.failure));
            return Arc::new(failure);
        }
        let failure = Arc::new(failure);
        if self.roots.len() == MAX_FAILURES {
            self.roots.pop_first();
        }
        let root = Root { failure: Arc::clone(&failure), told: false };
        self.roots.insert(failure.sequence, root);
        failure
    }

    /// Marks a failure as told to the program.
    pub(crate) fn told(&mut self, root_sequence: u64) {
        if let Some(root) = self.roots.get_mut(&root_sequence) {
            root.told = true;
        }
    }

    /// The oldest failure that the program has not been told of.
    pub(crate) fn take_untold(&mut self) -> Option<Arc<Failure>> {
        let root = self.roots.values_mut().find(|root| !root.told)?;
        root.told = true;
        Some(Arc::clone(&root.failure))
    }
}
