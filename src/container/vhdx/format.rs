//! The bytes of VHDX: headers, region tables, metadata, table entries, limits (Microsoft, [MS-VHDX], sections 2.2 to 2.6).
//! All integers are little-endian.

use uuid::{Uuid, uuid};

use crate::units::{KIB, MIB, TIB, low32, u64_of, usize_of};

/// What the file begins with.
pub(super) const FILE_SIGNATURE: &[u8; 8] = b"vhdxfile";
/// Who made it, for people: UTF-16 at byte 8. Without a version, so that releases write the same bytes.
pub(super) const CREATOR: &str = "diskwright";
/// Where the two headers stand, and how much of each the checksum covers.
pub(super) const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
pub(super) const HEADER: u64 = 4 * KIB;
/// Where the two region tables stand, and how long each is.
pub(super) const REGION_TABLES: [u64; 2] = [192 * KIB, 256 * KIB];
pub(super) const REGION_TABLE: u64 = 64 * KIB;
/// The grain of everything: regions, the log and blocks begin on it, and the header section is as long.
pub(super) const GRAIN: u64 = MIB;
/// The most entries of a region table and of the metadata table.
pub(super) const MOST_ENTRIES: u64 = 2047;

pub(super) const HEADER_SIGNATURE: &[u8; 4] = b"head";
pub(super) const REGION_SIGNATURE: &[u8; 4] = b"regi";
pub(super) const METADATA_SIGNATURE: &[u8; 8] = b"metadata";

