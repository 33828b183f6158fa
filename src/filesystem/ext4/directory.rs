//! Directories: one block with entries in the order of their names, or an index of hashed blocks, built in one go as
//! deep as the format allows (kernel.org, ext4, "Directory Entries" and "Hash Tree Directories").
//!
//! The kernel gives a directory an index only while it has a single block, so one written with more blocks and no
//! index would be searched linearly for good, and could never hold more than 65,000 subdirectories.

use super::checksum::Checksum;
use super::format::{
    BLOCK_LENGTH, DIRECTORY_TAIL, Fields, LOST_AND_FOUND, ROOT, directory_tail, entry, entry_length,
    entry_type,
};
use super::hash::half_md4;
use super::inodes::Inodes;
use crate::error::{Error, Kind, Result};
use crate::tree::{NodeId, Tree};
use crate::units::{low16, low32, u64_of, usize_of};

/// Bytes of a block for entries.
const ROOM: usize = BLOCK_LENGTH - DIRECTORY_TAIL;
/// How full leaves are made: a quarter stays free, so that the first names added at run time do not split each leaf.
const COMFORTABLE: usize = ROOM / 4 * 3;
/// Index entries of the root block: (4096 - 32 of entries and root info - 8 of tail) / 8.
const ROOT_LIMIT: usize = 507;
/// Index entries of an inner block: (4096 - 8 of a blank entry - 8 of tail) / 8.
const NODE_LIMIT: usize = 510;
/// Leaves below one inner block, with room for those that splits will add.
const NODE_COMFORTABLE: usize = NODE_LIMIT / 4 * 3;
/// The most leaves under two levels; the large_dir feature would allow a third, and GRUB refuses it.
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
    /// lost+found, which no tree has unless it was made from a filesystem's root.
    LostAndFound,
}

/// A directory with an index: its entries by hash, cut into leaves.
#[derive(Debug)]
pub(super) struct Index {
    /// Entries in the order of their hashes; `None` is lost+found.
    order: Vec<u32>,
    /// Where each leaf begins in the order, and the hash the index gives for it.
    leaves: Vec<(u32, u32)>,
    /// How many leaves each inner block has; empty for an index of one level.
    nodes: Vec<u32>,
}

/// Stands in [`Index::order`] for the lost+found that is no node.
const LOST: u32 = u32::MAX;

impl Index {
    /// Blocks of the directory: root, inner blocks, leaves.
    pub(super) fn blocks(&self) -> u64 {
        1 + u64_of(self.nodes.len()) + u64_of(self.leaves.len())
    }
}

/// What a directory's entries need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directories<'a> {
    pub(super) tree: &'a Tree,
    pub(super) inodes: &'a Inodes,
    pub(super) hash_seed: &'a [u8; 16],
}

