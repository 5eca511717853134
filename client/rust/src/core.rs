//! What everything that belongs to a session holds on to.

use std::{
    collections::HashMap,
    panic::Location,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use gradtape_proto::v1::{self as proto, Reply, command::Kind};
use tokio::sync::watch;

use crate::{
    Error, Result, TensorData,
    queue::{AnswerReceiver, Queue},
    remote::Remote,
    variable::Inner,
    worker::Afterwards,
};

/// The reason with which the server refuses to put a large tensor into a reply.
const TOO_LARGE_TO_FETCH: &str = "FETCH_TOO_LARGE";

/// One session; the worker ends when the last holder is gone.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) queue: Arc<Queue>,
    pub(crate) remote: Remote,
    /// The worker holds the only receiver, so this channel closes when the worker has ended.
    pub(crate) afterwards: watch::Sender<Afterwards>,
    /// The variables by handle, because a tape's reply names them by handle.
    variables: Mutex<HashMap<u64, Weak<Inner>>>,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Core {
    pub(crate) fn new(
        queue: Arc<Queue>,
        remote: Remote,
        afterwards: watch::Sender<Afterwards>,
    ) -> Self {
        Self { queue, remote, afterwards, variables: Mutex::default() }
    }

    /// Waits for an answer. From here on the program knows of the failure, if it is one.
    pub(crate) async fn answer(&self, receiver: AnswerReceiver) -> Result<Reply> {
        self.queue.hurry();
        let outcome = receiver.await.unwrap_or(Err(Error::Closed));
        if let Err(Error::Command(failure)) = &outcome {
            self.queue.told(failure.root_sequence);
        }
        outcome
    }

    /// Waits for the elements of a value, which come in chunks if they are many.
    pub(crate) async fn fetched(&self, value: u64, receiver: AnswerReceiver) -> Result<TensorData> {
        match self.answer(receiver).await {
            Ok(Reply { result: Some(proto::reply::Result::Tensor(tensor)), .. }) => {
                tensor.try_into()
            }
            Ok(reply) => Err(unexpected(&reply)),
            Err(Error::Command(failure)) if failure.reason == TOO_LARGE_TO_FETCH => {
                self.remote.download(value, failure.sequence).await
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn add_variable(&self, variable: &Arc<Inner>) {
        let mut variables = self.variables.lock().unwrap_or_else(PoisonError::into_inner);
        variables.insert(variable.id(), Arc::downgrade(variable));
    }

    pub(crate) fn variable(&self, handle: u64) -> Option<Arc<Inner>> {
        let variables = self.variables.lock().unwrap_or_else(PoisonError::into_inner);
        variables.get(&handle)?.upgrade()
    }

    pub(crate) fn remove_variable(&self, handle: u64) {
        self.variables.lock().unwrap_or_else(PoisonError::into_inner).remove(&handle);
    }
}

/// An answer that does not fit the question.
pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::Protocol(format!("command {} got an answer of another kind", reply.sequence))
}

/// A handle that is released when the last copy of it goes.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) core: Arc<Core>,
    pub(crate) id: u64,
    pub(crate) scope: u32,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.core.queue.release(self.id);
    }
}

impl Handle {
    /// Enqueues a command that makes something, and takes charge of it.
    pub(crate) fn make(
        core: &Arc<Core>,
        scope: u32,
        location: &'static Location<'static>,
        kind: impl FnOnce(u64) -> Kind,
    ) -> Arc<Self> {
        let id = core.queue.record(scope, location, |recorder| {
            let id = recorder.handle();
            recorder.push(kind(id));
            id
        });
        Self::own(core, scope, id)
    }

    /// Takes charge of something that an enqueued command makes.
    pub(crate) fn own(core: &Arc<Core>, scope: u32, id: u64) -> Arc<Self> {
        Arc::new(Self { core: Arc::clone(core), id, scope })
    }

    /// Enqueues a command about this.
    pub(crate) fn push(&self, location: &'static Location<'static>, kind: Kind) {
        self.core.queue.record(self.scope, location, |recorder| recorder.push(kind));
    }

    /// Enqueues a question about this and sends everything before it.
    pub(crate) fn ask(&self, location: &'static Location<'static>, kind: Kind) -> AnswerReceiver {
        self.core.queue.record(self.scope, location, |recorder| recorder.ask(kind))
    }
}
