//! Directories: one block with entries in the order of their names, or an index over hashed blocks, built in
//! one pass with as many levels as it needs (kernel.org, ext4, "Directory Entries" and "Hash Tree
//! Directories").
//!
//! The kernel only adds an index to a directory with a single block. A directory that is written with more
//! blocks and no index would always be searched linearly, and could never hold more than 65,000
//! subdirectories.

use super::checksum::Checksum;
use super::format::{
    BLOCK_LENGTH, DirectoryEntry, DirectoryTail, IndexCount, IndexEntry, IndexRoot, IndexTail,
    LOST_AND_FOUND, ROOT, entry_length,
};
use super::hash::{NameHash, half_md4};
use super::inodes::Inodes;
use crate::error::{Error, Kind, Result};
use crate::filesystem::mode::{MODE_DIRECTORY, file_type, mode};
use crate::tree::{NodeId, Tree};
use crate::units::{index, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// Bytes of a block that entries can use.
const ENTRY_SPACE: usize = BLOCK_LENGTH - DirectoryTail::LENGTH;
/// How full leaves are made: a quarter stays free, so that the first names added at run time do not split
/// every leaf.
const COMFORTABLE: usize = ENTRY_SPACE / 4 * 3;
/// Bytes of the entries `.` and `..`, each as short as possible.
const DOT: usize = entry_length(1);
const DOTS: usize = DOT + entry_length(2);
/// Where the pointers of the root block begin: after `.`, `..` and the index root.
const ROOT_POINTERS: usize = DOTS + IndexRoot::LENGTH;
/// Index entries of the root block: (4096 - 32 - 8 of tail) / 8 = 507.
const ROOT_LIMIT: usize = (BLOCK_LENGTH - ROOT_POINTERS - IndexTail::LENGTH) / IndexEntry::LENGTH;
/// Where the pointers of an inner block begin: after a blank entry as long as the block.
const NODE_POINTERS: usize = DirectoryEntry::LENGTH;
/// Index entries of an inner block: (4096 - 8 - 8 of tail) / 8 = 510.
const NODE_LIMIT: usize = (BLOCK_LENGTH - NODE_POINTERS - IndexTail::LENGTH) / IndexEntry::LENGTH;
/// Leaves below one inner block; the rest is free for leaves that splits will add.
const NODE_COMFORTABLE: usize = NODE_LIMIT / 4 * 3;
/// The largest number of leaves under two levels. The feature large_dir allows a third level, but GRUB
/// refuses it.
const MOST_LEAVES: usize = ROOT_LIMIT * NODE_LIMIT;
/// Blocks of lost+found, so that e2fsck can put files there without needing space: 16 KiB, as mke2fs makes it.
pub(super) const LOST_AND_FOUND_BLOCKS: u64 = 4;

/// The name of the directory that e2fsck needs.
pub(super) const LOST_AND_FOUND_NAME: &[u8] = b"lost+found";

/// An entry of a directory beside `.` and `..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Child {
    /// A node of the tree.
    Node(NodeId),
    /// lost+found. A tree has its own only if it was made from the root of a filesystem.
    LostAndFound,
}

/// A directory with an index: its entries by hash, cut into leaves.
#[derive(Debug)]
pub(super) struct Index {
    /// Entries in the order of their hashes; `None` is lost+found.
    order: Vec<u32>,
    /// Where each leaf begins in the order, and its hash in the index.
    leaves: Vec<(u32, u32)>,
    /// How many leaves each inner block has; empty for an index of one level.
    nodes: Vec<u32>,
}

/// The number in [`Index::order`] for the lost+found that is not a node.
const LOST: u32 = u32::MAX;

impl Index {
    /// Blocks of the directory: root, inner blocks, leaves.
    pub(super) fn blocks(&self) -> u64 {
        1 + u64_of(self.nodes.len()) + u64_of(self.leaves.len())
    }

    /// The block number of leaf `leaf`.
    fn leaf_block(&self, leaf: usize) -> Result<u32> {
        narrow(1 + self.nodes.len() + leaf, "a block of a directory")
    }

    /// Where leaf `number` begins in the order, and its hash.
    fn leaf(&self, number: usize) -> Result<(usize, u32)> {
        let leaf = self.leaves.get(number).ok_or_else(|| missing("leaf", number))?;
        Ok((index(leaf.0), leaf.1))
    }

    /// The numbers of the nodes whose entries are in leaf `number`.
    fn in_leaf(&self, number: usize) -> Result<&[u32]> {
        let (from, _) = self.leaf(number)?;
        let to = if number + 1 == self.leaves.len() { self.order.len() } else { self.leaf(number + 1)?.0 };
        self.order.get(from..to).ok_or_else(|| missing("part of the order of leaf", number))
    }

