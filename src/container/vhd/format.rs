//! The bytes of VHD: footer, dynamic header, geometry (Microsoft, Virtual Hard Disk Image Format Specification 1.0 of
//! 2006-10-11, and [MS-VHD]). All integers are big-endian.

use uuid::Uuid;

use crate::container::fit::Lengths;
use crate::container::source::Numbers;
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, GIB, MIB, low8, low16, low32};

/// What a footer begins with.
pub(super) const COOKIE: [u8; 8] = *b"conectix";
/// What a dynamic header begins with.
pub(super) const HEADER_COOKIE: [u8; 8] = *b"cxsparse";
/// Bytes of a footer.
pub(super) const FOOTER: u64 = 512;
/// Bytes of a footer of Virtual PC before 2004 ([MS-VHD] 2.1); the one that it lacks is reserved, and zero.
pub(super) const OLD_FOOTER: u64 = 511;
/// Bytes of a dynamic header.
pub(super) const HEADER: u64 = 1024;
/// Version 1.0 of footer and dynamic header: major and minor in 16 bits each.
pub(super) const VERSION: u32 = 0x0001_0000;
/// An offset that leads nowhere.
pub(super) const NOWHERE: u64 = u64::MAX;
/// An entry of the block allocation table without a block.
pub(super) const UNUSED: u32 = u32::MAX;
/// What the table counts in.
pub(super) const SECTOR: u64 = 512;
/// Bytes of a block as everybody makes them.
pub(super) const BLOCK: u64 = 2 * MIB;
/// The largest disk: 0xff000000 sectors (Hyper-V; QEMU block/vpc.c, VHD_MAX_SECTORS). The table's entries, 32 bits for
/// sectors of the file, leave 2^32 - 1 sectors of 512 bytes for disk and tables together.
pub(super) const LARGEST: u64 = 2040 * GIB;
/// A footer of a fixed disk without any data would be its first sector, which readers take for the copy of a dynamic
/// disk's, so that the least is a MiB.
pub(super) const LEAST_FIXED: u64 = MIB;

/// Disk types.
pub(super) const FIXED: u32 = 2;
pub(super) const DYNAMIC: u32 = 3;
pub(super) const DIFFERENCING: u32 = 4;

/// 2000-01-01 00:00 UTC in seconds since 1970: 10,957 days.
const EPOCH: i64 = 10_957 * 86_400;
/// Who made it: Hyper-V, as its word for "the size of the disk is what the footer says". QEMU before version 10 takes
/// that to be what the geometry says, up to a cylinder less, of all but the few creators that it knows, this among them.
const CREATOR: [u8; 4] = *b"win ";
/// Windows 10.0, as its diskpart writes it, on "Wi2k", the one name for all Windows.
const CREATOR_VERSION: u32 = 0x000a_0000;
const CREATOR_HOST: [u8; 4] = *b"Wi2k";
/// Those whose disks are what the geometry says: Virtual PC, and QEMU without force_size, which means to be like it
/// (QEMU 10.0, block/vpc.c, vpc_ignore_current_size).
const BY_GEOMETRY: [[u8; 4]; 2] = [*b"vpc ", *b"qemu"];

/// Cylinders, heads and sectors, which Virtual PC and BIOSes count a disk in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) cylinders: u16,
    pub(super) heads: u8,
    pub(super) sectors: u8,
}

/// Sectors of the largest geometry: 65535 × 16 × 255.
const MOST_SECTORS: u64 = 65_535 * 16 * 255;

impl Geometry {
    /// That of a disk of `total` sectors: the algorithm of the specification, appendix "CHS Calculation". What it
    /// covers is not more than the disk, and for larger disks than it can say the most that it can.
    pub(super) fn of(total: u64) -> Self {
        let total = total.min(MOST_SECTORS);
        // Tracks, that is cylinders times heads, with so many sectors each.
        let geometry = |tracks: u64, heads: u64, sectors: u64| Self {
            cylinders: low16(tracks / heads),
            heads: low8(heads),
            sectors: low8(sectors),
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

    /// The sectors it covers.
    pub(super) fn total(self) -> u64 {
        u64::from(self.cylinders) * u64::from(self.heads) * u64::from(self.sectors)
    }
}

/// The last sector of a file, of which a dynamic disk also has a copy as its first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footer {
    /// [`FIXED`], [`DYNAMIC`] or [`DIFFERENCING`].
    pub(super) kind: u32,
    /// Where the dynamic header stands.
    pub(super) header: u64,
    /// Seconds since 2000.
    pub(super) timestamp: u32,
    pub(super) creator: [u8; 4],
    /// Bytes of the disk, as they are written down.
    pub(super) size: u64,
    pub(super) geometry: Geometry,
    pub(super) id: Uuid,
}

impl Footer {
    /// A footer of ours.
    pub(super) fn new(kind: u32, size: u64, id: Uuid, time: i64) -> Self {
        let since = time.saturating_sub(EPOCH).clamp(0, i64::from(u32::MAX));
        Self {
            kind,
            header: if kind == FIXED { NOWHERE } else { FOOTER },
            timestamp: low32(since.unsigned_abs()),
            creator: CREATOR,
            size,
            geometry: Geometry::of(size / SECTOR),
            id,
        }
    }

