//! The only place that knows librdkafka's property names.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use crate::config::{Acks, Compression, Config, Credentials, DeliverySettings, check_millis};
use crate::error::LoggerConfigError;

/// librdkafka's own bounds of `message.max.bytes`.
const MESSAGE_BYTES: std::ops::RangeInclusive<usize> = 1_000..=1_000_000_000;

/// librdkafka's own bound of `topic.metadata.propagation.max.ms`.
const LONGEST_PROPAGATION: Duration = Duration::from_secs(3_600);

/// Other names of the same property: librdkafka's aliases.
const ALIASES: [(&str, &str); 9] = [
    ("bootstrap.servers", "metadata.broker.list"),
    ("linger.ms", "queue.buffering.max.ms"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("retries", "message.send.max.retries"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
];

/// Properties that `client_option` must leave alone, and why.
const RESERVED: [(&str, &str); 14] = [
    ("metadata.broker.list", "give the servers to Config::new"),
    ("message.timeout.ms", "the logger keeps this time too: set `delivery_timeout`"),
    ("queue.buffering.max.messages", "the logger bounds its queue itself: set `queue_records`"),
    ("queue.buffering.max.kbytes", "the logger bounds its queue itself: set `queue_bytes`"),
    ("queue.buffering.backpressure.threshold", "the logger bounds its queue itself: set `queue_records`"),
    ("queuing.strategy", "the order of records is promised"),
    ("statistics.interval.ms", "the logger reads the statistics to know its state"),
    ("log.queue", "the logger reads librdkafka's lines itself"),
    ("log_level", "the logger reads librdkafka's lines itself"),
    ("enabled_events", "the logger waits for librdkafka's events itself"),
    ("delivery.report.only.error", "each record's outcome is counted"),
    ("produce.offset.report", "each record's outcome has its offset"),
    ("transactional.id", "the logger opens no transactions"),
    ("enable.gapless.guarantee", "a gap must not end the logger"),
];

fn canonical(key: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == key).map_or(key, |(_, name)| name)
}

/// All that librdkafka is told: our typed options, then `client_option`.
pub(super) fn client_config(config: &Config) -> Result<ClientConfig, LoggerConfigError> {
    let mut client = ClientConfig::new();
    defaults(&mut client, config);
    if config.delivery.tls.is_some()
        && let Some(server) = config.bootstrap_servers.iter().find(|server| server.starts_with('['))
    {
        // It looks for the brackets in the certificate too.
        let problem = format!("cannot verify {server:?} with `async`: give the broker's name, or use `sync`");
        return Err(LoggerConfigError::new("tls", problem));
    }
    let mut typed = typed(&config.delivery)?;
    let mut seen = HashSet::new();
    for (key, value) in &config.delivery.client_options.0 {
        let name = canonical(key);
        let refuse =
            |problem: &str| Err(LoggerConfigError::new("client_option", format!("the property `{key}` {problem}")));
        if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
            return refuse(&format!("cannot be set: {why}"));
        }
        if name.ends_with("_cb") || name == "opaque" || name == "default_topic_conf" {
            return refuse("cannot be set: the logger has librdkafka's callbacks");
        }
        if key.contains('\0') || value.contains('\0') {
            return refuse("has a NUL character");
        }
        if !seen.insert(name) {
            return refuse("is set twice: set it once");
        }
        if let Some(option) = decided_by(name, &config.delivery) {
            return refuse(&format!("is set twice: also by the option `{option}`"));
        }
        if let Some(place) = typed.iter().position(|property| property.key == name) {
            let option = typed[place].option;
            if config.delivery.is_set(option) {
                return refuse(&format!("is set twice: also by the option `{option}`"));
            }
            typed.remove(place);
        }
        client.set(name, value);
    }
    let without_all = seen.contains("acks");
    for property in typed {
        // The default of idempotence gives way to acks that librdkafka was told of by their own name.
        if !(without_all && property.key == "enable.idempotence" && !config.delivery.is_set("idempotence")) {
            client.set(property.key, property.value);
        }
    }
    let idempotent = client
        .get("enable.idempotence")
        .is_some_and(|value| ["true", "t", "1"].iter().any(|yes| value.eq_ignore_ascii_case(yes)));
    if !idempotent && client.get("max.in.flight.requests.per.connection").is_none() {
        // A retry must not come after a later batch: the order of records is promised.
        client.set("max.in.flight.requests.per.connection", "1");
    }
    Ok(client)
}

