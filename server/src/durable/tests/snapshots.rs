//! Logs that begin anew, whole and damaged. `tests/tests/it/snapshots.rs` goes through all that a session can hold.

use super::{disk::Moment, *};
use crate::durable::{
    record::{Kind as Record, Reader},
    store::{Fault, Folder},
};

const MEMORY: u64 = 1 << 20;

/// A session with a log that began anew, and a command after that.
fn shortened(disk: &Arc<Disk>) -> Life {
    let mut life = Life::begin(disk, MEMORY);
    life.apply(vec![constant(1, &[1.0, 2.0]), variable(2, 1), add(2, 1), op("exp", &[99], 3)]);
    life.shorten();
    life.apply(vec![add(2, 1)]);
    life
}

/// The kinds of records in a log, and where each ends.
fn kinds(log: &[u8]) -> Vec<(Record, usize)> {
    let mut reader = Reader::new(Box::new(std::io::Cursor::new(log.to_vec())), log.len() as u64);
    let mut kinds = Vec::new();
    while let Some(record) = reader.read().unwrap() {
        kinds.push((record.kind, usize::try_from(reader.tail().unwrap().length).unwrap()));
    }
    kinds
}

#[test]
fn a_session_comes_back_from_its_snapshot_and_what_came_after_it() {
    let disk = Arc::new(Disk::default());
    let life = shortened(&disk);
    life.end();
    let log = disk.log(id());
    let found: Vec<Record> = kinds(&log).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(found, [Record::Opened, Record::Snapshot, Record::Part, Record::Group]);
    let mut life = Life::again(&disk, MEMORY).unwrap();
    assert_eq!(life.core.next_sequence(), 6);
    assert_eq!(elements(&life.apply(vec![fetch(2)])), [3.0, 6.0]);
    assert_eq!(reason(&life.apply(vec![fetch(3)]).replies[0]), "POISONED");
    // Replies from before the snapshot are still there.
    let commands = vec![op("exp", &[99], 3)];
    let batch = v1::Batch::new(4, commands);
    assert_eq!(reason(&life.core.apply(batch).unwrap().replies[0]), "UNKNOWN_HANDLE");
    // And it can begin anew again, and again.
    life.shorten();
    life.end();
    let life = Life::again(&disk, MEMORY).unwrap();
    life.shorten();
    life.end();
    let mut life = Life::again(&disk, MEMORY).unwrap();
    assert_eq!(elements(&life.apply(vec![fetch(2)])), [3.0, 6.0]);
}

#[test]
fn memory_that_tensors_share_is_written_once_and_paid_for_once() {
    let disk = Arc::new(Disk::default());
    let mut life = Life::begin(&disk, MEMORY);
    let attributes = vec![v1::Attribute {
        name: "shape".to_owned(),
        value: Some(v1::attribute::Value::IntsValue(v1::IntegerList { values: vec![100, 10] })),
    }];
    let (name, inputs, outputs) = ("reshape".to_owned(), vec![1], vec![3]);
    let reshape = command(Kind::Op(v1::Op { name, inputs, outputs, attributes }));
    life.apply(vec![constant(1, &[1.5; 1000]), variable(2, 1), reshape]);
    let used = life.core.engine().ledger().used();
    life.shorten();
    life.end();
    assert!(disk.log(id()).len() < 6000, "{} bytes", disk.log(id()).len());
    let mut life = Life::again(&disk, MEMORY).unwrap();
    assert_eq!(life.core.engine().ledger().used(), used);
    assert_eq!(elements(&life.apply(vec![fetch(3)])), [1.5; 1000]);
}

