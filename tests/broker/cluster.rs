//! A cluster of three whose brokers go away, one at a time, in the middle of a stream.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kafka_log::KafkaLogger;

use crate::records::{THREADS, assert_order, counts};
use crate::support::cluster::{self, Cluster};
use crate::support::{topic, wait};
use crate::target::{LONG, Target};

const PARTITIONS: usize = 4;
/// Of each thread.
const EACH: u64 = 50_000;
const RECORDS: u64 = THREADS * EACH;

pub(crate) fn a_leader_that_is_killed(target: &Target) {
    /// Longer than the broker's session of 3 s, so that others lead before it is back.
    const AWAY: Duration = Duration::from_secs(5);
    through(target, Duration::from_secs(10), |cluster, topic, logger| {
        let leader = cluster.leader_of(topic, 0);
        let replicas = cluster.replicas_of(topic, 0);
        let last = *replicas.iter().rev().find(|id| **id != leader).expect("there are three");
        wait::until("a quarter to be logged", LONG, || logger.stats().submitted >= RECORDS / 4);
        // As long as one replica that is in sync takes nothing, nothing is acknowledged. So the next leader has records
        // of which the logger never hears, and which it has to send again.
        cluster.node(last).freeze();
        let held = logger.stats().pending + 5_000;
        wait::until("records to wait for an acknowledgement", LONG, || logger.stats().pending >= held);
        cluster.node(leader).kill();
        cluster.node(last).thaw();
        let (killed, at_the_kill) = (Instant::now(), logger.stats());
        assert!(at_the_kill.delivered > 0 && at_the_kill.submitted < RECORDS / 2, "{at_the_kill:?}");

        cluster.wait_until_led_by_others(topic, leader);
        wait::until("the time away", LONG, || killed.elapsed() >= AWAY);
        cluster.node(leader).start_again();
    });
}

pub(crate) fn rolled(target: &Target) {
    through(target, Duration::from_secs(20), |cluster, topic, logger| {
        for id in cluster.ids() {
            let before = logger.stats().delivered;
            cluster.node(id).stop();
            cluster.wait_until_led_by_others(topic, id);
            cluster.node(id).start_again();
            // Without it the next one to stop would leave one replica, and nothing could be acknowledged.
            cluster.wait_until_in_sync(topic);
            assert!(logger.stats().delivered > before, "nothing was delivered while broker {id} was away");
        }
    });
}

/// Logs over so long, or longer, while something is done to the cluster, and then looks for each record.
fn through(target: &Target, logging_for: Duration, happens: impl FnOnce(&Cluster, &str, &KafkaLogger)) {
    let cluster = cluster::shared(target.version());
    let topic = topic::unique("cluster");
    cluster.create_topic(&topic, PARTITIONS);
    // The queue has room for all records at once, in number and, at some 130 bytes each, in bytes. So however long a
    // partition has no leader, there is no drop; and 120 s, the default, are time enough for each to be delivered.
    let config = target.config_at(&cluster.bootstrap(), &topic);
    let logger = config.queue_records(RECORDS as usize).queue_bytes(256 << 20).build().unwrap();

    let happened = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| log_paced(&logger, logging_for, &happened));
        // Whatever it ends with, the threads above end too.
        let ended = catch_unwind(AssertUnwindSafe(|| happens(&cluster, &topic, &logger)));
        happened.store(true, Ordering::Relaxed);
        ended.unwrap_or_else(|panic| resume_unwind(panic));
    });
    logger.flush_timeout(LONG).unwrap();
    let status = logger.status();
    let stats = logger.shutdown(LONG).stats;
    assert_eq!((stats.failed, stats.dropped.total(), stats.pending), (0, 0, 0), "{stats:?}, {status:?}");
    assert_eq!((stats.submitted, stats.delivered), (RECORDS, RECORDS));

    let records = target.read_at(&cluster.bootstrap(), &topic, RECORDS as usize);
    let counts = counts(&records, EACH);
    let lost = counts.iter().filter(|count| **count == 0).count();
    let doubled = counts.iter().filter(|count| **count > 1).count();
    assert_eq!(lost, 0, "of {RECORDS}, {doubled} doubled");
    if target.is_idempotent() {
        assert_eq!(doubled, 0, "an idempotent producer must not double a record");
    }
    assert_order(&records);
}

/// All of the records, evenly over so long. A fifth of them is saved, by a slow pace, for as long as it takes until it
/// has happened.
fn log_paced(logger: &KafkaLogger, over: Duration, happened: &AtomicBool) {
    const AT_ONCE: u64 = 50;
    const SAVED: u64 = EACH / 5;
    const SLOWER: u32 = 50;
    let step = over / (EACH / AT_ONCE) as u32;
    thread::scope(|scope| {
        for who in 0..THREADS {
            scope.spawn(move || {
                let mut next = Instant::now();
                for n in 0..EACH {
                    if n % AT_ONCE == 0 {
                        let slowly = n >= EACH - SAVED && !happened.load(Ordering::Relaxed);
                        next += if slowly { SLOWER * step } else { step };
                        thread::sleep(next.saturating_duration_since(Instant::now()));
                    }
                    logger.info(format_args!("record {n} of thread {who}"), kafka_log::fields! { who = who, n = n });
                }
            });
        }
    });
}
