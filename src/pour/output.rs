//! The output file: it gets its name only when it is complete.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use rustix::io::Errno;
use tempfile::TempPath;

use super::device::Device;
use crate::error::{Error, Kind, Result};
use crate::host::{folder_of, kind_of, links};
use crate::image::Image;
use crate::progress::Progress;
use crate::units::Bytes;

/// A file that does not exist under its name yet. If it is dropped before it is published, it leaves nothing
/// behind.
#[derive(Debug)]
pub struct Output {
    file: File,
    target: PathBuf,
    temporary: Temporary,
}

/// Where the unfinished bytes are.
#[derive(Debug)]
enum Temporary {
    /// Without any name (O_TMPFILE): even SIGKILL leaves nothing behind.
    Nameless,
    /// Under a name beside the target, removed on drop.
    Named(TempPath),
    /// On the device that is the target.
    Device(Device),
}

/// Whether `path` is a block device, or leads to one.
#[must_use]
pub fn is_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device())
}

impl Output {
    /// Begins the file that will be `path`. If `path` is a symbolic link, the link is followed and its target
    /// is replaced or created.
    ///
    /// # Errors
    /// [`Kind::Output`] where the folder is missing or not writable, or `path` is something other than a file.
    pub fn create(path: &Path) -> Result<Self> {
        // Before links are followed: what one in /proc leads to need not have a path.
        if let Ok(meta) = std::fs::metadata(path)
            && !meta.is_file()
        {
            let error = Error::new(Kind::Output, "the output is not a file")
                .at(path)
                .expected("a file, or a name that is free")
                .found(kind_of(meta.file_type()));
            return Err(match meta.is_dir() {
                true => error.hint("add the name that the file shall have in it"),
                false => error,
            });
        }
        let target = real_target(path)?;
        if target.file_name().is_none() || target.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Error::new(Kind::Output, "the output has no file name").at(path));
        }
        let refused = match nameless_in(folder_of(&target)) {
            Ok(file) => return Ok(Self { file, target, temporary: Temporary::Nameless }),
            Err(error) => error,
        };
        match named_beside(&target) {
            Ok(named) => {
                let (file, temporary) = named.into_parts();
                Ok(Self { file, target, temporary: Temporary::Named(temporary) })
            }
            // The first error says only that the host has no nameless files; the second one may say the real
            // reason.
            Err(error) => Err(Error::io(
                Kind::Output,
                "cannot write the output",
                path,
                if UNSUPPORTED.contains(&refused) { error } else { refused.into() },
            )),
        }
    }

    /// As [`Output::create`], or the block device `path`, which gets its bytes at once.
    ///
    /// # Errors
    /// As [`Output::create`]; [`Kind::Output`] for a device that is in use.
    pub fn open(path: &Path) -> Result<Self> {
        if !is_device(path) {
            return Self::create(path);
        }
        let target = real_target(path)?;
        let (file, device) = Device::open(&target)?;
        Ok(Self { file, target, temporary: Temporary::Device(device) })
    }

    /// Bytes of the device, and of its sectors, if it is one.
    #[must_use]
    pub const fn device(&self) -> Option<(Bytes, u64)> {
        match &self.temporary {
            Temporary::Device(device) => Some((Bytes::new(device.length()), device.sector())),
            _ => None,
        }
    }

    /// Makes a device zero where `image` has holes, and behind it. A new file is. Returns whether all of it is zero now.
    pub(super) fn clear(&self, image: &Image, progress: &Progress) -> Result<bool> {
        match &self.temporary {
            Temporary::Device(device) => {
                self.set_length(image.length().get())?;
                device.clear(image, progress).map_err(|error| self.failed(error))?
            }
            _ => Ok(true),
        }
    }

    /// The open file.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// The name it will have.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Writes all of `bytes` at byte `offset`.
    ///
    /// # Errors
    /// [`Kind::Output`] for a full disk and whatever else the host refuses.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| self.failed(error))
    }

    /// Makes the file `length` bytes long; what was not written reads as zero.
    ///
    /// # Errors
    /// [`Kind::Output`] where the host does not have files of that length, [`Kind::Capacity`] where a device is shorter.
    pub fn set_length(&self, length: u64) -> Result<()> {
        if let Some((most, _)) = self.device() {
            if length <= most.get() {
                return Ok(());
            }
            return Err(Error::new(Kind::Capacity, "the device is shorter than the disk")
                .at(&self.target)
                .expected(format!("at least {}", Bytes::new(length).in_full()))
                .found(most.in_full()));
        }
        self.file.set_len(length).map_err(|error| self.failed(error))
    }

    /// The error of a refused write, with a hint.
    #[must_use]
    pub fn failed(&self, error: std::io::Error) -> Error {
        match &self.temporary {
            Temporary::Device(device) => {
                // A device that permits no write has what it had.
                let kept = [std::io::ErrorKind::PermissionDenied, std::io::ErrorKind::ReadOnlyFilesystem];
                let gone = device.is_begun() && !kept.contains(&error.kind());
                Error::io(Kind::Output, "cannot write to the device", &self.target, error)
                    .or_hint(gone.then_some("what was on it is gone, and its first and last MiB are zero"))
            }
            _ => refused("cannot write the output", &self.target, error),
        }
    }

    /// Gives the file its name and replaces an older file in one step.
    ///
    /// # Errors
    /// [`Kind::Output`] where the folder no longer permits it.
    pub fn publish(self) -> Result<()> {
        if let Temporary::Device(device) = &self.temporary {
            return device.complete().map_err(|error| self.failed(error));
        }
        if let Temporary::Nameless = self.temporary {
            match linkat(CWD, own_path(&self.file), CWD, &self.target, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => return Ok(()),
                // linkat(2) never replaces a file, so the new file gets a temporary name and then takes the
                // place of the old one.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.unnamed(error)),
            }
        }
        let target = self.target.clone();
        self.named()?
            .persist(&target)
            .map_err(|error| Error::io(Kind::Output, "cannot give the output its name", &target, error.error))
    }

    /// Gives the file a temporary name beside its target. The file is removed when that name is dropped.
    pub(super) fn named(self) -> Result<TempPath> {
        match self.temporary {
            Temporary::Named(temporary) => Ok(temporary),
            Temporary::Device(_) => Err(alone(&self.target)),
            Temporary::Nameless => {
                let own = own_path(&self.file);
                let link = |path: &Path| Ok(linkat(CWD, &own, CWD, path, AtFlags::SYMLINK_FOLLOW)?);
                beside(&self.target, link).map_err(|error| self.unnamed(error))
            }
        }
    }

    fn unnamed(&self, error: impl Into<std::io::Error>) -> Error {
        Error::io(Kind::Output, "cannot give the output its name", &self.target, error)
    }
}

