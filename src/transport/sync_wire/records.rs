//! Record batches (Kafka's "magic 2"), laid out by hand straight from borrowed records.

use super::compression::{self, Compressor, Failed};
use crate::config::Compression;

/// What a batch takes before its records.
pub(super) const BATCH_OVERHEAD: usize = 61;

/// What a header takes beside its key and its value, at most.
#[cfg(test)]
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
/// header its key, its value and ten bytes.
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
        let mut batch = Vec::with_capacity(self.room());
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

    /// What is reserved for the next batch.
    fn room(&self) -> usize {
        (self.last + self.last / 16).max(1024)
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::Read as _;

    use bytes::{Bytes, BytesMut};
    use kafka_protocol::indexmap::IndexMap;
    use kafka_protocol::protocol::StrBytes;
    use kafka_protocol::records as codec;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_760_000_000_000;

    const PRODUCER: Producer = Producer { id: 4_000_000_001, epoch: 7, base_sequence: 99 };

    /// A record that owns what it has.
    #[derive(Clone, Debug, Default)]
    struct Owned {
        key: Option<Vec<u8>>,
        value: Vec<u8>,
        headers: Vec<(String, Vec<u8>)>,
        timestamp_ms: i64,
    }

    impl Owned {
        fn new(value: &str, timestamp_ms: i64) -> Owned {
            Owned { value: value.into(), timestamp_ms, ..Owned::default() }
        }
    }

    fn encode(encoder: &mut Encoder, records: &[Owned], compression: Compression, producer: Producer) -> Vec<u8> {
        let headers: Vec<Vec<(&str, &[u8])>> = records
            .iter()
            .map(|record| record.headers.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect())
            .collect();
        let borrowed = records.iter().zip(&headers).map(|(record, headers)| Record {
            key: record.key.as_deref(),
            value: &record.value,
            headers,
            timestamp_ms: record.timestamp_ms,
        });
        encoder.encode(borrowed, compression, producer).unwrap()
    }

    /// The same in the codec's form, as they come out of a batch.
    fn theirs(records: &[Owned], producer: Producer) -> Vec<codec::Record> {
        let record = |(i, record): (usize, &Owned)| codec::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            timestamp_type: codec::TimestampType::Creation,
            offset: i as i64,
            sequence: producer.base_sequence.wrapping_add(i as i32),
            timestamp: record.timestamp_ms.clamp(TIMESTAMPS.0, TIMESTAMPS.1),
            key: record.key.clone().map(Bytes::from),
            value: Some(Bytes::from(record.value.clone())),
            headers: record
                .headers
                .iter()
                .map(|(key, value)| (StrBytes::from_string(key.clone()), Some(Bytes::from(value.clone()))))
                .collect(),
        };
        records.iter().enumerate().map(record).collect()
    }

    fn as_the_codec_lays_it(records: &[Owned], producer: Producer) -> BytesMut {
        let mut batch = BytesMut::new();
        let options = codec::RecordEncodeOptions { version: 2, compression: codec::Compression::None };
        codec::RecordBatchEncoder::encode(&mut batch, &theirs(records, producer), &options).unwrap();
        batch
    }

    /// Takes a batch apart with the codec, which checks the checksum, and with a decompressor for what the codec is built
    /// without.
    fn decode(batch: &[u8]) -> Vec<codec::Record> {
        let mut batch = Bytes::copy_from_slice(batch);
        let unpack = |packed: &mut Bytes, compression| {
            let mut out = Vec::new();
            match compression {
                codec::Compression::None => out.extend_from_slice(packed),
                codec::Compression::Gzip => {
                    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut out)?;
                }
                codec::Compression::Snappy => out = unsnap(packed),
                codec::Compression::Lz4 => {
                    lz4_flex::frame::FrameDecoder::new(&packed[..]).read_to_end(&mut out)?;
                }
                #[cfg(feature = "zstd")]
                codec::Compression::Zstd => out = zstd::bulk::decompress(packed, 1 << 28)?,
                #[cfg(not(feature = "zstd"))]
                codec::Compression::Zstd => unreachable!("not in this build"),
            }
            Ok(Bytes::from(out))
        };
        let set = codec::RecordBatchDecoder::decode_with_custom_compression(&mut batch, Some(unpack)).unwrap();
        assert!(batch.is_empty(), "{} bytes after the batch", batch.len());
        set.records
    }

    /// The framing of the Java library.
    fn unsnap(packed: &[u8]) -> Vec<u8> {
        let mut rest = packed.strip_prefix(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01").expect("the Java library's header");
        let mut out = Vec::new();
        while let Some((length, block)) = rest.split_first_chunk() {
            let (block, next) = block.split_at(u32::from_be_bytes(*length) as usize);
            out.extend(snap::raw::Decoder::new().decompress_vec(block).unwrap());
            rest = next;
        }
        assert!(rest.is_empty());
        out
    }

    fn compressions() -> impl Iterator<Item = Compression> {
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
            .into_iter()
            .filter(|&compression| compression::available(compression))
    }

    fn varied() -> Vec<Owned> {
        let header = |key: &str, value: &[u8]| (key.to_owned(), value.to_vec());
        vec![
            Owned::new("the first", NOW),
            Owned { key: Some(b"k".to_vec()), ..Owned::new("with a key", NOW + 1) },
            Owned { key: Some(vec![]), ..Owned::new("", NOW + 1) },
            Owned {
                headers: vec![header("h", b"v"), header("", b""), header("\u{e9}", &[0xff; 200])],
                ..Owned::new("x", NOW + 90)
            },
            Owned { value: vec![b'v'; 70_000], key: Some(vec![b'k'; 300]), ..Owned::new("", NOW + 86_400_000) },
        ]
    }

    fn many(count: usize) -> Vec<Owned> {
        (0..count)
            .map(|i| {
                let value =
                    format!(r#"{{"timestamp":1760000000.{i:06},"level":"info","message":"request {}"}}"#, i * 7919);
                // Now and then from a clock that was put back.
                Owned::new(&value, NOW + i as i64 / 3 - if i % 100 == 99 { 5_000 } else { 0 })
            })
            .collect()
    }

    #[test]
    fn an_uncompressed_batch_is_laid_as_the_codec_lays_it() {
        let mut encoder = Encoder::default();
        for records in [&varied()[..], &varied()[3..4], &[Owned::new("", 0)]] {
            for producer in [PRODUCER, Producer { id: 0, epoch: 0, base_sequence: i32::MAX - 1 }] {
                let ours = encode(&mut encoder, records, Compression::None, producer);
                assert!(ours == as_the_codec_lays_it(records, producer), "{producer:?}");
            }
        }
        // The codec starts another batch where the sequence does not grow with the offset.
        let one = &varied()[..1];
        let ours = encode(&mut encoder, one, Compression::None, Producer::NONE);
        assert!(ours == as_the_codec_lays_it(one, Producer::NONE));
    }

    #[test]
    fn each_compression_gives_the_records_back() {
        let mut encoder = Encoder::default();
        for compression in compressions() {
            // Large and small ones in turn, with the same working memory.
            for records in [many(10_000), many(1), varied(), many(1_000), vec![Owned::new("", 0)], many(3)] {
                let batch = encode(&mut encoder, &records, compression, PRODUCER);
                assert_eq!(batch[ATTRIBUTES..LAST_OFFSET_DELTA], compression::attribute(compression).to_be_bytes());
                assert!(decode(&batch) == theirs(&records, PRODUCER), "{compression:?}, {} records", records.len());
                let highest = records.iter().map(|record| record.timestamp_ms).max().unwrap();
                assert_eq!(batch[MAX_TIMESTAMP..PRODUCER_ID], highest.to_be_bytes());
            }
        }
    }

    #[test]
    fn bytes_that_nothing_makes_smaller_come_back_too() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        })
        .take(300_000)
        .collect();
        let records = [Owned { value: noise, timestamp_ms: NOW, ..Owned::default() }];
        for compression in compressions() {
            let batch = encode(&mut Encoder::default(), &records, compression, PRODUCER);
            assert!(decode(&batch) == theirs(&records, PRODUCER), "{compression:?}");
        }
    }

    #[test]
    fn log_records_take_a_third_at_most_once_compressed() {
        let records = many(2_000);
        let plain = encode(&mut Encoder::default(), &records, Compression::None, PRODUCER).len();
        for compression in compressions().filter(|&compression| compression != Compression::None) {
            let batch = encode(&mut Encoder::default(), &records, compression, PRODUCER);
            assert!(batch.len() < plain / 3, "{compression:?}: {} of {plain} bytes", batch.len());
            assert!(
                batch.capacity() <= 2 * batch.len(),
                "{compression:?}: {} bytes for {}",
                batch.capacity(),
                batch.len()
            );
        }
    }

    #[test]
    fn a_compression_that_is_not_in_this_build_is_an_error_that_names_the_feature() {
        if !compression::available(Compression::Zstd) {
            let record = Record { key: None, value: b"v", headers: &[], timestamp_ms: NOW };
            let error = Encoder::default().encode([record].into_iter(), Compression::Zstd, PRODUCER).unwrap_err();
            assert!(error.to_string().contains("`zstd`"), "{error}");
        }
    }

    #[test]
    fn absurd_timestamps_become_the_nearest_that_kafka_takes() {
        let times = [i64::MAX, i64::MIN, -1, 0, NOW, i64::MAX, 253_402_300_800_000];
        let records: Vec<Owned> = times.iter().map(|&time| Owned::new("v", time)).collect();
        let batch = encode(&mut Encoder::default(), &records, Compression::None, PRODUCER);
        let heard: Vec<i64> = decode(&batch).iter().map(|record| record.timestamp).collect();
        let latest = 253_402_300_799_999;
        assert_eq!(heard, [latest, 0, 0, 0, NOW, latest, latest]);
    }

    #[test]
    fn a_batch_is_renumbered_in_place() {
        let records = many(100);
        for compression in compressions() {
            let expected = encode(&mut Encoder::default(), &records, compression, PRODUCER);
            let mut batch = encode(&mut Encoder::default(), &records, compression, Producer::NONE);
            assert!(batch != expected);
            renumber(&mut batch, PRODUCER);
            assert!(batch == expected, "{compression:?}");
        }
        // What is no batch stays as it is.
        let mut short = [7; BATCH_OVERHEAD - 1];
        renumber(&mut short, PRODUCER);
        assert_eq!(short, [7; BATCH_OVERHEAD - 1]);
    }

    #[test]
    fn without_compression_the_records_go_straight_into_the_batch() {
        let mut encoder = Encoder::default();
        encode(&mut encoder, &many(1_000), Compression::None, PRODUCER);
        assert_eq!(encoder.scratch.capacity(), 0);
    }

    #[test]
    fn a_batch_of_the_size_of_the_last_finds_room() {
        // So nothing grows while it is laid, and nothing is copied for that.
        let records = many(5_000);
        let mut encoder = Encoder::default();
        for compression in [Compression::None, Compression::Lz4] {
            let first = encode(&mut encoder, &records, compression, PRODUCER).len();
            let scratch = encoder.scratch.capacity();
            let room = encoder.room();
            assert!(room >= first, "{compression:?}: room for {room} of {first} bytes");
            encode(&mut encoder, &records, compression, PRODUCER);
            assert_eq!(encoder.scratch.capacity(), scratch);
        }
    }

    #[test]
    fn a_record_is_never_larger_than_its_bound() {
        let mut encoder = Encoder::default();
        // Around each step of a variable-length number.
        let lengths = [0_usize, 1, 62, 63, 64, 65, 8_190, 8_191, 8_192, 1_048_575, 1_048_576];
        for length in lengths.into_iter().flat_map(|length| [length, length.saturating_sub(30)]) {
            for (time, last) in [(0, 0), (i64::MAX, 0), (0, i64::MAX)] {
                let long = vec![b'x'; length];
                for record in [
                    Owned { value: long.clone(), ..Owned::default() },
                    Owned { key: Some(long.clone()), ..Owned::default() },
                    Owned { key: Some(vec![]), value: long.clone(), ..Owned::default() },
                    Owned {
                        headers: vec![("x".repeat(length), vec![]), (String::new(), long.clone())],
                        ..Owned::default()
                    },
                ] {
                    let record = Owned { timestamp_ms: last, ..record };
                    let payload = record.key.as_ref().map_or(0, Vec::len)
                        + record.value.len()
                        + record.headers.iter().map(|(k, v)| k.len() + v.len() + HEADER_OVERHEAD).sum::<usize>();
                    let first = Owned::new("", time);
                    let alone = encode(&mut encoder, std::slice::from_ref(&first), Compression::None, PRODUCER).len();
                    let both = encode(&mut encoder, &[first, record], Compression::None, PRODUCER).len();
                    assert!(both - alone <= size_bound(payload), "{} > {}", both - alone, size_bound(payload));
                }
            }
        }
        // A usual log record's bound is not far from its size.
        assert!(size_bound(125) <= 125 + 24, "{}", size_bound(125));
        assert_eq!(encode(&mut encoder, &[], Compression::None, PRODUCER).len(), BATCH_OVERHEAD);
    }

    prop_compose! {
        fn any_record()(
            key in option::of(vec(any::<u8>(), 0..200)),
            value in vec(any::<u8>(), 0..400),
            headers in vec(("[a-z\\u{20ac}]{0,70}", vec(any::<u8>(), 0..70)), 0..4),
            timestamp_ms in prop_oneof![Just(NOW), NOW - 10_000..NOW + 10_000, any::<i64>()],
        ) -> Owned {
            // The codec keeps headers in a map, so that of equal keys it has the last alone.
            let headers: IndexMap<_, _> = headers.into_iter().collect();
            Owned { key, value, headers: headers.into_iter().collect(), timestamp_ms }
        }
    }

    thread_local! {
        /// One for all cases: what a batch leaves behind does not reach the next.
        static ENCODER: RefCell<Encoder> = RefCell::default();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_records_come_back(records in vec(any_record(), 1..60), which in any::<prop::sample::Index>()) {
            let all: Vec<Compression> = compressions().collect();
            let compression = *which.get(&all);
            let batch = ENCODER.with_borrow_mut(|encoder| encode(encoder, &records, compression, PRODUCER));
            prop_assert_eq!(decode(&batch), theirs(&records, PRODUCER));
        }

        #[test]
        fn records_in_the_order_of_their_time_are_laid_as_the_codec_lays_them(mut records in vec(any_record(), 1..60)) {
            for record in &mut records {
                record.timestamp_ms = record.timestamp_ms.clamp(TIMESTAMPS.0, TIMESTAMPS.1);
            }
            records.sort_by_key(|record| record.timestamp_ms);
            let batch = ENCODER.with_borrow_mut(|encoder| encode(encoder, &records, Compression::None, PRODUCER));
            prop_assert_eq!(&batch[..], &as_the_codec_lays_it(&records, PRODUCER)[..]);
        }
    }
}
