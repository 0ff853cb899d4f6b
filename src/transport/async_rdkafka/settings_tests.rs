use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::config::{Sasl, Tls, Transport};
use crate::status::Health;

fn set(config: Config) -> ClientConfig {
    config.validate().unwrap();
    client_config(&config).unwrap()
}

/// What the whole client says of a configuration.
fn build(config: &Config) -> Result<(), LoggerConfigError> {
    let health = Arc::new(Health::new(Transport::Async, String::new()));
    super::super::AsyncClient::new(config, &health, &(Arc::new(|| {}) as _)).map(drop)
}

#[test]
fn its_queue_is_bounded_by_ours() {
    let client = set(Config::default().queue_records(12_345).queue_bytes(10 << 20));
    assert_eq!(client.get("queue.buffering.max.messages"), Some("12345"));
    assert_eq!(client.get("queue.buffering.max.kbytes"), Some("10241"));
}

#[test]
fn every_option_reaches_librdkafka_and_it_takes_the_bounds() {
    const MS: fn(u64) -> Duration = Duration::from_millis;
    let config = Config::default()
        .client_id("c")
        .compression(Compression::Gzip)
        .linger(MS(6))
        .batch_bytes(7)
        .delivery_timeout(MS(7))
        .connect_timeout(MS(1_000))
        .request_timeout(MS(900_000))
        .retry_backoff(MS(300_000), MS(300_000));
    let client = set(config.clone());
    for (key, value) in [
        ("client.id", "c"),
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("compression.type", "gzip"),
        ("queue.buffering.max.ms", "6"),
        ("batch.size", "7"),
        ("message.timeout.ms", "7"),
        ("socket.connection.setup.timeout.ms", "1000"),
        ("request.timeout.ms", "900000"),
        ("retry.backoff.ms", "300000"),
        ("retry.backoff.max.ms", "300000"),
    ] {
        assert_eq!(client.get(key), Some(value), "{key}");
    }
    build(&config).unwrap();
    let day = Config::default().delivery_timeout(MS(i32::MAX as u64)).connect_timeout(MS(i32::MAX as u64));
    build(&day.linger(MS(900_000))).unwrap();
    build(&Config::default().delivery_timeout(MS(1))).unwrap();
    for compression in [Compression::None, Compression::Snappy, Compression::Lz4] {
        build(&Config::default().compression(compression)).unwrap();
    }
}

#[test]
fn fewer_acknowledgements_switch_idempotence_off_and_keep_one_request_in_flight() {
    for config in [
        Config::default().acks(Acks::None),
        Config::default().acks(Acks::Leader),
        Config::default().idempotence(false),
        Config::default().client_option("request.required.acks", "1"),
        Config::default().client_option("enable.idempotence", "FALSE"),
    ] {
        let client = set(config.clone());
        assert_ne!(client.get("enable.idempotence"), Some("true"));
        assert_eq!(client.get("max.in.flight.requests.per.connection"), Some("1"));
        build(&config).unwrap();
    }
    let client = set(Config::default().acks(Acks::All).idempotence(true));
    assert_eq!(client.get("max.in.flight.requests.per.connection"), None);
}

#[test]
fn what_it_cannot_honour_is_refused_by_the_options_name() {
    for (config, option) in [
        (Config::new("a:1,[::1]:2", "t").tls(Tls::default()), "tls"),
        (Config::default().connect_timeout(Duration::from_millis(999)), "connect_timeout"),
        (Config::default().request_timeout(Duration::from_secs(901)), "request_timeout"),
    ] {
        config.validate().unwrap();
        assert_eq!(build(&config).unwrap_err().option(), option);
    }
}

