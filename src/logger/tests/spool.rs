//! The detour by the disk, over the scriptable client.

use std::path::{Path, PathBuf};
use std::sync::mpsc;

use log::{Level, Log, Record};
use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::config::{Fsync, Overflow, Spool, SpoolMode};
use crate::spool::COMPILED;
use crate::{DeliveryErrorKind, Fallback};

/// A spool's directory, which goes with the test.
struct Directory(TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn spool(&self, mode: SpoolMode) -> Spool {
        Spool::new(self.path()).mode(mode)
    }
}

fn config(directory: &Directory, mode: SpoolMode) -> Config {
    Config::default().use_json(false).spool(directory.spool(mode))
}

/// The numbers that arrived, in order.
fn arrived(script: &Script) -> Vec<u64> {
    script.taken().iter().map(|line| line.rsplit(": ").next().unwrap().parse().unwrap()).collect()
}

/// The first arrivals of each number.
fn first_arrivals(script: &Script) -> Vec<u64> {
    let mut seen = std::collections::HashSet::new();
    arrived(script).into_iter().filter(|number| seen.insert(*number)).collect()
}

fn all(numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.collect()
}

#[test]
fn what_is_left_at_the_end_is_replayed_at_the_next_start_and_new_records_come_behind() {
    for mode in [SpoolMode::Overflow, SpoolMode::WriteAhead].into_iter().filter(|_| COMPILED) {
        let directory = Directory::new();
        let (first, script) = logger(config(&directory, mode), Mode::Hold);
        numbered(&first, 0..3_000);
        script.wait_taken(1);
        let report = first.shutdown(Duration::ZERO);
        assert_eq!((report.unsent, report.spooled, report.stats.pending), (0, 3_000, 3_000), "{mode:?}");
        assert_eq!((report.stats.submitted, report.stats.dropped.total()), (3_000, 0));
        drop(first);

        let (second, script) = logger(config(&directory, mode), Mode::Deliver);
        numbered(&second, 3_000..3_100);
        second.flush_timeout(LONG).unwrap();
        let stats = second.stats();
        assert_eq!((stats.recovered, stats.submitted, stats.delivered), (3_000, 3_100, 3_100), "{mode:?}");
        assert_eq!((stats.pending, stats.spooled), (0, 0), "{mode:?}");
        assert_eq!(arrived(&script), all(0..3_100), "{mode:?}");
        drop(second);

        let (third, script) = logger(config(&directory, mode), Mode::Deliver);
        numbered(&third, 0..1);
        third.flush_timeout(LONG).unwrap();
        assert_eq!((third.stats().recovered, arrived(&script)), (0, all(0..1)), "{mode:?}");
    }
}

#[test]
fn the_disk_takes_what_memory_has_no_room_for_and_order_is_kept() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let config = config(&directory, SpoolMode::Overflow).queue_records(1_000);
    let (logger, script) = logger(config, Mode::Hold);
    for n in 0..20_000 {
        numbered(&logger, n..n + 1);
        if n % 100 == 99 {
            // The worker has its turn: memory is small.
            wait_until("room in memory", || n + 1 - logger.stats().spooled < 900);
        }
    }
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.dropped.total(), stats.pending), (20_000, 0, 20_000));
    assert!(stats.spooled > 18_000, "{stats:?}");
    assert!(logger.flush_timeout(Duration::from_millis(20)).is_err(), "a flush waits for what is on the disk");
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.delivered, stats.pending, stats.spooled), (20_000, 0, 0));
    assert_eq!(arrived(&script), all(0..20_000));
    // Memory is enough again.
    numbered(&logger, 20_000..20_010);
    logger.flush_timeout(LONG).unwrap();
    assert_eq!(arrived(&script).len(), 20_010);
}

#[test]
fn an_outage_longer_than_the_delivery_timeout_sends_records_to_the_disk() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let config = config(&directory, SpoolMode::Overflow).delivery_timeout(Duration::from_millis(300));
    let (logger, script) = logger(config, Mode::HoldMixed);
    numbered(&logger, 0..500);
    wait_until("the disk to have them", || logger.stats().spooled == 500);
    numbered(&logger, 500..600);
    wait_until("the disk to have more", || logger.stats().spooled == 600);
    assert_eq!(logger.stats().failed, 0);
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.delivered, stats.failed, stats.pending), (600, 600, 0, 0), "{stats:?}");
    assert_eq!(stats.spooled, 0);
    assert!(arrived(&script).ends_with(&all(0..600)), "in order, whatever was given back first");
}

