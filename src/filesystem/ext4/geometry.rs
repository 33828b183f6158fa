//! The layout of an ext4 volume: groups, the places of their metadata, and the blocks that are left for
//! files. It is a pure function, and is tested at sizes that nobody writes.
//!
//! A volume is `groups` groups of 32768 blocks. Group 0 and the groups whose number is 1 or a power of 3, 5
//! or 7 begin with a superblock, the group descriptors and the blocks reserved for more descriptors
//! (sparse_super). The bitmaps and inode tables of 16 groups lie together at the start of the first of them
//! (flex_bg).

use super::format::{
    BLOCK, BLOCKS_PER_GROUP, DESCRIPTORS_PER_BLOCK, FLEX_GROUPS, INODES_PER_BLOCK, MOST_INODES_PER_GROUP,
    POINTERS_PER_BLOCK,
};
use crate::error::{Error, Kind, Result};
use crate::units::{TIB, usize_of};

/// The largest volume. Descriptors and their copies must leave space in a group: 96 TiB need 12288 descriptor
/// blocks, less than half a group. A larger volume would need meta_bg, which excludes the resize inode.
pub(super) const LARGEST: u64 = 96 * TIB / BLOCK;
/// The resize inode cannot grow a volume beyond this: its pointers have 32 bits.
const LARGEST_POINTER: u64 = 1 << 32;
/// Blocks that a short last group must have besides its own metadata, as in mke2fs (lib/ext2fs/initialize.c).
const SMALLEST_GROUP: u64 = 50;

/// The requirements of a volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Blocks of the volume.
    pub(super) blocks: u64,
    /// Inodes in use, including the eleven reserved ones.
    pub(super) used_inodes: u64,
    /// The number of inodes that was asked for; with `None` one for `ratio` bytes.
    pub(super) inodes: Option<u64>,
    /// Bytes for one inode.
    pub(super) ratio: u64,
    /// Blocks to which the kernel can grow the volume before it needs meta_bg; with `None` 1024 times its own
    /// size.
    pub(super) grow_to: Option<u64>,
}

/// The layout of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) blocks: u64,
    pub(super) groups: u64,
    pub(super) inodes_per_group: u32,
    /// Blocks of group descriptors.
    pub(super) descriptor_blocks: u64,
    /// Blocks reserved for more descriptors.
    pub(super) reserved: u64,
    /// Whether the resize inode exists: not beyond 2^32 blocks.
    pub(super) resize_inode: bool,
    /// First block of each group's block bitmap, inode bitmap and inode table.
    pub(super) placed: Vec<Placed>,
    /// Runs of blocks that metadata occupies, sorted, with gaps between them.
    pub(super) taken: Vec<Run>,
}

/// The places of a group's own metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
}

/// A run of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) length: u64,
}

impl Run {
    pub(super) const fn end(self) -> u64 {
        self.start + self.length
    }
}

/// Whether a group contains a copy of the superblock and the descriptors.
pub(super) fn has_superblock(group: u64) -> bool {
    let power_of = |base: u64| {
        let mut power = base;
        while power < group {
            power *= base;
        }
        power == group
    };
    group <= 1 || power_of(3) || power_of(5) || power_of(7)
}

/// The error for a volume with too many blocks.
pub(super) fn too_large(blocks: u64) -> Error {
    Error::new(Kind::Capacity, "an ext4 filesystem cannot be that large here")
        .expected(format!("at most {} bytes", LARGEST * BLOCK))
        .found(format!("{} bytes", u128::from(blocks) * u128::from(BLOCK)))
}

impl Geometry {
    /// The layout of a volume of `wish.blocks` blocks. It may be too short for its own metadata: see
    /// [`Geometry::shortest`].
    pub(super) fn new(wish: &Wish) -> Result<Self> {
        let blocks = wish.blocks.max(1);
        if blocks > LARGEST {
            return Err(too_large(blocks));
        }
        let groups = blocks.div_ceil(BLOCKS_PER_GROUP);
        let descriptor_blocks = groups.div_ceil(DESCRIPTORS_PER_BLOCK);
        let resize_inode = blocks <= LARGEST_POINTER;
        let reserved = if resize_inode { reserved_blocks(wish, blocks, descriptor_blocks) } else { 0 };
        let inodes_per_group = inodes_per_group(wish, blocks, groups);
        let mut geometry = Self {
            blocks,
            groups,
            inodes_per_group,
            descriptor_blocks,
            reserved,
            resize_inode,
            placed: Vec::with_capacity(usize_of(groups)),
            taken: Vec::new(),
        };
        geometry.place();
        Ok(geometry)
    }

