//! Examines one name of the host: its inode, and what few inodes have (extended attributes and holes).

use std::ffi::OsStr;
use std::ops;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, SeekFrom, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;

use super::hold::{Hold, Looked};
use super::scan::Exclusions;
use super::select::Selection;
use super::xattr;
use super::{Range, Time, Xattr};
use crate::error::{Error, Kind, Result};
use crate::host::{READ, open_any_length};
use crate::units::u64_of;

/// The fields of an inode that statx is asked for.
pub(super) const WANTED: StatxFlags = StatxFlags::BASIC_STATS;

/// A name of the host. If its directory is open, the kernel looks up one name and does not walk a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name<'a> {
    pub(super) directory: Option<&'a OwnedFd>,
    /// The name in that directory.
    pub(super) name: &'a OsStr,
    pub(super) path: &'a Path,
}

impl<'a> Name<'a> {
    /// A whole path, not relative to an open directory.
    pub(super) fn whole(path: &'a Path) -> Self {
        Self { directory: None, name: path.as_os_str(), path }
    }

    /// The inode of the name itself.
    pub(super) fn stat(&self) -> Result<Statx, Errno> {
        match self.directory {
            Some(directory) => statx(directory, self.name, AtFlags::SYMLINK_NOFOLLOW, WANTED),
            None => statx(CWD, self.path, AtFlags::SYMLINK_NOFOLLOW, WANTED),
        }
    }

    /// Where the symbolic link leads to.
    pub(super) fn target(&self) -> Result<Vec<u8>, Errno> {
        let target = match self.directory {
            Some(directory) => rustix::fs::readlinkat(directory, self.name, Vec::new()),
            None => rustix::fs::readlink(self.path, Vec::new()),
        };
        target.map(std::ffi::CString::into_bytes)
    }

    /// Opens the file for reading, without following a link or waiting for a pipe.
    pub(super) fn open(&self) -> Result<OwnedFd, Errno> {
        match self.directory {
            Some(directory) => openat(directory, self.name, READ | OFlags::CLOEXEC, Mode::empty()),
            None => open_any_length(self.path, READ),
        }
    }

    pub(super) fn failed(&self, error: Errno) -> Error {
        Error::io(Kind::Source, "cannot read the source", self.path, error)
    }
}

/// A name and its inode.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: u32,
    pub(super) name_length: u8,
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u32,
    pub(super) size: u64,
    pub(super) mtime: Time,
    pub(super) inode: (u64, u64),
    pub(super) what: What,
    pub(super) rare: Option<Box<Rare>>,
}

/// Properties that most inodes do not have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) xattrs: Vec<Xattr>,
    pub(super) ranges: Option<Vec<Range>>,
    /// The bytes of a file that was read during the scan, as a range of the bytes that its listing holds.
    pub(super) bytes: Option<ops::Range<usize>>,
}

/// The number of the filesystem that an inode is in.
pub(super) fn filesystem(stat: &Statx) -> u64 {
    u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor)
}

/// The type of an inode and what belongs to it.
#[derive(Debug)]
pub(super) enum What {
    /// With the number of its listing.
    Directory(u32),
    File,
    /// With its target.
    Symlink(Box<[u8]>),
    CharacterDevice((u32, u32)),
    BlockDevice((u32, u32)),
    Fifo,
    Socket,
}

impl Entry {
    fn new(stat: &Statx, at: Name<'_>, (name, name_length): (u32, u8)) -> Result<Self> {
        let device = (stat.stx_rdev_major, stat.stx_rdev_minor);
        let what = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
            FileType::Directory => What::Directory(0),
            FileType::RegularFile => What::File,
            FileType::Symlink => What::Symlink(
                at.target()
                    .map_err(|error| {
                        Error::io(Kind::Source, "cannot read the symbolic link", at.path, error)
                    })?
                    .into_boxed_slice(),
            ),
            FileType::CharacterDevice => What::CharacterDevice(device),
            FileType::BlockDevice => What::BlockDevice(device),
            FileType::Fifo => What::Fifo,
            FileType::Socket => What::Socket,
            FileType::Unknown => {
                return Err(Error::new(Kind::Source, "the source is of an unknown type").at(at.path));
            }
        };
        Ok(Self {
            name,
            name_length,
            mode: stat.stx_mode & 0o7777,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            links: stat.stx_nlink,
            size: stat.stx_size,
            mtime: Time { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec },
            inode: (filesystem(stat), stat.stx_ino),
            what,
            rare: None,
        })
    }

    /// Examines a name: its inode, and what few inodes have. `kind` is the type that its directory reports.
    /// The bytes of a small file are added to `held`.
    pub(super) fn look(
        at: Name<'_>,
        name: (u32, u8),
        kind: FileType,
        (hold, held): (&Hold, &mut Vec<u8>),
        asked: &Asked<'_>,
    ) -> Result<Self> {
        let looked = hold.look(at, kind, held)?;
        let mut entry = Self::new(&looked.stat, at, name)?;
        if let Some(bytes) = &looked.bytes {
            entry.size = u64_of(bytes.len());
        }
        entry.look_closer(at, looked, asked)?;
        Ok(entry)
    }

    fn look_closer(&mut self, at: Name<'_>, looked: Looked, asked: &Asked<'_>) -> Result<()> {
        let Looked { stat, file, bytes } = looked;
        let holes = asked.holes && matches!(self.what, What::File) && stat.stx_size > 0;
        let open = || at.open().map_err(|error| at.failed(error));
        // A file that is open for its holes is asked for attributes without a path.
        let file = match file {
            None if holes && stat.stx_size > SHORT => Some(open()?),
            file => file,
        };
        let xattrs = match &self.what {
            What::Symlink(_) if !asked.xattrs.patterns().may_be_on_links() => Vec::new(),
            _ => asked.xattrs.read(at, file.as_ref(), self.inode.0)?,
        };
        let ranges = match holes && may_have_holes(&stat, !xattrs.is_empty()) {
            true => ranges_of(&file.map_or_else(open, Ok)?, at, self.size)?,
            false => None,
        };
        if !xattrs.is_empty() || ranges.is_some() || bytes.is_some() {
            self.rare = Some(Box::new(Rare { xattrs, ranges, bytes }));
        }
        Ok(())
    }
}

