//! Builds a [`Tree`](super::Tree) from what the manifest lists: scanned directories, texts, links and
//! devices. They are laid over each other by rules that do not depend on their order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::owners::Owners;
use super::{Content, Meta, Node, Place, Range, Time, Xattr};
use crate::error::{Error, Kind, Result, Subject, Warning};
use crate::image::Slice;
use crate::text::{printable, shortened};
use crate::units::{index, u64_of};

/// What a node comes from, for errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An entry of a disk's description.
    Entry(Subject),
    /// Something else, by its name.
    Named(String),
}

impl From<Subject> for Cause {
    fn from(subject: Subject) -> Self {
        Self::Entry(subject)
    }
}

impl From<&str> for Cause {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

/// Number of the [`Cause`] of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(pub(super) u32);

impl Origin {
    pub(super) const fn number(self) -> u32 {
        self.0
    }
}

/// A node under construction.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) node: Node,
    /// Number of the list of children; for directories only.
    children: u32,
    pub(super) origin: u32,
    /// Depth of the entry's target plus one; 0 for a parent that no entry names but `origin` needs. The
    /// deeper target is the more specific wish, so it decides a directory's metadata.
    pub(super) rank: u16,
}

/// Collects nodes; [`Builder::finish`] sorts out links and makes the [`Tree`](super::Tree).
#[derive(Debug)]
pub struct Builder {
    pub(super) drafts: Vec<Draft>,
    pub(super) children: Vec<Vec<u32>>,
    pub(super) names: Vec<u8>,
    pub(super) places: Vec<Place>,
    pub(super) texts: Vec<Arc<[u8]>>,
    pub(super) slices: Vec<Slice>,
    pub(super) xattrs: Vec<Vec<Xattr>>,
    pub(super) xattr_numbers: HashMap<Vec<Xattr>, u32>,
    pub(super) ranges: BTreeMap<u32, Vec<Range>>,
    pub(super) origins: Vec<Cause>,
    /// Names of one inode: the drafts of each group, in the order they came.
    pub(super) groups: Vec<Vec<u32>>,
    group_numbers: HashMap<(u32, u64, u64), u32>,
    pub(super) dedupe: Vec<u32>,
    pub(super) owners: Owners,
    /// Length of the longest name in bytes.
    pub(super) longest: u16,
    /// No file below these paths begins with a hole.
    pub(super) begun: Vec<Vec<u8>>,
    pub(super) boots: bool,
    /// Whether what is put now takes the place of what another entry put before, and whether it did.
    pub(super) replacing: bool,
    pub(super) replaced: bool,
    /// Links that directories took the place of.
    pub(super) covered: Vec<String>,
    pub(super) warnings: Vec<Warning>,
    pub(super) time: Time,
}

const NO_CHILDREN: u32 = u32::MAX;

/// The longest name of any filesystem: the 255 UTF-16 units of a FAT, each at most 3 bytes of UTF-8.
/// Filesystems with a lower limit refuse longer names ([`Tree::check_names`](super::Tree::check_names)).
pub const LONGEST_NAME: u16 = 255 * 3;

impl Builder {
    /// An empty root directory of mode 0755 and owner root. Directories that no entry names get the time
    /// `time`.
    #[must_use]
    pub fn new(time: Time) -> Self {
        let mut builder = Self {
            drafts: Vec::new(),
            children: Vec::new(),
            names: Vec::new(),
            places: Vec::new(),
            texts: Vec::new(),
            slices: Vec::new(),
            xattrs: vec![Vec::new()],
            xattr_numbers: HashMap::from([(Vec::new(), 0)]),
            ranges: BTreeMap::new(),
            origins: vec![Cause::from("the root of the filesystem")],
            groups: Vec::new(),
            group_numbers: HashMap::new(),
            dedupe: Vec::new(),
            owners: Owners::of_process(),
            longest: 0,
            begun: Vec::new(),
            boots: false,
            replacing: false,
            replaced: false,
            covered: Vec::new(),
            warnings: Vec::new(),
            time,
        };
        let _ = builder.draft(0, b"", Meta::root(0o755, time), Content::Directory, 0, 0);
        builder
    }

    /// Says where the nodes that are put with this origin come from.
    pub fn origin(&mut self, cause: impl Into<Cause>) -> Origin {
        let number = u32::try_from(self.origins.len()).unwrap_or(u32::MAX);
        self.origins.push(cause.into());
        Origin(number)
    }

    /// Lets what is put from now on take the place of what entries before put, or not. The result says whether anything was
    /// replaced since the last call.
    pub fn replace(&mut self, replacing: bool) -> bool {
        self.replacing = replacing;
        if !self.covered.is_empty() {
            self.warn_of_covered();
        }
        std::mem::take(&mut self.replaced)
    }

    /// Adds a warning about the contents.
    pub fn warn(&mut self, warning: Warning) {
        self.warnings.push(warning);
    }

