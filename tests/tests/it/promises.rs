//! Ring 4: what the server promises, whatever a client does.

use gradtape_client::{
    Error, Session,
    proto::{self, command::Kind},
};
use gradtape_tests::{
    Server,
    raw::{Raw, command, constant, elements, error, fetch, op, reason, tagged},
};
use tonic::Code;

// === exactly once ===

#[tokio::test]
async fn a_repeated_batch_gets_its_stored_replies() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let commands = || {
        let variable = Kind::CreateVariable(proto::CreateVariable {
            variable: 2,
            name: "v".into(),
            initial_value: 1,
            trainable: None,
        });
        let assign = Kind::AssignVariable(proto::AssignVariable {
            variable: 2,
            value: 1,
            mode: proto::AssignMode::Add.into(),
        });
        vec![constant(1, &[1.0]), command(variable), command(assign), fetch(2)]
    };
    let mut stream = raw.stream().await.unwrap();
    let first = stream.execute(1, commands()).await.unwrap();
    assert_eq!(elements(&first.replies[0]), [2.0]);
    let again = stream.execute(1, commands()).await.unwrap();
    assert_eq!(again.replies, first.replies);
    let unary = raw.execute(1, commands()).await.unwrap();
    assert_eq!(unary.replies, first.replies);
    // Not even the fetch ran again: the variable is still 2.
    let now = stream.execute(5, vec![fetch(2)]).await.unwrap();
    assert_eq!(elements(&now.replies[0]), [2.0]);
}

#[tokio::test]
async fn gradients_that_are_as_expected_need_no_reply() {
    use proto::GradientKind::{Absent, Dense};

    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let tape = Kind::OpenTape(proto::OpenTape { tape: 3, persistent: true, ..Default::default() });
    let watch = Kind::WatchTape(proto::WatchTape { tape: 3, values: vec![1] });
    let gradient = |first: u64, expected: &[proto::GradientKind]| {
        command(Kind::ComputeGradient(proto::ComputeGradient {
            tape: 3,
            targets: vec![4],
            sources: vec![1, 2],
            outputs: [first, first + 1]
                .map(|gradient| proto::GradientOutput { gradient, indices: 0 })
                .to_vec(),
            expected_kinds: expected.iter().map(|&kind| kind.into()).collect(),
            ..Default::default()
        }))
    };
    let commands = vec![
        constant(1, &[3.0]),
        constant(2, &[5.0]),
        command(tape),
        command(watch),
        op("square", &[1], 4),
        gradient(10, &[Dense, Absent]),
        gradient(20, &[]),
        gradient(30, &[Dense, Dense]),
        gradient(40, &[Dense]),
        fetch(10),
    ];
    let reply = raw.execute(1, commands).await.expect("an answer");
    let told: Vec<u64> = reply.replies.iter().map(|reply| reply.sequence).collect();
    assert_eq!(told, [7, 8, 9, 10]);
    assert_eq!(elements(&reply.replies[3]), [6.0]);
}

#[tokio::test]
async fn a_batch_that_overlaps_executes_only_what_is_new() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    raw.execute(1, vec![constant(1, &[1.0]), constant(2, &[2.0])]).await.unwrap();
    let reply = raw.execute(2, vec![constant(2, &[2.0]), op("add", &[1, 2], 3), fetch(3)]).await;
    let reply = reply.unwrap();
    assert_eq!(reply.applied_sequence, 4);
    assert_eq!(elements(&reply.replies[0]), [3.0]);
}

#[tokio::test]
async fn a_number_with_other_content_is_refused() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    raw.execute(1, vec![constant(1, &[1.0])]).await.unwrap();
    let status = raw.execute(1, vec![constant(1, &[2.0])]).await.unwrap_err();
    assert_eq!(
        (status.code(), &reason(&status)[..]),
        (Code::FailedPrecondition, "SEQUENCE_REUSED")
    );
    let reply = raw.execute(2, vec![fetch(1)]).await.unwrap();
    assert_eq!(elements(&reply.replies[0]), [1.0]);
}

#[tokio::test]
async fn a_gap_names_the_number_that_was_expected() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    raw.execute(1, vec![constant(1, &[1.0])]).await.unwrap();
    let mut stream = raw.stream().await.unwrap();
    assert_eq!(stream.welcome.next_sequence, 2);
    stream.send(7, vec![fetch(1)]);
    let status = stream.failure().await;
    assert_eq!((status.code(), &reason(&status)[..]), (Code::Aborted, "SEQUENCE_GAP"));
    assert!(status.message().contains('2'), "{}", status.message());
    assert_eq!(raw.position().await.unwrap().next_sequence, 2);
}

