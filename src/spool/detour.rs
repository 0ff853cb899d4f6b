//! The detour by the disk, as the worker takes it.
//!
//! Records come here from memory when there is no room, when an outage lasts, or when the process ends; with
//! [`SpoolMode::WriteAhead`] each was here before its call returned. They go back to the client in the order in which
//! they were logged, and stay on the disk until a broker has them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock};

use super::{Chunk, Refusal, Store};
use crate::config::{Spool, SpoolMode};
use crate::delivery::{Counters, DropReason, Tracked};
use crate::error::SpoolError;
use crate::queue::{Batch, Generation, Meta, Queue};
use crate::status::Health;

/// Marks the batches that were read from the disk; the queue's own generations stay far below.
const FROM_DISK: Generation = 1 << 63;

/// So much is read at a time.
const CHUNK: usize = 128 * 1024;

/// A disk that refused is asked again after this.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Each payload has its stamp before it: when it was logged, in microseconds since the epoch.
const STAMP: usize = size_of::<u64>();

/// What clients gave back is kept in a store beside the other: it is older than what that has had meanwhile.
const LATE: &str = "late";

/// Whether a client has this batch from the disk.
pub(crate) fn is_from_disk(generation: Generation) -> bool {
    generation >= FROM_DISK
}

/// A store that can be closed before all who know of it are gone.
pub(crate) type Shared = Arc<RwLock<Option<Store>>>;

/// Those who await a record that is on the disk, by its store and its number there.
type Awaited = Arc<Mutex<BTreeMap<(Which, u64), Arc<Tracked>>>>;

/// Of the two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Which {
    Late,
    Main,
}

/// The callers' side of [`SpoolMode::WriteAhead`].
#[derive(Debug)]
pub(crate) struct Ahead {
    store: Shared,
    awaited: Awaited,
    clock: Clock,
}

impl Ahead {
    /// Writes a record to the disk; it is in the operating system's hands, or on the disk, as `fsync` has it, when this
    /// returns.
    pub(crate) fn append(&self, payload: &[u8], meta: &Meta) -> Result<(), Refusal> {
        let stamped = stamped(self.clock.stamp(meta.called), payload);
        let store = self.store.read();
        let Some(store) = &*store else { return Err(Refusal::Io("the spool is closed".into())) };
        let record = [(stamped.as_slice(), meta.severity, meta.timestamp_ms)];
        let Some(tracked) = meta.tracked.as_ref().filter(|tracked| tracked.awaited) else {
            return store.append(record).map(drop);
        };
        // The worker, which may have read it at once, looks here for who awaits it.
        let mut awaited = self.awaited.lock();
        let numbers = store.append(record)?;
        awaited.insert((Which::Main, numbers.start), Arc::clone(tracked));
        Ok(())
    }
}

/// Moments as stamps that another process understands.
#[derive(Clone, Copy, Debug)]
struct Clock {
    begun: Instant,
    begun_us: u64,
}

impl Clock {
    fn new() -> Clock {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { begun: Instant::now(), begun_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX) }
    }

    fn stamp(&self, moment: Instant) -> u64 {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        match moment.checked_duration_since(self.begun) {
            Some(after) => self.begun_us.saturating_add(micros(after)),
            None => self.begun_us.saturating_sub(micros(self.begun.saturating_duration_since(moment))),
        }
    }
}

/// The worker's side.
pub(crate) struct Detour {
    main: Lane,
    late: Lane,
    mode: SpoolMode,
    clock: Clock,
    /// What has been read and handed over, oldest first.
    parcels: VecDeque<Parcel>,
    next_parcel: Generation,
    awaited: Awaited,
    /// Whether records are to be tracked again when they come back from the disk.
    tracks_all: bool,
    retry_at: Option<Instant>,
    /// Of the records that are read a second time, those that have been counted already.
    counted: u64,
    counters: Arc<Counters>,
    health: Arc<Health>,
}

