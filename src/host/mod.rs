//! Files and programs of the host. Files are opened without following links, read exactly and checked again
//! for change. [`links`] follows symbolic links in the root of another system, [`fakeroot`] is refused, and
//! [`program`] runs another program.

pub mod fakeroot;
pub mod links;
pub mod program;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::fs::FileType;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, SeekFrom, openat, seek};

use crate::error::{Error, Kind, Result};
use crate::image::{HostFile, NamedFile};
use crate::units::u64_of;

/// A modification time folded into one number. Equal times give equal stamps.
#[must_use]
pub fn stamp(seconds: i64, nanoseconds: u32) -> u64 {
    seconds.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(u64::from(nanoseconds))
}

/// The longest path the kernel takes in one call, without the final NUL (PATH_MAX, linux/limits.h).
pub(crate) const LONGEST_PATH: usize = 4095;

/// What is wrong with a path that a shell or a browser would understand, and what to do.
pub(crate) fn elsewhere(path: &str) -> Option<(&'static str, &'static str)> {
    let scheme = path.split_once("://").map(|(scheme, _)| scheme);
    if path == "~" || path.starts_with("~/") {
        Some(("`~` is not expanded here", "write the whole path"))
    } else if scheme.is_some_and(|scheme| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
    }) {
        Some((
            "a source is on this machine and not behind a URL",
            "fetch it first, and give the path of the file",
        ))
    } else {
        None
    }
}

/// As [`elsewhere`], of a path that was missing, and that a folder may have been put before.
pub(crate) fn elsewhere_behind(path: &str) -> Option<(&'static str, &'static str)> {
    let behind = path.match_indices('/').map(|(at, slash)| &path[at + slash.len()..]);
    std::iter::once(path).chain(behind).find_map(elsewhere)
}

/// What something of the host is that is no regular file.
#[must_use]
pub(crate) fn kind_of(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() {
        "a block device"
    } else {
        "a character device"
    }
}

/// Whether a file says it is empty and has content all the same, as in /proc and on some filesystems in user space.
pub(crate) fn hides_content(file: &File) -> std::io::Result<bool> {
    let meta = file.metadata()?;
    // Filesystems that show what is on no disk of their own have no number of a device driver (unnamed devices,
    // linux/Documentation/admin-guide/devices.txt). Those of a disk know how long their files are.
    let may = meta.is_file() && meta.len() == 0 && rustix::fs::major(meta.dev()) == 0;
    Ok(may && file.read_at(&mut [0], 0)? > 0)
}

/// The ranges of `file` between two places that have data, and where it says nothing more: only hole is left there, or the
/// device or filesystem tells of no holes (SEEK_DATA, SEEK_HOLE; lseek(2)).
pub(crate) fn data_ranges(file: &File, from: u64, to: u64) -> (Vec<std::ops::Range<u64>>, Option<u64>) {
    let mut ranges = Vec::new();
    let mut at = from;
    while at < to {
        let Ok(start) = seek(file, SeekFrom::Data(at)) else { return (ranges, Some(at)) };
        if start >= to {
            break;
        }
        let end = seek(file, SeekFrom::Hole(start)).unwrap_or(to).min(to);
        if end <= start {
            break;
        }
        ranges.push(start..end);
        at = end;
    }
    (ranges, None)
}

/// What to do with a file that says it is empty and has content.
pub(crate) const COPY_IT: &str = "copy it to a file that has a length: cat FILE > COPY";

/// The folder in which a file has its name.
pub(crate) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// How a source is opened: for reading, without following a link or waiting for a pipe.
pub(crate) const READ: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens `path` with `flags`, however long it is: a path beyond PATH_MAX is walked in pieces.
///
/// # Errors
/// As open(2).
pub fn open_any_length(path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let mut rest = path.as_os_str().as_bytes();
    let mut at: Option<OwnedFd> = None;
    while rest.len() > LONGEST_PATH {
        let cut = rest[..LONGEST_PATH].iter().rposition(|byte| *byte == b'/').filter(|cut| *cut > 0);
        let Some(cut) = cut else { return Err(rustix::io::Errno::NAMETOOLONG) };
        let head = OsStr::from_bytes(&rest[..cut]);
        let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        at = Some(match &at {
            Some(directory) => openat(directory, head, step, Mode::empty())?,
            None => openat(CWD, head, step, Mode::empty())?,
        });
        rest = &rest[cut..];
        while let [b'/', tail @ ..] = rest {
            rest = tail;
        }
    }
    match &at {
        Some(directory) => openat(directory, OsStr::from_bytes(rest), flags, Mode::empty()),
        None => openat(CWD, OsStr::from_bytes(rest), flags, Mode::empty()),
    }
}

