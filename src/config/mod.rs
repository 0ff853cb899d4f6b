//! What the user can decide.

mod delivery;
mod env;
mod fallback;
mod file;
mod options;
mod security;
mod security_words;
mod servers;
mod spool;
mod table;
mod validate;
mod words;

use std::fmt;
use std::sync::Arc;

use log::LevelFilter;

pub(crate) use self::delivery::{ClientOptions, DeliverySettings};
pub use self::fallback::Fallback;
pub use self::options::{Acks, Compression, Overflow, Oversize, Startup, SyncProducer, Transport};
pub(crate) use self::security::{Credentials, Mechanism, TokenCallback, without_secret};
pub use self::security::{OauthToken, Sasl, Tls};
pub use self::servers::IntoBootstrapServers;
pub use self::spool::{Fsync, Spool, SpoolMode};
pub(crate) use self::validate::millis as check_millis;
use crate::delivery::{Callback, DeliveryError};
use crate::error::LoggerConfigError;

/// Everything a logger needs to know, with bare setters that take and return it.
///
/// An option that was set and that the client in use cannot honour is refused by [`build`](Config::build) and
/// [`init`](crate::init), by its name; a default bends to the client. A configuration can also come from a file
/// ([`from_path`](Config::from_path)), from the environment ([`from_env`](Config::from_env)) or, by
/// `serde::Deserialize`, from any other source; keys that do not exist are refused by name.
///
#[doc = include_str!("options.md")]
///
/// ```no_run
/// # fn main() -> Result<(), kafka_log::LoggerError> {
/// kafka_log::init(
///     kafka_log::Config::new(["kafka-1:9092", "kafka-2:9092"], "app.logs")
///         .logger_name("api")
///         .level(log::LevelFilter::Debug),
/// )?;
/// log::info!(user_id = "u_19"; "user authenticated");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    pub(crate) bootstrap_servers: Vec<String>,
    pub(crate) topic: String,
    pub(crate) transport: Transport,
    pub(crate) sync_producer: SyncProducer,
    pub(crate) logger_name: Option<String>,
    pub(crate) level: LevelFilter,
    pub(crate) use_json: bool,
    pub(crate) queue_records: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) startup: Startup,
    pub(crate) overflow: Overflow,
    /// None: the default, or all that the queue takes where that is less.
    pub(crate) max_record_bytes: Option<usize>,
    pub(crate) oversize: Oversize,
    pub(crate) fallback: Fallback,
    pub(crate) on_delivery_error: Option<OnDeliveryError>,
    pub(crate) spool: Option<Spool>,
    pub(crate) delivery: DeliverySettings,
}

impl Config {
    /// A configuration for these brokers and this topic, all else at its default.
    ///
    /// Nothing is checked yet: [`build`](Config::build) and [`init`](crate::init) do.
    ///
    /// ```
    /// use kafka_log::Config;
    ///
    /// let a = Config::new("kafka-1:9092,kafka-2:9092", "app.logs");
    /// let b = Config::new(["kafka-1:9092", "kafka-2:9092"], "app.logs");
    /// let c = Config::new(vec![String::from("kafka-1:9092")], "app.logs");
    /// ```
    pub fn new(servers: impl IntoBootstrapServers, topic: impl Into<String>) -> Config {
        Config {
            bootstrap_servers: servers.into_bootstrap_servers(),
            topic: topic.into(),
            transport: Transport::Auto,
            sync_producer: SyncProducer::Auto,
            logger_name: None,
            level: LevelFilter::Info,
            use_json: true,
            queue_records: 100_000,
            queue_bytes: 64 * 1024 * 1024,
            startup: Startup::Background,
            overflow: Overflow::DropNewest,
            max_record_bytes: None,
            oversize: Oversize::Truncate,
            fallback: Fallback::Off,
            on_delivery_error: None,
            spool: None,
            delivery: DeliverySettings::default(),
        }
    }

    /// Chooses the client; see [`Transport`]. Default: [`Transport::Auto`].
    pub fn transport(mut self, transport: Transport) -> Config {
        self.transport = transport;
        self
    }

    /// Chooses the client of `sync`; see [`SyncProducer`]. Default: [`SyncProducer::Auto`].
    ///
    /// `sync` only; with `async` it says nothing.
    pub fn sync_producer(mut self, producer: SyncProducer) -> Config {
        self.sync_producer = producer;
        self
    }

    /// Sets the payload's `"logger"`; the record's target then follows as `"target"`.
    ///
    /// Default: `"logger"` is the record's target, the module path as a rule.
    pub fn logger_name(mut self, name: impl Into<String>) -> Config {
        self.logger_name = Some(name.into());
        self
    }

    /// Takes records of this level and above. Default: `Info`.
    ///
    /// [`init`](crate::init) also makes it `log`'s global maximum.
    pub fn level(mut self, level: LevelFilter) -> Config {
        self.level = level;
        self
    }

    /// JSON (`true`, the default), or one readable text line a record (`false`).
    pub fn use_json(mut self, use_json: bool) -> Config {
        self.use_json = use_json;
        self
    }