/// One of the two stores, as it is read.
struct Lane {
    store: Shared,
    chunk: Chunk,
    /// The place in `chunk` of the first record that is not handed over.
    at: usize,
    /// All up to this number has been handed over, or is lost.
    through: u64,
    /// Where the next chunk begins.
    next: u64,
}

/// Records that were handed over together.
#[derive(Debug)]
struct Parcel {
    generation: Generation,
    /// Without an outcome.
    left: usize,
    /// With those that could not be read.
    records: u64,
    /// When it is settled, all up to these numbers is.
    through: (u64, u64),
}

impl Lane {
    fn open(spool: &Spool) -> Result<Lane, SpoolError> {
        let store = Arc::new(RwLock::new(Some(Store::open(spool)?)));
        Ok(Lane { store, chunk: Chunk::default(), at: 0, through: 0, next: 1 })
    }

    fn with<R>(&self, ask: impl FnOnce(&Store) -> R) -> Option<R> {
        self.store.read().as_ref().map(ask)
    }

    fn held(&self) -> u64 {
        self.with(Store::records).unwrap_or_default()
    }

    /// Reads on where all that was read has been handed over; the number of records that are lost.
    fn fill(&mut self) -> Result<u64, String> {
        if self.at < self.chunk.len() {
            return Ok(0);
        }
        let read = self.with(|store| store.read(self.next, CHUNK)).transpose()?.unwrap_or_default();
        if read.next <= self.next {
            return Ok(0);
        }
        let lost = read.skipped.records;
        self.at = 0;
        self.next = read.next;
        if read.is_empty() {
            self.through = read.next.saturating_sub(1);
        }
        self.chunk = read;
        Ok(lost)
    }

    /// The stamp of the next record.
    fn stamp(&self) -> Option<u64> {
        self.chunk.get(self.at).map(|stored| stamp_of(stored.payload))
    }

    /// Goes back to what is not settled.
    fn rewind(&mut self, through: u64) {
        self.chunk = Chunk::default();
        self.at = 0;
        self.through = through;
        self.next = through + 1;
    }
}

fn stamp_of(payload: &[u8]) -> u64 {
    payload.first_chunk().map_or(0, |stamp| u64::from_le_bytes(*stamp))
}

