//! Records that wait on the disk while a broker is away, or until the next process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use std::{env, iter};

use kafka_log::{KafkaLogger, Overflow, Spool, SpoolMode, State};
use tempfile::TempDir;

use crate::child;
use crate::faults::{self, after, counted, in_a_hurry, log, log_at_times_while};
use crate::records::{THREADS, assert_order, who_and_n};
use crate::support::process::{raise, run};
use crate::support::proxy::Mode;
use crate::support::{topic, wait};
use crate::target::{LONG, Target};

/// What memory has room for: a small part of what is logged.
const ROOM: u64 = 1_000;

/// The least that a spool may be given.
const SMALL: u64 = 1 << 20;

// ---- an outage ----------------------------------------------------------------------------------------------------

pub(crate) fn more_than_memory_holds(target: &Target) {
    const EACH: u64 = 10_000;
    const BEFORE: u64 = 100;
    let broker = &faults::place(target).broker;
    let (name, directory) = (topic::create_unique(&broker.bootstrap(), "spool", 4), Directory::new());
    // Callers wait for the disk where they are faster than that.
    let config = target.config_at(&broker.bootstrap(), &name).queue_records(ROOM as usize).overflow(Overflow::Block);
    let logger = config.spool(Spool::new(directory.spool())).build().unwrap();
    log_range(&logger, 0..BEFORE);
    logger.flush_timeout(LONG).unwrap();
    assert_eq!((logger.status().state, logger.stats().spooled), (State::Up, 0));

    broker.stop();
    log_range(&logger, BEFORE..EACH);
    let (stats, away) = (logger.stats(), THREADS * (EACH - BEFORE));
    assert_eq!((stats.pending, stats.failed, stats.dropped.total()), (away, 0, 0), "{stats:?}");
    assert!(stats.spooled >= away - ROOM, "{stats:?}");
    broker.start_again();
    // While what is on the disk goes out.
    log_range(&logger, EACH..EACH + BEFORE);
    logger.flush_timeout(LONG).unwrap();

    let stats = logger.stats();
    assert_eq!((stats.spooled, stats.spool_refused, stats.recovered), (0, 0, 0), "{stats:?}");
    let logged = each_logged(EACH + BEFORE);
    faults::all_is_there(target, &broker.bootstrap(), &name, logger, &logged);
}

/// What was in flight may be there twice; nothing fails. Records go to the disk in two ways by turns, so that what a
/// client gives back stands between others that are there already, by their order.
pub(crate) fn longer_than_the_delivery_timeout(target: &Target) {
    const TIMEOUT: Duration = Duration::from_secs(2);
    const TIMES: usize = 4;
    const SOME: u64 = 50;
    // Seldom enough that a client without a broker has room for all that is on the disk, and for more from memory.
    const PAUSE: Duration = Duration::from_millis(20);
    let place = faults::place(target);
    // In one partition, so that the order is one of all.
    let (name, directory) = (topic::create_unique(&place.broker.bootstrap(), "spool", 1), Directory::new());
    let config = in_a_hurry(target.config_at(&place.proxy.address(), &name)).delivery_timeout(TIMEOUT);
    let logger = config.spool(Spool::new(directory.spool())).build().unwrap();
    let logged = log_at_times_while(&logger, PAUSE, || {
        after(&logger, 100);
        place.proxy.set(Mode::Blackhole);
        // What is logged for a second after a client was replaced goes to the new one, and what comes then to the disk; after
        // another the client is replaced, and what it had from memory joins what is there.
        for _ in 0..TIMES {
            let in_memory = || {
                let stats = logger.stats();
                stats.pending - stats.spooled
            };
            wait::until("a client to have some from memory", LONG, || in_memory() >= SOME);
            wait::until("the disk to have all", LONG, || in_memory() < SOME / 2);
        }
        place.proxy.heal();
        after(&logger, 100);
    });
    logger.flush_timeout(LONG).unwrap();
    let all: u64 = logged.values().sum();
    let stats = logger.shutdown(LONG).stats;
    assert_eq!((stats.submitted, stats.delivered, stats.failed), (all, all, 0), "{stats:?}");
    assert_eq!((stats.dropped.total(), stats.pending, stats.spooled), (0, 0, 0), "{stats:?}");
    let records = target.read_at(&place.broker.bootstrap(), &name, all as usize);
    let lost = counted(&records, &logged).values().flatten().filter(|count| **count == 0).count();
    assert_eq!(lost, 0, "of {all}");
    assert_order(&records);
}

