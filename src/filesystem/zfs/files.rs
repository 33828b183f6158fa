//! A filesystem: the objects of a dataset that holds files.

use std::collections::BTreeMap;

use super::attributes::{self, Attribute, Attributes, Layouts};
use super::blocks::{File, Places, Source};
use super::division::{self, Division};
use super::format::{
    DNODE, DNODE_OBJECT_ACCOUNTED, DNODE_USED_BYTES, DNODE_USER_ACCOUNTED, OBJSET_OBJECTS, OBJSET_PROJECTS,
    OBJSET_USERS, ObjectSet, SECTOR, kind,
};
use super::names::Names;
use super::objects::{Dnodes, Made, Object, Objects};
use super::pointer::{About, Pointer, Sums};
use super::store::{Manner, Store};
use super::xattrs::{self, Split};
use super::zap::{self, Form};
use crate::error::Result;
use crate::filesystem::mode::{self, MODE_DIRECTORY, MODE_FILE, MODE_TYPE};
use crate::tree::{Content, Meta, NodeId, Time, Tree, Xattr};
use crate::units::{u64_of, usize_of};
use crate::wire::Wire;

/// What a filesystem is made from and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish<'a> {
    pub(super) tree: &'a Tree,
    pub(super) division: &'a Division,
    /// The number of the dataset.
    pub(super) dataset: u16,
    /// Whether it is as it was before it got its contents.
    pub(super) is_empty: bool,
    pub(super) source: Source<'a>,
    pub(super) names: Names,
    /// How metadata is stored.
    pub(super) metadata: Manner,
    pub(super) salt: u64,
    /// Whether objects are counted and belong to projects.
    pub(super) accounts_objects: bool,
    /// The time of change and creation of everything.
    pub(super) time: Time,
}

impl<'a> Wish<'a> {
    /// The directory that becomes the root, or the file that becomes the volume.
    pub(super) fn root(&self) -> Result<Option<NodeId>> {
        if self.is_empty { Ok(None) } else { self.division.root(self.dataset) }
    }

    /// The nodes below the root.
    fn nodes(&self) -> Result<impl Iterator<Item = Result<NodeId>> + 'a> {
        let (tree, division, dataset) = (self.tree, self.division, self.dataset);
        let nodes = (!self.is_empty).then(|| division.nodes(tree, dataset)).transpose()?;
        Ok(nodes.into_iter().flatten())
    }
}

/// A filesystem that is written.
#[derive(Debug)]
pub(super) struct Written {
    /// Its object set.
    pub(super) root: Pointer,
    pub(super) sums: Sums,
}

/// What an owner has.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    bytes: u64,
    objects: u64,
}

/// The filesystem on the way.
struct Filesystem<'a> {
    wish: &'a Wish<'a>,
    objects: Objects,
    dnodes: Dnodes,
    layouts: Layouts,
    users: BTreeMap<u32, Usage>,
    groups: BTreeMap<u32, Usage>,
    projects: BTreeMap<u32, Usage>,
    /// Extended attributes that come behind all nodes, and the first object that is free.
    apart: Vec<Apart<'a>>,
    next: u64,
}

/// Writes a filesystem. The places of its contents are added to `places`.
///
/// # Errors
/// [`Kind::Capacity`](crate::error::Kind::Capacity) where there is no space left, and for extended attributes that are longer
/// than Linux has them.
pub(super) fn write(wish: &Wish<'_>, store: &mut Store, places: &mut Places) -> Result<Written> {
    let mut filesystem = Filesystem {
        wish,
        objects: Objects::new(wish.metadata, wish.source.birth, wish.salt),
        dnodes: Dnodes::default(),
        layouts: Layouts::default(),
        users: BTreeMap::new(),
        groups: BTreeMap::new(),
        projects: BTreeMap::new(),
        apart: Vec::new(),
        next: wish.division.end(wish.dataset)?,
    };
    let first = places.len();
    filesystem.contents(store, places)?;
    filesystem.nodes(store, &places[first..])?;
    filesystem.xattrs(store)?;
    filesystem.tables(store)?;
    filesystem.finish(store)
}

