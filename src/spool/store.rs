//! The store: segments that are written, read and deleted in the order of their records.
//!
//! Any thread may call anything. Appends take one lock and write under it; reading takes it only to look a segment up,
//! and an fsync is waited for outside of it, by all who need it together.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(test)]
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::budget::Share;
use super::directory::{Directory, Named, Note, trouble, unusable};
use super::reader::Cursor;
use super::segment::{AROUND_AN_ELEMENT, DATA_START, Entry, Open};
use super::{Budget, Chunk, Damage, Refusal};
use crate::config::{Fsync, Spool};
use crate::error::SpoolError;
use crate::severity::Severity;

/// The largest segment, unless a single append is larger.
const MOST_SEGMENT_BYTES: u64 = 8 << 20;
const LEAST_SEGMENT_BYTES: u64 = 64 << 10;
/// A spool has this many segments where it is full: room comes back by the segment.
const SEGMENTS: u64 = 16;

#[derive(Debug)]
pub(crate) struct Store {
    directory: Directory,
    segment_bytes: u64,
    fsync: Fsync,
    recovered: u64,
    damaged_at_open: Damage,
    state: Mutex<State>,
    /// Where the last read ended.
    cursor: Mutex<Option<Cursor>>,
    syncing: Mutex<Syncing>,
    /// Those who wait for an fsync that another does sleep here.
    synced: Condvar,
    /// What the next sync says when it has begun, and what it waits for.
    #[cfg(test)]
    held: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

#[derive(Debug)]
struct State {
    /// Complete, oldest first; then the one that is written to.
    sealed: VecDeque<Sealed>,
    open: Option<Open>,
    /// Of no use any more, and not deleted yet, since that failed.
    doomed: Vec<(PathBuf, u64)>,
    /// The next record's number.
    next: u64,
    /// Up to where all is settled.
    settled: u64,
    noted: u64,
    note: Option<Note>,
    /// What the files take.
    share: Share,
    /// Numbers that nobody counts as here: their append was refused after all, since the fsync failed, or they are lost and
    /// that was told. In order, and no two of them touch.
    void: Vec<Range<u64>>,
    /// Up to where records may be read: an append that waits for its fsync may still be refused.
    readable: u64,
    /// Written and not synced.
    unsynced: Vec<Arc<fs::File>>,
    /// A file was made since the directory was synced.
    unsynced_names: bool,
}

#[derive(Clone, Debug)]
struct Sealed {
    named: Named,
    last: u64,
    /// Where what is in it ends.
    end: u64,
    bytes: u64,
}

#[derive(Debug)]
struct Syncing {
    running: bool,
    /// Up to which number a sync was tried.
    tried: u64,
    failed: Vec<(Range<u64>, String)>,
    last: Instant,
}

impl Store {
    /// Opens the directory, which is this store's alone until it is dropped, and finds out what is in it. That reads the
    /// files which a killed process was writing to, of 8 MiB as a rule; of the others it reads the names. What it takes on the
    /// disk is within the budget, from what is there on.
    ///
    /// # Errors
    ///
    /// Names the directory: it is in use, is none, or cannot be written to. Damage is no error.
    pub(crate) fn open(spool: &Spool, budget: &Arc<Budget>) -> Result<Store, SpoolError> {
        let directory = Directory::open(&spool.directory)?;
        let refuse = |error: io::Error| unusable(&spool.directory, &error);
        let settled = directory.settled().map_err(refuse)?;
        let mut sealed: VecDeque<Sealed> = VecDeque::new();
        let mut next = settled.saturating_add(1);
        let mut damaged = Damage::default();
        for mut named in directory.segments().map_err(refuse)? {
            let length = fs::metadata(&named.path).map_err(refuse)?.len();
            let last = match named.last {
                Some(last) => last,
                None => {
                    let (last, bad_bytes) = Cursor::open(&named).map_err(refuse)?.survey(length);
                    damaged.bytes += bad_bytes;
                    if last >= named.first {
                        named = directory.seal(&named, last).map_err(refuse)?;
                    }
                    last
                }
            };
            // Numbers that a segment before it has are not read twice.
            if last <= settled || last < named.first || sealed.back().is_some_and(|before| last <= before.last) {
                fs::remove_file(&named.path).map_err(refuse)?;
                continue;
            }
            let bytes = on_disk(&named, length);
            next = next.max(last.saturating_add(1));
            sealed.push_back(Sealed { named, last, end: length, bytes });
        }
        let note = directory.note().map_err(refuse)?;
        let mut state = State {
            share: Share::new(budget, sealed.iter().map(|segment| segment.bytes).sum()),
            sealed,
            open: None,
            doomed: Vec::new(),
            next,
            settled,
            noted: settled,
            note: Some(note),
            void: Vec::new(),
            readable: if spool.fsync == Fsync::EveryBatch { next.saturating_sub(1) } else { u64::MAX },
            unsynced: Vec::new(),
            unsynced_names: false,
        };
        let gaps = state.gaps();
        // Between two segments none is ever deleted. One that is missing before the first cannot be told from one that was
        // deleted in order: the note of what is settled comes up to a second after that, or never, if the process is killed.
        let lost = gaps.iter().filter(|gap| gap.start > settled + 1).map(|gap| gap.end - gap.start);
        damaged.records += lost.sum::<u64>();
        state.void = gaps;
        let recovered = state.records();
        Ok(Store {
            directory,
            segment_bytes: (spool.max_bytes / SEGMENTS).clamp(LEAST_SEGMENT_BYTES, MOST_SEGMENT_BYTES),
            fsync: spool.fsync,
            recovered,
            damaged_at_open: damaged,
            syncing: Mutex::new(Syncing {
                running: false,
                tried: next.saturating_sub(1),
                failed: Vec::new(),
                last: Instant::now(),
            }),
            state: Mutex::new(state),
            cursor: Mutex::new(None),
            synced: Condvar::new(),
            #[cfg(test)]
            held: Mutex::new(None),
        })
    }

