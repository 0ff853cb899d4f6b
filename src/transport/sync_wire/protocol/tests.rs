//! Each version of each API against the codec, and what is no answer at all.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, InitProducerIdRequest, InitProducerIdResponse, MetadataRequest,
    MetadataResponse, ProduceRequest, ProduceResponse, ProducerId, RequestHeader, ResponseHeader,
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse, TopicName,
    api_versions_response,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::api_versions::Range;
use super::metadata::Partition;
use super::*;

const TOPIC: &str = "app.logs";
const ID: [u8; 16] = *b"the topic's id..";

/// A tagged field that no schema has.
fn unknown() -> BTreeMap<i32, Bytes> {
    BTreeMap::from([(17, Bytes::from_static(b"to come")), (300, Bytes::new())])
}

fn unknown_if(flexible: bool) -> BTreeMap<i32, Bytes> {
    if flexible { unknown() } else { BTreeMap::new() }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The codec's own way to [`ID`], whose type it does not share.
fn identified() -> TopicProduceData {
    let mut topic = Bytes::from([&ID[..], &[1, 0]].concat());
    TopicProduceData::decode(&mut topic, 13).unwrap()
}

/// A frame without its length, as it comes from a connection.
fn answer<R: Encodable + HeaderVersion>(response: &R, version: i16) -> Vec<u8> {
    let header_version = R::header_version(version);
    let header =
        ResponseHeader::default().with_correlation_id(77).with_unknown_tagged_fields(unknown_if(header_version >= 1));
    let mut frame = Vec::new();
    header.encode(&mut frame, header_version).unwrap();
    response.encode(&mut frame, version).unwrap();
    frame
}

/// Takes a request apart as a broker does.
fn heard<R: Decodable + HeaderVersion>(frame: &[u8], api: Api, version: i16, client_id: &str) -> R {
    let mut frame = Bytes::copy_from_slice(frame);
    let length = frame.split_to(4);
    assert_eq!(length, (frame.len() as u32).to_be_bytes()[..], "{api:?} {version}");
    let header = RequestHeader::decode(&mut frame, R::header_version(version)).unwrap();
    assert_eq!((header.request_api_key, header.request_api_version), (api.key(), version));
    assert_eq!((header.correlation_id, header.client_id.as_deref()), (-9, Some(client_id)));
    let request = R::decode(&mut frame, version).unwrap();
    assert!(frame.is_empty(), "{api:?} {version}: {} bytes too many", frame.len());
    request
}

mod requests {
    use super::*;

    #[test]
    fn an_api_has_the_key_and_the_flexible_versions_of_the_schema() {
        for api in Api::ALL {
            let known = kafka_protocol::messages::ApiKey::try_from(api.key()).unwrap();
            assert_eq!(format!("{known:?}"), format!("{api:?}"));
            let theirs = known.valid_versions();
            for version in api.versions() {
                assert!((theirs.min..=theirs.max).contains(&version), "{api:?} {version}");
                assert_eq!(known.request_header_version(version) == 2, api.is_flexible(version), "{api:?} {version}");
            }
        }
    }

    #[test]
    fn a_broker_understands_each_version_of_each_request() {
        let client_id = "billing-\u{e9}";
        for version in Api::ApiVersions.versions() {
            let request: ApiVersionsRequest =
                heard(&api_versions(version, -9, client_id), Api::ApiVersions, version, client_id);
            if version >= 3 {
                assert_eq!(&*request.client_software_name, "kafka-log");
                assert_eq!(&*request.client_software_version, env!("CARGO_PKG_VERSION"));
            }
        }
        for version in Api::Metadata.versions() {
            let request: MetadataRequest =
                heard(&metadata(version, -9, client_id, TOPIC), Api::Metadata, version, client_id);
            let topics = request.topics.unwrap();
            assert_eq!(topics.len(), 1);
            assert_eq!(topics[0].name.as_ref().map(|name| name.as_str()), Some(TOPIC));
            assert!(request.allow_auto_topic_creation);
        }
        for version in Api::InitProducerId.versions() {
            let request: InitProducerIdRequest =
                heard(&init_producer_id(version, -9, client_id), Api::InitProducerId, version, client_id);
            assert_eq!((request.producer_id.0, request.producer_epoch), (-1, -1));
            assert_eq!(request.transactional_id, None);
        }
        for version in Api::SaslHandshake.versions() {
            let request: SaslHandshakeRequest =
                heard(&sasl_handshake(version, -9, client_id, "PLAIN"), Api::SaslHandshake, version, client_id);
            assert_eq!(&*request.mechanism, "PLAIN");
        }
        for version in Api::SaslAuthenticate.versions() {
            let frame = sasl_authenticate(version, -9, client_id, b"\0user\0secret");
            let request: SaslAuthenticateRequest = heard(&frame, Api::SaslAuthenticate, version, client_id);
            assert_eq!(&request.auth_bytes[..], b"\0user\0secret");
        }
    }

    #[test]
    fn the_software_is_named_in_the_characters_that_kafka_takes() {
        let frame = api_versions(3, -9, "c");
        let request: ApiVersionsRequest = heard(&frame, Api::ApiVersions, 3, "c");
        for word in [&*request.client_software_name, &*request.client_software_version] {
            assert!(word.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)), "{word}");
            assert!(word.starts_with(|c: char| c.is_ascii_alphanumeric()), "{word}");
            assert!(word.ends_with(|c: char| c.is_ascii_alphanumeric()), "{word}");
        }
    }

    #[test]
    fn a_name_over_the_protocols_limit_is_cut_between_characters() {
        let long = "\u{1f600}".repeat(10_000);
        let kept: String = long.chars().take(i16::MAX as usize / 4).collect();
        let frame = metadata(9, -9, &long, TOPIC);
        heard::<MetadataRequest>(&frame, Api::Metadata, 9, &kept);
        let pieces = produce(9, -9, &long, 1, 1, Topic { name: TOPIC, id: [0; 16] }, &[(0, Bytes::from_static(b"b"))]);
        heard::<ProduceRequest>(&pieces.concat(), Api::Produce, 9, &kept);
    }

    #[test]
    fn produce_is_laid_as_the_codec_lays_it_and_no_batch_is_copied() {
        let long = "n".repeat(249);
        // Lengths that take from one to four bytes as variable-length numbers.
        let sizes = [0, 1, 126, 127, 128, 16_382, 16_384, 2_097_151];
        let many: Vec<(i32, Bytes)> =
            sizes.iter().enumerate().map(|(i, &size)| (i as i32 * 1000, Bytes::from(vec![i as u8; size]))).collect();
        let crowd: Vec<(i32, Bytes)> = (0..200).map(|i| (i, Bytes::from(vec![7; 10 + i as usize]))).collect();
        for version in Api::Produce.versions() {
            for batches in [&many[..0], &many[2..3], &many[5..7], &many, &crowd] {
                for (name, acks) in [(TOPIC, -1), (long.as_str(), 0)] {
                    let pieces = produce(version, -9, "billing", acks, 30_000, Topic { name, id: ID }, batches);
                    let partitions = batches.iter().map(|(partition, batch)| {
                        PartitionProduceData::default().with_index(*partition).with_records(Some(batch.clone()))
                    });
                    let mut topic = TopicProduceData::default().with_partition_data(partitions.collect());
                    if version >= 13 {
                        topic = topic.with_topic_id(identified().topic_id);
                    } else {
                        topic = topic.with_name(TopicName(text(name)));
                    }
                    let request = ProduceRequest::default()
                        .with_transactional_id(None)
                        .with_acks(acks)
                        .with_timeout_ms(30_000)
                        .with_topic_data(vec![topic]);
                    let header = RequestHeader::default()
                        .with_request_api_key(0)
                        .with_request_api_version(version)
                        .with_correlation_id(-9)
                        .with_client_id(Some(text("billing")));
                    let mut expected = BytesMut::from(&[0; 4][..]);
                    header.encode(&mut expected, ProduceRequest::header_version(version)).unwrap();
                    request.encode(&mut expected, version).unwrap();
                    let length = (expected.len() - 4) as u32;
                    expected[..4].copy_from_slice(&length.to_be_bytes());
                    assert!(pieces.concat() == expected, "version {version}, {} batches", batches.len());
                    for (i, (_, batch)) in batches.iter().enumerate() {
                        assert_eq!(pieces[2 * i + 1].as_ptr(), batch.as_ptr());
                    }
                }
            }
        }
    }
}