// === errors by dataflow ===

#[tokio::test]
async fn a_failure_poisons_what_uses_it_and_nothing_else() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let bad = tagged("train.py:12", op("add", &[1, 2], 3).kind.unwrap());
    let poisoned = tagged("train.py:13", op("exp", &[3], 4).kind.unwrap());
    let commands = vec![
        constant(1, &[1.0, 2.0]),
        constant(2, &[1.0, 2.0, 3.0]),
        bad,
        poisoned,
        op("add", &[1, 1], 5),
        fetch(5),
    ];
    let reply = raw.execute(1, commands).await.unwrap();
    let [root, victim, value] = &reply.replies[..] else { panic!("{reply:?}") };
    let root = error(root);
    assert_eq!((root.sequence, root.root_sequence, &root.reason[..]), (3, 3, "SHAPE_MISMATCH"));
    assert_eq!((&root.op[..], &root.tag[..]), ("add", "train.py:12"));
    let shapes: Vec<_> = root.inputs.iter().map(|spec| spec.shape.clone()).collect();
    assert_eq!(shapes, [[2], [3]]);
    let victim = error(victim);
    assert_eq!((victim.sequence, victim.root_sequence, &victim.reason[..]), (4, 3, "POISONED"));
    assert_eq!((&victim.tag[..], &victim.root_tag[..]), ("train.py:13", "train.py:12"));
    assert_eq!(elements(value), [2.0, 4.0]);
}

#[tokio::test]
async fn the_client_names_the_line_of_the_first_cause() {
    let server = Server::start().await;
    let session = server.session().await;
    let (a, b) = (session.constant([1.0f32, 2.0]), session.constant([1.0f32, 2.0, 3.0]));
    let line = line!() + 1;
    let bad = &a + &b;
    let worse = bad.exp();
    let error = worse.value::<f32>().await.unwrap_err();
    let failure = error.failure().expect("a failure");
    assert_eq!(failure.reason, "POISONED");
    assert_eq!(failure.root_tag, format!("{}:{line}", file!()));
    let cause = failure.cause.as_ref().expect("the cause came before");
    assert_eq!((&cause.reason[..], &cause.op[..]), ("SHAPE_MISMATCH", "add"));
    // The program knows of it, so sync has nothing to tell.
    session.sync().await.unwrap();
}

#[tokio::test]
async fn sync_tells_of_a_failure_that_nobody_asked_for() {
    let server = Server::start().await;
    let session = server.session().await;
    let v = session.variable("v", [1.0f32, 2.0]);
    v.assign(session.constant([1.0f32]));
    let error = session.sync().await.unwrap_err();
    assert_eq!(error.reason(), Some("VARIABLE_MISMATCH"));
    session.sync().await.unwrap();
    assert_eq!(v.value::<f32>().await.unwrap(), [1.0, 2.0]);
}

// === attachments ===

#[tokio::test]
async fn another_client_goes_on_where_the_first_left() {
    let server = Server::start().await;
    let first = server.session().await;
    let credentials = first.credentials();
    let v = first.variable("v", [1.0f32, 2.0]);
    let handle = v.handle();
    first.detach().await.unwrap();
    let second = Session::builder().attach(server.url(), credentials).await.unwrap();
    let fetch = second.command(&command(Kind::Fetch(proto::Fetch { value: handle })));
    assert_eq!(elements(&fetch.await.unwrap()), [1.0, 2.0]);
    // Its own handles do not collide with those that are there.
    let sum = second.constant(1.0f32) + 1.0;
    assert_eq!(sum.scalar::<f32>().await.unwrap(), 2.0);
}

#[tokio::test]
async fn the_newest_stream_wins() {
    let server = Server::start().await;
    let first = server.session().await;
    let second = Session::builder().attach(server.url(), first.credentials()).await.unwrap();
    let error = first.sync().await.unwrap_err();
    assert_eq!(error.reason(), Some("SUPERSEDED"), "{error}");
    second.sync().await.unwrap();
}

