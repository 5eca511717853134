//! Answers a call whose deadline (`grpc-timeout`) is over with `DEADLINE_EXCEEDED`.
//!
//! tonic watches the same deadline further out, where no layer reaches, and answers `CANCELLED`; so this one is a little
//! earlier. Both end with the response's headers: streams have limits of their own.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Timeout, timeout};
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use crate::wire::status;

/// How much earlier than tonic's: above the resolution of tokio's timers, which is a millisecond.
const HEAD_START: Duration = Duration::from_millis(2);

/// The longest deadline that is watched; a client may ask for 11,000 years.
const LONGEST: Duration = Duration::from_hours(24);

/// Makes services that watch deadlines.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

/// The service that [`DeadlineLayer`] makes.
#[derive(Clone, Debug)]
pub struct WithDeadline<S>(S);

/// The response on its way.
#[derive(Debug)]
pub struct Timed<F>(Pin<Box<Timeout<F>>>);

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithDeadline(inner)
    }
}

impl<S, A, B> Service<Request<A>> for WithDeadline<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Timed<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let deadline = deadline(request.headers()).unwrap_or(LONGEST).min(LONGEST);
        let response = self.0.call(request);
        Timed(Box::pin(timeout(deadline.saturating_sub(HEAD_START), response)))
    }
}

impl<F, B, E> Future for Timed<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Default,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let expired = |_| Ok(status::deadline_exceeded().into_http());
        self.0.as_mut().poll(cx).map(|result| result.unwrap_or_else(expired))
    }
}

/// The deadline of a call: at most eight digits and a unit. Anything else is left to tonic.
fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_hours(number),
        "M" => Duration::from_mins(number),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_digits_and_a_unit() {
        let parse = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            deadline(&headers)
        };
        assert_eq!(parse("100m"), Some(Duration::from_millis(100)));
        assert_eq!(parse("99999999H"), Some(Duration::from_hours(99_999_999)));
        for wrong in ["", "m", "1", "1x", "-1m", "123456789m", "1.5S"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    /// Not over a socket: tonic's client watches the same header, and may be faster with its own answer.
    #[tokio::test]
    async fn a_call_that_takes_too_long_gets_the_right_code() {
        let never = tower::service_fn(|_: Request<()>| std::future::pending());
        let never = tower::ServiceExt::<Request<()>>::map_err(never, |error: std::io::Error| error);
        let request = Request::builder().header("grpc-timeout", "1n").body(()).unwrap();
        let response: Response<()> = DeadlineLayer.layer(never).call(request).await.unwrap();
        let status = tonic::Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }
}
