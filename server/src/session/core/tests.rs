//! The order of commands, tested with commands that need no tensors.

use gradtape_engine::{
    compute::{Context, Crew},
    ledger::Ledger,
};
use gradtape_proto::v1::command::Kind;

use super::*;
use crate::session::stops::Presence;

fn core(limits: &Limits) -> SessionCore {
    let ledger = Ledger::new("session", 1 << 20);
    SessionCore::new(Engine::new(ledger), Uploads::new(limits.max_uploads), limits)
}

fn sync() -> v1::Command {
    v1::Command { kind: Some(Kind::Sync(v1::Sync::default())), ..Default::default() }
}

/// A command that says nothing and counts how often it took effect: a second generator of the same handle is an error.
fn generator(handle: u64) -> v1::Command {
    let kind = Kind::CreateGenerator(v1::CreateGenerator { generator: handle, seed: 1 });
    v1::Command { kind: Some(kind), ..Default::default() }
}

fn batch(first_sequence: u64, commands: impl Into<Vec<v1::Command>>) -> v1::Batch {
    v1::Batch::new(first_sequence, commands.into())
}

fn sequences(reply: &v1::BatchReply) -> Vec<u64> {
    reply.replies.iter().map(|reply| reply.sequence).collect()
}

#[test]
fn commands_are_numbered_and_acknowledged() {
    let mut core = core(&Limits::default());
    let reply = core.apply(batch(1, [sync(), generator(7), sync()])).unwrap();
    assert_eq!(reply.applied_sequence, 3);
    assert_eq!(sequences(&reply), [1, 3]);
    assert_eq!(core.next_sequence(), 4);
    assert_eq!(core.apply(batch(4, [])).unwrap().applied_sequence, 3);
}

#[test]
fn a_resent_batch_gets_its_stored_replies_and_no_second_effect() {
    let mut core = core(&Limits::default());
    let commands = [generator(7), generator(7), sync()];
    let first = core.apply(batch(1, commands.clone())).unwrap();
    // The second generator failed, and fails in the same words when it is sent again; the first does not.
    assert_eq!(sequences(&first), [2, 3]);
    assert_eq!(core.apply(batch(1, commands)).unwrap(), first);
    assert_eq!(core.next_sequence(), 4);
}

#[test]
fn a_resent_batch_may_overlap_new_commands() {
    let mut core = core(&Limits::default());
    core.apply(batch(1, [sync(), generator(7)])).unwrap();
    let reply = core.apply(batch(2, [generator(7), generator(8), sync()])).unwrap();
    assert_eq!((reply.applied_sequence, sequences(&reply)), (4, vec![4]));
    assert_eq!(core.engine().handles(), 2);
}

#[test]
fn another_command_of_a_used_number_is_refused_before_anything_new_happens() {
    let mut core = core(&Limits::default());
    core.apply(batch(1, [sync()])).unwrap();
    let refused = core.apply(batch(1, [generator(1), generator(2)]));
    assert_eq!(refused, Err(ProtocolError::SequenceReused { sequence: 1 }));
    let mut tagged = sync();
    tagged.tag = "train.py:12".to_owned();
    assert_eq!(core.apply(batch(1, [tagged])), Err(ProtocolError::SequenceReused { sequence: 1 }));
    assert_eq!((core.next_sequence(), core.engine().handles()), (2, 0));
}

#[test]
fn a_gap_names_the_expected_number() {
    let mut core = core(&Limits::default());
    core.apply(batch(1, [sync()])).unwrap();
    let gap = Err(ProtocolError::SequenceGap { expected: 2, given: 3 });
    assert_eq!(core.apply(batch(3, [sync()])), gap);
    assert_eq!(core.apply(batch(2, [sync()])).unwrap().applied_sequence, 2);
}

