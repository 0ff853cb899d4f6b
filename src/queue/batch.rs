//! Records that travel together, their payloads in one buffer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Generation;
use super::stamps::{Stamp, Stamps};
use crate::clock::Moment;
use crate::delivery::Tracked;
use crate::severity::Severity;

/// A batch is full at this size: large enough to make the hand-over rare, small enough that growing one while
/// the lock is held takes microseconds. A larger record has a batch to itself.
pub(super) const FULL_BYTES: usize = 128 * 1024;

/// And at this length, so that what is kept beside the payloads stays smaller than they are.
const FULL_RECORDS: usize = 2 * 1024;

/// What a full batch has of records, if they are of the usual size.
const USUAL_RECORDS: usize = FULL_BYTES / 128;

/// What Kafka's protocol can say of a record's length at most.
pub(super) const LONGEST: usize = i32::MAX as usize;

/// What is known about a record besides its payload.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) severity: Severity,
    /// Event time, milliseconds since the epoch: the Kafka record's timestamp.
    pub(crate) timestamp_ms: i64,
    /// When the call was made; the delivery timeout runs from here.
    pub(crate) called: Moment,
    /// Its number in the order of the queue, once it has come out of that.
    pub(crate) number: u64,
    /// Set where somebody wants to hear of this record.
    pub(crate) tracked: Option<Arc<Tracked>>,
}

#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where in `bytes` the first record starts that is left.
    start: usize,
    records: Vec<Queued>,
    /// Where in `records` it is.
    next: usize,
    /// The tracked ones among them, by their place in `records`.
    tracked: VecDeque<(usize, Arc<Tracked>)>,
    stamps: Stamps,
    generation: Generation,
    /// The number of the first of `records`; each has one more than the one before.
    number: u64,
}

/// A record in a batch: small, and without a destructor, since most are not tracked.
#[derive(Clone, Copy, Debug)]
struct Queued {
    length: u32,
    stamp: Stamp,
}

impl Batch {
    /// An empty one that will be filled: its buffers need not grow on the way.
    pub(crate) fn roomy() -> Batch {
        Batch { bytes: Vec::with_capacity(FULL_BYTES), records: Vec::with_capacity(USUAL_RECORDS), ..Batch::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.next == self.records.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len() - self.next
    }

    /// The payload bytes of the records that are left.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// The oldest record that is left.
    pub(crate) fn first(&self) -> Option<(&[u8], Meta)> {
        self.records().next()
    }

    /// Takes the oldest record out: the transport answers for it now.
    pub(crate) fn pop(&mut self) -> Option<(&[u8], Meta)> {
        let first = *self.records.get(self.next)?;
        let tracked = match self.tracked.front() {
            Some((place, _)) if *place == self.next => self.tracked.pop_front().map(|(_, tracked)| tracked),
            _ => None,
        };
        if let Some(tracked) = &tracked {
            tracked.hand_over();
        }
        let (start, number) = (self.start, self.number_of(self.next));
        self.next += 1;
        self.start += first.length as usize;
        let meta = self.meta(number, first.stamp, tracked);
        Some((&self.bytes[start..self.start], meta))
    }

    /// Takes all of it and leaves `spare` in its place: the transport answers for these records now.
    pub(crate) fn take_all(&mut self, spare: Batch) -> Batch {
        self.tracked().for_each(|tracked| tracked.hand_over());
        std::mem::replace(self, spare)
    }

    /// Takes the oldest `count` records out, into a batch of their own.
    pub(crate) fn split_front(&mut self, count: usize) -> Batch {
        let end = self.next + count.min(self.len());
        let taken = &self.records[self.next..end];
        let length: usize = taken.iter().map(|record| record.length as usize).sum();
        let tracked = self.tracked.partition_point(|(place, _)| *place < end);
        let front = Batch {
            bytes: self.bytes[self.start..self.start + length].to_vec(),
            start: 0,
            records: taken.to_vec(),
            next: 0,
            tracked: self.tracked.drain(..tracked).map(|(place, tracked)| (place - self.next, tracked)).collect(),
            stamps: self.stamps.split_front(self.next, end),
            generation: self.generation,
            number: self.number_of(self.next),
        };
        self.next = end;
        self.start += length;
        front
    }

    /// The records that are left, the oldest first.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&[u8], Meta)> {
        let mut rest = &self.bytes[self.start..];
        let mut tracked = self.tracked.iter().peekable();
        self.records.iter().enumerate().skip(self.next).map(move |(place, record)| {
            let (payload, after) = rest.split_at(record.length as usize);
            rest = after;
            let tracked = tracked.next_if(|(at, _)| *at == place).map(|(_, tracked)| Arc::clone(tracked));
            (payload, self.meta(self.number_of(place), record.stamp, tracked))
        })
    }

    /// Whether somebody wants to hear of one of the records.
    pub(crate) fn is_tracked(&self) -> bool {
        !self.tracked.is_empty()
    }

    /// The records that somebody wants to hear of.
    pub(super) fn tracked(&self) -> impl Iterator<Item = &Arc<Tracked>> {
        self.tracked.iter().map(|(_, tracked)| tracked)
    }

    /// Whether a record of this length still fits in, where batches have at most `most` records and bytes.
    pub(super) fn takes(&self, length: usize, generation: Generation, most: (usize, usize)) -> bool {
        let (records, bytes) = (most.0.min(FULL_RECORDS), most.1.min(FULL_BYTES));
        self.generation == generation
            && (self.is_empty() || (self.len() < records && self.bytes.len() + length <= bytes))
    }

