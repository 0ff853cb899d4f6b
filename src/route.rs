//! Where a record goes: the topic, and the key that decides on the partition.

use std::sync::Arc;

/// The destination of a logger's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) topic: Arc<str>,
    /// Of every record. None, which is all that a `Config` can say: partitions take turns.
    pub(crate) key: Option<Arc<[u8]>>,
}

impl Route {
    pub(crate) fn new(topic: &str) -> Route {
        Route { topic: topic.into(), key: None }
    }
}
