//! Reading a system's files where its root is not the host's: links of the system lead to paths of the system, wherever
//! the store lies on the host.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Kind, Result};
use crate::text::printable_path;
use crate::units::u64_of;

/// Where the Nix store lies in every system.
pub const STORE: &str = "/nix/store/";

/// The most links that are followed on the way to one file, as in Linux.
const MOST_LINKS: u32 = 40;

/// The largest description of a system that is read: boot.json, kernel-params and the like have a few KiB.
const LARGEST: u64 = 16 << 20;

/// Where the store lies on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
    /// The base names of the store paths that it has; `None` for all that the host has.
    members: Option<Arc<BTreeSet<String>>>,
}

impl Store {
    /// The store whose `/nix/store` lies below `root`: `/`, or the folder of a chroot store.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), members: None }
    }

    /// The same store, of which the system has only the paths with these base names.
    #[must_use]
    pub fn having(self, members: impl IntoIterator<Item = String>) -> Self {
        Self { members: Some(Arc::new(members.into_iter().collect())), ..self }
    }

    /// Where an absolute path of the system lies on this host.
    #[must_use]
    pub fn host_of(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Follows the symbolic links of a path, the last one too, as a system with this root would.
    fn resolve(&self, path: &Path) -> Result<(PathBuf, PathBuf)> {
        let mut at = PathBuf::from("/");
        let mut ahead: Vec<OsString> = Vec::new();
        push(&mut ahead, path);
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let host = self.host_of(&next);
            let meta = std::fs::symlink_metadata(&host).map_err(|error| {
                let error = Error::io(Kind::Source, "the path does not exist", &host, error);
                if links == 0 { error } else { error.why(format!("{} leads there", printable_path(path))) }
            })?;
            if !meta.is_symlink() {
                at = next;
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Error::new(Kind::Source, "too many links on the way").at(self.host_of(path)));
            }
            let target = std::fs::read_link(&host).map_err(|error| unreadable(&host, error))?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            push(&mut ahead, &target);
        }
        let host = self.host_of(&at);
        Ok((at, host))
    }
}

/// Puts the parts of `path` on the stack of what is still to be walked, the first one on top.
fn push(ahead: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    ahead.extend(parts.rev().map(|part| part.as_os_str().to_owned()));
}

/// A file or directory of the store, all links resolved.
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
    /// [`Kind::Source`] where it does not exist, cannot be read, lies outside the store or has a name that is not UTF-8.
    pub fn find(store: &Store, path: &Path) -> Result<Self> {
        let (path, host) = store.resolve(path)?;
        match path.to_str() {
            Some(text) if text.len() > STORE.len() && text.starts_with(STORE) => {
                let base_name = text[STORE.len()..].split('/').next().unwrap_or_default();
                if store.members.as_ref().is_some_and(|members| !members.contains(base_name)) {
                    return Err(Error::new(
                        Kind::Source,
                        "a file to boot from lies in a store path that is not in the closure",
                    )
                    .at(&host)
                    .expected(format!("{STORE}{base_name} among the store paths of the closure"))
                    .hint("make the closure of this system (closureInfo's rootPaths)"));
                }
                Ok(Self { path: text.to_owned(), host })
            }
            Some(_) => Err(Error::new(Kind::Source, "a file to boot from lies outside the Nix store")
                .expected(format!("a path below {STORE}"))
                .found(printable_path(&path))),
            None => {
                Err(Error::new(Kind::Source, "a path to boot from is not UTF-8").found(printable_path(&path)))
            }
        }
    }

    /// What is at `path` below this directory, links resolved. `None`: nothing is.
    ///
    /// # Errors
    /// As [`Source::find`].
    pub fn below(&self, store: &Store, path: &str) -> Result<Option<Self>> {
        let mut at = self.clone();
        // One part after another: the host would follow a link in the middle to a path of its own.
        for part in path.split('/') {
            if matches!(part, "" | "." | "..") {
                return Ok(None);
            }
            let host = at.host.join(part);
            match std::fs::symlink_metadata(&host) {
                Ok(_) => at = Self::find(store, &Path::new(&at.path).join(part))?,
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                    ) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(unreadable(&host, error)),
            }
        }
        Ok(Some(at))
    }

    /// The same file, which has to be a regular one: `what` it is for, such as "kernel".
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

    /// The name of the store object that it lies in, and what it is called in it: the last part of its path, which is
    /// the object's own name where it is the object.
    #[must_use]
    pub fn object_and_name(&self) -> (&str, &str) {
        let inside = self.path.strip_prefix(STORE).unwrap_or(&self.path);
        let object = inside.split('/').next().unwrap_or(inside);
        (object, inside.rsplit('/').next().unwrap_or(inside))
    }

    /// Its path in the store with every `/` replaced by `-`: the name nixpkgs' installers for GRUB and extlinux give to
    /// a copy.
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
