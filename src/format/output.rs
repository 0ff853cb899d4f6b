//! The buffer that a payload is written into, with its limit.

use std::io;

/// What is lost is counted to here and no further: an argument's text can be endless.
const MOST_COUNTED: u64 = 64 * 1024 * 1024;

/// Grows to `limit` bytes and no further: one piece too many, and it is over until it is cut back. What comes while it
/// is over is counted and not kept.
pub(super) struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
    over: bool,
    lost: u64,
}

impl<'a> Output<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>, limit: usize) -> Output<'a> {
        Output { bytes, limit, over: false, lost: 0 }
    }

    /// Whether something did not fit.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    #[inline]
    pub(super) fn push(&mut self, piece: &[u8]) {
        if self.fits(piece.len()) {
            self.bytes.extend_from_slice(piece);
        } else {
            self.lose(piece.len());
        }
    }

    /// Counts what is not written.
    pub(super) fn lose(&mut self, length: usize) {
        self.lost = self.lost.saturating_add(length as u64);
    }

    /// The bytes that were not kept, of those that should have been.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether so much is lost that the rest is not worth the caller's time.
    pub(super) fn has_lost_enough(&self) -> bool {
        self.lost > MOST_COUNTED
    }

    /// Gives up what was written after the first `length` bytes, so that what is smaller may fit.
    pub(super) fn cut_back(&mut self, length: usize) {
        self.lose(self.bytes.len().saturating_sub(length));
        self.bytes.truncate(length);
        self.over = false;
    }

    /// Takes back what was written after the first `length` bytes, when `lost` were lost, to write it again.
    pub(super) fn rewind(&mut self, length: usize, lost: u64) {
        self.bytes.truncate(length);
        self.lost = lost;
        self.over = false;
    }

    /// Has room for so many bytes more, at the least.
    pub(super) fn make_room(&mut self, length: usize) {
        self.limit = self.limit.max(self.bytes.len().saturating_add(length));
    }

    /// All of it, to be ended by hand.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        self.bytes
    }

    /// Whether so many bytes fit in. Asked before work is done on a large piece: its escaped form is no shorter.
    #[inline]
    pub(super) fn fits(&mut self, length: usize) -> bool {
        self.over |= length > self.room();
        !self.over
    }

    /// How many bytes there is room for.
    pub(super) fn room(&self) -> usize {
        self.limit - self.bytes.len().min(self.limit)
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn written(&self, from: usize, to: usize) -> &[u8] {
        &self.bytes[from..to]
    }

    /// Takes back what was written after the first `length` bytes.
    pub(super) fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }
}

impl io::Write for Output<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.push(piece);
        if self.has_lost_enough() { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(piece.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_what_fits_and_nothing_after_what_does_not() {
        let mut bytes = Vec::new();
        let mut out = Output::new(&mut bytes, 5);
        out.push(b"abcde");
        assert!(!out.is_over());
        out.push(b"f");
        out.push(b"");
        out.push(b"gh");
        assert!(out.is_over());
        assert_eq!(out.lost(), 3);
        assert_eq!(bytes, b"abcde");
    }

    #[test]
    fn what_is_cut_back_is_lost_and_makes_room() {
        let mut bytes = Vec::new();
        let mut out = Output::new(&mut bytes, 5);
        out.push(b"abc");
        out.push(b"defg");
        out.cut_back(1);
        out.push(b"xyz");
        assert!(!out.is_over());
        assert_eq!(out.lost(), 6);
        assert_eq!(bytes, b"axyz");
    }
}
