//! Hostile tensors, handles, tapes and functions: the cases `hazard_…` of `tests/conformance`, each row beside a canary whose
//! bits must stay the same, on a server that must hold as many bytes afterwards as before: none.
//!
//! `docs/hazards.md` says which test shows which row.

use std::{collections::BTreeSet, fs, time::Duration};

use gradtape_client::{
    DType, RestoreOptions, SaveOptions, Session, Spec, TapeOptions, Tensor,
    proto::{
        self, checkpoint_service_client::CheckpointServiceClient, command::Kind, stream_request,
    },
};
use gradtape_server::principal::Role;
use gradtape_tests::{
    Server,
    access::{Folder, holder},
    canary::Canary,
    folder,
    raw::{Raw, channel, command, connection, constant, elements, fetch, op, reason},
};

use crate::{
    conformance::{case_names, replay},
    oversight::scrape,
};

/// A server that says how many bytes it holds, and a canary on it.
async fn start() -> (Server, Canary) {
    let server = Server::start_with(|config| {
        config.access.metrics_address = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let canary = Canary::start(&server).await;
    (server, canary)
}

/// The canary has sung on, and nothing is held any more.
async fn end(server: &Server, mut canary: Canary) {
    canary.sings().await;
    canary.ends().await;
    // An ended session is taken down by the thread that has it, a moment later.
    let taken_down = async { while scrape(server).await.1["gradtape_memory_used_bytes"] > 0.0 {} };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, taken_down).await.expect("everything is given back");
}

/// The reason why the first command of a session failed.
async fn first_failure(session: &Session) -> String {
    let error = session.sync().await.expect_err("something failed");
    let failure = error.failure().unwrap_or_else(|| panic!("the session ended: {error}"));
    failure.cause.as_deref().unwrap_or(failure).reason.clone()
}

/// Replays the cases of a row.
async fn row(name: &str) {
    let (server, mut canary) = start().await;
    let prefix = format!("hazard_{name}");
    let cases: Vec<_> = case_names().into_iter().filter(|case| case.starts_with(&prefix)).collect();
    assert!(!cases.is_empty(), "there is no case {prefix}");
    for case in cases {
        replay(&server, &case).await;
        canary.sings().await;
    }
    canary.ends().await;
    // An ended session is taken down by the thread that has it, a moment later.
    let taken_down = async { while scrape(&server).await.1["gradtape_memory_used_bytes"] > 0.0 {} };
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, taken_down).await.expect("everything is given back");
}

macro_rules! rows {
    ($($name:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            row(stringify!($name)).await;
        }
    )*

    /// Every case of a hazard has its test.
    #[test]
    fn every_case_is_run() {
        let rows = [$(stringify!($name)),*];
        for case in case_names().iter().filter_map(|case| case.strip_prefix("hazard_")) {
            assert!(rows.iter().any(|row| case.starts_with(row)), "{case} belongs to no row");
        }
    }};
}

rows! {
    a01_shapes_overflow,
    a02_tensors_too_large,
    a03_memory_of_a_session,
    a04_broadcast_bombs,
    a05_huge_counts,
    a06_rank,
    a07_extents,
    a08_nothing_in_it,
    a09_axes,
    a10_indices,
    a11_segments,
    a12_slices,
    a13_windows,
    a14_integers,
    a15_numbers_without_meaning,
    a16_dtypes,
    a18_costly_ops,
    a19_equations,
    a20_many_inputs,
    a21_random_numbers,
    a22_casts,
    b03_handles,
    b05_tapes,
    b06_many_tapes,
    b09_jacobians,
    b10_functions_that_call_themselves,
    b14_assignments,
    b15_optimizer_steps,
    b16_values_do_not_change,
    b17_poison,
    b18_names,
}

// === what data cannot say ===

