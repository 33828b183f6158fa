//! The layout of the grown filesystem.

use crate::error::{Error, Kind, Result, Warning};
use crate::filesystem::ext4::format::features::{compat, incompat};
use crate::filesystem::ext4::read::Layout;
use crate::units::{Bytes, KIB, narrow};

/// Blocks that a short last group must have besides its own metadata (resize/resize2fs.c, adjust_fs_info).
const SMALLEST_GROUP: u64 = 50;
/// The most blocks that numbers of 32 bits count.
const NARROW: u64 = 0xffff_ffff;

/// A layout, and what its owner should know.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) layout: Layout,
    pub(super) notes: Vec<Warning>,
}

/// The largest layout in `length` bytes.
pub(super) fn of(old: &Layout, length: Bytes) -> Result<Target> {
    let mut notes = Vec::new();
    // Whole pages, as resize2fs takes of a device.
    let wanted = length.round_down(old.block.max(4 * KIB)).get() / old.block;
    let mut blocks = limited(old, wanted);
    loop {
        let layout = with_blocks(old, blocks)?;
        if layout.groups > old.groups && too_short(&layout) {
            blocks = layout.group_start(layout.groups - 1);
            continue;
        }
        // Pointers of the resize inode have 32 bits.
        if blocks > NARROW && layout.superblock.s_feature_compat & compat::RESIZE_INODE != 0 {
            blocks = NARROW;
            continue;
        }
        if blocks < limited(old, wanted).min(wanted) || wanted > blocks {
            note_rest(old, wanted, blocks, &mut notes);
        }
        if layout.incompatible(incompat::META_BG) && !old.incompatible(incompat::META_BG) {
            notes.push(Warning(
                "the ext4 filesystem has meta_bg now, because its reserved descriptor blocks ran out; U-Boot does not know that \
                 feature"
                    .to_owned(),
            ));
        }
        return Ok(Target { layout, notes });
    }
}

/// Says that a part of what there is stays unused, unless it is only the rest of a group.
fn note_rest(old: &Layout, wanted: u64, blocks: u64, notes: &mut Vec<Warning>) {
    if wanted - blocks.min(wanted) > old.blocks_per_group {
        notes.push(Warning(format!(
            "the ext4 filesystem cannot be larger than {} with its features and its inodes of each group",
            Bytes::new(blocks * old.block).human()
        )));
    }
}

/// At most so many blocks that they and all inodes can be counted.
fn limited(old: &Layout, wanted: u64) -> u64 {
    let counted = if old.incompatible(incompat::WIDE) { wanted } else { wanted.min(NARROW) };
    let groups = u64::from(u32::MAX) / u64::from(old.inodes_per_group);
    counted.min(old.first + groups.saturating_mul(old.blocks_per_group))
}

/// Whether the last group is too short for its metadata, and some more.
fn too_short(layout: &Layout) -> bool {
    let last = layout.groups - 1;
    let length = layout.group_end(last) - layout.group_start(last);
    length < layout.blocks_per_group
        && length < layout.head(last) + 2 + layout.table_blocks() + SMALLEST_GROUP
}

/// The layout with this many blocks.
fn with_blocks(old: &Layout, blocks: u64) -> Result<Layout> {
    let mut new = old.clone();
    if blocks <= old.blocks {
        return Ok(new);
    }
    new.blocks = blocks;
    new.groups = (blocks - old.first).div_ceil(old.blocks_per_group);
    new.inodes = narrow(new.groups * u64::from(old.inodes_per_group), "s_inodes_count")?;
    let each = old.descriptors_per_block();
    let (before, after) = (old.groups.div_ceil(each), new.groups.div_ceil(each));
    let superblock = &mut new.superblock;
    if after > before && !old.incompatible(incompat::META_BG) {
        let reserved = u64::from(superblock.s_reserved_gdt_blocks);
        if let Some(left) = reserved.checked_sub(after - before) {
            superblock.s_reserved_gdt_blocks = narrow(left, "s_reserved_gdt_blocks")?;
        } else {
            superblock.s_feature_compat &= !compat::RESIZE_INODE;
            superblock.s_feature_incompat |= incompat::META_BG;
            superblock.s_first_meta_bg = narrow(before + reserved, "s_first_meta_bg")?;
            superblock.s_reserved_gdt_blocks = 0;
        }
    }
    if superblock.s_feature_compat & compat::SPARSE_SUPER2 != 0 && new.groups > old.groups {
        let last: u32 = narrow(new.groups - 1, "s_backup_bgs")?;
        let [first, second] = &mut superblock.s_backup_bgs;
        if old.groups == 1 {
            *first = 1;
        }
        if (old.groups < 3 && new.groups > 2) || u64::from(*second) + 1 == old.groups {
            *second = last;
        }
    }
    if new.head(new.groups - 1) >= old.blocks_per_group {
        return Err(Error::new(
            Kind::Capacity,
            "the group descriptors would fill a group of the ext4 filesystem",
        )
        .found(Bytes::new(blocks.saturating_mul(old.block)).human()));
    }
    Ok(new)
}
