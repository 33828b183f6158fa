//! Copies files out of an image: into a folder of the host, or as a tar archive.
//!
//! A copy has the names, bytes, holes, links, modes, times and extended attributes of its original. Only root can give it
//! the owners too. What the host does not take is a warning.

mod bytes;
mod folder;
pub mod tar;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::find::Item;
use super::walk::{Step, walk_item};
use crate::error::{Error, Kind, Result, Warning};
use crate::filesystem::{Content, Inode, Meta, Node, Volume};
use crate::progress::Progress;
use crate::text::printable;
pub use bytes::Reader;
use folder::Folder;

/// Who owns a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The user who runs the program. Set-id bits are left out, since they would be for another user.
    #[default]
    Own,
    /// The owner of the original; only root can give files away.
    Preserve,
}

/// How files are copied.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Who owns the copies.
    pub owner: Owner,
    /// What was copied, and whether to stop.
    pub progress: &'a Progress,
}

/// Copies one item of a volume. If `target` is a folder, the copy gets its own name in it; the root of a volume has none,
/// and what is in it goes into the folder. If there is no `target`, the copy gets that name.
///
/// A copy under a new name appears when it is complete. Nothing that exists is replaced.
///
/// # Errors
/// [`Kind::Output`] where the host refuses, or something of that name exists; [`Kind::Format`] where the volume is damaged.
pub fn copy(volume: &dyn Volume, item: &Item, target: &Path, options: &Options<'_>) -> Result<Vec<Warning>> {
    several(volume, std::slice::from_ref(item), target, options)
}

/// Copies items of a volume, as one copy: names of one inode stay names of one, and a warning counts what all of them lack.
/// Otherwise as [`copy`]. Copies under a new name appear when all of them are complete.
///
/// # Errors
/// As [`copy`]; [`Kind::Output`] where two items have one name, [`Kind::Usage`] for several items without a folder that
/// exists.
pub(crate) fn several(
    volume: &dyn Volume,
    items: &[Item],
    target: &Path,
    options: &Options<'_>,
) -> Result<Vec<Warning>> {
    if items.len() > 1 && !target.is_dir() {
        return Err(Error::new(Kind::Usage, "several files need a folder that exists").at(target));
    }
    let mut work =
        Work { volume, options, reader: Reader::default(), links: HashMap::new(), lost: BTreeMap::new() };
    let exists = target.symlink_metadata().is_ok();
    if exists && !target.is_dir() {
        return Err(Error::new(Kind::Output, "the target exists and is no folder").at(target));
    }
    let (roots, named): (Vec<&Item>, Vec<&Item>) =
        items.iter().partition(|item| exists && item.name().is_empty());
    let place = |item: &Item| match exists {
        true => target.join(OsStr::from_bytes(item.name())),
        false => target.to_owned(),
    };
    let named: Vec<(&Item, PathBuf)> = named.into_iter().map(|item| (item, place(item))).collect();
    work.whole(&named)?;
    for item in roots {
        let mut folder = Folder::open(target)?;
        let directories = work.tree(item, b"", &mut folder)?;
        work.finish(&directories, &mut folder)?;
    }
    Ok(work.warnings())
}

/// A directory whose metadata is set after everything in it was made.
type Made = (Vec<u8>, Meta);

struct Work<'a> {
    volume: &'a dyn Volume,
    options: &'a Options<'a>,
    reader: Reader,
    /// The first copy of an inode with several names.
    links: HashMap<Inode, Vec<u8>>,
    /// What could not be kept: how often, and where first.
    lost: BTreeMap<String, (u64, Vec<u8>)>,
}

