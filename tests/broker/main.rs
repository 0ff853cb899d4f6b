//! One contract suite, run over each transport on each broker it speaks to.
//!
//! Real Apache Kafka runs from its jars where a JDK and Maven are present; where they are not, the trials that need
//! it are ignored and say so, or fail with `KAFKA_LOG_REQUIRE_BROKER=1`. The trials share the brokers and some of
//! them stop one, so they run one after another.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod exit;
mod options;
mod records;
mod restarts;
mod startup;
mod target;
mod topics;

use libtest_mimic::{Arguments, Failed, Trial};

use self::support::kafka;
use self::target::Target;

/// A case of the suite.
type Case = (&'static str, fn(&Target));

fn main() {
    if exit::is_child() {
        // Returns from `main` as an application does, or ends otherwise if it was told to.
        return exit::child();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let missing = kafka::missing();
    if let Some(reason) = &missing {
        eprintln!("the trials on real brokers are skipped: {reason}");
    }
    let mut trials = Vec::new();
    for target in target::all() {
        let cases = if target.is_real() { target.cases() } else { target::embedded_cases() };
        for (name, case) in cases {
            let name = format!("{}::{name}", target.name());
            let target = target.clone();
            let trial = match (&missing, target.is_real()) {
                (Some(reason), true) if kafka::required() => {
                    let reason = reason.clone();
                    Trial::test(name, move || Err(Failed::from(reason)))
                }
                (missing, is_real) => Trial::test(name, move || {
                    case(&target);
                    Ok(())
                })
                .with_ignored_flag(is_real && missing.is_some()),
            };
            trials.push(trial);
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}
