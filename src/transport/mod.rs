//! The clients behind one trait, and the choice among them: the only place that knows Cargo features.

#[cfg(feature = "async")]
mod async_rdkafka;
#[cfg(test)]
pub(crate) mod fake;
#[cfg(any(feature = "async", feature = "sync"))]
mod pause;
#[cfg(feature = "sync")]
mod sync;
#[cfg(feature = "sync")]
mod sync_kafka;
#[cfg(feature = "sync")]
mod sync_wire;
#[cfg(any(feature = "async", feature = "sync"))]
mod tokens;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Compression, Config, SyncProducer, Transport};
use crate::delivery::DeliveryErrorKind;
use crate::error::{LoggerDependencyError, LoggerError, Missing, Needs, StartupError, StartupErrorKind};
use crate::queue::{Batch, Generation, Meta};
use crate::spool;
use crate::status::Health;

/// A client that carries records to the brokers.
///
/// One thread at a time uses it: the one that builds the logger, then the worker. No method blocks on the network
/// but [`check`](Client::check). Dropping a client gives up what it holds; that may take a moment, and happens off
/// the path of `shutdown`.
pub(crate) trait Client: Send {
    /// Waits until a broker that knows the topic answers, `timeout` at most.
    fn check(&mut self, timeout: Duration) -> Result<(), StartupError>;

    /// Whether [`submit`](Client::submit) would take a record now.
    fn has_room(&self) -> bool;

    /// Takes as many records from the front of `batch` as there is room for. Each has exactly one outcome later,
    /// from [`poll`](Client::poll).
    fn submit(&mut self, batch: &mut Batch);

    /// Does what is due, and appends the outcomes that have come.
    fn poll(&mut self, outcomes: &mut Vec<Outcome>);

    /// How long the worker may sleep, without a call, before it polls again.
    fn patience(&self) -> Duration;

    /// Gives back what it holds, as failed with the payload, as far as it can by `deadline`; some may be delivered. It
    /// is not used after that, but to be dropped.
    fn give_back(&mut self, deadline: Instant) -> Vec<Outcome>;
}

/// What became of records that a client took.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) generation: Generation,
    /// How many have this outcome: one where it has a `meta`.
    pub(crate) records: usize,
    /// Their payloads' bytes.
    pub(crate) bytes: usize,
    /// Of a record that somebody may want to hear of. Records that nobody tracks can share an outcome without one.
    pub(crate) meta: Option<Meta>,
    pub(crate) result: Result<Ack, Failure>,
}

impl Outcome {
    /// What became of one record.
    pub(crate) fn of_one(generation: Generation, bytes: usize, meta: Meta, result: Result<Ack, Failure>) -> Outcome {
        Outcome { generation, records: 1, bytes, meta: Some(meta), result }
    }
}

/// Where a delivered record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) partition: i32,
    /// None where the broker does not say.
    pub(crate) offset: Option<i64>,
}

/// Why a record was not delivered.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: DeliveryErrorKind,
    /// Sent, without an answer.
    pub(crate) possibly_delivered: bool,
    /// In words, for [`Status`](crate::Status) too.
    pub(crate) cause: Arc<str>,
    /// Given back where the record is tracked, or where all are `wanted`.
    pub(crate) payload: Vec<u8>,
    /// Whether the payload of each record that fails so is to be given back.
    pub(crate) wanted: bool,
}

impl Failure {
    fn rejected(cause: impl Into<Arc<str>>) -> Failure {
        let kind = DeliveryErrorKind::Rejected;
        Failure { kind, possibly_delivered: false, cause: cause.into(), payload: Vec::new(), wanted: false }
    }

    /// What it is for a record that a client gives back: who gives up the client says why.
    fn given_back(payload: Vec<u8>) -> Failure {
        Failure { possibly_delivered: true, payload, ..Failure::rejected("given back") }
    }
}

/// Calls the worker when a client's own thread has something to say.
pub(crate) type Call = Arc<dyn Fn() + Send + Sync>;

/// Makes a client: at the start, and again after one has failed for good.
pub(crate) type Factory = Box<dyn Fn() -> Result<Box<dyn Client>, LoggerError> + Send>;

