//! What the user can decide.

mod servers;
mod validate;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use log::{Level, LevelFilter};

pub use self::servers::IntoBootstrapServers;
use crate::delivery::{Callback, DeliveryError};
use crate::error::LoggerConfigError;

/// Everything a logger needs to know, with bare setters that take and return it.
///
/// | option | type | default | meaning |
/// |---|---|---|---|
/// | bootstrap servers | `host:port`, one or more | `localhost:9092` | where to find the cluster |
/// | topic | name | `logs` | where every record goes |
/// | [`transport`](Config::transport) | [`Transport`] | `Auto` | which client carries the records |
/// | [`logger_name`](Config::logger_name) | text | the record's target | the payload's `"logger"` |
/// | [`level`](Config::level) | `LevelFilter` | `Info` | records below it are not taken |
/// | [`use_json`](Config::use_json) | `bool` | `true` | JSON, or a readable text line |
/// | [`queue_records`](Config::queue_records) | records | 100,000 | bound of what waits and is in flight |
/// | [`queue_bytes`](Config::queue_bytes) | bytes of payload | 64 MiB | the same, in bytes |
/// | [`startup`](Config::startup) | [`Startup`] | `Background` | whether `init` waits for a broker |
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
    pub(crate) logger_name: Option<String>,
    pub(crate) level: LevelFilter,
    pub(crate) use_json: bool,
    pub(crate) queue_records: usize,
    pub(crate) queue_bytes: usize,
    pub(crate) startup: Startup,
    pub(crate) overflow: Overflow,
    pub(crate) on_delivery_error: Option<OnDeliveryError>,
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
            logger_name: None,
            level: LevelFilter::Info,
            use_json: true,
            queue_records: 100_000,
            queue_bytes: 64 * 1024 * 1024,
            startup: Startup::Background,
            overflow: Overflow::DropNewest,
            on_delivery_error: None,
            delivery: DeliverySettings::default(),
        }
    }

    /// Chooses the client; see [`Transport`]. Default: [`Transport::Auto`].
    pub fn transport(mut self, transport: Transport) -> Config {
        self.transport = transport;
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
    /// What comes while the queue is full is dropped and counted in `dropped.queue_full`.
    pub fn queue_records(mut self, records: usize) -> Config {
        self.queue_records = records;
        self
    }

    /// Bounds the payload bytes that wait and are in flight together. Default: 64 MiB.
    ///
    /// A single record larger than this is dropped and counted in `dropped.oversize`.
    pub fn queue_bytes(mut self, bytes: usize) -> Config {
        self.queue_bytes = bytes;
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
    /// beyond 1,024 waiting ones, and those of records given up together with a client, are counted in
    /// `callbacks_missed`. A panic in it is contained. What it logs through this logger is dropped as recursive.
    /// Each record costs an allocation more with it.
    pub fn on_delivery_error(mut self, callback: impl Fn(&DeliveryError) + Send + Sync + 'static) -> Config {
        self.on_delivery_error = Some(OnDeliveryError(Arc::new(callback)));
        self
    }

    /// What happens to a record while the queue is full. Default: [`Overflow::DropNewest`].
    pub fn overflow(mut self, overflow: Overflow) -> Config {
        self.overflow = overflow;
        self
    }

    /// Refuses what cannot work, by the option's name.
    pub(crate) fn validate(&self) -> Result<(), LoggerConfigError> {
        validate::bootstrap_servers(&self.bootstrap_servers)?;
        validate::topic(&self.topic)?;
        validate::queue_records(self.queue_records)?;
        validate::queue_bytes(self.queue_bytes)?;
        validate::startup(self.startup)
    }
}

impl Default for Config {
    /// The Python sink's defaults: the broker at `localhost:9092`, the topic `logs`.
    fn default() -> Config {
        Config::new("localhost:9092", "logs")
    }
}

/// Which client carries the records, among those compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// `Async` if that feature is compiled, else `Sync`.
    Auto,
    /// librdkafka, by the feature `async`.
    Async,
    /// Pure Rust, by the feature `sync`.
    Sync,
}

/// Whether `init` and `build` wait for a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Startup {
    /// Return at once; connect in the background and deliver when a broker appears.
    Background,
    /// Wait up to this long for a broker that knows the topic, and fail if there is none.
    Check(Duration),
}

/// The callback, without a `Debug` form of its own.
#[derive(Clone)]
pub(crate) struct OnDeliveryError(pub(crate) Callback);

impl fmt::Debug for OnDeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a callback")
    }
}

/// What happens to a record while the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The record that comes is dropped. Calls never wait.
    DropNewest,
    /// The oldest records that wait are dropped, a batch at a time, and the one that comes is taken. Calls never wait.
    DropOldest,
    /// Records below this level are dropped once the queue is three quarters full; the others have the rest of it, and
    /// are dropped when that is full too. Calls never wait.
    DropBelow(Level),
    /// The call waits for room, however long. It ends on a shutdown, and where the logger's own thread has died.
    Block,
    /// The call waits for room so long, and then the record that comes is dropped.
    BlockFor(Duration),
}

/// How records are delivered.
#[derive(Clone, Debug)]
pub(crate) struct DeliverySettings {
    /// How long the client may wait for a batch to grow: Kafka's own default since 4.0.
    pub(crate) linger: Duration,
    /// The largest batch, uncompressed: it stays under the brokers' default limit of 1,048,588 bytes.
    pub(crate) batch_bytes: usize,
    /// A record without an acknowledgement by then has failed: the Java client's default.
    pub(crate) delivery_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    /// The first and the longest pause before another attempt.
    pub(crate) retry_backoff: (Duration, Duration),
}

impl Default for DeliverySettings {
    fn default() -> DeliverySettings {
        DeliverySettings {
            linger: Duration::from_millis(5),
            batch_bytes: 1_000_000,
            delivery_timeout: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            retry_backoff: (Duration::from_millis(100), Duration::from_secs(1)),
        }
    }
}
