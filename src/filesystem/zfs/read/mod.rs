//! Reading a pool on one disk: its datasets as directories of one tree, their snapshots, their volumes. Nothing that is read is
//! trusted: every block is compared with its checksum, what is not in order is an error, and no number makes memory grow by
//! more than a few blocks.
//!
//! Filesystems are where OpenZFS mounts them by default below `/pool`: `tank/root` is `/root`, and is there instead of what
//! `tank` has under this name. A volume is a file. Snapshots are in `.zfs/snapshot` of their filesystem, which is found and not
//! listed, and those of any dataset below another are found as `name@snapshot`.

mod attributes;
mod block;
mod check;
mod data;
mod datasets;
mod features;
mod label;
mod nvlist;
mod object;
mod place;
pub(super) mod space;
#[cfg(test)]
mod tests;
mod zap;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::attributes::Attribute;
use super::format::{DNODE_USED_BYTES, END, SECTOR, START, VERSION, kind};
use super::mos::{META, OBJECT_DIRECTORY};
use super::volume;
use crate::error::{Error, Result, Warning};
use crate::filesystem::Facts;
use crate::filesystem::device::{Device, damaged};
use crate::filesystem::mode::{
    MODE_BLOCK, MODE_CHARACTER, MODE_DIRECTORY, MODE_FIFO, MODE_FILE, MODE_SOCKET, MODE_SYMLINK, MODE_TYPE,
};
use crate::filesystem::volume::{Content, Inode, Meta, Node, Remark, Space, Volume};
use crate::image::Slice;
use crate::tree::Time;
use crate::units::Bytes;
use attributes::{Attributes, Registry};
use block::{Blocks, Pointer};
use datasets::Member;
use label::Labels;
use object::{Object, Set};

/// Bits of an inode's number that are that of its object; those above are the dataset's.
const OBJECT_BITS: u32 = 48;
const OBJECTS: u64 = (1 << OBJECT_BITS) - 1;
/// In place of objects: `.zfs` of a filesystem, and `snapshot` in it.
const CONTROL: u64 = OBJECTS;
const SNAPSHOTS: u64 = OBJECTS - 1;
const CONTROL_NAME: &[u8] = b".zfs";
const SNAPSHOTS_NAME: &[u8] = b"snapshot";

/// Sets of objects that are kept.
const KEPT: usize = 8;
/// Metaslabs whose maps are looked at for the free space, more than any pool should have.
const MOST_METASLABS: u64 = 1 << 16;

/// A dataset that was opened.
#[derive(Debug)]
struct Opened {
    set: Set,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    /// A filesystem: the object of its root directory, and what it registered.
    Files { root: u64, registry: Registry },
    /// A volume of so many bytes.
    Volume { size: u64 },
}

/// An open pool.
#[derive(Debug)]
pub(crate) struct Zfs {
    facts: Facts,
    warnings: Vec<Warning>,
    features: Vec<String>,
    blocks: Arc<Blocks>,
    labels: Labels,
    mos: Set,
    members: Vec<Member>,
    kept: Mutex<VecDeque<(u64, Arc<Opened>)>>,
}

/// Opens the pool in `slice`; `None` where there is none.
///
/// # Errors
/// [`Kind::Format`](crate::error::Kind::Format) where there is one that is damaged, is more than one disk, or uses a feature that
/// is not read here, by its name.
pub(crate) fn open(slice: &Slice) -> Result<Option<Zfs>> {
    open_with(slice, !cfg!(fuzzing))
}

/// The same; without `verifies`, checksums are not compared.
fn open_with(slice: &Slice, verifies: bool) -> Result<Option<Zfs>> {
    let device = Device::new(slice);
    if !label::is_there(&device)? {
        return Ok(None);
    }
    let labels = label::read(&device, verifies)?;
    if labels.config.number("version")? != VERSION {
        return Err(damaged("only ZFS pools with features are read")
            .expected(format!("version {VERSION}"))
            .found(labels.config.number("version")?));
    }
    let blocks = Arc::new(Blocks::new(device, verifies));
    let mos = Set::read(&blocks, &Pointer::of(labels.uberblock.ub_rootbp.clone()))?;
    if mos.head.os_type != META {
        return Err(damaged("the pool's own set of objects is another one").found(mos.head.os_type));
    }
    let directory = mos.object(&blocks, OBJECT_DIRECTORY)?;
    let features = features::read(&blocks, &mos, &directory)?;
    let root = blocks.required(&directory, "root_dataset")?;
    let members = datasets::read(&blocks, &mos, labels.config.text("name"), root)?;
    let facts = facts(&blocks, &mos, &labels)?;
    let mut warnings = Vec::new();
    // fs/zfs.h, POOL_STATE_EXPORTED.
    if labels.config.number("state")? != 1 {
        warnings.push(Warning(
            "the ZFS pool was not exported: what is only in its intent log is not read".to_owned(),
        ));
    }
    Ok(Some(Zfs { facts, warnings, features, blocks, labels, mos, members, kept: Mutex::default() }))
}

