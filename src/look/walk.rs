//! Visits a tree of a volume: each directory before what is in it, names sorted by their bytes.

use std::collections::HashSet;

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
/// As [`Volume::node`] and [`Volume::list`], with the path; any error of `each`; and [`Kind::Format`] for a directory that
/// the walk meets twice.
pub fn walk(volume: &dyn Volume, top: Inode, each: &mut dyn FnMut(Step<'_>) -> Result<()>) -> Result<()> {
    let mut places = HashSet::new();
    let mut stack = vec![(Vec::new(), top)];
    while let Some((path, inode)) = stack.pop() {
        let at = |error: Error| error.at(std::path::Path::new(&*path_of(&path)));
        let node = volume.node(inode).map_err(at)?;
        each(Step { path: &path, inode, node: &node })?;
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

/// The path of a step as an address shows it.
fn path_of(path: &[u8]) -> std::borrow::Cow<'_, std::ffi::OsStr> {
    use std::os::unix::ffi::OsStrExt;
    let text = [b"/", path].concat();
    std::ffi::OsStr::from_bytes(&text).to_owned().into()
}
