//! Directories: one block with entries in the order of their names, or an index over hashed blocks, built in
//! one pass with as many levels as it needs (kernel.org, ext4, "Directory Entries" and "Hash Tree
//! Directories").
//!
//! The kernel only adds an index to a directory with a single block. A directory that is written with more
//! blocks and no index would always be searched linearly, and could never hold more than 65,000
//! subdirectories.

use super::checksum::Checksum;
use super::form::Form;
use super::format::features::incompat;
use super::format::{
    DirectoryEntry, DirectoryTail, IndexCount, IndexEntry, IndexRoot, IndexTail, LOST_AND_FOUND, ROOT,
    entry_length,
};
use super::hash::{NameHash, half_md4};
use super::inodes::Inodes;
use crate::error::{Error, Kind, Result};
use crate::filesystem::mode::{MODE_DIRECTORY, file_type, mode};
use crate::tree::{NodeId, Tree};
use crate::units::{index, narrow, u64_of, usize_of};
use crate::wire::Wire;

/// Bytes of the entries `.` and `..`, each as short as possible.
const DOT: usize = entry_length(1);
const DOTS: usize = DOT + entry_length(2);
/// Where the pointers of the root block begin: after `.`, `..` and the index root.
const ROOT_POINTERS: usize = DOTS + IndexRoot::LENGTH;
/// Where the pointers of an inner block begin: after a blank entry as long as the block.
const NODE_POINTERS: usize = DirectoryEntry::LENGTH;
/// The space that blocks of directories have.
impl Form {
    /// Bytes of a block that entries can use.
    fn entry_space(&self) -> usize {
        self.block_length() - if self.has_checksums() { DirectoryTail::LENGTH } else { 0 }
    }

    /// How full leaves are made: a quarter stays free, so that the first names added at run time do not split
    /// every leaf.
    fn comfortable(&self) -> usize {
        self.entry_space() / 4 * 3
    }

    /// Index entries of a block from byte `from` on.
    fn index_limit(&self, from: usize) -> usize {
        let tail = if self.has_checksums() { IndexTail::LENGTH } else { 0 };
        (self.block_length() - from - tail) / IndexEntry::LENGTH
    }

    /// Index entries of the root block: (4096 - 32 - 8 of tail) / 8 = 507.
    fn root_limit(&self) -> usize {
        self.index_limit(ROOT_POINTERS)
    }

    /// Index entries of an inner block: (4096 - 8 - 8 of tail) / 8 = 510.
    fn node_limit(&self) -> usize {
        self.index_limit(NODE_POINTERS)
    }

    /// The largest number of leaves under two levels. The feature large_dir allows a third level, but GRUB
    /// refuses it.
    fn most_leaves(&self) -> usize {
        self.root_limit() * self.node_limit()
    }
}

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
    pub(super) form: &'a Form,
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
            length <= self.form.entry_space()
        })
    }

    /// The index of a directory that needs more than one block.
    ///
    /// # Errors
    /// [`Kind::Capacity`] where two levels cannot hold the names.
    pub(super) fn index(&self, directory: NodeId) -> Result<Index> {
        self.index_within(directory, self.form.most_leaves())
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
        let mut leaves = self.leaves(&hashed, self.form.comfortable())?;
        if leaves.len() > most {
            leaves = self.leaves(&hashed, self.form.entry_space())?;
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
        let nodes = inner_blocks(self.form, leaves.len())?;
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
            None if number > 0 => lost_and_found(self.form, seed, number),
            None => self.plain(directory, seed),
            Some(index) if number == 0 => self.index_root(directory, index, seed),
            Some(index) if number <= index.nodes.len() => index_node(self.form, index, number - 1, seed),
            Some(index) => self.leaf(index, number - 1 - index.nodes.len(), seed),
        }
    }

    /// `.` and `..`, the second `length` bytes long.
    fn dots(&self, out: &mut Block, directory: NodeId, length: usize) -> Result<()> {
        let own = self.inodes.number(directory)?;
        let parent = self.inodes.number(self.tree.parent(directory))?;
        dots(self.form, out, own, parent, length)
    }

    /// The block of a directory without index.
    fn plain(&self, directory: NodeId, seed: Checksum) -> Result<Block> {
        let mut out = vec![0; self.form.block_length()];
        let mut children = self.children(directory).peekable();
        let dotdot = if children.peek().is_some() { DOTS - DOT } else { self.form.entry_space() - DOT };
        self.dots(&mut out, directory, dotdot)?;
        self.entries(&mut out, DOTS, children)?;
        tail(self.form, &mut out, seed);
        Ok(out)
    }

    /// Entries from `offset` on; the last one extends to the tail.
    fn entries(&self, out: &mut Block, offset: usize, children: impl Iterator<Item = Child>) -> Result<()> {
        let mut offset = offset;
        let mut children = children.peekable();
        while let Some(child) = children.next() {
            let name = self.name(child);
            let length = if children.peek().is_some() {
                entry_length(name.len())
            } else {
                self.form.entry_space() - offset
            };
            let (inode, mode) = match child {
                Child::Node(node) => (self.inodes.number(node)?, mode(self.tree, node)),
                Child::LostAndFound => (LOST_AND_FOUND, MODE_DIRECTORY),
            };
            entry(self.form, out, offset, length, inode, mode, name)?;
            offset += length;
        }
        Ok(())
    }

    /// Leaf `number` of an index.
    fn leaf(&self, index: &Index, number: usize, seed: Checksum) -> Result<Block> {
        let mut out = vec![0; self.form.block_length()];
        self.entries(&mut out, 0, index.in_leaf(number)?.iter().map(|number| child(*number)))?;
        tail(self.form, &mut out, seed);
        Ok(out)
    }

    /// The first block. Its entry `..` is long enough to hide the root of the index from readers that do not
    /// know indexes.
    fn index_root(&self, directory: NodeId, index: &Index, seed: Checksum) -> Result<Block> {
        let mut out = vec![0; self.form.block_length()];
        self.dots(&mut out, directory, self.form.block_length() - DOT)?;
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
        index_entries(self.form, &mut out, ROOT_POINTERS, &pointers, seed)?;
        Ok(out)
    }
}

