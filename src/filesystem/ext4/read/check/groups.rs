//! Compares the bitmaps and counts of groups with what was found in use.

use super::{Pass, Say, set_bits};
use crate::error::Result;
use crate::filesystem::ext4::format::features::ro_compat;
use crate::filesystem::ext4::format::{GROUP_BLOCK_UNINIT, GROUP_INODE_UNINIT};
use crate::filesystem::ext4::read::inode::Group;
use crate::filesystem::volume::{Fault, Remark};
use crate::units::{index, joined, narrow, u64_of, usize_of};

/// Sums over all groups, for the superblock's counts.
#[derive(Debug, Default)]
pub(super) struct Sums {
    free_clusters: u64,
    free_inodes: u64,
}

/// A number that groups keep in two halves of 16 bits.
fn whole(low: u16, high: u16) -> u64 {
    u64::from(high) << 16 | u64::from(low)
}

impl Pass<'_> {
    /// Marks what belongs to groups: superblocks, descriptors, reserved descriptors, bitmaps, inode tables.
    pub(super) fn metadata(&mut self, remark: Say<'_>) -> Result<()> {
        let layout = &self.volume.layout;
        let table = (u64::from(layout.inodes_per_group) * layout.inode).div_ceil(layout.block);
        for number in 0..layout.groups {
            let subject = format!("group {number}");
            let start = layout.group_start(number);
            let mut runs = Vec::new();
            if layout.has_superblock(number) {
                // If group 0 begins with blocks of 1 KiB, its first block is the boot sector.
                let own = if number == 0 { layout.superblock_block() + 1 - start } else { 1 };
                runs.push((start, own + layout.common_blocks(number)));
            }
            if layout.has_meta_descriptors(number) {
                let meta = number / layout.descriptors_per_block() * layout.descriptors_per_block();
                let own = layout.descriptor_block(number / layout.descriptors_per_block());
                // Copies are at the same position of the second and last group of a meta group.
                let within = own - layout.group_start(meta);
                let within = if number == meta { within } else { u64::from(layout.has_superblock(number)) };
                runs.push((start + within, 1));
            }
            let Some(group) = self.told(self.volume.group(number), &subject, remark)? else { continue };
            runs.extend([(group.block_bitmap, 1), (group.inode_bitmap, 1), (group.inode_table, table)]);
            for (first, length) in runs {
                if first.checked_add(length).is_none_or(|end| end > layout.blocks) {
                    let what = format!("its metadata at block {first} lies outside the filesystem");
                    self.once(Fault::Structure, &subject, what, remark)?;
                    continue;
                }
                let seen = self.seen(first, length);
                let twice = self.metadata.add(seen.clone());
                self.used.add(seen);
                // With bigalloc, a cluster can contain metadata of several groups.
                if twice.is_some() && layout.cluster == 1 {
                    let what = format!("its metadata at block {first} is also that of another group");
                    self.once(Fault::Shared, &subject, what, remark)?;
                }
            }
        }
        if let Some(block) = self.volume.mmp_block() {
            let seen = self.seen(block, 1);
            self.used.add(seen);
        }
        Ok(())
    }

    /// Compares the bitmaps and counts of all groups.
    pub(super) fn groups(&mut self, remark: Say<'_>) -> Result<()> {
        for number in 0..self.volume.layout.groups {
            let subject = format!("group {number}");
            let Some(group) = self.told(self.volume.group(number), &subject, remark)? else { continue };
            if self.first {
                self.descriptor(number, &group, &subject, remark)?;
            }
            let layout = &self.volume.layout;
            let (start, end) = (layout.group_start(number), layout.group_end(number));
            // A pass consists of whole groups if a group has a power of two of clusters and at most 2^19 of
            // them. Otherwise a group may be split, and is compared in two parts.
            let seen = self.seen(start, end - start);
            if !seen.is_empty() {
                self.block_bitmap(number, &group, seen, &subject, remark)?;
            }
        }
        Ok(())
    }

    /// How many inodes at the end of a group's table were never written.
    pub(super) fn unused_inodes(&self, group: &Group) -> u64 {
        let unused = whole(group.raw.bg_itable_unused_lo, group.raw.bg_itable_unused_hi);
        // A short descriptor has no upper half.
        if self.volume.layout.descriptor > 32 { unused } else { unused & 0xffff }
    }

    /// The checksum of a descriptor.
    fn descriptor(&self, number: u64, group: &Group, subject: &str, remark: Say<'_>) -> Result<()> {
        let layout = &self.volume.layout;
        let found = match layout.descriptor_checksum(number, &group.bytes)? {
            Some(sum) => sum,
            None => {
                let unused = self.unused_inodes(group);
                if group.raw.bg_flags & (GROUP_BLOCK_UNINIT | GROUP_INODE_UNINIT) != 0 || unused != 0 {
                    let what = "it is marked as not yet written, which only filesystems with checksums have";
                    remark(Remark::new(Fault::Structure, subject, what))?;
                }
                return Ok(());
            }
        };
        if found != group.raw.bg_checksum {
            remark(Remark::new(Fault::Checksum, subject, "the checksum of its descriptor is wrong"))?;
        }
        Ok(())
    }

    /// Whether a flag of a group counts: flags are reliable only with checksums.
    pub(super) fn has_flag(&self, group: &Group, flag: u16) -> bool {
        let layout = &self.volume.layout;
        (layout.seed.is_some() || layout.ro_compatible(ro_compat::GDT_CSUM)) && group.raw.bg_flags & flag != 0
    }

    /// Compares the block bitmap of a group with the blocks in use. `seen` are its clusters as this pass
    /// counts them.
    fn block_bitmap(
        &mut self,
        number: u64,
        group: &Group,
        seen: std::ops::Range<u64>,
        subject: &str,
        remark: Say<'_>,
    ) -> Result<()> {
        let layout = &self.volume.layout;
        let length = layout.group_end(number) - layout.group_start(number);
        let clusters = length.div_ceil(layout.cluster);
        let used = self.used.count(seen.clone());
        self.sums.free_clusters += (seen.end - seen.start) - used;
        if seen.end - seen.start == clusters {
            let told = whole(group.raw.bg_free_blocks_count_lo, group.raw.bg_free_blocks_count_hi);
            if told != clusters - used {
                let what = format!("it tells {told} free clusters, and {} are free", clusters - used);
                remark(Remark::new(Fault::Count, subject, what))?;
            }
        }
        if self.has_flag(group, GROUP_BLOCK_UNINIT) {
            if used != self.metadata.count(seen) {
                let what = "its block bitmap is said to be empty, and files have blocks in it";
                remark(Remark::new(Fault::Bitmap, subject, what))?;
            }
            return Ok(());
        }
        let Some(bitmap) = self.told(self.volume.block(group.block_bitmap), subject, remark)? else {
            return Ok(());
        };
        if let Some(seed) = layout.seed {
            let covered = usize_of(u64::from(layout.superblock.s_clusters_per_group) / 8);
            let mut expected = u32::from(group.raw.bg_block_bitmap_csum_lo);
            let mut found = seed.with(&bitmap[..covered.min(bitmap.len())]).value();
            if layout.descriptor > 32 {
                expected |= u32::from(group.raw.bg_block_bitmap_csum_hi) << 16;
            } else {
                found &= 0xffff;
            }
            if found != expected {
                self.once(Fault::Checksum, subject, "the checksum of its block bitmap is wrong", remark)?;
            }
        }
        self.compare(number, &bitmap, seen, subject, remark)
    }

    /// The differences between a bitmap and the blocks in use: each kind with its first block.
    fn compare(
        &self,
        number: u64,
        bitmap: &[u8],
        seen: std::ops::Range<u64>,
        subject: &str,
        remark: Say<'_>,
    ) -> Result<()> {
        let layout = &self.volume.layout;
        let start = (layout.group_start(number) - layout.first) / layout.cluster;
        let (mut lost, mut unmarked) = ((0_u64, 0_u64), (0_u64, 0_u64));
        for cluster in seen {
            let all = cluster + self.clusters.start;
            let bit = usize_of(all - start);
            let marked = bitmap.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
            let kind = match (marked, self.used.has(cluster)) {
                (true, false) => &mut lost,
                (false, true) => &mut unmarked,
                _ => continue,
            };
            if kind.0 == 0 {
                kind.1 = all * layout.cluster + layout.first;
            }
            kind.0 += 1;
        }
        for ((count, first), what) in
            [(lost, "are marked as used and belong to nothing"), (unmarked, "are used and not marked")]
        {
            if count > 0 {
                let what = format!("{count} blocks {what}, block {first} first");
                remark(Remark::new(Fault::Bitmap, subject, what))?;
            }
        }
        // Bits past the end of the volume are set, so that nobody allocates them (mke2fs pads the whole
        // block).
        let clusters = (layout.group_end(number) - layout.group_start(number)).div_ceil(layout.cluster);
        let padded = (clusters..layout.block * 8)
            .all(|bit| bitmap.get(usize_of(bit / 8)).is_some_and(|byte| byte >> (bit % 8) & 1 == 1));
        if padded {
            Ok(())
        } else {
            self.once(Fault::Bitmap, subject, "its block bitmap is not padded", remark)
        }
    }

    /// The numbers of a group's inodes in use, by its bitmap; with remarks about that bitmap.
    pub(super) fn inode_bitmap(&mut self, number: u64, group: &Group, remark: Say<'_>) -> Result<Vec<u32>> {
        let layout = &self.volume.layout;
        let subject = format!("group {number}");
        let each = layout.inodes_per_group;
        let told = whole(group.raw.bg_free_inodes_count_lo, group.raw.bg_free_inodes_count_hi);
        let mut used = Vec::new();
        if !self.has_flag(group, GROUP_INODE_UNINIT) {
            let block = self.volume.block(group.inode_bitmap);
            let Some(bitmap) = self.told(block, &subject, remark)? else { return Ok(used) };
            self.inode_bitmap_sum(group, &bitmap, &subject, remark)?;
            let padding = bitmap.get(index(each.div_ceil(8))..).unwrap_or_default();
            if padding.iter().any(|byte| *byte != 0xff) {
                self.once(Fault::Bitmap, &subject, "its inode bitmap is not padded", remark)?;
            }
            used = set_bits(&bitmap, each).collect();
        }
        if self.first {
            let free = u64::from(each) - u64_of(used.len());
            self.sums.free_inodes += free;
            if told != free {
                let what = format!("it tells {told} free inodes, and {free} are free");
                remark(Remark::new(Fault::Count, &subject, what))?;
            }
            let unused = self.unused_inodes(group);
            let sound = layout.seed.is_some() || layout.ro_compatible(ro_compat::GDT_CSUM);
            let last = used.last().map_or(0, |last| u64::from(*last) + 1);
            if sound && unused + last > each.into() {
                let what = format!("its last {unused} inodes are said to be unused, and one is in use");
                remark(Remark::new(Fault::Count, &subject, what))?;
            }
        }
        let first = u64::from(each) * number + 1;
        used.iter().map(|within| narrow(first + u64::from(*within), "the number of an inode")).collect()
    }

    fn inode_bitmap_sum(&self, group: &Group, bitmap: &[u8], subject: &str, remark: Say<'_>) -> Result<()> {
        let layout = &self.volume.layout;
        let Some(seed) = layout.seed else { return Ok(()) };
        let mut expected = u32::from(group.raw.bg_inode_bitmap_csum_lo);
        let mut found = seed.with(&bitmap[..index(layout.inodes_per_group.div_ceil(8))]).value();
        if layout.descriptor > 32 {
            expected |= u32::from(group.raw.bg_inode_bitmap_csum_hi) << 16;
        } else {
            found &= 0xffff;
        }
        if found == expected {
            return Ok(());
        }
        self.once(Fault::Checksum, subject, "the checksum of its inode bitmap is wrong", remark)
    }

    /// Checks the counts of the superblock.
    pub(super) fn totals(&self, remark: Say<'_>) -> Result<()> {
        let superblock = &self.volume.layout.superblock;
        let free = joined(superblock.s_free_blocks_count_lo, superblock.s_free_blocks_count_hi);
        for (told, found, what) in [
            // Groups count clusters, but the superblock counts blocks.
            (free, self.sums.free_clusters.saturating_mul(self.volume.layout.cluster), "blocks"),
            (superblock.s_free_inodes_count.into(), self.sums.free_inodes, "inodes"),
        ] {
            if told != found {
                let what = format!("it tells {told} free {what}, and {found} are free");
                remark(Remark::new(Fault::Count, "superblock", what))?;
            }
        }
        Ok(())
    }
}
