//! A payload that would be over the limit: cut once, and still one whole payload.
//!
//! The message gives way first, to a quarter of the limit at the most; then the largest fields do. What is left says how
//! large it would have been.

use std::fmt;
use std::ops::Range;

use super::Formatted;
use super::fields::{Pairs, Style};
use super::output::Output;

/// Ends a message that was cut.
pub(super) const MARKER: &str = "…[truncated]";

/// So much of a long text is written at a time, until it does not fit any more.
const SLICE: usize = 1_024;

/// Writes a message as far as it fits; the rest is counted. `W` writes a piece of it, escaped.
pub(super) struct Message<'a, 'b, W> {
    out: &'a mut Output<'b>,
    write: W,
    cut: bool,
}

impl<'a, 'b, W: Fn(&str, &mut Output<'b>)> Message<'a, 'b, W> {
    /// Appends what `text` displays; whether it was cut.
    ///
    /// A `Display` that returns an error ends its own text there, and nothing else.
    pub(super) fn write(text: fmt::Arguments<'_>, out: &'a mut Output<'b>, write: W) -> bool {
        let mut message = Message { out, write, cut: false };
        let _ = match text.as_str() {
            Some(text) => fmt::Write::write_str(&mut message, text),
            None => fmt::Write::write_fmt(&mut message, text),
        };
        message.cut
    }

    #[cold]
    fn cut(&mut self, piece: &str, before: usize, lost: u64) {
        self.cut = true;
        let mut rest = piece;
        let mut so_far = before;
        let mut most = SLICE;
        self.out.rewind(before, lost);
        while !rest.is_empty() {
            let (slice, after) = rest.split_at(char_boundary(rest, most));
            (self.write)(slice, self.out);
            if !self.out.is_over() {
                (rest, so_far) = (after, self.out.len());
                continue;
            }
            self.out.rewind(so_far, lost);
            if most == 1 {
                break;
            }
            // One by one, to the last that fits.
            most = 1;
        }
        self.out.lose(rest.len());
    }
}

impl<'b, W: Fn(&str, &mut Output<'b>)> fmt::Write for Message<'_, 'b, W> {
    #[inline]
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.cut {
            self.out.lose(piece.len());
        } else {
            let (before, lost) = (self.out.len(), self.out.lost());
            (self.write)(piece, self.out);
            if !self.out.is_over() {
                return Ok(());
            }
            self.cut(piece, before, lost);
        }
        if self.out.has_lost_enough() { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The last end of a character in the first `most` bytes, or of the first character.
fn char_boundary(text: &str, most: usize) -> usize {
    let within = |at: &usize| text.is_char_boundary(*at);
    let last = (1..=most.min(text.len())).rev().find(within);
    last.or_else(|| (1..=text.len()).find(within)).unwrap_or(text.len())
}

/// A payload but for its end.
pub(super) struct Draft<'p, 'a, 'b> {
    pub(super) style: Style,
    /// What the payload may come to.
    pub(super) limit: usize,
    /// Where the message stands, without its quotes.
    pub(super) message: Range<usize>,
    /// Whether it is less than the whole.
    pub(super) is_cut: bool,
    pub(super) pairs: &'p mut Pairs<'a, 'b>,
}

impl Draft<'_, '_, '_> {
    /// Ends the payload, within the limit.
    pub(super) fn finish(self) -> Formatted {
        let closing = closing_of(self.style).len();
        if self.is_cut || self.pairs.are_cut() || self.pairs.end() + closing > self.limit {
            return self.shrink();
        }
        self.pairs.output().push(closing_of(self.style));
        Formatted::Whole { fields_left_out: self.pairs.left_out() }
    }

    #[cold]
    fn shrink(self) -> Formatted {
        let Draft { style, limit, message, is_cut, pairs } = self;
        let closing = closing_of(style);
        let (starts, mut fields_left_out) = (pairs.starts(), pairs.left_out());
        let out = pairs.output();
        let end = out.len();
        let original_bytes = out.lost().saturating_add((end + closing.len()) as u64);
        let (quote, size) = match style {
            Style::Members => ("\"", format!(",\"original_bytes\":{original_bytes}")),
            Style::Words => ("", format!(" original_bytes={original_bytes}")),
        };
        let ends = starts.iter().skip(1).copied().chain([end]);
        let mut fields: Vec<Range<usize>> = starts.iter().copied().zip(ends).map(|(from, to)| from..to).collect();

        let around = message.start + quote.len() + size.len() + closing.len();
        let least = message.len().min(limit / 4);
        let cut_at = loop {
            let others = around + fields.iter().map(Range::len).sum::<usize>();
            if let Some(room) = limit.checked_sub(others) {
                if !is_cut && message.len() <= room {
                    break None;
                }
                if room >= least + MARKER.len() || (fields.is_empty() && room >= MARKER.len()) {
                    let most = (room - MARKER.len()).min(message.len());
                    break Some(message.start + whole_units(out.written(message.start, message.end), most, style));
                }
            }
            let Some(largest) = (0..fields.len()).max_by_key(|place| fields[*place].len()) else {
                return Formatted::Oversize;
            };
            fields.remove(largest);
            fields_left_out += 1;
        };

        let mut tail = Vec::with_capacity(limit.saturating_sub(message.start).min(end + size.len()));
        let start = match cut_at {
            Some(at) => {
                tail.extend_from_slice(MARKER.as_bytes());
                at
            }
            None => message.end,
        };
        tail.extend_from_slice(quote.as_bytes());
        tail.extend_from_slice(size.as_bytes());
        fields.into_iter().for_each(|field| tail.extend_from_slice(out.written(field.start, field.end)));
        tail.extend_from_slice(closing);
        out.rewind(start, 0);
        out.push(&tail);
        Formatted::Truncated { fields_left_out, original_bytes }
    }
}

fn closing_of(style: Style) -> &'static [u8] {
    match style {
        Style::Members => b"}",
        Style::Words => b"",
    }
}

/// How many of the first `most` bytes of a message are whole characters and whole escapes.
fn whole_units(message: &[u8], most: usize, style: Style) -> usize {
    let mut at = 0;
    while let Some(rest) = message.get(at..).filter(|rest| !rest.is_empty()) {
        let next = at + unit(rest, style);
        if next > most {
            break;
        }
        at = next;
    }
    at
}

/// The length of the first character, or of the escape that stands for it.
fn unit(text: &[u8], style: Style) -> usize {
    match (text, style) {
        ([b'\\', b'u', ..], Style::Members) => 6,
        // `\u{1b}`, as `char::escape_default` has it.
        ([b'\\', b'u', b'{', rest @ ..], Style::Words) => {
            let digits = rest.iter().take(6).take_while(|byte| byte.is_ascii_hexdigit()).count();
            if rest.get(digits) == Some(&b'}') { digits + 4 } else { 1 }
        }
        ([b'\\', b'n' | b'r' | b't', ..], Style::Words) | ([b'\\', _, ..], Style::Members) => 2,
        ([first, ..], _) if *first >= 0xf0 => 4,
        ([first, ..], _) if *first >= 0xe0 => 3,
        ([first, ..], _) if *first >= 0xc0 => 2,
        _ => 1,
    }
}
