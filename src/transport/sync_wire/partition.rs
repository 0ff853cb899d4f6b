//! One partition: its leader, and its loads in the order of their sequence numbers.

use std::collections::VecDeque;
use std::time::Instant;

use super::load::{Load, Way, sequence_after};
use super::protocol::ErrorCode;
use crate::transport::pause::Pause;

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) index: i32,
    /// None while it has none.
    pub(super) leader: Option<i32>,
    pub(super) leader_epoch: i32,
    /// Of the next load that is new.
    next_sequence: i32,
    /// Loads that have been sent and have no outcome, in their order.
    sent: VecDeque<Load>,
    /// Before an attempt is repeated.
    pause: Pause,
    /// The leader has taken a load under this session. Until then it takes any number for the first, so one that comes
    /// second must not be under way: it would take the place of the first, should that fail.
    begun: bool,
}

/// What an answer means for a load.
#[derive(Debug)]
pub(super) enum Verdict {
    Delivered(Load),
    /// It is there, but not in its place: the session must start over.
    DeliveredOutOfSequence(Load),
    /// Another attempt cannot help.
    Refused(Load),
    /// It is sent again, and all that follows it.
    Again,
    /// The broker has lost, or never had, the sequence: the producer's session must start over.
    StartOver,
}

impl Partition {
    pub(super) fn new(index: i32, backoff: (std::time::Duration, std::time::Duration)) -> Partition {
        let pause = Pause::new(backoff);
        Partition { index, leader: None, leader_epoch: -1, next_sequence: 0, sent: VecDeque::new(), pause, begun: false }
    }

    /// Whether a load that is new may be sent, where so many may be under way.
    pub(super) fn takes_new(&self, most: usize) -> bool {
        self.leader.is_some()
            && self.sent.len() < self.most(most)
            && self.sent.iter().all(|load| load.way != Way::Waits && !load.is_misnumbered())
    }

    /// How many loads may be under way, where it is `most` in general.
    fn most(&self, most: usize) -> usize {
        if self.begun { most } else { 1 }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty()
    }

    /// A load that is new, at the end of the sequence.
    pub(super) fn add(&mut self, mut load: Load) -> &mut Load {
        load.sequence = self.next_sequence;
        self.next_sequence = sequence_after(self.next_sequence, load.len());
        self.sent.push_back(load);
        let last = self.sent.len() - 1;
        &mut self.sent[last]
    }

    /// The next load to be sent on this connection, where so many may be under way. Later ones wait for it, and it for
    /// earlier ones that are under way elsewhere.
    pub(super) fn next_again(&mut self, connection: usize, most: usize, now: Instant) -> Option<&mut Load> {
        let under_way = self.sent.iter().filter(|load| load.way != Way::Waits).count();
        // Numbers that have moved up may be those under which others are still on their way.
        if under_way >= self.most(most) || self.sent.iter().any(Load::is_misnumbered) || self.pause.left(now).is_some() {
            return None;
        }
        for load in &mut self.sent {
            match load.way {
                Way::Waits => return Some(load),
                Way::UnderWay { connection: other, .. } if other != connection => return None,
                Way::UnderWay { .. } => {}
            }
        }
        None
    }

    /// Whether a load waits for another attempt.
    pub(super) fn has_waiting(&self) -> bool {
        self.sent.iter().any(|load| load.way == Way::Waits)
    }

    pub(super) fn has_under_way(&self) -> bool {
        self.sent.iter().any(|load| load.way != Way::Waits)
    }

    /// When the pause before the next attempt ends, if there is one.
    pub(super) fn pause_left(&self, now: Instant) -> Option<std::time::Duration> {
        self.pause.left(now).filter(|_| self.has_waiting())
    }

    /// What was under way on this connection has to be sent again.
    pub(super) fn lose(&mut self, lost: usize) {
        for load in &mut self.sent {
            if matches!(load.way, Way::UnderWay { connection, .. } if connection == lost) {
                load.way = Way::Waits;
                load.in_doubt = true;
            }
        }
    }