/// Answers with anything in them that the protocol allows, in the codec's form and in ours.
mod answers {
    use super::*;

    fn words() -> impl Strategy<Value = String> {
        // Lengths around the limit of one byte, in characters of one and of three bytes.
        "[a-z\u{20ac}.]{0,140}"
    }

    prop_compose! {
        pub(super) fn api_versions()(
            version in 0..=3_i16,
            error in prop_oneof![Just(0), Just(-1), Just(41)],
            ranges in vec((any::<i16>(), any::<i16>(), any::<i16>()), 0..150),
            throttle_ms in any::<i32>(),
            features in any::<bool>(),
        ) -> (i16, Vec<u8>, ApiVersions) {
            let tags = || unknown_if(version >= 3);
            let mut response = ApiVersionsResponse::default()
                .with_error_code(error)
                .with_api_keys(ranges.iter().map(|&(key, min, max)| {
                    api_versions_response::ApiVersion::default()
                        .with_api_key(key)
                        .with_min_version(min)
                        .with_max_version(max)
                        .with_unknown_tagged_fields(tags())
                }).collect())
                .with_throttle_time_ms(if version >= 1 { throttle_ms } else { 0 })
                .with_unknown_tagged_fields(tags());
            if features && version >= 3 {
                let supported = api_versions_response::SupportedFeatureKey::default()
                    .with_name(text("metadata.version"))
                    .with_max_version(25);
                response = response.with_supported_features(vec![supported]).with_finalized_features_epoch(9);
            }
            let ranges = ranges.into_iter().map(|(key, min, max)| Range { key, min, max }).collect();
            let throttle_ms = if version >= 1 { throttle_ms } else { 0 };
            (version, answer(&response, version), ApiVersions { error: ErrorCode(error), ranges, throttle_ms })
        }
    }

