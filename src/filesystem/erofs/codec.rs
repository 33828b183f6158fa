//! What compresses the chunks of files, and what reads compressed pieces.

use std::io::Read;

use lzma_rust2::LzmaReader;

use super::format::algorithm;
use super::lz4hc;
use super::{Compress, Parameters};
use crate::error::{Error, Kind, Result};
use crate::filesystem::device::damaged;
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
fn without_zstd() -> Error {
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

/// Reads a compressed piece without the zeros in front of it: fills `out` with the bytes that it begins with.
///
/// # Errors
/// [`Kind::Format`] where it is not what its algorithm makes, or shorter than `out`, and for an algorithm that is not read
/// here.
pub(super) fn decompress(number: u8, piece: &[u8], out: &mut [u8]) -> Result<()> {
    let wrong = |what: &str| damaged(format!("a compressed piece is wrong: {what}"));
    let length = match number {
        algorithm::LZ4 => lz4_part(piece, out).ok_or_else(|| wrong("it is no block of lz4"))?,
        algorithm::DEFLATE => inflate(piece, out).ok_or_else(|| wrong("it is no deflate"))?,
        #[cfg(feature = "zstd")]
        algorithm::ZSTD => unzstd(piece, out).ok_or_else(|| wrong("it is no frame of zstd"))?,
        #[cfg(not(feature = "zstd"))]
        algorithm::ZSTD => return Err(without_zstd().with_kind(Kind::Format)),
        algorithm::LZMA => unlzma(piece, out).ok_or_else(|| wrong("it is no lzma"))?,
        _ => return Err(damaged("erofs has no such compression").found(number)),
    };
    if length < out.len() {
        return Err(wrong("it is too short").expected(out.len()).found(length));
    }
    Ok(())
}

/// Bytes in the least dictionary of LZMA.
const LEAST_DICTIONARY: u32 = 4096;

/// Reads MicroLZMA as far as `out` goes: LZMA whose first byte, which is always zero, gave its place to the properties, with
/// all bits changed (liblzma, lzma/container.h, lzma_microlzma_decoder). No reference leads further back than `out`, so that
/// is the dictionary. Returns how much there was.
fn unlzma(piece: &[u8], out: &mut [u8]) -> Option<usize> {
    let (properties, rest) = piece.split_first()?;
    let length = u64_of(out.len());
    let dictionary = u32::try_from(out.len()).ok()?.max(LEAST_DICTIONARY);
    let whole = Read::chain(&[0_u8][..], rest);
    let mut reader = LzmaReader::new_with_props(whole, length, !properties, dictionary, None).ok()?;
    let mut done = 0;
    while done < out.len() {
        match reader.read(&mut out[done..]).ok()? {
            0 => break,
            more => done += more,
        }
    }
    Some(done)
}

/// Reads a block of lz4 as far as `out` goes: a piece that others share may hold more than is asked for. Returns how much
/// there was.
fn lz4_part(piece: &[u8], out: &mut [u8]) -> Option<usize> {
    let (mut at, mut done) = (0, 0);
    let length = |nibble: u8, at: &mut usize| -> Option<usize> {
        let mut sum = usize::from(nibble);
        if nibble == 15 {
            loop {
                let more = *piece.get(*at)?;
                *at += 1;
                sum += usize::from(more);
                if more < 255 {
                    break;
                }
            }
        }
        Some(sum)
    };
    while done < out.len() {
        let Some(token) = piece.get(at) else { break };
        at += 1;
        let literals = length(token >> 4, &mut at)?;
        let now = literals.min(out.len() - done);
        out[done..done + now].copy_from_slice(piece.get(at..at + now)?);
        (at, done) = (at + literals, done + now);
        if at >= piece.len() || done == out.len() {
            break;
        }
        let distance = usize::from(u16::from_le_bytes([*piece.get(at)?, *piece.get(at + 1)?]));
        at += 2;
        let found = (length(token & 15, &mut at)? + 4).min(out.len() - done);
        let from = done.checked_sub(distance).filter(|_| distance > 0)?;
        if distance >= found {
            out.copy_within(from..from + found, done);
        } else {
            for place in 0..found {
                out[done + place] = out[from + place];
            }
        }
        done += found;
    }
    Some(done)
}

/// Reads raw deflate as far as `out` goes; returns how much there was.
fn inflate(piece: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut inflater = flate2::Decompress::new(false);
    loop {
        let (read, written) = (usize_of(inflater.total_in()), usize_of(inflater.total_out()));
        let status =
            inflater.decompress(&piece[read..], &mut out[written..], flate2::FlushDecompress::None).ok()?;
        let now = usize_of(inflater.total_out());
        let still = now == written && usize_of(inflater.total_in()) == read;
        if now == out.len() || status == flate2::Status::StreamEnd {
            return Some(now);
        }
        if still {
            return None;
        }
    }
}

/// Reads a frame of zstd as far as `out` goes; returns how much there was. Its window is no larger than the kernel takes.
#[cfg(feature = "zstd")]
fn unzstd(piece: &[u8], out: &mut [u8]) -> Option<usize> {
    use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};
    let mut context = DCtx::create();
    // Z_EROFS_ZSTD_MAX_DICT_SIZE is the largest piece.
    context.set_parameter(DParameter::WindowLogMax(super::format::LARGEST_CLUSTER.trailing_zeros())).ok()?;
    let (mut input, length) = (InBuffer::around(piece), out.len());
    let mut output = OutBuffer::around(out);
    loop {
        let before = (input.pos(), output.pos());
        let left = context.decompress_stream(&mut output, &mut input).ok()?;
        if output.pos() == length || left == 0 {
            return Some(output.pos());
        }
        if before == (input.pos(), output.pos()) {
            return None;
        }
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
