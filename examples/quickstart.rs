//! The whole road in one program: log through `log::info!`, read the topic back, print what arrived.
//!
//! `cargo run --example quickstart` brings its own broker (librdkafka's mock cluster, in this process). Against a
//! real cluster: `cargo run --example quickstart -- --bootstrap-servers HOST:PORT --topic T [--transport sync]`.
#![allow(clippy::print_stdout)] // It is a demonstration.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use kafka_log::{Config, Startup, Transport};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

type Anyhow<T> = Result<T, Box<dyn Error>>;

const THREADS: usize = 2;
const RECORDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Anyhow<()> {
    let options = Options::parse(std::env::args().skip(1))?;

    // The embedded broker lives as long as this value.
    let mut embedded: Option<MockCluster<'_, DefaultProducerContext>> = None;
    let servers = match options.servers {
        Some(servers) => servers,
        None => {
            let cluster = MockCluster::new(1)?;
            cluster.create_topic(&options.topic, 2, 1)?;
            embedded.insert(cluster).bootstrap_servers()
        }
    };
    let before = end_of_topic(&servers, &options.topic)?;

    // ---- what an application writes ----
    let guard = kafka_log::init(
        Config::new(servers.as_str(), options.topic.as_str())
            .transport(options.transport)
            .logger_name("quickstart")
            .startup(Startup::Check(PATIENCE)),
    )?;
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            thread::spawn(move || {
                for n in 0..RECORDS {
                    log::info!(thread, n, user_id = "u_19"; "user authenticated");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a logging thread panicked")?;
    }
    guard.flush(PATIENCE)?;
    // ---- and that is all ----

    println!("{} through {} to {servers}, topic {}:", THREADS * RECORDS, guard.status().client, options.topic);
    let arrived = read(&servers, &before, THREADS * RECORDS)?;
    for (partition, offset, value) in &arrived {
        println!("  partition {partition} offset {offset}: {value}");
    }
    let report = guard.shutdown(PATIENCE);
    println!("{report:#?}");
    if arrived.len() != THREADS * RECORDS || report.stats.delivered != arrived.len() as u64 {
        return Err(format!("{} records were logged, {} arrived", THREADS * RECORDS, arrived.len()).into());
    }
    Ok(())
}

fn consumer(servers: &str) -> Anyhow<BaseConsumer> {
    Ok(ClientConfig::new().set("bootstrap.servers", servers).set("group.id", "quickstart").create()?)
}

/// Where each partition of the topic ends now: the records of this run come after it.
fn end_of_topic(servers: &str, topic: &str) -> Anyhow<TopicPartitionList> {
    let consumer = consumer(servers)?;
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let mut ends = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE)?;
        ends.add_partition_offset(topic, partition.id(), Offset::Offset(end))?;
    }
    if ends.count() == 0 {
        return Err(format!("the topic {topic} does not exist at {servers}: create it first").into());
    }
    Ok(ends)
}

fn read(servers: &str, from: &TopicPartitionList, expected: usize) -> Anyhow<Vec<(i32, i64, String)>> {
    let consumer = consumer(servers)?;
    consumer.assign(from)?;
    let deadline = Instant::now() + PATIENCE;
    let mut arrived = Vec::new();
    while arrived.len() < expected && Instant::now() < deadline {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message?;
            let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
            arrived.push((message.partition(), message.offset(), value));
        }
    }
    Ok(arrived)
}

struct Options {
    servers: Option<String>,
    topic: String,
    transport: Transport,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Anyhow<Options> {
        let mut options = Options { servers: None, topic: "app.logs".into(), transport: Transport::Auto };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            match (name.as_str(), value.as_str()) {
                ("--bootstrap-servers", _) => options.servers = Some(value),
                ("--topic", _) => options.topic = value,
                ("--transport", "async") => options.transport = Transport::Async,
                ("--transport", "sync") => options.transport = Transport::Sync,
                _ => {
                    return Err("usage: [--bootstrap-servers HOST:PORT] [--topic T] [--transport async|sync]".into());
                }
            }
        }
        Ok(options)
    }
}
