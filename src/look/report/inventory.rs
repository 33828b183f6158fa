//! Every name of an image with its size.

use std::collections::HashMap;

use super::shown;
use crate::error::{Error, Kind, Result};
use crate::filesystem::{Content, Inode, Volume};
use crate::look::copy::Reader;
use crate::look::medium::{Medium, Part};
use crate::look::walk::walk;
use crate::progress::Progress;
use crate::text::printable;
use crate::units::{Bytes, index, narrow};

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// Anything else.
    Other,
}

/// One name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The directory that it is in; `None` for the root of a volume.
    pub parent: Option<u32>,
    /// Its name; of a root, the name of the partition.
    pub name: Box<[u8]>,
    /// The number of its volume.
    pub volume: u32,
    /// Its inode.
    pub inode: Inode,
    /// What it is.
    pub what: What,
    /// Its length.
    pub size: u64,
    /// Bytes that it occupies by itself; 0 for a further name of a file.
    pub own: u64,
    /// Bytes that it and everything below it occupy.
    pub total: u64,
    /// Names below it, and itself.
    pub names: u64,
    /// The entry with the first name of the same file, if this is a further one.
    pub first: Option<u32>,
}

/// All names, each directory before what is in it.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The names.
    pub entries: Vec<Entry>,
}

/// An open volume, and the part of the disk that it is in.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) part: Part,
    pub(super) volume: Box<dyn Volume>,
}

impl Inventory {
    /// Walks all filesystems that can be read, or that of one partition. What cannot be read is a remark.
    pub(super) fn read(
        medium: &Medium,
        partition: Option<&str>,
        remarks: &mut Vec<String>,
        progress: &Progress,
    ) -> Result<(Self, Vec<Opened>)> {
        let parts = match partition {
            Some(name) => vec![medium.partition(name)?],
            None => medium.parts(),
        };
        let (mut inventory, mut volumes) = (Self::default(), Vec::new());
        for part in parts {
            let place = name_of(&part);
            match crate::filesystem::open(&part.slice) {
                Ok(Some(volume)) => {
                    remarks.extend(volume.warnings().iter().map(|warning| format!("{place}: {warning}")));
                    let number = narrow(volumes.len(), "the number of a filesystem")?;
                    let walked = inventory.add(&*volume, number, &place, progress);
                    tolerate(walked, &place, remarks)?;
                    volumes.push(Opened { part, volume });
                }
                Ok(None) => {}
                Err(error) => tolerate(Err(error), &place, remarks)?,
            }
        }
        inventory.sum();
        Ok((inventory, volumes))
    }

    /// Adds the tree of a volume.
    fn add(&mut self, volume: &dyn Volume, number: u32, place: &str, progress: &Progress) -> Result<()> {
        // The entries of the directories from the root to where the walk is.
        let mut way: Vec<u32> = Vec::new();
        let mut known: HashMap<Inode, u32> = HashMap::new();
        walk(volume, volume.root(), &mut |step| {
            progress.check()?;
            let own: u32 = narrow(self.entries.len(), "the number of a name")?;
            let depth = match step.path {
                b"" => 0,
                path => path.iter().filter(|byte| **byte == b'/').count() + 1,
            };
            way.truncate(depth);
            let parent = way.last().copied();
            way.push(own);
            let name = step.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let (what, links) = match step.node.content {
                Content::Directory { .. } => (What::Directory, 1),
                Content::File { .. } => (What::File, step.node.meta.links),
                _ => (What::Other, step.node.meta.links),
            };
            let first = if links > 1 { known.get(&step.inode).copied() } else { None };
            if links > 1 && first.is_none() {
                known.insert(step.inode, own);
            }
            let space = volume.space(step.inode)?;
            let occupied = if first.is_some() { 0 } else { space.allocated.get() };
            self.entries.push(Entry {
                parent,
                name: if parent.is_some() { name.into() } else { place.as_bytes().into() },
                volume: number,
                inode: step.inode,
                what,
                size: if what == What::Directory { 0 } else { space.size.get() },
                own: occupied,
                total: occupied,
                names: 1,
                first,
            });
            Ok(())
        })
    }

    /// Adds the sizes of all entries to the directories that they are in.
    fn sum(&mut self) {
        for at in (0..self.entries.len()).rev() {
            let Entry { parent: Some(parent), total, names, .. } = self.entries[at] else { continue };
            let parent = &mut self.entries[index(parent)];
            parent.total = parent.total.saturating_add(total);
            parent.names += names;
        }
    }