    /// Bounds the records that wait and are in flight together. Default: 100,000.
    ///
    /// What comes while the queue is full follows [`overflow`](Config::overflow).
    pub fn queue_records(mut self, records: usize) -> Config {
        self.queue_records = records;
        self
    }

    /// Bounds the payload bytes that wait and are in flight together. Default: 64 MiB.
    ///
    /// It must not be less than a [`max_record_bytes`](Config::max_record_bytes) that was set.
    pub fn queue_bytes(mut self, bytes: usize) -> Config {
        self.queue_bytes = bytes;
        self
    }

    /// What happens to a record that finds the queue full. Default: [`Overflow::DropNewest`].
    ///
    /// Both clients honour it; what is dropped is counted in `dropped.queue_full`.
    pub fn overflow(mut self, overflow: Overflow) -> Config {
        self.overflow = overflow;
        self
    }

    /// The largest payload, in bytes. Default: 1,000,000, or [`queue_bytes`](Config::queue_bytes) where that is less.
    ///
    /// A larger one follows [`oversize`](Config::oversize). Brokers take 1,048,588 bytes by default
    /// (`message.max.bytes`), of which a record takes some for itself. Where a topic takes less (`max.message.bytes`),
    /// a record over that limit is refused by the broker and has failed, alone: set this a hundred bytes below
    /// the topic's limit to have it cut instead. From 512.
    pub fn max_record_bytes(mut self, bytes: usize) -> Config {
        self.max_record_bytes = Some(bytes);
        self
    }

    /// What happens to a record that is larger than [`max_record_bytes`](Config::max_record_bytes). Default:
    /// [`Oversize::Truncate`].
    ///
    /// Either way the payload is never written beyond half as much again: what is left over is counted as it passes,
    /// up to 64 MiB. One whose `logger` and `target` alone are over the limit is dropped in any case.
    pub fn oversize(mut self, oversize: Oversize) -> Config {
        self.oversize = oversize;
        self
    }

    /// Where a record goes that failed or was dropped. Default: [`Fallback::Off`].
    ///
    /// The caller's thread hands it over and does no I/O; of those dropped at the call 8 MiB may wait, of those that had
    /// been taken [`queue_bytes`](Config::queue_bytes). What is beyond is counted in `fallback_missed`, and so is what
    /// cannot be written. The first loss is announced by a notice with the counts by reason, which comes again every 10 s
    /// while there are more, and once more when records arrive again: a payload like the others, with the target
    /// `kafka_log`. `shutdown`, a flush, the drop of the last handle and the end of the process give it up to 1 s to
    /// write what it has; and at the end of the process, what could not be delivered goes to it too.
    ///
    /// ```
    /// let config = kafka_log::Config::new("localhost:9092", "app.logs")
    ///     .fallback(kafka_log::Fallback::File("/var/log/app-lost.jsonl".into()));
    /// ```
    pub fn fallback(mut self, fallback: Fallback) -> Config {
        self.fallback = fallback;
        self
    }

    /// Whether `init` and `build` wait for a broker. Default: [`Startup::Background`].
    pub fn startup(mut self, startup: Startup) -> Config {
        self.startup = startup;
        self
    }

    /// Calls this for each record that was not delivered: failed, or dropped for whatever reason but recursion.
    ///
    /// It runs on a thread of the logger's own, one call at a time, once a record. A slow one stalls nothing: errors
    /// beyond 1,024 waiting ones, and those of records that a client did not give back when it was given up, are counted in
    /// `callbacks_missed`. A panic in it is contained. What it logs through this logger is dropped as recursive.
    /// Each record costs an allocation more with it.
    pub fn on_delivery_error(mut self, callback: impl Fn(&DeliveryError) + Send + Sync + 'static) -> Config {
        self.on_delivery_error = Some(OnDeliveryError(Arc::new(callback)));
        self
    }

    /// Refuses what cannot work, by the option's name.
    pub(crate) fn validate(&self) -> Result<(), LoggerConfigError> {
        validate::bootstrap_servers(&self.bootstrap_servers)?;
        validate::topic(&self.topic)?;
        validate::queue_records(self.queue_records)?;
        validate::queue_bytes(self.queue_bytes)?;
        validate::startup(self.startup)?;
        validate::overflow(self.overflow)?;
        self.spool.as_ref().map_or(Ok(()), validate::spool)?;
        validate::record_bytes(self.max_record_bytes, self.queue_bytes)?;
        validate::security(&self.delivery)?;
        validate::delivery(&self.delivery)
    }
}

impl Config {
    /// The largest payload that is sent.
    pub(crate) fn record_bytes(&self) -> usize {
        self.max_record_bytes.unwrap_or(MAX_RECORD_BYTES).min(self.queue_bytes)
    }
}

/// Below the brokers' default `message.max.bytes`, 1,048,588, with room for what surrounds a record.
const MAX_RECORD_BYTES: usize = 1_000_000;

impl Default for Config {
    /// The Python sink's defaults: the broker at `localhost:9092`, the topic `logs`.
    fn default() -> Config {
        Config::new("localhost:9092", "logs")
    }
}

/// The callback, without a `Debug` form of its own.
#[derive(Clone)]
pub(crate) struct OnDeliveryError(pub(crate) Callback);

impl fmt::Debug for OnDeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a callback")
    }
}
