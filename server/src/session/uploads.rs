//! Large tensors and checkpoints that wait for the command that names them.
//!
//! Staging is no part of a session's ordered state: bytes wait here, paid for, until a `Constant` or `RestoreCheckpoint` takes
//! them. If the session has a log they are written there first, so that a client whose upload was confirmed may forget it.
//! A command that is sent again never looks here, because its stored reply answers it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use gradtape_engine::{array::Tensor, error::Error, snapshot::Snapshot};

pub use gradtape_engine::staging::Staging;

use super::error::ProtocolError;
use crate::{
    checkpoints::{contents, file::Encoded},
    durable::{entry, journal::Journal},
    wire::encode,
};

/// The uploads of a session, in progress or waiting to be used.
#[derive(Debug)]
pub struct Uploads {
    slots: Mutex<Vec<Slot>>,
    attempts: AtomicU64,
    limit: usize,
    journal: OnceLock<Arc<Journal>>,
}

#[derive(Debug)]
struct Slot {
    upload: u64,
    /// Which sending of the same number holds the slot: the newest wins.
    attempt: u64,
    staged: Option<Staged>,
}

/// What waits to be used.
#[derive(Debug)]
enum Staged {
    Tensor(Tensor),
    Checkpoint(Box<Snapshot>),
}

/// The right to fill a slot. Dropped unfinished, it gives the slot back.
#[derive(Debug)]
pub struct Ticket {
    uploads: Arc<Uploads>,
    upload: u64,
    attempt: u64,
}

