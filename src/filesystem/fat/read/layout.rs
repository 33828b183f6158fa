//! The layout of a volume, by its boot sector.

use crate::filesystem::fat::FatType;
use crate::filesystem::fat::format::{BootSector16, BootSector32, Bpb, ExtendedBpb};
use crate::filesystem::fat::geometry::ENTRY;
use crate::wire::Wire;

/// Bytes of a boot sector, for every sector size.
pub(crate) const BOOT: usize = BootSector16::LENGTH;
/// The number of the first cluster; the two numbers below it are marks.
pub(crate) const FIRST: u32 = 2;
/// The largest number of clusters: as many as the widest entry can distinguish, without the numbers that have
/// another meaning (fatgen103).
const MOST_CLUSTERS: u64 = 0x0fff_fff5;

/// Where the root directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// At a fixed place: first byte and length.
    Fixed(u64, u64),
    /// In the chain that begins with this cluster.
    Chain(u32),
}

/// The parts of a volume, in bytes from its start.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) fat: FatType,
    pub(crate) bpb: Bpb,
    /// Bytes in a sector.
    pub(crate) sector: u64,
    /// Bytes in a cluster.
    pub(crate) cluster: u64,
    /// The number of clusters that have an entry in the table.
    pub(crate) clusters: u32,
    /// Where the first table begins, and the length of each.
    pub(crate) table: u64,
    pub(crate) table_length: u64,
    pub(crate) root: Root,
    /// Where the first cluster begins.
    pub(crate) data: u64,
    /// Bytes of the whole volume.
    pub(crate) length: u64,
    pub(crate) extended: ExtendedBpb,
    /// The fields that only FAT32 has.
    pub(crate) wide: Option<BootSector32>,
}

impl Layout {
    /// The layout of the volume with this boot sector; `None` if its numbers do not fit together (fatgen103).
    /// There is no other way to recognise FAT.
    pub(crate) fn new(boot: &[u8]) -> Option<Self> {
        let narrow = BootSector16::read(boot).ok()?;
        let bpb = narrow.bpb;
        let (sector, per_cluster) = (u64::from(bpb.bytes_per_sec), u64::from(bpb.sec_per_clus));
        let (reserved, fats) = (u64::from(bpb.rsvd_sec_cnt), u64::from(bpb.num_fats));
        let sound = sector.is_power_of_two()
            && (512..=4096).contains(&sector)
            && per_cluster.is_power_of_two()
            && reserved > 0
            // mkfs.fat makes up to four tables, and Linux reads any number of them.
            && (1..=4).contains(&fats)
            && bpb.media >= 0xf0;
        if !sound {
            return None;
        }
        // Linux and mtools decide by this field: only FAT32 has no 16-bit length.
        let wide = if bpb.fat_sz16 == 0 { Some(BootSector32::read(boot).ok()?) } else { None };
        let per_fat = wide.as_ref().map_or(u64::from(bpb.fat_sz16), |wide| u64::from(wide.fat_sz32));
        let sectors = if bpb.tot_sec16 == 0 { bpb.tot_sec32 } else { bpb.tot_sec16.into() };
        let root_length = u64::from(bpb.root_ent_cnt) * ENTRY;
        let before = reserved + fats * per_fat + root_length.div_ceil(sector);
        let data = u64::from(sectors).checked_sub(before).filter(|_| per_fat > 0)?;
        let clusters = data / per_cluster;
        if clusters > MOST_CLUSTERS {
            return None;
        }
        let fat = match clusters {
            _ if wide.is_some() => FatType::Fat32,
            // fatgen103, "FAT Type Determination".
            0..4085 => FatType::Fat12,
            _ => FatType::Fat16,
        };
        // As in Linux, clusters without an entry do not count (fs/fat/inode.c, fat_fill_super).
        let entries = (per_fat * sector * 8 / fat.bits()).saturating_sub(FIRST.into());
        let root = match &wide {
            Some(wide) => Root::Chain(wide.root_clus),
            None => Root::Fixed((reserved + fats * per_fat) * sector, root_length),
        };
        Some(Self {
            fat,
            sector,
            cluster: sector * per_cluster,
            clusters: u32::try_from(clusters.min(entries)).ok()?,
            table: reserved * sector,
            table_length: per_fat * sector,
            root,
            data: before * sector,
            length: u64::from(sectors) * sector,
            extended: wide.as_ref().map_or(narrow.extended, |wide| wide.extended.clone()),
            bpb,
            wide,
        })
    }

    /// Where a cluster begins; `None` for a number without a cluster.
    pub(crate) fn at(&self, cluster: u32) -> Option<u64> {
        let before = cluster.checked_sub(FIRST).filter(|before| *before < self.clusters)?;
        Some(self.data + u64::from(before) * self.cluster)
    }

    /// Bytes of the entries for all clusters and for the two marks.
    pub(crate) fn needed(&self) -> u64 {
        ((u64::from(self.clusters) + u64::from(FIRST)) * self.fat.bits()).div_ceil(8)
    }

    /// The number of the active table: in FAT32 the others may be out of date (fatgen103, BPB_ExtFlags).
    pub(crate) fn active(&self) -> u64 {
        match &self.wide {
            Some(wide) if wide.ext_flags & 0x80 != 0 => u64::from(wide.ext_flags & 0xf),
            _ => 0,
        }
    }
}