#[test]
fn a_property_is_set_once_by_whatever_name() {
    let twice = |config: Config| {
        let error = client_config(&config).unwrap_err();
        assert_eq!(error.option(), "client_option");
        assert!(error.to_string().contains("twice"), "{error}");
        error.to_string()
    };
    let config = Config::default;
    let ms = Duration::from_millis(5);
    for (config, option) in [
        (config().linger(ms).client_option("linger.ms", "6"), "linger"),
        (config().linger(ms).client_option("queue.buffering.max.ms", "6"), "linger"),
        (config().acks(Acks::All).client_option("request.required.acks", "1"), "acks"),
        (config().compression(Compression::Gzip).client_option("compression.codec", "lz4"), "compression"),
        (config().idempotence(true).client_option("enable.idempotence", "false"), "idempotence"),
        (config().retry_backoff(ms, ms).client_option("reconnect.backoff.max.ms", "7"), "retry_backoff"),
    ] {
        assert!(twice(config).contains(&format!("`{option}`")));
    }
    for (first, second) in [("debug", "debug"), ("retries", "message.send.max.retries"), ("linger.ms", "linger.ms")] {
        assert!(twice(config().client_option(first, "1").client_option(second, "1")).contains(second));
    }
    // A default is not set by anybody.
    assert_eq!(set(config().client_option("linger.ms", "6")).get("queue.buffering.max.ms"), Some("6"));
    assert_eq!(set(config().client_option("socket.nagle.disable", "false")).get("socket.nagle.disable"), Some("false"));
}

#[test]
fn tls_and_sasl_are_librdkafkas_properties_and_verification_stays_on() {
    let ca = certificate_file();
    let tls = || Tls::default().ca_file(&*ca).ca_pem("PEM").client_certificate(&*ca, &*ca);
    let oauth = || Sasl::oauthbearer(|| Err("none".into()));
    for (config, protocol) in [
        (Config::default().tls(tls()), "ssl"),
        (Config::default().sasl(Sasl::scram_sha256("u", "hunter2")), "sasl_plaintext"),
        (Config::default().tls(tls()).sasl(Sasl::scram_sha256("u", "hunter2")), "sasl_ssl"),
    ] {
        let client = set(config.clone());
        assert_eq!(client.get("security.protocol"), Some(protocol));
        let path = ca.to_str();
        let (tls, sasl) = (config.delivery.tls.is_some(), config.delivery.sasl.is_some());
        for (key, value, there) in [
            ("ssl.ca.location", path, tls),
            ("ssl.ca.pem", Some("PEM"), tls),
            ("ssl.certificate.location", path, tls),
            ("ssl.key.location", path, tls),
            ("enable.ssl.certificate.verification", Some("true"), tls),
            ("ssl.endpoint.identification.algorithm", Some("https"), tls),
            ("sasl.mechanisms", Some("SCRAM-SHA-256"), sasl),
            ("sasl.username", Some("u"), sasl),
            ("sasl.password", Some("hunter2"), sasl),
        ] {
            assert_eq!(client.get(key), value.filter(|_| there), "{key} with {protocol}");
        }
    }
    for (sasl, name) in
        [(Sasl::plain("u", "p"), "PLAIN"), (Sasl::scram_sha512("u", "p"), "SCRAM-SHA-512"), (oauth(), "OAUTHBEARER")]
    {
        let client = set(Config::default().sasl(sasl.allow_unencrypted(true)));
        assert_eq!(client.get("sasl.mechanisms"), Some(name));
    }
    let system = set(Config::default().tls(Tls::default()));
    let told = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    assert_eq!(system.get("ssl.ca.location"), (!told && !cfg!(windows)).then_some("probe"));
    assert_eq!(set(Config::default()).get("security.protocol"), None);
}

