//! The loggers, each as an application would set it up.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_executor::block_on;
use kafka_log::{Compression, Config, Guard, Overflow, SyncProducer, Transport};
use kafka_log_bench::child::{self, Counts, LONG, Subject};
use kafka_log_bench::floor::{self, Floor};
use kafka_log_bench::record::{Record, TARGET};
use kafka_log_bench::task::{Load, Task, Who};
use log::{LevelFilter, Log, Metadata};
use logforth::append::asynchronous::AsyncBuilder;
use logforth::append::file::FileBuilder;
use logforth::layout::JsonLayout;
use parking_lot::Mutex;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};

use crate::common::{BATCH_BYTES, LINGER, Yardstick};

/// Runs the task as the logger that it names.
pub fn run(task: &Task) {
    match task.who {
        Who::Floor => {
            install(Floor);
            child::run(task, &Encoding);
        }
        Who::Async | Who::Sync => child::run(task, &Ours(kafka_log::init(config(task)).expect("a logger"))),
        Who::HandRolled => {
            let backend = Arc::new(HandRolled::new(task));
            install(Arc::clone(&backend));
            child::run(task, &*backend);
        }
        Who::Tracing => child::run(task, &Tracing::new(task)),
        Who::Logforth => child::run(task, &Logforth::new(task)),
        Who::KafkaLogger => panic!("kafka-logger has a program of its own"),
    }
}

fn install(logger: impl Log + 'static) {
    log::set_boxed_logger(Box::new(logger)).expect("there is no logger yet");
    log::set_max_level(LevelFilter::Info);
}

/// Whether callers are to wait where there is no room.
fn waits(task: &Task) -> bool {
    matches!(task.load, Load::Stream { .. })
}

/// Has nothing to wait for.
struct Encoding;

impl Subject for Encoding {
    fn drain(&self, _: u64) -> Result<(), String> {
        Ok(())
    }

    fn counts(&self) -> Counts {
        Counts::default()
    }
}

fn config(task: &Task) -> Config {
    let config = Config::new(task.servers.as_str(), task.topic.as_str())
        .compression(Compression::Lz4)
        .linger(LINGER)
        .batch_bytes(BATCH_BYTES)
        .overflow(if waits(task) { Overflow::Block } else { Overflow::DropNewest });
    let config = match task.who {
        Who::Sync => config.transport(Transport::Sync).sync_producer(SyncProducer::Wire),
        _ => config.transport(Transport::Async),
    };
    let config = task.queue_bytes.into_iter().fold(config, Config::queue_bytes);
    task.queue_records.into_iter().fold(config, Config::queue_records)
}

struct Ours(Guard);

impl Subject for Ours {
    fn drain(&self, _: u64) -> Result<(), String> {
        self.0.flush(LONG).map_err(|error| error.to_string())
    }

    fn counts(&self) -> Counts {
        let stats = self.0.stats();
        Counts { delivered: Some(stats.delivered), lost: stats.failed + stats.dropped.total() }
    }

    fn acknowledged(&self, record: Record<'_>) -> Result<(), String> {
        let Record { n, user_id, took_us, .. } = record;
        let delivered = kafka_log::ainfo!(target: TARGET, user_id = user_id, took_us = took_us; "request {n} answered");
        block_on(delivered).map(drop).map_err(|error| error.to_string())
    }
}

/// What somebody writes who has rdkafka and an afternoon.
struct HandRolled {
    producer: Yardstick,
    waits: bool,
    refused: AtomicU64,
}

impl HandRolled {
    fn new(task: &Task) -> HandRolled {
        let producer = Yardstick::new(&task.servers, &task.topic, "lz4");
        HandRolled { producer, waits: waits(task), refused: AtomicU64::new(0) }
    }
}

