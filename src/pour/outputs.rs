//! Several outputs that appear all or none: two disks of one system, a disk and its parts.
//!
//! Each is written beside its name ([`Output`]). Publishing first gives all of them a temporary name in their
//! folders, since that is the step that may fail. Then it exchanges each in turn with the older file. If one
//! exchange fails, those before it are undone: older files come back, and new names are removed. Only a
//! process that is killed between two exchanges (SIGKILL, a crash of the host) leaves some files old and some
//! new, and files that end in `.tmp` beside them.

use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use tempfile::TempPath;

use super::output::{Output, alone, beside};
use crate::error::{Error, Kind, Result};
use crate::text::printable_path;

/// Outputs that appear all or none. If they are dropped before they are published, they leave nothing behind.
#[derive(Debug, Default)]
pub struct Outputs {
    outputs: Vec<Output>,
    /// Their names, as [`real_name`] has them, in the same order.
    names: Vec<PathBuf>,
    /// Files that have no place beside the new ones.
    gone: Vec<PathBuf>,
}

impl Outputs {
    /// No outputs yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an output that is already written.
    ///
    /// # Errors
    /// [`Kind::Usage`] where another output has the same name.
    pub fn push(&mut self, output: Output) -> Result<()> {
        let own = real_name(output.target());
        if let Some(at) = self.names.iter().position(|other| *other == own) {
            let other = &self.outputs[at];
            let error = Error::new(Kind::Usage, "two outputs have one name").at(output.target());
            // One folder may have several names.
            let is_elsewhere = other.target() != output.target();
            return Err(if is_elsewhere { error.found(printable_path(other.target())) } else { error });
        }
        self.outputs.push(output);
        self.names.push(own);
        Ok(())
    }

    /// Removes the file `path` when the outputs get their names, unless one of them has its name.
    pub(crate) fn remove(&mut self, path: PathBuf) {
        self.gone.push(path);
    }

    /// Refuses a device among several outputs.
    ///
    /// # Errors
    /// [`Kind::Usage`] where there is one.
    pub fn check_devices(&self) -> Result<()> {
        let device = self.outputs.iter().find(|output| output.device().is_some());
        match device.filter(|_| self.outputs.len() > 1) {
            Some(device) => Err(alone(device.target())),
            None => Ok(()),
        }
    }

    /// Gives all files their names, replaces older files, and removes those that were to be removed.
    ///
    /// # Errors
    /// [`Kind::Output`] for the first one that cannot get its name, or be removed; then every name leads to the same file as
    /// before.
    pub fn publish(mut self) -> Result<()> {
        if self.outputs.len() == 1
            && self.gone.is_empty()
            && let Some(only) = self.outputs.pop()
        {
            return only.publish();
        }
        self.publish_by(&Exchange::ALL)
    }

    fn publish_by(mut self, ways: &[Exchange]) -> Result<()> {
        let outputs = std::mem::take(&mut self.outputs);
        let named = |output: Output| {
            let target = output.target().to_owned();
            output.named().map(|new| (target, new))
        };
        let staged: Vec<(PathBuf, TempPath)> = outputs.into_iter().map(named).collect::<Result<_>>()?;
        let names = std::mem::take(&mut self.names);
        self.gone.retain(|path| !names.contains(&real_name(path)));
        let mut published = Vec::with_capacity(staged.len() + self.gone.len());
        for (target, new) in staged {
            match publish(&target, new, ways) {
                Ok(old) => published.push((target, old)),
                Err(error) => return Err(take_back(published, error)),
            }
        }
        for target in self.gone {
            match set_aside(&target) {
                Ok(old) => published.push((target, Some(old))),
                Err(error) => return Err(take_back(published, error)),
            }
        }
        // The older files are removed with their temporary names.
        Ok(())
    }
}

/// A name by way of the folder that it is in, without links.
fn real_name(target: &Path) -> PathBuf {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), target.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => target.to_owned(),
    }
}

/// Takes the name of the file `target` away. Returns the file under a temporary name.
fn set_aside(target: &Path) -> Result<TempPath> {
    let failed =
        |error: std::io::Error| Error::io(Kind::Output, "cannot remove an older file", target, error);
    if !std::fs::symlink_metadata(target).map_err(failed)?.is_file() {
        return Err(Error::new(Kind::Output, "what was to be removed is no file any more").at(target));
    }
    beside(target, |path| std::fs::rename(target, path)).map_err(failed)
}

