//! The extra fields of a record: key-value pairs into JSON members.

use log::kv::{self, Key, Source, Value, VisitSource, VisitValue};
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

/// Appends a value as JSON, typed as it was captured.
fn write_value(value: &Value<'_>, limit: usize, out: &mut Vec<u8>) {
    let start = out.len();
    if value.visit(Plain { out, limit }).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Writes the common kinds directly, and everything else through serde.
struct Plain<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
}

impl<'v> VisitValue<'v> for Plain<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), kv::Error> {
        let start = self.out.len();
        let mut serializer = serde_json::Serializer::new(Capped { out: &mut *self.out, limit: self.limit });
        if let Err(error) = Limited(&value, Depth::default()).serialize(&mut serializer) {
            if self.out.len() > self.limit {
                return Ok(());
            }
            // The value's own `Serialize` gave up halfway: what it wrote is no JSON, what it said is.
            self.out.truncate(start);
            escape::display(format_args!("[not serializable: {error}]"), self.limit, self.out);
        }
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), kv::Error> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), kv::Error> {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), kv::Error> {
        if self.out.len().saturating_add(value.len()) > self.limit {
            self.out.resize(self.limit.saturating_add(1), b' ');
        } else {
            escape::string(value, self.out);
        }
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), kv::Error> {
        self.number(&value)
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), kv::Error> {
        self.number(&value)
    }

    fn visit_u128(&mut self, value: u128) -> Result<(), kv::Error> {
        self.number(&value)
    }

    fn visit_i128(&mut self, value: i128) -> Result<(), kv::Error> {
        self.number(&value)
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), kv::Error> {
        // serde_json writes null for what is not finite, which JSON has no number for.
        self.number(&value)
    }

    fn visit_error(&mut self, error: &(dyn std::error::Error + 'static)) -> Result<(), kv::Error> {
        escape::display(format_args!("{error}"), self.limit, self.out);
        Ok(())
    }
}

impl Plain<'_> {
    fn number(&mut self, value: &impl serde::Serialize) -> Result<(), kv::Error> {
        value.serialize(&mut serde_json::Serializer::new(&mut *self.out)).map_err(kv::Error::boxed)
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
