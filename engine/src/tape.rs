//! Recording: which op made which value from which, and the values that derivative rules will read.
//!
//! A trace is an arena: nodes and entries name each other by number, so neither sweeping nor dropping it recurses, however
//! long it is. Nodes are in the order in which the ops ran.

mod image;

use std::{collections::BTreeSet, sync::Arc};

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::{
    array::Tensor,
    attrs::Attrs,
    aval::Aval,
    error::Error,
    function::Function,
    graph::{Value, ValueId},
    ledger::{Charge, Ledger},
    op::{Derivative, OpDef, Reads},
    ops::IDENTITY,
};

/// Most nodes of one tape.
pub const MAX_NODES: usize = 1 << 20;

/// What a node costs besides the tensors that it keeps, in bytes; charged in blocks.
const NODE_BYTES: u64 = 384;
const BLOCK_NODES: usize = 256;

/// A tape of a session.
#[derive(Debug)]
pub struct Tape {
    /// Whether it answers more than one gradient.
    pub persistent: bool,
    /// Whether reading a trainable variable watches it.
    pub watch_accessed_variables: bool,
    /// The thread of execution that it listens to.
    pub scope: u32,
    since: u64,
    status: Status,
    trace: Trace,
    variables: BTreeSet<ValueId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Fresh,
    Recording,
    Stopped,
    Consumed,
}

impl Tape {
    /// A tape that was never started.
    pub fn new(persistent: bool, watch_accessed_variables: bool, scope: u32) -> Self {
        let (trace, variables) = (Trace::default(), BTreeSet::new());
        Self {
            persistent,
            watch_accessed_variables,
            scope,
            since: 0,
            status: Status::Fresh,
            trace,
            variables,
        }
    }

    /// Whether it hears of what happens in a scope.
    pub fn hears(&self, scope: u32) -> bool {
        self.status == Status::Recording && self.scope == scope
    }

    /// When it last started, counted in starts.
    pub fn since(&self) -> u64 {
        self.since
    }

    /// Starts or continues recording. A one-shot tape that is used up begins a new, empty trace.
    pub fn resume(&mut self, scope: u32, since: u64) -> Result<(), Error> {
        if self.status == Status::Recording {
            return Err(Error::TapeRecording);
        }
        (self.status, self.scope, self.since) = (Status::Recording, scope, since);
        Ok(())
    }

    /// Stops recording. On a tape that is not recording it does nothing, or fails if `strict`.
    pub fn stop(&mut self, strict: bool) -> Result<(), Error> {
        match self.status {
            Status::Recording => self.status = Status::Stopped,
            Status::Fresh if strict => return Err(Error::TapeNeverStarted),
            Status::Consumed if strict => return Err(Error::TapeConsumed),
            Status::Stopped if strict => return Err(Error::TapeNotRecording),
            Status::Fresh | Status::Consumed | Status::Stopped => {}
        }
        Ok(())
    }

    /// Empties the trace, the watches and the watched variables of a recording tape.
    pub fn reset(&mut self) -> Result<(), Error> {
        if self.status != Status::Recording {
            return Err(Error::TapeNotRecording);
        }
        self.trace = Trace::default();
        self.variables.clear();
        Ok(())
    }

    /// Checks that a gradient may be asked for.
    pub fn check_usable(&self) -> Result<(), Error> {
        match self.status {
            Status::Fresh => Err(Error::TapeNeverStarted),
            Status::Consumed => Err(Error::TapeConsumed),
            Status::Recording | Status::Stopped => Ok(()),
        }
    }

    /// Watches a value. It must have been started and not be used up.
    pub fn watch(&mut self, id: ValueId, aval: &Aval) -> Result<(), Error> {
        self.check_usable()?;
        self.trace.watch(id, aval);
        Ok(())
    }

    /// Hears of the reading of a variable, before the node of the read itself.
    pub fn accessed(&mut self, variable: ValueId, aval: &Aval, trainable: bool) {
        if trainable && self.watch_accessed_variables {
            self.trace.watch(variable, aval);
        }
        if self.trace.index.contains_key(&variable) {
            self.variables.insert(variable);
        }
    }

