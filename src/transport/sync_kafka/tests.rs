//! What the worker's side decides, over a scripted caller in the place of the `kafka` crate.

use std::sync::mpsc;

use parking_lot::Mutex;

use super::*;
use crate::clock::Moment;
use crate::config::{Overflow, Transport};
use crate::queue::{Meta, Queue};
use crate::severity::Severity;
use crate::transport::Ack;

const LONG: Duration = Duration::from_secs(20);

/// The payloads of each load that the scripted caller was given, with its partition.
type Seen = Arc<Mutex<Vec<(Vec<String>, i32)>>>;

/// A client whose callers all answer by `answer`, with timeouts short enough to wait for.
fn client(answer: impl Fn(&[String]) -> Result<(), Problem> + Send + Sync + 'static) -> (SyncClient, Seen) {
    let seen = Seen::default();
    let (noted, answer) = (Arc::clone(&seen), Arc::new(answer));
    let start = move || {
        let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
        Caller::start_with(Arc::new(|| {}), Arc::default(), move |job: Job| match job {
            Job::Connect => Answer::Connected(answer(&[])),
            Job::Send(load) => {
                let payloads: Vec<String> = load.payloads().map(|p| String::from_utf8(p.to_vec()).unwrap()).collect();
                let attempt = noted.lock().len() as i32;
                noted.lock().push((payloads.clone(), load.choose_partition(attempt)));
                Answer::Sent(answer(&payloads).map(|()| Ack { partition: 0, offset: Some(10) }))
            }
        })
    };
    let mut config = Config::default();
    config.delivery.retry_backoff = (Duration::from_millis(1), Duration::from_millis(2));
    config.delivery.connect_timeout = Duration::from_millis(100);
    config.delivery.request_timeout = Duration::from_millis(100);
    let health = Arc::new(Health::new(Transport::Sync, "scripted".into()));
    (SyncClient::new(&config, health, Box::new(start)).unwrap(), seen)
}

fn batch(payloads: impl IntoIterator<Item = String>) -> Batch {
    let queue = Queue::new(1_000_000, 1 << 30, Overflow::DropNewest, Arc::default());
    for payload in payloads {
        let meta = Meta { severity: Severity::Info, timestamp_ms: 0, called: Moment::now(), number: 0, tracked: None };
        queue.push(payload.as_bytes(), meta).unwrap();
    }
    queue.take().unwrap()
}

fn outcomes(client: &mut SyncClient, expected: usize) -> Vec<Outcome> {
    let deadline = Instant::now() + LONG;
    let mut outcomes = Vec::new();
    while outcomes.len() < expected {
        assert!(Instant::now() < deadline, "{} of {expected} outcomes: {outcomes:?}", outcomes.len());
        client.poll(&mut outcomes);
        std::thread::yield_now();
    }
    outcomes
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn a_load_that_fails_is_sent_again_before_later_ones_and_to_the_same_partition() {
    let failures = Mutex::new(3);
    let (mut client, seen) = client(move |payloads| {
        let mut left = failures.lock();
        if payloads.is_empty() || *left == 0 {
            return Ok(());
        }
        *left -= 1;
        Err(Problem::new("not now"))
    });
    client.submit(&mut batch(numbers(0..3)));
    client.poll(&mut Vec::new());
    client.submit(&mut batch(numbers(3..6)));
    let outcomes = outcomes(&mut client, 6);
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()) && outcomes.len() == 6);
    let sent: Vec<_> = seen.lock().iter().filter(|(payloads, _)| payloads[0] == "0").map(|(_, p)| *p).collect();
    assert_eq!(sent, [0, 0, 0, 0], "the partition is chosen once");
    let delivered: Vec<String> = seen.lock().iter().skip(3).flat_map(|(payloads, _)| payloads.clone()).collect();
    assert_eq!(delivered, numbers(0..6));
}

#[test]
fn what_comes_while_a_call_is_under_way_goes_in_one_load() {
    let (mut client, seen) = client(|_| Ok(()));
    for n in 0..500 {
        client.submit(&mut batch(numbers(n..n + 1)));
    }
    outcomes(&mut client, 500);
    assert_eq!(seen.lock().len(), 1);
}

#[test]
fn a_load_that_is_not_full_waits_for_more_and_a_full_one_does_not() {
    let (mut client, seen) = client(|_| Ok(()));
    client.settings.linger = Duration::from_millis(200);
    client.settings.batch_bytes = 10_000;
    let begun = Instant::now();
    client.submit(&mut batch(numbers(0..1)));
    while client.under_way.is_some() || !client.connected {
        client.poll(&mut Vec::new());
    }
    assert!(client.patience() <= Duration::from_millis(200) && seen.lock().is_empty());
    client.submit(&mut batch(numbers(1..2)));
    outcomes(&mut client, 2);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(*seen.lock(), [(numbers(0..2), 0)]);

    client.settings.linger = LONG * 2;
    client.submit(&mut batch(["x".repeat(9_000), "y".repeat(9_000)]));
    outcomes(&mut client, 1);
    assert_eq!(seen.lock().len(), 2, "only the full one has gone");
}

