//! Defining functions: the commands between `DefineFunction` and `FinishFunction` in one scope are the body.
//!
//! They are executed by a session of their own, whose tensors have no elements, so the client is told at once of what is
//! wrong, of shapes, and of gradients that are absent. What a body names and does not make is captured: values as they are,
//! and variables, optimizers and generators by reference.
//!
//! The commands are kept, since the body is traced again when an optimizer writes another kind of step.

mod definition;
mod images;

use std::sync::Arc;

use smallvec::SmallVec;

use super::{
    NamedTensors, OptimizerState, Poison, Session, Slot, Variable,
    calling::{Defined, Variant},
    functions::check_count,
    steps::Steps,
    tracing::{Outcomes, Source, Tracer},
};
pub(super) use definition::Definition;
pub(super) use images::{Bodies, bodies};

use crate::{
    aval::Aval,
    command::{AbsentReason, Answer, Command, Failure, FunctionDefinition, Handle, Kind, Outcome},
    error::Error,
    graph::{Value, ValueId},
    ledger::Charge,
};

/// Most commands in a body.
pub(super) const MAX_BODY: usize = 1 << 16;

/// Most functions of a session that are defined at a time or being defined.
pub(super) const MAX_FUNCTIONS: usize = 1024;

/// Functions that call functions that call functions: most levels.
pub(super) const MAX_DEPTH: usize = 16;

/// Identities of a body's own values, far from those of any session's, and how far those of nested bodies are apart.
const FIRST_ID: u64 = 1 << 62;
const NESTED_IDS: u64 = 1 << 48;

/// What a function is: parameters, commands, results.
#[derive(Debug, Default)]
pub(super) struct Body {
    pub(super) parameters: Vec<(Handle, Aval)>,
    steps: Vec<Step>,
    pub(super) results: Vec<Handle>,
    /// Dtype and shape of each result.
    pub(super) specs: Vec<Aval>,
    /// What the results need of what is outside.
    last: Vec<(Handle, Capture)>,
    /// The things outside that it refers to.
    references: Vec<(Handle, ValueId)>,
    depth: usize,
    charges: Vec<Charge>,
}

/// A command of a body, and what it is the first to name of what is outside.
#[derive(Debug)]
struct Step {
    captures: SmallVec<[(Handle, Capture); 1]>,
    /// Shared with the body of the function that this one is nested in.
    command: Arc<Command>,
}

/// Something outside that a body names.
#[derive(Clone, Debug)]
enum Capture {
    /// A value, as it is.
    Value(Value),
    /// A gradient that is absent.
    Absent(AbsentReason),
    /// A variable, an optimizer or a generator.
    Reference(ValueId),
    /// Another function.
    Function(Arc<Body>),
}

impl Session {
    /// Begins a function.
    pub(super) fn define_function(
        &mut self,
        request: &FunctionDefinition,
        scope: u32,
    ) -> Result<Answer, Error> {
        let FunctionDefinition { function, parameters, specs } = request;
        let defined = self.slots.values().filter(|slot| matches!(slot, Slot::Function(_))).count();
        if defined + self.definitions.len() >= MAX_FUNCTIONS {
            return Err(Error::TooMany { what: "functions", limit: MAX_FUNCTIONS });
        }
        if self.nesting >= MAX_DEPTH {
            return Err(Error::TooMany { what: "levels of functions", limit: MAX_DEPTH });
        }
        self.check_free(&[*function])?;
        self.check_free(parameters)?;
        let specs = specs.as_ref().map_err(Clone::clone)?;
        check_count("specs", parameters.len(), specs.len())?;
        for aval in specs {
            aval.shape.check()?;
        }
        let parameters = parameters.iter().copied().zip(specs.iter().cloned()).collect();
        let body = Body { parameters, ..Body::default() };
        let session = self.apart(&body, &Outcomes::new())?;
        let definition = Definition { session, body, failed: None, unbegun: 0 };
        self.definitions.insert(scope, Box::new(definition));
        Ok(Answer::Done)
    }

    /// After a definition that failed and is in no body: what follows is its body all the same, and fails with it.
    pub(super) fn begin_failed(&mut self, failure: &Failure, scope: u32) {
        if self.definitions.len() >= MAX_FUNCTIONS {
            return;
        }
        if let Ok(session) = self.apart(&Body::default(), &Outcomes::new()) {
            let (sequence, tag) = (failure.root_sequence, failure.root_tag.clone());
            let poison = Poison { sequence, tag, reason: failure.error.classify().1.into() };
            let (body, failed) = (Body::default(), Some(Arc::new(poison)));
            let definition = Definition { session, body, failed, unbegun: 0 };
            self.definitions.insert(scope, Box::new(definition));
        }
    }

