//! Text into JSON strings, piece by piece as `Display` produces it.

use std::fmt::{self, Write as _};
use std::io;

use serde::Serializer as _;
use serde_json::ser::Formatter;

/// Appends `text` as a JSON string with its quotes.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    contents(text, out);
    out.push(b'"');
}

/// Appends what `text` displays as a JSON string, and gives up once `out` is longer than `limit`.
///
/// A `Display` that returns an error ends its own text there, and nothing else.
pub(super) fn display(text: fmt::Arguments<'_>, limit: usize, out: &mut Vec<u8>) {
    out.push(b'"');
    let _ = Escaped { out, limit }.write_fmt(text);
    out.push(b'"');
}

/// Appends the inside of a JSON string.
pub(super) fn contents(text: &str, out: &mut Vec<u8>) {
    let written = serde_json::Serializer::with_formatter(out, NoQuotes).serialize_str(text);
    debug_assert!(written.is_ok(), "writing into memory does not fail");
}

struct Escaped<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.out.len().saturating_add(piece.len()) > self.limit {
            // One byte too many is how the caller sees it; the rest need not be written.
            self.out.resize(self.limit.saturating_add(1), b' ');
            return Err(fmt::Error);
        }
        contents(piece, self.out);
        Ok(())
    }
}

/// serde_json's escaping without the quotes around it.
struct NoQuotes;

impl Formatter for NoQuotes {
    fn begin_string<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn end_string<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct FailsHalfway;

    impl fmt::Display for FailsHalfway {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half")?;
            Err(fmt::Error)
        }
    }

    #[test]
    fn a_display_that_fails_ends_its_text_and_nothing_else() {
        let mut out = Vec::new();
        display(format_args!("<{FailsHalfway}>"), 100, &mut out);
        assert_eq!(out, br#""<half""#);
    }

    #[test]
    fn writing_stops_at_the_limit() {
        let mut out = Vec::new();
        display(format_args!("{}{}", "x".repeat(50), "y".repeat(1 << 20)), 60, &mut out);
        assert!(out.len() > 60 && out.capacity() < 1 << 16, "{} bytes", out.len());
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_its_json(pieces in proptest::collection::vec(any::<String>(), 0..4)) {
            let mut out = Vec::new();
            display(format_args!("{}", pieces.concat()), usize::MAX, &mut out);
            let back: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(back, pieces.concat());
            prop_assert!(!out.iter().any(|byte| *byte < 0x20));
        }
    }
}
