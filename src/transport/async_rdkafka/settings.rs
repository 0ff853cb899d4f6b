//! The only place that knows librdkafka's property names.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use crate::config::Config;

/// librdkafka's own bounds of `message.max.bytes`.
const MESSAGE_BYTES: std::ops::RangeInclusive<usize> = 1_000..=1_000_000_000;

/// A millisecond each, the unit of all its durations.
fn millis(duration: std::time::Duration) -> String {
    duration.as_millis().to_string()
}

pub(super) fn client_config(config: &Config) -> ClientConfig {
    let delivery = &config.delivery;
    let (shortest_pause, longest_pause) = delivery.retry_backoff;
    // Its limit counts what it adds to a payload too.
    let message_bytes = config.queue_bytes.saturating_add(1_024).clamp(*MESSAGE_BYTES.start(), *MESSAGE_BYTES.end());
    let queue_kbytes = (config.queue_bytes / 1024 + 1).min(i32::MAX as usize);

    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", config.bootstrap_servers.join(","))
        .set("client.id", "kafka_log")
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", millis(delivery.linger))
        .set("batch.size", delivery.batch_bytes.to_string())
        .set("message.timeout.ms", millis(delivery.delivery_timeout))
        // A topic that appears within the delivery timeout is not too late.
        .set("topic.metadata.propagation.max.ms", millis(delivery.delivery_timeout))
        .set("socket.connection.setup.timeout.ms", millis(delivery.connect_timeout))
        .set("request.timeout.ms", millis(delivery.request_timeout))
        .set("retry.backoff.ms", millis(shortest_pause))
        .set("retry.backoff.max.ms", millis(longest_pause))
        .set("reconnect.backoff.ms", millis(shortest_pause))
        .set("reconnect.backoff.max.ms", millis(longest_pause))
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
    client
}
