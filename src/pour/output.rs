//! The output file: written beside its name, and under its name only when it is complete.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use rustix::io::Errno;
use tempfile::TempPath;

use crate::error::{Error, Kind, Result};
use crate::host::{kind_of, links};

/// A file that does not exist yet under its name. Dropped unpublished, it leaves nothing behind.
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
}

impl Output {
    /// Begins the file that will be `path`. A symbolic link there is followed; what it leads to is replaced, or made where
    /// it leads to nothing.
    ///
    /// # Errors
    /// [`Kind::Output`] where the folder is missing or not writable, or `path` is something other than a file.
    pub fn create(path: &Path) -> Result<Self> {
        // Before links are followed: what one in /proc leads to need not have a path.
        if let Ok(meta) = std::fs::metadata(path)
            && !meta.is_file()
        {
            return Err(Error::new(Kind::Output, "the output is not a file")
                .at(path)
                .expected("a file, or a name that is free")
                .found(kind_of(meta.file_type()))
                .hint("write the raw image to standard output and send it there"));
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
            // Only where the lack of nameless files was no reason does the second try say what the reason is.
            Err(error) => Err(Error::io(
                Kind::Output,
                "cannot write the output",
                path,
                if UNSUPPORTED.contains(&refused) { error } else { refused.into() },
            )),
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
    /// [`Kind::Output`] where the host does not have files of that length.
    pub fn set_length(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(|error| self.failed(error))
    }

    /// The error of a refused write, with what would help.
    #[must_use]
    pub fn failed(&self, error: std::io::Error) -> Error {
        refused("cannot write the output", &self.target, error)
    }

    /// Gives the file its name, replacing what stood there in one step.
    ///
    /// # Errors
    /// [`Kind::Output`] where the folder no longer lets us.
    pub fn publish(self) -> Result<()> {
        if let Temporary::Nameless = self.temporary {
            match linkat(CWD, own_path(&self.file), CWD, &self.target, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => return Ok(()),
                // linkat(2) never replaces, so the new file gets a name beside the old one and takes its place.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(self.unnamed(error)),
            }
        }
        let target = self.target.clone();
        self.named()?
            .persist(&target)
            .map_err(|error| Error::io(Kind::Output, "cannot give the output its name", &target, error.error))
    }

    /// Gives the file a temporary name beside the one that it will have; it goes with that name.
    pub(super) fn named(self) -> Result<TempPath> {
        match self.temporary {
            Temporary::Named(temporary) => Ok(temporary),
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

/// Makes something under a temporary name beside `target`.
pub(super) fn beside<T>(
    target: &Path,
    mut make: impl FnMut(&Path) -> std::io::Result<T>,
) -> std::io::Result<TempPath> {
    let folder = folder_of(target);
    let mut prefix = beginning(target);
    prefix.push(".");
    // The system's own error: that of the crate names the temporary file, which nobody asked for.
    let mut refused = None;
    let make = |path: &Path| make(path).inspect_err(|error| refused = error.raw_os_error());
    let made = tempfile::Builder::new().prefix(&prefix).suffix(".tmp").make_in(folder, make);
    match made {
        Ok(made) => Ok(made.into_temp_path()),
        Err(error) => Err(refused.map_or(error, std::io::Error::from_raw_os_error)),
    }
}

/// The folder that a file is in.
fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// The error of a refused write at `path`, with what would help.
pub(super) fn refused(what: &str, path: &Path, error: std::io::Error) -> Error {
    let hint = match error.kind() {
        std::io::ErrorKind::StorageFull => "make room there; nothing was left behind",
        std::io::ErrorKind::FileTooLarge => {
            "this filesystem, or the limit of this process (ulimit -f), has no files of that length"
        }
        _ => "nothing was left behind",
    };
    Error::io(Kind::Output, what, path, error).hint(hint)
}

/// Where the links that `path` may be lead to, whether or not something is there.
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

/// What a filesystem without nameless files says, or an old kernel (open(2), O_TMPFILE).
const UNSUPPORTED: [Errno; 3] = [Errno::OPNOTSUPP, Errno::ISDIR, Errno::INVAL];

/// A file without a name. Without /proc it could not be given its name at the end (linkat's AT_EMPTY_PATH needs a
/// privilege), so there it is none.
fn nameless_in(folder: &Path) -> Result<File, Errno> {
    if !Path::new("/proc/self/fd").is_dir() {
        return Err(Errno::OPNOTSUPP);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    open(folder, flags, Mode::from_raw_mode(0o666)).map(File::from)
}

/// The name of `target`, or of a long one so much that a number and a suffix still fit the 255 bytes of a name.
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
        // As open(2) would: the umask takes its part.
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
