//! A tree of files with its metadata, from a volume or from a folder of the host.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::{Side, StorePaths};
use crate::error::{Error, Result};
use crate::filesystem::{Content, Inode, Volume, contents};
use crate::image::{Builder, Slice};
use crate::look::find::Item;
use crate::look::walk::walk_item;
use crate::progress::Progress;
use crate::tree::{self, Hardlinks, NodeId, Owner, Rules, Time, Tree, Xattr, xattr::Patterns};
use crate::units::Bytes;

/// A file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Time,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) content: Content,
    /// The first path of the same inode, if it is another one.
    pub(super) first: Option<Vec<u8>>,
    number: u64,
}

/// All files by path. In a path, NUL stands for each slash, so that the order is that of names.
pub(super) struct Listing<'a> {
    pub(super) files: BTreeMap<Vec<u8>, File>,
    source: Source<'a>,
}

enum Source<'a> {
    Volume(&'a dyn Volume),
    Tree(Arc<Tree>),
}

/// A path as a key.
fn key(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

impl<'a> Listing<'a> {
    pub(super) fn of(side: Side<'a>, progress: &Progress) -> Result<Self> {
        match side {
            Side::Volume(volume, item) => Self::of_volume(volume, item, progress),
            Side::Folder(path) => Self::of_folder(path, progress),
            Side::Closure(closure) => Self::of_closure(closure, progress),
        }
    }

    /// Leaves out attributes that a folder of the host does not have for comparison: those that label the host.
    pub(super) fn only_kept_attributes(&mut self) {
        let kept = Patterns::default();
        self.files.values_mut().for_each(|file| file.xattrs.retain(|own| kept.keep(&own.name)));
    }

    /// Leaves out what does not belong to store paths: the folder of the store itself, the links by which Nix finds equal files,
    /// and which files are names of one inode.
    pub(super) fn only_store_paths(&mut self) {
        let links = key(b".links");
        let is_link = |path: &[u8]| {
            path.strip_prefix(links.as_slice()).is_some_and(|rest| matches!(rest, [] | [0, ..]))
        };
        self.files.retain(|path, _| !path.is_empty() && !is_link(path));
        self.files.values_mut().for_each(|file| file.first = None);
    }

    fn of_volume(volume: &'a dyn Volume, item: &Item, progress: &Progress) -> Result<Self> {
        let (mut files, mut links) = (BTreeMap::new(), HashMap::new());
        walk_item(volume, item, &mut |step| {
            progress.check()?;
            let (key, meta) = (key(step.path), &step.node.meta);
            let mut first = None;
            if meta.links > 1 && !step.node.is_directory() {
                let known: &Vec<u8> = links.entry(step.inode).or_insert_with(|| key.clone());
                first = (*known != key).then(|| known.clone());
            }
            let content = match &step.node.content {
                // Where its entries are says nothing.
                Content::Directory { .. } => Content::Directory { place: 0 },
                content => content.clone(),
            };
            let (mode, uid, gid, mtime) = (meta.mode, meta.uid, meta.gid, meta.mtime);
            let xattrs = meta.xattrs.clone();
            files.insert(key, File { mode, uid, gid, mtime, xattrs, content, first, number: step.inode.0 });
            Ok(())
        })?;
        Ok(Self { files, source: Source::Volume(volume) })
    }

    fn of_folder(path: &std::path::Path, progress: &Progress) -> Result<Self> {
        let rules = Rules { owner: Owner::Preserve, hardlinks: Hardlinks::Preserve, ..Rules::default() };
        Self::of_host(vec![(tree::Request::new(path), b"/".to_vec())], &rules, progress)
    }

    fn of_closure(closure: &StorePaths, progress: &Progress) -> Result<Self> {
        let rules = Rules { hardlinks: Hardlinks::Dissolve, store: true, ..Rules::default() };
        let own = closure.paths.iter();
        let requests = own.map(|(path, name)| {
            let request = tree::Request { follow: false, holes: false, ..tree::Request::new(path) };
            (request, [b"/", name.as_bytes()].concat())
        });
        Self::of_host(requests.collect(), &rules, progress)
    }

    /// A tree of this machine: each request below its path.
    fn of_host(requests: Vec<(tree::Request, Vec<u8>)>, rules: &Rules, progress: &Progress) -> Result<Self> {
        let (requests, targets): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
        let scan = tree::scan(&requests, 1, progress)?;
        let mut builder = tree::Builder::new(Time::default());
        let origin = builder.origin("folder");
        for (number, target) in targets.iter().enumerate() {
            builder.graft(target, &scan, number, rules, origin)?;
        }
        let tree = builder.finish(1)?;
        let mut files = BTreeMap::new();
        let path_of = |id: NodeId| key(tree.path_bytes(id).strip_prefix(b"/").unwrap_or_default());
        for id in tree.ids() {
            let source = tree.source(id);
            let (node, meta) = (tree.node(source), &tree.node(source).meta);
            let content = match node.content {
                tree::Content::Directory => Content::Directory { place: 0 },
                tree::Content::Symlink { .. } => Content::Symlink { target: tree.target(source).to_vec() },
                tree::Content::CharacterDevice { device } => Content::CharacterDevice(device),
                tree::Content::BlockDevice { device } => Content::BlockDevice(device),
                tree::Content::Fifo => Content::Fifo,
                tree::Content::Socket => Content::Socket,
                tree::Content::File { .. }
                | tree::Content::Text { .. }
                | tree::Content::Slice { .. }
                | tree::Content::Link { .. } => Content::File { size: Bytes::new(tree.size(source)) },
            };
            let first = (source != id).then(|| path_of(source));
            let (mode, uid, gid, mtime) = (meta.mode, meta.uid, meta.gid, meta.mtime);
            let xattrs = tree.xattrs(meta.xattrs).to_vec();
            let number = u64::from(source.get());
            files.insert(path_of(id), File { mode, uid, gid, mtime, xattrs, content, first, number });
        }
        Ok(Self { files, source: Source::Tree(Arc::new(tree)) })
    }

    /// The bytes of a regular file.
    pub(super) fn data(&self, file: &File) -> Result<Slice> {
        match &self.source {
            Source::Volume(volume) => contents(*volume, Inode(file.number)),
            Source::Tree(tree) => {
                let number =
                    u32::try_from(file.number).map_err(|_| Error::bug("a tree has too many nodes"))?;
                let (id, tree) = (NodeId::new(number), tree);
                let size = Bytes::new(tree.size(id));
                let mut image = Builder::new(size);
                let files = image.files(Arc::<Tree>::clone(tree));
                tree.data(id, files)?.put(&mut image, Bytes::ZERO, size, 0)?;
                Ok(image.finish()?.whole())
            }
        }
    }
}
