//! Puts what a scan of the host found into a tree under construction.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::build::{Builder, Origin, parts, rank};
use super::look::{Entry, What};
use super::rules::{Hardlinks, Owner, Rules};
use super::scan::Scan;
use super::select::Selection;
use super::{Content, Meta, Place, Time, Xattr};
use crate::error::{Error, Kind, Result};
use crate::host::stamp;

/// What kind of node a metadata is for, as far as the rules tell kinds apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Directory,
    Symlink,
    Other,
}

impl Builder {
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
        let (mut stack, mut base) = (Vec::new(), None);
        if let What::Directory(listing) = entry.what {
            stack.push((top, listing));
        }
        while let Some((parent, number)) = stack.pop() {
            let (folder, shelf, entries) = scan.listing(number)?;
            let base = *base.get_or_insert(folder);
            let place = self.host_place(Place::Directory(folder.to_owned()))?;
            for entry in entries {
                let path = || folder.join(OsStr::from_bytes(shelf.name(entry)));
                if let (Some(select), What::Directory(below)) = (&rules.select, &entry.what)
                    && is_barren(select, base, &path(), scan, *below)?
                {
                    continue;
                }
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
        let own = Meta { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs: 0 };
        let xattrs = entry.rare.as_ref().map_or(&[][..], |rare| rare.xattrs.as_slice());
        let sort = match entry.what {
            What::Directory(_) => Sort::Directory,
            What::Symlink(_) => Sort::Symlink,
            _ => Sort::Other,
        };
        self.ruled(own, xattrs, sort, rules, mode)
    }

    /// The metadata `own` with the attributes `xattrs` under `rules`, as for a scanned inode.
    pub(super) fn ruled(
        &mut self,
        own: Meta,
        xattrs: &[Xattr],
        sort: Sort,
        rules: &Rules,
        mode: Option<u16>,
    ) -> Meta {
        let (uid, gid) = match rules.owner {
            Owner::Root => (0, 0),
            Owner::Preserve => (own.uid, own.gid),
            Owner::Ids { uid, gid } => (uid, gid),
        };
        let mode = match (mode, &rules.chmod) {
            _ if sort == Sort::Symlink => own.mode,
            (None, None) => own.mode,
            (Some(mode), _) => mode,
            (None, Some(chmod)) => chmod.apply(own.mode, sort == Sort::Directory),
        };
        let xattrs = match xattrs {
            [] => 0,
            _ if mode != own.mode => self.xattr_set(&super::xattr::after_chmod(xattrs, mode)),
            _ => self.xattr_set(xattrs),
        };
        let mtime = rules.mtime.unwrap_or(own.mtime);
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

    /// Notes holes and hard links of a scanned inode.
    fn rarities(&mut self, id: u32, entry: &Entry, rules: &Rules, origin: Origin) {
        if let Some(ranges) = entry.rare.as_ref().and_then(|rare| rare.ranges.as_ref()) {
            self.ranges.insert(id, ranges.clone());
        }
        match rules.hardlinks {
            Hardlinks::Preserve if entry.links > 1 && !matches!(entry.what, What::Directory(_)) => {
                self.join_group((origin.number(), entry.inode.0, entry.inode.1), id);
            }
            Hardlinks::Dedupe if matches!(entry.what, What::File) => self.dedupe.push(id),
            _ => {}
        }
    }
}

/// Whether a directory that only leads to what is selected leads to nothing. Only what may be selected was scanned.
fn is_barren(select: &Selection, base: &Path, path: &Path, scan: &Scan, listing: u32) -> Result<bool> {
    let only_leads =
        |path: &Path| select.only_leads(path.strip_prefix(base).unwrap_or(path).as_os_str().as_bytes());
    if !only_leads(path) {
        return Ok(false);
    }
    let mut stack = vec![listing];
    while let Some(number) = stack.pop() {
        let (folder, shelf, entries) = scan.listing(number)?;
        for entry in entries {
            match entry.what {
                What::Directory(below) if only_leads(&folder.join(OsStr::from_bytes(shelf.name(entry)))) => {
                    stack.push(below);
                }
                _ => return Ok(false),
            }
        }
    }
    Ok(true)
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
