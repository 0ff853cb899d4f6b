//! The options of delivery, in each combination that a client has, and what each does on the wire.

use std::path::Path;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_log::{Acks, Compression, Config, DeliveryErrorKind, KafkaLogger, fields};

use crate::records::{counts, log_from_threads};
use crate::support::kafka::Version;
use crate::support::proxy::{Mode, Proxy};
use crate::support::silent::silent_peer;
use crate::support::tap::{API_VERSIONS, INIT_PRODUCER_ID, Produced, Tap};
use crate::support::topic;
use crate::target::{LONG, Target};

/// Each option by its name in files, with a test that fails when the option has no effect, and that test's file.
#[rustfmt::skip] // One line each.
const SHOWN: &[(&str, &str, &str)] = &[
    ("bootstrap_servers", "tests/broker/options.rs", "client_id_is_on_every_request"),
    ("topic", "tests/broker/options.rs", "acks_are_asked_for"),
    ("transport", "tests/features.rs", "each_transport_is_there_with_its_feature_and_named_without"),
    ("sync_producer", "tests/broker/startup.rs", "check_passes"),
    ("logger_name", "tests/broker/records.rs", "strange_payloads"),
    ("level", "tests/scenarios/init.rs", "init_sets_the_global_level_and_build_does_not"),
    ("use_json", "tests/broker/records.rs", "strange_payloads"),
    ("client_id", "tests/broker/options.rs", "client_id_is_on_every_request"),
    ("acks", "tests/broker/options.rs", "acks_are_asked_for"),
    ("idempotence", "tests/broker/options.rs", "idempotence_numbers_the_batches"),
    ("compression", "tests/broker/options.rs", "compression_is_on_the_batches"),
    ("linger_ms", "tests/broker/options.rs", "linger_gathers_records"),
    ("batch_bytes", "tests/broker/options.rs", "batch_bytes_bounds_the_batches"),
    ("delivery_timeout_ms", "tests/broker/options.rs", "delivery_timeout_fails_a_record_then"),
    ("connect_timeout_ms", "tests/broker/options.rs", "connect_timeout_ends_an_attempt_then"),
    ("request_timeout_ms", "tests/broker/options.rs", "request_timeout_is_given_to_the_broker"),
    ("retry_backoff_ms", "tests/broker/options.rs", "retry_backoff_is_between_attempts"),
    ("queue_records", "tests/scenarios/outage.rs", "a_queue_full_of_records_drops_the_rest_and_counts_them"),
    ("queue_bytes", "tests/scenarios/outage.rs", "a_queue_full_of_bytes_drops_the_rest_and_counts_them"),
    ("overflow", "tests/broker/overflow.rs", "drop_oldest"),
    ("max_record_bytes", "tests/broker/topics.rs", "cut_to_the_limit"),
    ("oversize", "src/logger/tests/fallback.rs", "an_oversize_record_that_is_dropped_is_written_as_far_as_it_may_go"),
    ("fallback", "tests/broker/topics.rs", "over_the_limit"),
    ("startup", "tests/broker/startup.rs", "check_names_the_topic"),
    ("tls", "tests/broker/security.rs", "encryption_on_one_side"),
    ("tls.ca_file", "tests/broker/security.rs", "untrusted_certificates"),
    ("tls.ca_pem", "tests/broker/security.rs", "trusted_certificate"),
    ("tls.client_certificate", "tests/broker/security.rs", "client_certificates"),
    ("sasl.mechanism", "tests/broker/security.rs", "mechanisms"),
    ("sasl.user", "tests/broker/security.rs", "wrong_credentials"),
    ("sasl.password", "tests/broker/security.rs", "wrong_credentials"),
    ("sasl.password_file", "tests/broker/security.rs", "password_files"),
    ("sasl.allow_unencrypted", "tests/broker/security.rs", "secrets_stay"),
    ("spool.dir", "src/spool/tests.rs", "what_is_not_settled_comes_again_and_the_rest_does_not"),
    ("spool.max_bytes", "src/spool/tests.rs", "max_bytes_is_kept_and_room_comes_back"),
    ("spool.fsync", "src/spool/tests.rs", "syncing_is_due_when_something_was_written_and_not_before_its_time"),
    // Which records go to the store is for the worker to decide; until it does, this says that the word arrives.
    ("spool.mode", "src/config/security_words.rs", "spool_is_a_table_with_a_directory"),
    ("client_options", "tests/broker/options.rs", "client_option_reaches_librdkafka"),
    ("type", "src/config/file_tests.rs", "the_dictionary_of_the_python_sink_is_valid"),
    ("async", "src/config/file_tests.rs", "the_dictionary_of_the_python_sink_is_valid"),
];

