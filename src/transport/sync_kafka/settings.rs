//! What the `kafka` crate is told, and what it cannot be told.

use kafka::client::{Compression as KafkaCompression, RequiredAcks};

use super::caller::Target;
use crate::config::{Acks, Compression, Config};
use crate::error::LoggerConfigError;
use crate::route::Route;
use crate::transport::sync;

pub(super) fn target(config: &Config) -> Result<Target, LoggerConfigError> {
    let delivery = &config.delivery;
    let refuse = |option, problem: &str| Err(LoggerConfigError::new(option, problem));
    let not_here = "is not in the `kafka` crate: use SyncProducer::Wire, or `async`";
    if delivery.tls.is_some() {
        return refuse("tls", not_here);
    }
    if delivery.sasl.is_some() {
        return refuse("sasl", not_here);
    }
    if delivery.idempotence == Some(true) {
        return refuse(
            "idempotence",
            "is not in the `kafka` crate: set it to false, or use SyncProducer::Wire or `async`",
        );
    }
    sync::check(delivery)?;
    let compression = match delivery.compression {
        None | Some(Compression::None) => KafkaCompression::NONE,
        Some(Compression::Gzip) => KafkaCompression::GZIP,
        Some(Compression::Snappy) => KafkaCompression::SNAPPY,
        Some(compression @ (Compression::Lz4 | Compression::Zstd)) => {
            let problem = format!(
                "{compression:?} is not in the `kafka` crate: use None, Gzip or Snappy, SyncProducer::Wire or `async`"
            );
            return refuse("compression", &problem);
        }
    };
    Ok(Target {
        servers: config.bootstrap_servers.clone(),
        route: Route::new(&config.topic),
        client_id: delivery.client_id.clone(),
        acks: match delivery.acks {
            Acks::None => RequiredAcks::None,
            Acks::Leader => RequiredAcks::One,
            Acks::All => RequiredAcks::All,
        },
        compression,
        connect_timeout: delivery.connect_timeout,
        request_timeout: delivery.request_timeout,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sasl, Tls};
    use crate::transport::sync::LARGEST_PAYLOAD;

    #[test]
    fn what_it_cannot_honour_is_refused_and_defaults_bend() {
        for (config, option) in [
            (Config::default().idempotence(true), "idempotence"),
            (Config::default().compression(Compression::Lz4), "compression"),
            (Config::default().compression(Compression::Zstd), "compression"),
            (Config::default().batch_bytes(LARGEST_PAYLOAD + 1), "batch_bytes"),
            (Config::default().client_option("debug", "hunter2"), "client_option"),
            (Config::default().tls(Tls::default().ca_pem("hunter2")), "tls"),
            (Config::default().sasl(Sasl::scram_sha256("u", "hunter2")), "sasl"),
        ] {
            config.validate().unwrap();
            let Err(error) = target(&config) else { panic!("{option} is taken") };
            assert!(error.option() == option && !error.to_string().contains("hunter2"), "{error}");
        }
        let target = target(&Config::default()).unwrap();
        assert!(matches!((target.acks, target.compression), (RequiredAcks::All, KafkaCompression::NONE)));
    }

    #[test]
    fn its_options_reach_it() {
        let config = Config::default().client_id("c").acks(Acks::Leader).compression(Compression::Snappy);
        let target = target(&config.idempotence(false)).unwrap();
        assert!(matches!((target.acks, target.compression), (RequiredAcks::One, KafkaCompression::SNAPPY)));
        assert_eq!(target.client_id, "c");
    }
}
