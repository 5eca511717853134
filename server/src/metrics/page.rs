//! The page that Prometheus reads: HTTP on an address of its own, which shows numbers and takes nothing.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{net::TcpListener, sync::Semaphore};

use super::Metrics;
use crate::{oversight::Oversight, session::registry::Registry as Sessions};

/// Connections at one time; a Prometheus needs one.
const MAX_CONNECTIONS: usize = 16;

/// How long a request may take to come, and a connection to be done: scrapes come each few seconds.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// Pause after an `accept` that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The content type of `OpenMetrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the page is made of.
#[derive(Debug)]
struct Page {
    registry: Registry,
    oversight: Arc<Oversight>,
    sessions: Arc<Sessions>,
}

/// Serves the page for as long as somebody runs it.
pub async fn serve(listener: TcpListener, oversight: Arc<Oversight>, sessions: Arc<Sessions>) {
    let registry = oversight.metrics.register();
    let page = Arc::new(Page { registry, oversight, sessions });
    let router = Router::new().route("/metrics", get(show)).with_state(page);
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept connection for metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(CONNECTION_TIMEOUT);
            let served = http.serve_connection(TokioIo::new(stream), service);
            report(peer, tokio::time::timeout(CONNECTION_TIMEOUT, served).await);
            drop(permit);
        });
    }
}

fn report(peer: SocketAddr, served: Result<Result<(), hyper::Error>, tokio::time::error::Elapsed>) {
    if let Ok(Err(error)) = served {
        tracing::debug!(%peer, %error, "serve metrics");
    }
}

async fn show(State(page): State<Arc<Page>>) -> impl IntoResponse {
    let Page { registry, oversight, sessions } = page.as_ref();
    let Metrics { sessions: count, memory_used_bytes, audit_dropped, .. } = &*oversight.metrics;
    // What others count anyway is read when somebody asks.
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    count.set(number(sessions.len() as u64));
    memory_used_bytes.set(number(sessions.ledger().used()));
    audit_dropped.set(number(oversight.audit.dropped() as u64));
    let mut text = String::new();
    match encode(&mut text, registry) {
        Ok(()) => Ok(([(CONTENT_TYPE, OPEN_METRICS)], text)),
        Err(_) => Err(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
