//! The codecs of compressed containers.

use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::deflate::Deflater;
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, MIB, u64_of, usize_of};

/// The codec that compresses clusters, with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Raw deflate with a window of 4 KiB, as QEMU writes and reads it. Levels 1 to 9.
    Zlib(ZlibLevel),
    /// Zstandard. Levels 1 to 19.
    Zstd(ZstdLevel),
}

/// The level of a codec: from 1, fast, to `MOST`, small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level<const MOST: u8>(u8);

/// The level of zlib.
pub type ZlibLevel = Level<9>;
/// The level of zstd. Levels above 19 need an unexpected amount of memory.
pub type ZstdLevel = Level<19>;

impl<const MOST: u8> Level<MOST> {
    /// Level `level`.
    ///
    /// # Errors
    /// [`Kind::Usage`] about `level` for a level that the codec does not have.
    pub fn new(level: u8) -> Result<Self> {
        if level == 0 || level > MOST {
            return Err(Error::new(Kind::Usage, "the compression has no such level")
                .about("level")
                .expected(format!("1 to {MOST}"))
                .found(level));
        }
        Ok(Self(level))
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for ZlibLevel {
    /// zlib's own default.
    fn default() -> Self {
        Self(6)
    }
}

impl Default for ZstdLevel {
    /// zstd's own default.
    fn default() -> Self {
        Self(3)
    }
}

impl Codec {
    /// Its number in qcow2 (compression_type).
    #[must_use]
    pub(super) const fn qcow2_type(self) -> u8 {
        match self {
            Self::Zlib(_) => 0,
            Self::Zstd(_) => 1,
        }
    }

    /// The memory of a thread that compresses clusters of this size: buffers and stack, and a multiple of the
    /// cluster for the tables of the encoder. It was measured as the growth of the program from one thread to
    /// eight.
    pub(crate) fn memory(self, cluster: u64) -> Bytes {
        let times = match self {
            Self::Zlib(_) => 2,
            Self::Zstd(level) => match level.get() {
                0..=4 => 2,
                5 => 3,
                6..=10 => 7,
                11..=12 => 12,
                _ => 18,
            },
        };
        Bytes::new(MIB + MIB / 4 + times * cluster)
    }
}

/// Clusters of up to 64 KiB at the default level get a hash table of half of zstd's size, which fits a faster
/// cache. It takes 3.6 % less time for 0.03 % more bytes, measured on the programs and libraries of a Debian
/// system.
#[cfg(feature = "zstd")]
const SMALL_HASH: zstd::zstd_safe::CParameter = zstd::zstd_safe::CParameter::HashLog(15);
#[cfg(feature = "zstd")]
const SMALL_CLUSTER: u64 = 64 << 10;

/// Compresses clusters one by one, and keeps its memory between them.
pub(crate) struct Encoder(Inner);

enum Inner {
    Zlib(Box<Deflater>),
    #[cfg(feature = "zstd")]
    Zstd(zstd::bulk::Compressor<'static>),
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

impl Encoder {
    /// For clusters of `cluster` bytes.
    #[cfg_attr(
        not(feature = "zstd"),
        expect(unused_variables, reason = "zlib takes clusters of any size alike")
    )]
    pub(crate) fn new(codec: Codec, cluster: u64) -> Result<Self> {
        match codec {
            Codec::Zlib(level) => Ok(Self(Inner::Zlib(Box::new(Deflater::new(level.get()))))),
            #[cfg(feature = "zstd")]
            Codec::Zstd(level) => {
                let failed = |error| Error::bug("zstd does not start").because(error);
                let mut compressor = zstd::bulk::Compressor::new(i32::from(level.get())).map_err(failed)?;
                if level == ZstdLevel::default() && cluster <= SMALL_CLUSTER {
                    compressor.set_parameter(SMALL_HASH).map_err(failed)?;
                }
                Ok(Self(Inner::Zstd(compressor)))
            }
            #[cfg(not(feature = "zstd"))]
            Codec::Zstd(_) => Err(Error::new(Kind::Usage, "this program was built without zstd")
                .hint("take zlib, or build with the feature `zstd`")),
        }
    }

    /// Appends `bytes` compressed to `out`. If that is not shorter, it appends nothing and returns `None`.
    pub(crate) fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<usize>> {
        let before = out.len();
        let length = match &mut self.0 {
            Inner::Zlib(deflater) => {
                out.resize(before + bytes.len(), 0);
                deflater.deflate(bytes, &mut out[before..])
            }
            #[cfg(feature = "zstd")]
            Inner::Zstd(compressor) => {
                out.resize(before + zstd::zstd_safe::compress_bound(bytes.len()), 0);
                let length = compressor
                    .compress_to_buffer(bytes, &mut out[before..])
                    .map_err(|error| Error::bug("zstd cannot compress").because(error))?;
                Some(length)
            }
        };
        let length = length.filter(|length| *length < bytes.len());
        out.truncate(before + length.unwrap_or(0));
        Ok(length)
    }
}

/// Appends `bytes` as one stream to `out` and returns its length.
fn deflate(compress: &mut Compress, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize> {
    let before = out.len();
    // Space for a stream that is longer than its bytes. If zlib-rs 0.6 gives up a stream for lack of space,
    // its reset does not restore its state, and the next such stream panics.
    out.resize(before + deflate_bound(bytes.len()), 0);
    compress.reset();
    match compress.compress(bytes, &mut out[before..], FlushCompress::Finish) {
        Ok(Status::StreamEnd) => {
            let length = usize_of(compress.total_out());
            out.truncate(before + length);
            Ok(length)
        }
        other => Err(Error::bug(format!("deflate did not end its stream: {other:?}"))),
    }
}

/// Makes a zlib stream (RFC 1950, with header and checksum) of each piece, for formats that store only such
/// streams.
pub(crate) struct ZlibEncoder {
    compress: Compress,
    stored: Compress,
}

impl fmt::Debug for ZlibEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ZlibEncoder")
    }
}

impl ZlibEncoder {
    /// Compresses at `level`.
    pub(crate) fn new(level: ZlibLevel) -> Self {
        let level = Compression::new(u32::from(level.get()));
        Self { compress: Compress::new(level, true), stored: Compress::new(Compression::none(), true) }
    }

