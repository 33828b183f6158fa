//! Sharing blocks of host files with the output, where its filesystem can.

use super::output::Output;
use crate::error::Result;
use crate::host::Source;
use crate::image::{Data, Segment};
use crate::units::{u64_of, usize_of};

/// The shortest range of a file for which sharing blocks is faster than a copy through the buffer.
pub(super) const SHORTEST: u64 = 64 << 10;
/// Ranges can share blocks of the host filesystem only if they begin at the start of one.
const BLOCK: u64 = 4 << 10;

/// How many bytes of `piece` can be shared with the host filesystem: whole blocks, aligned on both sides.
pub(super) fn shareable(piece: &Segment) -> Option<u64> {
    let Data::File { skip, .. } = piece.data else { return None };
    let whole = piece.length.round_down(BLOCK).get();
    (whole >= SHORTEST && piece.offset.is_multiple_of(BLOCK) && skip.is_multiple_of(BLOCK)).then_some(whole)
}

/// Shares up to `length` bytes from byte `skip` of `source` with byte `offset` of the output on. Returns how
/// many bytes were shared. Fewer or none is not an error: the rest is copied.
pub(super) fn share(
    source: &Source<'_>,
    skip: u64,
    output: &Output,
    offset: u64,
    length: u64,
) -> Result<u64> {
    let mut done = 0;
    while done < length {
        let (mut from, mut to) = (skip + done, offset + done);
        let left = usize_of(length - done);
        match rustix::fs::copy_file_range(source.file(), Some(&mut from), output.file(), Some(&mut to), left)
        {
            Ok(0) | Err(_) => break,
            Ok(count) => done += u64_of(count),
        }
    }
    source.verify()?;
    // A short count may end inside a block. The copy continues from the start of that block.
    Ok(done / BLOCK * BLOCK)
}
