//! The superblock, the group descriptors, the journal's superblock and the resize inode's blocks.

use super::Parameters;
use super::checksum::Checksum;
use super::format::{
    BLOCK, BLOCK_LENGTH, BLOCKS_PER_GROUP, COMPAT_DIR_INDEX, COMPAT_EXT_ATTR, COMPAT_HAS_JOURNAL,
    COMPAT_RESIZE_INODE, DESCRIPTOR, Fields, GROUP_BLOCK_UNINIT, GROUP_INODE_UNINIT, GROUP_INODE_ZEROED,
    INCOMPAT, INODE, JOURNAL, LOG_FLEX_GROUPS, LOST_AND_FOUND, POINTERS_PER_BLOCK, RO_COMPAT,
};
use super::plan::Plan;
use super::render::{block_bitmap, inode_bitmap};
use crate::units::{high32, index, low8, low16, low32, u64_of, usize_of};

/// Bytes of the superblock.
pub(super) const SUPERBLOCK: usize = 1024;

/// The superblock that stands in `group`.
pub(super) fn superblock(plan: &Plan, options: &Parameters, group: u64) -> Vec<u8> {
    let mut bytes = vec![0; SUPERBLOCK];
    let mut at = Fields(&mut bytes);
    counts(&mut at, plan);
    let seconds = plan.contents.time.seconds.max(0).cast_unsigned();
    at.u32(0x30, low32(seconds)); // s_wtime
    at.u16(0x36, u16::MAX); // s_max_mnt_count: no check after a number of mounts
    at.u16(0x38, 0xef53); // s_magic
    at.u16(0x3a, 1); // s_state: cleanly unmounted
    at.u16(0x3c, 1); // s_errors: continue
    at.u32(0x40, low32(seconds)); // s_lastcheck; not below s_mtime, which is 0, or resize2fs asks for a check
    at.u32(0x4c, 1); // s_rev_level: dynamic inode sizes
    at.u32(0x54, LOST_AND_FOUND); // s_first_ino
    at.u16(0x58, low16(u64_of(INODE)));
    at.u16(0x5a, low16(group)); // s_block_group_nr
    let journal = if plan.allocation.journal.used() > 0 { COMPAT_HAS_JOURNAL } else { 0 };
    let resize = if plan.geometry.resize_inode { COMPAT_RESIZE_INODE } else { 0 };
    at.u32(0x5c, COMPAT_EXT_ATTR | COMPAT_DIR_INDEX | journal | resize);
    at.u32(0x60, INCOMPAT);
    at.u32(0x64, RO_COMPAT);
    at.bytes(0x68, options.uuid.as_bytes());
    at.bytes(0x78, options.label.as_bytes()); // s_volume_name, at most 16 bytes
    at.u16(0xce, low16(plan.geometry.reserved)); // s_reserved_gdt_blocks
    if journal != 0 {
        at.u32(0xe0, JOURNAL); // s_journal_inum
        at.u8(0xfd, 1); // s_jnl_backup_type: s_jnl_blocks holds the journal inode's blocks and size
        at.bytes(0x10c, &plan.allocation.journal.root());
        let size = journal_length(plan);
        at.u32(0x10c + 60, high32(size));
        at.u32(0x10c + 64, low32(size));
    }
    at.bytes(0xec, &plan.contents.hash_seed);
    at.u8(0xfc, 1); // s_def_hash_version: half MD4
    at.u16(0xfe, low16(u64_of(DESCRIPTOR)));
    at.u32(0x100, 0xc); // s_default_mount_opts: user_xattr, acl
    at.u32(0x108, low32(seconds)); // s_mkfs_time
    at.u16(0x15c, 32); // s_min_extra_isize
    at.u16(0x15e, 32); // s_want_extra_isize
    at.u32(0x160, 1); // s_flags: names are hashed as signed bytes
    at.u8(0x174, LOG_FLEX_GROUPS);
    at.u8(0x175, 1); // s_checksum_type: crc32c
    let high = low8(u64::from(high32(seconds)));
    at.u8(0x274, high); // s_wtime_hi
    at.u8(0x276, high); // s_mkfs_time_hi
    at.u8(0x277, high); // s_lastcheck_hi
    let checksum = Checksum::START.with(&at.0[..0x3fc]).value();
    at.u32(0x3fc, checksum);
    bytes
}

