//! The layout of an ext4 volume: groups, the places of their metadata, and the blocks that are left for
//! files. It is a pure function, and is tested at sizes that nobody writes.
//!
//! A volume is `groups` groups of 32768 blocks, or of another number for other blocks than of 4 KiB. Group 0 and the groups whose number is 1 or a power of 3, 5
//! or 7 begin with a superblock, the group descriptors and the blocks reserved for more descriptors
//! (sparse_super). The bitmaps and inode tables of 16 groups lie together at the start of the first of them
//! (flex_bg).

use super::form::Form;
use super::format::features::compat;
use crate::error::{Error, Kind, Result};
use crate::units::{narrow, u64_of, usize_of};

/// The resize inode cannot grow a volume beyond this: its pointers have 32 bits.
const LARGEST_POINTER: u64 = 1 << 32;
/// Blocks that a short last group must have besides its own metadata, as in mke2fs (lib/ext2fs/initialize.c).
const SMALLEST_GROUP: u64 = 50;

/// The requirements of a volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) form: Form,
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
    pub(super) form: Form,
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
pub(super) fn too_large(form: &Form, blocks: u64) -> Error {
    Error::new(Kind::Capacity, "an ext4 filesystem cannot be that large here")
        .expected(format!("at most {} bytes", form.most_blocks() * form.block))
        .found(format!("{} bytes", u128::from(blocks) * u128::from(form.block)))
}

