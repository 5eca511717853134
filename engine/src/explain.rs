//! Why there is a gradient, or why there is none: the path that carries it, or the path to its first break.

use std::sync::Arc;

use crate::{
    aval::Aval,
    command::AbsentReason,
    graph::ValueId,
    ops::STOP_GRADIENT,
    tape::{Node, Trace},
};

/// Most hops that an answer has; the middle of a longer path is left out.
pub const MAX_HOPS: usize = 256;

/// One op of a path.
#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    /// The op, or `custom_gradient` or `function`.
    pub op: &'static str,
    /// What it made.
    pub output: Aval,
    /// The client's mark of the command that recorded it.
    pub tag: Arc<str>,
}

/// What there is to say about a target and a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Why there is no gradient, if there is none.
    pub reason: Option<AbsentReason>,
    /// From the source to the target, or to the op at which it ends.
    pub path: Vec<Hop>,
    /// How many hops in the middle are left out.
    pub elided: usize,
}

/// How far something of the source has come.
#[derive(Clone, Copy)]
struct Step {
    node: Option<usize>,
    from: usize,
    open: bool,
}

/// Follows a source forwards to a target.
pub fn explain(
    trace: &Trace,
    (target, target_aval): (ValueId, &Aval),
    (source, source_aval): (ValueId, &Aval),
) -> Explanation {
    let none = |reason| Explanation { reason: Some(reason), path: Vec::new(), elided: 0 };
    if !source_aval.dtype.is_differentiable() || !target_aval.dtype.is_differentiable() {
        return none(AbsentReason::DType);
    }
    if source == target {
        return Explanation { reason: None, path: Vec::new(), elided: 0 };
    }
    let Some(start) = trace.entry(source) else { return none(AbsentReason::NotWatched) };
    let Some(end) = trace.entry(target) else { return none(AbsentReason::NoPath) };
    let mut steps: Vec<Option<Step>> = vec![None; trace.entries.len()];
    steps[start] = Some(Step { node: None, from: start, open: true });
    for (i, node) in trace.nodes.iter().enumerate() {
        let Some(node) = node else { continue };
        let reached = node.inputs.iter().filter_map(|input| input.entry);
        let reached = reached.filter_map(|entry| Some((entry, steps[entry]?)));
        // A way on which the gradient passes is better than one on which it does not.
        let Some((from, step)) = reached.max_by_key(|(_, step)| step.open) else { continue };
        for output in &node.outputs {
            let open = step.open
                && node.applied.passes()
                && !node.applied.is(&STOP_GRADIENT)
                && trace.entries[output.entry].aval.dtype.is_differentiable();
            if steps[output.entry].is_none() {
                steps[output.entry] = Some(Step { node: Some(i), from, open });
            }
        }
    }
    let Some(last) = steps[end] else { return none(AbsentReason::NoPath) };
    let mut path = Vec::new();
    let (mut entry, mut step) = (end, last);
    let mut reason = None;
    while let Some(i) = step.node {
        let Some(node) = &trace.nodes[i] else { break };
        let Some(before) = steps[step.from] else { break };
        if before.open && !step.open {
            // What follows the first break does not matter.
            path.clear();
            let stops = node.applied.is(&STOP_GRADIENT);
            reason =
                Some(if stops { AbsentReason::StopGradient } else { AbsentReason::NoDerivative });
        }
        path.push(hop(trace, node, entry));
        (entry, step) = (step.from, before);
    }
    path.reverse();
    let elided = path.len().saturating_sub(MAX_HOPS);
    if elided > 0 {
        path.drain(MAX_HOPS / 2..MAX_HOPS / 2 + elided);
    }
    Explanation { reason, path, elided }
}

fn hop(trace: &Trace, node: &Node, entry: usize) -> Hop {
    Hop {
        op: node.applied.name(),
        output: trace.entries[entry].aval.clone(),
        tag: Arc::clone(&node.tag),
    }
}
