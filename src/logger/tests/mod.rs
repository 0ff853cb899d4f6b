//! The promises that hold whatever the client does: the whole road over the scriptable fake.

mod awaited;
mod fallback;
mod losses;
mod overflow;
mod spool;

use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::*;
use crate::State;
use crate::queue::Order;
use crate::transport::fake::{Mode, Script};

const LONG: Duration = Duration::from_secs(20);
const NO_FIELDS: [(&str, &str); 0] = [];

fn logger(config: Config, mode: Mode) -> (KafkaLogger, Script) {
    let script = Script::new(mode);
    (KafkaLogger::start_with(config, script.choice()).unwrap(), script)
}

fn numbered(logger: &KafkaLogger, numbers: std::ops::Range<u64>) {
    numbers.for_each(|n| logger.info(n, NO_FIELDS));
}

/// A logger whose callback sends on what it is given.
fn noting(config: Config, mode: Mode) -> (KafkaLogger, Script, mpsc::Receiver<DeliveryError>) {
    let (sender, errors) = mpsc::channel();
    let sender = Mutex::new(sender);
    let (logger, script) =
        logger(config.on_delivery_error(move |error| sender.lock().send(error.clone()).unwrap()), mode);
    (logger, script, errors)
}

fn next(errors: &mpsc::Receiver<DeliveryError>) -> DeliveryError {
    errors.recv_timeout(LONG).expect("the callback is not called")
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn at_rest_every_counter_is_what_the_client_saw() {
    let (logger, script) = logger(Config::default(), Mode::Deliver);
    numbered(&logger, 0..100);
    logger.flush_timeout(LONG).unwrap();
    script.mode(Mode::Fail);
    numbered(&logger, 100..107);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.delivered, stats.failed, stats.pending), (107, 100, 7, 0));
    assert_eq!((script.taken().len(), stats.dropped.total()), (107, 0));
    let status = logger.status();
    assert_eq!((status.state, status.last_error.as_deref()), (State::Up, Some("as scripted")));
    assert!(status.last_ack.is_some());
}

#[test]
fn records_of_one_thread_keep_their_order() {
    let (logger, script) = logger(Config::default().use_json(false), Mode::Deliver);
    numbered(&logger, 0..5_000);
    logger.flush_timeout(LONG).unwrap();
    for (n, line) in script.taken().iter().enumerate() {
        assert!(line.ends_with(&format!(": {n}")), "{line} at {n}");
    }
}

#[test]
fn the_level_decides_before_anything_is_counted() {
    let (logger, _) = logger(Config::default().level(LevelFilter::Warn), Mode::Deliver);
    logger.info("no", NO_FIELDS);
    logger.log_at(Level::Debug, "no", NO_FIELDS);
    logger.warning("yes", NO_FIELDS);
    logger.critical("yes", NO_FIELDS);
    assert_eq!(logger.stats().submitted, 2);
}

#[test]
fn a_flush_waits_for_what_came_before_and_not_for_what_comes_after() {
    let (logger, script) = logger(Config::default(), Mode::Hold);
    numbered(&logger, 0..2);
    script.wait_taken(2);
    let error = logger.flush_timeout(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.pending(), 2);

    numbered(&logger, 2..3);
    script.wait_taken(3);
    // The youngest is delivered first, as another partition's would be: the flush must not take it for an elder.
    script.deliver_one(2);
    assert!(logger.flush_timeout(Duration::from_millis(50)).is_err());

    let begun = Barrier::new(2);
    thread::scope(|scope| {
        let flush = scope.spawn(|| {
            begun.wait();
            logger.flush_timeout(LONG)
        });
        begun.wait();
        script.deliver_one(0);
        script.deliver_one(0);
        flush.join().unwrap().unwrap();
    });
    // One that comes after a flush has begun does not hold it up: nothing else is unsettled here.
    numbered(&logger, 3..4);
    script.wait_taken(4);
    assert_eq!(logger.stats().pending, 1);
    logger.shutdown(Duration::ZERO);
}

#[test]
fn a_flush_with_nothing_pending_is_over_at_once() {
    let (logger, _) = logger(Config::default(), Mode::Hold);
    logger.flush_timeout(Duration::ZERO).unwrap();
    logger.flush_timeout(Duration::MAX).unwrap();
}

#[test]
fn a_full_queue_drops_the_newest_and_counts_each() {
    for mode in [Mode::Hold, Mode::NoRoom] {
        let (logger, script) = logger(Config::default().queue_records(1_000), mode);
        thread::scope(|scope| {
            (0..8).for_each(|_| {
                scope.spawn(|| numbered(&logger, 0..500));
            });
        });
        let stats = logger.stats();
        assert_eq!((stats.submitted, stats.dropped.queue_full, stats.pending), (4_000, 3_000, 1_000), "{mode:?}");
        script.mode(Mode::Deliver);
        logger.flush_timeout(LONG).unwrap();
        assert_eq!((logger.stats().delivered, script.taken().len()), (1_000, 1_000), "{mode:?}");
        // Outcomes give the room back.
        numbered(&logger, 0..1_000);
        logger.flush_timeout(LONG).unwrap();
        assert_eq!(logger.stats().delivered, 2_000, "{mode:?}");
    }
}

