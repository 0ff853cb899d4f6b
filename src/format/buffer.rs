//! The thread's own buffer that payloads are written into.

use std::cell::Cell;
use std::mem;
use std::ops::{Deref, DerefMut};

/// What a buffer begins with: enough for most payloads.
const USUAL: usize = 1024;

/// A buffer grown beyond this by one large record is not kept.
const LARGEST_KEPT: usize = 64 * 1024;

/// A payload's bytes.
///
/// They stand at the beginning of longer ones, which have been written before and are written over: a piece is put in its
/// place, and one number says how far it goes by now.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    pub(super) bytes: Vec<u8>,
    pub(super) length: usize,
}

impl Buffer {
    /// What it takes in memory.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Makes room for so many bytes in all.
    #[cold]
    pub(super) fn grow(&mut self, length: usize) {
        let length = length.max(2 * self.bytes.len()).max(USUAL);
        self.bytes.resize(length, 0);
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

thread_local! {
    static KEPT: Cell<Buffer> = const { Cell::new(Buffer { bytes: Vec::new(), length: 0 }) };
}

/// The thread's buffer until this is dropped; or a fresh one where that is in use (a log call inside an argument's
/// `Display`) or gone (one inside a thread-local's destructor).
pub(crate) struct Borrowed(Buffer);

pub(crate) fn borrow() -> Borrowed {
    Borrowed(KEPT.try_with(Cell::take).unwrap_or_default())
}

impl Deref for Borrowed {
    type Target = Buffer;

    fn deref(&self) -> &Buffer {
        &self.0
    }
}

impl DerefMut for Borrowed {
    fn deref_mut(&mut self) -> &mut Buffer {
        &mut self.0
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if self.bytes.len() <= LARGEST_KEPT {
            let buffer = mem::take(&mut self.0);
            let _ = KEPT.try_with(|kept| kept.set(buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::output::Output;

    #[test]
    fn a_nested_use_has_a_buffer_of_its_own() {
        let mut outer = borrow();
        Output::new(&mut outer, 10).push(b"outer");
        {
            let mut inner = borrow();
            Output::new(&mut inner, 10).push(b"inner");
            assert_eq!(**inner, *b"inner");
        }
        assert_eq!(**outer, *b"outer");
    }

    #[test]
    fn the_next_use_has_the_same_buffer_also_after_a_panic() {
        let place = |buffer: &Buffer| buffer.bytes.as_ptr();
        let first = std::panic::catch_unwind(|| {
            let mut buffer = borrow();
            Output::new(&mut buffer, 10).push(b"half");
            std::panic::panic_any(place(&buffer) as usize);
        });
        let first = *first.unwrap_err().downcast::<usize>().unwrap();
        assert_eq!(place(&borrow()) as usize, first);
    }

    #[test]
    fn what_a_large_record_took_is_given_back() {
        Output::new(&mut borrow(), 1 << 20).push(&[b'x'; 100_000]);
        assert_eq!(borrow().capacity(), 0);
    }
}
