//! What a manifest means: defaults, and what does not fit together, decided in one place.
//!
//! Nothing here looks at a disk or a host file. What depends on contents, such as sizes and the places of partitions, is
//! decided by whoever builds.

mod entry;
mod filesystem;

use std::path::PathBuf;

use uuid::Uuid;

use super::Manifest;
use super::locate::KeyPath;
use super::schema;
use super::values::{DiskId, DiskSize, PartitionSize};
use crate::container::Format;
use crate::error::{Error, Result};
use crate::table::{Architecture, Attribute, Scheme, Type};
use crate::tree::Time;
use crate::units::Bytes;

pub use entry::{Entry, What};
pub use filesystem::{Ext4, Filesystem, Swap, Vfat};

/// A disk, with every default filled in that does not depend on contents.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its table.
    pub table: Scheme,
    /// Its size.
    pub size: DiskSize,
    /// Bytes in a logical sector: 512 or 4096.
    pub sector_size: u32,
    /// First usable sector of a GPT, where it was given.
    pub first_lba: Option<u64>,
    /// What ids derive from, where it was given.
    pub seed: Option<Uuid>,
    /// GUID or signature, where it was given; of the kind that belongs to the table.
    pub guid: Option<DiskId>,
    /// Numbers of the partitions in a hybrid MBR; empty for none.
    pub hybrid: Vec<u32>,
    /// Format of the output, where it was given.
    pub format: Option<Format>,
    /// What dates what.
    pub dates: Dates,
    /// The partitions in the order of the manifest.
    pub partitions: Vec<Partition>,
}

/// What dates what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dates {
    /// The time of whatever the writer dates itself.
    pub time: Time,
    /// Times of files above this become this; `None` leaves them.
    pub latest: Option<Time>,
}

/// A partition.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Where it stands in the manifest.
    pub path: KeyPath,
    /// What it is for.
    pub kind: Type,
    /// Its name in a GPT; empty for none.
    pub label: String,
    /// Its GUID, where it was given.
    pub guid: Option<Uuid>,
    /// Its slot, where it was given.
    pub number: Option<u32>,
    /// Where it begins, where that was given.
    pub start: Option<Bytes>,
    /// How large it is.
    pub size: PartitionSize,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
    /// Whether it is a logical partition of an MBR.
    pub logical: bool,
    /// What it holds.
    pub body: Body,
}

/// What a partition holds.
#[derive(Clone, Debug)]
pub enum Body {
    /// Nothing.
    Empty,
    /// The bytes of a file.
    Image(PathBuf),
    /// A filesystem, and what that holds.
    Filesystem(Filesystem, Vec<Entry>),
}

/// Makes sense of `manifest`. `epoch` is the value of SOURCE_DATE_EPOCH, where it is set: the time where the manifest
/// gives none, and the reason to clamp the times of files.
///
/// # Errors
/// [`Kind::Manifest`](crate::error::Kind::Manifest) with the line for what does not fit together.
pub fn resolve(manifest: &Manifest, epoch: Option<i64>) -> Result<Disk> {
    let written = &manifest.written;
    let disk = &written.disk;
    let top = KeyPath::top("disk");
    let table = disk.table.unwrap_or_default();
    let time = Time::seconds(disk.time.or(epoch).unwrap_or(0));
    let dates = Dates { time, latest: epoch.map(|_| time) };
    if written.version != 1 {
        return Err(manifest
            .refuse(&KeyPath::top("version"), "the manifest is of a version that is not known here")
            .expected("version = 1")
            .found(written.version));
    }
    for (key, there, tables) in [
        ("guid", disk.guid.is_some(), [Scheme::Gpt, Scheme::Mbr].as_slice()),
        ("hybrid", disk.hybrid.is_some(), &[Scheme::Gpt]),
        ("first_lba", disk.first_lba.is_some(), &[Scheme::Gpt]),
        ("sector_size", disk.sector_size.is_some_and(|size| size != 512), &[Scheme::Gpt, Scheme::None]),
    ] {
        if there && !tables.contains(&table) {
            return Err(foreign(manifest, &top, key, table));
        }
    }
    let architecture = match &disk.architecture {
        Some(name) => Some(
            name.parse::<Architecture>().map_err(|error| manifest.place(error, &top.key("architecture")))?,
        ),
        None => None,
    };
    let reading = Reading { manifest, table, size: disk.size.unwrap_or_default(), dates, architecture };
    let partitions: Vec<_> = written
        .partition
        .iter()
        .enumerate()
        .map(|(number, partition)| reading.partition(partition, &KeyPath::top("partition").index(number)))
        .collect::<Result<_>>()?;
    Ok(Disk {
        table,
        size: reading.size,
        sector_size: reading.sector_size()?,
        first_lba: disk.first_lba,
        seed: disk.seed.map(|seed| seed.0),
        guid: reading.disk_id()?,
        hybrid: disk.hybrid.clone().unwrap_or_default(),
        format: disk.format,
        dates,
        partitions,
    })
}

/// The error for a key that the table has no place for.
fn foreign(manifest: &Manifest, path: &KeyPath, key: &'static str, table: Scheme) -> Error {
    manifest
        .refuse(&path.key(key), format!("`{key}` means nothing with table = \"{table}\""))
        .hint("leave it out")
}

/// A manifest that is being made sense of.
struct Reading<'a> {
    manifest: &'a Manifest,
    table: Scheme,
    size: DiskSize,
    dates: Dates,
    architecture: Option<Architecture>,
}

