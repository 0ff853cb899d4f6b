//! A second opinion: librdkafka's own mock cluster, read by librdkafka's consumer.

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::*;
use crate::State;

fn cluster(brokers: i32, partitions: i32) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(brokers).unwrap();
    cluster.create_topic(TOPIC, partitions, 1).unwrap();
    cluster
}

fn values(servers: &str, partition: i32, expected: usize) -> Vec<String> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", servers).set("group.id", "test").create().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(TOPIC, partition, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let deadline = Instant::now() + LONG;
    let mut values = Vec::new();
    while values.len() < expected && Instant::now() < deadline {
        if let Some(message) = consumer.poll(100 * MS) {
            values.push(String::from_utf8(message.unwrap().payload().unwrap().to_vec()).unwrap());
        }
    }
    values
}

#[test]
fn injected_errors_cost_no_record() {
    use RDKafkaRespErr::*;
    for errors in [
        &[RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION][..],
        &[RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER],
        &[RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID],
        &[RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT],
    ] {
        let cluster = cluster(1, 1);
        let mut bench = Bench::new(&cluster.bootstrap_servers(), |config| {
            config.delivery.batch_bytes = 200;
            config.delivery.compression = None;
        });
        bench.submit(0..10);
        bench.wait(10);
        cluster.request_errors(RDKafkaApiKey::Produce, errors);
        bench.submit(10..100);
        bench.wait(100);
        assert_eq!(bench.delivered(), 100, "{errors:?}");
        // It takes any sequence number, so what is behind an error comes before it.
        let values = values(&cluster.bootstrap_servers(), 0, 100);
        assert_eq!(sorted(values), numbers(0..100), "{errors:?}");
    }
}

#[test]
fn a_broker_that_goes_and_comes_costs_no_record() {
    let cluster = cluster(1, 1);
    let mut bench = Bench::new(&cluster.bootstrap_servers(), |_| {});
    bench.submit(0..10);
    bench.wait(10);
    for round in 1..4 {
        cluster.broker_down(1).unwrap();
        bench.submit(round * 10..round * 10 + 10);
        bench.wait_status("Down", |status| status.state == State::Down);
        cluster.broker_up(1).unwrap();
        bench.wait(round * 10 + 10);
    }
    assert_eq!(values(&cluster.bootstrap_servers(), 0, 40), numbers(0..40));
}

#[test]
fn a_leader_that_moves_is_followed() {
    let cluster = cluster(3, 1);
    cluster.partition_leader(TOPIC, 0, Some(1)).unwrap();
    let mut bench = Bench::new(&cluster.bootstrap_servers(), |config| config.delivery.batch_bytes = 200);
    for (round, leader) in [1, 2, 3, 1].into_iter().enumerate() {
        cluster.partition_leader(TOPIC, 0, Some(leader)).unwrap();
        bench.submit(round * 20..round * 20 + 20);
        bench.wait(round * 20 + 20);
    }
    assert_eq!(bench.delivered(), 80);
    assert_eq!(values(&cluster.bootstrap_servers(), 0, 80), numbers(0..80));
}
