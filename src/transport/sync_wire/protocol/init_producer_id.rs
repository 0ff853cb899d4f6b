//! Who we are to the brokers, for idempotence.

use super::reader::Reader;
use super::{Api, ErrorCode, Malformed};

/// The answer to InitProducerId.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct InitProducerId {
    pub(in super::super) error: ErrorCode,
    /// -1 with an error.
    pub(in super::super) producer_id: i64,
    /// -1 with an error.
    pub(in super::super) epoch: i16,
    pub(in super::super) throttle_ms: i32,
}

impl InitProducerId {
    /// Reads the answer to a request of `version`.
    pub(in super::super) fn decode(frame: &[u8], version: i16) -> Result<InitProducerId, Malformed> {
        let mut reader = Reader::answer(frame, Api::InitProducerId.is_flexible(version))?;
        let throttle_ms = reader.i32("InitProducerId: its throttle time")?;
        let error = ErrorCode(reader.i16("InitProducerId: its error code")?);
        let producer_id = reader.i64("InitProducerId: the producer's id")?;
        let epoch = reader.i16("InitProducerId: the producer's epoch")?;
        reader.tagged_fields("InitProducerId: its tagged fields")?;
        if error == ErrorCode::NONE && (producer_id < 0 || epoch < 0) {
            return Err(Malformed("InitProducerId: neither an error nor a producer id and epoch"));
        }
        Ok(InitProducerId { error, producer_id, epoch, throttle_ms })
    }
}
