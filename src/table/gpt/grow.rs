//! Moves the backup of a GPT to the end of a longer disk.

use super::HEADER_LBA;
use super::read::{Copy, copy};
use crate::error::{Error, Kind, Result};
use crate::image::Slice;
use crate::table::format::{GptEntry, GptHeader};
use crate::table::grow::{Moved, last, last_sector};
use crate::table::hybrid;
use crate::table::read::{Table, sectors};
use crate::units::{Bytes, Sectors, index};
use crate::wire::{Field, Wire, field};

const ENDING: Field = field(GptEntry::FIELDS, "EndingLBA");

/// A header with the sector that holds it, whose other bytes stay.
pub(super) struct Header {
    pub(super) header: GptHeader,
    sector: Vec<u8>,
}

impl Header {
    pub(super) fn read(disk: &Slice, sector: u64, lba: u64) -> Result<Self> {
        let bytes = sectors(disk, lba, sector, sector)?;
        Ok(Self { header: GptHeader::read(&bytes)?, sector: bytes })
    }

    /// The sector, with the checksum of the header.
    pub(super) fn sealed(&self) -> Vec<u8> {
        let mut bytes = self.sector.clone();
        let mut header = GptHeader { header_crc32: 0, ..self.header.clone() };
        header.write_to(&mut bytes);
        let covered = index(header.header_size).clamp(GptHeader::LENGTH, bytes.len());
        header.header_crc32 = crc32fast::hash(&bytes[..covered]);
        header.write_to(&mut bytes);
        bytes
    }

    /// Sectors of the array of entries.
    fn array_sectors(&self, sector: u64) -> u64 {
        self.array_length().div_ceil(sector)
    }

    fn array_length(&self) -> u64 {
        u64::from(self.header.number_of_partition_entries) * u64::from(self.header.size_of_partition_entry)
    }
}

/// The changes for a disk of `length`; see [`crate::table::grow()`].
pub(in crate::table) fn grow(disk: &Slice, table: &Table, length: Bytes, extend: bool) -> Result<Moved> {
    let sector = table.sector_size;
    check(disk, sector)?;
    let mut primary = Header::read(disk, sector, HEADER_LBA)?;
    let at = |lba: u64| Sectors::new(lba).bytes(sector);
    let (before, count) = (primary.header.alternate_lba, primary.array_sectors(sector));
    let end_lba = (length.get() / sector).saturating_sub(1);
    let array = end_lba.saturating_sub(count);
    let usable = array.saturating_sub(1);
    let mut moved = Moved::default();
    let found = last(table, at(array), extend);
    if let Some((own, _)) = found.filter(|(own, _)| own.end() > at(array)) {
        return Err(Error::new(Kind::Format, "a partition lies where the backup of the GPT belongs")
            .expected(format!("an end at or before {}", at(array).in_full()))
            .found(format!("partition {} ends at {}", own.number, own.end().in_full())));
    }
    let own = found.map(|(_, last)| last);
    let mut entries = sectors(disk, primary.header.partition_entry_lba, sector, primary.array_length())?;
    if let Some(last) = own.filter(|last| last.to > last.from) {
        let start = index(last.number - 1) * index(primary.header.size_of_partition_entry) + ENDING.offset;
        let place = entries.get_mut(start..start + ENDING.length);
        let place = place.ok_or_else(|| Error::bug("the last partition has no entry"))?;
        place.copy_from_slice(&last_sector(&last, sector).get().to_le_bytes());
    }
    moved.last = own;
    let header = &mut primary.header;
    header.alternate_lba = end_lba;
    header.last_usable_lba = usable;
    header.partition_entry_array_crc32 = crc32fast::hash(&entries);
    let sealed = primary.sealed();
    if sealed == sectors(disk, HEADER_LBA, sector, sector)? && is_good(disk, sector, end_lba)? {
        return Ok(moved);
    }
    if before != end_lba {
        forget(disk, table, before, &mut moved)?;
    }
    let backup = Header {
        header: GptHeader {
            my_lba: end_lba,
            alternate_lba: HEADER_LBA,
            partition_entry_lba: array,
            ..primary.header.clone()
        },
        sector: primary.sector.clone(),
    };
    moved.patch.put(at(HEADER_LBA), "gpt: primary header", sealed);
    moved.patch.put(at(primary.header.partition_entry_lba), "gpt: primary entries", entries.clone());
    moved.patch.put(at(array), "gpt: backup entries", entries);
    moved.patch.put(at(end_lba), "gpt: backup header", backup.sealed());
    hybrid::grow(disk, table, end_lba, own.as_ref(), &mut moved)?;
    Ok(moved)
}

/// Whether there is a sound header in sector `lba`.
fn is_good(disk: &Slice, sector: u64, lba: u64) -> Result<bool> {
    Ok(matches!(copy(disk, sector, lba)?, Copy::Good(_)))
}

/// Refuses a table about which its two copies do not agree.
fn check(disk: &Slice, sector: u64) -> Result<()> {
    let end = (disk.length().get() / sector).saturating_sub(1);
    let hint = "repair it first (gdisk or sgdisk), or resize the disk alone";
    let table = match copy(disk, sector, HEADER_LBA)? {
        Copy::Good(table) => table,
        Copy::Damaged(why) => {
            return Err(Error::new(Kind::Format, "the primary GPT is damaged").why(why).hint(hint));
        }
        Copy::Absent => return Err(Error::new(Kind::Format, "there is no primary GPT").hint(hint)),
    };
    match copy(disk, sector, end)? {
        Copy::Good(other) if other.partitions != table.partitions || other.guid != table.guid => {
            Err(Error::new(Kind::Format, "the backup GPT differs from the primary one").hint(hint))
        }
        _ => Ok(()),
    }
}

/// Clears the old backup with header `lba`, unless a partition lies there.
fn forget(disk: &Slice, table: &Table, lba: u64, moved: &mut Moved) -> Result<()> {
    let sector = table.sector_size;
    if lba <= HEADER_LBA || !is_good(disk, sector, lba)? {
        return Ok(());
    }
    let old = Header::read(disk, sector, lba)?;
    let at = |lba: u64| Sectors::new(lba).bytes(sector);
    let (array, count) = (old.header.partition_entry_lba, old.array_sectors(sector));
    for (start, end) in [(lba, lba + 1), (array, array.saturating_add(count))] {
        let (start, end) = (at(start), at(end));
        let meets = |own: &crate::table::Placed| own.offset < end && start < own.end();
        if start >= table.first_usable.bytes(sector)
            && end <= disk.length()
            && !table.partitions.iter().any(meets)
        {
            moved.patch.zero(start, end);
        }
    }
    Ok(())
}
