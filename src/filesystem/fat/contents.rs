//! What a tree requires of a volume: whether FAT can hold its names and nodes, how many directory entries and
//! clusters they take, and which metadata is lost.

use super::geometry::ENTRY;
use super::names;
use crate::error::{Error, Kind, Result, Warning};
use crate::tree::{Content, NodeId, Tree};
use crate::units::{Bytes, Clusters};

/// The largest file: its length is a 32-bit field.
const LARGEST_FILE: u64 = 0xffff_ffff;
/// The largest number of entries of a directory, `.` and `..` included: 2 MiB (fatgen103, "FAT Directory
/// Structure"; Linux, `FAT_MAX_DIR_ENTRIES`), minus one, since drivers count them in 16 bits.
const MOST_ENTRIES: u64 = 65_535;

/// A directory and the number of its entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directory {
    pub(super) id: NodeId,
    pub(super) entries: u64,
}

impl Directory {
    /// Bytes that its entries take.
    pub(super) const fn length(&self) -> Bytes {
        Bytes::new(self.entries * ENTRY)
    }
}

/// A tree that FAT can hold.
#[derive(Debug)]
pub(super) struct Contents<'a> {
    pub(super) tree: &'a Tree,
    pub(super) root: Directory,
    /// In preorder, so the root comes first.
    pub(super) directories: Vec<Directory>,
    pub(super) warnings: Vec<Warning>,
}

impl<'a> Contents<'a> {
    /// Examines a tree. `label` says whether the root directory contains a label.
    pub(super) fn survey(tree: &'a Tree, label: bool) -> Result<Self> {
        let root = Directory { id: NodeId::ROOT, entries: 0 };
        let mut contents = Self { tree, root, directories: Vec::new(), warnings: Vec::new() };
        for id in tree.ids() {
            match tree.node(tree.source(id)).content {
                Content::Directory => contents.directory(id, label)?,
                Content::File { .. } | Content::Text { .. } | Content::Slice { .. } => contents.file(id)?,
                Content::Symlink { .. } => return Err(contents.no_symlink(id)),
                Content::CharacterDevice { .. } => return Err(contents.no_node(id, "character device")),
                Content::BlockDevice { .. } => return Err(contents.no_node(id, "block device")),
                Content::Fifo => return Err(contents.no_node(id, "named pipe")),
                Content::Socket => return Err(contents.no_node(id, "socket")),
                Content::Link { .. } => return Err(Error::bug("a link leads to a link")),
            }
        }
        let first = contents.directories.first().filter(|first| first.id == NodeId::ROOT);
        contents.root = *first.ok_or_else(|| Error::bug("the root of a tree is no directory"))?;
        contents.warn_of_links();
        contents.warn_of_metadata();
        Ok(contents)
    }

    fn no_symlink(&self, id: NodeId) -> Error {
        let target = crate::text::printable(self.tree.target(self.tree.source(id)));
        self.no_node(id, "symbolic link").found(format!("a link to {target}"))
    }

    fn no_node(&self, id: NodeId, what: &str) -> Error {
        Error::new(Kind::Capacity, format!("FAT cannot hold a {what}"))
            .at(self.tree.path(id))
            .expected("files and directories")
            .hint("leave it out, or put a copy of what is meant in its place")
    }

    fn file(&self, id: NodeId) -> Result<()> {
        let size = self.size(id);
        if size <= LARGEST_FILE {
            return Ok(());
        }
        Err(Error::new(Kind::Capacity, "FAT cannot hold a file of 4 GiB")
            .at(self.tree.path(id))
            .expected(format!("at most {LARGEST_FILE} bytes"))
            .found(format!("{size} bytes, {} too many", size - LARGEST_FILE))
            .hint("put it on another partition"))
    }

