//! How blocks are compressed, each by itself.

use std::fmt;

use crate::container::codec::{self, Level, ZlibEncoder};
use crate::error::{Error, Result};
use crate::units::{index, narrow, u64_of};

/// How the contents of files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Not at all.
    Off,
    /// LZ4.
    Lz4,
    /// Zstandard, levels 1 to 19.
    Zstd(u8),
    /// zlib, levels 1 to 9.
    Gzip(u8),
    /// Runs of zeros.
    Zle,
}

impl Compression {
    /// Its number in block pointers (zio.h, enum zio_compress).
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Off => 2,
            Self::Gzip(level) => 4 + level,
            Self::Zle => 14,
            Self::Lz4 => 15,
            Self::Zstd(_) => 16,
        }
    }

    /// Its number in the property `compression`, with the level of zstd (zio_compress.h, ZIO_COMPLEVEL_ZSTD).
    pub(super) fn property(self) -> u64 {
        let level = match self {
            Self::Zstd(level) => u64::from(level) << 7,
            _ => 0,
        };
        u64::from(self.number()) | level
    }
}

/// The version of zstd in the head of a block (module/zstd/include/zstd.h, 1.4.5 of OpenZFS 2.0 to 2.4), which says how
/// the block would be made again.
#[cfg(feature = "zstd")]
const ZSTD_VERSION: u32 = 10_405;
/// The magic number of a frame, which OpenZFS leaves out (ZSTD_f_zstd1_magicless; RFC 8878, 3.1.1), and its bytes.
const ZSTD_MAGIC_NUMBER: u32 = 0xfd2f_b528;
#[cfg(feature = "zstd")]
const ZSTD_MAGIC: usize = 4;

/// Compresses blocks one by one; keeps its memory between them.
pub(super) enum Encoder {
    Off,
    Lz4,
    Gzip(Box<ZlibEncoder>),
    Zle,
    #[cfg(feature = "zstd")]
    Zstd {
        level: u8,
        compressor: Box<zstd::bulk::Compressor<'static>>,
    },
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// # Errors
    /// [`Kind::Usage`](crate::error::Kind::Usage) for a level that there is not, and where the program was built without
    /// zstd.
    pub(super) fn new(compression: Compression) -> Result<Self> {
        Ok(match compression {
            Compression::Off => Self::Off,
            Compression::Lz4 => Self::Lz4,
            Compression::Zle => Self::Zle,
            Compression::Gzip(level) => Self::Gzip(Box::new(ZlibEncoder::new(Level::new(level)?))),
            #[cfg(feature = "zstd")]
            Compression::Zstd(level) => {
                let failed = |error| Error::bug("zstd does not start").because(error);
                let mut compressor = zstd::bulk::Compressor::new(i32::from(level)).map_err(failed)?;
                // As OpenZFS has its frames: a block's length is in its pointer, and its checksum too.
                let parameter = zstd::zstd_safe::CParameter::ContentSizeFlag(false);
                compressor.set_parameter(parameter).map_err(failed)?;
                Self::Zstd { level, compressor: Box::new(compressor) }
            }
            #[cfg(not(feature = "zstd"))]
            Compression::Zstd(_) => {
                return Err(Error::new(crate::error::Kind::Usage, "this program was built without zstd")
                    .hint("take lz4, or build with the feature `zstd`"));
            }
        })
    }

