//! The bytes of VMDK: header, markers, limits (VMware, Virtual Disk Format 5.0, December 2011; cited as VDF). All
//! integers are little-endian, and offsets count sectors of 512 bytes.

use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, narrow};
use crate::wire::{Structure, Wire, wire};

/// Every structure, for the tables of docs/formats/vmdk.md.
pub(crate) const STRUCTURES: &[Structure] = &[Header::STRUCTURE, GrainMarker::STRUCTURE, Marker::STRUCTURE];

wire! {
    /// The header of a sparse extent (VDF, "Hosted Sparse Extents"); a stream repeats it as its footer.
    pub(super) struct Header: "VMDK header", little, 512 {
        0 magic "magicNumber": u32 = MAGIC,
        4 version: u32,
        8 flags: u32,
        /// Sectors of the disk.
        12 capacity: u64,
        20 grain_size "grainSize": u64,
        28 descriptor_offset "descriptorOffset": u64,
        36 descriptor_size "descriptorSize": u64,
        44 entries "numGTEsPerGT": u32,
        /// Sector of the redundant grain directory, or 0.
        48 redundant_offset "rgdOffset": u64,
        /// Sector of the grain directory.
        56 directory_offset "gdOffset": u64,
        /// Sectors before the first grain.
        64 overhead "overHead": u64,
        72 unclean_shutdown "uncleanShutdown": u8,
        73 newlines "newline detector": [u8; 4],
        77 algorithm "compressAlgorithm": u16,
    }
}

wire! {
    /// The marker before the data of a compressed grain: its place on the disk in sectors, and the length of
    /// its stream.
    pub(super) struct GrainMarker: "VMDK grain marker", little, 12 {
        0 sector "lba": u64,
        8 size: u32,
    }
}

wire! {
    /// The marker before metadata in a stream. Its size of 0 distinguishes it from the marker of a grain.
    pub(super) struct Marker: "VMDK marker", little, 512 {
        0 sectors "numSectors": u64,
        8 size: u32,
        12 kind "type": u32,
    }
}

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
/// "KDMV".
pub(super) const MAGIC: u32 = 0x564d_444b;
/// "COWD": a sparse extent of ESX Server (VDF, "ESX Server Sparse Extents"), which needs a descriptor file.
pub(super) const MAGIC_ESX: u32 = 0x4457_4f43;
/// The first 32 bits of a space-efficient sparse extent (QEMU block/vmdk.c; VMware does not document it).
pub(super) const MAGIC_SE_SPARSE: u32 = 0xcafe_babe;
/// Sectors in a grain: 64 KiB, as all writers choose it.
pub(super) const GRAIN_SECTORS: u64 = 128;
/// Bytes in a grain.
pub(super) const GRAIN: u64 = GRAIN_SECTORS * SECTOR;
/// Entries of a grain table; VDF allows no other number.
pub(super) const ENTRIES: u64 = 512;
/// Sectors of a grain table of entries of 32 bits.
pub(super) const TABLE_SECTORS: u64 = ENTRIES * 4 / SECTOR;
/// Bytes of the disk that a grain table covers.
pub(super) const COVERED: u64 = ENTRIES * GRAIN;
/// The place of the descriptor: after the header.
pub(super) const DESCRIPTOR_AT: u64 = 1;
/// Sectors reserved for the descriptor, so that programs can add lines to it; VMware and QEMU reserve as
/// many.
pub(super) const DESCRIPTOR_SECTORS: u64 = 20;
/// The first sector after the descriptor.
pub(super) const DESCRIPTOR_END: u64 = DESCRIPTOR_AT + DESCRIPTOR_SECTORS;

/// The newline detector is valid.
pub(super) const FLAG_NEWLINES: u32 = 1;
/// There is a second grain directory with tables of its own.
pub(super) const FLAG_REDUNDANT: u32 = 1 << 1;
/// A grain table entry of 1 means zeros.
pub(super) const FLAG_ZERO_GRAINS: u32 = 1 << 2;
/// Grains are compressed.
pub(super) const FLAG_COMPRESSED: u32 = 1 << 16;
/// There are markers: each compressed grain is preceded by its place and length.
pub(super) const FLAG_MARKERS: u32 = 1 << 17;
/// Flags that a reader must know; the lower 16 may be ignored (VMware, open-vmdk, SPARSEFLAG_INCOMPAT_FLAGS).
pub(super) const FLAGS_INCOMPATIBLE: u32 = 0xffff_0000;
/// The flags of a stream.
pub(super) const FLAGS_STREAM: u32 = FLAG_NEWLINES | FLAG_COMPRESSED | FLAG_MARKERS;

/// Deflate with zlib's header and checksum (RFC 1950).
pub(super) const DEFLATE: u16 = 1;
/// In a header: the place of the grain directory is in the footer.
pub(super) const AT_END: u64 = u64::MAX;
/// Bytes that a transfer as text would change: a lone LF, a blank, CR and LF.
pub(super) const NEWLINES: [u8; 4] = [b'\n', b' ', b'\r', b'\n'];
/// A grain table entry for a grain of zeros, if [`FLAG_ZERO_GRAINS`] is set.
pub(super) const ZERO_GRAIN: u32 = 1;

/// Types of markers of metadata.
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

impl Header {
    /// The values that both kinds share: the descriptor after the header, grains of 64 KiB, tables of 512
    /// entries.
    pub(super) fn new(version: u32, flags: u32, capacity: u64) -> Result<Self> {
        let compressed = flags & FLAG_COMPRESSED != 0;
        Ok(Self {
            version,
            flags,
            capacity,
            grain_size: GRAIN_SECTORS,
            descriptor_offset: DESCRIPTOR_AT,
            descriptor_size: DESCRIPTOR_SECTORS,
            entries: narrow(ENTRIES, "the entries of a grain table")?,
            newlines: NEWLINES,
            algorithm: if compressed { DEFLATE } else { 0 },
            ..Self::BLANK
        })
    }
}

impl Marker {
    /// The marker before `sectors` of metadata.
    pub(super) fn new(kind: u32, sectors: u64) -> Self {
        Self { sectors, kind, ..Self::BLANK }
    }
}

/// Sectors of a disk of `length` bytes.
///
/// # Errors
/// [`Kind::Capacity`] where there are more than `most`.
pub(super) fn capacity(length: Bytes, most: u64, what: &str, hint: &str) -> Result<u64> {
    let sectors = super::LENGTHS.round_up(length).get() / SECTOR;
    if sectors > most {
        let largest = Bytes::new(most * SECTOR);
        return Err(Error::new(Kind::Capacity, format!("the disk is too large for vmdk ({what})"))
            .expected(format!("at most {}", largest.in_full()))
            .found(length.in_full())
            .hint(hint));
    }
    Ok(sectors)
}
