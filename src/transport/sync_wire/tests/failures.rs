//! What goes wrong, and what becomes of the records.

use std::collections::HashMap;

use kafka_protocol::messages::ApiKey;

use super::broker::{Act, Asks, Request, code};
use super::*;
use crate::State;
use crate::config::Acks;
use crate::error::StartupErrorKind;
use crate::transport::Failure;

/// A script that does this to the first Produce requests, and what Kafka does to all else.
fn first_produce(acts: impl IntoIterator<Item = Act>) -> impl FnMut(&Request) -> Act + Send + 'static {
    let mut acts = acts.into_iter().collect::<Vec<_>>().into_iter();
    move |request| match request.api {
        ApiKey::Produce => acts.next().unwrap_or(Act::Answer),
        _ => Act::Answer,
    }
}

fn always(api: ApiKey, act: Act) -> impl FnMut(&Request) -> Act + Send + 'static {
    move |request| if request.api == api { act.clone() } else { Act::Answer }
}

/// One record a load, so that several are under way.
fn one_by_one(config: &mut Config) {
    config.delivery.batch_bytes = 1;
}

fn failures(bench: &Bench) -> Vec<Failure> {
    bench.outcomes.iter().map(|outcome| outcome.result.clone().unwrap_err()).collect()
}

// ---- connections ----------------------------------------------------------------------------------------------

#[test]
fn a_load_whose_answer_is_lost_goes_again_on_another_connection_and_is_there_once() {
    for act in [Act::Lost, Act::CutOff, Act::Misnumbered, Act::Silent, Act::HangUp] {
        let cluster = Cluster::new(1, 1);
        cluster.script(first_produce([Act::Answer, act.clone()]));
        let mut bench = Bench::of(&cluster, |config| config.delivery.request_timeout = 50 * MS);
        for n in 0..4 {
            bench.submit([n]);
            bench.wait(n + 1);
        }
        assert_eq!(bench.delivered(), 4, "{act:?}");
        assert_eq!(cluster.values(0), numbers(0..4), "{act:?}");
        let offsets: Vec<_> = bench.acks().iter().map(|ack| ack.offset.unwrap()).collect();
        assert_eq!(offsets, [0, 1, 2, 3], "{act:?}");
        let batches = cluster.batches();
        assert_eq!(batches[1], batches[2], "the same batch under the same number: {act:?}");
        let produced: Vec<Request> = cluster.requests().into_iter().filter(|r| r.api == ApiKey::Produce).collect();
        assert_ne!(produced[1].connection, produced[2].connection, "{act:?}");
        assert_eq!(cluster.count(ApiKey::InitProducerId), 1, "the session goes on: {act:?}");
        assert!(bench.last_error().contains(&cluster.address(1)), "{}", bench.last_error());
    }
}

#[test]
fn loads_under_way_keep_their_order_through_a_lost_connection() {
    for act in [Act::HangUp, Act::CutOff, Act::Lost, Act::Misnumbered] {
        for nth in 0..5 {
            let cluster = Cluster::new(1, 1);
            let mut bench = Bench::of(&cluster, |config| {
                one_by_one(config);
                config.delivery.request_timeout = 50 * MS;
                config.delivery.connect_timeout = 200 * MS;
            });
            bench.submit(["first"]);
            bench.wait(1);
            let mut before = 1;
            let act = act.clone();
            cluster.script(move |request| match request.api {
                ApiKey::Produce => {
                    before += 1;
                    if before == nth + 2 { act.clone() } else { Act::Answer }
                }
                _ => Act::Answer,
            });
            bench.submit(0..20);
            bench.wait(21);
            assert_eq!(bench.delivered(), 21);
            assert_eq!(cluster.values(0)[1..], numbers(0..20));
        }
    }
}

#[test]
fn half_a_request_is_never_continued() {
    // The broker reads the beginning of a large request, and goes away. What comes after begins with a whole request:
    // this broker would fail at anything else.
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |_| {});
    bench.submit(["first"]);
    bench.wait(1);
    cluster.script(always(ApiKey::Produce, Act::Deaf));
    bench.submit(["second"]);
    cluster.wait_count(ApiKey::Produce, 2);
    let large = "x".repeat(20_000_000);
    bench.submit([large.as_str()]);
    a_while();
    cluster.behave();
    cluster.close_connections(1);
    bench.wait(3);
    assert_eq!(bench.delivered(), 3);
    assert!(cluster.values(0) == ["first", "second", large.as_str()]);
}

