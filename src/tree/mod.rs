//! The contents of one filesystem: names, metadata and references to content, sorted, without a byte of file
//! data.
//!
//! A [`Tree`] is plain memory, and a filesystem's `build` is a pure function of it. Nodes are in preorder.
//! Siblings are sorted by the bytes of their names, whatever order the host listed them in.

mod accounts;
pub(crate) mod acl;
mod below;
pub mod build;
pub(crate) mod capability;
mod change;
pub mod chmod;
mod content;
mod finish;
mod graft;
mod hold;
pub(crate) mod layers;
mod links;
mod look;
mod overlay;
mod owners;
mod ready;
mod rules;
mod scan;
pub mod select;
mod view;
pub mod xattr;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Kind, Result, Warning};
use crate::image::{Files, HostFile, NamedFile, Slice};
use crate::units::{Bytes, index, u64_of, usize_of};

pub use accounts::{Account, Accounts};
pub use build::Builder;
pub use change::Change;
pub use chmod::Chmod;
pub use content::FileData;
pub(crate) use look::ranges as data_ranges;
pub(crate) use owners::Names;
pub(crate) use ready::Ready;
pub use rules::{Hardlinks, Owner, Rules};
pub use scan::{Exclusions, Request, Scan, scan, scan_without};
pub use select::Selection;
pub use view::View;
pub use xattr::Xattr;

/// The number of a node of a [`Tree`]; the root is [`NodeId::ROOT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The root directory.
    pub const ROOT: Self = Self(0);

    /// The node with this number, counted from the root in preorder.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number, counted from the root in preorder.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Its number as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        index(self.0)
    }
}

/// A point in time: seconds since 1970-01-01 UTC, which may be negative, and nanoseconds after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanoseconds: u32,
}

impl Time {
    /// A whole second.
    #[must_use]
    pub const fn seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }
}

/// The metadata of an inode, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Meta {
    /// Permissions with setuid, setgid and sticky: 0 to 0o7777. The file type is the content's.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Time,
    /// The number of a set of extended attributes of the tree; 0 is the empty set.
    pub xattrs: u32,
}

impl Meta {
    /// Mode and time, owned by root, without attributes.
    #[must_use]
    pub const fn root(mode: u16, mtime: Time) -> Self {
        Self { mode, uid: 0, gid: 0, mtime, xattrs: 0 }
    }
}

/// A range of bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// How many.
    pub length: u64,
}

/// The type of a node, and where its content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory; its children follow it in preorder.
    Directory,
    /// A regular file of the host.
    File {
        /// The number of a place in the tree's list of host places.
        place: u32,
        /// Length in bytes when it was scanned.
        size: u64,
        /// [`stamp`](crate::host::stamp) of its modification time when it was scanned.
        stamp: u64,
    },
    /// A regular file whose bytes are in the description.
    Text {
        /// The number of a text in the tree's list of texts.
        text: u32,
    },
    /// A regular file whose bytes are a slice of an image: a file of a foreign filesystem, or packed data.
    Slice {
        /// The number of a slice in the tree's list of slices.
        slice: u32,
    },
    /// A symbolic link.
    Symlink {
        /// The offset of its target in the tree's names.
        target: u64,
        /// Length of the target in bytes.
        length: u16,
    },
    /// A character device.
    CharacterDevice {
        /// Major and minor number.
        device: (u32, u32),
    },
    /// A block device.
    BlockDevice {
        /// Major and minor number.
        device: (u32, u32),
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Another name of a node that comes earlier in preorder.
    Link {
        /// The first name of the inode.
        to: NodeId,
    },
}

/// One name of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    name: u64,
    parent: u32,
    /// One past the last node of its subtree.
    end: u32,
    name_length: u16,
    /// Metadata; for [`Content::Link`] that of the node that it links to.
    pub meta: Meta,
    /// Its type and content.
    pub content: Content,
}

/// The place of host files. Most nodes share the place of their directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The file is named like its node, in this directory.
    Directory(PathBuf),
    /// The file has another name than its node.
    File(PathBuf),
    /// The bytes were read already. Another place has the path of the file.
    Held {
        /// The number of that place.
        place: u32,
        /// The bytes of several files.
        held: Arc<Vec<u8>>,
        /// The range of this file's bytes among them.
        own: std::ops::Range<usize>,
    },
}

