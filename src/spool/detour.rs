//! The detour by the disk, as the worker takes it.
//!
//! Records come here from memory when there is no room, when an outage lasts, or when the process ends; with
//! [`SpoolMode::WriteAhead`] each was here before its call returned. They go back to the client in the order in which
//! they were logged, and stay on the disk until a broker has them.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::{Budget, Chunk, Damage, Refusal, Store, Stored};
use crate::config::{Spool, SpoolMode};
use crate::delivery::{Counters, DropReason, Losses, Tracked};
use crate::error::SpoolError;
use crate::queue::{Announced, Batch, Generation, Meta, Part, Queue, Settled};
use crate::status::Health;

/// Marks the batches that were read from the disk; the queue's own generations stay far below.
const FROM_DISK: Generation = 1 << 63;

/// So much is read at a time.
const CHUNK: usize = 128 * 1024;

/// A disk that refused is asked again after this.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// While a file cannot be opened, nothing newer goes past it, for so long at most.
const WAITS_FOR_FILES: Duration = Duration::from_secs(10);

/// What clients gave back is kept in a store beside the other: it is older than what that has had meanwhile.
const LATE: &str = "late";

/// More callers than can be on their way to the disk at once: their records stand there in another order than they were
/// numbered in.
const CALLERS: u64 = 1 << 20;

/// Whether a client has this batch from the disk.
pub(crate) fn is_from_disk(generation: Generation) -> bool {
    generation >= FROM_DISK
}

/// A store that can be closed before all who know of it are gone.
pub(crate) type Shared = Arc<RwLock<Option<Store>>>;

/// Of the two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Late,
    Main,
}

/// What is known here about the records in a store, by their numbers there.
#[derive(Debug, Default)]
struct Held {
    /// Of which of the queue's generations they are, in order; each is in here until it is settled or lost.
    generations: VecDeque<(Range<u64>, Generation)>,
    /// Those that somebody awaits.
    awaited: BTreeMap<u64, Meta>,
}

impl Held {
    fn enter(&mut self, number: u64, generation: Generation, meta: &Meta) {
        match self.generations.back_mut() {
            Some((numbers, last)) if numbers.end == number && *last == generation => numbers.end += 1,
            _ => self.generations.push_back((number..number + 1, generation)),
        }
        if meta.tracked.as_ref().is_some_and(|tracked| tracked.awaited) {
            self.awaited.insert(number, meta.clone());
        }
    }

    /// Takes records out: how many of each generation there were, and those that somebody awaits.
    fn leave(&mut self, gone: &Range<u64>) -> (Vec<(Generation, u64)>, Vec<Meta>) {
        let (mut left, mut before) = (Vec::new(), Vec::new());
        while let Some((numbers, generation)) = self.generations.pop_front() {
            if numbers.start >= gone.end {
                self.generations.push_front((numbers, generation));
                break;
            }
            let (from, to) = (numbers.start.max(gone.start), numbers.end.min(gone.end));
            if from < to {
                left.push((generation, to - from));
            }
            let first = numbers.start..numbers.end.min(gone.start);
            if !first.is_empty() {
                before.push((first, generation));
            }
            if to < numbers.end {
                self.generations.push_front((to.max(numbers.start)..numbers.end, generation));
                break;
            }
        }
        before.into_iter().rev().for_each(|entry| self.generations.push_front(entry));
        let awaited: Vec<u64> = self.awaited.range(gone.clone()).map(|(number, _)| *number).collect();
        (left, awaited.iter().filter_map(|number| self.awaited.remove(number)).collect())
    }
}

/// The callers' side of [`SpoolMode::WriteAhead`].
#[derive(Debug)]
pub(crate) struct Ahead {
    store: Shared,
    held: Arc<Mutex<Held>>,
    counters: Arc<Counters>,
}