#[test]
fn a_broker_that_is_silent_does_not_hold_up_another() {
    let cluster = Cluster::new(2, 2);
    let mut bench = Bench::of(&cluster, |config| {
        one_by_one(config);
        config.delivery.request_timeout = 10_000 * MS;
    });
    cluster.script(|request| match request.node {
        1 if request.api == ApiKey::Produce => Act::Silent,
        _ => Act::Answer,
    });
    let begun = Instant::now();
    bench.submit(0..100);
    let deadline = begun + LONG;
    bench.wait_by(deadline, |bench| bench.settled() >= 95);
    assert!(begun.elapsed() < 5_000 * MS, "{:?}", begun.elapsed());
    assert!(cluster.values(1).len() >= bench.delivered());

    // And once it is back, nothing is missing.
    cluster.behave();
    cluster.close_connections(1);
    bench.wait(100);
    assert_eq!(bench.delivered(), 100);
    assert_eq!(sorted(cluster.all_values()), numbers(0..100));
    assert_eq!(sorted(cluster.values(0)), cluster.values(0), "in order");
}

#[test]
fn a_leader_that_cannot_be_reached_does_not_hold_up_another() {
    // Which partition is the first is left to chance.
    for _ in 0..8 {
        let cluster = Cluster::new(3, 2);
        // To connect to all of a network fails at once, and not by an answer from there.
        cluster.advertise(1, "255.255.255.255:9092".parse().unwrap());
        let mut bench = Bench::new(&cluster.address(3), |config| {
            one_by_one(config);
            config.delivery.retry_backoff = (5_000 * MS, 5_000 * MS);
        });
        bench.client.check(LONG).unwrap();
        let begun = Instant::now();
        bench.submit(0..20);
        bench.wait(20);
        assert!(begun.elapsed() < 2_000 * MS, "{:?}", begun.elapsed());
        assert_eq!(cluster.values(1), numbers(0..20));
    }
}

#[test]
fn a_connection_that_the_broker_closed_while_idle_costs_the_next_record_nothing() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |config| config.delivery.retry_backoff = (5_000 * MS, 5_000 * MS));
    bench.submit(["a"]);
    bench.wait(1);
    for n in 0..3 {
        cluster.close_connections(1);
        let metadata = cluster.count(ApiKey::Metadata);
        // It looks whether the broker is still there.
        cluster.wait_count(ApiKey::Metadata, metadata + 1);
        let begun = Instant::now();
        bench.submit([n]);
        bench.wait(n + 2);
        assert!(begun.elapsed() < 1_000 * MS, "{:?}", begun.elapsed());
    }
    assert_eq!(bench.delivered(), 4);
    assert_eq!(bench.last_error(), "");
    assert_eq!(bench.health.read().state, State::Up);
}

#[test]
fn an_outage_is_told_and_nothing_is_lost_over_it() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |_| {});
    bench.submit(0..5);
    bench.wait(5);
    assert_eq!(bench.health.read().state, State::Up);
    cluster.down(1);
    bench.submit(5..10);
    bench.wait_status("Down", |status| status.state == State::Down);
    assert!(bench.last_error().contains(&cluster.address(1)), "{}", bench.last_error());
    cluster.up(1);
    bench.wait(10);
    assert_eq!(cluster.values(0), numbers(0..10));
    assert_eq!(bench.health.read().state, State::Up);
}

#[test]
fn without_acknowledgements_a_broker_that_takes_no_bytes_is_left() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |config| {
        config.delivery.acks = Acks::None;
        config.delivery.request_timeout = 100 * MS;
        config.delivery.connect_timeout = 300 * MS;
    });
    cluster.script(first_produce([Act::Deaf]));
    bench.submit(["small"]);
    bench.wait(1);
    let large = "x".repeat(30_000_000);
    bench.submit([large.as_str()]);
    cluster.wait("the large record", |state| state.partitions[&0].log.values.last() == Some(&large));
    bench.wait(2);
    assert_eq!(bench.delivered(), 2);
}

// ---- leaders and metadata -------------------------------------------------------------------------------------

#[test]
fn a_leader_that_moved_is_found_and_the_order_kept() {
    let cluster = Cluster::new(2, 1);
    let mut bench = Bench::of(&cluster, one_by_one);
    bench.submit(["first"]);
    bench.wait(1);
    let metadata = cluster.count(ApiKey::Metadata);
    cluster.lead(0, 2);
    bench.submit(0..30);
    bench.wait(31);
    assert_eq!(bench.delivered(), 31);
    assert_eq!(cluster.values(0)[1..], numbers(0..30));
    assert!(cluster.count(ApiKey::Metadata) > metadata);
    assert_eq!(cluster.requests().iter().rfind(|request| request.api == ApiKey::Produce).unwrap().node, 2);
    assert_eq!(cluster.count(ApiKey::InitProducerId), 1, "a move costs no session");
}

