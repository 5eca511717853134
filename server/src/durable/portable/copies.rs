//! Writing copies of a session, for as long as this server has it.
//!
//! One copy of a session is written at a time, beside everything else: of the log's beginning as it is on the disk, in a task
//! of its own that ends even if nobody waits for it any more.

use std::{
    collections::HashSet,
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    Failure, Newest, PATIENCE, Portable,
    manifest::{Manifest, Object, PART_BYTES, Part},
};
use crate::{
    durable::journal::{Journal, Journals},
    session::error::ProtocolError,
};

/// How long a session that comes back waits to hear whether another server has it. If the store does not say, the session comes
/// back all the same, and hears it when it is copied.
const CONFIRMATION: Duration = Duration::from_secs(3);

/// The copies of a session, as the server sees them that has it.
#[derive(Debug)]
pub(in crate::durable) struct Copies {
    portable: Arc<Portable>,
    known: tokio::sync::Mutex<Known>,
    /// The last command that is in a copy.
    sequence: AtomicU64,
    /// The last command that was in the log when this run of the server read it.
    resumed: AtomicU64,
}

/// What this server knows of the store.
#[derive(Debug, Default)]
struct Known {
    /// Whether `newest` is the newest manifest there.
    looked: bool,
    newest: Option<Box<Manifest>>,
    /// Whether this run of the server had the session already.
    ours: bool,
    /// The last manifest that this run tried to write.
    tried: u64,
}

/// The beginning of a log that is to be copied.
struct Beginning {
    bytes: Box<dyn Read + Send>,
    /// Bytes that are left.
    left: u64,
    /// Its last command.
    sequence: u64,
}

impl Copies {
    /// Of a session that was made just now, or of one that may have copies already.
    pub(in crate::durable) fn new(portable: &Arc<Portable>, is_new: bool) -> Self {
        Self {
            portable: Arc::clone(portable),
            known: Known { looked: is_new, ours: is_new, ..Known::default() }.into(),
            sequence: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
        }
    }

    /// The log was read up to this command.
    pub(in crate::durable) fn resume(&self, sequence: u64) {
        self.resumed.store(sequence, Ordering::Relaxed);
    }

    /// Finds out what is in the store, unless that is known.
    async fn look(&self, known: &mut Known, journal: &Journal) -> Result<(), Failure> {
        if known.looked {
            return Ok(());
        }
        match self.portable.newest(journal.id()).await? {
            // What was there is gone: another server has ended the session.
            Newest::None if known.newest.is_some() => return Err(Failure::Fenced),
            Newest::None => {}
            // It was not read back, so nobody was told of it.
            Newest::Torn { generation } if generation == known.tried => {}
            Newest::Torn { .. } => return Err(Failure::Damaged("the newest manifest is damaged")),
            Newest::Whole(manifest) => {
                let here = journal.store().identity();
                let of_this_run = manifest.run == self.portable.run;
                if !of_this_run && (known.ours || manifest.owner != here) {
                    return Err(Failure::Fenced);
                }
                if of_this_run {
                    self.sequence.fetch_max(manifest.sequence, Ordering::Relaxed);
                }
                known.newest = Some(manifest);
            }
        }
        (known.looked, known.ours) = (true, true);
        Ok(())
    }

    /// Writes a copy of all that is durable, and says up to which command that is.
    async fn write(&self, known: &mut Known, journal: &Journal) -> Result<u64, Failure> {
        self.portable.check().await?;
        self.look(known, journal).await?;
        let newest = known.newest.clone();
        let newest = newest.as_deref();
        let resumed = self.resumed.load(Ordering::Relaxed);
        if newest.is_some_and(|newest| newest.run != self.portable.run && newest.sequence > resumed)
        {
            // The disk is an older one: what is in the store came later.
            return Err(Failure::Fenced);
        }
        let mut log = Beginning::of(journal).await?;
        let before = newest.map(|newest| newest.generation);
        let mut manifest = Manifest {
            generation: before.unwrap_or(0).max(known.tried).saturating_add(1),
            opened: journal.opened().clone(),
            owner: journal.store().identity().to_vec(),
            run: self.portable.run.to_vec(),
            epoch: journal.store().epoch(),
            sequence: log.sequence,
            parts: Vec::new(),
            ended: false,
        };
        let there = newest.map_or(&[][..], |newest| &newest.parts);
        // Whatever comes of this, that number is not tried again without another look.
        (known.looked, known.tried) = (false, manifest.generation);
        while log.left > 0 {
            let bytes = log.next().await?;
            let part = Part::of(&bytes, manifest.generation);
            let earlier = there.get(manifest.parts.len()).filter(|earlier| earlier.equals(&part));
            if let Some(earlier) = earlier {
                // It was read back then.
                manifest.parts.push(earlier.clone());
            } else {
                journal.metrics().copied_bytes.inc_by(bytes.len() as u64);
                self.portable.put_part(journal.id(), &part, bytes).await?;
                manifest.parts.push(part);
            }
        }
        self.portable.create(journal.id(), &manifest, before).await?;
        self.tidy(&manifest, newest, journal).await;
        known.looked = true;
        known.newest = Some(Box::new(manifest));
        self.sequence.fetch_max(log.sequence, Ordering::Relaxed);
        Ok(log.sequence)
    }

