//! What clients say to a broker: a proxy that keeps their requests, and as much of Kafka's protocol as tells them apart.
//!
//! The bytes are kept as they came and are read when a test asks, so that a surprise in them is a panic of that test.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::kafka::{Broker, Version};
use super::proxy::Proxy;
use super::topic;
use super::wait;

pub const PRODUCE: i16 = 0;
pub const API_VERSIONS: i16 = 18;
pub const INIT_PRODUCER_ID: i16 = 22;

/// No request of a logger is larger; a length beyond it means that frames are cut in the wrong places.
const LARGEST_FRAME: usize = 128 * 1024 * 1024;

/// A broker that is reached through a tap.
pub struct Tap {
    broker: Broker,
    proxy: Proxy,
    heard: Arc<Mutex<Heard>>,
}

impl Tap {
    pub fn start(version: Version) -> Result<Tap, String> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let hearing = heard.clone();
        let observer = Box::new(move |connection, bytes: &[u8]| hearing.lock().hear(connection, bytes));
        let proxy = Proxy::start_observed(String::new(), observer);
        let broker = Broker::start_behind(version, &[], &proxy)?;
        Ok(Tap { broker, proxy, heard })
    }

    /// Where what clients say is heard.
    pub fn address(&self) -> String {
        self.proxy.address()
    }

    /// Where it is not.
    pub fn direct(&self) -> String {
        self.broker.bootstrap()
    }

    /// How many connections there were so far; what comes on later ones is told by `requests`.
    pub fn mark(&self) -> usize {
        self.proxy.accepted()
    }

    /// The requests on connections that were made after the mark, in the order they came.
    pub fn requests(&self, mark: usize) -> Vec<Request> {
        let heard = self.heard.lock();
        heard.frames.iter().filter(|frame| frame.connection > mark).map(Request::read).collect()
    }

    /// The batches for this topic, in the order they came.
    pub fn batches(&self, topic: &str) -> Vec<Produced> {
        let mut batches: Vec<Produced> =
            self.requests(0).iter().filter(|request| request.api_key == PRODUCE).flat_map(Request::produced).collect();
        // From version 13 on a topic goes by its id.
        let id =
            batches.iter().any(|batch| batch.version >= 13).then(|| hexadecimal(&topic::id(&self.direct(), topic)));
        batches.retain(|batch| batch.topic == topic || Some(&batch.topic) == id.as_ref());
        batches
    }

    /// The same, once there are at least so many: a request without an acknowledgement may be on its way still.
    pub fn at_least(&self, batches: usize, topic: &str, timeout: Duration) -> Vec<Produced> {
        wait::until("the batches to be seen", timeout, || self.batches(topic).len() >= batches);
        self.batches(topic)
    }
}

#[derive(Default)]
struct Heard {
    /// What came of a frame that is not whole yet, by connection.
    begun: HashMap<usize, Vec<u8>>,
    frames: Vec<Frame>,
}

struct Frame {
    connection: usize,
    at: SystemTime,
    bytes: Vec<u8>,
}

impl Heard {
    fn hear(&mut self, connection: usize, bytes: &[u8]) {
        let begun = self.begun.entry(connection).or_default();
        begun.extend_from_slice(bytes);
        while let Some(length) = begun.first_chunk::<4>() {
            // A strange length makes one strange frame, which panics when it is read.
            let length = u32::from_be_bytes(*length) as usize;
            let end = if length > LARGEST_FRAME { begun.len() } else { 4 + length };
            if begun.len() < end {
                return;
            }
            let rest = begun.split_off(end);
            let bytes = std::mem::replace(begun, rest).split_off(4);
            self.frames.push(Frame { connection, at: SystemTime::now(), bytes });
        }
    }
}

/// A request, with its header read.
#[derive(Debug)]
pub struct Request {
    pub connection: usize,
    /// When its last byte came.
    pub at: SystemTime,
    pub api_key: i16,
    pub version: i16,
    pub client_id: Option<String>,
    /// All that follows the client id.
    pub rest: Vec<u8>,
}

/// A batch of a Produce request.
#[derive(Debug, Clone)]
pub struct Produced {
    pub connection: usize,
    pub at: SystemTime,
    pub version: i16,
    pub acks: i16,
    pub timeout_ms: i32,
    /// Its name, or from version 13 on its id.
    pub topic: String,
    pub partition: i32,
    pub batch: Batch,
}

/// A record batch, or a message set as there were before Kafka 0.11.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// All of it, as it is on the wire.
    pub bytes: usize,
    pub magic: i8,
    /// The codec's number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub codec: i16,
    /// A compressed message set counts as one record.
    pub records: usize,
    /// Message sets have neither of these.
    pub producer_id: Option<i64>,
    pub base_timestamp_ms: Option<i64>,
}

impl Request {
    fn read(frame: &Frame) -> Request {
        let mut reader = Reader::new(&frame.bytes, "a request's header");
        let (api_key, version) = (reader.i16(), reader.i16());
        let _correlation_id = reader.i32();
        let client_id = reader.nullable_string(false);
        assert!((0..=100).contains(&api_key) && (0..=30).contains(&version), "API {api_key}, version {version}");
        Request { connection: frame.connection, at: frame.at, api_key, version, client_id, rest: reader.rest.to_vec() }
    }

