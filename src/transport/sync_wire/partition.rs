//! One partition: its leader, and its loads in the order of their sequence numbers.
//!
//! Each partition is numbered by itself. When a broker has lost, or never had, what comes before a batch, the session's
//! epoch is raised and this partition alone begins anew under it, as in the Java client; the others go on under theirs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::load::{Load, Way, sequence_after};
use super::protocol::ErrorCode;
use super::records::Producer;
use crate::transport::pause::Pause;

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) index: i32,
    /// None while it has none.
    pub(super) leader: Option<i32>,
    pub(super) leader_epoch: i32,
    /// The id and epoch under which its batches are numbered.
    producer: Producer,
    /// Of the next load that is new.
    next_sequence: i32,
    /// Whether the broker has taken a batch under this id and epoch, and is known to have it still. Until then it takes
    /// any number for the first: a second batch under way could come before one that is sent again.
    confirmed: bool,
    /// Set when the sequence cannot be gone on with; it begins anew once nothing is under way.
    ended: bool,
    /// Loads that have been sent and have no outcome, in their order.
    sent: VecDeque<Load>,
    /// Before an attempt is repeated.
    pause: Pause,
}

/// What an answer means for a load.
#[derive(Debug)]
pub(super) enum Verdict {
    Delivered(Load),
    /// Another attempt cannot help.
    Refused(Load),
    /// It is sent again, and all that follows it.
    Again,
    /// The sequence cannot be gone on with: the partition begins anew under an epoch that is new.
    StartOver,
}

impl Partition {
    pub(super) fn new(index: i32, backoff: (Duration, Duration)) -> Partition {
        Partition {
            index,
            leader: None,
            leader_epoch: -1,
            producer: Producer::NONE,
            next_sequence: 0,
            confirmed: false,
            ended: false,
            sent: VecDeque::new(),
            pause: Pause::new(backoff),
        }
    }

    /// Under which its batches go out.
    pub(super) fn producer(&self) -> Producer {
        self.producer
    }

    /// Whether its sequence has ended under the session as it is now, whose epoch has to be raised for that.
    pub(super) fn wants_epoch(&self, producer: Producer) -> bool {
        self.ended && self.producer == producer
    }

    /// Goes over to the session as it is now, if it can and has to.
    pub(super) fn adopt(&mut self, producer: Producer) {
        if (self.ended && !self.has_under_way()) || (self.sent.is_empty() && self.producer != producer) {
            self.start_over(producer);
        }
    }

    /// Begins the sequence anew, under an id or epoch that is new to this partition.
    fn start_over(&mut self, producer: Producer) {
        self.producer = producer;
        self.sent.iter_mut().for_each(Load::lay_out_anew);
        self.renumber(0, 0);
        (self.confirmed, self.ended) = (false, false);
    }

    /// Whether a load that is new may be sent, where so many may be under way.
    pub(super) fn takes_new(&self, most: usize) -> bool {
        let most = if self.confirmed { most } else { 1 };
        self.leader.is_some() && !self.ended && self.sent.len() < most && !self.has_waiting()
    }

    /// Its topic is another by now; what was sent waits for its timeout.
    pub(super) fn without_leader(mut self) -> Partition {
        self.leader = None;
        self.doubt();
        self
    }

