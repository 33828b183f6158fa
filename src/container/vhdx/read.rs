//! Reads VHDX as an image, from any writer.

use std::sync::Arc;

use uuid::Uuid;

use super::format::{
    BAT, DISK_ID, DISK_SIZE, FILE_PARAMETERS, FILE_SIGNATURE, FULLY_PRESENT, FileParameters, GRAIN, Geometry,
    HAS_PARENT, HEADER, HEADER_CHECKSUM, HEADERS, Header, ITEM_REQUIRED, ITEM_USER, LEAST_BLOCK,
    LEAVE_ALLOCATED, LOGICAL_SECTOR, METADATA, METADATA_SIGNATURE, METADATA_TABLE, MOST_BLOCK, MOST_DISK,
    MOST_ENTRIES, MetadataEntry, MetadataHead, NOT_PRESENT, PARENT_LOCATOR, PARTIALLY_PRESENT,
    PHYSICAL_SECTOR, REGION_CHECKSUM, REGION_REQUIRED, REGION_TABLE, REGION_TABLES, RESERVED, Region,
    RegionEntry, RegionHead, STATE, UNDEFINED, UNMAPPED, UNMAPPED_095, ZERO, checksum,
};
use super::log::View;
use crate::container::source::{Mapping, Source, le64s, shown};
use crate::container::{Format, Opened, SectorSize, Subformat};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::units::{u64_of, usize_of};
use crate::wire::{self, Guid, Order, Wire};

/// How many bytes of the block allocation table are read at a time.
const PIECE: u64 = 64 << 10;

/// Whether these are the first bytes of a VHDX file.
pub(in crate::container) fn detect(head: &[u8]) -> bool {
    head.starts_with(FILE_SIGNATURE)
}

/// Opens a VHDX.
pub(in crate::container) fn open(source: &Arc<Source>) -> Result<Opened> {
    let disk = Disk::read(source)?;
    let fixed = disk.flags & LEAVE_ALLOCATED != 0;
    let mut details = vec![
        ("subformat", if fixed { "fixed" } else { "dynamic" }.to_owned()),
        ("block size", disk.geometry.block.to_string()),
        ("logical sector size", disk.sector.get().to_string()),
        ("physical sector size", disk.physical.get().to_string()),
    ];
    if disk.view.applied > 0 {
        details.push(("log entries that were applied", disk.view.applied.to_string()));
    }
    Ok(Opened {
        details,
        subformat: Some(if fixed { Subformat::Fixed } else { Subformat::Dynamic }),
        id: Some(disk.id).filter(|id| !id.is_nil()),
        sector_size: Some(disk.sector),
        ..Opened::new(source, Format::Vhdx, disk.image()?)
    })
}

/// The name of the region at byte `at`, and where that region begins; `None` for one that is not known.
///
/// # Errors
/// Where the file cannot be read.
pub(in crate::container) fn region(source: &Arc<Source>, at: u64) -> Result<Option<(&'static str, u64)>> {
    let disk = Disk::read(source)?;
    let Region { offset, length } = disk.metadata;
    let table = Region { offset, length: METADATA_TABLE };
    let known = [
        (disk.bat, "the block allocation table"),
        (table, "the metadata table"),
        (Region { offset, length }, "the items of metadata"),
    ];
    let has = |region: &Region| (region.offset..region.offset + region.length).contains(&at);
    Ok(known.into_iter().find(|(region, _)| has(region)).map(|(region, name)| (name, region.offset)))
}

/// The values of headers, regions and metadata.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) view: View,
    pub(super) header: Current,
    pub(super) regions: Vec<Region>,
    pub(super) bat: Region,
    pub(super) metadata: Region,
    size: u64,
    sector: SectorSize,
    physical: SectorSize,
    pub(super) flags: u32,
    pub(super) geometry: Geometry,
    id: Uuid,
}

