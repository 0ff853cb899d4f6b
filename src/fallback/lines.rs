//! Payloads that travel together, a line each.

use log::Level;

/// No more is added beyond this; a larger line is alone.
const FULL_BYTES: usize = 128 * 1024;

#[derive(Debug, Default)]
pub(super) struct Lines {
    /// Each line with its end.
    bytes: Vec<u8>,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    /// Where it ends in `bytes`.
    end: usize,
    level: Level,
}

impl Lines {
    /// What a payload takes here.
    pub(super) fn size_of(payload: &[u8]) -> usize {
        payload.len() + 1 + size_of::<Line>()
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.lines.len() * size_of::<Line>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn takes(&self, size: usize) -> bool {
        self.is_empty() || self.size() + size <= FULL_BYTES
    }

    pub(super) fn push(&mut self, payload: &[u8], level: Level) {
        self.bytes.extend_from_slice(payload);
        self.bytes.push(b'\n');
        self.lines.push(Line { end: self.bytes.len(), level });
    }

    /// All of them, each with its end.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many are whole in the first so many bytes, and where the last of these ends.
    pub(super) fn whole_in(&self, bytes: usize) -> (usize, usize) {
        let count = self.lines.partition_point(|line| line.end <= bytes);
        (count, self.end_of(count))
    }

    /// Where the first so many end.
    pub(super) fn end_of(&self, count: usize) -> usize {
        count.checked_sub(1).and_then(|last| self.lines.get(last)).map_or(0, |line| line.end)
    }

    /// Each without its end.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Level)> {
        let mut rest = &self.bytes[..];
        let mut start = 0;
        self.lines.iter().map(move |line| {
            let (this, after) = rest.split_at(line.end - start);
            (rest, start) = (after, line.end);
            (this.strip_suffix(b"\n").unwrap_or(this), line.level)
        })
    }

    /// Empties it; whether its buffers are worth keeping.
    pub(super) fn empty(&mut self) -> bool {
        self.bytes.clear();
        self.lines.clear();
        self.bytes.capacity() <= 2 * FULL_BYTES
    }
}
