//! What networks, disks and administrators do to a stream of records.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use kafka_log::{Config, DeliveryErrorKind, KafkaLogger, State, Stats, fields};
use parking_lot::Mutex;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::records::{THREADS, assert_order, log_from_threads, who_and_n};
use crate::support::cluster;
use crate::support::kafka::{Broker, Version};
use crate::support::proxy::{Mode, Proxy};
use crate::support::reader::{self, ReadRecord};
use crate::support::{request, topic, wait};
use crate::target::{Client, LONG, Target};

/// How long the brokers here leave a connection without a request.
const IDLE: Duration = Duration::from_secs(3);

/// A broker that can be reached through a proxy only, but for the tests themselves.
pub(crate) struct Place {
    pub(crate) broker: Broker,
    pub(crate) proxy: Proxy,
}

/// The one that the trials of this version share. Each has topics of its own, so one that loses its disk harms no other.
pub(crate) fn place(target: &Target) -> &'static Place {
    static PLACES: [OnceLock<Place>; Version::ALL.len()] = [const { OnceLock::new() }; Version::ALL.len()];
    let version = target.version();
    let place = PLACES[version as usize].get_or_init(|| {
        let idle = IDLE.as_millis().to_string();
        let (broker, proxy) = Broker::start_behind_proxy(version, &[("connections.max.idle.ms", &idle)])
            .unwrap_or_else(|error| panic!("no Kafka {} behind a proxy: {error}", version.as_str()));
        Place { broker, proxy }
    });
    // An earlier trial may have ended in the middle.
    place.proxy.heal();
    if !place.broker.runs() {
        place.broker.start_again();
    }
    place
}

impl Place {
    fn create_topic(&self) -> String {
        topic::create_unique(&self.broker.bootstrap(), "faults", 4)
    }
}

