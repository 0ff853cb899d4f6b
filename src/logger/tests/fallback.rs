//! Where records go that do not arrive.

use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::config::Fallback;

/// A directory that goes with the test.
struct Directory(TempDir);

impl Directory {
    fn new() -> Directory {
        Directory(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("lost.jsonl")
    }
}

fn to_file(path: &Path) -> Config {
    Config::default().fallback(Fallback::File(path.into()))
}

/// The messages of the lines, each of which is an object; those of notices apart.
fn messages(path: &Path) -> (Vec<String>, Vec<String>) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let (notices, records): (Vec<_>, Vec<_>) = lines.partition(|line| line["level"] == "warning");
    let texts = |lines: Vec<serde_json::Value>| {
        lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    (texts(records), texts(notices))
}

fn numbers(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

#[test]
fn each_record_that_fails_or_is_dropped_is_a_line_and_a_notice_is_first() {
    let directory = Directory::new();
    let (logger, script) = logger(to_file(&directory.file()).queue_records(2), Mode::Hold);
    numbered(&logger, 0..3);
    {
        let _ours = recursion::enter();
        logger.info("recursive", NO_FIELDS);
    }
    wait_until("the notice", || !messages(&directory.file()).1.is_empty());
    script.mode(Mode::Fail);
    logger.flush_timeout(LONG).unwrap();
    let (records, notices) = messages(&directory.file());
    assert_eq!(records, ["2", "0", "1"], "in the order in which they were given up");
    assert!(notices.len() == 1 && notices[0].starts_with("1 record dropped since 20"), "{notices:?}");
    assert!(notices[0].ends_with("Z: queue_full 1"), "{notices:?}");
    let first = fs::read_to_string(directory.file()).unwrap().lines().next().unwrap().to_owned();
    assert!(first.contains(r#""level":"warning","logger":"kafka_log","message":"1 record"#), "{first}");

    script.mode(Mode::NoRoom);
    numbered(&logger, 3..4);
    logger.shutdown(Duration::ZERO);
    numbered(&logger, 4..5);
    let (_, notices) = messages(&directory.file());
    // What was not told of yet is, at the end.
    assert!(notices.len() == 2 && notices[1].starts_with("4 records dropped"), "{notices:?}");
    assert!(notices[1].ends_with("Z: failed 2, queue_full 1, shutdown 1"), "{notices:?}");
    wait_until("the record that was too late", || messages(&directory.file()).0.len() == 5);
    assert_eq!(messages(&directory.file()).0[3..], ["3", "4"]);
    let stats = logger.stats();
    assert_eq!((stats.fallback_written, stats.fallback_missed), (5, 0));
    assert_eq!(logger.status().fallback_error, None);
}

#[test]
fn an_outage_is_a_notice_and_a_recovery_is_another() {
    let directory = Directory::new();
    let (logger, script) = logger(to_file(&directory.file()), Mode::Fail);
    for n in 0..200 {
        numbered(&logger, n..n + 1);
        logger.flush_timeout(LONG).unwrap();
    }
    script.mode(Mode::Deliver);
    numbered(&logger, 200..300);
    logger.flush_timeout(LONG).unwrap();
    wait_until("the recovery", || messages(&directory.file()).1.len() >= 2);
    let (records, notices) = messages(&directory.file());
    assert_eq!(records, numbers(0..200));
    assert!(notices.len() == 2 && notices[0].contains("dropped since"), "{notices:?}");
    assert!(notices[1].starts_with("records arrive again; 200 were dropped since 20"), "{notices:?}");
    drop(logger);
    assert_eq!(messages(&directory.file()).1.len(), 2);
}

#[test]
fn what_a_client_gives_back_at_the_end_is_written_before_shutdown_returns() {
    let directory = Directory::new();
    let (logger, script) = logger(to_file(&directory.file()), Mode::Hold);
    numbered(&logger, 0..5_000);
    script.wait_taken(5_000);
    let report = logger.shutdown(Duration::ZERO);
    assert_eq!(report.unsent, 5_000);
    assert_eq!(messages(&directory.file()).0, numbers(0..5_000));
    assert_eq!((report.stats.fallback_missed, logger.stats().fallback_written), (0, 5_000));
}

#[test]
fn what_a_client_keeps_for_ever_is_counted() {
    for mode in [Mode::HoldFast, Mode::Hang] {
        let directory = Directory::new();
        let (logger, script) = logger(to_file(&directory.file()), Mode::HoldFast);
        numbered(&logger, 0..3);
        script.wait_taken(3);
        script.mode(mode);
        if mode == Mode::Hang {
            script.wait_hanging();
        }
        logger.shutdown(Duration::ZERO);
        assert_eq!((logger.stats().fallback_missed, messages(&directory.file()).0.len()), (3, 0), "{mode:?}");
        script.mode(Mode::Deliver);
    }
}

#[test]
fn what_a_client_had_that_panicked_is_written() {
    let directory = Directory::new();
    let (logger, script) = logger(to_file(&directory.file()), Mode::Hold);
    numbered(&logger, 0..3);
    script.wait_taken(3);
    script.mode(Mode::PanicInPoll);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.failed, stats.fallback_written, stats.fallback_missed), (3, 3, 0));
    assert_eq!(messages(&directory.file()).0, numbers(0..3));
}

#[test]
fn an_oversize_record_that_is_dropped_is_written_as_far_as_it_may_go() {
    let directory = Directory::new();
    let config = to_file(&directory.file()).max_record_bytes(600).oversize(Oversize::Drop);
    let (logger, _script) = logger(config, Mode::Deliver);
    logger.info("x".repeat(2_000), NO_FIELDS);
    logger.flush_timeout(LONG).unwrap();
    let (records, notices) = messages(&directory.file());
    assert!(records.len() == 1 && records[0].ends_with("…[truncated]"), "{records:?}");
    assert!(notices[0].ends_with("oversize 1"), "{notices:?}");
}

/// Keeps what it is given.
#[derive(Default)]
struct Keeping {
    records: Mutex<Vec<(Level, String, String)>>,
    to: Mutex<Option<KafkaLogger>>,
}

impl Log for Keeping {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.records.lock().push((record.level(), record.target().into(), record.args().to_string()));
        if let Some(logger) = &*self.to.lock() {
            logger.log(record);
        }
        assert!(!record.args().to_string().contains("panic"), "as the record has it");
    }

    fn flush(&self) {}
}

#[test]
fn a_logger_has_each_record_with_its_level_and_target_and_causes_no_loop() {
    for use_json in [true, false] {
        let kept = Arc::new(Keeping::default());
        let config = Config::default().logger_name("api").use_json(use_json);
        let (logger, _script) = logger(config.fallback(Fallback::Logger(kept.clone())), Mode::Fail);
        *kept.to.lock() = Some(logger.clone());
        let record = |text| {
            logger.log(&Record::builder().level(Level::Error).target("app::db").args(format_args!("{text}")).build());
        };
        ["slow", "panic", "again"].into_iter().for_each(record);
        logger.flush_timeout(LONG).unwrap();
        let records = std::mem::take(&mut *kept.records.lock());
        let (notices, records): (Vec<_>, Vec<_>) = records.into_iter().partition(|(level, ..)| *level == Level::Warn);
        assert!(notices.iter().all(|(_, target, text)| target == "kafka_log" && text.contains("dropped since")));
        assert_eq!(records.len(), 3, "{records:?}");
        for ((level, target, text), expected) in records.iter().zip(["slow", "panic", "again"]) {
            assert_eq!((*level, target.as_str()), (Level::Error, "app::db"));
            assert!(text.contains(expected), "{text}");
        }
        let stats = logger.stats();
        assert_eq!((stats.fallback_written, stats.fallback_missed, stats.failed), (2, 1, 3));
        assert_eq!(stats.dropped.recursive, 3 + notices.len() as u64, "the fallback's thread is one of ours");
        assert_eq!(logger.status().fallback_error.as_deref(), Some("the logger of the fallback panicked"));
        kept.to.lock().take();
    }
}

#[test]
fn a_storm_of_drops_waits_for_nobody() {
    /// Lets nobody go on before it is told.
    struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>);

