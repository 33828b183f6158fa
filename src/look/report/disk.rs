//! The map of a disk: what its bytes are for, and which of them are stored.

use serde::Serialize;

use super::inventory::{Inventory, Opened, name_of, tolerate};
use crate::error::Result;
use crate::image::Slice;
use crate::inspect;
use crate::look::medium::{Medium, Part};
use crate::table::Scheme;
use crate::text::printable;
use crate::units::{Bytes, index};

/// What a range of bytes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Use {
    /// The data of files.
    Data,
    /// What a filesystem or a table needs for itself.
    Metadata,
    /// Stored, and nothing uses it.
    Free,
    /// Not stored, and not the data of a file.
    Hole,
    /// Stored, and what it is cannot be told.
    Unknown,
}

/// All uses.
pub(super) const USES: [Use; 5] = [Use::Data, Use::Metadata, Use::Free, Use::Hole, Use::Unknown];

impl Use {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Metadata => "metadata",
            Self::Free => "free",
            Self::Hole => "hole",
            Self::Unknown => "unknown",
        }
    }
}

/// Bytes that follow each other and have one use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Extent {
    /// The first one, from the start of the disk.
    pub start: u64,
    /// One past the last one.
    pub end: u64,
    /// What they are for.
    #[serde(rename = "use")]
    pub of: Use,
}

/// A part of the disk: a partition, a table, or a gap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Area {
    /// Its name: `partition 2 (root)`, `table`, `gap`.
    pub name: String,
    /// What is in it: `ext4 "nixos"`; empty for nothing that is known.
    pub content: String,
    /// Where it begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Its bytes, in their order.
    pub extents: Vec<Extent>,
}

impl Area {
    /// How many bytes have this use.
    #[must_use]
    pub fn bytes(&self, of: Use) -> u64 {
        self.extents.iter().filter(|extent| extent.of == of).map(|extent| extent.end - extent.start).sum()
    }
}

/// The parts of a disk, in their order.
pub(super) fn areas(
    medium: &Medium,
    partition: Option<&str>,
    inventory: &Inventory,
    volumes: &[Opened],
    remarks: &mut Vec<String>,
) -> Result<Vec<Area>> {
    let disk = medium.opened().image.whole();
    let mut parts = match partition {
        Some(name) => vec![medium.partition(name)?],
        None => medium.parts(),
    };
    // An extended partition is only the place of others.
    parts.retain(|part| part.partition.as_ref().is_none_or(|own| !own.kind.is_extended()));
    parts.sort_by_key(|part| part.slice.start());
    let mut areas = Vec::new();
    let (mut at, end) = (Bytes::ZERO, disk.length());
    for part in parts {
        let (start, stop) = (part.slice.start(), part.slice.end());
        if partition.is_none() && at < start {
            areas.push(gap(medium, &disk, at, start));
        }
        areas.push(area(&part, &disk, inventory, volumes, remarks)?);
        at = at.max(stop);
    }
    if partition.is_none() && at < end {
        areas.push(gap(medium, &disk, at, end));
    }
    Ok(areas)
}

/// What is between partitions: the tables of a GPT and an MBR at both ends, or nothing.
fn gap(medium: &Medium, disk: &Slice, start: Bytes, end: Bytes) -> Area {
    let gpt = medium.table().is_some_and(|table| table.scheme == Scheme::Gpt);
    let table = start == Bytes::ZERO || gpt && end == disk.length();
    let known = if table { Use::Metadata } else { Use::Unknown };
    let extents = split(disk, (start.get(), end.get()), &[], &[], known);
    let name = if table { "table" } else { "gap" };
    Area { name: name.to_owned(), content: String::new(), start: start.get(), end: end.get(), extents }
}

fn area(
    part: &Part,
    disk: &Slice,
    inventory: &Inventory,
    volumes: &[Opened],
    remarks: &mut Vec<String>,
) -> Result<Area> {
    let (start, end) = (part.slice.start().get(), part.slice.end().get());
    let place = name_of(part);
    let found = inspect::contents(&part.slice)?.unwrap_or_default();
    let (kind, label) = (found.kind, printable(found.label.as_bytes()));
    let content = if label.is_empty() { kind } else { format!("{kind} \"{label}\"") };
    let number = volumes.iter().position(|opened| opened.part.slice.start() == part.slice.start());
    let (mut data, mut free, mut rest) = (Vec::new(), Vec::new(), Use::Unknown);
    if let Some(number) = number {
        let opened = &volumes[number];
        rest = Use::Metadata;
        let in_place = data_of(inventory, number, opened, disk, &mut data);
        if let Some(in_place) = tolerate_value(in_place, &place, remarks)?
            && !in_place
        {
            // Where files are compressed or packed together, their data cannot be told from what is around.
            data = vec![(start, end)];
        }
        let told = opened.volume.free(&mut |from, to| {
            free.push((start + from.get(), start + to.get()));
            Ok(())
        });
        tolerate(told, &place, remarks)?;
    }
    data.sort_unstable();
    let extents = split(disk, (start, end), &data, &free, rest);
    Ok(Area { name: place, content, start, end, extents })
}

