//! FAT12, FAT16 and FAT32, laid out as `mkfs.fat` 4.2 does, filled in one pass.
//!
//! [`build`] is a pure function: the tree says what there is, [`Options`] what it is to be, and everything else
//! follows. Directories are small and are rendered at once; the FATs grow with the disk and are rendered when they are
//! read; files are references to the host's.
//!
//! ```text
//! names ─► contents (may FAT hold it? how many entries and clusters?) ─► size ─► geometry
//!                                                   chain, directory, format ◄──────┘
//! ```

mod chain;
mod contents;
mod directory;
mod format;
mod geometry;
mod names;
mod read;
mod refusal;
mod size;

use std::sync::Arc;

use chain::Chains;
use contents::{Contents, source};
use directory::Writer;
use format::{BACKUP, Date, FSINFO, Identity};
use geometry::{Geometry, Wish};
use size::{Demand, smallest};

use super::{Facts, Filesystem, Size};
use crate::error::{Error, Kind, Result, Warning};
use crate::image::{Builder, FilesId, Image, Slice};
use crate::text::printable;
use crate::tree::{Content, NodeId, Time, Tree};
use crate::units::{Bytes, Clusters, Sectors};

pub(crate) use format::STRUCTURES;
pub use geometry::FatType;
pub(crate) use read::{Fat, open};

/// What a volume is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its size. `Auto` is the smallest number of sectors whose volume, as `mkfs.fat` would make it, holds the contents
    /// and `free`; since a volume is whole tracks, up to one track (8, 16 or 31.5 KiB with sectors of 512 bytes) may
    /// stay free beyond that.
    pub size: Size,
    /// Room that stays free, in whole clusters; only `Auto` looks at it.
    pub free: Bytes,
    /// At most 11 bytes of ASCII; empty and `NO NAME` mean none.
    pub label: Option<String>,
    /// The volume's serial number, which `blkid` shows as `1234-ABCD`.
    pub volume_id: u32,
    /// The type; `None` chooses it by the size as `mkfs.fat` does: FAT32 from 512 MiB on, below the first of FAT12 and
    /// FAT16 that has the right number of clusters.
    pub fat: Option<FatType>,
    /// Bytes in a sector: 512 or 4096.
    pub sector_size: u64,
    /// Sectors in a cluster: 1, 2, 4, … 128; `None` chooses by the size.
    pub sectors_per_cluster: Option<u8>,
    /// Sectors before the volume on its disk: the partition's start. A start past 32 bits is recorded as 0.
    pub hidden_sectors: Sectors,
    /// The date of every entry, in UTC and steps of two seconds: from 1980 to 2107, what is outside becomes the first
    /// or the last.
    pub time: Time,
}

impl Default for Options {
    /// As small as possible, without label, volume id 0, sectors of 512 bytes, dated 1980-01-01.
    fn default() -> Self {
        Self {
            size: Size::Auto,
            free: Bytes::ZERO,
            label: None,
            volume_id: 0,
            fat: None,
            sector_size: 512,
            sectors_per_cluster: None,
            hidden_sectors: Sectors::ZERO,
            time: Time::default(),
        }
    }
}

/// Builds a FAT filesystem that holds `tree`.
///
/// Modes are not kept and that is not worth a word; owners, extended attributes, special mode bits and hard links are
/// not kept either, and a warning counts them.
///
/// # Errors
/// [`Kind::Capacity`] for a name or node that FAT cannot hold, two names that differ only in case, a file of 4 GiB or
/// more, a directory of more than 65,535 entries, and contents, type and size that do not go together;
/// [`Kind::Manifest`] for an impossible label, sector size or cluster size.
pub fn build(tree: &Arc<Tree>, options: &Options) -> Result<Filesystem> {
    let (label, remark) = label(options.label.as_deref().unwrap_or_default())?;
    let mut contents = Contents::survey(tree, label.is_some())?;
    let wish = wish(options, &contents)?;
    let (size, geometry) = fit(&contents, &wish, options)?;
    let chains = Chains::assign(&contents, &geometry)?;
    let free = free_clusters(&geometry, &chains)?;
    let mut warnings: Vec<Warning> = remark.into_iter().collect();
    warnings.append(&mut contents.warnings);
    warnings.extend(last_cluster(&contents, geometry.cluster()));
    let facts = Facts {
        kind: "vfat",
        label: label.map_or(String::new(), |label| printable(label.trim_ascii_end())),
        uuid: format!("{:04X}-{:04X}", options.volume_id >> 16, options.volume_id & 0xffff),
        block_size: geometry.cluster(),
        blocks: geometry.clusters.get(),
        free_blocks: free.get(),
        inodes: None,
        free_inodes: None,
    };
    let identity = Identity { label, volume_id: options.volume_id, hidden: options.hidden_sectors };
    let image = compose(tree, &contents, size, geometry, chains, identity, Date::new(options.time)?)?;
    Ok(Filesystem { image, facts, warnings })
}

