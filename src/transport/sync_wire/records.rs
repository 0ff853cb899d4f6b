//! Record batches (Kafka's "magic 2"), laid out by hand straight from borrowed records.

use super::compression::{self, Compressor, Failed};
use crate::config::Compression;

/// What a batch takes before its records.
pub(super) const BATCH_OVERHEAD: usize = 61;

/// What a header takes beside its key and its value, at most.
pub(super) const HEADER_OVERHEAD: usize = 10;

/// The timestamps that are sent: from 1970 to the end of the year 9999, in milliseconds. Kafka refuses those before, and
/// its tools cannot show those after.
const TIMESTAMPS: (i64, i64) = (0, 253_402_300_799_999);

// Where things stand in a batch. The checksum covers all that follows it.
const LENGTH: usize = 8;
const CRC: usize = 17;
const ATTRIBUTES: usize = 21;
const LAST_OFFSET_DELTA: usize = 23;
const FIRST_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;
const PRODUCER_ID: usize = 43;
const PRODUCER_EPOCH: usize = 51;
const BASE_SEQUENCE: usize = 53;
const RECORDS: usize = 57;

/// One record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: &'a [u8],
    pub(super) headers: &'a [(&'a str, &'a [u8])],
    /// Since the epoch. What is before 1970 or after the year 9999 is taken for the nearest of these.
    pub(super) timestamp_ms: i64,
}

/// Who sends a batch, and the number of its first record in the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Producer {
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) base_sequence: i32,
}

impl Producer {
    /// Without idempotence.
    pub(super) const NONE: Producer = Producer { id: -1, epoch: -1, base_sequence: -1 };
}

/// The most that a record can take in a batch before compression. `payload_len` is its key and its value, and for each
/// header its key, its value and [`HEADER_OVERHEAD`].
pub(super) fn size_bound(payload_len: usize) -> usize {
    // The attributes, the deltas of timestamp and offset, the number of headers.
    const FIXED: usize = 1 + 7 + 5 + 5;
    let length = varint_len(payload_len.saturating_add(32).saturating_mul(2) as u64);
    // The lengths of the whole, of the key and of the value.
    payload_len.saturating_add(3 * length + FIXED)
}

/// Lays out batches, one after the other, and keeps its working memory.
#[derive(Default)]
pub(super) struct Encoder {
    compressor: Compressor,
    /// Records on their way to the compressor.
    scratch: Vec<u8>,
    /// The size of the last batch: the next one is likely to be of that size.
    last: usize,
}

impl Encoder {
    /// A batch of `records`, at least one, in their order. Its size before compression should stay under 1 GiB.
    ///
    /// An error is about the compression alone: it is not in this build, or its working memory could not be had.
    pub(super) fn encode<'a>(
        &mut self,
        records: impl Iterator<Item = Record<'a>>,
        compression: Compression,
        producer: Producer,
    ) -> Result<Vec<u8>, Failed> {
        let mut batch = Vec::with_capacity((self.last + self.last / 16).max(1024));
        batch.resize(BATCH_OVERHEAD, 0);
        let summary = if compression == Compression::None {
            put_records(records, &mut batch)
        } else {
            self.scratch.clear();
            let summary = put_records(records, &mut self.scratch);
            self.compressor.compress(compression, &self.scratch, &mut batch)?;
            summary
        };
        self.last = batch.len();
        if batch.capacity() / 2 > batch.len() {
            batch.shrink_to_fit();
        }

        // The base offset stays 0.
        let length = (batch.len() - LENGTH - 4) as i32;
        put(&mut batch, LENGTH, length.to_be_bytes());
        // The partition leader's epoch, which the broker sets, and the format.
        put(&mut batch, 12, (-1_i32).to_be_bytes());
        put(&mut batch, 16, [2]);
        // Timestamps are those of the records' creation.
        put(&mut batch, ATTRIBUTES, compression::attribute(compression).to_be_bytes());
        put(&mut batch, LAST_OFFSET_DELTA, (summary.count - 1).to_be_bytes());
        put(&mut batch, FIRST_TIMESTAMP, summary.first_timestamp.to_be_bytes());
        put(&mut batch, MAX_TIMESTAMP, summary.max_timestamp.to_be_bytes());
        put(&mut batch, RECORDS, summary.count.to_be_bytes());
        renumber(&mut batch, producer);
        Ok(batch)
    }
}

/// Puts another producer and base sequence into a whole batch.
pub(super) fn renumber(batch: &mut [u8], producer: Producer) {
    if batch.len() < BATCH_OVERHEAD {
        return;
    }
    put(batch, PRODUCER_ID, producer.id.to_be_bytes());
    put(batch, PRODUCER_EPOCH, producer.epoch.to_be_bytes());
    put(batch, BASE_SEQUENCE, producer.base_sequence.to_be_bytes());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES..]);
    put(batch, CRC, crc.to_be_bytes());
}

fn put<const N: usize>(batch: &mut [u8], at: usize, bytes: [u8; N]) {
    batch[at..at + N].copy_from_slice(&bytes);
}

/// What the head of a batch says of its records.
struct Summary {
    count: i32,
    first_timestamp: i64,
    max_timestamp: i64,
}

fn put_records<'a>(records: impl Iterator<Item = Record<'a>>, out: &mut Vec<u8>) -> Summary {
    let mut summary = Summary { count: 0, first_timestamp: 0, max_timestamp: 0 };
    for record in records {
        let timestamp = record.timestamp_ms.clamp(TIMESTAMPS.0, TIMESTAMPS.1);
        if summary.count == 0 {
            summary.first_timestamp = timestamp;
        }
        summary.max_timestamp = summary.max_timestamp.max(timestamp);
        put_record(&record, timestamp - summary.first_timestamp, summary.count, out);
        summary.count += 1;
    }
    summary
}

fn put_record(record: &Record<'_>, timestamp_delta: i64, offset_delta: i32, out: &mut Vec<u8>) {
    let timestamp_delta = zigzag(timestamp_delta);
    let offset_delta = zigzag(offset_delta.into());
    let key = record.key.unwrap_or_default();
    let key_length = record.key.map_or(zigzag(-1), |key| length(key.len()));
    let value_length = length(record.value.len());
    let header_count = length(record.headers.len());

    let mut size = 1
        + varint_len(timestamp_delta)
        + varint_len(offset_delta)
        + varint_len(key_length)
        + key.len()
        + varint_len(value_length)
        + record.value.len()
        + varint_len(header_count);
    for (key, value) in record.headers {
        size += varint_len(length(key.len())) + key.len() + varint_len(length(value.len())) + value.len();
    }
    out.reserve(size + 10);

    put_varint(length(size), out);
    // No attributes are defined for a record.
    out.push(0);
    put_varint(timestamp_delta, out);
    put_varint(offset_delta, out);
    put_varint(key_length, out);
    out.extend_from_slice(key);
    put_varint(value_length, out);
    out.extend_from_slice(record.value);
    put_varint(header_count, out);
    for (key, value) in record.headers {
        put_varint(length(key.len()), out);
        out.extend_from_slice(key.as_bytes());
        put_varint(length(value.len()), out);
        out.extend_from_slice(value);
    }
}

/// A length as it is written.
fn length(length: usize) -> u64 {
    zigzag(length as i64)
}

/// Small numbers of either sign become small numbers.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn varint_len(number: u64) -> usize {
    (u64::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