/// Regions.
pub(super) const BAT: Uuid = uuid!("2dc27766-f623-4200-9d64-115e9bfd4a08");
pub(super) const METADATA: Uuid = uuid!("8b7ca206-4790-4b9a-b8fe-575f050f886e");
/// Items of metadata.
pub(super) const FILE_PARAMETERS: Uuid = uuid!("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
pub(super) const DISK_SIZE: Uuid = uuid!("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
pub(super) const DISK_ID: Uuid = uuid!("beca12ab-b2e6-4523-93ef-c309e000c746");
pub(super) const LOGICAL_SECTOR: Uuid = uuid!("8141bf1d-a96f-4709-ba47-f233a8faab5f");
pub(super) const PHYSICAL_SECTOR: Uuid = uuid!("cda348c7-445d-4471-9cc9-e9885251c556");
pub(super) const PARENT_LOCATOR: Uuid = uuid!("a8d35f2d-b30b-454d-abf7-d3d84834ab0c");

/// A region or an item of metadata that a reader has to know.
pub(super) const REGION_REQUIRED: u32 = 1;
pub(super) const ITEM_USER: u32 = 1;
pub(super) const ITEM_DISK: u32 = 2;
pub(super) const ITEM_REQUIRED: u32 = 4;
/// File parameters: blocks stay allocated, which means that the disk is fixed; and it has a parent.
pub(super) const LEAVE_ALLOCATED: u32 = 1;
pub(super) const HAS_PARENT: u32 = 2;

/// The metadata table's own bytes, before which no item stands.
pub(super) const METADATA_TABLE: u64 = 64 * KIB;
/// Bytes of an entry of a region table or of the metadata table.
pub(super) const ENTRY: u64 = 32;
/// Bytes before the entries of a region table, and of the metadata table.
pub(super) const REGION_HEAD: u64 = 16;
pub(super) const METADATA_HEAD: u64 = 32;

/// States of a payload block (2.5.1.1).
pub(super) const NOT_PRESENT: u64 = 0;
pub(super) const UNDEFINED: u64 = 1;
pub(super) const ZERO: u64 = 2;
pub(super) const UNMAPPED: u64 = 3;
/// UNMAPPED in version 0.95 of the specification (QEMU block/vhdx.h).
pub(super) const UNMAPPED_095: u64 = 5;
pub(super) const FULLY_PRESENT: u64 = 6;
pub(super) const PARTIALLY_PRESENT: u64 = 7;
/// The bits of a state; those that are 0; the rest is the block's place in MiB.
pub(super) const STATE: u64 = 7;
pub(super) const RESERVED: u64 = GRAIN - 1 - STATE;

/// Block sizes.
pub(super) const LEAST_BLOCK: u64 = MIB;
pub(super) const MOST_BLOCK: u64 = 256 * MIB;
/// The largest disk (2.6.2.2).
pub(super) const MOST_DISK: u64 = 64 * TIB;
/// Sectors that a sector bitmap block describes: the bits of 1 MiB (2.4).
pub(super) const BITMAP_SECTORS: u64 = 1 << 23;

/// How the block allocation table counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes of a block.
    pub(super) block: u64,
    /// Payload blocks between two entries for sector bitmaps.
    pub(super) ratio: u64,
    /// Payload blocks of the disk.
    pub(super) blocks: u64,
}

impl Geometry {
    pub(super) const fn new(size: u64, block: u64, sector: u64) -> Self {
        Self { block, ratio: BITMAP_SECTORS * sector / block, blocks: size.div_ceil(block) }
    }

    /// Entries of the table: a dynamic disk's ends with that of its last payload block.
    pub(super) const fn entries(self) -> u64 {
        self.blocks + self.blocks.saturating_sub(1) / self.ratio
    }

    /// The payload block that entry `number` is of; `None` for that of a sector bitmap.
    pub(super) const fn payload(self, number: u64) -> Option<u64> {
        let (chunk, within) = (number / (self.ratio + 1), number % (self.ratio + 1));
        if within == self.ratio { None } else { Some(chunk * self.ratio + within) }
    }
}

/// Where a region lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Puts the CRC32C of `bytes` where a structure has it: behind its signature of 4 bytes.
fn seal(bytes: &mut [u8]) {
    let sum = checksum(bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// The CRC32C of a structure, its own field counted as zero.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let (head, rest) = bytes.split_at(bytes.len().min(8));
    let sum = crc32c::crc32c_append(crc32c::crc32c(head.get(..4).unwrap_or_default()), &[0; 4]);
    crc32c::crc32c_append(sum, rest)
}

/// The file type identifier (2.2.1).
pub(super) fn identifier() -> Vec<u8> {
    FILE_SIGNATURE.iter().copied().chain(CREATOR.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}

/// A header (2.2.2) with its sequence number. Its log holds nothing, which its zero id says.
pub(super) fn header(sequence: u64, file_write: Uuid, data_write: Uuid, log: Region) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(usize_of(HEADER));
    bytes.extend(HEADER_SIGNATURE);
    bytes.extend([0; 4]);
    bytes.extend(sequence.to_le_bytes());
    for id in [file_write, data_write, Uuid::nil()] {
        bytes.extend(id.to_bytes_le());
    }
    // Version of the log, and of the file.
    bytes.extend(0_u16.to_le_bytes());
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(low32(log.length).to_le_bytes());
    bytes.extend(log.offset.to_le_bytes());
    bytes.resize(usize_of(HEADER), 0);
    seal(&mut bytes);
    bytes
}

/// A region table (2.2.3).
pub(super) fn region_table(regions: &[(Uuid, Region)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(usize_of(REGION_TABLE));
    bytes.extend(REGION_SIGNATURE);
    bytes.extend([0; 4]);
    bytes.extend(low32(u64_of(regions.len())).to_le_bytes());
    bytes.extend([0; 4]);
    for (id, region) in regions {
        bytes.extend(id.to_bytes_le());
        bytes.extend(region.offset.to_le_bytes());
        bytes.extend(low32(region.length).to_le_bytes());
        bytes.extend(REGION_REQUIRED.to_le_bytes());
    }
    bytes.resize(usize_of(REGION_TABLE), 0);
    seal(&mut bytes);
    bytes
}

/// The metadata table (2.6.1), and the items that stand behind its 64 KiB.
pub(super) fn metadata(items: &[(Uuid, u32, Vec<u8>)]) -> (Vec<u8>, Vec<u8>) {
    let mut table = METADATA_SIGNATURE.to_vec();
    table.extend([0; 2]);
    table.extend(crate::units::low16(u64_of(items.len())).to_le_bytes());
    table.extend([0; 20]);
    let mut values = Vec::new();
    for (id, flags, value) in items {
        table.extend(id.to_bytes_le());
        table.extend(low32(METADATA_TABLE + u64_of(values.len())).to_le_bytes());
        table.extend(low32(u64_of(value.len())).to_le_bytes());
        table.extend((flags | ITEM_REQUIRED).to_le_bytes());
        table.extend([0; 4]);
        values.extend(value);
    }
    (table, values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::GIB;

    #[test]
    fn bitmaps_have_an_entry_behind_each_chunk() {
        // Blocks of 1 MiB and sectors of 512 bytes: 4,096 blocks a chunk (2.4).
        let geometry = Geometry::new(9 * GIB, MIB, 512);
        assert_eq!(geometry, Geometry { block: MIB, ratio: 4096, blocks: 9216 });
        assert_eq!(geometry.entries(), 9218);
        assert_eq!(
            [4095, 4096, 4097, 8193, 8194].map(|number| geometry.payload(number)),
            [Some(4095), None, Some(4096), None, Some(8192)]
        );
        assert_eq!(
            [0, 1, 4 * GIB, 4 * GIB + 1].map(|size| Geometry::new(size, MIB, 512).entries()),
            [0, 1, 4096, 4098]
        );
        assert_eq!(Geometry::new(64 * TIB, 256 * MIB, 4096).ratio, 128);
    }

    #[test]
    fn a_checksum_does_not_count_itself() {
        let mut bytes = header(7, Uuid::max(), Uuid::nil(), Region { offset: MIB, length: MIB });
        let sum = checksum(&bytes);
        assert_eq!(bytes[4..8], sum.to_le_bytes());
        bytes[5] ^= 1;
        assert_eq!(checksum(&bytes), sum);
        bytes[9] ^= 1;
        assert_ne!(checksum(&bytes), sum);
        // The check value of CRC-32/ISCSI is that of "123456789"; here without the field, so zeros in its place.
        assert_eq!(checksum(b"1234\xff\xff\xff\xff9"), crc32c::crc32c(b"1234\0\0\0\09"));
    }
}
