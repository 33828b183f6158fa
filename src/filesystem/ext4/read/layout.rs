//! The layout of a volume, by its superblock.

use crate::error::{Error, Result};
use crate::filesystem::device::damaged;
use crate::filesystem::ext4::checksum::Checksum;
use crate::filesystem::ext4::format::features::{compat, incompat, ro_compat, unreadable};
use crate::filesystem::ext4::format::{GroupDescriptor, Superblock};
use crate::filesystem::ext4::geometry;
use crate::units::{half_lo16, joined, narrow, u64_of};
use crate::wire::{Field, Wire, field};

/// The offset of the superblock, for every block size.
pub(crate) const SUPERBLOCK_AT: u64 = 1024;
/// Blocks are 1 KiB shifted by at most this (EXT4_MAX_BLOCK_LOG_SIZE: 64 KiB).
const MOST_LOG_BLOCK: u32 = 6;
/// Clusters are 1 KiB shifted by at most this (EXT4_MAX_CLUSTER_LOG_SIZE).
const MOST_LOG_CLUSTER: u32 = 30;
/// Bytes of an inode, and of a descriptor, in the first revision and without 64bit.
const OLD_INODE: u16 = 128;
const OLD_DESCRIPTOR: u64 = 32;
const DESCRIPTOR_CHECKSUM: Field = field(GroupDescriptor::FIELDS, "bg_checksum");

/// The numbers of a volume, checked against each other as in the kernel (linux/fs/ext4/super.c).
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) superblock: Superblock,
    /// Bytes in a block.
    pub(crate) block: u64,
    /// Blocks in a cluster; 1 without bigalloc.
    pub(crate) cluster: u64,
    /// The number of blocks, and the first block of group 0.
    pub(crate) blocks: u64,
    pub(crate) first: u64,
    pub(crate) groups: u64,
    pub(crate) blocks_per_group: u64,
    pub(crate) inodes_per_group: u32,
    pub(crate) inodes: u32,
    /// Bytes in an inode, and in a descriptor.
    pub(crate) inode: u64,
    pub(crate) descriptor: u64,
    /// The seed of all checksums except the superblock's; `None` without metadata_csum.
    pub(crate) seed: Option<Checksum>,
}

impl Layout {
    /// The numbers of a volume in `length` bytes.
    pub(crate) fn new(superblock: Superblock, length: u64) -> Result<Self> {
        let unknown = unreadable(&superblock);
        if !unknown.is_empty() {
            return Err(damaged("an ext4 filesystem has a feature that is not understood")
                .found(unknown.join(", "))
                .why(
                    "readers must not touch a filesystem with an incompatible feature that they do not know",
                ));
        }
        let wrong = |field: &str, found: u64| {
            Err(damaged(format!("the superblock of an ext4 filesystem is wrong: {field}")).found(found))
        };
        let log_block = superblock.s_log_block_size;
        if log_block > MOST_LOG_BLOCK {
            return wrong("s_log_block_size", log_block.into());
        }
        let block = 1024_u64 << log_block;
        let cluster = cluster(&superblock)?;
        let blocks = if has(superblock.s_feature_incompat, incompat::WIDE) {
            joined(superblock.s_blocks_count_lo, superblock.s_blocks_count_hi)
        } else {
            superblock.s_blocks_count_lo.into()
        };
        let first = u64::from(superblock.s_first_data_block);
        // A block of 1 KiB has no space for a superblock after the boot sector, so block 0 does not belong to
        // group 0.
        if first > 1 || first >= blocks || (first == 0 && block == SUPERBLOCK_AT && cluster == 1) {
            return wrong("s_first_data_block", first);
        }
        let bytes = blocks.checked_mul(block).filter(|bytes| *bytes <= length);
        if bytes.is_none() {
            return Err(damaged("an ext4 filesystem is longer than what holds it")
                .expected(format!("at most {length} bytes"))
                .found(format!("{blocks} blocks of {block} bytes")));
        }
        let bits = block * 8;
        let blocks_per_group = u64::from(superblock.s_blocks_per_group);
        let clusters_per_group = u64::from(superblock.s_clusters_per_group);
        if clusters_per_group == 0 || clusters_per_group > bits {
            return wrong("s_clusters_per_group", clusters_per_group);
        }
        if blocks_per_group != clusters_per_group * cluster {
            return wrong("s_blocks_per_group", blocks_per_group);
        }
        let mut layout = Self {
            block,
            cluster,
            blocks,
            first,
            groups: (blocks - first).div_ceil(blocks_per_group),
            blocks_per_group,
            inodes_per_group: superblock.s_inodes_per_group,
            inodes: superblock.s_inodes_count,
            inode: inode(&superblock, block)?,
            descriptor: descriptor(&superblock, block)?,
            seed: None,
            superblock,
        };
        layout.check_inodes()?;
        layout.seed = layout.checksum_seed();
        Ok(layout)
    }

