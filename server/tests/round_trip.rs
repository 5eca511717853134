//! The server over a real socket: the shortest possible conversation of each kind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::future::Future;

use futures::{StreamExt, stream};
use gradtape_proto::v1::{
    self, catalog_service_client::CatalogServiceClient, command::Kind,
    session_service_client::SessionServiceClient, stream_request, stream_response,
    tape_service_client::TapeServiceClient,
};
use gradtape_server::{config::Config, server::Server};
use tokio::sync::oneshot;
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;

/// Runs a conversation with a server of its own, and stops it.
async fn with_server<F: Future>(conversation: impl FnOnce(Channel) -> F) -> F::Output {
    let mut config = Config::default();
    config.listen.address.set_port(0);
    let server = Server::bind(config).await.unwrap();
    let address = server.local_addr();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let output = conversation(endpoint.connect().await.unwrap()).await;
    drop(stop);
    running.await.unwrap().unwrap();
    output
}

async fn credentials(channel: &Channel) -> Option<v1::SessionCredentials> {
    let mut sessions = SessionServiceClient::new(channel.clone());
    let created = sessions.create_session(v1::CreateSessionRequest::default()).await.unwrap();
    created.into_inner().credentials
}

fn sync(first_sequence: u64) -> v1::Batch {
    let command = v1::Command { kind: Some(Kind::Sync(v1::Sync::default())), ..Default::default() };
    v1::Batch::new(first_sequence, vec![command])
}

fn request(kind: stream_request::Kind) -> v1::StreamRequest {
    v1::StreamRequest { kind: Some(kind) }
}

#[tokio::test]
async fn a_call_executes_a_batch() {
    with_server(|channel| async move {
        let credentials = credentials(&channel).await;
        let mut tapes = TapeServiceClient::new(channel);
        let request = v1::ExecuteRequest { credentials, batch: Some(sync(1)) };
        let reply = tapes.execute(request.clone()).await.unwrap().into_inner().batch.unwrap();
        assert_eq!((reply.applied_sequence, reply.replies.len()), (1, 1));
        let again = tapes.execute(request.clone()).await.unwrap().into_inner().batch.unwrap();
        assert_eq!(again.replies, reply.replies);

        let gap = v1::ExecuteRequest { batch: Some(sync(9)), ..request };
        let status = tapes.execute(gap).await.unwrap_err();
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(status.get_details_error_info().unwrap().reason, "SEQUENCE_GAP");
    })
    .await;
}

#[tokio::test]
async fn a_stream_says_hello_and_executes_batches() {
    with_server(|channel| async move {
        let credentials = credentials(&channel).await;
        let mut tapes = TapeServiceClient::new(channel);
        let hello = request(stream_request::Kind::Hello(v1::Hello { credentials, notices: true }));
        let batches = (1..=3).map(|i| request(stream_request::Kind::Batch(sync(i))));
        let requests = stream::iter(std::iter::once(hello).chain(batches));
        let mut responses = tapes.stream(requests).await.unwrap().into_inner();
        let mut applied = Vec::new();
        while let Some(response) = responses.message().await.unwrap() {
            match response.kind.unwrap() {
                stream_response::Kind::Welcome(welcome) => {
                    assert_eq!((welcome.next_sequence, welcome.handle_base), (1, 1 << 32));
                }
                stream_response::Kind::Batch(reply) => applied.push(reply.applied_sequence),
                other @ (stream_response::Kind::Progress(_) | stream_response::Kind::Notice(_)) => {
                    panic!("nothing else happens: {other:?}")
                }
            }
        }
        assert_eq!(applied, [1, 2, 3]);
    })
    .await;
}

#[tokio::test]
async fn a_stream_without_hello_and_an_empty_message_are_refused() {
    with_server(|channel| async move {
        let mut tapes = TapeServiceClient::new(channel);
        let cases = [
            (request(stream_request::Kind::Batch(sync(1))), Code::FailedPrecondition),
            (v1::StreamRequest { kind: None }, Code::InvalidArgument),
        ];
        for (first, code) in cases {
            let mut responses = tapes.stream(stream::iter([first])).await.unwrap().into_inner();
            assert_eq!(responses.message().await.unwrap_err().code(), code);
        }
    })
    .await;
}

#[tokio::test]
async fn a_tensor_goes_up_and_down_in_chunks() {
    with_server(|channel| async move {
        let credentials = credentials(&channel).await;
        let mut tapes = TapeServiceClient::new(channel).max_decoding_message_size(4 << 20);
        let spec = v1::TensorSpec { dtype: v1::DataType::Float32.into(), shape: vec![1 << 20] };
        let data: Vec<u8> = (0..1_u32 << 20).flat_map(u32::to_le_bytes).collect();
        let header = v1::UploadHeader {
            credentials: credentials.clone(),
            upload: 5,
            spec: Some(spec.clone()),
        };
        let chunk = |bytes: &[u8]| v1::upload_tensor_request::Kind::Chunk(bytes.to_vec().into());
        let parts = std::iter::once(v1::upload_tensor_request::Kind::Header(header))
            .chain(data.chunks(1 << 20).map(chunk))
            .map(|kind| v1::UploadTensorRequest { kind: Some(kind) })
            .collect::<Vec<_>>();
        let received = tapes.upload_tensor(stream::iter(parts)).await.unwrap().into_inner();
        assert_eq!(received.received_bytes, 4 << 20);

        let source = Some(v1::constant::Source::Upload(5));
        let constant = Kind::Constant(v1::Constant { output: 1, source });
        let command = v1::Command { kind: Some(constant), ..Default::default() };
        let batch = v1::Batch::new(1, vec![command]);
        let request = v1::ExecuteRequest { credentials: credentials.clone(), batch: Some(batch) };
        for _ in 0..2 {
            let reply = tapes.execute(request.clone()).await.unwrap().into_inner().batch.unwrap();
            assert_eq!(reply.replies, []);
        }

        let request = v1::DownloadTensorRequest { credentials, value: 1, after_sequence: 1 };
        let mut parts = tapes.download_tensor(request).await.unwrap().into_inner();
        let mut downloaded = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            match part.kind.unwrap() {
                v1::download_tensor_response::Kind::Spec(given) => assert_eq!(given, spec),
                v1::download_tensor_response::Kind::Chunk(chunk) => downloaded.extend(chunk),
            }
        }
        assert!(downloaded == data);
    })
    .await;
}

