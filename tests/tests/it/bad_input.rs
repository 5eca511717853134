//! Hostile and mistaken input: each gets its clear error, and the session and the server go on.

use gradtape_client::{
    Code, GradientOptions, Session, Tensor, TensorData,
    proto::{self, command::Kind, stream_request},
};
use gradtape_tests::{
    Server,
    raw::{Raw, Stream, channel, command, constant, elements, error, fetch, op, reason},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Status;

/// Asks for a value that cannot be, and then for one that can.
async fn refused(session: &Session, value: Tensor, code: Code, reason: &str) {
    let error = value.spec().await.expect_err("the input is bad");
    let failure = error.failure().unwrap_or_else(|| panic!("the session ended: {error}"));
    let failure = failure.cause.as_deref().unwrap_or(failure);
    assert_eq!((failure.code, &failure.reason[..]), (code, reason), "{failure}");
    let two = (session.constant(1.0f32) + 1.0).scalar::<f32>().await;
    assert_eq!(two.expect("the session goes on"), 2.0);
}

// === ops ===

#[tokio::test]
async fn wrong_shapes_dtypes_and_axes() {
    use Code::InvalidArgument;

    let server = Server::start().await;
    let session = &server.session().await;
    let two = session.constant([1.0f32, 2.0]);
    let three = session.constant([1.0f32, 2.0, 3.0]);
    let integers = session.constant([1i32, 2]);
    let square = session.constant([[1.0f32, 2.0], [3.0, 4.0]]);
    let axis = |axis: i64| session.op("reduce_sum", [&square], [("axis", [axis].into())]);
    refused(session, &two + &three, InvalidArgument, "SHAPE_MISMATCH").await;
    refused(
        session,
        square.matmul(session.constant([[1.0f32; 2]; 3])),
        InvalidArgument,
        "SHAPE_MISMATCH",
    )
    .await;
    refused(session, &two + &integers, InvalidArgument, "DTYPE_MISMATCH").await;
    refused(session, axis(2), InvalidArgument, "INVALID_AXIS").await;
    refused(session, axis(-3), InvalidArgument, "INVALID_AXIS").await;
    refused(session, axis(i64::MIN), InvalidArgument, "INVALID_AXIS").await;
    let twice = session.op("reduce_sum", [&square], [("axis", [0, -2].into())]);
    refused(session, twice, InvalidArgument, "DUPLICATE_AXIS").await;
    let unknown = session.op("exp", [&two], [("axes", [0].into())]);
    refused(session, unknown, InvalidArgument, "INVALID_ATTRIBUTE").await;
    refused(session, session.op("exp", [&two, &two], []), InvalidArgument, "INPUT_COUNT").await;
    refused(session, two.reshape([3]), InvalidArgument, "SHAPE_MISMATCH").await;
    refused(session, session.op("frobnicate", [&two], []), Code::Unimplemented, "UNKNOWN_OP").await;
}

#[tokio::test]
async fn shapes_that_overflow_and_broadcasts_that_explode() {
    let server = Server::start().await;
    let session = &server.session().await;
    let overflow = session.full([1 << 32, 1 << 32], 1.0);
    refused(session, overflow, Code::InvalidArgument, "SHAPE_OVERFLOW").await;
    let negative = session.full([-2], 1.0);
    refused(session, negative, Code::InvalidArgument, "INVALID_SHAPE").await;
    let deep = session.full([1; 9], 1.0);
    refused(session, deep, Code::InvalidArgument, "RANK_TOO_LARGE").await;
    let one = session.constant([[1.0f32]]);
    let bomb = one.broadcast_to([1 << 20, 1 << 20]);
    refused(session, bomb, Code::ResourceExhausted, "TENSOR_TOO_LARGE").await;
    let (row, column) = (session.full([1, 1 << 20], 1.0), session.full([1 << 20, 1], 1.0));
    refused(session, row + column, Code::ResourceExhausted, "TENSOR_TOO_LARGE").await;
}

#[tokio::test]
async fn data_that_does_not_fit_its_shape() {
    let server = Server::start().await;
    let session = &server.session().await;
    let short = session.constant(TensorData::new([3], &[1.0f32, 2.0]));
    refused(session, short, Code::InvalidArgument, "DATA_LENGTH").await;
    let spec = gradtape_client::Spec { dtype: gradtape_client::DType::Bool, shape: vec![2] };
    let untrue = TensorData::from_bytes(spec, bytes::Bytes::from_static(&[1, 2]));
    refused(session, session.constant(untrue), Code::InvalidArgument, "INVALID_BOOL").await;
}

// === tapes ===

#[tokio::test]
async fn a_second_gradient_on_a_one_shot_tape() {
    let server = Server::start().await;
    let session = &server.session().await;
    let x = session.constant(3.0f32);
    let tape = session.tape();
    tape.watch([&x]);
    let y = x.square();
    let first = tape.derivative(&y, &x);
    let second = tape.derivative(&y, &x);
    assert_eq!(second.kind().await.unwrap_err().reason(), Some("TAPE_CONSUMED"));
    assert_eq!(first.scalar::<f32>().await.unwrap(), 6.0);
}

#[tokio::test]
async fn seeds_of_wrong_number_and_shape_leave_the_tape_usable() {
    let server = Server::start().await;
    let session = &server.session().await;
    let x = session.constant([1.0f32, 2.0]);
    let tape = session.tape();
    tape.watch([&x]);
    let y = x.square();
    let seed = session.constant([1.0f32, 1.0, 1.0]);
    let good = session.constant([1.0f32, 10.0]);
    let with = |seeds: Vec<Option<&Tensor>>| {
        let options = GradientOptions { seeds, ..GradientOptions::default() };
        tape.gradient_with([&y], [&x], &options).remove(0)
    };
    let reason = async |gradient: gradtape_client::Gradient| {
        gradient.kind().await.unwrap_err().reason().map(str::to_owned)
    };
    assert_eq!(reason(with(vec![Some(&good), None])).await.as_deref(), Some("SEED_COUNT"));
    assert_eq!(reason(with(vec![Some(&seed)])).await.as_deref(), Some("SEED_MISMATCH"));
    assert_eq!(with(vec![Some(&good)]).value::<f32>().await.unwrap(), [2.0, 40.0]);
}

// === handles and commands: what the client would not send ===

#[tokio::test]
async fn unknown_duplicate_and_zero_handles() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let commands = vec![
        constant(1, &[1.0]),
        op("exp", &[99], 2),
        constant(1, &[2.0]),
        constant(0, &[1.0]),
        command(Kind::Release(proto::Release { handles: vec![1, 1, 77] })),
        fetch(1),
        constant(1, &[3.0]),
        fetch(1),
    ];
    let reply = raw.execute(1, commands).await.unwrap();
    let [unknown, duplicate, zero, released, value] = &reply.replies[..] else {
        panic!("{reply:?}")
    };
    assert_eq!(error(unknown).reason, "UNKNOWN_HANDLE");
    assert_eq!(error(duplicate).reason, "HANDLE_IN_USE");
    assert_eq!(error(duplicate).code, Code::AlreadyExists as i32);
    assert_eq!(error(zero).reason, "ZERO_HANDLE");
    assert_eq!(error(released).reason, "UNKNOWN_HANDLE");
    assert_eq!(elements(value), [3.0]);
}

