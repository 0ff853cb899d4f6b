//! Two independent readers of what reached a topic: Apache Kafka's own and librdkafka's.

use std::collections::BTreeMap;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{self, Quiet};
use super::jars;
use super::kafka::Version;
use super::process::run;
use super::wait;

/// A record as a reader saw it; a record without a value reads as one with an empty value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadRecord {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
}

/// Reads the topic with the console consumer of Apache Kafka, by partition and offset.
///
/// It reads what is there at the call, by the broker's offsets, so records beyond `expected` show as well, and ends
/// with the last one. With fewer than `expected` it goes on for 3 s after the last one and is run again, until
/// `timeout`: what there is then is returned.
/// Keys and values must be free of newlines and of the control characters used here.
pub fn java_console(
    version: Version,
    bootstrap: &str,
    topic: &str,
    expected: usize,
    timeout: Duration,
) -> Vec<ReadRecord> {
    let deadline = Instant::now() + timeout;
    let consumer = client::consumer(bootstrap);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let there: i64 = spans(&consumer, topic).values().map(|(low, high)| high - low).sum();
        let most = expected.max(usize::try_from(there).unwrap_or(0));
        let records = console_run(version, bootstrap, topic, most, left)
            .unwrap_or_else(|error| panic!("cannot read topic {topic}: {error}"));
        // A slow machine may need more than the 3 s of silence to get its first record.
        if records.len() >= expected || Instant::now() >= deadline {
            return records;
        }
    }
}

/// Reads all partitions of the topic with librdkafka, up to what is there at the call.
pub fn librdkafka(bootstrap: &str, topic: &str, timeout: Duration) -> Vec<ReadRecord> {
    let deadline = Instant::now() + timeout;
    let consumer = client::consumer(bootstrap);
    let mut ends: BTreeMap<i32, i64> =
        spans(&consumer, topic).into_iter().map(|(partition, (_, high))| (partition, high)).collect();
    assign(&consumer, topic, ends.keys());

    let mut records = Vec::new();
    while !ends.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(
            !left.is_zero(),
            "topic {topic}: not read within {timeout:?}: left are {ends:?}, read {}",
            records.len()
        );
        match consumer.poll(left) {
            None => {}
            Some(Ok(message)) => take(&message, &mut ends, &mut records),
            // The last offsets may hold no record, as after a transaction or a compaction.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ends.remove(&partition);
            }
            Some(Err(error)) => panic!("cannot read topic {topic}: {error}"),
        }
    }
    records.sort();
    records
}

/// Neither occurs in JSON nor in sensible keys.
const SEPARATOR: char = '\u{1}';
const NULL: &str = "\u{2}null";

fn console_run(
    version: Version,
    bootstrap: &str,
    topic: &str,
    most: usize,
    timeout: Duration,
) -> Result<Vec<ReadRecord>, String> {
    let jars = jars::of(version)?;
    // The newer tools still know the older name, but complain of it among the records.
    let option = match version {
        Version::V3_9_1 => "--property",
        Version::V4_4_0 => "--formatter-property",
    };
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
        .args(["-cp", &jars.tools()])
        .arg("org.apache.kafka.tools.consumer.ConsoleConsumer")
        .args(["--bootstrap-server", bootstrap, "--topic", topic])
        .args(["--from-beginning", "--timeout-ms", "3000"]);
    // None at all would be no bound.
    if most > 0 {
        command.args(["--max-messages", &most.to_string()]);
    }
    for shown in ["timestamp", "partition", "offset", "key", "value"] {
        command.args([option, &format!("print.{shown}=true")]);
    }
    command.args([option, &format!("key.separator={SEPARATOR}")]).args([option, &format!("null.literal={NULL}")]);

    let output = run("the console consumer", &mut command, timeout)?;
    let mut records = output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            parse(line).ok_or_else(|| {
                let line = String::from_utf8_lossy(line);
                format!("the console consumer wrote {line:?}")
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    records.sort();
    Ok(records)
}

/// A line is `CreateTime:1<sep>Partition:0<sep>Offset:7<sep>key<sep>value`.
fn parse(line: &[u8]) -> Option<ReadRecord> {
    let mut fields = line.splitn(5, |byte| *byte == SEPARATOR as u8);
    let timestamp_ms = number(fields.next()?)?;
    let partition = number(fields.next()?)?;
    let offset = number(fields.next()?)?;
    let mut bytes = || {
        let field = fields.next()?;
        Some((field != NULL.as_bytes()).then(|| field.to_vec()))
    };
    Some(ReadRecord { partition, offset, timestamp_ms, key: bytes()?, value: bytes()?.unwrap_or_default() })
}

fn number<N: FromStr>(field: &[u8]) -> Option<N> {
    let (_name, number) = std::str::from_utf8(field).ok()?.split_once(':')?;
    number.parse().ok()
}

/// How long a cluster may take to agree on who leads a partition.
const SETTLED: Duration = Duration::from_secs(30);

/// The partitions that hold anything, with the first offset and that after the last one.
fn spans(consumer: &BaseConsumer<Quiet>, topic: &str) -> BTreeMap<i32, (i64, i64)> {
    let mut found = Err(String::new());
    wait::holds_within(SETTLED, || {
        found = spans_now(consumer, topic);
        found.is_ok()
    });
    found.unwrap_or_else(|error| panic!("topic {topic}: {error}"))
}

fn spans_now(consumer: &BaseConsumer<Quiet>, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>, String> {
    let metadata =
        consumer.fetch_metadata(Some(topic), client::REQUEST).map_err(|error| format!("no metadata: {error}"))?;
    let partitions = client::led_partitions(&metadata, topic);
    if partitions.is_empty() {
        return Err("it has no partitions".into());
    }
    let mut spans = BTreeMap::new();
    for partition in partitions {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition, client::REQUEST)
            .map_err(|error| format!("no watermarks of partition {partition}: {error}"))?;
        if low < high {
            spans.insert(partition, (low, high));
        }
    }
    Ok(spans)
}

fn assign<'a>(consumer: &BaseConsumer<Quiet>, topic: &str, partitions: impl Iterator<Item = &'a i32>) {
    let mut assignment = TopicPartitionList::new();
    for partition in partitions {
        assignment
            .add_partition_offset(topic, *partition, Offset::Beginning)
            .unwrap_or_else(|error| panic!("cannot add {topic} {partition}: {error}"));
    }
    consumer.assign(&assignment).unwrap_or_else(|error| panic!("cannot assign {topic}: {error}"));
}

fn take(message: &BorrowedMessage<'_>, ends: &mut BTreeMap<i32, i64>, records: &mut Vec<ReadRecord>) {
    let partition = message.partition();
    let Some(end) = ends.get(&partition).copied() else {
        // Written after the call: not asked for.
        return;
    };
    if message.offset() < end {
        records.push(ReadRecord {
            partition,
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().unwrap_or_default().to_vec(),
        });
    }
    if message.offset() + 1 >= end {
        ends.remove(&partition);
    }
}