    /// Appends `bytes` compressed to `out`, and says whether it did: without compression, and for what zle does not make
    /// smaller, it appends nothing. The result may be longer than `bytes`.
    pub(super) fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let before = out.len();
        match self {
            Self::Off => return Ok(false),
            Self::Lz4 => {
                out.resize(before + 4 + lz4_flex::block::get_maximum_output_size(bytes.len()), 0);
                let length = lz4_flex::block::compress_into(bytes, &mut out[before + 4..])
                    .map_err(|error| Error::bug("lz4 cannot compress").because(error))?;
                out.truncate(before + 4 + length);
                // module/zfs/lz4_zfs.c: the length of the block stands before it, big-endian.
                let length: u32 = narrow(u64_of(length), "the length of a block of lz4")?;
                out[before..before + 4].copy_from_slice(&length.to_be_bytes());
            }
            Self::Gzip(encoder) => {
                encoder.encode(bytes, out)?;
            }
            Self::Zle => return Ok(zle(bytes, out)),
            #[cfg(feature = "zstd")]
            Self::Zstd { level, compressor } => {
                // The header is as long as a length and the magic number, which it replaces.
                let start = before + 4;
                out.resize(start + zstd::zstd_safe::compress_bound(bytes.len()), 0);
                let length = compressor
                    .compress_to_buffer(bytes, &mut out[start..])
                    .map_err(|error| Error::bug("zstd cannot compress").because(error))?;
                out.truncate(start + length);
                let rest = length.checked_sub(ZSTD_MAGIC);
                let rest =
                    rest.ok_or_else(|| Error::bug("a frame of zstd is shorter than its magic number"))?;
                // zfs_zstd.h, zfs_zstdhdr_t: length, version and level, both big-endian.
                let rest: u32 = narrow(u64_of(rest), "the length of a frame of zstd")?;
                out[before..start].copy_from_slice(&rest.to_be_bytes());
                let version = ZSTD_VERSION << 8 | u32::from(*level);
                out[start..start + ZSTD_MAGIC].copy_from_slice(&version.to_be_bytes());
            }
        }
        Ok(true)
    }
}

/// Bytes up to this are as many literal bytes and one more; above it, a run of zeros (module/zfs/zio_compress.c, level of
/// ZIO_COMPRESS_ZLE).
const ZLE: usize = 64;

/// Zero-length encoding (module/zfs/zle.c). Nothing is appended where that is not shorter.
fn zle(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    let before = out.len();
    let mut at = 0;
    while at < bytes.len() {
        let head = out.len();
        out.push(0);
        let code = if bytes[at] == 0 {
            let most = (at + 256 - ZLE).min(bytes.len());
            let zeros = bytes[at..most].iter().take_while(|byte| **byte == 0).count();
            at += zeros;
            zeros - 1 + ZLE
        } else {
            // Literals end at two zeros, or at one that is the last byte.
            let most = (at + ZLE).min(bytes.len());
            let start = at;
            while at + 1 < most && (bytes[at] != 0 || bytes[at + 1] != 0) {
                at += 1;
            }
            if bytes[at] != 0 {
                at += 1;
            }
            out.extend_from_slice(&bytes[start..at]);
            at - start - 1
        };
        out[head] = code.to_le_bytes()[0];
        if out.len() - before >= bytes.len() {
            out.truncate(before);
            return false;
        }
    }
    true
}

/// The `length` bytes of a block that is stored as `stored` with the compression of a number.
///
/// # Errors
/// Why it cannot be.
pub(super) fn decode(number: u8, stored: &[u8], length: usize) -> Result<Vec<u8>, String> {
    // The length of what is compressed, before it, big-endian.
    let counted = |head: usize| {
        let count = stored.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))?;
        stored.get(head..)?.get(..index(count))
    };
    let cut = || "it is cut off".to_owned();
    let mut out = vec![0; length];
    let found = match number {
        2 => {
            out.copy_from_slice(stored.get(..length).ok_or_else(cut)?);
            length
        }
        3 => return Err("lzjb is not read here".to_owned()),
        5..=13 => codec::inflate_whole(stored, &mut out)?,
        14 => unzle(stored, &mut out).ok_or_else(cut)?,
        15 => lz4_flex::block::decompress_into(counted(4).ok_or_else(cut)?, &mut out)
            .map_err(|error| error.to_string())?,
        16 => {
            let frame = counted(8).ok_or_else(cut)?;
            let frame = [&ZSTD_MAGIC_NUMBER.to_le_bytes(), frame].concat();
            codec::unzstd_whole(&frame, &mut out)?
        }
        _ => return Err(format!("no compression has the number {number}")),
    };
    if found == length { Ok(out) } else { Err(format!("it has {found} bytes, and not {length}")) }
}

