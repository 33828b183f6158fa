//! The codecs of compressed containers.

use std::fmt;
use std::str::FromStr;

use flate2::{Compress, Compression, FlushCompress, Status};

use crate::error::{Error, Kind, Result};

/// How clusters are compressed, and how hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Raw deflate with a window of 4 KiB, as QEMU writes and reads it. Levels 1 to 9.
    Zlib {
        /// 1 fast to 9 small.
        level: u8,
    },
    /// Zstandard. Levels 1 to 19.
    Zstd {
        /// 1 fast to 19 small.
        level: u8,
    },
}

/// The level of zlib where none is asked for.
const ZLIB_LEVEL: u8 = 6;
/// The level of zstd where none is asked for: zstd's own default.
const ZSTD_LEVEL: u8 = 3;

impl Codec {
    /// A codec by its name, at a level or at its default.
    ///
    /// # Errors
    /// [`Kind::Usage`] for another name, or a level that the codec does not have.
    pub fn new(name: &str, level: Option<u8>) -> Result<Self> {
        let (default, most) = match name {
            "zlib" => (ZLIB_LEVEL, 9),
            "zstd" => (ZSTD_LEVEL, 19),
            _ => {
                return Err(Error::new(Kind::Usage, "there is no such compression")
                    .expected("none, zlib or zstd")
                    .found(name));
            }
        };
        let level = level.unwrap_or(default);
        if level == 0 || level > most {
            return Err(Error::new(Kind::Usage, format!("{name} has no such level"))
                .expected(format!("1 to {most}"))
                .found(level));
        }
        Ok(if name == "zlib" { Self::Zlib { level } } else { Self::Zstd { level } })
    }

    /// The number that qcow2 gives it (compression_type).
    #[must_use]
    pub(super) const fn qcow2_type(self) -> u8 {
        match self {
            Self::Zlib { .. } => 0,
            Self::Zstd { .. } => 1,
        }
    }
}

/// log2 of the window QEMU inflates with (block/qcow2-threads.c). zlib cannot decode a larger one in pieces.
const WINDOW_BITS: u8 = 12;

/// Compresses clusters one by one; keeps its memory between them.
pub(super) enum Encoder {
    Zlib(Compress),
    #[cfg(feature = "zstd")]
    Zstd(zstd::bulk::Compressor<'static>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    pub(super) fn new(codec: Codec) -> Result<Self> {
        match codec {
            Codec::Zlib { level } => {
                let level = Compression::new(u32::from(level));
                Ok(Self::Zlib(Compress::new_with_window_bits(level, false, WINDOW_BITS)))
            }
            #[cfg(feature = "zstd")]
            Codec::Zstd { level } => zstd::bulk::Compressor::new(i32::from(level))
                .map(Self::Zstd)
                .map_err(|error| Error::bug("zstd does not start").because(error)),
            #[cfg(not(feature = "zstd"))]
            Codec::Zstd { .. } => Err(Error::new(Kind::Usage, "this program was built without zstd")
                .hint("take zlib, or build with the feature `zstd`")),
        }
    }

    /// Appends `bytes` compressed to `out`; `None`, and nothing appended, where that is not shorter.
    pub(super) fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>> {
        let before = out.len();
        // One byte less than the input: what does not fit is not shorter.
        let room = bytes.len().saturating_sub(1);
        out.resize(before + room, 0);
        let length = match self {
            Self::Zlib(compress) => {
                compress.reset();
                let status = compress.compress(bytes, &mut out[before..], FlushCompress::Finish);
                let done = matches!(status, Ok(Status::StreamEnd));
                done.then(|| usize::try_from(compress.total_out()).unwrap_or(0))
            }
            #[cfg(feature = "zstd")]
            Self::Zstd(compressor) => compressor.compress_to_buffer(bytes, &mut out[before..]).ok(),
        };
        out.truncate(before + length.unwrap_or(0));
        Ok(length)
    }
}

impl FromStr for Codec {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name, None)
    }
}