/// A new line in the table of options needs one in the list above, and the tests there must exist.
pub(crate) fn every_option_has_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| {
        std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("cannot read {file}: {error}"))
    };
    let table = read("src/config/options.md");
    // | setter | value | default | client | meaning | key in files | environment variable |
    let keys: Vec<&str> =
        table.lines().skip(2).map(|line| line.rsplit(" | ").nth(1).unwrap_or_default().trim_matches('`')).collect();
    let shown: Vec<&str> = SHOWN.iter().map(|(key, _, _)| *key).collect();
    assert_eq!(keys, shown, "an option without a test of its effect, or a test of none");
    for (key, file, test) in SHOWN {
        assert!(read(file).contains(&format!("fn {test}(")), "{key}: {file} has no test {test}");
    }
}

pub(crate) fn acks_and_compressions(target: &Target) {
    const EACH: u64 = 500;
    let mut compressions = vec![Compression::None, Compression::Gzip, Compression::Snappy];
    if target.has_lz4() {
        compressions.push(Compression::Lz4);
    }
    if target.has_lz4() && cfg!(feature = "zstd") {
        compressions.push(Compression::Zstd);
    }
    for (place, compression) in compressions.into_iter().enumerate() {
        let acks = [Acks::None, Acks::Leader, Acks::All][place % 3];
        let topic = target.create_topic("options", 2, &[]);
        // The leader is in place after this: what a broker refuses without acknowledgements is lost, as documented.
        let first = target.config(&topic).build().unwrap();
        log_from_threads(&first, EACH);
        first.flush_timeout(LONG).unwrap();

        let config = target.config(&topic).acks(acks).compression(compression).client_id("options");
        let logger = config.build().unwrap();
        log_from_threads(&logger, EACH);
        logger.flush_timeout(LONG).unwrap();
        let stats = logger.stats();
        assert_eq!((stats.delivered, stats.failed), (stats.submitted, 0), "{acks:?}, {compression:?}");
        let records = target.read(&topic, 2 * stats.submitted as usize);
        let counted = counts(&records, EACH);
        assert!(counted.iter().all(|count| *count == 2), "{acks:?}, {compression:?}: {counted:?}");
    }
}

/// The broker behind a tap, shared by the trials of this version; its guardian ends it after this process.
fn tap(target: &Target) -> &'static Tap {
    static TAPS: [OnceLock<Tap>; Version::ALL.len()] = [const { OnceLock::new() }; Version::ALL.len()];
    let version = target.kafka.expect("this case is for real brokers");
    TAPS[version as usize].get_or_init(|| {
        Tap::start(version).unwrap_or_else(|error| panic!("no Kafka {} behind a tap: {error}", version.as_str()))
    })
}

/// A topic of one partition, and a configuration for it by way of the tap.
fn tapped(target: &Target) -> (&'static Tap, String, Config) {
    let tap = tap(target);
    let topic = topic::create_unique(&tap.direct(), "wire", 1);
    let config = target.config_at(&tap.address(), &topic);
    (tap, topic, config)
}

/// Logs some records at once, sees them delivered and the logger's connections closed.
fn deliver(config: Config, records: u64) {
    let logger = config.build().unwrap();
    log(&logger, records, Duration::ZERO);
    logger.flush_timeout(LONG).unwrap();
    finish(&logger, records);
}

fn log(logger: &KafkaLogger, records: u64, pace: Duration) {
    for n in 0..records {
        logger.info(
            "a record of some length, which says the same as the others do, so that it compresses",
            fields! { n = n },
        );
        thread::sleep(pace);
    }
}

fn finish(logger: &KafkaLogger, records: u64) {
    let stats = logger.shutdown(LONG).stats;
    assert_eq!((stats.delivered, stats.failed, stats.dropped.total()), (records, 0, 0), "{stats:?}");
}

/// The batches of the logger with this configuration, after so many records at once.
fn batches_of(target: &Target, records: u64, set: impl FnOnce(Config) -> Config) -> Vec<Produced> {
    let (tap, topic, config) = tapped(target);
    deliver(set(config), records);
    tap.at_least(1, &topic, LONG)
}

pub(crate) fn client_id_is_on_every_request(target: &Target) {
    for id in [None, Some("wire \u{e9} client")] {
        let (tap, topic, config) = tapped(target);
        let mark = tap.mark();
        deliver(id.into_iter().fold(config, Config::client_id), 1);
        assert_eq!(tap.at_least(1, &topic, LONG).len(), 1);
        let requests = tap.requests(mark);
        // Metadata and Produce at the least.
        assert!(requests.len() >= 2, "{requests:?}");
        for request in requests {
            assert_eq!(request.client_id.as_deref(), Some(id.unwrap_or("kafka_log")), "{request:?}");
        }
    }
}

