//! The one table from protocol errors to gRPC statuses, and the only file that makes a status.
//!
//! Each status carries `google.rpc.ErrorInfo` with a stable reason; malformed requests carry `google.rpc.BadRequest`
//! too.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::encode;
use crate::session::error::ProtocolError;

/// The domain of all reasons.
pub const DOMAIN: &str = "gradtape.dev";

/// How long a client should wait before it tries a full or stopping server again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A call's own deadline is over.
pub fn deadline_exceeded() -> Status {
    let details = ErrorDetails::with_error_info("DEADLINE_EXCEEDED", DOMAIN, HashMap::new());
    Status::with_error_details(Code::DeadlineExceeded, "the call's deadline is over", details)
}

impl From<ProtocolError> for Status {
    fn from(error: ProtocolError) -> Self {
        let (code, reason) = classify(&error);
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata(&error));
        if let ProtocolError::Malformed { field, why } = &error {
            details.add_bad_request_violation(*field, why.clone());
        }
        if let Some(delay) = retry_delay(&error) {
            details.set_retry_info(Some(delay));
        }
        if let ProtocolError::QuotaExceeded { .. } = &error {
            details.add_quota_failure_violation("principal", error.to_string());
        }
        Status::with_error_details(code, error.to_string(), details)
    }
}

/// How long a client should wait, if waiting may help.
#[expect(clippy::wildcard_enum_match_arm, reason = "waiting does not change the others")]
fn retry_delay(error: &ProtocolError) -> Option<Duration> {
    match error {
        ProtocolError::Draining
        | ProtocolError::RecoveryPostponed
        | ProtocolError::SessionStoreFailed
        | ProtocolError::SessionFenced
        | ProtocolError::PortableStoreFailed { .. }
        | ProtocolError::TooManySessions { .. }
        | ProtocolError::TooManyCheckpointUploads { .. } => Some(RETRY_DELAY),
        ProtocolError::AuthenticationBlocked { wait }
        | ProtocolError::QuotaExceeded { wait, .. } => Some(*wait),
        _ => None,
    }
}

/// Code and machine-readable reason. Reasons are never renamed.
pub fn classify(error: &ProtocolError) -> (Code, &'static str) {
    match error {
        ProtocolError::Malformed { .. } => (Code::InvalidArgument, "MALFORMED"),
        ProtocolError::MessageTooLarge { .. } => (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"),
        ProtocolError::VersionUnsupported { .. } => {
            (Code::FailedPrecondition, "VERSION_UNSUPPORTED")
        }
        ProtocolError::HelloExpected => (Code::FailedPrecondition, "HELLO_EXPECTED"),
        ProtocolError::HelloRepeated => (Code::FailedPrecondition, "HELLO_REPEATED"),
        ProtocolError::HelloTimeout => (Code::DeadlineExceeded, "HELLO_TIMEOUT"),
        ProtocolError::SequenceGap { .. } => (Code::Aborted, "SEQUENCE_GAP"),
        ProtocolError::SequenceReused { .. } => (Code::FailedPrecondition, "SEQUENCE_REUSED"),
        ProtocolError::ReplyEvicted { .. } => (Code::Aborted, "REPLY_EVICTED"),
        ProtocolError::RepliesTooLarge => (Code::ResourceExhausted, "REPLIES_TOO_LARGE"),
        ProtocolError::UnknownSession => (Code::NotFound, "UNKNOWN_SESSION"),
        ProtocolError::SessionEnded => (Code::Aborted, "SESSION_ENDED"),
        ProtocolError::SessionBroken { .. } => (Code::Internal, "SESSION_BROKEN"),
        ProtocolError::SessionDamaged { .. } => (Code::DataLoss, "SESSION_DAMAGED"),
        ProtocolError::SessionDiverged { .. } => (Code::DataLoss, "SESSION_DIVERGED"),
        ProtocolError::SessionQuarantined { .. } => (Code::DataLoss, "SESSION_QUARANTINED"),
        ProtocolError::SessionOfAnother { .. } => {
            (Code::FailedPrecondition, "SESSION_OF_ANOTHER_BUILD")
        }
        ProtocolError::RecoveryPostponed => (Code::Unavailable, "RECOVERY_POSTPONED"),
        ProtocolError::SessionStoreFailed => (Code::Unavailable, "SESSION_STORE_FAILED"),
        ProtocolError::SessionFenced => (Code::Unavailable, "SESSION_FENCED"),
        ProtocolError::PortableStoreFailed { .. } => (Code::Unavailable, "PORTABLE_STORE_FAILED"),
        ProtocolError::Superseded => (Code::Aborted, "SUPERSEDED"),
        ProtocolError::Unauthenticated => (Code::Unauthenticated, "UNAUTHENTICATED"),
        ProtocolError::AuthenticationBlocked { .. } => {
            (Code::ResourceExhausted, "AUTHENTICATION_BLOCKED")
        }
        ProtocolError::RoleMissing => (Code::PermissionDenied, "ROLE_MISSING"),
        ProtocolError::QuotaExceeded { quota, .. } => (Code::ResourceExhausted, quota.reason()),
        ProtocolError::TooManySessions { .. } => (Code::ResourceExhausted, "TOO_MANY_SESSIONS"),
        ProtocolError::CreditExceeded { .. } => (Code::ResourceExhausted, "CREDIT_EXCEEDED"),
        ProtocolError::SlowConsumer => (Code::ResourceExhausted, "SLOW_CONSUMER"),
        ProtocolError::TooManyUploads { .. } => (Code::ResourceExhausted, "TOO_MANY_UPLOADS"),
        ProtocolError::UploadStalled => (Code::DeadlineExceeded, "UPLOAD_STALLED"),
        ProtocolError::UploadReplaced => (Code::Aborted, "UPLOAD_REPLACED"),
        ProtocolError::TooManyDownloads { .. } => (Code::ResourceExhausted, "TOO_MANY_DOWNLOADS"),
        ProtocolError::NotApplied { .. } => (Code::FailedPrecondition, "NOT_APPLIED"),
        ProtocolError::CheckpointsDisabled => (Code::FailedPrecondition, "CHECKPOINTS_DISABLED"),
        ProtocolError::UnknownCheckpoint { .. } => (Code::NotFound, "UNKNOWN_CHECKPOINT"),
        ProtocolError::CheckpointExists { .. } => (Code::AlreadyExists, "CHECKPOINT_EXISTS"),
        ProtocolError::InvalidCheckpoint { .. } => (Code::InvalidArgument, "INVALID_CHECKPOINT"),
        ProtocolError::CheckpointCorrupted { .. } => (Code::DataLoss, "CHECKPOINT_CORRUPTED"),
        ProtocolError::CheckpointTooLarge { .. } => {
            (Code::ResourceExhausted, "CHECKPOINT_TOO_LARGE")
        }
        ProtocolError::TooManyCheckpoints { .. } => {
            (Code::ResourceExhausted, "TOO_MANY_CHECKPOINTS")
        }
        ProtocolError::CheckpointSpace { .. } => (Code::ResourceExhausted, "CHECKPOINT_SPACE"),
        ProtocolError::TooManyCheckpointUploads { .. } => {
            (Code::ResourceExhausted, "TOO_MANY_CHECKPOINT_UPLOADS")
        }
        ProtocolError::StoreFailed { .. } => (Code::Internal, "STORE_FAILED"),
        ProtocolError::Draining => (Code::Unavailable, "DRAINING"),
        ProtocolError::Command(error) => {
            let (code, reason, _) = error.classify();
            (encode::code(code), reason)
        }
    }
}

/// Reads a failure of the transport or of decoding, as tonic reports it while a request stream is read.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "tonic gives these two; the others are a peer's"
)]
pub fn from_transport(status: &Status) -> Option<ProtocolError> {
    let why = || status.message().to_owned();
    match status.code() {
        Code::OutOfRange => Some(ProtocolError::MessageTooLarge { why: why() }),
        Code::Internal if is_undecodable(status.message()) => {
            Some(ProtocolError::malformed("message", why()))
        }
        _ => None,
    }
}

