//! The exit hook: a last word when the process ends by returning from `main` or by `process::exit`.
#![allow(unsafe_code)] // `atexit` is C's, and the one portable place that both ways of ending pass.

use std::panic::catch_unwind;
use std::sync::OnceLock;

static HOOK: OnceLock<Hook> = OnceLock::new();

struct Hook {
    run: fn(),
    /// The process that registered it. A child of a bare `fork` inherits the hook and none of our threads.
    process: u32,
}

/// Registers what to run at the end, once a process. Hooks run in reverse order, so those of libraries loaded and set
/// up before (OpenSSL's, say) run after this one.
pub(crate) fn at_exit(run: fn()) {
    let mut registered = true;
    HOOK.get_or_init(|| {
        registered = false;
        Hook { run, process: std::process::id() }
    });
    if !registered {
        // SAFETY: `atexit` takes a function that lives as long as the process; `hook` is static and does not
        // unwind. It fails for lack of memory alone, and then the guard's drop is still there.
        unsafe { libc::atexit(hook) };
    }
}

extern "C" fn hook() {
    if let Some(hook) = HOOK.get()
        && hook.process == std::process::id()
    {
        let _ = catch_unwind(hook.run);
    }
}
