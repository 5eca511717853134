//! Attacks on the transport, each beside a session that must not notice. Letters are the rows of docs/hazards.md.

use gradtape_client::proto::{Hello, stream_request};
use gradtape_tests::{
    Server,
    canary::Canary,
    frames::{END_HEADERS, END_STREAM, End, Frame, Frames, Seen, bytes, call},
    raw::{Raw, constant, fetch, op},
};

const STREAM: &str = "/gradtape.v1.TapeService/Stream";
const EXECUTE: &str = "/gradtape.v1.TapeService/Execute";
const LIST_OPS: &str = "/gradtape.v1.CatalogService/ListOps";

/// The error with which a peer that misbehaves is sent away.
const ENHANCE_YOUR_CALM: u32 = 11;

/// Odd numbers: the streams that a client opens.
fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

/// Sends frames until the connection ends or there are no more, and says how it ended.
async fn flood(server: &Server, frames: impl Iterator<Item = Vec<u8>>) -> Seen {
    let mut attack = Frames::connect(server.address(), &[]).await.expect("a connection");
    let frames: Vec<Vec<u8>> = frames.collect();
    for some in frames.chunks(64) {
        if attack.send_all(&some.concat()).await.is_err() {
            break;
        }
    }
    attack.finish().await
}

fn sent_away(seen: &Seen) -> bool {
    // A peer that goes on sending may see the connection reset before it reads why.
    matches!(&seen.end, End::GoAway { code: ENHANCE_YOUR_CALM, .. } | End::Closed)
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_rapid_reset() {
    let server = Server::start().await;
    let mut canary = Canary::start(&server).await;
    let block = call(STREAM, &[]);
    let frames = streams().take(20_000).map(|stream| {
        let open = bytes(Frame::Headers, END_HEADERS, stream, &block);
        [open, bytes(Frame::Reset, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    let seen = flood(&server, frames).await;
    assert!(sent_away(&seen), "{seen:?}");
    canary.sings().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_flood_of_errors_that_make_the_server_reset() {
    let server = Server::start().await;
    let mut canary = Canary::start(&server).await;
    // Promises five bytes and sends one: a protocol error of the stream, which the server must reset.
    let block = call(EXECUTE, &[("content-length", "5")]);
    let frames = streams().take(5_000).map(|stream| {
        let open = bytes(Frame::Headers, END_HEADERS, stream, &block);
        [open, bytes(Frame::Data, END_STREAM, stream, b"x")].concat()
    });
    let seen = flood(&server, frames).await;
    assert!(sent_away(&seen), "{seen:?}");
    assert!(seen.resets <= 1024 + 16, "{seen:?}");
    canary.sings().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_headers_that_never_end() {
    let server = Server::start().await;
    let mut canary = Canary::start(&server).await;
    let open = bytes(Frame::Headers, 0, 1, &call(EXECUTE, &[]));
    // A literal header of 200 bytes in each frame: 20 MB of headers if nobody stops it.
    let more = [&[0, 1, b'x', 127, 73][..], &[b'y'; 200]].concat();
    let more = bytes(Frame::Continuation, 0, 1, &more);
    let frames = std::iter::once(open).chain(std::iter::repeat_n(more, 100_000));
    let seen = flood(&server, frames).await;
    assert!(sent_away(&seen), "{seen:?}");
    canary.sings().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_empty_and_tiny_frames_of_data() {
    let server = Server::start().await;
    let mut canary = Canary::start(&server).await;
    for payload in [&b""[..], b"x"] {
        let open = bytes(Frame::Headers, END_HEADERS, 1, &call(STREAM, &[]));
        let data = bytes(Frame::Data, 0, 1, payload);
        // One byte each stays within the window of 64 KiB; empty ones have no window at all.
        let count = if payload.is_empty() { 1_000_000 } else { 60_000 };
        flood(&server, std::iter::once(open).chain(std::iter::repeat_n(data, count))).await;
        canary.sings().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_floods_of_frames_that_cost_the_sender_nothing() {
    let server = Server::start().await;
    let mut canary = Canary::start(&server).await;
    let priority = [&0_u32.to_be_bytes()[..], &[16]].concat();
    for frame in [
        bytes(Frame::Ping, 0, 0, &[0; 8]),
        bytes(Frame::Settings, 0, 0, &[]),
        bytes(Frame::Priority, 0, 1, &priority),
        bytes(Frame::WindowUpdate, 0, 0, &1_u32.to_be_bytes()),
    ] {
        flood(&server, std::iter::repeat_n(frame, 100_000)).await;
        canary.sings().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d6_a_window_that_never_opens() {
    let server = Server::start().await;
    let mut canary = Canary::start(&server).await;
    // 4 is `INITIAL_WINDOW_SIZE`: the answers may not be sent.
    let mut attack = Frames::connect(server.address(), &[(4, 0)]).await.expect("a connection");
    for stream in streams().take(16) {
        let open = bytes(Frame::Headers, END_HEADERS, stream, &call(LIST_OPS, &[]));
        let empty = bytes(Frame::Data, END_STREAM, stream, &[0; 5]);
        attack.send_all(&[open, empty].concat()).await.expect("an open connection");
    }
    canary.sings().await;
    attack.finish().await;
    canary.sings().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d7_headers_beyond_the_limit() {
    let server = Server::start().await;
    let mut canary = Canary::start(&server).await;
    let long = "y".repeat(1_000);
    let mut attack = Frames::connect(server.address(), &[]).await.expect("a connection");
    let block = call(EXECUTE, &[("x", long.as_str()); 17]);
    let (first, rest) = block.split_at(16_000);
    attack.send(Frame::Headers, END_STREAM, 1, first).await.expect("an open connection");
    attack.send(Frame::Continuation, END_HEADERS, 1, rest).await.expect("an open connection");
    // The answer is 431, a reset, or the end of the connection, and no call.
    let seen = attack.finish().await;
    assert!(seen.headers <= 1, "{seen:?}");
    canary.sings().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d11_a_thousand_streams_on_one_connection() {
    let server = Server::start().await;
    let mut canary = Canary::start(&server).await;
    let block = call(STREAM, &[]);
    let frames = streams().take(1_000);
    let frames = frames.map(|stream| bytes(Frame::Headers, END_HEADERS, stream, &block));
    let seen = flood(&server, frames).await;
    // Sixteen are served; the others are refused one by one, or the connection is.
    assert!(seen.resets >= 900 || sent_away(&seen), "{seen:?}");
    canary.sings().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c18_lengths_that_promise_more_than_comes() {
    let server = Server::start().await;
    let mut canary = Canary::start(&server).await;
    let mut attack = Frames::connect(server.address(), &[]).await.expect("a connection");
    for stream in streams().take(16) {
        let open = bytes(Frame::Headers, END_HEADERS, stream, &call(EXECUTE, &[]));
        // gRPC's prefix: not compressed, four MiB, and then one byte of them.
        let promise = [&[0][..], &(4_u32 << 20).to_be_bytes(), b"x"].concat();
        let data = bytes(Frame::Data, 0, stream, &promise);
        attack.send_all(&[open, data].concat()).await.expect("an open connection");
    }
    canary.sings().await;
    attack.finish().await;
    canary.sings().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c19_compressed_messages_are_refused_unopened() {
    let server = Server::start().await;
    let mut canary = Canary::start(&server).await;
    for encoding in ["gzip", "zstd", "nonsense"] {
        let open = call(EXECUTE, &[("grpc-encoding", encoding)]);
        let open = bytes(Frame::Headers, END_HEADERS, 1, &open);
        // Says that it is compressed; what would inflate is never looked at.
        let bomb = [&[1][..], &1_000_u32.to_be_bytes(), &[0x78; 1_000]].concat();
        let data = bytes(Frame::Data, END_STREAM, 1, &bomb);
        let mut attack = Frames::connect(server.address(), &[]).await.expect("a connection");
        attack.send_all(&[open, data].concat()).await.expect("an open connection");
        attack.answered(1).await;
    }
    canary.sings().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_a_client_that_never_reads() {
    let server = Server::start().await;
    let mut canary = Canary::start(&server).await;
    let raw = Raw::connect(&server).await;
    let hello = Hello { credentials: Some(raw.credentials.clone()), notices: true };
    let (requests, _unread) = raw.open(stream_request::Kind::Hello(hello)).await.expect("a stream");
    // Each batch is answered by 40 KB, and nobody reads: 40 MB if the server went on.
    let numbers = vec![1.0; 10_000];
    let first = vec![constant(1, &numbers), op("negative", &[1], 2)];
    let batches = (0..1_000).map(|i| (3 + i, vec![fetch(2)]));
    for (first_sequence, commands) in std::iter::once((1, first)).chain(batches) {
        let batch = gradtape_client::proto::Batch::new(first_sequence, commands);
        let kind = Some(stream_request::Kind::Batch(batch));
        // The stream may have ended for its overrun; then there is nothing more to do.
        if requests.send(gradtape_client::proto::StreamRequest { kind }).is_err() {
            break;
        }
    }
    canary.sings().await;
    let standing = raw.position().await.expect("the session is there");
    assert!(standing.memory_bytes < 8 << 20, "{standing:?}");
    canary.sings().await;
}