/// After a flush: each record has its outcome, and the next logger on this directory finds nothing there.
fn assert_nothing_is_left(logger: KafkaLogger, config: Config) {
    let stats = logger.stats();
    assert_eq!(stats.submitted, stats.delivered + stats.failed + stats.dropped.total(), "{stats:?}");
    assert_eq!((stats.pending, stats.spooled), (0, 0), "{stats:?}");
    logger.shutdown(LONG);
    drop(logger);
    assert_eq!(super::logger(config, Mode::Deliver).0.stats().recovered, 0);
}

#[test]
fn a_client_that_panics_takes_nothing_with_it_that_was_written_ahead() {
    // At any moment, and whether it gives back what it had or not.
    for panics in [Mode::PanicInPoll, Mode::PanicThroughout, Mode::PanicInSubmit].into_iter().filter(|_| COMPILED) {
        let directory = Directory::new();
        let config = || config(&directory, SpoolMode::WriteAhead);
        let (logger, script, errors) = noting(config(), Mode::Hold);
        numbered(&logger, 0..999);
        script.wait_taken(999);
        // Out of their turn: they are on the disk as long as their elders are, and are sent again.
        script.deliver_one(500);
        script.deliver_one(10);
        wait_until("two to be delivered", || logger.stats().delivered == 2);
        script.mode(panics);
        let awaited = logger.ainfo(999, NO_FIELDS);
        script.wait_made(3);
        script.mode(Mode::Deliver);
        logger.flush_timeout(LONG).unwrap();
        let stats = logger.stats();
        assert_eq!((stats.submitted, stats.delivered, stats.failed), (1_000, 1_000, 0), "{panics:?}: {stats:?}");
        assert_eq!(first_arrivals(&script), all(0..1_000), "{panics:?}");
        futures_executor::block_on(awaited).unwrap();
        assert!(errors.try_recv().is_err(), "{panics:?}: nothing has failed");
        assert_nothing_is_left(logger, config());
    }
}

#[test]
fn what_a_client_that_panics_had_from_the_disk_and_from_memory_is_sent_by_the_next_one() {
    let all_panics = [Mode::PanicInPoll, Mode::PanicConfused, Mode::PanicThroughout];
    for panics in all_panics.into_iter().filter(|_| COMPILED) {
        let directory = Directory::new();
        let config = || config(&directory, SpoolMode::Overflow);
        let (first, _script) = logger(config(), Mode::NoRoom);
        numbered(&first, 0..100);
        assert_eq!(first.shutdown(Duration::ZERO).spooled, 100);
        drop(first);

        let (logger, script, errors) = noting(config(), Mode::Hold);
        script.wait_taken(100);
        // An acknowledgement, behind which memory does not take the way by the disk.
        script.deliver_one(0);
        wait_until("the delivery", || logger.stats().delivered == 1);
        numbered(&logger, 100..149);
        let awaited = logger.ainfo(149, NO_FIELDS);
        script.wait_taken(150);
        let stats = logger.stats();
        let in_memory = stats.pending - stats.spooled;
        assert!(in_memory > 0, "{stats:?}");
        script.mode(panics);
        script.wait_dropped(1);
        script.mode(Mode::Deliver);
        logger.flush_timeout(LONG).unwrap();
        let stats = logger.stats();
        // What it does not give back can be had from nowhere but the disk.
        let failed = if panics == Mode::PanicThroughout { in_memory } else { 0 };
        assert_eq!((stats.delivered, stats.failed), (150 - failed, failed), "{panics:?}: {stats:?}");
        assert_eq!(first_arrivals(&script), all(0..150), "{panics:?}");
        let again = script.taken().len() as u64 - 150;
        assert_eq!(again, 150 - failed, "{panics:?}: the first is on the disk as long as the others are");
        let told = futures_executor::block_on(awaited);
        assert_eq!(told.is_err(), failed > 0, "{panics:?}");
        assert_eq!(stats.callbacks_missed, failed, "{panics:?}");
        assert!(errors.try_recv().is_err(), "{panics:?}: none is told to have failed that arrives");
        assert_nothing_is_left(logger, config());
    }
}

#[test]
fn a_client_that_gives_back_more_than_it_had_is_believed_for_no_more() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let (logger, script) = logger(config(&directory, SpoolMode::Overflow), Mode::Hold);
    numbered(&logger, 0..10);
    script.wait_taken(10);
    script.deliver_one(9);
    wait_until("the delivery", || logger.stats().delivered == 1);
    script.mode(Mode::PanicConfused);
    script.wait_dropped(1);
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.delivered, stats.failed), (10, 10, 0), "{stats:?}");
    assert_eq!(arrived(&script)[10..], all(0..9));
    assert_nothing_is_left(logger, config(&directory, SpoolMode::Overflow));
}

