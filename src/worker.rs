//! The thread between the queue and the client.
//!
//! It hands batches over, collects outcomes, and keeps deadlines. It never blocks but in its own sleep, it never
//! resends a record that has an outcome, and a panic of the client ends the client, not the worker.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::deadline;
use crate::delivery::{DeliveryErrorKind, DropReason, Losses};
use crate::queue::{Batch, Generation, Order, Part, Queue, Room, Settled};
use crate::recursion;
use crate::status::Health;
use crate::transport::{Client, Factory, Outcome};

/// The first and the longest pause before a client that panicked is replaced.
const REPLACE_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How long records may gather before they are handed over, at most: what comes one by one costs a wake-up each.
const LONGEST_REST: Duration = Duration::from_millis(1);
/// A client that is given up has so long to give back what it holds, where somebody wants that.
const GIVE_BACK: Duration = Duration::from_millis(500);

pub(crate) struct Worker {
    /// How long a client waits for more records to send along.
    pub(crate) linger: Duration,
    pub(crate) queue: Arc<Queue>,
    pub(crate) losses: Arc<Losses>,
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
        shift.abandon();
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
        if thread::panicking() {
            self.0.health.down("the worker panicked: records are no longer taken");
        }
        abandon(&self.0.queue, &self.0.losses, || 0);
    }
}

/// Ends the queue with what is in it, and tells of each record that somebody wants to hear of. `take_back` tells of those
/// that came out of it and can be had back, and counts them.
pub(crate) fn abandon(queue: &Queue, losses: &Losses, take_back: impl FnOnce() -> usize) {
    let _telling = losses.telling();
    let left = queue.abandon();
    for mut batch in left.waiting {
        tell_dropped(&mut batch, losses);
    }
    let back = if left.with_client > 0 { take_back() } else { 0 };
    // Those of them that waited have just been told; this is for those with a client, which has their payloads.
    for meta in &left.awaited {
        losses.given_up(meta, DropReason::Shutdown.kind(), DropReason::Shutdown.words());
    }
    losses.missed(left.with_client.saturating_sub(back));
}

fn tell_dropped(batch: &mut Batch, losses: &Losses) {
    while let Some((payload, meta)) = batch.pop() {
        losses.dropped(&meta, payload, DropReason::Shutdown);
    }
}

