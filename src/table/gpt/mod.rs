//! GUID partition table. UEFI specification 2.10, chapter 5.3; the protective MBR is in 5.2.3.

mod frame;
mod grow;
mod read;

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::table::format::{GptEntry, GptHeader, PROTECTIVE};
use crate::table::mbr::{self, Entry};
use crate::table::place::taken;
pub(crate) use frame::{Frame, end_at, frame};
pub(super) use grow::grow;
pub(crate) use read::has_backup;
pub(super) use read::{lost, read};

use crate::error::{Error, Result};
use crate::image::Builder;
use crate::table::{Area, Array, Placed, Plan, Refusal, Region, Request, Wish, hybrid};
use crate::units::{Bytes, MIB, Sectors, index, narrow, u64_of};
use crate::wire::{Guid, Wire};

/// The most entries of an array: 2 MiB of them, as many as our own reader takes.
const MOST_ENTRIES: u32 = 16_384;
/// UTF-16 units in a name.
const NAME: usize = 36;
/// The sector of the primary header; the array follows it.
pub(super) const HEADER_LBA: u64 = 1;
/// The sector of the primary array.
const ARRAY_LBA: u64 = 2;

/// Bytes in an array of entries.
const fn array_length(array: Array) -> usize {
    index(array.entries) * GptEntry::LENGTH
}

/// Sectors of an array.
const fn array_sectors(array: Array, sector_size: u64) -> u64 {
    Bytes::new(u64_of(array_length(array))).div_ceil(sector_size)
}

/// The sector in which the primary array begins.
fn array_lba(array: Array) -> u64 {
    array.lba.map_or(ARRAY_LBA, Sectors::get)
}

/// What the table takes, apart from the MBR.
pub(super) fn regions(plan: &Plan) -> Vec<Region> {
    let sectors = array_sectors(plan.array, plan.sector_size);
    let last = plan.sectors(plan.length).saturating_sub(1);
    let region = |what: &str, lba: u64, count: u64| {
        let at = |lba: u64| Sectors::new(lba).bytes(plan.sector_size);
        Region { what: what.to_owned(), start: at(lba), end: at(lba + count) }
    };
    let mut regions = vec![
        region("the header of the GPT", HEADER_LBA, 1),
        region("the entries of the GPT", array_lba(plan.array), sectors),
    ];
    if plan.array.backup {
        regions.push(region("the backup of the GPT", last.saturating_sub(sectors), sectors + 1));
    }
    regions
}

/// What partitions may use: the part after the primary array and before the backup array. The backup header
/// follows that array in the last sector.
pub(super) fn area(request: &Request) -> Result<Area, Refusal> {
    let sector = request.sector_size;
    if !(1..=MOST_ENTRIES).contains(&request.array.entries) {
        return Err(Refusal::disk("a GPT cannot have so many entries")
            .about("entries")
            .expected(format!("1 to {MOST_ENTRIES}"))
            .found(request.array.entries));
    }
    if array_lba(request.array) < ARRAY_LBA {
        return Err(Refusal::disk("the entries of the GPT lie over its header")
            .about("entries_at")
            .expected(format!("a sector from {ARRAY_LBA} on"))
            .found(array_lba(request.array)));
    }
    let least = Sectors::new(array_lba(request.array).saturating_add(array_sectors(request.array, sector)));
    let first = request.first_lba.unwrap_or(least);
    if first < least {
        return Err(Refusal::disk("the first usable sector lies in the partition table")
            .about("first_lba")
            .expected(format!("first_lba of at least {}", least.get()))
            .found(first.get())
            .why(match request.array == Array::default() {
                true => {
                    "the GPT has a protective MBR, a header and 16 KiB of entries before the first partition"
                }
                false => "the first partition lies behind the entries of the GPT",
            }));
    }
    let start = first.bytes(sector);
    let tail = Sectors::new(array_sectors(request.array, sector) + 1).bytes(sector);
    // Without a size, the disk gets a length in whole MiB, and no file is longer than the limit.
    let disk = request.disk_size.unwrap_or(Bytes::LIMIT.round_down(MIB));
    let end = disk.saturating_sub(tail);
    if end <= start {
        return Err(Refusal::disk("the disk is too small for a GPT")
            .about("size")
            .expected(format!("at least {}", (start + Bytes::new(sector) + tail).in_full()))
            .found(disk.in_full())
            .or_hint(disk.unit_forgotten())
            .why("a GPT needs its tables at both ends and one usable sector between them"));
    }
    let why = if request.disk_size.is_some() {
        "the GPT keeps its header and entries at the start of the disk and a backup of them at its end"
    } else {
        "no file is longer than 8 EiB - 1"
    };
    Ok(Area { start, end, tail, beyond: false, why })
}

