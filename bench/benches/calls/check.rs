//! Whether the floor is one: it writes what kafka_log writes, byte for byte but for the time.

use std::time::Duration;

use kafka_log_bench::floor;
use kafka_log_bench::record::Records;
use kafka_log_bench::task::{Load, State, Who};
use log::{LevelFilter, Log, Metadata};
use parking_lot::Mutex;

use crate::children::Children;
use crate::common::support::reader;

const RECORDS: u64 = 100;
const TIMEOUT: Duration = Duration::from_secs(30);

static WRITTEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Keeps;

impl Log for Keeps {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let payload = floor::encoded(record, |payload| String::from_utf8_lossy(payload).into_owned());
        WRITTEN.lock().push(payload);
    }

    fn flush(&self) {}
}

/// Panics where it is not.
pub fn the_floor_writes_what_kafka_log_writes(children: &Children) {
    log::set_logger(&Keeps).expect("there is no logger yet");
    log::set_max_level(LevelFilter::Info);
    let records = Records::new(None);
    (0..RECORDS).for_each(|n| records.get(n).log());
    log::set_max_level(LevelFilter::Off);
    let mut floors: Vec<String> = WRITTEN.lock().drain(..).map(without_time).collect();
    floors.sort();

    for who in [Who::Async, Who::Sync] {
        let mut ours: Vec<String> = Vec::new();
        let look = |topic: &str| {
            let records = reader::librdkafka(&children.bootstrap(), topic, TIMEOUT);
            ours = records.iter().map(|read| without_time(String::from_utf8_lossy(&read.value).into_owned())).collect();
        };
        let load = Load::Few { records: RECORDS };
        let run = children.run_and(who, load, State::Up, |_| (), look);
        run.unwrap_or_else(|error| panic!("{}: {error}", who.name()));
        ours.sort();
        assert_eq!(ours, floors, "the floor writes something else than {}", who.name());
    }
}

/// The payload with nines for the digits of the time.
fn without_time(payload: String) -> String {
    let end = payload.find(',').unwrap_or(payload.len());
    let (time, rest) = payload.split_at(end);
    time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).chain(rest.chars()).collect()
}
