//! Rewriting a program: what nothing needs goes, what is equal becomes one, what is known is computed.
//!
//! One walk over the applications in their order. Each is read with its inputs replaced by what is known of them already, so
//! one rewriting makes room for the next.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::Passes;
use crate::{
    array::Tensor,
    attrs::Attr,
    aval::Aval,
    exec,
    graph::{Application, Program},
    ledger::Ledger,
    op::{Kernel, OpDef},
    ops::{BROADCAST_TO, CAST, DIVIDE, FULL, Full, MULTIPLY, NEGATIVE, RESHAPE, SUBTRACT, ToShape},
};

/// Most elements of a value that is computed when the plan is made, and most bytes of all of them.
const MAX_FOLDED: usize = 1024;
const MAX_FOLDED_BYTES: u64 = 1 << 20;

/// A program in other words.
#[derive(Debug)]
pub(super) struct Rewritten {
    pub(super) avals: Vec<Aval>,
    pub(super) applications: Vec<Application>,
    /// Values that are known, by slot.
    pub(super) constants: Vec<(usize, Tensor)>,
    /// The slot of each result.
    pub(super) wanted: Vec<usize>,
}

/// Rewrites what a program needs for the given slots.
pub(super) fn rewrite(
    ledger: &Arc<Ledger>,
    program: &Program,
    wanted: &[usize],
    passes: Passes,
) -> Rewritten {
    let mut walk = Walk {
        passes,
        ledger: Ledger::child(ledger, "constants of a plan", MAX_FOLDED_BYTES),
        avals: program.avals.clone(),
        same: (0..program.avals.len()).collect(),
        producer: vec![None; program.avals.len()],
        constants: HashMap::new(),
        scalars: HashMap::new(),
        seen: HashMap::new(),
        applications: Vec::new(),
    };
    for (slot, operand) in &program.operands {
        if let Some(tensor) = &operand.tensor {
            walk.constants.insert(*slot, tensor.clone());
        }
    }
    // Values from outside are not computed with before the plan runs: there may be as many as there are commands.
    let operands: HashSet<usize> = walk.constants.keys().copied().collect();
    let needed = exec::needed(program, wanted);
    for (application, _) in program.applications.iter().zip(needed).filter(|&(_, needed)| needed) {
        walk.visit(application.clone(), &operands);
    }
    let wanted: Vec<usize> = wanted.iter().map(|&slot| walk.same[slot]).collect();
    walk.finish(wanted)
}

/// How far the rewriting is.
struct Walk {
    passes: Passes,
    /// Pays for constants.
    ledger: Arc<Ledger>,
    avals: Vec<Aval>,
    /// For each slot the one that stands for it.
    same: Vec<usize>,
    /// For each slot the application that fills it.
    producer: Vec<Option<usize>>,
    constants: HashMap<usize, Tensor>,
    /// Scalars beside tensors of equal elements.
    scalars: HashMap<usize, usize>,
    seen: HashMap<Key, usize>,
    applications: Vec<Application>,
}

/// What two applications that give the same results have in common.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    op: &'static str,
    attrs: SmallVec<[u64; 6]>,
    inputs: SmallVec<[usize; 3]>,
}

impl Walk {
    fn visit(&mut self, mut application: Application, operands: &HashSet<usize>) {
        for input in &mut application.inputs {
            *input = self.same[*input];
        }
        if self.passes.algebra {
            self.look_through(&mut application);
            if let Some(equal) = self.unchanged(&application) {
                self.same[application.outputs[0]] = equal;
                return;
            }
        }
        if self.passes.common {
            let key = Key::of(&application);
            if let Some(&earlier) = self.seen.get(&key) {
                let outputs = self.applications[earlier].outputs.clone();
                for (&slot, equal) in application.outputs.iter().zip(outputs) {
                    self.same[slot] = equal;
                }
                return;
            }
            self.seen.insert(key, self.applications.len());
        }
        if self.passes.constants {
            self.fold(&application, operands);
        }
        self.append(application.clone());
        if self.passes.algebra && is(&application, &FULL) {
            self.note_scalar(&application);
        }
    }

