//! What does not arrive is on standard error, at the end of the process too, and a closed one harms nothing.

use std::time::Duration;

use kafka_log::{Fallback, Transport};
use serde_json::Value;

use crate::child::{Child, Scenario, config};
use crate::scenarios;
use crate::support::{ports, silent};

const RECORDS: u64 = 1_000;

/// A flush of 5 s at the exit, a second for the last words and half of one to have them back; the rest is for a busy
/// machine.
const END: Duration = Duration::from_millis(5_000 + 1_500 + 4_500);

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        what_has_not_arrived_at_a_return_from_main_is_on_stderr => log_and_return;
        what_a_silent_peer_has_not_acknowledged_at_the_end_is_on_stderr => log_and_return;
        what_has_not_arrived_at_process_exit_is_on_stderr => |transport| {
            log_and_return(transport);
            std::process::exit(0);
        };
        with_stderr_closed_nothing_panics_and_all_is_counted => closed;
    }
}

fn log_and_return(transport: Transport) {
    kafka_log::init(config(transport).fallback(Fallback::Stderr)).unwrap();
    (0..RECORDS).for_each(|n| log::info!(n; "in the dark"));
}

fn closed(transport: Transport) {
    close_stderr();
    let guard = kafka_log::init(config(transport).fallback(Fallback::Stderr).queue_records(100)).unwrap();
    (0..RECORDS).for_each(|n| log::info!(n; "in the dark"));
    let report = guard.shutdown(Duration::ZERO);
    assert_eq!((report.stats.dropped.queue_full, report.unsent), (RECORDS - 100, 100));
    let stats = guard.stats();
    assert_eq!((stats.fallback_written, stats.fallback_missed), (0, RECORDS));
    let error = guard.status().fallback_error.unwrap_or_default();
    assert!(error.starts_with("standard error: "), "{error}");
}

/// As a process does that becomes a daemon.
#[allow(unsafe_code, reason = "nothing safe closes it")]
fn close_stderr() {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: nobody else in this process closes it.
    drop(unsafe { OwnedFd::from_raw_fd(2) });
}

fn what_has_not_arrived_at_a_return_from_main_is_on_stderr(child: Child) {
    all_on_stderr(in_the_dark(child));
}

fn what_a_silent_peer_has_not_acknowledged_at_the_end_is_on_stderr(child: Child) {
    let peer = silent::silent_peer();
    all_on_stderr(child.on(&peer.address(), "logs"));
}

fn what_has_not_arrived_at_process_exit_is_on_stderr(child: Child) {
    all_on_stderr(in_the_dark(child));
}

fn with_stderr_closed_nothing_panics_and_all_is_counted(child: Child) {
    in_the_dark(child).succeeds();
}

/// Each record once, and a notice.
fn all_on_stderr(child: Child) {
    let ended = child.succeeds();
    assert!(ended.lived < END, "{:?}", ended.lived);
    let lines: Vec<Value> = ended.stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let (notices, records): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["level"] == "warning");
    let mut numbers: Vec<_> = records.iter().filter_map(|record| record["n"].as_u64()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..RECORDS).collect::<Vec<_>>(), "{}", ended.stderr);
    let words = notices.iter().filter_map(|notice| notice["message"].as_str()).collect::<Vec<_>>();
    assert!(words.iter().any(|words| words.ends_with(&format!(": shutdown {RECORDS}"))), "{words:?}");
}

/// Where nobody listens.
fn in_the_dark(child: Child) -> Child {
    child.on(&format!("127.0.0.1:{}", ports::free().unwrap()), "logs")
}
