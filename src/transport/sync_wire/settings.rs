//! What the wire producer is told.

use std::time::Duration;

use super::address::Address;
use super::tls::Connector;
use crate::config::{Acks, Compression, Config, Sasl};
use crate::error::LoggerError;
use crate::route::Route;
use crate::transport::sync;
use crate::transport::tokens::Tokens;

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
    /// Whether the payload of each record that fails is wanted back.
    pub(super) wants_payloads: bool,
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
        sync::check(delivery)?;
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
            wants_payloads: config.fallback.is_on() || config.spool.is_some(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(config: &Config) -> Result<Settings, LoggerError> {
        config.validate().unwrap();
        Settings::new(config, &Route::new("t"))
    }

    #[test]
    fn what_it_cannot_honour_is_refused_by_name() {
        for (config, option) in [
            (Config::default().client_option("debug", "hunter2"), "client_option"),
            (Config::default().batch_bytes(sync::LARGEST_PAYLOAD + 1), "batch_bytes"),
        ] {
            let Err(LoggerError::Config(error)) = settings(&config) else { panic!("{option} is taken") };
            assert!(error.option() == option && !error.to_string().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn defaults_bend_and_what_was_asked_for_stays() {
        let idempotence = |config: Config| settings(&config).unwrap().idempotence;
        assert_eq!(idempotence(Config::default()), Idempotence::Preferred);
        assert_eq!(idempotence(Config::default().acks(Acks::Leader)), Idempotence::Off);
        assert_eq!(idempotence(Config::default().idempotence(true)), Idempotence::Demanded);
        assert_eq!(settings(&Config::default()).unwrap().compression, Compression::Lz4);
    }
}
