//! VMDK: the format of VMware (VMware, Virtual Disk Format 5.0), as one sparse file or as a stream.
//!
//! `wrap` is a pure function: header, descriptor, both grain directories with all their tables, then the
//! grains with data in the order of the disk, each at a multiple of 64 KiB. The lengths of compressed grains
//! are known only after compression; `Stream` writes those, to a file or to standard output.

mod descriptor;
mod format;
pub(super) mod read;
mod sparse;
mod split;
mod stream;

use std::sync::Arc;

use super::Identity;
use super::allocated::Allocated;
use super::codec::ZlibLevel;
use super::fit::Lengths;
use crate::error::{Error, Kind, Result};
use crate::image::{Builder, Image, Render, records};
use crate::units::{Bytes, index, narrow};
use crate::wire::Wire;
use descriptor::Says;
pub use descriptor::{Adapter, HARDWARES};
pub(crate) use format::STRUCTURES;
pub(super) use split::{files, names};
pub(super) use stream::Stream;

use format::{
    COVERED, DESCRIPTOR_AT, DESCRIPTOR_END, ENTRIES, FLAG_NEWLINES, FLAG_REDUNDANT, GRAIN, GRAIN_SECTORS,
    Header, MOST_FILE, MOST_SPARSE, SECTOR, TABLE_SECTORS,
};

/// The options of a VMDK file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The kind of VMDK.
    pub create_type: CreateType,
    /// The controller that it is meant for; `None` is the default.
    pub adapter: Option<Adapter>,
    /// The version of virtual hardware, of [`HARDWARES`]; `None` is 4, which every product runs.
    pub hardware: Option<u8>,
}

/// The lengths of disks. The smallest is a sector: a capacity of 0 means that the file is only a descriptor.
pub(super) const LENGTHS: Lengths = Lengths { step: SECTOR, least: SECTOR };

/// The kinds of VMDK that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CreateType {
    /// One file of grains.
    #[default]
    MonolithicSparse,
    /// Compressed grains in one stream, for OVF.
    StreamOptimized(ZlibLevel),
    /// A descriptor, and the raw disk beside it.
    MonolithicFlat,
    /// A descriptor, and files of grains for at most 2 GiB each.
    TwoGbMaxExtentSparse,
    /// A descriptor, and the raw disk in files of at most 2 GiB.
    TwoGbMaxExtentFlat,
}

impl CreateType {
    /// The default controller of such a disk.
    pub(crate) const fn usual_adapter(self) -> Adapter {
        match self {
            Self::StreamOptimized(_) => Adapter::LSI_LOGIC,
            _ => Adapter::IDE,
        }
    }

    /// Whether the disk lies in several files.
    pub(crate) const fn is_several(self) -> bool {
        matches!(self, Self::MonolithicFlat | Self::TwoGbMaxExtentSparse | Self::TwoGbMaxExtentFlat)
    }
}

/// The places of the parts of a sparse file; all in sectors.
#[derive(Debug)]
struct Layout {
    capacity: u64,
    /// Grains of the disk that contain data.
    data: Allocated,
    /// Grain tables that are not all zero, as the units of the disk that they cover.
    tables: Allocated,
    /// The number of grain tables. VMware requires a place for all of them (VirtualBox, VMDK.cpp: "VMware
    /// can't use such images").
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

    /// Entry `number` of the grain tables with data, counted through all of them: the sector of a grain, or
    /// 0.
    fn entry(&self, number: u64) -> Result<u64> {
        let table = self.tables.number(number / ENTRIES);
        let table = table.ok_or_else(|| Error::bug("a grain table covers no part of the disk"))?;
        let ordinal = self.data.ordinal(table * ENTRIES + number % ENTRIES);
        Ok(ordinal.map_or(0, |ordinal| self.data_start + ordinal * GRAIN_SECTORS))
    }

    /// Entry `number` of the directory at `directory`: the sector of a grain table, or 0 after the last one.
    fn directory_entry(&self, directory: u64, number: u64) -> u64 {
        if number < self.count { self.tables_at(directory) + number * TABLE_SECTORS } else { 0 }
    }
}

