//! Writes below one folder of the host and nowhere else.
//!
//! Every directory is opened by its name in the directory above, without following links, and every file is made new. So a
//! link in the image, or one that somebody else puts there meanwhile, leads nowhere.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmod, chownat, linkat,
    lsetxattr, makedev, mkdirat, mknodat, openat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::path_of;
use crate::error::{Error, Kind, Result};
use crate::tree::{Time, Xattr};

/// How many directories stay open on the way to the one that was used last. A process may have 1024 files open by default
/// (getrlimit(2)); deeper directories are opened anew each time.
const DEPTH: usize = 64;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A folder that is written to.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    top: OwnedFd,
    /// The directories on the way to the one that was used last, by their names.
    way: Vec<(Vec<u8>, OwnedFd)>,
}

/// The directory above `path`, and its own name.
fn split(path: &[u8]) -> (&[u8], &OsStr) {
    let cut = path.iter().rposition(|byte| *byte == b'/');
    let (above, name) = cut.map_or((&[][..], path), |cut| (&path[..cut], &path[cut + 1..]));
    (above, OsStr::from_bytes(name))
}

impl Folder {
    /// Opens the folder at `path`. A link there is followed, since the user wrote it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = openat(CWD, path, flags, Mode::empty())
            .map_err(|error| Error::io(Kind::Output, "cannot open the folder of the copy", path, error))?;
        Ok(Self { path: path.to_owned(), top, way: Vec::new() })
    }

    /// The error of a refused write.
    pub(super) fn refused(&self, error: impl Into<std::io::Error>) -> Error {
        Error::io(Kind::Output, "cannot write the copy", &self.path, error)
    }

    /// The same at one path.
    fn failed(&self, path: &[u8], error: Errno) -> Error {
        let place = self.path.join(path_of(path));
        match error {
            Errno::EXIST => Error::new(Kind::Output, "something of this name exists").at(place),
            Errno::LOOP | Errno::NOTDIR => {
                Error::new(Kind::Output, "a link or a file is where the copy has a directory").at(place)
            }
            error => Error::io(Kind::Output, "cannot write the copy", place, error),
        }
    }

    /// The directory at `path`, opened.
    fn directory_of(&mut self, path: &[u8]) -> Result<Fd<'_>> {
        let names: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        let same = self.way.iter().zip(&names).take_while(|((own, _), name)| own == *name).count();
        self.way.truncate(same);
        let mut far: Option<OwnedFd> = None;
        for (depth, name) in names.iter().enumerate().skip(same) {
            let above = far.as_ref().map_or_else(|| self.last(), AsFd::as_fd);
            let opened = openat(above, OsStr::from_bytes(name), DIRECTORY, Mode::empty());
            let opened = opened.map_err(|error| self.failed(path, error))?;
            if depth < DEPTH {
                self.way.push((name.to_vec(), opened));
            } else {
                far = Some(opened);
            }
        }
        Ok(match far {
            Some(far) => Fd::Own(far),
            None => Fd::Kept(self.last()),
        })
    }

    /// The directory that was used last.
    fn last(&self) -> BorrowedFd<'_> {
        self.way.last().map_or_else(|| self.top.as_fd(), |(_, own)| own.as_fd())
    }

    /// Does something with a name in its directory.
    fn at<T>(
        &mut self,
        path: &[u8],
        work: impl FnOnce(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<T>,
    ) -> Result<T> {
        let (above, name) = split(path);
        let done = {
            let directory = self.directory_of(above)?;
            // The folder itself has no name.
            work(directory.as_fd(), if name.is_empty() { OsStr::new(".") } else { name })
        };
        done.map_err(|error| self.failed(path, error))
    }

    /// Makes a directory, which only its owner may use until its mode is set; one that exists is used.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<()> {
        self.at(path, |above, name| match mkdirat(above, name, Mode::RWXU) {
            Err(Errno::EXIST) => openat(above, name, DIRECTORY, Mode::empty()).map(drop),
            made => made,
        })
    }

    /// Makes a file.
    pub(super) fn file(&mut self, path: &[u8]) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.at(path, |above, name| openat(above, name, flags, Mode::RUSR | Mode::WUSR)).map(File::from)
    }

    /// Makes a symbolic link.
    pub(super) fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        self.at(path, |above, name| symlinkat(OsStr::from_bytes(target), above, name))
    }

    /// Makes another name of a file that was made here.
    pub(super) fn link(&mut self, first: &[u8], path: &[u8]) -> Result<()> {
        let (above, name) = split(first);
        let from = match self.directory_of(above)? {
            Fd::Own(own) => own,
            Fd::Kept(kept) => kept.try_clone_to_owned().map_err(|error| self.refused(error))?,
        };
        self.at(path, |above, other| linkat(&from, name, above, other, AtFlags::empty()))
    }

    /// Makes a device, a pipe or a socket; false where this user may not.
    pub(super) fn special(&mut self, path: &[u8], kind: FileType, device: (u32, u32)) -> Result<bool> {
        let number = makedev(device.0, device.1);
        self.at(path, |above, name| match mknodat(above, name, kind, Mode::RUSR | Mode::WUSR, number) {
            Ok(()) => Ok(true),
            Err(Errno::PERM) if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) => {
                Ok(false)
            }
            Err(error) => Err(error),
        })
    }

    /// Gives a name itself to another owner.
    pub(super) fn owner(&mut self, path: &[u8], uid: u32, gid: u32) -> Result<()> {
        // The number that stands for no change (chown(2)).
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Error::new(Kind::Format, "no file can have this owner")
                .at(path_of(path))
                .found(format!("{uid}:{gid}")));
        }
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        self.at(path, |above, name| chownat(above, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|error| error.about("owner"))
    }

    /// Sets an attribute of a name itself; false where the host refuses it.
    pub(super) fn attribute(&mut self, path: &[u8], xattr: &Xattr) -> Result<bool> {
        self.at(path, |above, name| {
            // There is no call for a name in an open directory.
            let near = Path::new("/proc/self/fd").join(above.as_raw_fd().to_string()).join(name);
            match lsetxattr(&near, OsStr::from_bytes(&xattr.name), &xattr.value, XattrFlags::empty()) {
                Ok(()) => Ok(true),
                Err(
                    Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::INVAL | Errno::TOOBIG | Errno::RANGE,
                ) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// Sets the permissions of anything except a link.
    pub(super) fn mode(&mut self, path: &[u8], mode: u16) -> Result<()> {
        let mode = Mode::from_raw_mode(mode.into());
        self.at(path, |above, name| {
            // No call before Linux 6.6 changes the mode of a name without following a link, so the name is opened without
            // reading it. A link that is opened like this has no mode.
            let own = openat(above, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            chmod(Path::new("/proc/self/fd").join(own.as_raw_fd().to_string()), mode)
        })
    }

    /// Sets the time of a name itself.
    pub(super) fn time(&mut self, path: &[u8], time: Time) -> Result<()> {
        let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
        let times = Timestamps { last_access: time, last_modification: time };
        self.at(path, |above, name| utimensat(above, name, &times, AtFlags::SYMLINK_NOFOLLOW))
    }
}

/// An open directory: one on the way, or one below.
enum Fd<'a> {
    Kept(BorrowedFd<'a>),
    Own(OwnedFd),
}

impl AsFd for Fd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Kept(kept) => *kept,
            Self::Own(own) => own.as_fd(),
        }
    }
}
