//! What compresses the chunks of files.

use super::format::algorithm;
use super::lz4hc;
use super::{Compress, Parameters};
use crate::error::{Error, Kind, Result};
use crate::units::{u64_of, usize_of};

/// How data is compressed, and how hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    Lz4,
    Lz4hc(u8),
    Zstd(u8),
}

impl Codec {
    /// The number of what reads it.
    pub(super) const fn algorithm(self) -> u8 {
        match self {
            Self::Lz4 | Self::Lz4hc(_) => algorithm::LZ4,
            Self::Zstd(_) => algorithm::ZSTD,
        }
    }

    /// What the options ask for; `None` for no compression.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for a level that there is not.
    pub(super) fn new(compress: Compress, level: Option<u8>) -> Result<Option<Self>> {
        let (most, codec): (u8, fn(u8) -> Self) = match compress {
            Compress::None | Compress::Lz4 => {
                return match level {
                    None if compress == Compress::None => Ok(None),
                    None => Ok(Some(Self::Lz4)),
                    Some(level) => Err(Error::new(Kind::Manifest, "this compression has no levels")
                        .about("level")
                        .expected("a level with lz4hc or zstd only")
                        .found(level)),
                };
            }
            Compress::Lz4hc => (12, Self::Lz4hc),
            Compress::Zstd => (19, Self::Zstd),
        };
        let level = level.unwrap_or(if compress == Compress::Zstd { 3 } else { 9 });
        if !(1..=most).contains(&level) {
            return Err(Error::new(Kind::Manifest, "the compression has no such level")
                .about("level")
                .expected(format!("1 to {most} with {compress}"))
                .found(level));
        }
        Ok(Some(codec(level)))
    }

    /// The most memory of an encoder for chunks of `chunk` bytes, with its output. Those of zstd by
    /// ZSTD_estimateCCtxSize of its levels for inputs of that size, rounded up.
    pub(super) const fn memory(self, chunk: u64) -> u64 {
        let tables = match self {
            Self::Lz4 => 64 << 10,
            Self::Lz4hc(_) => lz4hc::memory(chunk),
            Self::Zstd(level) => (1 << 20) + chunk * if level < 5 { 4 } else { 18 },
        };
        tables + chunk + chunk / 128 + 1024
    }
}

/// Compresses chunks one by one; keeps its memory between them.
pub(super) enum Encoder {
    Lz4,
    Lz4hc(Box<lz4hc::Encoder>),
    #[cfg(feature = "zstd")]
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    pub(super) fn new(codec: Codec) -> Result<Self> {
        match codec {
            Codec::Lz4 => Ok(Self::Lz4),
            Codec::Lz4hc(level) => Ok(Self::Lz4hc(Box::new(lz4hc::Encoder::new(level)))),
            #[cfg(feature = "zstd")]
            Codec::Zstd(level) => zstd::bulk::Compressor::new(level.into())
                .map(|compressor| Self::Zstd(Box::new(compressor)))
                .map_err(|error| Error::bug("zstd has no encoder of this level").because(error)),
            #[cfg(not(feature = "zstd"))]
            Codec::Zstd(_) => Err(without_zstd()),
        }
    }

    /// Replaces `out` by `input` in compressed form: one frame with its length in it, or one block.
    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        match self {
            Self::Lz4 => {
                out.resize(lz4_flex::block::get_maximum_output_size(input.len()), 0);
                let length = lz4_flex::block::compress_into(input, out)
                    .map_err(|error| Error::bug("lz4 needs more space than it says").because(error))?;
                out.truncate(length);
                Ok(())
            }
            Self::Lz4hc(encoder) => encoder.block(input, out),
            #[cfg(feature = "zstd")]
            Self::Zstd(encoder) => {
                out.reserve(zstd::zstd_safe::compress_bound(input.len()));
                encoder
                    .compress_to_buffer(input, out)
                    .map(|_| ())
                    .map_err(|error| Error::bug("zstd cannot compress").because(error))
            }
        }
    }
}

#[cfg(not(feature = "zstd"))]
pub(super) fn without_zstd() -> Error {
    Error::new(Kind::Usage, "this build cannot compress or read zstd")
        .hint("build diskwright with its feature zstd")
}

/// Refuses what this build has no encoder for.
pub(super) fn check(options: &Parameters) -> Result<()> {
    match options.codec {
        Some(codec) => Encoder::new(codec).map(|_| ()),
        None => Ok(()),
    }
}

/// The piece behind the zeros in front of it, which fill it up to whole blocks.
pub(super) fn without_zeros(bytes: &[u8], block: u64) -> &[u8] {
    let zeros = bytes.iter().take(usize_of(block)).take_while(|byte| **byte == 0).count();
    &bytes[zeros..]
}

/// How many blocks a piece of `length` bytes takes.
pub(super) const fn blocks(length: usize, block: u64) -> u64 {
    u64_of(length).div_ceil(block)
}
