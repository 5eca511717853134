//! Sessions that survive the death of the server: each has a log of what took effect, and is rebuilt by doing that again.
//!
//! Commands go to a [`journal`] as they are executed, and a thread of its own writes what has gathered, of all sessions, and
//! waits for the disk: compute threads never do. What is on the disk is *durable*. After a restart a session is repeated from
//! its log ([`recovery`]) when somebody asks for it. The engine gives the same bits for the same commands, and each record says
//! what came of a command, so that another result is noticed and never passed on. A log that has become long begins anew with
//! the session's [`state`] ([`snapshots`]). Copies of logs in another place survive the loss of the machine ([`portable`]).
//!
//! Invariant: what a log holds is a prefix of the session's order, without holes and without anything twice.

pub mod entry;
pub mod journal;
pub mod portable;
pub mod record;
pub mod recovery;
pub mod snapshots;
pub mod state;
pub mod store;
#[cfg(test)]
mod tests;
mod writer;