#[tokio::test(flavor = "multi_thread")]
async fn b08_gradients_of_gradients_explode_into_a_limit() {
    let (server, canary) = start().await;
    let session = server.session().await;
    let x = session.constant(0.5f32);
    let tape = session.tape_with(TapeOptions { persistent: true, ..TapeOptions::default() });
    tape.watch([&x]);
    let mut y = (&x * &x).exp() * (&x * 3.0).sin() * x.tanh();
    for _ in 0..20 {
        y = Tensor::clone(&tape.derivative(&y, &x));
    }
    assert_eq!(first_failure(&session).await, "TOO_MANY");
    drop((x, tape, y));
    session.close().await.expect("an end");
    end(&server, canary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b12_a_function_for_each_shape_comes_to_a_limit() {
    let (server, canary) = start().await;
    let session = server.session().await;
    let functions: Vec<_> = (0..1025)
        .map(|extent| {
            let spec = Spec { dtype: DType::F32, shape: vec![extent] };
            session.function([spec], |x| vec![x[0].square()])
        })
        .collect();
    assert_eq!(first_failure(&session).await, "TOO_MANY");
    drop(functions);
    session.close().await.expect("an end");
    end(&server, canary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b13_a_body_without_end_comes_to_a_limit() {
    let (server, canary) = start().await;
    let session = server.session().await;
    let x = session.constant([1.0f32; 4]);
    let function = session.function([x.spec().await.expect("a shape")], |p| {
        let unused: Vec<_> = (0..70_000).map(|_| p[0].exp()).collect();
        vec![&unused[0] + &p[0]]
    });
    assert_eq!(first_failure(&session).await, "TOO_MANY");
    drop((x, function));
    // It tells of the next failure, and ends all the same.
    assert!(session.close().await.is_err());
    end(&server, canary).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b13_what_control_flow_holds_counts_on_tapes() {
    let (server, canary) = start().await;
    let session = server.session().await;
    let long = session.function([Spec { dtype: DType::F32, shape: vec![] }], |p| {
        let deep = (0..2000).fold(p[0].clone(), |y, _| y.sin());
        vec![deep]
    });
    let x = session.constant(0.5f32);
    let tape = session.persistent_tape();
    tape.watch([&x]);
    let always = x.greater(0.0);
    let last = (0..200).fold(x.clone(), |y, _| session.cond(&always, &long, &long, [&y]).remove(0));
    assert_eq!(first_failure(&session).await, "TOO_MANY");
    drop((long, x, tape, always, last));
    // It tells of the next failure, and ends all the same.
    drop(session.close().await);
    end(&server, canary).await;
}

/// One function, named as often as a branch may name any, is not copied before that is paid for.
#[tokio::test(flavor = "multi_thread")]
async fn b13_a_function_that_is_named_again_and_again() {
    let (server, canary) = start().await;
    let session = server.session().await;
    let long = session.function([Spec { dtype: DType::F32, shape: vec![] }], |p| {
        vec![(0..20_000).fold(p[0].clone(), |y, _| y.sin())]
    });
    let (x, index) = (session.constant(0.5f32), session.constant(3i32));
    let result = session.switch(&index, &[&long; 256], [&x]);
    assert_eq!(first_failure(&session).await, "MEMORY_LIMIT");
    drop((long, x, index, result));
    session.close().await.expect("an end");
    end(&server, canary).await;
}

#[tokio::test]
async fn c08_half_closed_with_work_pending() {
    let (server, mut canary) = start().await;
    let raw = Raw::connect(&server).await;
    let hello = proto::Hello { credentials: Some(raw.credentials.clone()), notices: true };
    let (requests, mut responses) =
        raw.open(stream_request::Kind::Hello(hello)).await.expect("a stream");
    let commands = vec![constant(1, &[1.0]), command(Kind::Sync(proto::Sync::default()))];
    let batch = proto::Batch::new(1, commands);
    let kind = Some(stream_request::Kind::Batch(batch));
    requests.send(proto::StreamRequest { kind }).expect("the stream is open");
    drop(requests);
    let mut answered = false;
    while let Some(response) = responses.message().await.expect("the stream ends well") {
        answered |= matches!(response.kind, Some(proto::stream_response::Kind::Batch(_)));
    }
    assert!(answered, "what was sent before the end is answered");
    assert_eq!(raw.position().await.expect("the session stays").next_sequence, 3);
    canary.sings().await;
}

#[tokio::test]
async fn c16_deadlines_of_a_nanosecond_and_of_ten_thousand_years() {
    let (server, mut canary) = start().await;
    let raw = Raw::connect(&server).await;
    for timeout in ["1n", "99999999H"] {
        let request = proto::GetSessionRequest { credentials: Some(raw.credentials.clone()) };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("grpc-timeout", timeout.parse().expect("printable"));
        let answer = raw.sessions.clone().get_session(request).await;
        match answer {
            Ok(answer) => assert_eq!(answer.into_inner().next_sequence, 1),
            Err(status) => {
                let code = status.code();
                let late = matches!(code, tonic::Code::DeadlineExceeded | tonic::Code::Cancelled);
                assert!(late && timeout == "1n", "{timeout}: {status}");
            }
        }
    }
    canary.sings().await;
}

#[tokio::test]
async fn c21_a_download_that_stalls() {
    let (server, canary) = start().await;
    let raw = Raw::connect(&server).await;
    let elements = vec![1.0f32; 64];
    let shape =
        proto::attribute::Value::IntsValue(proto::IntegerList { values: vec![1 << 18, 64] });
    let large = command(Kind::Op(proto::Op {
        name: "broadcast_to".into(),
        inputs: vec![1],
        outputs: vec![2],
        attributes: vec![proto::Attribute { name: "shape".into(), value: Some(shape) }],
    }));
    raw.execute(1, vec![constant(1, &elements), large]).await.expect("a value of 64 MiB");
    let request = proto::DownloadTensorRequest {
        credentials: Some(raw.credentials.clone()),
        value: 2,
        after_sequence: 2,
    };
    let chunks = raw.tapes.clone().download_tensor(request).await;
    let mut chunks = chunks.expect("a download").into_inner();
    chunks.message().await.expect("a first chunk").expect("a first chunk");
    // Nothing more is read; its session and the others go on.
    let reply = raw.execute(3, vec![constant(3, &[1.0])]).await.expect("the session goes on");
    assert!(reply.replies.is_empty(), "{reply:?}");
    let request = proto::DeleteSessionRequest { credentials: Some(raw.credentials.clone()) };
    raw.sessions.clone().delete_session(request).await.expect("an end");
    drop(chunks);
    end(&server, canary).await;
}

#[tokio::test]
async fn c22_a_storm_of_stops() {
    let (server, mut canary) = start().await;
    let raw = Raw::connect(&server).await;
    for sequence in (0..2000_u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let credentials = Some(raw.credentials.clone());
        let stop = proto::StopLoopRequest { credentials, sequence };
        raw.tapes.clone().stop_loop(stop).await.expect("noted");
    }
    for sequence in 0..2000_u64 {
        let credentials = Some(raw.credentials.clone());
        let cancel = proto::CancelCommandsRequest { credentials, sequence };
        raw.tapes.clone().cancel_commands(cancel).await.expect("noted");
    }
    canary.sings().await;
    let sync = || command(Kind::Sync(proto::Sync::default()));
    raw.execute(1, vec![constant(1, &[1.0])]).await.expect("what takes no time is done");
    raw.execute(2, vec![sync(); 999]).await.expect("an answer");
    raw.execute(1001, vec![sync(); 999]).await.expect("an answer");
    let reply = raw.execute(2000, vec![op("add", &[1, 1], 2), fetch(2)]).await.expect("an answer");
    assert_eq!(elements(&reply.replies[0]), [2.0], "what comes later is not touched");
}

#[tokio::test]
async fn e04_a_checkpoint_of_somebody_else_is_not_found() {
    let folder = Folder::new();
    let [ada, ben] = ["ada", "ben"].map(|name| folder.token_of(holder(name, Role::User, None)));
    let store = tempfile::tempdir().expect("a folder");
    let place = store.path().to_str().expect("a path in UTF-8").to_owned();
    let server = Server::start_with(|config| {
        folder.protect(config);
        config.checkpoints.store = Some(place);
    })
    .await;
    let session = Session::builder().token(&ada).connect(server.url()).await.expect("a session");
    let _weights = session.variable("weights", [1.0f32, 2.0]);
    session.checkpoints().save("secret", SaveOptions::default()).await.expect("a checkpoint");
    let connection = connection(channel(&server).await, Some(&ben));
    let mut service = CheckpointServiceClient::new(connection);
    let theirs = proto::GetCheckpointRequest { name: "secret".into() };
    let status = service.get_checkpoint(theirs).await.expect_err("not ben's");
    let none = proto::GetCheckpointRequest { name: "absent".into() };
    let absent = service.get_checkpoint(none).await.expect_err("nobody's");
    assert_eq!((status.code(), reason(&status)), (absent.code(), reason(&absent)));
    assert_eq!(status.message().replace("secret", "absent"), absent.message());
    let list = service.list_checkpoints(proto::ListCheckpointsRequest::default()).await;
    assert!(list.expect("a list").into_inner().checkpoints.is_empty());
    let other = Session::builder().token(&ben).connect(server.url()).await.expect("a session");
    let _weights = other.variable("weights", [5.0f32, 5.0]);
    let restored = other.checkpoints().restore("secret", RestoreOptions::default()).await;
    assert!(restored.is_err(), "ben cannot restore it");
    session.checkpoints().delete("secret").await.expect("ada's own");
}

/// `docs/hazards.md` has every row, and the tests that it names are there.
#[test]
fn the_table_names_tests_that_exist() {
    let table = folder("../docs/hazards.md");
    let table = fs::read_to_string(table).expect("the table");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| row "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let named: BTreeSet<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    let expected = [('A', 23), ('B', 18), ('C', 23), ('D', 13), ('E', 18)];
    let expected = expected
        .into_iter()
        .flat_map(|(group, count)| (1..=count).map(move |number| format!("{group}{number}")));
    assert_eq!(named, expected.collect());
    for row in &rows {
        for test in row[2].split('`').skip(1).step_by(2) {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{test}"));
            let path = folder("..").join(file);
            let source = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{}", path.display()));
            assert!(!name.is_empty() && source.contains(name), "{test} of {} is not there", row[0]);
        }
    }
}