/// How a new file and an older one are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exchange {
    /// At once: renameat2(2), RENAME_EXCHANGE.
    Swap,
    /// If the filesystem has no such call: the older file gets a second name before it is replaced.
    Link,
    /// If the filesystem has no links either: the older file is renamed away first, so for a moment the name
    /// is missing.
    Move,
}

impl Exchange {
    /// The best first.
    const ALL: [Self; 3] = [Self::Swap, Self::Link, Self::Move];
}

/// The errors of a filesystem or kernel that has no such call (renameat2(2), link(2)).
const UNSUPPORTED: [Errno; 5] = [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM, Errno::MLINK];

fn failed(target: &Path, error: impl Into<std::io::Error>) -> Error {
    Error::io(Kind::Output, "cannot give the output its name", target, error)
}

/// Gives `new` the name `target`. Returns the older file, if there was one, under a temporary name.
fn publish(target: &Path, new: TempPath, ways: &[Exchange]) -> Result<Option<TempPath>> {
    match std::fs::symlink_metadata(target) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => {
            return Err(
                Error::new(Kind::Output, "something that is no file took the output's name").at(target)
            );
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return new.persist_noclobber(target).map(|()| None).map_err(|error| failed(target, error.error));
        }
        Err(error) => return Err(failed(target, error)),
    }
    let mut new = new;
    let mut refused = Errno::OPNOTSUPP;
    for way in ways {
        match exchange(target, new, *way) {
            Ok(old) => return Ok(Some(old)),
            Err((error, back)) if UNSUPPORTED.contains(&error) => (refused, new) = (error, back),
            Err((error, _)) => return Err(failed(target, error)),
        }
    }
    Err(failed(target, refused))
}

/// Replaces the file `target` by `new` and returns the old file under a temporary name. If that fails, it
/// returns `new`.
fn exchange(target: &Path, new: TempPath, way: Exchange) -> Result<TempPath, (Errno, TempPath)> {
    let errno = |error: &std::io::Error| Errno::from_io_error(error).unwrap_or(Errno::IO);
    let moved = match way {
        Exchange::Swap => {
            return match renameat_with(CWD, &*new, CWD, target, RenameFlags::EXCHANGE) {
                Ok(()) => Ok(new),
                Err(error) => Err((error, new)),
            };
        }
        Exchange::Link => beside(target, |path| std::fs::hard_link(target, path)),
        Exchange::Move => beside(target, |path| std::fs::rename(target, path)),
    };
    let old = match moved {
        Ok(old) => old,
        Err(error) => return Err((errno(&error), new)),
    };
    match new.persist(target) {
        Ok(()) => Ok(old),
        Err(error) => {
            // If the old file has two names, putting it back removes one of them, or does nothing
            // (rename(2)).
            let _ = old.persist(target);
            Err((errno(&error.error), error.path))
        }
    }
}

