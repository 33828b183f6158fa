//! Checks what reading a VHDX does not need ([MS-VHDX], 2.2 to 2.6).

use std::sync::Arc;

use super::format::{
    DISK_ID, DISK_SIZE, FILE_PARAMETERS, FileParameters, HAS_PARENT, HEADER, HEADER_CHECKSUM, HEADERS,
    Header, ITEM_DISK, ITEM_REQUIRED, LEAVE_ALLOCATED, LOGICAL_SECTOR, METADATA_TABLE, MetadataEntry,
    MetadataHead, PHYSICAL_SECTOR, REGION_CHECKSUM, REGION_TABLE, REGION_TABLES, RegionEntry, RegionHead,
    checksum,
};
use super::read::Disk;
use crate::container::source::Source;
use crate::error::Result;
use crate::wire::{Guid, Wire};

/// The items of metadata that every disk has: their names, bytes, and flags (2.6.2).
const ITEMS: [(uuid::Uuid, &str, u32, u32); 5] = [
    (FILE_PARAMETERS, "File Parameters", 8, ITEM_REQUIRED),
    (DISK_SIZE, "Virtual Disk Size", 8, ITEM_REQUIRED | ITEM_DISK),
    (DISK_ID, "Virtual Disk ID", 16, ITEM_REQUIRED | ITEM_DISK),
    (LOGICAL_SECTOR, "Logical Sector Size", 4, ITEM_REQUIRED | ITEM_DISK),
    (PHYSICAL_SECTOR, "Physical Sector Size", 4, ITEM_REQUIRED | ITEM_DISK),
];

/// The faults of a file that opens: copies that are damaged, a log that was not applied, and tables with what cannot be.
///
/// Bytes that belong to nothing are none: between its objects, a file has free space of any length (2.1). A fixed one keeps
/// that of blocks which are not stored, and writers align what they write to whole blocks.
///
/// # Errors
/// Where the file cannot be read.
pub(in crate::container) fn check(source: &Arc<Source>) -> Result<Vec<String>> {
    let mut faults = Vec::new();
    for (place, which) in HEADERS.into_iter().zip(["first", "second"]) {
        let bytes = source.read(place, HEADER, "a header")?;
        let sound = Header::read(&bytes).is_ok_and(|own| own.checksum == checksum(&bytes, HEADER_CHECKSUM));
        if !sound {
            faults.push(format!("the {which} header is damaged"));
        }
    }
    let disk = Disk::read(source)?;
    regions(&disk, &mut faults)?;
    metadata(&disk, &mut faults)?;
    match (disk.header.log_id, disk.view.applied) {
        (None, _) => {}
        (Some(_), 0) => faults.push("its log is said to have entries, and none is whole".to_owned()),
        (Some(_), count) => faults.push(format!("its log has {count} entries that were not applied")),
    }
    Ok(faults)
}

/// Both region tables.
fn regions(disk: &Disk, faults: &mut Vec<String>) -> Result<()> {
    let mut whole: Vec<Vec<u8>> = Vec::new();
    for (place, which) in REGION_TABLES.into_iter().zip(["first", "second"]) {
        let bytes = disk.view.read(place, REGION_TABLE, "a region table")?;
        let head = RegionHead::read(&bytes).ok();
        let Some(head) = head.filter(|own| own.checksum == checksum(&bytes, REGION_CHECKSUM)) else {
            faults.push(format!("the {which} region table is damaged"));
            continue;
        };
        if head.reserved != 0 {
            faults.push(format!("the {which} region table has {:#x} in Reserved", head.reserved));
        }
        let entries = bytes.get(RegionHead::LENGTH..).unwrap_or_default();
        let count = crate::units::index(head.entry_count);
        for (number, entry) in entries.chunks_exact(RegionEntry::LENGTH).take(count).enumerate() {
            let RegionEntry { flags, .. } = RegionEntry::read(entry)?;
            if flags > 1 {
                faults.push(format!("entry {number} of the {which} region table has {flags:#x} in Required"));
            }
        }
        whole.push(bytes);
    }
    if let [one, other] = whole.as_slice()
        && one != other
    {
        faults.push("the two region tables differ".to_owned());
    }
    Ok(())
}

/// The metadata table and its items.
fn metadata(disk: &Disk, faults: &mut Vec<String>) -> Result<()> {
    let table = disk.view.read(disk.metadata.offset, METADATA_TABLE, "the metadata table")?;
    let head = MetadataHead::read(&table)?;
    if head.reserved != 0 {
        faults.push(format!("the metadata table has {:#x} in Reserved", head.reserved));
    }
    let entries = table.get(MetadataHead::LENGTH..).unwrap_or_default();
    let mut places = Vec::new();
    for bytes in entries.chunks_exact(MetadataEntry::LENGTH).take(usize::from(head.entry_count)) {
        let entry = MetadataEntry::read(bytes)?;
        let Guid(id) = entry.id;
        let known = ITEMS.iter().find(|(own, ..)| *own == id);
        let name = known.map_or_else(|| id.to_string(), |(_, name, ..)| (*name).to_owned());
        let mut wrong = |what: String| faults.push(format!("the item of metadata {name} {what}"));
        if entry.reserved != 0 {
            wrong(format!("has {:#x} in Reserved2", entry.reserved));
        }
        if let Some((_, _, length, flags)) = known {
            if entry.length != *length {
                wrong(format!("has {} bytes, and not {length}", entry.length));
            }
            if entry.flags != *flags {
                wrong(format!("has the flags {:#x}, and not {flags:#x}", entry.flags));
            }
        }
        let (start, length) = (u64::from(entry.offset), u64::from(entry.length));
        if length > 0 && (start < METADATA_TABLE || start + length > disk.metadata.length) {
            wrong(format!("lies outside its region: {length} bytes at {start}"));
        }
        places.push((start, start + length, name));
    }
    places.retain(|(start, end, _)| start < end);
    places.sort();
    for pair in places.windows(2) {
        if let [(_, end, one), (start, _, other)] = pair
            && start < end
        {
            faults.push(format!("the items of metadata {one} and {other} overlap"));
        }
    }
    let known = LEAVE_ALLOCATED | HAS_PARENT;
    if disk.flags & !known != 0 {
        let at = FileParameters::STRUCTURE.title;
        faults.push(format!("the {at} have reserved bits: {:#x}", disk.flags & !known));
    }
    Ok(())
}