#[tokio::test]
async fn an_empty_command_and_enums_from_the_future() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let source = proto::constant::Source::Tensor(proto::Tensor {
        dtype: 99,
        shape: vec![],
        data: bytes::Bytes::from_static(&[0; 4]),
    });
    let strange = Kind::Constant(proto::Constant { output: 1, source: Some(source) });
    let commands = vec![
        proto::Command::default(),
        command(strange),
        command(Kind::Constant(proto::Constant { output: 2, source: None })),
        constant(3, &[1.0]),
        fetch(3),
    ];
    let reply = raw.execute(1, commands).await.unwrap();
    assert_eq!(reply.applied_sequence, 5);
    let [empty, strange, hollow, value] = &reply.replies[..] else { panic!("{reply:?}") };
    for reply in [empty, strange, hollow] {
        let code = error(reply).code;
        assert!(
            [Code::InvalidArgument as i32, Code::Unimplemented as i32].contains(&code),
            "{reply:?}"
        );
    }
    assert_eq!(elements(value), [1.0]);
}

#[tokio::test]
async fn gaps_and_numbers_at_the_end_of_the_world() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    for first in [0, 2, u64::MAX] {
        let status = raw.execute(first, vec![constant(1, &[1.0])]).await.unwrap_err();
        assert!([Code::Aborted, Code::InvalidArgument].contains(&status.code()), "{status}");
    }
    alive(&raw, 1).await;
}