/// Facts about a pool, by its labels and the heads of its space maps.
fn facts(blocks: &Blocks, mos: &Set, labels: &Labels) -> Result<Facts> {
    let tree = labels.config.list("vdev_tree").ok_or_else(|| damaged("the configuration has no vdev"))?;
    let (ashift, shift) = (tree.number("ashift")?, tree.number("metaslab_shift")?);
    if !(9..=16).contains(&ashift) || !(ashift..=50).contains(&shift) {
        return Err(damaged("the units of a ZFS pool cannot be")
            .found(format!("ashift {ashift}, metaslab_shift {shift}")));
    }
    let asize = tree.number("asize")?;
    if asize > blocks.length().saturating_sub(START + END) {
        return Err(damaged("a ZFS pool is longer than the space it is in")
            .expected(format!("at most {} bytes", blocks.length().saturating_sub(START + END)))
            .found(asize));
    }
    let (count, unit) = (asize >> shift, 1 << ashift);
    let capacity = count << shift;
    // Where that is damaged, files can be read all the same; the check says what is wrong.
    let taken = if count <= MOST_METASLABS { space::taken(blocks, mos, tree, count).ok() } else { None };
    let taken = taken.unwrap_or(capacity);
    Ok(Facts {
        kind: "zfs",
        label: labels.config.text("name").to_owned(),
        uuid: labels.config.number("pool_guid")?.to_string(),
        block_size: unit,
        blocks: capacity / unit,
        free_blocks: capacity.saturating_sub(taken) / unit,
        journal: 0,
        inodes: None,
        free_inodes: None,
    })
}

/// The object that an entry of a directory leads to (zfs_znode.h, ZFS_DIRENT_OBJ).
const fn child(value: u64) -> u64 {
    value & OBJECTS
}

fn no_directory(inode: Inode) -> Error {
    damaged("this inode is no directory").found(format!("inode {}", inode.0))
}

const fn parts(inode: Inode) -> (u64, u64) {
    (inode.0 >> OBJECT_BITS, inode.0 & OBJECTS)
}

const fn inode(place: u64, object: u64) -> Inode {
    Inode(place << OBJECT_BITS | object & OBJECTS)
}

impl Zfs {
    /// The names of the features that are in use.
    pub(crate) fn features(&self) -> &[String] {
        &self.features
    }

    fn member(&self, place: u64) -> Result<&Member> {
        let own = usize::try_from(place).ok().and_then(|place| self.members.get(place));
        own.ok_or_else(|| damaged("there is no such dataset").found(place))
    }

    /// The set of objects of a dataset.
    fn opened(&self, place: u64) -> Result<Arc<Opened>> {
        let member = self.member(place)?;
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kept = lock();
        if let Some(found) = kept.iter().rposition(|(own, _)| *own == place)
            && let Some(own) = kept.remove(found)
        {
            let opened = Arc::clone(&own.1);
            kept.push_back(own);
            return Ok(opened);
        }
        drop(kept);
        let opened = Arc::new(self.read_set(member).map_err(|error| error.at(&member.name))?);
        let mut kept = lock();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back((place, Arc::clone(&opened)));
        Ok(opened)
    }

    fn read_set(&self, member: &Member) -> Result<Opened> {
        let blocks = &self.blocks;
        let set = Set::read(blocks, &Pointer::of(member.root.clone()))?;
        let shape = match set.head.os_type {
            super::files::FILESYSTEM => {
                let master = set.object(blocks, super::division::MASTER)?;
                let attributes = blocks.find(&master, b"SA_ATTRS")?.filter(|object| *object != 0);
                let attributes = attributes.ok_or_else(|| {
                    damaged("a filesystem has no system attributes: its version is before 5, which is not read here")
                })?;
                let registry = Registry::read(blocks, &set, attributes)?;
                Shape::Files { root: child(blocks.required(&master, "ROOT")?), registry }
            }
            volume::VOLUME => {
                let properties = set.object(blocks, volume::PROPERTIES)?;
                Shape::Volume { size: blocks.required(&properties, "size")? }
            }
            other => return Err(damaged("a dataset is neither filesystem nor volume").found(other)),
        };
        Ok(Opened { set, shape })
    }

    /// The inode of a whole dataset.
    fn top(&self, place: u64) -> Result<Inode> {
        Ok(match self.opened(place)?.shape {
            Shape::Files { root, .. } => inode(place, root),
            Shape::Volume { .. } => inode(place, volume::CONTENTS),
        })
    }

