//! The records of a batch made small, in the framing that Kafka's own clients read.

use std::fmt;

use flate2::{Compress, Crc, FlushCompress, Status};
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

use crate::config::Compression;

/// Whether this build can compress so; who asks for what it cannot is refused before there is a client.
#[cfg(test)]
pub(super) fn available(compression: Compression) -> bool {
    match compression {
        Compression::Zstd => cfg!(feature = "zstd"),
        Compression::None | Compression::Gzip | Compression::Snappy | Compression::Lz4 => true,
    }
}

/// What stands in the attributes of a batch.
pub(super) fn attribute(compression: Compression) -> i16 {
    match compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    }
}

/// A compressor that gave up: not for what the records say, but for the build or the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

/// The compressors with their working memory, each made when it is first needed.
#[derive(Default)]
pub(super) struct Compressor {
    gzip: Option<Compress>,
    snappy: Option<snap::raw::Encoder>,
    lz4: Option<CompressTable>,
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

impl Compressor {
    /// Appends `records` to `out`.
    pub(super) fn compress(
        &mut self,
        compression: Compression,
        records: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Failed> {
        match compression {
            Compression::None => {
                out.extend_from_slice(records);
                Ok(())
            }
            Compression::Gzip => self.gzip(records, out),
            Compression::Snappy => self.snappy(records, out),
            Compression::Lz4 => self.lz4(records, out),
            Compression::Zstd => self.zstd(records, out),
        }
    }

    fn gzip(&mut self, records: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        /// No name, no time, an unknown system.
        const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

        let gzip = self.gzip.get_or_insert_with(|| Compress::new(flate2::Compression::default(), false));
        gzip.reset();
        out.extend_from_slice(&HEADER);
        loop {
            let read = gzip.total_in() as usize;
            let left = records.get(read..).unwrap_or_default();
            // Log records shrink to a fifth or less; what more is needed comes in the next round.
            out.reserve(left.len() / 4 + 4096);
            match gzip.compress_vec(left, out, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => break,
                Ok(Status::Ok | Status::BufError) => {}
                Err(error) => return Err(failed("gzip", error)),
            }
        }
        let mut crc = Crc::new();
        crc.update(records);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&crc.amount().to_le_bytes());
        Ok(())
    }

    /// Snappy in the framing of the Java library, which Kafka's own clients write.
    fn snappy(&mut self, records: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        /// The magic bytes, the version and the oldest version that can read it.
        const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
        /// As in the Java library.
        const BLOCK: usize = 32 * 1024;

        let snappy = self.snappy.get_or_insert_with(snap::raw::Encoder::new);
        out.extend_from_slice(&HEADER);
        for block in records.chunks(BLOCK) {
            let length_at = out.len();
            let most = snap::raw::max_compress_len(block.len());
            out.resize(length_at + 4 + most, 0);
            let written = snappy.compress(block, &mut out[length_at + 4..]).map_err(|error| failed("snappy", error))?;
            out[length_at..length_at + 4].copy_from_slice(&(written as u32).to_be_bytes());
            out.truncate(length_at + 4 + written);
        }
        Ok(())
    }

    /// An LZ4 frame of independent blocks, the only ones that Kafka reads.
    fn lz4(&mut self, records: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        /// The magic bytes; version 1, independent blocks, no checksums of the content; blocks of 64 KiB at most; the
        /// checksum of these two bytes.
        const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
        const BLOCK: usize = 64 * 1024;
        /// In a block's length: it is not compressed.
        const AS_IT_IS: u32 = 1 << 31;

        let table = self.lz4.get_or_insert_with(CompressTable::large);
        out.extend_from_slice(&HEADER);
        for block in records.chunks(BLOCK) {
            let length_at = out.len();
            out.resize(length_at + 4 + get_maximum_output_size(block.len()), 0);
            let written = compress_into_with_table(block, &mut out[length_at + 4..], table)
                .map_err(|error| failed("lz4", error))?;
            let length = if written < block.len() {
                out.truncate(length_at + 4 + written);
                written as u32
            } else {
                out.truncate(length_at + 4);
                out.extend_from_slice(block);
                block.len() as u32 | AS_IT_IS
            };
            out[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        }
        // The end mark.
        out.extend_from_slice(&[0; 4]);
        Ok(())
    }

    #[cfg(feature = "zstd")]
    fn zstd(&mut self, records: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            empty => {
                let made = zstd::bulk::Compressor::new(zstd::DEFAULT_COMPRESSION_LEVEL);
                empty.insert(made.map_err(|error| failed("zstd", error))?)
            }
        };
        let start = out.len();
        out.resize(start + zstd::zstd_safe::compress_bound(records.len()), 0);
        let written = zstd.compress_to_buffer(records, &mut out[start..]).map_err(|error| failed("zstd", error))?;
        out.truncate(start + written);
        Ok(())
    }

    #[cfg(not(feature = "zstd"))]
    fn zstd(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), Failed> {
        Err(Failed("zstd is not in this build: it comes with the Cargo feature `zstd`".into()))
    }
}

fn failed(name: &str, error: impl fmt::Display) -> Failed {
    Failed(format!("{name} failed to compress a batch: {error}"))
}