    /// The broker may be one that knows nothing of this sequence: it was away, and may have come back without its disk,
    /// or the topic is another.
    pub(super) fn doubt(&mut self) {
        self.confirmed = false;
    }

    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty()
    }

    /// A load that is new, at the end of the sequence.
    pub(super) fn add(&mut self, mut load: Load) {
        load.renumber(self.next_sequence);
        self.next_sequence = sequence_after(self.next_sequence, load.len());
        self.sent.push_back(load);
    }

    /// The next load to be sent on this connection, where so many may be under way. Later ones wait for it, and it for
    /// earlier ones that are under way elsewhere.
    pub(super) fn next_to_send(&mut self, connection: usize, most: usize, now: Instant) -> Option<&mut Load> {
        if self.ended || self.pause.left(now).is_some() {
            return None;
        }
        // Before the first is confirmed, the others wait for that.
        let most = if self.confirmed { most } else { 1 };
        for load in self.sent.iter_mut().take(most) {
            match load.way {
                Way::Waits => return Some(load),
                Way::UnderWay { connection: other, .. } if other != connection => return None,
                // Numbers that have moved up may be those under which others are still on their way.
                Way::UnderWay { .. } if load.is_renumbered() => return None,
                Way::UnderWay { .. } => {}
            }
        }
        None
    }

    /// Whether a load waits for an attempt.
    pub(super) fn has_waiting(&self) -> bool {
        self.sent.iter().any(|load| load.way == Way::Waits)
    }

    fn has_under_way(&self) -> bool {
        self.sent.iter().any(|load| load.way != Way::Waits)
    }

    /// When the pause before the next attempt ends, if there is one.
    pub(super) fn pause_left(&self, now: Instant) -> Option<Duration> {
        self.pause.left(now).filter(|_| self.has_waiting())
    }

    /// What was under way on this connection has to be sent again.
    pub(super) fn lose(&mut self, lost: usize) {
        for load in &mut self.sent {
            if matches!(load.way, Way::UnderWay { connection, .. } if connection == lost) {
                // It may still arrive under the number that it had.
                self.ended |= load.is_renumbered();
                load.way = Way::Waits;
                load.maybe_there = true;
            }
        }
        self.settle();
    }

    /// Takes the broker's answer for a load; nothing if it has meanwhile got its outcome.
    pub(super) fn conclude(&mut self, id: u64, error: ErrorCode, next_id: impl FnOnce() -> u64) -> Option<Verdict> {
        let verdict = self.judge(id, error, next_id);
        self.settle();
        verdict
    }

    fn judge(&mut self, id: u64, error: ErrorCode, next_id: impl FnOnce() -> u64) -> Option<Verdict> {
        let place = self.sent.iter().position(|load| load.id == id)?;
        let load = &mut self.sent[place];
        if load.way == Way::Waits {
            return None;
        }
        let is_renumbered = load.is_renumbered();
        load.way = Way::Waits;
        load.maybe_there |= error.leaves_open();
        let others_wait = self.sent.iter().any(|other| other.id != id && other.way == Way::Waits);
        if error.is_ok() || error == ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
            self.pause.reset();
            self.confirmed = true;
            // Under a number that another load has by now: the broker would take that one for a copy of this. Or it went
            // on from this one without one before it, which cannot come any more, though it may be on its way again.
            self.ended |= is_renumbered || self.sent.iter().take(place).any(|elder| !elder.maybe_there);
            return self.sent.remove(place).map(Verdict::Delivered);
        }
        self.ended |= is_renumbered && error.leaves_open();
        if error.is_about_producer() {
            // Behind a load that is sent again, or under a number that it no longer has, this was to be expected.
            if place > 0 || is_renumbered || self.ended {
                return Some(Verdict::Again);
            }
            self.ended = true;
            self.pause.begin();
            return Some(Verdict::StartOver);
        }
        if error.is_too_large() {
            return self.split(place, next_id());
        }
        if error.is_retriable() {
            // One pause for all that were under way when it happened.
            if !others_wait {
                self.pause.begin();
            }
            return Some(Verdict::Again);
        }
        self.take_out(place).map(Verdict::Refused)
    }

    /// The record that is too large is found by halving, and its neighbours are unharmed.
    fn split(&mut self, place: usize, next_id: u64) -> Option<Verdict> {
        let load = self.sent.remove(place)?;
        let sequence = load.sequence;
        // Its whole may be there, or still arrive, under numbers that would go to others.
        self.ended |= load.maybe_there;
        match load.halves(next_id) {
            Ok((first, second)) => {
                self.sent.insert(place, second);
                self.sent.insert(place, first);
                self.renumber(place, sequence);
                Some(Verdict::Again)
            }
            Err(alone) => {
                // It may have had company that was given up meanwhile.
                let was_alone = alone.len() == 1;
                self.sent.insert(place, alone);
                if was_alone {
                    return self.take_out(place).map(Verdict::Refused);
                }
                self.renumber(place, sequence);
                Some(Verdict::Again)
            }
        }
    }

    /// Takes out a load that the broker did not take: the numbers of those behind it move up. Where the broker may have
    /// an earlier copy of it, nobody knows the next number, and the sequence has ended.
    fn take_out(&mut self, place: usize) -> Option<Load> {
        let load = self.sent.remove(place)?;
        if load.maybe_there {
            self.ended = true;
        } else {
            self.renumber(place, load.sequence);
        }
        Some(load)
    }

    /// Takes out the first load that waits for an attempt.
    pub(super) fn take_first_waiting(&mut self) -> Option<Load> {
        let place = self.sent.iter().position(|load| load.way == Way::Waits)?;
        self.take_out(place)
    }

    /// Gives the loads from `place` on the numbers from `sequence` on. Where an earlier copy may have, or get, its place
    /// under other numbers, the sequence has ended.
    fn renumber(&mut self, place: usize, sequence: i32) {
        self.next_sequence = sequence;
        for load in self.sent.iter_mut().skip(place) {
            let changes = load.sequence != self.next_sequence || load.has_given_up();
            self.ended |= changes && load.maybe_there && load.is_encoded();
            load.renumber(self.next_sequence);
            self.next_sequence = sequence_after(self.next_sequence, load.left());
        }
    }

    /// Applies `expire` to the loads.
    pub(super) fn expire(&mut self, expire: impl FnMut(&mut Load)) {
        self.sent.iter_mut().for_each(expire);
        self.settle();
    }

    /// Lets go of loads that wait with no record left, and of the numbers of records that were given up.
    fn settle(&mut self) {
        // What is certainly not there goes with its numbers. Where the broker may have it or not, the next number stays:
        // if it is not the one that the broker waits for, it says so. One under way still gets its answer.
        let is_free = |load: &Load| !load.maybe_there || !load.is_encoded();
        let waits = |load: &Load| load.way == Way::Waits && is_free(load) && load.has_given_up();
        if let Some(first) = self.sent.iter().position(waits) {
            let sequence = self.sent[first].sequence;
            self.renumber(first, sequence);
        }
        self.sent.retain(|load| load.left() > 0 || load.way != Way::Waits);
    }

    pub(super) fn loads(&self) -> impl Iterator<Item = &Load> {
        self.sent.iter()
    }

    /// All loads, for the end.
    pub(super) fn take_all(&mut self) -> VecDeque<Load> {
        std::mem::take(&mut self.sent)
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