/// Whether a message of tonic's says that a request was no valid protocol buffer.
pub fn is_undecodable(message: &str) -> bool {
    message.starts_with("failed to decode Protobuf message")
}

/// The numbers of an error, so that no client has to parse its text.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others carry no numbers")]
fn metadata(error: &ProtocolError) -> HashMap<String, String> {
    let pairs = match error {
        ProtocolError::SequenceGap { expected, given } => {
            vec![("expected_sequence", expected.to_string()), ("given_sequence", given.to_string())]
        }
        ProtocolError::SequenceReused { sequence }
        | ProtocolError::ReplyEvicted { sequence }
        | ProtocolError::NotApplied { sequence } => vec![("sequence", sequence.to_string())],
        ProtocolError::SessionDamaged { last, .. } => {
            vec![("last_good_sequence", last.to_string())]
        }
        ProtocolError::SessionDiverged { sequence } => {
            vec![("diverged_at", sequence.to_string())]
        }
        ProtocolError::SessionQuarantined { sequence } => {
            vec![("last_good_sequence", sequence.saturating_sub(1).to_string())]
        }
        ProtocolError::VersionUnsupported { server, .. } => {
            vec![("server_protocol_version", server.to_string())]
        }
        ProtocolError::SessionBroken { incident }
        | ProtocolError::StoreFailed { incident }
        | ProtocolError::PortableStoreFailed { incident } => {
            vec![("incident", incident.clone())]
        }
        ProtocolError::QuotaExceeded { used, limit, .. } => {
            vec![("used", used.to_string()), ("limit", limit.to_string())]
        }
        ProtocolError::TooManySessions { limit } => vec![("limit", limit.to_string())],
        _ => Vec::new(),
    };
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_names_the_number_that_was_expected() {
        let status = Status::from(ProtocolError::SequenceGap { expected: 4, given: 9 });
        assert_eq!(status.code(), Code::Aborted);
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("SEQUENCE_GAP", DOMAIN));
        assert_eq!(info.metadata["expected_sequence"], "4");
    }

    #[test]
    fn a_malformed_field_is_named() {
        let status = Status::from(ProtocolError::malformed("batch", "must be given"));
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "batch");
    }
}
