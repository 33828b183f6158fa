//! The bytes of VMDK: header, markers, limits (VMware, Virtual Disk Format 5.0, December 2011; cited as VDF). All
//! integers are little-endian, and offsets count sectors of 512 bytes.

use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, usize_of};

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
/// "KDMV".
pub(super) const MAGIC: u32 = 0x564d_444b;
/// "COWD": a sparse extent of ESX Server (VDF, "ESX Server Sparse Extents"), which needs a descriptor file.
pub(super) const MAGIC_ESX: u32 = 0x4457_4f43;
/// The first 32 bits of a space-efficient sparse extent (QEMU block/vmdk.c; VMware does not document it).
pub(super) const MAGIC_SE_SPARSE: u32 = 0xcafe_babe;
/// Sectors of a grain: 64 KiB, what every writer takes.
pub(super) const GRAIN_SECTORS: u64 = 128;
/// Bytes of a grain.
pub(super) const GRAIN: u64 = GRAIN_SECTORS * SECTOR;
/// Entries of a grain table; VDF knows no other number.
pub(super) const ENTRIES: u64 = 512;
/// Sectors of a grain table of entries of 32 bits.
pub(super) const TABLE_SECTORS: u64 = ENTRIES * 4 / SECTOR;
/// Bytes of the disk that a grain table covers.
pub(super) const COVERED: u64 = ENTRIES * GRAIN;
/// Where the descriptor stands: behind the header.
pub(super) const DESCRIPTOR_AT: u64 = 1;
/// Sectors kept for the descriptor, so that programs can add lines to it; VMware's and QEMU's number.
pub(super) const DESCRIPTOR_SECTORS: u64 = 20;
/// The first sector behind the descriptor.
pub(super) const DESCRIPTOR_END: u64 = DESCRIPTOR_AT + DESCRIPTOR_SECTORS;

/// The newline detector is valid.
pub(super) const FLAG_NEWLINES: u32 = 1;
/// There is a second grain directory with tables of its own.
pub(super) const FLAG_REDUNDANT: u32 = 1 << 1;
/// A grain table entry of 1 means zeros.
pub(super) const FLAG_ZERO_GRAINS: u32 = 1 << 2;
/// Grains are compressed.
pub(super) const FLAG_COMPRESSED: u32 = 1 << 16;
/// There are markers: before each compressed grain its place and length.
pub(super) const FLAG_MARKERS: u32 = 1 << 17;
/// Flags that a reader has to know; the lower 16 may be ignored (VMware, open-vmdk, SPARSEFLAG_INCOMPAT_FLAGS).
pub(super) const FLAGS_INCOMPATIBLE: u32 = 0xffff_0000;
/// The flags of a stream.
pub(super) const FLAGS_STREAM: u32 = FLAG_NEWLINES | FLAG_COMPRESSED | FLAG_MARKERS;

/// Deflate with zlib's header and checksum (RFC 1950).
pub(super) const DEFLATE: u16 = 1;
/// In a header: the grain directory's place stands in the footer.
pub(super) const AT_END: u64 = u64::MAX;
/// Bytes that a transfer as text would change: a lone LF, a blank, CR and LF.
pub(super) const NEWLINES: [u8; 4] = [b'\n', b' ', b'\r', b'\n'];
/// A grain table entry for a grain of zeros, where [`FLAG_ZERO_GRAINS`] is set.
pub(super) const ZERO_GRAIN: u32 = 1;

/// Bytes before the data of a compressed grain: its place on the disk in sectors, and the length of its stream.
pub(super) const GRAIN_MARKER: u64 = 12;
/// Types of markers that are not of grains.
pub(super) const MARKER_END: u32 = 0;
pub(super) const MARKER_TABLE: u32 = 1;
pub(super) const MARKER_DIRECTORY: u32 = 2;
pub(super) const MARKER_FOOTER: u32 = 3;

/// Sectors of a disk in one sparse file: less than 2^32 (VMware, open-vmdk, sparse.c: "capacity must be less than 2^32
/// (2TB) for everything except streamOptimized format").
pub(super) const MOST_SPARSE: u64 = (1 << 32) - 1;
/// Sectors of a disk in a stream: less than 2^32 grains (open-vmdk, as above).
pub(super) const MOST_STREAM: u64 = ((1 << 32) - 1) * GRAIN_SECTORS;
/// Sectors of a file: a table entry has 32 bits.
pub(super) const MOST_FILE: u64 = 1 << 32;

/// The header of a sparse extent (VDF, "Hosted Sparse Extents").
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) flags: u32,
    /// Sectors of the disk.
    pub(super) capacity: u64,
    /// Sector of the redundant grain directory; 0 where there is none.
    pub(super) redundant: u64,
    /// Sector of the grain directory.
    pub(super) directory: u64,
    /// Sectors before the first grain.
    pub(super) overhead: u64,
}

impl Header {
    /// Its sector.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let compressed = self.flags & FLAG_COMPRESSED != 0;
        let algorithm = if compressed { DEFLATE } else { 0 };
        let mut bytes = Vec::with_capacity(usize_of(SECTOR));
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        for number in [self.capacity, GRAIN_SECTORS, DESCRIPTOR_AT, DESCRIPTOR_SECTORS] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(crate::units::low32(ENTRIES).to_le_bytes());
        for number in [self.redundant, self.directory, self.overhead] {
            bytes.extend(number.to_le_bytes());
        }
        // uncleanShutdown: it was closed.
        bytes.push(0);
        bytes.extend(NEWLINES);
        bytes.extend(algorithm.to_le_bytes());
        bytes.resize(usize_of(SECTOR), 0);
        bytes
    }
}

/// The sector of a marker that is followed by `sectors` of metadata.
pub(super) fn marker(kind: u32, sectors: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(usize_of(SECTOR));
    bytes.extend(sectors.to_le_bytes());
    // A size of 0 tells it from the marker of a grain.
    bytes.extend(0_u32.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.resize(usize_of(SECTOR), 0);
    bytes
}

/// Sectors of a disk of `length` bytes.
///
/// # Errors
/// [`Kind::Capacity`] where they are more than `most`.
pub(super) fn capacity(length: Bytes, most: u64, what: &str, hint: &str) -> Result<u64> {
    let sectors = super::LENGTHS.round_up(length).get() / SECTOR;
    if sectors > most {
        let largest = Bytes::new(most * SECTOR);
        return Err(Error::new(Kind::Capacity, format!("the disk is too large for vmdk ({what})"))
            .expected(format!("at most {} ({} bytes)", largest.human(), largest.get()))
            .found(format!("{} bytes", length.get()))
            .hint(hint));
    }
    Ok(sectors)
}
