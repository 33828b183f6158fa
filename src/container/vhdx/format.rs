//! The bytes of VHDX: headers, region tables, metadata, table entries, limits (Microsoft, [MS-VHDX], sections 2.2 to 2.6).
//! All integers are little-endian.

use uuid::{Uuid, uuid};

use crate::error::Result;
use crate::units::{KIB, MIB, TIB, narrow, u64_of, usize_of};
use crate::wire::{Field, Guid, Structure, Wire, field, wire};

/// Every structure, for the tables of docs/formats/vhdx.md.
pub(crate) const STRUCTURES: &[Structure] = &[
    Identifier::STRUCTURE,
    Header::STRUCTURE,
    RegionHead::STRUCTURE,
    RegionEntry::STRUCTURE,
    MetadataHead::STRUCTURE,
    MetadataEntry::STRUCTURE,
    FileParameters::STRUCTURE,
    LogHead::STRUCTURE,
    ZeroDescriptor::STRUCTURE,
    DataDescriptor::STRUCTURE,
    DataSector::STRUCTURE,
];

wire! {
    /// The start of the file (2.2.1).
    pub(super) struct Identifier: "VHDX file type identifier", little, 520 {
        0 signature "Signature": [u8; 8] = *FILE_SIGNATURE,
        8 creator "Creator": [u16; 256],
    }
}

wire! {
    /// A header (2.2.2).
    pub(super) struct Header: "VHDX header", little, 4096 {
        0 signature "Signature": [u8; 4] = *HEADER_SIGNATURE,
        4 checksum "Checksum": u32,
        8 sequence_number "SequenceNumber": u64,
        16 file_write "FileWriteGuid": Guid,
        32 data_write "DataWriteGuid": Guid,
        48 log "LogGuid": Guid,
        64 log_version "LogVersion": u16,
        66 version "Version": u16,
        68 log_length "LogLength": u32,
        72 log_offset "LogOffset": u64,
    }
}

wire! {
    /// The start of a region table (2.2.3.1).
    pub(super) struct RegionHead: "VHDX region table header", little, 16 {
        0 signature "Signature": [u8; 4] = *REGION_SIGNATURE,
        4 checksum "Checksum": u32,
        8 entry_count "EntryCount": u32,
        12 reserved "Reserved": u32,
    }
}

wire! {
    /// An entry of a region table (2.2.3.2).
    pub(super) struct RegionEntry: "VHDX region table entry", little, 32 {
        0 id "Guid": Guid,
        16 file_offset "FileOffset": u64,
        24 length "Length": u32,
        28 flags "Required": u32,
    }
}

wire! {
    /// The start of the metadata table (2.6.1.1).
    pub(super) struct MetadataHead: "VHDX metadata table header", little, 32 {
        0 signature "Signature": [u8; 8] = *METADATA_SIGNATURE,
        8 reserved "Reserved": u16,
        10 entry_count "EntryCount": u16,
    }
}

wire! {
    /// An entry of the metadata table (2.6.1.2).
    pub(super) struct MetadataEntry: "VHDX metadata table entry", little, 32 {
        0 id "ItemId": Guid,
        16 offset "Offset": u32,
        20 length "Length": u32,
        24 flags "Flags": u32,
        28 reserved "Reserved2": u32,
    }
}

wire! {
    /// The item of the same name (2.6.2.1).
    pub(super) struct FileParameters: "VHDX file parameters", little, 8 {
        0 block_size "BlockSize": u32,
        4 flags "LeaveBlocksAllocated and HasParent": u32,
    }
}

wire! {
    /// The start of an entry of the log (2.3.1.1).
    pub(super) struct LogHead: "VHDX log entry header", little, 64 {
        0 signature "Signature": [u8; 4] = *b"loge",
        4 checksum "Checksum": u32,
        8 entry_length "EntryLength": u32,
        12 tail "Tail": u32,
        16 sequence_number "SequenceNumber": u64,
        24 descriptor_count "DescriptorCount": u32,
        28 reserved "Reserved": u32,
        32 log "LogGuid": Guid,
        48 flushed_file_offset "FlushedFileOffset": u64,
        56 last_file_offset "LastFileOffset": u64,
    }
}

wire! {
    /// A descriptor of zeros (2.3.1.2).
    pub(super) struct ZeroDescriptor: "VHDX zero descriptor", little, 32 {
        0 signature "ZeroSignature": [u8; 4] = *b"zero",
        4 reserved "Reserved": u32,
        8 zero_length "ZeroLength": u64,
        16 file_offset "FileOffset": u64,
        24 sequence_number "SequenceNumber": u64,
    }
}