    /// The batches of this Produce request.
    fn produced(&self) -> Vec<Produced> {
        assert!(self.api_key == PRODUCE && self.version <= 13, "Produce version {} is not known here", self.version);
        let flexible = self.version >= 9;
        let mut reader = Reader::new(&self.rest, "a Produce request");
        if flexible {
            reader.no_tags();
        }
        if self.version >= 3 {
            assert_eq!(reader.nullable_string(flexible), None, "a logger opens no transactions");
        }
        let (acks, timeout_ms) = (reader.i16(), reader.i32());
        let mut batches = Vec::new();
        for _ in 0..reader.length(flexible) {
            let topic = if self.version >= 13 {
                hexadecimal(reader.take(16))
            } else {
                reader.nullable_string(flexible).expect("a topic has a name")
            };
            for _ in 0..reader.length(flexible) {
                let partition = reader.i32();
                let length = reader.length(flexible);
                let batch = Batch::read(reader.take(length));
                if flexible {
                    reader.no_tags();
                }
                let (connection, at, version, topic) = (self.connection, self.at, self.version, topic.clone());
                batches.push(Produced { connection, at, version, acks, timeout_ms, topic, partition, batch });
            }
            if flexible {
                reader.no_tags();
            }
        }
        if flexible {
            reader.no_tags();
        }
        reader.end();
        batches
    }
}

fn hexadecimal(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Batch {
    fn read(bytes: &[u8]) -> Batch {
        // After offset, length, and leader's epoch or CRC it stands in every format.
        let magic = *bytes.get(16).unwrap_or_else(|| panic!("a batch of {} bytes", bytes.len())) as i8;
        match magic {
            2 => Batch::read_batch(bytes),
            0 | 1 => Batch::read_message_set(bytes, magic),
            _ => panic!("a batch with magic {magic}"),
        }
    }

    fn read_batch(bytes: &[u8]) -> Batch {
        let mut reader = Reader::new(bytes, "a record batch");
        let _base_offset = reader.i64();
        let length = reader.i32();
        assert_eq!(usize::try_from(length), Ok(reader.rest.len()), "one batch a partition");
        let (_leader_epoch, magic, _crc) = (reader.i32(), reader.i8(), reader.i32());
        let attributes = reader.i16();
        let last_offset_delta = reader.i32();
        let (base_timestamp, max_timestamp) = (reader.i64(), reader.i64());
        let (producer_id, _epoch, _sequence) = (reader.i64(), reader.i16(), reader.i32());
        let records = reader.i32();
        assert!(records == last_offset_delta + 1 && base_timestamp <= max_timestamp, "{records} records");
        Batch {
            bytes: bytes.len(),
            magic,
            codec: attributes & 7,
            records: records as usize,
            producer_id: Some(producer_id),
            base_timestamp_ms: Some(base_timestamp),
        }
    }

    fn read_message_set(bytes: &[u8], magic: i8) -> Batch {
        let mut reader = Reader::new(bytes, "a message set");
        let mut codecs = Vec::new();
        while !reader.rest.is_empty() {
            let (_offset, length) = (reader.i64(), reader.i32());
            let mut message = Reader::new(reader.take(length as usize), "a message");
            let _crc = message.i32();
            assert_eq!(message.i8(), magic);
            codecs.push(i16::from(message.i8() & 7));
        }
        let codec = codecs[0];
        assert!(codecs.iter().all(|other| *other == codec) && (codec == 0 || codecs.len() == 1), "{codecs:?}");
        Batch { bytes: bytes.len(), magic, codec, records: codecs.len(), producer_id: None, base_timestamp_ms: None }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    fn new(rest: &'a [u8], what: &'static str) -> Reader<'a> {
        Reader { rest, what }
    }

    #[track_caller]
    fn take(&mut self, length: usize) -> &'a [u8] {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            panic!("{}: {length} bytes are wanted and {} are left", self.what, self.rest.len());
        };
        self.rest = rest;
        taken
    }

    #[track_caller]
    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("so many were taken")
    }

    #[track_caller]
    fn i8(&mut self) -> i8 {
        i8::from_be_bytes(self.array())
    }

    #[track_caller]
    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.array())
    }

    #[track_caller]
    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    #[track_caller]
    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    #[track_caller]
    fn varint(&mut self) -> usize {
        let mut value = 0;
        for place in 0..5 {
            let [byte] = self.array();
            value |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return value;
            }
        }
        panic!("{}: a varint of more than five bytes", self.what);
    }

    /// Of an array or of bytes, none of which is null here.
    #[track_caller]
    fn length(&mut self, compact: bool) -> usize {
        let length = if compact { self.varint().checked_sub(1) } else { usize::try_from(self.i32()).ok() };
        length.unwrap_or_else(|| panic!("{}: nothing where something must be", self.what))
    }

    #[track_caller]
    fn nullable_string(&mut self, compact: bool) -> Option<String> {
        let length = if compact { self.varint().checked_sub(1) } else { usize::try_from(self.i16()).ok() };
        let text = self.take(length?);
        Some(String::from_utf8(text.to_vec()).unwrap_or_else(|error| panic!("{}: {error}", self.what)))
    }

    #[track_caller]
    fn no_tags(&mut self) {
        assert_eq!(self.varint(), 0, "{}: tagged fields", self.what);
    }

    #[track_caller]
    fn end(&self) {
        assert!(self.rest.is_empty(), "{}: {} bytes after its end", self.what, self.rest.len());
    }
}
