//! Says who asks. The place for authentication: today everybody is anonymous.

use std::task::{Context, Poll};

use tonic::codegen::http::Request;
use tower::{Layer, Service};

use crate::principal::Principal;

/// Puts a [`Principal`] into each request's extensions.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrincipalLayer;

/// The service that [`PrincipalLayer`] makes.
#[derive(Clone, Debug)]
pub struct WithPrincipal<S>(S);

impl<S> Layer<S> for PrincipalLayer {
    type Service = WithPrincipal<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithPrincipal(inner)
    }
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for WithPrincipal<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(Principal::anonymous());
        self.0.call(request)
    }
}