    /// Its 512 bytes.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = COOKIE.to_vec();
        bytes.extend(2_u32.to_be_bytes()); // features: none; bit 1 is always set
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(self.header.to_be_bytes());
        bytes.extend(self.timestamp.to_be_bytes());
        bytes.extend(self.creator);
        bytes.extend(CREATOR_VERSION.to_be_bytes());
        bytes.extend(CREATOR_HOST);
        bytes.extend(self.size.to_be_bytes()); // original size
        bytes.extend(self.size.to_be_bytes()); // current size
        bytes.extend(self.geometry.cylinders.to_be_bytes());
        bytes.push(self.geometry.heads);
        bytes.push(self.geometry.sectors);
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(0_u32.to_be_bytes()); // checksum
        bytes.extend(self.id.as_bytes());
        sealed(bytes, FOOTER, FOOTER_CHECKSUM)
    }

    /// What 512 bytes say that begin with the cookie.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let at = Numbers(bytes);
        Self {
            kind: at.be32(60),
            header: at.be64(16),
            timestamp: at.be32(24),
            creator: at.be32(28).to_be_bytes(),
            size: at.be64(48),
            geometry: Geometry {
                cylinders: low16(u64::from(at.be32(56) >> 16)),
                heads: low8(u64::from(at.be32(56) >> 8)),
                sectors: low8(u64::from(at.be32(56))),
            },
            id: Uuid::from_u64_pair(at.be64(68), at.be64(76)),
        }
    }

    /// Bytes of the disk: what the footer says, or what the geometry says where its creator counts by that, unless the
    /// geometry is at its end.
    pub(super) fn disk_size(&self) -> u64 {
        let sectors = self.geometry.total();
        let by_geometry = BY_GEOMETRY.contains(&self.creator) && sectors != MOST_SECTORS;
        if by_geometry { sectors * SECTOR } else { self.size }
    }

    /// When it was made, in seconds since 1970.
    pub(super) fn time(&self) -> i64 {
        EPOCH + i64::from(self.timestamp)
    }
}

/// Where a footer has its checksum, and where a dynamic header has it.
pub(super) const FOOTER_CHECKSUM: usize = 64;
pub(super) const HEADER_CHECKSUM: usize = 36;

/// The ones' complement of the sum of all bytes but the four at `field`.
pub(super) fn checksum(bytes: &[u8], field: usize) -> u32 {
    let sum = bytes.iter().zip(0..).filter(|(_, at)| !(field..field + 4).contains(at));
    !low32(sum.map(|(byte, _)| u64::from(*byte)).sum())
}

/// `bytes` with zeros up to `length` and their checksum at `field`.
fn sealed(mut bytes: Vec<u8>, length: u64, field: usize) -> Vec<u8> {
    bytes.resize(crate::units::usize_of(length), 0);
    let sum = checksum(&bytes, field).to_be_bytes();
    bytes[field..field + 4].copy_from_slice(&sum);
    bytes
}

/// The dynamic header of a table of `entries` at `table`, for blocks of [`BLOCK`] bytes: 1024 bytes.
pub(super) fn header(table: u64, entries: u64) -> Vec<u8> {
    let mut bytes = HEADER_COOKIE.to_vec();
    bytes.extend(NOWHERE.to_be_bytes()); // no further header
    bytes.extend(table.to_be_bytes());
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend(low32(entries).to_be_bytes());
    bytes.extend(low32(BLOCK).to_be_bytes());
    // Checksum, and no parent: its id, time, name and locators are zero.
    sealed(bytes, HEADER, HEADER_CHECKSUM)
}

/// The size of the disk for one of `length` bytes.
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

    /// Geometries that QEMU, Virtual PC and Hyper-V give these sizes, and the borders of each rule.
    #[test]
    fn geometries_follow_the_specification() {
        for (sectors, geometry) in [
            (0, (0, 4, 17)),
            (68, (1, 4, 17)),
            // Tracks of 17 sectors, fewer than 1024 for each of 4 heads; a whole 1024 is one too many; then 5 heads.
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
            let found = Geometry::of(sectors);
            assert_eq!((found.cylinders, found.heads, found.sectors), geometry, "{sectors}");
            assert!(found.total() <= sectors);
        }
    }

    #[test]
    fn footers_come_back_and_times_are_clamped() {
        for (time, timestamp) in
            [(i64::MIN, 0), (0, 0), (946_684_800, 0), (946_684_801, 1), (i64::MAX, u32::MAX)]
        {
            let footer = Footer::new(DYNAMIC, 5 * GIB, Uuid::from_u128(7), time);
            assert_eq!(footer.timestamp, timestamp);
            let bytes = footer.bytes();
            assert_eq!(bytes.len(), 512);
            assert_eq!(Footer::read(&bytes), footer);
            assert_eq!(Numbers(&bytes).be32(FOOTER_CHECKSUM), checksum(&bytes, FOOTER_CHECKSUM));
            assert_eq!(footer.disk_size(), 5 * GIB);
        }
    }

    /// The size that counts, by who wrote it.
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
            let mut footer = Footer::new(FIXED, GIB + SECTOR, Uuid::nil(), 0);
            footer.creator = *creator;
            let geometry = footer.geometry.total() * SECTOR;
            assert!(geometry < footer.size);
            assert_eq!(footer.disk_size(), if exact { footer.size } else { geometry });
            footer.geometry = Geometry { cylinders: 65_535, heads: 16, sectors: 255 };
            assert_eq!(footer.disk_size(), footer.size);
        }
    }
}
