//! The superblock, the group descriptors, the journal's superblock and the resize inode's blocks.

use super::Parameters;
use super::checksum::Checksum;
use super::format::features::{compat, incompat};
use super::format::{
    DESCRIPTOR, GROUP_BLOCK_UNINIT, GROUP_INODE_UNINIT, GROUP_INODE_ZEROED, GroupDescriptor, JOURNAL,
    JournalSuperblock, LOST_AND_FOUND, Superblock,
};
use super::plan::Plan;
use super::read::crc16;
use super::render::{block_bitmap, inode_bitmap};
use crate::error::{Error, Result};
use crate::units::{half_hi, half_hi16, half_lo, half_lo16, index, narrow, usize_of};
use crate::wire::{Field, Wire, field};

/// The offset of the checksum, which covers all bytes before it.
const CHECKSUM: usize = Superblock::LENGTH - 4;
const SUM: Field = field(GroupDescriptor::FIELDS, "bg_checksum");

/// The superblock in `group`.
pub(super) fn superblock(plan: &Plan, options: &Parameters, group: u64) -> Result<[u8; Superblock::LENGTH]> {
    let seconds = plan.contents.time.seconds.max(0).cast_unsigned();
    let high = narrow(half_hi(seconds), "s_wtime_hi")?;
    let form = &plan.contents.form;
    let resize = if plan.geometry.resize_inode { compat::RESIZE_INODE } else { 0 };
    let extra = form.extra_size();
    let wide = form.is_incompat(incompat::WIDE);
    let mut superblock = Superblock {
        s_wtime: half_lo(seconds),
        s_max_mnt_count: u16::MAX,     // no check after a number of mounts
        s_state: 1,                    // cleanly unmounted
        s_errors: 1,                   // continue
        s_lastcheck: half_lo(seconds), // not below s_mtime, which is 0, or resize2fs asks for a check
        s_rev_level: 1,                // dynamic inode sizes
        s_first_ino: LOST_AND_FOUND,
        s_inode_size: narrow(form.inode, "s_inode_size")?,
        // Numbers above 65,535 are cut to their low half, as in e2fsprogs (lib/ext2fs/closefs.c,
        // write_primary_superblock).
        s_block_group_nr: half_lo16(narrow(group, "a group's number")?),
        s_feature_compat: form.compat & !compat::RESIZE_INODE | resize,
        s_feature_incompat: form.incompat,
        s_feature_ro_compat: form.ro_compat,
        s_uuid: options.uuid,
        s_volume_name: label(&options.label)?,
        s_reserved_gdt_blocks: narrow(plan.geometry.reserved, "s_reserved_gdt_blocks")?,
        s_hash_seed: plan.contents.hash_seed,
        s_def_hash_version: 1, // half MD4
        s_desc_size: if wide { narrow(DESCRIPTOR, "s_desc_size")? } else { 0 },
        s_default_mount_opts: 0xc, // user_xattr, acl
        s_mkfs_time: half_lo(seconds),
        s_min_extra_isize: extra,
        s_want_extra_isize: extra,
        s_flags: 1, // names are hashed as signed bytes
        s_raid_stride: options.stride,
        s_raid_stripe_width: options.stripe_width,
        s_log_groups_per_flex: form.log_flex_groups(),
        s_checksum_type: u8::from(form.has_checksums()), // crc32c
        s_wtime_hi: high,
        s_mkfs_time_hi: high,
        s_lastcheck_hi: high,
        ..counts(plan)?
    };
    if plan.allocation.journal.used() > 0 {
        let size = journal_length(plan);
        superblock.s_feature_compat |= compat::HAS_JOURNAL;
        superblock.s_journal_inum = JOURNAL;
        superblock.s_jnl_backup_type = 1; // s_jnl_blocks holds the journal inode's blocks and size
        superblock.s_jnl_blocks = plan.allocation.journal.root()?;
        superblock.s_jnl_size_high = half_hi(size);
        superblock.s_jnl_size_low = half_lo(size);
    }
    options.features.iter().for_each(|feature| feature.set(&mut superblock));
    if form.is_incompat(incompat::CSUM_SEED) {
        superblock.s_checksum_seed = Checksum::of_filesystem(options.uuid).value();
    }
    if form.has_checksums() {
        superblock.s_checksum = Checksum::START.with(&superblock.bytes()[..CHECKSUM]).value();
    }
    Ok(superblock.bytes())
}