    /// The roots of the volumes.
    pub fn tops(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.entries.len()).filter(|at| self.entries[*at].parent.is_none())
    }

    /// The regular files, each by its first name.
    pub fn files(&self) -> impl Iterator<Item = usize> + '_ {
        let entries = self.entries.iter().enumerate();
        entries.filter(|(_, own)| own.what == What::File && own.first.is_none()).map(|(at, _)| at)
    }

    /// The path of an entry: the name of the partition, a colon if there are several, and the path in it.
    #[must_use]
    pub fn path(&self, at: usize) -> Vec<u8> {
        let mut names = Vec::new();
        let mut here = &self.entries[at];
        while let Some(parent) = here.parent {
            names.push(&here.name);
            here = &self.entries[index(parent)];
        }
        let several = self.tops().nth(1).is_some();
        let mut path = if several { [&*here.name, b":"].concat() } else { Vec::new() };
        if names.is_empty() {
            path.push(b'/');
        }
        for name in names.into_iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }

    /// What is directly in each directory.
    pub(super) fn children(&self) -> Vec<Vec<u32>> {
        let mut all = vec![Vec::new(); self.entries.len()];
        for (at, entry) in (0..).zip(&self.entries) {
            if let Some(parent) = entry.parent {
                all[index(parent)].push(at);
            }
        }
        all
    }

    /// The entry at `path`, names without slashes, below a root.
    pub(super) fn find(&self, top: usize, path: &[&[u8]], children: &[Vec<u32>]) -> Option<usize> {
        path.iter().try_fold(top, |here, name| {
            children[here]
                .iter()
                .map(|child| index(*child))
                .find(|child| &*self.entries[*child].name == *name)
        })
    }
}

/// How a part of a disk is called.
pub(super) fn name_of(part: &Part) -> String {
    let Some(own) = &part.partition else { return "disk".to_owned() };
    if own.label.is_empty() {
        format!("partition {}", own.number)
    } else {
        format!("partition {} ({})", own.number, printable(own.label.as_bytes()))
    }
}

/// Damage is a remark; anything else is an error.
pub(super) fn tolerate(done: Result<()>, place: &str, remarks: &mut Vec<String>) -> Result<()> {
    match done {
        Err(error) if error.kind() == Kind::Format => {
            remarks.push(format!("{place}: {}", error.to_string().replace("\n  ", ", ")));
            Ok(())
        }
        done => done,
    }
}

/// Reads the bytes of entries, from several threads.
#[derive(Clone, Copy)]
pub(super) struct Contents<'a> {
    pub(super) inventory: &'a Inventory,
    volumes: &'a [Opened],
    pub(super) progress: &'a Progress,
}

impl<'a> Contents<'a> {
    pub(super) const fn new(inventory: &'a Inventory, volumes: &'a [Opened], progress: &'a Progress) -> Self {
        Self { inventory, volumes, progress }
    }

    /// The volume of an entry.
    pub(super) fn volume(&self, at: usize) -> Result<&'a dyn Volume> {
        let number = index(self.inventory.entries[at].volume);
        let opened = self.volumes.get(number).ok_or_else(|| Error::bug("an entry is in no volume"))?;
        Ok(&*opened.volume)
    }

    /// Passes the bytes of `from..to` of a regular file that are no holes to `each`, with their offset.
    pub(super) fn pieces(
        &self,
        at: usize,
        (from, to): (u64, u64),
        reader: &mut Reader,
        each: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let inode = self.inventory.entries[at].inode;
        let read = self.volume(at)?.data(inode, &mut |start, piece| {
            self.progress.check()?;
            let (start, end) = (start.get(), start.get() + piece.length().get());
            let (first, last) = (from.max(start), to.min(end));
            if first >= last {
                return Ok(());
            }
            let part = piece.sub(Bytes::new(first - start), Bytes::new(last - start));
            reader.pieces(&part, &mut |offset, bytes| each(first + offset, bytes))
        });
        read.map_err(|error| {
            if error.kind() == Kind::Format {
                Error::new(Kind::Format, "a file cannot be read")
                    .found(shown(self.inventory, at))
                    .because(error)
            } else {
                error
            }
        })
    }
}
