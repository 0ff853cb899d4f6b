//! Hostile and extreme content, through to a reader: one record stays one valid payload.

use std::fmt;
use std::fs;

use kafka_log::Transport;
use log::kv::Value as Kv;
use serde::Serialize;
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::child::{Child, SURELY, Scenario, config};
use crate::scenarios;

pub fn scenarios() -> Vec<Scenario> {
    scenarios! {
        control_characters_anywhere_arrive_as_they_were_and_forge_nothing => hostile_text;
        numbers_keep_their_kind_and_value => numbers;
        nested_values_and_errors_arrive_as_json => nested;
        reserved_names_cannot_replace_what_the_payload_says => reserved;
        ten_thousand_pairs_are_cut_and_the_rest_is_counted => many_pairs;
        an_empty_message_is_a_record => empty;
        a_giant_message_is_cut_with_a_count_and_little_memory => giant;
        a_text_line_stays_one_line => text_line;
    }
}

/// Ends lines, drives terminals, closes strings and objects, and ends C's strings.
const HOSTILE: &str =
    "a\0b\nc\r\td\u{1b}[31m\u{7f}\u{85}\u{2028}\u{2029}\u{feff}\"}\\\u{1f600}\u{10ffff}{\"level\":\"error\"}";

fn hostile_text(transport: Transport) {
    let logger = config(transport).logger_name(HOSTILE).build().unwrap();
    logger.info(HOSTILE, [(HOSTILE, HOSTILE)]);
    let target = HOSTILE.to_owned();
    log::Log::log(
        &logger,
        &log::Record::builder().level(log::Level::Info).target(&target).args(format_args!("m")).build(),
    );
    logger.flush_timeout(SURELY).unwrap();
    assert_eq!(logger.stats().delivered, 2);
}

fn control_characters_anywhere_arrive_as_they_were_and_forge_nothing(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let texts = broker.texts();
    assert!(texts.iter().all(|text| !text.bytes().any(|byte| byte < b' ')), "{texts:?}");
    let records = broker.records();
    let [first, second] = &records[..] else { panic!("{records:?}") };
    assert_eq!(
        (&first["message"], &first[HOSTILE], &first["logger"]),
        (&HOSTILE.into(), &HOSTILE.into(), &HOSTILE.into())
    );
    assert_eq!((&second["target"], &second["message"]), (&HOSTILE.into(), &"m".into()));
    assert!(records.iter().all(|record| record["level"] == "info"));
}

fn numbers(transport: Transport) {
    kafka_log::init(config(transport)).unwrap();
    log::info!(
        nan = f64::NAN, inf = f64::INFINITY, neg = f64::NEG_INFINITY, f32 = f32::NAN, third = 1.0 / 3.0, zero = -0.0,
        least = i128::MIN, most = u128::MAX, i64 = i64::MIN, u64 = u64::MAX, yes = true, letter = 'ß',
        none:serde = None::<u8>, some:serde = Some(u128::MAX), list:serde = [f64::NAN, 1.5];
        "numbers"
    );
}

