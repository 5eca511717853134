//! Every limit and every address, with its default and the reason for it.
//!
//! Nothing else in the server holds a number that bounds a queue, a message, a wait or a piece of memory.

use std::{net::SocketAddr, time::Duration};

pub mod access;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The whole configuration.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where the server listens.
    pub listen: Listen,
    /// Who may come in.
    pub access: access::Access,
    /// HTTP/2 and TCP.
    pub transport: Transport,
    /// How many sessions there are and how long they live.
    pub sessions: Sessions,
    /// What one session may hold and send.
    pub limits: Limits,
    /// The checkpoints.
    pub checkpoints: Checkpoints,
    /// Sessions that survive the server.
    pub durability: Durability,
    /// The threads that compute.
    pub compute: Compute,
    /// How the server stops.
    pub drain: Drain,
}

/// Where the server listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// Allows an address that other machines can reach, although connections are not encrypted or callers not known.
    pub insecure: bool,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 50051)), insecure: false }
    }
}

/// HTTP/2 and TCP settings. tonic's own defaults leave several of these unlimited.
#[derive(Clone, Debug)]
pub struct Transport {
    /// Streams that a connection may have open. A client needs one, and a few for uploads and unary calls.
    pub max_concurrent_streams: u32,
    /// Bytes that a peer may send on one stream before we read them. An upload stands still for a round trip whenever so much is
    /// on its way.
    pub stream_window_bytes: u32,
    /// Bytes that a peer may send on one connection before we read them. Half of it is also h2's budget for unread frames
    /// below 256 bytes, beyond which h2 kills the connection: with 16 streams of 256 KiB any frame of 64 bytes or more is
    /// safe, and so is any number of batches that keeps within the streams' credit.
    pub connection_window_bytes: u32,
    /// Most bytes of one frame from a peer. Each costs both sides a call of the operating system, and no other stream of the
    /// connection gets on meanwhile.
    pub frame_bytes: u32,
    /// Largest message in either direction, in bytes.
    pub max_message_bytes: usize,
    /// Largest list of headers, in bytes.
    pub max_header_list_bytes: u32,
    /// Streams that we reset for the peer's errors before the connection is closed (RUSTSEC-2024-0003).
    pub max_local_error_resets: usize,
    /// Streams that the peer reset before we accepted them, before the connection is closed ("rapid reset").
    pub max_pending_accept_resets: usize,
    /// Silence after which the server pings.
    pub keepalive_interval: Duration,
    /// How long the answer to a ping may take.
    pub keepalive_timeout: Duration,
    /// Age at which a connection is asked to go, so that load balances; shortened by up to a tenth at random.
    pub max_connection_age: Duration,
    /// How long a connection may then take to finish.
    pub max_connection_age_grace: Duration,
    /// Connections at one time. Each may cost about 17 MiB under attack.
    pub max_connections: usize,
    /// Connections at one time from one address; loopback is exempt, since a proxy or tests may stand there.
    pub max_connections_per_address: usize,
    /// How long a connection may take to start talking HTTP/2.
    pub handshake_timeout: Duration,
    /// How long a stream may take to say hello.
    pub hello_timeout: Duration,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 16,
            stream_window_bytes: 256 << 10,
            connection_window_bytes: 32 << 20,
            frame_bytes: 64 << 10,
            max_message_bytes: 4 * MIB,
            max_header_list_bytes: 16 << 10,
            max_local_error_resets: 1024,
            max_pending_accept_resets: 20,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            max_connection_age: Duration::from_hours(1),
            max_connection_age_grace: Duration::from_mins(1),
            max_connections: 256,
            max_connections_per_address: 16,
            handshake_timeout: Duration::from_secs(5),
            hello_timeout: Duration::from_secs(10),
        }
    }
}

