//! What happens at points that are armed: in builds for tests only.

use std::{
    io::{self, BufRead, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use gradtape_engine::{error::Error, ledger::Ledger};

use super::Point;

/// Whether any point was armed: asking `fail` costs a lock, and some points are in kernels.
static ARMED: AtomicBool = AtomicBool::new(false);

/// Arms what the environment names.
pub fn arm_by_environment() -> io::Result<()> {
    let lines = std::env::var("FAILPOINTS").unwrap_or_default();
    lines.split(';').filter(|line| !line.is_empty()).try_for_each(arm)
}

/// Arms what these lines name, one after the other, until they end. Other lines are passed over.
pub fn obey(lines: impl BufRead) {
    for line in lines.lines().map_while(Result::ok) {
        match arm(&line) {
            Ok(()) => say("armed", &line),
            Err(error) => tracing::warn!(%error, "cannot arm"),
        }
    }
}

fn arm(line: &str) -> io::Result<()> {
    let known = |name: &str| Point::ALL.iter().any(|point| point.name() == name);
    let (name, actions) = line
        .split_once('=')
        .filter(|(name, _)| known(name))
        .ok_or_else(|| io::Error::other(format!("{line:?} arms no point")))?;
    fail::cfg(name, actions).map_err(io::Error::other)?;
    ARMED.store(true, Ordering::Release);
    Ok(())
}

/// Tells the test, which reads along. If it does not, nobody needs to know.
fn say(what: &str, which: &str) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{what} {which}").and_then(|()| stdout.flush());
}

impl Point {
    /// Whether the place shall fail now. Where the process is to die, or the thread to panic, it does.
    pub(crate) fn fails(self) -> bool {
        if !ARMED.load(Ordering::Acquire) {
            return false;
        }
        let Some(what) = self.told() else { return false };
        say("hit", self.name());
        match what.as_str() {
            "die" => std::process::abort(),
            "panic" => panic!("a test wants a panic at {self}"),
            _ => true,
        }
    }

    fn told(self) -> Option<String> {
        fail::fail_point!(self.name(), |what| Some(what.unwrap_or_default()));
        None
    }
}

/// What a command lacks, if it shall: memory of the system. The other value says that it was decoded.
pub(crate) fn lack() -> Option<(Error, bool)> {
    Point::Alloc.fails().then_some((Error::OutOfMemory { bytes: 0 }, false))
}

/// For as long as this lives, a session has no memory to take, if it shall have none.
#[derive(Debug)]
pub(crate) struct NoRoom {
    ledger: Arc<Ledger>,
    limit: u64,
}

impl NoRoom {
    /// Takes the room of a ledger, if a test says so.
    pub(crate) fn of(ledger: &Arc<Ledger>) -> Option<Self> {
        Point::LedgerReserve.fails().then(|| {
            let limit = ledger.limit();
            ledger.set_limit(0);
            Self { ledger: Arc::clone(ledger), limit }
        })
    }
}

impl Drop for NoRoom {
    fn drop(&mut self) {
        self.ledger.set_limit(self.limit);
    }
}
