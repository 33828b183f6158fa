//! The owners of clusters: the root directory of FAT32, then the other directories, then the files, in
//! preorder and each in one run. So the table follows from the ends of the runs, and is rendered when it is
//! needed. Even for a volume of 2 TiB its memory only depends on the number of files.

use super::contents::Contents;
use super::format::ROOT_CLUSTER;
use super::geometry::{FatType, Geometry};
use crate::error::{Error, Result};
use crate::image::Render;
use crate::tree::NodeId;
use crate::units::{Bytes, usize_of};

/// The runs of clusters of a volume.
#[derive(Debug)]
pub(super) struct Chains {
    /// For each node its first cluster; 0 for none.
    starts: Vec<u32>,
    /// The last cluster of each run, ascending. Each run begins after the previous one.
    ends: Vec<u32>,
}

impl Chains {
    /// Assigns clusters to every directory and file. The caller has counted that there are enough.
    pub(super) fn assign(contents: &Contents<'_>, geometry: &Geometry) -> Result<Self> {
        let mut chains = Self { starts: vec![0; contents.tree.len()], ends: Vec::new() };
        let wide = geometry.fat == FatType::Fat32;
        let cluster = geometry.cluster();
        for directory in contents.directories.iter().filter(|directory| wide || directory.id != NodeId::ROOT)
        {
            chains.add(directory.id, directory.length().div_ceil(cluster).max(1))?;
        }
        for (id, length) in contents.files() {
            chains.add(id, length.div_ceil(cluster))?;
        }
        if chains.used() > geometry.clusters.get() {
            return Err(Error::bug("more clusters are used than there are"));
        }
        Ok(chains)
    }

    fn add(&mut self, id: NodeId, count: u64) -> Result<()> {
        let Some(more) = count.checked_sub(1) else { return Ok(()) };
        let start = self.next();
        let end = u64::from(start)
            .checked_add(more)
            .and_then(|end| u32::try_from(end).ok())
            .filter(|end| *end < u32::MAX)
            .ok_or_else(|| Error::bug("a cluster number does not fit its field"))?;
        self.starts[id.index()] = start;
        self.ends.push(end);
        Ok(())
    }

    /// The first free cluster, if there are enough of them.
    pub(super) fn next(&self) -> u32 {
        // Without a run no cluster is used.
        self.ends.last().map_or(ROOT_CLUSTER, |end| end + 1)
    }

    /// The first cluster of a node; 0 if it has none.
    pub(super) fn start(&self, id: NodeId) -> u32 {
        self.starts[id.index()]
    }

    /// The number of used clusters.
    pub(super) fn used(&self) -> u64 {
        u64::from(self.next() - ROOT_CLUSTER)
    }

    /// The table for these runs.
    pub(super) fn into_table(self, geometry: &Geometry) -> Table {
        Table { fat: geometry.fat, media: geometry.media, ends: self.ends }
    }
}

/// The file allocation table. Each copy is a part; all parts are equal.
#[derive(Debug)]
pub(super) struct Table {
    fat: FatType,
    media: u8,
    ends: Vec<u32>,
}

impl Table {
    /// Bytes up to the last entry that is not zero.
    pub(super) fn length(&self) -> Bytes {
        // The first two entries are marks.
        let entries = 1 + u64::from(self.ends.last().copied().unwrap_or(1));
        Bytes::new((entries * self.fat.bits()).div_ceil(8))
    }

