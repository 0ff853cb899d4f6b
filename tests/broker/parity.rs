//! The payload beside the Python sink's: the same dictionary and the same records, through both, read back by a third.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kafka_log::{Config, KafkaLogger, fields};
use serde::Serialize;
use serde_json::{Value, json};

use crate::support::python;
use crate::support::reader::{self, ReadRecord};
use crate::target::{Client, LONG, Target};

const LOGGER: &str = "api";

/// The logger of a configuration dictionary of the Python sink.
fn config(target: &Target, dictionary: &str) -> Config {
    target.client.chosen_of_sync(serde_json::from_str(dictionary).unwrap())
}

pub(crate) fn same_payload(target: &Target) {
    let is_async = target.client == Client::Async;
    compare(target, Mode { python_is_async: is_async, rust_is_async: is_async });
}

/// The payload is the same whichever client carries it, and where `sync` does not speak to a broker kafka-python does.
pub(crate) fn same_payload_from_sync_python(target: &Target) {
    compare(target, Mode { python_is_async: false, rust_is_async: true });
}

struct Mode {
    python_is_async: bool,
    rust_is_async: bool,
}

fn compare(target: &Target, mode: Mode) {
    let python_topic = target.create_topic("parity-python", 1, &[]);
    let rust_topic = target.create_topic("parity-rust", 1, &[]);
    // How many of the records pass: each spelling means the same to both.
    let levels = [("DEBUG", 9), ("INFO", 8), ("warning", 6), ("Error", 4)];
    let before = micros_now();
    for (level, passing) in levels {
        let outcomes = python("records", &dictionary(target, &python_topic, mode.python_is_async, level, true));
        assert_eq!(outcomes, vec![Value::Null; 9]);
        let logger = config(target, &dictionary(target, &rust_topic, mode.rust_is_async, level, true)).build().unwrap();
        log_records(&logger);
        delivered(&logger, passing);
    }
    let after = micros_now();

    let expected = levels.iter().map(|(_, passing)| *passing as usize).sum();
    let python = read(target, &python_topic, expected);
    let rust = read(target, &rust_topic, expected);
    assert_eq!((python.len(), rust.len()), (expected, expected));
    for (python, rust) in python.iter().zip(&rust) {
        assert_eq!((&python.key, &rust.key), (&None, &None));
        let (python_text, rust_text) = (text(python), text(rust));
        let mut parsed = [python_text, rust_text].map(members);
        for (members, record) in parsed.iter_mut().zip([python, rust]) {
            check_timestamp(members, before, after);
            // The record's own time: of the call, but the protocol of the `kafka` crate has none.
            match record.timestamp_ms {
                -1 => assert!(record == rust && !mode.rust_is_async, "a record without a time: {record:?}"),
                millis => assert!((before / 1000..=after / 1000).contains(&i128::from(millis)), "{record:?}"),
            }
        }
        let [python, rust] = parsed;
        let names = |members: &Members| members.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&python), names(&rust), "the names or their order:\n{python_text}\n{rust_text}");
        for ((name, python), (_, rust)) in python.iter().zip(&rust) {
            assert_eq!(python, rust, "{name:?} (left: Python, right: Rust):\n{python_text}\n{rust_text}");
        }
    }
    // Both were not merely equally wrong.
    let levels: Vec<Value> = rust[..9].iter().map(|record| value(record)["level"].clone()).collect();
    assert_eq!(levels, ["debug", "info", "warning", "error", "critical", "info", "error", "warning", "critical"]);
    assert!(rust.iter().all(|record| value(record)["logger"] == LOGGER));
}

