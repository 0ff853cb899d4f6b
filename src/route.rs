//! Where a record goes: the topic. Keys, headers and partitions are left to the brokers' defaults.

use std::sync::Arc;

/// The destination of a logger's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) topic: Arc<str>,
}

impl Route {
    pub(crate) fn new(topic: &str) -> Route {
        Route { topic: topic.into() }
    }
}
