//! Records that go to one partition in one request.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use crate::delivery::DeliveryErrorKind;
use crate::queue::{Generation, Meta};
use crate::transport::{Ack, Failure, Outcome};

/// What a record adds to its payload in a message set of version 0: offset, size, CRC, magic, attributes, and the
/// lengths of key and value. Kafka's later formats take less.
const OVERHEAD: usize = 26;

/// A bound for loads of tiny records.
const MOST_RECORDS: usize = 10_000;

/// In the place of a partition before the first attempt.
const NONE_YET: i32 = -1;

/// A load that still grows.
#[derive(Debug, Default)]
pub(super) struct Filling {
    cargo: Cargo,
}

#[derive(Debug, Default)]
struct Cargo {
    bytes: Vec<u8>,
    records: Vec<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    payload: Range<usize>,
    generation: Generation,
    meta: Meta,
}

impl Loaded {
    fn outcome(&self, result: Result<Ack, Failure>) -> Outcome {
        Outcome::of_one(self.generation, self.payload.len(), self.meta.clone(), result)
    }
}

impl Filling {
    /// Whether a record of this length fits in; an empty load takes any.
    pub(super) fn takes(&self, length: usize, most_bytes: usize) -> bool {
        let records = self.cargo.records.len();
        let size = self.cargo.bytes.len() + length + (records + 1) * OVERHEAD;
        records == 0 || (records < MOST_RECORDS && size <= most_bytes)
    }

    pub(super) fn push(&mut self, payload: &[u8], meta: Meta, generation: Generation) {
        let start = self.cargo.bytes.len();
        self.cargo.bytes.extend_from_slice(payload);
        self.cargo.records.push(Loaded { payload: start..start + payload.len(), generation, meta });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cargo.records.is_empty()
    }

    /// How long ago the first record's call was; nothing for an empty load.
    pub(super) fn oldest_age(&self) -> Duration {
        self.cargo.records.first().map_or(Duration::ZERO, |first| first.meta.called.elapsed())
    }

    /// The load as it is now, unless it is empty.
    pub(super) fn finish(&mut self) -> Option<Load> {
        if self.is_empty() {
            return None;
        }
        let cargo = std::mem::take(&mut self.cargo);
        Some(Load {
            range: 0..cargo.records.len(),
            cargo: Arc::new(cargo),
            partition: Arc::new(AtomicI32::new(NONE_YET)),
        })
    }
}

/// Some records of a cargo, in order. Clones share the records and the partition: one is with the caller's thread
/// while the other stays here.
#[derive(Clone, Debug)]
pub(super) struct Load {
    cargo: Arc<Cargo>,
    range: Range<usize>,
    /// Chosen at the first attempt and kept: another attempt must not let later records of a thread go elsewhere
    /// than a first copy that did arrive.
    partition: Arc<AtomicI32>,
}

impl Load {
    pub(super) fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// How long ago the first record's call was.
    pub(super) fn oldest_age(&self) -> Duration {
        self.records().first().map_or(Duration::ZERO, |first| first.meta.called.elapsed())
    }

    pub(super) fn payloads(&self) -> impl Iterator<Item = &[u8]> {
        self.records().iter().map(|record| &self.cargo.bytes[record.payload.clone()])
    }

    /// The partition of the first attempt; `next` is it if this is the first.
    ///
    /// It is kept while the load lives: should it have no leader for a while, its records wait.
    pub(super) fn choose_partition(&self, next: i32) -> i32 {
        match self.partition.compare_exchange(NONE_YET, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => next,
            Err(chosen) => chosen,
        }
    }

    /// Two loads of at least one record each, or this one back if it has only one.
    pub(super) fn halves(self) -> Result<(Load, Load), Load> {
        if self.range.len() < 2 {
            return Err(self);
        }
        let middle = self.range.start + self.range.len() / 2;
        let first = Load { range: self.range.start..middle, ..self.clone() };
        Ok((first, Load { range: middle..self.range.end, ..self }))
    }

    /// Splits off the records at the front whose calls are older than `timeout`.
    pub(super) fn split_expired(&mut self, timeout: Duration) -> Option<Load> {
        let expired = self.records().iter().take_while(|record| record.meta.called.elapsed() >= timeout).count();
        if expired == 0 {
            return None;
        }
        let middle = self.range.start + expired;
        let front = Load { range: self.range.start..middle, ..self.clone() };
        self.range.start = middle;
        Some(front)
    }

    /// The load is in the topic; `first` is where its first record is.
    pub(super) fn delivered(&self, first: Ack) -> impl Iterator<Item = Outcome> {
        self.records().iter().zip(0..).map(move |(record, place)| {
            let offset = first.offset.map(|offset| offset + place);
            record.outcome(Ok(Ack { offset, ..first }))
        })
    }

    /// The load is given up. A timed-out one may be in the topic if an attempt at it has begun.
    pub(super) fn failed(&self, failure: Failure) -> impl Iterator<Item = Outcome> {
        let timed_out = failure.kind == DeliveryErrorKind::TimedOut;
        let possibly_delivered = timed_out && self.partition.load(Ordering::Relaxed) != NONE_YET;
        self.records().iter().zip(self.payloads()).map(move |(record, payload)| {
            let payload = if failure.wanted || record.meta.tracked.is_some() { payload.to_vec() } else { Vec::new() };
            record.outcome(Err(Failure { possibly_delivered, payload, ..failure.clone() }))
        })
    }

    fn records(&self) -> &[Loaded] {
        &self.cargo.records[self.range.clone()]
    }
}