    /// Appends records, all or none, and says their numbers, which go up from 1 in the order of the appends.
    ///
    /// They are in the operating system's hands when this returns; with [`Fsync::EveryBatch`] on the disk. It blocks for
    /// the write, for those of others before it, and for that fsync. `written` hears of the numbers before anybody can read
    /// the records, under a lock: it must not come back here.
    ///
    /// # Errors
    ///
    /// None of them counts as here then, even if `written` has heard of them, and a later append may succeed. (After a
    /// failed fsync they may still be found at the next start.)
    pub(crate) fn append<'a>(
        &self,
        records: impl IntoIterator<Item = (&'a [u8], Severity, i64)>,
        written: impl FnOnce(Range<u64>),
    ) -> Result<Range<u64>, Refusal> {
        let too_large = || Refusal::Io(self.trouble("cannot hold this", "a record or a batch of them is over 2 GiB"));
        let mut entry = Entry::new(records.into_iter()).ok_or_else(too_large)?;
        if entry.span() - AROUND_AN_ELEMENT > i32::MAX as u64 {
            return Err(too_large());
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if entry.count == 0 {
            return Ok(state.next..state.next);
        }
        match self.directory.is_there() {
            Ok(true) => {}
            Ok(false) => return Err(Refusal::Io(self.trouble("cannot be written to", "its files were deleted"))),
            Err(error) => return Err(Refusal::Io(self.trouble("cannot be looked at", error))),
        }
        let first = state.next;
        let Some(behind) = first.checked_add(u64::from(entry.count)) else { return Err(Refusal::Full) };
        let needs = |state: &State| {
            let fits = state.open.as_ref().is_some_and(|open| open.has_room(&entry));
            (fits, entry.span() + if fits { 0 } else { DATA_START })
        };
        let (mut fits, mut more) = needs(state);
        if !state.share.take(more) {
            self.delete_settled(state, true);
            (fits, more) = needs(state);
            if !state.share.take(more) {
                return Err(Refusal::Full);
            }
        }
        if !fits {
            self.end_segment(state);
            let capacity = self.segment_bytes.max(DATA_START + entry.span());
            let open = match Open::create(&self.directory, first, capacity) {
                Ok(open) => open,
                Err(problem) => {
                    state.share.put_back(more);
                    return Err(Refusal::Io(self.trouble("no file could be made in it", problem)));
                }
            };
            state.unsynced_names = self.fsync != Fsync::Never;
            state.open = Some(open);
        }
        let Some(open) = &mut state.open else { return Err(Refusal::Full) };
        if let Err(problem) = open.append(&mut entry, first) {
            state.share.put_back(entry.span());
            // Nothing is written behind what may be half an entry.
            self.abandon_segment(state);
            return Err(Refusal::Io(self.trouble("a file in it could not be written to", problem)));
        }
        if self.fsync != Fsync::Never && !state.unsynced.last().is_some_and(|last| Arc::ptr_eq(last, &open.handle)) {
            let handle = Arc::clone(&open.handle);
            state.unsynced.push(handle);
        }
        state.next = behind;
        written(first..behind);
        drop(guard);
        if self.fsync == Fsync::EveryBatch {
            self.sync_through(behind - 1).map_err(Refusal::Io)?;
        }
        Ok(first..behind)
    }

    /// Reads records from this number on, oldest first, until their payloads have `most_bytes`; one at least, if there is
    /// one. What is damaged is passed over, and told in the first chunk that passes it. It blocks for the disk, and no
    /// append.
    ///
    /// # Errors
    ///
    /// A file that is there and cannot be opened, in words. The next call tries again.
    pub(crate) fn read(&self, from: u64, most_bytes: usize) -> Result<Chunk, String> {
        let mut cursor = self.cursor.lock();
        let mut chunk = Chunk::default();
        let mut from = from;
        loop {
            let (named, first, last, end) = {
                let state = self.state.lock();
                from = from.max(state.settled + 1);
                chunk.next = chunk.next.max(from);
                let Some((named, last, end)) = state.segment_of(from) else { break };
                let (first, last) = (from.max(named.first), last.min(state.readable));
                if first > last {
                    break;
                }
                (named.clone(), first, last, end)
            };
            from = first;
            let resumed = cursor.take().filter(|cursor| cursor.is_in(&named) && cursor.next <= from);
            let mut at = match resumed {
                Some(at) => at,
                None => match Cursor::open(&named) {
                    Ok(at) => at,
                    // It was sealed just now, or somebody has deleted it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => match self.still_named(&named) {
                        false => continue,
                        true => {
                            chunk.lose(from..last + 1, 0);
                            from = last + 1;
                            chunk.next = from;
                            continue;
                        }
                    },
                    Err(error) => return Err(self.trouble("a file in it cannot be opened", error)),
                },
            };
            let ended = at.read(from..last + 1, end, most_bytes, &mut chunk);
            from = at.next.max(from);
            chunk.next = from;
            *cursor = Some(at);
            if !ended || chunk.bytes.len() >= most_bytes {
                break;
            }
        }
        self.without_void(&mut chunk);
        Ok(chunk)
    }