#[test]
fn leaders_that_move_all_the_time_cost_nothing() {
    let cluster = Cluster::new(3, 2);
    let mut bench = Bench::of(&cluster, one_by_one);
    for round in 0..20 {
        for n in 0..10 {
            bench.submit([round * 10 + n]);
        }
        cluster.lead(round % 2, round % 3 + 1);
    }
    bench.wait(200);
    assert_eq!(bench.delivered(), 200);
    assert_eq!(sorted(cluster.all_values()), numbers(0..200));
    for partition in [0, 1] {
        assert_eq!(cluster.values(partition), sorted(cluster.values(partition)));
    }
}

#[test]
fn a_partition_without_a_leader_is_left_out_until_it_has_one() {
    let cluster = Cluster::new(1, 2);
    cluster.lead(0, -1);
    let mut bench = Bench::of(&cluster, one_by_one);
    bench.client.check(LONG).unwrap();
    bench.submit(0..10);
    bench.wait(10);
    assert_eq!(cluster.values(1), numbers(0..10));
    cluster.lead(0, 1);
    let mut next = 10;
    while cluster.values(0).is_empty() {
        assert!(next < 10_000, "nothing for the partition that has a leader now");
        bench.submit([next]);
        next += 1;
        bench.wait(next);
    }
    assert_eq!(sorted(cluster.all_values()), numbers(0..next));
}

#[test]
fn a_leader_that_no_metadata_tell_of_is_asked_for_again() {
    let cluster = Cluster::new(2, 1);
    cluster.lead(0, 2);
    cluster.tell_of(2, false);
    let mut bench = Bench::of(&cluster, |_| {});
    bench.submit(0..3);
    cluster.wait_count(ApiKey::Metadata, 3);
    cluster.tell_of(2, true);
    bench.wait(3);
    assert_eq!(cluster.values(0), numbers(0..3));
}

#[test]
fn a_leader_that_an_answer_of_before_its_election_leaves_out_is_asked_for_again() {
    let cluster = Cluster::new(2, 1);
    cluster.lead(0, 2);
    let mut bench = Bench::of(&cluster, |_| {});
    bench.submit(0..1);
    bench.wait(1);
    cluster.change(|state| state.partitions.get_mut(&0).unwrap().epoch -= 1);
    cluster.tell_of(2, false);
    let metadata = cluster.count(ApiKey::Metadata);
    cluster.close_connections(2);
    cluster.wait_count(ApiKey::Metadata, metadata + 1);
    bench.submit(1..4);
    cluster.wait_count(ApiKey::Metadata, metadata + 3);
    cluster.change(|state| state.partitions.get_mut(&0).unwrap().epoch += 1);
    cluster.tell_of(2, true);
    bench.wait(4);
    assert_eq!(cluster.values(0), numbers(0..4));
}

#[test]
fn partitions_that_are_added_get_their_share() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, one_by_one);
    bench.submit(0..5);
    bench.wait(5);
    cluster.change(|state| state.add_partitions(3));
    let metadata = cluster.count(ApiKey::Metadata);
    cluster.close_connections(1);
    cluster.wait_count(ApiKey::Metadata, metadata + 1);
    bench.submit(5..50);
    bench.wait(50);
    assert_eq!(sorted(cluster.all_values()), numbers(0..50));
    for partition in 0..3 {
        assert!(!cluster.values(partition).is_empty(), "{partition}");
    }
}

#[test]
fn a_topic_that_does_not_exist_yet_is_waited_for() {
    let cluster = Cluster::new(1, 1);
    cluster.change(|state| state.exists = false);
    let mut bench = Bench::of(&cluster, |_| {});
    bench.submit(0..3);
    let error = bench.client.check(100 * MS).unwrap_err();
    assert_eq!(error.kind(), StartupErrorKind::UnknownTopic, "{error}");
    assert!(error.to_string().contains(TOPIC), "{error}");
    assert_eq!(bench.health.read().state, State::Down);
    cluster.change(|state| state.exists = true);
    bench.client.check(LONG).unwrap();
    bench.wait(3);
    assert_eq!(cluster.values(0), numbers(0..3));
    assert_eq!(bench.health.read().state, State::Up);
}

