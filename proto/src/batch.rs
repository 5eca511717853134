//! Batches, whose commands stay as they were encoded.

use std::borrow::Borrow;

use bytes::Bytes;
use prost::Message;

use crate::v1::Command;

/// The message `gradtape.v1.Batch`. Its commands are encoded one by one: who sends a command again sends the same bytes, and
/// who receives many decodes each when its turn comes, without copying it before.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Batch {
    /// Sequence number of the first command.
    #[prost(uint64, tag = "1")]
    pub first_sequence: u64,
    /// The commands, each an encoded [`Command`].
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub commands: Vec<Bytes>,
    /// The client has all replies up to this sequence number.
    #[prost(uint64, tag = "3")]
    pub acknowledged_sequence: u64,
}

impl Batch {
    /// A batch of commands that acknowledges nothing.
    pub fn new<C: Borrow<Command>>(
        first_sequence: u64,
        commands: impl IntoIterator<Item = C>,
    ) -> Self {
        let encoded = |command: C| command.borrow().encode_to_vec().into();
        let commands = commands.into_iter().map(encoded).collect();
        Self { first_sequence, commands, acknowledged_sequence: 0 }
    }
}
