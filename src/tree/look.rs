//! Looking at one name of the host: its inode, and what few inodes have, extended attributes and holes.

use std::path::Path;

use rustix::fs::{FileType, OFlags, SeekFrom, Statx};
use rustix::io::Errno;

use super::scan::Request;
use super::xattr;
use super::{Range, Time, Xattr};
use crate::error::{Error, Kind, Result};
use crate::host::open_any_length;

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

/// What most inodes do not have.
#[derive(Debug, Default)]
pub(super) struct Rare {
    pub(super) xattrs: Vec<Xattr>,
    pub(super) ranges: Option<Vec<Range>>,
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
    pub(super) fn new(
        stat: &Statx,
        name: u32,
        name_length: u8,
        path: &Path,
        readlink: impl FnOnce() -> Result<Vec<u8>, Errno>,
    ) -> Result<Self> {
        let device = (stat.stx_rdev_major, stat.stx_rdev_minor);
        let what = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
            FileType::Directory => What::Directory(0),
            FileType::RegularFile => What::File,
            FileType::Symlink => What::Symlink(
                readlink()
                    .map_err(|error| Error::io(Kind::Source, "cannot read the symbolic link", path, error))?
                    .into_boxed_slice(),
            ),
            FileType::CharacterDevice => What::CharacterDevice(device),
            FileType::BlockDevice => What::BlockDevice(device),
            FileType::Fifo => What::Fifo,
            FileType::Socket => What::Socket,
            FileType::Unknown => {
                return Err(Error::new(Kind::Source, "the source is of an unknown type").at(path));
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
            inode: (u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor), stat.stx_ino),
            what,
            rare: None,
        })
    }

    /// Reads what few inodes have: extended attributes and holes.
    pub(super) fn look_closer(&mut self, path: &Path, stat: &Statx, request: &Request) -> Result<()> {
        let patterns = &request.xattrs;
        let ask = !matches!(self.what, What::Symlink(_)) || patterns.may_be_on_links();
        let xattrs = if ask { xattr::read(path, patterns)? } else { Vec::new() };
        let ranges = match self.what {
            What::File if request.holes && may_have_holes(stat, !xattrs.is_empty()) => {
                ranges(path, self.size)?
            }
            _ => None,
        };
        if !xattrs.is_empty() || ranges.is_some() {
            self.rare = Some(Box::new(Rare { xattrs, ranges }));
        }
        Ok(())
    }
}

/// Up to here a file has at most four pieces, whose map fits in the inode of an ext4 host.
const SHORT: u64 = 4 * BLOCK;

/// Whether a file has to be asked for holes. A short one without attributes, to which the host has given just the blocks
/// that its length needs, has none. Anywhere else blocks of attributes, of the file's map, or preallocated past its end
/// (XFS) may be counted with those of the data, and would hide as many blocks of hole.
fn may_have_holes(stat: &Statx, attributes: bool) -> bool {
    let whole = stat.stx_size.next_multiple_of(BLOCK) / 512;
    stat.stx_size > SHORT || attributes || stat.stx_blocks != whole
}

/// The granularity of holes in an image: an ext4 block.
pub(super) const BLOCK: u64 = 4096;

/// The data ranges of a file (SEEK_DATA, SEEK_HOLE; lseek(2)), grown to whole blocks; `None` for data throughout.
pub(crate) fn ranges(path: &Path, size: u64) -> Result<Option<Vec<Range>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let failed = |error: Errno| Error::io(Kind::Source, "cannot read the source", path, error);
    let file = open_any_length(path, flags).map_err(failed)?;
    let mut found: Vec<Range> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // Nothing but hole up to the end.
            Err(Errno::NXIO) => break,
            // A filesystem without holes says so.
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let end = rustix::fs::seek(&file, SeekFrom::Hole(start)).map_err(failed)?.min(size);
        if start >= size || end <= start {
            break;
        }
        let from = start / BLOCK * BLOCK;
        let to = end.div_ceil(BLOCK).saturating_mul(BLOCK).min(size);
        match found.last_mut() {
            Some(last) if last.start + last.length >= from => last.length = to - last.start,
            _ => found.push(Range { start: from, length: to - from }),
        }
        at = end;
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
