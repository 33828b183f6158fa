//! FAT12, FAT16 and FAT32, laid out as by `mkfs.fat` 4.2, and filled in one pass.
//!
//! [`build`] is a pure function of the tree and the [`Options`]. Directories are small and are rendered at
//! once. The FATs grow with the disk and are rendered when they are read. Files are references to host files.
//!
//! ```text
//! names ─► contents (may FAT hold it? how many entries and clusters?) ─► size ─► geometry
//!                                                   chain, directory, format ◄──────┘
//! ```

mod chain;
mod contents;
mod dates;
mod directory;
mod format;
mod geometry;
mod names;
mod read;
mod refusal;
mod size;

use std::sync::Arc;

use chain::Chains;
use contents::Contents;
use dates::Dates;
use directory::Writer;
use format::{BACKUP, FSINFO, Identity};
use geometry::{Geometry, Wish};
use size::{Demand, smallest};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Facts, Filesystem, Placement, Size};
use crate::error::{Error, Kind, Result, Warning};
use crate::identity;
use crate::image::{Builder, Image, Slice};
use crate::text::printable;
use crate::tree::{NodeId, Time, Tree};
use crate::units::{Bytes, Clusters, MIB, Sectors};
use crate::values::{FatBits, VolumeId};

pub(crate) use format::STRUCTURES;
pub use geometry::FatType;
pub(crate) use read::{Fat, open};

/// The options of a FAT filesystem: keys of a manifest, flags of `mkfs vfat`, and what a caller of the library sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Vfat")]
pub struct Options {
    /// Volume label, at most 11 bytes of ASCII; default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "LABEL"))]
    pub label: Option<String>,
    /// Volume id such as 1234-ABCD, which Linux shows as the UUID; default derived from the seed.
    #[serde(rename = "uuid", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long = "uuid", value_name = "ID"))]
    pub volume_id: Option<VolumeId>,
    /// With a size of auto, the space that stays free, in whole clusters; default 0, and on an EFI system partition or
    /// XBOOTLDR as much as the files take, so that an update of all of them fits beside them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "SIZE"))]
    pub free: Option<Bytes>,
    /// Width of the entries of the FAT: 12, 16, 32 or auto (by size, as mkfs.fat chooses); default auto, and on an EFI
    /// system partition or XBOOTLDR 32 wherever the size allows 65,525 clusters (UEFI specification, 13.3).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "BITS"))]
    pub fat: Option<FatBits>,
    /// Bytes in a cluster: 1, 2, 4, … 128 sectors; default by size, as mkfs.fat chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "cli",
        arg(id = "fat_cluster_size", long = "fat-cluster-size", value_name = "SIZE")
    )]
    pub cluster_size: Option<Bytes>,
    /// Times of modification: disk (default), the time of the disk for all files, or source, those of the contents, which
    /// become the nearest that FAT has: in UTC, even seconds from 1980 to 2107.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "cli", arg(long, value_name = "WHOSE"))]
    pub times: Option<Times>,
}

/// Whose times the entries have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Times {
    /// That of the disk, so that no time of the host is in the volume.
    #[default]
    Disk,
    /// Those of the contents.
    Source,
}

/// The parameters of a volume, with every default filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parameters {
    /// Its size. `Auto` is the smallest number of sectors for which `mkfs.fat` would make a volume that holds
    /// the contents and `free`. A volume is whole tracks, so up to one track more (8, 16 or 31.5 KiB with
    /// sectors of 512 bytes) may stay free.
    size: Size,
    /// Space that stays free, in whole clusters; only `Auto` uses it.
    free: Option<Bytes>,
    /// At most 11 bytes of ASCII; empty and `NO NAME` mean none.
    label: Option<String>,
    /// The volume's serial number, which `blkid` shows as `1234-ABCD`.
    volume_id: u32,
    /// The type. `None` chooses it by the size, as `mkfs.fat` does: FAT32 from 512 MiB on; below that FAT12
    /// or FAT16, whichever first has a valid number of clusters.
    fat: Option<FatType>,
    /// Whether firmware or a boot loader reads it and no type is given.
    system: bool,
    /// Bytes in a sector: 512, 1024, 2048 or 4096.
    sector_size: u64,
    /// Sectors in a cluster: 1, 2, 4, … 128; `None` chooses by the size.
    sectors_per_cluster: Option<u8>,
    /// Sectors before the volume on its disk: the partition's start. A start that does not fit in 32 bits is
    /// recorded as 0.
    hidden_sectors: Sectors,
    /// When every entry was made, and with [`Times::Disk`] last written.
    time: Time,
    times: Times,
}