    /// A session that writes down what it is told, knowing nothing but parameters.
    fn apart(&self, body: &Body, outcomes: &Outcomes) -> Result<Session, Error> {
        let mut session = Session::new(Arc::clone(&self.ledger));
        let tracer = Tracer::new(Arc::clone(&self.ledger), self.nesting, outcomes.clone());
        session.nesting = self.nesting + 1;
        session.next_id = self.first_id_within();
        for (position, (handle, aval)) in body.parameters.iter().enumerate() {
            let tensor = tracer.input(aval.clone(), Source::Argument(position))?;
            let value = Value { id: session.new_id(), tensor };
            session.slots.insert(*handle, Slot::Value(value));
        }
        session.tracer = Some(tracer);
        Ok(session)
    }

    /// From where on identities are those of the values of a body that is shown here.
    pub(super) fn first_id_within(&self) -> u64 {
        FIRST_ID + (self.nesting as u64 + 1) * NESTED_IDS
    }

    /// Executes a command of a body.
    fn within(&mut self, sequence: u64, command: &Arc<Command>) -> Outcome {
        if self.definitions.is_empty() {
            self.perform(sequence, command)
        } else {
            self.show(sequence, command)
        }
    }

    /// Executes a command while functions are being defined: in its scope it belongs to the body.
    pub(super) fn show(&mut self, sequence: u64, command: &Arc<Command>) -> Outcome {
        // Clients forget things from any scope, and a handle that is free again may be used anywhere.
        if let Kind::Release { handles } = &command.kind {
            for definition in self.definitions.values_mut() {
                definition.release(handles);
            }
            return self.perform(sequence, command);
        }
        if let Kind::CloseTape { tape } = command.kind {
            let known = |one: &&mut Box<Definition>| one.session.slots.contains_key(&tape);
            return match self.definitions.values_mut().find(known) {
                Some(definition) => definition.close(sequence, command),
                None => self.perform(sequence, command),
            };
        }
        let within = self.definitions.get(&command.scope).map(|one| one.is_within(command.scope));
        let finishes = matches!(command.kind, Kind::FinishFunction { .. }) && within != Some(true);
        let Some(mut definition) =
            (!finishes).then(|| self.definitions.remove(&command.scope)).flatten()
        else {
            return self.perform(sequence, command);
        };
        let scope = command.scope;
        definition.session.forced = self.forced.take();
        let outcome = definition.show(self, sequence, command);
        definition.session.forced = None;
        self.definitions.insert(scope, definition);
        outcome
    }

    /// Ends the body that is shown in a scope, and binds the function.
    pub(super) fn finish_function(
        &mut self,
        function: Handle,
        results: &[Handle],
        abandon: bool,
        scope: u32,
    ) -> Result<Answer, Error> {
        let definition = self.definitions.remove(&scope).ok_or(Error::NoFunctionOpen)?;
        if abandon {
            return Ok(Answer::Done);
        }
        self.check_free(&[function])?;
        let Definition { mut session, mut body, failed, .. } = *definition;
        if let Some(poison) = failed {
            let (root, why) = (poison.sequence, poison.reason.clone());
            self.slots.insert(function, Slot::Poisoned(poison));
            return Err(Error::Poisoned { handle: function, root, why });
        }
        body.last = self.take_in(&mut session, &mut body.references, results)?;
        body.results = results.to_vec();
        let (variant, specs) = session.conclude(results)?;
        body.specs.clone_from(&specs);
        let variants = vec![Arc::new(self.bring_out(variant)?)];
        let defined = Defined { body: Arc::new(body), variants };
        self.slots.insert(function, Slot::Function(Box::new(defined)));
        Ok(Answer::Defined(specs))
    }

    /// Traces a body again, for guards that turn out so.
    pub(super) fn trace_body(&self, body: &Body, outcomes: &Outcomes) -> Result<Variant, Error> {
        let mut session = self.apart(body, outcomes)?;
        for Step { captures, command } in &body.steps {
            self.import(&mut session, captures)?;
            session.within(0, command).result.map_err(|failure| failure.error)?;
        }
        self.import(&mut session, &body.last)?;
        self.bring_out(session.conclude(&body.results)?.0)
    }

    /// A program that was written within this session. What it captured may be of a body that this one is nested in.
    fn bring_out(&self, variant: Variant) -> Result<Variant, Error> {
        let Some(tracer) = &self.tracer else { return Ok(variant) };
        let captured = variant.captured.into_iter().map(|value| tracer.own(value));
        Ok(Variant { captured: captured.collect::<Result<_, _>>()?, ..variant })
    }

    /// Checks that what a function refers to is still what it was defined with.
    pub(super) fn check_references(&self, body: &Body) -> Result<(), Error> {
        let stale = |&&(handle, id): &&(Handle, ValueId)| self.reference(handle) != Some(id);
        match body.references.iter().find(stale) {
            Some(&(handle, _)) => Err(Error::StaleFunction { handle }),
            None => Ok(()),
        }
    }

