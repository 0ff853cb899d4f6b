//! The thread between the queue and the client.
//!
//! It hands batches over, collects outcomes, and keeps deadlines. It never blocks but in its own sleep, and on the disk
//! where there is a spool; it never resends a record that has an outcome, and a panic of the client ends the client, not
//! the worker.

mod disk;
mod giving_up;
mod in_flight;
mod pace;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::giving_up::End;
pub(crate) use self::giving_up::abandon;
use self::in_flight::InFlight;
use self::pace::{Handed, LONGEST_TURN, Pace, TURN};
use crate::deadline;
use crate::delivery::Losses;
use crate::queue::{Batch, Order, Part, Queue, Room, Settled};
use crate::recursion;
use crate::spool::{Detour, is_from_disk};
use crate::status::Health;
use crate::transport::{Client, Factory, Outcome};

/// The first and the longest pause before a client that panicked is replaced.
const REPLACE_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// While nothing has been acknowledged for so long, new records join those that are on the disk.
const STANDSTILL: Duration = Duration::from_secs(1);

pub(crate) struct Worker {
    /// How long a client waits for more records to send along.
    pub(crate) linger: Duration,
    pub(crate) queue: Arc<Queue>,
    pub(crate) losses: Arc<Losses>,
    pub(crate) health: Arc<Health>,
    pub(crate) factory: Factory,
    /// With a spool, how long a record waits in memory for an acknowledgement.
    pub(crate) patience: Duration,
}

impl Worker {
    /// Runs until the queue is told to stop. The client is dropped last, after `shutdown` has its answer.
    pub(crate) fn run(self, client: Box<dyn Client>, detour: Option<Detour>) {
        let _ours = recursion::enter();
        let mut shift = Shift {
            worker: &self,
            client: Some(client),
            batch: None,
            waiting: VecDeque::new(),
            in_flight: InFlight::default(),
            detour,
            progress: Instant::now(),
        };
        let end = End(&self);
        shift.work();
        let told = shift.save();
        shift.abandon(told);
        drop(end);
        let client = shift.client.take();
        // A client that panics while it ends takes nothing with it: all is counted.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(client)));
    }
}

/// What the worker holds while it runs.
struct Shift<'a> {
    worker: &'a Worker,
    /// None while a client that panicked has no successor yet.
    client: Option<Box<dyn Client>>,
    /// The client has taken a part of it.
    batch: Option<Batch>,
    /// Taken from the queue, the oldest first; what is on the disk goes before them.
    waiting: VecDeque<Batch>,
    in_flight: InFlight,
    detour: Option<Detour>,
    /// The last acknowledgement; or when there was nothing to acknowledge.
    progress: Instant,
}