// ---- the end of a process -----------------------------------------------------------------------------------------

pub(crate) fn left_at_the_end(target: &Target) {
    const BEFORE: u64 = 100;
    const LEFT: u64 = 20_000;
    const NEW: u64 = 100;
    let place = faults::place(target);
    for max_bytes in [1 << 30, SMALL] {
        place.proxy.heal();
        // One thread and one partition: what comes first is what was logged first.
        let (name, directory) = (topic::create_unique(&place.broker.bootstrap(), "spool", 1), Directory::new());
        let spool = || Spool::new(directory.spool()).max_bytes(max_bytes);
        // A part of it is in the client's hands at the end, and a part in memory.
        let config = || target.config_at(&place.proxy.address(), &name).queue_records(LEFT as usize).spool(spool());
        let logger = config().build().unwrap();
        (0..BEFORE).for_each(|n| log(&logger, 0, n));
        logger.flush_timeout(LONG).unwrap();
        place.proxy.set(Mode::Refuse);
        (BEFORE..BEFORE + LEFT).for_each(|n| log(&logger, 0, n));
        let report = logger.shutdown(Duration::from_millis(200));
        let (lost, spooled) = (report.unsent, report.spooled);
        assert_eq!((lost + spooled, report.timed_out), (LEFT, true), "{report:?}");
        assert_eq!((report.stats.dropped.shutdown, report.stats.pending), (lost, spooled), "{report:?}");
        assert_eq!(lost > 0, max_bytes == SMALL, "{report:?}");
        assert!(spooled > 1_000, "{report:?}");
        drop(logger);

        let next = config().build().unwrap();
        (BEFORE + LEFT..BEFORE + LEFT + NEW).for_each(|n| log(&next, 0, n));
        let stats = next.stats();
        assert_eq!((stats.recovered, stats.submitted, stats.delivered), (spooled, spooled + NEW, 0), "{stats:?}");
        place.proxy.heal();
        next.flush_timeout(LONG).unwrap();
        let stats = next.shutdown(LONG).stats;
        assert_eq!((stats.recovered, stats.delivered), (spooled, spooled + NEW), "{stats:?}");
        assert_eq!((stats.failed, stats.dropped.total(), stats.pending, stats.spooled), (0, 0, 0, 0), "{stats:?}");

        let records = target.read_at(&place.broker.bootstrap(), &name, (BEFORE + spooled + NEW) as usize);
        let numbers: Vec<u64> = records.iter().map(|record| who_and_n(record).1).collect();
        assert_eq!(numbers.len() as u64, BEFORE + spooled + NEW);
        assert!(numbers.is_sorted_by(|before, after| before < after), "they are not in order, or there twice");
        let new = &numbers[(BEFORE + spooled) as usize..];
        assert!(new.iter().copied().eq(BEFORE + LEFT..BEFORE + LEFT + NEW), "{new:?}");
    }
}

// ---- a kill -------------------------------------------------------------------------------------------------------

/// How often a child is killed: more of them by `KAFKA_LOG_KILLS=100`.
const KILLS: &str = "KAFKA_LOG_KILLS";

const DIRECTORY: &str = "KAFKA_LOG_CHILD_SPOOL";
const FIRST: &str = "KAFKA_LOG_CHILD_FIRST";

pub(crate) fn is_child() -> bool {
    env::var_os(DIRECTORY).is_some()
}

