//! Reverse mode: from a trace to the program of a gradient.
//!
//! The sweep goes through nodes in the reverse of the order in which they ran, so the same trace gives the same program and
//! the same bits. It only writes a program; nothing is computed here.

use hashbrown::{HashMap, HashSet};
use smallvec::{SmallVec, smallvec};

use crate::{
    aval::Aval,
    command::AbsentReason,
    dtype::DType,
    error::Error,
    function::{Function, Written},
    graph::{Graph, Operand, Program, ValueId, Var},
    op::{Cotangent, Cotangents, Derivative, Rule, Vars},
    ops::{CONCAT, IDENTITY, Join, STOP_GRADIENT, scatter_sum},
    pattern::Origin,
    tape::{Applied, Node, Trace},
};

/// A target and what flows into it.
#[derive(Debug)]
pub struct Target {
    /// The value, or a variable.
    pub id: ValueId,
    /// Its dtype and shape.
    pub aval: Aval,
    /// The upstream gradient; ones if there is none.
    pub seed: Option<Operand>,
}

/// A source.
#[derive(Debug)]
pub struct Source {
    /// The value, or a variable.
    pub id: ValueId,
    /// Its dtype and shape.
    pub aval: Aval,
    /// Whether the gradient may be sparse.
    pub sparse: bool,
}

/// Where a program leaves one gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// In this slot.
    Dense(usize),
    /// In these slots.
    Rows {
        /// The rows.
        values: usize,
        /// Their numbers.
        indices: usize,
    },
    /// Nowhere.
    Absent(AbsentReason),
}

impl Found {
    /// The slots of a gradient.
    pub fn slots(&self) -> SmallVec<[usize; 2]> {
        match *self {
            Self::Dense(slot) => smallvec![slot],
            Self::Rows { values, indices } => smallvec![values, indices],
            Self::Absent(_) => smallvec![],
        }
    }
}

/// The program of a gradient.
#[derive(Debug)]
pub struct Gradient {
    /// What computes it.
    pub program: Program,
    /// Where it leaves the gradient of each source.
    pub found: Vec<Found>,
    /// Which slots hold values from outside, and where those come from.
    pub origins: Vec<(usize, Origin)>,
}

/// Writes the program of a gradient.
pub fn gradient(trace: &Trace, targets: &[Target], sources: &[Source]) -> Result<Gradient, Error> {
    let graph = Graph::default();
    let (found, origins) = Sweep::new(&graph, trace, targets, sources).run();
    Ok(Gradient { program: graph.finish()?, found, origins })
}

/// What flows into one value, collected from its consumers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inflow<'g> {
    dense: Option<Var<'g>>,
    rows: SmallVec<[(Var<'g>, Var<'g>); 1]>,
}

impl<'g> From<Cotangent<'g>> for Inflow<'g> {
    fn from(cotangent: Cotangent<'g>) -> Self {
        let mut inflow = Self::default();
        inflow.add(cotangent);
        inflow
    }
}

impl<'g> Inflow<'g> {
    fn is_empty(&self) -> bool {
        self.dense.is_none() && self.rows.is_empty()
    }

    fn join(&mut self, other: Self) {
        other.dense.into_iter().for_each(|var| self.add(var.into()));
        self.rows.extend(other.rows);
    }

    fn add(&mut self, cotangent: Cotangent<'g>) {
        match cotangent {
            Cotangent::Dense(var) => self.dense = Some(self.dense.map_or(var, |sum| sum + var)),
            Cotangent::Rows { values, indices } => self.rows.push((values, indices)),
        }
    }

