//! What comes back from a log, and what must not.

use super::*;
use crate::durable::{
    entry::{Entry, Group},
    record::{Kind as Record, Reader, Tail},
};
use crate::session::{core::Step, stops::Stops};
use prost::Message;

const MEMORY: u64 = 1 << 20;

/// Everything that the same batch would get again.
fn resend(life: &mut Life, first_sequence: u64, commands: Vec<v1::Command>) -> v1::BatchReply {
    life.core.apply(v1::Batch::new(first_sequence, commands)).unwrap()
}

#[test]
fn a_session_comes_back_with_its_replies() {
    let disk = Arc::new(Disk::default());
    let mut life = Life::begin(&disk, MEMORY);
    let commands = vec![
        constant(1, &[1.0, 2.0]),
        variable(2, 1),
        add(2, 1),
        op("add", &[1, 99], 3),
        op("exp", &[3], 4),
        fetch(2),
    ];
    let said = life.apply(commands.clone());
    life.end();
    let mut life = Life::again(&disk, MEMORY).unwrap();
    assert_eq!(life.core.next_sequence(), 7);
    assert_eq!(resend(&mut life, 1, commands), said, "the stored replies, and no second effect");
    assert_eq!(elements(&life.apply(vec![fetch(2)])), [2.0, 4.0]);
    assert_eq!(reason(&life.apply(vec![fetch(4)]).replies[0]), "POISONED");
}

#[test]
fn what_failed_for_want_of_memory_fails_again_where_there_is_enough() {
    let disk = Arc::new(Disk::default());
    let mut life = Life::begin(&disk, 40);
    let commands = vec![
        constant(1, &[1.0; 4]),
        op("exp", &[1], 2),
        op("exp", &[1], 3),
        constant(4, &[1.0; 4]),
        command(Kind::DefineFunction(v1::DefineFunction {
            function: 10,
            parameters: vec![11],
            specs: vec![v1::TensorSpec { dtype: v1::DataType::Float32.into(), shape: vec![4] }],
        })),
        op("exp", &[11], 12),
        command(Kind::FinishFunction(v1::FinishFunction {
            function: 10,
            results: vec![12],
            abandon: false,
        })),
        fetch(3),
        fetch(4),
        fetch(10),
    ];
    let said = life.apply(commands.clone());
    let reasons: Vec<&str> = said.replies.iter().map(reason).collect();
    assert!(reasons.iter().filter(|reason| **reason == "MEMORY_LIMIT").count() >= 3, "{reasons:?}");
    life.end();
    let mut life = Life::again(&disk, MEMORY).unwrap();
    assert_eq!(resend(&mut life, 1, commands), said);
    for handle in [3, 4, 10] {
        assert_eq!(reason(&life.apply(vec![fetch(handle)]).replies[0]), "POISONED", "{handle}");
    }
    assert_eq!(life.apply(vec![fetch(2)]).replies.len(), 1);
}

#[test]
fn a_loop_that_was_stopped_stops_after_the_same_step() {
    let disk = Arc::new(Disk::default());
    let mut life = Life::begin(&disk, MEMORY);
    life.apply(vec![
        constant(1, &[1.0, 2.0]),
        variable(2, 1),
        command(Kind::DefineFunction(v1::DefineFunction {
            function: 10,
            parameters: Vec::new(),
            specs: Vec::new(),
        })),
        add(2, 1),
        command(Kind::FinishFunction(v1::FinishFunction { function: 10, ..Default::default() })),
    ]);
    let run = v1::RunLoop { function: 10, steps: 1 << 30, ..Default::default() };
    let commands = vec![command(Kind::RunLoop(run))];
    let batch = v1::Batch::new(6, commands);
    let mut run = life.core.begin(batch).unwrap();
    let stops = Stops::default();
    for _ in 0..3 {
        assert_eq!(life.core.step(&mut run, &stops).unwrap(), Step::More);
    }
    run.stop_loop();
    while life.core.step(&mut run, &stops).unwrap() == Step::More {}
    let said = elements(&life.apply(vec![fetch(2)]));
    assert!(said[0] > 1.0);
    life.end();
    let mut life = Life::again(&disk, MEMORY).unwrap();
    assert_eq!(elements(&life.apply(vec![fetch(2)])), said);
}

#[tokio::test]
async fn an_upload_is_there_for_the_command_that_names_it() {
    use crate::session::uploads::Staging;
    use gradtape_engine::{aval::Aval, dtype::DType};
    let disk = Arc::new(Disk::default());
    let life = Life::begin(&disk, MEMORY);
    let uploads = Uploads::new(4);
    uploads.tell(Arc::clone(&life.journal));
    let mut staging =
        Staging::new(life.core.engine().ledger(), Aval::new(DType::F32, [2])).unwrap();
    staging.append(&[0, 0, 128, 63, 0, 0, 0, 64]).unwrap();
    uploads.begin(5).unwrap().finish(staging).await.unwrap();
    // It was confirmed, so nothing else has to be written.
    disk.lose_power();
    let mut life = Life::again(&disk, MEMORY).unwrap();
    let source = Some(v1::constant::Source::Upload(5));
    life.apply(vec![command(Kind::Constant(v1::Constant { output: 1, source }))]);
    assert_eq!(elements(&life.apply(vec![fetch(1)])), [1.0, 2.0]);
    life.end();
    let mut life = Life::again(&disk, MEMORY).unwrap();
    assert_eq!(elements(&life.apply(vec![fetch(1)])), [1.0, 2.0]);
}

