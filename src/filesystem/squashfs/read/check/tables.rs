//! What no inode leads to: whole tables, fragments and sets of attributes that nobody has, and data in the same place.

use super::{Check, Tell};
use crate::error::{Error, Kind, Result};
use crate::filesystem::device::damaged;
use crate::filesystem::squashfs::format::{Fragment, Superblock};
use crate::filesystem::squashfs::read::Squashfs;
use crate::filesystem::squashfs::read::data::Stored;
use crate::filesystem::squashfs::read::metadata::Stream;
use crate::filesystem::volume::{Fault, Remark};
use crate::units::u64_of;
use crate::wire::Wire;

/// Who has a range of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// The inode with this number.
    Inode(u32),
    /// The fragment with this number.
    Fragment(u32),
}

/// Ranges of stored data, each with its first owner.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<(u64, u64, Owner)>);

impl Ranges {
    /// Adds a block. One that continues the last of the same owner is one range with it.
    pub(super) fn add(&mut self, stored: &Stored, owner: Owner) {
        let end = stored.start.saturating_add(stored.stored());
        match self.0.last_mut() {
            Some((_, last, own)) if *own == owner && *last == stored.start => *last = end,
            _ => self.0.push((stored.start, end, owner)),
        }
    }
}

/// Turns damage into a remark.
fn told<T>(result: Result<T>, subject: &str, tell: Tell<'_>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == Kind::Format => tell(Remark::of(subject, &error)).map(|()| None),
        Err(error) => Err(error),
    }
}

impl Check<'_> {
    /// Everything that inodes do not lead to.
    pub(super) fn rest(&mut self, tell: Tell<'_>) -> Result<()> {
        let volume = self.volume;
        told(volume.metadata.walk(volume.inodes), "inode table", tell)?;
        let end = told(end_of_directories(volume), "superblock", tell)?;
        let directories = Stream { end: end.unwrap_or(volume.directories.end), ..volume.directories };
        told(volume.metadata.walk(directories), "directory table", tell)?;
        for number in 0..volume.superblock.fragments {
            if !self.fragments.contains(&number) {
                told(self.fragment(number), &format!("fragment {number}"), tell)?;
            }
        }
        for number in 0..volume.superblock.no_ids {
            if told(volume.id(number), &format!("owner {number}"), tell)?.is_none() {
                break;
            }
        }
        for number in 0..volume.xattrs.map_or(0, |table| table.count) {
            if told(volume.xattrs(number), &format!("set {number} of attributes"), tell)?.is_none() {
                break;
            }
        }
        self.overlaps(tell)
    }

    /// Looks at a fragment that no file is in.
    fn fragment(&mut self, number: u32) -> Result<()> {
        let volume = self.volume;
        let Fragment { start_block, size, .. } = volume.fragment(number)?;
        let stored = Stored { start: start_block, field: size, from: 0, length: 0, whole: false };
        volume.check(&stored, volume.block)?;
        self.ranges.add(&stored, Owner::Fragment(number));
        self.data = self.data.checked_sub(stored.stored()).ok_or_else(|| {
            Error::new(Kind::Format, "fragments have the same bytes as files or as other fragments")
        })?;
        if stored.is_raw() { Ok(()) } else { volume.source.read(&stored, 0, &mut []) }
    }

    /// Data that lie over other data without being the same, or over the superblock.
    fn overlaps(&mut self, tell: Tell<'_>) -> Result<()> {
        let mut all = std::mem::take(&mut self.ranges.0);
        all.sort_unstable();
        all.dedup_by_key(|(start, end, _)| (*start, *end));
        let name = |owner: Owner| match owner {
            Owner::Inode(number) => self
                .known
                .get(&number)
                .map_or_else(|| format!("inode {number}"), |known| super::subject(&known.path)),
            Owner::Fragment(number) => format!("fragment {number}"),
        };
        let mut last: Option<(u64, Owner)> = None;
        for (start, end, owner) in all {
            if start < u64_of(Superblock::LENGTH) {
                tell(Remark::new(Fault::Shared, name(owner), "its data lie over the superblock"))?;
            }
            if let Some((before, other)) = last
                && start < before
            {
                let what = format!("its data at byte {start} lie over those of {}", name(other));
                tell(Remark::new(Fault::Shared, name(owner), what))?;
            }
            if last.is_none_or(|(before, _)| end > before) {
                last = Some((end, owner));
            }
        }
        Ok(())
    }
}

/// Where the table of directories ends: where the first table behind it begins.
fn end_of_directories(volume: &Squashfs) -> Result<u64> {
    let first = |index: Stream| -> Result<u64> {
        let mut start = [0; 8];
        volume.metadata.device.read(index.start, &mut start)?;
        Ok(u64::from_le_bytes(start))
    };
    let mut end = volume.directories.end;
    let own = [Some(volume.ids), volume.exports, Some(volume.fragments)];
    let is_there = |index: &Stream| index.start < index.end;
    for index in own.into_iter().flatten().filter(is_there) {
        let start = first(index)?;
        if start < volume.directories.start {
            return Err(damaged("a table begins before the directories").found(format!("at byte {start}")));
        }
        end = end.min(start);
    }
    Ok(end)
}
