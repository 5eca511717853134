//! What a session tells its journal of a command, and how it does again what a journal tells of.

use std::{sync::Arc, time::Duration};

use gradtape_engine::{error::Error, session::Session as Engine};
use gradtape_proto::v1::{self, command::Kind, reply};
use prost::Message;
use xxhash_rust::xxh3::Xxh3Default;

use super::{Barrier, Deviation, Run, SessionCore, Told};
use crate::{
    durable::{
        entry::{Cause, Entry, Lacked},
        journal::Journal,
        state,
    },
    session::error::ProtocolError,
};

/// How long a level is waited for if the client does not say, and at most.
const LEVEL_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_LEVEL_TIMEOUT: Duration = Duration::from_mins(10);

impl SessionCore {
    /// Lets a journal hear of what takes effect from now on.
    pub fn tell(&mut self, journal: Arc<Journal>) {
        self.journal = Some(journal);
    }

    /// Begins to do again what was done before.
    pub fn repeat(&mut self, entry: Entry) -> Run {
        let mut run = Run::new(vec![entry.command.clone()], self.next_sequence);
        run.before = Some(Box::new(entry));
        run
    }

    /// Lets the log begin anew with the session's state, if it is so long that it should and the state can be written now.
    /// If not, another command brings it to where it can.
    pub fn shorten_log(&self) {
        let Some(journal) = self.journal.as_ref().filter(|journal| journal.is_due()) else {
            return;
        };
        if !self.engine.is_plain() {
            return;
        }
        if !self.begin_anew(journal) {
            journal.let_grow();
        }
    }

    /// Lets the log begin anew with the session's state, and says whether that can be written now. What waits in uploads cannot;
    /// what is staged later is in the log behind it.
    pub fn begin_anew(&self, journal: &Arc<Journal>) -> bool {
        let Some(captured) = self.state() else { return false };
        self.uploads.while_empty(|| journal.begin_anew(captured))
    }

    /// What waits for commands that name it.
    pub fn uploads(&self) -> &Arc<crate::session::uploads::Uploads> {
        &self.uploads
    }

    /// All of the session's state beside what waits in uploads, if it can be written now.
    pub fn state(&self) -> Option<state::Captured> {
        state::capture(self.engine.image()?, &self.replies, self.next_sequence)
    }

    /// Becomes what a state tells of. Nothing was executed before.
    pub fn become_as(&mut self, loading: state::Loading) -> Result<(), ProtocolError> {
        let (image, state) = loading.finish()?;
        self.engine = Engine::from_image(Arc::clone(self.engine.ledger()), image)?;
        self.next_sequence = state.next_sequence;
        state::replies(state, &mut self.replies);
        Ok(())
    }

    /// What the journal gets to hear.
    pub(super) fn entry(
        &self,
        reply: Option<&v1::Reply>,
        cause: Option<Cause>,
        steps: Option<i64>,
        told: &Told,
    ) -> Entry {
        let lacked = cause.map(|cause| Lacked {
            cause: cause.into(),
            undecoded: told.undecoded,
            reply: reply.map(Message::encode_to_vec).unwrap_or_default(),
        });
        let digest = if lacked.is_some() { 0 } else { self.hash(reply, told.is_barrier) };
        Entry { command: told.command.clone(), digest, steps, lacked }
    }

    /// How what came of a command differs from what came of it before. What was lacking then is said in the same words.
    pub(super) fn compare(
        &self,
        before: &Entry,
        reply: &mut Option<v1::Reply>,
        cause: Option<Cause>,
        is_barrier: bool,
    ) -> Option<Deviation> {
        if let Some(lacked) = &before.lacked {
            // The record was whole, so this is what was written.
            *reply = v1::Reply::decode(&*lacked.reply).ok();
            return None;
        }
        if cause.is_some() {
            return Some(Deviation::Lacks);
        }
        (self.hash(reply.as_ref(), is_barrier) != before.digest).then_some(Deviation::Differs)
    }

    /// Hash of a reply, as far as it follows from the commands, and behind a barrier of all variables.
    fn hash(&self, reply: Option<&v1::Reply>, is_barrier: bool) -> u64 {
        let mut hash = Xxh3Default::new();
        match reply.map(|reply| (reply, &reply.result)) {
            None => {}
            // Words may change, and lists in them may have another order.
            Some((_, Some(reply::Result::Error(error)))) => {
                hash.update(&error.code.to_le_bytes());
                hash.update(error.reason.as_bytes());
                hash.update(&error.root_sequence.to_le_bytes());
            }
            // How something is computed may differ.
            Some((_, Some(reply::Result::Plan(_)))) => hash.update(b"plan"),
            Some((reply, _)) => hash.update(&reply.encode_to_vec()),
        }
        if is_barrier {
            let mut variables: Vec<_> = self.engine.variables().collect();
            variables.sort_unstable_by_key(|(handle, ..)| *handle);
            for (handle, _, tensor) in variables {
                hash.update(&handle.to_le_bytes());
                // Arrays at a session's surface are contiguous, so there always are bytes.
                hash.update(tensor.array().as_bytes().unwrap_or_default());
            }
        }
        hash.digest()
    }
}

impl Entry {
    /// What it failed for want of, and whether it did so before it got to the engine; and how many steps there were.
    pub(super) fn lacked(&self) -> (Option<(Error, bool)>, Option<i64>) {
        let error = |lacked: &Lacked| Some((lacked.cause().error()?, lacked.undecoded));
        (self.lacked.as_ref().and_then(error), self.steps)
    }
}

impl Run {
    /// Takes note of a command that waits for a level.
    pub(super) fn wait_for(&mut self, command: &v1::Command) {
        let Some(Kind::Sync(sync)) = &command.kind else { return };
        let is_portable = sync.level() == v1::Level::Portable;
        if sync.level() != v1::Level::Durable && !is_portable {
            return;
        }
        let timeout = match sync.timeout_ms {
            0 => LEVEL_TIMEOUT,
            timeout => Duration::from_millis(timeout.into()).min(MAX_LEVEL_TIMEOUT),
        };
        let barrier = self.barrier.get_or_insert_default();
        barrier.sequences.push(self.sequence);
        if is_portable {
            barrier.portable.push(self.sequence);
        }
        barrier.timeout = barrier.timeout.max(timeout);
    }

    /// Whether a command waits for a level.
    pub(super) fn waits_for(&self, sequence: u64) -> bool {
        let waiting = self.barrier.as_ref().and_then(|barrier| barrier.sequences.last());
        waiting == Some(&sequence)
    }

    /// What its answer waits for.
    pub fn take_barrier(&mut self) -> Option<Barrier> {
        self.barrier.take()
    }

    /// How the command that was repeated differs.
    pub fn deviation(&self) -> Option<Deviation> {
        self.deviation
    }
}