    /// All of it as one tensor.
    pub(crate) fn dense(self, aval: &Aval) -> Option<Var<'g>> {
        let extent = aval.shape.first().copied().unwrap_or(1);
        let rows =
            self.rows.into_iter().map(|(values, indices)| scatter_sum(values, indices, extent));
        self.dense.into_iter().chain(rows).reduce(|sum, next| sum + next)
    }

    /// All of it as rows, if nothing dense is there.
    fn rows(&self) -> Option<(Var<'g>, Var<'g>)> {
        let (&(values, indices), rest) = self.rows.split_first()?;
        if self.dense.is_some() {
            return None;
        }
        if rest.is_empty() {
            return Some((values, indices));
        }
        let mixed = rest.iter().any(|(_, other)| other.dtype() != indices.dtype());
        let same = |var: Var<'g>| if mixed { var.cast(DType::I64) } else { var };
        let axis = Join { axis: 0 }.write();
        let other_values: SmallVec<[_; 2]> = rest.iter().map(|&(values, _)| values).collect();
        let other_indices: SmallVec<[_; 2]> =
            rest.iter().map(|&(_, indices)| same(indices)).collect();
        let values = values.op(&CONCAT, axis.clone(), &other_values);
        Some((values, same(indices).op(&CONCAT, axis, &other_indices)))
    }
}

struct Sweep<'g, 't> {
    graph: &'g Graph,
    trace: &'t Trace,
    targets: &'t [Target],
    sources: &'t [Source],
    /// Numbers of targets and sources that the trace does not know, behind those of its entries.
    strangers: HashMap<ValueId, usize>,
    inflow: Vec<Inflow<'g>>,
    origins: Vec<(usize, Origin)>,
}

impl<'g, 't> Sweep<'g, 't> {
    fn new(
        graph: &'g Graph,
        trace: &'t Trace,
        targets: &'t [Target],
        sources: &'t [Source],
    ) -> Self {
        let mut strangers = HashMap::new();
        for id in
            targets.iter().map(|target| target.id).chain(sources.iter().map(|source| source.id))
        {
            if trace.entry(id).is_none() {
                let next = trace.entries.len() + strangers.len();
                strangers.entry(id).or_insert(next);
            }
        }
        let inflow = vec![Inflow::default(); trace.entries.len() + strangers.len()];
        Self { graph, trace, targets, sources, strangers, inflow, origins: Vec::new() }
    }

    /// The number of a target or source.
    fn place(&self, id: ValueId) -> usize {
        self.trace.entry(id).or_else(|| self.strangers.get(&id).copied()).unwrap_or(usize::MAX)
    }

    fn run(mut self) -> (Vec<Found>, Vec<(usize, Origin)>) {
        for (i, target) in self.targets.iter().enumerate() {
            if !target.aval.dtype.is_differentiable() {
                continue;
            }
            let seed = match &target.seed {
                Some(seed) => {
                    let seed = self.graph.operand(target.aval.clone(), seed.clone());
                    self.origins.push((seed.slot(), Origin::Seed(i)));
                    seed
                }
                None => self.graph.full(&target.aval, 1.0),
            };
            let place = self.place(target.id);
            self.inflow[place].add(seed.into());
        }
        let depends = self.depends();
        for (i, node) in self.trace.nodes.iter().enumerate().rev() {
            if let Some(node) = node {
                self.visit(i, node, &depends);
            }
        }
        // No gradient may be a value from outside, which has an identity already, or be shared by two sources.
        let mut used = self.graph.operand_slots();
        let found = self.sources.iter().map(|source| self.found(source, &mut used)).collect();
        (found, self.origins)
    }

    /// Which entries lie on a path from a source to a target.
    fn depends(&self) -> Vec<bool> {
        let count = self.inflow.len();
        let mut live: Vec<bool> = self.inflow.iter().map(|inflow| inflow.dense.is_some()).collect();
        let mut reached = vec![false; self.trace.nodes.len()];
        for (i, node) in self.trace.nodes.iter().enumerate().rev() {
            let Some(node) = node else { continue };
            reached[i] =
                node.applied.passes() && node.outputs.iter().any(|output| live[output.entry]);
            if reached[i] {
                for entry in node.inputs.iter().filter_map(|input| input.entry) {
                    live[entry] = true;
                }
            }
        }
        let mut depends = vec![false; count];
        for source in self.sources {
            depends[self.place(source.id)] = true;
        }
        for (node, _) in self.trace.nodes.iter().zip(reached).filter(|&(_, reached)| reached) {
            let Some(node) = node else { continue };
            if node.inputs.iter().any(|input| follows(input, &depends)) {
                for output in &node.outputs {
                    depends[output.entry] |=
                        self.trace.entries[output.entry].aval.dtype.is_differentiable();
                }
            }
        }
        depends
    }

