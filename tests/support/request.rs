//! Requests that no client here can make, by hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, CreateAclsRequest, DescribeAclsRequest, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use super::wait;

/// Bounds each write and read.
const ANSWER: Duration = Duration::from_secs(30);

/// Asks the broker, in this version of the request, and panics without an answer.
pub fn ask<R: Request>(bootstrap: &str, version: i16, request: &R) -> R::Response {
    let header = RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut bytes = BytesMut::new();
    header.encode(&mut bytes, R::header_version(version)).expect("a header can be encoded");
    request.encode(&mut bytes, version).expect("a request can be encoded");

    let mut stream =
        TcpStream::connect(bootstrap).unwrap_or_else(|error| panic!("no connection to {bootstrap}: {error}"));
    stream.set_read_timeout(Some(ANSWER)).expect("a timeout can be set");
    stream.write_all(&(bytes.len() as u32).to_be_bytes()).and_then(|()| stream.write_all(&bytes)).expect("not written");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("no answer");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("no whole answer");
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(version)).expect("no header");
    R::Response::decode(&mut answer, version).expect("another answer than was asked for")
}

/// Has the broker throttle clients of this id that produce more bytes a second.
pub fn throttle(bootstrap: &str, client_id: &str, bytes_a_second: f64) {
    let entity = EntityData::default().with_entity_type(text("client-id")).with_entity_name(Some(text(client_id)));
    let quota = OpData::default().with_key(text("producer_byte_rate")).with_value(bytes_a_second);
    let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![quota]);
    let answer = ask(bootstrap, 1, &AlterClientQuotasRequest::default().with_entries(vec![entry]));
    assert!(answer.entries.iter().all(|entry| entry.error_code == 0), "{answer:?}");
}

/// What a user may be allowed to do with a topic, by Kafka's number of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Right {
    /// To see it too.
    Write = 4,
    Describe = 8,
}

/// Gives a user this right to a topic, and waits until the broker goes by it.
pub fn allow(bootstrap: &str, topic: &str, user: &str, right: Right) {
    // As Kafka numbers them. From this version on all brokers know it.
    const VERSION: i16 = 2;
    const TOPIC: i8 = 2;
    const LITERAL: i8 = 3;
    const ALLOW: i8 = 3;
    const ANY: i8 = 1;
    let (principal, host, operation) = (text(&format!("User:{user}")), text("*"), right as i8);
    let creation = AclCreation::default().with_resource_type(TOPIC).with_resource_name(text(topic));
    let creation = creation.with_resource_pattern_type(LITERAL).with_principal(principal.clone()).with_host(host);
    let creation = creation.with_operation(operation).with_permission_type(ALLOW);
    let answer = ask(bootstrap, VERSION, &CreateAclsRequest::default().with_creations(vec![creation]));
    assert!(answer.results.iter().all(|result| result.error_code == 0), "{answer:?}");

    let question = DescribeAclsRequest::default().with_resource_type_filter(TOPIC).with_operation(ANY);
    let question = question.with_resource_name_filter(Some(text(topic))).with_pattern_type_filter(LITERAL);
    // Of whomever, from wherever.
    let question = question.with_permission_type(ALLOW).with_principal_filter(None).with_host_filter(None);
    wait::until("the broker to know of a right", ANSWER, || {
        let answer = ask(bootstrap, VERSION, &question);
        let mut known = answer.resources.iter().flat_map(|resource| &resource.acls);
        known.any(|acl| acl.principal == principal && acl.operation == operation)
    });
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
