//! A configuration that comes from elsewhere: its keys, and files that hold it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use log::LevelFilter;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};

use super::fallback::FallbackKey;
use super::security_words::{SaslKey, SpoolKey, TlsKey};
use super::words::{Kafka, Servers, Word};
use super::{Acks, ClientOptions, Compression, Config, Overflow, Oversize, Startup, SyncProducer, Transport};
use crate::error::{LoggerConfigError, LoggerError};

impl Config {
    /// Reads a configuration from a file: TOML or JSON, by its extension.
    ///
    /// The keys are those of the table [above](Config); what is missing has its default, the servers
    /// `localhost:9092` and the topic `logs` included. The dictionary of the Python sink is valid as it is.
    ///
    /// # Errors
    ///
    /// [`LoggerError::Config`] names the file, and the line where there is one; values are not repeated. The options
    /// are checked by [`build`](Config::build) and [`init`](crate::init), as those of any configuration.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), kafka_log::LoggerError> {
    /// kafka_log::init(kafka_log::Config::from_path("logging.toml")?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_path(path: impl AsRef<Path>) -> Result<Config, LoggerError> {
        let path = path.as_ref();
        let refuse = |line: Option<usize>, problem: &str| {
            let line = line.map_or(String::new(), |line| format!(", line {line}"));
            LoggerConfigError::in_file(format!("file \"{}\"{line}", path.display()), problem)
        };
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        let read: fn(&str) -> Result<Config, Unread> = match extension.as_deref() {
            Some("toml") => from_toml,
            Some("json") => from_json,
            _ => return Err(refuse(None, "has to end in .toml or .json, which says how it is read").into()),
        };
        let text = std::fs::read_to_string(path).map_err(|error| refuse(None, &format!("cannot be read: {error}")))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        read(text).map_err(|unread| refuse(unread.line, &unread.problem).into())
    }
}

struct Unread {
    line: Option<usize>,
    problem: String,
}

fn from_toml(text: &str) -> Result<Config, Unread> {
    // Its `Display` would show the line itself.
    toml::from_str(text).map_err(|error| Unread {
        line: error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1),
        problem: without_value(error.message()),
    })
}

fn from_json(text: &str) -> Result<Config, Unread> {
    serde_json::from_str(text).map_err(|error| {
        let problem = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        Unread { line: Some(error.line()), problem: without_value(problem.strip_suffix(&place).unwrap_or(&problem)) }
    })
}

/// serde repeats a value of the wrong kind, which may be a secret in the wrong place; what was expected is enough.
fn without_value(problem: &str) -> String {
    match problem.rsplit_once(", expected ") {
        Some((found, expected)) if found.contains("invalid type: ") || found.contains("invalid value: ") => {
            format!("a value of the wrong kind: expected {expected}")
        }
        _ => problem.to_owned(),
    }
}

/// The keys are the setters' names, those of the Python sink among them; unknown ones are refused by name. Options
/// that only code can give, such as callbacks, are not keys.
impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
        deserializer.deserialize_map(ConfigVisitor)
    }
}

/// Takes tables alone: what `derive` makes takes lists too, in the order of the fields.
struct ConfigVisitor;

impl<'de> Visitor<'de> for ConfigVisitor {
    type Value = Config;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of options")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Config, A::Error> {
        Keys::deserialize(MapAccessDeserializer::new(map))?.into_config().map_err(A::Error::custom)
    }
}