    /// Removes what neither the newest manifest nor the one before needs. What is left is removed the next time.
    async fn tidy(&self, newest: &Manifest, before: Option<&Manifest>, journal: &Journal) {
        let (id, folder) = (journal.id(), self.portable.folder(journal.id()));
        let parts = before.into_iter().chain([newest]).flat_map(|manifest| &manifest.parts);
        let kept: HashSet<_> = parts.map(|part| part.path(&folder)).collect();
        let goes = |object, path: &_| match object {
            Object::Manifest { generation } => {
                before.is_some_and(|before| generation < before.generation)
            }
            // A later one would be another server's, which has the session by then.
            Object::Part { generation } => generation <= newest.generation && !kept.contains(path),
        };
        if let Err(failure) = self.portable.remove(id, goes).await {
            tracing::warn!(session = %id, %failure, "old copies stay for a while");
        }
    }

    /// Removes all copies, if this server has the session.
    async fn end(&self, journal: &Journal) -> Result<(), Failure> {
        let mut known = self.known.lock().await;
        if known.looked && known.newest.is_none() && known.tried == 0 {
            return Ok(());
        }
        known.looked = false;
        self.look(&mut known, journal).await?;
        let Some(newest) = known.newest.take() else { return Ok(()) };
        let before = newest.generation;
        // From here on no other server takes the session over, so that its parts may go.
        let last = Manifest {
            generation: before.max(known.tried).saturating_add(1),
            run: self.portable.run.to_vec(),
            parts: Vec::new(),
            ended: true,
            ..*newest
        };
        self.portable.create(journal.id(), &last, Some(before)).await?;
        self.portable.remove(journal.id(), |_, _| true).await
    }
}

// === impl Journals ===

impl Journals {
    /// Lets sessions be copied to a portable store.
    pub fn with_portable(mut self, portable: Option<Arc<Portable>>) -> Self {
        self.portable = portable;
        self
    }

    /// Where the copies of sessions are.
    pub fn portable(&self) -> Option<&Arc<Portable>> {
        self.portable.as_ref()
    }

    /// The store of sessions has failed, and with it the server.
    pub fn fail(&self, error: &io::Error) {
        self.shared.fail(&[], error);
    }
}

// === impl Journal ===

impl Journal {
    /// Whether there is a portable store.
    pub fn is_portable(&self) -> bool {
        self.copies.is_some()
    }

    /// The last command that is in the portable store, as far as is known.
    pub fn portable_sequence(&self) -> u64 {
        self.copies.as_ref().map_or(0, |copies| copies.sequence.load(Ordering::Relaxed))
    }

    /// Waits until a command is in the portable store, or the time is over, and says up to which command everything is there.
    pub async fn reach_portable(
        self: &Arc<Self>,
        sequence: u64,
        timeout: Duration,
    ) -> Result<u64, Failure> {
        let copied = self.portable_sequence();
        if copied >= sequence {
            return Ok(copied);
        }
        let copying = tokio::spawn(Arc::clone(self).copy(sequence));
        match tokio::time::timeout(timeout, copying).await {
            Ok(copied) => copied.unwrap_or(Err(Failure::Ended)),
            Err(_) => Ok(self.portable_sequence()),
        }
    }

    async fn copy(self: Arc<Self>, sequence: u64) -> Result<u64, Failure> {
        let Some(copies) = &self.copies else { return Ok(0) };
        let mut known = copies.known.lock().await;
        if self.portable_sequence() >= sequence {
            return Ok(self.portable_sequence());
        }
        let _turn = copies.portable.turn().await?;
        if self.is_over() {
            return Err(Failure::Ended);
        }
        let started = Instant::now();
        let outcome = copies.write(&mut known, &self).await;
        match &outcome {
            Ok(_) => self.metrics().copy_seconds.observe(started.elapsed().as_secs_f64()),
            Err(Failure::Fenced) => self.lose(),
            Err(_) => {
                self.metrics().copies_failed.inc();
            }
        }
        outcome
    }

