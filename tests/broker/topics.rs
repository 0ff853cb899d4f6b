//! Topics that are missing or narrow.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_log::{DeliveryErrorKind, Fallback, fields};
use parking_lot::Mutex;

use crate::records::{assert_order, counts, log_from_threads};
use crate::support::{topic, wait};
use crate::target::{LONG, Target};

pub(crate) fn appears_later(target: &Target) {
    const EACH: u64 = 100;
    let name = topic::unique("later");
    let logger = target.config(&name).build().unwrap();
    log_from_threads(&logger, EACH);
    // Long enough that the client has met the missing topic, and has been told so.
    assert!(logger.flush_timeout(Duration::from_secs(2)).is_err());
    assert_eq!(logger.stats().pending, 4 * EACH);
    topic::create(&target.bootstrap(), &name, 2, &[]);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.delivered, stats.failed, stats.dropped.total()), (4 * EACH, 0, 0));
    let records = target.read(&name, stats.delivered as usize);
    assert!(counts(&records, EACH).iter().all(|count| *count == 1));
    assert_order(&records);
}

pub(crate) fn over_the_limit(target: &Target) {
    const EACH: u64 = 300;
    // A record that is too large among many that are not, in batches that are all too large for the topic as well.
    let name = target.create_topic("narrow", 1, &[("max.message.bytes", "10000")]);
    let lost = Lost::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&told);
    let config = target.config(&name).fallback(Fallback::File(lost.0.clone()));
    let logger = config.on_delivery_error(move |error| noted.lock().push(error.clone())).build().unwrap();
    let large = incompressible(50_000);
    log_from_threads(&logger, EACH);
    logger.error(&large, fields! {});
    log_from_threads(&logger, EACH);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.failed, stats.delivered, stats.dropped.total()), (1, 8 * EACH, 0), "{:?}", logger.status());
    wait::until("the reason", LONG, || logger.status().last_error.is_some());
    let last_error = logger.status().last_error.unwrap();
    assert!(last_error.contains(&name) && last_error.to_lowercase().contains("large"), "{last_error}");
    wait::until("the callback", LONG, || !told.lock().is_empty());
    let told = told.lock();
    assert_eq!((told.len(), told[0].kind(), told[0].original_bytes()), (1, DeliveryErrorKind::Rejected, None));
    assert!(String::from_utf8_lossy(told[0].payload()).contains(&large));
    let (records, notices) = lost.lines();
    assert!(records.len() == 1 && records[0].as_bytes() == told[0].payload(), "{} lines", records.len());
    assert!(notices.len() == 1 && notices[0].contains(": failed 1"), "{notices:?}");
    assert_eq!((stats.fallback_written, stats.fallback_missed), (1, 0));
    let records = target.read(&name, 8 * EACH as usize);
    let counted = counts(&records, EACH);
    assert!(counted.iter().all(|count| *count == 2), "{counted:?}");
}

pub(crate) fn cut_to_the_limit(target: &Target) {
    const EACH: u64 = 300;
    let name = target.create_topic("cut", 1, &[("max.message.bytes", "10000")]);
    let logger = target.config(&name).max_record_bytes(9_900).build().unwrap();
    let large = incompressible(50_000);
    log_from_threads(&logger, EACH);
    logger.error(&large, fields! { order_id = "o_7" });
    log_from_threads(&logger, EACH);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.truncated, stats.delivered, stats.failed), (1, 8 * EACH + 1, 0), "{:?}", logger.status());
    assert_eq!((stats.dropped.total(), stats.fields_left_out), (0, 0));
    let records = target.read(&name, 8 * EACH as usize + 1);
    let (cut, others): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.value.len() > 1_000);
    let counted = counts(&others, EACH);
    assert!(counted.iter().all(|count| *count == 2), "{counted:?}");
    let [cut] = &cut[..] else { panic!("{} large records", cut.len()) };
    assert!((9_800..=9_900).contains(&cut.value.len()), "{} bytes", cut.value.len());
    let value: serde_json::Value = serde_json::from_slice(&cut.value).unwrap();
    let kept = value["message"].as_str().unwrap().strip_suffix("…[truncated]").unwrap();
    assert!(large.starts_with(kept) && value["order_id"] == "o_7");
    let original = value["original_bytes"].as_u64().unwrap();
    assert!(original > large.len() as u64 && original < large.len() as u64 + 300, "{original}");
}

pub(crate) fn outlasts_the_delivery_timeout(target: &Target) {
    const RECORDS: u64 = 200;
    let name = topic::unique("outage");
    let lost = Lost::new();
    let config = target.config(&name).fallback(Fallback::File(lost.0.clone()));
    let logger = config.delivery_timeout(Duration::from_secs(2)).build().unwrap();
    (0..RECORDS).for_each(|n| logger.info("in the outage", fields! { n = n }));
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.failed, stats.delivered, stats.fallback_written), (RECORDS, 0, RECORDS));
    let begun = Instant::now();

    topic::create(&target.bootstrap(), &name, 1, &[]);
    // The client has to find it first, and may take longer for that than a record has.
    let mut tried = 0;
    wait::until("a delivery", LONG, || {
        logger.info("after it", fields! { tried = tried });
        tried += 1;
        logger.flush_timeout(LONG).unwrap();
        logger.stats().delivered > 0
    });
    wait::until("the word of it", LONG, || lost.lines().1.iter().any(|notice| notice.contains("arrive again")));
    let failed = logger.stats().failed;
    logger.shutdown(LONG);
    let (records, notices) = lost.lines();
    let numbers: Vec<_> = records.iter().filter_map(|line| line.split_once(r#""n":"#)).map(|(_, n)| n).collect();
    let expected: Vec<_> = (0..RECORDS).map(|n| format!("{n}}}")).collect();
    assert_eq!(numbers, expected);
    assert_eq!(records.len() as u64, failed);
    let most = 1 + begun.elapsed().as_secs() as usize / 10;
    let (recoveries, losses): (Vec<_>, Vec<_>) = notices.iter().partition(|notice| notice.contains("arrive again"));
    assert!((1..=most).contains(&losses.len()) && losses[0].contains("dropped since"), "{notices:?}");
    assert!(recoveries.len() == 1 && recoveries[0].contains(&format!("; {failed} were dropped")), "{notices:?}");
}

/// A file of a fallback, gone with the trial.
struct Lost(PathBuf);

impl Lost {
    fn new() -> Lost {
        let name = format!("{}.jsonl", topic::unique("lost"));
        Lost(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// The lines of records, and those of notices.
    fn lines(&self) -> (Vec<String>, Vec<String>) {
        let text = std::fs::read_to_string(&self.0).unwrap();
        text.lines().map(String::from).partition(|line| !line.contains(r#""level":"warning""#))
    }
}

impl Drop for Lost {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Text that no codec makes much smaller: the output of xorshift64 as hexadecimal digits.
pub(crate) fn incompressible(bytes: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(&format!("{state:016x}"));
    }
    text
}
