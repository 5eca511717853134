//! Slices, order and endings, on this thread and with a clock that the tests turn.

use futures::{FutureExt, StreamExt};
use gradtape_proto::v1::command::Kind;

use super::*;
use crate::{
    audit::Audit,
    clock::ManualClock,
    config::access::Quota,
    config::{Limits, Sessions},
    oversight::Oversight,
    principal::Principal,
    session::{outbox::Deliveries, registry::Registry, turns::ReadyQueue},
};

struct Fixture {
    registry: Arc<Registry>,
    ready: Arc<ReadyQueue>,
    clock: Arc<ManualClock>,
}

impl Fixture {
    fn new(clock: ManualClock, limits: Limits) -> Self {
        let (clock, ready) = (Arc::new(clock), Arc::new(ReadyQueue::default()));
        let sessions = Sessions { server_memory_bytes: Some(1 << 30), ..Sessions::default() };
        let registry = Registry::new(
            sessions,
            limits,
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::clone(&ready),
            Oversight::new(Quota::default(), Audit::default()),
            None,
        );
        // There are no threads; whoever asks for a turn gets one.
        ready.lock().free = 1000;
        Self { registry, ready, clock }
    }

    fn session(&self) -> Arc<Session> {
        self.registry.create(&Principal::anonymous()).unwrap().0
    }

    /// Gives one slice to each session that is ready now, as one thread would.
    fn slice(&self, slice: Duration) -> usize {
        let mut given = Vec::new();
        while let Some(next) = self.ready.lock().given.pop_front() {
            given.push(next);
        }
        let count = given.len();
        for (session, turn) in given {
            let after = run_slice(&session, self.clock.as_ref(), slice);
            self.ready.settle(
                turn,
                slice,
                Duration::ZERO,
                (after == After::Requeue).then_some(session),
            );
        }
        count
    }

    fn run(&self) {
        while self.slice(Duration::from_secs(1)) > 0 {}
    }
}

fn sync_batch(first_sequence: u64, commands: usize) -> v1::Batch {
    let sync = v1::Command { kind: Some(Kind::Sync(v1::Sync::default())), ..Default::default() };
    v1::Batch::new(first_sequence, vec![sync; commands])
}

fn next(deliveries: &mut Deliveries) -> Option<Result<Delivery, ProtocolError>> {
    deliveries.next().now_or_never().expect("a delivery is there")
}

fn applied(delivery: Option<Result<Delivery, ProtocolError>>) -> u64 {
    let Some(Ok(Delivery::Batch(reply, _))) = delivery else { panic!("{delivery:?}") };
    reply.applied_sequence
}

#[test]
fn a_stream_is_welcomed_and_answered_in_order() {
    let fixture = Fixture::new(ManualClock::default(), Limits::default());
    let session = fixture.session();
    let (attachment, mut deliveries) = session.attach().unwrap();
    session.submit(&attachment, sync_batch(1, 2)).unwrap();
    session.submit(&attachment, sync_batch(3, 1)).unwrap();
    session.close(&attachment, Ok(()));
    fixture.run();
    let Some(Ok(Delivery::Welcome { next_sequence, handle_base })) = next(&mut deliveries) else {
        panic!("no welcome")
    };
    assert_eq!((next_sequence, handle_base), (1, 1 << 32));
    assert_eq!(applied(next(&mut deliveries)), 2);
    assert_eq!(applied(next(&mut deliveries)), 3);
    assert!(next(&mut deliveries).is_none());
    assert!(!session.position().attached);
    assert_eq!(session.position().next_sequence, 4);
}

