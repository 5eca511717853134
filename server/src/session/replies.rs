//! The replies of executed commands, kept until the client has them.
//!
//! Invariant: the kept commands are the newest ones, without holes. Which content a number had is remembered as long as
//! its reply.

use std::collections::VecDeque;

use gradtape_proto::v1;
use prost::Message;

/// The newest replies of a session.
#[derive(Debug)]
pub struct Replies {
    /// Sequence number of the first kept command.
    first: u64,
    kept: VecDeque<Kept>,
    bytes: usize,
    max_commands: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    digest: u64,
    bytes: u32,
    /// Boxed, since most commands have nothing to say.
    reply: Option<Box<v1::Reply>>,
}

/// What is known of a command that was executed before.
#[derive(Debug, PartialEq)]
pub enum Recall<'a> {
    /// The same command; its reply, unless it succeeded silently.
    Same(Option<&'a v1::Reply>),
    /// A command with other content.
    Other,
    /// Nothing: its reply is gone.
    Evicted,
}

impl Replies {
    /// No replies, and room for so many commands and bytes.
    pub fn new(max_commands: usize, max_bytes: usize) -> Self {
        Self { first: 1, kept: VecDeque::new(), bytes: 0, max_commands, max_bytes }
    }

    /// Keeps what was said about the next command.
    pub fn record(&mut self, digest: u64, reply: Option<&v1::Reply>) {
        let bytes = reply.map_or(0, Message::encoded_len);
        self.bytes += bytes;
        self.kept.push_back(Kept {
            digest,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            reply: reply.cloned().map(Box::new),
        });
        while self.kept.len() > self.max_commands
            || (self.bytes > self.max_bytes && self.kept.len() > 1)
        {
            self.forget();
        }
    }

    /// Sequence number of the first that is kept, and of each command from there on its digest and what was said.
    pub fn kept(&self) -> (u64, impl Iterator<Item = (u64, Option<&v1::Reply>)>) {
        (self.first, self.kept.iter().map(|kept| (kept.digest, kept.reply.as_deref())))
    }

    /// Keeps what was kept elsewhere.
    pub fn restore(
        &mut self,
        first: u64,
        kept: impl IntoIterator<Item = (u64, Option<v1::Reply>)>,
    ) {
        *self = Self { first, ..Self::new(self.max_commands, self.max_bytes) };
        for (digest, reply) in kept {
            self.record(digest, reply.as_ref());
        }
    }

    /// Looks up a command that was executed.
    pub fn recall(&self, sequence: u64, digest: u64) -> Recall<'_> {
        let kept = sequence
            .checked_sub(self.first)
            .and_then(|i| usize::try_from(i).ok())
            .and_then(|i| self.kept.get(i));
        match kept {
            None => Recall::Evicted,
            Some(kept) if kept.digest != digest => Recall::Other,
            Some(kept) => Recall::Same(kept.reply.as_deref()),
        }
    }

    /// Forgets everything up to a sequence number, which the client has seen.
    pub fn acknowledge(&mut self, sequence: u64) {
        while self.first <= sequence && !self.kept.is_empty() {
            self.forget();
        }
    }

    fn forget(&mut self) {
        if let Some(kept) = self.kept.pop_front() {
            self.bytes -= kept.bytes as usize;
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(sequence: u64) -> v1::Reply {
        v1::Reply { sequence, ..Default::default() }
    }

    #[test]
    fn the_same_command_gets_its_reply_and_another_does_not() {
        let mut replies = Replies::new(10, 1000);
        replies.record(7, None);
        replies.record(8, Some(&reply(2)));
        assert_eq!(replies.recall(1, 7), Recall::Same(None));
        assert_eq!(replies.recall(2, 8), Recall::Same(Some(&reply(2))));
        assert_eq!(replies.recall(2, 7), Recall::Other);
        assert_eq!(replies.recall(3, 7), Recall::Evicted);
        assert_eq!(replies.recall(0, 7), Recall::Evicted);
    }

    #[test]
    fn an_acknowledged_command_is_forgotten() {
        let mut replies = Replies::new(10, 1000);
        for i in 1..=3 {
            replies.record(i, Some(&reply(i)));
        }
        replies.acknowledge(2);
        assert_eq!(replies.recall(2, 2), Recall::Evicted);
        assert_eq!(replies.recall(3, 3), Recall::Same(Some(&reply(3))));
        replies.acknowledge(u64::MAX);
        replies.record(4, None);
        assert_eq!(replies.recall(4, 4), Recall::Same(None));
        assert_eq!(replies.bytes, 0);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_commands_or_bytes() {
        let mut replies = Replies::new(2, 1000);
        for i in 1..=3 {
            replies.record(i, None);
        }
        assert_eq!(replies.recall(1, 1), Recall::Evicted);
        assert_eq!(replies.recall(2, 2), Recall::Same(None));

        // Each reply is a field key and a small number: two bytes. The newest stays whatever its size.
        let mut replies = Replies::new(10, 3);
        replies.record(1, Some(&reply(1)));
        replies.record(2, Some(&reply(2)));
        assert_eq!(replies.recall(1, 1), Recall::Evicted);
        assert_eq!(replies.recall(2, 2), Recall::Same(Some(&reply(2))));
    }
}
