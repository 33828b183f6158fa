//! How host paths are taken over into a tree.

use std::sync::Arc;

use super::Time;
use super::chmod::Chmod;
use super::scan::Exclusions;
use super::select::Selection;

/// Owner of the entry that a host directory or file becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// User 0, group 0, for sources of any owner. So root and nobody get the same image.
    #[default]
    Root,
    /// As on the host.
    Preserve,
    /// These numbers.
    Ids {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

/// How several names of one inode are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hardlinks {
    /// They stay names of one inode.
    #[default]
    Preserve,
    /// Each becomes a file of its own, so that the state of the source's links leaves no trace.
    Dissolve,
    /// Files of equal content and metadata become names of one inode, whether they were on the host or not.
    Dedupe,
}

/// How a host path is taken over.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Owner of everything below.
    pub owner: Owner,
    /// How hard links are treated.
    pub hardlinks: Hardlinks,
    /// Permissions of the top node, instead of those on the host.
    pub mode: Option<u16>,
    /// A change of the permissions of everything but symbolic links.
    pub chmod: Option<Chmod>,
    /// The time of everything, instead of those on the host.
    pub mtime: Option<Time>,
    /// Later times are set to this one.
    pub latest: Option<Time>,
    /// Whether to warn of names whose owner differs from the one on the host.
    pub tell_owners: bool,
    /// Which paths are taken over; `None` takes all.
    pub select: Option<Arc<Selection>>,
    /// Metadata as in the Nix store, whatever the host has: modes 0444 and 0555, second 1, no attributes.
    pub store: bool,
    /// Whether it is laid over what other entries brought: directories keep what the first said of them, and a file takes the
    /// place of another.
    pub merge: bool,
    /// The host paths below it that are left out.
    pub without: Arc<Exclusions>,
}
