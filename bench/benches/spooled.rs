//! What a log call costs with a spool, beside one without.
//!
//! `info` with two key-values, by threads that log as fast as they can to a real broker, each call timed by two readings
//! of the processor's counter. A burst is followed by a flush, which is not timed; the loggers take turns, so that each
//! meets the same machine. The spool's directory is under `target`, so that it is a real disk. Of the rounds all calls
//! count. It prints Markdown, as PERFORMANCE.md has it; a record that was lost is an error.
#![allow(clippy::print_stdout)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use kafka_log::{Config, Fsync, KafkaLogger, Spool, SpoolMode, Transport, fields};
use kafka_log_bench::machine::{commit, load, machine};

use common::support::kafka::{Broker, Version};
use common::support::{server, topic};
use common::{BATCH_BYTES, LINGER, PARTITIONS};

const LONG: Duration = Duration::from_secs(120);
/// With `--short` one, which is enough to see that nothing is lost.
const ROUNDS: usize = 6;
const THREADS: [usize; 3] = [1, 2, 8];
/// Of all threads, in a burst; the queue has room for them.
const CALLS: usize = 20_000;
/// No burst takes longer, where each call waits for the disk.
const LONGEST: Duration = Duration::from_millis(1_500);

/// Without a spool, or how it is.
type Way = (&'static str, Option<(SpoolMode, Fsync)>);

const WAYS: [Way; 5] = [
    ("no spool", None),
    ("`Overflow`, `Fsync::Interval(1 s)`", Some((SpoolMode::Overflow, Fsync::Interval(Duration::from_secs(1))))),
    ("`WriteAhead`, `Fsync::Never`", Some((SpoolMode::WriteAhead, Fsync::Never))),
    ("`WriteAhead`, `Fsync::Interval(1 s)`", Some((SpoolMode::WriteAhead, Fsync::Interval(Duration::from_secs(1))))),
    ("`WriteAhead`, `Fsync::EveryBatch`", Some((SpoolMode::WriteAhead, Fsync::EveryBatch))),
];

fn main() {
    let rounds = if std::env::args().any(|argument| argument == "--short") { 1 } else { ROUNDS };
    server::at_full_speed();
    let load = load();
    let broker = Broker::start(Version::V4_4_0, &[]).unwrap_or_else(|error| panic!("no broker: {error}"));
    println!("{}; load before {load}; Kafka 4.4.0; commit {}; {rounds} rounds\n", machine(), commit());
    println!(
        "| spool | transport | threads | calls | p50 | mean | p99 | p99.9 | max |\n|---|---|---|---|---|---|---|---|---|"
    );
    for transport in [Transport::Async, Transport::Sync] {
        let loggers: Vec<_> = WAYS.iter().map(|way| Spooled::new(&broker.bootstrap(), transport, *way)).collect();
        for threads in THREADS {
            let mut figures: Vec<_> = WAYS.iter().map(|_| histogram()).collect();
            for round in 0..=rounds {
                for (spooled, figures) in loggers.iter().zip(&mut figures) {
                    let burst = spooled.burst(threads);
                    // The first round warms up.
                    if round > 0 {
                        figures.add(burst).expect("the same bounds");
                    }
                }
            }
            for ((name, _), figures) in WAYS.iter().zip(figures) {
                let times = [
                    figures.value_at_quantile(0.5) as f64,
                    figures.mean(),
                    figures.value_at_quantile(0.99) as f64,
                    figures.value_at_quantile(0.999) as f64,
                    figures.max() as f64,
                ];
                let times = times.map(time).join(" | ");
                println!("| {name} | {} | {threads} | {} | {times} |", word(transport), figures.len());
            }
        }
    }
}

fn word(transport: Transport) -> String {
    format!("{transport:?}").to_lowercase()
}

fn time(nanos: f64) -> String {
    match nanos {
        ..10e3 => format!("{nanos:.0} ns"),
        ..10e6 => format!("{:.0} us", nanos / 1e3),
        _ => format!("{:.1} ms", nanos / 1e6),
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits")
}

/// A logger, and its directory.
struct Spooled {
    logger: KafkaLogger,
    directory: PathBuf,
}

impl Spooled {
    fn new(servers: &str, transport: Transport, (_, spool): Way) -> Spooled {
        let topic = topic::unique("spooled");
        topic::create(servers, &topic, PARTITIONS, &[]);
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&topic);
        let config = Config::new(servers, &topic).transport(transport).linger(LINGER).batch_bytes(BATCH_BYTES);
        let config = match spool {
            Some((mode, fsync)) => config.spool(Spool::new(&directory).mode(mode).fsync(fsync)),
            None => config,
        };
        Spooled { logger: config.build().expect("a logger"), directory }
    }

    /// Logs as fast as it goes, and waits until it has arrived.
    fn burst(&self, threads: usize) -> Histogram<u64> {
        let begun = Instant::now();
        let mut all = histogram();
        thread::scope(|scope| {
            let logging: Vec<_> =
                (0..threads).map(|who| scope.spawn(move || self.log(who, CALLS / threads, begun))).collect();
            for logging in logging {
                all.add(logging.join().expect("a thread has panicked")).expect("the same bounds");
            }
        });
        self.logger.flush_timeout(LONG).unwrap_or_else(|error| panic!("VOID: {error}"));
        let stats = self.logger.stats();
        assert_eq!((stats.delivered, stats.spool_refused), (stats.submitted, 0), "VOID: {stats:?}");
        all
    }

    fn log(&self, who: usize, calls: usize, begun: Instant) -> Histogram<u64> {
        let clock = quanta::Clock::new();
        let mut times = histogram();
        for n in 0..calls {
            let before = clock.raw();
            self.logger.info(format_args!("request {n} answered"), fields! { user_id = who, took_us = n });
            let took = clock.delta_as_nanos(before, clock.raw());
            times.record(took).expect("a time");
            if n % 64 == 0 && begun.elapsed() > LONGEST {
                break;
            }
        }
        times
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        self.logger.shutdown(LONG);
        let _ = fs::remove_dir_all(&self.directory);
    }
}