impl Ahead {
    /// Writes a record to the disk; it is in the operating system's hands, or on the disk, as `fsync` has it, when this
    /// returns.
    ///
    /// # Errors
    ///
    /// Why the disk has refused it, which the queue knows by then.
    pub(crate) fn append(
        &self,
        payload: &[u8],
        meta: &Meta,
        announced: Announced,
        queue: &Queue,
    ) -> Result<(), Refusal> {
        let entry = framed(announced.number, payload, meta);
        let mut written = None;
        let result = match &*self.store.read() {
            Some(store) => store
                .append([(entry.as_slice(), meta.severity, meta.timestamp_ms)], |numbers| {
                    self.held.lock().enter(numbers.start, announced.generation, meta);
                    // Here, so that who closes the store finds all counted that is in it.
                    self.counters.spooled(1);
                    written = Some(numbers);
                })
                .map(drop),
            None => Err(Refusal::Io("the spool is closed".into())),
        };
        match result {
            Ok(()) => queue.landed(),
            Err(_) => {
                // Where the worker has gone past it by now, it has left the queue too.
                let still_held = written.is_none_or(|numbers| {
                    self.counters.unspooled(1);
                    !self.held.lock().leave(&numbers).0.is_empty()
                });
                queue.retract(announced, meta, still_held);
            }
        }
        result
    }

    #[cfg(test)]
    pub(crate) fn fail_next_sync(&self) {
        self.store.read().as_ref().unwrap().fail_next_sync();
    }

    #[cfg(test)]
    pub(crate) fn hold_next_sync(&self) -> super::HeldSync {
        self.store.read().as_ref().unwrap().hold_next_sync()
    }

    /// Whether nothing waits for a sync.
    #[cfg(test)]
    pub(crate) fn is_synced(&self) -> bool {
        self.store.read().as_ref().unwrap().sync_due().is_none()
    }
}

/// The worker's side.
pub(crate) struct Detour {
    main: Lane,
    late: Lane,
    mode: SpoolMode,
    directory: PathBuf,
    /// What has been read and handed over, oldest first.
    parcels: VecDeque<Parcel>,
    next_parcel: Generation,
    retry_at: Option<Instant>,
    /// A file could not be opened since then.
    unreadable_since: Option<Instant>,
    /// Of the records that are read a second time, those that have been counted already.
    counted: u64,
    counters: Arc<Counters>,
    losses: Arc<Losses>,
    health: Arc<Health>,
}

/// One of the two stores, as it is read.
struct Lane {
    store: Shared,
    held: Arc<Mutex<Held>>,
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
    /// With those that have one.
    records: u64,
    /// When it is settled, all up to these numbers is.
    through: (u64, u64),
}

impl Lane {
    fn open(spool: &Spool, budget: &Arc<Budget>) -> Result<Lane, SpoolError> {
        let store = Arc::new(RwLock::new(Some(Store::open(spool, budget)?)));
        Ok(Lane { store, held: Arc::default(), chunk: Chunk::default(), at: 0, through: 0, next: 1 })
    }

    fn with<R>(&self, ask: impl FnOnce(&Store) -> R) -> Option<R> {
        self.store.read().as_ref().map(ask)
    }

    fn records(&self) -> u64 {
        self.with(Store::records).unwrap_or_default()
    }

    /// The largest number in the queue's order that an earlier process has left.
    fn newest(&self) -> u64 {
        let newest = self.with(Store::newest).unwrap_or_default();
        (0..newest.len()).filter_map(|place| newest.get(place)).map(order).max().unwrap_or_default()
    }

    /// Reads on where all that was read has been handed over; the numbers of records that are lost.
    fn fill(&mut self) -> Result<Vec<Range<u64>>, String> {
        if self.at < self.chunk.len() {
            return Ok(Vec::new());
        }
        let mut read = self.with(|store| store.read(self.next, CHUNK)).transpose()?.unwrap_or_default();
        if read.next <= self.next {
            return Ok(Vec::new());
        }
        let lost = std::mem::take(&mut read.lost);
        self.at = 0;
        self.next = read.next;
        if read.is_empty() {
            self.through = read.next.saturating_sub(1);
        }
        self.chunk = read;
        Ok(lost)
    }

