//! Forward mode: from a trace to the program of a directional derivative.

use smallvec::{SmallVec, smallvec};

use crate::{
    error::Error,
    gradient::operand,
    graph::{Graph, Operand, Program, Value, ValueId, Var},
    op::{Derivative, Rule, Vars},
    tape::{Node, Trace},
};

/// Writes the program of the tangents of `targets` along the given tangents of sources. A target without a path gives
/// `None`.
pub fn jvp(
    trace: &Trace,
    targets: &[ValueId],
    tangents: &[(ValueId, Value)],
) -> Result<(Program, Vec<Option<usize>>), Error> {
    let graph = Graph::default();
    let found = {
        let mut known: Vec<Option<Var>> = vec![None; trace.entries.len()];
        for (source, tangent) in tangents {
            if let Some(entry) = trace.entry(*source) {
                let seed = Operand { id: tangent.id, tensor: Some(tangent.tensor.clone()) };
                known[entry] = Some(graph.operand(tangent.tensor.aval(), seed));
            }
        }
        for node in trace.nodes.iter().flatten() {
            push(&graph, trace, node, &mut known);
        }
        targets
            .iter()
            .map(|&id| trace.entry(id).and_then(|entry| known[entry]).map(Var::slot))
            .collect()
    };
    Ok((graph.finish()?, found))
}

/// Sends the tangents of a node's inputs on to its outputs.
fn push<'g>(graph: &'g Graph, trace: &Trace, node: &Node, known: &mut [Option<Var<'g>>]) {
    let tangents: SmallVec<[Option<Var<'g>>; 4]> =
        node.inputs.iter().map(|input| input.entry.and_then(|entry| known[entry])).collect();
    if tangents.iter().all(Option::is_none) {
        return;
    }
    let rule = Rule {
        attrs: &node.attrs,
        x: node
            .inputs
            .iter()
            .map(|input| operand(graph, &input.aval, input.id, input.tensor.as_ref()))
            .collect(),
        y: node
            .outputs
            .iter()
            .map(|output| {
                let entry = &trace.entries[output.entry];
                operand(graph, &entry.aval, entry.id, output.tensor.as_ref())
            })
            .collect(),
        needs: tangents.iter().map(Option::is_some).collect(),
    };
    let results: SmallVec<[usize; 2]> =
        rules(node, &rule, &tangents).iter().map(|var| var.slot()).collect();
    for (output, slot) in node.outputs.iter().zip(results) {
        if trace.entries[output.entry].aval.dtype.is_differentiable() {
            known[output.entry] = Some(graph.var(slot));
        }
    }
}

/// The tangents of a node's outputs; none if nothing passes.
fn rules<'g>(node: &Node, rule: &Rule<'g>, tangents: &[Option<Var<'g>>]) -> Vars<'g> {
    let again = |inputs: &[Var<'g>]| inputs[0].op_all(node.op, rule.attrs.clone(), &inputs[1..]);
    match &node.op.derivative {
        Derivative::None => smallvec![],
        Derivative::Zero => rule.y.iter().map(|y| y.zeros()).collect(),
        Derivative::Elementwise(partials) => {
            let terms = partials
                .iter()
                .zip(tangents)
                .filter_map(|(partial, t)| t.map(|t| (partial.of)(rule) * t));
            let shape = rule.y().shape();
            terms
                .reduce(|sum, next| sum + next)
                .map(|t| t.broadcast_to(&shape))
                .into_iter()
                .collect()
        }
        Derivative::Linear { .. } => {
            let inputs: Vars = rule
                .x
                .iter()
                .zip(tangents)
                .map(|(&x, t)| {
                    t.unwrap_or_else(|| if x.dtype().is_differentiable() { x.zeros() } else { x })
                })
                .collect();
            again(&inputs)
        }
        Derivative::Multilinear { .. } => {
            let terms = tangents.iter().enumerate().filter_map(|(i, t)| {
                t.map(|t| {
                    let mut inputs = rule.x.clone();
                    inputs[i] = t;
                    again(&inputs)[0]
                })
            });
            terms.reduce(|sum, next| sum + next).into_iter().collect()
        }
        Derivative::Custom { jvp, .. } => jvp(rule, tangents),
    }
}
