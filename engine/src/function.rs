//! Functions: programs with parameters, captured from ops on placeholders.
//!
//! A placeholder has a dtype and a shape and no elements. An op on one computes nothing; it is appended to the capture that
//! the placeholder belongs to. What was captured becomes the backward program of a custom gradient, or a function whose
//! intermediate values are computed again instead of kept. Other values that its ops read belong to it as they were then, so a
//! function knows the versions of variables and the states of generators that it was made with.

use std::sync::Arc;

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::{
    attrs::Attrs,
    aval::Aval,
    error::Error,
    graph::{Graph, Mark, Operand, Program, Value, ValueId, Var},
    ledger::{Charge, Ledger},
    op::OpDef,
};

/// Most ops in one capture.
pub const MAX_CAPTURED: usize = 1 << 16;

/// What an op of a capture or of a function costs besides the tensors that it names, in bytes.
const APPLICATION_BYTES: u64 = 256;

/// Ops on placeholders, as they come.
#[derive(Debug, Default)]
pub struct Capture {
    graph: Graph,
    /// The values from outside, by identity.
    known: HashMap<ValueId, usize>,
    charges: Vec<Charge>,
    /// How many handles name something of it.
    pub bound: usize,
}

/// A place in a capture that is being written.
#[derive(Debug)]
pub(crate) struct CaptureMark {
    graph: Mark,
    charges: usize,
}

/// What goes into an op of a capture.
#[derive(Clone, Debug)]
pub enum Captured {
    /// The value in this slot.
    Slot(usize),
    /// A value from outside.
    Value(Value),
}

impl Capture {
    /// A new placeholder.
    pub fn parameter(&mut self, aval: Aval) -> usize {
        self.graph.parameter(aval).slot()
    }

    /// What is known of the value in a slot.
    pub fn aval(&self, slot: usize) -> Aval {
        self.graph.var(slot).aval()
    }

    /// How far it has been written.
    pub(crate) fn mark(&self) -> CaptureMark {
        CaptureMark { graph: self.graph.mark(), charges: self.charges.len() }
    }

    /// Forgets what was written since a mark, and gives back what that cost.
    pub(crate) fn rewind(&mut self, mark: &CaptureMark) {
        self.graph.rewind(&mark.graph);
        self.known.retain(|_, slot| *slot < mark.graph.slots);
        self.charges.truncate(mark.charges);
    }