#[tokio::test]
async fn a_batch_of_too_many_commands() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let status = raw.execute(1, (1..=1_025).map(|h| constant(h, &[1.0])).collect()).await;
    let code = status.unwrap_err().code();
    assert!([Code::InvalidArgument, Code::ResourceExhausted].contains(&code), "{code:?}");
    alive(&raw, 1).await;
}

// === streams ===

#[tokio::test]
async fn a_stream_that_does_not_begin_with_a_hello() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let batch = proto::Batch { first_sequence: 1, ..proto::Batch::default() };
    let status = match raw.open(stream_request::Kind::Batch(batch)).await {
        Ok((_sender, mut responses)) => responses.message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!((status.code(), &reason(&status)[..]), (Code::FailedPrecondition, "HELLO_EXPECTED"));
    alive(&raw, 1).await;
}

#[tokio::test]
async fn a_second_hello() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let mut stream: Stream = raw.stream().await.unwrap();
    let hello = proto::Hello { credentials: Some(raw.credentials.clone()), notices: true };
    stream.send_kind(stream_request::Kind::Hello(hello));
    let status: Status = stream.failure().await;
    assert_eq!(reason(&status), "HELLO_REPEATED");
    alive(&raw, 1).await;
}

#[tokio::test]
async fn a_message_above_the_limit() {
    let server = Server::start().await;
    let raw = Raw::connect(&server).await;
    let huge = vec![0.0f32; 2 << 20];
    let status = raw.execute(1, vec![constant(1, &huge)]).await.unwrap_err();
    assert!([Code::OutOfRange, Code::ResourceExhausted].contains(&status.code()), "{status}");
    alive(&raw, 1).await;
}

// === the port ===

#[tokio::test]
async fn garbage_on_the_port() {
    let server = Server::start().await;
    let garbage: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        &[0; 4_096],
    ];
    for bytes in garbage {
        let mut socket = TcpStream::connect(server.address()).await.unwrap();
        // The server may hang up before it has heard everything.
        let _ = socket.write_all(bytes).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer).await;
    }
    alive(&Raw::connect(&server).await, 1).await;
}

#[tokio::test]
async fn a_method_that_is_not_there() {
    let server = Server::start().await;
    let mut grpc = tonic::client::Grpc::new(channel(&server).await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<proto::SyncReply, proto::SyncReply>::default();
    let path =
        tonic::codegen::http::uri::PathAndQuery::from_static("/gradtape.v1.TapeService/Frobnicate");
    let status = grpc.unary(tonic::Request::new(proto::SyncReply::default()), path, codec).await;
    assert_eq!(status.unwrap_err().code(), Code::Unimplemented);
}

/// The session still computes; `next` is its next number.
async fn alive(raw: &Raw, next: u64) {
    let commands = vec![constant(1, &[1.0]), op("add", &[1, 1], 2), fetch(2)];
    let reply = raw.execute(next, commands).await.expect("the session goes on");
    assert_eq!(elements(&reply.replies[0]), [2.0]);
}
