//! Where a file's blocks lie: runs, the extents they make, and the tree of extents of any depth.

use super::checksum::Checksum;
use super::format::{
    BLOCK_LENGTH, EXTENTS_IN_BLOCK, EXTENTS_IN_INODE, Extent, Fields, LONGEST_EXTENT, extent_entry,
    extent_header, extent_index,
};
use super::geometry::{Allocator, Run};
use crate::units::{low16, low32, u64_of, usize_of};

/// Part of a file in one run of blocks; longer than an extent can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileRun {
    /// First block of the file. Below 2^32.
    pub(super) logical: u64,
    pub(super) run: Run,
    /// How many extents the runs before it make.
    before: u64,
}

impl FileRun {
    /// How many extents the runs up to it make, its own counted.
    const fn extents(&self) -> u64 {
        self.before + extents_of(self.run.length)
    }
}

/// All blocks of a file, and those of its extent tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileBlocks {
    /// Sorted by logical block.
    pub(super) runs: Vec<FileRun>,
    /// Blocks of the extent tree: the leaves first, then each level above; empty while the inode holds all extents.
    pub(super) nodes: Vec<Run>,
}

/// How many extents a run needs.
const fn extents_of(length: u64) -> u64 {
    length.div_ceil(LONGEST_EXTENT)
}

/// The blocks of each level of a tree over `extents` extents, leaves first; none while the inode holds them all.
pub(super) fn levels(extents: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut entries = extents;
    while entries > u64_of(EXTENTS_IN_INODE) {
        entries = entries.div_ceil(u64_of(EXTENTS_IN_BLOCK));
        levels.push(entries);
    }
    levels
}

impl FileBlocks {
    /// Takes blocks for the given parts of a file (first logical block and count), then for the tree.
    pub(super) fn allocate(allocator: &mut Allocator<'_>, parts: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut blocks = Self::default();
        for (logical, length) in parts {
            let mut at = logical;
            allocator.take(length, |run| {
                // Parts that touch in the file and on the disk are one run.
                match blocks.runs.last_mut() {
                    Some(last) if last.run.end() == run.start && last.logical + last.run.length == at => {
                        last.run.length += run.length;
                    }
                    _ => blocks.push(at, run),
                }
                at += run.length;
            });
        }
        blocks.take_nodes(allocator);
        blocks
    }

    /// A file without holes over these runs; takes blocks for the tree.
    pub(super) fn of_runs(allocator: &mut Allocator<'_>, runs: &[Run]) -> Self {
        let mut logical = 0;
        let mut blocks = Self::default();
        for run in runs {
            blocks.push(logical, *run);
            logical += run.length;
        }
        blocks.take_nodes(allocator);
        blocks
    }

    /// Adds a run behind the others.
    fn push(&mut self, logical: u64, run: Run) {
        let before = self.extent_count();
        self.runs.push(FileRun { logical, run, before });
    }

    /// Takes blocks for the tree over the extents there are.
    fn take_nodes(&mut self, allocator: &mut Allocator<'_>) {
        let nodes = levels(self.extent_count()).into_iter().sum();
        allocator.take(nodes, |run| self.nodes.push(run));
    }

    /// A file of one run from its start.
    pub(super) fn single(start: u64, length: u64) -> Self {
        let mut blocks = Self::default();
        if length > 0 {
            blocks.push(0, Run { start, length });
        }
        blocks
    }

    /// How many extents there are.
    pub(super) fn extent_count(&self) -> u64 {
        self.runs.last().map_or(0, FileRun::extents)
    }

    /// Blocks in use, those of the tree counted.
    pub(super) fn used(&self) -> u64 {
        self.runs.iter().map(|run| run.run.length).sum::<u64>() + self.node_count()
    }

    /// Blocks of the tree.
    pub(super) fn node_count(&self) -> u64 {
        self.nodes.iter().map(|run| run.length).sum()
    }

    /// The block of tree node `number`.
    pub(super) fn node(&self, number: u64) -> u64 {
        let mut left = number;
        for run in &self.nodes {
            if left < run.length {
                return run.start + left;
            }
            left -= run.length;
        }
        0
    }

