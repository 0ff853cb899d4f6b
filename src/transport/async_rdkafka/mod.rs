//! `async`: librdkafka, as one `BaseProducer` that the worker polls.

mod context;
mod servers;
mod settings;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};
use rdkafka::util::get_rdkafka_version;
use slab::Slab;

use self::context::{Access, Context, Report};
use super::pause::Pause;
use super::tokens::Tokens;
use super::{Ack, Batch, Call, Client, Failure, Outcome};
use crate::clock::Moment;
use crate::config::{Config, Mechanism};
use crate::deadline;
use crate::error::{LoggerConfigError, LoggerError, StartupError, StartupErrorKind};
use crate::queue::{Generation, Meta};
use crate::recursion;
use crate::route::Route;
use crate::status::Health;

/// How often librdkafka is polled while it holds records: at once after something happened, then ever later.
const SHORTEST_PATIENCE: Duration = Duration::from_millis(1);
const LONGEST_PATIENCE: Duration = Duration::from_millis(20);

/// While an acknowledgement may come at any moment: librdkafka wakes nobody.
const LONGEST_AT_FIRST: Duration = Duration::from_millis(2);
const AT_FIRST: Duration = Duration::from_secs(1);

/// How often it is polled for its own news while it holds none.
const IDLE_PATIENCE: Duration = Duration::from_millis(200);

/// While no broker is connected, librdkafka has so many records at most: beside each it keeps more than most payloads take,
/// and the queue next to nothing.
const WINDOW: usize = 4 * 1024;

/// And none that has waited for longer than this part of its delivery timeout: librdkafka's own begins with the hand-over.
const FRESH: u32 = 8;

/// One turn handles so many events at most, so that the worker looks at the queue in between.
const EVENTS_A_TURN: usize = 1_000;

pub(super) fn name() -> String {
    format!("librdkafka {}", get_rdkafka_version().1)
}

pub(super) fn create(config: &Config, health: &Arc<Health>, call: &Call) -> Result<Box<dyn Client>, LoggerError> {
    Ok(Box::new(AsyncClient::new(config, health, call)?))
}

type OurProducer = BaseProducer<Context>;

fn producer(
    client_config: &ClientConfig,
    health: &Arc<Health>,
    access: &Access,
) -> Result<OurProducer, LoggerConfigError> {
    OurProducer::from_config_and_context(client_config, Context::new(Arc::clone(health), access.clone()))
        .map_err(|error| settings::refusal(error, client_config, access.by_tls))
}

struct AsyncClient {
    producer: OurProducer,
    /// To make the next producer from when this one has failed for good.
    client_config: ClientConfig,
    access: Access,
    route: Route,
    servers: String,
    connect_timeout: Duration,
    delivery_timeout: Duration,
    created: Instant,
    health: Arc<Health>,
    /// The records that librdkafka has, by the ticket it gives back.
    held: Slab<Held>,
    next_order: u64,
    /// librdkafka had no room; until it reports on a record there is no use in trying.
    full: bool,
    /// The next record has waited for too long to be given to librdkafka while no broker is connected: its timeout is then.
    waits_until: Option<Instant>,
    /// After a fatal error, or for smaller batches: the producer has been purged, and its records come back to go to the
    /// next one.
    draining: bool,
    /// A record that is larger goes alone: librdkafka's `batch.size`.
    batch_bytes: usize,
    /// That of the next producer, since a batch was over the topic's limit.
    narrower: Option<usize>,
    recovered: Vec<(Held, Vec<u8>)>,
    /// Before the next producer is made: one that is refused the right to be idempotent fails at once, every time.
    replace: Pause,
    refused: Vec<Outcome>,
    patience: Duration,
    /// When it was last given records.
    submitted: Instant,
}

#[derive(Debug)]
struct Held {
    /// The order of hand-over, to keep it when a producer is replaced.
    order: u64,
    generation: Generation,
    bytes: usize,
    meta: Meta,
}

