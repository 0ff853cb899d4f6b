//! What the worker does for the disk, where there is a spool: it keeps there what a client gives back, in time, at the end,
//! and when a client is no more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::Shift;
use super::giving_up::{GIVE_BACK, end_elsewhere, told};
use crate::deadline;
use crate::delivery::{DeliveryErrorKind, DropReason};
use crate::queue::{Batch, Meta, Part};
use crate::spool::is_from_disk;

/// With a disk, how often the worker looks whether memory fills up while its client has no room.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Shift<'_> {
    /// What the disk is due by the passing of time; how long the worker may sleep, then.
    pub(super) fn look_after_disk(&mut self, patience: Duration, has_room: bool) -> Duration {
        let Some(detour) = &mut self.detour else { return patience };
        detour.sync_if_due();
        let mut patience = patience.min(detour.sync_due().unwrap_or(Duration::MAX));
        if !has_room || !detour.is_empty() {
            patience = patience.min(LOOK_AGAIN);
        }
        if self.in_flight.has_memory() {
            let left = self.worker.patience.saturating_sub(self.progress.elapsed());
            if !left.is_zero() {
                patience = patience.min(left);
            } else if detour.takes_overflow() {
                self.recall();
                return Duration::ZERO;
            }
        }
        patience
    }

    /// Nothing has been acknowledged for too long: what the client has goes to the disk, and another client begins with
    /// what is there.
    pub(super) fn recall(&mut self) {
        self.worker.health.error("nothing was acknowledged within `delivery_timeout`: records go to the spool");
        let refused = self.save_what_the_client_has();
        // What the client did not give back, or the disk did not take, ends here as it would without a spool.
        let cause = "not acknowledged within `delivery_timeout`, and not taken by the spool";
        self.fail_in_flight(DeliveryErrorKind::TimedOut, cause, told(refused, DeliveryErrorKind::TimedOut, cause));
        self.progress = Instant::now();
        self.replace_client();
    }

    /// Takes back what the client has, and keeps what came from memory on the disk; what the disk did not take is given
    /// back, and still counts as in flight. The client is of no use after that.
    pub(super) fn save_what_the_client_has(&mut self) -> Vec<(Meta, Vec<u8>)> {
        let given_back = self.client.take().map_or_else(Vec::new, |mut client| {
            let deadline = deadline::after(GIVE_BACK);
            let given_back = catch_unwind(AssertUnwindSafe(|| client.give_back(deadline))).unwrap_or_default();
            end_elsewhere(client);
            given_back
        });
        let (mut kept, mut others) = (Vec::new(), Vec::new());
        for mut outcome in given_back {
            let part = Part { generation: outcome.generation, records: outcome.records, bytes: outcome.bytes };
            match (&mut outcome.meta, &mut outcome.result) {
                (_, Ok(_)) => others.push(outcome),
                (meta, Err(failure)) if !is_from_disk(part.generation) => {
                    if let Some(meta) = meta.take() {
                        kept.push((part, meta, std::mem::take(&mut failure.payload)));
                    }
                }
                // The disk has it.
                (_, Err(_)) => {}
            }
        }
        self.settle(&mut others);
        let taken =
            |kept: Vec<(Part, Meta, Vec<u8>)>| kept.into_iter().map(|(_, meta, payload)| (meta, payload)).collect();
        let Some(detour) = &mut self.detour else { return taken(kept) };
        let queue = &self.worker.queue;
        // The rest of a batch that the client has had in part is as old as that.
        if let Some(mut batch) = self.batch.take_if(|batch| !is_from_disk(batch.generation())) {
            let generation = batch.generation();
            while let Some((payload, meta)) = batch.pop() {
                let part = Part { generation, records: 1, bytes: payload.len() };
                kept.push((part, meta, payload.to_vec()));
                self.in_flight.enter(part);
            }
        }
        self.batch = None;
        // A client gives back by the partition, or as it happens.
        kept.sort_by_key(|(_, meta, _)| meta.number);
        // One that panicked may give back what it has reported on, or the same twice.
        kept.dedup_by_key(|(_, meta, _)| meta.number);
        kept.retain(|(part, ..)| self.in_flight.leave(*part));
        let refused = kept.split_off(detour.keep_late(&kept));
        refused.iter().for_each(|(part, ..)| self.in_flight.enter(*part));
        kept.iter().for_each(|(part, ..)| queue.divert(*part));
        detour.rewind();
        self.in_flight.forget_disk();
        taken(refused)
    }

    /// At the end: all that is in memory goes to the disk, as far as it can be had. How many records that a client had were
    /// not taken by the disk, and have been told.
    pub(super) fn save(&mut self) -> usize {
        if self.detour.is_none() {
            return 0;
        }
        let refused = self.save_what_the_client_has();
        for (meta, payload) in &refused {
            self.worker.losses.dropped(meta, payload, DropReason::Shutdown);
        }
        let queue = &self.worker.queue;
        let Some(mut detour) = self.detour.take() else { return refused.len() };
        while let Some(batch) = self.waiting.pop_front().or_else(|| queue.take()) {
            if !detour.divert(&batch, queue) {
                self.waiting.push_front(batch);
                break;
            }
        }
        detour.close();
        refused.len()
    }

    /// Keeps the rest of a batch from memory: what is on the disk by now may be older, or newer. It waits where the disk
    /// does not take it, and goes behind what is there then.
    pub(super) fn put_behind(&mut self, rest: Option<Batch>) {
        let (Some(rest), Some(detour)) = (rest, &self.detour) else { return };
        let waits = detour.is_empty() || !detour.takes_overflow();
        if waits || !detour.divert_late(&rest, &self.worker.queue) {
            self.waiting.push_front(rest);
        }
    }
}
