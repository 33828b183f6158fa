//! The blocks of a file: the extents of ext4 of any depth, and the block pointers of ext2 and ext3.
//!
//! Both are trees, and a hostile one can point to the same node again and again. The blocks of a file are all
//! different, so a walk ends with an error once it has met more blocks than the volume has. The entries of an
//! extent tree ascend within the range that the node above gives, so no node fits in two places.

use super::Ext4;
use super::inode::{FLAG_EXTENTS, Raw, no_block};
use crate::error::Result;
use crate::filesystem::device::damaged;
use crate::filesystem::ext4::format::{ExtentEntry, ExtentHeader, ExtentIndex, ExtentTail};
use crate::units::{joined16, u64_of};
use crate::wire::Wire;

/// The highest tree that the kernel reads (EXT4_MAX_EXTENT_DEPTH).
const DEEPEST: u16 = 5;
/// A longer extent is not written yet and reads as zeros; the excess is its length (EXT_INIT_MAX_LEN).
const LONGEST_WRITTEN: u16 = 32768;
/// One past the last block of a file: block numbers have 32 bits.
const LAST: u64 = 1 << 32;
/// Pointers in the inode that point to data directly.
const DIRECT: usize = 12;

/// What a walk meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapped {
    /// Blocks with data: first block of the file, first block of the volume, and how many.
    Data { logical: u64, physical: u64, length: u64 },
    /// Blocks that are allocated to the file but not written yet.
    Unwritten { logical: u64, physical: u64, length: u64 },
    /// A block of the tree itself.
    Node { physical: u64 },
}

/// Whether a walk continues below a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    /// It does.
    On,
    /// It does not.
    Past,
}

type Each<'a> = &'a mut dyn FnMut(Mapped) -> Result<Go>;

/// A walk over the blocks of one file.
struct Walk<'a> {
    volume: &'a Ext4,
    raw: &'a Raw,
    /// How many more blocks it may meet.
    left: u64,
}

impl Ext4 {
    /// Passes all blocks of an inode to `each`, in the order of the file, each node before the blocks below
    /// it.
    pub(super) fn walk(&self, raw: &Raw, each: Each<'_>) -> Result<()> {
        let mut walk = Walk { volume: self, raw, left: self.layout.blocks };
        if raw.has(FLAG_EXTENTS) {
            walk.extents(&raw.inode.i_block, None, 0..LAST, each)
        } else {
            walk.pointers(each)
        }
    }
}