/// What there is to choose among.
pub(crate) struct Choice {
    pub(crate) transport: Transport,
    /// The client's name and version.
    pub(crate) client: String,
    pub(crate) create: Create,
}

/// Makes a client for a configuration.
pub(crate) type Create = Box<dyn Fn(&Config, &Arc<Health>, &Call) -> Result<Box<dyn Client>, LoggerError> + Send>;

impl Choice {
    pub(crate) fn factory(self, config: Config, health: Arc<Health>, call: Call) -> Factory {
        Box::new(move || (self.create)(&config, &health, &call))
    }
}

/// The transport to use, or what is missing.
pub(crate) fn choose(config: &Config) -> Result<Choice, LoggerDependencyError> {
    let choice = match config.transport {
        Transport::Async => choose_async().ok_or(Missing::Async),
        Transport::Sync => choose_sync(config).ok_or(Missing::Sync),
        Transport::Auto => choose_async().or_else(|| choose_sync(config)).ok_or(Missing::AnyTransport),
    };
    let choice = choice.map_err(LoggerDependencyError::new)?;
    match missing(config, choice.transport) {
        None => Ok(choice),
        Some(missing) => Err(LoggerDependencyError::new(missing)),
    }
}

/// What an option needs of a transport and this build has not.
fn missing(config: &Config, transport: Transport) -> Option<Missing> {
    // The `kafka` crate has neither in any build: it refuses them itself.
    let never = transport == Transport::Sync && config.sync_producer == SyncProducer::Kafka;
    if !cfg!(feature = "tls") && !never {
        if config.delivery.tls.is_some() {
            return Some(Missing::Tls(Needs::Tls, transport));
        }
        // librdkafka has PLAIN of its own.
        let mechanism = config.delivery.sasl.as_ref().map(|sasl| sasl.mechanism.name());
        if let Some(name) = mechanism.filter(|name| transport == Transport::Async && *name != "PLAIN") {
            return Some(Missing::Tls(Needs::Mechanism(name), transport));
        }
    }
    if !cfg!(feature = "zstd") && !never && config.delivery.compression == Some(Compression::Zstd) {
        return Some(Missing::Zstd(transport));
    }
    if !spool::COMPILED && config.spool.is_some() {
        return Some(Missing::Spool(transport));
    }
    None
}

#[cfg(feature = "async")]
fn choose_async() -> Option<Choice> {
    Some(Choice { transport: Transport::Async, client: async_rdkafka::name(), create: Box::new(async_rdkafka::create) })
}

#[cfg(not(feature = "async"))]
fn choose_async() -> Option<Choice> {
    None
}

#[cfg(feature = "sync")]
fn choose_sync(config: &Config) -> Option<Choice> {
    Some(Choice { transport: Transport::Sync, client: sync::name(config), create: Box::new(sync::create) })
}

#[cfg(not(feature = "sync"))]
fn choose_sync(_: &Config) -> Option<Choice> {
    None
}

/// What is said of a record past its delivery timeout; `heard` is the last thing that the client said.
#[cfg(any(feature = "async", feature = "sync"))]
fn timed_out(topic: &str, timeout: Duration, heard: Option<String>) -> Failure {
    let heard = heard.unwrap_or_else(|| "no broker took it".into());
    let timeout = timeout.as_millis();
    let cause = format!("topic {topic}: {timeout} ms passed without an acknowledgement; the last thing heard: {heard}");
    let kind = DeliveryErrorKind::TimedOut;
    Failure { kind, possibly_delivered: false, cause: cause.into(), payload: Vec::new(), wanted: false }
}

/// Nobody answered within `waited`; `last_error` is the last thing that the client said, if it said anything.
#[cfg(any(feature = "async", feature = "sync"))]
fn unreachable(servers: &str, waited: Duration, last_error: Option<&str>) -> StartupError {
    let last_error = last_error.unwrap_or("no answer");
    StartupError::new(
        StartupErrorKind::Unreachable,
        format!("no broker of {servers} could be used within {} ms: {last_error}", waited.as_millis()),
    )
}
