//! Counts calls by method and status, when they end: unary ones with their headers, streams with their trailers.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use gradtape_proto::DESCRIPTORS;
use http_body::{Body, Frame, SizeHint};
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::{
    Code, Status,
    codegen::http::{HeaderMap, Request, Response},
};
use tower::{Layer, Service};

use crate::metrics::{Call, Metrics};

/// What calls of methods that do not exist are counted as: anybody can make up names.
const OTHER: &str = "other";

/// Makes services that count.
#[derive(Clone, Debug)]
pub struct MetricsLayer {
    metrics: Arc<Metrics>,
    methods: Arc<HashSet<Arc<str>>>,
    other: Arc<str>,
}

impl MetricsLayer {
    /// Counts calls of the methods in our schema, and of health.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let sets = [DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
        let files = sets.into_iter().filter_map(|set| FileDescriptorSet::decode(set).ok());
        let methods = files.flat_map(|set| set.file).flat_map(|file| {
            let package = file.package().to_owned();
            file.service.into_iter().flat_map(move |service| {
                let prefix = format!("/{package}.{}", service.name());
                let names = service.method.into_iter();
                names.map(move |method| format!("{prefix}/{}", method.name()).into())
            })
        });
        Self { metrics, methods: Arc::new(methods.collect()), other: OTHER.into() }
    }

    fn method(&self, path: &str) -> Arc<str> {
        Arc::clone(self.methods.get(path).unwrap_or(&self.other))
    }
}

/// The service that [`MetricsLayer`] makes.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    layer: MetricsLayer,
    inner: S,
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted { layer: self.clone(), inner }
    }
}

/// Counts one call, at its end or when its client has gone.
#[derive(Debug)]
struct Count {
    metrics: Arc<Metrics>,
    method: Arc<str>,
    done: bool,
}

impl Count {
    fn end(&mut self, code: Code) {
        if !std::mem::replace(&mut self.done, true) {
            let call = Call { method: Arc::clone(&self.method), code: name(code) };
            self.metrics.requests.get_or_create(&call).inc();
        }
    }

    /// Takes the status of headers or trailers, if it is there.
    fn look(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.end(status.code());
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// The response on its way.
#[derive(Debug)]
pub struct Counting<F> {
    call: Pin<Box<F>>,
    count: Option<Count>,
}

/// The body of a response.
#[derive(Debug)]
pub struct CountedBody<B> {
    body: Pin<Box<B>>,
    count: Option<Count>,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>>,
{
    type Response = Response<CountedBody<B>>;
    type Error = S::Error;
    type Future = Counting<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let method = self.layer.method(request.uri().path());
        let count = Count { metrics: Arc::clone(&self.layer.metrics), method, done: false };
        Counting { call: Box::pin(self.inner.call(request)), count: Some(count) }
    }
}

impl<F, B, E> Future for Counting<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<CountedBody<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.call.as_mut().poll(cx));
        let mut count = self.count.take();
        Poll::Ready(response.map(|response| {
            if let Some(count) = &mut count {
                count.look(response.headers());
            }
            response.map(|body| CountedBody { body: Box::pin(body), count })
        }))
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let frame = ready!(self.body.as_mut().poll_frame(cx));
        if let (Some(Ok(frame)), Some(count)) = (&frame, &mut self.count)
            && let Some(trailers) = frame.trailers_ref()
        {
            count.look(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A status as the protocol writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