    /// Appends the stream of `bytes` to `out`. Bytes that would become longer are stored in it, which costs 5
    /// bytes for each 65,535 and 6 for the stream (RFC 1951, 3.2.4).
    pub(crate) fn encode(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize> {
        let before = out.len();
        let length = deflate(&mut self.compress, bytes, out)?;
        if length < bytes.len() {
            return Ok(length);
        }
        out.truncate(before);
        deflate(&mut self.stored, bytes, out)
    }
}

/// The largest number of bytes that deflate makes of `length` bytes, for any window and memory (zlib,
/// deflateBound: the "conservative" bound for parameters other than the default).
const fn deflate_bound(length: usize) -> usize {
    length + length.div_ceil(8) + length.div_ceil(64) + 16
}

/// How the clusters of an image are decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    /// Raw deflate.
    Deflate,
    /// zlib: deflate with header and checksum.
    Zlib,
    /// Zstandard.
    Zstd,
}

impl Decoder {
    /// The decoder for a qcow2 compression_type.
    pub(super) const fn of_qcow2(kind: u8) -> Option<Self> {
        match kind {
            0 => Some(Self::Deflate),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// What compresses for it, at the usual level.
    pub(super) fn codec(self) -> Codec {
        match self {
            Self::Deflate | Self::Zlib => Codec::Zlib(Level::default()),
            Self::Zstd => Codec::Zstd(Level::default()),
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Deflate | Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }

    /// Fills `out` completely from the stream at the start of `bytes`. The bytes after the stream are
    /// padding.
    ///
    /// # Errors
    /// The reason why it cannot.
    pub(super) fn decode(self, bytes: &[u8], out: &mut [u8]) -> Result<(), String> {
        match self {
            Self::Deflate | Self::Zlib => {
                // A window of 15 bits can also read streams of tools that did not limit themselves to QEMU's
                // 12.
                let mut inflate = if self == Self::Zlib {
                    Decompress::new(true)
                } else {
                    Decompress::new_with_window_bits(false, 15)
                };
                inflate.decompress(bytes, out, FlushDecompress::Finish).map_err(|error| error.to_string())?;
                full(u64_of(out.len()), inflate.total_out())
            }
            #[cfg(feature = "zstd")]
            Self::Zstd => {
                use zstd::stream::raw::{InBuffer, Operation, OutBuffer};
                let mut decoder = zstd::stream::raw::Decoder::new().map_err(|error| error.to_string())?;
                let length = u64_of(out.len());
                let mut input = InBuffer::around(bytes);
                let mut output = OutBuffer::around(out);
                while u64_of(output.pos()) < length {
                    let before = (input.pos(), output.pos());
                    decoder.run(&mut input, &mut output).map_err(|error| error.to_string())?;
                    if (input.pos(), output.pos()) == before {
                        break;
                    }
                }
                full(length, u64_of(output.pos()))
            }
            #[cfg(not(feature = "zstd"))]
            Self::Zstd => Err("this program was built without zstd".to_owned()),
        }
    }
}

/// Decompresses one whole zlib stream into `out` and returns the number of bytes. The bytes after the stream
/// are padding.
///
/// # Errors
/// A stream that is damaged, does not end in `bytes`, or gives more than `out` can hold.
pub(crate) fn inflate_whole(bytes: &[u8], out: &mut [u8]) -> Result<usize, String> {
    let mut inflate = Decompress::new(true);
    match inflate.decompress(bytes, out, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) => Ok(usize_of(inflate.total_out())),
        Ok(_) if inflate.total_out() == u64_of(out.len()) => {
            Err(format!("the stream gives more than {} bytes, or is cut", out.len()))
        }
        Ok(_) => Err(format!("the stream is cut after {} bytes", inflate.total_out())),
        Err(error) => Err(error.to_string()),
    }
}

/// Decompresses whole frames of zstd into `out` and returns how many bytes they gave. Nothing follows them.
///
/// # Errors
/// Frames that are damaged, do not end with `bytes`, or give more than `out` holds.
#[cfg_attr(not(feature = "zstd"), expect(unused_variables, reason = "there is no zstd"))]
pub(crate) fn unzstd_whole(bytes: &[u8], out: &mut [u8]) -> Result<usize, String> {
    #[cfg(feature = "zstd")]
    {
        // In one step, which needs no window: what is far back is in `out`.
        let mut decompressor = zstd::bulk::Decompressor::new().map_err(|error| error.to_string())?;
        decompressor.decompress_to_buffer(bytes, out).map_err(|error| error.to_string())
    }
    #[cfg(not(feature = "zstd"))]
    Err("this program was built without zstd".to_owned())
}

/// Whether a stream gave all expected bytes.
fn full(expected: u64, found: u64) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("the stream ends after {found} of {expected} bytes")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_decodes_and_what_does_not_shrink_is_not_encoded() {
        let text: Vec<u8> =
            (0..65536_u32).flat_map(|number| (number % 251).to_le_bytes()).take(65536).collect();
        let mut noise = Vec::new();
        let mut state = 1_u64;
        while noise.len() < 65536 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            noise.extend((state >> 33).to_le_bytes().iter().take(4));
        }
        let (zlib, zstd) = (Codec::Zlib(Level::default()), Codec::Zstd(Level::default()));
        let there = |codec| cfg!(feature = "zstd") || !matches!(codec, Codec::Zstd(_));
        for (codec, decoder) in
            [(zlib, Decoder::Deflate), (zstd, Decoder::Zstd)].into_iter().filter(|(codec, _)| there(*codec))
        {
            let mut encoder = Encoder::new(codec, 65536).unwrap();
            let mut out = b"before".to_vec();
            let length = encoder.encode(&text, &mut out).unwrap().unwrap();
            assert_eq!(out.len(), 6 + length);
            // Several times, because streams without enough space have broken an encoder for good.
            for _ in 0..20 {
                assert_eq!(encoder.encode(&noise, &mut out).unwrap(), None);
                assert_eq!(out.len(), 6 + length);
            }
            assert_eq!(encoder.encode(&text, &mut out).unwrap(), Some(length));
            out.truncate(6 + length);
            let mut back = vec![0xd1; 65536];
            out.extend([0xaa; 500]);
            decoder.decode(&out[6..], &mut back).unwrap();
            assert!(back == text);
            assert!(decoder.decode(&out[6..6 + length / 2], &mut back).is_err());
            assert!(decoder.decode(&noise, &mut back).is_err());
        }
        let (mut zlib, mut out) = (ZlibEncoder::new(Level::new(1).unwrap()), Vec::new());
        for bytes in [&text, &noise, &noise, &text] {
            out.clear();
            let length = zlib.encode(&bytes[..65536], &mut out).unwrap();
            assert_eq!(length, out.len());
            assert!(length <= 65536 + 16, "{length}");
            let mut back = vec![0xd1; 65540];
            assert_eq!(inflate_whole(&out, &mut back), Ok(65536));
            assert!(back[..65536] == bytes[..65536]);
            inflate_whole(&out, &mut back[..65535]).unwrap_err();
            inflate_whole(&out[..length - 1], &mut back).unwrap_err();
        }
    }
}
