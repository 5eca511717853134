//! Sessions that survive the death of the server: the real program, killed at any point.
//!
//! `GRADTAPE_KILLS` says how often it is killed; the long run has 200.

use std::{path::Path, time::Duration};

use gradtape_client::{
    Code, DType, Level, Optimizer, Session, Spec,
    proto::{self, command::Kind},
};
use gradtape_server::durable::record::{self, Reader};
use gradtape_tests::{Server, process::Process, proxy::Proxy};

/// Steps of the run.
const STEPS: usize = 60;

/// Bytes of the tensor that is uploaded: more than fits in a command.
const UPLOAD: u64 = 1_120_000;

/// How often the server is killed if nobody says more.
const KILLS: usize = 20;

/// The seed of the points at which it is killed. A failure names its point.
const SEED: u64 = 2_026;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

fn kills() -> usize {
    std::env::var("GRADTAPE_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"))
}

fn start(store: &Path) -> Process {
    let store = store.to_str().expect("a path in UTF-8");
    Process::start(&["--session-store", store, "--log", "warn"])
}

/// A server that shortens logs all the time.
fn start_short(store: &Path) -> Process {
    let store = store.to_str().expect("a path in UTF-8");
    let short = ["--max-session-log", "1KiB", "--max-session-replay", "0"];
    Process::start(&[&["--session-store", store, "--log", "warn"][..], &short].concat())
}