impl Detour {
    /// Opens the spool's directory.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub(crate) fn open(
        spool: &Spool,
        tracks_all: bool,
        counters: Arc<Counters>,
        health: Arc<Health>,
    ) -> Result<Detour, SpoolError> {
        let main = Lane::open(spool)?;
        let late = Lane::open(&Spool { directory: spool.directory.join(LATE), ..spool.clone() })?;
        for damage in [&main, &late].into_iter().filter_map(|lane| lane.with(Store::damaged_at_open)) {
            if damage.records > 0 || damage.bytes > 0 {
                let directory = spool.directory.display();
                let (records, bytes) = (damage.records, damage.bytes);
                health.error(format!("spool \"{directory}\": {records} records in {bytes} bytes were damaged"));
            }
        }
        Ok(Detour {
            main,
            late,
            mode: spool.mode,
            clock: Clock::new(),
            parcels: VecDeque::new(),
            next_parcel: FROM_DISK,
            awaited: Arc::default(),
            tracks_all,
            retry_at: None,
            counted: 0,
            counters,
            health,
        })
    }

    /// For callers that write ahead, where they are to.
    pub(crate) fn ahead(&self) -> Option<Ahead> {
        (self.mode == SpoolMode::WriteAhead).then(|| Ahead {
            store: Arc::clone(&self.main.store),
            awaited: Arc::clone(&self.awaited),
            clock: self.clock,
        })
    }

    /// How many records an earlier process has left.
    pub(crate) fn recovered(&self) -> u64 {
        [&self.main, &self.late].into_iter().filter_map(|lane| lane.with(Store::recovered)).sum()
    }

    /// Whether what memory has no room for may go to the disk; not where it comes from there.
    pub(crate) fn takes_overflow(&self) -> bool {
        self.mode == SpoolMode::Overflow && self.retry_at.is_none_or(|at| at <= Instant::now())
    }

    /// Whether there are records that no broker has.
    pub(crate) fn is_empty(&self) -> bool {
        self.parcels.is_empty() && self.main.held() == 0 && self.late.held() == 0
    }

    /// Whether there are records to hand over.
    pub(crate) fn has_unread(&mut self, queue: &Queue) -> bool {
        self.fill(queue);
        self.main.stamp().is_some() || self.late.stamp().is_some()
    }

    fn fill(&mut self, queue: &Queue) {
        let mut lost = 0;
        for lane in [&mut self.late, &mut self.main] {
            match lane.fill() {
                Ok(records) => lost += records,
                Err(problem) => self.health.error(problem),
            }
        }
        if lost > 0 {
            self.counters.dropped(DropReason::Damaged, lost);
            self.counters.unspooled(lost);
            queue.leave_disk(lost);
            // They have their place in the order of what is removed.
            self.add_parcel(0, 0);
            self.remove_settled(queue);
        }
    }

    fn add_parcel(&mut self, left: usize, records: u64) -> Generation {
        self.next_parcel += 1;
        let through = (self.late.through, self.main.through);
        self.parcels.push_back(Parcel { generation: self.next_parcel, left, records, through });
        self.next_parcel
    }

    /// The oldest records that no client has, of both stores.
    pub(crate) fn take(&mut self, queue: &Queue) -> Option<Batch> {
        if !self.has_unread(queue) {
            return None;
        }
        let mut batch = Batch::default();
        batch.start(self.next_parcel + 1);
        let awaited = self.awaited.lock();
        let called = Instant::now();
        loop {
            let which = match (self.late.stamp(), self.main.stamp()) {
                (Some(late), Some(main)) if late <= main => Which::Late,
                (Some(_), None) => Which::Late,
                (_, Some(_)) => Which::Main,
                (None, None) => break,
            };
            let lane = match which {
                Which::Late => &mut self.late,
                Which::Main => &mut self.main,
            };
            let Some(stored) = lane.chunk.get(lane.at) else { break };
            let tracked = awaited.get(&(which, stored.number)).cloned();
            let tracked = tracked.or_else(|| self.tracks_all.then(|| Arc::new(Tracked::new(None, false))));
            let meta = Meta { severity: stored.severity, timestamp_ms: stored.timestamp_ms, called, tracked };
            batch.push(stored.payload.get(STAMP..).unwrap_or_default(), meta);
            lane.through = stored.number;
            lane.at += 1;
            // The next chunk of this store may have older ones than the other's next.
            if lane.at == lane.chunk.len() {
                // With what was passed over behind its last one.
                lane.through = lane.next.saturating_sub(1);
                break;
            }
            if batch.bytes() >= CHUNK {
                break;
            }
        }
        drop(awaited);
        self.add_parcel(batch.len(), batch.len() as u64);
        Some(batch)
    }

    /// Moves a batch that no client has from memory to the disk; false, and it stays, where the disk refuses.
    pub(crate) fn divert(&mut self, batch: &Batch, queue: &Queue) -> bool {
        let records = batch.records().map(|(payload, meta)| (self.clock.stamp(meta.called), payload, meta));
        let records: Vec<_> = records.map(|(stamp, payload, meta)| (stamped(stamp, payload), meta)).collect();
        if !self.append(Which::Main, &records) {
            return false;
        }
        queue.divert(batch.generation(), batch.len(), batch.bytes());
        true
    }

    /// Keeps records that a client has given back: they are older than what is in the store by now.
    /// How many of them it has taken, the oldest first.
    pub(crate) fn keep_late(&mut self, given_back: &[(Meta, Vec<u8>)]) -> usize {
        /// So many at a time, so that what fits is kept.
        const AT_ONCE: usize = 256;
        let stamp = |meta: &Meta, payload: &[u8]| stamped(self.clock.stamp(meta.called), payload);
        let mut stored = 0;
        for some in given_back.chunks(AT_ONCE) {
            let records: Vec<_> = some.iter().map(|(meta, payload)| (stamp(meta, payload), meta.clone())).collect();
            if !self.append(Which::Late, &records) {
                break;
            }
            stored += some.len();
        }
        stored
    }

    fn append(&self, which: Which, records: &[(Vec<u8>, Meta)]) -> bool {
        let lane = match which {
            Which::Late => &self.late,
            Which::Main => &self.main,
        };
        let entries = records.iter().map(|(stamped, meta)| (stamped.as_slice(), meta.severity, meta.timestamp_ms));
        let numbers = match lane.with(|store| store.append(entries)) {
            Some(Ok(numbers)) => numbers,
            Some(Err(refusal)) => {
                self.health.error(refusal.to_string());
                return false;
            }
            None => return false,
        };
        self.counters.spooled(records.len() as u64);
        for (number, (_, meta)) in numbers.zip(records) {
            if let Some(tracked) = meta.tracked.as_ref().filter(|tracked| tracked.awaited) {
                self.awaited.lock().insert((which, number), Arc::clone(tracked));
            }
        }
        true
    }

    /// The disk has refused: it is left alone for a moment.
    pub(crate) fn rest(&mut self) {
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
    }

    /// How many of so many records that have their outcome have not been counted before.
    pub(crate) fn count(&mut self, records: u64) -> u64 {
        let again = self.counted.min(records);
        self.counted -= again;
        records - again
    }

    /// So many records of a batch from the disk have their outcome, which has been counted.
    pub(crate) fn settled(&mut self, generation: Generation, records: usize, queue: &Queue) {
        if let Some(parcel) = self.parcels.iter_mut().find(|parcel| parcel.generation == generation) {
            parcel.left = parcel.left.saturating_sub(records);
            self.counters.unspooled(records as u64);
        }
        self.remove_settled(queue);
    }

    fn remove_settled(&mut self, queue: &Queue) {
        while let Some(Parcel { left: 0, records, through: (late, main), .. }) = self.parcels.front() {
            let (records, late, main) = (*records, *late, *main);
            self.parcels.pop_front();
            self.late.with(|store| store.remove_up_to(late));
            self.main.with(|store| store.remove_up_to(main));
            let mut awaited = self.awaited.lock();
            if !awaited.is_empty() {
                awaited.retain(|(which, number), _| match which {
                    Which::Late => *number > late,
                    Which::Main => *number > main,
                });
            }
            drop(awaited);
            queue.leave_disk(records);
        }
    }

    /// A client is no more: what it had from the disk is read again.
    pub(crate) fn rewind(&mut self) {
        let settled = |lane: &Lane| lane.with(Store::settled).unwrap_or_default();
        // What was settled out of turn is read again too, and not counted again.
        let again: u64 = self.parcels.iter().map(|parcel| parcel.records - parcel.left as u64).sum();
        self.counters.spooled(again);
        self.counted += again;
        self.awaited.lock().values().for_each(|tracked| tracked.take_back());
        self.parcels.clear();
        let (late, main) = (settled(&self.late), settled(&self.main));
        self.late.rewind(late);
        self.main.rewind(main);
    }

    /// What the disk is due by the passing of time. It blocks for the disk.
    pub(crate) fn sync_if_due(&mut self) {
        for lane in [&self.late, &self.main] {
            if let Some(Err(problem)) = lane.with(Store::sync_if_due) {
                self.health.error(problem);
            }
        }
    }

    /// In how long it is.
    pub(crate) fn sync_due(&self) -> Option<Duration> {
        [&self.late, &self.main].into_iter().filter_map(|lane| lane.with(Store::sync_due).flatten()).min()
    }

    /// Ends it: the directory is another's to open when this returns.
    pub(crate) fn close(&mut self) {
        for lane in [&self.late, &self.main] {
            if let Some(Err(problem)) = lane.with(Store::sync_now) {
                self.health.error(problem);
            }
            *lane.store.write() = None;
        }
    }
}

fn stamped(stamp: u64, payload: &[u8]) -> Vec<u8> {
    let mut stamped = Vec::with_capacity(STAMP + payload.len());
    stamped.extend_from_slice(&stamp.to_le_bytes());
    stamped.extend_from_slice(payload);
    stamped
}
