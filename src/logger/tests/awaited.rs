//! Awaited deliveries resolve, whatever becomes of the record.

use std::future::Future;
use std::sync::mpsc;

use super::*;
use crate::{Delivery, DeliveryErrorKind};

fn outcome(delivered: Delivered) -> Result<Delivery, DeliveryError> {
    let (sender, outcome) = mpsc::channel();
    thread::spawn(move || sender.send(futures_executor::block_on(delivered)));
    outcome.recv_timeout(LONG).expect("it does not resolve")
}

fn error(delivered: Delivered) -> DeliveryError {
    outcome(delivered).unwrap_err()
}

#[test]
fn a_delivered_record_says_where_it_is() {
    let (logger, _script) = logger(Config::new("localhost:9092", "orders"), Mode::Deliver);
    let delivery = outcome(logger.ainfo("placed", NO_FIELDS)).unwrap();
    assert_eq!((&*delivery.topic, delivery.partition, delivery.offset), ("orders", 3, Some(42)));
    assert_eq!(logger.stats().delivered, 1, "the counts are there before the outcome");
}

#[test]
fn a_failed_record_says_why_and_what_it_was() {
    let (logger, _script) = logger(Config::new("localhost:9092", "orders"), Mode::Fail);
    let error = error(logger.acritical("not placed", NO_FIELDS));
    assert_eq!(
        (error.kind(), error.possibly_delivered(), error.topic()),
        (DeliveryErrorKind::Rejected, false, "orders")
    );
    assert_eq!((error.level(), error.target(), error.cause()), (Level::Error, None, "as scripted"));
    assert!(String::from_utf8_lossy(error.payload()).contains("not placed"));
}

#[test]
fn a_level_that_is_not_taken_is_known_at_once_and_not_counted() {
    let (logger, _script) = logger(Config::default(), Mode::Hold);
    assert_eq!(error(logger.adebug("no", NO_FIELDS)).kind(), DeliveryErrorKind::Filtered);
    assert_eq!(error(logger.alog_at(Level::Trace, "no", NO_FIELDS)).kind(), DeliveryErrorKind::Filtered);
    assert_eq!(logger.stats(), Stats::default());
}

#[test]
fn without_a_global_logger_the_macros_say_so() {
    let error = error(crate::aerror!(target: "orders", n = 3; "not {}", "placed"));
    assert_eq!((error.kind(), error.target()), (DeliveryErrorKind::NotInitialised, Some("orders")));
}

#[test]
fn a_full_queue_an_oversize_record_and_a_thread_of_ours_are_known_at_once() {
    let (logger, _script) =
        logger(Config::default().queue_records(1).queue_bytes(1_000).oversize(Oversize::Drop), Mode::Hold);
    let held = logger.ainfo("fits", NO_FIELDS);
    let full = error(logger.ainfo("does not", NO_FIELDS));
    assert_eq!(full.kind(), DeliveryErrorKind::Dropped(DropReason::QueueFull));
    assert!(String::from_utf8_lossy(full.payload()).contains("does not"));
    let oversize = error(logger.ainfo("x".repeat(2_000), NO_FIELDS));
    assert_eq!(oversize.kind(), DeliveryErrorKind::Dropped(DropReason::Oversize));
    let recursive = {
        let _ours = recursion::enter();
        logger.ainfo("ours", NO_FIELDS)
    };
    assert_eq!(error(recursive).kind(), DeliveryErrorKind::Dropped(DropReason::Recursive));
    logger.shutdown(Duration::ZERO);
    assert_eq!(error(held).kind(), DeliveryErrorKind::Dropped(DropReason::Shutdown));
    assert_eq!(error(logger.ainfo("late", NO_FIELDS)).kind(), DeliveryErrorKind::Closed);
}

#[test]
fn a_shutdown_resolves_what_waits_and_what_a_client_has_even_one_that_hangs() {
    for (first, then) in [(Mode::Hold, Mode::Hold), (Mode::NoRoom, Mode::NoRoom), (Mode::Hold, Mode::Hang)] {
        let (logger, script) = logger(Config::default(), first);
        let awaited: Vec<Delivered> = (0..3).map(|n| logger.ainfo(n, NO_FIELDS)).collect();
        if first == Mode::Hold {
            script.wait_taken(3);
        }
        script.mode(then);
        logger.shutdown(Duration::ZERO);
        for delivered in awaited {
            assert_eq!(error(delivered).kind(), DeliveryErrorKind::Dropped(DropReason::Shutdown), "{then:?}");
        }
        script.mode(Mode::Deliver);
    }
}

#[test]
fn a_client_that_panics_resolves_what_it_had() {
    let (logger, script) = logger(Config::default(), Mode::PanicInPoll);
    let error = error(logger.ainfo("lost with it", NO_FIELDS));
    assert_eq!((error.kind(), error.possibly_delivered()), (DeliveryErrorKind::Rejected, true));
    assert!(error.cause().contains("panicked"), "{error}");
    script.mode(Mode::Deliver);
    outcome(logger.ainfo("next", NO_FIELDS)).unwrap();
    assert_eq!((logger.stats().failed, logger.stats().delivered), (1, 1));
}

#[test]
fn dropping_the_future_cancels_nothing() {
    let (logger, script) = logger(Config::default(), Mode::Hold);
    drop(logger.ainfo("on its way", NO_FIELDS));
    script.mode(Mode::Deliver);
    logger.flush_timeout(LONG).unwrap();
    assert_eq!(logger.stats().delivered, 1);
}

#[test]
fn many_can_await_from_many_threads() {
    let (logger, _script) = logger(Config::default(), Mode::Deliver);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..500 {
                    outcome(logger.ainfo(n, NO_FIELDS)).unwrap();
                }
            });
        }
    });
    assert_eq!(logger.stats().delivered, 4_000);
}

#[test]
fn what_made_room_in_vain_is_known_too() {
    let config = Config::default().queue_bytes(64 * 1024).overflow(crate::Overflow::DropOldest);
    let (logger, script) = logger(config, Mode::Hold);
    let held = logger.ainfo("x".repeat(40 * 1024), NO_FIELDS);
    script.wait_taken(1);
    let waiting: Vec<Delivered> = (0..10).map(|n| logger.ainfo(n, NO_FIELDS)).collect();
    let refused = error(logger.ainfo("y".repeat(30 * 1024), NO_FIELDS));
    assert_eq!(refused.kind(), DeliveryErrorKind::Dropped(DropReason::QueueFull));
    assert_eq!(logger.stats().dropped.queue_full, 1, "nothing was given up for what cannot fit");
    script.mode(Mode::Deliver);
    outcome(held).unwrap();
    waiting.into_iter().for_each(|delivered| drop(outcome(delivered).unwrap()));
}

struct Panics;

impl std::task::Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("in a waker");
    }
}

#[test]
fn a_waker_that_panics_harms_nobody_else() {
    let (logger, script) = logger(Config::default(), Mode::Hold);
    let mut unlucky = logger.ainfo("unlucky", NO_FIELDS);
    let waker = Arc::new(Panics).into();
    let mut context = std::task::Context::from_waker(&waker);
    assert!(std::pin::Pin::new(&mut unlucky).poll(&mut context).is_pending());
    let next = logger.ainfo("next", NO_FIELDS);
    script.wait_taken(2);
    script.mode(Mode::Deliver);
    outcome(next).unwrap();
    outcome(unlucky).unwrap();
    outcome(logger.ainfo("after", NO_FIELDS)).unwrap();
}
