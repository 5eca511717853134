//! What ends a call or a stream. Failures of single commands are not here: they travel in band.

use std::time::Duration;

use gradtape_engine::error::Error as CommandError;

use crate::quota::Quota;

/// Why a call or a stream ends. `wire::status` gives each its code and reason.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages describe the variants and their fields")]
pub enum ProtocolError {
    // The request.
    #[error("{field}: {why}")]
    Malformed { field: &'static str, why: String },
    #[error("the message is larger than the limit: {why}")]
    MessageTooLarge { why: String },
    #[error("the client speaks protocol version {client}, the server {server}")]
    VersionUnsupported { client: u32, server: u32 },
    #[error("the first message of a stream must be a hello")]
    HelloExpected,
    #[error("the stream has said hello already")]
    HelloRepeated,
    #[error("no hello came in time")]
    HelloTimeout,

    // The session's order.
    #[error("command {expected} was expected, {given} came")]
    SequenceGap { expected: u64, given: u64 },
    #[error("command {sequence} was executed before with other content")]
    SequenceReused { sequence: u64 },
    #[error("the reply to command {sequence} is no longer kept")]
    ReplyEvicted { sequence: u64 },
    #[error("the stored replies do not fit in one message: send smaller batches")]
    RepliesTooLarge,

    // The session.
    #[error("there is no such session, or the token is wrong")]
    UnknownSession,
    #[error("the session was ended")]
    SessionEnded,
    #[error("the session broke, incident {incident}")]
    SessionBroken { incident: String },
    #[error("a newer stream took the session over")]
    Superseded,

    // Sessions that have a log.
    #[error("the session's log is damaged after command {last}: {why}")]
    SessionDamaged { last: u64, why: String },
    #[error("command {sequence} of the session's log has another result than before")]
    SessionDiverged { sequence: u64 },
    #[error(
        "the server died again and again when it repeated the session from command {sequence} on"
    )]
    SessionQuarantined { sequence: u64 },
    #[error("the session was computed by {build}, whose numbers may differ from this server's")]
    SessionOfAnother { build: String },
    #[error("the server has too little memory to bring the session back at present")]
    RecoveryPostponed,
    #[error("the store of sessions failed")]
    SessionStoreFailed,
    #[error("another server has taken the session over")]
    SessionFenced,
    #[error("the portable store of sessions failed, incident {incident}")]
    PortableStoreFailed { incident: String },

    // Who asks.
    #[error("the call needs a valid credential: a bearer token, or a client certificate")]
    Unauthenticated,
    #[error(
        "too many calls without a valid credential came from this address: wait {} s",
        seconds(wait)
    )]
    AuthenticationBlocked { wait: Duration },
    #[error("this takes another role")]
    RoleMissing,

    // Limits.
    #[error("{used} of {limit} {} are in use: {}", quota.words().0, quota.words().1)]
    QuotaExceeded { quota: Quota, used: usize, limit: usize, wait: Duration },
    #[error("{limit} of {limit} sessions of the server are in use: wait until one ends")]
    TooManySessions { limit: usize },
    #[error(
        "more than {commands} commands or {bytes} bytes were sent before the earlier ones were applied"
    )]
    CreditExceeded { commands: usize, bytes: usize },
    #[error("the stream does not read its answers")]
    SlowConsumer,
    #[error("the session has {limit} uploads already")]
    TooManyUploads { limit: usize },
    #[error("the upload made no progress")]
    UploadStalled,
    #[error("another upload of the same number took this one's place")]
    UploadReplaced,
    #[error("the session has {limit} waiting downloads already")]
    TooManyDownloads { limit: usize },
    #[error("command {sequence} has not been applied")]
    NotApplied { sequence: u64 },

    // Checkpoints.
    #[error("this server keeps no checkpoints")]
    CheckpointsDisabled,
    #[error("there is no checkpoint named {name:?}")]
    UnknownCheckpoint { name: String },
    #[error("there is a checkpoint named {name:?} already")]
    CheckpointExists { name: String },
    #[error("the checkpoint is invalid: {why}")]
    InvalidCheckpoint { why: String },
    #[error("checkpoint {name:?} is not as it was written: {why}")]
    CheckpointCorrupted { name: String, why: String },
    #[error("the checkpoint has {bytes} bytes, {limit} are allowed")]
    CheckpointTooLarge { bytes: u64, limit: u64 },
    #[error("there are {limit} checkpoints already")]
    TooManyCheckpoints { limit: usize },
    #[error("{bytes} bytes more would exceed the {limit} that all checkpoints together may have")]
    CheckpointSpace { bytes: u64, limit: u64 },
    #[error("{limit} checkpoints are being uploaded already")]
    TooManyCheckpointUploads { limit: usize },
    #[error("the store of checkpoints failed, incident {incident}")]
    StoreFailed { incident: String },

    // The server.
    #[error("the server is shutting down")]
    Draining,

    /// A download or an upload failed for a reason that a command could have.
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl ProtocolError {
    /// A field that cannot be taken.
    pub fn malformed(field: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed { field, why: why.into() }
    }
}

/// Whole seconds, at least as long.
fn seconds(wait: &Duration) -> u64 {
    wait.as_secs().saturating_add(1)
}
