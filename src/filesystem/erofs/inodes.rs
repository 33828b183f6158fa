//! What the filesystem holds: which node is which inode, their attributes, and the time that most of them have.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Parameters;
use super::xattr::Xattrs;
use crate::error::{Error, Result};
use crate::tree::{Content, NodeId, Time, Tree};
use crate::units::{index, narrow};

/// The numbers of all nodes, from 0 in preorder without gaps, and the nodes of all numbers.
#[derive(Debug)]
pub(super) struct Inodes {
    /// Inode of each node.
    numbers: Vec<u32>,
    /// First node of each inode.
    nodes: Vec<NodeId>,
    /// Names of inodes that have more than one.
    links: HashMap<u32, u32>,
}

impl Inodes {
    fn new(tree: &Tree) -> Result<Self> {
        let mut inodes =
            Self { numbers: Vec::with_capacity(tree.len()), nodes: Vec::new(), links: HashMap::new() };
        for node in tree.ids() {
            let number = if let Content::Link { to } = tree.node(node).content {
                let first = inodes.number(to)?;
                *inodes.links.entry(first).or_insert(1) += 1;
                first
            } else {
                inodes.nodes.push(node);
                narrow(inodes.nodes.len() - 1, "the number of an inode")?
            };
            inodes.numbers.push(number);
        }
        inodes.nodes.shrink_to_fit();
        Ok(inodes)
    }

    /// The inode of a node.
    pub(super) fn number(&self, node: NodeId) -> Result<u32> {
        let number = self.numbers.get(node.index()).copied();
        number.ok_or_else(|| Error::bug(format!("node {} has no inode", node.get())))
    }

    /// The first node of an inode.
    pub(super) fn node(&self, number: u32) -> Result<NodeId> {
        let node = self.nodes.get(index(number)).copied();
        node.ok_or_else(|| Error::bug(format!("inode {number} has no node")))
    }

    /// All inodes, ascending, with their first node.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, NodeId)> + '_ {
        (0..).zip(self.nodes.iter().copied())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}

/// What the filesystem holds.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) tree: Arc<Tree>,
    pub(super) options: Parameters,
    pub(super) inodes: Inodes,
    pub(super) xattrs: Xattrs,
    /// The time of inodes in the short form.
    pub(super) epoch: Time,
}

impl Contents {
    /// Numbers the nodes of `tree` and lays out their attributes.
    ///
    /// # Errors
    /// As [`Xattrs::new`].
    pub(super) fn new(tree: &Arc<Tree>, options: &Parameters) -> Result<Self> {
        let inodes = Inodes::new(tree)?;
        let xattrs = Xattrs::new(tree, inodes.nodes.iter().copied())?;
        let epoch = epoch(tree, &inodes);
        Ok(Self { tree: Arc::clone(tree), options: options.clone(), inodes, xattrs, epoch })
    }

    /// How many names an inode has: of a directory its own two, and one for each directory in it.
    pub(super) fn links(&self, number: u32, node: NodeId) -> Result<u32> {
        let tree = &self.tree;
        if !tree.is_directory(node) {
            return Ok(self.inodes.links.get(&number).copied().unwrap_or(1));
        }
        let below = tree.children(node).filter(|child| tree.is_directory(*child)).count();
        narrow(below + 2, "the links of a directory")
    }

    /// Whether an inode has the short form: it has no time of its own, and narrow fields.
    pub(super) fn is_compact(&self, number: u32, node: NodeId, size: u64) -> Result<bool> {
        let meta = self.tree.node(node).meta;
        let narrow = |value: u32| u16::try_from(value).is_ok();
        Ok(meta.mtime == self.epoch
            && u32::try_from(size).is_ok()
            && narrow(meta.uid)
            && narrow(meta.gid)
            && narrow(self.links(number, node)?))
    }
}

/// The time that most inodes have, the earliest of several. Kernels take the superblock's time for an unsigned number, so
/// none before 1970.
fn epoch(tree: &Tree, inodes: &Inodes) -> Time {
    let mut counts: BTreeMap<Time, u64> = BTreeMap::new();
    for (_, node) in inodes.all() {
        let time = tree.node(node).meta.mtime;
        if time.seconds >= 0 {
            *counts.entry(time).or_default() += 1;
        }
    }
    let most = counts.values().copied().max().unwrap_or_default();
    counts.into_iter().find(|(_, count)| *count == most).map(|(time, _)| time).unwrap_or_default()
}