/// How many of everything, and the sizes of block and group.
fn counts(at: &mut Fields<'_>, plan: &Plan) {
    let geometry = &plan.geometry;
    let inodes = geometry.inodes();
    at.u32(0x00, low32(inodes));
    at.u32(0x04, low32(geometry.blocks));
    at.u32(0x08, low32(plan.reserved_blocks));
    at.u32(0x0c, low32(plan.free_blocks()));
    at.u32(0x10, low32(plan.free_inodes()));
    at.u32(0x18, 2); // s_log_block_size: 1024 << 2
    at.u32(0x1c, 2); // s_log_cluster_size: a cluster is a block
    at.u32(0x20, low32(BLOCKS_PER_GROUP));
    at.u32(0x24, low32(BLOCKS_PER_GROUP));
    at.u32(0x28, geometry.inodes_per_group);
    at.u32(0x150, high32(geometry.blocks));
    at.u32(0x154, high32(plan.reserved_blocks));
    at.u32(0x158, high32(plan.free_blocks()));
}

/// Bytes of the journal.
pub(super) fn journal_length(plan: &Plan) -> u64 {
    (plan.allocation.journal.used() - plan.allocation.journal.node_count()) * BLOCK
}

/// All group descriptors, as they stand behind each superblock copy.
pub(super) fn descriptors(plan: &Plan) -> Vec<u8> {
    let geometry = &plan.geometry;
    let mut directories = vec![0_u32; usize_of(geometry.groups)];
    for (number, node) in plan.contents.inodes.all() {
        if plan.contents.tree.is_directory(node) {
            directories[index((number - 1) / geometry.inodes_per_group)] += 1;
        }
    }
    if plan.contents.inodes.lost_and_found_is_ours() {
        directories[index((LOST_AND_FOUND - 1) / geometry.inodes_per_group)] += 1;
    }
    let mut bytes = vec![0; usize_of(geometry.groups) * DESCRIPTOR];
    for (group, descriptor) in (0..geometry.groups).zip(bytes.chunks_exact_mut(DESCRIPTOR)) {
        let used_directories = directories[usize_of(group)];
        fill_descriptor(&mut Fields(descriptor), plan, group, used_directories);
    }
    bytes
}

/// One group descriptor. Bitmaps of untouched groups are neither written nor summed: the kernel makes them from the
/// flags, and since the tables of a new file are zero throughout, INODE_ZEROED spares it writing them.
fn fill_descriptor(at: &mut Fields<'_>, plan: &Plan, group: u64, directories: u32) {
    let geometry = &plan.geometry;
    let placed = &geometry.placed[usize_of(group)];
    let used = plan.used_inodes(group);
    let free_inodes = geometry.inodes_per_group - used;
    let mut flags = GROUP_INODE_ZEROED;
    let mut bitmap = [0; BLOCK_LENGTH];
    let free_blocks = block_bitmap(plan, group, &mut bitmap);
    let mut sum = 0;
    if block_bitmap_is_implied(plan, group) {
        flags |= GROUP_BLOCK_UNINIT;
    } else {
        sum = plan.contents.seed.with(&bitmap).value();
    }
    for (low, high, value) in [
        (0x00, 0x20, placed.block_bitmap),
        (0x04, 0x24, placed.inode_bitmap),
        (0x08, 0x28, placed.inode_table),
    ] {
        at.u32(low, low32(value));
        at.u32(high, high32(value));
    }
    at.u16(0x18, low16(u64::from(sum)));
    at.u16(0x38, low16(u64::from(sum >> 16)));
    let mut sum = 0;
    if used == 0 {
        flags |= GROUP_INODE_UNINIT;
    } else {
        inode_bitmap(plan, group, &mut bitmap);
        sum = plan.contents.seed.with(&bitmap[..index(geometry.inodes_per_group.div_ceil(8))]).value();
    }
    at.u16(0x1a, low16(u64::from(sum)));
    at.u16(0x3a, low16(u64::from(sum >> 16)));
    for (low, high, value) in [
        (0x0c, 0x2c, free_blocks),
        (0x0e, 0x2e, u64::from(free_inodes)),
        (0x10, 0x30, u64::from(directories)),
        (0x1c, 0x32, u64::from(free_inodes)), // bg_itable_unused: used inodes are the first ones
    ] {
        at.u16(low, low16(value));
        at.u16(high, low16(value >> 16));
    }
    at.u16(0x12, flags);
    let sum = plan.contents.seed.with(&low32(group).to_le_bytes()).with(at.0).value();
    at.u16(0x1e, low16(u64::from(sum)));
}