/// An application that writes ahead until it is killed, and writes down how far each of its threads is.
pub(crate) fn child() {
    let directory = PathBuf::from(child::variable(DIRECTORY));
    let logger = child::config().spool(ahead(&spool_in(&directory))).build().unwrap();
    let first: Vec<u64> = child::variable(FIRST).split(',').map(|number| number.parse().unwrap()).collect();
    let returned = File::create(returned_in(&directory)).unwrap();
    let note = |who: u64, next: u64| returned.write_all_at(&next.to_le_bytes(), who * 8).unwrap();
    (0..).zip(&first).for_each(|(who, next)| note(who, *next));
    // Another moment each time, in the middle of whatever is going on; the broker has some of it by then.
    let lives = Duration::from_micros(100_000 + first.iter().sum::<u64>() * 7_919 % 200_000);
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(lives);
            raise(libc::SIGKILL);
        });
        for (who, first) in (0..).zip(first) {
            let (logger, note) = (&logger, &note);
            scope.spawn(move || {
                for n in first.. {
                    log(logger, who, n);
                    note(who, n + 1);
                    if n % 16 == 0 {
                        // Some ten thousand are enough.
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
    });
}

pub(crate) fn killed_while_it_writes_ahead(target: &Target) {
    let kills: u64 = env::var(KILLS).map_or(2, |kills| kills.parse().expect("a number of kills"));
    let broker = &faults::place(target).broker;
    // In one partition: another process may choose another, and what the first had sent may be there twice.
    let (name, directory) = (topic::create_unique(&broker.bootstrap(), "spool", 1), Directory::new());
    let mut returned: BTreeMap<u64, Vec<Range<u64>>> = (0..THREADS).map(|who| (who, Vec::new())).collect();
    let mut first = vec![0; THREADS as usize];
    for _ in 0..kills {
        let mut command = child::command(target, &broker.bootstrap(), &name);
        command
            .env(DIRECTORY, directory.0.path())
            .env(FIRST, first.iter().map(u64::to_string).collect::<Vec<_>>().join(","));
        let ended = run("the child", &mut command, LONG).expect_err("it goes on until it is killed");
        assert!(ended.contains("SIGKILL"), "{ended}");
        for ((who, first), next) in (0..).zip(&mut first).zip(directory.nexts()) {
            returned.entry(who).or_default().push(*first..next);
            // The call of this one had not returned: it may be there or not.
            *first = next + 1;
        }
    }
    let config = target.config_at(&broker.bootstrap(), &name).spool(ahead(&directory.spool()));
    let logger = config.build().unwrap();
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.shutdown(LONG).stats;
    assert_eq!((stats.delivered, stats.submitted), (stats.recovered, stats.recovered), "{stats:?}");
    assert_eq!((stats.failed, stats.dropped.total(), stats.pending, stats.spooled), (0, 0, 0, 0), "{stats:?}");

    let expected: u64 = returned.values().flatten().map(|range| range.end - range.start).sum();
    assert!(expected > 500 * kills, "only {expected} records were logged");
    let records = target.read_at(&broker.bootstrap(), &name, expected as usize);
    let counted = counted(&records, &(0..).zip(first).collect());
    let lost: Vec<(u64, u64)> = returned
        .iter()
        .flat_map(|(who, ranges)| iter::repeat(*who).zip(ranges.iter().cloned().flatten()))
        .filter(|(who, n)| counted[who][*n as usize] == 0)
        .collect();
    assert!(lost.is_empty(), "{} of {expected} are lost, such as {:?}", lost.len(), &lost[..lost.len().min(10)]);
    assert_order(&records);
}

// ---- what the trials share ----------------------------------------------------------------------------------------

fn ahead(spool: &Path) -> Spool {
    Spool::new(spool).mode(SpoolMode::WriteAhead)
}

fn each_logged(each: u64) -> BTreeMap<u64, u64> {
    (0..THREADS).map(|who| (who, each)).collect()
}

/// Logs these from each of some threads.
fn log_range(logger: &KafkaLogger, numbers: Range<u64>) {
    thread::scope(|scope| {
        for who in 0..THREADS {
            let numbers = numbers.clone();
            scope.spawn(move || numbers.for_each(|n| log(logger, who, n)));
        }
    });
}

/// A directory that goes with the trial; its children have it by its path.
struct Directory(TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("no directory could be made"))
    }

    fn spool(&self) -> PathBuf {
        spool_in(self.0.path())
    }

    /// For each thread of a child, the first record whose call has not returned.
    fn nexts(&self) -> Vec<u64> {
        let bytes = fs::read(returned_in(self.0.path())).unwrap_or_else(|error| panic!("nothing was written: {error}"));
        let nexts = bytes.chunks_exact(8).map(|next| u64::from_le_bytes(next.try_into().expect("eight bytes")));
        let nexts: Vec<u64> = nexts.collect();
        assert_eq!(nexts.len() as u64, THREADS);
        nexts
    }
}

fn spool_in(directory: &Path) -> PathBuf {
    directory.join("spool")
}

/// Where a child writes down how far each of its threads is.
fn returned_in(directory: &Path) -> PathBuf {
    directory.join("returned")
}
