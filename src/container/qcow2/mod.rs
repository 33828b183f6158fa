//! qcow2, versions 2 and 3: the format of QEMU (QEMU docs/interop/qcow2.txt).
//!
//! `wrap` is a pure function: header, tables, then the clusters that contain data in the order of the disk.
//! So runs of data stay runs, and are poured, or shared with the host, whole. The lengths of compressed
//! clusters are known only after compression; the module `compress` writes them.

pub(super) mod check;
mod compress;
mod format;
mod grow;
mod kept;
pub(super) mod read;
mod walk;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::UnknownWord;
use super::allocated::Allocated;
use super::codec::Codec;
use super::fit::Lengths;
use crate::error::{Error, Result};
use crate::image::{Builder, Image, Render, records};
use crate::units::{Bytes, index};
use format::{COPIED, Head, Level1, RefcountSizes, RefcountTable};

pub(super) use compress::compress;
pub use format::ClusterSize;
pub(crate) use format::STRUCTURES;
pub use grow::{check_growth, grow};

/// The options of a qcow2 file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Size of a cluster.
    pub cluster_size: ClusterSize,
    /// How clusters are compressed; `None` stores them uncompressed.
    pub codec: Option<Codec>,
    /// The version of the format.
    pub compat: Compat,
    /// The backing file, from which the missing clusters are read.
    pub backing: Option<Backing>,
}

/// The version of the format, by the release of QEMU that reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// Version 2, for QEMU 0.10 and newer: no zstd.
    V2,
    /// Version 3, for QEMU 1.1 and newer.
    #[default]
    V3,
}

impl Compat {
    /// Its names as QEMU has them, for the schema of manifests.
    pub const NAMES: [&'static str; 2] = ["0.10", "1.1"];
}

impl FromStr for Compat {
    type Err = UnknownWord;

    fn from_str(name: &str) -> Result<Self, UnknownWord> {
        match name {
            "0.10" | "v2" => Ok(Self::V2),
            "1.1" | "v3" => Ok(Self::V3),
            _ => Err(UnknownWord { what: "version of qcow2", known: "0.10 (version 2) and 1.1 (version 3)" }),
        }
    }
}

impl fmt::Display for Compat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2 => "0.10",
            Self::V3 => "1.1",
        })
    }
}

/// A backing file as an overlay names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Path as it is recorded, relative to the overlay, or a URI; at most 1023 bytes.
    pub path: String,
    /// Whether that is the URI of a server, such as `nbd+unix:///?socket=…`, and no path.
    pub is_uri: bool,
    /// Its format, as QEMU calls it: `raw`, `qcow2`, …
    pub format: &'static str,
}

/// QEMU counts disks in sectors of this many bytes.
const SECTOR: u64 = 512;
/// The lengths of disks.
pub(super) const LENGTHS: Lengths = Lengths { step: SECTOR, least: 0 };

/// The places of the parts of a plain file.
#[derive(Debug)]
struct Layout {
    cluster_size: ClusterSize,
    /// Clusters of the disk that contain data.
    data: Allocated,
    /// Level 2 tables that are not all zero, as the units of the disk that they cover.
    tables: Allocated,
    l1: Level1,
    /// The first level 2 table.
    l2: u64,
    refcounts: RefcountTable,
    /// The first refcount block, and the number of blocks.
    refcount_blocks: u64,
    blocks: u64,
    data_start: u64,
    /// Clusters of the file.
    clusters: u64,
}

impl Layout {
    fn new(image: &Image, cluster_size: ClusterSize) -> Result<Self> {
        let cluster = cluster_size.bytes();
        let size = LENGTHS.round_up(image.length()).get();
        let data = Allocated::of(image, cluster);
        let tables = Allocated::of(image, cluster_size.covered());
        let entries = cluster_size.l1_entries(size)?;
        let l1_clusters = (entries * 8).div_ceil(cluster).max(1);
        let before = 1 + l1_clusters + tables.total();
        let RefcountSizes { table, blocks } = RefcountSizes::new(cluster_size, before + data.total())?;
        let refcount_blocks = (before + table) * cluster;
        let data_start = refcount_blocks + blocks * cluster;
        Ok(Self {
            cluster_size,
            l1: Level1 { offset: cluster, entries },
            l2: (1 + l1_clusters) * cluster,
            refcounts: RefcountTable { offset: before * cluster, clusters: table },
            refcount_blocks,
            blocks,
            data_start,
            clusters: data_start / cluster + data.total(),
            data,
            tables,
        })
    }

    /// Entry `number` of the level 1 table.
    fn l1_entry(&self, number: u64) -> u64 {
        match self.tables.ordinal(number) {
            Some(ordinal) => COPIED | (self.l2 + ordinal * self.cluster_size.bytes()),
            None => 0,
        }
    }