/// Names, metadata and content references of one filesystem.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    names: Vec<u8>,
    places: Vec<Place>,
    texts: Vec<Arc<[u8]>>,
    slices: Vec<Slice>,
    xattrs: Vec<Vec<Xattr>>,
    /// Data ranges of files with holes: sorted, with gaps between them. A file that is not listed has no
    /// holes.
    ranges: BTreeMap<u32, Vec<Range>>,
    owners: owners::Owners,
    warnings: Vec<Warning>,
    /// Bytes of the longest name.
    longest: u16,
}

impl Tree {
    /// The number of names, including the root.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is only the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.len() <= 1
    }

    /// Whether there is a regular file.
    pub(crate) fn holds_a_file(&self) -> bool {
        self.ids().any(|id| {
            matches!(
                self.node(id).content,
                Content::File { .. } | Content::Text { .. } | Content::Slice { .. }
            )
        })
    }

    /// All nodes in preorder: a directory before its children, siblings by the bytes of their names.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)).map(NodeId)
    }

    /// A node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// Its name; empty for the root. Any bytes but `/` and NUL, at most [`LONGEST_NAME`](build::LONGEST_NAME).
    #[must_use]
    pub fn name(&self, id: NodeId) -> &[u8] {
        let node = self.node(id);
        let start = usize_of(node.name);
        &self.names[start..start + usize::from(node.name_length)]
    }

    /// Refuses names longer than `most` bytes, for a filesystem that has no longer ones.
    ///
    /// # Errors
    /// [`Kind::Capacity`] naming the first name that is too long.
    pub fn check_names(&self, most: u16) -> Result<()> {
        if self.longest <= most {
            return Ok(());
        }
        match self.ids().find(|id| self.node(*id).name_length > most) {
            None => Ok(()),
            Some(id) => Err(Error::new(Kind::Capacity, "a name is too long for this filesystem")
                .at(self.path(id))
                .expected(format!("at most {most} bytes"))
                .found(format!("{} bytes", self.node(id).name_length))),
        }
    }

    /// Warnings about owners, for a filesystem that keeps owners: names that have another owner than on the
    /// host although nobody asked for that.
    #[must_use]
    pub fn owner_warnings(&self) -> Vec<Warning> {
        self.owners.warnings()
    }

    /// Warnings about what the contents came from, whatever filesystem they go to.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// Its directory; the root is its own parent.
    #[must_use]
    pub fn parent(&self, id: NodeId) -> NodeId {
        NodeId(self.node(id).parent)
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self, id: NodeId) -> bool {
        matches!(self.node(id).content, Content::Directory)
    }

    /// The children of a directory, sorted by the bytes of their names; none for anything else.
    pub fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let end = self.node(id).end;
        let mut next = id.0 + 1;
        std::iter::from_fn(move || {
            (next < end).then(|| {
                let child = NodeId(next);
                next = self.node(child).end;
                child
            })
        })
    }

    /// The child of a directory that has this name.
    #[must_use]
    pub fn child(&self, id: NodeId, name: &[u8]) -> Option<NodeId> {
        self.children(id).find(|child| self.name(*child) == name)
    }

    /// The node at an absolute path; `/` and the empty path are the root.
    #[must_use]
    pub fn find(&self, path: &[u8]) -> Option<NodeId> {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        parts.into_iter().try_fold(NodeId::ROOT, |at, part| self.child(at, part))
    }

    /// A node and all below it, in preorder.
    pub fn subtree(&self, id: NodeId) -> impl Iterator<Item = NodeId> + use<> {
        (id.0..self.node(id).end).map(NodeId)
    }

    /// The node that has the content: for a further name, the first name of the inode.
    #[must_use]
    pub fn source(&self, id: NodeId) -> NodeId {
        match self.node(id).content {
            Content::Link { to } => to,
            _ => id,
        }
    }

    /// Its path inside the filesystem, for people and for error messages: `/` for the root.
    #[must_use]
    pub fn path(&self, id: NodeId) -> String {
        crate::text::printable(&self.path_bytes(id))
    }

    /// Its path inside the filesystem, in its own bytes: `/` for the root.
    #[must_use]
    pub fn path_bytes(&self, id: NodeId) -> Vec<u8> {
        let mut parts = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            parts.push(self.name(at));
            at = self.parent(at);
        }
        let mut path = Vec::new();
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        if path.is_empty() { b"/".to_vec() } else { path }
    }

    /// Length of a regular file's content in bytes; 0 for anything else.
    #[must_use]
    pub fn size(&self, id: NodeId) -> u64 {
        match self.node(id).content {
            Content::File { size, .. } => size,
            Content::Text { text } => u64_of(self.text(text).len()),
            Content::Slice { slice } => self.slice(slice).length().get(),
            _ => 0,
        }
    }

    /// The bytes of a text.
    #[must_use]
    pub fn text(&self, text: u32) -> &Arc<[u8]> {
        &self.texts[index(text)]
    }

    /// The slice of an image that has the bytes of a file.
    #[must_use]
    pub fn slice(&self, slice: u32) -> &Slice {
        &self.slices[index(slice)]
    }

    /// The target of a symbolic link; empty for anything else.
    #[must_use]
    pub fn target(&self, id: NodeId) -> &[u8] {
        match self.node(id).content {
            Content::Symlink { target, length } => {
                let start = usize_of(target);
                &self.names[start..start + usize::from(length)]
            }
            _ => &[],
        }
    }

    /// A set of extended attributes, sorted by name.
    #[must_use]
    pub fn xattrs(&self, set: u32) -> &[Xattr] {
        self.xattrs.get(index(set)).map_or(&[], Vec::as_slice)
    }

    /// All sets of extended attributes; number 0 is the empty one.
    #[must_use]
    pub fn xattr_sets(&self) -> &[Vec<Xattr>] {
        &self.xattrs
    }

    /// Where a file with holes has data: sorted ranges. `None` for a file without holes.
    #[must_use]
    pub fn ranges(&self, id: NodeId) -> Option<&[Range]> {
        self.ranges.get(&id.0).map(Vec::as_slice)
    }

    /// The largest regular files, largest first, with their sizes; errors name them if contents do not fit.
    #[must_use]
    pub fn largest(&self, count: usize) -> Vec<(NodeId, u64)> {
        let mut files: Vec<_> =
            self.ids().map(|id| (id, self.size(id))).filter(|(_, size)| *size > 0).collect();
        files.sort_by_key(|(id, size)| (std::cmp::Reverse(*size), *id));
        files.truncate(count);
        files
    }

    /// Says which files are largest, as the hint of an error about contents that do not fit.
    pub(crate) fn largest_hint(&self) -> Option<String> {
        let named = |(id, size)| format!("{} ({})", self.path(id), Bytes::new(size).human());
        let largest: Vec<String> = self.largest(5).into_iter().map(named).collect();
        (!largest.is_empty()).then(|| format!("the largest files are {}", largest.join(", ")))
    }
}