impl Geometry {
    /// The layout of a volume of `wish.blocks` blocks. It may be too short for its own metadata: see
    /// [`Geometry::shortest`].
    pub(super) fn new(wish: &Wish) -> Result<Self> {
        let form = wish.form;
        let blocks = wish.blocks.max(1 + form.first());
        if blocks > form.most_blocks() {
            return Err(too_large(&form, blocks));
        }
        let groups = form.groups(blocks);
        let descriptor_blocks = groups.div_ceil(form.descriptors_per_block());
        let resize_inode = blocks <= LARGEST_POINTER && form.is_compat(compat::RESIZE_INODE);
        let reserved = if resize_inode { reserved_blocks(wish, blocks, descriptor_blocks) } else { 0 };
        let inodes_per_group = inodes_per_group(wish, blocks, groups)?;
        let mut geometry = Self {
            form,
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
        (u64::from(self.inodes_per_group) * u64_of(self.form.inode)).div_ceil(self.form.block)
    }

    /// The number of inodes.
    pub(super) fn inodes(&self) -> u64 {
        u64::from(self.inodes_per_group) * self.groups
    }

    /// The largest number of inodes that its groups could have.
    pub(super) fn most_inodes(&self) -> u64 {
        most_inodes_per_group(&self.form, self.groups) * self.groups
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
        let form = &self.form;
        let groups = (self.descriptor_blocks + self.reserved) * form.descriptors_per_block();
        form.group_start(groups).min(LARGEST_POINTER).min(form.most_blocks()).max(self.blocks)
    }

    /// Blocks that metadata occupies.
    pub(super) fn metadata(&self) -> u64 {
        self.taken.iter().map(|run| run.length).sum()
    }

    /// The smallest number of blocks at which the last group of this volume holds its metadata.
    pub(super) fn shortest(&self) -> u64 {
        let start = self.form.group_start(self.groups - 1);
        let own =
            if self.groups > 1 { start + self.base(self.groups - 1) + SMALLEST_GROUP } else { 1 + start };
        let metadata = self.taken.last().map_or(0, |run| run.end());
        own.max(metadata)
    }

    /// Places the bitmaps and tables of each flex group after its first superblock copy, and around other
    /// copies.
    fn place(&mut self) {
        let table = self.table_blocks();
        let (form, flex) = (self.form, self.form.flex_groups());
        for first in (0..self.groups).step_by(usize_of(flex)) {
            let count = flex.min(self.groups - first);
            let mut at = Placer { geometry: self, next: form.group_start(first), runs: Vec::new() };
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
                let (start, length) = (form.group_start(group), self.base(group));
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
        let form = &self.geometry.form;
        loop {
            // Skips a copy at the start of the current group, and one that begins inside the run.
            let group = (self.next - form.first()) / form.blocks_per_group();
            let base = self.geometry.base(group);
            if self.next == form.group_start(group) && base > 0 {
                self.runs.push(Run { start: self.next, length: base });
                self.next += base;
            }
            let following = form.group_start(group + 1);
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
    let form = &wish.form;
    let needed = form.groups(grown).div_ceil(form.descriptors_per_block());
    // Nothing is reserved if there are enough already.
    needed.saturating_sub(descriptor_blocks).min(form.pointers())
}

/// The number of inodes if none is given: those in use, a sixteenth more, and one block of them.
pub(super) const fn with_spare(used: u64) -> u64 {
    used + used / 16 + 16
}

/// Inodes in a group: a whole number of table blocks.
fn inodes_per_group(wish: &Wish, blocks: u64, groups: u64) -> Result<u32> {
    let form = &wish.form;
    let for_blocks = |blocks: u64| blocks.saturating_mul(form.block) / wish.ratio.max(1);
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
        each = each.max(for_blocks(form.blocks_per_group().min(grown)));
    }
    let (step, most) = (inode_step(form), most_inodes_per_group(form, groups));
    narrow(each.next_multiple_of(step).clamp(step.min(most), most), "s_inodes_per_group")
}

/// What the number of inodes of a group is a multiple of: a block of the table, and a byte of the bitmap
/// (lib/ext2fs/initialize.c). The smallest number holds the reserved inodes and lost+found.
fn inode_step(form: &Form) -> u64 {
    (form.block / u64_of(form.inode)).max(16)
}

/// The largest number of inodes in each of `groups` groups: as many as a bitmap has bits, and few enough that
/// all inode numbers fit in 32 bits.
pub(super) fn most_inodes_per_group(form: &Form, groups: u64) -> u64 {
    let step = inode_step(form);
    let each = (u64::from(u32::MAX) / groups).min(form.most_inodes_per_group());
    (each / step).min(table_limit(form) / step) * step
}

/// The inodes of a group whose table, with bitmaps and superblock, leaves a quarter of the group to files. It counts only where
/// inodes are as long as blocks, or nearly.
fn table_limit(form: &Form) -> u64 {
    form.blocks_per_group() / 2 * (form.block / u64_of(form.inode))
}

/// Allocates free blocks in ascending order. Past the end of the volume it continues as if there were more
/// blocks, so that one run tells how much too small the volume is.
#[derive(Clone, Debug)]
pub(super) struct Allocator<'a> {
    pub(super) form: Form,
    taken: &'a [Run],
    /// The next block to allocate, if it is free.
    next: u64,
    /// How many blocks were allocated.
    pub(super) used: u64,
}

impl<'a> Allocator<'a> {
    pub(super) fn new(geometry: &'a Geometry) -> Self {
        Self { form: geometry.form, taken: &geometry.taken, next: geometry.form.first(), used: 0 }
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

    /// The usual form.
    const BLOCKS_PER_GROUP: u64 = 32_768;
    const LARGEST: u64 = 96 * crate::units::TIB / 4096;

    #[test]
    fn the_largest_volumes_are_those_whose_descriptors_have_space() {
        assert_eq!(Form::default().most_blocks(), LARGEST);
        assert_eq!(Form { block: 1024, ..Form::default() }.most_blocks() * 1024, 384 << 30);
        assert_eq!(Form::of(crate::filesystem::ext4::Revision::Ext3).most_blocks(), u64::from(u32::MAX));
    }

    fn wish(blocks: u64) -> Wish {
        Wish { form: Form::default(), blocks, used_inodes: 11, inodes: None, ratio: 16 << 10, grow_to: None }
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
        let starts = (0..geometry.groups).map(|group| geometry.form.group_start(group));
        for ((start, own), group) in starts.zip(&geometry.placed).zip(0..) {
            let end = start + geometry.form.blocks_per_group();
            let all = [own.block_bitmap, own.inode_bitmap, own.inode_table + table - 1];
            // Without flex_bg the kernel wants them in their own group.
            let inside = all.iter().all(|block| (start..end).contains(block));
            assert!(inside || geometry.form.flex_groups() > 1, "group {group}: {own:?}");
        }
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
        fn every_form_has_space_for_its_metadata(
            log in 0_u32..7, inode in 7_u32..17, wide in any::<bool>(), flex in any::<bool>(),
            blocks in 1_u64..100_000_000, used in 11_u64..3_000_000
        ) {
            let block = 1024_u64 << log;
            let mut form = Form { block, inode: usize_of((1 << inode).min(block)), ..Form::default() };
            if !wide {
                form.incompat &= !super::super::format::features::incompat::WIDE;
            }
            if !flex {
                form.incompat &= !super::super::format::features::incompat::FLEX_BG;
            }
            let blocks = blocks.min(form.most_blocks());
            check(&Geometry::new(&Wish { form, used_inodes: used, ..wish(blocks) }).unwrap());
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
