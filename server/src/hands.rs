//! Who does what must not be done where the network is served: computing, and waiting for the disk.

use std::{fmt, sync::Arc, time::Duration};

/// Who works.
#[derive(Clone)]
pub enum Hands {
    /// Threads of the operating system: so many compute, and one more writes logs.
    Threads(usize),
    /// Tasks of the runtime, one that computes and one that writes logs, so that in a simulation the same happens in the same
    /// order each time.
    Task(Pace),
}

/// How long each turn of a task takes, in the runtime's time, in which computing takes none.
pub type Pace = Arc<dyn Fn() -> Duration + Send + Sync>;

// === impl Hands ===

impl Hands {
    /// How many compute.
    pub fn count(&self) -> usize {
        match self {
            Self::Threads(count) => *count,
            Self::Task(_) => 1,
        }
    }
}

impl fmt::Debug for Hands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(count) => f.debug_tuple("Threads").field(count).finish(),
            Self::Task(_) => f.write_str("Task(..)"),
        }
    }
}