    /// Entries from `first` on, without end: after the last run they are zero.
    fn entries(&self, first: u32) -> impl Iterator<Item = u32> + '_ {
        // The mark for the end of a chain, and for the second entry: all ones (28 of them in FAT32).
        let end = match self.fat {
            FatType::Fat12 => 0xfff,
            FatType::Fat16 => 0xffff,
            FatType::Fat32 => 0x0fff_ffff,
        };
        let mut run = self.ends.partition_point(|end| *end < first);
        (first..).map(move |cluster| match cluster {
            // The media descriptor; the other bits are ones.
            0 => end & !0xff | u32::from(self.media),
            1 => end,
            _ => {
                while self.ends.get(run).is_some_and(|last| *last < cluster) {
                    run += 1;
                }
                match self.ends.get(run) {
                    Some(last) if *last == cluster => end,
                    Some(_) => cluster + 1,
                    None => 0,
                }
            }
        })
    }
}

impl Render for Table {
    fn render(&self, _part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        // Two entries of FAT12 are three bytes, so it begins with an even one.
        let pair = self.fat.bits() / 4;
        let (first, skip) = (skip / pair * 2, usize_of(skip % pair));
        let first = u32::try_from(first).map_err(|_| Error::bug("the table ends before this"))?;
        let wanted = skip + out.len();
        let mut bytes = Vec::with_capacity(wanted + 8);
        let mut entries = self.entries(first);
        while bytes.len() < wanted
            && let (Some(one), Some(two)) = (entries.next(), entries.next())
        {
            match self.fat {
                FatType::Fat12 => bytes.extend((one | two << 12).to_le_bytes().into_iter().take(3)),
                FatType::Fat16 => {
                    bytes.extend([one, two].iter().flat_map(|entry| entry.to_le_bytes().into_iter().take(2)));
                }
                FatType::Fat32 => bytes.extend([one, two].iter().flat_map(|entry| entry.to_le_bytes())),
            }
        }
        let bytes = bytes.get(skip..wanted).ok_or_else(|| Error::bug("the table ends before this"))?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn label(&self, part: u32) -> String {
        format!("{} number {}", self.fat, u64::from(part) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::u64_of;

    /// Entries as a plain list, packed bit by bit: a second way to compute the same bytes.
    fn packed(table: &Table) -> Vec<u8> {
        let length = usize_of(table.length().get());
        let mut bits = vec![false; length * 8 + 64];
        let mut entries = vec![0xffff_ff00_u32 | u32::from(table.media), u32::MAX];
        let mut start = 2;
        for end in &table.ends {
            entries.extend(start + 1..=*end);
            entries.push(u32::MAX);
            start = end + 1;
        }
        let width = usize_of(table.fat.bits());
        for (number, entry) in entries.iter().enumerate() {
            for bit in 0..width.min(28) {
                bits[number * width + bit] = entry >> bit & 1 == 1;
            }
        }
        let byte = |chunk: &[bool]| (0..8).map(|bit| u8::from(chunk[bit]) << bit).sum();
        bits[..length * 8].chunks(8).map(byte).collect()
    }

    #[test]
    fn every_cut_of_the_table_is_the_table() {
        for fat in [FatType::Fat12, FatType::Fat16, FatType::Fat32] {
            for ends in [vec![], vec![2], vec![2, 3, 9, 10, 300, 301, 302, 900], vec![3]] {
                let table = Table { fat, media: 0xf8, ends };
                let whole = packed(&table);
                for skip in (0..whole.len()).step_by(1 + whole.len() / 97) {
                    for length in [0, 1, 2, 3, 4, 5, 7, 64, whole.len()] {
                        let end = (skip + length).min(whole.len());
                        let mut out = vec![0xd1; end - skip];
                        table.render(0, u64_of(skip), &mut out).unwrap();
                        assert_eq!(out, whole[skip..end], "{fat} {:?} {skip}..{end}", table.ends);
                    }
                }
            }
        }
    }

    #[test]
    fn behind_the_last_run_all_is_free() {
        let table = Table { fat: FatType::Fat32, media: 0xf8, ends: vec![2, 5] };
        assert_eq!(table.length(), Bytes::new(24));
        let mut out = [0xd1; 16];
        table.render(1, 20, &mut out).unwrap();
        assert_eq!(out, [0xff, 0xff, 0xff, 0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