    /// The records of the newest file in which one is whole, as they are found at the start; nothing counts as read by that.
    pub(crate) fn newest(&self) -> Chunk {
        let files: Vec<_> = {
            let state = self.state.lock();
            let sealed = state.sealed.iter().rev();
            sealed.map(|segment| (segment.named.clone(), segment.last, segment.end)).collect()
        };
        for (named, last, end) in files {
            let mut chunk = Chunk::default();
            if let Ok(mut at) = Cursor::open(&named) {
                at.read(named.first..last + 1, end, usize::MAX, &mut chunk);
            }
            if !chunk.is_empty() {
                return chunk;
            }
        }
        Chunk::default()
    }

    /// Takes everything up to this number, itself included, as settled: it is not read again, and the files that have
    /// nothing else are deleted. How far it went is noted on the disk by [`sync_if_due`](Store::sync_if_due) and at the
    /// end; after a crash what was settled since comes again.
    pub(crate) fn remove_up_to(&self, number: u64) {
        let mut state = self.state.lock();
        let number = number.min(state.next - 1);
        if number > state.settled {
            state.settled = number;
            self.delete_settled(&mut state, false);
        }
    }

    /// In how long [`sync_if_due`](Store::sync_if_due) has something to do, if it has.
    pub(crate) fn sync_due(&self) -> Option<Duration> {
        let interval = match self.fsync {
            Fsync::Interval(interval) => interval,
            Fsync::Never | Fsync::EveryBatch => Duration::from_secs(1),
        };
        let state = self.state.lock();
        let due = !state.unsynced.is_empty() || state.settled > state.noted || !state.doomed.is_empty();
        drop(state);
        due.then(|| interval.saturating_sub(self.syncing.lock().last.elapsed()))
    }