/// Two hundred records of 10 kB, all of them with the client, beside a spool of a megabyte.
fn with_more_than_the_disk_holds(directory: &Directory) -> (KafkaLogger, Script, mpsc::Receiver<DeliveryError>) {
    let (logger, script, errors) = noting(small(directory, SpoolMode::Overflow), Mode::Hold);
    let long = "x".repeat(10_000);
    (0..200).for_each(|n| logger.info(format_args!("{long}: {n}"), NO_FIELDS));
    script.wait_taken(200);
    (logger, script, errors)
}

#[test]
fn what_a_client_that_panics_gives_back_fails_where_the_disk_is_full() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let (logger, script, errors) = with_more_than_the_disk_holds(&directory);
    script.mode(Mode::PanicInPoll);
    script.wait_dropped(1);
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    // A megabyte has room for fewer than a hundred of them: the oldest.
    assert!(stats.failed > 100 && stats.delivered > 20, "{stats:?}");
    assert_eq!(arrived(&script)[200..], all(0..stats.delivered), "{stats:?}");
    for n in stats.delivered..200 {
        let error = next(&errors);
        assert!(error.cause().contains("panicked") && error.payload().ends_with(format!(": {n}").as_bytes()));
    }
    assert!(errors.try_recv().is_err());
    assert_nothing_is_left(logger, small(&directory, SpoolMode::Overflow));
}

#[test]
fn what_neither_a_client_nor_the_disk_has_at_the_end_is_told_once_and_not_missed_besides() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let (logger, _script, errors) = with_more_than_the_disk_holds(&directory);
    let report = logger.shutdown(Duration::from_millis(100));
    assert!(report.unsent > 100 && report.spooled > 20, "{report:?}");
    assert_eq!(report.unsent + report.spooled, 200);
    for n in report.spooled..200 {
        assert!(next(&errors).payload().ends_with(format!(": {n}").as_bytes()));
    }
    drop(logger);
    assert!(errors.recv().is_err(), "nothing is told twice, and the callback is let go");
    assert_eq!(report.stats.callbacks_missed, 0);
}

#[test]
fn a_worker_that_moves_records_to_the_disk_hears_its_client_in_between() {
    if !COMPILED {
        return;
    }
    const RECORDS: u64 = 12_000;
    let directory = Directory::new();
    let (logger, script) = logger(config(&directory, SpoolMode::Overflow).queue_bytes(16 << 20), Mode::Hang);
    script.wait_hanging();
    let long = "x".repeat(1_000);
    (0..RECORDS).for_each(|n| logger.info(format_args!("{long}: {n}"), NO_FIELDS));
    let polls = script.polls();
    script.mode(Mode::NoRoom);
    wait_until("the records are on the disk", || logger.stats().spooled == RECORDS);
    let polls = script.polls() - polls;
    // Of twelve megabytes each takes half of one, and a batch.
    assert!(polls >= 15, "{polls} polls");
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    assert_eq!(arrived(&script), all(0..RECORDS));
}

#[test]
fn a_directory_in_use_is_refused_and_free_again_after_shutdown() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let (first, _) = logger(config(&directory, SpoolMode::Overflow), Mode::Deliver);
    let second = KafkaLogger::start_with(config(&directory, SpoolMode::Overflow), Script::new(Mode::Deliver).choice());
    assert!(matches!(second, Err(LoggerError::Spool(_))), "{second:?}");
    first.shutdown(LONG);
    KafkaLogger::start_with(config(&directory, SpoolMode::Overflow), Script::new(Mode::Deliver).choice()).unwrap();
}

#[test]
fn a_full_disk_is_counted_and_memory_goes_on() {
    for mode in [SpoolMode::Overflow, SpoolMode::WriteAhead].into_iter().filter(|_| COMPILED) {
        let directory = Directory::new();
        let spool = directory.spool(mode).max_bytes(1 << 20);
        let config = Config::default().use_json(false).spool(spool).queue_records(2_000);
        let (logger, script) = logger(config, Mode::Hold);
        let long = "x".repeat(1_000);
        for n in 0..10_000 {
            logger.info(format_args!("{long}: {n}"), NO_FIELDS);
        }
        let stats = logger.stats();
        assert!(stats.dropped.queue_full > 0 && stats.spooled > 500, "{mode:?}: {stats:?}");
        if mode == SpoolMode::WriteAhead {
            assert!(stats.spool_refused >= 9_000 - stats.spooled, "{stats:?}");
        }
        let words = logger.status().last_error.unwrap();
        assert!(words.contains("max_bytes"), "{words}");
        script.mode(Mode::Deliver);
        logger.flush_timeout(LONG).unwrap();
        let stats = logger.stats();
        assert_eq!((stats.pending, stats.spooled, stats.failed), (0, 0, 0), "{mode:?}");
        assert_eq!(stats.delivered + stats.dropped.queue_full, 10_000, "{mode:?}");
        assert_eq!(script.taken().len() as u64, stats.delivered, "{mode:?}");
    }
}

