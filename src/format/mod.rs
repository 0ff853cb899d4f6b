//! A record as bytes: the payload of a Kafka message.
//!
//! Runs on the caller's thread, into a buffer of that thread. Whatever the input, the result is one valid JSON
//! object (or one text line): nothing an argument does can forge a second record or break the first.

pub(crate) mod buffer;
mod cut;
mod escape;
mod fields;
mod json;
mod nested;
mod output;
mod plain;
mod text;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use log::kv::Source;

pub(crate) use self::buffer::Buffer;
use self::output::Output;
use crate::severity::Severity;

/// The formats there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Text,
}

/// What there is to say about one record.
pub(crate) struct Entry<'a> {
    pub(crate) time: EventTime,
    pub(crate) severity: Severity,
    pub(crate) logger_name: Option<&'a str>,
    /// None for the direct methods of a logger, which have no target.
    pub(crate) target: Option<&'a str>,
    pub(crate) message: fmt::Arguments<'a>,
    pub(crate) fields: &'a dyn Source,
}

impl Entry<'_> {
    /// The payload's `"logger"`: the configured name, else the target, else this crate's name.
    fn logger(&self) -> &str {
        self.logger_name.or(self.target).unwrap_or(env!("CARGO_PKG_NAME"))
    }
}

/// What came of formatting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Formatted {
    /// The payload is in the buffer. `fields_left_out` counts the pairs that repeat an earlier one or come after
    /// the last that is allowed.
    Whole { fields_left_out: u64 },
    /// The payload is in the buffer, within the limit and without some of what it should have. It would have had
    /// `original_bytes`, in which what was cut off the message counts without its escapes, and what is far over the limit
    /// not to its end.
    Truncated { fields_left_out: u64, original_bytes: u64 },
    /// What must be there does not fit; the buffer's content is void.
    Oversize,
}

impl Format {
    /// Writes the payload of `entry` into `buffer`, in `limit` bytes at most.
    pub(crate) fn write(self, entry: &Entry<'_>, limit: usize, buffer: &mut Buffer) -> Formatted {
        let mut out = Output::new(buffer, limit);
        match self {
            Format::Json => json::write(entry, limit, &mut out),
            Format::Text => text::write(entry, limit, &mut out),
        }
    }
}

/// When a record was made: microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventTime {
    micros: u64,
}

impl EventTime {
    pub(crate) fn now() -> EventTime {
        EventTime::from(SystemTime::now())
    }

    /// The Kafka record's timestamp: milliseconds since the epoch.
    pub(crate) fn millis(self) -> i64 {
        // At most u64::MAX / 1000, which an i64 holds.
        (self.micros / 1_000) as i64
    }

    /// Microseconds since an earlier time; none if that was later.
    pub(crate) fn micros_since(self, earlier: EventTime) -> Option<u64> {
        self.micros.checked_sub(earlier.micros)
    }

    fn seconds(self) -> u64 {
        self.micros / 1_000_000
    }

    fn subsec_micros(self) -> u32 {
        (self.micros % 1_000_000) as u32
    }
}

impl From<SystemTime> for EventTime {
    /// A clock set before 1970 counts as 1970: Kafka's timestamps cannot say less.
    fn from(time: SystemTime) -> EventTime {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        // `as_micros` would divide 128 bits.
        let micros = since.as_secs().saturating_mul(1_000_000).saturating_add(since.subsec_micros().into());
        EventTime { micros }
    }
}

#[cfg(test)]
mod any_input_tests;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_before_the_epoch_counts_as_the_epoch() {
        let before = UNIX_EPOCH - Duration::from_secs(5);
        assert_eq!(EventTime::from(before), EventTime { micros: 0 });
    }

    #[test]
    fn milliseconds_are_cut_not_rounded() {
        let time = EventTime::from(UNIX_EPOCH + Duration::from_micros(1_999_999));
        assert_eq!((time.millis(), time.seconds(), time.subsec_micros()), (1_999, 1, 999_999));
    }
}