/// What one of our options is to librdkafka.
struct Property {
    key: &'static str,
    value: String,
    option: &'static str,
}

fn typed(delivery: &DeliverySettings) -> Result<Vec<Property>, LoggerConfigError> {
    check_millis("connect_timeout", delivery.connect_timeout, 1_000, i32::MAX as u64)?;
    check_millis("request_timeout", delivery.request_timeout, 1, 900_000)?;
    let acks = match delivery.acks {
        Acks::None => "0",
        Acks::Leader => "1",
        Acks::All => "all",
    };
    let compression = match delivery.compression.unwrap_or(Compression::Lz4) {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    };
    let idempotence = delivery.idempotence.unwrap_or(delivery.acks == Acks::All);
    let (shortest_pause, longest_pause) = delivery.retry_backoff;
    let mut typed: Vec<Property> = [
        ("client.id", delivery.client_id.clone(), "client_id"),
        ("acks", acks.into(), "acks"),
        ("enable.idempotence", idempotence.to_string(), "idempotence"),
        ("compression.type", compression.into(), "compression"),
        ("queue.buffering.max.ms", millis(delivery.linger()), "linger"),
        ("batch.size", delivery.batch_bytes.to_string(), "batch_bytes"),
        ("socket.connection.setup.timeout.ms", millis(delivery.connect_timeout), "connect_timeout"),
        ("request.timeout.ms", millis(delivery.request_timeout), "request_timeout"),
        ("retry.backoff.ms", millis(shortest_pause), "retry_backoff"),
        ("retry.backoff.max.ms", millis(longest_pause), "retry_backoff"),
        ("reconnect.backoff.ms", millis(shortest_pause), "retry_backoff"),
        ("reconnect.backoff.max.ms", millis(longest_pause), "retry_backoff"),
    ]
    .map(|(key, value, option)| Property { key, value, option })
    .into();
    security(delivery, &mut typed)?;
    Ok(typed)
}

/// Encryption and authentication. A user who gave neither may have given librdkafka's own properties for them.
fn security(delivery: &DeliverySettings, typed: &mut Vec<Property>) -> Result<(), LoggerConfigError> {
    let mut set = |option, key, value: &str| typed.push(Property { key, value: value.to_owned(), option });
    let protocol = match (&delivery.tls, &delivery.sasl) {
        (None, None) => return Ok(()),
        (Some(_), None) => ("tls", "ssl"),
        (None, Some(_)) => ("sasl", "sasl_plaintext"),
        (Some(_), Some(_)) => ("sasl", "sasl_ssl"),
    };
    set(protocol.0, "security.protocol", protocol.1);
    if let Some(tls) = &delivery.tls {
        // Its own errors do not say what is wrong with a file.
        tls.read_ca_file()?;
        tls.read_client_certificate()?;
        set("tls", "enable.ssl.certificate.verification", "true");
        set("tls", "ssl.endpoint.identification.algorithm", "https");
        if let Some(path) = &tls.ca_file {
            set("tls", "ssl.ca.location", as_text(path)?);
        }
        if let Some(pem) = &tls.ca_pem {
            set("tls", "ssl.ca.pem", pem);
        }
        // An OpenSSL that is built along knows of no system's roots: librdkafka looks for them. Windows has a store, and
        // OpenSSL's own variables are left to it.
        let told = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
        if tls.trusts_the_system() && !told && !cfg!(windows) {
            set("tls", "ssl.ca.location", "probe");
        }
        if let Some((certificate, key)) = &tls.client_certificate {
            set("tls", "ssl.certificate.location", as_text(certificate)?);
            set("tls", "ssl.key.location", as_text(key)?);
        }
    }
    if let Some(sasl) = &delivery.sasl {
        set("sasl", "sasl.mechanisms", sasl.mechanism.name());
        if let Some(Credentials { user, password }) = sasl.mechanism.credentials() {
            set("sasl", "sasl.username", user);
            set("sasl", "sasl.password", password);
        }
    }
    Ok(())
}

