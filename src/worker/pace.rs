//! When the worker leaves the processors to the application that logs.
//!
//! Records that come one by one would cost a wake-up each, and what delivers runs on the processors of those who log. So
//! records gather, and what has gathered is handed over by turns, with pauses, as long as the queue has room for what
//! comes meanwhile and nobody waits.

use std::time::{Duration, Instant};

use crate::queue::Queue;

/// How long records gather at most before they are handed over.
const LONGEST_GATHERING: Duration = Duration::from_millis(5);

/// So many bytes of payloads, some thousand records, are handed over at once.
pub(super) const TURN: usize = 512 * 1024;

/// Or for so long, where a disk is slow: the worker has to hear its client in between.
pub(super) const LONGEST_TURN: Duration = Duration::from_millis(20);

/// After a turn the worker waits for as long as that has taken, so that it takes half of a processor at most: what delivers
/// further, a client's threads and a broker on the same machine, has the other half, and not the callers' processors. A
/// shorter pause is none: it would be over before anybody has got anything from it.
const SHORTEST_PAUSE: Duration = Duration::from_micros(200);

/// What one turn has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    Nothing,
    /// All that there was.
    All,
    /// What there was room for; there may be more.
    ToTheFull,
    /// As much as goes in one turn; there may be more.
    ATurn,
}

#[derive(Debug)]
pub(super) struct Pace {
    gathering: Duration,
    /// When the turn began.
    begun: Instant,
    /// The worker rests until then, unless the queue calls.
    until: Option<Instant>,
    /// The number of the next record when there was a pause last.
    next: u64,
}

impl Pace {
    /// Nothing waits longer than `longest` for more to come.
    pub(super) fn new(longest: Duration) -> Pace {
        Pace { gathering: LONGEST_GATHERING.min(longest), begun: Instant::now(), until: None, next: 0 }
    }

    /// Begins a turn, unless the worker rests.
    pub(super) fn begin(&mut self) -> bool {
        self.begun = Instant::now();
        self.until.is_none_or(|until| self.begun >= until)
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Decides on the rest after a turn. Where there were records, there will be more: they gather. After a part of them there
    /// is a pause, if more have come since the last one.
    pub(super) fn end(&mut self, handed: Handed, queue: &Queue) {
        let now = Instant::now();
        let rest = match handed {
            Handed::Nothing => Duration::ZERO,
            Handed::All => self.gathering,
            Handed::ToTheFull | Handed::ATurn => self.pause(now, queue),
        };
        self.until = (!rest.is_zero()).then(|| now + rest);
    }

    fn pause(&mut self, now: Instant, queue: &Queue) -> Duration {
        let Some(next) = queue.next_at_leisure() else { return Duration::ZERO };
        let logs = std::mem::replace(&mut self.next, next) != next;
        let pause = (now - self.begun).min(self.gathering);
        if logs && pause >= SHORTEST_PAUSE { pause } else { Duration::ZERO }
    }

    /// Ends the rest.
    pub(super) fn go_on(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Moment;
    use crate::config::Overflow;
    use crate::queue::Meta;
    use crate::severity::Severity;

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(60);

    fn queue() -> Queue {
        Queue::new(100, 1 << 20, Overflow::DropNewest, Arc::default())
    }

    fn log(queue: &Queue, records: usize) {
        for _ in 0..records {
            let meta =
                Meta { severity: Severity::Info, timestamp_ms: 0, called: Moment::now(), number: 0, tracked: None };
            queue.push(b"{}", meta).unwrap();
        }
    }

    /// The rest after a turn of two milliseconds, by a pace that has paused before.
    fn rest_after(handed: Handed, queue: &Queue, pace: &mut Pace) -> Option<Duration> {
        assert!(pace.begin());
        pace.begun -= Duration::from_millis(2);
        pace.end(handed, queue);
        let rest = pace.until().map(|until| until - pace.begun);
        pace.go_on();
        rest
    }

    #[test]
    fn while_others_log_the_worker_pauses_for_as_long_as_a_turn_has_taken() {
        let (queue, mut pace) = (queue(), Pace::new(LONG));
        log(&queue, 10);
        let paused = rest_after(Handed::ATurn, &queue, &mut pace).unwrap();
        // From the beginning of the turn on, that is twice.
        assert!(paused >= Duration::from_millis(4), "{paused:?}");
        assert_eq!(rest_after(Handed::ATurn, &queue, &mut pace), None, "nobody has logged since");
        log(&queue, 1);
        assert!(rest_after(Handed::ATurn, &queue, &mut pace).is_some());
    }

    #[test]
    fn a_pause_is_never_longer_than_records_may_gather() {
        let (queue, mut pace) = (queue(), Pace::new(Duration::from_millis(1)));
        log(&queue, 10);
        assert!(pace.begin());
        pace.begun -= LONG;
        pace.end(Handed::ATurn, &queue);
        assert!(pace.until().unwrap() <= Instant::now() + Duration::from_millis(1), "{pace:?}");
    }

    #[test]
    fn without_linger_the_worker_never_rests() {
        let (queue, mut pace) = (queue(), Pace::new(Duration::ZERO));
        log(&queue, 10);
        assert_eq!(rest_after(Handed::ATurn, &queue, &mut pace), None);
        assert_eq!(rest_after(Handed::All, &queue, &mut pace), None);
    }

    #[test]
    fn the_worker_does_not_pause_while_the_queue_is_half_full() {
        let (queue, mut pace) = (queue(), Pace::new(LONG));
        log(&queue, 49);
        assert!(rest_after(Handed::ATurn, &queue, &mut pace).is_some());
        log(&queue, 1);
        assert_eq!(rest_after(Handed::ATurn, &queue, &mut pace), None);
    }

    #[test]
    fn the_worker_does_not_pause_while_somebody_waits_for_a_flush_or_the_end() {
        let (queue, mut pace) = (queue(), Pace::new(LONG));
        log(&queue, 10);
        assert!(!queue.wait_settled(Instant::now()), "nobody has delivered them");
        log(&queue, 1);
        assert_eq!(rest_after(Handed::ATurn, &queue, &mut pace), None);

        let queue = self::queue();
        log(&queue, 10);
        queue.close(Instant::now() + LONG);
        assert_eq!(rest_after(Handed::ATurn, &queue, &mut pace), None);
    }

    #[test]
    fn where_all_was_handed_over_more_gathers() {
        let (queue, mut pace) = (queue(), Pace::new(LONG));
        assert!(rest_after(Handed::All, &queue, &mut pace).unwrap() >= LONGEST_GATHERING);
        assert_eq!(rest_after(Handed::Nothing, &queue, &mut pace), None);
    }
}
