//! One file of the spool: how records stand in it, and how they get there.
//!
//! A segment is a queue file: each append is an element of it, with the file's own checksums around. It is written
//! from the front to the end and deleted whole, and nothing is ever removed from it or written over.

use std::fs::{self, File, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use queue_file::QueueFile;

use super::directory::{Directory, Named};
use crate::severity::Severity;

/// Where the first element begins, behind the two slots of the header.
pub(super) const DATA_START: u64 = 8192;
/// What an element takes besides its bytes: a header of 28 and a footer of 16.
pub(super) const AROUND_AN_ELEMENT: u64 = 44;
/// The seal, the first number and the count.
pub(super) const HEAD: usize = 20;
/// The timestamp, the severity and the length.
pub(super) const AROUND_A_RECORD: usize = 13;

/// The records of one append, as they stand in an element.
#[derive(Debug)]
pub(super) struct Entry {
    bytes: Vec<u8>,
    pub(super) count: u32,
}

impl Entry {
    /// None where one is longer than can be said.
    pub(super) fn new<'a>(records: impl Iterator<Item = (&'a [u8], Severity, i64)>) -> Option<Entry> {
        let mut entry = Entry { bytes: vec![0; HEAD], count: 0 };
        for (payload, severity, timestamp_ms) in records {
            entry.bytes.extend_from_slice(&timestamp_ms.to_le_bytes());
            entry.bytes.push(severity as u8);
            entry.bytes.extend_from_slice(&u32::try_from(payload.len()).ok()?.to_le_bytes());
            entry.bytes.extend_from_slice(payload);
            entry.count = entry.count.checked_add(1)?;
        }
        Some(entry)
    }

    /// What it takes in a file.
    pub(super) fn span(&self) -> u64 {
        self.bytes.len() as u64 + AROUND_AN_ELEMENT
    }

    fn address(&mut self, seal: u64, first: u64) {
        let head = [&seal.to_le_bytes()[..], &first.to_le_bytes(), &self.count.to_le_bytes()].concat();
        self.bytes.splice(..HEAD, head);
    }
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Open {
    file: QueueFile,
    pub(super) named: Named,
    capacity: u64,
    /// Up to where it has been written.
    pub(super) end: u64,
    /// For syncing beside the appends of others.
    pub(super) handle: Arc<File>,
}

impl Open {
    pub(super) fn create(directory: &Directory, first: u64, capacity: u64) -> Result<Open, String> {
        let named = directory.new_segment(first);
        let made = Open::make(&named, capacity);
        if made.is_err() {
            // Half a file is none; the first of these names is the one it is made under.
            let _ = fs::remove_file(named.path.with_extension(".tmp"));
            let _ = fs::remove_file(&named.path);
        }
        let (file, handle) = made?;
        Ok(Open { file, named, capacity, end: DATA_START, handle: Arc::new(handle) })
    }

    fn make(named: &Named, capacity: u64) -> Result<(QueueFile, File), String> {
        let mut file = caught(|| QueueFile::with_capacity(&named.path, capacity))?;
        // When to sync is decided here, and the file's header is written at its end: an append is one call to the system.
        file.set_sync_writes(false);
        file.set_skip_write_header_on_add(true);
        let handle = OpenOptions::new().read(true).write(true).open(&named.path).map_err(|error| error.to_string())?;
        Ok((file, handle))
    }

    pub(super) fn has_room(&self, entry: &Entry) -> bool {
        self.end + entry.span() <= self.capacity
    }

    /// Writes an entry whose first record has this number. After an error no more can be written here.
    pub(super) fn append(&mut self, entry: &mut Entry, first: u64) -> Result<(), String> {
        entry.address(self.named.seal, first);
        caught(|| self.file.add(&entry.bytes))?;
        self.end += entry.span();
        Ok(())
    }

    /// Writes the header and closes the file.
    pub(super) fn close(self) -> Named {
        let Open { file, named, .. } = self;
        // It can only lack its header then, which the reader here does without.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(file)));
        named
    }

    /// Closes the file without another write.
    pub(super) fn abandon(mut self) -> Named {
        self.file.set_skip_write_header_on_add(false);
        self.close()
    }
}

/// The error of the store, which may panic for all we know, in words.
fn caught<T>(call: impl FnOnce() -> Result<T, queue_file::Error>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the queue file's code panicked".into()),
    }
}
