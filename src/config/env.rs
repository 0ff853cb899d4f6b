//! A configuration from the environment.

use std::ffi::OsString;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserialize, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::Config;
use super::file::Keys;
use super::table;
use crate::error::{LoggerConfigError, LoggerError};

/// What each variable's name begins with.
pub(super) const PREFIX: &str = "KAFKA_LOG_";

/// Variables with that prefix that are no options: this crate's own tests speak to their child processes by them.
const OF_OUR_TESTS: [&str; 2] = ["KAFKA_LOG_CHILD", "KAFKA_LOG_REQUIRE_BROKER"];

impl Config {
    /// Reads a configuration from environment variables: `KAFKA_LOG_` and the key in upper case, for each key of the
    /// table [above](Config).
    ///
    /// Lists have commas: `KAFKA_LOG_BOOTSTRAP_SERVERS=kafka-1:9092,kafka-2:9092`, `KAFKA_LOG_RETRY_BACKOFF_MS=100,1000`.
    /// Choices with a value are `KAFKA_LOG_OVERFLOW=block_for_ms=100` and `KAFKA_LOG_STARTUP=check_ms=5000`.
    /// `KAFKA_LOG_CLIENT_OPTIONS` is `key=value,key=value`, or a JSON object where a value has a comma. A variable that
    /// is empty counts as not set.
    ///
    /// # Errors
    ///
    /// [`LoggerError::Config`] where `KAFKA_LOG_BOOTSTRAP_SERVERS` is not set, for a value that cannot be read, and for a
    /// variable that begins with `KAFKA_LOG_` and is no option, each by its name; values are not repeated. The options
    /// are checked by [`build`](Config::build) and [`init`](crate::init), as those of any configuration.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), kafka_log::LoggerError> {
    /// kafka_log::init(kafka_log::Config::from_env()?.logger_name("api"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_env() -> Result<Config, LoggerError> {
        Ok(from_variables(std::env::vars_os())?)
    }
}

fn from_variables(all: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Config, LoggerConfigError> {
    let mut ours = Vec::new();
    for (name, value) in all {
        // A name that is not text is none of ours.
        let Some(name) = name.to_str() else { continue };
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        if OF_OUR_TESTS.iter().any(|prefix| name.starts_with(prefix)) || value.is_empty() {
            continue;
        }
        let refuse = |problem: &str| LoggerConfigError::in_variable(name.to_owned(), problem);
        let Some(key) = table::keys().find(|known| known.to_ascii_uppercase() == key) else {
            return Err(refuse("is no option: the table of options in features.md has the names"));
        };
        let text = value.into_string().map_err(|_| refuse("is not UTF-8"))?;
        ours.push((key, Value { name: name.to_owned(), text }));
    }
    let keys = Keys::deserialize(MapDeserializer::new(ours.into_iter())).map_err(|unread| match unread.variable {
        Some(name) => LoggerConfigError::in_variable(name, unread.problem),
        None => LoggerConfigError::in_variable(format!("{PREFIX}*"), unread.problem),
    })?;
    if keys.bootstrap_servers.is_none() {
        let problem = "is not set: give at least one broker as host:9092, several with commas";
        return Err(LoggerConfigError::in_variable(format!("{PREFIX}BOOTSTRAP_SERVERS"), problem));
    }
    keys.into_config().map_err(|problem| LoggerConfigError::in_variable(format!("{PREFIX}ASYNC"), problem))
}

/// A variable; it becomes what is asked for.
struct Value {
    name: String,
    text: String,
}

impl Value {
    /// Reads the whole text as one value.
    fn parse<T: std::str::FromStr>(&self, expected: &str) -> Result<T, Unread> {
        self.text.trim().parse().map_err(|_| self.named(Unread::custom(format_args!("expected {expected}"))))
    }

    fn named(&self, unread: Unread) -> Unread {
        Unread { variable: Some(self.name.clone()), ..unread }
    }
}

impl<'de> IntoDeserializer<'de, Unread> for Value {
    type Deserializer = Value;

    fn into_deserializer(self) -> Value {
        self
    }
}

impl<'de> Deserializer<'de> for Value {
    type Error = Unread;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_str(&self.text).map_err(|unread| self.named(unread))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_some(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        match self.text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => visitor.visit_bool(true),
            "false" | "0" => visitor.visit_bool(false),
            _ => Err(self.named(Unread::custom("expected true or false"))),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_u64(self.parse("a whole number")?).map_err(|unread| self.named(unread))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Unread> {
        let parts: Vec<Value> =
            self.text.split(',').map(|part| Value { name: self.name.clone(), text: part.to_owned() }).collect();
        if parts.len() != length {
            return Err(self.named(Unread::custom(format_args!("expected {length} values with commas between"))));
        }
        visitor.visit_seq(SeqDeserializer::new(parts.into_iter()))
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq
        tuple_struct map struct enum identifier ignored_any
    }
}

#[derive(Debug)]
struct Unread {
    variable: Option<String>,
    problem: String,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for Unread {}

impl serde::de::Error for Unread {
    fn custom<T: fmt::Display>(problem: T) -> Unread {
        Unread { variable: None, problem: problem.to_string() }
    }
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