/// Checks what a GPT can record about a partition.
pub(super) fn check(request: &Request, at: usize, wish: &Wish) -> Result<(), Refusal> {
    match wish.kind.guid() {
        None => {
            return Err(Refusal::of(at, "a GPT has no type bytes")
                .about("type")
                .expected("a name such as esp or linux, or a type GUID")
                .found(wish.kind));
        }
        Some(guid) if guid.is_nil() => {
            return Err(Refusal::of(at, "the type GUID is zero, which marks an entry as unused")
                .about("type")
                .expected("another type GUID"));
        }
        Some(_) => {}
    }
    if wish.logical {
        return Err(Refusal::of(at, "a GPT has no logical partitions")
            .about("logical")
            .hint("leave `logical` out"));
    }
    let units = wish.label.encode_utf16().count();
    if units > NAME {
        return Err(Refusal::of(at, "the label is too long for a GPT")
            .about("label")
            .expected(format!("at most {NAME} UTF-16 units"))
            .found(units));
    }
    if wish.label.contains('\0') {
        return Err(Refusal::of(at, "the label contains NUL, which ends a name in a GPT").about("label"));
    }
    if wish.active && request.hybrid.is_empty() {
        return Err(Refusal::of(at, "a GPT has no active flag").about("attributes").hint(
            "legacy-bios-bootable is its counterpart; only a partition in a hybrid MBR can be active too",
        ));
    }
    Ok(())
}

/// Checks that no two partitions have the same GUID, unless that is asked for.
pub(super) fn check_guids(request: &Request) -> Result<(), Refusal> {
    let mut seen: BTreeMap<Uuid, usize> = BTreeMap::new();
    if request.same_guids {
        return Ok(());
    }
    for (at, wish) in request.partitions.iter().enumerate() {
        if let Some(first) = seen.insert(wish.guid, at) {
            return Err(Refusal::both(at, "has the same GUID as", first).about("guid").found(wish.guid));
        }
    }
    Ok(())
}

/// The slot of each partition: the given one, or the first free one.
pub(super) fn numbers(request: &Request) -> Result<Vec<u32>, Refusal> {
    let entries = request.array.entries;
    let taken = taken(request, entries, |_| true)?;
    let mut free = (1..=entries).filter(|number| !taken.contains_key(number));
    let next = |(at, wish): (usize, &Wish)| {
        wish.number.or_else(|| free.next()).ok_or_else(|| {
            Refusal::of(at, "there is no slot left in the GPT")
                .expected(format!("at most {entries} partitions"))
                .found(request.partitions.len())
        })
    };
    request.partitions.iter().enumerate().map(next).collect()
}

/// Puts the protective or hybrid MBR, both headers and both arrays.
///
/// # Errors
/// [`Kind::Bug`](crate::error::Kind::Bug) for a plan that [`place`](crate::table::place()) does not make.
pub(super) fn write(plan: &Plan, image: &mut Builder) -> Result<()> {
    let sector = plan.sector_size;
    let at = |lba: u64| Sectors::new(lba).bytes(sector);
    let last = plan.sectors(plan.length) - 1;
    let backup_array = last - array_sectors(plan.array, sector);
    let entries = entries(plan)?;
    let crc = crc32fast::hash(&entries);
    let (label, slots) = if plan.hybrid.is_empty() {
        ("gpt: protective mbr", [protective(last), Entry::default(), Entry::default(), Entry::default()])
    } else {
        ("gpt: hybrid mbr", hybrid::entries(plan)?)
    };
    // Usually no signature, as with every tool: the disk is identified by its GUID.
    image.bytes(mbr::RECORD_AT, label, mbr::record(plan.hybrid.signature, &slots)?);
    // Without a backup the header names itself, as genimage writes it: the field is of no use, and zero is no sector of a header.
    let other = if plan.array.backup { last } else { HEADER_LBA };
    let primary = header(plan, HEADER_LBA, other, array_lba(plan.array), crc)?;
    image.bytes(at(HEADER_LBA), "gpt: primary header", primary);
    image.bytes(at(array_lba(plan.array)), "gpt: primary entries", entries.clone());
    if plan.array.backup {
        let backup = header(plan, last, HEADER_LBA, backup_array, crc)?;
        image.bytes(at(backup_array), "gpt: backup entries", entries);
        image.bytes(at(last), "gpt: backup header", backup);
    }
    Ok(())
}