#[tokio::test]
async fn a_deleted_session_is_not_found_and_a_wrong_token_says_the_same() {
    let server = Server::start().await;
    let mut raw = Raw::connect(&server).await;
    let mut stranger = raw.clone();
    stranger.credentials.session_token = "0".repeat(64);
    let wrong = stranger.position().await.unwrap_err();
    let request = proto::DeleteSessionRequest { credentials: Some(raw.credentials.clone()) };
    raw.sessions.delete_session(request).await.unwrap();
    let gone = raw.position().await.unwrap_err();
    assert_eq!((wrong.code(), wrong.message()), (Code::NotFound, gone.message()));
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn handles_of_attachments_do_not_overlap() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let first = raw.stream().await.unwrap().welcome.handle_base;
    let second = raw.stream().await.unwrap().welcome.handle_base;
    assert!(first.abs_diff(second) >= 1 << 32, "{first} and {second}");
}

// === limits and overload ===

#[tokio::test]
async fn a_stream_beyond_its_credit_ends_and_the_session_stays() {
    let server = Server::start_with(|config| config.limits.max_unapplied_commands = 8).await;
    let raw = Raw::connect(&server).await;
    let mut stream = raw.stream().await.unwrap();
    stream.send(1, (1..=9).map(|handle| constant(handle, &[1.0])).collect());
    let status = stream.failure().await;
    assert_eq!((status.code(), &reason(&status)[..]), (Code::ResourceExhausted, "CREDIT_EXCEEDED"));
    assert_eq!(raw.position().await.unwrap().next_sequence, 1);
}

#[tokio::test]
async fn a_client_within_its_credit_never_meets_overload() {
    let server = Server::start_with(|config| {
        config.limits.max_unapplied_commands = 8;
        config.limits.max_unapplied_bytes = 2_000;
    })
    .await;
    let session = server.session().await;
    let mut x = session.constant([0.0f32; 32]);
    for _ in 0..500 {
        x = x + 1.0;
    }
    assert_eq!(x.value::<f32>().await.unwrap(), [500.0; 32]);
}

#[tokio::test]
async fn memory_beyond_the_sessions_limit_is_refused_before_it_is_taken() {
    let server = Server::start_with(|config| config.sessions.session_memory_bytes = 6 << 20).await;
    let session = server.session().await;
    let big = session.full([1 << 20], 1.0);
    let sum = &big + 1.0;
    let error = sum.spec().await.unwrap_err();
    let cause = error.failure().and_then(|failure| failure.cause.as_ref()).expect("a first cause");
    assert_eq!((cause.code, &cause.reason[..]), (Code::ResourceExhausted, "MEMORY_LIMIT"));
    assert_eq!((session.constant(1.0f32) + 1.0).scalar::<f32>().await.unwrap(), 2.0);
}

#[tokio::test]
async fn a_program_that_runs_ahead_lets_go_of_what_it_dropped() {
    let server = Server::start_with(|config| config.sessions.session_memory_bytes = 16 << 20).await;
    let session = server.session().await;
    let x = session.constant(&vec![1.0_f32; 16_384][..]);
    // 64 KiB each, 128 MiB together, and nothing is sent before the first wait.
    for _ in 0..2_048 {
        let _dropped = &x + &x;
    }
    session.sync().await.expect("memory for those that live at one time");
}

#[tokio::test]
async fn sessions_do_not_see_each_others_handles() {
    let server = Server::start().await;
    let (one, other) = (Raw::connect(&server).await, Raw::connect(&server).await);
    one.execute(1, vec![constant(1, &[1.0])]).await.unwrap();
    let reply = other.execute(1, vec![fetch(1)]).await.unwrap();
    assert_eq!(error(&reply.replies[0]).reason, "UNKNOWN_HANDLE");
}

// === shutdown ===

#[tokio::test]
async fn a_server_that_stops_finishes_what_it_has_taken() {
    let mut server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let mut stream = raw.stream().await.unwrap();
    let commands = |first: u64| (first..first + 200).map(|h| constant(h, &[1.0])).collect();
    stream.send(1, commands(1));
    assert_eq!(stream.receive().await.unwrap().unwrap().applied_sequence, 200);
    server.stop();
    let status = stream.failure().await;
    assert_eq!((status.code(), &reason(&status)[..]), (Code::Unavailable, "DRAINING"));
    drop((stream, raw));
    server.stopped().await;
}

#[tokio::test]
async fn a_client_gives_up_when_its_patience_is_over() {
    let server = Server::start().await;
    let patience = std::time::Duration::from_millis(50);
    let session = Session::builder().patience(patience).connect(server.url()).await.unwrap();
    session.sync().await.unwrap();
    server.stopped().await;
    let error = session.sync().await.unwrap_err();
    assert!(matches!(error, Error::Transport(_)), "{error}");
}
