//! From applications to steps: elementwise ops of one shape become chains, and so do the folds that read them, in an order
//! that respects who reads whom ([`groups`]).

mod groups;

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::{Step, Work};
use crate::{
    aval::{Aval, Avals, Shape},
    dtype::DType,
    error::Error,
    exec,
    graph::Application,
    kernels::{
        block::{BLOCK, MAX_INPUTS},
        chain::{Chain, Instruction, Reduction, Source},
        reduce,
    },
    op::{BeginFold, BlockKernel, Call, Cost, Kernel},
    ops::Reduce,
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
    // What is read outside of where it is computed must be written to memory.
    let mut outside = vec![false; avals.len()];
    for &slot in wanted {
        outside[slot] = true;
    }
    let mut writer = Writer { avals, fusion, applications, outside };
    let producers = producers(avals.len(), applications);
    let nodes = groups::Groups::new(&writer, &producers).nodes(MAX_CHAIN);
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
    for (i, application) in applications.iter().enumerate() {
        for &slot in &application.inputs {
            writer.outside[slot] |=
                producers[slot].is_none_or(|producer| node_of[producer] != node_of[i]);
        }
    }
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
    /// The slots that are read outside of the chain that fills them. Until chains are known, the results.
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

    /// The fold of an application, and the extents outside, of and inside of its axes, if a chain may end in it: there is
    /// more than a block to read, and the axes are neighbours. Less is in the first cache anyway, and has better ways in a
    /// frame.
    fn fold(&self, application: &Application) -> Option<(BeginFold, [usize; 3])> {
        let Kernel::Fold(_, begin) = application.op.kernel else { return None };
        let Aval { dtype, shape } = &self.avals[application.inputs[0]];
        if dtype.is_half() || shape.elements() <= BLOCK {
            return None;
        }
        let axes = shape.axes(&Reduce::read(&application.attrs).axis).ok()?;
        Some((begin, reduce::neighbours(shape, &axes)?))
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
        let folds = self.folds(members);
        let mut last_use: HashMap<usize, usize> = HashMap::new();
        for &member in members {
            let reads = self.applications[member].inputs.iter();
            last_use.extend(reads.map(|&slot| (slot, member)));
        }
        // Folds read when all instructions are done.
        let stays = |slot| self.outside[slot] || folds.iter().any(|fold| fold.from == slot);
        let mut registers = Registers::default();
        let mut inputs: SmallVec<[usize; 4]> = SmallVec::new();
        let mut instructions = Vec::with_capacity(members.len() - folds.len());
        let mut stored: SmallVec<[(usize, usize); 2]> = SmallVec::new();
        let folding = |member: &usize| folds.iter().any(|fold| fold.member == *member);
        for &member in members.iter().filter(|member| !folding(member)) {
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
                if last_use.get(&read) == Some(&member) && !stays(read) {
                    registers.give_back(read);
                }
            }
            registers.holding.insert(slot, output);
            let attrs = application.attrs.clone();
            instructions.push(Instruction { kernel, attrs, inputs: sources, output });
            if self.outside[slot] {
                stored.push((slot, output));
            }
        }
        let reductions = folds.iter().map(|fold| Reduction {
            begin: fold.begin,
            source: registers.source(fold.from, &mut inputs),
            dtype: self.avals[fold.from].dtype,
            result: self.avals[fold.into].clone(),
        });
        let chain = Chain {
            shape: self.chained(&self.applications[members[0]]).clone(),
            instructions,
            reductions: reductions.collect(),
            registers: registers.dtypes,
            outputs: stored.iter().map(|&(_, register)| register).collect(),
            extents: folds.first().map_or([1; 3], |fold| fold.extents),
        };
        let flops = members.iter().map(|&i| self.single(&self.applications[i]).cost.flops);
        let (last, first): (Vec<usize>, Vec<usize>) = members.iter().partition(|i| folding(i));
        let name = |i: usize| self.applications[i].op.name;
        let results = stored.iter().map(|&(slot, _)| slot);
        Ok(Step {
            cost: Cost {
                flops: flops.fold(0, u64::saturating_add),
                workspace: chain.workspace(inputs.len()),
            },
            inputs,
            outputs: results.chain(folds.iter().map(|fold| fold.into)).collect(),
            dead: SmallVec::new(),
            room: 0,
            work: Work::Chain(chain, first.into_iter().chain(last).map(name).collect()),
        })
    }

    /// The folds among the members of a chain.
    fn folds(&self, members: &[usize]) -> Vec<Fold> {
        let fold = |&member: &usize| {
            let application = &self.applications[member];
            let (begin, extents) = self.fold(application)?;
            let (from, into) = (application.inputs[0], application.outputs[0]);
            Some(Fold { member, begin, extents, from, into })
        };
        members.iter().filter_map(fold).collect()
    }

    /// The shape of the chain that an application may be part of.
    fn chained(&self, application: &Application) -> &Shape {
        let folds = matches!(application.op.kernel, Kernel::Fold(..));
        let slot = if folds { application.inputs[0] } else { application.outputs[0] };
        &self.avals[slot].shape
    }
}

/// A fold at the end of a chain, from which slot into which.
struct Fold {
    member: usize,
    begin: BeginFold,
    extents: [usize; 3],
    from: usize,
    into: usize,
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
