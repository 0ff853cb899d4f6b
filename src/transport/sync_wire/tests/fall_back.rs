//! Brokers that are too old for the wire producer, and the `kafka` crate for them.

use kafka_protocol::messages::ApiKey;

use super::broker::{Act, versions};
use super::*;
use crate::config::{Acks, SyncProducer};
use crate::error::StartupErrorKind;
use crate::transport::sync;

/// Kafka 0.10.2 has neither the record batches nor the idempotence of 0.11.
fn is_old(cluster: &Cluster) {
    cluster.change(|state| {
        state.versions = versions(&[
            (ApiKey::Produce, 0, 2),
            (ApiKey::Fetch, 0, 3),
            (ApiKey::Metadata, 0, 2),
            (ApiKey::ApiVersions, 0, 0),
        ]);
    });
}

fn bench(cluster: &Cluster, producer: SyncProducer, change: impl FnOnce(&mut Config)) -> Bench {
    let change = |config: &mut Config| {
        config.sync_producer = producer;
        change(config);
    };
    Bench::with(&cluster.address(1), change, |config, health, call| sync::create(config, health, call).unwrap())
}

#[test]
fn an_old_broker_gets_its_records_from_the_kafka_crate() {
    let cluster = Cluster::new(1, 1);
    is_old(&cluster);
    let mut bench = bench(&cluster, SyncProducer::Auto, |_| {});
    assert!(bench.health.read().client.starts_with("wire "));
    // Before it is known that the broker is old.
    for n in 0..10 {
        bench.submit([n]);
    }
    bench.client.check(LONG).unwrap();
    assert!(bench.health.read().client.starts_with("kafka "), "{:?}", bench.health.read());
    let mut more = batch(10..15, false);
    bench.client.submit(&mut more);
    let deadline = Instant::now() + LONG;
    bench.wait_by(deadline, |bench| {
        // There may be no room before the others have been handed over.
        bench.client.submit(&mut more);
        more.is_empty()
    });
    bench.wait(15);
    assert_eq!(bench.delivered(), 15);
    assert_eq!(cluster.values(0), numbers(0..15));
}

#[test]
fn without_a_check_too() {
    let cluster = Cluster::new(1, 1);
    is_old(&cluster);
    let mut bench = bench(&cluster, SyncProducer::Auto, |_| {});
    bench.submit(0..10);
    bench.wait(10);
    assert_eq!(cluster.values(0), numbers(0..10));
}

#[test]
fn a_broker_that_was_put_back_to_an_old_version_costs_no_record() {
    for silent in [true, false] {
        let cluster = Cluster::new(1, 1);
        let mut bench = bench(&cluster, SyncProducer::Auto, |config| {
            config.delivery.batch_bytes = 1;
            // The crate has no other.
            config.delivery.acks = Acks::All;
        });
        bench.submit(["first"]);
        bench.wait(1);
        // Some are under way, some wait.
        cluster.script(move |request| match request.api {
            ApiKey::Produce if silent => Act::Silent,
            ApiKey::Produce => Act::HangUp,
            _ => Act::Answer,
        });
        bench.submit(0..20);
        cluster.wait_count(ApiKey::Produce, 1 + if silent { 5 } else { 1 });
        is_old(&cluster);
        cluster.behave();
        cluster.close_connections(1);
        bench.wait(21);
        assert_eq!(bench.delivered(), 21);
        assert_eq!(cluster.values(0)[1..], numbers(0..20));
        assert!(bench.health.read().client.starts_with("kafka "));
    }
}

#[test]
fn a_producer_that_was_chosen_is_not_changed() {
    let cluster = Cluster::new(1, 1);
    is_old(&cluster);
    let mut bench = bench(&cluster, SyncProducer::Wire, |config| config.delivery.delivery_timeout = 100 * MS);
    let error = bench.client.check(LONG).unwrap_err();
    assert_eq!(error.kind(), StartupErrorKind::UnsupportedBroker, "{error}");
    assert!(error.to_string().contains("0.11") && error.to_string().contains(&cluster.address(1)), "{error}");
    bench.submit(["x"]);
    bench.wait(1);
    let failure = bench.outcomes[0].result.clone().unwrap_err();
    assert!(failure.cause.contains("0.11"), "{}", failure.cause);
    // The broker is replaced by a newer one.
    cluster.change(|state| {
        let newer = [(ApiKey::Produce, 0, 3), (ApiKey::Metadata, 0, 4), (ApiKey::InitProducerId, 0, 0)];
        state.versions.extend(versions(&newer));
    });
    bench.wait_status("Up", |status| status.state == crate::State::Up);
    bench.client.check(LONG).unwrap();
    bench.submit(["y"]);
    bench.wait(2);
    assert_eq!(cluster.values(0), ["y"]);
}

#[test]
fn what_the_kafka_crate_has_not_keeps_the_wire_producer_in_use() {
    let cluster = Cluster::new(1, 1);
    is_old(&cluster);
    let mut bench = bench(&cluster, SyncProducer::Auto, |config| config.delivery.compression = Some(Compression::Lz4));
    let error = bench.client.check(LONG).unwrap_err();
    assert_eq!(error.kind(), StartupErrorKind::UnsupportedBroker, "{error}");
    bench.submit(["x"]);
    bench.client.poll(&mut bench.outcomes);
    let told = bench.health.read();
    assert!(told.client.starts_with("wire "), "{told:?}");
    assert!(bench.last_error().contains("compression"), "{told:?}");
}