/// RELIABILITY.md promises by the names of tests.
pub(crate) fn every_test_that_is_named_exists() {
    fn read_all(directory: &Path, into: &mut String) {
        for entry in fs::read_dir(directory).expect("a directory can be read") {
            let path = entry.expect("a directory can be read").path();
            if path.is_dir() {
                read_all(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push_str(&fs::read_to_string(&path).expect("a file can be read"));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    ["src", "tests"].iter().for_each(|directory| read_all(&root.join(directory), &mut sources));
    let text = fs::read_to_string(root.join("RELIABILITY.md")).expect("RELIABILITY.md can be read");
    let is_name = |word: &&str| word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || "_:".contains(c));
    let names: BTreeSet<&str> = text.split('`').skip(1).step_by(2).filter(is_name).collect();
    assert!(names.len() > 50, "{} names", names.len());
    for name in names {
        let is_test = sources.contains(&format!("fn {name}(")) || sources.contains(&format!("\"{name}\""));
        let is_other = ["kafka_log", "sync_wire", "callbacks_missed"].contains(&name);
        assert!(is_test || is_other, "there is no test {name}");
    }
}

// ---- the network --------------------------------------------------------------------------------------------------

pub(crate) fn a_slow_network(target: &Target) {
    through(
        target,
        |config| config,
        |place, logger| {
            place.proxy.delay(Duration::from_millis(150));
            place.proxy.limit(Some(20_000));
            after(logger, 200);
            let before = logger.stats();
            passes(Duration::from_secs(2));
            let stats = logger.stats();
            // Not the callers' pace, and not nothing either.
            assert!(stats.submitted - before.submitted > 100, "{before:?}, {stats:?}");
            assert!(stats.delivered > before.delivered, "{before:?}, {stats:?}");
        },
    );
}

pub(crate) fn half_requests(target: &Target) {
    through(
        target,
        |config| config,
        |place, logger| {
            for (times, bytes) in [1, 60, 200].into_iter().enumerate() {
                let before = place.proxy.halved();
                place.proxy.halve(bytes);
                wait::until("a request to be halved", LONG, || place.proxy.halved() > before);
                after(logger, 20 * (times as u64 + 1));
            }
        },
    );
}

pub(crate) fn resets(target: &Target) {
    through(
        target,
        |config| config,
        |place, logger| {
            for mode in [Mode::Reset, Mode::Cut, Mode::Reset, Mode::Reset] {
                place.proxy.set(mode);
                after(logger, 20);
            }
        },
    );
}

pub(crate) fn swallowed(target: &Target) {
    through(target, in_a_hurry, |place, logger| {
        place.proxy.set(Mode::Swallow);
        let held = logger.stats().pending + 100;
        wait::until("records to wait", LONG, || logger.stats().pending > held);
        passes(Duration::from_secs(1));
        // Connections of before stay silent; that they do so for ever has to be found out.
        let accepted = place.proxy.accepted();
        place.proxy.heal();
        wait::until("another connection", LONG, || place.proxy.accepted() > accepted);
    });
}

pub(crate) fn silent_from_the_start(target: &Target) {
    const EACH: u64 = 100;
    let place = place(target);
    let name = place.create_topic();
    place.proxy.set(Mode::Swallow);
    let config = in_a_hurry(target.config_at(&place.proxy.address(), &name));
    let begun = Instant::now();
    let logger = config.build().unwrap();
    log_from_threads(&logger, EACH);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?} until all was taken", begun.elapsed());
    wait::until("the state to be Down", LONG, || logger.status().state == State::Down);
    assert!(logger.status().last_error.is_some());
    assert_eq!(logger.stats().pending, THREADS * EACH);
    place.proxy.heal();
    logger.flush_timeout(LONG).unwrap();
    let logged = (0..THREADS).map(|who| (who, EACH)).collect();
    all_is_there(target, &place.broker.bootstrap(), &name, logger, &logged);
}

/// As brokers end connections that nobody uses, the next record must neither be lost nor be late.
pub(crate) fn idle(target: &Target) {
    let place = place(target);
    let name = place.create_topic();
    let logger = target.config_at(&place.proxy.address(), &name).build().unwrap();
    let mut logged: BTreeMap<u64, u64> = (0..THREADS).map(|who| (who, 0)).collect();
    for _ in 0..2 {
        let begun = Instant::now();
        let before = logged[&0];
        for who in 0..THREADS {
            log(&logger, who, before);
        }
        logged.values_mut().for_each(|n| *n += 1);
        logger.flush_timeout(LONG).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?} for the first record", begun.elapsed());
        // A client may connect again at once, to know how the broker is.
        let accepted = place.proxy.accepted();
        wait::until("what is idle to end", LONG, || {
            place.proxy.connections() == 0 || place.proxy.accepted() > accepted
        });
    }
    all_is_there(target, &place.broker.bootstrap(), &name, logger, &logged);
}

// ---- the broker ---------------------------------------------------------------------------------------------------

pub(crate) fn killed(target: &Target) {
    through(
        target,
        |config| config,
        |place, logger| {
            after(logger, 100);
            place.broker.kill();
            passes(Duration::from_secs(1));
            assert!(logger.stats().pending > 0, "nothing was logged while the broker was away");
            place.broker.start_again();
        },
    );
}

/// What was acknowledged before is lost, by whoever emptied the disk. What came after it is not.
pub(crate) fn an_empty_disk(target: &Target) {
    const EACH: u64 = 200;
    let place = place(target);
    let name = place.create_topic();
    let logger = target.config_at(&place.proxy.address(), &name).build().unwrap();
    log_from_threads(&logger, EACH);
    logger.flush_timeout(LONG).unwrap();
    assert_eq!(logger.stats().delivered, THREADS * EACH);
    place.broker.stop();
    place.broker.wipe();
    let logged = log_while(&logger, || {
        wait::until("records to wait", LONG, || logger.stats().pending > 50);
        place.broker.start_again();
        // The client has met a broker that knows nothing of its topic.
        passes(Duration::from_secs(1));
        topic::create(&place.broker.bootstrap(), &name, 4, &[]);
        after(&logger, 50);
    });
    logger.flush_timeout(LONG).unwrap();
    let status = logger.status();
    let stats = logger.shutdown(LONG).stats;
    let since: u64 = logged.values().sum();
    assert_eq!((stats.failed, stats.dropped.total(), stats.pending), (0, 0, 0), "{stats:?}, {status:?}");
    assert_eq!(stats.delivered, THREADS * EACH + since);
    let records = target.read_at(&place.broker.bootstrap(), &name, since as usize);
    is_there_once(target, &records, &logged);
}

pub(crate) fn longer_than_the_delivery_timeout(target: &Target) {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let place = place(target);
    let name = place.create_topic();
    let told = Arc::new(Mutex::new(BTreeMap::new()));
    let noted = Arc::clone(&told);
    let config = in_a_hurry(target.config_at(&place.proxy.address(), &name)).delivery_timeout(TIMEOUT);
    let config = config.on_delivery_error(move |error| {
        let record =
            ReadRecord { partition: 0, offset: 0, timestamp_ms: 0, key: None, value: error.payload().to_vec() };
        let before = noted.lock().insert(who_and_n(&record), (error.kind(), error.possibly_delivered()));
        assert_eq!(before, None);
    });
    let logger = config.build().unwrap();
    let logged = log_while(&logger, || {
        after(&logger, 100);
        place.proxy.set(Mode::Blackhole);
        wait::until("records to expire", LONG, || logger.stats().failed > 100);
        place.proxy.heal();
        after(&logger, 100);
    });
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.shutdown(LONG).stats;
    assert_eq!(stats.submitted, logged.values().sum::<u64>());
    assert_eq!((stats.delivered + stats.failed, stats.dropped.total(), stats.pending), (stats.submitted, 0, 0));
    wait::until("each to be told of", LONG, || told.lock().len() as u64 + stats.callbacks_missed >= stats.failed);
    assert_eq!((told.lock().len() as u64, stats.callbacks_missed), (stats.failed, 0), "once each");

    let records = target.read_at(&place.broker.bootstrap(), &name, stats.delivered as usize);
    let counts = counted(&records, &logged);
    // librdkafka numbers everything anew after a timeout, also what the broker may have already.
    let most = if target.client == Client::Async { 2 } else { 1 };
    for (who, counts) in &counts {
        for (n, count) in counts.iter().enumerate() {
            let told = told.lock().get(&(*who, n as u64)).copied();
            let holds = match told {
                None => (1..=most).contains(count),
                Some((DeliveryErrorKind::TimedOut, true)) => *count <= most,
                Some((DeliveryErrorKind::TimedOut, false)) => *count == 0,
                Some(_) => false,
            };
            assert!(holds, "record {n} of thread {who} is there {count} times; told: {told:?}");
        }
    }
    assert_order(&records);
}

// ---- the administrator --------------------------------------------------------------------------------------------

pub(crate) fn throttled(target: &Target) {
    /// The broker's quota is a mean over eleven seconds: this is used up for some two seconds more.
    const QUOTA: f64 = 20_000.0;
    const BYTES: usize = 13 * QUOTA as usize;
    const MESSAGES: usize = 26;
    /// Of each thread, which wait together for the broker.
    const EACH: u64 = 50;
    let place = place(target);
    let name = place.create_topic();
    request::throttle(&place.broker.bootstrap(), &name, QUOTA);
    let config = target.config_at(&place.proxy.address(), &name).client_id(&name).linger(Duration::ZERO);
    let logger = config.compression(kafka_log::Compression::None).batch_bytes(BYTES / MESSAGES * 2).build().unwrap();
    // The clients' patience for a broker must not end before the broker's own.
    let text = "x".repeat(BYTES / MESSAGES);
    let begun = Instant::now();
    for _ in 0..MESSAGES {
        logger.info(&text, fields! {});
        logger.flush_timeout(LONG).unwrap();
    }
    log_from_threads(&logger, EACH);
    logger.flush_timeout(LONG).unwrap();
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}: nobody was throttled", begun.elapsed());
    let stats = logger.shutdown(LONG).stats;
    let all = MESSAGES as u64 + THREADS * EACH;
    assert_eq!((stats.delivered, stats.failed, stats.dropped.total()), (all, 0, 0));
    let records = target.read_at(&place.broker.bootstrap(), &name, all as usize);
    let (large, records): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| record.value.len() > text.len());
    assert_eq!(large.len(), MESSAGES);
    is_there_once(target, &records, &(0..THREADS).map(|who| (who, EACH)).collect());
}

