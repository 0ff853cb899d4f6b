//! The buffer that a payload is written into, with its limit.

use std::io;

use super::buffer::Buffer;
use super::escape;

/// What is lost is counted to here and no further: an argument's text can be endless.
const MOST_COUNTED: u64 = 64 * 1024 * 1024;

/// Grows to `limit` bytes and no further: one piece too many, and it is over until it is cut back. What comes while it
/// is over is counted and not kept.
pub(super) struct Output<'a> {
    buffer: &'a mut Buffer,
    limit: usize,
    /// The limit, or nothing once it is over: so there is one question for each piece.
    most: usize,
    over: bool,
    lost: u64,
}

impl<'a> Output<'a> {
    pub(super) fn new(buffer: &'a mut Buffer, limit: usize) -> Output<'a> {
        buffer.length = 0;
        Output { buffer, limit, most: limit, over: false, lost: 0 }
    }

    /// Whether something did not fit.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Appends a piece: one whose length the compiler knows, or a long one.
    #[inline(always)]
    pub(super) fn push(&mut self, piece: &[u8]) {
        let start = self.buffer.length;
        let end = start + piece.len();
        match self.buffer.bytes.get_mut(start..end) {
            Some(place) if end <= self.most => {
                place.copy_from_slice(piece);
                self.buffer.length = end;
            }
            _ => self.push_slowly(piece),
        }
    }

    /// Where there may be no place for the piece yet, or no room.
    #[cold]
    #[inline(never)]
    fn push_slowly(&mut self, piece: &[u8]) {
        if !self.fits(piece.len()) {
            return self.lose(piece.len());
        }
        let start = self.buffer.length;
        let end = start + piece.len();
        if end > self.buffer.bytes.len() {
            self.buffer.grow(end);
        }
        self.buffer.bytes[start..end].copy_from_slice(piece);
        self.buffer.length = end;
    }

    /// Appends a piece that is short as a rule, without a call for so little.
    #[inline]
    pub(super) fn push_short(&mut self, piece: &[u8]) {
        if !self.push_in_blocks::<false>(piece) {
            self.push(piece);
        }
    }

    /// Appends a piece of four to 32 bytes. Nothing is done, and false returned, where it is not, or there is no place for it,
    /// or it is to be `PLAIN` and is not.
    #[inline(always)]
    pub(super) fn push_in_blocks<const PLAIN: bool>(&mut self, piece: &[u8]) -> bool {
        match piece.len() {
            16..=32 => self.push_by_ends::<16, PLAIN>(piece),
            8..16 => self.push_by_ends::<8, PLAIN>(piece),
            4..8 => self.push_by_ends::<4, PLAIN>(piece),
            _ => false,
        }
    }

    /// The same for `N` to twice as many bytes: as the first and the last `N`, which may overlap.
    #[inline(always)]
    fn push_by_ends<const N: usize, const PLAIN: bool>(&mut self, piece: &[u8]) -> bool {
        let (Some(first), Some(last)) = (piece.first_chunk::<N>(), piece.last_chunk::<N>()) else { return false };
        let start = self.buffer.length;
        let end = start + piece.len();
        let Some(place) = self.buffer.bytes.get_mut(start..end) else { return false };
        if end > self.most || (PLAIN && !(escape::is_plain_block(first) & escape::is_plain_block(last))) {
            return false;
        }
        if let Some(place) = place.first_chunk_mut() {
            *place = *first;
        }
        if let Some(place) = place.last_chunk_mut() {
            *place = *last;
        }
        self.buffer.length = end;
        true
    }

    /// Counts what is not written.
    #[cold]
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
        self.lose(self.len().saturating_sub(length));
        self.truncate(length);
        self.is_within();
    }

    /// Takes back what was written after the first `length` bytes, when `lost` were lost, to write it again.
    pub(super) fn rewind(&mut self, length: usize, lost: u64) {
        self.truncate(length);
        self.lost = lost;
        self.is_within();
    }

    /// Has room for so many bytes more, at the least.
    pub(super) fn make_room(&mut self, length: usize) {
        self.limit = self.limit.max(self.len().saturating_add(length));
        if !self.over {
            self.most = self.limit;
        }
    }

    /// Whether so many bytes fit in. Asked before work is done on a large piece: its escaped form is no shorter.
    #[inline]
    pub(super) fn fits(&mut self, length: usize) -> bool {
        let fits = length <= self.room();
        if !fits {
            self.is_too_much();
        }
        fits
    }

    /// How many bytes there is room for.
    pub(super) fn room(&self) -> usize {
        self.most.saturating_sub(self.len())
    }

    #[cold]
    fn is_too_much(&mut self) {
        self.over = true;
        self.most = 0;
    }

    fn is_within(&mut self) {
        self.over = false;
        self.most = self.limit;
    }

    pub(super) fn len(&self) -> usize {
        self.buffer.length
    }

    pub(super) fn written(&self, from: usize, to: usize) -> &[u8] {
        &self.buffer[from..to]
    }

    /// Takes back what was written after the first `length` bytes.
    pub(super) fn truncate(&mut self, length: usize) {
        self.buffer.length = length.min(self.len());
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
        let mut bytes = Buffer::default();
        let mut out = Output::new(&mut bytes, 5);
        out.push(b"abcde");
        assert!(!out.is_over());
        out.push(b"f");
        out.push(b"");
        out.push(b"gh");
        assert!(out.is_over());
        assert_eq!(out.lost(), 3);
        assert_eq!(*bytes, *b"abcde");
    }

    #[test]
    fn what_is_cut_back_is_lost_and_makes_room() {
        let mut bytes = Buffer::default();
        let mut out = Output::new(&mut bytes, 5);
        out.push(b"abc");
        out.push(b"defg");
        out.cut_back(1);
        out.push(b"xyz");
        assert!(!out.is_over());
        assert_eq!(out.lost(), 6);
        assert_eq!(*bytes, *b"axyz");
    }
}