#[test]
fn a_topic_that_may_not_be_written_to_refuses_records_and_the_check() {
    let cluster = Cluster::new(1, 1);
    cluster.change(|state| state.topic_error = code::TOPIC_AUTHORIZATION_FAILED);
    let mut bench = Bench::of(&cluster, |_| {});
    let error = bench.client.check(LONG).unwrap_err();
    assert_eq!(error.kind(), StartupErrorKind::Refused, "{error}");
    assert!(error.to_string().contains("TOPIC_AUTHORIZATION_FAILED"), "{error}");
    bench.submit(0..3);
    bench.wait(3);
    for failure in failures(&bench) {
        assert_eq!((failure.kind, failure.possibly_delivered), (DeliveryErrorKind::Rejected, false));
        assert!(failure.cause.contains("TOPIC_AUTHORIZATION_FAILED"), "{}", failure.cause);
    }
    assert_eq!(bench.health.read().state, State::Down);
    // Somebody grants it.
    cluster.change(|state| state.topic_error = 0);
    bench.wait_status("Up", |status| status.state == State::Up);
    bench.submit(["granted"]);
    bench.wait(4);
    assert_eq!(cluster.values(0), ["granted"]);
}

#[test]
fn errors_of_metadata_that_pass_cost_no_record() {
    // What a cluster says whose other brokers have not started yet, what nobody foresaw, and what only a leader says.
    for error in [code::INVALID_REPLICATION_FACTOR, -1, code::NOT_ENOUGH_REPLICAS, 4_711] {
        let cluster = Cluster::new(1, 1);
        cluster.change(|state| state.topic_error = error);
        let mut bench = Bench::of(&cluster, |_| {});
        bench.submit(0..3);
        cluster.wait_count(ApiKey::Metadata, 3);
        bench.client.poll(&mut bench.outcomes);
        assert!(bench.outcomes.is_empty(), "{error}: {:?}", bench.outcomes);
        assert_eq!(bench.health.read().state, State::Down);
        cluster.change(|state| state.topic_error = 0);
        bench.wait(3);
        assert_eq!(cluster.values(0), numbers(0..3), "{error}");
    }
}

#[test]
fn a_broker_that_sends_us_back_to_the_bootstrap_servers_costs_no_record() {
    let cluster = Cluster::new(2, 1);
    cluster.change(|state| {
        state.versions.insert(ApiKey::Metadata as i16, (0, 13));
    });
    let mut bench = Bench::of(&cluster, |_| {});
    bench.submit(["first"]);
    bench.wait(1);
    // The broker has gone over to another cluster, and says so.
    cluster.change(|state| state.metadata_error = code::REBOOTSTRAP_REQUIRED);
    let connections = |cluster: &Cluster| cluster.requests().iter().map(|request| request.connection).max().unwrap();
    let before = connections(&cluster);
    cluster.close_connections(1);
    cluster.wait_count(ApiKey::Metadata, 3);
    bench.submit(0..3);
    cluster.wait_count(ApiKey::Metadata, 6);
    bench.client.poll(&mut bench.outcomes);
    assert_eq!(bench.outcomes.len(), 1, "{:?}", bench.outcomes);
    // The connection that says so is of no use.
    assert!(connections(&cluster) > before + 2);
    cluster.change(|state| state.metadata_error = 0);
    bench.wait(4);
    assert_eq!(cluster.values(0)[1..], numbers(0..3));
}

// ---- what a broker answers to records -------------------------------------------------------------------------

#[test]
fn errors_that_pass_are_retried_with_longer_and_longer_pauses() {
    let cluster = Cluster::new(1, 1);
    cluster.script(first_produce(vec![Act::Error(code::NOT_ENOUGH_REPLICAS); 4]));
    let mut bench = Bench::of(&cluster, |config| config.delivery.retry_backoff = (40 * MS, 160 * MS));
    bench.submit(0..3);
    bench.wait(3);
    assert_eq!(bench.delivered(), 3);
    assert_eq!(cluster.values(0), numbers(0..3));
    assert!(bench.last_error().contains("NOT_ENOUGH_REPLICAS"), "{}", bench.last_error());
    let at: Vec<Instant> = cluster.requests().iter().filter(|r| r.api == ApiKey::Produce).map(|r| r.at).collect();
    let pauses: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, least) in pauses.iter().zip([20, 40, 80, 80]) {
        assert!(*pause >= least * MS, "{pauses:?}");
    }
    assert!(pauses[0] < 80 * MS, "{pauses:?}");
    let batches = cluster.batches();
    assert!(batches.iter().all(|batch| *batch == batches[0]), "the same number each time: {batches:?}");
}

