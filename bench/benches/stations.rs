//! The stations of a record's road on the caller's thread, each by itself: format and queue.
//!
//! The crate shows neither, so each is measured through what it shows:
//!
//! - `format`: a call to a logger whose queue is full, which formats the record and is refused. What is not the format
//!   in it is `refused` among the queue's. Beside it, the same record by the benchmark's own encoder.
//! - `queue`: the hidden `enqueue`, which takes a payload as it is. Nobody listens where the broker should be, so that
//!   the records stay: with them the queue's memory grows, and that is in the figure.
//!
//! Figures are a call's, by divan.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use divan::{Bencher, black_box};
use kafka_log::{Config, KafkaLogger, Overflow, SyncProducer, Transport};
use kafka_log_bench::floor;
use kafka_log_bench::record::{Records, TARGET};
use log::{Level, Log};

fn main() {
    divan::main();
}

/// Of divan's samples and the calls in each, so that it is known how many records there will be.
const SAMPLES: u32 = 100;
const SAMPLE: u32 = 1_000;

/// A logger that delivers nothing.
fn logger(change: impl FnOnce(Config) -> Config) -> KafkaLogger {
    // A port that nobody listens on, as good as certainly: it has just been free.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    let servers = port.expect("a free port").to_string();
    let config = Config::new(servers, "bench").transport(Transport::Sync).sync_producer(SyncProducer::Wire);
    change(config.overflow(Overflow::DropNewest)).build().expect("a logger")
}

/// One whose queue is full.
fn full_logger() -> KafkaLogger {
    let logger = logger(|config| config.queue_records(1));
    logger.enqueue(b"{}");
    logger
}

/// With a message's arguments and two key-values: what the other benchmarks log.
const PAYLOAD: &[u8] = br#"{"timestamp":1795388000.123456,"level":"info","logger":"api","message":"request 123456 answered","user_id":"u_12345","took_us":1234}"#;

mod format {
    use super::*;

    /// Messages of this length beside the usual one.
    const LONG: usize = 10_000;

    fn through(bencher: Bencher<'_, '_>, log: &impl Log, message: Option<usize>) {
        let records = Records::new(message);
        let mut n = 0;
        bencher.bench_local(|| {
            n += 1;
            let record = records.get(n);
            let fields: [(&str, log::kv::Value<'_>); 2] =
                [("user_id", record.user_id.into()), ("took_us", record.took_us.into())];
            let mut builder = log::Record::builder();
            builder.level(Level::Info).target(TARGET).key_values(&fields);
            match record.text {
                None => log.log(&builder.args(format_args!("request {} answered", record.n)).build()),
                Some(text) => log.log(&builder.args(format_args!("{text}")).build()),
            }
        });
    }

    #[divan::bench(sample_count = SAMPLES, sample_size = SAMPLE)]
    fn usual(bencher: Bencher<'_, '_>) {
        let logger = full_logger();
        through(bencher, &logger, None);
        logger.shutdown(Duration::ZERO);
    }

    #[divan::bench(sample_count = SAMPLES, sample_size = SAMPLE)]
    fn usual_floor(bencher: Bencher<'_, '_>) {
        through(bencher, &floor::Floor, None);
    }

    #[divan::bench(sample_count = SAMPLES, sample_size = SAMPLE)]
    fn long(bencher: Bencher<'_, '_>) {
        let logger = full_logger();
        through(bencher, &logger, Some(LONG));
        logger.shutdown(Duration::ZERO);
    }

    #[divan::bench(sample_count = SAMPLES, sample_size = SAMPLE)]
    fn long_floor(bencher: Bencher<'_, '_>) {
        through(bencher, &floor::Floor, Some(LONG));
    }

    #[divan::bench(sample_count = SAMPLES, sample_size = SAMPLE)]
    fn literal_without_fields(bencher: Bencher<'_, '_>) {
        let logger = full_logger();
        let record = log::Record::builder().level(Level::Info).target(TARGET).args(format_args!("started")).build();
        bencher.bench_local(|| logger.log(black_box(&record)));
        logger.shutdown(Duration::ZERO);
    }

    #[divan::bench(sample_count = SAMPLES, sample_size = SAMPLE)]
    fn ten_fields(bencher: Bencher<'_, '_>) {
        let logger = full_logger();
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let fields = names.map(|name| (name, 1_234_567_u64));
        bencher.bench_local(|| logger.info(black_box("started"), black_box(&fields[..])));
        logger.shutdown(Duration::ZERO);
    }

    #[divan::bench(sample_count = SAMPLES, sample_size = SAMPLE)]
    fn much_to_escape(bencher: Bencher<'_, '_>) {
        let logger = full_logger();
        let message = "a \"quoted\" line\n\tand another\\\n".repeat(8);
        bencher.bench_local(|| logger.info(black_box(&message), [("path", "C:\\logs\\today")]));
        logger.shutdown(Duration::ZERO);
    }
}

mod queue {
    use super::*;

    /// From so many threads.
    #[divan::bench(threads = [1, 2, 8], sample_count = SAMPLES, sample_size = SAMPLE)]
    fn taken(bencher: Bencher<'_, '_>) {
        let logger = logger(|config| config.queue_records(10_000_000).queue_bytes(4 << 30));
        bencher.bench(|| logger.enqueue(black_box(PAYLOAD)));
        let dropped = logger.stats().dropped;
        assert_eq!(dropped.total(), 0, "VOID: {dropped:?}");
        logger.shutdown(Duration::ZERO);
    }

    #[divan::bench(threads = [1, 2, 8], sample_count = SAMPLES, sample_size = SAMPLE)]
    fn refused(bencher: Bencher<'_, '_>) {
        let logger = full_logger();
        bencher.bench(|| logger.enqueue(black_box(PAYLOAD)));
        logger.shutdown(Duration::ZERO);
    }
}
