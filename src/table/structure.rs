//! Names the structure of a partition table that a byte of a disk belongs to.

use super::format::{BootRecord, EXTENDED, GptEntry, GptHeader, PartitionRecord, RECORD_AT};
use super::gpt::HEADER_LBA;
use super::read::Table;
use super::{Scheme, mbr};
use crate::error::Result;
use crate::image::Slice;
use crate::units::{Bytes, Sectors, u64_of};
use crate::wire::{Field, Wire, field, named};

const RECORDS: Field = field(BootRecord::FIELDS, "PartitionRecord");

/// The name of the structure of `table` at byte `at` of its disk; `None` for what is outside of it.
///
/// # Errors
/// Where the disk cannot be read.
pub(crate) fn structure(disk: &Slice, table: &Table, at: u64) -> Result<Option<String>> {
    if at < mbr::SECTOR {
        let name = if table.scheme == Scheme::Gpt { "the protective MBR" } else { "the MBR" };
        return Ok(Some(format!("{name}, {}", in_record(at))));
    }
    match table.scheme {
        Scheme::Gpt => in_gpt(disk, table, at),
        _ => in_chain(disk, table, at),
    }
}

/// The part of the sector of a boot record.
fn in_record(within: u64) -> String {
    let Some(own) = within.checked_sub(RECORD_AT) else { return "its boot code".to_owned() };
    match own.checked_sub(u64_of(RECORDS.offset)).filter(|own| *own < u64_of(RECORDS.length)) {
        Some(own) => {
            let length = u64_of(PartitionRecord::LENGTH);
            format!("record {}, {}", own / length + 1, named(PartitionRecord::FIELDS, own % length))
        }
        None => named(BootRecord::FIELDS, own),
    }
}

/// The part of a GPT, or of its backup.
fn in_gpt(disk: &Slice, table: &Table, at: u64) -> Result<Option<String>> {
    let sector = table.sector_size;
    let last = (disk.length().get() / sector).saturating_sub(1);
    for (lba, copy) in [(HEADER_LBA, ""), (last, "backup ")] {
        let start = Sectors::new(lba).bytes(sector).get();
        if let Some(within) = at.checked_sub(start).filter(|within| *within < sector) {
            return Ok(Some(format!("the {copy}GPT header, {}", named(GptHeader::FIELDS, within))));
        }
        let Ok(header) = GptHeader::read(&disk.bytes(start, GptHeader::LENGTH)?) else { continue };
        let width = u64::from(header.size_of_partition_entry).max(1);
        let length = u64::from(header.number_of_partition_entries).saturating_mul(width);
        let Some(array) = header.partition_entry_lba.checked_mul(sector) else { continue };
        if let Some(within) = at.checked_sub(array).filter(|within| *within < length) {
            let (number, field) = (within / width + 1, named(GptEntry::FIELDS, within % width));
            return Ok(Some(format!("{copy}GPT entry {number}, {field}")));
        }
    }
    Ok(None)
}

/// The part of an extended boot record.
fn in_chain(disk: &Slice, table: &Table, at: u64) -> Result<Option<String>> {
    let Some(extended) = table.partitions.iter().find(|own| own.kind.is_extended()) else { return Ok(None) };
    let mut next = extended.offset;
    for _ in 0..mbr::read::MOST_LOGICAL {
        if let Some(within) = at.checked_sub(next.get()).filter(|within| *within < mbr::SECTOR) {
            let number = next.get() / mbr::SECTOR;
            return Ok(Some(format!("the extended boot record in sector {number}, {}", in_record(within))));
        }
        let bytes = disk.bytes(next.get().saturating_add(RECORD_AT), BootRecord::LENGTH)?;
        let Ok(record) = BootRecord::read(&bytes) else { break };
        let [_, link, ..] = &record.partition_record;
        if !EXTENDED.contains(&link.os_type) || link.starting_lba == 0 {
            break;
        }
        next = extended.offset + Bytes::new(u64::from(link.starting_lba) * mbr::SECTOR);
    }
    Ok(None)
}