#[test]
fn a_snapshot_that_is_not_whole_is_never_taken_for_an_older_state() {
    let disk = Arc::new(Disk::default());
    shortened(&disk).end();
    let log = disk.log(id());
    let ends = kinds(&log);
    let (snapshot, whole) = (ends[2].1, log.len());
    for length in 0..snapshot {
        disk.set_log(id(), log[..length].to_vec());
        let outcome = Life::again(&disk, MEMORY).map(|life| life.core.next_sequence());
        let damaged = matches!(outcome, Err(ProtocolError::SessionDamaged { .. }));
        assert!(damaged, "cut to {length} of {snapshot}: {outcome:?}");
    }
    for position in 0..snapshot {
        let mut log = log.clone();
        log[position] ^= 1;
        disk.set_log(id(), log);
        let outcome = Life::again(&disk, MEMORY).map(|life| life.core.next_sequence());
        let damaged = matches!(outcome, Err(ProtocolError::SessionDamaged { .. }));
        assert!(damaged, "bit {position} of {snapshot}: {outcome:?}");
    }
    // What is torn behind it was never confirmed.
    disk.set_log(id(), log[..whole - 1].to_vec());
    assert_eq!(Life::again(&disk, MEMORY).unwrap().core.next_sequence(), 5);
}

#[tokio::test]
async fn the_power_goes_while_a_log_is_replaced() {
    for moment in [Moment::Before, Moment::After] {
        let disk = Arc::new(Disk::default());
        let mut life = Life::begin(&disk, MEMORY);
        life.apply(vec![constant(1, &[1.0]), variable(2, 1), add(2, 1)]);
        life.journal.reach(3, Duration::from_mins(1)).await;
        disk.lock().cut = Some(moment);
        life.shorten();
        life.end();
        disk.lose_power();
        let anew = kinds(&disk.log(id())).iter().any(|(kind, _)| *kind == Record::Snapshot);
        assert_eq!(anew, moment == Moment::After);
        let mut life = Life::again(&disk, MEMORY).unwrap();
        assert_eq!(life.core.next_sequence(), 4, "{moment:?}");
        assert_eq!(elements(&life.apply(vec![fetch(2)])), [2.0]);
    }
}

#[test]
fn a_full_disk_leaves_the_log_as_long_as_it_is() {
    let disk = Arc::new(Disk::default());
    let mut life = Life::begin(&disk, MEMORY);
    life.apply(vec![constant(1, &[1.0])]);
    life.end();
    let mut life = Life::again(&disk, MEMORY).unwrap();
    disk.lock().full = true;
    life.shorten();
    while life.journal.is_under_way() {
        std::thread::yield_now();
    }
    disk.lock().full = false;
    life.apply(vec![fetch(1)]);
    life.end();
    assert_eq!(disk.lock().replaced, 0);
    assert_eq!(Life::again(&disk, MEMORY).unwrap().core.next_sequence(), 3);
}

#[test]
fn what_cannot_be_written_waits_for_another_moment() {
    let disk = Arc::new(Disk::default());
    let mut life = Life::begin(&disk, MEMORY);
    life.apply(vec![constant(1, &[1.0]), variable(2, 1)]);
    let tape = v1::OpenTape { tape: 5, ..Default::default() };
    life.apply(vec![command(Kind::OpenTape(tape)), op("exp", &[2], 6)]);
    life.shorten();
    assert!(life.journal.is_due(), "its tape has recorded something");
    life.apply(vec![command(Kind::CloseTape(v1::CloseTape { tape: 5 }))]);
    life.core.shorten_log();
    life.end();
    assert_eq!(disk.lock().replaced, 1);
    assert_eq!(Life::again(&disk, MEMORY).unwrap().core.next_sequence(), 6);
}

#[test]
fn a_folder_has_the_old_log_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Folder::open(folder.path()).unwrap();
    store.replace(id(), &["old".into()]).unwrap();
    store.replace(id(), &["ne".into(), "w".into()]).unwrap();
    assert_eq!(std::fs::read(folder.path().join(format!("{}.log", id()))).unwrap(), b"new");
    // What a server that died left of a third is no log, and is swept away.
    let rest = folder.path().join(format!("{}.new", id()));
    std::fs::write(&rest, b"thi").unwrap();
    assert_eq!(store.list().unwrap(), [id()]);
    drop(store);
    let store = Folder::open(folder.path()).unwrap();
    assert!(!rest.exists());
    // Where the new one cannot be made, the old one stays.
    std::fs::create_dir(&rest).unwrap();
    assert!(matches!(store.replace(id(), &["x".into()]), Err(Fault::Broken(_))));
    assert_eq!(std::fs::read(folder.path().join(format!("{}.log", id()))).unwrap(), b"new");
}
