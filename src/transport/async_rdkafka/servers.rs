//! Servers for a producer that has lost all of them.
//!
//! A single broker that was away for longer than its session answers its first metadata requests with no brokers at
//! all. librdkafka (2.12 at least) then removes the one it knew, and is to begin again with the bootstrap servers; but the
//! very answer that removed the broker can cancel that beginning, and it never comes again: librdkafka issue 5301. All its
//! records would end by their timeout. Given the servers anew it goes on where it was, with its sequence numbers.
#![allow(unsafe_code)] // No safe binding adds servers to a client.

use std::ffi::CString;

use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::client::{Client, ClientContext};

pub(super) fn add<C: ClientContext>(client: &Client<C>, servers: &str) {
    let Ok(servers) = CString::new(servers) else { return };
    // SAFETY: the client lives while it is borrowed, the text while it is read; the call may come from any thread.
    unsafe { rd_kafka_brokers_add(client.native_ptr(), servers.as_ptr()) };
}
