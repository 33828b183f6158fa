//! The layout of a volume: its type, the size of its clusters, the length of its tables. The results equal
//! those of `mkfs.fat` 4.2 on a plain file, field for field, so that an image made here has the layout of the
//! one that it replaces.
//!
//! A volume is, in sectors:
//!
//! ```text
//! reserved | FAT | FAT | root directory (FAT12 and FAT16) | clusters, numbered from 2 | rest
//! ```
//!
//! `mkfs.fat` rounds the reserved sectors, each FAT and the root directory up to whole clusters, except in
//! volumes of 8192 sectors or less. So clusters are aligned like the partition.

use crate::error::Error;
use crate::units::{Bytes, Clusters, MIB, Sectors};

/// The width of the entries of the file allocation table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FatType {
    /// 12 bits: floppy disks, and volumes of a few MiB.
    Fat12,
    /// 16 bits: what `mkfs.fat` makes below 512 MiB.
    Fat16,
    /// 28 of 32 bits. The root directory is an ordinary chain of clusters.
    Fat32,
}

impl FatType {
    /// The type with this number: 12, 16 or 32.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match bits {
            12 => Some(Self::Fat12),
            16 => Some(Self::Fat16),
            32 => Some(Self::Fat32),
            _ => None,
        }
    }

    /// Bits of an entry in the table: 12, 16 or 32.
    #[must_use]
    pub const fn bits(self) -> u64 {
        match self {
            Self::Fat12 => 12,
            Self::Fat16 => 16,
            Self::Fat32 => 32,
        }
    }

    /// The smallest number of clusters of this type. Readers tell FAT12 from FAT16 by the number of clusters
    /// alone. fatgen103 ("FAT Type Determination") draws the line at 4085, but Windows' own driver at 4087,
    /// so 4085 and 4086 clusters are avoided (`mkfs.fat.c`, `MIN_CLUST_16`).
    #[must_use]
    pub const fn fewest(self) -> Clusters {
        Clusters::new(match self {
            Self::Fat12 => 1,
            Self::Fat16 => 4087,
            Self::Fat32 => 65_525,
        })
    }

    /// The largest number of clusters of this type (fatgen103, "FAT Type Determination"; in FAT32 the numbers
    /// from 0x0ffffff7 on are marks).
    #[must_use]
    pub const fn most(self) -> Clusters {
        Clusters::new(match self {
            Self::Fat12 => 4084,
            Self::Fat16 => 65_524,
            Self::Fat32 => 268_435_446,
        })
    }
}

impl std::fmt::Display for FatType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FAT{}", self.bits())
    }
}

/// Copies of the table: two, as all tools make.
pub(super) const FATS: u64 = 2;
/// Bytes of a directory entry.
pub(super) const ENTRY: u64 = 32;
/// Largest fixed root directory that we make, in entries; the limit of `mkfs.fat -r`.
pub(super) const LARGEST_ROOT: u64 = 32_768;
/// Sectors of the largest volume: the count is a 32-bit field.
const MOST_SECTORS: u64 = 0xffff_ffff;
/// Largest number of sectors in a cluster: a power of two in one byte.
const LARGEST_CLUSTER: u64 = 128;
/// From this size on `mkfs.fat` chooses FAT32.
pub(super) const FAT32_FROM: Bytes = Bytes::new(512 * MIB);
/// Volumes of up to this many sectors are packed without alignment (`mkfs.fat`: "floppy size").
const UNALIGNED: u64 = 8192;
/// Sectors up to which FAT32 has this number of sectors per cluster. In sectors of 512 bytes the limits are
/// 260 MiB, 8, 16 and 32 GiB (fatgen103, `DskTableFAT32`). `mkfs.fat` compares the number of sectors for
/// every sector size, so with sectors of 4096 bytes the limits are 8 times as high. We do the same.
pub(super) const FAT32_CLUSTERS: [(u64, u64); 4] =
    [(532_480, 1), (16_777_216, 8), (33_554_432, 16), (67_108_864, 32)];
/// Sectors per cluster of FAT32 volumes above the last limit.
const FAT32_LARGEST: u64 = 64;

