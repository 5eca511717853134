//! What the black-box tests share: a server on a port of its own, a client, a raw stream, and a proxy that cuts.
//!
//! Nothing here sleeps and nothing has a fixed port.

#![allow(clippy::missing_panics_doc, reason = "in a test's harness, panicking is how to fail")]

pub mod access;
pub mod canary;
pub mod case;
pub mod failing;
pub mod frames;
pub mod process;
pub mod proxy;
pub mod raw;

use std::{net::SocketAddr, path::PathBuf};

use gradtape_client::Session;
use gradtape_server::{config::Config, server::Server as Inner};
use tokio::{sync::oneshot, task::JoinHandle};

/// A running server that stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts a server with the default configuration.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a server with a changed configuration.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.listen.address = SocketAddr::from(([127, 0, 0, 1], 0));
        change(&mut config);
        let server = Inner::bind(config).await.expect("a free loopback port");
        let (address, metrics) = (server.local_addr(), server.metrics_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let run = server.run(async { drop(stopped.await) });
            run.await.expect("the server runs until it is told to stop");
        });
        Self { address, metrics, stop: Some(stop), task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves metrics, if it does.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// The same as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new session.
    pub async fn session(&self) -> Session {
        Session::connect(self.url()).await.expect("a session")
    }

    /// Tells it to shut down, as SIGTERM does.
    pub fn stop(&mut self) {
        // Stopping twice is the same as stopping once.
        self.stop.take().map(|stop| stop.send(()));
    }

    /// Waits until it has shut down.
    pub async fn stopped(mut self) {
        self.stop();
        (&mut self.task).await.expect("the server does not panic");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A folder of this crate's data.
pub fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}