    /// Sends what flowed into a node's outputs on to its inputs.
    fn visit(&mut self, number: usize, node: &Node, depends: &[bool]) {
        let needs: SmallVec<[bool; 4]> =
            node.inputs.iter().map(|input| follows(input, depends)).collect();
        let flows = |output: &crate::tape::NodeOutput| !self.inflow[output.entry].is_empty();
        if !node.applied.passes() || !needs.contains(&true) || !node.outputs.iter().any(flows) {
            return;
        }
        if node.applied.is(&IDENTITY) && self.inflow[node.outputs[0].entry].dense.is_none() {
            // Rows pass through the reading of a variable as they are.
            if let Some(input) = node.inputs[0].entry {
                let rows = self.inflow[node.outputs[0].entry].rows.clone();
                self.inflow[input].rows.extend(rows);
            }
            return;
        }
        // A later consumer cannot exist, so what flowed in is complete; sources keep a copy.
        let inflows: SmallVec<[Inflow<'g>; 2]> =
            node.outputs.iter().map(|output| self.inflow[output.entry].clone()).collect();
        let operands = operands(self.graph, self.trace, node);
        let inputs = operands.0.iter().enumerate().map(|(i, x)| (x, Origin::Input(number, i)));
        let outputs = operands.1.iter().enumerate().map(|(i, y)| (y, Origin::Output(number, i)));
        self.origins.extend(inputs.chain(outputs).map(|(var, origin)| (var.slot(), origin)));
        let flows = through(self.graph, &node.applied, operands, inflows, &needs);
        for ((flow, input), needed) in flows.into_iter().zip(&node.inputs).zip(&needs) {
            if let (Some(entry), true) = (input.entry, needed) {
                self.inflow[entry].join(flow);
            }
        }
    }

    fn found(&self, source: &Source, used: &mut HashSet<usize>) -> Found {
        let place = self.place(source.id);
        let inflow = &self.inflow[place];
        if source.sparse
            && let Some((values, indices)) = inflow.rows()
        {
            return Found::Rows { values: own(values, used), indices: own(indices, used) };
        }
        match inflow.clone().dense(&source.aval) {
            Some(var) => Found::Dense(own(var, used)),
            None => Found::Absent(self.reason(source)),
        }
    }

    /// Why nothing flowed into a source: follows it forwards through everything that was recorded.
    fn reason(&self, source: &Source) -> AbsentReason {
        const REACHED: u8 = 1;
        const STOPPED: u8 = 2;
        const BROKEN: u8 = 4;
        let no_target = !self.targets.iter().any(|target| target.aval.dtype.is_differentiable());
        if !source.aval.dtype.is_differentiable() || no_target {
            return AbsentReason::DType;
        }
        let Some(start) = self.trace.entry(source.id) else { return AbsentReason::NotWatched };
        let mut marks = vec![0_u8; self.trace.entries.len()];
        marks[start] = REACHED;
        for node in self.trace.nodes.iter().flatten() {
            let inputs = node
                .inputs
                .iter()
                .filter_map(|input| input.entry)
                .fold(0, |all, entry| all | marks[entry]);
            if inputs == 0 {
                continue;
            }
            let stops = node.applied.is(&STOP_GRADIENT);
            for output in &node.outputs {
                let differentiable =
                    self.trace.entries[output.entry].aval.dtype.is_differentiable();
                let mark = match (stops, node.applied.passes() && differentiable) {
                    (true, _) => STOPPED,
                    (false, false) => BROKEN,
                    (false, true) => 0,
                };
                marks[output.entry] |= inputs | mark;
            }
        }
        let reached = self.targets.iter().filter_map(|target| self.trace.entry(target.id));
        match reached.fold(0, |all, entry| all | marks[entry]) {
            0 => AbsentReason::NoPath,
            mark if mark & STOPPED != 0 && mark & BROKEN == 0 => AbsentReason::StopGradient,
            _ => AbsentReason::NoDerivative,
        }
    }
}

/// A slot that is the gradient's own: an upstream gradient may be the gradient itself, or that of two sources, and each
/// result must have an identity of its own.
pub(crate) fn own(var: Var<'_>, used: &mut HashSet<usize>) -> usize {
    if used.insert(var.slot()) {
        return var.slot();
    }
    let copy = var.map(&IDENTITY).slot();
    used.insert(copy);
    copy
}

/// Whether an input is on a path and can have a cotangent.
fn follows(input: &crate::tape::NodeInput, depends: &[bool]) -> bool {
    input.aval.dtype.is_differentiable() && input.entry.is_some_and(|entry| depends[entry])
}

/// What flows on to the inputs of an application from what flowed into its outputs.
fn through<'g>(
    graph: &'g Graph,
    applied: &Applied,
    (x, y): (Vars<'g>, Vars<'g>),
    inflows: SmallVec<[Inflow<'g>; 2]>,
    needs: &[bool],
) -> Vec<Inflow<'g>> {
    match applied {
        Applied::Op(op, attrs) => {
            let cts = complete(graph, inflows, &y);
            let rule = Rule { attrs, x: brief(&x), y: brief(&y), needs: needs.into() };
            let flow = |cotangent: Option<Cotangent<'_>>| {
                cotangent.map_or_else(Inflow::default, |ct| rebind(graph, ct).into())
            };
            vjp(&op.derivative, &rule, &cts).into_iter().map(flow).collect()
        }
        Applied::Custom(function) => {
            let written = function.write(graph, &complete(graph, inflows, &y));
            let flow = |result: &Option<usize>| {
                let var = result.and_then(|slot| written.0[slot]);
                var.map_or_else(Inflow::default, |var| Cotangent::from(var).into())
            };
            function.results().iter().map(flow).collect()
        }
        Applied::Recomputed(function) => {
            let written = function.write(graph, &x);
            let seeds = function.results().iter().zip(inflows);
            let seeds = seeds.filter_map(|(&result, inflow)| Some((result?, inflow)));
            let wanted: Vec<usize> = function.inputs().collect();
            pull_back(graph, function, &written, seeds, &wanted)
        }
    }
}