    /// The pointers to leaves `from..to`.
    fn to_leaves(&self, from: usize, to: usize) -> Result<Vec<IndexEntry>> {
        (from..to)
            .map(|leaf| Ok(IndexEntry { hash: self.leaf(leaf)?.1, block: self.leaf_block(leaf)? }))
            .collect()
    }

    /// The first leaf below inner block `node`, and how many there are.
    fn below(&self, node: usize) -> Result<(usize, usize)> {
        let before = self.nodes.get(..node).ok_or_else(|| missing("inner block", node))?;
        let count = self.nodes.get(node).ok_or_else(|| missing("inner block", node))?;
        Ok((before.iter().map(|count| index(*count)).sum(), index(*count)))
    }
}

/// The error for a missing part of an index.
fn missing(what: &str, number: usize) -> Error {
    Error::bug(format!("the index of a directory has no {what} {number}"))
}

/// Everything that the entries of directories depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directories<'a> {
    pub(super) tree: &'a Tree,
    pub(super) inodes: &'a Inodes,
    pub(super) hash_seed: &'a [u8; 16],
}

impl Directories<'_> {
    /// The entries of a directory, by name. In the root, the lost+found that is not a node comes first.
    fn children(&self, directory: NodeId) -> impl Iterator<Item = Child> + '_ {
        let own = directory == NodeId::ROOT && self.inodes.lost_and_found_is_ours();
        own.then_some(Child::LostAndFound).into_iter().chain(self.tree.children(directory).map(Child::Node))
    }

    fn name(&self, child: Child) -> &[u8] {
        match child {
            Child::Node(node) => self.tree.name(node),
            Child::LostAndFound => LOST_AND_FOUND_NAME,
        }
    }

    /// Whether all entries fit in one block.
    pub(super) fn fits_one_block(&self, directory: NodeId) -> bool {
        let mut length = DOTS;
        self.children(directory).all(|child| {
            length += entry_length(self.name(child).len());
            length <= ENTRY_SPACE
        })
    }

    /// The index of a directory that needs more than one block.
    ///
    /// # Errors
    /// [`Kind::Capacity`] where two levels cannot hold the names.
    pub(super) fn index(&self, directory: NodeId) -> Result<Index> {
        self.index_within(directory, MOST_LEAVES)
    }

    /// The index of a directory with at most `most` leaves.
    fn index_within(&self, directory: NodeId, most: usize) -> Result<Index> {
        let mut hashed: Vec<(NameHash, u32)> = self
            .children(directory)
            .map(|child| {
                let number = match child {
                    Child::Node(node) => node.get(),
                    Child::LostAndFound => LOST,
                };
                (half_md4(self.name(child), self.hash_seed), number)
            })
            .collect();
        hashed.sort_unstable();
        let mut leaves = self.leaves(&hashed, COMFORTABLE)?;
        if leaves.len() > most {
            leaves = self.leaves(&hashed, ENTRY_SPACE)?;
        }
        if leaves.len() > most {
            return Err(Error::new(Kind::Capacity, "too many names in one directory for an ext4 index")
                .at(self.tree.path(directory))
                .expected(format!("names that fill at most {most} blocks"))
                .found(format!("{} names that fill {} blocks", hashed.len(), leaves.len()))
                .why(
                    "an index has two levels; the feature large_dir would add a third, and GRUB refuses it",
                ));
        }
        let nodes = inner_blocks(leaves.len())?;
        let order = hashed.into_iter().map(|(_, number)| number).collect();
        Ok(Index { order, leaves, nodes })
    }

    /// Cuts hashed names into leaves of at most `budget` bytes.
    fn leaves(&self, hashed: &[(NameHash, u32)], budget: usize) -> Result<Vec<(u32, u32)>> {
        let mut leaves: Vec<(u32, u32)> = vec![(0, 0)];
        let mut used = 0;
        let mut last = 0;
        for (position, (hash, number)) in hashed.iter().enumerate() {
            let length = entry_length(self.name(child(*number)).len());
            if used > 0 && used + length > budget {
                // If names of one hash are on both sides of a cut, the lowest bit of the index entry says so,
                // and a search continues in the next leaf.
                let continued = u32::from(hash.major == last);
                leaves.push((narrow(position, "a name's place in the order")?, hash.major | continued));
                used = 0;
            }
            used += length;
            last = hash.major;
        }
        Ok(leaves)
    }

    /// Block `number` of a directory.
    pub(super) fn block(&self, directory: NodeId, index: Option<&Index>, number: u64) -> Result<Block> {
        let seed = self.inodes.seed(self.inodes.number(directory)?);
        let number = usize_of(number);
        match index {
            None if number > 0 => lost_and_found(seed, number),
            None => self.plain(directory, seed),
            Some(index) if number == 0 => self.index_root(directory, index, seed),
            Some(index) if number <= index.nodes.len() => index_node(index, number - 1, seed),
            Some(index) => self.leaf(index, number - 1 - index.nodes.len(), seed),
        }
    }

    /// `.` and `..`, the second `length` bytes long.
    fn dots(&self, out: &mut Block, directory: NodeId, length: usize) -> Result<()> {
        let own = self.inodes.number(directory)?;
        let parent = self.inodes.number(self.tree.parent(directory))?;
        dots(out, own, parent, length)
    }

    /// The block of a directory without index.
    fn plain(&self, directory: NodeId, seed: Checksum) -> Result<Block> {
        let mut out = [0; BLOCK_LENGTH];
        let mut children = self.children(directory).peekable();
        let dotdot = if children.peek().is_some() { DOTS - DOT } else { ENTRY_SPACE - DOT };
        self.dots(&mut out, directory, dotdot)?;
        self.entries(&mut out, DOTS, children)?;
        tail(&mut out, seed);
        Ok(out)
    }

    /// Entries from `offset` on; the last one extends to the tail.
    fn entries(&self, out: &mut Block, offset: usize, children: impl Iterator<Item = Child>) -> Result<()> {
        let mut offset = offset;
        let mut children = children.peekable();
        while let Some(child) = children.next() {
            let name = self.name(child);
            let length =
                if children.peek().is_some() { entry_length(name.len()) } else { ENTRY_SPACE - offset };
            let (inode, mode) = match child {
                Child::Node(node) => (self.inodes.number(node)?, mode(self.tree, node)),
                Child::LostAndFound => (LOST_AND_FOUND, MODE_DIRECTORY),
            };
            entry(out, offset, length, inode, mode, name)?;
            offset += length;
        }
        Ok(())
    }

    /// Leaf `number` of an index.
    fn leaf(&self, index: &Index, number: usize, seed: Checksum) -> Result<Block> {
        let mut out = [0; BLOCK_LENGTH];
        self.entries(&mut out, 0, index.in_leaf(number)?.iter().map(|number| child(*number)))?;
        tail(&mut out, seed);
        Ok(out)
    }

    /// The first block. Its entry `..` is long enough to hide the root of the index from readers that do not
    /// know indexes.
    fn index_root(&self, directory: NodeId, index: &Index, seed: Checksum) -> Result<Block> {
        let mut out = [0; BLOCK_LENGTH];
        self.dots(&mut out, directory, BLOCK_LENGTH - DOT)?;
        let root = IndexRoot {
            hash_version: 1, // half MD4; s_flags says how bytes are signed
            indirect_levels: u8::from(!index.nodes.is_empty()),
            ..IndexRoot::BLANK
        };
        root.write_to(&mut out[DOTS..]);
        let pointers = if index.nodes.is_empty() {
            index.to_leaves(0, index.leaves.len())?
        } else {
            let to_node = |node: usize| {
                let hash = index.leaf(index.below(node)?.0)?.1;
                Ok(IndexEntry { hash, block: narrow(1 + node, "a block of a directory")? })
            };
            (0..index.nodes.len()).map(to_node).collect::<Result<_>>()?
        };
        index_entries(&mut out, ROOT_POINTERS, ROOT_LIMIT, &pointers, seed)?;
        Ok(out)
    }
}