fn as_text(path: &Path) -> Result<&str, LoggerConfigError> {
    let problem = || format!("has the path \"{}\", which is not UTF-8: librdkafka takes no other", path.display());
    path.to_str().ok_or_else(|| LoggerConfigError::new("tls", problem()))
}

/// The option of ours that decides what a property is about, even where it has not set it.
fn decided_by(name: &str, delivery: &DeliverySettings) -> Option<&'static str> {
    const OF_TLS: [&str; 13] = [
        "ssl_ca",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.ca.certificate.stores",
        "ssl_certificate",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl_key",
        "ssl.key.location",
        "ssl.key.pem",
        "ssl.keystore.location",
        "enable.ssl.certificate.verification",
        "ssl.endpoint.identification.algorithm",
    ];
    if delivery.tls.is_some() && OF_TLS.contains(&name) {
        Some("tls")
    } else if delivery.sasl.is_some() && (name.starts_with("sasl.") || name == "enable.sasl.oauthbearer.unsecure.jwt") {
        Some("sasl")
    } else {
        None
    }
}

/// What a batch comes to at most; without company a record may be larger.
pub(super) fn batch_bytes(client: &ClientConfig) -> usize {
    let number = |key| client.get(key).and_then(|value| value.trim().parse().ok()).unwrap_or(usize::MAX);
    number("batch.size").min(number("message.max.bytes"))
}

/// What librdkafka was told and must not repeat.
pub(super) fn secrets(client: &ClientConfig) -> Arc<[String]> {
    let is_secret = |key: &str| {
        ["password", "passphrase", "secret"].iter().any(|word| key.contains(word)) || key.ends_with(".key.pem")
    };
    client.config_map().iter().filter(|(key, _)| is_secret(key)).map(|(_, value)| (*value).to_owned()).collect()
}

/// A millisecond each, the unit of all its durations.
fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// What follows from our options, and what we set without one.
fn defaults(client: &mut ClientConfig, config: &Config) {
    let timeout = config.delivery.delivery_timeout;
    // Its limit counts what it adds to a payload too.
    let message_bytes = config.queue_bytes.saturating_add(1_024).clamp(*MESSAGE_BYTES.start(), *MESSAGE_BYTES.end());
    let queue_kbytes = (config.queue_bytes / 1024 + 1).min(i32::MAX as usize);
    client
        .set("metadata.broker.list", config.bootstrap_servers.join(","))
        .set("message.timeout.ms", millis(timeout))
        // A topic that appears within the delivery timeout is not too late.
        .set("topic.metadata.propagation.max.ms", millis(timeout.min(LONGEST_PROPAGATION)))
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        // Its queue is never the tighter one: what we have taken, it takes at once, and its timeouts run from then.
        .set("queue.buffering.max.messages", config.queue_records.to_string())
        .set("queue.buffering.max.kbytes", queue_kbytes.to_string())
        // What the queue takes, the broker is asked to take; it knows its own limit best.
        .set("message.max.bytes", message_bytes.to_string())
        // Whether a broker is connected, once a second.
        .set("statistics.interval.ms", "1000")
        .set("log.connection.close", "false")
        .set_log_level(RDKafkaLogLevel::Warning);
}

/// librdkafka's refusal in words that hold no value: it could be a secret. `by_tls`: the option `tls` gave the files.
pub(super) fn refusal(error: KafkaError, client: &ClientConfig, by_tls: bool) -> LoggerConfigError {
    let problem = match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, key, _) => {
            format!("librdkafka has no property `{key}`")
        }
        KafkaError::ClientConfig(_, _, key, _) => {
            format!("librdkafka does not take the value of its property `{key}`, or lacks what it needs in this build")
        }
        error => {
            let mut words = format!("librdkafka could not be set up: {error}");
            // What the option `tls` gives is no secret.
            let secrets = secrets(client);
            if by_tls && words.contains("ssl.") && !secrets.iter().any(|secret| words.contains(secret)) {
                return LoggerConfigError::new("tls", words);
            }
            for (key, value) in client.config_map() {
                if ["sasl.", "ssl.", "plugin."].iter().any(|secret| key.starts_with(secret)) {
                    words = format!("librdkafka could not be set up; its words could hold the value of `{key}`");
                    break;
                }
                if value.len() > "false".len() {
                    words = words.replace(value, "[hidden]");
                }
            }
            words
        }
    };
    LoggerConfigError::new("client_option", problem)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
