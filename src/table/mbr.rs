//! Master boot record, with an extended partition for the logical ones. There is no standard; this is what Linux
//! (`block/partitions/msdos.c`), util-linux (`libfdisk/src/dos.c`) and parted agree on.

use super::place::taken;
use super::{Area, Extended, Placed, Plan, Refusal, Request, Wish};
use crate::image::Builder;
use crate::units::{Bytes, MIB, low8};

/// Where [`record`] lies in its sector: behind the boot code.
pub(super) const RECORD_AT: Bytes = Bytes::new(440);
/// Type of the entry that protects a GPT.
pub(super) const PROTECTIVE: u8 = 0xee;
/// Type of the extended partition, counted in sectors and not in cylinders.
const EXTENDED: u8 = 0x0f;
/// Type of the link to the next extended boot record, as util-linux writes it whatever the extended partition is.
const LINK: u8 = 0x05;
/// Types that are no partition a wish could ask for: unused, extended (three), protective.
const RESERVED: [u8; 5] = [0x00, 0x05, 0x0f, 0x85, PROTECTIVE];
/// Bytes in a sector; the only size an MBR is written for here.
const SECTOR: u64 = 512;
/// Room kept before a logical partition for its boot record: 2048 sectors, as util-linux keeps it, so that both are
/// aligned.
pub(super) const LEAD: Bytes = Bytes::new(MIB);
/// How many primary partitions there are, the extended one among them.
const PRIMARIES: u32 = 4;
/// The highest number of a logical partition that util-linux reads (`MAXIMUM_PARTS` in `libfdisk/src/dos.c`).
const LAST_LOGICAL: u32 = 60;

/// The end of what an MBR can address: 2^32 - 1 sectors, the limit that util-linux and parted name.
pub(super) const fn reach() -> Bytes {
    Bytes::new(0xffff_ffff * SECTOR)
}

/// An entry of an MBR or of an extended boot record; the default is an unused one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) active: bool,
    pub(super) kind: u8,
    /// First sector, from the start of the disk.
    pub(super) start: u64,
    /// The sector that the entry counts from: 0 in the MBR.
    pub(super) base: u64,
    pub(super) sectors: u64,
    /// The CHS address of the last sector where it is not the computed one.
    pub(super) last_chs: Option<[u8; 3]>,
}

impl Entry {
    /// The entry of a partition as `kind`, counted from sector `base`.
    pub(super) fn of(plan: &Plan, partition: &Placed, kind: u8, base: u64) -> Self {
        Self {
            active: partition.active,
            kind,
            start: plan.sectors(partition.offset),
            base,
            sectors: plan.sectors(partition.length),
            last_chs: None,
        }
    }

    /// The 16 bytes. CHS addresses count from the start of the disk whatever the base is. Numbers past 32 bits stay at
    /// the largest, which a protective entry asks for and `place` refuses elsewhere.
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        if self.kind == 0 {
            return bytes;
        }
        let field = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
        let last = self.start + self.sectors.saturating_sub(1);
        bytes[0] = if self.active { 0x80 } else { 0 };
        bytes[1..4].copy_from_slice(&chs(self.start));
        bytes[4] = self.kind;
        bytes[5..8].copy_from_slice(&self.last_chs.unwrap_or_else(|| chs(last)));
        bytes[8..12].copy_from_slice(&field(self.start - self.base));
        bytes[12..16].copy_from_slice(&field(self.sectors));
        bytes
    }
}

/// Heads of the disk that CHS addresses speak of, as every BIOS with LBA translates.
const HEADS: u64 = 255;
/// Sectors on a track of it.
const TRACK: u64 = 63;
/// Cylinders that ten bits can count.
const CYLINDERS: u64 = 1024;

/// Head, sector with the high bits of the cylinder, cylinder. Past the last address (7.8 GiB) it stays at the last
/// one, FE FF FF.
fn chs(lba: u64) -> [u8; 3] {
    let lba = lba.min(CYLINDERS * HEADS * TRACK - 1);
    let (cylinder, head, sector) = (lba / (HEADS * TRACK), lba / TRACK % HEADS, lba % TRACK + 1);
    [low8(head), low8(sector) | low8(cylinder >> 2 & 0xc0), low8(cylinder)]
}

