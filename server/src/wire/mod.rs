//! Between protocol and engine: the only place that sees the types of both.
//!
//! Everything that comes from a client is checked here once, on arrival; nothing is checked on the way out. A command
//! that cannot be decoded becomes a [`Rejected`](gradtape_engine::session::Rejected), never a panic and never the end of
//! a stream.

pub mod catalog;
pub mod decode;
pub mod encode;
pub mod inlet;
pub mod server_info;
pub mod status;

/// The protocol version that this server speaks. It grows when commands are added.
pub const PROTOCOL_VERSION: u32 = 1;

/// `text`, cut at a character boundary to at most `limit` bytes.
pub(crate) fn truncated(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}
