//! Control flow: functions become the bodies of an op ([`ops::control`](crate::ops)), which runs, is recorded and is written
//! into other functions like any op.
//!
//! What a function knows of outside becomes an operand: values that it captured, so that gradients reach them, and variables.
//! Those that it changes are results of its body, and are assigned when the op has run; as with every assignment, no gradient
//! flows through.

use std::{ops::Range, sync::Arc};

use hashbrown::{HashMap, hash_map::Entry};
use smallvec::{SmallVec, smallvec};

use super::{
    Session, Slot,
    functions::{check_count, fits},
    tracing::{Outcomes, Source},
    values::Input,
};
use crate::{
    attrs::Attrs,
    aval::Aval,
    command::{Answer, Flow, Handle},
    control::{Bodies, Body},
    error::Error,
    function::Function,
    graph::{Application, Operand, Program, Value, ValueId},
    ledger::Charge,
    ops::{
        STOP_GRADIENT,
        control::{BRANCH, Control, SCAN, WHILE},
    },
};

/// Most branches of one command.
const MAX_BRANCHES: usize = 256;

/// What each op of a body costs, in bytes: it is held as a function, as a program and as a plan.
const BODY_OP_BYTES: u64 = 768;

/// A function without state: its program, and where everything is in it.
struct Pure {
    program: Program,
    arguments: Vec<usize>,
    captured: HashMap<ValueId, usize>,
    variables: HashMap<Handle, usize>,
    results: Vec<usize>,
    /// The new values of the variables that it changes.
    changed: HashMap<Handle, usize>,
    /// Pays for the body that it becomes.
    charge: Option<Charge>,
}

/// What several functions know of outside, in one order for all.
#[derive(Default)]
struct Outside {
    captured: Vec<Value>,
    variables: Vec<(Handle, Aval)>,
    /// The variables that one of them changes come first.
    changed: usize,
}

impl Session {
    /// Executes control flow.
    pub(super) fn control(
        &mut self,
        flow: &Flow,
        outputs: &[Handle],
        scope: u32,
    ) -> Result<Answer, Error> {
        self.check_free(outputs)?;
        match flow {
            Flow::Branch { index, functions, arguments } => {
                self.branch(*index, functions, arguments, outputs, scope)
            }
            Flow::While { condition, body, carried, maximum_iterations } => {
                let length = *maximum_iterations;
                self.while_loop([*condition, *body], carried, length, outputs, scope)
            }
            Flow::Scan { body, carried, stacks, length, reverse } => {
                self.scan(*body, carried, stacks, (*length, *reverse), outputs, scope)
            }
        }
    }

    fn branch(
        &mut self,
        index: Handle,
        functions: &[Handle],
        arguments: &[Handle],
        outputs: &[Handle],
        scope: u32,
    ) -> Result<Answer, Error> {
        if !(1..=MAX_BRANCHES).contains(&functions.len()) {
            let why = format!("must be from 1 to {MAX_BRANCHES}").into();
            return Err(Error::Malformed { what: "the number of branches".into(), why });
        }
        let (mut pure, outside) = self.pure(functions, arguments)?;
        check_count("outputs", pure[0].results.len(), outputs.len())?;
        let bodies = pure.iter_mut().map(|one| {
            let parameters = one.parameters(&outside, 0..outside.variables.len());
            let results = [&one.results[..], &one.changed(&outside)].concat();
            one.body(parameters, &results)
        });
        let bodies = Bodies::new(bodies.collect::<Vec<_>>());
        let control = Control { bodies, carries: 0, constants: 0, length: None, reverse: false };
        let mut inputs = self.inputs(&[&[index], arguments].concat())?;
        inputs.extend(self.outer(&outside, 0..outside.variables.len())?);
        let values = self.applied(&BRANCH, &control.write(), &inputs, scope)?;
        let changed = values[outputs.len()..].to_vec();
        Ok(self.conclude_control(&outside, &changed, outputs, values))
    }

