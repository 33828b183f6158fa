//! VHD, which QEMU calls vpc: the format of Virtual PC, of Hyper-V's first generation, and of Azure.
//!
//! A fixed disk is the disk followed by a footer. A dynamic disk has a table of blocks of 2 MiB, each after a
//! bitmap of its sectors. `wrap` is a pure function for both.

mod format;
pub(super) mod read;

use std::sync::Arc;

use super::Identity;
use super::allocated::Allocated;
use super::fit::Lengths;
use crate::error::Result;
use crate::image::{Builder, Image, Render, Slice, records};
use crate::units::{Bytes, KIB, MIB, narrow, usize_of};
use crate::wire::Wire;
use format::{BLOCK, DYNAMIC, DynamicHeader, FIXED, FOOTER, Footer, HEADER, LEAST_FIXED, SECTOR, UNUSED};

pub(crate) use format::STRUCTURES;

/// The options of a VHD file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Whether it is the disk followed by a footer, with a size that is a multiple of 1 MiB as Azure
    /// requires; otherwise it has blocks.
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

/// Where the table of blocks begins: after the copy of the footer and the dynamic header.
const TABLE: u64 = FOOTER + HEADER;
/// Bytes of the bitmap before a block: one bit for each of 4096 sectors, so it takes one sector.
const BITMAP: u64 = BLOCK / SECTOR / 8;
/// The alignment of a block's data: a block of the host's filesystem, so that it can be shared.
const ALIGNMENT: u64 = 4 * KIB;
/// The distance from one block to the next. With only a bitmap between blocks, most of them would not be
/// aligned.
const STRIDE: u64 = BLOCK + ALIGNMENT;

/// The file that holds `image`. Its size is rounded up to sectors of 512 bytes; for a fixed disk to MiBs, at
/// least one.
///
/// # Errors
/// [`Kind::Capacity`](crate::error::Kind::Capacity) where the disk is larger than 2040 GiB.
pub(super) fn wrap(image: &Image, options: &Options, identity: &Identity) -> Result<Image> {
    let id = identity.of_disk("vhd-uuid");
    let size = format::size(image.length(), options.lengths())?;
    if options.fixed {
        let footer = Footer::new(FIXED, size, id, identity.time)?;
        let mut file = Builder::new(Bytes::new(size + FOOTER));
        file.put(Bytes::ZERO, &image.whole());
        file.bytes(Bytes::new(size), "vhd: footer", footer.bytes().to_vec());
        return file.finish();
    }
    dynamic(image, size, &Footer::new(DYNAMIC, size, id, identity.time)?)
}

/// Footer, header, table, blocks, footer.
fn dynamic(image: &Image, size: u64, footer: &Footer) -> Result<Image> {
    let blocks = Allocated::of(image, BLOCK);
    let entries = size.div_ceil(BLOCK);
    // A disk without sectors has a table without entries, which still takes a sector.
    let table = (entries * 4).next_multiple_of(SECTOR).max(SECTOR);
    let total = blocks.total();
    // The first bitmap ends where data is aligned.
    let first = (TABLE + table + BITMAP).next_multiple_of(ALIGNMENT) - BITMAP;
    // The footer is where the bitmap of the next block would be. Programs append a block at the place of the
    // footer, and Hyper-V reports a file whose blocks are not aligned to 4 KiB as one of alignment 0.
    let end = first + total * STRIDE;
    let mut file = Builder::new(Bytes::new(end + FOOTER));
    let copies = Slice::ready("vhd: footer", footer.bytes().to_vec());
    file.put(Bytes::ZERO, &copies);
    file.put(Bytes::new(end), &copies);
    let header = DynamicHeader::new(TABLE, entries)?;
    file.bytes(Bytes::new(FOOTER), "vhd: dynamic header", header.bytes().to_vec());
    // A clear bit says that a sector was never written and reads as zero. All bits are set, as in QEMU. A
    // sector of a stored block reads as it is, and is zero where the disk has a hole. So readers that ignore
    // bitmaps see the same disk as readers that use them.
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
        // Entries without a block, up to the end of the last sector. The largest file has fewer than 2^32
        // sectors: 2040 GiB, 4 KiB for each of its 1,044,480 blocks, and less than 5 MiB before them are less
        // than 2044 GiB.
        records(4, skip, out, |number| {
            let sector = self.blocks.ordinal(number).map(|block| (self.first + block * STRIDE) / SECTOR);
            let entry = sector.map_or(Ok(UNUSED), |sector| narrow(sector, "the sector of a block"))?;
            Ok(entry.to_be_bytes())
        })
    }

    fn label(&self, _: u32) -> String {
        "vhd: block allocation table".to_owned()
    }
}
