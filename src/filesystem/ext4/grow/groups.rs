//! New groups: their descriptors and bitmaps.

use super::{Work, place, set_bits};
use crate::error::Result;
use crate::filesystem::ext4::format::features::ro_compat;
use crate::filesystem::ext4::format::{
    GROUP_BLOCK_UNINIT, GROUP_INODE_UNINIT, GROUP_INODE_ZEROED, GroupDescriptor,
};
use crate::filesystem::ext4::geometry::{Placed, Run};
use crate::units::{half_hi, half_hi16, half_lo, half_lo16, narrow, usize_of};

impl Work<'_> {
    /// Adds the groups behind the old ones. Their inode tables are zero.
    pub(super) fn add_groups(&mut self) -> Result<()> {
        let groups = self.old.groups..self.new.groups;
        let placed = place::place(&self.new, groups.clone());
        let runs = place::runs(&self.new, groups.clone(), &placed);
        let summed = self.new.seed.is_some() || self.new.ro_compatible(ro_compat::GDT_CSUM);
        for (group, placed) in groups.zip(&placed) {
            self.describe_new(group, placed, summed)?;
            let (start, end) = (self.new.group_start(group), self.new.group_end(group));
            let taken = taken(&runs, start, end);
            if summed && taken.is_empty() && group + 1 < self.new.groups {
                // The kernel makes a bitmap without any bit itself.
                let free: u32 = narrow(end - start, "free blocks of a group")?;
                self.describe(group, |own| {
                    own.bg_flags |= GROUP_BLOCK_UNINIT;
                    own.bg_free_blocks_count_lo = half_lo16(free);
                    own.bg_free_blocks_count_hi = half_hi16(free);
                    Ok(())
                })?;
                continue;
            }
            let mut bitmap = vec![0; usize_of(self.new.block)];
            for run in taken {
                set_bits(&mut bitmap, run.start..run.end(), true)?;
            }
            set_bits(&mut bitmap, end - start..self.new.block * 8, true)?;
            self.put_bitmap(group, bitmap)?;
        }
        Ok(())
    }

    /// The descriptor of a new group, apart from its free blocks.
    fn describe_new(&mut self, group: u64, placed: &Placed, summed: bool) -> Result<()> {
        let inodes = self.new.inodes_per_group;
        let flags = if summed { GROUP_INODE_UNINIT | GROUP_INODE_ZEROED } else { 0 };
        let unused = if summed { inodes } else { 0 };
        self.describe(group, |own| {
            *own = GroupDescriptor {
                bg_block_bitmap_lo: half_lo(placed.block_bitmap),
                bg_inode_bitmap_lo: half_lo(placed.inode_bitmap),
                bg_inode_table_lo: half_lo(placed.inode_table),
                bg_free_inodes_count_lo: half_lo16(inodes),
                bg_flags: flags,
                bg_itable_unused_lo: half_lo16(unused),
                bg_block_bitmap_hi: half_hi(placed.block_bitmap),
                bg_inode_bitmap_hi: half_hi(placed.inode_bitmap),
                bg_inode_table_hi: half_hi(placed.inode_table),
                bg_free_inodes_count_hi: half_hi16(inodes),
                bg_itable_unused_hi: half_hi16(unused),
                ..*own
            };
            Ok(())
        })?;
        if summed {
            return Ok(());
        }
        // Without checksums nobody may leave a bitmap to the kernel.
        let mut bitmap = vec![0; usize_of(self.new.block)];
        set_bits(&mut bitmap, u64::from(inodes)..self.new.block * 8, true)?;
        let label = format!("ext4: inode bitmap of group {group}");
        self.patch.put(self.at(placed.inode_bitmap), label, bitmap);
        Ok(())
    }
}

/// The parts of `runs` in `start..end`, counted from `start`.
fn taken(runs: &[Run], start: u64, end: u64) -> Vec<Run> {
    let first = runs.partition_point(|run| run.end() <= start);
    let inside = runs.get(first..).unwrap_or_default().iter().take_while(|run| run.start < end);
    inside
        .map(|run| {
            let from = run.start.max(start);
            Run { start: from - start, length: run.end().min(end) - from }
        })
        .collect()
}