impl Disk {
    pub(super) fn read(source: &Arc<Source>) -> Result<Self> {
        if !detect(&source.read_some(0, 8)?) {
            return Err(source
                .wrong("this is no VHDX image", 0)
                .expected("vhdxfile")
                .found(shown(&source.read_some(0, 8)?)));
        }
        let header = Current::read(source)?;
        let view = match header.log_id {
            Some(id) => View::replayed(source, header.log, id)?,
            None => View::new(source),
        };
        let (regions, bat, metadata) = regions(&view)?;
        let items = Items::read(&view, metadata)?;
        let FileParameters { block_size, flags } = items.value(FILE_PARAMETERS)?;
        let block = u64::from(block_size);
        if flags & HAS_PARENT != 0 || items.find(PARENT_LOCATOR).is_some() {
            let what = "the image holds only what differs from a parent";
            let (place, field) = (items.place(FILE_PARAMETERS)?, "LeaveBlocksAllocated and HasParent");
            return Err(source
                .wrong_in::<FileParameters>(what, place, field)
                .expected("a dynamic or a fixed disk")
                .found("a differencing disk")
                .hint("merge it into its parent first"));
        }
        let wrong = |what: &str, id: Uuid| Ok::<_, Error>(source.wrong(what, items.place(id)?));
        if !block.is_power_of_two() || !(LEAST_BLOCK..=MOST_BLOCK).contains(&block) {
            return Err(wrong("an impossible block size", FILE_PARAMETERS)?
                .expected("a power of two from 1 MiB to 256 MiB")
                .found(block));
        }
        let sectors = |id| {
            let size = u64::from(items.value::<u32>(id)?);
            match SectorSize::of(size) {
                Some(size) => Ok(size),
                None => Err(wrong("an impossible sector size", id)?.expected("512 or 4096").found(size)),
            }
        };
        let (sector, physical) = (sectors(LOGICAL_SECTOR)?, sectors(PHYSICAL_SECTOR)?);
        let size: u64 = items.value(DISK_SIZE)?;
        if size > MOST_DISK || !size.is_multiple_of(sector.get()) {
            return Err(wrong("an impossible disk size", DISK_SIZE)?
                .expected(format!("a multiple of {} up to 64 TiB", sector.get()))
                .found(size));
        }
        let Guid(id) = items.value(DISK_ID)?;
        let geometry = Geometry::new(size, block, sector.get());
        let disk = Self { view, header, regions, bat, metadata, size, sector, physical, flags, geometry, id };
        if disk.geometry.entries() * 8 > bat.length {
            return Err(source
                .wrong("the block allocation table is too small for the disk", bat.offset)
                .expected(format!("{} entries", disk.geometry.entries()))
                .found(format!("{} bytes", bat.length)));
        }
        Ok(disk)
    }

    /// The disk.
    fn image(&self) -> Result<Image> {
        let source = &self.view.source;
        // Often most of a block is a hole of the file.
        let mut mapping = Mapping::sparse(source, self.size);
        mapping.claim(0, GRAIN, "the header section")?;
        mapping.claim(self.header.log.offset, self.header.log.length, "the log")?;
        for region in &self.regions {
            mapping.claim(region.offset, region.length, "a region")?;
        }
        let length = self.geometry.entries() * 8;
        for start in (0..length).step_by(usize_of(PIECE)) {
            let (place, count) = (self.bat.offset + start, PIECE.min(length - start));
            if self.view.is_hole(place, count) {
                continue;
            }
            let table = self.view.read(place, count, "the block allocation table")?;
            for (number, entry) in (start / 8..).zip(le64s(&table)) {
                self.entry(&mut mapping, number, entry)?;
            }
        }
        mapping.finish()
    }

    /// Entry `number` of the block allocation table.
    fn entry(&self, mapping: &mut Mapping, number: u64, entry: u64) -> Result<()> {
        let wrong = |what: &str| self.view.source.wrong(what, self.bat.offset + number * 8);
        let (state, offset) = (entry & STATE, entry & !(STATE | RESERVED));
        if entry & RESERVED != 0 {
            return Err(wrong("reserved bits are set in the entry of a block")
                .expected("0")
                .found(format!("{:#x}", entry & RESERVED)));
        }
        let Some(block) = self.geometry.payload(number) else {
            if state == FULLY_PRESENT {
                return mapping.claim(offset, GRAIN, "a sector bitmap");
            }
            return Ok(());
        };
        match state {
            NOT_PRESENT | UNDEFINED | ZERO | UNMAPPED | UNMAPPED_095 => Ok(()),
            FULLY_PRESENT => self.block(mapping, block, offset),
            PARTIALLY_PRESENT => {
                Err(wrong("a block is only partly there, which only a differencing disk has")
                    .expected("a state of 0, 1, 2, 3 or 6")
                    .found(state))
            }
            _ => Err(wrong("an unknown state of a block").expected("0, 1, 2, 3 or 6").found(state)),
        }
    }

