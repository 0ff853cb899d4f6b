//! What becomes of records whose client ends without them, and of all that is left when the worker ends.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Shift, Worker};
use crate::deadline;
use crate::delivery::{DeliveryErrorKind, DropReason, Losses};
use crate::queue::{Batch, Meta, Queue, Settled};
use crate::recursion;
use crate::spool::is_from_disk;
use crate::transport::Client;

/// A client that is given up has so long to give back what it holds, where somebody wants that.
pub(super) const GIVE_BACK: Duration = Duration::from_millis(500);

/// Counts what is left when the worker ends, even by a panic of its own: nobody waits for a dead worker.
pub(super) struct End<'a>(pub(super) &'a Worker);

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

/// Tells of these records that a client gave back, and counts them.
pub(super) fn told(
    given_back: Vec<(Meta, Vec<u8>)>,
    kind: DeliveryErrorKind,
    cause: &str,
) -> impl FnOnce(&Losses) -> usize {
    let cause: Arc<str> = cause.into();
    move |losses| {
        let records = given_back.len();
        given_back.into_iter().for_each(|(meta, payload)| losses.given_back(&meta, payload, kind, &cause));
        records
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

impl Shift<'_> {
    /// Ends the queue, and tells of what is left of all that came out of it, but for so many records that have been told.
    pub(super) fn abandon(&mut self, told: usize) {
        let Worker { queue, losses, .. } = self.worker;
        let (client, batches) = (&mut self.client, self.batch.iter_mut().chain(&mut self.waiting));
        abandon(queue, losses, || {
            let mut back = told;
            if let Some(client) = client {
                back += take_back(client.as_mut(), losses, DropReason::Shutdown.kind(), DropReason::Shutdown.words());
            }
            for batch in batches {
                back += batch.len();
                tell_dropped(batch, losses);
            }
            back
        });
    }

    /// Ends a client that panicked. With a spool, the next one has what is on the disk, and what the old one still gives
    /// back; what it has taken with it counts as failed.
    pub(super) fn bury_client(&mut self, panic: &(dyn Any + Send)) {
        let words = panic.downcast_ref::<&str>().copied();
        let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        let (kind, cause) = (DeliveryErrorKind::Rejected, format!("the client panicked and is replaced: {words}"));
        self.worker.health.down(cause.as_str());
        if self.detour.is_some() {
            // Of a batch from memory, what the client has not had is as good as ever.
            let rest = self.batch.take().filter(|batch| !batch.is_empty() && !is_from_disk(batch.generation()));
            let refused = self.save_what_the_client_has();
            self.put_behind(rest);
            self.fail_in_flight(kind, &cause, told(refused, kind, &cause));
        } else {
            let mut client = self.client.take();
            self.fail_in_flight(kind, &cause, |losses| {
                client.as_mut().map_or(0, |client| take_back(client.as_mut(), losses, kind, &cause))
            });
            if let Some(client) = client {
                end_elsewhere(client);
            }
        }
    }

    /// Counts all that is in flight as failed, with a client that is no more. `tell` tells of what was given back, and
    /// counts it.
    pub(super) fn fail_in_flight(&mut self, kind: DeliveryErrorKind, cause: &str, tell: impl FnOnce(&Losses) -> usize) {
        let parts = self.in_flight.drain();
        let failed: usize = parts.iter().map(|part| part.records).sum();
        let Worker { queue, losses, .. } = self.worker;
        let _telling = losses.telling();
        let awaited = queue.take_handed_over();
        if queue.settle(&Settled { failed: failed as u64, parts, ..Settled::default() }) && failed > 0 {
            losses.missed(failed.saturating_sub(tell(losses)));
        }
        for meta in &awaited {
            losses.given_up(meta, kind, cause);
        }
    }
}

/// Drops a client on a thread of its own, since its end may take a moment. Without one it ends here, with the closure.
pub(super) fn end_elsewhere(client: Box<dyn Client>) {
    let end = move || {
        let _ours = recursion::enter();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(client)));
    };
    let _ = thread::Builder::new().name("kafka_log-end".into()).spawn(end);
}
