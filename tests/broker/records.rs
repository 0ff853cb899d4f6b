//! What arrives, exactly.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use kafka_log::{KafkaLogger, fields};
use serde_json::Value;

use crate::support::process;
use crate::support::reader::ReadRecord;
use crate::target::{LONG, Target};

pub(crate) const THREADS: u64 = 4;

/// Logs `each` records from each of some threads: who and the how-many-th is in the fields.
pub(crate) fn log_from_threads(logger: &KafkaLogger, each: u64) {
    thread::scope(|scope| {
        for who in 0..THREADS {
            scope.spawn(move || {
                for n in 0..each {
                    logger.info(format_args!("record {n} of thread {who}"), fields! { who = who, n = n });
                }
            });
        }
    });
}

/// Which record of which thread a payload is; it is checked to be one, whole.
pub(crate) fn who_and_n(record: &ReadRecord) -> (u64, u64) {
    let text = std::str::from_utf8(&record.value).expect("a payload is UTF-8");
    let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let (Some(who), Some(n)) = (json["who"].as_u64(), json["n"].as_u64()) else { panic!("no fields in {text}") };
    // The timestamp is the one part that a reader cannot know; its form is known.
    let (head, rest) = text.split_at(r#"{"timestamp":1700000000.000000"#.len());
    assert!(head.starts_with(r#"{"timestamp":"#) && head.as_bytes()[head.len() - 7] == b'.', "{text}");
    let expected =
        format!(r#","level":"info","logger":"kafka_log","message":"record {n} of thread {who}","who":{who},"n":{n}}}"#);
    assert_eq!(rest, expected);
    (who, n)
}

/// Checks that each thread's records stand in their order within each partition, repeats aside.
pub(crate) fn assert_order(records: &[ReadRecord]) {
    let mut last: HashMap<(i32, u64), u64> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for record in records {
        let (who, n) = who_and_n(record);
        if !seen.insert((who, n)) {
            continue;
        }
        if let Some(before) = last.insert((record.partition, who), n) {
            assert!(before < n, "thread {who}: {n} after {before} in partition {}", record.partition);
        }
    }
}

/// How often each record of each thread arrived, from 0 on.
pub(crate) fn counts(records: &[ReadRecord], each: u64) -> Vec<u32> {
    let mut counts = vec![0; (THREADS * each) as usize];
    for record in records {
        let (who, n) = who_and_n(record);
        counts[(who * each + n) as usize] += 1;
    }
    counts
}

pub(crate) fn a_hundred_thousand(target: &Target) {
    const EACH: u64 = 25_000;
    let topic = target.create_topic("hundred-thousand", 4, &[]);
    let logger = target.config(&topic).build().unwrap();
    log_from_threads(&logger, EACH);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.shutdown(LONG).stats;
    assert_eq!((stats.submitted, stats.delivered, stats.failed), (THREADS * EACH, THREADS * EACH, 0));
    assert_eq!((stats.dropped.total(), stats.pending), (0, 0));

    let records = target.read(&topic, (THREADS * EACH) as usize);
    assert!(counts(&records, EACH).iter().all(|count| *count == 1), "a record is missing or doubled");
    assert_order(&records);
    if target.has_record_times() {
        for record in &records {
            let text = std::str::from_utf8(&record.value).unwrap();
            let json: Value = serde_json::from_str(text).unwrap();
            let event_ms = (json["timestamp"].as_f64().unwrap() * 1e3) as i64;
            assert!(
                (record.timestamp_ms - event_ms).abs() <= 1,
                "{} is not the event time: {text}",
                record.timestamp_ms
            );
        }
    }
}

pub(crate) fn strange_payloads(target: &Target) {
    let topic = target.create_topic("strange", 1, &[]);
    let logger = target.config(&topic).logger_name("a\"b\n").build().unwrap();
    let text = target.config(&topic).use_json(false).build().unwrap();
    let strange = "nul \0 newline \n escape \u{1b}[31m quote \" backslash \\ separator \u{2028} emoji 🦀";
    logger.critical(strange, fields! { strange = strange, nan = f64::NAN, big = u128::MAX, level = "mine" });
    logger.info("", fields! {});
    logger.flush_timeout(LONG).unwrap();
    text.warning("one\ntwo", fields! { n = 3 });
    text.flush_timeout(LONG).unwrap();

    let records = target.read(&topic, 3);
    let values: Vec<&str> = records.iter().map(|record| std::str::from_utf8(&record.value).unwrap()).collect();
    let json: Value = serde_json::from_str(values[0]).unwrap();
    assert_eq!((&json["message"], &json["strange"]), (&strange.into(), &strange.into()));
    assert_eq!((&json["logger"], &json["level"]), (&"a\"b\n".into(), &"critical".into()));
    assert_eq!((&json["nan"], &json["fields.level"]), (&Value::Null, &"mine".into()));
    assert!(values[0].contains(r#""big":340282366920938463463374607431768211455"#), "{}", values[0]);
    assert_eq!(serde_json::from_str::<Value>(values[1]).unwrap()["message"], "");
    assert!(values[2].ends_with(r"warning kafka_log: one\ntwo n=3"), "{}", values[2]);
}

/// README's first command, against this broker.
pub(crate) fn quickstart(target: &Target) {
    let Some(example) = example("quickstart") else {
        println!("the quickstart is not built by this command: `cargo test` builds it");
        return;
    };
    let topic = target.create_topic("quickstart", 2, &[]);
    let transport = format!("{:?}", target.client.transport()).to_lowercase();
    let mut command = Command::new(example);
    command.args(["--bootstrap-servers", &target.bootstrap(), "--topic", &topic, "--transport", &transport]);
    let output = process::run("the quickstart", &mut command, LONG).unwrap();
    let output = String::from_utf8(output).unwrap();
    assert_eq!(output.matches("user authenticated").count(), 10, "{output}");
    assert!(output.contains("delivered: 10,"), "{output}");
}

/// The example's binary, where the command that built this test built it too.
fn example(name: &str) -> Option<PathBuf> {
    let tests = std::env::current_exe().ok()?;
    let path = tests.parent()?.parent()?.join("examples").join(name);
    path.exists().then_some(path)
}
