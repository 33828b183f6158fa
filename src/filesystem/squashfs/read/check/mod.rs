//! Looking whether everything is in order: what kernels check of the tables, every inode that can be reached, and every
//! block of data, whose compressor tells most of what is damaged.

mod tables;

use std::collections::{HashMap, HashSet};

use super::data::Stored;
use super::directory::Go;
use super::inode::{Blocks, Body, Names, Raw};
use super::metadata::Stream;
use super::{Squashfs, shown};
use crate::error::Result;
use crate::filesystem::squashfs::format::{DirectoryIndex, LONGEST_NAME, MODE, Type, flag};
use crate::filesystem::volume::{Fault, Remark};
use crate::text::printable;
use crate::units::{u64_of, usize_of};
use tables::{Owner, Ranges};

type Tell<'a> = &'a mut dyn FnMut(Remark) -> Result<()>;

/// What a name or the superblock says of an inode.
#[derive(Clone, Debug)]
struct Expected {
    reference: u64,
    number: u32,
    kind: Option<Type>,
    parent: u32,
    path: Vec<u8>,
}

/// What is known of an inode that was reached.
#[derive(Debug)]
struct Known {
    reference: u64,
    /// How many names it says to have, how many were found, and the first of them.
    nlink: u32,
    names: u32,
    path: Vec<u8>,
    directory: bool,
}

struct Check<'a> {
    volume: &'a Squashfs,
    /// By number.
    known: HashMap<u32, Known>,
    waiting: Vec<Expected>,
    /// Data that was looked at: where a file begins and how long it is; fragments by number.
    files: HashSet<(u64, u64)>,
    /// Blocks of files: where each is, its field, and its length. A file may begin with the blocks of another one.
    blocks: HashSet<(u64, u32, usize)>,
    fragments: HashSet<u32>,
    /// Where all of it is.
    ranges: Ranges,
    /// Bytes of names, and of stored data, that may yet be looked at: no two directories or files of a sound image have
    /// the same.
    names: u64,
    data: u64,
}

/// A bit of `flags` for a check of data that was never written (linux/fs/squashfs/squashfs_fs.h).
const UNUSED_FLAG: u16 = 1 << 2;

/// Looks at `volume`.
pub(super) fn run(volume: &Squashfs, tell: Tell<'_>) -> Result<()> {
    tables(volume, tell)?;
    let superblock = &volume.superblock;
    let root = Expected {
        reference: superblock.root_inode,
        number: superblock.inodes,
        kind: Some(Type::Directory),
        parent: superblock.inodes.wrapping_add(1),
        path: Vec::new(),
    };
    // No block of metadata gives more than 8 KiB, and none is stored in fewer than 3 bytes.
    let names = volume.directories.end.saturating_sub(volume.directories.start).saturating_mul(8192 / 3);
    let mut check = Check {
        volume,
        known: HashMap::new(),
        waiting: vec![root],
        files: HashSet::new(),
        blocks: HashSet::new(),
        fragments: HashSet::new(),
        ranges: Ranges::default(),
        names,
        data: volume.inodes.start,
    };
    while let Some(expected) = check.waiting.pop() {
        check.inode(&expected, tell)?;
        if u64_of(check.known.len()) > u64::from(superblock.inodes) {
            return tell(Remark::new(
                Fault::Count,
                "superblock",
                format!("there are more inodes than the {} it tells", superblock.inodes),
            ));
        }
    }
    check.counts(tell)?;
    check.rest(tell)
}

/// What kernels check before they mount (linux/fs/squashfs/super.c, id.c, export.c, xattr_id.c): each index ends where the
/// next table begins.
fn tables(volume: &Squashfs, tell: Tell<'_>) -> Result<()> {
    let superblock = &volume.superblock;
    let inodes = u64::from(superblock.inodes);
    // squashfs-tools, unsquash-4.c, read_filesystem_tables.
    for (wrong, what) in [
        (
            u64::from(superblock.fragments) > inodes,
            format!("{} fragments for {inodes} inodes", superblock.fragments),
        ),
        (
            superblock.no_ids == 0 || u64::from(superblock.no_ids) > inodes * 2,
            format!("{} owners for {inodes} inodes", superblock.no_ids),
        ),
        (superblock.flags & UNUSED_FLAG != 0, "a flag that is no longer used".to_owned()),
        (
            (superblock.flags & flag::EXPORT != 0) != volume.exports.is_some(),
            "a flag of exports that contradicts its tables".to_owned(),
        ),
    ] {
        if wrong {
            tell(Remark::new(Fault::Structure, "superblock", format!("it has {what}")))?;
        }
    }
    let first = |index: Stream| -> Result<u64> {
        let mut start = [0; 8];
        volume.metadata.device.read(index.start, &mut start)?;
        Ok(u64::from_le_bytes(start))
    };
    let (attributes, end) = match volume.xattrs {
        // Where the attributes begin stands before their index.
        Some(table) => {
            (first(Stream { start: superblock.xattr_id_table_start, ..table.index })?, table.index.end)
        }
        None => (superblock.bytes_used, superblock.bytes_used),
    };
    let mut ends = vec![("the index of owners", volume.ids.end, attributes)];
    if let Some(exports) = volume.exports {
        ends.push(("the index of inodes by number", exports.end, first(volume.ids)?));
    }
    if volume.xattrs.is_some() {
        ends.push(("the index of attributes", end, superblock.bytes_used));
    }
    for (what, end, expected) in ends {
        if end != expected {
            let what = format!("{what} ends at {end}, and what follows begins at {expected}");
            tell(Remark::new(Fault::Structure, "superblock", what))?;
        }
    }
    Ok(())
}