/// How many sessions there are and how long they live.
#[derive(Clone, Debug)]
pub struct Sessions {
    /// Sessions at one time. An idle one costs a few KiB.
    pub max_sessions: usize,
    /// How long a session without a stream or a call is kept: long enough to walk to another Wi-Fi.
    pub time_to_live: Duration,
    /// How long a session is kept whose stream is open and says nothing: over a night. Its client is told before.
    pub max_silence: Duration,
    /// How long before that: time to come back to the desk.
    pub silence_notice: Duration,
    /// Memory of all sessions together, in bytes. `None` takes three quarters of the machine's or container's.
    pub server_memory_bytes: Option<u64>,
    /// Memory of one session, in bytes.
    pub session_memory_bytes: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            max_sessions: 1024,
            time_to_live: Duration::from_mins(10),
            max_silence: Duration::from_hours(24),
            silence_notice: Duration::from_mins(15),
            server_memory_bytes: None,
            session_memory_bytes: 1 << 30,
        }
    }
}

/// What one session may hold and send.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Commands in a batch: a batch is at most a full credit.
    pub max_batch_commands: usize,
    /// Commands that a stream may have sent and not seen applied. At 3 µs each this hides 12 ms: of network, or of an
    /// interpreter that is slow to let its sender run.
    pub max_unapplied_commands: usize,
    /// Bytes of batches that a stream may have sent and not seen applied.
    pub max_unapplied_bytes: usize,
    /// Largest tensor in a command or a reply, in bytes. It leaves room for its neighbours in a message.
    pub max_inline_tensor_bytes: usize,
    /// Largest chunk of an upload or download, in bytes. Larger ones are not faster on loopback.
    pub max_chunk_bytes: usize,
    /// Bytes of replies in one message; what is fetched beyond is refused. Below the message limit by what errors and
    /// gradient reports may add.
    pub max_batch_reply_bytes: usize,
    /// Commands whose replies are kept for a client that did not get them: at least the credit, or a client within it could
    /// lose an answer.
    pub retained_commands: usize,
    /// Bytes of kept replies. Fetched tensors share the session's memory, so this bounds how long they are held.
    pub retained_bytes: usize,
    /// Bytes of answers that a stream may leave unread before its session pauses.
    pub max_unread_bytes: usize,
    /// How long a session may pause because its stream does not read.
    pub slow_consumer_timeout: Duration,
    /// Uploads in progress or waiting to be used.
    pub max_uploads: usize,
    /// How long an upload may take to its next chunk.
    pub upload_progress_timeout: Duration,
    /// How long a download waits for the command that it follows.
    pub download_wait: Duration,
    /// Downloads of a session that wait at one time.
    pub max_waiting_downloads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_batch_commands: 1024,
            max_unapplied_commands: 4096,
            max_unapplied_bytes: 4 * MIB,
            max_inline_tensor_bytes: MIB,
            max_chunk_bytes: MIB,
            max_batch_reply_bytes: 3 * MIB,
            retained_commands: 4096,
            retained_bytes: 32 * MIB,
            max_unread_bytes: MIB,
            slow_consumer_timeout: Duration::from_secs(30),
            max_uploads: 4,
            upload_progress_timeout: Duration::from_mins(1),
            download_wait: Duration::from_secs(30),
            max_waiting_downloads: 16,
        }
    }
}

/// Where checkpoints are and how much room they have.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// URL of the store, or path of a folder, which is created. Without one there are no checkpoints: a server that is a part
    /// of another program should not write files without being told where.
    pub store: Option<String>,
    /// Size of one checkpoint: twice a session's memory, and less than the 5 GiB that S3 takes in one request.
    pub max_checkpoint_bytes: u64,
    /// Checkpoints of one principal: as many as a listing can show at a time.
    pub max_checkpoints: usize,
    /// Bytes of all checkpoints of one principal: a disk has room for several.
    pub max_principal_bytes: u64,
    /// Saves that write at one time; others wait. More would not make a disk faster.
    pub max_concurrent_saves: usize,
    /// Uploads in progress, which hold their bytes in memory; others are refused.
    pub max_concurrent_uploads: usize,
    /// The caller's own remarks on a checkpoint.
    pub max_remarks: usize,
    /// Longest key of a remark, in bytes.
    pub max_remark_key_bytes: usize,
    /// Longest remark, in bytes: room for a small configuration. All remarks together fit in a header.
    pub max_remark_bytes: usize,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            store: None,
            max_checkpoint_bytes: 2 << 30,
            max_checkpoints: 1000,
            max_principal_bytes: 16 << 30,
            max_concurrent_saves: 4,
            max_concurrent_uploads: 4,
            max_remarks: 64,
            max_remark_key_bytes: 128,
            max_remark_bytes: 4096,
        }
    }
}

