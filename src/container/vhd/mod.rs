//! VHD, which QEMU calls vpc: the format of Virtual PC, of Hyper-V's first generation, and of Azure.
//!
//! A fixed disk is the disk itself with a footer behind it. A dynamic one has a table of blocks of 2 MiB, each behind
//! a bitmap of its sectors. `wrap` is a pure function to either.

mod format;
pub(super) mod read;

use std::sync::Arc;

use super::Identity;
use super::allocated::Allocated;
use super::entries::each_entry;
use super::fit::Lengths;
use crate::error::Result;
use crate::image::{Builder, Image, Render, Slice};
use crate::units::{Bytes, KIB, MIB, low32, usize_of};
use format::{BLOCK, DYNAMIC, FIXED, FOOTER, Footer, HEADER, LEAST_FIXED, SECTOR, UNUSED};

/// What a VHD file is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The disk itself with a footer, its size a multiple of 1 MiB as Azure wants it; otherwise blocks as needed.
    pub fixed: bool,
}

impl Options {
    /// The lengths of disks: whole sectors, or whole MiBs for a fixed disk.
    pub(super) const fn lengths(&self) -> Lengths {
        if self.fixed {
            Lengths { step: MIB, least: LEAST_FIXED }
        } else {
            Lengths { step: SECTOR, least: 0 }
        }
    }
}

/// Where the table of blocks begins: behind the copy of the footer and the dynamic header.
const TABLE: u64 = FOOTER + HEADER;
/// Bytes of the bitmap before a block: a bit for each of its 4096 sectors, which is a sector.
const BITMAP: u64 = BLOCK / SECTOR / 8;
/// What the data of a block is aligned to: a block of the host's filesystem, so that it can be shared.
const ALIGNMENT: u64 = 4 * KIB;
/// From one block to the next. A bitmap alone between them would put every other block off the alignment.
const STRIDE: u64 = BLOCK + ALIGNMENT;

/// The file that holds `image`. Its size is rounded up to sectors of 512 bytes, or to MiBs for a fixed disk, of which
/// the least is one.
///
/// # Errors
/// [`Kind::Capacity`](crate::error::Kind::Capacity) where the disk is larger than 2040 GiB.
pub(super) fn wrap(image: &Image, options: &Options, identity: &Identity) -> Result<Image> {
    let id = identity.of_disk("vhd-uuid");
    let size = format::size(image.length(), options.lengths())?;
    if options.fixed {
        let footer = Footer::new(FIXED, size, id, identity.time);
        let mut file = Builder::new(Bytes::new(size + FOOTER));
        file.put(Bytes::ZERO, &image.whole());
        file.bytes(Bytes::new(size), "vhd: footer", footer.bytes());
        return file.finish();
    }
    dynamic(image, size, &Footer::new(DYNAMIC, size, id, identity.time))
}

/// Footer, header, table, blocks, footer.
fn dynamic(image: &Image, size: u64, footer: &Footer) -> Result<Image> {
    let blocks = Allocated::of(image, BLOCK);
    let entries = size.div_ceil(BLOCK);
    // A disk without sectors has a table without entries; its sector is there nevertheless.
    let table = (entries * 4).next_multiple_of(SECTOR).max(SECTOR);
    let total = blocks.total();
    // The first bitmap ends where data is aligned.
    let first = (TABLE + table + BITMAP).next_multiple_of(ALIGNMENT) - BITMAP;
    // The footer stands where the bitmap of the next block would: programs append a block where the footer was, and
    // Hyper-V reports a file whose blocks are not aligned to 4 KiB as one of alignment 0.
    let end = first + total * STRIDE;
    let mut file = Builder::new(Bytes::new(end + FOOTER));
    let copies = Slice::ready("vhd: footer", footer.bytes());
    file.put(Bytes::ZERO, &copies);
    file.put(Bytes::new(end), &copies);
    file.bytes(Bytes::new(FOOTER), "vhd: dynamic header", format::header(TABLE, entries));
    // A clear bit says that a sector was never written and reads as zero. All are set, as QEMU does it: a sector of a
    // block that is there reads as what is there, which is zero too where the disk holds nothing, and readers that do
    // not look at bitmaps see the same disk as those that do.
    let bitmap = Slice::ready("vhd: bitmap", vec![0xff; usize_of(BITMAP)]);
    file.reserve(usize_of(2 * total));
    for number in 0..total {
        file.put(Bytes::new(first + number * STRIDE), &bitmap);
    }
    blocks.place(image, &mut file, Bytes::new(first + BITMAP), STRIDE);
    let renderer = file.renderer(Arc::new(Table { blocks, first }));
    file.rendered(Bytes::new(TABLE), Bytes::new(table), renderer, 0);
    file.finish()
}

/// The block allocation table.
#[derive(Debug)]
struct Table {
    blocks: Allocated,
    first: u64,
}

impl Render for Table {
    fn render(&self, _: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        // Up to the end of its last sector, entries without a block. Sectors of the largest file: 2040 GiB, 4 KiB for
        // each of its 1,044,480 blocks, and less than 5 MiB before them are 2044 GiB, less than 2^32 sectors.
        each_entry(skip, out, |number| {
            let sector = self.blocks.ordinal(number).map(|block| (self.first + block * STRIDE) / SECTOR);
            sector.map_or(UNUSED, low32).to_be_bytes()
        });
        Ok(())
    }

    fn label(&self, _: u32) -> String {
        "vhd: block allocation table".to_owned()
    }
}
