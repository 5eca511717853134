//! Rebuilding a session from its log, by doing again what the log tells of.
//!
//! Nothing here depends on time, quotas or cancellation: a command that failed for want of something fails again without being
//! tried, and a loop that was stopped stops after the same step. What comes of each command is compared with what came of it
//! then. A session that cannot be rebuilt is left as it is, on the disk, and only its own client hears of it.

use std::{io, sync::Arc};

use prost::Message;

use super::{
    entry::{Cause, Entry, Group, Opened, Staged, numerics},
    journal::Journal,
    record::{Bad, Kind, Reader, Record, Tail},
    state::{Loading, State},
    store::Store,
};
use crate::{
    checkpoints::{contents::Contents, file},
    session::{
        core::{Deviation, Run, SessionCore, Step},
        error::ProtocolError,
        registry::SessionId,
        stops::Stops,
        uploads::{Staging, Uploads},
    },
    wire::decode,
};

/// How often the process may die while the same record is repeated.
const MOST_DEATHS: u64 = 2;

/// A session on its way back.
#[derive(Debug)]
pub struct Recovery {
    store: Arc<dyn Store>,
    id: SessionId,
    /// Of a session that left memory.
    journal: Option<Arc<Journal>>,
    reader: Option<Reader>,
    epoch: u64,
    /// Where it was when the process died while doing this, and how often.
    died: (u64, u64),
    /// The note that said so.
    note: Option<Vec<u8>>,
    /// The next command after the snapshot that has to come, or has come.
    expected: Option<u64>,
    snapshot: Snapshot,
    entries: std::vec::IntoIter<Entry>,
    /// The command that is being executed.
    run: Option<Run>,
}

/// How far the snapshot is that a log begins with.
#[derive(Debug, Default)]
enum Snapshot {
    /// Nothing was read of it, if there is one.
    #[default]
    NotRead,
    /// Some of it was.
    Loading(Box<Loading>),
    /// The session is as it tells. So many bytes of the log are it.
    Loaded(u64),
}

/// A session that has come back.
#[derive(Debug)]
pub struct Recovered {
    /// The end of its log.
    pub tail: Tail,
    /// Bytes of the log up to the end of its snapshot; 0 without one.
    pub snapshot: u64,
    /// Its last command.
    pub sequence: u64,
}

/// Who has a session, from the first record of its log.
pub fn opened(store: &dyn Store, id: SessionId) -> Result<Opened, ProtocolError> {
    let (bytes, size) = store.read(id).map_err(|error| unreadable(id, 0, &error.into()))?;
    let first = Reader::new(bytes, size).read();
    first
        .map_err(|bad| unreadable(id, 0, &bad))?
        .filter(|record| record.kind == Kind::Opened)
        .and_then(|record| Opened::decode(&*record.content).ok())
        .filter(|opened| opened.session == id.bytes())
        .ok_or_else(|| damaged(id, 0, "it does not say whose session it is"))
}

// === impl Recovery ===

impl Recovery {
    /// Of a session that has a log.
    pub fn new(store: Arc<dyn Store>, id: SessionId) -> Self {
        Self {
            store,
            id,
            journal: None,
            reader: None,
            epoch: 0,
            died: (0, 0),
            note: None,
            expected: None,
            snapshot: Snapshot::NotRead,
            entries: Vec::new().into_iter(),
            run: None,
        }
    }

    /// Of a session whose journal is open: it left memory, and its log is as long as its journal says.
    pub fn of_open(store: Arc<dyn Store>, id: SessionId, journal: Arc<Journal>) -> Self {
        Self { journal: Some(journal), ..Self::new(store, id) }
    }

    /// Repeats commands for as long as there is time. Gives the session when it is complete.
    pub fn proceed(
        &mut self,
        core: &mut SessionCore,
        uploads: &Uploads,
        is_time_over: impl FnMut() -> bool,
    ) -> Result<Option<Recovered>, ProtocolError> {
        let outcome = self.repeat(core, uploads, is_time_over);
        if outcome
            .as_ref()
            .is_err_and(|why| !matches!(why, ProtocolError::SessionQuarantined { .. }))
        {
            // This was not the death of the process. If the note cannot be taken back, it counts as one.
            let _ = self.store.set_note(self.id, self.note.as_deref());
        }
        outcome
    }