/// Every key there is.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Keys {
    #[serde(rename = "type")]
    _type: Option<Word<Kafka>>,
    pub(super) bootstrap_servers: Option<Servers>,
    topic: Option<String>,
    transport: Option<Word<Transport>>,
    sync_producer: Option<Word<SyncProducer>>,
    /// The Python sink's form of `transport`.
    r#async: Option<bool>,
    logger_name: Option<String>,
    level: Option<Word<LevelFilter>>,
    use_json: Option<bool>,
    client_id: Option<String>,
    acks: Option<Word<Acks>>,
    idempotence: Option<bool>,
    compression: Option<Word<Compression>>,
    linger_ms: Option<u64>,
    batch_bytes: Option<usize>,
    delivery_timeout_ms: Option<u64>,
    connect_timeout_ms: Option<u64>,
    request_timeout_ms: Option<u64>,
    retry_backoff_ms: Option<(u64, u64)>,
    queue_records: Option<usize>,
    queue_bytes: Option<usize>,
    overflow: Option<Word<Overflow>>,
    max_record_bytes: Option<usize>,
    oversize: Option<Word<Oversize>>,
    fallback: Option<FallbackKey>,
    startup: Option<Word<Startup>>,
    tls: Option<TlsKey>,
    sasl: Option<SaslKey>,
    spool: Option<SpoolKey>,
    client_options: Option<ClientOptions>,
}

impl Keys {
    pub(super) fn into_config(self) -> Result<Config, &'static str> {
        let transport = match (self.transport, self.r#async) {
            (Some(_), Some(_)) => return Err("`async` and `transport` say the same: give one of them"),
            (transport, None) => transport.map(|Word(transport)| transport),
            (None, Some(true)) => Some(Transport::Async),
            (None, Some(false)) => Some(Transport::Sync),
        };
        let mut config = Config::default();
        if let Some(Servers(servers)) = self.bootstrap_servers {
            config.bootstrap_servers = servers;
        }
        if let Some(topic) = self.topic {
            config.topic = topic;
        }
        let config = given(config, transport, Config::transport);
        let config = given(config, self.sync_producer, |config, Word(producer)| config.sync_producer(producer));
        let config = given(config, self.logger_name, Config::logger_name);
        let config = given(config, self.level, |config, Word(level)| config.level(level));
        let config = given(config, self.use_json, Config::use_json);
        let config = given(config, self.client_id, Config::client_id);
        let config = given(config, self.acks, |config, Word(acks)| config.acks(acks));
        let config = given(config, self.idempotence, Config::idempotence);
        let config = given(config, self.compression, |config, Word(compression)| config.compression(compression));
        let config = given(config, millis(self.linger_ms), Config::linger);
        let config = given(config, self.batch_bytes, Config::batch_bytes);
        let config = given(config, millis(self.delivery_timeout_ms), Config::delivery_timeout);
        let config = given(config, millis(self.connect_timeout_ms), Config::connect_timeout);
        let config = given(config, millis(self.request_timeout_ms), Config::request_timeout);
        let config = given(config, self.retry_backoff_ms, |config, (min, max)| {
            config.retry_backoff(Duration::from_millis(min), Duration::from_millis(max))
        });
        let config = given(config, self.queue_records, Config::queue_records);
        let config = given(config, self.queue_bytes, Config::queue_bytes);
        let config = given(config, self.overflow, |config, Word(overflow)| config.overflow(overflow));
        let config = given(config, self.max_record_bytes, Config::max_record_bytes);
        let config = given(config, self.oversize, |config, Word(oversize)| config.oversize(oversize));
        let config = given(config, self.fallback, |config, FallbackKey(fallback)| config.fallback(fallback));
        let config = given(config, self.startup, |config, Word(startup)| config.startup(startup));
        let config = given(config, self.tls.and_then(|TlsKey(tls)| tls), Config::tls);
        let config = given(config, self.sasl, |config, SaslKey(sasl)| config.sasl(sasl));
        let config = given(config, self.spool, |config, SpoolKey(spool)| config.spool(spool));
        let options = self.client_options.unwrap_or_default().0;
        Ok(options.into_iter().fold(config, |config, (key, value)| config.client_option(key, value)))
    }
}

fn given<T>(config: Config, value: Option<T>, set: impl FnOnce(Config, T) -> Config) -> Config {
    match value {
        Some(value) => set(config, value),
        None => config,
    }
}

fn millis(millis: Option<u64>) -> Option<Duration> {
    millis.map(Duration::from_millis)
}

#[cfg(test)]
#[path = "file_tests.rs"]
pub(in crate::config) mod tests;
