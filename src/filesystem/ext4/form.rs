//! The form of a filesystem: the sizes of its structures and its features. Everything else follows from it and from the
//! contents.

use super::feature::Feature;
use super::format::features::{compat, incompat, ro_compat};
use super::format::{DESCRIPTOR, EXTENTS_IN_INODE, ExtentEntry, ExtentHeader, Inode, LATEST};
use crate::error::{Error, Kind, Result};
use crate::units::{Bytes, KIB, u64_of, usize_of};
use crate::wire::Wire;

/// Blocks of 1 to 64 KiB (linux/fs/ext4/ext4.h, EXT4_MIN_BLOCK_SIZE and EXT4_MAX_BLOCK_SIZE).
const BLOCKS: std::ops::RangeInclusive<u64> = KIB..=64 * KIB;
/// Bytes of the fields that every inode has, and of the smallest inode (EXT2_GOOD_OLD_INODE_SIZE).
pub(super) const BASE_INODE: usize = 128;
/// The largest power of two that s_inode_size holds, which has 16 bits.
const LARGEST_INODE: u64 = 1 << 15;
/// Bytes of a descriptor without 64bit (EXT4_MIN_DESC_SIZE).
const OLD_DESCRIPTOR: usize = 32;
/// The most blocks of a group where its free blocks have 16 bits (lib/ext2fs/ext2_fs.h, EXT2_MAX_BLOCKS_PER_GROUP), which mke2fs
/// keeps to with wider fields, too.
const MOST_BLOCKS_PER_GROUP: u64 = 65_528;
/// Direct pointers of an inode without extents (EXT4_NDIR_BLOCKS).
pub(super) const DIRECT: u64 = 12;
/// Bytes that mke2fs gives lost+found (misc/mke2fs.c, create_lost_and_found), and its most blocks there.
const LOST_AND_FOUND: u64 = 16 * KIB;

/// Which extended filesystem it is: what mke2fs.conf of e2fsprogs 1.47 gives that type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Revision {
    /// Block pointers and no journal.
    Ext2,
    /// Block pointers and a journal.
    Ext3,
    /// Extents, a journal and checksums.
    #[default]
    Ext4,
}

impl Revision {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
        }
    }
}

/// The features of ext2 (mke2fs.conf, base_features), without resize_inode, which the geometry decides.
const COMPAT: u32 = compat::EXT_ATTR | compat::DIR_INDEX | compat::RESIZE_INODE;
const INCOMPAT: u32 = incompat::FILETYPE;
const RO_COMPAT: u32 = ro_compat::SPARSE_SUPER | ro_compat::LARGE_FILE;
/// What ext4 has beside them (mke2fs.conf, fs_types), without those that old boot loaders refuse.
const EXT4_INCOMPAT: u32 = incompat::EXTENTS | incompat::WIDE | incompat::FLEX_BG;
const EXT4_RO_COMPAT: u32 =
    ro_compat::HUGE_FILE | ro_compat::DIR_NLINK | ro_compat::EXTRA_ISIZE | ro_compat::METADATA_CSUM;

/// The sizes and features of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Bytes of a block.
    pub(super) block: u64,
    /// Bytes of an inode.
    pub(super) inode: usize,
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
}

impl Default for Form {
    fn default() -> Self {
        Self::of(Revision::Ext4)
    }
}

impl Form {
    /// The usual form of a revision: blocks of 4 KiB and inodes of 256 bytes.
    pub(super) const fn of(revision: Revision) -> Self {
        let (incompat, ro_compat) = match revision {
            Revision::Ext4 => (INCOMPAT | EXT4_INCOMPAT, RO_COMPAT | EXT4_RO_COMPAT),
            Revision::Ext2 | Revision::Ext3 => (INCOMPAT, RO_COMPAT),
        };
        Self { block: 4 * KIB, inode: 256, compat: COMPAT, incompat, ro_compat }
    }

