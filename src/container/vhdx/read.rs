//! Reading VHDX as an image, whoever made it.

use std::sync::Arc;

use uuid::Uuid;

use super::format::{
    BAT, DISK_ID, DISK_SIZE, ENTRY, FILE_PARAMETERS, FILE_SIGNATURE, FULLY_PRESENT, GRAIN, Geometry,
    HAS_PARENT, HEADER, HEADER_SIGNATURE, HEADERS, ITEM_REQUIRED, ITEM_USER, LEAST_BLOCK, LEAVE_ALLOCATED,
    LOGICAL_SECTOR, METADATA, METADATA_HEAD, METADATA_SIGNATURE, METADATA_TABLE, MOST_BLOCK, MOST_DISK,
    MOST_ENTRIES, NOT_PRESENT, PARENT_LOCATOR, PARTIALLY_PRESENT, PHYSICAL_SECTOR, REGION_HEAD,
    REGION_REQUIRED, REGION_SIGNATURE, REGION_TABLE, REGION_TABLES, RESERVED, Region, STATE, UNDEFINED,
    UNMAPPED, UNMAPPED_095, ZERO, checksum,
};
use super::log::View;
use crate::container::source::{Mapping, Numbers, Source, shown};
use crate::container::{Format, Opened, SectorSize, Subformat};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::units::{u64_of, usize_of};

/// Bytes of the block allocation table that are read at a time.
const PIECE: u64 = 64 << 10;

/// Whether the first bytes of a file are those of a VHDX.
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

/// What headers, regions and metadata say.
#[derive(Debug)]
struct Disk {
    view: View,
    header: Header,
    regions: Vec<Region>,
    bat: Region,
    size: u64,
    sector: SectorSize,
    physical: SectorSize,
    flags: u32,
    geometry: Geometry,
    id: Uuid,
}

