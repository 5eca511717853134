//! Forward mode: from a trace to the program of a directional derivative.

use smallvec::{SmallVec, smallvec};

use crate::{
    attrs::Attrs,
    error::Error,
    gradient::{operand, own},
    graph::{Graph, Operand, Program, Value, ValueId, Var},
    op::{Derivative, OpDef, Rule, Vars},
    tape::{Node, Trace},
};

/// An application that ran.
#[derive(Clone, Debug)]
pub struct Ran {
    /// The op.
    pub op: &'static OpDef,
    /// Its attributes.
    pub attrs: Attrs,
    /// Its inputs.
    pub inputs: SmallVec<[Value; 3]>,
    /// Its outputs.
    pub outputs: SmallVec<[Value; 1]>,
}

impl Ran {
    /// An application.
    pub fn new(
        op: &'static OpDef,
        attrs: &Attrs,
        inputs: impl IntoIterator<Item = Value>,
        outputs: impl IntoIterator<Item = Value>,
    ) -> Self {
        let (inputs, outputs) = (inputs.into_iter().collect(), outputs.into_iter().collect());
        Self { op, attrs: attrs.clone(), inputs, outputs }
    }
}

/// The values of a program that are the tangents of an application's outputs.
type Tangents = SmallVec<[Option<usize>; 2]>;

/// Writes the program of the tangents of one application's outputs, from those of its inputs. An output that nothing
/// reaches gives `None`.
pub fn through(ran: &Ran, tangents: &[Option<Value>]) -> Result<(Program, Tangents), Error> {
    let graph = Graph::default();
    let found = {
        let bring =
            |value: &Value| operand(&graph, &value.tensor.aval(), value.id, Some(&value.tensor));
        let rule = Rule {
            attrs: &ran.attrs,
            x: ran.inputs.iter().map(bring).collect(),
            y: ran.outputs.iter().map(bring).collect(),
            needs: tangents.iter().map(Option::is_some).collect(),
        };
        let tangents: SmallVec<[Option<Var>; 4]> =
            tangents.iter().map(|tangent| tangent.as_ref().map(bring)).collect();
        let mut used = graph.operand_slots();
        let mut found: SmallVec<[Option<usize>; 2]> = smallvec![None; ran.outputs.len()];
        let results = rules(ran.op, &rule, &tangents);
        for ((found, output), result) in found.iter_mut().zip(&ran.outputs).zip(results) {
            if output.tensor.array().dtype().is_differentiable() {
                *found = Some(own(result, &mut used));
            }
        }
        found
    };
    Ok((graph.finish()?, found))
}

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
        rules(node.op, &rule, &tangents).iter().map(|var| var.slot()).collect();
    for (output, slot) in node.outputs.iter().zip(results) {
        if trace.entries[output.entry].aval.dtype.is_differentiable() {
            known[output.entry] = Some(graph.var(slot));
        }
    }
}

/// The tangents of a node's outputs; none if nothing passes.
fn rules<'g>(op: &'static OpDef, rule: &Rule<'g>, tangents: &[Option<Var<'g>>]) -> Vars<'g> {
    let again = |inputs: &[Var<'g>]| inputs[0].op_all(op, rule.attrs.clone(), &inputs[1..]);
    match &op.derivative {
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