fn tolerate_value<T>(done: Result<T>, place: &str, remarks: &mut Vec<String>) -> Result<Option<T>> {
    let mut value = None;
    tolerate(done.map(|done| value = Some(done)), place, remarks)?;
    Ok(value)
}

/// The places of the data of all files; false if some of them are not on the disk as they are in the file.
fn data_of(
    inventory: &Inventory,
    number: usize,
    opened: &Opened,
    disk: &Slice,
    data: &mut Vec<(u64, u64)>,
) -> Result<bool> {
    let (start, block) = (opened.part.slice.start(), opened.volume.facts().block_size.max(1));
    let mut in_place = true;
    for file in inventory.files() {
        let entry = &inventory.entries[file];
        if index(entry.volume) != number || entry.own == 0 {
            continue;
        }
        let mut pieces = 0;
        let read = opened.volume.data(entry.inode, &mut |_, piece| {
            pieces += 1;
            // A journal that is read as if replayed, and compressed blocks, are images of their own.
            in_place &= piece.image().is_same(disk.image());
            // A file ends inside a block, and has all of it.
            let length = (piece.end().saturating_sub(start)).round_up(block);
            data.push((piece.start().get(), (start + length).get()));
            Ok(())
        });
        if !in_place {
            return Ok(false);
        }
        match read {
            // Encrypted files have no data that can be read.
            Err(error) if error.kind() == crate::error::Kind::Format && pieces == 0 => {}
            read => read?,
        }
    }
    Ok(true)
}

/// Splits `start..end` of the disk by use: `data` and `free` ascend, and `rest` is what is in neither.
fn split(
    disk: &Slice,
    (start, end): (u64, u64),
    data: &[(u64, u64)],
    free: &[(u64, u64)],
    rest: Use,
) -> Vec<Extent> {
    let stored: Vec<(u64, u64)> = disk
        .sub(Bytes::new(start), Bytes::new(end))
        .segments()
        .map(|segment| (start + segment.offset.get(), start + segment.end().get()))
        .collect();
    let mut extents: Vec<Extent> = Vec::new();
    let mut layers = [Layer::new(data), Layer::new(free), Layer::new(&stored)];
    let mut at = start;
    while at < end {
        let [data, free, stored] = layers.each_mut().map(|layer| layer.at(at));
        let of = match (data.0, free.0, stored.0) {
            (true, _, _) => Use::Data,
            (_, _, false) => Use::Hole,
            (_, true, true) => Use::Free,
            _ => rest,
        };
        let next = data.1.min(free.1).min(stored.1).min(end);
        match extents.last_mut() {
            Some(last) if last.of == of => last.end = next,
            _ => extents.push(Extent { start: at, end: next, of }),
        }
        at = next;
    }
    extents
}

/// Ranges that ascend, and how far they were passed.
struct Layer<'a> {
    ranges: &'a [(u64, u64)],
}

impl<'a> Layer<'a> {
    const fn new(ranges: &'a [(u64, u64)]) -> Self {
        Self { ranges }
    }

    /// Whether a range covers `at`, and up to where that does not change.
    fn at(&mut self, at: u64) -> (bool, u64) {
        while let Some((first, rest)) = self.ranges.split_first()
            && first.1 <= at
        {
            self.ranges = rest;
        }
        match self.ranges.first() {
            Some((start, end)) if *start <= at => (true, *end),
            Some((start, _)) => (false, *start),
            None => (false, u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Builder;

    #[test]
    fn every_byte_has_one_use() {
        let mut disk = Builder::new(Bytes::new(100));
        disk.bytes(Bytes::new(0), "head", vec![1; 30]);
        disk.bytes(Bytes::new(50), "tail", vec![1; 40]);
        let disk = disk.finish().unwrap().whole();
        let extents = split(&disk, (0, 100), &[(10, 20), (25, 35), (30, 40)], &[(40, 70)], Use::Metadata);
        let shown: Vec<_> = extents.iter().map(|own| (own.start, own.end, own.of)).collect();
        assert_eq!(
            shown,
            [
                (0, 10, Use::Metadata),
                (10, 20, Use::Data),
                (20, 25, Use::Metadata),
                (25, 40, Use::Data),
                (40, 50, Use::Hole),
                (50, 70, Use::Free),
                (70, 90, Use::Metadata),
                (90, 100, Use::Hole),
            ]
        );
        assert_eq!(split(&disk, (30, 50), &[], &[], Use::Unknown).len(), 1);
    }
}