impl Directories<'_> {
    /// The entries of a directory, by name; the lost+found that is no node comes first in the root.
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

    /// Whether all entries fit one block.
    pub(super) fn fits_one_block(&self, directory: NodeId) -> bool {
        let mut length = 2 * entry_length(1);
        self.children(directory).all(|child| {
            length += entry_length(self.name(child).len());
            length <= ROOM
        })
    }

    /// The index of a directory that needs more than one block.
    ///
    /// # Errors
    /// [`Kind::Capacity`] where two levels cannot hold the names.
    pub(super) fn index(&self, directory: NodeId) -> Result<Index> {
        self.index_within(directory, MOST_LEAVES)
    }

    /// The index of a directory in at most so many leaves.
    fn index_within(&self, directory: NodeId, most: usize) -> Result<Index> {
        let mut hashed: Vec<(super::hash::NameHash, u32)> = self
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
        let mut leaves = self.leaves(&hashed, COMFORTABLE);
        if leaves.len() > most {
            leaves = self.leaves(&hashed, ROOM);
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
        let nodes = inner_blocks(leaves.len());
        let order = hashed.into_iter().map(|(_, number)| number).collect();
        Ok(Index { order, leaves, nodes })
    }

    /// Cuts hashed names into leaves of at most `budget` bytes.
    fn leaves(&self, hashed: &[(super::hash::NameHash, u32)], budget: usize) -> Vec<(u32, u32)> {
        let mut leaves: Vec<(u32, u32)> = vec![(0, 0)];
        let mut used = 0;
        let mut last = 0;
        for (position, (hash, number)) in hashed.iter().enumerate() {
            let length = entry_length(self.name(child(*number)).len());
            if used > 0 && used + length > budget {
                // Names of one hash on both sides of a cut: the lowest bit of the index entry says so, and a search
                // goes on into the next leaf.
                let continued = u32::from(hash.major == last);
                leaves.push((low32(u64_of(position)), hash.major | continued));
                used = 0;
            }
            used += length;
            last = hash.major;
        }
        leaves
    }

    /// Block `number` of a directory.
    pub(super) fn block(
        &self,
        directory: NodeId,
        index: Option<&Index>,
        number: u64,
        out: &mut [u8; BLOCK_LENGTH],
    ) {
        let own = self.inodes.number(directory);
        let seed = self.inodes.seed(own);
        match index {
            None => self.plain(directory, number, seed, out),
            Some(index) => {
                let number = usize_of(number);
                if number == 0 {
                    self.index_root(directory, index, seed, out);
                } else if number <= index.nodes.len() {
                    index_node(index, number - 1, seed, out);
                } else {
                    self.leaf(index, number - 1 - index.nodes.len(), seed, out);
                }
            }
        }
    }

    /// `.` and `..`, the second `length` bytes long.
    fn dots(&self, at: &mut Fields<'_>, directory: NodeId, length: usize) {
        let parent = self.inodes.number(self.tree.parent(directory));
        entry(at, 0, 12, self.inodes.number(directory), 2, b".");
        entry(at, 12, length, parent, 2, b"..");
    }

    /// The block of a directory without index; blocks after the first are empty.
    fn plain(&self, directory: NodeId, number: u64, seed: Checksum, out: &mut [u8; BLOCK_LENGTH]) {
        if number > 0 {
            return lost_and_found(seed, number, out);
        }
        let mut at = Fields(out);
        let mut children = self.children(directory).peekable();
        let dots = if children.peek().is_some() { 12 } else { ROOM - 12 };
        self.dots(&mut at, directory, dots);
        self.entries(&mut at, 24, children);
        directory_tail(&mut at, seed);
    }

    /// Entries from `offset` on; the last one reaches to the tail.
    fn entries(&self, at: &mut Fields<'_>, offset: usize, children: impl Iterator<Item = Child>) {
        let mut offset = offset;
        let mut children = children.peekable();
        while let Some(child) = children.next() {
            let name = self.name(child);
            let length = if children.peek().is_some() { entry_length(name.len()) } else { ROOM - offset };
            let (inode, kind) = match child {
                Child::Node(node) => {
                    (self.inodes.number(node), entry_type(super::inodes::mode(self.tree, node)))
                }
                Child::LostAndFound => (LOST_AND_FOUND, 2),
            };
            entry(at, offset, length, inode, kind, name);
            offset += length;
        }
    }

    /// Leaf `number` of an index.
    fn leaf(&self, index: &Index, number: usize, seed: Checksum, out: &mut [u8; BLOCK_LENGTH]) {
        let mut at = Fields(out);
        let from = index.leaves.get(number).map_or(0, |(start, _)| crate::units::index(*start));
        let to =
            index.leaves.get(number + 1).map_or(index.order.len(), |(start, _)| crate::units::index(*start));
        self.entries(&mut at, 0, index.order[from..to].iter().map(|number| child(*number)));
        directory_tail(&mut at, seed);
    }

    /// The first block: `.` and `..`, of which the second hides the root of the index from readers that do not know
    /// it.
    fn index_root(&self, directory: NodeId, index: &Index, seed: Checksum, out: &mut [u8; BLOCK_LENGTH]) {
        let mut at = Fields(out);
        self.dots(&mut at, directory, BLOCK_LENGTH - 12);
        at.u8(28, 1); // half MD4; s_flags says how bytes are signed
        at.u8(29, 8); // bytes of this root info
        at.u8(30, u8::from(!index.nodes.is_empty())); // levels below the root
        let first_leaf = 1 + index.nodes.len();
        let pointers: Vec<(u32, usize)> = if index.nodes.is_empty() {
            index.leaves.iter().enumerate().map(|(leaf, (_, hash))| (*hash, first_leaf + leaf)).collect()
        } else {
            let mut leaf = 0;
            let mut pointers = Vec::new();
            for (node, count) in index.nodes.iter().enumerate() {
                pointers.push((index.leaves.get(leaf).map_or(0, |(_, hash)| *hash), 1 + node));
                leaf += crate::units::index(*count);
            }
            pointers
        };
        index_entries(&mut at, 32, ROOT_LIMIT, &pointers, seed);
    }
}