/// Sessions that survive the server.
#[derive(Clone, Debug)]
pub struct Durability {
    /// Folder of the sessions' logs, which is created. Without one, sessions are in memory only.
    pub store: Option<std::path::PathBuf>,
    /// URL or folder of the portable store, in which copies of sessions survive the loss of the machine. It takes a store of
    /// sessions too, whose logs are what is copied.
    pub portable: Option<String>,
    /// How long what nobody waits for gathers before it is written. Shorter costs the disk more, longer lets clients keep more
    /// of what they have sent.
    pub interval: Duration,
    /// Bytes of a session that are not written before it pauses: with a disk that takes 5 ms a write, 200 MB/s.
    pub max_unwritten_bytes: usize,
    /// Bytes of a log behind its snapshot from which on it begins anew with another: a second of reading. A log whose snapshot
    /// is larger grows by as much again, so that what is written stays below twice what is done.
    pub max_log_bytes: u64,
    /// How long what a log holds behind its snapshot may have taken before it begins anew with another: about as long as the
    /// session then takes to come back. At least ten times as long as the last snapshot took, so that taking them stays
    /// below a tenth of the work.
    pub max_replay: Duration,
    /// How long nothing is asked of a session until it leaves memory, or `None` for never: longer than somebody looks at a
    /// plot, and shorter than sessions without a stream are kept.
    pub hibernate_after: Option<Duration>,
}

impl Default for Durability {
    fn default() -> Self {
        Self {
            store: None,
            portable: None,
            interval: Duration::from_millis(20),
            max_unwritten_bytes: MIB,
            max_log_bytes: 64 * MIB as u64,
            max_replay: Duration::from_secs(10),
            hibernate_after: Some(Duration::from_mins(5)),
        }
    }
}

/// The threads that compute.
#[derive(Clone, Debug)]
pub struct Compute {
    /// How many there are; 0 takes one for each core.
    pub threads: usize,
    /// How long a thread stays with one session while others wait. Shorter slices cost more in cold caches than they
    /// gain in latency.
    pub slice: Duration,
    /// Commands that may be interrupted at one time, so that others compute meanwhile. Each keeps a thread, whose stack
    /// takes some 100 KiB; when there are more, the rest run to their ends.
    pub max_interrupted: usize,
}

impl Default for Compute {
    fn default() -> Self {
        Self { threads: 0, slice: Duration::from_millis(4), max_interrupted: 64 }
    }
}

impl Compute {
    /// The number of threads.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

/// How the server stops.
#[derive(Clone, Debug)]
pub struct Drain {
    /// How long running work and open streams have: below the 30 s after which Kubernetes kills.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(25) }
    }
}

impl Sessions {
    /// The memory of all sessions together: as configured, or three quarters of what the machine or container has.
    pub fn server_memory(&self) -> u64 {
        // 2 GiB where nothing can be read: the smallest machine that is sold for such work.
        self.server_memory_bytes.unwrap_or_else(|| machine_memory().unwrap_or(2 << 30) / 4 * 3)
    }
}

/// The smaller of the machine's memory and the control group's limit, in bytes.
fn machine_memory() -> Option<u64> {
    let read = |path| std::fs::read_to_string(path).ok();
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .find_map(|path| read(path)?.trim().parse::<u64>().ok());
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
        kib.checked_mul(KIB as u64)
    });
    group.into_iter().chain(machine).min()
}