#[test]
fn a_long_batch_lets_other_sessions_run() {
    // Each look at the clock takes a millisecond, and there is one for each command.
    let fixture = Fixture::new(ManualClock::ticking(Duration::from_millis(1)), Limits::default());
    let (long, short) = (fixture.session(), fixture.session());
    let (first, _deliveries) = long.attach().unwrap();
    long.submit(&first, sync_batch(1, 100)).unwrap();
    let (second, mut answers) = short.attach().unwrap();
    short.submit(&second, sync_batch(1, 1)).unwrap();
    assert_eq!(fixture.slice(Duration::from_millis(20)), 2);
    assert!(matches!(next(&mut answers), Some(Ok(Delivery::Welcome { .. }))));
    assert_eq!(applied(next(&mut answers)), 1);
    assert_eq!(long.position().next_sequence, 1);
    fixture.run();
    assert_eq!(long.position().next_sequence, 101);
}

#[test]
fn the_newest_stream_wins_and_what_the_older_one_queued_is_skipped() {
    let fixture = Fixture::new(ManualClock::default(), Limits::default());
    let session = fixture.session();
    let (older, mut older_deliveries) = session.attach().unwrap();
    fixture.run();
    session.submit(&older, sync_batch(1, 1)).unwrap();
    let (newer, mut newer_deliveries) = session.attach().unwrap();
    fixture.run();
    assert!(matches!(next(&mut older_deliveries), Some(Ok(Delivery::Welcome { .. }))));
    assert!(matches!(next(&mut older_deliveries), Some(Err(ProtocolError::Superseded))));
    let Some(Ok(Delivery::Welcome { next_sequence, handle_base })) = next(&mut newer_deliveries)
    else {
        panic!("no welcome")
    };
    assert_eq!((next_sequence, handle_base), (1, 2 << 32));
    drop(older_deliveries);
    assert!(session.position().attached);
    session.submit(&newer, sync_batch(1, 1)).unwrap();
    fixture.run();
    assert_eq!(applied(next(&mut newer_deliveries)), 1);
}

#[test]
fn what_a_lost_stream_queued_waits_to_be_sent_again() {
    let fixture = Fixture::new(ManualClock::ticking(Duration::from_millis(1)), Limits::default());
    let session = fixture.session();
    let (attachment, deliveries) = session.attach().unwrap();
    session.submit(&attachment, sync_batch(1, 30)).unwrap();
    session.submit(&attachment, sync_batch(31, 1)).unwrap();
    // Some are executed, and count.
    fixture.slice(Duration::from_millis(10));
    drop(deliveries);
    fixture.run();
    let next_sequence = session.position().next_sequence;
    assert!((2..20).contains(&next_sequence), "{next_sequence}");
    let (again, mut deliveries) = session.attach().unwrap();
    session.submit(&again, sync_batch(1, 31)).unwrap();
    fixture.run();
    let welcome = next(&mut deliveries);
    let Some(Ok(Delivery::Welcome { next_sequence: told, .. })) = welcome else {
        panic!("{welcome:?}")
    };
    assert_eq!(told, next_sequence);
    assert_eq!(applied(next(&mut deliveries)), 31);
}

#[test]
fn what_a_call_that_is_over_queued_is_not_done() {
    let fixture = Fixture::new(ManualClock::default(), Limits::default());
    let session = fixture.session();
    let mut call = Box::pin(session.execute(sync_batch(1, 3)));
    assert!(call.as_mut().now_or_never().is_none());
    drop(call);
    fixture.run();
    assert_eq!(session.position().next_sequence, 1);
    let mut call = Box::pin(session.execute(sync_batch(1, 3)));
    assert!(call.as_mut().now_or_never().is_none());
    fixture.run();
    assert_eq!(call.now_or_never().unwrap().unwrap().applied_sequence, 3);
}

#[test]
fn sending_beyond_the_credit_is_refused_until_something_is_applied() {
    let limits = Limits { max_unapplied_commands: 3, ..Limits::default() };
    let fixture = Fixture::new(ManualClock::default(), limits);
    let session = fixture.session();
    let (attachment, _deliveries) = session.attach().unwrap();
    session.submit(&attachment, sync_batch(1, 2)).unwrap();
    let refused = session.submit(&attachment, sync_batch(3, 2));
    assert!(matches!(refused, Err(ProtocolError::CreditExceeded { commands: 3, .. })));
    fixture.run();
    session.submit(&attachment, sync_batch(3, 3)).unwrap();
}