/// What a request wants to know about each inode.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) xattrs: xattr::Reader<'a>,
    pub(super) holes: bool,
    pub(super) without: &'a Exclusions,
    /// Which paths are looked at, and where the source begins on the host.
    pub(super) select: Option<(&'a Selection, PathBuf)>,
    /// The number of the filesystem that the source begins in.
    pub(super) filesystem: u64,
}

impl Asked<'_> {
    /// Whether a name of the host is looked at. Its directory need not say what kind it is.
    pub(super) fn takes(&self, at: Name<'_>, kind: FileType) -> bool {
        let Some((select, top)) = &self.select else { return true };
        let below = at.path.strip_prefix(top).unwrap_or(at.path);
        let directory = match kind {
            FileType::Directory => true,
            FileType::Unknown => at
                .stat()
                .is_ok_and(|stat| FileType::from_raw_mode(u32::from(stat.stx_mode)) == FileType::Directory),
            _ => false,
        };
        select.takes(below.as_os_str().as_bytes(), directory)
    }
}

/// A file up to this length has at most four pieces, whose map fits in the inode of an ext4 host.
const SHORT: u64 = 4 * BLOCK;

/// Whether a file has to be asked for holes. A short file has none if it has no attributes and the host has
/// allocated just the blocks that its length needs. In other cases the block count may include blocks of
/// attributes, of the file's map, or preallocated past its end (XFS). Those would hide as many blocks of
/// hole.
fn may_have_holes(stat: &Statx, attributes: bool) -> bool {
    let whole = stat.stx_size.next_multiple_of(BLOCK) / 512;
    stat.stx_size > SHORT || attributes || stat.stx_blocks != whole
}

/// The granularity of holes in an image: an ext4 block.
pub(super) const BLOCK: u64 = 4096;

/// The data ranges of a file, extended to whole blocks; `None` if it has no holes.
pub(crate) fn ranges(path: &Path, size: u64) -> Result<Option<Vec<Range>>> {
    let at = Name::whole(path);
    ranges_of(&at.open().map_err(|error| at.failed(error))?, at, size)
}

/// As [`ranges`], of the open `file` (SEEK_DATA, SEEK_HOLE; lseek(2)).
fn ranges_of(file: &OwnedFd, at: Name<'_>, size: u64) -> Result<Option<Vec<Range>>> {
    let failed = |error: Errno| at.failed(error);
    // Nearly all files have no holes, and one call shows that. A filesystem without holes may refuse the
    // call.
    match rustix::fs::seek(file, SeekFrom::Hole(0)) {
        Ok(end) if end >= size => return Ok(None),
        Err(Errno::INVAL | Errno::NOTSUP) => return Ok(None),
        Ok(_) | Err(_) => {}
    }
    let mut found: Vec<Range> = Vec::new();
    let mut from = 0;
    while from < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(from)) {
            Ok(start) => start,
            // Only hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).map_err(failed)?.min(size);
        if start >= size || end <= start {
            break;
        }
        let (first, last) = (start / BLOCK * BLOCK, end.div_ceil(BLOCK).saturating_mul(BLOCK).min(size));
        match found.last_mut() {
            Some(before) if before.start + before.length >= first => before.length = last - before.start,
            _ => found.push(Range { start: first, length: last - first }),
        }
        from = end;
    }
    let whole = matches!(found.as_slice(), [only] if only.start == 0 && only.length == size);
    Ok((!whole).then_some(found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    #[test]
    fn holes_are_found_in_whole_blocks() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len(10 * MIB + 100).unwrap();
        file.write_all_at(&[1; 10], 4 * MIB).unwrap();
        file.write_all_at(&[1; 1], 10 * MIB + 99).unwrap();
        let found = ranges(&path, 10 * MIB + 100).unwrap().unwrap();
        assert_eq!(found, [Range { start: 4 * MIB, length: 4096 }, Range { start: 10 * MIB, length: 100 }]);
        file.set_len(5000).unwrap();
        assert_eq!(ranges(&path, 5000).unwrap(), Some(Vec::new()));
        std::fs::write(&path, vec![1; 5000]).unwrap();
        assert_eq!(ranges(&path, 5000).unwrap(), None);
    }
}