impl Held {
    /// Records that nobody tracks share an outcome.
    fn delivered(self, ack: Ack, outcomes: &mut Vec<Outcome>) {
        let Held { generation, bytes, meta, .. } = self;
        if meta.tracked.is_some() {
            return outcomes.push(Outcome::of_one(generation, bytes, meta, Ok(ack)));
        }
        match outcomes.last_mut() {
            Some(last) if last.generation == generation && last.meta.is_none() && last.result.is_ok() => {
                last.records += 1;
                last.bytes += bytes;
            }
            _ => outcomes.push(Outcome { generation, records: 1, bytes, meta: None, result: Ok(ack) }),
        }
    }

    fn failed(self, failure: Failure, payload: Vec<u8>) -> Outcome {
        let result = Err(Failure { payload, ..failure });
        Outcome::of_one(self.generation, self.bytes, self.meta, result)
    }
}

impl AsyncClient {
    fn new(config: &Config, health: &Arc<Health>, call: &Call) -> Result<AsyncClient, LoggerConfigError> {
        let client_config = settings::client_config(config)?;
        let tokens = config.delivery.sasl.as_ref().and_then(|sasl| match &sasl.mechanism {
            Mechanism::OauthBearer(callback) => Some(Tokens::new(callback, call)),
            _ => None,
        });
        let by_tls = config.delivery.tls.is_some();
        let access = Access { tokens, secrets: settings::secrets(&client_config), by_tls };
        let producer = producer(&client_config, health, &access)?;
        let batch_bytes = settings::batch_bytes(&client_config);
        if let Some(tokens) = &access.tokens {
            tokens.begin();
        }
        Ok(AsyncClient {
            producer,
            client_config,
            access,
            route: Route::new(&config.topic),
            servers: config.bootstrap_servers.join(","),
            connect_timeout: config.delivery.connect_timeout,
            delivery_timeout: config.delivery.delivery_timeout,
            created: Instant::now(),
            health: Arc::clone(health),
            held: Slab::new(),
            next_order: 0,
            full: false,
            waits_until: None,
            draining: false,
            batch_bytes,
            narrower: None,
            recovered: Vec::new(),
            replace: Pause::new(config.delivery.retry_backoff),
            refused: Vec::new(),
            patience: IDLE_PATIENCE,
            submitted: Instant::now(),
        })
    }
}

impl Client for AsyncClient {
    fn check(&mut self, timeout: Duration) -> Result<(), StartupError> {
        /// Metadata requests are cut into pieces, so that librdkafka's own words are heard in between.
        const PIECE: Duration = Duration::from_secs(1);
        let deadline = deadline::after(timeout);
        let mut found = None;
        if let Some(tokens) = &self.access.tokens {
            tokens.wait_until(deadline);
            self.serve();
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.producer.client().fetch_metadata(Some(&*self.route.topic), left.min(PIECE)) {
                Ok(metadata) => match topic_problem(&metadata, &self.route.topic) {
                    None => {
                        self.health.up();
                        return Ok(());
                    }
                    Some(problem) if problem.kind() == StartupErrorKind::Refused => return Err(problem),
                    Some(problem) => found = Some(problem),
                },
                Err(KafkaError::MetadataFetch(code)) => {
                    self.serve();
                    if self.health.last_heard().is_none() {
                        self.health.error(format!("librdkafka: {code}"));
                    }
                }
                Err(error) => self.health.error(format!("librdkafka: {error}")),
            }
            if let Some(denied) = self.denied() {
                return Err(denied);
            }
            if Instant::now() + SHORTEST_PATIENCE >= deadline {
                let last_error = self.health.last_heard();
                return Err(found.unwrap_or_else(|| super::unreachable(&self.servers, timeout, last_error.as_deref())));
            }
            let pause = Duration::from_millis(50).min(deadline.saturating_duration_since(Instant::now()));
            self.producer.poll(pause);
        }
    }