impl Reading<'_> {
    fn sector_size(&self) -> Result<u32> {
        match self.manifest.written.disk.sector_size {
            None => Ok(512),
            Some(size @ (512 | 4096)) => Ok(size),
            Some(size) => Err(self
                .manifest
                .refuse(&KeyPath::top("disk").key("sector_size"), "no disk has sectors of this size")
                .expected("512 or 4096")
                .found(size)),
        }
    }

    /// The id of the disk, of the kind that its table holds.
    fn disk_id(&self) -> Result<Option<DiskId>> {
        let expected = match (self.manifest.written.disk.guid, self.table) {
            (Some(DiskId::Signature(_)), Scheme::Gpt) => "a UUID, for a GPT",
            (Some(DiskId::Guid(_)), Scheme::Mbr) => "8 hex digits such as 0x2178694e, for an MBR",
            (id, _) => return Ok(id),
        };
        let path = KeyPath::top("disk").key("guid");
        Err(self.manifest.refuse(&path, "the disk's id is of the wrong kind").expected(expected))
    }

    fn partition(&self, written: &schema::Partition, path: &KeyPath) -> Result<Partition> {
        for (key, there, tables) in [
            ("type", written.kind.is_some(), [Scheme::Gpt, Scheme::Mbr].as_slice()),
            ("label", written.label.is_some(), &[Scheme::Gpt]),
            ("guid", written.guid.is_some(), &[Scheme::Gpt]),
            ("number", written.number.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
            ("start", written.start.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
            ("attributes", written.attributes.is_some(), &[Scheme::Gpt, Scheme::Mbr]),
            ("logical", written.logical.is_some(), &[Scheme::Mbr]),
        ] {
            if there && !tables.contains(&self.table) {
                return Err(foreign(self.manifest, path, key, self.table));
            }
        }
        let body = self.body(written, path)?;
        Ok(Partition {
            path: path.clone(),
            kind: self.kind(written, &body, path)?,
            label: written.label.clone().unwrap_or_default(),
            guid: written.guid.map(|guid| guid.0),
            number: written.number,
            start: written.start,
            size: self.partition_size(written, &body, path)?,
            attributes: self.attributes(written, path)?,
            logical: written.logical.unwrap_or(false),
            body,
        })
    }

    /// The type of a partition; one that is not given follows from what it holds.
    fn kind(&self, written: &schema::Partition, body: &Body, path: &KeyPath) -> Result<Type> {
        let usual = match body {
            Body::Filesystem(Filesystem::Swap(_), _) => "swap",
            _ => "linux",
        };
        let name = written.kind.as_deref().unwrap_or(usual);
        Type::parse(name, self.architecture).map_err(|error| self.manifest.place(error, &path.key("type")))
    }

    fn attributes(&self, written: &schema::Partition, path: &KeyPath) -> Result<Vec<Attribute>> {
        let path = path.key("attributes");
        let attributes = written.attributes.as_deref().unwrap_or_default().iter().enumerate();
        attributes
            .map(|(number, text)| {
                text.0.parse().map_err(|error| self.manifest.place(error, &path.index(number)))
            })
            .collect()
    }

    fn body(&self, written: &schema::Partition, path: &KeyPath) -> Result<Body> {
        let refuse = |key: &'static str, what: &str| self.manifest.refuse(&path.key(key), what);
        if let Some(image) = &written.image {
            if written.filesystem.is_some() || written.contents.is_some() {
                let error = refuse("image", "the partition holds a ready image and something else");
                return Err(error.expected("either image, or filesystem and contents"));
            }
            if image.is_empty() || image.contains('\0') {
                return Err(refuse("image", "`image` is not a path"));
            }
            return Ok(Body::Image(self.manifest.path(image)));
        }
        let Some(filesystem) = &written.filesystem else {
            return match written.contents {
                Some(_) => Err(refuse("contents", "there are contents, but no filesystem to hold them")
                    .hint("add filesystem = { type = \"ext4\" } or another")),
                None => Ok(Body::Empty),
            };
        };
        let size = written.size.unwrap_or(PartitionSize::Auto);
        let resolved = filesystem::filesystem(self.manifest, filesystem, &path.key("filesystem"), size)?;
        let contents = written.contents.as_deref().unwrap_or_default();
        if matches!(resolved, Filesystem::Swap(_)) && written.contents.is_some() {
            return Err(refuse("contents", "swap holds no files"));
        }
        let path = path.key("contents");
        let entries = contents
            .iter()
            .enumerate()
            .map(|(number, written)| {
                entry::entry(self.manifest, written, &path.index(number), self.dates, filesystem.kind)
            })
            .collect::<Result<_>>()?;
        Ok(Body::Filesystem(resolved, entries))
    }

    /// The size of a partition; only contents give one by themselves.
    fn partition_size(
        &self,
        written: &schema::Partition,
        body: &Body,
        path: &KeyPath,
    ) -> Result<PartitionSize> {
        let size = match (written.size, self.table, self.size) {
            (Some(size), ..) => size,
            (None, Scheme::None, DiskSize::Fixed(_)) => PartitionSize::Fill,
            (None, ..) => PartitionSize::Auto,
        };
        let what = match body {
            Body::Empty => "an empty partition",
            Body::Filesystem(Filesystem::Swap(_), _) => "swap",
            _ => "",
        };
        let path = path.key("size");
        match size {
            PartitionSize::Auto if !what.is_empty() => Err(self
                .manifest
                .refuse(&path, format!("{what} has no size of its own"))
                .expected("a size or fill")),
            PartitionSize::Fixed(Bytes::ZERO) => {
                Err(self.manifest.refuse(&path, "the partition has no bytes"))
            }
            size => Ok(size),
        }
    }
}
