//! `Startup::Check`: a typed error in bounded time, and nothing left behind.

use std::time::{Duration, Instant};

use kafka_log::{LoggerError, Startup, StartupErrorKind, Transport};
use log::LevelFilter;

use crate::broker::Broker;
use crate::child::{Child, SURELY, Scenario, config, servers, threads, threads_come_back_to, topic};
use crate::scenarios;
use crate::support::{ports, silent};

/// What the check is given, and what a busy machine may make of it.
const CHECK: Duration = Duration::from_millis(700);
const IN_TIME: Duration = Duration::from_secs(7);

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        a_check_with_a_broker_succeeds_and_the_first_record_arrives => |transport| {
            let guard = kafka_log::init(config(transport).startup(Startup::Check(SURELY))).unwrap();
            assert_eq!(guard.status().state, kafka_log::State::Up);
            log::info!("first");
        };
        a_check_names_a_topic_that_the_broker_does_not_know => |transport| {
            let text = fails(transport, StartupErrorKind::UnknownTopic);
            assert!(text.contains(&topic()), "{text}");
        };
        a_check_without_a_listener_fails_in_time => |transport| {
            let text = fails(transport, StartupErrorKind::Unreachable);
            assert!(text.contains(&servers()), "{text}");
        };
        a_check_of_a_silent_peer_fails_in_time => |transport| {
            let text = fails(transport, StartupErrorKind::Unreachable);
            assert!(text.contains(&servers()), "{text}");
        };
    }
}

/// The check fails as it should, in time, and init can be tried again; the error's text.
fn fails(transport: Transport, kind: StartupErrorKind) -> String {
    let before = threads();
    let begun = Instant::now();
    let error = match kafka_log::init(config(transport).startup(Startup::Check(CHECK))) {
        Err(LoggerError::Startup(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(begun.elapsed() < IN_TIME, "{:?}", begun.elapsed());
    assert_eq!(error.kind(), kind, "{error}");
    assert_eq!(log::max_level(), LevelFilter::Off);
    threads_come_back_to(before);

    kafka_log::init(config(transport)).unwrap();
    log::info!("taken");
    assert_eq!(kafka_log::shutdown(Duration::ZERO).stats.submitted, 1);
    error.to_string()
}

fn a_check_with_a_broker_succeeds_and_the_first_record_arrives(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    assert_eq!(broker.messages(), ["first"]);
}

fn a_check_names_a_topic_that_the_broker_does_not_know(child: Child) {
    let broker = Broker::start();
    broker.deny_topic();
    broker.serves(child).succeeds();
}

fn a_check_without_a_listener_fails_in_time(child: Child) {
    child.on(&format!("127.0.0.1:{}", ports::free().unwrap()), "logs").succeeds();
}

fn a_check_of_a_silent_peer_fails_in_time(child: Child) {
    let peer = silent::silent_peer();
    child.on(&peer.address(), "logs").succeeds();
    assert!(peer.connections() > 0, "nobody tried to connect");
}