/// Has a client that is given up give back what it can, and tells of that; how many records it was.
fn take_back(client: &mut dyn Client, losses: &Losses, kind: DeliveryErrorKind, cause: &str) -> usize {
    if !losses.wants_payloads() {
        return 0;
    }
    let cause: Arc<str> = cause.into();
    let deadline = deadline::after(GIVE_BACK);
    let outcomes = catch_unwind(AssertUnwindSafe(|| client.give_back(deadline))).unwrap_or_default();
    let mut records = 0;
    for outcome in outcomes {
        match (outcome.meta, outcome.result) {
            (Some(meta), Err(failure)) => losses.given_back(&meta, failure.payload, kind, &cause),
            (None, Err(_)) => continue,
            // It has arrived, and was counted as given up.
            (_, Ok(_)) => {}
        }
        records += outcome.records;
    }
    records
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
        let rest = LONGEST_REST.min(self.worker.linger / 2);
        let mut outcomes = Vec::new();
        loop {
            let stop_by = match self.worker.queue.order() {
                Order::GoOn => None,
                Order::StopBy(deadline) if deadline <= Instant::now() => return,
                Order::StopBy(deadline) => Some(deadline),
            };
            let Some(client) = &mut self.client else {
                self.wait(stop_by, pause, Room::None);
                pause = (pause * 2).min(REPLACE_AFTER.1);
                self.replace_client();
                continue;
            };

            let turn = catch_unwind(AssertUnwindSafe(|| {
                let took = hand_over(&self.worker.queue, client.as_mut(), &mut self.batch, &mut self.in_flight);
                client.poll(&mut outcomes);
                took
            }));
            let delivered = self.settle(&mut outcomes);
            match (turn, &self.client) {
                (Ok(took), Some(client)) => {
                    if delivered {
                        pause = REPLACE_AFTER.0;
                    }
                    // Asked now: the outcomes have made room.
                    let has_room = has_room(&self.worker.queue, client.as_ref(), &self.in_flight);
                    if self.batch.is_none() || !has_room {
                        let room = match (has_room, took && !rest.is_zero()) {
                            (false, _) => Room::None,
                            (true, false) => Room::Now,
                            // Where there were records, there will be more.
                            (true, true) => Room::After(Instant::now() + rest),
                        };
                        self.wait(stop_by, client.patience(), room);
                    }
                }
                (Ok(_), None) => {}
                (Err(panic), _) => self.bury_client(&*panic),
            }
        }
    }

    /// Ends the queue, and tells of what is left of all that came out of it.
    fn abandon(&mut self) {
        let Worker { queue, losses, .. } = self.worker;
        let (client, batch) = (&mut self.client, &mut self.batch);
        abandon(queue, losses, || {
            let mut back = 0;
            if let Some(client) = client {
                back += take_back(client.as_mut(), losses, DropReason::Shutdown.kind(), DropReason::Shutdown.words());
            }
            if let Some(batch) = batch {
                back += batch.len();
                tell_dropped(batch, losses);
            }
            back
        });
    }

    fn wait(&self, stop_by: Option<Instant>, patience: Duration, room: Room) {
        let wake = deadline::after(patience);
        self.worker.queue.wait(stop_by.map_or(wake, |stop_by| stop_by.min(wake)), room);
    }

    /// Counts the outcomes, gives their room back and tells who wants to hear; whether anything was delivered.
    fn settle(&mut self, outcomes: &mut Vec<Outcome>) -> bool {
        if outcomes.is_empty() {
            return false;
        }
        let mut settled = Settled::default();
        outcomes.retain(|outcome| {
            let part = Part { generation: outcome.generation, records: outcome.records, bytes: outcome.bytes };
            let known = self.in_flight.leave(part);
            debug_assert!(known, "a client has reported on a record it does not have");
            if known {
                settled.add(part);
                let tracked = outcome.meta.as_ref().and_then(|meta| meta.tracked.clone());
                settled.awaited.extend(tracked.filter(|tracked| tracked.awaited));
                match &outcome.result {
                    Ok(_) => settled.delivered += part.records as u64,
                    Err(_) => settled.failed += part.records as u64,
                }
            }
            known
        });
        let Worker { queue, losses, health, .. } = self.worker;
        if let Some(failure) = outcomes.iter().rev().find_map(|outcome| outcome.result.as_ref().err()) {
            health.refused(&failure.cause);
        }
        if settled.delivered > 0 {
            health.acknowledged();
        }
        let _telling = if settled.failed > 0 { losses.telling() } else { None };
        if !queue.settle(&settled) {
            outcomes.clear();
        }
        for outcome in outcomes.drain(..) {
            match (outcome.meta, outcome.result) {
                (Some(meta), Ok(ack)) => losses.delivered(&meta, ack),
                (Some(meta), Err(failure)) => losses.failed(&meta, failure),
                (None, Err(_)) => losses.missed_by_fallback(outcome.records),
                (None, Ok(_)) => {}
            }
        }
        settled.delivered > 0
    }

    /// Counts what a client that panicked has taken with it as failed.
    fn bury_client(&mut self, panic: &(dyn Any + Send)) {
        let words = panic.downcast_ref::<&str>().copied();
        let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let cause = format!("the client panicked and is replaced: {words}");
        self.worker.health.down(cause.as_str());
        let mut client = self.client.take();
        let parts = self.in_flight.drain();
        let failed: usize = parts.iter().map(|part| part.records).sum();
        let Worker { queue, losses, .. } = self.worker;
        let _telling = losses.telling();
        let awaited = queue.take_handed_over();
        if queue.settle(&Settled { failed: failed as u64, parts, ..Settled::default() }) && failed > 0 {
            let back = client
                .as_mut()
                .map_or(0, |client| take_back(client.as_mut(), losses, DeliveryErrorKind::Rejected, &cause));
            losses.missed(failed.saturating_sub(back));
        }
        for meta in &awaited {
            losses.given_up(meta, DeliveryErrorKind::Rejected, &cause);
        }
        // On a thread of its own, since a client's end may take a moment. Without one it ends here, with the closure.
        let end = move || {
            let _ours = recursion::enter();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(client)));
        };
        let _ = thread::Builder::new().name("kafka_log-end".into()).spawn(end);
    }

    fn replace_client(&mut self) {
        match catch_unwind(AssertUnwindSafe(&self.worker.factory)) {
            Ok(Ok(client)) => self.client = Some(client),
            Ok(Err(error)) => self.worker.health.down(error.to_string()),
            Err(_) => self.worker.health.down("the client panicked while it was set up"),
        }
    }
}

