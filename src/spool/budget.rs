//! What the files of a spool may take on the disk, all of its stores together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// So many bytes for all who share them.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u64,
    taken: AtomicU64,
}

/// What one store has of them.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(most: u64) -> Arc<Budget> {
        Arc::new(Budget { most, taken: AtomicU64::new(0) })
    }

    /// Of all who share it.
    #[cfg(test)]
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Share {
    /// With what is on the disk already, be it more than there is.
    pub(super) fn new(budget: &Arc<Budget>, bytes: u64) -> Share {
        budget.taken.fetch_add(bytes, Ordering::Relaxed);
        Share { budget: Arc::clone(budget), bytes }
    }

    /// Takes so many more, if nobody has them; whether it did.
    pub(super) fn take(&mut self, bytes: u64) -> bool {
        let fits = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= self.budget.most);
        let took = self.budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if took {
            self.bytes += bytes;
        }
        took
    }

    pub(super) fn put_back(&mut self, bytes: u64) {
        // No more than it has.
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