/// The error for a device that is to hold anything else than the bytes of the disk.
pub(crate) fn only_raw(path: &Path, form: impl std::fmt::Display) -> Error {
    Error::new(Kind::Usage, "a device holds only a raw disk").at(path).found(form)
}

/// The error for a device that is to be one of several outputs.
pub(crate) fn alone(path: &Path) -> Error {
    Error::new(Kind::Usage, "a device does not appear together with other outputs")
        .at(path)
        .why("it has its bytes at once, and cannot be what it was before")
        .hint("write the disk to the device alone")
}

/// Makes something under a temporary name beside `target`.
pub(super) fn beside<T>(
    target: &Path,
    mut make: impl FnMut(&Path) -> std::io::Result<T>,
) -> std::io::Result<TempPath> {
    let folder = folder_of(target);
    let mut prefix = beginning(target);
    prefix.push(".");
    // The error of the system. The crate's own error names the temporary file, which the user does not know.
    let mut refused = None;
    let make = |path: &Path| make(path).inspect_err(|error| refused = error.raw_os_error());
    let made = tempfile::Builder::new().prefix(&prefix).suffix(".tmp").make_in(folder, make);
    match made {
        Ok(made) => Ok(made.into_temp_path()),
        Err(error) => Err(refused.map_or(error, std::io::Error::from_raw_os_error)),
    }
}

/// The error of a refused write at `path`, with a hint.
pub(super) fn refused(what: &str, path: &Path, error: std::io::Error) -> Error {
    let hint = match error.kind() {
        std::io::ErrorKind::StorageFull => "free some space there; nothing was left behind",
        std::io::ErrorKind::FileTooLarge => {
            "this filesystem, or the limit of this process (ulimit -f), has no files of that length"
        }
        _ => "nothing was left behind",
    };
    Error::io(Kind::Output, what, path, error).hint(hint)
}

