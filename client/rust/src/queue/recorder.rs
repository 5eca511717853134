//! The way into the queue: commands get their handles, tags and constants here, in one go under the lock.

use std::panic::Location;

use gradtape_proto::v1::{self as proto, Command, command::Kind};
use tokio::sync::{mpsc, oneshot};

use super::{AnswerReceiver, Reports, ScalarKey, Scalars, State, Upload};
use crate::{DType, TensorData, scalar::Scalar};

/// Most bytes of a tag, by the contract.
const MAX_TAG_BYTES: usize = 256;

/// Most scalar constants that are kept for the next expression; far more than a program spells out.
const MAX_SCALARS: usize = 256;

/// Enqueues commands under the queue's lock.
#[derive(Debug)]
pub(crate) struct Recorder<'a> {
    pub(super) state: &'a mut State,
    pub(super) scope: u32,
    pub(super) location: &'static Location<'static>,
}

// === impl Recorder ===

impl Recorder<'_> {
    /// A handle that is not in use.
    pub(crate) fn handle(&mut self) -> u64 {
        self.state.handles.take()
    }

    /// A number for an upload that no other has.
    pub(crate) fn upload(&mut self) -> u64 {
        let upload = self.state.next_upload;
        self.state.next_upload += 1;
        upload
    }

    /// Enqueues a command that needs no answer.
    pub(crate) fn push(&mut self, kind: Kind) {
        let command = self.command(kind);
        self.state.append(&command, None, None);
        self.state.enqueued();
    }

    /// Enqueues a command and everything before it for now, and says where the answer will arrive.
    pub(crate) fn ask(&mut self, kind: Kind) -> AnswerReceiver {
        let answer = self.listen(kind);
        self.state.urgent = true;
        self.state.enqueued();
        answer
    }

    /// Like [`Recorder::ask`], for an answer that nobody waits for yet.
    pub(crate) fn listen(&mut self, kind: Kind) -> AnswerReceiver {
        let (sender, receiver) = oneshot::channel();
        let command = self.command(kind);
        self.state.append(&command, Some(sender), None);
        self.state.enqueued();
        receiver
    }

    /// Enqueues a constant, inline if it is small enough.
    pub(crate) fn constant(&mut self, data: TensorData) -> u64 {
        use proto::constant::Source;

        let output = self.handle();
        let inline = data.bytes().len() as u64 <= self.state.limits.inline_tensor_bytes;
        let (source, upload) = if inline {
            (Source::Tensor(data.into()), None)
        } else {
            let upload = self.upload();
            (Source::Upload(upload), Some(Upload::Waiting { upload, data }))
        };
        let kind = Kind::Constant(proto::Constant { output, source: Some(source) });
        let command = self.command(kind);
        self.state.append(&command, None, upload);
        self.state.enqueued();
        output
    }

    /// A constant of shape [] that stands for a number in an expression; the same one for the same number.
    ///
    /// Sharing is safe because nothing outside can name it, so no tape can watch it.
    pub(crate) fn scalar(&mut self, scalar: Scalar, peer: Option<DType>) -> u64 {
        let data = scalar.to_data(peer);
        let key = (data.dtype(), data.bytes().clone());
        if self.state.bodies.contains_key(&self.scope) {
            return self.scalar_of_body(key, data);
        }
        if let Some(&handle) = self.state.scalars.get(&key) {
            return handle;
        }
        if self.state.scalars.len() == MAX_SCALARS {
            self.state.forget_scalars();
        }
        let handle = self.constant(data);
        self.state.scalars.insert(key, handle);
        handle
    }

    /// What the body of a function makes ends with it, so it shares its numbers with nothing else.
    fn scalar_of_body(&mut self, key: ScalarKey, data: TensorData) -> u64 {
        let innermost = |bodies: &Vec<Scalars>| bodies.last()?.get(&key).copied();
        if let Some(handle) = self.state.bodies.get(&self.scope).and_then(innermost) {
            return handle;
        }
        let handle = self.constant(data);
        let bodies = self.state.bodies.get_mut(&self.scope);
        if let Some(body) = bodies.and_then(|bodies| bodies.last_mut()) {
            body.insert(key, handle);
        }
        handle
    }

    /// Begins the body of a function in this scope, perhaps within another.
    pub(crate) fn begin_body(&mut self, define: proto::DefineFunction) {
        self.push(Kind::DefineFunction(define));
        self.state.bodies.entry(self.scope).or_default().push(Scalars::new());
    }

    /// Ends the body of the function of this scope.
    pub(crate) fn finish_body(&mut self, finish: proto::FinishFunction) {
        self.push(Kind::FinishFunction(finish));
        let Some(bodies) = self.state.bodies.get_mut(&self.scope) else { return };
        let scalars = bodies.pop().unwrap_or_default();
        if bodies.is_empty() {
            self.state.bodies.remove(&self.scope);
        }
        self.state.dropped.extend(scalars.into_values());
    }

    /// Enqueues a loop: says its sequence number, and where its answer and its reports will arrive.
    pub(crate) fn run_loop(&mut self, run: proto::RunLoop) -> (u64, AnswerReceiver, Reports) {
        let sequence = self.state.first + self.state.log.len() as u64;
        let (sender, reports) = mpsc::unbounded_channel();
        self.state.reports.insert(sequence, sender);
        let answer = self.ask(Kind::RunLoop(run));
        (sequence, answer, reports)
    }

    /// Ends a tape and lets its handle be used again.
    pub(crate) fn close_tape(&mut self, tape: u64) {
        self.push(Kind::CloseTape(proto::CloseTape { tape }));
        self.state.handles.recycle(&[tape]);
    }

    fn command(&self, kind: Kind) -> Command {
        let mut tag = format!("{}:{}", self.location.file(), self.location.line());
        // The end of a path says more than its beginning.
        if let Some(excess) = tag.len().checked_sub(MAX_TAG_BYTES) {
            tag = tag.split_off(tag.ceil_char_boundary(excess));
        }
        Command { kind: Some(kind), tag, scope: self.scope }
    }
}