impl Uploads {
    /// Room for so many.
    pub fn new(limit: usize) -> Arc<Self> {
        let (slots, attempts) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { slots, attempts, limit, journal: OnceLock::new() })
    }

    /// Lets a journal hear of what is staged from now on.
    pub fn tell(&self, journal: Arc<Journal>) {
        // It is said once, when the session is made or has come back.
        let _ = self.journal.set(journal);
    }

    /// Stages a tensor that a log holds.
    pub fn restore(&self, upload: u64, staging: Staging) -> Result<(), ProtocolError> {
        self.put(upload, Staged::Tensor(staging.finish()?));
        Ok(())
    }

    /// Stages a checkpoint that a log holds.
    pub fn restore_checkpoint(&self, upload: u64, snapshot: Snapshot) {
        self.put(upload, Staged::Checkpoint(Box::new(snapshot)));
    }

    fn put(&self, upload: u64, staged: Staged) {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.lock();
        slots.retain(|slot| slot.upload != upload);
        slots.push(Slot { upload, attempt, staged: Some(staged) });
    }

    /// Takes a slot for an upload, replacing an earlier one of the same number.
    pub fn begin(self: &Arc<Self>, upload: u64) -> Result<Ticket, ProtocolError> {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.lock();
        slots.retain(|slot| slot.upload != upload);
        if slots.len() >= self.limit {
            return Err(ProtocolError::TooManyUploads { limit: self.limit });
        }
        slots.push(Slot { upload, attempt, staged: None });
        Ok(Ticket { uploads: Arc::clone(self), upload, attempt })
    }

    /// Takes a finished upload out.
    pub fn consume(&self, upload: u64) -> Result<Tensor, Error> {
        match self.take(upload, |staged| matches!(staged, Staged::Tensor(_))) {
            Some(Staged::Tensor(tensor)) => Ok(tensor),
            Some(Staged::Checkpoint(_)) | None => Err(Error::UnknownUpload { upload }),
        }
    }

    /// Takes a staged checkpoint out.
    pub fn consume_checkpoint(&self, upload: u64) -> Result<Snapshot, Error> {
        match self.take(upload, |staged| matches!(staged, Staged::Checkpoint(_))) {
            Some(Staged::Checkpoint(snapshot)) => Ok(*snapshot),
            Some(Staged::Tensor(_)) | None => Err(Error::UnknownUpload { upload }),
        }
    }

    /// Does something while nothing waits here or is on its way, and says whether it did.
    pub fn while_empty(&self, act: impl FnOnce()) -> bool {
        let slots = self.lock();
        let empty = slots.is_empty();
        if empty {
            act();
        }
        empty
    }

    fn take(&self, upload: u64, wanted: impl Fn(&Staged) -> bool) -> Option<Staged> {
        let mut slots = self.lock();
        let position = slots
            .iter()
            .position(|slot| slot.upload == upload && slot.staged.as_ref().is_some_and(&wanted))?;
        slots.swap_remove(position).staged
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ticket ===

impl Ticket {
    /// Puts a complete tensor where a command finds it, and says how many bytes it has.
    pub async fn finish(self, staging: Staging) -> Result<u64, ProtocolError> {
        let received = staging.received();
        let tensor = staging.finish()?;
        let Some(journal) = self.uploads.journal.get().cloned() else {
            self.stage(Staged::Tensor(tensor))?;
            return Ok(received);
        };
        // What the log holds is staged, even if the caller no longer waits.
        let staged = tokio::spawn(async move {
            let spec = Some(encode::spec(&tensor.aval()));
            self.write(&journal, spec, vec![encode::elements(tensor.clone())]).await?;
            self.stage(Staged::Tensor(tensor))
        });
        staged.await.unwrap_or(Err(ProtocolError::Draining))?;
        Ok(received)
    }

    /// Puts a checkpoint where a command finds it.
    pub async fn finish_checkpoint(self, snapshot: Snapshot) -> Result<(), ProtocolError> {
        let Some(journal) = self.uploads.journal.get().cloned() else {
            return self.stage(Staged::Checkpoint(Box::new(snapshot)));
        };
        let copy = snapshot.clone();
        let encode = move || {
            let (tensors, metadata) = contents::write(copy, 0, BTreeMap::new())?;
            Encoded::new(tensors, metadata)
        };
        let staged = tokio::spawn(async move {
            let encoded = tokio::task::spawn_blocking(encode).await;
            let parts = encoded.unwrap_or(Err(ProtocolError::Draining))?.parts;
            self.write(&journal, None, parts).await?;
            self.stage(Staged::Checkpoint(Box::new(snapshot)))
        });
        staged.await.unwrap_or(Err(ProtocolError::Draining))
    }

    /// Writes what is staged to the log, unless another upload has taken its place: the log shall hold them in their order.
    async fn write(
        &self,
        journal: &Arc<Journal>,
        spec: Option<gradtape_proto::v1::TensorSpec>,
        parts: Vec<Bytes>,
    ) -> Result<(), ProtocolError> {
        let written = {
            let slots = self.uploads.lock();
            if !slots.iter().any(|slot| self.holds(slot)) {
                return Err(ProtocolError::UploadReplaced);
            }
            journal.stage(&entry::Staged { upload: self.upload, spec }, parts)
        };
        journal.written(written).await
    }

    fn stage(&self, staged: Staged) -> Result<(), ProtocolError> {
        let mut slots = self.uploads.lock();
        let slot = slots.iter_mut().find(|slot| self.holds(slot));
        slot.ok_or(ProtocolError::UploadReplaced)?.staged = Some(staged);
        Ok(())
    }

    fn holds(&self, slot: &Slot) -> bool {
        slot.upload == self.upload && slot.attempt == self.attempt
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.uploads.lock().retain(|slot| !self.holds(slot) || slot.staged.is_some());
    }
}

#[cfg(test)]
mod tests {
    use gradtape_engine::{aval::Aval, dtype::DType, ledger::Ledger};

    use super::*;

    fn two_floats(ledger: &Arc<Ledger>) -> Staging {
        Staging::new(ledger, Aval::new(DType::F32, [2])).unwrap()
    }

    #[tokio::test]
    async fn a_finished_upload_is_used_once() {
        let (uploads, ledger) = (Uploads::new(1), Ledger::new("session", 100));
        let ticket = uploads.begin(5).unwrap();
        assert!(matches!(uploads.consume(5), Err(Error::UnknownUpload { upload: 5 })));
        let mut staging = two_floats(&ledger);
        staging.append(&1_f32.to_le_bytes()).unwrap();
        staging.append(&2_f32.to_le_bytes()).unwrap();
        assert_eq!(ticket.finish(staging).await, Ok(8));
        let tensor = uploads.consume(5).unwrap();
        assert_eq!(tensor.array().elements::<f32>().unwrap(), [1.0, 2.0]);
        assert_eq!(ledger.used(), 8);
        assert!(uploads.consume(5).is_err());
    }

    #[tokio::test]
    async fn an_abandoned_upload_gives_back_its_slot_and_memory() {
        let (uploads, ledger) = (Uploads::new(1), Ledger::new("session", 100));
        let ticket = uploads.begin(5).unwrap();
        let staging = two_floats(&ledger);
        assert!(matches!(uploads.begin(6), Err(ProtocolError::TooManyUploads { limit: 1 })));
        drop((ticket, staging));
        assert!(uploads.begin(6).is_ok());
        assert_eq!(ledger.used(), 0);
    }

    #[tokio::test]
    async fn the_newest_upload_of_a_number_wins() {
        let (uploads, ledger) = (Uploads::new(1), Ledger::new("session", 100));
        let first = uploads.begin(5).unwrap();
        let second = uploads.begin(5).unwrap();
        let full = || {
            let mut staging = two_floats(&ledger);
            staging.append(&[0; 8]).unwrap();
            staging
        };
        assert_eq!(first.finish(full()).await, Err(ProtocolError::UploadReplaced));
        assert_eq!(second.finish(full()).await, Ok(8));
    }

    #[tokio::test]
    async fn what_is_not_complete_is_not_staged() {
        let (uploads, ledger) = (Uploads::new(1), Ledger::new("session", 100));
        let mut staging = two_floats(&ledger);
        staging.append(&[0; 7]).unwrap();
        assert!(uploads.begin(5).unwrap().finish(staging).await.is_err());
        assert!(uploads.consume(5).is_err());
        assert_eq!(ledger.used(), 0);
    }
}