impl Tree {
    /// The place, size and stamp of a node that is a file of the host.
    fn host(&self, id: u32) -> Result<(&Place, u64, u64)> {
        match self.nodes.get(index(id)).map(|node| node.content) {
            Some(Content::File { place, size, stamp }) => Ok((self.place(id, place)?, size, stamp)),
            _ => Err(Error::bug(format!("node {id} of a tree is not a host file"))),
        }
    }

    fn place(&self, id: u32, place: u32) -> Result<&Place> {
        let there = self.places.get(index(place));
        there.ok_or_else(|| Error::bug(format!("host place {place} of node {id} is not in the tree")))
    }

    /// The path of the file `id` by its place.
    fn host_path<'a>(&'a self, id: u32, place: &'a Place) -> Result<Cow<'a, Path>> {
        match place {
            Place::Directory(folder) => Ok(Cow::Owned(folder.join(OsStr::from_bytes(self.name(NodeId(id)))))),
            Place::File(path) => Ok(Cow::Borrowed(path.as_path())),
            // The place of a held file leads to a place that is not held.
            Place::Held { place, .. } => self.host_path(id, self.place(id, *place)?),
        }
    }
}

impl Files for Tree {
    fn file(&self, id: u32) -> Result<HostFile<'_>> {
        let (place, size, stamp) = self.host(id)?;
        Ok(HostFile { path: self.host_path(id, place)?, size, stamp: Some(stamp) })
    }

    fn size(&self, id: u32) -> Result<u64> {
        Ok(self.host(id)?.1)
    }

    fn held(&self, id: u32) -> Result<Option<&[u8]>> {
        Ok(match self.host(id)? {
            (Place::Held { held, own, .. }, ..) => {
                let bytes = held.get(own.clone());
                Some(bytes.ok_or_else(|| Error::bug(format!("the bytes of node {id} are not held")))?)
            }
            _ => None,
        })
    }

    fn named(&self, id: u32) -> Result<Option<NamedFile<'_>>> {
        Ok(match self.host(id)? {
            (Place::Directory(folder), size, stamp) => {
                let name = OsStr::from_bytes(self.name(NodeId(id)));
                Some(NamedFile { folder, name, size, stamp: Some(stamp) })
            }
            _ => None,
        })
    }
}