    /// Appends an op. Gives the slots of its outputs. What it wrote before it failed is the caller's to rewind.
    pub fn apply(
        &mut self,
        ledger: &Arc<Ledger>,
        (op, attrs): (&'static OpDef, &Attrs),
        inputs: &[Captured],
    ) -> Result<SmallVec<[usize; 1]>, Error> {
        let before = self.graph.len();
        if before >= MAX_CAPTURED {
            return Err(Error::TooMany { what: "ops on placeholders", limit: MAX_CAPTURED });
        }
        let slots: SmallVec<[usize; 4]> = inputs.iter().map(|input| self.slot(input)).collect();
        let vars: SmallVec<[Var; 4]> = slots.iter().map(|&slot| self.graph.var(slot)).collect();
        let outputs = self.graph.apply(op, attrs.clone(), &vars)?;
        let outputs: SmallVec<[usize; 1]> = outputs.iter().map(|var| var.slot()).collect();
        self.graph.check()?;
        let added = (self.graph.len() - before) as u64;
        self.charges.push(ledger.reserve(added * APPLICATION_BYTES)?);
        Ok(outputs)
    }

    /// Appends the ops of a function. Gives the slots of its results. What it wrote before it failed is the caller's to
    /// rewind.
    pub fn call(
        &mut self,
        ledger: &Arc<Ledger>,
        function: &Function,
        arguments: &[Captured],
    ) -> Result<Vec<usize>, Error> {
        let added = function.program.applications.len();
        if self.graph.len() + added > MAX_CAPTURED {
            return Err(Error::TooMany { what: "ops on placeholders", limit: MAX_CAPTURED });
        }
        self.charges.push(ledger.reserve(added as u64 * APPLICATION_BYTES)?);
        let slots: Vec<usize> = arguments.iter().map(|argument| self.slot(argument)).collect();
        let vars: Vec<Var> = slots.iter().map(|&slot| self.graph.var(slot)).collect();
        let written = function.write(&self.graph, &vars);
        let results = function.results.iter().map(|&result| Some(written.0[result?]?.slot()));
        let results: Option<Vec<usize>> = results.collect();
        self.graph.check()?;
        let results = results.ok_or_else(|| Error::bug("a result is missing"))?;
        Ok(results)
    }

    /// The slot of an input.
    pub fn slot(&mut self, input: &Captured) -> usize {
        match input {
            Captured::Slot(slot) => *slot,
            Captured::Value(value) => *self.known.entry(value.id).or_insert_with(|| {
                let operand = Operand { id: value.id, tensor: Some(value.tensor.clone()) };
                self.graph.operand(value.tensor.aval(), operand).slot()
            }),
        }
    }

    /// The function from some placeholders to some results; a result may be missing.
    pub fn function(
        &self,
        ledger: &Arc<Ledger>,
        parameters: Vec<usize>,
        results: Vec<Option<usize>>,
    ) -> Result<Function, Error> {
        let wanted: Vec<usize> = results.iter().copied().flatten().collect();
        let program = self.graph.part(&wanted);
        let unbound = program.unfilled(&wanted).into_iter().find(|slot| !parameters.contains(slot));
        if unbound.is_some() {
            return Err(Error::Malformed {
                what: "the function".into(),
                why: "its results depend on placeholders that are not among its parameters".into(),
            });
        }
        let charge = ledger.reserve(program.applications.len() as u64 * APPLICATION_BYTES)?;
        Ok(Function { program, parameters, results, _charge: Some(charge) })
    }
}

/// A program with parameters.
#[derive(Debug)]
pub struct Function {
    program: Program,
    /// Slots of the parameters.
    parameters: Vec<usize>,
    /// Slots of the results, where there are any.
    results: Vec<Option<usize>>,
    _charge: Option<Charge>,
}

/// A function written into a graph: what each of its slots is there.
#[derive(Debug)]
pub struct Written<'g>(pub Vec<Option<Var<'g>>>);

impl Function {
    /// The same, paid for by itself.
    pub(crate) fn paid(self, charge: Charge) -> Self {
        Self { _charge: Some(charge), ..self }
    }

    /// A function that was written by a rule, which is paid for by the program that it is part of.
    pub(crate) fn written(
        program: Program,
        parameters: Vec<usize>,
        results: Vec<Option<usize>>,
    ) -> Self {
        Self { program, parameters, results, _charge: None }
    }

    /// The ops.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Slots of the parameters.
    pub fn parameters(&self) -> &[usize] {
        &self.parameters
    }

    /// Slots of the results, where there are any.
    pub fn results(&self) -> &[Option<usize>] {
        &self.results
    }

    /// The values from outside that it reads, with their slots.
    pub fn operands(&self) -> impl Iterator<Item = (usize, Value)> + '_ {
        self.program.operands.iter().filter_map(|(slot, operand)| {
            let tensor = operand.tensor.clone()?;
            Some((*slot, Value { id: operand.id, tensor }))
        })
    }

    /// Slots of what a tape must know of: the parameters, and then the values from outside.
    pub fn inputs(&self) -> impl Iterator<Item = usize> + '_ {
        self.parameters.iter().copied().chain(self.operands().map(|(slot, _)| slot))
    }

    /// Writes the function into a graph, with arguments in the place of its parameters.
    pub fn write<'g>(&self, graph: &'g Graph, arguments: &[Var<'g>]) -> Written<'g> {
        let mut values = vec![None; self.program.avals.len()];
        for (slot, operand) in &self.program.operands {
            values[*slot] = Some(graph.operand(self.program.avals[*slot].clone(), operand.clone()));
        }
        for (&slot, &argument) in self.parameters.iter().zip(arguments) {
            values[slot] = Some(argument);
        }
        for application in &self.program.applications {
            let inputs: Option<SmallVec<[Var<'g>; 4]>> =
                application.inputs.iter().map(|&slot| values[slot]).collect();
            let Some(inputs) = inputs else { continue };
            let outputs = graph.emit_all(application.op, application.attrs.clone(), &inputs);
            for (&slot, output) in application.outputs.iter().zip(outputs) {
                values[slot] = Some(output);
            }
        }
        Written(values)
    }
}
