//! Requests that no client here can make, by hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::{AlterClientQuotasRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

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
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let entity = EntityData::default().with_entity_type(text("client-id")).with_entity_name(Some(text(client_id)));
    let quota = OpData::default().with_key(text("producer_byte_rate")).with_value(bytes_a_second);
    let entry = EntryData::default().with_entity(vec![entity]).with_ops(vec![quota]);
    let answer = ask(bootstrap, 1, &AlterClientQuotasRequest::default().with_entries(vec![entry]));
    assert!(answer.entries.iter().all(|entry| entry.error_code == 0), "{answer:?}");
}
