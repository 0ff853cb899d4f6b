//! What is due on a connection, and when.

use super::*;
use crate::config::Config;
use crate::route::Route;

fn settings() -> Settings {
    Settings::new(&Config::default(), &Route::new("records")).unwrap()
}

/// One that is set up, without a socket.
fn ready(now: Instant) -> (Connection, Settings) {
    let settings = settings();
    let address = Address { host: "broker".into(), port: 9092 };
    let mut connection = Connection::new(None, address, &settings, now);
    connection.be_ready(&mut Vec::new());
    (connection, settings)
}

/// The first moment at which something is due, and what comes of it then.
fn next(connection: &mut Connection, settings: &Settings) -> (Instant, Result<(), Trouble>) {
    let due = connection.due(settings).unwrap();
    (due, connection.tick(settings, due, &mut Vec::new()))
}

#[test]
fn a_set_up_that_takes_too_long_ends() {
    let now = Instant::now();
    let settings = settings();
    let address = Address { host: "broker".into(), port: 9092 };
    let mut connection = Connection::new(None, address, &settings, now);
    let (due, ended) = next(&mut connection, &settings);
    assert_eq!(due, now + settings.connect_timeout);
    assert!(ended.unwrap_err().words.contains("was not set up within 5000 ms"));
}

#[test]
fn a_silence_that_is_over_is_not_due_again() {
    let now = Instant::now();
    let (mut connection, settings) = ready(now);
    connection.muted_until = Some(now + Duration::from_secs(2));
    assert!(connection.takes(now) && !connection.takes_records(5, now));
    let (due, ended) = next(&mut connection, &settings);
    assert_eq!((due, ended.is_ok()), (now + Duration::from_secs(2), true));
    assert!(connection.takes_records(5, due));
    // Who is told of a moment that has passed never sleeps.
    assert!(connection.due(&settings).unwrap() > due);
}

#[test]
fn an_answer_is_waited_for_as_long_as_the_broker_may_take_and_no_longer() {
    let now = Instant::now();
    let (mut connection, settings) = ready(now);
    connection.ask_for_metadata(&settings, now);
    connection.ask_for_metadata(&settings, now + Duration::from_secs(1));
    assert!(connection.takes_records(3, now) && !connection.takes_records(2, now));
    let (due, ended) = next(&mut connection, &settings);
    assert_eq!(due, now + settings.request_timeout + settings.connect_timeout, "the oldest counts");
    let trouble = ended.unwrap_err();
    assert!(trouble.words.contains("broker:9092: no answer within 35000 ms") && !trouble.idle, "{}", trouble.words);
}

#[test]
fn an_unused_connection_ends_without_trouble_before_the_broker_ends_it() {
    let now = Instant::now();
    let (mut connection, settings) = ready(now);
    let (due, ended) = next(&mut connection, &settings);
    assert_eq!(due, now + Duration::from_secs(540));
    assert!(ended.unwrap_err().idle);
}

#[test]
fn bytes_that_nobody_takes_are_waited_for_like_an_answer() {
    let now = Instant::now();
    let (mut connection, mut settings) = ready(now);
    settings.acks = 0;
    connection.produce(Sent { partition: 0, load: 1 }, Bytes::from_static(b"batch"), [0; 16], &settings, now);
    assert_eq!(connection.under_way(), 0);
    connection.stall(now).unwrap();
    connection.stall(now + Duration::from_secs(1)).unwrap();
    let (due, ended) = next(&mut connection, &settings);
    assert_eq!(due, now + settings.answer_timeout());
    let trouble = ended.unwrap_err();
    assert!(trouble.words.contains("read nothing of what was sent") && !trouble.idle, "{}", trouble.words);
}

#[test]
fn a_login_that_is_due_waits_for_what_was_asked_and_nothing_new_is() {
    let now = Instant::now();
    let (mut connection, settings) = ready(now);
    connection.ask_for_metadata(&settings, now);
    let soon = now + Duration::from_secs(1);
    connection.login_due = Some(soon);
    assert!(connection.takes(now) && !connection.takes(soon));
    assert_eq!(connection.due(&settings), Some(now + settings.answer_timeout()), "the answer, not the login");
}