#[test]
fn who_awaits_a_record_on_the_disk_hears_of_it() {
    for mode in [SpoolMode::Overflow, SpoolMode::WriteAhead].into_iter().filter(|_| COMPILED) {
        let directory = Directory::new();
        let config = config(&directory, mode).delivery_timeout(Duration::from_millis(100));
        let (logger, script) = logger(config, Mode::Hold);
        let awaited: Vec<_> = (0..10).map(|n| logger.ainfo(n, NO_FIELDS)).collect();
        wait_until("the disk to have them", || logger.stats().spooled == 10);
        script.mode(Mode::Deliver);
        logger.flush_timeout(LONG).unwrap();
        for delivered in awaited {
            futures_executor::block_on(delivered).unwrap();
        }
    }
}

#[test]
fn an_outage_with_a_disk_that_is_too_small_ends_as_without_one_and_it_recovers() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let spool = directory.spool(SpoolMode::Overflow).max_bytes(1 << 20);
    let config = Config::default().use_json(false).spool(spool).delivery_timeout(Duration::from_millis(300));
    let (logger, script) = logger(config, Mode::Hold);
    let long = "x".repeat(1_000);
    for n in 0..5_000 {
        logger.info(format_args!("{long}: {n}"), NO_FIELDS);
    }
    wait_until("some to fail", || logger.stats().failed > 0);
    let stats = logger.stats();
    assert!(stats.spooled > 500 && stats.failed > 2_000, "{stats:?}");
    script.mode(Mode::Deliver);
    numbered(&logger, 5_000..5_010);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.delivered + stats.failed, stats.spooled), (5_010, 5_010, 0), "{stats:?}");
}

#[test]
fn a_flush_covers_what_its_thread_has_written_ahead_whatever_others_do() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let (logger, script) = logger(config(&directory, SpoolMode::WriteAhead), Mode::Deliver);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (logger, script) = (&logger, &script);
            scope.spawn(move || {
                for n in (thread * 1_000..thread * 1_000 + 100).step_by(2) {
                    let awaited = logger.ainfo(n, NO_FIELDS);
                    logger.info(n + 1, NO_FIELDS);
                    logger.flush_timeout(LONG).unwrap();
                    let arrived = arrived(script);
                    assert!(arrived.contains(&n) && arrived.contains(&(n + 1)), "{n} was not waited for");
                    futures_executor::block_on(awaited).unwrap();
                }
            });
        }
    });
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.delivered, stats.pending, stats.spooled), (400, 400, 0, 0));
}

#[test]
fn a_shutdown_in_the_middle_of_writing_ahead_leaves_nobody_waiting() {
    for round in 0..20_u64 {
        if !COMPILED {
            return;
        }
        let directory = Directory::new();
        let config =
            Config::default().use_json(false).spool(directory.spool(SpoolMode::WriteAhead).fsync(Fsync::Never));
        let (logger, _script) = logger(config, Mode::Hold);
        let awaited = thread::scope(|scope| {
            let log = || {
                let mut awaited = Vec::new();
                while logger.stats().dropped.closed == 0 {
                    awaited.push(logger.ainfo("awaited", NO_FIELDS));
                }
                awaited
            };
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(log)).collect();
            wait_until("some to be logged", || logger.stats().submitted > round * 3);
            logger.shutdown(Duration::ZERO);
            // In case all had been refused before.
            logger.info("after", NO_FIELDS);
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        for delivered in awaited {
            wait_until("an awaited record to be told of", || format!("{delivered:?}").contains("known: true"));
        }
        let stats = logger.stats();
        assert_eq!(
            (stats.pending, stats.submitted),
            (stats.spooled, stats.spooled + stats.dropped.total()),
            "{stats:?}"
        );
    }
}

#[test]
fn a_record_whose_fsync_fails_goes_on_in_memory_and_arrives_once() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let spool = directory.spool(SpoolMode::WriteAhead).fsync(Fsync::EveryBatch);
    let (logger, script) = logger(Config::default().use_json(false).spool(spool), Mode::Deliver);
    for n in 0..50 {
        if n % 5 == 4 {
            logger.pipeline.ahead.as_ref().unwrap().fail_next_sync();
        }
        let delivered = logger.ainfo(n, NO_FIELDS);
        futures_executor::block_on(delivered).unwrap();
    }
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.delivered, stats.pending, stats.spooled), (50, 50, 0, 0), "{stats:?}");
    assert_eq!((stats.spool_refused, arrived(&script)), (10, all(0..50)));
    assert!(logger.status().last_error.unwrap().contains("could not be synced"));
}

