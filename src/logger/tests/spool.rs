//! The detour by the disk, over the scriptable client.

use std::path::PathBuf;

use super::*;
use crate::config::{Spool, SpoolMode};
use crate::spool::COMPILED;

/// A spool's directory, deleted at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("kafka_log-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Directory(path)
    }

    fn spool(&self, mode: SpoolMode) -> Spool {
        Spool::new(&self.0).mode(mode)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
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
        let directory = Directory::new("replay");
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
    let directory = Directory::new("overflow");
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
    let directory = Directory::new("outage");
    let config = config(&directory, SpoolMode::Overflow).delivery_timeout(Duration::from_millis(300));
    let (logger, script) = logger(config, Mode::Hold);
    numbered(&logger, 0..500);
    wait_until("the disk to have them", || logger.stats().spooled == 500);
    numbered(&logger, 500..600);
    wait_until("the disk to have more", || logger.stats().spooled == 600);
    assert_eq!(logger.stats().failed, 0);
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.delivered, stats.failed, stats.pending), (600, 600, 0, 0), "{stats:?}");
    assert_eq!((stats.spooled, first_arrivals(&script)), (0, all(0..600)));
}

#[test]
fn a_client_that_panics_takes_nothing_with_it_that_is_on_the_disk() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new("panic");
    let (logger, script) = logger(config(&directory, SpoolMode::WriteAhead), Mode::Hold);
    numbered(&logger, 0..1_000);
    script.wait_taken(1_000);
    script.mode(Mode::PanicInPoll);
    script.wait_made(2);
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.delivered, stats.failed, stats.pending), (1_000, 1_000, 0, 0), "{stats:?}");
    assert_eq!((stats.spooled, first_arrivals(&script)), (0, all(0..1_000)));
}

#[test]
fn a_directory_in_use_is_refused_and_free_again_after_shutdown() {
    if !COMPILED {
        return;
    }
    let directory = Directory::new("use");
    let (first, _) = logger(config(&directory, SpoolMode::Overflow), Mode::Deliver);
    let second = KafkaLogger::start_with(config(&directory, SpoolMode::Overflow), Script::new(Mode::Deliver).choice());
    assert!(matches!(second, Err(LoggerError::Spool(_))), "{second:?}");
    first.shutdown(LONG);
    KafkaLogger::start_with(config(&directory, SpoolMode::Overflow), Script::new(Mode::Deliver).choice()).unwrap();
}

#[test]
fn a_full_disk_is_counted_and_memory_goes_on() {
    for mode in [SpoolMode::Overflow, SpoolMode::WriteAhead].into_iter().filter(|_| COMPILED) {
        let directory = Directory::new("full");
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
        let directory = Directory::new("awaited");
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
    let directory = Directory::new("small");
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
