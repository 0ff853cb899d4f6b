//! However a process ends that can still do something about it, what it logged arrives.

use std::panic;
use std::process;
use std::thread;
use std::time::Duration;

use crate::broker::Broker;
use crate::child::{Child, Scenario, config, say};
use crate::scenarios;
use crate::support::{ports, silent};

const RECORDS: u64 = 1_000;

/// The flushes at the end take 5 s in all, where a guard's and the exit hook's would be 10; the rest is for a busy
/// machine to start a process and end it.
const END: Duration = Duration::from_secs(5 + 4);

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        once {
            a_return_from_main_with_no_guard_kept_delivers_all => |transport| {
                kafka_log::init(config(transport)).unwrap();
                log_records();
            };
            a_return_from_main_with_the_guard_bound_to_an_underscore_delivers_all => |transport| {
                let _ = kafka_log::init(config(transport));
                log_records();
            };
            a_guard_kept_in_main_delivers_all_when_it_is_dropped => |transport| {
                let guard = kafka_log::init(config(transport)).unwrap();
                log_records();
                drop(guard);
                // All is done here, before any exit hook, and the pipeline goes on.
                let stats = kafka_log::stats();
                assert_eq!((stats.delivered, stats.pending), (RECORDS, 0));
                log::info!(n = RECORDS; "after the guard");
            };
            process_exit_in_main_delivers_all_and_keeps_its_code => |transport| {
                kafka_log::init(config(transport)).unwrap();
                log_records();
                process::exit(3);
            };
            process_exit_in_another_thread_delivers_all_and_keeps_its_code => |transport| {
                let _guard = kafka_log::init(config(transport)).unwrap();
                thread::spawn(|| {
                    log_records();
                    process::exit(3);
                })
                .join()
                .unwrap();
            };
            a_panic_in_main_delivers_all_that_was_logged_before => |transport| {
                kafka_log::init(config(transport)).unwrap();
                log_records();
                panic!("on purpose");
            };
            a_panic_in_main_delivers_all_with_a_guard_kept_too => |transport| {
                let _guard = kafka_log::init(config(transport)).unwrap();
                log_records();
                panic!("on purpose");
            };
            the_record_of_a_panic_hook_is_delivered_too => |transport| {
                kafka_log::init(config(transport)).unwrap();
                panic::set_hook(Box::new(|panic| log::error!(n = RECORDS; "{panic}")));
                log_records();
                panic!("on purpose");
            };
        }
        each_transport {
            without_a_broker_a_return_from_main_is_bounded_and_a_success => |transport| {
                kafka_log::init(config(transport)).unwrap();
                log_records();
                say("pending", kafka_log::stats().pending);
            };
            with_a_guard_and_a_silent_peer_a_return_from_main_is_bounded_and_a_success => |transport| {
                let _guard = kafka_log::init(config(transport)).unwrap();
                log_records();
                say("pending", kafka_log::stats().pending);
            };
        }
    }
}

fn log_records() {
    (0..RECORDS).for_each(|n| log::info!(n; "at work"));
}

fn a_return_from_main_with_no_guard_kept_delivers_all(child: Child) {
    all_arrive(child, 0, RECORDS);
}

fn a_return_from_main_with_the_guard_bound_to_an_underscore_delivers_all(child: Child) {
    all_arrive(child, 0, RECORDS);
}

fn a_guard_kept_in_main_delivers_all_when_it_is_dropped(child: Child) {
    all_arrive(child, 0, RECORDS + 1);
}

fn process_exit_in_main_delivers_all_and_keeps_its_code(child: Child) {
    all_arrive(child, 3, RECORDS);
}

fn process_exit_in_another_thread_delivers_all_and_keeps_its_code(child: Child) {
    all_arrive(child, 3, RECORDS);
}

/// What Rust returns from `main` after a panic.
const PANICKED: i32 = 101;

fn a_panic_in_main_delivers_all_that_was_logged_before(child: Child) {
    all_arrive(child, PANICKED, RECORDS);
}

fn a_panic_in_main_delivers_all_with_a_guard_kept_too(child: Child) {
    all_arrive(child, PANICKED, RECORDS);
}

fn the_record_of_a_panic_hook_is_delivered_too(child: Child) {
    let broker = all_arrive(child, PANICKED, RECORDS + 1);
    let last = broker.messages().pop().unwrap_or_default();
    assert!(last.contains("on purpose") && last.contains("exit.rs"), "{last}");
}

fn without_a_broker_a_return_from_main_is_bounded_and_a_success(child: Child) {
    let nobody = format!("127.0.0.1:{}", ports::free().unwrap());
    ends_in_time(child.on(&nobody, "logs"));
}

fn with_a_guard_and_a_silent_peer_a_return_from_main_is_bounded_and_a_success(child: Child) {
    let peer = silent::silent_peer();
    ends_in_time(child.on(&peer.address(), "logs"));
}

/// Each record once, in order.
fn all_arrive(child: Child, code: i32, expected: u64) -> Broker {
    let broker = Broker::start();
    broker.serves(child).run().with_code(code);
    let numbers: Vec<_> = broker.records().iter().map(|record| record["n"].as_u64()).collect();
    assert_eq!(numbers, (0..expected).map(Some).collect::<Vec<_>>());
    broker
}

fn ends_in_time(child: Child) {
    let ended = child.succeeds();
    assert_eq!(ended.said::<u64>("pending"), RECORDS, "somebody took records");
    assert!(ended.lived < END, "{:?}", ended.lived);
}