    /// Payload block `number`, which is at `offset`.
    fn block(&self, mapping: &mut Mapping, number: u64, offset: u64) -> Result<()> {
        let source = &self.view.source;
        let disk = number * self.geometry.block;
        let length = self.geometry.block.min(self.size - disk);
        mapping.claim(offset, self.geometry.block, "data")?;
        // A log may make the file longer before it is applied.
        let there = if offset.saturating_add(length) <= self.view.size {
            length.min(source.size.saturating_sub(offset))
        } else {
            source.within(offset, length, "data").map(|()| length)?
        };
        if let Some(at) = self.view.first_change(offset, length) {
            return Err(source
                .wrong("the log changes data, which only the log of tables is read for", at)
                .hint("apply it with `qemu-img check -r all`"));
        }
        if there > 0 {
            mapping.data(disk, there, offset)?;
        }
        Ok(())
    }
}

/// The values of the current header.
#[derive(Clone, Debug)]
pub(super) struct Current {
    /// `None` if the log is empty.
    pub(super) log_id: Option<Uuid>,
    pub(super) log: Region,
}

impl Current {
    /// The valid header; of two valid ones, the one with the larger number (2.2.2).
    fn read(source: &Source) -> Result<Self> {
        let mut found: Option<(u64, Header)> = None;
        for place in HEADERS {
            let bytes = source.read(place, HEADER, "a header")?;
            let Ok(header) = Header::read(&bytes) else { continue };
            if header.checksum != checksum(&bytes, HEADER_CHECKSUM) {
                continue;
            }
            let wrong = |what: &str, field: &str| source.wrong_in::<Header>(what, place, field);
            if header.version != 1 {
                let error = wrong("an unknown version of VHDX", "Version");
                return Err(error.expected(1).found(header.version));
            }
            match &found {
                // Disk2vhd writes two equal headers (QEMU block/vhdx.c).
                Some((_, other)) if other.sequence_number == header.sequence_number && *other != header => {
                    return Err(wrong("both headers have one number and differ", "SequenceNumber")
                        .expected("the current one to have the larger number")
                        .found(header.sequence_number));
                }
                Some((_, other)) if other.sequence_number >= header.sequence_number => {}
                _ => found = Some((place, header)),
            }
        }
        let Some((place, header)) = found else {
            let [first, second] = HEADERS;
            return Err(source
                .wrong("neither header is valid", first)
                .expected(format!("`head` and the right checksum there or at byte {second}"))
                .found("none"));
        };
        Self::check(source, place, &header)
    }

    /// Checks the header at `place`.
    fn check(source: &Source, place: u64, header: &Header) -> Result<Self> {
        let wrong = |what: &str, field: &str| source.wrong_in::<Header>(what, place, field);
        let log = Region { offset: header.log_offset, length: u64::from(header.log_length) };
        let Guid(id) = header.log;
        let log_id = Some(id).filter(|id| !id.is_nil() && log.length > 0);
        if log_id.is_some() && header.log_version != 0 {
            let error = wrong("an unknown version of the log", "LogVersion");
            return Err(error.expected(0).found(header.log_version));
        }
        let aligned = log.offset.is_multiple_of(GRAIN) && log.length.is_multiple_of(GRAIN);
        if log.length > 0 && !aligned {
            return Err(wrong("the log is not aligned to 1 MiB", "LogLength")
                .found(format!("{} bytes at {}", log.length, log.offset)));
        }
        if log.length > 0 {
            source.within(log.offset, log.length, "the log")?;
        }
        Ok(Self { log_id, log })
    }
}

/// All regions, the block allocation table and the metadata (2.2.3).
fn regions(view: &View) -> Result<(Vec<Region>, Region, Region)> {
    let source = &view.source;
    let mut table = None;
    for place in REGION_TABLES {
        let bytes = view.read(place, REGION_TABLE, "a region table")?;
        match RegionHead::read(&bytes) {
            Ok(head) if head.checksum == checksum(&bytes, REGION_CHECKSUM) => {
                table = Some((place, head, bytes));
                break;
            }
            _ => {}
        }
    }
    let [first, second] = REGION_TABLES;
    let Some((place, head, table)) = table else {
        return Err(source
            .wrong("neither region table is valid", first)
            .expected(format!("`regi` and the right checksum there or at byte {second}"))
            .found("none"));
    };
    let count = u64::from(head.entry_count);
    check_count(count, || source.wrong_in::<RegionHead>(TOO_MANY, place, "EntryCount"))?;
    let (mut all, mut bat, mut metadata) = (Vec::new(), None, None);
    for number in 0..count {
        let from = RegionHead::LENGTH + usize_of(number) * RegionEntry::LENGTH;
        let entry = RegionEntry::read(&table[from..])?;
        let Guid(id) = entry.id;
        let region = Region { offset: entry.file_offset, length: u64::from(entry.length) };
        let wrong = |what: &str| source.wrong(what, place + u64_of(from));
        let aligned = region.offset.is_multiple_of(GRAIN) && region.length.is_multiple_of(GRAIN);
        if region.length == 0 || !aligned {
            return Err(wrong("a region is not aligned to 1 MiB")
                .found(format!("{} bytes at {}", region.length, region.offset)));
        }
        source.within(region.offset, region.length, "a region")?;
        all.push(region);
        let known = match id {
            BAT => &mut bat,
            METADATA => &mut metadata,
            _ if entry.flags & REGION_REQUIRED != 0 => {
                return Err(wrong("the image needs a region that is not known").found(id));
            }
            _ => continue,
        };
        if known.replace(region).is_some() {
            return Err(wrong("a region is named twice").found(id));
        }
    }
    let missing = |what| source.wrong(format!("the image has no {what}"), place);
    let bat = bat.ok_or_else(|| missing("block allocation table"))?;
    Ok((all, bat, metadata.ok_or_else(|| missing("metadata"))?))
}