    prop_compose! {
        pub(super) fn metadata()(
            version in 4..=13_i16,
            throttle_ms in any::<i32>(),
            brokers in vec((any::<i32>(), words(), any::<u16>(), option::of(words())), 0..5),
            cluster in option::of(words()),
            error in any::<i16>(),
            partitions in vec(
                (any::<i16>(), -1..5_i32, any::<i32>(), vec(any::<i32>(), 0..4), vec(any::<i32>(), 0..4)),
                0..140,
            ),
            others in (0..3_usize, 0..3_usize),
            whole in prop_oneof![Just(0), Just(129)],
        ) -> (i16, Vec<u8>, Metadata) {
            let tags = || unknown_if(version >= 9);
            let other = |name: &str| MetadataResponseTopic::default()
                .with_name(Some(TopicName(text(name))))
                .with_error_code(3)
                .with_partitions(vec![MetadataResponsePartition::default().with_partition_index(4)])
                .with_unknown_tagged_fields(tags());
            let mut topic = MetadataResponseTopic::default()
                .with_error_code(error)
                .with_name(Some(TopicName(text(TOPIC))))
                .with_is_internal(true)
                .with_partitions(partitions.iter().enumerate().map(|(index, (error, leader, epoch, some, more))| {
                    let nodes = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
                    let mut partition = MetadataResponsePartition::default()
                        .with_error_code(*error)
                        .with_partition_index(index as i32)
                        .with_leader_id(BrokerId(*leader))
                        .with_replica_nodes(nodes(some))
                        .with_isr_nodes(nodes(more))
                        .with_unknown_tagged_fields(tags());
                    if version >= 7 {
                        partition = partition.with_leader_epoch(*epoch);
                    }
                    if version >= 5 {
                        partition = partition.with_offline_replicas(nodes(some));
                    }
                    partition
                }).collect())
                .with_unknown_tagged_fields(tags());
            if version >= 10 {
                topic = topic.with_topic_id(identified().topic_id);
            }
            if version >= 8 {
                topic = topic.with_topic_authorized_operations(12);
            }
            let mut topics: Vec<_> = (0..others.0).map(|_| other("app")).collect();
            topics.push(topic);
            topics.extend((0..others.1).map(|_| other("app.logs.more")));
            let mut response = MetadataResponse::default()
                .with_throttle_time_ms(throttle_ms)
                .with_brokers(brokers.iter().map(|(id, host, port, rack)| {
                    MetadataResponseBroker::default()
                        .with_node_id(BrokerId(*id))
                        .with_host(text(host))
                        .with_port((*port).into())
                        .with_rack(rack.as_deref().map(text))
                        .with_unknown_tagged_fields(tags())
                }).collect())
                .with_cluster_id(cluster.as_deref().map(text))
                .with_controller_id(BrokerId(3))
                .with_topics(topics)
                .with_unknown_tagged_fields(tags());
            if version >= 13 {
                response = response.with_error_code(whole);
            }
            let expected = Metadata {
                throttle_ms,
                brokers: brokers.into_iter().map(|(id, host, port, _)| Broker { id, host, port }).collect(),
                topic_error: ErrorCode(if error == 0 && version >= 13 { whole } else { error }),
                topic_id: if version >= 10 { ID } else { [0; 16] },
                partitions: partitions.into_iter().enumerate().map(|(index, (error, leader, epoch, _, _))| Partition {
                    error: ErrorCode(error),
                    index: index as i32,
                    leader,
                    leader_epoch: if version >= 7 { epoch } else { -1 },
                }).collect(),
            };
            (version, answer(&response, version), expected)
        }
    }