    /// The form with these sizes and features.
    ///
    /// # Errors
    /// [`Kind::Manifest`] for sizes that the format does not have, and for features that do not go together.
    pub(super) fn new(
        revision: Revision,
        block: Option<Bytes>,
        inode: Option<Bytes>,
        features: &[Feature],
    ) -> Result<Self> {
        let mut form = Self::of(revision);
        form.block = block.map_or(form.block, Bytes::get);
        if !BLOCKS.contains(&form.block) || !form.block.is_power_of_two() {
            return Err(Error::new(Kind::Manifest, "ext4 has no blocks of this size")
                .about("block_size")
                .expected("a power of two from 1KiB to 64KiB")
                .found(Bytes::new(form.block).in_full()));
        }
        let bytes = inode.map_or(u64_of(form.inode), Bytes::get);
        if !bytes.is_power_of_two() || bytes < u64_of(BASE_INODE) || bytes > form.block.min(LARGEST_INODE) {
            return Err(Error::new(Kind::Manifest, "ext4 has no inodes of this size")
                .about("inode_size")
                .expected(format!("a power of two from 128 to {}", form.block.min(LARGEST_INODE)))
                .found(bytes));
        }
        form.inode = usize_of(bytes);
        if form.inode == BASE_INODE {
            form.ro_compat &= !ro_compat::EXTRA_ISIZE;
        }
        features.iter().for_each(|feature| feature.apply(&mut form));
        form.check()?;
        Ok(form)
    }

    /// Refuses features that do not go together.
    fn check(&self) -> Result<()> {
        let needs = |what: &str, other: &str| {
            Err(Error::new(Kind::Manifest, format!("the ext4 feature {what} needs {other}"))
                .about("features"))
        };
        if self.is_ro_compat(ro_compat::EXTRA_ISIZE) && self.inode == BASE_INODE {
            return needs("extra_isize", "inodes of more than 128 bytes");
        }
        if self.is_ro_compat(ro_compat::PROJECT) && self.inode == BASE_INODE {
            return needs("project", "inodes of more than 128 bytes");
        }
        if self.is_incompat(incompat::CSUM_SEED) && !self.has_checksums() {
            return needs("metadata_csum_seed", "metadata_csum");
        }
        if self.is_incompat(incompat::WIDE) && !self.has_extents() {
            return needs("64bit", "extent, as block pointers have 32 bits");
        }
        if self.has_checksums() && self.is_ro_compat(ro_compat::GDT_CSUM) {
            return Err(Error::new(
                Kind::Manifest,
                "uninit_bg and metadata_csum are two ways to sum group descriptors",
            )
            .about("features")
            .hint("add ^metadata_csum"));
        }
        Ok(())
    }

    pub(super) const fn is_compat(&self, feature: u32) -> bool {
        self.compat & feature != 0
    }

    pub(super) const fn is_incompat(&self, feature: u32) -> bool {
        self.incompat & feature != 0
    }

    pub(super) const fn is_ro_compat(&self, feature: u32) -> bool {
        self.ro_compat & feature != 0
    }

    /// Whether files have extents, and not block pointers.
    pub(super) const fn has_extents(&self) -> bool {
        self.is_incompat(incompat::EXTENTS)
    }

    /// Whether every structure has a checksum.
    pub(super) const fn has_checksums(&self) -> bool {
        self.is_ro_compat(ro_compat::METADATA_CSUM)
    }

    /// Whether flags of groups are reliable, as their descriptors have checksums.
    pub(super) const fn has_flags(&self) -> bool {
        self.has_checksums() || self.is_ro_compat(ro_compat::GDT_CSUM)
    }

    /// A block as a length in memory.
    pub(super) const fn block_length(&self) -> usize {
        usize_of(self.block)
    }

    /// s_log_block_size: 1 KiB shifted by it is a block.
    pub(super) const fn log_block(&self) -> u32 {
        (self.block / KIB).trailing_zeros()
    }

    /// The first block of group 0. A superblock of 1 KiB after a boot sector of 1 KiB is block 1 if blocks are as long.
    pub(super) const fn first(&self) -> u64 {
        if self.block == KIB { 1 } else { 0 }
    }

    /// The block with the first superblock.
    pub(super) const fn superblock_block(&self) -> u64 {
        KIB / self.block
    }

    /// Blocks of a group: as many as a bitmap block has bits.
    pub(super) const fn blocks_per_group(&self) -> u64 {
        let bits = self.block * 8;
        if bits > MOST_BLOCKS_PER_GROUP { MOST_BLOCKS_PER_GROUP } else { bits }
    }

