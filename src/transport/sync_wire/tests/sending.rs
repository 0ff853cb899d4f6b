//! What is sent, to whom, in which order and how much at once.

use kafka_protocol::messages::ApiKey;

use super::broker::{Act, Asks, versions};
use super::*;
use crate::config::Acks;
use crate::route::Route;

#[test]
fn records_arrive_in_order_and_are_numbered_one_after_the_other() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |_| {});
    for (from, to) in [(0, 3), (3, 4), (4, 10)] {
        bench.submit(from..to);
        bench.wait(to);
    }
    assert_eq!(cluster.values(0), numbers(0..10));
    let batches = cluster.batches();
    let firsts: Vec<_> = batches.iter().map(|(_, batch)| (batch.producer, batch.base_sequence)).collect();
    assert_eq!(firsts, [((7_001, 0), 0), ((7_001, 0), 3), ((7_001, 0), 4)]);
    let offsets: Vec<_> = bench.acks().iter().map(|ack| (ack.partition, ack.offset)).collect();
    assert_eq!(offsets, [(0, Some(0)), (0, Some(3)), (0, Some(4))]);
    // One connection does, and one of each question.
    assert_eq!(cluster.count(ApiKey::ApiVersions), 1);
    assert_eq!((cluster.count(ApiKey::Metadata), cluster.count(ApiKey::InitProducerId)), (1, 1));
    assert!(bench.health.read().last_error.is_none());
}

#[test]
fn each_generation_of_brokers_is_spoken_to() {
    let generations = [
        // 0.11, 1.0, 2.3, 3.9, 4.x.
        [
            (ApiKey::ApiVersions, 0, 1),
            (ApiKey::Produce, 0, 3),
            (ApiKey::Metadata, 0, 4),
            (ApiKey::InitProducerId, 0, 0),
        ],
        [
            (ApiKey::ApiVersions, 0, 1),
            (ApiKey::Produce, 0, 5),
            (ApiKey::Metadata, 0, 5),
            (ApiKey::InitProducerId, 0, 0),
        ],
        [
            (ApiKey::ApiVersions, 0, 2),
            (ApiKey::Produce, 0, 7),
            (ApiKey::Metadata, 0, 8),
            (ApiKey::InitProducerId, 0, 1),
        ],
        [
            (ApiKey::ApiVersions, 0, 4),
            (ApiKey::Produce, 0, 11),
            (ApiKey::Metadata, 0, 12),
            (ApiKey::InitProducerId, 0, 5),
        ],
        [
            (ApiKey::ApiVersions, 0, 4),
            (ApiKey::Produce, 0, 13),
            (ApiKey::Metadata, 0, 13),
            (ApiKey::InitProducerId, 0, 6),
        ],
    ];
    for generation in generations {
        let cluster = Cluster::new(1, 1);
        cluster.change(|state| state.versions = versions(&generation));
        let mut bench = Bench::of(&cluster, |_| {});
        bench.submit(0..3);
        bench.wait(3);
        assert_eq!(bench.delivered(), 3);
        assert_eq!(cluster.values(0), numbers(0..3));
        for request in cluster.requests().iter().filter(|request| request.api != ApiKey::ApiVersions) {
            let (_, _, most) = generation.iter().find(|(api, _, _)| *api == request.api).unwrap();
            // A broker whose topics have no id is sent none.
            let most = if request.api == ApiKey::Produce { (*most).min(12) } else { *most };
            assert_eq!(request.version, most.min(if request.api == ApiKey::InitProducerId { 5 } else { 13 }));
        }
        // Who does not know our version of the first question is asked again, in the oldest one.
        let asked: Vec<i16> =
            cluster.requests().iter().filter(|r| r.api == ApiKey::ApiVersions).map(|r| r.version).collect();
        assert_eq!(asked, if generation[0].2 >= 3 { vec![3] } else { vec![3, 0] });
    }
}

#[test]
fn five_requests_are_under_way_at_most_and_their_answers_make_room() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |config| config.delivery.batch_bytes = 1);
    bench.submit(["first"]);
    bench.wait(1);
    cluster.script(|request| if request.api == ApiKey::Produce { Act::Held } else { Act::Answer });
    bench.submit(0..12);
    cluster.wait_count(ApiKey::Produce, 1 + 5);
    a_while();
    assert_eq!(cluster.count(ApiKey::Produce), 1 + 5);
    cluster.release();
    bench.wait(13);
    assert_eq!(cluster.values(0)[1..], numbers(0..12));
    assert_eq!(bench.delivered(), 13);
}

