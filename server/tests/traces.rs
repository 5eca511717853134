//! Traces reach a collector, and belong to the client's.

#![expect(clippy::unwrap_used, reason = "in a test, panicking is how to fail")]

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

/// A collector that hands on what it gets.
struct Collector(mpsc::UnboundedSender<Span>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|r| r.scope_spans);
        for span in scopes.flat_map(|scope| scope.spans) {
            self.0.send(span).unwrap();
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// The example of the W3C's recommendation "Trace Context", section 3.2.2.
const TRACE_ID: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const PARENT_ID: u64 = 0x00f0_67aa_0ba9_02b7;

#[tokio::test]
async fn a_call_belongs_to_its_clients_trace() {
    let (sender, mut spans) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap());
    let service = TraceServiceServer::new(Collector(sender));
    let serve = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(serve.serve_with_incoming(TcpListenerStream::new(listener)));

    let mut server = Command::new(env!("CARGO_BIN_EXE_gradtape"))
        .args(["serve", "--listen", "127.0.0.1:0", "--exit-with-parent", "--log", "info"])
        .args(["--otlp-endpoint", &collector])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap().to_owned();

    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await;
    let mut request = Request::new(HealthCheckRequest::default());
    let traceparent = format!("00-{TRACE_ID:032x}-{PARENT_ID:016x}-01").parse().unwrap();
    request.metadata_mut().insert("traceparent", traceparent);
    HealthClient::new(channel.unwrap()).check(request).await.unwrap();
    // The end of its input stops the server, which sends what is left.
    drop(server.stdin.take());

    let span = spans.recv().await.unwrap();
    assert_eq!(span.name, "/grpc.health.v1.Health/Check");
    assert_eq!(u128::from_be_bytes(span.trace_id.try_into().unwrap()), TRACE_ID);
    assert_eq!(u64::from_be_bytes(span.parent_span_id.try_into().unwrap()), PARENT_ID);
    tokio::task::spawn_blocking(move || server.wait()).await.unwrap().unwrap();
}