#[test]
fn a_record_too_large_is_found_and_its_neighbours_are_unharmed() {
    let (mut client, _) = client(|payloads| match payloads.iter().any(|payload| payload == "13") {
        true => Err(Problem { too_large: true, permanent: true, ..Problem::new("too large") }),
        false => Ok(()),
    });
    client.submit(&mut batch(numbers(0..100)));
    let outcomes = outcomes(&mut client, 100);
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.result.is_err()).collect();
    assert_eq!((failed.len(), failed[0].bytes), (1, "13".len()));
    assert!(failed[0].result.as_ref().unwrap_err().cause.contains("too large"));
}

#[test]
fn what_no_attempt_can_help_fails_once_and_later_loads_go_on() {
    let (mut client, seen) = client(|payloads| match payloads.first().is_some_and(|payload| payload == "0") {
        true => Err(Problem { permanent: true, ..Problem::new("not allowed") }),
        false => Ok(()),
    });
    client.submit(&mut batch(numbers(0..3)));
    let refused = outcomes(&mut client, 3);
    client.submit(&mut batch(numbers(3..6)));
    let taken = outcomes(&mut client, 3);
    assert!(
        refused.iter().all(|outcome| outcome.result.is_err()) && taken.iter().all(|outcome| outcome.result.is_ok())
    );
    assert_eq!(seen.lock().len(), 2);
}

#[test]
fn records_past_the_delivery_timeout_fail_once_each_and_say_why() {
    let (mut client, _) = client(|_| Err(Problem::new("nobody home")));
    client.settings.delivery_timeout = Duration::from_millis(100);
    client.submit(&mut batch(numbers(0..5)));
    let outcomes = outcomes(&mut client, 5);
    for outcome in &outcomes {
        let cause = &outcome.result.as_ref().unwrap_err().cause;
        assert!(cause.contains("100 ms passed") && cause.ends_with("nobody home"), "{cause}");
    }
    assert_eq!(client.health.read().state, crate::State::Down);
}

#[test]
fn a_call_without_an_answer_is_given_up_and_its_records_go_with_another() {
    let (release, stuck) = mpsc::channel::<()>();
    let (stuck, first) = (Mutex::new(stuck), Mutex::new(true));
    let (mut client, seen) = client(move |payloads| {
        if !payloads.is_empty() && std::mem::take(&mut *first.lock()) {
            // As long as the test lives: the caller that hangs is left behind, not waited for.
            let _ = stuck.lock().recv();
        }
        Ok(())
    });
    client.submit(&mut batch(numbers(0..3)));
    let outcomes = outcomes(&mut client, 3);
    assert!(outcomes.iter().all(|outcome| outcome.result.is_ok()));
    assert_eq!(seen.lock().iter().map(|(_, partition)| *partition).collect::<Vec<_>>(), [0, 0]);
    assert!(client.health.last_heard().unwrap().contains("no answer from localhost:9092 within 200 ms"));
    drop(release);
}

#[test]
fn a_payload_that_no_broker_takes_fails_without_an_attempt() {
    let (mut client, seen) = client(|_| Ok(()));
    client.submit(&mut batch(["x".repeat(LARGEST_PAYLOAD + 1), "small".into()]));
    client.submit(&mut batch(["small".into()]));
    let outcomes = outcomes(&mut client, 2);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.result.is_err()).count(), 1);
    assert!(seen.lock().iter().all(|(payloads, _)| payloads.iter().all(|payload| payload == "small")));
}

#[test]
fn a_callers_thread_that_ends_is_replaced() {
    let first = Mutex::new(true);
    let (mut client, _) = client(move |payloads| {
        assert!(payloads.is_empty() || !std::mem::take(&mut *first.lock()), "as scripted");
        Ok(())
    });
    client.submit(&mut batch(numbers(0..3)));
    assert!(outcomes(&mut client, 3).iter().all(|outcome| outcome.result.is_ok()));
}

#[test]
fn without_records_it_connects_and_then_rests() {
    let (mut client, seen) = client(|_| Ok(()));
    let deadline = Instant::now() + LONG;
    while client.health.read().state != crate::State::Up {
        assert!(Instant::now() < deadline);
        client.poll(&mut Vec::new());
    }
    client.poll(&mut Vec::new());
    assert!(client.under_way.is_none() && client.patience() == LONG.max(super::LONG) && seen.lock().is_empty());
}

#[test]
fn the_check_tells_a_broker_that_cannot_be_served_from_one_that_is_away() {
    let (mut client, _) = client(|_| Err(Problem::of_kind(StartupErrorKind::UnsupportedBroker, "Kafka 4")));
    assert_eq!(client.check(LONG).unwrap_err().kind(), StartupErrorKind::UnsupportedBroker);
    let (mut client, _) = self::client(|_| Err(Problem::new("refused")));
    let error = client.check(Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), StartupErrorKind::Unreachable);
    assert!(error.to_string().contains("localhost:9092") && error.to_string().contains("refused"), "{error}");
}
