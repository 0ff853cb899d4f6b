//! What a log call costs and what arrives: kafka_log beside its floor and its peers, on a real broker and without one.
//!
//! Each logger runs under each load in a process of its own. One run prints the tables, and writes them with a plot to
//! `<target>/bench`. A run in which a record was lost, or did not arrive by the broker's own offsets, is void and gives
//! no figures.
#![allow(clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;

mod arguments;
mod check;
mod children;
mod how;
mod plot;
mod report;
mod subjects;
mod suite;
mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use kafka_log_bench::child;
use kafka_log_bench::machine::load;
use kafka_log_bench::task::Who;

use arguments::{Arguments, Part};
use children::Children;
use common::support::server;
use suite::Suite;

fn main() {
    if let Some(task) = child::task() {
        return subjects::run(&task);
    }
    let arguments = Arguments::read();
    let (directory, load) = (directory(), load());
    server::at_full_speed();
    let table = arguments.parts.contains(&Part::Table);
    let children = Children::new(&directory, table && arguments.who.contains(&Who::KafkaLogger));
    check::the_floor_writes_what_kafka_log_writes(&children);

    let results = Suite { children: &children, arguments: &arguments }.run();
    drop(children);
    let targets = targets::of(&results);
    report::print(&results, &targets, &arguments, &load);
    let json = directory.join("calls.json");
    let text = serde_json::to_string_pretty(&report::json(&results, &targets, &load)).expect("figures are valid JSON");
    fs::write(&json, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", json.display()));
    eprintln!("\nwritten: {}", json.display());
    if !results.rows.is_empty() {
        let svg = directory.join("calls.svg");
        plot::draw(&results.rows, &svg).unwrap_or_else(|error| panic!("cannot draw {}: {error}", svg.display()));
        eprintln!("written: {}", svg.display());
    }
    let lost = results.void_of_ours();
    if !lost.is_empty() {
        eprintln!("VOID:\n{}", lost.join("\n"));
        std::process::exit(1);
    }
}

/// `<target>/bench`.
fn directory() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let directory = tmp.parent().expect("it is in the target directory").join("bench");
    fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("cannot create {}: {error}", directory.display()));
    directory
}
