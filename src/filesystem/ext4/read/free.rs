//! The blocks that nothing uses, by the bitmaps of the groups.

use super::Ext4;
use super::inode::Group;
use crate::error::Result;
use crate::filesystem::ext4::format::GROUP_BLOCK_UNINIT;
use crate::filesystem::ext4::format::features::ro_compat;
use crate::units::{Bytes, usize_of};

/// Passes each range of free bytes to `each`, ascending.
pub(super) fn ranges(volume: &Ext4, each: &mut dyn FnMut(Bytes, Bytes) -> Result<()>) -> Result<()> {
    let layout = &volume.layout;
    let mut give =
        |start: u64, end: u64| each(Bytes::new(start * layout.block), Bytes::new(end * layout.block));
    let mut run: Option<(u64, u64)> = None;
    for number in 0..layout.groups {
        let group = volume.group(number)?;
        let bitmap = volume.block_bitmap(number, &group)?;
        let (start, end) = (layout.group_start(number), layout.group_end(number));
        for cluster in 0..(end - start).div_ceil(layout.cluster) {
            let byte = bitmap.get(usize_of(cluster / 8)).copied().unwrap_or(0xff);
            if byte >> (cluster % 8) & 1 == 1 {
                continue;
            }
            let first = start + cluster * layout.cluster;
            let last = (first + layout.cluster).min(end);
            run = match run {
                Some((from, to)) if to == first => Some((from, last)),
                other => {
                    other.map_or(Ok(()), |(from, to)| give(from, to))?;
                    Some((first, last))
                }
            };
        }
    }
    run.map_or(Ok(()), |(from, to)| give(from, to))
}

impl Ext4 {
    /// The block bitmap of a group. One that was never written is what the kernel would write
    /// (linux/fs/ext4/balloc.c, ext4_init_block_bitmap).
    pub(in crate::filesystem::ext4) fn block_bitmap(&self, number: u64, group: &Group) -> Result<Vec<u8>> {
        let layout = &self.layout;
        let reliable = layout.seed.is_some() || layout.ro_compatible(ro_compat::GDT_CSUM);
        if !reliable || group.raw.bg_flags & GROUP_BLOCK_UNINIT == 0 {
            return self.block(group.block_bitmap);
        }
        let (start, end) = (layout.group_start(number), layout.group_end(number));
        let mut bitmap = vec![0_u8; usize_of(layout.block)];
        let mut mark = |first: u64, count: u64| {
            for block in first.max(start)..first.saturating_add(count).min(end) {
                let cluster = (block - start) / layout.cluster;
                if let Some(byte) = bitmap.get_mut(usize_of(cluster / 8)) {
                    *byte |= 1 << (cluster % 8);
                }
            }
        };
        if layout.has_superblock(number) {
            mark(start, 1 + layout.common_blocks(number));
        }
        if layout.has_meta_descriptors(number) {
            mark(start, 1 + u64::from(layout.has_superblock(number)));
        }
        mark(group.block_bitmap, 1);
        mark(group.inode_bitmap, 1);
        mark(group.inode_table, layout.table_blocks());
        Ok(bitmap)
    }
}
