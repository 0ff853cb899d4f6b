//! What became of the records: outcomes, counts, reports.

mod delivered;
mod error;
mod losses;

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use self::delivered::Tracked;
pub use self::delivered::{Delivered, Delivery};
pub use self::error::{DeliveryError, DeliveryErrorKind, DropReason};
pub(crate) use self::losses::{Callback, Losses};

/// The counts of a logger, at one moment.
///
/// `submitted == delivered + failed + dropped.total() + pending` always holds: `pending` is derived. At rest, after
/// an `Ok` flush, it is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Records that passed the level filter.
    pub submitted: u64,
    /// Records that a broker has acknowledged.
    pub delivered: u64,
    /// Records that were handed to the client and not acknowledged: timed out, or refused by a broker.
    pub failed: u64,
    /// Records that were not handed to the client, or given up with it, by reason.
    pub dropped: Dropped,
    /// Records without an outcome yet: waiting, on the disk, or in flight.
    pub pending: u64,
    /// Records of an earlier process, found in the [`spool`](crate::Config::spool) at the start, or found to be missing from
    /// it. They count as submitted.
    pub recovered: u64,
    /// Records that are in the spool now. They are pending too.
    pub spooled: u64,
    /// Records that the spool's disk refused, in [`SpoolMode::WriteAhead`](crate::SpoolMode::WriteAhead): they went on in
    /// memory alone.
    pub spool_refused: u64,
    /// Extra fields left out of the payloads of records that were taken: repeats of an earlier one, beyond the 1,024th, or
    /// too large.
    pub fields_left_out: u64,
    /// Records that were taken and cut to [`max_record_bytes`](crate::Config::max_record_bytes).
    pub truncated: u64,
    /// Errors that the callback of `on_delivery_error` was not called for, because too many waited for it already, or
    /// because the record was given up together with a client that did not give it back.
    pub callbacks_missed: u64,
    /// Records that failed or were dropped and that the [`fallback`](crate::Config::fallback) has taken.
    pub fallback_written: u64,
    /// Records that failed or were dropped and that the fallback has not taken: too many waited for it already, it could
    /// not be written, the record was given up together with a client that did not give it back, or there was no payload.
    /// Records that are `recursive`, or whose formatting panicked, do not count here.
    pub fallback_missed: u64,
}

/// Records dropped, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dropped {
    /// The queue was full.
    pub queue_full: u64,
    /// The payload was larger than `max_record_bytes`, with [`Oversize::Drop`](crate::Oversize::Drop); or what cannot be
    /// cut of it was.
    pub oversize: u64,
    /// A thread of the logger's own emitted it: a Kafka client that logs about its work, say.
    pub recursive: u64,
    /// The logger had been shut down.
    pub closed: u64,
    /// Still without an outcome when `shutdown` ran out of time.
    pub shutdown: u64,
    /// An argument's `Display` panicked. The panic itself goes on to the caller.
    pub format: u64,
    /// Was in the [`spool`](crate::Config::spool), and could not be read back whole, or its file is missing.
    pub damaged: u64,
}

impl Dropped {
    /// All of them together.
    pub fn total(&self) -> u64 {
        self.queue_full + self.oversize + self.recursive + self.closed + self.shutdown + self.format + self.damaged
    }
}

/// What `shutdown` leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// The final counts.
    pub stats: Stats,
    /// Records that had no outcome in time; they are in `stats.dropped.shutdown`.
    ///
    /// A broker may still have taken some of them: those whose acknowledgement was under way.
    pub unsent: u64,
    /// Records left in the [`spool`](crate::Config::spool) for the next start. They are in `stats.pending`.
    pub spooled: u64,
    /// Whether the time ran out.
    pub timed_out: bool,
}

/// `flush` ran out of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlushError {
    pub(crate) waited: Duration,
    pub(crate) pending: u64,
}

impl FlushError {
    /// How many records had no outcome when the time ran out, among all submitted so far.
    pub fn pending(&self) -> u64 {
        self.pending
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "flush gave up after {} ms with {} records not acknowledged yet; they are kept and sent on",
            self.waited.as_millis(),
            self.pending
        )
    }
}

impl Error for FlushError {}

