//! What survives what.

use gradtape_proto::v1::{self as proto, reply};

use crate::{Error, Result};

/// What a session's state survives. A level holds for a command and all before it, never with holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// In the server's memory: it may be lost if the server stops.
    Applied,
    /// In the server's log and on its disk: it survives the death of the server and of its machine.
    Durable,
    /// In the server's portable store too: it survives the loss of the machine, and any server with the same portable store goes
    /// on with it.
    Portable,
}

/// How far a session came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reached {
    /// The level that everything enqueued before the question has reached.
    pub level: Level,
    /// The last command that is durable; 0 if the server keeps no log of the session.
    pub durable_sequence: u64,
    /// The last command that is known to be portable; 0 if none is.
    pub portable_sequence: u64,
}

impl Reached {
    pub(crate) fn from_reply(reply: &proto::Reply) -> Result<Self> {
        let Some(reply::Result::Sync(sync)) = &reply.result else {
            return Err(Error::Protocol("a sync was answered by something else".to_owned()));
        };
        let level = match sync.level() {
            proto::Level::Unspecified | proto::Level::Applied => Level::Applied,
            proto::Level::Durable => Level::Durable,
            proto::Level::Portable => Level::Portable,
        };
        let proto::SyncReply { durable_sequence, portable_sequence, .. } = *sync;
        Ok(Self { level, durable_sequence, portable_sequence })
    }
}

impl From<Level> for proto::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Applied => Self::Applied,
            Level::Durable => Self::Durable,
            Level::Portable => Self::Portable,
        }
    }
}