/// A block of a directory.
pub(super) type Block = Vec<u8>;

/// rec_len of an entry as long as a block of 64 KiB (linux/fs/ext4/ext4.h, ext4_rec_len_to_disk).
const WHOLE_BLOCK: usize = 0xffff;

/// One directory entry at `offset`, `length` bytes long.
fn entry(
    form: &Form,
    out: &mut Block,
    offset: usize,
    length: usize,
    inode: u32,
    mode: u16,
    name: &[u8],
) -> Result<()> {
    let head = DirectoryEntry {
        inode,
        rec_len: narrow(length.min(WHOLE_BLOCK), "rec_len")?,
        name_len: narrow(name.len(), "name_len")?,
        file_type: if form.is_incompat(incompat::FILETYPE) { file_type(mode) } else { 0 },
    };
    head.write_to(&mut out[offset..]);
    let from = offset + DirectoryEntry::LENGTH;
    out[from..from + name.len()].copy_from_slice(name);
    Ok(())
}

/// `.` and `..`, the second `length` bytes long.
fn dots(form: &Form, out: &mut Block, own: u32, parent: u32, length: usize) -> Result<()> {
    entry(form, out, 0, DOT, own, MODE_DIRECTORY, b".")?;
    entry(form, out, DOT, length, parent, MODE_DIRECTORY, b"..")
}

/// The checksum of a block without index, in its tail.
fn tail(form: &Form, out: &mut Block, seed: Checksum) {
    if form.has_checksums() {
        let at = form.entry_space();
        let det_checksum = seed.with(&out[..at]).value();
        DirectoryTail { det_checksum, ..DirectoryTail::BLANK }.write_to(&mut out[at..]);
    }
}

/// Block `number` of the lost+found that is not a node: empty, but allocated.
pub(super) fn lost_and_found(form: &Form, seed: Checksum, number: usize) -> Result<Block> {
    let mut out = vec![0; form.block_length()];
    if number == 0 {
        dots(form, &mut out, LOST_AND_FOUND, ROOT, form.entry_space() - DOT)?;
    } else {
        entry(form, &mut out, 0, form.entry_space(), 0, 0, b"")?;
    }
    tail(form, &mut out, seed);
    Ok(out)
}

/// The child that a number of [`Index::order`] stands for.
const fn child(number: u32) -> Child {
    if number == LOST { Child::LostAndFound } else { Child::Node(NodeId::new(number)) }
}

/// How many leaves each inner block gets; empty if the root has space for all. Leaves are spread evenly, so
/// that every inner block can grow.
fn inner_blocks(form: &Form, leaves: usize) -> Result<Vec<u32>> {
    if leaves <= form.root_limit() {
        return Ok(Vec::new());
    }
    // A quarter of each is free for leaves that splits will add.
    let nodes = leaves.div_ceil(form.node_limit() / 4 * 3).min(form.root_limit());
    let share =
        |node| narrow((node + 1) * leaves / nodes - node * leaves / nodes, "leaves of an inner block");
    (0..nodes).map(share).collect()
}

/// Inner block `node` of an index: a blank entry as long as the block, then pointers.
fn index_node(form: &Form, index: &Index, node: usize, seed: Checksum) -> Result<Block> {
    let mut out = vec![0; form.block_length()];
    entry(form, &mut out, 0, form.block_length(), 0, 0, b"")?;
    let (from, count) = index.below(node)?;
    index_entries(form, &mut out, NODE_POINTERS, &index.to_leaves(from, from + count)?, seed)?;
    Ok(out)
}

/// The pointers of an index block from `offset` on. Limit and count replace the first hash, and the checksum
/// comes after the last possible pointer. It covers the pointers in use, four reserved bytes, and its own
/// four bytes as zero.
fn index_entries(
    form: &Form,
    out: &mut Block,
    offset: usize,
    pointers: &[IndexEntry],
    seed: Checksum,
) -> Result<()> {
    let limit = form.index_limit(offset);
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
    if !form.has_checksums() {
        return Ok(());
    }
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
        let directories =
            Directories { form: &Form::default(), tree: &tree, inodes: &inodes, hash_seed: &[1; 16] };
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
        let form = Form::default();
        let (root, node, most) = (form.root_limit(), form.node_limit(), form.most_leaves());
        assert_eq!((root, node), (507, 510));
        assert!(inner_blocks(&form, root).unwrap().is_empty());
        for leaves in [root + 1, 1000, 100_000, most - 1, most] {
            let nodes = inner_blocks(&form, leaves).unwrap();
            assert!(nodes.len() <= root);
            assert!(nodes.iter().all(|count| *count >= 1 && index(*count) <= node));
            assert_eq!(nodes.iter().map(|count| index(*count)).sum::<usize>(), leaves);
        }
    }
}
