//! Visits a tree of a volume: each directory before what is in it, names sorted by their bytes.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::find::Item;
use crate::error::{Error, Kind, Result};
use crate::filesystem::{Content, Inode, Node, Volume};
use crate::text::printable;

/// One name of a tree.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Its path below the beginning of the walk, without a slash at its beginning; empty for the beginning itself.
    pub path: &'a [u8],
    /// Its inode.
    pub inode: Inode,
    /// Its metadata and content.
    pub node: &'a Node,
}

/// The entries of a directory, sorted by name.
///
/// # Errors
/// As [`Volume::list`], and [`Kind::Format`] for a name that leads elsewhere or is there twice.
pub(super) fn entries(volume: &dyn Volume, directory: Inode) -> Result<Vec<(Vec<u8>, Inode)>> {
    let mut found = Vec::new();
    volume.list(directory, &mut |name, inode| {
        if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.contains(&0) {
            return Err(Error::new(Kind::Format, "a name in a directory is not valid").found(printable(name)));
        }
        found.push((name.to_vec(), inode));
        Ok(())
    })?;
    found.sort();
    if let Some(pair) = found.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(
            Error::new(Kind::Format, "a directory has the same name twice").found(printable(&pair[0].0))
        );
    }
    Ok(found)
}

/// Visits everything from `top` on.
///
/// # Errors
/// As [`Volume::node`] and [`Volume::list`], with the path; any error of `each`, with the path if it is about the volume; and
/// [`Kind::Format`] for a directory that the walk meets twice.
pub fn walk(volume: &dyn Volume, top: Inode, each: &mut dyn FnMut(Step<'_>) -> Result<()>) -> Result<()> {
    from(volume, top, b"/", each)
}

/// As [`walk`], from an item on. Errors have paths from the root.
///
/// # Errors
/// As [`walk`].
pub(super) fn walk_item(
    volume: &dyn Volume,
    item: &Item,
    each: &mut dyn FnMut(Step<'_>) -> Result<()>,
) -> Result<()> {
    from(volume, item.inode, &item.path, each)
}

/// Visits everything from `top` on, whose path is `own`.
fn from(
    volume: &dyn Volume,
    top: Inode,
    own: &[u8],
    each: &mut dyn FnMut(Step<'_>) -> Result<()>,
) -> Result<()> {
    let mut places = HashSet::new();
    let mut stack = vec![(Vec::new(), top)];
    while let Some((path, inode)) = stack.pop() {
        let at = |error: Error| error.at(path_of(own, &path));
        let node = volume.node(inode).map_err(at)?;
        each(Step { path: &path, inode, node: &node }).map_err(|error| unless_placed(error, at))?;
        let Content::Directory { place } = node.content else { continue };
        if !places.insert(place) {
            return Err(at(Error::new(Kind::Format, "a directory has two names, or holds itself")));
        }
        for (name, child) in entries(volume, inode).map_err(at)?.into_iter().rev() {
            let below = if path.is_empty() { name } else { [path.as_slice(), b"/", &name].concat() };
            stack.push((below, child));
        }
    }
    Ok(())
}

/// Adds the place to an error about what is in the volume, unless it has one: of a whole tree, the file is not known without.
pub(super) fn unless_placed(error: Error, at: impl FnOnce(Error) -> Error) -> Error {
    if error.kind() == Kind::Format && !error.has_place() { at(error) } else { error }
}

/// The path of a step as an address shows it, below the path of the beginning.
fn path_of(own: &[u8], path: &[u8]) -> PathBuf {
    let own = own.strip_suffix(b"/").unwrap_or(own);
    let below = if path.is_empty() && !own.is_empty() { Vec::new() } else { [b"/", path].concat() };
    PathBuf::from(OsString::from_vec([own, &below].concat()))
}
