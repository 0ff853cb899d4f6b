//! What the integration tests share: real brokers and clusters, independent readers, fault proxies.
//!
//! Each test binary has this as a private module and uses a part of it, hence the allowances.
#![allow(dead_code, unreachable_pub)]

pub mod certificates;
pub mod client;
pub mod cluster;
pub mod guardian;
pub mod jars;
pub mod kafka;
pub mod ports;
pub mod process;
pub mod properties;
pub mod proxy;
pub mod python;
pub mod random;
pub mod reader;
pub mod request;
pub mod secure;
pub mod server;
pub mod silent;
pub mod tap;
pub mod topic;
pub mod wait;
