//! Which records a flush waits for.
//!
//! Outcomes come in any order across partitions, so a flush cannot wait for a number to be reached. It ends the
//! current generation instead, and waits until that one and all before it have no record left.

use std::collections::VecDeque;

/// A stretch of records between two flushes.
pub(crate) type Generation = u64;

#[derive(Debug)]
pub(super) struct Generations {
    /// Records without an outcome, for each generation from `oldest` to the current one; never empty.
    unsettled: VecDeque<u64>,
    oldest: Generation,
}

impl Generations {
    /// Counts a record into the current generation.
    pub(super) fn enter(&mut self) -> Generation {
        self.enter_many(1)
    }

    pub(super) fn enter_many(&mut self, records: u64) -> Generation {
        let current = self.unsettled.len() - 1;
        self.unsettled[current] += records;
        self.oldest + current as u64
    }

    /// Counts records out.
    pub(super) fn leave(&mut self, generation: Generation, records: u64) {
        let at = (generation - self.oldest) as usize;
        self.unsettled[at] -= records;
        while self.unsettled.len() > 1 && self.unsettled[0] == 0 {
            self.unsettled.pop_front();
            self.oldest += 1;
        }
    }

    /// Ends the current generation and returns the last one that has records; none if nothing is unsettled.
    pub(super) fn turn_over(&mut self) -> Option<Generation> {
        let current = self.unsettled.len() - 1;
        if self.unsettled[current] > 0 {
            self.unsettled.push_back(0);
            return Some(self.oldest + current as u64);
        }
        // The current generation is empty: an earlier flush has just turned over.
        (self.oldest + current as u64).checked_sub(1).filter(|last| *last >= self.oldest)
    }

    pub(super) fn settled_up_to(&self, generation: Generation) -> bool {
        self.oldest > generation
    }

    /// Whether there are records that a flush was to wait for.
    pub(super) fn are_awaited(&self) -> bool {
        self.unsettled.len() > 1
    }

    /// Forgets all records.
    pub(super) fn clear(&mut self) {
        self.oldest += self.unsettled.len() as u64;
        self.unsettled = VecDeque::from([0]);
    }
}

impl Default for Generations {
    fn default() -> Generations {
        Generations { unsettled: VecDeque::from([0]), oldest: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_waits_for_what_came_before_and_for_nothing_after() {
        let mut generations = Generations::default();
        assert_eq!(generations.turn_over(), None);
        let before = generations.enter();
        let flush = generations.turn_over().unwrap();
        let after = generations.enter();
        assert_ne!(before, after);
        generations.leave(after, 1);
        assert!(!generations.settled_up_to(flush), "a later record's outcome must not end the flush");
        generations.leave(before, 1);
        assert!(generations.settled_up_to(flush));
    }

    #[test]
    fn many_flushes_of_one_record_share_its_generation() {
        let mut generations = Generations::default();
        let record = generations.enter();
        let flushes: Vec<_> = (0..1000).map(|_| generations.turn_over().unwrap()).collect();
        assert!(flushes.iter().all(|flush| *flush == record));
        assert_eq!(generations.unsettled.len(), 2);
        generations.leave(record, 1);
        assert!(generations.settled_up_to(record) && generations.turn_over().is_none());
    }
}
