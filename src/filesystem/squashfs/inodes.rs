//! Inodes and directories. A directory follows all that is in it, since its names say where their inodes are; the root
//! comes last.

use std::collections::HashMap;

use super::codec::Settings;
use super::data::{Data, Stored};
use super::directory::{self, Listing, Name};
use super::format;
use super::format::{
    DOTS, Device, Directory, Fragment, Head, Ipc, LongDevice, LongDirectory, LongFile, LongIpc, MODE,
    MOST_IDS, NONE, Place, Symlink, Type, device,
};
use super::losses::seconds;
use super::metadata::{Stream, Tables, address};
use super::xattr::Xattrs;
use crate::error::{Error, Kind, Result};
use crate::option::option;
use crate::tree::{Content, NodeId, Tree};
use crate::units::narrow;
use crate::wire::Wire;

/// All metadata of an image but its superblock.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) tables: Tables,
    /// How many sets of attributes there are.
    pub(super) sets: u32,
    /// Where the inode of the root is.
    pub(super) root: Place,
    pub(super) inodes: u32,
    pub(super) ids: u16,
}

/// Owners and groups, each once, in the order of their first use.
struct Ids {
    all: Vec<u32>,
    numbers: HashMap<u32, usize>,
}

impl Ids {
    /// # Errors
    /// [`Kind::Capacity`] for more than the format can count.
    fn new(tree: &Tree) -> Result<Self> {
        let mut ids = Self { all: Vec::new(), numbers: HashMap::new() };
        for meta in tree.ids().map(|node| tree.node(node).meta) {
            for id in [meta.uid, meta.gid] {
                let next = ids.all.len();
                if *ids.numbers.entry(id).or_insert(next) == next {
                    ids.all.push(id);
                }
            }
        }
        if ids.all.len() > MOST_IDS {
            return Err(Error::new(Kind::Capacity, "a SquashFS cannot hold so many owners and groups")
                .expected(format!("at most {MOST_IDS} different numbers"))
                .found(ids.all.len())
                .hint(format!("give everything one owner with {}", option("owner"))));
        }
        Ok(ids)
    }

    fn number(&self, id: u32) -> Result<u16> {
        let number = self.numbers.get(&id).ok_or_else(|| Error::bug("an owner has no number"))?;
        narrow(*number, "the number of an owner")
    }
}

/// Gives `each` all nodes in the order in which their inodes are written: what is in a directory before the directory.
fn walk(tree: &Tree, mut each: impl FnMut(NodeId) -> Result<()>) -> Result<()> {
    let mut open = Vec::new();
    for node in tree.ids() {
        let parent = tree.parent(node);
        while open.last().is_some_and(|last| *last != parent) {
            open.pop().map_or(Ok(()), &mut each)?;
        }
        if tree.is_directory(node) {
            open.push(node);
        } else {
            each(node)?;
        }
    }
    while let Some(node) = open.pop() {
        each(node)?;
    }
    Ok(())
}

/// Number of the inode of each node, from 1, in the order in which they are written; and how many there are.
fn numbers(tree: &Tree) -> Result<(Vec<u32>, u32)> {
    let mut numbers = vec![0; tree.len()];
    let mut last: u32 = 0;
    walk(tree, |node| {
        // The root's parent has a number more than there are inodes.
        let next = last.checked_add(1).filter(|next| *next < u32::MAX);
        let source = tree.source(node);
        numbers[node.index()] = if source == node {
            last = next.ok_or_else(|| {
                Error::new(Kind::Capacity, "there are too many inodes")
                    .expected("fewer than 2^32 - 1, as their numbers have 32 bits")
            })?;
            last
        } else {
            numbers[source.index()]
        };
        Ok(())
    })?;
    Ok((numbers, last))
}

/// A name that waits for its directory to be written.
#[derive(Clone, Copy)]
struct Waiting {
    node: NodeId,
    kind: Type,
    place: Place,
}