    fn while_loop(
        &mut self,
        functions: [Handle; 2],
        carried: &[Handle],
        length: Option<usize>,
        outputs: &[Handle],
        scope: u32,
    ) -> Result<Answer, Error> {
        let (mut pure, outside) = self.pure(&functions, carried)?;
        check_count("outputs", carried.len(), outputs.len())?;
        if !pure[0].changed.is_empty() {
            return Err(Error::NotInFunction { what: "an assignment in the condition of a loop" });
        }
        check_count("results of the condition", 1, pure[0].results.len())?;
        check_count("results of the body", carried.len(), pure[1].results.len())?;
        let condition = {
            let parameters = pure[0].carrying(&outside);
            let results = pure[0].results.clone();
            pure[0].body(parameters, &results)
        };
        let body = {
            let parameters = pure[1].carrying(&outside);
            let results = [&pure[1].results[..], &pure[1].changed(&outside)].concat();
            pure[1].body(parameters, &results)
        };
        let control = Control {
            bodies: Bodies::new([condition, body]),
            carries: carried.len() + outside.changed,
            constants: outside.constants(),
            length,
            reverse: false,
        };
        let inputs = self.carrying(carried, &outside)?;
        if inputs.is_empty() {
            let why = "a loop needs something that it changes".into();
            return Err(Error::Malformed { what: "carried".into(), why });
        }
        let values = self.applied(&WHILE, &control.write(), &inputs, scope)?;
        let changed = values[carried.len()..].to_vec();
        Ok(self.conclude_control(&outside, &changed, outputs, values))
    }

    fn scan(
        &mut self,
        function: Handle,
        carried: &[Handle],
        stacks: &[Handle],
        (length, reverse): (usize, bool),
        outputs: &[Handle],
        scope: u32,
    ) -> Result<Answer, Error> {
        let mut slices = Vec::new();
        for &handle in stacks {
            let Aval { dtype, shape } = self.describe(handle)?;
            if shape.first() != Some(&length) {
                let why = format!("handle {handle} has shape {shape}, not {length} slices").into();
                return Err(Error::Malformed { what: "stacks".into(), why });
            }
            slices.push(Aval { dtype, shape: shape[1..].into() });
        }
        let (mut pure, outside) = self.pure_of(&[function], carried, &slices)?;
        let mut pure = pure.remove(0);
        check_count("outputs", pure.results.len(), outputs.len())?;
        if pure.results.len() < carried.len() {
            return check_count("results", carried.len(), pure.results.len())
                .map(|()| Answer::Done);
        }
        let parameters = {
            let mut all = pure.carrying(&outside);
            // Slices are arguments too, and come last.
            let slices = pure.arguments[carried.len()..].to_vec();
            all.retain(|slot| !slices.contains(slot));
            all.extend(slices);
            all
        };
        let (kept, stacked) = pure.results.split_at(carried.len());
        let results = [kept, &pure.changed(&outside), stacked].concat();
        let control = Control {
            bodies: Bodies::new([pure.body(parameters, &results)]),
            carries: carried.len() + outside.changed,
            constants: outside.constants(),
            length: Some(length),
            reverse,
        };
        let mut inputs = self.carrying(carried, &outside)?;
        inputs.extend(self.inputs(stacks)?);
        if inputs.is_empty() {
            let why = "a scan needs something to carry or to go over".into();
            return Err(Error::Malformed { what: "carried".into(), why });
        }
        let mut values = self.applied(&SCAN, &control.write(), &inputs, scope)?;
        let behind = carried.len() + outside.changed;
        let changed = values.drain(carried.len()..behind).collect::<Vec<_>>();
        Ok(self.conclude_control(&outside, &changed, outputs, values))
    }

    /// Functions whose parameters are the arguments.
    fn pure(
        &mut self,
        functions: &[Handle],
        arguments: &[Handle],
    ) -> Result<(Vec<Pure>, Outside), Error> {
        self.pure_of(functions, arguments, &[])
    }

    /// Functions whose parameters are the arguments and values like those given.
    fn pure_of(
        &mut self,
        functions: &[Handle],
        arguments: &[Handle],
        more: &[Aval],
    ) -> Result<(Vec<Pure>, Outside), Error> {
        let mut given = Vec::new();
        for &argument in arguments {
            given.push((argument, self.describe(argument)?));
        }
        given.extend(more.iter().map(|aval| (0, aval.clone())));
        let mut all = Vec::new();
        let (mut outside, mut changed) = (Outside::default(), Vec::new());
        for &function in functions {
            let pure = self.pure_one(function, &given, &mut outside)?;
            let new = pure.changed.keys().filter(|handle| !changed.contains(*handle)).copied();
            let mut new: Vec<Handle> = new.collect();
            new.sort_unstable();
            changed.extend(new);
            all.push(pure);
        }
        outside.variables.sort_by_key(|(handle, _)| !changed.contains(handle));
        outside.changed = changed.len();
        Ok((all, outside))
    }

