//! Who did what: one line of JSON for each thing that an operator may have to answer for.
//!
//! Events name principals, addresses and sessions, and never what sessions hold or what credentials are. A thread of its
//! own writes them, so that a slow disk slows nobody; events beyond its buffer are dropped and counted.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    sync::Arc,
    time::SystemTime,
};

use serde::Serialize;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::{
    accept::Peer, config::access::AuditLog, principal::Principal, session::registry::SessionId,
};

/// Lines that may wait for the disk: about 2 MiB.
const BUFFERED_LINES: usize = 8192;

/// The audit log; a cheap handle. Without a place to write to it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Sink>>);

#[derive(Debug)]
struct Sink {
    writer: NonBlocking,
    dropped: ErrorCounter,
    /// Writes what is left when it is dropped.
    _guard: WorkerGuard,
}

/// How something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was not allowed, or more than is allowed.
    Refused,
    /// It went wrong.
    Failed,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
#[must_use]
pub struct Event<'a> {
    #[serde(rename = "event")]
    name: &'static str,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

impl Audit {
    /// Opens the log.
    pub fn open(place: Option<&AuditLog>) -> io::Result<Self> {
        let Some(place) = place else { return Ok(Self::default()) };
        Ok(match place {
            AuditLog::StandardOutput => Self::to(io::stdout()),
            AuditLog::File(path) => {
                Self::to(OpenOptions::new().create(true).append(true).mode(0o600).open(path)?)
            }
        })
    }

    fn to(writer: impl Write + Send + 'static) -> Self {
        let builder = NonBlockingBuilder::default()
            .buffered_lines_limit(BUFFERED_LINES)
            .lossy(true)
            .thread_name("audit");
        let (writer, guard) = builder.finish(writer);
        let dropped = writer.error_counter();
        Self(Some(Arc::new(Sink { writer, dropped, _guard: guard })))
    }

    /// Writes an event, or drops it if the disk is too slow.
    pub fn record(&self, event: &Event<'_>) {
        let Some(sink) = &self.0 else { return };
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        // Neither can fail: the event has only strings, and the writer is a queue.
        if let Ok(mut line) = serde_json::to_vec(&Line { time, event }) {
            line.push(b'\n');
            let _ = sink.writer.clone().write_all(&line);
        }
    }

    /// How many events were dropped.
    pub fn dropped(&self) -> usize {
        self.0.as_ref().map_or(0, |sink| sink.dropped.dropped_lines())
    }
}

impl<'a> Event<'a> {
    /// An event and how it ended.
    pub fn new(name: &'static str, outcome: Outcome) -> Self {
        Self { name, outcome, principal: None, peer: None, session: None, detail: None }
    }

    /// Who did it.
    pub fn principal(mut self, principal: &Principal) -> Self {
        self.principal = Some(principal.to_string());
        self
    }

    /// From where.
    pub fn peer(mut self, peer: Option<&Peer>) -> Self {
        self.peer = peer.map(|peer| peer.address().to_string());
        self
    }

    /// The session that it concerns.
    pub fn session(mut self, session: SessionId) -> Self {
        self.session = Some(session.to_string());
        self
    }

    /// More about it: the reason of an error, or the name of an incident.
    pub fn detail(mut self, detail: &'a str) -> Self {
        self.detail = Some(detail);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[test]
    fn an_event_is_a_line_of_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::open(Some(&AuditLog::File(path.clone()))).unwrap();
        let who = Principal::anonymous();
        audit.record(&Event::new("create_session", Outcome::Done).principal(&who));
        audit.record(&Event::new("authenticate", Outcome::Refused));
        drop(audit);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["event"], "create_session");
        assert_eq!(lines[0]["outcome"], "done");
        assert_eq!(lines[0]["principal"], "anonymous");
        humantime::parse_rfc3339(lines[0]["time"].as_str().unwrap()).unwrap();
        assert!(lines[1].get("principal").is_none());
    }

    /// A disk that does not go on until it is told to.
    struct Stuck(Mutex<mpsc::Receiver<()>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // An error means that the test is over.
            let _ = self.0.lock().unwrap().recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_disk_stops_nobody_and_what_is_lost_is_counted() {
        let (release, stuck) = mpsc::channel();
        let audit = Audit::to(Stuck(Mutex::new(stuck)));
        // Twice as many as fit: the writer may hold one more.
        for _ in 0..2 * BUFFERED_LINES {
            audit.record(&Event::new("authenticate", Outcome::Refused));
        }
        assert!(audit.dropped() >= BUFFERED_LINES - 1, "{} dropped", audit.dropped());
        drop(release);
    }
}