pub(crate) fn acks_are_asked_for(target: &Target) {
    for (acks, number) in [(None, -1), (Some(Acks::None), 0), (Some(Acks::Leader), 1), (Some(Acks::All), -1)] {
        let batches = batches_of(target, 3, |config| acks.into_iter().fold(config, Config::acks));
        assert!(batches.iter().all(|produced| produced.acks == number), "{acks:?}: {batches:?}");
    }
}

pub(crate) fn idempotence_numbers_the_batches(target: &Target) {
    for (idempotence, numbered) in [(None, true), (Some(true), true), (Some(false), false)] {
        let mark = tap(target).mark();
        let batches = batches_of(target, 3, |config| idempotence.into_iter().fold(config, Config::idempotence));
        for produced in &batches {
            let id = produced.batch.producer_id.expect("a batch of today's format");
            assert_eq!(id != -1, numbered, "{idempotence:?}: {produced:?}");
        }
        let asked = tap(target).requests(mark).iter().any(|request| request.api_key == INIT_PRODUCER_ID);
        assert_eq!(asked, numbered, "{idempotence:?}");
    }
}

pub(crate) fn compression_is_on_the_batches(target: &Target) {
    let all = [
        (None, if target.has_lz4() { 3 } else { 0 }),
        (Some(Compression::None), 0),
        (Some(Compression::Gzip), 1),
        (Some(Compression::Snappy), 2),
        (Some(Compression::Lz4), 3),
    ];
    let honoured = if target.has_lz4() { all.len() } else { all.len() - 1 };
    for (compression, codec) in &all[..honoured] {
        // One batch of all of them: one record alone may not be worth it.
        let set = |config: Config| compression.iter().fold(config, |config, c| config.compression(*c));
        let batches = batches_of(target, 100, |config| set(config).linger(Duration::from_millis(300)));
        assert!(batches.iter().all(|produced| produced.batch.codec == *codec), "{compression:?}: {batches:?}");
        let bytes: usize = batches.iter().map(|produced| produced.batch.bytes).sum();
        assert_eq!(bytes < 100 * 80, *codec != 0, "{compression:?}: {bytes} bytes");
    }
}

pub(crate) fn linger_gathers_records(target: &Target) {
    const RECORDS: u64 = 60;
    const PACE: Duration = Duration::from_millis(5);
    let requests = |linger: Duration| {
        let (tap, topic, config) = tapped(target);
        let logger = config.linger(linger).compression(Compression::None).build().unwrap();
        // What comes before the client is connected gathers in any case.
        log(&logger, 1, Duration::ZERO);
        logger.flush_timeout(LONG).unwrap();
        let first = tap.at_least(1, &topic, LONG).len();
        let begun = Instant::now();
        log(&logger, RECORDS, PACE);
        let took = begun.elapsed();
        logger.flush_timeout(LONG).unwrap();
        finish(&logger, 1 + RECORDS);
        let batches = tap.batches(&topic).split_off(first);
        assert_eq!(batches.iter().map(|produced| produced.batch.records as u64).sum::<u64>(), RECORDS);
        (batches.len(), took)
    };
    let (few, took) = requests(Duration::from_secs(1));
    // Each of them but the last took a second to fill.
    assert!(few as u128 <= 2 + took.as_millis() / 1_000, "{few} requests in {took:?}");
    let (many, _) = requests(Duration::ZERO);
    assert!(many as u64 >= RECORDS / 4, "{many} requests");
}

pub(crate) fn batch_bytes_bounds_the_batches(target: &Target) {
    let largest = |most: usize| {
        let batches = batches_of(target, 2_000, |config| {
            config.batch_bytes(most).compression(Compression::None).linger(Duration::from_millis(200))
        });
        let largest = batches.iter().map(|produced| produced.batch.bytes).max().unwrap();
        assert!(largest <= most, "a batch of {largest} bytes with batch_bytes of {most}");
        largest
    };
    for most in [5_000, 20_000] {
        // The bound is what ends a batch, not something tighter.
        assert!(largest(most) > most / 2);
    }
    assert!(largest(1_000_000) > 100_000);
}

pub(crate) fn a_record_has_the_time_of_its_call(target: &Target) {
    const LINGER: Duration = Duration::from_millis(800);
    let millis = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let (tap, topic, config) = tapped(target);
    let logger = config.linger(LINGER).build().unwrap();
    let before = millis(SystemTime::now());
    log(&logger, 1, Duration::ZERO);
    let after = millis(SystemTime::now());
    logger.flush_timeout(LONG).unwrap();
    finish(&logger, 1);
    let produced = &tap.batches(&topic)[0];
    let time = produced.batch.base_timestamp_ms.unwrap();
    assert!((before..=after).contains(&time), "{time} is not from {before} to {after}");
    assert!(millis(produced.at) >= time + LINGER.as_millis() as i64 / 2, "nothing tells it from the time of sending");
}

