//! GUID partition table. UEFI specification 2.10, chapter 5.3; the protective MBR is in 5.2.3.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::mbr::{self, Entry};
use super::place::taken;
use super::{Area, Plan, Refusal, Request, Wish, hybrid};
use crate::image::Builder;
use crate::units::{Bytes, MIB, Sectors, index};

/// How many entries the table has; what every tool writes, and the least the specification allows (16 KiB).
const ENTRIES: u32 = 128;
/// Bytes in an entry.
const ENTRY: usize = 128;
/// Bytes in the array of entries.
const ARRAY: u64 = 16384;
/// Bytes in a header, of which the rest of the sector is zero.
const HEADER: usize = 92;
/// UTF-16 units in a name.
const NAME: usize = 36;
/// The sector of the primary header; the array follows it.
const HEADER_LBA: u64 = 1;
/// The sector of the primary array.
const ARRAY_LBA: u64 = 2;

/// Sectors of the array.
const fn array_sectors(sector_size: u64) -> u64 {
    Bytes::new(ARRAY).div_ceil(sector_size)
}

/// What partitions may use: behind the primary array and before the backup array, which the backup header follows in
/// the last sector.
pub(super) fn area(request: &Request) -> Result<Area, Refusal> {
    let sector = request.sector_size;
    let least = Sectors::new(ARRAY_LBA + array_sectors(sector));
    let first = request.first_lba.unwrap_or(least);
    if first < least {
        return Err(Refusal::disk("the first usable sector lies in the partition table")
            .about("first_lba")
            .expected(format!("first_lba of at least {}", least.get()))
            .found(first.get())
            .why("the GPT has a protective MBR, a header and 16 KiB of entries before the first partition"));
    }
    let start = first.bytes(sector);
    let tail = Sectors::new(array_sectors(sector) + 1).bytes(sector);
    // Without a size the disk ends up in whole MiB, and no file is longer than the limit.
    let disk = request.disk_size.unwrap_or(Bytes::LIMIT.round_down(MIB));
    let end = disk.saturating_sub(tail);
    if end <= start {
        return Err(Refusal::disk("the disk is too small for a GPT")
            .about("size")
            .expected(format!("at least {} bytes", (start + Bytes::new(sector) + tail).get()))
            .found(format!("{} bytes", disk.get()))
            .why("a GPT needs its tables at both ends and one usable sector between them"));
    }
    let why = if request.disk_size.is_some() {
        "the GPT keeps its header and entries at the start of the disk and a backup of them at its end"
    } else {
        "no file is longer than 8 EiB - 1"
    };
    Ok(Area { start, end, tail, beyond: false, why })
}

/// What a GPT can say of one partition.
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

/// No two partitions have one GUID.
pub(super) fn check_guids(request: &Request) -> Result<(), Refusal> {
    let mut seen: BTreeMap<Uuid, usize> = BTreeMap::new();
    for (at, wish) in request.partitions.iter().enumerate() {
        if let Some(first) = seen.insert(wish.guid, at) {
            return Err(Refusal::both(at, "has the same GUID as", first).about("guid").found(wish.guid));
        }
    }
    Ok(())
}

/// The slot of each partition: its own, or the first that is free.
pub(super) fn numbers(request: &Request) -> Result<Vec<u32>, Refusal> {
    let taken = taken(request, ENTRIES, |_| true)?;
    let mut free = (1..=ENTRIES).filter(|number| !taken.contains_key(number));
    let next = |(at, wish): (usize, &Wish)| {
        wish.number.or_else(|| free.next()).ok_or_else(|| {
            Refusal::of(at, "there is no slot left in the GPT")
                .expected(format!("at most {ENTRIES} partitions"))
                .found(request.partitions.len())
        })
    };
    request.partitions.iter().enumerate().map(next).collect()
}

/// Puts the protective or hybrid MBR, both headers and both arrays.
pub(super) fn write(plan: &Plan, image: &mut Builder) {
    let sector = plan.sector_size;
    let at = |lba: u64| Sectors::new(lba).bytes(sector);
    let last = plan.sectors(plan.length) - 1;
    let backup_array = last - array_sectors(sector);
    let entries = entries(plan);
    let crc = crc32fast::hash(&entries);
    let (label, slots) = if plan.hybrid.is_empty() {
        ("gpt: protective mbr", [protective(last), Entry::default(), Entry::default(), Entry::default()])
    } else {
        ("gpt: hybrid mbr", hybrid::entries(plan))
    };
    // No signature, as every tool leaves it: the disk's GUID is what names it.
    image.bytes(mbr::RECORD_AT, label, mbr::record(0, &slots));
    let primary = header(plan, HEADER_LBA, last, ARRAY_LBA, crc);
    let backup = header(plan, last, HEADER_LBA, backup_array, crc);
    image.bytes(at(HEADER_LBA), "gpt: primary header", primary);
    image.bytes(at(ARRAY_LBA), "gpt: primary entries", entries.clone());
    image.bytes(at(backup_array), "gpt: backup entries", entries);
    image.bytes(at(last), "gpt: backup header", backup);
}

/// The one entry that tells systems without GPT that the whole disk is in use: CHS 0/0/2, the last CHS, and sizes that
/// stay at their largest value on larger disks (UEFI 5.2.3, table 5.4).
fn protective(last_lba: u64) -> Entry {
    Entry {
        active: false,
        kind: mbr::PROTECTIVE,
        start: 1,
        base: 0,
        sectors: last_lba,
        last_chs: Some([0xff; 3]),
    }
}

/// The header in sector `own`, whose other copy is in sector `other`.
fn header(plan: &Plan, own: u64, other: u64, array: u64, array_crc: u32) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
    put(0, b"EFI PART");
    put(8, &[0, 0, 1, 0]); // revision 1.0
    put(12, &92_u32.to_le_bytes());
    put(24, &own.to_le_bytes());
    put(32, &other.to_le_bytes());
    put(40, &plan.first_usable.get().to_le_bytes());
    put(48, &plan.last_usable.get().to_le_bytes());
    put(56, &plan.guid.to_bytes_le());
    put(72, &array.to_le_bytes());
    put(80, &ENTRIES.to_le_bytes());
    put(84, &128_u32.to_le_bytes());
    put(88, &array_crc.to_le_bytes());
    // Over the header with this field zero, so it comes last.
    let crc = crc32fast::hash(&bytes);
    bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The array: each partition in its slot, all others zero.
fn entries(plan: &Plan) -> Vec<u8> {
    let mut array = vec![0; index(ENTRIES) * ENTRY];
    for partition in &plan.partitions {
        // Numbers are 1 to 128, and `place` refuses others.
        let slot = index(partition.number.clamp(1, ENTRIES)) - 1;
        let entry = &mut array[slot * ENTRY..(slot + 1) * ENTRY];
        let mut put =
            |offset: usize, field: &[u8]| entry[offset..offset + field.len()].copy_from_slice(field);
        put(0, &partition.kind.guid().unwrap_or_default().to_bytes_le());
        put(16, &partition.guid.to_bytes_le());
        put(32, &plan.sectors(partition.offset).to_le_bytes());
        put(40, &(plan.sectors(partition.end()) - 1).to_le_bytes());
        put(48, &partition.attributes.to_le_bytes());
        for (at, unit) in partition.label.encode_utf16().take(NAME).enumerate() {
            put(56 + 2 * at, &unit.to_le_bytes());
        }
    }
    array
}