/// Whether nothing but what the kernel can deduce is used in a group: nothing at all. As mke2fs, never the last group
/// (its bitmap needs padding) and never one with a superblock copy.
pub(super) fn block_bitmap_is_implied(plan: &Plan, group: u64) -> bool {
    let start = group * BLOCKS_PER_GROUP;
    let end = start + BLOCKS_PER_GROUP;
    let first = plan.geometry.taken.partition_point(|run| run.end() <= start);
    group + 1 < plan.geometry.groups
        && plan.allocation.end <= start
        && plan.geometry.taken.get(first).is_none_or(|run| run.start >= end)
}

/// The journal's first block; the log itself is empty, and zero blocks are a valid empty log. Big-endian (kernel.org,
/// ext4, "Journal (jbd2)").
pub(super) fn journal_superblock(plan: &Plan, options: &Parameters) -> Vec<u8> {
    let mut bytes = vec![0; SUPERBLOCK];
    let mut at = Fields(&mut bytes);
    at.be32(0x00, 0xc03b_3998); // h_magic
    at.be32(0x04, 4); // h_blocktype: superblock version 2
    at.be32(0x0c, low32(BLOCK)); // s_blocksize
    at.be32(0x10, low32(journal_length(plan) / BLOCK)); // s_maxlen
    at.be32(0x14, 1); // s_first: the first block of the log
    at.be32(0x18, 1); // s_sequence: the first transaction expected
    // s_start, 0x1c, is left zero: the journal is empty.
    at.bytes(0x30, options.uuid.as_bytes());
    at.be32(0x40, 1); // s_nr_users
    bytes
}

/// The resize inode's double-indirect block: for each reserved descriptor block, at the place of its number among all
/// descriptor blocks, its copy in group 0.
pub(super) fn resize_indirect(plan: &Plan) -> Vec<u8> {
    let geometry = &plan.geometry;
    let mut bytes = vec![0; BLOCK_LENGTH];
    let mut at = Fields(&mut bytes);
    for number in 0..geometry.reserved {
        let descriptor = geometry.descriptor_blocks + number;
        at.u32(usize_of(descriptor % POINTERS_PER_BLOCK) * 4, low32(1 + descriptor));
    }
    bytes
}

/// Reserved descriptor block `number` in group 0: the numbers of its backup copies, in the order of their groups.
pub(super) fn resize_backups(plan: &Plan, number: u64) -> Vec<u8> {
    let geometry = &plan.geometry;
    let mut bytes = vec![0; BLOCK_LENGTH];
    let mut at = Fields(&mut bytes);
    for (slot, group) in geometry.backups().enumerate() {
        let block = group * BLOCKS_PER_GROUP + 1 + geometry.descriptor_blocks + number;
        at.u32(slot * 4, low32(block));
    }
    bytes
}
