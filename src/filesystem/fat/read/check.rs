//! Checks a FAT filesystem: boot sectors, marks, copies of the table, then every name with its chain, and at
//! last clusters without an owner. It keeps one bit for each cluster and walks each cluster once.

use std::collections::HashSet;

use super::directory::{
    DIRECTORY, Entries, Entry, KANJI, LOWER_BASE, LOWER_EXTENSION, What, first_cluster, short_name, what,
};
use super::label;
use super::layout::{BOOT, FIRST, Root};
use super::table::{Chain, Link, Table};
use super::{Fat, wrong};
use crate::error::{Error, Kind, Result};
use crate::filesystem::bits::Bits;
use crate::filesystem::fat::FatType;
use crate::filesystem::fat::format::{DirectoryEntry, FsInfo};
use crate::filesystem::fat::geometry::ENTRY;
use crate::filesystem::fat::names::fold;
use crate::filesystem::volume::{Fault, Remark};
use crate::units::usize_of;

/// How deep directories are followed: far deeper than the 260 characters of a path that Windows opens.
const DEEPEST: usize = 1024;

pub(super) type Say<'a> = &'a mut dyn FnMut(Remark) -> Result<()>;

/// Passes every fault to `remark`.
pub(super) fn check(fat: &Fat, remark: Say<'_>) -> Result<()> {
    boot(fat, remark)?;
    marks(fat, remark)?;
    copies(fat, remark)?;
    let mut claims = Claims::new(fat);
    names(fat, &mut claims, remark)?;
    label::check(fat, remark)?;
    counts(fat, &claims, remark)
}

/// Turns an error of `result` into a remark.
fn told<T>(result: Result<T>, subject: &str, remark: Say<'_>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == Kind::Format => {
            remark(Remark::of(subject, &error))?;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Checks the copy of the boot sector, and FSInfo.
fn boot(fat: &Fat, remark: Say<'_>) -> Result<()> {
    let Some(wide) = &fat.layout.wide else { return Ok(()) };
    let reserved = u64::from(fat.layout.bpb.rsvd_sec_cnt);
    let copy = u64::from(wide.bk_boot_sec);
    if copy != 0 && copy < reserved {
        let own = fat.device.bytes(0, BOOT)?;
        if own != fat.device.bytes(copy * fat.layout.sector, BOOT)? {
            remark(Remark::new(Fault::Copy, "boot sector", format!("its copy in sector {copy} differs")))?;
        }
    } else if copy != 0 {
        let what = format!("its copy is said to be in sector {copy}, outside the {reserved} reserved ones");
        remark(Remark::new(Fault::Structure, "boot sector", what))?;
    }
    if wide.fs_info != 0 && wide.fs_info != u16::MAX && fat.fsinfo()?.is_none() {
        let what = format!("there is none in sector {}", wide.fs_info);
        remark(Remark::new(Fault::Structure, "FSInfo", what))?;
    }
    Ok(())
}

/// Checks the two entries of the table that stand for no cluster.
fn marks(fat: &Fat, remark: Say<'_>) -> Result<()> {
    let ones = match fat.layout.fat {
        FatType::Fat12 => 0xfff,
        FatType::Fat16 => 0xffff,
        FatType::Fat32 => 0x0fff_ffff,
    };
    let media = ones & !0xff | u32::from(fat.layout.bpb.media);
    let found = fat.table().value(0)?;
    if found != media {
        let what = format!("its first entry is {found:#x} and not {media:#x}, the media descriptor");
        remark(Remark::new(Fault::Structure, "FAT", what))?;
    }
    if fat.boot_is_dirty() {
        let what = "the volume was not unmounted: its dirty bit is set";
        remark(Remark::new(Fault::State, "boot sector", what))?;
    }
    if fat.table_is_dirty()? {
        remark(Remark::new(Fault::State, "FAT", "the volume was not unmounted, or errors were found in it"))?;
    }
    Ok(())
}

/// Every other table must equal the active one, unless the volume says that it is out of date.
fn copies(fat: &Fat, remark: Say<'_>) -> Result<()> {
    const PIECE: u64 = 64 << 10;
    let layout = &fat.layout;
    let mirrored = layout.wide.as_ref().is_none_or(|wide| wide.ext_flags & 0x80 == 0);
    let needed = layout.needed().min(layout.table_length);
    for copy in (1..u64::from(layout.bpb.num_fats)).filter(|_| mirrored) {
        let mut at = 0;
        while at < needed {
            let length = PIECE.min(needed - at);
            let (one, other) = (layout.table + at, layout.table + copy * layout.table_length + at);
            let holes = fat.device.is_hole(one, length) && fat.device.is_hole(other, length);
            if !holes
                && fat.device.bytes(one, usize_of(length))? != fat.device.bytes(other, usize_of(length))?
            {
                let what = format!("copy {} differs from the first one, from byte {at} on", copy + 1);
                remark(Remark::new(Fault::Copy, "FAT", what))?;
                break;
            }
            at += length;
        }
    }
    Ok(())
}

/// The clusters that have an owner.
struct Claims(Bits);

impl Claims {
    fn new(fat: &Fat) -> Self {
        Self(Bits::new(u64::from(fat.layout.clusters) + u64::from(FIRST)))
    }

    fn is_set(&self, cluster: u32) -> bool {
        self.0.has(cluster.into())
    }

    /// Claims a cluster; `false` if it has an owner already.
    fn claim(&mut self, cluster: u32) -> bool {
        self.0.add(u64::from(cluster)..u64::from(cluster) + 1).is_none()
    }

    /// Claims all clusters of a chain. Returns how many there are, or `None` after a remark.
    fn chain(&mut self, table: &Table<'_>, first: u32, path: &str, remark: Say<'_>) -> Result<Option<u64>> {
        let mut chain = Chain::new(first);
        let mut count = 0;
        loop {
            match told(chain.next(table), path, remark)? {
                None => return Ok(None),
                Some(None) => return Ok(Some(count)),
                Some(Some(cluster)) if self.claim(cluster) => count += 1,
                Some(Some(cluster)) => {
                    let what = format!("its chain leads to cluster {cluster}, which has an owner already");
                    remark(Remark::new(Fault::Shared, path, what))?;
                    return Ok(None);
                }
            }
        }
    }
}

/// A directory on the way down.
struct Frame {
    entries: Entries,
    /// Its first cluster, and that of its parent, as `.` and `..` have them.
    own: u32,
    above: u32,
    /// Length of its path.
    path: usize,
}

/// The walk over all names.
struct Walk<'a> {
    fat: &'a Fat,
    claims: &'a mut Claims,
    /// The path of the current directory; empty for the root.
    path: String,
    frames: Vec<Frame>,
}

