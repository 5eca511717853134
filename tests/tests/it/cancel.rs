//! A command stops when its client says so, when its call is over and when its stream breaks; only the first changes anything.
//!
//! The products here take minutes if nothing stops them, and every test has a fraction of that.

use std::time::Duration;

use gradtape_client::{
    Error,
    proto::{self, Command, attribute::Value, command::Kind},
};
use gradtape_tests::{
    Server,
    proxy::Proxy,
    raw::{self, Raw, command, elements, error, fetch, op},
};
use tonic::{Code, Request, Status};

use crate::oversight::scrape;

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_mins(1);

/// Products that are queued together. Each takes seconds.
const PRODUCTS: u64 = 200;

/// A matrix so large that its square takes seconds, as value 1.
fn matrix() -> Command {
    let shape = proto::IntegerList { values: vec![4096, 4096] };
    let shape = ("shape", Value::IntsValue(shape));
    with(op("full", &[], 1), [shape, ("value", Value::DoubleValue(1.0))])
}

/// The same op with attributes.
fn with<const N: usize>(mut command: Command, attributes: [(&str, Value); N]) -> Command {
    let Some(Kind::Op(op)) = &mut command.kind else { panic!("{command:?} is no op") };
    op.attributes = attributes
        .map(|(name, value)| proto::Attribute { name: name.into(), value: Some(value) })
        .into();
    command
}

/// The square of it, again and again, from value 10 on; each is forgotten at once.
fn products() -> Vec<Command> {
    let release = |handle| command(Kind::Release(proto::Release { handles: vec![handle] }));
    (10..10 + PRODUCTS)
        .flat_map(|handle| [op("matmul", &[1, 1], handle), release(handle)])
        .collect()
}

/// Waits until a product is being executed: its result is paid for.
async fn running(raw: &Raw) {
    let matrix = 4 * 4096 * 4096;
    while raw.position().await.expect("a position").memory_bytes < 2 * matrix {}
}

/// A session with the matrix, and a number as value 2. Its next sequence number is 3.
async fn prepared(server: &Server) -> Raw {
    let raw = Raw::connect(server).await;
    raw.execute(1, vec![matrix(), raw::constant(2, &[7.0])]).await.expect("values");
    raw
}

/// Within the time in which not even a few of the products can be done.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it was stopped")
}

// === the client's wish ===

#[tokio::test]
async fn a_command_that_runs_and_those_behind_it_are_cancelled() {
    let server = Server::start().await;
    let raw = prepared(&server).await;
    let mut stream = raw.stream().await.expect("a stream");
    let mut commands = products();
    commands.push(op("add", &[10, 2], 3));
    let last = 2 + commands.len() as u64;
    stream.send(3, commands.clone());
    running(&raw).await;
    cancel(&raw, last).await;
    let reply = soon(stream.receive()).await.expect("an answer").expect("an answer");
    assert_eq!(reply.applied_sequence, last);
    // The first product may be the one that ran; of each of them its client is told.
    assert_eq!(reply.replies.len() as u64, PRODUCTS + 1);
    for failed in &reply.replies {
        assert_eq!(
            error(failed).reason,
            if failed.sequence == last { "UNKNOWN_HANDLE" } else { "CANCELLED" }
        );
    }
    assert_eq!(error(&reply.replies[0]).code, i32::from(Code::Cancelled));
    // Sent again, they have failed; and what comes afterwards is not touched.
    let again = soon(stream.execute(3, commands)).await.expect("stored replies");
    assert_eq!(again.replies, reply.replies);
    let after = stream.execute(last + 1, vec![op("add", &[2, 2], 4), fetch(4)]).await;
    assert_eq!(elements(&after.expect("an answer").replies[0]), [14.0]);
}

#[tokio::test]
async fn what_a_cancelled_command_was_to_give_is_poisoned_and_nothing_is_changed() {
    let server = Server::start().await;
    let session = server.session().await;
    let w = session.variable("w", 3.0f32);
    let x = session.op("full", [], [("shape", [4096, 4096].into()), ("value", 1.0.into())]);
    let mut y = x.matmul(&x);
    for _ in 0..PRODUCTS {
        y = x.matmul(&y);
    }
    w.assign_add(y.reduce_mean());
    session.cancel().await.expect("the wish is noted");
    let end = soon(y.value::<f32>()).await.expect_err("it was cancelled");
    let Error::Command(failure) = end else { panic!("{end}") };
    let cause = failure.cause.as_ref().expect("what was cancelled");
    assert_eq!((&failure.reason[..], &cause.reason[..]), ("POISONED", "CANCELLED"));
    session.sync().await.expect("what was cancelled need not be told");
    assert_eq!((&w + 1.0).scalar::<f32>().await.expect("the session goes on"), 4.0);
    session.close().await.expect("nothing failed");
}