#[test]
fn the_disk_takes_what_memory_cannot_while_no_client_can_be_made() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let config = config(&directory, SpoolMode::Overflow).queue_records(1_000);
    let (logger, script) = logger(config, Mode::Deliver);
    script.mode(Mode::PanicForGood);
    numbered(&logger, 0..1);
    script.wait_dropped(1);
    for n in 1..10_000 {
        numbered(&logger, n..n + 1);
        if n % 100 == 99 {
            wait_until("room in memory", || n + 1 - logger.stats().spooled < 900);
        }
    }
    let stats = logger.stats();
    assert_eq!((stats.failed, stats.dropped.total(), stats.pending), (0, 0, 10_000), "{stats:?}");
    assert!(stats.spooled > 9_000, "{stats:?}");
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    assert_eq!((logger.stats().delivered, first_arrivals(&script)), (10_000, all(0..10_000)));
}

#[test]
fn what_waits_behind_a_client_that_panics_is_not_forgotten_and_keeps_its_order() {
    for queue_records in [1_000, 100].into_iter().filter(|_| COMPILED) {
        let directory = Directory::new();
        let config = config(&directory, SpoolMode::Overflow).queue_records(queue_records);
        let (logger, script) = logger(config, Mode::NoRoom);
        let turn = || assert!(logger.flush_timeout(Duration::from_millis(50)).is_err());
        numbered(&logger, 0..1);
        turn();
        numbered(&logger, 1..10);
        turn();
        script.mode(Mode::HoldOne);
        script.wait_taken(1);
        // Of the next batch the client takes one, and has no room for the rest.
        script.deliver_one(0);
        script.wait_taken(2);
        numbered(&logger, 10..80);
        // With the smaller queue these go to the disk.
        turn();
        assert_eq!(logger.stats().spooled > 0, queue_records == 100, "{:?}", logger.stats());
        script.mode(Mode::PanicInPoll);
        script.wait_dropped(1);
        script.mode(Mode::Deliver);
        logger.flush_timeout(LONG).unwrap();
        let stats = logger.stats();
        assert_eq!((stats.submitted, stats.delivered, stats.failed, stats.spooled), (80, 80, 0, 0), "{stats:?}");
        assert_eq!(first_arrivals(&script), all(0..80), "{queue_records}");
    }
}

#[test]
fn the_disk_takes_records_before_drop_below_refuses_any() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let config =
        config(&directory, SpoolMode::Overflow).queue_records(1_000).overflow(Overflow::DropBelow(Level::Warn));
    let (logger, script) = logger(config, Mode::Hold);
    for n in 0..5_000 {
        numbered(&logger, n..n + 1);
        if n % 50 == 49 {
            wait_until("room in memory", || n + 1 - logger.stats().spooled < 700);
        }
    }
    let stats = logger.stats();
    assert_eq!((stats.dropped.total(), stats.pending), (0, 5_000), "{stats:?}");
    assert!(stats.spooled > 4_000, "{stats:?}");
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    assert_eq!(arrived(&script), all(0..5_000));
}

#[test]
fn records_that_are_damaged_on_the_disk_are_told_of_when_they_are_read() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let spool = directory.spool(SpoolMode::WriteAhead).max_bytes(1 << 20);
    let (said, notices) = mpsc::channel();
    let said = Mutex::new(said);
    let config = Config::default().use_json(false).spool(spool).fallback(Fallback::Logger(Arc::new(Notes(said))));
    let (logger, script, errors) = noting(config, Mode::NoRoom);
    let long = "x".repeat(1_000);
    let awaited: Vec<_> = (0..250)
        .map(|n| {
            logger.info(format_args!("{long}: {}", 2 * n), NO_FIELDS);
            logger.awarning(format_args!("{long}: {}", 2 * n + 1), NO_FIELDS)
        })
        .collect();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "spool"));
    files.sort();
    // Behind what has been read by now.
    let (first, gone) = (50, &files[5]);
    std::fs::remove_file(gone).unwrap();
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    let arrived = arrived(&script);
    let stats = logger.stats();
    let lost = stats.dropped.damaged;
    assert!(lost > 20 && arrived.len() as u64 == 500 - lost && arrived.contains(&first), "{stats:?}");
    assert_eq!((stats.delivered, stats.pending, stats.spooled), (500 - lost, 0, 0), "{stats:?}");
    assert_eq!((stats.dropped.total(), stats.fallback_missed, stats.callbacks_missed), (lost, lost, 0), "{stats:?}");
    assert!(logger.status().last_error.unwrap().contains(directory.path().to_str().unwrap()));
    let notice = notices.recv_timeout(LONG).expect("the fallback hears nothing");
    assert!(notice.ends_with(&format!(": damaged {lost}")), "{notice}");
    // Whoever awaits one knows by now, and the callback has been called for each.
    for (n, delivered) in (0..).zip(awaited) {
        let is_lost = !arrived.contains(&(2 * n + 1));
        wait_until("an awaited record to be told of", || format!("{delivered:?}").contains("known: true"));
        let told = futures_executor::block_on(delivered);
        assert_eq!(told.is_err(), is_lost, "{n}");
        if let Err(error) = told {
            assert_eq!((error.kind(), error.level()), (DeliveryErrorKind::Dropped(DropReason::Damaged), Level::Warn));
        }
    }
    let told: Vec<_> = (0..lost).map(|_| next(&errors)).collect();
    assert!(told.iter().all(|error| error.cause().contains("read it back") && error.topic() == "logs"));
    assert!(told.iter().all(|error| error.kind() == DeliveryErrorKind::Dropped(DropReason::Damaged)));
    assert!(errors.try_recv().is_err());
}

