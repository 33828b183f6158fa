//! Builds a [`Tree`](super::Tree) from what the manifest lists: scanned directories, texts, links and
//! devices. They are laid over each other by rules that do not depend on their order.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::look::{Entry, What};
use super::owners::Owners;
use super::rules::{Hardlinks, Owner, Rules};
use super::scan::Scan;
use super::{Content, Meta, Node, Place, Range, Time, Xattr};
use crate::error::{Error, Kind, Result, Subject};
use crate::host::stamp;
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
    time: Time,
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

    fn link_target(&mut self, to: &[u8]) -> Result<Content> {
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
        match parts.split_last() {
            None if matches!(content, Content::Directory) => {
                self.claim(0, meta, origin, rank, false).map(|()| 0)
            }
            None => Err(Error::new(Kind::Manifest, "the root of a filesystem can only be a directory")
                .at(printable(target))
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

    /// Puts what request `number` of a scan found at `target`: a directory's children into it, a file under its name.
    ///
    /// # Errors
    /// As [`Builder::put`].
    pub fn graft(
        &mut self,
        target: &[u8],
        scan: &Scan,
        number: usize,
        rules: &Rules,
        origin: Origin,
    ) -> Result<()> {
        let parts = parts(target)?;
        let rank = rank(&parts);
        let root = scan.roots.get(number).ok_or_else(|| Error::bug("no such request in the scan"))?;
        storable(&root.entry, rules, || root.path.clone())?;
        let meta = self.meta(&root.entry, rules, rules.mode);
        self.owners.note(&root.entry, rules, &meta, || root.path.clone());
        let content = self.content(&root.entry, None, (&root.path, &root.held))?;
        let top = match parts.split_last() {
            None if matches!(content, Content::Directory) => {
                self.claim(0, meta, origin, rank, rules.merge)?;
                0
            }
            None => {
                return Err(Error::new(Kind::Manifest, "a file cannot be the root of a filesystem")
                    .at(&root.path)
                    .hint("give the name it shall have as target"));
            }
            Some((name, above)) => {
                let parent = self.parents(above, origin)?;
                let merge = rules.merge && matches!(content, Content::Directory);
                self.add(parent, name, meta, content, origin, rank, merge)?
            }
        };
        self.rarities(top, &root.entry, rules, origin);
        self.listing(top, scan, &root.entry, rules, origin, rank)
    }

    /// Grafts the listings below `entry`, breadth first. The stack is explicit, because the host chooses the
    /// depth.
    fn listing(
        &mut self,
        top: u32,
        scan: &Scan,
        entry: &Entry,
        rules: &Rules,
        origin: Origin,
        rank: u16,
    ) -> Result<()> {
        let mut stack = Vec::new();
        if let What::Directory(listing) = entry.what {
            stack.push((top, listing));
        }
        while let Some((parent, number)) = stack.pop() {
            let (folder, shelf, entries) = scan.listing(number)?;
            let place = self.host_place(Place::Directory(folder.to_owned()))?;
            for entry in entries {
                let path = || folder.join(OsStr::from_bytes(shelf.name(entry)));
                storable(entry, rules, path)?;
                let meta = self.meta(entry, rules, None);
                self.owners.note(entry, rules, &meta, path);
                let content = self.content(entry, Some(place), (folder, &shelf.held))?;
                let id = self.add(parent, shelf.name(entry), meta, content, origin, rank, rules.merge)?;
                self.rarities(id, entry, rules, origin);
                if let What::Directory(below) = entry.what {
                    stack.push((id, below));
                }
            }
        }
        Ok(())
    }

    /// The metadata of a scanned inode under `rules`. `mode` replaces the inode's mode where it is given. A
    /// link has no mode to change. The entries of an access ACL follow the mode, as they do on chmod(2).
    fn meta(&mut self, entry: &Entry, rules: &Rules, mode: Option<u16>) -> Meta {
        if rules.store {
            let executable = matches!(entry.what, What::Directory(_)) || entry.mode & 0o100 != 0;
            let mode = match entry.what {
                What::Symlink(_) => 0o777,
                _ if executable => 0o555,
                _ => 0o444,
            };
            return Meta::root(mode, Time::seconds(1));
        }
        let (uid, gid) = match rules.owner {
            Owner::Root => (0, 0),
            Owner::Preserve => (entry.uid, entry.gid),
            Owner::Ids { uid, gid } => (uid, gid),
        };
        let mode = match (mode, &rules.chmod, &entry.what) {
            (_, _, What::Symlink(_)) | (None, None, _) => entry.mode,
            (Some(mode), ..) => mode,
            (None, Some(chmod), what) => chmod.apply(entry.mode, matches!(what, What::Directory(_))),
        };
        let xattrs = match &entry.rare {
            Some(rare) if mode != entry.mode => {
                self.xattr_set(&super::xattr::after_chmod(&rare.xattrs, mode))
            }
            Some(rare) if !rare.xattrs.is_empty() => self.xattr_set(&rare.xattrs),
            _ => 0,
        };
        let mtime = rules.mtime.unwrap_or(entry.mtime);
        let mtime = rules.latest.map_or(mtime, |latest| mtime.min(latest));
        Meta { mode, uid, gid, mtime, xattrs }
    }

    /// The content of a scanned inode. `place` is that of its directory; without it, its own path becomes
    /// one. `held` has what was read along with it.
    fn content(
        &mut self,
        entry: &Entry,
        place: Option<u32>,
        (path, held): (&Path, &Arc<Vec<u8>>),
    ) -> Result<Content> {
        Ok(match &entry.what {
            What::Directory(_) => Content::Directory,
            What::File => {
                let place = match place {
                    Some(place) => place,
                    None => self.host_place(Place::File(path.to_owned()))?,
                };
                let place = match entry.rare.as_ref().and_then(|rare| rare.bytes.clone()) {
                    Some(own) => self.host_place(Place::Held { place, held: Arc::clone(held), own })?,
                    None => place,
                };
                let stamp = stamp(entry.mtime.seconds, entry.mtime.nanoseconds);
                Content::File { place, size: entry.size, stamp }
            }
            What::Symlink(target) => self.link_target(target)?,
            What::CharacterDevice(device) => Content::CharacterDevice { device: *device },
            What::BlockDevice(device) => Content::BlockDevice { device: *device },
            What::Fifo => Content::Fifo,
            What::Socket => Content::Socket,
        })
    }

    pub(super) fn host_place(&mut self, place: Place) -> Result<u32> {
        let number = u32::try_from(self.places.len()).map_err(|_| too_many())?;
        self.places.push(place);
        Ok(number)
    }

    /// Notes holes and hard links of a scanned inode.
    fn rarities(&mut self, id: u32, entry: &Entry, rules: &Rules, origin: Origin) {
        if let Some(ranges) = entry.rare.as_ref().and_then(|rare| rare.ranges.as_ref()) {
            self.ranges.insert(id, ranges.clone());
        }
        match rules.hardlinks {
            Hardlinks::Preserve if entry.links > 1 && !matches!(entry.what, What::Directory(_)) => {
                let key = (origin.0, entry.inode.0, entry.inode.1);
                let next = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
                let group = *self.group_numbers.entry(key).or_insert(next);
                if group == next {
                    self.groups.push(Vec::new());
                }
                self.groups[index(group)].push(id);
            }
            Hardlinks::Dedupe if matches!(entry.what, What::File) => self.dedupe.push(id),
            _ => {}
        }
    }

    /// The directory that `above` names. Makes the directories that are missing.
    fn parents(&mut self, above: &[&[u8]], origin: Origin) -> Result<u32> {
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
    fn add(
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
                    self.replace(there, meta, content, origin, rank);
                    return Ok(there);
                }
                if !both {
                    return Err(self.conflict(there, origin));
                }
                self.claim(there, meta, origin, rank, merge)?;
                Ok(there)
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
            Error::new(Kind::Manifest, "a name is too long")
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

fn rank(parts: &[&[u8]]) -> u16 {
    u16::try_from(parts.len().saturating_add(1)).unwrap_or(u16::MAX)
}

/// Refuses what Nix never puts in a store path: it makes only files, directories and links.
fn storable(entry: &Entry, rules: &Rules, path: impl FnOnce() -> PathBuf) -> Result<()> {
    if !rules.store || matches!(entry.what, What::Directory(_) | What::File | What::Symlink(_)) {
        return Ok(());
    }
    Err(Error::new(Kind::Source, "a store path holds what Nix keeps in none")
        .at(path())
        .expected("files, directories and symbolic links")
        .found("a device, pipe or socket"))
}

pub(super) fn too_many() -> Error {
    Error::new(Kind::Capacity, "too many names for one filesystem").expected("fewer than 2^32")
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
