//! `Startup::Check`, and what the state says without it.

use std::time::{Duration, Instant};

use kafka_log::{LoggerError, Startup, StartupErrorKind, State, fields};

use crate::support::{topic, wait};
use crate::target::{LONG, Target};

pub(crate) fn check_passes(target: &Target) {
    let topic = target.create_topic("check", 1, &[]);
    let logger = target.config(&topic).startup(Startup::Check(LONG)).build().unwrap();
    let status = logger.status();
    assert_eq!((status.state, status.transport), (State::Up, target.client.transport()));
    assert!(target.client.is_called(&status.client), "{status:?}");
    logger.info("after the check", fields! {});
    logger.flush_timeout(LONG).unwrap();
    assert_eq!(logger.stats().delivered, 1);
    assert!(logger.status().last_ack.is_some());
}

pub(crate) fn check_names_the_topic(target: &Target) {
    const CHECK: Duration = Duration::from_secs(2);
    let missing = topic::unique("missing");
    let begun = Instant::now();
    let error = check_error(target, &missing, CHECK);
    assert!(begun.elapsed() < 10 * CHECK);
    assert!(error.contains(&missing) && error.contains("does not exist"), "{error}");
}

pub(crate) fn check_names_kip_896(target: &Target) {
    let topic = target.create_topic("kip-896", 1, &[]);
    let begun = Instant::now();
    let result = target.config(&topic).startup(Startup::Check(LONG)).build();
    let Err(LoggerError::Startup(error)) = result else { panic!("{result:?}") };
    // It is known at once: no use in trying for the whole time of the check.
    assert!(begun.elapsed() < LONG / 2);
    assert_eq!(error.kind(), StartupErrorKind::UnsupportedBroker);
    let text = error.to_string();
    assert!(text.contains("KIP-896") && text.contains(&target.bootstrap()) && text.contains("async"), "{text}");
}

pub(crate) fn background_names_kip_896(target: &Target) {
    let topic = target.create_topic("kip-896", 1, &[]);
    let logger = target.config(&topic).build().unwrap();
    logger.info("nobody takes this", fields! {});
    wait::until("the state to be Down", LONG, || logger.status().state == State::Down);
    let last_error = logger.status().last_error.unwrap();
    assert!(last_error.contains("KIP-896"), "{last_error}");
    let report = logger.shutdown(Duration::from_millis(200));
    assert_eq!((report.unsent, report.stats.dropped.shutdown, report.stats.delivered), (1, 1, 0));
}

fn check_error(target: &Target, topic: &str, check: Duration) -> String {
    let result = target.config(topic).startup(Startup::Check(check)).build();
    let Err(LoggerError::Startup(error)) = result else { panic!("{result:?}") };
    assert_eq!(error.kind(), StartupErrorKind::UnknownTopic, "{error}");
    error.to_string()
}