/// What the documentation says is not the same.
pub(crate) fn documented_differences(target: &Target) {
    let is_async = target.client == Client::Async;
    let python_topic = target.create_topic("differs-python", 1, &[]);
    let rust_topic = target.create_topic("differs-rust", 1, &[]);
    let outcomes = python("differences", &dictionary(target, &python_topic, is_async, "INFO", false));
    let critical = python("differences", &dictionary(target, &python_topic, is_async, "CRITICAL", true));
    for (at, outcome) in outcomes.iter().enumerate() {
        // A record whose extra is called like a parameter of the sink's own methods is never made.
        let raised = match at {
            2 => "multiple values for argument 'level'",
            3 => "multiple values for argument 'msg'",
            _ => {
                assert_eq!(outcome, &Value::Null);
                continue;
            }
        };
        assert!(outcome.as_str().is_some_and(|error| error.contains(raised)), "{outcome}");
    }
    assert_eq!(critical.len(), outcomes.len());

    let logger = config(target, &dictionary(target, &rust_topic, is_async, "INFO", true)).build().unwrap();
    log_differences(&logger);
    delivered(&logger, 11);
    let logger = config(target, &dictionary(target, &rust_topic, is_async, "INFO", false)).build().unwrap();
    logger.info("as text", fields! { a = 1 });
    delivered(&logger, 1);
    let logger = config(target, &dictionary(target, &rust_topic, is_async, "CRITICAL", true)).build().unwrap();
    log_differences(&logger);
    delivered(&logger, 2);

    // Two raise, two that json cannot write are lost without a word; CRITICAL lets one through.
    let python = read(target, &python_topic, 8);
    let rust = read(target, &rust_topic, 14);
    assert_eq!((python.len(), rust.len()), (8, 14));

    // An extra overwrites the payload's own value there, and stands beside it here.
    let [there, here] = [&python[0], &rust[0]].map(value);
    assert_eq!((&there["timestamp"], &there["logger"], &there["message"]), (&json!("t"), &json!("l"), &json!("m")));
    assert_eq!((&here["logger"], &here["message"]), (&json!(LOGGER), &json!("overwritten")));
    assert!(here["timestamp"].is_f64());
    for (name, extra) in [("fields.timestamp", "t"), ("fields.logger", "l"), ("fields.message", "m")] {
        assert_eq!((&here[name], &there[name]), (&json!(extra), &Value::Null));
    }
    // The Python sink has no "target" of its own.
    let [there, here] = [&python[1], &rust[1]].map(value);
    assert_eq!((&there["target"], &there["fields.target"]), (&json!("t"), &Value::Null));
    assert_eq!((&here["target"], &here["fields.target"]), (&Value::Null, &json!("t")));
    // The two that raise there.
    assert_eq!((&value(&rust[2])["level"], &value(&rust[2])["fields.level"]), (&json!("info"), &json!("mine")));
    assert_eq!((&value(&rust[3])["message"], &value(&rust[3])["msg"]), (&json!("msg"), &json!("mine")));
    // What is not finite is no JSON there.
    assert!(text(&python[2]).ends_with(r#""nan": NaN, "infinity": -Infinity}"#), "{}", text(&python[2]));
    assert!(serde_json::from_slice::<Value>(&python[2].value).is_err());
    assert!(text(&rust[4]).ends_with(r#""nan":null,"infinity":null}"#), "{}", text(&rust[4]));
    // What has no JSON is lost there, and text here.
    assert_eq!(value(&rust[5])["label"], "a label");
    assert_eq!(value(&rust[6])["at"], "2s");
    // A message is always text here.
    assert_eq!((&value(&python[3])["message"], &value(&rust[7])["message"]), (&json!(42), &json!("42")));
    // The same value in other bytes: spaces, and escapes for all that is not ASCII.
    assert!(text(&python[4]).ends_with(r#", "level": "info", "logger": "api", "message": "\u00fc", "a": 1}"#));
    assert!(text(&rust[8]).ends_with(r#","level":"info","logger":"api","message":"ü","a":1}"#));
    // `use_json` was false for all of these there; here it makes text.
    assert!(text(&rust[11]).ends_with("info api: as text a=1"), "{}", text(&rust[11]));
    // CRITICAL is ERROR for the filter here.
    let messages = |records: &[ReadRecord]| records.iter().map(|r| value(r)["message"].clone()).collect::<Vec<_>>();
    assert_eq!(messages(&python[7..]), ["critical"]);
    assert_eq!(messages(&rust[12..]), ["below critical", "critical"]);
}

/// The same as RECORDS of parity.py.
fn log_records(logger: &KafkaLogger) {
    logger.debug("nothing else", fields! {});
    logger.info("user authenticated", fields! { user_id = "u_19", attempts = 3 });
    logger.warning(
        "a \"message\" \\ of\ntwo lines \0 \x1b[31m \x7f \u{2028} naïve 日本語 🦀",
        fields! {
            empty = "",
            quotes = "say \"hi\" \\ 'bye' </script>",
            lines = "one\ntwo\r\n\tthree\x08\x0c",
            controls = "\0\x01\x1b[31m\x7f\u{85}",
            unicode = "naïve Straße 日本語 🦀 \u{2028}\u{200f}\u{feff}\u{ffff}",
            looks_like_a_number = "1.0",
        },
    );
    logger.error(
        "",
        fields! {
            zero = 0,
            minus = -7,
            port = 9092_u16,
            max = i64::MAX,
            min = i64::MIN,
            unsigned = u64::MAX,
            big = 1_i128 << 100,
            bigger = u128::MAX,
            minus_big = i128::MIN,
        },
    );
    logger.critical(
        "floats",
        fields! {
            half = 0.5,
            whole = 1.0,
            minus_zero = -0.0,
            tenth = 0.1,
            third = 1.0 / 3.0,
            e7 = 1e-7,
            e16 = 1e16,
            e22 = 1e22,
            largest = f64::MAX,
            smallest = 5e-324,
        },
    );
    logger.info("neither text nor number", fields! { yes = true, no = false, nothing = None::<&str> });
    let request = Request {
        path: "/a\"b",
        attempt: 2,
        took: 0.25,
        cached: false,
        user: None,
        tags: ["a", "ü\n"],
        peer: Peer { host: "127.0.0.1", port: 9092 },
    };
    logger.error(
        "nested",
        fields! {
            request:serde = request,
            list:serde = vec![1, -2, 3],
            mixed:serde = (1, "two", 3.0, true, None::<u8>, [0_u8; 0], [[1]]),
            numbered:serde = Pairs([(1, "one"), (-2, "minus two")]),
            answered:serde = Pairs([(true, "yes")]),
            no_list:serde = [0_u8; 0],
            no_object:serde = Pairs([(0, 0); 0]),
        },
    );
    let keys = [("user id", 1), ("a.b", 2), ("quo\"te\n", 3), ("ключ", 4), ("", 5), ("fields.level", 6), ("Level", 7)];
    logger.warning("keys", keys);
    let many: Vec<(String, u32)> = (0..100).map(|n| (format!("k{n}"), n)).collect();
    logger.critical("many", many.as_slice());
}

/// The same as DIFFERENCES of parity.py.
fn log_differences(logger: &KafkaLogger) {
    logger.info("overwritten", fields! { timestamp = "t", logger = "l", message = "m", user_id = "u_19" });
    logger.info("target", fields! { target = "t" });
    logger.info("level", fields! { level = "mine" });
    logger.info("msg", fields! { msg = "mine" });
    logger.info("not finite", fields! { nan = f64::NAN, infinity = f64::NEG_INFINITY });
    logger.info("no json", fields! { label:% = Label });
    logger.info("no json either", fields! { at:? = Duration::from_secs(2) });
    logger.info(42, fields! {});
    logger.info("ü", fields! { a = 1 });
    logger.error("below critical", fields! {});
    logger.critical("critical", fields! {});
}

struct Label;

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a label")
    }
}

#[derive(Serialize)]
struct Request<'a> {
    path: &'a str,
    attempt: u8,
    took: f64,
    cached: bool,
    user: Option<&'a str>,
    tags: [&'a str; 2],
    peer: Peer<'a>,
}

#[derive(Serialize)]
struct Peer<'a> {
    host: &'a str,
    port: u16,
}

/// A map that keeps its order.
struct Pairs<K, V, const N: usize>([(K, V); N]);

impl<K: Serialize, V: Serialize, const N: usize> Serialize for Pairs<K, V, N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// The text that configures both sinks.
fn dictionary(target: &Target, topic: &str, is_async: bool, level: &str, use_json: bool) -> String {
    json!({
        "type": "kafka",
        "bootstrap_servers": [target.bootstrap()],
        "topic": topic,
        "async": is_async,
        "logger_name": LOGGER,
        "level": level,
        "use_json": use_json,
    })
    .to_string()
}

/// Has parity.py log; for each call, null or the exception that it raised.
fn python(which: &str, dictionary: &str) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker/parity.py");
    let output = python::script(&script, &[which, dictionary], LONG).unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_slice(&output).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output)))
}

fn delivered(logger: &KafkaLogger, records: u64) {
    logger.flush_timeout(LONG).unwrap_or_else(|error| panic!("{error}: {:?}", logger.status()));
    let stats = logger.shutdown(LONG).stats;
    assert_eq!((stats.submitted, stats.delivered, stats.pending), (records, records, 0), "{stats:?}");
}

/// Apache Kafka's own consumer: a third client beside each sink's.
fn read(target: &Target, topic: &str, expected: usize) -> Vec<ReadRecord> {
    let version = target.kafka.expect("this case is for real brokers");
    reader::java_console(version, &target.bootstrap(), topic, expected, LONG)
}

fn text(record: &ReadRecord) -> &str {
    std::str::from_utf8(&record.value).expect("a payload is UTF-8")
}

fn value(record: &ReadRecord) -> Value {
    serde_json::from_slice(&record.value).unwrap_or_else(|error| panic!("{error}: {}", text(record)))
}

fn micros_now() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_micros() as i128
}