#[tokio::test]
async fn draining_ends_open_streams_and_then_the_server() {
    let mut config = Config::default();
    config.listen.address.set_port(0);
    let server = Server::bind(config).await.unwrap();
    let endpoint = Channel::from_shared(format!("http://{}", server.local_addr())).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(server.run(async { drop(stopped.await) }));
    let channel = endpoint.connect().await.unwrap();
    let credentials = credentials(&channel).await;
    let mut tapes = TapeServiceClient::new(channel);
    let first = [
        request(stream_request::Kind::Hello(v1::Hello { credentials, notices: true })),
        request(stream_request::Kind::Batch(sync(1))),
    ];
    let requests = stream::iter(first).chain(stream::pending());
    let mut responses = tapes.stream(requests).await.unwrap().into_inner();
    for _ in 0..2 {
        assert!(responses.message().await.unwrap().is_some());
    }
    stop.send(()).unwrap();
    let status = responses.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.get_details_error_info().unwrap().reason, "DRAINING");
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_catalogue_comes_in_pages() {
    with_server(|channel| async move {
        let mut catalog = CatalogServiceClient::new(channel);
        let all = catalog.list_ops(v1::ListOpsRequest { page_size: 1000, ..Default::default() });
        let all = all.await.unwrap().into_inner();
        assert_eq!(all.next_page_token, "");
        let (mut paged, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = v1::ListOpsRequest { page_size: 7, page_token };
            let page = catalog.list_ops(page).await.unwrap().into_inner();
            paged.extend(page.ops);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert!(!paged.is_empty());
        assert_eq!(paged, all.ops);
        for (page_size, token) in [(-1, ""), (0, "x"), (0, "99999999999999999999")] {
            let wrong = v1::ListOpsRequest { page_size, page_token: token.to_owned() };
            assert_eq!(catalog.list_ops(wrong).await.unwrap_err().code(), Code::InvalidArgument);
        }
    })
    .await;
}

/// The tutorial's first gradient: z = x * y at (3, 4) has dz/dx = y = 4.
#[tokio::test]
async fn a_gradient_comes_back() {
    with_server(|channel| async move {
        let credentials = credentials(&channel).await;
        let constant = |output, value: f32| {
            let data = value.to_le_bytes().to_vec().into();
            let tensor = v1::Tensor { dtype: v1::DataType::Float32.into(), shape: vec![], data };
            Kind::Constant(v1::Constant {
                output,
                source: Some(v1::constant::Source::Tensor(tensor)),
            })
        };
        let commands = [
            constant(1, 3.0),
            constant(2, 4.0),
            Kind::OpenTape(v1::OpenTape { tape: 9, ..Default::default() }),
            Kind::WatchTape(v1::WatchTape { tape: 9, values: vec![1] }),
            Kind::Op(v1::Op {
                name: "multiply".to_owned(),
                inputs: vec![1, 2],
                outputs: vec![3],
                attributes: vec![],
            }),
            Kind::ComputeGradient(v1::ComputeGradient {
                tape: 9,
                targets: vec![3],
                sources: vec![1],
                outputs: vec![v1::GradientOutput { gradient: 4, indices: 0 }],
                ..Default::default()
            }),
            Kind::Fetch(v1::Fetch { value: 4 }),
        ];
        let commands = commands.map(|kind| v1::Command { kind: Some(kind), ..Default::default() });
        let batch = v1::Batch::new(1, commands);
        let request = v1::ExecuteRequest { credentials, batch: Some(batch) };
        let reply = TapeServiceClient::new(channel).execute(request).await.unwrap().into_inner();
        let last = reply.batch.unwrap().replies.pop().unwrap();
        let Some(v1::reply::Result::Tensor(tensor)) = last.result else { panic!("{last:?}") };
        assert_eq!(*tensor.data, 4_f32.to_le_bytes());
    })
    .await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_and_a_wrong_token_have_their_codes() {
    with_server(|channel| async move {
        let mut sessions = SessionServiceClient::new(channel);
        let large = v1::CreateSessionRequest { client: "x".repeat(5 << 20), protocol_version: 1 };
        let status = sessions.create_session(large).await.unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let credentials = Some(v1::SessionCredentials {
            session_id: "0".repeat(32),
            session_token: "0".repeat(64),
        });
        let unknown =
            sessions.get_session(v1::GetSessionRequest { credentials }).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    })
    .await;
}