impl Parameters {
    fn new(options: &Options, at: &Placement) -> Result<Self> {
        if !matches!(at.sector_size, 512 | 1024 | 2048 | 4096) {
            return Err(Error::new(Kind::Manifest, "FAT is not made with sectors of this size")
                .expected("512, 1024, 2048 or 4096 bytes")
                .found(at.sector_size));
        }
        let sectors_per_cluster = match options.cluster_size {
            None => None,
            // FAT allows at most 128 sectors, which fit in a byte. The cluster must be a whole number of
            // sectors.
            Some(cluster) => match u8::try_from(cluster.get() / at.sector_size) {
                Ok(sectors) if sectors > 0 && cluster.is_multiple_of(at.sector_size) => Some(sectors),
                _ => {
                    return Err(Error::new(Kind::Manifest, "FAT has no clusters of this size")
                        .about("cluster_size")
                        .expected(format!("1, 2, 4, … 128 sectors of {} bytes", at.sector_size))
                        .found(cluster));
                }
            },
        };
        Ok(Self {
            size: at.size,
            free: options.free,
            label: options.label.clone().filter(|label| !label.is_empty()),
            volume_id: options.volume_id.map_or_else(|| identity::fat_volume_id(at.id), |id| id.0),
            fat: match options.fat {
                Some(FatBits::Fixed(fat)) => Some(fat),
                Some(FatBits::Auto) | None => None,
            },
            system: at.system && options.fat.is_none(),
            sector_size: at.sector_size,
            sectors_per_cluster,
            hidden_sectors: Sectors::new(at.offset.get() / at.sector_size),
            time: at.time,
            times: options.times.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
impl Default for Parameters {
    /// As small as possible, without a label, with volume id 0, sectors of 512 bytes and the date 1980-01-01.
    fn default() -> Self {
        Self {
            size: Size::Auto,
            free: None,
            label: None,
            volume_id: 0,
            fat: None,
            system: false,
            sector_size: 512,
            sectors_per_cluster: None,
            hidden_sectors: Sectors::ZERO,
            time: Time::default(),
            times: Times::Disk,
        }
    }
}

/// Builds a FAT filesystem that holds `tree`.
///
/// Permissions are not kept, without a warning. Owners, extended attributes, special mode bits and hard links
/// are not kept either, and a warning counts them.
///
/// # Errors
/// [`Kind::Capacity`] for a name or node that FAT cannot hold, two names that differ only in case, a file of
/// 4 GiB or more, a directory of more than 65,535 entries, and contents, type and size that do not fit
/// together; [`Kind::Manifest`] for an impossible label, sector size or cluster size.
pub fn build(tree: &Arc<Tree>, options: &Options, at: &Placement) -> Result<Filesystem> {
    let options = &Parameters::new(options, at)?;
    let (label, remark) = label(options.label.as_deref().unwrap_or_default())?;
    let mut contents = Contents::survey(tree, label.is_some())?;
    let wish = wish(options, &contents)?;
    let (size, geometry, small) = fit(&contents, &wish, options)?;
    let chains = Chains::assign(&contents, &geometry)?;
    let free = free_clusters(&geometry, &chains)?;
    let mut warnings: Vec<Warning> = remark.into_iter().chain(small).collect();
    warnings.append(&mut contents.warnings);
    warnings.extend(last_cluster(&contents, geometry.cluster()));
    let facts = Facts {
        kind: "vfat",
        label: label.map_or(String::new(), |label| printable(label.trim_ascii_end())),
        uuid: VolumeId(options.volume_id).to_string(),
        block_size: geometry.cluster(),
        blocks: geometry.clusters.get(),
        free_blocks: free.get(),
        journal: 0,
        inodes: None,
        free_inodes: None,
    };
    let identity = Identity { label, volume_id: options.volume_id, hidden: options.hidden_sectors };
    let dates = Dates::new(options.times, options.time)?;
    warnings.extend(dates.moved(tree));
    let image = compose(tree, &contents, size, geometry, chains, identity, dates)?;
    Ok(Filesystem { image, facts, warnings, others: Vec::new() })
}

/// The label as it is on the disk, by the rules of `mkfs.fat -n`; `None` for none. Lower case is kept with a
/// warning, as there: MS-DOS cannot handle it, but the caller may want it.
fn label(text: &str) -> Result<(Option<[u8; 11]>, Option<Warning>)> {
    let trimmed = text.trim_end_matches(' ');
    if trimmed.is_empty() || trimmed == "NO NAME" {
        return Ok((None, None));
    }
    let rule = if !trimmed.is_ascii() {
        "bytes outside ASCII stand for other letters in every code page"
    } else if trimmed.len() > 11 {
        "the label is a field of 11 bytes"
    } else if trimmed.starts_with(' ') {
        "a label must not start with a space"
    } else if trimmed.bytes().any(|byte| byte.is_ascii_control()) {
        "a label must not hold control characters"
    } else if trimmed.contains(|c| "*?.,;:/\\|+=<>[]\"".contains(c)) {
        "a label must not hold any of * ? . , ; : / \\ | + = < > [ ] \""
    } else {
        let mut bytes = [b' '; 11];
        bytes[..trimmed.len()].copy_from_slice(trimmed.as_bytes());
        let remark = trimmed.bytes().any(|byte| byte.is_ascii_lowercase()).then(|| {
            Warning(format!(
                "the FAT label `{trimmed}` has lower-case letters, which some systems do not read"
            ))
        });
        return Ok((Some(bytes), remark));
    };
    Err(Error::new(Kind::Manifest, format!("FAT forbids the label `{}`", printable(text.as_bytes())))
        .about("label")
        .expected("at most 11 letters, digits and spaces of ASCII")
        .why(rule))
}

/// A warning for a file that ends in the last cluster below 4 GiB. The file is valid. But `fsck.fat` up to
/// 4.2 sums the length of its chain in 32 bits and gets 0; a repair would cut the file to nothing.
fn last_cluster(contents: &Contents<'_>, cluster: u64) -> Option<Warning> {
    let (id, _) =
        contents.files().find(|(_, length)| length.next_multiple_of(cluster) > u64::from(u32::MAX))?;
    Some(Warning(format!(
        "fsck.fat up to version 4.2 takes a file that ends less than a cluster ({cluster} bytes) below 4 GiB for \
         damaged and would empty it: {}",
        contents.tree.path(id)
    )))
}

/// The requirements of the geometry that follow from the options.
fn wish(options: &Parameters, contents: &Contents<'_>) -> Result<Wish> {
    if let Some(sectors) = options.sectors_per_cluster
        && !sectors.is_power_of_two()
    {
        return Err(Error::new(Kind::Manifest, "a FAT cluster cannot have that many sectors")
            .about("cluster_size")
            .expected("a power of two up to 128")
            .found(sectors));
    }
    Ok(Wish {
        sector_size: options.sector_size,
        fat: options.fat,
        sectors_per_cluster: options.sectors_per_cluster.map(u64::from),
        root_entries: contents.root.entries,
    })
}

/// The size and layout of a volume with space for the contents. Firmware only has to read FAT32 from an EFI
/// system partition (UEFI specification, 13.3), so FAT32 is tried first. If the size is too small for it,
/// there is a warning.
fn fit(
    contents: &Contents<'_>,
    wish: &Wish,
    options: &Parameters,
) -> Result<(Bytes, Geometry, Option<Warning>)> {
    if options.system {
        let fat32 = Wish { fat: Some(FatType::Fat32), ..*wish };
        if let Ok((size, geometry)) = fit_as(contents, &fat32, options) {
            return Ok((size, geometry, None));
        }
    }
    let (size, geometry) = fit_as(contents, wish, options)?;
    let warning = (options.system && geometry.fat != FatType::Fat32).then(|| {
        Warning(format!(
            "it is {} and too small for FAT32, and some firmware reads nothing else from a system partition: {}",
            geometry.fat,
            least_wanted(options)
        ))
    });
    Ok((size, geometry, warning))
}

/// What FAT32 takes, with the clusters that were asked for, and with the smallest.
fn least_wanted(options: &Parameters) -> String {
    let least = least_fat32(options.sector_size).human();
    match options.sectors_per_cluster.filter(|sectors| *sectors > 1) {
        None => format!("FAT32 takes {least} or more"),
        Some(sectors) => {
            let cluster = u64::from(sectors) * options.sector_size;
            format!(
                "with clusters of {} FAT32 takes {} or more, with the smallest {least}",
                Bytes::new(cluster),
                least_fat32(cluster).human()
            )
        }
    }
}

/// A lower bound for the size of a FAT32 volume, in whole MiB: its fewest clusters, and two FATs with 4 bytes
/// for each. The smallest cluster is one sector.
pub(crate) fn least_fat32(cluster_size: u64) -> Bytes {
    Bytes::new(FatType::Fat32.fewest().get() * (cluster_size + 8)).round_up(MIB)
}

/// The size and layout of a volume of the type in `wish`.
fn fit_as(contents: &Contents<'_>, wish: &Wish, options: &Parameters) -> Result<(Bytes, Geometry)> {
    match options.size {
        Size::Auto => {
            let files = || contents.files().map(|(_, length)| Bytes::new(length)).sum();
            let usual = if options.system { files() } else { Bytes::ZERO };
            smallest(&mut Demand::new(contents, options.free.unwrap_or(usual)), wish)
                .map_err(|misfit| refusal::misfit(contents, wish, None, misfit))
        }
        Size::Fixed(size) => {
            let geometry = Geometry::new(size, wish)
                .map_err(|misfit| refusal::misfit(contents, wish, Some(size), misfit))?;
            let needed = Demand::new(contents, Bytes::ZERO).clusters(geometry.fat, geometry.cluster());
            if needed > geometry.clusters {
                return Err(refusal::full(contents, wish, &geometry, needed));
            }
            Ok((size, geometry))
        }
    }
}

/// The number of free clusters.
fn free_clusters(geometry: &Geometry, chains: &Chains) -> Result<Clusters> {
    let free = geometry.clusters.checked_sub(Clusters::new(chains.used()));
    free.ok_or_else(|| Error::bug("more clusters are used than there are"))
}

/// Puts everything into its place.
fn compose(
    tree: &Arc<Tree>,
    contents: &Contents<'_>,
    size: Bytes,
    geometry: Geometry,
    chains: Chains,
    identity: Identity,
    dates: Dates,
) -> Result<Image> {
    let mut builder = Builder::new(size);
    let sector = |number: u64| Sectors::new(number).bytes(geometry.sector_size);
    let boot = Slice::ready("boot sector", format::boot_sector(&geometry, &identity)?);
    builder.put(Bytes::ZERO, &boot);
    if geometry.fat == FatType::Fat32 {
        let free = free_clusters(&geometry, &chains)?;
        let next = (free > Clusters::ZERO).then(|| chains.next());
        let info = Slice::ready("FSInfo", format::fsinfo(free, next)?);
        builder.put(sector(FSINFO), &info);
        builder.put(sector(BACKUP), &boot);
        builder.put(sector(BACKUP + FSINFO), &info);
    }
    let writer = Writer { contents, chains: &chains, label: identity.label, dates };
    for directory in &contents.directories {
        let at = if directory.id == NodeId::ROOT {
            geometry.root()
        } else {
            geometry.at(chains.start(directory.id))?
        };
        builder.bytes(at, format!("directory {}", tree.path(directory.id)), writer.entries(directory.id)?);
    }
    let files = builder.files(tree.clone());
    for (id, length) in contents.files().filter(|(_, length)| *length > 0) {
        let at = geometry.at(chains.start(id))?;
        tree.data(id, files)?.put(&mut builder, at, Bytes::new(length), 0)?;
    }
    let table = Arc::new(chains.into_table(&geometry));
    let length = table.length();
    let table = builder.renderer(table);
    for (copy, at) in (0..).zip([geometry.table(), geometry.table() + geometry.table_length()]) {
        builder.rendered(at, length, table, copy);
    }
    builder.finish()
}
