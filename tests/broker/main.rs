//! One contract suite, run over each transport on each broker it speaks to.
//!
//! Real Apache Kafka runs from its jars where a JDK and Maven are present; where they are not, the trials that need
//! it are ignored and say so, or fail with `KAFKA_LOG_REQUIRE_BROKER=1`. The same goes for Python and the trials beside
//! its sink. The trials share the brokers and some of them stop one, so they run one after another.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod awaited;
mod cluster;
mod exit;
mod faults;
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
    arguments.test_threads = Some(1);
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
    for target in target::all() {
        let (cases, missing) =
            if target.is_real() { (target.cases(), no_broker.clone()) } else { (target::embedded_cases(), None) };
        trials.extend(cases.into_iter().map(|case| trial(&target, case, missing.clone())));
        if target.is_real() {
            let missing = no_broker.clone().or(no_python.clone());
            trials.extend(target.parity_cases().into_iter().map(|case| trial(&target, case, missing.clone())));
        }
    }
    for version in kafka::Version::ALL {
        for target in target::all().iter().filter(|target| target.kafka == Some(version)) {
            trials.extend(target.fault_cases().into_iter().map(|case| trial(target, case, no_broker.clone())));
            trials.extend(target.spool_cases().into_iter().map(|case| trial(target, case, no_broker.clone())));
            trials.extend(target.secure_cases().into_iter().map(|case| trial(target, case, no_broker.clone())));
        }
    }
    // One version after the other, so that each has its cluster started once; and last, as three brokers are a load.
    for version in kafka::Version::ALL {
        for target in target::all().iter().filter(|target| target.kafka == Some(version)) {
            trials.extend(target.cluster_cases().into_iter().map(|case| trial(target, case, no_broker.clone())));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Ignored, or failing where all must run, when something that it needs is missing.
fn trial(target: &Target, (name, case): Case, missing: Option<String>) -> Trial {
    let name = format!("{}::{name}", target.name());
    let target = target.clone();
    match missing {
        Some(reason) if kafka::required() => Trial::test(name, move || Err(Failed::from(reason))),
        missing => Trial::test(name, move || {
            case(&target);
            Ok(())
        })
        .with_ignored_flag(missing.is_some()),
    }
}