/// Takes the timestamp out of a payload: float seconds, within the time of the calls.
fn check_timestamp(members: &mut Members, before: i128, after: i128) {
    let (name, value) = members.remove(0);
    assert_eq!(name, "timestamp");
    let Json::Float(written) = value else { panic!("{value:?}") };
    let micros = (written.parse::<f64>().unwrap() * 1e6).round() as i128;
    assert!((before..=after).contains(&micros), "{micros} is not from {before} to {after}");
}

type Members = Vec<(String, Json)>;

/// JSON with what `serde_json::Value` does not keep: the order of members, a name that occurs twice, integers of any
/// size.
#[derive(Debug, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    /// As it is written.
    Integer(String),
    /// In its shortest form, with the sign of zero.
    Float(String),
    Text(String),
    Array(Vec<Json>),
    Object(Members),
}

fn members(text: &str) -> Members {
    // serde_json judges what is valid, so that the parser below need not.
    serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut rest = text;
    let Json::Object(members) = parse(&mut rest) else { panic!("no object: {text}") };
    members
}

/// Takes one value off valid JSON.
fn parse(rest: &mut &str) -> Json {
    match peek(rest) {
        '{' => Json::Object(list(rest, '}', |rest| {
            let Json::Text(name) = parse(rest) else { panic!("no name: {rest}") };
            assert_eq!(peek(rest), ':');
            skip(rest, 1);
            (name, parse(rest))
        })),
        '[' => Json::Array(list(rest, ']', parse)),
        '"' => {
            let mut texts = serde_json::Deserializer::from_str(rest).into_iter::<String>();
            let text = texts.next().unwrap().unwrap();
            skip(rest, texts.byte_offset());
            Json::Text(text)
        }
        _ => {
            let end = rest.find([',', ']', '}', ' ']).unwrap_or(rest.len());
            let word = &rest[..end];
            skip(rest, end);
            match word {
                "null" => Json::Null,
                "true" => Json::Bool(true),
                "false" => Json::Bool(false),
                number if number.contains(['.', 'e', 'E']) => {
                    Json::Float(format!("{:?}", number.parse::<f64>().unwrap()))
                }
                number => Json::Integer(number.to_owned()),
            }
        }
    }
}

/// Takes what stands between two brackets.
fn list<T>(rest: &mut &str, close: char, mut element: impl FnMut(&mut &str) -> T) -> Vec<T> {
    let mut elements = Vec::new();
    skip(rest, 1);
    while peek(rest) != close {
        elements.push(element(rest));
        if peek(rest) == ',' {
            skip(rest, 1);
        }
    }
    skip(rest, 1);
    elements
}

/// The next character that is not space.
fn peek(rest: &mut &str) -> char {
    *rest = rest.trim_start();
    rest.chars().next().expect("the text goes on")
}

fn skip(rest: &mut &str, bytes: usize) {
    *rest = &rest[bytes..];
}
