//! The dates of directory entries: one for all of them, or those of the contents.

use super::Times;
use super::format::Date;
use crate::error::{Result, Warning};
use crate::tree::{NodeId, Time, Tree};

/// Which date each entry has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dates {
    whose: Times,
    disk: Date,
}

impl Dates {
    pub(super) fn new(whose: Times, disk: Time) -> Result<Self> {
        Ok(Self { whose, disk: Date::new(disk)? })
    }

    /// The dates of what belongs to no file: the label.
    pub(super) const fn of_disk(self) -> (Date, Date) {
        (self.disk, self.disk)
    }

    /// When a file or directory was made and last written.
    pub(super) fn of(self, tree: &Tree, id: NodeId) -> Result<(Date, Date)> {
        let written = match self.whose {
            Times::Disk => self.disk,
            Times::Source => Date::new(tree.node(tree.source(id)).meta.mtime)?,
        };
        Ok((self.disk, written))
    }

    /// A warning for the times that FAT does not have. The root has no entry, so its time does not matter.
    pub(super) fn moved(self, tree: &Tree) -> Option<Warning> {
        if self.whose == Times::Disk {
            return None;
        }
        let outside =
            |id: &NodeId| *id != NodeId::ROOT && !Date::holds(tree.node(tree.source(*id)).meta.mtime);
        let mut found = tree.ids().filter(outside).peekable();
        let first = found.peek().copied()?;
        Some(Warning(format!(
            "times outside 1980 to 2107 became the nearest that FAT can hold: {} of them, first {}",
            found.count(),
            tree.path(first)
        )))
    }
}
