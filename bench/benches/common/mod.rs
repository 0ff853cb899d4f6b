//! What the benchmarks share: brokers by the tests' support code, and a producer of rdkafka as applications use it.
#![allow(dead_code)]

#[path = "../../../tests/support/mod.rs"]
pub mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use support::client;

pub const PARTITIONS: usize = 4;
pub const LINGER: Duration = Duration::from_millis(5);
pub const BATCH_BYTES: usize = 1_000_000;

/// rdkafka's `ThreadedProducer` with the settings that kafka_log has.
pub struct Yardstick {
    producer: ThreadedProducer<Counting>,
    topic: String,
    delivered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

/// There is no room for more.
pub struct Full;

impl Yardstick {
    pub fn new(servers: &str, topic: &str, compression: &str) -> Yardstick {
        let counting = Counting::default();
        let (delivered, failed) = (Arc::clone(&counting.delivered), Arc::clone(&counting.failed));
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", servers)
            .set("compression.type", compression)
            .set("enable.idempotence", "true")
            .set("linger.ms", LINGER.as_millis().to_string())
            .set("batch.size", BATCH_BYTES.to_string())
            // As in `async`: what the batch may hold, it may be as large as.
            .set("message.max.bytes", "67109888")
            .set("queue.buffering.max.messages", "100000");
        let producer = ThreadedProducer::from_config_and_context(&config, counting).expect("a producer");
        Yardstick { producer, topic: topic.into(), delivered, failed }
    }

    pub fn send(&self, payload: &[u8]) -> Result<(), Full> {
        let record = BaseRecord::<(), [u8]>::to(&self.topic).payload(payload);
        match self.producer.send(record) {
            Ok(()) => Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Err(Full),
            Err((error, _)) => panic!("VOID: {error}"),
        }
    }

    /// Tries until there is room.
    pub fn send_or_wait(&self, payload: &[u8]) {
        while self.send(payload).is_err() {
            thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn flush(&self, timeout: Duration) -> Result<(), String> {
        self.producer.flush(timeout).map_err(|error| error.to_string())
    }

    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Counts what became of records.
#[derive(Clone, Default)]
struct Counting {
    delivered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

impl ClientContext for Counting {
    // What librdkafka has to say would go to the logger that is measured.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() { &self.delivered } else { &self.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many records the topic has, by the broker's own offsets.
pub fn arrived(servers: &str, topic: &str) -> u64 {
    let consumer = client::consumer(servers);
    (0..PARTITIONS as i32)
        .map(|partition| {
            let (low, high) = consumer.fetch_watermarks(topic, partition, client::REQUEST).expect("offsets");
            (high - low) as u64
        })
        .sum()
}
