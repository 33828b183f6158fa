//! Whether an EROFS is in order: every inode that can be reached, its attributes, its names, the map of its data, and what is
//! compressed. Plain data have no checksum, and are not read.

mod data;

use std::collections::BTreeMap;

use super::Erofs;
use super::directory::Name;
use super::inode::Raw;
use crate::error::{Error, Kind, Result};
use crate::filesystem::erofs::format::{Layout, incompat};
use crate::filesystem::mode::{MODE_DIRECTORY, MODE_FILE, MODE_SYMLINK, file_type};
use crate::filesystem::volume::{Fault, Remark};
use crate::text::printable;
use crate::units::u64_of;
use data::Data;

/// The most inodes that are counted, and names of one directory: their numbers are kept, some 48 MiB.
const MOST: usize = 1 << 20;

/// How many bytes of directories and maps are looked at in the smallest image.
const LEAST: u64 = 64 << 20;

type Say<'a> = &'a mut dyn FnMut(Remark) -> Result<()>;

/// A name that is still to be looked at.
struct Open {
    nid: u64,
    parent: u64,
}

/// Gives `remark` whatever is not in order.
pub(super) fn check(volume: &Erofs, remark: Say<'_>) -> Result<()> {
    let blocks = u64::from(volume.superblock.blocks).saturating_mul(volume.block);
    if blocks > volume.device.length() {
        let what = format!("it has {blocks} bytes, and {} are there: it is cut off", volume.device.length());
        remark(Remark::new(Fault::Count, "superblock", what))?;
    }
    let root = volume.root_nid();
    let open = vec![Open { nid: root, parent: root }];
    let left = LEAST + 8 * volume.device.length();
    let mut walk = Walk { volume, names: BTreeMap::new(), open, left, data: Data::new(volume) };
    walk.names.insert(root, 0);
    while let Some(open) = walk.open.pop() {
        let looked = walk.inode(&open, remark);
        told(looked, open.nid, remark)?;
        if walk.names.len() > MOST || walk.left == 0 || walk.data.is_full() {
            let what = "there is more in it than is looked at";
            return remark(Remark::new(Fault::Unjudged, "filesystem", what));
        }
    }
    if volume.superblock.feature_incompat & incompat::FRAGMENTS != 0 && volume.superblock.packed_nid != 0 {
        let nid = volume.superblock.packed_nid;
        let packed = volume.inode(nid).and_then(|raw| walk.data.inode(&raw, remark));
        told(packed, nid, remark)?;
    }
    walk.links(remark)?;
    walk.data.end(remark)
}

/// Turns damage of an inode into a remark.
fn told(result: Result<()>, nid: u64, remark: Say<'_>) -> Result<()> {
    match result {
        Err(error) if error.kind() == Kind::Format => remark(Remark::of(format!("inode {nid}"), &error)),
        result => result,
    }
}

struct Walk<'a> {
    volume: &'a Erofs,
    /// How many names each inode has.
    names: BTreeMap<u64, u32>,
    open: Vec<Open>,
    /// How many bytes of directories and maps are still looked at. Those of a sound image do not overlap.
    left: u64,
    data: Data<'a>,
}

