//! The options of delivery, in each combination that a client has.

use kafka_log::{Acks, Compression, Transport};

use crate::records::{counts, log_from_threads};
use crate::target::{LONG, Target};

pub(crate) fn acks_and_compressions(target: &Target) {
    const EACH: u64 = 500;
    let mut compressions = vec![Compression::None, Compression::Gzip, Compression::Snappy];
    if target.transport == Transport::Async {
        compressions.push(Compression::Lz4);
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
