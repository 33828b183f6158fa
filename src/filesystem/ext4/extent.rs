//! The places of a file's blocks: runs, the extents that they make, and the tree of extents of any depth. Without extents
//! there are blocks of pointers in its place.

use super::checksum::Checksum;
use super::form::{DIRECT, Form};
use super::format::{
    EXTENTS_IN_INODE, Extent, ExtentEntry, ExtentHeader, ExtentIndex, ExtentTail, LONGEST_EXTENT,
};
use super::geometry::{Allocator, Run};
use super::indirect::{self, Node};
use crate::error::{Error, Result};
use crate::units::{half_hi, half_lo, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// A part of a file in one run of blocks; it may be longer than an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileRun {
    /// First block of the file. Below 2^32.
    pub(super) logical: u64,
    pub(super) run: Run,
    /// How many extents the earlier runs make.
    before: u64,
}

impl FileRun {
    /// How many extents the runs up to and including this one make.
    const fn extents(&self) -> u64 {
        self.before + extents_of(self.run.length)
    }
}

/// All blocks of a file, and those of its extent tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FileBlocks {
    /// Sorted by logical block.
    pub(super) runs: Vec<FileRun>,
    /// Blocks of the extent tree: the leaves first, then each level above. Empty if the inode holds all
    /// extents. Without extents, blocks of pointers.
    pub(super) nodes: Vec<Run>,
    form: Form,
    /// What the blocks of pointers are, without extents.
    map: Vec<Node>,
}

/// How many extents a run needs.
const fn extents_of(length: u64) -> u64 {
    length.div_ceil(LONGEST_EXTENT)
}

/// The number of blocks in each level of a tree over `extents` extents, leaves first. Empty if the inode
/// holds all of them.
pub(super) fn levels(form: &Form, extents: u64) -> Vec<u64> {
    let mut levels = Vec::new();
    let mut entries = extents;
    while entries > u64_of(EXTENTS_IN_INODE) {
        entries = entries.div_ceil(u64_of(form.extents_in_block()));
        levels.push(entries);
    }
    levels
}

impl FileBlocks {
    /// A file without blocks.
    pub(super) fn new(form: Form) -> Self {
        Self { form, ..Self::default() }
    }

