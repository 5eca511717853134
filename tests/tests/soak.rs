//! Many sessions that come and go for as long as one likes: afterwards the server holds nothing, and has little more memory than
//! after the first of them.
//!
//! `GRADTAPE_SOAK_SECONDS` says how long; `cargo xtask soak --minutes 10` sets it.

#![allow(clippy::print_stdout, reason = "its figures are what it is for")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use gradtape_client::Session;
use gradtape_tests::{canary::train, process::Process, proxy::Proxy};

/// Clients at a time.
const CLIENTS: usize = 64;

/// How long it takes if nothing is said: a few rounds.
const DEFAULT: Duration = Duration::from_secs(2);

/// How long the server may take to notice that all sessions are over.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the server may have in memory beyond what it had after the first rounds. Its allocator keeps pages that were freed,
/// and how many depends on how many of a round's sixteen large tensors and their results were there at the same time.
const SLACK_BYTES: u64 = 128 << 20;

/// Rounds until each client has done everything that there is, and all threads, buffers and tables of the server are there.
const FIRST: usize = 4;

/// Elements of a tensor that is too large for a command.
const LARGE: usize = 600_000;

/// Options of the server: a large tensor of each client has room.
const OPTIONS: &[&str] = &["--metrics-address", "127.0.0.1:0", "--max-sessions", "1024"];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_sessions_that_come_and_go() {
    let seconds = std::env::var("GRADTAPE_SOAK_SECONDS").ok();
    let time = seconds.map_or(DEFAULT, |text| {
        Duration::from_secs(text.parse().expect("GRADTAPE_SOAK_SECONDS is a number"))
    });
    let server = Process::start(OPTIONS);
    let began = Instant::now();
    let session =
        Session::connect(format!("http://{}", server.address())).await.expect("a session");
    let trained = train(&session).await;
    session.close().await.expect("an end");
    for number in 0..FIRST {
        round(&server, number, trained).await;
    }
    is_at_rest(&server).await;
    let warm = server.resident_bytes();
    let mut rounds = FIRST;
    while rounds < 2 * FIRST || began.elapsed() < time {
        round(&server, rounds, trained).await;
        rounds += 1;
    }
    let numbers = is_at_rest(&server).await;
    let end = server.resident_bytes();
    let created = numbers["gradtape_sessions_created_total"];
    let commands = numbers["gradtape_commands_total"];
    println!(
        "soak: {:.0} s, {created} sessions of {CLIENTS} clients, {commands} commands; resident memory {} MiB after the first \
         rounds, {} MiB at the end",
        began.elapsed().as_secs_f64(),
        warm >> 20,
        end >> 20
    );
    assert!(end <= warm + SLACK_BYTES, "{end} bytes are in memory, and {warm} were");
}

/// Each client has a session of its own, and each does something else from round to round. All who train come to the same bits.
async fn round(server: &Process, round: usize, trained: [u32; 2]) {
    let clients = (0..CLIENTS).map(|client| {
        let (address, kind) = (server.address(), (client + round) % 4);
        tokio::spawn(async move {
            let proxy = Proxy::start(address).await.expect("a proxy");
            let session = Session::connect(proxy.url()).await.expect("a session");
            match kind {
                0 => assert_eq!(train(&session).await, trained),
                1 => {
                    // In mid-training, and somewhere else for each client.
                    let bytes = u64::try_from(500 * (1 + client)).expect("a small number");
                    proxy.cut_after(proxy.passed() + bytes);
                    assert_eq!(train(&session).await, trained);
                }
                2 => there_and_back(&session).await,
                _ => stop(&session).await,
            }
            session.close().await.expect("an end");
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a client that got what it should");
    }
}

/// A large tensor, there and back.
async fn there_and_back(session: &Session) {
    let numbers: Vec<f32> = (0_u16..1000).map(f32::from).cycle().take(LARGE).collect();
    let tensor = session.constant(numbers.clone());
    let twice = &tensor + &tensor;
    let back = twice.value::<f32>().await.expect("a download");
    assert!(
        back.iter().zip(&numbers).all(|(twice, once)| twice.to_bits() == (2.0 * once).to_bits())
    );
}

/// More work than anybody waits for, and a change of mind.
async fn stop(session: &Session) {
    let ones = session.constant(vec![1.0_f32; 512]);
    let expand = |axis: i64| session.op("expand_dims", [&ones], [("axis", axis.into())]);
    let mut product = &expand(0) * &expand(1);
    for _ in 0..100 {
        product = session.op("matmul", [&product, &product], []);
    }
    session.cancel().await.expect("an answer");
    // The session goes on, whatever was stopped.
    let two = session.constant(2.0_f32);
    assert_eq!((&two + &two).scalar::<f32>().await.expect("a sum").to_bits(), 4.0_f32.to_bits());
}

/// Waits until the server holds no session and no byte. Gives its metrics.
async fn is_at_rest(server: &Process) -> BTreeMap<String, f64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let numbers = server.metrics().await;
        let held = ["gradtape_sessions", "gradtape_memory_used_bytes"].map(|name| numbers[name]);
        if held == [0.0, 0.0] {
            return numbers;
        }
        assert!(Instant::now() < deadline, "{held:?} sessions and bytes are not given back");
        tokio::task::yield_now().await;
    }
}
