//! The bytes of a log: records one after the other, each bound to the one before.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | the mark: a random number that only this log has, so that nothing a client sends looks like a record |
//! | 4 | CRC32C of the mark and of all that follows |
//! | 8 | length of the content |
//! | 1 | kind |
//! | 8 | epoch: which start of the server wrote it |
//! | 8 | the session's next sequence number before it |
//! | 8 | xxh3 of the record before, so that none can be left out, doubled or taken from elsewhere |
//! | | the content |
//!
//! Numbers are little-endian. A commit adds at most one record to a log, and the next one follows only when it is durable. So a
//! crash can spoil only the last record; if anything follows a bad record, the disk has lost what it had confirmed.

use std::io::{self, Read};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use xxhash_rust::xxh3::Xxh3Default;

/// Bytes before the content.
pub const HEADER: usize = 8 + 4 + FIELDS;

/// Those of them that the checksum covers.
const FIELDS: usize = 8 + 1 + 8 + 8 + 8;

/// Content that is read at a time, so that a length is never believed before the bytes are there.
const CHUNK: usize = 1 << 20;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whose session it is: the first record.
    Opened = 1,
    /// Commands.
    Group = 2,
    /// An upload, or a checkpoint that waits to be restored.
    Staged = 3,
    /// What a snapshot holds beside elements of tensors: the second record, if there is one.
    Snapshot = 4,
    /// The next elements of it.
    Part = 5,
}

/// The end of a log: what the next record needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The log's mark.
    pub mark: u64,
    /// Hash of the last record.
    pub previous: u64,
    /// Length of the log.
    pub length: u64,
}

/// A record that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// What it holds.
    pub kind: Kind,
    /// Which start of the server wrote it.
    pub epoch: u64,
    /// The session's next sequence number before it.
    pub sequence: u64,
    /// The content.
    pub content: Vec<u8>,
}

/// Why a log cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum Bad {
    /// The last record was not written to its end. It was never confirmed.
    #[error("the last record is torn")]
    Torn,
    /// Something that was confirmed is not as it was written.
    #[error("{0}")]
    Damaged(&'static str),
    /// It cannot be read.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Reads records.
pub struct Reader {
    bytes: Box<dyn Read + Send>,
    /// Length of the log.
    size: u64,
    /// After what was read.
    tail: Option<Tail>,
}

// === impl Tail ===

impl Tail {
    /// An empty log.
    pub fn new(mark: u64) -> Self {
        Self { mark, previous: 0, length: 0 }
    }

    /// The bytes of the next record, and the tail after it.
    pub fn record(
        &self,
        kind: Kind,
        epoch: u64,
        sequence: u64,
        content: &[Bytes],
    ) -> (Vec<Bytes>, Self) {
        let size: u64 = content.iter().map(|part| part.len() as u64).sum();
        let mut fields = Vec::with_capacity(FIELDS);
        fields.extend(size.to_le_bytes());
        fields.push(kind as u8);
        fields.extend(epoch.to_le_bytes());
        fields.extend(sequence.to_le_bytes());
        fields.extend(self.previous.to_le_bytes());
        let mut sums = Sums::new(self.mark);
        sums.update(&fields);
        for part in content {
            sums.update(part);
        }
        let (checksum, hash) = sums.finish();
        let mut header = Vec::with_capacity(HEADER);
        header.extend(self.mark.to_le_bytes());
        header.extend(checksum.to_le_bytes());
        header.extend(fields);
        let parts = std::iter::once(Bytes::from(header)).chain(content.iter().cloned()).collect();
        let length = self.length + HEADER as u64 + size;
        (parts, Self { previous: hash, length, ..self.clone() })
    }
}

/// What a record is checked by: its checksum, and the hash that binds the next one.
struct Sums(Digest, Xxh3Default);

impl Sums {
    fn new(mark: u64) -> Self {
        let mut sums = Self(Digest::new(CrcAlgorithm::Crc32Iscsi), Xxh3Default::new());
        sums.update(&mark.to_le_bytes());
        sums
    }

    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
        self.1.update(bytes);
    }

    fn finish(&self) -> (u32, u64) {
        let checksum = self.0.finalize();
        (u32::try_from(checksum).unwrap_or(u32::MAX), self.1.digest())
    }
}

// === impl Reader ===

impl Reader {
    /// Reads a log of `size` bytes.
    pub fn new(bytes: Box<dyn Read + Send>, size: u64) -> Self {
        Self { bytes, size, tail: None }
    }

    /// What the next record needs to know, once a first one was read.
    pub fn tail(&self) -> Option<&Tail> {
        self.tail.as_ref()
    }

    /// The next record; `None` at the end.
    pub fn read(&mut self) -> Result<Option<Record>, Bad> {
        let at = self.tail.as_ref().map_or(0, |tail| tail.length);
        let left = self.size.saturating_sub(at);
        if left == 0 {
            return Ok(None);
        }
        if left < HEADER as u64 {
            return Err(Bad::Torn);
        }
        let mut header = [0; HEADER];
        self.bytes.read_exact(&mut header)?;
        let mut fields = Fields(&header);
        let (mark, checksum) = (fields.u64(), fields.u32());
        let (size, kind) = (fields.u64(), fields.u8());
        let (epoch, sequence, previous) = (fields.u64(), fields.u64(), fields.u64());
        let tail = self.tail.clone().unwrap_or_else(|| Tail::new(mark));
        if mark != tail.mark || size > left - HEADER as u64 {
            return Err(self.classify(tail.mark, &[]));
        }
        let mut content = Vec::new();
        let mut sums = Sums::new(mark);
        sums.update(&header[HEADER - FIELDS..]);
        while (content.len() as u64) < size {
            let start = content.len();
            let missing = usize::try_from(size).unwrap_or(usize::MAX) - start;
            content.resize(start + missing.min(CHUNK), 0);
            self.bytes.read_exact(&mut content[start..])?;
            sums.update(&content[start..]);
        }
        let (expected, hash) = sums.finish();
        if checksum != expected {
            return Err(self.classify(tail.mark, &content));
        }
        let kind = match kind {
            1 => Kind::Opened,
            2 => Kind::Group,
            3 => Kind::Staged,
            4 => Kind::Snapshot,
            5 => Kind::Part,
            _ => return Err(Bad::Damaged("a record is of an unknown kind")),
        };
        if previous != tail.previous {
            return Err(Bad::Damaged("a record does not follow the one before it"));
        }
        let length = tail.length + HEADER as u64 + size;
        self.tail = Some(Tail { previous: hash, length, ..tail });
        Ok(Some(Record { kind, epoch, sequence, content }))
    }

    /// Whether a bad record is the last. `content` was read already.
    fn classify(&mut self, mark: u64, content: &[u8]) -> Bad {
        let mark = mark.to_le_bytes();
        let mut window = content.to_vec();
        loop {
            if window.windows(mark.len()).any(|bytes| bytes == mark) {
                return Bad::Damaged("a record before the last is not as it was written");
            }
            // The beginning of a mark may be at the end of what was read.
            window.drain(..window.len().saturating_sub(mark.len() - 1));
            let start = window.len();
            window.resize(start + CHUNK, 0);
            match self.bytes.read(&mut window[start..]) {
                Ok(0) => return Bad::Torn,
                Ok(read) => window.truncate(start + read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => window.truncate(start),
                Err(error) => return Bad::Io(error),
            }
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("tail", &self.tail).finish_non_exhaustive()
    }
}

/// Takes numbers from the front. What is missing is zero; a header never misses any.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((first, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *first
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u8(&mut self) -> u8 {
        self.take::<1>()[0]
    }
}
