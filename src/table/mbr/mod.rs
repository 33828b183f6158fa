//! Master boot record, with an extended partition for the logical ones. There is no standard; this is the
//! common ground of Linux (`block/partitions/msdos.c`), util-linux (`libfdisk/src/dos.c`) and parted.

mod grow;
pub(super) mod read;

pub(super) use grow::{grow, is_extended, longer, put};
pub(super) use read::{protects, read};

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::image::Builder;
use crate::table::format::{self, ACTIVE, BootRecord, PROTECTIVE, PartitionRecord};
use crate::table::place::taken;
use crate::table::{Area, Extended, Placed, Plan, Refusal, Request, Wish};
use crate::units::{Bytes, narrow};
use crate::wire::Wire;

/// The offset of [`record`] in its sector: after the boot code.
pub(super) const RECORD_AT: Bytes = Bytes::new(format::RECORD_AT);
/// Type of the extended partition, which is counted in sectors and not in cylinders.
const EXTENDED: u8 = 0x0f;
/// Type of the link to the next extended boot record, as util-linux writes it for every type of extended
/// partition.
const LINK: u8 = 0x05;
/// Types that a wish cannot ask for: unused, extended (three), protective.
pub(super) const RESERVED: [u8; 5] = [0x00, 0x05, 0x0f, 0x85, PROTECTIVE];
/// Bytes in a sector; an MBR is only written for this size.
pub(super) const SECTOR: u64 = 512;
/// The number of primary partitions, including the extended one.
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
    /// The CHS address of the last sector, if it is not the computed one.
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

    /// The record. CHS addresses count from the start of the disk for every base.
    fn record(&self) -> Result<PartitionRecord> {
        if self.kind == 0 {
            return Ok(PartitionRecord::BLANK);
        }
        let outside = || Error::bug("a partition lies before what its boot record counts from, or is empty");
        let start = self.start.checked_sub(self.base).ok_or_else(outside)?;
        let last = self.start + self.sectors.checked_sub(1).ok_or_else(outside)?;
        Ok(PartitionRecord {
            boot_indicator: if self.active { ACTIVE } else { 0 },
            starting_chs: chs(self.start)?,
            os_type: self.kind,
            ending_chs: self.last_chs.map_or_else(|| chs(last), Ok)?,
            starting_lba: narrow(start, "StartingLBA")?,
            size_in_lba: narrow(self.sectors, "SizeInLBA")?,
        })
    }
}

/// Heads of the disk in CHS addresses, as every BIOS with LBA translates.
const HEADS: u64 = 255;
/// Sectors on a track of that disk.
const TRACK: u64 = 63;
/// Cylinders that ten bits can count.
const CYLINDERS: u64 = 1024;

/// Head, sector with the high bits of the cylinder, cylinder. Past the last address (7.8 GiB) it stays at
/// that address, FE FF FF.
fn chs(lba: u64) -> Result<[u8; 3]> {
    let lba = lba.min(CYLINDERS * HEADS * TRACK - 1);
    let (cylinder, head, sector) = (lba / (HEADS * TRACK), lba / TRACK % HEADS, lba % TRACK + 1);
    Ok([
        narrow(head, "a head")?,
        narrow(sector | cylinder >> 2 & 0xc0, "a sector")?,
        narrow(cylinder & 0xff, "the low byte of a cylinder")?,
    ])
}

/// Bytes 440 to 511 of a boot record: signature, four entries, 55 AA.
pub(super) fn record(signature: u32, slots: &[Entry; 4]) -> Result<Vec<u8>> {
    let [a, b, c, d] = slots;
    let record = BootRecord {
        unique_mbr_disk_signature: signature,
        partition_record: [a.record()?, b.record()?, c.record()?, d.record()?],
        ..BootRecord::BLANK
    };
    Ok(record.bytes().to_vec())
}

/// What partitions may use: everything except the first sector.
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
            .found(disk.in_full())
            .or_hint(disk.unit_forgotten()));
    }
    let beyond = disk > reach();
    let why = if beyond || request.disk_size.is_none() {
        "an MBR counts sectors of 512 bytes with 32 bits"
    } else {
        "the MBR is the first sector, and the disk ends there"
    };
    Ok(Area { start, end: disk.min(reach()), tail: Bytes::ZERO, beyond, why })
}

