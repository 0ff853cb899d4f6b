//! Kafka's error codes, as far as they matter to a producer.

use std::fmt;

/// An error code of the protocol; 0 is none. Its display is the protocol's name for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(in super::super) struct ErrorCode(pub(in super::super) i16);

macro_rules! codes {
    ($($name:ident = $code:literal,)*) => {
        impl ErrorCode {
            // Some are here for their names alone.
            $(#[allow(dead_code)] pub(in super::super) const $name: ErrorCode = ErrorCode($code);)*

            /// Those that have a name here.
            #[cfg(test)]
            pub(super) const NAMED: &'static [(i16, &'static str)] = &[$(($code, stringify!($name)),)*];

            /// The protocol's name for it.
            pub(in super::super) fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($code => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    UNKNOWN_SERVER_ERROR = -1,
    NONE = 0,
    CORRUPT_MESSAGE = 2,
    UNKNOWN_TOPIC_OR_PARTITION = 3,
    LEADER_NOT_AVAILABLE = 5,
    NOT_LEADER_OR_FOLLOWER = 6,
    REQUEST_TIMED_OUT = 7,
    BROKER_NOT_AVAILABLE = 8,
    REPLICA_NOT_AVAILABLE = 9,
    MESSAGE_TOO_LARGE = 10,
    NETWORK_EXCEPTION = 13,
    COORDINATOR_LOAD_IN_PROGRESS = 14,
    COORDINATOR_NOT_AVAILABLE = 15,
    NOT_COORDINATOR = 16,
    INVALID_TOPIC_EXCEPTION = 17,
    RECORD_LIST_TOO_LARGE = 18,
    NOT_ENOUGH_REPLICAS = 19,
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20,
    INVALID_REQUIRED_ACKS = 21,
    TOPIC_AUTHORIZATION_FAILED = 29,
    CLUSTER_AUTHORIZATION_FAILED = 31,
    INVALID_TIMESTAMP = 32,
    UNSUPPORTED_SASL_MECHANISM = 33,
    ILLEGAL_SASL_STATE = 34,
    UNSUPPORTED_VERSION = 35,
    INVALID_PARTITIONS = 37,
    INVALID_REPLICATION_FACTOR = 38,
    NOT_CONTROLLER = 41,
    INVALID_REQUEST = 42,
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43,
    POLICY_VIOLATION = 44,
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45,
    DUPLICATE_SEQUENCE_NUMBER = 46,
    INVALID_PRODUCER_EPOCH = 47,
    INVALID_TXN_STATE = 48,
    INVALID_PRODUCER_ID_MAPPING = 49,
    CONCURRENT_TRANSACTIONS = 51,
    TRANSACTIONAL_ID_AUTHORIZATION_FAILED = 53,
    SECURITY_DISABLED = 54,
    KAFKA_STORAGE_ERROR = 56,
    SASL_AUTHENTICATION_FAILED = 58,
    UNKNOWN_PRODUCER_ID = 59,
    LISTENER_NOT_FOUND = 72,
    FENCED_LEADER_EPOCH = 74,
    UNKNOWN_LEADER_EPOCH = 75,
    UNSUPPORTED_COMPRESSION_TYPE = 76,
    INVALID_RECORD = 87,
    THROTTLING_QUOTA_EXCEEDED = 89,
    PRODUCER_FENCED = 90,
    UNKNOWN_TOPIC_ID = 100,
    INCONSISTENT_TOPIC_ID = 103,
    REBOOTSTRAP_REQUIRED = 129,
}

impl ErrorCode {
    pub(in super::super) fn is_ok(self) -> bool {
        self == ErrorCode::NONE
    }

    /// The same request may succeed later, where it should go once the metadata are fresh; by Kafka's own table.
    ///
    /// What is none of this, of [`is_about_producer`](Self::is_about_producer) and of
    /// [`is_too_large`](Self::is_too_large) stays as it is however often it is asked for: a permission, a setting of the
    /// topic, a fault of ours.
    pub(in super::super) fn is_retriable(self) -> bool {
        matches!(
            self,
            ErrorCode::CORRUPT_MESSAGE
                | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::LEADER_NOT_AVAILABLE
                | ErrorCode::NOT_LEADER_OR_FOLLOWER
                | ErrorCode::REQUEST_TIMED_OUT
                | ErrorCode::REPLICA_NOT_AVAILABLE
                | ErrorCode::NETWORK_EXCEPTION
                | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
                | ErrorCode::COORDINATOR_NOT_AVAILABLE
                | ErrorCode::NOT_COORDINATOR
                | ErrorCode::NOT_ENOUGH_REPLICAS
                | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
                | ErrorCode::NOT_CONTROLLER
                | ErrorCode::KAFKA_STORAGE_ERROR
                | ErrorCode::LISTENER_NOT_FOUND
                | ErrorCode::FENCED_LEADER_EPOCH
                | ErrorCode::UNKNOWN_LEADER_EPOCH
                | ErrorCode::THROTTLING_QUOTA_EXCEEDED
                | ErrorCode::UNKNOWN_TOPIC_ID
                | ErrorCode::INCONSISTENT_TOPIC_ID
        )
    }

    /// What we know of the leaders is old: ask for metadata before anything is sent again. As the Java client has it.
    ///
    /// [`REBOOTSTRAP_REQUIRED`](Self::REBOOTSTRAP_REQUIRED) is among them, though no retry to the same broker helps:
    /// metadata are to come from the bootstrap servers then.
    pub(in super::super) fn wants_metadata(self) -> bool {
        matches!(
            self,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::LEADER_NOT_AVAILABLE
                | ErrorCode::NOT_LEADER_OR_FOLLOWER
                | ErrorCode::REPLICA_NOT_AVAILABLE
                | ErrorCode::NETWORK_EXCEPTION
                | ErrorCode::KAFKA_STORAGE_ERROR
                | ErrorCode::LISTENER_NOT_FOUND
                | ErrorCode::FENCED_LEADER_EPOCH
                | ErrorCode::UNKNOWN_TOPIC_ID
                | ErrorCode::INCONSISTENT_TOPIC_ID
                | ErrorCode::REBOOTSTRAP_REQUIRED
        )
    }

    /// The broker's and our idea of the producer's sequence or epoch differ, which a plain retry does not mend.
    ///
    /// [`DUPLICATE_SEQUENCE_NUMBER`](Self::DUPLICATE_SEQUENCE_NUMBER) is among them: the batch is there already, and its
    /// offset is no longer known.
    pub(in super::super) fn is_about_producer(self) -> bool {
        matches!(
            self,
            ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
                | ErrorCode::DUPLICATE_SEQUENCE_NUMBER
                | ErrorCode::INVALID_PRODUCER_EPOCH
                | ErrorCode::INVALID_PRODUCER_ID_MAPPING
                | ErrorCode::UNKNOWN_PRODUCER_ID
                | ErrorCode::PRODUCER_FENCED
        )
    }

    /// We may not write to the topic, or cannot.
    pub(in super::super) fn refuses_topic(self) -> bool {
        matches!(
            self,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED
                | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
                | ErrorCode::INVALID_TOPIC_EXCEPTION
        )
    }

    /// The batch may be in the topic all the same: the broker waited in vain for its followers, or ceased to lead
    /// meanwhile.
    pub(in super::super) fn leaves_open(self) -> bool {
        matches!(
            self,
            ErrorCode::REQUEST_TIMED_OUT
                | ErrorCode::NOT_LEADER_OR_FOLLOWER
                | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::KAFKA_STORAGE_ERROR
                | ErrorCode::NETWORK_EXCEPTION
                | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
                | ErrorCode::UNKNOWN_SERVER_ERROR
        )
    }

    /// The batch is over what the topic takes; its parts may not be.
    pub(in super::super) fn is_too_large(self) -> bool {
        matches!(self, ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {}", self.0),
        }
    }
}