#[test]
fn one_incident_is_one_pause_however_many_loads_it_meets() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |config| {
        one_by_one(config);
        config.delivery.retry_backoff = (30 * MS, 5_000 * MS);
    });
    bench.submit(["first"]);
    bench.wait(1);
    cluster.script(first_produce(vec![Act::Error(code::NOT_ENOUGH_REPLICAS); 5]));
    let begun = Instant::now();
    bench.submit(0..5);
    bench.wait(6);
    // Five pauses would come to 30 * 16 / 2 at least.
    assert!(begun.elapsed() < 200 * MS, "{:?}", begun.elapsed());
    assert_eq!(cluster.values(0)[1..], numbers(0..5));
}

#[test]
fn an_error_after_the_append_is_retried_and_the_records_are_there_once() {
    let cluster = Cluster::new(1, 1);
    cluster.script(first_produce(vec![Act::DoneBut(code::NOT_ENOUGH_REPLICAS_AFTER_APPEND); 2]));
    let mut bench = Bench::of(&cluster, |_| {});
    bench.submit(0..3);
    bench.wait(3);
    assert_eq!(bench.delivered(), 3);
    assert_eq!(cluster.values(0), numbers(0..3));
}

#[test]
fn a_load_that_fails_goes_again_before_those_behind_it() {
    for error in [code::NOT_ENOUGH_REPLICAS, code::NOT_LEADER_OR_FOLLOWER] {
        let cluster = Cluster::new(1, 1);
        let mut bench = Bench::of(&cluster, one_by_one);
        bench.submit(["first"]);
        bench.wait(1);
        cluster.script(first_produce([Act::Answer, Act::Error(error)]));
        bench.submit(0..20);
        bench.wait(21);
        assert_eq!(bench.delivered(), 21);
        assert_eq!(cluster.values(0)[1..], numbers(0..20));
        assert_eq!(cluster.count(ApiKey::InitProducerId), 1);
    }
}

#[test]
fn the_first_loads_of_a_session_keep_their_order_too() {
    // A broker that knows nothing of a producer takes any number for its first: a second load must not come first.
    for error in [code::NOT_ENOUGH_REPLICAS, code::UNKNOWN_TOPIC_OR_PARTITION] {
        let cluster = Cluster::new(1, 1);
        cluster.script(first_produce([Act::Error(error)]));
        let mut bench = Bench::of(&cluster, one_by_one);
        bench.submit(0..10);
        bench.wait(10);
        assert_eq!(bench.delivered(), 10);
        assert_eq!(cluster.values(0), numbers(0..10));
        assert_eq!(cluster.count(ApiKey::InitProducerId), 1);
    }
}

#[test]
fn a_broker_that_comes_back_without_its_disk_gets_what_is_new_in_order() {
    // It knows nothing of the producer, and not of the topic at first: a second load must not come before the first.
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, one_by_one);
    bench.submit(0..10);
    bench.wait(10);
    cluster.down(1);
    cluster.change(|state| state.partitions.get_mut(&0).unwrap().log = Default::default());
    bench.wait_status("Down", |status| status.state == State::Down);
    cluster.script(first_produce([Act::Error(code::UNKNOWN_TOPIC_OR_PARTITION)]));
    bench.submit(10..20);
    cluster.up(1);
    bench.wait(20);
    assert_eq!(bench.delivered(), 20);
    assert_eq!(cluster.values(0), numbers(10..20));
}

#[test]
fn a_load_is_not_taken_for_one_whose_number_it_took_over() {
    // The first load is refused while the second is under way; the broker, which knows nothing of the producer, takes the
    // second by the number that it has. What comes next must not come under that number too: the broker would take
    // it for a copy.
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, one_by_one);
    bench.submit(["x"]);
    bench.wait(1);
    cluster.change(|state| state.partitions.get_mut(&0).unwrap().log.forget_producers());
    cluster.script(first_produce([Act::Error(code::INVALID_RECORD)]));
    bench.submit(["refused", "second"]);
    bench.wait(3);
    for n in 0..5 {
        bench.submit([n]);
        bench.wait(4 + n);
    }
    assert_eq!(cluster.values(0)[..2], ["x", "second"]);
    assert_eq!(cluster.values(0)[2..], numbers(0..5));
    assert_eq!(bench.delivered(), 7);
}

#[test]
fn what_was_refused_when_it_may_be_there_leaves_its_number_to_no_other() {
    // Appended, without an answer; and when it comes again it may not be written any more.
    let cluster = Cluster::new(1, 1);
    cluster.script(first_produce([Act::Answer, Act::Lost, Act::Error(code::TOPIC_AUTHORIZATION_FAILED)]));
    let mut bench = Bench::of(&cluster, |config| {
        config.delivery.request_timeout = 50 * MS;
        config.delivery.connect_timeout = 100 * MS;
    });
    for n in 0..4 {
        bench.submit([n]);
        bench.wait(n + 1);
    }
    let failed: Vec<_> = bench.outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err()).collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].possibly_delivered);
    // Each that is said to be there is there.
    assert_eq!(cluster.values(0), numbers(0..4));
}