#[tokio::test]
async fn a_loop_that_the_server_runs_is_cancelled_within_a_step() {
    let server = Server::start().await;
    let session = server.session().await;
    let x = session.op("full", [], [("shape", [2048, 2048].into()), ("value", 1.0.into())]);
    let count = session.variable("count", 0.0f32);
    let step = session.function([], |_| {
        count.assign_add(session.constant(1.0f32));
        let mut y = x.matmul(&x);
        for _ in 0..20 {
            y = x.matmul(&y);
        }
        vec![y.reduce_mean() + &count]
    });
    // What the loop needs is not to be cancelled with it.
    session.sync().await.expect("it is there");
    let running = step.repeat(1 << 40).report_every(1 << 30).start();
    session.cancel().await.expect("the wish is noted");
    let Err(Error::Command(failure)) = soon(running.into_future()).await else {
        panic!("it was cancelled")
    };
    assert_eq!(failure.reason, "CANCELLED");
    // A step is done or not done.
    let steps = count.scalar::<f32>().await.expect("a number");
    assert_eq!(steps.fract(), 0.0);
}

async fn cancel(raw: &Raw, sequence: u64) {
    let credentials = Some(raw.credentials.clone());
    let request = proto::CancelCommandsRequest { credentials, sequence };
    raw.tapes.clone().cancel_commands(request).await.expect("the wish is noted");
}

// === calls that are over ===

#[tokio::test]
async fn the_deadline_of_a_call_stops_what_it_computes() {
    let server = Server::start().await;
    let raw = prepared(&server).await;
    let status = soon(call(&raw, Some(Duration::from_millis(300)))).await.expect_err("too long");
    // tonic's client watches the same deadline, and may be faster with its own answer.
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&status.code()), "{status}");
    goes_on(&raw).await;
}

#[tokio::test]
async fn a_caller_who_goes_away_stops_what_it_computes() {
    let server = Server::start().await;
    let raw = prepared(&server).await;
    tokio::select! {
        ended = call(&raw, None) => panic!("{ended:?}"),
        () = running(&raw) => {}
    }
    goes_on(&raw).await;
}

#[tokio::test]
async fn a_callers_connection_that_breaks_stops_what_it_computes() {
    let server = Server::start().await;
    let raw = prepared(&server).await;
    let proxy = Proxy::start(server.address()).await.expect("a proxy");
    let channel = tonic::transport::Channel::from_shared(proxy.url()).expect("a URL");
    let other = raw.moved_to(raw::connection(channel.connect().await.expect("a connection"), None));
    let cut = async {
        running(&raw).await;
        proxy.cut_after(1);
        other.position().await.expect_err("no connection");
    };
    let (ended, ()) = soon(async { tokio::join!(call(&other, None), cut) }).await;
    ended.expect_err("no connection");
    goes_on(&raw).await;
}

/// The products by a call.
async fn call(raw: &Raw, timeout: Option<Duration>) -> Result<(), Status> {
    let batch = proto::Batch::new(3, products());
    let credentials = Some(raw.credentials.clone());
    let mut request = Request::new(proto::ExecuteRequest { credentials, batch: Some(batch) });
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    raw.tapes.clone().execute(request).await.map(drop)
}

/// Some products may have been done, and their numbers are used up. Other commands take the numbers of the rest.
async fn goes_on(raw: &Raw) {
    let mut stream = soon(raw.stream()).await.expect("a stream");
    let next_sequence = stream.welcome.next_sequence;
    assert!(next_sequence < 2 * PRODUCTS, "{next_sequence}");
    let reply = soon(stream.execute(next_sequence, vec![fetch(2)])).await.expect("an answer");
    assert_eq!(elements(&reply.replies[0]), [7.0]);
}

// === streams that break ===

#[tokio::test]
async fn a_stream_that_breaks_gives_its_numbers_back() {
    let server = Server::start().await;
    let raw = prepared(&server).await;
    let stream = raw.stream().await.expect("a stream");
    stream.send(3, products());
    running(&raw).await;
    drop(stream);
    goes_on(&raw).await;
}

