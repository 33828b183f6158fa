//! What the headers of a GPT say beside its partitions, for a writer that keeps it.

use super::grow::Header;
use super::read::{Copy, copy};
use super::{ARRAY_LBA, HEADER_LBA, array_sectors};
use crate::error::Result;
use crate::image::{Patch, Slice};
use crate::table::Array;
use crate::units::{Bytes, Sectors};

/// The frame of a GPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The array of entries. Its place is known of a sound primary copy alone: the backup does not tell it.
    pub(crate) array: Array,
    /// The last sector that partitions may use.
    pub(crate) last_usable: Sectors,
    /// Whether the table takes the last sector of the disk for that of its backup.
    pub(crate) reaches_end: bool,
}

impl Frame {
    /// Bytes in the array, up to a whole sector.
    pub(crate) fn array_length(&self, sector: u64) -> Bytes {
        Sectors::new(array_sectors(self.array, sector)).bytes(sector)
    }

    /// Where the primary array begins.
    pub(crate) fn array_start(&self, sector: u64) -> Bytes {
        self.array.lba.unwrap_or(Sectors::new(ARRAY_LBA)).bytes(sector)
    }
}

/// The frame of the GPT that [`read`](super::read()) finds, with sectors of `sector` bytes.
///
/// # Errors
/// Where the disk cannot be read.
pub(crate) fn frame(disk: &Slice, sector: u64) -> Result<Option<Frame>> {
    let last = (disk.length().get() / sector).saturating_sub(1);
    for lba in [HEADER_LBA, last] {
        if !matches!(copy(disk, sector, lba)?, Copy::Good(_)) {
            continue;
        }
        let header = Header::read(disk, sector, lba)?.header;
        let is_primary = lba == HEADER_LBA;
        let elsewhere = is_primary && header.partition_entry_lba != ARRAY_LBA;
        return Ok(Some(Frame {
            array: Array {
                entries: header.number_of_partition_entries,
                lba: elsewhere.then(|| Sectors::new(header.partition_entry_lba)),
                backup: true,
            },
            last_usable: Sectors::new(header.last_usable_lba),
            reaches_end: !is_primary || header.alternate_lba == last,
        }));
    }
    Ok(None)
}

/// Changes to a sound GPT on the whole of `disk`, by which `last` becomes the last sector that partitions may use.
///
/// # Errors
/// Where the disk cannot be read.
pub(crate) fn end_at(disk: &Slice, sector: u64, last: Sectors) -> Result<Patch> {
    let mut patch = Patch::default();
    let end = (disk.length().get() / sector).saturating_sub(1);
    for (lba, label) in [(HEADER_LBA, "gpt: primary header"), (end, "gpt: backup header")] {
        let mut header = Header::read(disk, sector, lba)?;
        header.header.last_usable_lba = last.get();
        patch.put(Sectors::new(lba).bytes(sector), label, header.sealed());
    }
    Ok(patch)
}