    fn repeat(
        &mut self,
        core: &mut SessionCore,
        uploads: &Uploads,
        mut is_time_over: impl FnMut() -> bool,
    ) -> Result<Option<Recovered>, ProtocolError> {
        if self.reader.is_none() {
            // The session's own budget was kept when these commands were executed first.
            core.engine().ledger().set_limit(u64::MAX);
            self.open()?;
        }
        // What was cancelled then fails as it did; nobody cancels anything now.
        let stops = Stops::default();
        loop {
            if let Some(run) = &mut self.run {
                if core.step(run, &stops)? == Step::More {
                    if is_time_over() {
                        return Ok(None);
                    }
                    continue;
                }
                let deviation = run.deviation();
                self.run = None;
                match deviation {
                    None => {}
                    Some(Deviation::Lacks) => return Err(ProtocolError::RecoveryPostponed),
                    Some(Deviation::Differs) => {
                        let sequence = core.next_sequence() - 1;
                        tracing::error!(session = %self.id, sequence, "another result than before");
                        return Err(ProtocolError::SessionDiverged { sequence });
                    }
                }
            }
            if let Some(entry) = self.entries.next() {
                self.run = Some(core.repeat(entry));
            } else if !self.next(core, uploads)? {
                return self.finish(core).map(Some);
            }
        }
    }

    fn open(&mut self) -> Result<(), ProtocolError> {
        failpoint!(RecoverOpen, Err(ProtocolError::RecoveryPostponed));
        self.note = self.store.note(self.id).map_err(|error| self.unreadable(0, error))?;
        if let Some((sequence, deaths)) = self.note.as_deref().and_then(read_note) {
            self.died = (sequence, deaths);
        }
        let opened = opened(self.store.as_ref(), self.id)?;
        if opened.numerics != numerics() {
            return Err(ProtocolError::SessionOfAnother { build: opened.numerics });
        }
        self.expected = opened.snapshot;
        // What is being written at this moment is not there yet.
        let durable = self.journal.as_ref().map(|journal| journal.durable_bytes());
        let (bytes, size) = self.store.read(self.id).map_err(|error| self.unreadable(0, error))?;
        if durable.is_some_and(|durable| size < durable) {
            return Err(damaged(self.id, 0, "it is shorter than what was written"));
        }
        let size = durable.unwrap_or(size);
        self.reader = Some(Reader::new(bytes, size));
        Ok(())
    }

    /// Goes to the next record, if there is one.
    fn next(&mut self, core: &mut SessionCore, uploads: &Uploads) -> Result<bool, ProtocolError> {
        let (id, last, is_loaded) = (self.id, core.next_sequence() - 1, self.is_loaded());
        let Some(reader) = &mut self.reader else { return Ok(false) };
        let record = match reader.read() {
            Ok(record) => record,
            // It was whole when it took the place of the log before it.
            Err(Bad::Torn) if !is_loaded => {
                return Err(damaged(id, last, "its snapshot is torn"));
            }
            Err(Bad::Torn) => {
                let length = reader.tail().map_or(0, |tail| tail.length);
                tracing::warn!(session = %id, last, "cut off a record that was not completed");
                failpoint!(RecoverTorn);
                let cut = self.store.truncate(id, length);
                cut.map_err(|error| self.unreadable(last, error))?;
                None
            }
            Err(bad) => return Err(unreadable(id, last, &bad)),
        };
        let Some(Record { kind, epoch, sequence, content }) = record else {
            return if is_loaded {
                Ok(false)
            } else {
                Err(damaged(id, last, "its snapshot is not complete"))
            };
        };
        if epoch < self.epoch {
            return Err(damaged(id, last, "a record is of an older owner than the one before it"));
        }
        self.epoch = epoch;
        match kind {
            Kind::Opened => {}
            Kind::Snapshot | Kind::Part => self.load(core, kind, sequence, &content)?,
            Kind::Staged | Kind::Group if !is_loaded => {
                return Err(damaged(id, last, "its snapshot is not complete"));
            }
            Kind::Staged => stage(core, uploads, &content).map_err(|error| {
                if let ProtocolError::Command(error) = &error
                    && Cause::of(error).is_some()
                {
                    return ProtocolError::RecoveryPostponed;
                }
                damaged(id, last, "an upload cannot be read")
            })?,
            Kind::Group => {
                if sequence != last + 1 {
                    return Err(damaged(id, last, "commands are missing or doubled"));
                }
                self.enter(sequence)?;
                failpoint!(RecoverRecord);
                let group = Group::decode(&*content);
                let group = group.map_err(|_| damaged(id, last, "a record cannot be read"))?;
                core.acknowledge(group.acknowledged.min(last));
                self.entries = group.entries.into_iter();
            }
        }
        Ok(true)
    }

    /// Whether there is no snapshot, or all of it was read.
    fn is_loaded(&self) -> bool {
        self.expected.is_none() || matches!(self.snapshot, Snapshot::Loaded(_))
    }

