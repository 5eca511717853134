//! What goes wrong at a failpoint while the server lives, and what must come of it: the real program, over real sockets.
//!
//! As in `failpoints.rs`, the test goes through the list of points, and each must be hit.

use gradtape_client::{
    Credentials, Level, Session,
    proto::{self, attribute::Value, command::Kind},
};
use gradtape_server::failpoints::Point;
use gradtape_tests::{
    canary,
    failing::{Failing, Fault},
    raw::{Raw, constant, elements, error, fetch, op, reason},
};
use tonic::Code;

use crate::failpoints::{PATIENCE, SHORT, durable, level, newcomer};

/// What a client sees of it.
enum Outcome {
    /// Nothing, but that it may have to come twice.
    Nothing,
    /// A call or stream ends so; the session stays, and what it asked for can be asked again.
    Refused(Code, &'static str),
    /// A command fails so, in band.
    Failed(&'static str),
    /// Its session ends.
    Broken,
    /// A level is not reached at first.
    Full,
}

/// What must come of it if something goes wrong at a point while the process lives; `None` where it can only die.
fn outcome(point: Point) -> Option<(&'static str, Outcome)> {
    match point {
        Point::Accept
        | Point::Handshake
        | Point::OutboxFull
        | Point::Cancel
        | Point::SnapshotPart => Some(("fail", Outcome::Nothing)),
        Point::Auth => Some(("fail", Outcome::Refused(Code::Unauthenticated, "UNAUTHENTICATED"))),
        Point::Hello => Some(("fail", Outcome::Refused(Code::DeadlineExceeded, "HELLO_TIMEOUT"))),
        Point::InboxFull => {
            Some(("fail", Outcome::Refused(Code::ResourceExhausted, "CREDIT_EXCEEDED")))
        }
        Point::LedgerReserve => Some(("fail", Outcome::Failed("MEMORY_LIMIT"))),
        Point::Alloc => Some(("fail", Outcome::Failed("OUT_OF_MEMORY"))),
        Point::Validate
        | Point::BeforeExec
        | Point::MidExecStep
        | Point::PanicInKernel
        | Point::AfterExec => Some(("panic", Outcome::Broken)),
        Point::WalAppend => Some(("fail", Outcome::Full)),
        // A disk that fails ends the server, and a log that cannot be opened yet makes a client wait: see `failpoints.rs`.
        Point::WalBeforeSync
        | Point::RecoverOpen
        | Point::Attach
        | Point::BeforeAck
        | Point::AfterAck
        | Point::WalAfterSync
        | Point::SnapshotBegin
        | Point::SnapshotBeforeManifest
        | Point::SnapshotAfterManifest
        | Point::LogTrim
        | Point::EpochBump
        | Point::RecoverSnapshot
        | Point::RecoverRecord
        | Point::RecoverTorn
        | Point::Cull
        | Point::Drain => None,
    }
}

/// The square of a matrix that is large enough to be interrupted, and the sum of that, as values from `first` on.
fn square(first: u64) -> Vec<proto::Command> {
    let shape = proto::IntegerList { values: vec![256, 256] };
    let attributes = [("shape", Value::IntsValue(shape)), ("value", Value::DoubleValue(0.5))];
    let attribute =
        |(name, value): (&str, _)| proto::Attribute { name: name.to_owned(), value: Some(value) };
    let mut full = op("full", &[], first);
    let Some(Kind::Op(filled)) = &mut full.kind else { panic!("an op") };
    filled.attributes = attributes.map(attribute).into();
    let [matmul, sum] =
        [op("matmul", &[first, first], first + 1), op("reduce_sum", &[first + 1], first + 2)];
    vec![full, matmul, sum, fetch(first + 2)]
}

/// The sum: 256 products of halves in each of 256 x 256 cells.
const SUM: f32 = 4_194_304.0;

/// Lets something go wrong for a newcomer, looks at what comes of it, and ends its session.
async fn go_wrong(server: &mut Failing, point: Point, what: &'static str, outcome: Outcome) {
    let url = server.url();
    let victim = newcomer(&url).await.expect("a session");
    let mut stream = victim.stream().await.expect("a stream");
    let begun = stream.execute(1, vec![constant(1, &[2.0, 3.0]), durable()]).await;
    assert_eq!(level(&begun.expect("an answer")), Some(proto::Level::Durable));
    let held = victim.position().await.expect("a position").memory_bytes;
    server.arm(Fault::once(point, what)).await;
    let next = match outcome {
        Outcome::Nothing => {
            // One that comes in vain comes again.
            while newcomer(&url).await.is_err() {}
            stream.send(3, square(10));
            let request = proto::CancelCommandsRequest {
                credentials: Some(victim.credentials.clone()),
                sequence: if point == Point::Cancel { 6 } else { 0 },
            };
            victim.tapes.clone().cancel_commands(request).await.expect("an answer");
            let reply = stream.receive().await.expect("an answer").expect("an answer");
            assert_eq!(elements(&reply.replies[0]), [SUM], "{point}");
            7
        }
        Outcome::Refused(code, why) => {
            let refused = match victim.stream().await {
                Err(status) => status,
                Ok(mut stream) => stream.execute(3, square(10)).await.expect_err("it is refused"),
            };
            assert_eq!((refused.code(), &*reason(&refused)), (code, why), "{point}");
            stream = victim.stream().await.expect("it may come again");
            assert_eq!(stream.welcome.next_sequence, 3, "{point}");
            3
        }
        Outcome::Failed(why) => {
            let reply = stream.execute(3, square(10)).await.expect("an answer");
            let reasons: Vec<_> = reply.replies.iter().map(|reply| &*error(reply).reason).collect();
            assert_eq!(reasons, [why, "POISONED", "POISONED", "POISONED"], "{point}");
            let now = victim.position().await.expect("a position").memory_bytes;
            assert_eq!(now, held, "{point}: nothing was taken");
            7
        }
        Outcome::Broken => {
            let panics = server.metric("gradtape_panics_total").await;
            let status = stream.execute(3, square(10)).await.expect_err("its session ends");
            let said = (status.code(), &*reason(&status));
            assert_eq!(said, (Code::Internal, "SESSION_BROKEN"), "{point}");
            assert_eq!(server.metric("gradtape_panics_total").await, panics + 1.0, "{point}");
            victim.stream().await.expect_err("it has ended");
            return server.hits(point).await;
        }
        Outcome::Full => {
            let reply = stream.execute(3, vec![durable()]).await.expect("an answer");
            assert_eq!(error(&reply.replies[0]).reason, "STORE_FULL", "{point}");
            4
        }
    };
    // It goes on, with enough for its log to begin anew, and gets to be durable, sooner or later.
    let large = constant(30, &[1.0; 1_000]);
    let more = square(20).into_iter().chain([large]).collect();
    let reply = stream.execute(next, more).await.expect("an answer");
    assert_eq!(elements(&reply.replies[0]), [SUM], "{point}");
    let mut next = next + 5;
    while level(&stream.execute(next, vec![durable()]).await.expect("an answer"))
        != Some(proto::Level::Durable)
    {
        next += 1;
    }
    // A log that is long begins anew before the next command.
    stream.execute(next + 1, vec![durable()]).await.expect("an answer");
    server.hits(point).await;
    let request = proto::DeleteSessionRequest { credentials: Some(victim.credentials.clone()) };
    victim.sessions.clone().delete_session(request).await.expect("it was there");
}

/// One server, and one session beside all of it, whose bits must not change.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_at_a_point_has_its_outcome_and_costs_nobody_else_anything() {
    let store = tempfile::tempdir().expect("a folder");
    let mut server = Failing::start(store.path(), SHORT, None).await;
    let session = Session::connect(server.url()).await.expect("a session");
    let expected = canary::train(&session).await;
    let kept = session.variable("kept", [1.0f32, 2.0, 3.0]);
    let sessions = newcomer(&server.url()).await.expect("a session");
    let Credentials { session_id, session_token } = session.credentials();
    let credentials = proto::SessionCredentials { session_id, session_token };
    let canary = Raw { credentials, ..sessions };
    for &point in Point::ALL {
        let Some((what, outcome)) = outcome(point) else { continue };
        // It is silent while something goes wrong, so that it is not what goes wrong.
        session.sync_to(Level::Durable, PATIENCE).await.expect("a level");
        go_wrong(&mut server, point, what, outcome).await;
        assert_eq!(canary::train(&session).await, expected, "{point}");
        assert_eq!(kept.value::<f32>().await.expect("it is there"), [1.0, 2.0, 3.0], "{point}");
        session.sync().await.expect("nothing failed");
        // What the other session held is given back, to the byte.
        let held = canary.position().await.expect("a position").memory_bytes;
        let held = f64::from(u32::try_from(held).expect("a small session"));
        while server.metric("gradtape_memory_used_bytes").await != held {}
    }
}