#[test]
fn a_record_that_is_too_large_is_found_and_its_neighbours_are_delivered() {
    let cluster = Cluster::new(1, 1);
    cluster.script(|request| match request.batch() {
        Some(batch) if batch.values.iter().any(|value| value == "9") => Act::Error(code::MESSAGE_TOO_LARGE),
        _ => Act::Answer,
    });
    let mut bench = Bench::of(&cluster, |config| config.delivery.batch_bytes = 600);
    bench.submit_batch(batch(0..10, true));
    bench.submit_batch(batch(10..40, true));
    bench.wait(40);
    let expected: Vec<String> = numbers(0..40).into_iter().filter(|value| value != "9").collect();
    assert_eq!(cluster.values(0), expected);
    let failed: Vec<_> = bench.outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!((failed[0].payload.as_slice(), failed[0].possibly_delivered), (&b"9"[..], false));
    assert!(failed[0].cause.contains("MESSAGE_TOO_LARGE"), "{}", failed[0].cause);
}

#[test]
fn without_numbers_the_halves_of_a_load_keep_their_order() {
    let cluster = Cluster::new(1, 1);
    let mut seen = 0;
    cluster.script(move |request| match request.batch() {
        Some(batch) if batch.values.len() > 5 => Act::Error(code::MESSAGE_TOO_LARGE),
        // The first half meets trouble that passes.
        Some(_) => {
            seen += 1;
            if seen == 1 { Act::Error(code::NOT_ENOUGH_REPLICAS) } else { Act::Answer }
        }
        None => Act::Answer,
    });
    let mut bench = Bench::of(&cluster, |config| config.delivery.acks = Acks::Leader);
    bench.submit(0..10);
    bench.submit(10..20);
    bench.wait(20);
    assert_eq!(cluster.values(0), numbers(0..20));
}

#[test]
fn records_that_the_topic_refuses_fail_alone_and_the_numbers_move_up() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, one_by_one);
    bench.submit(["first"]);
    bench.wait(1);
    cluster.script(|request| match request.batch() {
        Some(batch) if batch.values.iter().any(|value| value == "7") => Act::Error(code::INVALID_RECORD),
        _ => Act::Answer,
    });
    bench.submit_batch(batch(0..20, true));
    bench.wait(21);
    let expected: Vec<String> = numbers(0..20).into_iter().filter(|value| value != "7").collect();
    assert_eq!(cluster.values(0)[1..], expected);
    let failed: Vec<_> = bench.outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err()).collect();
    assert_eq!((failed.len(), failed[0].kind), (1, DeliveryErrorKind::Rejected));
    assert_eq!((failed[0].payload.as_slice(), failed[0].possibly_delivered), (&b"7"[..], false));
    assert_eq!(cluster.count(ApiKey::InitProducerId), 1, "no session is lost over it");
}

#[test]
fn a_broker_that_asks_for_silence_gets_it() {
    let cluster = Cluster::new(1, 1);
    cluster.script(first_produce([Act::Throttle(300)]));
    let mut bench = Bench::of(&cluster, |_| {});
    bench.submit(["a"]);
    bench.wait(1);
    bench.submit(["b"]);
    bench.wait(2);
    let at: Vec<Instant> = cluster.requests().iter().filter(|r| r.api == ApiKey::Produce).map(|r| r.at).collect();
    assert!(at[1] - at[0] >= 290 * MS, "{:?}", at[1] - at[0]);
}

// ---- the session ----------------------------------------------------------------------------------------------

#[test]
fn a_sequence_that_the_broker_has_lost_begins_again_and_costs_no_record() {
    for error in [code::OUT_OF_ORDER_SEQUENCE_NUMBER, code::UNKNOWN_PRODUCER_ID, code::INVALID_PRODUCER_EPOCH] {
        let cluster = Cluster::new(2, 2);
        let mut bench = Bench::of(&cluster, one_by_one);
        bench.submit(["first"]);
        bench.wait(1);
        cluster.script(first_produce([Act::Answer, Act::Error(error)]));
        bench.submit(0..20);
        bench.wait(21);
        assert_eq!(bench.delivered(), 21, "{error}");
        let mut values = cluster.all_values();
        values.retain(|value| value != "first");
        assert_eq!(sorted(values), numbers(0..20), "{error}");
        for partition in [0, 1] {
            let values: Vec<_> = cluster.values(partition).into_iter().filter(|value| value != "first").collect();
            assert_eq!(values, sorted(values.clone()), "{error}");
        }
        let asked: Vec<_> = cluster
            .requests()
            .iter()
            .filter_map(|request| if let Asks::ProducerId(id, epoch) = request.asks { Some((id, epoch)) } else { None })
            .collect();
        assert_eq!(asked, [(-1, -1)], "{error}: the epoch is raised without a word to the brokers");
        // Under the epoch that is new each partition counts from 0.
        let mut firsts: HashMap<i32, i32> = HashMap::new();
        for (partition, batch) in cluster.batches() {
            if batch.producer == (7_001, 1) {
                firsts.entry(partition).or_insert(batch.base_sequence);
            }
        }
        assert!(!firsts.is_empty() && firsts.values().all(|first| *first == 0), "{firsts:?}");
    }
}

