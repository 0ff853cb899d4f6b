//! A cluster within the process that does as it is told: the brokers' side of the protocol, by the codec, on sockets of
//! this machine.
//!
//! Without a script it does what Kafka does, the check of sequence numbers included. A script sees each request
//! and says what happens to it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, InitProducerIdRequest, InitProducerIdResponse, MetadataResponse,
    ProduceRequest, ProduceResponse, ProducerId, RequestHeader, ResponseHeader, TopicName, api_versions_response,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use kafka_protocol::records::{self as codec, RecordBatchDecoder};
use parking_lot::{Condvar, Mutex};

use super::TOPIC;
use super::log::{Log, SentBatch};

/// How long a test waits for anything.
const LONG: Duration = Duration::from_secs(20);

/// How long a connection's thread waits for bytes before it looks whether an answer is due.
const TICK: Duration = Duration::from_millis(2);

/// Error codes that scripts use.
pub(super) mod code {
    pub(in super::super) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub(in super::super) const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub(in super::super) const MESSAGE_TOO_LARGE: i16 = 10;
    pub(in super::super) const NOT_ENOUGH_REPLICAS: i16 = 19;
    pub(in super::super) const NOT_ENOUGH_REPLICAS_AFTER_APPEND: i16 = 20;
    pub(in super::super) const TOPIC_AUTHORIZATION_FAILED: i16 = 29;
    pub(in super::super) const CLUSTER_AUTHORIZATION_FAILED: i16 = 31;
    pub(in super::super) const UNSUPPORTED_VERSION: i16 = 35;
    pub(in super::super) const INVALID_REPLICATION_FACTOR: i16 = 38;
    pub(in super::super) const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
    pub(in super::super) const INVALID_PRODUCER_EPOCH: i16 = 47;
    pub(in super::super) const UNKNOWN_PRODUCER_ID: i16 = 59;
    pub(in super::super) const INVALID_RECORD: i16 = 87;
    pub(in super::super) const REBOOTSTRAP_REQUIRED: i16 = 129;
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// What Kafka does.
    Answer,
    /// Answered with this error, and not done.
    Error(i16),
    /// Done, and answered with this error all the same.
    DoneBut(i16),
    /// Done now, answered when [`Cluster::release`] is called.
    Held,
    /// Done, and neither it nor anything else on this connection is answered.
    Lost,
    /// The same, and it is not done either.
    Silent,
    /// Nothing more is read from this connection.
    Deaf,
    /// The connection is closed, and it is not done.
    HangUp,
    /// Done, and the connection is closed within the answer.
    CutOff,
    /// Done, with this `throttle_time_ms`.
    Throttle(i32),
    /// Done, and answered under the number of another request.
    Misnumbered,
    /// Not done; these bytes instead of an answer.
    Bytes(Vec<u8>),
    /// Done, and some bytes of the answer are others, by this number.
    Mangled(u64),
    /// Done, and these bytes follow the answer.
    AndMore(Vec<u8>),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) node: i32,
    pub(super) connection: usize,
    pub(super) api: ApiKey,
    pub(super) version: i16,
    pub(super) at: Instant,
    pub(super) asks: Asks,
}

#[derive(Clone, Debug)]
pub(super) enum Asks {
    Produce {
        acks: i16,
        partition: i32,
        batch: SentBatch,
        bytes: usize,
    },
    /// The id and epoch in use; -1 for none.
    ProducerId(i64, i16),
    Else,
}

impl Request {
    pub(super) fn batch(&self) -> Option<&SentBatch> {
        match &self.asks {
            Asks::Produce { batch, .. } => Some(batch),
            _ => None,
        }
    }

    pub(super) fn partition(&self) -> Option<i32> {
        match &self.asks {
            Asks::Produce { partition, .. } => Some(*partition),
            _ => None,
        }
    }
}

type Script = Box<dyn FnMut(&Request) -> Act + Send>;