/// The error about a table that claims more entries than it can have.
const TOO_MANY: &str = "a table has too many entries";

/// Refuses such a number of entries.
fn check_count(count: u64, wrong: impl Fn() -> Error) -> Result<()> {
    if count <= MOST_ENTRIES {
        return Ok(());
    }
    Err(wrong().expected(format!("at most {MOST_ENTRIES}")).found(count))
}

/// The place of an item of metadata in the file.
#[derive(Clone, Copy, Debug)]
struct Item {
    id: Uuid,
    place: u64,
    length: u64,
}

/// The items of metadata (2.6).
struct Items<'a> {
    view: &'a View,
    region: Region,
    items: Vec<Item>,
}

impl<'a> Items<'a> {
    fn read(view: &'a View, region: Region) -> Result<Self> {
        let table = view.read(region.offset, METADATA_TABLE, "the metadata table")?;
        let source = &view.source;
        if !table.starts_with(METADATA_SIGNATURE) {
            return Err(source
                .wrong("there is no metadata table", region.offset)
                .expected("metadata")
                .found(shown(&table[..8])));
        }
        let count = u64::from(MetadataHead::read(&table)?.entry_count);
        check_count(count, || source.wrong_in::<MetadataHead>(TOO_MANY, region.offset, "EntryCount"))?;
        let mut items: Vec<Item> = Vec::new();
        for number in 0..count {
            let from = MetadataHead::LENGTH + usize_of(number) * MetadataEntry::LENGTH;
            let entry = MetadataEntry::read(&table[from..])?;
            let Guid(id) = entry.id;
            let (offset, length) = (u64::from(entry.offset), u64::from(entry.length));
            let wrong = |what: &str| source.wrong(what, region.offset + u64_of(from));
            let known =
                [FILE_PARAMETERS, DISK_SIZE, DISK_ID, LOGICAL_SECTOR, PHYSICAL_SECTOR, PARENT_LOCATOR]
                    .contains(&id);
            if entry.flags & ITEM_USER != 0 || !known {
                if entry.flags & ITEM_REQUIRED != 0 {
                    return Err(wrong("the image needs metadata that is not known").found(id));
                }
                continue;
            }
            if offset < METADATA_TABLE || offset + length > region.length {
                return Err(wrong("an item of metadata lies outside its region")
                    .expected(format!("{METADATA_TABLE} to {}", region.length))
                    .found(format!("{length} bytes at {offset}")));
            }
            if items.iter().any(|other| other.id == id) {
                return Err(wrong("an item of metadata is named twice").found(id));
            }
            items.push(Item { id, place: region.offset + offset, length });
        }
        Ok(Self { view, region, items })
    }

    fn find(&self, id: Uuid) -> Option<Item> {
        self.items.iter().copied().find(|item| item.id == id)
    }

    fn item(&self, id: Uuid) -> Result<Item> {
        self.find(id).ok_or_else(|| {
            self.view.source.wrong("an item of metadata is missing", self.region.offset).expected(id)
        })
    }

    /// The place of an item.
    fn place(&self, id: Uuid) -> Result<u64> {
        Ok(self.item(id)?.place)
    }

    /// The value of an item.
    fn value<T: wire::Value>(&self, id: Uuid) -> Result<T> {
        let (item, needed) = (self.item(id)?, u64_of(T::LENGTH));
        if needed > item.length {
            return Err(self
                .view
                .source
                .wrong("an item of metadata is too short", item.place)
                .expected(format!("{needed} bytes"))
                .found(format!("{} bytes", item.length)));
        }
        T::get(Order::Little, &self.view.read(item.place, needed, "metadata")?)
    }
}