/// The running counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    submitted: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: [AtomicU64; 7],
    recovered: AtomicU64,
    spooled: AtomicU64,
    spool_refused: AtomicU64,
    fields_left_out: AtomicU64,
    truncated: AtomicU64,
    callbacks_missed: AtomicU64,
    fallback_written: AtomicU64,
    fallback_missed: AtomicU64,
}

impl Counters {
    /// Counts a record that passed the filter. Comes before its outcome, so that no reading sees more outcomes
    /// than records.
    pub(crate) fn submitted(&self) {
        self.submitted.fetch_add(1, Ordering::Release);
    }

    /// Records of an earlier process are submitted to this one.
    pub(crate) fn recovered(&self, records: u64) {
        self.submitted.fetch_add(records, Ordering::Release);
        self.recovered.fetch_add(records, Ordering::Relaxed);
        self.spooled(records);
    }

    pub(crate) fn spooled(&self, records: u64) {
        self.spooled.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn unspooled(&self, records: u64) {
        self.spooled.fetch_sub(records, Ordering::Relaxed);
    }

    pub(crate) fn spool_refused(&self) {
        self.spool_refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn delivered(&self, records: u64) {
        self.delivered.fetch_add(records, Ordering::Release);
    }

    pub(crate) fn failed(&self, records: u64) {
        self.failed.fetch_add(records, Ordering::Release);
    }

    pub(crate) fn dropped(&self, reason: DropReason, records: u64) {
        self.dropped[reason as usize].fetch_add(records, Ordering::Release);
    }

    pub(crate) fn fields_left_out(&self, fields: u64) {
        if fields > 0 {
            self.fields_left_out.fetch_add(fields, Ordering::Relaxed);
        }
    }

    pub(crate) fn truncated(&self) {
        self.truncated.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn callbacks_missed(&self, records: u64) {
        self.callbacks_missed.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn fallback_written(&self, records: u64) {
        self.fallback_written.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn fallback_missed(&self, records: u64) {
        self.fallback_missed.fetch_add(records, Ordering::Relaxed);
    }

    /// Reads the outcomes first, then what was submitted, and derives what is pending.
    pub(crate) fn read(&self) -> Stats {
        let dropped = |reason: DropReason| self.dropped[reason as usize].load(Ordering::Acquire);
        let dropped = Dropped {
            queue_full: dropped(DropReason::QueueFull),
            oversize: dropped(DropReason::Oversize),
            recursive: dropped(DropReason::Recursive),
            closed: dropped(DropReason::Closed),
            shutdown: dropped(DropReason::Shutdown),
            format: dropped(DropReason::Format),
            damaged: dropped(DropReason::Damaged),
        };
        let delivered = self.delivered.load(Ordering::Acquire);
        let failed = self.failed.load(Ordering::Acquire);
        let submitted = self.submitted.load(Ordering::Acquire);
        Stats {
            submitted,
            delivered,
            failed,
            dropped,
            pending: submitted.saturating_sub(delivered + failed + dropped.total()),
            recovered: self.recovered.load(Ordering::Relaxed),
            spooled: self.spooled.load(Ordering::Relaxed),
            spool_refused: self.spool_refused.load(Ordering::Relaxed),
            fields_left_out: self.fields_left_out.load(Ordering::Relaxed),
            truncated: self.truncated.load(Ordering::Relaxed),
            callbacks_missed: self.callbacks_missed.load(Ordering::Relaxed),
            fallback_written: self.fallback_written.load(Ordering::Relaxed),
            fallback_missed: self.fallback_missed.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let counters = Counters::default();
        let reasons = [
            DropReason::QueueFull,
            DropReason::Oversize,
            DropReason::Recursive,
            DropReason::Closed,
            DropReason::Shutdown,
            DropReason::Format,
            DropReason::Damaged,
        ];
        for (reason, records) in reasons.into_iter().zip(1..) {
            (0..records).for_each(|_| counters.submitted());
            counters.dropped(reason, records);
        }
        let stats = counters.read();
        let expected =
            Dropped { queue_full: 1, oversize: 2, recursive: 3, closed: 4, shutdown: 5, format: 6, damaged: 7 };
        assert_eq!((stats.dropped, stats.dropped.total(), stats.pending), (expected, 28, 0));
    }
}