#[test]
fn a_broker_that_never_likes_the_sequence_is_not_asked_in_a_whirl() {
    let cluster = Cluster::new(1, 1);
    cluster.script(always(ApiKey::Produce, Act::Error(code::OUT_OF_ORDER_SEQUENCE_NUMBER)));
    let mut bench = Bench::of(&cluster, |config| {
        config.delivery.delivery_timeout = 500 * MS;
        config.delivery.retry_backoff = (40 * MS, 40 * MS);
    });
    bench.submit(0..3);
    bench.wait(3);
    assert_eq!(bench.delivered(), 0);
    let asked = cluster.count(ApiKey::Produce);
    assert!((3..=26).contains(&asked), "{asked} requests");
}

#[test]
fn idempotence_by_default_gives_way_where_it_is_not_permitted() {
    let cluster = Cluster::new(1, 1);
    cluster.script(always(ApiKey::InitProducerId, Act::Error(code::CLUSTER_AUTHORIZATION_FAILED)));
    let mut bench = Bench::of(&cluster, one_by_one);
    bench.client.check(LONG).unwrap();
    bench.submit(0..5);
    bench.wait(5);
    assert_eq!(cluster.values(0), numbers(0..5));
    assert!(cluster.batches().iter().all(|(_, batch)| batch.producer == (-1, -1)));
    assert_eq!(cluster.count(ApiKey::InitProducerId), 1);
    assert!(bench.last_error().contains("idempotent"), "{}", bench.last_error());
}

#[test]
fn idempotence_that_gives_way_in_the_middle_keeps_the_order() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, one_by_one);
    bench.submit(["first"]);
    bench.wait(1);
    let mut seen = 0;
    cluster.script(move |request| match request.api {
        ApiKey::InitProducerId => Act::Error(code::CLUSTER_AUTHORIZATION_FAILED),
        ApiKey::Produce => {
            seen += 1;
            match seen {
                1..=5 => Act::Error(code::UNKNOWN_PRODUCER_ID),
                6 => Act::Error(code::NOT_ENOUGH_REPLICAS),
                _ => Act::Answer,
            }
        }
        _ => Act::Answer,
    });
    bench.submit(0..10);
    bench.wait(11);
    assert_eq!(bench.delivered(), 11);
    assert_eq!(cluster.values(0)[1..], numbers(0..10));
}

#[test]
fn idempotence_that_was_asked_for_does_not_give_way() {
    // Whichever answer comes first, the check sees both.
    for _ in 0..5 {
        let cluster = Cluster::new(1, 1);
        cluster.script(always(ApiKey::InitProducerId, Act::Error(code::CLUSTER_AUTHORIZATION_FAILED)));
        let mut bench = Bench::of(&cluster, |config| {
            config.delivery.idempotence = Some(true);
            config.delivery.delivery_timeout = 300 * MS;
        });
        let error = bench.client.check(LONG).unwrap_err();
        assert_eq!(error.kind(), StartupErrorKind::Refused, "{error}");
        assert!(error.to_string().contains("CLUSTER_AUTHORIZATION_FAILED"), "{error}");
        bench.submit(0..3);
        bench.wait(3);
        for failure in failures(&bench) {
            assert!(!failure.possibly_delivered);
            assert!(failure.cause.contains("CLUSTER_AUTHORIZATION_FAILED"), "{}", failure.cause);
        }
        assert_eq!(cluster.count(ApiKey::Produce), 0);
        // It is granted after all.
        assert_eq!(bench.health.read().state, State::Down);
        cluster.behave();
        bench.wait_status("Up", |status| status.state == State::Up);
        bench.submit(["granted"]);
        bench.wait(4);
        assert_eq!(cluster.values(0), ["granted"]);
    }
}

