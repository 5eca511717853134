//! Patterns: what decides the program of a gradient, so that a program that was written can be used again.
//!
//! A loop that trains asks for the same gradients in each step, of a new trace with other values. Rules see dtypes and
//! shapes and never elements, so traces that are alike give programs that are alike, and what a rule reads is found at the
//! same place of each.

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::DefaultHashBuilder;
use smallvec::SmallVec;

use crate::{
    attrs::Attrs,
    aval::Aval,
    gradient::{Source, Target},
    graph::{Operand, Value, ValueId},
    op::OpDef,
    tape::{Applied, EntryIndex, Node, Trace},
};

/// Most nodes and ends of what is looked at: beyond, writing a program is little beside running it.
const MAX_LENGTH: usize = 4096;

/// A trace with the targets and sources of a gradient.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// What was recorded.
    pub trace: &'a Trace,
    /// What is differentiated.
    pub targets: &'a [Target],
    /// By what.
    pub sources: &'a [Source],
}

/// Where a value from outside of a program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This input of this node, as numbered in the trace.
    Input(usize, usize),
    /// This output.
    Output(usize, usize),
    /// The upstream gradient of this target.
    Seed(usize),
}

/// Everything that a gradient's program was written from.
#[derive(Debug)]
pub struct Pattern {
    applications: Vec<Application>,
    /// The targets, then the sources.
    ends: Vec<End>,
    targets: usize,
}

/// One recorded application.
#[derive(Debug)]
struct Application {
    /// Its number in the trace.
    node: usize,
    op: &'static OpDef,
    attrs: Attrs,
    inputs: SmallVec<[(Option<EntryIndex>, Aval); 2]>,
    outputs: SmallVec<[(EntryIndex, Aval); 1]>,
}

/// A target, or a source.
#[derive(Debug, PartialEq, Eq)]
struct End {
    place: Place,
    aval: Aval,
    /// Whether a target has an upstream gradient; whether that of a source may be sparse.
    mark: bool,
}

/// Which value a target or source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// One that the trace knows.
    Entry(EntryIndex),
    /// One that it does not know: the same as this end, counted from the first target on.
    Stranger(usize),
}

/// What was applied, unless it holds values by itself: functions and bodies of control flow do.
fn plain(node: &Node) -> Option<(&'static OpDef, &Attrs)> {
    let Applied::Op(op, attrs) = &node.applied else { return None };
    (attrs.weight() == 0).then_some((op, attrs))
}

impl<'a> Asked<'a> {
    /// Whether its program could be used again: it is short, and none of it holds values by itself.
    pub fn is_repeatable(&self) -> bool {
        self.trace.nodes.len() + self.targets.len() + self.sources.len() <= MAX_LENGTH
            && self.nodes().all(|(_, node)| plain(node).is_some())
    }

    /// A number that is the same for what is alike.
    pub fn fingerprint(&self, hasher: &DefaultHashBuilder) -> u64 {
        let mut state = hasher.build_hasher();
        for (i, node) in self.nodes() {
            state.write_usize(i);
            node.applied.op().map(std::ptr::from_ref).hash(&mut state);
            for input in &node.inputs {
                state.write_usize(input.entry.unwrap_or(usize::MAX));
            }
        }
        state.write_usize(self.targets.len());
        for (place, _, mark) in self.ends() {
            (place, mark).hash(&mut state);
        }
        state.finish()
    }

    /// The value that a program which was written from something alike begins with.
    pub fn value(&self, origin: Origin) -> Option<Value> {
        let node = |i: usize| self.trace.nodes.get(i)?.as_ref();
        let (id, tensor) = match origin {
            Origin::Input(i, input) => {
                let input = node(i)?.inputs.get(input)?;
                (input.id, input.tensor.as_ref())
            }
            Origin::Output(i, output) => {
                let output = node(i)?.outputs.get(output)?;
                (self.trace.entries[output.entry].id, output.tensor.as_ref())
            }
            Origin::Seed(i) => {
                let Operand { id, tensor } = self.targets.get(i)?.seed.as_ref()?;
                (*id, tensor.as_ref())
            }
        };
        Some(Value { id, tensor: tensor?.clone() })
    }