    /// A function whose parameters are like those given; notes what it knows of outside.
    fn pure_one(
        &mut self,
        function: Handle,
        given: &[(Handle, Aval)],
        outside: &mut Outside,
    ) -> Result<Pure, Error> {
        let body = match self.slot(function)? {
            Slot::Function(defined) => Arc::clone(&defined.body),
            other => return Err(other.refuse(function, "function")),
        };
        check_count("arguments", body.parameters.len(), given.len())?;
        for ((_, expected), (handle, aval)) in body.parameters.iter().zip(given) {
            fits("arguments", *handle, aval, expected)?;
        }
        self.check_references(&body)?;
        let (variant, _) = self.variant(function, &body, &Outcomes::new())?;
        if !variant.is_steady() || variant.own_gradient {
            return Err(Error::NotInFunction {
                what: "an optimizer step, random numbers or a custom gradient in a branch or loop",
            });
        }
        let wanted = variant.prepared.wanted();
        // Before anything is copied: one function may be named many times.
        let ops = variant.prepared.program().applications.len() as u64;
        let charge = self.ledger.reserve(ops * BODY_OP_BYTES)?;
        let mut pure = Pure {
            arguments: Vec::new(),
            captured: HashMap::new(),
            variables: HashMap::new(),
            results: wanted[..variant.results].to_vec(),
            changed: HashMap::new(),
            charge: Some(charge),
            program: variant.prepared.program().clone(),
        };
        let same = pure.lift(1..self.first_id_within(), outside);
        let mut arguments = vec![None; given.len()];
        for &(slot, source) in &variant.inputs {
            match source {
                Source::Argument(position) => arguments[position] = Some(slot),
                Source::Variable { handle, .. } => {
                    pure.variables.insert(handle, slot);
                    outside.read(handle, &pure.program.avals[slot]);
                }
                Source::Captured(index) => {
                    let value = variant.captured[index].clone();
                    pure.captured.insert(value.id, slot);
                    outside.capture(value);
                }
                Source::State { .. } | Source::Number { .. } | Source::Generator { .. } => {
                    return Err(Error::bug("a function with state became a body"));
                }
            }
        }
        for (&handle, &slot) in variant.variables.iter().zip(&wanted[variant.results..]) {
            let slot = *same.get(&slot).unwrap_or(&slot);
            outside.read(handle, &pure.program.avals[slot]);
            let kept = cut_off(&mut pure.program, slot);
            pure.changed.insert(handle, kept);
        }
        for (slot, (_, aval)) in arguments.into_iter().zip(given) {
            let slot = slot.unwrap_or_else(|| fresh(&mut pure.program, aval));
            pure.arguments.push(slot);
        }
        Ok(pure)
    }

    /// What functions know of outside, as inputs: captured values, and some of the variables, which are read now.
    fn outer(&mut self, outside: &Outside, variables: Range<usize>) -> Result<Vec<Input>, Error> {
        let handles: Vec<Handle> =
            outside.variables[variables].iter().map(|(handle, _)| *handle).collect();
        let captured = outside.captured.iter().cloned().map(|value| Input { value, read: None });
        let mut inputs: Vec<Input> = captured.collect();
        inputs.extend(self.inputs(&handles)?);
        Ok(inputs)
    }

    /// The inputs of a loop: what is carried, the variables that change, and what does not change.
    fn carrying(
        &mut self,
        carried: &[Handle],
        outside: &Outside,
    ) -> Result<SmallVec<[Input; 3]>, Error> {
        let changing: Vec<Handle> =
            outside.variables[..outside.changed].iter().map(|(handle, _)| *handle).collect();
        let mut inputs = self.inputs(&[carried, &changing].concat())?;
        inputs.extend(self.outer(outside, outside.changed..outside.variables.len())?);
        Ok(inputs)
    }

    /// Binds the results and assigns the variables that were changed.
    fn conclude_control(
        &mut self,
        outside: &Outside,
        changed: &[Value],
        outputs: &[Handle],
        values: impl IntoIterator<Item = Value>,
    ) -> Answer {
        for (&output, value) in outputs.iter().zip(values) {
            self.slots.insert(output, Slot::Value(value));
        }
        for ((handle, _), value) in outside.variables.iter().zip(changed) {
            self.set_variable(*handle, value.tensor.clone());
        }
        Answer::Done
    }
}

