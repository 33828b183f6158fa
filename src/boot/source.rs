//! The files that boot a system, whose root is not the root of the host.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::nix::{Resolved, Store};
use crate::text::printable_path;
use crate::units::u64_of;

/// The beginning of the path of every file in a store.
pub const STORE: &str = "/nix/store/";

/// The largest description of a system that is read. boot.json, kernel-params and similar files have a few
/// KiB.
const LARGEST: u64 = 16 << 20;

/// A file or directory of the store, with all links resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Its path in the system, below `/nix/store/`.
    pub path: String,
    /// Where it lies on the host.
    pub host: PathBuf,
}

impl Source {
    /// The file or directory at `path` of the system.
    ///
    /// # Errors
    /// [`Kind::Source`] where it does not exist, cannot be read, lies outside the store or in a store path
    /// that the system does not have, or has a name that is not UTF-8.
    pub fn find(store: &Store, path: &Path) -> Result<Self> {
        let found = store.resolve(path).map_err(|error| error.with_kind(Kind::Source))?;
        Self::of(found, &store.host_of(path))
    }

    /// A path of the store that was found from the host file `from`.
    fn of(found: Resolved, from: &Path) -> Result<Self> {
        match found.path.into_os_string().into_string() {
            Ok(path) => Ok(Self { path, host: found.host }),
            Err(path) => Err(Error::new(Kind::Source, "a path to boot from is not UTF-8")
                .at(from)
                .found(printable_path(path))),
        }
    }

    /// The file at `path` below this directory, with links resolved. `None` if nothing exists there.
    ///
    /// # Errors
    /// As [`Source::find`].
    pub fn below(&self, store: &Store, path: &str) -> Result<Option<Self>> {
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Ok(None);
        }
        let found = store.find(&Path::new(&self.path).join(path))?;
        found.map(|found| Self::of(found, &self.host)).transpose()
    }

    /// The same file, if it is a regular one. `what` says what it is for, such as "kernel".
    ///
    /// # Errors
    /// [`Kind::Source`] for anything else.
    pub fn file(self, what: &str) -> Result<Self> {
        if self.host.is_file() {
            return Ok(self);
        }
        Err(Error::new(Kind::Source, format!("the {what} is not a file")).at(&self.host))
    }

    /// The names in this directory, sorted.
    ///
    /// # Errors
    /// [`Kind::Source`] where it cannot be read or a name is not UTF-8.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.host).map_err(|error| unreadable(&self.host, error))? {
            let name = entry.map_err(|error| unreadable(&self.host, error))?.file_name();
            match name.to_str() {
                Some(name) => names.push(name.to_owned()),
                None => {
                    return Err(Error::new(Kind::Source, "a path to boot from is not UTF-8")
                        .found(printable_path(Path::new(&self.path).join(&name))));
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// The text in this file.
    ///
    /// # Errors
    /// [`Kind::Source`] where it cannot be read, is not UTF-8 or larger than 16 MiB.
    pub fn text(&self) -> Result<String> {
        let file = std::fs::File::open(&self.host).map_err(|error| unreadable(&self.host, error))?;
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(&self.host, error))?;
        if u64_of(bytes.len()) > LARGEST {
            return Err(Error::new(Kind::Source, "a description of a system is too large")
                .at(&self.host)
                .expected("at most 16 MiB"));
        }
        String::from_utf8(bytes).map_err(|error| {
            let offset = u64_of(error.utf8_error().valid_up_to());
            Error::new(Kind::Source, "a description of a system is not UTF-8 text")
                .at_offset(&self.host, offset)
        })
    }

    /// The name of the store object that contains it, and its own name: the last part of its path, which is
    /// the name of the object if it is the object itself.
    #[must_use]
    pub fn object_and_name(&self) -> (&str, &str) {
        let inside = self.path.strip_prefix(STORE).unwrap_or(&self.path);
        let object = inside.split('/').next().unwrap_or(inside);
        (object, inside.rsplit('/').next().unwrap_or(inside))
    }

    /// Its path in the store with every `/` replaced by `-`: the name of a copy by nixpkgs' installers for
    /// GRUB and extlinux.
    #[must_use]
    pub fn dashed(&self) -> String {
        self.path.strip_prefix(STORE).unwrap_or(&self.path).replace('/', "-")
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    Error::io(Kind::Source, "cannot read a part of the system", path, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::os::unix::fs::symlink;

    const A: &str = "00bgd045z0d4icpbc2yyz4gx48ak44la-a";

    /// A root with one store object, which holds `bin/x`.
    fn root() -> (tempfile::TempDir, Store, Source) {
        let root = tempfile::tempdir().unwrap();
        let object = root.path().join("nix/store").join(A);
        std::fs::create_dir_all(object.join("bin")).unwrap();
        std::fs::write(object.join("bin/x"), "text\n").unwrap();
        let store = Store::new(root.path());
        let source = Source::find(&store, &Path::new(STORE).join(A)).unwrap();
        (root, store, source)
    }

    #[test]
    fn links_lead_within_the_foreign_root() {
        let (_root, store, object) = root();
        symlink(format!("{STORE}{A}/bin"), object.host.join("absolute")).unwrap();
        symlink("../../store/./".to_owned() + A, object.host.join("relative")).unwrap();
        let file = object.below(&store, "absolute/x").unwrap().unwrap();
        assert_eq!(file.path, format!("{STORE}{A}/bin/x"));
        assert_eq!((file.text().unwrap().as_str(), file.dashed()), ("text\n", format!("{A}-bin-x")));
        assert_eq!(file.object_and_name(), (A, "x"));
        let same = object.below(&store, "relative").unwrap().unwrap();
        assert_eq!((same.object_and_name(), &same), ((A, A), &object));
        for path in ["nothing", "bin/x/y", "bin/../bin", "", "bin/"] {
            assert_eq!(object.below(&store, path).unwrap(), None, "{path}");
        }
        assert_eq!(object.names().unwrap(), ["absolute", "bin", "relative"]);
    }

    #[test]
    fn what_cannot_be_booted_from_is_refused() {
        let (root, store, object) = root();
        std::fs::write(root.path().join("secret"), "").unwrap();
        for (name, target) in
            [("out", "/secret"), ("nowhere", "bin/y"), ("itself", "itself"), ("store", "/nix/store")]
        {
            symlink(target, object.host.join(name)).unwrap();
            assert_eq!(object.below(&store, name).unwrap_err().kind(), Kind::Source, "{name}");
        }
        let error = object.clone().file("kernel").unwrap_err();
        assert_eq!(error.what(), "the kernel is not a file");
        std::fs::write(object.host.join("bytes"), b"ab\xff").unwrap();
        let error = object.below(&store, "bytes").unwrap().unwrap().text().unwrap_err();
        assert!(
            error.to_string().contains("not UTF-8 text\n  at ") && error.to_string().ends_with(", byte 2"),
            "{error}"
        );
        std::fs::File::create(object.host.join("huge")).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(object.below(&store, "huge").unwrap().unwrap().text().is_err());
        std::fs::write(object.host.join(OsString::from_vec(b"\xff".to_vec())), "").unwrap();
        assert_eq!(object.names().unwrap_err().what(), "a path to boot from is not UTF-8");
    }
}