pub(super) struct Cluster {
    shared: Arc<Shared>,
    listeners: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

pub(super) struct State {
    nodes: BTreeMap<i32, Node>,
    /// The topic is there, and what Metadata say of it.
    pub(super) exists: bool,
    pub(super) topic_error: i16,
    /// Of the whole Metadata answer, from version 13 on.
    pub(super) metadata_error: i16,
    pub(super) partitions: BTreeMap<i32, Partition>,
    pub(super) versions: BTreeMap<i16, (i16, i16)>,
    script: Script,
    requests: Vec<Request>,
    next_connection: usize,
    open: HashMap<usize, (i32, TcpStream)>,
    next_producer_id: i64,
    released: bool,
    stop: bool,
}

struct Node {
    address: SocketAddr,
    up: bool,
    /// Whether Metadata tell of it.
    told: bool,
}

pub(super) struct Partition {
    /// -1 for none.
    pub(super) leader: i32,
    pub(super) epoch: i32,
    pub(super) log: Log,
}

impl Cluster {
    /// Brokers 1 to `nodes`, which lead the partitions in turn.
    pub(super) fn new(nodes: i32, partitions: i32) -> Cluster {
        let listeners: Vec<_> = (1..=nodes).map(|id| (id, TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        let state = State {
            nodes: listeners
                .iter()
                .map(|(id, listener)| (*id, Node { address: listener.local_addr().unwrap(), up: true, told: true }))
                .collect(),
            exists: true,
            topic_error: 0,
            metadata_error: 0,
            partitions: BTreeMap::new(),
            versions: versions(&[
                (ApiKey::Produce, 0, 11),
                (ApiKey::Fetch, 0, 17),
                (ApiKey::Metadata, 0, 12),
                (ApiKey::ApiVersions, 0, 4),
                (ApiKey::InitProducerId, 0, 5),
            ]),
            script: Box::new(|_| Act::Answer),
            requests: Vec::new(),
            next_connection: 0,
            open: HashMap::new(),
            next_producer_id: 7_000,
            released: false,
            stop: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let listeners = listeners.into_iter().map(|(id, listener)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || listen(&shared, id, listener))
        });
        let cluster = Cluster { listeners: listeners.collect(), shared };
        cluster.change(|state| state.add_partitions(partitions));
        cluster
    }

    /// The broker's address, for the bootstrap servers.
    pub(super) fn address(&self, node: i32) -> String {
        self.shared.state.lock().nodes[&node].address.to_string()
    }

    pub(super) fn port(&self, node: i32) -> u16 {
        self.shared.state.lock().nodes[&node].address.port()
    }

    /// What happens to the requests from now on.
    pub(super) fn script(&self, script: impl FnMut(&Request) -> Act + Send + 'static) {
        self.change(|state| state.script = Box::new(script));
    }

    pub(super) fn behave(&self) {
        self.script(|_| Act::Answer);
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.shared.state.lock());
        self.shared.changed.notify_all();
        changed
    }

    /// Answers that are held go out, now and from now on.
    pub(super) fn release(&self) {
        self.change(|state| state.released = true);
    }

    /// The broker goes away: nobody listens there, and its connections are closed.
    pub(super) fn down(&self, node: i32) {
        self.change(|state| {
            state.nodes.get_mut(&node).unwrap().up = false;
            state.close(node);
        });
    }

    pub(super) fn up(&self, node: i32) {
        self.change(|state| state.nodes.get_mut(&node).unwrap().up = true);
    }

    /// Closes the connections to a broker, which goes on.
    pub(super) fn close_connections(&self, node: i32) {
        self.change(|state| state.close(node));
    }

    /// Metadata tell of this broker, or no longer.
    pub(super) fn tell_of(&self, node: i32, told: bool) {
        self.change(|state| state.nodes.get_mut(&node).unwrap().told = told);
    }

    /// Metadata tell of another address for this broker.
    pub(super) fn advertise(&self, node: i32, address: SocketAddr) {
        self.change(|state| state.nodes.get_mut(&node).unwrap().address = address);
    }

    /// Another broker leads the partition.
    pub(super) fn lead(&self, partition: i32, leader: i32) {
        self.change(|state| {
            let partition = state.partitions.get_mut(&partition).unwrap();
            partition.leader = leader;
            partition.epoch += 1;
        });
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.shared.state.lock().requests.clone()
    }

    pub(super) fn count(&self, api: ApiKey) -> usize {
        self.shared.state.lock().count(api)
    }

