//! Sessions: who owns the state that commands act on, and how commands reach it.
//!
//! In reading order:
//!
//! - [`core`]: a session's state and its order of commands, exactly once. Knows no I/O, no time and no threads.
//! - [`replies`], [`uploads`]: what the core remembers, and what waits for it.
//! - [`stops`]: what stops the command that is being executed.
//! - [`outbox`]: one attached stream: its credit, and the answers that it has not read.
//! - [`inbox`]: a session as the rest of the server holds it: jobs go in, answers come out of each job.
//! - [`fair`], [`allowance`]: whose turn it is, and who has had enough.
//! - [`kept`], [`idle`]: what a session has beyond the process, and when it leaves memory for that.
//! - [`turns`]: the threads, or the task, that compute, and who waits for one.
//! - [`worker`]: what is done with a session in a slice. Nothing else touches a core.
//! - [`registry`]: all sessions, by id and secret.
//! - [`error`]: what ends a call or a stream.
//!
//! Invariants: a session's jobs run one at a time, in order of arrival; a core is on at most one thread; no lock is
//! held while a command runs except the core's own, for which nobody waits.

pub mod allowance;
pub mod core;
pub mod error;
pub mod fair;
pub mod idle;
pub mod inbox;
pub mod kept;
pub mod outbox;
pub mod registry;
pub mod replies;
pub mod stops;
pub mod turns;
pub mod uploads;
pub mod worker;