impl Shift<'_> {
    fn work(&mut self) {
        let mut pause = REPLACE_AFTER.0;
        let mut pace = Pace::new(self.worker.linger.min(self.worker.patience / 4));
        let mut outcomes = Vec::new();
        loop {
            let stop_by = match self.worker.queue.order() {
                Order::GoOn => None,
                Order::StopBy(deadline) if deadline <= Instant::now() => return,
                Order::StopBy(deadline) => Some(deadline),
            };
            if self.client.is_none() {
                self.wait_without_client(stop_by, pause);
                pause = (pause * 2).min(REPLACE_AFTER.1);
                self.replace_client();
                continue;
            }

            let works = pace.begin();
            let turn = catch_unwind(AssertUnwindSafe(|| {
                let handed = if works { self.hand_over() } else { Handed::Nothing };
                if let Some(client) = &mut self.client {
                    client.poll(&mut outcomes);
                }
                handed
            }));
            if self.settle(&mut outcomes) {
                pause = REPLACE_AFTER.0;
            }
            // Asked now: the outcomes have made room.
            let ask = |handed| catch_unwind(AssertUnwindSafe(|| (handed, self.patience(), self.has_room())));
            let (handed, patience, has_room) = match turn.and_then(ask) {
                Ok(asked) => asked,
                Err(panic) => {
                    pace.go_on();
                    self.bury_client(&*panic);
                    continue;
                }
            };
            let patience = self.look_after_disk(patience, has_room);
            if has_room && !self.has_nothing_at_hand() {
                continue;
            }
            if works {
                // What had no room goes on as soon as there is: with that at hand, the worker would gather without a rest.
                pace.end(if has_room { handed } else { Handed::Nothing }, &self.worker.queue);
            }
            let goes_on = match handed {
                Handed::ATurn => true,
                Handed::ToTheFull => has_room,
                Handed::All | Handed::Nothing => false,
            };
            if goes_on && pace.until().is_none() {
                continue;
            }
            let room = match (has_room, pace.until()) {
                (false, _) if self.detour.is_some() => Room::OnDisk,
                (false, _) => Room::None,
                (true, None) => Room::Now,
                (true, Some(until)) => Room::After(until),
            };
            if self.wait(stop_by, patience, room) {
                pace.go_on();
            }
        }
    }

    /// Hands over what waits, as far as the client has room, the oldest first, and for one turn at most.
    fn hand_over(&mut self) -> Handed {
        let begun = Instant::now();
        let mut handed = Handed::Nothing;
        let mut bytes = 0;
        loop {
            if bytes >= TURN || (bytes > 0 && begun.elapsed() >= LONGEST_TURN) {
                return Handed::ATurn;
            }
            let has_room = self.has_room();
            if has_room && let Some(batch) = &self.batch {
                handed = Handed::All;
                bytes += batch.bytes().max(1);
                if !self.submit() {
                    return Handed::ToTheFull;
                }
                continue;
            }
            let queue = &self.worker.queue;
            let Some(detour) = &mut self.detour else {
                if !has_room {
                    return Handed::ToTheFull;
                }
                self.batch = queue.take();
                if self.batch.is_none() {
                    return handed;
                }
                continue;
            };
            // Without room too: what comes behind a batch that waits for it may go to the disk meanwhile.
            // Taken before the disk is looked at: what its threads have put there before it goes first.
            if self.waiting.is_empty() {
                self.waiting.extend(queue.take());
            }
            let has_unread = detour.has_unread(queue);
            let has_room = has_room && !detour.waits_for_files();
            if has_unread && has_room {
                self.batch = detour.take(queue);
                continue;
            }
            let Some(waiting) = self.waiting.pop_front() else {
                return if has_room { handed } else { Handed::ToTheFull };
            };
            let stands_still = !detour.is_empty() && self.progress.elapsed() >= STANDSTILL;
            if detour.takes_overflow() && (has_unread || stands_still || (!has_room && queue.is_half_full())) {
                if detour.divert(&waiting, queue) {
                    handed = Handed::All;
                    bytes += waiting.bytes().max(1);
                    queue.recycle(waiting);
                    continue;
                }
                detour.rest();
            }
            if !has_room || has_unread {
                self.waiting.push_front(waiting);
                return Handed::ToTheFull;
            }
            self.batch = Some(waiting);
        }
    }

    /// Gives the client the batch at hand; whether it took all of it.
    fn submit(&mut self) -> bool {
        let (Some(client), Some(batch)) = (&mut self.client, &mut self.batch) else { return false };
        let before = Part { generation: batch.generation(), records: batch.len(), bytes: batch.bytes() };
        if self.in_flight.records == 0 {
            self.progress = Instant::now();
        }
        let counted = Counted { before, batch, in_flight: &mut self.in_flight };
        client.submit(counted.batch);
        drop(counted);
        if !batch.is_empty() {
            return false;
        }
        if let Some(batch) = self.batch.take() {
            self.worker.queue.recycle(batch);
        }
        true
    }

    /// How long the client lets the worker sleep.
    fn patience(&self) -> Duration {
        self.client.as_ref().map_or(Duration::ZERO, |client| client.patience())
    }

    /// Whether all that was taken from the queue is with the client, or on the disk.
    fn has_nothing_at_hand(&self) -> bool {
        self.batch.is_none() && self.waiting.is_empty()
    }

    /// Whether another batch may go to the client, by its own word and by the queue's.
    fn has_room(&self) -> bool {
        let queue = &self.worker.queue;
        let (records, bytes) = if self.detour.is_some() { queue.window_beside_disk() } else { queue.window() };
        self.client.as_ref().is_some_and(|client| client.has_room())
            && self.in_flight.records < records
            && self.in_flight.bytes < bytes
            && self
                .detour
                .as_ref()
                .is_none_or(|detour| !detour.waits_for_files() && self.in_flight.has_room_from_disk(queue))
    }

    /// Waits for the moment at which a client that is no more is replaced. What memory has no room for goes to the disk
    /// meanwhile.
    fn wait_without_client(&mut self, stop_by: Option<Instant>, pause: Duration) {
        if self.detour.is_none() {
            self.wait(stop_by, pause, Room::None);
            return;
        }
        let until = Instant::now() + pause;
        loop {
            let handed = self.hand_over();
            let patience = until.saturating_duration_since(Instant::now());
            let patience = self.look_after_disk(patience, false);
            if handed != Handed::ATurn {
                self.wait(stop_by, patience, Room::OnDisk);
            }
            let over = |order| matches!(order, Order::StopBy(by) if by <= Instant::now() || stop_by.is_none());
            if until <= Instant::now() || over(self.worker.queue.order()) {
                return;
            }
        }
    }

    fn wait(&self, stop_by: Option<Instant>, patience: Duration, room: Room) -> bool {
        let wake = deadline::after(patience);
        self.worker.queue.wait(stop_by.map_or(wake, |stop_by| stop_by.min(wake)), room)
    }

    /// Counts the outcomes, gives their room back and tells who wants to hear; whether anything was delivered.
    fn settle(&mut self, outcomes: &mut Vec<Outcome>) -> bool {
        if outcomes.is_empty() {
            return false;
        }
        let mut settled = Settled::default();
        let mut from_disk = Vec::new();
        outcomes.retain(|outcome| {
            let part = Part { generation: outcome.generation, records: outcome.records, bytes: outcome.bytes };
            let known = self.in_flight.leave(part);
            debug_assert!(known, "a client has reported on a record it does not have");
            if known {
                let mut records = part.records as u64;
                match &mut self.detour {
                    Some(detour) if is_from_disk(part.generation) => {
                        records = detour.count(records);
                        from_disk.push((part, records));
                    }
                    _ => settled.add(part),
                }
                let tracked = outcome.meta.as_ref().and_then(|meta| meta.tracked.clone());
                settled.awaited.extend(tracked.filter(|tracked| tracked.awaited));
                match &outcome.result {
                    Ok(_) => settled.delivered += records,
                    Err(_) => settled.failed += records,
                }
            }
            known
        });
        let Worker { queue, losses, health, .. } = self.worker;
        if let Some(failure) = outcomes.iter().rev().find_map(|outcome| outcome.result.as_ref().err()) {
            health.refused(&failure.cause);
        }
        if settled.delivered > 0 {
            self.progress = Instant::now();
            health.acknowledged();
        }
        let _telling = if settled.failed > 0 { losses.telling() } else { None };
        if !queue.settle(&settled) {
            outcomes.clear();
        }
        if let Some(detour) = &mut self.detour {
            from_disk.iter().for_each(|(part, fresh)| detour.settled(part.generation, part.records, *fresh, queue));
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

    fn replace_client(&mut self) {
        match catch_unwind(AssertUnwindSafe(&self.worker.factory)) {
            Ok(Ok(client)) => self.client = Some(client),
            Ok(Err(error)) => self.worker.health.down(error.to_string()),
            Err(_) => self.worker.health.down("the client panicked while it was set up"),
        }
    }
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