/// Puts the older files back, the last one first, because of `error`.
fn take_back(published: Vec<(PathBuf, Option<TempPath>)>, error: Error) -> Error {
    let mut kept = Vec::new();
    for (target, old) in published.into_iter().rev() {
        let Some(old) = old else {
            if std::fs::remove_file(&target).is_err() {
                kept.push(format!("{} is new", crate::text::printable_path(&target)));
            }
            continue;
        };
        if let Err(error) = old.persist(&target)
            && let Ok(path) = error.path.keep()
        {
            let [old, new] = [&path, &target].map(crate::text::printable_path);
            kept.push(format!("what was {new} is now {old}"));
        }
    }
    match kept.is_empty() {
        true => error.hint("no output was replaced, and nothing was left behind"),
        false => error.hint(format!("could not be taken back: {}", kept.join("; "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// The files in a folder: names and contents.
    fn listing(folder: &Path) -> Vec<(String, String)> {
        let mut found: Vec<(String, String)> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read_to_string(entry.path()).unwrap_or_else(|_| "a folder".to_owned()))
            })
            .collect();
        found.sort();
        found
    }

    fn pair(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    fn outputs(folder: &Path, names: &[&str]) -> Outputs {
        let mut outputs = Outputs::new();
        for name in names {
            let output = Output::create(&folder.join(name)).unwrap();
            output.write_at(format!("new {name}").as_bytes(), 0).unwrap();
            outputs.push(output).unwrap();
        }
        outputs
    }

    /// Every way alone, and all of them.
    const WAYS: [&[Exchange]; 4] = [&[Exchange::Swap], &[Exchange::Link], &[Exchange::Move], &Exchange::ALL];

    #[test]
    fn all_appear_and_older_files_are_gone() {
        for ways in WAYS {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("b"), "old b").unwrap();
            outputs(folder.path(), &["a", "b", "c"]).publish_by(ways).unwrap();
            let expected = [pair("a", "new a"), pair("b", "new b"), pair("c", "new c")];
            assert_eq!(listing(folder.path()), expected, "{ways:?}");
        }
    }

    #[test]
    fn where_the_last_fails_all_older_files_are_back() {
        for ways in WAYS {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            std::fs::write(at("b"), "old b").unwrap();
            std::fs::write(at("d"), "old d").unwrap();
            let inode = std::fs::metadata(at("b")).unwrap().ino();
            let outputs = outputs(folder.path(), &["a", "b", "c", "d"]);
            // A folder takes the name of the last output.
            std::fs::remove_file(at("d")).unwrap();
            std::fs::create_dir(at("d")).unwrap();
            let error = outputs.publish_by(ways).unwrap_err();
            assert_eq!((error.kind(), error.path()), (Kind::Output, Some(at("d").as_path())));
            assert!(error.to_string().contains("no output was replaced"), "{error}");
            assert_eq!(listing(folder.path()), [pair("b", "old b"), pair("d", "a folder")], "{ways:?}");
            assert_eq!(std::fs::metadata(at("b")).unwrap().ino(), inode, "it is the same file");
        }
    }

    #[test]
    fn what_has_no_place_beside_new_files_goes_with_them_or_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["a", "b", "c"] {
            std::fs::write(at(name), format!("old {name}")).unwrap();
        }
        let inode = std::fs::metadata(at("b")).unwrap().ino();
        let without = |names: &[&str]| {
            let mut outputs = outputs(folder.path(), &["a"]);
            names.iter().for_each(|name| outputs.remove(at(name)));
            outputs
        };
        // Something else than a file is never removed, and then nothing is.
        std::fs::create_dir(at("d")).unwrap();
        let error = without(&["b", "d"]).publish().unwrap_err();
        assert_eq!((error.kind(), error.path()), (Kind::Output, Some(at("d").as_path())));
        let old = [pair("a", "old a"), pair("b", "old b"), pair("c", "old c"), pair("d", "a folder")];
        assert_eq!(listing(folder.path()), old);
        assert_eq!(std::fs::metadata(at("b")).unwrap().ino(), inode, "it is the same file");
        // What is an output itself stays.
        without(&["a", "b"]).publish().unwrap();
        let new = [pair("a", "new a"), pair("c", "old c"), pair("d", "a folder")];
        assert_eq!(listing(folder.path()), new);
    }

    #[test]
    fn where_a_folder_is_gone_nothing_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "old a").unwrap();
        std::fs::create_dir(folder.path().join("below")).unwrap();
        for order in [["a", "below/b"], ["below/b", "a"]] {
            std::fs::create_dir_all(folder.path().join("below")).unwrap();
            let outputs = outputs(folder.path(), &order);
            std::fs::remove_dir_all(folder.path().join("below")).unwrap();
            let error = outputs.publish().unwrap_err();
            assert_eq!(error.kind(), Kind::Output);
            assert_eq!(listing(folder.path()), [pair("a", "old a")]);
        }
    }

    #[test]
    fn dropped_outputs_leave_nothing_and_two_of_one_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut two = outputs(folder.path(), &["a", "b"]);
        std::os::unix::fs::symlink("a", folder.path().join("link")).unwrap();
        let error = two.push(Output::create(&folder.path().join("link")).unwrap()).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        drop(two);
        std::fs::remove_file(folder.path().join("link")).unwrap();
        assert!(listing(folder.path()).is_empty());
    }

    #[test]
    fn what_no_way_can_do_is_told_and_what_cannot_be_taken_back_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a"), "old a").unwrap();
        let error = outputs(folder.path(), &["a"]).publish_by(&[]).unwrap_err();
        assert_eq!(error.path(), Some(at("a").as_path()));
        assert_eq!(listing(folder.path()), [pair("a", "old a")]);

        // A folder stands where the older file must go back to, and where a new one must be removed.
        let old = beside(&at("b"), |path| std::fs::write(path, "old b")).unwrap();
        let kept = old.to_path_buf();
        std::fs::create_dir(at("b")).unwrap();
        std::fs::create_dir(at("c")).unwrap();
        let published = vec![(at("b"), Some(old)), (at("c"), None)];
        let error = take_back(published, Error::new(Kind::Output, "the cause")).to_string();
        assert!(error.contains(kept.to_str().unwrap()) && error.contains("c is new"), "{error}");
        assert_eq!(std::fs::read_to_string(kept).unwrap(), "old b");
    }
}