    /// Takes the broker's answer for a load; nothing if it has meanwhile got its outcome.
    pub(super) fn conclude(&mut self, id: u64, error: ErrorCode, next_id: impl FnOnce() -> u64) -> Option<Verdict> {
        let place = self.sent.iter().position(|load| load.id == id)?;
        let others_wait = self.has_waiting();
        let load = &mut self.sent[place];
        let Way::UnderWay { sequence: sent_as, .. } = load.way else { return None };
        load.way = Way::Waits;
        if error.is_ok() || error == ErrorCode::DUPLICATE_SEQUENCE_NUMBER {
            self.pause.reset();
            self.begun = true;
            // The leader went on from it, so a load before it that is not there cannot come any more.
            let in_sequence = sent_as == load.sequence && self.sent.iter().take(place).all(Load::may_be_there);
            let verdict = if in_sequence { Verdict::Delivered } else { Verdict::DeliveredOutOfSequence };
            return self.sent.remove(place).map(verdict);
        }
        load.in_doubt |= error.leaves_doubt();
        if error.is_about_producer() {
            // Behind a load that is sent again, or under a number that it no longer has, this was to be expected.
            let expected = place > 0 || sent_as != load.sequence;
            if expected {
                return Some(Verdict::Again);
            }
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
        match load.halves(next_id) {
            Ok((first, second)) => {
                self.sent.insert(place, second);
                self.sent.insert(place, first);
                Some(Verdict::Again)
            }
            Err(alone) => {
                self.sent.insert(place, alone);
                self.take_out(place).map(Verdict::Refused)
            }
        }
    }

    /// Takes out a load that the broker did not take: the numbers of those behind it move up.
    fn take_out(&mut self, place: usize) -> Option<Load> {
        let load = self.sent.remove(place)?;
        self.next_sequence = load.sequence;
        for later in self.sent.iter_mut().skip(place) {
            later.renumber(self.next_sequence);
            self.next_sequence = sequence_after(self.next_sequence, later.len());
        }
        Some(load)
    }

    /// Applies `expire` to the loads; whether one of them that has no record left, and of which nobody knows whether
    /// it arrived, leaves a gap in the sequence.
    pub(super) fn expire(&mut self, mut expire: impl FnMut(&mut Load)) -> bool {
        let mut gap = false;
        self.sent.iter_mut().for_each(&mut expire);
        // One under way still gets its answer.
        while let Some(place) = self.sent.iter().position(Load::has_ended) {
            gap |= self.take_out(place).is_some_and(|load| load.in_doubt);
        }
        // What is certainly not there goes without those that were given up, and without their numbers.
        if let Some(first) = self.sent.iter().position(|load| !load.may_be_there() && load.left() < load.len()) {
            self.next_sequence = self.sent.get(first).map_or(0, |load| load.sequence);
            for load in self.sent.iter_mut().skip(first) {
                if !load.may_be_there() {
                    load.forget_given_up();
                }
                load.renumber(self.next_sequence);
                self.next_sequence = sequence_after(self.next_sequence, load.len());
            }
        }
        gap
    }

    /// Takes out the first load that waits for an attempt.
    pub(super) fn take_first_waiting(&mut self) -> Option<Load> {
        let place = self.sent.iter().position(|load| load.way == Way::Waits)?;
        self.take_out(place)
    }

    /// Whether a load waits for an attempt that has no record left.
    pub(super) fn has_ended_load(&self) -> bool {
        self.sent.iter().any(Load::has_ended)
    }

    /// Begins the sequence anew, for a producer id or epoch that is new.
    pub(super) fn start_over(&mut self) {
        self.next_sequence = 0;
        self.begun = false;
        for load in &mut self.sent {
            load.forget_given_up();
            load.renumber(self.next_sequence);
            self.next_sequence = sequence_after(self.next_sequence, load.len());
        }
    }

    /// All loads that have no outcome.
    pub(super) fn give_back(&mut self) -> VecDeque<Load> {
        self.next_sequence = 0;
        std::mem::take(&mut self.sent)
    }

    pub(super) fn loads(&self) -> impl Iterator<Item = &Load> {
        self.sent.iter()
    }
}

#[cfg(test)]
#[path = "partition_tests.rs"]
mod tests;
