//! Reads compressed pieces, whole or as far as they are meant.
//!
//! The stream of a piece that is meant as a whole ends with the piece and with the bytes of the file. A decoder that stops once its output is full takes damage that changes where a stream ends. The readers of the format
//! refuse it wherever they know that all of a piece is meant (z_erofs_decompress of erofs-utils, fs/erofs/decompressor*.c of
//! Linux).

use std::io::Read;

use lzma_rust2::LzmaReader;

use super::map::LONGEST;
use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
#[cfg(not(feature = "zstd"))]
use crate::filesystem::erofs::codec::without_zstd;
use crate::filesystem::erofs::format::algorithm;
use crate::units::{u64_of, usize_of};

/// Bytes that are read at a time of what is behind the beginning of a piece.
#[cfg(feature = "zstd")]
const REST: u64 = 64 << 10;
/// Bytes of the least dictionary of LZMA.
const LEAST_DICTIONARY: u32 = 4096;
/// Bytes at the end of a block of lz4 that are no part of a match (LASTLITERALS, lz4.c).
const LAST_LITERALS: usize = 5;
/// How far from the end the last match begins at the latest (MFLIMIT, lz4.c).
const MATCH_LIMIT: usize = 12;
/// Bytes of a distance, of a token, and of the last literals: less input than this has no other sequence behind it.
const LAST_SEQUENCE: usize = 2 + 1 + LAST_LITERALS;

/// Reads a compressed piece without the zeros in front of it, which gives exactly the bytes of `out`.
///
/// # Errors
/// As the decoder of parts, and [`Kind::Format`](crate::error::Kind::Format) where the stream does not end with the piece or
/// with `out`.
pub(super) fn decompress(number: u8, piece: &[u8], out: &mut [u8]) -> Result<()> {
    let whole = match number {
        algorithm::LZ4 => {
            decompress_part(number, piece, out)?;
            ends(piece, out.len())
        }
        algorithm::DEFLATE => inflate(piece, out),
        #[cfg(feature = "zstd")]
        algorithm::ZSTD => unzstd(piece, out, false),
        algorithm::LZMA => unlzma(piece, out),
        _ => return decompress_part(number, piece, out),
    };
    whole.ok_or_else(wrong)
}

/// As [`decompress`] for a piece of which only the beginning is meant. Of zstd all of it is read: so does fsck.erofs, which
/// cannot stop in a frame (z_erofs_decompress_zstd, erofs-utils).
///
/// # Errors
/// As [`decompress`].
pub(super) fn decompress_beginning(number: u8, piece: &[u8], out: &mut [u8]) -> Result<()> {
    #[cfg(feature = "zstd")]
    if number == algorithm::ZSTD {
        return unzstd(piece, out, true).ok_or_else(wrong);
    }
    // A reference that leads over the end of what is meant is no fault, so the decoder is not told where that is.
    if number == algorithm::LZMA {
        let mut reader = lzma(piece, out.len(), LONGEST).ok_or_else(wrong)?;
        return reader.read_exact(out).map_err(|_| wrong());
    }
    decompress_part(number, piece, out)
}

/// Fills `out` with the bytes that a piece begins with, whatever follows in it.
fn decompress_part(number: u8, piece: &[u8], out: &mut [u8]) -> Result<()> {
    let wrong = |what: &str| damaged(format!("a compressed piece is wrong: {what}"));
    let length = match number {
        algorithm::LZ4 => lz4_part(piece, out).ok_or_else(|| wrong("it is no block of lz4"))?,
        algorithm::DEFLATE => inflate_beginning(piece, out).ok_or_else(|| wrong("it is no deflate"))?,
        #[cfg(not(feature = "zstd"))]
        algorithm::ZSTD => return Err(without_zstd().with_kind(crate::error::Kind::Format)),
        _ => return Err(damaged("erofs has no such compression").found(number)),
    };
    if length < out.len() {
        return Err(wrong("it is too short").expected(out.len()).found(length));
    }
    Ok(())
}