wire! {
    /// A descriptor of a sector (2.3.1.3); it holds the first 8 and the last 4 bytes of that sector.
    pub(super) struct DataDescriptor: "VHDX data descriptor", little, 32 {
        0 signature "DataSignature": [u8; 4] = *b"desc",
        4 trailing_bytes "TrailingBytes": [u8; 4],
        8 leading_bytes "LeadingBytes": [u8; 8],
        16 file_offset "FileOffset": u64,
        24 sequence_number "SequenceNumber": u64,
    }
}

wire! {
    /// A sector of data (2.3.1.4). Marks replace its first 8 and last 4 bytes.
    pub(super) struct DataSector: "VHDX data sector", little, 4096 {
        0 signature "DataSignature": [u8; 4] = *b"data",
        4 sequence_high "SequenceHigh": u32,
        8 data "Data": [u8; 4084],
        4092 sequence_low "SequenceLow": u32,
    }
}

/// The first bytes of the file.
pub(super) const FILE_SIGNATURE: &[u8; 8] = b"vhdxfile";
/// The creator, for people. It has no version, so that all releases write the same bytes.
const CREATOR: &str = "diskwright";
/// The places of the two headers, and the bytes of each that the checksum covers.
pub(super) const HEADERS: [u64; 2] = [64 * KIB, 128 * KIB];
pub(super) const HEADER: u64 = 4 * KIB;
/// The places of the two region tables, and the length of each.
pub(super) const REGION_TABLES: [u64; 2] = [192 * KIB, 256 * KIB];
pub(super) const REGION_TABLE: u64 = 64 * KIB;
/// The alignment of regions, of the log and of blocks; also the length of the header section.
pub(super) const GRAIN: u64 = MIB;
/// The largest number of entries of a region table and of the metadata table.
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

/// Flags of a region or an item of metadata that a reader must know.
pub(super) const REGION_REQUIRED: u32 = 1;
pub(super) const ITEM_USER: u32 = 1;
pub(super) const ITEM_DISK: u32 = 2;
pub(super) const ITEM_REQUIRED: u32 = 4;
/// Flags of the file parameters: blocks stay allocated, so the disk is fixed; and the disk has a parent.
pub(super) const LEAVE_ALLOCATED: u32 = 1;
pub(super) const HAS_PARENT: u32 = 2;

/// Length of the metadata table; items come after it.
pub(super) const METADATA_TABLE: u64 = 64 * KIB;

/// States of a payload block (2.5.1.1).
pub(super) const NOT_PRESENT: u64 = 0;
pub(super) const UNDEFINED: u64 = 1;
pub(super) const ZERO: u64 = 2;
pub(super) const UNMAPPED: u64 = 3;
/// UNMAPPED in version 0.95 of the specification (QEMU block/vhdx.h).
pub(super) const UNMAPPED_095: u64 = 5;
pub(super) const FULLY_PRESENT: u64 = 6;
pub(super) const PARTIALLY_PRESENT: u64 = 7;
/// The bits of a state, and the bits that are 0. The rest is the place of the block in MiB.
pub(super) const STATE: u64 = 7;
pub(super) const RESERVED: u64 = GRAIN - 1 - STATE;

/// Block sizes.
pub(super) const LEAST_BLOCK: u64 = MIB;
pub(super) const MOST_BLOCK: u64 = 256 * MIB;
/// The largest disk (2.6.2.2).
pub(super) const MOST_DISK: u64 = 64 * TIB;
/// Sectors that a sector bitmap block describes: the bits of 1 MiB (2.4).
pub(super) const BITMAP_SECTORS: u64 = 1 << 23;

/// The numbering of the block allocation table.
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

    /// Entries of the table. The table of a dynamic disk ends with the entry of its last payload block.
    pub(super) const fn entries(self) -> u64 {
        self.blocks + self.blocks.saturating_sub(1) / self.ratio
    }

    /// The payload block of entry `number`; `None` if the entry is for a sector bitmap.
    pub(super) const fn payload(self, number: u64) -> Option<u64> {
        let (chunk, within) = (number / (self.ratio + 1), number % (self.ratio + 1));
        if within == self.ratio { None } else { Some(chunk * self.ratio + within) }
    }
}