#[tokio::test]
async fn a_newer_stream_need_not_wait_for_what_an_older_one_computes() {
    let server = Server::start().await;
    let raw = prepared(&server).await;
    let mut older = raw.stream().await.expect("a stream");
    older.send(3, products());
    running(&raw).await;
    let newer = soon(raw.stream()).await.expect("a stream");
    assert!(newer.welcome.next_sequence < 2 * PRODUCTS);
    assert_eq!(raw::reason(&older.failure().await), "SUPERSEDED");
}

/// However often a stream breaks while its commands are computed, each is applied once, and the bits are the same.
#[tokio::test]
async fn streams_that_break_while_they_compute_end_with_the_same_bits() {
    let server = Server::start().await;
    let undisturbed = {
        let raw = started(&server).await;
        let reply = raw.execute(4, steps()).await.expect("an answer");
        elements(reply.replies.last().expect("a value"))
    };
    let mut random = fastrand::Rng::with_seed(7);
    let raw = started(&server).await;
    let end = 4 + steps().len() as u64;
    let mut next_sequence = 4;
    let mut broken = 0;
    while next_sequence < end {
        let stream = raw.stream().await.expect("a stream");
        assert!(stream.welcome.next_sequence >= next_sequence, "what was applied stays applied");
        next_sequence = stream.welcome.next_sequence;
        stream.send(4, steps());
        // A short while, measured in answers: to get on, and into the middle of something.
        for _ in 0..random.u64(0..12) {
            raw.position().await.expect("a position");
        }
        broken += 1;
    }
    assert!(broken > 10, "only {broken} streams were broken");
    let mut stream = raw.stream().await.expect("a stream");
    let reply = stream.execute(4, steps()).await.expect("an answer");
    assert_eq!(elements(reply.replies.last().expect("a value")), undisturbed);
}

/// A session with a number as value 2, and a variable 3 that is a vector.
async fn started(server: &Server) -> Raw {
    let raw = Raw::connect(server).await;
    let vector: Vec<f32> = (0_u16..512).map(|i| f32::from(i) / 512.0).collect();
    let variable = Kind::CreateVariable(proto::CreateVariable {
        variable: 3,
        name: "v".into(),
        initial_value: 1,
        trainable: None,
    });
    let commands = vec![raw::constant(1, &vector), raw::constant(2, &[7.0]), command(variable)];
    raw.execute(1, commands).await.expect("values");
    raw
}

/// Steps that change the variable, each by something that takes a while; at the end its value.
fn steps() -> Vec<Command> {
    let mut commands = Vec::new();
    for step in 0..60 {
        let first = 100 + 10 * step;
        let equation = ("equation", Value::StringValue("i,j->ij".into()));
        let axis = ("axis", Value::IntsValue(proto::IntegerList { values: vec![1] }));
        let assign = Kind::AssignVariable(proto::AssignVariable {
            variable: 3,
            value: first + 4,
            mode: proto::AssignMode::Replace.into(),
        });
        let release = proto::Release { handles: (first..first + 5).collect() };
        commands.extend([
            with(op("einsum", &[3, 3], first), [equation]),
            op("matmul", &[first, first], first + 1),
            op("sin", &[first + 1], first + 2),
            with(op("reduce_mean", &[first + 2], first + 3), [axis]),
            op("add", &[first + 3, 1], first + 4),
            command(assign),
            command(Kind::Release(release)),
        ]);
    }
    commands.push(fetch(3));
    commands
}

// === others meanwhile ===

/// Where a command could be stopped it is interrupted: others need not wait for its end, not even on one core.
#[tokio::test]
async fn a_command_that_takes_long_lets_others_compute() {
    const ROUNDS: u64 = 40;
    let server = Server::start_with(|config| {
        config.compute.threads = 1;
        config.access.metrics_address = Some(([127, 0, 0, 1], 0).into());
    });
    let server = server.await;
    let raw = prepared(&server).await;
    let stream = raw.stream().await.expect("a stream");
    stream.send(3, products());
    running(&raw).await;
    let other = Raw::connect(&server).await;
    let before = raw.position().await.expect("a position").next_sequence;
    for sequence in 1..=ROUNDS {
        let answer = other.execute(sequence, vec![raw::constant(sequence, &[1.0])]);
        soon(answer).await.expect("an answer");
    }
    let done = raw.position().await.expect("a position").next_sequence - before;
    // Each product is two commands. If they were waited for, there would be one for each answer.
    assert!(done < ROUNDS, "{done} commands were done for {ROUNDS} answers");
    let (_, numbers) = scrape(&server).await;
    assert!(numbers["gradtape_interruptions_total"] > 0.0, "{numbers:?}");
}