/// The flags of the dnodes of a filesystem whose owners are counted.
const fn dnode_flags(accounts_objects: bool) -> u8 {
    DNODE_USED_BYTES | DNODE_USER_ACCOUNTED | if accounts_objects { DNODE_OBJECT_ACCOUNTED } else { 0 }
}

/// Flags of a file (zfs_znode.h): archive and modified; extended attribute, or a directory of such; trivial ACL; ACEs of a directory were inherited automatically;
/// everybody may execute; it has a project.
const FLAG_ALWAYS: u64 = 0x0408_0000_0000;
const FLAG_XATTR: u64 = 0x1;
const FLAG_TRIVIAL: u64 = 0x4;
const FLAG_DIRECTORY: u64 = 0x40;
const FLAG_EXECUTABLE: u64 = 0x100;
const FLAG_PROJECT: u64 = 0x8000_0000_0000;

/// The mode of a directory of extended attributes and of each of them (zfs_dir.c, zfs_get_xattrdir; zpl_xattr.c,
/// zpl_xattr_set_dir).
const XATTR_DIRECTORY: u16 = MODE_DIRECTORY | 0o1777;
const XATTR_FILE: u16 = MODE_FILE | 0o644;

/// What a directory or file is, besides its metadata.
#[derive(Clone, Copy, Debug, Default)]
struct Shape {
    size: u64,
    parent: u64,
    links: u64,
    is_xattr: bool,
}

/// Extended attributes of a file that are files in a directory.
struct Apart<'a> {
    /// The file, its object, and that of the directory; those of the attributes follow.
    node: NodeId,
    object: u64,
    directory: u64,
    xattrs: Vec<&'a Xattr>,
}

impl<'a> Filesystem<'a> {
    /// Gives places to the contents of all files, file after file, so that they lie together.
    fn contents(&self, store: &mut Store, places: &mut Places) -> Result<()> {
        let wish = self.wish;
        for node in wish.nodes()? {
            let node = node?;
            wish.source.reserve(File { node, size: wish.tree.size(node) }, store, places)?;
        }
        Ok(())
    }

    /// The objects of the tree's nodes, ascending.
    fn nodes(&mut self, store: &mut Store, mut places: &[(u64, u64)]) -> Result<()> {
        let wish = self.wish;
        let (tree, division) = (wish.tree, wish.division);
        let root = wish.root()?;
        let (entries, shape) = match root {
            Some(root) => self.directory(root)?,
            None => (Vec::new(), Shape { size: 2, links: 2, ..Shape::default() }),
        };
        // The root is its own parent.
        let shape = Shape { parent: division::ROOT, ..shape };
        let meta = root.map(|root| tree.node(root).meta);
        let meta = meta.unwrap_or_else(|| Meta::root(0o755, wish.time));
        let attributes = self.attributes(MODE_DIRECTORY | meta.mode, &meta, shape, Vec::new());
        let attributes = self.with_xattrs(attributes, root.map(|root| (root, division::ROOT)))?;
        self.node(store, division::ROOT, &meta, &attributes, Blocks::Entries(entries))?;
        for node in wish.nodes()? {
            let node = node?;
            let number = division.object(tree, node)?;
            let meta = tree.node(node).meta;
            let parent = division.parent(tree, node, wish.dataset)?;
            let links = division.links(node);
            let (shape, blocks, special) = match tree.node(node).content {
                Content::Directory => {
                    let (entries, shape) = self.directory(node)?;
                    (shape, Blocks::Entries(entries), Vec::new())
                }
                Content::Symlink { .. } => {
                    let target = tree.target(node).to_vec();
                    let shape = Shape { size: u64_of(target.len()), links, ..Shape::default() };
                    (shape, Blocks::None, vec![(Attribute::Target, target)])
                }
                Content::CharacterDevice { device } | Content::BlockDevice { device } => {
                    let shape = Shape { links, ..Shape::default() };
                    (shape, Blocks::None, vec![device_number(device)])
                }
                _ => {
                    let size = tree.size(node);
                    let file = File { node, size };
                    let blocks = match size {
                        0 => Blocks::None,
                        _ => {
                            let tree = wish.source.tree(file, &self.objects, store, &mut places)?;
                            Blocks::File { tree, size }
                        }
                    };
                    (Shape { size, links, ..Shape::default() }, blocks, Vec::new())
                }
            };
            let shape = Shape { parent, ..shape };
            let attributes = self.attributes(mode::mode(tree, node), &meta, shape, special);
            let attributes = self.with_xattrs(attributes, Some((node, number)))?;
            self.node(store, number, &meta, &attributes, blocks)?;
            self.dnodes.close(&self.objects, store, number)?;
        }
        Ok(())
    }

