//! Tapes as images hold them.

use super::{Status, Tape, Trace};
use crate::image::{TapeImage, TapeStatus};

impl Tape {
    /// The tape, if its trace is empty.
    pub(crate) fn image(&self) -> Option<TapeImage> {
        let status = match self.status {
            Status::Fresh => TapeStatus::Fresh,
            Status::Recording => TapeStatus::Recording,
            Status::Stopped => TapeStatus::Stopped,
            Status::Consumed => TapeStatus::Consumed,
        };
        self.is_untouched().then(|| TapeImage {
            persistent: self.persistent,
            watch_accessed_variables: self.watch_accessed_variables,
            scope: self.scope,
            since: self.since,
            status,
            variables: self.variables.iter().copied().collect(),
        })
    }

    /// Whether its trace knows nothing.
    pub(crate) fn is_untouched(&self) -> bool {
        self.trace.index.is_empty()
    }

    /// A tape as it was.
    pub(crate) fn from_image(image: TapeImage) -> Self {
        let status = match image.status {
            TapeStatus::Fresh => Status::Fresh,
            TapeStatus::Recording => Status::Recording,
            TapeStatus::Stopped => Status::Stopped,
            TapeStatus::Consumed => Status::Consumed,
        };
        Self {
            persistent: image.persistent,
            watch_accessed_variables: image.watch_accessed_variables,
            scope: image.scope,
            since: image.since,
            status,
            trace: Trace::default(),
            variables: image.variables.into_iter().collect(),
        }
    }
}