    /// The extents from number `first` on.
    fn extents(&self, first: u64) -> impl Iterator<Item = Extent> + '_ {
        let from = self.runs.partition_point(|run| run.extents() <= first);
        let skip = self.runs.get(from).map_or(0, |run| first - run.before);
        self.runs[from..]
            .iter()
            .flat_map(|run| {
                (0..extents_of(run.run.length)).map(move |number| {
                    let cut = number * LONGEST_EXTENT;
                    Extent {
                        logical: low32(run.logical + cut),
                        length: low16((run.run.length - cut).min(LONGEST_EXTENT)),
                        physical: run.run.start + cut,
                    }
                })
            })
            .skip(usize_of(skip))
    }

    /// The root of the tree, as the inode holds it.
    pub(super) fn root(&self) -> [u8; 60] {
        let mut bytes = [0; 60];
        let mut at = Fields(&mut bytes);
        let count = self.extent_count();
        let levels = levels(count);
        match levels.last() {
            None => {
                extent_header(&mut at, usize_of(count), EXTENTS_IN_INODE, 0);
                for (number, extent) in self.extents(0).enumerate() {
                    extent_entry(&mut at, number, extent);
                }
            }
            Some(top) => {
                extent_header(&mut at, usize_of(*top), EXTENTS_IN_INODE, low16(u64_of(levels.len())));
                self.pointers(&mut at, &levels, levels.len() - 1, 0, usize_of(*top));
            }
        }
        bytes
    }

    /// Tree node `number`, with its checksum.
    pub(super) fn node_bytes(&self, number: u64, seed: Checksum) -> [u8; BLOCK_LENGTH] {
        let mut bytes = [0; BLOCK_LENGTH];
        let mut at = Fields(&mut bytes);
        let count = self.extent_count();
        let levels = levels(count);
        let mut level = 0;
        let mut within = number;
        while let Some(blocks) = levels.get(level).filter(|blocks| within >= **blocks) {
            within -= blocks;
            level += 1;
        }
        let room = u64_of(EXTENTS_IN_BLOCK);
        let below = if level == 0 { count } else { levels.get(level - 1).copied().unwrap_or(0) };
        let first = within * room;
        let entries = usize_of(below.saturating_sub(first).min(room));
        extent_header(&mut at, entries, EXTENTS_IN_BLOCK, low16(u64_of(level)));
        if level == 0 {
            for (number, extent) in self.extents(first).take(entries).enumerate() {
                extent_entry(&mut at, number, extent);
            }
        } else {
            self.pointers(&mut at, &levels, level - 1, first, entries);
        }
        let tail = BLOCK_LENGTH - 4;
        let checksum = seed.with(&at.0[..tail]).value();
        at.u32(tail, checksum);
        bytes
    }

    /// `entries` pointers to the nodes of `level`, from node `first` of that level on.
    fn pointers(&self, at: &mut Fields<'_>, levels: &[u64], level: usize, first: u64, entries: usize) {
        let before: u64 = levels[..level].iter().sum();
        // How many extents lie below one node of that level.
        let span = u64_of(EXTENTS_IN_BLOCK).pow(u32::try_from(level + 1).unwrap_or(1));
        for number in 0..entries {
            let node = first + u64_of(number);
            let logical = self.extents(node * span).next().map_or(0, |extent| extent.logical);
            extent_index(at, number, logical, self.node(before + node));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filesystem::ext4::geometry::{Geometry, Wish};

    #[test]
    fn levels_grow_at_5_341_and_so_on() {
        for (extents, expected) in [
            (0, vec![]),
            (4, vec![]),
            (5, vec![1]),
            (340, vec![1]),
            (341, vec![2]),
            (340 * 4, vec![4]),
            (340 * 4 + 1, vec![5, 1]),
            (340 * 340, vec![340, 1]),
            (340 * 340 * 4 + 1, vec![340 * 4 + 1, 5, 1]),
        ] {
            assert_eq!(levels(extents), expected, "{extents}");
        }
    }

    #[test]
    fn a_file_of_a_million_pieces_has_its_tree() {
        let geometry =
            Geometry::new(&Wish { blocks: 1 << 24, used_inodes: 12, inodes: None, grow_to: None }).unwrap();
        let mut allocator = Allocator::new(&geometry);
        let pieces = (0..1_000_000).map(|number| (number * 3, 1));
        let blocks = FileBlocks::allocate(&mut allocator, pieces);
        assert_eq!(blocks.extent_count(), 1_000_000);
        // 2942 leaves below 9 nodes below one.
        assert_eq!(levels(1_000_000), [2942, 9, 1]);
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        for leaf in 0..2942 {
            let bytes = blocks.node_bytes(leaf, Checksum::START);
            assert_eq!(u64::from(word(&bytes, 12)), leaf * 340 * 3);
            // The level above points to it by the same block.
            let above = blocks.node_bytes(2942 + leaf / 340, Checksum::START);
            let entry = 12 + usize_of(leaf % 340) * 12;
            assert_eq!(u64::from(word(&above, entry)), leaf * 340 * 3);
            assert_eq!(u64::from(word(&above, entry + 4)), blocks.node(leaf));
        }
        assert_eq!(blocks.root()[12 + 4..][..4], low32(blocks.node(2942 + 9)).to_le_bytes());
    }

    #[test]
    fn a_file_of_ten_tebibytes_has_its_tree() {
        let length = 10 * (1_u64 << 40) / 4096;
        let geometry =
            Geometry::new(&Wish { blocks: 1 << 32, used_inodes: 12, inodes: None, grow_to: None }).unwrap();
        let mut allocator = Allocator::new(&geometry);
        let blocks = FileBlocks::allocate(&mut allocator, std::iter::once((0, length)));
        assert!(blocks.extent_count() >= length / LONGEST_EXTENT);
        let levels = levels(blocks.extent_count());
        assert_eq!(levels.len(), 2);
        assert_eq!(blocks.node_count(), levels.iter().sum::<u64>());
        assert_eq!(blocks.used(), allocator.used);
        // The extents are the file: logical blocks follow each other without gap, physical ones never repeat.
        let mut next = 0;
        let mut last = 0;
        for extent in blocks.extents(0) {
            assert_eq!(u64::from(extent.logical), next);
            assert!(extent.physical >= last);
            next += u64::from(extent.length);
            last = extent.physical + u64::from(extent.length);
        }
        assert_eq!(next, length);
        // And the leaves hold all of them.
        let mut entries = 0;
        for leaf in 0..levels[0] {
            let bytes = blocks.node_bytes(leaf, Checksum::START);
            entries += u64::from(u16::from_le_bytes([bytes[2], bytes[3]]));
            let first = blocks.extents(leaf * 340).next().unwrap();
            assert_eq!(bytes[12..16], first.logical.to_le_bytes());
        }
        assert_eq!(entries, blocks.extent_count());
    }
}
