//! Brokers that go away in the middle of a stream.

use std::thread;
use std::time::{Duration, Instant};

use kafka_log::State;

use crate::records::{assert_order, counts, log_from_threads};
use crate::support::wait;
use crate::target::{LONG, Target};

/// Of each thread, in each of the three parts: before, while the broker is away, and after.
const PART: u64 = 2_000;

pub(crate) fn stopped(target: &Target) {
    let broker = target.broker();
    through(target, Duration::from_secs(5), || broker.stop(), || broker.start_again());
}

pub(crate) fn frozen(target: &Target) {
    let broker = target.broker();
    // Longer than the session timeout here, so that the broker is fenced when it comes to itself.
    through(target, Duration::from_secs(5), || broker.freeze(), || broker.thaw());
}

/// Logs all the while that the broker is taken away, stays away and comes back.
fn through(target: &Target, away: Duration, take_away: impl FnOnce(), bring_back: impl FnOnce()) {
    let topic = target.create_topic("away", 4, &[]);
    let logger = target.config(&topic).build().unwrap();
    log_from_threads(&logger, 1);
    logger.flush_timeout(LONG).unwrap();
    assert_eq!(logger.status().state, State::Up);

    thread::scope(|scope| {
        let logging = scope.spawn(|| steadily(&logger));
        wait::until("records to be logged", LONG, || logger.stats().submitted > 100);
        take_away();
        let back = Instant::now() + away;
        wait::until("the time away", LONG, || Instant::now() >= back);
        assert!(logger.stats().pending > 0, "nothing was logged while the broker was away");
        bring_back();
        logging.join().unwrap();
    });
    logger.flush_timeout(LONG).unwrap();
    let status = logger.status();
    let stats = logger.shutdown(LONG).stats;
    assert_eq!((stats.failed, stats.dropped.total(), stats.pending), (0, 0, 0), "{stats:?}, {status:?}");
    assert_eq!(stats.delivered, 4 * (1 + PART));

    let records = target.read(&topic, stats.delivered as usize);
    let counts = counts(&records, PART);
    let doubled = counts.iter().filter(|count| **count > 1).count();
    assert!(counts.iter().all(|count| *count > 0), "{} records are lost", counts.iter().filter(|c| **c == 0).count());
    // The first round of one record a thread repeats record 0 of the second.
    let repeated = counts.iter().step_by(PART as usize).filter(|count| **count == 2).count();
    if target.is_idempotent() {
        assert_eq!((doubled, repeated), (4, 4), "an idempotent producer must not double a record");
    }
    assert_order(&records);
}

/// All of the records, over some eight seconds, so that the broker's absence falls among them.
fn steadily(logger: &kafka_log::KafkaLogger) {
    thread::scope(|scope| {
        for who in 0..4u64 {
            scope.spawn(move || {
                for n in 0..PART {
                    let message = format_args!("record {n} of thread {who}");
                    logger.info(message, kafka_log::fields! { who = who, n = n });
                    thread::sleep(Duration::from_millis(4));
                }
            });
        }
    });
}