/// The one entry that tells systems without GPT that the whole disk is in use: CHS 0/0/2, the last CHS, and
/// sizes that stay at their maximum on larger disks (UEFI 5.2.3, table 5.4).
fn protective(last_lba: u64) -> Entry {
    Entry {
        kind: PROTECTIVE,
        start: 1,
        sectors: last_lba.min(u32::MAX.into()),
        last_chs: Some([0xff; 3]),
        ..Entry::default()
    }
}

/// The header in sector `own`, whose other copy is in sector `other`. The rest of the sector is zero.
fn header(plan: &Plan, own: u64, other: u64, array: u64, array_crc: u32) -> Result<Vec<u8>> {
    let mut header = GptHeader {
        revision: 0x0001_0000, // 1.0
        header_size: narrow(GptHeader::LENGTH, "HeaderSize")?,
        my_lba: own,
        alternate_lba: other,
        first_usable_lba: plan.first_usable.get(),
        last_usable_lba: plan.last_usable.get(),
        disk_guid: Guid(plan.guid),
        partition_entry_lba: array,
        number_of_partition_entries: plan.array.entries,
        size_of_partition_entry: narrow(GptEntry::LENGTH, "SizeOfPartitionEntry")?,
        partition_entry_array_crc32: array_crc,
        ..GptHeader::BLANK
    };
    // The checksum covers the header with this field zero, so it is set last.
    header.header_crc32 = crc32fast::hash(&header.bytes());
    Ok(header.bytes().to_vec())
}

/// The array: each partition in its slot, all others zero.
fn entries(plan: &Plan) -> Result<Vec<u8>> {
    let mut array = vec![0; array_length(plan.array)];
    for partition in &plan.partitions {
        let slot = partition.number.checked_sub(1).map(index);
        let place = slot.and_then(|slot| array.chunks_exact_mut(GptEntry::LENGTH).nth(slot));
        let place = place.ok_or_else(|| {
            Error::bug("a partition has no slot in the GPT")
                .expected(format!("1 to {}", plan.array.entries))
                .found(partition.number)
        })?;
        entry(plan, partition)?.write_to(place);
    }
    Ok(array)
}

fn entry(plan: &Plan, partition: &Placed) -> Result<GptEntry> {
    let kind = partition.kind.guid().filter(|guid| !guid.is_nil()).ok_or_else(|| {
        Error::bug(format!("partition {} has no type GUID", partition.number)).found(partition.kind)
    })?;
    let mut name = [0; NAME];
    for (at, unit) in partition.label.encode_utf16().enumerate() {
        let place = name.get_mut(at).ok_or_else(|| {
            Error::bug(format!("the label of partition {} is too long for a GPT", partition.number))
                .found(&partition.label)
        })?;
        *place = unit;
    }
    Ok(GptEntry {
        partition_type_guid: Guid(kind),
        unique_partition_guid: Guid(partition.guid),
        starting_lba: plan.sectors(partition.offset),
        ending_lba: plan.sectors(partition.end()) - 1,
        attributes: partition.attributes,
        partition_name: name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Type;
    use crate::table::tests::plan;

    #[test]
    fn what_place_never_plans_is_a_bug_and_no_zero() {
        let good = plan();
        assert!(entries(&good).is_ok());
        let poisoned = |change: &dyn Fn(&mut Placed)| {
            let mut plan = plan();
            change(&mut plan.partitions[0]);
            let error = entries(&plan).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Bug, "{error}");
            error.to_string()
        };
        assert!(poisoned(&|partition| partition.number = 0).contains("no slot in the GPT"));
        assert!(poisoned(&|partition| partition.number = 129).contains("found: 129"));
        assert!(poisoned(&|partition| partition.kind = Type::Mbr(0x83)).contains("has no type GUID"));
        assert!(poisoned(&|partition| partition.kind = Type::Guid(Uuid::nil())).contains("no type GUID"));
        assert!(poisoned(&|partition| partition.label = "x".repeat(37)).contains("too long for a GPT"));
    }
}
