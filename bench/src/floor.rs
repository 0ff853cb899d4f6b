//! The floor: the payload that kafka_log writes, by an encoder written for nothing else.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{SystemTime, UNIX_EPOCH};

use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use log::{Level, Log, Metadata, Record};
use serde::Serializer as _;

/// Encodes into the thread's buffer, and runs `then` with the payload.
pub fn encoded<R>(record: &Record<'_>, then: impl FnOnce(&[u8]) -> R) -> R {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }

    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        encode(record, buffer);
        then(buffer)
    })
}

/// For records whose keys are not the payload's own and do not repeat.
fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(b"{\"timestamp\":");
    out.extend_from_slice(number.format(since.as_secs()).as_bytes());
    // Six digits, with the zeros in front.
    let micros = number.format(1_000_000 + since.subsec_micros());
    out.push(b'.');
    out.extend_from_slice(&micros.as_bytes()[1..]);
    out.extend_from_slice(match record.level() {
        Level::Error => b",\"level\":\"error\",\"logger\":",
        Level::Warn => b",\"level\":\"warning\",\"logger\":",
        Level::Info => b",\"level\":\"info\",\"logger\":",
        Level::Debug => b",\"level\":\"debug\",\"logger\":",
        Level::Trace => b",\"level\":\"trace\",\"logger\":",
    });
    string(record.target(), out);
    out.extend_from_slice(b",\"message\":");
    match record.args().as_str() {
        Some(text) => string(text, out),
        None => serde_json::Serializer::new(&mut *out).collect_str(record.args()).expect("a buffer takes all"),
    }
    record.key_values().visit(&mut Pairs(out)).expect("a buffer takes all");
    out.push(b'}');
}

fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a buffer takes all");
}

struct Pairs<'a>(&'a mut Vec<u8>);

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.push(b',');
        string(key.as_str(), self.0);
        self.0.push(b':');
        value.visit(Json(self.0))
    }
}

struct Json<'a>(&'a mut Vec<u8>);

impl VisitValue<'_> for Json<'_> {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        serde_json::to_writer(&mut *self.0, &value).map_err(Error::boxed)
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), Error> {
        string(value, self.0);
        Ok(())
    }
}

/// Encodes, and that is all.
pub struct Floor;

impl Log for Floor {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        encoded(record, |payload| {
            black_box(payload);
        });
    }

    fn flush(&self) {}
}