/// A leader that is left alone acknowledges nothing, where two copies are asked for.
pub(crate) fn too_few_replicas(target: &Target) {
    let cluster = cluster::shared(target.version());
    let name = topic::unique("two-replicas");
    topic::create_replicated(&cluster.bootstrap(), &name, 1, 2, &[("min.insync.replicas", "2")]);
    cluster.wait_until_so_many_in_sync(&name, 2);
    let leader = cluster.leader_of(&name, 0);
    let follower = cluster.replicas_of(&name, 0).into_iter().find(|id| *id != leader).expect("there are two");
    let logger = target.config_at(&cluster.bootstrap(), &name).build().unwrap();
    let logged = log_while(&logger, || {
        after(&logger, 100);
        cluster.node(follower).stop();
        cluster.wait_until_so_many_in_sync(&name, 1);
        // One request may have been under way meanwhile, and its answer with it.
        let before = logger.stats();
        wait::until("records to wait", LONG, || logger.stats().pending > before.pending + 200);
        let held = logger.stats().delivered;
        passes(Duration::from_secs(1));
        assert_eq!(logger.stats().delivered, held, "acknowledged with one replica");
        cluster.node(follower).start_again();
        after(&logger, 100);
    });
    logger.flush_timeout(LONG).unwrap();
    all_is_there(target, &cluster.bootstrap(), &name, logger, &logged);
}

