//! What this process has used.

use std::mem::MaybeUninit;
use std::time::Duration;

/// Processor time of all threads, user and system.
pub(crate) fn cpu() -> Duration {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call fills the struct it is given a pointer to, and zeros are a valid one too.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1_000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Resident memory now.
pub(crate) fn resident_kib() -> u64 {
    status("VmRSS:")
}

/// The most resident memory since the beginning, or since it was forgotten.
pub(crate) fn peak_kib() -> u64 {
    status("VmHWM:")
}

/// Has the kernel count the most resident memory from now on.
pub(crate) fn forget_peak() {
    // Where it cannot be forgotten, the figure is the larger for it.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
