//! From applications to steps: elementwise ops of one shape become chains, in an order that respects who reads whom.
//!
//! Each application gets a height: how many borders lie on the longest way from it to the end, where a border is every
//! edge but those between elementwise ops of one shape. Ops of one shape and one height that feed each other are one
//! chain. So an op is computed where it is read and not where it is written in the program, which keeps fewer values alive;
//! and no way leads out of a chain and back into it, since every way out goes down.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{Step, Work};
use crate::{
    aval::{Aval, Avals},
    dtype::DType,
    error::Error,
    exec,
    graph::Application,
    kernels::{
        block::MAX_INPUTS,
        chain::{Chain, Instruction, Source},
    },
    op::{BlockKernel, Call, Cost, Kernel},
};

/// Most ops of one chain. Longer ones would need more registers than the cache holds.
const MAX_CHAIN: usize = 64;

/// The steps that run the applications.
pub(super) fn steps(
    avals: &[Aval],
    applications: &[Application],
    wanted: &[usize],
    fusion: bool,
) -> Result<Vec<Step>, Error> {
    let writer = Writer { avals, fusion, applications, outside: vec![] };
    let producers = producers(avals.len(), applications);
    let nodes = writer.nodes(&producers);
    let node_of = {
        let mut node_of = vec![0; applications.len()];
        for (node, members) in nodes.iter().enumerate() {
            for &member in members {
                node_of[member] = node;
            }
        }
        node_of
    };
    let order = writer.order(&nodes, &node_of, &producers);
    // What is read outside of where it is computed must be written to memory.
    let mut outside = vec![false; avals.len()];
    for &slot in wanted {
        outside[slot] = true;
    }
    for (i, application) in applications.iter().enumerate() {
        for &slot in &application.inputs {
            outside[slot] |= producers[slot].is_none_or(|producer| node_of[producer] != node_of[i]);
        }
    }
    let writer = Writer { outside, ..writer };
    order.into_iter().map(|node| writer.step(&nodes[node])).collect()
}

/// For each slot the application that fills it.
fn producers(slots: usize, applications: &[Application]) -> Vec<Option<usize>> {
    let mut producers = vec![None; slots];
    for (i, application) in applications.iter().enumerate() {
        application.outputs.iter().for_each(|&slot| producers[slot] = Some(i));
    }
    producers
}

struct Writer<'a> {
    avals: &'a [Aval],
    fusion: bool,
    applications: &'a [Application],
    /// The slots that are read outside of the chain that fills them.
    outside: Vec<bool>,
}

