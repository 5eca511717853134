//! Time, handed in so that tests can turn it.

use std::{fmt::Debug, time::Duration};

use tokio::time::Instant;

/// A clock that never goes backwards. It counts from an origin of its own.
pub trait Clock: Debug + Send + Sync {
    /// Time since the origin.
    fn now(&self) -> Duration;
}

/// The machine's monotonic clock; in a runtime whose time is simulated, that time.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A clock that moves by a fixed step whenever it is read, and by hand.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct ManualClock {
    nanos: std::sync::atomic::AtomicU64,
    step: u64,
}

#[cfg(test)]
impl ManualClock {
    /// A clock that moves by `step` whenever it is read.
    pub(crate) fn ticking(step: Duration) -> Self {
        Self { step: u64::try_from(step.as_nanos()).unwrap(), ..Self::default() }
    }

    /// Moves the clock.
    pub(crate) fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap();
        self.nanos.fetch_add(nanos, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
impl Clock for ManualClock {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.fetch_add(self.step, std::sync::atomic::Ordering::Relaxed))
    }
}