/// Checks what an MBR can record about a partition.
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

/// Checks the slot that is asked for the extended partition.
fn check_extended(request: &Request, taken: &BTreeMap<u32, usize>) -> Result<(), Refusal> {
    let Some(number) = request.extended else { return Ok(()) };
    let refuse = |what| Refusal::disk(what).about("extended").found(number);
    if !(1..=PRIMARIES).contains(&number) {
        return Err(
            refuse("the extended partition cannot have this number").expected(format!("1 to {PRIMARIES}"))
        );
    }
    if !request.partitions.iter().any(|wish| wish.logical) {
        return Err(refuse("there is no extended partition").why("no partition is a logical one"));
    }
    match taken.get(&number) {
        Some(at) => {
            Err(Refusal::of(*at, "it has the number of the extended partition").about("number").found(number))
        }
        None => Ok(()),
    }
}

/// The slot of each partition, and of the extended one if there are logical ones. Primary partitions have 1
/// to 4: the given number or the first free one. Logical ones count from 5 in the order of the chain.
pub(super) fn numbers(request: &Request) -> Result<(Vec<u32>, Option<u32>), Refusal> {
    let taken = taken(request, PRIMARIES, |wish| !wish.logical)?;
    check_extended(request, &taken)?;
    let mut free =
        (1..=PRIMARIES).filter(|number| !taken.contains_key(number) && request.extended != Some(*number));
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
                extended = Some(request.extended.or_else(|| free.next()).ok_or_else(|| full(at))?);
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
    // A number that does not fit in 32 bits is above the limit anyway.
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

/// The extended partition around the logical ones. They must be consecutive and in the order of the list.
pub(super) fn extended(number: u32, placed: &[Placed]) -> Result<Extended, Refusal> {
    let logical = || placed.iter().enumerate().filter(|(_, partition)| partition.logical);
    for ((a, one), (b, next)) in logical().zip(logical().skip(1)) {
        if next.offset < one.offset {
            return Err(Refusal::both(b, "lies before", a).why(
                "logical partitions are numbered in the order of their places, so they are listed in it",
            ));
        }
    }
    let (Some((first, one)), Some((_, last))) = (logical().next(), logical().next_back()) else {
        return Err(Error::bug("an extended partition without logical ones").into());
    };
    let (offset, end) = (boot_record(one)?, last.end());
    for (at, partition) in placed.iter().enumerate().filter(|(_, partition)| !partition.logical) {
        if partition.offset < end && offset < partition.end() {
            return Err(Refusal::both(at, "lies inside the extended partition that begins for", first)
                .expected(format!("a place outside of {} to {}", offset.in_full(), end.in_full()))
                .found(format!("{} to {}", partition.offset.in_full(), partition.end().in_full())));
        }
    }
    let length =
        end.checked_sub(offset).ok_or_else(|| Error::bug("an extended partition ends before it begins"))?;
    Ok(Extended { number, offset, length })
}

/// Where the boot record of a logical partition lies: as far before it as partitions are aligned, so that both are. With 1 MiB that is
/// as in util-linux.
fn boot_record(partition: &Placed) -> Result<Bytes> {
    let at = partition.offset.checked_sub(partition.lead);
    at.ok_or_else(|| Error::bug(format!("partition {} has no space for its boot record", partition.number)))
}

/// The type byte of a partition.
fn kind(partition: &Placed) -> Result<u8> {
    let kind = partition.kind.mbr().filter(|kind| !RESERVED.contains(kind));
    kind.ok_or_else(|| {
        Error::bug(format!("partition {} has no type byte", partition.number)).found(partition.kind)
    })
}

/// Puts the MBR, and an extended boot record before each logical partition.
///
/// # Errors
/// [`Kind::Bug`](crate::error::Kind::Bug) for a plan that [`place`](crate::table::place()) does not make.
pub(super) fn write(plan: &Plan, image: &mut Builder) -> Result<()> {
    let mut slots = [Entry::default(); 4];
    let mut set = |number: u32, entry: Entry| {
        let slot = slots.iter_mut().zip(1..).find_map(|(slot, own)| (own == number).then_some(slot));
        let no_slot = || Error::bug("a primary partition has no slot").expected("1 to 4").found(number);
        *slot.ok_or_else(no_slot)? = entry;
        Ok::<(), Error>(())
    };
    for partition in plan.partitions.iter().filter(|partition| !partition.logical) {
        set(partition.number, Entry::of(plan, partition, kind(partition)?, 0))?;
    }
    let logical = || plan.partitions.iter().filter(|partition| partition.logical);
    let mut first = 0;
    match plan.extended {
        Some(extended) => {
            first = plan.sectors(extended.offset);
            let sectors = plan.sectors(extended.length);
            set(extended.number, Entry { kind: EXTENDED, start: first, sectors, ..Entry::default() })?;
        }
        None if logical().next().is_some() => {
            return Err(Error::bug("there is no extended partition for the logical ones"));
        }
        None => {}
    }
    image.bytes(RECORD_AT, "mbr: partitions", record(plan.signature, &slots)?);
    let following = logical().skip(1).map(Some).chain([None]);
    for (partition, next) in logical().zip(following) {
        let at = boot_record(partition)?;
        let mut slots = [Entry::default(); 4];
        slots[0] = Entry::of(plan, partition, kind(partition)?, plan.sectors(at));
        if let Some(next) = next {
            // The link spans the next boot record, its lead and its partition, and counts from the extended partition.
            let start = plan.sectors(boot_record(next)?);
            let sectors = plan.sectors(next.end()) - start;
            slots[1] = Entry { kind: LINK, start, base: first, sectors, ..Entry::default() };
        }
        let label = format!("mbr: boot record of partition {}", partition.number);
        image.bytes(at + RECORD_AT, label, record(0, &slots)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::plan;
    use crate::table::{Scheme, Type};

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
            // The high bits of cylinders 256 and 1023 are in the sector byte.
            (256 * 255 * 63, [0, 0x41, 0]),
            (1024 * 255 * 63 - 1, [0xfe, 0xff, 0xff]),
            (1024 * 255 * 63, [0xfe, 0xff, 0xff]),
            (u64::MAX, [0xfe, 0xff, 0xff]),
        ] {
            assert_eq!(chs(lba).unwrap(), bytes, "{lba}");
        }
    }

    #[test]
    fn what_place_never_plans_is_a_bug_and_no_zero() {
        let good = || Plan { scheme: Scheme::Mbr, ..plan() };
        let written = |plan: &Plan| {
            let mut image = Builder::new(plan.length);
            write(plan, &mut image)
        };
        written(&good()).unwrap();
        let poisoned = |change: &dyn Fn(&mut Plan)| {
            let mut plan = good();
            change(&mut plan);
            let error = written(&plan).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Bug, "{error}");
            error.to_string()
        };
        let bios_boot = "21686148-6449-6e6f-744e-656564454649".parse().unwrap();
        type Change<'a> = &'a dyn Fn(&mut Plan);
        let changes: [(Change<'_>, &str); 6] = [
            (&|plan| plan.partitions[0].number = 5, "has no slot"),
            (&|plan| plan.partitions[0].kind = Type::Guid(bios_boot), "has no type byte"),
            (&|plan| plan.partitions[0].kind = Type::Mbr(0), "has no type byte"),
            (&|plan| plan.partitions[1].logical = true, "no extended partition"),
            (&|plan| plan.partitions[0].length = Bytes::ZERO, "or is empty"),
            (&|plan| plan.partitions[0].length = Bytes::new(1 << 42), "SizeInLBA does not fit"),
        ];
        for (change, words) in changes {
            let text = poisoned(change);
            assert!(text.contains(words), "no `{words}` in {text}");
        }
        let text = poisoned(&|plan| {
            plan.extended = Some(Extended { number: 2, offset: Bytes::ZERO, length: Bytes::mib(1) });
            plan.partitions[0].logical = true;
            plan.partitions[0].offset = Bytes::new(512);
        });
        assert!(text.contains("no space for its boot record"), "{text}");
    }
}
