//! The bytes of ext4: structures and constants, and nothing that decides (kernel.org, "ext4 Data Structures and
//! Algorithms"; linux/fs/ext4/ext4.h). All integers are little-endian; only the journal is big-endian.

use super::checksum::Checksum;
use crate::tree::Time;
use crate::units::{high32, low8, low16, low32};

/// Bytes of a block; always 4 KiB, so that bitmaps, growth and page size agree (docs/formats/ext4.md).
pub(super) const BLOCK: u64 = 4096;
/// [`BLOCK`] as a length in memory.
pub(super) const BLOCK_LENGTH: usize = 4096;
/// Blocks of a group: as many as one bitmap block has bits.
pub(super) const BLOCKS_PER_GROUP: u64 = BLOCK * 8;
/// The most inodes of a group: as many as one bitmap block has bits.
pub(super) const MOST_INODES_PER_GROUP: u32 = 32768;
/// Bytes of an inode.
pub(super) const INODE: usize = 256;
/// Inodes of a block.
pub(super) const INODES_PER_BLOCK: u32 = 16;
/// Bytes of a group descriptor with the 64bit feature.
pub(super) const DESCRIPTOR: usize = 64;
/// Group descriptors of a block.
pub(super) const DESCRIPTORS_PER_BLOCK: u64 = 64;
/// Groups whose bitmaps and inode tables stand together (flex_bg), and its logarithm.
pub(super) const FLEX_GROUPS: u64 = 16;
pub(super) const LOG_FLEX_GROUPS: u8 = 4;
/// Block pointers of a block in the old, indirect form; only the resize inode uses it.
pub(super) const POINTERS_PER_BLOCK: u64 = BLOCK / 4;
/// The most blocks of one initialised extent (EXT_INIT_MAX_LEN).
pub(super) const LONGEST_EXTENT: u64 = 32768;
/// Extents or index entries that fit an inode, and a block with its checksum tail: (4096 - 12 - 4) / 12.
pub(super) const EXTENTS_IN_INODE: usize = 4;
pub(super) const EXTENTS_IN_BLOCK: usize = 340;
/// The most blocks of a file: logical blocks are 32 bits and the last number is reserved (EXT_MAX_BLOCKS).
pub(super) const MOST_FILE_BLOCKS: u64 = 0xffff_ffff;
/// The most names of a file's inode, and subdirectories + 2 of a directory before the count stops (EXT4_LINK_MAX).
pub(super) const MOST_LINKS: u32 = 65_000;

/// Inodes with a fixed meaning.
pub(super) const ROOT: u32 = 2;
pub(super) const RESIZE: u32 = 7;
pub(super) const JOURNAL: u32 = 8;
pub(super) const LOST_AND_FOUND: u32 = 11;
/// The first inode of the tree's own nodes.
pub(super) const FIRST: u32 = 12;

/// Inode flags.
pub(super) const FLAG_INDEX: u32 = 0x1000;
pub(super) const FLAG_EXTENTS: u32 = 0x8_0000;

/// File types of an inode's mode.
pub(super) const MODE_FIFO: u16 = 0x1000;
pub(super) const MODE_CHARACTER: u16 = 0x2000;
pub(super) const MODE_DIRECTORY: u16 = 0x4000;
pub(super) const MODE_BLOCK: u16 = 0x6000;
pub(super) const MODE_FILE: u16 = 0x8000;
pub(super) const MODE_SYMLINK: u16 = 0xa000;
pub(super) const MODE_SOCKET: u16 = 0xc000;

/// Flags of a group descriptor.
pub(super) const GROUP_INODE_UNINIT: u16 = 1;
pub(super) const GROUP_BLOCK_UNINIT: u16 = 2;
pub(super) const GROUP_INODE_ZEROED: u16 = 4;

/// Features a reader may ignore.
pub(super) const COMPAT_HAS_JOURNAL: u32 = 0x4;
pub(super) const COMPAT_EXT_ATTR: u32 = 0x8;
pub(super) const COMPAT_RESIZE_INODE: u32 = 0x10;
pub(super) const COMPAT_DIR_INDEX: u32 = 0x20;
/// Features a reader must know: filetype, extents, 64bit, flex_bg.
pub(super) const INCOMPAT: u32 = 0x2 | 0x40 | 0x80 | 0x200;
/// Features a writer must know: sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum.
pub(super) const RO_COMPAT: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;

/// Writes little-endian fields at their offsets.
#[derive(Debug)]
pub(super) struct Fields<'a>(pub(super) &'a mut [u8]);

