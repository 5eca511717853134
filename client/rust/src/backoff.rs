//! How long to wait before trying again.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause is at most this long; a connection cut by accident is back at once.
const FIRST: Duration = Duration::from_millis(10);

/// No pause is longer, so a server that returns is found soon.
const LONGEST: Duration = Duration::from_secs(5);

/// Exponential backoff with full jitter: many clients that lost a server together do not come back together.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    patience: Duration,
    /// When the present series of failures began.
    since: Option<Instant>,
}

impl Backoff {
    /// Tries for so long.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { next: FIRST, patience, since: None }
    }

    /// Notes that something went well.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::new(self.patience);
    }

    /// Notes a failure, and says how long to pause; None when patience is over.
    pub(crate) fn failed(&mut self) -> Option<Duration> {
        if self.since.get_or_insert_with(Instant::now).elapsed() > self.patience {
            return None;
        }
        let pause = self.next.mul_f64(fastrand::f64());
        self.next = (self.next * 2).min(LONGEST);
        Some(pause)
    }
}
