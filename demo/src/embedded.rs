//! A server inside this program, on a free loopback port.

use std::{future, net::Ipv4Addr};

use anyhow::{Context, Result};
use gradtape_server::{config::Config, server::Server};

/// Starts a server that runs as long as the program, and gives its address.
pub(crate) async fn start() -> Result<String> {
    let mut config = Config::default();
    config.listen.address = (Ipv4Addr::LOCALHOST, 0).into();
    let server = Server::bind(config).await.context("start the embedded server")?;
    let address = format!("http://{}", server.local_addr());
    tokio::spawn(async {
        if let Err(error) = server.run(future::pending()).await {
            tracing::error!(%error, "the embedded server stopped");
        }
    });
    Ok(address)
}
