//! Products of matrices that are computed together with the chain that reads them, while their rows lie in the cache.

use smallvec::SmallVec;

use super::{
    Step, Work,
    fuse::{Links, Registers, Writer, node_of},
};
use crate::{error::Error, graph::Application, kernels::block::BLOCK, op::Call, ops::linalg};

/// Most elements of a product that its chain finds in the cache of the first level anyway.
const LEAST: usize = 4 * BLOCK;

/// Who reads a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Nobody,
    Node(usize),
    Several,
}

impl Writer<'_> {
    /// The same steps in the same order, where a product of matrices that one chain of its shape alone reads is the first
    /// member of that. So it is computed later; it stays where it is if that would keep more memory in use.
    pub(super) fn with_products(
        &self,
        mut nodes: Vec<Vec<usize>>,
        producers: &[Option<usize>],
        wanted: &[usize],
    ) -> Vec<Vec<usize>> {
        let node_of = node_of(&nodes, self.applications.len());
        let (readers, last) = self.readers(&nodes, wanted);
        for node in 0..nodes.len() {
            let Some(&first) = nodes[node].first() else { continue };
            if self.kernel(&self.applications[first]).is_none() {
                continue;
            }
            let shape = &self.avals[self.applications[first].outputs[0]].shape;
            let fits = |&(slot, product): &(usize, usize)| {
                let application = &self.applications[product];
                let at = node_of[product];
                let dies = |&&input: &&usize| producers[input].is_some() && last[input] == Some(at);
                let kept = application.inputs.iter().filter(dies);
                let kept: u64 = kept.map(|&input| self.avals[input].bytes()).sum();
                readers[slot] == Reader::Node(node)
                    && self.avals[slot].shape == *shape
                    && (at + 1 == node || kept <= self.avals[slot].bytes())
                    && self.pieces(application).is_some()
            };
            let reads = nodes[node].iter().flat_map(|&member| &self.applications[member].inputs);
            let mut read = reads.filter_map(|&slot| Some((slot, producers[slot]?)));
            if let Some((_, product)) = read.find(fits) {
                nodes[node_of[product]].clear();
                nodes[node].insert(0, product);
            }
        }
        nodes.retain(|members| !members.is_empty());
        nodes
    }

    /// Who reads each slot, and which node is the last.
    fn readers(&self, nodes: &[Vec<usize>], wanted: &[usize]) -> (Vec<Reader>, Vec<Option<usize>>) {
        let mut readers = vec![Reader::Nobody; self.avals.len()];
        let mut last = vec![None; self.avals.len()];
        for &slot in wanted {
            readers[slot] = Reader::Several;
        }
        for (node, members) in nodes.iter().enumerate() {
            for &slot in members.iter().flat_map(|&member| &self.applications[member].inputs) {
                let here = Reader::Node(node);
                let known = readers[slot] == Reader::Nobody || readers[slot] == here;
                readers[slot] = if known { here } else { Reader::Several };
                last[slot] = Some(node);
            }
        }
        for &slot in wanted {
            last[slot] = None;
        }
        (readers, last)
    }

    /// Bytes that it takes to compute a product piece by piece, if that is worth it.
    fn pieces(&self, application: &Application) -> Option<u64> {
        let Application { op, attrs, inputs, outputs, .. } = application;
        let worth = self.fusion && self.avals[outputs[0]].shape.elements() > LEAST;
        let call = Call { op, attrs, inputs: &self.avals(inputs) };
        if worth { linalg::pieces(&call, &self.avals(outputs)) } else { None }
    }

    /// A product and the chain that it goes through.
    pub(super) fn product(&self, product: &Application, members: &[usize]) -> Result<Step, Error> {
        let slot = product.outputs[0];
        let mut registers = Registers::default();
        registers.hold(slot, self.avals[slot].dtype);
        let Links { chain, flops, inputs: others, outputs } =
            self.links(members, registers, Some(slot))?;
        let mut cost = self.single(product).cost;
        cost.flops = cost.flops.saturating_add(flops);
        cost.workspace = cost
            .workspace
            .saturating_add(chain.workspace(others.len()))
            .saturating_add(self.pieces(product).unwrap_or(0));
        let avals = (self.avals(&product.inputs), self.avals(&product.outputs));
        Ok(Step {
            cost,
            inputs: product.inputs.iter().copied().chain(others).collect(),
            outputs,
            dead: SmallVec::new(),
            room: 0,
            work: Work::Product(
                Box::new((product.clone(), avals.0, avals.1)),
                chain,
                self.names(members),
            ),
        })
    }
}
