//! The thread's own buffer that payloads are written into.

use std::cell::RefCell;

/// A buffer grown beyond this by one large record is not kept.
const LARGEST_KEPT: usize = 64 * 1024;

/// Runs `write` with an empty buffer: the thread's, or a fresh one where that is in use (a log call inside an
/// argument's `Display`) or gone (one inside a thread-local's destructor).
pub(crate) fn with_buffer<R>(write: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    let mut write = Some(write);
    let mut run = |buffer: &mut Vec<u8>| write.take().map(|write| write(buffer));
    let written = BUFFER.try_with(|buffer| {
        let mut buffer = buffer.try_borrow_mut().ok()?;
        buffer.clear();
        let written = run(&mut buffer);
        if buffer.capacity() > LARGEST_KEPT {
            *buffer = Vec::new();
        }
        written
    });
    match written {
        Ok(Some(written)) => written,
        _ => run(&mut Vec::new()).expect("`write` is taken only where its result is returned"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_use_has_a_buffer_of_its_own() {
        let (outer, inner) = with_buffer(|outer| {
            outer.extend_from_slice(b"outer");
            let inner = with_buffer(|inner| {
                assert!(inner.is_empty());
                inner.extend_from_slice(b"inner");
                inner.clone()
            });
            (outer.clone(), inner)
        });
        assert_eq!((outer.as_slice(), inner.as_slice()), (&b"outer"[..], &b"inner"[..]));
    }

    #[test]
    fn a_panic_while_writing_leaves_the_buffer_usable() {
        let panicked = std::panic::catch_unwind(|| {
            with_buffer(|buffer| {
                buffer.push(1);
                panic!("in an argument");
            })
        });
        assert!(panicked.is_err());
        with_buffer(|buffer| assert!(buffer.is_empty()));
    }
}