/// Bytes 440 to 511 of a boot record: signature, two bytes that are zero, four entries, 55 AA.
pub(super) fn record(signature: u32, slots: &[Entry; 4]) -> Vec<u8> {
    let mut bytes = vec![0; 72];
    bytes[0..4].copy_from_slice(&signature.to_le_bytes());
    for (slot, entry) in slots.iter().enumerate() {
        let at = 6 + 16 * slot;
        bytes[at..at + 16].copy_from_slice(&entry.bytes());
    }
    bytes[70..72].copy_from_slice(&[0x55, 0xaa]);
    bytes
}

/// What partitions may use: all but the first sector.
pub(super) fn area(request: &Request) -> Result<Area, Refusal> {
    if request.sector_size != SECTOR {
        return Err(Refusal::disk("an MBR is written for sectors of 512 bytes only")
            .about("sector_size")
            .expected("sector_size 512, or table gpt")
            .found(request.sector_size));
    }
    let start = Bytes::new(SECTOR);
    let disk = request.disk_size.unwrap_or(reach());
    if disk < start {
        return Err(Refusal::disk("the disk is too small for an MBR")
            .about("size")
            .expected("at least 512 bytes")
            .found(format!("{} bytes", disk.get())));
    }
    let beyond = disk > reach();
    let why = if beyond || request.disk_size.is_none() {
        "an MBR counts sectors of 512 bytes with 32 bits"
    } else {
        "the MBR is the first sector, and the disk ends there"
    };
    Ok(Area { start, end: disk.min(reach()), tail: Bytes::ZERO, beyond, why })
}

/// What an MBR can say of one partition.
pub(super) fn check(at: usize, wish: &Wish) -> Result<(), Refusal> {
    match wish.kind.mbr() {
        None => {
            return Err(Refusal::of(at, "the type has no byte in an MBR")
                .about("type")
                .expected(
                    "a byte such as 0x83, or a type with a name that an MBR knows, such as linux or esp",
                )
                .found(wish.kind));
        }
        Some(byte) if RESERVED.contains(&byte) => {
            return Err(Refusal::of(at, "the type byte is not that of a partition")
                .about("type")
                .found(wish.kind)
                .why("0x00 marks an unused entry, 0x05, 0x0f and 0x85 the extended partition, 0xee a GPT")
                .hint("`logical` makes logical partitions and the extended one around them"));
        }
        Some(_) => {}
    }
    if !wish.label.is_empty() {
        return Err(Refusal::of(at, "an MBR has no labels")
            .about("label")
            .found(format!("{:?}", wish.label))
            .hint("the filesystem may have one"));
    }
    if wish.attributes != 0 {
        return Err(Refusal::of(at, "an MBR has no attribute bits")
            .about("attributes")
            .expected("no attribute but active")
            .found(super::attribute_names(wish.attributes).join(", ")));
    }
    Ok(())
}

/// The slot of each partition, and of the extended one where there are logical ones: primary partitions have 1 to 4,
/// their own or the first that is free, logical ones count from 5 in the order of the chain.
pub(super) fn numbers(request: &Request) -> Result<(Vec<u32>, Option<u32>), Refusal> {
    let taken = taken(request, PRIMARIES, |wish| !wish.logical)?;
    let mut free = (1..=PRIMARIES).filter(|number| !taken.contains_key(number));
    let mut extended = None;
    let mut previous = false;
    let mut numbers = Vec::with_capacity(request.partitions.len());
    let full = |at| {
        Refusal::of(at, "there is no slot left in the MBR")
            .expected("at most 4 primary partitions, the extended one among them")
            .hint("`logical` puts a partition into the extended one")
    };
    for (at, wish) in request.partitions.iter().enumerate() {
        numbers.push(if wish.logical {
            if !previous && extended.is_some() {
                return Err(Refusal::of(at, "logical partitions do not follow each other")
                    .why("they share the one extended partition, and a primary one stands between them"));
            }
            if extended.is_none() {
                extended = Some(free.next().ok_or_else(|| full(at))?);
            }
            logical(request, at)?
        } else {
            wish.number.or_else(|| free.next()).ok_or_else(|| full(at))?
        });
        previous = wish.logical;
    }
    Ok((numbers, extended))
}

/// The number of the logical partition at `at`.
fn logical(request: &Request, at: usize) -> Result<u32, Refusal> {
    let before = request.partitions.iter().take(at).filter(|wish| wish.logical).count();
    let number = u32::try_from(before).unwrap_or(u32::MAX).saturating_add(PRIMARIES + 1);
    if number > LAST_LOGICAL {
        return Err(Refusal::of(at, "there are too many logical partitions")
            .expected(format!("numbers up to {LAST_LOGICAL}"))
            .why("fdisk and its kin read no more"));
    }
    match request.partitions.get(at).and_then(|wish| wish.number) {
        Some(own) if own != number => Err(Refusal::of(at, "a logical partition cannot choose its number")
            .about("number")
            .expected(number)
            .found(own)
            .why("they count from 5 in the order of their boot records")),
        _ => Ok(number),
    }
}

