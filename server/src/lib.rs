//! The gradtape server: sessions that compute, behind gRPC.
//!
//! A request passes through these, in this order:
//!
//! - [`accept`]: connections, within limits, encrypted by [`tls`]; [`layers`]: what concerns every call.
//! - [`access`]: who asks, as a [`principal`], and what that lets them do.
//! - [`services`]: the RPC methods, each a few lines; [`wire`]: messages to commands and back, errors to statuses.
//! - [`session`]: who owns state, how commands reach it in order and take effect exactly once.
//!
//! Around them: [`config`] holds every limit, [`server`] puts the parts together and drains them, [`oversight`] has the
//! [`quota`] of each principal, the [`audit`] log and the [`metrics`], [`clock`] and [`ids`] are what their names say, [`hands`] are who
//! computes and writes, [`objects`] opens stores by their URLs,
//! [`telemetry`] is the log, and at [`failpoints`] tests let it all go wrong.
//!
//! What is not here: tensors, ops, tapes and gradients, which are the engine's; the engine knows nothing of this crate.
//!
//! ```no_run
//! # async fn example() -> Result<(), gradtape_server::server::Error> {
//! use gradtape_server::{config::Config, server::Server};
//!
//! let server = Server::bind(Config::default()).await?;
//! println!("listening on {}", server.local_addr());
//! server.run(async { drop(tokio::signal::ctrl_c().await) }).await
//! # }
//! ```

// First, for its macro.
#[macro_use]
pub mod failpoints;

pub mod accept;
pub mod access;
pub mod audit;
pub mod checkpoints;
pub mod clock;
pub mod config;
pub mod durable;
pub mod hands;
pub mod ids;
pub mod layers;
pub mod metrics;
pub mod objects;
pub mod oversight;
pub mod principal;
pub mod quota;
pub mod server;
pub mod services;
pub mod session;
pub mod telemetry;
pub mod tls;
pub mod wire;