// ---- answers, by a broker that gives whatever is asked of it ---------------------------------------------------------

pub(crate) fn errors_that_pass(target: &Target) {
    use RDKafkaRespErr::*;
    for (api, errors) in [
        (RDKafkaApiKey::Produce, [RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 2]),
        (RDKafkaApiKey::Produce, [RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND; 2]),
        (RDKafkaApiKey::Produce, [RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR; 2]),
        (RDKafkaApiKey::Produce, [RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION; 2]),
        (RDKafkaApiKey::Produce, [RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE; 2]),
        (RDKafkaApiKey::Produce, [RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT; 2]),
        (RDKafkaApiKey::InitProducerId, [RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 2]),
        (RDKafkaApiKey::Metadata, [RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE; 2]),
    ] {
        const EACH: u64 = 20;
        let (cluster, name, logger) = scripted(target, |cluster| {
            if api != RDKafkaApiKey::Produce {
                cluster.request_errors(api, &errors);
            }
        });
        log_from_threads(&logger, EACH);
        logger.flush_timeout(LONG).unwrap_or_else(|error| panic!("{api:?}, {errors:?}: {error}"));
        cluster.request_errors(api, &errors);
        // One at a time: this broker checks no sequence, and librdkafka takes it from a later success that what came
        // before it is there.
        for who in 0..THREADS {
            log(&logger, who, EACH);
            logger.flush_timeout(LONG).unwrap_or_else(|error| panic!("{api:?}, {errors:?}: {error}"));
        }
        let stats = logger.shutdown(LONG).stats;
        let counts = (stats.delivered, stats.failed, stats.dropped.total());
        assert_eq!(counts, (THREADS * (EACH + 1), 0, 0), "{api:?}, {errors:?}");
        let records = reader::librdkafka(&cluster.bootstrap_servers(), &name, LONG);
        let logged = (0..THREADS).map(|who| (who, EACH + 1)).collect();
        assert!(counted(&records, &logged).values().flatten().all(|count| *count == 1), "{api:?}, {errors:?}");
        assert_order(&records);
    }
}

pub(crate) fn errors_that_stay(target: &Target) {
    use RDKafkaRespErr::*;
    let mut errors = vec![RD_KAFKA_RESP_ERR_INVALID_RECORD, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE];
    // After this one librdkafka refuses by itself what comes next, until it asks for metadata again.
    if target.client == Client::Wire {
        errors.push(RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    }
    for error in errors {
        const EACH: u64 = 10;
        let (cluster, name, logger) = scripted(target, |_| {});
        log_from_threads(&logger, EACH);
        logger.flush_timeout(LONG).unwrap();
        // More than once: of a batch that is too large each record is tried by itself before it is given up.
        cluster.request_errors(RDKafkaApiKey::Produce, &[error; 8]);
        let refused = logger.ainfo("nobody takes this", fields! {});
        let told = futures_executor::block_on(refused).expect_err("it was refused");
        assert_eq!((told.kind(), told.possibly_delivered()), (DeliveryErrorKind::Rejected, false), "{error:?}: {told}");
        cluster.clear_request_errors(RDKafkaApiKey::Produce);
        for who in 0..THREADS {
            log(&logger, who, EACH);
        }
        logger.flush_timeout(LONG).unwrap();
        let status = logger.status();
        let stats = logger.shutdown(LONG).stats;
        let counts = (stats.failed, stats.delivered, stats.dropped.total());
        assert_eq!(counts, (1, THREADS * (EACH + 1), 0), "{error:?}: {status:?}");
        let records = reader::librdkafka(&cluster.bootstrap_servers(), &name, LONG);
        let logged = (0..THREADS).map(|who| (who, EACH + 1)).collect();
        assert!(counted(&records, &logged).values().flatten().all(|count| *count == 1), "{error:?}");
        assert_order(&records);
    }
}

fn scripted(
    target: &Target,
    prepare: impl FnOnce(&MockCluster<'static, DefaultProducerContext>),
) -> (MockCluster<'static, DefaultProducerContext>, String, KafkaLogger) {
    let cluster = MockCluster::new(1).expect("no mock cluster");
    let name = topic::unique("scripted");
    cluster.create_topic(&name, 1, 1).expect("no topic");
    prepare(&cluster);
    let logger = target.config_at(&cluster.bootstrap_servers(), &name).build().unwrap();
    (cluster, name, logger)
}

// ---- what the trials share ----------------------------------------------------------------------------------------

/// A request that gets no answer is given up soon.
pub(crate) fn in_a_hurry(config: Config) -> Config {
    config.connect_timeout(Duration::from_millis(1_000)).request_timeout(Duration::from_millis(1_500))
}

/// Logs all the while that something happens, and then looks for each record.
fn through(target: &Target, change: impl FnOnce(Config) -> Config, happens: impl FnOnce(&Place, &KafkaLogger)) {
    let place = place(target);
    let name = place.create_topic();
    let logger = change(target.config_at(&place.proxy.address(), &name)).build().unwrap();
    let logged = log_while(&logger, || {
        after(&logger, 50);
        happens(place, &logger);
    });
    place.proxy.heal();
    logger.flush_timeout(LONG).unwrap_or_else(|error| panic!("{error}: {:?}", logger.status()));
    all_is_there(target, &place.broker.bootstrap(), &name, logger, &logged);
}

/// Logs from some threads while something happens, and a little longer; how many of each thread that were.
pub(crate) fn log_while(logger: &KafkaLogger, happens: impl FnOnce()) -> BTreeMap<u64, u64> {
    log_at_times_while(logger, Duration::from_millis(4), happens)
}

/// The same, each thread with such a pause behind each record.
pub(crate) fn log_at_times_while(logger: &KafkaLogger, pause: Duration, happens: impl FnOnce()) -> BTreeMap<u64, u64> {
    const AFTER: u64 = 25;
    let happened = AtomicBool::new(false);
    /// Also when something panics, so that the threads end.
    struct Ended<'a>(&'a AtomicBool);
    impl Drop for Ended<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|scope| {
        let logging: Vec<_> = (0..THREADS)
            .map(|who| {
                let happened = &happened;
                scope.spawn(move || {
                    let mut n = 0;
                    let mut left = AFTER;
                    while left > 0 {
                        if happened.load(Ordering::Relaxed) {
                            left -= 1;
                        }
                        log(logger, who, n);
                        n += 1;
                        thread::sleep(pause);
                    }
                    (who, n)
                })
            })
            .collect();
        let ended = Ended(&happened);
        happens();
        drop(ended);
        logging.into_iter().map(|logging| logging.join().unwrap()).collect()
    })
}

