//! Numbers for things that do not exist yet.

/// Handles of an attachment that are free.
///
/// Released numbers are used first, so a session's range lasts as long as the session however many values it makes.
#[derive(Debug)]
pub(crate) struct Handles {
    next: u64,
    free: Vec<u64>,
}

impl Handles {
    /// All handles of the range that begins here, except 0, which is nobody's.
    pub(crate) fn from_base(base: u64) -> Self {
        Self { next: base.max(1), free: Vec::new() }
    }

    /// A handle that is not in use.
    pub(crate) fn take(&mut self) -> u64 {
        self.free.pop().unwrap_or_else(|| {
            let handle = self.next;
            self.next += 1;
            handle
        })
    }

    /// Takes handles back whose release is enqueued.
    pub(crate) fn recycle(&mut self, handles: &[u64]) {
        self.free.extend_from_slice(handles);
    }
}

#[cfg(test)]
mod tests {
    use super::Handles;

    #[test]
    fn a_released_handle_is_used_before_a_fresh_one() {
        let mut handles = Handles::from_base(0);
        assert_eq!([handles.take(), handles.take()], [1, 2]);
        handles.recycle(&[1]);
        assert_eq!([handles.take(), handles.take()], [1, 3]);
    }
}
