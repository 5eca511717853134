//! Numbers about the whole server for Prometheus. No label names a session or a principal: their number has no bound.

pub mod page;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

/// What is counted.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the help texts in `register` describe them")]
pub struct Metrics {
    pub requests: Family<Call, Counter>,
    pub queue_seconds: Histogram,
    pub execution_seconds: Histogram,
    pub commands: Counter,
    pub compute_seconds: Counter<f64, AtomicU64>,
    pub received_bytes: Counter,
    pub sent_bytes: Counter,
    pub connections: Gauge,
    pub connections_refused: Counter,
    pub sessions: Gauge,
    pub sessions_created: Counter,
    pub memory_used_bytes: Gauge,
    pub memory_limit_bytes: Gauge,
    pub compute_threads: Gauge,
    pub interruptions: Counter,
    pub refusals: Family<Refusal, Counter>,
    pub authentication_failures: Counter,
    pub panics: Counter,
    pub audit_dropped: Gauge,
    pub sessions_recovered: Counter,
    pub sessions_lost: Counter,
    pub sessions_hibernated: Counter,
    pub commit_seconds: Histogram,
    pub log_bytes: Counter,
    pub snapshot_seconds: Histogram,
    pub store_full: Counter,
    pub copy_seconds: Histogram,
    pub copied_bytes: Counter,
    pub copies_failed: Counter,
    pub sessions_taken_over: Counter,
    pub sessions_fenced: Counter,
}

/// A kind of call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Call {
    /// Service and method; "other" for one that does not exist.
    pub method: Arc<str>,
    /// Name of the status.
    pub code: &'static str,
}

/// A kind of refusal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Refusal {
    /// The reason that the error gives.
    pub reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        // From 10 µs, below which nothing is slow, to 42 s, beyond which nothing waits.
        let seconds = || Histogram::new(exponential_buckets(1e-5, 4.0, 12));
        Self {
            requests: Family::default(),
            queue_seconds: seconds(),
            execution_seconds: seconds(),
            commands: Counter::default(),
            compute_seconds: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            connections: Gauge::default(),
            connections_refused: Counter::default(),
            sessions: Gauge::default(),
            sessions_created: Counter::default(),
            memory_used_bytes: Gauge::default(),
            memory_limit_bytes: Gauge::default(),
            compute_threads: Gauge::default(),
            interruptions: Counter::default(),
            refusals: Family::default(),
            authentication_failures: Counter::default(),
            panics: Counter::default(),
            audit_dropped: Gauge::default(),
            sessions_recovered: Counter::default(),
            sessions_lost: Counter::default(),
            sessions_hibernated: Counter::default(),
            commit_seconds: seconds(),
            log_bytes: Counter::default(),
            snapshot_seconds: seconds(),
            store_full: Counter::default(),
            copy_seconds: seconds(),
            copied_bytes: Counter::default(),
            copies_failed: Counter::default(),
            sessions_taken_over: Counter::default(),
            sessions_fenced: Counter::default(),
        }
    }
}

impl Metrics {
    /// Notes how long a batch waited and ran.
    pub fn batch(&self, commands: usize, queue: Duration, execution: Duration) {
        self.commands.inc_by(commands as u64);
        self.queue_seconds.observe(queue.as_secs_f64());
        self.execution_seconds.observe(execution.as_secs_f64());
    }

    /// Notes that somebody got less than they asked for.
    pub fn refuse(&self, reason: &'static str) {
        self.refusals.get_or_create(&Refusal { reason }).inc();
    }

    /// All of them, with names and help.
    pub fn register(&self) -> Registry {
        let mut registry = Registry::with_prefix("gradtape");
        let r = &mut registry;
        r.register("requests", "Calls that ended, by method and status", self.requests.clone());
        let help = "Time that batches waited for a compute thread";
        r.register_with_unit("queue", help, Unit::Seconds, self.queue_seconds.clone());
        let help = "Time from a batch's first command to its last";
        r.register_with_unit("execution", help, Unit::Seconds, self.execution_seconds.clone());
        r.register("commands", "Commands of batches that were executed", self.commands.clone());
        let help = "Time that compute threads were busy";
        r.register_with_unit("compute", help, Unit::Seconds, self.compute_seconds.clone());
        let help = "Bytes read from connections, decrypted";
        r.register_with_unit("received", help, Unit::Bytes, self.received_bytes.clone());
        let help = "Bytes written to connections, before encryption";
        r.register_with_unit("sent", help, Unit::Bytes, self.sent_bytes.clone());
        r.register("connections", "Open connections", self.connections.clone());
        let help = "Connections closed at once because there were too many";
        r.register("connections_refused", help, self.connections_refused.clone());
        r.register("sessions", "Sessions, attached or not", self.sessions.clone());
        r.register("sessions_created", "Sessions made", self.sessions_created.clone());
        let help = "Memory that sessions hold";
        r.register_with_unit("memory_used", help, Unit::Bytes, self.memory_used_bytes.clone());
        let help = "Memory that sessions may hold together";
        r.register_with_unit("memory_limit", help, Unit::Bytes, self.memory_limit_bytes.clone());
        let help = "Threads that compute";
        r.register("compute_threads", help, self.compute_threads.clone());
        let help = "Times that a command was interrupted because others were next";
        r.register("interruptions", help, self.interruptions.clone());
        let help = "Limits that somebody ran into, by the error's reason";
        r.register("refusals", help, self.refusals.clone());
        let help = "Calls without a valid credential";
        r.register("authentication_failures", help, self.authentication_failures.clone());
        let help = "Panics while a session computed; each is a bug";
        r.register("panics", help, self.panics.clone());
        let help = "Audit events that were lost because the disk was too slow";
        r.register("audit_dropped_events", help, self.audit_dropped.clone());
        self.register_durability(r);
        registry
    }

    fn register_durability(&self, r: &mut Registry) {
        let help = "Sessions that came back from their logs";
        r.register("sessions_recovered", help, self.sessions_recovered.clone());
        let help = "Sessions that cannot come back; their logs stay";
        r.register("sessions_lost", help, self.sessions_lost.clone());
        let help = "Idle sessions that left memory; their logs bring them back";
        r.register("sessions_hibernated", help, self.sessions_hibernated.clone());
        let help = "Time that writes to the logs of sessions took";
        r.register_with_unit("log_commit", help, Unit::Seconds, self.commit_seconds.clone());
        let help = "Bytes written to the logs of sessions";
        r.register_with_unit("log_written", help, Unit::Bytes, self.log_bytes.clone());
        let help = "Time that it took to let a log begin anew with a snapshot";
        r.register_with_unit("log_snapshot", help, Unit::Seconds, self.snapshot_seconds.clone());
        let help = "Writes that found the disk full";
        r.register("log_full", help, self.store_full.clone());
        let help = "Time that it took to copy a session to the portable store";
        r.register_with_unit("session_copy", help, Unit::Seconds, self.copy_seconds.clone());
        let help = "Bytes of sessions written to the portable store";
        r.register_with_unit("session_copied", help, Unit::Bytes, self.copied_bytes.clone());
        let help = "Copies of sessions that failed";
        r.register("session_copies_failed", help, self.copies_failed.clone());
        let help = "Sessions that came over from the portable store";
        r.register("sessions_taken_over", help, self.sessions_taken_over.clone());
        let help = "Sessions that another server has taken over";
        r.register("sessions_fenced", help, self.sessions_fenced.clone());
    }
}
