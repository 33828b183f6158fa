//! Where everything goes: inodes into blocks of inodes, data into blocks of its own, in one ascending run. The first inodes
//! stand behind the superblock, in its block.

use std::sync::Arc;

use super::Parameters;
use super::directory::Names;
use super::format::{CompactInode, ExtendedInode, Layout, MOST_ROOT, MapHeader, NO_BLOCK, SLOT};
use super::holes::Chunks;
use super::inodes::Contents;
use super::map::Packs;
use super::pack::{File, Packed, holds_holes};
use super::superblock;
use crate::error::{Error, Result};
use crate::tree::{Content, NodeId, Tree};
use crate::units::{Bytes, index, narrow, u64_of};
use crate::wire::Wire;

/// How many blocks of inodes take more at a time. Enough that the last parts of files fill them well, and few enough that
/// a file's last part is written near the rest of it, while it is still open.
const OPEN: usize = 16;

/// Where an inode and its data are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    /// The first byte of the inode.
    pub(super) at: u64,
    /// The first block of its data, or [`NO_BLOCK`]; of data that is packed byte by byte its first byte among all that is.
    pub(super) start: u64,
    /// Whether the blocks are those of an earlier inode.
    pub(super) shares: bool,
}

/// What an inode holds.
#[derive(Clone, Debug)]
pub(super) enum Data<'a> {
    None,
    /// The entries of a directory, or the target of a symbolic link: this many bytes.
    Rendered {
        length: u64,
    },
    /// A file whose bytes are referred to.
    Host {
        length: u64,
    },
    /// A file that was packed and did not become smaller.
    Stored {
        file: &'a File,
    },
    /// A file in compressed form.
    Compressed {
        file: &'a File,
    },
    /// A file with holes.
    Chunked {
        size: u64,
        chunks: Chunks,
    },
}

/// The sizes of an inode's parts.
#[derive(Clone, Debug)]
pub(super) struct Shape<'a> {
    pub(super) compact: bool,
    /// Bytes of attributes.
    xattrs: u64,
    /// Bytes of the map of a compressed file or of one with holes, and of what fills up to it.
    map: u64,
    /// Bytes in a block.
    block: u64,
    /// Whether compressed chunks are packed byte by byte.
    loose: bool,
    pub(super) data: Data<'a>,
}

impl Shape<'_> {
    /// Bytes of the inode itself and its attributes.
    pub(super) const fn head(&self) -> u64 {
        let inode = if self.compact { CompactInode::LENGTH } else { ExtendedInode::LENGTH };
        u64_of(inode) + self.xattrs
    }

    /// Where what is left of the last block begins, from the first byte of the inode.
    pub(super) const fn behind(&self) -> u64 {
        self.head() + self.map
    }

    /// The length of the content as it is read.
    pub(super) const fn size(&self) -> u64 {
        match &self.data {
            Data::None => 0,
            Data::Rendered { length } | Data::Host { length } => *length,
            Data::Stored { file } | Data::Compressed { file } => file.size,
            Data::Chunked { size, .. } => *size,
        }
    }

    /// The bytes behind the inode: what is left of the last block, where inode and rest fit one block together.
    pub(super) const fn tail(&self) -> u64 {
        match self.data {
            Data::Rendered { .. } | Data::Host { .. } | Data::Stored { .. } => {
                let tail = self.size() % self.block;
                if self.behind() + tail <= self.block { tail } else { 0 }
            }
            _ => 0,
        }
    }

    /// Whether all that stands behind the inode is all that it holds, so that its data is not read for two places.
    const fn is_in_one_place(&self) -> bool {
        !matches!(self.data, Data::Host { .. }) || self.in_blocks() == 0
    }

    /// The bytes of the content that stand in blocks of their own.
    pub(super) const fn in_blocks(&self) -> u64 {
        match self.data {
            Data::Compressed { .. } | Data::Chunked { .. } => 0,
            _ => self.size() - self.tail(),
        }
    }

    /// The bytes that are made when they are needed, from the first of the inode on.
    pub(super) const fn rendered(&self) -> u64 {
        match self.data {
            Data::Rendered { .. } => self.behind() + self.tail(),
            _ => self.behind(),
        }
    }

    /// How the inode says where its data is.
    pub(super) const fn layout(&self) -> Layout {
        match self.data {
            Data::Compressed { .. } if self.loose => Layout::Full,
            Data::Compressed { .. } => Layout::Compact,
            Data::Chunked { .. } => Layout::Chunked,
            _ if self.tail() > 0 => Layout::Inline,
            _ => Layout::Plain,
        }
    }
}

/// Where the map of a compressed file begins, behind its header and so many bytes of inode and attributes.
pub(super) const fn map_at(head: u64) -> u64 {
    head.next_multiple_of(8) + u64_of(MapHeader::LENGTH)
}

