//! Who pays for memory: bytes are reserved before they are allocated and given back exactly.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::error::Error;

/// A budget of bytes, possibly a part of a larger one.
#[derive(Debug)]
pub struct Ledger {
    scope: &'static str,
    limit: AtomicU64,
    used: AtomicU64,
    parent: Option<Arc<Ledger>>,
}

impl Ledger {
    /// A budget of its own. `scope` names it in errors: "server", "session".
    pub fn new(scope: &'static str, limit: u64) -> Arc<Self> {
        Self::within(scope, limit, None)
    }

    /// A budget within this one: a reservation needs room in both.
    pub fn child(self: &Arc<Self>, scope: &'static str, limit: u64) -> Arc<Self> {
        Self::within(scope, limit, Some(Arc::clone(self)))
    }

    fn within(scope: &'static str, limit: u64, parent: Option<Arc<Self>>) -> Arc<Self> {
        let (limit, used) = (AtomicU64::new(limit), AtomicU64::new(0));
        Arc::new(Self { scope, limit, used, parent })
    }

    /// Bytes reserved now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// The budget, in bytes.
    pub fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the budget. What is reserved beyond a smaller one stays.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Reserves `bytes`, or says which scope lacks them. The reservation ends when the charge is dropped.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Charge, Error> {
        self.take(bytes)?;
        Ok(Charge { ledger: Arc::clone(self), bytes })
    }

    /// Checks that `bytes` could be reserved now, without reserving them.
    pub fn admit(&self, bytes: u64) -> Result<(), Error> {
        let used = self.used();
        if used.checked_add(bytes).is_none_or(|total| total > self.limit()) {
            return Err(self.refusal(bytes, used));
        }
        self.parent.as_ref().map_or(Ok(()), |parent| parent.admit(bytes))
    }

    fn refusal(&self, requested: u64, used: u64) -> Error {
        Error::MemoryLimit { scope: self.scope, requested, used, limit: self.limit() }
    }

    fn take(&self, bytes: u64) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        let limit = self.limit();
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|&total| total <= limit)
            })
            .map_err(|used| self.refusal(bytes, used))?;
        if let Some(parent) = &self.parent
            && let Err(error) = parent.take(bytes)
        {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(error);
        }
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.parent {
            parent.give_back(bytes);
        }
    }
}

/// Reserved bytes. Dropping it returns them.
#[derive(Debug)]
pub struct Charge {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Charge {
    /// How many bytes are reserved.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.ledger.give_back(self.bytes);
    }
}