    prop_compose! {
        pub(super) fn init_producer_id()(
            version in 0..=5_i16,
            error in prop_oneof![Just(0), any::<i16>()],
            producer_id in 0..i64::MAX,
            epoch in 0..i16::MAX,
            throttle_ms in any::<i32>(),
        ) -> (i16, Vec<u8>, InitProducerId) {
            let response = InitProducerIdResponse::default()
                .with_throttle_time_ms(throttle_ms)
                .with_error_code(error)
                .with_producer_id(ProducerId(producer_id))
                .with_producer_epoch(epoch)
                .with_unknown_tagged_fields(unknown_if(version >= 2));
            let expected = InitProducerId { error: ErrorCode(error), producer_id, epoch, throttle_ms };
            (version, answer(&response, version), expected)
        }
    }

    prop_compose! {
        pub(super) fn produce()(
            version in 3..=13_i16,
            partitions in vec(
                (
                    any::<i32>(), any::<i16>(), any::<i64>(), any::<i64>(), option::of(words()),
                    vec((any::<i32>(), option::of(words())), 0..4),
                ),
                0..140,
            ),
            throttle_ms in any::<i32>(),
            hints in any::<bool>(),
        ) -> (i16, Vec<u8>, Produce) {
            let tags = || unknown_if(version >= 9);
            let mut topic = TopicProduceResponse::default()
                .with_partition_responses(
                    partitions.iter().map(|(index, error, base_offset, append_time, message, errors)| {
                        let mut partition = PartitionProduceResponse::default()
                            .with_index(*index)
                            .with_error_code(*error)
                            .with_base_offset(*base_offset)
                            .with_log_append_time_ms(*append_time)
                            .with_unknown_tagged_fields(unknown_if(version >= 9));
                        if version >= 5 {
                            partition = partition.with_log_start_offset(8);
                        }
                        if version >= 8 {
                            let errors = errors.iter().map(|(index, message)| {
                                BatchIndexAndErrorMessage::default()
                                    .with_batch_index(*index)
                                    .with_batch_index_error_message(message.as_deref().map(text))
                                    .with_unknown_tagged_fields(tags())
                            });
                            partition = partition
                                .with_record_errors(errors.collect())
                                .with_error_message(message.as_deref().map(text));
                        }
                        if hints && version >= 10 {
                            let leader = LeaderIdAndEpoch::default()
                                .with_leader_id(BrokerId(2))
                                .with_leader_epoch(5)
                                .with_unknown_tagged_fields(tags());
                            partition = partition.with_current_leader(leader);
                        }
                        partition
                    }).collect(),
                )
                .with_unknown_tagged_fields(tags());
            if version >= 13 {
                topic = topic.with_topic_id(identified().topic_id);
            } else {
                topic = topic.with_name(TopicName(text(TOPIC)));
            }
            let mut response = ProduceResponse::default()
                .with_responses(vec![topic])
                .with_throttle_time_ms(throttle_ms)
                .with_unknown_tagged_fields(tags());
            if hints && version >= 10 {
                let endpoint = NodeEndpoint::default()
                    .with_node_id(BrokerId(2))
                    .with_host(text("kafka-2"))
                    .with_port(9092)
                    .with_rack(Some(text("r")));
                response = response.with_node_endpoints(vec![endpoint.clone(), endpoint]);
            }
            let partitions = partitions.into_iter().map(|(index, error, base_offset, log_append_time, message, errors)| {
                let first = errors.into_iter().find_map(|(_, message)| message);
                let error_message = match (message, first) {
                    _ if version < 8 => None,
                    (Some(message), Some(first)) => Some(format!("{message} ({first})")),
                    (message, first) => message.or(first),
                };
                Produced { index, error: ErrorCode(error), base_offset, log_append_time, error_message }
            });
            (version, answer(&response, version), Produce { throttle_ms, partitions: partitions.collect() })
        }
    }

