//! Reads answers without trust: no length is believed before it was held against the bytes that are there.

use std::fmt;

/// An answer that breaks the protocol, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Malformed(pub(in super::super) &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a malformed answer: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

pub(super) type Read<T> = Result<T, Malformed>;

/// What is left of a frame. Each method says with its last argument what it reads, in words for [`Malformed`].
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// Whether lengths are compact and structures end in tagged fields.
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// A reader of the classic encoding.
    pub(super) fn new(frame: &'a [u8]) -> Reader<'a> {
        Reader { rest: frame, flexible: false }
    }

    /// Reads the header of an answer. Its tagged fields are those of header version 1.
    pub(super) fn answer(frame: &'a [u8], flexible: bool) -> Read<Reader<'a>> {
        let mut reader = Reader { rest: frame, flexible };
        reader.i32("the frame ends within its correlation id")?;
        reader.tagged_fields("the header's tagged fields")?;
        Ok(reader)
    }

    /// The same for ApiVersions, whose header never has tagged fields: who asks does not know the broker yet.
    pub(super) fn answer_of_api_versions(frame: &'a [u8], flexible: bool) -> Read<Reader<'a>> {
        let mut reader = Reader::new(frame);
        reader.i32("the frame ends within its correlation id")?;
        reader.flexible = flexible;
        Ok(reader)
    }

    pub(super) fn i8(&mut self, what: &'static str) -> Read<i8> {
        self.array(what).map(i8::from_be_bytes)
    }

    pub(super) fn i16(&mut self, what: &'static str) -> Read<i16> {
        self.array(what).map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self, what: &'static str) -> Read<i32> {
        self.array(what).map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self, what: &'static str) -> Read<i64> {
        self.array(what).map(i64::from_be_bytes)
    }

    pub(super) fn uuid(&mut self, what: &'static str) -> Read<[u8; 16]> {
        self.array(what)
    }

    pub(super) fn string(&mut self, what: &'static str) -> Read<&'a str> {
        self.nullable_string(what)?.ok_or(Malformed(what))
    }

    pub(super) fn nullable_string(&mut self, what: &'static str) -> Read<Option<&'a str>> {
        let length = if self.flexible { self.compact_length(what)? } else { length(self.i16(what)?.into(), what)? };
        let Some(length) = length else { return Ok(None) };
        std::str::from_utf8(self.take(length, what)?).map(Some).map_err(|_| Malformed(what))
    }

    /// Null counts as empty.
    pub(super) fn bytes(&mut self, what: &'static str) -> Read<&'a [u8]> {
        let length = if self.flexible { self.compact_length(what)? } else { length(self.i32(what)?, what)? };
        self.take(length.unwrap_or(0), what)
    }

    /// How many items follow; null counts as none. `smallest` is the least number of bytes that one takes, so that who
    /// reserves memory for the count reserves a multiple of what came, at most.
    pub(super) fn count(&mut self, smallest: usize, what: &'static str) -> Read<usize> {
        let count = if self.flexible { self.compact_length(what)? } else { length(self.i32(what)?, what)? };
        let count = count.unwrap_or(0);
        match count.checked_mul(smallest) {
            Some(least) if least <= self.rest.len() => Ok(count),
            _ => Err(Malformed(what)),
        }
    }

    /// Skips an array of 32-bit numbers.
    pub(super) fn skip_i32s(&mut self, what: &'static str) -> Read<()> {
        let count = self.count(4, what)?;
        self.take(count * 4, what).map(drop)
    }

    /// Skips the tagged fields at the end of a structure, where the encoding has them. None of them says anything that we
    /// need.
    pub(super) fn tagged_fields(&mut self, what: &'static str) -> Read<()> {
        if !self.flexible {
            return Ok(());
        }
        // Each takes two bytes at least, so the loop ends with the frame at the latest.
        for _ in 0..self.varint(what)? {
            self.varint(what)?;
            let length = self.varint(what)?;
            self.take(length as usize, what)?;
        }
        Ok(())
    }

    /// The compact length: one more than the number, 0 for null.
    fn compact_length(&mut self, what: &'static str) -> Read<Option<usize>> {
        Ok(self.varint(what)?.checked_sub(1).map(|length| length as usize))
    }

    fn varint(&mut self, what: &'static str) -> Read<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array(what)?;
            // Of the fifth byte four bits have room.
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a variable-length number over 32 bits"))
    }

    fn take(&mut self, length: usize, what: &'static str) -> Read<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Read<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Malformed(what))?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// A classic length: -1 for null.
fn length(length: i32, what: &'static str) -> Read<Option<usize>> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| Malformed(what)),
    }
}
