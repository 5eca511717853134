//! A disk that loses what was not synced when the power goes, fills up and fails.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use gradtape_server::{
    durable::store::{Fault, Store, Write},
    session::registry::SessionId,
};

/// How a disk, or the way to it, is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is not.
    #[default]
    None,
    /// It confirms what it has not written: `fsync` does nothing.
    SkipsSync,
    /// It writes each record twice.
    Doubles,
    /// It loses one write in three.
    Drops,
    /// It loses the first half of each log when the power goes.
    LosesPrefix,
}

/// The disk, which survives the machine that it is in.
#[derive(Debug, Default)]
pub(crate) struct Disk(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    flaw: Flaw,
    logs: BTreeMap<SessionId, Log>,
    full: bool,
    /// The next `fsync` fails.
    fails: bool,
    commits: u64,
    /// How often it was mounted: what an earlier mount writes goes nowhere.
    mounts: u64,
}

#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    /// How much of it would survive a loss of power.
    safe: usize,
    note: Option<Vec<u8>>,
}

/// A store on a disk, for one life of a server.
#[derive(Debug)]
pub(crate) struct Mount {
    disk: Arc<Disk>,
    number: u64,
}

impl Disk {
    pub(crate) fn new(flaw: Flaw) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { flaw, ..State::default() })))
    }

    /// For a server that starts.
    pub(crate) fn mount(self: &Arc<Self>) -> Mount {
        let mut state = self.lock();
        state.mounts += 1;
        Mount { disk: Arc::clone(self), number: state.mounts }
    }

    /// The server dies: what was not synced is lost, in part or as a whole.
    pub(crate) fn lose_power(&self, survives: impl Fn(usize) -> usize) {
        let mut state = self.lock();
        state.mounts += 1;
        let flaw = state.flaw;
        for log in state.logs.values_mut() {
            let unsafe_bytes = log.bytes.len() - log.safe;
            log.bytes.truncate(log.safe + survives(unsafe_bytes));
            if flaw == Flaw::LosesPrefix {
                log.bytes.drain(..log.safe / 2);
            }
            log.safe = log.bytes.len();
        }
    }

    /// Whether there is room.
    pub(crate) fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// Lets the next `fsync` fail.
    pub(crate) fn fail(&self) {
        self.lock().fails = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mount {
    /// The disk, unless another server has it by now.
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.lock();
        let gone = || io::Error::other("the machine is gone");
        if state.mounts == self.number { Ok(state) } else { Err(gone()) }
    }

    fn log<T>(&self, id: SessionId, look: impl FnOnce(&mut Log) -> T) -> io::Result<T> {
        let mut state = self.state()?;
        state.logs.get_mut(&id).map(look).ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Store for Mount {
    fn epoch(&self) -> u64 {
        self.number
    }

    fn advance(&self, _: u64) -> io::Result<()> {
        Err(io::Error::other("no log comes from elsewhere"))
    }

    fn identity(&self) -> [u8; 16] {
        [0; 16]
    }

    fn list(&self) -> io::Result<Vec<SessionId>> {
        Ok(self.state()?.logs.keys().copied().collect())
    }

    fn commit(&self, writes: &[Write]) -> Result<(), Fault> {
        let mut state = self.state().map_err(Fault::Broken)?;
        if state.full {
            return Err(Fault::Full(io::ErrorKind::StorageFull.into()));
        }
        state.commits += 1;
        let (fails, flaw) = (std::mem::take(&mut state.fails), state.flaw);
        let drops = flaw == Flaw::Drops && state.commits.is_multiple_of(3);
        for write in writes {
            let log = state.logs.entry(write.id).or_default();
            if flaw == Flaw::None && log.bytes.len() as u64 != write.at {
                return Err(Fault::Broken(io::Error::other("somebody else wrote to the log")));
            }
            let bytes = write.parts.concat();
            let times = if drops { 0 } else { 1 + usize::from(flaw == Flaw::Doubles) };
            for _ in 0..times {
                log.bytes.extend(&bytes);
            }
            if !fails && flaw != Flaw::SkipsSync {
                log.safe = log.bytes.len();
            }
        }
        if fails { Err(Fault::Broken(io::Error::other("fsync"))) } else { Ok(()) }
    }

    fn replace(&self, id: SessionId, parts: &[Bytes]) -> Result<(), Fault> {
        let mut state = self.state().map_err(Fault::Broken)?;
        if state.full {
            return Err(Fault::Full(io::ErrorKind::StorageFull.into()));
        }
        if std::mem::take(&mut state.fails) {
            return Err(Fault::Broken(io::Error::other("fsync")));
        }
        let flaw = state.flaw;
        let log = state.logs.entry(id).or_default();
        log.bytes = parts.concat();
        log.safe = if flaw == Flaw::SkipsSync { 0 } else { log.bytes.len() };
        Ok(())
    }

    fn read(&self, id: SessionId) -> io::Result<(Box<dyn Read + Send>, u64)> {
        let bytes = self.log(id, |log| log.bytes.clone())?;
        let length = bytes.len() as u64;
        Ok((Box::new(io::Cursor::new(bytes)), length))
    }

    fn truncate(&self, id: SessionId, length: u64) -> io::Result<()> {
        self.log(id, |log| {
            log.bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
            log.safe = log.bytes.len();
        })
    }

    fn remove(&self, id: SessionId) -> io::Result<()> {
        self.state()?.logs.remove(&id);
        Ok(())
    }

    fn note(&self, id: SessionId) -> io::Result<Option<Vec<u8>>> {
        self.log(id, |log| log.note.clone())
    }

    fn set_note(&self, id: SessionId, note: Option<&[u8]>) -> io::Result<()> {
        self.log(id, |log| log.note = note.map(<[u8]>::to_vec))
    }
}
