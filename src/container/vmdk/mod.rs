//! VMDK: VMware's format (VMware, Virtual Disk Format 5.0), as one sparse file or as a stream.
//!
//! `wrap` is a pure function: header, descriptor, both grain directories with all their tables, then the grains that
//! hold something in the order of the disk, each on a multiple of 64 KiB. Compressed grains have lengths that are known
//! only when they are read; `Stream` writes those, to a file or to standard output.

mod descriptor;
mod format;
pub(super) mod read;
mod stream;

use std::sync::Arc;

use super::Identity;
use super::allocated::Allocated;
use super::codec::ZlibLevel;
use super::entries::each_entry;
use super::fit::Lengths;
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image, Render};
use crate::units::{Bytes, index, low32};
pub use descriptor::Adapter;
pub(super) use stream::Stream;

use format::{
    COVERED, DESCRIPTOR_AT, DESCRIPTOR_END, ENTRIES, FLAG_NEWLINES, FLAG_REDUNDANT, GRAIN, GRAIN_SECTORS,
    Header, MOST_FILE, MOST_SPARSE, SECTOR, TABLE_SECTORS,
};

/// What a VMDK file is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which kind of VMDK it is.
    pub create_type: CreateType,
    /// The controller that it is meant for; `None` is the usual one.
    pub adapter: Option<Adapter>,
}

/// The lengths of disks, of which the least is a sector: a capacity of 0 means that the file is only a descriptor.
pub(super) const LENGTHS: Lengths = Lengths { step: SECTOR, least: SECTOR };

/// The kinds of VMDK that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CreateType {
    /// One file of grains.
    #[default]
    MonolithicSparse,
    /// Compressed grains in one stream, for OVF.
    StreamOptimized(ZlibLevel),
}

impl CreateType {
    /// The controller that such a disk is meant for where nothing else is said.
    pub(crate) const fn usual_adapter(self) -> Adapter {
        match self {
            Self::MonolithicSparse => Adapter::IDE,
            Self::StreamOptimized(_) => Adapter::LSI_LOGIC,
        }
    }
}

/// Where the parts of a sparse file stand; all in sectors.
#[derive(Debug)]
struct Layout {
    capacity: u64,
    /// Grains of the disk that hold something.
    data: Allocated,
    /// Grain tables that are not all zero, as units of the disk they cover.
    tables: Allocated,
    /// How many grain tables there are. VMware wants all of them to have a place (VirtualBox, VMDK.cpp: "VMware can't
    /// use such images").
    count: u64,
    redundant: u64,
    directory: u64,
    /// The first grain.
    data_start: u64,
}

impl Layout {
    fn new(image: &Image) -> Result<Self> {
        let hint = "the subformat streamOptimized holds larger ones";
        let capacity = format::capacity(image.length(), MOST_SPARSE, descriptor::SPARSE, hint)
            .map_err(|error| error.remedy("subformat", hint))?;
        let count = (capacity * SECTOR).div_ceil(COVERED);
        let directory_sectors = directory_sectors(count);
        let with_tables = directory_sectors + count * TABLE_SECTORS;
        let redundant = DESCRIPTOR_END;
        let directory = redundant + with_tables;
        let layout = Self {
            capacity,
            data: Allocated::of(image, GRAIN),
            tables: Allocated::of(image, COVERED),
            count,
            redundant,
            directory,
            data_start: (directory + with_tables).next_multiple_of(GRAIN_SECTORS),
        };
        if layout.sectors() > MOST_FILE {
            return Err(file_too_long(layout.sectors()).remedy("subformat", hint));
        }
        Ok(layout)
    }

    /// Sectors of the file.
    fn sectors(&self) -> u64 {
        self.data_start + self.data.total() * GRAIN_SECTORS
    }

    /// Where the tables of the directory at `directory` begin.
    fn tables_at(&self, directory: u64) -> u64 {
        directory + directory_sectors(self.count)
    }

