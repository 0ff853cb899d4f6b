//! What the clients are told about delivery.

use std::fmt;
use std::time::Duration;

use super::{Acks, Compression, Config, Sasl, Tls};

impl Config {
    /// The name under which brokers see this client, in their logs, quotas and metrics. Default: `kafka_log`.
    ///
    /// Both clients honour it.
    pub fn client_id(mut self, id: impl Into<String>) -> Config {
        self.delivery.client_id = id.into();
        self.set("client_id")
    }

    /// Whose acknowledgement makes a record a delivered one. Default: [`Acks::All`].
    ///
    /// Both clients honour it. Less than `All` switches the default of [`idempotence`](Config::idempotence) off.
    pub fn acks(mut self, acks: Acks) -> Config {
        self.delivery.acks = acks;
        self.set("acks")
    }

    /// Whether the broker refuses second copies that a retry makes. Default: `true` where the client has it and
    /// [`acks`](Config::acks) is `All`.
    ///
    /// With the `kafka` crate, or with fewer acknowledgements, `true` is refused. Without it delivery is at least once, and
    /// one request at a time is under way, with `async` to each broker, with `sync` for each partition, which keeps the
    /// order through retries.
    pub fn idempotence(mut self, idempotence: bool) -> Config {
        self.delivery.idempotence = Some(idempotence);
        self.set("idempotence")
    }

    /// How batches are compressed. Default: [`Compression::Lz4`] where the client has it, else `None`.
    ///
    /// Each client has `None`, `Gzip`, `Snappy` and `Lz4`, and `Zstd` with the feature `zstd`; the `kafka` crate has the
    /// first three alone. What the client in use has not is refused.
    pub fn compression(mut self, compression: Compression) -> Config {
        self.delivery.compression = Some(compression);
        self.set("compression")
    }

    /// How long a batch that is not full waits for more records. Default: 5 ms, or half the
    /// [`delivery_timeout`](Config::delivery_timeout) where that is less.
    ///
    /// Both clients honour it, in whole milliseconds; zero does not wait, 900 s is the most. A flush waits for it too. Where
    /// records come one after the other they wait as long once more, 5 ms at most, before the client has them.
    pub fn linger(mut self, linger: Duration) -> Config {
        self.delivery.linger = linger;
        self.set("linger")
    }

    /// The largest batch for one partition, in bytes before compression. Default: 1,000,000, which stays under the
    /// brokers' default limit of 1,048,588.
    ///
    /// Both clients honour it; `sync` takes 64 MiB at most. A record that is larger goes alone.
    pub fn batch_bytes(mut self, bytes: usize) -> Config {
        self.delivery.batch_bytes = bytes;
        self.set("batch_bytes")
    }

    /// A record without an acknowledgement for so long since its call has failed. Default: 120 s.
    ///
    /// Both clients honour it, and retry until then; what `async` has of librdkafka's while no broker is connected may take an
    /// eighth longer. From 1 ms to 24 days. With a [`spool`](Config::spool) the record goes
    /// to the disk instead, once nothing has been acknowledged for so long.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Config {
        self.delivery.delivery_timeout = timeout;
        self.set("delivery_timeout")
    }

    /// How long the set-up of one connection may take. Default: 5 s.
    ///
    /// Both clients honour it; `async` takes 1 s at least, `sync` 1 ms.
    pub fn connect_timeout(mut self, timeout: Duration) -> Config {
        self.delivery.connect_timeout = timeout;
        self.set("connect_timeout")
    }

    /// How long a broker may take to have a batch acknowledged by the replicas. Default: 30 s.
    ///
    /// Both clients honour it; `async` takes 900 s at most. After it the batch is sent again.
    pub fn request_timeout(mut self, timeout: Duration) -> Config {
        self.delivery.request_timeout = timeout;
        self.set("request_timeout")
    }

    /// The first and the longest pause before another attempt. Default: 100 ms and 1 s.
    ///
    /// Both clients honour it, with jitter: `sync` doubles the pause each time, librdkafka grows it its own way. From
    /// 1 ms to 300 s.
    pub fn retry_backoff(mut self, min: Duration, max: Duration) -> Config {
        self.delivery.retry_backoff = (min, max);
        self.set("retry_backoff")
    }

    /// Sets a property of librdkafka by its own name; once for each property.
    ///
    /// `async` only: with `sync` any is refused. Refused too are a property that is set twice, here or by the option
    /// that stands for it, one that would break the logger, and what librdkafka itself refuses. Values appear in no
    /// error and in no `Debug` output.
    ///
    /// ```
    /// let config = kafka_log::Config::new("localhost:9092", "app.logs")
    ///     .client_option("sticky.partitioning.linger.ms", "50")
    ///     .client_option("broker.address.family", "v4");
    /// ```
    pub fn client_option(mut self, key: impl Into<String>, value: impl Into<String>) -> Config {
        self.delivery.client_options.0.push((key.into(), value.into()));
        self
    }

    pub(super) fn set(mut self, option: &'static str) -> Config {
        self.delivery.explicit.push(option);
        self
    }
}