    fn nodes(&self) -> impl Iterator<Item = (usize, &'a Node)> {
        let nodes = self.trace.nodes.iter().enumerate();
        nodes.filter_map(|(i, node)| Some((i, node.as_ref()?)))
    }

    /// Targets, then sources.
    fn ends(&self) -> impl Iterator<Item = (Place, &'a Aval, bool)> {
        let targets = self.targets.iter().map(|end| (end.id, &end.aval, end.seed.is_some()));
        let sources = self.sources.iter().map(|end| (end.id, &end.aval, end.sparse));
        let mut strangers: SmallVec<[(ValueId, usize); 4]> = SmallVec::new();
        let trace = self.trace;
        targets.chain(sources).enumerate().map(move |(i, (id, aval, mark))| {
            let place = if let Some(entry) = trace.entry(id) {
                Place::Entry(entry)
            } else if let Some(&(_, first)) = strangers.iter().find(|(known, _)| *known == id) {
                Place::Stranger(first)
            } else {
                strangers.push((id, i));
                Place::Stranger(i)
            };
            (place, aval, mark)
        })
    }
}

impl Pattern {
    /// What is asked, without its values. Nothing, if some of it holds values by itself.
    pub fn of(asked: &Asked) -> Option<Self> {
        let application = |(node, recorded): (usize, &Node)| {
            let (op, attrs) = plain(recorded)?;
            let inputs = recorded.inputs.iter().map(|input| (input.entry, input.aval.clone()));
            let outputs = recorded
                .outputs
                .iter()
                .map(|output| (output.entry, asked.trace.entries[output.entry].aval.clone()));
            let (inputs, outputs) = (inputs.collect(), outputs.collect());
            Some(Application { node, op, attrs: attrs.clone(), inputs, outputs })
        };
        let applications = asked.nodes().map(application).collect::<Option<_>>()?;
        let end =
            |(place, aval, mark): (Place, &Aval, bool)| End { place, aval: aval.clone(), mark };
        let ends = asked.ends().map(end).collect();
        Some(Self { applications, ends, targets: asked.targets.len() })
    }

    /// How many parts it has.
    pub fn len(&self) -> usize {
        self.applications.len() + self.ends.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether what is asked gives the same program as what this is the pattern of.
    pub fn fits(&self, asked: &Asked) -> bool {
        let alike = |(own, (i, node)): (&Application, (usize, &Node))| own.is(i, node, asked.trace);
        let same = |(own, (place, aval, mark)): (&End, (Place, &Aval, bool))| {
            own.place == place && own.mark == mark && own.aval == *aval
        };
        asked.nodes().count() == self.applications.len()
            && asked.targets.len() == self.targets
            && self.targets + asked.sources.len() == self.ends.len()
            && self.applications.iter().zip(asked.nodes()).all(alike)
            && self.ends.iter().zip(asked.ends()).all(same)
    }
}

impl Application {
    fn is(&self, i: usize, node: &Node, trace: &Trace) -> bool {
        let Applied::Op(op, attrs) = &node.applied else { return false };
        self.node == i
            && std::ptr::eq(self.op, *op)
            && self.attrs.same_bits(attrs)
            && self.inputs.len() == node.inputs.len()
            && self.outputs.len() == node.outputs.len()
            && self
                .inputs
                .iter()
                .zip(&node.inputs)
                .all(|((entry, aval), input)| *entry == input.entry && *aval == input.aval)
            && self.outputs.iter().zip(&node.outputs).all(|((entry, aval), output)| {
                *entry == output.entry && *aval == trace.entries[output.entry].aval
            })
    }
}
