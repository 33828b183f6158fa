//! The files that a boot loader puts on a filesystem: paths with their content, sorted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::source::Source;
use crate::error::{Error, Kind, Result};
use crate::nix::Store;
use crate::text::{printable, printable_path};

/// The deepest directory that is copied whole.
const DEEPEST: u32 = 16;

/// The content at a path of a boot filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A directory.
    Directory,
    /// A file of these bytes.
    Bytes(Vec<u8>),
    /// A copy of a host file.
    Host(PathBuf),
    /// A symbolic link with this target.
    Symlink(String),
}

impl Content {
    /// A description for errors.
    fn describe(&self) -> String {
        match self {
            Self::Directory => "a directory".to_owned(),
            Self::Bytes(bytes) => format!("a written file of {} bytes", bytes.len()),
            Self::Host(path) => printable_path(path),
            Self::Symlink(to) => format!("a symbolic link to {}", printable(to.as_bytes())),
        }
    }
}

/// One path of a boot filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The content there.
    pub content: Content,
    /// Permissions: 0 to 0o7777. A FAT keeps none.
    pub mode: u16,
}

/// The files of a boot loader on one filesystem, by absolute path from the root of that filesystem.
///
/// Only directories that a loader makes itself are listed. Missing parents get mode 0755.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    entries: BTreeMap<String, File>,
}

impl Files {
    /// No files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Paths and their files, sorted by the bytes of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &File)> {
        self.entries.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The file at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&File> {
        self.entries.get(path)
    }

    /// The number of paths.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a directory of mode 0755.
    ///
    /// # Errors
    /// As [`Files::add`].
    pub fn directory(&mut self, path: impl Into<String>) -> Result<()> {
        self.add(path, Content::Directory, 0o755)
    }

    /// Adds a file of mode 0644 with these bytes.
    ///
    /// # Errors
    /// As [`Files::add`].
    pub fn bytes(&mut self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Result<()> {
        self.add(path, Content::Bytes(bytes.into()), 0o644)
    }

    /// Adds a copy of a host file, with mode 0644.
    ///
    /// # Errors
    /// As [`Files::add`].
    pub fn host(&mut self, path: impl Into<String>, source: &Path) -> Result<()> {
        self.add(path, Content::Host(source.to_owned()), 0o644)
    }

    /// Adds `content` at `path`. Adding the same again has no effect, since generations share kernels.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where `path` or a parent has another content, and where `path` is not absolute and
    /// plain.
    pub fn add(&mut self, path: impl Into<String>, content: Content, mode: u16) -> Result<()> {
        let path = path.into();
        let plain = path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
        });
        if !plain {
            return Err(Error::new(Kind::Manifest, "a path on the boot filesystem is not plain")
                .expected("an absolute path without empty parts, `.` and `..`")
                .found(printable(path.as_bytes())));
        }
        let above = path.match_indices('/').skip(1).map(|(end, _)| &path[..end]);
        for above in above {
            if let Some(file) = self.entries.get(above)
                && file.content != Content::Directory
            {
                return Err(conflict(above, &file.content, &format!("a directory, for {path}")));
            }
        }
        if content != Content::Directory
            && let Some((below, _)) = self.entries.range(format!("{path}/")..).next()
            && below.starts_with(&format!("{path}/"))
        {
            return Err(conflict(&path, &content, &format!("a directory, for {below}")));
        }
        let file = File { content, mode };
        match self.entries.get(&path) {
            Some(there) if *there == file => Ok(()),
            Some(there) => Err(conflict(&path, &there.content, &file.content.describe())),
            None => {
                self.entries.insert(path, file);
                Ok(())
            }
        }
    }

    /// Gives a file that was added other bytes.
    pub(super) fn set_bytes(&mut self, path: &str, bytes: &[u8]) {
        if let Some(file) = self.entries.get_mut(path) {
            file.content = Content::Bytes(bytes.to_vec());
        }
    }

    /// Adds a copy of a directory of the store with everything below it. Links are followed, because a FAT
    /// has none.
    ///
    /// # Errors
    /// As [`Files::add`]; [`Kind::Source`] for anything that is neither a file nor a directory, and for
    /// directories that are too deep, which happens if a link leads back up.
    pub fn tree(&mut self, store: &Store, path: &str, source: &Source) -> Result<()> {
        let mut ahead = vec![(path.to_owned(), source.clone(), 0)];
        while let Some((path, source, depth)) = ahead.pop() {
            if !source.host.is_dir() {
                self.host(path, &source.file("boot file")?.host)?;
                continue;
            }
            if depth > DEEPEST {
                return Err(Error::new(Kind::Source, "a directory of boot files is too deep")
                    .at(&source.host)
                    .expected(format!("at most {DEEPEST} levels, and no link to a directory above")));
            }
            self.directory(&path)?;
            for name in source.names()? {
                if let Some(below) = source.below(store, &name)? {
                    ahead.push((format!("{path}/{name}"), below, depth + 1));
                }
            }
        }
        Ok(())
    }

    /// Adds all of `other`. Its root becomes the directory `above`: `""` or an absolute path without a final
    /// slash.
    ///
    /// # Errors
    /// As [`Files::add`].
    pub fn merge(&mut self, above: &str, other: Self) -> Result<()> {
        other
            .entries
            .into_iter()
            .try_for_each(|(path, file)| self.add(format!("{above}{path}"), file.content, file.mode))
    }
}

fn conflict(path: &str, there: &Content, other: &str) -> Error {
    Error::new(Kind::Manifest, format!("two boot files for one path: {}", printable(path.as_bytes())))
        .found(format!("{} and {other}", there.describe()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_sorted_and_shared_and_never_two_things_at_once() {
        let mut files = Files::new();
        files.host("/EFI/nixos/b.efi", Path::new("/b")).unwrap();
        files.directory("/EFI").unwrap();
        files.host("/EFI/nixos/b.efi", Path::new("/b")).unwrap();
        files.bytes("/EFI/a", "x").unwrap();
        let paths: Vec<&str> = files.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["/EFI", "/EFI/a", "/EFI/nixos/b.efi"]);

        let error = files.host("/EFI/nixos/b.efi", Path::new("/c")).unwrap_err();
        assert_eq!(error.to_string(), "two boot files for one path: /EFI/nixos/b.efi\n  found: /b and /c");
        let error = files.bytes("/EFI/a/b", "y").unwrap_err();
        assert_eq!(
            error.to_string(),
            "two boot files for one path: /EFI/a\n  found: a written file of 1 bytes and a directory, for /EFI/a/b"
        );
        let error = files.bytes("/EFI/nixos", "y").unwrap_err();
        assert!(error.to_string().ends_with("and a directory, for /EFI/nixos/b.efi"), "{error}");
        for path in ["", "/", "EFI", "/EFI/", "/EFI//a", "/../a", "/./a", "/a\0"] {
            let error = files.bytes(path, "x").unwrap_err();
            assert_eq!(error.what(), "a path on the boot filesystem is not plain", "{path:?}");
        }
        assert_eq!(files.len(), 3);
    }

    #[test]
    fn merged_files_stand_below_a_directory() {
        let mut inner = Files::new();
        inner.bytes("/grub/grub.cfg", "x").unwrap();
        let mut outer = Files::new();
        outer.merge("/boot", inner.clone()).unwrap();
        outer.merge("", inner).unwrap();
        let paths: Vec<&str> = outer.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["/boot/grub/grub.cfg", "/grub/grub.cfg"]);
    }
}
