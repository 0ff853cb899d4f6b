//! The options that are a choice.

use std::time::Duration;

use log::Level;

/// Which client carries the records, among those compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// `Async` if that feature is compiled, else `Sync`.
    Auto,
    /// librdkafka, by the feature `async`.
    Async,
    /// Pure Rust, by the feature `sync`.
    Sync,
}

/// Which client carries the records where the transport is [`Sync`](Transport::Sync).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyncProducer {
    /// `Wire` for every broker since Kafka 0.11, `Kafka` for older ones.
    Auto,
    /// The `kafka` crate: brokers from 0.10 to 3.9, without idempotence, encryption and authentication.
    Kafka,
    /// A producer of our own on Kafka's wire protocol: brokers since 0.11.
    Wire,
}

/// Whether `init` and `build` wait for a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Startup {
    /// Return at once; connect in the background and deliver when a broker appears.
    Background,
    /// Wait up to this long for a broker that knows the topic, and fail if there is none. That a topic may be seen, and not
    /// be written to, shows only with the first record.
    Check(Duration),
}

/// What happens to a record that finds the queue full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// It is dropped.
    DropNewest,
    /// The oldest records that still wait are dropped for it, up to a batch at a time.
    DropOldest,
    /// Records below this level are dropped once the queue is three quarters full; the others use the rest, and are
    /// then dropped as by `DropNewest`.
    DropBelow(Level),
    /// The caller waits for room, without a limit; until shutdown at the latest.
    Block,
    /// The caller waits for room up to this long, then the record is dropped.
    BlockFor(Duration),
}

/// What happens to a record whose payload would be larger than
/// [`max_record_bytes`](crate::Config::max_record_bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Oversize {
    /// It is cut, once, and sent: counted in `truncated`. Its message ends with `…[truncated]` where the message was cut,
    /// fields that do not fit are left out, the largest first, and counted in `fields_left_out`; and its field
    /// `original_bytes` says how large the payload would have been.
    Truncate,
    /// It is dropped and counted in `dropped.oversize`.
    Drop,
}

/// Whose acknowledgement makes a record a delivered one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Acks {
    /// Nobody's: a record that was written to the connection counts as delivered, and may be lost.
    None,
    /// The partition's leader's: a record is lost if the leader fails before it was replicated.
    Leader,
    /// All in-sync replicas'.
    All,
}

/// How batches are compressed on the way and in the topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// Small and slow.
    Gzip,
    /// Fast.
    Snappy,
    /// Faster, and smaller than Snappy.
    Lz4,
    /// Smallest.
    Zstd,
}
