//! The two clocks of a log call, for the price of one.
//!
//! A record has an event time, by the system's clock, and a moment that its delivery timeout runs from, by the
//! monotonic one. A reading of either costs as much as writing the record's message, so a thread reads both only
//! now and then, and takes what has passed since from the first.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::format::EventTime;

/// How long a thread goes by one reading of both. If the system's clock is set in that time, the moment may be wrong
/// by so much, and no more.
const LONGEST: Duration = Duration::from_millis(100);

/// When this call is made, by both clocks.
pub(crate) fn now() -> (EventTime, Instant) {
    thread_local! {
        static BOTH: Cell<Option<(EventTime, Instant)>> = const { Cell::new(None) };
    }

    let time = EventTime::now();
    let known = BOTH.try_with(Cell::get).ok().flatten();
    if let Some((then, moment)) = known
        && let Some(passed) = time.since(then).filter(|passed| *passed <= LONGEST)
        && let Some(moment) = moment.checked_add(passed)
    {
        return (time, moment);
    }
    let moment = Instant::now();
    let _ = BOTH.try_with(|both| both.set(Some((time, moment))));
    (time, moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_is_the_monotonic_clocks_within_the_bound() {
        let begun = Instant::now();
        let mut last = now();
        while begun.elapsed() < 3 * LONGEST {
            let next = now();
            let real = Instant::now();
            assert!(next.1 <= real + LONGEST && next.1 + LONGEST >= real, "{next:?} at {real:?}");
            assert!(next.1 + LONGEST >= last.1);
            last = next;
        }
    }
}