/// The requirements of a volume, without its size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// Bytes in a sector: 512, 1024, 2048 or 4096.
    pub(super) sector_size: u64,
    /// The type, unless the size decides it.
    pub(super) fat: Option<FatType>,
    /// Sectors in a cluster, unless the size decides them.
    pub(super) sectors_per_cluster: Option<u64>,
    /// Entries the root directory must hold.
    pub(super) root_entries: u64,
}

/// Why there is no volume of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// There is no space for the tables and 32 KiB of clusters.
    TooSmall,
    /// The number of sectors does not fit its field.
    TooLarge,
    /// The type, or the cluster size, leads to a number of clusters that the type cannot have.
    Clusters { fat: FatType, sectors_per_cluster: u64, clusters: Clusters },
    /// The root directory of FAT12 and FAT16 has a fixed size, which is too small.
    Root,
}

/// The place of everything in a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) fat: FatType,
    /// Bytes in a sector.
    pub(super) sector_size: u64,
    /// Sectors of the volume: whole tracks.
    pub(super) sectors: Sectors,
    /// Sectors in a cluster: 1 to 128, a power of two.
    pub(super) sectors_per_cluster: u64,
    /// Sectors before the first FAT, including the boot sector.
    pub(super) reserved: Sectors,
    /// Sectors of one FAT.
    pub(super) fat_length: Sectors,
    /// Entries of the fixed root directory; 0 for FAT32.
    pub(super) root_entries: u64,
    /// Clusters for directories and files.
    pub(super) clusters: Clusters,
    /// Media descriptor: 0xf8, or that of a floppy disk.
    pub(super) media: u8,
    pub(super) sectors_per_track: u16,
    pub(super) heads: u16,
}

/// The part of a geometry that follows from the number of sectors, the type and the cluster size.
#[derive(Clone, Copy, Debug)]
struct Layout {
    reserved: u64,
    root_sectors: u64,
    fat_length: u64,
    clusters: Clusters,
}

/// What `mkfs.fat` derives about the medium from its size.
#[derive(Clone, Copy, Debug)]
struct Medium {
    sectors_per_track: u16,
    heads: u16,
    media: u8,
    /// The first cluster size that is tried for FAT12 and FAT16.
    sectors_per_cluster: u64,
    root_entries: u64,
}

impl Medium {
    fn new(size: Bytes, sector_size: u64) -> Self {
        let total = size.get() / sector_size;
        let (heads, sectors_per_track) = cylinders(total);
        let disk = Self { sectors_per_track, heads, media: 0xf8, sectors_per_cluster: 4, root_entries: 512 };
        let floppy = |sectors_per_track, media, sectors_per_cluster, root_entries| Self {
            sectors_per_track,
            heads: 2,
            media,
            sectors_per_cluster,
            root_entries,
        };
        // The formats of floppy disks, recognised by their size in KiB, as `mkfs.fat` does for image files.
        match size.get() / 1024 {
            360 => floppy(9, 0xfd, 2, 112),
            720 => floppy(9, 0xf9, 2, 112),
            1200 => floppy(15, 0xf9, 1, 224),
            1440 => floppy(18, 0xf0, 1, 224),
            2880 => floppy(36, 0xf0, 2, 224),
            _ => disk,
        }
    }
}

/// Heads and sectors per track of a disk of `total` sectors. Up to 524,288 sectors (256 MiB) they follow the
/// SD card specification (part 2), above that the LBA-assisted translation of a BIOS (`mkfs.fat.c`,
/// `establish_params`). No current system reads them, but mtools refuses a volume that is not whole tracks.
const fn cylinders(total: u64) -> (u16, u16) {
    const CYLINDER: u64 = 63 * 1024;
    match total {
        0..=4096 => (2, 16),
        4097..=32_768 => (2, 32),
        32_769..=65_536 => (4, 32),
        65_537..=262_144 => (8, 32),
        262_145..=524_288 => (16, 32),
        _ if total <= 16 * CYLINDER => (16, 63),
        _ if total <= 32 * CYLINDER => (32, 63),
        _ if total <= 64 * CYLINDER => (64, 63),
        _ if total <= 128 * CYLINDER => (128, 63),
        _ => (255, 63),
    }
}