    /// Blocks at the start of a group that hold superblock, descriptors and reserved descriptors.
    pub(super) fn base(&self, group: u64) -> u64 {
        if has_superblock(group) { 1 + self.descriptor_blocks + self.reserved } else { 0 }
    }

    /// Blocks of one group's inode table.
    pub(super) fn table_blocks(&self) -> u64 {
        u64::from(self.inodes_per_group.div_ceil(INODES_PER_BLOCK))
    }

    /// The number of inodes.
    pub(super) fn inodes(&self) -> u64 {
        u64::from(self.inodes_per_group) * self.groups
    }

    /// The largest number of inodes that its groups could have.
    pub(super) fn most_inodes(&self) -> u64 {
        u64::from(most_inodes_per_group(self.groups)) * self.groups
    }

    /// The groups with a backup copy, without group 0.
    pub(super) fn backups(&self) -> impl Iterator<Item = u64> + use<> {
        // 1, then all powers of 3, 5 and 7 below the number of groups; at most a few dozen.
        let mut found = vec![1];
        for base in [3_u64, 5, 7] {
            let mut power = base;
            while power < self.groups {
                found.push(power);
                power *= base;
            }
        }
        found.retain(|group| *group < self.groups);
        found.sort_unstable();
        found.into_iter()
    }

    /// The largest volume for which its descriptor blocks, including the reserved ones, have space. Beyond
    /// 2^32 blocks, where the resize inode ends, it is the volume's own size.
    pub(super) fn reach(&self) -> u64 {
        let described = (self.descriptor_blocks + self.reserved) * DESCRIPTORS_PER_BLOCK * BLOCKS_PER_GROUP;
        described.min(LARGEST_POINTER).max(self.blocks)
    }

    /// Blocks that metadata occupies.
    pub(super) fn metadata(&self) -> u64 {
        self.taken.iter().map(|run| run.length).sum()
    }

    /// The smallest number of blocks at which the last group of this volume holds its metadata.
    pub(super) fn shortest(&self) -> u64 {
        let start = (self.groups - 1) * BLOCKS_PER_GROUP;
        let own = if self.groups > 1 { start + self.base(self.groups - 1) + SMALLEST_GROUP } else { 1 };
        let metadata = self.taken.last().map_or(0, |run| run.end());
        own.max(metadata)
    }

    /// Places the bitmaps and tables of each flex group after its first superblock copy, and around other
    /// copies.
    fn place(&mut self) {
        let table = self.table_blocks();
        for first in (0..self.groups).step_by(usize_of(FLEX_GROUPS)) {
            let count = FLEX_GROUPS.min(self.groups - first);
            let mut at = Placer { geometry: self, next: first * BLOCKS_PER_GROUP, runs: Vec::new() };
            let mut placed = vec![Placed::default(); usize_of(count)];
            for group in &mut placed {
                group.block_bitmap = at.take(1);
            }
            for group in &mut placed {
                group.inode_bitmap = at.take(1);
            }
            for group in &mut placed {
                group.inode_table = at.take(table);
            }
            let end = at.next;
            let mut runs = at.runs;
            // The superblock copies in the groups that the placer did not reach.
            for group in first..first + count {
                let (start, length) = (group * BLOCKS_PER_GROUP, self.base(group));
                if start >= end && length > 0 {
                    runs.push(Run { start, length });
                }
            }
            self.placed.extend(placed);
            self.taken.extend(runs);
        }
        merge(&mut self.taken);
    }
}

/// Joins runs that touch.
fn merge(runs: &mut Vec<Run>) {
    runs.sort_by_key(|run| run.start);
    runs.dedup_by(|next, last| {
        let touch = last.end() == next.start;
        if touch {
            last.length += next.length;
        }
        touch
    });
}

/// Allocates blocks from the start of a group on, around superblock copies.
struct Placer<'a> {
    geometry: &'a Geometry,
    next: u64,
    runs: Vec<Run>,
}

