//! What the records of a log hold, as messages that only the server reads.

use bytes::Bytes;
use gradtape_engine::error::Error;
use gradtape_proto::v1;
use prost::Message;

/// Whose session it is, and who may go on with it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Opened {
    /// The session.
    #[prost(bytes = "vec", tag = "1")]
    pub session: Vec<u8>,
    /// SHA-256 of its token.
    #[prost(bytes = "vec", tag = "2")]
    pub token: Vec<u8>,
    /// Name of the principal, with its source in front.
    #[prost(string, tag = "3")]
    pub owner: String,
    /// Its role: as in a token file.
    #[prost(string, tag = "4")]
    pub role: String,
    /// Its class.
    #[prost(string, optional, tag = "5")]
    pub class: Option<String>,
    /// What computed it: [`numerics`].
    #[prost(string, tag = "6")]
    pub numerics: String,
    /// The next command after the snapshot that follows; without one, the log begins with the session.
    #[prost(uint64, optional, tag = "7")]
    pub snapshot: Option<u64>,
}

/// Commands in their order.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Group {
    /// The commands.
    #[prost(message, repeated, tag = "1")]
    pub entries: Vec<Entry>,
    /// The client has all replies up to this sequence number.
    #[prost(uint64, tag = "2")]
    pub acknowledged: u64,
}

/// A command and what came of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Entry {
    /// The command, as it came.
    #[prost(bytes = "bytes", tag = "1")]
    pub command: Bytes,
    /// Hash of what it said, and of what it left where that is hashed.
    #[prost(fixed64, tag = "2")]
    pub digest: u64,
    /// Steps of a loop that ended before its time.
    #[prost(int64, optional, tag = "3")]
    pub steps: Option<i64>,
    /// It failed for want of something that may be there the next time.
    #[prost(message, optional, tag = "4")]
    pub lacked: Option<Lacked>,
}

/// A failure that depends on more than the session's commands.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Lacked {
    /// What was missing.
    #[prost(enumeration = "Cause", tag = "1")]
    pub cause: i32,
    /// Whether it failed before it got to the engine.
    #[prost(bool, tag = "2")]
    pub undecoded: bool,
    /// What was said.
    #[prost(bytes = "vec", tag = "3")]
    pub reply: Vec<u8>,
}

/// What may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Cause {
    /// Nothing that is known.
    Unspecified = 0,
    /// Room in a budget.
    Budget = 1,
    /// Memory of the machine.
    Memory = 2,
    /// Time: it was cancelled.
    Time = 3,
    /// Room in the reply. The command itself succeeded.
    Reply = 4,
    /// A store that takes copies of sessions.
    Level = 5,
}

/// What a staged tensor or checkpoint is; its bytes follow.
#[derive(Clone, PartialEq, Message)]
pub struct Staged {
    /// The client's number for it.
    #[prost(uint64, tag = "1")]
    pub upload: u64,
    /// Dtype and shape of a tensor; a checkpoint has none.
    #[prost(message, optional, tag = "2")]
    pub spec: Option<v1::TensorSpec>,
}

/// What must be the same for the same commands to give the same bits: the version, and the class of processor
/// (ARCHITECTURE.md, "Numbers").
pub fn numerics() -> String {
    let class = if cfg!(target_arch = "x86_64") { fused() } else { std::env::consts::ARCH };
    format!("{} {class}", env!("CARGO_PKG_VERSION"))
}

#[cfg(target_arch = "x86_64")]
fn fused() -> &'static str {
    let fused = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    if fused { "x86_64 fused" } else { "x86_64" }
}

#[cfg(not(target_arch = "x86_64"))]
fn fused() -> &'static str {
    std::env::consts::ARCH
}

impl Cause {
    /// The cause of an error, if repeating the command might not meet it.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others follow from the commands alone")]
    pub fn of(error: &Error) -> Option<Self> {
        match error {
            Error::MemoryLimit { .. } => Some(Self::Budget),
            Error::OutOfMemory { .. } => Some(Self::Memory),
            Error::Cancelled => Some(Self::Time),
            Error::LevelUnavailable { .. } => Some(Self::Level),
            Error::LoopStep { error, .. } => Self::of(error),
            _ => None,
        }
    }

    /// An error of this cause. What is said of it is kept elsewhere; its reason goes on.
    pub fn error(self) -> Option<Error> {
        match self {
            Self::Budget => {
                Some(Error::MemoryLimit { scope: "session", requested: 0, used: 0, limit: 0 })
            }
            Self::Memory => Some(Error::OutOfMemory { bytes: 0 }),
            Self::Time => Some(Error::Cancelled),
            Self::Level => Some(Error::LevelUnavailable { level: "PORTABLE" }),
            Self::Reply | Self::Unspecified => None,
        }
    }
}