#[test]
fn a_broker_that_remembers_one_batch_has_one_under_way_for_a_partition() {
    for (last, most) in [(3, 1), (5, 5)] {
        let cluster = Cluster::new(1, 1);
        cluster.change(|state| state.versions.extend(versions(&[(ApiKey::Produce, 0, last)])));
        let mut bench = Bench::of(&cluster, |config| config.delivery.batch_bytes = 1);
        bench.submit(["first"]);
        bench.wait(1);
        cluster.script(|request| if request.api == ApiKey::Produce { Act::Held } else { Act::Answer });
        bench.submit(0..10);
        cluster.wait_count(ApiKey::Produce, 1 + most);
        a_while();
        assert_eq!(cluster.count(ApiKey::Produce), 1 + most, "Produce up to {last}");
        cluster.release();
        bench.wait(11);
        assert_eq!(cluster.values(0)[1..], numbers(0..10));
    }
}

#[test]
fn without_numbers_one_request_is_under_way_for_a_partition() {
    let cluster = Cluster::new(1, 2);
    let mut bench = Bench::of(&cluster, |config| {
        config.delivery.acks = Acks::Leader;
        config.delivery.batch_bytes = 1;
    });
    // Both partitions have taken some by then.
    bench.submit(0..6);
    bench.wait(6);
    let before = cluster.count(ApiKey::Produce);
    cluster.script(|request| if request.api == ApiKey::Produce { Act::Held } else { Act::Answer });
    bench.submit(6..14);
    cluster.wait_count(ApiKey::Produce, before + 2);
    a_while();
    let mut partitions: Vec<i32> = cluster.batches()[before..].iter().map(|(partition, _)| *partition).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1], "one for each");
    cluster.release();
    bench.wait(14);
    assert_eq!(sorted(cluster.all_values()), numbers(0..14));
    assert!(cluster.batches().iter().all(|(_, batch)| batch.producer == (-1, -1) && batch.base_sequence == -1));
    assert_eq!(cluster.count(ApiKey::InitProducerId), 0);
}

#[test]
fn acknowledgements_are_asked_for_as_configured() {
    for (acks, said) in [(Acks::None, 0), (Acks::Leader, 1), (Acks::All, -1)] {
        let cluster = Cluster::new(1, 1);
        let mut bench = Bench::of(&cluster, |config| config.delivery.acks = acks);
        for n in 0..20 {
            bench.submit([n]);
        }
        bench.wait(20);
        cluster.wait("all records", |state| state.partitions[&0].log.values.len() == 20);
        assert_eq!(cluster.values(0), numbers(0..20));
        for request in cluster.requests() {
            if let Asks::Produce { acks, .. } = request.asks {
                assert_eq!(acks, said);
            }
        }
        // Who is not asked tells no offset.
        assert!(bench.acks().iter().all(|ack| ack.offset.is_some() == (said != 0)), "{:?}", bench.outcomes);
    }
}

#[test]
fn a_batch_stays_within_its_bound_and_a_larger_record_goes_alone() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |config| config.delivery.batch_bytes = 2_000);
    let values: Vec<String> = (0..200).map(|n| format!("{n:0100}")).collect();
    bench.submit(&values);
    bench.submit(["x".repeat(50_000)]);
    bench.submit(0..3);
    bench.wait(204);
    let mut sizes = Vec::new();
    for request in cluster.requests() {
        if let Asks::Produce { bytes, batch, .. } = &request.asks {
            if batch.values[0].len() == 50_000 {
                assert_eq!(batch.values.len(), 1);
            } else {
                assert!(*bytes <= 2_000, "{bytes} bytes");
                sizes.push(*bytes);
            }
        }
    }
    // And it is used: the bound of a record is not far from its size.
    assert!(sizes.iter().filter(|size| **size > 1_500).count() >= 10, "{sizes:?}");
    assert_eq!(cluster.values(0)[..200], values);
}

#[test]
fn records_that_come_within_the_linger_share_a_batch() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |config| config.delivery.linger = 300 * MS);
    cluster.wait_count(ApiKey::InitProducerId, 1);
    let begun = Instant::now();
    for n in 0..10 {
        bench.submit([n]);
    }
    bench.wait(10);
    assert!(begun.elapsed() >= 300 * MS, "{:?}", begun.elapsed());
    assert_eq!(cluster.batches().len(), 1);

    // What fills a batch does not wait.
    let begun = Instant::now();
    bench.submit([&*"x".repeat(1_000_000)]);
    bench.wait(11);
    assert!(begun.elapsed() < 300 * MS, "{:?}", begun.elapsed());
}

#[test]
fn batches_are_compressed_as_configured() {
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::of(&cluster, |config| config.delivery.compression = None);
    bench.submit((0..1_000).map(|n| format!("{n:0100}")));
    bench.wait(1_000);
    let requests = cluster.requests();
    let bytes: usize = requests.iter().map(|r| if let Asks::Produce { bytes, .. } = r.asks { bytes } else { 0 }).sum();
    assert!(bytes < 50_000, "{bytes} bytes for 100,000 of payload");
    assert_eq!(cluster.values(0).len(), 1_000);
}