    /// An object of a filesystem, its attributes and its mode.
    fn file(&self, opened: &Opened, object: u64) -> Result<(Object, Attributes, u16)> {
        let Shape::Files { registry, .. } = &opened.shape else {
            return Err(damaged("a volume has no files").found(format!("object {object}")));
        };
        let own = opened.set.object(&self.blocks, object)?;
        let attributes = Attributes::read(&self.blocks, registry, &own)
            .map_err(|error| error.at(format!("object {object}")))?;
        let mode = crate::units::low16(attributes.required(Attribute::Mode)?);
        let is_directory = own.head.dn_type == kind::DIRECTORY;
        if is_directory != (mode & MODE_TYPE == MODE_DIRECTORY)
            || !is_directory && own.head.dn_type != kind::FILE
        {
            return Err(damaged("an object is another one than its mode says")
                .found(format!("object {object}, type {}, mode {mode:o}", own.head.dn_type)));
        }
        Ok((own, attributes, mode))
    }

    /// A dataset below another, or a snapshot of one: `name`, or `name@snapshot`.
    fn below(&self, member: &Member, name: &[u8]) -> Result<Option<u64>> {
        let (name, snapshot) = match name.iter().position(|byte| *byte == b'@') {
            Some(at) => (&name[..at], Some(&name[at + 1..])),
            None => (name, None),
        };
        let Some(child) = member.children.get(name) else { return Ok(None) };
        match snapshot {
            None => Ok(Some(*child)),
            Some(snapshot) => Ok(self.member(*child)?.snapshots.get(snapshot).copied()),
        }
    }

    /// What a directory outside of all filesystems leads to by a name; `None` for other directories.
    fn control(&self, place: u64, object: u64, name: &[u8]) -> Result<Option<Option<Inode>>> {
        let member = self.member(place)?;
        Ok(match object {
            CONTROL => Some((name == SNAPSHOTS_NAME).then(|| inode(place, SNAPSHOTS))),
            SNAPSHOTS => Some(match member.snapshots.get(name) {
                Some(snapshot) => Some(self.top(*snapshot)?),
                None => None,
            }),
            _ => None,
        })
    }
}

/// A directory that is no object.
fn virtual_node(place: u64, object: u64) -> Option<Node> {
    let meta = Meta { mode: 0o555, uid: 0, gid: 0, mtime: Time::default(), links: 2, xattrs: Vec::new() };
    let content = Content::Directory { place: inode(place, object).0 };
    (object >= SNAPSHOTS).then_some(Node { meta, content })
}

/// A number that no other directory of its dataset has: where its first block is, or, where that is in its dnode, where its dnode
/// is. So two objects with the same names are noticed.
fn place_of(place: u64, object: &Object) -> u64 {
    let first = object.pointers.first().and_then(Pointer::place);
    let own = first.map_or(object.place << 1 | 1, |sector| sector << 1);
    place << OBJECT_BITS | own & OBJECTS
}

impl Volume for Zfs {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The root of the dataset of the pool's name. Where its set of objects is damaged, what follows says so.
    fn root(&self) -> Inode {
        self.top(0).unwrap_or(Inode(0))
    }

    fn lookup(&self, directory: Inode, name: &[u8]) -> Result<Option<Inode>> {
        let (place, object) = parts(directory);
        if let Some(found) = self.control(place, object, name)? {
            return Ok(found);
        }
        let opened = self.opened(place)?;
        let Shape::Files { root, .. } = opened.shape else { return Err(no_directory(directory)) };
        if object == root {
            let member = self.member(place)?;
            if name == CONTROL_NAME {
                return Ok(Some(inode(place, CONTROL)));
            }
            if let Some(child) = self.below(member, name)? {
                return self.top(child).map(Some);
            }
        }
        let (own, _, mode) = self.file(&opened, object)?;
        if mode & MODE_TYPE != MODE_DIRECTORY {
            return Err(no_directory(directory));
        }
        Ok(self.blocks.find(&own, name)?.map(|value| inode(place, child(value))))
    }

    fn list(&self, directory: Inode, each: &mut dyn FnMut(&[u8], Inode) -> Result<()>) -> Result<()> {
        let (place, object) = parts(directory);
        let member = self.member(place)?;
        match object {
            CONTROL => return each(SNAPSHOTS_NAME, inode(place, SNAPSHOTS)),
            SNAPSHOTS => {
                return member.snapshots.iter().try_for_each(|(name, own)| each(name, self.top(*own)?));
            }
            _ => {}
        }
        let opened = self.opened(place)?;
        let Shape::Files { root, .. } = opened.shape else { return Err(no_directory(directory)) };
        let (own, _, mode) = self.file(&opened, object)?;
        if mode & MODE_TYPE != MODE_DIRECTORY {
            return Err(no_directory(directory));
        }
        let is_covered = |name: &[u8]| object == root && member.children.contains_key(name);
        self.blocks.entries(&own, &mut |entry| {
            let name = entry.name;
            if name.contains(&b'/') || name == b"." || name == b".." {
                return Err(damaged("a name in a directory is none").found(crate::text::printable(name)));
            }
            let own = child(entry.number()?);
            if !is_covered(name) {
                each(name, inode(place, own))?;
            }
            Ok(true)
        })?;
        if object == root {
            member.children.iter().try_for_each(|(name, own)| each(name, self.top(*own)?))?;
        }
        Ok(())
    }

