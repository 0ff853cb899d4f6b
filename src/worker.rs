//! The thread between the queue and the client.
//!
//! It hands batches over, collects outcomes, and keeps deadlines. It never blocks but in its own sleep, it never
//! resends a record that has an outcome, and a panic of the client ends the client, not the worker.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::deadline;
use crate::delivery::{Counters, DropReason};
use crate::queue::{Batch, Generation, Order, Queue, Settled};
use crate::recursion;
use crate::status::Health;
use crate::transport::{Client, Factory, Outcome};

/// The first and the longest pause before a client that panicked is replaced.
const REPLACE_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(crate) struct Worker {
    pub(crate) queue: Arc<Queue>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) health: Arc<Health>,
    pub(crate) factory: Factory,
}

impl Worker {
    /// Runs until the queue is told to stop. The client is dropped last, after `shutdown` has its answer.
    pub(crate) fn run(self, client: Box<dyn Client>) {
        let _ours = recursion::enter();
        let mut shift = Shift { worker: &self, client: Some(client), batch: None, in_flight: InFlight::default() };
        let end = End(&self);
        shift.work();
        drop(end);
        let client = shift.client.take();
        // A client that panics while it ends takes nothing with it: all is counted.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(client)));
    }
}

/// Counts what is left when the worker ends, even by a panic of its own: nobody waits for a dead worker.
struct End<'a>(&'a Worker);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.health.down("the worker panicked: records are no longer taken");
        }
        self.0.queue.abandon(|left| self.0.counters.dropped(DropReason::Shutdown, left));
    }
}

/// What the worker holds while it runs.
struct Shift<'a> {
    worker: &'a Worker,
    /// None while a client that panicked has no successor yet.
    client: Option<Box<dyn Client>>,
    /// Taken from the queue and not handed over in full.
    batch: Option<Batch>,
    in_flight: InFlight,
}

impl Shift<'_> {
    fn work(&mut self) {
        let mut pause = REPLACE_AFTER.0;
        let mut outcomes = Vec::new();
        loop {
            let stop_by = match self.worker.queue.order() {
                Order::GoOn => None,
                Order::StopBy(deadline) if deadline <= Instant::now() => return,
                Order::StopBy(deadline) => Some(deadline),
            };
            let Some(client) = &mut self.client else {
                self.wait(stop_by, pause, false);
                pause = (pause * 2).min(REPLACE_AFTER.1);
                self.replace_client();
                continue;
            };

            let turn = catch_unwind(AssertUnwindSafe(|| {
                hand_over(&self.worker.queue, client.as_mut(), &mut self.batch, &mut self.in_flight);
                client.poll(&mut outcomes);
                (client.patience(), client.has_room())
            }));
            let delivered = self.settle(&mut outcomes);
            match turn {
                Ok((patience, has_room)) => {
                    if delivered {
                        pause = REPLACE_AFTER.0;
                    }
                    if self.batch.is_none() || !has_room {
                        self.wait(stop_by, patience, has_room);
                    }
                }
                Err(panic) => self.bury_client(&*panic),
            }
        }
    }

    fn wait(&self, stop_by: Option<Instant>, patience: Duration, has_room: bool) {
        let wake = deadline::after(patience);
        self.worker.queue.wait(stop_by.map_or(wake, |stop_by| stop_by.min(wake)), has_room);
    }

    /// Counts the outcomes and gives their room back; whether anything was delivered.
    fn settle(&mut self, outcomes: &mut Vec<Outcome>) -> bool {
        if outcomes.is_empty() {
            return false;
        }
        let (mut delivered, mut failed, mut cause) = (0, 0, None);
        let mut settled: Vec<Settled> = Vec::new();
        for outcome in outcomes.drain(..) {
            if !self.in_flight.leave(outcome.generation, outcome.bytes) {
                debug_assert!(false, "a client has reported on a record it does not have");
                continue;
            }
            match outcome.result {
                Ok(_) => delivered += 1,
                Err(failure) => {
                    failed += 1;
                    cause = Some(failure.cause);
                }
            }
            match settled.last_mut() {
                Some(last) if last.generation == outcome.generation => {
                    last.records += 1;
                    last.bytes += outcome.bytes;
                }
                _ => settled.push(Settled { generation: outcome.generation, records: 1, bytes: outcome.bytes }),
            }
        }
        if let Some(cause) = cause {
            self.worker.health.refused(&cause);
        }
        if delivered > 0 {
            self.worker.health.acknowledged();
        }
        let counters = &self.worker.counters;
        self.worker.queue.settle(&settled, || {
            counters.delivered(delivered);
            counters.failed(failed);
        });
        delivered > 0
    }

    /// Counts what a client that panicked has taken with it as failed.
    fn bury_client(&mut self, panic: &(dyn Any + Send)) {
        let words = panic.downcast_ref::<&str>().copied();
        let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        self.worker.health.down(format!("the client panicked and is replaced: {words}"));
        let client = self.client.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(client)));
        let lost = self.in_flight.drain();
        let records: usize = lost.iter().map(|part| part.records).sum();
        self.worker.queue.settle(&lost, || self.worker.counters.failed(records as u64));
    }

    fn replace_client(&mut self) {
        match catch_unwind(AssertUnwindSafe(&self.worker.factory)) {
            Ok(Ok(client)) => self.client = Some(client),
            Ok(Err(error)) => self.worker.health.down(error.to_string()),
            Err(_) => self.worker.health.down("the client panicked while it was set up"),
        }
    }
}

/// Hands over what waits, as far as the client has room.
fn hand_over(queue: &Queue, client: &mut dyn Client, current: &mut Option<Batch>, in_flight: &mut InFlight) {
    while client.has_room() {
        let Some(batch) = current.as_mut() else {
            *current = queue.take();
            if current.is_none() {
                return;
            }
            continue;
        };
        let counted = Counted { before: (batch.len(), batch.bytes()), batch, in_flight };
        client.submit(counted.batch);
        drop(counted);
        if batch.is_empty() {
            if let Some(batch) = current.take() {
                queue.recycle(batch);
            }
        } else {
            return;
        }
    }
}

/// Counts what the client took from a batch, also when it panics while taking.
struct Counted<'a> {
    before: (usize, usize),
    batch: &'a mut Batch,
    in_flight: &'a mut InFlight,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let (records, bytes) = self.before;
        self.in_flight.enter(self.batch.generation(), records - self.batch.len(), bytes - self.batch.bytes());
    }
}

/// What the client has taken and not answered for.
#[derive(Default)]
struct InFlight {
    by_generation: BTreeMap<Generation, (usize, usize)>,
}

impl InFlight {
    fn enter(&mut self, generation: Generation, records: usize, bytes: usize) {
        if records > 0 {
            let held = self.by_generation.entry(generation).or_default();
            held.0 += records;
            held.1 += bytes;
        }
    }

    /// Takes one record out; false if the client has none such.
    fn leave(&mut self, generation: Generation, bytes: usize) -> bool {
        let Some((records, held)) = self.by_generation.get_mut(&generation) else { return false };
        let Some(left) = held.checked_sub(bytes) else { return false };
        (*records, *held) = (*records - 1, left);
        if *records == 0 {
            self.by_generation.remove(&generation);
        }
        true
    }

    fn drain(&mut self) -> Vec<Settled> {
        std::mem::take(&mut self.by_generation)
            .into_iter()
            .map(|(generation, (records, bytes))| Settled { generation, records, bytes })
            .collect()
    }
}