#[test]
fn too_little_memory_to_come_back_leaves_the_log_alone() {
    let disk = Arc::new(Disk::default());
    let mut life = Life::begin(&disk, MEMORY);
    life.apply(vec![constant(1, &[1.0; 100])]);
    life.end();
    let journals = journals(&disk);
    let limits = Limits::default();
    let uploads = Uploads::new(limits.max_uploads);
    let server = Ledger::new("server", 100);
    let engine = Engine::new(server.child("session", MEMORY));
    let mut core = SessionCore::new(engine, Arc::clone(&uploads), &limits);
    let mut recovery = Recovery::new(Arc::clone(journals.store()), id());
    let outcome = recovery.proceed(&mut core, &uploads, || false);
    assert_eq!(outcome.unwrap_err(), ProtocolError::RecoveryPostponed);
    assert!(Life::again(&disk, MEMORY).is_ok());
}

/// A log whose group says that other things came of its commands.
fn with_changed(disk: &Disk, change: impl Fn(&mut Entry)) {
    let (bytes, size) = disk.read(id()).unwrap();
    let mut reader = Reader::new(bytes, size);
    let (mut tail, mut log) = (Tail::new(9), Vec::new());
    while let Some(mut record) = reader.read().unwrap() {
        if record.kind == Record::Group {
            let mut group = Group::decode(&*record.content).unwrap();
            group.entries.iter_mut().for_each(&change);
            record.content = group.encode_to_vec();
        }
        let content = [record.content.into()];
        let (parts, next) = tail.record(record.kind, record.epoch, record.sequence, &content);
        log.extend(parts.concat());
        tail = next;
    }
    disk.set_log(id(), log);
}

#[test]
fn another_result_than_before_is_never_passed_on() {
    let disk = Arc::new(Disk::default());
    let mut life = Life::begin(&disk, MEMORY);
    life.apply(vec![constant(1, &[1.0]), variable(2, 1), fetch(1), durable()]);
    life.end();
    with_changed(&disk, |_| {});
    assert!(Life::again(&disk, MEMORY).is_ok(), "the same again");
    with_changed(&disk, |entry| {
        // The constant is 2 now. What is said of it, and what the durable sync vouches for, is another.
        if let Some(at) = entry.command.windows(4).position(|bytes| bytes == 1_f32.to_le_bytes()) {
            let mut command = entry.command.to_vec();
            command[at..at + 4].copy_from_slice(&2_f32.to_le_bytes());
            entry.command = command.into();
        }
    });
    let outcome = Life::again(&disk, MEMORY).map(|_| ()).unwrap_err();
    assert_eq!(outcome, ProtocolError::SessionDiverged { sequence: 3 });
}

#[test]
fn a_command_that_is_the_death_of_the_process_is_not_tried_a_third_time() {
    let disk = Arc::new(Disk::default());
    let mut life = Life::begin(&disk, MEMORY);
    life.apply(vec![constant(1, &[1.0])]);
    life.end();
    let note = |deaths: u64| [1_u64.to_le_bytes(), deaths.to_le_bytes()].concat();
    disk.set_note(id(), Some(&note(2))).unwrap();
    let outcome = Life::again(&disk, MEMORY).map(|_| ()).unwrap_err();
    assert_eq!(outcome, ProtocolError::SessionQuarantined { sequence: 1 });
    disk.set_note(id(), Some(&note(1))).unwrap();
    assert!(Life::again(&disk, MEMORY).is_ok());
    assert_eq!(disk.note(id()).unwrap(), None, "it has come back");
}

#[test]
fn damage_is_told_with_the_last_good_command_and_other_logs_are_left_alone() {
    let disk = Arc::new(Disk::default());
    let mut life = Life::begin(&disk, MEMORY);
    life.apply(vec![constant(1, &[1.0])]);
    life.end();
    let second = disk.log(id()).len();
    let mut life = Life::again(&disk, MEMORY).unwrap();
    life.apply(vec![fetch(1)]);
    life.end();
    let mut life = Life::again(&disk, MEMORY).unwrap();
    life.apply(vec![fetch(1)]);
    life.end();
    let mut log = disk.log(id());
    log[second + 50] ^= 4;
    disk.set_log(id(), log.clone());
    let outcome = Life::again(&disk, MEMORY).map(|_| ()).unwrap_err();
    assert!(matches!(outcome, ProtocolError::SessionDamaged { last: 1, .. }), "{outcome:?}");
    assert_eq!(disk.log(id()), log, "it is kept as it is");
}