    prop_compose! {
        pub(super) fn sasl_handshake()(
            error in any::<i16>(),
            mechanisms in vec(words(), 0..5),
        ) -> (i16, Vec<u8>, SaslHandshake) {
            let response = SaslHandshakeResponse::default()
                .with_error_code(error)
                .with_mechanisms(mechanisms.iter().map(|name| text(name)).collect());
            (1, answer(&response, 1), SaslHandshake { error: ErrorCode(error), mechanisms })
        }
    }

    prop_compose! {
        pub(super) fn sasl_authenticate()(
            version in 0..=2_i16,
            error in any::<i16>(),
            error_message in option::of(words()),
            bytes in vec(any::<u8>(), 0..300),
            lifetime in any::<i64>(),
        ) -> (i16, Vec<u8>, SaslAuthenticate) {
            let session_lifetime_ms = if version >= 1 { lifetime } else { 0 };
            let response = SaslAuthenticateResponse::default()
                .with_error_code(error)
                .with_error_message(error_message.as_deref().map(text))
                .with_auth_bytes(Bytes::from(bytes.clone()))
                .with_session_lifetime_ms(session_lifetime_ms)
                .with_unknown_tagged_fields(unknown_if(version >= 2));
            let error = ErrorCode(error);
            (version, answer(&response, version), SaslAuthenticate { error, error_message, bytes, session_lifetime_ms })
        }
    }
}

/// What an answer keeps in memory, by the capacities of what it holds.
trait Held {
    fn held(&self) -> usize;
}

fn room<T>(items: &Vec<T>) -> usize {
    items.capacity() * size_of::<T>()
}

impl Held for ApiVersions {
    fn held(&self) -> usize {
        room(&self.ranges)
    }
}

impl Held for Metadata {
    fn held(&self) -> usize {
        room(&self.brokers)
            + self.brokers.iter().map(|broker| broker.host.capacity()).sum::<usize>()
            + room(&self.partitions)
    }
}

impl Held for InitProducerId {
    fn held(&self) -> usize {
        0
    }
}

impl Held for Produce {
    fn held(&self) -> usize {
        let messages = self.partitions.iter().filter_map(|partition| partition.error_message.as_ref());
        room(&self.partitions) + messages.map(String::capacity).sum::<usize>()
    }
}

impl Held for SaslHandshake {
    fn held(&self) -> usize {
        room(&self.mechanisms) + self.mechanisms.iter().map(String::capacity).sum::<usize>()
    }
}

impl Held for SaslAuthenticate {
    fn held(&self) -> usize {
        self.bytes.capacity() + self.error_message.as_ref().map_or(0, String::capacity)
    }
}

type Decode<T> = fn(&[u8], i16) -> Result<T, Malformed>;