/// A label in its field; its length was checked.
fn label(text: &str) -> Result<[u8; 16]> {
    let mut field = [0; 16];
    field
        .get_mut(..text.len())
        .ok_or_else(|| Error::bug("s_volume_name: a label is longer than its field"))?
        .copy_from_slice(text.as_bytes());
    Ok(field)
}

/// The counts of everything, and the sizes of block and group.
fn counts(plan: &Plan) -> Result<Superblock> {
    let geometry = &plan.geometry;
    let (blocks, reserved, free) = (geometry.blocks, plan.reserved_blocks, plan.free_blocks());
    let form = &geometry.form;
    let per_group = narrow(form.blocks_per_group(), "s_blocks_per_group")?;
    Ok(Superblock {
        s_inodes_count: narrow(geometry.inodes(), "s_inodes_count")?,
        s_blocks_count_lo: half_lo(blocks),
        s_r_blocks_count_lo: half_lo(reserved),
        s_free_blocks_count_lo: half_lo(free),
        s_free_inodes_count: narrow(plan.free_inodes(), "s_free_inodes_count")?,
        s_first_data_block: narrow(form.first(), "s_first_data_block")?,
        s_log_block_size: form.log_block(),
        s_log_cluster_size: form.log_block(), // a cluster is a block
        s_blocks_per_group: per_group,
        s_clusters_per_group: per_group,
        s_inodes_per_group: geometry.inodes_per_group,
        s_blocks_count_hi: half_hi(blocks),
        s_r_blocks_count_hi: half_hi(reserved),
        s_free_blocks_count_hi: half_hi(free),
        ..Superblock::BLANK
    })
}

/// Length of the journal in bytes.
pub(super) fn journal_length(plan: &Plan) -> u64 {
    (plan.allocation.journal.used() - plan.allocation.journal.node_count()) * plan.contents.form.block
}

/// All group descriptors, as they follow each superblock copy.
pub(super) fn descriptors(plan: &Plan) -> Result<Vec<u8>> {
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
    let length = geometry.form.descriptor();
    let mut bytes = vec![0; directories.len() * length];
    for ((group, directories), out) in (0..).zip(directories).zip(bytes.chunks_exact_mut(length)) {
        out.copy_from_slice(&descriptor(plan, group, directories)?.bytes()[..length]);
    }
    Ok(bytes)
}

/// One group descriptor. Bitmaps of unused groups are neither written nor summed, because the kernel makes
/// them from the flags. The inode tables of a new file are all zero, so INODE_ZEROED keeps the kernel from
/// clearing them. Without checksums there are no flags.
fn descriptor(plan: &Plan, group: u64, directories: u32) -> Result<GroupDescriptor> {
    let geometry = &plan.geometry;
    let placed = &geometry.placed[usize_of(group)];
    let used = plan.used_inodes(group)?;
    let free_inodes = geometry.inodes_per_group - used;
    let form = &geometry.form;
    let mut flags = if form.has_flags() { GROUP_INODE_ZEROED } else { 0 };
    let mut bitmap = vec![0; form.block_length()];
    let free_blocks = narrow(block_bitmap(plan, group, &mut bitmap), "bg_free_blocks_count")?;
    let summed = |bytes: &[u8]| if form.has_checksums() { plan.contents.seed.with(bytes).value() } else { 0 };
    let mut blocks_sum = 0;
    if block_bitmap_is_implied(plan, group) {
        flags |= GROUP_BLOCK_UNINIT;
    } else {
        blocks_sum = summed(&bitmap[..usize_of(form.blocks_per_group() / 8)]);
    }
    let mut inodes_sum = 0;
    if used == 0 && form.has_flags() {
        flags |= GROUP_INODE_UNINIT;
    } else {
        inode_bitmap(plan, group, &mut bitmap)?;
        let length = index(geometry.inodes_per_group.div_ceil(8));
        inodes_sum = summed(&bitmap[..length]);
    }
    let unused = if form.has_flags() { free_inodes } else { 0 };
    let mut descriptor = GroupDescriptor {
        bg_block_bitmap_lo: half_lo(placed.block_bitmap),
        bg_inode_bitmap_lo: half_lo(placed.inode_bitmap),
        bg_inode_table_lo: half_lo(placed.inode_table),
        bg_free_blocks_count_lo: half_lo16(free_blocks),
        bg_free_inodes_count_lo: half_lo16(free_inodes),
        bg_used_dirs_count_lo: half_lo16(directories),
        bg_flags: flags,
        bg_block_bitmap_csum_lo: half_lo16(blocks_sum),
        bg_inode_bitmap_csum_lo: half_lo16(inodes_sum),
        bg_itable_unused_lo: half_lo16(unused), // used inodes are the first ones
        bg_checksum: 0,
        bg_block_bitmap_hi: half_hi(placed.block_bitmap),
        bg_inode_bitmap_hi: half_hi(placed.inode_bitmap),
        bg_inode_table_hi: half_hi(placed.inode_table),
        bg_free_blocks_count_hi: half_hi16(free_blocks),
        bg_free_inodes_count_hi: half_hi16(free_inodes),
        bg_used_dirs_count_hi: half_hi16(directories),
        bg_itable_unused_hi: half_hi16(unused),
        bg_block_bitmap_csum_hi: half_hi16(blocks_sum),
        bg_inode_bitmap_csum_hi: half_hi16(inodes_sum),
    };
    let group: u32 = narrow(group, "a group's number")?;
    let (group, bytes) = (group.to_le_bytes(), descriptor.bytes());
    let bytes = &bytes[..form.descriptor()];
    if form.has_checksums() {
        descriptor.bg_checksum = half_lo16(plan.contents.seed.with(&group).with(bytes).value());
    } else if form.has_flags() {
        // The older sum leaves out its own field (lib/ext2fs/csum.c).
        let (before, behind) = (&bytes[..SUM.offset], &bytes[SUM.end()..]);
        descriptor.bg_checksum =
            crc16(&[plan.contents.uuid.as_bytes(), group.as_slice(), before, behind].concat());
    }
    Ok(descriptor)
}

