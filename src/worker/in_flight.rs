//! What the client has taken and not answered for.

use std::collections::BTreeMap;

use crate::queue::{Generation, Part, Queue};
use crate::spool::is_from_disk;

#[derive(Default)]
pub(super) struct InFlight {
    pub(super) records: usize,
    pub(super) bytes: usize,
    /// Of those, what the disk has too.
    from_disk: (usize, usize),
    by_generation: BTreeMap<Generation, (usize, usize)>,
}

impl InFlight {
    pub(super) fn enter(&mut self, Part { generation, records, bytes }: Part) {
        if records > 0 {
            let held = self.by_generation.entry(generation).or_default();
            held.0 += records;
            held.1 += bytes;
            self.records += records;
            self.bytes += bytes;
            if is_from_disk(generation) {
                self.from_disk.0 += records;
                self.from_disk.1 += bytes;
            }
        }
    }

    /// Takes records out; false if the client has none such.
    pub(super) fn leave(&mut self, Part { generation, records, bytes }: Part) -> bool {
        let Some(held) = self.by_generation.get_mut(&generation) else { return false };
        let (Some(records_left), Some(bytes_left)) = (held.0.checked_sub(records), held.1.checked_sub(bytes)) else {
            return false;
        };
        *held = (records_left, bytes_left);
        self.records -= records;
        self.bytes -= bytes;
        if is_from_disk(generation) {
            self.from_disk.0 -= records;
            self.from_disk.1 -= bytes;
        }
        if records_left == 0 {
            self.by_generation.remove(&generation);
        }
        true
    }

    /// Whether there are records that the disk does not have.
    pub(super) fn has_memory(&self) -> bool {
        self.by_generation.keys().next().is_some_and(|oldest| !is_from_disk(*oldest))
    }

    /// Whether a client may have more from the disk: it takes room beside the queue's.
    pub(super) fn has_room_from_disk(&self, queue: &Queue) -> bool {
        let (records, bytes) = self.from_disk;
        if records == 0 {
            return true;
        }
        let (most_records, most_bytes) = queue.window_from_disk();
        records < most_records && bytes < most_bytes
    }

    /// Takes out all that the disk has too.
    pub(super) fn forget_disk(&mut self) {
        self.from_disk = (0, 0);
        self.by_generation.retain(|generation, (records, bytes)| {
            let stays = !is_from_disk(*generation);
            if !stays {
                self.records -= *records;
                self.bytes -= *bytes;
            }
            stays
        });
    }

    pub(super) fn drain(&mut self) -> Vec<Part> {
        (self.records, self.bytes, self.from_disk) = (0, 0, (0, 0));
        std::mem::take(&mut self.by_generation)
            .into_iter()
            .map(|(generation, (records, bytes))| Part { generation, records, bytes })
            .collect()
    }
}