    fn reference(&self, handle: Handle) -> Option<ValueId> {
        match self.slots.get(&handle)? {
            Slot::Variable(variable) => Some(variable.id),
            Slot::Optimizer(state) => Some(state.id),
            Slot::Generator { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// Captures what a body names, does not know, and is there outside.
    fn take_in(
        &self,
        inside: &mut Session,
        references: &mut Vec<(Handle, ValueId)>,
        names: &[Handle],
    ) -> Result<Vec<(Handle, Capture)>, Error> {
        let mut captures = Vec::new();
        for &handle in names {
            if inside.slots.contains_key(&handle) {
                continue;
            }
            let Some(slot) = self.slots.get(&handle) else { continue };
            let capture = match slot {
                Slot::Value(value) => Capture::Value(value.clone()),
                Slot::Absent(reason) => Capture::Absent(*reason),
                Slot::Variable(Variable { id, .. }) | Slot::Generator { id, .. } => {
                    references.push((handle, *id));
                    Capture::Reference(*id)
                }
                Slot::Optimizer(state) => {
                    references.push((handle, state.id));
                    Capture::Reference(state.id)
                }
                Slot::Function(defined) => {
                    self.check_references(&defined.body)?;
                    let inner = &defined.body.references;
                    let new = inner.iter().filter(|one| !references.contains(one)).copied();
                    let new: Vec<_> = new.collect();
                    references.extend(new);
                    Capture::Function(Arc::clone(&defined.body))
                }
                Slot::Poisoned(poison) => {
                    // What uses it fails, and so does the function; it is never traced again.
                    inside.slots.insert(handle, Slot::Poisoned(Arc::clone(poison)));
                    continue;
                }
                Slot::Tape | Slot::Accumulator | Slot::Placeholder { .. } => {
                    return Err(Error::NotInFunction {
                        what: "a tape, accumulator or placeholder of outside",
                    });
                }
            };
            let capture = [(handle, capture)];
            self.import(inside, &capture)?;
            captures.extend(capture);
        }
        Ok(captures)
    }

    /// Lets a body's session know what the body captured.
    fn import(&self, inside: &mut Session, captures: &[(Handle, Capture)]) -> Result<(), Error> {
        for (handle, capture) in captures {
            let handle = *handle;
            let tracer = inside.tracer.as_ref().ok_or_else(|| Error::bug("nothing is traced"))?;
            let slot = match capture {
                Capture::Value(value) => {
                    let nested = value.tensor.slot().is_some();
                    let known =
                        if nested { tracer.captured(value) } else { tracer.constant(value) };
                    Slot::Value(Value { id: value.id, tensor: known? })
                }
                Capture::Absent(reason) => Slot::Absent(*reason),
                Capture::Reference(id) if self.reference(handle) != Some(*id) => {
                    return Err(Error::StaleFunction { handle });
                }
                Capture::Reference(_) => self.referred(tracer, handle)?,
                Capture::Function(body) => {
                    let known = |handle: &Handle| inside.slots.contains_key(handle);
                    let inner = body.references.iter().filter(|(handle, _)| !known(handle));
                    let inner: Vec<(Handle, Capture)> =
                        inner.map(|&(handle, id)| (handle, Capture::Reference(id))).collect();
                    // Of references only, so this goes no deeper.
                    self.import(inside, &inner)?;
                    let variants = Vec::new();
                    Slot::Function(Box::new(Defined { body: Arc::clone(body), variants }))
                }
            };
            inside.slots.insert(handle, slot);
        }
        Ok(())
    }

    /// A variable, optimizer or generator as a body knows it.
    fn referred(&self, tracer: &Tracer, handle: Handle) -> Result<Slot, Error> {
        Ok(match self.slot(handle)? {
            Slot::Variable(variable) => {
                let source = Source::Variable { handle, id: variable.id };
                let tensor = tracer.input(variable.tensor.aval(), source)?;
                Slot::Variable(Variable { tensor, ..variable.clone() })
            }
            Slot::Optimizer(state) => {
                let mut known = OptimizerState {
                    id: state.id,
                    optimizer: state.optimizer.clone(),
                    states: hashbrown::HashMap::new(),
                    steps: Steps::default(),
                };
                for (&variable, kept) in &state.states {
                    let traced = kept.iter().map(|(name, tensor)| {
                        let source = Source::State { optimizer: handle, variable, name };
                        Ok((*name, tracer.input(tensor.aval(), source)?))
                    });
                    known.states.insert(variable, traced.collect::<Result<NamedTensors, Error>>()?);
                }
                Slot::Optimizer(Box::new(known))
            }
            Slot::Generator { id, .. } => Slot::Generator { id: *id, key: 0, counter: 0 },
            other => return Err(other.refuse(handle, "variable, optimizer or generator")),
        })
    }
}