    pub(crate) fn start(&mut self, generation: Generation) {
        debug_assert!(self.is_empty());
        self.generation = generation;
    }

    /// The next record in it has this number.
    pub(super) fn number_from(&mut self, number: u64) {
        debug_assert!(self.records.is_empty());
        self.number = number;
    }

    /// The number that comes behind its last record's.
    pub(super) fn next_number(&self) -> u64 {
        self.number_of(self.records.len())
    }

    fn number_of(&self, place: usize) -> u64 {
        self.number + place as u64
    }

    /// Adds a record, of [`LONGEST`] bytes at most.
    pub(crate) fn push(&mut self, payload: &[u8], meta: Meta) {
        let Meta { severity, timestamp_ms, called, tracked, number: _ } = meta;
        let place = self.records.len();
        if let Some(tracked) = tracked {
            self.tracked.push_back((place, tracked));
        }
        self.bytes.extend_from_slice(payload);
        let stamp = self.stamps.add(place, severity, called, timestamp_ms);
        self.records.push(Queued { length: payload.len() as u32, stamp });
    }

    fn meta(&self, number: u64, stamp: Stamp, tracked: Option<Arc<Tracked>>) -> Meta {
        let (severity, called, timestamp_ms) = self.stamps.of((number - self.number) as usize, stamp);
        Meta { severity, timestamp_ms, called, number, tracked }
    }

    /// The empty batch with its buffers, where they are as large as those of [`roomy`](Batch::roomy), and no giant has
    /// blown them up.
    pub(crate) fn emptied(mut self) -> Option<Batch> {
        let bytes = self.bytes.capacity();
        if !(FULL_BYTES..=2 * FULL_BYTES).contains(&bytes) || self.records.capacity() > 2 * FULL_RECORDS {
            return None;
        }
        self.bytes.clear();
        self.records.clear();
        self.tracked.clear();
        self.stamps.clear();
        (self.start, self.next) = (0, 0);
        Some(self)
    }

    /// Moves to buffers that are no larger than they must be, where much of the old ones is empty; gives those back.
    pub(super) fn fitted(&mut self) -> Option<Batch> {
        if self.bytes.len() > self.bytes.capacity() / 2 {
            return None;
        }
        let fitted = self.split_front(self.len());
        std::mem::replace(self, fitted).emptied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    /// Calls are some hours ago to some hours ahead, event times any: both near each other as a rule.
    fn metas() -> impl Strategy<Value = Vec<(usize, i64, i64)>> {
        let called = prop_oneof![8 => -2_000_000..2_000_000_i64, 1 => -5_000_000_000..20_000_000_000_i64];
        let time = prop_oneof![8 => 0..100_000_i64, 1 => -300_000_000..300_000_000_i64, 1 => any::<i64>()];
        proptest::collection::vec((0..6_usize, called, time), 1..60)
    }

    proptest! {
        #[test]
        fn any_record_comes_out_as_it_went_in(metas in metas(), take in 0..40_usize, split in 0..40_usize) {
            let now = Moment::from(Instant::now() + Duration::from_secs(3_600));
            let metas: Vec<(Severity, Moment, i64)> = metas.into_iter().map(|(severity, called, time)| {
                let moved = called.unsigned_abs();
                let called = if called < 0 { now.earlier_by(moved) } else { now.later_by(moved) };
                (Severity::ALL[severity], called, time)
            }).collect();
            let mut batch = Batch::roomy();
            batch.number_from(7);
            for (n, (severity, called, timestamp_ms)) in metas.iter().enumerate() {
                let (severity, called, timestamp_ms) = (*severity, *called, *timestamp_ms);
                batch.push(n.to_string().as_bytes(), Meta { severity, timestamp_ms, called, number: 0, tracked: None });
            }
            let mut out = Vec::new();
            let mut note = |payload: &[u8], meta: Meta| {
                let n = out.len();
                assert_eq!((payload, meta.number), (n.to_string().as_bytes(), 7 + n as u64));
                out.push((meta.severity, meta.called, meta.timestamp_ms));
            };
            for _ in 0..take.min(batch.len()) {
                let (payload, meta) = batch.pop().unwrap();
                note(payload, meta);
            }
            let front = batch.split_front(split);
            for (payload, meta) in front.records().chain(batch.records()) {
                note(payload, meta);
            }
            prop_assert_eq!(out, metas);
        }
    }

    #[test]
    fn a_batch_that_is_used_again_has_nothing_of_its_last_records() {
        let meta =
            |called, timestamp_ms| Meta { severity: Severity::Error, timestamp_ms, called, number: 0, tracked: None };
        let now = Moment::now();
        let mut batch = Batch::roomy();
        batch.push(b"a", meta(now, 5));
        batch.push(b"b", meta(now, i64::MAX));
        let mut batch = batch.emptied().unwrap();
        batch.push(b"c", meta(now, 6));
        batch.push(b"d", meta(now.later_by(3), 7));
        let out: Vec<_> = batch.records().map(|(_, meta)| (meta.called, meta.timestamp_ms)).collect();
        assert_eq!(out, [(now, 6), (now.later_by(3), 7)]);
    }

    #[test]
    fn what_is_kept_beside_a_payload_is_small() {
        assert_eq!(size_of::<Queued>(), 12);
    }
}