fn decode_metadata(frame: &[u8], version: i16) -> Result<Metadata, Malformed> {
    Metadata::decode(frame, version, TOPIC)
}

/// What was read of any bytes takes a multiple of them at most. 12 is the worst: a name of no bytes takes two bytes on the
/// way, and 24 here.
fn bounded<T: Held>(decode: Decode<T>, frame: &[u8], version: i16) -> Result<T, Malformed> {
    let heard = decode(frame, version);
    if let Ok(heard) = &heard {
        assert!(heard.held() <= 12 * frame.len(), "{} bytes held for {}", heard.held(), frame.len());
    }
    heard
}

/// A whole answer is read as the codec meant it, no beginning of it passes for one, and what follows it
/// does no harm: some brokers say more than they were asked.
fn reads<T: Held + PartialEq + std::fmt::Debug>(
    decode: Decode<T>,
    (version, frame, expected): &(i16, Vec<u8>, T),
) -> Result<(), TestCaseError> {
    prop_assert_eq!(correlation_id(frame), Ok(77));
    let heard = bounded(decode, frame, *version);
    prop_assert_eq!(heard.as_ref(), Ok(expected));
    // Each length of a short answer; a thousand or two of a long one.
    for end in (0..frame.len()).rev().step_by(1 + frame.len() / 1000) {
        let cut = bounded(decode, &frame[..end], *version);
        prop_assert!(cut.is_err(), "{} of {} bytes: {:?}", end, frame.len(), cut);
    }
    let mut longer = frame.clone();
    longer.push(0);
    let heard = bounded(decode, &longer, *version);
    prop_assert_eq!(heard.as_ref(), Ok(expected));
    Ok(())
}

/// Noise is read or refused, and nothing worse.
fn survives<T: Held>(decode: Decode<T>, frame: &mut [u8], version: i16, flips: &[(prop::sample::Index, u8)]) {
    for (place, bit) in flips {
        let byte = place.get_mut(frame);
        *byte ^= 1 << (bit % 8);
        let _ = bounded(decode, frame, version);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn api_versions_is_read(case in answers::api_versions()) {
        reads(ApiVersions::decode, &case)?;
    }

    #[test]
    fn metadata_is_read(case in answers::metadata()) {
        reads(decode_metadata, &case)?;
    }

    #[test]
    fn init_producer_id_is_read(case in answers::init_producer_id()) {
        reads(InitProducerId::decode, &case)?;
    }

    #[test]
    fn produce_is_read(case in answers::produce()) {
        reads(Produce::decode, &case)?;
    }

    #[test]
    fn sasl_handshake_is_read(case in answers::sasl_handshake()) {
        reads(SaslHandshake::decode, &case)?;
    }

    #[test]
    fn sasl_authenticate_is_read(case in answers::sasl_authenticate()) {
        reads(SaslAuthenticate::decode, &case)?;
    }

    #[test]
    fn flipped_bits_do_no_harm(
        mut a in answers::api_versions(),
        mut b in answers::metadata(),
        mut c in answers::init_producer_id(),
        mut d in answers::produce(),
        mut e in answers::sasl_handshake(),
        mut f in answers::sasl_authenticate(),
        flips in vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
    ) {
        survives(ApiVersions::decode, &mut a.1, a.0, &flips);
        survives(decode_metadata, &mut b.1, b.0, &flips);
        survives(InitProducerId::decode, &mut c.1, c.0, &flips);
        survives(Produce::decode, &mut d.1, d.0, &flips);
        survives(SaslHandshake::decode, &mut e.1, e.0, &flips);
        survives(SaslAuthenticate::decode, &mut f.1, f.0, &flips);
    }

    #[test]
    fn noise_does_no_harm(frame in vec(any::<u8>(), 0..600)) {
        for version in -1..=20 {
            let _ = bounded(ApiVersions::decode, &frame, version);
            let _ = bounded(decode_metadata, &frame, version);
            let _ = bounded(InitProducerId::decode, &frame, version);
            let _ = bounded(Produce::decode, &frame, version);
            let _ = bounded(SaslHandshake::decode, &frame, version);
            let _ = bounded(SaslAuthenticate::decode, &frame, version);
        }
    }
}

/// A frame with a header and then these pieces.
fn frame(pieces: &[&[u8]]) -> Vec<u8> {
    [&[0, 0, 0, 77][..]].iter().chain(pieces).copied().flatten().copied().collect()
}

#[test]
fn a_count_over_the_bytes_that_are_there_is_refused_before_anything_is_reserved() {
    const MANY: &[u8] = &i32::MAX.to_be_bytes();
    const COMPACT_MANY: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f];
    let few = 1000_i32.to_be_bytes();
    for (heard, what) in [
        (decode_metadata(&frame(&[&[0; 4], MANY]), 4).err(), "Metadata: the number of brokers"),
        (decode_metadata(&frame(&[&[0], &[0; 4], COMPACT_MANY]), 9).err(), "Metadata: the number of brokers"),
        // 10,999 bytes, of which a broker takes eleven.
        (decode_metadata(&frame(&[&[0; 4], &few, &[0; 10_999]]), 4).err(), "Metadata: the number of brokers"),
        (decode_metadata(&frame(&[&[0; 8], &[0xff; 2], &[0; 4], MANY]), 4).err(), "Metadata: the number of topics"),
        (ApiVersions::decode(&frame(&[&[0; 2], MANY]), 0).err(), "ApiVersions: the number of APIs"),
        (ApiVersions::decode(&frame(&[&[0; 2], COMPACT_MANY]), 3).err(), "ApiVersions: the number of APIs"),
        (Produce::decode(&frame(&[MANY]), 3).err(), "Produce: the number of topics"),
        (Produce::decode(&frame(&[&[0, 0, 0, 1, 0, 0], MANY]), 3).err(), "Produce: the number of partitions"),
        (SaslHandshake::decode(&frame(&[&[0; 2], MANY]), 1).err(), "SaslHandshake: the number of mechanisms"),
        (
            SaslHandshake::decode(&frame(&[&[0; 2], &[0xff, 0, 0, 0]]), 1).err(),
            "SaslHandshake: the number of mechanisms",
        ),
        (
            SaslAuthenticate::decode(&frame(&[&[0; 2], &[0xff; 2], MANY]), 0).err(),
            "SaslAuthenticate: the mechanism's message",
        ),
    ] {
        assert_eq!(heard, Some(Malformed(what)));
    }
}