/// The names that wait for a directory; anything else has none.
fn names_of(tree: &Tree, node: NodeId, waiting: &mut HashMap<NodeId, Vec<Waiting>>) -> Result<Vec<Waiting>> {
    // No name waits for a directory that is empty.
    let names = waiting.remove(&node).unwrap_or_default();
    let due = if tree.is_directory(node) { tree.children(node).count() } else { 0 };
    if names.len() == due {
        return Ok(names);
    }
    Err(Error::bug(format!("directory {} lost names", node.get())).expected(due).found(names.len()))
}

/// Inodes that are being written.
struct Writer<'a> {
    tree: &'a Tree,
    data: &'a Data,
    numbers: Vec<u32>,
    count: u32,
    ids: Ids,
    /// Names of inodes that have more than one.
    links: HashMap<NodeId, u32>,
    /// Where inodes with several names are.
    linked: HashMap<NodeId, Place>,
    inodes: Stream,
    directories: Stream,
    exports: Stream,
    xattrs: Xattrs,
    /// Which regular file comes next.
    next: usize,
}

/// Writes the metadata of `tree`, whose files are stored as `data` says from byte `start` of the image on.
///
/// # Errors
/// [`Kind::Capacity`] for what does not fit the format.
pub(super) fn write(tree: &Tree, data: &Data, start: u64, settings: Settings) -> Result<Metadata> {
    let (numbers, count) = numbers(tree)?;
    let mut links = HashMap::new();
    for node in tree.ids() {
        if let Content::Link { to } = tree.node(node).content {
            *links.entry(to).or_insert(1) += 1;
        }
    }
    let stream = || Stream::new(settings);
    let mut writer = Writer {
        tree,
        data,
        numbers,
        count,
        ids: Ids::new(tree)?,
        links,
        linked: HashMap::new(),
        inodes: stream()?,
        directories: stream()?,
        exports: stream()?,
        xattrs: Xattrs::new(settings)?,
        next: 0,
    };
    let root = writer.all(start)?;
    let mut fragments = stream()?;
    for fragment in &data.fragments {
        let start_block = address(start, fragment.start)?;
        fragments.put(&Fragment { start_block, size: fragment.size, unused: 0 }.bytes())?;
    }
    let mut ids = stream()?;
    writer.ids.all.iter().try_for_each(|id| ids.put(&id.to_le_bytes()))?;
    let (xattrs, sets) = match writer.xattrs.finish()? {
        Some((data, sets, count)) => (Some((data, sets)), count),
        None => (None, 0),
    };
    Ok(Metadata {
        tables: Tables {
            inodes: writer.inodes.finish()?,
            directories: writer.directories.finish()?,
            fragments: fragments.finish()?,
            exports: writer.exports.finish()?,
            ids: ids.finish()?,
            xattrs,
        },
        sets,
        root,
        inodes: count,
        ids: narrow(writer.ids.all.len(), "no_ids")?,
    })
}

