//! Tensors, ops, tapes, gradients and optimizers: the part of gradtape that computes.
//!
//! Pure: no async, no network, no clock, no protobuf; threads only where they are handed in. In reading order:
//!
//! - [`dtype`], [`aval`], [`mod@array`]: what a tensor is, before and after it exists; `half_precision`: the two narrow
//!   dtypes; [`ledger`]: who pays for it.
//! - [`mod@attrs`], [`op`], [`ops`]: the op table, one record an op.
//! - [`compute`]: the cores that an op may use, and the flag that stops it.
//! - [`graph`]: programs of ops that derivative rules write; [`exec`]: pricing and running them.
//! - [`tape`], [`gradient`], [`jvp`]: recording and both derivative modes; [`pattern`]: gradients that are alike; [`batching`], [`jacobian`]: many sweeps as one.
//! - [`optimizers`], [`random`]: tables of update rules, counter-based generators.
//! - [`command`], [`session`], [`error`]: the contract, the state it acts on, and what can go wrong; [`snapshot`]: that state
//!   without its handles, as checkpoints hold it; [`image`]: all of it, handles included.

pub mod array;
pub mod attrs;
pub mod aval;
pub mod batching;
pub mod command;
pub mod compute;
pub mod control;
pub mod dtype;
pub mod error;
pub mod exec;
pub mod explain;
pub mod function;
pub mod gradient;
pub mod graph;
mod half_precision;
pub mod image;
pub mod jacobian;
pub mod jvp;
mod kernels;
pub mod ledger;
pub mod op;
pub mod ops;
pub mod optimizers;
pub mod pattern;
pub mod plan;
pub mod random;
pub mod session;
pub mod snapshot;
pub mod staging;
#[cfg(test)]
mod table_tests;
pub mod tape;
