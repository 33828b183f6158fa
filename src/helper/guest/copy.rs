//! Copies a tree with all that a filesystem of Linux keeps: types, modes, owners, times, names of one file, holes, attributes.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chownat, lgetxattr, llistxattr,
    lsetxattr, mknodat, utimensat,
};
use rustix::io::Errno;

use super::super::job::{Copy, Message, Piece};
use super::{Failure, PIECE, say};
use crate::pour::zeros::is_zero;
use crate::units::{u64_of, usize_of};

/// Bytes and files between two messages.
const REPORTED: (u64, u64) = (32 << 20, 1000);
/// The most bytes of the names of a file's attributes, and of one value (linux/uapi/linux/limits.h).
const XATTRS: usize = 64 << 10;
/// What the names of access control lists begin with.
const ACL: &[u8] = b"system.posix_acl_";

/// Copies one tree.
pub(super) struct Copier<'a> {
    copy: &'a Copy,
    /// Places of files with several names, by their numbers and the filesystem that they went to.
    links: HashMap<(u64, PathBuf), PathBuf>,
    without: BTreeSet<&'a str>,
    piece: Vec<u8>,
    /// What was copied and not yet said.
    pending: (u64, u64),
    /// Files whose access control lists a filesystem does not take.
    without_acl: u64,
}

/// A failure with its place in the tree.
fn at<T, E: std::fmt::Display>(path: &Path, done: Result<T, E>) -> Result<T, Failure> {
    done.map_err(|error| format!("{}: {error}", path.display()))
}

impl<'a> Copier<'a> {
    pub(super) fn new(copy: &'a Copy) -> Self {
        Self {
            copy,
            links: HashMap::new(),
            without: copy.without.iter().map(String::as_str).collect(),
            piece: vec![0; PIECE],
            pending: (0, 0),
            without_acl: 0,
        }
    }

    pub(super) fn run(mut self) -> Result<(), Failure> {
        let from = PathBuf::from(&self.copy.from);
        if let Some(to) = self.copy.to.get("/").map(PathBuf::from) {
            self.directory((&from, Path::new("/")), &to, &to)?;
        } else {
            // Nothing takes what is not below other folders.
            for (folder, to) in &self.copy.to {
                let (own, to) = (from.join(folder.trim_start_matches('/')), PathBuf::from(to));
                if own.is_dir() {
                    self.directory((&own, Path::new(folder)), &to, &to)?;
                }
            }
        }
        self.tell((0, 0));
        if self.without_acl > 0 {
            let text = format!(
                "access control lists of {} files are lost: the property acltype of their dataset is not posix",
                self.without_acl
            );
            say(&Message::Warning(text));
        }
        Ok(())
    }

    /// Counts what was copied.
    fn count(&mut self, bytes: u64, files: u64) {
        self.pending = (self.pending.0 + bytes, self.pending.1 + files);
        self.tell(REPORTED);
    }

    /// Says what was copied, if it is more than so much.
    fn tell(&mut self, least: (u64, u64)) {
        let (bytes, files) = self.pending;
        if bytes >= least.0 || files >= least.1 {
            say(&Message::Copied(bytes, files));
            self.pending = (0, 0);
        }
    }

    /// Copies what is in a directory and then what it is itself, since making names changes its time. `path` is its place in
    /// the tree, `home` the filesystem that it goes to.
    fn directory(&mut self, (from, path): (&Path, &Path), to: &Path, home: &Path) -> Result<(), Failure> {
        let entries = at(path, std::fs::read_dir(from))?;
        let mut names: Vec<OsString> =
            at(path, entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>())?;
        names.sort();
        for name in names {
            self.entry((&from.join(&name), &path.join(&name)), &to.join(&name), home)?;
        }
        let meta = at(path, std::fs::symlink_metadata(from))?;
        self.metadata((from, path), to, &meta)
    }

