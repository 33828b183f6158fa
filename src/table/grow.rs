//! Fits the partition table of a disk to a longer disk, and lets its last partition take what is there.

use super::read::Table;
use super::{GRAIN, Placed, Scheme, gpt, mbr};
use crate::error::{Result, Warning};
use crate::image::{Patch, Slice};
use crate::units::{Bytes, Sectors};

/// What becomes of a table.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    /// The bytes that change.
    pub(crate) patch: Patch,
    /// The last partition.
    pub(crate) last: Option<Last>,
    /// What its owner should know.
    pub(crate) notes: Vec<Warning>,
}

/// The last partition of a disk, with its length before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Last {
    pub(crate) number: u32,
    pub(crate) offset: Bytes,
    pub(crate) from: Bytes,
    pub(crate) to: Bytes,
}

/// The changes to `table`, the table of `disk`, for a disk of `length`: the backup of a GPT moves to the end. With `extend` the
/// last partition ends at the last multiple of [`GRAIN`] that the table can give it.
///
/// # Errors
/// [`Kind::Format`](crate::error::Kind::Format) for a damaged table.
pub(crate) fn grow(disk: &Slice, table: &Table, length: Bytes, extend: bool) -> Result<Moved> {
    match table.scheme {
        Scheme::Gpt => gpt::grow(disk, table, length, extend),
        Scheme::Mbr => mbr::grow(disk, table, length, extend),
        Scheme::None => Ok(Moved::default()),
    }
}

/// The partition that ends last, and how long it becomes if it may end at `end`.
pub(super) fn last(table: &Table, end: Bytes, extend: bool) -> Option<(&Placed, Last)> {
    let data = |own: &&Placed| own.length > Bytes::ZERO && !mbr::is_extended(own);
    let own = table.partitions.iter().filter(data).max_by_key(|own| own.end())?;
    let end = if extend { end.round_down(GRAIN).max(own.end()) } else { own.end() };
    let to = end.saturating_sub(own.offset);
    Some((own, Last { number: own.number, offset: own.offset, from: own.length, to }))
}

/// The last sector of a partition.
pub(super) fn last_sector(last: &Last, sector: u64) -> Sectors {
    Sectors::new((last.offset + last.to).get() / sector).saturating_sub(Sectors::new(1))
}