    /// The entries of a directory, and what follows from them.
    fn directory(&self, directory: NodeId) -> Result<(Entries<'a>, Shape)> {
        let Wish { tree, division, dataset, .. } = *self.wish;
        let mut shape = Shape { size: 2, links: 2, ..Shape::default() };
        let mut entries = Vec::new();
        for child in division.entries(tree, directory, dataset)? {
            let child = child?;
            // zfs_znode.h, ZFS_DIRENT_MAKE: the type of the file in the uppermost bits.
            let kind = u64::from(mode::mode(tree, child) >> 12);
            entries.push((tree.name(child), (kind << 60 | division.object(tree, child)?).into()));
            shape.size += 1;
            shape.links += u64::from(tree.is_directory(child));
        }
        self.wish.names.check(tree, directory, entries.iter().map(|(name, _)| *name))?;
        Ok((entries, shape))
    }

    /// The attributes of a file, in the order that readers expect (module/os/linux/zfs/zfs_znode_os.c, zfs_mknode).
    fn attributes(&self, mode: u16, meta: &Meta, shape: Shape, special: Attributes) -> Attributes {
        let is_directory = mode & MODE_TYPE == MODE_DIRECTORY;
        let has_project = self.wish.accounts_objects && (is_directory || mode & MODE_TYPE == MODE_FILE);
        let mut flags = FLAG_ALWAYS | FLAG_TRIVIAL;
        for (holds, flag) in [
            (shape.is_xattr, FLAG_XATTR),
            (is_directory, FLAG_DIRECTORY),
            (mode & 0o111 == 0o111, FLAG_EXECUTABLE),
            (has_project, FLAG_PROJECT),
        ] {
            flags |= if holds { flag } else { 0 };
        }
        let number = |number: u64| number.to_le_bytes().to_vec();
        let (acl, count) = attributes::trivial_acl(mode, is_directory);
        let mut list = vec![
            (Attribute::Mode, number(mode.into())),
            (Attribute::Size, number(shape.size)),
            (Attribute::Generation, number(self.wish.source.birth)),
            (Attribute::User, number(meta.uid.into())),
            (Attribute::Group, number(meta.gid.into())),
            (Attribute::Parent, number(shape.parent)),
            (Attribute::Flags, number(flags)),
            (Attribute::AccessTime, time(meta.mtime)),
            (Attribute::ModificationTime, time(meta.mtime)),
            (Attribute::ChangeTime, time(self.wish.time)),
            (Attribute::CreationTime, time(self.wish.time)),
            (Attribute::Links, number(shape.links)),
        ];
        if has_project {
            list.push((Attribute::Project, number(0)));
        }
        let (before, after): (Attributes, Attributes) =
            special.into_iter().partition(|(attribute, _)| *attribute == Attribute::Device);
        list.extend(before);
        list.push((Attribute::AclCount, number(count)));
        list.push((Attribute::AclEntries, acl));
        list.extend(after);
        list
    }

    /// Adds the extended attributes of a file. Those that are files come later.
    fn with_xattrs(&mut self, mut list: Attributes, own: Option<(NodeId, u64)>) -> Result<Attributes> {
        let Some((node, object)) = own else { return Ok(list) };
        let tree = self.wish.tree;
        let found = xattrs::split(tree.xattrs(tree.node(node).meta.xattrs));
        let Split { packed, apart } = found.map_err(|error| error.at(tree.path(node)))?;
        if !apart.is_empty() {
            let directory = self.next;
            self.next += 1 + u64_of(apart.len());
            list.push((Attribute::XattrDirectory, directory.to_le_bytes().to_vec()));
            self.apart.push(Apart { node, object, directory, xattrs: apart });
        }
        list.extend(packed.map(|packed| (Attribute::Xattrs, packed)));
        Ok(list)
    }

