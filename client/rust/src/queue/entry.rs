//! One command of the log.

use bytes::Bytes;
use gradtape_proto::v1::{Command, Reply, command::Kind};
use prost::Message;
use tokio::sync::oneshot;

use crate::{Error, Result, TensorData};

#[derive(Debug)]
pub(super) struct Entry {
    /// Encoded, since it may have to be sent again.
    pub(super) command: Bytes,
    /// Whether it asks for elements.
    pub(super) fetches: bool,
    pub(super) answer: Option<oneshot::Sender<Result<Reply>>>,
    pub(super) upload: Option<Upload>,
    /// Whether it failed, once the server has said what came of it. If the server has to go back it is executed again, and that
    /// is told only if it differs.
    pub(super) outcome: Option<Failed>,
}

/// Whether a command failed.
pub(super) type Failed = bool;

/// What must happen before a Constant that names an upload may be sent.
#[derive(Debug)]
pub(super) enum Upload {
    Waiting {
        upload: u64,
        data: TensorData,
    },
    Done,
    /// The server refused it. The Constant is sent nevertheless and fails in its place in the order; this is why.
    Refused(Error),
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(
        command: &Command,
        answer: Option<oneshot::Sender<Result<Reply>>>,
        upload: Option<Upload>,
    ) -> Self {
        let fetches = matches!(command.kind, Some(Kind::Fetch(_)));
        let command = command.encode_to_vec().into();
        Self { command, fetches, answer, upload, outcome: None }
    }

    /// Bytes that it takes in a batch. The tag and length in front of it are at most six.
    pub(super) fn size(&self) -> u64 {
        self.command.len() as u64 + 6
    }

    /// Where the program said it.
    pub(super) fn tag(&self) -> String {
        Command::decode(self.command.clone()).map(|command| command.tag).unwrap_or_default()
    }
}