/// A filesystem that is laid out.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) contents: Contents,
    pub(super) packed: Arc<Packed>,
    placed: Vec<Placed>,
    /// The first byte of what is packed byte by byte.
    loose: u64,
    /// The first block of the shared attributes; 0 where there are none.
    pub(super) shared: u64,
    /// One past the last block that is used.
    pub(super) end: u64,
}

impl Plan {
    /// Lays `contents` out.
    pub(super) fn new(contents: Contents, packed: Arc<Packed>) -> Result<Self> {
        let options = &contents.options;
        let is_loose = options.loose;
        let mut space = Space::new(options);
        let placed = Vec::with_capacity(contents.inodes.len());
        let mut plan = Self { contents, packed, placed, loose: 0, shared: 0, end: 0 };
        let mut loose = 0;
        for number in 0..narrow(plan.contents.inodes.len(), "the number of inodes")? {
            let node = plan.contents.inodes.node(number)?;
            let shape = plan.shape(number, node)?;
            let at = space.inode(shape.behind() + shape.tail(), shape.is_in_one_place());
            let blocks = plan.blocks(&shape)?;
            let earlier = match plan.packed.same(number) {
                Some(earlier) => plan.equal(earlier, &shape)?,
                None => None,
            };
            let start = match earlier {
                Some(start) => start,
                None => match &shape.data {
                    Data::Compressed { file } if is_loose => {
                        loose += plan.packed.length(file)?;
                        loose - plan.packed.length(file)?
                    }
                    _ if blocks == 0 => NO_BLOCK.into(),
                    _ => space.data(blocks),
                },
            };
            plan.placed.push(Placed { at, start, shares: earlier.is_some() });
        }
        let block = plan.contents.options.block;
        let shared = u64_of(plan.contents.xattrs.shared.len()).div_ceil(block);
        if shared > 0 {
            plan.shared = space.data(shared);
        }
        plan.loose = space.data(loose.div_ceil(block)) * block;
        plan.end = space.end;
        if plan.nid(0)? > MOST_ROOT {
            return Err(Error::bug("the root directory is too far from the beginning"));
        }
        Ok(plan)
    }

    /// The blocks of an earlier inode with the same data, where they are laid out alike.
    fn equal(&self, earlier: u32, shape: &Shape<'_>) -> Result<Option<u64>> {
        let other = self.shape(earlier, self.contents.inodes.node(earlier)?)?;
        let alike = (other.layout(), other.in_blocks()) == (shape.layout(), shape.in_blocks());
        Ok(alike.then_some(self.placed(earlier)?.start).filter(|start| *start != u64::from(NO_BLOCK)))
    }

    /// Where an inode is.
    pub(super) fn placed(&self, number: u32) -> Result<Placed> {
        let placed = self.placed.get(index(number)).copied();
        placed.ok_or_else(|| Error::bug(format!("inode {number} has no place")))
    }

    /// Whether an inode stands in the block of the superblock.
    pub(super) fn is_in_front(&self, placed: Placed) -> bool {
        placed.at < self.front().get()
    }

    /// The bytes of the superblock's blocks.
    pub(super) fn front(&self) -> Bytes {
        self.contents.options.offset(superblock::blocks(&self.contents.options))
    }

    /// The number by which directories lead to an inode.
    pub(super) fn nid(&self, number: u32) -> Result<u64> {
        Ok(self.placed(number)?.at / SLOT)
    }

    /// The first byte of an inode's data that has blocks.
    pub(super) fn address(&self, shape: &Shape<'_>, placed: Placed) -> Bytes {
        match shape.data {
            Data::Compressed { .. } if self.contents.options.loose => Bytes::new(self.loose + placed.start),
            _ => self.contents.options.offset(placed.start),
        }
    }

    /// How many blocks the data of an inode takes.
    pub(super) fn blocks(&self, shape: &Shape<'_>) -> Result<u64> {
        match &shape.data {
            Data::Compressed { file } => Ok(self.packed.length(file)?.div_ceil(shape.block)),
            Data::Chunked { chunks, .. } => Ok(chunks.blocks()),
            _ => Ok(shape.in_blocks().div_ceil(shape.block)),
        }
    }

    /// The packs of a compressed file's map, behind so many bytes of inode and attributes.
    pub(super) fn packs(&self, file: &File, head: u64) -> Packs {
        Packs::new(file.size.div_ceil(self.contents.options.block), map_at(head))
    }