impl Geometry {
    /// The volume that `mkfs.fat` makes in a file of `size` bytes.
    pub(super) fn new(size: Bytes, wish: &Wish) -> Result<Self, Misfit> {
        let medium = Medium::new(size, wish.sector_size);
        let track = u64::from(medium.sectors_per_track);
        let total = size.get() / wish.sector_size;
        // Whole tracks. The rest after the last one is less than a track, or the size is refused.
        let sectors = total.min(MOST_SECTORS) / track * track;
        if total - sectors >= track {
            return Err(Misfit::TooLarge);
        }
        let fat = match wish.fat {
            None if size >= FAT32_FROM => Some(FatType::Fat32),
            fat => fat,
        };
        if fat != Some(FatType::Fat32) && wish.root_entries > LARGEST_ROOT {
            return Err(Misfit::Root);
        }
        let (sectors_per_cluster, fat, layout) = choose(sectors, total, fat, wish, &medium)?;
        let geometry = Self {
            fat,
            sector_size: wish.sector_size,
            sectors: Sectors::new(sectors),
            sectors_per_cluster,
            reserved: Sectors::new(layout.reserved),
            fat_length: Sectors::new(layout.fat_length),
            root_entries: match fat {
                FatType::Fat32 => 0,
                // Whole sectors, which Linux requires ("bogus number of directory entries"). For the formats
                // of floppy disks with sectors of 4096 bytes, `mkfs.fat` records fewer entries than the
                // reserved sectors hold.
                _ => layout.root_sectors * wish.sector_size / ENTRY,
            },
            clusters: layout.clusters,
            media: medium.media,
            sectors_per_track: medium.sectors_per_track,
            heads: medium.heads,
        };
        // "Too few blocks for viable filesystem": `mkfs.fat` requires 32 KiB after the tables, counted in
        // KiB.
        let kib = 1024;
        if size.get() / kib < geometry.data().div_ceil(kib) + 32 {
            return Err(Misfit::TooSmall);
        }
        Ok(geometry)
    }

    /// Where the first FAT begins.
    pub(super) fn table(&self) -> Bytes {
        self.reserved.bytes(self.sector_size)
    }

    /// Bytes of one FAT.
    pub(super) fn table_length(&self) -> Bytes {
        self.fat_length.bytes(self.sector_size)
    }

    /// Where the fixed root directory begins; in FAT32, where cluster 2 begins.
    pub(super) fn root(&self) -> Bytes {
        self.table() + self.table_length() + self.table_length()
    }

    /// Where cluster 2 begins.
    pub(super) fn data(&self) -> Bytes {
        self.root() + Bytes::new(self.root_entries * ENTRY).round_up(self.sector_size)
    }

    /// Bytes in a cluster.
    pub(super) const fn cluster(&self) -> u64 {
        self.sectors_per_cluster * self.sector_size
    }

    /// Where a cluster begins; clusters count from 2.
    ///
    /// # Errors
    /// [`Kind::Bug`](crate::error::Kind::Bug) for a number that is not a cluster: something without clusters
    /// was asked for its place.
    pub(super) fn at(&self, cluster: u32) -> Result<Bytes, Error> {
        let before = Clusters::new(cluster.into()).checked_sub(Clusters::new(2));
        let before = before.filter(|before| *before < self.clusters);
        let before = before.ok_or_else(|| Error::bug(format!("there is no cluster {cluster}")))?;
        Ok(self.data() + before.bytes(self.cluster()))
    }
}

