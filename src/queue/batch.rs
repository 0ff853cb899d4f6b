//! Records that travel together, their payloads in one buffer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::Generation;
use crate::delivery::Tracked;
use crate::severity::Severity;

/// A batch is full at this size: large enough to make the hand-over rare, small enough that growing one while
/// the lock is held takes microseconds. A larger record has a batch to itself.
pub(super) const FULL_BYTES: usize = 128 * 1024;

/// And at this length, so that what is kept beside the payloads stays smaller than they are.
const FULL_RECORDS: usize = 2 * 1024;

/// What a full batch has of records, if they are of the usual size.
const USUAL_RECORDS: usize = FULL_BYTES / 256;

/// What Kafka's protocol can say of a record's length at most.
pub(super) const LONGEST: usize = i32::MAX as usize;

/// What is known about a record besides its payload.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) severity: Severity,
    /// Event time, milliseconds since the epoch: the Kafka record's timestamp.
    pub(crate) timestamp_ms: i64,
    /// When the call was made; the delivery timeout runs from here.
    pub(crate) called: Instant,
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
    generation: Generation,
    /// The number of the first of `records`; each has one more than the one before.
    number: u64,
}

/// A record in a batch, small and without a destructor, since most are not tracked.
#[derive(Clone, Copy, Debug)]
struct Queued {
    length: u32,
    severity: Severity,
    timestamp_ms: i64,
    called: Instant,
}

impl Queued {
    fn meta(&self, number: u64, tracked: Option<Arc<Tracked>>) -> Meta {
        let Queued { severity, timestamp_ms, called, .. } = *self;
        Meta { severity, timestamp_ms, called, number, tracked }
    }
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
        Some((&self.bytes[start..self.start], first.meta(number, tracked)))
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
            (payload, record.meta(self.number_of(place), tracked))
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
        if let Some(tracked) = tracked {
            self.tracked.push_back((self.records.len(), tracked));
        }
        self.bytes.extend_from_slice(payload);
        self.records.push(Queued { length: payload.len() as u32, severity, timestamp_ms, called });
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