    /// Syncs the files once the interval is over, and notes what is settled. It blocks for the disk, and no append.
    ///
    /// # Errors
    ///
    /// In words; what is not synced by then is left to the operating system.
    pub(crate) fn sync_if_due(&self) -> Result<(), String> {
        match self.sync_due() {
            Some(Duration::ZERO) => self.sync_now(),
            _ => Ok(()),
        }
    }

    /// Up to which number all is settled.
    pub(crate) fn settled(&self) -> u64 {
        self.state.lock().settled
    }

    /// Records that are not settled, but for those that are known to be lost.
    pub(crate) fn records(&self) -> u64 {
        self.state.lock().records()
    }

    /// Their numbers.
    pub(crate) fn numbers(&self) -> Vec<Range<u64>> {
        let state = self.state.lock();
        without(state.settled + 1..state.next, &state.void)
    }

    /// What the files take on the disk.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().share.bytes()
    }

    /// How many records there were at the start.
    pub(crate) fn recovered(&self) -> u64 {
        self.recovered
    }

    /// What was found at the start: records whose files are missing between others; and where the last process was writing
    /// when it ended, bytes, since what was never whole has no count. No reading tells it again.
    pub(crate) fn damaged_at_open(&self) -> Damage {
        self.damaged_at_open
    }

    /// The next fsync fails.
    #[cfg(test)]
    pub(crate) fn fail_next_sync(&self) {
        // A device that cannot be synced.
        let device = fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        self.state.lock().unsynced.push(Arc::new(device));
    }

    /// The next fsync takes as long as the test likes.
    #[cfg(test)]
    pub(crate) fn hold_next_sync(&self) -> super::HeldSync {
        let ((begins, begun), (_go_on, waits)) = (mpsc::channel(), mpsc::channel());
        *self.held.lock() = Some((begins, waits));
        super::HeldSync { begun, _go_on }
    }

    /// Syncs the files and notes what is settled, whether it is due or not. It blocks for the disk, and no append.
    ///
    /// # Errors
    ///
    /// As [`sync_if_due`](Store::sync_if_due).
    pub(crate) fn sync_now(&self) -> Result<(), String> {
        let noted = {
            let mut state = self.state.lock();
            if !state.doomed.is_empty() {
                self.delete_settled(&mut state, false);
            }
            state.write_note()
        };
        let through = self.state.lock().next - 1;
        self.syncing.lock().last = Instant::now();
        self.sync_through(through)?;
        noted.map_err(|error| self.trouble("the note of what is settled could not be written", error))
    }