/// An open source and the state that it must still have.
#[derive(Debug)]
pub struct Source<'a> {
    file: File,
    expected: HostFile<'a>,
}

impl<'a> Source<'a> {
    /// Opens a regular file for reading, or a block device if no stamp is expected. It refuses a link in its
    /// place and does not wait for a pipe.
    ///
    /// # Errors
    /// [`Kind::Source`] where it is gone, unreadable, or has become something else.
    pub fn open(expected: HostFile<'a>) -> Result<Self> {
        let file = open_any_length(&expected.path, READ).map_err(|error| {
            let what = match error {
                rustix::io::Errno::NOENT => "the source vanished while the image was made",
                rustix::io::Errno::LOOP => "the source became a symbolic link while the image was made",
                _ => "cannot read the source",
            };
            Error::io(Kind::Source, what, &expected.path, error)
        })?;
        Ok(Self { file: File::from(file), expected })
    }

    /// Reads `file`, which is already open.
    ///
    /// # Errors
    /// [`Kind::Source`] where the process may not open another file.
    pub fn over(file: &File, expected: HostFile<'a>) -> Result<Self> {
        match file.try_clone() {
            Ok(file) => Ok(Self { file, expected }),
            Err(error) => Err(Error::io(Kind::Source, "cannot read the source", &expected.path, error)),
        }
    }

    /// The open file, for calls that copy without reading.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Whether nobody may write the file, whose state is known: the kernel can hand its pages on, and they stay as they are.
    /// Every file of a Nix store is such.
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_closed = |meta: std::fs::Metadata| meta.is_file() && meta.mode() & 0o222 == 0;
        self.expected.stamp.is_some() && self.file.metadata().is_ok_and(is_closed)
    }

    /// Fills `out` from byte `offset` of the file.
    ///
    /// # Errors
    /// [`Kind::Source`] where reading fails or the file ends first.
    pub fn read_exact(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < out.len() {
            match self.file.read_at(&mut out[done..], offset.saturating_add(u64_of(done))) {
                Ok(0) => return Err(self.ended(offset.saturating_add(u64_of(done)))),
                Ok(count) => done += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::io(
                        Kind::Source,
                        "cannot read the source",
                        &self.expected.path,
                        error,
                    ));
                }
            }
        }
        Ok(())
    }

    /// Checks, after reading, that the file has not changed since the image was laid out.
    ///
    /// # Errors
    /// [`Kind::Source`] where its size or modification time differs.
    pub fn verify(&self) -> Result<()> {
        let Some(expected) = self.expected.stamp else { return Ok(()) };
        let now = self
            .file
            .metadata()
            .map_err(|error| Error::io(Kind::Source, "cannot read the source", &self.expected.path, error))?;
        let nanoseconds = u32::try_from(now.mtime_nsec()).unwrap_or(0);
        if !now.is_file() || now.len() != self.expected.size || stamp(now.mtime(), nanoseconds) != expected {
            return Err(self.changed(now.len()));
        }
        Ok(())
    }

    /// Whether one read gets the whole file into `out`, and the file has not changed since the image was laid
    /// out.
    fn reads_whole(&self, out: &mut [u8]) -> bool {
        matches!(self.file.read_at(out, 0), Ok(count) if count == out.len()) && self.verify().is_ok()
    }

    /// The file has ended at `size`.
    fn ended(&self, size: u64) -> Error {
        match self.file.metadata() {
            // Nobody has changed it: attributes in /sys say that they are as long as a page.
            Ok(now)
                if now.len() == self.expected.size
                    && self.expected.stamp.is_some()
                    && self.verify().is_ok() =>
            {
                Error::new(Kind::Source, "the source has less content than it says")
                    .at(&self.expected.path)
                    .expected(format!("{} bytes", self.expected.size))
                    .found(format!("{size} bytes"))
                    .hint(COPY_IT)
            }
            _ => self.changed(size),
        }
    }

    fn changed(&self, size: u64) -> Error {
        Error::new(Kind::Source, "the source changed while the image was made")
            .at(&self.expected.path)
            .expected(format!("{} bytes, unchanged since it was first looked at", self.expected.size))
            .found(if size == self.expected.size {
                "a newer time of change".to_owned()
            } else {
                format!("{size} bytes")
            })
            .hint("run again when the source is at rest")
    }
}

/// How many directories stay open: mostly those on the way from a file to the next one in a tree.
const FOLDERS: usize = 4;

/// The directories that were read from last. They stay open, so that the kernel looks up one name for a small
/// file and no path.
#[derive(Debug)]
pub(crate) struct Folders {
    /// The one used last is at the end.
    open: Vec<(PathBuf, OwnedFd)>,
}

impl Folders {
    pub(crate) const fn new() -> Self {
        Self { open: Vec::new() }
    }