    fn append(&mut self, application: Application) {
        for &slot in &application.outputs {
            self.producer[slot] = Some(self.applications.len());
        }
        self.applications.push(application);
    }

    /// Writes a scalar beside a tensor of equal elements: what broadcasts reads that instead.
    fn note_scalar(&mut self, full: &Application) {
        let slot = full.outputs[0];
        if self.avals[slot].shape.is_empty() {
            return;
        }
        let Full { dtype, value, .. } = Full::read(&full.attrs);
        let attrs = Full { shape: SmallVec::new(), dtype, value }.write();
        let (op, inputs, scalar) = (full.op, SmallVec::new(), self.avals.len());
        self.avals.push(Aval::scalar(dtype));
        self.same.push(scalar);
        self.producer.push(None);
        self.scalars.insert(slot, scalar);
        let outputs = SmallVec::from_elem(scalar, 1);
        let application = Application { op, attrs, inputs, outputs, workspace: 0 };
        if self.passes.constants {
            self.fold(&application, &HashSet::new());
        }
        self.append(application);
    }

    /// The application that fills a slot.
    fn producer(&self, slot: usize) -> Option<&Application> {
        self.producer[slot].map(|producer| &self.applications[producer])
    }

    /// Reads what only repeats or reshapes at its source: elementwise ops broadcast by themselves.
    fn look_through(&self, application: &mut Application) {
        match application.op.kernel {
            Kernel::Elementwise(_) => {
                let shape = &self.avals[application.outputs[0]].shape;
                for place in 0..application.inputs.len() {
                    while let Some(source) = self.repeats(application.inputs[place]) {
                        let input = std::mem::replace(&mut application.inputs[place], source);
                        let mut inputs = application.inputs.iter();
                        let shapes = inputs
                            .try_fold(self.avals[source].shape.clone(), |all, &i| {
                                all.broadcast(&self.avals[i].shape)
                            });
                        // Something else must still give the result its shape.
                        if shapes.as_ref() != Some(shape) {
                            application.inputs[place] = input;
                            break;
                        }
                    }
                }
            }
            Kernel::Alias => {
                if let Some(source) = self.producer(application.inputs[0])
                    && let Kernel::Alias = source.op.kernel
                {
                    // The op may mean another shape where it stands now: what remains is a reshape to this one.
                    let shape = self.avals[application.outputs[0]].shape.to_i64();
                    application.op = &RESHAPE;
                    application.attrs = ToShape { shape }.write();
                    application.inputs[0] = source.inputs[0];
                }
            }
            Kernel::Run(_) | Kernel::Fold(..) | Kernel::Control(_) | Kernel::Composite(_) => {}
        }
    }

    /// The slot that a value repeats along axes.
    fn repeats(&self, slot: usize) -> Option<usize> {
        let producer = self.producer(slot)?;
        if is(producer, &BROADCAST_TO) {
            return Some(producer.inputs[0]);
        }
        self.scalars.get(&slot).copied()
    }

    /// The slot that already holds what an application gives.
    fn unchanged(&self, application: &Application) -> Option<usize> {
        let &first = application.inputs.first()?;
        let all = |place: usize, value: f64| {
            let input = application.inputs.get(place).and_then(|&slot| self.producer(slot));
            input.is_some_and(|full| {
                is(full, &FULL) && Full::read(&full.attrs).value.to_bits() == value.to_bits()
            })
        };
        let output = &self.avals[application.outputs[0]];
        // The seed of a gradient is the first factor.
        if is(application, &MULTIPLY) && all(0, 1.0) && *output == self.avals[application.inputs[1]]
        {
            return Some(application.inputs[1]);
        }
        if *output != self.avals[first] {
            return None;
        }
        let second = |value: f64| all(1, value);
        let equal = match application.op.kernel {
            Kernel::Alias => true,
            _ if is(application, &CAST) || is(application, &BROADCAST_TO) => true,
            _ if is(application, &MULTIPLY) || is(application, &DIVIDE) => second(1.0),
            _ if is(application, &SUBTRACT) => second(0.0),
            _ if is(application, &NEGATIVE) => {
                let inner = self.producer(first).filter(|inner| is(inner, &NEGATIVE));
                return inner.map(|inner| inner.inputs[0]);
            }
            Kernel::Run(_)
            | Kernel::Fold(..)
            | Kernel::Elementwise(_)
            | Kernel::Control(_)
            | Kernel::Composite(_) => false,
        };
        equal.then_some(first)
    }