    /// The batches that came, in their order, with the partition of each.
    pub(super) fn batches(&self) -> Vec<(i32, SentBatch)> {
        let requests = self.requests();
        requests.iter().filter_map(|request| Some((request.partition()?, request.batch()?.clone()))).collect()
    }

    /// What is in a partition.
    pub(super) fn values(&self, partition: i32) -> Vec<String> {
        self.shared.state.lock().partitions[&partition].log.values.clone()
    }

    /// What is in the topic, partition by partition.
    pub(super) fn all_values(&self) -> Vec<String> {
        let state = self.shared.state.lock();
        state.partitions.values().flat_map(|partition| partition.log.values.clone()).collect()
    }

    pub(super) fn wait(&self, what: &str, mut reached: impl FnMut(&State) -> bool) {
        let deadline = Instant::now() + LONG;
        let mut state = self.shared.state.lock();
        while !reached(&state) {
            let timed_out = self.shared.changed.wait_until(&mut state, deadline).timed_out();
            assert!(!timed_out, "waited in vain for {what}; the requests were {:#?}", state.requests);
        }
    }

    pub(super) fn wait_count(&self, api: ApiKey, count: usize) {
        self.wait(&format!("{count} requests {api:?}"), |state| state.count(api) >= count);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.change(|state| {
            state.stop = true;
            let nodes: Vec<i32> = state.nodes.keys().copied().collect();
            nodes.into_iter().for_each(|node| state.close(node));
        });
        for listener in self.listeners.drain(..) {
            let ended = listener.join();
            // A panic of the broker fails the test that it was for.
            if !thread::panicking() {
                ended.unwrap();
            }
        }
    }
}

impl State {
    pub(super) fn count(&self, api: ApiKey) -> usize {
        self.requests.iter().filter(|request| request.api == api).count()
    }