impl Log for HandRolled {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        floor::encoded(record, |payload| {
            if self.waits {
                self.producer.send_or_wait(payload);
            } else if self.producer.send(payload).is_err() {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    fn flush(&self) {}
}

impl Subject for HandRolled {
    fn drain(&self, _: u64) -> Result<(), String> {
        self.producer.flush(LONG)
    }

    fn counts(&self) -> Counts {
        let lost = self.refused.load(Ordering::Relaxed) + self.producer.failed();
        Counts { delivered: Some(self.producer.delivered()), lost }
    }
}

/// tracing-subscriber's JSON by tracing-appender's thread into a file.
struct Tracing {
    /// Written so far: tracing-appender has no flush but its end.
    lines: Arc<AtomicU64>,
    lost: ErrorCounter,
    _guard: WorkerGuard,
}

/// A file that counts its lines.
struct Counted(File, Arc<AtomicU64>);

impl Write for Counted {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let length = self.0.write(piece)?;
        let lines = piece[..length].iter().filter(|byte| **byte == b'\n').count();
        self.1.fetch_add(lines as u64, Ordering::Relaxed);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Tracing {
    fn new(task: &Task) -> Tracing {
        let lines = Arc::<AtomicU64>::default();
        let file = File::create(task.directory.join("tracing.json")).expect("a file");
        let file = Counted(file, Arc::clone(&lines));
        let (writer, guard) = NonBlockingBuilder::default().lossy(!waits(task)).finish(file);
        let lost = writer.error_counter();
        // For the floor, which goes through `log` here too.
        log::set_max_level(LevelFilter::Info);
        tracing_subscriber::fmt().json().with_max_level(tracing::Level::INFO).with_writer(writer).init();
        Tracing { lines, lost, _guard: guard }
    }
}

impl Subject for Tracing {
    #[inline]
    fn call(&self, record: Record<'_>) {
        let Record { n, user_id, took_us, text } = record;
        match text {
            None => tracing::info!(target: "api", user_id, took_us, "request {n} answered"),
            Some(text) => tracing::info!(target: "api", user_id, took_us, "{text}"),
        }
    }

    fn drain(&self, logged: u64) -> Result<(), String> {
        wait_for_lines(logged, || Ok(self.lines.load(Ordering::Relaxed) + self.lost.dropped_lines() as u64))
    }

    fn counts(&self) -> Counts {
        Counts { delivered: Some(self.lines.load(Ordering::Relaxed)), lost: self.lost.dropped_lines() as u64 }
    }
}

/// logforth's JSON by its thread into a file.
struct Logforth(Mutex<Lines>);

impl Logforth {
    fn new(task: &Task) -> Logforth {
        let file = FileBuilder::new(&task.directory, "logforth").layout(JsonLayout::default()).build().expect("a file");
        // As it comes: without a bound.
        let asynchronous = AsyncBuilder::new("logforth").append(file).build();
        logforth::starter_log::builder()
            .dispatch(|dispatch| dispatch.filter(logforth::record::LevelFilter::All).append(asynchronous))
            .apply();
        log::set_max_level(LevelFilter::Info);
        Logforth(Mutex::new(Lines { directory: task.directory.clone(), file: None, lines: 0 }))
    }
}

impl Subject for Logforth {
    /// Its flush asks for one and goes on.
    fn drain(&self, logged: u64) -> Result<(), String> {
        log::logger().flush();
        wait_for_lines(logged, || self.0.lock().count())
    }

    fn counts(&self) -> Counts {
        Counts { delivered: self.0.lock().count().ok(), lost: 0 }
    }
}

/// The lines of the one file in a directory, which grows.
struct Lines {
    directory: PathBuf,
    /// Read up to where the lines have been counted.
    file: Option<BufReader<File>>,
    lines: u64,
}

impl Lines {
    fn count(&mut self) -> io::Result<u64> {
        if self.file.is_none() {
            let Some(file) = fs::read_dir(&self.directory)?.next() else { return Ok(0) };
            self.file = Some(BufReader::new(File::open(file?.path())?));
        }
        if let Some(file) = &mut self.file {
            loop {
                let piece = file.fill_buf()?;
                let length = piece.len();
                if length == 0 {
                    break;
                }
                self.lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
                file.consume(length);
            }
        }
        Ok(self.lines)
    }
}

fn wait_for_lines(expected: u64, mut lines: impl FnMut() -> io::Result<u64>) -> Result<(), String> {
    /// Short beside a burst of calls.
    const STEP: Duration = Duration::from_millis(1);
    let deadline = Instant::now() + LONG;
    loop {
        let there = lines().map_err(|error| format!("cannot read back: {error}"))?;
        if there >= expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{there} of {expected} lines after {LONG:?}"));
        }
        thread::sleep(STEP);
    }
}
