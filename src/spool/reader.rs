//! Reads segments, from any record on, past whatever is damaged.
//!
//! The queue file's own reader begins at its head, and gives a file up whose last element is damaged. This one takes
//! each element that is whole by the checksums around it, has the segment's seal in it, and a number that is due.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use super::directory::Named;
use super::segment::{AROUND_A_RECORD, AROUND_AN_ELEMENT, DATA_START, HEAD};
use super::{Chunk, Stored};
use crate::severity::Severity;

const ELEMENT_HEAD: usize = 28;
pub(super) const ELEMENT_FOOT: usize = 16;
const HEAD_MAGIC: [u8; 4] = *b"ITHD";
const FOOT_MAGIC: [u8; 4] = *b"ITFT";
/// Read at once, as a rule.
const WINDOW: usize = 256 << 10;

/// A place in a segment.
#[derive(Debug)]
pub(super) struct Cursor {
    window: Window,
    first: u64,
    seal: u64,
    offset: u64,
    /// The number that comes next.
    pub(super) next: u64,
    /// Bytes passed in which nothing is whole, since the last whole one.
    bad_bytes: u64,
}

/// An element that is whole.
struct Element {
    /// In the window's terms: where its bytes begin in the file.
    at: u64,
    length: usize,
    first: u64,
    count: u64,
}

impl Cursor {
    pub(super) fn open(segment: &Named) -> io::Result<Cursor> {
        let window = Window { file: File::open(&segment.path)?, end: 0, at: 0, bytes: Vec::new() };
        let Named { first, seal, .. } = *segment;
        Ok(Cursor { window, first, seal, offset: DATA_START, next: first, bad_bytes: 0 })
    }

    pub(super) fn is_in(&self, segment: &Named) -> bool {
        self.first == segment.first && self.seal == segment.seal
    }

    /// Appends records with these numbers to `chunk`, until it has `most_bytes`; whether all were gone through. Notes
    /// what is missing of them. What is written ends at `end`.
    pub(super) fn read(&mut self, numbers: Range<u64>, end: u64, most_bytes: usize, chunk: &mut Chunk) -> bool {
        let Range { start: from, end: behind_all } = numbers;
        self.window.end = end;
        while self.next < behind_all {
            if chunk.bytes.len() >= most_bytes {
                return false;
            }
            let Some(element) = self.element(behind_all - 1, end) else {
                // Nothing more is whole: the rest is lost.
                self.pass_over(behind_all, from, chunk);
                break;
            };
            self.pass_over(element.first, from, chunk);
            let behind = element.first + element.count;
            let Some(bytes) = self.window.get(element.at, element.length) else { continue };
            let records = Records { bytes: bytes.get(HEAD..).unwrap_or_default() };
            let mut number = element.first;
            for (severity, timestamp_ms, payload) in records {
                if number >= from.max(self.next) {
                    if chunk.bytes.len() >= most_bytes {
                        break;
                    }
                    chunk.push(Stored { number, severity, timestamp_ms, payload });
                    self.next = number + 1;
                }
                number += 1;
            }
            if number < behind {
                return false;
            }
            self.next = self.next.max(behind);
            self.offset = element.at + element.length as u64 + ELEMENT_FOOT as u64;
        }
        true
    }

    /// Goes on to `number`, and notes what is missing before it, from `from` on.
    fn pass_over(&mut self, number: u64, from: u64, chunk: &mut Chunk) {
        let bytes = std::mem::take(&mut self.bad_bytes);
        chunk.lose(self.next.max(from)..number, bytes);
        self.next = self.next.max(number);
    }

    /// The next whole element, which may have been begun already; `offset` is left at it.
    fn element(&mut self, last: u64, end: u64) -> Option<Element> {
        // In step with the elements as they were written; a length that is damaged ends that.
        let mut in_step = true;
        while self.offset + AROUND_AN_ELEMENT <= end {
            let length = self.window.get(self.offset, ELEMENT_HEAD).and_then(element_length);
            let length = length.filter(|length| *length as u64 + AROUND_AN_ELEMENT <= end - self.offset);
            let Some(length) = length else {
                in_step = false;
                self.search(end);
                continue;
            };
            let at = self.offset + ELEMENT_HEAD as u64;
            match self.numbers(at, length) {
                Some((first, count)) if first >= self.next && first + (count - 1) <= last => {
                    return Some(Element { at, length, first, count });
                }
                // Begun and not ended.
                Some((first, count))
                    if first < self.next && self.next < first + count && first + (count - 1) <= last =>
                {
                    return Some(Element { at, length, first, count });
                }
                // Not to be read yet: the next call begins with it.
                Some((first, _)) if first > last => return None,
                _ => {}
            }
            // Its head is whole, so its length is right, unless it stands in somebody's payload.
            let step = if in_step { length as u64 + AROUND_AN_ELEMENT } else { 1 };
            self.bad_bytes += step;
            self.offset += step;
        }
        None
    }