    /// Remembers that a variable was watched by name.
    pub fn watched_variable(&mut self, variable: ValueId) {
        self.variables.insert(variable);
    }

    /// The variables watched, in the order of their creation.
    pub fn variables(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.variables.iter().copied()
    }

    /// Uses up a one-shot tape: the trace goes, the watched variables stay known.
    pub fn consume(&mut self) {
        if !self.persistent {
            self.status = Status::Consumed;
            self.trace = Trace::default();
        }
    }

    /// A one-shot tape stops before its gradient is computed, so that it does not record that gradient.
    pub fn pause_for_gradient(&mut self) -> bool {
        let pauses = !self.persistent && self.status == Status::Recording;
        if pauses {
            self.status = Status::Stopped;
        }
        pauses
    }

    /// What was recorded.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What was recorded, to record more.
    pub fn trace_mut(&mut self) -> &mut Trace {
        &mut self.trace
    }
}

/// Number of an entry.
pub type EntryIndex = usize;

/// The recording itself.
#[derive(Debug, Default)]
pub struct Trace {
    /// Values that the trace knows; those that nothing needs any more have no identity.
    pub(crate) entries: Vec<Entry>,
    /// Recorded applications; those that nothing needs any more are gone.
    pub(crate) nodes: Vec<Option<Node>>,
    index: HashMap<ValueId, EntryIndex>,
    removed: usize,
    /// Ops in the bodies that nodes hold: they count as nodes.
    weight: usize,
    charges: Vec<Charge>,
}

/// A value that was watched or computed from one that was.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: ValueId,
    pub(crate) aval: Aval,
    producer: Option<usize>,
    consumers: u32,
    held: bool,
}

/// What a node applied.
#[derive(Clone, Debug)]
pub enum Applied {
    /// An op.
    Op(&'static OpDef, Attrs),
    /// What the client says: the outputs are its own, and the function of what flows into them is what flows into the
    /// inputs.
    Custom(Arc<Function>),
    /// A function whose intermediate values are not kept, but computed again.
    Recomputed(Arc<Function>),
}

impl Applied {
    /// How many nodes it counts as beside its own.
    pub(crate) fn weight(&self) -> usize {
        if let Self::Op(_, attrs) = self { attrs.weight() } else { 0 }
    }

    /// What reading a variable is.
    pub fn identity() -> Self {
        Self::Op(&IDENTITY, Attrs::default())
    }

    /// The op, if it is one.
    pub fn op(&self) -> Option<&'static OpDef> {
        match self {
            Self::Op(op, _) => Some(op),
            Self::Custom(_) | Self::Recomputed(_) => None,
        }
    }

    /// The op's name, or what it is instead.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Op(op, _) => op.name,
            Self::Custom(_) => "custom_gradient",
            Self::Recomputed(_) => "function",
        }
    }

    /// Whether it is this op.
    pub fn is(&self, op: &'static OpDef) -> bool {
        self.op().is_some_and(|own| std::ptr::eq(own, op))
    }

    /// Whether gradients pass through it at all.
    pub fn passes(&self) -> bool {
        self.op().is_none_or(|op| !matches!(op.derivative, Derivative::None))
    }

    /// What its rules read to give cotangents to the inputs named by `needs`.
    fn reads(&self, needs: &[bool]) -> Reads {
        match self {
            Self::Op(op, _) => reads(&op.derivative, needs),
            Self::Custom(_) => Reads::NONE,
            Self::Recomputed(_) => Reads::X,
        }
    }
}

/// One recorded application.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) applied: Applied,
    /// The client's mark of the command that ran it.
    pub(crate) tag: Arc<str>,
    pub(crate) inputs: SmallVec<[NodeInput; 2]>,
    pub(crate) outputs: SmallVec<[NodeOutput; 1]>,
}

/// An input of a node, on the tape or a constant to it.
#[derive(Debug)]
pub(crate) struct NodeInput {
    pub(crate) entry: Option<EntryIndex>,
    pub(crate) id: ValueId,
    pub(crate) aval: Aval,
    pub(crate) tensor: Option<Tensor>,
}

