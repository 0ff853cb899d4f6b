//! Moments by which something ends.

use std::time::{Duration, Instant};

/// Longer than any wait that is meant, shorter than what overflows a clock.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The moment `timeout` from now, for any timeout: `Duration::MAX` is ten years.
pub(crate) fn after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout.min(LONGEST)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_timeout_overflows() {
        assert!(after(Duration::MAX) > Instant::now() + Duration::from_secs(1_000_000));
    }
}
