//! A partition's log as a broker keeps it, with its check of sequence numbers.

use std::collections::{HashMap, VecDeque};

pub(in super::super) const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
pub(in super::super) const INVALID_PRODUCER_EPOCH: i16 = 47;

/// What a broker remembers of a producer.
const REMEMBERED: usize = 5;

/// A batch as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct SentBatch {
    pub(in super::super) producer: (i64, i16),
    pub(in super::super) base_sequence: i32,
    pub(in super::super) values: Vec<String>,
}

impl SentBatch {
    fn last_sequence(&self) -> i32 {
        after(self.base_sequence, self.values.len() - 1)
    }
}

#[derive(Debug, Default)]
pub(in super::super) struct Log {
    pub(in super::super) values: Vec<String>,
    producers: HashMap<i64, Remembered>,
}

#[derive(Debug)]
struct Remembered {
    epoch: i16,
    /// First and last number, and the offset of the first.
    batches: VecDeque<(i32, i32, i64)>,
}

impl Log {
    /// Appends a batch as Kafka does: a batch that is remembered is not appended again and has the offset that it had; a
    /// producer that nothing is known of may begin with any number.
    pub(in super::super) fn append(&mut self, batch: &SentBatch) -> Result<i64, i16> {
        let (id, epoch) = batch.producer;
        let offset = self.values.len() as i64;
        if id >= 0 {
            let (first, last) = (batch.base_sequence, batch.last_sequence());
            match self.producers.get(&id) {
                Some(known) if epoch < known.epoch => return Err(INVALID_PRODUCER_EPOCH),
                Some(known) if epoch > known.epoch && first != 0 => return Err(OUT_OF_ORDER_SEQUENCE_NUMBER),
                Some(known) if epoch == known.epoch => {
                    if let Some(same) = known.batches.iter().find(|same| (same.0, same.1) == (first, last)) {
                        return Ok(same.2);
                    }
                    let is_next = known.batches.back().is_none_or(|newest| after(newest.1, 1) == first);
                    if !is_next {
                        return Err(OUT_OF_ORDER_SEQUENCE_NUMBER);
                    }
                }
                _ => {}
            }
            let known = self.producers.entry(id).or_insert(Remembered { epoch, batches: VecDeque::new() });
            if known.epoch != epoch {
                *known = Remembered { epoch, batches: VecDeque::new() };
            }
            known.batches.push_back((first, last, offset));
            if known.batches.len() > REMEMBERED {
                known.batches.pop_front();
            }
        }
        self.values.extend(batch.values.iter().cloned());
        Ok(offset)
    }

    /// Loses what it knew of producers, as after a retention that took all of their records.
    pub(in super::super) fn forget_producers(&mut self) {
        self.producers.clear();
    }
}

fn after(sequence: i32, more: usize) -> i32 {
    ((sequence as u64 + more as u64) % (1 << 31)) as i32
}