fn numbers_keep_their_kind_and_value(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let texts = broker.texts();
    let (_, fields) = texts[0].split_once(r#""message":"numbers","#).unwrap_or_else(|| panic!("{texts:?}"));
    // As text: a reader's own numbers have no room for 128 bits.
    assert_eq!(
        fields,
        concat!(
            r#""nan":null,"inf":null,"neg":null,"f32":null,"third":0.3333333333333333,"zero":-0.0,"#,
            r#""least":-170141183460469231731687303715884105728,"most":340282366920938463463374607431768211455,"#,
            r#""i64":-9223372036854775808,"u64":18446744073709551615,"yes":true,"letter":"ß","#,
            r#""none":null,"some":340282366920938463463374607431768211455,"list":[null,1.5]}"#,
        )
    );
    assert_eq!(broker.records().len(), 1);
}

#[derive(Serialize)]
struct Order {
    id: u32,
    lines: Vec<Line>,
    note: Option<String>,
    state: OrderState,
}

#[derive(Serialize)]
struct Line(String, f64);

#[derive(Serialize)]
enum OrderState {
    Paid { by: &'static str },
}

fn order() -> Order {
    let lines = vec![Line("a\nb".into(), 1.5), Line(String::new(), f64::NAN)];
    Order { id: 7, lines, note: None, state: OrderState::Paid { by: "card" } }
}

fn nested(transport: Transport) {
    kafka_log::init(config(transport)).unwrap();
    let error = std::io::Error::other("disk \"full\"");
    log::info!(order:serde = order(), error:err = error, tuple:? = (1, "x"); "nested");
    let mut deep = json!("bottom");
    (0..100).for_each(|_| deep = json!([deep]));
    log::info!(deep:serde = deep; "deep");
}

fn nested_values_and_errors_arrive_as_json(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let records = broker.records();
    let [first, second] = &records[..] else { panic!("{records:?}") };
    assert_eq!(
        first["order"],
        json!({"id": 7, "lines": [["a\nb", 1.5], ["", null]], "note": null, "state": {"Paid": {"by": "card"}}})
    );
    assert_eq!((&first["error"], &first["tuple"]), (&"disk \"full\"".into(), &r#"(1, "x")"#.into()));
    let (mut level, mut depth) = (&second["deep"], 0);
    while let Value::Array(inside) = level {
        (level, depth) = (&inside[0], depth + 1);
    }
    assert_eq!((level, depth), (&"[nested deeper than 32 levels]".into(), 32));
}

fn reserved(transport: Transport) {
    let guard = kafka_log::init(config(transport)).unwrap();
    log::warn!(timestamp = 0, level = "fatal", logger = "evil", message = "forged", target = "t", user = 1, user = 2; "real");
    guard.flush(SURELY).unwrap();
    assert_eq!((guard.stats().delivered, guard.stats().fields_left_out), (1, 1));
}

fn reserved_names_cannot_replace_what_the_payload_says(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let record = &broker.records()[0];
    assert_eq!((&record["level"], &record["message"], &record["user"]), (&"warning".into(), &"real".into(), &1.into()));
    assert_eq!(record["logger"], module_path!());
    assert!(record["timestamp"].as_f64().is_some_and(|seconds| seconds > 1e9));
    let extras =
        ["timestamp", "level", "logger", "message", "target"].map(|name| record[format!("fields.{name}")].clone());
    assert_eq!(Value::from(extras.to_vec()), json!([0, "fatal", "evil", "forged", "t"]));
}

const PAIRS: usize = 10_000;
const MOST_PAIRS: usize = 1_024;

fn many_pairs(transport: Transport) {
    let logger = config(transport).build().unwrap();
    let pairs: Vec<(String, usize)> = (0..PAIRS).map(|n| (format!("key {n}"), n)).collect();
    logger.info("many", &pairs);
    logger.info("few", [("n", Kv::from(1))]);
    logger.flush_timeout(SURELY).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.delivered, stats.fields_left_out), (2, (PAIRS - MOST_PAIRS) as u64));
}

fn ten_thousand_pairs_are_cut_and_the_rest_is_counted(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let records = broker.records();
    let extras = |record: &Value| record.as_object().map_or(0, |members| members.len() - 4);
    assert_eq!(records.iter().map(extras).collect::<Vec<_>>(), [MOST_PAIRS, 1]);
    assert!((0..MOST_PAIRS).all(|n| records[0][format!("key {n}")] == n));
}

fn empty(transport: Transport) {
    kafka_log::init(config(transport)).unwrap();
    log::info!("");
    log::info!(target: "", nothing = ""; "");
}

fn an_empty_message_is_a_record(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    assert_eq!(broker.messages(), ["", ""]);
    let second = &broker.records()[1];
    assert_eq!((&second["logger"], &second["nothing"]), (&"".into(), &"".into()));
}

const GIANT: usize = 100 << 20;

/// Displays as much as a giant, and is none.
struct Endless;

impl fmt::Display for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..GIANT / 1024).try_for_each(|_| f.write_str(&"x".repeat(1024)))
    }
}

fn giant(transport: Transport) {
    let guard = kafka_log::init(config(transport)).unwrap();
    log::info!("before");
    let message = "x".repeat(GIANT);
    let before = peak_megabytes();
    log::info!("{message}");
    log::info!(big = message.as_str(); "giant value");
    assert!(
        peak_megabytes() < before + 32,
        "a giant costs a few times the largest payload: {before} and {} MB",
        peak_megabytes()
    );

    log::info!("{Endless}");
    assert!(peak_megabytes() < before + 32, "{before} and {} MB", peak_megabytes());
    log::info!("after");

    guard.flush(SURELY).unwrap();
    let stats = guard.stats();
    assert_eq!((stats.submitted, stats.delivered, stats.truncated, stats.fields_left_out), (5, 5, 3, 1));
}

/// The most memory that this process has ever held.
fn peak_megabytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn a_giant_message_is_cut_with_a_count_and_little_memory(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let records = broker.records();
    let messages: Vec<_> = records.iter().map(|record| record["message"].as_str().unwrap_or_default()).collect();
    assert_eq!((messages.len(), messages[0], messages[2], messages[4]), (5, "before", "giant value", "after"));
    for cut in [messages[1], messages[3]] {
        assert!(cut.ends_with("x…[truncated]") && (999_000..1_000_000).contains(&cut.len()), "{} bytes", cut.len());
    }
    let sizes: Vec<_> = records.iter().filter_map(|record| record["original_bytes"].as_u64()).collect();
    assert!(
        sizes.len() == 3 && sizes[..2].iter().all(|size| (GIANT as u64..GIANT as u64 + 200).contains(size)),
        "{sizes:?}"
    );
    // What comes in pieces is not followed to an end that may never come.
    assert!(sizes[2] > 64 << 20 && sizes[2] < 70 << 20, "{sizes:?}");
}

fn text_line(transport: Transport) {
    kafka_log::init(config(transport).use_json(false)).unwrap();
    log::warn!(target: "app", user = "u\n19", n = 3; "first\nsecond {HOSTILE}");
}

fn a_text_line_stays_one_line(child: Child) {
    let broker = Broker::start();
    broker.serves(child).succeeds();
    let texts = broker.texts();
    let [line] = &texts[..] else { panic!("{texts:?}") };
    assert!(!line.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')), "{line:?}");
    assert!(line.contains(r"Z warning app: first\nsecond a\u{0}b\nc\r\td\u{1b}[31m"), "{line}");
    assert!(line.ends_with(r#" user="u\n19" n=3"#), "{line}");
}
