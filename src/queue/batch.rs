//! Records that travel together, their payloads in one buffer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::Generation;
use crate::delivery::Tracked;
use crate::severity::Severity;

/// A batch is full at this size: large enough to make the hand-over rare, small enough that growing one while
/// the lock is held takes microseconds. A larger record has a batch to itself.
const FULL_BYTES: usize = 128 * 1024;

/// What is known about a record besides its payload.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) severity: Severity,
    /// Event time, milliseconds since the epoch: the Kafka record's timestamp.
    pub(crate) timestamp_ms: i64,
    /// When the call was made; the delivery timeout runs from here.
    pub(crate) called: Instant,
    /// Set where somebody wants to hear of this record.
    pub(crate) tracked: Option<Arc<Tracked>>,
}

#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where in `bytes` the first record starts.
    start: usize,
    records: VecDeque<Queued>,
    generation: Generation,
}

#[derive(Debug)]
struct Queued {
    length: usize,
    meta: Meta,
}

impl Batch {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The payload bytes of the records that are left.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation
    }

    /// The oldest record that is left.
    pub(crate) fn first(&self) -> Option<(&[u8], &Meta)> {
        let first = self.records.front()?;
        Some((&self.bytes[self.start..self.start + first.length], &first.meta))
    }

    /// Takes the oldest record out: the transport answers for it now.
    pub(crate) fn pop(&mut self) -> Option<(&[u8], Meta)> {
        let first = self.records.pop_front()?;
        if let Some(tracked) = &first.meta.tracked {
            tracked.hand_over();
        }
        let start = self.start;
        self.start += first.length;
        Some((&self.bytes[start..self.start], first.meta))
    }

    /// Takes all of it and leaves `spare` in its place: the transport answers for these records now.
    pub(crate) fn take_all(&mut self, spare: Batch) -> Batch {
        self.tracked().for_each(|tracked| tracked.hand_over());
        std::mem::replace(self, spare)
    }

    /// Takes the oldest `count` records out, into a batch of their own.
    pub(crate) fn split_front(&mut self, count: usize) -> Batch {
        let count = count.min(self.len());
        let mut front = Batch { generation: self.generation, ..Batch::default() };
        let length: usize = self.records.iter().take(count).map(|record| record.length).sum();
        front.bytes.extend_from_slice(&self.bytes[self.start..self.start + length]);
        front.records.extend(self.records.drain(..count));
        self.start += length;
        front
    }

    /// The records that are left, the oldest first.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&[u8], &Meta)> {
        let mut rest = &self.bytes[self.start..];
        self.records.iter().map(move |record| {
            let (payload, after) = rest.split_at(record.length);
            rest = after;
            (payload, &record.meta)
        })
    }

    /// Whether somebody wants to hear of one of the records.
    pub(crate) fn is_tracked(&self) -> bool {
        self.tracked().next().is_some()
    }

    /// The records that somebody wants to hear of.
    pub(super) fn tracked(&self) -> impl Iterator<Item = &Arc<Tracked>> {
        self.records.iter().filter_map(|record| record.meta.tracked.as_ref())
    }

    /// Whether a record of this length still fits in, where batches have at most `most` records and bytes.
    pub(super) fn takes(&self, length: usize, generation: Generation, most: (usize, usize)) -> bool {
        let (records, bytes) = (most.0, most.1.min(FULL_BYTES));
        self.generation == generation
            && (self.is_empty() || (self.len() < records && self.bytes.len() + length <= bytes))
    }

    pub(crate) fn start(&mut self, generation: Generation) {
        debug_assert!(self.is_empty());
        self.generation = generation;
    }

    pub(crate) fn push(&mut self, payload: &[u8], meta: Meta) {
        self.bytes.extend_from_slice(payload);
        self.records.push_back(Queued { length: payload.len(), meta });
    }

    /// The empty batch with its buffers, unless a giant has blown them up.
    pub(crate) fn emptied(mut self) -> Option<Batch> {
        if self.bytes.capacity() > 2 * FULL_BYTES {
            return None;
        }
        self.bytes.clear();
        self.records.clear();
        self.start = 0;
        Some(self)
    }
}