impl Writer<'_> {
    /// The loop of an application, if it is elementwise and its dtypes are those that loops know.
    fn kernel(&self, application: &Application) -> Option<BlockKernel> {
        let Kernel::Elementwise(blocks) = application.op.kernel else { return None };
        let mut slots = application.inputs.iter().chain(&application.outputs);
        let half = slots.clone().any(|&slot| self.avals[slot].dtype.is_half());
        if half || application.inputs.len() > MAX_INPUTS {
            return None;
        }
        blocks(self.avals[*slots.next()?].dtype)
    }

    /// Groups of applications, each a chain or one alone. Members are in the order of the program.
    fn nodes(&self, producers: &[Option<usize>]) -> Vec<Vec<usize>> {
        let count = self.applications.len();
        let elementwise: Vec<bool> = self
            .applications
            .iter()
            .map(|application| self.fusion && self.kernel(application).is_some())
            .collect();
        let shape = |i: usize| &self.avals[self.applications[i].outputs[0]].shape;
        let alike = |a: usize, b: usize| elementwise[a] && elementwise[b] && shape(a) == shape(b);
        let mut heights = vec![0_usize; count];
        for (i, application) in self.applications.iter().enumerate().rev() {
            for producer in application.inputs.iter().filter_map(|&slot| producers[slot]) {
                let border = usize::from(!alike(producer, i));
                heights[producer] = heights[producer].max(heights[i] + border);
            }
        }
        let mut sets = Sets((0..count).collect());
        let mut readers: HashMap<(usize, usize), usize> = HashMap::new();
        for (i, application) in
            self.applications.iter().enumerate().filter(|&(i, _)| elementwise[i])
        {
            for &slot in &application.inputs {
                if let Some(producer) = producers[slot]
                    && alike(producer, i)
                    && heights[producer] == heights[i]
                {
                    sets.join(producer, i);
                }
                // Who reads the same elements at the same time reads them once.
                if self.avals[slot].shape == *shape(i) {
                    let first = *readers.entry((slot, heights[i])).or_insert(i);
                    sets.join(first, i);
                }
            }
        }
        let mut by_set: HashMap<usize, usize> = HashMap::new();
        let mut nodes: Vec<Vec<usize>> = Vec::new();
        for i in 0..count {
            let node = *by_set.entry(sets.find(i)).or_insert(nodes.len());
            match nodes.get_mut(node) {
                Some(members) if members.len() < MAX_CHAIN => members.push(i),
                _ => {
                    // The rest of a long chain comes after its beginning.
                    by_set.insert(sets.find(i), nodes.len());
                    nodes.push(vec![i]);
                }
            }
        }
        nodes
    }

    /// An order in which everything comes after what it reads: that of the last members, as far as possible.
    fn order(
        &self,
        nodes: &[Vec<usize>],
        node_of: &[usize],
        producers: &[Option<usize>],
    ) -> Vec<usize> {
        let mut begin: Vec<usize> = (0..nodes.len()).collect();
        begin.sort_unstable_by_key(|&node| nodes[node].last().copied());
        let (mut visited, mut order) = (vec![false; nodes.len()], Vec::with_capacity(nodes.len()));
        for first in begin {
            // A stack of our own: programs may be deep.
            let mut stack = vec![(first, false)];
            while let Some((node, ready)) = stack.pop() {
                if ready {
                    order.push(node);
                } else if !std::mem::replace(&mut visited[node], true) {
                    stack.push((node, true));
                    let members = nodes[node].iter().rev();
                    for &slot in members.flat_map(|&i| self.applications[i].inputs.iter().rev()) {
                        if let Some(producer) = producers[slot]
                            && !visited[node_of[producer]]
                        {
                            stack.push((node_of[producer], false));
                        }
                    }
                }
            }
        }
        order
    }

    fn step(&self, members: &[usize]) -> Result<Step, Error> {
        match members {
            &[only] if !self.fusion || self.kernel(&self.applications[only]).is_none() => {
                Ok(self.single(&self.applications[only]))
            }
            _ => self.chain(members),
        }
    }

    fn single(&self, application: &Application) -> Step {
        let avals = |slots: &[usize]| -> Avals {
            slots.iter().map(|&slot| self.avals[slot].clone()).collect()
        };
        let (inputs, outputs) = (avals(&application.inputs), avals(&application.outputs));
        let Application { op, attrs, .. } = application;
        Step {
            cost: exec::cost(&Call { op, attrs, inputs: &inputs }, &outputs),
            inputs: application.inputs.iter().copied().collect(),
            outputs: application.outputs.iter().copied().collect(),
            dead: SmallVec::new(),
            room: 0,
            work: Work::Op(Box::new((application.clone(), inputs, outputs))),
        }
    }

    fn chain(&self, members: &[usize]) -> Result<Step, Error> {
        let mut last_use: HashMap<usize, usize> = HashMap::new();
        for &member in members {
            let reads = self.applications[member].inputs.iter();
            last_use.extend(reads.map(|&slot| (slot, member)));
        }
        let mut registers = Registers::default();
        let mut inputs: SmallVec<[usize; 4]> = SmallVec::new();
        let (mut instructions, mut flops) = (Vec::with_capacity(members.len()), 0_u64);
        let mut stored: SmallVec<[(usize, usize); 2]> = SmallVec::new();
        for &member in members {
            let application = &self.applications[member];
            let kernel = self
                .kernel(application)
                .ok_or_else(|| Error::bug("a chain of what is not elementwise"))?;
            let slot = application.outputs[0];
            // Taken before those of its inputs are given back: it is none of them.
            let output = registers.take(self.avals[slot].dtype);
            let source = |&slot: &usize| registers.source(slot, &mut inputs);
            let sources = application.inputs.iter().map(source).collect();
            for &read in &application.inputs {
                if last_use.get(&read) == Some(&member) && !self.outside[read] {
                    registers.give_back(read);
                }
            }
            registers.holding.insert(slot, output);
            flops = flops.saturating_add(self.single(application).cost.flops);
            let attrs = application.attrs.clone();
            instructions.push(Instruction { kernel, attrs, inputs: sources, output });
            if self.outside[slot] {
                stored.push((slot, output));
            }
        }
        let names = members.iter().map(|&member| self.applications[member].op.name).collect();
        let chain = Chain {
            shape: self.avals[self.applications[members[0]].outputs[0]].shape.clone(),
            instructions,
            registers: registers.dtypes,
            outputs: stored.iter().map(|&(_, register)| register).collect(),
        };
        Ok(Step {
            cost: Cost { flops, workspace: chain.workspace(inputs.len()) },
            inputs,
            outputs: stored.iter().map(|&(slot, _)| slot).collect(),
            dead: SmallVec::new(),
            room: 0,
            work: Work::Chain(chain, names),
        })
    }
}

/// The registers of a chain, and which slots they hold.
#[derive(Default)]
struct Registers {
    dtypes: Vec<DType>,
    free: Vec<usize>,
    holding: HashMap<usize, usize>,
}

impl Registers {
    /// A free register of this dtype, or a new one.
    fn take(&mut self, dtype: DType) -> usize {
        if let Some(at) = self.free.iter().rposition(|&register| self.dtypes[register] == dtype) {
            return self.free.remove(at);
        }
        self.dtypes.push(dtype);
        self.dtypes.len() - 1
    }

    /// Makes the register of a slot free, if it has one.
    fn give_back(&mut self, slot: usize) {
        self.free.extend(self.holding.remove(&slot));
    }

    /// Where a slot is read: its register, or its place among the inputs, which it gets if it has none.
    fn source(&self, slot: usize, inputs: &mut SmallVec<[usize; 4]>) -> Source {
        if let Some(&register) = self.holding.get(&slot) {
            return Source::Register(register);
        }
        let known = inputs.iter().position(|&input| input == slot);
        Source::Input(known.unwrap_or_else(|| {
            inputs.push(slot);
            inputs.len() - 1
        }))
    }
}

/// Sets that can be joined: each number leads to another of its set, the first of which leads to itself.
struct Sets(Vec<usize>);

impl Sets {
    fn find(&mut self, mut i: usize) -> usize {
        while self.0[i] != i {
            self.0[i] = self.0[self.0[i]];
            i = self.0[i];
        }
        i
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.0[a.max(b)] = a.min(b);
    }
}
