//! The bytes of VHD: footer, dynamic header, geometry (Microsoft, Virtual Hard Disk Image Format Specification 1.0 of
//! 2006-10-11, and [MS-VHD]). All integers are big-endian.

use uuid::Uuid;

use crate::container::fit::Lengths;
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, GIB, MIB, narrow};
use crate::wire::{Field, Structure, Wire, field, wire};

/// Every structure, for the tables of docs/formats/vhd.md.
pub(crate) const STRUCTURES: &[Structure] = &[Footer::STRUCTURE, DynamicHeader::STRUCTURE];

wire! {
    /// The last sector of a file. A dynamic disk also has a copy of it as its first ("Hard Disk Footer Format").
    pub(super) struct Footer: "VHD footer", big, 512 {
        0 cookie: [u8; 8] = COOKIE,
        8 features: u32,
        12 file_format_version: u32,
        16 data_offset: u64,
        24 time_stamp: u32,
        28 creator_application: [u8; 4],
        32 creator_version: u32,
        36 creator_host_os: [u8; 4],
        40 original_size: u64,
        48 current_size: u64,
        56 cylinders: u16,
        58 heads: u8,
        59 sectors_per_cylinder: u8,
        60 disk_type: u32,
        64 checksum: u32,
        68 unique_id: Uuid,
        84 saved_state: u8,
    }
}

wire! {
    /// The header of a disk that is not fixed, after the copy of its footer ("Dynamic Disk Header Format").
    /// The locators of a parent, from byte 576 on, are not read.
    pub(super) struct DynamicHeader: "VHD dynamic header", big, 1024 {
        0 cookie: [u8; 8] = HEADER_COOKIE,
        8 data_offset: u64,
        16 table_offset: u64,
        24 header_version: u32,
        28 max_table_entries: u32,
        32 block_size: u32,
        36 checksum: u32,
        40 parent_unique_id: Uuid,
        56 parent_time_stamp: u32,
        64 parent_unicode_name: [u16; 256],
    }
}

/// The first bytes of a footer.
pub(super) const COOKIE: [u8; 8] = *b"conectix";
/// The first bytes of a dynamic header.
pub(super) const HEADER_COOKIE: [u8; 8] = *b"cxsparse";
/// Bytes of a footer.
pub(super) const FOOTER: u64 = 512;
/// Footers by Virtual PC before 2004 have 511 bytes ([MS-VHD] 2.1): the last reserved byte, a zero, is
/// missing.
pub(super) const OLD_FOOTER: u64 = 511;
/// Bytes of a dynamic header.
pub(super) const HEADER: u64 = 1024;
/// Version 1.0 of footer and dynamic header: major and minor in 16 bits each.
pub(super) const VERSION: u32 = 0x0001_0000;
/// An offset that points to nothing.
pub(super) const NOWHERE: u64 = u64::MAX;
/// An entry of the block allocation table without a block.
pub(super) const UNUSED: u32 = u32::MAX;
/// The unit of the table.
pub(super) const SECTOR: u64 = 512;
/// Size of a block in bytes, as all writers choose it.
pub(super) const BLOCK: u64 = 2 * MIB;
/// The largest disk: 0xff000000 sectors (Hyper-V; QEMU block/vpc.c, VHD_MAX_SECTORS). The entries of the
/// table have 32 bits for sectors of the file, which leaves 2^32 - 1 sectors of 512 bytes for disk and tables
/// together.
pub(super) const LARGEST: u64 = 2040 * GIB;
/// The smallest fixed disk. In a fixed disk without data the footer would be the first sector, which readers
/// take for the copy of a dynamic disk's footer. So the minimum is a MiB.
pub(super) const LEAST_FIXED: u64 = MIB;

/// Disk types.
pub(super) const FIXED: u32 = 2;
pub(super) const DYNAMIC: u32 = 3;
pub(super) const DIFFERENCING: u32 = 4;

/// 2000-01-01 00:00 UTC in seconds since 1970: 10,957 days.
const EPOCH: i64 = 10_957 * 86_400;
/// The creator: Hyper-V, which says "the size of the disk is the one in the footer". QEMU before version 10
/// takes the size from the geometry, up to a cylinder less, except for a few creators that it knows; this is
/// one of them.
const CREATOR: [u8; 4] = *b"win ";
/// Windows 10.0, as its diskpart writes it, with "Wi2k", the one name for all Windows.
const CREATOR_VERSION: u32 = 0x000a_0000;
const CREATOR_HOST: [u8; 4] = *b"Wi2k";
/// Creators whose disks have the size of their geometry: Virtual PC, and QEMU without force_size, which
/// imitates it (QEMU 10.0, block/vpc.c, vpc_ignore_current_size).
const BY_GEOMETRY: [[u8; 4]; 2] = [*b"vpc ", *b"qemu"];

