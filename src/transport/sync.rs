//! Which producer `sync` uses: the wire producer, or the `kafka` crate for brokers that are too old for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::sync_wire::WireClient;
use super::{Batch, Call, Client, Failure, Outcome, sync_kafka, sync_wire};
use crate::config::{Config, DeliverySettings, SyncProducer};
use crate::error::{LoggerConfigError, LoggerError, StartupError, StartupErrorKind};
use crate::status::Health;

/// A broker hangs up on a request over its `socket.request.max.bytes`, 100 MiB by default, with no word on why: a payload
/// must stay under that.
pub(super) const LARGEST_PAYLOAD: usize = 64 * 1024 * 1024;

/// What neither producer can honour.
pub(super) fn check(delivery: &DeliverySettings) -> Result<(), LoggerConfigError> {
    if !delivery.client_options.0.is_empty() {
        let problem = "sets properties of librdkafka, and `sync` is another client: use `async`";
        return Err(LoggerConfigError::new("client_option", problem));
    }
    if delivery.batch_bytes > LARGEST_PAYLOAD {
        let problem = format!("must be from 1 to {LARGEST_PAYLOAD} with `sync`");
        return Err(LoggerConfigError::new("batch_bytes", problem));
    }
    Ok(())
}

/// The records of a batch that has had no outcome.
pub(super) fn given_back(mut batch: Batch) -> Vec<Outcome> {
    let generation = batch.generation();
    let mut outcomes = Vec::with_capacity(batch.len());
    while let Some((payload, meta)) = batch.pop() {
        outcomes.push(Outcome::of_one(generation, payload.len(), meta, Err(Failure::given_back(payload.to_vec()))));
    }
    outcomes
}

/// The name of the producer that is begun with.
pub(super) fn name(config: &Config) -> String {
    match config.sync_producer {
        SyncProducer::Kafka => sync_kafka::name(),
        SyncProducer::Auto | SyncProducer::Wire => sync_wire::name(),
    }
}

pub(super) fn create(config: &Config, health: &Arc<Health>, call: &Call) -> Result<Box<dyn Client>, LoggerError> {
    match config.sync_producer {
        SyncProducer::Kafka => sync_kafka::create(config, health, call),
        SyncProducer::Wire => Ok(Box::new(WireClient::new(config, health, call)?)),
        SyncProducer::Auto => Ok(Box::new(Auto::new(config, health, call)?)),
    }
}

/// The wire producer, until a broker says that it is too old for that.
struct Auto {
    config: Config,
    health: Arc<Health>,
    call: Call,
    producer: Producer,
    /// What the wire producer gave back, for the `kafka` crate.
    back: VecDeque<Batch>,
    outcomes: Vec<Outcome>,
}

enum Producer {
    Wire(WireClient),
    Kafka(Box<dyn Client>),
}

impl Auto {
    fn new(config: &Config, health: &Arc<Health>, call: &Call) -> Result<Auto, LoggerError> {
        health.client_is(sync_wire::name());
        Ok(Auto {
            config: config.clone(),
            health: Arc::clone(health),
            call: Arc::clone(call),
            producer: Producer::Wire(WireClient::new(config, health, call)?),
            back: VecDeque::new(),
            outcomes: Vec::new(),
        })
    }

    fn client(&mut self) -> &mut dyn Client {
        match &mut self.producer {
            Producer::Wire(wire) => wire,
            Producer::Kafka(kafka) => kafka.as_mut(),
        }
    }

    /// Goes over to the `kafka` crate if the brokers are too old for the wire producer; whether it did.
    fn fall_back(&mut self) -> bool {
        let Producer::Wire(wire) = &mut self.producer else { return false };
        let Some(too_old) = wire.too_old() else { return false };
        match sync_kafka::create(&self.config, &self.health, &self.call) {
            Ok(kafka) => {
                let (back, outcomes) = wire.end();
                self.back.extend(back);
                self.outcomes.extend(outcomes);
                self.producer = Producer::Kafka(kafka);
                self.health.client_is(sync_kafka::name());
                true
            }
            // It asks for what that crate has not: the wire producer goes on, should a newer broker come.
            Err(error) => {
                self.health.down(format!("{too_old}; and the kafka crate cannot be used instead: {error}"));
                false
            }
        }
    }

    /// Hands over what was given back, as far as there is room.
    fn hand_back(&mut self) {
        while let Some(mut batch) = self.back.pop_front() {
            let client = self.client();
            if client.has_room() {
                client.submit(&mut batch);
            }
            if !batch.is_empty() {
                self.back.push_front(batch);
                return;
            }
        }
    }
}

impl Client for Auto {
    fn check(&mut self, timeout: Duration) -> Result<(), StartupError> {
        let begun = Instant::now();
        match self.client().check(timeout) {
            Err(error) if error.kind() == StartupErrorKind::UnsupportedBroker && self.fall_back() => {
                self.client().check(timeout.saturating_sub(begun.elapsed()))
            }
            result => result,
        }
    }

    fn has_room(&self) -> bool {
        self.back.is_empty()
            && match &self.producer {
                Producer::Wire(wire) => wire.has_room(),
                Producer::Kafka(kafka) => kafka.has_room(),
            }
    }

    fn submit(&mut self, batch: &mut Batch) {
        // Nothing overtakes what was given back.
        self.hand_back();
        if self.back.is_empty() {
            self.client().submit(batch);
        }
    }

    fn poll(&mut self, outcomes: &mut Vec<Outcome>) {
        self.fall_back();
        self.hand_back();
        outcomes.append(&mut self.outcomes);
        self.client().poll(outcomes);
    }

    fn patience(&self) -> Duration {
        match &self.producer {
            Producer::Wire(wire) => wire.patience(),
            Producer::Kafka(kafka) => kafka.patience(),
        }
    }

    fn give_back(&mut self, deadline: Instant) -> Vec<Outcome> {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        outcomes.extend(self.client().give_back(deadline));
        outcomes.extend(self.back.drain(..).flat_map(given_back));
        outcomes
    }
}
