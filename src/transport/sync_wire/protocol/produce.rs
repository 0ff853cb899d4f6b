//! Batches on their way, and what became of them.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::reader::{Read, Reader};
use super::request::short;
use super::{Api, ErrorCode, Malformed};

/// The topic that batches go to.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Topic<'a> {
    pub(in super::super) name: &'a str,
    /// Said instead of the name from version 13 on.
    pub(in super::super) id: [u8; 16],
}

/// A Produce request in pieces, to be written in a row. Each batch, with the partition that it goes to, is one of them,
/// as it was given.
///
/// A partition can have one batch in a request. `acks` is 0, 1 or -1 for all; with 0 there is no answer.
pub(in super::super) fn produce(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    acks: i16,
    timeout_ms: i32,
    topic: Topic<'_>,
    batches: &[(i32, Bytes)],
) -> Vec<Bytes> {
    let flexible = Api::Produce.is_flexible(version);
    let mut laid = BytesMut::with_capacity(128 + client_id.len() + topic.name.len() + 16 * batches.len());
    // Where the batches go in between.
    let mut ends = Vec::with_capacity(batches.len());

    // The length, as soon as it is known.
    laid.put_i32(0);
    laid.put_i16(Api::Produce.key());
    laid.put_i16(version);
    laid.put_i32(correlation_id);
    // The header keeps the classic encoding of this string.
    put_string(&mut laid, client_id, false);
    end_structure(&mut laid, flexible);

    // No transaction.
    if flexible {
        laid.put_u8(0)
    } else {
        laid.put_i16(-1)
    }
    laid.put_i16(acks);
    laid.put_i32(timeout_ms);
    put_length(&mut laid, 1, flexible);
    if version >= 13 {
        laid.put_slice(&topic.id);
    } else {
        put_string(&mut laid, topic.name, flexible);
    }
    put_length(&mut laid, batches.len(), flexible);
    for (partition, batch) in batches {
        laid.put_i32(*partition);
        put_length(&mut laid, batch.len(), flexible);
        ends.push(laid.len());
        end_structure(&mut laid, flexible);
    }
    end_structure(&mut laid, flexible);
    end_structure(&mut laid, flexible);

    let length = laid.len() - 4 + batches.iter().map(|(_, batch)| batch.len()).sum::<usize>();
    if let Some(place) = laid.first_chunk_mut() {
        *place = (length as u32).to_be_bytes();
    }
    let mut pieces = Vec::with_capacity(2 * batches.len() + 1);
    let mut laid = laid.freeze();
    let mut start = 0;
    for (end, (_, batch)) in ends.into_iter().zip(batches) {
        pieces.push(laid.split_to(end - start));
        pieces.push(batch.clone());
        start = end;
    }
    if !laid.is_empty() {
        pieces.push(laid);
    }
    pieces
}

fn put_string(laid: &mut BytesMut, string: &str, flexible: bool) {
    let string = short(string);
    if flexible {
        put_varint(laid, string.len() as u32 + 1)
    } else {
        laid.put_i16(string.len() as i16)
    }
    laid.put_slice(string.as_bytes());
}

/// The length of an array or of bytes.
fn put_length(laid: &mut BytesMut, length: usize, flexible: bool) {
    if flexible { put_varint(laid, length as u32 + 1) } else { laid.put_i32(length as i32) }
}

/// No tagged fields.
fn end_structure(laid: &mut BytesMut, flexible: bool) {
    if flexible {
        laid.put_u8(0);
    }
}

fn put_varint(laid: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        laid.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    laid.put_u8(value as u8);
}

/// The answer to Produce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Produce {
    pub(in super::super) throttle_ms: i32,
    /// In the order of the answer, whatever the topic: a request of ours has only one.
    pub(in super::super) partitions: Vec<Produced>,
}

/// What became of the batch for one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Produced {
    pub(in super::super) index: i32,
    pub(in super::super) error: ErrorCode,
    /// The offset of the batch's first record; -1 with an error.
    pub(in super::super) base_offset: i64,
    /// -1 unless the broker sets the records' timestamps.
    pub(in super::super) log_append_time: i64,
    /// From version 8 on, and not with each error.
    pub(in super::super) error_message: Option<String>,
}

impl Produce {
    /// Reads the answer to a request of `version`.
    pub(in super::super) fn decode(frame: &[u8], version: i16) -> Result<Produce, Malformed> {
        let mut reader = Reader::answer(frame, Api::Produce.is_flexible(version))?;
        let mut partitions = Vec::new();
        for _ in 0..reader.count(3, "Produce: the number of topics")? {
            if version >= 13 {
                reader.uuid("Produce: a topic's id")?;
            } else {
                reader.string("Produce: a topic's name")?;
            }
            // Before version 5, the smallest there is.
            let count = reader.count(22, "Produce: the number of partitions")?;
            partitions.reserve(count);
            for _ in 0..count {
                partitions.push(Produced::decode(&mut reader, version)?);
            }
            reader.tagged_fields("Produce: a topic's tagged fields")?;
        }
        let throttle_ms = reader.i32("Produce: its throttle time")?;
        reader.tagged_fields("Produce: its tagged fields")?;
        Ok(Produce { throttle_ms, partitions })
    }
}

impl Produced {
    fn decode(reader: &mut Reader<'_>, version: i16) -> Read<Produced> {
        let index = reader.i32("Produce: a partition's index")?;
        let error = ErrorCode(reader.i16("Produce: a partition's error code")?);
        let base_offset = reader.i64("Produce: a partition's base offset")?;
        let log_append_time = reader.i64("Produce: a partition's append time")?;
        if version >= 5 {
            reader.i64("Produce: a partition's start offset")?;
        }
        let mut error_message = None;
        if version >= 8 {
            let mut first = None;
            for _ in 0..reader.count(6, "Produce: the number of record errors")? {
                reader.i32("Produce: the index of a record with an error")?;
                let message = reader.nullable_string("Produce: the message of a record's error")?;
                first = first.or(message);
                reader.tagged_fields("Produce: the tagged fields of a record's error")?;
            }
            // The partition's message counts the records with errors; what is wrong says the first of them.
            let message = reader.nullable_string("Produce: a partition's error message")?;
            error_message = match (message, first) {
                (Some(message), Some(first)) => Some(format!("{message} ({first})")),
                (message, first) => message.or(first).map(str::to_owned),
            };
        }
        reader.tagged_fields("Produce: a partition's tagged fields")?;
        Ok(Produced { index, error, base_offset, log_append_time, error_message })
    }
}
