//! The broker of a scenario: librdkafka's mock cluster, in the parent.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaRespErr;
use serde_json::Value;

use crate::child::Child;
use crate::support::{reader, topic};

const READING: Duration = Duration::from_secs(30);

pub struct Broker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    pub topic: String,
}

impl Broker {
    /// With one partition, in which a thread's records keep their order.
    pub fn start() -> Broker {
        Broker::with_partitions(1)
    }

    pub fn with_partitions(partitions: i32) -> Broker {
        let cluster = MockCluster::new(1).unwrap_or_else(|error| panic!("no mock cluster: {error}"));
        let topic = topic::unique("scenario");
        cluster.create_topic(&topic, partitions, 1).unwrap_or_else(|error| panic!("no topic {topic}: {error}"));
        Broker { cluster, topic }
    }

    /// Has it deny that the topic exists.
    pub fn deny_topic(&self) {
        let error = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
        self.cluster.topic_error(&self.topic, error).unwrap_or_else(|error| panic!("not denied: {error}"));
    }

    pub fn servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Points the child at this broker and its topic.
    pub fn serves(&self, child: Child) -> Child {
        child.on(&self.servers(), &self.topic)
    }

    /// The payloads that arrived, as they are.
    pub fn texts(&self) -> Vec<String> {
        reader::librdkafka(&self.servers(), &self.topic, READING)
            .into_iter()
            .map(|record| String::from_utf8(record.value).unwrap_or_else(|error| panic!("not UTF-8: {error}")))
            .collect()
    }

    /// The payloads that arrived, each of them one JSON object.
    pub fn records(&self) -> Vec<Value> {
        self.texts()
            .into_iter()
            .map(|text| serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
            .inspect(|value: &Value| assert!(value.is_object(), "{value}"))
            .collect()
    }

    /// The messages that arrived.
    pub fn messages(&self) -> Vec<String> {
        self.records().iter().map(|record| record["message"].as_str().unwrap_or("no text").to_owned()).collect()
    }
}