/// Block `number` of the lost+found that is no node: empty, and with its blocks already there.
pub(super) fn lost_and_found(seed: Checksum, number: u64, out: &mut [u8; BLOCK_LENGTH]) {
    let mut at = Fields(out);
    if number == 0 {
        entry(&mut at, 0, 12, LOST_AND_FOUND, 2, b".");
        entry(&mut at, 12, ROOM - 12, ROOT, 2, b"..");
    } else {
        at.u16(4, low16(u64_of(ROOM)));
    }
    directory_tail(&mut at, seed);
}

/// The child that a number of [`Index::order`] stands for.
const fn child(number: u32) -> Child {
    if number == LOST { Child::LostAndFound } else { Child::Node(NodeId::new(number)) }
}

/// How many leaves each inner block gets; none where the root holds all. Evenly, so that all have room to grow.
fn inner_blocks(leaves: usize) -> Vec<u32> {
    if leaves <= ROOT_LIMIT {
        return Vec::new();
    }
    let nodes = leaves.div_ceil(NODE_COMFORTABLE).min(ROOT_LIMIT);
    (0..nodes).map(|node| low32(u64_of((node + 1) * leaves / nodes - node * leaves / nodes))).collect()
}

/// Inner block `node` of an index: a blank entry as long as the block, then pointers.
fn index_node(index: &Index, node: usize, seed: Checksum, out: &mut [u8; BLOCK_LENGTH]) {
    let mut at = Fields(out);
    at.u16(4, low16(u64_of(BLOCK_LENGTH)));
    let from: usize = index.nodes[..node].iter().map(|count| crate::units::index(*count)).sum();
    let count = index.nodes.get(node).map_or(0, |count| crate::units::index(*count));
    let first_leaf = 1 + index.nodes.len();
    let pointers: Vec<(u32, usize)> = (from..from + count)
        .map(|leaf| (index.leaves.get(leaf).map_or(0, |(_, hash)| *hash), first_leaf + leaf))
        .collect();
    index_entries(&mut at, 8, NODE_LIMIT, &pointers, seed);
}

/// The pointers of an index block from `offset` on, with limit and count in the place of the first hash, and the
/// checksum behind the last possible one. It covers what is in use, four reserved bytes and four of itself as zero.
fn index_entries(
    at: &mut Fields<'_>,
    offset: usize,
    limit: usize,
    pointers: &[(u32, usize)],
    seed: Checksum,
) {
    for (number, (hash, block)) in pointers.iter().enumerate() {
        if number > 0 {
            at.u32(offset + number * 8, *hash);
        }
        at.u32(offset + number * 8 + 4, low32(u64_of(*block)));
    }
    at.u16(offset, low16(u64_of(limit)));
    at.u16(offset + 2, low16(u64_of(pointers.len())));
    let used = offset + pointers.len() * 8;
    let checksum = seed.with(&at.0[..used]).with(&[0; 8]).value();
    at.u32(offset + limit * 8 + 4, checksum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Builder, Content, Meta, Time};

    #[test]
    fn leaves_are_filled_when_they_have_to_be_and_too_many_names_are_told() {
        let mut builder = Builder::new(Time::default());
        let origin = builder.origin("test");
        // A name of 55 bytes takes 64: 63 fill a leaf's 4084 bytes, 47 three quarters of it.
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
        assert!(inner_blocks(ROOT_LIMIT).is_empty());
        for leaves in [ROOT_LIMIT + 1, 1000, 100_000, MOST_LEAVES - 1, MOST_LEAVES] {
            let nodes = inner_blocks(leaves);
            assert!(nodes.len() <= ROOT_LIMIT);
            assert!(nodes.iter().all(|count| *count >= 1 && crate::units::index(*count) <= NODE_LIMIT));
            assert_eq!(nodes.iter().map(|count| crate::units::index(*count)).sum::<usize>(), leaves);
        }
    }
}
