//! What outlives the process, in the spool's directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use kafka_log::{Config, Spool, SpoolMode, Transport};
use tempfile::TempDir;

use crate::broker::Broker;
use crate::child::{Child, SURELY, Scenario, config, say};
use crate::scenarios;
use crate::support::process as processes;

pub fn scenarios() -> Vec<Scenario> {
    if !cfg!(feature = "spool") {
        return Vec::new();
    }
    scenarios! {
        a_kill_loses_no_record_whose_call_had_returned => log_until_killed;
        what_is_unsent_at_the_end_is_sent_by_the_next_process => |transport| {
            let guard = kafka_log::init(spooled(config(transport), SpoolMode::Overflow)).unwrap();
            (0..UNSENT).for_each(|n| log::info!(n; "before"));
            let report = guard.shutdown(Duration::ZERO);
            say("spooled", report.spooled);
            say("unsent", report.unsent);
        };
        a_return_from_main_leaves_in_the_spool_what_no_broker_took => |transport| {
            kafka_log::init(spooled(config(transport), SpoolMode::Overflow)).unwrap();
            (0..UNSENT).for_each(|n| log::info!(n; "before"));
        };
        a_guard_that_is_not_kept_waits_for_nothing_that_an_earlier_process_left => |transport| {
            let before = Instant::now();
            kafka_log::init(spooled(config(transport), SpoolMode::Overflow)).unwrap();
            say("took", before.elapsed().as_millis());
            say("recovered", kafka_log::stats().recovered);
            (0..UNSENT).for_each(|n| log::info!(n; "before"));
            kafka_log::shutdown(Duration::ZERO);
        };
    }
}

const UNSENT: u64 = 5_000;

/// How often the child is killed: a hundred times by `KAFKA_LOG_KILLS=100`.
const KILLS: &str = "KAFKA_LOG_KILLS";

const DIRECTORY: &str = "SCENARIO_SPOOL";
const FIRST: &str = "SCENARIO_FIRST";

fn spooled(config: Config, mode: SpoolMode) -> Config {
    config.spool(Spool::new(std::env::var_os(DIRECTORY).expect("the parent named no directory")).mode(mode))
}

/// A directory that goes with the test.
struct Directory(TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("no directory could be made"))
    }

    fn spool(&self) -> PathBuf {
        self.0.path().join("spool")
    }

    /// Where the child writes down the last record whose call has returned.
    fn returned(&self) -> PathBuf {
        self.0.path().join("returned")
    }
}

/// Logs, and writes down how far it is, until another thread kills the process.
fn log_until_killed(transport: Transport) {
    kafka_log::init(spooled(config(transport), SpoolMode::WriteAhead)).unwrap();
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let returned = PathBuf::from(std::env::var_os(DIRECTORY).unwrap()).with_file_name("returned");
    let returned = File::create(returned).unwrap();
    thread::spawn(move || {
        // Another moment each time, in the middle of whatever is going on.
        thread::sleep(Duration::from_micros(20_000 + first * 7_919 % 150_000));
        processes::raise(libc::SIGKILL);
    });
    for n in first.. {
        log::info!(n; "record {n}");
        returned.write_all_at(&n.to_le_bytes(), 0).unwrap();
    }
}

fn a_kill_loses_no_record_whose_call_had_returned(child: Child) {
    let kills: u64 = std::env::var(KILLS).map_or(5, |kills| kills.parse().expect("a number of kills"));
    let (broker, directory) = (Broker::start(), Directory::new());
    let mut expected = BTreeSet::new();
    let mut first = 0;
    let mut arrived = BTreeSet::new();
    for kill in 0..kills {
        // Every other time there is no broker: all of it stays on the disk.
        let killed = child.again().with(DIRECTORY, directory.spool()).with(FIRST, first.to_string());
        let killed = if kill % 2 == 0 { broker.serves(killed) } else { killed.on("127.0.0.1:1", &broker.topic) };
        killed.run().by_signal(libc::SIGKILL);
        let last = fs::read(directory.returned()).unwrap_or_else(|error| panic!("nothing was written: {error}"));
        let last = u64::from_le_bytes(last.try_into().expect("eight bytes"));
        expected.extend(first..=last);
        // The one after it may have been on its way.
        first = last + 2;
        if broker_is_to_be_emptied(kill) {
            deliver(&child, &broker, &directory);
            arrived.extend(numbers(&broker));
        }
    }
    deliver(&child, &broker, &directory);
    arrived.extend(numbers(&broker));
    let lost: Vec<_> = expected.difference(&arrived).take(10).collect();
    assert!(lost.is_empty(), "lost of {}: {lost:?}", expected.len());
    assert!(expected.len() as u64 > 100 * kills, "only {} records were logged", expected.len());
}

/// The mock cluster keeps so much and no more.
fn broker_is_to_be_emptied(kill: u64) -> bool {
    kill % 4 == 3
}

/// Has a logger of this process send what is in the spool.
fn deliver(child: &Child, broker: &Broker, directory: &Directory) {
    let config = Config::new(broker.servers(), broker.topic.clone()).transport(child.transport());
    let logger = config.spool(Spool::new(directory.spool()).mode(SpoolMode::WriteAhead)).build().unwrap();
    logger.flush_timeout(SURELY).unwrap();
    let stats = logger.shutdown(SURELY).stats;
    assert_eq!((stats.pending, stats.spooled, stats.dropped.total(), stats.failed), (0, 0, 0, 0), "{stats:?}");
}

fn numbers(broker: &Broker) -> Vec<u64> {
    broker.records().iter().map(|record| record["n"].as_u64().expect("a number")).collect()
}

fn what_is_unsent_at_the_end_is_sent_by_the_next_process(child: Child) {
    let (broker, directory) = (Broker::start(), Directory::new());
    let nobody = child.again().with(DIRECTORY, directory.spool()).on("127.0.0.1:1", &broker.topic);
    let ended = nobody.succeeds();
    assert_eq!((ended.said::<u64>("spooled"), ended.said::<u64>("unsent")), (UNSENT, 0));
    deliver(&child, &broker, &directory);
    assert_eq!(numbers(&broker), (0..UNSENT).collect::<Vec<_>>());
}

fn a_return_from_main_leaves_in_the_spool_what_no_broker_took(child: Child) {
    let (broker, directory) = (Broker::start(), Directory::new());
    child.again().with(DIRECTORY, directory.spool()).on("127.0.0.1:1", &broker.topic).succeeds();
    deliver(&child, &broker, &directory);
    assert_eq!(numbers(&broker), (0..UNSENT).collect::<Vec<_>>());
}

fn a_guard_that_is_not_kept_waits_for_nothing_that_an_earlier_process_left(child: Child) {
    let directory = Directory::new();
    let start = || child.again().with(DIRECTORY, directory.spool()).on("127.0.0.1:1", "nowhere").succeeds();
    assert_eq!(start().said::<u64>("recovered"), 0);
    let next = start();
    assert_eq!(next.said::<u64>("recovered"), UNSENT);
    // A flush that nobody answers would take 5 s.
    assert!(next.said::<u64>("took") < 2_500, "{} ms", next.said::<u64>("took"));
}