/// Sectors of a directory of `tables` entries.
const fn directory_sectors(tables: u64) -> u64 {
    (tables * 4).div_ceil(SECTOR)
}

/// The error for a file with more sectors than a table can count.
fn file_too_long(sectors: u64) -> Error {
    Error::new(
        Kind::Capacity,
        "the disk holds too much for vmdk: its tables count sectors of the file in 32 bits",
    )
    .expected(format!("a file of at most {}", Bytes::new(MOST_FILE * SECTOR)))
    .found(format!("{} bytes", sectors.saturating_mul(SECTOR)))
}

/// The parts of the renderer: the two directories, and the tables with data.
const PART_REDUNDANT: u32 = 0;
const PART_DIRECTORY: u32 = 1;
const PART_TABLES: u32 = 2;

impl Render for Layout {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        records(4, skip, out, |number| {
            let entry = match part {
                PART_REDUNDANT => self.directory_entry(self.redundant, number),
                PART_DIRECTORY => self.directory_entry(self.directory, number),
                PART_TABLES => self.entry(number)?,
                _ => return Err(Error::bug("vmdk has no such table")),
            };
            Ok(narrow::<u32>(entry, "the sector of a grain or its table")?.to_le_bytes())
        })
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
    let descriptor = descriptor::embedded(&options.says(descriptor::SPARSE, layout.capacity, identity));
    sparse_file(image, layout, Some(descriptor))
}

impl Options {
    /// What the descriptor of such a disk says.
    fn says<'a>(&self, kind: &'a str, capacity: u64, identity: &'a Identity) -> Says<'a> {
        let adapter = self.adapter.unwrap_or(self.create_type.usual_adapter());
        Says { kind, adapter, hardware: self.hardware, capacity, identity }
    }
}

/// A sparse file, with its descriptor inside if it is a whole disk.
fn sparse_file(image: &Image, layout: Layout, descriptor: Option<Vec<u8>>) -> Result<Image> {
    let mut header = Header {
        redundant_offset: layout.redundant,
        directory_offset: layout.directory,
        overhead: layout.data_start,
        ..Header::new(1, FLAG_NEWLINES | FLAG_REDUNDANT, layout.capacity)?
    };
    let mut file = Builder::new(bytes(layout.sectors()));
    match descriptor {
        Some(descriptor) => file.bytes(bytes(DESCRIPTOR_AT), "vmdk: descriptor", descriptor),
        // The part of a disk has none (VDF, "Hosted Sparse Extents").
        None => (header.descriptor_offset, header.descriptor_size) = (0, 0),
    }
    file.bytes(Bytes::ZERO, "vmdk: header", header.bytes().to_vec());
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

/// The bytes of this many sectors.
const fn bytes(sectors: u64) -> Bytes {
    Bytes::new(sectors.saturating_mul(SECTOR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    /// A lookup of a missing table is an error, and never returns entries of another table.
    #[test]
    fn a_lookup_that_fails_is_a_bug() {
        let mut builder = Builder::new(Bytes::new(100 * MIB));
        builder.bytes(Bytes::new(40 * MIB), "part", vec![7; 512]);
        let mut layout = Layout::new(&builder.finish().unwrap()).unwrap();
        let mut out = [0; 16];
        // Tables cover 32 MiB: 40 MiB lie in the second one, in its grain 128.
        layout.render(PART_TABLES, 4 * 128, &mut out).unwrap();
        assert_ne!(out[..4], [0; 4]);
        assert_eq!(layout.render(PART_TABLES, 4 * 512, &mut out).unwrap_err().kind(), Kind::Bug);
        assert_eq!(layout.render(3, 0, &mut out).unwrap_err().kind(), Kind::Bug);
        layout.tables = Allocated::every(COVERED, 0);
        assert_eq!(layout.render(PART_TABLES, 0, &mut out).unwrap_err().kind(), Kind::Bug);
        // The file is longer than its tables can address; the layout would have refused it.
        layout.directory = 1 << 40;
        assert_eq!(layout.render(PART_DIRECTORY, 0, &mut out).unwrap_err().kind(), Kind::Bug);
    }
}
