//! Metadata for what other entries have brought.

use std::collections::{HashMap, HashSet};

use super::build::{Builder, parts};
use super::xattr::{after_chmod, matches};
use super::{Content, Time, Xattr, acl};
use crate::error::{Error, Kind, Result};
use crate::text::printable;
use crate::units::index;

/// What metadata is to become; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Permissions of everything but symbolic links: 0 to 0o7777.
    pub mode: Option<u16>,
    /// User and group.
    pub owner: Option<(u32, u32)>,
    /// Modification time.
    pub mtime: Option<Time>,
    /// Attributes that are added, or take the place of those of the same name.
    pub xattrs: Vec<Xattr>,
}

impl Builder {
    /// The child of a directory that has this name.
    pub(super) fn child(&self, directory: u32, name: &[u8]) -> Option<u32> {
        let position = self.find(directory, name).ok()?;
        self.children_of(directory).get(position).copied()
    }

    /// Changes the metadata of what is at `target`, where a part may hold `*`; with `below`, also of all that is below.
    ///
    /// # Errors
    /// [`Kind::Manifest`] where nothing is there, and where the target leaves its root.
    pub fn change(&mut self, target: &[u8], below: bool, change: &Change) -> Result<()> {
        let mut found = vec![0];
        for part in parts(target)? {
            found = match part.contains(&b'*') {
                true => found
                    .iter()
                    .flat_map(|above| self.children_of(*above).iter().copied())
                    .filter(|child| matches(part, self.name(*child)))
                    .collect(),
                false => found.iter().filter_map(|above| self.child(*above, part)).collect(),
            };
        }
        if found.is_empty() {
            return Err(Error::new(Kind::Manifest, "nothing is there whose metadata could change")
                .expected("another entry to bring it")
                .found(printable(target)));
        }
        let mut group_of = HashMap::new();
        for (group, names) in self.groups.iter().enumerate() {
            for name in names {
                group_of.entry(*name).or_insert(group);
            }
        }
        let mut changed = HashSet::new();
        while let Some(id) = found.pop() {
            if below {
                found.extend_from_slice(self.children_of(id));
            }
            // All names of an inode have its metadata. They change together, and once.
            match group_of.get(&id) {
                Some(group) if changed.insert(*group) => {
                    for name in self.groups[*group].clone() {
                        self.change_one(name, change);
                    }
                }
                Some(_) => {}
                None => self.change_one(id, change),
            }
        }
        Ok(())
    }

    fn change_one(&mut self, id: u32, change: &Change) {
        let node = self.drafts[index(id)].node;
        let mut meta = node.meta;
        let mut xattrs = self.xattrs.get(index(meta.xattrs)).cloned().unwrap_or_default();
        if let Some(mode) = change.mode.filter(|_| !matches!(node.content, Content::Symlink { .. })) {
            meta.mode = mode;
            xattrs = after_chmod(&xattrs, mode);
        }
        if let Some((uid, gid)) = change.owner {
            (meta.uid, meta.gid) = (uid, gid);
        }
        meta.mtime = change.mtime.unwrap_or(meta.mtime);
        xattrs.retain(|own| change.xattrs.iter().all(|new| new.name != own.name));
        // Only files and directories have attributes of users (xattr(7)).
        let has_users = matches!(
            node.content,
            Content::Directory | Content::File { .. } | Content::Text { .. } | Content::Slice { .. }
        );
        let new = change.xattrs.iter().filter(|new| has_users || !new.name.starts_with(b"user."));
        xattrs.extend(new.cloned());
        xattrs.retain(|own| acl::worth(&own.name, &own.value) != acl::Worth::Nothing);
        xattrs.sort();
        meta.xattrs = if xattrs.is_empty() { 0 } else { self.xattr_set(&xattrs) };
        self.drafts[index(id)].node.meta = meta;
    }
}
