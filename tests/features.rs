//! What each set of features gives: run it with none, `async`, `sync` and both.

use std::time::Duration;

use kafka_log::{Config, LoggerDependencyError, LoggerError, Status, Transport};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

const ASYNC: bool = cfg!(feature = "async");
const SYNC: bool = cfg!(feature = "sync");

/// A broker that nobody listens at: a logger needs none.
const NOBODY: &str = "127.0.0.1:1";

fn status(transport: Transport) -> Result<Status, LoggerDependencyError> {
    match Config::new(NOBODY, "t").transport(transport).build() {
        Ok(logger) => Ok(logger.status()),
        Err(LoggerError::Dependency(error)) => Err(error),
        Err(error) => panic!("{transport:?}: {error}"),
    }
}

#[test]
fn each_transport_is_there_with_its_feature_and_named_without() {
    for (transport, compiled, feature, line) in [
        (Transport::Async, ASYNC, "async", r#"kafka_log = { version = "0.1", features = ["async"] }"#),
        (
            Transport::Sync,
            SYNC,
            "sync",
            r#"kafka_log = { version = "0.1", default-features = false, features = ["sync"] }"#,
        ),
    ] {
        match status(transport) {
            Ok(status) => assert!(compiled && status.transport == transport, "{status:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(!compiled && error.feature() == feature, "{text}");
                assert!(text.contains(&format!("`{feature}`")) && text.contains(line), "{text}");
            }
        }
    }
}

#[test]
fn auto_is_async_where_compiled_else_sync_and_neither_is_an_error_that_names_both() {
    match status(Transport::Auto) {
        Ok(status) if ASYNC => {
            assert!(status.transport == Transport::Async && status.client.starts_with("librdkafka "))
        }
        Ok(status) => assert!(SYNC && status.transport == Transport::Sync && status.client.starts_with("kafka ")),
        Err(error) => {
            let text = error.to_string();
            assert!(!ASYNC && !SYNC && text.contains("`async`") && text.contains("`sync`"), "{text}");
            assert!(text.contains("default-features = false, features = [\"sync\"]"), "{text}");
        }
    }
}

#[test]
fn init_says_the_same_as_build_and_leaves_no_logger() {
    let missing = if ASYNC { Transport::Sync } else { Transport::Async };
    if ASYNC && SYNC {
        return;
    }
    let error = kafka_log::init(Config::new(NOBODY, "t").transport(missing)).unwrap_err();
    assert!(matches!(error, LoggerError::Dependency(_)), "{error}");
    assert_eq!(log::max_level(), log::LevelFilter::Off);
    assert!(log::set_boxed_logger(Box::new(Nothing)).is_ok(), "another logger can still be installed");
}

#[test]
fn the_logger_that_async_gives_delivers() {
    if !ASYNC {
        return;
    }
    let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let logger = Config::new(cluster.bootstrap_servers(), "t").build().unwrap();
    logger.info("delivered", kafka_log::fields! {});
    logger.flush_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(logger.stats().delivered, 1);
}

struct Nothing;

impl log::Log for Nothing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        false
    }

    fn log(&self, _: &log::Record<'_>) {}

    fn flush(&self) {}
}
