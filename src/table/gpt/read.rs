//! Reads a GPT with both headers (UEFI 2.10, chapter 5).

use crate::error::Result;
use crate::image::Slice;
use crate::table::format::{GptEntry, GptHeader, name};
use crate::table::read::{SECTOR_SIZES, Table, sectors};
use crate::table::{Placed, Scheme, Type};
use crate::units::{Bytes, Sectors, index, u64_of, usize_of};
use crate::wire::Wire;

/// The largest array that is read, in bytes: 128 times what all tools write.
const MOST_ARRAY: u64 = 2 << 20;

/// What was found at the place of a header.
pub(super) enum Copy {
    Absent,
    Damaged(String),
    Good(Table),
}

/// A GPT with sectors of `sector` bytes: the primary one, or the backup if that is damaged.
pub(in crate::table) fn read(disk: &Slice, sector: u64, remarks: &mut Vec<String>) -> Result<Option<Table>> {
    let total = disk.length().get() / sector;
    let primary = copy(disk, sector, super::HEADER_LBA)?;
    let backup = if total > 2 { copy(disk, sector, total - 1)? } else { Copy::Absent };
    let (table, remark) = match (primary, backup) {
        (Copy::Absent, Copy::Absent | Copy::Damaged(_)) | (Copy::Damaged(_), Copy::Absent) => (None, None),
        (Copy::Good(table), Copy::Good(other)) => {
            let differs = table.partitions != other.partitions || table.guid != other.guid;
            (Some(table), differs.then(|| "the backup GPT differs from the primary one".to_owned()))
        }
        (Copy::Good(table), Copy::Damaged(why)) => {
            (Some(table), Some(format!("the backup GPT is damaged: {why}")))
        }
        (Copy::Good(table), Copy::Absent) => {
            (Some(table), Some("there is no backup GPT at the end of the disk".to_owned()))
        }
        (Copy::Damaged(why), Copy::Good(table)) => {
            (Some(table), Some(format!("the primary GPT is damaged, this is the backup: {why}")))
        }
        (Copy::Absent, Copy::Good(table)) => {
            (Some(table), Some("there is no primary GPT, this is the backup".to_owned()))
        }
        (Copy::Damaged(why), Copy::Damaged(_)) => (None, Some(format!("both GPTs are damaged: {why}"))),
    };
    remarks.extend(remark);
    Ok(table)
}

/// Why a disk whose MBR protects a GPT has none that can be used.
///
/// # Errors
/// Where the disk cannot be read.
pub(in crate::table) fn lost(disk: &Slice) -> Result<String> {
    for sector in SECTOR_SIZES {
        let end = (disk.length().get() / sector).saturating_sub(1);
        for (name, lba) in [("the primary one", super::HEADER_LBA), ("the backup", end)] {
            // The first sector is that of the MBR.
            if lba > 0
                && let Copy::Damaged(why) = copy(disk, sector, lba)?
            {
                return Ok(format!(
                    "the MBR protects a GPT, and {name} is damaged and the other missing: {why}"
                ));
            }
        }
    }
    Ok("the MBR protects a GPT, and the disk has none".to_owned())
}

/// Whether a GPT for sectors of `sector` bytes, whole or damaged, stands at the end of the disk.
///
/// # Errors
/// Where the disk cannot be read.
pub(crate) fn has_backup(disk: &Slice, sector: u64) -> Result<bool> {
    let total = disk.length().get() / sector;
    Ok(total > 2 && !matches!(copy(disk, sector, total - 1)?, Copy::Absent))
}

/// The GPT whose header is sector `lba`.
pub(super) fn copy(disk: &Slice, sector: u64, lba: u64) -> Result<Copy> {
    let bytes = sectors(disk, lba, sector, sector)?;
    let Ok(header) = GptHeader::read(&bytes) else { return Ok(Copy::Absent) };
    // The checksum covers the header with its own field zero.
    let unsigned = GptHeader { header_crc32: 0, ..header.clone() };
    let damaged = |why: String| Ok(Copy::Damaged(why));
    let length = index(header.header_size);
    let Some(rest) = bytes.get(GptHeader::LENGTH..length) else {
        return damaged(format!("its header claims {length} bytes"));
    };
    if crc32fast::hash(&[&unsigned.bytes(), rest].concat()) != header.header_crc32 {
        return damaged("the checksum of its header is wrong".to_owned());
    }
    if header.my_lba != lba {
        return damaged(format!("it says that it stands in sector {}", header.my_lba));
    }
    let (array, count) = (header.partition_entry_lba, u64::from(header.number_of_partition_entries));
    let width = u64::from(header.size_of_partition_entry);
    let length = count.saturating_mul(width);
    if width < u64_of(GptEntry::LENGTH) || length > MOST_ARRAY || array.checked_mul(sector).is_none() {
        return damaged(format!("it claims {count} entries of {width} bytes in sector {array}"));
    }
    let entries = sectors(disk, array, sector, length)?;
    if crc32fast::hash(&entries) != header.partition_entry_array_crc32 {
        return damaged("the checksum of its entries is wrong".to_owned());
    }
    let mut partitions = Vec::new();
    for (number, bytes) in (1..).zip(entries.chunks_exact(usize_of(width))) {
        let entry = GptEntry::read(bytes)?;
        if !entry.is_unused() {
            partitions.push(placed(sector, number, &entry));
        }
    }
    Ok(Copy::Good(Table {
        scheme: Scheme::Gpt,
        sector_size: sector,
        guid: header.disk_guid.0,
        signature: 0,
        first_usable: Sectors::new(header.first_usable_lba),
        last_usable: Sectors::new(header.last_usable_lba),
        hybrid: Vec::new(),
        partitions,
    }))
}

/// A partition. If it ends before it begins, it is empty.
fn placed(sector: u64, number: u32, entry: &GptEntry) -> Placed {
    let end = Sectors::new(entry.ending_lba) + Sectors::new(1);
    Placed {
        number,
        offset: Sectors::new(entry.starting_lba).bytes(sector),
        length: end.saturating_sub(Sectors::new(entry.starting_lba)).bytes(sector),
        kind: Type::Guid(entry.partition_type_guid.0),
        guid: entry.unique_partition_guid.0,
        label: name(&entry.partition_name),
        attributes: entry.attributes,
        active: false,
        logical: false,
        lead: Bytes::ZERO,
    }
}