#[test]
fn numbers_at_the_ends_are_refused() {
    let mut core = core(&Limits::default());
    for first in [0, u64::MAX] {
        let refused = core.apply(batch(first, [sync()]));
        let Err(ProtocolError::Malformed { field, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(field, "batch.first_sequence");
    }
    let gap = Err(ProtocolError::SequenceGap { expected: 1, given: u64::MAX - 1 });
    assert_eq!(core.apply(batch(u64::MAX - 1, [sync()])), gap);
}

#[test]
fn replies_are_forgotten_when_they_are_acknowledged_or_too_many() {
    let mut core = core(&Limits { retained_commands: 2, ..Limits::default() });
    core.apply(batch(1, [sync(), sync(), sync()])).unwrap();
    assert_eq!(core.apply(batch(1, [sync()])), Err(ProtocolError::ReplyEvicted { sequence: 1 }));
    let acknowledging = v1::Batch { acknowledged_sequence: 3, ..batch(4, [sync()]) };
    core.apply(acknowledging).unwrap();
    assert_eq!(core.apply(batch(3, [sync()])), Err(ProtocolError::ReplyEvicted { sequence: 3 }));
    assert_eq!(sequences(&core.apply(batch(4, [sync()])).unwrap()), [4]);
}

#[test]
fn what_was_never_executed_cannot_be_acknowledged() {
    let mut core = core(&Limits::default());
    let ahead = v1::Batch { acknowledged_sequence: 1, ..batch(1, [sync()]) };
    assert!(matches!(core.apply(ahead), Err(ProtocolError::Malformed { .. })));
    assert_eq!(core.next_sequence(), 1);
}

#[test]
fn too_many_commands_are_refused() {
    let mut core = core(&Limits { max_batch_commands: 1, ..Limits::default() });
    let refused = core.apply(batch(1, [sync(), sync()]));
    assert!(matches!(refused, Err(ProtocolError::Malformed { .. })));
}

#[test]
fn a_command_without_content_fails_in_band() {
    let mut core = core(&Limits::default());
    let reply = core.apply(batch(1, [v1::Command::default(), sync()])).unwrap();
    let Some(v1::reply::Result::Error(error)) = &reply.replies[0].result else {
        panic!("{reply:?}")
    };
    assert_eq!((error.reason.as_str(), error.sequence), ("UNKNOWN_COMMAND", 1));
    assert_eq!(reply.applied_sequence, 2);
}

#[test]
fn fetched_tensors_beyond_the_room_of_a_reply_are_refused() {
    let mut core = core(&Limits { max_batch_reply_bytes: 48, ..Limits::default() });
    let data = vec![0; 40].into();
    let tensor = v1::Tensor { dtype: v1::DataType::Float32.into(), shape: vec![10], data };
    let source = Some(v1::constant::Source::Tensor(tensor));
    let constant = Kind::Constant(v1::Constant { output: 1, source });
    let fetch = || Kind::Fetch(v1::Fetch { value: 1 });
    let commands = [constant, fetch(), fetch()]
        .map(|kind| v1::Command { kind: Some(kind), ..Default::default() });
    let reply = core.apply(batch(1, commands)).unwrap();
    let results: Vec<_> = reply.replies.into_iter().map(|reply| reply.result.unwrap()).collect();
    let [v1::reply::Result::Tensor(tensor), v1::reply::Result::Error(error)] = &results[..] else {
        panic!("{results:?}")
    };
    assert_eq!(tensor.data.len(), 40);
    assert_eq!((error.reason.as_str(), error.code), ("FETCH_TOO_LARGE", 8));
}

/// A constant, and its double: a command that computes.
fn doubled() -> [v1::Command; 2] {
    let tensor = v1::Tensor {
        dtype: v1::DataType::Float32.into(),
        shape: vec![],
        data: 3.0_f32.to_le_bytes().to_vec().into(),
    };
    let source = Some(v1::constant::Source::Tensor(tensor));
    let add =
        v1::Op { name: "add".into(), inputs: vec![1, 1], outputs: vec![2], ..Default::default() };
    [Kind::Constant(v1::Constant { output: 1, source }), Kind::Op(add)]
        .map(|kind| v1::Command { kind: Some(kind), ..Default::default() })
}

/// Executes a batch as a worker does, stopping each command by something that happens while it runs.
fn run_stopped(
    core: &mut SessionCore,
    stops: &Stops,
    stop: impl Fn(u64),
) -> (Option<v1::BatchReply>, Step) {
    let context =
        Context { crew: Crew::new(1).unwrap(), cancel: stops.flag().clone(), turns: None };
    let mut run = core.begin(batch(1, doubled())).unwrap();
    loop {
        stop(run.sequence());
        match context.enter(|| core.step(&mut run, stops)).unwrap() {
            Step::More => {}
            Step::Done => return (Some(run.finish()), Step::Done),
            Step::Interrupted => return (None, Step::Interrupted),
        }
    }
}

#[test]
fn a_command_whose_sender_is_lost_was_not_executed_and_is_when_it_comes_again() {
    let (mut core, stops) = (core(&Limits::default()), Arc::new(Stops::default()));
    let (_, end) = run_stopped(&mut core, &stops, |sequence| {
        let presence = Presence::new(&stops);
        stops.begin(sequence, Some(presence.sender()));
    });
    assert_eq!(end, Step::Interrupted);
    assert_eq!((core.next_sequence(), core.engine().handles()), (2, 1));
    let reply = core.apply(batch(1, doubled())).unwrap();
    assert_eq!((reply.applied_sequence, reply.replies.len()), (2, 0));
    assert!(core.engine().peek(2).is_ok());
}

#[test]
fn a_command_that_its_client_cancelled_fails_once_and_for_all() {
    let (mut core, stops) = (core(&Limits::default()), Stops::default());
    stops.cancel(2);
    let (reply, _) = run_stopped(&mut core, &stops, |sequence| stops.begin(sequence, None));
    let reply = reply.unwrap();
    assert_eq!((reply.applied_sequence, sequences(&reply)), (2, vec![2]));
    let Some(v1::reply::Result::Error(error)) = &reply.replies[0].result else {
        panic!("{reply:?}")
    };
    assert_eq!((error.code, &error.reason[..]), (tonic::Code::Cancelled.into(), "CANCELLED"));
    // The constant took no time, so it is there.
    assert!(core.engine().peek(1).is_ok() && core.engine().peek(2).is_err());
    assert_eq!(core.apply(batch(1, doubled())).unwrap(), reply);
}
