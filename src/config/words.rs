//! How values are written in files and in the environment.
//!
//! No error here repeats a value: it could be a secret that stands in the wrong place.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use log::{Level, LevelFilter};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{
    Acks, ClientOptions, Compression, Fsync, IntoBootstrapServers, Overflow, Oversize, SpoolMode, Startup,
    SyncProducer, Transport,
};

/// A value that is one word, in any case. `{"key": value}` is the word `key=value`.
pub(super) trait FromWord: Sized {
    const EXPECTED: &'static str;

    /// The value of a word in lower case.
    fn from_word(word: &str) -> Option<Self>;
}

impl FromWord for Transport {
    const EXPECTED: &'static str = "\"auto\", \"async\" or \"sync\"";

    fn from_word(word: &str) -> Option<Transport> {
        Some(match word {
            "auto" => Transport::Auto,
            "async" => Transport::Async,
            "sync" => Transport::Sync,
            _ => return None,
        })
    }
}

impl FromWord for SyncProducer {
    const EXPECTED: &'static str = "\"auto\", \"kafka\" or \"wire\"";

    fn from_word(word: &str) -> Option<SyncProducer> {
        Some(match word {
            "auto" => SyncProducer::Auto,
            "kafka" => SyncProducer::Kafka,
            "wire" => SyncProducer::Wire,
            _ => return None,
        })
    }
}

impl FromWord for LevelFilter {
    const EXPECTED: &'static str =
        "\"off\", \"trace\", \"debug\", \"info\", \"warn\", \"warning\", \"error\" or \"critical\"";

    fn from_word(word: &str) -> Option<LevelFilter> {
        Some(match word {
            "off" => LevelFilter::Off,
            "trace" => LevelFilter::Trace,
            "debug" => LevelFilter::Debug,
            "info" => LevelFilter::Info,
            "warn" | "warning" => LevelFilter::Warn,
            "error" | "critical" => LevelFilter::Error,
            _ => return None,
        })
    }
}

impl FromWord for Level {
    const EXPECTED: &'static str = "a level, but \"off\"";

    fn from_word(word: &str) -> Option<Level> {
        LevelFilter::from_word(word)?.to_level()
    }
}

impl FromWord for Acks {
    const EXPECTED: &'static str = "\"none\", \"leader\", \"all\", 0, 1 or -1";

    fn from_word(word: &str) -> Option<Acks> {
        Some(match word {
            "none" | "0" => Acks::None,
            "leader" | "1" => Acks::Leader,
            "all" | "-1" => Acks::All,
            _ => return None,
        })
    }
}

impl FromWord for Compression {
    const EXPECTED: &'static str = "\"none\", \"gzip\", \"snappy\", \"lz4\" or \"zstd\"";

    fn from_word(word: &str) -> Option<Compression> {
        Some(match word {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => return None,
        })
    }
}

impl FromWord for Overflow {
    const EXPECTED: &'static str = "\"drop_newest\", \"drop_oldest\", \"block\", {\"drop_below\": \"warn\"}, \
         {\"block_for_ms\": 100}, or these as \"drop_below=warn\", \"block_for_ms=100\"";

    fn from_word(word: &str) -> Option<Overflow> {
        Some(match word.split_once('=') {
            Some(("drop_below", level)) => Overflow::DropBelow(Level::from_word(level)?),
            Some(("block_for_ms", millis)) => Overflow::BlockFor(Duration::from_millis(millis.parse().ok()?)),
            None if word == "drop_newest" => Overflow::DropNewest,
            None if word == "drop_oldest" => Overflow::DropOldest,
            None if word == "block" => Overflow::Block,
            _ => return None,
        })
    }
}

impl FromWord for Oversize {
    const EXPECTED: &'static str = "\"truncate\" or \"drop\"";

    fn from_word(word: &str) -> Option<Oversize> {
        Some(match word {
            "truncate" => Oversize::Truncate,
            "drop" => Oversize::Drop,
            _ => return None,
        })
    }
}

impl FromWord for Startup {
    const EXPECTED: &'static str = "\"background\", {\"check_ms\": 5000} or this as \"check_ms=5000\"";

