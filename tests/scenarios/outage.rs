//! No broker, or one that never answers: calls stay fast, bounds hold, and every record is accounted for.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use kafka_log::{Guard, ShutdownReport, State, Stats, Transport};

use crate::broker::Broker;
use crate::child::{Child, SURELY, Scenario, config, memory, say, servers};
use crate::scenarios;
use crate::support::{ports, silent, wait};

const RECORDS: u64 = 10_000;

/// Ten times what it takes a debug build on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(1);
const CALLS: Duration = Duration::from_secs(2);

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        a_shutdown_by_many_threads_while_others_log_agrees_with_the_broker => |transport| {
            let report = shut_down_while_others_log(&kafka_log::init(config(transport)).unwrap(), SURELY);
            assert_eq!((report.unsent, report.timed_out), (0, false));
            say("delivered", report.stats.delivered);
        };
        without_a_listener_every_record_is_accounted_for => account_for_all;
        with_a_silent_peer_every_record_is_accounted_for => account_for_all;
        without_a_listener_the_status_names_the_address => name_the_address;
        with_a_silent_peer_the_status_names_the_address => name_the_address;
        a_queue_full_of_records_drops_the_rest_and_counts_them => fill_by_records;
        a_queue_full_of_bytes_drops_the_rest_and_counts_them => fill_by_bytes;
        a_million_records_that_nobody_takes_leave_memory_bounded => stay_small;
        a_shutdown_by_many_threads_while_others_log_tears_nothing => |transport| {
            let guard = kafka_log::init(config(transport)).unwrap();
            let report = shut_down_while_others_log(&guard, Duration::from_millis(500));
            assert_eq!((report.stats.delivered, report.stats.failed), (0, 0));
        };
    }
}

fn account_for_all(transport: Transport) {
    let begun = Instant::now();
    let guard = kafka_log::init(config(transport)).unwrap();
    assert!(begun.elapsed() < AT_ONCE, "init took {:?}", begun.elapsed());

    let begun = Instant::now();
    (0..RECORDS).for_each(|n| log::info!(n; "in the dark"));
    assert!(begun.elapsed() < CALLS, "{RECORDS} calls took {:?}", begun.elapsed());

    let begun = Instant::now();
    let error = kafka_log::flush(Duration::from_millis(500)).unwrap_err();
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_millis(500) && waited < Duration::from_secs(5), "flush took {waited:?}");
    assert_eq!(error.pending(), RECORDS);

    wait::until("the state is Down", SURELY, || guard.status().state == State::Down);

    let begun = Instant::now();
    let report = kafka_log::shutdown(Duration::from_secs(1));
    assert!(begun.elapsed() < Duration::from_secs(10), "shutdown took {:?}", begun.elapsed());
    assert_eq!((report.unsent, report.timed_out), (RECORDS, true));
    let stats = report.stats;
    assert_eq!((stats.submitted, stats.dropped.shutdown, stats.pending), (RECORDS, RECORDS, 0));
    adds_up(&stats);

    (0..5).for_each(|n| log::info!(n; "too late"));
    let stats = guard.stats();
    assert_eq!((stats.submitted, stats.dropped.closed, stats.pending), (RECORDS + 5, 5, 0));
    kafka_log::flush(Duration::ZERO).unwrap();
    assert_eq!(kafka_log::shutdown(SURELY).unsent, RECORDS, "a second shutdown tells the same story");
}

fn name_the_address(transport: Transport) {
    let guard = kafka_log::init(config(transport)).unwrap();
    wait::until("the state is Down", SURELY, || guard.status().state == State::Down);
    let words = guard.status().last_error.expect("what is Down has a reason");
    assert!(words.contains(&servers()), "the last error names no address: {words}");
}

fn fill_by_records(transport: Transport) {
    let guard = kafka_log::init(config(transport).queue_records(1_000)).unwrap();
    (0..RECORDS).for_each(|n| log::info!(n; "in the dark"));
    holds(&guard, 1_000);
}

fn fill_by_bytes(transport: Transport) {
    const MESSAGE: usize = 1_000;
    const BYTES: usize = 1_000_000;
    let guard = kafka_log::init(config(transport).queue_bytes(BYTES)).unwrap();
    let message = "x".repeat(MESSAGE);
    (0..RECORDS).for_each(|_| log::info!(target: "t", "{message}"));
    let around = r#"{"timestamp":1700000000.000000,"level":"info","logger":"t","message":""}"#.len();
    holds(&guard, (BYTES / (MESSAGE + around)) as u64);
}

