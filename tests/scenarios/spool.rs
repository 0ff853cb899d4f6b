//! What outlives the process, in the spool's directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::PathBuf;
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use kafka_log::{Config, Guard, KafkaLogger, Spool, SpoolMode, Stats, Transport};
use tempfile::TempDir;

use crate::broker::Broker;
use crate::child::{Child, Ended, SURELY, Scenario, config, say, servers, topic};
use crate::exit;
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
        a_disk_that_takes_no_large_files_is_accounted_for => |transport| refused(transport, |_| ());
        a_full_disk_is_accounted_for => |transport| refused(transport, |_| ());
        a_directory_that_turns_read_only_is_accounted_for => |transport| refused(transport, |forbid| {
            let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
            let mode = if forbid { 0o555 } else { 0o755 };
            for directory in [directory.join("late"), directory] {
                fs::set_permissions(directory, PermissionsExt::from_mode(mode)).unwrap();
            }
        });
        a_return_from_main_leaves_what_was_written_ahead_where_nobody_takes_it => |transport| {
            write_ahead(transport, AT_ONCE);
        };
        a_guard_that_is_dropped_leaves_what_was_written_ahead_where_nobody_takes_it => |transport| {
            let _guard = start_ahead(transport, AT_ONCE);
            log_ahead();
        };
        process_exit_leaves_what_was_written_ahead_where_nobody_takes_it => |transport| {
            write_ahead(transport, AT_ONCE);
            process::exit(3);
        };
        a_panic_in_main_leaves_what_was_written_ahead_where_nobody_takes_it => |transport| {
            write_ahead(transport, AT_ONCE);
            panic!("on purpose");
        };
        a_shutdown_leaves_what_was_written_ahead_where_nobody_takes_it => |transport| {
            write_ahead(transport, AT_ONCE);
            shut_down();
        };
        a_shutdown_on_sigterm_leaves_what_was_written_ahead_where_nobody_takes_it => |transport| {
            // Before the first thread, so that all of them leave it to the one that waits.
            processes::block(libc::SIGTERM);
            let answers = thread::spawn(|| {
                processes::wait_for(libc::SIGTERM);
                shut_down();
                process::exit(3);
            });
            write_ahead(transport, AT_ONCE);
            processes::raise(libc::SIGTERM);
            answers.join().unwrap();
        };
        a_panic_that_cannot_unwind_leaves_all_that_was_written_ahead => |transport| {
            write_ahead(transport, IN_NO_HASTE);
            exit::panic_that_cannot_unwind();
        };
        a_second_panic_while_unwinding_leaves_all_that_was_written_ahead => |transport| {
            write_ahead(transport, IN_NO_HASTE);
            exit::panic_twice();
        };
        abort_leaves_all_that_was_written_ahead => |transport| {
            write_ahead(transport, IN_NO_HASTE);
            process::abort();
        };
        sigterm_by_default_leaves_all_that_was_written_ahead => |transport| {
            write_ahead(transport, IN_NO_HASTE);
            processes::raise_by_default(libc::SIGTERM);
        };
        sigint_by_default_leaves_all_that_was_written_ahead => |transport| {
            write_ahead(transport, IN_NO_HASTE);
            processes::raise_by_default(libc::SIGINT);
        };
        sigkill_leaves_all_that_was_written_ahead => |transport| {
            write_ahead(transport, IN_NO_HASTE);
            processes::raise(libc::SIGKILL);
        };
    }
}

const UNSENT: u64 = 5_000;

/// How many are written ahead of an end, in less than half of a client's batch.
const AHEAD: u64 = 1_000;

/// A client's linger: one that sends what it has, and one that has all of it when the process ends.
const AT_ONCE: Duration = Duration::ZERO;
const IN_NO_HASTE: Duration = Duration::from_secs(20);

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

fn start_ahead(transport: Transport, linger: Duration) -> Guard {
    kafka_log::init(spooled(config(transport).linger(linger), SpoolMode::WriteAhead)).unwrap()
}

fn log_ahead() {
    (0..AHEAD).for_each(|n| log::info!(n; "ahead"));
}

/// With no guard kept.
fn write_ahead(transport: Transport, linger: Duration) {
    start_ahead(transport, linger);
    log_ahead();
}

/// How many a disk that refuses some is given, and each so-manieth that is larger than a file may be there.
const GIVEN: u64 = 500;
const EACH_LARGE: u64 = 50;

/// It is told to refuse behind so many, which are in less than a file.
const FREELY: u64 = 10;

const MODE: &str = "SCENARIO_MODE";
const AHEAD_OF_ALL: &str = "ahead";
const SERVES: &str = "SCENARIO_SERVES";