/// How records are delivered.
#[derive(Clone, Debug)]
pub(crate) struct DeliverySettings {
    pub(crate) client_id: String,
    pub(crate) acks: Acks,
    /// None: what the client has.
    pub(crate) idempotence: Option<bool>,
    /// None: what the client has.
    pub(crate) compression: Option<Compression>,
    /// As it was set; [`linger`](DeliverySettings::linger) is what counts.
    pub(crate) linger: Duration,
    /// The largest batch, uncompressed: it stays under the brokers' default limit of 1,048,588 bytes.
    pub(crate) batch_bytes: usize,
    /// A record without an acknowledgement by then has failed: the Java client's default.
    pub(crate) delivery_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    /// The first and the longest pause before another attempt.
    pub(crate) retry_backoff: (Duration, Duration),
    pub(crate) tls: Option<Tls>,
    pub(crate) sasl: Option<Sasl>,
    pub(crate) client_options: ClientOptions,
    /// The options of this struct that were set, by their setters' names.
    explicit: Vec<&'static str>,
}

impl DeliverySettings {
    /// Whether an option was set: then it is honoured or refused, and does not bend.
    pub(crate) fn is_set(&self, option: &str) -> bool {
        self.explicit.contains(&option)
    }

    /// The wait for more records; the default gives way to a short delivery timeout.
    pub(crate) fn linger(&self) -> Duration {
        if self.is_set("linger") { self.linger } else { self.linger.min(self.delivery_timeout / 2) }
    }
}

impl Default for DeliverySettings {
    fn default() -> DeliverySettings {
        DeliverySettings {
            client_id: "kafka_log".into(),
            acks: Acks::All,
            idempotence: None,
            compression: None,
            // Kafka's own default since 4.0.
            linger: Duration::from_millis(5),
            batch_bytes: 1_000_000,
            delivery_timeout: Duration::from_secs(120),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            retry_backoff: (Duration::from_millis(100), Duration::from_secs(1)),
            tls: None,
            sasl: None,
            client_options: ClientOptions::default(),
            explicit: Vec::new(),
        }
    }
}

/// Properties of librdkafka, in the order given. Values may be secrets: `Debug` shows the keys alone.
#[derive(Clone, Default)]
pub(crate) struct ClientOptions(pub(crate) Vec<(String, String)>);

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(key, _)| (key, format_args!("[hidden]")))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_keys_of_client_options_and_no_value() {
        let config = Config::default().client_option("sasl.password", "hunter2").linger(Duration::from_millis(7));
        for text in [format!("{config:?}"), format!("{config:#?}")] {
            assert!(text.contains("sasl.password") && text.contains("[hidden]") && text.contains("7ms"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_default_linger_gives_way_to_a_short_delivery_timeout_and_one_that_was_set_does_not() {
        let short = Config::default().delivery_timeout(Duration::from_millis(4));
        assert_eq!(short.delivery.linger(), Duration::from_millis(2));
        short.validate().unwrap();
        let set = short.linger(Duration::from_millis(5));
        assert_eq!(set.validate().unwrap_err().option(), "linger");
    }
}
