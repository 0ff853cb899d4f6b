//! A logger that is not global: its own methods, and the end of its last handle.

use std::thread;
use std::time::{Duration, Instant};

use kafka_log::{KafkaLogger, Transport, fields};
use log::{Level, LevelFilter};

use crate::broker::Broker;
use crate::child::{Child, SURELY, Scenario, config, threads, threads_come_back_to};
use crate::scenarios;
use crate::support::ports;

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        the_direct_methods_deliver_their_level_and_typed_fields => methods;
        dropping_the_last_handle_delivers_all_and_ends_the_threads => drop_handles;
        dropping_the_last_handle_without_a_broker_is_bounded_and_ends_the_threads => drop_in_the_dark;
    }
}

fn methods(transport: Transport) {
    let logger = config(transport).logger_name("api").level(LevelFilter::Trace).build().unwrap();
    let user = String::from("u_19");
    logger.trace("t", fields! {});
    logger.debug("d", [("user_id", "u_19")]);
    logger.info(format_args!("{}", "i"), fields! { user_id = user, n = 3, ok = true, ratio = 0.5 });
    logger.warning("w", fields! { pause:? = Duration::from_secs(2), shown:% = 7 });
    logger.error("e", fields! { cause:err = std::fmt::Error, list:serde = [1, 2] });
    logger.critical("c", [("free_bytes", 0)]);
    logger.log_at(Level::Warn, "l", fields! { n = -1 });
    logger.flush_timeout(SURELY).unwrap();
    assert_eq!((logger.stats().submitted, logger.stats().delivered), (7, 7));

    // One level for filter and methods; the severe ones pass it.
    let severe = config(transport).level(LevelFilter::Error).build().unwrap();
    severe.info("filtered", fields! {});
    severe.log_at(Level::Warn, "filtered", fields! {});
    severe.critical("passes", fields! {});
    severe.flush_timeout(SURELY).unwrap();
    assert_eq!((severe.stats().submitted, severe.stats().delivered), (1, 1));
}

fn the_direct_methods_deliver_their_level_and_typed_fields(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let tails: Vec<_> = broker
        .texts()
        .into_iter()
        .map(|text| text.split_once(",\"level\":").map(|(_, tail)| tail.to_owned()).unwrap_or(text))
        .collect();
    assert_eq!(
        tails,
        [
            r#""trace","logger":"api","message":"t"}"#,
            r#""debug","logger":"api","message":"d","user_id":"u_19"}"#,
            r#""info","logger":"api","message":"i","user_id":"u_19","n":3,"ok":true,"ratio":0.5}"#,
            r#""warning","logger":"api","message":"w","pause":"2s","shown":"7"}"#,
            r#""error","logger":"api","message":"e","cause":"an error occurred when formatting an argument","list":[1,2]}"#,
            r#""critical","logger":"api","message":"c","free_bytes":0}"#,
            r#""warning","logger":"api","message":"l","n":-1}"#,
            r#""critical","logger":"kafka_log","message":"passes"}"#,
        ]
    );
}

const RECORDS: usize = 1_000;

fn drop_handles(transport: Transport) {
    let before = threads();
    let logger = config(transport).build().unwrap();
    let clone = logger.clone();
    log_records(&logger);
    drop(logger);
    // The pipeline lives as long as any handle, on whichever thread.
    thread::spawn(move || log_records(&clone)).join().unwrap();
    threads_come_back_to(before);
}

fn log_records(logger: &KafkaLogger) {
    (0..RECORDS).for_each(|n| logger.info("at work", [("n", n)]));
}

fn dropping_the_last_handle_delivers_all_and_ends_the_threads(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let numbers: Vec<_> = broker.records().iter().map(|record| record["n"].as_u64()).collect();
    assert_eq!(numbers, (0..2 * RECORDS).map(|n| Some((n % RECORDS) as u64)).collect::<Vec<_>>());
}

fn drop_in_the_dark(transport: Transport) {
    let before = threads();
    let logger = config(transport).build().unwrap();
    log_records(&logger);
    let begun = Instant::now();
    drop(logger);
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(15), "the drop took {took:?}");
    threads_come_back_to(before);
}

fn dropping_the_last_handle_without_a_broker_is_bounded_and_ends_the_threads(child: Child) {
    child.on(&format!("127.0.0.1:{}", ports::free().unwrap()), "logs").succeeds();
}
