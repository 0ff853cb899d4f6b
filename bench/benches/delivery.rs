//! How many records arrive in a second: kafka_log by each of its clients, beside rdkafka's `ThreadedProducer`.
//!
//! All are fed the same ready-made payloads, from one thread, into topics of four partitions on one real broker, with
//! the same compression, acknowledgements, linger and batch size. The clock runs from the first record handed over to
//! the last acknowledgement. The rounds of all take turns, so that each meets the same machine; what is printed is the
//! median, and the least and the most. A run in which a record did not arrive, by the broker's own offsets, is void.
#![allow(clippy::print_stdout)]

mod common;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use kafka_log::{Compression, Config, KafkaLogger, Overflow, SyncProducer, Transport};

use common::support::kafka::{Broker, Version};
use common::support::{server, topic};
use common::{BATCH_BYTES, LINGER, PARTITIONS, Yardstick, arrived};

const LONG: Duration = Duration::from_secs(300);

/// Distinct payloads; they are gone through again and again.
const PAYLOADS: usize = 1 << 16;

fn main() {
    let arguments = Arguments::read();
    server::at_full_speed();
    let broker = Broker::start(Version::V4_4_0, &[]).unwrap_or_else(|error| panic!("no broker: {error}"));
    let payloads = payloads();
    let mean = payloads.iter().map(Vec::len).sum::<usize>() / payloads.len();
    println!(
        "{} records of {mean} bytes on average, {} rounds, Kafka 4.4.0 on this machine with {} processors",
        arguments.records,
        arguments.rounds,
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    for (name, compression) in &arguments.compressions {
        let mut runs: [Vec<Run>; 3] = Default::default();
        for round in 0..=arguments.rounds {
            for (who, runs) in WHO.iter().zip(&mut runs) {
                let topic = topic::unique("bench");
                topic::create(&broker.bootstrap(), &topic, PARTITIONS, &[]);
                let run = who.run(&broker.bootstrap(), &topic, *compression, &payloads, arguments.records);
                let arrived = arrived(&broker.bootstrap(), &topic);
                assert_eq!(arrived, arguments.records, "VOID: {} brought {arrived} records", who.name());
                topic::delete(&broker.bootstrap(), &topic);
                // The first round warms up.
                if round > 0 {
                    runs.push(run);
                }
            }
        }
        report(name, &mut runs);
    }
}

fn report(compression: &str, runs: &mut [Vec<Run>; 3]) {
    println!(
        "\n{compression}\n{:<40} {:>12} {:>12} {:>12} {:>8} {:>12}",
        "records/s", "median", "least", "most", "ratio", "resident"
    );
    runs.iter_mut().for_each(|runs| runs.sort_by(|a, b| a.rate.total_cmp(&b.rate)));
    let yardstick = runs[0][runs[0].len() / 2].rate;
    for (who, runs) in WHO.iter().zip(runs.iter()) {
        let median = runs[runs.len() / 2].rate;
        let resident = runs.iter().map(|run| run.resident_kib).max().unwrap_or_default() / 1024;
        println!(
            "{:<40} {median:>12.0} {:>12.0} {:>12.0} {:>8.2} {resident:>8} MiB",
            who.name(),
            runs[0].rate,
            runs[runs.len() - 1].rate,
            median / yardstick
        );
    }
}

struct Run {
    rate: f64,
    /// At its end, all of the process.
    resident_kib: u64,
}

#[derive(Clone, Copy)]
enum Who {
    Yardstick,
    Async,
    Wire,
}

const WHO: [Who; 3] = [Who::Yardstick, Who::Async, Who::Wire];

impl Who {
    fn name(self) -> &'static str {
        match self {
            Who::Yardstick => "rdkafka's ThreadedProducer",
            Who::Async => "kafka_log async",
            Who::Wire => "kafka_log sync, wire producer",
        }
    }

    fn run(self, servers: &str, topic: &str, compression: Compression, payloads: &[Vec<u8>], records: u64) -> Run {
        let seconds = match self {
            Who::Yardstick => threaded_producer(servers, topic, compression, payloads, records),
            Who::Async | Who::Wire => {
                let config =
                    Config::new(servers, topic).compression(compression).linger(LINGER).batch_bytes(BATCH_BYTES);
                let config = config.overflow(Overflow::Block);
                let config = match self {
                    Who::Wire => config.transport(Transport::Sync).sync_producer(SyncProducer::Wire),
                    _ => config.transport(Transport::Async),
                };
                kafka_log(&config.build().expect("a logger"), payloads, records)
            }
        };
        Run { rate: records as f64 / seconds, resident_kib: resident_kib() }
    }
}

fn kafka_log(logger: &KafkaLogger, payloads: &[Vec<u8>], records: u64) -> f64 {
    let begun = Instant::now();
    for payload in payloads.iter().cycle().take(records as usize) {
        logger.enqueue(payload);
    }
    logger.flush_timeout(LONG).expect("all is delivered");
    let seconds = begun.elapsed().as_secs_f64();
    let stats = logger.shutdown(LONG).stats;
    assert_eq!((stats.delivered, stats.failed, stats.dropped.total()), (records, 0, 0), "VOID: {stats:?}");
    seconds
}

fn threaded_producer(servers: &str, topic: &str, compression: Compression, payloads: &[Vec<u8>], records: u64) -> f64 {
    let yardstick = Yardstick::new(servers, topic, &format!("{compression:?}").to_lowercase());
    let begun = Instant::now();
    for payload in payloads.iter().cycle().take(records as usize) {
        yardstick.send_or_wait(payload);
    }
    yardstick.flush(LONG).expect("all is delivered");
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(yardstick.delivered(), records, "VOID");
    seconds
}

/// Payloads as the logger writes them, each another: of 125 bytes, some more, some less.
fn payloads() -> Vec<Vec<u8>> {
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        chance
    };
    let payload = |n: usize| {
        let mut text = String::new();
        let (user, took) = (next() % 100_000, next() % 10_000);
        let _ = write!(
            text,
            r#"{{"timestamp":1795388{:03}.{:06},"level":"info","logger":"api","message":"request {n} answered","user_id":"u_{user}","took_us":{took}}}"#,
            n % 1000,
            next() % 1_000_000,
        );
        text.into_bytes()
    };
    (0..PAYLOADS).map(payload).collect()
}

/// Resident memory, as the system tells it.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

struct Arguments {
    records: u64,
    rounds: usize,
    compressions: Vec<(String, Compression)>,
}

impl Arguments {
    /// `--records N --rounds N --compression none,lz4,...`; Cargo adds `--bench`.
    fn read() -> Arguments {
        let mut read = Arguments { records: 2_000_000, rounds: 5, compressions: Vec::new() };
        let mut names = String::from("lz4");
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
            match argument.as_str() {
                "--records" => read.records = value().parse().expect("a number of records"),
                "--rounds" => read.rounds = value().parse().expect("a number of rounds"),
                "--compression" => names = value(),
                "--bench" => {}
                other => panic!("{other} is not known: --records N --rounds N --compression none,gzip,snappy,lz4,zstd"),
            }
        }
        for name in names.split(',') {
            let compression = match name {
                "none" => Compression::None,
                "gzip" => Compression::Gzip,
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4,
                "zstd" => Compression::Zstd,
                other => panic!("there is no compression {other}"),
            };
            read.compressions.push((name.into(), compression));
        }
        read
    }
}