impl Fields<'_> {
    pub(super) fn bytes(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
    pub(super) fn u8(&mut self, offset: usize, value: u8) {
        self.bytes(offset, &[value]);
    }
    pub(super) fn u16(&mut self, offset: usize, value: u16) {
        self.bytes(offset, &value.to_le_bytes());
    }
    pub(super) fn u32(&mut self, offset: usize, value: u32) {
        self.bytes(offset, &value.to_le_bytes());
    }
    pub(super) fn be32(&mut self, offset: usize, value: u32) {
        self.bytes(offset, &value.to_be_bytes());
    }
}

/// An inode, in words; [`InodeRecord::bytes`] gives its 256 bytes.
#[derive(Clone, Debug)]
pub(super) struct InodeRecord<'a> {
    /// File type and permissions.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Length in bytes.
    pub(super) size: u64,
    pub(super) links: u16,
    /// Blocks it occupies, its extent tree and attribute block counted.
    pub(super) blocks: u64,
    pub(super) flags: u32,
    pub(super) mtime: Time,
    /// Change and birth time: the writer's own.
    pub(super) ctime: Time,
    /// Extent tree root, short link target, device number or block pointers.
    pub(super) block: [u8; 60],
    /// Block of extended attributes, or 0.
    pub(super) xattr_block: u64,
    /// Extended attributes inside the inode, at most 96 bytes.
    pub(super) xattrs: &'a [u8],
}

/// The part of the 256 bytes beyond the first 128 whose fields we fill: up to and with i_projid (offset 156).
const EXTRA_SIZE: u16 = 32;
/// Where attributes inside the inode begin.
pub(super) const XATTRS_IN_INODE: usize = 128 + 32;

impl InodeRecord<'_> {
    /// The inode as it stands in the table. Access time is the time of last change, since nothing was read yet.
    pub(super) fn bytes(&self, number: u32, seed: Checksum) -> [u8; INODE] {
        let mut bytes = [0; INODE];
        let mut at = Fields(&mut bytes);
        let sectors = self.blocks * (BLOCK / 512);
        at.u16(0x00, self.mode);
        at.u16(0x02, low16(u64::from(self.uid)));
        at.u32(0x04, low32(self.size));
        at.u32(0x08, seconds(self.mtime));
        at.u32(0x0c, seconds(self.ctime));
        at.u32(0x10, seconds(self.mtime));
        at.u16(0x18, low16(u64::from(self.gid)));
        at.u16(0x1a, self.links);
        at.u32(0x1c, low32(sectors));
        at.u32(0x20, self.flags);
        at.bytes(0x28, &self.block);
        at.u32(0x68, low32(self.xattr_block));
        at.u32(0x6c, high32(self.size));
        at.u16(0x74, low16(u64::from(high32(sectors))));
        at.u16(0x76, low16(u64::from(high32(self.xattr_block))));
        at.u16(0x78, low16(u64::from(self.uid >> 16)));
        at.u16(0x7a, low16(u64::from(self.gid >> 16)));
        at.u16(0x80, EXTRA_SIZE);
        at.u32(0x84, extra(self.ctime));
        at.u32(0x88, extra(self.mtime));
        at.u32(0x8c, extra(self.mtime));
        at.u32(0x90, seconds(self.ctime));
        at.u32(0x94, extra(self.ctime));
        at.bytes(XATTRS_IN_INODE, self.xattrs);
        let checksum = seed.of_inode(number).with(at.0).value();
        at.u16(0x7c, low16(u64::from(checksum)));
        at.u16(0x82, low16(u64::from(checksum >> 16)));
        bytes
    }
}

/// The first and last second an inode can hold: 34 bits around 1970 (kernel.org, ext4, "Inode Timestamps").
pub(super) const EARLIEST: i64 = -(1 << 31);
pub(super) const LATEST: i64 = (3 << 32) + (1 << 31) - 1;

/// The low 32 bits of a time.
fn seconds(time: Time) -> u32 {
    low32(time.seconds.cast_unsigned())
}

/// Nanoseconds above two bits that count how often 2^32 is added to the signed low word.
fn extra(time: Time) -> u32 {
    let low = i64::from(seconds(time).cast_signed());
    let epoch = low32(((time.seconds - low) >> 32).cast_unsigned()) & 3;
    time.nanoseconds << 2 | epoch
}

