//! The extra fields of a record: key-value pairs into JSON members.

use log::kv::{self, Key, Source, Value, VisitSource};
use serde::Serialize as _;

use super::escape;
use super::nested::{Depth, Limited};

/// Pairs of one record beyond this are left out and counted.
pub(super) const MOST_PAIRS: usize = 1_024;

/// The names that the payload itself uses.
const RESERVED: [&str; 5] = ["timestamp", "level", "logger", "message", "target"];

/// How a pair is set in its surroundings.
#[derive(Clone, Copy)]
pub(super) struct Style {
    before: u8,
    quote: &'static [u8],
    between: u8,
}

/// `,"key":value`
pub(super) const MEMBERS: Style = Style { before: b',', quote: b"\"", between: b':' };

/// ` key=value`
pub(super) const WORDS: Style = Style { before: b' ', quote: b"", between: b'=' };

/// Appends the pairs of `source`, each value as JSON, and counts those left out.
pub(super) fn write(source: &dyn Source, style: Style, limit: usize, out: &mut Vec<u8>) -> u64 {
    let mut pairs =
        Pairs { out, style, limit, first_keys: [(0, 0); INLINE], more_keys: Vec::new(), taken: 0, left_out: 0 };
    // A source that fails has given what it had.
    let _ = source.visit(&mut pairs);
    pairs.left_out
}

/// The keys that are remembered without an allocation.
const INLINE: usize = 16;

struct Pairs<'a> {
    out: &'a mut Vec<u8>,
    style: Style,
    limit: usize,
    /// Where in `out` the keys taken so far stand, escaped: the first ones, then the others.
    first_keys: [(usize, usize); INLINE],
    more_keys: Vec<(usize, usize)>,
    taken: usize,
    left_out: u64,
}

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), kv::Error> {
        if self.out.len() > self.limit {
            return Err(kv::Error::msg("over the limit"));
        }
        if self.taken == MOST_PAIRS || !self.take_key(key.as_str()) {
            self.left_out += 1;
            return Ok(());
        }
        write_value(&value, self.limit, self.out);
        Ok(())
    }
}

impl Pairs<'_> {
    /// Writes a key with what surrounds it, unless it repeats one that is there already.
    fn take_key(&mut self, key: &str) -> bool {
        let before = self.out.len();
        self.out.push(self.style.before);
        self.out.extend_from_slice(self.style.quote);
        let from = self.out.len();
        if RESERVED.contains(&key) {
            self.out.extend_from_slice(b"fields.");
        }
        escape::contents(key, self.out);
        let to = self.out.len();

        let first = &self.first_keys[..self.taken.min(INLINE)];
        if first.iter().chain(&self.more_keys).any(|&(f, t)| self.out[f..t] == self.out[from..to]) {
            self.out.truncate(before);
            return false;
        }
        match self.first_keys.get_mut(self.taken) {
            Some(place) => *place = (from, to),
            None => self.more_keys.push((from, to)),
        }
        self.taken += 1;
        self.out.extend_from_slice(self.style.quote);
        self.out.push(self.style.between);
        true
    }
}

/// Appends a value as JSON, typed as it was captured. What is not finite is null, as serde_json has it.
///
/// Straight through serde: `Value::visit` would walk into a structured value, without a bound, to look for a plain
/// one inside.
fn write_value(value: &Value<'_>, limit: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let mut serializer = serde_json::Serializer::new(Capped { out: &mut *out, limit });
    if let Err(error) = Limited(value, Depth::default()).serialize(&mut serializer)
        && out.len() <= limit
    {
        // The value's own `Serialize` gave up halfway: what it wrote is no JSON, what it said is.
        out.truncate(start);
        escape::display(format_args!("[not serializable: {error}]"), limit, out);
    }
}

/// Refuses to grow beyond one byte over the limit.
struct Capped<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
}

impl std::io::Write for Capped<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.out.len().saturating_add(bytes.len()) > self.limit {
            self.out.resize(self.limit.saturating_add(1), b' ');
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
