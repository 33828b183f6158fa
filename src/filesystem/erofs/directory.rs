//! Directories: blocks of entries, each followed by the names of its entries, sorted by their bytes. `.` and `..` stand
//! among the others, where their bytes belong.

use std::cmp::Ordering;

use super::format::DirectoryEntry;
use crate::error::{Error, Result};
use crate::tree::{NodeId, Tree};
use crate::units::{narrow, u64_of, usize_of};
use crate::wire::Wire;

/// The names in a directory with the nodes that they lead to.
pub(super) struct Names<'a> {
    tree: &'a Tree,
    directory: NodeId,
}

impl<'a> Names<'a> {
    pub(super) const fn new(tree: &'a Tree, directory: NodeId) -> Self {
        Self { tree, directory }
    }

    /// All names in the order in which they are stored.
    fn sorted(&self) -> impl Iterator<Item = (&'a [u8], NodeId)> + use<'a> {
        let (tree, directory) = (self.tree, self.directory);
        let mut own =
            [(b".".as_slice(), directory), (b"..".as_slice(), tree.parent(directory))].into_iter().peekable();
        let mut children = children(tree, directory).peekable();
        std::iter::from_fn(move || match (own.peek(), children.peek()) {
            (Some((dots, _)), Some((name, _))) if dots.cmp(name) == Ordering::Less => own.next(),
            (_, Some(_)) => children.next(),
            _ => own.next(),
        })
    }

    /// How long it is with blocks of `block` bytes.
    pub(super) fn length(&self, block: u64) -> u64 {
        let (mut blocks, mut used) = (0, 0);
        for (name, _) in self.sorted() {
            let need = u64_of(DirectoryEntry::LENGTH + name.len());
            if used + need > block {
                blocks += 1;
                used = 0;
            }
            used += need;
        }
        blocks * block + used
    }

    /// Fills `out` with its bytes from `skip` on; `entry` gives the number of a node's inode and its file type.
    pub(super) fn render(
        &self,
        block: u64,
        skip: u64,
        out: &mut [u8],
        entry: impl Fn(NodeId) -> Result<(u64, u8)>,
    ) -> Result<()> {
        let mut names = self.sorted().peekable();
        let (mut at, end) = (0, skip + u64_of(out.len()));
        while at < end {
            let mut inside = Vec::new();
            let mut used = 0;
            while let Some((name, _)) = names.peek() {
                let need = u64_of(DirectoryEntry::LENGTH + name.len());
                if used + need > block {
                    break;
                }
                used += need;
                inside.extend(names.next());
            }
            if inside.is_empty() {
                return Err(
                    Error::bug("a directory is shorter than its place").at(self.tree.path(self.directory))
                );
            }
            if at + block > skip {
                let bytes = block_bytes(block, &inside, &entry)?;
                let (from, to) = (skip.max(at), end.min(at + block));
                out[usize_of(from - skip)..usize_of(to - skip)]
                    .copy_from_slice(&bytes[usize_of(from - at)..usize_of(to - at)]);
            }
            at += block;
        }
        Ok(())
    }
}

/// The children of a directory with their names.
fn children(tree: &Tree, directory: NodeId) -> impl Iterator<Item = (&[u8], NodeId)> {
    tree.children(directory).map(|child| (tree.name(child), child))
}

/// A block with these names.
fn block_bytes(
    block: u64,
    names: &[(&[u8], NodeId)],
    entry: impl Fn(NodeId) -> Result<(u64, u8)>,
) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize_of(block)];
    let mut name_at = names.len() * DirectoryEntry::LENGTH;
    for (place, (name, node)) in names.iter().enumerate() {
        let (nid, file_type) = entry(*node)?;
        let entry = DirectoryEntry { nid, nameoff: narrow(name_at, "nameoff")?, file_type };
        entry.write_to(&mut bytes[place * DirectoryEntry::LENGTH..]);
        bytes[name_at..name_at + name.len()].copy_from_slice(name);
        name_at += name.len();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{self, Content, Meta, Time};

    #[test]
    fn dots_stand_where_their_bytes_belong() {
        let mut builder = tree::Builder::new(Time::default());
        let (origin, meta) = (builder.origin("test"), Meta::root(0o644, Time::default()));
        for name in ["/!x", "/-", "/...", "/..a", "/.a", "/a", "/\u{fc}"] {
            builder.put(name.as_bytes(), meta, Content::Fifo, origin).unwrap();
        }
        let tree = builder.finish(1).unwrap();
        let names = Names::new(&tree, NodeId::ROOT);
        let sorted: Vec<&[u8]> = names.sorted().map(|(name, _)| name).collect();
        assert!(sorted.is_sorted());
        assert_eq!(sorted.len(), 9);
        assert_eq!(&sorted[..4], [b"!x".as_slice(), b"-", b".", b".."]);
        // 9 entries and 17 bytes of names.
        assert_eq!(names.length(4096), 9 * 12 + 17);
        let mut whole = vec![0; usize_of(names.length(64))];
        names.render(64, 0, &mut whole, |node| Ok((node.get().into(), 1))).unwrap();
        for from in 0..whole.len() {
            let mut part = vec![0; whole.len() - from];
            names.render(64, u64_of(from), &mut part, |node| Ok((node.get().into(), 1))).unwrap();
            assert_eq!(part, whole[from..]);
        }
        let past = names.render(64, 0, &mut vec![0; whole.len() + 128], |_| Ok((0, 1)));
        assert!(past.is_err());
    }
}