    /// Fills `out` with the whole file, which has that length, and checks it for change. False if anything is
    /// not as expected; [`Source`] then says what.
    pub(crate) fn read(&mut self, host: &NamedFile<'_>, out: &mut [u8]) -> bool {
        let Some(folder) = self.folder(host.folder) else { return false };
        let flags = READ | OFlags::CLOEXEC;
        let Ok(file) = openat(folder, host.name, flags, Mode::empty()) else { return false };
        let expected = HostFile { path: Cow::Borrowed(Path::new("")), size: host.size, stamp: host.stamp };
        Source { file: File::from(file), expected }.reads_whole(out)
    }

    fn folder(&mut self, path: &Path) -> Option<&OwnedFd> {
        match self.open.iter().rposition(|(open, _)| open == path) {
            Some(at) if at + 1 == self.open.len() => {}
            Some(at) => self.open[at..].rotate_left(1),
            None => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let folder = open_any_length(path, flags).ok()?;
                if self.open.len() == FOLDERS {
                    self.open.remove(0);
                }
                self.open.push((path.to_owned(), folder));
            }
        }
        self.open.last().map(|(_, folder)| folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_beyond_path_max_opens() {
        let top = tempfile::tempdir().unwrap();
        let name = "d".repeat(250);
        let mut path = top.path().to_owned();
        let mut at = File::open(&path).unwrap();
        // 20 x 251 bytes is past PATH_MAX, which no single call could create.
        for _ in 0..20 {
            rustix::fs::mkdirat(&at, name.as_str(), Mode::from_raw_mode(0o755)).unwrap();
            at = File::from(openat(&at, name.as_str(), OFlags::RDONLY, Mode::empty()).unwrap());
            path.push(&name);
        }
        let file = openat(&at, "leaf", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644)).unwrap();
        rustix::io::write(file, b"deep").unwrap();
        path.push("leaf");
        assert!(path.as_os_str().len() > LONGEST_PATH);
        let source = Source::open(HostFile { path: Cow::Owned(path), size: 4, stamp: None }).unwrap();
        let mut out = [0; 4];
        source.read_exact(0, &mut out).unwrap();
        assert_eq!(&out, b"deep");
    }

    #[test]
    fn a_shorter_and_a_newer_file_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, b"12345678").unwrap();
        let meta = std::fs::metadata(&path).unwrap();
        let seen = stamp(meta.mtime(), u32::try_from(meta.mtime_nsec()).unwrap());
        let host = |size| HostFile { path: Cow::Borrowed(path.as_path()), size, stamp: Some(seen) };
        let source = Source::open(host(9)).unwrap();
        let error = source.read_exact(0, &mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), Kind::Source);
        assert!(source.verify().is_err());
        assert!(Source::open(host(8)).unwrap().verify().is_ok());
        let other = HostFile { stamp: Some(seen + 1), ..host(8) };
        assert!(Source::open(other).unwrap().verify().unwrap_err().to_string().contains("newer"));
    }

    /// The directory is open already, and a change of the file is still seen.
    #[test]
    fn a_change_in_an_open_directory_is_noticed() {
        let top = tempfile::tempdir().unwrap();
        let (folder, name) = (top.path().join("folder"), OsStr::new("file"));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join(name);
        let mut folders = Folders::new();
        let changes: [fn(&Path); 7] = [
            |path| File::options().write(true).open(path).unwrap().set_len(7).unwrap(),
            |path| File::options().write(true).open(path).unwrap().set_len(9).unwrap(),
            |path| File::options().write(true).open(path).unwrap().write_all_at(b"!", 3).unwrap(),
            |path| std::fs::remove_file(path).unwrap(),
            |path| {
                std::fs::rename(path, path.with_extension("other")).unwrap();
                std::os::unix::fs::symlink("file.other", path).unwrap();
            },
            |path| {
                std::fs::write(path.with_extension("other"), b"12345678").unwrap();
                std::fs::rename(path.with_extension("other"), path).unwrap();
            },
            |path| {
                std::fs::remove_file(path).unwrap();
                rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o644), 0)
                    .unwrap();
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let _ = std::fs::remove_file(&path);
            std::fs::write(&path, b"12345678").unwrap();
            // A time long ago, so that any later change is seen even with a coarse clock.
            let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
            File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
            let host = NamedFile { folder: &folder, name, size: 8, stamp: Some(stamp(1, 0)) };
            let mut out = [0; 8];
            assert!(folders.read(&host, &mut out), "{number}");
            assert_eq!(&out, b"12345678");
            change(&path);
            assert!(!folders.read(&host, &mut out), "{number}");
        }
        assert!(
            !folders
                .read(&NamedFile { folder: Path::new("/nowhere"), name, size: 8, stamp: None }, &mut [0; 8])
        );
    }
}
