//! What looks over every session: how much each principal has, what was done, and how the server is.

use std::sync::Arc;

use crate::{
    audit::{Audit, Event, Outcome},
    config::access::Quota,
    metrics::Metrics,
    principal::Principal,
    quota::Quotas,
    session::error::ProtocolError,
    wire::status,
};

/// Quotas, audit log and metrics of a server.
#[derive(Debug)]
pub struct Oversight {
    /// What each principal has.
    pub quotas: Quotas,
    /// What was done.
    pub audit: Audit,
    /// How the server is.
    pub metrics: Arc<Metrics>,
}

impl Oversight {
    /// Nothing has happened yet.
    pub fn new(quota: Quota, audit: Audit) -> Arc<Self> {
        Arc::new(Self { quotas: Quotas::new(quota), audit, metrics: Arc::default() })
    }

    /// Notes a refusal, wherever it is decided; returns it for the caller to pass on.
    pub fn refused(&self, principal: &Principal, error: ProtocolError) -> ProtocolError {
        let (_, reason) = status::classify(&error);
        self.metrics.refuse(reason);
        self.audit
            .record(&Event::new("refuse", Outcome::Refused).principal(principal).detail(reason));
        error
    }
}
