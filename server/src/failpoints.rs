//! Named places at which tests let the process die, panic, or meet with what otherwise takes a broken machine.
//!
//! [`Point`] lists them all. Code marks a place by one line, `failpoint!(WalAfterSync);`, or, where the place itself can go
//! wrong, by what it then returns: `failpoint!(Hello, Err(ProtocolError::HelloTimeout));`. Without the feature `failpoints`,
//! which only tests ask for, such a line is no code at all.
//!
//! A point is armed by a line `NAME=WHEN->return(WHAT)`, in the syntax of the `fail` crate, which decides when:
//! `wal_append=3*off->1*return(die)` passes three times, and then the process dies. What is `die`, `panic`, or `fail` for
//! what the place returns. The program takes such lines from the environment variable `FAILPOINTS` (separated by `;`), for
//! what happens as it starts, and from its standard input. It says on its standard output what was `armed` and what was `hit`.

use std::fmt;

#[cfg(feature = "failpoints")]
mod armed;
#[cfg(feature = "failpoints")]
pub(crate) use armed::{NoRoom, lack};
#[cfg(feature = "failpoints")]
pub use armed::{arm_by_environment, obey};

/// Marks a place where something can go wrong if a test says so, and what is returned then.
#[cfg(feature = "failpoints")]
macro_rules! failpoint {
    ($point:ident) => {
        // Where nothing is returned, there is nothing but death and panic.
        let _: bool = $crate::failpoints::Point::$point.fails();
    };
    ($point:ident, return) => {
        if $crate::failpoints::Point::$point.fails() {
            return;
        }
    };
    ($point:ident, $instead:expr) => {
        if $crate::failpoints::Point::$point.fails() {
            return $instead;
        }
    };
}

/// Nothing, since the feature is off.
#[cfg(not(feature = "failpoints"))]
macro_rules! failpoint {
    ($($any:tt)*) => {};
}

/// Declares the points, and the list of them.
macro_rules! points {
    ($($(#[$about:meta])+ $point:ident = $name:literal,)+) => {
        /// A place where a test can let something go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($(#[$about])+ $point,)+
        }

        impl Point {
            /// All of them, in the order of a command's life, then of a log's.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// Its name, as tests and documents have it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)+ }
            }
        }
    };
}

points! {
    /// A connection was accepted. Can fail: as if there were no descriptors.
    Accept = "accept",
    /// A connection has begun to speak HTTP/2. Can fail: as if it had done so too late.
    Handshake = "handshake",
    /// A call has come, and nobody has looked at its credential. Can fail: as if that were wrong.
    Auth = "auth",
    /// The hello of a stream was read. Can fail: as if it had not come in time.
    Hello = "hello",
    /// A stream is about to be attached to its session.
    Attach = "attach",
    /// A batch of a stream is about to be queued. Can fail: as if it were beyond the credit.
    InboxFull = "inbox_full",
    /// A command was decoded.
    Validate = "validate",
    /// A command is about to be executed. Can fail: its session has no memory left for it.
    LedgerReserve = "ledger_reserve",
    /// A command is about to be executed. Can fail: as if the system had no memory left.
    Alloc = "alloc",
    /// A command is about to be executed.
    BeforeExec = "before_exec",
    /// A kernel, or what runs kernels, looks whether it is to make room for others.
    MidExecStep = "mid_exec_step",
    /// The same, for panics.
    PanicInKernel = "panic_in_kernel",
    /// A command was executed, and the session's journal does not know of it.
    AfterExec = "after_exec",
    /// A stream has an answer that was not read. Can fail: as if there were too much of that.
    OutboxFull = "outbox_full",
    /// An answer is complete, and has reached the level that it waited for.
    BeforeAck = "before_ack",
    /// The transport has taken all answers that there were.
    AfterAck = "after_ack",
    /// A client's wish to cancel has come. Can fail: as if it had been lost.
    Cancel = "cancel",
    /// A piece of a record is about to be appended to a log. Can fail: as if the disk were full.
    WalAppend = "wal_append",
    /// Records were appended and not synced. Can fail: as `fsync` does.
    WalBeforeSync = "wal_before_sync",
    /// Records were synced, and nobody was told.
    WalAfterSync = "wal_after_sync",
    /// A log is about to begin anew.
    SnapshotBegin = "snapshot_begin",
    /// A piece of the new log is about to be written. Can fail: as if the disk were full.
    SnapshotPart = "snapshot_part",
    /// The new log is synced beside the old one.
    SnapshotBeforeManifest = "snapshot_before_manifest",
    /// It was renamed, and the name is not synced.
    SnapshotAfterManifest = "snapshot_after_manifest",
    /// It has taken the place of the old one, and the journal does not know.
    LogTrim = "log_trim",
    /// The store is being opened: the number of times is written and not synced.
    EpochBump = "epoch_bump",
    /// A log is about to be opened for its session to come back. Can fail: as if there were not enough memory at present.
    RecoverOpen = "recover_open",
    /// A snapshot is about to be loaded.
    RecoverSnapshot = "recover_snapshot",
    /// A record of commands is about to be repeated.
    RecoverRecord = "recover_record",
    /// A torn record is about to be cut off.
    RecoverTorn = "recover_torn",
    /// The log of a session that has ended is about to be removed.
    Cull = "cull",
    /// The server drains: nothing new is taken any more.
    Drain = "drain",
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