impl Writer<'_> {
    /// Writes all inodes; where that of the root is.
    fn all(&mut self, start: u64) -> Result<Place> {
        let tree = self.tree;
        // Names of the directories that are open, by directory: only those of one way down wait at a time.
        let mut waiting: HashMap<NodeId, Vec<Waiting>> = HashMap::new();
        let mut root = Place::default();
        walk(tree, |node| {
            let source = tree.source(node);
            let kind = kind(tree, source);
            let place = match self.linked.get(&source) {
                Some(place) if source != node => *place,
                None if source != node => return Err(Error::bug("a link comes before its inode")),
                _ => {
                    let place = self.inodes.place();
                    place.block32("inodes")?;
                    self.exports.put(&place.reference().to_le_bytes())?;
                    let names = names_of(tree, node, &mut waiting)?;
                    match kind {
                        Type::Directory => self.directory(node, &names),
                        Type::File => self.file(node, start),
                        Type::Symlink => self.symlink(node),
                        _ => self.special(node, kind),
                    }?;
                    if self.links.contains_key(&node) {
                        self.linked.insert(node, place);
                    }
                    place
                }
            };
            if node == NodeId::ROOT {
                root = place;
            } else {
                waiting.entry(tree.parent(node)).or_default().push(Waiting { node, kind, place });
            }
            Ok(())
        })?;
        Ok(root)
    }

    fn number(&self, node: NodeId) -> Result<u32> {
        let number = self.numbers.get(node.index()).copied().filter(|number| *number != 0);
        number.ok_or_else(|| Error::bug(format!("node {} has no inode", node.get())))
    }

    fn head(&self, node: NodeId, inode_type: u16) -> Result<Head> {
        let meta = self.tree.node(node).meta;
        Ok(Head {
            inode_type,
            mode: meta.mode & MODE,
            uid: self.ids.number(meta.uid)?,
            guid: self.ids.number(meta.gid)?,
            mtime: seconds(meta.mtime),
            inode_number: self.number(node)?,
        })
    }

    fn links(&self, node: NodeId) -> u32 {
        self.links.get(&node).copied().unwrap_or(1)
    }

    fn xattr(&mut self, node: NodeId) -> Result<u32> {
        let set = self.tree.node(node).meta.xattrs;
        let number = self.xattrs.number(set, self.tree.xattrs(set));
        number.map_err(|error| error.at(self.tree.path(node)))
    }

    fn directory(&mut self, node: NodeId, names: &[Waiting]) -> Result<()> {
        let tree = self.tree;
        let name = |waiting: &Waiting| {
            let (name, number) = (tree.name(waiting.node), self.number(waiting.node)?);
            Ok(Name { name, kind: waiting.kind, number, place: waiting.place })
        };
        let names_of = names.iter().map(name).collect::<Result<Vec<_>>>()?;
        let written = directory::write(&mut self.directories, names_of.into_iter())?;
        let Listing { place, length, index, entries } = written;
        let subdirectories = names.iter().filter(|waiting| waiting.kind == Type::Directory).count();
        let nlink = narrow(2 + subdirectories, "nlink")?;
        let start_block = place.block32("names")?;
        let parent_inode =
            if node == NodeId::ROOT { self.count + 1 } else { self.number(tree.parent(node))? };
        let xattr = self.xattr(node)?;
        let size = length + DOTS;
        if let (Ok(file_size), NONE, 0) = (u16::try_from(size), xattr, entries) {
            let head = self.head(node, Type::Directory.number())?;
            let offset = place.offset;
            return self
                .inodes
                .put(&Directory { head, start_block, nlink, file_size, offset, parent_inode }.bytes());
        }
        let file_size = u32::try_from(size).map_err(|_| {
            Error::new(Kind::Capacity, "a SquashFS cannot hold so large a directory")
                .at(tree.path(node))
                .expected("less than 4 GiB of names")
                .found(format!("{size} bytes for {} names", names.len()))
        })?;
        let head = self.head(node, Type::Directory.long())?;
        let (i_count, offset) = (entries, place.offset);
        let long =
            LongDirectory { head, nlink, file_size, start_block, parent_inode, i_count, offset, xattr };
        self.inodes.put(&long.bytes())?;
        self.inodes.put(&index)
    }

    fn file(&mut self, node: NodeId, start: u64) -> Result<()> {
        let stored = self.data.files.get(self.next).filter(|stored| stored.node == node);
        let stored = stored.ok_or_else(|| Error::bug(format!("node {} is not stored", node.get())))?;
        self.next += 1;
        let Stored { sparse, fragment, .. } = *stored;
        let (fragment, offset) = fragment.unwrap_or((NONE, 0));
        let list = self.data.list(stored)?;
        // Nothing is read from where no block is.
        let start = if list.is_empty() { 0 } else { address(start, stored.start)? };
        let (size, nlink) = (self.tree.size(node), self.links(node));
        let xattr = self.xattr(node)?;
        let short = (u32::try_from(start), u32::try_from(size));
        if let ((Ok(start_block), Ok(file_size)), 1, NONE, 0) = (short, nlink, xattr, sparse) {
            let head = self.head(node, Type::File.number())?;
            self.inodes.put(&format::File { head, start_block, fragment, offset, file_size }.bytes())?;
        } else {
            let head = self.head(node, Type::File.long())?;
            let (start_block, file_size) = (start, size);
            let long = LongFile { head, start_block, file_size, sparse, nlink, fragment, offset, xattr };
            self.inodes.put(&long.bytes())?;
        }
        let mut words = list.iter();
        while let Some(length) = words.next() {
            match length {
                0 => self.inodes.zeros(words.next().map_or(0, |holes| 4 * u64::from(*holes)))?,
                length => self.inodes.put(&length.to_le_bytes())?,
            }
        }
        Ok(())
    }

    fn symlink(&mut self, node: NodeId) -> Result<()> {
        let target = self.tree.target(node);
        let xattr = self.xattr(node)?;
        let kind = if xattr == NONE { Type::Symlink.number() } else { Type::Symlink.long() };
        let head = self.head(node, kind)?;
        let symlink_size = narrow(target.len(), "symlink_size")?;
        self.inodes.put(&Symlink { head, nlink: self.links(node), symlink_size }.bytes())?;
        self.inodes.put(target)?;
        if xattr == NONE { Ok(()) } else { self.inodes.put(&xattr.to_le_bytes()) }
    }

    fn special(&mut self, node: NodeId, kind: Type) -> Result<()> {
        let (nlink, xattr) = (self.links(node), self.xattr(node)?);
        let head = self.head(node, if xattr == NONE { kind.number() } else { kind.long() })?;
        let number = match self.tree.node(node).content {
            Content::CharacterDevice { device } | Content::BlockDevice { device } => Some(device),
            _ => None,
        };
        let Some(number) = number else {
            return match xattr {
                NONE => self.inodes.put(&Ipc { head, nlink }.bytes()),
                xattr => self.inodes.put(&LongIpc { head, nlink, xattr }.bytes()),
            };
        };
        let rdev = device(number).ok_or_else(|| {
            Error::new(Kind::Capacity, "Linux has no device of this number")
                .at(self.tree.path(node))
                .expected("a major number up to 4095 and a minor number up to 1048575")
                .found(format!("{}:{}", number.0, number.1))
        })?;
        match xattr {
            NONE => self.inodes.put(&Device { head, nlink, rdev }.bytes()),
            xattr => self.inodes.put(&LongDevice { head, nlink, rdev, xattr }.bytes()),
        }
    }
}