#[test]
fn a_producer_id_that_is_not_to_be_had_yet_is_asked_for_again() {
    let cluster = Cluster::new(1, 1);
    let mut left = 3;
    cluster.script(move |request| {
        if request.api == ApiKey::InitProducerId && left > 0 {
            left -= 1;
            // COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, and one that says nothing.
            return [Act::Silent, Act::Error(15), Act::Error(14)][left].clone();
        }
        Act::Answer
    });
    let mut bench = Bench::of(&cluster, |config| config.delivery.request_timeout = 50 * MS);
    bench.submit(0..3);
    bench.wait(3);
    assert_eq!(cluster.values(0), numbers(0..3));
}

// ---- the delivery timeout -------------------------------------------------------------------------------------

#[test]
fn a_record_that_is_never_sent_times_out_and_is_not_possibly_delivered() {
    let cluster = Cluster::new(1, 1);
    cluster.down(1);
    let mut bench = Bench::of(&cluster, |config| config.delivery.delivery_timeout = 200 * MS);
    let begun = Instant::now();
    bench.submit_batch(batch(0..3, true));
    bench.submit(3..5);
    bench.wait(5);
    assert!((200 * MS..1_000 * MS).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    for failure in failures(&bench) {
        assert_eq!((failure.kind, failure.possibly_delivered), (DeliveryErrorKind::TimedOut, false));
        assert!(failure.cause.contains(&cluster.address(1)) && failure.cause.contains("200 ms"), "{}", failure.cause);
    }
    // Those that somebody tracks come back one by one, the others together.
    let payloads: Vec<_> = failures(&bench).iter().map(|f| String::from_utf8(f.payload.clone()).unwrap()).collect();
    assert_eq!(payloads, ["0", "1", "2", ""]);
    cluster.up(1);
    bench.submit(["later"]);
    bench.wait(6);
    assert_eq!(cluster.values(0), ["later"]);
}

#[test]
fn a_record_under_way_times_out_and_is_possibly_delivered() {
    let cluster = Cluster::new(1, 1);
    cluster.script(first_produce([Act::Answer, Act::Lost]));
    let mut bench = Bench::of(&cluster, |config| {
        config.delivery.delivery_timeout = 200 * MS;
        config.delivery.request_timeout = 400 * MS;
    });
    bench.submit(["first"]);
    bench.wait(1);
    bench.submit_batch(batch(["second"], true));
    bench.wait(2);
    let failure = bench.outcomes[1].result.clone().unwrap_err();
    assert_eq!((failure.kind, failure.possibly_delivered), (DeliveryErrorKind::TimedOut, true));
    assert_eq!(failure.payload, b"second");
    // Nobody knows what became of its number: what follows must not be taken for it.
    cluster.wait("the end of the silent connection", |state| state.count(ApiKey::ApiVersions) >= 2);
    for n in 0..3 {
        bench.submit([n]);
        bench.wait(3 + n);
    }
    assert_eq!(cluster.values(0), ["first", "second", "0", "1", "2"]);
    assert_eq!(bench.delivered(), 4);
}

#[test]
fn a_record_that_was_only_ever_refused_is_not_possibly_delivered() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |config| config.delivery.delivery_timeout = 200 * MS);
    bench.submit(["first"]);
    bench.wait(1);
    cluster.script(always(ApiKey::Produce, Act::Error(code::NOT_ENOUGH_REPLICAS)));
    bench.submit(["second"]);
    bench.wait(2);
    let failure = bench.outcomes[1].result.clone().unwrap_err();
    assert_eq!((failure.kind, failure.possibly_delivered), (DeliveryErrorKind::TimedOut, false));
    assert!(failure.cause.contains("NOT_ENOUGH_REPLICAS"), "{}", failure.cause);
    cluster.behave();
    bench.submit(["third"]);
    bench.wait(3);
    assert_eq!(cluster.values(0), ["first", "third"]);
}

#[test]
fn an_answer_that_comes_after_the_timeout_changes_nothing() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |config| {
        config.delivery.delivery_timeout = 150 * MS;
        config.delivery.request_timeout = 5_000 * MS;
    });
    bench.submit(["first"]);
    bench.wait(1);
    cluster.script(always(ApiKey::Produce, Act::Held));
    bench.submit(["second"]);
    bench.wait(2);
    cluster.release();
    bench.submit(["third"]);
    bench.wait(3);
    assert_eq!(bench.outcomes.iter().map(|outcome| outcome.result.is_ok()).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(cluster.values(0), ["first", "second", "third"]);
    assert_eq!(cluster.count(ApiKey::InitProducerId), 1, "the answer came: nothing is in doubt");
}
