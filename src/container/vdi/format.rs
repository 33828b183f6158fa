//! The bytes of VDI 1.1: one header (VirtualBox, src/VBox/Storage/VDICore.h; QEMU block/vdi.c). All integers are
//! little-endian, UUIDs too in their first three parts.

use uuid::Uuid;

use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, MIB, low32};

/// Where the signature stands, behind 64 bytes of text, and what it is.
pub(super) const SIGNATURE_AT: usize = 64;
pub(super) const SIGNATURE: u32 = 0xbeda_107f;
/// Version 1.1: major and minor in 16 bits each.
pub(super) const VERSION: u32 = 0x0001_0001;
/// Bytes of text and version before what a header counts as itself.
pub(super) const BEFORE: u64 = 72;
/// Bytes of a header of version 1.1 without and with the geometry at its end.
pub(super) const LEAST_HEADER: u64 = 384;
const HEADER: u32 = 400;
/// What sectors have: no other size is known to anybody.
pub(super) const SECTOR: u64 = 512;
/// Bytes of a block as everybody makes them.
pub(super) const BLOCK: u64 = MIB;
/// Where the map of blocks begins, as in QEMU's files.
pub(super) const MAP: u64 = 512;
/// What the first block is aligned to, as VirtualBox has it (VDI_DATA_ALIGN).
const ALIGNMENT: u64 = MIB;
/// The most blocks: QEMU keeps header and map, 4 bytes for each block, in less than 2 GiB (block/vdi.c,
/// VDI_BLOCKS_IN_IMAGE_MAX). The header, which names the place of the first block in 32 bits, would allow twice as many.
const MOST_BLOCKS: u64 = ((1 << 31) - MAP) / 4;
/// The largest disk that we write.
pub(super) const LARGEST: u64 = MOST_BLOCKS * BLOCK;
/// The largest disk that is read: 0x3fffffff blocks, more than anybody writes. In 32 bits, the place of the first block does
/// not allow quite as many.
pub(super) const LARGEST_READ: u64 = 0x3fff_ffff * BLOCK;

/// Map entries: a block that was never written, and one that is zero. Those below are numbers of blocks in the file.
pub(super) const FREE: u32 = 0xffff_ffff;
pub(super) const ZERO: u32 = 0xffff_fffe;

/// Types of images.
pub(super) const DYNAMIC: u32 = 1;
pub(super) const STATIC: u32 = 2;
pub(super) const UNDO: u32 = 3;
pub(super) const DIFFERENCING: u32 = 4;

/// The text at the start, for people: nobody reads it.
const TEXT: &[u8] = b"<<< diskwright Virtual Disk Image >>>\n";

/// Sizes and places of a file of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes of the disk: whole sectors.
    pub(super) size: u64,
    /// Blocks of the disk, and so entries of the map.
    pub(super) blocks: u64,
    /// Where the first block stands.
    pub(super) data: u64,
}

impl Layout {
    /// That of a disk of `length` bytes, rounded up to sectors.
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

    /// The header of a disk of type `kind` with so many blocks in the file: 512 bytes.
    pub(super) fn header(&self, kind: u32, allocated: u64, image: Uuid, modification: Uuid) -> Vec<u8> {
        let mut bytes = TEXT.to_vec();
        bytes.resize(SIGNATURE_AT, 0);
        for number in [SIGNATURE, VERSION, HEADER, kind, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(bytes.len() + 256, 0); // description
        for number in [MAP, self.data] {
            bytes.extend(low32(number).to_le_bytes());
        }
        // Cylinders, heads, sectors: not known; bytes of a sector; and a number that is not used.
        let geometry = [0, 0, 0, low32(SECTOR)];
        for number in geometry.into_iter().chain([0]) {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.size.to_le_bytes());
        for number in [BLOCK, 0, self.blocks, allocated] {
            bytes.extend(low32(number).to_le_bytes());
        }
        // Of this image, of its last modification, of what it lies on, and of that one's modification.
        for id in [image, modification, Uuid::nil(), Uuid::nil()] {
            bytes.extend(id.to_bytes_le());
        }
        // The geometry that a BIOS would see: VirtualBox finds it out.
        for number in geometry {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(crate::units::usize_of(MAP), 0);
        bytes
    }
}
