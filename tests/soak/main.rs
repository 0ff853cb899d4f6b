//! Random faults, by a seed, while several threads log through each transport; and at the end an account of each record.
//!
//! It runs for as long as it is told and only when asked for: `cargo test --features sync --test soak -- --ignored`,
//! with `KAFKA_LOG_SOAK_SECONDS` or `KAFKA_LOG_SOAK_MINUTES` (one minute) and `KAFKA_LOG_SOAK_SEED` (a new one each time).
//! `KAFKA_LOG_SOAK_TRANSPORT` of `async` or `sync` leaves the other out. With the feature `spool` some loggers have one,
//! by the seed, or all, or none, as `KAFKA_LOG_SOAK_SPOOL` says: `overflow`, `write-ahead`, `none`. Those are shut down
//! now and then, in the middle of whatever is going on, and followed by another on the same directory.
//!
//! The seed decides on what is done and in which order. When it happens depends on the machine too, so the same seed
//! is the same kind of trouble, not the same run.
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod account;
mod faults;
mod figures;
mod load;
mod subject;

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kafka_log::Transport;
use libtest_mimic::{Arguments, Failed, Trial};

use self::faults::Faults;
use self::figures::Process;
use self::subject::Subject;
use self::support::cluster::Cluster;
use self::support::kafka::{self, Version};
use self::support::proxy::Proxy;
use self::support::{random, wait};

/// Long enough for whatever ends at all.
const LONG: Duration = Duration::from_secs(120);

fn main() {
    let mut trials = Vec::new();
    match kafka::missing() {
        Some(reason) if kafka::required() => {
            trials.push(Trial::test("random_faults", move || Err(Failed::from(reason))).with_ignored_flag(true));
        }
        Some(reason) => eprintln!("the soak is skipped: {reason}"),
        None => trials.push(Trial::test("random_faults", soak).with_ignored_flag(true)),
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn soak() -> Result<(), Failed> {
    let seed = number("KAFKA_LOG_SOAK_SEED").unwrap_or_else(random::seed);
    let seconds = number("KAFKA_LOG_SOAK_SECONDS").or(number("KAFKA_LOG_SOAK_MINUTES").map(|minutes| 60 * minutes));
    let lasts = Duration::from_secs(seconds.unwrap_or(60));
    println!("a soak of {} s; again with KAFKA_LOG_SOAK_SEED={seed}", lasts.as_secs());

    // Leaders go back to where they belong soon after a broker is there again: moves without a fault.
    let rebalancing =
        [("leader.imbalance.check.interval.seconds", "3"), ("leader.imbalance.per.broker.percentage", "0")];
    let (cluster, proxies) = Cluster::start_behind_proxies(Version::V4_4_0, &rebalancing)?;
    let servers = proxies.iter().map(Proxy::address).collect::<Vec<_>>().join(",");
    let process = Process::before();

    let subjects: Vec<Subject> = transports()
        .into_iter()
        .flat_map(|transport| [(transport, true), (transport, false)])
        .map(|(transport, told)| Subject::start(seed, &cluster, &servers, transport, told))
        .collect();
    let growing = subjects.iter().filter(|subject| subject.spool.is_none());
    let faults = Faults::new(&cluster, &proxies, growing.map(|subject| subject.topic.as_str()).collect());
    let begun = Instant::now();
    let stop = AtomicBool::new(false);
    let injected = thread::scope(|scope| {
        subjects.iter().for_each(|subject| load::start(scope, seed, subject, &stop));
        scope.spawn(|| process.watch(&stop));
        // A fault that cannot be undone must end the load too.
        let injected = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| faults.inject(seed, begun + lasts)));
        stop.store(true, Ordering::Relaxed);
        injected
    });
    let injected = injected.map_err(|_| Failed::from(format!("the faults themselves failed; seed {seed}")))?;
    let lasted = begun.elapsed();

    let mut wrong = Vec::new();
    let accounts: Vec<_> = subjects
        .into_iter()
        .map(|subject| {
            let name = subject.name();
            let account = account::close(subject, &cluster.bootstrap());
            wrong.extend(account.wrong.iter().map(|what| format!("{name}: {what}")));
            account
        })
        .collect();
    wrong.extend(process.wrong_after(&accounts));
    figures::print(seed, lasted, &injected, &accounts, &process);
    drop((cluster, proxies));
    if wrong.is_empty() { Ok(()) } else { Err(Failed::from(format!("seed {seed}:\n{}", wrong.join("\n")))) }
}

fn transports() -> Vec<Transport> {
    let chosen = env::var("KAFKA_LOG_SOAK_TRANSPORT").ok();
    let compiled = [(cfg!(feature = "async"), Transport::Async), (cfg!(feature = "sync"), Transport::Sync)];
    let wanted =
        |transport: &Transport| chosen.as_ref().is_none_or(|chosen| format!("{transport:?}").to_lowercase() == *chosen);
    let transports: Vec<_> =
        compiled.into_iter().filter(|(compiled, _)| *compiled).map(|(_, transport)| transport).filter(wanted).collect();
    assert!(!transports.is_empty(), "there is no transport {chosen:?} in this build");
    transports
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is to be a number: {text}")))
}

/// Sleeps, but not beyond the end of it all.
fn rest(time: Duration, stop: &AtomicBool) {
    wait::holds_within(time, || stop.load(Ordering::Relaxed));
}