/// Of long records, in several files, as a process leaves them: with `late`, in the store of what a client gave back.
fn leave(directory: &Directory, records: u64, late: bool) {
    let (mode, client) = if late { (SpoolMode::Overflow, Mode::Hold) } else { (SpoolMode::WriteAhead, Mode::NoRoom) };
    let (logger, script) = logger(small(directory, mode), client);
    let long = "x".repeat(1_000);
    (0..records).for_each(|n| logger.info(format_args!("{long}: {n}"), NO_FIELDS));
    if late {
        script.wait_taken(records as usize);
    }
    assert_eq!(logger.shutdown(Duration::ZERO).spooled, records);
}

/// Of 64 KiB are its files.
fn small(directory: &Directory, mode: SpoolMode) -> Config {
    Config::default().use_json(false).spool(directory.spool(mode).max_bytes(1 << 20))
}

/// Its sealed files, oldest first, with the numbers of their records there.
fn files(directory: &Path) -> Vec<(PathBuf, std::ops::RangeInclusive<u64>)> {
    let number = |name: &str, at: usize| name.get(at..at + 20)?.parse().ok();
    let named = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        Some((path, number(&name, 0)?..=number(&name, 21)?))
    };
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter_map(named).collect();
    files.sort_by_key(|(_, numbers)| *numbers.start());
    files
}

#[test]
fn records_whose_files_are_gone_at_the_start_are_counted_and_told_of() {
    const RECORDS: u64 = 500;
    for late in [false, true].into_iter().filter(|_| COMPILED) {
        let directory = Directory::new();
        leave(&directory, RECORDS, late);
        let files = files(&directory.path().join(if late { "late" } else { "" }));
        let gone = [&files[3], &files[4], &files[6]];
        gone.iter().for_each(|(path, _)| std::fs::remove_file(path).unwrap());
        // In the order of the calls, and from 1 on.
        let is_gone = |n: &u64| gone.iter().any(|(_, numbers)| numbers.contains(&(n + 1)));
        let left: Vec<u64> = (0..RECORDS).filter(|n| !is_gone(n)).collect();
        let lost = RECORDS - left.len() as u64;

        let (said, notices) = mpsc::channel();
        let config =
            small(&directory, SpoolMode::Overflow).fallback(Fallback::Logger(Arc::new(Notes(Mutex::new(said)))));
        let (logger, script, errors) = noting(config, Mode::Hold);
        let stats = logger.stats();
        assert_eq!((stats.submitted, stats.recovered, stats.dropped.damaged), (RECORDS, RECORDS, lost), "{late}");
        assert_eq!((stats.pending, stats.spooled), (RECORDS - lost, RECORDS - lost), "{late}");
        let words = logger.status().last_error.unwrap();
        assert!(words.contains(&lost.to_string()) && words.contains(directory.path().to_str().unwrap()), "{words}");
        script.mode(Mode::Deliver);
        logger.flush_timeout(LONG).unwrap();
        let stats = logger.stats();
        assert_eq!((stats.submitted, stats.delivered, stats.failed), (RECORDS, RECORDS - lost, 0), "{late}: {stats:?}");
        assert_eq!((stats.dropped.total(), stats.pending, stats.spooled), (lost, 0, 0), "{late}: {stats:?}");
        assert_eq!((stats.fallback_missed, stats.callbacks_missed), (lost, 0), "{late}");
        assert_eq!(arrived(&script), left, "{late}");
        let notice = notices.recv_timeout(LONG).expect("the fallback hears nothing");
        assert!(notice.ends_with(&format!(": damaged {lost}")), "{notice}");
        for _ in 0..lost {
            assert_eq!(next(&errors).kind(), DeliveryErrorKind::Dropped(DropReason::Damaged));
        }
        assert!(errors.try_recv().is_err(), "{late}: more are told of than are lost");
        assert_nothing_is_left(logger, small(&directory, SpoolMode::Overflow));
    }
}