/// Walks over all names with their chains.
fn names(fat: &Fat, claims: &mut Claims, remark: Say<'_>) -> Result<()> {
    if let Root::Chain(first) = fat.layout.root
        && claims.chain(&fat.table(), first, "/", remark)?.is_none()
    {
        return Ok(());
    }
    let root = Frame { entries: Entries::of_root(&fat.layout), own: 0, above: 0, path: 0 };
    let mut walk = Walk { fat, claims, path: String::new(), frames: vec![root] };
    walk.twins(Entries::of_root(&fat.layout), remark)?;
    while let Some(frame) = walk.frames.last_mut() {
        walk.path.truncate(frame.path);
        let path = if walk.path.is_empty() { "/" } else { walk.path.as_str() };
        let next = frame.entries.next(&fat.table(), &fat.layout, &fat.device);
        match told(next, path, remark)?.flatten() {
            Some(entry) => walk.entry(&entry, remark)?,
            None => {
                if frame.entries.ends_in_orphans() {
                    remark(orphans(path))?;
                }
                walk.frames.pop();
            }
        }
    }
    Ok(())
}

fn orphans(path: &str) -> Remark {
    Remark::new(Fault::Structure, path, "parts of a long name in it belong to no name")
}

/// Whether a short name has bytes that no system takes (fatgen103, DIR_Name; dosfstools, bad_name): control characters, but
/// for the first one that stands for 0xe5, a space at the beginning, and what separates names.
fn is_bad(name: &[u8; 11]) -> bool {
    let is_bad = |(at, byte): (usize, &u8)| match *byte {
        KANJI if at == 0 => false,
        0..0x20 | 0x7f => true,
        b' ' => at == 0,
        byte => b"\"*./:<>?\\|".contains(&byte),
    };
    name.iter().enumerate().any(is_bad)
}

