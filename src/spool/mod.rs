//! Records on the disk: those that memory has no room for, or all, ahead of their sending.
//!
//! This is the one place that asks for the feature `spool`.
// Without it there is nobody who makes some of these things.
#![cfg_attr(not(feature = "spool"), allow(dead_code))]

mod budget;
#[cfg(feature = "spool")]
mod directory;
#[cfg(feature = "spool")]
mod reader;
#[cfg(feature = "spool")]
mod segment;
// Without the feature nothing is ever opened: `transport::choose` has said so by then.
#[cfg_attr(feature = "spool", path = "store.rs")]
#[cfg_attr(not(feature = "spool"), path = "absent.rs")]
mod store;

mod detour;

use std::fmt;
use std::ops::Range;

pub(crate) use self::budget::Budget;
pub(crate) use self::detour::{Ahead, Detour, is_from_disk};
pub(crate) use self::store::Store;
use crate::severity::Severity;

/// The test's end of a sync that does not go on before this is dropped.
#[cfg(test)]
pub(crate) struct HeldSync {
    begun: std::sync::mpsc::Receiver<()>,
    _go_on: std::sync::mpsc::Sender<()>,
}

#[cfg(test)]
impl HeldSync {
    /// Waits until somebody is in it.
    pub(crate) fn wait_begun(&self) {
        self.begun.recv_timeout(std::time::Duration::from_secs(20)).expect("nobody syncs");
    }
}

/// Whether there can be a spool in this build.
pub(crate) const COMPILED: bool = cfg!(feature = "spool");

/// Why records were not appended. Later ones may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// They would take more than `max_bytes`.
    Full,
    /// The disk, or what stands for it, failed: in words, with the directory.
    Io(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Full => f.write_str("the spool has max_bytes already"),
            Refusal::Io(problem) => f.write_str(problem),
        }
    }
}

/// What could not be read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Records that had been appended and are not there, or not whole.
    pub(crate) records: u64,
    /// Bytes in which no whole record is: those records' own, and what an interrupted append has left.
    pub(crate) bytes: u64,
}

impl Damage {
    pub(crate) fn add(&mut self, other: Damage) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// A record of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    pub(crate) number: u64,
    pub(crate) severity: Severity,
    pub(crate) timestamp_ms: i64,
    pub(crate) payload: &'a [u8],
}

/// Records in the order of their numbers, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    bytes: Vec<u8>,
    records: Vec<Place>,
    /// Everything below is in this chunk, lost, or removed: where the next read begins.
    pub(crate) next: u64,
    /// What is missing among the records read, told once, and its numbers, which are below `next`.
    pub(crate) skipped: Damage,
    pub(crate) lost: Vec<Range<u64>>,
}

#[derive(Debug)]
struct Place {
    number: u64,
    severity: Severity,
    timestamp_ms: i64,
    payload: Range<usize>,
}

impl Chunk {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The record in this place.
    pub(crate) fn get(&self, place: usize) -> Option<Stored<'_>> {
        let record = self.records.get(place)?;
        let payload = self.bytes.get(record.payload.clone())?;
        let Place { number, severity, timestamp_ms, .. } = *record;
        Some(Stored { number, severity, timestamp_ms, payload })
    }

    #[cfg(test)]
    pub(crate) fn records(&self) -> impl Iterator<Item = Stored<'_>> {
        (0..self.len()).filter_map(|place| self.get(place))
    }

    fn lose(&mut self, numbers: Range<u64>, bytes: u64) {
        if !numbers.is_empty() {
            self.skipped.add(Damage { records: numbers.end - numbers.start, bytes });
            self.lost.push(numbers);
        }
    }

    fn push(&mut self, record: Stored<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record.payload);
        let Stored { number, severity, timestamp_ms, .. } = record;
        self.records.push(Place { number, severity, timestamp_ms, payload: start..self.bytes.len() });
    }
}
