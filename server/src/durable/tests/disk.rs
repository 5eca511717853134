//! A disk that can lie, tear, fill up and fail.

use std::{
    collections::HashMap,
    io::{self, Read},
    sync::{Mutex, MutexGuard},
};

use crate::{
    durable::store::{Fault, Store, Write},
    ids,
    session::registry::SessionId,
};

/// How a disk, or the way to it, is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is not.
    #[default]
    None,
    /// It confirms what it has not written: `fsync` does nothing.
    SkipsSync,
    /// It writes the content of each record twice.
    Doubles,
    /// It loses one record in seven.
    Drops,
    /// It puts a new log in the place of the old one before all of it is written.
    Hastens,
    /// It counts backwards how often it was opened, so that an older owner passes for a newer one.
    Rewinds,
}

/// Where in the replacement of a log the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Before the new one is in its place.
    Before,
    /// After that.
    After,
}

#[derive(Debug)]
pub(super) struct Disk {
    state: Mutex<State>,
    identity: [u8; 16],
}

impl Default for Disk {
    fn default() -> Self {
        Self { state: Mutex::default(), identity: ids::random() }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) flaw: Flaw,
    pub(super) logs: HashMap<SessionId, Vec<u8>>,
    pub(super) notes: HashMap<SessionId, Vec<u8>>,
    /// How much of each log would survive a loss of power.
    safe: HashMap<SessionId, usize>,
    /// The power goes during the next commit, after so many bytes of it.
    pub(super) tear: Option<usize>,
    /// The power goes during the next replacement.
    pub(super) cut: Option<Moment>,
    /// How often logs were replaced.
    pub(super) replaced: usize,
    pub(super) full: bool,
    /// `fsync` fails.
    pub(super) fails: bool,
    commits: u64,
    epoch: u64,
}

impl Disk {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The power goes and comes back: what was not safe is lost.
    pub(super) fn lose_power(&self) {
        let mut state = self.lock();
        state.epoch += 1;
        (state.tear, state.cut, state.fails, state.full) = (None, None, false, false);
        let State { logs, safe, .. } = &mut *state;
        for (id, log) in logs.iter_mut() {
            log.truncate(safe.get(id).copied().unwrap_or(0));
        }
    }

    pub(super) fn log(&self, id: SessionId) -> Vec<u8> {
        self.lock().logs.get(&id).cloned().unwrap_or_default()
    }

    pub(super) fn set_log(&self, id: SessionId, log: Vec<u8>) {
        let mut state = self.lock();
        state.safe.insert(id, log.len());
        state.logs.insert(id, log);
    }
}

impl Store for Disk {
    fn epoch(&self) -> u64 {
        let state = self.lock();
        if state.flaw == Flaw::Rewinds { u64::MAX - state.epoch } else { state.epoch }
    }

    fn advance(&self, above: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.epoch = state.epoch.max(above + 1);
        Ok(())
    }

    fn identity(&self) -> [u8; 16] {
        self.identity
    }

    fn list(&self) -> io::Result<Vec<SessionId>> {
        Ok(self.lock().logs.keys().copied().collect())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Fault> {
        let mut state = self.lock();
        if state.full {
            return Err(Fault::Full(io::ErrorKind::StorageFull.into()));
        }
        if state.fails {
            return Err(Fault::Broken(io::Error::other("fsync")));
        }
        state.commits += 1;
        let drops = state.flaw == Flaw::Drops && state.commits.is_multiple_of(7);
        let flaw = state.flaw;
        let tear = state.tear;
        for write in writes {
            let bytes = write.parts.concat();
            let log = state.logs.entry(write.id).or_default();
            let at = usize::try_from(write.at).unwrap();
            if flaw == Flaw::None {
                assert_eq!(log.len(), at, "a write at the end");
            }
            if let Some(tear) = tear {
                log.extend(&bytes[..tear.min(bytes.len())]);
                let safe = log.len();
                state.safe.insert(write.id, safe);
                return Err(Fault::Broken(io::Error::other("the power is gone")));
            }
            if drops {
                continue;
            }
            log.extend(&bytes);
            if flaw == Flaw::Doubles {
                log.extend(&bytes);
            }
            let safe = log.len();
            if flaw != Flaw::SkipsSync {
                state.safe.insert(write.id, safe);
            }
        }
        Ok(())
    }

    fn replace(&self, id: SessionId, parts: &[bytes::Bytes]) -> Result<(), Fault> {
        let mut state = self.lock();
        if state.full {
            return Err(Fault::Full(io::ErrorKind::StorageFull.into()));
        }
        let cut = state.cut;
        if state.fails || cut == Some(Moment::Before) {
            return Err(Fault::Broken(io::Error::other("the power is gone")));
        }
        let log = parts.concat();
        let hastens = matches!(state.flaw, Flaw::Hastens | Flaw::SkipsSync);
        state.safe.insert(id, if hastens { log.len() / 2 } else { log.len() });
        state.logs.insert(id, log);
        state.replaced += 1;
        match cut {
            Some(_) => Err(Fault::Broken(io::Error::other("the power is gone"))),
            None => Ok(()),
        }
    }

    fn read(&self, id: SessionId) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let log = self.log(id);
        let size = log.len() as u64;
        Ok((Box::new(io::Cursor::new(log)), size))
    }

    fn truncate(&self, id: SessionId, length: u64) -> io::Result<()> {
        let mut log = self.log(id);
        log.truncate(usize::try_from(length).unwrap());
        self.set_log(id, log);
        Ok(())
    }

    fn remove(&self, id: SessionId) -> io::Result<()> {
        let mut state = self.lock();
        state.logs.remove(&id);
        state.notes.remove(&id);
        Ok(())
    }

    fn note(&self, id: SessionId) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock().notes.get(&id).cloned())
    }

    fn set_note(&self, id: SessionId, note: Option<&[u8]>) -> io::Result<()> {
        let mut state = self.lock();
        match note {
            Some(note) => drop(state.notes.insert(id, note.to_vec())),
            None => drop(state.notes.remove(&id)),
        }
        Ok(())
    }
}
