//! qcow2, version 3: QEMU's own format (QEMU docs/interop/qcow2.txt).
//!
//! `wrap` is a pure function: header, tables, then the clusters that hold something in the order of the disk, so that
//! runs of data stay runs and are poured, or shared with the host, as they are. Compressed clusters have lengths that
//! are known only when they are read; the module `compress` writes those.

mod compress;
mod format;
mod grow;
pub(super) mod read;

use std::sync::Arc;

use super::allocated::Allocated;
use super::codec::Codec;
use super::entries::each_entry;
use super::fit::Lengths;
use crate::error::Result;
use crate::image::{Builder, Image, Render};
use crate::units::{Bytes, index};
use format::{COPIED, Header, refcount_sizes};

pub(super) use compress::compress;
pub use format::{Backing, ClusterSize};
pub use grow::grow;

/// What a qcow2 file is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Bytes of a cluster.
    pub cluster_size: ClusterSize,
    /// How clusters are compressed; `None` stores them as they are.
    pub codec: Option<Codec>,
    /// The file that what is not stored is read from.
    pub backing: Option<Backing>,
}

/// QEMU counts disks in sectors of this many bytes.
const SECTOR: u64 = 512;
/// The lengths of disks.
pub(super) const LENGTHS: Lengths = Lengths { step: SECTOR, least: 0 };

/// Where the parts of a plain file stand.
#[derive(Debug)]
struct Layout {
    cluster_size: ClusterSize,
    /// Clusters of the disk that hold something.
    data: Allocated,
    /// Level 2 tables that are not all zero, as units of the disk they cover.
    tables: Allocated,
    l1: (u64, u64),
    l2: u64,
    refcount_table: (u64, u64),
    refcount_blocks: (u64, u64),
    data_start: u64,
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
        let (table, blocks) = refcount_sizes(cluster_size, before + data.total())?;
        let l2 = (1 + l1_clusters) * cluster;
        let refcount_table = (before * cluster, table);
        let refcount_blocks = (refcount_table.0 + table, blocks);
        let data_start = refcount_blocks.0 + blocks * cluster;
        let clusters = data_start / cluster + data.total();
        Ok(Self {
            cluster_size,
            data,
            tables,
            l1: (cluster, entries),
            l2,
            refcount_table,
            refcount_blocks,
            data_start,
            clusters,
        })
    }

    /// Entry `number` of the level 1 table.
    fn l1_entry(&self, number: u64) -> u64 {
        match self.tables.ordinal(number) {
            Some(ordinal) => COPIED | (self.l2 + ordinal * self.cluster_size.bytes()),
            None => 0,
        }
    }

    /// The level 2 entry of cluster `number` of the disk.
    fn l2_entry(&self, number: u64) -> u64 {
        match self.data.ordinal(number) {
            Some(ordinal) => COPIED | (self.data_start + ordinal * self.cluster_size.bytes()),
            None => 0,
        }
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
            // Each cluster of the file is used once.
            each_entry(skip, out, |number| u16::from(number < self.clusters).to_be_bytes());
            return Ok(());
        }
        each_entry(skip, out, |number| {
            let entry = match part {
                PART_L1 => self.l1_entry(number),
                PART_L2 => {
                    let entries = self.cluster_size.entries();
                    let table = self.tables.number(number / entries).unwrap_or(0);
                    self.l2_entry(table * entries + number % entries)
                }
                _ if number < self.refcount_blocks.1 => {
                    self.refcount_blocks.0 + number * self.cluster_size.bytes()
                }
                _ => 0,
            };
            entry.to_be_bytes()
        });
        Ok(())
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
/// [`Kind::Usage`](crate::error::Kind::Usage) for a backing file's name that qcow2 does not have.
pub(super) fn wrap(image: &Image, options: &Options) -> Result<Image> {
    let cluster_size = options.cluster_size;
    let layout = Layout::new(image, cluster_size)?;
    let cluster = cluster_size.bytes();
    let header = Header {
        cluster_size,
        size: LENGTHS.round_up(image.length()).get(),
        l1: layout.l1,
        refcount_table: layout.refcount_table,
        compression: 0,
        backing: options.backing.as_ref(),
    };
    let mut file = Builder::new(Bytes::new(layout.clusters * cluster));
    file.bytes(Bytes::ZERO, "qcow2: header", header.bytes()?);
    layout.data.place(image, &mut file, Bytes::new(layout.data_start), cluster);
    let (l1, l2, tables) = (layout.l1, layout.l2, layout.tables.total());
    let (refcount_table, refcount_blocks) = (layout.refcount_table.0, layout.refcount_blocks);
    let renderer = file.renderer(Arc::new(layout));
    file.rendered(Bytes::new(l1.0), Bytes::new(l1.1 * 8), renderer, PART_L1);
    file.rendered(Bytes::new(l2), Bytes::new(tables * cluster), renderer, PART_L2);
    let blocks = refcount_blocks.1;
    file.rendered(Bytes::new(refcount_table), Bytes::new(blocks * 8), renderer, PART_REFCOUNT_TABLE);
    file.rendered(Bytes::new(refcount_blocks.0), Bytes::new(blocks * cluster), renderer, PART_REFCOUNTS);
    file.finish()
}
