//! The structures of partition tables. Numbers are little-endian.

use uuid::Uuid;

use crate::wire::{Guid, Structure, Wire, wire};

/// Every structure, for the tables of docs/formats/tables.md.
pub(crate) const STRUCTURES: &[Structure] =
    &[GptHeader::STRUCTURE, GptEntry::STRUCTURE, BootRecord::STRUCTURE, PartitionRecord::STRUCTURE];

wire! {
    /// The header of a GPT (UEFI 2.10, table 5.5).
    pub(crate) struct GptHeader: "GPT header", little, 92 {
        0 signature "Signature": [u8; 8] = *b"EFI PART",
        8 revision "Revision": u32,
        12 header_size "HeaderSize": u32,
        16 header_crc32 "HeaderCRC32": u32,
        20 reserved "Reserved": u32,
        24 my_lba "MyLBA": u64,
        32 alternate_lba "AlternateLBA": u64,
        40 first_usable_lba "FirstUsableLBA": u64,
        48 last_usable_lba "LastUsableLBA": u64,
        56 disk_guid "DiskGUID": Guid,
        72 partition_entry_lba "PartitionEntryLBA": u64,
        80 number_of_partition_entries "NumberOfPartitionEntries": u32,
        84 size_of_partition_entry "SizeOfPartitionEntry": u32,
        88 partition_entry_array_crc32 "PartitionEntryArrayCRC32": u32,
    }
}

wire! {
    /// An entry of a GPT (UEFI 2.10, table 5.6).
    pub(crate) struct GptEntry: "GPT entry", little, 128 {
        0 partition_type_guid "PartitionTypeGUID": Guid,
        16 unique_partition_guid "UniquePartitionGUID": Guid,
        32 starting_lba "StartingLBA": u64,
        40 ending_lba "EndingLBA": u64,
        48 attributes "Attributes": u64,
        56 partition_name "PartitionName": [u16; 36],
    }
}

impl GptEntry {
    /// Whether the slot is free.
    pub(super) fn is_unused(&self) -> bool {
        self.partition_type_guid == Guid(Uuid::nil())
    }
}

wire! {
    /// The part of a boot record after its boot code: in the master boot record of a disk, and in the
    /// extended one before a logical partition (UEFI 2.10, table 5.1).
    pub(crate) struct BootRecord: "boot record behind the boot code", little, 72 {
        0 unique_mbr_disk_signature "UniqueMBRDiskSignature": u32,
        6 partition_record "PartitionRecord": [PartitionRecord; 4],
        70 signature "Signature": u16 = 0xaa55,
    }
}

wire! {
    /// A partition in a boot record (UEFI 2.10, table 5.2).
    pub(crate) struct PartitionRecord: "MBR partition record", little, 16 {
        0 boot_indicator "BootIndicator": u8,
        1 starting_chs "StartingCHS": [u8; 3],
        4 os_type "OSType": u8,
        5 ending_chs "EndingCHS": [u8; 3],
        8 starting_lba "StartingLBA": u32,
        12 size_in_lba "SizeInLBA": u32,
    }
}

/// The offset of [`BootRecord`] in its sector: after the boot code.
pub(super) const RECORD_AT: u64 = 440;
/// BootIndicator of a partition that a BIOS boots.
pub(super) const ACTIVE: u8 = 0x80;
/// Type of the record that protects a GPT.
pub(super) const PROTECTIVE: u8 = 0xee;
/// Types of an extended partition: with CHS addresses, with LBA, and an older one of Linux.
pub(super) const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

impl PartitionRecord {
    /// Whether the record is unused.
    pub(super) const fn is_unused(&self) -> bool {
        self.os_type == 0 || self.size_in_lba == 0
    }
}

/// The text of a UTF-16 name that ends at its first NUL.
pub(super) fn name(units: &[u16]) -> String {
    let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
    String::from_utf16_lossy(&units[..end])
}
