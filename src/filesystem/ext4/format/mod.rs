//! The bytes of ext4: structures and constants without any decisions (kernel.org, "ext4 Data Structures and
//! Algorithms"; linux/fs/ext4/ext4.h). All integers are little-endian; only the journal is big-endian.

mod directory;
pub(crate) mod features;
mod inode;
mod superblock;

pub(crate) use directory::{DirectoryEntry, DirectoryTail, IndexCount, IndexEntry, IndexRoot, IndexTail};
pub(super) use inode::{EARLIEST, LATEST, device, device_of, time_of, time_words};
pub(crate) use inode::{
    ExtentEntry, ExtentHeader, ExtentIndex, ExtentTail, Inode, XattrEntry, XattrHeader, XattrInodeHeader,
};
pub(crate) use superblock::{
    GroupDescriptor, JournalHeader, JournalSuperblock, JournalTag, JournalTag3, Superblock,
};

use super::checksum::Checksum;
use super::form::Form;
use crate::error::{Error, Result};
use crate::tree::Time;
use crate::units::{half_hi, half_hi16, half_lo, half_lo16, narrow};
use crate::wire::{Field, Structure, Wire, field};

/// Every structure, for the tables of docs/formats/ext4.md.
pub(crate) const STRUCTURES: &[Structure] = &[
    Superblock::STRUCTURE,
    GroupDescriptor::STRUCTURE,
    Inode::STRUCTURE,
    ExtentHeader::STRUCTURE,
    ExtentEntry::STRUCTURE,
    ExtentIndex::STRUCTURE,
    ExtentTail::STRUCTURE,
    DirectoryEntry::STRUCTURE,
    DirectoryTail::STRUCTURE,
    IndexRoot::STRUCTURE,
    IndexCount::STRUCTURE,
    IndexEntry::STRUCTURE,
    IndexTail::STRUCTURE,
    XattrInodeHeader::STRUCTURE,
    XattrHeader::STRUCTURE,
    XattrEntry::STRUCTURE,
    JournalSuperblock::STRUCTURE,
    JournalHeader::STRUCTURE,
    JournalTag::STRUCTURE,
    JournalTag3::STRUCTURE,
];

/// Bytes of a group descriptor with the 64bit feature.
pub(super) const DESCRIPTOR: usize = 64;
/// The logarithm of the number of groups whose bitmaps and inode tables lie together with flex_bg: 16, as of mke2fs.
pub(super) const LOG_FLEX_GROUPS: u8 = 4;
/// The most blocks of one initialised extent (EXT_INIT_MAX_LEN).
pub(super) const LONGEST_EXTENT: u64 = 32768;
/// Extents or index entries that fit in an inode.
pub(super) const EXTENTS_IN_INODE: usize = 4;
/// The largest number of blocks of a file: logical block numbers have 32 bits and the last one is reserved
/// (EXT_MAX_BLOCKS).
pub(super) const MOST_FILE_BLOCKS: u64 = 0xffff_ffff;
/// The largest number of names of a file. For a directory, the largest number of subdirectories + 2 that is
/// still counted (EXT4_LINK_MAX).
pub(super) const MOST_LINKS: u32 = 65_000;

/// Inodes with a fixed meaning.
/// That of bad blocks has blocks but is not a file.
pub(super) const BAD_BLOCKS: u32 = 1;
pub(super) const ROOT: u32 = 2;
pub(super) const RESIZE: u32 = 7;
pub(super) const JOURNAL: u32 = 8;
pub(super) const LOST_AND_FOUND: u32 = 11;
/// The first inode of the tree's own nodes.
pub(super) const FIRST: u32 = 12;

/// Inode flags.
pub(super) const FLAG_INDEX: u32 = 0x1000;
pub(super) const FLAG_EXTENTS: u32 = 0x8_0000;

/// Flags of a group descriptor.
pub(super) const GROUP_INODE_UNINIT: u16 = 1;
pub(super) const GROUP_BLOCK_UNINIT: u16 = 2;
pub(super) const GROUP_INODE_ZEROED: u16 = 4;