    fn entry(&mut self, (from, path): (&Path, &Path), to: &Path, home: &Path) -> Result<(), Failure> {
        if path.to_str().is_some_and(|path| self.without.contains(path)) {
            return Ok(());
        }
        let meta = at(path, std::fs::symlink_metadata(from))?;
        let kind = meta.file_type();
        if kind.is_dir() {
            at(path, std::fs::create_dir(to))?;
            let other = path.to_str().and_then(|path| self.copy.to.get(path)).map(PathBuf::from);
            return match other {
                None => self.directory((from, path), to, home),
                Some(other) => {
                    self.metadata((from, path), to, &meta)?;
                    self.directory((from, path), &other, &other)
                }
            };
        }
        if meta.nlink() > 1 {
            let key = (meta.ino(), home.to_owned());
            if let Some(first) = self.links.get(&key) {
                return at(path, std::fs::hard_link(first, to));
            }
            self.links.insert(key, to.to_owned());
        }
        if kind.is_symlink() {
            let target = at(path, std::fs::read_link(from))?;
            at(path, std::os::unix::fs::symlink(target, to))?;
        } else if kind.is_file() {
            at(path, self.file((from, path), to, meta.len()))?;
        } else {
            let kind = if kind.is_block_device() {
                FileType::BlockDevice
            } else if kind.is_char_device() {
                FileType::CharacterDevice
            } else if kind.is_fifo() {
                FileType::Fifo
            } else {
                FileType::Socket
            };
            at(path, mknodat(CWD, to, kind, Mode::RUSR | Mode::WUSR, meta.rdev()))?;
        }
        self.count(0, 1);
        self.metadata((from, path), to, &meta)
    }

    fn file(&mut self, (from, path): (&Path, &Path), to: &Path, length: u64) -> std::io::Result<()> {
        let from = File::open(from)?;
        let to = File::options().write(true).create_new(true).mode(0o600).open(to)?;
        to.set_len(length)?;
        let whole = [(0, length)];
        let ranges = &self.copy.ranges;
        let known = path.to_str().and_then(|path| ranges.get(path));
        let mut piece = std::mem::take(&mut self.piece);
        for own in known.map_or(whole.as_slice(), Vec::as_slice) {
            let own = Piece::at(own.0, own.1);
            copy(&from, &to, own, &mut piece, &mut |bytes| self.count(bytes, 0))?;
        }
        self.piece = piece;
        Ok(())
    }

    /// Owner, mode, attributes and time. A change of the owner takes rights away, so the mode comes after it.
    fn metadata(&mut self, (from, path): (&Path, &Path), to: &Path, meta: &Metadata) -> Result<(), Failure> {
        let owner = (Some(Uid::from_raw(meta.uid())), Some(Gid::from_raw(meta.gid())));
        at(path, chownat(CWD, to, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW))?;
        let is_link = meta.file_type().is_symlink();
        if !is_link {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(meta.mode() & 0o7777);
            at(path, std::fs::set_permissions(to, mode))?;
        }
        self.attributes((from, path), to)?;
        let time = Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() };
        let times = Timestamps { last_access: time, last_modification: time };
        at(path, utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW))
    }

    fn attributes(&mut self, (from, path): (&Path, &Path), to: &Path) -> Result<(), Failure> {
        let mut names = vec![0; XATTRS];
        let length = match llistxattr(from, &mut names) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => 0,
            Err(error) => return at(path, Err(error)),
        };
        names.truncate(length);
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut value = vec![0; XATTRS];
            let length = at(path, lgetxattr(from, OsStr::from_bytes(name), &mut value))?;
            value.truncate(length);
            match lsetxattr(to, OsStr::from_bytes(name), &value, XattrFlags::empty()) {
                Err(Errno::OPNOTSUPP) if name.starts_with(ACL) => self.without_acl += 1,
                done => {
                    let name = String::from_utf8_lossy(name);
                    at(path, done.map_err(|error| format!("{name}: {error}")))?;
                }
            }
        }
        Ok(())
    }
}

/// Copies bytes of a file to another; what is zero stays a hole.
pub(super) fn copy(
    from: &File,
    to: &File,
    piece: Piece,
    buffer: &mut [u8],
    tell: &mut dyn FnMut(u64),
) -> std::io::Result<()> {
    let mut done = 0;
    while done < piece.length {
        let count = usize_of((piece.length - done).min(u64_of(buffer.len())));
        let Some(bytes) = buffer.get_mut(..count) else { break };
        from.read_exact_at(bytes, piece.from + done)?;
        if !is_zero(bytes) {
            to.write_all_at(bytes, piece.to + done)?;
        }
        done += u64_of(count);
        tell(u64_of(count));
    }
    Ok(())
}
