//! The bytes of one directory: the label or `.` and `..`, then its names in the order of the tree, each long
//! name before its short one.

use super::chain::Chains;
use super::contents::Contents;
use super::dates::Dates;
use super::format::{Attribute, entry, long_entries};
use super::names::{self, ShortName};
use crate::error::{Error, Result};
use crate::tree::NodeId;
use crate::units::narrow;

/// What all directories of a volume share.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) contents: &'a Contents<'a>,
    pub(super) chains: &'a Chains,
    pub(super) label: Option<[u8; 11]>,
    pub(super) dates: Dates,
}

impl Writer<'_> {
    /// The entries of a directory, without the zeros that follow them.
    pub(super) fn entries(&self, id: NodeId) -> Result<Vec<u8>> {
        let tree = self.contents.tree;
        let mut bytes = Vec::new();
        if id == NodeId::ROOT {
            if let Some(label) = self.label {
                bytes.extend(entry(ShortName(label), Attribute::Label, 0, 0, self.dates.of_disk()));
            }
        } else {
            let parent = tree.parent(id);
            // For its children the root is cluster 0, even if it has a chain (fatgen103, "FAT Directory
            // Structure").
            let above = if parent == NodeId::ROOT { 0 } else { self.chains.start(parent) };
            // Both have the dates of the directory itself, as with Linux (fs/fat/dir.c, fat_alloc_new_dir).
            let dates = self.dates.of(tree, id)?;
            for (name, cluster) in [(*b".          ", self.chains.start(id)), (*b"..         ", above)] {
                bytes.extend(entry(ShortName(name), Attribute::Directory, cluster, 0, dates));
            }
        }
        let children: Vec<NodeId> = tree.children(id).collect();
        let text = |child: &NodeId| {
            std::str::from_utf8(tree.name(*child)).map_err(|_| Error::bug("a name was not checked"))
        };
        let texts = children.iter().map(text).collect::<Result<Vec<_>>>()?;
        let named = names::short_names(&texts).ok_or_else(|| Error::bug("there are too few short names"))?;
        for (child, name) in children.iter().zip(named) {
            if let Some(long) = &name.long {
                bytes.extend(long_entries(long, name.short)?.iter().flatten());
            }
            let (attribute, size) = if tree.is_directory(*child) {
                (Attribute::Directory, 0)
            } else {
                (Attribute::File, self.contents.size(*child))
            };
            let size = narrow(size, "DIR_FileSize")?;
            let dates = self.dates.of(tree, *child)?;
            bytes.extend(entry(name.short, attribute, self.chains.start(*child), size, dates));
        }
        Ok(bytes)
    }
}
