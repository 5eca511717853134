//! A server that dies at each of its failpoints: the real program, over real sockets.
//!
//! The test goes through the list of points (`gradtape_server::failpoints::Point`), and each must be hit. How often it is
//! passed before follows from a seed; `GRADTAPE_DEATHS` says how many times the list is gone through. What else can go wrong
//! there is in `faults.rs`.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use gradtape_client::{
    Credentials, Level, Session,
    proto::{self, command::Kind},
};
use gradtape_server::failpoints::Point;
use gradtape_tests::{
    failing::{Failing, Fault},
    folder,
    proxy::Proxy,
    raw::{Raw, channel_to, command, connection, constant, elements, fetch, reason},
};
use tonic::{Code, Status};

/// Steps of a run; each third is waited for until it is durable.
const STEPS: u16 = 24;

/// Servers that die at one time.
const AT_ONCE: usize = 4;

/// The seed of how often points are passed.
const SEED: u64 = 2_026;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Logs begin anew all the time.
pub(crate) const SHORT: &[&str] = &["--max-session-log", "1KiB", "--max-session-replay", "0"];

// === deaths ===

/// Training that counts its steps, waits for levels, of which it notes what was promised, and cancels what is done already.
/// The bits of what is left.
async fn train(session: Session, promised: Arc<AtomicU64>) -> Vec<u32> {
    let x = session.constant([[0.5f32, -1.0], [1.5, 2.0], [-0.25, 0.75]]);
    let y = session.constant([[1.0f32, 0.0], [0.0, 1.0], [0.5, 0.5]]);
    let rate = session.constant(0.05f32);
    let w = session.variable("w", [[0.1f32, -0.2], [0.3, 0.4]]);
    let steps = session.variable("steps", 0.0f32);
    for step in 0..STEPS {
        let tape = session.tape();
        let loss = (x.matmul(&w) - &y).square().reduce_mean();
        let gradients = tape.gradient([&loss], [&w]);
        w.assign_sub(&(&rate * &gradients[0]));
        steps.assign_add(session.constant(1.0f32));
        if step % 3 == 2 {
            let reached = session.sync_to(Level::Durable, PATIENCE).await.expect("a level");
            assert_eq!(reached.level, Level::Durable);
            promised.store(reached.durable_sequence, Ordering::SeqCst);
            // There is nothing to cancel, and whoever says so may be away.
            let _ = session.cancel().await;
        }
    }
    let count = steps.scalar::<f32>().await.expect("a number");
    assert_eq!(count, f32::from(STEPS), "each step took effect once");
    w.value::<f32>().await.expect("weights").into_iter().map(f32::to_bits).collect()
}

/// How often a run passes a point at least, until it is over.
fn passes(point: Point) -> usize {
    match point {
        // Each command.
        Point::Validate
        | Point::LedgerReserve
        | Point::Alloc
        | Point::BeforeExec
        | Point::AfterExec
        | Point::MidExecStep
        | Point::PanicInKernel => 40,
        // Each time that a level is waited for, and more.
        Point::InboxFull
        | Point::BeforeAck
        | Point::AfterAck
        | Point::Cancel
        | Point::WalAppend
        | Point::WalBeforeSync
        | Point::WalAfterSync => 6,
        // As an answer is not taken at once, as the connection was cut, as a log begins anew, and as the server starts and ends.
        Point::OutboxFull
        | Point::Accept
        | Point::Handshake
        | Point::Auth
        | Point::Hello
        | Point::Attach
        | Point::SnapshotBegin
        | Point::SnapshotPart
        | Point::SnapshotBeforeManifest
        | Point::SnapshotAfterManifest
        | Point::LogTrim
        | Point::EpochBump
        | Point::RecoverOpen
        | Point::RecoverSnapshot
        | Point::RecoverRecord
        | Point::RecoverTorn
        | Point::Cull
        | Point::Drain => 1,
    }
}

/// What ends the server before it comes to a point, if that is passed only as it starts again.
fn before(point: Point) -> Option<Fault> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are passed in a server's life")]
    match point {
        Point::EpochBump | Point::RecoverOpen | Point::RecoverRecord => {
            Some(Fault::death(Point::WalAfterSync, 2))
        }
        // The first may be of the bystander's log.
        Point::RecoverSnapshot => Some(Fault::death(Point::LogTrim, 1)),
        // Behind the head of a record, and before its content.
        Point::RecoverTorn => Some(Fault::death(Point::WalAppend, 3)),
        _ => None,
    }
}

/// Whether a point is passed only where logs begin anew.
fn is_of_snapshots(point: Point) -> bool {
    point == Point::LogTrim
        || point == Point::RecoverSnapshot
        || point.name().starts_with("snapshot_")
}

/// A run through faults.
struct Run {
    /// What ends the server, in this order.
    faults: Vec<Fault>,
    /// The connection is cut after so many bytes, so that another comes.
    cut: u64,
    /// What is done to the store before the server starts for the last time.
    tamper: fn(&Path),
}