/// A device number in an inode's block pointers: the old 16-bit form where it fits, else the new one (kernel
/// include/linux/kdev_t.h). Major below 2^12, minor below 2^20.
pub(super) fn device((major, minor): (u32, u32)) -> [u8; 60] {
    let mut block = [0; 60];
    let mut at = Fields(&mut block);
    if major < 256 && minor < 256 {
        at.u32(0, major << 8 | minor);
    } else {
        at.u32(4, (minor & 0xff) | major << 8 | (minor & !0xff) << 12);
    }
    block
}

/// One run of a file's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// First block of the file.
    pub(super) logical: u32,
    /// How many, 1 to 32768.
    pub(super) length: u16,
    /// First block of the filesystem.
    pub(super) physical: u64,
}

/// The header of an extent tree node: entries in use, room, and height above the leaves.
pub(super) fn extent_header(at: &mut Fields<'_>, entries: usize, room: usize, depth: u16) {
    at.u16(0, 0xf30a);
    at.u16(2, low16(crate::units::u64_of(entries)));
    at.u16(4, low16(crate::units::u64_of(room)));
    at.u16(6, depth);
}

/// An extent as entry `number` of its node. A length of 32768 is stored as it is: only larger ones mean "unwritten".
pub(super) fn extent_entry(at: &mut Fields<'_>, number: usize, extent: Extent) {
    let offset = 12 + number * 12;
    at.u32(offset, extent.logical);
    at.u16(offset + 4, extent.length);
    at.u16(offset + 6, low16(u64::from(high32(extent.physical))));
    at.u32(offset + 8, low32(extent.physical));
}

/// A pointer to a lower node as entry `number` of its node.
pub(super) fn extent_index(at: &mut Fields<'_>, number: usize, logical: u32, node: u64) {
    let offset = 12 + number * 12;
    at.u32(offset, logical);
    at.u32(offset + 4, low32(node));
    at.u16(offset + 8, low16(u64::from(high32(node))));
}

/// A directory entry's file type, which repeats the inode's (filetype feature).
pub(super) fn entry_type(mode: u16) -> u8 {
    match mode & 0xf000 {
        MODE_FILE => 1,
        MODE_DIRECTORY => 2,
        MODE_CHARACTER => 3,
        MODE_BLOCK => 4,
        MODE_FIFO => 5,
        MODE_SOCKET => 6,
        MODE_SYMLINK => 7,
        _ => 0,
    }
}

/// Bytes of a directory entry: 8 and the name, on a multiple of 4.
pub(super) const fn entry_length(name: usize) -> usize {
    (8 + name).next_multiple_of(4)
}

/// Bytes at the end of a directory block that hold its checksum, dressed as an unused entry.
pub(super) const DIRECTORY_TAIL: usize = 12;

/// One directory entry at `offset`, `length` bytes long.
pub(super) fn entry(at: &mut Fields<'_>, offset: usize, length: usize, inode: u32, kind: u8, name: &[u8]) {
    at.u32(offset, inode);
    at.u16(offset + 4, low16(crate::units::u64_of(length)));
    at.u8(offset + 6, low8(crate::units::u64_of(name.len())));
    at.u8(offset + 7, kind);
    at.bytes(offset + 8, name);
}

/// The checksum of a directory block without index, in its tail.
pub(super) fn directory_tail(at: &mut Fields<'_>, seed: Checksum) {
    let tail = BLOCK_LENGTH - DIRECTORY_TAIL;
    at.u16(tail + 4, 12);
    at.u8(tail + 7, 0xde);
    let checksum = seed.with(&at.0[..tail]).value();
    at.u32(tail + 8, checksum);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_reach_from_1901_to_2446() {
        for (time, low, high) in [
            (0_i64, 0_u32, 0_u32),
            (-1, 0xffff_ffff, 0),
            (EARLIEST, 0x8000_0000, 0),
            (0x7fff_ffff, 0x7fff_ffff, 0),
            // 2038-01-19 03:14:08: the signed word wraps to its least value and one epoch is added.
            (0x8000_0000, 0x8000_0000, 1),
            (0x1_0000_0000, 0, 1),
            (LATEST, 0x7fff_ffff, 3),
        ] {
            let time = Time { seconds: time, nanoseconds: 7 };
            assert_eq!((seconds(time), extra(time)), (low, 7 << 2 | high), "{time:?}");
        }
    }

    #[test]
    fn device_numbers_take_the_form_that_fits() {
        assert_eq!(device((5, 1))[..8], [0x01, 0x05, 0, 0, 0, 0, 0, 0]);
        assert_eq!(device((259, 0x12345))[..8], [0, 0, 0, 0, 0x45, 0x03, 0x31, 0x12]);
    }
}