#[test]
fn what_has_no_number_at_the_start_is_in_the_status_and_in_no_count() {
    const RECORDS: u64 = 500;
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    leave(&directory, RECORDS, false);
    let files = files(directory.path());
    // The oldest is gone, as if it had been deleted in order, and the newest ends in the middle of a record.
    let ((oldest, first), (newest, last)) = (&files[0], &files[files.len() - 1]);
    std::fs::remove_file(oldest).unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap();
    let unsealed = newest.with_file_name(format!("{}{}.open", &name[..20], &name[41..58]));
    std::fs::rename(newest, &unsealed).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(unsealed).unwrap();
    file.set_len(file.metadata().unwrap().len().min(8_192 + 2_600)).unwrap();

    let (logger, script) = logger(small(&directory, SpoolMode::Overflow), Mode::Deliver);
    let words = logger.status().last_error.unwrap();
    assert!(words.contains("bytes in which no record is whole") && !words.contains("are lost"), "{words}");
    logger.flush_timeout(LONG).unwrap();
    let left: Vec<u64> = (*first.end()..last.start() + 1).collect();
    let stats = logger.stats();
    assert_eq!(arrived(&script), left);
    assert_eq!(
        (stats.recovered, stats.submitted, stats.delivered),
        (left.len() as u64, stats.recovered, stats.recovered)
    );
    assert_eq!((stats.dropped.total(), stats.pending, stats.spooled), (0, 0, 0), "{stats:?}");
    assert_nothing_is_left(logger, small(&directory, SpoolMode::Overflow));
}

#[test]
fn a_file_whose_name_lies_costs_no_more_calls_than_can_wait() {
    const FAR: u64 = 1 << 50;
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    leave(&directory, 200, false);
    let files = files(directory.path());
    let (newest, numbers) = files.last().unwrap();
    let seal = &newest.file_name().unwrap().to_str().unwrap()[41..];
    let (first, last) = (numbers.start() + FAR, numbers.end() + FAR);
    std::fs::rename(newest, newest.with_file_name(format!("{first:020}-{last:020}{seal}"))).unwrap();

    let (logger, script, errors) = noting(small(&directory, SpoolMode::Overflow), Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    let (stats, arrived) = (logger.stats(), arrived(&script));
    assert_eq!(arrived, all(0..numbers.start() - 1));
    let in_it = numbers.end() - numbers.start() + 1;
    let lost = FAR + in_it;
    assert_eq!((stats.dropped.damaged, stats.pending, stats.spooled), (lost, 0, 0), "{stats:?}");
    assert_eq!(stats.submitted, stats.delivered + lost);
    let told = lost - stats.callbacks_missed;
    (0..told).for_each(|_| drop(next(&errors)));
    assert!((1_024..=1_024 + in_it).contains(&told) && errors.try_recv().is_err(), "{told}");
}

#[test]
#[cfg(unix)]
fn nothing_goes_past_records_whose_file_cannot_be_opened_for_a_moment() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    leave(&directory, 300, true);
    let (logger, script) = logger(small(&directory, SpoolMode::Overflow), Mode::NoRoom);
    let files = files(&directory.path().join("late"));
    let ((file, _), aside) = (&files[1], directory.path().join("aside"));
    std::fs::rename(file, &aside).unwrap();
    // It leads to itself.
    std::os::unix::fs::symlink(file, file).unwrap();
    numbered(&logger, 300..310);
    script.mode(Mode::Deliver);
    wait_until("the file to be missed", || logger.status().last_error.is_some_and(|error| error.contains("opened")));
    std::fs::rename(&aside, file).unwrap();
    logger.flush_timeout(LONG).unwrap();
    assert_eq!(arrived(&script), all(0..310));
}

/// A fallback that hears notices.
struct Notes(Mutex<mpsc::Sender<String>>);

impl Log for Notes {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().send(record.args().to_string()).unwrap();
    }

    fn flush(&self) {}
}

#[test]
fn what_is_left_in_the_spool_is_never_more_than_what_is_pending() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let (logger, script) = logger(config(&directory, SpoolMode::WriteAhead), Mode::Hold);
    numbered(&logger, 0..10);
    script.wait_taken(10);
    // Its elders are still on the disk, and so is it.
    script.deliver_one(5);
    wait_until("the delivery", || logger.stats().delivered == 1);
    script.mode(Mode::PanicInPoll);
    script.wait_dropped(1);
    script.mode(Mode::Hold);
    script.wait_taken(20);
    script.deliver_one(0);
    let stats = logger.stats();
    assert_eq!((stats.pending, stats.spooled), (9, 9), "{stats:?}");
    let report = logger.shutdown(Duration::ZERO);
    assert_eq!((report.spooled, report.stats.pending, report.unsent), (9, 9, 0), "{report:?}");
}