    fn check_inodes(&self) -> Result<()> {
        let (each, all) = (u64::from(self.inodes_per_group), u64::from(self.inodes));
        if each == 0 || each > self.block * 8 || each * self.inode < self.block {
            return Err(
                damaged("the superblock of an ext4 filesystem is wrong: s_inodes_per_group").found(each)
            );
        }
        // Tables larger than the inode count: mke2fs 1.47 never leaves such, and a table that ends early
        // would give other inodes.
        if self.groups * each != all {
            return Err(damaged("the superblock of an ext4 filesystem is wrong: s_inodes_count")
                .expected(format!("{each} for each of {} groups", self.groups))
                .found(all));
        }
        Ok(())
    }

    fn checksum_seed(&self) -> Option<Checksum> {
        let superblock = &self.superblock;
        has(superblock.s_feature_ro_compat, ro_compat::METADATA_CSUM).then(|| {
            if has(superblock.s_feature_incompat, incompat::CSUM_SEED) {
                Checksum::seeded(superblock.s_checksum_seed)
            } else {
                Checksum::of_filesystem(superblock.s_uuid)
            }
        })
    }

    /// Whether the filesystem has an incompatible feature.
    pub(crate) const fn incompatible(&self, feature: u32) -> bool {
        has(self.superblock.s_feature_incompat, feature)
    }

    /// Whether the filesystem has a feature for writers.
    pub(crate) const fn ro_compatible(&self, feature: u32) -> bool {
        has(self.superblock.s_feature_ro_compat, feature)
    }

    /// The block that holds the first superblock.
    pub(crate) const fn superblock_block(&self) -> u64 {
        SUPERBLOCK_AT / self.block
    }

    /// The first block of a group.
    pub(crate) const fn group_start(&self, group: u64) -> u64 {
        self.first + group * self.blocks_per_group
    }

    /// One past the last block of a group.
    pub(crate) fn group_end(&self, group: u64) -> u64 {
        (self.group_start(group) + self.blocks_per_group).min(self.blocks)
    }

    /// Whether a group contains a copy of the superblock (linux/fs/ext4/balloc.c, ext4_bg_has_super).
    pub(crate) fn has_superblock(&self, group: u64) -> bool {
        if group == 0 {
            return true;
        }
        if has(self.superblock.s_feature_compat, compat::SPARSE_SUPER2) {
            return self.superblock.s_backup_bgs.iter().any(|backup| u64::from(*backup) == group);
        }
        !self.ro_compatible(ro_compat::SPARSE_SUPER) || geometry::has_superblock(group)
    }

    /// Descriptors in a block.
    pub(crate) const fn descriptors_per_block(&self) -> u64 {
        self.block / self.descriptor
    }

    /// Blocks of descriptors that follow every superblock copy: all of them, or with meta_bg those before it.
    pub(crate) fn descriptor_blocks(&self) -> u64 {
        let all = self.groups.div_ceil(self.descriptors_per_block());
        if self.incompatible(incompat::META_BG) {
            all.min(self.superblock.s_first_meta_bg.into())
        } else {
            all
        }
    }

    /// The location of descriptor block `number` (linux/fs/ext4/super.c, descriptor_loc).
    pub(crate) fn descriptor_block(&self, number: u64) -> u64 {
        if number < self.descriptor_blocks() {
            return self.superblock_block() + 1 + number;
        }
        let group = number * self.descriptors_per_block();
        let mut behind = u64::from(self.has_superblock(group));
        // The superblock of 1 KiB is in block 1, although with bigalloc group 0 begins at block 0.
        if self.block == SUPERBLOCK_AT && number == 0 && self.first == 0 {
            behind += 1;
        }
        behind + self.group_start(group)
    }

    /// The first meta group whose descriptors lie in its own groups; without meta_bg there is none.
    pub(crate) fn meta_from(&self) -> u64 {
        if self.incompatible(incompat::META_BG) { self.superblock.s_first_meta_bg.into() } else { u64::MAX }
    }

    /// Blocks at the start of a group, other than group 0, that superblock and descriptors take, with those that are reserved
    /// (linux/fs/ext4/balloc.c, ext4_num_base_meta_clusters).
    pub(crate) fn head(&self, group: u64) -> u64 {
        let copy = u64::from(self.has_superblock(group));
        copy * (1 + self.common_blocks(group)) + u64::from(self.has_meta_descriptors(group))
    }

