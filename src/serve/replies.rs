//! Replies to requests, simple or in chunks.

use super::exports::Export;
use super::format::{Chunk, DataChunk, ErrorHead, Extent, HoleChunk, STATE_HOLE, SimpleReply, chunk, errno};
use super::session::{Only, Range, cut};
use crate::units::{narrow, u64_of};
use crate::wire::Wire;

/// The id of base:allocation in every conversation.
pub(super) const CONTEXT: u32 = 1;

/// The most extents in one reply, 32 KiB of them. A client asks again after the last one.
const MOST: usize = 4096;

/// Bytes of a structured reply before the data of a read.
pub(super) const BEFORE_DATA: usize = Chunk::LENGTH + DataChunk::LENGTH;

/// An answer without data.
pub(super) fn error(structured: bool, cookie: u64, error: u32, text: &str, out: &mut Vec<u8>) {
    if structured {
        let text = cut(text);
        let head = ErrorHead { error, length: u16::try_from(text.len()).unwrap_or_default() }.bytes();
        put_chunk(chunk::DONE, chunk::ERROR, cookie, &[&head, text.as_bytes()], out);
    } else {
        out.extend_from_slice(&SimpleReply { error, cookie, ..SimpleReply::BLANK }.bytes());
    }
}

/// The end of a structured reply whose bytes at `offset` cannot be read.
pub(super) fn error_at(cookie: u64, offset: u64, text: &str, out: &mut Vec<u8>) {
    let text = cut(text);
    let head = ErrorHead { error: errno::IO, length: u16::try_from(text.len()).unwrap_or_default() }.bytes();
    let parts: [&[u8]; 3] = [&head, text.as_bytes(), &offset.to_be_bytes()];
    put_chunk(chunk::DONE, chunk::ERROR_OFFSET, cookie, &parts, out);
}

/// The header of a simple reply to a read.
pub(super) fn simple(cookie: u64) -> impl AsRef<[u8]> {
    SimpleReply { cookie, ..SimpleReply::BLANK }.bytes()
}

/// What stands before `length` bytes of data at `offset`.
pub(super) fn data(last: bool, cookie: u64, offset: u64, length: usize) -> [u8; BEFORE_DATA] {
    let mut bytes = [0; BEFORE_DATA];
    let payload = u32::try_from(DataChunk::LENGTH + length).unwrap_or_default();
    let head =
        Chunk { flags: done(last), kind: chunk::DATA, cookie, length: payload, ..Chunk::BLANK }.bytes();
    let (front, back) = bytes.split_at_mut(Chunk::LENGTH);
    front.copy_from_slice(&head);
    back.copy_from_slice(&DataChunk { offset }.bytes());
    bytes
}

/// The end of a structured reply that has all its data.
pub(super) fn end(cookie: u64, out: &mut Vec<u8>) {
    put_chunk(chunk::DONE, chunk::NONE, cookie, &[], out);
}

/// A range of zeros that is not sent.
pub(super) fn hole(last: bool, cookie: u64, offset: u64, length: u32, out: &mut Vec<u8>) {
    let payload = HoleChunk { offset, length }.bytes();
    put_chunk(done(last), chunk::HOLE, cookie, &[&payload], out);
}

/// The extents of a range of the export.
pub(super) fn status(export: &Export, range: &Range, only: Only, out: &mut Vec<u8>) {
    let end = range.offset.saturating_add(range.length.into());
    let most = if only == Only::First { 1 } else { MOST };
    let mut payload = CONTEXT.to_be_bytes().to_vec();
    for extent in export.extents(range.offset, end).take(most) {
        // No longer than the request, whose length has 32 bits.
        let length = narrow(extent.length, "an extent").unwrap_or(range.length);
        let flags = if extent.hole { STATE_HOLE } else { 0 };
        payload.extend_from_slice(&Extent { length, flags }.bytes());
    }
    put_chunk(chunk::DONE, chunk::BLOCK_STATUS, range.cookie, &[&payload], out);
}

const fn done(last: bool) -> u16 {
    if last { chunk::DONE } else { chunk::NONE }
}

fn put_chunk(flags: u16, kind: u16, cookie: u64, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: u64 = parts.iter().map(|part| u64_of(part.len())).sum();
    let length = u32::try_from(length).unwrap_or_default();
    out.extend_from_slice(&Chunk { flags, kind, cookie, length, ..Chunk::BLANK }.bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}