impl Disk {
    fn read(source: &Arc<Source>) -> Result<Self> {
        if !detect(&source.read_some(0, 8)?) {
            return Err(source
                .wrong("this is no VHDX image", 0)
                .expected("vhdxfile")
                .found(shown(&source.read_some(0, 8)?)));
        }
        let header = Header::current(source)?;
        let view = match header.log_id {
            Some(id) => View::replayed(source, header.log, id)?,
            None => View::new(source),
        };
        let (regions, bat, metadata) = regions(&view)?;
        let items = Items::read(&view, metadata)?;
        let (block, flags) = (u64::from(items.le32(FILE_PARAMETERS, 0)?), items.le32(FILE_PARAMETERS, 4)?);
        if flags & HAS_PARENT != 0 || items.find(PARENT_LOCATOR).is_some() {
            return Err(source
                .wrong("the image holds only what differs from a parent", items.place(FILE_PARAMETERS)? + 4)
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
            let size = u64::from(items.le32(id, 0)?);
            match SectorSize::of(size) {
                Some(size) => Ok(size),
                None => Err(wrong("an impossible sector size", id)?.expected("512 or 4096").found(size)),
            }
        };
        let (sector, physical) = (sectors(LOGICAL_SECTOR)?, sectors(PHYSICAL_SECTOR)?);
        let size = items.le64(DISK_SIZE)?;
        if size > MOST_DISK || !size.is_multiple_of(sector.get()) {
            return Err(wrong("an impossible disk size", DISK_SIZE)?
                .expected(format!("a multiple of {} up to 64 TiB", sector.get()))
                .found(size));
        }
        let id = guid(&items.bytes(DISK_ID, 0, 16)?, 0);
        let geometry = Geometry::new(size, block, sector.get());
        let disk = Self { view, header, regions, bat, size, sector, physical, flags, geometry, id };
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
        // Most of a block is often a hole of the file.
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
            for (number, entry) in (start / 8..).zip(Numbers(&table).all_le64()) {
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

    /// Payload block `number`, which stands at `offset`.
    fn block(&self, mapping: &mut Mapping, number: u64, offset: u64) -> Result<()> {
        let source = &self.view.source;
        let disk = number * self.geometry.block;
        let length = self.geometry.block.min(self.size - disk);
        mapping.claim(offset, self.geometry.block, "data")?;
        // A log makes the file longer before it is applied.
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

/// What the current header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    sequence: u64,
    /// `None` where the log holds nothing.
    log_id: Option<Uuid>,
    log: Region,
    place: u64,
}

impl Header {
    /// The valid one, or of two valid ones the one with the larger number (2.2.2).
    fn current(source: &Source) -> Result<Self> {
        let mut found: Option<(Self, Vec<u8>)> = None;
        for place in HEADERS {
            let bytes = source.read(place, HEADER, "a header")?;
            let at = Numbers(&bytes);
            if !bytes.starts_with(HEADER_SIGNATURE) || at.le32(4) != checksum(&bytes) {
                continue;
            }
            if at.le16(66) != 1 {
                return Err(source
                    .wrong("an unknown version of VHDX", place + 66)
                    .expected(1)
                    .found(at.le16(66)));
            }
            let id = guid(&bytes, 48);
            let log = Region { offset: at.le64(72), length: u64::from(at.le32(68)) };
            let log_id = Some(id).filter(|id| !id.is_nil() && log.length > 0);
            let header = Self { sequence: at.le64(8), log_id, log, place };
            match &found {
                // Disk2vhd writes both alike (QEMU block/vhdx.c).
                Some((other, same)) if other.sequence == header.sequence && *same != bytes => {
                    return Err(source
                        .wrong("both headers have one number and differ", place + 8)
                        .expected("the current one to have the larger number")
                        .found(header.sequence));
                }
                Some((other, _)) if other.sequence >= header.sequence => {}
                _ => found = Some((header, bytes)),
            }
        }
        let Some((header, bytes)) = found else {
            let [first, second] = HEADERS;
            return Err(source
                .wrong("neither header is valid", first)
                .expected(format!("`head` and the right checksum there or at byte {second}"))
                .found("none"));
        };
        header.check(source, &bytes)?;
        Ok(header)
    }

    fn check(&self, source: &Source, bytes: &[u8]) -> Result<()> {
        let version = Numbers(bytes).le16(64);
        if self.log_id.is_some() && version != 0 {
            return Err(source
                .wrong("an unknown version of the log", self.place + 64)
                .expected(0)
                .found(version));
        }
        let aligned = self.log.offset.is_multiple_of(GRAIN) && self.log.length.is_multiple_of(GRAIN);
        if self.log.length > 0 && !aligned {
            return Err(source
                .wrong("the log is not aligned to 1 MiB", self.place + 68)
                .found(format!("{} bytes at {}", self.log.length, self.log.offset)));
        }
        if self.log.length > 0 { source.within(self.log.offset, self.log.length, "the log") } else { Ok(()) }
    }
}

/// A GUID at `offset`.
fn guid(bytes: &[u8], offset: usize) -> Uuid {
    let mut id = [0; 16];
    if let Some(bytes) = bytes.get(offset..offset + 16) {
        id.copy_from_slice(bytes);
    }
    Uuid::from_bytes_le(id)
}

/// All regions, and of them the block allocation table and the metadata (2.2.3).
fn regions(view: &View) -> Result<(Vec<Region>, Region, Region)> {
    let source = &view.source;
    let mut table = None;
    for place in REGION_TABLES {
        let bytes = view.read(place, REGION_TABLE, "a region table")?;
        if bytes.starts_with(REGION_SIGNATURE) && Numbers(&bytes).le32(4) == checksum(&bytes) {
            table = Some((place, bytes));
            break;
        }
    }
    let [first, second] = REGION_TABLES;
    let Some((place, table)) = table else {
        return Err(source
            .wrong("neither region table is valid", first)
            .expected(format!("`regi` and the right checksum there or at byte {second}"))
            .found("none"));
    };
    let count = entry_count(source, u64::from(Numbers(&table).le32(8)), place + 8)?;
    let (mut all, mut bat, mut metadata) = (Vec::new(), None, None);
    for number in 0..count {
        let from = usize_of(REGION_HEAD + number * ENTRY);
        let (id, at) = (guid(&table, from), Numbers(&table[from..]));
        let region = Region { offset: at.le64(16), length: u64::from(at.le32(24)) };
        let wrong = |what: &str| source.wrong(what, place + u64_of(from));
        if region.length == 0 || !region.offset.is_multiple_of(GRAIN) || !region.length.is_multiple_of(GRAIN)
        {
            return Err(wrong("a region is not aligned to 1 MiB")
                .found(format!("{} bytes at {}", region.length, region.offset)));
        }
        source.within(region.offset, region.length, "a region")?;
        all.push(region);
        let known = match id {
            BAT => &mut bat,
            METADATA => &mut metadata,
            _ if at.le32(28) & REGION_REQUIRED != 0 => {
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

/// The number of entries of a table, as it stands at `place`.
fn entry_count(source: &Source, count: u64, place: u64) -> Result<u64> {
    if count > MOST_ENTRIES {
        return Err(source
            .wrong("a table has too many entries", place)
            .expected(format!("at most {MOST_ENTRIES}"))
            .found(count));
    }
    Ok(count)
}

/// The items of metadata (2.6).
struct Items<'a> {
    view: &'a View,
    region: Region,
    /// Id, offset in the region, length.
    items: Vec<(Uuid, u64, u64)>,
}

impl<'a> Items<'a> {
    fn read(view: &'a View, region: Region) -> Result<Self> {
        let table = view.read(region.offset, METADATA_TABLE, "the metadata table")?;
        let (source, head) = (&view.source, Numbers(&table));
        if !table.starts_with(METADATA_SIGNATURE) {
            return Err(source
                .wrong("there is no metadata table", region.offset)
                .expected("metadata")
                .found(shown(&table[..8])));
        }
        let count = entry_count(source, u64::from(head.le16(10)), region.offset + 10)?;
        let mut items: Vec<(Uuid, u64, u64)> = Vec::new();
        for number in 0..count {
            let from = usize_of(METADATA_HEAD + number * ENTRY);
            let (id, at) = (guid(&table, from), Numbers(&table[from..]));
            let (offset, length, flags) = (u64::from(at.le32(16)), u64::from(at.le32(20)), at.le32(24));
            let wrong = |what: &str| source.wrong(what, region.offset + u64_of(from));
            let known =
                [FILE_PARAMETERS, DISK_SIZE, DISK_ID, LOGICAL_SECTOR, PHYSICAL_SECTOR, PARENT_LOCATOR]
                    .contains(&id);
            if flags & ITEM_USER != 0 || !known {
                if flags & ITEM_REQUIRED != 0 {
                    return Err(wrong("the image needs metadata that is not known").found(id));
                }
                continue;
            }
            if offset < METADATA_TABLE || offset + length > region.length {
                return Err(wrong("an item of metadata lies outside its region")
                    .expected(format!("{METADATA_TABLE} to {}", region.length))
                    .found(format!("{length} bytes at {offset}")));
            }
            if items.iter().any(|(other, ..)| *other == id) {
                return Err(wrong("an item of metadata is named twice").found(id));
            }
            items.push((id, offset, length));
        }
        Ok(Self { view, region, items })
    }

    fn find(&self, id: Uuid) -> Option<(u64, u64)> {
        let item = self.items.iter().find(|(other, ..)| *other == id);
        item.map(|(_, offset, length)| (self.region.offset + offset, *length))
    }

    /// Where an item stands.
    fn place(&self, id: Uuid) -> Result<u64> {
        self.find(id).map(|(place, _)| place).ok_or_else(|| {
            self.view.source.wrong("an item of metadata is missing", self.region.offset).expected(id)
        })
    }

    /// `length` bytes of an item from `skip` on.
    fn bytes(&self, id: Uuid, skip: u64, length: u64) -> Result<Vec<u8>> {
        let place = self.place(id)?;
        let own = self.find(id).map_or(0, |(_, length)| length);
        if skip + length > own {
            return Err(self
                .view
                .source
                .wrong("an item of metadata is too short", place)
                .expected(format!("{} bytes", skip + length))
                .found(format!("{own} bytes")));
        }
        self.view.read(place + skip, length, "metadata")
    }

    fn le32(&self, id: Uuid, skip: u64) -> Result<u32> {
        Ok(Numbers(&self.bytes(id, skip, 4)?).le32(0))
    }

    fn le64(&self, id: Uuid) -> Result<u64> {
        Ok(Numbers(&self.bytes(id, 0, 8)?).le64(0))
    }
}