    /// Writes the extended attributes that are files, each file's in a directory that has no name.
    fn xattrs(&mut self, store: &mut Store) -> Result<()> {
        for Apart { node, object, directory, xattrs } in std::mem::take(&mut self.apart) {
            let meta = self.wish.tree.node(node).meta;
            let mut entries: Entries<'a> = Vec::new();
            let kind = u64::from(MODE_FILE >> 12);
            for (number, xattr) in (directory + 1..).zip(&xattrs) {
                entries.push((&xattr.name, (kind << 60 | number).into()));
            }
            self.wish.names.check(self.wish.tree, node, entries.iter().map(|(name, _)| *name))?;
            let size = 2 + u64_of(xattrs.len());
            let shape = Shape { size, parent: object, links: 2, is_xattr: true };
            let attributes = self.attributes(XATTR_DIRECTORY, &meta, shape, Vec::new());
            self.node(store, directory, &meta, &attributes, Blocks::Entries(entries))?;
            for (number, Xattr { value, .. }) in (directory + 1..).zip(xattrs) {
                let shape = Shape { size: u64_of(value.len()), parent: directory, links: 1, is_xattr: true };
                let attributes = self.attributes(XATTR_FILE, &meta, shape, Vec::new());
                self.node(store, number, &meta, &attributes, Blocks::Bytes(value))?;
                self.dnodes.close(&self.objects, store, number)?;
            }
        }
        Ok(())
    }

    /// Writes one object and charges its owner.
    fn node(
        &mut self,
        store: &mut Store,
        number: u64,
        meta: &Meta,
        attributes: &[(Attribute, Vec<u8>)],
        blocks: Blocks<'_>,
    ) -> Result<()> {
        let packed = attributes::packed(attributes, &mut self.layouts)?;
        let manner = self.objects.manner;
        let spill = match packed.spill {
            None => None,
            Some(mut bytes) => {
                bytes.resize(usize_of(u64_of(bytes.len()).next_multiple_of(SECTOR)), 0);
                Some(store.write(
                    About::contents(kind::ATTRIBUTES, self.wish.source.birth),
                    manner,
                    &bytes,
                )?)
            }
        };
        let spill = spill.as_ref();
        let flags = dnode_flags(self.wish.accounts_objects);
        let object = |kind, block| {
            Object { flags, ..Object::plain(kind, block) }.with_bonus(kind::ATTRIBUTES, &packed.bonus)
        };
        let made = match blocks {
            Blocks::Entries(entries) => self.objects.zap(
                store,
                &object(kind::DIRECTORY, SECTOR),
                self.wish.names.form(),
                &entries,
                spill,
            )?,
            Blocks::File { tree, size } => {
                let block = self.wish.source.manner.block(size);
                let object = object(kind::FILE, block);
                self.objects.end(store, &object, tree, spill)?
            }
            // Stored as metadata is.
            Blocks::Bytes(bytes) => {
                let block = self.wish.source.manner.block(u64_of(bytes.len()));
                let blocks = bytes.chunks(usize_of(block)).map(<[u8]>::to_vec).collect();
                self.objects.write(store, &object(kind::FILE, block), blocks, spill)?
            }
            Blocks::None => self.objects.write(store, &object(kind::FILE, SECTOR), Vec::new(), spill)?,
        };
        self.charge(meta, &made);
        self.dnodes.put(number, &made.dnode);
        Ok(())
    }

    /// Charges the owner of an object for what it takes, and for its dnode (module/zfs/dmu_objset.c,
    /// do_userquota_cacheflush).
    fn charge(&mut self, meta: &Meta, made: &Made) {
        for (owners, owner) in
            [(&mut self.users, meta.uid), (&mut self.groups, meta.gid), (&mut self.projects, 0)]
        {
            let usage = owners.entry(owner).or_default();
            usage.bytes += made.allocated + u64_of(DNODE);
            usage.objects += 1;
        }
    }

