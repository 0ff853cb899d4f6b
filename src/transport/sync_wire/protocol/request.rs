//! Requests, as the codec has them.
//!
//! Each function gives a whole frame: the length in 4 bytes, the header, the body. Versions are those of
//! [`Api::versions`](super::Api::versions), from [`ApiVersions::best`](super::ApiVersions::best). Names are at most 32,767
//! bytes long, which the configuration sees to; what is longer is cut.

use bytes::Bytes;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, InitProducerIdRequest, MetadataRequest, RequestHeader, SaslAuthenticateRequest,
    SaslHandshakeRequest, TopicName,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};

use super::Api;

/// Our name for the brokers' statistics. Kafka refuses what is not letters, digits, hyphens and dots, so an underscore
/// too.
const SOFTWARE_NAME: &str = "kafka-log";

/// Which versions do you speak?
pub(in super::super) fn api_versions(version: i16, correlation_id: i32, client_id: &str) -> Vec<u8> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str(SOFTWARE_NAME))
        .with_client_software_version(StrBytes::from_string(software_version()));
    frame(Api::ApiVersions, version, correlation_id, client_id, &request)
}

/// Who leads the partitions of `topic`? The broker may create it.
pub(in super::super) fn metadata(version: i16, correlation_id: i32, client_id: &str, topic: &str) -> Vec<u8> {
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(name(topic))));
    let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
    frame(Api::Metadata, version, correlation_id, client_id, &request)
}

/// Gives us a producer id of our own: without a transaction it is a new one each time.
pub(in super::super) fn init_producer_id(version: i16, correlation_id: i32, client_id: &str) -> Vec<u8> {
    // No transaction, so no timeout of one: this is what the Java client sends.
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX);
    frame(Api::InitProducerId, version, correlation_id, client_id, &request)
}

/// We will authenticate by `mechanism`.
pub(in super::super) fn sasl_handshake(version: i16, correlation_id: i32, client_id: &str, mechanism: &str) -> Vec<u8> {
    let request = SaslHandshakeRequest::default().with_mechanism(name(mechanism));
    frame(Api::SaslHandshake, version, correlation_id, client_id, &request)
}

/// The mechanism's next message.
pub(in super::super) fn sasl_authenticate(version: i16, correlation_id: i32, client_id: &str, bytes: &[u8]) -> Vec<u8> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(bytes));
    frame(Api::SaslAuthenticate, version, correlation_id, client_id, &request)
}

fn frame<R: Encodable + HeaderVersion>(
    api: Api,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    request: &R,
) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(api.key())
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(name(client_id)));
    let mut frame = vec![0; 4];
    // The codec refuses versions that it does not know and names over the limit; neither gets here.
    let encoded =
        header.encode(&mut frame, R::header_version(version)).and_then(|()| request.encode(&mut frame, version));
    debug_assert!(encoded.is_ok(), "{api:?} {version}: {encoded:?}");
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

fn name(name: &str) -> StrBytes {
    StrBytes::from_string(short(name).to_owned())
}

/// What a length of 16 bits can say.
pub(super) fn short(mut name: &str) -> &str {
    while name.len() > i16::MAX as usize {
        let end = (i16::MAX as usize - 3..=i16::MAX as usize).rev().find(|&end| name.is_char_boundary(end));
        name = &name[..end.unwrap_or(0)];
    }
    name
}

/// The crate's version in the characters that Kafka takes.
fn software_version() -> String {
    env!("CARGO_PKG_VERSION").replace(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-'), "-")
}