    /// Makes sure that no other server has the session, if the portable store knows it: before it comes back from its log, and
    /// before a stream relies on it.
    pub async fn confirm(self: &Arc<Self>) -> Result<(), ProtocolError> {
        let Some(copies) = &self.copies else { return Ok(()) };
        // Whoever copies it just now finds out as well.
        let Ok(mut known) = copies.known.try_lock() else { return Ok(()) };
        known.looked &= known.newest.is_none();
        let look = copies.look(&mut known, self);
        match tokio::time::timeout(CONFIRMATION, look).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Failure::Fenced)) => {
                self.lose();
                Err(ProtocolError::SessionFenced)
            }
            Ok(Err(failure)) => {
                tracing::warn!(session = %self.id(), %failure, "cannot ask who has the session");
                Ok(())
            }
            Err(_) => {
                tracing::warn!(session = %self.id(), "not told in time who has the session");
                Ok(())
            }
        }
    }

    /// Another server has the session: this one has nothing more to say of it.
    fn lose(&self) {
        tracing::warn!(session = %self.id(), "another server has taken the session over");
        self.metrics().sessions_fenced.inc();
        // What was taken is written, and the log stays.
        self.lock().closed = true;
        if let Some(session) = self.session() {
            session.end(ProtocolError::SessionFenced);
        }
    }

    /// Whether it takes nothing more.
    fn is_over(&self) -> bool {
        self.lock().takes_no_more()
    }

    /// Whether nothing of it is on its way to the log.
    pub fn is_at_rest(&self) -> bool {
        let log = self.lock();
        log.records.is_empty() && !log.queued
    }

    /// Mark and length of the log, if its end is known.
    fn end(&self) -> Option<(u64, u64)> {
        self.lock().tail.as_ref().map(|tail| (tail.mark, tail.length))
    }

    /// Removes all copies, beside everything else: the session has ended.
    pub(in crate::durable) fn remove_copies(self: &Arc<Self>) {
        if self.copies.is_none() {
            return;
        }
        let journal = Arc::clone(self);
        tokio::spawn(async move {
            let Some(copies) = &journal.copies else { return };
            match copies.end(&journal).await {
                // Another server has the session, and its copies.
                Ok(()) | Err(Failure::Fenced) => {}
                Err(failure) => {
                    tracing::warn!(session = %journal.id(), %failure, "copies of an ended session stay");
                }
            }
        });
    }
}

// === impl Beginning ===

impl Beginning {
    /// All that is durable.
    async fn of(journal: &Journal) -> Result<Self, Failure> {
        let mut progress = journal.progress.subscribe();
        loop {
            // In this order: what is durable is in the log, and perhaps more.
            let sequence = progress.borrow_and_update().durable;
            let (mark, length) = journal.end().ok_or(Failure::Ended)?;
            let (store, id) = (Arc::clone(journal.store()), journal.id());
            let opened = move || {
                let (mut bytes, size) = store.read(id)?;
                let mut first = [0; 8];
                bytes.read_exact(&mut first)?;
                let is_that_log = first == mark.to_le_bytes() && size >= length;
                let bytes: Box<dyn Read + Send> = Box::new(io::Cursor::new(first).chain(bytes));
                io::Result::Ok(is_that_log.then_some(bytes))
            };
            if let Some(bytes) = blocking(opened).await? {
                return Ok(Self { bytes, left: length, sequence });
            }
            // Another log takes its place just now, and its end is told next.
            let changed = tokio::time::timeout(PATIENCE, progress.changed()).await;
            changed.map_err(|_| Failure::Late("read the log"))?.map_err(|_| Failure::Ended)?;
        }
    }

    /// The next part.
    async fn next(&mut self) -> Result<Bytes, Failure> {
        let size = self.left.min(PART_BYTES);
        let mut bytes = std::mem::replace(&mut self.bytes, Box::new(io::empty()));
        let read = move || {
            let mut part = Vec::new();
            bytes.by_ref().take(size).read_to_end(&mut part)?;
            if part.len() as u64 != size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok((bytes, part))
        };
        let (bytes, part) = blocking(read).await?;
        (self.bytes, self.left) = (bytes, self.left - size);
        Ok(part.into())
    }
}

/// Waits for the disk where that keeps nobody else from working.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Failure::Ended)?.map_err(Failure::Log)
}