    impl Log for Stuck {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn log(&self, _: &Record<'_>) {
            let _ = self.0.lock().recv();
        }

        fn flush(&self) {}
    }

    let (release, held) = std::sync::mpsc::channel();
    let stuck = Arc::new(Stuck(Mutex::new(held)));
    let config = Config::default().queue_records(1).fallback(Fallback::Logger(stuck));
    let (logger, _script) = logger(config, Mode::Hold);
    let message = "x".repeat(100_000);
    for _ in 0..200 {
        logger.info(&message, NO_FIELDS);
    }
    let stats = logger.stats();
    assert_eq!((stats.dropped.queue_full, stats.fallback_written), (199, 0));
    // 8 MiB wait, and what the thread has taken before.
    let waiting = 199 - stats.fallback_missed;
    assert!((83..=86).contains(&waiting), "{waiting} wait");
    let begun = Instant::now();
    logger.shutdown(Duration::ZERO);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(release);
}

#[test]
fn a_file_that_cannot_be_opened_is_refused_by_name() {
    let directory = Directory::new();
    for path in [directory.0.path().join("missing").join("lost.jsonl"), directory.0.path().to_owned()] {
        let script = Script::new(Mode::Deliver);
        let error = KafkaLogger::start_with(to_file(&path), script.choice()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(&error, LoggerError::Config(error) if error.option() == "fallback"), "{text}");
        assert!(text.contains(&path.display().to_string()), "{text}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_counted_and_shown() {
    let (logger, _script) = logger(to_file(Path::new("/dev/full")), Mode::Fail);
    numbered(&logger, 0..3);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.failed, stats.fallback_written, stats.fallback_missed), (3, 0, 3));
    let error = logger.status().fallback_error.unwrap();
    assert!(error.contains("/dev/full") && error.contains("space"), "{error}");
}

#[test]
fn without_a_fallback_no_thread_is_started_and_nothing_is_counted() {
    let (logger, _script) = logger(Config::default(), Mode::Fail);
    numbered(&logger, 0..3);
    logger.flush_timeout(LONG).unwrap();
    assert!(!logger.pipeline.losses.has_fallback() && !logger.pipeline.losses.wants_payloads());
    assert_eq!((logger.stats().fallback_written, logger.stats().fallback_missed), (0, 0));
}
