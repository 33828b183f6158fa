//! From drafts to a [`Tree`]: preorder numbers, ends of subtrees, names that share an inode.

use super::build::{Builder, too_many};
use super::look::BLOCK;
use super::{Content, Node, NodeId, Range, Tree};
use crate::error::Result;
use crate::progress::Progress;
use crate::units::index;

/// Where boot loaders have their files in a partition that is mounted at /boot: GRUB as Debian and as Fedora name it, and
/// what the Boot Loader Specification and U-Boot look for.
const BOOT: [&[u8]; 6] = [b"/grub", b"/grub2", b"/loader", b"/EFI", b"/extlinux", b"/boot.scr"];

/// The number of a draft that another one replaced. No tree has so many nodes.
const REPLACED: u32 = u32::MAX;

impl Builder {
    /// Makes the first block of every file at `path` and below data, so that none begins with a hole. GRUB (2.06,
    /// 2.14) cannot read a file of ext4 whose first extent begins later.
    pub fn begin_with_data(&mut self, path: &[u8]) {
        self.begun.push(path.to_vec());
    }

    /// Lets boot loaders read what is theirs ([`Builder::begin_with_data`]): `/boot`, and everything where this is the
    /// partition that is mounted there, because its type says so (`boot`) or because a loader's files are at its top.
    pub fn begin_boot_with_data(&mut self, boot: bool) {
        self.boots = true;
        self.begin_with_data(if boot { b"/" } else { b"/boot" });
    }

    /// Groups the names of each inode, numbers the nodes in preorder, and drops what only building needed.
    /// `jobs` threads read files that may be equal, if an entry asked for that.
    ///
    /// # Errors
    /// [`Kind::Source`](crate::error::Kind::Source) where a file that may be equal to another cannot be read.
    pub fn finish(self, jobs: usize) -> Result<Tree> {
        self.finish_watched(jobs, &Progress::default())
    }

    /// As [`Builder::finish`]; `progress` may ask to stop.
    ///
    /// # Errors
    /// As [`Builder::finish`], and [`Kind::Interrupted`](crate::error::Kind::Interrupted) after a signal.
    pub fn finish_watched(mut self, jobs: usize, progress: &Progress) -> Result<Tree> {
        let mut order = Vec::with_capacity(self.drafts.len());
        // What was replaced is in no list of children, and keeps this number.
        let mut numbers = vec![REPLACED; self.drafts.len()];
        let mut stack = vec![0_u32];
        while let Some(draft) = stack.pop() {
            numbers[index(draft)] = u32::try_from(order.len()).map_err(|_| too_many())?;
            order.push(draft);
            stack.extend(self.children_of(draft).iter().rev());
        }
        self.children = Vec::new();
        let mut nodes: Vec<Node> = order
            .iter()
            .map(|draft| {
                let mut node = self.drafts[index(*draft)].node;
                node.parent = numbers[index(node.parent)];
                node
            })
            .collect();
        self.drafts = Vec::new();
        drop(order);
        close_subtrees(&mut nodes)?;
        let ranges = self.ranges.into_iter().map(|(draft, ranges)| (numbers[index(draft)], ranges));
        let ranges = ranges.filter(|(number, _)| *number != REPLACED).collect();
        let renumber = |group: &Vec<u32>| {
            let group = group.iter().map(|draft| numbers[index(*draft)]);
            let mut group: Vec<u32> = group.filter(|number| *number != REPLACED).collect();
            group.sort_unstable();
            group
        };
        let groups: Vec<Vec<u32>> = self.groups.iter().map(renumber).collect();
        let dedupe = renumber(&self.dedupe);
        let mut tree = Tree {
            nodes,
            names: self.names,
            places: self.places,
            texts: self.texts,
            slices: self.slices,
            xattrs: self.xattrs,
            ranges,
            owners: self.owners,
            warnings: self.warnings,
            longest: self.longest,
        };
        let equal = super::links::equal(&tree, &dedupe, jobs, progress)?;
        for group in groups.iter().chain(&equal) {
            tree.link(group);
        }
        if self.boots && BOOT.iter().any(|name| tree.find(name).is_some()) {
            self.begun.push(b"/".to_vec());
        }
        for path in &self.begun {
            tree.begin_with_data(path);
        }
        Ok(tree)
    }
}

impl Tree {
    /// Turns the first block of every file at `path` and below into data.
    fn begin_with_data(&mut self, path: &[u8]) {
        let Some(top) = self.find(path) else { return };
        for id in self.subtree(top) {
            let (id, size) = (self.source(id), self.size(id));
            let Some(ranges) = self.ranges.get_mut(&id.get()) else { continue };
            match ranges.first_mut() {
                Some(first) if first.start <= BLOCK => {
                    *first = Range { start: 0, length: first.start + first.length };
                }
                _ => ranges.insert(0, Range { start: 0, length: BLOCK.min(size) }),
            }
            if ranges.first().is_some_and(|first| first.length == size) {
                self.ranges.remove(&id.get());
            }
        }
    }

    /// Makes all nodes of a sorted group names of the first node.
    fn link(&mut self, group: &[u32]) {
        let Some((first, others)) = group.split_first() else { return };
        let meta = self.nodes[index(*first)].meta;
        for other in others {
            let node = &mut self.nodes[index(*other)];
            node.content = Content::Link { to: NodeId(*first) };
            node.meta = meta;
            self.ranges.remove(other);
        }
    }
}

/// Computes the end of each subtree from the parents alone: in preorder, the last descendant has the largest
/// number.
fn close_subtrees(nodes: &mut [Node]) -> Result<()> {
    for number in (0..nodes.len()).rev() {
        let own = u32::try_from(number + 1).map_err(|_| too_many())?;
        let end = nodes[number].end.max(own);
        nodes[number].end = end;
        let parent = index(nodes[number].parent);
        nodes[parent].end = nodes[parent].end.max(end);
    }
    Ok(())
}