pub(crate) fn log(logger: &KafkaLogger, who: u64, n: u64) {
    logger.info(format_args!("record {n} of thread {who}"), fields! { who = who, n = n });
}

/// Waits until so many more records are delivered.
pub(crate) fn after(logger: &KafkaLogger, records: u64) {
    let before = logger.stats().delivered;
    wait::until("records to be delivered", LONG, || logger.stats().delivered >= before + records);
}

/// Lets time pass in which the same is to go on.
fn passes(time: Duration) {
    let end = Instant::now() + time;
    wait::until("the time", LONG, || Instant::now() >= end);
}

/// Ends the logger; its counts and the topic agree that each record was delivered.
pub(crate) fn all_is_there(
    target: &Target,
    bootstrap: &str,
    topic: &str,
    logger: KafkaLogger,
    logged: &BTreeMap<u64, u64>,
) {
    let status = logger.status();
    let stats: Stats = logger.shutdown(LONG).stats;
    let all = logged.values().sum();
    assert_eq!((stats.failed, stats.dropped.total(), stats.pending), (0, 0, 0), "{stats:?}, {status:?}");
    assert_eq!((stats.submitted, stats.delivered), (all, all), "{status:?}");
    is_there_once(target, &target.read_at(bootstrap, topic, all as usize), logged);
}

fn is_there_once(target: &Target, records: &[ReadRecord], logged: &BTreeMap<u64, u64>) {
    let counts = counted(records, logged);
    let lost = counts.values().flatten().filter(|count| **count == 0).count();
    let doubled = counts.values().flatten().filter(|count| **count > 1).count();
    assert_eq!(lost, 0, "of {} records, {doubled} doubled", logged.values().sum::<u64>());
    if target.is_idempotent() {
        assert_eq!(doubled, 0, "an idempotent producer must not double a record");
    }
    assert_order(records);
}

/// How often each record of each thread is there; one that was never logged is a panic.
pub(crate) fn counted(records: &[ReadRecord], logged: &BTreeMap<u64, u64>) -> BTreeMap<u64, Vec<u32>> {
    let mut counts: BTreeMap<u64, Vec<u32>> = logged.iter().map(|(who, n)| (*who, vec![0; *n as usize])).collect();
    for record in records {
        let (who, n) = who_and_n(record);
        let count = counts.get_mut(&who).and_then(|counts| counts.get_mut(n as usize));
        *count.unwrap_or_else(|| panic!("nobody logged record {n} of thread {who}")) += 1;
    }
    counts
}
