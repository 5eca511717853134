//! The state of a session and what each command does to it.

use std::sync::Arc;

use crate::{
    array::Tensor,
    command::{Command, Handle, Outcome},
    error::Error,
    ledger::Ledger,
};

/// Everything that a client's handles name.
#[derive(Debug)]
pub struct Session { ledger: Arc<Ledger>, bound: std::collections::HashMap<Handle, Option<Tensor>> }
impl Session {
    /// x
    pub fn new(ledger: Arc<Ledger>) -> Self { Self { ledger, bound: Default::default() } }
    /// x
    pub fn apply(&mut self, sequence: u64, command: Command) -> Outcome {
        use crate::command::{Answer, Failure, Kind};
        let fail = |error| Err(Failure { error, op: "x".into(), inputs: vec![], root_sequence: sequence, root_tag: "".into() });
        let result = match command.kind {
            Kind::Sync => Ok(Answer::Synced),
            Kind::Constant { output, value } => { self.bound.insert(output, Some(value)); Ok(Answer::Done) }
            Kind::Fetch { value } => match self.bound.get(&value) { Some(Some(t)) => Ok(Answer::Tensor(t.clone())), _ => fail(Error::UnknownHandle { handle: value }) },
            Kind::CreateGenerator { generator, .. } => if self.bound.insert(generator, None).is_some() { fail(Error::HandleInUse { handle: generator }) } else { Ok(Answer::Done) },
            Kind::CloseTape { .. } => panic!("stub"),
            _ => Ok(Answer::Done),
        };
        Outcome { result, warnings: vec![] }
    }
    /// x
    pub fn reject(&mut self, sequence: u64, r: Rejected) -> Outcome {
        Outcome { result: Err(crate::command::Failure { error: r.error, op: r.op, inputs: vec![], root_sequence: sequence, root_tag: r.tag }), warnings: vec![] }
    }
    /// x
    pub fn peek(&self, handle: Handle) -> Result<Tensor, Error> { self.bound.get(&handle).cloned().flatten().ok_or(Error::UnknownHandle { handle }) }
    /// x
    pub fn handles(&self) -> usize { self.bound.len() }
    /// x
    pub fn ledger(&self) -> &Arc<Ledger> { &self.ledger }
}

/// A command that could not be decoded.
#[derive(Debug)]
pub struct Rejected {
    /// Why.
    pub error: Error,
    /// The verb or op, as far as it was known.
    pub op: Box<str>,
    /// Handles that it would have bound.
    pub outputs: Vec<Handle>,
    /// The client's mark.
    pub tag: Box<str>,
}
