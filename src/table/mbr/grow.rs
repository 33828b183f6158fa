//! Lets the last partition of an MBR grow, and with a logical one the extended partition around it.

use super::{SECTOR, chs, protects, reach, read};
use crate::error::{Error, Kind, Result, Warning};
use crate::image::{Patch, Slice};
use crate::table::Placed;
use crate::table::format::{BootRecord, EXTENDED, PartitionRecord, RECORD_AT};
use crate::table::grow::{Last, Moved, last};
use crate::table::read::Table;
use crate::units::{Bytes, Sectors, narrow, u64_of};
use crate::wire::{Field, Wire, field};

const RECORDS: Field = field(BootRecord::FIELDS, "PartitionRecord");
/// The largest number of boot records that are followed; as many as the reader follows.
const MOST_LOGICAL: u32 = 256;

/// Whether a partition is an extended one.
pub(in crate::table) fn is_extended(partition: &Placed) -> bool {
    !partition.logical && matches!(partition.kind, crate::table::Type::Mbr(kind) if EXTENDED.contains(&kind))
}

/// A record, and where it is.
struct Record {
    sector: u64,
    slot: u64,
    record: PartitionRecord,
    /// The sector that it counts from.
    base: u64,
}

impl Record {
    /// Makes it end after `end` sectors of the disk, unless it ends there or later.
    fn reach(mut self, end: u64, patch: &mut Patch) -> Result<()> {
        let start = self.base + u64::from(self.record.starting_lba);
        let count = end.saturating_sub(start).max(self.record.size_in_lba.into());
        self.record.size_in_lba = narrow(count, "SizeInLBA")?;
        self.record.ending_chs = chs((start + count).saturating_sub(1))?;
        put(patch, self.sector, self.slot, &self.record);
        Ok(())
    }
}

/// Writes a record into the boot record of a sector.
pub(in crate::table) fn put(patch: &mut Patch, sector: u64, slot: u64, record: &PartitionRecord) {
    let within = RECORD_AT + u64_of(RECORDS.offset) + slot * u64_of(PartitionRecord::LENGTH);
    let at = Sectors::new(sector).bytes(SECTOR) + Bytes::new(within);
    patch.put(at, "mbr: a partition", record.bytes());
}

/// The changes for a disk of `length`; see [`crate::table::grow()`].
pub(in crate::table) fn grow(disk: &Slice, table: &Table, length: Bytes, extend: bool) -> Result<Moved> {
    check(disk)?;
    let mut moved = Moved::default();
    let Some((own, mut last)) = last(table, length.min(reach()), extend) else { return Ok(moved) };
    let behind = |other: &&Placed| is_extended(other) && other.end() > own.end() && !own.logical;
    if let Some(other) = table.partitions.iter().find(behind).filter(|_| last.to > last.from) {
        moved.notes.push(Warning(format!(
            "partition {} stays as it is: the extended partition {} follows it",
            own.number, other.number
        )));
        last.to = last.from;
    }
    if extend && length > reach() {
        moved.notes.push(Warning(format!("an MBR reaches only the first {} of the disk", reach().human())));
    }
    if last.to > last.from {
        let end = (last.offset + last.to).get() / SECTOR;
        if own.logical {
            logical(disk, own, end, &mut moved.patch)?;
        } else {
            primary(disk, end, &mut moved.patch, |record| {
                Sectors::new(record.starting_lba.into()).bytes(SECTOR) == last.offset
                    && Sectors::new(record.size_in_lba.into()).bytes(SECTOR) == last.from
            })?;
        }
    }
    moved.last = Some(last);
    Ok(moved)
}

/// Refuses an MBR that does not say all that is on the disk: where a GPT is lost, or logical partitions behind a broken chain,
/// the last partition could grow over what only they name.
fn check(disk: &Slice) -> Result<()> {
    let record = BootRecord::read(&disk.bytes(RECORD_AT, BootRecord::LENGTH)?)?;
    if protects(&record) {
        return Err(Error::new(
            Kind::Format,
            "the MBR protects a GPT, and the disk has none that can be used",
        )
        .hint("repair the GPT first (gdisk or sgdisk), or resize the disk alone"));
    }
    let mut faults = Vec::new();
    read(disk, &record, &mut faults)?;
    match faults.into_iter().next() {
        Some(why) => Err(Error::new(Kind::Format, "the logical partitions of the MBR cannot all be read")
            .why(why)
            .hint("repair the table first (fdisk or sfdisk), or resize the disk alone")),
        None => Ok(()),
    }
}

/// Makes the first record of the MBR that `is` accepts end after `end` sectors. Returns its first sector.
fn primary(disk: &Slice, end: u64, patch: &mut Patch, is: impl Fn(&PartitionRecord) -> bool) -> Result<u64> {
    let record = BootRecord::read(&disk.bytes(RECORD_AT, BootRecord::LENGTH)?)?;
    let mut records = (0..).zip(record.partition_record);
    let found = records.find(|(_, record)| !record.is_unused() && is(record));
    let (slot, record) = found.ok_or_else(|| Error::bug("a partition has no record in the MBR"))?;
    let start = record.starting_lba.into();
    Record { sector: 0, slot, record, base: 0 }.reach(end, patch)?;
    Ok(start)
}

/// Makes the logical partition `own` end after `end` sectors, with the link to it and the extended partition.
fn logical(disk: &Slice, own: &Placed, end: u64, patch: &mut Patch) -> Result<()> {
    let extended = primary(disk, end, patch, |record| EXTENDED.contains(&record.os_type))?;
    let mut at = extended;
    let mut link: Option<Record> = None;
    for _ in 0..MOST_LOGICAL {
        let offset = Sectors::new(at).bytes(SECTOR).get() + RECORD_AT;
        let [partition, next, ..] =
            BootRecord::read(&disk.bytes(offset, BootRecord::LENGTH)?)?.partition_record;
        let place = Sectors::new(at + u64::from(partition.starting_lba)).bytes(SECTOR);
        if !partition.is_unused() && place == own.offset {
            Record { sector: at, slot: 0, record: partition, base: at }.reach(end, patch)?;
            return link.map_or(Ok(()), |link| link.reach(end, patch));
        }
        let following = extended + u64::from(next.starting_lba);
        link = Some(Record { sector: at, slot: 1, record: next, base: extended });
        at = following;
    }
    Err(Error::bug(format!("partition {} is not in the chain of boot records", own.number)))
}

/// How a record of a hybrid MBR becomes that of a longer partition; `None` if it cannot reach its end.
pub(in crate::table) fn longer(record: &PartitionRecord, last: &Last) -> Result<Option<PartitionRecord>> {
    if last.offset + last.to > reach() {
        return Ok(None);
    }
    let count = last.to.get() / SECTOR;
    let end = u64::from(record.starting_lba) + count;
    Ok(Some(PartitionRecord {
        size_in_lba: narrow(count, "SizeInLBA")?,
        ending_chs: chs(end.saturating_sub(1))?,
        ..record.clone()
    }))
}
