//! When the records of a batch were logged, and how severe they are: eight bytes for each, since there may be as many as fit
//! into the queue.
//!
//! Records of a batch are logged near each other, so what is kept of each is how far it is from the first.

use crate::clock::Moment;
use crate::severity::Severity;

/// The first call of a batch is so many microseconds after what its records count from: threads race, and one that called a
/// little earlier may come a little later.
const RACE: u64 = 1_000_000;

/// The stamps of a batch's records.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    /// What the records count from: a moment, and the first one's timestamp.
    begin: Option<(Moment, i64)>,
    /// The records that are too far from it, by their place: read back from a disk, or the clock was set.
    others: Vec<(usize, Moment, i64)>,
}

/// What is kept of one record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// Microseconds; [`BY_ITSELF`] where that, or the time, does not fit.
    called: u32,
    /// Milliseconds times eight, and the severity's place in [`Severity::ALL`].
    time_and_severity: i32,
}

/// The record is one of the others.
const BY_ITSELF: u32 = u32::MAX;

impl Stamps {
    /// Notes the record at this place, which is behind all that are noted.
    #[inline]
    pub(super) fn add(&mut self, place: usize, severity: Severity, called: Moment, timestamp_ms: i64) -> Stamp {
        let (begin, first_ms) = *self.begin.get_or_insert_with(|| (called.earlier_by(RACE), timestamp_ms));
        let micros = called.micros_since(begin).and_then(|micros| u32::try_from(micros).ok());
        let time = timestamp_ms.checked_sub(first_ms).and_then(|time| i32::try_from(time).ok());
        match (micros, time.and_then(|time| time.checked_mul(8))) {
            (Some(called), Some(time)) if called != BY_ITSELF => {
                Stamp { called, time_and_severity: time | severity as i32 }
            }
            _ => {
                self.others.push((place, called, timestamp_ms));
                Stamp { called: BY_ITSELF, time_and_severity: severity as i32 }
            }
        }
    }

    /// What was noted of the record at this place.
    pub(super) fn of(&self, place: usize, stamp: Stamp) -> (Severity, Moment, i64) {
        let Stamp { called, time_and_severity } = stamp;
        let severity = Severity::ALL[(time_and_severity & 7) as usize % Severity::ALL.len()];
        if called == BY_ITSELF
            && let Ok(at) = self.others.binary_search_by_key(&place, |(place, ..)| *place)
        {
            let (_, called, timestamp_ms) = self.others[at];
            return (severity, called, timestamp_ms);
        }
        let (begin, first_ms) = self.begin.unwrap_or_else(|| (Moment::now(), 0));
        (severity, begin.later_by(called.into()), first_ms.saturating_add(i64::from(time_and_severity >> 3)))
    }

    /// Those of the records from one place up to another, for a batch that begins with the first of them. The ones before
    /// are of no use any more.
    pub(super) fn split_front(&mut self, from: usize, to: usize) -> Stamps {
        let others = self.others.partition_point(|(place, ..)| *place < to);
        let others = self.others.drain(..others);
        let others =
            others.filter_map(|(place, called, time)| Some((place.checked_sub(from)?, called, time))).collect();
        Stamps { begin: self.begin, others }
    }

    pub(super) fn clear(&mut self) {
        self.begin = None;
        self.others.clear();
    }
}