    fn from_word(word: &str) -> Option<Startup> {
        Some(match word.split_once('=') {
            Some(("check_ms", millis)) => Startup::Check(Duration::from_millis(millis.parse().ok()?)),
            None if word == "background" => Startup::Background,
            _ => return None,
        })
    }
}

impl FromWord for Fsync {
    const EXPECTED: &'static str =
        "\"never\", \"every_batch\", {\"interval_ms\": 1000} or this as \"interval_ms=1000\"";

    fn from_word(word: &str) -> Option<Fsync> {
        Some(match word.split_once('=') {
            Some(("interval_ms", millis)) => Fsync::Interval(Duration::from_millis(millis.parse().ok()?)),
            None if word == "never" => Fsync::Never,
            None if word == "every_batch" => Fsync::EveryBatch,
            _ => return None,
        })
    }
}

impl FromWord for SpoolMode {
    const EXPECTED: &'static str = "\"overflow\" or \"write_ahead\"";

    fn from_word(word: &str) -> Option<SpoolMode> {
        Some(match word {
            "overflow" => SpoolMode::Overflow,
            "write_ahead" => SpoolMode::WriteAhead,
            _ => return None,
        })
    }
}

/// The `type` of the Python sink's dictionary.
pub(super) struct Kafka;

impl FromWord for Kafka {
    const EXPECTED: &'static str = "\"kafka\"";

    fn from_word(word: &str) -> Option<Kafka> {
        (word == "kafka").then_some(Kafka)
    }
}

/// Reads a [`FromWord`].
pub(super) struct Word<T>(pub(super) T);

impl<'de, T: FromWord> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Word<T>, D::Error> {
        deserializer.deserialize_any(WordVisitor(PhantomData))
    }
}

struct WordVisitor<T>(PhantomData<T>);