    fn node(&self, inode: Inode) -> Result<Node> {
        let (place, object) = parts(inode);
        if let Some(node) = virtual_node(place, object) {
            self.member(place)?;
            return Ok(node);
        }
        let opened = self.opened(place)?;
        let Shape::Files { registry, .. } = &opened.shape else { return volume_node(&opened, inode) };
        let (own, attributes, mode) = self.file(&opened, object)?;
        let owner = |attribute| -> Result<u32> {
            let number = attributes.required(attribute)?;
            u32::try_from(number).map_err(|_| damaged("an owner is larger than 32 bits").found(number))
        };
        let meta = Meta {
            mode: mode & 0o7777,
            uid: owner(Attribute::User)?,
            gid: owner(Attribute::Group)?,
            mtime: attributes.time()?,
            links: u32::try_from(attributes.required(Attribute::Links)?).unwrap_or(u32::MAX),
            xattrs: attributes.xattrs(&self.blocks, &opened.set, registry)?,
        };
        let device = || attributes.required(Attribute::Device).map(attributes::device);
        let content = match mode & MODE_TYPE {
            MODE_DIRECTORY => Content::Directory { place: place_of(place, &own) },
            MODE_FILE => Content::File { size: Bytes::new(attributes.required(Attribute::Size)?) },
            MODE_SYMLINK => Content::Symlink { target: attributes.bytes(Attribute::Target).to_vec() },
            MODE_CHARACTER => Content::CharacterDevice(device()?),
            MODE_BLOCK => Content::BlockDevice(device()?),
            MODE_FIFO => Content::Fifo,
            MODE_SOCKET => Content::Socket,
            _ => return Err(damaged("a file is of no type").found(format!("mode {mode:o}"))),
        };
        Ok(Node { meta, content })
    }

    fn space(&self, inode: Inode) -> Result<Space> {
        let (place, object) = parts(inode);
        if virtual_node(place, object).is_some() {
            return Ok(Space::default());
        }
        let opened = self.opened(place)?;
        let allocated = |own: &Object| {
            // Old dnodes count sectors.
            let unit = if own.head.dn_flags & DNODE_USED_BYTES == 0 { SECTOR } else { 1 };
            Bytes::new(own.head.dn_used.saturating_mul(unit))
        };
        if let Shape::Volume { size } = opened.shape {
            let own = opened.set.object(&self.blocks, volume::CONTENTS)?;
            return Ok(Space { size: Bytes::new(size), allocated: allocated(&own) });
        }
        let (own, attributes, _) = self.file(&opened, object)?;
        Ok(Space { size: Bytes::new(attributes.required(Attribute::Size)?), allocated: allocated(&own) })
    }

    fn data(&self, inode: Inode, each: &mut dyn FnMut(Bytes, Slice) -> Result<()>) -> Result<()> {
        let (place, object) = parts(inode);
        let absent = || damaged("this inode is no regular file").found(format!("inode {}", inode.0));
        if virtual_node(place, object).is_some() {
            return Err(absent());
        }
        let opened = self.opened(place)?;
        if let Shape::Volume { size } = opened.shape {
            let own = opened.set.object(&self.blocks, volume::CONTENTS)?;
            return self.pieces(&own, size, each);
        }
        let (own, attributes, mode) = self.file(&opened, object)?;
        if mode & MODE_TYPE != MODE_FILE {
            return Err(absent());
        }
        self.pieces(&own, attributes.required(Attribute::Size)?, each)
    }

    fn structure(&self, offset: Bytes) -> Result<Option<String>> {
        place::structure(self, offset.get()).map(Some)
    }

    fn check(&self, remark: &mut dyn FnMut(Remark) -> Result<()>) -> Result<()> {
        check::run(self, remark)
    }
}

/// A volume as a file.
fn volume_node(opened: &Opened, inode: Inode) -> Result<Node> {
    let (_, object) = parts(inode);
    let Shape::Volume { size } = opened.shape else { return Err(Error::bug("a filesystem is no volume")) };
    if object != volume::CONTENTS {
        return Err(damaged("a volume has one file").found(format!("object {object}")));
    }
    let meta = Meta { mode: 0o600, uid: 0, gid: 0, mtime: Time::default(), links: 1, xattrs: Vec::new() };
    Ok(Node { meta, content: Content::File { size: Bytes::new(size) } })
}