    /// Checks the names of a directory and counts its entries.
    fn directory(&mut self, id: NodeId, label: bool) -> Result<()> {
        let tree = self.tree;
        // The root has a label but no `.` and `..`.
        let mut entries = if id == NodeId::ROOT { u64::from(label) } else { 2 };
        let mut folded = Vec::new();
        for child in tree.children(id) {
            let name = names::check(tree.name(child)).map_err(|rule| {
                Error::new(Kind::Capacity, "FAT forbids a name").at(tree.path(child)).why(rule)
            })?;
            entries += names::slots(name);
            folded.push((names::fold(name), child));
        }
        folded.sort();
        for pair in folded.windows(2) {
            if let [(one, first), (other, second)] = pair
                && one == other
            {
                return Err(Error::new(Kind::Capacity, "FAT takes two names for the same")
                    .at(tree.path(*first))
                    .at(tree.path(*second))
                    .why("names that differ only in case are one name to FAT")
                    .hint("rename one of them"));
            }
        }
        if entries > MOST_ENTRIES {
            return Err(Error::new(Kind::Capacity, "FAT cannot hold so large a directory")
                .at(tree.path(id))
                .expected(format!(
                    "at most {MOST_ENTRIES} entries; a name takes 1, and 1 more for each 13 characters"
                ))
                .found(format!("{entries} entries for {} names", folded.len()))
                .hint("spread the names over several directories"));
        }
        self.directories.push(Directory { id, entries });
        Ok(())
    }

    /// Length of a regular file; any of its names may be given.
    pub(super) fn size(&self, id: NodeId) -> u64 {
        self.tree.size(self.tree.source(id))
    }

    /// Regular files, in preorder, with their lengths; every name of a linked file counts.
    pub(super) fn files(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.tree.ids().filter(|id| !self.tree.is_directory(*id)).map(|id| (id, self.size(id)))
    }

    /// How many clusters of `size` bytes the contents take. `root` says whether the root directory is in
    /// clusters, as in FAT32, where it has at least one.
    pub(super) fn clusters(&self, size: u64, root: bool) -> Clusters {
        let files: Clusters = self.files().map(|(_, length)| Clusters::new(length.div_ceil(size))).sum();
        let directories: Clusters = self
            .directories
            .iter()
            .filter(|directory| root || directory.id != NodeId::ROOT)
            .map(|directory| Clusters::new(directory.length().div_ceil(size).max(1)))
            .sum();
        files + directories
    }

    fn warn_of_links(&mut self) {
        let tree = self.tree;
        let mut links =
            tree.ids().filter(|id| matches!(tree.node(*id).content, Content::Link { .. })).peekable();
        let Some(first) = links.peek().copied() else { return };
        let (count, bytes) = links
            .fold((0_u64, Bytes::ZERO), |(count, bytes), id| (count + 1, bytes + Bytes::new(self.size(id))));
        let what = if count == 1 {
            "a further name is a file of its own"
        } else {
            "further names are files of their own"
        };
        self.warnings.push(Warning(format!(
            "FAT has no hard links: {}{what}, {} in all, first {}",
            if count == 1 { String::new() } else { format!("{count} ") },
            bytes.human(),
            tree.path(first)
        )));
    }

    /// No warning about permissions, since FAT keeps none of them; but about special mode bits, which
    /// somebody set on purpose.
    fn warn_of_metadata(&mut self) {
        let tree = self.tree;
        let (mut names, mut first) = (0_u64, None);
        let mut counts =
            [("owners", 0_u64), ("extended attributes", 0), ("setuid, setgid or sticky bits", 0)];
        for id in tree.ids() {
            let meta = tree.node(id).meta;
            let lost = [(meta.uid, meta.gid) != (0, 0), meta.xattrs != 0, meta.mode & 0o7000 != 0];
            if lost.contains(&true) {
                names += 1;
                first = first.or(Some(id));
            }
            for ((_, count), lost) in counts.iter_mut().zip(lost) {
                *count += u64::from(lost);
            }
        }
        let Some(first) = first else { return };
        let lost: Vec<String> = counts
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{what} of {count}"))
            .collect();
        self.warnings.push(Warning(format!(
            "FAT keeps no owner, extended attribute or special mode bit: lost for {names} of {} names ({}), first {}",
            tree.len(),
            lost.join(", "),
            tree.path(first)
        )));
    }
}
