//! Where records go that do not arrive.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use log::Log;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

/// Where a record goes that failed or was dropped.
///
/// It is written on a thread of the logger's own, never on the caller's. Left out are the records that a thread of the
/// logger's own emitted, and those whose formatting panicked, which have no payload. What the fallback cannot take is
/// counted in `fallback_missed`.
#[derive(Clone)]
#[non_exhaustive]
pub enum Fallback {
    /// Nowhere: it is counted.
    Off,
    /// To standard error, one line a record. One that is closed, or that nobody reads, harms nothing.
    Stderr,
    /// To this file, one line a record, appended. It is made if it is not there, its directory is not; it is opened when
    /// the logger is built, and again after an error.
    File(PathBuf),
    /// To this logger, as a record of the level and target it was logged with, whose text is the payload.
    ///
    /// The thread that calls it is one of ours: what goes from there to a `KafkaLogger`, this one or another, is dropped
    /// as recursive. A panic in it is contained.
    Logger(Arc<dyn Log>),
}

impl Fallback {
    pub(crate) fn is_on(&self) -> bool {
        !matches!(self, Fallback::Off)
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fallback::Off => f.write_str("Off"),
            Fallback::Stderr => f.write_str("Stderr"),
            Fallback::File(path) => f.debug_tuple("File").field(path).finish(),
            Fallback::Logger(_) => f.write_str("Logger(a logger)"),
        }
    }
}

/// In files and in the environment: `"off"`, `"stderr"`, `{ file = "path" }` or `"file=path"`.
pub(super) struct FallbackKey(pub(super) Fallback);

const EXPECTED: &str =
    "\"off\", \"stderr\", {\"file\": \"/var/log/lost.jsonl\"} or this as \"file=/var/log/lost.jsonl\"";

impl<'de> Deserialize<'de> for FallbackKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FallbackKey, D::Error> {
        deserializer.deserialize_any(FallbackVisitor)
    }
}

struct FallbackVisitor;

impl<'de> Visitor<'de> for FallbackVisitor {
    type Value = FallbackKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<FallbackKey, E> {
        let is = |word: &str, other: &str| word.trim().eq_ignore_ascii_case(other);
        match text.split_once('=') {
            // A path is taken as it is.
            Some((word, path)) if is(word, "file") => Ok(FallbackKey(Fallback::File(path.into()))),
            None if is(text, "off") => Ok(FallbackKey(Fallback::Off)),
            None if is(text, "stderr") => Ok(FallbackKey(Fallback::Stderr)),
            _ => Err(E::custom(format_args!("expected {EXPECTED}"))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FallbackKey, A::Error> {
        let wrong = || A::Error::custom(format_args!("expected {EXPECTED}"));
        // The deserializer's own words could repeat the value.
        let (key, path) = map.next_entry::<String, String>().map_err(|_| wrong())?.ok_or_else(wrong)?;
        match map.next_key::<String>() {
            Ok(None) if key.eq_ignore_ascii_case("file") => Ok(FallbackKey(Fallback::File(path.into()))),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<String, String> {
        let read = serde_json::from_str(json).map(|FallbackKey(fallback)| format!("{fallback:?}"));
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn a_fallback_is_a_word_or_a_file() {
        assert_eq!(read("\"OFF\"").as_deref(), Ok("Off"));
        assert_eq!(read("\"stderr\"").as_deref(), Ok("Stderr"));
        for form in [r#"{"file": "/var/Log/a=b"}"#, r#""file=/var/Log/a=b""#] {
            assert_eq!(read(form).as_deref(), Ok(r#"File("/var/Log/a=b")"#));
        }
        for wrong in
            ["\"stdout\"", "\"hunter2=x\"", r#"{"file": ["hunter2"]}"#, r#"{"file": "a", "b": "c"}"#, "1", "{}"]
        {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("stderr") && !error.contains("hunter2"), "{wrong}: {error}");
        }
    }
}