impl Work<'_> {
    /// Makes copies, each with the place where it goes, in a temporary folder beside these places, which are in one folder;
    /// and moves them there. So a path is the same in the temporary folder and where the copy goes, and hard links may lead
    /// from one copy to another.
    fn whole(&mut self, copies: &[(&Item, PathBuf)]) -> Result<()> {
        let Some((_, first)) = copies.first() else { return Ok(()) };
        let mut names = HashSet::new();
        for (_, target) in copies {
            if !names.insert(name_of(target)?) {
                return Err(Error::new(Kind::Output, "two of the files have one name").at(target));
            }
            if target.symlink_metadata().is_ok() {
                return Err(exists(target));
            }
        }
        let parent = crate::host::folder_of(first);
        // An error of tempfile has the name of what it could not make, which nobody asked for.
        let temporary = tempfile::Builder::new().prefix(".diskwright-").tempdir_in(parent);
        let temporary = temporary.map_err(|error| refused(first, error.kind().into()))?;
        let mut folder = Folder::open(temporary.path())?;
        let mut tops = Vec::new();
        for (item, target) in copies {
            let directories = self.tree(item, name_of(target)?.as_bytes(), &mut folder)?;
            // The metadata of the top is set last: a directory that may not be written to could not be moved.
            if let Some((top, below)) = directories.split_first() {
                self.finish(below, &mut folder)?;
                tops.push(top.clone());
            }
        }
        for (_, target) in copies {
            moved(&temporary.path().join(name_of(target)?), target)?;
        }
        if tops.is_empty() { Ok(()) } else { self.finish(&tops, &mut Folder::open(parent)?) }
    }

    /// Copies everything from `item` on; it gets the name `name`, and with an empty one it is the folder itself. Returns
    /// the directories, whose metadata is not set yet.
    fn tree(&mut self, item: &Item, name: &[u8], folder: &mut Folder) -> Result<Vec<Made>> {
        let mut directories = Vec::new();
        let volume = self.volume;
        walk_item(volume, item, &mut |step| {
            self.options.progress.check()?;
            let path = match (name.is_empty(), step.path.is_empty()) {
                (true, _) => step.path.to_vec(),
                (false, true) => name.to_vec(),
                (false, false) => [name, b"/", step.path].concat(),
            };
            if step.node.is_directory() {
                if !path.is_empty() {
                    folder.directory(&path)?;
                }
                directories.push((path, step.node.meta.clone()));
                return Ok(());
            }
            self.file(step, &path, folder)
        })?;
        Ok(directories)
    }

    /// Copies anything except a directory.
    fn file(&mut self, step: Step<'_>, path: &[u8], folder: &mut Folder) -> Result<()> {
        let Node { meta, content } = step.node;
        if meta.links > 1 {
            if let Some(first) = self.links.get(&step.inode) {
                return folder.link(first, path);
            }
            self.links.insert(step.inode, path.to_vec());
        }
        let made = match content {
            Content::Directory { .. } => return Err(Error::bug("a directory is copied as a file")),
            Content::File { size } => {
                let file = folder.file(path)?;
                self.reader.write(self.volume, step.inode, *size, &file, folder, self.options.progress)?;
                self.options.progress.advance(0, 1);
                true
            }
            Content::Symlink { target } => folder.symlink(path, target).map(|()| true)?,
            Content::CharacterDevice(device) => {
                folder.special(path, rustix::fs::FileType::CharacterDevice, *device)?
            }
            Content::BlockDevice(device) => {
                folder.special(path, rustix::fs::FileType::BlockDevice, *device)?
            }
            Content::Fifo => folder.special(path, rustix::fs::FileType::Fifo, (0, 0))?,
            Content::Socket => folder.special(path, rustix::fs::FileType::Socket, (0, 0))?,
        };
        if made {
            let link = matches!(content, Content::Symlink { .. });
            self.metadata(path, meta, link, folder)
        } else {
            self.links.remove(&step.inode);
            self.lose("devices, which only root can make".to_owned(), path);
            Ok(())
        }
    }

    /// Sets the metadata of directories, those below first.
    fn finish(&mut self, directories: &[Made], folder: &mut Folder) -> Result<()> {
        for (path, meta) in directories.iter().rev() {
            self.options.progress.check()?;
            self.metadata(path, meta, false, folder)?;
        }
        Ok(())
    }

    /// Owner, attributes, mode and times, in this order: a new owner clears set-id bits and capabilities.
    fn metadata(&mut self, path: &[u8], meta: &Meta, link: bool, folder: &mut Folder) -> Result<()> {
        let mut mode = meta.mode;
        if self.options.owner == Owner::Preserve {
            folder.owner(path, meta.uid, meta.gid)?;
        } else if mode & 0o6000 != 0 {
            self.lose("set-id bits, which would be for another owner".to_owned(), path);
            mode &= 0o1777;
        }
        for xattr in &meta.xattrs {
            if !folder.attribute(path, xattr)? {
                self.lose(format!("the attribute {}, which the host refuses", printable(&xattr.name)), path);
            }
        }
        if !link {
            folder.mode(path, mode)?;
        }
        folder.time(path, meta.mtime)
    }

    fn lose(&mut self, what: String, path: &[u8]) {
        self.lost.entry(what).or_insert_with(|| (0, path.to_vec())).0 += 1;
    }

    fn warnings(self) -> Vec<Warning> {
        let text = |(what, (count, path)): (String, (u64, Vec<u8>))| {
            let files = if count == 1 { "1 file lacks".to_owned() } else { format!("{count} files lack") };
            Warning(format!("{files} {what}; the first is {}", printable(&path)))
        };
        self.lost.into_iter().map(text).collect()
    }
}

/// The name of a copy.
fn name_of(target: &Path) -> Result<&OsStr> {
    target.file_name().ok_or_else(|| Error::new(Kind::Output, "the target has no name").at(target))
}

/// The error of a copy that the host refuses.
fn refused(target: &Path, error: std::io::Error) -> Error {
    Error::io(Kind::Output, "cannot make the copy", target, error)
}

/// The error of a copy whose name is taken.
fn exists(target: &Path) -> Error {
    Error::new(Kind::Output, "something of this name exists").at(target).hint("copy it elsewhere")
}

/// Moves a complete copy to its place, where nothing may be.
fn moved(from: &Path, target: &Path) -> Result<()> {
    match renameat_with(CWD, from, CWD, target, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => Err(exists(target)),
        // A filesystem that cannot refuse: what exists was looked for before.
        Err(Errno::INVAL) => std::fs::rename(from, target).map_err(|error| refused(target, error)),
        Err(error) => Err(refused(target, error.into())),
    }
}

/// The name of an item for an archive or a folder; the root of a volume has none.
pub(super) fn path_of(path: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(path)).to_owned()
}