    /// Waits until what has this number is synced, by this thread or by another that is at it.
    fn sync_through(&self, number: u64) -> Result<(), String> {
        let mut syncing = self.syncing.lock();
        loop {
            if let Some((_, problem)) = syncing.failed.iter().find(|(numbers, _)| numbers.contains(&number)) {
                return Err(problem.clone());
            }
            if syncing.tried >= number {
                return Ok(());
            }
            if !syncing.running {
                break;
            }
            self.synced.wait(&mut syncing);
        }
        syncing.running = true;
        let begin = syncing.tried + 1;
        drop(syncing);
        let (files, names, through) = {
            let mut state = self.state.lock();
            let names = std::mem::take(&mut state.unsynced_names);
            (std::mem::take(&mut state.unsynced), names, state.next - 1)
        };
        #[cfg(test)]
        if let Some((begins, waits)) = self.held.lock().take() {
            let _ = begins.send(());
            let _ = waits.recv();
        }
        let mut result = files.iter().try_for_each(|file| file.sync_data());
        if names {
            result = result.and_then(|()| self.directory.sync());
        }
        let result = result.map_err(|error| self.trouble("could not be synced to the disk", error));
        let mut state = self.state.lock();
        if result.is_err() {
            // After a failed fsync nobody knows what of the file is on the disk.
            self.end_segment(&mut state);
            if self.fsync == Fsync::EveryBatch {
                state.no_longer(begin..through + 1);
            }
        }
        state.readable = state.readable.max(through);
        drop(state);
        let mut syncing = self.syncing.lock();
        syncing.running = false;
        syncing.last = Instant::now();
        syncing.tried = through;
        if let Err(problem) = &result {
            match syncing.failed.last_mut() {
                Some((numbers, words)) if numbers.end == begin => {
                    numbers.end = through + 1;
                    words.clone_from(problem);
                }
                _ => syncing.failed.push((begin..through + 1, problem.clone())),
            }
            // Whoever waits reads it now; those of long ago nobody asks for.
            if syncing.failed.len() > 64 {
                syncing.failed.remove(0);
            }
        }
        self.synced.notify_all();
        result
    }

    /// Closes the segment that is written to.
    fn end_segment(&self, state: &mut State) {
        let Some(open) = state.open.take() else { return };
        let (last, end) = (state.next - 1, open.end);
        self.put_away(state, open.close(), last, end);
    }

    /// Closes it after a failed write.
    fn abandon_segment(&self, state: &mut State) {
        let Some(open) = state.open.take() else { return };
        let (last, end) = (state.next - 1, open.end);
        self.put_away(state, open.abandon(), last, end);
    }

    fn put_away(&self, state: &mut State, named: Named, last: u64, end: u64) {
        if last < named.first {
            // Nothing is in it.
            delete(state, named.path, end);
        } else {
            // Under its old name it is surveyed at the next start.
            let named = self.directory.seal(&named, last).unwrap_or(named);
            state.unsynced_names = self.fsync != Fsync::Never;
            state.sealed.push_back(Sealed { named, last, end, bytes: end });
        }
    }

    /// Deletes the segments in which everything is settled; the one that is written to too, if that is worth it or if
    /// room is wanted.
    fn delete_settled(&self, state: &mut State, room: bool) {
        let settled = state.settled;
        for (path, bytes) in std::mem::take(&mut state.doomed) {
            delete(state, path, bytes);
        }
        while state.sealed.front().is_some_and(|segment| segment.last <= settled) {
            if let Some(Sealed { named, bytes, .. }) = state.sealed.pop_front() {
                delete(state, named.path, bytes);
            }
        }
        let all = settled + 1 == state.next && state.sealed.is_empty();
        if all && state.open.as_ref().is_some_and(|open| room || open.end > self.segment_bytes / 2) {
            if let Some(open) = state.open.take() {
                let end = open.end;
                delete(state, open.abandon().path, end);
            }
        }
        state.void.retain(|numbers| numbers.end > settled + 1);
    }

    /// Whether a segment still goes by that name.
    fn still_named(&self, named: &Named) -> bool {
        let state = self.state.lock();
        state.segment_of(named.first.max(state.settled + 1)).is_some_and(|(now, ..)| now.path == named.path)
    }

