//! What a full queue does.

use log::Level;

use super::sync::MutexGuard;
use super::{Batch, Pushed, Queue, State, address, batch};
use crate::config::Overflow;
use crate::deadline;
use crate::delivery::DropReason;

impl Queue {
    /// Whether a record of this length fits, and the policy has nothing to say: so it is as a rule.
    pub(super) fn has_room(&self, state: &State, length: usize) -> bool {
        !state.closed
            && length <= batch::LONGEST
            && self.fits(state, length)
            && !matches!(self.overflow, Overflow::DropBelow(_))
    }

    /// Sees to it that a record of this length fits, by the overflow policy.
    #[cold]
    pub(super) fn make_room(
        &self,
        state: &mut MutexGuard<'_, State>,
        length: usize,
        level: Level,
        pushed: &mut Pushed,
    ) -> Result<(), DropReason> {
        if length > self.most_bytes.min(batch::LONGEST) {
            // Nothing could make room for it.
            return Err(if state.closed { DropReason::Closed } else { DropReason::Oversize });
        }
        if let Overflow::DropBelow(least) = self.overflow
            && !state.closed
            // `log` orders levels by verbosity: what is greater is less severe.
            && level > least
            && self.is_three_quarters_full(state)
        {
            return Err(DropReason::QueueFull);
        }
        let deadline = match self.overflow {
            Overflow::BlockFor(timeout) => Some(deadline::after(timeout)),
            _ => None,
        };
        while !state.closed && !self.fits(state, length) {
            self.wake_gathering(state);
            match self.overflow {
                Overflow::Block => self.progress.wait(state),
                Overflow::BlockFor(_) => {
                    let timed_out = deadline.is_none_or(|by| self.progress.wait_until(state, by).timed_out());
                    if timed_out && !state.closed && !self.fits(state, length) {
                        return Err(DropReason::QueueFull);
                    }
                }
                // Room that giving up all that waits would not make: nothing is given up for that.
                Overflow::DropOldest if !self.fits_beside_the_clients(state, length) => {
                    return Err(DropReason::QueueFull);
                }
                Overflow::DropOldest => match state.evict() {
                    Some(batch) => {
                        self.counters.dropped(DropReason::QueueFull, batch.len() as u64);
                        pushed.evicted.push(batch);
                        self.progress.notify_all();
                    }
                    // All is with the client: there is no older record to give up.
                    None => return Err(DropReason::QueueFull),
                },
                _ => return Err(DropReason::QueueFull),
            }
        }
        if state.closed { Err(DropReason::Closed) } else { Ok(()) }
    }

    fn fits(&self, state: &State, length: usize) -> bool {
        state.held_records < self.most_records && length <= self.most_bytes.saturating_sub(state.held_bytes)
    }

    fn fits_beside_the_clients(&self, state: &State, length: usize) -> bool {
        let waiting = state.sealed.iter().chain([&state.open]);
        let (records, bytes) =
            waiting.fold((0, 0), |(records, bytes), batch| (records + batch.len(), bytes + batch.bytes()));
        state.held_records - records < self.most_records && state.held_bytes - bytes <= self.most_bytes - length
    }

    /// Whether so much is in memory that the disk is to have some: before the policy refuses any.
    pub(super) fn is_for_disk(&self, state: &State) -> bool {
        match self.overflow {
            Overflow::DropBelow(_) => self.is_half(state),
            _ => self.is_three_quarters_full(state),
        }
    }

    pub(super) fn is_half(&self, state: &State) -> bool {
        state.held_records >= self.most_records.div_ceil(2) || state.held_bytes >= self.most_bytes / 2
    }

    fn is_three_quarters_full(&self, state: &State) -> bool {
        let full = |held: usize, most: usize| held >= most - most / 4;
        full(state.held_records, self.most_records) || full(state.held_bytes, self.most_bytes)
    }
}

impl State {
    /// Takes the oldest waiting batch out for good.
    fn evict(&mut self) -> Option<Batch> {
        let batch = self.take_oldest()?;
        self.held_records -= batch.len();
        self.held_bytes -= batch.bytes();
        self.generations.leave(batch.generation(), batch.len() as u64);
        for tracked in batch.tracked() {
            self.awaited.remove(&address(tracked));
        }
        Some(batch)
    }
}