/// The first cluster size that gives the volume a valid number of clusters for its type (without a type, for
/// FAT12 or FAT16). Sizes begin where `mkfs.fat` begins, and double.
fn choose(
    sectors: u64,
    total: u64,
    fat: Option<FatType>,
    wish: &Wish,
    medium: &Medium,
) -> Result<(u64, FatType, Layout), Misfit> {
    let first = match (wish.sectors_per_cluster, fat) {
        (Some(forced), _) => forced,
        (None, Some(FatType::Fat32)) => FAT32_CLUSTERS
            .iter()
            .find(|(limit, _)| total <= *limit)
            .map_or(FAT32_LARGEST, |(_, sectors_per_cluster)| *sectors_per_cluster),
        (None, _) => medium.sectors_per_cluster,
    };
    let last = wish.sectors_per_cluster.unwrap_or(LARGEST_CLUSTER);
    let mut misfit = Misfit::TooSmall;
    let mut sectors_per_cluster = first;
    while sectors_per_cluster <= last {
        let candidates: &[FatType] = match &fat {
            Some(fat) => std::slice::from_ref(fat),
            None => &[FatType::Fat12, FatType::Fat16],
        };
        for fat in candidates {
            let Some(layout) = lay_out(sectors, *fat, sectors_per_cluster, wish, medium) else { continue };
            // `mkfs.fat -F 32` accepts fewer clusters with a warning. Only readers that look at the length of
            // the FAT take such a volume for FAT32: mtools cannot read it, and `fsck.fat` warns.
            if layout.clusters <= fat.most() && layout.clusters >= fat.fewest() {
                return Ok((sectors_per_cluster, *fat, layout));
            }
            // Larger clusters are fewer. Once there are too few, the reason is known.
            let few = matches!(misfit, Misfit::Clusters { fat, clusters, .. } if clusters < fat.fewest());
            if layout.clusters > Clusters::ZERO && !few {
                misfit = Misfit::Clusters { fat: *fat, sectors_per_cluster, clusters: layout.clusters };
            }
        }
        sectors_per_cluster *= 2;
    }
    Err(misfit)
}

/// The lengths of the parts for one type and cluster size; `None` if the tables alone are longer than the
/// volume.
///
/// **FAT length.** Let D be the sectors for FATs and clusters together, s the bytes of a sector, k the sectors of a
/// cluster and w the bytes of an entry (1.5, 2 or 4). With c clusters each of the two FATs holds c + 2 entries, the
/// first two being marks, so
///
/// ```text
/// D·s = c·k·s + 2·(c + 2)·w      hence      c = (D·s - 4·w) / (k·s + 2·w)
/// ```
///
/// `mkfs.fat` adds 4·w where the formula subtracts it. So the count is never too small, and the FAT is never
/// too short for the clusters. It can be one sector longer than needed; we do the same to get the same
/// layout. The FAT is rounded up to whole sectors, then to whole clusters, and the rest of D becomes the
/// clusters.
fn lay_out(
    sectors: u64,
    fat: FatType,
    sectors_per_cluster: u64,
    wish: &Wish,
    medium: &Medium,
) -> Option<Layout> {
    let size = wish.sector_size;
    let align = if sectors <= UNALIGNED { 1 } else { sectors_per_cluster };
    let (reserved, entries) = match fat {
        FatType::Fat32 => (32_u64, 0),
        _ => (1, medium.root_entries.max(wish.root_entries)),
    };
    let reserved = reserved.next_multiple_of(align);
    let root_sectors = (entries * ENTRY).div_ceil(size).next_multiple_of(align);
    let data = sectors.checked_sub(reserved)?.checked_sub(root_sectors)?;
    // Numerator and denominator are doubled, so that 2·w is whole: bits / 4 bytes.
    let twice = FATS * fat.bits() / 4;
    let estimate = 2 * (data * size + twice) / (2 * sectors_per_cluster * size + twice);
    let fat_length = ((estimate + 2) * fat.bits()).div_ceil(8 * size).next_multiple_of(align);
    let clusters = Clusters::new(data.checked_sub(FATS * fat_length)? / sectors_per_cluster);
    Some(Layout { reserved, root_sectors, fat_length, clusters })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_no_cluster_is_a_bug() {
        let wish = Wish { sector_size: 512, fat: None, sectors_per_cluster: None, root_entries: 0 };
        let geometry = Geometry::new(Bytes::new(4 * MIB), &wish).unwrap();
        let last = u32::try_from(geometry.clusters.get()).unwrap() + 1;
        assert_eq!(geometry.at(2).unwrap(), geometry.data());
        assert!(geometry.at(last).is_ok());
        for cluster in [0, 1, last + 1, u32::MAX] {
            let error = geometry.at(cluster).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Bug);
            assert_eq!(error.what(), format!("there is no cluster {cluster}"));
        }
    }
}