    /// What an inode holds, and how large its parts are.
    pub(super) fn shape(&self, number: u32, node: NodeId) -> Result<Shape<'_>> {
        let (contents, block) = (&self.contents, self.contents.options.block);
        let data = self.data(number, node)?;
        let xattrs = u64_of(contents.xattrs.behind(contents.tree.node(node).meta.xattrs)?.len());
        let mut shape = Shape { compact: false, xattrs, map: 0, block, loose: contents.options.loose, data };
        shape.compact = contents.is_compact(number, node, shape.size())?;
        let head = shape.head();
        shape.map = match &shape.data {
            // The address of the first chunk, and how many bytes each takes.
            Data::Compressed { file } if shape.loose => map_at(head) + 8 + 4 * u64::from(file.count) - head,
            Data::Compressed { file } => map_at(head) + self.packs(file, head).length() - head,
            Data::Chunked { chunks, .. } => 4 * chunks.count(),
            _ => 0,
        };
        Ok(shape)
    }

    fn data(&self, number: u32, node: NodeId) -> Result<Data<'_>> {
        let tree = &self.contents.tree;
        Ok(match tree.node(node).content {
            Content::Directory => {
                Data::Rendered { length: Names::new(tree, node).length(self.contents.options.block) }
            }
            Content::Symlink { length, .. } => Data::Rendered { length: length.into() },
            Content::File { .. } | Content::Text { .. } | Content::Slice { .. } => {
                let size = tree.size(node);
                match self.packed.file(number) {
                    Some(file) if self.packed.is_stored(file)? => Data::Stored { file },
                    Some(file) => Data::Compressed { file },
                    None if holds_holes(tree, node, self.contents.options.codec.is_some()) => {
                        Data::Chunked { size, chunks: chunks(tree, node, self.contents.options.block)? }
                    }
                    None => Data::Host { length: size },
                }
            }
            _ => Data::None,
        })
    }

    /// Whether any file has holes.
    pub(super) fn has_chunks(&self) -> Result<bool> {
        for (number, node) in self.contents.inodes.all() {
            if self.contents.tree.ranges(node).is_some()
                && matches!(self.data(number, node)?, Data::Chunked { .. })
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The chunks of a file whose holes are kept.
fn chunks(tree: &Tree, node: NodeId, block: u64) -> Result<Chunks> {
    let ranges = tree.ranges(node).ok_or_else(|| Error::bug(format!("node {} has no holes", node.get())))?;
    Ok(Chunks::new(ranges, tree.size(node), block))
}

/// The blocks that are left, and the blocks of inodes that are not full.
struct Space {
    block: u64,
    /// The next block.
    end: u64,
    /// The first free byte of each, and how many are free; the oldest first.
    open: Vec<(u64, u64)>,
    /// Where the superblock's blocks end.
    front: u64,
}

impl Space {
    fn new(options: &Parameters) -> Self {
        let (end, at) = (superblock::blocks(options), superblock::end().next_multiple_of(SLOT));
        let front = end * options.block;
        Self { block: options.block, end, open: vec![(at, front - at)], front }
    }

    /// The place of an inode of `length` bytes with all that stands behind it: in the open block that it fills best, or in
    /// blocks of its own. Only some may be `in_front`, beside the superblock.
    fn inode(&mut self, length: u64, in_front: bool) -> u64 {
        let may = |at: u64| in_front || at >= self.front;
        let fitting = self.open.iter().enumerate().filter(|(_, (at, free))| *free >= length && may(*at));
        let best = fitting.min_by_key(|(_, (_, free))| *free).map(|(number, _)| number);
        let (at, free) = match best {
            Some(number) => self.open.remove(number),
            None => {
                let blocks = length.div_ceil(self.block);
                let at = self.end * self.block;
                self.end += blocks;
                (at, blocks * self.block)
            }
        };
        let used = length.next_multiple_of(SLOT).min(free);
        if free - used >= SLOT {
            self.open.push((at + used, free - used));
        }
        if self.open.len() > OPEN {
            let fullest = self.open.iter().enumerate().min_by_key(|(_, (_, free))| *free);
            if let Some(number) = fullest.map(|(number, _)| number) {
                self.open.remove(number);
            }
        }
        at
    }

    /// The first of `blocks` blocks for data.
    const fn data(&mut self, blocks: u64) -> u64 {
        let start = self.end;
        self.end += blocks;
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::tree::{Builder, Meta, Time};

    #[test]
    fn a_file_whose_holes_are_not_known_is_a_bug_and_no_hole() {
        let mut builder = Builder::new(Time::default());
        let (meta, origin) = (Meta::root(0o644, Time::default()), builder.origin("test"));
        builder.text(b"/full", vec![1; 9000], meta, origin).unwrap();
        let tree = builder.finish(1).unwrap();
        let full = tree.find(b"/full").unwrap();
        let error = chunks(&tree, full, 4096).unwrap_err();
        assert_eq!(
            (error.kind(), error.what()),
            (Kind::Bug, format!("node {} has no holes", full.get()).as_str())
        );
    }
}