#[test]
fn what_tls_and_sasl_decide_is_not_set_beside_them() {
    let ca = certificate_file();
    for key in [
        "security.protocol",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.key.location",
        "ssl.keystore.location",
        "enable.ssl.certificate.verification",
        "ssl.endpoint.identification.algorithm",
    ] {
        let config = Config::default().tls(Tls::default().ca_file(&*ca)).client_option(key, "hunter2");
        let error = client_config(&config).unwrap_err().to_string();
        assert!(error.contains("by the option `tls`") && error.contains(key) && !error.contains("hunter2"), "{error}");
    }
    for key in ["security.protocol", "sasl.mechanism", "sasl.username", "sasl.password", "sasl.oauthbearer.config"] {
        let config = Config::default().sasl(Sasl::scram_sha256("u", "p")).client_option(key, "hunter2");
        let error = client_config(&config).unwrap_err().to_string();
        assert!(error.contains("by the option `sasl`") && error.contains(key) && !error.contains("hunter2"), "{error}");
    }
    // Without our options they are librdkafka's alone, and what ours do not decide can be set beside them.
    set(Config::default().client_option("security.protocol", "ssl").client_option("ssl.ca.location", "x"));
    set(Config::default().tls(Tls::default().ca_file(&*ca)).client_option("ssl.cipher.suites", "x"));
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let ca = certificate_file();
    let missing = ca.with_file_name("missing.pem");
    let nothing = ca.with_file_name("nothing.pem");
    std::fs::write(&nothing, "hunter2").unwrap();
    for (tls, path, words) in [
        (Tls::default().ca_file(&missing), &missing, "cannot be read"),
        (Tls::default().ca_file(&nothing), &nothing, "no certificate in PEM"),
        (Tls::default().client_certificate(&missing, &*ca), &missing, "cannot be read"),
        (Tls::default().client_certificate(&*ca, &nothing), &nothing, "no private key in PEM"),
    ] {
        let error = client_config(&Config::default().tls(tls)).unwrap_err();
        let text = error.to_string();
        assert!(error.option() == "tls" && text.contains(path.to_str().unwrap()) && text.contains(words), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

/// A file with what looks like a certificate and a key, in a folder of its own that goes with it.
fn certificate_file() -> Folder {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("kafka_log-tls-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("all.pem");
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n").unwrap();
    Folder(path)
}

struct Folder(PathBuf);

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

#[test]
fn properties_that_would_break_the_logger_are_refused_with_what_to_do() {
    for key in [
        "bootstrap.servers",
        "metadata.broker.list",
        "delivery.timeout.ms",
        "message.timeout.ms",
        "queue.buffering.max.messages",
        "statistics.interval.ms",
        "log.queue",
        "transactional.id",
        "dr_msg_cb",
    ] {
        let error = client_config(&Config::default().client_option(key, "hunter2")).unwrap_err().to_string();
        assert!(error.contains(&format!("`{key}`")) && error.contains("cannot be set: "), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn no_refusal_of_librdkafkas_shows_a_value() {
    for (key, value) in [
        ("no.such.property", "hunter2"),
        ("compression.type", "hunter2"),
        ("max.in.flight", "hunter2"),
        ("sasl.mechanism", "hunter2"),
        ("security.protocol", "hunter2"),
        ("sasl.oauthbearer.config", "hunter2"),
        ("ssl.ca.location", "hunter2"),
        ("plugin.library.paths", "hunter2"),
        ("partitioner", "hunter2"),
        ("debug", "hunter2"),
        ("client.id", "hunter2\0"),
    ] {
        let config = Config::default().client_option(key, value);
        assert!(!format!("{config:?}").contains("hunter2"));
        let Err(error) = build(&config) else { continue };
        let text = format!("{error} {error:?}");
        let name = canonical(key);
        assert!((text.contains(key) || text.contains(name)) && !text.contains("hunter2"), "{text}");
    }
    for key in ["no.such.property", "compression.type"] {
        build(&Config::default().client_option(key, "hunter2")).expect_err("it takes no such thing");
    }
    // Its own words help, and these hold no value.
    let error = build(&Config::default().client_option("max.in.flight", "10")).unwrap_err().to_string();
    assert!(error.contains("max.in.flight") && error.contains("idempotence"), "{error}");
}
