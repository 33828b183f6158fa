//! VHDX: the format of Hyper-V (Microsoft, [MS-VHDX]), dynamic and fixed.
//!
//! `wrap` is a pure function: header section, an empty log, metadata, the block allocation table, then the
//! blocks with data in the order of the disk (all blocks if the disk is fixed), each at a multiple of 1 MiB.

pub(super) mod check;
mod format;
mod log;
pub(super) mod read;

use std::sync::Arc;

use super::allocated::Allocated;
use super::fit::Lengths;
use super::{Identity, SectorSize};
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image, Render, Slice, records};
use crate::units::{Bytes, MIB, narrow};
use crate::wire::Wire;
use format::{
    BAT, DISK_ID, DISK_SIZE, FILE_PARAMETERS, FULLY_PRESENT, FileParameters, GRAIN, Geometry, HEADERS,
    Header, ITEM_DISK, Item, LEAST_BLOCK, LEAVE_ALLOCATED, LOGICAL_SECTOR, METADATA, METADATA_TABLE,
    MOST_DISK, Metadata, PHYSICAL_SECTOR, REGION_TABLES, Region, ZERO,
};

pub(crate) use format::STRUCTURES;

/// The options of a VHDX file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether every block has a place.
    pub fixed: bool,
}

/// The lengths of disks. QEMU does not open a disk without blocks.
pub(super) const fn lengths(sector_size: SectorSize) -> Lengths {
    Lengths { step: sector_size.get(), least: sector_size.get() }
}

/// Bytes in a physical sector, as Hyper-V chooses it even for disks with logical sectors of 512 bytes.
const PHYSICAL: u32 = 4096;
/// The largest number of payload blocks. It gives a table of 8 MiB, the largest that QEMU's rule makes. So
/// blocks have 1 MiB for disks of up to 1 TiB, as Microsoft recommends for Linux, and 64 MiB at 64 TiB.
const MOST_BLOCKS: u64 = 1 << 20;
/// The place of the log, after the header section; it has the smallest length.
const LOG: Region = Region { offset: MIB, length: MIB };
/// The place of metadata, after the log, with the same length as in Hyper-V.
const METADATA_REGION: Region = Region { offset: 2 * MIB, length: MIB };
/// Where the block allocation table begins.
const BAT_START: u64 = 3 * MIB;

/// The places of the parts of a file.
#[derive(Debug)]
struct Layout {
    size: u64,
    geometry: Geometry,
    /// Blocks of the disk that have a place: those with data, or all.
    data: Allocated,
    bat: Region,
}

impl Layout {
    fn new(image: &Image, fixed: bool, sector_size: SectorSize) -> Result<Self> {
        let size = lengths(sector_size).round_up(image.length()).get();
        if size > MOST_DISK {
            return Err(Error::new(Kind::Capacity, "the disk is too large for vhdx")
                .expected(format!("at most {}", Bytes::new(MOST_DISK)))
                .found(image.length()));
        }
        let block = size.div_ceil(MOST_BLOCKS).next_power_of_two().max(LEAST_BLOCK);
        let geometry = Geometry::new(size, block, sector_size.get());
        let bat = Region { offset: BAT_START, length: (geometry.entries() * 8).next_multiple_of(GRAIN) };
        let data = if fixed { Allocated::every(block, geometry.blocks) } else { Allocated::of(image, block) };
        Ok(Self { size, geometry, data, bat })
    }

    /// Where the first block begins.
    const fn data_start(&self) -> u64 {
        self.bat.offset + self.bat.length
    }

    /// Entry `number` of the block allocation table. Sector bitmaps have no place, because there is no
    /// parent.
    fn entry(&self, number: u64) -> u64 {
        let Some(block) = self.geometry.payload(number) else { return 0 };
        // Blocks that are "not present" may read as anything (2.5.1.1); blocks in this state read as zero.
        let ordinal = self.data.ordinal(block);
        ordinal.map_or(ZERO, |ordinal| (self.data_start() + ordinal * self.geometry.block) | FULLY_PRESENT)
    }
}

impl Render for Layout {
    fn render(&self, _: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        records(8, skip, out, |number| Ok(self.entry(number).to_le_bytes()))
    }

    fn label(&self, _: u32) -> String {
        "vhdx: block allocation table".to_owned()
    }
}

/// The file that holds `image`, its size rounded up to whole sectors and to at least one.
///
/// # Errors
/// [`Kind::Capacity`] for a disk of more than 64 TiB.
pub(super) fn wrap(image: &Image, options: &Options, identity: &Identity) -> Result<Image> {
    let layout = Layout::new(image, options.fixed, identity.sector_size)?;
    let (block, start) = (layout.geometry.block, Bytes::new(layout.data_start()));
    let end = layout.data_start() + layout.data.total() * block;
    let mut file = Builder::new(Bytes::new(end));
    let disk = identity.of_disk("vhdx-disk");
    file.bytes(Bytes::ZERO, "vhdx: file type identifier", format::identifier());
    // The header with the larger number is the current one.
    for (sequence, at) in (1..).zip(HEADERS) {
        let [file_write, data_write] =
            ["vhdx-file-write", "vhdx-data-write"].map(|name| identity.derived(name));
        let header = Header::new(sequence, file_write, data_write, LOG)?;
        file.bytes(Bytes::new(at), "vhdx: header", header.bytes().to_vec());
    }
    let regions = format::region_table(&[(BAT, layout.bat), (METADATA, METADATA_REGION)])?;
    let regions = Slice::ready("vhdx: region table", regions);
    REGION_TABLES.iter().for_each(|at| file.put(Bytes::new(*at), &regions));
    let flags = if options.fixed { LEAVE_ALLOCATED } else { 0 };
    let parameters = FileParameters { block_size: narrow(block, "the size of a block")?, flags };
    let sector_size: u32 = narrow(identity.sector_size.get(), "the size of a sector")?;
    let of_disk = |id, value: &[u8]| Item { id, flags: ITEM_DISK, value: value.to_vec() };
    let Metadata { table, values } = Metadata::new(&[
        Item { id: FILE_PARAMETERS, flags: 0, value: parameters.bytes().to_vec() },
        of_disk(DISK_SIZE, &layout.size.to_le_bytes()),
        of_disk(DISK_ID, &disk.to_bytes_le()),
        of_disk(LOGICAL_SECTOR, &sector_size.to_le_bytes()),
        of_disk(PHYSICAL_SECTOR, &PHYSICAL.to_le_bytes()),
    ])?;
    file.bytes(Bytes::new(METADATA_REGION.offset), "vhdx: metadata table", table);
    file.bytes(Bytes::new(METADATA_REGION.offset + METADATA_TABLE), "vhdx: metadata items", values);
    layout.data.place(image, &mut file, start, block);
    let (at, length) = (Bytes::new(layout.bat.offset), Bytes::new(layout.geometry.entries() * 8));
    let renderer = file.renderer(Arc::new(layout));
    file.rendered(at, length, renderer, 0);
    file.finish()
}
