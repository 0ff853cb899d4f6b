//! Recursion is decided by thread, never by target.
//!
//! Whatever a thread of ours emits through `log` (a Kafka client's own records, say) must not come back
//! into the pipeline: each such record would cause the next. A target filter would miss some of the
//! clients' targets and swallow those of another Kafka client that the application runs; the thread is exact.

use std::cell::Cell;

thread_local! {
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread works for the pipeline now.
pub(crate) fn on_our_thread() -> bool {
    // While a thread's locals are being destroyed it is the application's: ours end by returning.
    OURS.try_with(Cell::get).unwrap_or(false)
}

/// Marks the calling thread as ours until the value is dropped.
///
/// Our threads hold one for life; `build` holds one while it creates a client on the caller's thread.
#[must_use]
pub(crate) fn enter() -> OurThread {
    let outer = OURS.try_with(|ours| ours.replace(true)).unwrap_or(false);
    OurThread { outer }
}

/// Restores what the thread was before [`enter`].
#[derive(Debug)]
pub(crate) struct OurThread {
    outer: bool,
}

impl Drop for OurThread {
    fn drop(&mut self) {
        let _ = OURS.try_with(|ours| ours.set(self.outer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_the_threads_own_and_nests() {
        assert!(!on_our_thread());
        {
            let _outer = enter();
            {
                let _inner = enter();
                assert!(on_our_thread());
            }
            assert!(on_our_thread(), "the inner mark must not clear the outer one");
            std::thread::spawn(|| assert!(!on_our_thread())).join().unwrap();
        }
        assert!(!on_our_thread());
    }
}
