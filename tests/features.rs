//! What each set of features gives: run it with none, `async`, `sync` and both.

use std::time::Duration;

use std::sync::mpsc;

use kafka_log::{
    Compression, Config, LoggerDependencyError, LoggerError, OauthToken, Sasl, Spool, Startup, StartupErrorKind, State,
    Status, Tls, Transport,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

const ASYNC: bool = cfg!(feature = "async");
const SYNC: bool = cfg!(feature = "sync");
const TLS: bool = cfg!(feature = "tls");
const ZSTD: bool = cfg!(feature = "zstd");
const SPOOL: bool = cfg!(feature = "spool");

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
        Ok(status) => assert!(SYNC && status.transport == Transport::Sync && status.client.starts_with("wire ")),
        Err(error) => {
            let text = error.to_string();
            assert!(!ASYNC && !SYNC && text.contains("`async`") && text.contains("`sync`"), "{text}");
            assert!(text.contains("default-features = false, features = [\"sync\"]"), "{text}");
        }
    }
}

/// What an option needs and this build has not, by the feature that brings it.
fn missing(config: Config) -> Option<(&'static str, String)> {
    match config.build() {
        Err(LoggerError::Dependency(error)) => Some((error.feature(), error.to_string())),
        // The client in use may refuse it for itself.
        Ok(_) | Err(LoggerError::Config(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_an_option_needs_is_there_with_its_feature_and_named_without() {
    const ASYNC_LINE: &str = r#"kafka_log = { version = "0.1", features = ["async", "FEATURE"] }"#;
    const SYNC_LINE: &str =
        r#"kafka_log = { version = "0.1", default-features = false, features = ["sync", "FEATURE"] }"#;
    let ca = || Tls::default().ca_pem("hunter2");
    let spool = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("spool-{}", std::process::id()));
    for (transport, compiled, line) in [
        (Transport::Async, ASYNC, ASYNC_LINE),
        (Transport::Sync, SYNC, SYNC_LINE),
        (Transport::Auto, ASYNC, ASYNC_LINE),
    ] {
        if !compiled {
            continue;
        }
        let config = || Config::new(NOBODY, "t").transport(transport);
        let scram = || Sasl::scram_sha256("u", "hunter2");
        let oauth = || Sasl::oauthbearer(|| Err("hunter2".into())).allow_unencrypted(true);
        let of_openssl = transport != Transport::Sync;
        if of_openssl {
            let plain = config().sasl(Sasl::plain("u", "p").allow_unencrypted(true));
            plain.build().expect("librdkafka has PLAIN of its own");
        }
        for (config, feature, there, option) in [
            (config().tls(ca()), "tls", TLS, "`tls`"),
            (config().sasl(scram()), "tls", TLS || !of_openssl, "SCRAM-SHA-256"),
            (config().sasl(oauth()), "tls", TLS || !of_openssl, "OAUTHBEARER"),
            (config().compression(Compression::Zstd), "zstd", ZSTD, "`compression`"),
            (config().spool(Spool::new(&spool)), "spool", SPOOL, "`spool`"),
        ] {
            match missing(config) {
                None => assert!(there, "{option} of {transport:?} is taken without {feature}"),
                Some((named, text)) => {
                    assert!(!there && named == feature, "{transport:?}: {text}");
                    let line = line.replace("FEATURE", feature);
                    assert!(text.contains(option) && text.contains(&line), "{text}");
                    assert!(!text.contains("hunter2"), "{text}");
                }
            }
        }
    }
}

#[test]
fn a_token_that_cannot_be_had_fails_the_check_and_one_that_takes_long_stalls_nothing() {
    if !ASYNC || !TLS {
        return;
    }
    const LONG: Duration = Duration::from_secs(30);
    let config = |sasl: Sasl| Config::new(NOBODY, "t").transport(Transport::Async).sasl(sasl.allow_unencrypted(true));
    let failing = config(Sasl::oauthbearer(|| Err("the provider is away".into())));
    let result = failing.startup(Startup::Check(LONG)).build();
    let Err(LoggerError::Startup(error)) = result else { panic!("{result:?}") };
    assert_eq!(error.kind(), StartupErrorKind::Authentication);
    assert!(error.to_string().contains("the provider is away"), "{error}");

    let (called, calls) = mpsc::channel();
    let (answer, answers) = mpsc::channel::<()>();
    let (called, answers) = (std::sync::Mutex::new(called), std::sync::Mutex::new(answers));
    let slow = Sasl::oauthbearer(move || {
        called.lock().unwrap().send(()).unwrap();
        let _ = answers.lock().unwrap().recv_timeout(LONG);
        Ok(OauthToken::new("a token", Duration::from_secs(60)))
    });
    let logger = config(slow).delivery_timeout(Duration::from_secs(2)).build().unwrap();
    calls.recv_timeout(LONG).expect("it is called without a record");
    // Its record fails in time, with nobody to deliver it.
    let lost = futures_executor::block_on(logger.ainfo("lost", kafka_log::fields! {}));
    assert!(lost.is_err());
    answer.send(()).unwrap();
    // What has a blank is no token.
    let deadline = std::time::Instant::now() + LONG;
    while !logger.status().last_error.is_some_and(|error| error.contains("visible ASCII")) {
        assert!(std::time::Instant::now() < deadline, "{:?}", logger.status());
        std::thread::yield_now();
    }
    assert_ne!(logger.status().state, State::Up);
}

#[test]
fn zstd_goes_through_librdkafka() {
    if !ASYNC || !ZSTD {
        return;
    }
    let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let config = Config::new(cluster.bootstrap_servers(), "t").transport(Transport::Async);
    let logger = config.compression(Compression::Zstd).build().unwrap();
    for _ in 0..100 {
        logger.info("delivered, one like the other", kafka_log::fields! {});
    }
    logger.flush_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(logger.stats().delivered, 100);
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

/// What SECURITY.md promises is shown by tests: by those that it names.
#[test]
fn the_tests_that_security_md_names_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| {
        std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("SECURITY.md names {file}: {error}"))
    };
    let text = read("SECURITY.md");
    let mut promises = 0;
    for line in text.lines().filter(|line| line.contains(".rs`: `")) {
        promises += 1;
        let (_, shown) = line.trim_end_matches(" |").rsplit_once(" | ").expect("a line of a table");
        for of_a_file in shown.split("; ") {
            let (file, tests) = of_a_file.split_once(": ").expect("a file, and tests in it");
            let source = read(file.trim_matches('`'));
            for test in tests.split(", ").map(|test| test.trim_matches('`')) {
                assert!(source.contains(&format!("fn {test}(")), "SECURITY.md names {test}, which {file} has not");
            }
        }
    }
    assert!(promises >= 10, "SECURITY.md has {promises} promises with tests");
}

struct Nothing;

impl log::Log for Nothing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        false
    }

    fn log(&self, _: &log::Record<'_>) {}

    fn flush(&self) {}
}