#[test]
fn a_number_of_more_than_32_bits_is_refused() {
    for varint in [[0xff, 0xff, 0xff, 0xff, 0x1f], [0x80, 0x80, 0x80, 0x80, 0x80]] {
        let heard = ApiVersions::decode(&frame(&[&[0; 2], &varint]), 3);
        assert_eq!(heard, Err(Malformed("a variable-length number over 32 bits")));
    }
}

#[test]
fn a_version_that_the_broker_does_not_know_is_answered_in_version_0() {
    let response = ApiVersionsResponse::default()
        .with_error_code(35)
        .with_api_keys(vec![api_versions_response::ApiVersion::default().with_api_key(18).with_max_version(2)]);
    let heard = ApiVersions::decode(&answer(&response, 0), 3).unwrap();
    assert_eq!(heard.error, ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(heard.ranges, [Range { key: 18, min: 0, max: 2 }]);
    assert_eq!(heard.best(Api::ApiVersions), Some(2));
    // Before Kafka 2.4 there is nothing but the error.
    let heard = ApiVersions::decode(&frame(&[&35_i16.to_be_bytes(), &[0; 4]]), 3).unwrap();
    assert_eq!((heard.error, heard.ranges), (ErrorCode::UNSUPPORTED_VERSION, vec![]));
}

#[test]
fn the_best_version_is_the_highest_that_both_speak() {
    let best = |min, max| {
        let ranges = vec![Range { key: 1, min: 0, max: 99 }, Range { key: 0, min, max }];
        ApiVersions { ranges, ..ApiVersions::default() }.best(Api::Produce)
    };
    assert_eq!(best(0, 2), None, "a broker older than 0.11");
    assert_eq!(best(0, 3), Some(3), "0.11");
    assert_eq!(best(0, 11), Some(11), "3.9");
    assert_eq!(best(0, 99), Some(13), "one to come");
    assert_eq!(best(14, 99), None, "one that has left our versions behind");
    assert_eq!(best(9, 8), None, "nonsense");
    assert_eq!(ApiVersions::default().best(Api::Produce), None);
}

#[test]
fn a_topic_is_found_by_its_name_or_is_the_one_without() {
    let topic = |name: Option<&str>, error| {
        MetadataResponseTopic::default().with_name(name.map(|name| TopicName(text(name)))).with_error_code(error)
    };
    let heard = |topics, error| {
        decode_metadata(&answer(&MetadataResponse::default().with_topics(topics).with_error_code(error), 13), 13)
    };
    assert_eq!(heard(vec![topic(Some("other"), 1), topic(Some(TOPIC), 2)], 0).unwrap().topic_error, ErrorCode(2));
    assert_eq!(heard(vec![topic(None, 100)], 0).unwrap().topic_error, ErrorCode::UNKNOWN_TOPIC_ID);
    let missing = Malformed("Metadata: no word on the topic that was asked for");
    assert_eq!(heard(vec![topic(Some("other"), 0)], 0), Err(missing));
    assert_eq!(heard(vec![], 129).unwrap().topic_error, ErrorCode::REBOOTSTRAP_REQUIRED);
}

#[test]
fn partitions_come_by_their_indexes_each_once() {
    let partition = |index| MetadataResponsePartition::default().with_partition_index(index);
    let heard = |indexes: &[i32]| {
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(text(TOPIC))))
            .with_partitions(indexes.iter().copied().map(partition).collect());
        decode_metadata(&answer(&MetadataResponse::default().with_topics(vec![topic]), 7), 7)
    };
    let indexes: Vec<i32> = heard(&[2, 0, 2, 1, 0]).unwrap().partitions.iter().map(|found| found.index).collect();
    assert_eq!(indexes, [0, 1, 2]);
    assert_eq!(heard(&[0, -1]), Err(Malformed("Metadata: a partition's index is negative")));
}

