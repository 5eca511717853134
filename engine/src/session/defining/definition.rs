//! One function whose body is being shown: which commands it takes in, what it captures for them, and how it fails.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Body, Capture, MAX_BODY, MAX_DEPTH, Step};
use crate::{
    command::{Answer, Callee, Command, Failure, FunctionCall, Handle, Kind, Outcome},
    error::Error,
    session::{Poison, Session, Slot},
};

/// What a command of a body costs besides its tensors, in bytes, and what each handle in it does.
const COMMAND_BYTES: u64 = 512;
const HANDLE_BYTES: u64 = 64;

/// A function whose body is being shown.
#[derive(Debug)]
pub(in crate::session) struct Definition {
    pub(super) session: Session,
    pub(super) body: Body,
    pub(super) failed: Option<Arc<Poison>>,
    /// How many functions within this one did not begin and have not been finished. Their commands belong to this body, which
    /// has failed with the first of them.
    pub(super) unbegun: u64,
}

impl Definition {
    /// Whether the function that is finished next in a scope is within this one.
    pub(super) fn is_within(&self, scope: u32) -> bool {
        self.unbegun > 0 || self.session.is_defining(scope)
    }

    /// Executes a command of the body. What is refused here fails where it would have been executed, in the innermost body:
    /// whoever repeats it by [`fail_as`](Session::fail_as) does not know who refused it.
    pub(super) fn show(
        &mut self,
        outside: &Session,
        sequence: u64,
        command: &Arc<Command>,
    ) -> Outcome {
        let kind = &command.kind;
        if let Kind::Fetch { value } = kind
            && self.session.forced.is_none()
            && let Ok(tensor) = outside.peek(*value)
            && tensor.slot().is_none()
        {
            return Outcome { result: Ok(Answer::Tensor(tensor)), warnings: Vec::new() };
        }
        let innermost = !self.session.is_defining(command.scope);
        if let Kind::FinishFunction { function, abandon, .. } = kind
            && innermost
        {
            return self.finish_unbegun(sequence, command, *function, *abandon);
        }
        let accepted = self.accept(outside, command);
        let accepted = accepted.map_err(|error| self.session.forced.get_or_insert(error)).ok();
        let outcome = self.session.within(sequence, command);
        if let Err(failure) = &outcome.result
            && !asks(kind)
        {
            self.fail(sequence, &command.tag, failure);
            if innermost && matches!(kind, Kind::DefineFunction(_)) {
                self.unbegun += 1;
            }
        }
        // What a question is about may be captured by it, and used after it.
        if let Some(captures) = accepted
            && !(asks(kind) && captures.is_empty())
        {
            self.body.steps.push(Step { captures: captures.into(), command: Arc::clone(command) });
        }
        outcome
    }

    /// Ends a function within this one that did not begin.
    fn finish_unbegun(
        &mut self,
        sequence: u64,
        command: &Command,
        function: Handle,
        abandon: bool,
    ) -> Outcome {
        self.unbegun = self.unbegun.saturating_sub(1);
        if abandon {
            return Outcome { result: Ok(Answer::Done), warnings: Vec::new() };
        }
        let free = self.session.check_free(&[function]);
        let error = match (free, &self.failed) {
            (Err(error), _) => error,
            (Ok(()), None) => Error::bug("a function that did not begin fails the one around it"),
            (Ok(()), Some(poison)) => {
                let (root, why) = (poison.sequence, poison.reason.clone());
                self.session.slots.insert(function, Slot::Poisoned(Arc::clone(poison)));
                Error::Poisoned { handle: function, root, why }
            }
        };
        let (op, outputs) = (command.kind.verb().into(), [function]);
        let failure = self.session.fail(sequence, &command.tag, error, op, &outputs, Vec::new());
        Outcome { result: Err(failure), warnings: Vec::new() }
    }