#[test]
fn a_session_pauses_while_its_stream_does_not_read() {
    let limits = Limits { max_unread_bytes: 0, ..Limits::default() };
    let fixture = Fixture::new(ManualClock::default(), limits);
    let session = fixture.session();
    let (attachment, mut deliveries) = session.attach().unwrap();
    session.submit(&attachment, sync_batch(1, 1)).unwrap();
    fixture.run();
    assert_eq!(session.position().next_sequence, 1, "the welcome is unread");
    assert!(matches!(next(&mut deliveries), Some(Ok(Delivery::Welcome { .. }))));
    fixture.run();
    assert_eq!(applied(next(&mut deliveries)), 1);
}

#[test]
fn a_stream_that_does_not_read_for_too_long_is_dropped_and_the_session_stays() {
    let limits = Limits { max_unread_bytes: 0, ..Limits::default() };
    let fixture = Fixture::new(ManualClock::default(), limits);
    let session = fixture.session();
    let (attachment, mut deliveries) = session.attach().unwrap();
    session.submit(&attachment, sync_batch(1, 1)).unwrap();
    fixture.run();
    fixture.clock.advance(Duration::from_secs(31));
    fixture.registry.sweep();
    assert!(matches!(next(&mut deliveries), Some(Err(ProtocolError::SlowConsumer))));
    assert!(!session.position().attached);
    let (_attachment, mut deliveries) = session.attach().unwrap();
    fixture.run();
    assert!(matches!(next(&mut deliveries), Some(Ok(Delivery::Welcome { next_sequence: 1, .. }))));
}

#[test]
fn a_download_waits_for_its_command() {
    let fixture = Fixture::new(ManualClock::default(), Limits::default());
    let session = fixture.session();
    let (attachment, _deliveries) = session.attach().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut read = Box::pin(session.read(1, 2));
        assert!(read.as_mut().now_or_never().is_none());
        fixture.run();
        assert!(read.as_mut().now_or_never().is_none());
        session.submit(&attachment, sync_batch(1, 2)).unwrap();
        fixture.run();
        // There is no such value, but the question was answered.
        assert!(matches!(read.now_or_never(), Some(Err(ProtocolError::Command(_)))));
    });
}

#[test]
fn an_expired_session_ends_and_gives_its_memory_back() {
    let fixture = Fixture::new(ManualClock::default(), Limits::default());
    let session = fixture.session();
    let ttl = Sessions::default().time_to_live;
    fixture.clock.advance(ttl);
    fixture.registry.sweep();
    assert_eq!(fixture.registry.len(), 1);
    fixture.clock.advance(Duration::from_secs(1));
    fixture.registry.sweep();
    fixture.run();
    assert!(fixture.registry.is_empty());
    assert!(session.work.lock().unwrap().core.is_none());
    assert!(matches!(session.attach(), Err(ProtocolError::SessionEnded)));
}

#[test]
fn an_attached_session_does_not_expire() {
    let fixture = Fixture::new(ManualClock::default(), Limits::default());
    let session = fixture.session();
    let (_attachment, deliveries) = session.attach().unwrap();
    fixture.run();
    fixture.clock.advance(Duration::from_hours(1));
    fixture.registry.sweep();
    assert_eq!(fixture.registry.len(), 1);
    // Its time begins to run when the stream goes.
    drop(deliveries);
    fixture.registry.sweep();
    assert_eq!(fixture.registry.len(), 1);
}

#[test]
fn ending_a_session_answers_everybody_who_waits() {
    let fixture = Fixture::new(ManualClock::default(), Limits::default());
    let session = fixture.session();
    let (_attachment, mut deliveries) = session.attach().unwrap();
    let mut call = Box::pin(session.execute(sync_batch(1, 1)));
    assert!(call.as_mut().now_or_never().is_none());
    fixture.registry.delete(&session);
    fixture.run();
    assert!(matches!(call.now_or_never(), Some(Err(ProtocolError::SessionEnded))));
    assert!(matches!(next(&mut deliveries), Some(Err(ProtocolError::SessionEnded))));
}