pub(crate) fn request_timeout_is_given_to_the_broker(target: &Target) {
    for (timeout, number) in [(None, 30_000), (Some(Duration::from_millis(12_345)), 12_345)] {
        let batches = batches_of(target, 3, |config| timeout.into_iter().fold(config, Config::request_timeout));
        assert!(batches.iter().all(|produced| produced.timeout_ms == number), "{timeout:?}: {batches:?}");
    }
}

pub(crate) fn client_option_reaches_librdkafka(target: &Target) {
    const NAME: &str = "name-given-by-a-trial";
    for set in [false, true] {
        let (tap, _topic, config) = tapped(target);
        let mark = tap.mark();
        deliver(if set { config.client_option("client.software.name", NAME) } else { config }, 1);
        let requests = tap.requests(mark);
        let says = |rest: &[u8]| rest.windows(NAME.len()).any(|part| part == NAME.as_bytes());
        let said = requests.iter().any(|request| request.api_key == API_VERSIONS && says(&request.rest));
        assert_eq!(said, set, "{requests:?}");
    }
}

pub(crate) fn delivery_timeout_fails_a_record_then(target: &Target) {
    let peer = silent_peer();
    for millis in [500, 2_000] {
        let timeout = Duration::from_millis(millis);
        let logger = target
            .config_at(&peer.address(), "nowhere")
            .delivery_timeout(timeout)
            // `sync` looks for what is too old once an attempt to connect has ended.
            .connect_timeout(Duration::from_secs(1))
            .build()
            .unwrap();
        let begun = Instant::now();
        let error = futures_executor::block_on(logger.ainfo("lost", fields! {})).unwrap_err();
        let took = begun.elapsed();
        assert_eq!(error.kind(), DeliveryErrorKind::TimedOut, "{error}");
        // And librdkafka once a second.
        assert!(took >= timeout && took < timeout + Duration::from_millis(2_500), "{took:?} with {timeout:?}");
        logger.shutdown(Duration::ZERO);
    }
}

pub(crate) fn connect_timeout_ends_an_attempt_then(target: &Target) {
    for millis in [1_000, 3_000] {
        let peer = silent_peer();
        let timeout = Duration::from_millis(millis);
        let logger = target
            .config_at(&peer.address(), "nowhere")
            .connect_timeout(timeout)
            .retry_backoff(Duration::from_millis(1), Duration::from_millis(10))
            .build()
            .unwrap();
        let attempts = attempts(2, || peer.connections());
        let gap = attempts[1] - attempts[0];
        let (least, most) = (timeout - Duration::from_millis(50), timeout + Duration::from_millis(1_800));
        assert!((least..most).contains(&gap), "{gap:?} with {timeout:?}");
        logger.shutdown(Duration::ZERO);
    }
}

pub(crate) fn retry_backoff_is_between_attempts(target: &Target) {
    let gaps = |first: u64, longest: u64, count: usize| -> Vec<u128> {
        let peer = Proxy::start(String::new());
        peer.set(Mode::Refuse);
        let logger = target
            .config_at(&peer.address(), "nowhere")
            .retry_backoff(Duration::from_millis(first), Duration::from_millis(longest))
            .build()
            .unwrap();
        let attempts = attempts(count, || peer.accepted());
        logger.shutdown(Duration::ZERO);
        attempts.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect()
    };
    // Jitter takes up to a half of a pause; what a busy machine adds has no bound, so the bounds above are wide.
    let constant = gaps(700, 700, 3);
    assert!(constant.iter().all(|gap| (340..2_000).contains(gap)), "{constant:?}");
    let growing = gaps(80, 1_000, 7);
    assert!(growing[0] < 490 && growing[5] >= 490, "{growing:?}");
    assert!(growing.iter().all(|gap| *gap < 2_500), "{growing:?}");
}

/// When the first so many connections came, of those that did not come at once after another: one attempt may be two.
fn attempts(count: usize, connections: impl Fn() -> usize) -> Vec<Instant> {
    const TOGETHER: Duration = Duration::from_millis(30);
    let (mut seen, mut last, mut attempts) = (0, None::<Instant>, Vec::new());
    let deadline = Instant::now() + LONG;
    while attempts.len() < count {
        assert!(Instant::now() < deadline, "{} attempts of {count}", attempts.len());
        thread::sleep(Duration::from_millis(2));
        let now = Instant::now();
        if connections() > seen {
            seen = connections();
            if last.is_none_or(|last| now - last > TOGETHER) {
                attempts.push(now);
            }
            last = Some(now);
        }
    }
    attempts
}
