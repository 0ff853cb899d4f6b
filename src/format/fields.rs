//! The extra fields of a record: key-value pairs into JSON members.

use log::kv::{self, Key, Source, Value, VisitSource};
use serde::Serialize as _;

use super::escape;
use super::nested::{Depth, Limited};
use super::output::Output;
use super::plain::Plain;

/// Pairs of one record beyond this are left out and counted.
pub(super) const MOST_PAIRS: usize = 1_024;

/// Whether it is a name that the payload itself uses.
fn is_reserved(key: &str) -> bool {
    matches!(key, "timestamp" | "level" | "logger" | "message" | "target" | "original_bytes")
}

/// How pairs are set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `,"key":value`
    Members,
    /// ` key=value`, on one line whatever it holds; a key that is more than a word is quoted.
    Words,
}

/// The keys that are remembered without an allocation.
const INLINE: usize = 8;

/// Writes pairs, and remembers which.
pub(super) struct Pairs<'a, 'b> {
    out: &'a mut Output<'b>,
    style: Style,
    /// Where in `out` the keys taken so far stand, escaped and without their last quote: the first ones, then the others.
    first_keys: [(usize, usize); INLINE],
    more_keys: Vec<(usize, usize)>,
    taken: usize,
    left_out: u64,
    /// Of those left out, the ones that did not fit.
    too_large: u64,
}

impl<'a, 'b> Pairs<'a, 'b> {
    pub(super) fn new(style: Style, out: &'a mut Output<'b>) -> Pairs<'a, 'b> {
        let first_keys = [(0, 0); INLINE];
        Pairs { out, style, first_keys, more_keys: Vec::new(), taken: 0, left_out: 0, too_large: 0 }
    }

    /// Appends the pairs of `source`, each value as JSON. One that does not fit is left out.
    pub(super) fn write(&mut self, source: &dyn Source) {
        // A source that fails has given what it had.
        let _ = source.visit(self);
    }

    /// Where the last of them ends.
    pub(super) fn end(&self) -> usize {
        self.out.len()
    }

    /// What they were written to.
    pub(super) fn output(&mut self) -> &mut Output<'b> {
        self.out
    }

    /// How many pairs were left out, whatever for.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Whether some of them were too large.
    pub(super) fn are_cut(&self) -> bool {
        self.too_large > 0
    }

    /// Where the pairs begin, each with what sets it off from what comes before.
    pub(super) fn starts(&self) -> Vec<usize> {
        let first = &self.first_keys[..self.taken.min(INLINE)];
        first.iter().chain(&self.more_keys).map(|(from, _)| from - 1).collect()
    }

    fn leave_out(&mut self, before: usize) {
        self.out.cut_back(before);
        self.left_out += 1;
        self.too_large += 1;
    }
}

impl<'kvs> VisitSource<'kvs> for Pairs<'_, '_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        let before = self.out.len();
        if self.taken == MOST_PAIRS || !self.take_key(key.as_str()) {
            self.left_out += 1;
            return Ok(());
        }
        write_value(&value, self.style, self.out);
        if self.out.is_over() {
            self.leave_out(before);
            self.taken -= 1;
            if self.taken >= INLINE {
                self.more_keys.pop();
            }
            if self.out.has_lost_enough() {
                return Err(kv::Error::msg("far over the limit"));
            }
        }
        Ok(())
    }
}

impl Pairs<'_, '_> {
    /// Writes a key with what surrounds it, unless it repeats one that is there already. One that does not fit is taken,
    /// for its value to find that out.
    fn take_key(&mut self, key: &str) -> bool {
        let before = self.out.len();
        let is_bare = self.style == Style::Words && is_word(key);
        match self.style {
            Style::Members => self.out.push(b",\""),
            Style::Words if is_bare => self.out.push(b" "),
            Style::Words => self.out.push(b" \""),
        }
        if is_reserved(key) {
            self.out.push(b"fields.");
        }
        match self.style {
            Style::Members => escape::contents(key, self.out),
            Style::Words => escape::contents_on_one_line(key, self.out),
        }
        let (from, to) = (before + 1, self.out.len());

        let first = &self.first_keys[..self.taken.min(INLINE)];
        // Of a key that does not fit there is a piece at most.
        if !self.out.is_over() {
            let written = self.out.written(from, to);
            // Most keys differ in their length or in their first letter: a comparison of all is a call.
            let is_same = |&(from, to): &(usize, usize)| {
                let other = self.out.written(from, to);
                other.len() == written.len() && other.get(1) == written.get(1) && other == written
            };
            if first.iter().any(is_same) || self.more_keys.iter().any(is_same) {
                self.out.truncate(before);
                return false;
            }
        }
        match self.first_keys.get_mut(self.taken) {
            Some(place) => *place = (from, to),
            None => self.more_keys.push((from, to)),
        }
        self.taken += 1;
        match self.style {
            Style::Members => self.out.push(b"\":"),
            Style::Words if is_bare => self.out.push(b"="),
            Style::Words => self.out.push(b"\"="),
        }
        true
    }
}

/// Appends a value as JSON, typed as it was captured. What is not finite is null, as serde_json has it.
///
/// Through serde: `Value::visit` would walk into a structured value, without a bound, to look for a plain one inside.
fn write_value(value: &Value<'_>, style: Style, out: &mut Output<'_>) {
    if value.serialize(Plain { style, out }).is_ok() {
        return;
    }
    let start = out.len();
    let value = Limited(value, Depth::top(out.room()));
    let written = match style {
        Style::Members => value.serialize(&mut serde_json::Serializer::new(&mut *out)),
        Style::Words => value.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, escape::OneLine)),
    };
    if let Err(error) = written
        && !out.is_over()
    {
        // The value's own `Serialize` gave up halfway: what it wrote is no JSON, what it said is.
        out.truncate(start);
        escape::display(format_args!("[not serializable: {error}]"), out);
    }
}

fn is_word(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}