/// A clock that fails as a kernel would, at its n-th look.
#[derive(Debug)]
struct PanickingClock(std::sync::atomic::AtomicUsize);

impl Clock for PanickingClock {
    fn now(&self) -> Duration {
        let left = self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        assert!(left > 0, "a bug in a kernel");
        Duration::ZERO
    }
}

#[test]
fn a_panic_ends_its_session_and_no_other() {
    let fixture = Fixture::new(ManualClock::default(), Limits::default());
    let (broken, other) = (fixture.session(), fixture.session());
    let (attachment, mut deliveries) = broken.attach().unwrap();
    broken.submit(&attachment, sync_batch(1, 5)).unwrap();
    // One look for the slice, one for the batch, one for each of two commands.
    let clock = PanickingClock(4.into());
    fixture.ready.lock().given.clear();
    assert_eq!(run_slice(&broken, &clock, Duration::from_secs(1)), After::Rest);
    assert!(matches!(next(&mut deliveries), Some(Ok(Delivery::Welcome { .. }))));
    let Some(Err(ProtocolError::SessionBroken { incident })) = next(&mut deliveries) else {
        panic!("the stream goes on")
    };
    assert_eq!(incident.len(), 16);
    assert!(matches!(broken.attach(), Err(ProtocolError::SessionBroken { .. })));
    fixture.registry.sweep();
    assert_eq!(fixture.registry.len(), 1);

    let (attachment, mut deliveries) = other.attach().unwrap();
    other.submit(&attachment, sync_batch(1, 1)).unwrap();
    fixture.run();
    assert!(matches!(next(&mut deliveries), Some(Ok(Delivery::Welcome { .. }))));
    assert_eq!(applied(next(&mut deliveries)), 1);
}

// === loops ===

/// A batch that defines a function of no parameters and runs it in a loop, and then does one command more.
fn loop_batch(steps: i64) -> v1::Batch {
    let step = v1::Op {
        name: "full".into(),
        outputs: vec![2],
        attributes: vec![
            v1::Attribute {
                name: "shape".into(),
                value: Some(v1::attribute::Value::IntsValue(v1::IntegerList::default())),
            },
            v1::Attribute {
                name: "value".into(),
                value: Some(v1::attribute::Value::DoubleValue(3.0)),
            },
        ],
        ..Default::default()
    };
    let run = v1::RunLoop {
        function: 1,
        steps,
        outputs: vec![3],
        report_every: 10,
        stream_reports: true,
        ..Default::default()
    };
    let kinds = [
        Kind::DefineFunction(v1::DefineFunction { function: 1, ..Default::default() }),
        Kind::Op(step),
        Kind::FinishFunction(v1::FinishFunction {
            function: 1,
            results: vec![2],
            ..Default::default()
        }),
        Kind::RunLoop(run),
        Kind::Sync(v1::Sync::default()),
    ];
    let command = |kind| v1::Command { kind: Some(kind), ..Default::default() };
    let commands = kinds.into_iter().map(command);
    v1::Batch::new(1, commands)
}

/// What became of the loop, from the answer to its batch.
fn looped(delivery: Option<Result<Delivery, ProtocolError>>) -> v1::LoopReply {
    let Some(Ok(Delivery::Batch(reply, _))) = delivery else { panic!("{delivery:?}") };
    assert_eq!(reply.applied_sequence, 5);
    let found = reply.replies.into_iter().find(|reply| reply.sequence == 4).unwrap();
    let Some(v1::reply::Result::Loop(found)) = found.result else { panic!("{found:?}") };
    found
}