impl Placer<'_> {
    /// The first of `length` blocks in one run.
    fn take(&mut self, length: u64) -> u64 {
        loop {
            // Skips a copy at the start of the current group, and one that begins inside the run.
            let group = self.next / BLOCKS_PER_GROUP;
            let base = self.geometry.base(group);
            if self.next == group * BLOCKS_PER_GROUP && base > 0 {
                self.runs.push(Run { start: self.next, length: base });
                self.next += base;
            }
            let following = (group + 1) * BLOCKS_PER_GROUP;
            if self.next + length <= following || self.geometry.base(group + 1) == 0 {
                break;
            }
            self.next = following;
        }
        let start = self.next;
        self.runs.push(Run { start, length });
        self.next += length;
        start
    }
}

/// Descriptor blocks to reserve, as in mke2fs (lib/ext2fs/initialize.c, calc_reserved_gdt_blocks): enough for
/// 1024 times the size, or for the size asked for; at most as many as one block of the resize inode can point
/// to.
fn reserved_blocks(wish: &Wish, blocks: u64, descriptor_blocks: u64) -> u64 {
    let grown = wish.grow_to.unwrap_or(blocks.saturating_mul(1024)).min(LARGEST_POINTER - 1);
    let needed = grown.div_ceil(BLOCKS_PER_GROUP).div_ceil(DESCRIPTORS_PER_BLOCK);
    // Nothing is reserved if there are enough already.
    needed.saturating_sub(descriptor_blocks).min(POINTERS_PER_BLOCK)
}

/// The number of inodes if none is given: those in use, a sixteenth more, and one block of them.
pub(super) const fn with_spare(used: u64) -> u64 {
    used + used / 16 + 16
}

/// Inodes in a group: a whole number of table blocks.
fn inodes_per_group(wish: &Wish, blocks: u64, groups: u64) -> u32 {
    let for_blocks = |blocks: u64| blocks.saturating_mul(BLOCK) / wish.ratio.max(1);
    let ratio = for_blocks(blocks);
    let wanted = match wish.inodes {
        Some(inodes) => inodes.max(wish.used_inodes),
        None => ratio.max(with_spare(wish.used_inodes)),
    };
    let mut each = wanted.div_ceil(groups);
    if wish.inodes.is_none()
        && let Some(grown) = wish.grow_to.filter(|grown| *grown > blocks)
    {
        // Groups that growth adds get as many inodes as these, so a small volume that is meant to grow gets
        // those of a whole group.
        each = each.max(for_blocks(BLOCKS_PER_GROUP.min(grown)));
    }
    let most = most_inodes_per_group(groups);
    // A number that does not fit in 32 bits is above the limit anyway.
    u32::try_from(each.next_multiple_of(INODES_PER_BLOCK.into()))
        .map_or(most, |each| each.clamp(INODES_PER_BLOCK, most))
}

/// The largest number of inodes in each of `groups` groups: as many as a bitmap has bits, and few enough that
/// all inode numbers fit in 32 bits.
fn most_inodes_per_group(groups: u64) -> u32 {
    let step = u64::from(INODES_PER_BLOCK);
    let most = u64::from(u32::MAX) / groups / step * step;
    u32::try_from(most).map_or(MOST_INODES_PER_GROUP, |most| most.min(MOST_INODES_PER_GROUP))
}

/// Allocates free blocks in ascending order. Past the end of the volume it continues as if there were more
/// blocks, so that one run tells how much too small the volume is.
#[derive(Clone, Debug)]
pub(super) struct Allocator<'a> {
    taken: &'a [Run],
    /// The next block to allocate, if it is free.
    next: u64,
    /// How many blocks were allocated.
    pub(super) used: u64,
}

impl<'a> Allocator<'a> {
    pub(super) fn new(geometry: &'a Geometry) -> Self {
        Self { taken: &geometry.taken, next: 0, used: 0 }
    }

    /// Gives `length` blocks to `each`, in as few runs as the metadata in between allows.
    pub(super) fn take(&mut self, length: u64, mut each: impl FnMut(Run)) {
        let mut left = length;
        while left > 0 {
            let run = match self.taken.first() {
                Some(taken) if taken.start <= self.next => {
                    self.next = self.next.max(taken.end());
                    self.taken = &self.taken[1..];
                    continue;
                }
                Some(taken) => Run { start: self.next, length: left.min(taken.start - self.next) },
                None => Run { start: self.next, length: left },
            };
            each(run);
            self.next = run.end();
            left -= run.length;
            self.used += run.length;
        }
    }

