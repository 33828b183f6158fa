//! The sparse image of Android (platform/system/core, libsparse/sparse_format.h): a header, and chunks of whole blocks.
//!
//! What no segment covers is filled with zeros and not left alone: a device that is flashed has other data there.

use crate::error::Result;
use crate::image::{Builder, Image};
use crate::units::{Bytes, narrow};

/// Bytes in a block, as with img2simg.
pub(super) const BLOCK: u64 = 4096;

const MAGIC: u32 = 0xed26_ff3a;
const FILE_HEADER: u16 = 28;
const CHUNK_HEADER: u16 = 12;
const RAW: u16 = 0xcac1;
const FILL: u16 = 0xcac2;
/// The most blocks of one raw chunk, 64 MiB: libsparse cuts an image at chunks that fit in a device's buffer.
const MOST: u64 = 64 * 256;

/// A run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u64,
    end: u64,
    data: bool,
}

/// The sparse image of a disk.
pub(super) fn wrap(image: &Image) -> Result<Image> {
    let blocks = image.length().get().div_ceil(BLOCK);
    let runs = runs(image, blocks);
    let chunk = |run: &Run| match run.data {
        true => u64::from(CHUNK_HEADER) + (run.end - run.start) * BLOCK,
        false => u64::from(CHUNK_HEADER) + 4,
    };
    let length = u64::from(FILE_HEADER) + runs.iter().map(chunk).sum::<u64>();
    let mut wrapped = Builder::new(Bytes::new(length));
    let mut header = MAGIC.to_le_bytes().to_vec();
    for half in [1, 0, FILE_HEADER, CHUNK_HEADER] {
        header.extend(half.to_le_bytes());
    }
    let count = narrow::<u32>(runs.len(), "the number of chunks")?;
    for word in [narrow(BLOCK, "a block")?, narrow::<u32>(blocks, "the number of blocks")?, count, 0] {
        header.extend(word.to_le_bytes());
    }
    wrapped.bytes(Bytes::ZERO, "sparse header", header);
    let mut at = u64::from(FILE_HEADER);
    for run in &runs {
        let (kind, length) = (if run.data { RAW } else { FILL }, chunk(run));
        let mut bytes = [kind.to_le_bytes(), [0, 0]].concat();
        bytes.extend(narrow::<u32>(run.end - run.start, "the blocks of a chunk")?.to_le_bytes());
        bytes.extend(narrow::<u32>(length, "the length of a chunk")?.to_le_bytes());
        if !run.data {
            bytes.extend([0; 4]);
        }
        wrapped.bytes(Bytes::new(at), "chunk header", bytes);
        if run.data {
            let slice = image.slice(Bytes::new(run.start * BLOCK), Bytes::new(run.end * BLOCK));
            wrapped.put(Bytes::new(at + u64::from(CHUNK_HEADER)), &slice);
        }
        at += length;
    }
    wrapped.finish()
}

/// Runs of blocks with data and without.
fn runs(image: &Image, blocks: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut push = |start: u64, end: u64, data: bool| match runs.last_mut() {
        _ if start == end => {}
        Some(last) if last.data == data && (!data || end - last.start <= MOST) => last.end = end,
        _ => runs.push(Run { start, end, data }),
    };
    let mut at = 0;
    for segment in image.segments() {
        let first = (segment.offset.get() / BLOCK).max(at);
        let end = segment.end().get().div_ceil(BLOCK);
        push(at, first, false);
        let mut from = first;
        while from < end {
            let to = end.min(from + MOST);
            push(from, to, true);
            from = to;
        }
        at = at.max(end);
    }
    push(at, blocks, false);
    runs
}
