//! What concerns every call: who asks, under which request id, how it is logged and counted, and codes that tonic gets
//! wrong.
//!
//! Layers never look into messages.

pub mod codes;
pub mod deadline;
pub mod metrics;
pub mod principal;
pub mod request_id;

use tonic::codegen::http::Request;
use tower_http::{
    LatencyUnit,
    classify::{GrpcErrorsAsFailures, SharedClassifier},
    trace::{DefaultOnFailure, DefaultOnRequest, DefaultOnResponse, MakeSpan, TraceLayer},
};
use tracing::{Level, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::telemetry;

/// Opens a span for each call, with its method and request id, and logs its end.
pub fn trace() -> TraceLayer<
    SharedClassifier<GrpcErrorsAsFailures>,
    CallSpan,
    DefaultOnRequest,
    DefaultOnResponse,
    (),
    (),
    DefaultOnFailure,
> {
    TraceLayer::new_for_grpc()
        .make_span_with(CallSpan)
        .on_request(DefaultOnRequest::new().level(Level::TRACE))
        .on_response(DefaultOnResponse::new().level(Level::DEBUG).latency_unit(LatencyUnit::Micros))
        .on_body_chunk(())
        .on_eos(())
        // Most failures are a client's; what is ours is logged where it happens.
        .on_failure(DefaultOnFailure::new().level(Level::DEBUG))
}

/// Makes the span of a call.
#[derive(Clone, Copy, Debug)]
pub struct CallSpan;

impl<B> MakeSpan<B> for CallSpan {
    fn make_span(&mut self, request: &Request<B>) -> Span {
        let id = request_id::of(request).unwrap_or_default();
        let method = request.uri().path();
        // The field's name makes it the name of the span where traces are sent.
        let span = tracing::info_span!("call", otel.name = method, request_id = id);
        span.set_attribute("rpc.system", "grpc");
        // Without a collector there is nothing to belong to.
        let _ = span.set_parent(telemetry::parent(request.headers()));
        span
    }
}
