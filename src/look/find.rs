//! Follows a path in a volume, through the symbolic links in it. No path leaves its volume.

use std::collections::VecDeque;

use crate::error::{Error, Kind, Result};
use crate::filesystem::{Content, Inode, Node, Volume};
use crate::text::printable;

/// Symbolic links that one path may go through (MAXSYMLINKS, linux/namei.h).
const MOST_LINKS: u32 = 40;

/// Something in a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its path from the root, without links, `.` and `..`; the root is `/`.
    pub path: Vec<u8>,
    /// Its inode.
    pub inode: Inode,
    /// Its metadata and content.
    pub node: Node,
}

impl Item {
    /// The last part of its path; empty for the root.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
    }

    /// Whether it is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        self.node.is_directory()
    }
}

/// What becomes of a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// It is followed.
    Followed,
    /// It is the result.
    Kept,
}

/// What `path` leads to; `None` if there is nothing. Links lead to places in the same volume, and `..` of the root is the
/// root.
///
/// # Errors
/// [`Kind::Source`] for a path through something that is no directory, and for one through more than 40 links;
/// [`Kind::Format`] where the volume is damaged.
pub fn find(volume: &dyn Volume, path: &[u8], last: Last) -> Result<Option<Item>> {
    let parts = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut rest: VecDeque<Vec<u8>> = parts(path).into();
    let mut way: Vec<(Vec<u8>, Inode)> = Vec::new();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        // A slash at the end wants a directory.
        let here = way.last().map_or_else(|| volume.root(), |(_, inode)| *inode);
        if !volume.node(here)?.is_directory() {
            return Err(Error::new(Kind::Source, "a part of the path is no directory").found(shown(&way)));
        }
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                way.pop();
                continue;
            }
            _ => {}
        }
        let Some(inode) = volume.lookup(here, &name)? else { return Ok(None) };
        match volume.node(inode)?.content {
            Content::Symlink { target } if !rest.is_empty() || last == Last::Followed => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Error::new(Kind::Source, "a path goes through too many symbolic links")
                        .expected(format!("at most {MOST_LINKS}"))
                        .found(printable(path)));
                }
                if target.starts_with(b"/") {
                    way.clear();
                }
                for part in parts(&target).into_iter().rev() {
                    rest.push_front(part);
                }
            }
            _ => way.push((name, inode)),
        }
    }
    let inode = way.last().map_or_else(|| volume.root(), |(_, inode)| *inode);
    Ok(Some(Item { path: joined(&way), inode, node: volume.node(inode)? }))
}

/// The path of a way from the root.
fn joined(way: &[(Vec<u8>, Inode)]) -> Vec<u8> {
    if way.is_empty() {
        return b"/".to_vec();
    }
    way.iter().flat_map(|(name, _)| [b"/", name.as_slice()].concat()).collect()
}

fn shown(way: &[(Vec<u8>, Inode)]) -> String {
    printable(&joined(way))
}
