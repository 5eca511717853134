//! What the handshake says about the server.

use std::time::Duration;

use gradtape_engine::aval::MAX_ELEMENTS;
use gradtape_proto::v1;

use super::PROTOCOL_VERSION;
use crate::config::Config;

/// Version and limits of a server with this configuration.
pub fn server_info(config: &Config) -> v1::ServerInfo {
    let (limits, transport, sessions) = (&config.limits, &config.transport, &config.sessions);
    v1::ServerInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_version: PROTOCOL_VERSION,
        limits: Some(v1::ServerLimits {
            max_message_bytes: transport.max_message_bytes as u64,
            max_inline_tensor_bytes: limits.max_inline_tensor_bytes as u64,
            max_chunk_bytes: limits.max_chunk_bytes as u64,
            max_batch_commands: count(limits.max_batch_commands),
            max_unapplied_commands: count(limits.max_unapplied_commands),
            max_unapplied_bytes: limits.max_unapplied_bytes as u64,
            max_tensor_elements: MAX_ELEMENTS as u64,
            max_session_bytes: sessions.session_memory_bytes,
            session_ttl: Some(duration(sessions.time_to_live)),
        }),
    }
}

fn count(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// A duration as messages have it.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or_default()
}