    /// Every free block below this one was allocated, and none from it on.
    pub(super) const fn end(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wish(blocks: u64) -> Wish {
        Wish { blocks, used_inodes: 11, inodes: None, ratio: 16 << 10, grow_to: None }
    }

    #[test]
    fn backups_are_the_powers() {
        let all: Vec<u64> = (0..130).filter(|group| has_superblock(*group)).collect();
        assert_eq!(all, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
        let geometry = Geometry::new(&wish(130 * BLOCKS_PER_GROUP)).unwrap();
        assert_eq!(geometry.backups().collect::<Vec<_>>(), all[1..]);
    }

    #[test]
    fn the_reserve_is_that_of_mke2fs() {
        // Reserved GDT blocks, from dumpe2fs of `mke2fs -t ext4 -b 4096` 1.47.0.
        for (mebibytes, reserved) in [(64, 7), (1024, 127), (4096, 511), (8192, 1023), (16384, 1024)] {
            let geometry = Geometry::new(&wish(mebibytes * 256)).unwrap();
            assert_eq!(geometry.reserved, reserved, "{mebibytes} MiB");
        }
    }

    #[test]
    fn reach_is_what_was_asked_for_as_far_as_blocks_can_be_reserved() {
        let gibibyte = 1 << 18;
        for (blocks, grow_to, reach) in [
            (gibibyte, 256 * gibibyte, 256 * gibibyte),
            (gibibyte, 257 * gibibyte, 264 * gibibyte),
            // 1 descriptor block in use and 1024 in reserve, each for 8 GiB.
            (gibibyte, 8200 * gibibyte, 8200 * gibibyte),
            (gibibyte, 8201 * gibibyte, 8200 * gibibyte),
            (gibibyte, LARGEST, 8200 * gibibyte),
            (10_000 * gibibyte, LARGEST, LARGEST_POINTER),
            (LARGEST, LARGEST, LARGEST),
        ] {
            let wish = Wish { grow_to: Some(grow_to), ..wish(blocks) };
            assert_eq!(Geometry::new(&wish).unwrap().reach(), reach, "{blocks} to {grow_to}");
        }
    }

    #[test]
    fn sixteen_tebibytes_with_a_hundred_million_inodes() {
        let wish = Wish { used_inodes: 100_000_000, ..wish(1 << 32) };
        let geometry = Geometry::new(&wish).unwrap();
        assert_eq!(geometry.groups, 131_072);
        assert!(geometry.inodes() >= 100_000_000 && geometry.resize_inode);
        check(&geometry);
        assert!(!Geometry::new(&Wish { blocks: (1 << 32) + 1, ..wish }).unwrap().resize_inode);
    }

    /// Nothing overlaps, nothing lies outside, and every structure is where the format requires it.
    fn check(geometry: &Geometry) {
        for pair in geometry.taken.windows(2) {
            assert!(pair[0].end() < pair[1].start, "{pair:?}");
        }
        let table = geometry.table_blocks();
        let placed: u64 = geometry.groups * (2 + table);
        let bases: u64 = geometry.backups().chain([0]).map(|group| geometry.base(group)).sum();
        assert_eq!(geometry.metadata(), placed + bases);
        assert_eq!(usize_of(geometry.groups), geometry.placed.len());
        assert!(geometry.inodes() <= u64::from(u32::MAX));
    }

    proptest! {
        #[test]
        fn metadata_never_overlaps(
            blocks in 1_u64..LARGEST, used in 11_u64..200_000_000, grow in proptest::option::of(1_u64..LARGEST)
        ) {
            check(&Geometry::new(&Wish { used_inodes: used, grow_to: grow, ..wish(blocks) }).unwrap());
        }

        #[test]
        fn small_volumes_hold_too(blocks in 1_u64..3_000_000, used in 11_u64..3_000_000) {
            check(&Geometry::new(&Wish { used_inodes: used, ..wish(blocks) }).unwrap());
        }

        #[test]
        fn the_allocator_gives_each_free_block_once(blocks in 1000_u64..400_000, steps in prop::collection::vec(1_u64..9000, 1..50)) {
            let geometry = Geometry::new(&wish(blocks)).unwrap();
            let mut allocator = Allocator::new(&geometry);
            let mut last = 0;
            for step in steps {
                let mut got = 0;
                allocator.take(step, |run| {
                    assert!(run.start >= last && run.length > 0);
                    assert!(geometry.taken.iter().all(|taken| taken.end() <= run.start || run.end() <= taken.start));
                    last = run.end();
                    got += run.length;
                });
                assert_eq!(got, step);
            }
            assert_eq!(allocator.end(), last);
        }
    }
}