/// Trains while the server ends by faults, one after the other: nothing that was promised is lost, nothing is done
/// twice, and the bits are those that an undisturbed run leaves.
async fn train_through(run: Run, undisturbed: Arc<Vec<u32>>) {
    let Run { faults, cut, tamper } = run;
    let last = faults.last().expect("a fault").point;
    let options = if faults.iter().any(|fault| is_of_snapshots(fault.point)) { SHORT } else { &[] };
    let store = tempfile::tempdir().expect("a folder");
    let mut server = Failing::start(store.path(), options, None).await;
    let proxy = Proxy::start(server.address().expect("it listens")).await.expect("a proxy");
    let session = Session::connect(proxy.url()).await.expect("a session");
    let bystander = newcomer(&server.url()).await.expect("a session");
    let kept = bystander.execute(1, vec![constant(1, &[7.0]), durable()]).await;
    assert_eq!(level(&kept.expect("an answer")), Some(proto::Level::Durable));
    server.arm(faults[0]).await;
    proxy.cut_after(cut);
    let promised = Arc::<AtomicU64>::default();
    let training = tokio::spawn(train(session.clone(), Arc::clone(&promised)));
    if last == Point::Drain {
        proxy.reaches(proxy.passed() + cut).await;
        server.stop();
    }
    if last == Point::Cull {
        let request =
            proto::DeleteSessionRequest { credentials: Some(bystander.credentials.clone()) };
        // Its answer may be lost with the server.
        let _ = bystander.sessions.clone().delete_session(request).await;
    }
    for (number, &fault) in faults.iter().enumerate() {
        if number > 0 {
            server = Failing::start(store.path(), options, Some(fault)).await;
            server.address().into_iter().for_each(|address| proxy.lead_to(address));
        }
        let ends = tokio::time::timeout(PATIENCE, server.ends_of(fault));
        ends.await.unwrap_or_else(|_| panic!("nothing comes to {fault:?}"));
    }
    tamper(store.path());
    let server = Failing::start(store.path(), options, None).await;
    // Before its client is back, and without it: what it was promised.
    let again = connection(channel_to(server.url()).await.expect("a server"), None);
    let bystander = bystander.moved_to(again);
    let Credentials { session_id, session_token } = session.credentials();
    let credentials = proto::SessionCredentials { session_id, session_token };
    let position = Raw { credentials, ..bystander.clone() }.position().await.expect("it is there");
    let promised = promised.load(Ordering::SeqCst);
    assert!(position.durable_sequence >= Some(promised), "{faults:?}: {promised} was promised");
    let reply = bystander.execute(3, vec![fetch(1)]).await.expect("another session is there");
    assert_eq!(elements(&reply.replies[0]), [7.0], "{faults:?}");
    proxy.lead_to(server.address().expect("it listens"));
    assert_eq!(training.await.expect("the run ends"), *undisturbed, "{faults:?}");
    session.close().await.expect("an orderly end");
}

