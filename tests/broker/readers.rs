//! What the wire producer lays out by hand, read by every client that is at hand.

use std::path::Path;

use kafka_log::Compression;

use crate::records::log_from_threads;
use crate::support::{python, reader};
use crate::target::{LONG, Target};

const EACH: u64 = 500;
const RECORDS: usize = 4 * EACH as usize;

/// Each compression, read by librdkafka, by Apache Kafka's own console consumer and by the two clients of Python.
pub(crate) fn all_read_each_compression(target: &Target) {
    let mut compressions = vec![Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4];
    if cfg!(feature = "zstd") {
        compressions.push(Compression::Zstd);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker/readers.py");
    for compression in compressions {
        let topic = target.create_topic("readers", 2, &[]);
        let logger = target.config(&topic).compression(compression).build().unwrap();
        log_from_threads(&logger, EACH);
        logger.flush_timeout(LONG).unwrap();

        let servers = target.bootstrap();
        let sorted = |records: Vec<reader::ReadRecord>| {
            let mut values: Vec<Vec<u8>> = records.into_iter().map(|record| record.value).collect();
            values.sort_unstable();
            values
        };
        let by_librdkafka = sorted(reader::librdkafka(&servers, &topic, LONG));
        assert_eq!(by_librdkafka.len(), RECORDS, "{compression:?}");
        let by_java = sorted(reader::java_console(target.version(), &servers, &topic, RECORDS, LONG));
        assert!(by_java == by_librdkafka, "{compression:?}: the console consumer reads something else");
        // The same hash from both, over the values in their order; the readers above have said that they are right.
        let by_python = ["aiokafka", "kafka-python"].map(|client| {
            let arguments = [client, &servers, &topic, &RECORDS.to_string()];
            let output = python::script(&script, &arguments, LONG).unwrap_or_else(|error| panic!("{client}: {error}"));
            String::from_utf8(output).unwrap().trim().to_owned()
        });
        assert_eq!(by_python[0], by_python[1], "{compression:?}");
        let expected = format!("{RECORDS} {}", sha256(&by_librdkafka));
        assert_eq!(by_python[0], expected, "{compression:?}");
    }
}

/// As readers.py has it.
fn sha256(values: &[Vec<u8>]) -> String {
    use sha2::{Digest, Sha256};

    let mut digest = Sha256::new();
    for value in values {
        digest.update(value);
        digest.update(b"\n");
    }
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