/// Fills `out` from a block of zle, behind which zeros follow; how many bytes there are.
fn unzle(bytes: &[u8], out: &mut [u8]) -> Option<usize> {
    let (mut at, mut done) = (0, 0);
    while done < out.len() {
        let length = 1 + usize::from(*bytes.get(at)?);
        at += 1;
        if length <= ZLE {
            out.get_mut(done..done + length)?.copy_from_slice(bytes.get(at..at + length)?);
            at += length;
            done += length;
        } else {
            done += length - ZLE;
        }
    }
    (done == out.len()).then_some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        (0..8192_u32).flat_map(|number| (number % 251).to_le_bytes()).collect()
    }

    fn encoded(compression: Compression, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out = b"x".to_vec();
        let mut encoder = Encoder::new(compression).unwrap();
        let first = encoder.encode(bytes, &mut out).unwrap().then(|| out.split_off(1));
        let mut again = Vec::new();
        encoder.encode(bytes, &mut again).unwrap();
        assert_eq!(first.clone().unwrap_or_default(), again, "the same bytes again");
        first
    }

    #[test]
    fn blocks_have_the_heads_of_openzfs() {
        let text = text();
        assert_eq!(encoded(Compression::Off, &text), None);
        let lz4 = encoded(Compression::Lz4, &text).unwrap();
        assert_eq!(lz4[..4], u32::try_from(lz4.len() - 4).unwrap().to_be_bytes());
        assert!(lz4_flex::block::decompress(&lz4[4..], text.len()).unwrap() == text);
        let gzip = encoded(Compression::Gzip(6), &text).unwrap();
        let mut back = vec![0; text.len()];
        assert_eq!(crate::container::codec::inflate_whole(&gzip, &mut back), Ok(text.len()));
        assert!(back == text);
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn a_frame_of_zstd_has_no_magic_number() {
        let text = text();
        let block = encoded(Compression::Zstd(3), &text).unwrap();
        assert_eq!(block[..4], u32::try_from(block.len() - 8).unwrap().to_be_bytes());
        assert_eq!(block[4..8], (10_405_u32 << 8 | 3).to_be_bytes());
        let frame = [&0xfd2f_b528_u32.to_le_bytes()[..], &block[8..]].concat();
        assert!(zstd::bulk::decompress(&frame, text.len()).unwrap() == text);
    }

    #[test]
    fn blocks_come_back_with_their_padding() {
        let text = text();
        let mut all = vec![Compression::Lz4, Compression::Gzip(1), Compression::Gzip(9)];
        if cfg!(feature = "zstd") {
            all.extend([Compression::Zstd(1), Compression::Zstd(19)]);
        }
        for compression in all {
            let mut packed = encoded(compression, &text).unwrap();
            packed.resize(packed.len().next_multiple_of(4096), 0);
            assert!(decode(compression.number(), &packed, text.len()).unwrap() == text, "{compression:?}");
            for (length, count) in [(16, text.len()), (2, text.len()), (packed.len(), text.len() - 1)] {
                assert!(decode(compression.number(), &packed[..length], count).is_err(), "{compression:?}");
            }
        }
        assert!(decode(2, &text, text.len()).unwrap() == text);
        for number in [0, 1, 2, 3, 17, 127] {
            assert!(decode(number, &[0; 16], 512).is_err(), "{number}");
        }
    }

    #[test]
    fn runs_of_zeros_come_back() {
        let mut bytes = vec![0; 1000];
        bytes.extend([1; 200]);
        bytes.extend([0, 2, 0, 0, 3, 0]);
        bytes.extend([0; 300]);
        bytes.extend([4, 0]);
        let packed = encoded(Compression::Zle, &bytes).unwrap();
        assert!(decode(14, &packed, bytes.len()).unwrap() == bytes);
        assert!(decode(14, &packed, bytes.len() + 1).is_err());
        assert_eq!(encoded(Compression::Zle, &[9; 512]), None);
    }
}
