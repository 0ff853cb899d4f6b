//! What the wire producer is told.

use std::time::Duration;

use super::address::Address;
use super::tls::Connector;
use crate::config::{Acks, Compression, Config, Sasl};
use crate::error::{LoggerConfigError, LoggerError};
use crate::route::Route;
use crate::transport::tokens::Tokens;

/// A broker hangs up on a request over its `socket.request.max.bytes`, 100 MiB by default, with no word on why: a
/// payload must stay under that.
pub(super) const LARGEST_PAYLOAD: usize = 64 * 1024 * 1024;

pub(super) struct Settings {
    pub(super) servers: Vec<Address>,
    pub(super) route: Route,
    pub(super) client_id: String,
    /// As the protocol has it: 0, 1, or -1 for all.
    pub(super) acks: i16,
    pub(super) idempotence: Idempotence,
    pub(super) compression: Compression,
    pub(super) batch_bytes: usize,
    pub(super) linger: Duration,
    pub(super) delivery_timeout: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) retry_backoff: (Duration, Duration),
    pub(super) connector: Connector,
    pub(super) sasl: Option<Sasl>,
    /// Where it logs in by tokens.
    pub(super) tokens: Option<Tokens>,
}

/// Whether batches are numbered, so that none is in the topic twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idempotence {
    Off,
    /// By default; it gives way where the broker does not permit it.
    Preferred,
    /// It was asked for.
    Demanded,
}

impl Settings {
    pub(super) fn new(config: &Config, route: &Route) -> Result<Settings, LoggerError> {
        let delivery = &config.delivery;
        let refuse = |option, problem: &str| Err(LoggerConfigError::new(option, problem).into());
        if !delivery.client_options.0.is_empty() {
            return refuse("client_option", "sets properties of librdkafka, and `sync` is another client: use `async`");
        }
        if delivery.batch_bytes > LARGEST_PAYLOAD {
            return refuse("batch_bytes", &format!("must be from 1 to {LARGEST_PAYLOAD} with `sync`"));
        }
        let compression = delivery.compression.unwrap_or(Compression::Lz4);
        let idempotence = match delivery.idempotence {
            Some(true) => Idempotence::Demanded,
            None if delivery.acks == Acks::All => Idempotence::Preferred,
            _ => Idempotence::Off,
        };
        Ok(Settings {
            servers: config.bootstrap_servers.iter().filter_map(|server| Address::parse(server)).collect(),
            route: route.clone(),
            client_id: delivery.client_id.clone(),
            acks: match delivery.acks {
                Acks::None => 0,
                Acks::Leader => 1,
                Acks::All => -1,
            },
            idempotence,
            compression,
            batch_bytes: delivery.batch_bytes,
            linger: delivery.linger(),
            delivery_timeout: delivery.delivery_timeout,
            connect_timeout: delivery.connect_timeout,
            request_timeout: delivery.request_timeout,
            retry_backoff: delivery.retry_backoff,
            connector: Connector::new(delivery.tls.as_ref())?,
            tokens: None,
            sasl: delivery.sasl.clone(),
        })
    }

    /// A request without an answer for so long is given up: the broker has the request timeout for the acknowledgement,
    /// and the way there and back comes on top.
    pub(super) fn answer_timeout(&self) -> Duration {
        self.request_timeout + self.connect_timeout
    }
}
