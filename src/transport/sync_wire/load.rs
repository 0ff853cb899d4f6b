//! Records for one partition, from their first attempt to their outcome.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::compression::Failed;
use super::records::{self, Encoder, Producer, Record};
use crate::config::Compression;
use crate::queue::Batch;
use crate::transport::{Ack, Failure, Outcome};

/// Records that travel in one Kafka record batch.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) id: u64,
    /// The records that have no outcome yet, whole batches of the queue's.
    batches: Vec<Batch>,
    /// How many records of those that have its numbers, or that were sent, have had their outcome, all of them older:
    /// their delivery timeout passed.
    given_up: usize,
    /// An attempt ended without a word on whether the broker has it.
    pub(super) maybe_there: bool,
    /// The first record's sequence number within the producer's session.
    pub(super) sequence: i32,
    /// As it was sent; the same bytes go out again.
    encoded: Option<Bytes>,
    pub(super) way: Way,
}

/// Where a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To be sent, for the first time or again.
    Waits,
    /// On this connection, under this sequence number.
    UnderWay { connection: usize, sequence: i32 },
}

impl Load {
    /// Takes records for one load from the oldest that wait: whole batches, as many as stay within `most` bytes, and
    /// one record at least. `key` is the length of every record's key.
    pub(super) fn gather(id: u64, waiting: &mut VecDeque<Batch>, most: usize, key: usize) -> Option<Load> {
        let mut batches = Vec::new();
        let mut size = 0;
        while let Some(next) = waiting.front_mut() {
            let next_size = size_bound(next, key);
            if size + next_size <= most {
                size += next_size;
                batches.extend(waiting.pop_front());
                continue;
            }
            if batches.is_empty() {
                let mut left = most;
                let fits = next.records().take_while(|(payload, _)| {
                    let size = records::size_bound(payload.len() + key);
                    let fits = size <= left;
                    left = left.saturating_sub(size);
                    fits
                });
                // A record that is larger goes alone.
                let count = fits.count().max(1);
                batches.push(next.split_front(count));
                if next.is_empty() {
                    waiting.pop_front();
                }
            }
            break;
        }
        if batches.is_empty() {
            return None;
        }
        Some(Load { id, batches, given_up: 0, maybe_there: false, sequence: 0, encoded: None, way: Way::Waits })
    }

    /// How many records its batch in Kafka has.
    pub(super) fn len(&self) -> usize {
        self.given_up + self.left()
    }

    /// How many records have no outcome yet.
    pub(super) fn left(&self) -> usize {
        self.batches.iter().map(Batch::len).sum()
    }

    /// The payload bytes of the records that have no outcome yet.
    pub(super) fn bytes(&self) -> usize {
        self.batches.iter().map(Batch::bytes).sum()
    }

    /// Whether records of the batch as it was sent have had their outcome.
    pub(super) fn has_given_up(&self) -> bool {
        self.given_up > 0
    }

    /// Whether it is under way under a number that it no longer has, or with records that it will not have again.
    pub(super) fn is_renumbered(&self) -> bool {
        let is_less = self.encoded.is_none() && self.given_up > 0;
        matches!(self.way, Way::UnderWay { sequence, .. } if sequence != self.sequence || is_less)
    }

    /// When the oldest record that has no outcome was logged.
    pub(super) fn oldest(&self) -> Option<Instant> {
        oldest(self.batches.iter())
    }

    /// Its records as a Kafka record batch.
    pub(super) fn encode(
        &mut self,
        encoder: &mut Encoder,
        compression: Compression,
        producer: Producer,
        key: Option<&[u8]>,
    ) -> Result<Bytes, Failed> {
        if let Some(encoded) = &self.encoded {
            return Ok(encoded.clone());
        }
        let base_sequence = if producer.id < 0 { -1 } else { self.sequence };
        let records = self.batches.iter().flat_map(Batch::records).map(|(payload, meta)| Record {
            key,
            value: payload,
            headers: &[],
            timestamp_ms: meta.timestamp_ms,
        });
        let encoded = Bytes::from(encoder.encode(records, compression, Producer { base_sequence, ..producer })?);
        self.encoded = Some(encoded.clone());
        Ok(encoded)
    }

    /// The next attempt is in this place of the sequence, and of the records that are left. One that is under way has
    /// those that it was sent with.
    pub(super) fn renumber(&mut self, sequence: i32) {
        if self.sequence != sequence || self.given_up > 0 {
            self.sequence = sequence;
            self.lay_out_anew();
        }
    }

    /// The next attempt is another batch.
    pub(super) fn lay_out_anew(&mut self) {
        self.encoded = None;
        if self.way == Way::Waits {
            self.given_up = 0;
        }
    }

    /// Whether the next attempt is the same batch again.
    pub(super) fn is_encoded(&self) -> bool {
        self.encoded.is_some()
    }

