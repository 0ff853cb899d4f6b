//! The two clocks of a log call, for the price of one.
//!
//! A record has an event time, by the system's clock, and a moment that its delivery timeout runs from, by the
//! monotonic one. A reading of either costs as much as writing the record's message, so a thread reads both only
//! now and then, and takes what has passed since from the first.

use std::cell::Cell;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::format::EventTime;

/// How long a thread goes by one reading of both, in microseconds. If the system's clock is set in that time, the moment
/// may be wrong by so much, and no more.
const LONGEST: u64 = 100_000;

/// A moment of the monotonic clock, in microseconds: smaller than an `Instant`, and reckoned with in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

/// What moments count from, and how much is between that and the first one: so that there are some before it.
static ORIGIN: OnceLock<Instant> = OnceLock::new();
const BEFORE: Duration = Duration::from_secs(3600);

impl Moment {
    pub(crate) fn now() -> Moment {
        Moment::from(Instant::now())
    }

    pub(crate) fn instant(self) -> Instant {
        let origin = *ORIGIN.get_or_init(Instant::now);
        let since = Duration::from_micros(self.0);
        match since.checked_sub(BEFORE) {
            Some(after) => origin.checked_add(after).unwrap_or(origin),
            None => origin.checked_sub(BEFORE - since).unwrap_or(origin),
        }
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.until(Moment::now())
    }

    /// What is between this and a later moment; nothing if that is earlier.
    pub(crate) fn until(self, later: Moment) -> Duration {
        Duration::from_micros(later.0.saturating_sub(self.0))
    }

    /// Microseconds since an earlier moment.
    pub(crate) fn micros_since(self, earlier: Moment) -> Option<u64> {
        self.0.checked_sub(earlier.0)
    }

    pub(crate) fn later_by(self, micros: u64) -> Moment {
        Moment(self.0.saturating_add(micros))
    }

    pub(crate) fn earlier_by(self, micros: u64) -> Moment {
        Moment(self.0.saturating_sub(micros))
    }
}

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Moment {
        let origin = *ORIGIN.get_or_init(Instant::now);
        let since = match instant.checked_duration_since(origin) {
            Some(after) => BEFORE + after,
            None => BEFORE.saturating_sub(origin.duration_since(instant)),
        };
        Moment(since.as_micros() as u64)
    }
}

/// When this call is made, by both clocks.
pub(crate) fn now() -> (EventTime, Moment) {
    thread_local! {
        static BOTH: Cell<Option<(EventTime, Moment)>> = const { Cell::new(None) };
    }

    let time = EventTime::now();
    if let Some((then, moment)) = BOTH.try_with(Cell::get).ok().flatten()
        && let Some(passed) = time.micros_since(then).filter(|passed| *passed <= LONGEST)
    {
        return (time, moment.later_by(passed));
    }
    let moment = Moment::now();
    let _ = BOTH.try_with(|both| both.set(Some((time, moment))));
    (time, moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_is_the_monotonic_clocks_within_the_bound() {
        let longest = Duration::from_micros(LONGEST);
        let begun = Instant::now();
        let mut last = now();
        while begun.elapsed() < 3 * longest {
            let next = now();
            let (moment, real) = (next.1.instant(), Instant::now());
            assert!(moment <= real + longest && moment + longest >= real, "{next:?} at {real:?}");
            assert!(next.1.later_by(LONGEST) >= last.1);
            last = next;
        }
    }

    #[test]
    fn a_moment_is_its_instant_to_the_microsecond_before_the_first_one_too() {
        let now = Instant::now();
        for instant in [now, now + Duration::from_secs(3600 * 24 * 400), now - Duration::from_secs(60)] {
            let back = Moment::from(instant).instant();
            assert!(instant.duration_since(back) < Duration::from_micros(1) && back <= instant, "{instant:?} {back:?}");
        }
    }
}
