//! One line that says how many records were dropped, and one when they arrive again; not one a record.

use std::fmt::{self, Write as _};
use std::time::{Duration, Instant, SystemTime};

use super::Shape;
use crate::delivery::{Dropped, Stats};
use crate::format::{Buffer, Entry, EventTime};
use crate::severity::Severity;

/// The target of the notices, and their logger where no name is set.
pub(super) const TARGET: &str = "kafka_log";

/// How long to sleep where nothing is expected.
const LONG: Duration = Duration::from_secs(3_600);

/// How often there is something to say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two notices of dropped records.
    pub(super) every: Duration,
    /// Records arrive again when some have, and for so long none was dropped.
    pub(super) quiet: Duration,
    /// How often the counts are looked at meanwhile.
    pub(super) look: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { every: Duration::from_secs(10), quiet: Duration::from_secs(1), look: Duration::from_millis(250) }
    }
}

#[derive(Debug)]
pub(super) struct Notices {
    pace: Pace,
    /// All that was lost, as it was last seen.
    seen: Lost,
    trouble: Option<Trouble>,
    last: Option<Instant>,
    /// The last words have been asked for: no record will arrive.
    over: bool,
}

/// Since the first record was dropped that no notice of recovery has told of.
#[derive(Debug)]
struct Trouble {
    since: SystemTime,
    before: Lost,
    /// When the last one was seen, and how many had arrived by then.
    last: Instant,
    delivered: u64,
    /// How many the last notice told of.
    told: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    Dropped { since: SystemTime, lost: Lost },
    Recovered { since: SystemTime, records: u64 },
}

/// What was lost, by the names in [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost([u64; 7]);

const REASONS: [&str; 7] = ["failed", "queue_full", "oversize", "closed", "shutdown", "format", "damaged"];

impl Lost {
    fn of(stats: &Stats) -> Lost {
        let Dropped { queue_full, oversize, closed, shutdown, format, damaged, .. } = stats.dropped;
        Lost([stats.failed, queue_full, oversize, closed, shutdown, format, damaged])
    }

    fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn since(&self, before: &Lost) -> Lost {
        let mut lost = self.0;
        lost.iter_mut().zip(before.0).for_each(|(lost, before)| *lost = lost.saturating_sub(before));
        Lost(lost)
    }
}

impl Notices {
    pub(super) fn new(pace: Pace) -> Notices {
        Notices { pace, seen: Lost::default(), trouble: None, last: None, over: false }
    }

    /// What there is to say now; at the last, whatever has not been said.
    pub(super) fn look(&mut self, now: Instant, stats: &Stats, is_last: bool) -> Option<Notice> {
        self.over |= is_last;
        let seen = Lost::of(stats);
        if seen.total() > self.seen.total() {
            let trouble = self.trouble.get_or_insert_with(|| Trouble {
                since: SystemTime::now(),
                before: self.seen,
                last: now,
                delivered: 0,
                told: 0,
            });
            (trouble.last, trouble.delivered) = (now, stats.delivered);
            self.seen = seen;
        }
        let trouble = self.trouble.as_mut()?;
        let (since, lost) = (trouble.since, self.seen.since(&trouble.before));
        let due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.pace.every);
        if lost.total() > trouble.told && (due || is_last) {
            trouble.told = lost.total();
            self.last = Some(now);
            return Some(Notice::Dropped { since, lost });
        }
        let is_quiet = now.saturating_duration_since(trouble.last) >= self.pace.quiet;
        if is_quiet && stats.delivered > trouble.delivered {
            self.trouble = None;
            return Some(Notice::Recovered { since, records: lost.total() });
        }
        None
    }

    /// When to look again, if nobody calls.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        let Some(trouble) = &self.trouble else { return LONG };
        if !self.over {
            return self.pace.look;
        }
        match self.last {
            Some(last) if self.seen.since(&trouble.before).total() > trouble.told => {
                self.pace.every.saturating_sub(now.saturating_duration_since(last))
            }
            _ => LONG,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Dropped { since, lost } => {
                let records = lost.total();
                let noun = if records == 1 { "record" } else { "records" };
                write!(f, "{records} {noun} dropped since {}:", humantime::format_rfc3339_seconds(*since))?;
                let mut between = ' ';
                for (reason, count) in REASONS.iter().zip(lost.0).filter(|(_, count)| *count > 0) {
                    if between == ',' {
                        f.write_str(", ")?;
                    } else {
                        f.write_char(between)?;
                    }
                    between = ',';
                    write!(f, "{reason} {count}")?;
                }
                Ok(())
            }
            Notice::Recovered { since, records } => {
                let since = humantime::format_rfc3339_seconds(*since);
                let were = if *records == 1 { "was" } else { "were" };
                write!(f, "records arrive again; {records} {were} dropped since {since}")
            }
        }
    }
}

