//! How to prove who we are.

use super::reader::Reader;
use super::{Api, ErrorCode, Malformed};

/// The answer to SaslHandshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct SaslHandshake {
    pub(in super::super) error: ErrorCode,
    /// Those that the broker offers.
    pub(in super::super) mechanisms: Vec<String>,
}

/// The answer to SaslAuthenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct SaslAuthenticate {
    pub(in super::super) error: ErrorCode,
    pub(in super::super) error_message: Option<String>,
    /// The mechanism's next message.
    pub(in super::super) bytes: Vec<u8>,
    /// How long the session lasts, in milliseconds; 0 for as long as the connection, and before version 1.
    pub(in super::super) session_lifetime_ms: i64,
}

impl SaslHandshake {
    /// Reads the answer to a request of `version`.
    pub(in super::super) fn decode(frame: &[u8], version: i16) -> Result<SaslHandshake, Malformed> {
        let mut reader = Reader::answer(frame, Api::SaslHandshake.is_flexible(version))?;
        let error = ErrorCode(reader.i16("SaslHandshake: its error code")?);
        let count = reader.count(2, "SaslHandshake: the number of mechanisms")?;
        let mut mechanisms = Vec::with_capacity(count);
        for _ in 0..count {
            mechanisms.push(reader.string("SaslHandshake: the name of a mechanism")?.to_owned());
        }
        Ok(SaslHandshake { error, mechanisms })
    }
}

impl SaslAuthenticate {
    /// Reads the answer to a request of `version`.
    pub(in super::super) fn decode(frame: &[u8], version: i16) -> Result<SaslAuthenticate, Malformed> {
        let mut reader = Reader::answer(frame, Api::SaslAuthenticate.is_flexible(version))?;
        let error = ErrorCode(reader.i16("SaslAuthenticate: its error code")?);
        let error_message = reader.nullable_string("SaslAuthenticate: its error message")?.map(str::to_owned);
        let bytes = reader.bytes("SaslAuthenticate: the mechanism's message")?.to_vec();
        let session_lifetime_ms =
            if version >= 1 { reader.i64("SaslAuthenticate: the session's lifetime")? } else { 0 };
        reader.tagged_fields("SaslAuthenticate: its tagged fields")?;
        Ok(SaslAuthenticate { error, error_message, bytes, session_lifetime_ms })
    }
}