/// The same as a slot holds, through which no gradient flows.
fn cut_off(program: &mut Program, slot: usize) -> usize {
    let output = fresh(program, &program.avals[slot].clone());
    program.applications.push(Application {
        op: &STOP_GRADIENT,
        attrs: Attrs::default(),
        inputs: smallvec![slot],
        outputs: smallvec![output],
        workspace: 0,
    });
    output
}

/// A slot that nothing reads.
fn fresh(program: &mut Program, aval: &Aval) -> usize {
    program.avals.push(aval.clone());
    program.avals.len() - 1
}

impl Outside {
    fn capture(&mut self, value: Value) {
        if !self.captured.iter().any(|known| known.id == value.id) {
            self.captured.push(value);
        }
    }

    fn read(&mut self, handle: Handle, aval: &Aval) {
        if !self.variables.iter().any(|(known, _)| *known == handle) {
            self.variables.push((handle, aval.clone()));
        }
    }

    /// How many of it no body changes.
    fn constants(&self) -> usize {
        self.captured.len() + self.variables.len() - self.changed
    }
}

impl Pure {
    /// Makes inputs of the values from outside, whose identities are in a range, so that gradients reach them; what the body
    /// made itself stays a constant of its program. Gives slots that hold the same as others, which are read instead.
    fn lift(&mut self, outer: Range<u64>, outside: &mut Outside) -> HashMap<usize, usize> {
        let mut same = HashMap::new();
        let (lifted, own): (Vec<_>, Vec<_>) = std::mem::take(&mut self.program.operands)
            .into_iter()
            .partition(|(_, operand)| outer.contains(&operand.id.0));
        self.program.operands = own;
        for (slot, Operand { id, tensor }) in lifted {
            let Some(tensor) = tensor else { continue };
            match self.captured.entry(id) {
                Entry::Occupied(first) => drop(same.insert(slot, *first.get())),
                Entry::Vacant(place) => drop(place.insert(slot)),
            }
            outside.capture(Value { id, tensor });
        }
        let applications = self.program.applications.iter_mut();
        let inputs = applications.flat_map(|application| &mut application.inputs);
        for slot in inputs.chain(&mut self.results) {
            if let Some(&first) = same.get(slot) {
                *slot = first;
            }
        }
        same
    }

    /// Slots of captured values and of some variables, as all functions have them.
    fn outer(&mut self, outside: &Outside, variables: Range<usize>) -> Vec<usize> {
        let Self { program, captured, variables: known, .. } = self;
        let mut slots = Vec::new();
        for value in &outside.captured {
            let slot = captured.entry(value.id);
            slots.push(*slot.or_insert_with(|| fresh(program, &value.tensor.aval())));
        }
        for (handle, aval) in &outside.variables[variables] {
            slots.push(*known.entry(*handle).or_insert_with(|| fresh(program, aval)));
        }
        slots
    }

    /// Arguments, captured values, variables.
    fn parameters(&mut self, outside: &Outside, variables: Range<usize>) -> Vec<usize> {
        let outer = self.outer(outside, variables);
        [&self.arguments[..], &outer].concat()
    }

    /// Arguments, variables that change, captured values, other variables.
    fn carrying(&mut self, outside: &Outside) -> Vec<usize> {
        let Self { program, variables: known, .. } = self;
        let mut slots = self.arguments.clone();
        for (handle, aval) in &outside.variables[..outside.changed] {
            slots.push(*known.entry(*handle).or_insert_with(|| fresh(program, aval)));
        }
        slots.extend(self.outer(outside, outside.changed..outside.variables.len()));
        slots
    }

    /// New values of all variables that one of the functions changes.
    fn changed(&self, outside: &Outside) -> Vec<usize> {
        let changed = outside.variables[..outside.changed].iter();
        changed
            .filter_map(|(handle, _)| {
                self.changed.get(handle).or_else(|| self.variables.get(handle)).copied()
            })
            .collect()
    }

    fn body(&mut self, parameters: Vec<usize>, results: &[usize]) -> Body {
        let results = results.iter().map(|&slot| Some(slot)).collect();
        let function = Function::written(std::mem::take(&mut self.program), parameters, results);
        Body::new(match self.charge.take() {
            Some(charge) => function.paid(charge),
            None => function,
        })
    }
}
