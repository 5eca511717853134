//! Says who asks, before anything else looks at a call: whoever may not come in learns nothing of what is inside.

use std::{
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use futures::future::Either;
use tonic::{
    Status,
    codegen::http::{Request, Response, header::AUTHORIZATION},
};
use tower::{Layer, Service};

use crate::{
    accept::Peer,
    access::Access,
    audit::{Event, Outcome},
    oversight::Oversight,
    principal::Principal,
    session::error::ProtocolError,
};

/// Puts a [`Principal`] into each request's extensions, and takes the credential out of its headers.
#[derive(Clone, Debug)]
pub struct PrincipalLayer {
    /// Who may come in.
    pub access: Arc<Access>,
    /// How many connections each may have.
    pub oversight: Arc<Oversight>,
}

/// The service that [`PrincipalLayer`] makes.
#[derive(Clone, Debug)]
pub struct WithPrincipal<S> {
    layer: PrincipalLayer,
    inner: S,
}

impl<S> Layer<S> for PrincipalLayer {
    type Service = WithPrincipal<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithPrincipal { layer: self.clone(), inner }
    }
}

impl<S, A, B> Service<Request<A>> for WithPrincipal<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<Self::Response, Self::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        match self.layer.identify(&request) {
            Ok(principal) => {
                request.headers_mut().remove(AUTHORIZATION);
                request.extensions_mut().insert(principal);
                Either::Right(self.inner.call(request))
            }
            Err(error) => Either::Left(ready(Ok(Status::from(error).into_http()))),
        }
    }
}

impl PrincipalLayer {
    fn identify<A>(&self, request: &Request<A>) -> Result<Principal, ProtocolError> {
        let Oversight { quotas, audit, metrics } = self.oversight.as_ref();
        let peer = request.extensions().get::<Peer>();
        let path = request.uri().path();
        failpoint!(Auth, Err(ProtocolError::Unauthenticated));
        let principal = self
            .access
            .identify(path, request.headers(), peer)
            .inspect_err(|_| _ = metrics.authentication_failures.inc())?;
        if let Some(peer) = peer.filter(|_| !principal.is_anonymous()) {
            let first = peer.seat(&principal, quotas);
            if first.map_err(|error| self.oversight.refused(&principal, error))? {
                let event = Event::new("authenticate", Outcome::Done);
                audit.record(&event.principal(&principal).peer(Some(peer)));
            }
        }
        let counted = quotas.request(&principal);
        counted.map_err(|error| self.oversight.refused(&principal, error))?;
        Ok(principal)
    }
}
