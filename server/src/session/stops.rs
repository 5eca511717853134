//! What stops the command that is being executed: its client's wish, the loss of whoever sent it, the end of its session.
//!
//! All three set one flag, at which the kernels look. A command that its client cancelled has failed; one whose sender is
//! lost was not executed, and is sent again. Everything here takes the same time whatever is asked for how often.
//!
//! Invariant: the flag is set only while the command runs for which it is meant, so that no other can be hit.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use gradtape_engine::compute::Cancel;

/// What stops a session's commands.
#[derive(Debug, Default)]
pub struct Stops {
    cancel: Cancel,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Commands up to this number are cancelled by their client.
    cancelled: u64,
    /// The command that is being executed, and whose loss stops it.
    running: Option<(u64, Option<Sender>)>,
    ended: bool,
}

/// Whoever sent commands: a stream or a call.
#[derive(Clone, Debug, Default)]
pub struct Sender(Arc<AtomicBool>);

/// That a sender is there. Dropping it tells that it is lost.
#[derive(Debug)]
pub struct Presence {
    sender: Sender,
    stops: Arc<Stops>,
}

// === impl Stops ===

impl Stops {
    /// The flag.
    pub fn flag(&self) -> &Cancel {
        &self.cancel
    }

    /// Cancels the commands up to a number, whether they run, wait, or are still on their way.
    pub fn cancel(&self, sequence: u64) {
        let mut state = self.lock();
        state.cancelled = state.cancelled.max(sequence);
        if state.running.as_ref().is_some_and(|(running, _)| *running <= sequence) {
            self.cancel.cancel();
        }
    }

    /// Whether a command was cancelled, or its session has ended.
    pub fn is_cancelled(&self, sequence: u64) -> bool {
        let state = self.lock();
        state.ended || sequence <= state.cancelled
    }

    /// Stops everything from now on, because the session has ended.
    pub fn end(&self) {
        self.lock().ended = true;
        self.cancel.cancel();
    }

    /// A command is about to be executed. The loss of `sender` will stop it.
    pub fn begin(&self, sequence: u64, sender: Option<&Sender>) {
        let mut state = self.lock();
        state.running = Some((sequence, sender.cloned()));
        if state.ended || sequence <= state.cancelled {
            self.cancel.cancel();
        } else {
            self.cancel.clear();
        }
    }

    /// No command is being executed.
    pub fn finish(&self) {
        let mut state = self.lock();
        state.running = None;
        if !state.ended {
            self.cancel.clear();
        }
    }

    fn lose(&self, sender: &Sender) {
        sender.0.store(true, Ordering::Relaxed);
        // Whoever begins a command looks at the sender after this lock, or is found by it.
        let state = self.lock();
        if let Some((_, Some(running))) = &state.running
            && Arc::ptr_eq(&running.0, &sender.0)
        {
            self.cancel.cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Sender, Presence ===

impl Sender {
    /// Whether nobody waits for an answer any more, so that what is not executed does not count.
    pub fn is_lost(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Presence {
    /// A sender of commands to a session.
    pub fn new(stops: &Arc<Stops>) -> Self {
        Self { sender: Sender::default(), stops: Arc::clone(stops) }
    }

    /// Whose presence it is.
    pub fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The sender is lost: stops its command.
    pub fn end(&self) {
        self.stops.lose(&self.sender);
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_command_that_is_meant_is_hit() {
        let stops = Stops::default();
        stops.begin(5, None);
        stops.cancel(4);
        assert!(!stops.flag().is_cancelled());
        stops.cancel(5);
        assert!(stops.flag().is_cancelled());
        stops.begin(6, None);
        assert!(!stops.flag().is_cancelled());
        stops.finish();
        stops.cancel(8);
        assert!(!stops.flag().is_cancelled(), "nothing runs");
        stops.begin(7, None);
        assert!(stops.flag().is_cancelled(), "it was cancelled before it began");
        assert!(stops.is_cancelled(8) && !stops.is_cancelled(9));
        stops.end();
        stops.begin(9, None);
        assert!(stops.flag().is_cancelled());
    }

    #[test]
    fn a_lost_sender_stops_its_own_command_only() {
        let stops = Arc::new(Stops::default());
        let (one, other) = (Presence::new(&stops), Presence::new(&stops));
        stops.begin(1, Some(one.sender()));
        drop(other);
        assert!(!stops.flag().is_cancelled());
        let sender = one.sender().clone();
        drop(one);
        assert!(stops.flag().is_cancelled() && sender.is_lost());
        assert!(!stops.is_cancelled(1), "it is to be sent again");
    }
}
