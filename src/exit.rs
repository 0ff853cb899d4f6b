//! The exit hook: a flush when the process ends by returning from `main` or by `process::exit`.
#![allow(unsafe_code)] // `atexit` is C's, and the one portable place that both ways of ending pass.

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::global;

/// The process that registered the hook. A child of a bare `fork` inherits the hook and none of our threads.
static REGISTERED_BY: AtomicU32 = AtomicU32::new(0);

/// Registers the hook, once a process. Hooks run in reverse order, so those of libraries loaded and set up before
/// (OpenSSL's, say) run after ours.
pub(crate) fn flush_at_exit() {
    let process = std::process::id();
    if REGISTERED_BY.swap(process, Ordering::Relaxed) != process {
        // SAFETY: `atexit` takes a function that lives as long as the process; `hook` is static and does not
        // unwind. It fails for lack of memory alone, and then the guard's drop is still there.
        unsafe { libc::atexit(hook) };
    }
}

extern "C" fn hook() {
    if REGISTERED_BY.load(Ordering::Relaxed) == std::process::id() {
        let _ = catch_unwind(global::last_flush);
    }
}
