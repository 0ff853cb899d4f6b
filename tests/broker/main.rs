//! One contract suite, run over each transport on each broker it speaks to.
//!
//! Real Apache Kafka runs from its jars where a JDK and Maven are present; where they are not, the trials that need
//! it are ignored and say so, or fail with `KAFKA_LOG_REQUIRE_BROKER=1`. The same goes for Python and the trials beside
//! its sink. The trials share the brokers and some of them stop one, so those of one version run one after another,
//! beside those of the other and those of the clusters: most of the time is waiting. `--test-threads 1` has one trial at
//! a time.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod awaited;
mod child;
mod cluster;
mod exit;
mod faults;
mod lanes;
mod options;
mod overflow;
mod parity;
mod readers;
mod records;
mod restarts;
mod secrets;
mod security;
mod spool;
mod startup;
mod target;
mod topics;

use libtest_mimic::{Arguments, Failed, Trial};

use self::lanes::Lane;
use self::support::{kafka, python};
use self::target::Target;

/// A case of the suite.
type Case = (&'static str, fn(&Target));

fn main() {
    if exit::is_child() {
        // Returns from `main` as an application does, or ends otherwise if it was told to.
        return exit::child();
    }
    if secrets::is_child() {
        return secrets::child();
    }
    if spool::is_child() {
        return spool::child();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(lanes::THREADS);
    let no_broker = kafka::missing();
    if let Some(reason) = &no_broker {
        eprintln!("the trials on real brokers are skipped: {reason}");
    }
    let no_python = python::missing();
    if let Some(reason) = &no_python {
        eprintln!("the trials beside the Python sink are skipped: {reason}");
    }
    let mut trials = vec![Trial::test("every_option_has_a_test_of_its_effect", || {
        options::every_option_has_a_test();
        Ok(())
    })];
    trials.push(Trial::test("every_test_that_is_named_in_reliability_md_exists", || {
        faults::every_test_that_is_named_exists();
        Ok(())
    }));
    let mut of_lanes = [const { Vec::new() }; lanes::LANES];
    let mut add = |target: &Target, lane: Lane, cases: Vec<Case>, missing: &Option<String>| {
        for case in cases {
            let trials = &mut of_lanes[lane.number()];
            trials.push(trial(target, (lane, trials.len()), case, missing.clone()));
        }
    };
    let no_broker_or_python = no_broker.clone().or(no_python);
    for target in target::all() {
        let Some(version) = target.kafka else {
            add(&target, Lane::Cluster, target::embedded_cases(), &None);
            continue;
        };
        let lane = Lane::Version(version);
        add(&target, lane, target.cases(), &no_broker);
        add(&target, lane, target.parity_cases(), &no_broker_or_python);
        add(&target, lane, target.fault_cases(), &no_broker);
        add(&target, lane, target.spool_cases(), &no_broker);
        add(&target, lane, target.secure_cases(), &no_broker);
    }
    // One version after the other, so that each has its cluster started once.
    for version in kafka::Version::ALL {
        for target in target::all().iter().filter(|target| target.kafka == Some(version)) {
            add(target, Lane::Cluster, target.cluster_cases(), &no_broker);
        }
    }
    trials.extend(lanes::merged(of_lanes));
    // The harness knows one filter: several of them have commas between.
    if let Some(filters) = arguments.filter.take_if(|filter| filter.contains(',')) {
        trials.retain(|trial| filters.split(',').any(|filter| trial.name().contains(filter)));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Ignored, or failing where all must run, when something that it needs is missing.
fn trial(target: &Target, (lane, number): (Lane, usize), (name, case): Case, missing: Option<String>) -> Trial {
    let name = format!("{}::{name}", target.name());
    let target = target.clone();
    match missing {
        Some(reason) if kafka::required() => Trial::test(name, move || Err(Failed::from(reason))),
        missing => Trial::test(name, move || {
            let _turn = lane.turn(number);
            case(&target);
            Ok(())
        })
        .with_ignored_flag(missing.is_some()),
    }
}
