//! The buffer that a payload is written into, with its limit.

use std::io;

/// Grows to `limit` bytes and no further: one piece too many, and it is over for good.
pub(super) struct Output<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
    over: bool,
}

impl<'a> Output<'a> {
    pub(super) fn new(bytes: &'a mut Vec<u8>, limit: usize) -> Output<'a> {
        Output { bytes, limit, over: false }
    }

    /// Whether something did not fit; what has been written is void then.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    #[inline]
    pub(super) fn push(&mut self, piece: &[u8]) {
        if self.fits(piece.len()) {
            self.bytes.extend_from_slice(piece);
        }
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
        if self.over { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(piece.len()) }
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
        assert!(out.is_over());
        assert_eq!(bytes, b"abcde");
    }
}