/// The place of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The CRC32C of a structure, with the field `own` counted as zero.
pub(super) fn checksum(bytes: &[u8], own: Field) -> u32 {
    let (head, rest) = bytes.split_at(bytes.len().min(own.end()));
    let sum = crc32c::crc32c_append(crc32c::crc32c(&head[..head.len().min(own.offset)]), &[0; 4]);
    crc32c::crc32c_append(sum, rest)
}

/// The places of checksums in structures.
pub(super) const HEADER_CHECKSUM: Field = field(Header::FIELDS, "Checksum");
pub(super) const REGION_CHECKSUM: Field = field(RegionHead::FIELDS, "Checksum");
pub(super) const LOG_CHECKSUM: Field = field(LogHead::FIELDS, "Checksum");

/// The file type identifier, up to the end of its text; the rest is zero.
pub(super) fn identifier() -> Vec<u8> {
    let mut creator = [0; 256];
    for (unit, own) in creator.iter_mut().zip(CREATOR.encode_utf16()) {
        *unit = own;
    }
    let mut bytes = Identifier { creator, ..Identifier::BLANK }.bytes().to_vec();
    bytes.truncate(field(Identifier::FIELDS, "Creator").offset + 2 * CREATOR.len());
    bytes
}

impl Header {
    /// A header with its sequence number. The zero id says that the log is empty.
    pub(super) fn new(sequence_number: u64, file_write: Uuid, data_write: Uuid, log: Region) -> Result<Self> {
        let header = Self {
            sequence_number,
            file_write: Guid(file_write),
            data_write: Guid(data_write),
            version: 1,
            log_length: narrow(log.length, "the length of the log")?,
            log_offset: log.offset,
            ..Self::BLANK
        };
        Ok(Self { checksum: checksum(&header.bytes(), HEADER_CHECKSUM), ..header })
    }
}

/// A region table.
pub(super) fn region_table(regions: &[(Uuid, Region)]) -> Result<Vec<u8>> {
    let entry_count = narrow(regions.len(), "the entries of the region table")?;
    let mut head = RegionHead { entry_count, ..RegionHead::BLANK };
    let mut bytes = head.bytes().to_vec();
    for (id, region) in regions {
        let length = narrow(region.length, "the length of a region")?;
        let entry = RegionEntry { id: Guid(*id), file_offset: region.offset, length, flags: REGION_REQUIRED };
        bytes.extend(entry.bytes());
    }
    bytes.resize(usize_of(REGION_TABLE), 0);
    head.checksum = checksum(&bytes, REGION_CHECKSUM);
    head.write_to(&mut bytes);
    Ok(bytes)
}

/// An item of metadata.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) id: Uuid,
    pub(super) flags: u32,
    pub(super) value: Vec<u8>,
}

/// The metadata table and its items.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    /// The table.
    pub(super) table: Vec<u8>,
    /// The items, which come after the 64 KiB of the table.
    pub(super) values: Vec<u8>,
}

impl Metadata {
    pub(super) fn new(items: &[Item]) -> Result<Self> {
        let entry_count = narrow(items.len(), "the entries of the metadata table")?;
        let mut table = MetadataHead { entry_count, ..MetadataHead::BLANK }.bytes().to_vec();
        let mut values = Vec::new();
        for Item { id, flags, value } in items {
            let entry = MetadataEntry {
                id: Guid(*id),
                offset: narrow(METADATA_TABLE + u64_of(values.len()), "the place of an item of metadata")?,
                length: narrow(value.len(), "the length of an item of metadata")?,
                flags: flags | ITEM_REQUIRED,
                ..MetadataEntry::BLANK
            };
            table.extend(entry.bytes());
            values.extend(value);
        }
        Ok(Self { table, values })
    }
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
        let log = Region { offset: MIB, length: MIB };
        let header = Header::new(7, Uuid::max(), Uuid::nil(), log).unwrap();
        let mut bytes = header.bytes();
        let sum = checksum(&bytes, HEADER_CHECKSUM);
        assert_eq!(header.checksum, sum);
        bytes[5] ^= 1;
        assert_eq!(checksum(&bytes, HEADER_CHECKSUM), sum);
        bytes[9] ^= 1;
        assert_ne!(checksum(&bytes, HEADER_CHECKSUM), sum);
        // The check value of CRC-32/ISCSI is for "123456789"; here the field counts as zero, so zeros replace
        // it.
        assert_eq!(checksum(b"1234\xff\xff\xff\xff9", HEADER_CHECKSUM), crc32c::crc32c(b"1234\0\0\0\09"));
    }
}
