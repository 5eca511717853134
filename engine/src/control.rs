//! Bodies of control flow: what a branch, a loop or a scan runs, as attributes of its op.
//!
//! The ops are in [`ops::control`](crate::ops). A body is a function without state, and the derivative of one is a body again,
//! so control flow can be differentiated as often as one likes.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::{
    array::Tensor,
    aval::{Aval, Avals},
    error::Error,
    exec::{Prepared, Recorder},
    function::Function,
    gradient::{Inflow, pull_back},
    graph::{Application, Graph, Value, ValueId, Var},
    jvp,
    ledger::Ledger,
    op::{Cotangent, Vars},
    tape::Applied,
};

/// What an op of control flow runs: one body or several.
#[derive(Clone, Debug)]
pub struct Bodies(Arc<[Body]>);

/// A function without state, made ready to run often.
#[derive(Debug)]
pub struct Body {
    function: Arc<Function>,
    prepared: Prepared,
    parameters: Avals,
    results: Avals,
    weight: usize,
}

/// Bodies are the same if they are the same ones.
impl PartialEq for Bodies {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Bodies {
    /// So many bodies.
    pub fn new(bodies: impl IntoIterator<Item = Body>) -> Self {
        Self(bodies.into_iter().collect())
    }

    /// How many ops they hold: what a tape, a function or a gradient that holds them is charged for.
    pub(crate) fn weight(&self) -> usize {
        self.0.iter().fold(0, |sum, body| sum.saturating_add(body.weight))
    }

    /// A number by which they can be told from others that are there at the same time.
    pub(crate) fn address(&self) -> u64 {
        self.0.as_ptr().addr() as u64
    }
}

impl std::ops::Deref for Bodies {
    type Target = [Body];

    fn deref(&self) -> &[Body] {
        &self.0
    }
}

/// A body holds its ops as a function, as a program and as a plan.
const COPIES: usize = 3;

/// Hears nothing.
struct Silent;

impl Recorder for Silent {
    fn ran(&mut self, _: &Application, _: &[&Value], outputs: &[Tensor]) -> SmallVec<[ValueId; 1]> {
        outputs.iter().map(|_| ValueId(0)).collect()
    }

    fn hears(&self) -> bool {
        false
    }
}

impl Body {
    /// A body that does what a function does; every result of it is there.
    pub fn new(function: Function) -> Self {
        let of = |slot: usize| function.program().avals[slot].clone();
        let results: Vec<usize> = function.results().iter().copied().flatten().collect();
        let applications = function.program().applications.iter();
        let weight =
            applications.fold(0_usize, |sum, one| sum.saturating_add(1 + one.attrs.weight()));
        Self {
            weight: weight.saturating_mul(COPIES),
            parameters: function.parameters().iter().map(|&slot| of(slot)).collect(),
            results: results.iter().map(|&slot| of(slot)).collect(),
            prepared: Prepared::new(function.program().clone(), results),
            function: Arc::new(function),
        }
    }

    /// A body that is written into a graph: `write` makes results of the parameters.
    ///
    /// # Errors
    ///
    /// The first error that the writing met.
    pub fn write(
        parameters: &[Aval],
        write: impl for<'g> FnOnce(&'g Graph, &[Var<'g>]) -> Vec<Var<'g>>,
    ) -> Result<Self, Error> {
        let graph = Graph::default();
        let (parameters, results) = {
            let vars: Vars = parameters.iter().map(|aval| graph.parameter(aval.clone())).collect();
            let slots = |vars: &[Var]| vars.iter().map(|var| var.slot()).collect::<Vec<_>>();
            let results = write(&graph, &vars);
            (slots(&vars), slots(&results))
        };
        let results = results.into_iter().map(Some).collect();
        Ok(Self::new(Function::written(graph.finish()?, parameters, results)))
    }

    /// What it takes.
    pub fn parameters(&self) -> &[Aval] {
        &self.parameters
    }

    /// What it gives.
    pub fn results(&self) -> &[Aval] {
        &self.results
    }

    /// About how many arithmetic operations a run takes.
    pub fn flops(&self) -> u64 {
        self.prepared.flops()
    }

    /// Most bytes of a run.
    pub fn peak(&self) -> u64 {
        self.prepared.peak()
    }

    /// Runs it.
    pub fn run(&self, ledger: &Arc<Ledger>, arguments: &[Tensor]) -> Result<Vec<Tensor>, Error> {
        let value = |tensor: &Tensor| Value { id: ValueId(0), tensor: tensor.clone() };
        let slots = self.function.parameters().iter().copied();
        let inputs = slots.zip(arguments.iter().map(value));
        let results = self.prepared.run(ledger, inputs, &mut Silent)?;
        Ok(results.into_iter().map(|value| value.tensor).collect())
    }

    /// Writes it into a graph.
    pub fn call<'g>(&self, graph: &'g Graph, arguments: &[Var<'g>]) -> Vec<Var<'g>> {
        let written = self.function.write(graph, arguments);
        let results = self.function.results().iter();
        let stand_in = || graph.full(&Aval::scalar(crate::dtype::DType::F32), 0.0);
        results.map(|slot| slot.and_then(|slot| written.0[slot]).unwrap_or_else(stand_in)).collect()
    }

    /// Writes what flows into some of its parameters from what flows into its differentiable results; zeros where nothing
    /// does.
    pub fn pull_back<'g>(
        &self,
        graph: &'g Graph,
        arguments: &[Var<'g>],
        cotangents: &[Var<'g>],
        wanted: &[usize],
    ) -> Vec<Var<'g>> {
        let written = self.function.write(graph, arguments);
        let results = self.function.results().iter().copied().flatten().zip(&self.results);
        let results = results.filter(|(_, aval)| aval.dtype.is_differentiable());
        let seeds = results
            .zip(cotangents)
            .map(|((slot, _), &cotangent)| (slot, Inflow::from(Cotangent::from(cotangent))));
        let slots: Vec<usize> = wanted.iter().map(|&i| self.function.parameters()[i]).collect();
        let flows = pull_back(graph, &self.function, &written, seeds, &slots);
        let avals = wanted.iter().map(|&i| &self.parameters[i]);
        let dense = |(flow, aval): (Inflow<'g>, &Aval)| {
            flow.dense(aval).unwrap_or_else(|| graph.full(aval, 0.0))
        };
        flows.into_iter().zip(avals).map(dense).collect()
    }

    /// Writes its results and the tangents of those that are differentiable, from tangents of some parameters.
    pub fn push_forward<'g>(
        &self,
        graph: &'g Graph,
        arguments: &[Var<'g>],
        tangents: &[Option<Var<'g>>],
    ) -> (Vec<Var<'g>>, Vec<Var<'g>>) {
        let results = self.call(graph, arguments);
        let applied = Applied::Recomputed(Arc::clone(&self.function));
        let (x, y) = (arguments.into(), results.as_slice().into());
        let found = jvp::along(graph, &applied, (x, y), tangents);
        let moved = results.iter().zip(found).filter(|(y, _)| y.dtype().is_differentiable());
        let moved = moved.map(|(y, tangent)| tangent.unwrap_or_else(|| y.zeros())).collect();
        (results, moved)
    }
}
