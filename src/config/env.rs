//! A configuration from the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Deserialize, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::Config;
use super::file::Keys;
use super::security_words::truth;
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
    /// `KAFKA_LOG_CLIENT_OPTIONS` is `key=value,key=value`, or a JSON object where a value has a comma. `KAFKA_LOG_TLS=true`
    /// encrypts with the system's roots; `KAFKA_LOG_TLS_CA_FILE` and its siblings encrypt too. A variable that is empty
    /// counts as not set.
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
    let mut tables: BTreeMap<&str, Vec<(&str, Value)>> = BTreeMap::new();
    for (name, value) in all {
        // A name that is not text is none of ours.
        let Some(name) = name.to_str() else { continue };
        let Some(key) = name.strip_prefix(PREFIX) else { continue };
        if OF_OUR_TESTS.iter().any(|prefix| name.starts_with(prefix)) || value.is_empty() {
            continue;
        }
        let refuse = |problem: &str| LoggerConfigError::in_variable(name.to_owned(), problem);
        let Some(key) = table::keys().find(|known| table::in_environment(known) == key) else {
            return Err(refuse("is no option: the table of options in features.md has the names"));
        };
        let text = value.into_string().map_err(|_| refuse("is not UTF-8"))?;
        let value = Value { name: name.to_owned(), given: Given::Text(text) };
        match key.split_once('.') {
            None => ours.push((key, value)),
            Some((table, key)) => tables.entry(table).or_default().push((key, value)),
        }
    }
    for (table, values) in tables {
        if let Some(place) = ours.iter().position(|(key, _)| *key == table) {
            let (_, switch) = ours.swap_remove(place);
            if !switch.truth().unwrap_or(false) {
                let problem = format!("must be true, or not set, beside {}", list(&values));
                return Err(LoggerConfigError::in_variable(switch.name, problem));
            }
        }
        let name = format!("{PREFIX}{}_*", table.to_ascii_uppercase());
        ours.push((table, Value { name, given: Given::Table(values) }));
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

fn list(values: &[(&str, Value)]) -> String {
    let names: Vec<&str> = values.iter().map(|(_, value)| value.name.as_str()).collect();
    names.join(", ")
}

/// A variable, or several that make a table; it becomes what is asked for.
struct Value {
    name: String,
    given: Given,
}

enum Given {
    Text(String),
    Table(Vec<(&'static str, Value)>),
}

impl Value {
    fn text(&self) -> &str {
        match &self.given {
            Given::Text(text) => text,
            Given::Table(_) => "",
        }
    }

    fn truth(&self) -> Option<bool> {
        truth(self.text())
    }

    /// Reads the whole text as one value.
    fn parse<T: std::str::FromStr>(&self, expected: &str) -> Result<T, Unread> {
        let unread = |_| named(&self.name, Unread::custom(format_args!("expected {expected}")));
        self.text().trim().parse().map_err(unread)
    }
}

/// An error in a table has the name of the one variable that it is about.
fn named(name: &str, unread: Unread) -> Unread {
    Unread { variable: unread.variable.or_else(|| Some(name.to_owned())), ..unread }
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
        match self.given {
            Given::Text(text) => visitor.visit_str(&text),
            Given::Table(values) => visitor.visit_map(MapDeserializer::new(values.into_iter())),
        }
        .map_err(|unread| named(&self.name, unread))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_some(self)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        match self.truth() {
            Some(value) => visitor.visit_bool(value),
            None => Err(named(&self.name, Unread::custom("expected true or false"))),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unread> {
        visitor.visit_u64(self.parse("a whole number")?).map_err(|unread| named(&self.name, unread))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Unread> {
        let part = |part: &str| Value { name: self.name.clone(), given: Given::Text(part.to_owned()) };
        let parts: Vec<Value> = self.text().split(',').map(part).collect();
        if parts.len() != length {
            let problem = format_args!("expected {length} values with commas between");
            return Err(named(&self.name, Unread::custom(problem)));
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
