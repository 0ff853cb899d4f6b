//! The hand-over from the application's threads to ours: bounded by records and by bytes.
//!
//! The bounds hold for what waits and what is in flight together, so no client behind us has a hidden queue of
//! its own. Records travel in batches that share one buffer: a push copies its payload and allocates nothing in
//! steady state.

mod batch;
mod generations;
mod overflow;
mod stamps;
mod sync;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use self::batch::{Batch, Meta};
pub(crate) use self::generations::Generation;
use self::generations::Generations;
use self::sync::{Condvar, Mutex};
use crate::config::Overflow;
use crate::delivery::{Counters, DropReason, Tracked};

/// Emptied batches that are kept for the next records, of 140 KiB each as a rule: a burst has its memory from the one before,
/// and not from the system, a page at a time.
const MOST_SPARES: usize = 64;

/// So many of them are kept while nothing is logged.
const IDLE_SPARES: usize = 8;

/// For so long nothing has been logged then.
const IDLE: Duration = Duration::from_secs(1);

/// A batch has at most this part of the bounds, so that a small queue can make room by the batch too.
const BATCHES: usize = 8;

/// This part of the bounds wakes a worker that lets records gather.
const ENOUGH: usize = 2;

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// The worker sleeps here.
    work: Condvar,
    /// Flushes, shutdowns and callers that wait for room sleep here.
    progress: Condvar,
    most_records: usize,
    most_bytes: usize,
    /// In one batch, of records and of bytes.
    most_in_batch: (usize, usize),
    /// So many full batches are a good deal of the bytes.
    enough_batches: usize,
    overflow: Overflow,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct State {
    /// Takes the next record; `sealed` ones are full and older.
    open: Batch,
    sealed: VecDeque<Batch>,
    sealed_records: usize,
    spares: Vec<Batch>,
    /// Waiting plus in flight.
    held_records: usize,
    held_bytes: usize,
    generations: Generations,
    /// Records on the disk, and those that their callers are about to write there.
    on_disk: u64,
    /// A caller has put one there, and the worker has not looked since.
    disk_news: bool,
    /// The records in here that somebody awaits, by their address: whatever becomes of a client, they are told.
    awaited: HashMap<usize, Meta>,
    worker: Worker,
    closed: bool,
    stop_by: Option<Instant>,
    /// Set once the worker has ended, or was given up: what it left without an outcome.
    abandoned: Option<u64>,
}

/// What the worker does, as far as a push must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worker {
    Busy,
    /// Asleep; a record wakes it.
    AwaitsRecords,
    /// Asleep for a moment, while records gather; a good deal of them wakes it.
    AwaitsMany,
    /// Asleep; only a call for attention wakes it, since its client has no room.
    AwaitsRoom,
    /// The same, but a queue that fills up wakes it too: there is a disk.
    AwaitsRoomOrMany,
    /// To be woken, or not to fall asleep: something besides a record has come up.
    Called,
}

/// Whether the worker would take records, as it falls asleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    None,
    /// But what memory has no room for can go to the disk.
    OnDisk,
    Now,
    /// From this moment on, so that they come in batches and not one by one.
    After(Instant),
}

/// What the application asks of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    GoOn,
    /// End at this moment, or when all is settled.
    StopBy(Instant),
}

/// What a push did besides.
#[derive(Debug, Default)]
pub(crate) struct Pushed {
    /// Records that made room for this one; they have been counted.
    pub(crate) evicted: Vec<Batch>,
}

/// A record that was not taken, given back.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) meta: Meta,
    pub(crate) reason: DropReason,
    /// Records that were given up for it all the same; they have been counted.
    pub(crate) evicted: Vec<Batch>,
}