    /// Puts a symbolic link at `target` that leads to `to`: 1 to 4095 bytes, no NUL (PATH_MAX, symlink(7)).
    ///
    /// # Errors
    /// As [`Builder::put`], and where `to` is empty, too long or holds NUL.
    pub fn symlink(&mut self, target: &[u8], to: &[u8], meta: Meta, origin: Origin) -> Result<()> {
        if to.is_empty() || to.len() > 4095 || to.contains(&0) {
            return Err(Error::new(Kind::Manifest, "a symbolic link cannot lead there")
                .expected("1 to 4095 bytes without NUL")
                .found(format!("{} bytes: {}", to.len(), shortened(to, 80))));
        }
        let content = self.link_target(to)?;
        self.place(target, meta, content, origin).map(|_| ())
    }

    pub(super) fn link_target(&mut self, to: &[u8]) -> Result<Content> {
        let target = u64_of(self.names.len());
        let length = u16::try_from(to.len()).map_err(|_| too_many())?;
        self.names.extend_from_slice(to);
        Ok(Content::Symlink { target, length })
    }

    /// Puts a directory, device, pipe or socket at `target`, making the directories above it.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where the target escapes its root, has a link or a file above it, or another entry has it,
    /// naming both. [`Kind::Bug`] for any other content: its numbers would be those of another tree.
    pub fn put(&mut self, target: &[u8], meta: Meta, content: Content, origin: Origin) -> Result<()> {
        match content {
            Content::Directory
            | Content::CharacterDevice { .. }
            | Content::BlockDevice { .. }
            | Content::Fifo
            | Content::Socket => self.place(target, meta, content, origin).map(|_| ()),
            Content::File { .. }
            | Content::Text { .. }
            | Content::Slice { .. }
            | Content::Symlink { .. }
            | Content::Link { .. } => Err(Error::bug("content of another tree is put into a tree")),
        }
    }

    /// Puts a node at `target` and returns its number.
    pub(super) fn place(
        &mut self,
        target: &[u8],
        meta: Meta,
        content: Content,
        origin: Origin,
    ) -> Result<u32> {
        let parts = parts(target)?;
        let rank = rank(&parts);
        self.place_at(&parts, meta, content, origin, rank)
    }

    /// As [`Builder::place`], for the components of a path, and a rank that need not be its own.
    pub(super) fn place_at(
        &mut self,
        parts: &[&[u8]],
        meta: Meta,
        content: Content,
        origin: Origin,
        rank: u16,
    ) -> Result<u32> {
        match parts.split_last() {
            None if matches!(content, Content::Directory) => {
                self.claim(0, meta, origin, rank, false).map(|()| 0)
            }
            None => Err(Error::new(Kind::Manifest, "the root of a filesystem can only be a directory")
                .at("/")
                .hint("give the name it shall have as target")),
            Some((name, above)) => {
                let parent = self.parents(above, origin)?;
                self.add(parent, name, meta, content, origin, rank, false)
            }
        }
    }

    /// Puts a directory at `target`, with those above it, unless something is there already. Any other entry
    /// for that directory decides its metadata.
    ///
    /// # Errors
    /// As [`Builder::put`], where a link or a file stands above it.
    pub fn fallback(&mut self, target: &[u8], meta: Meta, origin: Origin) -> Result<()> {
        let parts = parts(target)?;
        let Some((name, above)) = parts.split_last() else {
            let root = &mut self.drafts[0];
            if root.rank == 0 {
                root.node.meta = meta;
            }
            return Ok(());
        };
        let parent = self.parents(above, origin)?;
        match self.find(parent, name) {
            Ok(_) => Ok(()),
            Err(_) => self.add(parent, name, meta, Content::Directory, origin, 0, false).map(|_| ()),
        }
    }

    pub(super) fn host_place(&mut self, place: Place) -> Result<u32> {
        let number = u32::try_from(self.places.len()).map_err(|_| too_many())?;
        self.places.push(place);
        Ok(number)
    }

    /// Makes a node a name of the inode that `key` stands for.
    pub(super) fn join_group(&mut self, key: (u32, u64, u64), id: u32) {
        let next = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
        let group = *self.group_numbers.entry(key).or_insert(next);
        if group == next {
            self.groups.push(Vec::new());
        }
        self.groups[index(group)].push(id);
    }

    /// The directory that `above` names. Makes the directories that are missing.
    pub(super) fn parents(&mut self, above: &[&[u8]], origin: Origin) -> Result<u32> {
        let mut at = 0;
        for (depth, part) in above.iter().enumerate() {
            at = match self.find(at, part) {
                Ok(position) => {
                    let child = self.children_of(at)[position];
                    let draft = &self.drafts[index(child)];
                    if !matches!(draft.node.content, Content::Directory) {
                        let link = matches!(draft.node.content, Content::Symlink { .. });
                        let path = printable(&[b"/".as_slice(), &above[..=depth].join(&b'/')].concat());
                        let kind = if link { "symbolic link" } else { "file" };
                        let error = Error::new(Kind::Manifest, format!("a {kind} stands above a target"))
                            .expected(format!("{path} to be a directory"))
                            .found(format!("a {kind}"));
                        let error = self.blame(error, origin.0, draft.origin);
                        return Err(match link {
                            true => error.hint("put the entry where the link leads to"),
                            false => error,
                        });
                    }
                    child
                }
                Err(_) => {
                    let meta = Meta::root(0o755, self.time);
                    self.add(at, part, meta, Content::Directory, origin, 0, false)?
                }
            };
        }
        Ok(at)
    }