    /// The grain table entry of grain `number` of the disk.
    fn entry(&self, number: u64) -> u64 {
        self.data.ordinal(number).map_or(0, |ordinal| self.data_start + ordinal * GRAIN_SECTORS)
    }
}

/// Sectors of a directory of `tables` entries.
const fn directory_sectors(tables: u64) -> u64 {
    (tables * 4).div_ceil(SECTOR)
}

/// The error for a file whose sectors a table cannot count.
fn file_too_long(sectors: u64) -> Error {
    Error::new(
        Kind::Capacity,
        "the disk holds too much for vmdk: its tables count sectors of the file in 32 bits",
    )
    .expected(format!("a file of at most {}", Bytes::new(MOST_FILE * SECTOR)))
    .found(format!("{} bytes", sectors.saturating_mul(SECTOR)))
}

/// Which table a part of the renderer is: the two directories, and the tables that hold something.
const PART_REDUNDANT: u32 = 0;
const PART_DIRECTORY: u32 = 1;
const PART_TABLES: u32 = 2;

impl Render for Layout {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        let first = match part {
            PART_REDUNDANT => self.tables_at(self.redundant),
            _ => self.tables_at(self.directory),
        };
        each_entry(skip, out, |number| {
            let entry = match part {
                PART_REDUNDANT | PART_DIRECTORY if number < self.count => first + number * TABLE_SECTORS,
                PART_REDUNDANT | PART_DIRECTORY => 0,
                _ => {
                    let table = self.tables.number(number / ENTRIES).unwrap_or(0);
                    self.entry(table * ENTRIES + number % ENTRIES)
                }
            };
            low32(entry).to_le_bytes()
        });
        Ok(())
    }

    fn label(&self, part: u32) -> String {
        let names = ["redundant grain directory", "grain directory", "grain tables"];
        format!("vmdk: {}", names.get(index(part)).copied().unwrap_or_default())
    }
}

/// The sparse file that holds `image`, its size rounded up to whole sectors of 512 bytes and to at least one.
///
/// # Errors
/// [`Kind::Capacity`] for a disk of 2 TiB or more, or one that makes a file of more than 2 TiB.
pub(super) fn wrap(image: &Image, options: &Options, identity: &Identity) -> Result<Image> {
    let layout = Layout::new(image)?;
    let header = Header {
        version: 1,
        flags: FLAG_NEWLINES | FLAG_REDUNDANT,
        capacity: layout.capacity,
        redundant: layout.redundant,
        directory: layout.directory,
        overhead: layout.data_start,
    };
    let mut file = Builder::new(bytes(layout.sectors()));
    file.bytes(Bytes::ZERO, "vmdk: header", header.bytes());
    let descriptor = descriptor::embedded(
        descriptor::SPARSE,
        options.adapter.unwrap_or(options.create_type.usual_adapter()),
        layout.capacity,
        identity,
    );
    file.bytes(bytes(DESCRIPTOR_AT), "vmdk: descriptor", descriptor);
    layout.data.place(image, &mut file, bytes(layout.data_start), GRAIN);
    let directories = [(PART_REDUNDANT, layout.redundant), (PART_DIRECTORY, layout.directory)];
    let first_tables = directories.map(|(_, at)| layout.tables_at(at));
    let length = bytes(directory_sectors(layout.count));
    let runs = layout.tables.runs().to_vec();
    let renderer = file.renderer(Arc::new(layout));
    for ((part, at), tables) in directories.into_iter().zip(first_tables) {
        file.rendered(bytes(at), length, renderer, part);
        for run in &runs {
            let from = bytes(tables + run.first * TABLE_SECTORS);
            let skip = bytes(run.ordinal * TABLE_SECTORS).get();
            file.rendered_from(from, bytes(run.count * TABLE_SECTORS), renderer, PART_TABLES, skip);
        }
    }
    file.finish()
}

/// The bytes of a number of sectors.
const fn bytes(sectors: u64) -> Bytes {
    Bytes::new(sectors.saturating_mul(SECTOR))
}