/// The type of a node that is no further name.
fn kind(tree: &Tree, node: NodeId) -> Type {
    match tree.node(node).content {
        Content::Directory => Type::Directory,
        Content::File { .. } | Content::Text { .. } | Content::Slice { .. } | Content::Link { .. } => {
            Type::File
        }
        Content::Symlink { .. } => Type::Symlink,
        Content::CharacterDevice { .. } => Type::CharacterDevice,
        Content::BlockDevice { .. } => Type::BlockDevice,
        Content::Fifo => Type::Fifo,
        Content::Socket => Type::Socket,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Builder, Meta, Time};

    #[test]
    fn a_directory_that_lost_a_name_is_a_bug_and_not_empty() {
        let mut builder = Builder::new(Time::default());
        let (meta, origin) = (Meta::root(0o644, Time::default()), builder.origin("test"));
        builder.text(b"/a/file", b"x".to_vec(), meta, origin).unwrap();
        builder.put(b"/empty", Meta { mode: 0o755, ..meta }, Content::Directory, origin).unwrap();
        let tree = builder.finish(1).unwrap();
        let [full, empty, file] = ["/a", "/empty", "/a/file"].map(|path| tree.find(path.as_bytes()).unwrap());
        let name = Waiting { node: file, kind: Type::File, place: Place::default() };
        let names = |node, names: Vec<Waiting>| {
            names_of(&tree, node, &mut [(node, names)].into()).map(|names| names.len())
        };
        assert_eq!(names(full, vec![name]).unwrap(), 1);
        assert_eq!(names_of(&tree, empty, &mut HashMap::new()).unwrap().len(), 0);
        assert_eq!(names_of(&tree, file, &mut HashMap::new()).unwrap().len(), 0);
        for lost in [names_of(&tree, full, &mut HashMap::new()).map(|_| 0), names(full, vec![name; 2])] {
            let error = lost.unwrap_err();
            let text = format!("directory {} lost names", full.get());
            assert_eq!((error.kind(), error.what()), (Kind::Bug, text.as_str()));
        }
    }
}