/// A block of a directory.
pub(super) type Block = [u8; BLOCK_LENGTH];

/// One directory entry at `offset`, `length` bytes long.
fn entry(out: &mut Block, offset: usize, length: usize, inode: u32, mode: u16, name: &[u8]) -> Result<()> {
    let head = DirectoryEntry {
        inode,
        rec_len: narrow(length, "rec_len")?,
        name_len: narrow(name.len(), "name_len")?,
        file_type: file_type(mode),
    };
    head.write_to(&mut out[offset..]);
    let from = offset + DirectoryEntry::LENGTH;
    out[from..from + name.len()].copy_from_slice(name);
    Ok(())
}

/// `.` and `..`, the second `length` bytes long.
fn dots(out: &mut Block, own: u32, parent: u32, length: usize) -> Result<()> {
    entry(out, 0, DOT, own, MODE_DIRECTORY, b".")?;
    entry(out, DOT, length, parent, MODE_DIRECTORY, b"..")
}

/// The checksum of a block without index, in its tail.
fn tail(out: &mut Block, seed: Checksum) {
    let det_checksum = seed.with(&out[..ENTRY_SPACE]).value();
    DirectoryTail { det_checksum, ..DirectoryTail::BLANK }.write_to(&mut out[ENTRY_SPACE..]);
}

/// Block `number` of the lost+found that is not a node: empty, but allocated.
pub(super) fn lost_and_found(seed: Checksum, number: usize) -> Result<Block> {
    let mut out = [0; BLOCK_LENGTH];
    if number == 0 {
        dots(&mut out, LOST_AND_FOUND, ROOT, ENTRY_SPACE - DOT)?;
    } else {
        entry(&mut out, 0, ENTRY_SPACE, 0, 0, b"")?;
    }
    tail(&mut out, seed);
    Ok(out)
}