#[test]
fn all_leaders_have_their_share_and_each_has_one_connection() {
    let cluster = Cluster::new(3, 6);
    let mut bench = Bench::of(&cluster, |config| config.delivery.batch_bytes = 200);
    bench.submit((0..300).map(|n| format!("{n:050}")));
    bench.wait(300);
    for partition in 0..6 {
        assert!(!cluster.values(partition).is_empty(), "partition {partition} has nothing");
    }
    assert_eq!(cluster.all_values().len(), 300);
    let mut connections: Vec<_> = cluster.requests().iter().map(|request| (request.node, request.connection)).collect();
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), 3, "the bootstrap server is one of them: {connections:?}");
}

#[test]
fn a_key_decides_on_the_partition_and_keeps_the_order() {
    let cluster = Cluster::new(2, 5);
    let route = Route { key: Some(b"21".as_slice().into()), ..Route::new(TOPIC) };
    let create = |config: &Config, health: &Arc<Health>, call: &Call| -> Box<dyn Client> {
        Box::new(WireClient::on(&route, config, health, call).unwrap())
    };
    let change = |config: &mut Config| config.delivery.batch_bytes = 1;
    let mut bench = Bench::with(&cluster.address(1), change, create);
    bench.submit(0..30);
    bench.wait(30);
    let place = crate::transport::sync_wire::murmur2::partition(b"21", 5) as i32;
    assert_eq!(cluster.values(place), numbers(0..30));
    assert_eq!(cluster.all_values().len(), 30);
}

#[test]
fn a_name_with_addresses_where_nobody_listens_is_connected_to_by_the_next_one() {
    // `localhost` is ::1 too on most machines, where this broker does not listen.
    let cluster = Cluster::new(1, 1);
    let mut bench = Bench::new(&format!("localhost:{}", cluster.port(1)), |_| {});
    bench.submit(0..3);
    bench.wait(3);
    assert_eq!(bench.delivered(), 3);
    // It advertises itself by its address: that is another connection, and the first is left.
    cluster.wait("the end of the first connection", |state| state.open() == 1);
}

#[test]
fn the_next_server_is_tried_when_one_is_dead() {
    let cluster = Cluster::new(1, 1);
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // Which of them is the first is left to chance.
    for _ in 0..4 {
        let mut bench = Bench::new(&format!("{dead},{}", cluster.address(1)), |_| {});
        bench.client.check(LONG).unwrap();
        bench.submit(["x"]);
        bench.wait(1);
        assert_eq!(bench.delivered(), 1);
    }
}

#[test]
fn what_waits_takes_room_until_a_broker_takes_it() {
    let cluster = Cluster::new(1, 1);
    cluster.down(1);
    let mut bench = Bench::of(&cluster, |config| config.delivery.batch_bytes = 300_000);
    let mut records = 0;
    while bench.client.has_room() {
        bench.submit(["x".repeat(100_000)]);
        records += 1;
    }
    // Four full loads.
    assert_eq!(records, 12);
    // What is under way makes room, before it has an outcome.
    cluster.script(|request| if request.api == ApiKey::Produce { Act::Held } else { Act::Answer });
    cluster.up(1);
    let deadline = Instant::now() + LONG;
    bench.wait_by(deadline, |bench| bench.client.has_room());
    assert!(bench.outcomes.is_empty());
    cluster.release();
    bench.wait(records);
    assert_eq!(cluster.values(0).len(), records);
    assert!(bench.client.has_room());
}

#[test]
fn with_drop_oldest_the_newest_records_are_there_after_an_outage() {
    let cluster = Cluster::new(1, 1);
    cluster.down(1);
    let mut config = Config::new(cluster.address(1), TOPIC)
        .transport(Transport::Sync)
        .use_json(false)
        .queue_records(100)
        .overflow(crate::Overflow::DropOldest)
        .compression(Compression::None)
        .retry_backoff(2 * MS, 20 * MS);
    config.delivery.linger = Duration::ZERO;
    let logger = config.build().unwrap();
    for n in 0..1_000 {
        logger.info(format!("record {n}."), [] as [(&str, &str); 0]);
    }
    let dropped = logger.stats().dropped.queue_full;
    assert!((900..1_000).contains(&dropped), "{dropped}");
    cluster.up(1);
    logger.flush_timeout(LONG).unwrap();
    let values = cluster.values(0);
    assert_eq!(values.len() as u64, 1_000 - dropped);
    // At least a third of the queue: a client has half of it, and it makes room by the batch.
    let newest = &values[values.len() - 33..];
    for (n, value) in (967..1_000).zip(newest) {
        assert!(value.contains(&format!("record {n}.")), "{value}");
    }
    assert_eq!(logger.stats().delivered, 1_000 - dropped);
}