    /// Allocates blocks for the given parts of a file (first logical block and count), then for the tree.
    pub(super) fn allocate(allocator: &mut Allocator<'_>, parts: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut blocks = Self::new(allocator.form);
        for (logical, length) in parts {
            let mut at = logical;
            allocator.take(length, |run| {
                // Parts that touch both in the file and on the disk are one run.
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

    /// A file without holes over these runs; allocates blocks for the tree.
    pub(super) fn of_runs(allocator: &mut Allocator<'_>, runs: &[Run]) -> Self {
        let mut logical = 0;
        let mut blocks = Self::new(allocator.form);
        for run in runs {
            blocks.push(logical, *run);
            logical += run.length;
        }
        blocks.take_nodes(allocator);
        blocks
    }

    /// Adds a run after the others.
    fn push(&mut self, logical: u64, run: Run) {
        let before = self.extent_count();
        self.runs.push(FileRun { logical, run, before });
    }

    /// Allocates blocks for the tree over the existing extents, or for pointers.
    fn take_nodes(&mut self, allocator: &mut Allocator<'_>) {
        let nodes = if self.form.has_extents() {
            levels(&self.form, self.extent_count()).into_iter().sum()
        } else {
            self.map = indirect::nodes(&self.form, &self.runs);
            u64_of(self.map.len())
        };
        allocator.take(nodes, |run| self.nodes.push(run));
    }

    /// A file of one run from its start.
    pub(super) fn single(form: Form, start: u64, length: u64) -> Self {
        let mut blocks = Self::new(form);
        if length > 0 {
            blocks.push(0, Run { start, length });
        }
        blocks
    }

    /// The number of extents.
    pub(super) fn extent_count(&self) -> u64 {
        self.runs.last().map_or(0, FileRun::extents)
    }

    /// Blocks in use, including those of the tree.
    pub(super) fn used(&self) -> u64 {
        self.runs.iter().map(|run| run.run.length).sum::<u64>() + self.node_count()
    }

    /// Blocks of the tree.
    pub(super) fn node_count(&self) -> u64 {
        self.nodes.iter().map(|run| run.length).sum()
    }

    /// The block of tree node `number`.
    fn node(&self, number: u64) -> Result<u64> {
        let mut left = number;
        for run in &self.nodes {
            if left < run.length {
                return Ok(run.start + left);
            }
            left -= run.length;
        }
        Err(Error::bug(format!("node {number} of an extent tree has no block"))
            .found(format!("{} blocks", self.node_count())))
    }

    /// The extents from number `first` on.
    fn extents(&self, first: u64) -> impl Iterator<Item = Result<Extent>> + '_ {
        let from = self.runs.partition_point(|run| run.extents() <= first);
        // Past the last run there is nothing to skip.
        let skip = self.runs.get(from).map_or(0, |run| first - run.before);
        self.runs[from..]
            .iter()
            .flat_map(|run| {
                (0..extents_of(run.run.length)).map(move |number| {
                    let cut = number * LONGEST_EXTENT;
                    Ok(Extent {
                        logical: narrow(run.logical + cut, "ee_block")?,
                        length: narrow((run.run.length - cut).min(LONGEST_EXTENT), "ee_len")?,
                        physical: run.run.start + cut,
                    })
                })
            })
            .skip(usize_of(skip))
    }

    /// The root of the tree, or the pointers, which the inode holds.
    pub(super) fn root(&self) -> Result<[u8; 60]> {
        let mut bytes = [0; 60];
        if !self.form.has_extents() {
            let direct = (0..DIRECT).map(|logical| self.physical(logical));
            let tops = indirect::tops(&self.form);
            let pointers = direct.map(Ok).chain(tops.into_iter().map(|top| self.pointer_to(top)));
            put_pointers(&mut bytes, pointers)?;
            return Ok(bytes);
        }
        let count = self.extent_count();
        let levels = levels(&self.form, count);
        let entries = usize_of(levels.last().copied().unwrap_or(count));
        header(&mut bytes, entries, EXTENTS_IN_INODE, levels.len())?;
        self.entries(&mut bytes, &levels, levels.len(), 0, entries)?;
        Ok(bytes)
    }

    /// Tree node `number`, with its checksum.
    pub(super) fn node_bytes(&self, number: u64, seed: Checksum) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.form.block_length()];
        if !self.form.has_extents() {
            let node = self.map.get(usize_of(number));
            let node =
                *node.ok_or_else(|| Error::bug(format!("a file has no block of pointers {number}")))?;
            put_pointers(
                &mut bytes,
                (0..self.form.pointers()).map(|slot| match node.below(&self.form, slot) {
                    Ok(below) => self.pointer_to(below),
                    Err(logical) => Ok(self.physical(logical)),
                }),
            )?;
            return Ok(bytes);
        }
        let count = self.extent_count();
        let levels = levels(&self.form, count);
        let mut level = 0;
        let mut within = number;
        while let Some(blocks) = levels.get(level).filter(|blocks| within >= **blocks) {
            within -= blocks;
            level += 1;
        }
        let capacity = u64_of(self.form.extents_in_block());
        if level == levels.len() {
            return Err(Error::bug(format!("an extent tree has no node {number}"))
                .found(format!("{} nodes", levels.iter().sum::<u64>())));
        }
        let below = if level == 0 { count } else { levels[level - 1] };
        let first = within * capacity;
        // Each level has just as many nodes as its entries fill, so this is at least one.
        let entries = usize_of((below - first).min(capacity));
        header(&mut bytes, entries, self.form.extents_in_block(), level)?;
        self.entries(&mut bytes, &levels, level, first, entries)?;
        if self.form.has_checksums() {
            // It follows the last slot (linux/fs/ext4/ext4_extents.h, EXT4_EXTENT_TAIL_OFFSET).
            let tail = ExtentHeader::LENGTH + self.form.extents_in_block() * ExtentEntry::LENGTH;
            let eb_checksum = seed.with(&bytes[..tail]).value();
            ExtentTail { eb_checksum }.write_to(&mut bytes[tail..]);
        }
        Ok(bytes)
    }

    /// The block of the volume that block `logical` of the file has; 0 in a hole.
    fn physical(&self, logical: u64) -> u64 {
        let at = self.runs.partition_point(|run| run.logical + run.run.length <= logical);
        let run = self.runs.get(at).filter(|run| run.logical <= logical);
        run.map_or(0, |run| run.run.start + (logical - run.logical))
    }

    /// The place of a block of pointers; 0 if the file has no blocks below it.
    fn pointer_to(&self, node: Node) -> Result<u64> {
        self.map.binary_search(&node).map_or(Ok(0), |number| self.node(u64_of(number)))
    }

    /// Fills a node of level `level`: a leaf with extents from number `first` on, an inner node with pointers
    /// to nodes of the level below from number `first` on.
    fn entries(
        &self,
        out: &mut [u8],
        levels: &[u64],
        level: usize,
        first: u64,
        entries: usize,
    ) -> Result<()> {
        let places = out[ExtentHeader::LENGTH..].chunks_exact_mut(ExtentEntry::LENGTH).take(entries);
        let Some(below) = level.checked_sub(1) else {
            let mut extents = self.extents(first);
            for place in places {
                leaf_entry(&next(&mut extents)?)?.write_to(place);
            }
            return Ok(());
        };
        let before: u64 = levels[..below].iter().sum();
        // How many extents one node of the level below covers.
        let span = u64_of(self.form.extents_in_block()).pow(narrow(level, "a level of an extent tree")?);
        for (node, place) in (first..).zip(places) {
            let block = self.node(before + node)?;
            let pointer = ExtentIndex {
                ei_block: next(&mut self.extents(node * span))?.logical,
                ei_leaf_lo: half_lo(block),
                ei_leaf_hi: narrow(half_hi(block), "ei_leaf_hi")?,
            };
            pointer.write_to(place);
        }
        Ok(())
    }
}

/// Writes pointers of 32 bits side by side.
fn put_pointers(out: &mut [u8], pointers: impl Iterator<Item = Result<u64>>) -> Result<()> {
    for (pointer, place) in pointers.zip(out.chunks_exact_mut(4)) {
        let pointer: u32 = narrow(pointer?, "a pointer of a file")?;
        place.copy_from_slice(&pointer.to_le_bytes());
    }
    Ok(())
}

/// The next of the extents that the header of a node promises.
fn next(extents: &mut impl Iterator<Item = Result<Extent>>) -> Result<Extent> {
    extents.next().ok_or_else(|| Error::bug("an extent tree has fewer extents than its nodes promise"))?
}

/// The header of a node: entries in use, the largest number of entries, and the height above the leaves.
fn header(out: &mut [u8], entries: usize, most: usize, depth: usize) -> Result<()> {
    let header = ExtentHeader {
        eh_entries: narrow(entries, "eh_entries")?,
        eh_max: narrow(most, "eh_max")?,
        eh_depth: narrow(depth, "eh_depth")?,
        ..ExtentHeader::BLANK
    };
    header.write_to(out);
    Ok(())
}

/// An extent as an entry of a leaf. A length of 32768 is stored unchanged; only larger values mean
/// "unwritten".
fn leaf_entry(extent: &Extent) -> Result<ExtentEntry> {
    Ok(ExtentEntry {
        ee_block: extent.logical,
        ee_len: extent.length,
        ee_start_hi: narrow(half_hi(extent.physical), "ee_start_hi")?,
        ee_start_lo: half_lo(extent.physical),
    })
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
            assert_eq!(levels(&Form::default(), extents), expected, "{extents}");
        }
    }

    #[test]
    fn a_file_of_a_million_pieces_has_its_tree() {
        let geometry = Geometry::new(&Wish {
            form: Form::default(),
            blocks: 1 << 24,
            used_inodes: 12,
            inodes: None,
            ratio: 16 << 10,
            grow_to: None,
        })
        .unwrap();
        let mut allocator = Allocator::new(&geometry);
        let pieces = (0..1_000_000).map(|number| (number * 3, 1));
        let blocks = FileBlocks::allocate(&mut allocator, pieces);
        assert_eq!(blocks.extent_count(), 1_000_000);
        // 2942 leaves below 9 nodes below one.
        assert_eq!(levels(&Form::default(), 1_000_000), [2942, 9, 1]);
        let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        for leaf in 0..2942 {
            let bytes = blocks.node_bytes(leaf, Checksum::START).unwrap();
            assert_eq!(u64::from(word(&bytes, 12)), leaf * 340 * 3);
            // The level above points to it by the same block.
            let above = blocks.node_bytes(2942 + leaf / 340, Checksum::START).unwrap();
            let entry = 12 + usize_of(leaf % 340) * 12;
            assert_eq!(u64::from(word(&above, entry)), leaf * 340 * 3);
            assert_eq!(u64::from(word(&above, entry + 4)), blocks.node(leaf).unwrap());
        }
        let top = half_lo(blocks.node(2942 + 9).unwrap());
        assert_eq!(blocks.root().unwrap()[12 + 4..][..4], top.to_le_bytes());
    }

    #[test]
    fn a_file_of_ten_tebibytes_has_its_tree() {
        let length = 10 * (1_u64 << 40) / 4096;
        let geometry = Geometry::new(&Wish {
            form: Form::default(),
            blocks: 1 << 32,
            used_inodes: 12,
            inodes: None,
            ratio: 16 << 10,
            grow_to: None,
        })
        .unwrap();
        let mut allocator = Allocator::new(&geometry);
        let blocks = FileBlocks::allocate(&mut allocator, std::iter::once((0, length)));
        assert!(blocks.extent_count() >= length / LONGEST_EXTENT);
        let levels = levels(&Form::default(), blocks.extent_count());
        assert_eq!(levels.len(), 2);
        assert_eq!(blocks.node_count(), levels.iter().sum::<u64>());
        assert_eq!(blocks.used(), allocator.used);
        // The extents cover the file: logical blocks follow each other without gap, and no physical block
        // occurs twice.
        let mut next = 0;
        let mut last = 0;
        for extent in blocks.extents(0).map(Result::unwrap) {
            assert_eq!(u64::from(extent.logical), next);
            assert!(extent.physical >= last);
            next += u64::from(extent.length);
            last = extent.physical + u64::from(extent.length);
        }
        assert_eq!(next, length);
        // The leaves hold all of them.
        let mut entries = 0;
        for leaf in 0..levels[0] {
            let bytes = blocks.node_bytes(leaf, Checksum::START).unwrap();
            entries += u64::from(u16::from_le_bytes([bytes[2], bytes[3]]));
            let first = blocks.extents(leaf * 340).next().unwrap().unwrap();
            assert_eq!(bytes[12..16], first.logical.to_le_bytes());
        }
        assert_eq!(entries, blocks.extent_count());
    }
    #[test]
    fn a_tree_without_a_block_for_a_node_is_a_bug() {
        let pieces: Vec<Run> = (0..5).map(|number| Run { start: 100 + number * 2, length: 1 }).collect();
        let mut blocks = FileBlocks::default();
        for (logical, run) in (0..).zip(pieces) {
            blocks.push(logical, run);
        }
        // Five extents need a leaf, but no block was allocated for it.
        let error = blocks.root().unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Bug);
        assert!(error.what().contains("node 0 of an extent tree has no block"), "{error}");
        blocks.nodes.push(Run { start: 200, length: 1 });
        assert!(blocks.root().is_ok() && blocks.node_bytes(0, Checksum::START).is_ok());
        for number in [1, 2, 1 << 40] {
            let error = blocks.node_bytes(number, Checksum::START).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Bug, "{number}: {error}");
        }
    }
}
