//! What can go wrong, as data.
//!
//! A command that fails leaves the session usable: its [`Failure`] surfaces where a value that depends on it is
//! asked for, and at [`Session::sync`](crate::Session::sync). All other errors end the session.

use std::sync::Arc;

use gradtape_proto::v1 as proto;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{DType, Spec};

/// The result of asking a session for something.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a session has no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A command failed; the session goes on.
    #[error(transparent)]
    Command(#[from] Arc<Failure>),
    /// The server refused a call, which ends the session if it was the session's stream.
    #[error(transparent)]
    Refused(#[from] Arc<Refusal>),
    /// The server cannot be reached, and trying again did not help.
    #[error("the server cannot be reached: {0}")]
    Transport(String),
    /// The server said something that the protocol does not allow.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// The elements were asked for in another type than they have.
    #[error("asked for {asked} elements of a tensor of {found}")]
    DType {
        /// The type asked for.
        asked: DType,
        /// The type of the tensor.
        found: DType,
    },
    /// A single number was asked of a tensor that has more or less than one element.
    #[error("asked for one number of a tensor of shape {shape:?}")]
    NotScalar {
        /// The shape of the tensor.
        shape: Vec<i64>,
    },
    /// The session was closed.
    #[error("the session is closed")]
    Closed,
}

impl Error {
    /// The command's failure, if this is one.
    pub fn failure(&self) -> Option<&Failure> {
        if let Self::Command(failure) = self { Some(failure) } else { None }
    }

    /// The machine-readable reason that the server gave, if it gave one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Command(failure) => Some(&failure.reason),
            Self::Refused(refusal) => Some(&refusal.reason),
            Self::Transport(_)
            | Self::Protocol(_)
            | Self::DType { .. }
            | Self::NotScalar { .. }
            | Self::Closed => None,
        }
    }

    /// Takes a status as the server's last word if the server signed it, else as a fault of the network.
    pub(crate) fn from_status(status: &Status) -> Self {
        if is_transient(status) {
            Self::Transport(status.message().to_owned())
        } else {
            Self::Refused(Arc::new(Refusal::from(status)))
        }
    }
}

/// Whether the same call may succeed later. A status with an `ErrorInfo` was made by the server on purpose; without
/// one, these codes are what the HTTP/2 stack makes of a broken connection.
pub(crate) fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded => {
            status.get_details_error_info().is_none()
        }
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// A failed command.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{op} at {tag}: {message} [{reason}]")]
#[non_exhaustive]
pub struct Failure {
    /// The kind of failure.
    pub code: Code,
    /// The reason, stable across versions, for example `SHAPE_MISMATCH`.
    pub reason: String,
    /// What was wrong and what was expected. The wording may change.
    pub message: String,
    /// Sequence number of the command.
    pub sequence: u64,
    /// Sequence number of the first failure that led here.
    pub root_sequence: u64,
    /// Op, optimizer or verb that failed.
    pub op: String,
    /// Types and shapes of its inputs, as far as they were known.
    pub inputs: Vec<Spec>,
    /// Source file and line of the call that made the command.
    pub tag: String,
    /// Source file and line of the call that made the command at `root_sequence`.
    pub root_tag: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// The malformed field of the command; may be empty.
    pub field: String,
    /// The first failure that led here, if this one is only its consequence.
    #[source]
    pub cause: Option<Arc<Failure>>,
}

impl Failure {
    /// Whether the command failed only because an input had failed before.
    pub fn is_poisoned(&self) -> bool {
        self.root_sequence != self.sequence
    }
}

impl From<proto::Error> for Failure {
    fn from(error: proto::Error) -> Self {
        Self {
            code: Code::from_i32(error.code),
            reason: error.reason,
            message: error.message,
            sequence: error.sequence,
            root_sequence: error.root_sequence,
            op: error.op,
            // A spec that this client cannot read is no reason to lose the error.
            inputs: error.inputs.into_iter().filter_map(|spec| spec.try_into().ok()).collect(),
            tag: error.tag,
            root_tag: error.root_tag,
            hint: error.hint,
            field: error.field,
            cause: None,
        }
    }
}

/// A gRPC status of the server.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message} [{code:?} {reason}]")]
#[non_exhaustive]
pub struct Refusal {
    /// The kind of refusal.
    pub code: Code,
    /// The reason, stable across versions, for example `SUPERSEDED`; empty if the server gave none.
    pub reason: String,
    /// What was wrong. The wording may change.
    pub message: String,
}

impl From<&Status> for Refusal {
    fn from(status: &Status) -> Self {
        let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
        Self { code: status.code(), reason, message: status.message().to_owned() }
    }
}