    /// Checks that a command can be part of a body, and captures what it names.
    fn accept(
        &mut self,
        outside: &Session,
        command: &Command,
    ) -> Result<Vec<(Handle, Capture)>, Error> {
        let kind = &command.kind;
        if let Some(what) = excluded(kind) {
            return Err(Error::NotInFunction { what });
        }
        if let Kind::Fetch { value } = kind {
            return Err(Error::NoElementsYet { handle: *value });
        }
        if self.body.steps.len() >= MAX_BODY {
            return Err(Error::TooMany { what: "commands in the function", limit: MAX_BODY });
        }
        let (outputs, mentions) = (kind.outputs(), kind.mentions());
        if let Some(&handle) = outputs.iter().find(|out| outside.slots.contains_key(*out)) {
            return Err(Error::HandleInUse { handle });
        }
        self.body.charges.push(outside.ledger.reserve(price(command))?);
        let references = &mut self.body.references;
        let captures = outside.take_in(&mut self.session, references, &mentions)?;
        let called = match kind {
            Kind::CallFunction(FunctionCall { callee: Callee::Defined(function), .. }) => {
                vec![*function]
            }
            Kind::Control { flow, .. } => flow.functions(),
            _ => Vec::new(),
        };
        for function in called {
            let Some(Slot::Function(called)) = self.session.slots.get(&function) else { continue };
            self.body.depth = self.body.depth.max(called.body.depth + 1);
            if self.body.depth > MAX_DEPTH {
                return Err(Error::TooMany { what: "levels of functions", limit: MAX_DEPTH });
            }
        }
        Ok(captures)
    }

    /// The first failure is that of the function.
    fn fail(&mut self, sequence: u64, tag: &str, failure: &Failure) {
        let reason = failure.error.classify().1.into();
        self.failed.get_or_insert_with(|| Arc::new(Poison { sequence, tag: tag.into(), reason }));
    }

    /// Ends a tape of the body.
    pub(super) fn close(&mut self, sequence: u64, command: &Arc<Command>) -> Outcome {
        let outcome = self.session.within(sequence, command);
        self.body.steps.push(Step { captures: SmallVec::new(), command: Arc::clone(command) });
        outcome
    }

    /// Releases what the body knows of some handles.
    pub(super) fn release(&mut self, handles: &[Handle]) {
        let known = handles.iter().copied().filter(|one| self.session.slots.contains_key(one));
        let handles: Vec<Handle> = known.collect();
        if handles.is_empty() || self.body.steps.len() >= MAX_BODY {
            return;
        }
        let kind = Kind::Release { handles };
        let command = Arc::new(Command { kind, tag: "".into(), scope: 0, source: None });
        if self.session.within(0, &command).result.is_ok() {
            self.body.steps.push(Step { captures: SmallVec::new(), command });
        }
    }
}

/// What a command of a body costs, in bytes.
pub(super) fn price(Command { kind, source, .. }: &Command) -> u64 {
    let handles = kind.outputs().len() + kind.mentions().len();
    let source = source.as_ref().map_or(0, |source| source.len());
    COMMAND_BYTES + handles as u64 * HANDLE_BYTES + source as u64
}

/// Whether a command changes nothing.
fn asks(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Fetch { .. }
            | Kind::Describe { .. }
            | Kind::Explain { .. }
            | Kind::ExplainFunction { .. }
            | Kind::ListWatchedVariables { .. }
            | Kind::Sync
    )
}

/// What a command that no body may have would do there.
fn excluded(kind: &Kind) -> Option<&'static str> {
    match kind {
        Kind::CreateVariable { .. } => Some("the creation of a variable"),
        Kind::CreateOptimizer { .. } => Some("the creation of an optimizer"),
        Kind::CreateGenerator { .. } => Some("the creation of a generator"),
        Kind::SetOptimizer { .. } => Some("the change of an optimizer's hyperparameters"),
        Kind::RunLoop(_) => Some("a loop that the server runs"),
        _ => None,
    }
}