#[test]
fn the_bound_in_bytes_holds_for_what_waits_and_is_in_flight() {
    let (logger, script) = logger(Config::default().queue_bytes(100_000).oversize(Oversize::Drop), Mode::Hold);
    let message = "x".repeat(1_000);
    for _ in 0..200 {
        logger.info(&message, NO_FIELDS);
    }
    script.wait_taken(1);
    let stats = logger.stats();
    let bytes: usize = (stats.pending as usize) * script.taken()[0].len();
    assert!(bytes <= 100_000 && bytes > 98_000, "{bytes} bytes are held");
    assert_eq!(stats.dropped.queue_full, 200 - stats.pending);
    logger.info("y".repeat(200_000), NO_FIELDS);
    assert_eq!(logger.stats().dropped.oversize, 1);
    logger.shutdown(Duration::ZERO);
}

#[test]
fn shutdown_reports_what_is_unsent_and_later_calls_are_counted() {
    let (logger, script) = logger(Config::default(), Mode::Hold);
    numbered(&logger, 0..10);
    script.wait_taken(10);
    script.deliver_one(3);
    let report = logger.shutdown(Duration::from_millis(100));
    assert_eq!((report.unsent, report.timed_out, report.stats.delivered), (9, true, 1));
    assert_eq!((report.stats.dropped.shutdown, report.stats.pending), (9, 0));

    numbered(&logger, 0..3);
    logger.flush_timeout(Duration::ZERO).unwrap();
    let again = logger.shutdown(LONG);
    assert_eq!((again.unsent, again.stats.dropped.closed, again.stats.submitted), (9, 3, 13));
    script.wait_dropped(1);
}

#[test]
fn shutdown_ends_as_soon_as_all_is_settled() {
    let (logger, script) = logger(Config::default(), Mode::Deliver);
    numbered(&logger, 0..1_000);
    let report = logger.shutdown(Duration::MAX);
    assert_eq!((report.stats.delivered, report.unsent, report.timed_out), (1_000, 0, false));
    script.wait_dropped(1);
}

#[test]
fn shutdown_ends_with_the_outcome_it_waits_for() {
    let (logger, script) = logger(Config::default(), Mode::Hold);
    numbered(&logger, 0..1);
    script.wait_taken(1);
    let begun = Instant::now();
    let report = thread::scope(|scope| {
        let shutdown = scope.spawn(|| logger.shutdown(LONG));
        // The worker has heard of the shutdown and sleeps again by the time that the outcome comes: as a rule, and the
        // test passes where it is otherwise.
        while logger.pipeline.queue.order() == Order::GoOn {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(50));
        script.mode(Mode::Deliver);
        shutdown.join().unwrap()
    });
    assert_eq!((report.stats.delivered, report.unsent), (1, 0));
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
}

#[test]
fn shutdown_and_flush_from_many_threads_while_others_log_lose_nothing() {
    let (logger, script) = logger(Config::default(), Mode::Deliver);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| numbered(&logger, 0..5_000));
        }
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| logger.flush_timeout(LONG).unwrap()));
        }
        scope.spawn(|| {
            script.wait_taken(5_000);
            thread::scope(|scope| {
                (0..4).for_each(|_| {
                    scope.spawn(|| assert_eq!(logger.shutdown(LONG).unsent, 0));
                });
            });
        });
    });
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.pending, stats.delivered), (20_000, 0, script.taken().len() as u64));
    assert_eq!(stats.dropped.total(), stats.dropped.closed);
    assert_eq!(stats.delivered + stats.dropped.closed, 20_000);
}

#[test]
fn a_client_that_panics_is_replaced_and_what_it_had_is_counted() {
    for mode in [Mode::PanicInSubmit, Mode::PanicInPoll, Mode::PanicInPatience] {
        let (logger, script) = logger(Config::default(), mode);
        numbered(&logger, 0..1);
        script.wait_dropped(1);
        script.mode(Mode::Deliver);
        numbered(&logger, 1..10);
        logger.flush_timeout(LONG).unwrap();
        script.wait_made(2);
        let stats = logger.stats();
        assert_eq!((stats.submitted, stats.failed, stats.delivered), (10, 1, 9), "{mode:?}");
        assert!(logger.status().last_error.unwrap().contains("as scripted"), "{mode:?}");
    }
}