const CHECKSUM_LO: Field = field(Inode::FIELDS, "l_i_checksum_lo");
const CHECKSUM_HI: Field = field(Inode::FIELDS, "i_checksum_hi");

/// An inode by its values; [`InodeRecord::bytes`] gives its bytes.
#[derive(Clone, Debug)]
pub(super) struct InodeRecord<'a> {
    /// File type and permissions.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Length in bytes.
    pub(super) size: u64,
    pub(super) links: u16,
    /// Blocks that it occupies, including its extent tree and attribute block.
    pub(super) blocks: u64,
    pub(super) flags: u32,
    pub(super) mtime: Time,
    /// Change and birth time: the time of the writer.
    pub(super) ctime: Time,
    /// Extent tree root, short link target, device number or block pointers.
    pub(super) block: [u8; 60],
    /// Block of extended attributes, or 0.
    pub(super) xattr_block: u64,
    /// Extended attributes inside the inode.
    pub(super) xattrs: &'a [u8],
}

impl InodeRecord<'_> {
    /// The inode as it is in the table. Access time equals modification time, since nothing was read yet.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) for a value that does not fit in its field or in the inode.
    pub(super) fn bytes(&self, number: u32, form: &Form, seed: Checksum) -> Result<Vec<u8>> {
        let sectors = self.blocks * (form.block / 512);
        let (mtime, mtime_extra) = time_words(self.mtime);
        let (ctime, ctime_extra) = time_words(self.ctime);
        let inode = Inode {
            i_mode: self.mode,
            i_uid: half_lo16(self.uid),
            i_size_lo: half_lo(self.size),
            i_atime: mtime,
            i_ctime: ctime,
            i_mtime: mtime,
            i_gid: half_lo16(self.gid),
            i_links_count: self.links,
            i_blocks_lo: half_lo(sectors),
            i_flags: self.flags,
            i_block: self.block,
            i_file_acl_lo: half_lo(self.xattr_block),
            i_size_high: half_hi(self.size),
            l_i_blocks_high: narrow(half_hi(sectors), "l_i_blocks_high")?,
            l_i_file_acl_high: narrow(half_hi(self.xattr_block), "l_i_file_acl_high")?,
            l_i_uid_high: half_hi16(self.uid),
            l_i_gid_high: half_hi16(self.gid),
            i_extra_isize: form.extra_size(),
            i_ctime_extra: ctime_extra,
            i_mtime_extra: mtime_extra,
            i_atime_extra: mtime_extra,
            i_crtime: ctime,
            i_crtime_extra: ctime_extra,
            ..Inode::BLANK
        };
        let mut bytes = vec![0; form.inode.max(Inode::LENGTH)];
        inode.write_to(&mut bytes);
        bytes.truncate(form.inode);
        let from = form.attributes_at();
        let attributes = bytes
            .get_mut(from..from + self.xattrs.len())
            .ok_or_else(|| Error::bug("the attributes inside an inode are longer than its space for them"))?;
        attributes.copy_from_slice(self.xattrs);
        if form.has_checksums() {
            let sum = seed.of_inode(number).with(&bytes).value();
            bytes[CHECKSUM_LO.offset..CHECKSUM_LO.end()].copy_from_slice(&half_lo16(sum).to_le_bytes());
            if form.extra_size() > 0 {
                bytes[CHECKSUM_HI.offset..CHECKSUM_HI.end()].copy_from_slice(&half_hi16(sum).to_le_bytes());
            }
        }
        Ok(bytes)
    }
}

/// One run of a file's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// First block of the file.
    pub(super) logical: u32,
    /// Number of blocks, 1 to 32768.
    pub(super) length: u16,
    /// First block of the filesystem.
    pub(super) physical: u64,
}

/// Bytes of a directory entry: its head and the name, rounded up to a multiple of 4.
pub(super) const fn entry_length(name: usize) -> usize {
    (DirectoryEntry::LENGTH + name).next_multiple_of(4)
}