/// Where the links lead that `path` may consist of, even if nothing exists there.
fn real_target(path: &Path) -> Result<PathBuf> {
    if let Ok(real) = path.canonicalize() {
        return Ok(real);
    }
    match links::chain(path).last().filter(|end| !end.is_symlink()) {
        Some(end) => Ok(end),
        None => {
            Err(Error::new(Kind::Output, "the output is a symbolic link that leads in a circle").at(path))
        }
    }
}

/// The path under which the kernel shows an open file of this process.
fn own_path(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// The errors of a filesystem or kernel without nameless files (open(2), O_TMPFILE).
const UNSUPPORTED: [Errno; 3] = [Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL];

/// A file without a name. It needs /proc: otherwise it could not get a name at the end, because linkat's
/// AT_EMPTY_PATH requires a privilege.
fn nameless_in(folder: &Path) -> Result<File, Errno> {
    if !Path::new("/proc/self/fd").is_dir() {
        return Err(Errno::OPNOTSUPP);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    open(folder, flags, Mode::from_raw_mode(0o666)).map(File::from)
}

/// The name of `target`, cut so that a number and a suffix still fit in the 255 bytes of a name.
fn beginning(target: &Path) -> OsString {
    let name = target.file_name().unwrap_or_default().as_bytes();
    OsStr::from_bytes(&name[..name.len().min(200)]).to_owned()
}

/// The temporary file with a name, for hosts without O_TMPFILE.
fn named_beside(target: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let mut prefix = beginning(target);
    prefix.push(".");
    tempfile::Builder::new()
        .prefix(&prefix)
        .suffix(".tmp")
        // As open(2) would: the umask applies.
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder_of(target))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn nothing_is_left_of_an_unpublished_file_and_the_old_one_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        std::fs::write(&path, b"old").unwrap();
        let output = Output::create(&path).unwrap();
        output.file().write_all(b"new").unwrap();
        drop(output);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn publishing_replaces_in_both_ways() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        for round in 0..3 {
            let output = Output::create(&path).unwrap();
            (&mut output.file()).write_all(format!("{round}").as_bytes()).unwrap();
            output.publish().unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), format!("{round}").as_bytes());
        }
        let (file, temporary) = named_beside(&path).unwrap().into_parts();
        let output = Output { file, target: path.clone(), temporary: Temporary::Named(temporary) };
        output.publish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_temporary_name_is_free_and_its_error_is_that_of_the_system() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("disk.img");
        let mut tried = Vec::new();
        let made = beside(&target, |path| {
            tried.push(path.to_owned());
            if tried.len() < 3 { Err(Errno::EXIST.into()) } else { std::fs::write(path, "made") }
        });
        assert_eq!(std::fs::read_to_string(made.unwrap()).unwrap(), "made");
        assert!(tried[2].file_name().unwrap().to_str().unwrap().starts_with("disk.img."));
        let error = beside(&target, |_| Err::<(), _>(Errno::PERM.into())).unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::PERM));
        assert!(!error.to_string().contains("disk.img"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_followed_to_what_is_there_and_to_what_is_not() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("other")).unwrap();
        std::fs::write(at("other/old"), b"old").unwrap();
        symlink("other/old", at("to-old")).unwrap();
        symlink("other/new", at("to-new")).unwrap();
        symlink("to-new", at("to-to-new")).unwrap();
        symlink("circle", at("circle")).unwrap();
        symlink("no/where", at("to-nowhere")).unwrap();
        for (name, real) in [("to-old", "other/old"), ("to-to-new", "other/new")] {
            let output = Output::create(&at(name)).unwrap();
            (&mut output.file()).write_all(name.as_bytes()).unwrap();
            output.publish().unwrap();
            assert!(std::fs::symlink_metadata(at(name)).unwrap().is_symlink(), "{name} is still a link");
            assert_eq!(std::fs::read(at(real)).unwrap(), name.as_bytes());
        }
        for name in ["circle", "to-nowhere", "name/", "other/old/"] {
            let error = Output::create(&at(name)).unwrap_err();
            assert_eq!(error.kind(), Kind::Output, "{name}: {error}");
        }
        assert_eq!(std::fs::read_dir(at("other")).unwrap().count(), 2);
    }

    #[test]
    fn a_folder_a_device_and_a_missing_folder_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), "/dev/null".into(), folder.path().join("no/where.img")] {
            let error = Output::create(&path).unwrap_err();
            assert_eq!(error.kind(), Kind::Output, "{path:?}");
        }
    }
}
