//! The callback of `on_delivery_error`.

use std::sync::mpsc;

use parking_lot::Mutex;

use super::*;
use crate::DeliveryErrorKind;

/// Records are told of after they have been counted.
fn wait_missed(logger: &KafkaLogger, missed: u64) {
    let deadline = Instant::now() + LONG;
    while logger.stats().callbacks_missed < missed {
        assert!(Instant::now() < deadline, "{:?}", logger.stats());
        thread::yield_now();
    }
}

#[test]
fn each_record_that_fails_or_is_dropped_is_told_once_with_its_payload() {
    let (logger, script, errors) = noting(Config::default().queue_records(2), Mode::Hold);
    numbered(&logger, 0..3);
    let dropped = next(&errors);
    assert_eq!(dropped.kind(), DeliveryErrorKind::Dropped(DropReason::QueueFull));
    assert!(String::from_utf8_lossy(dropped.payload()).contains(r#""message":"2""#));

    script.mode(Mode::Fail);
    logger.flush_timeout(LONG).unwrap();
    for n in 0..2 {
        let failed = next(&errors);
        assert_eq!(failed.kind(), DeliveryErrorKind::Rejected);
        assert!(String::from_utf8_lossy(failed.payload()).contains(&format!(r#""message":"{n}""#)));
    }

    script.mode(Mode::NoRoom);
    numbered(&logger, 3..4);
    logger.shutdown(Duration::ZERO);
    numbered(&logger, 4..5);
    // The worker tells of the one, this thread of the other.
    let last = [next(&errors).kind(), next(&errors).kind()];
    assert!(last.contains(&DeliveryErrorKind::Dropped(DropReason::Shutdown)), "{last:?}");
    assert!(last.contains(&DeliveryErrorKind::Closed), "{last:?}");
    assert!(errors.recv_timeout(Duration::from_millis(50)).is_err(), "a record was told of twice");
    assert_eq!(logger.stats().callbacks_missed, 0);
}

#[test]
fn what_a_record_was_is_told_with_its_target_and_level() {
    let (logger, _script, errors) = noting(Config::default(), Mode::Fail);
    log::Log::log(
        &logger,
        &log::Record::builder().level(Level::Warn).target("app::db").args(format_args!("slow")).build(),
    );
    let error = next(&errors);
    assert_eq!((error.level(), error.target()), (Level::Warn, Some("app::db")));
}

#[test]
fn a_slow_callback_stalls_nothing_and_what_it_misses_is_counted() {
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let config = Config::default().on_delivery_error(move |_| {
        let _ = held.lock().recv();
    });
    let (logger, _script) = logger(config, Mode::Fail);
    numbered(&logger, 0..5_000);
    logger.flush_timeout(LONG).unwrap();
    assert_eq!(logger.stats().failed, 5_000);
    // One is in the callback, 1,024 wait.
    wait_missed(&logger, 5_000 - 1_025);
    assert!(logger.stats().callbacks_missed <= 5_000 - 1_024);
    drop(release);
}

#[test]
fn a_callback_that_panics_is_called_for_the_next_one_and_what_it_logs_goes_no_further() {
    let (sender, calls) = mpsc::channel();
    let sender = Mutex::new(sender);
    let (logger, script) = {
        let logs_too: Arc<Mutex<Option<KafkaLogger>>> = Arc::default();
        let inner = Arc::clone(&logs_too);
        let config = Config::default().on_delivery_error(move |_| {
            if let Some(logger) = &*inner.lock() {
                logger.error("from the callback", NO_FIELDS);
            }
            sender.lock().send(()).unwrap();
            panic!("in the callback");
        });
        let (logger, script) = logger(config, Mode::Fail);
        *logs_too.lock() = Some(logger.clone());
        (logger, script)
    };
    numbered(&logger, 0..3);
    for _ in 0..3 {
        calls.recv_timeout(LONG).expect("the callback is not called again");
    }
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.failed, stats.dropped.recursive, script.taken().len()), (3, 3, 3));
}

#[test]
fn records_that_a_client_does_not_give_back_are_counted_as_missed() {
    let (logger, script, errors) = noting(Config::default(), Mode::HoldFast);
    numbered(&logger, 0..3);
    script.wait_taken(3);
    logger.shutdown(Duration::ZERO);
    wait_missed(&logger, 3);
    assert!(errors.try_recv().is_err());
}

#[test]
fn records_that_a_client_gives_back_are_told_of_with_their_payload() {
    let (logger, script, errors) = noting(Config::default(), Mode::Hold);
    numbered(&logger, 0..3);
    script.wait_taken(3);
    logger.shutdown(Duration::ZERO);
    for n in 0..3 {
        let error = next(&errors);
        assert_eq!(error.kind(), DeliveryErrorKind::Dropped(DropReason::Shutdown));
        assert!(String::from_utf8_lossy(error.payload()).contains(&format!(r#""message":"{n}""#)));
        assert!(error.possibly_delivered());
    }
    assert_eq!(logger.stats().callbacks_missed, 0);
}