impl Queue {
    pub(crate) fn new(most_records: usize, most_bytes: usize, overflow: Overflow, counters: Arc<Counters>) -> Queue {
        let state = State {
            open: Batch::roomy(),
            sealed: VecDeque::new(),
            sealed_records: 0,
            spares: Vec::new(),
            held_records: 0,
            held_bytes: 0,
            generations: Generations::default(),
            on_disk: 0,
            disk_news: false,
            awaited: HashMap::new(),
            worker: Worker::Busy,
            closed: false,
            stop_by: None,
            abandoned: None,
        };
        Queue {
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Condvar::new(),
            most_records,
            most_bytes,
            most_in_batch: ((most_records / BATCHES).max(1), most_bytes / BATCHES),
            enough_batches: (most_bytes / ENOUGH / batch::FULL_BYTES).max(BATCHES / ENOUGH),
            overflow,
            counters,
        }
    }

    /// How much a client may have at once: all, so that its timeouts run from the call; but half where the rest is to
    /// wait here and make room for newer records.
    pub(crate) fn window(&self) -> (usize, usize) {
        match self.overflow {
            Overflow::DropOldest => (self.most_records.div_ceil(2), self.most_bytes.div_ceil(2)),
            _ => (usize::MAX, usize::MAX),
        }
    }

    // ---- the application's side -------------------------------------------------------------------------------

    /// Takes a copy of one payload, or refuses it, and counts that. Waits for nothing but the lock, unless the
    /// overflow policy is to wait for room.
    pub(crate) fn push(&self, payload: &[u8], meta: Meta) -> Result<Pushed, Refused> {
        self.take_in(payload, meta, || self.counters.submitted())
    }

    /// The same for a record that has been counted as submitted.
    pub(crate) fn push_counted(&self, payload: &[u8], meta: Meta) -> Result<Pushed, Refused> {
        self.take_in(payload, meta, || {})
    }

    fn take_in(&self, payload: &[u8], meta: Meta, count: impl FnOnce()) -> Result<Pushed, Refused> {
        let mut state = self.state.lock();
        let mut pushed = Pushed::default();
        if !self.has_room(&state, payload.len())
            && let Err(reason) = self.make_room(&mut state, payload.len(), meta.severity.level(), &mut pushed)
        {
            count();
            self.counters.dropped(reason, 1);
            return Err(Refused { meta, reason, evicted: pushed.evicted });
        }
        count();
        state.held_records += 1;
        state.held_bytes += payload.len();
        let generation = state.generations.enter();
        if !state.open.takes(payload.len(), generation, self.most_in_batch) {
            state.seal();
            state.open.start(generation);
        }
        state.awaits(&meta);
        state.open.push(payload, meta);
        let wakes = match state.worker {
            Worker::AwaitsRecords => true,
            Worker::AwaitsMany => self.has_enough(&state),
            Worker::AwaitsRoomOrMany => !state.sealed.is_empty() && self.is_for_disk(&state),
            Worker::Busy | Worker::AwaitsRoom | Worker::Called => false,
        };
        if wakes {
            state.call_worker();
        }
        drop(state);
        if wakes {
            self.work.notify_one();
        }
        Ok(pushed)
    }

    /// Waits until every record pushed before has an outcome; false if the deadline came first.
    pub(crate) fn wait_settled(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        let Some(until) = state.generations.turn_over() else { return true };
        state.call_worker();
        self.work.notify_one();
        while !state.generations.settled_up_to(until) {
            if self.progress.wait_until(&mut state, deadline).timed_out() {
                return state.generations.settled_up_to(until);
            }
        }
        true
    }

    /// Refuses records from now on, and has the worker end by `deadline`, or earlier if all is settled.
    pub(crate) fn close(&self, deadline: Instant) {
        let mut state = self.state.lock();
        state.closed = true;
        state.stop_by = Some(state.stop_by.map_or(deadline, |earlier| earlier.min(deadline)));
        state.call_worker();
        drop(state);
        self.work.notify_one();
        self.progress.notify_all();
    }

