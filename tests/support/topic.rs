//! Making and changing topics.

use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_executor::block_on;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;

use super::client;
use super::request;
use super::wait;

/// Bounds each change; librdkafka completes the request by then, with an error if need be.
const CHANGE: Duration = Duration::from_secs(30);

/// A topic name no other test uses, in this process or in others on the same broker.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_millis();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{now:x}-{}-{number}", process::id())
}

/// Creates a topic and waits until clients can see all of it.
pub fn create(bootstrap: &str, name: &str, partitions: usize, configs: &[(&str, &str)]) {
    create_replicated(bootstrap, name, partitions, 1, configs);
}

/// Creates one that no other test uses; its name.
pub fn create_unique(bootstrap: &str, prefix: &str, partitions: usize) -> String {
    let name = unique(prefix);
    create(bootstrap, &name, partitions, &[]);
    name
}

/// The same as [`create`], with more than one replica of each partition.
pub fn create_replicated(bootstrap: &str, name: &str, partitions: usize, replicas: i32, configs: &[(&str, &str)]) {
    let count = i32::try_from(partitions).expect("a partition count fits i32");
    let topic = NewTopic::new(name, count, TopicReplication::Fixed(replicas));
    let topic = configs.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    let admin = client::admin(bootstrap);
    let results = block_on(admin.create_topics([&topic], &options()));
    accept(&format!("create topic {name}"), results);
    wait_for_partitions(bootstrap, name, partitions);
}

/// Raises the number of partitions to `total` and waits until clients can see them.
pub fn add_partitions(bootstrap: &str, name: &str, total: usize) {
    let admin = client::admin(bootstrap);
    let partitions = NewPartitions::new(name, total);
    let results = block_on(admin.create_partitions([&partitions], &options()));
    accept(&format!("add partitions to topic {name}"), results);
    wait_for_partitions(bootstrap, name, total);
}

/// The same, at once; whether the brokers did it.
pub fn try_add_partitions(bootstrap: &str, name: &str, total: usize) -> bool {
    let admin = client::admin(bootstrap);
    let results = block_on(admin.create_partitions([&NewPartitions::new(name, total)], &options()));
    results.is_ok_and(|results| results.iter().all(Result::is_ok))
}

/// Deletes a topic and waits until clients no longer see it.
pub fn delete(bootstrap: &str, name: &str) {
    let admin = client::admin(bootstrap);
    let results = block_on(admin.delete_topics(&[name], &options()));
    accept(&format!("delete topic {name}"), results);
    wait_for_partitions(bootstrap, name, 0);
}

/// The topic's id, which no client here tells: asked for by hand.
pub fn id(bootstrap: &str, name: &str) -> [u8; 16] {
    const VERSION: i16 = 12;
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(name.to_owned()))));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    let answer = request::ask(bootstrap, VERSION, &request);
    *answer.topics.first().expect("no topic").topic_id.as_bytes()
}

/// How many partitions of the topic have a leader now: 0 for one that does not exist.
pub fn partitions(bootstrap: &str, name: &str) -> usize {
    visible(&client::consumer(bootstrap), name).unwrap_or(0)
}

fn wait_for_partitions(bootstrap: &str, name: &str, partitions: usize) {
    let consumer = client::consumer(bootstrap);
    wait::until(&format!("topic {name} shows {partitions} partitions"), CHANGE, || {
        visible(&consumer, name) == Some(partitions)
    });
}

/// `None` when the broker did not answer, which is not the same as no partitions.
fn visible(consumer: &impl Consumer<client::Quiet>, name: &str) -> Option<usize> {
    let metadata = consumer.fetch_metadata(Some(name), client::REQUEST).ok()?;
    Some(client::led_partitions(&metadata, name).len())
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CHANGE)).operation_timeout(Some(CHANGE))
}

fn accept(what: &str, results: KafkaResult<Vec<TopicResult>>) {
    let results = results.unwrap_or_else(|error| panic!("cannot {what}: {error}"));
    for result in results {
        if let Err((topic, error)) = result {
            panic!("cannot {what}: {topic}: {error}");
        }
    }
}
