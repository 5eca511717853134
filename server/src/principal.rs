//! Who asks. Today everybody is anonymous; authentication will put somebody else into a request's extensions.

use std::{fmt, sync::Arc};

/// The owner of sessions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Principal(Arc<str>);

impl Principal {
    /// Whoever did not say who they are.
    pub fn anonymous() -> Self {
        Self("anonymous".into())
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