/// A path for people.
fn subject(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { printable(path) }
}

impl Check<'_> {
    fn inode(&mut self, expected: &Expected, tell: Tell<'_>) -> Result<()> {
        let subject = subject(&expected.path);
        if let Some(known) = self.known.get_mut(&expected.number) {
            known.names = known.names.saturating_add(1);
            if known.reference != expected.reference {
                let what = format!("it has the number of {}", printable(&known.path));
                return tell(Remark::new(Fault::Shared, subject, what));
            }
            if expected.kind == Some(Type::Directory) {
                return tell(Remark::new(Fault::Shared, subject, "a directory has two names"));
            }
            return Ok(());
        }
        let raw = match self.volume.raw(expected.reference) {
            Ok(raw) => raw,
            Err(error) => return tell(Remark::of(subject, &error)),
        };
        let known = Known {
            reference: expected.reference,
            nlink: raw.nlink,
            names: 1,
            path: expected.path.clone(),
            directory: matches!(raw.body, Body::Directory(_)),
        };
        self.known.insert(expected.number, known);
        self.head(expected, &raw, &subject, tell)?;
        let number = raw.head.inode_number;
        match raw.body {
            Body::Directory(names) => self.directory(names, (raw.nlink, number), expected, tell),
            Body::File(blocks) => self.file(blocks, (number, &subject), tell),
            _ => Ok(()),
        }
    }

    /// What every inode says.
    fn head(&self, expected: &Expected, raw: &Raw<'_>, subject: &str, tell: Tell<'_>) -> Result<()> {
        let (head, volume) = (&raw.head, self.volume);
        let mut wrong = |what: String| tell(Remark::new(Fault::Structure, subject, what));
        if head.inode_number != expected.number {
            wrong(format!("its inode has the number {}, and not {}", head.inode_number, expected.number))?;
        }
        if Type::of(head.inode_type).map(|(kind, _)| kind) != expected.kind {
            wrong("its inode is of another type than its name says".to_owned())?;
        }
        if head.mode & !MODE != 0 {
            // Since 7.2 the kernel refuses such an inode.
            wrong(format!("its mode {:o} has bits that are none of permissions", head.mode))?;
        }
        if head.inode_number > volume.superblock.inodes {
            wrong(format!("its inode has the number {} of {}", head.inode_number, volume.superblock.inodes))?;
        }
        for id in [head.uid, head.guid] {
            if let Err(error) = volume.id(id) {
                tell(Remark::of(subject, &error))?;
            }
        }
        if let Err(error) = volume.xattrs(raw.xattr) {
            tell(Remark::of(subject, &error))?;
        }
        let Some(exports) = volume.exports else { return Ok(()) };
        let number = u64::from(head.inode_number) - 1;
        match volume.metadata.entry(exports, number, 8) {
            Err(error) => tell(Remark::of(subject, &error)),
            Ok(entry) => {
                let found = entry.try_into().map_or(0, u64::from_le_bytes);
                if found == expected.reference {
                    return Ok(());
                }
                let what = format!(
                    "its number leads to {}, and its name to {}",
                    shown(found),
                    shown(expected.reference)
                );
                tell(Remark::new(Fault::Copy, subject, what))
            }
        }
    }

    fn directory(
        &mut self,
        names: Names<'_>,
        (nlink, number): (u32, u32),
        expected: &Expected,
        tell: Tell<'_>,
    ) -> Result<()> {
        let subject = subject(&expected.path);
        let Some(left) = self.names.checked_sub(names.length) else {
            return tell(Remark::new(Fault::Unjudged, subject, "directories have the same names in common"));
        };
        self.names = left;
        if names.parent != expected.parent {
            let what = format!("its parent is inode {}, and it names {}", expected.parent, names.parent);
            tell(Remark::new(Fault::Structure, subject.clone(), what))?;
        }
        let (mut before, mut subdirectories, mut unsorted) = (Vec::new(), 0_u32, false);
        let mut runs = HashMap::new();
        let waiting = &mut self.waiting;
        let listed = self.volume.names(&names, &mut |own| {
            unsorted |= !before.is_empty() && before.as_slice() >= own.name;
            before = own.name.to_vec();
            if let Some((at, block)) = own.run {
                runs.insert(at, (block, own.name.to_vec()));
            }
            subdirectories += u32::from(own.kind == Some(Type::Directory));
            waiting.push(Expected {
                reference: own.reference,
                number: own.number,
                kind: own.kind,
                parent: number,
                path: [expected.path.as_slice(), b"/", own.name].concat(),
            });
            Ok(Go::On)
        });
        if let Err(error) = listed {
            return tell(Remark::of(subject, &error));
        }
        if unsorted {
            tell(Remark::new(
                Fault::Structure,
                subject.clone(),
                "its names are not sorted, or one is there twice",
            ))?;
        }
        if nlink != subdirectories.saturating_add(2) {
            let what = format!("it counts {nlink} links, and has {subdirectories} directories");
            tell(Remark::new(Fault::Count, subject.clone(), what))?;
        }
        if let Err(error) = self.index(names, &runs) {
            tell(Remark::new(Fault::Structure, subject, error))?;
        }
        Ok(())
    }

    /// Whether the index leads to runs; a kernel that looks a name up begins there.
    fn index(&self, mut names: Names<'_>, runs: &HashMap<u64, (u64, Vec<u8>)>) -> Result<(), String> {
        for number in 0..names.indexes {
            let read = |error: crate::error::Error| format!("entry {number} of its index: {}", error.what());
            let entry: DirectoryIndex = names.index.structure().map_err(read)?;
            let length = usize_of(u64::from(entry.size)) + 1;
            if length > usize::from(LONGEST_NAME) {
                return Err(format!("a name of {length} bytes is in its index"));
            }
            let name = names.index.bytes(length).map_err(read)?;
            let block = self.volume.directories.start + u64::from(entry.start_block);
            if runs.get(&u64::from(entry.index)) != Some(&(block, name)) {
                return Err(format!("entry {number} of its index leads to no run"));
            }
        }
        Ok(())
    }

    /// Decompresses what was not looked at yet.
    fn file(&mut self, blocks: Blocks<'_>, (own, subject): (u32, &str), tell: Tell<'_>) -> Result<()> {
        if blocks.sparse > 0 && blocks.sparse >= blocks.size {
            let what = format!("{} of its {} bytes are said to be holes", blocks.sparse, blocks.size);
            tell(Remark::new(Fault::Count, subject, what))?;
        }
        let new = self.files.insert((blocks.start, blocks.size)) || blocks.count == 0;
        let (volume, size) = (self.volume, blocks.size);
        let (data, fragments, ranges) = (&mut self.data, &mut self.fragments, &mut self.ranges);
        let known = &mut self.blocks;
        let fragment = blocks.fragment.map(|(number, _)| number);
        let mut bytes = vec![0; usize_of(volume.block.min(size))];
        let looked = volume.blocks(blocks, &mut |_, stored| {
            let fresh = match stored.whole {
                true => new && known.insert((stored.start, stored.field, stored.length)),
                false => fragment.is_some_and(|number| fragments.insert(number)),
            };
            if !fresh {
                return outside(&stored, volume);
            }
            let owner = fragment.filter(|_| !stored.whole).map_or(Owner::Inode(own), Owner::Fragment);
            ranges.add(&stored, owner);
            *data = data.checked_sub(stored.stored()).ok_or_else(|| {
                crate::filesystem::device::damaged(
                    "files have the same blocks in common, and are not the same",
                )
            })?;
            if stored.is_raw() { Ok(()) } else { volume.source.read(&stored, 0, &mut bytes[..stored.length]) }
        });
        match looked {
            Ok(()) => Ok(()),
            Err(error) => tell(Remark::of(subject, &error)),
        }
    }

    /// What the superblock counts, and what inodes count.
    fn counts(&self, tell: Tell<'_>) -> Result<()> {
        let inodes = self.volume.superblock.inodes;
        let found = u64_of(self.known.len());
        if found != u64::from(inodes) {
            let what = format!("it counts {inodes} inodes, and {found} have a name");
            tell(Remark::new(Fault::Count, "superblock", what))?;
        }
        // Those of directories were counted by what is in them.
        let mut wrong: Vec<_> =
            self.known.values().filter(|known| !known.directory && known.names != known.nlink).collect();
        wrong.sort_by(|a, b| a.path.cmp(&b.path));
        for known in wrong {
            let what = format!("it counts {} names, and has {}", known.nlink, known.names);
            tell(Remark::new(Fault::Count, subject(&known.path), what))?;
        }
        Ok(())
    }
}

/// Refuses a place in a fragment that lies outside of it; the fragment itself was looked at.
fn outside(stored: &Stored, volume: &Squashfs) -> Result<()> {
    if stored.whole || u64_of(stored.from + stored.length) <= volume.block {
        return Ok(());
    }
    Err(crate::filesystem::device::damaged("the tail of a file lies outside its fragment")
        .found(format!("{} bytes at {}", stored.length, stored.from)))
}