/// The extended partition around the logical ones, which lie in the order of the list with no primary one between.
pub(super) fn extended(number: u32, placed: &[Placed]) -> Result<Extended, Refusal> {
    let logical = || placed.iter().enumerate().filter(|(_, partition)| partition.logical);
    for ((a, one), (b, next)) in logical().zip(logical().skip(1)) {
        if next.offset < one.offset {
            return Err(Refusal::both(b, "lies before", a).why(
                "logical partitions are numbered in the order of their places, so they are listed in it",
            ));
        }
    }
    let offset = logical().next().map_or(Bytes::ZERO, |(_, first)| boot_record(first));
    let end = logical().next_back().map_or(Bytes::ZERO, |(_, last)| last.end());
    for (at, partition) in placed.iter().enumerate().filter(|(_, partition)| !partition.logical) {
        if partition.offset < end && offset < partition.end() {
            let first = logical().next().map_or(at, |(first, _)| first);
            return Err(Refusal::both(at, "lies inside the extended partition that begins for", first)
                .expected(format!("a place outside of {offset} to {end}"))
                .found(format!("{} to {}", partition.offset, partition.end())));
        }
    }
    Ok(Extended { number, offset, length: end.saturating_sub(offset) })
}

/// Where the boot record of a logical partition lies.
fn boot_record(partition: &Placed) -> Bytes {
    partition.offset.saturating_sub(LEAD)
}

/// Puts the MBR, and an extended boot record before each logical partition.
pub(super) fn write(plan: &Plan, image: &mut Builder) {
    let mut slots = [Entry::default(); 4];
    let mut set = |number: u32, entry: Entry| {
        if let Some(slot) = slots.iter_mut().zip(1..).find_map(|(slot, own)| (own == number).then_some(slot))
        {
            *slot = entry;
        }
    };
    let kind = |partition: &Placed| partition.kind.mbr().unwrap_or_default();
    for partition in plan.partitions.iter().filter(|partition| !partition.logical) {
        set(partition.number, Entry::of(plan, partition, kind(partition), 0));
    }
    let mut first = 0;
    if let Some(extended) = plan.extended {
        first = plan.sectors(extended.offset);
        let sectors = plan.sectors(extended.length);
        set(extended.number, Entry { kind: EXTENDED, start: first, sectors, ..Entry::default() });
    }
    image.bytes(RECORD_AT, "mbr: partitions", record(plan.signature, &slots));
    let logical = || plan.partitions.iter().filter(|partition| partition.logical);
    let following = logical().skip(1).map(Some).chain([None]);
    for (partition, next) in logical().zip(following) {
        let at = boot_record(partition);
        let mut slots = [Entry::default(); 4];
        slots[0] = Entry::of(plan, partition, kind(partition), plan.sectors(at));
        if let Some(next) = next {
            // The link spans the next boot record, its lead and its partition, and counts from the extended partition.
            let start = plan.sectors(boot_record(next));
            let sectors = plan.sectors(next.end()) - start;
            slots[1] = Entry { kind: LINK, start, base: first, sectors, ..Entry::default() };
        }
        let label = format!("mbr: boot record of partition {}", partition.number);
        image.bytes(at + RECORD_AT, label, record(0, &slots));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chs_ends_where_its_bits_end() {
        for (lba, bytes) in [
            (0, [0, 1, 0]),
            (1, [0, 2, 0]),
            (62, [0, 63, 0]),
            (63, [1, 1, 0]),
            (2048, [0x20, 0x21, 0]),
            (254 * 63 + 62, [254, 63, 0]),
            (255 * 63, [0, 1, 1]),
            // The high bits of cylinder 256 and 1023 stand in the sector.
            (256 * 255 * 63, [0, 0x41, 0]),
            (1024 * 255 * 63 - 1, [0xfe, 0xff, 0xff]),
            (1024 * 255 * 63, [0xfe, 0xff, 0xff]),
            (u64::MAX, [0xfe, 0xff, 0xff]),
        ] {
            assert_eq!(chs(lba), bytes, "{lba}");
        }
    }
}