/// Whether no block of a group is used, so that the kernel can make its bitmap itself. As in mke2fs, this is
/// never true of the last group (its bitmap needs padding) and of groups with a superblock copy.
pub(super) fn block_bitmap_is_implied(plan: &Plan, group: u64) -> bool {
    let form = &plan.contents.form;
    let (start, end) = (form.group_start(group), form.group_start(group + 1));
    let first = plan.geometry.taken.partition_point(|run| run.end() <= start);
    form.has_flags()
        && group + 1 < plan.geometry.groups
        && plan.allocation.end <= start
        && plan.geometry.taken.get(first).is_none_or(|run| run.start >= end)
}

/// The journal's first block. The log itself is empty, and zero blocks are a valid empty log (kernel.org,
/// ext4, "Journal (jbd2)").
pub(super) fn journal_superblock(plan: &Plan, options: &Parameters) -> Result<Vec<u8>> {
    let superblock = JournalSuperblock {
        h_blocktype: 4, // superblock version 2
        s_blocksize: narrow(plan.contents.form.block, "s_blocksize")?,
        s_maxlen: narrow(journal_length(plan) / plan.contents.form.block, "s_maxlen")?,
        s_first: 1,    // the first block of the log
        s_sequence: 1, // the first transaction expected
        s_start: 0,    // the journal is empty
        s_uuid: options.uuid,
        s_nr_users: 1,
        ..JournalSuperblock::BLANK
    };
    Ok(superblock.bytes().to_vec())
}

/// Puts 32-bit pointers into a block, each at its slot.
fn pointers(plan: &Plan, slots: impl Iterator<Item = (u64, u64)>) -> Result<Vec<u8>> {
    let mut block = vec![0; plan.contents.form.block_length()];
    for (slot, target) in slots {
        let target: u32 = narrow(target, "a pointer of the resize inode")?;
        let at = usize_of(slot) * 4;
        block
            .get_mut(at..at + 4)
            .ok_or_else(|| Error::bug("the resize inode has more pointers than a block"))?
            .copy_from_slice(&target.to_le_bytes());
    }
    Ok(block)
}

/// The resize inode's double-indirect block: pointers to the reserved descriptor blocks of group 0, each at
/// the slot of its number among all descriptor blocks.
pub(super) fn resize_indirect(plan: &Plan) -> Result<Vec<u8>> {
    let form = &plan.contents.form;
    let (first, behind) = (plan.geometry.descriptor_blocks, form.superblock_block() + 1);
    let slots = first..first + plan.geometry.reserved;
    pointers(plan, slots.map(|block| (block % form.pointers(), behind + block)))
}

/// Reserved descriptor block `number` in group 0: the numbers of its backup copies, in the order of their groups.
pub(super) fn resize_backups(plan: &Plan, number: u64) -> Result<Vec<u8>> {
    let geometry = &plan.geometry;
    let copy = |group| geometry.form.group_start(group) + 1 + geometry.descriptor_blocks + number;
    pointers(plan, (0..).zip(geometry.backups().map(copy)))
}