#[test]
fn a_producer_id_is_there_or_an_error_is() {
    let heard = |error, id, epoch| {
        let response = InitProducerIdResponse::default()
            .with_error_code(error)
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch);
        InitProducerId::decode(&answer(&response, 4), 4)
    };
    assert!(heard(14, -1, -1).is_ok_and(|heard| heard.error == ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    assert!(heard(0, 0, 0).is_ok());
    assert!(heard(0, -1, 0).is_err());
    assert!(heard(0, 0, -1).is_err());
}

#[test]
fn names_and_retries_are_those_of_the_codecs_table() {
    use kafka_protocol::error::ResponseError;

    for &(code, name) in ErrorCode::NAMED {
        let ours = ErrorCode(code);
        assert_eq!(ours.to_string(), name);
        let Some(theirs) = ResponseError::try_from_code(code) else {
            assert!(ours.is_ok());
            continue;
        };
        let words = theirs.to_string();
        let mut snake = String::new();
        for (i, c) in words.char_indices() {
            if i > 0 && c.is_uppercase() {
                snake.push('_');
            }
            snake.extend(c.to_uppercase());
        }
        assert_eq!(snake, name);
        assert_eq!(ours.is_retriable(), theirs.is_retriable(), "{name}");
    }
}

#[test]
fn an_error_is_of_one_kind() {
    for code in -2..200 {
        let code = ErrorCode(code);
        let kinds = [code.is_ok(), code.is_retriable(), code.is_about_producer(), code.is_too_large()];
        assert!(kinds.iter().filter(|&&kind| kind).count() <= 1, "{code}: {kinds:?}");
        if code.wants_metadata() {
            assert!(code.is_retriable() || code == ErrorCode::REBOOTSTRAP_REQUIRED, "{code}");
        }
    }
    assert!(ErrorCode::DUPLICATE_SEQUENCE_NUMBER.is_about_producer());
    assert!(ErrorCode::MESSAGE_TOO_LARGE.is_too_large());
    assert_eq!(ErrorCode(999).to_string(), "error code 999");
}
