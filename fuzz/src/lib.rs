//! What fuzz targets do with the bytes that a fuzzer gives. The targets themselves are in `tests/targets`.
//!
//! A target takes bytes and panics if something is not as it must be. Bytes that are close to good ones get further than
//! random ones, so [`hostile`] starts from what good clients send ([`seeds`]) and spoils it, and [`writer`] writes commands
//! that mostly make sense.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::wildcard_enum_match_arm,
    reason = "whatever a cast makes of a number that chance has chosen is a number as good as any"
)]
#![allow(clippy::missing_panics_doc, reason = "in a fuzz target, panicking is how to fail")]

// What counts the coverage of a fuzzer is linked with it.
#[cfg(test)]
use bolero as _;

pub mod batches;
pub mod checkpoints;
pub mod hostile;
pub mod logs;
pub mod seeds;
pub mod templates;
pub mod texts;
pub mod twins;
pub mod values;
pub mod writer;
