//! Which versions a broker speaks.

use super::reader::{Read, Reader};
use super::{Api, ErrorCode, Malformed};

/// The answer to ApiVersions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct ApiVersions {
    pub(in super::super) error: ErrorCode,
    pub(in super::super) ranges: Vec<Range>,
    pub(in super::super) throttle_ms: i32,
}

/// The versions of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Range {
    pub(in super::super) key: i16,
    pub(in super::super) min: i16,
    pub(in super::super) max: i16,
}

impl ApiVersions {
    /// Reads the answer to a request of `version`.
    ///
    /// A broker that does not know that version answers in version 0 with
    /// [`UNSUPPORTED_VERSION`](ErrorCode::UNSUPPORTED_VERSION), and says there, since Kafka 2.4, which versions of
    /// ApiVersions it knows. That is read too; the next request can then be of version 0.
    pub(in super::super) fn decode(frame: &[u8], version: i16) -> Result<ApiVersions, Malformed> {
        let flexible = Api::ApiVersions.is_flexible(version);
        let mut reader = Reader::answer_of_api_versions(frame, flexible)?;
        let error = ErrorCode(reader.i16("ApiVersions: its error code")?);
        if error == ErrorCode::UNSUPPORTED_VERSION {
            let mut reader = Reader::answer_of_api_versions(frame, false)?;
            reader.i16("ApiVersions: its error code")?;
            // The error says enough, whatever the encoding of the rest.
            let ranges = ranges(&mut reader).unwrap_or_default();
            return Ok(ApiVersions { error, ranges, throttle_ms: 0 });
        }
        let ranges = ranges(&mut reader)?;
        let throttle_ms = if version >= 1 { reader.i32("ApiVersions: its throttle time")? } else { 0 };
        reader.tagged_fields("ApiVersions: its tagged fields")?;
        Ok(ApiVersions { error, ranges, throttle_ms })
    }

    /// The highest version that the broker and we both speak.
    pub(in super::super) fn best(&self, api: Api) -> Option<i16> {
        let range = self.range_of(api.key())?;
        let ours = api.versions();
        let best = range.max.min(*ours.end());
        (best >= range.min && best >= *ours.start()).then_some(best)
    }

    /// What the broker says of an API, by its number: also of one that we do not use ourselves.
    ///
    /// A broker whose Produce ends below 3 is older than 0.11.
    pub(in super::super) fn range_of(&self, key: i16) -> Option<Range> {
        self.ranges.iter().copied().find(|range| range.key == key)
    }
}

fn ranges(reader: &mut Reader<'_>) -> Read<Vec<Range>> {
    let count = reader.count(6, "ApiVersions: the number of APIs")?;
    let mut ranges = Vec::with_capacity(count);
    for _ in 0..count {
        ranges.push(Range {
            key: reader.i16("ApiVersions: the key of an API")?,
            min: reader.i16("ApiVersions: the lowest version of an API")?,
            max: reader.i16("ApiVersions: the highest version of an API")?,
        });
        reader.tagged_fields("ApiVersions: the tagged fields of an API")?;
    }
    Ok(ranges)
}
