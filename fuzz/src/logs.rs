//! Logs of sessions from bytes: damaged ones, and ones whose records are whole and hold nonsense.

use std::{
    io::{self, Cursor, Read},
    sync::Arc,
};

use bytes::Bytes;
use gradtape_engine::ledger::Ledger;
use gradtape_proto::v1;
use gradtape_server::{
    durable::{
        entry::{Entry, Group, Opened, numerics},
        record::{Kind, Reader, Record, Tail},
        recovery::Recovery,
        store::{Fault, Store, Write},
    },
    session::registry::SessionId,
};
use prost::Message;

use crate::{batches, seeds};

/// The mark of the logs that are made here.
const MARK: u64 = 0x8f3a_52c1_9b7d_e640;

/// Most steps of a recovery: a loop in a log goes on for as long as it says.
const MOST_STEPS: usize = 1000;

/// A store with one log, which is in memory.
#[derive(Debug)]
struct One(Vec<u8>);

impl Store for One {
    fn epoch(&self) -> u64 {
        1
    }

    fn advance(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn identity(&self) -> [u8; 16] {
        [0; 16]
    }

    fn list(&self) -> io::Result<Vec<SessionId>> {
        Ok(vec![id()])
    }

    fn commit(&self, _: &[Write]) -> Result<(), Fault> {
        Ok(())
    }

    fn replace(&self, _: SessionId, _: &[Bytes]) -> Result<(), Fault> {
        Ok(())
    }

    fn read(&self, _: SessionId) -> io::Result<(Box<dyn Read + Send>, u64)> {
        Ok((Box::new(Cursor::new(self.0.clone())), self.0.len() as u64))
    }

    fn truncate(&self, _: SessionId, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _: SessionId) -> io::Result<()> {
        Ok(())
    }

    fn note(&self, _: SessionId) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    fn set_note(&self, _: SessionId, _: Option<&[u8]>) -> io::Result<()> {
        Ok(())
    }
}

fn id() -> SessionId {
    SessionId::parse(&"5a".repeat(16)).expect("an identifier")
}

/// What records of commands hold, one for each program.
pub fn groups() -> Vec<Vec<u8>> {
    let entry = |command: v1::Command| Entry {
        command: command.encode_to_vec().into(),
        digest: 0,
        steps: None,
        lacked: None,
    };
    let group = |program: Vec<v1::Command>| Group {
        entries: program.into_iter().map(entry).collect(),
        acknowledged: 0,
    };
    seeds::programs().into_iter().map(|program| group(program).encode_to_vec()).collect()
}

/// Whole logs.
pub fn logs() -> Vec<Vec<u8>> {
    groups().chunks(4).map(log).collect()
}

fn log(groups: &[Vec<u8>]) -> Vec<u8> {
    let opened = Opened {
        session: id().bytes().to_vec(),
        token: vec![7; 32],
        owner: "token:somebody".to_owned(),
        role: "user".to_owned(),
        class: None,
        numerics: numerics(),
        snapshot: None,
    };
    let mut all = Vec::new();
    let mut tail = Tail::new(MARK);
    let mut add = |kind, sequence, content: Vec<u8>| {
        let (parts, next) = tail.record(kind, 1, sequence, &[Bytes::from(content)]);
        tail = next;
        all.extend(parts.concat());
    };
    add(Kind::Opened, 1, opened.encode_to_vec());
    let mut sequence = 1;
    for content in groups {
        add(Kind::Group, sequence, content.clone());
        sequence += Group::decode(&content[..]).map_or(0, |group| group.entries.len() as u64);
    }
    all
}

/// Of a log that was changed, only records come out that some log of ours holds.
pub fn damaged(bytes: &[u8], whole: &[Vec<u8>]) {
    let records = records(bytes);
    for record in &records {
        let content = &record.content;
        let known = |log: &Vec<u8>| log.windows(content.len().max(1)).any(|part| part == content);
        let ours = content.is_empty() || whole.iter().any(known);
        // Bytes that begin with their own mark may be a record of somebody else's.
        assert!(ours || !bytes.starts_with(&MARK.to_le_bytes()), "a record that nobody wrote");
    }
    recover(bytes.to_vec());
}

fn records(bytes: &[u8]) -> Vec<Record> {
    let size = bytes.len() as u64;
    let mut reader = Reader::new(Box::new(Cursor::new(bytes.to_vec())), size);
    let mut records = Vec::new();
    while let Ok(Some(record)) = reader.read() {
        records.push(record);
        assert!(reader.tail().is_some_and(|tail| tail.length <= size), "a tail beyond the end");
    }
    records
}

/// A record that is whole and holds whatever it may.
pub fn nonsense(content: Vec<u8>) {
    recover(log(&[content]));
}

fn recover(log: Vec<u8>) {
    let ledger = Ledger::new("server", 1 << 22);
    let (mut core, uploads) = batches::core(&ledger);
    let mut recovery = Recovery::new(Arc::new(One(log)), id());
    for _ in 0..MOST_STEPS {
        // Each look at the clock is the end of a slice.
        match recovery.proceed(&mut core, &uploads, || true) {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => break,
        }
    }
    drop((core, recovery, uploads));
    assert_eq!(ledger.used(), 0, "a session that did not come back left bytes behind");
}