/// A small model's training with something of everything: random numbers, tapes, an optimizer, a function, a loop, an upload,
/// a failure, answers that are waited for and levels that are. The bits of all that is left.
async fn train(session: &Session) -> Vec<u32> {
    let generator = session.generator(3);
    let large: Vec<f32> = (0..UPLOAD / 4).map(|i| f32::from((i % 1000) as u16) / 1024.0).collect();
    let large = session.constant(large);
    let shift = large.reduce_mean();
    let x = generator.normal([16, 4]) + &shift;
    let y = generator.normal([16, 2]);
    let w = session.variable("w", [[0.1f32, -0.2], [0.3, 0.4], [-0.5, 0.6], [0.7, -0.8]]);
    let b = session.variable("b", [0.0f32, 0.0]);
    let optimizer = Optimizer::adam(session).learning_rate(0.05).create();
    let square =
        session.function([Spec { dtype: DType::F32, shape: vec![16, 2] }], |p| vec![p[0].square()]);
    for step in 0..STEPS {
        let tape = session.tape();
        let error = x.matmul(&w) + &b - &y;
        let loss = square.call([&error]).remove(0).reduce_mean();
        let gradients = tape.gradient([&loss], [&w, &b]);
        optimizer.apply(gradients.iter().zip([&w, &b]));
        // Some answers are waited for, so that the server also dies with a reply on its way.
        if step % 10 == 0 {
            assert!(loss.scalar::<f32>().await.expect("a loss").is_finite());
        }
        if step % 20 == 10 {
            let bad = &w + &session.constant([1.0f32, 2.0, 3.0]);
            let failure = bad.value::<f32>().await.expect_err("shapes that do not fit");
            let reason = failure.failure().map(|failure| &*failure.reason);
            assert_eq!(reason, Some("POISONED"), "{failure}");
        }
        if step % 15 == 7 {
            let reached = session.sync_to(Level::Durable, PATIENCE).await;
            let reached = reached.expect("a level");
            assert_eq!(reached.level, Level::Durable);
        }
    }
    session.sync().await.expect("nothing else failed");
    let mut left = w.value::<f32>().await.expect("weights");
    left.extend(b.value::<f32>().await.expect("a bias"));
    left.extend(generator.normal([4]).value::<f32>().await.expect("random numbers"));
    left.into_iter().map(f32::to_bits).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_at_any_point_loses_nothing_and_does_nothing_twice() {
    kill_again_and_again(start).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_while_it_shortens_logs_loses_nothing_and_does_nothing_twice() {
    let short = kill_again_and_again(start_short).await;
    assert!(short > kills() / 2, "only {short} of {} logs were shortened", kills());
}

/// Whether the log in a store begins with a snapshot.
fn begins_with_a_snapshot(store: &Path) -> bool {
    let logs = std::fs::read_dir(store).expect("a folder").filter_map(|file| {
        let path = file.expect("a file").path();
        path.extension().is_some_and(|suffix| suffix == "log").then_some(path)
    });
    logs.map(|path| std::fs::read(path).expect("a log")).any(|log| {
        let size = log.len() as u64;
        let mut reader = Reader::new(Box::new(std::io::Cursor::new(log)), size);
        let second = reader.read().and_then(|_| reader.read()).expect("two records");
        second.is_some_and(|record| record.kind == record::Kind::Snapshot)
    })
}

/// Kills a server at any point of a run, which has to end with the same bits. Says how often its log was shortened.
async fn kill_again_and_again(start: fn(&Path) -> Process) -> usize {
    let store = tempfile::tempdir().expect("a folder");
    let mut server = start(store.path());
    let proxy = Proxy::start(server.address()).await.expect("a proxy");
    let session = Session::connect(proxy.url()).await.expect("a session");
    let before = proxy.passed();
    let undisturbed = train(&session).await;
    let length = proxy.passed() - before;
    session.close().await.expect("an orderly end");

    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut hit, mut short) = (0, 0);
    for kill in 0..kills() {
        // Twice in a run, so that the second may meet a session that is coming back.
        // One run in four is hit while it uploads.
        let first = if kill % 4 == 0 { random.u64(1..UPLOAD) } else { random.u64(UPLOAD..length) };
        let points = [first, random.u64(1..length - UPLOAD)];
        let session = Session::connect(proxy.url()).await.expect("a session");
        let training = tokio::spawn({
            let session = session.clone();
            async move { train(&session).await }
        });
        let mut passed = proxy.passed();
        for point in points {
            passed += point;
            tokio::select! {
                () = proxy.reaches(passed) => {}
                () = async { while !training.is_finished() { tokio::task::yield_now().await } } => {}
            }
            hit += usize::from(!training.is_finished());
            server.kill();
            server = start(store.path());
            proxy.lead_to(server.address());
        }
        let left = training.await.expect("the run ends");
        short += usize::from(begins_with_a_snapshot(store.path()));
        assert_eq!(left, undisturbed, "kill {kill} after {points:?} of {length} bytes");
        session.close().await.expect("an orderly end");
    }
    // Two for each run; one that comes with the last bytes may find it done.
    assert!(hit > kills() * 3 / 2, "only {hit} of {} kills hit a run", 2 * kills());
    short
}

/// The elements behind a handle of another client.
async fn fetch(session: &Session, value: u64) -> Vec<u8> {
    let kind = Some(Kind::Fetch(proto::Fetch { value }));
    let reply = session.command(&proto::Command { kind, ..proto::Command::default() }).await;
    match reply.expect("a reply").result {
        Some(proto::reply::Result::Tensor(tensor)) => tensor.data.to_vec(),
        other => panic!("no tensor but {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_client_goes_on_after_a_kill_and_after_an_orderly_end() {
    let store = tempfile::tempdir().expect("a folder");
    let server = start(store.path());
    let url = format!("http://{}", server.address());
    let session = Session::connect(url).await.expect("a session");
    let v = session.variable("v", [1.0f32, 2.0]);
    v.assign_add(session.constant([10.0f32, 20.0]));
    let reached = session.sync_to(Level::Durable, PATIENCE).await.expect("a level");
    assert_eq!(reached.level, Level::Durable);
    let (credentials, handle) = (session.credentials(), v.handle());
    session.detach().await.expect("an orderly end");
    let expected = [11.0f32, 22.0].map(f32::to_le_bytes).concat();
    server.kill();
    for _ in 0..2 {
        let server = start(store.path());
        let url = format!("http://{}", server.address());
        let other = Session::builder().attach(url, credentials.clone()).await.expect("it is there");
        assert_eq!(fetch(&other, handle).await, expected);
        // Not waited for: an orderly end writes it.
        other.constant(5.0f32);
        other.sync().await.expect("applied");
        drop(other);
        assert!(server.stop().success(), "an orderly end");
    }
    let server = start(store.path());
    let url = format!("http://{}", server.address());
    let last = Session::builder().attach(&url, credentials.clone()).await.expect("it is there");
    assert_eq!(fetch(&last, handle).await, expected);
    drop(last);
    let files = std::fs::read_dir(store.path()).expect("a folder").count();
    assert_eq!(files, 2, "a log, and the number of starts");
}

#[tokio::test]
async fn a_server_without_a_store_says_so_in_band() {
    let server = Server::start().await;
    let session = server.session().await;
    for level in [Level::Durable, Level::Portable] {
        let error = session.sync_to(level, PATIENCE).await.expect_err("no store");
        let failure = error.failure().expect("the session goes on");
        let said = (failure.code, failure.reason.as_str());
        assert_eq!(said, (Code::Unimplemented, "LEVEL_UNAVAILABLE"), "{level:?}");
    }
    let reached = session.sync_to(Level::Applied, PATIENCE).await.expect("a level");
    assert_eq!((reached.level, reached.durable_sequence), (Level::Applied, 0));
}

#[tokio::test]
async fn a_second_server_does_not_get_the_store() {
    let store = tempfile::tempdir().expect("a folder");
    let path = store.path().to_owned();
    let first = Server::start_with(|config| config.durability.store = Some(path.clone())).await;
    let mut config = gradtape_server::config::Config::default();
    config.listen.address = ([127, 0, 0, 1], 0).into();
    config.durability.store = Some(path);
    let second = gradtape_server::server::Server::bind(config).await;
    assert!(second.is_err(), "the store has an owner");
    first.stopped().await;
}