/// The same values for the time of one rule, which is not that of the graph.
pub(crate) fn brief<'r>(vars: &[Var<'r>]) -> Vars<'r> {
    vars.into()
}

/// What flowed into each output as one tensor; zeros where nothing did.
fn complete<'g>(
    graph: &'g Graph,
    inflows: SmallVec<[Inflow<'g>; 2]>,
    outputs: &Vars<'g>,
) -> Vars<'g> {
    let all = inflows.into_iter().zip(outputs).map(|(inflow, output)| (inflow, output.aval()));
    all.map(|(inflow, aval)| inflow.dense(&aval).unwrap_or_else(|| graph.full(&aval, 0.0)))
        .collect()
}

/// What flows into the wanted slots of a written function from what flows into its results.
pub(crate) fn pull_back<'g>(
    graph: &'g Graph,
    function: &Function,
    written: &Written<'g>,
    seeds: impl Iterator<Item = (usize, Inflow<'g>)>,
    wanted: &[usize],
) -> Vec<Inflow<'g>> {
    let applications = &function.program().applications;
    let mut depends = vec![false; written.0.len()];
    for &slot in wanted {
        depends[slot] = true;
    }
    let differentiable =
        |slot: usize| written.0[slot].is_some_and(|var| var.dtype().is_differentiable());
    for application in applications {
        let passes = !matches!(application.op.derivative, Derivative::None);
        if passes && application.inputs.iter().any(|&slot| depends[slot] && differentiable(slot)) {
            for &slot in &application.outputs {
                depends[slot] |= differentiable(slot);
            }
        }
    }
    let mut inflow = vec![Inflow::default(); written.0.len()];
    seeds.for_each(|(slot, seed): (usize, Inflow<'g>)| inflow[slot].join(seed));
    for application in applications.iter().rev() {
        let of = |slots: &[usize]| slots.iter().map(|&slot| written.0[slot]).collect();
        let (Some(x), Some(y)): (Option<Vars>, Option<Vars>) =
            (of(&application.inputs), of(&application.outputs))
        else {
            continue;
        };
        let needs: SmallVec<[bool; 4]> =
            application.inputs.iter().map(|&slot| depends[slot] && differentiable(slot)).collect();
        let inflows: SmallVec<[Inflow<'g>; 2]> =
            application.outputs.iter().map(|&slot| inflow[slot].clone()).collect();
        if !needs.contains(&true) || inflows.iter().all(Inflow::is_empty) {
            continue;
        }
        let applied = Applied::Op(application.op, application.attrs.clone());
        let flows = through(graph, &applied, (x, y), inflows, &needs);
        for ((flow, &slot), needed) in flows.into_iter().zip(&application.inputs).zip(needs) {
            if needed {
                inflow[slot].join(flow);
            }
        }
    }
    wanted.iter().map(|&slot| inflow[slot].clone()).collect()
}

/// The inputs and outputs of a node, as operands of a program.
pub(crate) fn operands<'g>(graph: &'g Graph, trace: &Trace, node: &Node) -> (Vars<'g>, Vars<'g>) {
    let input = |input: &crate::tape::NodeInput| {
        operand(graph, &input.aval, input.id, input.tensor.as_ref())
    };
    let output = |output: &crate::tape::NodeOutput| {
        let entry = &trace.entries[output.entry];
        operand(graph, &entry.aval, entry.id, output.tensor.as_ref())
    };
    (node.inputs.iter().map(input).collect(), node.outputs.iter().map(output).collect())
}

/// A recorded value as an operand of the program.
pub(crate) fn operand<'g>(
    graph: &'g Graph,
    aval: &Aval,
    id: ValueId,
    tensor: Option<&crate::array::Tensor>,
) -> Var<'g> {
    graph.operand(aval.clone(), Operand { id, tensor: tensor.cloned() })
}