    pub(super) fn children_of(&self, directory: u32) -> &[u32] {
        let list = self.drafts[index(directory)].children;
        self.children.get(index(list)).map_or(&[], Vec::as_slice)
    }

    /// Position of `name` among the children of `directory`, or the position to insert it at.
    pub(super) fn find(&self, directory: u32, name: &[u8]) -> Result<usize, usize> {
        let children = self.children_of(directory);
        // A listing arrives sorted, so most names belong at the end.
        match children.last() {
            Some(last) if self.name(*last) < name => Err(children.len()),
            _ => children.binary_search_by(|child| self.name(*child).cmp(name)),
        }
    }

    pub(super) fn name(&self, id: u32) -> &[u8] {
        let node = &self.drafts[index(id)].node;
        let start = crate::units::usize_of(node.name);
        &self.names[start..start + usize::from(node.name_length)]
    }

    /// Adds a child. Where one of that name exists, two directories become one; anything else is an error, unless they are
    /// merged: then a file takes the place of another.
    #[expect(clippy::too_many_arguments, reason = "what a name is, where it goes, and by whose wish")]
    pub(super) fn add(
        &mut self,
        parent: u32,
        name: &[u8],
        meta: Meta,
        content: Content,
        origin: Origin,
        rank: u16,
        merge: bool,
    ) -> Result<u32> {
        match self.find(parent, name) {
            Ok(position) => {
                let there = self.children_of(parent)[position];
                let both = matches!(content, Content::Directory)
                    && matches!(self.drafts[index(there)].node.content, Content::Directory);
                let directory = matches!(content, Content::Directory)
                    || matches!(self.drafts[index(there)].node.content, Content::Directory);
                if merge && !directory {
                    self.supplant(there, meta, content, origin, rank);
                    return Ok(there);
                }
                if both {
                    self.claim(there, meta, origin, rank, merge)?;
                    return Ok(there);
                }
                if !self.replacing || self.drafts[index(there)].origin == origin.0 {
                    return Err(self.conflict(there, origin));
                }
                // What was there is in no list of children any more, and so in no tree.
                self.replaced = true;
                if matches!(content, Content::Directory)
                    && matches!(self.drafts[index(there)].node.content, Content::Symlink { .. })
                {
                    self.covered.push(self.path_of(there));
                }
                let id = self.draft(parent, name, meta, content, origin.0, rank)?;
                let list = index(self.drafts[index(parent)].children);
                self.children[list][position] = id;
                Ok(id)
            }
            Err(position) => {
                let id = self.draft(parent, name, meta, content, origin.0, rank)?;
                let list = index(self.drafts[index(parent)].children);
                self.children[list].insert(position, id);
                Ok(id)
            }
        }
    }

    fn draft(
        &mut self,
        parent: u32,
        name: &[u8],
        meta: Meta,
        content: Content,
        origin: u32,
        rank: u16,
    ) -> Result<u32> {
        let id = u32::try_from(self.drafts.len()).map_err(|_| too_many())?;
        let name_length = u16::try_from(name.len()).ok().filter(|length| *length <= LONGEST_NAME);
        let name_length = name_length.ok_or_else(|| {
            Error::new(Kind::Capacity, "a name is too long")
                .expected(format!("at most {LONGEST_NAME} bytes"))
                .found(format!("{} bytes: {}", name.len(), shortened(name, 80)))
        })?;
        let children = if matches!(content, Content::Directory) {
            self.children.push(Vec::new());
            u32::try_from(self.children.len() - 1).map_err(|_| too_many())?
        } else {
            NO_CHILDREN
        };
        self.longest = self.longest.max(name_length);
        let start = u64_of(self.names.len());
        self.names.extend_from_slice(name);
        let node = Node { name: start, parent, end: 0, name_length, meta, content };
        self.drafts.push(Draft { node, children, origin, rank });
        Ok(id)
    }
}

/// The components of a target path.
pub(super) fn parts(target: &[u8]) -> Result<Vec<&[u8]>> {
    let mut parts = Vec::new();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                return Err(Error::new(Kind::Manifest, "a target escapes its root")
                    .expected("a path without `..`")
                    .found(printable(target)));
            }
            part if part.contains(&0) => {
                return Err(Error::new(Kind::Manifest, "a target holds a NUL byte").found(printable(target)));
            }
            part => parts.push(part),
        }
    }
    Ok(parts)
}

pub(super) fn rank(parts: &[&[u8]]) -> u16 {
    u16::try_from(parts.len().saturating_add(1)).unwrap_or(u16::MAX)
}

pub(super) fn too_many() -> Error {
    Error::new(Kind::Capacity, "too many names for one filesystem").expected("fewer than 2^32")
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