    /// The tables that every filesystem has.
    fn tables(&mut self, store: &mut Store) -> Result<()> {
        let flags = dnode_flags(self.wish.accounts_objects);
        let mut put = |number: u64, kind: u8, entries: &[(String, zap::Value)]| -> Result<()> {
            let object = Object { flags, ..Object::plain(kind, SECTOR) };
            let made = self.objects.zap(store, &object, Form::BYTES, entries, None)?;
            self.dnodes.put(number, &made.dnode);
            Ok(())
        };
        let named = |list: &[(&str, u64)]| -> Vec<(String, zap::Value)> {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
        };
        let names = self.wish.names;
        let master = named(&[
            ("VERSION", VERSION),
            ("SA_ATTRS", division::ATTRIBUTE_MASTER),
            ("DELETE_QUEUE", division::UNLINKED),
            ("ROOT", division::ROOT),
            ("normalization", names.normalization),
            ("utf8only", u64::from(names.utf8_only)),
            ("casesensitivity", names.case),
        ]);
        let attributes = named(&[("REGISTRY", division::REGISTRATION), ("LAYOUTS", division::LAYOUTS)]);
        let registration: Vec<(String, zap::Value)> =
            attributes::registration().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        put(division::MASTER, kind::MASTER, &master)?;
        put(division::ATTRIBUTE_MASTER, kind::ATTRIBUTE_MASTER, &attributes)?;
        put(division::UNLINKED, kind::UNLINKED, &[])?;
        put(division::REGISTRATION, kind::ATTRIBUTE_REGISTRATION, &registration)?;
        put(division::LAYOUTS, kind::ATTRIBUTE_LAYOUTS, &self.layouts.entries())
    }

    /// The object set: the dnodes, and what each owner has.
    fn finish(mut self, store: &mut Store) -> Result<Written> {
        let counts = self.wish.accounts_objects;
        let count = self.dnodes.count();
        let mut used = |owners: &BTreeMap<u32, Usage>| -> Result<[u8; DNODE]> {
            let mut entries = Vec::new();
            for (owner, usage) in owners {
                entries.push((format!("{owner:x}"), zap::Value::from(usage.bytes)));
                if counts {
                    entries.push((format!("obj-{owner:x}"), zap::Value::from(usage.objects)));
                }
            }
            Ok(self
                .objects
                .zap(store, &Object::plain(kind::USED, SECTOR), Form::BYTES, &entries, None)?
                .dnode)
        };
        let (users, groups) = (used(&self.users)?, used(&self.groups)?);
        let projects = if counts { used(&self.projects)? } else { [0; DNODE] };
        let set = ObjectSet {
            os_meta_dnode: self.dnodes.finish(&mut self.objects, store)?,
            os_type: FILESYSTEM,
            os_flags: OBJSET_USERS | if counts { OBJSET_OBJECTS | OBJSET_PROJECTS } else { 0 },
            os_userused_dnode: users,
            os_groupused_dnode: groups,
            os_projectused_dnode: projects,
            ..ObjectSet::BLANK
        };
        let about = About { kind: kind::OBJSET, level: 0, fill: count, birth: self.wish.source.birth };
        let root = store.write(about, self.objects.manner, &set.bytes())?;
        self.objects.sums += root.sums;
        Ok(Written { root, sums: self.objects.sums })
    }
}

/// The version of filesystems (zfs_znode.h, ZPL_VERSION), and their type among object sets (dmu.h, DMU_OST_ZFS).
const VERSION: u64 = 5;
pub(super) const FILESYSTEM: u64 = 2;

/// Names of a directory with what they lead to.
type Entries<'a> = Vec<(&'a [u8], zap::Value)>;

/// The blocks of an object.
enum Blocks<'a> {
    None,
    Entries(Entries<'a>),
    Bytes(&'a [u8]),
    File { tree: super::objects::Tree, size: u64 },
}

/// A device as Linux numbers it for OpenZFS (include/os/linux/spl/sys/sysmacros.h, makedev through zfs_cmpldev).
fn device_number((major, minor): (u32, u32)) -> (Attribute, Vec<u8>) {
    let number = u64::from(major) << 20 | u64::from(minor);
    (Attribute::Device, number.to_le_bytes().to_vec())
}

/// Seconds and nanoseconds.
fn time(time: Time) -> Vec<u8> {
    [time.seconds.to_le_bytes(), u64::from(time.nanoseconds).to_le_bytes()].concat()
}