    /// Takes the next record of the snapshot.
    fn load(
        &mut self,
        core: &mut SessionCore,
        kind: Kind,
        sequence: u64,
        content: &[u8],
    ) -> Result<(), ProtocolError> {
        let (id, last) = (self.id, sequence.saturating_sub(1));
        if self.expected != Some(sequence) || self.is_loaded() {
            return Err(damaged(id, last, "there is a snapshot where none belongs"));
        }
        let unreadable = |error: ProtocolError| {
            if let ProtocolError::Command(error) = &error
                && Cause::of(error).is_some()
            {
                return ProtocolError::RecoveryPostponed;
            }
            damaged(id, last, &format!("its snapshot cannot be read: {error}"))
        };
        let loading = match (kind, std::mem::take(&mut self.snapshot)) {
            (Kind::Snapshot, Snapshot::NotRead) => {
                self.enter(sequence)?;
                failpoint!(RecoverSnapshot);
                let state = State::decode(content);
                let state = state.map_err(|_| damaged(id, last, "its snapshot cannot be read"))?;
                Box::new(Loading::new(state, core.engine().ledger()).map_err(unreadable)?)
            }
            (Kind::Part, Snapshot::Loading(mut loading)) => {
                loading.take(content).map_err(unreadable)?;
                loading
            }
            _ => return Err(damaged(id, last, "a part of its snapshot is missing or doubled")),
        };
        self.snapshot = if loading.is_complete() {
            core.become_as(*loading).map_err(unreadable)?;
            if core.next_sequence() != sequence {
                return Err(damaged(id, last, "its snapshot is of another command"));
            }
            let tail = self.reader.as_ref().and_then(Reader::tail);
            Snapshot::Loaded(tail.map_or(0, |tail| tail.length))
        } else {
            Snapshot::Loading(loading)
        };
        Ok(())
    }

    /// Notes where it is, before anything that might be the death of the process is done.
    fn enter(&mut self, sequence: u64) -> Result<(), ProtocolError> {
        let deaths = if self.died.0 == sequence { self.died.1 } else { 0 };
        if deaths >= MOST_DEATHS {
            return Err(ProtocolError::SessionQuarantined { sequence });
        }
        let note = [sequence.to_le_bytes(), (deaths + 1).to_le_bytes()].concat();
        let noted = self.store.set_note(self.id, Some(&note));
        noted.map_err(|error| self.unreadable(sequence - 1, error))
    }

    fn finish(&mut self, core: &SessionCore) -> Result<Recovered, ProtocolError> {
        let sequence = core.next_sequence() - 1;
        let tail = self.reader.take().and_then(|reader| reader.tail().cloned());
        let tail = tail.ok_or_else(|| damaged(self.id, 0, "it is empty"))?;
        let forgotten = self.store.set_note(self.id, None);
        forgotten.map_err(|error| self.unreadable(sequence, error))?;
        let snapshot = if let Snapshot::Loaded(length) = self.snapshot { length } else { 0 };
        Ok(Recovered { tail, snapshot, sequence })
    }

    fn unreadable(&self, last: u64, error: io::Error) -> ProtocolError {
        unreadable(self.id, last, &error.into())
    }
}

/// Puts a tensor or a checkpoint where the command that names it finds it.
fn stage(core: &SessionCore, uploads: &Uploads, content: &[u8]) -> Result<(), ProtocolError> {
    let malformed = || ProtocolError::malformed("staged", "cannot be read");
    let mut rest = content;
    let Staged { upload, spec } =
        Staged::decode_length_delimited(&mut rest).map_err(|_| malformed())?;
    let ledger = core.engine().ledger();
    if let Some(spec) = spec {
        let mut staging = Staging::new(ledger, decode::aval(&spec)?)?;
        staging.append(rest)?;
        return uploads.restore(upload, staging);
    }
    let header = file::Header::read(rest, rest.len() as u64)?;
    let tensors = file::read_all(&header, &rest[header.length..], ledger)?;
    uploads.restore_checkpoint(upload, Contents::read(&header)?.assemble(tensors)?);
    Ok(())
}

fn read_note(note: &[u8]) -> Option<(u64, u64)> {
    let (sequence, rest) = note.split_first_chunk()?;
    let (deaths, _) = rest.split_first_chunk()?;
    Some((u64::from_le_bytes(*sequence), u64::from_le_bytes(*deaths)))
}

fn damaged(id: SessionId, last: u64, why: &str) -> ProtocolError {
    tracing::error!(session = %id, last, why, "the log of a session is damaged");
    ProtocolError::SessionDamaged { last, why: why.to_owned() }
}

fn unreadable(id: SessionId, last: u64, bad: &Bad) -> ProtocolError {
    damaged(id, last, &bad.to_string())
}
