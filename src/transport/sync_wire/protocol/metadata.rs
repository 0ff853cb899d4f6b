//! Who leads the partitions of a topic.

use super::reader::{Read, Reader};
use super::{Api, ErrorCode, Malformed};

/// The answer to Metadata for one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Metadata {
    pub(in super::super) throttle_ms: i32,
    pub(in super::super) brokers: Vec<Broker>,
    /// The topic's error, or else that of the whole answer.
    pub(in super::super) topic_error: ErrorCode,
    /// Zeros before version 10, and where the broker gives topics no ids.
    pub(in super::super) topic_id: [u8; 16],
    /// By their indexes, each once. An index is any number that is not negative: a broker need not be right, so hold
    /// it against the length before anything is sized by it.
    pub(in super::super) partitions: Vec<Partition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Broker {
    pub(in super::super) id: i32,
    pub(in super::super) host: String,
    pub(in super::super) port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Partition {
    pub(in super::super) error: ErrorCode,
    pub(in super::super) index: i32,
    /// -1 where there is none.
    pub(in super::super) leader: i32,
    /// -1 before version 7.
    pub(in super::super) leader_epoch: i32,
}

impl Metadata {
    /// Reads the answer to a request of `version` for `topic` alone.
    pub(in super::super) fn decode(frame: &[u8], version: i16, topic: &str) -> Result<Metadata, Malformed> {
        let mut reader = Reader::answer(frame, Api::Metadata.is_flexible(version))?;
        let throttle_ms = reader.i32("Metadata: its throttle time")?;
        let brokers = brokers(&mut reader)?;
        reader.nullable_string("Metadata: the cluster's id")?;
        reader.i32("Metadata: the controller's id")?;
        let topics = reader.count(9, "Metadata: the number of topics")?;
        let mut found = None;
        for _ in 0..topics {
            let heard = Topic::decode(&mut reader, version)?;
            // A null name comes with an id, for a topic that was asked for; no other was.
            if heard.name.is_none_or(|name| name == topic) && found.is_none() {
                found = Some(heard);
            }
        }
        if (8..=10).contains(&version) {
            reader.i32("Metadata: the authorized operations")?;
        }
        let error = if version >= 13 { ErrorCode(reader.i16("Metadata: its error code")?) } else { ErrorCode::NONE };
        reader.tagged_fields("Metadata: its tagged fields")?;
        let found = match found {
            Some(found) => found,
            None if error != ErrorCode::NONE => Topic::default(),
            None => return Err(Malformed("Metadata: no word on the topic that was asked for")),
        };
        let topic_error = if found.error == ErrorCode::NONE { error } else { found.error };
        Ok(Metadata { throttle_ms, brokers, topic_error, topic_id: found.id, partitions: found.partitions })
    }
}

#[derive(Default)]
struct Topic<'a> {
    error: ErrorCode,
    name: Option<&'a str>,
    id: [u8; 16],
    partitions: Vec<Partition>,
}

impl<'a> Topic<'a> {
    fn decode(reader: &mut Reader<'a>, version: i16) -> Read<Topic<'a>> {
        let error = ErrorCode(reader.i16("Metadata: a topic's error code")?);
        let name = reader.nullable_string("Metadata: a topic's name")?;
        let id = if version >= 10 { reader.uuid("Metadata: a topic's id")? } else { [0; 16] };
        reader.i8("Metadata: whether a topic is internal")?;
        let partitions = partitions(reader, version)?;
        if version >= 8 {
            reader.i32("Metadata: a topic's authorized operations")?;
        }
        reader.tagged_fields("Metadata: a topic's tagged fields")?;
        Ok(Topic { error, name, id, partitions })
    }
}

fn brokers(reader: &mut Reader<'_>) -> Read<Vec<Broker>> {
    let count = reader.count(11, "Metadata: the number of brokers")?;
    let mut brokers = Vec::with_capacity(count);
    for _ in 0..count {
        let id = reader.i32("Metadata: a broker's id")?;
        let host = reader.string("Metadata: a broker's host")?.to_owned();
        let port = reader.i32("Metadata: a broker's port")?;
        let port = u16::try_from(port).map_err(|_| Malformed("Metadata: a broker's port is none"))?;
        reader.nullable_string("Metadata: a broker's rack")?;
        reader.tagged_fields("Metadata: a broker's tagged fields")?;
        brokers.push(Broker { id, host, port });
    }
    Ok(brokers)
}

fn partitions(reader: &mut Reader<'_>, version: i16) -> Read<Vec<Partition>> {
    let count = reader.count(18, "Metadata: the number of partitions")?;
    let mut partitions = Vec::with_capacity(count);
    for _ in 0..count {
        let error = ErrorCode(reader.i16("Metadata: a partition's error code")?);
        let index = reader.i32("Metadata: a partition's index")?;
        if index < 0 {
            return Err(Malformed("Metadata: a partition's index is negative"));
        }
        let leader = reader.i32("Metadata: a partition's leader")?;
        let leader_epoch = if version >= 7 { reader.i32("Metadata: a partition's leader epoch")? } else { -1 };
        reader.skip_i32s("Metadata: a partition's replicas")?;
        reader.skip_i32s("Metadata: a partition's in-sync replicas")?;
        if version >= 5 {
            reader.skip_i32s("Metadata: a partition's offline replicas")?;
        }
        reader.tagged_fields("Metadata: a partition's tagged fields")?;
        partitions.push(Partition { error, index, leader, leader_epoch });
    }
    partitions.sort_by_key(|partition| partition.index);
    partitions.dedup_by_key(|partition| partition.index);
    Ok(partitions)
}
