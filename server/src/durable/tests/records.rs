//! The bytes of logs, whole and damaged.

use std::io::Cursor;

use bytes::Bytes;

use super::*;
use crate::durable::{
    record::{Bad, Kind, Reader, Tail},
    store::{Fault, Folder, Write},
};

/// A log of three records, and where each ends.
fn log() -> (Vec<u8>, Vec<usize>) {
    let (mut tail, mut bytes, mut ends) =
        (Tail::new(0x0123_4567_89ab_cdef), Vec::new(), Vec::new());
    for (i, content) in
        [&b"first"[..], b"", b"the third is longer than the others"].iter().enumerate()
    {
        let kind = if i == 0 { Kind::Opened } else { Kind::Group };
        let content = [Bytes::copy_from_slice(content)];
        let (parts, next) = tail.record(kind, 1, i as u64, &content);
        bytes.extend(parts.concat());
        ends.push(bytes.len());
        assert_eq!(next.length, bytes.len() as u64);
        tail = next;
    }
    (bytes, ends)
}

/// The contents that can be read, and why no more.
fn read(log: Vec<u8>) -> (Vec<Vec<u8>>, Result<Option<Tail>, Bad>) {
    let size = log.len() as u64;
    let mut reader = Reader::new(Box::new(Cursor::new(log)), size);
    let mut contents = Vec::new();
    loop {
        match reader.read() {
            Ok(Some(record)) => contents.push(record.content),
            Ok(None) => return (contents, Ok(reader.tail().cloned())),
            Err(bad) => return (contents, Err(bad)),
        }
    }
}

#[test]
fn a_write_torn_at_any_byte_costs_that_record_only() {
    let (log, ends) = log();
    for length in ends[1]..=ends[2] {
        let (contents, end) = read(log[..length].to_vec());
        if length == ends[1] || length == ends[2] {
            let tail = end.unwrap().unwrap();
            assert_eq!(tail.length, length as u64);
        } else {
            assert!(matches!(end, Err(Bad::Torn)), "{length}: {end:?}");
        }
        assert_eq!(contents.len(), if length == ends[2] { 3 } else { 2 });
    }
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let (log, ends) = log();
    let (whole, _) = read(log.clone());
    for bit in 0..log.len() * 8 {
        let mut damaged = log.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let hit = ends.iter().position(|&end| bit / 8 < end).unwrap();
        let (contents, end) = read(damaged);
        assert_eq!(contents, whole[..hit], "bit {bit}: what is before it can be read, no more");
        match end.expect_err("it is noticed") {
            Bad::Damaged(_) => {}
            // The last may as well be one that was never completed. Of the first nothing is known, not even its mark.
            Bad::Torn => assert!(hit == 2 || hit == 0, "bit {bit}"),
            Bad::Io(error) => panic!("bit {bit}: {error}"),
        }
    }
}

#[test]
fn records_that_are_missing_doubled_or_from_elsewhere_are_noticed() {
    let (log, ends) = log();
    let [first, second, third] = [&log[..ends[0]], &log[ends[0]..ends[1]], &log[ends[1]..]];
    for wrong in [
        [first, third].concat(),
        [first, second, second, third].concat(),
        [first, second, third, third].concat(),
        [first, third, second].concat(),
    ] {
        assert!(matches!(read(wrong).1, Err(Bad::Damaged(_))));
    }
    let other = Tail::new(7).record(Kind::Group, 1, 1, &[]).0.concat();
    assert!(read([first, &other, third].concat()).1.is_err());
}

#[test]
fn nothing_that_a_client_sends_looks_like_a_record() {
    // A torn record whose content is a record of another log: its mark is another.
    let inner = Tail::new(1).record(Kind::Group, 1, 1, &[]).0.concat();
    let tail = Tail::new(2);
    let (first, tail) = tail.record(Kind::Opened, 1, 0, &[]);
    let (second, _) = tail.record(Kind::Group, 1, 1, &[inner.into(), Bytes::from_static(b"end")]);
    let mut log = [first.concat(), second.concat()].concat();
    log.pop();
    assert!(matches!(read(log).1, Err(Bad::Torn)));
}

#[test]
fn a_folder_keeps_logs_for_one_owner_at_a_time() {
    let path = tempfile::tempdir().unwrap();
    let folder = Folder::open(path.path()).unwrap();
    assert_eq!(folder.epoch(), 1);
    assert!(Folder::open(path.path()).is_err(), "it has an owner");
    let part = |text: &'static str| vec![Bytes::from_static(text.as_bytes())];
    let write = |at, text| Write { id: id(), at, parts: part(text) };
    folder.commit(&[write(0, "abc")]).unwrap();
    folder.commit(&[write(3, "def")]).unwrap();
    let elsewhere = folder.commit(&[write(3, "xyz")]);
    assert!(matches!(elsewhere, Err(Fault::Broken(_))), "somebody else wrote: {elsewhere:?}");
    folder.truncate(id(), 4).unwrap();
    folder.set_note(id(), Some(b"note")).unwrap();
    drop(folder);
    let folder = Folder::open(path.path()).unwrap();
    assert_eq!((folder.epoch(), folder.list().unwrap()), (2, vec![id()]));
    let mut text = String::new();
    let (mut bytes, size) = folder.read(id()).unwrap();
    std::io::Read::read_to_string(&mut bytes, &mut text).unwrap();
    assert_eq!((text.as_str(), size), ("abcd", 4));
    assert_eq!(folder.note(id()).unwrap().as_deref(), Some(&b"note"[..]));
    folder.remove(id()).unwrap();
    folder.remove(id()).unwrap();
    assert!(folder.list().unwrap().is_empty() && folder.note(id()).unwrap().is_none());
}
