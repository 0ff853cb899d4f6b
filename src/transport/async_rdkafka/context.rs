//! What librdkafka tells us, while we poll it: kept as plain values.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::status::Health;
use crate::transport::Ack;

/// Receives librdkafka's callbacks, all of them on the thread that polls.
pub(super) struct Context {
    health: Arc<Health>,
    reports: Mutex<Vec<Report>>,
    heard: AtomicBool,
}

/// What became of one message.
pub(super) struct Report {
    pub(super) ticket: usize,
    pub(super) result: Result<Ack, KafkaError>,
    /// The payload of a message that was not delivered.
    pub(super) payload: Vec<u8>,
}

impl Context {
    pub(super) fn new(health: Arc<Health>) -> Context {
        Context { health, reports: Mutex::default(), heard: AtomicBool::new(false) }
    }

    pub(super) fn take_reports(&self) -> Vec<Report> {
        std::mem::take(&mut self.reports.lock())
    }

    /// Whether there was a callback since the last call.
    pub(super) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    fn hear(&self) {
        self.heard.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.hear();
        // Why a connection could not be set up is a warning, and nowhere else.
        if level as i32 <= RDKafkaLogLevel::Warning as i32 {
            self.health.error(format!("librdkafka: {facility}: {line}"));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.hear();
        match error.rdkafka_error_code() {
            // Its reason only says how many brokers are down; why each is, came before.
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                let reason = self.health.last_heard().unwrap_or_else(|| reason.to_owned());
                self.health.down(reason);
            }
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::Authentication
                | RDKafkaErrorCode::SSL,
            ) => self.health.down(format!("librdkafka: {reason}")),
            _ => self.health.error(format!("librdkafka: {reason}")),
        }
    }

    /// The statistics say whether a broker is connected while no record tells.
    fn stats_raw(&self, statistics: &[u8]) {
        self.hear();
        let Ok(statistics) = serde_json::from_slice::<serde_json::Value>(statistics) else { return };
        let Some(brokers) = statistics["brokers"].as_object() else { return };
        if brokers.values().any(|broker| broker["state"] == "UP") {
            self.health.up();
        } else {
            self.health.lost();
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        self.hear();
        let report = match result {
            Ok(message) => {
                let offset = Some(message.offset()).filter(|offset| *offset >= 0);
                let ack = Ack { partition: message.partition(), offset };
                Report { ticket, result: Ok(ack), payload: Vec::new() }
            }
            Err((error, message)) => {
                // An empty payload comes back as none.
                let payload = message.payload().unwrap_or_default().to_vec();
                Report { ticket, result: Err(error.clone()), payload }
            }
        };
        self.reports.lock().push(report);
    }
}

/// Whether an error is the producer's and none of the message's: then another producer can deliver it.
pub(super) fn is_the_producers(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::Fatal
                | RDKafkaErrorCode::PurgeQueue
                | RDKafkaErrorCode::PurgeInflight
                // The batch over which an idempotent producer fails for good comes back with the code itself.
                | RDKafkaErrorCode::OutOfOrderSequenceNumber
                | RDKafkaErrorCode::UnknownProducerId
                | RDKafkaErrorCode::InvalidProducerEpoch
                | RDKafkaErrorCode::InvalidProducerIdMapping
        )
    )
}
