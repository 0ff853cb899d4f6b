//! The overflow policies, to the letter and under contention.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::Overflow;

const ROOM: u64 = 1_000;
const THREADS: u64 = 8;

fn full(overflow: Overflow, mode: Mode) -> (KafkaLogger, Script) {
    logger(Config::default().queue_records(ROOM as usize).overflow(overflow), mode)
}

fn from_threads(logger: &KafkaLogger, each: u64) {
    thread::scope(|scope| {
        (0..THREADS).for_each(|_| {
            scope.spawn(|| numbered(logger, 0..each));
        });
    });
}

/// Delivers what is left, and checks that every record is accounted for by what the client saw.
fn deliver_the_rest(logger: &KafkaLogger, script: &Script) -> Stats {
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!(stats.delivered, script.taken().len() as u64);
    assert_eq!((stats.submitted, stats.pending), (stats.delivered + stats.dropped.total(), 0));
    stats
}

#[test]
fn drop_oldest_keeps_the_newest_and_counts_what_made_room() {
    let (logger, script) = full(Overflow::DropOldest, Mode::NoRoom);
    numbered(&logger, 0..10 * ROOM);
    let stats = deliver_the_rest(&logger, &script);
    assert_eq!(stats.dropped.queue_full, stats.dropped.total());
    // It evicts by the batch, an eighth of the queue.
    assert!((ROOM - ROOM / 8..=ROOM).contains(&stats.delivered), "{stats:?}");
    let last = script.taken().pop().unwrap();
    assert!(last.contains(&format!(r#""message":"{}""#, 10 * ROOM - 1)), "{last}");
}

#[test]
fn drop_oldest_is_exact_under_contention_with_half_of_the_queue_with_the_client() {
    let (logger, script) = full(Overflow::DropOldest, Mode::Hold);
    from_threads(&logger, 5_000);
    let stats = deliver_the_rest(&logger, &script);
    assert_eq!(stats.submitted, THREADS * 5_000);
    assert!(stats.dropped.queue_full >= THREADS * 5_000 - ROOM, "{stats:?}");
}

#[test]
fn drop_oldest_with_all_of_it_at_the_client_drops_the_newest() {
    let (logger, script) = logger(Config::default().queue_records(1).overflow(Overflow::DropOldest), Mode::Hold);
    numbered(&logger, 0..1);
    script.wait_taken(1);
    numbered(&logger, 1..2);
    let stats = deliver_the_rest(&logger, &script);
    assert_eq!((stats.delivered, stats.dropped.queue_full), (1, 1));
    assert!(script.taken()[0].contains(r#""message":"0""#));
}

#[test]
fn drop_below_gives_the_last_quarter_to_the_severe_ones() {
    let (logger, script) = full(Overflow::DropBelow(Level::Warn), Mode::NoRoom);
    numbered(&logger, 0..ROOM);
    assert_eq!(logger.stats().dropped.queue_full, ROOM / 4);
    for n in 0..ROOM {
        logger.warning(n, NO_FIELDS);
        logger.critical(n, NO_FIELDS);
    }
    let stats = deliver_the_rest(&logger, &script);
    assert_eq!((stats.delivered, stats.submitted), (ROOM, 3 * ROOM));
    let severe = script.taken().iter().filter(|line| !line.contains(r#""level":"info""#)).count() as u64;
    assert_eq!(severe, ROOM / 4);
}

#[test]
fn block_loses_nothing_under_contention() {
    let (logger, script) = full(Overflow::Block, Mode::Hold);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            from_threads(&logger, 5_000);
            done.store(true, Ordering::Release);
        });
        script.wait_taken(1);
        assert!(!done.load(Ordering::Acquire), "nobody waited: {:?}", logger.stats());
        script.mode(Mode::Deliver);
    });
    let stats = deliver_the_rest(&logger, &script);
    assert_eq!((stats.delivered, stats.dropped.total()), (THREADS * 5_000, 0));
}

#[test]
fn block_ends_on_a_shutdown() {
    let (logger, script) = full(Overflow::Block, Mode::Hold);
    numbered(&logger, 0..ROOM);
    script.wait_taken(1);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| numbered(&logger, 0..10))).collect();
        logger.shutdown(Duration::from_millis(50));
        for caller in callers {
            caller.join().unwrap();
        }
    });
    let stats = logger.stats();
    assert_eq!((stats.dropped.closed, stats.dropped.shutdown, stats.pending), (10 * THREADS, ROOM, 0));
}

#[test]
fn block_for_waits_so_long_and_then_drops() {
    let timeout = Duration::from_millis(50);
    let (logger, script) = full(Overflow::BlockFor(timeout), Mode::Hold);
    numbered(&logger, 0..ROOM);
    script.wait_taken(1);
    let begun = Instant::now();
    numbered(&logger, 0..1);
    assert!(begun.elapsed() >= timeout);
    assert_eq!(logger.stats().dropped.queue_full, 1);
    let stats = deliver_the_rest(&logger, &script);
    assert_eq!(stats.delivered, ROOM);
}

#[test]
fn a_thread_of_ours_never_blocks() {
    let (logger, script) = full(Overflow::Block, Mode::Hold);
    numbered(&logger, 0..ROOM);
    script.wait_taken(1);
    {
        let _ours = recursion::enter();
        numbered(&logger, 0..5);
    }
    assert_eq!(logger.stats().dropped.recursive, 5);
    logger.shutdown(Duration::ZERO);
}

#[test]
fn an_oversize_record_blocks_nobody() {
    let config = Config::default().queue_bytes(1_000).oversize(Oversize::Drop).overflow(Overflow::Block);
    let (logger, _script) = logger(config, Mode::Hold);
    logger.info("held", NO_FIELDS);
    logger.info("x".repeat(2_000), NO_FIELDS);
    assert_eq!(logger.stats().dropped.oversize, 1);
}