/// An output of a node.
#[derive(Debug)]
pub(crate) struct NodeOutput {
    pub(crate) entry: EntryIndex,
    pub(crate) tensor: Option<Tensor>,
}

/// Which values the rules of an op will read to give cotangents to the inputs named by `needs`.
pub(crate) fn reads(derivative: &Derivative, needs: &[bool]) -> Reads {
    match *derivative {
        Derivative::None | Derivative::Zero => Reads::NONE,
        Derivative::Linear { reads, .. } | Derivative::Custom { reads, .. } => reads,
        Derivative::Elementwise(partials) => {
            let needed = partials.iter().zip(needs).filter(|&(_, &needed)| needed);
            needed.fold(Reads::NONE, |all, (partial, _)| all.and(partial.reads))
        }
        Derivative::Multilinear { .. } => {
            let others = [Reads::X1, Reads::X0];
            let needed = others.iter().zip(needs).filter(|&(_, &needed)| needed);
            needed.fold(Reads::NONE, |all, (&other, _)| all.and(other))
        }
    }
}

impl Trace {
    /// The entry of a value, if the trace knows it.
    pub fn entry(&self, id: ValueId) -> Option<EntryIndex> {
        self.index.get(&id).copied()
    }

    /// Makes room for nodes and pays for it, before anything is computed.
    pub fn reserve(&mut self, ledger: &Arc<Ledger>, nodes: usize) -> Result<(), Error> {
        let wanted = self.nodes.len().saturating_add(self.weight).saturating_add(nodes);
        if wanted > MAX_NODES {
            return Err(Error::TooMany { what: "nodes on the tape", limit: MAX_NODES });
        }
        while self.charges.len() * BLOCK_NODES < wanted {
            self.charges.push(ledger.reserve(BLOCK_NODES as u64 * NODE_BYTES)?);
        }
        Ok(())
    }

    /// Starts following a value. It never replaces what is known of it.
    fn watch(&mut self, id: ValueId, aval: &Aval) {
        if !self.index.contains_key(&id) {
            self.add(id, aval.clone(), None, true);
        }
    }

    fn add(&mut self, id: ValueId, aval: Aval, producer: Option<usize>, held: bool) -> EntryIndex {
        let entry = self.entries.len();
        self.entries.push(Entry { id, aval, producer, consumers: 0, held });
        self.index.insert(id, entry);
        entry
    }

    /// Records an application if it has an input that the trace follows. `held` says whether clients can name the
    /// outputs.
    pub fn record(
        &mut self,
        (applied, tag): (&Applied, &Arc<str>),
        inputs: &[(ValueId, &Tensor)],
        outputs: &[(ValueId, &Tensor)],
        held: bool,
    ) {
        let entries: SmallVec<[Option<EntryIndex>; 4]> =
            inputs.iter().map(|&(id, _)| self.entry(id)).collect();
        if entries.iter().all(Option::is_none) {
            return;
        }
        let needs: SmallVec<[bool; 4]> = entries
            .iter()
            .zip(inputs)
            .map(|(entry, (_, tensor))| entry.is_some() && tensor.dtype().is_differentiable())
            .collect();
        let reads = if needs.contains(&true) { applied.reads(&needs) } else { Reads::NONE };
        let node = self.nodes.len();
        let inputs = inputs
            .iter()
            .zip(entries)
            .enumerate()
            .map(|(i, (&(id, tensor), entry))| {
                if let Some(entry) = entry {
                    self.entries[entry].consumers += 1;
                }
                NodeInput {
                    entry,
                    id,
                    aval: tensor.aval(),
                    tensor: reads.input(i).then(|| tensor.clone()),
                }
            })
            .collect();
        let outputs = outputs
            .iter()
            .map(|&(id, tensor)| {
                let entry = self.add(id, tensor.aval(), Some(node), held);
                NodeOutput { entry, tensor: reads.output().then(|| tensor.clone()) }
            })
            .collect();
        self.weight += applied.weight();
        self.nodes.push(Some(Node {
            applied: applied.clone(),
            tag: Arc::clone(tag),
            inputs,
            outputs,
        }));
    }

