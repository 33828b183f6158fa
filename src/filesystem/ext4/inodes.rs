//! The inode numbers of nodes: the reserved ones first, then the tree in preorder, without gaps.

use std::collections::HashMap;

use super::checksum::Checksum;
use super::directory::LOST_AND_FOUND_NAME;
use super::format::{FIRST, LOST_AND_FOUND, MOST_LINKS, ROOT};
use crate::error::{Error, Kind, Result, Warning};
use crate::tree::{Content, NodeId, Tree};
use crate::units::{index, u64_of};

/// The inode numbers of all nodes, and the nodes of all inode numbers.
#[derive(Debug)]
pub(super) struct Inodes {
    /// Inode of each node.
    numbers: Vec<u32>,
    /// First node of each inode from [`FIRST`] on.
    nodes: Vec<u32>,
    /// Number of names of inodes that have more than one.
    links: HashMap<u32, u32>,
    /// The tree's own lost+found.
    lost_and_found: Option<NodeId>,
    seed: Checksum,
}

/// The node that has the content: for a further name, the first name.
pub(super) fn source(tree: &Tree, node: NodeId) -> NodeId {
    tree.source(node)
}

impl Inodes {
    /// Numbers all nodes of `tree`.
    ///
    /// # Errors
    /// [`Kind::Capacity`] past 2^32 inodes, or if `/lost+found` is not a directory.
    pub(super) fn new(tree: &Tree, seed: Checksum) -> Result<(Self, Vec<Warning>)> {
        let lost_and_found =
            tree.children(NodeId::ROOT).find(|child| tree.name(*child) == LOST_AND_FOUND_NAME);
        if let Some(node) = lost_and_found
            && !tree.is_directory(node)
        {
            return Err(Error::new(Kind::Capacity, "ext4 needs /lost+found to be a directory")
                .at(tree.path(node))
                .found("an entry of another kind")
                .why("e2fsck(8) puts what it recovers there"));
        }
        let mut inodes = Self {
            numbers: vec![0; tree.len()],
            nodes: Vec::new(),
            links: HashMap::new(),
            lost_and_found,
            seed,
        };
        let mut warnings = Vec::new();
        // The inode to which the next name of a node with several names belongs.
        let mut current: HashMap<u32, u32> = HashMap::new();
        for node in tree.ids() {
            let number = if node == NodeId::ROOT {
                ROOT
            } else if Some(node) == lost_and_found {
                LOST_AND_FOUND
            } else if let Content::Link { to } = tree.node(node).content {
                let first = inodes.numbers[to.index()];
                let joined = current.entry(first).or_insert(first);
                let names = inodes.links.entry(*joined).or_insert(1);
                if *names < MOST_LINKS {
                    *names += 1;
                    *joined
                } else {
                    warnings.push(Warning(format!(
                        "{} has more names than the {MOST_LINKS} an ext4 inode can have; it is stored again for {}",
                        tree.path(to),
                        tree.path(node)
                    )));
                    let another = inodes.add(node)?;
                    current.insert(first, another);
                    another
                }
            } else {
                inodes.add(node)?
            };
            inodes.numbers[node.index()] = number;
        }
        Ok((inodes, warnings))
    }

    fn add(&mut self, node: NodeId) -> Result<u32> {
        let number = u32::try_from(self.nodes.len()).ok().and_then(|count| count.checked_add(FIRST));
        self.nodes.push(node.get());
        number.ok_or_else(|| {
            Error::new(Kind::Capacity, "too many inodes")
                .expected("fewer than 2^32, as their numbers have 32 bits")
        })
    }

    /// The inode of a node.
    ///
    /// # Errors
    /// [`Kind::Bug`] for a node of another tree.
    pub(super) fn number(&self, node: NodeId) -> Result<u32> {
        let number = self.numbers.get(node.index()).copied().filter(|number| *number != 0);
        number.ok_or_else(|| Error::bug(format!("node {} has no inode", node.get())))
    }

    /// The first node of an inode, if it is one of the tree's.
    pub(super) fn node(&self, number: u32) -> Option<NodeId> {
        match number {
            ROOT => Some(NodeId::ROOT),
            LOST_AND_FOUND => self.lost_and_found,
            _ => {
                let node = self.nodes.get(index(number.checked_sub(FIRST)?))?;
                Some(NodeId::new(*node))
            }
        }
    }

    /// Whether the tree has no lost+found, so that we make it.
    pub(super) const fn lost_and_found_is_ours(&self) -> bool {
        self.lost_and_found.is_none()
    }

    /// Inodes in use, including the reserved ones.
    pub(super) fn used(&self) -> u64 {
        u64::from(FIRST) - 1 + u64_of(self.nodes.len())
    }

    /// All inodes of the tree's nodes, ascending, with their first node.
    pub(super) fn all<'a>(&'a self) -> impl Iterator<Item = (u32, NodeId)> + 'a {
        let lost = self.lost_and_found.map(|node| (LOST_AND_FOUND, node));
        let rest = self.nodes.iter().zip(FIRST..).map(|(node, number)| (number, NodeId::new(*node)));
        std::iter::once((ROOT, NodeId::ROOT)).chain(lost).chain(rest)
    }

    /// Number of names of a file's inode. Only numbers above one are stored.
    pub(super) fn links(&self, number: u32) -> u32 {
        self.links.get(&number).copied().unwrap_or(1)
    }

    /// The checksum seed for the parts of an inode.
    pub(super) fn seed(&self, number: u32) -> Checksum {
        self.seed.of_inode(number)
    }
}
