//! The file allocation table: its entries, chains, and free clusters.

use super::layout::{FIRST, Layout};
use crate::error::Result;
use crate::filesystem::device::{Device, damaged};
use crate::filesystem::fat::FatType;
use crate::units::{u64_of, usize_of};

/// The meaning of a cluster's entry in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// The cluster is free.
    Free,
    /// The chain continues with that cluster.
    Next(u32),
    /// The chain ends here.
    End,
    /// The cluster must not be used.
    Bad,
    /// A number without a meaning.
    Wrong(u32),
}

impl Link {
    /// The meaning of the number in an entry.
    pub(crate) fn of(layout: &Layout, value: u32) -> Self {
        let (bad, end) = match layout.fat {
            FatType::Fat12 => (0xff7, 0xff8),
            FatType::Fat16 => (0xfff7, 0xfff8),
            FatType::Fat32 => (0x0fff_fff7, 0x0fff_fff8),
        };
        match value {
            0 => Self::Free,
            _ if layout.at(value).is_some() => Self::Next(value),
            _ if value == bad => Self::Bad,
            _ if value >= end => Self::End,
            _ => Self::Wrong(value),
        }
    }
}

/// One of the tables of a volume.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table<'a> {
    layout: &'a Layout,
    device: &'a Device,
    /// Where it begins.
    start: u64,
}

impl<'a> Table<'a> {
    /// Table number `copy`.
    pub(super) fn new(layout: &'a Layout, device: &'a Device, copy: u64) -> Self {
        Self { layout, device, start: layout.table + copy * layout.table_length }
    }

    /// The number in the entry of `cluster`, without the four upper bits of FAT32.
    pub(crate) fn value(&self, cluster: u32) -> Result<u32> {
        let bits = u64::from(cluster) * self.layout.fat.bits();
        // Each entry lies within four bytes, or at the end of the table within two.
        let offset = bits / 8;
        let length = if self.layout.fat == FatType::Fat32 { 4 } else { 2 };
        if offset + length > self.layout.table_length {
            return Err(damaged("a file allocation table is too short for its clusters"));
        }
        let mut bytes = [0; 4];
        self.device.read(self.start + offset, &mut bytes[..usize_of(length)])?;
        Ok(entry(self.layout.fat, bytes, !bits.is_multiple_of(8)))
    }

    /// The meaning of the entry of `cluster`.
    pub(crate) fn link(&self, cluster: u32) -> Result<Link> {
        Ok(Link::of(self.layout, self.value(cluster)?))
    }

    /// Passes the numbers of clusters to `each`, with their entries. Where the table is a hole, it passes
    /// nothing: all those clusters are free.
    pub(crate) fn used(&self, each: &mut dyn FnMut(u32, u32) -> Result<()>) -> Result<()> {
        /// Bytes read at a time: whole entries of every width.
        const PIECE: u64 = 3 << 14;
        let needed = self.layout.needed().min(self.layout.table_length);
        let mut bytes = Vec::new();
        let mut at = 0;
        while at < needed {
            let length = PIECE.min(needed - at);
            if !self.device.is_hole(self.start + at, length) {
                // The buffer has one byte more than the last entry of FAT12 may need.
                bytes.clear();
                bytes.resize(usize_of(length) + 1, 0);
                self.device.read(self.start + at, &mut bytes[..usize_of(length)])?;
                self.entries(at, &bytes, each)?;
            }
            at += PIECE;
        }
        Ok(())
    }

    /// The entries in `bytes`, which begin at byte `at` of the table.
    fn entries(&self, at: u64, bytes: &[u8], each: &mut dyn FnMut(u32, u32) -> Result<()>) -> Result<()> {
        let bits = self.layout.fat.bits();
        let length = u64_of(bytes.len() - 1);
        let first = at * 8 / bits;
        for number in first..(at + length) * 8 / bits {
            let Some(cluster) = u32::try_from(number).ok().filter(|number| self.layout.at(*number).is_some())
            else {
                continue;
            };
            let place = (number - first) * bits;
            let from = usize_of(place / 8);
            let mut raw = [0; 4];
            for (to, byte) in raw.iter_mut().zip(&bytes[from..]) {
                *to = *byte;
            }
            let value = entry(self.layout.fat, raw, !place.is_multiple_of(8));
            if value != 0 {
                each(cluster, value)?;
            }
        }
        Ok(())
    }

    /// The number of free clusters.
    pub(crate) fn free(&self) -> Result<u32> {
        let mut used = 0_u32;
        self.used(&mut |_, _| {
            used += 1;
            Ok(())
        })?;
        Ok(self.layout.clusters - used)
    }
}

/// The entry that begins in the first of these bytes; with FAT12 it may begin in the middle of that byte.
fn entry(fat: FatType, bytes: [u8; 4], half: bool) -> u32 {
    let value = u32::from_le_bytes(bytes);
    match fat {
        FatType::Fat12 if half => value >> 4 & 0xfff,
        FatType::Fat12 => value & 0xfff,
        FatType::Fat16 => value & 0xffff,
        FatType::Fat32 => value & 0x0fff_ffff,
    }
}

/// A walk along a chain of clusters. It ends at a loop with an error, after at most three times the clusters
/// in it.
#[derive(Debug)]
pub(crate) struct Chain {
    /// The next cluster.
    next: Option<u32>,
    /// Brent's algorithm: a cluster that was passed, how many steps ago, and after how many steps another one
    /// is remembered.
    passed: u32,
    steps: u64,
    until: u64,
}

impl Chain {
    /// The chain that begins with `first`.
    pub(crate) const fn new(first: u32) -> Self {
        Self { next: Some(first), passed: 0, steps: 0, until: 1 }
    }

    /// The next cluster; `None` after the last.
    pub(crate) fn next(&mut self, table: &Table<'_>) -> Result<Option<u32>> {
        let Some(cluster) = self.next else { return Ok(None) };
        if table.layout.at(cluster).is_none() {
            return Err(damaged("a chain begins with a cluster that does not exist")
                .expected(format!("{FIRST} to {}", u64::from(table.layout.clusters) + 1))
                .found(cluster));
        }
        if cluster == self.passed {
            return Err(damaged("a chain of clusters is a loop").found(format!("cluster {cluster} again")));
        }
        self.steps += 1;
        if self.steps == self.until {
            (self.passed, self.steps, self.until) = (cluster, 0, self.until * 2);
        }
        self.next = match table.link(cluster)? {
            Link::End => None,
            Link::Next(next) => Some(next),
            other => {
                return Err(damaged("a chain of clusters does not end").found(format!(
                    "cluster {cluster} leads to {}",
                    match other {
                        Link::Bad => "a bad one".to_owned(),
                        Link::Wrong(number) => format!("{number}, which does not exist"),
                        _ => "a free one".to_owned(),
                    }
                )));
            }
        };
        Ok(Some(cluster))
    }
}