/// The label as it stands on the disk, by the rules of `mkfs.fat -n`; `None` for none. Lower case is kept with a
/// warning, as there: it is the caller's to say what a volume is called, and MS-DOS's to fail on it.
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

/// A warning where a file reaches into the last cluster below 4 GiB. It is a good file, but `fsck.fat` up to 4.2 sums
/// the length of its chain in 32 bits, finds 0, and when told to repair cuts the file to nothing.
fn last_cluster(contents: &Contents<'_>, cluster: u64) -> Option<Warning> {
    let (id, _) =
        contents.files().find(|(_, length)| length.next_multiple_of(cluster) > u64::from(u32::MAX))?;
    Some(Warning(format!(
        "fsck.fat up to version 4.2 takes a file that ends less than a cluster ({cluster} bytes) below 4 GiB for \
         damaged and would empty it: {}",
        contents.tree.path(id)
    )))
}

/// What the options ask of the geometry.
fn wish(options: &Options, contents: &Contents<'_>) -> Result<Wish> {
    if !matches!(options.sector_size, 512 | 4096) {
        return Err(Error::new(Kind::Manifest, "FAT is not made with sectors of this size")
            .expected("512 or 4096 bytes")
            .found(options.sector_size));
    }
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

/// The size and layout of the volume, with room for the contents.
fn fit(contents: &Contents<'_>, wish: &Wish, options: &Options) -> Result<(Bytes, Geometry)> {
    match options.size {
        Size::Auto => smallest(&mut Demand::new(contents, options.free), wish)
            .map_err(|misfit| refusal::misfit(contents, wish, None, misfit)),
        Size::Fixed(size) => {
            let geometry = Geometry::new(size, wish)
                .map_err(|misfit| refusal::misfit(contents, wish, Some(size), misfit))?;
            let needed = Demand::new(contents, Bytes::ZERO).clusters(geometry.fat, geometry.cluster());
            if needed > geometry.clusters {
                return Err(refusal::full(contents, wish, size, &geometry, needed));
            }
            Ok((size, geometry))
        }
    }
}

/// How many clusters are free.
fn free_clusters(geometry: &Geometry, chains: &Chains) -> Result<Clusters> {
    let free = geometry.clusters.checked_sub(Clusters::new(chains.used()));
    free.ok_or_else(|| Error::bug("more clusters are used than there are"))
}

/// Puts everything in its place.
fn compose(
    tree: &Arc<Tree>,
    contents: &Contents<'_>,
    size: Bytes,
    geometry: Geometry,
    chains: Chains,
    identity: Identity,
    date: Date,
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
    let writer = Writer { contents, chains: &chains, label: identity.label, date };
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
        place(&mut builder, files, tree, id, length, geometry.at(chains.start(id))?);
    }
    let table = Arc::new(chains.into_table(&geometry));
    let length = table.length();
    let table = builder.renderer(table);
    for (copy, at) in (0..).zip([geometry.table(), geometry.table() + geometry.table_length()]) {
        builder.rendered(at, length, table, copy);
    }
    builder.finish()
}

/// Puts the data of a file at `at`; its holes stay holes, which read as the zeros they are.
fn place(builder: &mut Builder, files: FilesId, tree: &Tree, id: NodeId, length: u64, at: Bytes) {
    let source = source(tree, id);
    if let Content::Text { text } = tree.node(source).content {
        builder.bytes(at, format!("text {}", tree.path(id)), Arc::clone(tree.text(text)));
        return;
    }
    match tree.ranges(source) {
        None => builder.file(at, Bytes::new(length), files, source.get(), 0),
        Some(ranges) => {
            for range in ranges {
                let data = Bytes::new(range.length);
                builder.file(at + Bytes::new(range.start), data, files, source.get(), range.start);
            }
        }
    }
}