    /// More partitions, until there are so many.
    pub(super) fn add_partitions(&mut self, count: i32) {
        for index in self.partitions.len() as i32..count {
            let leader = index % self.nodes.len() as i32 + 1;
            self.partitions.insert(index, Partition { leader, epoch: 3, log: Log::default() });
        }
    }

    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    fn close(&mut self, node: i32) {
        self.open.retain(|_, (of, stream)| {
            if *of == node {
                let _ = stream.shutdown(Shutdown::Both);
            }
            *of != node
        });
    }
}

pub(super) fn versions(versions: &[(ApiKey, i16, i16)]) -> BTreeMap<i16, (i16, i16)> {
    versions.iter().map(|(api, min, max)| (*api as i16, (*min, *max))).collect()
}

// ---- threads --------------------------------------------------------------------------------------------------

fn listen(shared: &Arc<Shared>, node: i32, listener: TcpListener) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    let mut connections = Vec::new();
    loop {
        let (up, stop) = {
            let state = shared.state.lock();
            (state.nodes[&node].up, state.stop)
        };
        if stop {
            break;
        }
        if !up {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).ok();
        }
        let accepted = listener.as_ref().and_then(|listener| {
            listener.set_nonblocking(true).unwrap();
            listener.accept().ok()
        });
        let Some((stream, _)) = accepted else {
            thread::sleep(TICK);
            continue;
        };
        let connection = {
            let mut state = shared.state.lock();
            state.next_connection += 1;
            let connection = state.next_connection;
            state.open.insert(connection, (node, stream.try_clone().unwrap()));
            connection
        };
        shared.changed.notify_all();
        let shared = Arc::clone(shared);
        connections.push(thread::spawn(move || {
            let _ = serve(&shared, node, connection, &stream);
            let _ = stream.shutdown(Shutdown::Both);
            shared.state.lock().open.remove(&connection);
            shared.changed.notify_all();
        }));
    }
    for connection in connections {
        let ended = connection.join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

/// What is written, and when.
struct Answer {
    at: Option<Instant>,
    held: bool,
    bytes: Vec<u8>,
    /// The connection ends after it.
    last: bool,
}

fn serve(shared: &Shared, node: i32, connection: usize, mut stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    let mut incoming = BytesMut::new();
    let mut answers: VecDeque<Answer> = VecDeque::new();
    // Neither answered nor done from here on.
    let mut silent = false;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let released = {
            let state = shared.state.lock();
            if state.stop || !state.open.contains_key(&connection) {
                return Ok(());
            }
            state.released
        };
        while let Some(first) = answers.front() {
            if first.at.is_some_and(|at| Instant::now() < at) || (first.held && !released) {
                break;
            }
            stream.write_all(&first.bytes)?;
            if first.last {
                return Ok(());
            }
            answers.pop_front();
        }
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => incoming.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error),
        }
        while let Some(length) = incoming.first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if incoming.len() < 4 + length {
                break;
            }
            let mut frame = incoming.split_to(4 + length).freeze();
            frame.advance(4);
            let (request, header) = read(frame.clone(), node, connection);
            let mut state = shared.state.lock();
            state.requests.push(request.clone());
            let act = if silent { Act::Silent } else { (state.script)(&request) };
            let mut answer = Answer { at: None, held: false, bytes: Vec::new(), last: false };
            match act {
                Act::Answer => answer.bytes = state.answer(&request, &header, None, 0),
                Act::Error(error) => answer.bytes = state.answer(&request, &header, Some(error), 0),
                Act::DoneBut(error) => {
                    state.answer(&request, &header, None, 0);
                    answer.bytes = state.answer(&request, &header, Some(error), 0);
                }
                Act::Held => {
                    answer.held = true;
                    answer.bytes = state.answer(&request, &header, None, 0);
                }
                Act::Lost => {
                    state.answer(&request, &header, None, 0);
                    silent = true;
                }
                Act::Silent => silent = true,
                Act::Deaf => {
                    drop(state);
                    shared.changed.notify_all();
                    let mut state = shared.state.lock();
                    while !state.stop && state.open.contains_key(&connection) {
                        shared.changed.wait_for(&mut state, TICK * 10);
                    }
                    return Ok(());
                }
                Act::HangUp => answer.last = true,
                Act::CutOff => {
                    let whole = state.answer(&request, &header, None, 0);
                    answer.bytes = whole[..whole.len() / 2].to_vec();
                    answer.last = true;
                }
                Act::Throttle(ms) => answer.bytes = state.answer(&request, &header, None, ms),
                Act::Misnumbered => {
                    answer.bytes = state.answer(&request, &header, None, 0);
                    answer.bytes[7] ^= 0x55;
                }
                Act::Bytes(bytes) => answer.bytes = bytes,
                Act::Mangled(mut chance) => {
                    answer.bytes = state.answer(&request, &header, None, 0);
                    for _ in 0..chance % 3 + 1 {
                        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        // Behind the length and the number, so that it is taken for an answer.
                        let at = 8 + (chance >> 40) as usize % (answer.bytes.len() - 8);
                        answer.bytes[at] = (chance >> 32) as u8;
                    }
                }
                Act::AndMore(bytes) => {
                    answer.bytes = [state.answer(&request, &header, None, 0), bytes].concat();
                }
            }
            drop(state);
            shared.changed.notify_all();
            if !silent {
                answers.push_back(answer);
            }
        }
    }
}

// ---- the protocol ---------------------------------------------------------------------------------------------

fn read(mut frame: Bytes, node: i32, connection: usize) -> (Request, RequestHeader) {
    let api = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).unwrap();
    let version = i16::from_be_bytes([frame[2], frame[3]]);
    let old_produce = api == ApiKey::Produce && version < 3;
    let header_version = if old_produce { 1 } else { api.request_header_version(version) };
    let header = RequestHeader::decode(&mut frame, header_version).unwrap();
    let asks = match api {
        ApiKey::Produce if old_produce => read_old_produce(frame),
        ApiKey::Produce => {
            let request = ProduceRequest::decode(&mut frame, version).unwrap();
            assert!(frame.is_empty(), "{} bytes after the request", frame.len());
            let [topic] = &request.topic_data[..] else { panic!("{} topics", request.topic_data.len()) };
            assert!(version >= 13 || topic.name.as_str() == TOPIC, "{:?}", topic.name);
            let [data] = &topic.partition_data[..] else { panic!("{} partitions", topic.partition_data.len()) };
            let records = data.records.clone().unwrap();
            let bytes = records.len();
            Asks::Produce { acks: request.acks, partition: data.index, batch: read_batch(records), bytes }
        }
        ApiKey::InitProducerId => {
            let request = InitProducerIdRequest::decode(&mut frame, version).unwrap();
            assert!(request.transactional_id.is_none());
            Asks::ProducerId(request.producer_id.0, request.producer_epoch)
        }
        _ => Asks::Else,
    };
    (Request { node, connection, api, version, at: Instant::now(), asks }, header)
}