impl Walk<'_> {
    /// Checks one entry of the last frame.
    fn entry(&mut self, entry: &Entry, remark: Say<'_>) -> Result<()> {
        let Some(frame) = self.frames.last() else { return Ok(()) };
        let (own, above, depth) = (frame.own, frame.above, self.frames.len());
        let directory = if self.path.is_empty() { "/".to_owned() } else { self.path.clone() };
        if entry.orphans {
            remark(orphans(&directory))?;
        }
        let first = first_cluster(&self.fat.layout, &entry.raw);
        match what(&entry.raw) {
            What::Dot => {
                let expected = if entry.raw.name.starts_with(b"..") { above } else { own };
                if depth == 1 || first != expected {
                    let name = short_name(&entry.raw);
                    let what = format!("its entry `{name}` leads to cluster {first} and not to {expected}");
                    remark(Remark::new(Fault::Structure, directory, what))?;
                }
                return Ok(());
            }
            // The checks of the label itself are those of `label::check`.
            What::Label if depth == 1 => return Ok(()),
            What::Label => {
                return remark(Remark::new(Fault::Structure, directory, "a label stands in it"));
            }
            What::File | What::Directory => {}
        }
        let name = entry.name();
        let reserved = entry.raw.nt_res & !(LOWER_BASE | LOWER_EXTENSION) != 0;
        for (is, what) in [(reserved, "DIR_NTRes"), (entry.odd, "LDIR_Type or LDIR_FstClusLO")] {
            if is {
                let what = format!("the name {name} has reserved bits in {what}");
                remark(Remark::new(Fault::Structure, &directory, what))?;
            }
        }
        if let Some(why) = wrong(&name) {
            remark(Remark::new(Fault::Structure, &directory, format!("a name in it is not valid: {why}")))?;
        }
        if is_bad(&entry.raw.name) {
            let what =
                format!("the short name {} in it has characters that none can have", short_name(&entry.raw));
            remark(Remark::new(Fault::Structure, &directory, what))?;
        }
        let path = format!("{}/{name}", self.path);
        if what(&entry.raw) == What::File {
            return self.file(&path, first, entry.raw.file_size.into(), remark);
        }
        self.directory(path, first, entry, remark)
    }

    /// The chain of a file must be as long as its size requires.
    fn file(&mut self, path: &str, first: u32, size: u64, remark: Say<'_>) -> Result<()> {
        let expected = size.div_ceil(self.fat.layout.cluster);
        let found = match first {
            0 => Some(0),
            _ => self.claims.chain(&self.fat.table(), first, path, remark)?,
        };
        match found {
            Some(found) if found != expected => {
                let what = format!("it has {found} clusters, and its {size} bytes need {expected}");
                remark(Remark::new(Fault::Count, path, what))
            }
            _ => Ok(()),
        }
    }

    /// Descends into a directory.
    fn directory(&mut self, path: String, first: u32, entry: &Entry, remark: Say<'_>) -> Result<()> {
        if entry.raw.file_size != 0 {
            let what = format!("it is a directory and has a size, {}", entry.raw.file_size);
            remark(Remark::new(Fault::Structure, &path, what))?;
        }
        if self.claims.chain(&self.fat.table(), first, &path, remark)?.is_none() {
            return Ok(());
        }
        if self.frames.len() >= DEEPEST {
            return remark(Remark::new(Fault::Unjudged, &path, "it is nested too deep to be looked at"));
        }
        let above = self.frames.last().map_or(0, |frame| frame.own);
        self.path = path;
        self.dots(first, remark)?;
        self.twins(Entries::of_chain(first), remark)?;
        let path = self.path.len();
        self.frames.push(Frame { entries: Entries::of_chain(first), own: first, above, path });
        Ok(())
    }

    /// Checks that the directory at the path, whose first cluster is `first`, begins with `.` and `..`, both directories
    /// (fatgen103, "FAT Directory Structure"). The walk over its entries judges where they lead to.
    fn dots(&self, first: u32, remark: Say<'_>) -> Result<()> {
        let Some(start) = self.fat.layout.at(first) else { return Ok(()) };
        for (at, name, text) in [(start, b".          ", "."), (start + ENTRY, b"..         ", "..")] {
            let raw: DirectoryEntry = self.fat.device.structure(at)?;
            let what = if raw.name != *name {
                format!("its entry `{text}` is missing")
            } else if raw.attr & DIRECTORY == 0 {
                format!("its entry `{text}` is not marked as a directory")
            } else {
                continue;
            };
            remark(Remark::new(Fault::Structure, &self.path, what))?;
        }
        Ok(())
    }

    /// Checks that no two names of the directory at the path are equal.
    fn twins(&self, mut entries: Entries, remark: Say<'_>) -> Result<()> {
        let fat = self.fat;
        let path = if self.path.is_empty() { "/" } else { self.path.as_str() };
        let (mut long, mut short) = (HashSet::new(), HashSet::new());
        // Unreadable entries are reported when their names are checked.
        while let Ok(Some(entry)) = entries.next(&fat.table(), &fat.layout, &fat.device) {
            let twin = !short.insert(entry.raw.name)
                || entry.long.as_ref().is_some_and(|name| !long.insert(hash(&fold(name))));
            if twin {
                let what = format!("two names in it are the same: {}", entry.name());
                remark(Remark::new(Fault::Structure, path, what))?;
            }
        }
        Ok(())
    }
}

/// A hash of 64 bits for a name: 65,536 names of 255 characters would take 50 MB.
fn hash(name: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Checks for clusters in use without an owner, and the count of free ones.
fn counts(fat: &Fat, claims: &Claims, remark: Say<'_>) -> Result<()> {
    let (mut used, mut lost, mut first) = (0_u64, 0_u64, None);
    fat.table().used(&mut |cluster, value| {
        used += 1;
        if !claims.is_set(cluster) && Link::of(&fat.layout, value) != Link::Bad {
            lost += 1;
            first = first.or(Some(cluster));
        }
        Ok::<(), Error>(())
    })?;
    if let Some(first) = first {
        let what = format!("{lost} clusters are in use and belong to nothing, cluster {first} first");
        remark(Remark::new(Fault::Bitmap, "FAT", what))?;
    }
    let free = u64::from(fat.layout.clusters) - used;
    if let Some(FsInfo { free_count, .. }) = fat.fsinfo()?
        && free_count != u32::MAX
        && u64::from(free_count) != free
    {
        let what = format!("it tells {free_count} free clusters, and {free} are free");
        remark(Remark::new(Fault::Count, "FSInfo", what))?;
    }
    Ok(())
}