#[test]
fn what_a_client_has_from_the_disk_is_bounded_with_what_is_in_memory() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let long = "x".repeat(1_000);
    let config = || {
        let spool = directory.spool(SpoolMode::Overflow).max_bytes(1 << 20);
        Config::default().use_json(false).spool(spool).queue_records(400)
    };
    let (first, script) = logger(config(), Mode::Hold);
    let is_full = || first.status().last_error.is_some_and(|error| error.contains("max_bytes"));
    wait_until("the disk to be full", || {
        (0..20).for_each(|n| first.info(format_args!("{long}: {n}"), NO_FIELDS));
        is_full()
    });
    drop((first, script));

    let (second, script) = logger(config(), Mode::NoRoom);
    numbered(&second, 10_000..11_000);
    wait_until("memory to be full", || second.stats().dropped.queue_full > 0);
    let held = second.stats().pending - second.stats().spooled;
    script.mode(Mode::Hold);
    script.wait_taken(1);
    assert!(second.flush_timeout(Duration::from_millis(100)).is_err());
    let (taken, stats) = (script.taken().len() as u64, second.stats());
    // What is free in memory, or a quarter, and a batch.
    assert!(held > 300 && taken <= 400 - held.min(300) + 50, "{taken} beside {held}: {stats:?}");
    script.mode(Mode::Deliver);
    second.flush_timeout(LONG).unwrap();
    let stats = second.stats();
    assert_eq!((stats.delivered, stats.pending), (stats.submitted - stats.dropped.total(), 0), "{stats:?}");
}

#[test]
fn who_is_told_of_a_record_of_an_earlier_process_learns_its_target_and_size() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let config = || config(&directory, SpoolMode::Overflow).max_record_bytes(1_000);
    // With a callback, for which each record is tracked.
    let (first, _script, _) = noting(config(), Mode::NoRoom);
    let message = "x".repeat(5_000);
    first.log(&Record::builder().level(Level::Warn).target("app::orders").args(format_args!("{message}")).build());
    assert_eq!(first.shutdown(Duration::ZERO).spooled, 1);
    drop(first);
    let (second, _script, errors) = noting(config(), Mode::Fail);
    let error = next(&errors);
    assert_eq!((error.kind(), error.level()), (DeliveryErrorKind::Rejected, Level::Warn));
    assert_eq!(error.target(), Some("app::orders"));
    assert!(error.original_bytes().is_some_and(|bytes| bytes > 5_000) && error.payload().len() <= 1_000);
    second.flush_timeout(LONG).unwrap();
    assert_eq!((second.stats().recovered, second.stats().failed), (1, 1));
}

#[test]
fn what_was_written_is_synced_while_there_is_no_client_that_lives() {
    for panics in [Mode::PanicInPoll, Mode::PanicForGood].into_iter().filter(|_| COMPILED) {
        let directory = Directory::new();
        let spool = directory.spool(SpoolMode::WriteAhead).fsync(Fsync::Interval(Duration::from_millis(20)));
        let (logger, script) = logger(Config::default().use_json(false).spool(spool), Mode::Hold);
        script.mode(panics);
        numbered(&logger, 0..1);
        script.wait_dropped(1);
        let ahead = logger.pipeline.ahead.as_ref().unwrap();
        for n in 1..6 {
            numbered(&logger, n..n + 1);
            wait_until("it to be synced", || ahead.is_synced());
        }
        script.mode(Mode::Deliver);
        logger.flush_timeout(LONG).unwrap();
        assert_eq!(first_arrivals(&script), all(0..6), "{panics:?}");
    }
}

#[test]
fn a_call_that_writes_ahead_waits_for_no_sync_of_another() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new();
    let spool = directory.spool(SpoolMode::WriteAhead).fsync(Fsync::Interval(Duration::from_millis(1)));
    let (logger, script) = logger(Config::default().use_json(false).spool(spool), Mode::Deliver);
    let sync = logger.pipeline.ahead.as_ref().unwrap().hold_next_sync();
    numbered(&logger, 0..1);
    sync.wait_begun();
    let (sender, returned) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            numbered(&logger, 1..100);
            let _ = (logger.stats(), logger.status());
            sender.send(()).unwrap();
        });
        let in_time = returned.recv_timeout(LONG);
        drop(sync);
        in_time.expect("the calls wait for the sync");
    });
    logger.flush_timeout(LONG).unwrap();
    assert_eq!(arrived(&script), all(0..100));
}