    /// Leaves out what was refused after it had been written, and what is known to be lost; what else is lost, is known now.
    fn without_void(&self, chunk: &mut Chunk) {
        let mut state = self.state.lock();
        if !state.void.is_empty() {
            chunk.records.retain(|record| !state.is_void(record.number));
        }
        let lost = std::mem::take(&mut chunk.lost);
        chunk.lost = lost.into_iter().flat_map(|numbers| without(numbers, &state.void)).collect();
        chunk.skipped.records = chunk.lost.iter().map(|numbers| numbers.end - numbers.start).sum();
        if chunk.lost.is_empty() {
            chunk.skipped.bytes = 0;
        }
        for numbers in &chunk.lost {
            state.no_longer(numbers.clone());
        }
    }

    fn trouble(&self, what: &str, error: impl std::fmt::Display) -> String {
        trouble(self.directory.path(), what, error)
    }
}

impl Drop for Store {
    /// Closes the files, and syncs them unless that is never done.
    fn drop(&mut self) {
        let mut state = self.state.lock();
        self.delete_settled(&mut state, true);
        self.end_segment(&mut state);
        let _ = state.write_note();
        drop(state);
        if self.fsync != Fsync::Never {
            let _ = self.sync_now();
        }
    }
}

impl State {
    fn records(&self) -> u64 {
        let void = self.void.iter().map(|numbers| numbers.end - numbers.start.max(self.settled + 1).min(numbers.end));
        (self.next - 1 - self.settled).saturating_sub(void.sum())
    }

    fn is_void(&self, number: u64) -> bool {
        let place = self.void.partition_point(|numbers| numbers.end <= number);
        self.void.get(place).is_some_and(|numbers| numbers.contains(&number))
    }

    /// Nobody counts these as here from now on.
    fn no_longer(&mut self, numbers: Range<u64>) {
        // What it overlaps or touches becomes one with it.
        let from = self.void.partition_point(|void| void.end < numbers.start);
        let to = self.void.partition_point(|void| void.start <= numbers.end);
        let all = self
            .void
            .get(from..to)
            .unwrap_or_default()
            .iter()
            .fold(numbers, |all, void| all.start.min(void.start)..all.end.max(void.end));
        self.void.splice(from..to, [all]);
    }

    /// The segment in which a number is, or the first behind it, with its last number and where it ends.
    fn segment_of(&self, number: u64) -> Option<(&Named, u64, u64)> {
        let sealed = self.sealed.iter().find(|segment| segment.last >= number);
        let sealed = sealed.map(|segment| (&segment.named, segment.last, segment.end));
        sealed.or_else(|| {
            let open = self.open.as_ref().filter(|_| self.next > number)?;
            Some((&open.named, self.next - 1, open.end))
        })
    }

    /// The numbers that no segment has, though later ones do: their segments are gone.
    fn gaps(&self) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut next = self.settled + 1;
        for segment in &self.sealed {
            if segment.named.first > next {
                gaps.push(next..segment.named.first);
            }
            next = next.max(segment.last + 1);
        }
        gaps
    }

    fn write_note(&mut self) -> io::Result<()> {
        if self.settled > self.noted {
            if let Some(note) = &mut self.note {
                note.write(self.settled)?;
            }
            self.noted = self.settled;
        }
        Ok(())
    }
}

/// What is left of `numbers` without those.
fn without(numbers: Range<u64>, those: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut left, mut from) = (Vec::new(), numbers.start);
    for out in those {
        if from < out.start.min(numbers.end) {
            left.push(from..out.start.min(numbers.end));
        }
        from = from.max(out.end);
    }
    if from < numbers.end {
        left.push(from..numbers.end);
    }
    left
}

/// Deletes a file, now or later.
fn delete(state: &mut State, path: PathBuf, bytes: u64) {
    match fs::remove_file(&path) {
        Ok(()) => state.share.put_back(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => state.share.put_back(bytes),
        Err(_) => state.doomed.push((path, bytes)),
    }
}

/// What a file takes: the end of a segment was often never written.
fn on_disk(named: &Named, length: u64) -> u64 {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(&named.path).map_or(length, |meta| (meta.blocks() * 512).min(length))
    }
    #[cfg(not(unix))]
    {
        let _ = named;
        length
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