    /// Two loads of at least one record each; or it comes back if it has only one.
    pub(super) fn halves(mut self, second_id: u64) -> Result<(Load, Load), Load> {
        let left = self.left();
        if left < 2 {
            return Err(self);
        }
        let mut waiting = VecDeque::from(std::mem::take(&mut self.batches));
        let mut wanted = left / 2;
        while let Some(next) = waiting.front_mut() {
            if next.len() <= wanted {
                wanted -= next.len();
                self.batches.extend(waiting.pop_front());
            } else {
                if wanted > 0 {
                    self.batches.push(next.split_front(wanted));
                }
                break;
            }
        }
        let second = Load {
            id: second_id,
            batches: waiting.into(),
            given_up: 0,
            maybe_there: self.maybe_there,
            sequence: self.sequence,
            encoded: None,
            way: Way::Waits,
        };
        let first = Load { given_up: 0, encoded: None, way: Way::Waits, ..self };
        Ok((first, second))
    }

    /// Gives up the records that were logged before `limit`.
    pub(super) fn expire(&mut self, limit: Instant, failure: &Failure, outcomes: &mut Vec<Outcome>) {
        let before = self.left();
        for batch in &mut self.batches {
            expire(batch, limit, failure, outcomes);
            if !batch.is_empty() {
                break;
            }
        }
        self.batches.retain(|batch| !batch.is_empty());
        self.given_up += before - self.left();
    }

    /// The load is in the topic, its first record at `base_offset` where the broker says so. Its buffers go to `spares`.
    pub(super) fn delivered(
        self,
        partition: i32,
        base_offset: Option<i64>,
        outcomes: &mut Vec<Outcome>,
        spares: &mut Vec<Batch>,
    ) {
        let mut offset = base_offset.map(|offset| offset.saturating_add(self.given_up as i64));
        for mut batch in self.batches {
            let (generation, records) = (batch.generation(), batch.len());
            if !batch.is_tracked() {
                let bytes = batch.bytes();
                outcomes.push(Outcome {
                    generation,
                    records,
                    bytes,
                    meta: None,
                    result: Ok(Ack { partition, offset }),
                });
                offset = offset.map(|offset| offset.saturating_add(records as i64));
            } else {
                while let Some((payload, meta)) = batch.pop() {
                    outcomes.push(Outcome::of_one(generation, payload.len(), meta, Ok(Ack { partition, offset })));
                    offset = offset.map(|offset| offset.saturating_add(1));
                }
            }
            spares.extend(batch.emptied());
        }
    }

    /// The records that have no outcome yet.
    pub(super) fn into_batches(self) -> Vec<Batch> {
        self.batches
    }

    /// The load is given up.
    pub(super) fn failed(self, failure: &Failure, outcomes: &mut Vec<Outcome>) {
        for mut batch in self.batches {
            fail(&mut batch, usize::MAX, failure, outcomes);
        }
    }
}

/// The number that comes so many records after another: they begin again at 0 after the last.
pub(super) fn sequence_after(sequence: i32, records: usize) -> i32 {
    ((sequence as u64 + records as u64) % (1 << 31)) as i32
}

/// When the oldest of these records was logged. Batches are in the order of their calls, or nearly: threads race.
pub(super) fn oldest<'a>(mut batches: impl Iterator<Item = &'a Batch>) -> Option<Instant> {
    batches.find_map(Batch::first).map(|(_, meta)| meta.called.instant())
}

/// What a batch of the queue's comes to in a record batch, at most, with a key of this length on each record.
pub(super) fn size_bound(batch: &Batch, key: usize) -> usize {
    batch.bytes() + batch.len() * records::size_bound(key)
}

/// Gives up the records at the front that were logged before `limit`.
pub(super) fn expire(batch: &mut Batch, limit: Instant, failure: &Failure, outcomes: &mut Vec<Outcome>) {
    let expired = batch.records().take_while(|(_, meta)| meta.called.instant() <= limit).count();
    fail(batch, expired, failure, outcomes);
}

/// Gives up some records at the front; those that nobody wants to hear of share an outcome.
pub(super) fn fail(batch: &mut Batch, most: usize, failure: &Failure, outcomes: &mut Vec<Outcome>) {
    let generation = batch.generation();
    let mut shared = Outcome { generation, records: 0, bytes: 0, meta: None, result: Err(failure.clone()) };
    for _ in 0..most {
        let Some((payload, meta)) = batch.pop() else { break };
        if failure.wanted || meta.tracked.is_some() {
            let failure = Failure { payload: payload.to_vec(), ..failure.clone() };
            outcomes.push(Outcome::of_one(generation, payload.len(), meta, Err(failure)));
        } else {
            shared.records += 1;
            shared.bytes += payload.len();
        }
    }
    if shared.records > 0 {
        outcomes.push(shared);
    }
}

/// How long ago a moment may be for a record that was logged then to live on.
pub(super) fn limit(now: Instant, timeout: Duration) -> Option<Instant> {
    now.checked_sub(timeout)
}