    fn has_room(&self) -> bool {
        let has_window = || self.held.len() < WINDOW && self.waits_until.is_none_or(|until| until <= Instant::now());
        !self.full && !self.draining && (has_window() || self.health.is_up())
    }

    fn submit(&mut self, batch: &mut Batch) {
        self.patience = SHORTEST_PATIENCE;
        let (generation, now, is_up) = (batch.generation(), Moment::now(), self.health.is_up());
        self.submitted = Instant::now();
        self.waits_until = None;
        while let Some((payload, meta)) = batch.first() {
            let age = meta.called.until(now);
            let sent = if age >= self.delivery_timeout {
                Sent::Refused(Failure { possibly_delivered: false, ..self.timed_out() })
            } else if !is_up && age > self.delivery_timeout / FRESH {
                self.waits_until = Some(Instant::now() + (self.delivery_timeout - age));
                return;
            } else if !is_up && self.held.len() >= WINDOW {
                return;
            } else {
                self.send(payload, &meta)
            };
            match sent {
                Sent::Taken => {}
                Sent::NoRoom => return,
                Sent::Refused(_) => {}
            }
            let Some((payload, meta)) = batch.pop() else { return };
            let held = Held { order: self.next_order, generation, bytes: payload.len(), meta };
            self.next_order += 1;
            match sent {
                Sent::Refused(failure) => self.refused.push(held.failed(failure, payload.to_vec())),
                _ => {
                    self.held.insert(held);
                }
            }
        }
    }

    fn poll(&mut self, outcomes: &mut Vec<Outcome>) {
        let before = outcomes.len();
        outcomes.append(&mut self.refused);
        let heard = self.serve();
        for report in self.producer.context().take_reports() {
            self.full = false;
            self.conclude(report, outcomes);
        }
        if !self.draining
            && (heard || self.full)
            && let Some((_, reason)) = self.producer.client().fatal_error()
        {
            self.health.down(format!("librdkafka failed for good and is replaced: {reason}"));
            self.drain();
        }
        if heard && self.producer.context().take_lost_servers() {
            self.health.down("librdkafka has lost all its brokers: it is given the bootstrap servers again");
            servers::add(self.producer.client(), &self.servers);
        }
        if self.draining && self.narrower.is_some() && !self.held.is_empty() {
            // What was behind the batch is refused too, and goes to librdkafka's queue again.
            self.drain();
        }
        if self.draining && self.held.is_empty() {
            self.expire(outcomes);
            // Not for want of anything: there are a dozen sizes at the most.
            if self.narrower.is_some() || self.replace.left(Instant::now()).is_none() {
                self.replace_producer(outcomes);
            }
        }
        self.patience = match () {
            () if heard || outcomes.len() > before || self.narrower.is_some() => SHORTEST_PATIENCE,
            () if self.held.is_empty() && !self.draining && self.waits_until.is_none() => IDLE_PATIENCE,
            () if self.submitted.elapsed() < AT_FIRST => (self.patience * 2).min(LONGEST_AT_FIRST),
            () => (self.patience * 2).min(LONGEST_PATIENCE),
        };
    }

    fn patience(&self) -> Duration {
        self.patience
    }

    fn give_back(&mut self, deadline: Instant) -> Vec<Outcome> {
        let mut outcomes = std::mem::take(&mut self.refused);
        self.narrower = None;
        self.drain();
        loop {
            for report in self.producer.context().take_reports() {
                self.conclude(report, &mut outcomes);
            }
            if self.held.is_empty() || Instant::now() >= deadline {
                break;
            }
            self.producer.poll(SHORTEST_PATIENCE);
        }
        self.recovered.sort_unstable_by_key(|(held, _)| held.order);
        let recovered = std::mem::take(&mut self.recovered).into_iter();
        outcomes.extend(recovered.map(|(held, payload)| held.failed(Failure::given_back(Vec::new()), payload)));
        outcomes
    }
}

