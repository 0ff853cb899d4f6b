use std::time::Duration;

use super::super::file::tests::in_both;
use super::super::{Compression, Fallback, Fsync, Overflow, Sasl, Spool, SpoolMode, SyncProducer, Tls, Transport};
use super::*;

fn read(variables: &[(&str, &str)]) -> Result<Config, LoggerConfigError> {
    from_variables(variables.iter().map(|(name, value)| (name.into(), value.into())))
}

/// With servers, which must be there, and one more.
fn with(name: &str, value: &str) -> Result<Config, LoggerConfigError> {
    read(&[("KAFKA_LOG_BOOTSTRAP_SERVERS", "a:1"), (name, value)])
}

#[test]
fn every_key_has_a_variable() {
    let config = read(&[
        ("PATH", "/bin"),
        ("KAFKA_LOG_BOOTSTRAP_SERVERS", "a:1, b:2"),
        ("KAFKA_LOG_TYPE", "kafka"),
        ("KAFKA_LOG_TOPIC", "t"),
        ("KAFKA_LOG_ASYNC", "False"),
        ("KAFKA_LOG_LOGGER_NAME", "5"),
        ("KAFKA_LOG_LEVEL", "WARNING"),
        ("KAFKA_LOG_USE_JSON", "0"),
        ("KAFKA_LOG_CLIENT_ID", "c"),
        ("KAFKA_LOG_ACKS", "1"),
        ("KAFKA_LOG_IDEMPOTENCE", "false"),
        ("KAFKA_LOG_COMPRESSION", "snappy"),
        ("KAFKA_LOG_LINGER_MS", "6"),
        ("KAFKA_LOG_BATCH_BYTES", "7"),
        ("KAFKA_LOG_DELIVERY_TIMEOUT_MS", "8"),
        ("KAFKA_LOG_CONNECT_TIMEOUT_MS", "9"),
        ("KAFKA_LOG_REQUEST_TIMEOUT_MS", "10"),
        ("KAFKA_LOG_RETRY_BACKOFF_MS", "11, 12"),
        ("KAFKA_LOG_QUEUE_RECORDS", "13"),
        ("KAFKA_LOG_QUEUE_BYTES", "14"),
        ("KAFKA_LOG_OVERFLOW", "block_for_ms=100"),
        ("KAFKA_LOG_MAX_RECORD_BYTES", "16"),
        ("KAFKA_LOG_OVERSIZE", "Drop"),
        ("KAFKA_LOG_FALLBACK", "file=/var/Lost.jsonl"),
        ("KAFKA_LOG_STARTUP", "check_ms=15"),
        ("KAFKA_LOG_SYNC_PRODUCER", "Wire"),
        ("KAFKA_LOG_TLS", "true"),
        ("KAFKA_LOG_TLS_CA_FILE", "/ca, all.pem"),
        ("KAFKA_LOG_TLS_CA_PEM", "PEM"),
        ("KAFKA_LOG_TLS_CLIENT_CERTIFICATE", "/c.pem, /c.key"),
        ("KAFKA_LOG_SASL_MECHANISM", "scram-sha-256"),
        ("KAFKA_LOG_SASL_USER", "u"),
        ("KAFKA_LOG_SASL_PASSWORD", " p,q "),
        ("KAFKA_LOG_SASL_ALLOW_UNENCRYPTED", "1"),
        ("KAFKA_LOG_SPOOL_DIR", "/a spool"),
        ("KAFKA_LOG_SPOOL_MAX_BYTES", "16"),
        ("KAFKA_LOG_SPOOL_FSYNC", "interval_ms=17"),
        ("KAFKA_LOG_SPOOL_MODE", "write_ahead"),
        ("KAFKA_LOG_CLIENT_OPTIONS", "broker.address.family=v4,a.d=b=c"),
    ])
    .unwrap();
    let expected = in_both(Config::new(["a:1", "b:2"], "t"), Compression::Snappy)
        .logger_name("5")
        .level(log::LevelFilter::Warn)
        .overflow(Overflow::BlockFor(Duration::from_millis(100)))
        .sync_producer(SyncProducer::Wire)
        .tls(Tls::default().ca_file("/ca, all.pem").ca_pem("PEM").client_certificate("/c.pem", "/c.key"))
        .sasl(Sasl::scram_sha256("u", " p,q ").allow_unencrypted(true))
        .fallback(Fallback::File("/var/Lost.jsonl".into()))
        .spool(
            Spool::new("/a spool")
                .max_bytes(16)
                .fsync(Fsync::Interval(Duration::from_millis(17)))
                .mode(SpoolMode::WriteAhead),
        )
        .client_option("a.d", "b=c");
    assert_eq!(format!("{config:#?}"), format!("{expected:#?}"));
    assert_eq!(config.delivery.client_options.0, expected.delivery.client_options.0);
    assert_eq!(config.delivery.sasl.unwrap().mechanism.credentials().unwrap().password, " p,q ");
    assert_eq!(with("KAFKA_LOG_TRANSPORT", "ASYNC").unwrap().transport, Transport::Async);
}