    /// Marks a value as one that clients can name.
    pub fn hold(&mut self, id: ValueId) {
        if let Some(entry) = self.entry(id) {
            self.entries[entry].held = true;
        }
    }

    /// Hears that clients can no longer name a value, and forgets what nothing needs any more.
    pub fn release(&mut self, id: ValueId) {
        let Some(entry) = self.entry(id) else { return };
        self.entries[entry].held = false;
        let mut doubtful = vec![entry];
        while let Some(entry) = doubtful.pop() {
            if self.is_needed(entry) || !self.index.contains_key(&self.entries[entry].id) {
                continue;
            }
            let Some(producer) = self.entries[entry].producer else {
                self.forget(entry);
                continue;
            };
            let unused =
                |node: &Node| node.outputs.iter().all(|output| !self.is_needed(output.entry));
            if self.nodes[producer].as_ref().is_some_and(unused)
                && let Some(node) = self.nodes[producer].take()
            {
                self.weight -= node.applied.weight();
                node.outputs.iter().for_each(|output| self.forget(output.entry));
                for input in node.inputs.iter().filter_map(|input| input.entry) {
                    self.entries[input].consumers -= 1;
                    doubtful.push(input);
                }
            }
        }
        if self.removed > 1024 && self.removed > self.entries.len() / 2 {
            self.compact();
        }
    }

    fn is_needed(&self, entry: EntryIndex) -> bool {
        self.entries[entry].held || self.entries[entry].consumers > 0
    }

    fn forget(&mut self, entry: EntryIndex) {
        self.index.remove(&self.entries[entry].id);
        self.removed += 1;
    }

    /// Closes the gaps, so that a tape that records for hours does not grow.
    fn compact(&mut self) {
        let mut new_entry = vec![usize::MAX; self.entries.len()];
        let mut new_node = vec![usize::MAX; self.nodes.len()];
        let index = &self.index;
        let mut kept = 0;
        for (i, entry) in self.entries.iter().enumerate() {
            if index.get(&entry.id) == Some(&i) {
                new_entry[i] = kept;
                kept += 1;
            }
        }
        let mut nodes = Vec::new();
        for (i, node) in std::mem::take(&mut self.nodes).into_iter().enumerate() {
            let Some(mut node) = node else { continue };
            new_node[i] = nodes.len();
            for input in &mut node.inputs {
                input.entry = input.entry.map(|entry| new_entry[entry]);
            }
            for output in &mut node.outputs {
                output.entry = new_entry[output.entry];
            }
            nodes.push(Some(node));
        }
        self.nodes = nodes;
        let entries = std::mem::take(&mut self.entries);
        self.entries = entries
            .into_iter()
            .enumerate()
            .filter(|&(i, _)| new_entry[i] != usize::MAX)
            .map(|(_, e)| e)
            .collect();
        for (i, entry) in self.entries.iter_mut().enumerate() {
            entry.producer = entry.producer.map(|node| new_node[node]);
            self.index.insert(entry.id, i);
        }
        self.give_back();
        self.removed = 0;
    }

    /// Gives back the room that was reserved for nodes that did not come.
    pub fn give_back(&mut self) {
        self.charges.truncate((self.nodes.len() + self.weight).div_ceil(BLOCK_NODES));
    }

    /// The values whose elements are kept for derivative rules.
    pub fn kept(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.nodes.iter().flatten().flat_map(|node| {
            let inputs = node.inputs.iter().filter(|x| x.tensor.is_some()).map(|x| x.id);
            let outputs = node.outputs.iter().filter(|y| y.tensor.is_some());
            inputs.chain(outputs.map(|y| self.entries[y.entry].id))
        })
    }

    /// Number of nodes kept.
    pub fn len(&self) -> usize {
        self.nodes.iter().flatten().count()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Values and tensors as `record` takes them.
pub fn pair(value: &Value) -> (ValueId, &Tensor) {
    (value.id, &value.tensor)
}