    /// Waits until the worker has ended; the number of records it left without an outcome.
    pub(crate) fn wait_stopped(&self, deadline: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        while state.abandoned.is_none() {
            if self.progress.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.abandoned
    }

    /// A caller is about to write this record to the disk: it has its place here first, so that every flush from now on
    /// waits for it. None, and nothing is counted, once records are no longer taken. [`landed`](Queue::landed) or
    /// [`retract`](Queue::retract) comes next.
    pub(crate) fn announce(&self, meta: &Meta) -> Option<Announced> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        self.counters.submitted();
        state.awaits(meta);
        state.on_disk += 1;
        // That of the next record in here too: of two that are equal, the one on the disk is older.
        Some(Announced { generation: state.generations.enter(), number: state.open.next_number() })
    }

    /// The caller has written it.
    pub(crate) fn landed(&self) {
        let mut state = self.state.lock();
        state.disk_news = true;
        let wakes = state.worker == Worker::AwaitsRecords;
        if wakes {
            state.call_worker();
        }
        drop(state);
        if wakes {
            self.work.notify_one();
        }
    }

    /// The disk has refused it. It has no outcome yet; `still_held` is false where the worker has taken it for settled.
    pub(crate) fn retract(&self, announced: Announced, meta: &Meta, still_held: bool) {
        let mut state = self.state.lock();
        if let Some(tracked) = &meta.tracked {
            state.awaited.remove(&address(tracked));
        }
        if state.abandoned.is_some() || !still_held {
            return;
        }
        state.leave_disk(&[(announced.generation, 1)]);
        let done = state.stop_by.is_some() && state.is_settled();
        if done {
            state.call_worker();
        }
        drop(state);
        if done {
            self.work.notify_one();
        }
        self.progress.notify_all();
    }

    /// Ends the worker's rest where the queue is full: what waits could be on its way.
    fn wake_gathering(&self, state: &mut State) {
        if matches!(state.worker, Worker::AwaitsMany | Worker::AwaitsRoomOrMany) {
            state.call_worker();
            self.work.notify_one();
        }
    }

    // ---- the worker's side ------------------------------------------------------------------------------------

    pub(crate) fn order(&self) -> Order {
        self.state.lock().order()
    }

    /// The oldest batch that waits. A few records do not take a whole batch's buffers along: they may be held for long.
    pub(crate) fn take(&self) -> Option<Batch> {
        let mut batch = self.state.lock().take_oldest()?;
        if let Some(buffers) = batch.fitted() {
            self.recycle(buffers);
        }
        Some(batch)
    }

    /// Keeps the buffers of a batch whose records have all been handed over.
    pub(crate) fn recycle(&self, batch: Batch) {
        let mut state = self.state.lock();
        if state.spares.len() < MOST_SPARES
            && let Some(batch) = batch.emptied()
        {
            state.spares.push(batch);
        }
    }

    /// Sleeps until there is something to do, or `until`; whether there is.
    pub(crate) fn wait(&self, until: Instant, room: Room) -> bool {
        let mut state = self.state.lock();
        let waiting = !state.sealed.is_empty() || !state.open.is_empty() || std::mem::take(&mut state.disk_news);
        let (sleep, until, due) = match room {
            Room::None => (Worker::AwaitsRoom, until, false),
            Room::OnDisk => (Worker::AwaitsRoomOrMany, until, false),
            Room::Now => (Worker::AwaitsRecords, until, waiting),
            Room::After(gather) => (Worker::AwaitsMany, until.min(gather), self.has_enough(&state)),
        };
        let done = state.stop_by.is_some() && state.is_settled();
        if state.worker != Worker::Called && !due && !done {
            state.worker = sleep;
            let may_shrink = sleep == Worker::AwaitsRecords && state.spares.len() > IDLE_SPARES;
            let idle = Instant::now() + IDLE;
            if may_shrink && idle < until {
                if self.work.wait_until(&mut state, idle).timed_out() && state.worker == sleep {
                    state.spares.truncate(IDLE_SPARES);
                }
            } else {
                self.work.wait_until(&mut state, until);
            }
        }
        let called = std::mem::replace(&mut state.worker, Worker::Busy) == Worker::Called;
        called || due || done
    }