#[test]
fn without_servers_there_is_no_configuration() {
    for variables in [&[][..], &[("KAFKA_LOG_TOPIC", "t")], &[("KAFKA_LOG_BOOTSTRAP_SERVERS", "")]] {
        let error = read(variables).unwrap_err();
        assert_eq!(error.option(), "KAFKA_LOG_BOOTSTRAP_SERVERS");
        assert!(error.to_string().contains("not set"), "{error}");
    }
}

#[test]
fn a_variable_that_is_wrong_or_unknown_is_named_and_its_value_is_not_shown() {
    for (name, value, words) in [
        ("KAFKA_LOG_LINGR_MS", "hunter2", "no option"),
        ("KAFKA_LOG_LINGER", "5", "no option"),
        ("KAFKA_LOG_topic", "t", "no option"),
        ("KAFKA_LOG_LINGER_MS", "hunter2", "whole number"),
        ("KAFKA_LOG_QUEUE_RECORDS", "-1", "whole number"),
        ("KAFKA_LOG_USE_JSON", "hunter2", "true or false"),
        ("KAFKA_LOG_RETRY_BACKOFF_MS", "100", "2 values"),
        ("KAFKA_LOG_RETRY_BACKOFF_MS", "100,hunter2", "whole number"),
        ("KAFKA_LOG_ACKS", "hunter2", "\"leader\""),
        ("KAFKA_LOG_OVERFLOW", "hunter2", "\"drop_newest\""),
        ("KAFKA_LOG_STARTUP", "check_ms=hunter2", "\"background\""),
        ("KAFKA_LOG_CLIENT_OPTIONS", "hunter2", "key=value"),
        ("KAFKA_LOG_CLIENT_OPTIONS", "{\"a\": hunter2}", "key=value"),
        ("KAFKA_LOG_TLS", "hunter2", "true, false"),
        ("KAFKA_LOG_TLS_CLIENT_CERTIFICATE", "hunter2", "2 values"),
        ("KAFKA_LOG_SASL_MECHANISM", "hunter2", "\"PLAIN\""),
        ("KAFKA_LOG_SASL_ALLOW_UNENCRYPTED", "hunter2", "true or false"),
        ("KAFKA_LOG_SASL", "hunter2", "no option"),
        ("KAFKA_LOG_SPOOL", "hunter2", "no option"),
        ("KAFKA_LOG_SPOOL_FSYNC", "hunter2", "\"every_batch\""),
        ("KAFKA_LOG_SPOOL_MAX_BYTES", "hunter2", "whole number"),
    ] {
        let error = with(name, value).unwrap_err();
        let text = error.to_string();
        assert!(error.option() == name && text.contains(&format!("`{name}`")) && text.contains(words), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn async_beside_transport_is_refused() {
    let error =
        read(&[("KAFKA_LOG_BOOTSTRAP_SERVERS", "a:1"), ("KAFKA_LOG_ASYNC", "true"), ("KAFKA_LOG_TRANSPORT", "async")])
            .unwrap_err();
    assert!(error.to_string().contains("`async` and `transport`"), "{error}");
}

#[test]
fn an_empty_variable_is_not_set_and_those_of_our_tests_are_no_options() {
    let config = with("KAFKA_LOG_LEVEL", "").unwrap();
    assert_eq!(config.level, log::LevelFilter::Info);
    for name in ["KAFKA_LOG_CHILD", "KAFKA_LOG_CHILD_TOPIC", "KAFKA_LOG_REQUIRE_BROKER"] {
        with(name, "1").unwrap();
    }
}

#[test]
fn a_password_comes_from_its_variable_or_from_the_file_that_one_names() {
    let sasl = |name: &str| {
        read(&[
            ("KAFKA_LOG_BOOTSTRAP_SERVERS", "a:1"),
            ("KAFKA_LOG_SASL_MECHANISM", "PLAIN"),
            ("KAFKA_LOG_SASL_USER", "u"),
            (name, "/run/secrets/kafka, all"),
        ])
    };
    let from_file = sasl("KAFKA_LOG_SASL_PASSWORD_FILE").unwrap().delivery.sasl.unwrap();
    assert_eq!(from_file.password_file.as_deref(), Some(std::path::Path::new("/run/secrets/kafka, all")));
    assert!(sasl("KAFKA_LOG_SASL_PASSWORD").unwrap().delivery.sasl.unwrap().password_file.is_none());
    let neither = sasl("KAFKA_LOG_SASL_ALLOW_UNENCRYPTED").unwrap_err();
    assert!(neither.to_string().contains("true or false"), "{neither}");
    let error = sasl("KAFKA_LOG_TOPIC").unwrap_err();
    assert!(error.option() == "KAFKA_LOG_SASL_*" && error.to_string().contains("a file that holds it"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_text_is_named() {
    use std::os::unix::ffi::OsStringExt as _;
    let bad = OsString::from_vec(vec![0xff]);
    let error = from_variables([("KAFKA_LOG_TOPIC".into(), bad.clone())]).unwrap_err();
    assert_eq!(error.to_string(), "environment variable `KAFKA_LOG_TOPIC`: is not UTF-8");
    assert!(from_variables([(bad.clone(), bad)]).unwrap_err().to_string().contains("not set"));
}

#[test]
fn tls_is_a_switch_or_what_its_variables_say() {
    let tls = |value| with("KAFKA_LOG_TLS", value).unwrap().delivery.tls;
    assert!(tls("True").is_some_and(|tls| tls.trusts_the_system()));
    assert!(tls("0").is_none());
    let ca = with("KAFKA_LOG_TLS_CA_FILE", "/ca.pem").unwrap().delivery.tls.unwrap();
    assert_eq!(ca.ca_file.as_deref(), Some(std::path::Path::new("/ca.pem")));
    for wrong in ["false", "hunter2"] {
        let error = read(&[
            ("KAFKA_LOG_BOOTSTRAP_SERVERS", "a:1"),
            ("KAFKA_LOG_TLS", wrong),
            ("KAFKA_LOG_TLS_CA_FILE", "/ca.pem"),
        ])
        .unwrap_err();
        assert_eq!(error.option(), "KAFKA_LOG_TLS");
        let text = error.to_string();
        assert!(text.contains("KAFKA_LOG_TLS_CA_FILE") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn what_is_missing_of_sasl_is_named_by_its_variables() {
    let error = with("KAFKA_LOG_SASL_PASSWORD", "hunter2").unwrap_err();
    assert_eq!(error.option(), "KAFKA_LOG_SASL_*");
    let text = error.to_string();
    assert!(text.contains("needs a mechanism, a user and a password") && !text.contains("hunter2"), "{text}");
}
