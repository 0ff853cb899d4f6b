//! What is said to a broker and what it answers: the frames, without any I/O.
//!
//! Requests come from the codec, but Produce, which carries batches that nobody copies. Answers are read by a bounded
//! reader of our own: the codec reserves memory for counts as the peer states them.

mod api_versions;
mod error_code;
mod init_producer_id;
mod metadata;
mod produce;
mod reader;
mod request;
mod sasl;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;

pub(super) use self::api_versions::ApiVersions;
pub(super) use self::error_code::ErrorCode;
pub(super) use self::init_producer_id::InitProducerId;
pub(super) use self::metadata::{Broker, Metadata};
pub(super) use self::produce::{Produce, Produced, Topic, produce};
pub(super) use self::reader::Malformed;
pub(super) use self::request::{api_versions, init_producer_id, metadata, sasl_authenticate, sasl_handshake};
pub(super) use self::sasl::{SaslAuthenticate, SaslHandshake};

/// What we ask a broker for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::enum_variant_names, reason = "the protocol calls one of them ApiVersions")]
pub(super) enum Api {
    Produce,
    Metadata,
    SaslHandshake,
    ApiVersions,
    InitProducerId,
    SaslAuthenticate,
}

impl Api {
    /// All of them.
    #[cfg(test)]
    pub(super) const ALL: [Api; 6] =
        [Api::Produce, Api::Metadata, Api::SaslHandshake, Api::ApiVersions, Api::InitProducerId, Api::SaslAuthenticate];

    /// Its number in the protocol.
    pub(super) fn key(self) -> i16 {
        match self {
            Api::Produce => 0,
            Api::Metadata => 3,
            Api::SaslHandshake => 17,
            Api::ApiVersions => 18,
            Api::InitProducerId => 22,
            Api::SaslAuthenticate => 36,
        }
    }

    /// The versions that we speak. The lowest are those of Kafka 0.11.
    ///
    /// SaslHandshake 0 is left out: after it the tokens go without a frame. A broker that knows ApiVersions at all answers
    /// the highest of these; if it is over the broker's own, in version 0 and with
    /// [`UNSUPPORTED_VERSION`](ErrorCode::UNSUPPORTED_VERSION), which [`ApiVersions::decode`] reads too.
    pub(super) fn versions(self) -> RangeInclusive<i16> {
        match self {
            Api::Produce => 3..=13,
            Api::Metadata => 4..=13,
            Api::SaslHandshake => 1..=1,
            Api::ApiVersions => 0..=3,
            Api::InitProducerId => 0..=5,
            Api::SaslAuthenticate => 0..=2,
        }
    }

    /// From this version on the API has compact lengths and tagged fields.
    fn first_flexible(self) -> i16 {
        match self {
            Api::Produce | Api::Metadata => 9,
            Api::SaslHandshake => i16::MAX,
            Api::ApiVersions => 3,
            Api::InitProducerId | Api::SaslAuthenticate => 2,
        }
    }

    fn is_flexible(self, version: i16) -> bool {
        version >= self.first_flexible()
    }
}

/// The correlation id of an answer: the first thing in its frame, whatever it answers.
pub(super) fn correlation_id(frame: &[u8]) -> Result<i32, Malformed> {
    reader::Reader::new(frame).i32("the frame ends within its correlation id")
}
