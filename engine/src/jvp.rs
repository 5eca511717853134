//! Forward mode: from a trace to the program of a directional derivative.

use smallvec::{SmallVec, smallvec};

use crate::{
    error::Error,
    gradient::{Inflow, brief, operand, operands, own, pull_back},
    graph::{Graph, Operand, Program, Value, ValueId, Var},
    op::{Cotangent, Derivative, OpDef, Rule, Vars},
    tape::{Applied, Node, Trace},
};

/// An application that ran.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What.
    pub applied: Applied,
    /// Its inputs.
    pub inputs: SmallVec<[Value; 3]>,
    /// Its outputs.
    pub outputs: SmallVec<[Value; 1]>,
}

impl Ran {
    /// An application.
    pub fn new(
        applied: Applied,
        inputs: impl IntoIterator<Item = Value>,
        outputs: impl IntoIterator<Item = Value>,
    ) -> Self {
        let (inputs, outputs) = (inputs.into_iter().collect(), outputs.into_iter().collect());
        Self { applied, inputs, outputs }
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
        let x: Vars = ran.inputs.iter().map(bring).collect();
        let y: Vars = ran.outputs.iter().map(bring).collect();
        let tangents: SmallVec<[Option<Var>; 4]> =
            tangents.iter().map(|tangent| tangent.as_ref().map(bring)).collect();
        let mut used = graph.operand_slots();
        let results = along(&graph, &ran.applied, (x, y), &tangents);
        results.into_iter().map(|result| result.map(|var| own(var, &mut used))).collect()
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
    let (x, y) = operands(graph, trace, node);
    for (output, tangent) in node.outputs.iter().zip(along(graph, &node.applied, (x, y), &tangents))
    {
        known[output.entry] = tangent.or(known[output.entry]);
    }
}

/// The tangents of an application's differentiable outputs, from its inputs, its outputs and the tangents of its inputs.
pub(crate) fn along<'g>(
    graph: &'g Graph,
    applied: &Applied,
    (x, y): (Vars<'g>, Vars<'g>),
    tangents: &[Option<Var<'g>>],
) -> SmallVec<[Option<Var<'g>>; 2]> {
    let differentiable = |var: &Var| var.dtype().is_differentiable();
    match applied {
        Applied::Op(op, attrs) => {
            let needs = tangents.iter().map(Option::is_some).collect();
            let kept: SmallVec<[bool; 2]> = y.iter().map(differentiable).collect();
            let rule = Rule { attrs, x: brief(&x), y: brief(&y), needs };
            let results = rules(op, &rule, tangents);
            let mut found: SmallVec<[Option<Var<'g>>; 2]> = smallvec![None; kept.len()];
            for ((found, result), kept) in found.iter_mut().zip(results).zip(kept) {
                *found = kept.then(|| graph.var(result.slot()));
            }
            found
        }
        Applied::Custom(function) => {
            // What flows back is linear in what flows in; its transpose is what goes forwards.
            let zeros: Vars = y.iter().map(|y| y.zeros()).collect();
            let written = function.write(graph, &zeros);
            let seeds =
                function.results().iter().zip(tangents).filter_map(|(&result, &tangent)| {
                    Some((result?, Inflow::from(Cotangent::from(tangent?))))
                });
            let flows = pull_back(graph, function, &written, seeds, function.parameters());
            let found = flows.into_iter().zip(&y);
            found.map(|(flow, y)| flow.dense(&y.aval()).filter(|_| differentiable(y))).collect()
        }
        Applied::Recomputed(function) => {
            let written = function.write(graph, &x);
            let mut known: Vec<Option<Var<'g>>> = vec![None; written.0.len()];
            for (slot, &tangent) in function.inputs().zip(tangents) {
                known[slot] = tangent;
            }
            for application in &function.program().applications {
                let of = |slots: &[usize]| -> Option<Vars<'g>> {
                    slots.iter().map(|&slot| written.0[slot]).collect()
                };
                let (Some(x), Some(y)) = (of(&application.inputs), of(&application.outputs)) else {
                    continue;
                };
                let tangents: SmallVec<[Option<Var<'g>>; 4]> =
                    application.inputs.iter().map(|&slot| known[slot]).collect();
                if tangents.iter().any(Option::is_some) {
                    let applied = Applied::Op(application.op, application.attrs.clone());
                    let found = along(graph, &applied, (x, y), &tangents);
                    for (&slot, tangent) in application.outputs.iter().zip(found) {
                        known[slot] = tangent;
                    }
                }
            }
            function.results().iter().map(|result| result.and_then(|slot| known[slot])).collect()
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