/// One batch, checksum and all.
fn read_batch(mut batch: Bytes) -> SentBatch {
    let unpack = |packed: &mut Bytes, compression| {
        let mut out = Vec::new();
        match compression {
            codec::Compression::None => out.extend_from_slice(packed),
            codec::Compression::Lz4 => {
                lz4_flex::frame::FrameDecoder::new(&packed[..]).read_to_end(&mut out)?;
            }
            other => panic!("{other:?} is not for this broker"),
        }
        Ok(Bytes::from(out))
    };
    let base_sequence = i32::from_be_bytes(batch[53..57].try_into().unwrap());
    let set = RecordBatchDecoder::decode_with_custom_compression(&mut batch, Some(unpack)).unwrap();
    assert!(batch.is_empty(), "{} bytes after the batch", batch.len());
    let first = set.records.first().expect("a batch without records");
    let producer = (first.producer_id, first.producer_epoch);
    let value = |record: &codec::Record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap();
    SentBatch { producer, base_sequence, values: set.records.iter().map(value).collect() }
}

/// A Produce request from before 0.11, without compression.
fn read_old_produce(mut frame: Bytes) -> Asks {
    let acks = frame.get_i16();
    frame.get_i32();
    assert_eq!(frame.get_i32(), 1, "one topic");
    let length = frame.get_i16() as usize;
    assert_eq!(frame.split_to(length), TOPIC);
    assert_eq!(frame.get_i32(), 1, "one partition");
    let partition = frame.get_i32();
    let bytes = frame.get_i32() as usize;
    let mut values = Vec::new();
    while frame.has_remaining() {
        frame.advance(8 + 4 + 4);
        let (magic, attributes) = (frame.get_i8(), frame.get_i8());
        assert_eq!(attributes, 0, "not compressed");
        if magic == 1 {
            frame.advance(8);
        }
        let key = frame.get_i32();
        frame.advance(key.max(0) as usize);
        let value = frame.get_i32() as usize;
        values.push(String::from_utf8(frame.split_to(value).to_vec()).unwrap());
    }
    Asks::Produce { acks, partition, batch: SentBatch { producer: (-1, -1), base_sequence: -1, values }, bytes }
}

impl State {
    /// Does what is asked, unless it is to fail, and gives the answer's frame: nothing where none is due.
    fn answer(&mut self, request: &Request, header: &RequestHeader, error: Option<i16>, throttle_ms: i32) -> Vec<u8> {
        let id = header.correlation_id;
        match &request.asks {
            Asks::Produce { acks, partition, batch, .. } => {
                let result = match (error, self.partitions.get_mut(partition)) {
                    (Some(error), _) => Err(error),
                    (None, None) => Err(code::UNKNOWN_TOPIC_OR_PARTITION),
                    (None, Some(found)) if found.leader != request.node => Err(code::NOT_LEADER_OR_FOLLOWER),
                    (None, Some(found)) => found.log.append(batch),
                };
                if *acks == 0 {
                    return Vec::new();
                }
                if request.version < 3 {
                    return old_produced(id, request.version, *partition, result);
                }
                let (error, offset) = (result.err().unwrap_or(0), result.unwrap_or(-1));
                let partition = PartitionProduceResponse::default()
                    .with_index(*partition)
                    .with_error_code(error)
                    .with_base_offset(offset);
                let mut topic = TopicProduceResponse::default().with_partition_responses(vec![partition]);
                if request.version < 13 {
                    topic = topic.with_name(TopicName(text(TOPIC)));
                }
                let answer = ProduceResponse::default().with_responses(vec![topic]).with_throttle_time_ms(throttle_ms);
                frame(&answer, id, request.version)
            }
            Asks::ProducerId(current, epoch) => {
                let mut answer = InitProducerIdResponse::default().with_throttle_time_ms(throttle_ms);
                match error {
                    Some(error) => {
                        answer = answer.with_error_code(error).with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
                    }
                    None if *current >= 0 => {
                        answer = answer.with_producer_id(ProducerId(*current)).with_producer_epoch(epoch + 1);
                    }
                    None => {
                        self.next_producer_id += 1;
                        answer = answer.with_producer_id(ProducerId(self.next_producer_id)).with_producer_epoch(0);
                    }
                }
                frame(&answer, id, request.version)
            }
            Asks::Else if request.api == ApiKey::ApiVersions => self.api_versions(request, id, error),
            Asks::Else if request.api == ApiKey::Metadata => self.metadata(request, id, error, throttle_ms),
            Asks::Else => panic!("{:?} is not for this broker", request.api),
        }
    }

