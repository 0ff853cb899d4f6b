//! librdkafka clients that stay out of the way of the code under test.

use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::metadata::Metadata;

/// Bounds any single request to a broker.
pub const REQUEST: Duration = Duration::from_secs(10);

/// Drops what librdkafka has to say.
///
/// The default context hands it to the `log` crate, whose backend is what the tests test.
pub struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ConsumerContext for Quiet {}

pub fn config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

pub fn admin(bootstrap: &str) -> AdminClient<Quiet> {
    config(bootstrap)
        .create_with_context(Quiet)
        .unwrap_or_else(|error| panic!("cannot make an admin client for {bootstrap}: {error}"))
}

/// A consumer that commits nothing and reports the end of each partition.
pub fn consumer(bootstrap: &str) -> BaseConsumer<Quiet> {
    config(bootstrap)
        .set("group.id", "kafka-log-tests")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        .create_with_context(Quiet)
        .unwrap_or_else(|error| panic!("cannot make a consumer for {bootstrap}: {error}"))
}

/// The ids of the partitions of `topic` that have a leader.
pub fn led_partitions(metadata: &Metadata, topic: &str) -> Vec<i32> {
    metadata
        .topics()
        .iter()
        .filter(|found| found.name() == topic && found.error().is_none())
        .flat_map(|found| found.partitions())
        .filter(|partition| partition.error().is_none() && partition.leader() >= 0)
        .map(|partition| partition.id())
        .collect()
}
