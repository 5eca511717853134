//! Gives each call an id, which the log and the response repeat. A client's own is kept if it is printable and short.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tonic::codegen::http::{HeaderName, HeaderValue, Request};
use tower_http::request_id::{
    MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer,
};

use crate::ids;

/// The header that carries the id.
const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id of a client that is repeated in the log, in bytes.
const MAX_LENGTH: usize = 128;

/// Numbers calls, after a prefix of this process.
#[derive(Clone, Debug)]
pub struct NumberCalls {
    prefix: Arc<str>,
    next: Arc<AtomicU64>,
}

impl MakeRequestId for NumberCalls {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        HeaderValue::try_from(format!("{}-{number}", self.prefix)).ok().map(RequestId::new)
    }
}

/// Gives an id to calls that have none.
pub fn set() -> SetRequestIdLayer<NumberCalls> {
    let prefix = ids::hex(&ids::random::<4>()).into();
    SetRequestIdLayer::new(HEADER, NumberCalls { prefix, next: Arc::default() })
}

/// Repeats the id in the response.
pub fn propagate() -> PropagateRequestIdLayer {
    PropagateRequestIdLayer::new(HEADER)
}

/// The id of a call.
pub fn of<B>(request: &Request<B>) -> Option<&str> {
    let id = request.headers().get(HEADER)?.to_str().ok()?;
    (id.len() <= MAX_LENGTH).then_some(id)
}