/// The bits that an undisturbed run leaves, and how many bytes it takes.
async fn undisturbed() -> (Vec<u32>, u64) {
    let store = tempfile::tempdir().expect("a folder");
    let server = Failing::start(store.path(), &[], None).await;
    let proxy = Proxy::start(server.address().expect("it listens")).await.expect("a proxy");
    let session = Session::connect(proxy.url()).await.expect("a session");
    let before = proxy.passed();
    let left = train(session.clone(), Arc::default()).await;
    let length = proxy.passed() - before;
    session.close().await.expect("an orderly end");
    (left, length)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_at_any_point_loses_nothing_and_does_nothing_twice() {
    let (left, length) = undisturbed().await;
    let left = Arc::new(left);
    let times = std::env::var("GRADTAPE_DEATHS");
    let times = times.map_or(1, |times| times.parse().expect("a number"));
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut runs = Vec::new();
    let mut add = |faults, cut| runs.push(Run { faults, cut, tamper: |_| {} });
    for &point in &Point::ALL.repeat(times) {
        let death = Fault::death(point, random.usize(..passes(point)));
        let faults = before(point).into_iter().chain([death]).collect();
        add(faults, random.u64(length / 8..length / 2));
    }
    // A disk that fails ends the server, too.
    let broken = Fault { after: random.usize(..4), ..Fault::once(Point::WalBeforeSync, "fail") };
    add(vec![broken], length / 2);
    let runs = runs.into_iter().map(|run| train_through(run, Arc::clone(&left)));
    stream::iter(runs).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}

/// The test above can fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_loses_what_it_confirmed_is_found_out() {
    let (left, length) = undisturbed().await;
    let run = Run {
        faults: vec![Fault::death(Point::WalAfterSync, 6)],
        cut: length / 2,
        tamper: |store| {
            for file in fs::read_dir(store).expect("a folder").map(|file| file.expect("a file")) {
                if file.path().extension().is_some_and(|suffix| suffix == "log") {
                    let log = OpenOptions::new().write(true).open(file.path()).expect("a log");
                    // The bystander's is short, and stays.
                    let length = file.metadata().expect("a length").len();
                    log.set_len(length.min(1_500)).expect("a shorter log");
                }
            }
        },
    };
    let found = tokio::spawn(train_through(run, Arc::new(left))).await.expect_err("nobody notices");
    let why = found.into_panic().downcast::<String>().expect("a message");
    assert!(why.ends_with("was promised"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_cannot_come_back_yet_comes_back_later() {
    let (left, _) = undisturbed().await;
    let store = tempfile::tempdir().expect("a folder");
    let mut server = Failing::start(store.path(), &[], None).await;
    let proxy = Proxy::start(server.address().expect("it listens")).await.expect("a proxy");
    let session = Session::connect(proxy.url()).await.expect("a session");
    let death = Fault::death(Point::WalAfterSync, 3);
    server.arm(death).await;
    let training = tokio::spawn(train(session.clone(), Arc::default()));
    server.ends_of(death).await;
    let short = Fault { times: 2, ..Fault::once(Point::RecoverOpen, "fail") };
    let mut server = Failing::start(store.path(), &[], Some(short)).await;
    proxy.lead_to(server.address().expect("it listens"));
    server.hits(Point::RecoverOpen).await;
    assert_eq!(training.await.expect("the run ends"), left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_the_death_of_the_process_twice_costs_its_session_and_no_other() {
    let store = tempfile::tempdir().expect("a folder");
    let server = Failing::start(store.path(), &[], None).await;
    let [bad, good] = [newcomer(&server.url()).await, newcomer(&server.url()).await];
    let [mut bad, mut good] = [bad, good].map(|session| session.expect("a session"));
    for session in [&bad, &good] {
        session.execute(1, vec![constant(1, &[7.0]), durable()]).await.expect("an answer");
    }
    drop(server);
    let death = Fault::death(Point::RecoverRecord, 0);
    for _ in 0..2 {
        let mut server = Failing::start(store.path(), &[], Some(death)).await;
        bad = bad.moved_to(connection(channel_to(server.url()).await.expect("a server"), None));
        bad.position().await.expect_err("the server dies of it");
        server.ends_of(death).await;
    }
    let server = Failing::start(store.path(), &[], None).await;
    let again = connection(channel_to(server.url()).await.expect("a server"), None);
    (bad, good) = (bad.moved_to(again.clone()), good.moved_to(again));
    let status = bad.position().await.expect_err("it is left alone");
    assert_eq!((status.code(), &*reason(&status)), (Code::DataLoss, "SESSION_QUARANTINED"));
    let reply = good.execute(3, vec![fetch(1)]).await.expect("the other is served");
    assert_eq!(elements(&reply.replies[0]), [7.0]);
}

// === the list ===

/// The points that the plan of this project asks for.
const ASKED_FOR: &str = "accept handshake hello auth attach inbox_full ledger_reserve alloc \
    validate before_exec mid_exec_step after_exec before_swap after_swap wal_append \
    wal_before_sync wal_after_sync before_ack after_ack outbox_full snapshot_begin snapshot_part \
    snapshot_before_manifest snapshot_after_manifest log_trim rotate_segment recover_open \
    recover_record recover_snapshot epoch_bump cull drain cancel panic_in_kernel";

/// `docs/durability.md` says of each point where it is, and of each that is asked for and is not there, why.
#[test]
fn the_table_of_points_is_complete() {
    let text = fs::read_to_string(folder("../docs/durability.md")).expect("the table");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let (there, missing): (Vec<_>, Vec<_>) =
        rows.partition(|(_, rest)| !rest.starts_with(" | none: "));
    let names = |rows: &[(&str, &str)]| -> BTreeSet<String> {
        rows.iter().map(|(name, _)| (*name).to_owned()).collect()
    };
    let points: BTreeSet<String> = Point::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(names(&there), points);
    let asked_for: BTreeSet<String> = ASKED_FOR.split_whitespace().map(str::to_owned).collect();
    assert_eq!(names(&missing), asked_for.difference(&points).cloned().collect());
}

// === without manners ===

/// A session of a client with no manners, over a connection of its own.
pub(crate) async fn newcomer(url: &str) -> Result<Raw, Status> {
    let channel = channel_to(url.to_owned()).await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    Raw::over(connection(channel, None)).await
}

/// Waits for a level, without manners.
pub(crate) fn durable() -> proto::Command {
    let level = proto::Level::Durable.into();
    command(Kind::Sync(proto::Sync { level, timeout_ms: 60_000 }))
}

/// The level that the last command of an answer reached; `None` if it failed.
pub(crate) fn level(reply: &proto::BatchReply) -> Option<proto::Level> {
    match &reply.replies.last()?.result {
        Some(proto::reply::Result::Sync(sync)) => Some(sync.level()),
        _ => None,
    }
}
