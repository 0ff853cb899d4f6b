//! Topics that are missing or narrow.

use kafka_log::fields;

use crate::records::{assert_order, counts, log_from_threads};
use crate::support::{topic, wait};
use crate::target::{Client, LONG, Target};

pub(crate) fn appears_later(target: &Target) {
    const EACH: u64 = 100;
    let name = topic::unique("later");
    let logger = target.config(&name).build().unwrap();
    log_from_threads(&logger, EACH);
    // Long enough that the client has met the missing topic, and has been told so.
    assert!(logger.flush_timeout(std::time::Duration::from_secs(2)).is_err());
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
    // librdkafka gives up a batch whole, so there the record must be too large for a batch of its own; `sync` halves,
    // so there the neighbours may be too many for the topic as well.
    let (configs, bytes): (&[_], _) = match target.client {
        Client::Async => (&[], 3 << 20),
        _ => (&[("max.message.bytes", "50000")], 60_000),
    };
    let name = target.create_topic("narrow", 1, configs);
    let logger = target.config(&name).build().unwrap();
    log_from_threads(&logger, EACH);
    logger.error(incompressible(bytes), fields! {});
    log_from_threads(&logger, EACH);
    logger.flush_timeout(LONG).unwrap();
    let stats = logger.stats();
    assert_eq!((stats.failed, stats.delivered, stats.dropped.total()), (1, 8 * EACH, 0), "{:?}", logger.status());
    wait::until("the reason", LONG, || logger.status().last_error.is_some());
    let last_error = logger.status().last_error.unwrap();
    assert!(last_error.contains(&name) && last_error.to_lowercase().contains("large"), "{last_error}");
    let records = target.read(&name, 8 * EACH as usize);
    assert!(counts(&records, EACH).iter().all(|count| *count == 2));
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