    /// Entry `number` of the level 2 tables that exist, counted through all of them.
    fn l2_entry(&self, number: u64) -> Result<u64> {
        let entries = self.cluster_size.entries();
        let table = self.tables.number(number / entries);
        let table = table.ok_or_else(|| Error::bug("an L2 table covers no part of the disk"))?;
        let cluster = self.data.ordinal(table * entries + number % entries);
        Ok(cluster.map_or(0, |ordinal| COPIED | (self.data_start + ordinal * self.cluster_size.bytes())))
    }

    /// Entry `number` of the refcount table.
    fn refcount_entry(&self, number: u64) -> u64 {
        if number < self.blocks { self.refcount_blocks + number * self.cluster_size.bytes() } else { 0 }
    }
}

/// Which table a part of the renderer is.
const PART_L1: u32 = 0;
const PART_L2: u32 = 1;
const PART_REFCOUNT_TABLE: u32 = 2;
const PART_REFCOUNTS: u32 = 3;

impl Render for Layout {
    fn render(&self, part: u32, skip: u64, out: &mut [u8]) -> Result<()> {
        if part == PART_REFCOUNTS {
            // Each cluster of the file has one use.
            return records(2, skip, out, |number| Ok(u16::from(number < self.clusters).to_be_bytes()));
        }
        records(8, skip, out, |number| {
            let entry = match part {
                PART_L1 => self.l1_entry(number),
                PART_L2 => self.l2_entry(number)?,
                PART_REFCOUNT_TABLE => self.refcount_entry(number),
                _ => return Err(Error::bug("qcow2 has no such table")),
            };
            Ok(entry.to_be_bytes())
        })
    }

    fn label(&self, part: u32) -> String {
        let names = ["L1 table", "L2 tables", "refcount table", "refcount blocks"];
        format!("qcow2: {}", names.get(index(part)).copied().unwrap_or_default())
    }
}

/// The file that holds `image`, its size rounded up to whole sectors of 512 bytes.
///
/// # Errors
/// [`Kind::Capacity`](crate::error::Kind::Capacity) where the disk or the file is too large for the cluster size,
/// [`Kind::Usage`](crate::error::Kind::Usage) for a name of a backing file that qcow2 cannot record.
pub(super) fn wrap(image: &Image, options: &Options) -> Result<Image> {
    let layout = Layout::new(image, options.cluster_size)?;
    let cluster = options.cluster_size.bytes();
    let head = Head {
        cluster_size: options.cluster_size,
        size: LENGTHS.round_up(image.length()).get(),
        l1: layout.l1,
        refcounts: layout.refcounts,
        codec: None,
        compat: options.compat,
        backing: options.backing.as_ref(),
    };
    let mut file = Builder::new(Bytes::new(layout.clusters * cluster));
    file.bytes(Bytes::ZERO, "qcow2: header", head.bytes()?);
    layout.data.place(image, &mut file, Bytes::new(layout.data_start), cluster);
    let parts = [
        (PART_L1, layout.l1.offset, layout.l1.entries * 8),
        (PART_L2, layout.l2, layout.tables.total() * cluster),
        (PART_REFCOUNT_TABLE, layout.refcounts.offset, layout.blocks * 8),
        (PART_REFCOUNTS, layout.refcount_blocks, layout.blocks * cluster),
    ];
    let renderer = file.renderer(Arc::new(layout));
    for (part, offset, length) in parts {
        file.rendered(Bytes::new(offset), Bytes::new(length), renderer, part);
    }
    file.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// A lookup of a missing table is an error, and never returns entries of another table.
    #[test]
    fn a_lookup_that_fails_is_a_bug() {
        let mut builder = Builder::new(Bytes::new(1 << 30));
        builder.bytes(Bytes::new(600 << 20), "part", vec![7; 512]);
        let mut layout = Layout::new(&builder.finish().unwrap(), ClusterSize::default()).unwrap();
        let mut out = [0; 16];
        // 600 MiB lie in the second half of a gibibyte: one table, and cluster 1408 of it.
        layout.render(PART_L2, 8 * 1408, &mut out).unwrap();
        assert_ne!(out[..8], [0; 8]);
        assert_eq!(layout.render(PART_L2, 65_536, &mut out).unwrap_err().kind(), Kind::Bug);
        assert_eq!(layout.render(4, 0, &mut out).unwrap_err().kind(), Kind::Bug);
        layout.tables = Allocated::every(layout.cluster_size.covered(), 0);
        assert_eq!(layout.render(PART_L2, 0, &mut out).unwrap_err().kind(), Kind::Bug);
    }
}