    /// The number of the next record in the queue's order.
    fn order(&self) -> Option<u64> {
        self.chunk.get(self.at).map(order)
    }

    /// Goes back to what is not settled.
    fn rewind(&mut self) {
        let settled = self.with(Store::settled).unwrap_or_default();
        self.chunk = Chunk::default();
        self.at = 0;
        self.through = settled;
        self.next = settled + 1;
        self.held.lock().awaited.values().filter_map(|meta| meta.tracked.as_ref()).for_each(|it| it.take_back());
    }
}

impl Detour {
    /// Opens the spool's directory, and enters into the queue what is there.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub(crate) fn open(
        spool: &Spool,
        queue: &Queue,
        losses: Arc<Losses>,
        counters: Arc<Counters>,
        health: Arc<Health>,
    ) -> Result<Detour, SpoolError> {
        let budget = Budget::new(spool.max_bytes);
        let main = Lane::open(spool, &budget)?;
        let late = Lane::open(&Spool { directory: spool.directory.join(LATE), ..spool.clone() }, &budget)?;
        let mut damage = Damage::default();
        [&main, &late].into_iter().filter_map(|lane| lane.with(Store::damaged_at_open)).for_each(|it| damage.add(it));
        tell_damage(damage, spool, &losses, &counters, &health);
        // What is logged from now on goes on behind the newest of an earlier process.
        let recovered = [&main, &late].into_iter().filter_map(|lane| lane.with(Store::recovered)).sum();
        let number = if recovered > 0 { main.newest().max(late.newest()).saturating_add(CALLERS) } else { 0 };
        let generation = queue.recover(recovered, number.min(u64::MAX / 2));
        for lane in [&main, &late] {
            let numbers = lane.with(Store::numbers).unwrap_or_default();
            lane.held.lock().generations = numbers.into_iter().map(|numbers| (numbers, generation)).collect();
        }
        Ok(Detour {
            main,
            late,
            mode: spool.mode,
            directory: spool.directory.clone(),
            parcels: VecDeque::new(),
            next_parcel: FROM_DISK,
            retry_at: None,
            unreadable_since: None,
            counted: 0,
            counters,
            losses,
            health,
        })
    }

    /// For callers that write ahead, where they are to.
    pub(crate) fn ahead(&self) -> Option<Ahead> {
        (self.mode == SpoolMode::WriteAhead).then(|| Ahead {
            store: Arc::clone(&self.main.store),
            held: Arc::clone(&self.main.held),
            counters: Arc::clone(&self.counters),
        })
    }

    /// Whether what memory has no room for may go to the disk; not where it comes from there.
    pub(crate) fn takes_overflow(&self) -> bool {
        self.mode == SpoolMode::Overflow && self.retry_at.is_none_or(|at| at <= Instant::now())
    }

    /// Whether there are records that no broker has.
    pub(crate) fn is_empty(&self) -> bool {
        self.parcels.is_empty() && self.main.records() == 0 && self.late.records() == 0
    }

    /// Whether there are records to hand over.
    pub(crate) fn has_unread(&mut self, queue: &Queue) -> bool {
        self.fill(queue);
        self.main.order().is_some() || self.late.order().is_some()
    }

    fn lane(&mut self, which: Which) -> &mut Lane {
        match which {
            Which::Late => &mut self.late,
            Which::Main => &mut self.main,
        }
    }

    /// Whether nothing is to be handed over now: older records than any at hand cannot be read for the moment.
    pub(crate) fn waits_for_files(&self) -> bool {
        self.unreadable_since.is_some_and(|since| since.elapsed() < WAITS_FOR_FILES)
    }

    fn fill(&mut self, queue: &Queue) {
        let mut unreadable_since = None;
        for which in [Which::Late, Which::Main] {
            match self.lane(which).fill() {
                Ok(lost) if lost.is_empty() => {}
                Ok(lost) => self.lose(which, &lost, queue),
                Err(problem) => {
                    self.health.error(problem);
                    unreadable_since = self.unreadable_since.or_else(|| Some(Instant::now()));
                }
            }
        }
        self.unreadable_since = unreadable_since;
    }

    /// Counts records that could not be read back, and tells of them as far as they are known.
    fn lose(&mut self, which: Which, lost: &[Range<u64>], queue: &Queue) {
        let records: u64 = lost.iter().map(|numbers| numbers.end - numbers.start).sum();
        let (mut parts, mut awaited) = (Vec::new(), Vec::new());
        for numbers in lost {
            let (some, awaiting) = self.lane(which).held.lock().leave(numbers);
            parts.extend(some);
            awaited.extend(awaiting);
        }
        let directory = self.directory.display();
        self.health.error(format!("spool \"{directory}\": {records} records were damaged and could not be read back"));
        let losses = Arc::clone(&self.losses);
        let _telling = losses.telling();
        let fresh = self.count(records);
        self.counters.unspooled(fresh);
        self.counters.dropped(DropReason::Damaged, fresh);
        let tracked = awaited.iter().filter_map(|meta| meta.tracked.clone()).collect();
        if queue.settle(&Settled { awaited: tracked, ..Settled::default() }) {
            queue.leave_disk(&parts);
        }
        losses.damaged(&awaited, records.saturating_sub(awaited.len() as u64));
        // They have their place in the order of what is removed.
        self.add_parcel(0);
        self.remove_settled(queue);
    }

    fn add_parcel(&mut self, records: usize) {
        self.next_parcel += 1;
        let through = (self.late.through, self.main.through);
        let (generation, left) = (self.next_parcel, records);
        self.parcels.push_back(Parcel { generation, left, records: records as u64, through });
    }

    /// The oldest records that no client has, of both stores.
    pub(crate) fn take(&mut self, queue: &Queue) -> Option<Batch> {
        if !self.has_unread(queue) {
            return None;
        }
        let mut batch = Batch::default();
        batch.start(self.next_parcel + 1);
        let (most_records, most_bytes) = queue.most_in_batch();
        let tracks_all = self.losses.tracks_all();
        let called = Instant::now();
        loop {
            let which = match (self.late.order(), self.main.order()) {
                // Of two that are equal the one that was written ahead is older.
                (Some(late), Some(main)) if late < main => Which::Late,
                (Some(_), None) => Which::Late,
                (_, Some(_)) => Which::Main,
                (None, None) => break,
            };
            let lane = self.lane(which);
            let Some(Stored { number, severity, timestamp_ms, payload }) = lane.chunk.get(lane.at) else { break };
            let (frame, payload) = unframed(payload);
            let tracked = lane.held.lock().awaited.get(&number).and_then(|meta| meta.tracked.clone());
            let tracked = tracked.or_else(|| tracks_all.then(|| frame.tracked()));
            batch.push(payload, Meta { severity, timestamp_ms, called: called.into(), number: frame.order, tracked });
            lane.through = number;
            lane.at += 1;
            // The next chunk of this store may have older ones than the other's next.
            if lane.at == lane.chunk.len() {
                // With what was passed over behind its last one.
                lane.through = lane.next.saturating_sub(1);
                break;
            }
            if batch.bytes() >= CHUNK.min(most_bytes) || batch.len() >= most_records {
                break;
            }
        }
        self.add_parcel(batch.len());
        Some(batch)
    }

    /// Moves a batch that no client has from memory to the disk; false, and it stays, where the disk refuses.
    pub(crate) fn divert(&self, batch: &Batch, queue: &Queue) -> bool {
        self.store_batch(Which::Main, batch, queue)
    }

    /// The same for one that is older than what is there by now.
    pub(crate) fn divert_late(&self, batch: &Batch, queue: &Queue) -> bool {
        self.store_batch(Which::Late, batch, queue)
    }

    fn store_batch(&self, which: Which, batch: &Batch, queue: &Queue) -> bool {
        let generation = batch.generation();
        let entry = |(payload, meta): (&[u8], Meta)| (generation, framed(meta.number, payload, &meta), meta);
        let records: Vec<_> = batch.records().map(entry).collect();
        let stored = self.append(which, &records);
        if stored {
            queue.divert(Part { generation, records: batch.len(), bytes: batch.bytes() });
        }
        stored
    }

    /// Keeps records that a client has given back: they are older than what is in the store by now. How many of them it
    /// has taken, the oldest first; they are in order.
    pub(crate) fn keep_late(&self, given_back: &[(Part, Meta, Vec<u8>)]) -> usize {
        /// So much at a time, so that what fits is kept.
        const AT_ONCE: (usize, usize) = (256, 64 * 1024);
        let mut stored = 0;
        while stored < given_back.len() {
            let mut bytes = 0;
            let fits = |(_, _, payload): &&(Part, Meta, Vec<u8>)| {
                let is_first = bytes == 0;
                bytes += payload.len() + 1;
                is_first || bytes <= AT_ONCE.1
            };
            let some: Vec<_> = given_back.iter().skip(stored).take(AT_ONCE.0).take_while(fits).collect();
            let entry = |(part, meta, payload): &&(Part, Meta, Vec<u8>)| {
                (part.generation, framed(meta.number, payload, meta), meta.clone())
            };
            let records: Vec<_> = some.iter().map(entry).collect();
            if !self.append(Which::Late, &records) {
                break;
            }
            stored += some.len();
        }
        stored
    }

    fn append(&self, which: Which, records: &[(Generation, Vec<u8>, Meta)]) -> bool {
        let lane = match which {
            Which::Late => &self.late,
            Which::Main => &self.main,
        };
        let entries = records.iter().map(|(_, entry, meta)| (entry.as_slice(), meta.severity, meta.timestamp_ms));
        let mut written = None;
        let enter = |numbers: Range<u64>| {
            let mut held = lane.held.lock();
            for (number, (generation, _, meta)) in numbers.clone().zip(records) {
                held.enter(number, *generation, meta);
            }
            written = Some(numbers);
        };
        match lane.with(|store| store.append(entries, enter)) {
            Some(Ok(_)) => return true,
            Some(Err(refusal)) => self.health.error(refusal.to_string()),
            None => {}
        }
        if let Some(numbers) = written {
            lane.held.lock().leave(&numbers);
        }
        false
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

    /// So many records of a batch from the disk have their outcome; `fresh` of them have it for the first time.
    pub(crate) fn settled(&mut self, generation: Generation, records: usize, fresh: u64, queue: &Queue) {
        if let Some(parcel) = self.parcels.iter_mut().find(|parcel| parcel.generation == generation) {
            parcel.left = parcel.left.saturating_sub(records);
            self.counters.unspooled(fresh);
        }
        self.remove_settled(queue);
    }

    fn remove_settled(&mut self, queue: &Queue) {
        let mut parts = Vec::new();
        while let Some(Parcel { left: 0, through: (late, main), .. }) = self.parcels.front() {
            let (late, main) = (*late, *main);
            self.parcels.pop_front();
            for (lane, through) in [(&self.late, late), (&self.main, main)] {
                lane.with(|store| store.remove_up_to(through));
                parts.extend(lane.held.lock().leave(&(0..through + 1)).0);
            }
        }
        queue.leave_disk(&parts);
    }

    /// A client is no more: what it had from the disk is read again.
    pub(crate) fn rewind(&mut self) {
        // What was settled out of turn is read again too, and not counted again.
        self.counted += self.parcels.iter().map(|parcel| parcel.records - parcel.left as u64).sum::<u64>();
        self.parcels.clear();
        self.late.rewind();
        self.main.rewind();
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

/// What is found out while the directory is opened. Of what was lost between others the numbers are known: an earlier process
/// had left it, and it has its outcome. Of bytes without a whole record nobody can say how many records they were, or whether
/// a call had returned for one.
fn tell_damage(damage: Damage, spool: &Spool, losses: &Losses, counters: &Counters, health: &Health) {
    let Damage { records, bytes } = damage;
    let mut words = Vec::new();
    if bytes > 0 {
        words.push(format!("the last process left {bytes} bytes in which no record is whole"));
    }
    if records > 0 {
        words.push(format!("{records} records of an earlier process are lost: their files are missing"));
        let _telling = losses.telling();
        counters.recovered(records);
        counters.unspooled(records);
        counters.dropped(DropReason::Damaged, records);
        losses.damaged(&[], records);
    }
    if !words.is_empty() {
        health.error(format!("spool \"{}\": {}", spool.directory.display(), words.join("; ")));
    }
}

/// What stands before a payload: the record's number in the queue's order, and what nobody can tell from the payload.
///
/// ```text
/// number     u64
/// flags      u8: 1 with a target, 2 with the original size
/// length     u16, and the target, cut to that
/// original   u64
/// ```
#[derive(Debug, Default)]
struct Frame<'a> {
    order: u64,
    target: Option<&'a str>,
    original_bytes: Option<u64>,
}

const HAS_TARGET: u8 = 1;
const HAS_ORIGINAL: u8 = 2;

impl Frame<'_> {
    fn tracked(&self) -> Arc<Tracked> {
        let tracked = Tracked::new(self.target, false);
        if let Some(bytes) = self.original_bytes {
            tracked.truncated(bytes);
        }
        Arc::new(tracked)
    }
}