impl Walk<'_> {
    fn inode(&mut self, open: &Open, remark: Say<'_>) -> Result<()> {
        let raw = self.volume.inode(open.nid)?;
        self.volume.meta(&raw)?;
        self.volume.content(&raw)?;
        if let Some(name) = self.volume.hidden(&raw)? {
            let what = format!("its filter of attributes hides {}", printable(&name));
            remark(Remark::new(Fault::Structure, format!("inode {}", raw.nid), what))?;
        }
        self.left = self.left.saturating_sub(self.effort(&raw)?);
        if self.left == 0 {
            return Ok(());
        }
        if matches!(raw.kind(), MODE_DIRECTORY | MODE_FILE | MODE_SYMLINK) {
            self.data.inode(&raw, remark)?;
        }
        match raw.kind() {
            MODE_DIRECTORY => self.directory(&raw, open.parent, remark),
            MODE_FILE => self.volume.pieces(&raw, &mut |_, _| Ok(())),
            _ => Ok(()),
        }
    }

    /// How many bytes of its entries or of its map are looked at.
    ///
    /// # Errors
    /// [`Kind::Format`] where they cannot be in the image: a size that is wrong is a fault of the inode, and not more than is
    /// looked at.
    fn effort(&self, raw: &Raw) -> Result<u64> {
        let (volume, length) = (self.volume, self.volume.device.length());
        if !matches!(raw.kind(), MODE_DIRECTORY | MODE_FILE | MODE_SYMLINK) {
            return Ok(0);
        }
        let map = volume.map_place(raw)?;
        if map.is_some_and(|(_, end)| end > length) {
            return Err(raw.wrong("the map of its data ends behind the image"));
        }
        let plain = matches!(raw.layout, Layout::Plain | Layout::Inline);
        if plain && raw.size > length {
            return Err(raw.wrong("its data end behind the image"));
        }
        let entries = if raw.kind() == MODE_DIRECTORY { raw.size } else { 0 };
        Ok(entries + map.map_or(0, |(start, end)| end.saturating_sub(start)))
    }

    fn directory(&mut self, raw: &Raw, parent: u64, remark: Say<'_>) -> Result<()> {
        let subject = format!("inode {}", raw.nid);
        let mut last: Option<Vec<u8>> = None;
        let (mut below, mut dots) = (Vec::new(), 0);
        let volume = self.volume;
        volume.names(raw, &mut |entry| {
            if last.as_deref().is_some_and(|last| last >= entry.name) {
                let what = format!("its name {} is out of order", printable(entry.name));
                remark(Remark::new(Fault::Structure, subject.clone(), what))?;
            }
            last = Some(entry.name.to_vec());
            match entry.name {
                b"." | b".." => {
                    dots += 1;
                    let expected = if entry.name == b"." { raw.nid } else { parent };
                    dot(&entry, expected, &subject, remark)
                }
                _ => {
                    below.extend(named(volume, &entry, &subject, remark)?);
                    let enough = || Error::new(Kind::Format, "a directory has too many names");
                    if below.len() > MOST { Err(enough()) } else { Ok(()) }
                }
            }
        })?;
        if dots != if raw.short { 1 } else { 2 } {
            remark(Remark::new(Fault::Structure, subject.clone(), "it has not `.` and `..` once each"))?;
        }
        let links = 2 + u64_of(below.iter().filter(|(_, directory)| *directory).count());
        if u64::from(raw.links) != links && raw.links != 1 {
            let what = format!("it counts {} links, and there are {links}", raw.links);
            remark(Remark::new(Fault::Count, subject.clone(), what))?;
        }
        for (nid, directory) in below {
            let names = self.names.entry(nid).or_default();
            *names = names.saturating_add(1);
            if *names == 1 {
                self.open.push(Open { nid, parent: raw.nid });
            } else if directory {
                let what = format!("a directory in it, inode {nid}, has another name");
                remark(Remark::new(Fault::Shared, subject.clone(), what))?;
            }
        }
        Ok(())
    }

    /// Compares how many names each inode says it has.
    fn links(&self, remark: Say<'_>) -> Result<()> {
        for (nid, names) in &self.names {
            let Ok(raw) = self.volume.inode(*nid) else { continue };
            if raw.kind() != MODE_DIRECTORY && raw.links != *names {
                let what = format!("it counts {} links, and has {names} names", raw.links);
                remark(Remark::new(Fault::Count, format!("inode {nid}"), what))?;
            }
        }
        Ok(())
    }
}

/// Compares where `.` or `..` leads with the inode that it should lead to.
fn dot(entry: &Name<'_>, expected: u64, subject: &str, remark: Say<'_>) -> Result<()> {
    if entry.file_type != file_type(MODE_DIRECTORY) {
        let what = format!("{} has file type {}", printable(entry.name), entry.file_type);
        remark(Remark::new(Fault::Structure, subject, what))?;
    }
    if entry.nid == expected {
        return Ok(());
    }
    let what = format!("{} leads to inode {} and not to {expected}", printable(entry.name), entry.nid);
    remark(Remark::new(Fault::Structure, subject, what))
}

/// The inode of a name, and whether it is a directory; `None` where it cannot be read, which is reported.
fn named(volume: &Erofs, entry: &Name<'_>, subject: &str, remark: Say<'_>) -> Result<Option<(u64, bool)>> {
    let named = match volume.inode(entry.nid) {
        Ok(named) => named,
        Err(error) if error.kind() == Kind::Format => {
            remark(Remark::of(format!("{subject}, {}", printable(entry.name)), &error))?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if file_type(named.mode) != entry.file_type {
        let name = printable(entry.name);
        let what = format!("{name} has file type {} and its inode another", entry.file_type);
        remark(Remark::new(Fault::Structure, subject, what))?;
    }
    Ok(Some((entry.nid, named.kind() == MODE_DIRECTORY)))
}