impl Walk<'_> {
    /// Counts blocks that the walk met.
    fn count(&mut self, length: u64) -> Result<()> {
        self.left = self.left.checked_sub(length).ok_or_else(|| {
            damaged("a file has more blocks than its filesystem").found(format!("inode {}", self.raw.number))
        })?;
        Ok(())
    }

    /// The error for an invalid tree.
    fn wrong(&self, what: &str) -> crate::error::Error {
        damaged(format!("an extent tree is wrong: {what}")).found(format!("inode {}", self.raw.number))
    }

    /// Refuses blocks outside of the volume.
    fn inside(&self, physical: u64, length: u64) -> Result<()> {
        let (first, blocks) = (self.volume.layout.first, self.volume.layout.blocks);
        let end = physical.checked_add(length).filter(|end| *end <= blocks && physical >= first);
        end.map(|_| ()).ok_or_else(|| no_block(physical, blocks))
    }

    /// The extents below a node of height `depth`, which must lie in the blocks `range` of the file.
    fn extents(
        &mut self,
        node: &[u8],
        depth: Option<u16>,
        range: std::ops::Range<u64>,
        each: Each<'_>,
    ) -> Result<()> {
        let header =
            ExtentHeader::read(node).map_err(|error| error.found(format!("inode {}", self.raw.number)))?;
        let capacity = (node.len() - ExtentHeader::LENGTH) / ExtentEntry::LENGTH;
        if header.eh_entries > header.eh_max || usize::from(header.eh_max) > capacity {
            return Err(self.wrong("a node has more entries than fit it"));
        }
        if header.eh_depth > DEEPEST || depth.is_some_and(|depth| depth != header.eh_depth) {
            return Err(self.wrong("a node is not of the height that its place wants"));
        }
        if header.eh_entries == 0 && depth.is_some() {
            return Err(self.wrong("a node below the root is empty"));
        }
        let entries = &node[ExtentHeader::LENGTH..][..usize::from(header.eh_entries) * ExtentEntry::LENGTH];
        let Some(below) = header.eh_depth.checked_sub(1) else { return self.leaf(entries, range, each) };
        let entries =
            entries.chunks_exact(ExtentIndex::LENGTH).map(ExtentIndex::read).collect::<Result<Vec<_>>>()?;
        let ends = entries.iter().skip(1).map(|entry| u64::from(entry.ei_block)).chain([range.end]);
        let mut from = range.start;
        for (entry, end) in entries.iter().zip(ends) {
            let start = u64::from(entry.ei_block);
            if start < from || start >= end || end > range.end {
                return Err(self.wrong("the pointers of a node do not ascend"));
            }
            from = end;
            let physical = joined16(entry.ei_leaf_lo, entry.ei_leaf_hi);
            self.inside(physical, 1)?;
            self.count(1)?;
            if each(Mapped::Node { physical })? == Go::On {
                let bytes = self.volume.block(physical)?;
                if !node_is_sound(self.volume, self.raw, &bytes) {
                    return Err(self.wrong(&format!("the checksum of block {physical} is wrong")));
                }
                self.extents(&bytes, Some(below), start..end, each)?;
            }
        }
        Ok(())
    }

    /// The extents of a leaf.
    fn leaf(&mut self, entries: &[u8], range: std::ops::Range<u64>, each: Each<'_>) -> Result<()> {
        let mut from = range.start;
        for entry in entries.chunks_exact(ExtentEntry::LENGTH) {
            let entry = ExtentEntry::read(entry)?;
            let unwritten = entry.ee_len > LONGEST_WRITTEN;
            let length = u64::from(if unwritten { entry.ee_len - LONGEST_WRITTEN } else { entry.ee_len });
            let (logical, physical) =
                (u64::from(entry.ee_block), joined16(entry.ee_start_lo, entry.ee_start_hi));
            if length == 0 || logical < from || logical + length > range.end {
                return Err(self.wrong("the extents of a node do not ascend"));
            }
            from = logical + length;
            self.inside(physical, length)?;
            self.count(length)?;
            each(if unwritten {
                Mapped::Unwritten { logical, physical, length }
            } else {
                Mapped::Data { logical, physical, length }
            })?;
        }
        Ok(())
    }

    /// The block pointers of ext2 and ext3: 12 to data, then one to a block of pointers, one to a block of
    /// such blocks, and one to a block of those.
    fn pointers(&mut self, each: Each<'_>) -> Result<()> {
        let pointers: Vec<u64> = numbers(&self.raw.inode.i_block);
        let (direct, trees) = pointers.split_at(DIRECT);
        self.data(direct, 0, each)?;
        let in_block = self.volume.layout.block / 4;
        let mut logical = u64_of(DIRECT);
        let mut span = 1;
        for (levels, tree) in (1..).zip(trees) {
            span *= in_block;
            if *tree != 0 {
                self.tree(*tree, levels, logical, each)?;
            }
            logical += span;
        }
        Ok(())
    }

    /// The blocks below a block of pointers that is `levels` above the data.
    fn tree(&mut self, physical: u64, levels: u32, logical: u64, each: Each<'_>) -> Result<()> {
        self.inside(physical, 1)?;
        self.count(1)?;
        if each(Mapped::Node { physical })? == Go::Past {
            return Ok(());
        }
        let pointers = numbers(&self.volume.block(physical)?);
        if levels == 1 {
            return self.data(&pointers, logical, each);
        }
        let span = (self.volume.layout.block / 4).pow(levels - 1);
        for (at, pointer) in (0..).zip(pointers).filter(|(_, pointer)| *pointer != 0) {
            self.tree(pointer, levels - 1, logical + at * span, each)?;
        }
        Ok(())
    }

    /// Pointers to data; consecutive ones are one run.
    fn data(&mut self, pointers: &[u64], logical: u64, each: Each<'_>) -> Result<()> {
        let mut at = 0;
        while let Some(physical) = pointers.get(at).copied() {
            if physical == 0 {
                at += 1;
                continue;
            }
            let follows = |(pointer, expected): &(&u64, u64)| **pointer == *expected;
            let length = pointers[at..].iter().zip(physical..).take_while(follows).count();
            let run = u64_of(length);
            self.inside(physical, run)?;
            self.count(run)?;
            each(Mapped::Data { logical: logical + u64_of(at), physical, length: run })?;
            at += length;
        }
        Ok(())
    }
}

/// The 32-bit pointers in `bytes`.
fn numbers(bytes: &[u8]) -> Vec<u64> {
    words(bytes).map(u64::from).collect()
}

/// The 32-bit words of `bytes`.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word))
}

/// Whether the checksum of a block of an extent tree is right; true if there is none. It comes after the last
/// possible entry.
pub(super) fn node_is_sound(volume: &Ext4, raw: &Raw, bytes: &[u8]) -> bool {
    let Some(seed) = volume.layout.seed else { return true };
    let Ok(header) = ExtentHeader::read(bytes) else { return false };
    let end = ExtentHeader::LENGTH + usize::from(header.eh_max) * ExtentEntry::LENGTH;
    let Some((covered, tail)) = bytes.split_at_checked(end) else { return false };
    ExtentTail::read(tail).is_ok_and(|tail| tail.eb_checksum == raw.seed(seed).with(covered).value())
}

const _: () = assert!(ExtentEntry::LENGTH == ExtentIndex::LENGTH);
