//! Corrects codes that tonic gives before a method runs: an oversized request is `RESOURCE_EXHAUSTED` and not
//! `OUT_OF_RANGE`, and an undecodable one is `INVALID_ARGUMENT` and not `INTERNAL`.
//!
//! Only responses without a body are looked at: those of our own methods carry `ErrorInfo` and are right.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tonic::{
    Code, Status,
    codegen::http::{Request, Response},
};
use tower::{Layer, Service};

use crate::wire::status;

/// Makes services that correct codes.
#[derive(Clone, Copy, Debug, Default)]
pub struct CodesLayer;

/// The service that [`CodesLayer`] makes.
#[derive(Clone, Debug)]
pub struct WithCodes<S>(S);

/// The response on its way.
#[derive(Debug)]
pub struct Corrected<F>(Pin<Box<F>>);

impl<S> Layer<S> for CodesLayer {
    type Service = WithCodes<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithCodes(inner)
    }
}

impl<S, A, B> Service<Request<A>> for WithCodes<S>
where
    S: Service<Request<A>, Response = Response<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Corrected<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        Corrected(Box::pin(self.0.call(request)))
    }
}

impl<F, B, E> Future for Corrected<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut result = ready!(self.0.as_mut().poll(cx));
        if let Ok(response) = &mut result
            && let Some(corrected) = corrected(response)
        {
            // The headers of a status are always valid; if they were not, tonic's own answer stands.
            let _ = corrected.add_header(response.headers_mut());
        }
        Poll::Ready(result)
    }
}

fn corrected<B>(response: &Response<B>) -> Option<Status> {
    // Successful calls have no status in their headers.
    response.headers().get(Status::GRPC_STATUS)?;
    let given = Status::from_header_map(response.headers())?;
    if given.code() == Code::Ok || !given.details().is_empty() {
        return None;
    }
    status::from_transport(&given).map(Status::from)
}
