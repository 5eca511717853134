//! Sessions that survive the loss of the machine: the real program is killed and its disk is gone, or it loses a session to
//! another server without knowing.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use gradtape_client::proto::{self, command::Kind};
use gradtape_client::{Code, DType, Level, Optimizer, Session, Spec};
use gradtape_server::{config::Config, server::Server as Inner};
use gradtape_tests::{
    Server,
    process::Process,
    proxy::Proxy,
    raw::{self, Raw, command, constant, elements, fetch, reason},
};

/// Steps of the run, and how often the machine is lost in it.
const STEPS: usize = 40;
const LOSSES: usize = 4;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A machine, which has a disk of its own and reaches the portable store.
struct Machine {
    server: Process,
    disk: tempfile::TempDir,
}

impl Machine {
    fn start(portable: &Path) -> Self {
        let disk = tempfile::tempdir().expect("a folder");
        let store = disk.path().to_str().expect("a path in UTF-8");
        let portable = format!("file://{}", portable.display());
        let options = ["--session-store", store, "--portable-store", &portable, "--log", "warn"];
        Self { server: Process::start(&options), disk }
    }

    /// Nothing of it is left.
    fn lose(self) {
        self.server.kill();
        self.disk.close().expect("the disk goes");
    }
}

/// A training run that copies its session now and then; what is done after each copy is the caller's. The bits of all that is
/// left.
async fn train(session: &Session, mut copied: impl FnMut()) -> Vec<u32> {
    let generator = session.generator(3);
    let x = generator.normal([16, 4]);
    let y = generator.normal([16, 2]);
    let w = session.variable("w", [[0.1f32, -0.2], [0.3, 0.4], [-0.5, 0.6], [0.7, -0.8]]);
    let b = session.variable("b", [0.0f32, 0.0]);
    let optimizer = Optimizer::adam(session).learning_rate(0.05).create();
    let square =
        session.function([Spec { dtype: DType::F32, shape: vec![16, 2] }], |p| vec![p[0].square()]);
    for step in 0..STEPS {
        // The tape is open while the session is copied, so that its state could not be written, but its log can.
        let tape = session.tape();
        let error = x.matmul(&w) + &b - &y;
        if step % (STEPS / LOSSES) == 5 {
            let reached = session.sync_to(Level::Portable, PATIENCE).await.expect("a level");
            assert_eq!(reached.level, Level::Portable);
            assert!(reached.portable_sequence > 0);
            copied();
        }
        let loss = square.call([&error]).remove(0).reduce_mean();
        let gradients = tape.gradient([&loss], [&w, &b]);
        optimizer.apply(gradients.iter().zip([&w, &b]));
    }
    session.sync().await.expect("nothing failed");
    let mut left = w.value::<f32>().await.expect("weights");
    left.extend(b.value::<f32>().await.expect("a bias"));
    left.extend(generator.normal([4]).value::<f32>().await.expect("random numbers"));
    left.into_iter().map(f32::to_bits).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_machine_is_lost_again_and_again_ends_with_the_same_bits() {
    let portable = tempfile::tempdir().expect("a folder");
    let mut machine = Some(Machine::start(portable.path()));
    let address = |machine: &Option<Machine>| machine.as_ref().expect("one").server.address();
    let proxy = Proxy::start(address(&machine)).await.expect("a proxy");
    let session = Session::connect(proxy.url()).await.expect("a session");
    let undisturbed = train(&session, || {}).await;
    session.close().await.expect("an orderly end");

    let session = Session::connect(proxy.url()).await.expect("a session");
    let mut losses = 0;
    let left = train(&session, || {
        machine.take().expect("one").lose();
        machine = Some(Machine::start(portable.path()));
        proxy.lead_to(address(&machine));
        losses += 1;
    });
    assert_eq!(left.await, undisturbed);
    assert_eq!(losses, LOSSES);
    session.close().await.expect("an orderly end");
    // Copies go with their session, beside everything else.
    while files(portable.path()) > 0 {
        tokio::task::yield_now().await;
    }
}

/// Files in a folder and those within it.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let count = |path: PathBuf| if path.is_dir() { files(&path) } else { 1 };
    entries.map(|entry| count(entry.path())).sum()
}

async fn start(disk: &Path, portable: &Path) -> Server {
    let (disk, portable) = (disk.to_owned(), portable.to_str().expect("a path").to_owned());
    Server::start_with(|config| {
        config.durability.store = Some(disk);
        config.durability.portable = Some(portable);
    })
    .await
}

fn portable() -> proto::Command {
    command(Kind::Sync(proto::Sync { level: proto::Level::Portable.into(), timeout_ms: 0 }))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_an_older_owner_ends_when_it_finds_out() {
    let folders = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let [disk, other_disk, store] = folders.each_ref().map(tempfile::TempDir::path);
    let (older, newer) = (start(disk, store).await, start(other_disk, store).await);
    let raw = Raw::connect(&older).await;
    let mut stream = raw.stream().await.expect("a stream");
    assert_eq!(stream.welcome.rewound_to, None);
    stream.send(1, vec![constant(1, &[1.0]), portable()]);
    stream.receive().await.expect("a reply").expect("a reply");
    // Durable here, but not where the session goes.
    let left = stream.execute(3, vec![constant(2, &[2.0])]).await;
    assert!(left.is_ok());

    let moved = raw.moved_to(raw::connection(raw::channel(&newer).await, None));
    let mut taken = moved.stream().await.expect("it comes over");
    let proto::Welcome { next_sequence, rewound_to, .. } = taken.welcome;
    assert_eq!((next_sequence, rewound_to), (3, Some(2)));
    let reply = taken.execute(3, vec![fetch(1)]).await.expect("a reply");
    assert_eq!(elements(&reply.replies[0]), [1.0]);

    stream.send(4, vec![portable()]);
    let status = stream.failure().await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "SESSION_FENCED"));
    taken.execute(4, vec![portable()]).await.expect("the newer one goes on");
    older.stopped().await;
    newer.stopped().await;
}

#[tokio::test]
async fn a_server_that_has_no_logs_to_copy_does_not_start() {
    let store = tempfile::tempdir().expect("a folder");
    let mut config = Config::default();
    config.listen.address = ([127, 0, 0, 1], 0).into();
    config.durability.portable = Some(store.path().to_str().expect("a path").to_owned());
    let refused = Inner::bind(config).await.expect_err("there is no session store");
    assert!(refused.to_string().contains("--session-store"), "{refused}");
}