    /// Whether so much waits that it is time to hand it over.
    fn has_enough(&self, state: &State) -> bool {
        state.sealed_records >= self.most_records / ENOUGH || state.sealed.len() >= self.enough_batches
    }

    /// The number that the next record will have, where nothing presses: there is room for a good deal of them, and nobody
    /// waits for a flush or for the end.
    pub(crate) fn next_at_leisure(&self) -> Option<u64> {
        let state = self.state.lock();
        let presses = self.is_half(&state) || state.generations.are_awaited() || state.stop_by.is_some();
        (!presses).then(|| state.open.next_number())
    }

    /// Calls the worker for something that is not a record.
    pub(crate) fn call(&self) {
        self.state.lock().call_worker();
        self.work.notify_one();
    }

    /// Counts outcomes and gives their room back; false, and nothing counted, once the records have been abandoned.
    pub(crate) fn settle(&self, settled: &Settled) -> bool {
        let mut state = self.state.lock();
        if state.abandoned.is_some() {
            return false;
        }
        self.counters.delivered(settled.delivered);
        self.counters.failed(settled.failed);
        for part in &settled.parts {
            state.held_records -= part.records;
            state.held_bytes -= part.bytes;
            state.generations.leave(part.generation, part.records as u64);
        }
        for tracked in &settled.awaited {
            state.awaited.remove(&address(tracked));
        }
        drop(state);
        self.progress.notify_all();
        true
    }

    /// An earlier process has left so many records on the disk, of this generation now. Their numbers are below `number`:
    /// records from now on have those from there on. Comes before any record.
    pub(crate) fn recover(&self, records: u64, number: u64) -> Generation {
        let mut state = self.state.lock();
        self.counters.recovered(records);
        state.on_disk += records;
        state.open.number_from(number);
        state.generations.enter_many(records)
    }

    /// Records have gone to the disk, and their room is free.
    pub(crate) fn divert(&self, Part { records, bytes, .. }: Part) {
        let mut state = self.state.lock();
        if state.abandoned.is_some() {
            // The shutdown did not wait so long, and has counted them; they are on the disk all the same.
            return;
        }
        self.counters.spooled(records as u64);
        state.held_records -= records;
        state.held_bytes -= bytes;
        state.on_disk += records as u64;
        drop(state);
        self.progress.notify_all();
    }

    /// So many records on the disk, of these generations, are settled.
    pub(crate) fn leave_disk(&self, parts: &[(Generation, u64)]) {
        if parts.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        if state.abandoned.is_some() {
            return;
        }
        state.leave_disk(parts);
        drop(state);
        self.progress.notify_all();
    }

    /// Whether memory is half full, with what is in flight.
    pub(crate) fn is_half_full(&self) -> bool {
        self.is_half(&self.state.lock())
    }

    /// With a disk, a client does not have all of memory: there is to be room for what comes meanwhile, below where the
    /// overflow policy begins to refuse.
    pub(crate) fn window_beside_disk(&self) -> (usize, usize) {
        let rest = if matches!(self.overflow, Overflow::DropBelow(_)) { 2 } else { 4 };
        ((self.most_records - self.most_records / rest).max(1), (self.most_bytes - self.most_bytes / rest).max(1))
    }

    /// In one batch, of records and of bytes.
    pub(crate) fn most_in_batch(&self) -> (usize, usize) {
        self.most_in_batch
    }

    /// How much a client may have from the disk: what is free here, and a quarter of the bounds in any case.
    pub(crate) fn window_from_disk(&self) -> (usize, usize) {
        let state = self.state.lock();
        let share = |most: usize, held: usize| most.saturating_sub(held).max(most / 4).max(1);
        (share(self.most_records, state.held_records), share(self.most_bytes, state.held_bytes))
    }

    /// Takes out the awaited records that a client had which is no more.
    pub(crate) fn take_handed_over(&self) -> Vec<Meta> {
        let mut state = self.state.lock();
        let is_handed_over = |meta: &Meta| meta.tracked.as_ref().is_some_and(|tracked| tracked.is_handed_over());
        let addresses: Vec<usize> =
            state.awaited.iter().filter(|(_, meta)| is_handed_over(meta)).map(|(address, _)| *address).collect();
        addresses.iter().filter_map(|address| state.awaited.remove(address)).collect()
    }

