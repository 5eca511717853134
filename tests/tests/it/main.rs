//! Black-box tests through real sockets.

#![allow(clippy::float_cmp, reason = "equal means equal: the promises are about bits")]

mod access;
mod admin;
mod attacks;
mod bad_input;
mod cancel;
mod checkpoints;
mod conformance;
mod derivatives;
mod durable;
mod encryption;
mod failpoints;
mod faults;
mod functions;
mod golden;
mod golden_ops;
mod golden_optimizers;
mod hazards;
mod idle;
mod oversight;
mod portable;
mod promises;
mod quotas;
mod resume;
mod services;
mod snapshots;
mod tutorial;