impl Notice {
    /// A payload like those of records.
    pub(super) fn payload(&self, shape: &Shape) -> Vec<u8> {
        let entry = Entry {
            time: EventTime::now(),
            severity: Severity::Warning,
            logger_name: shape.logger_name.as_deref(),
            target: Some(TARGET),
            message: format_args!("{self}"),
            fields: &[("", ""); 0],
        };
        let mut payload = Buffer::default();
        // Half a kilobyte: it may be larger than a small limit for records.
        shape.format.write(&entry, shape.limit.max(4_096), &mut payload);
        payload.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace =
        Pace { every: Duration::from_secs(10), quiet: Duration::from_secs(1), look: Duration::from_millis(250) };

    fn stats(failed: u64, queue_full: u64, delivered: u64) -> Stats {
        let mut stats = Stats { failed, delivered, ..Stats::default() };
        stats.dropped.queue_full = queue_full;
        // None of these is a loss to be told of.
        stats.dropped.recursive = 1_000;
        stats
    }

    #[test]
    fn the_first_loss_is_told_at_once_and_the_next_ones_after_a_while() {
        let (mut notices, begin) = (Notices::new(PACE), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(notices.look(at(0), &stats(0, 0, 9), false), None);
        assert_eq!(notices.patience(at(0)), LONG);
        let first = notices.look(at(1), &stats(1, 0, 9), false).unwrap().to_string();
        assert!(first.starts_with("1 record dropped since 20") && first.ends_with("Z: failed 1"), "{first}");
        for second in 2..11 {
            assert_eq!(notices.look(at(second), &stats(1, second, 9), false), None, "at {second} s");
        }
        let second = notices.look(at(11), &stats(1, 10, 9), false).unwrap().to_string();
        assert!(second.starts_with("11 records dropped since 20") && second.ends_with("Z: failed 1, queue_full 10"));
        assert_eq!(notices.look(at(30), &stats(1, 10, 9), false), None, "nothing new");
    }

    #[test]
    fn recovery_is_told_once_when_records_arrive_and_none_is_dropped() {
        let (mut notices, begin) = (Notices::new(PACE), Instant::now());
        let at = |millis| begin + Duration::from_millis(millis);
        notices.look(at(0), &stats(5, 0, 9), false).unwrap();
        assert_eq!(notices.look(at(5_000), &stats(5, 0, 9), false), None, "none has arrived");
        // One arrives between two that are dropped.
        assert_eq!(notices.look(at(6_000), &stats(7, 0, 10), false), None);
        assert_eq!(notices.look(at(6_500), &stats(7, 0, 11), false), None, "too early");
        let recovered = notices.look(at(7_000), &stats(7, 0, 11), false).unwrap().to_string();
        assert!(recovered.starts_with("records arrive again; 7 were dropped since 20"), "{recovered}");
        assert_eq!(notices.look(at(8_000), &stats(7, 0, 20), false), None);
        // Another trouble counts from nothing, and keeps the distance to the last notice of its kind.
        assert_eq!(notices.look(at(9_000), &stats(8, 0, 20), false), None);
        let next = notices.look(at(10_000), &stats(8, 0, 20), false).unwrap().to_string();
        assert!(next.starts_with("1 record dropped") && next.ends_with("failed 1"), "{next}");
    }

    #[test]
    fn the_last_words_are_not_held_back() {
        let (mut notices, begin) = (Notices::new(PACE), Instant::now());
        notices.look(begin, &stats(1, 0, 0), false).unwrap();
        assert_eq!(notices.look(begin, &stats(3, 0, 0), false), None);
        let last = notices.look(begin, &stats(3, 0, 0), true).unwrap().to_string();
        assert!(last.starts_with("3 records"), "{last}");
        assert_eq!(notices.look(begin, &stats(3, 0, 0), true), None);
        assert_eq!(notices.patience(begin), LONG, "no record will arrive");
    }
}
