//! The hand-over from the application's threads to ours: bounded by records and by bytes.
//!
//! The bounds hold for what waits and what is in flight together, so no client behind us has a hidden queue of
//! its own. Records travel in batches that share one buffer: a push copies its payload and allocates nothing in
//! steady state.

mod batch;
mod generations;

use std::collections::VecDeque;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

pub(crate) use self::batch::{Batch, Meta};
pub(crate) use self::generations::Generation;
use self::generations::Generations;
use crate::delivery::DropReason;

/// Emptied batches that are kept for the next records: of 256 KiB each at most, two megabytes in all.
const MOST_SPARES: usize = 8;

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// The worker sleeps here.
    work: Condvar,
    /// Flushes and shutdowns sleep here.
    progress: Condvar,
    most_records: usize,
    most_bytes: usize,
}

#[derive(Debug)]
struct State {
    /// Takes the next record; `sealed` ones are full and older.
    open: Batch,
    sealed: VecDeque<Batch>,
    spares: Vec<Batch>,
    /// Waiting plus in flight.
    held_records: usize,
    held_bytes: usize,
    generations: Generations,
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
    /// Asleep; only a call for attention wakes it, since its transport has no room.
    AwaitsRoom,
    /// To be woken, or not to fall asleep: something besides a record has come up.
    Called,
}

/// What the application asks of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    GoOn,
    /// End at this moment, or when all is settled.
    StopBy(Instant),
}

impl Queue {
    pub(crate) fn new(most_records: usize, most_bytes: usize) -> Queue {
        let state = State {
            open: Batch::default(),
            sealed: VecDeque::new(),
            spares: Vec::new(),
            held_records: 0,
            held_bytes: 0,
            generations: Generations::default(),
            worker: Worker::Busy,
            closed: false,
            stop_by: None,
            abandoned: None,
        };
        Queue { state: Mutex::new(state), work: Condvar::new(), progress: Condvar::new(), most_records, most_bytes }
    }

    /// The largest payload that fits at all.
    pub(crate) fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    // ---- the application's side -------------------------------------------------------------------------------

    /// Takes a copy of one payload, or refuses it; never waits for anything but the lock.
    ///
    /// `submitted` runs under the lock, before the record can have an outcome.
    pub(crate) fn push(&self, payload: &[u8], meta: Meta, submitted: impl FnOnce()) -> Result<(), DropReason> {
        let mut state = self.state.lock();
        submitted();
        if state.closed {
            return Err(DropReason::Closed);
        }
        if payload.len() > self.most_bytes {
            return Err(DropReason::Oversize);
        }
        if state.held_records >= self.most_records || state.held_bytes > self.most_bytes - payload.len() {
            return Err(DropReason::QueueFull);
        }
        state.held_records += 1;
        state.held_bytes += payload.len();
        let generation = state.generations.enter();
        if !state.open.takes(payload.len(), generation) {
            state.seal();
            state.open.start(generation);
        }
        state.open.push(payload, meta);
        if state.worker == Worker::AwaitsRecords {
            state.worker = Worker::Called;
            drop(state);
            self.work.notify_one();
        }
        Ok(())
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
        self.work.notify_one();
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

    // ---- the worker's side ------------------------------------------------------------------------------------

    pub(crate) fn order(&self) -> Order {
        self.state.lock().order()
    }

    /// The oldest batch that waits.
    pub(crate) fn take(&self) -> Option<Batch> {
        let mut state = self.state.lock();
        if let Some(batch) = state.sealed.pop_front() {
            return Some(batch);
        }
        if state.open.is_empty() {
            return None;
        }
        let next = state.spares.pop().unwrap_or_default();
        Some(std::mem::replace(&mut state.open, next))
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

    /// Sleeps until there is something to do, or `until`.
    pub(crate) fn wait(&self, until: Instant, has_room: bool) {
        let mut state = self.state.lock();
        let due = has_room && (!state.sealed.is_empty() || !state.open.is_empty());
        let done = state.stop_by.is_some() && state.held_records == 0;
        if state.worker != Worker::Called && !due && !done {
            state.worker = if has_room { Worker::AwaitsRecords } else { Worker::AwaitsRoom };
            self.work.wait_until(&mut state, until);
        }
        state.worker = Worker::Busy;
    }

    /// Calls the worker for something that is not a record.
    pub(crate) fn call(&self) {
        self.state.lock().call_worker();
        self.work.notify_one();
    }

    /// Gives back the room of records that have their outcome, and runs `count` on the same side of
    /// [`abandon`](Queue::abandon): after it, nothing is counted twice.
    pub(crate) fn settle(&self, settled: &[Settled], count: impl FnOnce()) {
        let mut state = self.state.lock();
        if state.abandoned.is_some() {
            return;
        }
        count();
        for part in settled {
            state.held_records -= part.records;
            state.held_bytes -= part.bytes;
            state.generations.leave(part.generation, part.records as u64);
        }
        drop(state);
        self.progress.notify_all();
    }

    /// Ends the queue's life with whatever is unsettled, once: `count` gets the number of those records.
    pub(crate) fn abandon(&self, count: impl FnOnce(u64)) {
        let mut state = self.state.lock();
        if state.abandoned.is_some() {
            return;
        }
        let left = state.held_records as u64;
        count(left);
        state.closed = true;
        state.abandoned = Some(left);
        state.held_records = 0;
        state.held_bytes = 0;
        state.generations.clear();
        let waiting = (std::mem::take(&mut state.open), std::mem::take(&mut state.sealed));
        drop(state);
        drop(waiting);
        self.progress.notify_all();
    }
}

/// Records of one generation that have their outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) generation: Generation,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
}

impl State {
    fn seal(&mut self) {
        if !self.open.is_empty() {
            let next = self.spares.pop().unwrap_or_default();
            let full = std::mem::replace(&mut self.open, next);
            self.sealed.push_back(full);
        }
    }

    fn call_worker(&mut self) {
        self.worker = Worker::Called;
    }

    fn order(&self) -> Order {
        match self.stop_by {
            None => Order::GoOn,
            Some(_) if self.held_records == 0 => Order::StopBy(Instant::now()),
            Some(deadline) => Order::StopBy(deadline),
        }
    }
}