fn stay_small(transport: Transport) {
    const MILLION: u64 = 1_000_000;
    const BYTES: usize = 16 << 20;
    /// Of a release build, as PERFORMANCE.md has it.
    const BESIDE: u64 = 8 << 20;
    /// The code of a debug build, whose pages count as they are first run, is several times as large.
    const OF_DEBUG: u64 = 8 << 20;
    let before = memory("VmRSS");
    let queue = config(transport).queue_bytes(BYTES).queue_records(MILLION as usize);
    let guard = kafka_log::init(queue).unwrap();
    (0..MILLION).for_each(|_| log::info!(target: "t", "small"));
    let around = r#"{"timestamp":1700000000.000000,"level":"info","logger":"t","message":"small"}"#.len();
    let waiting = (BYTES / around) as u64;
    let full = guard.stats();
    assert_eq!((full.submitted, full.pending, full.dropped.queue_full), (MILLION, waiting, MILLION - waiting));
    let report = guard.shutdown(Duration::from_millis(100));
    assert_eq!((report.unsent, report.stats.dropped.queue_full), (waiting, MILLION - waiting));
    adds_up(&report.stats);
    // After the end too: that may not copy what it gives up.
    let growth = memory("VmHWM") - before;
    say("growth", growth);
    let bound = BYTES as u64 + BESIDE + if cfg!(debug_assertions) { OF_DEBUG } else { 0 };
    assert!(growth <= bound, "{growth} bytes, and {bound} were allowed");
}

/// That many records wait, all others were dropped, and a shutdown says so.
fn holds(guard: &Guard, waiting: u64) {
    let full = guard.stats();
    assert_eq!((full.submitted, full.pending, full.dropped.queue_full), (RECORDS, waiting, RECORDS - waiting));
    let report = guard.shutdown(Duration::from_millis(100));
    let dropped = report.stats.dropped;
    assert_eq!((report.unsent, dropped.shutdown, dropped.queue_full), (waiting, waiting, RECORDS - waiting));
    adds_up(&report.stats);
}

/// Four threads log, four flush and four shut down, all at once.
fn shut_down_while_others_log(guard: &Guard, timeout: Duration) -> ShutdownReport {
    const EACH: u64 = 5_000;
    let start = Barrier::new(12);
    let reports: Vec<_> = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                start.wait();
                (0..EACH).for_each(|n| log::info!(n; "in the crowd"));
            });
            scope.spawn(|| {
                start.wait();
                // Whether it is in time is not the question; that it ends is.
                (0..20).for_each(|_| kafka_log::flush(Duration::from_millis(5)).unwrap_or_default());
            });
        }
        let stoppers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    wait::holds_within(SURELY, || kafka_log::stats().submitted > EACH / 2);
                    kafka_log::shutdown(timeout)
                })
            })
            .collect();
        stoppers.into_iter().map(|stopper| stopper.join().unwrap()).collect()
    });

    let report = guard.shutdown(Duration::ZERO);
    let stats = report.stats;
    assert_eq!((stats.submitted, stats.pending), (4 * EACH, 0));
    assert_eq!(stats.dropped.shutdown, report.unsent);
    assert!(reports.iter().all(|other| (other.unsent, other.timed_out) == (report.unsent, report.timed_out)));
    adds_up(&stats);
    report
}

#[track_caller]
fn adds_up(stats: &Stats) {
    assert_eq!(stats.submitted, stats.delivered + stats.failed + stats.dropped.total(), "{stats:?}");
}

fn a_shutdown_by_many_threads_while_others_log_agrees_with_the_broker(child: Child) {
    let broker = Broker::start();
    let ended = broker.serves(child).succeeds();
    assert_eq!(ended.said::<usize>("delivered"), broker.records().len());
}

fn without_a_listener_every_record_is_accounted_for(child: Child) {
    in_the_dark(child);
}

fn with_a_silent_peer_every_record_is_accounted_for(child: Child) {
    let peer = silent::silent_peer();
    child.on(&peer.address(), "logs").succeeds();
    assert!(peer.connections() > 0, "nobody tried to connect");
}

fn without_a_listener_the_status_names_the_address(child: Child) {
    in_the_dark(child);
}

fn with_a_silent_peer_the_status_names_the_address(child: Child) {
    let peer = silent::silent_peer();
    child.on(&peer.address(), "logs").succeeds();
}

fn a_queue_full_of_records_drops_the_rest_and_counts_them(child: Child) {
    in_the_dark(child);
}

fn a_queue_full_of_bytes_drops_the_rest_and_counts_them(child: Child) {
    in_the_dark(child);
}

fn a_million_records_that_nobody_takes_leave_memory_bounded(child: Child) {
    in_the_dark(child);
}

fn a_shutdown_by_many_threads_while_others_log_tears_nothing(child: Child) {
    in_the_dark(child);
}

/// Where nobody listens.
fn in_the_dark(child: Child) {
    child.on(&format!("127.0.0.1:{}", ports::free().unwrap()), "logs").succeeds();
}