/// The child that a number of [`Index::order`] stands for.
const fn child(number: u32) -> Child {
    if number == LOST { Child::LostAndFound } else { Child::Node(NodeId::new(number)) }
}

/// How many leaves each inner block gets; empty if the root has space for all. Leaves are spread evenly, so
/// that every inner block can grow.
fn inner_blocks(leaves: usize) -> Result<Vec<u32>> {
    if leaves <= ROOT_LIMIT {
        return Ok(Vec::new());
    }
    let nodes = leaves.div_ceil(NODE_COMFORTABLE).min(ROOT_LIMIT);
    let share =
        |node| narrow((node + 1) * leaves / nodes - node * leaves / nodes, "leaves of an inner block");
    (0..nodes).map(share).collect()
}

/// Inner block `node` of an index: a blank entry as long as the block, then pointers.
fn index_node(index: &Index, node: usize, seed: Checksum) -> Result<Block> {
    let mut out = [0; BLOCK_LENGTH];
    entry(&mut out, 0, BLOCK_LENGTH, 0, 0, b"")?;
    let (from, count) = index.below(node)?;
    index_entries(&mut out, NODE_POINTERS, NODE_LIMIT, &index.to_leaves(from, from + count)?, seed)?;
    Ok(out)
}

/// The pointers of an index block from `offset` on. Limit and count replace the first hash, and the checksum
/// comes after the last possible pointer. It covers the pointers in use, four reserved bytes, and its own
/// four bytes as zero.
fn index_entries(
    out: &mut Block,
    offset: usize,
    limit: usize,
    pointers: &[IndexEntry],
    seed: Checksum,
) -> Result<()> {
    if pointers.is_empty() || pointers.len() > limit {
        return Err(Error::bug("an index block has no pointer, or more than its limit")
            .expected(format!("1 to {limit}"))
            .found(pointers.len()));
    }
    for (pointer, place) in pointers.iter().zip(out[offset..].chunks_exact_mut(IndexEntry::LENGTH)) {
        pointer.write_to(place);
    }
    let count = IndexCount { limit: narrow(limit, "limit")?, count: narrow(pointers.len(), "count")? };
    count.write_to(&mut out[offset..]);
    let used = offset + pointers.len() * IndexEntry::LENGTH;
    let dt_checksum = seed.with(&out[..used]).with(&[0; IndexTail::LENGTH]).value();
    IndexTail { dt_checksum, ..IndexTail::BLANK }.write_to(&mut out[offset + limit * IndexEntry::LENGTH..]);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Builder, Content, Meta, Time};

    #[test]
    fn leaves_are_filled_when_they_have_to_be_and_too_many_names_are_told() {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("test");
        // An entry with a name of 55 bytes takes 64: 63 fill a leaf's 4084 bytes, 47 three quarters of it.
        for number in 0..630 {
            let target = format!("/d/{number:055}");
            builder
                .put(target.as_bytes(), Meta::root(0o644, Time::default()), Content::Fifo, origin)
                .unwrap();
        }
        let tree = builder.finish(1).unwrap();
        let (inodes, _) = Inodes::new(&tree, Checksum::START).unwrap();
        let directories = Directories { tree: &tree, inodes: &inodes, hash_seed: &[1; 16] };
        let directory = tree.find(b"/d").unwrap();
        assert_eq!(directories.index_within(directory, 14).unwrap().leaves.len(), 14);
        assert_eq!(directories.index_within(directory, 13).unwrap().leaves.len(), 10);
        assert_eq!(directories.index_within(directory, 10).unwrap().leaves.len(), 10);
        let error = directories.index_within(directory, 9).unwrap_err();
        assert_eq!(error.kind(), Kind::Capacity);
        let text = error.to_string();
        for word in ["too many names in one directory", "at /d", "630 names that fill 10 blocks", "large_dir"]
        {
            assert!(text.contains(word), "no `{word}` in {text}");
        }
    }

    #[test]
    fn inner_blocks_share_the_leaves_evenly_and_within_their_limits() {
        assert!(inner_blocks(ROOT_LIMIT).unwrap().is_empty());
        for leaves in [ROOT_LIMIT + 1, 1000, 100_000, MOST_LEAVES - 1, MOST_LEAVES] {
            let nodes = inner_blocks(leaves).unwrap();
            assert!(nodes.len() <= ROOT_LIMIT);
            assert!(nodes.iter().all(|count| *count >= 1 && index(*count) <= NODE_LIMIT));
            assert_eq!(nodes.iter().map(|count| index(*count)).sum::<usize>(), leaves);
        }
    }
}