/// One logger after another on a disk that refuses records as soon as it is told to forbid them: with a broker, without one,
/// and one for what the second has left.
fn refused(transport: Transport, forbid: impl Fn(bool)) {
    let mode = std::env::var(MODE).unwrap();
    let mode = if mode == AHEAD_OF_ALL { SpoolMode::WriteAhead } else { SpoolMode::Overflow };
    let serving = std::env::var(SERVES).unwrap();
    let start = |servers: &str| {
        let spool = Spool::new(std::env::var_os(DIRECTORY).unwrap()).mode(mode).max_bytes(1 << 20);
        Config::new(servers, topic()).transport(transport).spool(spool).build().unwrap()
    };
    let log = |logger: &KafkaLogger, numbers: Range<u64>| {
        for n in numbers {
            let message = "x".repeat(if n % EACH_LARGE == EACH_LARGE - 1 { 200_000 } else { 1_000 });
            logger.info(message, [("n", n)]);
        }
    };

    let logger = start(&serving);
    log(&logger, 0..FREELY);
    forbid(true);
    log(&logger, FREELY..GIVEN);
    logger.flush_timeout(SURELY).unwrap();
    let stats = logger.shutdown(SURELY).stats;
    // What the disk does not take is in memory.
    assert_eq!((stats.submitted, stats.delivered, stats.spooled), (GIVEN, GIVEN, 0), "{stats:?}");
    say("refused", stats.spool_refused);
    forbid(false);

    let logger = start(&servers());
    log(&logger, GIVEN..GIVEN + FREELY);
    forbid(true);
    log(&logger, GIVEN + FREELY..2 * GIVEN);
    let report = logger.shutdown(Duration::ZERO);
    let stats = report.stats;
    assert_eq!((stats.submitted, stats.recovered, stats.delivered, stats.failed), (GIVEN, 0, 0, 0), "{stats:?}");
    assert_eq!((stats.pending, stats.dropped.total()), (report.spooled, report.unsent), "{stats:?}");
    assert_eq!((report.spooled + report.unsent, stats.dropped.shutdown), (GIVEN, report.unsent), "{stats:?}");
    say("refused_again", stats.spool_refused);
    say("spooled", report.spooled);
    forbid(false);

    let logger = start(&serving);
    logger.flush_timeout(SURELY).unwrap();
    let stats = logger.shutdown(SURELY).stats;
    assert_eq!((stats.recovered, stats.delivered), (report.spooled, report.spooled), "{stats:?}");
    assert_eq!((stats.pending, stats.failed, stats.dropped.total()), (0, 0, 0), "{stats:?}");
}

