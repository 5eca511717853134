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
pub struct Session {
    ledger: Arc<Ledger>,
}

impl Session {
    /// An empty session whose values are paid for by `ledger`.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }

    /// Executes one command. Never panics on its content; a command that fails changes nothing but to poison the handles of
    /// its results.
    pub fn apply(&mut self, sequence: u64, command: Command) -> Outcome {
        let _ = (sequence, command);
        unimplemented!()
    }

    /// Answers a command that could not even be decoded: its results are poisoned like those of one that failed.
    pub fn reject(&mut self, sequence: u64, rejected: Rejected) -> Outcome {
        let _ = (sequence, rejected);
        unimplemented!()
    }

    /// The value behind a handle, for downloads. Changes nothing; variables give their current value.
    pub fn peek(&self, handle: Handle) -> Result<Tensor, Error> {
        Err(Error::UnknownHandle { handle })
    }

    /// Number of bound handles.
    pub fn handles(&self) -> usize {
        0
    }

    /// The ledger that pays for this session's values.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
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