fn wrong() -> Error {
    damaged("a compressed piece does not give the bytes that it should, and end with them")
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

/// Whether a block of lz4 ends with its input and gives `length` bytes, by the rules of LZ4_decompress_safe: a sequence that
/// comes near an end is the last one, and has no match.
fn ends(piece: &[u8], length: usize) -> Option<()> {
    let run = |nibble: u8, at: &mut usize| -> Option<usize> {
        let mut sum = usize::from(nibble);
        let mut more = if nibble == 15 { u8::MAX } else { 0 };
        while more == u8::MAX {
            more = *piece.get(*at)?;
            *at += 1;
            sum += usize::from(more);
        }
        Some(sum)
    };
    let (mut at, mut done) = (0, 0);
    loop {
        let token = *piece.get(at)?;
        at += 1;
        let literals = run(token >> 4, &mut at)?;
        (at, done) = (at + literals, done + literals);
        if at + LAST_SEQUENCE > piece.len() || done + MATCH_LIMIT > length {
            return (at == piece.len() && done == length).then_some(());
        }
        at += 2;
        done += run(token & 15, &mut at)? + 4;
        if done + LAST_LITERALS > length {
            return None;
        }
    }
}

/// Reads raw deflate as far as `out` goes; returns how much there was.
fn inflate_beginning(piece: &[u8], out: &mut [u8]) -> Option<usize> {
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

/// Reads raw deflate, whose last block ends with `out`.
fn inflate(piece: &[u8], out: &mut [u8]) -> Option<()> {
    let mut inflater = flate2::Decompress::new(false);
    let status = inflater.decompress(piece, out, flate2::FlushDecompress::Finish).ok()?;
    (status == flate2::Status::StreamEnd && inflater.total_out() == u64_of(out.len())).then_some(())
}

/// Reads one frame of zstd, which is all of the piece and tells its length: that of `out`, or more where only the beginning
/// is meant. Its window is no larger than the kernel takes.
#[cfg(feature = "zstd")]
fn unzstd(piece: &[u8], out: &mut [u8], beginning: bool) -> Option<()> {
    use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, get_frame_content_size};
    let length = u64_of(out.len());
    // fsck.erofs asks the frame for its length before it reads it.
    let told = get_frame_content_size(piece).ok()??;
    if told < length || told > if beginning { LONGEST } else { length } {
        return None;
    }
    let mut context = DCtx::create();
    let window = crate::filesystem::erofs::format::LARGEST_CLUSTER.trailing_zeros();
    context.set_parameter(DParameter::WindowLogMax(window)).ok()?;
    let mut input = InBuffer::around(piece);
    let mut rest = vec![0; usize_of((told - length).min(REST))];
    let (mut output, mut behind) = (OutBuffer::around(out), 0);
    loop {
        let before = (input.pos(), output.pos(), behind);
        // The end of a frame, with its checksum, is behind its last byte.
        let left = if u64_of(output.pos()) < length || rest.is_empty() {
            context.decompress_stream(&mut output, &mut input).ok()?
        } else {
            let mut unwanted = OutBuffer::around(&mut rest[..]);
            let left = context.decompress_stream(&mut unwanted, &mut input).ok()?;
            behind += u64_of(unwanted.pos());
            left
        };
        if left == 0 {
            let whole = u64_of(output.pos()) + behind == told && input.pos() == piece.len();
            return whole.then_some(());
        }
        if before == (input.pos(), output.pos(), behind) {
            return None;
        }
    }
}

/// A reader of `length` bytes of MicroLZMA. Its first byte, which is always zero, gave its place to the properties, with all
/// bits changed. No reference of the bytes that are meant leads further back than these, so they are the dictionary.
fn lzma(piece: &[u8], meant: usize, length: u64) -> Option<LzmaReader<impl Read>> {
    let (properties, rest) = piece.split_first()?;
    let dictionary = u32::try_from(meant).ok()?.max(LEAST_DICTIONARY);
    let whole = Read::chain(&[0_u8][..], rest);
    LzmaReader::new_with_props(whole, length, !properties, dictionary, None).ok()
}

/// Reads MicroLZMA, whose coder ends with the piece and with `out` (liblzma, lzma_microlzma_decoder with an exact size).
fn unlzma(piece: &[u8], out: &mut [u8]) -> Option<()> {
    let mut reader = lzma(piece, out.len(), u64_of(out.len()))?;
    reader.set_relaxed_end_condition(false);
    reader.read_exact(out).ok()?;
    // What the reader took in advance, and what it did not take.
    let (mut input, unused) = reader.into_parts();
    let behind = input.read(&mut [0]).ok()?;
    (unused.is_empty() && behind == 0).then_some(())
}