fn shut_down() {
    let report = kafka_log::shutdown(Duration::from_secs(5));
    assert_eq!((report.unsent, report.stats.dropped.total(), report.stats.pending), (0, 0, report.spooled));
    assert_eq!(report.stats.delivered + report.spooled, AHEAD);
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
fn deliver(child: &Child, broker: &Broker, directory: &Directory) -> Stats {
    let config = Config::new(broker.servers(), broker.topic.clone()).transport(child.transport());
    let logger = config.spool(Spool::new(directory.spool()).mode(SpoolMode::WriteAhead)).build().unwrap();
    logger.flush_timeout(SURELY).unwrap();
    let stats = logger.shutdown(SURELY).stats;
    assert_eq!((stats.pending, stats.spooled, stats.dropped.total(), stats.failed), (0, 0, 0, 0), "{stats:?}");
    stats
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

/// Of what was written ahead, each record arrives once: those that the process had `kept` a broker waiting for, and the rest by
/// the next logger. Without a broker that is all of it.
fn arrives_by_the_next_one(child: &Child, kept: u64, judged: impl Fn(Ended) -> Ended) {
    for (listens, kept) in [(false, 0), (true, kept)] {
        let (broker, directory) = (Broker::start(), Directory::new());
        let process = child.again().with(DIRECTORY, directory.spool());
        let process = if listens { broker.serves(process) } else { process.on("127.0.0.1:1", &broker.topic) };
        judged(process.run());
        let by_the_process = numbers(&broker);
        assert_eq!(by_the_process, (0..kept).collect::<Vec<_>>(), "a broker: {listens}");
        let stats = deliver(child, &broker, &directory);
        assert_eq!((stats.recovered, stats.delivered), (AHEAD - kept, AHEAD - kept), "a broker: {listens}");
        assert_eq!(numbers(&broker), (0..AHEAD).collect::<Vec<_>>(), "a broker: {listens}");
    }
}

fn a_return_from_main_leaves_what_was_written_ahead_where_nobody_takes_it(child: Child) {
    arrives_by_the_next_one(&child, AHEAD, |ended| ended.with_code(0));
}

fn a_guard_that_is_dropped_leaves_what_was_written_ahead_where_nobody_takes_it(child: Child) {
    arrives_by_the_next_one(&child, AHEAD, |ended| ended.with_code(0));
}

fn process_exit_leaves_what_was_written_ahead_where_nobody_takes_it(child: Child) {
    arrives_by_the_next_one(&child, AHEAD, |ended| ended.with_code(3));
}

fn a_panic_in_main_leaves_what_was_written_ahead_where_nobody_takes_it(child: Child) {
    arrives_by_the_next_one(&child, AHEAD, |ended| ended.with_code(exit::PANICKED));
}

fn a_shutdown_leaves_what_was_written_ahead_where_nobody_takes_it(child: Child) {
    arrives_by_the_next_one(&child, AHEAD, |ended| ended.with_code(0));
}

fn a_shutdown_on_sigterm_leaves_what_was_written_ahead_where_nobody_takes_it(child: Child) {
    arrives_by_the_next_one(&child, AHEAD, |ended| ended.with_code(3));
}

fn a_panic_that_cannot_unwind_leaves_all_that_was_written_ahead(child: Child) {
    arrives_by_the_next_one(&child, 0, |ended| ended.by_signal(libc::SIGABRT));
}

fn a_second_panic_while_unwinding_leaves_all_that_was_written_ahead(child: Child) {
    arrives_by_the_next_one(&child, 0, |ended| ended.by_signal(libc::SIGABRT));
}

fn abort_leaves_all_that_was_written_ahead(child: Child) {
    arrives_by_the_next_one(&child, 0, |ended| ended.by_signal(libc::SIGABRT));
}

fn sigterm_by_default_leaves_all_that_was_written_ahead(child: Child) {
    arrives_by_the_next_one(&child, 0, |ended| ended.by_signal(libc::SIGTERM));
}

fn sigint_by_default_leaves_all_that_was_written_ahead(child: Child) {
    arrives_by_the_next_one(&child, 0, |ended| ended.by_signal(libc::SIGINT));
}

fn sigkill_leaves_all_that_was_written_ahead(child: Child) {
    arrives_by_the_next_one(&child, 0, |ended| ended.by_signal(libc::SIGKILL));
}

/// In each mode, the counts of the loggers against what arrived. A `starter` makes the disk one that refuses: the large records
/// alone, or any.
fn agrees_with_what_arrived(child: &Child, starter: impl Fn(&Directory) -> Option<Command>, large_alone: bool) {
    for mode in [AHEAD_OF_ALL, "overflow"] {
        let (broker, directory) = (Broker::start(), Directory::new());
        let process = child.again().with(DIRECTORY, directory.spool()).with(MODE, mode);
        let process = process.with(SERVES, broker.servers()).on("127.0.0.1:1", &broker.topic);
        let process = match starter(&directory) {
            Some(starter) => process.started_by(starter),
            None => process,
        };
        let ended = process.succeeds();
        let (refused, again, spooled) =
            (ended.said::<u64>("refused"), ended.said::<u64>("refused_again"), ended.said::<u64>("spooled"));
        let mut arrived = numbers(&broker);
        // What went on in memory may arrive out of its turn.
        arrived.sort();
        let left = arrived.split_off(GIVEN as usize);
        assert!(arrived.into_iter().eq(0..GIVEN), "{mode}: the first logger's");
        assert_eq!(left.len() as u64, spooled, "{mode}");
        assert!(left.is_sorted_by(|one, next| one < next) && left.iter().all(|n| (GIVEN..2 * GIVEN).contains(n)));
        assert!(spooled < GIVEN, "{mode}: the disk took all");
        if mode != AHEAD_OF_ALL {
            assert_eq!((refused, again), (0, 0), "{mode}: nobody wrote ahead");
        } else if large_alone {
            // Those that are too large, and no others.
            let large = GIVEN / EACH_LARGE;
            assert_eq!((refused, again, spooled), (large, large, GIVEN - large));
            assert!(left.iter().all(|n| n % EACH_LARGE != EACH_LARGE - 1));
        } else {
            assert!(spooled >= FREELY, "the disk took {spooled}");
            assert!(again >= GIVEN - spooled, "{again} were refused, and {spooled} are on the disk");
        }
    }
}

/// A shell's word before the child.
fn shell(before: &[&str], script: &str) -> Command {
    let script = format!("{script} && exec \"$@\"");
    let words = [before, &["sh", "-c", &script, "sh"]].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

fn a_disk_that_takes_no_large_files_is_accounted_for(child: Child) {
    // In blocks of 512 bytes or of 1024, by the shell.
    agrees_with_what_arrived(&child, |_| Some(shell(&[], "trap '' XFSZ; ulimit -f 180")), true);
}

fn a_full_disk_is_accounted_for(child: Child) {
    let mount = |directory: &Directory| {
        let at = directory.0.path().to_str().unwrap();
        shell(&["unshare", "-rm"], &format!("mount -t tmpfs -o size=400k tmpfs '{at}'"))
    };
    let allowed = mount(&Directory::new()).arg("true").output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        // Here nobody may mount; the limit on files, above, is had everywhere.
        return;
    }
    agrees_with_what_arrived(&child, |directory| Some(mount(directory)), false);
}

fn a_directory_that_turns_read_only_is_accounted_for(child: Child) {
    // Root may write everywhere, unless its capabilities are taken away.
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    let without = ["setpriv", "--inh-caps", "-all", "--bounding-set", "-all"];
    agrees_with_what_arrived(&child, |_| root.then(|| shell(&without, "true")), false);
}