fn framed(order: u64, payload: &[u8], meta: &Meta) -> Vec<u8> {
    let tracked = meta.tracked.as_deref();
    let target = tracked.and_then(|tracked| tracked.target.as_deref());
    let target = target.map(|target| {
        let most = target.len().min(u16::MAX.into());
        (0..=most).rev().find_map(|length| target.get(..length)).unwrap_or_default()
    });
    let original = tracked.and_then(Tracked::original_bytes);
    let flags = if target.is_some() { HAS_TARGET } else { 0 } | if original.is_some() { HAS_ORIGINAL } else { 0 };
    let mut framed = Vec::with_capacity(19 + target.map_or(0, str::len) + payload.len());
    framed.extend_from_slice(&order.to_le_bytes());
    framed.push(flags);
    if let Some(target) = target {
        framed.extend_from_slice(&(target.len() as u16).to_le_bytes());
        framed.extend_from_slice(target.as_bytes());
    }
    if let Some(original) = original {
        framed.extend_from_slice(&original.to_le_bytes());
    }
    framed.extend_from_slice(payload);
    framed
}

/// The frame, and the payload behind it; all of it is payload where it was not written by this.
fn unframed(bytes: &[u8]) -> (Frame<'_>, &[u8]) {
    let frame = || {
        let mut frame = Frame::default();
        let (order, rest) = bytes.split_first_chunk()?;
        frame.order = u64::from_le_bytes(*order);
        let (flags, mut rest) = rest.split_first()?;
        if flags & HAS_TARGET != 0 {
            let (length, behind) = rest.split_first_chunk()?;
            let (target, behind) = behind.split_at_checked(u16::from_le_bytes(*length).into())?;
            frame.target = std::str::from_utf8(target).ok();
            rest = behind;
        }
        if flags & HAS_ORIGINAL != 0 {
            let (original, behind) = rest.split_first_chunk()?;
            frame.original_bytes = Some(u64::from_le_bytes(*original));
            rest = behind;
        }
        Some((frame, rest))
    };
    frame().unwrap_or((Frame::default(), bytes))
}

fn order(stored: Stored<'_>) -> u64 {
    unframed(stored.payload).0.order
}

#[cfg(test)]
#[path = "detour_tests.rs"]
mod tests;