    /// The first block of a group.
    pub(super) const fn group_start(&self, group: u64) -> u64 {
        self.first() + group * self.blocks_per_group()
    }

    /// The groups of `blocks` blocks.
    pub(super) const fn groups(&self, blocks: u64) -> u64 {
        blocks.saturating_sub(self.first()).div_ceil(self.blocks_per_group())
    }

    /// The largest number of inodes of a group: as many as a bitmap has bits, and as their free count holds
    /// (lib/ext2fs/ext2_fs.h, EXT2_MAX_INODES_PER_GROUP).
    pub(super) fn most_inodes_per_group(&self) -> u64 {
        (self.block * 8).min(65_536 - self.block / u64_of(self.inode))
    }

    /// Bytes of a group descriptor.
    pub(super) const fn descriptor(&self) -> usize {
        if self.is_incompat(incompat::WIDE) { DESCRIPTOR } else { OLD_DESCRIPTOR }
    }

    /// Group descriptors of a block.
    pub(super) const fn descriptors_per_block(&self) -> u64 {
        self.block / u64_of(self.descriptor())
    }

    /// Groups whose bitmaps and inode tables lie together.
    pub(super) const fn flex_groups(&self) -> u64 {
        1 << self.log_flex_groups()
    }

    /// The logarithm of that.
    pub(super) const fn log_flex_groups(&self) -> u8 {
        if self.is_incompat(incompat::FLEX_BG) { super::format::LOG_FLEX_GROUPS } else { 0 }
    }

    /// Block pointers of a block.
    pub(super) const fn pointers(&self) -> u64 {
        self.block / 4
    }

    /// Extents or index entries of a block.
    pub(super) const fn extents_in_block(&self) -> usize {
        (self.block_length() - ExtentHeader::LENGTH) / ExtentEntry::LENGTH
    }

    /// The most blocks of a file: logical numbers have 32 bits with extents, and pointers reach so far without. Without
    /// huge_file the number of sectors of an inode has 32 bits.
    pub(super) fn most_file_blocks(&self) -> u64 {
        let most = super::format::MOST_FILE_BLOCKS;
        let each = self.pointers();
        let mapped = DIRECT + each + each * each + each * each * each;
        let most = if self.has_extents() { most } else { most.min(mapped) };
        if self.is_ro_compat(ro_compat::HUGE_FILE) {
            return most;
        }
        // A map takes less than a two hundredth of what it maps, from 256 pointers to a block on.
        let sectors = u64::from(u32::MAX) / (self.block / 512);
        most.min(sectors - sectors / 200)
    }

    /// The largest number of blocks of a volume: its descriptors and their copies take at most three eighths of a group, and
    /// block numbers have 32 bits without 64bit. With the usual form it is 96 TiB. A larger volume would need meta_bg, which
    /// excludes the resize inode.
    pub(super) fn most_blocks(&self) -> u64 {
        let groups = self.blocks_per_group() / 8 * 3 * self.descriptors_per_block();
        let described = groups * self.blocks_per_group();
        if self.is_incompat(incompat::WIDE) { described } else { described.min(u32::MAX.into()) }
    }

    /// Bytes of the fields of an inode after its first 128: up to and including i_projid (offset 156).
    pub(super) const fn extra_size(&self) -> u16 {
        if self.inode == BASE_INODE { 0 } else { 32 }
    }

    /// Where attributes inside an inode begin.
    pub(super) const fn attributes_at(&self) -> usize {
        if self.inode == BASE_INODE { BASE_INODE } else { Inode::LENGTH }
    }

    /// The last second that a time can be.
    pub(super) const fn latest(&self) -> i64 {
        if self.inode == BASE_INODE { 0x7fff_ffff } else { LATEST }
    }

    /// Blocks of lost+found, so that e2fsck can put files there without needing space.
    pub(super) fn lost_and_found_blocks(&self) -> u64 {
        (LOST_AND_FOUND / self.block).clamp(2, DIRECT)
    }

    /// Extents of an inode, or direct pointers: what needs no block of its own.
    pub(super) fn fits_inode(&self, length: u64) -> bool {
        if self.has_extents() {
            length.div_ceil(super::format::LONGEST_EXTENT) <= u64_of(EXTENTS_IN_INODE)
        } else {
            length <= DIRECT
        }
    }
}
