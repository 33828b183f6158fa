//! Paths of definitions on this host. Below a root, every link means a path of that root, and `..` never leaves it, as with
//! systemd's `chase()` and its CHASE_PREFIX_ROOT; without one the kernel follows links.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::error::{Error, Kind, Result};
use crate::host::links::Root;

/// Where `path` lies below `root`. No link is followed.
pub(super) fn below(root: Option<&Path>, path: &str) -> PathBuf {
    match root {
        Some(root) => root.join(path.trim_start_matches('/')),
        None => PathBuf::from(path),
    }
}

/// Where `path` leads to inside `root`; `None` where it leads to nothing. Without a root the path as it is.
///
/// # Errors
/// [`Kind::Source`] for what cannot be read, and for a loop of links.
pub(super) fn find(root: Option<&Path>, path: &Path) -> Result<Option<PathBuf>> {
    let Some(root) = root else { return Ok(Some(path.to_owned())) };
    match Root::new(root).find(path, Path::new("/")) {
        Ok(found) => Ok(found.map(|followed| followed.host)),
        // A link to nothing is to systemd as if it were not there.
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// As [`find`], for a path that is read later: one that leads to nothing is as it was written, so that reading it fails.
///
/// # Errors
/// As [`find`]; also where it leads to nothing inside the root, and to something of this host outside of it.
pub(super) fn settled(root: Option<&Path>, path: &str) -> Result<PathBuf> {
    if let Some(found) = find(root, Path::new(path))? {
        return Ok(found);
    }
    let written = below(root, path);
    match written.exists() {
        true => Err(missing("cannot read the source", written)),
        false => Ok(written),
    }
}

/// The error for a path that leads to nothing.
pub(super) fn missing(what: &str, path: impl AsRef<Path>) -> Error {
    Error::io(Kind::Source, what, path, Errno::NOENT)
}

fn is_missing(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|source| {
        matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_those_of_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("r");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/hostname"), "inside\n").unwrap();
        std::fs::write(folder.path().join("secret"), "").unwrap();
        for (to, name) in [
            ("/etc", "conf"),
            ("../../../../../../etc", "up"),
            ("/usr", "gone"),
            ("loop", "loop"),
            ("../secret", "hidden"),
        ] {
            symlink(to, root.join(name)).unwrap();
        }
        let find = |path: &str| super::find(Some(&root), Path::new(path));
        for path in ["/etc/hostname", "/conf/hostname", "/up/hostname", "/conf/../../up/hostname"] {
            assert_eq!(find(path).unwrap(), Some(root.join("etc/hostname")), "{path}");
        }
        for path in ["/gone", "/gone/bin", "/hidden", "/etc/none", "/etc/hostname/x"] {
            assert_eq!(find(path).unwrap(), None, "{path}");
        }
        assert!(find("/loop").unwrap_err().to_string().contains("too many symbolic links"));
        // What the host has there is not taken, and what nobody has is told where it is read.
        let error = settled(Some(&root), "/gone").unwrap_err().to_string();
        assert!(error.contains("cannot read the source: No such file or directory"), "{error}");
        assert_eq!(settled(Some(&root), "/etc/none").unwrap(), root.join("etc/none"));
        assert_eq!(settled(None, "/etc/none").unwrap(), Path::new("/etc/none"));
    }
}