/// Cylinders, heads and sectors, in which Virtual PC and BIOSes count a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cylinders: u16,
    pub(super) heads: u8,
    pub(super) sectors: u8,
}

/// Sectors of the largest geometry: 65535 × 16 × 255.
const MOST_SECTORS: u64 = 65_535 * 16 * 255;

impl Geometry {
    /// The geometry of a disk of `total` sectors, by the algorithm of the specification, appendix "CHS
    /// Calculation". It covers no more than the disk. Larger disks get the largest geometry.
    pub(super) fn of(total: u64) -> Result<Self> {
        let total = total.min(MOST_SECTORS);
        // Tracks, that is cylinders times heads, with this many sectors each.
        let geometry = |tracks: u64, heads: u64, sectors: u64| {
            Ok(Self {
                cylinders: narrow(tracks / heads, "the cylinders of a disk")?,
                heads: narrow(heads, "the heads of a disk")?,
                sectors: narrow(sectors, "the sectors of a track")?,
            })
        };
        if total >= 65_535 * 16 * 63 {
            return geometry(total / 255, 16, 255);
        }
        let tracks = total / 17;
        let heads = tracks.div_ceil(1024).max(4);
        if tracks < heads * 1024 && heads <= 16 {
            return geometry(tracks, heads, 17);
        }
        let tracks = total / 31;
        if tracks < 16 * 1024 {
            return geometry(tracks, 16, 31);
        }
        geometry(total / 63, 16, 63)
    }

    /// The number of sectors that it covers.
    pub(super) fn total(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors)
    }
}

/// No features: bit 1 is always set.
const NO_FEATURES: u32 = 2;

impl Footer {
    /// A footer that we write.
    pub(super) fn new(disk_type: u32, size: u64, unique_id: Uuid, time: i64) -> Result<Self> {
        let since = time.saturating_sub(EPOCH).clamp(0, i64::from(u32::MAX));
        let geometry = Geometry::of(size / SECTOR)?;
        let footer = Self {
            features: NO_FEATURES,
            file_format_version: VERSION,
            data_offset: if disk_type == FIXED { NOWHERE } else { FOOTER },
            time_stamp: narrow(since, "the time of a disk")?,
            creator_application: CREATOR,
            creator_version: CREATOR_VERSION,
            creator_host_os: CREATOR_HOST,
            original_size: size,
            current_size: size,
            cylinders: geometry.cylinders,
            heads: geometry.heads,
            sectors_per_cylinder: geometry.sectors,
            disk_type,
            unique_id,
            ..Self::BLANK
        };
        Ok(Self { checksum: checksum(&footer.bytes(), FOOTER_CHECKSUM), ..footer })
    }

    /// Cylinders, heads and sectors.
    pub(super) const fn geometry(&self) -> Geometry {
        Geometry { cylinders: self.cylinders, heads: self.heads, sectors: self.sectors_per_cylinder }
    }

    /// Bytes of the disk: the size in the footer; or the size of the geometry if the creator counts by that,
    /// unless the geometry is the largest one.
    pub(super) fn disk_size(&self) -> u64 {
        let sectors = self.geometry().total();
        let by_geometry = BY_GEOMETRY.contains(&self.creator_application) && sectors != MOST_SECTORS;
        if by_geometry { sectors * SECTOR } else { self.current_size }
    }

    /// When it was made, in seconds since 1970.
    pub(super) fn time(&self) -> i64 {
        EPOCH + i64::from(self.time_stamp)
    }

    /// Whether both describe the same disk.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let facts = |own: &Self| {
            let made = (own.time_stamp, own.creator_application, own.unique_id);
            (own.disk_type, own.data_offset, own.current_size, own.geometry(), made)
        };
        facts(self) == facts(other)
    }
}

impl DynamicHeader {
    /// The header for a table of `entries` at `table_offset`, for blocks of [`BLOCK`] bytes and a disk
    /// without a parent.
    pub(super) fn new(table_offset: u64, entries: u64) -> Result<Self> {
        let header = Self {
            data_offset: NOWHERE,
            table_offset,
            header_version: VERSION,
            max_table_entries: narrow(entries, "the entries of the block allocation table")?,
            block_size: narrow(BLOCK, "the size of a block")?,
            ..Self::BLANK
        };
        Ok(Self { checksum: checksum(&header.bytes(), HEADER_CHECKSUM), ..header })
    }
}

