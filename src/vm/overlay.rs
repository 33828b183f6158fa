//! The files that a machine writes: made before its first start, and checked before each later one.

use std::fmt;
use std::path::{Path, PathBuf};

use super::state::Record;
use crate::container::{Container, Format, open_alone, qcow2};
use crate::convert;
use crate::disk::{Built, Work};
use crate::error::{Error, Kind, Result};
use crate::units::Bytes;

/// A file that is made before the machine starts, unless it is there.
#[derive(Debug)]
pub(super) struct Make {
    pub(super) path: PathBuf,
    pub(super) what: What,
}

/// What such a file is.
#[derive(Debug)]
pub(super) enum What {
    /// A disk with a filesystem.
    Filesystem(Box<Built>),
    /// What a machine writes over a disk that lies elsewhere.
    Overlay {
        /// The length of both.
        size: Bytes,
        /// What it records as its backing file.
        name: String,
    },
    /// An empty disk.
    Empty(Bytes),
    /// A copy of a file.
    Copy(PathBuf),
    /// A folder that only its owner enters.
    Folder,
}

/// The name by which an overlay records what it lies on. No file has it, so nothing opens the overlay that was not told what
/// is below.
pub(super) fn name(record: &Record) -> String {
    format!("unwritten-sha256-{}", record.digest)
}

/// Checks a disk that is there already: its size, and that it lies on `base`. Returns its format, `None` where there is no
/// such file.
///
/// # Errors
/// [`Kind::Usage`] for a disk of another size, or one that lies on something else.
pub(super) fn check(path: &Path, size: Bytes, base: Option<&str>) -> Result<Option<&'static str>> {
    let hint = "remove it, if nothing in it is needed, or name another file (NIX_DISK_IMAGE)";
    checked(path, size, base, hint)
}

/// As [`check`], with what may help.
fn checked(path: &Path, size: Bytes, base: Option<&str>, hint: &str) -> Result<Option<&'static str>> {
    if !path.exists() {
        return Ok(None);
    }
    let opened = open_alone(path, None)?;
    let found = opened.backing.as_deref().and_then(Path::to_str);
    if opened.backing.is_some() && found != base || base.is_some() && found.is_none() {
        let shown =
            |base: Option<&str>| base.map_or_else(|| "no other disk".to_owned(), |base| format!("`{base}`"));
        return Err(Error::new(
            Kind::Usage,
            "the disk image belongs to another machine: it lies on another disk",
        )
        .at(path)
        .expected(shown(base))
        .found(shown(opened.backing.as_deref().map(|_| found.unwrap_or("?"))))
        .hint(hint));
    }
    let own = opened.image.length();
    if own != size {
        let what = if base.is_some() && own < size {
            "the disk image is smaller than the disk that it lies on"
        } else {
            "the disk image has another size than the machine's disk"
        };
        return Err(Error::new(Kind::Usage, what)
            .at(path)
            .expected(size.in_full())
            .found(own.in_full())
            .hint(hint));
    }
    Ok(Some(opened.format.qemu_name()))
}

/// What would be made, in a line.
impl fmt::Display for Make {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", crate::text::printable_path(&self.path))?;
        match &self.what {
            What::Filesystem(built) => write!(f, "an empty filesystem of {}", built.image.length().human()),
            What::Overlay { name, .. } => write!(f, "what is written over {name}"),
            What::Empty(size) => write!(f, "an empty disk of {}", size.human()),
            What::Copy(from) => write!(f, "a copy of {}", crate::text::printable_path(from)),
            What::Folder => write!(f, "a folder for what a program keeps"),
        }
    }
}

impl Make {
    /// Makes the file, unless it is there; then it is checked.
    ///
    /// # Errors
    /// As [`Built::write`], [`convert::create`] and [`check`].
    pub(super) fn make(&self, work: &Work) -> Result<()> {
        let there = self.path.exists();
        match &self.what {
            // The plan has checked it; a copy may have become anything since.
            What::Copy(_) | What::Filesystem(_) | What::Overlay { .. } | What::Folder if there => Ok(()),
            What::Folder => folder(&self.path),
            What::Copy(from) => copy(from, &self.path),
            What::Filesystem(built) => {
                let work = Work { container: Container::of(Format::Qcow2), ..work.clone() };
                built.write(&self.path, &work)
            }
            What::Overlay { size, name } => self.create(
                *size,
                Some(qcow2::Backing { path: name.clone(), is_uri: false, format: Format::Raw.qemu_name() }),
                work,
            ),
            What::Empty(size) if there => {
                let hint = "remove it, if nothing in it is needed, give the disk its old size, or name another folder of \
                            states (--state)";
                checked(&self.path, *size, None, hint).map(|_| ())
            }
            What::Empty(size) => self.create(*size, None, work),
        }
    }

    fn create(&self, size: Bytes, backing: Option<qcow2::Backing>, work: &Work) -> Result<()> {
        let container = Container::Qcow2(qcow2::Options { backing, ..qcow2::Options::default() });
        let options = convert::Options { time: 0, sector_size: None, jobs: 1, progress: &work.progress };
        convert::create(&self.path, size, &container, &options).map(|_| ())
    }
}

/// Makes a folder for secrets.
fn folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::io(Kind::Output, "cannot make a folder for the machine", path, error))
}

/// Copies a file that may be read only to one that can be written.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from)
        .map_err(|error| Error::io(Kind::Source, "cannot read the variables of the firmware", from, error))?;
    std::fs::write(to, bytes)
        .map_err(|error| Error::io(Kind::Output, "cannot write the variables of the firmware", to, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::MIB;

    #[test]
    fn a_disk_that_is_there_has_to_fit() {
        let folder = tempfile::tempdir().unwrap();
        let work = Work::default();
        let size = Bytes::new(4 * MIB);
        let make = |file: &str, what| {
            let path = folder.path().join(file);
            Make { path: path.clone(), what }.make(&work).unwrap();
            path
        };
        let plain = make("plain", What::Empty(size));
        let over = make("over", What::Overlay { size, name: "unwritten-1".to_owned() });
        assert_eq!(check(&folder.path().join("none"), size, None).unwrap(), None);
        assert_eq!(check(&plain, size, None).unwrap(), Some("qcow2"));
        assert_eq!(check(&over, size, Some("unwritten-1")).unwrap(), Some("qcow2"));
        for (path, size, base, words) in [
            (&plain, size, Some("unwritten-1"), "lies on another disk"),
            (&over, size, Some("unwritten-2"), "found: `unwritten-1`"),
            (&over, size, None, "expected: no other disk"),
            (&plain, size + size, None, "has another size"),
            (&over, size + size, Some("unwritten-1"), "smaller than the disk that it lies on"),
        ] {
            let error = check(path, size, base).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let raw = folder.path().join("raw");
        std::fs::write(&raw, vec![0; 4 << 20]).unwrap();
        assert_eq!(check(&raw, size, None).unwrap(), Some("raw"));
        // What was made is kept.
        let before = std::fs::read(&plain).unwrap();
        let bigger = Make { path: plain.clone(), what: What::Empty(size + size) };
        let error = bigger.make(&work).unwrap_err().to_string();
        assert!(error.contains("has another size") && error.contains("--state"), "{error}");
        // That is the file of the root disk.
        assert!(!error.contains("NIX_DISK_IMAGE"), "{error}");
        assert_eq!(std::fs::read(&plain).unwrap(), before);
    }
}
