#![doc = include_str!("../README.md")]
// What only one transport uses lies idle in a build without it. The features are asked for here, besides
// src/transport/mod.rs, because a lint's level can be set nowhere else for the whole crate.
#![cfg_attr(not(all(feature = "async", feature = "sync")), allow(dead_code, unused_imports))]

mod awaited;
mod clock;
mod config;
mod deadline;
mod delivery;
mod error;
mod exit;
mod fallback;
mod fields;
mod format;
mod global;
mod logger;
mod panic_hook;
mod queue;
mod recursion;
mod route;
mod severity;
mod spool;
mod status;
mod transport;
mod worker;

pub use crate::config::{
    Acks, Compression, Config, Fallback, Fsync, IntoBootstrapServers, OauthToken, Overflow, Oversize, Sasl, Spool,
    SpoolMode, Startup, SyncProducer, Tls, Transport,
};
pub use crate::delivery::{
    Delivered, Delivery, DeliveryError, DeliveryErrorKind, DropReason, Dropped, FlushError, ShutdownReport, Stats,
};
pub use crate::error::{
    LoggerConfigError, LoggerDependencyError, LoggerError, SpoolError, SpoolErrorKind, StartupError, StartupErrorKind,
};
pub use crate::global::{Guard, flush, init, init_from_env, shutdown, stats};
pub use crate::logger::KafkaLogger;
pub use crate::panic_hook::flush_on_panic;
pub use crate::status::{State, Status};

/// What the macros expand to. No part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use log::kv::{ToValue, Value};

    pub use crate::global::awaited;
    pub use crate::severity::Severity;
}

// The examples of features.md are tests too.
#[cfg(doctest)]
#[doc = include_str!("../features.md")]
struct FeaturesMd;
