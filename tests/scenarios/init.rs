//! What `init` does to the process, and what a failed one leaves: nothing.

use std::process::Command;
use std::time::Duration;

use kafka_log::{Config, LoggerError, ShutdownReport, Stats, Transport};
use log::{LevelFilter, Log, Metadata, Record};

use crate::broker::Broker;
use crate::child::{Child, SURELY, Scenario, config, threads, threads_come_back_to};
use crate::scenarios;
use crate::support::ports;

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        a_program_run_by_the_application_leaves_both_unaffected => run_a_program;
        before_init_flush_is_ok_and_all_counts_are_zero => before_init;
        a_second_init_is_refused_and_changes_nothing => init_twice;
        beside_another_logger_init_is_refused_and_changes_nothing => init_beside_another;
        a_config_error_names_its_option_and_init_can_be_retried => init_with_mistakes;
        init_sets_the_global_level_and_build_does_not => levels;
    }
}

fn before_init_flush_is_ok_and_all_counts_are_zero(child: Child) {
    child.succeeds();
}

fn before_init(_: Transport) {
    kafka_log::flush(Duration::ZERO).unwrap();
    assert_eq!(kafka_log::stats(), Stats::default());
    assert_eq!(kafka_log::shutdown(Duration::from_secs(60)), ShutdownReport::default());
    // A shutdown of nothing does not count as one.
    kafka_log::init(Config::new(nobody(), "logs")).unwrap();
    log::info!("taken");
    assert_eq!(kafka_log::stats().pending, 1);
    kafka_log::shutdown(Duration::ZERO);
}

fn a_second_init_is_refused_and_changes_nothing(child: Child) {
    child.succeeds();
}

fn init_twice(transport: Transport) {
    let config = Config::new(nobody(), "logs").transport(transport);
    let guard = kafka_log::init(config.clone().level(LevelFilter::Debug)).unwrap();
    let before = settled_threads();

    let second = kafka_log::init(config.level(LevelFilter::Trace));
    assert!(matches!(second, Err(LoggerError::AlreadyInitialized)), "{second:?}");

    assert_eq!(log::max_level(), LevelFilter::Debug);
    threads_come_back_to(before);
    // The first pipeline goes on, at its own level.
    log::debug!("taken");
    log::logger().log(&Record::builder().level(log::Level::Trace).build());
    assert_eq!((guard.stats().submitted, guard.stats().pending), (1, 1));
    guard.shutdown(Duration::ZERO);
}

fn beside_another_logger_init_is_refused_and_changes_nothing(child: Child) {
    child.succeeds();
}

struct Deaf;

impl Log for Deaf {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn log(&self, _: &Record<'_>) {}

    fn flush(&self) {}
}

fn init_beside_another(transport: Transport) {
    log::set_logger(&Deaf).unwrap();
    log::set_max_level(LevelFilter::Warn);
    let before = threads();

    // Each attempt builds a pipeline and has to take it down again.
    for _ in 0..3 {
        let refused = kafka_log::init(Config::new(nobody(), "logs").transport(transport).level(LevelFilter::Trace));
        assert!(matches!(refused, Err(LoggerError::AlreadyInitialized)), "{refused:?}");
        assert_eq!(log::max_level(), LevelFilter::Warn);
    }

    threads_come_back_to(before);
    assert_eq!(kafka_log::stats(), Stats::default());
}

fn a_config_error_names_its_option_and_init_can_be_retried(child: Child) {
    child.succeeds();
}

fn init_with_mistakes(transport: Transport) {
    let before = threads();
    let long = "t".repeat(250);
    let mistakes = [
        (Config::new("", "logs"), "bootstrap_servers", "empty"),
        (Config::new(Vec::<String>::new(), "logs"), "bootstrap_servers", "empty"),
        (Config::new("a:9092,,b:9092", "logs"), "bootstrap_servers", "port"),
        (Config::new("localhost", "logs"), "bootstrap_servers", "port"),
        (Config::new("localhost:kafka", "logs"), "bootstrap_servers", "65535"),
        (Config::new("localhost:65536", "logs"), "bootstrap_servers", "65535"),
        (Config::new("localhost:0", "logs"), "bootstrap_servers", "65535"),
        (Config::new("localhost:9092", ""), "topic", "empty"),
        (Config::new("localhost:9092", "app logs"), "topic", "' '"),
        (Config::new("localhost:9092", "app/logs"), "topic", "'/'"),
        (Config::new("localhost:9092", ".."), "topic", ".."),
        (Config::new("localhost:9092", long), "topic", "249"),
        (Config::default().queue_records(0), "queue_records", "from 1"),
        (Config::default().queue_bytes(0), "queue_bytes", "from 1"),
    ];
    for (mistake, option, word) in mistakes {
        match kafka_log::init(mistake.transport(transport)) {
            Err(LoggerError::Config(error)) => {
                let text = error.to_string();
                assert!(error.option() == option && text.contains(option) && text.contains(word), "{text}");
            }
            other => panic!("{option}: {other:?}"),
        }
    }
    assert_eq!(threads(), before, "a mistake is found before anything is started");
    assert_eq!(log::max_level(), LevelFilter::Off);

    kafka_log::init(Config::new(nobody(), "logs").transport(transport)).unwrap();
    log::info!("taken");
    assert_eq!(kafka_log::shutdown(Duration::ZERO).stats.submitted, 1);
}

fn init_sets_the_global_level_and_build_does_not(child: Child) {
    child.succeeds();
}

fn levels(transport: Transport) {
    let config = Config::new(nobody(), "logs").transport(transport);
    let built = config.clone().level(LevelFilter::Trace).build().unwrap();
    assert_eq!(log::max_level(), LevelFilter::Off);
    built.shutdown(Duration::ZERO);

    let guard = kafka_log::init(config.level(LevelFilter::Debug)).unwrap();
    assert_eq!(log::max_level(), LevelFilter::Debug);
    log::trace!("below");
    log::debug!("taken");
    assert_eq!(guard.shutdown(Duration::ZERO).stats.submitted, 1);
}

fn a_program_run_by_the_application_leaves_both_unaffected(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    assert_eq!(broker.messages(), ["before", "after"]);
}

fn run_a_program(transport: Transport) {
    let guard = kafka_log::init(config(transport)).unwrap();
    log::info!("before");
    assert!(Command::new("true").status().unwrap().success());
    let failed = Command::new("sh").args(["-c", "exit 7"]).status().unwrap();
    assert_eq!(failed.code(), Some(7));
    log::info!("after");
    guard.flush(SURELY).unwrap();
}

/// An address where nobody listens.
fn nobody() -> String {
    format!("127.0.0.1:{}", ports::free().unwrap())
}

/// The number of threads once those that a client starts at its leisure are there.
fn settled_threads() -> usize {
    let mut last = threads();
    let mut same = 0;
    crate::support::wait::until("the client has its threads", SURELY, || {
        let now = threads();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same >= 20
    });
    last
}
