//! Checkpoints: the state of sessions in files that outlive them.
//!
//! In reading order:
//!
//! - [`contents`]: what the tensors and the metadata of a file mean; from a snapshot and back to one.
//! - [`mod@file`]: the bytes of a file, in the format safetensors: header, checksum, and reading in one pass.
//! - [`store`]: where files are, whom they belong to and how much room they have.
//!
//! Nothing here knows gRPC, and nothing here runs on a compute thread. Invariants: a file in the store was valid when it was
//! written and carries a checksum; memory for a file's bytes is reserved before it is read; what a file says of itself is
//! checked before it is believed.

pub mod contents;
pub mod file;
pub mod store;
#[cfg(test)]
mod tests;
