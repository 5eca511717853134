//! Bytes to messages.

use std::sync::Arc;

use bytes::Bytes;
use gradtape_proto::v1::{self, command::Kind};
use prost::{DecodeError, Message};

use super::decode;

/// Memory that a larger command took is given back.
const KEPT_BYTES: usize = 4 << 10;

/// Where the commands of a session are decoded, one after the other: most are ops, whose lists go into the memory of the op
/// before.
#[derive(Debug, Default)]
pub struct Inlet {
    command: v1::Command,
    /// Of the command before.
    bytes: usize,
    /// The last tag, which commands in a row often share.
    tag: Arc<str>,
}

/// The scope of a command, for which the rest of it need not be decoded.
#[derive(Clone, PartialEq, Eq, Message)]
struct Scoped {
    #[prost(uint32, tag = "31")]
    scope: u32,
}

impl Inlet {
    /// Decodes the next command. The error leaves an empty one.
    pub fn read(&mut self, bytes: &Bytes) -> Result<(), DecodeError> {
        let kept = self.bytes <= KEPT_BYTES && self.empty();
        self.bytes = bytes.len();
        if !kept {
            self.command = v1::Command::default();
        }
        let mut read = self.command.merge(bytes.clone());
        if read.is_ok() && kept && !self.is_told() {
            // There is no op in the message, but the one before is still there without its content.
            self.command = v1::Command::default();
            read = self.command.merge(bytes.clone());
        }
        if read.is_err() {
            self.command = v1::Command::default();
        }
        read
    }

    /// The command.
    pub fn command(&mut self) -> &mut v1::Command {
        &mut self.command
    }

    /// Its tag, within the limit.
    pub fn tag(&mut self) -> Arc<str> {
        let tag = decode::tag(&self.command);
        // Comparing an empty `String` costs a hundred cycles where `memcmp` masks its loads: it points to no memory.
        if tag.len() != self.tag.len() || (!tag.is_empty() && *self.tag != *tag) {
            self.tag = tag.into();
        }
        Arc::clone(&self.tag)
    }

    /// Empties the last command if it was an op, and says whether it was.
    fn empty(&mut self) -> bool {
        let v1::Command { kind: Some(Kind::Op(op)), tag, scope } = &mut self.command else {
            return false;
        };
        op.clear();
        tag.clear();
        *scope = 0;
        true
    }

    /// Whether the command is certainly none that was left from before.
    fn is_told(&self) -> bool {
        !matches!(&self.command.kind, Some(Kind::Op(op)) if op.name.is_empty())
    }
}

/// The scope of an encoded command. One that cannot be decoded belongs to none.
pub fn scope(bytes: &Bytes) -> u32 {
    Scoped::decode(bytes.clone()).map_or(0, |scoped| scoped.scope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(name: &str, inputs: &[u64]) -> v1::Command {
        let op = v1::Op { name: name.to_owned(), inputs: inputs.to_vec(), ..v1::Op::default() };
        v1::Command { kind: Some(Kind::Op(op)), tag: "here".to_owned(), scope: 3 }
    }

    #[test]
    fn nothing_is_left_of_the_command_before() {
        let large = op("concat", &[1 << 60; 1000]);
        let sync =
            v1::Command { kind: Some(Kind::Sync(v1::Sync::default())), ..Default::default() };
        let commands = [
            op("add", &[1, 2]),
            op("negative", &[3]),
            op("", &[]),
            op("add", &[1, 2]),
            v1::Command::default(),
            op("add", &[1, 2]),
            sync,
            large.clone(),
            op("", &[1]),
            large,
            op("add", &[1]),
        ];
        let mut inlet = Inlet::default();
        for command in commands {
            let bytes = Bytes::from(command.encode_to_vec());
            assert_eq!(inlet.read(&bytes), Ok(()));
            assert_eq!(*inlet.command(), command);
            assert_eq!(scope(&bytes), command.scope);
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_an_empty_command() {
        let mut inlet = Inlet::default();
        inlet.read(&op("add", &[1, 2]).encode_to_vec().into()).unwrap();
        let broken = Bytes::from_static(&[0x12, 0x05, 0x0a]);
        assert!(inlet.read(&broken).is_err());
        assert_eq!(*inlet.command(), v1::Command::default());
        assert_eq!(scope(&broken), 0);
    }
}
