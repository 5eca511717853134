//! Memory of values that a run needs no more, kept for those to come: it need not be cleared, and still lies in the cache.

use smallvec::SmallVec;

use super::Step;
use crate::{
    array::{Array, Tensor},
    aval::Aval,
    ledger::Charge,
};

/// Fewest bytes of a value that is kept; allocating less is quick.
const LEAST: u64 = 4096;

/// What is kept during one run, with what pays for it.
#[derive(Debug, Default)]
pub(super) struct Spares {
    kept: Vec<(Aval, Array, Charge)>,
    bytes: u64,
}

/// Memory for the results of a step: what pays for it, where there is some already, and what is offered to the kernel.
type Taken = (SmallVec<[Option<Charge>; 2]>, Vec<Array>);

impl Spares {
    /// Keeps the memory of a value, if nobody else holds it.
    pub(super) fn keep(&mut self, tensor: Tensor) {
        let aval = tensor.aval();
        if aval.bytes() >= LEAST
            && let Some((array, charge)) = tensor.into_parts()
        {
            self.bytes = self.bytes.saturating_add(aval.bytes());
            self.kept.push((aval, array, charge));
        }
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.bytes = 0;
    }

    /// Takes what fits the results of a step, the last that was kept first, and gives back what the step needs the room of.
    pub(super) fn take(&mut self, step: &Step, avals: &[Aval]) -> Taken {
        let mut offered = Vec::new();
        let charges = step.outputs.iter().map(|&slot| {
            let Aval { dtype, shape } = &avals[slot];
            let fits = |(kept, ..): &(Aval, Array, Charge)| {
                kept.dtype == *dtype && kept.shape.elements() == shape.elements()
            };
            let (aval, array, charge) = self.kept.remove(self.kept.iter().rposition(fits)?);
            self.bytes -= aval.bytes();
            offered.push(array);
            Some(charge)
        });
        let charges = charges.collect();
        let mut surplus = 0;
        while self.bytes > step.room {
            self.bytes -= self.kept[surplus].0.bytes();
            surplus += 1;
        }
        self.kept.drain(..surplus);
        (charges, offered)
    }
}