/// Hands over what waits, as far as the client has room; whether there was anything.
fn hand_over(queue: &Queue, client: &mut dyn Client, current: &mut Option<Batch>, in_flight: &mut InFlight) -> bool {
    let mut took = false;
    while has_room(queue, client, in_flight) {
        let Some(batch) = current.as_mut() else {
            *current = queue.take();
            if current.is_none() {
                return took;
            }
            continue;
        };
        let before = Part { generation: batch.generation(), records: batch.len(), bytes: batch.bytes() };
        let counted = Counted { before, batch, in_flight };
        client.submit(counted.batch);
        drop(counted);
        took = true;
        if batch.is_empty() {
            if let Some(batch) = current.take() {
                queue.recycle(batch);
            }
        } else {
            return took;
        }
    }
    took
}

/// Whether another batch may go to the client, by its own word and by the queue's.
fn has_room(queue: &Queue, client: &dyn Client, in_flight: &InFlight) -> bool {
    let (records, bytes) = queue.window();
    client.has_room() && in_flight.records < records && in_flight.bytes < bytes
}

/// Counts what the client took from a batch, also when it panics while taking.
struct Counted<'a> {
    before: Part,
    batch: &'a mut Batch,
    in_flight: &'a mut InFlight,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let Part { generation, records, bytes } = self.before;
        let (records, bytes) = (records - self.batch.len(), bytes - self.batch.bytes());
        self.in_flight.enter(Part { generation, records, bytes });
    }
}

/// What the client has taken and not answered for.
#[derive(Default)]
struct InFlight {
    records: usize,
    bytes: usize,
    by_generation: BTreeMap<Generation, (usize, usize)>,
}

impl InFlight {
    fn enter(&mut self, Part { generation, records, bytes }: Part) {
        if records > 0 {
            let held = self.by_generation.entry(generation).or_default();
            held.0 += records;
            held.1 += bytes;
            self.records += records;
            self.bytes += bytes;
        }
    }

    /// Takes records out; false if the client has none such.
    fn leave(&mut self, Part { generation, records, bytes }: Part) -> bool {
        let Some(held) = self.by_generation.get_mut(&generation) else { return false };
        let (Some(records_left), Some(bytes_left)) = (held.0.checked_sub(records), held.1.checked_sub(bytes)) else {
            return false;
        };
        *held = (records_left, bytes_left);
        self.records -= records;
        self.bytes -= bytes;
        if records_left == 0 {
            self.by_generation.remove(&generation);
        }
        true
    }

    fn drain(&mut self) -> Vec<Part> {
        (self.records, self.bytes) = (0, 0);
        std::mem::take(&mut self.by_generation)
            .into_iter()
            .map(|(generation, (records, bytes))| Part { generation, records, bytes })
            .collect()
    }
}
