//! Text into JSON strings, piece by piece as `Display` produces it.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use serde::Serializer as _;
use serde_json::ser::Formatter;

use super::output::Output;

/// Appends what `text` displays as a JSON string.
///
/// A `Display` that returns an error ends its own text there, and nothing else.
pub(super) fn display(text: fmt::Arguments<'_>, out: &mut Output<'_>) {
    out.push(b"\"");
    display_contents(text, out);
    out.push(b"\"");
}

/// Appends the inside of a JSON string.
pub(super) fn display_contents(text: fmt::Arguments<'_>, out: &mut Output<'_>) {
    match text.as_str() {
        Some(text) => contents(text, out),
        // What fails ends there.
        None => Escaped(out).write_fmt(text).unwrap_or_default(),
    }
}

/// Appends the inside of a JSON string.
#[inline]
pub(super) fn contents(text: &str, out: &mut Output<'_>) {
    if !out.push_in_blocks::<true>(text.as_bytes()) {
        any_contents(text, out);
    }
}

/// The same for any length, and where there is something to escape.
#[inline(never)]
fn any_contents(text: &str, out: &mut Output<'_>) {
    if is_plain(text.as_bytes()) && out.fits(text.len()) {
        out.push(text.as_bytes());
    } else if out.fits(text.len()) {
        // Where the escaped form does not fit, `out` remembers it.
        let _ = serde_json::Serializer::with_formatter(out, NoQuotes).serialize_str(text);
    } else {
        // Without its escapes: a long text is not looked at for a number.
        out.lose(text.len());
    }
}

/// Whether no byte needs an escape, which is so for most texts: sixteen bytes at a time, the last ones maybe twice.
fn is_plain(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<16>() else { return text.iter().all(|byte| is_plain_block(&[*byte])) };
    let mut blocks = text.chunks_exact(16).filter_map(|block| block.first_chunk::<16>());
    blocks.all(is_plain_block) && is_plain_block(last)
}

/// Whether none of the bytes is a control character, a quote or a backslash; without a branch, for the compiler to take them
/// all at once.
#[inline(always)]
pub(super) fn is_plain_block<const N: usize>(block: &[u8; N]) -> bool {
    !block.iter().fold(false, |special, byte| special | (*byte < b' ') | (*byte == b'"') | (*byte == b'\\'))
}

/// The same, with every character escaped that ends a line or drives a terminal, beyond what JSON asks for.
pub(super) fn contents_on_one_line(text: &str, out: &mut Output<'_>) {
    if !out.fits(text.len()) {
        return;
    }
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|&(_, c)| breaks_line(c)) {
        contents(&rest[..at], out);
        let _ = write!(out, "\\u{:04x}", u32::from(c));
        rest = &rest[at + c.len_utf8()..];
    }
    contents(rest, out);
}

pub(super) fn breaks_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

struct Escaped<'a, 'b>(&'a mut Output<'b>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        contents(piece, self.0);
        if self.0.has_lost_enough() { Err(fmt::Error) } else { Ok(()) }
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

/// serde_json's compact form with all strings on one line.
pub(super) struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| breaks_line(c)) {
            write!(writer, "{}\\u{:04x}", &rest[..at], u32::from(c))?;
            rest = &rest[at + c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::Buffer;

    struct FailsHalfway;

    impl fmt::Display for FailsHalfway {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("half")?;
            Err(fmt::Error)
        }
    }

    #[test]
    fn a_display_that_fails_ends_its_text_and_nothing_else() {
        let mut out = Buffer::default();
        display(format_args!("<{FailsHalfway}>"), &mut Output::new(&mut out, 100));
        assert_eq!(*out, *br#""<half""#);
    }

    #[test]
    fn writing_stops_at_the_limit() {
        let mut out = Buffer::default();
        let mut bounded = Output::new(&mut out, 60);
        display(format_args!("{}{}", "x".repeat(50), "y".repeat(1 << 20)), &mut bounded);
        assert!(bounded.is_over() && out.capacity() < 1 << 16, "{} bytes", out.capacity());
    }

    #[test]
    fn a_byte_that_needs_an_escape_is_seen_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            let is_special = byte < b' ' || byte == b'"' || byte == b'\\';
            for length in 1..40 {
                for place in 0..length {
                    for other in [b' ', b'~', 0x80, 0xff] {
                        let mut text = vec![other; length];
                        text[place] = byte;
                        assert_eq!(is_plain(&text), !is_special, "{byte} at {place} of {length} among {other}");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_its_json(pieces in proptest::collection::vec(any::<String>(), 0..4)) {
            let mut out = Buffer::default();
            display(format_args!("{}", pieces.concat()), &mut Output::new(&mut out, usize::MAX));
            let back: String = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(back, pieces.concat());
            prop_assert!(!out.iter().any(|byte| *byte < 0x20));
        }
    }
}
