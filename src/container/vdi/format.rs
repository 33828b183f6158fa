//! The bytes of VDI 1.1: one header (VirtualBox, src/VBox/Storage/VDICore.h; QEMU block/vdi.c). All integers
//! are little-endian, and so are the first three parts of UUIDs.

use uuid::Uuid;

use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, MIB, narrow};
use crate::wire::{Guid, Structure, Wire, wire};

/// Every structure, for the tables of docs/formats/vdi.md.
pub(crate) const STRUCTURES: &[Structure] = &[Header::STRUCTURE, Geometry::STRUCTURE];

wire! {
    /// The geometry of a disk for a BIOS.
    pub(super) struct Geometry: "VDI geometry", little, 16 {
        0 cylinders "cCylinders": u32,
        4 heads "cHeads": u32,
        8 sectors "cSectors": u32,
        12 sector_size "cbSector": u32,
    }
}

wire! {
    /// Text, signature, version, and the header of version 1.1 with the geometry at its end, which older
    /// headers lack.
    pub(super) struct Header: "VDI header", little, 472 {
        0 text "szFileInfo": [u8; 64],
        64 signature "u32Signature": u32 = SIGNATURE,
        68 version "u32Version": u32,
        72 header_size "cbHeader": u32,
        76 kind "u32Type": u32,
        80 flags "fFlags": u32,
        84 comment "szComment": [u8; 256],
        340 map_offset "offBlocks": u32,
        344 data_offset "offData": u32,
        348 legacy_geometry "LegacyGeometry": Geometry,
        364 unused "u32Dummy": u32,
        368 disk_size "cbDisk": u64,
        376 block_size "cbBlock": u32,
        380 block_extra "cbBlockExtra": u32,
        384 blocks "cBlocks": u32,
        388 blocks_allocated "cBlocksAllocated": u32,
        392 image "uuidCreate": Guid,
        408 modification "uuidModify": Guid,
        424 parent "uuidLinkage": Guid,
        440 parent_modification "uuidParentModify": Guid,
        456 geometry "LCHSGeometry": Geometry,
    }
}

/// The value of the signature.
const SIGNATURE: u32 = 0xbeda_107f;
/// Version 1.1: major and minor in 16 bits each.
pub(super) const VERSION: u32 = 0x0001_0001;
/// Bytes of text, signature and version, which the header does not include in its own length.
pub(super) const BEFORE: u64 = 72;
/// The length of a header of version 1.1 without the geometry at its end, and with it.
pub(super) const LEAST_HEADER: u64 = 384;
const HEADER: u32 = 400;
/// Bytes in a sector; no reader supports another size.
pub(super) const SECTOR: u64 = 512;
/// A geometry with the sector size and no other value.
const UNKNOWN_GEOMETRY: Geometry = Geometry { cylinders: 0, heads: 0, sectors: 0, sector_size: 512 };
/// Size of a block in bytes, as all writers choose it.
pub(super) const BLOCK: u64 = MIB;
/// Where the map of blocks begins, as in QEMU's files.
pub(super) const MAP: u64 = 512;
/// The alignment of the first block, as in VirtualBox (VDI_DATA_ALIGN).
const ALIGNMENT: u64 = MIB;
/// The largest number of blocks: QEMU keeps header and map, with 4 bytes for each block, below 2 GiB
/// (block/vdi.c, VDI_BLOCKS_IN_IMAGE_MAX). The 32 bits for the place of the first block would allow twice as
/// many.
const MOST_BLOCKS: u64 = ((1 << 31) - MAP) / 4;
/// The largest disk that we write.
pub(super) const LARGEST: u64 = MOST_BLOCKS * BLOCK;
/// The largest disk that is read: 0x3fffffff blocks, more than any writer makes. The 32 bits for the place of
/// the first block do not allow quite as many.
pub(super) const LARGEST_READ: u64 = 0x3fff_ffff * BLOCK;

/// Map entries: a block that was never written, and a block of zeros. Smaller values are numbers of blocks in
/// the file.
pub(super) const FREE: u32 = 0xffff_ffff;
pub(super) const ZERO: u32 = 0xffff_fffe;

/// Types of images.
pub(super) const DYNAMIC: u32 = 1;
pub(super) const STATIC: u32 = 2;
pub(super) const UNDO: u32 = 3;
pub(super) const DIFFERENCING: u32 = 4;

/// The text at the start, which is only for people.
const TEXT: &[u8] = b"<<< diskwright Virtual Disk Image >>>\n";

/// Sizes and places in a file that we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes of the disk: whole sectors.
    pub(super) size: u64,
    /// Blocks of the disk, which is also the number of entries of the map.
    pub(super) blocks: u64,
    /// Where the first block stands.
    pub(super) data: u64,
}

impl Layout {
    /// The layout for a disk of `length` bytes, rounded up to sectors.
    ///
    /// # Errors
    /// [`Kind::Capacity`] with the largest disk.
    pub(super) fn new(length: Bytes) -> Result<Self> {
        let size = super::LENGTHS.round_up(length).get();
        if size > LARGEST {
            return Err(Error::new(Kind::Capacity, "the disk is too large for VDI")
                .expected(format!("at most {} blocks of 1 MiB, {}", MOST_BLOCKS, Bytes::new(LARGEST)))
                .found(length)
                .hint("take qcow2 with clusters of 2MiB"));
        }
        let blocks = size.div_ceil(BLOCK);
        Ok(Self { size, blocks, data: (MAP + blocks * 4).next_multiple_of(ALIGNMENT) })
    }

    /// The header of a disk of type `kind` with `stored` blocks in the file.
    pub(super) fn header(
        &self,
        kind: u32,
        allocated: u64,
        image: Uuid,
        modification: Uuid,
    ) -> Result<Header> {
        let mut text = [0; 64];
        text[..TEXT.len()].copy_from_slice(TEXT);
        Ok(Header {
            text,
            version: VERSION,
            header_size: HEADER,
            kind,
            map_offset: narrow(MAP, "the place of the map of blocks")?,
            data_offset: narrow(self.data, "the place of the first block")?,
            legacy_geometry: UNKNOWN_GEOMETRY,
            disk_size: self.size,
            block_size: narrow(BLOCK, "the size of a block")?,
            blocks: narrow(self.blocks, "the blocks of a disk")?,
            blocks_allocated: narrow(allocated, "the blocks in a file")?,
            image: Guid(image),
            modification: Guid(modification),
            // The geometry for a BIOS, which VirtualBox works out itself.
            geometry: UNKNOWN_GEOMETRY,
            ..Header::BLANK
        })
    }
}