enum Sent {
    Taken,
    NoRoom,
    Refused(Failure),
}

impl AsyncClient {
    /// Gives librdkafka one record, under the ticket that its `Held` will have.
    fn send(&mut self, payload: &[u8], meta: &Meta) -> Sent {
        let record = BaseRecord::<(), [u8], usize>::with_opaque_to(&self.route.topic, self.held.vacant_key())
            .payload(payload)
            .timestamp(meta.timestamp_ms);
        match self.producer.send(record) {
            Ok(()) => Sent::Taken,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                self.full = true;
                Sent::NoRoom
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::Fatal), _)) => {
                self.full = true;
                Sent::NoRoom
            }
            Err((error, _)) => Sent::Refused(self.failure(&error)),
        }
    }

    /// Lets librdkafka report what has happened; whether anything had.
    fn serve(&self) -> bool {
        // Without the first token there is nothing to report, and the wait for a second request would be long.
        if self.access.tokens.as_ref().is_some_and(Tokens::is_awaited) && self.created.elapsed() < self.delivery_timeout
        {
            return false;
        }
        let mut heard = false;
        for _ in 0..EVENTS_A_TURN {
            self.producer.poll(Duration::ZERO);
            if !self.producer.context().take_heard() {
                break;
            }
            heard = true;
        }
        heard
    }

    fn conclude(&mut self, report: Report, outcomes: &mut Vec<Outcome>) {
        let Some(held) = self.held.try_remove(report.ticket) else { return };
        match report.result {
            Ok(ack) => {
                self.replace.reset();
                held.delivered(ack, outcomes);
            }
            Err(error)
                if context::is_the_producers(&error)
                    && (self.draining || self.producer.client().fatal_error().is_some()) =>
            {
                self.recovered.push((held, report.payload));
            }
            // librdkafka gives up a batch that is over the topic's limit whole, and it may have had company.
            Err(KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge))
                if report.payload.len() <= self.batch_bytes =>
            {
                self.recovered.push((held, report.payload));
                self.narrow();
            }
            Err(error) => {
                let failure = self.failure(&error);
                outcomes.push(held.failed(failure, report.payload));
            }
        }
    }

    /// Goes over to a producer of smaller batches, until each record that the topic does not take is alone. All that
    /// this one holds goes there too, or what is behind the batch would overtake it.
    fn narrow(&mut self) {
        if self.draining {
            return;
        }
        let narrower = (self.batch_bytes / 4).max(1);
        self.narrower = Some(narrower);
        let (topic, batch_bytes) = (&self.route.topic, self.batch_bytes);
        self.health.error(format!(
            "topic {topic}: its max.message.bytes is below a batch of up to {batch_bytes} bytes: librdkafka is replaced by one \
             with batches of up to {narrower}; set `batch_bytes` to the topic's limit"
        ));
        self.drain();
    }

    /// That a broker denied us, or we it, and no other one of the list has taken us since.
    fn denied(&self) -> Option<StartupError> {
        let denied = self.producer.context().denied()?;
        let others_have = if self.servers.contains(',') { self.connect_timeout } else { Duration::ZERO };
        let what = match denied.kind {
            StartupErrorKind::Tls => "be encrypted and trusted",
            _ => "be authenticated",
        };
        let words = || format!("the connection to {} could not {what}: {}", self.servers, denied.words);
        (denied.first.elapsed() >= others_have).then(|| StartupError::new(denied.kind, words()))
    }

    fn failure(&self, error: &KafkaError) -> Failure {
        let topic = &self.route.topic;
        match error {
            KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut) => self.timed_out(),
            KafkaError::MessageProduction(code) => Failure::rejected(format!("topic {topic}: {code}")),
            error => Failure::rejected(format!("topic {topic}: {error}")),
        }
    }

    fn timed_out(&self) -> Failure {
        let failure = super::timed_out(&self.route.topic, self.delivery_timeout, self.health.last_heard());
        // librdkafka knows whether it was ever sent, and this binding does not say.
        Failure { possibly_delivered: true, ..failure }
    }

    /// Gives up the recovered records whose delivery timeout has passed meanwhile.
    fn expire(&mut self, outcomes: &mut Vec<Outcome>) {
        let failure = self.timed_out();
        let timeout = self.delivery_timeout;
        let recovered = std::mem::take(&mut self.recovered);
        let (expired, kept): (Vec<_>, Vec<_>) =
            recovered.into_iter().partition(|(held, _)| held.meta.called.elapsed() >= timeout);
        self.recovered = kept;
        outcomes.extend(expired.into_iter().map(|(held, payload)| held.failed(failure.clone(), payload)));
    }

    /// Gives what the failed producer held to a new one, in order. The broker may have some of it already: across
    /// a fatal error delivery is at least once.
    fn replace_producer(&mut self, outcomes: &mut Vec<Outcome>) {
        match self.narrower.take() {
            Some(batch_bytes) => {
                self.batch_bytes = batch_bytes;
                self.client_config.set("batch.size", batch_bytes.to_string());
                // A broker takes any number for the first of a new producer: with another batch under way behind one that
                // it refuses, that one would overtake it.
                self.client_config.set("max.in.flight.requests.per.connection", "1");
            }
            None => self.replace.begin(),
        }
        match producer(&self.client_config, &self.health, &self.access) {
            Ok(next) => end_elsewhere(std::mem::replace(&mut self.producer, next)),
            Err(error) => return self.health.down(error.to_string()),
        }
        self.draining = false;
        self.full = false;
        self.recovered.sort_unstable_by_key(|(held, _)| held.order);
        let mut recovered = std::mem::take(&mut self.recovered).into_iter();
        while let Some((held, payload)) = recovered.next() {
            match self.send(&payload, &held.meta) {
                Sent::Taken => {
                    self.held.insert(held);
                }
                Sent::Refused(failure) => outcomes.push(held.failed(failure, payload)),
                Sent::NoRoom => {
                    // One producer held all of them before, so this one has failed already: once more around.
                    self.recovered.push((held, payload));
                    self.recovered.extend(recovered);
                    return self.drain();
                }
            }
        }
    }

    /// Has all records come back from a producer that is of no use any more. What is under way from one whose batches
    /// are too large has its answer yet, and is not there twice.
    fn drain(&mut self) {
        self.draining = true;
        let purge = PurgeConfig::default().queue();
        let purge = if self.narrower.is_some() { purge } else { purge.inflight() };
        // Not waited for: a thread of librdkafka may be inside a name look-up.
        self.producer.purge(purge.non_blocking());
    }
}

/// Drops a producer on a thread of its own: it waits for librdkafka's threads to end.
fn end_elsewhere(producer: OurProducer) {
    let ended = thread::Builder::new().name("kafka_log-end".into()).spawn(move || {
        let _ours = recursion::enter();
        drop(producer);
    });
    // Without a thread it has been dropped here, with the closure that could not be run.
    drop(ended);
}

fn topic_problem(metadata: &rdkafka::metadata::Metadata, topic: &str) -> Option<StartupError> {
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Some(StartupError::new(StartupErrorKind::UnknownTopic, format!("no broker knows the topic {topic}")));
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None if !found.partitions().is_empty() => None,
        Some(code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::InvalidTopic)) => {
            Some(StartupError::new(StartupErrorKind::Refused, format!("topic {topic}: {code}")))
        }
        _ => Some(StartupError::new(
            StartupErrorKind::UnknownTopic,
            format!("the topic {topic} does not exist and is not created by itself: create it first"),
        )),
    }
}

#[cfg(test)]
mod tests;
