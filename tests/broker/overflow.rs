//! Each overflow policy with a frozen broker: exact counts against what an independent reader sees.

use std::thread;
use std::time::Duration;

use kafka_log::{KafkaLogger, Overflow, Stats, fields};

use crate::records::{assert_order, who_and_n};
use crate::support::wait;
use crate::target::{LONG, Target};

const ROOM: u64 = 1_000;
const THREADS: u64 = 8;
const EACH: u64 = 500;

pub(crate) fn drop_newest(target: &Target) {
    let stats = frozen(target, Overflow::DropNewest, logged_at_once);
    assert_eq!((stats.delivered, stats.dropped.queue_full), (ROOM, THREADS * EACH - ROOM));
}

pub(crate) fn drop_oldest(target: &Target) {
    let stats = frozen(target, Overflow::DropOldest, logged_at_once);
    assert!(stats.dropped.queue_full >= THREADS * EACH - ROOM && stats.delivered > 0, "{stats:?}");
}

pub(crate) fn drop_below(target: &Target) {
    let stats = frozen(target, Overflow::DropBelow(log::Level::Error), logged_at_once);
    // The records are of the level INFO: the last quarter is not for them.
    assert_eq!((stats.delivered, stats.dropped.queue_full), (ROOM * 3 / 4, THREADS * EACH - ROOM * 3 / 4));
}

pub(crate) fn block(target: &Target) {
    let stats = frozen(target, Overflow::Block, |logger, thaw| {
        thread::scope(|scope| {
            let callers = scope.spawn(|| log_from_threads(logger));
            wait::until("the queue to be full", LONG, || logger.stats().pending >= ROOM);
            assert!(!callers.is_finished(), "nobody waited");
            thaw();
            callers.join().unwrap();
        });
    });
    assert_eq!((stats.delivered, stats.dropped.total()), (THREADS * EACH, 0));
}

pub(crate) fn block_for(target: &Target) {
    let stats = frozen(target, Overflow::BlockFor(Duration::from_millis(1)), logged_at_once);
    assert_eq!((stats.delivered, stats.dropped.queue_full), (ROOM, THREADS * EACH - ROOM));
}

/// Freezes the broker, has `log` fill the queue and thaw it, and compares the counts with the topic. Whatever is dropped,
/// what arrives of a thread is in its order.
fn frozen(target: &Target, overflow: Overflow, log: impl FnOnce(&KafkaLogger, &dyn Fn())) -> Stats {
    let topic = target.create_topic("overflow", 2, &[]);
    let logger = target.config(&topic).queue_records(ROOM as usize).overflow(overflow).build().unwrap();
    wait::until("the client to be connected", LONG, || logger.status().state == kafka_log::State::Up);
    target.broker().freeze();
    log(&logger, &|| target.broker().thaw());
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.shutdown(LONG).stats;
    assert_eq!(stats.submitted, THREADS * EACH);
    assert_eq!((stats.failed, stats.pending), (0, 0), "{stats:?}");
    assert_eq!(stats.delivered + stats.dropped.total(), stats.submitted);

    let records = target.read(&topic, stats.delivered as usize);
    assert_order(&records);
    let mut read: Vec<(u64, u64)> = records.iter().map(who_and_n).collect();
    if target.is_idempotent() {
        assert_eq!(read.len() as u64, stats.delivered, "there is something twice");
    }
    read.sort_unstable();
    read.dedup();
    assert_eq!(read.len() as u64, stats.delivered, "the count is not what is in the topic");
    stats
}

fn logged_at_once(logger: &KafkaLogger, thaw: &dyn Fn()) {
    log_from_threads(logger);
    thaw();
}

fn log_from_threads(logger: &KafkaLogger) {
    thread::scope(|scope| {
        for who in 0..THREADS {
            scope.spawn(move || {
                for n in 0..EACH {
                    logger.info(format_args!("record {n} of thread {who}"), fields! { who = who, n = n });
                }
            });
        }
    });
}