    /// Computes a small value that depends on nothing. It stays an application too, which is dropped when nothing reads it.
    fn fold(&mut self, application: &Application, operands: &HashSet<usize>) {
        let elements = |&slot: &usize| self.avals[slot].shape.elements();
        let small = application.inputs.iter().chain(&application.outputs).map(elements);
        if small.fold(0, usize::saturating_add) > MAX_FOLDED
            || application.inputs.iter().any(|slot| operands.contains(slot))
        {
            return;
        }
        let inputs: Option<SmallVec<[Tensor; 4]>> =
            application.inputs.iter().map(|slot| self.constants.get(slot).cloned()).collect();
        let Some(inputs) = inputs else { return };
        let inputs: SmallVec<[&Tensor; 4]> = inputs.iter().collect();
        // What fails now fails again in each run, and is reported there.
        let outputs = exec::run(&self.ledger, application.op, &application.attrs, &inputs);
        if let Ok(outputs) = outputs {
            self.constants.extend(application.outputs.iter().copied().zip(outputs));
        }
    }

    /// Drops what nothing needs any more.
    fn finish(self, wanted: Vec<usize>) -> Rewritten {
        let Self { avals, constants, applications, .. } = self;
        let mut read = vec![false; avals.len()];
        for &slot in &wanted {
            read[slot] = true;
        }
        let mut kept = Vec::new();
        for application in applications.into_iter().rev() {
            let mut outputs = application.outputs.iter();
            if outputs.any(|slot| read[*slot] && !constants.contains_key(slot)) {
                application.inputs.iter().for_each(|&slot| read[slot] = true);
                kept.push(application);
            }
        }
        kept.reverse();
        // An op of several results that is computed gives no constants as well.
        for &slot in kept.iter().flat_map(|application| &application.outputs) {
            read[slot] = false;
        }
        let mut constants: Vec<(usize, Tensor)> =
            constants.into_iter().filter(|&(slot, _)| read[slot]).collect();
        constants.sort_unstable_by_key(|&(slot, _)| slot);
        Rewritten { avals, applications: kept, constants, wanted }
    }
}

fn is(application: &Application, op: &'static OpDef) -> bool {
    std::ptr::eq(application.op, op)
}

impl Key {
    fn of(application: &Application) -> Self {
        let mut attrs = SmallVec::new();
        for attr in application.attrs.values() {
            write(attr, &mut attrs);
        }
        Self { op: application.op.name, attrs, inputs: application.inputs.clone() }
    }
}

/// Appends an attribute to a key, so that different ones differ. Numbers by their bits: 0 and -0 are not the same.
fn write(attr: &Attr, key: &mut SmallVec<[u64; 6]>) {
    match attr {
        Attr::Unset => key.push(0),
        Attr::Bool(value) => key.extend([1, u64::from(*value)]),
        Attr::Int(value) => key.extend([2, value.cast_unsigned()]),
        Attr::Double(value) => key.extend([3, value.to_bits()]),
        Attr::Text(text) => {
            key.extend([4, text.len() as u64]);
            key.extend(text.bytes().map(u64::from));
        }
        Attr::DType(dtype) => key.extend([5, *dtype as u64]),
        Attr::Ints(values) => {
            key.extend([6, values.len() as u64]);
            key.extend(values.iter().map(|value| value.cast_unsigned()));
        }
        Attr::Bodies(bodies) => key.extend([8, bodies.address()]),
        Attr::Doubles(values) => {
            key.extend([7, values.len() as u64]);
            key.extend(values.iter().map(|value| value.to_bits()));
        }
    }
}
