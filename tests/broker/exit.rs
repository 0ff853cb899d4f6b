//! Processes that end without a word to the logger: children that this binary runs as.

use std::env;
use std::process;
use std::time::Duration;

use serde_json::Value;

use crate::child;
use crate::support::process::{block, raise, run, wait_for};
use crate::target::{LONG, Target};

const ENDING: &str = "KAFKA_LOG_CHILD_ENDING";
const RECORDS: u64 = 1_000;

pub(crate) fn is_child() -> bool {
    env::var_os(ENDING).is_some()
}

/// An application that logs and ends.
pub(crate) fn child() {
    let (config, ending) = (child::config(), child::variable(ENDING));
    if let Some(Ending { name, end, .. }) = ENDINGS.iter().find(|known| known.name == ending) {
        if name.contains("answered") {
            // Before the first thread, so that no other takes it.
            block(libc::SIGTERM);
        }
        // All of it is pending when the end comes.
        kafka_log::init(config.linger(Duration::from_secs(2))).unwrap();
        (0..RECORDS).for_each(|n| log::info!(n, ending = name; "one of the last"));
        return end();
    }
    // No guard is kept, as an application would not that follows the shortest of examples.
    kafka_log::init(config).unwrap();
    for n in 0..RECORDS {
        log::info!(n; "one of the last");
    }
    if ending == "exit" {
        process::exit(7);
    }
}

/// Ways to end that keep or lose what is pending: the table in README.md, which `tests/scenarios/exit.rs` has in full.
const ENDINGS: [Ending; 5] = [
    Ending { name: "a panic that aborts", said: "SIGABRT", keeps: false, end: panic_and_abort },
    Ending {
        name: "the same with the helper",
        said: "SIGABRT",
        keeps: true,
        end: || {
            kafka_log::flush_on_panic(LONG);
            panic_and_abort();
        },
    },
    Ending { name: "SIGTERM", said: "SIGTERM", keeps: false, end: || raise(libc::SIGTERM) },
    Ending {
        name: "SIGTERM that is answered",
        said: "exit status: 7",
        keeps: true,
        end: || {
            raise(libc::SIGTERM);
            wait_for(libc::SIGTERM);
            kafka_log::shutdown(LONG);
            process::exit(7);
        },
    },
    Ending { name: "SIGKILL", said: "SIGKILL", keeps: false, end: || raise(libc::SIGKILL) },
];

struct Ending {
    name: &'static str,
    /// What the runner says of the child's end.
    said: &'static str,
    keeps: bool,
    end: fn(),
}

/// As each panic of a program that is compiled with `panic = "abort"`.
fn panic_and_abort() {
    extern "C" fn callback() {
        panic!("on purpose");
    }
    callback();
}

pub(crate) fn return_from_main(target: &Target) {
    all_arrive(target, "return", "");
}

pub(crate) fn process_exit(target: &Target) {
    all_arrive(target, "exit", "exit status: 7");
}

pub(crate) fn each_ending(target: &Target) {
    let topic = target.create_topic("endings", 1, &[]);
    ENDINGS.iter().for_each(|ending| run_child(target, &topic, ending.name, ending.said));
    let kept = ENDINGS.iter().filter(|ending| ending.keeps);
    let expected: Vec<_> = kept.flat_map(|ending| (0..RECORDS).map(|n| (ending.name.to_owned(), n))).collect();
    let records = target.read(&topic, expected.len());
    let arrived: Vec<_> = records
        .iter()
        .map(|record| serde_json::from_slice::<Value>(&record.value).unwrap())
        .map(|record| (record["ending"].as_str().unwrap().to_owned(), record["n"].as_u64().unwrap()))
        .collect();
    assert_eq!(arrived, expected);
}

/// `error` is what the runner says of the child's exit code.
fn all_arrive(target: &Target, ending: &str, error: &str) {
    let topic = target.create_topic(ending, 1, &[]);
    run_child(target, &topic, ending, error);
    let records = target.read(&topic, RECORDS as usize);
    let numbers: Vec<u64> = records
        .iter()
        .map(|record| serde_json::from_slice::<Value>(&record.value).unwrap()["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..RECORDS).collect::<Vec<_>>());
}

fn run_child(target: &Target, topic: &str, ending: &str, error: &str) {
    match run("the child", child::command(target, &target.bootstrap(), topic).env(ENDING, ending), LONG) {
        Ok(_) => assert_eq!(error, "", "the child did not end as told"),
        Err(text) => assert!(!error.is_empty() && text.contains(error), "{text}"),
    }
}