    /// Blocks of descriptors, and of reserved ones, that follow a superblock in this group. With meta_bg they end with the
    /// groups that they describe.
    pub(crate) fn common_blocks(&self, group: u64) -> u64 {
        if group / self.descriptors_per_block() >= self.meta_from() {
            return 0;
        }
        self.descriptor_blocks() + u64::from(self.superblock.s_reserved_gdt_blocks)
    }

    /// Blocks of the inode table of a group.
    pub(crate) fn table_blocks(&self) -> u64 {
        (u64::from(self.inodes_per_group) * self.inode).div_ceil(self.block)
    }

    /// The checksum of the descriptor of group `number` in `bytes`; `None` if the filesystem has none.
    pub(crate) fn descriptor_checksum(&self, number: u64, bytes: &[u8]) -> Result<Option<u16>> {
        let own: u32 = narrow(number, "a group's number")?;
        let mut bytes = bytes.to_vec();
        DESCRIPTOR_CHECKSUM.clear(&mut bytes);
        if let Some(seed) = self.seed {
            return Ok(Some(half_lo16(seed.with(&own.to_le_bytes()).with(&bytes).value())));
        }
        if !self.ro_compatible(ro_compat::GDT_CSUM) {
            return Ok(None);
        }
        // The old form skips the checksum field; the new form takes it as zero.
        let (before, rest) = bytes.split_at(DESCRIPTOR_CHECKSUM.offset);
        let behind = &rest[DESCRIPTOR_CHECKSUM.length..];
        let own = own.to_le_bytes();
        Ok(Some(crc16(&[self.superblock.s_uuid.as_bytes(), own.as_slice(), before, behind].concat())))
    }

    /// Whether a group contains the descriptors of its meta group: the first, second and last group of it do.
    pub(crate) fn has_meta_descriptors(&self, group: u64) -> bool {
        let (each, number) = (self.descriptors_per_block(), group / self.descriptors_per_block());
        number >= self.descriptor_blocks()
            && (group.is_multiple_of(each) || group % each == 1 || group % each == each - 1)
    }
}

/// Whether a bit is set.
const fn has(word: u32, bit: u32) -> bool {
    word & bit != 0
}

/// Blocks in a cluster.
fn cluster(superblock: &Superblock) -> Result<u64> {
    let (block, cluster) = (superblock.s_log_block_size, superblock.s_log_cluster_size);
    let wrong =
        || damaged("the superblock of an ext4 filesystem is wrong: s_log_cluster_size").found(cluster);
    if !has(superblock.s_feature_ro_compat, ro_compat::BIGALLOC) {
        // Before bigalloc this field was the size of fragments, which nobody used.
        return if cluster == block { Ok(1) } else { Err(wrong()) };
    }
    match cluster.checked_sub(block) {
        Some(ratio) if cluster <= MOST_LOG_CLUSTER => Ok(1 << ratio),
        _ => Err(wrong()),
    }
}

/// Bytes in an inode.
fn inode(superblock: &Superblock, block: u64) -> Result<u64> {
    let size = if superblock.s_rev_level == 0 { OLD_INODE } else { superblock.s_inode_size };
    if !size.is_power_of_two() || size < OLD_INODE || u64::from(size) > block {
        return Err(damaged("the superblock of an ext4 filesystem is wrong: s_inode_size").found(size));
    }
    Ok(size.into())
}

/// Bytes in a group descriptor.
fn descriptor(superblock: &Superblock, block: u64) -> Result<u64> {
    if !has(superblock.s_feature_incompat, incompat::WIDE) {
        return Ok(OLD_DESCRIPTOR);
    }
    let size = u64::from(superblock.s_desc_size);
    if !size.is_power_of_two() || size < u64_of(GroupDescriptor::LENGTH) || size > block {
        let error: Error = damaged("the superblock of an ext4 filesystem is wrong: s_desc_size");
        return Err(error.found(size));
    }
    Ok(size)
}

/// CRC-16/ARC from all ones, as the kernel's crc16() (lib/crc16.c): polynomial 0x8005, reflected.
pub(crate) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(u16::MAX, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte), |sum, _| if sum & 1 == 1 { sum >> 1 ^ 0xa001 } else { sum >> 1 })
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_published_check_value_holds() {
        // CRC-16/MODBUS of "123456789" is 4b37 (CRC catalogue): that polynomial from all ones.
        assert_eq!(super::crc16(b"123456789"), 0x4b37);
    }
}