#[test]
fn a_loop_lets_other_sessions_run_reports_and_stops() {
    // The steps up to a report, ten of them, are done at once. Then the clock is looked at, which takes a millisecond.
    let fixture = Fixture::new(ManualClock::ticking(Duration::from_millis(1)), Limits::default());
    let (long, short) = (fixture.session(), fixture.session());
    let (first, mut deliveries) = long.attach().unwrap();
    long.submit(&first, loop_batch(10_000)).unwrap();
    let (second, mut answers) = short.attach().unwrap();
    short.submit(&second, sync_batch(1, 1)).unwrap();
    assert_eq!(fixture.slice(Duration::from_millis(50)), 2);
    assert!(matches!(next(&mut answers), Some(Ok(Delivery::Welcome { .. }))));
    assert_eq!(applied(next(&mut answers)), 1);
    assert!(matches!(next(&mut deliveries), Some(Ok(Delivery::Welcome { .. }))));
    let Some(Ok(Delivery::Progress(progress))) = next(&mut deliveries) else { panic!("no report") };
    let report = v1::LoopReport { step: 10, values: vec![3.0] };
    assert_eq!(progress, v1::LoopProgress { sequence: 4, report: Some(report) });
    long.stop_loops(4);
    fixture.run();
    let done = loop {
        match next(&mut deliveries) {
            Some(Ok(Delivery::Progress(_))) => {}
            delivery => break looped(delivery),
        }
    };
    assert!(done.stopped);
    assert!((200..600).contains(&done.steps), "{} steps", done.steps);
}

#[test]
fn a_stream_that_attaches_during_a_loop_is_welcomed_at_once_and_the_loop_runs_once() {
    let fixture = Fixture::new(ManualClock::ticking(Duration::from_millis(1)), Limits::default());
    let session = fixture.session();
    let (older, older_deliveries) = session.attach().unwrap();
    session.submit(&older, loop_batch(1000)).unwrap();
    fixture.slice(Duration::from_millis(20));
    drop(older_deliveries);
    let (newer, mut deliveries) = session.attach().unwrap();
    fixture.slice(Duration::from_millis(20));
    let welcome = next(&mut deliveries);
    assert!(matches!(welcome, Some(Ok(Delivery::Welcome { next_sequence: 4, .. }))), "{welcome:?}");
    session.submit(&newer, loop_batch(1000)).unwrap();
    fixture.run();
    let done = loop {
        match next(&mut deliveries) {
            Some(Ok(Delivery::Progress(_))) => {}
            delivery => break looped(delivery),
        }
    };
    assert_eq!((done.steps, done.stopped, done.reports.len()), (1000, false, 100));
    assert_eq!(session.position().next_sequence, 6);
}

#[test]
fn a_loop_that_nobody_waits_for_ends_with_its_session() {
    let fixture = Fixture::new(ManualClock::ticking(Duration::from_millis(1)), Limits::default());
    let session = fixture.session();
    let (attachment, deliveries) = session.attach().unwrap();
    session.submit(&attachment, loop_batch(40_000)).unwrap();
    fixture.slice(Duration::from_millis(20));
    fixture.clock.advance(Duration::from_hours(1));
    fixture.registry.sweep();
    assert_eq!(fixture.registry.len(), 1, "somebody is attached");
    drop(deliveries);
    fixture.slice(Duration::from_millis(20));
    fixture.clock.advance(Sessions::default().time_to_live + Duration::from_secs(1));
    fixture.registry.sweep();
    fixture.run();
    assert!(fixture.registry.is_empty());
}

#[test]
fn a_session_needs_its_own_token_and_owner() {
    let fixture = Fixture::new(ManualClock::default(), Limits::default());
    let owner = Principal::anonymous();
    let (session, token) = fixture.registry.create(&owner).unwrap();
    let (_, other) = fixture.registry.create(&owner).unwrap();
    let (id, registry) = (session.id().to_string(), &fixture.registry);
    assert!(registry.authenticate(&id, &token.reveal(), &owner).is_ok());
    for (id, token) in
        [(id.as_str(), other.reveal()), (id.as_str(), String::new()), ("00", token.reveal())]
    {
        let refused = registry.authenticate(id, &token, &owner).unwrap_err();
        assert_eq!(refused, ProtocolError::UnknownSession);
    }
}
