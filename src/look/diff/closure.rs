//! The store paths of a closure, as a side of a comparison.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::disk::closure as listed;
use crate::error::{Error, Kind, Result};
use crate::nix::{Closure, Nix, STORE, Store, StorePath};
use crate::progress::Progress;
use crate::text::printable_path;

/// What an operand begins with that is a closure whatever its file looks like.
const PREFIX: &[u8] = b"closure:";
/// Bytes of a file that tell whether it describes a closure: the longest first line of a list is shorter.
const HEAD: u64 = 4096;

/// The store paths of a closure.
#[derive(Clone, Debug)]
pub struct StorePaths {
    /// The place of each on this machine, and its name in the store.
    pub(super) paths: Vec<(PathBuf, OsString)>,
    /// Where the store is in a tree that has one.
    place: PathBuf,
}

impl StorePaths {
    /// The closure that `text` describes, in a store whose `nix/store` lies below `root`; `None` for what is something else.
    ///
    /// Without `closure:` in front, it is a directory as closureInfo makes it, a list of store paths, a registration, or
    /// JSON as Nix writes it. With it, it may also be a store path, whose closure nix-store knows.
    ///
    /// # Errors
    /// As [`Closure::load`] and [`Nix::closure`], and where a store path is missing on this machine.
    pub fn open(text: &Path, root: &Path, progress: &Progress) -> Result<Option<Self>> {
        let named = text.as_os_str().as_bytes().strip_prefix(PREFIX).map(OsStr::from_bytes);
        let path = named.map_or(text, Path::new);
        let described = describes(path);
        if named.is_none() && !described {
            return Ok(None);
        }
        let store = Store::new(root);
        let closure = if StorePath::split(path).is_ok() && !described {
            Nix::new("nix-store", store.clone()).closure(&[path], progress)?
        } else if path.is_dir() && !path.join("registration").exists() || is_list(path) {
            return Self::listed(path, &store).map(Some);
        } else {
            Closure::load(path)?
        };
        closure.present(&store)?;
        let own = closure.paths().map(|path| (store.host(path), path.base_name().into()));
        Ok(Some(Self { paths: own.collect(), place: STORE.into() }))
    }

    /// The closure of a list, as manifests have it: of paths anywhere, which are all in one folder.
    fn listed(path: &Path, store: &Store) -> Result<Self> {
        let (mut paths, mut place) = (Vec::new(), None);
        for own in listed(path)? {
            let (Some(folder), Some(name)) = (own.parent(), own.file_name()) else { continue };
            let known = place.get_or_insert_with(|| folder.to_owned());
            if *known != folder {
                return Err(Error::new(Kind::Usage, "the paths of a closure are not all in one folder")
                    .at(path)
                    .found(format!("{} and {}", printable_path(known), printable_path(folder))));
            }
            let host = store.host_of(&own);
            if host.symlink_metadata().is_err() {
                return Err(
                    Error::new(Kind::Source, "a store path of the closure is missing on this host").at(host)
                );
            }
            paths.push((host, name.to_owned()));
        }
        Ok(Self { paths, place: place.unwrap_or_else(|| STORE.into()) })
    }

    /// Where the store is in a tree that has one.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }
}

/// The first bytes of a file; empty for what cannot be read.
fn head(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if path.is_file() {
        // What cannot be read is told by its reader.
        let _ = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    }
    head
}

/// The first line of a text that is not empty.
fn first_line(head: &[u8]) -> &[u8] {
    head.split(|byte| *byte == b'\n').find(|line| !line.is_empty()).unwrap_or_default()
}

/// Whether a file has a path in every line; a registration has a hash behind the first one.
fn is_list(path: &Path) -> bool {
    let head = head(path);
    let mut lines = head.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.next().is_some_and(|line| line.starts_with(b"/"))
        && lines.next().is_none_or(|line| line.starts_with(b"/"))
}

/// Whether a path is that of a closure, by its name or its first bytes.
fn describes(path: &Path) -> bool {
    if path.is_dir() {
        return path.join("store-paths").is_file();
    }
    let head = head(path);
    let text = !head.contains(&0);
    let is_path = std::str::from_utf8(first_line(&head)).is_ok_and(|line| {
        line.parse::<StorePath>().is_ok() || line.starts_with('/') && Path::new(line).exists()
    });
    text && (is_path || matches!(head.trim_ascii_start(), [b'{' | b'[', ..]))
}
