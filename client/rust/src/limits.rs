//! How much may be sent at once.

use gradtape_proto::v1::{ServerInfo, ServerLimits};

/// Batches stay below this size, so that the server works on one while the next is on its way.
const PIPELINED_BYTES: u64 = 256 * 1024;

/// The server's limits, in the units in which the queue counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Largest tensor in a command, in bytes.
    pub(crate) inline_tensor_bytes: u64,
    /// Largest chunk of an upload, in bytes.
    pub(crate) chunk_bytes: usize,
    /// Most commands in a batch.
    pub(crate) batch_commands: usize,
    /// Most bytes in a batch of more than one command.
    pub(crate) batch_bytes: u64,
    /// Most commands sent and not known to be applied.
    pub(crate) unapplied_commands: usize,
    /// Most bytes sent and not known to be applied.
    pub(crate) unapplied_bytes: u64,
}

impl Limits {
    /// Reads the server's limits; what a server does not say is taken as the protocol's default.
    pub(crate) fn new(server: Option<ServerInfo>) -> Self {
        let limits: ServerLimits = server.and_then(|server| server.limits).unwrap_or_default();
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        let count = |value: u32, default| usize::try_from(or(value.into(), default)).unwrap_or(1);
        let unapplied_commands = count(limits.max_unapplied_commands, 4_096);
        let unapplied_bytes = or(limits.max_unapplied_bytes, 4 << 20);
        // The envelope of a batch and of a request around it takes far less than this.
        let message_bytes = or(limits.max_message_bytes, 4 << 20).saturating_sub(1_024);
        let chunk_bytes = or(limits.max_chunk_bytes, 1 << 20);
        Self {
            inline_tensor_bytes: or(limits.max_inline_tensor_bytes, 1 << 20),
            chunk_bytes: usize::try_from(chunk_bytes).unwrap_or(usize::MAX),
            // A quarter of the credit keeps several batches on their way.
            batch_commands: count(limits.max_batch_commands, 1_024)
                .min(unapplied_commands.div_ceil(4)),
            batch_bytes: PIPELINED_BYTES.min(message_bytes).min(unapplied_bytes),
            unapplied_commands,
            unapplied_bytes,
        }
    }
}