/// The place of the checksum in a footer and in a dynamic header.
pub(super) const FOOTER_CHECKSUM: Field = field(Footer::FIELDS, "checksum");
pub(super) const HEADER_CHECKSUM: Field = field(DynamicHeader::FIELDS, "checksum");

/// The ones' complement of the sum of all bytes except those of `own`, the field of the checksum. At most
/// 1024 bytes are summed, so the sum fits in 32 bits.
pub(super) fn checksum(bytes: &[u8], own: Field) -> u32 {
    let counted = bytes.iter().zip(0..).filter(|(_, at)| !(own.offset..own.end()).contains(at));
    !counted.map(|(byte, _)| u32::from(*byte)).sum::<u32>()
}

/// The size of a disk for `length` bytes.
///
/// # Errors
/// [`Kind::Capacity`] with the largest disk.
pub(super) fn size(length: Bytes, lengths: Lengths) -> Result<u64> {
    let size = lengths.round_up(length).get();
    if size > LARGEST {
        return Err(Error::new(Kind::Capacity, "the disk is too large for VHD")
            .expected(format!("at most {}", Bytes::new(LARGEST)))
            .found(length)
            .hint("take vhdx, vdi or qcow2"));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Geometries that QEMU, Virtual PC and Hyper-V give these sizes, and the limits of each rule.
    #[test]
    fn geometries_follow_the_specification() {
        for (sectors, geometry) in [
            (0, (0, 4, 17)),
            (68, (1, 4, 17)),
            // Tracks of 17 sectors, fewer than 1024 for each of 4 heads; 1024 would be one too many, and need
            // 5 heads.
            (4095 * 17, (1023, 4, 17)),
            (4096 * 17, (140, 16, 31)),
            (4097 * 17, (819, 5, 17)),
            // 10 GiB and 127 GiB.
            (20_971_520, (20805, 16, 63)),
            (266_338_304, (65278, 16, 255)),
            (65_535 * 16 * 63 - 1, (65534, 16, 63)),
            (65_535 * 16 * 63, (16191, 16, 255)),
            (MOST_SECTORS - 1, (65534, 16, 255)),
            (MOST_SECTORS, (65535, 16, 255)),
            (u64::MAX, (65535, 16, 255)),
        ] {
            let found = Geometry::of(sectors).unwrap();
            assert_eq!((found.cylinders, found.heads, found.sectors), geometry, "{sectors}");
            assert!(found.total() <= sectors);
        }
    }

    #[test]
    fn footers_come_back_and_times_are_clamped() {
        for (time, timestamp) in
            [(i64::MIN, 0), (0, 0), (946_684_800, 0), (946_684_801, 1), (i64::MAX, u32::MAX)]
        {
            let footer = Footer::new(DYNAMIC, 5 * GIB, Uuid::from_u128(7), time).unwrap();
            assert_eq!(footer.time_stamp, timestamp);
            let bytes = footer.bytes();
            assert_eq!(Footer::read(&bytes).unwrap(), footer);
            assert_eq!(footer.checksum, checksum(&bytes, FOOTER_CHECKSUM));
            assert_eq!(footer.disk_size(), 5 * GIB);
        }
    }

    /// The size that counts, by the creator.
    #[test]
    fn the_creator_decides_which_size_counts() {
        for (creator, exact) in [
            (b"win ", true),
            (b"qem2", true),
            (b"d2v ", true),
            (b"CTXS", true),
            (b"tap\0", true),
            (b"wa\0\0", true),
            (b"qemu", false),
            (b"vpc ", false),
            (b"vbox", true),
            (b"\xff\0\x1b ", true),
        ] {
            let mut footer = Footer::new(FIXED, GIB + SECTOR, Uuid::nil(), 0).unwrap();
            footer.creator_application = *creator;
            let (geometry, size) = (footer.geometry().total() * SECTOR, footer.current_size);
            assert!(geometry < size);
            assert_eq!(footer.disk_size(), if exact { size } else { geometry });
            (footer.cylinders, footer.heads, footer.sectors_per_cylinder) = (65_535, 16, 255);
            assert_eq!(footer.disk_size(), size);
        }
    }
}
