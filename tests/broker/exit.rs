//! Processes that end without a word to the logger: children that this binary runs as.

use std::env;
use std::process::{self, Command};

use kafka_log::Config;
use serde_json::Value;

use crate::support::process::run;
use crate::target::{Client, LONG, Target};

const ENDING: &str = "KAFKA_LOG_CHILD_ENDING";
const SERVERS: &str = "KAFKA_LOG_CHILD_SERVERS";
const TOPIC: &str = "KAFKA_LOG_CHILD_TOPIC";
const CLIENT: &str = "KAFKA_LOG_CHILD_CLIENT";
const RECORDS: u64 = 1_000;

pub(crate) fn is_child() -> bool {
    env::var_os(ENDING).is_some()
}

/// An application that logs and ends.
pub(crate) fn child() {
    let client = Client::named(&env::var(CLIENT).unwrap());
    let config = client.chosen(Config::new(env::var(SERVERS).unwrap(), env::var(TOPIC).unwrap()));
    // No guard is kept, as an application would not that follows the shortest of examples.
    kafka_log::init(config).unwrap();
    for n in 0..RECORDS {
        log::info!(n; "one of the last");
    }
    if env::var(ENDING).unwrap() == "exit" {
        process::exit(7);
    }
}

pub(crate) fn return_from_main(target: &Target) {
    all_arrive(target, "return", "");
}

pub(crate) fn process_exit(target: &Target) {
    all_arrive(target, "exit", "exit status: 7");
}

/// `error` is what the runner says of the child's exit code.
fn all_arrive(target: &Target, ending: &str, error: &str) {
    let topic = target.create_topic(ending, 1, &[]);
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .env(ENDING, ending)
        .env(SERVERS, target.bootstrap())
        .env(TOPIC, &topic)
        .env(CLIENT, format!("{:?}", target.client));
    match run("the child", &mut command, LONG) {
        Ok(_) => assert_eq!(error, "", "the child did not end as told"),
        Err(text) => assert!(!error.is_empty() && text.contains(error), "{text}"),
    }
    let records = target.read(&topic, RECORDS as usize);
    let numbers: Vec<u64> = records
        .iter()
        .map(|record| serde_json::from_slice::<Value>(&record.value).unwrap()["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..RECORDS).collect::<Vec<_>>());
}
