//! Logs that begin anew: a long one is replaced by a short one, which begins with the session's state.
//!
//! A snapshot is a record like any other in the order of a journal, so that what is before it is durable when its turn comes.
//! Then a thread of its own writes the new log beside the old one, and puts it in its place; what the session does meanwhile
//! waits for that, and other sessions do not.

use std::{
    mem,
    sync::{Arc, atomic::Ordering, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;

use super::{
    entry::Opened,
    journal::{Content, Journal, Log, Pending},
    record::{Kind, Tail},
    state::Captured,
    store::Fault,
    writer::{Shared, Shortener},
};
use crate::ids;

/// Elements of one record, in bytes: what is read at a time when a session comes back.
const PART_BYTES: usize = 4 << 20;

/// How much longer than the last snapshot took a session works until the next.
const WORK_FOR_EACH: u32 = 10;

/// How much a log has grown since its snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Growth {
    /// Bytes that were there when it was last looked at: its snapshot.
    snapshot: u64,
    /// What the session has computed since.
    work: Duration,
    /// How long the last snapshot took to be written.
    cost: Duration,
    /// A snapshot is on its way.
    under_way: bool,
}

impl Growth {
    /// Counts from here on: behind so many bytes.
    pub(super) fn begin(&mut self, snapshot: u64) {
        self.snapshot = snapshot;
    }
}

impl Log {
    /// Whether the session has ended, at least here.
    pub(super) fn takes_no_more(&self) -> bool {
        self.removed || self.closed
    }

    /// Whether its snapshot comes next.
    pub(super) fn begins_anew(&self) -> bool {
        let next = self.records.front().map(|record| &record.content);
        matches!(next, Some(Content::Snapshot(_)))
    }
}

// === impl Journal ===

impl Journal {
    /// Takes note of what the session has computed.
    pub fn worked(&self, took: Duration) {
        let mut log = self.lock();
        log.growth.work = log.growth.work.saturating_add(took);
        self.note_growth(&log);
    }

    /// Whether the session has computed for so long since its log began.
    pub fn has_worked(&self, long: Duration) -> bool {
        self.lock().growth.work > long
    }

    /// Whether the log is so long that it should begin anew.
    pub fn is_due(&self) -> bool {
        self.due.load(Ordering::Relaxed)
    }

    /// Whether a snapshot is on its way.
    pub fn is_under_way(&self) -> bool {
        self.lock().growth.under_way
    }

    /// Lets the log begin anew with a state that shows all commands so far, and no others.
    pub fn begin_anew(self: &Arc<Self>, captured: Captured) {
        let mut log = self.lock();
        if log.takes_no_more() || mem::replace(&mut log.growth.under_way, true) {
            return;
        }
        let next = captured.state.next_sequence;
        log.growth.work = Duration::ZERO;
        self.note_growth(&log);
        log.records.push_back(Pending {
            kind: Kind::Snapshot,
            sequence: next,
            next,
            content: Content::Snapshot(Arc::new(captured)),
            done: None,
        });
        self.queue(log);
    }

    /// Lets the log grow by as much again: its state cannot be written now.
    pub fn let_grow(&self) {
        self.grow_on(&mut self.lock());
    }

    fn grow_on(&self, log: &mut Log) {
        let length = log.tail.as_ref().map_or(0, |tail| tail.length);
        log.growth.begin(length);
        log.growth.work = Duration::ZERO;
        self.note_growth(log);
    }

    pub(super) fn note_growth(&self, log: &Log) {
        let Growth { snapshot, work, cost, under_way } = log.growth;
        let config = &self.shared.config;
        let length = log.tail.as_ref().map_or(0, |tail| tail.length);
        let due = !under_way
            && log.tail.is_some()
            && (length.saturating_sub(snapshot) > config.max_log_bytes.max(snapshot)
                || work > config.max_replay.max(cost * WORK_FOR_EACH));
        self.due.store(due, Ordering::Relaxed);
    }

    /// The bytes of the new log and its tail, if that is what comes next.
    fn anew(&self) -> Option<(Vec<Bytes>, Tail)> {
        let captured = match &self.lock().records.front()?.content {
            Content::Snapshot(captured) => Arc::clone(captured),
            Content::Open(_) | Content::Closed(_) => return None,
        };
        let Captured { state, buffers } = &*captured;
        let (epoch, next) = (self.shared.store.epoch(), state.next_sequence);
        let mut tail = Tail::new(u64::from_le_bytes(ids::random()));
        let mut bytes = Vec::new();
        let mut add = |kind, sequence, content: &[Bytes]| {
            let (parts, after) = tail.record(kind, epoch, sequence, content);
            bytes.extend(parts);
            tail = after;
        };
        let opened = Opened { snapshot: Some(next), ..self.opened.clone() };
        add(Kind::Opened, 0, &[opened.encode_to_vec().into()]);
        add(Kind::Snapshot, next, &[state.encode_to_vec().into()]);
        for part in parts(buffers) {
            add(Kind::Part, next, &part);
        }
        Some((bytes, tail))
    }

    /// The log has begun anew.
    fn began_anew(self: &Arc<Self>, tail: Tail, cost: Duration) {
        let mut log = self.lock();
        log.queued = false;
        log.growth = Growth { snapshot: tail.length, cost, under_way: false, ..log.growth };
        if log.removed {
            self.queue(log);
        } else {
            self.wrote(log, tail);
        }
    }

    /// The log goes on as it is.
    fn stays(self: &Arc<Self>) {
        let mut log = self.lock();
        log.queued = false;
        log.growth.under_way = false;
        if !log.removed {
            log.records.pop_front();
        }
        self.grow_on(&mut log);
        if log.removed || !log.records.is_empty() {
            self.queue(log);
        }
    }
}

// === impl Shared ===

impl Shared {
    /// Lets somebody write the snapshot that comes next.
    pub(super) fn hand_over(&self, journal: &Arc<Journal>, shortener: &Shortener) {
        match shortener {
            Shortener::Writer => self.shorten(journal),
            Shortener::Thread(thread) => {
                self.lock().shortening += 1;
                if thread.send(Arc::clone(journal)).is_err() {
                    journal.stays();
                    self.lock().shortening -= 1;
                }
            }
        }
    }

    /// Body of the thread that lets logs begin anew.
    pub(super) fn shorten_all(&self, journals: &mpsc::Receiver<Arc<Journal>>) {
        for journal in journals {
            self.shorten(&journal);
            self.lock().shortening -= 1;
            self.wake();
        }
    }

    fn shorten(&self, journal: &Arc<Journal>) {
        let started = Instant::now();
        // Without one its session has ended.
        let Some((parts, tail)) = journal.anew() else { return journal.stays() };
        failpoint!(SnapshotBegin);
        match self.store.replace(journal.id, &parts) {
            Ok(()) => {
                failpoint!(LogTrim);
                let took = started.elapsed();
                self.metrics.snapshot_seconds.observe(took.as_secs_f64());
                self.metrics.log_bytes.inc_by(tail.length);
                journal.began_anew(tail, took);
            }
            Err(Fault::Full(error)) => {
                tracing::warn!(session = %journal.id, %error, "no room to shorten a log");
                self.metrics.store_full.inc();
                journal.stays();
            }
            Err(Fault::Broken(error)) => self.fail(std::slice::from_ref(journal), &error),
        }
    }
}

/// Elements in pieces for records, each of several buffers or of a part of one.
fn parts(buffers: &[Bytes]) -> impl Iterator<Item = Vec<Bytes>> + '_ {
    let mut left = buffers.iter().filter(|buffer| !buffer.is_empty()).cloned();
    let mut rest = Bytes::new();
    std::iter::from_fn(move || {
        let (mut part, mut room) = (Vec::new(), PART_BYTES);
        while room > 0 {
            if rest.is_empty() {
                let Some(next) = left.next() else { break };
                rest = next;
            }
            let piece = rest.split_to(room.min(rest.len()));
            room -= piece.len();
            part.push(piece);
        }
        (!part.is_empty()).then_some(part)
    })
}