    /// The first number and the count of an element, if it is whole and ours.
    fn numbers(&mut self, at: u64, length: usize) -> Option<(u64, u64)> {
        let seal = self.seal;
        // Asked first: nobody who writes a payload knows it, so no payload makes this read and sum up more.
        if length < HEAD || Fields(self.window.get(at, HEAD)?).u64()? != seal {
            return None;
        }
        let bytes = self.window.get(at, length + ELEMENT_FOOT)?;
        let (entry, foot) = bytes.split_at_checked(length)?;
        let (foot, sum) = foot.split_at_checked(12)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(entry);
        hasher.update(foot);
        if !foot.starts_with(&FOOT_MAGIC) || *sum != hasher.finalize().to_be_bytes() {
            return None;
        }
        let mut fields = Fields(entry);
        let (_, first, count) = (fields.u64()?, fields.u64()?, u64::from(fields.u32()?));
        let whole = Records { bytes: fields.0 }.count_all() == Some(count);
        (whole && count > 0 && first.checked_add(count).is_some()).then_some((first, count))
    }

    /// Goes on to where an element may begin.
    fn search(&mut self, end: u64) {
        let from = self.offset + 1;
        let left = usize::try_from(end.saturating_sub(from)).unwrap_or(WINDOW);
        let found = self.window.some(from, left).map(|bytes| {
            let place = bytes.windows(HEAD_MAGIC.len()).position(|window| window == HEAD_MAGIC);
            let place = place.unwrap_or((bytes.len() + 1).saturating_sub(HEAD_MAGIC.len()).max(1)) as u64;
            (place, bytes.iter().take(place as usize).any(|byte| *byte != 0))
        });
        match found {
            Some((place, written)) => {
                // What was never written is not damaged.
                if written {
                    self.bad_bytes += from + place - self.offset;
                }
                self.offset = from + place;
            }
            None => self.offset = end,
        }
    }

    /// Goes through all of a segment that nobody has sealed: its last number, and the bytes at its end in which there is
    /// something and nothing whole.
    pub(super) fn survey(mut self, end: u64) -> (u64, u64) {
        self.window.end = end;
        let mut last = self.first.saturating_sub(1);
        while let Some(element) = self.element(u64::MAX - 1, end) {
            self.bad_bytes = 0;
            last = element.first + (element.count - 1);
            self.next = last + 1;
            self.offset = element.at + element.length as u64 + ELEMENT_FOOT as u64;
        }
        (last, self.bad_bytes)
    }
}

/// A part of a file in memory.
#[derive(Debug)]
struct Window {
    file: File,
    /// What is behind may still be written, and is not kept.
    end: u64,
    at: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// These bytes of the file, if it has them.
    fn get(&mut self, at: u64, length: usize) -> Option<&[u8]> {
        if self.held(at) < length {
            self.load(at, length.max(WINDOW));
        }
        self.bytes.get(self.skip(at)?..)?.get(..length)
    }

    /// Some of the bytes from there on, at most so many; none if the file ends there.
    fn some(&mut self, at: u64, most: usize) -> Option<&[u8]> {
        // As long as there is enough to find something in, the file is not read again.
        if self.held(at) < most.min(ELEMENT_HEAD) {
            self.load(at, WINDOW);
        }
        let rest = self.bytes.get(self.skip(at)?..)?;
        let part = rest.get(..most).unwrap_or(rest);
        (!part.is_empty()).then_some(part)
    }

    fn skip(&self, at: u64) -> Option<usize> {
        usize::try_from(at.checked_sub(self.at)?).ok()
    }

    /// How much of what begins there is in memory.
    fn held(&self, at: u64) -> usize {
        self.skip(at).map_or(0, |skip| self.bytes.len().saturating_sub(skip))
    }

    /// What cannot be read counts as not there.
    fn load(&mut self, at: u64, length: usize) {
        let length = self.end.saturating_sub(at).min(length as u64);
        self.at = at;
        self.bytes.clear();
        if self.file.seek(SeekFrom::Start(at)).is_ok() {
            let _ = (&mut self.file).take(length).read_to_end(&mut self.bytes);
        }
        // A giant does not stay.
        self.bytes.shrink_to(self.bytes.len().max(WINDOW));
    }
}

/// The length of an element by its head, if that is whole.
fn element_length(head: &[u8]) -> Option<usize> {
    let (fields, sum) = head.split_at_checked(ELEMENT_HEAD - 4)?;
    if !fields.starts_with(&HEAD_MAGIC) || *sum != crc32fast::hash(fields).to_be_bytes() {
        return None;
    }
    let length = fields.last_chunk::<4>()?;
    usize::try_from(i32::from_be_bytes(*length)).ok()
}

/// The records of an entry.
struct Records<'a> {
    bytes: &'a [u8],
}

impl<'a> Records<'a> {
    /// How many there are, if that is all there is.
    fn count_all(mut self) -> Option<u64> {
        let mut count = 0;
        while self.next().is_some() {
            count += 1;
        }
        self.bytes.is_empty().then_some(count)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (Severity, i64, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.bytes.len() < AROUND_A_RECORD {
            return None;
        }
        let mut fields = Fields(self.bytes);
        let timestamp_ms = fields.u64()? as i64;
        let severity = severity(fields.u8()?)?;
        let length = fields.u32()? as usize;
        let (payload, rest) = fields.0.split_at_checked(length)?;
        self.bytes = rest;
        Some((severity, timestamp_ms, payload))
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u64(&mut self) -> Option<u64> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*field))
    }

    fn u32(&mut self) -> Option<u32> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*field))
    }

    fn u8(&mut self) -> Option<u8> {
        let (field, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*field)
    }
}

fn severity(byte: u8) -> Option<Severity> {
    use Severity::{Critical, Debug, Error, Info, Trace, Warning};
    [Trace, Debug, Info, Warning, Error, Critical].into_iter().find(|severity| *severity as u8 == byte)
}