    /// Ends the queue's life, once, and counts what is unsettled as dropped by the shutdown.
    pub(crate) fn abandon(&self) -> Abandoned {
        let mut state = self.state.lock();
        if state.abandoned.is_some() {
            return Abandoned::default();
        }
        let left = state.held_records;
        self.counters.dropped(DropReason::Shutdown, left as u64);
        state.closed = true;
        state.abandoned = Some(left as u64);
        state.held_records = 0;
        state.held_bytes = 0;
        state.generations.clear();
        state.on_disk = 0;
        state.sealed_records = 0;
        let mut waiting: Vec<Batch> = std::mem::take(&mut state.sealed).into();
        waiting.push(std::mem::take(&mut state.open));
        let awaited = std::mem::take(&mut state.awaited).into_values().collect();
        drop(state);
        self.progress.notify_all();
        let with_client = left - waiting.iter().map(Batch::len).sum::<usize>();
        Abandoned { waiting, awaited, with_client }
    }
}

/// What was unsettled at the end.
#[derive(Debug, Default)]
pub(crate) struct Abandoned {
    pub(crate) waiting: Vec<Batch>,
    /// All that somebody awaits, in the waiting batches or with a client.
    pub(crate) awaited: Vec<Meta>,
    /// How many a client has, or the worker's own hands.
    pub(crate) with_client: usize,
}

/// The place of a record that its caller writes to the disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announced {
    pub(crate) generation: Generation,
    /// In the order of the queue.
    pub(crate) number: u64,
}

/// Records that have their outcome.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    pub(crate) delivered: u64,
    pub(crate) failed: u64,
    pub(crate) parts: Vec<Part>,
    pub(crate) awaited: Vec<Arc<Tracked>>,
}

/// Some of them, of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) generation: Generation,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl Settled {
    /// Adds the room of some records.
    pub(crate) fn add(&mut self, part: Part) {
        match self.parts.last_mut() {
            Some(last) if last.generation == part.generation => {
                last.records += part.records;
                last.bytes += part.bytes;
            }
            _ => self.parts.push(part),
        }
    }
}

impl State {
    fn seal(&mut self) {
        if !self.open.is_empty() {
            let next = self.spares.pop().unwrap_or_else(Batch::roomy);
            let full = std::mem::replace(&mut self.open, next);
            self.open.number_from(full.next_number());
            self.sealed_records += full.len();
            self.sealed.push_back(full);
        }
    }

    fn take_oldest(&mut self) -> Option<Batch> {
        if self.sealed.is_empty() {
            self.seal();
        }
        let oldest = self.sealed.pop_front()?;
        self.sealed_records -= oldest.len();
        Some(oldest)
    }

    fn is_settled(&self) -> bool {
        self.held_records == 0 && self.on_disk == 0
    }

    /// Notes a record that somebody awaits.
    fn awaits(&mut self, meta: &Meta) {
        if let Some(tracked) = &meta.tracked
            && tracked.awaited
        {
            self.awaited.insert(address(tracked), meta.clone());
        }
    }

    fn leave_disk(&mut self, parts: &[(Generation, u64)]) {
        for (generation, records) in parts {
            self.on_disk -= records;
            self.generations.leave(*generation, *records);
        }
    }

    fn call_worker(&mut self) {
        self.worker = Worker::Called;
    }

    fn order(&self) -> Order {
        match self.stop_by {
            None => Order::GoOn,
            Some(_) if self.is_settled() => Order::StopBy(Instant::now()),
            Some(deadline) => Order::StopBy(deadline),
        }
    }
}

/// What tells one tracked record from another while both are in the queue.
fn address(tracked: &Arc<Tracked>) -> usize {
    Arc::as_ptr(tracked).addr()
}

#[cfg(all(test, shuttle))]
mod model_tests;
