//! Pauses between attempts.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

use crate::deadline;

/// The pause between attempts: longer each time, and never quite the same.
#[derive(Debug)]
pub(super) struct Pause {
    shortest: Duration,
    longest: Duration,
    current: Duration,
    until: Option<Instant>,
}

impl Pause {
    pub(super) fn new((shortest, longest): (Duration, Duration)) -> Pause {
        Pause { shortest, longest, current: shortest, until: None }
    }

    /// The next pause's length: from half of the current step to the whole of it.
    pub(super) fn next(&mut self) -> Duration {
        let step = self.current;
        self.current = (step * 2).min(self.longest);
        step / 2 + (step / 2).mul_f64(f64::from(chance()) / f64::from(u32::MAX))
    }

    pub(super) fn begin(&mut self) {
        let pause = self.next();
        self.until = Some(deadline::after(pause));
    }

    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    pub(super) fn reset(&mut self) {
        self.current = self.shortest;
        self.until = None;
    }
}

/// A number that nobody can foresee.
pub(super) fn chance() -> u32 {
    // A hasher's random keys are what std offers as chance; no more is needed to spread attempts.
    RandomState::new().build_hasher().finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_begin_again_after_success() {
        let mut pause = Pause::new((Duration::from_millis(100), Duration::from_secs(1)));
        let pauses: Vec<Duration> = (0..6).map(|_| pause.next()).collect();
        for (pause, step) in pauses.iter().zip([100, 200, 400, 800, 1000, 1000]) {
            assert!((step / 2..=step).contains(&pause.as_millis()), "{pauses:?}");
        }
        pause.reset();
        assert!(pause.next() <= Duration::from_millis(100));
    }
}