/// The same cotangent with the graph's own lifetime instead of the rule's.
fn rebind<'g>(graph: &'g Graph, cotangent: Cotangent<'_>) -> Cotangent<'g> {
    match cotangent {
        Cotangent::Dense(var) => Cotangent::Dense(graph.var(var.slot())),
        Cotangent::Rows { values, indices } => {
            Cotangent::Rows { values: graph.var(values.slot()), indices: graph.var(indices.slot()) }
        }
    }
}

/// The cotangents of a node's inputs.
pub(crate) fn vjp<'g>(derivative: &Derivative, rule: &Rule<'g>, cts: &[Var<'g>]) -> Cotangents<'g> {
    match derivative {
        Derivative::None => smallvec![],
        Derivative::Zero => rule.x.iter().map(|x| Some(x.zeros().into())).collect(),
        Derivative::Elementwise(partials) => partials
            .iter()
            .enumerate()
            .map(|(i, partial)| {
                rule.needs[i]
                    .then(|| (cts[0] * (partial.of)(rule)).sum_to(&rule.x[i].shape()).into())
            })
            .collect(),
        Derivative::Linear { transpose, .. } | Derivative::Multilinear { transpose } => {
            transpose(rule, cts)
        }
        Derivative::Custom { vjp, .. } => vjp(rule, cts),
    }
}
