//! The crate kafka-logger under kafka_log's benchmark: a child process of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use kafka_log_bench::child::{self, Counts, Subject};

fn main() {
    let Some(task) = child::task() else {
        panic!("the benchmark starts this: cargo bench -p kafka_log-bench --bench calls");
    };
    kafka_logger::init(&task.servers, log::LevelFilter::Info, &task.topic);
    child::run(&task, &KafkaLogger);
}

struct KafkaLogger;

const TRIES: usize = 10;

impl Subject for KafkaLogger {
    /// Its `shutdown` is a flush of two seconds, which panics where that is not enough: then there is another.
    fn drain(&self, _: u64) -> Result<(), String> {
        let flushed = (0..TRIES).any(|_| catch_unwind(AssertUnwindSafe(kafka_logger::shutdown)).is_ok());
        if flushed { Ok(()) } else { Err(format!("its shutdown() panicked, {TRIES} times one after the other")) }
    }

    /// It counts nothing.
    fn counts(&self) -> Counts {
        Counts::default()
    }
}
