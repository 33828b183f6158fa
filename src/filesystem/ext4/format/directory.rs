//! The structures in the blocks of a directory: entries, the index over them, checksum tails.

use crate::wire::wire;

wire! {
    /// The head of a directory entry; its name follows (kernel.org, ext4, "Linear (Classic) Directories").
    pub(crate) struct DirectoryEntry: "ext4 directory entry", little, 8 {
        0 inode: u32,
        4 rec_len: u16,
        6 name_len: u8,
        7 file_type: u8,
    }
}

wire! {
    /// The checksum of a block without index, in the form of an unused entry.
    pub(crate) struct DirectoryTail: "ext4 directory tail", little, 12 {
        0 det_reserved_zero1: u32 = 0,
        4 det_rec_len: u16 = 12,
        6 det_reserved_zero2: u8 = 0,
        7 det_reserved_ft: u8 = 0xde,
        8 det_checksum: u32,
    }
}

wire! {
    /// The root of an index, after `.` and `..` (kernel.org, ext4, "Hash Tree Directories").
    pub(crate) struct IndexRoot: "ext4 index root", little, 8 {
        0 reserved_zero: u32 = 0,
        4 hash_version: u8,
        5 info_length: u8 = 8,
        6 indirect_levels: u8,
        7 unused_flags: u8,
    }
}

wire! {
    /// How many pointers an index block can have, and how many it has. It replaces the hash of the first
    /// pointer.
    pub(crate) struct IndexCount: "ext4 index count", little, 4 {
        0 limit: u16,
        2 count: u16,
    }
}

wire! {
    /// A pointer of an index block.
    pub(crate) struct IndexEntry: "ext4 index entry", little, 8 {
        0 hash: u32,
        4 block: u32,
    }
}

wire! {
    /// The checksum of an index block.
    pub(crate) struct IndexTail: "ext4 index tail", little, 8 {
        0 dt_reserved: u32,
        4 dt_checksum: u32,
    }
}