#[test]
fn a_worker_whose_client_has_no_room_for_the_rest_of_a_batch_goes_round_with_a_rest() {
    const RECORDS: u64 = 50;
    // Long enough that records gather for as long as they ever do.
    let config = Config::default().linger(Duration::from_millis(100));
    let (logger, script) = logger(config, Mode::NoRoom);
    numbered(&logger, 0..RECORDS);
    let before = script.polls();
    script.mode(Mode::OneByOne);
    logger.flush_timeout(LONG).unwrap();
    let polls = script.polls() - before;
    // Two of them deliver one, and a few are for what calls besides.
    assert!(polls as u64 <= 3 * RECORDS, "{polls} for {RECORDS} records");
    assert_eq!((script.taken().len() as u64, logger.stats().delivered), (RECORDS, RECORDS));
}

#[test]
fn calls_one_after_the_other_seldom_wake_the_worker() {
    const RECORDS: u64 = 20_000;
    let (logger, script) = logger(Config::default(), Mode::Deliver);
    let begun = Instant::now();
    numbered(&logger, 0..RECORDS);
    logger.flush_timeout(LONG).unwrap();
    // Each wake-up ends in a poll, and records gather for five milliseconds; a flush calls besides.
    let (polls, millis) = (script.polls() as u128, begun.elapsed().as_millis());
    assert!(polls <= 10 + 2 * millis / 5, "{polls} polls in {millis} ms");
    assert_eq!(logger.stats().delivered, RECORDS);
}

#[test]
fn of_much_that_waits_a_client_is_given_a_part_at_a_time_and_asked_for_outcomes_in_between() {
    const RECORDS: usize = 4_000;
    let (logger, script) = logger(Config::default(), Mode::NoRoom);
    let long = "x".repeat(1_000);
    (0..RECORDS).for_each(|_| logger.info(&long, NO_FIELDS));
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    assert_eq!((script.taken().len(), logger.stats().delivered), (RECORDS, RECORDS as u64));
    let most = script.most_between_polls();
    assert!(most < 1024 * 1024, "{most} bytes of four megabytes");
}

#[test]
fn a_client_that_hangs_holds_up_neither_calls_nor_shutdown() {
    let (logger, script) = logger(Config::default(), Mode::Hold);
    numbered(&logger, 0..10);
    script.wait_taken(10);
    script.mode(Mode::Hang);
    let begun = Instant::now();
    let report = logger.shutdown(Duration::from_millis(100));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!((report.unsent, report.stats.dropped.shutdown, report.stats.pending), (10, 10, 0));
    // What it says when it comes back is not counted again.
    script.mode(Mode::Deliver);
    script.wait_dropped(1);
    assert_eq!(logger.stats(), report.stats);
}

#[test]
fn dropping_the_last_handle_delivers_and_ends_the_threads() {
    let (logger, script) = logger(Config::default(), Mode::Deliver);
    let clone = logger.clone();
    numbered(&logger, 0..100);
    drop(logger);
    numbered(&clone, 100..200);
    drop(clone);
    assert_eq!(script.taken().len(), 200);
    script.wait_dropped(1);
}

#[test]
fn what_a_thread_of_ours_logs_is_counted_and_goes_no_further() {
    let (logger, script) = logger(Config::default(), Mode::Deliver);
    {
        let _ours = recursion::enter();
        numbered(&logger, 0..5);
        logger.flush_timeout(Duration::MAX).unwrap();
    }
    numbered(&logger, 5..6);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.dropped.recursive, stats.delivered), (6, 5, 1));
    assert_eq!(script.taken().len(), 1);
}

struct Panics;

impl fmt::Display for Panics {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("in an argument");
    }
}

#[test]
fn a_panic_in_an_argument_goes_to_the_caller_and_is_counted() {
    let (logger, _script) = logger(Config::default(), Mode::Deliver);
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| logger.info(Panics, NO_FIELDS)));
    assert!(caught.is_err());
    numbered(&logger, 0..1);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.submitted, stats.dropped.format, stats.delivered), (2, 1, 1));
}

struct LogsToo<'a>(&'a KafkaLogger);

impl fmt::Display for LogsToo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.info("inner", NO_FIELDS);
        f.write_str("outer")
    }
}

#[test]
fn a_call_nested_in_an_argument_is_delivered_with_its_own_payload() {
    let (logger, script) = logger(Config::default(), Mode::Deliver);
    logger.info(format_args!("begins {} ends", LogsToo(&logger)), NO_FIELDS);
    logger.flush_timeout(LONG).unwrap();
    let taken = script.taken();
    assert!(
        taken[0].contains(r#""message":"inner""#) && taken[1].contains(r#""message":"begins outer ends""#),
        "{taken:?}"
    );
}