impl<'de, T: FromWord> Visitor<'de> for WordVisitor<T> {
    type Value = Word<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Word<T>, E> {
        let value = T::from_word(&word.trim().to_ascii_lowercase());
        value.map(Word).ok_or_else(|| E::custom(format_args!("expected {}", T::EXPECTED)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Word<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Word<T>, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Word<T>, A::Error> {
        match (map.next_entry::<String, Scalar>()?, map.next_key::<String>()?) {
            (Some((key, Scalar(value))), None) => self.visit_str(&format!("{key}={value}")),
            _ => self.visit_str(""),
        }
    }
}

/// A text, number or truth value, as text.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Scalar, D::Error> {
        struct ScalarVisitor;

        impl Visitor<'_> for ScalarVisitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.to_owned()))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }

        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// A list, or one text with commas.
pub(super) struct Servers(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Servers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Servers, D::Error> {
        struct ServersVisitor;

        impl<'de> Visitor<'de> for ServersVisitor {
            type Value = Servers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of \"host:port\", or one text with commas")
            }

            fn visit_str<E: Error>(self, servers: &str) -> Result<Servers, E> {
                Ok(Servers(servers.into_bootstrap_servers()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Servers, A::Error> {
                let mut servers: Vec<String> = Vec::new();
                while let Some(server) = list.next_element()? {
                    servers.push(server);
                }
                Ok(Servers(servers.into_bootstrap_servers()))
            }
        }

        deserializer.deserialize_any(ServersVisitor)
    }
}

impl<'de> Deserialize<'de> for ClientOptions {
    /// A table; or a text, either `key=value,key=value` or the table as JSON.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ClientOptions, D::Error> {
        deserializer.deserialize_any(OptionsVisitor)
    }
}

struct OptionsVisitor;

impl<'de> Visitor<'de> for OptionsVisitor {
    type Value = ClientOptions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of librdkafka's properties, \"key=value,key=value\", or a JSON object in a text")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ClientOptions, A::Error> {
        let mut options = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            // The deserializer's own words could repeat the value.
            let Ok(Scalar(value)) = map.next_value() else {
                return Err(A::Error::custom(format_args!("`{key}` has to be a text, a number, true or false")));
            };
            options.push((key, value));
        }
        Ok(ClientOptions(options))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ClientOptions, E> {
        let wrong = || E::custom(format_args!("expected {}", &self as &dyn serde::de::Expected));
        if text.trim_start().starts_with('{') {
            return serde_json::from_str(text).map_err(|_| wrong());
        }
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=')?;
            // A piece of a value that has a comma is no key: it may be of a secret.
            let is_key = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_');
            let is_known = |key: &str| key.contains('.') || matches!(key, "acks" | "retries" | "partitioner" | "debug");
            let key = Some(key.trim()).filter(|key| is_known(key) && key.chars().all(is_key))?;
            Some((key.to_owned(), value.to_owned()))
        };
        text.split(',').map(pair).collect::<Option<_>>().map(ClientOptions).ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: FromWord>(json: &str) -> Result<T, String> {
        serde_json::from_str(json).map(|Word(value)| value).map_err(|error| error.to_string())
    }

    #[test]
    fn levels_have_the_names_of_log_and_of_python_in_any_case() {
        for (name, level) in [
            ("trace", LevelFilter::Trace),
            ("DEBUG", LevelFilter::Debug),
            ("Info", LevelFilter::Info),
            ("WARN", LevelFilter::Warn),
            ("WARNING", LevelFilter::Warn),
            ("error", LevelFilter::Error),
            ("CRITICAL", LevelFilter::Error),
            ("off", LevelFilter::Off),
        ] {
            assert_eq!(read(&format!("{name:?}")), Ok(level));
        }
        assert!(read::<LevelFilter>("\"loud\"").unwrap_err().contains("\"critical\""));
    }

    #[test]
    fn acks_are_words_or_kafkas_numbers() {
        for (acks, forms) in [
            (Acks::None, ["\"none\"", "0", "\"0\""]),
            (Acks::Leader, ["\"LEADER\"", "1", "\"1\""]),
            (Acks::All, ["\"all\"", "-1", "\"-1\""]),
        ] {
            assert_eq!(forms.map(read::<Acks>), [Ok(acks), Ok(acks), Ok(acks)]);
        }
        assert!(read::<Acks>("2").is_err());
    }

    #[test]
    fn a_choice_with_a_value_is_a_table_of_one_key_or_a_text() {
        let below = Overflow::DropBelow(Level::Warn);
        assert_eq!(read(r#"{"drop_below": "Warning"}"#), Ok(below));
        assert_eq!(read(r#""drop_below=warn""#), Ok(below));
        let block_for = Overflow::BlockFor(Duration::from_millis(100));
        assert_eq!(read(r#"{"block_for_ms": 100}"#), Ok(block_for));
        assert_eq!(read(r#""block_for_ms=100""#), Ok(block_for));
        assert_eq!(read(r#"{"check_ms": 5000}"#), Ok(Startup::Check(Duration::from_secs(5))));
        for wrong in [r#"{"drop_below": "off"}"#, r#"{"block_for_ms": 1, "x": 2}"#, "{}", "\"block=\"", "true", "[]"] {
            assert!(read::<Overflow>(wrong).unwrap_err().contains("drop_newest"), "{wrong}");
        }
    }

    #[test]
    fn client_options_are_a_table_or_a_text_and_no_error_repeats_a_value() {
        let read = |json: &str| serde_json::from_str::<ClientOptions>(json).map(|options| options.0);
        let expected = [("a.b", "1"), ("c.d", "x=y")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        for form in [r#"{"a.b": 1, "c.d": "x=y"}"#, r#""a.b=1, c.d=x=y""#, r#""{\"a.b\": 1, \"c.d\": \"x=y\"}""#] {
            assert_eq!(read(form).unwrap(), expected, "{form}");
        }
        for wrong in [
            r#""hunter2""#,
            r#""a.b=1,hunter2""#,
            r#""sasl.password=ab,hunter2=cd""#,
            r#""{\"a\": hunter2}""#,
            r#"{"a": ["hunter2"]}"#,
        ] {
            assert!(!read(wrong).unwrap_err().to_string().contains("hunter2"), "{wrong}");
        }
    }
}