    fn api_versions(&self, request: &Request, id: i32, error: Option<i16>) -> Vec<u8> {
        let known = self.versions[&(ApiKey::ApiVersions as i16)];
        let is_known = (known.0..=known.1).contains(&request.version);
        // What is not known is answered in version 0, as all brokers do.
        let version = if is_known { request.version } else { 0 };
        let error = error.unwrap_or(if is_known { 0 } else { code::UNSUPPORTED_VERSION });
        let range = |(key, (min, max)): (&i16, &(i16, i16))| {
            api_versions_response::ApiVersion::default()
                .with_api_key(*key)
                .with_min_version(*min)
                .with_max_version(*max)
        };
        let ranges = if is_known { self.versions.iter().map(range).collect() } else { Vec::new() };
        frame(&ApiVersionsResponse::default().with_error_code(error).with_api_keys(ranges), id, version)
    }

    fn metadata(&self, request: &Request, id: i32, error: Option<i16>, throttle_ms: i32) -> Vec<u8> {
        let version = request.version;
        let brokers = self.nodes.iter().filter(|(_, node)| node.told).map(|(id, node)| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(*id))
                .with_host(text(&node.address.ip().to_string()))
                .with_port(node.address.port().into())
        });
        let partitions = self.partitions.iter().map(|(index, partition)| {
            let mut told = MetadataResponsePartition::default()
                .with_partition_index(*index)
                .with_leader_id(BrokerId(partition.leader))
                .with_replica_nodes(vec![BrokerId(1)])
                .with_isr_nodes(vec![BrokerId(1)]);
            if version >= 7 {
                told = told.with_leader_epoch(partition.epoch);
            }
            told
        });
        let otherwise = if self.exists { self.topic_error } else { code::UNKNOWN_TOPIC_OR_PARTITION };
        let topic_error = error.unwrap_or(otherwise);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(text(TOPIC))))
            .with_error_code(topic_error)
            .with_partitions(if topic_error == 0 { partitions.collect() } else { Vec::new() });
        let mut answer = MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_controller_id(BrokerId(1))
            .with_topics(vec![topic]);
        if version >= 3 {
            answer = answer.with_throttle_time_ms(throttle_ms);
        }
        if version >= 13 {
            answer = answer.with_error_code(self.metadata_error);
        }
        frame(&answer, id, version)
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn frame<R: Encodable + HeaderVersion>(answer: &R, correlation_id: i32, version: i16) -> Vec<u8> {
    let mut frame = vec![0; 4];
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header.encode(&mut frame, R::header_version(version)).unwrap();
    answer.encode(&mut frame, version).unwrap();
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

fn old_produced(correlation_id: i32, version: i16, partition: i32, result: Result<i64, i16>) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&correlation_id.to_be_bytes());
    body.extend_from_slice(&1_i32.to_be_bytes());
    body.extend_from_slice(&(TOPIC.len() as i16).to_be_bytes());
    body.extend_from_slice(TOPIC.as_bytes());
    body.extend_from_slice(&1_i32.to_be_bytes());
    body.extend_from_slice(&partition.to_be_bytes());
    body.extend_from_slice(&result.err().unwrap_or(0).to_be_bytes());
    body.extend_from_slice(&result.unwrap_or(-1).to_be_bytes());
    if version >= 2 {
        body.extend_from_slice(&(-1_i64).to_be_bytes());
    }
    if version >= 1 {
        body.extend_from_slice(&0_i32.to_be_bytes());
    }
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}
