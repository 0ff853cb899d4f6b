//! [`DeliveryError`]: why one record did not arrive.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use log::Level;

/// Why one record was not delivered, and what it was.
///
/// Given to whoever awaits the record, and to the callback of `on_delivery_error`.
#[derive(Clone)]
#[non_exhaustive]
pub struct DeliveryError {
    pub(crate) kind: DeliveryErrorKind,
    pub(crate) possibly_delivered: bool,
    pub(crate) topic: Arc<str>,
    pub(crate) level: Level,
    pub(crate) target: Option<Box<str>>,
    pub(crate) payload: Vec<u8>,
    pub(crate) original_bytes: Option<u64>,
    pub(crate) cause: Arc<str>,
}

/// The classes of [`DeliveryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryErrorKind {
    /// Its level is not taken, so nothing was counted.
    Filtered,
    /// There is no global logger yet: `init` was not called.
    NotInitialised,
    /// It was not handed to the client, or given up with it.
    Dropped(DropReason),
    /// The delivery timeout passed without an acknowledgement.
    TimedOut,
    /// A broker, or the client, refused it.
    Rejected,
    /// The logger had been shut down.
    Closed,
}

/// Why a record goes no further; the counts of [`Dropped`](crate::Dropped) have the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropReason {
    /// The queue was full, or an older record made room for a newer one.
    QueueFull,
    /// The payload is larger than [`max_record_bytes`](crate::Config::max_record_bytes).
    Oversize,
    /// A thread of the logger's own emitted it.
    Recursive,
    /// The logger had been shut down.
    Closed,
    /// Still without an outcome when `shutdown` ran out of time.
    Shutdown,
    /// An argument's `Display` panicked.
    Format,
    /// It was in the spool, and could not be read back whole.
    Damaged,
}

impl DropReason {
    /// Of several reasons the same record cannot have another.
    pub(crate) fn kind(self) -> DeliveryErrorKind {
        match self {
            DropReason::Closed => DeliveryErrorKind::Closed,
            reason => DeliveryErrorKind::Dropped(reason),
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            DropReason::QueueFull => "the queue is full",
            DropReason::Oversize => "the payload is larger than `max_record_bytes`",
            DropReason::Recursive => "a thread of the logger's own emitted it",
            DropReason::Closed => "the logger has been shut down",
            DropReason::Shutdown => "the shutdown ran out of time",
            DropReason::Damaged => "the spool could not read it back whole",
            DropReason::Format => "an argument's `Display` panicked",
        }
    }
}

impl DeliveryError {
    /// The error of a record that no logger has seen.
    pub(crate) fn nothing(level: Level, target: Option<&str>) -> DeliveryError {
        DeliveryError {
            kind: DeliveryErrorKind::NotInitialised,
            possibly_delivered: false,
            topic: "".into(),
            level,
            target: target.map(Box::from),
            payload: Vec::new(),
            original_bytes: None,
            cause: "there is no global logger: `kafka_log::init` was not called".into(),
        }
    }

    /// The class of the error.
    pub fn kind(&self) -> DeliveryErrorKind {
        self.kind
    }

    /// Whether the record may be in the topic all the same: it was sent, and its acknowledgement did not come.
    ///
    /// Where the client does not tell, as librdkafka for records that timed out, this is `true`.
    pub fn possibly_delivered(&self) -> bool {
        self.possibly_delivered
    }

    /// The topic it was for; empty where no logger has taken it.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The record's level; ERROR for a critical one, and for one that was damaged in the spool and that nobody awaits.
    pub fn level(&self) -> Level {
        self.level
    }

    /// The record's target; none for the direct methods of a logger, for one that was damaged in the spool and that nobody
    /// awaits, and for one of an earlier process that had no callback.
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// The payload as it was to be sent, or nothing where it was not written, is lost with a client that was given up, or was
    /// damaged in the spool.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// How large the payload would have been, in bytes, if it had not been cut to
    /// [`max_record_bytes`](crate::Config::max_record_bytes); none where it is whole.
    ///
    /// What was cut off the message counts without its escapes, and what is far over the limit not to its end.
    pub fn original_bytes(&self) -> Option<u64> {
        self.original_bytes
    }

    /// What went wrong, in words.
    pub fn cause(&self) -> &str {
        &self.cause
    }
}

impl fmt::Display for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a record was not delivered: {}", self.cause)?;
        if self.possibly_delivered { f.write_str(" (it may have arrived all the same)") } else { Ok(()) }
    }
}

/// Without the payload, which may be large and is the application's own business.
impl fmt::Debug for DeliveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryError")
            .field("kind", &self.kind)
            .field("possibly_delivered", &self.possibly_delivered)
            .field("topic", &self.topic)
            .field("level", &self.level)
            .field("target", &self.target)
            .field("payload_bytes", &self.payload.len())
            .field("original_bytes", &self.original_bytes)
            .field("cause", &self.cause)
            .finish()
    }
}

impl Error for DeliveryError {}
